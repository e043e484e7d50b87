import keras
import numpy as np
import pytest
import tensorflow as tf

from aelib import Autoencoder, layers

random = np.random.default_rng(0)
CORNERS = np.float32([[0, 0], [0, 4], [4, 0], [4, 4]])


def built(**options):
    layer = layers.VectorQuantizer(4, **options)
    layer.build((None, 2))
    layer.codebook.assign(CORNERS)
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
    step = tf.function(lambda: layer(shifted, training=True))
    for _ in range(200):
        step()
    means = [shifted[np.arange(400) % 4 == i].mean(axis=0) for i in range(4)]
    np.testing.assert_allclose(layer.codebook, means, atol=1e-4)


def test_one_step_of_the_running_means():
    layer = built(decay=0.75, restart_threshold=0)
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
    idle, revived = built(restart_threshold=0, decay=0.5), built(restart_threshold=0.1, decay=0.5, seed=0)
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
        ({"num_embeddings": 1}, "num_embeddings must be a whole number >= 2, got 1"),
        ({"num_embeddings": 2.5}, "num_embeddings .* got 2.5"),
        ({"num_embeddings": 4, "decay": 1.0}, r"decay must be in \(0, 1\), got 1.0"),
        ({"num_embeddings": 4, "commitment": -1}, "commitment must be >= 0, got -1"),
        ({"num_embeddings": 4, "restart_threshold": float("nan")}, "restart_threshold must be >= 0, got nan"),
        ({"num_embeddings": 4, "from_data": 1}, "from_data must be True or False, got 1"),
    ],
)
def test_bad_arguments_are_shown(options, message):
    with pytest.raises(ValueError, match=message):
        layers.VectorQuantizer(**options)


def test_a_word_that_nothing_chooses_stays_where_it_is():
    """The averages of counts and sums underflow after 8,500 steps, and their quotient was then NaN."""
    layer = built(decay=0.9, restart_threshold=0)
    x = near(np.zeros(8, int))
    follow = tf.function(lambda: layer._follow(tf.constant(x), layer.indices(x)))
    for _ in range(2_000):  # 0.9 ** 2000 is 1e-92, far below the least float32
        follow()
    np.testing.assert_array_equal(layer.codebook[1:], CORNERS[1:])
    np.testing.assert_allclose(layer.codebook[0], x.mean(axis=0), atol=1e-5)
    assert layer.uses.numpy().min() == pytest.approx(1e-5), "which is as low as it goes"
    layer(near(np.ones(8, int)), training=True)
    assert np.isfinite(layer.codebook).all()
    assert np.abs(layer.codebook[1] - CORNERS[1]).max() < 1, "and it wakes where it was"


def test_many_steps_are_those_of_the_two_averages():
    """In double precision, where the paper's m and N do not underflow so soon, both forms agree."""
    random = np.random.default_rng(0)
    words, uses, sums = np.array([[1.0], [5]]), np.ones(2), np.array([[1.0], [5]])
    mine, floor = words.copy(), np.ones(2)
    for counts in random.multinomial(4, [0.999, 0.001], size=20_000):
        totals = counts[:, None] * random.normal(words, 0.1)
        uses, sums = 0.99 * uses + 0.01 * counts, 0.99 * sums + 0.01 * totals
        floor = np.maximum(0.99 * floor + 0.01 * counts, 1e-5)
        mine += 0.01 * (totals - counts[:, None] * mine) / floor[:, None]
    np.testing.assert_allclose(mine, sums / uses[:, None], rtol=1e-3)


def steps(layer, x, number):
    """Take so many training steps in one compiled loop."""
    x = tf.constant(x)

    @tf.function(jit_compile=True)
    def loop():
        for _ in tf.range(number):
            layer._follow(x, layer.indices(x))

    loop()


