"""The estimators: scikit-learn's own checks, and what they promise beyond them."""

import pickle
import random
import re
import subprocess
import sys
import unittest
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import aelib
from aelib import anomaly, blocks
from aelib.estimators import AutoencoderDetector, AutoencoderTransformer

SKIPPED = {"check_array_api_input": "arrays other than NumPy's are not promised: the nets run in Keras"}


@pytest.fixture
def eager():
    """Each check trains several nets for one epoch: tracing them would take longer than training them."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.mark.estimator_checks
@pytest.mark.usefixtures("eager")
@pytest.mark.filterwarnings("ignore:.*rows held out:UserWarning", "ignore:Even though the:UserWarning")
@parametrize_with_checks([AutoencoderTransformer(epochs=1), AutoencoderDetector(epochs=1)])
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


def test_a_linear_net_finds_what_pca_finds(plane):
    train, fresh = plane
    net = AutoencoderTransformer(2, hidden=(), epochs=40, batch_size=8, learning_rate=0.003, random_state=0)
    net.fit(train)
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
    net = AutoencoderTransformer(2, epochs=1, random_state=0).fit(train)
    np.testing.assert_array_equal(net.transform(fresh[:1]), net.transform(fresh)[:1])


def test_a_seed_makes_two_fits_alike_and_leaves_the_callers_generators_alone(plane):
    train, fresh = plane
    net = AutoencoderTransformer(2, epochs=2, random_state=3)
    before = random.getstate(), np.random.get_state()[1].tolist()
    codes = net.fit(train).transform(fresh)
    assert before == (random.getstate(), np.random.get_state()[1].tolist())
    np.testing.assert_array_equal(codes, clone(net).fit(train).transform(fresh))
    assert np.abs(codes - clone(net).set_params(random_state=4).fit(train).transform(fresh)).max() > 1e-3


def test_in_a_pipeline_and_a_search():
    table = load_breast_cancer().data[:200]
    pipeline = make_pipeline(StandardScaler(), AutoencoderTransformer(hidden=(), epochs=30, random_state=0))
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
    net = AutoencoderTransformer(3, build=wide, epochs=1).fit(plane[0])
    assert isinstance(net.model_, aelib.SparseAutoencoder)
    assert set(net.history_) == {"loss", "reconstruction", "sparsity"}
    assert net.transform(plane[1]).shape == (200, 3)


def test_what_was_pickled_answers_alike_in_a_fresh_process(plane, tmp_path):
    train, fresh = plane
    net = AutoencoderDetector(2, epochs=2, random_state=0).fit(train)
    file = tmp_path / "detector"
    file.write_bytes(pickle.dumps([net, fresh]))
    code = f"""
import pickle, sys
net, fresh = pickle.loads(open({str(file)!r}, "rb").read())
sys.stdout.buffer.write(net.score_samples(fresh).tobytes())
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    np.testing.assert_array_equal(np.frombuffer(answer), net.score_samples(fresh))


def test_the_detector_alarms_where_its_threshold_says(plane):
    train, fresh = plane
    net = AutoencoderDetector(2, epochs=60, learning_rate=0.01, false_alarms=0.1, random_state=0).fit(train)
    errors = anomaly.errors(net.model_, fresh)
    np.testing.assert_allclose(net.score_samples(fresh), -errors, rtol=1e-4)
    np.testing.assert_array_equal(net.predict(fresh) == -1, net.threshold_.predict(-net.score_samples(fresh)))
    assert net.threshold_.scores.shape == (100,)
    low, high = net.threshold_.spread(0.999)
    assert low - 0.06 < np.mean(net.predict(fresh) == -1) < high + 0.06  # and the fresh rows' own chance
    off = fresh + np.random.default_rng(1).normal(size=fresh.shape)
    assert np.mean(net.predict(off) == -1) > 0.9


def test_few_rows_promise_less_and_say_so(plane):
    with pytest.warns(UserWarning, match=r"5 rows held out cannot promise false_alarms=0.05; .* 0.167"):
        net = AutoencoderDetector(epochs=1).fit(plane[0][:20])
    assert net.threshold_.value == net.threshold_.scores[-1]


@pytest.mark.parametrize("estimator", [AutoencoderTransformer, AutoencoderDetector])
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epochs": 0}, "epochs must be a whole number >= 1, got 0"),
        ({"batch_size": 2.5}, "batch_size must be a whole number >= 1, got 2.5"),
        ({"n_components": 0}, "code must be a whole number >= 1, got 0"),
        ({"hidden": (8, -1)}, "hidden must be a whole number >= 1, got -1"),
    ],
)
def test_wrong_parameters_are_refused(estimator, wrong, message, plane):
    with pytest.raises(ValueError, match=re.escape(message)):
        estimator(**wrong).fit(plane[0])


@pytest.mark.parametrize("wrong", [{"false_alarms": 0}, {"false_alarms": 1.5}])
def test_a_share_that_is_none_is_refused(wrong, plane):
    with pytest.raises(ValueError, match=r"false_alarms must be in \(0, 1\)"):
        AutoencoderDetector(epochs=1, **wrong).fit(plane[0])


def test_whole_numbers_are_codes_too(plane):
    net = AutoencoderTransformer(2, epochs=1).fit(plane[0])
    np.testing.assert_array_equal(net.inverse_transform([[1, 2]]), net.inverse_transform([[1.0, 2.0]]))


def test_codes_of_another_width_are_refused(plane):
    net = AutoencoderTransformer(2, epochs=1).fit(plane[0])
    with pytest.raises(ValueError, match=r"decoder expects an array of shape \(n >= 1, \(2,\)\)"):
        net.inverse_transform(np.zeros((3, 5)))


def test_the_readmes_example_runs_on_a_csv(tmp_path):
    text = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n([^`]*measurements\.csv[^`]*)```", text)
    rows = load_breast_cancer().data[:120]
    header = ",".join(f"v{i}" for i in range(rows.shape[1]))
    np.savetxt(tmp_path / "measurements.csv", rows, delimiter=",", header=header, comments="")
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    found = np.loadtxt(tmp_path / "found.csv", delimiter=",", skiprows=1)
    assert found.shape == (120, 4)  # two numbers of the code, the score, and the verdict
    assert set(found[:, 3]) <= {-1.0, 1.0}
