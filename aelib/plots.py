"""The book's figures: arrays in, Axes out. Nothing here computes a result, and nothing here shows one."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

from aelib import checks

#: One colour for one thing all through the book: Okabe and Ito's palette, safe for colour-blind readers.
COLORS = {
    "train": "#0072B2",
    "validation": "#D55E00",
    "autoencoder": "#0072B2",
    "pca": "#E69F00",
    "recipe": "#CC79A7",
    "floor": "#555555",
    "other": "#009E73",
}

#: The same, as the chapters spell it.
COLOURS = COLORS

STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#444444",
    "axes.grid": True,
    "axes.labelsize": 11,
    "axes.prop_cycle": mpl.cycler(color=["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "figure.constrained_layout.use": True,
    "figure.dpi": 120,
    "figure.figsize": (6.4, 3.6),
    "figure.facecolor": "white",
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "grid.color": "#E3E3E3",
    "image.cmap": "gray",
    "image.interpolation": "nearest",
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "savefig.dpi": 120,
    "savefig.facecolor": "white",
}


def use_style() -> None:
    """Set the book's style for every figure that follows."""
    mpl.rcParams.update(STYLE)


def image_rows(
    rows: Mapping[str, Any],
    *,
    columns: int = 8,
    vmin: float | None = 0.0,
    vmax: float | None = 1.0,
    cmap: str | None = None,
) -> np.ndarray:
    """Draw rows of images under each other, so that a column compares one image's versions.

    Parameters
    ----------
    rows : dict of str to ndarray (n, H, W, 1 or 3)
        What to write beside each row, and its images; the first `columns` are drawn.
    columns : int
        Eight at most stay legible on a phone.
    vmin, vmax : float
        The values drawn black and white.
    cmap : str, optional
        Colour map for images of one channel.

    Returns
    -------
    ndarray of Axes (rows, columns)
    """
    columns = checks.whole_number("columns", columns)
    if not rows or not all(len(images) for images in rows.values()):
        raise ValueError(f"rows must hold images under every name, got {list(rows)}")
    columns = min(columns, *(len(images) for images in rows.values()))
    figure, axes = plt.subplots(
        len(rows), columns, figsize=(6.4, 0.85 * len(rows)), squeeze=False, layout="constrained"
    )
    # Room on the left for the labels: constrained layout does not see text outside switched-off axes.
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, hspace=0.02, wspace=0.02)
    for (label, images), line in zip(rows.items(), axes, strict=True):
        for image, ax in zip(images, line, strict=False):
            ax.imshow(image, vmin=vmin, vmax=vmax, cmap=cmap)
            ax.set(xticks=[], yticks=[])
            ax.grid(False)
            ax.spines[:].set_visible(False)
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
    return axes


def image_grid(
    images: Any,
    *,
    columns: int = 8,
    vmin: float | None = None,
    vmax: float | None = None,
    cmap: str | None = None,
    titles: Sequence[str] = (),
) -> np.ndarray:
    """Draw images (n, H, W, 1 or 3) in reading order, with their titles if any; return Axes (r, c)."""
    columns = checks.whole_number("columns", columns)
    if not len(images):
        raise ValueError(f"images must be (n >= 1, H, W, 1 or 3), got shape {np.shape(images)}")
    count = -(-len(images) // columns)
    height = count * (6.4 / columns + 0.22 * (len(titles) > 0))
    figure, axes = plt.subplots(count, columns, figsize=(6.4, height), squeeze=False, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, hspace=0.02, wspace=0.02)
    for i, ax in enumerate(axes.flat):
        ax.set_axis_off()
        if i < len(images):
            ax.imshow(images[i], vmin=vmin, vmax=vmax, cmap=cmap)
        if i < len(titles):
            ax.set_title(titles[i], fontsize=8, loc="center")
    return axes


def learning_curves(
    curves: Mapping[str, Any],
    *,
    scale: float = 1.0,
    ylabel: str = "loss",
    floor: float | None = None,
    ax: plt.Axes | None = None,
) -> plt.Axes:
    """Draw one line for each series of figures over the epochs.

    Parameters
    ----------
    curves : dict of str to sequence of float
        What a line is, and its figure after every epoch. A name that starts with a key of `COLORS`
        takes that colour; any other, and a second line of a colour, takes the first that is free.
    scale : float
        Multiplies every figure; ``1 / 784`` turns a sum over an image into a mean per pixel.
    ylabel : str
    floor : float, optional
        The least value that can be reached, drawn as a dashed line; not scaled.
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    ax = ax or plt.subplots()[1]
    names = [name.split()[0].strip(",:").lower() for name in curves]
    free = [c for c in STYLE["axes.prop_cycle"].by_key()["color"] if c not in map(COLORS.get, names)]
    taken = set()
    for name, (label, values) in zip(names, curves.items(), strict=True):
        color = COLORS.get(name)
        if color in taken | {None}:
            color = free.pop(0) if free else None
        taken.add(color)
        ax.plot(np.arange(1, len(values) + 1), scale * np.asarray(values), label=label, color=color)
    if floor is not None:
        ax.axhline(floor, color=COLORS["floor"], ls="--", lw=1.2, label="floor")
    ax.set(xlabel="epoch", ylabel=ylabel)
    ax.legend()
    return ax
