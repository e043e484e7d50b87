"""Bounds on log p(x) for models with a normal posterior, by importance sampling.

A model here is anything with `posterior(x)` -> (mean, log_var), `decoder` and `likelihood`, as
`aelib.VariationalAutoencoder` has them; its `prior`, N(0, I) where it has none, and the condition of its data
count too. All figures are in nats per sample.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops
from scipy.special import logsumexp

from aelib import batches, checks, objectives, priors


class Estimate(NamedTuple):
    """The ``mean`` over samples, its standard ``error``, and the figure of ``each`` sample, (n,).

    The error is the standard deviation over the samples divided by the root of their number, 0 for a single
    one: it tells how far another test set, and other draws, would move the mean.
    """

    mean: float
    error: float
    each: np.ndarray


def _estimate(each: Any) -> Estimate:
    each = np.asarray(each, np.float64)
    error = np.std(each, ddof=1) / np.sqrt(len(each)) if len(each) > 1 else 0.0
    return Estimate(float(np.mean(each)), float(error), each)


def _target(model: Any, x: Any) -> Any:
    return model.target_of(x) if hasattr(model, "target_of") else x


def _condition(model: Any, x: Any) -> Any:
    return model.condition_of(x) if hasattr(model, "condition_of") else None


def _draw(
    model: Any, x: Any, target: Any, posterior: Any, samples: int, seed: keras.random.SeedGenerator
) -> tuple[Any, Any]:
    """Draw codes; return them, (samples, B, K), and -log p(target|z), (samples, B), constants included."""
    mean, log_var = (ops.cast(part, target.dtype) for part in posterior)
    noise = keras.random.normal((samples, *ops.shape(mean)), dtype=mean.dtype, seed=seed)
    z = mean + ops.exp(0.5 * log_var) * noise
    flat = ops.reshape(z, (-1, z.shape[-1]))
    raw = model.decoder(model.decoder_input(flat, x) if hasattr(model, "decoder_input") else flat)
    repeated = ops.tile(target, (samples, *[1] * (len(target.shape) - 1)))
    lost = model.likelihood.nll(repeated, ops.cast(raw, target.dtype))
    return z, ops.reshape(lost, (samples, -1)) + model.likelihood.constant(target)


def log_weights(
    model: Any,
    x: Any,
    samples: int,
    *,
    seed: int | keras.random.SeedGenerator | None,
    target: Any = None,
    posterior: tuple[Any, Any] | None = None,
) -> Any:
    """Draw codes from the posterior and return log p(x, z) - log q(z|x): (B, ...) -> (samples, B).

    `target` takes the place of `x` in p where they differ, and `posterior`, (mean, log_var), that of the
    encoder's answer where it is known already. Differentiable.
    """
    target = _target(model, x) if target is None else target
    mean, log_var = (ops.cast(part, target.dtype) for part in posterior or model.posterior(x))
    z, lost = _draw(model, x, target, (mean, log_var), samples, seed)
    log_prior = priors.of(model).log_prob(z, _condition(model, x))
    return log_prior - lost - objectives.normal_log_density(z, mean, log_var)


def _rows(model: Any, x: Any, most: int) -> Iterator[Any]:
    """Yield `x` in tensors of at most `most` rows, checked as the data of the model's likelihood."""
    parts = model.checked_parts(x) if hasattr(model, "checked_parts") else batches.parts("x", x)
    for part in parts:
        model.likelihood.check(_target(model, part), name="x")
        for rows in batches.slices(part, most):
            yield batches.each(
                lambda array: ops.convert_to_tensor(
                    array, "float64" if array.dtype == np.float64 else "float32"
                ),
                rows,
            )


def _accumulate(
    model: Any,
    x: Any,
    samples: int,
    decodes: int,
    draw: Callable[[Any, int], Any],
    add: Callable[[np.ndarray, np.ndarray], np.ndarray],
    start: float,
) -> np.ndarray:
    """Fold `add` over draws of every row, `decodes` at a time: the running figure of each row, (n,)."""
    samples = checks.whole_number("the number of draws", samples)
    decodes = checks.whole_number("decodes", decodes)
    each = []
    for rows in _rows(model, x, max(1, decodes // samples)):
        total = np.full(batches.rows(rows), float(start))
        at_once = max(1, decodes // len(total))
        for done in range(0, samples, at_once):
            figures = draw(rows, min(at_once, samples - done))
            total = add(total, ops.convert_to_numpy(figures).astype(np.float64))
        each.append(total)
    return np.concatenate(each)


def importance_weighted_bound(
    model: Any, x: Any, k: int, *, seed: int | None = 0, decodes: int = 5000
) -> Estimate:
    """Estimate the bound E log (1/k) Σ p(x, z_i)/q(z_i|x) on log p(x): (n, ...) -> `Estimate`.

    Burda et al. (2016), equation 8. With k = 1 it is the ELBO; it rises with k towards log p(x), and every
    estimate lies below log p(x) in expectation. The weights are added up in log space, `decodes` codes at a
    time, so memory does not grow with `k`.

    Parameters
    ----------
    model : VariationalAutoencoder
    x : array (n, ...), or any source of batches that `fit` takes
    k : int
        Number of draws for each sample.
    seed : int
    decodes : int
        Most codes decoded at once.

    Raises
    ------
    ValueError
        If `k` or `decodes` is no whole number above 0, or `x` is empty.
    """
    noise = keras.random.SeedGenerator(checks.seed("seed", seed))
    total = _accumulate(
        model,
        x,
        k,
        decodes,
        lambda rows, step: log_weights(model, rows, step, seed=noise),
        lambda total, weights: np.logaddexp(total, logsumexp(weights, axis=0)),
        -np.inf,
    )
    return _estimate(total - np.log(k))


def log_likelihood(
    model: Any, x: Any, *, samples: int = 5000, seed: int | None = 0, decodes: int = 5000
) -> Estimate:
    """Estimate log p(x) by the importance-weighted bound with many samples: (n, ...) -> `Estimate`.

    Burda et al. (2016), section 5, take 5,000. It is a lower bound still, and tight if the posterior is good.
    """
    return importance_weighted_bound(model, x, samples, seed=seed, decodes=decodes)


def elbo(model: Any, x: Any, *, samples: int = 1, seed: int | None = 0, decodes: int = 5000) -> Estimate:
    """Estimate the evidence lower bound: (n, ...) -> `Estimate`.

    The mean of `samples` draws of log p(x, z) - log q(z|x), with the logarithms of the two densities of the
    code replaced by their expectation where the prior has that, the divergence, in closed form; the weight β
    plays no part. Kingma & Welling (2014), equation 10. Errors as in `importance_weighted_bound`.
    """
    noise = keras.random.SeedGenerator(checks.seed("seed", seed))

    def negative(rows, step):
        target, condition = _target(model, rows), _condition(model, rows)
        posterior = [ops.cast(part, target.dtype) for part in model.posterior(rows)]
        z, lost = _draw(model, rows, target, posterior, step, noise)
        return lost + priors.of(model).kl(*posterior, z, condition)

    total = _accumulate(
        model, x, samples, decodes, negative, lambda total, lost: total - lost.sum(axis=0), 0.0
    )
    return _estimate(total / samples)
