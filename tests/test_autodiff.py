import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from scipy import special

from aelib import autodiff, blocks, objectives

B, D, K = 6, 5, 3
random = np.random.default_rng(0)


def sigmoid_layer(dtype):
    random = np.random.default_rng(1)
    x, kernel, bias = (random.normal(0, 1, shape).astype(dtype) for shape in ((B, D), (D, K), K))
    return x, kernel, lambda t: ops.sigmoid(ops.matmul(t, kernel) + bias)


def batch_jacobian(fn, x):
    """TensorFlow's own."""
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = fn(x)
    return tape.batch_jacobian(y, x).numpy()


def test_jacobian_of_a_linear_map_is_its_matrix():
    x, kernel = random.normal(size=(B, D)), random.normal(size=(D, K))
    found = autodiff.jacobian(lambda t: ops.matmul(t, kernel), x)
    np.testing.assert_allclose(found, np.broadcast_to(kernel.T, (B, K, D)), rtol=1e-12)


def test_vjp_multiplies_from_the_left():
    x, kernel = random.normal(size=(B, D)), random.normal(size=(D, K))
    direction = random.normal(size=(B, K))
    found = autodiff.vjp(lambda t: ops.matmul(t, kernel), tf.constant(x), tf.constant(direction))
    np.testing.assert_allclose(found, direction @ kernel.T, rtol=1e-12)


def test_jacobian_of_a_convolutional_encoder():
    encoder = blocks.conv_encoder((6, 5, 2), K, filters=(3,), activation="tanh")
    x = random.random((4, 6, 5, 2), dtype="float32")
    found = autodiff.jacobian(encoder, x)
    assert found.shape == (4, K, 6, 5, 2)
    np.testing.assert_allclose(found, batch_jacobian(encoder, x), rtol=1e-5, atol=1e-6)
    alone = np.concatenate([autodiff.jacobian(encoder, x[i : i + 1]) for i in range(4)])
    np.testing.assert_allclose(found, alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-5)])
def test_penalty_closed_form_and_autodiff_agree(dtype, tolerance):
    x, kernel, layer = sigmoid_layer(dtype)
    closed = autodiff.sigmoid_jacobian_norm(layer(x), kernel)
    assert closed.shape == (B,)
    assert closed.dtype == dtype
    np.testing.assert_allclose(closed, autodiff.jacobian_norm(layer, x), rtol=tolerance)
    np.testing.assert_allclose(closed, objectives.contraction(batch_jacobian(layer, x)), rtol=tolerance)
    z = np.asarray(layer(x))
    by_hand = [np.linalg.norm((zn * (1 - zn))[:, None] * kernel.T, "fro") ** 2 for zn in z]
    np.testing.assert_allclose(closed, by_hand, rtol=tolerance)


def test_penalty_can_be_trained_in_a_compiled_function():
    x, kernel, _ = sigmoid_layer("float64")
    kernel = tf.Variable(kernel)

    def gradient(penalty):
        with tf.GradientTape() as tape:
            value = tf.reduce_sum(penalty(lambda t: ops.sigmoid(ops.matmul(t, kernel))))
        return tape.gradient(value, kernel)

    exact = tf.function(lambda: gradient(lambda fn: autodiff.jacobian_norm(fn, x)), jit_compile=True)()
    closed = gradient(lambda fn: autodiff.sigmoid_jacobian_norm(fn(x), kernel))
    np.testing.assert_allclose(exact, closed, rtol=1e-10)


def root_mean_square_error(probes, repeats=400):
    """Of Hutchinson's estimate on one sample, over many draws at once."""
    x, _, layer = sigmoid_layer("float64")
    x = np.repeat(x[:1], repeats, axis=0)
    exact = np.asarray(autodiff.jacobian_norm(layer, x[:1]))
    found = np.asarray(autodiff.jacobian_norm(layer, x, probes=probes, seed=probes))
    error = found / exact - 1
    assert abs(error.mean()) < 4 * error.std() / np.sqrt(repeats), "unbiased"
    return np.sqrt(np.mean(error**2))


def test_estimate_is_unbiased_and_its_error_falls_as_the_root_of_the_probes():
    probes = [1, 4, 16, 64]
    errors = [root_mean_square_error(number) for number in probes]
    slope = np.polyfit(np.log(probes), np.log(errors), 1)[0]
    assert slope == pytest.approx(-0.5, abs=0.06)


def test_estimate_is_exact_for_one_unit_and_drawn_afresh():
    x = random.normal(size=(B, D))
    one = random.normal(size=(D, 1))
    found = autodiff.jacobian_norm(lambda t: ops.matmul(t, one), x, probes=1)
    np.testing.assert_allclose(found, np.full(B, np.sum(one**2)), rtol=1e-12)
    _, _, layer = sigmoid_layer("float64")
    first, second = (np.asarray(autodiff.jacobian_norm(layer, x, probes=1, seed=s)) for s in (1, 2))
    assert not np.array_equal(first, second)


def test_a_function_that_ignores_its_input_has_no_slope():
    np.testing.assert_array_equal(
        autodiff.jacobian(lambda t: ops.ones((t.shape[0], K), "float64"), np.ones((B, D))), 0
    )


@pytest.mark.parametrize("probes", [0, -1, 1.5, True, "2"])
def test_wrong_probes_are_shown(probes):
    with pytest.raises(ValueError, match="probes must be a whole number >= 1") as error:
        autodiff.jacobian_norm(lambda t: t, np.ones((B, D)), probes=probes)
    assert repr(probes) in str(error.value)


def test_wrong_outputs_are_shown():
    with pytest.raises(ValueError, match=r"\(B, \.\.\.\) to \(B, K\), got .*\(6, 5, 1\)"):
        autodiff.jacobian(lambda t: t[..., None], np.ones((B, D)))


def test_lgamma_is_the_logarithm_of_the_factorial():
    x = np.float32([0.01, 0.5, 1, 2, 3.7, 40, 1e4])
    np.testing.assert_allclose(autodiff.lgamma(x), special.gammaln(x), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(autodiff.lgamma(np.array([1, 2, 3, 6])), np.log([1, 1, 2, 120]), atol=1e-6)


@pytest.mark.parametrize("compiled", [False, True])
def test_lgamma_can_be_differentiated(compiled):
    x = tf.Variable([0.3, 1.0, 25.0])

    def slope():
        with tf.GradientTape() as tape:
            value = autodiff.lgamma(x)
        return tape.gradient(value, x)

    found = tf.function(slope, jit_compile=True)() if compiled else slope()
    np.testing.assert_allclose(found, special.digamma(x.numpy()), rtol=1e-4)


def test_lgamma_on_jax():
    """The function for JAX, without a second process: it is the only line that differs."""
    jax = pytest.importorskip("jax")
    x = np.float32([0.3, 1.0, 25.0])
    np.testing.assert_allclose(autodiff._lgamma_jax(x), special.gammaln(x), rtol=1e-5, atol=1e-6)
    slope = jax.vmap(jax.grad(autodiff._lgamma_jax))(x)
    np.testing.assert_allclose(slope, special.digamma(x), rtol=1e-4)
