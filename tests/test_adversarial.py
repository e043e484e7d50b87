"""The adversarial autoencoder: who moves whom, and that the game brings the codes to the prior."""

import keras
import numpy as np
import pytest
from keras import ops

from aelib import AdversarialAutoencoder, blocks

X = np.random.default_rng(0).random((64, 6), dtype="float32")


def build(code=2, **options):
    judge = blocks.dense_encoder(code, 1, hidden=(16,))
    nets = blocks.dense_encoder(6, code, hidden=(8,)), blocks.dense_decoder(6, code, hidden=(8,))
    return AdversarialAutoencoder(*nets, discriminator=judge, seed=0, **options)


def weights(part):
    return [ops.convert_to_numpy(weight) for weight in part.trainable_variables]


def changed(before, after):
    return [not np.array_equal(one, two) for one, two in zip(before, after, strict=True)]


def test_the_terms_by_hand():
    model = build(strength=0.5)
    out = model(X)
    terms = model.terms(X, out)
    logits = ops.convert_to_numpy(model.discriminator(out["code"]))[:, 0].astype("float64")
    np.testing.assert_allclose(terms["adversary"], 0.5 * np.logaddexp(0, -logits), rtol=1e-5)
    draws = build(strength=0.5).prior.draw(64, 2, seed=keras.random.SeedGenerator(0))
    real = ops.convert_to_numpy(model.discriminator(draws))[:, 0].astype("float64")
    expected = np.logaddexp(0, -real) + np.logaddexp(0, logits)
    np.testing.assert_allclose(terms["discriminator"], expected, rtol=1e-5)


@pytest.mark.parametrize("player", ["autoencoder", "discriminator"])
def test_each_optimizer_moves_its_own_player(player):
    model = build()
    still = keras.optimizers.SGD(0.0)
    both = (still, "adam") if player == "discriminator" else ("adam", still)
    model.compile(both[0], discriminator_optimizer=both[1])
    before = [weights(part) for part in (model.encoder, model.decoder, model.discriminator)]
    model.fit(X, verbose=0)
    after = [weights(part) for part in (model.encoder, model.decoder, model.discriminator)]
    moved = [any(changed(*pair)) for pair in zip(before, after, strict=True)]
    assert moved == ([False, False, True] if player == "discriminator" else [True, True, False])


def test_the_adversary_moves_the_encoder_alone_and_away_from_being_recognized():
    model = build(strength=1e6)  # so that the reconstruction does not count
    model.compile("adam", discriminator_optimizer=keras.optimizers.SGD(0.0))
    history = model.fit(X, epochs=40, verbose=0).history
    assert history["adversary"][-1] < history["adversary"][0]


def test_the_codes_come_to_follow_the_prior():
    rng = np.random.default_rng(0)
    x = (3 + rng.normal(size=(1024, 2)) @ rng.normal(size=(2, 6))).astype("float32")
    model = build(likelihood="gaussian", strength=2.0)
    start = model.encode(x)
    model.compile(keras.optimizers.Adam(3e-3))
    model.fit(x, batch_size=64, epochs=60, verbose=0)
    code = model.encode(x)
    plain = build(likelihood="gaussian", strength=0.0)
    plain.compile(keras.optimizers.Adam(3e-3))
    plain.fit(x, batch_size=64, epochs=60, verbose=0)
    unbound = plain.encode(x)
    for codes in (start, unbound):
        assert abs(codes.mean(axis=0)).max() + abs(codes.std(axis=0) - 1).max() > 1
    np.testing.assert_allclose(code.mean(axis=0), 0, atol=0.5)
    np.testing.assert_allclose(code.std(axis=0), 1, atol=0.5)
    assert model.sample(4, seed=1).shape == (4, 6)


def test_a_run_that_is_resumed_ends_as_one_without_a_break(tmp_path):
    keras.utils.set_random_seed(0)
    model = build()
    model.compile(keras.optimizers.Adam(0.01), discriminator_optimizer=keras.optimizers.SGD(0.1, 0.9))
    model.fit(X, shuffle=False, verbose=0)
    model.save(tmp_path / "model.keras")
    resumed = keras.saving.load_model(tmp_path / "model.keras")
    assert int(resumed.optimizer.iterations) == 2
    assert resumed.optimizer.second.momentum == 0.9
    histories = [m.fit(X, epochs=2, shuffle=False, verbose=0).history for m in (model, resumed)]
    for name, values in histories[0].items():
        assert values == pytest.approx(histories[1][name], rel=1e-5), name
    for one, two in zip(model.optimizer.variables, resumed.optimizer.variables, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)


def test_rates_are_the_first_optimizer_s_and_averages_of_both_are_put_in_place():
    model = build()
    model.compile(keras.optimizers.Adam(0.01, use_ema=True))
    assert float(model.optimizer.learning_rate) == pytest.approx(0.01)
    model.optimizer.learning_rate = 0.02
    assert float(model.optimizer.first.learning_rate) == pytest.approx(0.02)
    assert model.optimizer.second.use_ema
    model.fit(X, epochs=2, verbose=0)
    with pytest.raises(ValueError, match="holds both optimizers already"):
        model.compile(model.optimizer, discriminator_optimizer="adam")


def test_dropout_in_the_discriminator_acts_in_training_alone():
    model = build()
    model.discriminator = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(64), keras.layers.Dropout(0.5, seed=1), keras.layers.Dense(1)]
    )
    for training in (False, True):
        out = model(X, training=training)
        # The two judge the same codes with the same weights, each with its own dropout.
        apart = np.abs(ops.convert_to_numpy(out["found"] - out["judged"])).max()
        assert (apart > 1e-3) == training


def test_in_16_bits():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = build()
    finally:
        keras.config.set_dtype_policy("float32")
    model.compile(keras.optimizers.Adam(1e-3))
    assert np.isfinite(model.fit(X, epochs=3, verbose=0).history["loss"]).all()
    model.compile_from_config(model.get_compile_config())
    assert np.isfinite(model.fit(X, epochs=3, verbose=0).history["loss"]).all()


def test_what_cannot_judge_is_refused():
    nets = blocks.dense_encoder(6, 2), blocks.dense_decoder(6, 2)
    with pytest.raises(ValueError, match=r"discriminator must be a keras.Model or a layer, got 'dense'"):
        AdversarialAutoencoder(*nets, discriminator="dense")
    with pytest.raises(ValueError, match=r"one logit a code, \(B, 1\), got \(None, 2\)"):
        AdversarialAutoencoder(*nets, discriminator=blocks.dense_encoder(2, 2))
    model = AdversarialAutoencoder(nets[0], keras.layers.Dense(6), discriminator=blocks.dense_encoder(2, 1))
    with pytest.raises(ValueError, match=r"does not say how long a code is"):
        model.sample(1)