def test_a_hundred_thousand_steps_underflow_nowhere():
    """0.99 ** 100_000 is 1e-437: averages of counts and of sums would both be 0, and their quotient NaN."""
    layer, x = built(decay=0.99, restart_threshold=0), near(np.zeros(8, int))
    steps(layer, x, 100_000)
    assert np.isfinite(layer.codebook).all()
    np.testing.assert_array_equal(layer.codebook[1:], CORNERS[1:])
    np.testing.assert_allclose(layer.codebook[0], x.mean(axis=0), atol=1e-5)
    assert layer.uses.numpy().min() == pytest.approx(1e-5)


def test_a_hundred_thousand_steps_with_restarts_keep_all_in_use():
    layer, x = built(decay=0.9, seed=0), near(np.zeros(64, int))
    steps(layer, x, 100_000)
    assert np.isfinite(layer.codebook).all()
    assert len(np.unique(layer.indices(x))) >= 3


def test_a_codebook_may_start_at_the_data():
    layer = layers.VectorQuantizer(4, from_data=True, restart_threshold=0, seed=0)
    x = 100 + near(np.arange(64) % 4)
    layer(x)
    assert np.abs(layer.codebook).max() < 1, "the data of training alone"
    layer(x, training=True)
    first = layer.codebook.numpy()
    assert all((word == x).all(axis=1).any() for word in first)
    np.testing.assert_array_equal(layer.uses, 1)
    layer(x, training=True)
    assert not any((word == x).all(axis=1).any() for word in layer.codebook.numpy()), (
        "in the first step alone"
    )
    assert np.abs(layer.codebook - first).max() < 2
    assert layers.VectorQuantizer.from_config(layer.get_config()).from_data is True


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_chooses_and_learns_as_float32_does(policy):
    whole, half = built(decay=0.9, seed=0), built(decay=0.9, seed=0, dtype=policy)
    x = near(np.arange(64) % 4)
    for _ in range(20):
        whole(x, training=True)
        assert keras.backend.standardize_dtype(half(x, training=True).dtype) == half.compute_dtype
    assert half.codebook.dtype == half.uses.dtype == "float32"
    np.testing.assert_array_equal(half.indices(x), whole.indices(x))
    np.testing.assert_allclose(half.codebook, whole.codebook, atol=0.02)
    assert keras.backend.standardize_dtype(half.losses[0].dtype) == "float32"


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float64"])
def test_whole_numbers_are_quantised_as_floats(dtype):
    x = np.array([[0, 3], [4, 1]], dtype)
    np.testing.assert_array_equal(built()(x), CORNERS[[1, 2]])


@pytest.mark.parametrize("shape", [(3,), (2, None)])
def test_vectors_of_unknown_length_are_shown(shape):
    with pytest.raises(ValueError, match=r"vectors must have the shape \(B, ..., d\) with d known, got \("):
        layers.VectorQuantizer(4).build(shape)


# The grid of levels.

LEVELS = (8, 5, 3, 4)


def grid_by_hand(x):
    """Every number to the nearest level that its bound allows, in double precision."""
    codes = np.empty_like(x, dtype="float64")
    for i, count in enumerate(LEVELS):
        half = (count - 1) * (1 - 1e-3) / 2
        offset = 0 if count % 2 else 0.5
        codes[..., i] = np.round(np.tanh(x[..., i] + np.arctanh(offset / half)) * half - offset) / (
            count // 2
        )
    return codes


