"""Likelihoods made of others: columns of several kinds, and missing data. Import from `aelib.likelihoods`."""

import itertools
import math
import numbers
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from aelib import checks
from aelib.likelihoods.base import Likelihood
from aelib.likelihoods.features import get

_register = keras.saving.register_keras_serializable("aelib")


@_register
class Mixed(Likelihood):
    """Columns of different kinds side by side, for tables: each group has a likelihood of its own.

    Parameters
    ----------
    parts : sequence of (columns, likelihood)
        How many columns of the last axis a likelihood covers, in the order of the columns, and which it is:
        an object or its name. The decoder's output has the parts in the same order, each as wide as its
        likelihood asks for. The terms are nats throughout, so that they may be added.

    Examples
    --------
    >>> from aelib.likelihoods import Mixed, Poisson
    >>> Mixed([(2, "gaussian"), (3, "categorical"), (1, Poisson())]).raw_shape((None, 6))
    (None, 6)
    """

    def __init__(self, parts: Iterable[tuple[int, str | Likelihood]], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        pairs = list(parts)
        if not pairs or any(not isinstance(pair, list | tuple) or len(pair) != 2 for pair in pairs):
            raise ValueError(f"parts must be pairs (columns, likelihood), at least one, got {parts!r}")
        self.columns = [checks.whole_number("the columns of a part", count) for count, _ in pairs]
        self.likelihoods = [get(likelihood) for _, likelihood in pairs]
        if any(isinstance(likelihood, Masked) for likelihood in self.likelihoods):
            raise ValueError("put Masked around the whole: Masked(Mixed(...)), not Mixed([(n, Masked(...))])")

    @property
    def support(self) -> str:  # type: ignore[override]
        """What targets may be, part by part."""
        return ", ".join(likelihood.support for likelihood in self.likelihoods)

    @property
    def reads_logits(self) -> bool:  # type: ignore[override]
        """Whether any part reads logits."""
        return any(likelihood.reads_logits for likelihood in self.likelihoods)

    def _slices(self, widths: Sequence[int]) -> list[slice]:
        ends = np.cumsum([0, *widths])
        return [slice(int(start), int(stop)) for start, stop in itertools.pairwise(ends)]

    def _raw_widths(self) -> list[int]:
        return [p.raw_shape((n,))[0] for n, p in zip(self.columns, self.likelihoods, strict=True)]

    def raw_shape(self, shape: Sequence[int | None]) -> tuple[Any, ...]:
        """Return the shape of the decoder's output for data of `shape`."""
        if shape[-1] not in (None, sum(self.columns)):
            raise ValueError(
                f"the parts cover {sum(self.columns)} columns, {self.columns}; the data have {shape[-1]}"
            )
        return (*shape[:-1], sum(self._raw_widths()))

    def data_shape(self, raw_shape: Sequence[Any]) -> tuple[Any, ...]:
        """Return the shape of data for which the decoder's output has `raw_shape`."""
        return (*raw_shape[:-1], sum(self.columns))

    def feature_nll(self, target, raw):
        """Return every part's own."""
        ours, theirs = self._slices(self.columns), self._slices(self._raw_widths())
        parts = zip(self.likelihoods, ours, theirs, strict=True)
        return ops.concatenate([p.feature_nll(target[..., a], raw[..., b]) for p, a, b in parts], axis=-1)

    def feature_constant(self, target: Any) -> Any:
        """Return every part's own."""
        parts = zip(self.likelihoods, self._slices(self.columns), strict=True)
        return ops.concatenate([p.feature_constant(target[..., a]) for p, a in parts], axis=-1)

    def mean(self, raw: Any) -> Any:
        """Return every part's own."""
        parts = zip(self.likelihoods, self._slices(self._raw_widths()), strict=True)
        return ops.concatenate([p.mean(raw[..., b]) for p, b in parts], axis=-1)

    def sample(self, raw: Any, seed: int | keras.random.SeedGenerator | None = None) -> Any:
        """Draw from every part."""
        seeds = [seed] * len(self.columns)
        if isinstance(seed, numbers.Integral):  # else all parts would draw the same noise
            seeds = [int(n) for n in np.random.SeedSequence(seed).generate_state(len(self.columns))]  # type: ignore[arg-type]
        parts = zip(self.likelihoods, self._slices(self._raw_widths()), seeds, strict=True)
        return ops.concatenate([p.sample(raw[..., b], s) for p, b, s in parts], axis=-1)

    def adapt(self, x: np.ndarray) -> None:
        """Let every part prepare for its columns."""
        for likelihood, ours in zip(self.likelihoods, self._slices(self.columns), strict=True):
            likelihood.adapt(x[..., ours])

    def check(self, x: np.ndarray, *, name: str = "the data", observed: np.ndarray | None = None) -> None:
        """Check every part's columns, and name them."""
        self.raw_shape(x.shape)
        for likelihood, ours in zip(self.likelihoods, self._slices(self.columns), strict=True):
            seen = None if observed is None else observed[..., ours]
            where = f"columns {ours.start} to {ours.stop - 1} of {name}"
            likelihood.check(x[..., ours], name=where, observed=seen)

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds the likelihood."""
        parts = zip(self.columns, map(keras.saving.serialize_keras_object, self.likelihoods), strict=True)
        return super().get_config() | {"parts": [list(pair) for pair in parts]}


@_register
class Masked(Likelihood):
    """A likelihood that counts only what is observed: missing cells of a table, padded steps, features.

    The data mark what is missing, by NaN or by a value of your choice; from there one mask reaches the
    encoder (which sees `fill` instead), the loss, `reconstruct` (which fills the gaps), the errors of
    `aelib.anomaly` and the detector.

    Parameters
    ----------
    likelihood : Likelihood or str
        Of what is observed.
    value : float
        Marks what is missing: NaN, or a number that the data hold nowhere else.
    fill : float, optional
        What the encoder sees in its place: 0 for standardised data; for a recurrent encoder with a
        ``mask_value`` that value. By default `value`, or 0 where that is NaN.
    steps : bool
        Whether a step, (..., features), is missing only where **all** its features carry the mark, as
        `keras.layers.Masking` has it; otherwise each cell counts by itself.

    Examples
    --------
    >>> import numpy as np
    >>> from aelib.likelihoods import Masked
    >>> likelihood = Masked("laplace")  # NaN marks what is missing
    >>> x, raw = np.float32([[1, np.nan]]), np.float32([[3, 5]])
    >>> float(likelihood.nll(x, raw)[0])
    2.0
    """

    def __init__(
        self,
        likelihood: str | Likelihood,
        *,
        value: float = math.nan,
        fill: float | None = None,
        steps: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.likelihood = get(likelihood)
        if isinstance(self.likelihood, Masked):
            raise ValueError("the likelihood is masked already: Masked(Masked(...))")
        self.value = math.nan if _is_nan(value) else checks.number("value", value)
        if fill is None:
            fill = 0.0 if _is_nan(self.value) else self.value
        self.fill = checks.number("fill", fill)
        self.steps = checks.flag("steps", steps)

    @property
    def support(self) -> str:  # type: ignore[override]
        """What observed targets may be."""
        return self.likelihood.support

    @property
    def outputs_per_feature(self) -> int:  # type: ignore[override]
        """As many as the likelihood within."""
        return self.likelihood.outputs_per_feature

    @property
    def reads_logits(self) -> bool:  # type: ignore[override]
        """As the likelihood within."""
        return self.likelihood.reads_logits

    def raw_shape(self, shape: Sequence[int | None]) -> tuple[Any, ...]:
        """Return the shape of the decoder's output for data of `shape`."""
        return self.likelihood.raw_shape(shape)

    def data_shape(self, raw_shape: Sequence[Any]) -> tuple[Any, ...]:
        """Return the shape of data for which the decoder's output has `raw_shape`."""
        return self.likelihood.data_shape(raw_shape)

    def _seen(self, x: Any, backend: Any) -> Any:
        """Return which features count, bool, in the shape of `x`; `backend` is NumPy or `keras.ops`."""
        marked = backend.isnan(x) if _is_nan(self.value) else backend.equal(x, self.value)
        if self.steps:
            marked = backend.broadcast_to(backend.all(marked, axis=-1, keepdims=True), backend.shape(x))
        return backend.logical_not(marked)

    def observed(self, x: np.ndarray) -> np.ndarray:
        """Return which features of an ndarray count, bool (n, ...)."""
        return np.ones(x.shape, bool) if _is_nan(self.value) and x.dtype.kind != "f" else self._seen(x, np)

    def hide(self, x: Any, seen: Any = None) -> Any:
        """Return `x`, or its corrupted version `seen`, with `fill` where the data are missing."""
        return ops.where(self._seen(x, ops), x if seen is None else seen, ops.full_like(x, self.fill))

    def _safe(self, target: Any) -> tuple[Any, Any]:
        # What does not count must still be a number: NaN times 0 is NaN, in the gradient too.
        counts = self._seen(target, ops)
        return counts, ops.where(counts, target, ops.zeros_like(target))

    def feature_nll(self, target, raw):
        """Return the likelihood's own where the target is observed, else 0."""
        counts, safe = self._safe(target)
        costs = self.likelihood.feature_nll(safe, raw)
        return ops.where(counts, costs, ops.zeros_like(costs))

    def feature_constant(self, target: Any) -> Any:
        """Return the likelihood's own where the target is observed, else 0."""
        counts, safe = self._safe(target)
        constant = self.likelihood.feature_constant(safe)
        return ops.where(counts, constant, ops.zeros_like(constant))

    def mean(self, raw: Any) -> Any:
        """Return the likelihood's own."""
        return self.likelihood.mean(raw)

    def sample(self, raw: Any, seed: int | keras.random.SeedGenerator | None = None) -> Any:
        """Draw from the likelihood within."""
        return self.likelihood.sample(raw, seed)

    def adapt(self, x: np.ndarray) -> None:
        """Let the likelihood within prepare for what is observed."""
        rows = np.asarray(x[:10_000], np.float32)
        self.likelihood.adapt(np.where(self.observed(rows), rows, np.nan))

    def check(self, x: np.ndarray, *, name: str = "the data", observed: np.ndarray | None = None) -> None:
        """Check what is observed."""
        seen = self.observed(x)
        self.likelihood.check(x, name=name, observed=seen if observed is None else seen & observed)

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds the likelihood."""
        own = {"likelihood": keras.saving.serialize_keras_object(self.likelihood), "steps": self.steps}
        # NaN is no JSON.
        value = "nan" if _is_nan(self.value) else self.value
        return super().get_config() | own | {"value": value, "fill": self.fill}


def _is_nan(value: Any) -> bool:
    return value == "nan" or (isinstance(value, float | np.floating) and math.isnan(value))
