import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from aelib import metrics, objectives

SHAPE = (4, 3, 2, 2)


@pytest.fixture
def logits():
    return np.random.default_rng(0).normal(0, 3, SHAPE)


@pytest.fixture
def grey():
    return np.random.default_rng(1).random(SHAPE)


def per_sample(log_densities):
    return -log_densities.reshape(len(log_densities), -1).sum(axis=1)


def test_bernoulli_is_the_log_likelihood_of_binary_pixels(logits, grey):
    x = (grey > 0.5).astype(float)
    expected = per_sample(scipy.stats.bernoulli.logpmf(x, 1 / (1 + np.exp(-logits))))
    np.testing.assert_allclose(objectives.bernoulli(x, logits), expected, rtol=1e-10)


def test_gaussian_is_a_normal_of_variance_one_half(logits, grey):
    constant = 0.5 * np.log(np.pi) * grey[0].size
    expected = per_sample(scipy.stats.norm.logpdf(grey, logits, np.sqrt(0.5))) - constant
    np.testing.assert_allclose(objectives.gaussian(grey, logits), expected, rtol=1e-10)


def test_laplace_is_a_laplace_of_scale_one(logits, grey):
    expected = per_sample(scipy.stats.laplace.logpdf(grey, logits, 1)) - np.log(2) * grey[0].size
    np.testing.assert_allclose(objectives.laplace(grey, logits), expected, rtol=1e-10)


def gradient(term, target, raw):
    raw = tf.Variable(raw)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(term(tf.constant(target), raw))
    return tape.gradient(loss, raw).numpy()


def test_gradient_of_bernoulli(logits, grey):
    expected = 1 / (1 + np.exp(-logits)) - grey
    np.testing.assert_allclose(gradient(objectives.bernoulli, grey, logits), expected, rtol=1e-10)


def test_gradient_of_the_others(logits, grey):
    np.testing.assert_allclose(gradient(objectives.gaussian, grey, logits), 2 * (logits - grey), rtol=1e-10)
    np.testing.assert_allclose(gradient(objectives.laplace, grey, logits), np.sign(logits - grey))


@pytest.mark.parametrize("size", [100, 1e4, 1e30])
def test_large_logits_stay_finite(size):
    raw = np.float32([[size, -size, size, -size]])
    right, wrong = np.float32([[1, 0, 1, 0]]), np.float32([[0, 1, 0, 1]])
    np.testing.assert_allclose(objectives.bernoulli(right, raw), [0], atol=1e-30)
    np.testing.assert_allclose(objectives.bernoulli(wrong, raw), [4 * size], rtol=1e-6)
    assert np.isfinite(gradient(objectives.bernoulli, wrong, raw)).all()


def test_floor_is_reached_at_the_pixels_themselves(grey):
    at_floor = objectives.bernoulli(grey, np.log(grey / (1 - grey)))
    np.testing.assert_allclose(np.mean(at_floor) / grey[0].size, metrics.bce_floor(grey), rtol=1e-10)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 5))
def test_nothing_is_below_the_floor(seed, distance):
    random = np.random.default_rng(seed)
    x = random.uniform(0.01, 0.99, (2, 5))
    raw = np.log(x / (1 - x)) + distance * random.choice([-1, 1], x.shape)
    assert np.mean(objectives.bernoulli(x, raw)) / 5 > metrics.bce_floor(x)


def test_bernoulli_over_pixels_is_the_metric(logits, grey):
    figure = metrics.bce(grey, 1 / (1 + np.exp(-logits)), clip=1e-12)
    np.testing.assert_allclose(np.mean(objectives.bernoulli(grey, logits)) / grey[0].size, figure, rtol=1e-10)


def test_gaussian_over_pixels_is_the_metric(logits, grey):
    np.testing.assert_allclose(
        np.mean(objectives.gaussian(grey, logits)) / grey[0].size, metrics.mse(grey, logits)
    )


@pytest.mark.parametrize("name", ["bernoulli", "gaussian", "laplace"])
def test_likelihood_knows_its_term_and_mean(name, logits, grey):
    likelihood = objectives.likelihood(name)
    assert likelihood.name == name
    np.testing.assert_array_equal(
        likelihood.negative_log(grey, logits), getattr(objectives, name)(grey, logits)
    )
    expected = 1 / (1 + np.exp(-logits)) if name == "bernoulli" else logits
    np.testing.assert_allclose(likelihood.mean(logits), expected, rtol=1e-10)


@pytest.mark.parametrize("name", ["poisson", "", None, ["bernoulli"]])
def test_unknown_likelihood_is_shown(name):
    with pytest.raises(ValueError, match="bernoulli, gaussian, laplace") as error:
        objectives.likelihood(name)
    assert repr(name) in str(error.value)


def test_l1_is_the_sum_of_magnitudes():
    np.testing.assert_allclose(objectives.l1(np.array([[1.0, -2, 0], [0, 0, 0.5]])), [3, 0.5])


@pytest.mark.parametrize("rate", [0.05, 0.5, 0.9])
def test_rate_kl_is_the_divergence_of_two_coins(rate):
    code = np.random.default_rng(0).random((50, 4))
    mean = code.mean(axis=0)
    expected = np.sum(scipy.special.rel_entr([rate], mean) + scipy.special.rel_entr([1 - rate], 1 - mean))
    np.testing.assert_allclose(objectives.rate_kl(code, rate), expected, rtol=1e-10)
    np.testing.assert_allclose(objectives.rate_kl(np.full((3, 4), rate), rate), 0, atol=1e-12)


