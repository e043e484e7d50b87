"""Sparse dictionaries: layers and terms against NumPy, and features in superposition that are found."""

import json

import keras
import numpy as np
import pytest
from keras import ops

from aelib import SparseDictionary, dictionaries, layers, likelihoods

D, K, N = 6, 10, 40
random = np.random.default_rng(0)
X = (random.normal(size=(N, D)) * 3 + 100).astype("float32")

tensorflow_only = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="asks TensorFlow for the gradients"
)


def small(kind="topk", x=X, **options):
    """A dictionary that knows the mean and the scale of `x`, and has learnt nothing yet."""
    keras.utils.set_random_seed(0)
    model = SparseDictionary(D, K, k=3, kind=kind, **options)
    model.compile(keras.optimizers.Adam(0.01), run_eagerly=True)
    model._adapt(x, x)
    return model


def numbers(layer):
    return {weight.name: np.float64(ops.convert_to_numpy(weight)) for weight in layer.weights}


def by_hand(model, x=X):
    """Units before the cut, codes of the largest three, and reconstructions, in double precision."""
    linear, atoms = numbers(model.encoder.layers[0]), numbers(model.decoder.layers[0])
    x = (x - linear["center"]) / linear["scale"]
    before = np.maximum(x @ linear["kernel"] + linear["bias"], 0)
    code = np.where(before >= np.sort(before, axis=1)[:, -3:-2], before, 0)
    again = atoms["center"] + atoms["scale"] * (code @ atoms["directions"] + atoms["bias"])
    return before, code, again


def test_codes_and_reconstructions_are_the_formulas():
    model = small()
    model.encoder.layers[0].bias.assign(random.normal(0, 0.1, K))
    model.decoder.layers[0].bias.assign(random.normal(0, 0.1, D))
    before, code, again = by_hand(model)
    out = model(X)
    np.testing.assert_allclose(ops.convert_to_numpy(out["before"]), before, atol=1e-4)
    np.testing.assert_allclose(model.encode(X), code, atol=1e-4)
    np.testing.assert_allclose(model.reconstruct(X), again, rtol=1e-5)
    figures = model.evaluate(X, batch_size=N, verbose=0, return_dict=True)
    assert figures["reconstruction"] == pytest.approx(np.mean(np.sum((X - again) ** 2, axis=1)), rel=1e-4)
    assert figures["auxiliary"] == 0


def test_data_are_centred_and_scaled_on_both_sides():
    other = X * 2 - 7
    model = small()
    model._adapt(X, other)
    for layer, data in ((model.encoder.layers[0], X), (model.decoder.layers[0], other)):
        np.testing.assert_allclose(ops.convert_to_numpy(layer.center), data.mean(axis=0), rtol=1e-5)
        assert float(layer.scale) == pytest.approx(np.sqrt(data.var(axis=0).mean()), rel=1e-5)
    scaled = small(x=1000 * X)
    np.testing.assert_allclose(scaled.encode(1000 * X), small().encode(X), atol=1e-3)
    np.testing.assert_allclose(scaled.reconstruct(1000 * X), 1000 * small().reconstruct(X), rtol=1e-5)


def test_missing_numbers_count_in_neither():
    x = np.where(np.arange(N)[:, None] % 4 == np.arange(D) % 4, np.nan, X - 100)
    model = small(x=x, likelihood=likelihoods.Masked("gaussian"))
    filled = np.where(np.isnan(x), 0, x)
    np.testing.assert_allclose(model.encoder.layers[0].center, filled.mean(axis=0), rtol=1e-4, atol=1e-6)
    assert np.isfinite(model.fit(x, verbose=0).history["loss"]).all()


def test_directions_keep_their_length_and_the_encoder_starts_as_their_transpose():
    model = small()
    np.testing.assert_array_equal(ops.convert_to_numpy(model.encoder.layers[0].kernel), model.dictionary.T)
    before = model.dictionary
    np.testing.assert_allclose(np.linalg.norm(before, axis=1), 1, atol=1e-5)
    model.fit(X, epochs=3, verbose=0)
    assert np.abs(model.dictionary - before).max() > 0.01
    np.testing.assert_allclose(np.linalg.norm(model.dictionary, axis=1), 1, atol=1e-5)


