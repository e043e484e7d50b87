"""Layers that autoencoders need and Keras lacks: corruptions, sparse codes, tied weights."""

from contextlib import contextmanager

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
class KSparse(keras.layers.Layer):
    """Keeps the `k` largest numbers of a code and sets the others to 0: (B, K) -> (B, K).

    Makhzani & Frey (2013), section 2. Gradients pass through the numbers kept, and through no other.

    Parameters
    ----------
    k : int
        How many numbers of a code are kept; equal ones at the border are kept all.
    per : {"sample", "batch"}
        Of every code by itself; or the ``k * B`` largest of a whole batch, so that simple samples can do with
        fewer (Bussmann et al., 2024). Outside training the latter keeps what reaches the mean border of the
        batches seen, so that a code does not depend on its neighbours.
    """

    def __init__(self, k, *, per="sample", **kwargs):
        super().__init__(**kwargs)
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise ValueError(f"k must be a whole number >= 1, got {k!r}")
        if per not in ("sample", "batch"):
            raise ValueError(f"per must be 'sample' or 'batch', got {per!r}")
        self.k = k
        self.per = per

    def build(self, input_shape):
        """Check that there are `k` numbers to keep."""
        if len(input_shape) != 2 or input_shape[1] < self.k:
            raise ValueError(f"codes must have shape (B, >= {self.k}), got {tuple(input_shape)}")
        if self.per == "batch":
            self.border = self.add_weight(shape=(), initializer="zeros", trainable=False, name="border")
            self.batches = self.add_weight(shape=(), initializer="zeros", trainable=False, name="batches")

    def call(self, x, training=None):
        """Return the code with all but its largest numbers at 0."""
        if self.per == "sample":
            border = ops.top_k(x, self.k)[0][:, -1:]
        elif training:
            ordered = ops.sort(ops.reshape(x, (-1,)))
            border = ordered[-self.k * ops.shape(x)[0]]
            self.batches.assign_add(1.0)
            # The plain mean of the first hundred batches, then a running one.
            pace = 1 / ops.minimum(self.batches, 100.0)
            seen = ops.stop_gradient(ops.cast(border, self.border.dtype))
            self.border.assign_add(pace * (seen - self.border))
        else:
            border = ops.cast(self.border, x.dtype)
        return ops.where(x >= border, x, ops.zeros_like(x))

    def compute_output_shape(self, input_shape):
        """Return the shape of the input."""
        return input_shape

    def get_config(self):
        """Return what rebuilds the layer."""
        return super().get_config() | {"k": self.k, "per": self.per}


_encoders = []


@contextmanager
def sharing(encoder):
    """Let the tied layers that are rebuilt inside the block take their sources, by name, from `encoder`.

    Keras shares no layers between two models when it loads them.
    """
    _encoders.append({layer.name: layer for layer in encoder.layers})
    try:
        yield
    finally:
        _encoders.pop()


@_register
class TiedDense(keras.layers.Layer):
    """A dense layer with another one's kernel, transposed, and a bias of its own: (B, K) -> (B, D).

    Parameters
    ----------
    source : keras.layers.Dense
        Built already. An `Autoencoder` saved whole keeps the two tied.
    activation : str or callable, optional
    """

    def __init__(self, source, *, activation=None, **kwargs):
        super().__init__(**kwargs)
        if getattr(source, "kernel", None) is None:
            raise ValueError(f"source must be a dense layer that has been built, got {source!r}")
        self.source = source
        self.activation = keras.activations.get(activation)

    def build(self, input_shape):
        """Make the bias."""
        features, units = self.source.kernel.shape
        if input_shape[-1] != units:
            raise ValueError(f"the source gives codes of {units}, got inputs of shape {tuple(input_shape)}")
        self.bias = self.add_weight(shape=(features,), initializer="zeros", name="bias")

    def call(self, code):
        """Return ``activation(code · kernelᵀ + bias)``."""
        return self.activation(ops.matmul(code, ops.transpose(self.source.kernel)) + self.bias)

    def compute_output_shape(self, input_shape):
        """Return the input's shape with as many features as the source reads."""
        return (*input_shape[:-1], self.source.kernel.shape[0])

    def get_config(self):
        """Return what rebuilds the layer."""
        parts = {
            "source": keras.saving.serialize_keras_object(self.source),
            "activation": keras.activations.serialize(self.activation),
        }
        return super().get_config() | parts

    @classmethod
    def from_config(cls, config):
        """Rebuild the layer from `get_config`, with the source that `sharing` knows, or one of its own."""
        name = config["source"]["config"]["name"]
        source = _encoders[-1].get(name) if _encoders else None
        return cls(**config | {"source": source or keras.saving.deserialize_keras_object(config["source"])})