def test_rate_kl_pulls_each_unit_to_the_rate():
    code = np.array([[0.02, 0.05, 0.4], [0.02, 0.05, 0.2]])
    slope = gradient(lambda _, code: objectives.rate_kl(code, 0.05), 0.05, code)
    assert (slope[:, 0] < 0).all()
    np.testing.assert_allclose(slope[:, 1], 0, atol=1e-12)
    assert (slope[:, 2] > 0).all()


def test_rate_kl_of_silent_and_saturated_units_is_finite():
    code = np.float32([[0, 1], [0, 1]])
    assert np.isfinite(objectives.rate_kl(code, 0.1))


@pytest.mark.parametrize("rate", [0, 1, -0.1, float("nan")])
def test_wrong_rate_is_shown(rate):
    with pytest.raises(ValueError, match=r"rate must be in \(0, 1\), got"):
        objectives.rate_kl(np.ones((2, 2)), rate)


def test_contraction_is_the_squared_frobenius_norm():
    jacobian = np.random.default_rng(0).normal(size=(4, 3, 5))
    expected = np.linalg.norm(jacobian, "fro", axis=(1, 2)) ** 2
    np.testing.assert_allclose(objectives.contraction(jacobian), expected, rtol=1e-12)
    images = jacobian.reshape(4, 3, 5, 1)
    np.testing.assert_allclose(objectives.contraction(images), expected, rtol=1e-12)


def posterior_of(rows=5, latents=3):
    random = np.random.default_rng(2)
    return random.normal(size=(rows, latents)), random.normal(-1, 1, (rows, latents))


def test_normal_log_density_is_the_normal_distribution():
    mean, log_var = posterior_of()
    x = np.random.default_rng(3).normal(size=mean.shape)
    expected = scipy.stats.norm.logpdf(x, mean, np.exp(log_var / 2)).sum(axis=1)
    np.testing.assert_allclose(objectives.normal_log_density(x, mean, log_var), expected, rtol=1e-10)


def test_gaussian_kl_is_what_draws_say():
    """E_q [log q - log p], within four standard errors."""
    mean, log_var = posterior_of()
    z = mean + np.exp(log_var / 2) * np.random.default_rng(0).normal(size=(20_000, *mean.shape))
    q = scipy.stats.norm.logpdf(z, mean, np.exp(log_var / 2)).sum(axis=-1)
    difference = q - scipy.stats.norm.logpdf(z).sum(axis=-1)
    error = difference.std(axis=0) / np.sqrt(len(z))
    found = np.asarray(objectives.gaussian_kl(mean, log_var))
    assert (abs(found - difference.mean(axis=0)) < 4 * error).all()
    by_unit = np.asarray(objectives.gaussian_kl_by_unit(mean, log_var))
    np.testing.assert_allclose(by_unit.sum(axis=1), found, rtol=1e-12)
    np.testing.assert_allclose(objectives.gaussian_kl(0 * mean, 0 * mean), 0, atol=1e-15)


@pytest.mark.parametrize("variance", [0.02, 0.5, 3.0])
def test_normal_likelihood_is_complete(variance, logits, grey):
    likelihood = objectives.normal(variance)
    expected = per_sample(scipy.stats.norm.logpdf(grey, logits, np.sqrt(variance)))
    found = likelihood.negative_log(grey, logits) + likelihood.constant * grey[0].size
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    np.testing.assert_array_equal(likelihood.mean(logits), logits)


def test_constants_complete_the_other_likelihoods(logits, grey):
    densities = {
        "gaussian": scipy.stats.norm.logpdf(grey, logits, np.sqrt(0.5)),
        "laplace": scipy.stats.laplace.logpdf(grey, logits),
    }
    for name, density in densities.items():
        likelihood = objectives.likelihood(name)
        found = likelihood.negative_log(grey, logits) + likelihood.constant * grey[0].size
        np.testing.assert_allclose(found, per_sample(density), rtol=1e-10)
    assert objectives.likelihood("bernoulli").constant == 0


@pytest.mark.parametrize("variance", [0, -1, float("nan")])
def test_wrong_variance_is_shown(variance):
    with pytest.raises(ValueError, match=f"variance must be > 0, got {variance}"):
        objectives.normal(variance)


def test_mmd_by_hand():
    a, b = np.array([[0.0], [1.0], [3.0]]), np.array([[2.0], [2.5], [4.0]])
    total = 0.0
    for c in 2 * np.array([0.1, 0.2, 0.5, 1, 2, 5, 10]):
        kernel = lambda x, y, c=c: c / (c + (x - y.T) ** 2)  # noqa: E731
        within = [kernel(x, x)[~np.eye(3, dtype=bool)].mean() for x in (a, b)]
        total += sum(within) - 2 * kernel(a, b).mean()
    assert float(objectives.mmd(a, b)) == pytest.approx(total, rel=1e-10)


def test_mmd_is_zero_on_average_for_one_distribution_and_large_for_two():
    random = np.random.default_rng(0)
    same = [float(objectives.mmd(*random.normal(size=(2, 50, 3)))) for _ in range(100)]
    assert abs(np.mean(same)) < 4 * np.std(same) / 10
    assert float(objectives.mmd(random.normal(size=(50, 3)), random.normal(2, 1, (50, 3)))) > 10 * np.std(
        same
    )
