"""The contract that every type keeps, and the oracles of the plumbing."""

import warnings
from contextlib import contextmanager
from functools import lru_cache

import keras
import numpy as np
import pytest
import sklearn.datasets
from keras import ops
from types_table import (
    BATCH,
    CODE,
    LIKELIHOODS,
    MEAN,
    NEGATIVE_LOG,
    POLICIES,
    SHAPE,
    TYPES,
    Exponential,
    N,
    X,
    compiled,
    contraction_of_a_sigmoid,
    dense,
    evaluate,
    fit,
    sigmoid_code,
    table_model,
    tied,
)

from aelib import (
    Autoencoder,
    ContractiveAutoencoder,
    SparseAutoencoder,
    VariationalAutoencoder,
    blocks,
    layers,
    metrics,
)

tensorflow_only = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="asks TensorFlow for the gradients, or is no matter of it"
)


def gradients(model, x):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = model.compute_loss(x, None, model(x, training=True))
    return loss, tape.gradient(loss, model.trainable_variables)


def figures_by_hand(row, model, target=X):
    """The terms averaged over the samples, and their sum, from the outputs without corruption."""
    code = ops.convert_to_numpy(model.encoder(X))
    raw = ops.convert_to_numpy(model.decoder(code))
    negative_log = NEGATIVE_LOG[row.likelihood](target.astype("float64"), raw)
    terms = {"reconstruction": np.mean(np.sum(negative_log, axis=(1, 2, 3)))}
    terms |= {name: term(model, code) for name, term in row.extra.items()}
    return terms | {"loss": sum(terms.values())}


def close(figures, rel=1e-5):
    if isinstance(figures, dict):
        return {name: pytest.approx(values, rel=rel) for name, values in figures.items()}
    return pytest.approx(figures, rel=rel)


@tensorflow_only
@pytest.mark.parametrize("name", TYPES)
def test_model_contract(name, tmp_path):
    row = TYPES[name]
    model = compiled(row.build, eagerly=False)
    names = {"loss", *(row.draws or ("reconstruction", *row.extra))}

    # Training: the loss is the sum of its terms, the terms are finite, and the loss goes down.
    history = fit(model, epochs=3)
    assert set(history) == names
    assert np.isfinite(list(history.values())).all()
    assert history["loss"] == close(list(np.sum([history[term] for term in names - {"loss"}], axis=0)))

    # The same seed gives the same history, with a graph or without.
    assert fit(compiled(row.build), epochs=3) == close(history)

    # Evaluation on a ragged last batch: an average over samples, without corruption. From here on without
    # new graphs, which would take longer than the few steps.
    model.run_eagerly = True
    figures = evaluate(model)
    assert figures["loss"] == close(sum(figures[term] for term in names - {"loss"}))
    # In three epochs a game, or a discrepancy between ten codes and ten draws, goes up and down.
    if name not in ("adversarial", "wasserstein"):
        assert figures["loss"] < history["loss"][0]
    if not row.draws:
        assert figures == close(figures_by_hand(row, model))

    # Shapes, and what encode, decode and reconstruct mean.
    out = {part: ops.convert_to_numpy(value) for part, value in model(X).items()}
    assert (out["code"].shape, out["reconstruction"].shape) == ((N, CODE), X.shape)
    expected = MEAN[row.likelihood](out["reconstruction"])
    np.testing.assert_allclose(model.encode(X), out.get("mean", out["code"]), atol=1e-6)
    np.testing.assert_allclose(model.decode(out["code"]), expected, atol=1e-6)
    np.testing.assert_allclose(model.reconstruct(X), model.decode(model.encode(X)), atol=1e-6)

    # Gradients are finite, and reach every weight.
    for gradient in gradients(model, X)[1]:
        assert np.isfinite(gradient).all()
        assert np.any(gradient)

    # A saved model comes back whole: weights, loss, optimiser.
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded) is type(model)
    loaded.run_eagerly = True
    np.testing.assert_array_equal(loaded.reconstruct(X), model.reconstruct(X))
    assert int(loaded.optimizer.iterations) == 9
    ours, theirs = fit(model, shuffle=False), fit(loaded, shuffle=False)
    assert set(theirs) == names
    assert theirs == close(ours)
    for old, new in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-4, atol=1e-6)

    # While nothing is learnt, the history is the evaluation; except that corruption is on.
    model.optimizer.learning_rate = 0.0
    still, figures = {term: values[0] for term, values in fit(model).items()}, evaluate(model)
    if not row.random:
        assert still == close(figures)
    elif model.corrupt is not None:
        assert still != close(figures)


