"""Clustering: the figures against brute force, the objective against the paper's formulas in NumPy."""

import itertools
import os
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics
from sklearn.cluster import KMeans

from aelib import blocks
from aelib.clustering import (
    DeepEmbeddedClustering,
    matched_accuracy,
    scores,
    soft_assignment,
    target_distribution,
)

FEATURES, CODE, CLUSTERS, N = 6, 3, 4, 40
RNG = np.random.default_rng(0)
X = (np.repeat(RNG.random((CLUSTERS, FEATURES)), N // CLUSTERS, axis=0)).astype("float32")
X = np.clip(X + RNG.normal(0, 0.02, X.shape), 0, 1).astype("float32")


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 4), st.integers(1, 30))
def test_matched_accuracy_is_the_best_of_all_matchings(seed, classes, groups, n):
    rng = np.random.default_rng(seed)
    labels, clusters = rng.integers(classes, size=n), rng.integers(groups, size=n)
    most = max(classes, groups)  # names without a sample make the matching a permutation
    best = max(np.mean(np.array(p)[clusters] == labels) for p in itertools.permutations(range(most)))
    assert matched_accuracy(labels, clusters) == pytest.approx(best)


def test_matched_accuracy_by_hand():
    assert matched_accuracy([0, 0, 1, 1, 2, 2], [5, 5, 5, 7, 9, 9]) == pytest.approx(5 / 6)
    assert matched_accuracy([0, 0, 1, 1], [0, 0, 0, 0]) == 0.5
    assert matched_accuracy(["a", "b", "c"], [2, 0, 1]) == 1
    # Two clusters of one class: only one of them counts, unlike in the purity.
    assert matched_accuracy([0, 0, 0, 0], [0, 0, 1, 1]) == 0.5


def test_scores_are_those_of_scikit_learn():
    labels, clusters = RNG.integers(5, size=60), RNG.integers(4, size=60)
    assert scores(labels, clusters) == {
        "accuracy": matched_accuracy(labels, clusters),
        "NMI": metrics.normalized_mutual_info_score(labels, clusters),
        "ARI": metrics.adjusted_rand_score(labels, clusters),
    }
    assert scores(labels, 7 - labels) == pytest.approx({"accuracy": 1, "NMI": 1, "ARI": 1})


@pytest.mark.parametrize("pair", [([], []), ([0, 1], [0]), ([[0], [1]], [[0], [1]])])
def test_labels_and_clusters_must_match(pair):
    with pytest.raises(ValueError, match=r"must both have shape \(n >= 1,\), got \("):
        matched_accuracy(*pair)


def test_labels_without_a_number_are_refused():
    with pytest.raises(ValueError, match=r"labels must be finite: 1 of its 2 .* row 1; leave out"):
        matched_accuracy([0, np.nan], [0, 1])


def test_soft_assignment_by_hand():
    # Squared distances 0 and 4 to the one code, 1 and 1 to the other.
    q = np.asarray(soft_assignment(np.array([[0.0, 0.0], [1.0, 0.0]]), np.array([[0.0, 0.0], [2.0, 0.0]])))
    np.testing.assert_allclose(q, [[1 / 1.2, 0.2 / 1.2], [0.5, 0.5]], rtol=1e-6)


def test_soft_assignment_is_a_student_t():
    from scipy import stats

    codes, centroids = RNG.normal(size=(7, CODE)), RNG.normal(size=(CLUSTERS, CODE))
    apart = np.linalg.norm(codes[:, None] - centroids, axis=2)
    density = stats.t(df=1).pdf(apart)
    q = np.asarray(soft_assignment(codes, centroids))
    np.testing.assert_allclose(q, density / density.sum(axis=1, keepdims=True), rtol=1e-5)


def test_target_distribution_by_hand():
    # Soft sizes 1.5 and 0.5: the first row's weights are .81/1.5 and .01/.5.
    p = np.asarray(target_distribution(np.array([[0.9, 0.1], [0.6, 0.4]])))
    np.testing.assert_allclose(p[0], [0.54 / 0.56, 0.02 / 0.56], rtol=1e-6)
    np.testing.assert_allclose(p[1], [0.24 / 0.56, 0.32 / 0.56], rtol=1e-6)
    # The large cluster is held back so much that the second sample changes sides.
    assert p[1].argmax() == 1


def test_hard_and_uniform_assignments_are_fixed_points():
    hard = np.eye(3)[[0, 1, 1, 2]]
    np.testing.assert_allclose(target_distribution(hard), hard)
    uniform = np.full((4, 3), 1 / 3)
    np.testing.assert_allclose(target_distribution(uniform), uniform, rtol=1e-6)


