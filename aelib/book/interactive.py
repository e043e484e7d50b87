"""In-page figures that need no kernel: precomputed arrays in, one piece of HTML out.

The HTML holds a static picture with its caption, and the data. On the book's pages its script,
`book/_static/interactive.js`, puts the controls in the picture's place; in print, without scripts and in
Jupyter, the picture stays.
"""

import base64
import html
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from aelib import checks

#: Levels of grey that are kept: the eye hardly tells them from 256, and the file is a third smaller.
GREYS = 64


@dataclass(frozen=True)
class Figure:
    """An in-page figure, which a notebook stores as HTML.

    Attributes
    ----------
    kind : str
        The function of interactive.js that draws it.
    data : dict
        What that function is given, as JSON.
    picture : bytes
        The static picture, a PNG; for a slider and an explorer it is the sheet of all pictures.
    alt, caption : str
        Of the static picture.
    width : float
        The greatest width of the picture, in rem.
    """

    kind: str
    data: dict
    picture: bytes
    alt: str
    caption: str
    width: float

    def __post_init__(self) -> None:
        if not isinstance(self.alt, str) or not self.alt.strip():
            raise ValueError(f"alt must say in words what the picture shows, got {self.alt!r}")

    def __repr__(self) -> str:
        return f"<{self.kind}: {self.alt}>"

    def _repr_html_(self) -> str:
        data = json.dumps(self.data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        # Between single quotes, for JSON is full of double ones, and each would cost six characters.
        data = "'" + html.escape(data, quote=False).replace("'", "&#39;") + "'"
        pixels = "" if self.kind == "stepper" else ";image-rendering:pixelated"
        return (
            f'<figure class="ae-interactive" data-kind="{self.kind}" data-figure={data}>'
            f'<img class="ae-static" alt="{html.escape(self.alt)}" '
            f'style="width:100%;max-width:{self.width:g}rem{pixels}" '
            f'src="data:image/png;base64,{base64.b64encode(self.picture).decode()}">'
            f'<figcaption class="ae-static">{html.escape(self.caption)}</figcaption></figure>'
        )


def short(value: float | str | None) -> str:
    """Write a number in three figures with a true minus sign; text stays as it is, NaN and None are blank."""
    if isinstance(value, str):
        return value
    return "" if value is None or np.isnan(value) else f"{value:.3g}".replace("-", "−")


def position(start: int, count: int) -> int:
    """Return a position, which may count from the end, as one from the beginning."""
    start = checks.whole_number("start", start, least=-count)
    if start >= count:
        raise ValueError(f"start must be a position among {count}, got {start}")
    return start % count


def _sheet(images: ArrayLike) -> bytes:
    """Lay out (r, c, H, W[, 1 or 3]) as one PNG, a clear pixel at each picture's right and foot."""
    images = np.asarray(images)
    if images.ndim not in (4, 5) or (images.ndim == 5 and images.shape[4] not in (1, 3)) or not images.size:
        raise ValueError(f"pictures must end in (H, W), (H, W, 1) or (H, W, 3), got shape {images.shape}")
    if images.dtype != np.uint8:
        if not (np.issubdtype(images.dtype, np.floating) and images.min() >= 0 and images.max() <= 1):
            raise ValueError(
                f"pictures must be uint8, or floats in [0, 1]; got {images.dtype} "
                f"from {images.min():.6g} to {images.max():.6g}"
            )
        images = np.round(255 * images).astype(np.uint8)
    images = images.reshape(*images.shape[:4], -1)
    r, c, h, w, channels = images.shape

    def join(tiles):
        tiles = np.pad(tiles, [(0, 0), (0, 0), (0, 1), (0, 1), (0, 0)])
        return tiles.transpose(0, 2, 1, 3, 4).reshape(r * (h + 1), c * (w + 1), -1)

    opaque, file = join(np.full((r, c, h, w, 1), 255, np.uint8)), io.BytesIO()
    if channels == 3:
        Image.fromarray(np.concatenate([join(images), opaque], -1)).save(file, "PNG", optimize=True)
    else:
        level = np.where(opaque, np.round(join(images) / 255 * (GREYS - 1)), GREYS).astype(np.uint8)
        sheet = Image.fromarray(level[..., 0]).convert("P")
        sheet.putpalette([*np.linspace(0, 255, GREYS).round().astype(int).repeat(3).tolist(), 0, 0, 0])
        sheet.save(file, "PNG", optimize=True, transparency=GREYS)
    return file.getvalue()


def slider(
    frames: ArrayLike,
    values: Sequence[float | str],
    label: str,
    *,
    alt: str,
    captions: Sequence[str] | None = None,
    reference: tuple[str, ArrayLike] | None = None,
    start: int = 0,
) -> Figure:
    """Build a range input that runs through pictures.

    Parameters
    ----------
    frames : array-like (n, H, W), (n, H, W, 1 or 3) or (n, k, H, W, 1 or 3)
        One picture a position, or one row of k pictures; uint8, or floats in [0, 1].
    values : sequence of n numbers or str
        What stands at each position.
    label : str
        What the values are, as in ``"bottleneck size"``.
    alt : str
        What the figure shows, in words.
    captions : sequence of n str, optional
        Said and read out after each value.
    reference : (str, array-like), optional
        The name and the picture, shaped as one frame, of what always stands above.
    start : int

    Returns
    -------
    Figure
    """
    frames, values = np.asarray(frames), [short(v) for v in values]
    if len(values) != len(frames) or (captions is not None and len(captions) != len(values)):
        counts = f"{len(frames)}, {len(values)} and {'no' if captions is None else len(captions)}"
        raise ValueError(f"frames, values and captions must be as many, got {counts}")
    data = {"label": label, "values": values, "start": position(start, len(values)), "columns": 1}
    lines = values if captions is None else [f"{v} ({c})" for v, c in zip(values, captions, strict=True)]
    caption = f"From top to bottom: {label} {', '.join(lines)}."  # type: ignore[arg-type]
    if captions is not None:
        data["captions"] = list(captions)
    if reference is not None:
        name, picture = reference
        if np.shape(picture) != frames.shape[1:]:
            raise ValueError(
                f"reference must have a frame's shape {frames.shape[1:]}, got {np.shape(picture)}"
            )
        frames, data["reference"] = np.concatenate([np.asarray(picture)[None], frames]), name
        caption = caption.replace(": ", f": {name}; ", 1)
    tiles = frames if frames.ndim == 5 else frames[:, None]
    sheet = _sheet(tiles)
    k, h, w = tiles.shape[1:4]
    data |= {"width": k * (w + 1), "height": h + 1}
    width = min(40, 4.5 * k if k > 1 else max(12, w / 16))
    return Figure("slider", data, sheet, alt, caption, width)


def explorer(
    images: ArrayLike,
    x_values: ArrayLike,
    y_values: ArrayLike,
    *,
    alt: str,
    labels: tuple[str, str] = ("z₁", "z₂"),
    points: ArrayLike | None = None,
    names: Sequence[Any] | None = None,
    start: tuple[int, int] | None = None,
) -> Figure:
    """Build a map of a 2-D latent space, beside the picture decoded at the chosen place.

    Parameters
    ----------
    images : array-like (rows, columns, H, W) or (rows, columns, H, W, 1 or 3)
        ``images[i, j]`` is decoded at ``(x_values[j], y_values[i])``; y is drawn upwards.
    x_values, y_values : sequences of float
        Increasing.
    alt : str
        What the figure shows, in words.
    labels : (str, str)
        Of the two axes.
    points : array-like (n, 2), optional
        Codes drawn as the map, a few hundred; those outside it are left out. Without them the map is the
        pictures.
    names : sequence of n, optional
        What is written at each point, one or two letters; without them it is a dot.
    start : (int, int), optional
        Column and row of the first place; the middle.

    Returns
    -------
    Figure
    """
    images, x, y = np.asarray(images), np.asarray(x_values, float), np.asarray(y_values, float)
    if images.shape[:2] != (len(y), len(x)) or min(len(x), len(y)) < 2:
        raise ValueError(f"images must begin with (rows, columns) = ({len(y)}, {len(x)}), got {images.shape}")
    if (np.diff(x) <= 0).any() or (np.diff(y) <= 0).any():
        raise ValueError(f"x_values and y_values must increase, got {x_values!r} and {y_values!r}")
    column, row = start or (len(x) // 2, len(y) // 2)
    h, w = images.shape[2:4]
    data = {"labels": list(labels), "x": [short(v) for v in x], "y": [short(v) for v in y]}
    data |= {"columns": len(x), "width": w + 1, "height": h + 1}  # type: ignore[dict-item]
    data["start"] = [position(column, len(x)), position(row, len(y))]  # type: ignore[list-item]
    if points is not None:
        points = np.asarray(points, float)
        names = [""] * len(points) if names is None else [str(n) for n in names]
        if points.shape != (len(names), 2):
            raise ValueError(
                f"points must have shape (n, 2), a name each, got {points.shape}, {len(names)} names"
            )
        edges = [
            np.r_[1.5 * v[0] - 0.5 * v[1], (v[1:] + v[:-1]) / 2, 1.5 * v[-1] - 0.5 * v[-2]] for v in (x, y)
        ]
        at = [np.interp(p, e, np.linspace(0, 1000, len(e))) for p, e in zip(points.T, edges, strict=True)]
        place = np.round([at[0], 1000 - at[1]]).astype(int).T.tolist()
        inside = np.all([(e[0] <= p) & (p <= e[-1]) for p, e in zip(points.T, edges, strict=True)], axis=0)
        data["points"] = [[*p, n] for p, n, keep in zip(place, names, inside, strict=True) if keep]  # type: ignore[misc]
    caption = f"Pictures decoded at {labels[0]} from {short(x[0])} to {short(x[-1])}, left to right, and at "
    caption += f"{labels[1]} from {short(y[0])} to {short(y[-1])}, upwards."
    return Figure("explorer", data, _sheet(images[::-1]), alt, caption, 24)