def test_numbers_are_rounded_to_their_levels():
    layer, x = layers.FiniteScalarQuantizer(LEVELS), random.normal(0, 3, (500, 2, 4)).astype("float32")
    codes = layer(x).numpy()
    np.testing.assert_allclose(codes, grid_by_hand(x), atol=1e-6)
    for i, count in enumerate(LEVELS):
        np.testing.assert_allclose(
            np.unique(codes[..., i]), np.arange(-(count // 2), (count + 1) // 2) / (count // 2)
        )
    np.testing.assert_array_equal(layer(np.zeros((1, 4))), np.zeros((1, 4)), "0 stays 0")
    assert layer.compute_output_shape(x.shape) == x.shape


def test_every_combination_of_levels_has_a_number():
    layer = layers.FiniteScalarQuantizer(LEVELS)
    assert layer.num_embeddings == 8 * 5 * 3 * 4
    codes = layer.indices_to_codes(np.arange(480).reshape(16, 30)).numpy()
    assert codes.shape == (16, 30, 4)
    assert len(np.unique(codes.reshape(480, 4), axis=0)) == 480
    np.testing.assert_array_equal(layer.codes_to_indices(codes), np.arange(480).reshape(16, 30))
    np.testing.assert_array_equal(codes[0, :2], np.float32([[-1, -1, -1, -1], [-0.75, -1, -1, -1]]))
    x = random.normal(0, 2, (6, 7, 4)).astype("float32")
    np.testing.assert_array_equal(layer.lookup(layer.indices(layer(x))), layer(x))
    assert layer.indices(layer(x)).dtype == "int32"


def test_gradients_pass_through_the_rounding():
    layer, x = layers.FiniteScalarQuantizer(LEVELS), tf.constant(random.normal(0, 1, (9, 4)), "float32")
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        rounded, bounded = layer(x), layer.bound(x) / [4.0, 2, 1, 2]
    np.testing.assert_allclose(tape.gradient(rounded, x), tape.gradient(bounded, x), rtol=1e-5)
    assert (tape.gradient(rounded, x).numpy() > 0).all()
    assert not layer.losses
    assert not layer.weights


def test_it_stands_where_a_codebook_does(tmp_path):
    x = random.random((16, 8, 8, 1), dtype="float32")
    for quantizer in (layers.VectorQuantizer(480, seed=0), layers.FiniteScalarQuantizer(LEVELS)):
        keras.utils.set_random_seed(0)
        encoder = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 4, 4), quantizer])
        decoder = keras.Sequential([keras.Input((2, 2, 4)), keras.layers.Conv2DTranspose(1, 4, 4)])
        model = Autoencoder(encoder, decoder)
        model.compile("adam", run_eagerly=True)
        model.fit(x, verbose=0)
        model.save(tmp_path / "model.keras")
        model = keras.saving.load_model(tmp_path / "model.keras")
        last = model.encoder.layers[-1]
        assert last.num_embeddings == 480
        numbers = np.asarray(last.indices(model.encode(x)))
        assert numbers.shape == (16, 2, 2)
        decoded = model.decode(np.asarray(last.lookup(numbers)))
        np.testing.assert_allclose(decoded, model.reconstruct(x), atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_rounds_as_float32_does(policy):
    x = random.normal(0, 2, (50, 4)).astype("float32")
    half = layers.FiniteScalarQuantizer(LEVELS, dtype=policy)
    assert keras.backend.standardize_dtype(half(x).dtype) == half.compute_dtype
    cast = keras.ops.cast(x, half.compute_dtype)
    np.testing.assert_array_equal(
        half.indices(half(x)),
        layers.FiniteScalarQuantizer(LEVELS).indices(layers.FiniteScalarQuantizer(LEVELS)(cast)),
    )


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ((8, 2), "every entry of levels must be a whole number >= 3, got 2"),
        ((), r"levels must be one or more whole numbers whose product is below 2³¹, .*got \(\): take fewer"),
        ((2**16, 2**15), r"product is below 2³¹, .*got \(65536, 32768\): take fewer, or smaller ones"),
    ],
)
def test_bad_levels_are_shown(levels, message):
    with pytest.raises(ValueError, match=message):
        layers.FiniteScalarQuantizer(levels)


@pytest.mark.parametrize("shape", [(4,), (2, 3)])
def test_vectors_of_another_length_are_shown(shape):
    with pytest.raises(ValueError, match=r"a number for each of the levels \(8, 5, 3, 4\), got \("):
        layers.FiniteScalarQuantizer(LEVELS).build(shape)
