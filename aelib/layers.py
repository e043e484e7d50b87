"""Layers that autoencoders need and Keras lacks: corruptions, sparse and random codes, tied weights."""

from contextlib import contextmanager

import keras
from keras import ops

from aelib.corruptions import GaussianNoise, MaskingNoise, PatchMasking, SaltAndPepperNoise
from aelib.quantizer import VectorQuantizer

__all__ = [
    "GaussianNoise",
    "KSparse",
    "MaskingNoise",
    "PatchMasking",
    "SaltAndPepperNoise",
    "Sampling",
    "TiedDense",
    "VectorQuantizer",
    "sharing",
]

_register = keras.saving.register_keras_serializable("aelib")


@_register
class Sampling(keras.layers.Layer):
    """Draws a code from a normal distribution and lets gradients through: (B, K), (B, K) -> (B, K).

    The reparameterisation z = μ + e^(½ log σ²) ε with ε from N(0, I) (Kingma & Welling, 2014, section 2.4).
    The second input is the logarithm of the **variance**. It draws in training and outside of it.

    Parameters
    ----------
    seed : int, optional
    """

    def __init__(self, *, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.seed = seed
        self.noise = keras.random.SeedGenerator(seed)

    def call(self, mean, log_var):
        """Return one draw for each sample."""
        draw = keras.random.normal(ops.shape(mean), dtype=mean.dtype, seed=self.noise)
        return mean + ops.exp(0.5 * log_var) * draw

    def get_config(self):
        """Return what rebuilds the layer."""
        return super().get_config() | {"seed": self.seed}


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
