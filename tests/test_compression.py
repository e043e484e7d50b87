"""Compression: what goes in comes out to within half a step, and nothing damaged comes out at all."""

from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.preprocessing import KBinsDiscretizer

import aelib
from aelib import blocks
from aelib.compression import HEADER, Prior, allocate_bits, decode_from_bytes, encode_to_bytes

SHAPE = (4, 4, 1)


def net(units=3, seed=0):
    import keras

    keras.utils.set_random_seed(seed)
    return aelib.Autoencoder(blocks.dense_encoder(SHAPE, units), blocks.dense_decoder(SHAPE, units))


@pytest.fixture(scope="module")
def model():
    return net()


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).random((20, *SHAPE), dtype="float32")


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 6), st.floats(0.01, 3.0))
def test_the_numbers_come_back(seed, n, units, step):
    rng = np.random.default_rng(seed)
    codes = rng.normal(size=(n, units)) * 10.0 ** rng.uniform(-3, 1, units)
    prior = Prior.fit(rng.normal(size=(50, units)), step)
    grid = prior.round(codes)
    assert np.abs(prior.step * grid - codes).max() <= step * 0.5 + 1e-6
    np.testing.assert_array_equal(prior.unpack(prior.pack(grid), n), grid)
    again = Prior.from_bytes(prior.to_bytes())
    np.testing.assert_array_equal(again.unpack(prior.pack(grid), n), grid)


@pytest.mark.parametrize(("family", "draw"), [("gaussian", stats.norm), ("laplace", stats.laplace)])
def test_the_bytes_are_as_many_as_the_entropy_promises(family, draw):
    codes = draw.rvs(size=(5000, 2), random_state=0) * [5.0, 20.0]
    prior = Prior.fit(codes, 1.0)
    assert prior.family == family
    grid = prior.round(codes)
    edges = grid[..., None] + [-0.5, 0.5]
    mass = np.diff(draw.cdf(edges / np.array([5.0, 20.0])[:, None]), axis=-1)
    promised = -np.log2(mass).sum() / 8
    assert len(prior.pack(grid)) == pytest.approx(promised, rel=0.005)


@pytest.mark.parametrize("shared", [True, False])
def test_images_are_those_of_the_rounded_codes(model, images, shared):
    codes = model.encode(images)
    prior = Prior.fit(codes, 0.05)
    options = {"prior": prior} if shared else {"step": 0.05}
    data = encode_to_bytes(model, images, **options)
    known = {"prior": prior} if shared else {}
    wanted = model.decode((prior.step * prior.round(codes)).astype("float32"))
    np.testing.assert_array_equal(decode_from_bytes(model, data, **known), wanted)
    cost = len(HEADER.pack(b"", 0, 0, 0)) + len(prior.pack(prior.round(codes)))
    assert len(data) == cost + (0 if shared else len(prior.to_bytes()))


def test_a_smaller_step_costs_more_and_errs_less(model, images):
    codes = model.encode(images)
    sizes, errors = [], []
    for step in (1.0, 0.1, 0.01):
        prior = Prior.fit(codes, step)
        sizes.append(len(prior.pack(prior.round(codes))))
        errors.append(np.abs(prior.step * prior.round(codes) - codes).max())
    assert sizes == sorted(sizes)
    assert errors == sorted(errors, reverse=True)


def test_no_images_are_refused(model, images):
    with pytest.raises(ValueError, match="n >= 1"):
        encode_to_bytes(model, images[:0], step=0.1)


@pytest.mark.parametrize("shared", [True, False])
def test_every_damaged_byte_and_every_cut_is_found(model, images, shared):
    prior = Prior.fit(model.encode(images), 0.3)
    known = {"prior": prior} if shared else {}
    data = encode_to_bytes(model, images[:3], **(known or {"step": 0.3}))
    for i in range(len(data)):
        for spoilt in (data[:i], data[:i] + bytes([data[i] ^ 0x11]) + data[i + 1 :]):
            with pytest.raises(ValueError, match=r"format|checksum|prior"):
                decode_from_bytes(model, spoilt, **known)
    with pytest.raises(ValueError, match="checksum"):
        decode_from_bytes(model, data + b"x", **known)


