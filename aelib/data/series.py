"""Windows of a long series, and their scores back on its time axis. Import from `aelib.data`."""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from aelib import checks


def windows(
    series: ArrayLike, length: int, stride: int = 1, *, tail: Literal["refuse", "drop"] = "refuse"
) -> np.ndarray:
    """Cut a series into windows, which overlap where `stride` is below `length`.

    Window i begins at step i · stride. Nothing is copied: the windows are views of the series, which cannot
    be written to. `spread` brings their scores back.

    Parameters
    ----------
    series : array (T,) or (T, C)
        In the order of time; one channel, or C of them.
    length : int
        Steps of a window, at most T.
    stride : int
        Steps from one window's start to the next.
    tail : {"refuse", "drop"}
        What to do where the last steps, fewer than `stride`, fill no window: raise an error, or leave them
        out, which `spread` then marks by NaN.

    Returns
    -------
    ndarray (n, length, C)
        In the dtype of the series; n = (T - length) // stride + 1.

    Raises
    ------
    ValueError
        If the series is too short, has another shape, or leaves a tail that was not to be dropped.

    Examples
    --------
    >>> windows([0.0, 1.0, 2.0, 3.0, 4.0], 3, stride=2)[..., 0]
    array([[0., 1., 2.],
           [2., 3., 4.]])
    """
    series = checks.samples("series", series)
    if series.ndim > 2:
        raise ValueError(f"series must have the shape (T,) or (T, C), got {series.shape}: cut each by itself")
    length, stride = checks.whole_number("length", length), checks.whole_number("stride", stride)
    checks.choice("tail", tail, ("refuse", "drop"))
    if length > len(series):
        raise ValueError(f"length must be at most the {len(series)} steps of the series, got {length}")
    rest = (len(series) - length) % stride
    if rest and tail == "refuse":
        raise ValueError(
            f"windows of length {length} and stride {stride} leave out the last {rest} of {len(series)} "
            "steps: choose tail='drop', or another stride"
        )
    series = series[:, None] if series.ndim == 1 else series
    views = np.lib.stride_tricks.sliding_window_view(series, length, axis=0)  # (T - length + 1, C, length)
    return np.moveaxis(views[::stride], -1, 1)


def spread(
    scores: ArrayLike,
    length: int,
    stride: int = 1,
    *,
    steps: int | None = None,
    reduce: Literal["mean", "max"] = "mean",
) -> np.ndarray:
    """Bring the scores of windows back onto the time axis, where windows overlap.

    Parameters
    ----------
    scores : array (n,) or (n, length)
        One for each window, or for each step of each window. NaN is no score: the others decide.
    length, stride : int
        As given to `windows`.
    steps : int, optional
        T, the length of the series; by default up to the end of the last window.
    reduce : {"mean", "max"}
        What a step gets from the windows that cover it: the mean, or the highest score.

    Returns
    -------
    ndarray (T,)
        float64; NaN at steps that no window covers.

    Raises
    ------
    ValueError
        If the scores have another shape, or windows of a series of so many steps would be more, or fewer.

    Examples
    --------
    >>> spread([1.0, 3.0], 3, stride=2, steps=6)
    array([ 1.,  1.,  2.,  3.,  3., nan])
    """
    scores = checks.samples("scores", scores)
    length, stride = checks.whole_number("length", length), checks.whole_number("stride", stride)
    checks.choice("reduce", reduce, ("mean", "max"))
    if scores.shape[1:] not in ((), (length,)):
        raise ValueError(
            f"scores must have the shape (n,) or (n, {length}), got {scores.shape}: take the mean over "
            "channels first, or give the length that the windows have"
        )
    covered = (len(scores) - 1) * stride + length
    steps = covered if steps is None else checks.whole_number("steps", steps)
    if not 0 <= steps - covered < stride:
        raise ValueError(
            f"{len(scores)} windows of length {length} and stride {stride} belong to a series of {covered} "
            f"to {covered + stride - 1} steps, got steps={steps}: give length and stride as to windows"
        )
    scores = np.broadcast_to(scores.reshape(len(scores), -1), (len(scores), length))
    result, counts = np.full(steps, -np.inf if reduce == "max" else 0.0), np.zeros(steps)
    for i in range(length):  # step i of all windows: no place of the axis is met twice
        places = slice(i, i + len(scores) * stride, stride)
        seen = ~np.isnan(scores[:, i])
        counts[places] += seen
        if reduce == "max":
            result[places] = np.fmax(result[places], scores[:, i])
        else:
            result[places] += np.where(seen, scores[:, i], 0)
    result[counts == 0] = np.nan
    return result if reduce == "max" else np.divide(result, counts, out=result, where=counts > 0)
