"""The bounds on a model whose log p(x) is known: x = W z + m + noise, with orthogonal columns in W."""

import functools
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import scipy.stats
from keras import ops

from aelib import VariationalAutoencoder, blocks, bounds, likelihoods

D, K, NOISE = 6, 2, 0.3
random = np.random.default_rng(0)
W = np.linalg.qr(random.normal(size=(D, K)))[0] * [2.0, 1.0]
M = random.normal(size=D)
X = (random.normal(size=(40, K)) @ W.T + M + random.normal(0, np.sqrt(NOISE), (40, D))).astype("float32")
TRUE = scipy.stats.multivariate_normal(M, W @ W.T + NOISE * np.eye(D)).logpdf(X)


@functools.cache
def linear_model(widen=1.0):
    """A linear VAE with the exact posterior, its variance multiplied by `widen`; nobody may change it."""
    precision = (W**2).sum(axis=0) + NOISE
    to_mean = W / precision  # (D, K)
    model = VariationalAutoencoder(
        blocks.dense_encoder((D,), 2 * K, hidden=()),
        blocks.dense_decoder((D,), K, hidden=()),
        likelihood="gaussian",
        variance=NOISE,
    )
    log_var = np.log(widen * NOISE / precision)
    model.encoder.set_weights([np.hstack([to_mean, 0 * to_mean]), np.concatenate([-M @ to_mean, log_var])])
    model.decoder.set_weights([W.T, M])
    return model


def test_the_weights_of_the_exact_posterior_are_all_log_p():
    weights = bounds.log_weights(linear_model(), X, 7, seed=0)
    np.testing.assert_allclose(weights, np.broadcast_to(TRUE, (7, 40)), atol=1e-4)


@pytest.mark.parametrize("k", [1, 3, 50])
def test_every_bound_is_log_p_at_the_exact_posterior(k):
    found = bounds.importance_weighted_bound(linear_model(), X, k)
    np.testing.assert_allclose(found.each, TRUE, atol=1e-4)
    assert found.mean == pytest.approx(TRUE.mean(), abs=1e-5)
    assert found.error == pytest.approx(TRUE.std(ddof=1) / np.sqrt(40), rel=1e-4)
    np.testing.assert_allclose(bounds.log_likelihood(linear_model(), X, samples=k).each, TRUE, atol=1e-4)


def test_elbo_is_log_p_at_the_exact_posterior():
    draws = np.stack([bounds.elbo(linear_model(), X, samples=20, seed=s).each for s in range(20)])
    error = draws.std(axis=0, ddof=1) / np.sqrt(20)
    assert np.mean(abs(draws.mean(axis=0) - TRUE) < 4 * error) > 0.95
    many = linear_model().elbo(X, samples=4000)
    assert many.mean == pytest.approx(TRUE.mean(), abs=0.05)


def test_the_bound_rises_with_k_and_stays_below():
    """The posterior is too wide here; differences are paired, over many seeds."""
    model = linear_model(widen=3.0)
    rows = X[:10]
    draws = {
        k: np.stack([bounds.importance_weighted_bound(model, rows, k, seed=s).each for s in range(40)])
        for k in (1, 5, 50)
    }
    mean = {k: each.mean(axis=0).mean() for k, each in draws.items()}
    error = {k: each.mean(axis=1).std(ddof=1) / np.sqrt(40) for k, each in draws.items()}
    assert mean[1] + 4 * error[1] < mean[5]
    assert mean[5] + 4 * error[5] < mean[50]
    assert mean[50] < TRUE[:10].mean() + 4 * error[50]
    lost = 0.5 * K * (3 - 1 - np.log(3))  # KL of the wide posterior from the exact one
    assert mean[1] == pytest.approx(TRUE[:10].mean() - lost, abs=4 * error[1])
    elbo = np.stack([bounds.elbo(model, rows, samples=50, seed=s).each for s in range(20)])
    gap = elbo.mean(axis=1)
    assert gap.mean() == pytest.approx(TRUE[:10].mean() - lost, abs=4 * gap.std(ddof=1) / np.sqrt(20) + 1e-4)


@pytest.mark.parametrize(("k", "decodes"), [(1, 7), (3, 7), (50, 7), (50, 1), (2, 1000)])
def test_memory_is_bounded_whatever_k_is(k, decodes):
    exact, sizes = linear_model(), []
    model = SimpleNamespace(
        posterior=exact.posterior,
        likelihood=exact.likelihood,
        decoder=lambda z: sizes.append(z.shape[0]) or exact.decoder(z),
    )
    found = bounds.importance_weighted_bound(model, X, k, decodes=decodes)
    np.testing.assert_allclose(found.each, TRUE, atol=1e-4)
    assert max(sizes) <= decodes
    assert sum(sizes) == k * len(X)


def test_the_seed_decides():
    model = linear_model(widen=2.0)
    first, again, other = (bounds.elbo(model, X, seed=s).mean for s in (0, 0, 1))
    assert first == again != other


def test_one_sample_has_no_error():
    assert bounds.elbo(linear_model(), X[:1]).error == 0


