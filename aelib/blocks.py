"""Encoders and decoders, each a `keras.Model`, for inputs of any size, rank and number of channels.

A decoder's output has exactly the shape it was asked for, and is raw: logits for a Bernoulli likelihood.
Where a tuple of whole numbers is wanted, one number stands for a tuple of one.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import keras
from keras import layers

from aelib import checks

_CONVOLUTIONAL = {
    2: "(length, channels)",
    3: "(height, width, channels)",
    4: "(depth, height, width, channels)",
}
_RECURRENT = {2: "(length, features)"}
_CELLS = {"gru": layers.GRU, "lstm": layers.LSTM}
#: `default_filters` halves until at most so many positions are left: 8 x 8, 64 steps, or 4 x 4 x 4.
_POSITIONS = 64


def dense_encoder(
    input_shape: int | Sequence[int],
    code: int,
    *,
    hidden: int | Sequence[int] = (128, 64),
    activation: str | Callable[..., Any] | None = "relu",
    code_activation: str | Callable[..., Any] | None = None,
) -> keras.Sequential:
    """Build flatten -> dense `hidden` layers -> dense `code`: (B, ...) -> (B, code).

    Parameters
    ----------
    input_shape : int or tuple of int
        Shape of one sample, any rank; a number of features for a table.
    code : int
        Size of the bottleneck.
    hidden : int or tuple of int
        Widths of the hidden layers, from the input to the code; may be empty.
    activation, code_activation : str or callable, optional
        Of the hidden layers, and of the code (linear by default: a ReLU code loses units).

    Returns
    -------
    keras.Sequential
        Named "encoder", its last layer "code".

    Examples
    --------
    >>> from aelib import blocks
    >>> blocks.dense_encoder(784, 32, hidden=64).count_params()
    52320
    """
    input_shape = checks.sample_shape("input_shape", input_shape)
    code = checks.whole_number("code", code)
    stack = [layers.Input(input_shape), layers.Flatten()]
    stack += [layers.Dense(n, activation) for n in checks.whole_numbers("hidden", hidden)]
    stack += [layers.Dense(code, code_activation, name="code")]
    return keras.Sequential(stack, name="encoder")


def dense_decoder(
    output_shape: int | Sequence[int],
    code: int,
    *,
    hidden: int | Sequence[int] = (64, 128),
    activation: str | Callable[..., Any] | None = "relu",
    output_activation: str | Callable[..., Any] | None = None,
) -> keras.Sequential:
    """Build dense `hidden` layers -> a dense layer -> reshape: (B, code) -> (B, ...).

    Parameters
    ----------
    output_shape : int or tuple of int
        Shape of one sample, any rank.
    code : int
        Size of the bottleneck.
    hidden : int or tuple of int
        Widths of the hidden layers, from the code to the output; may be empty.
    activation : str or callable, optional
        Of the hidden layers.
    output_activation : str or callable, optional
        Of the output, linear by default. A sigmoid goes with a Gaussian likelihood, never with a Bernoulli
        one, which reads logits.

    Returns
    -------
    keras.Sequential
        Named "decoder", its last dense layer "raw".
    """
    output_shape = checks.sample_shape("output_shape", output_shape)
    stack = [layers.Input((checks.whole_number("code", code),))]
    stack += [layers.Dense(n, activation) for n in checks.whole_numbers("hidden", hidden)]
    stack += [layers.Dense(math.prod(output_shape), output_activation, name="raw")]
    stack += [layers.Reshape(output_shape)]
    return keras.Sequential(stack, name="decoder")


def with_condition(net: keras.Model, condition: int) -> keras.Model:
    """Let a net read a condition beside its input: [(B, ..., D - C), (B, C)] -> as `net` of (B, ..., D).

    The condition's numbers join the last axis: of a vector, as further entries; of an image or a sequence, at
    every place, as further channels.

    Parameters
    ----------
    net : keras.Model
        Built for `condition` more numbers in its last axis than it is to read otherwise.
    condition : int
        C, how many numbers the condition has.

    Raises
    ------
    ValueError
        If the net does not say what shape it reads, or that has too short a last axis.

    Examples
    --------
    >>> from aelib import blocks
    >>> decoder = blocks.with_condition(blocks.dense_decoder((28, 28, 1), 16 + 10), 10)
    >>> [shape[1:] for shape in decoder.input_shape]
    [(16,), (10,)]
    """
    condition = checks.whole_number("condition", condition)
    shape = getattr(net, "input_shape", None)
    if not isinstance(shape, tuple) or None in shape[1:] or shape[-1] <= condition:
        raise ValueError(
            f"the net must read a fixed shape whose last axis is longer than the condition, {condition}; got "
            f"{shape}"
        )
    *places, width = shape[1:]
    x, known = keras.Input((*places, width - condition)), keras.Input((condition,))
    maps = known
    if places:
        maps = layers.Reshape((*places, condition))(layers.RepeatVector(math.prod(places))(known))
    return keras.Model([x, known], net(layers.Concatenate()([x, maps])), name=net.name)


def default_filters(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the filters of `conv_encoder`'s stages for samples of `shape`, (..., channels): tuple of int.

    As many stages as leave at most 64 positions (8 x 8 pixels, 64 steps or 4 x 4 x 4 voxels), at least two:
    so the dense layer between them and the code, which depth alone keeps small, does not grow with the image.
    Their filters double from 32 up to 128.

    Examples
    --------
    >>> from aelib import blocks
    >>> [blocks.default_filters((side, side, 3)) for side in (28, 64, 256)]
    [(32, 64), (32, 64, 128), (32, 64, 128, 128, 128)]
    """
    sizes = checks.sample_shape("shape", shape, _CONVOLUTIONAL)[:-1]
    stages = 2
    while math.prod(_halved(size, stages) for size in sizes) > _POSITIONS:
        stages += 1
    return tuple(min(32 * 2**i, 128) for i in range(stages))


