"""The estimators: scikit-learn's own checks, and what they promise beyond them."""

import pickle
import random
import re
import subprocess
import sys
import unittest
import warnings
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.impute import SimpleImputer
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state
from sklearn.utils.estimator_checks import parametrize_with_checks

import aelib
from aelib import anomaly, blocks, checks
from aelib.estimators import AutoencoderDetector, AutoencoderImputer, AutoencoderTransformer
from aelib.likelihoods import Gaussian, Masked, Mixed

ONE_STEP = {"epochs": 1, "batch_size": 1_000, "hidden": 8}
SKIPPED = {"check_array_api_input": "arrays other than NumPy's are not promised: the nets run in Keras"}


@pytest.fixture
def eager():
    """Each check trains several nets for one step: tracing them would take longer than training them."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.mark.estimator_checks
@pytest.mark.usefixtures("eager")
@pytest.mark.filterwarnings("ignore:.*rows held out:UserWarning", "ignore:Even though the:UserWarning")
@parametrize_with_checks(
    [
        AutoencoderTransformer(**ONE_STEP),
        AutoencoderDetector(**ONE_STEP),
        AutoencoderDetector(contamination=0.1, missing="mask", **ONE_STEP),
        AutoencoderImputer(**ONE_STEP),
    ]
)
def test_scikit_learns_own_check(estimator, check):
    try:
        check(estimator)
    except unittest.SkipTest as skipped:
        name = getattr(check, "func", check).__name__
        if name not in SKIPPED:
            pytest.fail(f"{name} was skipped without a reason of ours: {skipped}")
        pytest.skip(SKIPPED[name])


@pytest.fixture(scope="module")
def plane():
    """Rows near a plane in six dimensions."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(600, 2)) @ rng.normal(size=(2, 6)) + 0.05 * rng.normal(size=(600, 6))
    return rows[:400], rows[400:]


def quick(estimator, **options):
    """An estimator that takes a second to fit."""
    return estimator(**{"hidden": (), "epochs": 2, "batch_size": 64, "random_state": 0, **options})


def test_a_linear_net_finds_what_pca_finds(plane):
    train, fresh = plane
    net = quick(AutoencoderTransformer, epochs=60, batch_size=20, learning_rate=0.01).fit(train)
    pca = [PCA(k).fit(train) for k in (1, 2)]
    one, two = (np.mean((p.inverse_transform(p.transform(fresh)) - fresh) ** 2) for p in pca)
    assert two < -net.score(fresh) < one / 100  # Adam is still on its way
    assert -net.score(fresh) == pytest.approx(
        np.mean((net.inverse_transform(net.transform(fresh)) - fresh) ** 2), rel=1e-4
    )
    assert net.transform(fresh).shape == (200, 2)
    assert list(net.get_feature_names_out()) == ["autoencodertransformer0", "autoencodertransformer1"]
    assert net.history_["loss"][-1] < net.history_["loss"][0]


def test_a_row_has_the_same_code_alone_and_among_others(plane):
    train, fresh = plane
    net = quick(AutoencoderTransformer, hidden=8).fit(train)
    np.testing.assert_array_equal(net.transform(fresh[:1]), net.transform(fresh)[:1])


def test_a_seed_makes_two_fits_alike_and_leaves_the_callers_generators_alone(plane):
    train, fresh = plane
    net = quick(AutoencoderTransformer, random_state=3)
    before = random.getstate(), np.random.get_state()[1].tolist()
    codes = net.fit(train).transform(fresh)
    assert before == (random.getstate(), np.random.get_state()[1].tolist())
    np.testing.assert_array_equal(codes, clone(net).fit(train).transform(fresh))
    assert np.abs(codes - clone(net).set_params(random_state=4).fit(train).transform(fresh)).max() > 1e-3


def test_in_a_pipeline_and_a_search():
    table = load_breast_cancer().data[:200]
    net = quick(AutoencoderTransformer, epochs=15, batch_size=10, learning_rate=0.01)
    pipeline = make_pipeline(StandardScaler(), net)
    sizes = {"autoencodertransformer__n_components": np.array([1, 8])}
    search = GridSearchCV(pipeline, sizes, cv=2).fit(table)
    assert search.best_params_ == {"autoencodertransformer__n_components": 8}
    assert search.transform(table).shape == (200, 8)


def wide(features, units):
    """Build a net of its own kind, as a user's module may."""
    return aelib.SparseAutoencoder(
        blocks.dense_encoder((features,), units, hidden=(9,)),
        blocks.dense_decoder((features,), units, hidden=()),
        likelihood="laplace",
        strength=0.1,
    )


