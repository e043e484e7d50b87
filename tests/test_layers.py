import importlib.util
import os
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from aelib import blocks, layers

CODES = np.float32([[3, 1, 2, 0], [-1, -4, -2, -3], [0.5, 0.1, 0.2, 0.4]])


def test_k_sparse_keeps_the_largest_of_every_code():
    expected = [[3, 0, 2, 0], [-1, 0, -2, 0], [0.5, 0, 0, 0.4]]
    for training in (True, False):
        kept = layers.KSparse(2)(CODES, training=training)
        np.testing.assert_array_equal(kept, np.float32(expected))


def test_k_sparse_of_a_batch_gives_rich_samples_more():
    layer = layers.KSparse(1, per="batch")
    expected = [[3, 1, 2, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(layer(CODES, training=True), expected)
    np.testing.assert_array_equal(layer(CODES + 1, training=True), [[4, 2, 3, 0], [0] * 4, [0] * 4])
    assert float(layer.border) == pytest.approx(1.5), "the mean of the borders 1 and 2"
    np.testing.assert_array_equal(layer(CODES), [[3, 0, 2, 0], [0] * 4, [0] * 4])
    np.testing.assert_array_equal(layer(CODES[:1]), [[3, 0, 2, 0]], "a code by itself is the same")


def test_border_of_many_batches_is_a_running_mean():
    layer = layers.KSparse(1, per="batch")
    for value in [1.0] * 100 + [2.0] * 50:
        layer(np.full((1, 2), value, "float32") - [0, 1], training=True)
    assert float(layer.border) == pytest.approx(2 - 0.99**50, rel=1e-4)


@pytest.mark.parametrize("per", ["sample", "batch"])
def test_k_sparse_contract(per):
    layer = layers.KSparse(3, per=per)
    x = np.random.default_rng(0).normal(size=(6, 8)).astype("float32")
    with tf.GradientTape() as tape:
        t = tf.constant(x)
        tape.watch(t)
        kept = layer(t, training=True)
        total = tf.reduce_sum(5 * kept)
    gradient = tape.gradient(total, t)
    assert np.count_nonzero(kept) == 18
    np.testing.assert_array_equal(gradient, np.where(kept != 0, 5, 0), "through the kept ones, unchanged")
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert (copy.k, copy.per) == (3, per)
    assert layer.compute_output_shape((None, 8)) == (None, 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k must be a whole number >= 1, got 0"),
        ({"k": 1.5}, "k must be a whole number >= 1, got 1.5"),
        ({"k": True}, "k must be a whole number >= 1, got True"),
        ({"k": 1, "per": "pixel"}, "per must be one of sample, batch; got 'pixel'"),
    ],
)
def test_wrong_k_sparse_is_shown(options, message):
    with pytest.raises(ValueError, match=message):
        layers.KSparse(**options)


@pytest.mark.parametrize("shape", [(2, 3), (2, 5, 4)])
def test_codes_too_short_are_shown(shape):
    with pytest.raises(ValueError, match=r"codes must have shape \(B, >= 4\), got"):
        layers.KSparse(4)(np.ones(shape))


def test_tied_dense_is_the_transpose():
    source = keras.layers.Dense(3)
    source.build((None, 5))
    layer = layers.TiedDense(source, activation="tanh")
    code = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    layer(code)
    layer.bias.assign(np.arange(5))
    np.testing.assert_allclose(layer(code), np.tanh(code @ source.kernel.numpy().T + np.arange(5)), rtol=1e-5)
    assert layer.compute_output_shape((None, 3)) == (None, 5)
    assert [w.shape for w in layer.trainable_weights if w is not source.kernel and w is not source.bias] == [
        (5,)
    ]


def test_wrong_tied_dense_is_shown():
    with pytest.raises(ValueError, match="source must be a dense layer that has been built, got <Dense"):
        layers.TiedDense(keras.layers.Dense(3))
    source = keras.layers.Dense(3)
    source.build((None, 5))
    with pytest.raises(ValueError, match=r"codes of 3, got inputs of shape \(2, 4\)"):
        layers.TiedDense(source)(np.ones((2, 4)))


def test_sampling_draws_from_the_normal_distribution():
    mean, log_var = np.full((40_000, 2), [1.0, -2.0], "float32"), np.full((40_000, 2), [0.0, 2.0], "float32")
    layer = layers.Sampling(seed=0)
    draw = np.asarray(layer(mean, log_var))
    error = np.exp(log_var[0] / 2) / 200
    assert (abs(draw.mean(axis=0) - mean[0]) < 4 * error).all()
    assert (abs(draw.var(axis=0) / np.exp(log_var[0]) - 1) < 4 * np.sqrt(2) / 200).all()
    assert not np.array_equal(draw, layer(mean, log_var)), "each call draws afresh"
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    np.testing.assert_array_equal(copy(mean, log_var), draw)


def test_sampling_lets_gradients_through():
    mean, log_var = tf.Variable(np.zeros((3, 2), "float32")), tf.Variable(np.ones((3, 2), "float32"))
    with tf.GradientTape() as tape:
        draw = layers.Sampling(seed=0)(mean, log_var)
    by_mean, by_log_var = tape.gradient(draw, [mean, log_var])
    np.testing.assert_array_equal(by_mean, np.ones((3, 2)))
    np.testing.assert_allclose(by_log_var, draw / 2, rtol=1e-6)


def a_tied_pair(hidden=4):
    """An encoder, a nested decoder and its tied layer, with weights that are not those of a start."""
    encoder = blocks.dense_encoder(6, 3, hidden=hidden)
    first = keras.Sequential([keras.Input((3,)), layers.TiedDense(encoder.layers[-1], activation="relu")])
    source = next(layer for layer in encoder.layers if isinstance(layer, keras.layers.Dense))
    decoder = keras.Sequential([keras.Input((3,)), first, layers.TiedDense(source, name="raw")])
    for weight in encoder.weights:
        weight.assign(np.random.default_rng(0).normal(size=weight.shape))
    return encoder, decoder


def rebuilt(model):
    return keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(model))


