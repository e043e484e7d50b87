"""The contract that every type keeps, and the oracles of the plumbing."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import keras
import numpy as np
import pytest
import tensorflow as tf

from aelib import (
    Autoencoder,
    ContractiveAutoencoder,
    ImportanceWeightedAutoencoder,
    SparseAutoencoder,
    VariationalAutoencoder,
    WassersteinAutoencoder,
    blocks,
    layers,
    metrics,
)
from aelib.clustering import DeepEmbeddedClustering

SHAPE, CODE, N, BATCH = (6, 5, 1), 3, 10, 4
X = np.random.default_rng(0).random((N, *SHAPE), dtype="float32")
X[8:] = 0.01  # the short last batch is unlike the others, so that its weight shows


def dense(kind=Autoencoder, **options):
    encoder = blocks.dense_encoder(SHAPE, CODE, hidden=(7,))
    return kind(encoder, blocks.dense_decoder(SHAPE, CODE, hidden=(7,)), **options)


def convolutional():
    encoder = blocks.conv_encoder(SHAPE, CODE, filters=(2,))
    return Autoencoder(encoder, blocks.conv_decoder(SHAPE, CODE, filters=(2,)))


def regularised():
    code = keras.layers.Dense(CODE, kernel_regularizer=keras.regularizers.L2(0.1), name="code")
    encoder = keras.Sequential([keras.Input(SHAPE), keras.layers.Flatten(), code])
    return Autoencoder(encoder, blocks.dense_decoder(SHAPE, CODE, hidden=(7,)))


def overcomplete(k, per="sample"):
    encoder = blocks.dense_encoder(SHAPE, CODE, hidden=(7,))
    encoder = keras.Sequential([keras.Input(SHAPE), *encoder.layers, layers.KSparse(k, per=per)])
    return Autoencoder(encoder, blocks.dense_decoder(SHAPE, CODE, hidden=(7,)))


def tied():
    encoder = blocks.dense_encoder(SHAPE, CODE, hidden=())
    up = layers.TiedDense(encoder.layers[-1])
    return Autoencoder(encoder, keras.Sequential([keras.Input((CODE,)), up, keras.layers.Reshape(SHAPE)]))


def variational(kind=VariationalAutoencoder, **options):
    encoder = blocks.dense_encoder(SHAPE, 2 * CODE, hidden=(7,))
    return kind(encoder, blocks.dense_decoder(SHAPE, CODE, hidden=(7,)), **options)


def quantised():
    encoder = blocks.dense_encoder(SHAPE, CODE, hidden=(7,))
    encoder = keras.Sequential([keras.Input(SHAPE), *encoder.layers, layers.VectorQuantizer(5, seed=1)])
    return Autoencoder(encoder, blocks.dense_decoder(SHAPE, CODE, hidden=(7,)))


def sequential():
    """Rows as steps, their pixels as features."""
    encoder = blocks.recurrent_encoder(SHAPE[:2], CODE, units=(4,), cell="gru")
    decoder = blocks.recurrent_decoder(SHAPE[:2], CODE, units=(4,), cell="gru")
    flat = keras.Sequential([keras.Input(SHAPE), keras.layers.Reshape(SHAPE[:2]), *encoder.layers])
    return Autoencoder(
        flat, keras.Sequential([keras.Input((CODE,)), *decoder.layers, keras.layers.Reshape(SHAPE)])
    )


def sigmoid_code(kind, *, hidden=(), **options):
    encoder = blocks.dense_encoder(SHAPE, CODE, hidden=hidden, code_activation="sigmoid")
    return kind(encoder, blocks.dense_decoder(SHAPE, CODE, hidden=(7,)), **options)


# What the terms are, written once more in NumPy: (target, raw output) -> (n, H, W, C).
NEGATIVE_LOG = {
    "bernoulli": lambda x, raw: np.logaddexp(0, raw) - x * raw,
    "gaussian": lambda x, raw: (x - raw) ** 2,
    "laplace": lambda x, raw: np.abs(x - raw),
}
MEAN = {"bernoulli": lambda raw: 1 / (1 + np.exp(-raw)), "gaussian": np.array, "laplace": np.array}


def l2_of_the_code_layer(model, code):
    return 0.1 * np.sum(np.square(model.encoder.get_layer("code").kernel))


def rate_divergence(model, code):
    """Of every batch by itself, averaged by their sizes."""
    mean = [code[i : i + BATCH].mean(axis=0) for i in range(0, N, BATCH)]
    divergence = [np.sum(0.1 * np.log(0.1 / m) + 0.9 * np.log(0.9 / (1 - m))) for m in mean]
    return 2 * np.average(divergence, weights=[4, 4, 2])


def clustering_divergence(model, code):
    """Of every batch by itself, averaged by their sizes; P is the batch's own."""
    q = 1 / (1 + np.sum((code[:, None] - model.centroids.numpy()) ** 2, axis=2))
    q /= q.sum(axis=1, keepdims=True)
    figures = []
    for part in (q[i : i + BATCH] for i in range(0, N, BATCH)):
        p = part**2 / part.sum(axis=0)
        p /= p.sum(axis=1, keepdims=True)
        figures += list(np.sum(p * np.log(p / part), axis=1))
    return np.mean(figures)


