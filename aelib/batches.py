"""Data in parts: whatever `fit` takes, read so that memory holds one part at a time."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops
from keras.utils import PyDataset

from aelib import checks


def is_array(x: Any) -> bool:
    """Return whether `x` is an array or can be one, or a dict of such: no pipeline or source of batches."""
    if isinstance(x, dict):
        return bool(x) and all(is_array(part) for part in x.values())
    if isinstance(x, list | tuple | np.ndarray) or hasattr(x, "tocsr") or hasattr(x, "columns"):
        return True
    return hasattr(x, "shape") and hasattr(x, "__len__") and hasattr(x, "dtype")


def as_array(name: str, x: Any) -> Any:
    """Return an array of numbers, (n >= 1, ...), as `aelib.checks.samples` does; tensors become ndarrays.

    A dict of arrays becomes a dict of such, of equal lengths.
    """
    if isinstance(x, dict):
        return as_arrays(name, x)
    if is_array(x) and not isinstance(x, list | tuple | np.ndarray) and hasattr(x, "dtype"):
        x = x if hasattr(x, "columns") or hasattr(x, "tocsr") else ops.convert_to_numpy(x)
    return checks.samples(name, x)


def as_arrays(name: str, x: Any) -> Any:
    """Return a dict, list or tuple of arrays with each checked by `as_array`, and their lengths equal."""
    keys = list(x) if isinstance(x, dict) else range(len(x))
    arrays = {key: as_array(f"{name}[{key!r}]", x[key]) for key in keys}
    lengths = {key: len(array) for key, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the arrays of {name} must hold as many samples each, got {lengths}")
    return arrays if isinstance(x, dict) else list(arrays.values())


def inputs(batch: Any) -> Any:
    """Return the inputs of a batch, maybe a tuple (x, y) or (x, y, weight), as an ndarray or a dict."""
    return each(lambda part: checks.array("a batch", ops.convert_to_numpy(part)), first(batch))


def each(function: Callable[..., Any], *trees: Any) -> Any:
    """Apply a function to an array, or to every array of a dict, list or tuple of them."""
    return keras.tree.map_structure(function, *trees)


def rows(x: Any) -> int:
    """Return the number of samples in an array, or in a dict, list or tuple of arrays."""
    return keras.tree.flatten(x)[0].shape[0]


def slices(x: Any, size: int) -> Iterator[Any]:
    """Yield an array, or a dict, list or tuple of them, in slices of at most `size` samples."""
    for start in range(0, rows(x), size):
        yield each(lambda array, at=start: array[at : at + size], x)


def join(parts: Iterable[Any]) -> Any:
    """Put slices together again."""
    return each(lambda *arrays: np.concatenate(arrays), *parts)


def first(batch: Any) -> Any:
    """Return what comes first in a batch: the inputs."""
    return batch[0] if isinstance(batch, tuple | list) else batch


def parts(name: str, x: Any, *, multiple: int = 1) -> Iterator[Any]:
    """Yield `x` in ndarrays (rows, ...), or dicts of them: an array in slices, others batch by batch.

    Parameters
    ----------
    name : str
        What the messages call it.
    x : array, memory map, tf.data pipeline, keras.utils.PyDataset, or an iterable of batches
        A batch is an array, or a tuple whose first entry is one; a dict of arrays serves as one array.
    multiple : int
        An array's slices hold a multiple of so many rows, but for the last.

    Raises
    ------
    ValueError
        If there is nothing in it.
    """
    if is_array(x):
        x = as_array(name, x)
        size = checks.PART_BYTES // max(1, sum(array[:1].nbytes for array in keras.tree.flatten(x)))
        yield from slices(x, max(1, size // multiple) * multiple)
        return
    empty = True
    for batch in _batches(name, x):
        empty = False
        yield inputs(batch)
    if empty:
        raise ValueError(f"{name} must hold at least one batch, got an empty {type(x).__name__}")


def _batches(name: str, x: Any) -> Iterator[Any]:
    if getattr(x, "cardinality", None) and int(x.cardinality()) == -1:
        raise ValueError(f"{name} is a pipeline without an end: take as many batches as you want, take(n)")
    if isinstance(x, PyDataset):
        if not hasattr(x, "__len__"):
            raise ValueError(f"{name} is a PyDataset without an end: define its __len__")
        return (x[i] for i in range(x.num_batches))
    if isinstance(x, dict | str) or not hasattr(x, "__iter__"):
        raise TypeError(
            f"{name} must be an array, a pipeline or an iterable of batches, got {type(x).__name__}"
        )
    return iter(x)


def peek(name: str, x: Any) -> tuple[Any, Any]:
    """Return the first batch of a pipeline, and a source that still has them all."""
    batches = _batches(name, x)
    try:
        batch = next(batches)
    except StopIteration:
        raise ValueError(f"{name} must hold at least one batch, got an empty {type(x).__name__}") from None
    if batches is x:  # a generator: what was taken has to be put back
        # Keras knows generators alone, and of tuples alone.
        return batch, (b if isinstance(b, tuple) else (b,) for b in itertools.chain([batch], x))
    return batch, x