def test_rebuilt_layers_are_tied_again():
    encoder, decoder = map(rebuilt, a_tied_pair())
    first, last = decoder.layers[0].layers[0], decoder.layers[1]
    assert first.source is not encoder.layers[-1], "Keras shares no layer between two models"
    layers.retie(decoder, encoder)
    assert first.source is encoder.layers[-1]
    assert last.source is encoder.layers[1]
    own = {id(w) for w in decoder.weights} - {id(w) for w in encoder.weights}
    assert len(own) == 2, "the two biases; the sources that they were built with are gone"
    code = np.ones((2, 3), "float32")
    np.testing.assert_allclose(
        decoder(code),
        np.maximum(code @ first.source.kernel.numpy().T, 0) @ last.source.kernel.numpy().T,
        rtol=1e-5,
    )
    with pytest.raises(ValueError, match="cannot add new elements of state"):
        first.another = keras.layers.Dense(1)  # it is locked as before


def test_what_the_encoder_does_not_hold_stays_untied():
    _, decoder = a_tied_pair()
    before = decoder.layers[1].source
    layers.retie(decoder, blocks.dense_encoder(6, 3, hidden=5))  # other names, or another shape
    assert decoder.layers[1].source is before


def test_a_tied_layer_may_be_tied_before_it_is_built():
    sources = [keras.layers.Dense(3), keras.layers.Dense(3)]
    for source in sources:
        source.build((None, 5))
    layer = layers.TiedDense(sources[0])
    layer.tie(sources[1])
    layer(np.ones((1, 3)))
    assert len(layer.trainable_weights) == 3
    with pytest.raises(ValueError, match="built, got <Dense"):
        layer.tie(keras.layers.Dense(3))


def test_a_decoder_saved_alone_keeps_its_kernels(tmp_path):
    _, decoder = a_tied_pair()
    decoder.save(tmp_path / "decoder.keras")
    code = np.ones((2, 3), "float32")
    loaded = keras.saving.load_model(tmp_path / "decoder.keras")
    np.testing.assert_array_equal(loaded(code), decoder(code))


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_quantised_weights_stay_tied(policy, tmp_path):
    """An int8 kernel was read without its scale: an error of 1481 where 21 is right."""
    try:
        keras.config.set_dtype_policy(policy)
        encoder, decoder = a_tied_pair()
    finally:
        keras.config.set_dtype_policy("float32")
    x = np.random.default_rng(1).normal(size=(20, 6)).astype("float32")
    model = keras.Sequential([encoder, decoder])
    before = np.float32(model(x))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras tells of each layer that it leaves as it is
        model.quantize("int8")
    after = np.float32(model(x))
    assert encoder.layers[-1].quantization_mode == "int8"
    assert np.abs(after - before).max() < 0.05 * np.abs(before).max()
    assert not np.array_equal(after, before)
    decoder.save(tmp_path / "decoder.keras")
    loaded = keras.saving.load_model(tmp_path / "decoder.keras")
    np.testing.assert_array_equal(loaded(x[:, :3]), decoder(x[:, :3]))


