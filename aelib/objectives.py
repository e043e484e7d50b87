"""Pure terms of an objective: each maps a batch to one number per sample, summed over the features.

Averages over the batch are taken later, in `aelib.Autoencoder.compute_loss`, and nowhere else.
"""

import math
from typing import Any

from keras import ops

from aelib import checks


def sum_features(x: Any) -> Any:
    """Sum all but the first axis: (B, ...) -> (B,)."""
    return ops.sum(ops.reshape(x, (ops.shape(x)[0], -1)), axis=-1)  # (B, ...) -> (B,)


def l1(code: Any) -> Any:
    """Sum of the magnitudes of a code's numbers: (B, K) -> (B,). Olshausen & Field (1996)."""
    return sum_features(ops.abs(code))


def rate_kl(code: Any, rate: float) -> Any:
    """Divergence of the units' mean activity from a rate, Σ_k KL(ρ ‖ ρ̂_k) in nats: (B, K) -> scalar.

    ρ̂_k is the mean of unit k over the **batch**, so this is no figure of one sample, and a small batch
    overstates it. The units must lie in [0, 1], as those of a sigmoid do (Ng, 2011, section 3).

    Raises
    ------
    ValueError
        If `rate` is not in (0, 1).
    """
    rate = checks.inner_share("rate", rate)
    mean = ops.clip(ops.mean(code, axis=0), 1e-7, 1 - 1e-7)
    return ops.sum(rate * ops.log(rate / mean) + (1 - rate) * ops.log((1 - rate) / (1 - mean)))


def contraction(jacobian: Any) -> Any:
    """Squared Frobenius norm of an encoder's Jacobian, ‖J‖²: (B, K, ...) -> (B,). Rifai et al. (2011)."""
    return sum_features(ops.square(jacobian))


def gaussian_kl(mean: Any, log_var: Any) -> Any:
    """KL(N(mean, e^log_var) ‖ N(0, I)) in nats, summed over the latents: (B, K), (B, K) -> (B,).

    Kingma & Welling (2014), appendix B. `log_var` is the logarithm of the variance.
    """
    return ops.sum(gaussian_kl_by_unit(mean, log_var), axis=-1)


def gaussian_kl_by_unit(mean: Any, log_var: Any) -> Any:
    """Return the addends of `gaussian_kl`, one for each latent: (B, K), (B, K) -> (B, K)."""
    return 0.5 * (ops.exp(log_var) + ops.square(mean) - 1.0 - log_var)


def normal_log_density(x: Any, mean: Any, log_var: Any) -> Any:
    """Logarithm of the density of N(mean, e^log_var) at `x`, summed over the last axis: (..., K) -> (...)."""
    log_two_pi = math.log(2 * math.pi)
    return -0.5 * ops.sum(ops.square(x - mean) * ops.exp(-log_var) + log_var + log_two_pi, axis=-1)


def total_correlation(code: Any, mean: Any, log_var: Any, n: int) -> tuple[Any, Any, Any]:
    """Split the divergence of a batch's codes from N(0, I): (B, K) three times -> three terms, each (B,).

    The mutual information of data and code, the total correlation of the code's units, and the divergence of
    each unit by itself, summed; together they estimate E KL(q(z|x) ‖ N(0, I)). Chen et al. (2018), equation
    2, with their minibatch weighted sampling, appendix C.1: biased, and less so for larger batches.

    Parameters
    ----------
    code : tensor (B, K)
        A draw from each posterior N(mean, e^log_var).
    mean, log_var : tensor (B, K)
    n : int
        Number of training samples.
    """
    log_two_pi = math.log(2 * math.pi)
    gap = ops.square(code[:, None] - mean) * ops.exp(-log_var)
    pairs = -0.5 * (gap + log_var + log_two_pi)  # (B, B, K): log q(z_i | x_j) of every unit
    batch = ops.cast(ops.shape(code)[0], code.dtype)
    scale = ops.log(batch * n)
    given = normal_log_density(code, mean, log_var)
    joint = ops.logsumexp(ops.sum(pairs, axis=-1), axis=1) - scale
    units = ops.sum(ops.logsumexp(pairs, axis=1) - scale, axis=-1)
    prior = normal_log_density(code, ops.zeros_like(code), ops.zeros_like(code))
    return given - joint, joint - units, units - prior


def mmd(code: Any, prior: Any) -> Any:
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
