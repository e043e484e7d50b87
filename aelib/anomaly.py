"""How odd a sample is to a model of normal ones, and a threshold that keeps its promise on false alarms.

Every score is higher for odder samples. Train the model on normal samples only, and calibrate the threshold
on normal samples that it was not trained on.
"""

from fractions import Fraction
from math import ceil, floor

import numpy as np
from scipy import stats
from sklearn.exceptions import NotFittedError
from sklearn.mixture import GaussianMixture

from aelib import bounds


def errors(model, x, *, per_feature=False, batch_size=512):
    """Return the squared error of the reconstruction: the mean of each sample, or the map.

    Parameters
    ----------
    model : Autoencoder
        Or anything whose ``reconstruct(x, batch_size=...)`` returns an array like `x`.
    x : array (n, ...)
    per_feature : bool
        Return the squared error of every feature, an error map in the shape of `x`, instead of their mean.
    batch_size : int

    Returns
    -------
    ndarray (n,), or (n, ...) with `per_feature`
        In squared units of `x`.
    """
    x = np.asarray(x)
    reconstruction = np.asarray(model.reconstruct(x, batch_size=batch_size))
    if x.ndim < 2 or reconstruction.shape != x.shape:
        raise ValueError(
            f"x and its reconstruction must share a shape (n, ...), got {x.shape}, {reconstruction.shape}"
        )
    squares = np.square(x - reconstruction)
    return squares if per_feature else squares.reshape(len(x), -1).mean(axis=1, dtype=np.float64)


class CodeDensity:
    """How rare a code is among the codes of normal samples: minus its log density, in nats.

    A Gaussian mixture with full covariances, scikit-learn's. The parts of a sample that the code leaves out
    play no part in it: where these are what is odd, take `errors`.

    Parameters
    ----------
    n_components : int
        Gaussians in the mixture.
    seed : int
        Of the fit's start.
    """

    def __init__(self, n_components=1, *, seed=0):
        self.mixture = GaussianMixture(n_components, random_state=seed)

    def fit(self, code):
        """Fit the mixture to normal samples' codes, (n, K), and return self."""
        self.mixture.fit(code)
        return self

    def score(self, code):
        """Return minus the log density of each code: (n, K) -> (n,)."""
        return -self.mixture.score_samples(code)


def likelihood(model, x, *, samples=50, weighted=True, seed=0):
    """Return minus a lower bound on log p(x) of each sample, in nats: (n, ...) -> (n,).

    Parameters
    ----------
    model : VariationalAutoencoder
    x : array (n, ...)
    samples : int
        Codes drawn for each sample.
    weighted : bool
        Take the importance-weighted bound (Burda et al., 2016); else the ELBO, averaged over the draws. See
        `aelib.bounds`.
    seed : int
        Of the draws: the same samples in the same order get the same scores.
    """
    estimate = bounds.log_likelihood if weighted else bounds.elbo
    return -estimate(model, x, samples=samples, seed=seed).each


class Threshold:
    """A threshold on scores, from normal samples alone, with a guarantee on false alarms.

    Split conformal prediction (Vovk et al., 2005; Angelopoulos & Bates, 2023): of n calibration scores the
    ⌈(n + 1)(1 - α)⌉-th smallest. If these and the score of a fresh normal sample are exchangeable, the fresh
    one is above it with a probability of at most α, on average over calibration sets. So the scores must not
    be those of the model's own training samples, which it fits better than any fresh one.

    Parameters
    ----------
    false_alarms : float
        The level α in (0, 1): the share of normal samples that may be taken for anomalies.

    Attributes
    ----------
    value : float
        Scores strictly above it are alarms.
    scores : ndarray (n,)
        The calibration scores, sorted.
    """

    def __init__(self, false_alarms=0.05):
        if not 0 < false_alarms < 1:
            raise ValueError(f"false_alarms must be in (0, 1), got {false_alarms!r}")
        self.false_alarms = float(false_alarms)

    def fit(self, scores):
        """Calibrate on the scores of fresh normal samples, (n,), and return self.

        Raises
        ------
        ValueError
            If the scores are fewer than ⌈1/α⌉ - 1, or not finite.
        """
        scores = np.sort(_finite(scores))
        # As a fraction: in floating point, (n + 1) α may fall short of the whole number that it is.
        level = Fraction(str(self.false_alarms))
        above = floor((len(scores) + 1) * level)
        if not above:
            raise ValueError(
                f"false_alarms={self.false_alarms} needs at least {ceil(1 / level) - 1} calibration scores,"
                f" got {len(scores)}"
            )
        self.scores, self.value = scores, float(scores[-above])
        self._shape = above, len(scores) + 1 - above
        return self

    def predict(self, scores):
        """Return which samples are alarms: (n,) -> bool (n,)."""
        self._fitted()
        return _finite(scores) > self.value

    def p_values(self, scores):
        """Return the share of normal scores that are at least as high, each sample counting itself.

        (n,) -> (n,). A fresh normal sample's is at most any t in (0, 1) with a probability of at most t;
        `predict` alarms where it is at most α.
        """
        self._fitted()
        lower = np.searchsorted(self.scores, _finite(scores), side="left")
        return (1 + len(self.scores) - lower) / (1 + len(self.scores))

    def spread(self, level=0.9):
        """Return where the false-alarm rate of this one calibration lies with probability `level`.

        The promise is kept on average; a single calibration set is luckier or less lucky. For scores without
        ties its rate is Beta(l, n + 1 - l)-distributed, l = ⌊(n + 1) α⌋ (Vovk, 2012); this is the central
        interval, (low, high). It shrinks with the root of n.
        """
        self._fitted()
        if not 0 < level < 1:
            raise ValueError(f"level must be in (0, 1), got {level!r}")
        low, high = stats.beta(*self._shape).interval(level)
        return float(low), float(high)

    def _fitted(self):
        if not hasattr(self, "value"):
            raise NotFittedError("the threshold has no value yet: fit it to scores of normal samples first")


def _finite(scores):
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 1 or not np.isfinite(scores).all():
        raise ValueError(f"scores must be finite, of shape (n,), got shape {scores.shape}")
    return scores
