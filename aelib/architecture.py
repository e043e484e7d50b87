"""What a net's layers tell before it has seen data: its shapes, its last activation, the steps it skips."""

import keras

from aelib import likelihoods


def input_shape(model):
    """Return the shape of one sample that a model reads, or None where it does not say (yet)."""
    try:
        shape = model.input_shape
    except (AttributeError, ValueError):
        return None
    return tuple(shape[1:]) if isinstance(shape, tuple) else None


def _last_layer(model):
    """Return the last layer of a model that does more than change shapes, or None where that is unknown."""
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
            layers = layers if model.output._keras_history.operation is layers[-1] else []
        except (AttributeError, ValueError, IndexError):  # a subclassed model, or one that is not built yet
            return None
    for layer in reversed(layers):
        if not isinstance(layer, shapes_only):
            return _last_layer(layer) if isinstance(layer, keras.Model) else layer
    return None


def last_activation(model):
    """Return the name of a model's last activation, "linear" where there is none, or None where unknown."""
    layer = _last_layer(model)
    names = {keras.layers.ReLU: "relu", keras.layers.Softmax: "softmax"}
    for kind, name in names.items():
        if isinstance(layer, kind):
            return name
    activation = getattr(layer, "activation", None)
    if activation is None:
        return None
    return getattr(activation, "__name__", None)


def check_last_activation(decoder, likelihood):
    """Refuse a decoder whose last activation contradicts a likelihood that reads raw outputs."""
    activation = last_activation(decoder)
    if likelihood.reads_logits and activation in likelihoods.RANGES:
        kind = type(likelihood).__name__
        raise ValueError(
            f"the decoder ends in a {activation}, but {kind} reads a raw output, which would be squashed "
            "twice: use a linear last layer, or likelihood='gaussian', which takes the squared error of the "
            f"{activation}'s output"
        )


def masked_like(encoder, likelihood):
    """Mask a likelihood where the encoder skips steps: what it does not read must not be charged."""
    masking = [layer for layer in getattr(encoder, "layers", ()) if isinstance(layer, keras.layers.Masking)]
    if not masking or isinstance(likelihood, likelihoods.Masked):
        return likelihood
    return likelihoods.Masked(likelihood, value=float(masking[0].mask_value), steps=True)