def test_other_quantisations_are_refused():
    encoder, decoder = a_tied_pair()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        encoder.quantize("int4")
    with pytest.raises(ValueError, match=r"quantised to int4: quantize\('int8'\)"):
        decoder(np.ones((2, 3), "float32"))


#: Every layer in a net, under several policies and from several dtypes, on whatever backend runs it.
EVERYWHERE = """
import keras, numpy as np
from keras import ops
from aelib import layers

def outputs(policy, dtype):
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(policy)
    x = np.random.default_rng(0).integers(0, 2, (8, 4, 4, 1)).astype(dtype)
    source = keras.layers.Dense(6)
    source.build((None, 16))
    h = x
    stack = [
        layers.GaussianNoise(0.1, seed=0),
        layers.MaskingNoise(0.1, seed=0),
        layers.SaltAndPepperNoise(0.1, seed=0),
        layers.PatchMasking(2, 0.25, seed=0),
    ]
    for layer in stack:
        first, h = layer(x, training=True), layer(h, training=True)
        assert keras.backend.standardize_dtype(first.dtype) == layer.compute_dtype
    code = source(ops.reshape(h, (8, 16)))
    words = layers.VectorQuantizer(3, seed=0)
    kept = layers.KSparse(4, per="batch")
    code = kept(layers.KSparse(5)(code), training=True)
    code = layers.Sampling(seed=0)(code, code * 0 - 4)
    code = words(code, training=True)
    for weight in (words.codebook, words.uses, kept.border, kept.batches):
        assert weight.dtype == "float32"
        assert np.isfinite(ops.convert_to_numpy(weight)).all()
    return ops.convert_to_numpy(ops.cast(layers.TiedDense(source)(code), "float32"))

whole = outputs("float32", "float32")
for policy, dtype in {pairs}:
    found = outputs(policy, dtype)
    rtol = 1e-6 if policy == "float32" else 0.05
    np.testing.assert_allclose(found, whole, rtol=rtol, atol=rtol)
keras.config.set_dtype_policy("float32")
"""


DTYPES = ("float32", "uint8", "bool", "float64")
POLICIES = ("float32", "mixed_float16", "mixed_bfloat16")


def test_every_layer_under_every_policy_from_every_dtype():
    pairs = [(policy, dtype) for policy in POLICIES for dtype in DTYPES]
    try:
        exec(EVERYWHERE.replace("{pairs}", repr(pairs)), {})
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_every_layer_on_other_backends(backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    # Hardly optimised, it is compiled in half the time.
    env = os.environ | {"KERAS_BACKEND": backend, "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    code = EVERYWHERE.replace("{pairs}", repr([("mixed_float16", "bool"), ("mixed_bfloat16", "uint8")]))
    run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_a_code_is_drawn_in_single_precision(policy):
    mean, log_var = np.zeros((20_000, 1), "float32"), np.full((20_000, 1), -9.0, "float32")
    draw = layers.Sampling(seed=0, dtype=policy)(mean, log_var)
    whole = layers.Sampling(seed=0)(mean, log_var)
    assert keras.backend.standardize_dtype(draw.dtype) == policy.removeprefix("mixed_")
    np.testing.assert_allclose(np.float32(draw), whole, rtol=0.01, atol=1e-6)


@pytest.mark.parametrize("make", [layers.Sampling, lambda seed: layers.VectorQuantizer(4, seed=seed)])
def test_a_wrong_seed_is_shown(make):
    with pytest.raises(ValueError, match="seed must be a whole number >= 0, got -1"):
        make(seed=-1)
    assert make(seed=np.int64(3)).seed == 3