def test_units_are_counted_until_they_are_on_again():
    model = small()
    silent = np.zeros(K)
    for rows in (X[:5], X[5:7], X[7:8]):
        on = (by_hand(model, rows)[1] > 0).any(axis=0)
        silent = np.where(on, 0, silent + len(rows))
        model(rows, training=True)
        np.testing.assert_array_equal(ops.convert_to_numpy(model.silent), silent)
    assert silent.max() > 0
    model(X)
    np.testing.assert_array_equal(ops.convert_to_numpy(model.silent), silent, "in training only")


def test_dead_units_explain_what_the_others_leave():
    model = small(auxiliary=0.5, dead_after=10)
    model.silent.assign([11, 10, 11, 0, 0, 11, 0, 11, 11, 0])
    dead = np.isin(np.arange(K), [0, 2, 5, 7, 8])
    before, _, again = by_hand(model)
    candidates = np.where(dead, before, 0)
    kept = np.where(candidates >= np.sort(candidates, axis=1)[:, -3:-2], candidates, 0)  # half of D
    atoms = numbers(model.decoder.layers[0])
    left = X - again - atoms["scale"] * kept @ atoms["directions"]
    figures = model.evaluate(X, batch_size=N, verbose=0, return_dict=True)
    assert figures["auxiliary"] == pytest.approx(0.5 * np.mean(np.sum(left**2, axis=1)), rel=1e-4)
    assert (np.count_nonzero(kept, axis=1) <= 3).all()


def test_dead_units_draw_their_thresholds_down():
    model = small("jumprelu", auxiliary=0.5, dead_after=10)
    plain = small("jumprelu", auxiliary=0.5, dead_after=10)
    model.encoder.layers[1].log_threshold.assign(np.full(K, np.log(9.0)))  # nothing is on
    model.silent.assign([11.0] * 4 + [0.0] * 6)
    figures = model.evaluate(X, batch_size=N, verbose=0, return_dict=True)
    before = by_hand(model)[0]
    atoms = numbers(model.decoder.layers[0])
    candidates = np.where(np.arange(K) < 4, before, 0)
    kept = np.where(candidates >= np.sort(candidates, axis=1)[:, -3:-2], candidates, 0)
    left = X - atoms["center"] - atoms["scale"] * kept @ atoms["directions"]
    below = atoms["scale"] ** 2 * np.sum(9 - before[:, :4], axis=1)
    assert figures["auxiliary"] == pytest.approx(0.5 * np.mean(np.sum(left**2, axis=1) + below), rel=1e-4)
    assert plain.evaluate(X, verbose=0, return_dict=True)["auxiliary"] == 0
    model.fit(X, batch_size=N, verbose=0)
    moved = ops.convert_to_numpy(model.encoder.layers[1].log_threshold) < np.log(9.0) - 1e-4
    np.testing.assert_array_equal(moved[:4], True)


@tensorflow_only
def test_dead_units_alone_learn_from_that():
    import tensorflow as tf

    model = small(dead_after=10)
    model.silent.assign([11.0] * 4 + [0.0] * 6)
    out = model(X)
    with tf.GradientTape() as tape:
        out = model(X)
        term = tf.reduce_mean(model.terms(tf.constant(X), out)["auxiliary"])
    gradients = tape.gradient(term, [model.encoder.layers[0].kernel, model.decoder.layers[0].directions])
    for gradient, axis in zip(gradients, (0, 1), strict=True):
        strength = np.abs(tf.convert_to_tensor(gradient)).sum(axis=axis)
        assert (strength[:4] > 0).any()
        np.testing.assert_array_equal(strength[4:], 0)


def test_nothing_is_added_where_it_is_turned_off():
    assert set(small(auxiliary=0).evaluate(X, verbose=0, return_dict=True)) == {"loss", "reconstruction"}


def test_a_batch_shares_its_units_and_a_border_stays():
    model = small("batch_topk")
    before = by_hand(model)[0]
    code = ops.convert_to_numpy(model(X, training=True)["code"])
    border = np.sort(before, axis=None)[-3 * N]
    np.testing.assert_allclose(code, np.where(before >= border * (1 - 1e-5), before, 0), atol=1e-4)
    assert dictionaries.l0(code) == pytest.approx(3)
    assert np.unique(np.count_nonzero(code, axis=1)).size > 1
    np.testing.assert_allclose(model.encode(X[:1]), code[:1], atol=1e-4)


def test_a_threshold_starts_where_units_are_on_often_enough():
    model = small("jumprelu")
    assert dictionaries.l0(model.encode(X)) == pytest.approx(3, rel=0.1)
    assert dictionaries.dead_share(model.encode(X)) == 0