# The contract's columns: on every backend, see test_backends.py. A model is built once and looked at by many.


@lru_cache
def built(name):
    return compiled(TYPES[name].build)


@contextmanager
def policy_of(name):
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy("float32")


def one_step(name, policy):
    """The terms of the first step, from the same start under each policy, and the model after it."""
    keras.utils.set_random_seed(0)
    with policy_of(policy):
        model = TYPES[name].build()
    # The scaling of the loss is Keras's affair, and takes several steps to find its level.
    model.compile(keras.optimizers.Adam(0.01), run_eagerly=True, auto_scale_loss=False)
    before = model.get_weights()
    terms = {
        term: float(figure) for term, figure in model.train_on_batch(X[:BATCH], return_dict=True).items()
    }
    moved = [np.any(old != new) for old, new in zip(before, model.get_weights(), strict=True)]
    return terms, model, moved


in_float32 = lru_cache(one_step)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", TYPES)
def test_column_policy(name, policy):
    if keras.backend.backend() == "torch" and name == "convolutional" and policy.startswith("mixed"):
        pytest.skip("PyTorch has no gradient of a convolution in 16 bits on a processor")
    expected, _, must_move = in_float32(name, "float32")
    terms, model, moved = one_step(name, policy)
    assert model.compute_dtype == policy.removeprefix("mixed_")
    assert terms["loss"] == pytest.approx(sum(v for term, v in terms.items() if term != "loss"), rel=1e-5)
    assert terms == {term: pytest.approx(figure, rel=0.02, abs=0.02) for term, figure in expected.items()}
    assert any(moved)
    assert moved == must_move
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    assert all(variable.dtype != model.compute_dtype or policy == "float32" for variable in model.variables)
    code, again = model.encode(X), model.reconstruct(X)
    assert (code.dtype, again.dtype) == (np.float32, np.float32)
    assert (code.shape, again.shape) == ((N, CODE), X.shape)
    assert np.isfinite(code).all()
    assert np.isfinite(again).all()


JITTED = {
    "dense": "mixed_float16",
    "variational, learned variance": "mixed_bfloat16",
    "quantised": "float32",
    "contractive, estimated": "mixed_bfloat16",
}


@pytest.mark.parametrize("name", JITTED)
def test_column_jit(name):
    if keras.backend.backend() == "torch" and name == "contractive, estimated":
        pytest.skip("torch.compile does not differentiate twice")
    with policy_of(JITTED[name]):
        model = compiled(TYPES[name].build, eagerly=False, jit_compile=True)
        history = model.fit(X[:8], batch_size=BATCH, epochs=5, verbose=0).history
    assert np.isfinite(list(history.values())).all()
    terms = [values for term, values in history.items() if term != "loss"]
    assert history["loss"] == close(list(np.sum(terms, axis=0)))
    # Scaling a loss of 16 bits skips steps at first.
    scaled = JITTED[name] == "mixed_float16"
    first, *_, last = history["loss"]
    assert last <= first if scaled else last < first


@lru_cache
def for_tables(likelihood, kind):
    build, _, _ = LIKELIHOODS[likelihood]
    model = table_model(build(), kind)
    return model, model.get_weights()