def build(reconstruction=0.0, seed=0, **options):
    keras.utils.set_random_seed(seed)
    encoder = blocks.dense_encoder((FEATURES,), CODE, hidden=(8,), activation="tanh")
    decoder = blocks.dense_decoder((FEATURES,), CODE, hidden=(8,), activation="tanh")
    model = DeepEmbeddedClustering(
        encoder, decoder, clusters=CLUSTERS, reconstruction=reconstruction, **options
    )
    model.compile(keras.optimizers.Adam(0.01), run_eagerly=True)
    return model


def divergence(p, q):
    return np.sum(p * np.log(p / q), axis=1)


def numpy_target(q):
    weight = q**2 / q.sum(axis=0)
    return weight / weight.sum(axis=1, keepdims=True)


def figures(model, *data, **options):
    return model.evaluate(*data, verbose=0, return_dict=True, **options)


def test_the_terms_are_those_of_the_papers():
    model = build(reconstruction=0.5, likelihood="gaussian")
    model.initialize(X)
    q = model.assign(X).astype("float64")
    error = np.mean(np.sum((X - model.reconstruct(X)) ** 2, axis=1))
    p = RNG.dirichlet(np.ones(CLUSTERS), N).astype("float32")
    found = figures(model, X, p, batch_size=16)
    assert found["reconstruction"] == pytest.approx(0.5 * error, rel=1e-5)
    assert found["clustering"] == pytest.approx(np.mean(divergence(p, q)), rel=1e-5)
    assert found["loss"] == pytest.approx(found["reconstruction"] + found["clustering"], rel=1e-6)
    # Without y: the target of each batch by itself.
    own = [divergence(numpy_target(q[i : i + 16]), q[i : i + 16]) for i in range(0, N, 16)]
    assert figures(model, X, batch_size=16)["clustering"] == pytest.approx(
        np.mean(np.concatenate(own)), rel=1e-4
    )
    # A target of 0 and 1 has a finite divergence.
    hard = np.eye(CLUSTERS, dtype="float32")[q.argmax(axis=1)]
    expected = np.mean(-np.log(q.max(axis=1)))
    assert figures(model, X, hard)["clustering"] == pytest.approx(expected, rel=1e-5)


def test_the_gradients_are_those_of_the_paper():
    """Xie et al. (2016), equations 4 and 5, with one degree of freedom; P counts as a constant."""
    model = build()
    model.initialize(X)
    codes, centroids = tf.constant(model.encode(X)), model.centroids
    with tf.GradientTape() as tape:
        tape.watch(codes)
        out = {"code": codes, "reconstruction": model.decoder(codes)}
        loss = N * model.compute_loss(tf.constant(X), None, out)
    by_code, by_centroid = tape.gradient(loss, [codes, centroids.value])
    z, mu, q = codes.numpy(), np.asarray(centroids), model.assign(X)
    difference = z[:, None] - mu  # (n, J, K)
    force = (numpy_target(q) - q) / (1 + np.sum(difference**2, axis=2))
    pull = 2 * force[..., None] * difference
    np.testing.assert_allclose(by_code, pull.sum(axis=1), atol=1e-5)
    np.testing.assert_allclose(by_centroid, -pull.sum(axis=0), atol=1e-5)


def test_initialize_is_k_means_on_the_codes():
    model = build()
    clusters = model.initialize(X, n_init=3, seed=5)
    kmeans = KMeans(CLUSTERS, n_init=3, random_state=5).fit(model.encode(X))
    np.testing.assert_allclose(model.centroids, kmeans.cluster_centers_, rtol=1e-5)
    np.testing.assert_array_equal(clusters, kmeans.labels_)
    np.testing.assert_array_equal(model.assign(X).argmax(axis=1), clusters)


