"""Small trained nets with weights of 8 bits, for the figures that run a net in the page (`aelib.book.live`).

A net is a chain of operations. Each is evaluated here with NumPy and in `book/_static/live.js` by the same
formula from the same stored numbers, so that one can be tested against the other.
"""

import base64
import math
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike
from scipy import special

from aelib import corruptions

_FUNCTIONS = {
    "linear": lambda x, _: x,
    "relu": lambda x, _: np.maximum(x, 0),
    "sigmoid": lambda x, _: special.expit(x),
    "tanh": lambda x, _: np.tanh(x),
    "silu": lambda x, _: x * special.expit(x),
    "gelu": lambda x, _: x * special.ndtr(x),
    "leaky_relu": lambda x, slope: np.where(x < 0, slope * x, x),
    "elu": lambda x, alpha: np.where(x < 0, alpha * np.expm1(np.minimum(x, 0)), x),
    "softplus": lambda x, _: np.logaddexp(x, 0),
}
#: Layers that do nothing outside training.
_IDLE = (
    keras.layers.InputLayer,
    keras.layers.Dropout,
    keras.layers.SpatialDropout2D,
    keras.layers.GaussianNoise,
    keras.layers.GaussianDropout,
    keras.layers.ActivityRegularization,
    corruptions._Corruption,
)
_READS = (
    "a live figure reads Dense, Conv2D, Conv2DTranspose, UpSampling2D, MaxPooling2D, GlobalAveragePooling2D, "
    "BatchNormalization, Flatten, Reshape, Cropping2D and the activations " + ", ".join(_FUNCTIONS)
)


def encoded(values: np.ndarray) -> str:
    """Write an array as base64 of its bytes, little-endian, in C order."""
    return base64.b64encode(np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()).decode()


@dataclass(frozen=True)
class Weights:
    """Weights of 8 bits, w ≈ values · gain · scale, in rows: a kernel has height · width · inputs of them.

    Attributes
    ----------
    values : ndarray (..., outputs) of int8
        From -127 to 127.
    gain : ndarray (rows,) of float32
    scale : ndarray (outputs,) of float32
    """

    values: np.ndarray
    gain: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, weights: ArrayLike) -> "Weights":
        """Round weights (..., outputs), in a step for each output or for each row, by which errs less.

        A trained net has single weights that are far larger than the rest, often all in one row, of a pixel
        that is seldom lit. With steps for the outputs alone, each of them would coarsen a whole column.
        """
        weights = np.asarray(weights, np.float32)
        matrix = weights.reshape(-1, weights.shape[-1])
        ones = [np.ones(n, np.float32) for n in matrix.shape]
        steps = [_step(np.abs(matrix).max(axis=1 - axis)) for axis in (0, 1)]
        tries = [
            cls(np.rint(matrix / gain[:, None] / scale).astype(np.int8), gain, scale)
            for gain, scale in ((ones[0], steps[1]), (steps[0], ones[1]))
        ]
        best = min(tries, key=lambda each: np.square(each.floats - matrix).sum())
        return cls(best.values.reshape(weights.shape), best.gain, best.scale)

    @property
    def floats(self) -> np.ndarray:
        """The weights as the net uses them, (..., outputs) of float32."""
        matrix = self.values.reshape(-1, len(self.scale)) * self.gain[:, None] * self.scale
        return matrix.reshape(self.values.shape)

    def packed(self) -> dict[str, Any]:
        """Return what the script takes."""
        return {name: encoded(getattr(self, name)) for name in ("values", "gain", "scale")}


def _step(largest):
    return np.where(largest > 0, largest / 127, 1).astype(np.float32)