def figures_of(likelihood, x):
    """What is found on data of some dtype, always from the same weights."""
    model, start = for_tables(likelihood, Autoencoder)
    model.set_weights(start)
    model.optimizer.iterations.assign(0)
    return {
        "history": model.fit(x, batch_size=N, verbose=0).history["loss"],
        "evaluate": model.evaluate(x, verbose=0)[0],
        "encode": model.encode(x),
        "reconstruct": model.reconstruct(x),
        "elbo": for_tables(likelihood, VariationalAutoencoder)[0].elbo(x, samples=200).each,
    }


@lru_cache
def figures_in_float32(likelihood):
    return figures_of(likelihood, LIKELIHOODS[likelihood][1].astype("float32"))


PAIRS = [(name, dtype) for name, (_, _, dtypes) in LIKELIHOODS.items() for dtype in dtypes]


@pytest.mark.parametrize(("likelihood", "dtype"), PAIRS)
def test_column_dtype(likelihood, dtype):
    expected = figures_in_float32(likelihood)
    found = figures_of(likelihood, LIKELIHOODS[likelihood][1].astype(dtype))
    if dtype == "float64":  # whose draws are others
        assert found.pop("elbo").mean() == pytest.approx(expected["elbo"].mean(), rel=0.05)
    for name, figures in found.items():
        # An untrained net may find a count impossible.
        assert name == "elbo" or np.isfinite(figures).all(), f"{likelihood}: {name} is not finite"
        np.testing.assert_allclose(figures, expected[name], rtol=1e-5, atol=1e-6, err_msg=name)
    assert (found["encode"].dtype, found["reconstruct"].dtype) == (np.float32, np.float32)


@pytest.mark.parametrize("name", TYPES)
def test_column_bad_data(name):
    """Bad targets, NaN, and numbers outside the support: refused by every way in, before any step."""
    model = built(name)
    labels = np.arange(N) % 3
    with_nan = X.copy()
    with_nan[6, 2, 1] = np.nan
    steps = int(ops.convert_to_numpy(model.optimizer.iterations))
    for target in (labels, labels[:, None], X[:, :5], np.repeat(X, 3, axis=-1)):
        for method in (model.fit, model.evaluate, model.train_on_batch, model.test_on_batch):
            with pytest.raises(ValueError, match="the target"):
                method(X, target)
        with pytest.raises(ValueError, match="the target of the validation data"):
            model.fit(X, validation_data=(X, target))
    for method in (model.fit, model.evaluate, model.encode, model.reconstruct, model.train_on_batch):
        with pytest.raises(ValueError, match="1 of its 300 numbers are NaN or infinite, the first in row 6"):
            method(with_nan)
    if isinstance(model, VariationalAutoencoder):
        with pytest.raises(ValueError, match="1 of its 300 numbers are NaN"):
            model.elbo(with_nan)
    if TYPES[name].likelihood == "bernoulli" and name != "clustering":
        for method in (model.fit, model.evaluate, model.train_on_batch):
            with pytest.raises(ValueError, match=r"got numbers from .* to .*: divide by 255, or .*gaussian"):
                method(255 * X)
    assert int(ops.convert_to_numpy(model.optimizer.iterations)) == steps


@pytest.mark.parametrize("name", TYPES)
def test_column_somebody_s_likelihood(name):
    model = compiled(lambda: TYPES[name].build(likelihood=Exponential()))
    terms = model.train_on_batch(X[:BATCH], return_dict=True)
    assert np.isfinite([float(figure) for figure in terms.values()]).all()
    raw = ops.convert_to_numpy(model.decoder(model.encode(X[:BATCH])))
    np.testing.assert_allclose(model.reconstruct(X[:BATCH]), np.exp(-raw), rtol=1e-5)
    if not TYPES[name].draws:
        found = model.evaluate(X[:BATCH], verbose=0, return_dict=True)["reconstruction"]
        expected = np.sum(np.exp(raw) * X[:BATCH] - raw) / BATCH
        assert found == pytest.approx(expected, rel=1e-4)
    again = type(model).from_config(model.get_config())
    assert type(again.likelihood) is Exponential
    if name != "clustering":
        with pytest.raises(ValueError, match=">= 0 for the likelihood Exponential, got numbers from -"):
            model.fit(-X)


