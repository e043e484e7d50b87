"""Every check at the boundary: what is let through, what is not, and what its message says."""

import re

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from aelib import checks

# No test starts from a state, and no run differs from another.
prop = settings(deadline=None, max_examples=60, derandomize=True)

INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
FLOATS = ["float16", "float32", "float64"]
names = st.sampled_from(["k", "every axis of input_shape", "epochs"])
no_whole_numbers = st.one_of(
    st.booleans(),
    st.booleans().map(np.bool_),
    st.floats(),
    st.floats(width=32).map(np.float32),
    st.text(max_size=4),
    st.none(),
    st.complex_numbers(),
    st.lists(st.integers(), max_size=2),
    st.integers(1, 9).map(lambda n: np.array([n])),
)
shapes = arrays.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=5)


def refused(call, *parts, kind=ValueError):
    """Call, and find every part in the message, in this order."""
    with pytest.raises(kind, match=".*".join(re.escape(str(part)) for part in parts)):
        call()


def shown(value):
    """NumPy's numbers are shown as Python's."""
    one = isinstance(value, np.generic) or getattr(value, "shape", None) == ()
    return repr(value.item() if one else value)[:200]


# Single numbers


@prop
@given(
    names, st.integers(-3, 3), st.integers(0, 120), st.sampled_from([int, np.array, *map(np.dtype, INTEGERS)])
)
def test_a_whole_number_is_one_in_any_dtype(name, least, above, kind):
    value = max(least + above, 0)
    found = checks.whole_number(
        name, kind.type(value) if isinstance(kind, np.dtype) else kind(value), least=least
    )
    assert found == value
    assert type(found) is int


@prop
@given(names, st.integers(-5, 5), st.integers(1, 2**70))
def test_a_whole_number_below_its_bound_is_shown(name, least, below):
    refused(
        lambda: checks.whole_number(name, least - below, least=least),
        name,
        f">= {least}",
        f"got {least - below}",
    )


@prop
@given(names, no_whole_numbers)
@example("k", np.array(True))
@example("k", np.array(2.0))
def test_what_is_no_whole_number_is_shown(name, value):
    refused(
        lambda: checks.whole_number(name, value),
        f"{name} must be a whole number >= 1, got ",
        shown(value)[:50],
    )


@prop
@given(st.lists(st.integers(1, 1000), min_size=1, max_size=5), st.sampled_from([tuple, list, iter, np.array]))
def test_whole_numbers_come_in_any_sequence(values, kind):
    found = checks.whole_numbers("filters", kind(values))
    assert found == tuple(values)
    assert all(type(number) is int for number in found)


@prop
@given(st.integers(1, 1000), st.sampled_from([int, np.int64, np.uint16, np.array]))
def test_one_number_is_taken_for_a_tuple_of_one(value, kind):
    assert checks.whole_numbers("hidden", kind(value)) == (value,)
    assert checks.sample_shape("input_shape", kind(value)) == (value,)


@prop
@given(st.lists(st.integers(1, 9), max_size=3), no_whole_numbers)
def test_one_wrong_number_among_many_is_shown(values, wrong):
    refused(
        lambda: checks.whole_numbers("hidden", [*values, wrong]), "hidden must be a whole number >= 1, got"
    )


@pytest.mark.parametrize("value", [None, "64", "", b"6", 1.0, {}.get, True, np.array(False)])
def test_what_is_no_number_is_no_tuple_of_one(value):
    refused(lambda: checks.whole_numbers("hidden", value), "hidden must be a whole number >= 1, got")


bound = st.one_of(st.none(), st.floats(-100, 100))


@prop
@given(
    st.floats(-200, 200),
    bound,
    bound,
    st.booleans(),
    st.booleans(),
    st.sampled_from([float, np.float64, np.array]),
)
@example(0.0, 0.0, 0.0, False, False, float)
@example(0.0, 0.0, 1.0, True, True, float)
def test_a_number_is_within_its_bounds(value, low, high, low_open, high_open, kind):
    bounds = {"above" if low_open else "least": low, "below" if high_open else "most": high}
    inside = low is None or (value > low if low_open else value >= low)
    inside = inside and (high is None or (value < high if high_open else value <= high))
    if inside:
        found = checks.number("rate", kind(value), **bounds)
        assert found == value
        assert type(found) is float
        return
    if None in (low, high):
        sign = {"least": ">=", "above": ">", "most": "<=", "below": "<"}
        wanted = next(f"{sign[name]} {end:g}" for name, end in bounds.items() if end is not None)
    else:
        wanted = f"in {'[('[low_open]}{low:g}, {high:g}{'])'[high_open]}"
    refused(lambda: checks.number("rate", kind(value), **bounds), f"rate must be {wanted}, got")