@dataclass(frozen=True)
class _Activation:
    """A function of every number; `parameter` is the slope of a leaky ReLU or the alpha of an ELU."""

    function: str = "linear"
    parameter: float | None = None

    def __call__(self, x: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            return _FUNCTIONS[self.function](x, self.parameter).astype(np.float32)

    def packed(self) -> dict[str, Any]:
        return {"kind": "activation", "activation": [self.function, self.parameter]}


@dataclass(frozen=True)
class _Dense:
    """(..., inputs) -> (..., outputs): a product with a matrix (inputs, outputs), bias, activation."""

    weights: Weights
    bias: np.ndarray
    activation: _Activation = field(default_factory=_Activation)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self.activation(x @ self.weights.floats + self.bias)

    def packed(self) -> dict[str, Any]:
        return {
            "kind": "dense",
            **self.weights.packed(),
            "bias": encoded(self.bias),
            "activation": self.activation.packed()["activation"],
        }


@dataclass(frozen=True)
class _Convolution:
    """(H, W, inputs) -> (H', W', outputs) with a kernel (h, w, inputs, outputs).

    With `transposed`, each input pixel adds its multiple of the kernel to the output, whose first `before`
    rows and columns are cut off; otherwise `before` rows and columns of 0 are set before the input.
    """

    weights: Weights
    bias: np.ndarray
    activation: _Activation
    strides: tuple
    before: tuple
    shape: tuple
    transposed: bool = False

    def __call__(self, x: np.ndarray) -> np.ndarray:
        out = (self._spread if self.transposed else self._gathered)(x, self.weights.floats)
        return self.activation(out + self.bias)

    def _gathered(self, x, kernel):
        (h, w), sides = self.shape[:2], kernel.shape[:2]
        need = [(n - 1) * s + k for n, s, k in zip((h, w), self.strides, sides, strict=True)]
        widths = [
            (p, max(0, n - p - size)) for p, n, size in zip(self.before, need, x.shape[1:3], strict=True)
        ]
        x = np.pad(x, [(0, 0), *widths, (0, 0)])[:, : need[0], : need[1]]
        windows = sliding_window_view(x, sides, axis=(1, 2))[:, :: self.strides[0], :: self.strides[1]]
        return np.tensordot(windows, kernel, [(4, 5, 3), (0, 1, 2)])  # (n, H', W', C, h, w) -> (n, H', W', F)

    def _spread(self, x, kernel):
        sides, sizes, out = kernel.shape[:2], x.shape[1:3], self.shape[:2]
        reach = [(n - 1) * s + 1 for n, s in zip(sizes, self.strides, strict=True)]
        whole = [max(r + k - 1, b + o) for r, k, b, o in zip(reach, sides, self.before, out, strict=True)]
        canvas = np.zeros((len(x), *whole, kernel.shape[3]), np.float32)
        for r, c in np.ndindex(*sides):
            rows = slice(r, r + reach[0], self.strides[0])
            columns = slice(c, c + reach[1], self.strides[1])
            canvas[:, rows, columns] += x @ kernel[r, c]
        top, left = self.before
        return canvas[:, top : top + out[0], left : left + out[1]]

    def packed(self) -> dict[str, Any]:
        return {
            "kind": "transposed" if self.transposed else "convolution",
            **self.weights.packed(),
            "bias": encoded(self.bias),
            "activation": self.activation.packed()["activation"],
            "kernel": list(self.weights.values.shape[:2]),
            "strides": list(self.strides),
            "before": list(self.before),
            "shape": list(self.shape),
        }


@dataclass(frozen=True)
class _Affine:
    """A factor and a shift for each channel: batch normalisation that could not be folded."""

    factor: np.ndarray
    shift: np.ndarray

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return x * self.factor + self.shift

    def packed(self) -> dict[str, Any]:
        return {"kind": "affine", "factor": encoded(self.factor), "shift": encoded(self.shift)}


@dataclass(frozen=True)
class _MaxPooling:
    """The greatest number of each window; what lies outside the picture counts as minus infinity."""

    pool: tuple
    strides: tuple
    before: tuple
    shape: tuple

    def __call__(self, x: np.ndarray) -> np.ndarray:
        need = [(n - 1) * s + p for n, s, p in zip(self.shape[:2], self.strides, self.pool, strict=True)]
        widths = [
            (b, max(0, n - b - size)) for b, n, size in zip(self.before, need, x.shape[1:3], strict=True)
        ]
        x = np.pad(x, [(0, 0), *widths, (0, 0)], constant_values=-np.inf)[:, : need[0], : need[1]]
        windows = sliding_window_view(x, self.pool, axis=(1, 2))
        return windows[:, :: self.strides[0], :: self.strides[1]].max(axis=(4, 5))

    def packed(self) -> dict[str, Any]:
        return {"kind": "max", **{name: list(value) for name, value in vars(self).items()}}


@dataclass(frozen=True)
class _UpSampling:
    """Each pixel repeated `factor` times down and across."""

    factor: tuple
    shape: tuple

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return x.repeat(self.factor[0], axis=1).repeat(self.factor[1], axis=2)

    def packed(self) -> dict[str, Any]:
        return {"kind": "repeat", "factor": list(self.factor), "shape": list(self.shape)}


@dataclass(frozen=True)
class _Cropping:
    """A picture without its first `before` rows and columns, and of the size that `shape` says."""

    before: tuple
    shape: tuple

    def __call__(self, x: np.ndarray) -> np.ndarray:
        (top, left), (h, w) = self.before, self.shape[:2]
        return x[:, top : top + h, left : left + w]

    def packed(self) -> dict[str, Any]:
        return {"kind": "crop", "before": list(self.before), "shape": list(self.shape)}


@dataclass(frozen=True)
class _GlobalAverage:
    """(H, W, C) -> (C,): the mean over all places."""

    shape: tuple

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return x.mean(axis=(1, 2)).reshape(len(x), *self.shape)

    def packed(self) -> dict[str, Any]:
        return {"kind": "average", "shape": list(self.shape)}


@dataclass(frozen=True)
class _Reshaping:
    """The same numbers in another shape."""

    shape: tuple

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return x.reshape(len(x), *self.shape)

    def packed(self) -> dict[str, Any]:
        return {"kind": "reshape", "shape": list(self.shape)}


@dataclass(frozen=True)
class QuantizedNet:
    """A chain of operations whose weights have 8 bits.

    Attributes
    ----------
    input_shape, output_shape : tuple of int
        Of one sample.
    operations : tuple
        Each a function of ndarray (n, ...) of float32.
    """

    input_shape: tuple
    output_shape: tuple
    operations: tuple

    @classmethod
    def from_keras(cls, model: Any, *, outputs: int | None = None) -> "QuantizedNet":
        """Read a built Keras model that is a chain of layers.

        Batch normalisation is folded into the weights of the layer before it, where that has no activation.

        Parameters
        ----------
        model : keras.Model or keras.layers.Layer
            Sequential or functional, other such models inside included.
        outputs : int, optional
            Keep only so many of the outputs of the last layer, which must then be dense: the means, of an
            encoder that gives means and log-variances.

        Returns
        -------
        QuantizedNet

        Raises
        ------
        ValueError
            For a layer, or an option of a layer, that the script cannot compute; it is named.
        """
        stages, shape = [], _sample_shape(model, "input_shape")
        first = shape
        for layer in _chain(model):
            given, shape = shape, tuple(layer.compute_output_shape((None, *shape))[1:])
            for stage in _read(layer, given, shape):
                _append(stages, stage)
        if outputs is not None:
            last = stages.pop() if stages else None
            if not isinstance(last, _Linear) or last.kind != "dense" or last.kernel.shape[1] < outputs:
                raise ValueError(
                    f"{model.name} must end in a Dense layer of at least {outputs} outputs, the first of "
                    f"which are the code; got {type(_chain(model)[-1]).__name__}"
                )
            stages.append(last.first(outputs))
            shape = (outputs,)
        done = (stage.quantized() if isinstance(stage, _Linear) else stage for stage in stages)
        return cls(first, shape, tuple(done))

    def __add__(self, other: "QuantizedNet") -> "QuantizedNet":
        if math.prod(self.output_shape) != math.prod(other.input_shape):
            raise ValueError(f"outputs {self.output_shape} and inputs {other.input_shape} do not go together")
        between = () if self.output_shape == other.input_shape else (_Reshaping(other.input_shape),)
        return QuantizedNet(
            self.input_shape, other.output_shape, self.operations + between + other.operations
        )

    def then(self, function: str) -> "QuantizedNet":
        """Return the net with an activation behind it."""
        if function == "linear":
            return self
        return QuantizedNet(self.input_shape, self.output_shape, (*self.operations, _Activation(function)))

    def evaluate(self, x: ArrayLike) -> np.ndarray:
        """Apply the net of 8 bits: (n, ...) -> ndarray (n, ...) of float32.

        `x` may have any shape that holds as many numbers a sample as `input_shape`.
        """
        x = np.asarray(x, np.float32)
        if x.ndim < 1 or x.size != len(x) * math.prod(self.input_shape):
            raise ValueError(f"x must have shape (n, {', '.join(map(str, self.input_shape))}), got {x.shape}")
        x = x.reshape(len(x), *self.input_shape)
        for operation in self.operations:
            x = operation(x)
        return x

    def packed(self) -> dict[str, Any]:
        """Return what the script takes."""
        return {"shape": list(self.input_shape), "layers": [each.packed() for each in self.operations]}


@dataclass(frozen=True)
class _Linear:
    """A dense or convolutional layer before its weights are rounded; kernel (..., inputs, outputs)."""

    kind: str
    kernel: np.ndarray
    bias: np.ndarray
    activation: _Activation
    options: dict = field(default_factory=dict)

    def scaled(self, factor: np.ndarray, shift: np.ndarray) -> "_Linear":
        """Return the layer followed by a factor and a shift for each output channel."""
        return _Linear(
            self.kind, self.kernel * factor, self.bias * factor + shift, self.activation, self.options
        )

    def first(self, outputs: int) -> "_Linear":
        """Return the layer with its first outputs only."""
        return _Linear(self.kind, self.kernel[..., :outputs], self.bias[:outputs], self.activation)

    def activated(self, activation: _Activation) -> "_Linear":
        """Return the layer with another activation."""
        return _Linear(self.kind, self.kernel, self.bias, activation, self.options)

    def quantized(self) -> "_Dense | _Convolution":
        """Return the operation."""
        kind = _Dense if self.kind == "dense" else _Convolution
        bias = np.asarray(self.bias, np.float32)
        return kind(Weights.of(self.kernel), bias, self.activation, **self.options)


def _append(stages, stage):
    """Add a stage, folded into the one before where that is the same function."""
    last = stages[-1] if stages else None
    plain = isinstance(last, _Linear) and last.activation == _Activation()
    if plain and isinstance(stage, _Affine):
        stages[-1] = last.scaled(stage.factor, stage.shift)
    elif plain and isinstance(stage, _Activation):
        stages[-1] = last.activated(stage)
    elif stage != _Activation():
        stages.append(stage)


def _sample_shape(model, name):
    shape = getattr(model, name, None)
    if not isinstance(shape, tuple) or None in shape[1:] or not all(isinstance(n, int) for n in shape[1:]):
        raise ValueError(
            f"{model.name} must read one array of a fixed shape, and be built; its {name} is {shape}: begin "
            "it with keras.Input(shape)"
        )
    return shape[1:]


def _chain(model):
    """Return the layers of a model in the order of their calls, those of inner models included."""
    if isinstance(model, keras.Sequential):
        layers = model.layers
    elif isinstance(model, keras.Model):
        layers = _functional_chain(model)
    else:
        return [] if isinstance(model, _IDLE) else [model]
    return [one for layer in layers for one in _chain(layer)]


def _functional_chain(model):
    outputs = getattr(model, "outputs", None) or []
    if len(outputs) != 1 or len(model.inputs) != 1:
        raise ValueError(
            f"{model.name} must be Sequential, or functional with one input and one output: {_READS}, "
            "in a chain"
        )
    layers, tensor = [], outputs[0]
    while tensor is not model.inputs[0]:
        layer, node, _ = tensor._keras_history
        if not isinstance(layer, keras.layers.Layer):
            raise ValueError(
                f"{model.name} applies the operation {layer.name}: use a layer, as keras.layers.Activation; "
                f"{_READS}"
            )
        sources = layer._inbound_nodes[node].input_tensors
        if len(sources) != 1:
            raise ValueError(
                f"the layer {layer.name} of {model.name} joins {len(sources)} tensors: {_READS}, in a chain"
            )
        layers.append(layer)
        tensor = sources[0]
    return layers[::-1]


def _refuse(layer, what):
    raise ValueError(f"the layer {layer.name} ({type(layer).__name__}) {what}")


def _activation(layer, function):
    """Return the activation that a layer applies."""
    if isinstance(function, keras.layers.Layer):
        stages = _read(function, None, None)
        if len(stages) == 1 and isinstance(stages[0], _Activation):
            return stages[0]
    known = {getattr(keras.activations, name): name for name in _FUNCTIONS}
    name = known.get(function)
    if name is None:
        shown = getattr(function, "__name__", repr(function))
        _refuse(layer, f"has the activation {shown}: use one of {', '.join(_FUNCTIONS)}")
    return _Activation(name, {"leaky_relu": 0.2, "elu": 1.0}.get(name))


def _last_channel(layer):
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        _refuse(layer, "has its channels first: use data_format='channels_last'")


def _pair(value):
    return (value, value) if isinstance(value, int) else tuple(value)


def _same(inputs, outputs, sides, strides):
    """Return the rows and columns before the picture that padding "same" adds, as TensorFlow does."""
    pairs = zip(inputs, outputs, sides, strides, strict=True)
    return tuple(max((o - 1) * s + k - i, 0) // 2 for i, o, k, s in pairs)


def _dense(layer, given, shape):
    bias = np.zeros(layer.units) if layer.bias is None else np.asarray(layer.bias)
    return [_Linear("dense", np.asarray(layer.kernel), bias, _activation(layer, layer.activation))]


def _convolution(layer, given, shape):
    _last_channel(layer)
    transposed = type(layer) is keras.layers.Conv2DTranspose
    if set(_pair(layer.dilation_rate)) != {1} or getattr(layer, "groups", 1) != 1:
        _refuse(layer, f"has dilation_rate={layer.dilation_rate}, groups={layer.groups}: both must be 1")
    if layer.padding not in ("same", "valid"):
        _refuse(layer, f"has padding={layer.padding!r}: use 'same' or 'valid'")
    kernel, inputs = np.asarray(layer.kernel), given[:2]
    if transposed:
        kernel = kernel.transpose(0, 1, 3, 2)  # (h, w, outputs, inputs) -> (h, w, inputs, outputs)
    small, large = (inputs, shape[:2]) if transposed else (shape[:2], inputs)
    before = (0, 0)
    if layer.padding == "same":
        before = _same(large, small, kernel.shape[:2], layer.strides)
    options = {"strides": tuple(layer.strides), "before": before, "shape": shape, "transposed": transposed}
    bias = np.zeros(layer.filters) if layer.bias is None else np.asarray(layer.bias)
    return [_Linear("convolution", kernel, bias, _activation(layer, layer.activation), options)]


def _max_pooling(layer, given, shape):
    _last_channel(layer)
    pool, strides, before = _pair(layer.pool_size), _pair(layer.strides), (0, 0)
    if layer.padding == "same":
        before = _same(given[:2], shape[:2], pool, strides)
    return [_MaxPooling(pool, strides, before, shape)]


def _up_sampling(layer, given, shape):
    _last_channel(layer)
    if layer.interpolation != "nearest":
        _refuse(layer, f"has interpolation={layer.interpolation!r}: use 'nearest'")
    return [_UpSampling(_pair(layer.size), shape)]


def _normalization(layer, given, shape):
    if layer.axis not in (-1, len(shape)):
        _refuse(layer, f"has axis={layer.axis}: use -1, the channels")
    factor = 1 / np.sqrt(np.asarray(layer.moving_variance) + layer.epsilon)
    if layer.gamma is not None:
        factor = factor * np.asarray(layer.gamma)
    shift = -np.asarray(layer.moving_mean) * factor
    if layer.beta is not None:
        shift = shift + np.asarray(layer.beta)
    return [_Affine(factor.astype(np.float32), shift.astype(np.float32))]


def _global_average(layer, given, shape):
    _last_channel(layer)
    return [_GlobalAverage(shape)]


def _cropping(layer, given, shape):
    _last_channel(layer)
    (top, _), (left, _) = layer.cropping
    return [_Cropping((top, left), shape)]


def _relu(layer, given, shape):
    if layer.max_value is not None or layer.threshold:
        _refuse(layer, f"has max_value={layer.max_value}, threshold={layer.threshold}: leave both out")
    slope = float(layer.negative_slope)
    return [_Activation("leaky_relu", slope) if slope else _Activation("relu")]


_READERS = {
    keras.layers.Dense: _dense,
    keras.layers.Conv2D: _convolution,
    keras.layers.Conv2DTranspose: _convolution,
    keras.layers.MaxPooling2D: _max_pooling,
    keras.layers.UpSampling2D: _up_sampling,
    keras.layers.BatchNormalization: _normalization,
    keras.layers.GlobalAveragePooling2D: _global_average,
    keras.layers.Cropping2D: _cropping,
    keras.layers.Flatten: lambda layer, given, shape: [_Reshaping(shape)],
    keras.layers.Reshape: lambda layer, given, shape: [_Reshaping(shape)],
    keras.layers.Activation: lambda layer, given, shape: [_activation(layer, layer.activation)],
    keras.layers.ReLU: _relu,
    keras.layers.LeakyReLU: lambda layer, given, shape: [
        _Activation("leaky_relu", float(layer.negative_slope))
    ],
    keras.layers.ELU: lambda layer, given, shape: [_Activation("elu", float(layer.alpha))],
}


def _read(layer, given, shape):
    """Return what a layer does to one sample, `given` its shape, `shape` that of the output: stages."""
    # A subclass may compute something else.
    if type(layer) not in _READERS:
        _refuse(layer, f"cannot run in the page: {_READS}; train a net of these for the figure")
    return _READERS[type(layer)](layer, given, shape)
