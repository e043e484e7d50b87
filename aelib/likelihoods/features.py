"""Likelihoods of features of one kind, and the names that stand for them. Import from `aelib.likelihoods`."""

import math
from collections.abc import Callable
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from aelib import checks
from aelib.autodiff import lgamma
from aelib.likelihoods.base import Likelihood

_register = keras.saving.register_keras_serializable("aelib")


@_register
class Bernoulli(Likelihood):
    """Independent Bernoulli features, for data in [0, 1]; the raw output is their logits.

    The term is the binary cross-entropy in nats, from logits, so that no probability is ever rounded to 0 or
    1. For grey targets its minimum is not 0 but the pixels' own entropy: see `aelib.metrics.bce_floor`.

    Examples
    --------
    >>> import numpy as np
    >>> from aelib.likelihoods import Bernoulli
    >>> round(float(Bernoulli().nll(np.float32([[1.0]]), np.float32([[0.0]]))[0]), 2)
    0.69
    """

    support = "unit interval"
    reads_logits = True

    def feature_nll(self, target, raw):
        """Return log(1 + e^raw) - target · raw: (B, ...), (B, ...) -> (B, ...)."""
        return ops.softplus(raw) - target * raw

    def mean(self, raw: Any) -> Any:
        """Return the probabilities."""
        return ops.sigmoid(raw)

    def sample(self, raw: Any, seed: int | keras.random.SeedGenerator | None = None) -> Any:
        """Draw zeros and ones."""
        draw = keras.random.uniform(ops.shape(raw), dtype=raw.dtype, seed=seed)
        return ops.cast(draw < ops.sigmoid(raw), raw.dtype)

    def _remedy(self, low: float, high: float) -> str:
        if low >= 0 and high <= 255:
            return "divide by 255, or choose likelihood='gaussian'"
        return "choose likelihood='gaussian', or bring them to [0, 1]"


