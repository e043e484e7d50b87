"""Data in parts: whatever `fit` takes, read so that memory holds one part at a time."""

import itertools

import numpy as np
from keras import ops
from keras.utils import PyDataset

from aelib import checks


def is_array(x):
    """Return whether `x` is an array or can be one: no pipeline, generator or other source of batches."""
    if isinstance(x, list | tuple | np.ndarray) or hasattr(x, "tocsr") or hasattr(x, "columns"):
        return True
    return hasattr(x, "shape") and hasattr(x, "__len__") and hasattr(x, "dtype")


def as_array(name, x):
    """Return an array of numbers, (n >= 1, ...), as `aelib.checks.samples` does; tensors become ndarrays."""
    if is_array(x) and not isinstance(x, list | tuple | np.ndarray) and hasattr(x, "dtype"):
        x = x if hasattr(x, "columns") or hasattr(x, "tocsr") else ops.convert_to_numpy(x)
    return checks.samples(name, x)


def inputs(batch):
    """Return the inputs of a batch, which may be a tuple (x, y) or (x, y, weight), as an ndarray."""
    return checks.array("a batch", ops.convert_to_numpy(first(batch)))


def first(batch):
    """Return what comes first in a batch: the inputs."""
    return batch[0] if isinstance(batch, tuple | list) else batch


def parts(name, x, *, multiple=1):
    """Yield `x` in ndarrays (rows, ...): an array in slices, any other source batch by batch.

    Parameters
    ----------
    name : str
        What the messages call it.
    x : array, memory map, tf.data pipeline, keras.utils.PyDataset, or an iterable of batches
        A batch is an array, or a tuple whose first entry is one.
    multiple : int
        An array's slices hold a multiple of so many rows, but for the last.

    Raises
    ------
    ValueError
        If there is nothing in it.
    """
    if is_array(x):
        x = as_array(name, x)
        rows = checks.PART_BYTES // max(1, x[:1].nbytes)
        yield from checks.parts(x, rows=max(1, rows // multiple) * multiple)
        return
    empty = True
    for batch in _batches(name, x):
        empty = False
        yield inputs(batch)
    if empty:
        raise ValueError(f"{name} must hold at least one batch, got an empty {type(x).__name__}")


def _batches(name, x):
    if getattr(x, "cardinality", None) and int(x.cardinality()) == -1:
        raise ValueError(f"{name} is a pipeline without an end: take as many batches as you want, take(n)")
    if isinstance(x, PyDataset):
        if x.num_batches is None:
            raise ValueError(f"{name} is a PyDataset without an end: define its __len__")
        return (x[i] for i in range(x.num_batches))
    if isinstance(x, dict | str) or not hasattr(x, "__iter__"):
        raise TypeError(
            f"{name} must be an array, a pipeline or an iterable of batches, got {type(x).__name__}"
        )
    return iter(x)


def peek(name, x):
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
