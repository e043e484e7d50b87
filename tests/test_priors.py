"""Priors against NumPy and SciPy, and against samples of themselves."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, norm

from aelib import (
    AdversarialAutoencoder,
    VariationalAutoencoder,
    WassersteinAutoencoder,
    blocks,
    bounds,
    likelihoods,
    priors,
    training,
)

X = np.random.default_rng(0).random((40, 6), dtype="float32")
CLASSES = np.eye(3, dtype="float32")[np.arange(40) % 3]
CODES = np.random.default_rng(1).normal(size=(40, 2)).astype("float32")


def vae(**options):
    return VariationalAutoencoder(blocks.dense_encoder(6, 4), blocks.dense_decoder(6, 2), **options)


def numbers(tensor):
    return ops.convert_to_numpy(tensor)


def test_the_standard_normal():
    prior, seed = priors.get(None), keras.random.SeedGenerator(0)
    np.testing.assert_allclose(numbers(prior.log_prob(CODES)), norm.logpdf(CODES).sum(axis=1), rtol=1e-5)
    draws = numbers(prior.draw(5000, 2, seed=seed))
    np.testing.assert_allclose(draws.mean(axis=0), 0, atol=0.06)
    np.testing.assert_allclose(draws.std(axis=0), 1, atol=0.05)


@pytest.mark.parametrize("prior", ["N(0, I)", priors.Prior, 3])
def test_only_a_prior_is_one(prior):
    with pytest.raises(ValueError, match=r"prior must be an aelib.priors.Prior.*got .*sample\(prior=...\)"):
        vae(prior=prior)


def conditional():
    return priors.ConditionalPrior(blocks.dense_encoder(3, 4, hidden=5))


def test_a_prior_of_the_condition():
    prior, seed = conditional(), keras.random.SeedGenerator(0)
    mean, log_var = np.split(numbers(prior.net(CLASSES)), 2, axis=1)
    expected = norm.logpdf(CODES, mean, np.exp(log_var / 2)).sum(axis=1)
    np.testing.assert_allclose(numbers(prior.log_prob(CODES, CLASSES)), expected, rtol=1e-5)
    many = np.repeat(CLASSES[:1], 4000, axis=0)
    draws = numbers(prior.draw(4000, 2, seed=seed, condition=many))
    np.testing.assert_allclose(draws.mean(axis=0), mean[0], atol=0.08)
    np.testing.assert_allclose(draws.std(axis=0), np.exp(log_var[0] / 2), rtol=0.08)
    # The closed form against the mean of many draws of the posterior.
    posterior = np.full((1, 2), 0.3, "float32"), np.full((1, 2), -1.0, "float32")
    z = 0.3 + np.exp(-0.5) * np.random.default_rng(0).normal(size=(200_000, 2))
    gap = norm.logpdf(z, 0.3, np.exp(-0.5)) - norm.logpdf(z, mean[0], np.exp(log_var[0] / 2))
    kl = numbers(prior.kl(*posterior, None, CLASSES[:1]))
    assert kl[0] == pytest.approx(gap.sum(axis=1).mean(), abs=0.02)
    with pytest.raises(ValueError, match="needs one: give condition="):
        prior.log_prob(CODES)


def test_a_vamp_prior_is_the_mixture_of_its_posteriors():
    model = vae(prior=priors.VampPrior(5))
    model.compile("adam")
    model.fit(X, epochs=2, verbose=0)
    prior = model.prior
    mean, log_var = (numbers(part) for part in model.posterior(numbers(prior.pseudo_inputs)))
    each = norm.logpdf(CODES[:, None], mean, np.exp(log_var / 2)).sum(axis=2)
    expected = logsumexp(each, axis=1) - np.log(5)
    np.testing.assert_allclose(numbers(prior.log_prob(CODES)), expected, rtol=1e-4)
    draws = numbers(prior.draw(20_000, 2, seed=keras.random.SeedGenerator(0)))
    np.testing.assert_allclose(draws.mean(axis=0), mean.mean(axis=0), atol=0.05)
    assert model.sample(3).shape == (3, 6)


def test_a_vamp_prior_starts_at_data_learns_and_is_saved(tmp_path):
    model = vae(prior=priors.VampPrior(5))
    model.compile("adam")
    model.prior.adapt(X)
    start = numbers(model.prior.pseudo_inputs)
    assert all(any(np.array_equal(row, x) for x in X) for row in start)
    model.fit(X, epochs=3, verbose=0)
    assert (numbers(model.prior.pseudo_inputs) != start).any()
    assert (float(model.prior.low), float(model.prior.high)) == (X.min(), X.max())
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.prior.pseudo_inputs, model.prior.pseudo_inputs)
    assert float(loaded.prior.high) == X.max()
    assert loaded.elbo(X).mean == pytest.approx(model.elbo(X).mean, rel=1e-6)
    # Estimated by draws, as is its divergence: many draws agree with the bound of one.
    assert bounds.importance_weighted_bound(model, X, 1).mean == pytest.approx(model.elbo(X).mean, rel=0.1)


def test_a_vamp_prior_s_range_is_that_of_the_data_also_where_a_step_was_compiled_before():
    x = 5 * X - 3
    model = vae(prior=priors.VampPrior(5), likelihood="gaussian")
    model.compile("adam")
    model.evaluate(x, verbose=0)  # compiles a test step, when the range is still that of pixels
    model.fit(x, epochs=2, verbose=0)
    compiled = [model.evaluate(x, batch_size=40, verbose=0, return_dict=True)["kl"] for _ in range(50)]
    out = [model(x) for _ in range(50)]
    eager = [float(ops.mean(model.terms(x, o)["kl"])) for o in out]
    assert np.mean(compiled) == pytest.approx(np.mean(eager), rel=0.1, abs=0.05)
    assert model.prior.low < 0


def test_a_vamp_prior_sees_what_the_encoder_sees():
    x = np.where(np.random.default_rng(0).random(X.shape) < 0.2, np.nan, X)
    model = vae(prior=priors.VampPrior(5), likelihood=likelihoods.Masked("gaussian"))
    model.compile("adam")
    assert np.isfinite(model.fit(x, epochs=2, verbose=0).history["loss"]).all()


@pytest.mark.parametrize("kind", [WassersteinAutoencoder, AdversarialAutoencoder])
def test_a_vamp_prior_needs_posteriors(kind):
    judge = {"discriminator": blocks.dense_encoder(2, 1)} if kind is AdversarialAutoencoder else {}
    nets = blocks.dense_encoder(6, 2), blocks.dense_decoder(6, 2)
    with pytest.raises(ValueError, match=f"mixture of the model's posteriors, and {kind.__name__} has none"):
        kind(*nets, strength=1.0, prior=priors.VampPrior(3), **judge)


def test_a_vamp_prior_needs_a_model_that_says_what_it_reads():
    with pytest.raises(ValueError, match="belongs to a model"):
        priors.VampPrior(3, shape=(6,)).log_prob(CODES)
    open_ended = keras.Sequential([keras.Input((None, 2)), keras.layers.GlobalMaxPool1D()])
    with pytest.raises(ValueError, match=r"must say what shape it reads, got \(None, None, 2\)"):
        VariationalAutoencoder(open_ended, blocks.dense_decoder(6, 1), prior=priors.VampPrior(3))


def two_crowds(n, rng):
    side = np.where(rng.random(n) < 0.3, -4.0, 4.0)
    return np.stack([side + rng.normal(size=n), 2 * rng.normal(size=n)], axis=1).astype("float32")


@pytest.mark.parametrize(
    "prior",
    [
        priors.MixturePrior(2, seed=0),
        priors.FlowMatchingPrior((64, 64), epochs=120, batch_size=128, learning_rate=5e-3, seed=0),
    ],
)
def test_a_prior_that_is_fitted_to_codes_draws_such(prior):
    codes = two_crowds(2000, np.random.default_rng(0))
    drawn = prior.fit(codes).sample(4000, seed=1)
    assert (drawn.shape, drawn.dtype) == ((4000, 2), np.float32)
    left = drawn[:, 0] < 0
    assert left.mean() == pytest.approx(0.3, abs=0.06)
    # A flow leaves a few codes between the crowds.
    np.testing.assert_allclose(np.median(drawn[left], axis=0), [-4, 0], atol=0.4)
    quarters = np.subtract(*np.percentile(drawn[~left], [75, 25], axis=0)) / 1.349
    np.testing.assert_allclose(quarters, [1, 2], rtol=0.25)
    np.testing.assert_array_equal(prior.sample(5, seed=1), prior.sample(5, seed=1))
    model = vae()
    np.testing.assert_allclose(model.sample(5, seed=3, prior=prior), model.decode(prior.sample(5, seed=3)))


def test_a_flow_is_fitted_by_the_compiled_loop_of_the_core():
    steps = training.FEW_STEPS + 1
    prior = priors.FlowMatchingPrior((8,), epochs=steps, batch_size=40, seed=0).fit(CODES)
    assert prior.sample(3, seed=0).shape == (3, 2)


def test_a_mixture_s_density():
    codes = np.random.default_rng(0).normal(size=(3000, 2)) @ [[1, 0.5], [0, 1]]
    prior = priors.MixturePrior(1).fit(codes)
    expected = multivariate_normal(codes.mean(axis=0), np.cov(codes.T)).logpdf(codes[:9])
    np.testing.assert_allclose(prior.log_prob(codes[:9]), expected, atol=0.01)


def test_a_mixture_of_single_precision_is_drawn_from_without_a_warning(recwarn):
    codes = (np.random.default_rng(0).normal(size=(2000, 48)) * np.geomspace(1, 30, 48)).astype("float32")
    prior = priors.MixturePrior(3, seed=0).fit(codes)
    assert prior.sample(5, seed=0).shape == (5, 48)
    assert not [str(w.message) for w in recwarn if "positive-semidefinite" in str(w.message)]


def test_what_cannot_be_fitted_says_so():
    for prior in (priors.MixturePrior(), priors.FlowMatchingPrior()):
        with pytest.raises(ValueError, match=r"is not fitted yet: call fit\(model.encode\(x\)\)"):
            prior.sample(3)
        with pytest.raises(ValueError, match=r"codes must have shape \(n >= 1, K\), got \(4, 2, 1\)"):
            prior.fit(np.zeros((4, 2, 1)))
        with pytest.raises(ValueError, match="NaN"):
            prior.fit(np.full((40, 2), np.nan))
    with pytest.raises(ValueError, match="10 components need more codes than that, got 10"):
        priors.MixturePrior(10).fit(CODES[:10])