@tensorflow_only
def test_the_step_has_the_slope_of_a_rectangle():
    """Rajamanoharan et al. (2024): dJ/dθ = -θ/ε K((z - θ)/ε), dH/dθ = -1/ε K, dJ/dz = H, dH/dz = 0."""
    import tensorflow as tf

    layer, width = dictionaries.JumpReLU(bandwidth=0.4), 0.4
    z = tf.constant([[0.05, 0.35, 0.45, 0.9], [0.25, 0.55, 0.65, 0.0]])
    theta = np.float32([0.1, 0.5, 0.5, 0.5])
    layer.build((None, 4))
    layer.log_threshold.assign(np.log(theta))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(z)
        jump, step = layer(z), layer.active(z)
    on = z.numpy() > theta
    np.testing.assert_array_equal(step, on)
    np.testing.assert_allclose(jump, np.where(on, z, 0), rtol=1e-6)
    np.testing.assert_array_equal(tape.gradient(jump, z), on)
    assert tape.gradient(step, z) is None
    near = (np.abs(z.numpy() - theta) < width / 2).sum(axis=0)
    slopes = [tape.gradient(part, layer.log_threshold) / theta for part in (jump, step)]  # by θ itself
    np.testing.assert_allclose(slopes[0], -theta / width * near, rtol=1e-5)
    np.testing.assert_allclose(slopes[1], -1 / width * near, rtol=1e-5)
    assert layer.compute_output_shape((2, 4)) == (2, 4)


def test_sparsity_is_the_squared_distance_from_k():
    model = small("jumprelu", strength=0.5, auxiliary=0)
    model.encoder.layers[1].log_threshold.assign(np.full(K, np.log(0.3)))
    l0 = np.mean(np.sum(by_hand(model)[0] > 0.3, axis=1))
    figures = model.evaluate(X, batch_size=N, verbose=0, return_dict=True)
    variance = np.sum(X.astype("float64").var(axis=0))
    assert figures["sparsity"] == pytest.approx(0.5 * variance * (l0 / 3 - 1) ** 2, rel=1e-4)


def test_large_means_survive_half_precision():
    """In bfloat16 alone, 100 plus or minus 3 would be known to a third of a unit."""
    whole = small().reconstruct(X)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        half = small()
    finally:
        keras.config.set_dtype_policy("float32")
    codes, again = half.encode(X), half.reconstruct(X)
    assert half.encoder.layers[0].compute_dtype == "bfloat16"
    agree = ((codes > 0) == (small().encode(X) > 0)).all(axis=1)
    assert agree.mean() > 0.9
    np.testing.assert_allclose(again[agree], whole[agree], atol=0.1)


@pytest.mark.parametrize("kind", dictionaries.KINDS)
def test_it_comes_back_from_disk(kind, tmp_path):
    model = SparseDictionary((2, 3), K, k=2, kind=kind, likelihood="laplace", dead_after=7, bandwidth=0.3)
    model.compile("adam", run_eagerly=True)
    x = X.reshape(N, 2, 3)
    model.fit(x, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.reconstruct(x), model.reconstruct(x))
    np.testing.assert_array_equal(loaded.silent, model.silent)
    assert loaded.get_config() == model.get_config()
    assert json.dumps(loaded.get_config())
    for layer in (*model.encoder.layers, *model.decoder.layers):
        assert type(layer).from_config(layer.get_config()).get_config() == layer.get_config()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k must be a whole number >= 1, got 0"),
        ({"k": 11}, "k must be at most units, 10, got 11"),
        ({"k": 2, "kind": "l1"}, "kind must be one of topk, batch_topk, jumprelu; got 'l1'"),
        ({"k": 2, "auxiliary": -1}, "auxiliary must be >= 0, got -1"),
        ({"k": 2, "dead_after": 0}, "dead_after must be a whole number >= 1, got 0"),
        ({"k": 2, "strength": float("nan")}, "strength must be >= 0, got nan"),
        ({"k": 2, "kind": "jumprelu", "bandwidth": 0}, "bandwidth must be > 0, got 0"),
    ],
)
def test_bad_arguments_are_shown(options, message):
    with pytest.raises(ValueError, match=message):
        SparseDictionary(D, K, **options)


def test_data_without_variance_are_refused():
    model = SparseDictionary(D, K, k=2)
    model.compile("adam")
    with pytest.raises(ValueError, match="the data must vary, got 4 samples that are all the same: leave"):
        model.fit(np.ones((4, D)), verbose=0)
    with pytest.raises(ValueError, match="the target must vary, got 40 samples"):
        model.fit(X, np.ones_like(X), verbose=0)