@_register
class Gaussian(Likelihood):
    """Independent normal features; the raw output is their means.

    Parameters
    ----------
    variance : float, "learned" or "predicted"
        A number in squared units of the data: the term is ‖x - mean‖² / (2 variance), and with ½, the
        default, the plain **squared error**; the constant ½ log 2π·variance a feature is left out of it.
        ``"learned"``: one variance for all features, trained with the nets (Rybkin et al., 2021).
        ``"predicted"``: the decoder gives the log-variance of every feature after all the means (Nix &
        Weigend, 1994). The last two keep ½ log variance in the term, which can then be below 0.

    Examples
    --------
    >>> import numpy as np
    >>> from aelib.likelihoods import Gaussian
    >>> round(float(Gaussian().nll(np.float32([[1.0]]), np.float32([[3.0]]))[0]), 2)
    4.0
    """

    def __init__(self, variance: float | Literal["learned", "predicted"] = 0.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if variance not in ("learned", "predicted"):
            try:
                variance = checks.number("variance", variance, above=0)
            except ValueError as error:
                raise ValueError(f"{error}; or 'learned', or 'predicted'") from None
        self.variance = variance
        if variance == "predicted":
            self.outputs_per_feature = 2
        if variance == "learned":
            # A tenth of the log-variance: one number that has to move several units, where Adam moves a
            # weight by its rate a step.
            self.tenth = self.add_weight(shape=(), initializer="zeros", name="tenth_log_variance")

    def adapt(self, x: np.ndarray) -> None:
        """Warn of columns on other scales; start a learned variance at what a fresh net's errors will be.

        Its answers are near 0, so that is the mean square of the data. A variance below that would meet with
        gradients so large that Adam took small steps for a long time after.
        """
        checks.warn_of_scales("the data", x)
        if self.variance == "learned":
            rows = np.asarray(x[:10_000], np.float64)
            square = float(np.nanmean(np.square(rows))) if not np.isnan(rows).all() else 0.0
            if square:  # nothing but zeros is no reason to start at certainty
                self.tenth.assign(0.1 * math.log(max(square, 1e-8)))

    def _parts(self, raw: Any) -> tuple[Any, Any]:
        """Return the means and the log-variances."""
        if self.variance == "predicted":
            mean, log_var = self.split(raw)
            return mean, ops.clip(log_var, -20.0, 20.0)
        if self.variance == "learned":
            return raw, ops.clip(10.0 * ops.cast(self.tenth, raw.dtype), -20.0, 20.0)
        return raw, math.log(self.variance)

    def feature_nll(self, target, raw):
        """Return (target - mean)² / (2 variance), and ½ log variance where that is not fixed."""
        if isinstance(self.variance, float):
            return ops.square(target - raw) / (2 * self.variance)
        mean, log_var = self._parts(raw)
        return 0.5 * (log_var + ops.square(target - mean) * ops.exp(-log_var))

    def feature_constant(self, target: Any) -> Any:
        """Return ½ log 2π, and ½ log variance where that is fixed."""
        scale = self.variance if isinstance(self.variance, float) else 1.0
        return ops.full_like(target, 0.5 * math.log(2 * math.pi * scale))

    def mean(self, raw: Any) -> Any:
        """Return the means."""
        return self._parts(raw)[0]

    def variances(self, raw: Any) -> Any:
        """Return the variances, fixed, learned or predicted: those of the features that `raw` gives."""
        mean, log_var = self._parts(raw)
        return ops.exp(ops.zeros_like(mean) + log_var)

    def sample(self, raw: Any, seed: int | keras.random.SeedGenerator | None = None) -> Any:
        """Draw from the normal distributions."""
        mean, log_var = self._parts(raw)
        noise = keras.random.normal(ops.shape(mean), dtype=mean.dtype, seed=seed)
        return mean + ops.exp(0.5 * log_var) * noise

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds the likelihood."""
        return super().get_config() | {"variance": self.variance}


@_register
class Laplace(Likelihood):
    """Independent Laplace features; the raw output is their medians.

    The term is abs(x - median) / scale, with a scale of 1 the plain **absolute error**; log(2 scale) a
    feature is left out of it.

    Parameters
    ----------
    scale : float
        Mean deviation from the median, in units of the data, above 0.

    Examples
    --------
    >>> import numpy as np
    >>> from aelib.likelihoods import Laplace
    >>> round(float(Laplace().nll(np.float32([[1.0]]), np.float32([[3.0]]))[0]), 2)
    2.0
    """

    def __init__(self, scale: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale = checks.number("scale", scale, above=0)

    def adapt(self, x: np.ndarray) -> None:
        """Warn of columns on other scales."""
        checks.warn_of_scales("the data", x)

    def feature_nll(self, target, raw):
        """Return abs(target - raw) / scale."""
        return ops.abs(target - raw) / self.scale

    def feature_constant(self, target: Any) -> Any:
        """Return log(2 scale)."""
        return ops.full_like(target, math.log(2 * self.scale))

    def mean(self, raw: Any) -> Any:
        """Return the medians, which are the means as well."""
        return ops.convert_to_tensor(raw)

    def sample(self, raw: Any, seed: int | keras.random.SeedGenerator | None = None) -> Any:
        """Draw from the Laplace distributions."""
        draw = keras.random.uniform(ops.shape(raw), -0.5 + 1e-6, 0.5, dtype=raw.dtype, seed=seed)
        return raw - self.scale * ops.sign(draw) * ops.log1p(-2 * ops.abs(draw))

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds the likelihood."""
        return super().get_config() | {"scale": self.scale}


@_register
class Categorical(Likelihood):
    """One class out of K: targets are one-hot along the last axis, the raw output is their logits.

    The term is the cross-entropy in nats. `mean` gives the probabilities of the classes.

    Examples
    --------
    >>> import numpy as np
    >>> from aelib.likelihoods import Categorical
    >>> round(float(Categorical().nll(np.float32([[1.0, 0.0]]), np.float32([[0.0, 0.0]]))[0]), 2)
    0.69
    """

    support = "one-hot"
    reads_logits = True

    def feature_nll(self, target, raw):
        """Return -target · log softmax(raw); only the sum over the classes means something."""
        return -target * ops.log_softmax(raw, axis=-1)

    def mean(self, raw: Any) -> Any:
        """Return the probabilities of the classes."""
        return ops.softmax(raw, axis=-1)

    def sample(self, raw: Any, seed: int | keras.random.SeedGenerator | None = None) -> Any:
        """Draw one class, one-hot."""
        flat = ops.reshape(raw, (-1, raw.shape[-1]))
        drawn = keras.random.categorical(flat, 1, seed=seed)[:, 0]
        return ops.reshape(ops.one_hot(drawn, raw.shape[-1], dtype=raw.dtype), ops.shape(raw))

    def _remedy(self, low: float, high: float) -> str:
        return "turn class numbers into one-hot vectors with keras.ops.one_hot or np.eye(K)[y]"


@_register
class Poisson(Likelihood):
    """Counts with independent Poisson distributions; the raw output is the logarithm of their rates.

    Examples
    --------
    >>> import numpy as np
    >>> from aelib.likelihoods import Poisson
    >>> round(float(Poisson().nll(np.float32([[2.0]]), np.float32([[0.0]]))[0]), 2)
    1.0
    """

    support = "counts"
    reads_logits = True

    def feature_nll(self, target, raw):
        """Return e^raw - target · raw."""
        return ops.exp(raw) - target * raw

    def feature_constant(self, target: Any) -> Any:
        """Return log target!."""
        return lgamma(target + 1.0)

    def mean(self, raw: Any) -> Any:
        """Return the rates."""
        return ops.exp(raw)

    def sample(self, raw: Any, seed: int | keras.random.SeedGenerator | None = None) -> Any:
        """Draw counts, in NumPy; not differentiable, and not for compiled code."""
        return _drawn(lambda rng: rng.poisson(np.exp(ops.convert_to_numpy(raw))), raw, seed)

    def _remedy(self, low: float, high: float) -> str:
        return "round them if they are counts, or choose likelihood='gaussian' (of their logarithm, say)"


@_register
class NegativeBinomial(Likelihood):
    """Counts that vary more than Poisson's: variance μ + μ²/r (Lopez et al., 2018, section "scVI").

    The decoder gives two numbers a feature: first the logarithms of all means μ, then those of all r.

    Examples
    --------
    >>> import numpy as np
    >>> from aelib.likelihoods import NegativeBinomial
    >>> NegativeBinomial().raw_shape((None, 10))  # two numbers a feature
    (None, 20)
    """

    support = "counts"
    outputs_per_feature = 2
    reads_logits = True

    def feature_nll(self, target, raw):
        """Return minus the logarithm of the probability, but for log target!."""
        log_mean, log_r = self._parts(raw)
        r = ops.exp(log_r)
        # log(r/(r + μ)) and log(μ/(r + μ)), without forming the sum.
        log_stop, log_go = -ops.softplus(log_mean - log_r), -ops.softplus(log_r - log_mean)
        return -_log_rising(r, target) - r * log_stop - target * log_go

    def _parts(self, raw: Any) -> tuple[Any, Any]:
        """Return log μ and log r; r from 2e-9 to 5e8, where the distribution is Poisson's to all purposes."""
        log_mean, log_r = self.split(raw)
        return log_mean, ops.clip(log_r, -20.0, 20.0)

    def feature_constant(self, target: Any) -> Any:
        """Return log target!."""
        return lgamma(target + 1.0)

    def mean(self, raw: Any) -> Any:
        """Return the means."""
        return ops.exp(self._parts(raw)[0])

    def sample(self, raw: Any, seed: int | keras.random.SeedGenerator | None = None) -> Any:
        """Draw counts, in NumPy; not differentiable, and not for compiled code."""
        mean, r = (np.exp(np.float64(ops.convert_to_numpy(part))) for part in self._parts(raw))
        return _drawn(lambda rng: rng.poisson(rng.gamma(r, mean / r)), raw, seed)

    def _remedy(self, low: float, high: float) -> str:
        return "round them if they are counts, or choose likelihood='gaussian' (of their logarithm, say)"


def _log_rising(r: Any, n: Any) -> Any:
    """Return log Γ(r + n) - log Γ(r), r > 0, n >= 0, where the difference of large numbers would be noise.

    From r = 16 on it is Stirling's series, whose next term is below 1e-11 there.
    """
    small, large = ops.minimum(r, 16.0), ops.maximum(r, 16.0)

    def rest(x):
        inverse = 1 / ops.square(x)
        return (1 / 12 - (1 / 360 - inverse / 1260) * inverse) / x

    series = n * ops.log(large) + (large + n - 0.5) * ops.log1p(n / large) - n
    series = series + rest(large + n) - rest(large)
    return ops.where(r < 16.0, lgamma(small + n) - lgamma(small), series)


def _drawn(
    draw: Callable[[np.random.Generator], Any], raw: Any, seed: int | keras.random.SeedGenerator | None
) -> Any:
    if isinstance(seed, keras.random.SeedGenerator):
        seed = [abs(int(n)) for n in ops.convert_to_numpy(seed.next())]
    return ops.cast(draw(np.random.default_rng(seed)), raw.dtype)


_NAMES = {
    "bernoulli": Bernoulli,
    "gaussian": Gaussian,
    "laplace": Laplace,
    "categorical": Categorical,
    "poisson": Poisson,
    "negative_binomial": NegativeBinomial,
}


def get(likelihood: str | dict[str, Any] | Likelihood) -> Likelihood:
    """Return a `Likelihood` from its name, its configuration, or itself.

    Raises
    ------
    ValueError
        If there is none of that name.
    """
    if isinstance(likelihood, Likelihood):
        return likelihood
    if isinstance(likelihood, dict):
        return get(keras.saving.deserialize_keras_object(likelihood))
    if isinstance(likelihood, str) and likelihood in _NAMES:
        return _NAMES[likelihood]()
    raise ValueError(
        f"likelihood must be one of {', '.join(_NAMES)}, or an object such as aelib.likelihoods."
        f"Gaussian('learned'); got {likelihood!r}"
    )
