import keras
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aelib import blocks

sides = st.integers(1, 33)


def composed_shape(encoder, decoder):
    return decoder(encoder(keras.Input(encoder.input_shape[1:]))).shape[1:]


@settings(deadline=None, max_examples=25, derandomize=True)
@given(sides, sides, st.integers(1, 4), st.integers(0, 3), st.sampled_from(["transposed", "nearest"]))
@example(1, 1, 1, 3, "transposed")
@example(33, 1, 3, 3, "nearest")
@example(28, 28, 1, 3, "transposed")
def test_convolutional_shapes(height, width, channels, stages, upsample):
    shape = (height, width, channels)
    encoder = blocks.conv_encoder(shape, 2, filters=(2,) * stages)
    decoder = blocks.conv_decoder(shape, 2, filters=(2,) * stages, upsample=upsample)
    assert encoder.output_shape == (None, 2)
    assert decoder.output_shape == (None, *shape)
    assert composed_shape(encoder, decoder) == shape


@settings(deadline=None, max_examples=10, derandomize=True)
@given(st.integers(1, 150), st.integers(1, 3), st.integers(0, 3), st.sampled_from(["transposed", "nearest"]))
@example(140, 1, 3, "transposed")
def test_convolutional_shapes_of_sequences(length, channels, stages, upsample):
    shape = (length, channels)
    encoder = blocks.conv_encoder(shape, 2, filters=(2,) * stages, kernel=5)
    decoder = blocks.conv_decoder(shape, 2, filters=(2,) * stages, kernel=5, upsample=upsample)
    assert encoder.output_shape == (None, 2)
    assert composed_shape(encoder, decoder) == shape


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_recurrent_shapes_and_parameters(cell):
    encoder = blocks.recurrent_encoder((7, 2), 3, units=(5, 4), cell=cell)
    decoder = blocks.recurrent_decoder((7, 2), 3, units=(4,), cell=cell)
    assert composed_shape(encoder, decoder) == (7, 2)
    gates = {"lstm": (4, 1), "gru": (3, 2)}[cell]  # a GRU of Keras has two biases
    first, second = (gates[0] * n * (n + before + gates[1]) for n, before in ((5, 2), (4, 5)))
    assert encoder.count_params() == first + second + (4 + 1) * 3
    assert np.isfinite(decoder(encoder(np.ones((2, 7, 2), "float32")))).all()


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_padding_never_changes_the_code(cell):
    encoder = blocks.recurrent_encoder((None, 2), 3, units=(5, 4), cell=cell, mask_value=-1.0)
    x = np.random.default_rng(0).random((4, 6, 2), dtype="float32")
    short = encoder(x[:, :4])
    for length in (4, 5, 9):
        padded = np.full((4, length, 2), -1.0, "float32")
        padded[:, :4] = x[:, :4]
        np.testing.assert_allclose(encoder(padded), short, atol=1e-6)
    assert not np.allclose(encoder(x), short), "real steps do"
    unmasked = blocks.recurrent_encoder((None, 2), 3, units=(5, 4), cell=cell)
    unmasked.set_weights(encoder.get_weights())
    assert not np.allclose(unmasked(padded), short), "without a mask, padding does"


@settings(deadline=None, max_examples=10, derandomize=True)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.lists(st.integers(1, 5), max_size=3))
def test_dense_shapes(shape, hidden):
    encoder = blocks.dense_encoder(shape, 2, hidden=hidden)
    decoder = blocks.dense_decoder(shape, 2, hidden=hidden[::-1])
    assert encoder.output_shape == (None, 2)
    assert composed_shape(encoder, decoder) == tuple(shape)


@pytest.mark.parametrize("upsample", ["transposed", "nearest"])
@pytest.mark.parametrize("shape", [(7, 10, 3), (1, 5, 1)])
def test_convolutional_shapes_hold_when_run(shape, upsample):
    x = np.ones((2, *shape), "float32")
    code = blocks.conv_encoder(shape, 3, filters=(2, 2))(x)
    decoder = blocks.conv_decoder(shape, 3, filters=(2, 2), upsample=upsample)
    assert decoder(code).shape == x.shape