def contraction_of_two_layers(model, code):
    """J of relu, then linear: the product of the two kernels, with the silent units left out."""
    first, last = (model.encoder.layers[i].get_weights() for i in (1, 2))
    on = X.reshape(N, -1) @ first[0] + first[1] > 0
    jacobian = np.einsum("dh,nh,hk->nkd", first[0], on, last[0])
    return 0.2 * np.mean(np.sum(jacobian**2, axis=(1, 2)))


def contraction_of_a_sigmoid(model, code):
    kernel = model.encoder.layers[-1].get_weights()[0]
    return 0.2 * np.mean(np.sum(((code * (1 - code))[:, None] * kernel) ** 2, axis=(1, 2)))


@dataclass(frozen=True)
class Type:
    """One row of the contract: how to build it, its likelihood, and its further terms in NumPy."""

    build: Callable
    likelihood: str = "bernoulli"
    extra: dict = field(default_factory=dict)  # {term: (model, codes) -> mean over the samples}
    random: bool = False  # whether training draws more than the order of the samples
    draws: tuple = ()  # the terms of a type whose evaluation draws too


TYPES = {
    "dense": Type(dense),
    "convolutional": Type(convolutional),
    "denoising": Type(lambda: dense(corrupt=layers.GaussianNoise(0.5)), random=True),
    "gaussian": Type(lambda: dense(likelihood="gaussian"), "gaussian"),
    "laplace": Type(lambda: dense(likelihood="laplace"), "laplace"),
    "sparse": Type(
        lambda: dense(SparseAutoencoder, strength=0.1),
        extra={"sparsity": lambda model, code: 0.1 * np.mean(np.sum(np.abs(code), axis=1))},
    ),
    "sparse by rate": Type(
        lambda: sigmoid_code(SparseAutoencoder, strength=2, rate=0.1),
        extra={"sparsity": rate_divergence},
        random=True,  # the rate is a batch's, and the batches are drawn
    ),
    "contractive": Type(
        lambda: dense(ContractiveAutoencoder, strength=0.2),
        extra={"contraction": contraction_of_two_layers},
    ),
    "contractive, closed form": Type(
        lambda: sigmoid_code(ContractiveAutoencoder, strength=0.2),
        extra={"contraction": contraction_of_a_sigmoid},
    ),
    "clustering": Type(
        lambda: dense(DeepEmbeddedClustering, clusters=4, reconstruction=1.0),
        extra={"clustering": clustering_divergence},
        random=True,  # the target is a batch's, and the batches are drawn
    ),
    "k-sparse": Type(lambda: overcomplete(2)),
    "k-sparse by batch": Type(lambda: overcomplete(2, "batch"), random=True),
    "tied": Type(tied),
    "variational": Type(variational, random=True, draws=("reconstruction", "kl")),
    "variational, warmed up": Type(
        lambda: variational(likelihood="gaussian", variance=0.1, beta=0.5, warmup=4, free_bits=0.1),
        "gaussian",
        random=True,
        draws=("reconstruction", "kl"),
    ),
    "importance-weighted": Type(
        lambda: variational(ImportanceWeightedAutoencoder, samples=3), random=True, draws=("bound",)
    ),
    "wasserstein": Type(
        lambda: dense(WassersteinAutoencoder, strength=5), random=True, draws=("reconstruction", "mmd")
    ),
    "quantised": Type(quantised, random=True, draws=("reconstruction", "regularization")),
    "sequential": Type(sequential),
    "regularised": Type(regularised, extra={"regularization": l2_of_the_code_layer}),
}


