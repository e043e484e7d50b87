"""Anomaly detection: scores against hand-computed ones, and the threshold's promise kept."""

import pickle
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats
from sklearn.exceptions import NotFittedError

import aelib
from aelib import anomaly, blocks, bounds
from aelib.anomaly import CodeDensity, Threshold


def reconstructor(function):
    return SimpleNamespace(reconstruct=lambda x, batch_size: function(x))


def test_errors_are_means_of_the_map():
    x = np.array([[[1.0, 2.0]], [[0.0, 4.0]]], dtype="float32")  # (2, 1, 2)
    model = reconstructor(lambda x: x - [1.0, 3.0])
    np.testing.assert_allclose(anomaly.errors(model, x), [5.0, 5.0])
    np.testing.assert_allclose(anomaly.errors(model, x, per_feature=True), [[[1.0, 9.0]]] * 2)


def test_errors_of_an_autoencoder():
    encoder, decoder = blocks.dense_encoder((6,), 2, hidden=()), blocks.dense_decoder((6,), 2, hidden=())
    model = aelib.Autoencoder(encoder, decoder, likelihood="gaussian")
    x = np.random.default_rng(0).normal(size=(9, 6)).astype("float32")
    wanted = ((x - model.reconstruct(x)) ** 2).mean(axis=1)
    np.testing.assert_allclose(anomaly.errors(model, x, batch_size=4), wanted, rtol=1e-5)


@pytest.mark.parametrize("x", [np.zeros(3), np.zeros((3, 2))])
def test_errors_refuse_other_shapes(x):
    with pytest.raises(ValueError, match="share a shape"):
        anomaly.errors(reconstructor(lambda x: x if x.ndim == 1 else x[:, :1]), x)


def test_code_density_of_one_gaussian_is_its_formula():
    rng = np.random.default_rng(0)
    code, fresh = rng.normal(size=(500, 3)) @ rng.normal(size=(3, 3)), rng.normal(size=(5, 3))
    normal = stats.multivariate_normal(code.mean(axis=0), np.cov(code.T, bias=True))
    score = CodeDensity().fit(code).score(fresh)
    np.testing.assert_allclose(score, -normal.logpdf(fresh), rtol=1e-4)


def test_two_components_see_the_gap_between_them():
    code = np.concatenate([np.random.default_rng(0).normal(m, 0.1, size=(100, 1)) for m in (-3, 3)])
    middle, on = CodeDensity(2).fit(code).score(np.array([[0.0], [3.0]]))
    assert middle > on + 10


@pytest.mark.parametrize("weighted", [True, False])
def test_likelihood_is_minus_the_bound(weighted):
    encoder, decoder = blocks.dense_encoder((6,), 4, hidden=()), blocks.dense_decoder((6,), 2, hidden=())
    model = aelib.VariationalAutoencoder(encoder, decoder, likelihood="gaussian")
    x = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")
    score = anomaly.likelihood(model, x, samples=3, weighted=weighted, seed=5)
    bound = bounds.importance_weighted_bound(model, x, 3, seed=5)
    wanted = bound if weighted else bounds.elbo(model, x, samples=3, seed=5)
    np.testing.assert_allclose(score, -wanted.each, rtol=1e-6)


@pytest.mark.parametrize(
    ("level", "n", "rank"),
    [(0.05, 19, 19), (0.05, 20, 20), (0.05, 39, 38), (0.1, 29, 27), (0.29, 99, 71), (0.5, 4, 3)],
)
def test_the_threshold_is_the_conformal_order_statistic(level, n, rank):
    """The rank ⌈(n + 1)(1 - α)⌉, also where (n + 1) α is a whole number that floats miss."""
    scores = np.random.default_rng(n).permutation(n).astype(float) + 1  # 1 ... n
    threshold = Threshold(level).fit(scores)
    assert threshold.value == rank
    np.testing.assert_array_equal(threshold.predict([rank - 0.5, rank, rank + 0.5]), [False, False, True])


@pytest.mark.parametrize(("level", "needed"), [(0.05, 19), (0.3, 3), (0.001, 999), (0.5, 1)])
def test_too_few_scores_say_how_many(level, needed):
    Threshold(level).fit(np.arange(needed))
    with pytest.raises(ValueError, match=rf"at least {needed} .* got {needed - 1}"):
        Threshold(level).fit(np.arange(needed - 1.0))


def test_the_promise_is_kept_and_the_spread_is_right():
    """True rates of 2,000 calibrations on uniform scores, where the rate above t is 1 - t exactly."""
    rng, n, level = np.random.default_rng(0), 49, 0.1
    thresholds = [Threshold(level).fit(rng.random(n)) for _ in range(2000)]
    rates = 1 - np.array([threshold.value for threshold in thresholds])
    error = rates.std() / np.sqrt(len(rates))
    assert abs(rates.mean() - 5 / 50) < 4 * error  # (n + 1) α is whole: met exactly
    low, high = thresholds[0].spread(0.8)
    np.testing.assert_allclose(np.quantile(rates, [0.1, 0.9]), [low, high], atol=0.006)
    wider = thresholds[0].spread()
    assert wider[0] < low < level < high < wider[1]


def test_p_values_by_brute_force_and_in_step_with_the_alarms():
    rng = np.random.default_rng(0)
    calibration, scores = rng.integers(0, 30, 57) / 10, rng.integers(0, 40, 200) / 10  # with ties
    threshold = Threshold(0.1).fit(calibration)
    wanted = [(1 + sum(calibration >= score)) / 58 for score in scores]
    np.testing.assert_allclose(threshold.p_values(scores), wanted)
    np.testing.assert_array_equal(threshold.predict(scores), np.array(wanted) <= 0.1)


def test_a_threshold_survives_pickling():
    threshold = Threshold(0.2).fit(np.arange(20.0))
    again = pickle.loads(pickle.dumps(threshold))
    assert (again.value, again.spread()) == (threshold.value, threshold.spread())


@pytest.mark.parametrize("level", [0, 1, -0.1, 5, float("nan")])
def test_refuses_a_level_that_is_no_share(level):
    with pytest.raises(ValueError, match="false_alarms must be in"):
        Threshold(level)
    with pytest.raises(ValueError, match="level must be in"):
        Threshold().fit(np.arange(99.0)).spread(level)


@pytest.mark.parametrize("scores", [[1.0, np.nan], [np.inf], [[1.0]], 3.0])
def test_refuses_scores_that_are_not_finite_rows(scores):
    threshold = Threshold(0.5).fit([1.0, 2.0])
    for method in (Threshold(0.5).fit, threshold.predict, threshold.p_values):
        with pytest.raises(ValueError, match="finite, of shape"):
            method(scores)


@pytest.mark.parametrize("method", ["predict", "p_values", "spread"])
def test_has_to_be_fitted_first(method):
    with pytest.raises(NotFittedError, match="fit it"):
        getattr(Threshold(), method)(*([[1.0]] if method != "spread" else []))
