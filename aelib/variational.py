"""The variational family: autoencoders whose code is a distribution, and whose prior can be sampled."""

import warnings
from typing import Any, Literal, Self

import keras
import numpy as np
from keras import ops

from aelib import batches, bounds, checks, divergences, layers, likelihoods, metrics, priors
from aelib.autoencoder import Autoencoder
from aelib.objectives import mmd


class WithPrior(Autoencoder):
    """An autoencoder whose codes are to follow a prior, from which new ones are drawn.

    Parameters
    ----------
    prior : aelib.priors.Prior, optional
        By default N(0, I).
    seed : int, optional
        Of the draws in training.
    **kwargs
        As for `Autoencoder`.
    """

    def __init__(
        self,
        encoder: keras.layers.Layer,
        decoder: keras.layers.Layer,
        *,
        prior: priors.Prior | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(encoder, decoder, **kwargs)
        self.seed = checks.seed("seed", seed)
        self.prior = priors.get(prior)
        self.prior.attach(self)

    def _adapt(self, x: Any, target: Any) -> None:
        super()._adapt(x, target)
        shown = self.visible(next(batches.slices(x, 10_000)))
        self.prior.adapt(batches.each(ops.convert_to_numpy, shown))

    def sample(self, n: int, *, seed: int | None = None, prior: Any = None) -> np.ndarray:
        """Return the means of the data for `n` codes from the prior: ndarray (n, ...).

        `prior` takes the place of the model's own: one that was fitted to its codes, see `aelib.priors`.
        """
        n, seed = checks.whole_number("n", n), checks.seed("seed", seed)
        if prior is not None:
            return self.decode(prior.sample(n, seed=seed))
        return self.decode(self._drawn(n, seed))

    def _drawn(self, n: int, seed: int | None, condition: Any = None) -> np.ndarray:
        width = _width(self.decoder, "input_shape")
        if width is None:
            raise ValueError("the decoder does not say how long a code is: build it with keras.Input((K,))")
        if type(self.prior) is priors.Prior:  # the same on every backend
            return np.random.default_rng(seed).normal(size=(n, width)).astype("float32")
        noise = keras.random.SeedGenerator(seed)
        return ops.convert_to_numpy(self.prior.draw(n, width, seed=noise, condition=condition))

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` needs."""
        parts = {name: keras.saving.serialize_keras_object(getattr(self, name)) for name in self._parts}
        return super().get_config() | parts | {"seed": self.seed}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Rebuild an untrained model from `get_config`."""
        parts = {name: keras.saving.deserialize_keras_object(config[name]) for name in cls._parts}
        return super().from_config(config | parts)

    #: What else than the parts of every autoencoder is a layer, in the configuration.
    _parts = ("prior",)


class _GaussianCode(WithPrior):
    """What the variational family has in common: a normal posterior, and bounds."""

    def __init__(
        self,
        encoder: keras.layers.Layer,
        decoder: keras.layers.Layer,
        *,
        likelihood: str | likelihoods.Likelihood = "bernoulli",
        variance: float | Literal["learned", "predicted"] | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        if likelihood == "gaussian":
            likelihood = likelihoods.Gaussian("learned" if variance is None else variance)
        elif variance is not None:
            raise ValueError(
                f"variance={variance!r} belongs to likelihood='gaussian', got likelihood={likelihood!r}: "
                "give the scale to the likelihood itself, as in aelib.likelihoods.Laplace(0.1)"
            )
        super().__init__(encoder, decoder, likelihood=likelihood, seed=seed, **kwargs)
        width, code = _width(encoder, "output_shape"), _width(decoder, "input_shape")
        if None not in (width, code) and width != 2 * code:
            raise ValueError(
                f"the encoder must return 2 x {code} numbers, means and log-variances; got {width}"
            )
        self.sampling = layers.Sampling(seed=self.seed)

    def posterior(self, x: Any, training: bool | None = None) -> Any:
        """Return the posterior's mean and the logarithm of its variance: (B, ...) -> (B, K), (B, K).

        In training it is that of the corrupted input, where the model has a corruption.
        """
        return ops.split(self.encoder(self.visible(x, training=training), training=training), 2, axis=-1)

    def call(self, x, training=None):
        """Return a draw as ``code``, its raw ``reconstruction``, and the posterior: ``mean``, ``log_var``."""
        mean, log_var = self.posterior(x, training=training)
        code = self.sampling(mean, log_var)
        out = {"code": code, "mean": mean, "log_var": log_var}
        return out | {"reconstruction": self.decoder(self.decoder_input(code, x), training=training)}

    def condition_of(self, x: Any) -> Any:
        """Return what the prior depends on beside the code, or None: nothing."""
        return None

    def decoder_input(self, code: Any, x: Any) -> Any:
        """Return what the decoder reads: codes (S·B, K), S for each sample of `x` -> (S·B, K), or more."""
        return code

    def fit(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """Train, as `Autoencoder.fit`; warns where no unit of the code has become active."""
        history = super().fit(x, y, *args, **kwargs)
        # Fewer steps show nothing yet.
        taken = int(ops.convert_to_numpy(self.optimizer.iterations))
        if taken >= 100 and batches.is_array(x) and batches.rows(x := batches.as_array("the data", x)) > 1:
            means = self.posterior(next(batches.slices(x, 256)))[0]
            if not metrics.active_units(ops.convert_to_numpy(ops.cast(means, "float32"))):
                warnings.warn(
                    "no unit of the code is active: the posterior is the same for every sample, and the "
                    "decoder ignores it (posterior collapse). Train longer, lower beta, raise warmup or "
                    "free_bits, or, for a Gaussian likelihood, let variance='learned'",
                    stacklevel=2,
                )
        return history

    def _encoded(self, x: Any, batch_size: int) -> Any:
        both = super()._encoded(x, batch_size)
        return both[:, : both.shape[1] // 2]

    def interpolate(self, start: Any, end: Any, *, steps: int = 8) -> np.ndarray:
        """Decode `steps` codes on the line from each `start` to its `end`: (n, ...) -> (n, steps, ...)."""
        steps = checks.whole_number("steps", steps, least=2)
        one, two = self.encode(start), self.encode(end)
        codes = _between(one, two, steps)
        decoded = self.decode(codes.reshape(-1, codes.shape[-1]))
        return decoded.reshape(len(one), steps, *decoded.shape[1:])

    def elbo(self, x: Any, *, samples: int = 1, seed: int | None = 0) -> bounds.Estimate:
        """Estimate the evidence lower bound on log p(x), in nats: see `aelib.bounds.elbo`."""
        return bounds.elbo(self, x, samples=samples, seed=seed)


@keras.saving.register_keras_serializable("aelib")
class VariationalAutoencoder(_GaussianCode):
    """A variational autoencoder: Kingma & Welling (2014), Rezende et al. (2014).

    The loss is the negative evidence lower bound of one draw: the reconstruction, **summed** over the pixels,
    plus the KL divergence, **summed** over the latents; both averaged over the batch. The constants that a
    likelihood leaves out (see `aelib.likelihoods`) are missing from the loss, and counted by `elbo`.

    It is put together from a likelihood, a prior and a divergence, each of which may be your own.

    Parameters
    ----------
    encoder : keras.Model
        (B, ...) -> (B, 2 K): the means, then the logarithms of the **variances**.
    decoder : keras.Model
        (B, K) -> (B, ...), raw.
    likelihood : str or aelib.likelihoods.Likelihood
    variance : float, "learned" or "predicted", optional
        Of a feature, where the likelihood is "gaussian"; by default learned. It sets how much the divergence
        weighs beside the reconstruction: ½ for data whose standard deviation is 0.1 leaves no unit active.
    prior : aelib.priors.Prior, optional
        Of the code; by default N(0, I).
    divergence : aelib.divergences.Divergence, optional
        What keeps the codes near the prior; by default the KL divergence, with `free_bits`.
    beta : float
        Weight of the divergence (Higgins et al., 2017); 1 for the bound itself, at least 0.
    warmup : int
        Number of training steps over which the weight rises from 0 to `beta` (Bowman et al., 2016, section
        3.1). Evaluation always uses `beta`.
    free_bits : float
        Nats that each latent may cost, on the batch's average, before it is charged (Kingma et al., 2016,
        appendix C.8). With them the term ``kl`` is a figure of the batch.
    seed : int, optional
        Of the draws.

    Examples
    --------
    >>> import numpy as np
    >>> from aelib import VariationalAutoencoder, blocks
    >>> x = np.random.default_rng(0).random((100, 20), dtype="float32")
    >>> model = VariationalAutoencoder(blocks.dense_encoder(20, 2 * 3), blocks.dense_decoder(20, 3))
    >>> model.compile("adam")
    >>> history = model.fit(x, epochs=1, verbose=0)
    >>> model.encode(x).shape, model.sample(5).shape
    ((100, 3), (5, 20))
    """

    def __init__(
        self,
        encoder: keras.layers.Layer,
        decoder: keras.layers.Layer,
        *,
        divergence: divergences.Divergence | None = None,
        beta: float = 1.0,
        warmup: int = 0,
        free_bits: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(encoder, decoder, **kwargs)
        self.beta = checks.number("beta", beta, least=0)
        self.warmup = checks.whole_number("warmup", warmup, least=0)
        self.free_bits = checks.number("free_bits", free_bits, least=0)
        if divergence is not None and self.free_bits:
            raise ValueError(
                f"free_bits={self.free_bits:g} belongs to the KL divergence, got divergence={divergence!r}"
            )
        self.divergence = divergences.get(divergence, self.free_bits)
        self.step = self.add_weight(
            shape=(), initializer="zeros", trainable=False, name="step", dtype="float32", autocast=False
        )

    def call(self, x, training=None):
        """Return a draw as ``code``, its raw ``reconstruction``, and the posterior: ``mean``, ``log_var``."""
        out = super().call(x, training=training)
        if training and self.warmup:
            out["weight"] = self.beta * ops.minimum(self.step / self.warmup, 1.0)
            self.step.assign_add(1.0)
        return out

    def terms(self, target, out):
        """Return the base's terms, and the divergence's times its weight: ``kl`` by default."""
        costs = self.divergence(self.prior, out | {"condition": self.condition_of(out.get("input"))})
        weight = out.get("weight", self.beta)
        return super().terms(target, out) | {name: weight * cost for name, cost in costs.items()}

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` needs."""
        config = super().get_config() | {
            name: getattr(self, name) for name in ("beta", "warmup", "free_bits")
        }
        return config | ({"divergence": None} if self.free_bits else {})

    _parts = ("prior", "divergence")  # type: ignore[assignment]


@keras.saving.register_keras_serializable("aelib")
class ConditionalVariationalAutoencoder(VariationalAutoencoder):
    """A variational autoencoder of x given y: Sohn et al. (2015).

    Its data are a dict, ``{"x": (n, ...), "condition": (n, C)}``: the condition is known, such as a class in
    one-hot form, and is read by both nets; x is what is modeled.

    Parameters
    ----------
    encoder : keras.Model
        [(B, ...), (B, C)] -> (B, 2 K).
    decoder : keras.Model
        [(B, K), (B, C)] -> (B, ...), raw.
    prior : aelib.priors.Prior, optional
        N(0, I), or `ConditionalPrior(net)`: a normal whose mean and variance follow from the condition.
    **kwargs
        As for `VariationalAutoencoder`; `corrupt` sees x alone.

    Examples
    --------
    >>> import keras, numpy as np
    >>> from aelib import ConditionalVariationalAutoencoder, blocks
    >>> x = np.random.default_rng(0).random((100, 20), dtype="float32")
    >>> y = np.eye(4, dtype="float32")[np.arange(100) % 4]
    >>> model = ConditionalVariationalAutoencoder(
    ...     blocks.with_condition(blocks.dense_encoder(20 + 4, 2 * 3), 4),
    ...     blocks.with_condition(blocks.dense_decoder(20, 3 + 4), 4),
    ... )
    >>> model.compile("adam")
    >>> history = model.fit({"x": x, "condition": y}, epochs=1, verbose=0)
    >>> model.sample(y[:5]).shape
    (5, 20)
    """

    def target_of(self, x: Any) -> Any:
        """Return x itself, without its condition."""
        _is_conditional(x)
        return x["x"]

    def condition_of(self, x: Any) -> Any:
        """Return the condition."""
        return x["condition"]

    def visible(self, x: Any, training: bool | None = None) -> list[Any]:
        """Return [x, condition] as the encoder sees them: x corrupted in training."""
        _is_conditional(x)
        condition = ops.convert_to_tensor(x["condition"])
        return [super().visible(x["x"], training=training), self._as_condition(condition)]

    def _as_condition(self, condition: Any) -> Any:
        return condition if keras.backend.is_float_dtype(condition.dtype) else ops.cast(condition, "float32")

    def decoder_input(self, code: Any, x: Any) -> Any:
        """Return [code, condition]: (S·B, K), the conditions of `x` S times."""
        condition = self._as_condition(ops.convert_to_tensor(self.condition_of(x)))
        times = code.shape[0] // condition.shape[0] if code.shape[0] and condition.shape[0] else 1
        return [code, ops.tile(condition, (times, *[1] * (len(condition.shape) - 1)))]

    def _zeros(self) -> dict[str, Any]:
        x, condition = super()._zeros()
        return {"x": x, "condition": condition}

    def _check_input(self, x: Any, name: str = "x") -> None:
        _is_conditional(x)
        shape = self.encoder.input_shape
        if isinstance(shape, list | tuple) and len(shape) == 2:
            self._check_inputs(
                x, name, dict(zip(("x", "condition"), (tuple(one[1:]) for one in shape), strict=True))
            )

    def _check_finite(self, x: Any, name: str, first_row: int = 0) -> None:
        super()._check_finite(x["x"], f"{name}['x']", first_row)
        checks.finite(f"{name}['condition']", x["condition"], first_row=first_row)

    def decode(self, code: Any, condition: Any = None, *, batch_size: int = 512) -> np.ndarray:
        """Return the mean of the data given codes and conditions: (n, K), (n, C) -> ndarray (n, ...)."""
        if condition is None:
            raise ValueError("the decoder reads a condition too: decode(code, condition)")
        return super().decode([code, condition], batch_size=batch_size)

    def _reconstructed(self, x: Any, batch_size: int) -> Any:
        return self._decoded([self._encoded(x, batch_size), x["condition"]], batch_size)

    def sample(self, condition: Any, *, seed: int | None = None, prior: Any = None) -> np.ndarray:
        """Return the mean of the data for a code from the prior, one for each condition: ndarray (n, ...).

        `prior` takes the place of the model's own, as in `VariationalAutoencoder.sample`.
        """
        condition = batches.as_array("the condition", condition)
        n, seed = len(condition), checks.seed("seed", seed)
        codes = self._drawn(n, seed, condition) if prior is None else prior.sample(n, seed=seed)
        return self.decode(codes, condition)

    def interpolate(self, start: Any, end: Any, *, steps: int = 8) -> np.ndarray:
        """Decode codes on the line from each `start` to its `end`, under `start`'s condition."""
        steps = checks.whole_number("steps", steps, least=2)
        one, two = self.encode(start), self.encode(end)
        codes = _between(one, two, steps)
        condition = np.repeat(start["condition"], steps, axis=0)
        decoded = self.decode(codes.reshape(-1, codes.shape[-1]), condition)
        return decoded.reshape(len(one), steps, *decoded.shape[1:])


def _is_conditional(x: Any) -> None:
    if not isinstance(x, dict) or set(x) != {"x", "condition"}:
        got = f"a dict of {', '.join(map(repr, x))}" if isinstance(x, dict) else type(x).__name__
        raise ValueError(f"the data must be a dict of 'x' and 'condition', got {got}")


@keras.saving.register_keras_serializable("aelib")
class ImportanceWeightedAutoencoder(_GaussianCode):
    """An autoencoder trained on the importance-weighted bound of `samples` draws: Burda et al. (2016).

    With one draw it is a VAE whose divergence is estimated by the draw too. Its one term, ``bound``, is the
    negative bound, the likelihood's constants included.

    Parameters
    ----------
    encoder, decoder, likelihood, variance, prior, seed
        As for `VariationalAutoencoder`.
    samples : int
        Draws for each image and step, decoded at once.

    Examples
    --------
    >>> import numpy as np
    >>> from aelib import ImportanceWeightedAutoencoder, blocks
    >>> x = np.random.default_rng(0).random((64, 20), dtype="float32")
    >>> nets = blocks.dense_encoder(20, 2 * 3), blocks.dense_decoder(20, 3)
    >>> model = ImportanceWeightedAutoencoder(*nets, samples=5)
    >>> model.compile("adam")
    >>> sorted(model.fit(x, verbose=0).history)
    ['bound', 'loss']
    """

    def __init__(
        self, encoder: keras.layers.Layer, decoder: keras.layers.Layer, *, samples: int = 5, **kwargs: Any
    ) -> None:
        super().__init__(encoder, decoder, **kwargs)
        self.samples = checks.whole_number("samples", samples)

    def terms(self, target, out):
        """Return ``bound``: (B,)."""
        weights = bounds.log_weights(
            self,
            out["input"],
            self.samples,
            seed=self.sampling.noise,
            target=target,
            posterior=(out["mean"], out["log_var"]),
        )
        bound = ops.logsumexp(weights, axis=0) - float(np.log(self.samples))
        return {"bound": -bound}

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` needs."""
        return super().get_config() | {"samples": self.samples}


@keras.saving.register_keras_serializable("aelib")
class WassersteinAutoencoder(WithPrior):
    """An autoencoder whose codes are pulled, as a crowd, to the prior: WAE-MMD, Tolstikhin et al. (2018).

    Each code stays a point. The term ``mmd`` is `strength` times the squared maximum mean discrepancy between
    the batch's codes and as many draws from the prior.

    Parameters
    ----------
    strength : float
        At least 0. The reconstruction beside it is summed over the features.
    prior : aelib.priors.Prior, optional
        By default N(0, I).
    seed : int, optional
        Of the prior's draws.

    Examples
    --------
    >>> import numpy as np
    >>> from aelib import WassersteinAutoencoder, blocks
    >>> x = np.random.default_rng(0).random((64, 20), dtype="float32")
    >>> nets = blocks.dense_encoder(20, 3), blocks.dense_decoder(20, 3)
    >>> model = WassersteinAutoencoder(*nets, strength=10.0)
    >>> model.compile("adam")
    >>> sorted(model.fit(x, verbose=0).history)
    ['loss', 'mmd', 'reconstruction']
    """

    def __init__(
        self, encoder: keras.layers.Layer, decoder: keras.layers.Layer, *, strength: float, **kwargs: Any
    ) -> None:
        super().__init__(encoder, decoder, **kwargs)
        self.strength = checks.number("strength", strength, least=0)
        self.noise = keras.random.SeedGenerator(self.seed)

    def terms(self, target, out):
        """Return the base's terms and ``mmd``."""
        code = out["code"]
        draw = self.prior.draw(ops.shape(code)[0], code.shape[-1], seed=self.noise)
        return super().terms(target, out) | {"mmd": self.strength * mmd(code, ops.cast(draw, code.dtype))}

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` needs."""
        return super().get_config() | {"strength": self.strength}


def _between(one: np.ndarray, two: np.ndarray, steps: int) -> np.ndarray:
    """Return codes on the line from each of `one` to its partner in `two`: (n, K) -> (n, steps, K)."""
    if one.shape != two.shape:
        raise ValueError(f"both ends must hold as many samples, got {len(one)} and {len(two)}")
    share = np.linspace(0, 1, steps, dtype=one.dtype)[:, None]
    return (1 - share) * one[:, None] + share * two[:, None]


def _width(model: keras.layers.Layer, name: str) -> Any:
    """Return the last axis of a model's input or output shape, or None where it does not say.

    Of several inputs, it is that of the first: the code.
    """
    try:
        shape = getattr(model, name)
    except (AttributeError, ValueError):
        return None
    if isinstance(shape, list | tuple) and shape and isinstance(shape[0], tuple | list):
        shape = shape[0]
    return shape[-1] if isinstance(shape, tuple | list) else None