def test_a_net_of_ones_own(plane):
    net = quick(AutoencoderTransformer, n_components=3, build=wide).fit(plane[0])
    assert isinstance(net.model_, aelib.SparseAutoencoder)
    assert set(net.history_) == {"loss", "reconstruction", "sparsity"}
    assert net.transform(plane[1]).shape == (200, 3)


def variational(features, units):
    return aelib.VariationalAutoencoder(
        blocks.dense_encoder(features, 2 * units, hidden=()),
        blocks.dense_decoder(features, units, hidden=()),
        likelihood="gaussian",
    )


def test_a_variational_net_gives_the_means_as_codes(plane):
    train, fresh = plane
    net = quick(AutoencoderTransformer, n_components=3, build=variational).fit(train)
    code = net.transform(fresh)
    np.testing.assert_allclose(code, net.model_.posterior(fresh)[0], rtol=1e-4, atol=1e-5)
    assert len(net.get_feature_names_out()) == 3
    assert net.inverse_transform(code).shape == fresh.shape


def test_codes_that_are_not_finite_are_never_returned(plane):
    net = quick(AutoencoderTransformer).fit(plane[0])
    net.model_.set_weights([np.full_like(weight, np.nan) for weight in net.model_.get_weights()])
    with pytest.raises(ValueError, match=r"codes must be finite: .* the net has diverged"):
        net.transform(plane[1])
    detector = quick(AutoencoderDetector).fit(plane[0])
    detector.model_.set_weights(net.model_.get_weights())
    with pytest.raises(ValueError, match="reconstruction must be finite"):
        detector.predict(plane[1])


def test_a_loss_that_is_not_finite_is_an_error(plane):
    net = quick(AutoencoderTransformer, learning_rate=1e30)
    with pytest.raises(FloatingPointError, match="loss"):
        net.fit(plane[0])
    with pytest.raises(NotFittedError):
        net.transform(plane[0])


