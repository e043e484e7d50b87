import keras
import numpy as np
import pytest
from keras import ops

from aelib import (
    ConditionalVariationalAutoencoder,
    ImportanceWeightedAutoencoder,
    VariationalAutoencoder,
    WassersteinAutoencoder,
    blocks,
    bounds,
    layers,
    likelihoods,
    objectives,
    priors,
)

SHAPE, CODE, N, BATCH = (4, 3, 1), 2, 10, 4
X = np.random.default_rng(0).random((N, *SHAPE), dtype="float32")


def build(kind=VariationalAutoencoder, *, code=CODE, **options):
    keras.utils.set_random_seed(0)
    width = code if kind is WassersteinAutoencoder else 2 * code
    encoder = blocks.dense_encoder(SHAPE, width, hidden=(5,), activation="tanh")
    return kind(encoder, blocks.dense_decoder(SHAPE, code, hidden=(5,), activation="tanh"), **options)


def compiled(*args, rate=0.0, **options):
    model = build(*args, **options)
    model.compile(keras.optimizers.Adam(rate), run_eagerly=True)
    return model


def evaluate(model, x=X):
    return model.evaluate(x, batch_size=BATCH, verbose=0, return_dict=True)


def fit(model, **options):
    return model.fit(X, batch_size=BATCH, verbose=0, **options).history


def divergence(model):
    """By hand, for each latent and sample: (N, K)."""
    mean, log_var = np.split(np.asarray(model.encoder(X), np.float64), 2, axis=1)
    return 0.5 * (np.exp(log_var) + mean**2 - 1 - log_var)


def certain(model):
    """Make the posterior a point, so that draws are means."""
    kernel, bias = model.encoder.layers[-1].get_weights()
    kernel[:, CODE:], bias[CODE:] = 0, -60
    model.encoder.layers[-1].set_weights([kernel, bias])
    return model


@pytest.mark.parametrize("beta", [1.0, 0.25])
def test_the_terms_are_sums_over_pixels_and_latents_and_means_over_samples(beta):
    model = certain(compiled(beta=beta))
    figures = evaluate(model)
    raw = np.asarray(model.decoder(model.encode(X)), np.float64)
    expected = np.mean(np.sum(np.logaddexp(0, raw) - X * raw, axis=(1, 2, 3)))
    assert figures["reconstruction"] == pytest.approx(expected, rel=1e-5)
    assert figures["kl"] == pytest.approx(beta * divergence(model).sum(axis=1).mean(), rel=1e-5)
    assert figures["loss"] == pytest.approx(figures["reconstruction"] + figures["kl"], rel=1e-5)


def test_terms_add_up_in_training_too():
    history = fit(compiled(rate=0.01), epochs=3)
    assert set(history) == {"loss", "reconstruction", "kl"}
    np.testing.assert_allclose(history["loss"], np.add(history["reconstruction"], history["kl"]), rtol=1e-5)


def test_the_gaussian_term_is_divided_by_twice_the_variance():
    half, tenth = (certain(compiled(likelihood="gaussian", variance=v)) for v in (0.5, 0.1))
    assert evaluate(tenth)["reconstruction"] == pytest.approx(5 * evaluate(half)["reconstruction"], rel=1e-5)
    assert VariationalAutoencoder.from_config(tenth.get_config()).likelihood.variance == 0.1


def test_warmup_raises_the_weight_step_by_step_and_not_in_evaluation():
    model = compiled(beta=2.0, warmup=6)
    full = evaluate(model)["kl"]
    first, second, third = fit(model, epochs=3, shuffle=False)["kl"]
    kl = divergence(model).sum(axis=1)
    weights = 2.0 * np.minimum(np.arange(9) / 6, 1)
    parts = [kl[:4].mean(), kl[4:8].mean(), kl[8:].mean()]
    by_epoch = [np.average(weights[i : i + 3] * parts, weights=[4, 4, 2]) for i in (0, 3, 6)]
    assert [first, second, third] == pytest.approx(by_epoch, rel=1e-5)
    assert third == pytest.approx(full, rel=1e-5)
    assert evaluate(model)["kl"] == pytest.approx(2 * kl.mean(), rel=1e-5)


