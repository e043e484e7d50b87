"""Pure terms of an objective: each maps a batch to one number per sample, summed over the features.

Averages over the batch are taken later, in `aelib.Autoencoder.compute_loss`, and nowhere else.
"""

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
    """

    name: str
    negative_log: Callable
    mean: Callable


_LIKELIHOODS = {
    "bernoulli": Likelihood("bernoulli", bernoulli, ops.sigmoid),
    "gaussian": Likelihood("gaussian", gaussian, lambda raw: raw),
    "laplace": Likelihood("laplace", laplace, lambda raw: raw),
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
