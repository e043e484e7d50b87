"""`aelib.book.quantized`: nets in 8 bits against Keras, layer by layer."""

import base64

import keras
import numpy as np
import pytest
from keras import layers

from aelib import blocks
from aelib.book.quantized import QuantizedNet, Weights, encoded
from aelib.layers import MaskingNoise

RNG = np.random.default_rng(0)


def exactly(model):
    """Round every kernel to 8 bits, so that Keras computes with the very weights of the page."""
    for layer in model.layers:
        if hasattr(layer, "kernel"):
            kernel = layer.get_weights()[0]
            swapped = isinstance(layer, layers.Conv2DTranspose)
            kernel = kernel.swapaxes(2, 3) if swapped else kernel
            kernel = Weights.of(kernel).floats
            bias = RNG.normal(size=layer.get_weights()[1].shape) if layer.use_bias else None
            layer.set_weights(
                [kernel.swapaxes(2, 3) if swapped else kernel] + ([] if bias is None else [bias])
            )
    return model


def both(stack, shape):
    model = exactly(keras.Sequential([keras.Input(shape), *stack]))
    x = RNG.normal(size=(3, *shape)).astype("float32")
    return QuantizedNet.from_keras(model), model, x


def test_rounding_is_within_half_a_step_of_each_channel():
    weights = RNG.uniform(-1, 1, size=(3, 3, 5, 7)).astype("float32") * np.arange(7)
    eight = Weights.of(weights)
    assert eight.values.dtype == np.int8
    assert (eight.gain.shape, eight.scale.shape) == ((45,), (7,))
    largest = np.abs(weights).max(axis=(0, 1, 2))
    assert (np.abs(eight.floats - weights) <= largest / 254 + 1e-6).all()
    assert not eight.floats[..., 0].any()


@pytest.mark.parametrize("axis", [0, 1])
def test_a_row_or_a_column_of_large_weights_leaves_the_others_their_precision(axis):
    weights = RNG.uniform(-1, 1, size=(6, 5)).astype("float32")
    large = weights.copy()
    np.moveaxis(large, axis, 0)[2] *= 100
    rest = np.arange(large.shape[axis]) != 2
    wrong = np.abs(Weights.of(large).floats - large).compress(rest, axis)
    assert wrong.max() <= 1 / 254 + 1e-6


def test_arrays_are_stored_as_bytes():
    assert base64.b64decode(encoded(np.int8([[1, -2], [3, 4]]))) == b"\x01\xfe\x03\x04"
    assert base64.b64decode(encoded(np.float32([1.0]))) == b"\x00\x00\x80\x3f"


