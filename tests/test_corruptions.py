import keras
import numpy as np
import pytest

from aelib import layers

N = 40_000
X = np.random.default_rng(0).uniform(0.2, 0.8, (4, N // 4)).astype("float32")
ROWS = [
    (layers.GaussianNoise, {"stddev": 0.25}),
    (layers.GaussianNoise, {"stddev": 0.5, "clip": False}),
    (layers.MaskingNoise, {"rate": 0.3}),
    (layers.SaltAndPepperNoise, {"rate": 0.3}),
]
every_layer = pytest.mark.parametrize(("kind", "options"), ROWS)


def corrupted(layer, x=X):
    return keras.ops.convert_to_numpy(layer(x, training=True))


def assert_rate(hits, rate):
    """A share of `hits` within 4 standard errors of `rate`."""
    assert abs(np.mean(hits) - rate) < 4 * np.sqrt(rate * (1 - rate) / np.size(hits))


@every_layer
def test_layer_contract(kind, options):
    layer = kind(**options, seed=3)
    first, second = corrupted(layer), corrupted(layer)
    assert first.shape == X.shape
    assert first.dtype == X.dtype
    assert not np.array_equal(first, X)
    assert not np.array_equal(first, second), "each call draws afresh"
    np.testing.assert_array_equal(corrupted(kind(**options, seed=3)), first)
    assert not np.array_equal(corrupted(kind(**options, seed=4)), first)
    np.testing.assert_array_equal(layer(X), X)
    np.testing.assert_array_equal(layer(X, training=False), X)

    config = layer.get_config()
    assert config["seed"] == 3
    assert {name: config[name] for name in options} == options
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(copy) is kind
    assert copy.get_config() == config
    np.testing.assert_array_equal(corrupted(copy), first)


@every_layer
def test_layer_inside_a_functional_model(kind, options):
    inputs = keras.Input((3, None, 1))
    model = keras.Model(inputs, kind(**options, seed=1)(inputs))
    assert model.output_shape == (None, 3, None, 1)
    x = X[:, :6].reshape(4, 3, 2, 1)
    np.testing.assert_array_equal(model.predict(x, verbose=0), x)
    assert not np.array_equal(model(x, training=True), x)


@every_layer
def test_compute_output_shape(kind, options):
    assert kind(**options).compute_output_shape((None, 5, 2)) == (None, 5, 2)


def test_gaussian_noise_is_no_brightness_shift():
    noise = corrupted(layers.GaussianNoise(0.25, clip=False, seed=0)) - X
    assert abs(noise.mean()) < 4 * 0.25 / np.sqrt(N)
    assert abs(noise.std() - 0.25) < 4 * 0.25 / np.sqrt(2 * N)


def test_gaussian_noise_is_independent_of_feature_and_sample():
    noise = corrupted(layers.GaussianNoise(1.0, clip=False, seed=0)) - X
    correlations = np.corrcoef(noise)[np.triu_indices(4, 1)]
    assert np.abs(correlations).max() < 4 / np.sqrt(N // 4)
    assert abs(np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1]) < 4 / np.sqrt(N)


def test_clip_keeps_the_range():
    clipped = corrupted(layers.GaussianNoise(1.0, seed=0))
    free = corrupted(layers.GaussianNoise(1.0, clip=False, seed=0))
    assert (free.min() < 0, free.max() > 1) == (True, True)
    np.testing.assert_array_equal(clipped, np.clip(free, 0, 1))


def test_what_is_not_in_the_unit_interval_is_not_clipped():
    """Standardised data were clipped to [0, 1]: a mean squared error of 5.5 where 0.03 is right."""
    table = np.random.default_rng(0).normal(0, 3, (200, 5)).astype("float32")
    by_rule, free = (corrupted(layers.GaussianNoise(0.1, seed=0, **o), table) for o in ({}, {"clip": False}))
    np.testing.assert_array_equal(by_rule, free)
    assert np.mean((by_rule - table) ** 2) == pytest.approx(0.01, rel=0.1)
    for spoilt in (-0.001, 1.001):
        almost = np.append(X[:, :50], np.full((4, 1), spoilt), axis=1).astype("float32")
        by_rule = corrupted(layers.GaussianNoise(0.5, seed=0), almost)
        np.testing.assert_array_equal(
            by_rule, corrupted(layers.GaussianNoise(0.5, clip=False, seed=0), almost)
        )
    always = corrupted(layers.GaussianNoise(0.1, clip=True), table)
    assert (always.min(), always.max()) == (0, 1)


def test_the_range_is_asked_of_every_batch_in_a_compiled_model():
    inputs = keras.Input((3,))
    layer = layers.GaussianNoise(1.0, seed=0)
    model = keras.Model(inputs, layer(inputs, training=True))
    x = np.concatenate([X[:, :3], X[:, :3] + 2])
    model.compile(jit_compile=True)
    noisy = model.predict(x, batch_size=4, verbose=0)
    assert noisy[:4].min() >= 0
    assert noisy[:4].max() <= 1
    assert noisy[4:].max() > 1


@every_layer
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_policies(kind, options, policy):
    layer, whole = kind(**options, seed=3, dtype=policy), kind(**options, seed=3)
    noisy = layer(X, training=True)
    assert keras.backend.standardize_dtype(noisy.dtype) == layer.compute_dtype
    np.testing.assert_allclose(np.float32(noisy), corrupted(whole), atol=0.02)


@every_layer
@pytest.mark.parametrize("dtype", ["uint8", "bool", "int64", "float64", "float16"])
def test_dtypes(kind, options, dtype):
    x = np.random.default_rng(0).integers(0, 2, (4, 50)).astype(dtype)
    layer = kind(**options, seed=3)
    assert keras.backend.standardize_dtype(layer(x).dtype) == "float32"
    np.testing.assert_array_equal(layer(x), x.astype("float32"))
    np.testing.assert_array_equal(
        corrupted(layer, x), corrupted(kind(**options, seed=3), x.astype("float32"))
    )


def test_rates_hold_in_half_precision():
    """bfloat16 knows no number between 0.4980 and 0.5: what is drawn in it is too coarse for a rate."""
    x = np.ones((100, 2000), "float32")
    for kind in (layers.MaskingNoise, layers.SaltAndPepperNoise):
        noisy = np.float32(kind(0.002, seed=0, dtype="mixed_bfloat16")(x, training=True))
        assert_rate(noisy == 0, 0.002 if kind is layers.MaskingNoise else 0.001)


def test_masking_leaves_the_survivors_as_they_are():
    masked = corrupted(layers.MaskingNoise(0.3, seed=0))
    assert_rate(masked == 0, 0.3)
    np.testing.assert_array_equal(masked[masked != 0], X[masked != 0])


def test_salt_and_pepper_rates():
    noisy = corrupted(layers.SaltAndPepperNoise(0.3, seed=0))
    assert_rate(noisy == 0, 0.15)
    assert_rate(noisy == 1, 0.15)
    kept = (noisy != 0) & (noisy != 1)
    np.testing.assert_array_equal(noisy[kept], X[kept])


@pytest.mark.parametrize("kind", [layers.MaskingNoise, layers.SaltAndPepperNoise])
def test_rates_of_nothing_and_everything(kind):
    np.testing.assert_array_equal(corrupted(kind(0)), X)
    assert np.isin(corrupted(kind(1)), [0, 1]).all()


def test_no_noise_is_the_identity():
    np.testing.assert_array_equal(corrupted(layers.GaussianNoise(0)), X)


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (layers.GaussianNoise, -0.1, "stddev must be >= 0, got -0.1"),
        (layers.GaussianNoise, float("nan"), "stddev must be >= 0, got nan"),
        (layers.GaussianNoise, "0.1", "stddev must be >= 0, got '0.1'"),
        (layers.MaskingNoise, 1.5, r"rate must be in \[0, 1\], got 1.5"),
        (layers.SaltAndPepperNoise, -1, r"rate must be in \[0, 1\], got -1"),
        (layers.SaltAndPepperNoise, float("nan"), r"rate must be in \[0, 1\], got nan"),
    ],
)
def test_bad_arguments_are_shown(kind, value, message):
    with pytest.raises(ValueError, match=message):
        kind(value)


