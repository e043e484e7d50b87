"""How odd a sample is to a model of normal ones, and a threshold that keeps its promise on false alarms.

Every score is higher for odder samples. Train the model on normal samples only, and calibrate the threshold
on normal samples that it was not trained on. What `fit` takes, the scores take: arrays and memory maps of any
dtype, pipelines, batches; memory holds a part of them at a time.

Windows of a series are samples like any others: (n, length) or (n, length, C) give a score a window, (n,), or
with ``per_feature=True`` one a step, in the shape of the windows.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from math import ceil, floor
from typing import Any, Literal, Self

import numpy as np
from keras import ops
from numpy.typing import ArrayLike
from scipy import linalg, stats
from sklearn.exceptions import NotFittedError
from sklearn.mixture import GaussianMixture

from aelib import batches, bounds, checks
from aelib.likelihoods import Likelihood, Masked, Mixed

#: Samples go through a model in pieces of about so many numbers: 8 MB in float32.
_PIECE = 2**21
_DIVERGED = "the model's training has diverged; scale the data, or lower the learning rate"


def errors(model: Any, x: Any, *, per_feature: bool = False, batch_size: int = 512) -> np.ndarray:
    """Return the squared error of the reconstruction: the mean of each sample, or the map.

    Where the model's likelihood is `Masked`, only what is observed counts: the mean is over the observed
    features, so that a padded sequence is not judged by its length.

    Parameters
    ----------
    model : Autoencoder
        Or anything whose ``reconstruct(x, batch_size=...)`` returns an array like `x`.
    x : array (n, ...), or any source of batches that `fit` takes
    per_feature : bool
        Return the squared error of every feature, an error map in the shape of `x`, instead of their mean;
        NaN where nothing was observed.
    batch_size : int

    Returns
    -------
    ndarray (n,), or (n, ...) with `per_feature`
        In squared units of `x`.

    Raises
    ------
    ValueError
        For data that the model's likelihood cannot explain, such as pixels on 0 to 255 for a Bernoulli one,
        for a sample of which nothing is observed, and where the reconstruction is not finite.
    """
    checks.flag("per_feature", per_feature)

    def score(rows, observed, first):
        reconstruction = np.asarray(model.reconstruct(rows, batch_size=batch_size))
        if rows.ndim < 2 or reconstruction.shape != rows.shape:
            raise ValueError(
                "x and its reconstruction must share a shape (n, ...), got "
                f"{rows.shape}, {reconstruction.shape}"
            )
        checks.finite("the reconstruction", reconstruction, remedy=_DIVERGED, first_row=first)
        # Whole numbers would wrap round.
        squares = np.square(rows.astype(np.result_type(rows.dtype, np.float32)) - reconstruction)
        if per_feature:
            return squares if observed is None else np.where(observed, squares, np.nan)
        if observed is None:
            return squares.reshape(len(rows), -1).mean(axis=1, dtype=np.float64)
        counts = _something(observed.reshape(len(rows), -1).sum(axis=1), first)
        return np.where(observed, squares, 0).reshape(len(rows), -1).sum(axis=1, dtype=np.float64) / counts

    return _by_pieces(model, x, batch_size, score)


def nll(model: Any, x: Any, *, per_feature: bool = False, batch_size: int = 512) -> np.ndarray:
    """Return the negative log-likelihood of each sample given its own code, per observed variable, in nats.

    -log p(x | z = g(x)), the likelihood's constant included, divided by the number of variables that are
    observed: the score for counts, categories and mixed tables, whose squared errors do not add up to
    anything. A one-hot group is one variable. Of a variational model the code is the posterior's mean; what
    the code itself costs is not counted: for that, see `negative_elbo`.

    Parameters
    ----------
    model : Autoencoder
    x : array (n, ...), or any source of batches that `fit` takes
    per_feature : bool
        Return the negative log-likelihood of every feature, in the shape of `x`, NaN where it is missing. Of
        a one-hot group only the sum means something: it stands at the class that was observed.
    batch_size : int

    Returns
    -------
    ndarray (n,), or (n, ...) with `per_feature`
        May be below 0: a density can be above 1.

    Raises
    ------
    ValueError
        As `errors`.
    """
    checks.flag("per_feature", per_feature)
    if not isinstance(getattr(model, "likelihood", None), Likelihood):
        raise TypeError(
            f"nll asks the model's likelihood; {type(model).__name__} has none: use errors, or an Autoencoder"
        )
    likelihood = model.likelihood

    def score(rows, observed, first):
        scores = []
        for part in checks.parts(rows, rows=batch_size):
            raw = model.decoder(model.encode(part, batch_size=batch_size), training=False)
            dtype = "float64" if "float64" in (str(raw.dtype), str(part.dtype)) else "float32"
            raw, target = ops.cast(raw, dtype), ops.convert_to_tensor(part, dtype)
            if per_feature:
                cost = likelihood.feature_nll(target, raw) + likelihood.feature_constant(target)
            else:
                cost = likelihood.nll(target, raw) + likelihood.constant(target)
            scores.append(ops.convert_to_numpy(cost))
        scores = np.concatenate(scores)
        checks.finite("the log-likelihood", scores, remedy=_DIVERGED, first_row=first)
        if per_feature:
            return scores if observed is None else np.where(observed, scores, np.nan)
        observed = np.ones(rows.shape, bool) if observed is None else observed
        return scores.astype(np.float64) / _something(_variables(likelihood, observed), first)

    return _by_pieces(model, x, batch_size, score)


def _by_pieces(
    model: Any, x: Any, batch_size: int, score: Callable[[np.ndarray, np.ndarray | None, int], np.ndarray]
) -> np.ndarray:
    """Join `score(rows, observed, number of the first)` over checked pieces of `x`, each an ndarray."""
    batch_size = checks.whole_number("batch_size", batch_size)
    likelihood = getattr(model, "likelihood", None)
    likelihood = likelihood if isinstance(likelihood, Likelihood) else None
    if hasattr(model, "checked_parts"):
        parts = model.checked_parts(x, multiple=batch_size)
    else:
        parts = batches.parts("x", x, multiple=batch_size)
    scores, first = [], 0
    for part in parts:
        most = max(1, _PIECE // max(1, part[:1].size))
        most -= most % batch_size if most > batch_size else 0
        for rows in checks.parts(part, rows=most):
            observed = None
            if likelihood is None:
                checks.finite("x", rows, remedy="drop or fill these rows", first_row=first)
            else:
                likelihood.check(rows, name="x")
                observed = likelihood.observed(rows)
            scores.append(score(rows, observed, first))
            first += len(rows)
    return np.concatenate(scores)


def _something(counts: np.ndarray, first: int) -> np.ndarray:
    """Return how much is observed of each sample, (n,), where that is something."""
    if not counts.all():
        raise ValueError(f"nothing is observed in row {first + int(np.argmin(counts))} of x: drop such rows")
    return counts


def _variables(likelihood, observed):
    """Count the variables of each sample that are observed: bool (n, ...) -> (n,)."""
    if isinstance(likelihood, Masked):
        return _variables(likelihood.likelihood, observed)
    if isinstance(likelihood, Mixed):
        groups = np.split(observed, np.cumsum(likelihood.columns)[:-1], axis=-1)
        return sum(map(_variables, likelihood.likelihoods, groups))
    if likelihood.support == "one-hot":
        observed = observed.any(axis=-1)
    return observed.reshape(len(observed), -1).sum(axis=1)


class CodeDensity:
    """How rare a code is among the codes of normal samples: minus its log density, in nats.

    A Gaussian mixture with full covariances, scikit-learn's. The parts of a sample that the code leaves out
    play no part in it: where these are what is odd, take `errors`.

    Parameters
    ----------
    n_components : int or sequence of int
        Gaussians in the mixture; of several numbers, the one with the lowest Bayesian information criterion
        on the codes of `fit` (BIC: Schwarz, 1978).
    seed : int
        Of the fit's start.

    Attributes
    ----------
    mixture : sklearn.mixture.GaussianMixture
    bic : dict
        The criterion of every number of components that was tried, in nats times 2: lower is better.

    Examples
    --------
    >>> import numpy as np
    >>> from aelib.anomaly import CodeDensity
    >>> codes = np.random.default_rng(0).normal(size=(200, 2))
    >>> density = CodeDensity(n_components=(1, 2)).fit(codes)
    >>> near, far = density.score([[0.0, 0.0], [9.0, 9.0]])
    >>> bool(far > near)
    True
    """

    def __init__(self, n_components: int | Sequence[int] = 1, *, seed: int | None = 0) -> None:
        self.n_components = checks.whole_numbers("n_components", n_components)
        if not self.n_components:
            raise ValueError(f"n_components must be one number or several, got {n_components!r}")
        self.seed = checks.seed("seed", seed)

    def fit(self, code: ArrayLike) -> Self:
        """Fit the mixture to normal samples' codes, (n, K), and return self."""
        code = checks.codes(code, least=max(2, *self.n_components)).astype(np.float64)
        mixtures = [GaussianMixture(k, random_state=self.seed).fit(code) for k in self.n_components]
        self.bic = {mixture.n_components: float(mixture.bic(code)) for mixture in mixtures}
        self.mixture = min(mixtures, key=lambda mixture: self.bic[mixture.n_components])
        return self

    def score(self, code: ArrayLike) -> np.ndarray:
        """Return minus the log density of each code: (n, K) -> (n,)."""
        if not hasattr(self, "mixture"):
            raise NotFittedError("there is no density yet: fit it to codes of normal samples first")
        return -self.mixture.score_samples(
            checks.codes(code, width=self.mixture.n_features_in_).astype(np.float64)
        )


