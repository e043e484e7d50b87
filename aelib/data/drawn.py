"""Sprites drawn by formula: images whose factors of variation are known, one by one."""

from typing import NamedTuple

import numpy as np

from aelib import checks

#: The factors, in the order of `Sprites.factors`.
FACTORS = ("shape", "scale", "angle", "x", "y")
SHAPES = ("square", "ellipse", "triangle")
#: Ways in which each shape looks the same again in a full turn.
_SYMMETRY = {"square": 4, "ellipse": 2, "triangle": 3}


class Sprites(NamedTuple):
    """The ``images``, (n, size, size, 1) float32 in [0, 1], and the ``factors``, (n, 5) int64: `FACTORS`."""

    images: np.ndarray
    factors: np.ndarray


def sprites(size: int = 32, *, scales: int = 3, angles: int = 4, positions: int = 8) -> Sprites:
    """Draw every combination of shape, scale, angle and place once, in white on black.

    They are in the manner of dSprites (Matthey et al., 2017), but drawn by formula with soft edges, and with
    angles only as far as a shape has not come back to itself, so that every image has one meaning.

    Parameters
    ----------
    size : int
        Pixels along each side; at least 16.
    scales : int
        How many sizes.
    angles : int
        How many angles, evenly spread until the shape looks the same again.
    positions : int
        How many places along each axis.

    Returns
    -------
    Sprites
        3 · scales · angles · positions² images, the last factor changing fastest.
    """
    size = checks.whole_number("size", size, least=16)
    counts = [len(SHAPES)]
    named = {"scales": scales, "angles": angles, "positions": positions}
    counts += [checks.whole_number(name, value) for name, value in named.items()]
    counts.append(counts[-1])
    factors = np.stack(np.meshgrid(*map(np.arange, counts), indexing="ij"), axis=-1).reshape(-1, 5)
    pixel = (np.arange(size) + 0.5) / size
    images = np.empty((len(factors), size, size, 1), np.float32)
    radii = np.linspace(0.11, 0.18, counts[1])
    centers = np.linspace(0.27, 0.73, counts[3])
    for image, (shape, scale, angle, x, y) in zip(images, factors, strict=True):
        name = SHAPES[shape]
        turn = 2 * np.pi * angle / (counts[2] * _SYMMETRY[name])
        right, down = pixel[None, :] - centers[x], pixel[:, None] - centers[y]
        u = (np.cos(turn) * right + np.sin(turn) * down) / radii[scale]
        v = (np.cos(turn) * down - np.sin(turn) * right) / radii[scale]
        outside = _distance(name, u, v) * radii[scale] * size  # in pixels
        image[..., 0] = np.clip(0.5 - outside, 0, 1)
    return Sprites(images, factors.astype(np.int64))


def _distance(name: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return how far a point lies outside a shape of radius 1, roughly; below 0 inside."""
    if name == "square":
        return np.maximum(abs(u), abs(v)) - 0.8
    if name == "ellipse":
        return (np.hypot(u, v / 0.6) - 1) * 0.6
    sides = [np.cos(a) * u + np.sin(a) * v for a in np.pi / 2 + 2 * np.pi * np.arange(3) / 3]
    return np.max(sides, axis=0) - 0.55
