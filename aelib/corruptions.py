"""Corruptions: random changes of the input that act in training only. Import them from `aelib.layers`."""

import keras
from keras import ops

_register = keras.saving.register_keras_serializable("aelib")


class _Corruption(keras.layers.Layer):
    """A random change of the input, made in training only; call with ``training=True`` to force it."""

    def __init__(self, *, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.seed = seed
        self.noise = keras.random.SeedGenerator(seed)

    def call(self, x, training=None):
        return self.corrupt(x) if training else x

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return super().get_config() | {"seed": self.seed}


def _probability(name, value):
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be in [0, 1], got {value!r}")
    return float(value)


@_register
class GaussianNoise(_Corruption):
    """Adds independent noise of mean 0 to every feature, then clips to [0, 1]: the corruption of a DAE.

    Vincent et al. (2010), section 3.3. Unlike `keras.layers.GaussianNoise` it stays in the range of the data.

    Parameters
    ----------
    stddev : float
        Standard deviation of the noise, in units of the data; at least 0.
    clip : bool
        Whether to clip the result to [0, 1]. Turn it off for data that are not images.
    seed : int, optional
    """

    def __init__(self, stddev, *, clip=True, seed=None, **kwargs):
        super().__init__(seed=seed, **kwargs)
        if not stddev >= 0:
            raise ValueError(f"stddev must be >= 0, got {stddev!r}")
        self.stddev = float(stddev)
        self.clip = bool(clip)

    def corrupt(self, x):
        """Return `x` with noise, of the same shape."""
        noisy = x + self.stddev * keras.random.normal(ops.shape(x), dtype=x.dtype, seed=self.noise)
        return ops.clip(noisy, 0.0, 1.0) if self.clip else noisy

    def get_config(self):
        """Return what rebuilds the layer."""
        return super().get_config() | {"stddev": self.stddev, "clip": self.clip}


@_register
class MaskingNoise(_Corruption):
    """Sets each feature to 0 with probability `rate`: Vincent et al. (2010), section 3.3.

    Dropout rescales the survivors; masking noise must not, since the input has to stay in its range.
    """

    def __init__(self, rate, *, seed=None, **kwargs):
        super().__init__(seed=seed, **kwargs)
        self.rate = _probability("rate", rate)

    def corrupt(self, x):
        """Return `x` with a share `rate` of its features at 0."""
        draw = keras.random.uniform(ops.shape(x), dtype=x.dtype, seed=self.noise)
        return ops.where(draw < self.rate, ops.zeros_like(x), x)

    def get_config(self):
        """Return what rebuilds the layer."""
        return super().get_config() | {"rate": self.rate}


@_register
class SaltAndPepperNoise(_Corruption):
    """Sets each feature, with probability `rate`, to 0 or to 1 by a fair coin: Vincent et al. (2010), 3.3."""

    def __init__(self, rate, *, seed=None, **kwargs):
        super().__init__(seed=seed, **kwargs)
        self.rate = _probability("rate", rate)

    def corrupt(self, x):
        """Return `x` with a share ``rate / 2`` of its features at 0 and as many at 1."""
        draw = keras.random.uniform(ops.shape(x), dtype=x.dtype, seed=self.noise)
        salted = ops.where(draw < self.rate, ops.ones_like(x), x)
        return ops.where(draw < self.rate / 2, ops.zeros_like(x), salted)

    def get_config(self):
        """Return what rebuilds the layer."""
        return super().get_config() | {"rate": self.rate}


@_register
class PatchMasking(_Corruption):
    """Sets a share of an image's square patches to 0: (B, H, W, C) -> (B, H, W, C).

    The input of a masked autoencoder (He et al., 2022, section 3). Every image loses patches of its own, and
    as many as any other.

    Parameters
    ----------
    patch : int
        Side of a patch in pixels; the height and the width must be multiples of it.
    rate : float
        Share of the patches to mask, in [0, 1]; rounded to whole patches.
    seed : int, optional
    """

    def __init__(self, patch, rate, *, seed=None, **kwargs):
        super().__init__(seed=seed, **kwargs)
        if isinstance(patch, bool) or not isinstance(patch, int) or patch < 1:
            raise ValueError(f"patch must be a whole number >= 1, got {patch!r}")
        self.patch = patch
        self.rate = _probability("rate", rate)

    def build(self, input_shape):
        """Check that patches tile the image."""
        if len(input_shape) != 4 or input_shape[1] % self.patch or input_shape[2] % self.patch:
            raise ValueError(
                f"images must be tiled by patches of {self.patch}, got shape {tuple(input_shape)}"
            )

    def mask(self, x):
        """Draw a mask for `x`, 1 where a pixel is hidden: (B, H, W, 1)."""
        batch, height, width = ops.shape(x)[0], x.shape[1] // self.patch, x.shape[2] // self.patch
        draw = keras.random.uniform((batch, height * width), dtype=x.dtype, seed=self.noise)
        hidden = round(self.rate * height * width)
        rank = ops.argsort(ops.argsort(draw, axis=1), axis=1)
        grid = ops.reshape(ops.cast(rank < hidden, x.dtype), (batch, height, width, 1))
        return ops.repeat(ops.repeat(grid, self.patch, axis=1), self.patch, axis=2)

    def corrupt(self, x):
        """Return `x` with the masked patches at 0."""
        return x * (1 - self.mask(x))

    def get_config(self):
        """Return what rebuilds the layer."""
        return super().get_config() | {"patch": self.patch, "rate": self.rate}
