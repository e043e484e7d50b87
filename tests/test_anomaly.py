"""Anomaly detection: scores against hand-computed ones, and the threshold's promise kept."""

import pickle
import tracemalloc
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from scipy import optimize, stats
from scipy.spatial.distance import mahalanobis
from sklearn.exceptions import NotFittedError

import aelib
from aelib import anomaly, blocks, bounds, checks
from aelib.anomaly import CodeDensity, Ensemble, Mahalanobis, RobustThreshold, Threshold
from aelib.likelihoods import Masked, Mixed, Poisson

FEATURES = 6


def reconstructor(function):
    return SimpleNamespace(reconstruct=lambda x, batch_size: function(x))


def linear(likelihood, features=FEATURES, raw=None, kind=aelib.Autoencoder):
    """An autoencoder with a code of two, on tables."""
    code = 4 if kind is aelib.VariationalAutoencoder else 2
    encoder = blocks.dense_encoder((features,), code, hidden=())
    return kind(encoder, blocks.dense_decoder((raw or features,), 2, hidden=()), likelihood=likelihood)


@pytest.fixture
def table():
    return np.random.default_rng(0).normal(size=(9, FEATURES)).astype("float32")


def test_errors_are_means_of_the_map():
    x = np.array([[[1.0, 2.0]], [[0.0, 4.0]]], dtype="float32")  # (2, 1, 2)
    model = reconstructor(lambda x: x - [1.0, 3.0])
    np.testing.assert_allclose(anomaly.errors(model, x), [5.0, 5.0])
    np.testing.assert_allclose(anomaly.errors(model, x, per_feature=True), [[[1.0, 9.0]]] * 2)


def test_errors_of_an_autoencoder(table):
    model = linear("gaussian")
    wanted = ((table - model.reconstruct(table)) ** 2).mean(axis=1)
    np.testing.assert_allclose(anomaly.errors(model, table, batch_size=4), wanted, rtol=1e-5)


@pytest.mark.parametrize("x", [np.zeros(3), np.zeros((3, 2))])
def test_errors_refuse_other_shapes(x):
    with pytest.raises(ValueError, match="share a shape"):
        anomaly.errors(reconstructor(lambda x: x if x.ndim == 1 else x[:, :1]), x)


@pytest.mark.parametrize("dtype", ["uint8", "int64", "bool", "float16", "float64"])
def test_whole_numbers_do_not_wrap_round(dtype):
    x = np.array([[0, 1], [1, 1]], dtype)
    model = reconstructor(lambda x: np.ones_like(x))
    np.testing.assert_array_equal(anomaly.errors(model, x), [0.5, 0.0])


class Batches(keras.utils.PyDataset):
    def __init__(self, x):
        super().__init__()
        self.x = x

    def __len__(self):
        return 3

    def __getitem__(self, i):
        return (self.x[3 * i : 3 * i + 3],)


@pytest.mark.parametrize("score", [anomaly.errors, anomaly.nll])
def test_every_source_of_batches_gets_the_scores_of_the_array(score, table):
    import tensorflow as tf

    model = linear("gaussian", kind=aelib.VariationalAutoencoder)
    wanted = score(model, table)
    for source in (Batches(table), tf.data.Dataset.from_tensor_slices(table).batch(4), iter([table])):
        np.testing.assert_allclose(score(model, source), wanted, rtol=1e-5)