def compiled(build, *, seed=0, eagerly=True):
    """Build and compile; eagerly, since the few steps of most tests are over before a graph is built."""
    keras.utils.set_random_seed(seed)
    model = build()
    model.compile(keras.optimizers.Adam(0.01, beta_1=0.8), run_eagerly=eagerly)
    return model


def fit(model, epochs=1, **options):
    return model.fit(X, batch_size=BATCH, epochs=epochs, verbose=0, **options).history


def evaluate(model, *data, **options):
    return model.evaluate(*(data or (X,)), batch_size=BATCH, verbose=0, return_dict=True, **options)


def figures_by_hand(row, model, target=X):
    """The terms averaged over the samples, and their sum, from the outputs without corruption."""
    code = model.encoder(X).numpy()
    raw = model.decoder(code).numpy()
    negative_log = NEGATIVE_LOG[row.likelihood](target.astype("float64"), raw)
    terms = {"reconstruction": np.mean(np.sum(negative_log, axis=(1, 2, 3)))}
    terms |= {name: term(model, code) for name, term in row.extra.items()}
    return terms | {"loss": sum(terms.values())}


def close(figures, rel=1e-5):
    if isinstance(figures, dict):
        return {name: pytest.approx(values, rel=rel) for name, values in figures.items()}
    return pytest.approx(figures, rel=rel)


@pytest.mark.parametrize("name", TYPES)
def test_model_contract(name, tmp_path):
    row = TYPES[name]
    model = compiled(row.build, eagerly=False)
    names = {"loss", *(row.draws or ("reconstruction", *row.extra))}

    # Shapes, and what encode, decode and reconstruct mean.
    out = model(X)
    assert (out["code"].shape, out["reconstruction"].shape) == ((N, CODE), X.shape)
    predicted = model.predict(X, verbose=0)
    expected = MEAN[row.likelihood](predicted["reconstruction"])
    np.testing.assert_allclose(model.encode(X), predicted.get("mean", predicted["code"]), atol=1e-6)
    np.testing.assert_allclose(model.decode(predicted["code"]), expected, atol=1e-6)
    np.testing.assert_allclose(model.reconstruct(X), model.decode(model.encode(X)), atol=1e-6)

    # Training: the loss is the sum of its terms, the terms are finite, and the loss goes down.
    history = fit(model, epochs=5)
    assert set(history) == names
    assert np.isfinite(list(history.values())).all()
    assert history["loss"] == close(list(np.sum([history[term] for term in names - {"loss"}], axis=0)))
    figures = evaluate(model)
    assert figures["loss"] == close(sum(figures[term] for term in names - {"loss"}))
    assert figures["loss"] < history["loss"][0]

    # Evaluation on a ragged last batch: an average over samples, without corruption.
    if not row.draws:
        assert figures == close(figures_by_hand(row, model))

    # Gradients are finite, and reach every weight.
    with tf.GradientTape() as tape:
        loss = model.compute_loss(X, None, model(X, training=True))
    for gradient in tape.gradient(loss, model.trainable_variables):
        assert np.isfinite(gradient).all()
        assert np.any(gradient)

    # The same seed gives the same history, with a graph or without.
    if row.draws:  # the looks above have drawn as well
        history = fit(compiled(row.build, eagerly=False), epochs=5)
    assert fit(compiled(row.build), epochs=5) == close(history)

    # A saved model comes back whole: weights, loss, optimiser.
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded) is type(model)
    loaded.run_eagerly = True  # quicker
    np.testing.assert_array_equal(loaded.reconstruct(X), model.reconstruct(X))
    if not row.draws:
        assert evaluate(loaded) == close(evaluate(model))
    assert int(loaded.optimizer.iterations) == 15
    ours, theirs = fit(model, shuffle=False), fit(loaded, shuffle=False)
    assert set(theirs) == names
    if not row.random:  # a file does not keep the state of the noise
        assert theirs == close(ours)
        assert evaluate(loaded) == close(evaluate(model))

    # While nothing is learnt, the history is the evaluation; except that corruption is on.
    model.optimizer.learning_rate = 0.0
    still, figures = {term: values[0] for term, values in fit(model).items()}, evaluate(model)
    assert (still == close(figures)) is not row.random


