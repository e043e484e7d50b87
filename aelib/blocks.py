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


def _shape(name, shape, rank=None):
    shape = tuple(shape)
    if not shape or (rank and len(shape) != rank):
        form = "(height, width, channels)" if rank == 3 else "at least one axis"
        raise ValueError(f"{name} must have {form}, got {shape!r}")
    return tuple(_positive(f"every axis of {name}", int(n) if n == n // 1 else n) for n in shape)


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
    """Build convolutions of stride 2 -> dense `code`: (B, H, W, C) -> (B, code).

    Each stage halves height and width, rounded up.

    Parameters
    ----------
    input_shape : tuple of int
        (height, width, channels).
    code : int
        Size of the bottleneck.
    filters : tuple of int
        Number of filters of each stage, from the input to the code.
    kernel : int
        Side of the kernels.
    activation, code_activation : str or callable, optional
    """
    input_shape = _shape("input_shape", input_shape, rank=3)
    stack = [layers.Input(input_shape)]
    for n in filters:
        stack += [layers.Conv2D(_positive("filters", n), kernel, 2, "same", activation=activation)]
    stack += [layers.Flatten(), layers.Dense(_positive("code", code), code_activation, name="code")]
    return keras.Sequential(stack, name="encoder")


def conv_decoder(output_shape, code, *, filters=(64, 32), kernel=3, activation="relu", upsample="transposed"):
    """Build dense -> stages that double height and width -> a convolution: (B, code) -> (B, H, W, C).

    Sizes that do not divide are met by cropping the surplus row or column of a stage.

    Parameters
    ----------
    output_shape : tuple of int
        (height, width, channels).
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
    height, width, channels = _shape("output_shape", output_shape, rank=3)
    if upsample not in ("transposed", "nearest"):
        raise ValueError(f"upsample must be 'transposed' or 'nearest', got {upsample!r}")
    filters = [_positive("filters", n) for n in filters]
    sizes = [(-(-height // 2**i), -(-width // 2**i)) for i in range(len(filters) + 1)]
    (h, w), first = sizes.pop(), filters[0] if filters else channels
    stack = [layers.Input((_positive("code", code),)), layers.Dense(h * w * first, activation)]
    stack += [layers.Reshape((h, w, first))]
    for n in filters:
        if upsample == "transposed":
            stack += [layers.Conv2DTranspose(n, kernel, 2, "same", activation=activation)]
        else:
            stack += [layers.UpSampling2D(2), layers.Conv2D(n, kernel, padding="same", activation=activation)]
        surplus, (h, w) = (2 * h, 2 * w), sizes.pop()
        if surplus != (h, w):
            stack += [layers.Cropping2D(((0, surplus[0] - h), (0, surplus[1] - w)))]
    stack += [layers.Conv2D(channels, kernel, padding="same", name="raw")]
    return keras.Sequential(stack, name="decoder")