def test_a_target_of_its_own():
    model = linear_model()
    weights = bounds.log_weights(model, X, 1, seed=0)
    posterior = model.posterior(X)
    again = bounds.log_weights(model, X, 1, seed=0, target=X, posterior=posterior)
    np.testing.assert_array_equal(again, weights)
    assert not np.allclose(bounds.log_weights(model, X, 1, seed=0, target=X + 1), weights)


@pytest.mark.parametrize("call", [bounds.elbo, bounds.log_likelihood])
@pytest.mark.parametrize("bad", [{"samples": 0}, {"samples": 1.5}, {"decodes": 0}, {"samples": True}])
def test_wrong_counts_are_shown(call, bad):
    with pytest.raises(ValueError, match=f"must be a whole number >= 1, got {next(iter(bad.values()))}"):
        call(linear_model(), X, **bad)


def test_no_sample_is_shown():
    with pytest.raises(ValueError, match=r"x must have the shape .* not be empty, got \(0, 6\)"):
        bounds.elbo(linear_model(), X[:0])


def test_a_trained_linear_vae_is_probabilistic_pca():
    """Tipping & Bishop (1999), equations 7 and 8: the best linear-Gaussian model, in closed form."""
    keras.utils.set_random_seed(0)
    n, k = 2000, 2
    x = random.normal(size=(n, k)) @ random.normal(size=(k, D)) + random.normal(0, 0.5, (n, D))
    x = (x - x.mean(axis=0)).astype("float32")
    values, vectors = np.linalg.eigh(np.cov(x.T, bias=True))
    noise = values[:-k].mean()
    best = vectors[:, -k:] * np.sqrt(values[-k:] - noise)
    likelihood = (
        scipy.stats.multivariate_normal(np.zeros(D), best @ best.T + noise * np.eye(D)).logpdf(x).mean()
    )

    model = VariationalAutoencoder(
        blocks.dense_encoder((D,), 2 * k, hidden=()),
        blocks.dense_decoder((D,), k, hidden=()),
        likelihood="gaussian",
        variance=noise,
    )
    schedule = keras.optimizers.schedules.CosineDecay(0.03, 80 * 20)
    model.compile(keras.optimizers.Adam(schedule))
    model.fit(x, epochs=80, batch_size=100, verbose=0)
    found = bounds.elbo(model, x, samples=50)
    assert likelihood - 0.01 * D < found.mean < likelihood + 0.001 * D
    assert bounds.log_likelihood(model, x[:200], samples=200).mean == pytest.approx(
        bounds.elbo(model, x[:200], samples=200).mean, abs=0.01 * D
    )
    assert ops.shape(model.sample(3)) == (3, D)


def test_every_source_of_batches_is_read_in_parts():
    model = linear_model()
    each = bounds.elbo(model, X, samples=200).each
    for source in ([X[:30], X[30:]], ((part, part) for part in np.split(X, 4))):
        found = bounds.elbo(model, iter(source), samples=200)
        np.testing.assert_allclose(found.each, each, atol=1.0)  # other draws
        assert found.mean == pytest.approx(TRUE.mean(), abs=0.1)


def test_numbers_of_double_precision_are_counted_in_it():
    found = bounds.importance_weighted_bound(linear_model(), X.astype("float64"), 2)
    np.testing.assert_allclose(found.each, TRUE, atol=1e-4)


class Stretched(likelihoods.Gaussian):
    """A likelihood that somebody else wrote: what it leaves out is counted by every bound."""

    def feature_constant(self, target):
        return super().feature_constant(target) + 1.0


def test_a_bound_asks_the_likelihood_for_all_of_it():
    exact = linear_model()
    model = SimpleNamespace(
        posterior=exact.posterior, decoder=exact.decoder, likelihood=Stretched(float(NOISE))
    )
    for estimate in (bounds.elbo, bounds.log_likelihood):
        plain = estimate(exact, X, samples=5).each
        np.testing.assert_allclose(estimate(model, X, samples=5).each, plain - D, rtol=1e-5)


@pytest.mark.parametrize("bound", [bounds.elbo, bounds.log_likelihood])
def test_missing_cells_are_no_part_of_a_bound(bound):
    """Cells that the likelihood does not see: the bound is that of a model without them."""
    exact = linear_model()
    seen = np.arange(D) < 4
    x = np.where(seen, X, np.nan)
    masked = likelihoods.Masked(exact.likelihood)
    model = SimpleNamespace(
        posterior=lambda x: exact.posterior(ops.nan_to_num(x)), decoder=exact.decoder, likelihood=masked
    )
    shorter = SimpleNamespace(
        posterior=lambda x: exact.posterior(ops.pad(x, ((0, 0), (0, 2)))),
        decoder=lambda z: exact.decoder(z)[:, :4],
        likelihood=exact.likelihood,
    )
    found, expected = bound(model, x, samples=3).each, bound(shorter, X[:, :4], samples=3).each
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (X[:, :5], r"the encoder reads x of shape \(n >= 1, 6\), got \(40, 5\)"),
        (np.where(X > 1, np.nan, X), "x must be finite: .* NaN or infinite"),
    ],
)
def test_wrong_data_are_shown(x, message):
    with pytest.raises(ValueError, match=message):
        bounds.elbo(linear_model(), x)