def test_what_was_pickled_answers_alike_in_a_fresh_process(plane, tmp_path):
    train, fresh = plane
    callback = keras.callbacks.ReduceLROnPlateau("loss")
    net = quick(AutoencoderDetector, callbacks=callback, missing="mask").fit(train)
    assert clone(net).get_params()["callbacks"] is not callback
    file = tmp_path / "detector"
    file.write_bytes(pickle.dumps([net, fresh]))
    code = f"""
import pickle, sys
net, fresh = pickle.loads(open({str(file)!r}, "rb").read())
sys.stdout.buffer.write(net.score_samples(fresh).tobytes())
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    np.testing.assert_array_equal(np.frombuffer(answer), net.score_samples(fresh))


@pytest.fixture(scope="module")
def detector(plane):
    """Fitted to the plane, with its 100 rows held out."""
    return quick(AutoencoderDetector, epochs=60, batch_size=20, learning_rate=0.01, alpha=0.1).fit(plane[0])


def test_the_detector_alarms_where_its_threshold_says(plane, detector):
    fresh = plane[1]
    errors = anomaly.errors(detector.model_, fresh)
    np.testing.assert_allclose(detector.score_samples(fresh), -errors, rtol=1e-4)
    alarms = detector.predict(fresh) == -1
    np.testing.assert_array_equal(alarms, detector.threshold_.predict(-detector.score_samples(fresh)))
    assert detector.threshold_.scores.shape == (100,)
    low, high = detector.threshold_.spread(0.999)
    assert low - 0.06 < np.mean(alarms) < high + 0.06  # and the fresh rows' own chance
    off = fresh + np.random.default_rng(1).normal(size=fresh.shape)
    assert np.mean(detector.predict(off) == -1) > 0.9


@pytest.fixture(scope="module")
def mixture(plane):
    """Unlabelled rows, a tenth of them off the plane, and which these are."""
    rows = plane[0].copy()
    odd = np.arange(400) % 10 == 0
    rows[odd] += 2 * np.random.default_rng(1).normal(size=(40, 6))
    return rows, odd


def test_contamination_finds_the_odd_rows_that_the_promise_passes_over(mixture):
    rows, odd = mixture
    net = quick(AutoencoderDetector, epochs=30, batch_size=20, learning_rate=0.01)
    promised = clone(net).fit(rows)
    found = clone(net).set_params(contamination=0.1).fit(rows)
    for fitted in (promised, found):
        assert roc_auc_score(odd, -fitted.score_samples(rows)) > 0.97
    assert np.mean(promised.predict(rows)[odd] == -1) < 0.7  # calibrated on odd rows too
    alarms = found.predict(rows) == -1
    assert alarms.sum() == 40
    assert np.mean(alarms[odd]) >= 0.8
    assert found.threshold_ is None
    assert found.offset_ == np.quantile(found.score_samples(rows), 0.1)
    assert len(rows) == found.model_.optimizer.iterations / 30 * 20  # nothing was held out


@pytest.mark.parametrize("nothing", ["auto", None])
def test_no_contamination_keeps_the_promise(nothing, plane, detector):
    again = clone(detector).set_params(epochs=1, contamination=nothing).fit(plane[0])
    assert again.threshold_.alpha == 0.1


@pytest.mark.parametrize("wrong", [0, 0.6, -0.1, np.nan, "some"])
def test_a_contamination_that_is_no_share_is_refused(wrong, plane):
    with pytest.raises(ValueError, match=r"contamination must be in \(0, 0.5\], got .*'auto' or None"):
        quick(AutoencoderDetector, contamination=wrong).fit(plane[0])


def test_mixed_tables_are_judged_by_their_likelihood():
    """A class that contradicts the number beside it, which a squared error of probabilities sees as well."""
    rng = np.random.default_rng(0)
    kind = rng.integers(3, size=300)
    x = np.c_[kind - 1 + 0.1 * rng.normal(size=300), np.eye(3)[kind], rng.poisson(3, 300)]
    x[3, 1:4] = x[5, 0] = np.nan
    likelihood = Mixed([(1, Gaussian("learned")), (3, "categorical"), (1, "poisson")])
    options = {"likelihood": likelihood, "missing": "mask", "epochs": 60, "learning_rate": 0.02}
    net = quick(AutoencoderDetector, hidden=(8,), criterion="nll", batch_size=50, **options).fit(x)
    np.testing.assert_allclose(net.score_samples(x), -anomaly.nll(net.model_, x), rtol=1e-3, atol=1e-4)
    wrong = np.array([[1.0, 1, 0, 0, 3], [1.0, 0, 0, 1, 3]])
    contradicts, agrees = net.score_samples(wrong)
    assert contradicts < agrees - 0.5
    assert likelihood.likelihoods[0].tenth.numpy() == 0  # the caller's own is left alone


def test_few_rows_promise_less_and_say_so(plane):
    with pytest.warns(UserWarning, match=r"5 rows held out cannot promise alpha=0.05; .* 0.167"):
        net = quick(AutoencoderDetector).fit(plane[0][:20])
    assert net.threshold_.value == net.threshold_.scores[-1]


@pytest.mark.parametrize("estimator", [AutoencoderTransformer, AutoencoderDetector, AutoencoderImputer])
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epochs": 0}, "epochs must be a whole number >= 1, got 0"),
        ({"epochs": True}, "epochs must be a whole number >= 1, got True"),
        ({"batch_size": 2.5}, "batch_size must be a whole number >= 1, got 2.5"),
        ({"n_components": 0}, "n_components must be a whole number >= 1, got 0"),
        ({"n_components": 2.0}, "n_components must be a whole number >= 1, got 2.0"),
        ({"hidden": (8, -1)}, "hidden must be a whole number >= 1, got -1"),
        ({"learning_rate": 0}, "learning_rate must be > 0, got 0"),
        ({"likelihood": "normal"}, "likelihood must be one of"),
        ({"warm_start": 1}, "warm_start must be True or False, got 1"),
        ({"early_stopping": "yes"}, "early_stopping must be True or False, got 'yes'"),
        ({"early_stopping": True, "validation_fraction": 1}, "validation_fraction must be in (0, 1), got 1"),
        ({"early_stopping": True, "n_iter_no_change": 0}, "n_iter_no_change must be a whole number >= 1"),
    ],
)
def test_wrong_parameters_are_refused_by_fit(estimator, wrong, message, plane):
    with pytest.raises(ValueError, match=re.escape(message)):
        estimator(**wrong).fit(plane[0])


@pytest.mark.parametrize(
    ("estimator", "wrong", "message"),
    [
        (AutoencoderDetector, {"alpha": 0}, "alpha must be in (0, 1), got 0"),
        (AutoencoderDetector, {"alpha": 1.5}, "alpha must be in (0, 1), got 1.5"),
        (AutoencoderDetector, {"calibration": 5}, "calibration must be in (0, 1), got 5"),
        (AutoencoderDetector, {"criterion": "mse"}, "criterion must be one of error, nll; got 'mse'"),
        (AutoencoderTransformer, {"missing": "drop"}, "missing must be one of refuse, mask; got 'drop'"),
        (AutoencoderImputer, {"masking_rate": 1}, "masking_rate must be in [0, 1), got 1"),
    ],
)
def test_wrong_parameters_of_their_own_are_refused_by_fit(estimator, wrong, message, plane):
    with pytest.raises(ValueError, match=re.escape(message)):
        estimator(**wrong).fit(plane[0])


def test_numpys_numbers_are_numbers_and_one_width_is_enough(plane):
    kinds = {"n_components": np.int64(3), "epochs": np.int32(1), "batch_size": np.uint8(50)}
    net = AutoencoderTransformer(hidden=np.int64(7), **kinds).fit(plane[0])
    assert [weight.shape[-1] for weight in net.model_.encoder.weights] == [7, 7, 3, 3]
    assert net.get_params()["hidden"] is net.hidden


def test_whole_numbers_are_codes_too(plane):
    net = quick(AutoencoderTransformer).fit(plane[0])
    np.testing.assert_array_equal(net.inverse_transform([[1, 2]]), net.inverse_transform([[1.0, 2.0]]))


def test_codes_of_another_width_are_refused(plane):
    net = quick(AutoencoderTransformer).fit(plane[0])
    with pytest.raises(ValueError, match=r"decoder reads codes of shape \(n >= 1, 2\)"):
        net.inverse_transform(np.zeros((3, 5)))


def frame(rows):
    names = ["age", "weight", "pulse", "oxygen", "salt", "iron"]
    return pd.DataFrame(rows, columns=names)


@pytest.mark.parametrize("estimator", [AutoencoderTransformer, AutoencoderDetector])
def test_gaps_are_refused_with_their_number_and_columns(estimator, plane):
    rows = plane[0].copy()
    rows[3, 1], rows[4, 1], rows[7, 4] = np.nan, np.inf, np.nan
    message = (
        "X has 3 values that are NaN or infinite, in columns {}: drop or fill them, or say missing='mask'"
    )
    with pytest.raises(ValueError, match=message.format("weight, salt")):
        quick(estimator).fit(frame(rows))
    with pytest.raises(ValueError, match=message.format("1, 4")):
        quick(estimator).fit(rows)
    net = quick(estimator).fit(plane[0])
    with pytest.raises(ValueError, match=message.format("1, 4")):
        net.score_samples(rows) if estimator is AutoencoderDetector else net.transform(rows)
    assert not net.__sklearn_tags__().input_tags.allow_nan


def gappy(rows, share=0.2, seed=0):
    """Rows with gaps, one cell at least observed in each."""
    hidden = np.random.default_rng(seed).random(rows.shape) < share
    hidden[:, 0] &= ~hidden.all(axis=1)
    return np.where(hidden, np.nan, rows)


def test_masked_gaps_are_no_values(plane):
    train, fresh = plane
    options = {"missing": "mask", "epochs": 20, "batch_size": 20, "learning_rate": 0.02}
    net = quick(AutoencoderTransformer, **options).fit(gappy(train))
    assert net.__sklearn_tags__().input_tags.allow_nan
    rows = gappy(fresh)
    code = net.transform(rows)
    full = net.inverse_transform(code)
    assert np.isfinite(code).all()
    assert np.isfinite(full).all()
    assert full.shape == rows.shape
    seen = ~np.isnan(rows)
    squares = np.where(seen, fresh - full, 0) ** 2
    assert net.score(rows) == pytest.approx(-np.mean(squares.sum(axis=1) / seen.sum(axis=1)), rel=1e-4)
    assert -net.score(rows) < fresh.var() / 4


def test_the_detector_judges_what_is_observed(plane):
    train, fresh = plane
    options = {"missing": "mask", "epochs": 20, "batch_size": 20, "learning_rate": 0.02}
    net = quick(AutoencoderDetector, **options).fit(gappy(train))
    rows = gappy(fresh)
    rows[0], rows[0, 2] = np.nan, 0.1
    errors = anomaly.errors(net.model_, rows)
    np.testing.assert_allclose(net.score_samples(rows), -errors, rtol=1e-4)
    assert np.isfinite(net.score_samples(rows)).all()


@pytest.mark.parametrize("estimator", [AutoencoderTransformer, AutoencoderDetector])
def test_masked_tables_refuse_infinity_and_what_has_nothing_observed(estimator, plane):
    net = quick(estimator, missing="mask", epochs=1)
    for place, value, message in [
        ((0, 2), np.inf, "X has 1 values that are infinite, in column 2$"),
        ((slice(None), 2), np.nan, r"nothing is observed \(all is NaN\) in column 2 of X"),
        ((5,), np.nan, r"nothing is observed \(all is NaN\) in row 5 of X"),
    ]:
        rows = plane[0].copy()
        rows[place] = value
        with pytest.raises(ValueError, match=message):
            net.fit(rows)
    with pytest.raises(ValueError, match=r"needs a net that knows gaps: .* got Laplace"):
        clone(net).set_params(build=wide).fit(plane[0])


def test_frames_of_numbers_and_booleans_are_taken(plane):
    table = frame(plane[0]).astype({"iron": "float32"})
    table["smokes"], table["visits"] = table["age"] > 0, np.arange(400) % 3
    net = quick(AutoencoderTransformer).fit(table)
    assert net.model_.encoder.input_shape == (None, 8)
    np.testing.assert_array_equal(net.transform(table), net.transform(table.astype(float)))
    table["visits"] = table["visits"].astype("Int64").where(table["visits"] > 0)
    with pytest.raises(ValueError, match=r"in columns? visits: drop or fill"):
        quick(AutoencoderTransformer).fit(table)


@pytest.mark.parametrize("estimator", [AutoencoderTransformer, AutoencoderDetector, AutoencoderImputer])
def test_texts_are_refused_by_the_name_of_their_column(estimator, plane):
    table = frame(plane[0]).assign(
        ward=["a", "b"] * 200, day=pd.Timestamp("2020-01-01"), code=["1", "2"] * 200
    )
    table["blood"] = pd.Categorical(["0", "AB"] * 200)
    with pytest.raises(ValueError, match=r"columns that are no numbers: ward, day, blood; .* OneHotEncoder"):
        quick(estimator).fit(table)


def test_output_as_a_frame_keeps_index_and_names(plane):
    table = frame(plane[0]).set_index(np.arange(1000, 1400))
    net = quick(AutoencoderTransformer).set_output(transform="pandas").fit(table)
    codes = net.transform(table)
    assert list(codes) == ["autoencodertransformer0", "autoencodertransformer1"]
    assert codes.index.equals(table.index)
    with pytest.raises(ValueError, match="feature names should match"):
        net.transform(table.rename(columns={"age": "years"}))
    full = quick(AutoencoderImputer).set_output(transform="pandas").fit_transform(frame(gappy(plane[0])))
    assert list(full) == list(table)


def test_callbacks_are_called(plane):
    seen = []
    one = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(logs["loss"]))
    net = quick(AutoencoderTransformer, callbacks=one).fit(plane[0])
    assert seen == net.history_["loss"]
    quick(AutoencoderTransformer, callbacks=[one]).fit(plane[0])
    assert len(seen) == 4


def test_early_stopping_stops_and_returns_to_the_best(plane):
    options = {"early_stopping": True, "n_iter_no_change": 2, "validation_fraction": 0.25}
    net = quick(AutoencoderTransformer, epochs=200, learning_rate=0.3, batch_size=16, **options).fit(plane[0])
    losses = net.history_["val_loss"]
    assert len(losses) < 100
    assert np.argmin(losses) == len(losses) - 3
    steps = int(net.model_.optimizer.iterations) / len(losses)
    assert steps == np.ceil(400 * 0.75 / 16)
    seed = check_random_state(0).randint(2**31)
    held_out = train_test_split(plane[0], test_size=0.25, random_state=seed)[1]
    assert net.model_.evaluate(held_out, verbose=0)[0] == pytest.approx(min(losses), rel=1e-4)


def test_rows_for_calibration_are_held_out_of_stopping_too(plane):
    net = quick(AutoencoderDetector, early_stopping=True, validation_fraction=0.1, batch_size=1, epochs=1)
    net.fit(plane[0][:100])
    assert net.threshold_.scores.shape == (25,)
    assert int(net.model_.optimizer.iterations) == 67  # 75 less an eighth, rounded


def test_a_warm_start_goes_on(plane):
    net = quick(AutoencoderDetector, warm_start=True).fit(plane[0])
    model, held_out = net.model_, net.threshold_.scores
    net.set_params(random_state=7, learning_rate=1e-9).fit(plane[0])
    assert net.model_ is model
    assert len(net.history_["loss"]) == 4
    assert int(model.optimizer.iterations) == 4 * np.ceil(300 / 64)
    # Its rate is tiny, so the same rows are held out where their scores have not moved.
    np.testing.assert_allclose(net.threshold_.scores, held_out, rtol=1e-3)
    assert net.set_params(warm_start=False).fit(plane[0]).model_ is not model


def test_the_imputer_fills_gaps_from_their_neighbours(plane):
    train, fresh = plane
    scale, shift = 10.0 ** np.arange(-3, 3), np.arange(6)
    train, fresh = gappy(train) * scale + shift, fresh * scale + shift
    rows = gappy(fresh, seed=1)
    net = quick(AutoencoderImputer, epochs=60, hidden=(16,), batch_size=20, learning_rate=0.01).fit(train)
    gaps = np.isnan(rows)

    def error(filled):
        return np.mean(((filled - fresh) / scale)[gaps] ** 2)

    full = net.transform(rows)
    np.testing.assert_array_equal(full[~gaps], rows[~gaps])
    assert error(full) < 0.4 * error(SimpleImputer().fit(train).transform(rows))
    assert np.isfinite(net.transform(np.full((1, 6), np.nan))).all()
    np.testing.assert_array_equal(net.transform(fresh), fresh)


def test_hiding_cells_in_training_teaches_to_fill(plane):
    """A net as wide as its input learns the identity, which fills a gap with the mean."""
    train, fresh = plane
    rows = gappy(fresh)

    def error(rate):
        options = {"epochs": 30, "batch_size": 20, "learning_rate": 0.01}
        net = quick(AutoencoderImputer, n_components=6, masking_rate=rate, **options).fit(train)
        return np.mean((net.transform(rows) - fresh)[np.isnan(rows)] ** 2)

    assert error(0.3) < 0.6 * error(0.0)


@pytest.mark.parametrize("likelihood", ["bernoulli", Masked("bernoulli", fill=-1)])
def test_a_zero_is_not_taken_for_a_gap(likelihood):
    rows = np.random.default_rng(0).integers(2, size=(60, 3)).astype("float32")
    net = quick(AutoencoderImputer, likelihood=likelihood, epochs=2).fit(rows)
    known, gap = net.model_.encode(np.float32([[0, 1, 1], [np.nan, 1, 1]]))
    assert np.abs(known - gap).max() > 1e-4
    # What is hidden in training looks like a gap.
    hidden = np.asarray(net.model_.corrupt(rows, training=True))
    assert set(np.unique(hidden)) == {0, 1, net.model_.likelihood.fill}


def test_the_imputer_fills_counts_with_rates():
    rows = np.random.default_rng(0).poisson([2, 5, 9], (200, 3)).astype(float)
    net = quick(AutoencoderImputer, likelihood="poisson", epochs=40, learning_rate=0.03).fit(gappy(rows))
    np.testing.assert_array_equal(net.mean_, 0)
    filled = net.transform(np.array([[2, np.nan, 9.0]]))
    assert 2.5 < filled[0, 1] < 10


def test_columns_on_other_scales_are_warned_of(plane):
    wide = plane[0] * [1, 1, 1, 1, 1e-3, 1e2]
    with pytest.warns(UserWarning, match=r"X has columns on very different scales.* StandardScaler"):
        checks.warn_of_scales("X", gappy(wide))
    with pytest.warns(UserWarning, match="on very different scales"):
        quick(AutoencoderTransformer, epochs=1).fit(wide)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for fine in (plane[0], plane[0] * 1e3, plane[0] * [1, 1, 1, 1, 1, 1e-3], wide[:, None]):
            checks.warn_of_scales("X", fine)
        checks.warn_of_scales("X", np.c_[1e3 * plane[0], np.full(400, 0.1), np.full(400, np.nan)])


def test_the_readmes_example_runs_on_a_csv(tmp_path):
    text = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n([^`]*measurements\.csv[^`]*)```", text)
    code = code.replace("random_state=0)", "random_state=0, epochs=2)")
    rows = load_breast_cancer().data[:120]
    header = ",".join(f"v{i}" for i in range(rows.shape[1]))
    np.savetxt(tmp_path / "measurements.csv", rows, delimiter=",", header=header, comments="")
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    found = np.loadtxt(tmp_path / "found.csv", delimiter=",", skiprows=1)
    assert found.shape == (120, 4)  # two numbers of the code, the score, and the verdict
    assert set(found[:, 3]) <= {-1.0, 1.0}
