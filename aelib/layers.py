"""Layers that autoencoders need and Keras lacks: corruptions, sparse and random codes, tied weights."""

from collections.abc import Callable
from typing import Any, Literal, Self

import keras
from keras import ops

from aelib import checks
from aelib.corruptions import GaussianNoise, MaskingNoise, PatchMasking, SaltAndPepperNoise
from aelib.quantizer import FiniteScalarQuantizer, VectorQuantizer

__all__ = [
    "FiniteScalarQuantizer",
    "GaussianNoise",
    "KSparse",
    "MaskingNoise",
    "PatchMasking",
    "SaltAndPepperNoise",
    "Sampling",
    "TiedDense",
    "VectorQuantizer",
    "retie",
]

_register = keras.saving.register_keras_serializable("aelib")


def _at_least_float32(dtype: str) -> str:
    """Return the dtype in which to draw and to compare: half precision is too coarse for both."""
    return keras.backend.result_type(dtype, "float32")


@_register
class Sampling(keras.layers.Layer):
    """Draws a code from a normal distribution and lets gradients through: (B, K), (B, K) -> (B, K).

    The reparameterisation z = μ + e^(½ log σ²) ε with ε from N(0, I) (Kingma & Welling, 2014, section 2.4).
    The second input is the logarithm of the **variance**. It draws in training and outside of it, in float32
    also where the net computes in half precision.

    Parameters
    ----------
    seed : int, optional

    Examples
    --------
    >>> import numpy as np
    >>> from aelib.layers import Sampling
    >>> mean, log_var = np.zeros((5, 2), "float32"), np.full((5, 2), -60, "float32")
    >>> bool(abs(Sampling(seed=0)(mean, log_var).numpy()).max() < 1e-6)
    True
    """

    def __init__(self, *, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seed = checks.seed("seed", seed)
        self.noise = keras.random.SeedGenerator(self.seed)

    def call(self, mean, log_var):
        """Return one draw for each sample."""
        dtype = _at_least_float32(self.compute_dtype)
        mean, log_var = ops.cast(mean, dtype), ops.cast(log_var, dtype)
        draw = keras.random.normal(ops.shape(mean), dtype=dtype, seed=self.noise)
        return ops.cast(mean + ops.exp(0.5 * log_var) * draw, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
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

    Examples
    --------
    >>> import numpy as np
    >>> from aelib.layers import KSparse
    >>> KSparse(2)(np.float32([[3, 1, 2]])).numpy().tolist()
    [[3.0, 0.0, 2.0]]
    """

    def __init__(self, k: int, *, per: Literal["sample", "batch"] = "sample", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.k = checks.whole_number("k", k)
        self.per = checks.choice("per", per, ("sample", "batch"))

    def build(self, input_shape):
        """Check that there are `k` numbers to keep."""
        if len(input_shape) != 2 or input_shape[1] is None or input_shape[1] < self.k:
            raise ValueError(f"codes must have shape (B, >= {self.k}), got {tuple(input_shape)}")
        if self.per == "batch":
            state = {"shape": (), "initializer": "zeros", "trainable": False, "autocast": False}
            dtype = _at_least_float32(self.variable_dtype)
            self.border = self.add_weight(name="border", dtype=dtype, **state)
            self.batches = self.add_weight(name="batches", dtype=dtype, **state)

    def call(self, x, training=None):
        """Return the code with all but its largest numbers at 0."""
        x = ops.cast(x, self.compute_dtype)
        values = ops.cast(x, _at_least_float32(self.compute_dtype))
        if self.per == "sample":
            border = ops.top_k(values, self.k)[0][:, -1:]
        elif training:
            ordered = ops.sort(ops.reshape(values, (-1,)))
            border = ordered[-self.k * ops.shape(x)[0]]
            self.batches.assign_add(1.0)
            # The plain mean of the first hundred batches, then a running one.
            pace = 1 / ops.minimum(self.batches, 100.0)
            seen = ops.stop_gradient(ops.cast(border, self.border.dtype))
            self.border.assign_add(pace * (seen - self.border))
        else:
            border = ops.cast(self.border, values.dtype)
        return ops.where(values >= border, x, ops.zeros_like(x))

    def compute_output_shape(self, input_shape):
        """Return the shape of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds the layer."""
        return super().get_config() | {"k": self.k, "per": self.per}


@_register
class TiedDense(keras.layers.Layer):
    """A dense layer with another one's kernel, transposed, and a bias of its own: (B, K) -> (B, D).

    Saved within an `Autoencoder` the two stay tied; a decoder saved alone keeps a kernel of its own. After
    ``model.quantize("int8")`` it reads the quantised kernel too.

    Parameters
    ----------
    source : keras.layers.Dense
        Built already.
    activation : str or callable, optional
    """

    def __init__(
        self, source: keras.layers.Dense, *, activation: str | Callable[..., Any] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.source = self._checked(source)
        self.activation = keras.activations.get(activation)

    @staticmethod
    def _checked(source: Any) -> Any:
        if getattr(source, "kernel", None) is None:
            raise ValueError(f"source must be a dense layer that has been built, got {source!r}")
        return source

    def tie(self, source: keras.layers.Dense) -> None:
        """Take the kernel of `source`, another dense layer, from now on."""
        tracker, locked = self._tracker, self._tracker.locked
        tracker.unlock()  # Keras locks the parts of a layer that has been built
        tracker.untrack(self.source)
        self.source = self._checked(source)
        if locked:
            tracker.lock()

    def build(self, input_shape):
        """Make the bias."""
        features, units = self.source.kernel.shape
        if input_shape[-1] != units:
            raise ValueError(f"the source gives codes of {units}, got inputs of shape {tuple(input_shape)}")
        self.bias = self.add_weight(shape=(features,), initializer="zeros", name="bias")

    def call(self, code):
        """Return ``activation(code · kernelᵀ + bias)``."""
        code = ops.cast(code, self.compute_dtype)
        return self.activation(ops.matmul(code, ops.transpose(self._kernel())) + self.bias)

    def _kernel(self) -> Any:
        """Return the source's kernel as floats, (D, K)."""
        kernel, mode = self.source.kernel, self.source.quantization_mode
        if mode in (None, "float8"):  # the latter stores floats, and rounds when it multiplies
            return kernel
        if mode == "int8":
            scale = ops.cast(self.source.kernel_scale, self.compute_dtype)
            return ops.cast(kernel, self.compute_dtype) / scale
        raise ValueError(
            f"a TiedDense layer cannot read the kernel of {self.source.name!r}, quantised to {mode}: "
            f"quantize('int8'), or leave it out by quantize({mode!r}, filters=...)"
        )

    def compute_output_shape(self, input_shape):
        """Return the input's shape with as many features as the source reads."""
        return (*input_shape[:-1], self.source.kernel.shape[0])

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds the layer."""
        parts = {
            "source": keras.saving.serialize_keras_object(self.source),
            "activation": keras.activations.serialize(self.activation),
        }
        return super().get_config() | parts

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Rebuild the layer from `get_config`, with a source of its own; `retie` gives it the encoder's."""
        return cls(**config | {"source": keras.saving.deserialize_keras_object(config["source"])})


def retie(decoder: keras.Model, encoder: keras.Model) -> None:
    """Tie the `TiedDense` layers of `decoder` to the layers of `encoder` that have their sources' names.

    Keras shares no layer between two models that it rebuilds: each tied layer comes with a source of its own.
    Call this before weights are loaded. A source that `encoder` does not hold stays as it is.

    Parameters
    ----------
    decoder, encoder : keras.Model
        Just rebuilt; layers within layers are found too.
    """
    sources = {layer.name: layer for layer in encoder._flatten_layers() if hasattr(layer, "kernel")}
    for layer in [layer for layer in decoder._flatten_layers() if isinstance(layer, TiedDense)]:
        source = sources.get(layer.source.name)
        if source is not None and tuple(source.kernel.shape) == tuple(layer.source.kernel.shape):
            layer.tie(source)