def peak(function):
    """Bytes that NumPy and Python hold at most while a function runs."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("score", [anomaly.errors, anomaly.nll])
def test_a_memory_map_is_read_in_pieces(score, tmp_path, monkeypatch):
    """All sizes an eighth of the true ones: 16 MB on disk for 128, pieces of 1 MB for 8."""
    monkeypatch.setattr(checks, "PART_BYTES", checks.PART_BYTES // 8)
    monkeypatch.setattr(anomaly, "_PIECE", anomaly._PIECE // 8)
    x = np.memmap(tmp_path / "x", "float32", "w+", shape=(2**14, 256))
    model = linear("gaussian", features=256)
    score(model, x[:1024])  # what is built at the first call stays
    assert peak(lambda: score(model, x)) < x.nbytes / 2
    assert peak(lambda: anomaly.errors(reconstructor(lambda x: x), x)) < x.nbytes / 2


def test_pixels_on_another_scale_are_refused():
    model = linear("bernoulli")
    x = np.full((4, FEATURES), 200, "uint8")
    for score in (anomaly.errors, anomaly.nll):
        with pytest.raises(ValueError, match="got numbers from 200 to 200: divide by 255"):
            score(model, x)


def test_nan_is_refused_where_nothing_masks_it(table):
    table[5, 1] = np.nan
    for model in (linear("gaussian"), reconstructor(lambda x: np.zeros_like(x))):
        with pytest.raises(ValueError, match=r"x must be finite: 1 of .* row 5"):
            anomaly.errors(model, table)


def test_a_model_that_has_diverged_is_refused(table):
    with pytest.raises(ValueError, match=r"reconstruction must be finite: 54 of .* training has diverged"):
        anomaly.errors(reconstructor(lambda x: x * np.nan), table)
    model = linear("gaussian")
    model.set_weights([np.full_like(weight, np.nan) for weight in model.get_weights()])
    with pytest.raises(ValueError, match="log-likelihood must be finite"):
        anomaly.nll(model, table)


def test_only_what_is_observed_counts(table):
    model = linear(Masked("gaussian"))
    gaps = table.copy()
    gaps[0, :3] = gaps[4, 5] = np.nan
    squares = (table - model.reconstruct(gaps)) ** 2
    observed = ~np.isnan(gaps)
    wanted = [row[seen].mean() for row, seen in zip(squares, observed, strict=True)]
    np.testing.assert_allclose(anomaly.errors(model, gaps), wanted, rtol=1e-5)
    maps = anomaly.errors(model, gaps, per_feature=True)
    np.testing.assert_array_equal(np.isnan(maps), ~observed)
    np.testing.assert_allclose(maps[observed], squares[observed], rtol=1e-5)
    # Gaussian of variance ½: the squared error and ½ log π for each cell.
    nats = np.array(wanted) + 0.5 * np.log(np.pi)
    np.testing.assert_allclose(anomaly.nll(model, gaps), nats, rtol=1e-5)
    maps = anomaly.nll(model, gaps, per_feature=True)
    np.testing.assert_allclose(np.nanmean(maps, axis=1), nats, rtol=1e-5)
    np.testing.assert_array_equal(np.isnan(maps), ~observed)


@pytest.mark.parametrize("score", [anomaly.errors, anomaly.nll])
def test_a_sample_with_nothing_observed_is_refused_by_its_number(score, table, monkeypatch):
    monkeypatch.setattr(anomaly, "_PIECE", 12)  # two rows at a time
    table[7] = np.nan
    with pytest.raises(ValueError, match="nothing is observed in row 7 of x"):
        score(linear(Masked("gaussian")), table, batch_size=1)


def test_padding_does_not_make_a_sequence_odd():
    rng = np.random.default_rng(0)
    lengths = rng.integers(4, 20, 300)
    x = rng.normal(size=(300, 20, 2)).astype("float32")
    x[np.arange(20) >= lengths[:, None]] = -9
    encoder = blocks.recurrent_encoder((20, 2), 3, units=(4,), mask_value=-9.0)
    model = aelib.Autoencoder(
        encoder, blocks.recurrent_decoder((20, 2), 3, units=(4,)), likelihood="gaussian"
    )
    for score in (anomaly.errors, anomaly.nll):
        assert abs(np.corrcoef(score(model, x), lengths)[0, 1]) < 0.15
        maps = score(model, x, per_feature=True)
        np.testing.assert_array_equal(np.isnan(maps[..., 0]), np.arange(20) >= lengths[:, None])
    squares = np.square(x - model.reconstruct(x)).mean(axis=(1, 2))
    assert np.corrcoef(squares, lengths)[0, 1] < -0.8  # padded steps counted: the shorter, the odder


def test_nll_of_counts_is_their_distributions(table):
    model, counts = linear("poisson"), np.random.default_rng(1).poisson(3, (9, FEATURES))
    rates = model.reconstruct(counts)
    np.testing.assert_allclose(
        anomaly.nll(model, counts, batch_size=4), -stats.poisson(rates).logpmf(counts).mean(axis=1), rtol=1e-4
    )


def test_a_group_of_classes_is_one_variable():
    """Two numbers, three classes, a count: four variables in six columns."""
    likelihood = Mixed([(2, "gaussian"), (3, "categorical"), (1, Poisson())])
    rng = np.random.default_rng(0)
    x = np.concatenate(
        [rng.normal(size=(8, 2)), np.eye(3)[rng.integers(3, size=8)], rng.poisson(2, (8, 1))], 1
    )
    model = linear(Masked(likelihood))
    means = model.reconstruct(x)
    parts = np.concatenate(
        [
            np.square(x[:, :2] - means[:, :2]) + 0.5 * np.log(np.pi),
            -np.log((x * means)[:, 2:5].sum(axis=1, keepdims=True)),
            -stats.poisson(means[:, 5:]).logpmf(x[:, 5:]),
        ],
        axis=1,
    )
    np.testing.assert_allclose(anomaly.nll(model, x), parts.mean(axis=1), rtol=1e-4)
    assert anomaly.errors(model, x).shape == (8,)
    x[:, 2:5] = np.nan
    means = model.reconstruct(x)
    number = np.square(x[:, :2] - means[:, :2]).sum(axis=1) + np.log(np.pi)
    count = -stats.poisson(means[:, 5]).logpmf(x[:, 5])
    np.testing.assert_allclose(anomaly.nll(model, x), (number + count) / 3, rtol=1e-4)


def test_nll_asks_for_a_likelihood(table):
    with pytest.raises(TypeError, match="SimpleNamespace has none: use errors"):
        anomaly.nll(reconstructor(lambda x: x), table)


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


@pytest.mark.parametrize("groups", [1, 3])
def test_the_criterion_finds_the_number_of_groups(groups):
    rng = np.random.default_rng(0)
    code = np.concatenate([rng.normal(m, 0.3, size=(100, 2)) for m in 4 * np.arange(groups)])
    density = CodeDensity((1, 2, 3, 5)).fit(code)
    assert density.mixture.n_components == min(density.bic, key=density.bic.get) == groups
    given = CodeDensity(groups).fit(code)
    np.testing.assert_array_equal(density.score(code), given.score(code))
    # Weights, means and covariances of two dimensions: 6 numbers a component, less one.
    wanted = 2 * given.score(code).sum() + (6 * groups - 1) * np.log(len(code))
    assert given.bic == {groups: pytest.approx(wanted)}


def test_densities_need_a_fit_and_codes_of_its_width():
    with pytest.raises(NotFittedError, match="fit it"):
        CodeDensity().score(np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"codes must have shape \(n >= 1, 2\), got \(1, 3\)"):
        CodeDensity().fit(np.eye(2)).score(np.zeros((1, 3)))
    with pytest.raises(ValueError, match=r"shape \(n >= 3, K\), got \(2, 2\)"):
        CodeDensity((1, 3)).fit(np.eye(2))
    with pytest.raises(ValueError, match=r"n_components must be one number or several, got \(\)"):
        CodeDensity(())


@pytest.mark.parametrize("shape", [(8,), (8, 2)])
def test_windows_get_a_score_each_and_one_a_step(shape):
    encoder, decoder = blocks.dense_encoder(shape, 3), blocks.dense_decoder(shape, 3)
    model = aelib.Autoencoder(encoder, decoder, likelihood="gaussian")
    windows = np.random.default_rng(0).normal(size=(5, *shape)).astype("float32")
    for score in (anomaly.errors, anomaly.nll):
        each, steps = score(model, windows), score(model, windows, per_feature=True)
        assert each.shape == (5,)
        assert steps.shape == windows.shape
        np.testing.assert_allclose(steps.reshape(5, -1).mean(axis=1), each, rtol=1e-5)
    code = model.encode(windows)
    assert CodeDensity().fit(code).score(code).shape == Mahalanobis().fit(code).score(code).shape == (5,)


@pytest.mark.parametrize("distance", [CodeDensity(), Mahalanobis()])
def test_codes_that_are_not_finite_are_refused(distance):
    code = np.random.default_rng(0).normal(size=(20, 2))
    distance.fit(code)
    code[3, 0] = np.nan
    for method in (distance.fit, distance.score):
        with pytest.raises(ValueError, match=r"codes must be finite: 1 of its 40 .* row 3; .*the model"):
            method(code)
        with pytest.raises(ValueError, match=r"codes must have shape \(n >= [12], [K2]\), got \(20,\)"):
            method(code[:, 0])


def test_the_distance_of_codes_is_scipys_and_orders_as_the_density():
    rng = np.random.default_rng(0)
    code, fresh = rng.normal(size=(500, 3)) @ rng.normal(size=(3, 3)) + 5, rng.normal(size=(5, 3))
    inverse = np.linalg.inv(np.cov(code.T, bias=True))
    wanted = [mahalanobis(row, code.mean(axis=0), inverse) for row in fresh]
    distance = Mahalanobis().fit(code).score(fresh)
    np.testing.assert_allclose(distance, wanted, rtol=1e-4)
    density = CodeDensity().fit(code).score(fresh)
    np.testing.assert_allclose(np.diff(density), np.diff(distance**2 / 2), rtol=1e-3)


def test_a_dead_unit_does_no_harm_to_distances():
    code = np.random.default_rng(0).normal(size=(50, 2))
    dead = np.c_[code, np.zeros(50)]
    wanted = Mahalanobis().fit(code).score(code)
    np.testing.assert_allclose(Mahalanobis().fit(dead).score(dead), wanted, rtol=1e-5)
    with pytest.raises(ValueError, match="cannot be inverted, with reg_covar=0"):
        Mahalanobis(reg_covar=0).fit(dead)


def test_distances_need_a_fit_and_codes_of_its_width():
    with pytest.raises(NotFittedError, match="fit it"):
        Mahalanobis().score(np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"codes must have shape \(n >= 1, 2\), got \(1, 3\)"):
        Mahalanobis().fit(np.eye(2)).score(np.zeros((1, 3)))


@pytest.mark.parametrize("weighted", [True, False])
def test_the_score_is_minus_the_bound(weighted, table):
    model = linear("gaussian", kind=aelib.VariationalAutoencoder)
    score = anomaly.negative_elbo(model, table, samples=3, weighted=weighted, seed=5)
    bound = bounds.importance_weighted_bound(model, table, 3, seed=5)
    wanted = bound if weighted else bounds.elbo(model, table, samples=3, seed=5)
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
    with pytest.raises(ValueError, match=r"alpha must be in \(0, 1\)"):
        Threshold(level)
    with pytest.raises(ValueError, match=r"level must be in \(0, 1\)"):
        Threshold().fit(np.arange(99.0)).spread(level)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (
            [1.0, np.nan, np.nan],
            r"scores must be finite: 2 of its 3 .* the first in row 1",
        ),
        ([np.inf], "scores must be finite: 1 of its 1"),
        ([[1.0]], r"scores must have shape \(n,\), got \(1, 1\)"),
        (3.0, r"scores must have shape \(n,\), got \(\)"),
    ],
)
def test_refuses_scores_that_are_not_finite_rows(scores, message):
    threshold = Threshold(0.5).fit([1.0, 2.0])
    for method in (Threshold(0.5).fit, threshold.predict, threshold.p_values):
        with pytest.raises(ValueError, match=message):
            method(scores)


def test_no_scores_are_no_alarms():
    assert Threshold(0.5).fit([1.0, 2.0]).predict([]).shape == (0,)


@pytest.mark.parametrize("method", ["predict", "p_values", "spread"])
def test_has_to_be_fitted_first(method):
    with pytest.raises(NotFittedError, match="fit it"):
        getattr(Threshold(), method)(*([[1.0]] if method != "spread" else []))


def test_an_ensemble_of_robust_scores_by_hand():
    """Medians 2 and 20, median deviations 1 and 10; a Gaussian's is 0.6745 of its standard deviation."""
    scores = np.array([[0, 1, 2, 3, 90], [0, 10, 20, 30, 900]])
    fresh = [[5.0, 2.0], [20.0, 10.0]]
    unit = stats.norm.ppf(0.75)
    np.testing.assert_allclose(Ensemble().fit(scores).score(fresh), unit * np.array([1.5, -0.5]))
    np.testing.assert_allclose(Ensemble(combine="max").fit(list(scores)).score(fresh), [3 * unit, 0])


