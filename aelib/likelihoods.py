"""What a decoder's raw output says about the data: likelihoods as objects, to be passed, saved and loaded.

A likelihood of one's own is a class that says what its targets may be, and defines two methods::

    @keras.saving.register_keras_serializable("mine")
    class Exponential(Likelihood):
        support = "non-negative"

        def feature_nll(self, target, raw):  # raw: the logarithm of the rate
            return ops.exp(raw) * target - raw

        def mean(self, raw):
            return ops.exp(-raw)

Training, `elbo`, `aelib.bounds`, `aelib.anomaly` and `decode` all ask the likelihood and nobody else.
"""

import itertools
import math
import numbers

import keras
import numpy as np
from keras import ops

from aelib import checks
from aelib.autodiff import lgamma
from aelib.objectives import sum_features

_register = keras.saving.register_keras_serializable("aelib")

#: Activations that bound a decoder's output, with what it can then reach.
RANGES = {
    "sigmoid": (0.0, 1.0),
    "hard_sigmoid": (0.0, 1.0),
    "softmax": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "hard_tanh": (-1.0, 1.0),
    "softsign": (-1.0, 1.0),
    "log_softmax": (-math.inf, 0.0),
    "exponential": (0.0, math.inf),
    "relu": (0.0, math.inf),
    "relu6": (0.0, 6.0),
    "softplus": (0.0, math.inf),
}