def test_warmup_goes_on_after_a_reload(tmp_path):
    model = compiled(warmup=100)
    fit(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert float(loaded.step) == 3
    assert (loaded.warmup, loaded.beta) == (100, 1.0)


def test_free_bits_charge_each_latent_for_a_minimum():
    model = compiled(free_bits=0.3)
    by_unit = divergence(model)
    batches = [by_unit[i : i + BATCH].mean(axis=0) for i in range(0, N, BATCH)]
    expected = np.average([np.maximum(kl, 0.3).sum() for kl in batches], weights=[4, 4, 2])
    assert evaluate(model)["kl"] == pytest.approx(expected, rel=1e-5)
    assert evaluate(compiled(free_bits=100.0))["kl"] == pytest.approx(200, rel=1e-6)


def test_encode_is_the_mean_and_draws_spread_around_it():
    model = build()
    mean, log_var = np.split(np.asarray(model.encoder(X)), 2, axis=1)
    np.testing.assert_allclose(model.encode(X), mean, atol=1e-6)
    many = np.repeat(X[:1], 4000, axis=0)
    draws = np.asarray(model(many)["code"])
    assert (abs(draws.mean(axis=0) - mean[0]) < 4 * np.exp(log_var[0] / 2) / np.sqrt(4000)).all()
    assert np.allclose(draws.std(axis=0), np.exp(log_var[0] / 2), rtol=0.1)
    np.testing.assert_allclose(model.reconstruct(X), model.decode(mean), atol=1e-6)


def test_samples_come_from_the_prior():
    model = build()
    code = np.random.default_rng(5).normal(size=(3, CODE)).astype("float32")
    np.testing.assert_array_equal(model.sample(3, seed=5), model.decode(code))
    assert model.sample(1).shape == (1, *SHAPE)


def test_interpolation_is_a_line_of_codes():
    model = build()
    path = model.interpolate(X[:2], X[2:4], steps=5)
    assert path.shape == (2, 5, *SHAPE)
    one, two = model.encode(X[:2]), model.encode(X[2:4])
    for i, share in enumerate(np.linspace(0, 1, 5)):
        middle = ((1 - share) * one + share * two).astype("float32")
        np.testing.assert_allclose(path[:, i], model.decode(middle), atol=1e-6)


def test_elbo_is_minus_the_loss():
    model = certain(compiled())
    kl_of_a_point = divergence(model).sum(axis=1)
    assert model.elbo(X).mean == pytest.approx(-evaluate(model)["loss"], rel=1e-5)
    assert kl_of_a_point.mean() > 50, "a point is far from the prior, and the figures agree all the same"


def test_importance_weighted_loss_is_minus_the_bound():
    model = compiled(ImportanceWeightedAutoencoder, samples=5, likelihood="gaussian", variance=0.2)
    losses = [evaluate(model)["loss"] for _ in range(40)]
    assert set(evaluate(model)) == {"loss", "bound"}
    found = [bounds.importance_weighted_bound(model, X, 5, seed=s).mean for s in range(40)]
    error = np.hypot(np.std(losses, ddof=1), np.std(found, ddof=1)) / np.sqrt(40)
    assert abs(np.mean(losses) + np.mean(found)) < 4 * error
    one = compiled(ImportanceWeightedAutoencoder, samples=1, likelihood="gaussian", variance=0.2)
    single = [evaluate(one)["loss"] for _ in range(40)]
    assert np.mean(single) > np.mean(losses) + 2 * error


def test_wasserstein_term_is_the_discrepancy_from_the_prior():
    model = compiled(WassersteinAutoencoder, strength=10.0, seed=0)
    figures = evaluate(model)
    draws = keras.random.SeedGenerator(0)
    keras.random.normal((1, CODE), seed=draws)  # the look that `compile` takes at the terms
    codes = [ops.convert_to_tensor(model.encode(X)[i : i + BATCH]) for i in range(0, N, BATCH)]
    parts = [objectives.mmd(c, keras.random.normal(ops.shape(c), seed=draws)) for c in codes]
    expected = 10 * np.average([float(part) for part in parts], weights=[4, 4, 2])
    assert set(figures) == {"loss", "reconstruction", "mmd"}
    assert figures["mmd"] == pytest.approx(expected, rel=1e-4)
    assert figures["loss"] == pytest.approx(figures["reconstruction"] + figures["mmd"], rel=1e-5)
    assert np.isfinite(evaluate(model, X[:1])["loss"]), "one sample has no neighbour"


def test_wasserstein_pulls_the_codes_to_the_prior():
    x = np.random.default_rng(1).random((200, *SHAPE), dtype="float32")
    free, held = (compiled(WassersteinAutoencoder, strength=s, rate=0.02) for s in (0.0, 100.0))
    target = np.random.default_rng(2).normal(size=(200, CODE)).astype("float32")
    for model in (free, held):
        model.run_eagerly = False
        model.fit(x, batch_size=50, epochs=15, verbose=0)
    apart = [float(objectives.mmd(model.encode(x), target)) for model in (free, held)]
    assert apart[1] < 0.5 * apart[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": -1}, "beta must be >= 0, got -1"),
        ({"warmup": -2}, "warmup must be a whole number >= 0, got -2"),
        ({"warmup": 10.7}, "warmup must be a whole number >= 0, got 10.7"),
        ({"likelihood": "laplace", "variance": 0.1}, r"belongs to likelihood='gaussian', .*Laplace\(0.1\)"),
        ({"likelihood": likelihoods.Gaussian(), "variance": 0.1}, "variance=0.1 belongs to"),
        ({"free_bits": float("nan")}, "free_bits must be >= 0, got nan"),
        ({"likelihood": "gaussian", "variance": 0}, "variance must be > 0, got 0"),
        ({"kind": ImportanceWeightedAutoencoder, "samples": 0}, "samples must be a whole number >= 1, got 0"),
        (
            {"kind": ImportanceWeightedAutoencoder, "beta": 2.0},
            "Unrecognized keyword arguments .*'beta': 2.0",
        ),
        ({"kind": WassersteinAutoencoder, "strength": -1}, "strength must be >= 0, got -1"),
    ],
)
def test_bad_arguments_are_shown(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_an_encoder_of_the_wrong_width_is_shown():
    with pytest.raises(ValueError, match="must return 2 x 2 numbers, means and log-variances; got 3"):
        VariationalAutoencoder(blocks.dense_encoder(SHAPE, 3), blocks.dense_decoder(SHAPE, 2))


def test_wrong_requests_are_shown():
    model = build()
    with pytest.raises(ValueError, match="n must be a whole number >= 1, got 0"):
        model.sample(0)
    with pytest.raises(ValueError, match="steps must be a whole number >= 2, got 1"):
        model.interpolate(X, X, steps=1)
    with pytest.raises(ValueError, match="as many samples, got 2 and 3"):
        model.interpolate(X[:2], X[:3])


def test_a_gaussian_s_variance_is_learned_unless_it_is_given():
    assert build(likelihood="gaussian").likelihood.variance == "learned"
    assert build(likelihood="gaussian", variance=0.1).likelihood.variance == 0.1
    assert build(likelihood=likelihoods.Gaussian()).likelihood.variance == 0.5


def test_a_learned_variance_finds_the_size_of_the_errors(tmp_path):
    """Data of standard deviation 0.1: with a variance of one half no unit would be active."""
    x = 0.5 + 0.1 * np.random.default_rng(0).normal(size=(512, *SHAPE)).astype("float32")
    model = build(likelihood="gaussian")
    model.compile(keras.optimizers.Adam(0.01))
    model.fit(x, batch_size=128, epochs=40, verbose=0)
    found = float(model.likelihood.variances(np.zeros((1, 1), "float32"))[0, 0])
    assert found == pytest.approx(np.mean((model.reconstruct(x) - x) ** 2), rel=0.3)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert float(loaded.likelihood.tenth) == float(model.likelihood.tenth)
    assert loaded.elbo(x[:5]).mean == model.elbo(x[:5]).mean


def test_a_collapsed_posterior_is_warned_of():
    model = build(beta=1000.0)
    model.compile(keras.optimizers.Adam(0.01))
    with pytest.warns(UserWarning, match=r"no unit of the code is active: .*posterior collapse.* lower beta"):
        model.fit(X, batch_size=2, epochs=30, verbose=0)


def test_a_decoder_that_does_not_say_how_long_a_code_is():
    class Plain(keras.Model):
        def __init__(self):
            super().__init__()
            self.layer = keras.layers.Dense(12)

        def call(self, z):
            return keras.ops.reshape(self.layer(z), (-1, *SHAPE))

    model = VariationalAutoencoder(blocks.dense_encoder(SHAPE, 4, hidden=()), Plain())
    with pytest.raises(ValueError, match="does not say how long a code is"):
        model.sample(1)
    model.compile("adam", run_eagerly=True)
    assert np.isfinite(fit(model)["loss"]).all()
    assert model.reconstruct(X).shape == X.shape


LABELS = np.eye(4, dtype="float32")[np.arange(48) % 4]
GIVEN = {"x": np.float32(0.1 + 0.8 * LABELS @ np.random.default_rng(0).random((4, 6))), "condition": LABELS}


def conditional(**options):
    encoder = blocks.with_condition(blocks.dense_encoder(6 + 4, 4, hidden=(16,)), 4)
    decoder = blocks.with_condition(blocks.dense_decoder(6, 2 + 4, hidden=(16,)), 4)
    model = ConditionalVariationalAutoencoder(encoder, decoder, seed=0, **options)
    model.compile(keras.optimizers.Adam(0.01))
    return model


def prior_of_the_class():
    return priors.ConditionalPrior(blocks.dense_encoder(4, 4, hidden=(8,)))


@pytest.mark.parametrize("prior", [lambda: None, prior_of_the_class])
def test_a_conditional_model_tells_the_classes_apart(prior, tmp_path):
    model = conditional(prior=prior())
    model.fit(GIVEN, batch_size=16, epochs=60, verbose=0, validation_data=GIVEN)
    sampled = model.sample(LABELS[:4], seed=1)
    np.testing.assert_allclose(sampled, GIVEN["x"][:4], atol=0.15)  # all of x is in its class
    np.testing.assert_allclose(model.reconstruct(GIVEN), GIVEN["x"], atol=0.15)
    fitted = priors.MixturePrior(2, seed=0).fit(model.encode(GIVEN))
    by_mixture = model.decode(fitted.sample(4, seed=1), LABELS[:4])
    np.testing.assert_array_equal(model.sample(LABELS[:4], seed=1, prior=fitted), by_mixture)
    assert model.encode(GIVEN).shape == (48, 2)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.encode(GIVEN), model.encode(GIVEN), atol=1e-6)
    assert loaded.elbo(GIVEN).mean == pytest.approx(model.elbo(GIVEN).mean, rel=1e-5)
    assert loaded.evaluate(GIVEN, verbose=0)[0] == pytest.approx(model.evaluate(GIVEN, verbose=0)[0], rel=0.1)


