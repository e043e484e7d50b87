"""Checks at the boundary: each returns the value in the form that is used, or says what is wrong with it.

A message shows the value, what was expected, and the remedy. All raise ValueError, but for a value of a kind
that could never do (a text where an array belongs), which is a TypeError.
"""

import contextlib
import math
import numbers
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

#: Rows are read in parts of about so many bytes, so that an array on disk is never in memory as a whole.
PART_BYTES = 2**25


def whole_number(name: str, value: Any, *, least: int = 1) -> int:
    """Return `value` as an int: a whole number of Python or NumPy, at least `least`; no bool, no float."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool | np.bool_)
    if not whole or value < least:
        raise ValueError(f"{name} must be a whole number >= {least}, got {_shown(value)}")
    return int(value)


def whole_numbers(name: str, value: Any, *, least: int = 1) -> tuple[int, ...]:
    """Return whole numbers as a tuple; one number is taken for a tuple of one."""
    if isinstance(value, str | bytes) or not hasattr(value, "__iter__") or getattr(value, "ndim", 1) == 0:
        value = (value,)
    return tuple(whole_number(name, item, least=least) for item in value)


def number(
    name: str,
    value: Any,
    *,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> float:
    """Return `value` as a finite float, within the bounds given: `least` and `most` may be reached."""
    wanted = _interval(least, most, above, below)
    if isinstance(value, bool | np.bool_ | str | bytes):
        raise ValueError(f"{name} must be {wanted}, got {_shown(value)}")
    try:
        result = float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} must be {wanted}, got {_shown(value)}") from None
    inside = (
        math.isfinite(result)
        and (least is None or result >= least)
        and (most is None or result <= most)
        and (above is None or result > above)
        and (below is None or result < below)
    )
    if not inside:
        raise ValueError(f"{name} must be {wanted}, got {_shown(value)}")
    return result


def _interval(least: float | None, most: float | None, above: float | None, below: float | None) -> str:
    """Write bounds as a reader expects them: ">= 0", "in (0, 1]"."""
    low, high = (above if least is None else least), (below if most is None else most)
    if low is None and high is None:
        return "a finite number"
    if high is None:
        return f">= {low:g}" if above is None else f"> {low:g}"
    if low is None:
        return f"<= {high:g}" if below is None else f"< {high:g}"
    return f"in {'[' if above is None else '('}{low:g}, {high:g}{']' if below is None else ')'}"


def share(name: str, value: Any) -> float:
    """Return `value` as a float in [0, 1]: a probability, or a share of a whole."""
    return number(name, value, least=0, most=1)


def inner_share(name: str, value: Any) -> float:
    """Return `value` as a float in (0, 1), without the ends."""
    return number(name, value, above=0, below=1)


def flag(name: str, value: Any) -> bool:
    """Return `value` as a bool: one of Python's or NumPy's."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False, got {_shown(value)}")
    return bool(value)


def seed(name: str, value: Any) -> int | None:
    """Return `value` as an int, or None: a whole number >= 0, or None for a start that differs each time."""
    return None if value is None else whole_number(name, value, least=0)


def choice(name: str, value: Any, options: Sequence[str]) -> str:
    """Return `value`, which must be one of `options`."""
    if not isinstance(value, str) or value not in options:
        raise ValueError(f"{name} must be one of {', '.join(options)}; got {_shown(value)}")
    return value


def sample_shape(name: str, value: Any, forms: Mapping[int, str] | None = None) -> tuple[int, ...]:
    """Return the shape of one sample as a tuple of whole numbers; one number is taken for a tuple of one.

    `forms`, {number of axes: what they are, as a text}, names the ranks that will do.
    """
    shape = whole_numbers(f"every axis of {name}", value)
    if not shape or (forms and len(shape) not in forms):
        wanted = " or ".join(forms.values()) if forms else "at least one axis"
        raise ValueError(f"{name} must have {wanted}, got {shape!r}")
    return shape


def array(name: str, value: Any) -> np.ndarray:
    """Return `value` as an ndarray of numbers or booleans; a memory map stays one, a frame becomes numbers.

    Raises
    ------
    TypeError
        For what holds no numbers, or is sparse: an array without a shape, texts, objects, complex numbers.
    """
    if hasattr(value, "tocsr"):
        raise TypeError(
            f"{name} is a sparse matrix of shape {value.shape}: give {name}.toarray(), or batches of it "
            f"(a generator or a tf.data pipeline) where that is too large"
        )
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(
            f"{name} is a masked array, whose mask would be lost: give {name}.astype(float).filled(np.nan), "
            f"and the model likelihood=Masked(...)"
        )
    if hasattr(value, "to_numpy") and hasattr(value, "columns"):
        value = value.to_numpy(dtype=_frame_dtype(name, value))
    elif not isinstance(value, np.ndarray):
        try:
            value = np.asarray(value)
        except ValueError as error:
            raise TypeError(f"{name} must be an array of numbers with one shape, got {error}") from None
    if value.dtype == object:
        with contextlib.suppress(TypeError, ValueError):
            value = value.astype(np.float64)
    if value.dtype.kind not in "biuf" and value.dtype.name != "bfloat16":
        raise TypeError(f"{name} must hold numbers, got an array of {value.dtype} of shape {value.shape}")
    return value