class Batches(keras.utils.PyDataset):
    """The array in batches, as somebody writes who reads from a disk."""

    def __len__(self):
        return -(-N // BATCH)

    def __getitem__(self, i):
        return X[i * BATCH : (i + 1) * BATCH]


def from_disk(folder):
    np.save(folder / "x.npy", X)
    return np.load(folder / "x.npy", mmap_mode="r")


def pipeline(folder):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(X).batch(BATCH)


SOURCES = {
    "PyDataset": lambda folder: Batches(),
    "generator": lambda folder: (X[i : i + BATCH] for i in range(0, N, BATCH)),
    "memory map": from_disk,
    "tf.data": pipeline,
}


HERE = [name for name in SOURCES if name != "tf.data" or keras.backend.backend() == "tensorflow"]


@pytest.mark.parametrize("name", TYPES)
def test_column_pipelines(name, tmp_path):
    """Every source gives every type's codes and reconstructions."""
    model = built(name)
    codes, again = model.encode(X), model.reconstruct(X)
    for source in HERE:
        np.testing.assert_allclose(model.encode(SOURCES[source](tmp_path)), codes, atol=1e-6)
        np.testing.assert_allclose(model.reconstruct(SOURCES[source](tmp_path)), again, atol=1e-6)


@pytest.mark.parametrize("source", HERE)
def test_column_training_from_pipelines(source, tmp_path):
    """The history and the figures are those of the array."""
    name = ["dense", "regularised", "gaussian", "variational"][HERE.index(source)]
    piped, plain = compiled(TYPES[name].build), compiled(TYPES[name].build)
    arguments = {"batch_size": BATCH} if source == "memory map" else {}
    history = piped.fit(SOURCES[source](tmp_path), shuffle=False, verbose=0, **arguments).history
    assert history == close(fit(plain, shuffle=False))
    found = piped.evaluate(SOURCES[source](tmp_path), verbose=0, return_dict=True, **arguments)
    assert found == close(evaluate(plain))


@tensorflow_only
def test_mixed_precision_learns_digits_as_well_as_float32():
    """Within 2 % of float32's loss after three epochs on real digits; Keras scales the loss itself."""
    x = (sklearn.datasets.load_digits().data / 16).astype("float32")

    def train(policy):
        keras.utils.set_random_seed(0)
        with policy_of(policy):
            model = Autoencoder(
                blocks.dense_encoder(64, 8, hidden=(64,)), blocks.dense_decoder(64, 8, hidden=(64,))
            )
        model.compile(keras.optimizers.Adam(1e-3))
        return model.fit(x, batch_size=32, epochs=3, verbose=0).history["loss"][-1]

    losses = {policy: train(policy) for policy in POLICIES}
    for policy, loss in losses.items():
        print(f"{policy:15} {loss:.3f} nats, {loss / losses['float32'] - 1:+.2%}")
        assert loss == pytest.approx(losses["float32"], rel=0.02)


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


@tensorflow_only
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
        loss, parts = gradients(model, x)
        return float(loss), np.concatenate([np.ravel(part) for part in parts])

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
    first, *_, last = model.fit(X, target, epochs=3, verbose=0).history["loss"]
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
@pytest.mark.parametrize(
    ("bad", "hint"),
    [
        (X[:, :5], ""),
        (X[..., 0], "; images need an axis of channels: x[..., None]"),
        (X[0], "; that is one sample: take x[None], or x[:1], and a pipeline in batches, x.batch(32)"),
    ],
    ids=["height", "no channel", "one sample"],
)
def test_wrong_input_is_shown(model, method, bad, hint):
    with pytest.raises(ValueError, match=r"the encoder reads .* of shape \(n >= 1, 6, 5, 1\), got") as error:
        getattr(model, method)(bad)
    assert str(error.value).endswith(f"got {bad.shape}{hint}")


@pytest.mark.parametrize("method", ["fit", "evaluate", "encode", "reconstruct"])
def test_no_input_is_shown(model, method):
    name = "the data" if method in ("fit", "evaluate") else "x"
    with pytest.raises(ValueError, match=rf"{name} must have the shape .* not be empty, got \(0, 6, 5, 1\)"):
        getattr(model, method)(X[:0])
    with pytest.raises(TypeError, match=f"{name} must be an array, a pipeline or an iterable .* got float"):
        getattr(model, method)(1.5)


@pytest.mark.parametrize("bad", [np.ones((2, CODE + 1)), np.ones((0, CODE)), np.ones(CODE)])
def test_wrong_code_is_shown(model, bad):
    wanted = r"the decoder reads codes of shape \(n >= 1, 3\), got|the codes must .* not be empty, got"
    with pytest.raises(ValueError, match=wanted) as error:
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
        fit(model, epochs=3)
    norms = [contraction_of_a_sigmoid(model, model.encode(X)) for model in (free, held)]
    assert norms[1] < 0.9 * norms[0]
    sparse = compiled(lambda: sigmoid_code(SparseAutoencoder, strength=50.0, rate=0.1))
    before = sparse.encode(X).mean()
    fit(sparse, epochs=3)
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
    with pytest.raises(ValueError, match="got 'exponential'"):
        dense(likelihood="exponential")


BARS = [("1", "auto", True), ("0", "auto", False), ("1", 0, False)]


@pytest.mark.parametrize(("progress", "verbose", "shown"), BARS)
def test_one_bar_unless_turned_off(monkeypatch, capsys, progress, verbose, shown):
    monkeypatch.setenv("AELIB_PROGRESS", progress)
    ended = []
    note = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: ended.append(epoch))
    compiled(dense).fit(X, epochs=2, verbose=verbose, callbacks=note)  # one will do, without a list
    captured = capsys.readouterr()
    assert ended == [0, 1], "the caller's own callbacks run too"
    assert ("2/2" in captured.err) is shown
    assert captured.out == ""