def _halved(size: int, times: int) -> int:
    """Return a size after so many halvings, each rounded up."""
    return -(-size // 2**times)


def _kernel(kernel: int | Sequence[int], rank: int) -> tuple[int, ...]:
    """Return the sides of a kernel, one an axis."""
    sides = checks.whole_numbers("kernel", kernel)
    if len(sides) not in (1, rank):
        raise ValueError(f"kernel must be a whole number, or one for each of {rank} axes, got {kernel!r}")
    return sides * rank if len(sides) == 1 else sides


def conv_encoder(
    input_shape: Sequence[int],
    code: int,
    *,
    filters: int | Sequence[int] | None = None,
    kernel: int | Sequence[int] = 3,
    activation: str | Callable[..., Any] | None = "relu",
    code_activation: str | Callable[..., Any] | None = None,
) -> keras.Sequential:
    """Build convolutions of stride 2 -> dense `code`: (B, ..., channels) -> (B, code).

    Each stage halves height and width, or the length, rounded up. It prints a line where there are more than
    four channels, which may be a forgotten axis: (28, 28) are 28 steps of 28 channels, (28, 28, 1) an image.

    Parameters
    ----------
    input_shape : tuple of int
        (length, channels) of a sequence, (height, width, channels) of an image, or (depth, height, width,
        channels) of a volume.
    code : int
        Size of the bottleneck.
    filters : int or tuple of int, optional
        Number of filters of each stage, from the input to the code; by default those of `default_filters`.
    kernel : int or tuple of int
        Side of the kernels, or one an axis.
    activation, code_activation : str or callable, optional
        Of the convolutions, and of the code (linear by default).

    Returns
    -------
    keras.Sequential
        Named "encoder", its last layer "code".

    Notes
    -----
    Parameters by default, with a code of 32 (kernels of 3 throughout):

    ============= ====================== ======= =======
    shape         filters                encoder decoder
    ============= ====================== ======= =======
    (28, 28, 1)   32, 64                 119,200 159,169
    (64, 64, 3)   32, 64, 128            355,424 511,043
    (256, 256, 3) 32, 64, 128, 128, 128  650,592 806,211
    ============= ====================== ======= =======
    """
    input_shape = checks.sample_shape("input_shape", input_shape, _CONVOLUTIONAL)
    code = checks.whole_number("code", code)
    *sizes, channels = input_shape
    filters = default_filters(input_shape) if filters is None else checks.whole_numbers("filters", filters)
    kernel = _kernel(kernel, len(sizes))
    if channels > 4:
        print(
            f"conv_encoder takes {input_shape} for {_CONVOLUTIONAL[len(input_shape)]}: {channels} channels; "
            f"where they have one channel, give {(*input_shape, 1)}"
        )
    convolution = getattr(layers, f"Conv{len(sizes)}D")
    stack = [layers.Input(input_shape)]
    stack += [convolution(n, kernel, 2, "same", activation=activation) for n in filters]
    stack += [layers.Flatten(), layers.Dense(code, code_activation, name="code")]
    return keras.Sequential(stack, name="encoder")


def conv_decoder(
    output_shape: Sequence[int],
    code: int,
    *,
    filters: int | Sequence[int] | None = None,
    kernel: int | Sequence[int] = 3,
    activation: str | Callable[..., Any] | None = "relu",
    upsample: Literal["transposed", "nearest"] = "transposed",
) -> keras.Sequential:
    """Build dense -> stages that double the size -> a convolution: (B, code) -> (B, ..., channels).

    Sizes that do not divide are met by cropping the surplus row, column or step of a stage.

    Parameters
    ----------
    output_shape : tuple of int
        (length, channels) of a sequence, (height, width, channels) of an image, or (depth, height, width,
        channels) of a volume.
    code : int
        Size of the bottleneck.
    filters : int or tuple of int, optional
        Number of filters of each stage, from the code to the output; by default those of `default_filters`
        backwards, which mirrors `conv_encoder`.
    kernel : int or tuple of int
        Side of the kernels, or one an axis.
    activation : str or callable, optional
        Of all but the last layer.
    upsample : {"transposed", "nearest"}
        A transposed convolution of stride 2, or each pixel repeated and then a convolution
        (Odena et al., 2016, on the checkerboards that the second avoids).

    Returns
    -------
    keras.Sequential
        Named "decoder", its last layer "raw". Parameters are counted at `conv_encoder`.
    """
    output_shape = checks.sample_shape("output_shape", output_shape, _CONVOLUTIONAL)
    code = checks.whole_number("code", code)
    upsample = checks.choice("upsample", upsample, ("transposed", "nearest"))
    if filters is None:
        filters = default_filters(output_shape)[::-1]
    filters = checks.whole_numbers("filters", filters)
    *size, channels = output_shape
    kernel = _kernel(kernel, len(size))
    kinds = ("Conv{}D", "Conv{}DTranspose", "UpSampling{}D", "Cropping{}D")
    convolution, transposed, enlarge, crop = (getattr(layers, kind.format(len(size))) for kind in kinds)
    sizes = [[_halved(side, i) for side in size] for i in range(len(filters) + 1)]
    small, first = sizes.pop(), filters[0] if filters else channels
    stack = [layers.Input((code,)), layers.Dense(math.prod(small) * first, activation)]
    stack += [layers.Reshape((*small, first))]
    for n in filters:
        if upsample == "transposed":
            stack += [transposed(n, kernel, 2, "same", activation=activation)]
        else:
            stack += [enlarge(2), convolution(n, kernel, padding="same", activation=activation)]
        surplus = [(0, 2 * side - wanted) for side, wanted in zip(small, sizes[-1], strict=True)]
        small = sizes.pop()
        if any(after for _, after in surplus):
            stack += [crop(surplus[0] if len(size) == 1 else surplus)]
    stack += [convolution(channels, kernel, padding="same", name="raw")]
    return keras.Sequential(stack, name="decoder")


def _recurrent(units: int | Sequence[int], cell: str) -> tuple[Any, tuple[int, ...]]:
    """Return the class of recurrent layers, and how many units each has."""
    units = checks.whole_numbers("units", units)
    if not units:
        raise ValueError("units must be at least one whole number >= 1, got none: give 64, or (64, 32)")
    return _CELLS[checks.choice("cell", cell, tuple(_CELLS))], units


def recurrent_encoder(
    input_shape: Sequence[int | None],
    code: int,
    *,
    units: int | Sequence[int] = (64,),
    cell: Literal["lstm", "gru"] = "lstm",
    mask_value: float | None = None,
    code_activation: str | Callable[..., Any] | None = None,
) -> keras.Sequential:
    """Build recurrent layers, whose last state goes to a dense `code`: (B, L, features) -> (B, code).

    Parameters
    ----------
    input_shape : tuple of int
        (length, features); the length may be None.
    code : int
        Size of the bottleneck.
    units : int or tuple of int
        Units of each recurrent layer.
    cell : {"lstm", "gru"}
        Kind of the recurrent layers.
    mask_value : float, optional
        A step all of whose features have this value is skipped, so that shorter sequences can be padded with
        it at their end. It must be finite: to pad with NaN, use ``likelihood=Masked("gaussian", fill=v)``
        and ``mask_value=v``; the encoder then reads v in place of NaN.
    code_activation : str or callable, optional
        Of the code (linear by default).

    Returns
    -------
    keras.Sequential
        Named "encoder", its last layer "code".
    """
    any_length = isinstance(input_shape, tuple | list) and len(input_shape) > 0 and input_shape[0] is None
    shape = (1, *input_shape[1:]) if any_length else input_shape
    length, features = checks.sample_shape("input_shape", shape, _RECURRENT)
    code = checks.whole_number("code", code)
    kind, units = _recurrent(units, cell)
    stack = [layers.Input((None if any_length else length, features))]
    if mask_value is not None:
        stack += [layers.Masking(_mask_value(mask_value))]
    stack += [kind(n, return_sequences=i < len(units) - 1) for i, n in enumerate(units)]
    stack += [layers.Dense(code, code_activation, name="code")]
    return keras.Sequential(stack, name="encoder")


def _mask_value(value: float) -> float:
    try:
        return checks.number("mask_value", value)
    except ValueError as error:
        raise ValueError(
            f"{error}. NaN spreads through every product: to pad with it, use "
            "likelihood=Masked('gaussian', fill=v), which gives the encoder v in its place, and mask_value=v"
        ) from None


def recurrent_decoder(
    output_shape: Sequence[int],
    code: int,
    *,
    units: int | Sequence[int] = (64,),
    cell: Literal["lstm", "gru"] = "lstm",
) -> keras.Sequential:
    """Build the code, given at every step -> recurrent layers -> dense: (B, code) -> (B, L, features).

    Srivastava et al. (2015), the unconditioned decoder.

    Parameters
    ----------
    output_shape : tuple of int
        (length, features).
    code, units, cell
        As in `recurrent_encoder`.

    Returns
    -------
    keras.Sequential
        Named "decoder", its last layer "raw".
    """
    length, features = checks.sample_shape("output_shape", output_shape, _RECURRENT)
    kind, units = _recurrent(units, cell)
    stack = [layers.Input((checks.whole_number("code", code),)), layers.RepeatVector(length)]
    stack += [kind(n, return_sequences=True) for n in units]
    return keras.Sequential([*stack, layers.Dense(features, name="raw")], name="decoder")