def _frame_dtype(name: str, frame: Any) -> type[np.floating]:
    texts = [
        str(column) for column, dtype in frame.dtypes.items() if getattr(dtype, "kind", "O") not in "biuf"
    ]
    if texts:
        raise TypeError(
            f"{name} has columns that are no numbers: {', '.join(texts[:5])}; encode them first, for example "
            f"with scikit-learn's OneHotEncoder"
        )
    return (
        np.float64 if any(dtype.itemsize > 4 or dtype.kind == "f" for dtype in frame.dtypes) else np.float32
    )


def samples(name: str, value: Any, *, least: int = 1) -> np.ndarray:
    """Return `value` as an array (n, ...) of numbers with at least `least` rows, each with a shape."""
    value = array(name, value)
    if value.ndim < 1 or len(value) < least or not value.size:
        wanted = f"(n >= {least}, ...)"
        raise ValueError(f"{name} must have the shape {wanted} and not be empty, got {value.shape}")
    return value


def codes(value: Any, *, name: str = "the codes", least: int = 1, width: int | None = None) -> np.ndarray:
    """Return codes as an array (n >= least, K), all finite; K is `width` where that is given."""
    value = array(name, value)
    if value.ndim != 2 or len(value) < least or not value.size or value.shape[1] != (width or value.shape[1]):
        raise ValueError(f"{name} must have shape (n >= {least}, {width or 'K'}), got {value.shape}")
    remedy = "drop or fill these rows: the model that made them has diverged, or its data had gaps"
    return finite(name, value, remedy=remedy)


def shapes_agree(shape: Sequence[int | None], other: Sequence[int | None]) -> bool:
    """Return whether two shapes are the same; None stands for any number."""
    pairs = zip(shape, other, strict=False)
    return len(shape) == len(other) and all(None in (a, b) or a == b for a, b in pairs)


def parts(value: np.ndarray, *, rows: int | None = None) -> Iterator[np.ndarray]:
    """Yield an array's rows in slices of about `PART_BYTES`, or of `rows`; views, so nothing is copied."""
    if rows is None:
        rows = max(1, PART_BYTES // max(1, value[:1].nbytes))
    for start in range(0, len(value), rows):
        yield value[start : start + rows]


def extent(value: np.ndarray) -> tuple[float, float]:
    """Return the least and the greatest number of an array; both are NaN where it holds one."""
    if not value.size:
        return math.nan, math.nan
    ends = [(part.min(), part.max()) for part in parts(np.atleast_1d(value))]
    # NumPy's own minimum passes NaN on; Python's does not.
    lowest, highest = np.min([end[0] for end in ends]), np.max([end[1] for end in ends])
    return float(lowest), float(highest)


def finite(
    name: str,
    value: np.ndarray,
    *,
    remedy: str = "drop or fill these rows, or mark them with likelihood=Masked(...)",
    first_row: int = 0,
) -> np.ndarray:
    """Return `value`, an array, where all its numbers are finite; `first_row` is the number of its first."""
    if value.size and value.dtype.kind not in "biu" and not all(map(math.isfinite, extent(value))):
        flat = np.atleast_1d(value)
        bad = sum(int(np.size(part) - np.count_nonzero(np.isfinite(part))) for part in parts(flat))
        row = first_row + next(
            start + int(np.argmax(~np.isfinite(part).reshape(len(part), -1).all(axis=1)))
            for start, part in _numbered(flat)
            if not np.isfinite(part).all()
        )
        raise ValueError(
            f"{name} must be finite: {bad} of its {value.size} numbers are NaN or infinite, the first in row "
            f"{row}; {remedy}"
        )
    return value


def within(name: str, value: np.ndarray, low: float, high: float, *, remedy: str) -> np.ndarray:
    """Return `value`, an array, where all its numbers are finite and from `low` to `high`."""
    finite(name, value, remedy=remedy)
    least, most = extent(value)
    if value.size and not low <= least <= most <= high:
        raise ValueError(f"{name} must be in [{low:g}, {high:g}], got {least:g} to {most:g}: {remedy}")
    return value


def warn_of_scales(name: str, x: np.ndarray) -> None:
    """Warn where the columns of a table, ndarray (n, d), differ so much in scale that the widest decide.

    That is where the largest standard deviation is above 10, and the variances differ by a factor of more
    than 10⁴; constant columns and NaN do not count. The first 10,000 rows are looked at.
    """
    if x.ndim != 2 or not len(x):
        return
    rows = np.asarray(x[:10_000], np.float64)
    rows = rows[:, ~np.isnan(rows).all(axis=0)]
    variances, means = np.nanvar(rows, axis=0), np.nanmean(rows, axis=0)
    # A constant column's variance is what rounding leaves.
    spreads = np.sqrt(variances[variances > np.square(1e-7 * means)])
    if spreads.size and spreads.max() > 10 and spreads.max() > 100 * spreads.min():
        warnings.warn(
            f"{name} has columns on very different scales, with standard deviations from {spreads.min():.3g} "
            f"to {spreads.max():.3g}: the widest alone decide the loss. Bring them to one scale, for example "
            "with scikit-learn's StandardScaler",
            stacklevel=2,
        )


def _numbered(value: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    start = 0
    for part in parts(value):
        yield start, part
        start += len(part)


def _shown(value: Any) -> str:
    """Show a value as its user wrote it: NumPy's numbers without their type, long ones cut."""
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        value = value.item()
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"