def test_the_terms_of_a_conditional_model_by_hand():
    model = conditional(prior=prior_of_the_class())
    out = model(GIVEN)
    code = np.asarray(out["code"])
    terms = model.terms(GIVEN["x"], out | {"input": GIVEN})
    mean, log_var = (np.asarray(out[name], np.float64) for name in ("mean", "log_var"))
    prior = np.split(np.asarray(model.prior.net(LABELS), np.float64), 2, axis=1)
    gap = np.exp(log_var - prior[1]) + (mean - prior[0]) ** 2 / np.exp(prior[1]) - 1 + prior[1] - log_var
    np.testing.assert_allclose(terms["kl"], 0.5 * gap.sum(axis=1), rtol=1e-4, atol=1e-5)
    raw = np.asarray(model.decoder([code, LABELS]), np.float64)
    expected = (np.logaddexp(0, raw) - GIVEN["x"] * raw).sum(axis=1)
    np.testing.assert_allclose(terms["reconstruction"], expected, rtol=1e-5)


def test_bounds_of_a_conditional_model_repeat_the_condition_for_every_draw():
    model = conditional(prior=prior_of_the_class())
    one, many = (bounds.importance_weighted_bound(model, GIVEN, k).mean for k in (1, 200))
    assert model.elbo(GIVEN, samples=50).mean == pytest.approx(one, rel=0.05)
    assert many >= one - 0.1
    other = GIVEN | {"condition": LABELS[::-1]}
    assert model.elbo(other, samples=50).mean != pytest.approx(model.elbo(GIVEN, samples=50).mean, rel=1e-4)


