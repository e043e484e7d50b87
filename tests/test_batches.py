"""Whatever holds data is read in parts, and gives the same rows in the same order."""

import itertools

import keras
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from aelib import batches, checks

X = np.arange(60, dtype="float32").reshape(20, 3)


class Rows(keras.utils.PyDataset):
    def __init__(self, x, size, targets=False):
        super().__init__()
        self.x, self.size, self.targets = x, size, targets

    def __len__(self):
        return -(-len(self.x) // self.size)

    def __getitem__(self, i):
        batch = self.x[i * self.size : (i + 1) * self.size]
        return (batch, -batch) if self.targets else batch


class Endless(keras.utils.PyDataset):
    def __getitem__(self, i):
        return X[:2]


def dataset(x, size):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(x).batch(size)


SOURCES = {
    "array": lambda: X,
    "list": X.tolist,
    "frame": lambda: pd.DataFrame(X),
    "tensor": lambda: keras.ops.convert_to_tensor(X),
    "PyDataset": lambda: Rows(X, 7),
    "PyDataset of pairs": lambda: Rows(X, 7, targets=True),
    "tf.data": lambda: dataset(X, 7),
    "tf.data of pairs": lambda: dataset((X, -X), 7),
    "tf.data of triples": lambda: dataset((X, -X, np.ones(20)), 7),
    "generator": lambda: (X[i : i + 7] for i in range(0, 20, 7)),
    "generator of pairs": lambda: ([X[i : i + 7], None] for i in range(0, 20, 7)),
    "generator of tensors": lambda: (keras.ops.convert_to_tensor(X[i : i + 7]) for i in range(0, 20, 7)),
}


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_gives_its_rows(name):
    read = list(batches.parts("x", SOURCES[name]()))
    assert all(isinstance(part, np.ndarray) for part in read)
    np.testing.assert_array_equal(np.concatenate(read), X)
    one_array = batches.is_array(SOURCES[name]())
    assert one_array is (name in ("array", "list", "frame", "tensor"))
    assert len(read) == (1 if one_array else 3)


@given(st.integers(1, 200), st.integers(1, 9), st.sampled_from([1, 10, 100, 10_000]))
def test_slices_are_views_of_about_the_size_and_whole_batches(rows, multiple, size):
    x = np.zeros((rows, 5), "float32")
    before, checks.PART_BYTES = checks.PART_BYTES, size
    try:
        read = list(batches.parts("x", x, multiple=multiple))
    finally:
        checks.PART_BYTES = before
    assert sum(map(len, read)) == rows
    assert all(len(part) % multiple == 0 for part in read[:-1])
    assert all(len(part) * 20 <= max(size, 20 * multiple) for part in read)
    assert all(part.base is x for part in read)


def test_a_memory_map_is_never_read_as_a_whole(tmp_path):
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    for part in batches.parts("x", mapped):
        assert isinstance(part, np.memmap)
    np.testing.assert_array_equal(np.concatenate(list(batches.parts("x", mapped))), X)


@pytest.mark.parametrize("pairs", [False, True])
def test_a_look_at_a_generator_takes_nothing_away(pairs):
    source = ((X[i : i + 7], -X[i : i + 7]) if pairs else X[i : i + 7] for i in range(0, 20, 7))
    first, whole = batches.peek("x", source)
    np.testing.assert_array_equal(batches.first(first), X[:7])
    read = list(whole)
    assert all(isinstance(batch, tuple) for batch in read), "Keras's generators give tuples"
    np.testing.assert_array_equal(np.concatenate([batch[0] for batch in read]), X)


def test_a_look_at_other_sources_leaves_them_as_they_are():
    for source in (Rows(X, 7), dataset(X, 7)):
        first, whole = batches.peek("x", source)
        assert whole is source
        np.testing.assert_array_equal(first, X[:7])


def test_inputs_stand_first_in_a_batch():
    np.testing.assert_array_equal(batches.inputs((X, None, None)), X)
    np.testing.assert_array_equal(batches.inputs([X]), X)
    np.testing.assert_array_equal(batches.inputs(X), X)
    assert batches.first((1, 2)) == 1


@pytest.mark.parametrize("read", [lambda x: list(batches.parts("x", x)), lambda x: batches.peek("x", x)])
@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (lambda: iter(()), ValueError, "x must hold at least one batch, got an empty tuple_iterator"),
        (lambda: Rows(X[:0], 7), ValueError, "x must hold at least one batch, got an empty Rows"),
        (Endless, ValueError, "x is a PyDataset without an end: define its __len__"),
        (lambda: dataset(X, 7).repeat(), ValueError, r"x is a pipeline without an end: .* take\(n\)"),
        (
            lambda: {"a": "x.npy"},
            TypeError,
            "x must be an array, a pipeline or an iterable of batches, got dict",
        ),
        (lambda: "x.npy", TypeError, "got str"),
        (lambda: 3, TypeError, "got int"),
        (lambda: None, TypeError, "got NoneType"),
    ],
    ids=["empty", "empty PyDataset", "PyDataset", "tf.data", "dict", "text", "number", "None"],
)
def test_what_holds_no_batches_is_shown(read, source, error, message):
    with pytest.raises(error, match=message):
        read(source())


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (X[:0], ValueError, r"x must have the shape .* got \(0, 3\)"),
        (
            scipy.sparse.csr_matrix(X),
            TypeError,
            r"x is a sparse matrix of shape \(20, 3\): give x.toarray\(\)",
        ),
        (scipy.sparse.csr_array(X), TypeError, r"x is a sparse matrix of shape \(20, 3\)"),
        (np.ma.masked_greater(X, 9), TypeError, r"x is a masked array, .*filled\(np.nan\), .*Masked"),
        ([["a", "b"]], TypeError, "x must hold numbers, got an array of <U1"),
        ([[1, 2], [3]], TypeError, "x must be an array of numbers with one shape"),
        (pd.DataFrame({"a": [1.0], "b": ["t"]}), TypeError, "x has columns that are no numbers: b; .*OneHot"),
        (np.array([1j]), TypeError, "x must hold numbers, got an array of complex128"),
    ],
)
def test_what_is_no_array_of_numbers_is_shown(value, error, message):
    with pytest.raises(error, match=message):
        batches.as_array("x", value)


def test_frames_of_numbers_and_booleans_are_taken():
    frame = pd.DataFrame({"a": [1, 2], "b": [True, False], "c": [0.5, 1.5]})
    np.testing.assert_array_equal(batches.as_array("x", frame), [[1, 1, 0.5], [2, 0, 1.5]])
    gaps = frame.assign(d=pd.array([1, None], dtype="Int64"))
    np.testing.assert_array_equal(batches.as_array("x", gaps)[:, 3], [1, np.nan])


def test_a_pipeline_is_read_only_as_far_as_asked():
    taken = []

    def batch(i):
        taken.append(i)
        return X[i : i + 1]

    source = batches.parts("x", map(batch, itertools.count()))
    next(source), next(source)
    assert taken == [0, 1]