class Mahalanobis:
    """How far a code lies from the mean of normal samples' codes, in their own standard deviations.

    √((z - μ)ᵀ Σ⁻¹ (z - μ)), with the mean and the covariance of normal codes: Lee et al. (2018), for one
    class. It orders samples as `CodeDensity` with one component does, and needs no unit.

    Parameters
    ----------
    reg_covar : float
        Added to the covariance's diagonal, as in scikit-learn's mixtures, so that a dead unit does no harm.

    Attributes
    ----------
    location, covariance : ndarray (K,), (K, K)
        Of the normal codes.

    Examples
    --------
    >>> import numpy as np
    >>> from aelib.anomaly import Mahalanobis
    >>> errors = np.random.default_rng(0).normal(size=(200, 3))
    >>> near, far = Mahalanobis().fit(errors).score([[0.0, 0.0, 0.0], [9.0, 9.0, 9.0]])
    >>> bool(far > near)
    True
    """

    def __init__(self, *, reg_covar: float = 1e-6) -> None:
        self.reg_covar = checks.number("reg_covar", reg_covar, least=0)

    def fit(self, code: ArrayLike) -> Self:
        """Estimate mean and covariance from normal samples' codes, (n >= 2, K), and return self."""
        code = checks.codes(code, least=2).astype(np.float64)
        self.location = code.mean(axis=0)
        self.covariance = np.atleast_2d(np.cov(code.T, bias=True))
        try:
            self._root = linalg.cholesky(
                self.covariance + self.reg_covar * np.eye(len(self.location)), lower=True
            )
        except linalg.LinAlgError:
            raise ValueError(
                f"the covariance of the codes cannot be inverted, with reg_covar={self.reg_covar:g}: some "
                "units are constant, or follow from others; raise reg_covar"
            ) from None
        return self

    def score(self, code: ArrayLike) -> np.ndarray:
        """Return the distance of each code: (n, K) -> (n,)."""
        if not hasattr(self, "location"):
            raise NotFittedError("there is no distance yet: fit it to codes of normal samples first")
        code = checks.codes(code, width=len(self.location))
        whitened = linalg.solve_triangular(self._root, (code - self.location).T, lower=True)  # (K, n)
        return np.linalg.norm(whitened, axis=0)