def test_a_conditional_model_hides_and_corrupts_x_alone():
    model = conditional(corrupt=layers.MaskingNoise(1.0))
    x, condition = model.visible(GIVEN, training=True)
    assert not np.asarray(x).any()
    np.testing.assert_array_equal(condition, LABELS)
    whole = GIVEN | {"condition": LABELS.astype("int64")}
    np.testing.assert_allclose(model.encode(whole), model.encode(GIVEN), atol=1e-6)
    two, others = ({key: part[rows] for key, part in GIVEN.items()} for rows in (slice(2), slice(4, 6)))
    line = model.interpolate(two, others, steps=3)
    assert line.shape == (2, 3, 6)
    np.testing.assert_allclose(line[:, 0], model.reconstruct(two), atol=1e-5)


def test_a_conditional_model_says_what_it_reads():
    model = conditional()
    with pytest.raises(ValueError, match="must be a dict of 'x' and 'condition', got ndarray"):
        model.fit(GIVEN["x"], verbose=0)
    with pytest.raises(ValueError, match="a dict of 'x' and 'condition', got a dict of 'x', 'y'"):
        model.encode({"x": GIVEN["x"], "y": LABELS})
    with pytest.raises(ValueError, match=r"reads 'condition' of shape \(n >= 1, 4\), got \(48, 3\)"):
        model.encode(GIVEN | {"condition": LABELS[:, :3]})
    with pytest.raises(ValueError, match=r"as many samples each, got \{'x': 48, 'condition': 5\}"):
        model.fit(GIVEN | {"condition": LABELS[:5]}, verbose=0)
    with pytest.raises(ValueError, match="NaN"):
        model.fit(GIVEN | {"condition": LABELS * np.nan}, verbose=0)
    with pytest.raises(ValueError, match=r"must be in \[0, 1\]"):
        model.fit(GIVEN | {"x": 255 * GIVEN["x"]}, verbose=0)
    with pytest.raises(ValueError, match=r"reads a condition too: decode\(code, condition\)"):
        model.decode(np.zeros((3, 2)))


def test_gaps_in_what_a_conditional_model_models():
    model = conditional(likelihood=likelihoods.Masked("gaussian"))
    x = GIVEN["x"].copy()
    x[::3, 1] = np.nan
    model.fit(GIVEN | {"x": x}, batch_size=16, epochs=30, verbose=0)
    filled = model.reconstruct(GIVEN | {"x": x})
    assert np.abs(filled - GIVEN["x"])[::3, 1].max() < 0.4
    with pytest.raises(ValueError, match=r"'condition'.* must be finite"):
        model.encode(GIVEN | {"condition": LABELS * np.nan})


def test_a_wasserstein_model_draws_from_its_prior():
    model = build(WassersteinAutoencoder, strength=1.0)
    code = np.random.default_rng(5).normal(size=(3, CODE)).astype("float32")
    np.testing.assert_array_equal(model.sample(3, seed=5), model.decode(code))
    assert model.sample(4, prior=priors.MixturePrior(2, seed=0).fit(model.encode(X))).shape == (4, *SHAPE)
