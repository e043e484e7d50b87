import keras
import numpy as np
import pytest
import tensorflow as tf

from aelib import layers

random = np.random.default_rng(0)
CORNERS = np.float32([[0, 0], [0, 4], [4, 0], [4, 4]])


def built(**options):
    layer = layers.VectorQuantizer(4, **options)
    layer.build((None, 2))
    layer.codebook.assign(CORNERS)
    layer.sums.assign(CORNERS)
    return layer


def near(corners, spread=0.3):
    return (CORNERS[corners] + random.normal(0, spread, (len(corners), 2))).astype("float32")


def test_the_nearest_vector_is_chosen():
    layer = built()
    x = near(random.integers(0, 4, 30)).reshape(5, 3, 2, 2)
    distance = np.linalg.norm(x[..., None, :] - CORNERS, axis=-1)
    np.testing.assert_array_equal(layer.indices(x), distance.argmin(axis=-1))
    np.testing.assert_array_equal(layer(x), CORNERS[distance.argmin(axis=-1)])
    np.testing.assert_array_equal(layer.lookup(layer.indices(x)), layer(x))
    assert layer.compute_output_shape(x.shape) == x.shape


def test_gradients_pass_straight_through_and_commitment_pulls():
    layer, x = built(commitment=0.5), tf.constant(near([0, 1, 2, 3]).reshape(2, 2, 2))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        total = tf.reduce_sum(3 * layer(x))
        commitment = sum(layer.losses)
    np.testing.assert_array_equal(tape.gradient(total, x), np.full(x.shape, 3))
    chosen = layer.lookup(layer.indices(x))
    apart = np.sum((x - chosen) ** 2, axis=(1, 2))
    assert float(commitment) == pytest.approx(0.5 * apart.mean(), rel=1e-5)
    np.testing.assert_allclose(tape.gradient(commitment, x), 0.5 * 2 * (x - chosen) / 2, rtol=1e-5)


def test_codebook_follows_the_means_of_its_choosers():
    layer = built(decay=0.9)
    shifted = near(np.arange(400) % 4, 0.2) + 0.5
    for _ in range(200):
        layer(shifted, training=True)
    means = [shifted[np.arange(400) % 4 == i].mean(axis=0) for i in range(4)]
    np.testing.assert_allclose(layer.codebook, means, atol=1e-4)


def test_one_step_of_the_running_means():
    layer = built(decay=0.75, revive=0)
    x = np.float32([[1, 1], [0, 1], [4, 3]])
    layer(x, training=True)
    np.testing.assert_allclose(layer.uses, 0.75 + 0.25 * np.array([2, 0, 0, 1]))
    first = (0.75 * CORNERS[0] + 0.25 * np.array([1, 2])) / 1.25
    np.testing.assert_allclose(layer.codebook, [first, CORNERS[1], CORNERS[2], [4, 3.75]], rtol=1e-6)
    before = layer.codebook.numpy()
    layer(x)
    np.testing.assert_array_equal(layer.codebook, before, "it learns in training only")


def test_unused_vectors_come_back():
    x = near(np.zeros(64, int))
    idle, revived = built(revive=0, decay=0.5), built(revive=0.1, decay=0.5, seed=0)
    for _ in range(20):
        idle(x, training=True), revived(x, training=True)
    assert len(np.unique(idle.indices(x))) == 1
    assert len(np.unique(revived.indices(x))) == 4


def test_it_trains_in_a_compiled_model_and_comes_back_from_disk(tmp_path):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((3, 2))
    model = keras.Model(inputs, layers.VectorQuantizer(4, seed=1)(keras.layers.Dense(2)(inputs)))
    model.compile("adam", "mse")
    x = near(np.arange(96) % 4).reshape(32, 3, 2)
    model.fit(x, x, epochs=3, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
    assert loaded.layers[-1].get_config() == model.layers[-1].get_config()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 1}, "size must be a whole number >= 2, got 1"),
        ({"size": 2.5}, "size .* got 2.5"),
        ({"size": 4, "decay": 1.0}, r"decay must be in \(0, 1\), got 1.0"),
        ({"size": 4, "commitment": -1}, "commitment must be >= 0, got -1"),
        ({"size": 4, "revive": float("nan")}, "revive must be >= 0, got nan"),
    ],
)
def test_bad_arguments_are_shown(options, message):
    with pytest.raises(ValueError, match=message):
        layers.VectorQuantizer(**options)