@_register
class Likelihood(keras.layers.Layer):
    """The base of all likelihoods: a raw output of a decoder -> a distribution of the data.

    It is a Keras layer, so that one with weights (a learned variance) trains, and is saved, with its model.
    A subclass defines `feature_nll` and `mean`; `feature_constant`, `sample`, `get_config` where they differ.

    Attributes
    ----------
    support : {"unit interval", "real", "non-negative", "counts", "one-hot"}
        What targets may be; `check` refuses others.
    outputs_per_feature : int
        How many raw numbers the decoder gives for each feature: with 2, the last axis of its output is twice
        as long as the data's, first all features' first numbers, then all their second; `split` parts them.
    reads_logits : bool
        Whether the raw output may be any real number, so that a bounded last activation contradicts it.
    """

    support = "real"
    outputs_per_feature = 1
    reads_logits = False

    def __init__(self, **kwargs):
        super().__init__(**({"dtype": "float32"} | kwargs))
        self.built = True

    def feature_nll(self, target, raw):
        """Return the negative log-likelihood of every feature, in nats, up to `feature_constant`.

        (B, ...), raw (B, ...) -> (B, ...) in the target's shape.
        """
        raise NotImplementedError(f"{type(self).__name__} must define feature_nll(target, raw)")

    def feature_constant(self, target):
        """Return what `feature_nll` leaves out for every feature, in nats: (B, ...) -> (B, ...)."""
        return ops.zeros_like(target)

    def mean(self, raw):
        """Return the expected data: raw (B, ...) -> (B, ...)."""
        raise NotImplementedError(f"{type(self).__name__} must define mean(raw)")

    def sample(self, raw, seed=None):
        """Draw data: raw (B, ...) -> (B, ...). `seed` is an int or a `keras.random.SeedGenerator`."""
        raise NotImplementedError(f"{type(self).__name__} does not define sample(raw, seed)")

    def nll(self, target, raw):
        """Return the negative log-likelihood, summed over features, up to `constant`: (B, ...) -> (B,)."""
        wanted = self.raw_shape(target.shape)
        if not checks.shapes_agree(wanted, raw.shape):
            raise ValueError(
                f"the target {tuple(target.shape)} and the decoder's output {tuple(raw.shape)} do not go "
                f"together: {type(self).__name__} expects an output of shape {tuple(wanted)}"
                + (
                    "; `y` is what the output is compared with, no label of a class"
                    if len(target.shape) < len(raw.shape)
                    else ""
                )
            )
        return sum_features(self.feature_nll(target, raw))

    def constant(self, target):
        """Return what `nll` leaves out, in nats: (B, ...) -> (B,)."""
        return sum_features(self.feature_constant(target))

    def raw_shape(self, shape):
        """Return the shape that the decoder's output must have for data of `shape`, batch axis included."""
        if self.outputs_per_feature == 1:
            return tuple(shape)
        return (*shape[:-1], None if shape[-1] is None else self.outputs_per_feature * shape[-1])

    def data_shape(self, raw_shape):
        """Return the shape of data for which the decoder's output has `raw_shape`, batch axis included."""
        return (*raw_shape[:-1], raw_shape[-1] // self.outputs_per_feature)

    def split(self, raw):
        """Part the raw numbers of the features: (B, ..., P·D) -> P tensors (B, ..., D)."""
        if raw.shape[-1] % self.outputs_per_feature:
            raise ValueError(
                f"{type(self).__name__} reads {self.outputs_per_feature} raw numbers a feature: the last "
                f"axis of the decoder's output must be a multiple of that, got shape {tuple(raw.shape)}"
            )
        return ops.split(raw, self.outputs_per_feature, axis=-1)

    def hide(self, x, seen=None):
        """Return what the encoder may see of `x`, or of its corrupted version `seen`: here, all of it."""
        return x if seen is None else seen

    def observed(self, x):
        """Return which features of an ndarray count, bool (n, ...), or None where all do."""
        return None

    def adapt(self, x):
        """Prepare for training data, an ndarray (n, ...); `fit` calls it before the very first step."""

    def check(self, x, *, name="the data", observed=None):
        """Refuse an ndarray (n, ...) that this likelihood cannot explain; only what is `observed` counts.

        Raises
        ------
        ValueError
            With the least and the greatest number, what is expected, and the remedy.
        """
        try:
            test = _SUPPORTS[self.support]
        except KeyError:
            known = ", ".join(_SUPPORTS)
            raise ValueError(f"support must be one of {known}; got {self.support!r}") from None
        if observed is None:
            checks.finite(name, x)
        start = 0
        for part in checks.parts(x):
            test(self, name, part, None if observed is None else observed[start : start + len(part)])
            start += len(part)

    def refuse(self, name, low, high):
        """Raise the ValueError for data from `low` to `high`; the class decides what it advises."""
        raise ValueError(
            f"{name} must be {_WORDS[self.support]} for the likelihood {type(self).__name__}, got numbers "
            f"from {low:g} to {high:g}: {self._remedy(low, high)}"
        )

    def _remedy(self, low, high):
        return "rescale them, or choose another likelihood"


_WORDS = {
    "unit interval": "in [0, 1]",
    "real": "finite",
    "non-negative": ">= 0",
    "counts": "whole numbers >= 0",
    "one-hot": "shares >= 0 that add up to 1 along the last axis (one-hot)",
}


def _values(part, observed):
    return part if observed is None else part[observed]


def _within(low, high, whole=False):
    def test(likelihood, name, part, observed):
        values = _values(part, observed)
        if not values.size:
            return
        if not np.isfinite(values).all():
            raise ValueError(f"{name} must be finite where it counts, got NaN or infinity")
        bounds = float(values.min()), float(values.max())
        if bounds[0] < low or bounds[1] > high or (whole and not np.array_equal(values, np.floor(values))):
            likelihood.refuse(name, *bounds)

    return test


def _one_hot(likelihood, name, part, observed):
    part = part.reshape(-1, part.shape[-1])
    if observed is not None:
        part = part[observed.reshape(part.shape).all(axis=-1)]
    if part.size and (part.min() < 0 or np.abs(part.sum(axis=-1, dtype=np.float64) - 1).max() > 1e-3):
        likelihood.refuse(name, float(part.min()), float(part.max()))


_SUPPORTS = {
    "unit interval": _within(0, 1),
    "real": _within(-math.inf, math.inf),
    "non-negative": _within(0, math.inf),
    "counts": _within(0, math.inf, whole=True),
    "one-hot": _one_hot,
}


@_register
class Bernoulli(Likelihood):
    """Independent Bernoulli features, for data in [0, 1]; the raw output is their logits.

    The term is the binary cross-entropy in nats, from logits, so that no probability is ever rounded to 0 or
    1. For grey targets its minimum is not 0 but the pixels' own entropy: see `aelib.metrics.bce_floor`.
    """

    support = "unit interval"
    reads_logits = True

    def feature_nll(self, target, raw):
        """Return log(1 + e^raw) - target · raw: (B, ...), (B, ...) -> (B, ...)."""
        return ops.softplus(raw) - target * raw

    def mean(self, raw):
        """Return the probabilities."""
        return ops.sigmoid(raw)

    def sample(self, raw, seed=None):
        """Draw zeros and ones."""
        draw = keras.random.uniform(ops.shape(raw), dtype=raw.dtype, seed=seed)
        return ops.cast(draw < ops.sigmoid(raw), raw.dtype)

    def _remedy(self, low, high):
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
    """

    def __init__(self, variance=0.5, **kwargs):
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

    def adapt(self, x):
        """Warn of columns on other scales; start a learned variance at the mean of the data's own."""
        checks.warn_of_scales("the data", x)
        if self.variance == "learned":
            rows = np.asarray(x[:10_000], np.float64).reshape(len(x[:10_000]), -1)
            rows = rows[:, ~np.isnan(rows).all(axis=0)]
            spread = float(np.mean(np.nanvar(rows, axis=0))) if rows.size else 0.0
            if spread:  # one row shows none, and is no reason to start at certainty
                self.tenth.assign(0.1 * math.log(max(spread, 1e-8)))

    def _parts(self, raw):
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

    def feature_constant(self, target):
        """Return ½ log 2π, and ½ log variance where that is fixed."""
        scale = self.variance if isinstance(self.variance, float) else 1.0
        return ops.full_like(target, 0.5 * math.log(2 * math.pi * scale))

    def mean(self, raw):
        """Return the means."""
        return self._parts(raw)[0]

    def sample(self, raw, seed=None):
        """Draw from the normal distributions."""
        mean, log_var = self._parts(raw)
        noise = keras.random.normal(ops.shape(mean), dtype=mean.dtype, seed=seed)
        return mean + ops.exp(0.5 * log_var) * noise

    def get_config(self):
        """Return what rebuilds the likelihood."""
        return super().get_config() | {"variance": self.variance}


@_register
class Laplace(Likelihood):
    """Independent Laplace features; the raw output is their medians.

    The term is |x - median| / scale, with a scale of 1 the plain **absolute error**; log(2 scale) a feature
    is left out of it.

    Parameters
    ----------
    scale : float
        Mean deviation from the median, in units of the data, above 0.
    """

    def __init__(self, scale=1.0, **kwargs):
        super().__init__(**kwargs)
        self.scale = checks.number("scale", scale, above=0)

    def adapt(self, x):
        """Warn of columns on other scales."""
        checks.warn_of_scales("the data", x)

    def feature_nll(self, target, raw):
        """Return |target - raw| / scale."""
        return ops.abs(target - raw) / self.scale

    def feature_constant(self, target):
        """Return log(2 scale)."""
        return ops.full_like(target, math.log(2 * self.scale))

    def mean(self, raw):
        """Return the medians, which are the means as well."""
        return ops.convert_to_tensor(raw)

    def sample(self, raw, seed=None):
        """Draw from the Laplace distributions."""
        draw = keras.random.uniform(ops.shape(raw), -0.5 + 1e-6, 0.5, dtype=raw.dtype, seed=seed)
        return raw - self.scale * ops.sign(draw) * ops.log1p(-2 * ops.abs(draw))

    def get_config(self):
        """Return what rebuilds the likelihood."""
        return super().get_config() | {"scale": self.scale}


@_register
class Categorical(Likelihood):
    """One class out of K: targets are one-hot along the last axis, the raw output is their logits.

    The term is the cross-entropy in nats. `mean` gives the probabilities of the classes.
    """

    support = "one-hot"
    reads_logits = True

    def feature_nll(self, target, raw):
        """Return -target · log softmax(raw); only the sum over the classes means something."""
        return -target * ops.log_softmax(raw, axis=-1)

    def mean(self, raw):
        """Return the probabilities of the classes."""
        return ops.softmax(raw, axis=-1)

    def sample(self, raw, seed=None):
        """Draw one class, one-hot."""
        flat = ops.reshape(raw, (-1, raw.shape[-1]))
        drawn = keras.random.categorical(flat, 1, seed=seed)[:, 0]
        return ops.reshape(ops.one_hot(drawn, raw.shape[-1], dtype=raw.dtype), ops.shape(raw))

    def _remedy(self, low, high):
        return "turn class numbers into one-hot vectors with keras.ops.one_hot or np.eye(K)[y]"


@_register
class Poisson(Likelihood):
    """Counts with independent Poisson distributions; the raw output is the logarithm of their rates."""

    support = "counts"
    reads_logits = True

    def feature_nll(self, target, raw):
        """Return e^raw - target · raw."""
        return ops.exp(raw) - target * raw

    def feature_constant(self, target):
        """Return log target!."""
        return lgamma(target + 1.0)

    def mean(self, raw):
        """Return the rates."""
        return ops.exp(raw)

    def sample(self, raw, seed=None):
        """Draw counts, in NumPy; not differentiable, and not for compiled code."""
        return _drawn(lambda rng: rng.poisson(np.exp(ops.convert_to_numpy(raw))), raw, seed)

    def _remedy(self, low, high):
        return "round them if they are counts, or choose likelihood='gaussian' (of their logarithm, say)"


@_register
class NegativeBinomial(Likelihood):
    """Counts that vary more than Poisson's: variance μ + μ²/r (Lopez et al., 2018, section "scVI").

    The decoder gives two numbers a feature: first the logarithms of all means μ, then those of all r.
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

    def _parts(self, raw):
        """Return log μ and log r; r from 2e-9 to 5e8, where the distribution is Poisson's to all purposes."""
        log_mean, log_r = self.split(raw)
        return log_mean, ops.clip(log_r, -20.0, 20.0)

    def feature_constant(self, target):
        """Return log target!."""
        return lgamma(target + 1.0)

    def mean(self, raw):
        """Return the means."""
        return ops.exp(self._parts(raw)[0])

    def sample(self, raw, seed=None):
        """Draw counts, in NumPy; not differentiable, and not for compiled code."""
        mean, r = (np.exp(np.float64(ops.convert_to_numpy(part))) for part in self._parts(raw))
        return _drawn(lambda rng: rng.poisson(rng.gamma(r, mean / r)), raw, seed)

    def _remedy(self, low, high):
        return "round them if they are counts, or choose likelihood='gaussian' (of their logarithm, say)"


def _log_rising(r, n):
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


def _drawn(draw, raw, seed):
    if isinstance(seed, keras.random.SeedGenerator):
        seed = [abs(int(n)) for n in ops.convert_to_numpy(seed.next())]
    return ops.cast(draw(np.random.default_rng(seed)), raw.dtype)


@_register
class Mixed(Likelihood):
    """Columns of different kinds side by side, for tables: each group has a likelihood of its own.

    Parameters
    ----------
    parts : sequence of (columns, likelihood)
        How many columns of the last axis a likelihood covers, in the order of the columns, and which it is:
        an object or its name. The decoder's output has the parts in the same order, each as wide as its
        likelihood asks for. The terms are nats throughout, so that they may be added.

    Examples
    --------
    >>> Mixed([(2, "gaussian"), (3, "categorical"), (1, Poisson())]).raw_shape((None, 6))
    (None, 6)
    """

    def __init__(self, parts, **kwargs):
        super().__init__(**kwargs)
        pairs = list(parts)
        if not pairs or any(not isinstance(pair, list | tuple) or len(pair) != 2 for pair in pairs):
            raise ValueError(f"parts must be pairs (columns, likelihood), at least one, got {parts!r}")
        self.columns = [checks.whole_number("the columns of a part", count) for count, _ in pairs]
        self.likelihoods = [get(likelihood) for _, likelihood in pairs]
        if any(isinstance(likelihood, Masked) for likelihood in self.likelihoods):
            raise ValueError("put Masked around the whole: Masked(Mixed(...)), not Mixed([(n, Masked(...))])")

    @property
    def support(self):
        """What targets may be, part by part."""
        return ", ".join(likelihood.support for likelihood in self.likelihoods)

    @property
    def reads_logits(self):
        """Whether any part reads logits."""
        return any(likelihood.reads_logits for likelihood in self.likelihoods)

    def _slices(self, widths):
        ends = np.cumsum([0, *widths])
        return [slice(int(start), int(stop)) for start, stop in itertools.pairwise(ends)]

    def _raw_widths(self):
        return [p.raw_shape((n,))[0] for n, p in zip(self.columns, self.likelihoods, strict=True)]

    def raw_shape(self, shape):
        """Return the shape of the decoder's output for data of `shape`."""
        if shape[-1] not in (None, sum(self.columns)):
            raise ValueError(
                f"the parts cover {sum(self.columns)} columns, {self.columns}; the data have {shape[-1]}"
            )
        return (*shape[:-1], sum(self._raw_widths()))

    def data_shape(self, raw_shape):
        """Return the shape of data for which the decoder's output has `raw_shape`."""
        return (*raw_shape[:-1], sum(self.columns))

    def feature_nll(self, target, raw):
        """Return every part's own."""
        ours, theirs = self._slices(self.columns), self._slices(self._raw_widths())
        parts = zip(self.likelihoods, ours, theirs, strict=True)
        return ops.concatenate([p.feature_nll(target[..., a], raw[..., b]) for p, a, b in parts], axis=-1)

    def feature_constant(self, target):
        """Return every part's own."""
        parts = zip(self.likelihoods, self._slices(self.columns), strict=True)
        return ops.concatenate([p.feature_constant(target[..., a]) for p, a in parts], axis=-1)

    def mean(self, raw):
        """Return every part's own."""
        parts = zip(self.likelihoods, self._slices(self._raw_widths()), strict=True)
        return ops.concatenate([p.mean(raw[..., b]) for p, b in parts], axis=-1)

    def sample(self, raw, seed=None):
        """Draw from every part."""
        seeds = [seed] * len(self.columns)
        if isinstance(seed, numbers.Integral):  # else all parts would draw the same noise
            seeds = [int(n) for n in np.random.SeedSequence(seed).generate_state(len(self.columns))]
        parts = zip(self.likelihoods, self._slices(self._raw_widths()), seeds, strict=True)
        return ops.concatenate([p.sample(raw[..., b], s) for p, b, s in parts], axis=-1)

    def adapt(self, x):
        """Let every part prepare for its columns."""
        for likelihood, ours in zip(self.likelihoods, self._slices(self.columns), strict=True):
            likelihood.adapt(x[..., ours])

    def check(self, x, *, name="the data", observed=None):
        """Check every part's columns, and name them."""
        self.raw_shape(x.shape)
        for likelihood, ours in zip(self.likelihoods, self._slices(self.columns), strict=True):
            seen = None if observed is None else observed[..., ours]
            where = f"columns {ours.start} to {ours.stop - 1} of {name}"
            likelihood.check(x[..., ours], name=where, observed=seen)

    def get_config(self):
        """Return what rebuilds the likelihood."""
        parts = zip(self.columns, map(keras.saving.serialize_keras_object, self.likelihoods), strict=True)
        return super().get_config() | {"parts": [list(pair) for pair in parts]}


@_register
class Masked(Likelihood):
    """A likelihood that counts only what is observed: missing cells of a table, padded steps, features.

    The data mark what is missing, by NaN or by a value of your choice; from there one mask reaches the
    encoder (which sees `fill` instead), the loss, `reconstruct` (which fills the gaps), the errors of
    `aelib.anomaly` and the detector.

    Parameters
    ----------
    likelihood : Likelihood or str
        Of what is observed.
    value : float
        Marks what is missing: NaN, or a number that the data hold nowhere else.
    fill : float, optional
        What the encoder sees in its place: 0 for standardised data; for a recurrent encoder with a
        ``mask_value`` that value. By default `value`, or 0 where that is NaN.
    steps : bool
        Whether a step, (..., features), is missing only where **all** its features carry the mark, as
        `keras.layers.Masking` has it; otherwise each cell counts by itself.
    """

    def __init__(self, likelihood, *, value=math.nan, fill=None, steps=False, **kwargs):
        super().__init__(**kwargs)
        self.likelihood = get(likelihood)
        if isinstance(self.likelihood, Masked):
            raise ValueError("the likelihood is masked already: Masked(Masked(...))")
        self.value = math.nan if _is_nan(value) else checks.number("value", value)
        if fill is None:
            fill = 0.0 if _is_nan(self.value) else self.value
        self.fill = checks.number("fill", fill)
        self.steps = checks.flag("steps", steps)

    @property
    def support(self):
        """What observed targets may be."""
        return self.likelihood.support

    @property
    def outputs_per_feature(self):
        """As many as the likelihood within."""
        return self.likelihood.outputs_per_feature

    @property
    def reads_logits(self):
        """As the likelihood within."""
        return self.likelihood.reads_logits

    def raw_shape(self, shape):
        """Return the shape of the decoder's output for data of `shape`."""
        return self.likelihood.raw_shape(shape)

    def data_shape(self, raw_shape):
        """Return the shape of data for which the decoder's output has `raw_shape`."""
        return self.likelihood.data_shape(raw_shape)

    def _seen(self, x, backend):
        """Return which features count, bool, in the shape of `x`; `backend` is NumPy or `keras.ops`."""
        marked = backend.isnan(x) if _is_nan(self.value) else backend.equal(x, self.value)
        if self.steps:
            marked = backend.broadcast_to(backend.all(marked, axis=-1, keepdims=True), backend.shape(x))
        return backend.logical_not(marked)

    def observed(self, x):
        """Return which features of an ndarray count, bool (n, ...)."""
        return np.ones(x.shape, bool) if _is_nan(self.value) and x.dtype.kind != "f" else self._seen(x, np)

    def hide(self, x, seen=None):
        """Return `x`, or its corrupted version `seen`, with `fill` where the data are missing."""
        return ops.where(self._seen(x, ops), x if seen is None else seen, ops.full_like(x, self.fill))

    def _safe(self, target):
        # What does not count must still be a number: NaN times 0 is NaN, in the gradient too.
        counts = self._seen(target, ops)
        return counts, ops.where(counts, target, ops.zeros_like(target))

    def feature_nll(self, target, raw):
        """Return the likelihood's own where the target is observed, else 0."""
        counts, safe = self._safe(target)
        costs = self.likelihood.feature_nll(safe, raw)
        return ops.where(counts, costs, ops.zeros_like(costs))

    def feature_constant(self, target):
        """Return the likelihood's own where the target is observed, else 0."""
        counts, safe = self._safe(target)
        constant = self.likelihood.feature_constant(safe)
        return ops.where(counts, constant, ops.zeros_like(constant))

    def mean(self, raw):
        """Return the likelihood's own."""
        return self.likelihood.mean(raw)

    def sample(self, raw, seed=None):
        """Draw from the likelihood within."""
        return self.likelihood.sample(raw, seed)

    def adapt(self, x):
        """Let the likelihood within prepare for what is observed."""
        rows = np.asarray(x[:10_000], np.float32)
        self.likelihood.adapt(np.where(self.observed(rows), rows, np.nan))

    def check(self, x, *, name="the data", observed=None):
        """Check what is observed."""
        seen = self.observed(x)
        self.likelihood.check(x, name=name, observed=seen if observed is None else seen & observed)

    def get_config(self):
        """Return what rebuilds the likelihood."""
        own = {"likelihood": keras.saving.serialize_keras_object(self.likelihood), "steps": self.steps}
        # NaN is no JSON.
        value = "nan" if _is_nan(self.value) else self.value
        return super().get_config() | own | {"value": value, "fill": self.fill}


def _is_nan(value):
    return value == "nan" or (isinstance(value, float | np.floating) and math.isnan(value))


_NAMES = {
    "bernoulli": Bernoulli,
    "gaussian": Gaussian,
    "laplace": Laplace,
    "categorical": Categorical,
    "poisson": Poisson,
    "negative_binomial": NegativeBinomial,
}


def get(likelihood):
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
