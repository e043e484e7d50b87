"""Pure terms of an objective: each maps a batch to one number per sample, summed over the features.

Averages over the batch are taken later, in `aelib.Autoencoder.compute_loss`, and nowhere else.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from keras import ops


def _sum_features(x):
    return ops.sum(ops.reshape(x, (ops.shape(x)[0], -1)), axis=-1)  # (B, ...) -> (B,)


def bernoulli(target, logits):
    """Negative log-likelihood of grey values under independent Bernoulli pixels: (B, ...), (B, ...) -> (B,).

    Binary cross-entropy in nats, from logits, so that no probability is ever rounded to 0 or 1. For grey
    targets its minimum is not 0 but the pixels' own entropy: see `aelib.metrics.bce_floor`.
    """
    return _sum_features(ops.softplus(logits) - target * logits)


def gaussian(target, mean):
    """Squared error: (B, ...), (B, ...) -> (B,).

    The negative log-likelihood of Normal(mean, variance ½), less its constant ½·log π per feature. With that
    variance the factor ½ of the exponent cancels, and the value per feature is the mean squared error.
    """
    return _sum_features(ops.square(target - mean))


def laplace(target, location):
    """Absolute error: (B, ...), (B, ...) -> (B,).

    The negative log-likelihood of Laplace(location, scale 1), less its constant log 2 per feature.
    """
    return _sum_features(ops.abs(target - location))


def l1(code):
    """Sum of the magnitudes of a code's numbers: (B, K) -> (B,). Olshausen & Field (1996)."""
    return _sum_features(ops.abs(code))


def rate_kl(code, rate):
    """Divergence of the units' mean activity from a rate, Σ_k KL(ρ ‖ ρ̂_k) in nats: (B, K) -> scalar.

    ρ̂_k is the mean of unit k over the **batch**, so this is no figure of one sample, and a small batch
    overstates it. The units must lie in [0, 1], as those of a sigmoid do (Ng, 2011, section 3).

    Raises
    ------
    ValueError
        If `rate` is not in (0, 1).
    """
    if not 0 < rate < 1:
        raise ValueError(f"rate must be in (0, 1), got {rate!r}")
    mean = ops.clip(ops.mean(code, axis=0), 1e-7, 1 - 1e-7)
    return ops.sum(rate * ops.log(rate / mean) + (1 - rate) * ops.log((1 - rate) / (1 - mean)))


def contraction(jacobian):
    """Squared Frobenius norm of an encoder's Jacobian, ‖J‖²: (B, K, ...) -> (B,). Rifai et al. (2011)."""
    return _sum_features(ops.square(jacobian))


def gaussian_kl(mean, log_var):
    """KL(N(mean, e^log_var) ‖ N(0, I)) in nats, summed over the latents: (B, K), (B, K) -> (B,).

    Kingma & Welling (2014), appendix B. `log_var` is the logarithm of the variance.
    """
    return ops.sum(gaussian_kl_by_unit(mean, log_var), axis=-1)


def gaussian_kl_by_unit(mean, log_var):
    """Return the addends of `gaussian_kl`, one for each latent: (B, K), (B, K) -> (B, K)."""
    return 0.5 * (ops.exp(log_var) + ops.square(mean) - 1.0 - log_var)


def normal_log_density(x, mean, log_var):
    """Logarithm of the density of N(mean, e^log_var) at `x`, summed over the last axis: (..., K) -> (...)."""
    log_two_pi = math.log(2 * math.pi)
    return -0.5 * ops.sum(ops.square(x - mean) * ops.exp(-log_var) + log_var + log_two_pi, axis=-1)


def mmd(code, prior):
    """Squared maximum mean discrepancy between two samples, with a sum of inverse multiquadrics.

    (B, K), (B, K) -> scalar. Unbiased for B > 1, so it can be negative (Gretton et al., 2012, lemma 6); the
    kernel is Σ_s c/(c + ‖a - b‖²) with c = 2 K s and s = 0.1, 0.2, 0.5, 1, 2, 5, 10 (Tolstikhin et al., 2018,
    section 4).
    """
    scales = [2.0 * code.shape[-1] * s for s in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)]
    n = ops.cast(ops.shape(code)[0], code.dtype)

    def kernel(a, b):
        squared = (
            ops.sum(ops.square(a), 1)[:, None]
            + ops.sum(ops.square(b), 1)
            - 2 * ops.matmul(a, ops.transpose(b))
        )
        return sum(c / (c + ops.maximum(squared, 0.0)) for c in scales)

    def within(a):
        return (ops.sum(kernel(a, a)) - len(scales) * n) / ops.maximum(
            n * (n - 1), 1.0
        )  # none is its own neighbour

    return within(code) + within(prior) - 2 * ops.mean(kernel(code, prior))


@dataclass(frozen=True)
class Likelihood:
    """What a decoder's raw output says about the data.

    Attributes
    ----------
    name : str
    negative_log : callable
        (target, raw output) -> (B,), in nats up to the constant that the term's docstring states.
    mean : callable
        The raw output -> the expected data, of the same shape.
    constant : float
        What `negative_log` leaves out for each feature, in nats.
    """

    name: str
    negative_log: Callable
    mean: Callable
    constant: float = 0.0


_LIKELIHOODS = {
    "bernoulli": Likelihood("bernoulli", bernoulli, ops.sigmoid),
    "gaussian": Likelihood("gaussian", gaussian, lambda raw: raw, 0.5 * math.log(math.pi)),
    "laplace": Likelihood("laplace", laplace, lambda raw: raw, math.log(2)),
}


def likelihood(name):
    """Return the `Likelihood` called `name`: bernoulli, gaussian or laplace.

    Raises
    ------
    ValueError
        If there is none of that name.
    """
    try:
        return _LIKELIHOODS[name]
    except (KeyError, TypeError):
        known = ", ".join(_LIKELIHOODS)
        raise ValueError(f"likelihood must be one of {known}; got {name!r}") from None


def normal(variance):
    """Return the Gaussian `Likelihood` of a given variance per feature, in squared units of the data.

    Its term is ‖x - mean‖² / (2 variance), summed over the features; with variance ½ it is `gaussian`.
    """
    if not variance > 0:
        raise ValueError(f"variance must be > 0, got {variance!r}")
    constant = 0.5 * math.log(2 * math.pi * variance)
    return Likelihood("gaussian", lambda x, raw: gaussian(x, raw) / (2 * variance), lambda raw: raw, constant)
