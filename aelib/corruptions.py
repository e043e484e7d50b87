"""Corruptions: random changes of the input that act in training only. Import them from `aelib.layers`.

Whole numbers and booleans come out in the layer's compute dtype, as floats do; noise is drawn in float32, for
half precision knows too few probabilities.
"""

from typing import Any, Literal

import keras
from keras import ops

from aelib import checks

_register = keras.saving.register_keras_serializable("aelib")


class _Corruption(keras.layers.Layer):
    """A random change of the input, made in training only; call with ``training=True`` to force it."""

    def __init__(self, *, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seed = checks.seed("seed", seed)
        self.noise = keras.random.SeedGenerator(self.seed)

    def call(self, x, training=None):
        x = ops.cast(x, self.compute_dtype)
        return self.corrupt(x) if training else x

    def _uniform(self, shape: Any) -> Any:
        """Draw numbers from [0, 1)."""
        return keras.random.uniform(shape, dtype="float32", seed=self.noise)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"seed": self.seed}


@_register
class GaussianNoise(_Corruption):
    """Adds independent noise of mean 0 to every feature: the corruption of a denoising autoencoder.

    Vincent et al. (2010), section 3.3. Unlike `keras.layers.GaussianNoise` it stays in the range of images.

    Parameters
    ----------
    stddev : float
        Standard deviation of the noise, in units of the data; at least 0.
    clip : "auto" or bool
        Whether to clip the result to [0, 1]. With "auto" a batch is clipped if all its own numbers lie in
        [0, 1], as those of images do and those of a standardised table do not. Say False for other data that
        may happen to lie there, such as small counts.
    seed : int, optional

    Examples
    --------
    >>> import numpy as np
    >>> from aelib.layers import GaussianNoise
    >>> x = np.full((1, 4), 0.5, "float32")
    >>> noise = GaussianNoise(0.1, seed=0)
    >>> bool((noise(x, training=True) != x).numpy().any()), bool((noise(x) != x).numpy().any())
    (True, False)
    """

    def __init__(
        self, stddev: float, *, clip: Literal["auto"] | bool = "auto", seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(seed=seed, **kwargs)
        self.stddev = checks.number("stddev", stddev, least=0)
        if isinstance(clip, str) and clip == "auto":
            self.clip = clip
        else:
            self.clip = checks.flag("clip, where it is not 'auto',", clip)  # type: ignore[assignment]

    def corrupt(self, x: Any) -> Any:
        """Return `x` with noise, of the same shape."""
        noise = keras.random.normal(ops.shape(x), dtype="float32", seed=self.noise)
        noisy = x + ops.cast(self.stddev * noise, x.dtype)
        if self.clip == "auto":
            unit_interval = ops.logical_and(ops.min(x) >= 0, ops.max(x) <= 1)
            return ops.where(unit_interval, ops.clip(noisy, 0.0, 1.0), noisy)
        return ops.clip(noisy, 0.0, 1.0) if self.clip else noisy

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds the layer."""
        return super().get_config() | {"stddev": self.stddev, "clip": self.clip}


@_register
class MaskingNoise(_Corruption):
    """Sets each feature to `value` with probability `rate`, to 0 in Vincent et al. (2010), section 3.3.

    Dropout rescales the survivors; masking noise must not, since the input has to stay in its range. The 0 is
    black in an image, and the mean of centred data; in other data it is a value like any other, so centre
    these first.

    Parameters
    ----------
    rate : float
        Share of the features to set, in [0, 1].
    value : float
        What they are set to: a number that data do not hold tells the encoder which features are hidden.
    seed : int, optional

    Examples
    --------
    >>> import numpy as np
    >>> from aelib.layers import MaskingNoise
    >>> x = np.full((1, 4), 0.5, "float32")
    >>> noise = MaskingNoise(0.5, seed=0)
    >>> bool((noise(x, training=True) != x).numpy().any()), bool((noise(x) != x).numpy().any())
    (True, False)
    """

    def __init__(self, rate: float, *, value: float = 0.0, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(seed=seed, **kwargs)
        self.rate = checks.share("rate", rate)
        self.value = checks.number("value", value)

    def corrupt(self, x: Any) -> Any:
        """Return `x` with a share `rate` of its features at `value`."""
        return ops.where(self._uniform(ops.shape(x)) < self.rate, ops.full_like(x, self.value), x)

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds the layer."""
        return super().get_config() | {"rate": self.rate, "value": self.value}


@_register
class SaltAndPepperNoise(_Corruption):
    """Sets each feature, with probability `rate`, to 0 or to 1 by a fair coin: Vincent et al. (2010), 3.3.

    For images in [0, 1], whose ends these are. Nothing is checked: in a standardised table 0 and 1 are the
    mean and a number near it, so that hardly anything is corrupted; use `GaussianNoise` there.

    Parameters
    ----------
    rate : float
        Share of the features to set, in [0, 1].
    seed : int, optional

    Examples
    --------
    >>> import numpy as np
    >>> from aelib.layers import SaltAndPepperNoise
    >>> x = np.full((1, 4), 0.5, "float32")
    >>> noise = SaltAndPepperNoise(0.9, seed=0)
    >>> bool((noise(x, training=True) != x).numpy().any()), bool((noise(x) != x).numpy().any())
    (True, False)
    """

    def __init__(self, rate: float, *, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(seed=seed, **kwargs)
        self.rate = checks.share("rate", rate)

    def corrupt(self, x: Any) -> Any:
        """Return `x` with a share ``rate / 2`` of its features at 0 and as many at 1."""
        draw = self._uniform(ops.shape(x))
        salted = ops.where(draw < self.rate, ops.ones_like(x), x)
        return ops.where(draw < self.rate / 2, ops.zeros_like(x), salted)

    def get_config(self) -> dict[str, Any]:
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

    def __init__(self, patch: int, rate: float, *, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(seed=seed, **kwargs)
        self.patch = checks.whole_number("patch", patch)
        self.rate = checks.share("rate", rate)

    def build(self, input_shape):
        """Check that patches tile the image."""
        sides = tuple(input_shape)[1:3]
        if len(input_shape) != 4 or None in sides or any(side % self.patch for side in sides):
            raise ValueError(
                f"images must be tiled by patches of {self.patch}, got shape {tuple(input_shape)}"
            )

    def mask(self, x: Any) -> Any:
        """Draw a mask for `x`, 1 where a pixel is hidden: (B, H, W, 1)."""
        batch, height, width = ops.shape(x)[0], x.shape[1] // self.patch, x.shape[2] // self.patch
        draw = self._uniform((batch, height * width))
        hidden = round(self.rate * height * width)
        rank = ops.argsort(ops.argsort(draw, axis=1), axis=1)
        grid = ops.reshape(ops.cast(rank < hidden, x.dtype), (batch, height, width, 1))
        return ops.repeat(ops.repeat(grid, self.patch, axis=1), self.patch, axis=2)

    def corrupt(self, x: Any) -> Any:
        """Return `x` with the masked patches at 0."""
        return x * (1 - self.mask(x))

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds the layer."""
        return super().get_config() | {"patch": self.patch, "rate": self.rate}