def test_an_ensemble_of_ranks_is_scipys_and_blind_to_monotone_maps():
    rng = np.random.default_rng(0)
    scores, fresh = rng.integers(0, 20, (3, 50)), rng.integers(-2, 25, (3, 30))  # with ties
    ensemble = Ensemble("rank").fit(scores)
    ranks = [
        [stats.percentileofscore(fit, s, kind="mean") / 100 for s in row]
        for fit, row in zip(scores, fresh, strict=True)
    ]
    np.testing.assert_allclose(ensemble.score(fresh), np.mean(ranks, axis=0))
    mapped = Ensemble("rank", "max").fit(np.exp(scores))
    np.testing.assert_allclose(mapped.score(np.exp(fresh)), np.max(ranks, axis=0))


@pytest.mark.parametrize("scale", ["robust z", "rank"])
def test_an_ensemble_finds_what_either_score_finds(scale):
    rng = np.random.default_rng(0)
    normal, odd = rng.normal(size=(2, 4000)), rng.normal(size=(2, 200))
    odd[0, :100] += 5
    odd[1, 100:] += 5
    scores = np.array([[1.0], [1000.0]]) * np.concatenate([normal[:, 2000:], odd], axis=1)
    ensemble = Ensemble(scale, "max").fit(normal[:, :2000] * [[1], [1000]])

    def found(scores):
        return np.mean(scores[2000:] > np.quantile(scores[:2000], 0.95))

    assert found(ensemble.score(scores)) > 0.97
    assert max(map(found, scores)) < 0.6
    assert found(scores.sum(axis=0)) < 0.6  # the second drowns the first


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([1.0, 2.0], r"scores must have shape \(2, n >= 1\), a row a score, got \(2,\)"),
        (np.zeros((3, 5)), r"scores must have shape \(2, n >= 1\), .* got \(3, 5\)"),
        (np.zeros((2, 0)), r"scores must have shape \(2, n >= 1\), .* got \(2, 0\)"),
        ([[0.0, 1.0], [0.0, np.nan]], "scores must be finite: 1 of its 2 .* row 1"),
    ],
)
def test_an_ensemble_refuses_what_it_was_not_fitted_to(scores, message):
    ensemble = Ensemble().fit(np.eye(2, 5) + np.arange(5))
    with pytest.raises(ValueError, match=message):
        ensemble.score(scores)


