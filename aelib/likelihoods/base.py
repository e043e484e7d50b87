"""What every likelihood is, and the supports that it can state. Import from `aelib.likelihoods`."""

import math
from collections.abc import Sequence
from typing import Any, NoReturn

import keras
import numpy as np
from keras import ops

from aelib import checks
from aelib.objectives import sum_features

_register = keras.saving.register_keras_serializable("aelib")

#: Activations that bound a decoder's output, with what it can then reach.
RANGES = {
    "sigmoid": (0.0, 1.0),
    "hard_sigmoid": (0.0, 1.0),
    "softmax": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "hard_tanh": (-1.0, 1.0),
    "softsign": (-1.0, 1.0),
    "log_softmax": (-math.inf, 0.0),
    "exponential": (0.0, math.inf),
    "relu": (0.0, math.inf),
    "relu6": (0.0, 6.0),
    "softplus": (0.0, math.inf),
}


@_register
class Likelihood(keras.layers.Layer):
    """The base of all likelihoods: a raw output of a decoder -> a distribution of the data.

    It is a Keras layer, so that one with weights (a learned variance) trains, and is saved, with its model.
    A subclass defines `feature_nll` and `mean`; `feature_constant`, `sample`, `get_config` where they differ.

    Attributes
    ----------
    support : {"unit interval", "real", "non-negative", "counts", "one-hot"}
        What targets may be; `check` refuses others.
    outputs_per_feature : int
        How many raw numbers the decoder gives for each feature: with 2, the last axis of its output is twice
        as long as the data's, first all features' first numbers, then all their second; `split` parts them.
    reads_logits : bool
        Whether the raw output may be any real number, so that a bounded last activation contradicts it.
    """

    support = "real"
    outputs_per_feature = 1
    reads_logits = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**({"dtype": "float32"} | kwargs))
        self.built = True

    def feature_nll(self, target, raw):
        """Return the negative log-likelihood of every feature, in nats, up to `feature_constant`.

        (B, ...), raw (B, ...) -> (B, ...) in the target's shape.
        """
        raise NotImplementedError(f"{type(self).__name__} must define feature_nll(target, raw)")

    def feature_constant(self, target: Any) -> Any:
        """Return what `feature_nll` leaves out for every feature, in nats: (B, ...) -> (B, ...)."""
        return ops.zeros_like(target)

    def mean(self, raw: Any) -> Any:
        """Return the expected data: raw (B, ...) -> (B, ...)."""
        raise NotImplementedError(f"{type(self).__name__} must define mean(raw)")

    def sample(self, raw: Any, seed: int | keras.random.SeedGenerator | None = None) -> Any:
        """Draw data: raw (B, ...) -> (B, ...). `seed` is an int or a `keras.random.SeedGenerator`."""
        raise NotImplementedError(f"{type(self).__name__} does not define sample(raw, seed)")

    def nll(self, target: Any, raw: Any) -> Any:
        """Return the negative log-likelihood, summed over features, up to `constant`: (B, ...) -> (B,)."""
        wanted = self.raw_shape(target.shape)
        if not checks.shapes_agree(wanted, raw.shape):
            raise ValueError(
                f"the target {tuple(target.shape)} and the decoder's output {tuple(raw.shape)} do not go "
                f"together: {type(self).__name__} expects an output of shape {tuple(wanted)}"
                + (
                    "; `y` is what the output is compared with, no label of a class"
                    if len(target.shape) < len(raw.shape)
                    else ""
                )
            )
        return sum_features(self.feature_nll(target, raw))

    def constant(self, target: Any) -> Any:
        """Return what `nll` leaves out, in nats: (B, ...) -> (B,)."""
        return sum_features(self.feature_constant(target))

    def raw_shape(self, shape: Sequence[int | None]) -> tuple[Any, ...]:
        """Return the shape that the decoder's output must have for data of `shape`, batch axis included."""
        if self.outputs_per_feature == 1:
            return tuple(shape)
        return (*shape[:-1], None if shape[-1] is None else self.outputs_per_feature * shape[-1])

    def data_shape(self, raw_shape: Sequence[Any]) -> tuple[Any, ...]:
        """Return the shape of data for which the decoder's output has `raw_shape`, batch axis included."""
        last = raw_shape[-1]
        return (*raw_shape[:-1], None if last is None else last // self.outputs_per_feature)

    def split(self, raw: Any) -> list[Any]:
        """Part the raw numbers of the features: (B, ..., P·D) -> P tensors (B, ..., D)."""
        if raw.shape[-1] % self.outputs_per_feature:
            raise ValueError(
                f"{type(self).__name__} reads {self.outputs_per_feature} raw numbers a feature: the last "
                f"axis of the decoder's output must be a multiple of that, got shape {tuple(raw.shape)}"
            )
        return ops.split(raw, self.outputs_per_feature, axis=-1)

    def hide(self, x: Any, seen: Any = None) -> Any:
        """Return what the encoder may see of `x`, or of its corrupted version `seen`: here, all of it."""
        return x if seen is None else seen

    def observed(self, x: np.ndarray) -> np.ndarray | None:
        """Return which features of an ndarray count, bool (n, ...), or None where all do."""
        return None

    def adapt(self, x: np.ndarray) -> None:
        """Prepare for training data, an ndarray (n, ...); `fit` calls it before the very first step."""

    def check(self, x: np.ndarray, *, name: str = "the data", observed: np.ndarray | None = None) -> None:
        """Refuse an ndarray (n, ...) that this likelihood cannot explain; only what is `observed` counts.

        Raises
        ------
        ValueError
            With the least and the greatest number, what is expected, and the remedy.
        """
        try:
            test = _SUPPORTS[self.support]
        except KeyError:
            known = ", ".join(_SUPPORTS)
            raise ValueError(f"support must be one of {known}; got {self.support!r}") from None
        if observed is None:
            checks.finite(name, x)
        start = 0
        for part in checks.parts(x):
            test(self, name, part, None if observed is None else observed[start : start + len(part)])
            start += len(part)

    def refuse(self, name: str, low: float, high: float) -> NoReturn:
        """Raise the ValueError for data from `low` to `high`; the class decides what it advises."""
        raise ValueError(
            f"{name} must be {_WORDS[self.support]} for the likelihood {type(self).__name__}, got numbers "
            f"from {low:g} to {high:g}: {self._remedy(low, high)}"
        )

    def _remedy(self, low: float, high: float) -> str:
        return "rescale them, or choose another likelihood"


_WORDS = {
    "unit interval": "in [0, 1]",
    "real": "finite",
    "non-negative": ">= 0",
    "counts": "whole numbers >= 0",
    "one-hot": "shares >= 0 that add up to 1 along the last axis (one-hot)",
}


def _values(part, observed):
    return part if observed is None else part[observed]


def _within(low, high, whole=False):
    def test(likelihood, name, part, observed):
        values = _values(part, observed)
        if not values.size:
            return
        if not np.isfinite(values).all():
            raise ValueError(f"{name} must be finite where it counts, got NaN or infinity")
        bounds = float(values.min()), float(values.max())
        if bounds[0] < low or bounds[1] > high or (whole and not np.array_equal(values, np.floor(values))):
            likelihood.refuse(name, *bounds)

    return test


def _one_hot(likelihood, name, part, observed):
    part = part.reshape(-1, part.shape[-1])
    if observed is not None:
        part = part[observed.reshape(part.shape).all(axis=-1)]
    if part.size and (part.min() < 0 or np.abs(part.sum(axis=-1, dtype=np.float64) - 1).max() > 1e-3):
        likelihood.refuse(name, float(part.min()), float(part.max()))


_SUPPORTS = {
    "unit interval": _within(0, 1),
    "real": _within(-math.inf, math.inf),
    "non-negative": _within(0, math.inf),
    "counts": _within(0, math.inf, whole=True),
    "one-hot": _one_hot,
}
