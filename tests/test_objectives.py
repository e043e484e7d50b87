import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf

from aelib import objectives


def gradient(term, x):
    x = tf.Variable(x)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(term(x))
    return tape.gradient(loss, x).numpy()


def test_features_are_summed_whatever_the_rank():
    x = np.random.default_rng(0).normal(size=(4, 3, 2, 2))
    np.testing.assert_allclose(objectives.sum_features(x), x.sum(axis=(1, 2, 3)), rtol=1e-12)


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
    slope = gradient(lambda code: objectives.rate_kl(code, 0.05), code)
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