STACKS = {
    "dense": ([layers.Dense(4)], (6,)),
    "dense without bias": ([layers.Dense(4, use_bias=False)], (6,)),
    "dense on the last axis": ([layers.Dense(4, "tanh")], (3, 2, 5)),
    "flatten and reshape": ([layers.Flatten(), layers.Dense(6), layers.Reshape((3, 2))], (4, 2, 1)),
    "reshape with -1": ([layers.Reshape((-1, 2))], (6,)),
    "idle": ([layers.Dropout(0.5), layers.GaussianNoise(1.0), MaskingNoise(0.5), layers.Dense(2)], (5,)),
    "average": ([layers.Conv2D(3, 2), layers.GlobalAveragePooling2D(), layers.Dense(2)], (5, 4, 1)),
    "average with axes": ([layers.GlobalAveragePooling2D(keepdims=True)], (5, 4, 2)),
    "up": ([layers.UpSampling2D((2, 3))], (3, 4, 2)),
    "crop": ([layers.Cropping2D(((1, 0), (2, 1)))], (5, 6, 2)),
    "crop nothing": ([layers.Cropping2D(0)], (5, 6, 2)),
    "relu layer": ([layers.ReLU()], (7,)),
    "relu layer with slope": ([layers.ReLU(negative_slope=0.1)], (7,)),
    "leaky layer": ([layers.LeakyReLU(negative_slope=0.05)], (7,)),
    "elu layer": ([layers.ELU(alpha=0.7)], (7,)),
    "activation layer": ([layers.Dense(3), layers.Activation("gelu")], (7,)),
    "activation as a layer": ([layers.Dense(3, activation=layers.LeakyReLU(negative_slope=0.3))], (7,)),
    "alone": ([layers.Activation("tanh"), layers.Activation("linear")], (7,)),
}
STACKS |= {
    f"activation {name}": ([layers.Dense(5, name)], (6,))
    for name in (
        "linear", "relu", "sigmoid", "tanh", "silu", "swish", "gelu", "leaky_relu", "elu", "softplus",
    )
}  # fmt: skip
for padding in ("same", "valid"):
    for strides in (1, 2, (1, 3)):
        for side in (1, 3, (4, 2)):
            name = f"{padding}, strides {strides}, kernel {side}"
            options = {"strides": strides, "padding": padding}
            STACKS[f"convolution {name}"] = ([layers.Conv2D(3, side, **options)], (7, 6, 2))
            STACKS[f"transposed {name}"] = ([layers.Conv2DTranspose(3, side, **options)], (4, 5, 2))
            STACKS[f"max {name}"] = ([layers.MaxPooling2D(side, **options)], (7, 6, 2))
STACKS["transposed with output padding"] = (
    [layers.Conv2DTranspose(2, 3, 2, "same", output_padding=1)],
    (4, 5, 1),
)
STACKS["transposed, valid, with output padding"] = (
    [layers.Conv2DTranspose(2, 3, 2, "valid", output_padding=1)],
    (4, 5, 1),
)


@pytest.mark.parametrize("name", STACKS)
def test_each_layer_computes_what_keras_computes(name):
    net, model, x = both(*STACKS[name])
    expected = model.predict(x, verbose=0)
    found = net.evaluate(x)
    assert net.output_shape == expected.shape[1:]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("kind", ["dense", "convolution", "transposed"])
def test_batch_normalisation_is_folded_where_nothing_lies_between(kind, activation):
    make = {
        "dense": lambda: layers.Dense(4, activation),
        "convolution": lambda: layers.Conv2D(4, 3, activation=activation),
        "transposed": lambda: layers.Conv2DTranspose(4, 3, 2, activation=activation),
    }[kind]
    model = keras.Sequential(
        [keras.Input((5,) if kind == "dense" else (5, 5, 2)), make(), layers.BatchNormalization()]
    )
    mean, variance, gamma = RNG.normal(size=4), RNG.uniform(0.5, 2, 4), RNG.uniform(0.5, 2, 4)
    model.layers[-1].set_weights([gamma, RNG.normal(size=4), mean, variance])
    net = QuantizedNet.from_keras(model)
    assert len(net.operations) == (2 if activation else 1)
    x = RNG.normal(size=(3, *net.input_shape)).astype("float32")
    expected = model.predict(x, verbose=0)
    np.testing.assert_allclose(net.evaluate(x), expected, atol=0.02 * np.abs(expected).max())


def test_weights_of_8_bits_change_little():
    encoder = blocks.conv_encoder((12, 12, 1), 4, filters=(8, 8))
    decoder = blocks.conv_decoder((12, 12, 1), 4, filters=(8, 8))
    x = RNG.random((5, 12, 12, 1), "float32")
    net = QuantizedNet.from_keras(encoder) + QuantizedNet.from_keras(decoder).then("sigmoid")
    own = keras.ops.convert_to_numpy(keras.ops.sigmoid(decoder(encoder(x))))
    assert 0 < np.abs(net.evaluate(x) - own).max() < 0.005
    # Any shape with as many numbers will do.
    np.testing.assert_array_equal(net.evaluate(x.reshape(5, 144)), net.evaluate(x))