@pytest.mark.parametrize(
    "value", [np.nan, np.inf, -np.inf, "1", b"1", None, True, np.bool_(1), [1, 2], 1j, object, 10**400]
)
def test_what_is_no_number_is_shown(value):
    refused(
        lambda: checks.number("strength", value), "strength must be a finite number, got ", shown(value)[:50]
    )
    refused(lambda: checks.number("strength", value, least=0), "strength must be >= 0, got")


@prop
@given(st.floats(allow_nan=True, allow_infinity=True))
@example(0.0)
@example(1.0)
def test_shares_are_in_the_unit_interval(value):
    for check, inside, interval in (
        (checks.share, 0 <= value <= 1, "[0, 1]"),
        (checks.inner_share, 0 < value < 1, "(0, 1)"),
    ):
        if inside:
            assert check("rate", value) == value
        else:
            refused(lambda check=check: check("rate", value), "rate must be in ", interval, f"got {value!r}")


def test_flags():
    assert checks.flag("cosine", np.bool_(True)) is True
    assert checks.flag("cosine", False) is False
    for value in (0, 1, None, "True", np.array(True)):
        refused(
            lambda value=value: checks.flag("cosine", value),
            "cosine must be True or False, got",
            shown(value),
        )


@prop
@given(st.one_of(st.none(), st.integers(0, 2**32), st.integers(0, 99).map(np.int64)))
def test_seeds(value):
    found = checks.seed("seed", value)
    assert found == value
    assert found is None or type(found) is int


@pytest.mark.parametrize("value", [-1, 0.5, "0", True, [1]])
def test_a_seed_is_a_whole_number_everywhere(value):
    refused(lambda: checks.seed("seed", value), f"seed must be a whole number >= 0, got {value!r}")


def test_choices():
    assert checks.choice("cell", "gru", ("lstm", "gru")) == "gru"
    for value in ("rnn", None, 0, ["gru"], ("gru",)):
        refused(
            lambda value=value: checks.choice("cell", value, ("lstm", "gru")),
            "one of lstm, gru; got",
            repr(value),
        )


# Shapes


@prop
@given(st.lists(st.integers(1, 99), min_size=1, max_size=5), st.sampled_from([tuple, list, np.array]))
def test_shapes_of_samples(shape, kind):
    assert checks.sample_shape("input_shape", kind(shape)) == tuple(shape)
    forms = {2: "(length, channels)", 3: "(height, width, channels)"}
    if len(shape) in forms:
        assert checks.sample_shape("input_shape", kind(shape), forms) == tuple(shape)
    else:
        said = "input_shape must have (length, channels) or (height, width, channels), got", tuple(shape)
        refused(lambda: checks.sample_shape("input_shape", kind(shape), forms), *said)


@pytest.mark.parametrize(
    ("shape", "wrong"), [((0, 3), "0"), ((3, None), "None"), ((2.5,), "2.5"), ("28", "'28'")]
)
def test_a_wrong_axis_is_shown(shape, wrong):
    refused(
        lambda: checks.sample_shape("input_shape", shape), "every axis of input_shape", ">= 1, got", wrong
    )
    refused(lambda: checks.sample_shape("input_shape", ()), "input_shape must have at least one axis, got ()")


@prop
@given(shapes, st.data())
def test_shapes_agree_where_none_stands_for_any(shape, data):
    blurred = tuple(data.draw(st.sampled_from([n, None])) for n in shape)
    assert checks.shapes_agree(shape, blurred)
    assert checks.shapes_agree(blurred, shape)
    assert not checks.shapes_agree(shape, (*shape, 1))
    other = (shape[0] + 1, *shape[1:])
    assert not checks.shapes_agree(shape, other)


# Arrays


@prop
@given(st.sampled_from([*INTEGERS, *FLOATS, "bool"]), shapes)
def test_arrays_of_numbers_are_kept_as_they_are(dtype, shape):
    value = np.ones(shape, dtype)
    assert checks.array("x", value) is value
    assert checks.samples("x", value) is value
    found = checks.array("x", value.tolist())
    np.testing.assert_array_equal(found, value)
    assert checks.array("x", np.array(value, object)).dtype == np.float64


def test_a_memory_map_stays_one(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((3, 2)))
    assert isinstance(checks.samples("x", np.load(tmp_path / "x.npy", mmap_mode="r")), np.memmap)