def test_predictions_do_not_depend_on_the_batch():
    model = compiled(dense)
    np.testing.assert_allclose(model.reconstruct(X, batch_size=3), model.reconstruct(X), atol=1e-6)
    np.testing.assert_allclose(model.encode(X, batch_size=3), model.encode(X), atol=1e-6)


def test_another_seed_gives_another_history():
    assert fit(compiled(dense, seed=1)) != fit(compiled(dense, seed=2))


def test_a_new_model_can_be_loaded_too(tmp_path):
    model = dense(corrupt=layers.GaussianNoise(0.1, seed=1), name="mine")
    model(X)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.name == "mine"
    assert loaded.corrupt.get_config() == model.corrupt.get_config()
    np.testing.assert_array_equal(loaded.reconstruct(X), model.reconstruct(X))
    fresh = Autoencoder.from_config(model.get_config())
    assert fresh.get_config() == model.get_config()


def test_linear_autoencoder_is_pca():
    random = np.random.default_rng(0)
    x = random.normal(0, 1, (200, 8)) @ np.diag(np.geomspace(1, 0.1, 8)) @ random.normal(0, 1, (8, 8))
    x -= x.mean(axis=0)
    _, singular, V = np.linalg.svd(x, full_matrices=False)
    encoder, decoder = blocks.dense_encoder((8,), 3, hidden=()), blocks.dense_decoder((8,), 3, hidden=())
    model = Autoencoder(encoder, decoder, likelihood="gaussian")
    x = x.astype("float32")

    def loss_and_gradient(components):
        encoder.set_weights([components.T, np.zeros(3)])
        decoder.set_weights([components, np.zeros(8)])
        with tf.GradientTape() as tape:
            loss = model.compute_loss(x, None, model(x, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        return float(loss), np.concatenate([np.ravel(gradient) for gradient in gradients])

    model.compile()
    loss, gradient = loss_and_gradient(V[:3])
    elsewhere, slope = loss_and_gradient(V[:3] + random.normal(0, 0.1, (3, 8)))
    assert loss == pytest.approx(np.sum(singular[3:] ** 2) / 200, rel=1e-5)
    assert np.linalg.norm(gradient) < 1e-4 * np.linalg.norm(slope)
    assert loss < elsewhere
    encoder.set_weights([V[:3].T, np.zeros(3)])
    decoder.set_weights([V[:3], np.zeros(8)])
    np.testing.assert_allclose(model.reconstruct(x), metrics.pca_reconstruct(x, x, 3), atol=1e-4)


def test_corruption_acts_in_training_only():
    seen = []

    class Spy(keras.layers.Layer):
        def call(self, x, training=None):
            seen.append(bool(training))
            return 0 * x if training else x

    model = compiled(lambda: dense(corrupt=Spy()))
    clean = evaluate(model)
    assert clean == close(figures_by_hand(TYPES["dense"], model))
    assert True not in seen
    model.optimizer.learning_rate = 0.0
    raw = model.decoder(model.encoder(np.zeros_like(X))).numpy()
    expected = np.mean(np.sum(NEGATIVE_LOG["bernoulli"](X, raw), axis=(1, 2, 3)))
    assert fit(model)["loss"] == close([expected]), "the code saw the corruption, the target did not"
    assert True in seen
    assert evaluate(model) == close(clean)


@pytest.mark.parametrize("name", ["dense", "regularised"])
def test_sample_weight_weighs_the_samples_and_nothing_else(name):
    row = TYPES[name]
    model = compiled(row.build)
    weight = np.arange(N, dtype="float32")
    raw = model.decoder(model.encoder(X)).numpy()
    expected = {
        "reconstruction": np.mean(weight * np.sum(NEGATIVE_LOG["bernoulli"](X, raw), axis=(1, 2, 3))),
        **{term: by_hand(model, None) for term, by_hand in row.extra.items()},
    }
    expected["loss"] = sum(expected.values())
    assert evaluate(model, sample_weight=weight) == close(expected)
    assert evaluate(model, sample_weight=weight[:, None]) == close(expected)
    model.optimizer.learning_rate = 0.0
    assert fit(model, sample_weight=weight) == close({term: [figure] for term, figure in expected.items()})


def test_sample_weight_of_zero_teaches_nothing():
    model = compiled(dense)
    before = model.get_weights()
    fit(model, sample_weight=np.zeros(N))
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_another_target():
    target = np.random.default_rng(1).random(X.shape, dtype="float32")
    model = compiled(dense)
    assert evaluate(model, X, target) == close(figures_by_hand(TYPES["dense"], model, target))
    first, *_, last = model.fit(X, target, epochs=5, verbose=0).history["loss"]
    assert last < first


def test_a_target_of_another_shape():
    """Grey in, colour out."""
    colour = np.random.default_rng(1).random((N, 6, 5, 3), dtype="float32")
    encoder, decoder = blocks.dense_encoder(SHAPE, CODE), blocks.conv_decoder((6, 5, 3), CODE, filters=(2,))
    model = compiled(lambda: Autoencoder(encoder, decoder))
    assert np.isfinite(model.fit(X, colour, epochs=1, verbose=0).history["loss"]).all()
    assert model.reconstruct(X).shape == colour.shape


def test_validation_data_are_evaluated():
    model = compiled(dense)
    history = fit(model, validation_data=(X[:7], X[:7]))
    assert set(history) == {"loss", "reconstruction", "val_loss", "val_reconstruction"}
    figures = evaluate(model, X[:7])
    assert history["val_loss"] == close([figures["loss"]])
    assert history["val_reconstruction"] == close([figures["reconstruction"]])


def test_a_pipeline_of_batches():
    model, piped = compiled(dense), compiled(dense)
    batches = tf.data.Dataset.from_tensor_slices(X).batch(BATCH)
    assert piped.fit(batches, shuffle=False, verbose=0).history == close(fit(model, shuffle=False), rel=1e-6)
    assert piped.evaluate(batches, verbose=0, return_dict=True) == close(evaluate(model), rel=1e-6)


def test_an_encoder_of_any_size():
    encoder = keras.Sequential(
        [keras.Input((None, None, 1)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(CODE)]
    )
    model = compiled(lambda: Autoencoder(encoder, blocks.dense_decoder(SHAPE, CODE)))
    assert np.isfinite(fit(model)["loss"]).all()
    assert model.encode(X[:, :3]).shape == (N, CODE)


def test_a_net_with_a_skip_and_of_any_size():
    x = keras.Input((None, None, 1))
    half = keras.layers.Conv2D(2, 3, strides=2, padding="same")(x)
    code = [keras.layers.Conv2D(2, 3, strides=2, padding="same")(half), half]
    inputs = [keras.Input((None, None, 2)) for _ in code]
    joined = keras.layers.Concatenate()([keras.layers.UpSampling2D()(inputs[0]), inputs[1]])
    decoder = keras.Model(inputs, keras.layers.Conv2DTranspose(1, 2, strides=2)(joined))
    model = compiled(lambda: Autoencoder(keras.Model(x, code), decoder))
    assert np.isfinite(model.fit(np.resize(X, (4, 12, 8, 1)), verbose=0).history["loss"]).all()


@pytest.fixture(scope="module")
def model():
    return compiled(dense)


@pytest.mark.parametrize("method", ["fit", "evaluate", "encode", "reconstruct"])
@pytest.mark.parametrize("bad", [X[:0], X[:, :5], X[..., 0], X[0], np.float32(1)], ids=lambda x: str(x.shape))
def test_wrong_input_is_shown(model, method, bad):
    with pytest.raises(ValueError, match=r"the encoder expects .* \(6, 5, 1\)\), got") as error:
        getattr(model, method)(bad)
    assert str(error.value).endswith(str(bad.shape))


@pytest.mark.parametrize("bad", [np.ones((2, CODE + 1)), np.ones((0, CODE)), np.ones(CODE)])
def test_wrong_code_is_shown(model, bad):
    with pytest.raises(ValueError, match=r"the decoder expects .* \(3,\)\), got") as error:
        model.decode(bad)
    assert str(error.value).endswith(str(bad.shape))


@pytest.mark.parametrize(
    "option", [{"loss": "mse"}, {"metrics": ["mse"]}, {"weighted_metrics": ["mse"]}, {"loss_weights": [2.0]}]
)
def test_compile_takes_no_loss(option):
    with pytest.raises(ValueError, match="choose likelihood=, or override terms") as error:
        dense().compile(**option)
    assert str(option) in str(error.value)


def test_a_tied_model_stays_tied_on_disk(tmp_path):
    model = tied()
    model(X)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert len(loaded.trainable_variables) == 3, "kernel, bias of the code, bias of the output"
    assert loaded.decoder.layers[0].source is loaded.encoder.layers[-1]
    model.decoder.save(tmp_path / "decoder.keras")
    alone = keras.saving.load_model(tmp_path / "decoder.keras")
    code = model.encode(X)
    np.testing.assert_array_equal(alone(code), model.decoder(code), "a decoder by itself keeps its kernel")


def test_estimated_contraction_is_the_exact_one_on_average():
    exact = compiled(lambda: dense(ContractiveAutoencoder, strength=0.2))
    estimated = compiled(lambda: dense(ContractiveAutoencoder, strength=0.2, probes=500, seed=1))
    assert evaluate(estimated)["contraction"] == pytest.approx(evaluate(exact)["contraction"], rel=0.05)
    assert ContractiveAutoencoder.from_config(estimated.get_config()).probes == 500
    first, second = (evaluate(estimated)["contraction"] for _ in range(2))
    assert first != second, "each call draws afresh"


def test_contraction_is_of_the_clean_input_whatever_the_code_saw():
    clean = compiled(lambda: sigmoid_code(ContractiveAutoencoder, strength=0.2))
    noisy = compiled(
        lambda: sigmoid_code(ContractiveAutoencoder, strength=0.2, corrupt=layers.MaskingNoise(1.0, seed=1))
    )
    noisy.optimizer.learning_rate = 0.0
    assert fit(noisy)["contraction"] == close([evaluate(clean)["contraction"]])


def test_contraction_is_of_the_input_whatever_the_target():
    model = compiled(lambda: sigmoid_code(ContractiveAutoencoder, strength=0.2))
    assert evaluate(model, X, 1 - X)["contraction"] == close(evaluate(model)["contraction"])


def test_penalties_do_what_they_are_for():
    free = compiled(lambda: sigmoid_code(ContractiveAutoencoder, strength=0.0))
    held = compiled(lambda: sigmoid_code(ContractiveAutoencoder, strength=50.0))
    for model in (free, held):
        fit(model, epochs=5)
    norms = [contraction_of_a_sigmoid(model, model.encode(X)) for model in (free, held)]
    assert norms[1] < 0.9 * norms[0]
    sparse = compiled(lambda: sigmoid_code(SparseAutoencoder, strength=50.0, rate=0.1))
    before = sparse.encode(X).mean()
    fit(sparse, epochs=5)
    assert 0.1 < sparse.encode(X).mean() < before


@pytest.mark.parametrize("kind", [SparseAutoencoder, ContractiveAutoencoder])
@pytest.mark.parametrize("strength", [-1, float("nan")])
def test_wrong_strength_is_shown(kind, strength):
    with pytest.raises(ValueError, match=f"strength must be >= 0, got {strength}"):
        dense(kind, strength=strength)


@pytest.mark.parametrize("rate", [0, 1.0, -0.1])
def test_wrong_rate_is_shown(rate):
    with pytest.raises(ValueError, match=rf"rate must be in \(0, 1\), got {rate}"):
        dense(SparseAutoencoder, strength=1, rate=rate)


def test_unknown_likelihood_is_shown():
    with pytest.raises(ValueError, match="got 'poisson'"):
        dense(likelihood="poisson")


BARS = [("1", "auto", True), ("0", "auto", False), ("1", 0, False)]


@pytest.mark.parametrize(("progress", "verbose", "shown"), BARS)
def test_one_bar_unless_turned_off(monkeypatch, capsys, progress, verbose, shown):
    monkeypatch.setenv("AELIB_PROGRESS", progress)
    ended = []
    note = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: ended.append(epoch))
    compiled(dense).fit(X, epochs=2, verbose=verbose, callbacks=[note])
    captured = capsys.readouterr()
    assert ended == [0, 1], "the caller's own callbacks run too"
    assert ("2/2" in captured.err) is shown
    assert captured.out == ""
