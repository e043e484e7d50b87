import keras
import numpy as np
import pytest
import tensorflow as tf

from aelib import layers

N = 40_000
X = np.random.default_rng(0).uniform(0.2, 0.8, (4, N // 4)).astype("float32")
ROWS = [
    (layers.GaussianNoise, {"stddev": 0.25}),
    (layers.GaussianNoise, {"stddev": 0.5, "clip": False}),
    (layers.MaskingNoise, {"rate": 0.3}),
    (layers.SaltAndPepperNoise, {"rate": 0.3}),
]
every_layer = pytest.mark.parametrize(("kind", "options"), ROWS)


def corrupted(layer, x=X):
    return keras.ops.convert_to_numpy(layer(x, training=True))


def assert_rate(hits, rate):
    """A share of `hits` within 4 standard errors of `rate`."""
    assert abs(np.mean(hits) - rate) < 4 * np.sqrt(rate * (1 - rate) / np.size(hits))


@every_layer
def test_layer_contract(kind, options):
    layer = kind(**options, seed=3)
    first, second = corrupted(layer), corrupted(layer)
    assert first.shape == X.shape
    assert first.dtype == X.dtype
    assert not np.array_equal(first, X)
    assert not np.array_equal(first, second), "each call draws afresh"
    np.testing.assert_array_equal(corrupted(kind(**options, seed=3)), first)
    assert not np.array_equal(corrupted(kind(**options, seed=4)), first)
    np.testing.assert_array_equal(layer(X), X)
    np.testing.assert_array_equal(layer(X, training=False), X)

    config = layer.get_config()
    assert config["seed"] == 3
    assert {name: config[name] for name in options} == options
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(copy) is kind
    assert copy.get_config() == config
    np.testing.assert_array_equal(corrupted(copy), first)


@every_layer
def test_layer_inside_a_functional_model(kind, options):
    inputs = keras.Input((3, None, 1))
    model = keras.Model(inputs, kind(**options, seed=1)(inputs))
    assert model.output_shape == (None, 3, None, 1)
    x = X[:, :6].reshape(4, 3, 2, 1)
    np.testing.assert_array_equal(model.predict(x, verbose=0), x)
    assert not np.array_equal(model(x, training=True), x)


@every_layer
def test_compute_output_shape(kind, options):
    assert kind(**options).compute_output_shape((None, 5, 2)) == (None, 5, 2)


def test_gaussian_noise_is_no_brightness_shift():
    noise = corrupted(layers.GaussianNoise(0.25, clip=False, seed=0)) - X
    assert abs(noise.mean()) < 4 * 0.25 / np.sqrt(N)
    assert abs(noise.std() - 0.25) < 4 * 0.25 / np.sqrt(2 * N)


def test_gaussian_noise_is_independent_of_feature_and_sample():
    noise = corrupted(layers.GaussianNoise(1.0, clip=False, seed=0)) - X
    correlations = np.corrcoef(noise)[np.triu_indices(4, 1)]
    assert np.abs(correlations).max() < 4 / np.sqrt(N // 4)
    assert abs(np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1]) < 4 / np.sqrt(N)


def test_clip_keeps_the_range():
    clipped = corrupted(layers.GaussianNoise(1.0, seed=0))
    free = corrupted(layers.GaussianNoise(1.0, clip=False, seed=0))
    assert (free.min() < 0, free.max() > 1) == (True, True)
    np.testing.assert_array_equal(clipped, np.clip(free, 0, 1))


def test_masking_leaves_the_survivors_as_they_are():
    masked = corrupted(layers.MaskingNoise(0.3, seed=0))
    assert_rate(masked == 0, 0.3)
    np.testing.assert_array_equal(masked[masked != 0], X[masked != 0])


def test_salt_and_pepper_rates():
    noisy = corrupted(layers.SaltAndPepperNoise(0.3, seed=0))
    assert_rate(noisy == 0, 0.15)
    assert_rate(noisy == 1, 0.15)
    kept = (noisy != 0) & (noisy != 1)
    np.testing.assert_array_equal(noisy[kept], X[kept])


@pytest.mark.parametrize("kind", [layers.MaskingNoise, layers.SaltAndPepperNoise])
def test_rates_of_nothing_and_everything(kind):
    np.testing.assert_array_equal(corrupted(kind(0)), X)
    assert np.isin(corrupted(kind(1)), [0, 1]).all()


def test_no_noise_is_the_identity():
    np.testing.assert_array_equal(corrupted(layers.GaussianNoise(0)), X)


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (layers.GaussianNoise, -0.1, "stddev must be >= 0, got -0.1"),
        (layers.GaussianNoise, float("nan"), "stddev must be >= 0, got nan"),
        (layers.MaskingNoise, 1.5, r"rate must be in \[0, 1\], got 1.5"),
        (layers.SaltAndPepperNoise, -1, r"rate must be in \[0, 1\], got -1"),
        (layers.SaltAndPepperNoise, float("nan"), r"rate must be in \[0, 1\], got nan"),
    ],
)
def test_bad_arguments_are_shown(kind, value, message):
    with pytest.raises(ValueError, match=message):
        kind(value)


