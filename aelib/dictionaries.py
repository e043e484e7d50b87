"""Sparse dictionary learners for the activations of a net, and the figures to judge them by.

A dictionary has many units, one direction each, and explains every sample by a few of them: Olshausen & Field
(1996) for images, Bricken et al. (2023) for activations.
"""

from collections.abc import Sequence
from typing import Any, Literal, Self

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from aelib import checks, layers, likelihoods
from aelib.autoencoder import Autoencoder

_register = keras.saving.register_keras_serializable("aelib")

KINDS = ("topk", "batch_topk", "jumprelu")
#: Mean and scale are taken from at most so many samples.
_ROWS = 10_000


class _Scaled(keras.layers.Layer):
    """A layer that knows the mean and the scale of the data, and computes with them in float32 at least.

    Activations often have means that are large beside their spread: half precision would round that away.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**({"autocast": False} | kwargs))

    @property
    def _precision(self) -> str:
        return keras.backend.result_type(self.compute_dtype, "float32")

    def _build_scale(self, width: int) -> None:
        fixed = {"trainable": False, "dtype": self._precision}
        self.center = self.add_weight(shape=(width,), initializer="zeros", name="center", **fixed)
        self.scale = self.add_weight(shape=(), initializer="ones", name="scale", **fixed)

    def adapt(self, x: np.ndarray, *, name: str = "the data") -> None:
        """Take the mean of every feature of an ndarray (n, ...), and the root of their mean variance."""
        rows = x.reshape(len(x), -1)
        scale = float(np.sqrt(rows.var(axis=0, dtype=np.float64).mean()))
        if not scale:
            raise ValueError(
                f"{name} must vary, got {len(rows)} samples that are all the same: leave constant features "
                "out, and of a pipeline give a first batch of several samples"
            )
        self.center.assign(rows.mean(axis=0, dtype=np.float64))
        self.scale.assign(scale)


@_register
class DictionaryEncoder(_Scaled):
    """Activations to units before any is cut off, ReLU((x - center) / scale · W + b): (B, ...) -> (B, K).

    Parameters
    ----------
    units : int
        K.
    """

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = checks.whole_number("units", units)

    def build(self, input_shape):
        """Make the weights."""
        width = int(np.prod(input_shape[1:]))
        self._build_scale(width)
        self.kernel = self.add_weight(shape=(width, self.units), name="kernel")
        self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="bias")

    def call(self, x):
        """Return the units' activity, at least 0."""
        x = ops.reshape(ops.cast(x, self._precision), (-1, self.center.shape[0]))
        x, kernel, bias = (
            ops.cast(part, self.compute_dtype)
            for part in ((x - self.center) / self.scale, self.kernel, self.bias)
        )
        return ops.relu(ops.matmul(x, kernel) + bias)

    def compute_output_shape(self, input_shape):
        """Return (B, K)."""
        return (input_shape[0], self.units)

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds the layer."""
        return super().get_config() | {"units": self.units}


@_register
class JumpReLU(keras.layers.Layer):
    """Sets to 0 what is not above a threshold, one for each unit and learnt: (B, K) -> (B, K).

    z · H(z - θ), where the step H has no slope: that of a rectangle of some bandwidth stands in for it, in
    the gradient by θ alone (Rajamanoharan et al., 2024, section 4).

    Parameters
    ----------
    bandwidth : float
        Width of the rectangle, in units of z.

    Attributes
    ----------
    log_threshold : variable (K,)
        Natural logarithm of θ, which starts at 0.1.
    """

    def __init__(self, *, bandwidth: float = 0.1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bandwidth = checks.number("bandwidth", bandwidth, above=0)

    def build(self, input_shape):
        """Make the thresholds."""
        self.log_threshold = self.add_weight(
            shape=(input_shape[-1],),
            initializer=keras.initializers.Constant(np.log(0.1)),
            name="log_threshold",
            autocast=False,
        )

    def active(self, z: Any) -> Any:
        """Return H(z - θ), 1 where a unit is on, else 0: (B, K) -> (B, K), float32 at least."""
        z = ops.cast(z, keras.backend.result_type(self.compute_dtype, "float32"))
        above = ops.stop_gradient(z) - ops.exp(self.log_threshold)
        smooth = ops.clip(above / self.bandwidth + 0.5, 0.0, 1.0)
        return ops.cast(above > 0, z.dtype) + (smooth - ops.stop_gradient(smooth))

    def call(self, z):
        """Return `z` where it is above its threshold."""
        active = self.active(z)
        on = ops.stop_gradient(active)
        # The second part is 0, and gives the threshold its gradient.
        code = ops.cast(z, on.dtype) * on + ops.stop_gradient(ops.exp(self.log_threshold)) * (active - on)
        return ops.cast(code, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        """Return the shape of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds the layer."""
        return super().get_config() | {"bandwidth": self.bandwidth}


def _unit_rows(shape: Any, dtype: Any = None) -> Any:
    return keras.constraints.UnitNorm(axis=1)(keras.initializers.RandomNormal()(shape, dtype))


@_register
class DictionaryDecoder(_Scaled):
    """Codes to activations, center + scale · (z · directions + b): (B, K) -> (B, ...), float32 at least.

    Parameters
    ----------
    shape : int or tuple of int
        Of one sample.

    Attributes
    ----------
    directions : variable (K, D)
        Each unit's direction, of length 1, which every step of an optimiser restores.
    """

    def __init__(self, shape: int | Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.shape = checks.sample_shape("shape", shape)

    def build(self, input_shape):
        """Make the weights."""
        width = int(np.prod(self.shape))
        self._build_scale(width)
        self.directions = self.add_weight(
            shape=(input_shape[-1], width),
            initializer=_unit_rows,
            constraint=keras.constraints.UnitNorm(axis=1),
            name="directions",
        )
        self.bias = self.add_weight(shape=(width,), initializer="zeros", name="bias")

    def explained(self, code: Any) -> Any:
        """Return what the units add to the data, scale · z · directions: (B, K) -> (B, ...)."""
        summed = ops.matmul(code, ops.cast(self.directions, code.dtype))
        return ops.reshape(ops.cast(summed, self._precision) * self.scale, (-1, *self.shape))

    def call(self, code):
        """Return the activations."""
        offset = self.center + self.scale * self.bias
        return self.explained(ops.cast(code, self.compute_dtype)) + ops.reshape(offset, self.shape)

    def compute_output_shape(self, input_shape):
        """Return the shape of the activations."""
        return (input_shape[0], *self.shape)

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds the layer."""
        return super().get_config() | {"shape": self.shape}