# Nets that read and return several arrays.


def two_views(**options):
    """Reads a dict of two arrays, has a dict for a code, and gives back their sum."""
    left, right = keras.Input((3,), name="left"), keras.Input((3,), name="right")
    codes = {"a": keras.layers.Dense(2)(left), "b": keras.layers.Dense(1)(right)}
    encoder = keras.Model({"left": left, "right": right}, codes)
    a, b = keras.Input((2,)), keras.Input((1,))
    decoder = keras.Model({"a": a, "b": b}, keras.layers.Dense(3)(keras.layers.Concatenate()([a, b])))
    model = Autoencoder(encoder, decoder, likelihood="gaussian", **options)
    model.compile(keras.optimizers.Adam(0.01), run_eagerly=True)
    return model


VIEWS = {"left": np.float32(X[:, :3, 0, 0]), "right": np.float32(X[:, :3, 1, 0])}
SUM = VIEWS["left"] + VIEWS["right"]


def test_a_dict_of_arrays_goes_in_and_a_dict_is_the_code(tmp_path):
    model = two_views()
    history = model.fit(VIEWS, SUM, batch_size=4, epochs=3, verbose=0, validation_data=(VIEWS, SUM)).history
    assert history["loss"][-1] < history["loss"][0]
    code = model.encode(VIEWS, batch_size=4)
    assert {name: part.shape for name, part in code.items()} == {"a": (N, 2), "b": (N, 1)}
    np.testing.assert_allclose(model.decode(code, batch_size=3), model.reconstruct(VIEWS), atol=1e-6)
    pipeline = [({name: part[i : i + 4] for name, part in VIEWS.items()}, SUM[i : i + 4]) for i in (0, 4, 8)]
    np.testing.assert_allclose(model.reconstruct(iter(pipeline)), model.reconstruct(VIEWS), atol=1e-6)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.reconstruct(VIEWS), model.reconstruct(VIEWS), atol=1e-6)
    error = np.square(SUM - model.reconstruct(VIEWS)).sum(axis=1).mean()
    assert model.evaluate(VIEWS, SUM, verbose=0)[0] == pytest.approx(error, rel=1e-5)