def test_parameters_of_the_reference_net():
    assert blocks.dense_encoder((28, 28, 1), 20, hidden=(100,)).count_params() == 80_520
    assert blocks.dense_decoder((28, 28, 1), 20, hidden=(100,)).count_params() == 81_284


def test_parameters_of_a_convolutional_net():
    encoder = blocks.conv_encoder((28, 28, 1), 16, filters=(8, 4), kernel=5)
    assert encoder.count_params() == (25 * 8 + 8) + (25 * 8 * 4 + 4) + (7 * 7 * 4 * 16 + 16)
    decoder = blocks.conv_decoder((28, 28, 1), 16, filters=(4, 8), kernel=5)
    dense = 16 * 7 * 7 * 4 + 7 * 7 * 4
    assert decoder.count_params() == dense + (25 * 4 * 4 + 4) + (25 * 4 * 8 + 8) + (25 * 8 + 1)


@pytest.mark.parametrize(
    ("decoder", "options"),
    [
        (blocks.dense_decoder, {"hidden": (5,)}),
        (blocks.conv_decoder, {"filters": (2,), "upsample": "transposed"}),
        (blocks.conv_decoder, {"filters": (2,), "upsample": "nearest"}),
        (blocks.conv_decoder, {"filters": ()}),
    ],
)
def test_output_is_raw(decoder, options):
    """Logits leave [0, 1] on both sides, and twice the last weights are twice the output."""
    model = decoder((4, 4, 1), 3, **options)
    code = np.random.default_rng(0).normal(0, 10, (20, 3)).astype("float32")
    raw = model.predict(code, verbose=0)
    assert raw.min() < 0
    assert raw.max() > 1
    last = model.get_layer("raw")
    last.set_weights([2 * w for w in last.get_weights()])
    np.testing.assert_allclose(model.predict(code, verbose=0), 2 * raw, rtol=1e-5, atol=1e-5)


def test_output_is_bounded_only_on_request():
    model = blocks.dense_decoder((4, 4, 1), 3, output_activation="sigmoid")
    pixels = model.predict(np.random.default_rng(0).normal(0, 10, (20, 3)), verbose=0)
    assert pixels.min() >= 0
    assert pixels.max() <= 1
    assert pixels.std() > 0


@pytest.mark.parametrize("encoder", [blocks.dense_encoder, blocks.conv_encoder])
def test_code_is_linear_unless_asked(encoder):
    x = np.random.default_rng(0).normal(0, 10, (20, 4, 4, 1)).astype("float32")
    assert encoder((4, 4, 1), 3).predict(x, verbose=0).min() < 0
    assert encoder((4, 4, 1), 3, code_activation="relu").predict(x, verbose=0).min() == 0


def test_activation_reaches_the_hidden_layers():
    for model in (
        blocks.dense_encoder((4, 4, 1), 3, activation="tanh"),
        blocks.dense_decoder((4, 4, 1), 3, activation="tanh"),
        blocks.conv_encoder((4, 4, 1), 3, activation="tanh"),
        blocks.conv_decoder((4, 4, 1), 3, activation="tanh"),
        blocks.conv_decoder((4, 4, 1), 3, activation="tanh", upsample="nearest"),
    ):
        names = [layer.activation.__name__ for layer in model.layers if hasattr(layer, "activation")]
        assert names == ["tanh"] * (len(names) - 1) + ["linear"]


def test_whole_numbers_of_other_types():
    assert blocks.dense_encoder(np.ones((4, 3)).shape, 2).input_shape == (None, 4, 3)
    assert blocks.dense_decoder(np.array([4, 3]), 2).output_shape == (None, 4, 3)
    encoder = blocks.conv_encoder((np.int32(8), 8, 1), np.int64(3), filters=np.array([2]), kernel=np.uint8(3))
    assert encoder.output_shape == (None, 3)