def test_frames_of_mixed_numbers_are_taken():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"age": [3, 4], "tall": [True, False], "height": [1.5, 2.5]})
    np.testing.assert_array_equal(checks.samples("x", frame), [[3, 1, 1.5], [4, 0, 2.5]])
    frame["name"] = ["a", "b"]
    said = "x has columns that are no numbers: name; encode them first", "OneHotEncoder"
    refused(lambda: checks.samples("x", frame), *said, kind=TypeError)


def test_sparse_matrices_are_refused_by_name():
    from scipy import sparse

    said = "codes is a sparse matrix of shape (4, 3): give codes.toarray()", "generator"
    refused(lambda: checks.samples("codes", sparse.csr_array((4, 3))), *said, kind=TypeError)


def test_masked_arrays_are_refused_with_the_remedy():
    value = np.ma.masked_equal([1.0, 2], 2)
    refused(
        lambda: checks.array("x", value), "x is a masked array", "filled(np.nan)", "Masked", kind=TypeError
    )


@pytest.mark.parametrize(
    "value", [["a", "b"], [1j], [None, "a"], [[1, 2], [3]], np.array(["2020"], "datetime64")]
)
def test_what_holds_no_numbers_is_refused(value):
    refused(lambda: checks.array("x", value), "x must", kind=TypeError)


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (3, 0), (1, 3)])
def test_no_samples_are_refused(shape):
    refused(
        lambda: checks.samples("x", np.zeros(shape), least=2),
        "x must have the shape (n >= 2, ...)",
        f"got {shape}",
    )


few_bytes = st.integers(1, 64)


@prop
@given(st.sampled_from(["uint8", "float32"]), shapes, few_bytes, st.one_of(st.none(), st.integers(1, 7)))
def test_parts_are_views_that_join_to_the_whole(dtype, shape, part_bytes, rows):
    value = np.arange(np.prod(shape), dtype=dtype).reshape(shape)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checks, "PART_BYTES", part_bytes)
        found = list(checks.parts(value, rows=rows))
    np.testing.assert_array_equal(np.concatenate(found), value)
    assert all(np.shares_memory(part, value) for part in found)
    for part in found:
        assert len(part) == 1 or len(part) == rows or part.nbytes <= part_bytes or (rows and len(part) < rows)


@prop
@given(arrays.arrays(st.sampled_from([*FLOATS, "uint8", "int32"]), shapes), few_bytes)
def test_extent_is_that_of_the_whole(value, part_bytes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checks, "PART_BYTES", part_bytes)
        found = checks.extent(value)
    np.testing.assert_equal(found, (float(value.min()), float(value.max())))


def test_extent_of_a_number_and_of_nothing():
    assert checks.extent(np.array(3.0)) == (3, 3)
    assert checks.extent(np.array([True, False])) == (0, 1)
    assert np.isnan(checks.extent(np.zeros((0, 2)))).all()


@prop
@given(st.sampled_from(FLOATS), shapes, st.data(), few_bytes, st.integers(0, 1000))
def test_what_is_not_finite_is_counted_and_placed(dtype, shape, data, part_bytes, first_row):
    value = np.zeros(shape, dtype)
    places = data.draw(st.sets(st.integers(0, value.size - 1), min_size=1, max_size=5))
    for place in places:
        value.flat[place] = data.draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    row = first_row + min(places) // (value.size // len(value))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checks, "PART_BYTES", part_bytes)
        said = (
            f"x must be finite: {len(places)} of its {value.size} numbers",
            f"the first in row {row}; leave them out",
        )
        refused(lambda: checks.finite("x", value, remedy="leave them out", first_row=first_row), *said)
        refused(lambda: checks.within("x", value, 0, 1, remedy="leave them out"), "x must be finite")
    value[~np.isfinite(value)] = 0
    assert checks.finite("x", value) is value


@prop
@given(
    arrays.arrays("float32", shapes, elements=st.floats(-10, 10, width=32)), st.floats(-9, 0), st.floats(0, 9)
)
def test_numbers_out_of_range_are_shown(value, low, high):
    least, most = float(value.min()), float(value.max())
    if low <= least and most <= high:
        assert checks.within("x", value, low, high, remedy="rescale") is value
    else:
        said = f"x must be in [{low:g}, {high:g}], got {least:g} to {most:g}: rescale"
        refused(lambda: checks.within("x", value, low, high, remedy="rescale"), said)


def test_whole_numbers_are_always_finite_and_nothing_is_within_anything():
    value = np.arange(4, dtype="uint8")
    assert checks.finite("x", value) is value
    nothing = np.zeros((0, 3))
    assert checks.finite("x", nothing) is nothing
    assert checks.within("x", nothing, 0, 1, remedy="") is nothing


def test_long_values_are_cut():
    with pytest.raises(ValueError, match=r"got '7{199}…$"):
        checks.whole_number("k", "7" * 5000)
