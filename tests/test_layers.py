import keras
import numpy as np
import pytest
import tensorflow as tf

from aelib import layers

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


def test_sampling_draws_from_the_normal_distribution():
    mean, log_var = np.full((40_000, 2), [1.0, -2.0], "float32"), np.full((40_000, 2), [0.0, 2.0], "float32")
    layer = layers.Sampling(seed=0)
    draw = np.asarray(layer(mean, log_var))
    error = np.exp(log_var[0] / 2) / 200
    assert (abs(draw.mean(axis=0) - mean[0]) < 4 * error).all()
    assert (abs(draw.var(axis=0) / np.exp(log_var[0]) - 1) < 4 * np.sqrt(2) / 200).all()
    assert not np.array_equal(draw, layer(mean, log_var)), "each call draws afresh"
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    np.testing.assert_array_equal(copy(mean, log_var), draw)


def test_sampling_lets_gradients_through():
    mean, log_var = tf.Variable(np.zeros((3, 2), "float32")), tf.Variable(np.ones((3, 2), "float32"))
    with tf.GradientTape() as tape:
        draw = layers.Sampling(seed=0)(mean, log_var)
    by_mean, by_log_var = tape.gradient(draw, [mean, log_var])
    np.testing.assert_array_equal(by_mean, np.ones((3, 2)))
    np.testing.assert_allclose(by_log_var, draw / 2, rtol=1e-6)
