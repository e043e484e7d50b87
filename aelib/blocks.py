"""Encoders and decoders, each a `keras.Model`, for inputs of any height, width and number of channels.

A decoder's output has exactly the shape it was asked for, and is raw: logits for a Bernoulli likelihood.
"""

import math

import keras
from keras import layers


def _positive(name, value):
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a whole number >= 1, got {value!r}")
    return value


def _shape(name, shape, form=None):
    shape = tuple(shape)
    if not shape or (form and len(shape) not in form):
        wanted = " or ".join(form.values()) if form else "at least one axis"
        raise ValueError(f"{name} must have {wanted}, got {shape!r}")
    return tuple(_positive(f"every axis of {name}", int(n) if n and n == n // 1 else n) for n in shape)


_CONVOLUTIONAL = {2: "(length, channels)", 3: "(height, width, channels)"}
_RECURRENT = {2: "(length, features)"}
_CELLS = {"gru": layers.GRU, "lstm": layers.LSTM}


def dense_encoder(input_shape, code, *, hidden=(128, 64), activation="relu", code_activation=None):
    """Build flatten -> dense `hidden` layers -> dense `code`: (B, ...) -> (B, code).

    Parameters
    ----------
    input_shape : tuple of int
        Shape of one sample, any rank.
    code : int
        Size of the bottleneck.
    hidden : tuple of int
        Widths of the hidden layers, from the input to the code; may be empty.
    activation, code_activation : str or callable, optional
        Of the hidden layers, and of the code (linear by default: a ReLU code loses units).
    """
    input_shape = _shape("input_shape", input_shape)
    stack = [layers.Input(input_shape), layers.Flatten()]
    stack += [layers.Dense(_positive("hidden", n), activation) for n in hidden]
    stack += [layers.Dense(_positive("code", code), code_activation, name="code")]
    return keras.Sequential(stack, name="encoder")


def dense_decoder(output_shape, code, *, hidden=(64, 128), activation="relu", output_activation=None):
    """Build dense `hidden` layers -> a dense layer -> reshape: (B, code) -> (B, ...).

    `hidden` goes from the code to the output; the rest is as in `dense_encoder`. The output is linear unless
    `output_activation` says otherwise: a sigmoid goes with a Gaussian likelihood, never with a Bernoulli one,
    which reads logits.
    """
    output_shape = _shape("output_shape", output_shape)
    stack = [layers.Input((_positive("code", code),))]
    stack += [layers.Dense(_positive("hidden", n), activation) for n in hidden]
    stack += [layers.Dense(math.prod(output_shape), output_activation, name="raw")]
    stack += [layers.Reshape(output_shape)]
    return keras.Sequential(stack, name="decoder")


def conv_encoder(input_shape, code, *, filters=(32, 64), kernel=3, activation="relu", code_activation=None):
    """Build convolutions of stride 2 -> dense `code`: (B, H, W, C) or (B, L, C) -> (B, code).

    Each stage halves height and width, or the length, rounded up.

    Parameters
    ----------
    input_shape : tuple of int
        (height, width, channels) of an image, or (length, channels) of a sequence.
    code : int
        Size of the bottleneck.
    filters : tuple of int
        Number of filters of each stage, from the input to the code.
    kernel : int
        Side of the kernels.
    activation, code_activation : str or callable, optional
    """
    input_shape = _shape("input_shape", input_shape, _CONVOLUTIONAL)
    convolution = layers.Conv2D if len(input_shape) == 3 else layers.Conv1D
    stack = [layers.Input(input_shape)]
    for n in filters:
        stack += [convolution(_positive("filters", n), kernel, 2, "same", activation=activation)]
    stack += [layers.Flatten(), layers.Dense(_positive("code", code), code_activation, name="code")]
    return keras.Sequential(stack, name="encoder")


def conv_decoder(output_shape, code, *, filters=(64, 32), kernel=3, activation="relu", upsample="transposed"):
    """Build dense -> stages that double the size -> a convolution: (B, code) -> (B, H, W, C) or (B, L, C).

    Sizes that do not divide are met by cropping the surplus row, column or step of a stage.

    Parameters
    ----------
    output_shape : tuple of int
        (height, width, channels) of an image, or (length, channels) of a sequence.
    code : int
        Size of the bottleneck.
    filters : tuple of int
        Number of filters of each stage, from the code to the output.
    kernel : int
        Side of the kernels.
    activation : str or callable, optional
    upsample : {"transposed", "nearest"}
        A transposed convolution of stride 2, or each pixel repeated and then a convolution
        (Odena et al., 2016, on the checkerboards that the second avoids).
    """
    *size, channels = _shape("output_shape", output_shape, _CONVOLUTIONAL)
    if upsample not in ("transposed", "nearest"):
        raise ValueError(f"upsample must be 'transposed' or 'nearest', got {upsample!r}")
    kinds = ("Conv{}D", "Conv{}DTranspose", "UpSampling{}D", "Cropping{}D")
    convolution, transposed, enlarge, crop = (getattr(layers, kind.format(len(size))) for kind in kinds)
    filters = [_positive("filters", n) for n in filters]
    sizes = [[-(-side // 2**i) for side in size] for i in range(len(filters) + 1)]
    small, first = sizes.pop(), filters[0] if filters else channels
    stack = [layers.Input((_positive("code", code),)), layers.Dense(math.prod(small) * first, activation)]
    stack += [layers.Reshape((*small, first))]
    for n in filters:
        if upsample == "transposed":
            stack += [transposed(n, kernel, 2, "same", activation=activation)]
        else:
            stack += [enlarge(2), convolution(n, kernel, padding="same", activation=activation)]
        surplus = [(0, 2 * side - wanted) for side, wanted in zip(small, sizes[-1], strict=True)]
        small = sizes.pop()
        if any(after for _, after in surplus):
            stack += [crop(surplus if len(size) == 2 else surplus[0])]
    stack += [convolution(channels, kernel, padding="same", name="raw")]
    return keras.Sequential(stack, name="decoder")


def _cell(name):
    if name not in _CELLS:
        raise ValueError(f"cell must be one of {', '.join(_CELLS)}; got {name!r}")
    return _CELLS[name]


def recurrent_encoder(input_shape, code, *, units=(64,), cell="lstm", mask_value=None, code_activation=None):
    """Build recurrent layers, whose last state goes to a dense `code`: (B, L, features) -> (B, code).

    Parameters
    ----------
    input_shape : tuple of int
        (length, features); the length may be None.
    code : int
        Size of the bottleneck.
    units : tuple of int
        Units of each recurrent layer.
    cell : {"lstm", "gru"}
    mask_value : float, optional
        A step all of whose features have this value is skipped, so that shorter sequences can be padded with
        it at their end.
    code_activation : str or callable, optional
    """
    length, *features = tuple(input_shape)
    shape = _shape("input_shape", (1 if length is None else length, *features), _RECURRENT)
    stack = [layers.Input((length, shape[1]))]
    stack += [] if mask_value is None else [layers.Masking(mask_value)]
    for i, n in enumerate(units):
        stack += [_cell(cell)(_positive("units", n), return_sequences=i < len(units) - 1)]
    stack += [layers.Dense(_positive("code", code), code_activation, name="code")]
    return keras.Sequential(stack, name="encoder")


def recurrent_decoder(output_shape, code, *, units=(64,), cell="lstm"):
    """Build the code, given at every step -> recurrent layers -> dense: (B, code) -> (B, L, features).

    Srivastava et al. (2015), the unconditioned decoder. Parameters as in `recurrent_encoder`.
    """
    length, features = _shape("output_shape", output_shape, _RECURRENT)
    stack = [layers.Input((_positive("code", code),)), layers.RepeatVector(length)]
    stack += [_cell(cell)(_positive("units", n), return_sequences=True) for n in units]
    return keras.Sequential([*stack, layers.Dense(features, name="raw")], name="decoder")