def test_an_ensemble_says_what_it_lacks():
    with pytest.raises(NotFittedError, match="fit it"):
        Ensemble().score(np.zeros((2, 5)))
    with pytest.raises(ValueError, match=r"shape \(S, n >= 1\)"):
        Ensemble().fit([0.0, 1.0])
    with pytest.raises(ValueError, match=r"half of the 4 scores are 3, .*: take scale='rank'"):
        Ensemble().fit([[0, 1, 2, 4], [3, 3, 3, 9]])
    with pytest.raises(ValueError, match="scale must be one of robust z, rank; got 'z'"):
        Ensemble("z")
    with pytest.raises(ValueError, match="combine must be one of mean, max; got 'sum'"):
        Ensemble(combine="sum")


@pytest.mark.parametrize("share", [0, 0.05, 0.1, 0.2, 0.4])
def test_the_robust_threshold_is_what_theory_says_of_a_contaminated_gaussian(share):
    rng, n, alpha = np.random.default_rng(0), 40_000, 0.05
    odd = round(share * n)
    scores = np.concatenate([rng.normal(3, 2, n - odd), rng.uniform(1e3, 1e9, odd)])
    middle = stats.norm.ppf(0.5 / (1 - share))
    cut = lambda m: (1 - share) * (stats.norm.cdf(middle + m) - stats.norm.cdf(middle - m)) - 0.5  # noqa: E731
    width = optimize.brentq(cut, 1e-6, 50) / stats.norm.ppf(0.75)
    wanted = 3 + 2 * (middle + stats.norm.isf(alpha) * width)
    threshold = RobustThreshold(alpha).fit(scores)
    assert threshold.value == pytest.approx(wanted, rel=0.02)
    alarms = threshold.predict(scores)
    assert alarms[n - odd :].all()
    rates = {0: 0.05, 0.05: 0.0346, 0.1: 0.0215, 0.2: 0.0048, 0.4: 0}
    assert alarms[: n - odd].mean() == pytest.approx(rates[share], abs=0.004)


def test_a_stated_contamination_is_the_share_of_alarms():
    rng = np.random.default_rng(0)
    scores = np.concatenate([rng.exponential(size=900), 50 + rng.exponential(size=100)])
    threshold = RobustThreshold(contamination=0.1).fit(scores)
    np.testing.assert_array_equal(threshold.predict(scores), np.arange(1000) >= 900)
    assert RobustThreshold(contamination=0.5).fit([1, 2, 3, 4]).value == 2.5


def test_a_robust_threshold_refuses():
    for share in (0, 0.6, True, "auto"):
        with pytest.raises(ValueError, match=r"contamination must be in \(0, 0.5\], got"):
            RobustThreshold(contamination=share)
    with pytest.raises(ValueError, match=r"alpha must be in \(0, 1\), got 1"):
        RobustThreshold(1)
    with pytest.raises(ValueError, match=r"of the 3 scores are 2, .* or for a threshold a contamination"):
        RobustThreshold().fit([2, 2, 5])
    with pytest.raises(ValueError, match=r"scores must have the shape .* got \(0,\)"):
        RobustThreshold().fit([])
    with pytest.raises(NotFittedError, match="fit it"):
        RobustThreshold().predict([1.0])