CODES = np.float32([[3, 1, 2, 0], [-1, -4, -2, -3], [0.5, 0.1, 0.2, 0.4]])


def test_k_sparse_keeps_the_largest_of_every_code():
    expected = [[3, 0, 2, 0], [-1, 0, -2, 0], [0.5, 0, 0, 0.4]]
    for training in (True, False):
        kept = layers.KSparse(2)(CODES, training=training)
        np.testing.assert_array_equal(kept, np.float32(expected))


def test_k_sparse_of_a_batch_gives_rich_samples_more():
    layer = layers.KSparse(1, per="batch")
    expected = [[3, 1, 2, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(layer(CODES, training=True), expected)
    np.testing.assert_array_equal(layer(CODES + 1, training=True), [[4, 2, 3, 0], [0] * 4, [0] * 4])
    assert float(layer.border) == pytest.approx(1.5), "the mean of the borders 1 and 2"
    np.testing.assert_array_equal(layer(CODES), [[3, 0, 2, 0], [0] * 4, [0] * 4])
    np.testing.assert_array_equal(layer(CODES[:1]), [[3, 0, 2, 0]], "a code by itself is the same")


def test_border_of_many_batches_is_a_running_mean():
    layer = layers.KSparse(1, per="batch")
    for value in [1.0] * 100 + [2.0] * 50:
        layer(np.full((1, 2), value, "float32") - [0, 1], training=True)
    assert float(layer.border) == pytest.approx(2 - 0.99**50, rel=1e-4)


@pytest.mark.parametrize("per", ["sample", "batch"])
def test_k_sparse_contract(per):
    layer = layers.KSparse(3, per=per)
    x = np.random.default_rng(0).normal(size=(6, 8)).astype("float32")
    with tf.GradientTape() as tape:
        t = tf.constant(x)
        tape.watch(t)
        kept = layer(t, training=True)
        total = tf.reduce_sum(5 * kept)
    gradient = tape.gradient(total, t)
    assert np.count_nonzero(kept) == 18
    np.testing.assert_array_equal(gradient, np.where(kept != 0, 5, 0), "through the kept ones, unchanged")
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert (copy.k, copy.per) == (3, per)
    assert layer.compute_output_shape((None, 8)) == (None, 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k must be a whole number >= 1, got 0"),
        ({"k": 1.5}, "k must be a whole number >= 1, got 1.5"),
        ({"k": True}, "k must be a whole number >= 1, got True"),
        ({"k": 1, "per": "pixel"}, "per must be 'sample' or 'batch', got 'pixel'"),
    ],
)
def test_wrong_k_sparse_is_shown(options, message):
    with pytest.raises(ValueError, match=message):
        layers.KSparse(**options)


@pytest.mark.parametrize("shape", [(2, 3), (2, 5, 4)])
def test_codes_too_short_are_shown(shape):
    with pytest.raises(ValueError, match=r"codes must have shape \(B, >= 4\), got"):
        layers.KSparse(4)(np.ones(shape))


def test_tied_dense_is_the_transpose():
    source = keras.layers.Dense(3)
    source.build((None, 5))
    layer = layers.TiedDense(source, activation="tanh")
    code = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    layer(code)
    layer.bias.assign(np.arange(5))
    np.testing.assert_allclose(layer(code), np.tanh(code @ source.kernel.numpy().T + np.arange(5)), rtol=1e-5)
    assert layer.compute_output_shape((None, 3)) == (None, 5)
    assert [w.shape for w in layer.trainable_weights if w is not source.kernel and w is not source.bias] == [
        (5,)
    ]


def test_wrong_tied_dense_is_shown():
    with pytest.raises(ValueError, match="source must be a dense layer that has been built, got <Dense"):
        layers.TiedDense(keras.layers.Dense(3))
    source = keras.layers.Dense(3)
    source.build((None, 5))
    with pytest.raises(ValueError, match=r"codes of 3, got inputs of shape \(2, 4\)"):
        layers.TiedDense(source)(np.ones((2, 4)))