def test_one_number_stands_for_a_tuple_of_one():
    for one, many in (
        (blocks.dense_encoder(784, 32, hidden=64), blocks.dense_encoder((784,), 32, hidden=(64,))),
        (blocks.dense_decoder(784, 32, hidden=64), blocks.dense_decoder((784,), 32, hidden=(64,))),
        (blocks.conv_encoder((8, 8, 1), 2, filters=8), blocks.conv_encoder((8, 8, 1), 2, filters=(8,))),
        (blocks.conv_decoder((8, 8, 1), 2, filters=8), blocks.conv_decoder((8, 8, 1), 2, filters=(8,))),
        (blocks.recurrent_encoder((5, 1), 2, units=4), blocks.recurrent_encoder((5, 1), 2, units=(4,))),
        (blocks.recurrent_decoder((5, 1), 2, units=4), blocks.recurrent_decoder((5, 1), 2, units=(4,))),
    ):
        assert [w.shape for w in one.weights] == [w.shape for w in many.weights]


@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.lists(st.integers(1, 600), min_size=1, max_size=3))
@example([28, 28])
@example([1024, 1024])
def test_default_filters_leave_few_positions(sizes):
    filters = blocks.default_filters((*sizes, 3))
    positions = np.prod([-(-size // 2 ** len(filters)) for size in sizes])
    before = np.prod([-(-size // 2 ** (len(filters) - 1)) for size in sizes])
    assert positions <= 64
    assert before > 64 or len(filters) == 2
    assert filters == tuple([32, 64, *[128] * len(filters)][: len(filters)])


@pytest.mark.parametrize(
    ("shape", "filters", "parameters"),
    [
        ((28, 28, 1), (32, 64), (119_200, 159_169)),
        ((32, 32, 3), (32, 64), None),
        ((64, 64, 3), (32, 64, 128), (355_424, 511_043)),
        ((256, 256, 3), (32, 64, 128, 128, 128), (650_592, 806_211)),
        ((140, 1), (32, 64), None),
        ((16, 16, 16, 1), (32, 64), None),
    ],
)
def test_depth_goes_with_the_size(shape, filters, parameters):
    """The figures of the docstring, which are small at any size."""
    assert blocks.default_filters(shape) == filters
    encoder, decoder = blocks.conv_encoder(shape, 32), blocks.conv_decoder(shape, 32)
    found = [layer.filters for layer in encoder.layers if hasattr(layer, "filters")]
    assert tuple(found) == filters
    found = [layer.filters for layer in decoder.layers if hasattr(layer, "filters")]
    assert tuple(found) == (*filters[::-1], shape[-1])
    assert composed_shape(encoder, decoder) == shape
    if parameters:
        assert (encoder.count_params(), decoder.count_params()) == parameters
        assert all(f"{number:,}" in blocks.conv_encoder.__doc__ for number in parameters)


@pytest.mark.parametrize("upsample", ["transposed", "nearest"])
@pytest.mark.parametrize("shape", [(5, 4, 3, 2), (8, 8, 8, 1)])
def test_volumes(shape, upsample):
    encoder = blocks.conv_encoder(shape, 3, filters=(2, 2), kernel=(3, 1, 3))
    decoder = blocks.conv_decoder(shape, 3, filters=(2, 2), upsample=upsample)
    assert [layer.kernel_size for layer in encoder.layers[:2]] == [(3, 1, 3)] * 2
    x = np.random.default_rng(0).random((2, *shape), dtype="float32")
    assert decoder(encoder(x)).shape == x.shape


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        (
            (28, 28),
            "takes (28, 28) for (length, channels): 28 channels; where they have one channel, give (28, 28,",
        ),
        ((8, 8, 8), "for (height, width, channels): 8 channels"),
        ((28, 28, 1), ""),
        ((9, 4), ""),
    ],
)
def test_a_forgotten_axis_is_told(shape, said, capsys):
    blocks.conv_encoder(shape, 2, filters=2)
    printed = capsys.readouterr().out
    assert said in printed
    assert printed.count("\n") == (1 if said else 0)


@pytest.mark.parametrize("value", [float("nan"), np.float32("nan"), float("inf")])
def test_a_mask_value_of_nan_is_refused_with_the_remedy(value):
    with pytest.raises(
        ValueError, match=r"mask_value .* got (nan|inf)\. .*Masked\('gaussian', fill=v\).*mask_value=v"
    ):
        blocks.recurrent_encoder((None, 2), 3, mask_value=value)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: blocks.dense_encoder((), 2), r"input_shape must have at least one axis, got \(\)"),
        (lambda: blocks.dense_encoder((0,), 2), r"every axis of input_shape .* >= 1, got 0"),
        (lambda: blocks.dense_encoder((2.5,), 2), "got 2.5"),
        (lambda: blocks.dense_encoder((4,), 0), "code must be a whole number >= 1, got 0"),
        (lambda: blocks.dense_encoder((4,), True), "code .* got True"),
        (lambda: blocks.dense_encoder((4,), 2, hidden=(3, -1)), "hidden .* got -1"),
        (lambda: blocks.dense_decoder((4,), 2.0), "code .* got 2.0"),
        (lambda: blocks.dense_decoder((4, -4), 2), "every axis of output_shape .* got -4"),
        (
            lambda: blocks.conv_encoder((9, 9, 9, 9, 1), 2),
            r"\(height, width, channels\) or .*, got \(9, 9, 9, 9, 1\)",
        ),
        (
            lambda: blocks.conv_encoder(28, 2),
            r"input_shape must have \(length, channels\) or .*, got \(28,\)",
        ),
        (lambda: blocks.conv_encoder((8, 8, 1), 2, kernel=0), "kernel .* got 0"),
        (lambda: blocks.conv_decoder((8, 8, 1), 2, kernel=(3, 3, 3)), r"each of 2 axes, got \(3, 3, 3\)"),
        (lambda: blocks.default_filters((8,)), r"shape must have .*, got \(8,\)"),
        (lambda: blocks.recurrent_encoder(9, 2), r"\(length, features\), got \(9,\)"),
        (lambda: blocks.recurrent_encoder((9, None), 2), "every axis of input_shape .* got None"),
        (lambda: blocks.recurrent_encoder((9, 1), 2, units=()), "units must be at least one .* got none"),
        (lambda: blocks.recurrent_decoder((9, 1), 2, units=[]), "units must be at least one .* got none"),
        (lambda: blocks.recurrent_encoder((9, 1), 2, mask_value="0"), "mask_value .* got '0'"),
        (lambda: blocks.conv_encoder((8, 8, 1), 2, filters=(0,)), "filters .* got 0"),
        (lambda: blocks.conv_decoder((28,), 2), r"\(length, channels\) or .*, got \(28,\)"),
        (lambda: blocks.recurrent_encoder((9, 9, 1), 2), r"\(length, features\), got \(9, 9, 1\)"),
        (lambda: blocks.recurrent_encoder((9, 1), 2, units=(0,)), "units .* got 0"),
        (lambda: blocks.recurrent_decoder((9, 1), 2, cell="rnn"), "cell must be one of gru, lstm; got 'rnn'"),
        (lambda: blocks.recurrent_decoder((None, 1), 2), "every axis of output_shape .* got None"),
        (lambda: blocks.conv_decoder((8, 8, 1), 2, filters=("4",)), "filters .* got '4'"),
        (lambda: blocks.conv_decoder((8, 8, 1), 2, upsample="bilinear"), "upsample .* got 'bilinear'"),
        (lambda: blocks.conv_decoder((8, 8, 1), 0), "code .* got 0"),
    ],
)
def test_bad_arguments_are_shown(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_a_condition_joins_the_last_axis():
    seen = keras.Sequential([keras.Input((2, 3, 5)), keras.layers.Rescaling(1.0)])
    x, known = np.ones((4, 2, 3, 2)), np.arange(12).reshape(4, 3)
    both = np.asarray(blocks.with_condition(seen, 3)([x, known]))
    np.testing.assert_array_equal(both[..., :2], x)
    np.testing.assert_array_equal(both[..., 2:], np.broadcast_to(known[:, None, None], (4, 2, 3, 3)))
    flat = keras.Sequential([keras.Input((5,)), keras.layers.Rescaling(1.0)])
    both = np.asarray(blocks.with_condition(flat, 3)([np.ones((4, 2)), known]))
    np.testing.assert_array_equal(both, np.concatenate([np.ones((4, 2)), known], axis=1))


@pytest.mark.parametrize("shape", [(3,), (None, 5)])
def test_a_condition_needs_room(shape):
    net = keras.Sequential([keras.Input(shape), keras.layers.Rescaling(1.0)])
    with pytest.raises(ValueError, match="fixed shape whose last axis is longer than the condition, 3; got"):
        blocks.with_condition(net, 3)