@pytest.mark.parametrize("clip", ["always", None, 1, 0.5])
def test_a_wrong_clip_is_shown(clip):
    with pytest.raises(ValueError, match=f"clip, where .* 'auto', must be True or False, got {clip!r}"):
        layers.GaussianNoise(0.1, clip=clip)


@pytest.mark.parametrize("seed", [-1, 1.5, "1"])
def test_a_wrong_seed_is_shown(seed):
    with pytest.raises(ValueError, match=f"seed must be a whole number >= 0, got {seed!r}"):
        layers.MaskingNoise(0.1, seed=seed)


def test_numpys_numbers_are_numbers():
    layer = layers.GaussianNoise(np.float32(0.5), clip=np.bool_(False), seed=np.int64(3))
    assert layer.get_config()["clip"] is False
    assert layer.get_config()["seed"] == 3
    assert layers.PatchMasking(np.int64(4), 1).patch == 4


IMAGES = np.random.default_rng(1).uniform(0.2, 1, (50, 8, 12, 2)).astype("float32")


def test_patch_masking_hides_as_many_patches_of_every_image():
    layer = layers.PatchMasking(4, 0.5, seed=0)
    first, second = corrupted(layer, IMAGES), corrupted(layer, IMAGES)
    np.testing.assert_array_equal(layer(IMAGES), IMAGES)
    patches = first.reshape(50, 2, 4, 3, 4, 2)
    hidden = (patches == 0).all(axis=(2, 4, 5))
    shown = (patches == IMAGES.reshape(patches.shape)).all(axis=(2, 4, 5))
    assert (hidden ^ shown).all(), "a patch is hidden whole or not at all"
    assert (hidden.sum(axis=(1, 2)) == 3).all()
    assert_rate(hidden.mean(axis=0), 0.5)
    assert not np.array_equal(first, second)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    np.testing.assert_array_equal(corrupted(copy, IMAGES), first)
    mask = keras.ops.convert_to_numpy(layers.PatchMasking(4, 0.5, seed=0).mask(IMAGES))
    np.testing.assert_array_equal(first, IMAGES * (1 - mask))


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_patch_masking_takes_bytes_under_any_policy(policy):
    images = np.full((20, 8, 8, 1), 7, "uint8")
    masked = np.float32(layers.PatchMasking(2, 0.5, seed=0, dtype=policy)(images, training=True))
    assert (np.count_nonzero(masked.reshape(20, -1), axis=1) == 32).all()
    np.testing.assert_array_equal(np.unique(masked), [0, 7])


def test_patch_masking_of_nothing_and_everything():
    np.testing.assert_array_equal(corrupted(layers.PatchMasking(4, 0), IMAGES), IMAGES)
    assert not corrupted(layers.PatchMasking(4, 1), IMAGES).any()


def test_wrong_patches_are_shown():
    with pytest.raises(ValueError, match="patch must be a whole number >= 1, got 0"):
        layers.PatchMasking(0, 0.5)
    with pytest.raises(ValueError, match=r"rate must be in \[0, 1\], got 2"):
        layers.PatchMasking(4, 2)
    with pytest.raises(ValueError, match=r"patches of 4, got shape \(None, None, 8, 1\)"):
        layers.PatchMasking(4, 0.5)(keras.Input((None, 8, 1)))
    with pytest.raises(ValueError, match=r"patches of 5, got shape \(50, 8, 12, 2\)"):
        layers.PatchMasking(5, 0.5)(IMAGES)