@_register
class SparseDictionary(Autoencoder):
    """A dictionary of directions in a net's activations, few of which make up each sample.

    ``model.fit(activations)``. The mean and the mean variance of the first data centre and scale the input
    and the output, so that settings serve activations of any size; the directions have length 1.

    Parameters
    ----------
    shape : int or tuple of int
        Of one sample: its width, D; an image of activations is better given position by position.
    units : int
        Directions in the dictionary, K.
    k : int
        How many units are to be on for a sample, on average; at most `units`.
    kind : {"topk", "batch_topk", "jumprelu"}
        What decides which units are on. "topk": the `k` largest of the sample (Gao et al., 2025).
        "batch_topk": the ``k * B`` largest of the batch, and outside training whatever reaches the mean
        border of the batches seen (Bussmann et al., 2024); see `aelib.layers.KSparse`. "jumprelu": a learnt
        threshold for each unit (Rajamanoharan et al., 2024), which starts where the unit is on for a share
        k / K of the first data.
    likelihood : str or aelib.likelihoods.Likelihood
        As for `Autoencoder`; of real data.
    auxiliary : float
        Weight, at least 0, of the term ``auxiliary``: the dead units, the D / 2 most active of them, explain
        what the others leave (Gao et al., 2025, appendix A.2). Of "jumprelu", it also draws their thresholds
        to their activity, which the former cannot lower (after Conerly et al., 2025). With 0 there is no such
        term.
    dead_after : int
        For how many samples in turn a unit has not been on when it counts as dead.
    strength : float
        Weight, at least 0, of the term ``sparsity`` of "jumprelu", as a share of the data's variance:
        (L0 / k - 1)², where L0 is the mean number of units that are on in the batch.
    bandwidth : float
        Of "jumprelu": see `JumpReLU`, whose input is that of data with a mean variance of 1.

    Examples
    --------
    >>> import numpy as np
    >>> from aelib import SparseDictionary
    >>> x = np.random.default_rng(0).normal(size=(200, 8)).astype("float32")
    >>> model = SparseDictionary(8, 32, k=4)
    >>> model.compile("adam")
    >>> history = model.fit(x, epochs=1, verbose=0)
    >>> int((model.encode(x) > 0).sum(axis=1).max())
    4
    """

    def __init__(
        self,
        shape: int | Sequence[int],
        units: int,
        *,
        k: int,
        kind: Literal["topk", "batch_topk", "jumprelu"] = "topk",
        likelihood: str | likelihoods.Likelihood = "gaussian",
        auxiliary: float = 1 / 32,
        dead_after: int = 100_000,
        strength: float = 1.0,
        bandwidth: float = 0.1,
        **kwargs: Any,
    ) -> None:
        shape = checks.sample_shape("shape", shape)
        units, k = checks.whole_number("units", units), checks.whole_number("k", k)
        bandwidth = checks.number("bandwidth", bandwidth, above=0)
        if k > units:
            raise ValueError(f"k must be at most units, {units}, got {k}")
        own = {"dtype": kwargs.get("dtype")}
        if checks.choice("kind", kind, KINDS) == "jumprelu":
            gate = JumpReLU(bandwidth=bandwidth, **own)
        else:
            gate = layers.KSparse(k, per="batch" if kind == "batch_topk" else "sample", **own)
        encoder = [keras.Input(shape), DictionaryEncoder(units, **own), gate]
        decoder = [keras.Input((units,)), DictionaryDecoder(shape, **own)]
        super().__init__(
            keras.Sequential(encoder, name="encoder"),
            keras.Sequential(decoder, name="decoder"),
            likelihood=likelihood,
            **kwargs,
        )
        self.k = k
        self.kind = kind
        self.bandwidth = bandwidth
        self.auxiliary = checks.number("auxiliary", auxiliary, least=0)
        self.dead_after = checks.whole_number("dead_after", dead_after)
        self.strength = checks.number("strength", strength, least=0)
        # Samples since each unit was last on.
        self.silent = self.add_weight(
            shape=(units,),
            initializer="zeros",
            name="silent",
            trainable=False,
            dtype="float32",
            autocast=False,
        )
        # As the decoder's transpose it leaves fewer units dead (Gao et al., 2025, section 2.4).
        linear, atoms = self.encoder.layers[0], self.decoder.layers[0]
        linear.kernel.assign(ops.transpose(atoms.directions))

    @property
    def dictionary(self) -> np.ndarray:
        """The units' directions, ndarray (K, D), each of length 1."""
        return ops.convert_to_numpy(self.decoder.layers[0].directions)

    def _adapt(self, x: Any, target: Any) -> None:
        super()._adapt(x, target)
        linear, gate = self.encoder.layers
        shown, wanted = (
            ops.convert_to_numpy(self.likelihood.hide(self._as_input(part[:_ROWS]))) for part in (x, target)
        )
        linear.adapt(shown)
        self.decoder.layers[0].adapt(wanted, name="the target")
        if self.kind == "jumprelu":
            before = ops.convert_to_numpy(ops.cast(linear(shown), "float32"))
            start = np.quantile(before, 1 - self.k / linear.units, axis=0)
            gate.log_threshold.assign(np.log(np.maximum(start, 1e-3)))

    def call(self, x, training=None):
        """Return ``code`` (B, K), ``reconstruction`` (B, ...), and ``before``, (B, K) before the cut."""
        linear, gate = self.encoder.layers
        before = linear(self.visible(x, training=training))
        code = gate(before)
        if training:
            samples = ops.cast(ops.shape(code)[0], "float32")
            on = ops.any(code > 0, axis=0)
            self.silent.assign(ops.where(on, 0.0, self.silent + samples))
        return {"code": code, "reconstruction": self.decoder(code), "before": before}

    def terms(self, target, out):
        """Return ``reconstruction``, ``auxiliary`` and, of "jumprelu", ``sparsity``."""
        terms = super().terms(target, out)
        if self.auxiliary:
            terms["auxiliary"] = self.auxiliary * self._left_to_the_dead(target, out)
        if self.kind == "jumprelu":
            atoms, gate = self.decoder.layers[0], self.encoder.layers[1]
            variance = atoms.center.shape[0] * ops.square(atoms.scale)
            l0 = ops.mean(ops.sum(gate.active(out["before"]), axis=-1))
            terms["sparsity"] = self.strength * variance * ops.square(l0 / self.k - 1)
        return terms

    def _left_to_the_dead(self, target: Any, out: dict[str, Any]) -> Any:
        """Return how badly the dead units explain what the others leave, (B,); 0 where none is dead.

        Of thresholds, with how far the dead units are below theirs, in units of the variance.
        """
        atoms, before = self.decoder.layers[0], out["before"]
        dead = ops.cast(self.silent > self.dead_after, before.dtype)
        candidates = before * dead
        border = ops.top_k(candidates, min(before.shape[1], -(-atoms.center.shape[0] // 2)))[0][:, -1:]
        code = ops.where(candidates >= border, candidates, ops.zeros_like(candidates))
        raw = ops.stop_gradient(out["reconstruction"]) + atoms.explained(code)
        left = ops.max(dead) * self.likelihood.nll(target, raw)
        if self.kind != "jumprelu":
            return left
        threshold = ops.exp(self.encoder.layers[1].log_threshold)
        below = dead * ops.relu(threshold - ops.stop_gradient(before))
        return left + ops.square(atoms.scale) * ops.sum(below, axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` needs."""
        config = super().get_config()
        del config["encoder"], config["decoder"]
        own = ("k", "kind", "auxiliary", "dead_after", "strength", "bandwidth")
        config |= {name: getattr(self, name) for name in own}
        return config | {"shape": self.decoder.layers[0].shape, "units": self.encoder.layers[0].units}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Rebuild an untrained model from `get_config`."""
        parts = {
            name: keras.saving.deserialize_keras_object(config[name]) for name in ("likelihood", "corrupt")
        }
        return cls(**config | parts)


def firing_density(codes: ArrayLike) -> np.ndarray:
    """Return the share of samples for which each unit is on, that is, not 0: (n, K) -> ndarray (K,)."""
    return np.mean(checks.codes(codes) != 0, axis=0)


def l0(codes: ArrayLike) -> float:
    """Return how many units are on for a sample, on average: (n, K) -> float."""
    return float(firing_density(codes).sum())


def dead_share(codes: ArrayLike) -> float:
    """Return the share of units that are on for none of the samples: (n, K) -> float in [0, 1]."""
    return float(np.mean(firing_density(codes) == 0))


def fraction_unexplained(x: ArrayLike, reconstruction: ArrayLike) -> float:
    """Return the squared error as a share of the data's variance: (n, ...), (n, ...) -> float, at least 0.

    Σ‖x - reconstruction‖² / Σ‖x - mean‖², where the mean is that of `x`: 1 is what the mean alone achieves.
    """
    pair = {"x": checks.samples("x", x), "reconstruction": checks.samples("reconstruction", reconstruction)}
    if pair["x"].shape != pair["reconstruction"].shape:
        shapes = " and ".join(f"{name} {part.shape}" for name, part in pair.items())
        raise ValueError(f"{shapes} must have one shape")
    x, reconstruction = (
        checks.finite(name, part.astype(np.float64), remedy="drop these rows") for name, part in pair.items()
    )
    whole = np.sum(np.square(x - x.mean(axis=0)))
    if not whole:
        raise ValueError(f"x must vary, got {len(x)} samples that are all the same: give more samples")
    return float(np.sum(np.square(x - reconstruction)) / whole)


def mean_max_cosine(directions: ArrayLike, features: ArrayLike) -> float:
    """Return how well known features are found: (K, D), (F, D) -> float in [-1, 1], 1 for all of them.

    The cosine of each feature with the direction nearest to it, averaged over the features (Sharkey et al.,
    2022). Rows may have any length but 0.
    """
    rows = []
    for name, value in (("directions", directions), ("features", features)):
        value = checks.samples(name, value).astype(np.float64)
        lengths = np.linalg.norm(value, axis=-1, keepdims=True)
        if value.ndim != 2 or not (np.isfinite(lengths) & (lengths > 0)).all():
            raise ValueError(
                f"{name} must be rows of finite numbers, none of length 0, got shape {value.shape} and "
                f"lengths from {lengths.min():g} to {lengths.max():g}: drop the other rows"
            )
        rows.append(value / lengths)
    if rows[0].shape[1] != rows[1].shape[1]:
        raise ValueError(f"directions {rows[0].shape} and features {rows[1].shape} must be equally wide")
    return float(np.mean(np.max(rows[1] @ rows[0].T, axis=1)))


def loss_recovered(clean: float, reconstructed: float, ablated: float) -> float:
    """Return the share of a net's performance that its activations' reconstructions keep: float, at most 1.

    (ablated - reconstructed) / (ablated - clean), of three losses of the net that the activations come from:
    as it is, with the reconstructions in their place, and with zeros or their mean there (Bricken et al.,
    2023). It is below 0 where reconstructions do more harm than ablation.
    """
    losses = {"clean": clean, "reconstructed": reconstructed, "ablated": ablated}
    clean, reconstructed, ablated = (checks.number(name, loss) for name, loss in losses.items())
    if ablated <= clean:
        raise ValueError(
            f"ablated must be above clean, {clean:g}, got {ablated:g}: these activations do not matter to "
            "the net, and no share of that can be recovered; ablate others"
        )
    return (ablated - reconstructed) / (ablated - clean)