def test_self_training_sharpens_the_assignment_and_leaves_the_decoder_alone():
    model = build()
    model.initialize(X)
    target, before = np.asarray(target_distribution(model.assign(X))), model.assign(X)
    decoder, centroids = model.decoder.get_weights(), model.centroids.numpy().copy()
    history = model.fit(X, target, epochs=4, verbose=0).history
    assert set(history) == {"loss", "clustering"}
    assert history["clustering"][-1] < history["clustering"][0]
    assert model.assign(X).max(axis=1).mean() > before.max(axis=1).mean()
    assert np.any(model.centroids.numpy() != centroids)
    for old, new in zip(decoder, model.decoder.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def a_decoder_with_state():
    """A decoder that has trainable variables, a regulariser, and an average that moves in training."""
    return keras.Sequential(
        [
            keras.Input((CODE,)),
            keras.layers.Dense(8, "tanh", kernel_regularizer="l2"),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(FEATURES),
        ]
    )


def test_nothing_borrowed_is_frozen_or_changed():
    encoder, decoder = blocks.dense_encoder((FEATURES,), CODE, hidden=8), a_decoder_with_state()
    model = DeepEmbeddedClustering(encoder, decoder, clusters=CLUSTERS, likelihood="gaussian")
    model.compile(keras.optimizers.Adam(0.01))
    before, code = decoder.get_weights(), encoder.get_weights()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # "gradients do not exist" is one
        history = model.fit(X, epochs=2, verbose=0, batch_size=16).history
    assert set(history) == {"loss", "clustering"}, "a decoder that is not trained is not regularised"
    assert decoder.trainable
    assert len(decoder.trainable_variables) == 6
    for old, new in zip(before, decoder.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert not np.array_equal(code[0], encoder.get_weights()[0])
    trained = [*encoder.trainable_variables, model.centroids]
    assert {id(v) for v in model.trainable_variables} == {id(v) for v in trained}
    assert {id(v) for v in model.trainable_weights} == {id(v) for v in trained}
    for part, rest, whole in (
        (model.trainable_variables, model.non_trainable_variables, model.variables),
        (model.trainable_weights, model.non_trainable_weights, model.weights),
    ):
        assert sorted(map(id, part + rest)) == sorted(map(id, whole))
    again = DeepEmbeddedClustering(encoder, decoder, clusters=CLUSTERS, reconstruction=0.1)
    assert len(again.trainable_variables) == 4 + 6 + 1, "the same decoder trains where it is asked to"


def test_a_shared_kernel_and_a_learned_variance():
    """What the encoder shares with the decoder is trained; a variance that nothing asks for is not."""
    from aelib import layers, likelihoods

    encoder = blocks.dense_encoder((FEATURES,), CODE, hidden=())
    decoder = keras.Sequential([keras.Input((CODE,)), layers.TiedDense(encoder.layers[-1])])
    model = DeepEmbeddedClustering(
        encoder, decoder, clusters=CLUSTERS, likelihood=likelihoods.Gaussian(variance="learned")
    )
    assert {id(v) for v in model.trainable_variables} == {
        id(v) for v in [*encoder.trainable_variables, model.centroids]
    }


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_gives_the_same_figures(policy):
    whole = build(reconstruction=0.5, likelihood="gaussian")
    try:
        keras.config.set_dtype_policy(policy)
        half = build(reconstruction=0.5, likelihood="gaussian")
    finally:
        keras.config.set_dtype_policy("float32")
    half.set_weights(whole.get_weights())
    assert figures(half, X)["loss"] == pytest.approx(figures(whole, X)["loss"], rel=0.02)


ON_JAX = """
import warnings
import keras, numpy as np
from aelib import blocks
from aelib.clustering import DeepEmbeddedClustering
warnings.simplefilter("error", UserWarning)
x = np.random.default_rng(0).random((20, 6), dtype="float32")
decoder = blocks.dense_decoder(6, 2, hidden=4)
model = DeepEmbeddedClustering(blocks.dense_encoder(6, 2, hidden=4), decoder, clusters=3)
model.compile("adam")
before, code = decoder.get_weights(), model.encoder.get_weights()
model.fit(x, batch_size=20, epochs=1, verbose=0)
assert decoder.trainable and all(map(np.array_equal, before, decoder.get_weights()))
assert not np.array_equal(code[0], model.encoder.get_weights()[0])
"""


def test_the_decoder_is_left_alone_on_jax():
    pytest.importorskip("jax")
    quickly = {"XLA_FLAGS": "--xla_backend_optimization_level=0"}
    env = os.environ | {"KERAS_BACKEND": "jax", "AELIB_PROGRESS": "0"} | quickly
    run = subprocess.run([sys.executable, "-c", ON_JAX], env=env, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_a_saved_model_assigns_the_same(weight, tmp_path):
    model = build(reconstruction=weight)
    model.initialize(X)
    model.fit(X, epochs=1, verbose=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded) is DeepEmbeddedClustering
    assert (loaded.clusters, loaded.reconstruction) == (CLUSTERS, weight)
    np.testing.assert_array_equal(loaded.assign(X), model.assign(X))
    assert figures(loaded, X) == pytest.approx(figures(model, X))


@pytest.mark.parametrize("clusters", [1, 2.0, True, "3"])
def test_a_wrong_number_of_clusters_is_shown(clusters):
    with pytest.raises(ValueError, match=f"clusters must be a whole number >= 2, got {clusters!r}"):
        DeepEmbeddedClustering(
            blocks.dense_encoder((6,), 3), blocks.dense_decoder((6,), 3), clusters=clusters
        )


@pytest.mark.parametrize("weight", [-1, float("nan")])
def test_a_wrong_weight_is_shown(weight):
    with pytest.raises(ValueError, match=f"reconstruction must be >= 0, got {weight!r}"):
        build(reconstruction=weight)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_init": 0}, "n_init must be a whole number >= 1, got 0"),
        ({"seed": -1}, "seed must be .* >= 0, got -1"),
    ],
)
def test_wrong_options_of_initialize_are_shown(options, message):
    with pytest.raises(ValueError, match=message):
        build().initialize(X, **options)


def test_a_wrong_target_is_shown():
    with pytest.raises(ValueError, match=r"P, must have shape \(n, 4\), got \(40, 6\)"):
        figures(build(), X, X, batch_size=N)