def test_functional_chains_and_models_within_models():
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(3, "relu"), layers.Dense(2)], name="inner")
    wide = keras.Input((6,))
    model = keras.Model(wide, layers.Activation("tanh")(inner(layers.Dense(4)(wide))))
    x = RNG.normal(size=(3, 6)).astype("float32")
    net = QuantizedNet.from_keras(model)
    assert len(net.operations) == 3
    np.testing.assert_allclose(net.evaluate(x), model.predict(x, verbose=0), atol=0.05)


def test_the_first_outputs_are_the_means():
    encoder = blocks.dense_encoder(6, 2 * 3, hidden=5)
    x = RNG.normal(size=(4, 6)).astype("float32")
    means = QuantizedNet.from_keras(encoder, outputs=3)
    assert means.output_shape == (3,)
    np.testing.assert_allclose(
        means.evaluate(x), QuantizedNet.from_keras(encoder).evaluate(x)[:, :3], atol=0.02
    )


def test_nets_join_where_their_numbers_agree():
    one, two = (QuantizedNet.from_keras(blocks.dense_decoder(shape, 4, hidden=())) for shape in ((2, 2), 3))
    assert (one + two).evaluate(np.ones((2, 4))).shape == (2, 3)
    with pytest.raises(ValueError, match=r"outputs \(3,\) and inputs \(4,\)"):
        two + one
    with pytest.raises(ValueError, match=r"x must have shape \(n, 4\), got \(2, 5\)"):
        one.evaluate(np.ones((2, 5)))


class Doubled(layers.Dense):
    def call(self, x):
        return 2 * super().call(x)


def joined():
    x = keras.Input((3,))
    return keras.Model(x, layers.Add(name="sum")([layers.Dense(3)(x), x]))


def operation():
    x = keras.Input((3,))
    return keras.Model(x, keras.ops.sigmoid(layers.Dense(3)(x)))


def sequential(*stack, shape=(4, 4, 2)):
    return keras.Sequential([keras.Input(shape), *stack], name="net")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: sequential(layers.LayerNormalization(name="ln")),
            r"ln \(LayerNorm.*a live figure reads Dense",
        ),
        (lambda: sequential(Doubled(3, name="twice")), r"twice \(Doubled\) cannot run"),
        (lambda: sequential(layers.GRU(3, name="gru"), shape=(4, 2)), "layer gru"),
        (lambda: sequential(layers.Conv2D(3, 2, dilation_rate=2, name="c")), "c .*dilation_rate=.*must be 1"),
        (lambda: sequential(layers.Conv2D(2, 2, groups=2, name="c")), "c .*groups=2: both must be 1"),
        (
            lambda: sequential(layers.UpSampling2D(2, interpolation="bilinear", name="u")),
            "u .*'bilinear': use 'nearest'",
        ),
        (
            lambda: sequential(layers.MaxPooling2D(2, data_format="channels_first", name="m")),
            "m .*channels first",
        ),
        (lambda: sequential(layers.BatchNormalization(axis=1, name="b")), "b .*axis=1: use -1"),
        (
            lambda: sequential(layers.Dense(3, "softmax", name="d")),
            "d .*activation softmax: use one of linear",
        ),
        (lambda: sequential(layers.ReLU(max_value=6, name="r")), "r .*max_value=6"),
        (joined, "sum .*joins 2 tensors"),
        (operation, "applies the operation sigmoid.*: use a layer"),
        (lambda: keras.Sequential([layers.Dense(3)], name="unbuilt"), "unbuilt must read one array"),
        (lambda: sequential(layers.Conv2D(2, 2), shape=(None, 4, 1)), "net must read one array of a fixed"),
    ],
)
def test_what_cannot_run_in_the_page_is_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        QuantizedNet.from_keras(make())


def test_means_need_a_dense_end():
    with pytest.raises(ValueError, match=r"net must end in a Dense layer of at least 3.*got Flatten"):
        QuantizedNet.from_keras(sequential(layers.Flatten()), outputs=3)