def negative_elbo(
    model: Any, x: Any, *, samples: int = 50, weighted: bool = False, seed: int | None = 0
) -> np.ndarray:
    """Return the negative evidence lower bound of each sample, in nats: (n, ...) -> (n,).

    It lies above -log p(x) in expectation.

    Parameters
    ----------
    model : VariationalAutoencoder
    x : array (n, ...), or any source of batches that `fit` takes
    samples : int
        Codes drawn for each sample.
    weighted : bool
        Take the importance-weighted bound (Burda et al., 2016), which is tighter the more codes are drawn;
        otherwise the ELBO itself, averaged over the draws. See `aelib.bounds`.
    seed : int
        Of the draws: the same samples in the same order get the same scores.
    """
    estimate = bounds.log_likelihood if checks.flag("weighted", weighted) else bounds.elbo
    return -estimate(model, x, samples=samples, seed=seed).each


class Ensemble:
    """Several scores of a sample as one: each brought to the scale of normal samples, then mean or maximum.

    A reconstruction error sees what the code leaves out, a code's density what it keeps; the ensemble sees
    both. The mean evens out the noise of scores that agree, such as those of several seeds; the maximum finds
    what only one of them sees, and takes over the noise of each (Aggarwal & Sathe, 2015).

    Parameters
    ----------
    scale : {"robust z", "rank"}
        (s - median) / (1.4826 · MAD), which is a Gaussian's standard score though a few samples be odd
        (MAD: the median of the distances from the median); or the share of the fitted scores below s, equal
        ones counted half, in [0, 1]. The rank is the same for every monotone map of a score, but all that is
        odder than any fitted sample has rank 1 alike.
    combine : {"mean", "max"}

    Examples
    --------
    >>> import numpy as np
    >>> from aelib.anomaly import Ensemble
    >>> normal = np.random.default_rng(0).normal(size=(2, 100)) * [[1], [1000]]
    >>> one = Ensemble().fit(normal)
    >>> near, far = one.score([[0.0, 5.0], [0.0, 5000.0]])
    >>> bool(far > 4 > near)
    True
    """

    def __init__(
        self, scale: Literal["robust z", "rank"] = "robust z", combine: Literal["mean", "max"] = "mean"
    ) -> None:
        self.scale = checks.choice("scale", scale, ("robust z", "rank"))
        self.combine = checks.choice("combine", combine, ("mean", "max"))

    def fit(self, scores: ArrayLike) -> Self:
        """Learn the scale of each score from normal samples, and return self.

        Parameters
        ----------
        scores : array (S, n), or a list of S scores, each (n,)
            A `Threshold` keeps its promise where it is fitted to the ensemble's scores of other samples than
            these.
        """
        scores = _rows_of_scores(scores)
        if self.scale == "robust z":
            self._middles, self._widths = np.transpose([_robust(row) for row in scores])[..., None]
        self._sorted = np.sort(scores, axis=1)
        return self

    def score(self, scores: ArrayLike) -> np.ndarray:
        """Return one score a sample, higher for odder ones: (S, n) -> (n,)."""
        if not hasattr(self, "_sorted"):
            raise NotFittedError("the ensemble has no scales yet: fit it to scores of normal samples first")
        scores = _rows_of_scores(scores, len(self._sorted))
        if self.scale == "robust z":
            scaled = (scores - self._middles) / self._widths
        else:
            pairs = zip(self._sorted, scores, strict=True)
            ends = [[np.searchsorted(fit, row, side) for side in ("left", "right")] for fit, row in pairs]
            scaled = np.mean(ends, axis=1) / self._sorted.shape[1]
        return scaled.mean(axis=0) if self.combine == "mean" else scaled.max(axis=0)


