"""The stored classifiers, and what they measure."""

import json
from pathlib import Path

import numpy as np
import pytest

import aelib
from aelib import metrics
from aelib.book import ruler

RESULT = Path(__file__).parents[2] / "benchmarks" / "results" / "rulers.json"


@pytest.fixture(scope="module")
def judge():
    return ruler.Ruler("mnist")


@pytest.fixture(scope="module")
def digits():
    """scikit-learn's digits as the stand-in shows them: other people's, scanned otherwise."""
    return aelib.load("mnist", verbose=False)


def test_the_stored_rulers_know_their_images():
    figures = json.loads(RESULT.read_text("utf-8"))
    assert figures.keys() == set(ruler.NAMES)
    assert figures["mnist"]["accuracy"]["validation"] > 0.98
    assert figures["fashion_mnist"]["accuracy"]["validation"] > 0.90
    for each in figures.values():
        assert (
            each["training images from validation images"]
            < 0.02 * each["the mean image from validation images"]
        )


@pytest.mark.parametrize("name", ruler.NAMES)
def test_features_and_probabilities_are_those_of_the_stored_net(name):
    x = np.random.default_rng(0).random((3, 28, 28, 1), dtype="float32")
    one = ruler.Ruler(name)
    with ruler.stored(name).open("rb") as file, np.load(file) as arrays:
        *_, kernel, bias, head, offset = (arrays[key].astype("float64") for key in arrays)
    features = one.features(x)
    assert features.shape == (3, 64)
    assert (features >= 0).all()
    logits = features @ head + offset
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(one.probabilities(x), odds / odds.sum(axis=1, keepdims=True), atol=1e-5)
    assert (kernel.shape, bias.shape) == ((7 * 7 * 32, 64), (64,))


def test_digits_of_other_writers_are_recognised(judge, digits):
    if not digits.source.startswith("stand-in"):
        pytest.skip("the classifier was trained on the originals")
    right = np.mean(judge.probabilities(digits.x_test).argmax(axis=1) == digits.y_test)
    assert right > 0.4  # by chance 0.1


def test_the_distance_is_that_of_the_features(judge, digits):
    one, two = digits.x_train[:100], digits.x_test[:100]
    wanted = metrics.frechet_distance(judge.features(one), judge.features(two))
    assert judge.distance(one, two) == judge.floor(one, two) == pytest.approx(wanted)
    assert judge.distance(one, one) == pytest.approx(0, abs=1e-4)
    assert judge.distance(one, 1 - two) > 2 * wanted


def test_measure_draws_as_many_with_each_seed(judge, digits):
    asked = []

    def sample(n, *, seed):
        asked.append((n, seed))
        return digits.x_train[np.random.default_rng(seed).choice(len(digits.x_train), n)]

    real = digits.x_test[:80]
    mean, spread = judge.measure(sample, real, seeds=(3, 5))
    values = [judge.distance(sample(80, seed=seed), real) for seed in (3, 5)]
    assert asked[:2] == [(80, 3), (80, 5)]
    assert mean == pytest.approx(np.mean(values))
    assert spread == pytest.approx(abs(values[0] - values[1]) / 2**0.5)


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda judge, x: ruler.Ruler("cifar10"), "rulers for mnist, fashion_mnist; got 'cifar10'"),
        (lambda judge, x: judge.features(x[..., 0]), r"\('n', 28, 28, 1\), got \(4, 28, 28\)"),
        (lambda judge, x: judge.features(255 * x), r"images must be in \[0, 1\], got .* give means"),
        (lambda judge, x: judge.features(x[:0]), "not be empty"),
        (lambda judge, x: judge.features(x * np.nan), "images must be finite"),
        (lambda judge, x: judge.measure(None, x, seeds=[1]), r"two seeds or more, got \[1\]"),
        (lambda judge, x: judge.floor(x, x[:2]), "sets of one size, got 4 and 2"),
    ],
)
def test_what_cannot_be_measured_is_refused(judge, digits, use, message):
    with pytest.raises(ValueError, match=message):
        use(judge, digits.x_test[:4])
