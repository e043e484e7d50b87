"""How far the units of a code stand for known factors, one by one: MIG and DCI, in NumPy and scikit-learn."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from aelib import checks

_DROP = "drop or fill these rows"


def _pair(codes: ArrayLike, factors: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return codes (n, K) in double precision, and factors (n, J)."""
    codes = checks.finite("codes", np.asarray(checks.samples("codes", codes), np.float64), remedy=_DROP)
    factors = np.asarray(factors)
    if codes.ndim != 2 or factors.ndim != 2 or len(codes) != len(factors) or min(factors.shape) < 1:
        raise ValueError(
            f"codes and factors must have shapes (n, K) and (n, J), got {codes.shape} and {factors.shape}"
        )
    return codes, factors


def _binned(codes: np.ndarray, bins: int) -> np.ndarray:
    """Return the number of each code's bin, of `bins` equally wide ones a unit: (n, K) -> (n, K)."""
    low, span = codes.min(axis=0), np.ptp(codes, axis=0)
    share = np.divide(codes - low, span, out=np.zeros_like(codes), where=span > 0)
    return np.minimum((share * bins).astype(int), bins - 1)


def _indices(factors: np.ndarray) -> np.ndarray:
    """Return which of its values each factor has, by number: (n, J) -> (n, J)."""
    indices = np.stack([np.unique(column, return_inverse=True)[1] for column in factors.T], axis=1)
    if not indices.max(axis=0).all():
        alone = int(indices.max(axis=0).argmin())
        raise ValueError(f"factor {alone} has one value in all samples: leave it out")
    return indices


def _information(one: np.ndarray, two: np.ndarray) -> float:
    """Return the mutual information of two columns of small whole numbers, in nats."""
    joint = np.zeros((one.max() + 1, two.max() + 1))
    np.add.at(joint, (one, two), 1 / len(one))
    apart = np.outer(joint.sum(axis=1), joint.sum(axis=0))
    seen = joint > 0
    return float(np.sum(joint[seen] * np.log(joint[seen] / apart[seen])))


def mutual_information(codes: ArrayLike, factors: ArrayLike, *, bins: int = 20) -> np.ndarray:
    """Share of each factor's entropy that each unit tells: (n, K), (n, J) -> (K, J), in [0, 1].

    A unit is cut into `bins` equally wide bins between its extremes (Locatello et al., 2019). The estimate
    is too high by about (bins - 1)(values - 1)/(2n) nats, also where there is nothing to tell. A unit that
    hardly varies is stretched over all bins like any other: set collapsed units to 0 before.
    """
    bins = checks.whole_number("bins", bins, least=2)
    codes, factors = _pair(codes, factors)
    binned, factors = _binned(codes, bins), _indices(factors)
    told = [[_information(unit, factor) for factor in factors.T] for unit in binned.T]
    return np.array(told) / np.array([_information(factor, factor) for factor in factors.T])


def mig(codes: ArrayLike, factors: ArrayLike, *, bins: int = 20) -> np.ndarray:
    """Mutual information gap of each factor, in [0, 1]; its mean is the MIG: (n, K), (n, J) -> (J,).

    How much more of a factor's entropy the unit that tells most tells than the one that comes second: 1 if
    one unit tells all and the others nothing, 0 if two tell the same. Chen et al. (2018), section 4.1;
    binned as in `mutual_information`.

    Parameters
    ----------
    codes : array (n, K)
        K >= 2 numbers for each sample.
    factors : array (n, J)
        Discrete values of the J known factors.
    bins : int

    Examples
    --------
    >>> import numpy as np
    >>> from aelib.disentanglement import mig
    >>> factors = np.stack(np.meshgrid(np.arange(10), np.arange(10)), axis=-1).reshape(-1, 2)
    >>> turned = factors @ np.array([[1, 1], [-1, 1]])
    >>> mig(factors, factors).mean().round(2), mig(turned, factors).mean().round(2)
    (np.float64(1.0), np.float64(0.0))
    """
    shares = mutual_information(codes, factors, bins=bins)
    if len(shares) < 2:
        raise ValueError("a gap needs two units or more, got codes of one")
    shares = np.sort(shares, axis=0)
    return shares[-1] - shares[-2]


class DCI(NamedTuple):
    """``disentanglement``, ``completeness``, ``informativeness``; ``importance`` (K, J) is behind them."""

    disentanglement: float
    completeness: float
    informativeness: float
    importance: np.ndarray


def dci(
    train: tuple[ArrayLike, ArrayLike], test: tuple[ArrayLike, ArrayLike], *, trees: int = 20, seed: int = 0
) -> DCI:
    """Return disentanglement, completeness and informativeness: Eastwood & Williams (2018).

    A random forest predicts each factor from the code; R, how important unit k is for factor j, is the share
    of its splits' gain. Disentanglement is 1 less the entropy (to the base J) of a unit's row of R, weighed
    by the unit's share of R; completeness 1 less the entropy (to the base K) of a factor's column, averaged;
    informativeness the share of test values that the forests get right, averaged over the factors.

    Parameters
    ----------
    train, test : tuple of (codes (n, K), factors (n, J)), K, J >= 2
    trees : int
        In each forest.
    seed : int
    """
    from sklearn.ensemble import RandomForestClassifier

    (codes, factors), (others, wanted) = _pair(*train), _pair(*test)
    if min(codes.shape[1], factors.shape[1]) < 2:
        raise ValueError(f"need two units and two factors or more, got {codes.shape} and {factors.shape}")
    options: dict[str, Any] = {"n_estimators": checks.whole_number("trees", trees), "random_state": seed}
    options["max_features"] = None  # with a random half of the units, a tree must split on the wrong one
    forests = [RandomForestClassifier(**options).fit(codes, factor) for factor in factors.T]
    right = [forest.score(others, factor) for forest, factor in zip(forests, wanted.T, strict=True)]
    importance = np.stack([forest.feature_importances_ for forest in forests], axis=1)  # (K, J)
    of_unit = 1 - _entropy(importance, axis=1) / np.log(importance.shape[1])
    of_factor = 1 - _entropy(importance, axis=0) / np.log(importance.shape[0])
    share = importance.sum(axis=1) / max(importance.sum(), 1e-12)  # 0 where every unit is constant
    return DCI(float(share @ of_unit), float(of_factor.mean()), float(np.mean(right)), importance)


def _entropy(weights: np.ndarray, axis: int) -> np.ndarray:
    """Return the entropy in nats of weights that are brought to a sum of 1 along an axis."""
    total = weights.sum(axis=axis, keepdims=True)
    p = np.divide(weights, total, out=np.full_like(weights, 1 / weights.shape[axis]), where=total > 0)
    return -np.sum(p * np.log(np.where(p > 0, p, 1)), axis=axis)