def _rows_of_scores(scores: ArrayLike, count: int | None = None) -> np.ndarray:
    """Return scores as float64 (S, n), all finite; S is `count` where that is given."""
    scores = checks.array("scores", scores)
    if scores.ndim != 2 or not scores.size or len(scores) != (count or len(scores)):
        raise ValueError(
            f"scores must have shape ({count or 'S'}, n >= 1), a row a score, got {scores.shape}"
        )
    return np.stack([_finite(row) for row in scores])


def _robust(scores: np.ndarray) -> tuple[float, float]:
    """Return the median of scores, (n,), and 1.4826 times the median distance from it."""
    width = stats.median_abs_deviation(scores, scale="normal")
    if not width > 0:
        raise ValueError(
            f"at least half of the {len(scores)} scores are {np.median(scores):g}, so that their median "
            "deviation is 0: take scale='rank', or for a threshold a contamination"
        )
    return np.median(scores), width


class _Limit:
    """What a fitted threshold does with fresh scores: those strictly above its `value` are alarms."""

    def predict(self, scores: ArrayLike) -> np.ndarray:
        """Return which samples are alarms: (n,) -> bool (n,)."""
        self._fitted()
        return _finite(scores) > self.value  # type: ignore[attr-defined]

    def _fitted(self):
        if not hasattr(self, "value"):
            raise NotFittedError("the threshold has no value yet: fit it to scores first")


