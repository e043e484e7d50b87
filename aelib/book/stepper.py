"""In-page figures that go through an operation step by step, each step a set of grids of numbers."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.figure
import numpy as np
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike
from PIL import Image
from scipy import sparse

from aelib.book.interactive import Figure, position, short
from aelib.plots import COLORS


@dataclass(frozen=True)
class Grid:
    """A named grid of numbers.

    Attributes
    ----------
    name : str
    values : array-like (r, c)
        Numbers or text; NaN is an empty cell.
    window, result : array-like (r, c) of bool, optional
        The cells that a step reads (blue), and those that it computes (framed in vermilion).
    """

    name: str
    values: object
    window: object = None
    result: object = None

    def packed(self) -> list[Any]:
        """Return [name, rows of texts, rows of marks]: "w" for window, "r" for result."""
        values = np.asarray(self.values)
        marks = np.full(values.shape, ".")
        for letter, mask in (("w", self.window), ("r", self.result)):
            if mask is not None and np.shape(mask) != values.shape:  # type: ignore[call-overload]
                raise ValueError(
                    f"a mask of {self.name!r} must have shape {values.shape}, got {np.shape(mask)}"  # type: ignore[call-overload]
                )
            if mask is not None:
                marks[np.asarray(mask, bool)] = letter
        if values.ndim != 2 or not values.size:
            raise ValueError(f"the grid {self.name!r} must have rows and columns, got shape {values.shape}")
        return [self.name, [[short(v) for v in row] for row in values.tolist()], ["".join(r) for r in marks]]


@dataclass(frozen=True)
class Step:
    """One step: a line of text, and the grids that it speaks of."""

    text: str
    grids: tuple

    def packed(self) -> dict[str, Any]:
        """Return the step as the script takes it."""
        return {"text": self.text, "grids": [grid.packed() for grid in self.grids]}


def stepper(steps: Sequence[Step], label: str = "step", *, alt: str, start: int = 0) -> Figure:
    """Build a figure that goes through an operation step by step, each a set of grids of numbers.

    Parameters
    ----------
    steps : sequence of Step
    label : str
        What is stepped through.
    alt : str
        What the figure shows, in words.
    start : int
        The step shown first, and the one of the static picture.

    Returns
    -------
    Figure
    """
    packed = [step.packed() for step in steps]
    start = position(start, len(packed))
    data = {"label": label, "steps": packed, "start": start}
    caption = f"{label.capitalize()} {start + 1} of {len(packed)}: {packed[start]['text']}"
    picture, width = _drawn(packed[start]["grids"])
    return Figure("stepper", data, picture, alt, caption, width)


def _drawn(grids, across=20):
    """Draw packed grids in lines of `across` cells where they fit; return the PNG and its width in rem."""
    corners, left, top, foot, right = [], 0, 0, 0, 0
    for _, values, _ in grids:
        if left and left + len(values[0]) > across:
            left, top = 0, foot
        corners.append((left, top))
        left, foot = left + len(values[0]) + 1, max(foot, top + len(values) + 1.5)
        right = max(right, left)
    figure = matplotlib.figure.Figure((0.3 * right, 0.3 * foot), dpi=100, facecolor="white", layout="none")
    ax = figure.add_axes((0, 0, 1, 1), xlim=(-0.5, right - 0.5), ylim=(foot - 1.25, -1.25))
    ax.set_axis_off()
    fills = {"w": COLORS["autoencoder"] + "40", "r": COLORS["validation"] + "40", ".": "none"}
    for (name, values, marks), (left, top) in zip(grids, corners, strict=True):
        ax.text(left, top - 0.3, name, fontsize=8, family="DejaVu Sans")
        for (r, c), text in np.ndenumerate(np.array(values, object)):
            mark, at = marks[r][c], (left + c, top + r)
            weight = "normal" if mark == "." else "bold"
            ax.add_patch(Rectangle(at, 1, 1, facecolor=fills[mark], edgecolor="#666666", linewidth=0.6))
            ax.text(at[0] + 0.5, at[1] + 0.5, text, size=7, weight=weight, ha="center", va="center_baseline")
    file, small = io.BytesIO(), io.BytesIO()
    figure.savefig(file, format="png")
    Image.open(file).convert("RGB").quantize(32).save(small, "PNG", optimize=True)
    return small.getvalue(), 0.3 * right * 100 / 16


def product_steps(
    matrix: Any,
    vector: ArrayLike,
    *,
    input_shape: tuple[int, int],
    output_shape: tuple[int, int],
    names: tuple[str, str, str] = ("input", "matrix", "output"),
    extra: Sequence[Grid] = (),
) -> list[Step]:
    """Go through a matrix-vector product row by row, its vectors drawn as pictures.

    With a matrix of `aelib.convmatrix`, or its transpose, the marked cells of the input are those that the
    kernel meets.

    Parameters
    ----------
    matrix : sparse or ndarray (m, n)
        Stored entries count as terms, even those of 0.
    vector : array-like of n numbers
    input_shape, output_shape : (int, int)
        How to draw the n and the m numbers.
    names : tuple of str
        Of the input's, the matrix's and the output's grid.
    extra : sequence of Grid
        Drawn after the input in every step, such as the kernel.

    Returns
    -------
    list of Step
    """
    matrix, vector = sparse.csr_array(matrix, copy=True), np.ravel(vector)
    if matrix.shape != (np.prod(output_shape), np.prod(input_shape)) or vector.size != matrix.shape[1]:
        raise ValueError(
            f"a matrix {matrix.shape} takes {matrix.shape[1]} numbers to {matrix.shape[0]}, got "
            f"{vector.size} numbers, input_shape {tuple(input_shape)} and output_shape {tuple(output_shape)}"
        )
    matrix.sort_indices()
    whole, products, steps = matrix.toarray(), matrix @ vector, []
    for r in range(matrix.shape[0]):
        entries = slice(*matrix.indptr[r : r + 2])
        reads, now = np.zeros(vector.size, bool), np.arange(matrix.shape[0]) == r
        reads[matrix.indices[entries]] = True
        done = np.where(np.arange(len(now)) <= r, products, np.nan)
        pairs = zip(matrix.data[entries], vector[matrix.indices[entries]], strict=True)
        terms = " + ".join("·".join(f"({short(v)})" if v < 0 else short(v) for v in pair) for pair in pairs)
        steps.append(
            Step(
                f"{names[2]} {r + 1} = {terms or 'nothing'} = {short(products[r])}",
                (
                    Grid(names[0], vector.reshape(input_shape), window=reads.reshape(input_shape)),
                    *extra,
                    Grid(names[1], whole, window=now[:, None] & reads),
                    Grid(names[2], done.reshape(output_shape), result=now.reshape(output_shape)),
                ),
            )
        )
    return steps
