"""Derivatives of an encoder's outputs by its inputs: the one module that knows Keras's backends."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from aelib import checks
from aelib.objectives import contraction


def vjp(fn: Callable[[Any], Any], x: Any, direction: Any) -> Any:
    """Multiply a direction in output space by the Jacobian of `fn` at `x`: (B, ...), (B, K) -> (B, ...).

    The vector-Jacobian product uᵀJ of every sample, by one backward pass.
    """
    return _VJP[keras.backend.backend()](fn, x, direction)


def _tensorflow(fn: Callable[[Any], Any], x: Any, direction: Any) -> Any:
    import tensorflow as tf

    x = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = fn(x)
    return tape.gradient(y, x, direction, unconnected_gradients="zero")


def _jax(fn: Callable[[Any], Any], x: Any, direction: Any) -> Any:
    import jax

    return jax.vjp(fn, x)[1](direction)[0]


def _torch(fn: Callable[[Any], Any], x: Any, direction: Any) -> Any:
    import torch

    with torch.enable_grad():
        x = x if x.requires_grad else x.detach().requires_grad_()
        return torch.autograd.grad(fn(x), x, direction, create_graph=True, materialize_grads=True)[0]


_VJP = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}


def _outputs(fn: Callable[[Any], Any], x: Any) -> int:
    shape = ops.shape(fn(x))
    if len(shape) != 2 or shape[1] is None:
        raise ValueError(f"fn must map (B, ...) to (B, K), got an output of shape {tuple(shape)}")
    return shape[1]


def jacobian(fn: Callable[[Any], Any], x: Any) -> Any:
    """Return the Jacobian of every sample: (B, ...) -> (B, K, ...), so (B, K, D) for flat samples.

    One backward pass over a batch in which every sample stands K times: exact, and K times the work and the
    memory of one gradient. Works inside `fit`, compiled.

    Parameters
    ----------
    fn : callable
        (B, ...) -> (B, K), each sample by itself, such as an encoder.
    x : tensor (B, ...)

    Raises
    ------
    ValueError
        If the output of `fn` has not the shape (B, K).
    """
    x = ops.convert_to_tensor(x)
    units, (batch, *features) = _outputs(fn, x), ops.shape(x)
    directions = ops.tile(ops.eye(units, dtype=x.dtype), (batch, 1))  # (B·K, K)
    rows = vjp(fn, ops.repeat(x, units, axis=0), directions)
    return ops.reshape(rows, (batch, units, *features))


def jacobian_norm(
    fn: Callable[[Any], Any],
    x: Any,
    *,
    probes: int | None = None,
    seed: int | keras.random.SeedGenerator | None = None,
) -> Any:
    """Return the **squared** Frobenius norm of every sample's Jacobian, ‖J‖²: (B, ...) -> (B,).

    Parameters
    ----------
    fn : callable
        (B, ...) -> (B, K), each sample by itself.
    x : tensor (B, ...)
    probes : int, optional
        Without it the norm is exact. With it, it is the mean of ‖uᵀJ‖² over that many random directions u of
        signs ±1: unbiased, its error falls as 1/√probes (Hutchinson, 1990, on J Jᵀ).
    seed : int or keras.random.SeedGenerator, optional
        Of the directions.

    Raises
    ------
    ValueError
        If `probes` is no whole number above 0, or the output of `fn` has not the shape (B, K).
    """
    x = ops.convert_to_tensor(x)
    if probes is None:
        return contraction(jacobian(fn, x))
    probes = checks.whole_number("probes", probes)
    units, batch = _outputs(fn, x), ops.shape(x)[0]
    coins = keras.random.uniform((batch * probes, units), dtype=x.dtype, seed=seed)
    directions = ops.where(coins < 0.5, -ops.ones_like(coins), ops.ones_like(coins))
    norms = contraction(vjp(fn, ops.repeat(x, probes, axis=0), directions))
    return ops.mean(ops.reshape(norms, (batch, probes)), axis=1)


def sigmoid_jacobian_norm(code: Any, kernel: Any) -> Any:
    """Return ‖J‖² of one dense sigmoid layer, from its output alone: (B, K), (D, K) -> (B,).

    Since ∂z_k/∂x_i = z_k (1 - z_k) W_ki, the norm is Σ_k (z_k (1 - z_k))² Σ_i W_ki²: no backward pass, and
    O(K) for a sample once the kernel is squared (Rifai et al., 2011, section 3.1).
    """
    return ops.matmul(ops.square(code * (1 - code)), ops.sum(ops.square(kernel), axis=0))


def lgamma(x: Any) -> Any:
    """Return log Γ(x) of every number, x > 0: (...) -> (...).

    The normalising constant of counts: Keras has no such operation. Differentiable on every backend, and
    usable inside `fit`, compiled. Whole numbers are taken for floats.
    """
    x = ops.convert_to_tensor(x)
    if not keras.backend.is_float_dtype(x.dtype):
        x = ops.cast(x, keras.backend.floatx())
    return _LGAMMA[keras.backend.backend()](x)


def _lgamma_tensorflow(x: Any) -> Any:
    import tensorflow as tf

    return tf.math.lgamma(x)


def _lgamma_jax(x: Any) -> Any:
    from jax.scipy.special import gammaln

    return gammaln(x)


def _lgamma_torch(x: Any) -> Any:
    import torch

    return torch.lgamma(x)


_LGAMMA = {"tensorflow": _lgamma_tensorflow, "jax": _lgamma_jax, "torch": _lgamma_torch}