# The figures.


def test_figures_of_codes():
    codes = np.array([[0, 2, 0, 1], [0, 3, 0, 0], [0, 0, 0, -1], [0, 1, 0, 0]])
    np.testing.assert_array_equal(dictionaries.firing_density(codes), [0, 0.75, 0, 0.5])
    assert dictionaries.l0(codes) == 1.25
    assert dictionaries.dead_share(codes) == 0.5
    with pytest.raises(ValueError, match=r"codes must have shape \(n >= 1, K\), got \(3,\)"):
        dictionaries.l0(np.ones(3))
    with pytest.raises(ValueError, match="codes must be finite: 1 of its 4 numbers"):
        dictionaries.dead_share([[1, np.nan], [1, 2]])


def test_fraction_of_variance_unexplained():
    x = random.normal(5, 2, (50, 3, 2))
    mean = np.broadcast_to(x.mean(axis=0), x.shape)
    assert dictionaries.fraction_unexplained(x, x) == 0
    assert dictionaries.fraction_unexplained(x, mean) == pytest.approx(1)
    assert dictionaries.fraction_unexplained(x, (x + mean) / 2) == pytest.approx(1 / 4)
    with pytest.raises(ValueError, match=r"x \(50, 3, 2\) and reconstruction \(50, 3, 1\) must have one"):
        dictionaries.fraction_unexplained(x, x[..., :1])
    with pytest.raises(ValueError, match="x must vary, got 2 samples that are all the same"):
        dictionaries.fraction_unexplained(np.ones((2, 3)), np.ones((2, 3)))


def test_mean_max_cosine():
    features = np.eye(3)
    assert dictionaries.mean_max_cosine(5 * features[[2, 0, 1, 1]], features) == 1
    assert dictionaries.mean_max_cosine([[1, 1, 0], [0, 0, -1]], features) == pytest.approx(2**0.5 / 3)
    with pytest.raises(ValueError, match="directions must be rows of finite numbers, none of length 0"):
        dictionaries.mean_max_cosine([[0, 0, 0]], features)
    with pytest.raises(ValueError, match=r"features must be rows .* got shape \(3,\)"):
        dictionaries.mean_max_cosine(features, np.ones(3))
    with pytest.raises(ValueError, match=r"directions \(3, 3\) and features \(2, 2\) must be equally wide"):
        dictionaries.mean_max_cosine(features, np.eye(2))


def test_loss_recovered():
    assert dictionaries.loss_recovered(2, 2, 6) == 1
    assert dictionaries.loss_recovered(2, 3, 6) == 0.75
    assert dictionaries.loss_recovered(2, 8, 6) == -0.5
    with pytest.raises(ValueError, match=r"ablated must be above clean, 2, got 2: .*; ablate others"):
        dictionaries.loss_recovered(2, 2, 2)
    with pytest.raises(ValueError, match="clean must be a finite number, got nan"):
        dictionaries.loss_recovered(float("nan"), 2, 2)


@tensorflow_only
@pytest.mark.parametrize(
    ("kind", "rate", "wanted"), [("topk", 0.03, 0.93), ("batch_topk", 0.03, 0.85), ("jumprelu", 0.01, 0.85)]
)
def test_features_in_superposition_are_found(kind, rate, wanted):
    """Sixteen directions in eight dimensions; a benchmark does the same for 64 in 16."""
    random = np.random.default_rng(0)
    features = random.normal(size=(16, 8))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    on = random.random((20_000, 16)) < 1 / 8
    x = (on * random.random(on.shape) @ features).astype("float32")
    model = SparseDictionary(8, 16, k=2, kind=kind, auxiliary=1, dead_after=1_000)
    start = dictionaries.mean_max_cosine(model.dictionary, features)
    model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(rate, 8 * 157)))
    model.fit(x, epochs=8, batch_size=128, verbose=0)
    found, codes = dictionaries.mean_max_cosine(model.dictionary, features), model.encode(x)
    print(f"mean max cosine {start:.3f} -> {found:.3f}, L0 {dictionaries.l0(codes):.2f}")
    assert start < 0.7
    assert found > wanted
    assert dictionaries.dead_share(codes) < 0.05


def test_the_cut_is_that_of_k_sparse():
    """A type is its difference: the cut is the layer's, and so is what its tests hold."""
    assert isinstance(small().encoder.layers[1], layers.KSparse)
