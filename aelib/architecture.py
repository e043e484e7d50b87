"""What a net's layers tell before it has seen data: its shapes, its last activation, the steps it skips."""

import math
from collections.abc import Iterator
from typing import Any

import keras

from aelib import likelihoods


def input_shape(model: keras.layers.Layer) -> Any:
    """Return the shape of one sample that a model reads, or None where it does not say (yet).

    Of a model that reads several arrays, it is a dict or a list of shapes.
    """
    try:
        shape, read = model.input_shape, getattr(model, "input", None)
    except (AttributeError, ValueError):
        return None
    if isinstance(read, dict):
        return {name: tuple(one.shape[1:]) for name, one in read.items()}
    if _are_shapes(shape):
        return [tuple(one[1:]) for one in shape]
    return tuple(shape[1:]) if isinstance(shape, tuple) else None


def _are_shapes(shape: Any) -> bool:
    return isinstance(shape, tuple | list) and all(isinstance(one, tuple | list) for one in shape)


def output_shape(model: keras.layers.Layer) -> tuple[int | None, ...] | None:
    """Return the shape of one sample that a model gives, or None where it does not say (yet)."""
    try:
        shape = model.output_shape
    except (AttributeError, ValueError):
        return None
    return tuple(shape[1:]) if isinstance(shape, tuple) and not _are_shapes(shape) else None


def _last_layer(model: keras.layers.Layer) -> Any:
    """Return the last operation of a model that does more than change shapes, or None if it is unknown."""
    shapes_only = (
        keras.layers.Reshape,
        keras.layers.Flatten,
        keras.layers.Permute,
        keras.layers.Cropping1D,
        keras.layers.Cropping2D,
        keras.layers.Cropping3D,
    )
    layers = list(getattr(model, "layers", ()))
    if not isinstance(model, keras.Sequential):
        try:
            operation = model.output._keras_history.operation
        except (AttributeError, ValueError):  # a subclassed model, or one that is not built yet
            return None
        if not layers or operation is not layers[-1]:  # a bare keras.ops.sigmoid, say
            return operation
    for layer in reversed(layers):
        if not isinstance(layer, shapes_only):
            return _last_layer(layer) if isinstance(layer, keras.Model) else layer
    return None


def last_activation(model: keras.layers.Layer) -> str | None:
    """Return the name of a model's last activation, "linear" where there is none, or None where unknown."""
    layer = _last_layer(model)
    names = {keras.layers.ReLU: "relu", keras.layers.Softmax: "softmax"}
    for kind, name in names.items():
        if isinstance(layer, kind):
            return name
    if layer is not None and not isinstance(layer, keras.layers.Layer):
        name = type(layer).__name__.lower()  # of an operation: keras.ops.sigmoid, say
        return name if name in likelihoods.RANGES else None
    return getattr(getattr(layer, "activation", None), "__name__", None)


def check_last_activation(decoder: keras.layers.Layer, likelihood: likelihoods.Likelihood) -> None:
    """Refuse a decoder whose last activation contradicts a likelihood that reads raw outputs."""
    activation = last_activation(decoder)
    if likelihood.reads_logits and activation in likelihoods.RANGES:
        kind = type(likelihood).__name__
        raise ValueError(
            f"the decoder ends in a {activation}, but {kind} reads a raw output, which would be squashed "
            "twice: use a linear last layer, or likelihood='gaussian', which takes the squared error of the "
            f"{activation}'s output"
        )


def _masking(model: keras.layers.Layer) -> Iterator[float]:
    """Yield the values of the steps that a net skips, its inner nets included."""
    for layer in getattr(model, "layers", ()):
        if isinstance(layer, keras.layers.Masking):
            yield float(layer.mask_value)
        yield from _masking(layer)


def masked_like(encoder: keras.layers.Layer, likelihood: likelihoods.Likelihood) -> likelihoods.Likelihood:
    """Mask a likelihood where the encoder skips steps: what it does not read must not be charged."""
    value = next(_masking(encoder), None)
    if value is None:
        return likelihood
    if math.isnan(value):
        raise ValueError(
            "the encoder has a keras.layers.Masking of NaN, which skips nothing, since NaN equals nothing: "
            "take a number, and likelihood=Masked('gaussian', steps=True, fill=that number) for data with NaN"
        )
    if not isinstance(likelihood, likelihoods.Masked):
        return likelihoods.Masked(likelihood, value=value, steps=True)
    if likelihood.steps and likelihood.fill != value:
        raise ValueError(
            f"the encoder skips steps of {value:g}, but the likelihood shows it {likelihood.fill:g} where "
            f"steps are missing: Masked(..., fill={value:g})"
        )
    return likelihood