def test_a_dict_that_cannot_be_read_is_refused():
    model = two_views()
    with pytest.raises(ValueError, match="a dict of 'left', 'right': say by a target what to give back"):
        model.fit(VIEWS, verbose=0)
    with pytest.raises(ValueError, match="reads 'left', 'right', the data has 'left': the names must be"):
        model.fit({"left": VIEWS["left"]}, SUM, verbose=0)
    with pytest.raises(ValueError, match=r"reads a dict of 'left', 'right'; the data is an array of shape"):
        model.fit(SUM, SUM, verbose=0)
    with pytest.raises(ValueError, match=r"reads 'right' of shape \(n >= 1, 3\), got \(10, 2\)"):
        model.encode(VIEWS | {"right": VIEWS["right"][:, :2]})
    with pytest.raises(ValueError, match="10 samples, its target 9"):
        model.fit(VIEWS, SUM[:9], verbose=0)
    with pytest.raises(ValueError, match="corrupt= is for one array, got a dict of 'left', 'right'"):
        two_views(corrupt=layers.GaussianNoise(0.1))


def test_a_tuple_is_a_code_and_an_encoder_of_its_own_class_may_give_it():
    class Encoder(keras.Model):
        def __init__(self):
            super().__init__()
            self.one, self.two = keras.layers.Dense(2), keras.layers.Dense(1)

        def call(self, x):
            return self.one(x), self.two(x)

    class Decoder(keras.Model):
        def __init__(self):
            super().__init__()
            self.last = keras.layers.Dense(3)

        def call(self, code):
            return self.last(ops.concatenate(code, axis=-1))

    model = Autoencoder(Encoder(), Decoder(), likelihood="gaussian")
    model.compile("adam", run_eagerly=True)
    model.fit(SUM, batch_size=4, epochs=2, verbose=0)
    code = model.encode(SUM)
    assert [part.shape for part in code] == [(N, 2), (N, 1)]
    np.testing.assert_allclose(model.decode(code), model.reconstruct(SUM), atol=1e-6)


def test_whole_numbers_stay_whole_where_a_part_of_a_dict_is_embedded():
    word, x = keras.Input((), dtype="int32", name="word"), keras.Input((3,), name="x")
    joined = keras.layers.Concatenate()([keras.layers.Embedding(5, 2)(word), x])
    model = Autoencoder(
        keras.Model({"word": word, "x": x}, keras.layers.Dense(2)(joined)),
        keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)]),
        likelihood="gaussian",
    )
    model.compile("adam", run_eagerly=True)
    data = {"word": np.arange(N) % 5, "x": (X[:, :3, 0, 0] > 0.5)}
    model.fit(data, SUM, verbose=0)
    assert model.encode(data).shape == (N, 2)


def test_predict_is_raw_as_it_says():
    model = built("dense")
    raw = model.predict(X, verbose=0)["reconstruction"]
    np.testing.assert_allclose(1 / (1 + np.exp(-raw)), model.reconstruct(X), atol=1e-5)


@tensorflow_only
def test_an_exported_model_is_raw_and_means_can_be_served(tmp_path):
    import tensorflow as tf

    model = built("dense")
    model.export(tmp_path / "raw", verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "raw"))
    served = loaded.serve(tf.constant(X))
    np.testing.assert_allclose(
        served["reconstruction"], model.predict(X, verbose=0)["reconstruction"], atol=1e-5
    )
    i = keras.Input(SHAPE)
    means = keras.Model(i, model.likelihood.mean(model(i)["reconstruction"]))
    np.testing.assert_allclose(means.predict(X, verbose=0), model.reconstruct(X), atol=1e-5)