class Threshold(_Limit):
    """A threshold on scores, from normal samples alone, with a guarantee on false alarms.

    Split conformal prediction (Vovk et al., 2005; Angelopoulos & Bates, 2023): of n calibration scores the
    ⌈(n + 1)(1 - α)⌉-th smallest. If these and the score of a fresh normal sample are exchangeable, the fresh
    one is above it with a probability of at most α, on average over calibration sets. So the scores must not
    be those of the model's own training samples, which it fits better than any fresh one.

    Parameters
    ----------
    alpha : float
        The level α in (0, 1): the share of normal samples that may be taken for anomalies.

    Attributes
    ----------
    value : float
        Scores strictly above it are alarms.
    scores : ndarray (n,)
        The calibration scores, sorted.

    Examples
    --------
    >>> import numpy as np
    >>> from aelib.anomaly import Threshold
    >>> threshold = Threshold(alpha=0.05).fit(np.arange(100.0))
    >>> threshold.predict([50.0, 98.0]).tolist()
    [False, True]
    """

    def __init__(self, alpha: float = 0.05) -> None:
        self.alpha = checks.inner_share("alpha", alpha)

    def fit(self, scores: ArrayLike) -> Self:
        """Calibrate on the scores of fresh normal samples, (n,), and return self.

        Raises
        ------
        ValueError
            If the scores are fewer than ⌈1/α⌉ - 1, or not finite.
        """
        scores = np.sort(_finite(scores))
        # As a fraction: in floating point, (n + 1) α may fall short of the whole number that it is.
        level = Fraction(str(self.alpha))
        above = floor((len(scores) + 1) * level)
        if not above:
            raise ValueError(
                f"alpha={self.alpha} needs at least {ceil(1 / level) - 1} calibration scores, "
                f"got {len(scores)}"
            )
        self.scores, self.value = scores, float(scores[-above])
        self._shape = above, len(scores) + 1 - above
        return self

    def p_values(self, scores: ArrayLike) -> np.ndarray:
        """Return the share of normal scores that are at least as high, each sample counting itself.

        (n,) -> (n,). A fresh normal sample's is at most any t in (0, 1) with a probability of at most t;
        `predict` alarms where it is at most α.
        """
        self._fitted()
        lower = np.searchsorted(self.scores, _finite(scores), side="left")
        return (1 + len(self.scores) - lower) / (1 + len(self.scores))

    def spread(self, level: float = 0.9) -> tuple[float, float]:
        """Return where the false-alarm rate of this one calibration lies with probability `level`.

        The promise is kept on average; a single calibration set is luckier or less lucky. For scores without
        ties its rate is Beta(l, n + 1 - l)-distributed, l = ⌊(n + 1) α⌋ (Vovk, 2012); this is the central
        interval, (low, high). It shrinks with the root of n.
        """
        self._fitted()
        low, high = stats.beta(*self._shape).interval(checks.inner_share("level", level))
        return float(low), float(high)


class RobustThreshold(_Limit):
    """A threshold on the scores of a mixture of normal samples and some anomalies, unlabelled.

    It **promises nothing** on false alarms: where normal samples can be had, take `Threshold`. Where the
    share of anomalies is known, give it: the threshold is what that share of the scores exceeds, which is
    right if anomalies score above all normal samples. Where it is not, the threshold is

        median + Φ⁻¹(1 - α) · 1.4826 · MAD

    (Iglewicz & Hoaglin, 1993), MAD the median distance from the median, Φ the normal distribution. It assumes
    that less than half of the scores are anomalies', and that normal scores are Gaussian in the middle and in
    the upper tail: squared errors are skewed, so give their logarithms. Anomalies raise median and MAD by
    their number, not by how high they score, so that fewer are found: where 10 % of the scores are anomalies'
    and far above the others, α = 0.05 leaves 0.022 of false alarms; where 20 % are, 0.005.

    A model that was trained on the mixture has learnt to rebuild some of the anomalies too; no threshold
    mends that.

    Parameters
    ----------
    alpha : float
        In (0, 1): the share of normal samples to be taken for anomalies, under these assumptions.
    contamination : float, optional
        The share of anomalies, in (0, 0.5]; `alpha` is then not read.

    Attributes
    ----------
    value : float
        Scores strictly above it are alarms.

    Examples
    --------
    >>> import numpy as np
    >>> from aelib.anomaly import RobustThreshold
    >>> scores = np.random.default_rng(0).normal(size=200)
    >>> scores[:10] = 50  # a twentieth is odd already in training
    >>> RobustThreshold().fit(scores).predict([0.0, 4.0]).tolist()
    [False, True]
    """

    def __init__(self, alpha: float = 0.05, *, contamination: float | None = None) -> None:
        self.alpha = checks.inner_share("alpha", alpha)
        self.contamination = contamination
        if contamination is not None:
            self.contamination = checks.number("contamination", contamination, above=0, most=0.5)

    def fit(self, scores: ArrayLike) -> Self:
        """Set the threshold by the scores of the mixture, (n >= 1,), and return self."""
        scores = _finite(checks.samples("scores", scores))
        if self.contamination is not None:
            self.value = float(np.quantile(scores, 1 - self.contamination))
        else:
            middle, width = _robust(scores)
            self.value = float(middle + stats.norm.isf(self.alpha) * width)
        return self


def _finite(scores: ArrayLike) -> np.ndarray:
    """Return scores as float64 (n,), all finite."""
    scores = checks.array("scores", scores).astype(np.float64)
    if scores.ndim != 1:
        raise ValueError(f"scores must have shape (n,), got {scores.shape}")
    return checks.finite("scores", scores, remedy="look at the samples that they belong to")