def test_another_decoder_or_prior_is_found(model, images):
    codes = model.encode(images)
    prior, other = Prior.fit(codes, 0.3), Prior.fit(codes, 0.31)
    data = encode_to_bytes(model, images, prior=prior)
    with pytest.raises(ValueError, match="another decoder or prior"):
        decode_from_bytes(net(seed=1), data, prior=prior)
    with pytest.raises(ValueError, match="another decoder or prior"):
        decode_from_bytes(model, data, prior=other)
    with pytest.raises(ValueError, match="got None"):
        decode_from_bytes(model, data)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Prior.fit(np.zeros((0, 3)), 1.0), r"codes must have shape .*, got \(0, 3\)"),
        (
            lambda: Prior.fit([[1.0], [np.nan]], 1.0),
            "codes must be finite: 1 of its 2 .* row 1; drop or fill",
        ),
        (
            lambda: Prior.fit([[1.0]], 1.0).round([[np.inf]]),
            "codes must be finite: 1 of its 1 .* drop or fill",
        ),
        (lambda: Prior.fit([[1.0]], 0.0), "step must be > 0, got 0.0"),
        (lambda: Prior.fit([[1.0]], float("nan")), "step must be > 0, got nan"),
        (lambda: Prior.fit([[1.0]], "1"), "step must be > 0, got '1'"),
        (lambda: Prior.fit([[1.0]], 1.0).round([[1.0, 2.0]]), r"\(n, 1\), got \(1, 2\)"),
        (
            lambda: Prior.fit([[1.0]], 1.0).round([[1e6]]),
            "within 32768 steps of 1, got 1e.06: take a larger step",
        ),
        (lambda: Prior.from_bytes(b"abc"), "got 3"),
        (lambda: Prior.from_bytes(bytes(9)), "not a prior"),
    ],
)
def test_errors_show_the_value(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_either_a_prior_or_a_step(model, images):
    with pytest.raises(ValueError, match="either a prior or a step"):
        encode_to_bytes(model, images)


def kept(name):
    """The numbers in a golden file, as multiples of a quarter: whole-number arithmetic, alike everywhere."""
    line = np.arange(240)
    spread = line * 37 % 41 - 20
    if name == "gaussian":
        return spread.reshape(80, 3) * [1, 2, 8] + [0, 5, -3]
    grid = (spread**3 // 400).reshape(80, 3) * [1, 1, 3]
    grid[7, 2] = 1184  # far out in the tail, and the bytes end in a zero, which is left out
    return grid


@pytest.mark.parametrize("name", ["gaussian", "laplace"])
def test_files_are_read_for_ever_and_written_alike_everywhere(name):
    """Never write these files anew: another format gets another version, and files of its own."""
    codes = 0.25 * kept(name)
    weights = [np.arange(6, dtype="<f4")]
    decoder = SimpleNamespace(get_weights=lambda: weights)
    model = SimpleNamespace(encode=lambda x: x, decode=lambda code: code, decoder=decoder)
    data = (Path(__file__).parent / "golden" / f"compression_1_{name}.bin").read_bytes()
    found = decode_from_bytes(model, data)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, codes)
    assert Prior.from_bytes(data[11:44]).family == name
    assert encode_to_bytes(model, codes, step=0.25) == data


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=4), st.integers(0, 9), st.integers(1, 4))
def test_no_other_way_to_share_out_the_bits_errs_less(variances, bits, most):
    bits = min(bits, most * len(variances))
    ways = [way for way in product(range(most + 1), repeat=len(variances)) if sum(way) == bits]
    wanted = min(sum(v / 4**b for v, b in zip(variances, way, strict=True)) for way in ways)
    shares = allocate_bits(variances, bits, most=most)
    assert tuple(shares) in ways
    assert np.sum(variances / 4.0**shares) == pytest.approx(wanted)


def test_bits_by_hand():
    np.testing.assert_array_equal(allocate_bits([16.0, 4.0, 1.0], 6), [3, 2, 1])
    np.testing.assert_array_equal(allocate_bits([16, 4, 1], 0), [0, 0, 0])
    np.testing.assert_array_equal(allocate_bits([1.0, 0.0], 5, most=4), [4, 1])


def test_bits_tuned_beat_equal_ones_in_real_quantizers():
    codes = np.random.default_rng(0).normal(size=(2000, 4)) * [8, 2, 1, 0.1]

    def error(bits):
        rounded = np.tile(codes.mean(axis=0), (len(codes), 1))
        bins = KBinsDiscretizer(
            2 ** bits[bits > 0], encode="ordinal", strategy="kmeans", subsample=None, random_state=0
        )
        used = codes[:, bits > 0]
        rounded[:, bits > 0] = bins.inverse_transform(bins.fit_transform(used))
        return np.square(rounded - codes).mean()

    tuned = allocate_bits(codes.var(axis=0), 8)
    assert tuned.sum() == 8
    assert error(tuned) < error(np.full(4, 2)) / 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[1.0]], 1), r"variances must have shape \(K,\), got \(1, 1\): take codes.var"),
        (([], 1), r"variances must have the shape .* got \(0,\)"),
        (([1.0, -2.0], 1), r"variances must be in \[0, inf\], got -2 to 1: take codes.var"),
        (([np.nan], 1), "variances must be finite: 1 of its 1"),
        (([1.0], -1), "bits must be a whole number >= 0, got -1"),
        (([1.0, 1.0], 33), "bits must be at most 32, 16 for each of 2 numbers, got 33: raise most"),
    ],
)
def test_bits_that_cannot_be_shared_out_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        allocate_bits(*arguments)
