"""Priors of codes: what a variational autoencoder is trained against, and what is fitted to codes afterwards.

A `Prior` is a Keras layer, so that one with weights trains, and is saved, with its model. `MixturePrior` and
`FlowMatchingPrior` are fitted to the codes of a trained model; each of them gives codes to `model.decode`.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Self

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from aelib import checks, objectives, training

_register = keras.saving.register_keras_serializable("aelib")


@_register
class Prior(keras.layers.Layer):
    """The base of all priors, and the standard normal N(0, I), which has no parameters.

    A subclass defines `log_prob` and `draw`; `kl_by_unit` where the divergence has a closed form.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**({"dtype": "float32"} | kwargs))
        self.built = True

    def log_prob(self, code: Any, condition: Any = None) -> Any:
        """Return the logarithm of the density: (..., K) -> (...)."""
        zeros = ops.zeros_like(code)
        return objectives.normal_log_density(code, zeros, zeros)

    def draw(self, n: int, size: int, *, seed: keras.random.SeedGenerator, condition: Any = None) -> Any:
        """Draw `n` codes of `size` numbers: tensor (n, size). `seed` is a `keras.random.SeedGenerator`."""
        return keras.random.normal((n, size), seed=seed)

    def kl_by_unit(self, mean: Any, log_var: Any, condition: Any = None) -> Any:
        """Return KL(N(mean, e^log_var) ‖ prior) of each latent in nats, (B, K), or None: no closed form."""
        return objectives.gaussian_kl_by_unit(mean, log_var)

    def kl(self, mean: Any, log_var: Any, code: Any, condition: Any = None) -> Any:
        """Return the divergence from the prior in nats: (B, K), (B, K) -> (B,).

        Where it has no closed form it is estimated by the one `code` that was drawn.
        """
        units = self.kl_by_unit(mean, log_var, condition)
        if units is not None:
            return ops.sum(units, axis=-1)
        return objectives.normal_log_density(code, mean, log_var) - self.log_prob(code, condition)

    def attach(self, model: keras.Model) -> None:
        """Learn which model this is the prior of; its constructor calls it."""

    def adapt(self, x: np.ndarray) -> None:
        """Prepare for training data as the encoder sees them, (n, ...), before the very first step."""


@_register
class ConditionalPrior(Prior):
    """A normal prior p(z | y) that a net learns from the condition: Sohn et al. (2015), section 4.1.

    Parameters
    ----------
    net : keras.Model
        (B, C) -> (B, 2 K): the means, then the logarithms of the variances.

    Examples
    --------
    >>> import keras, numpy as np
    >>> from aelib import blocks
    >>> from aelib.priors import ConditionalPrior
    >>> prior = ConditionalPrior(blocks.dense_encoder(4, 2 * 3, hidden=8))
    >>> y = np.eye(4, dtype="float32")
    >>> prior.draw(4, 3, seed=keras.random.SeedGenerator(0), condition=y).shape[1]
    3
    """

    def __init__(self, net: keras.Model, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.net = net

    def normal(self, condition: Any) -> list[Any]:
        """Return the mean and the logarithm of the variance: (B, C) -> (B, K), (B, K)."""
        if condition is None:
            raise ValueError("a prior of the condition needs one: give condition=, an array (n, C)")
        return [ops.cast(part, "float32") for part in ops.split(self.net(condition), 2, axis=-1)]

    def log_prob(self, code: Any, condition: Any = None) -> Any:
        """Return log p(z | y): (B, K), (B, C) -> (B,)."""
        return objectives.normal_log_density(code, *self.normal(condition))

    def draw(self, n: int, size: int, *, seed: keras.random.SeedGenerator, condition: Any = None) -> Any:
        """Draw a code for each condition: tensor (n, K)."""
        mean, log_var = self.normal(condition)
        return mean + ops.exp(0.5 * log_var) * keras.random.normal(ops.shape(mean), seed=seed)

    def kl_by_unit(self, mean: Any, log_var: Any, condition: Any = None) -> Any:
        """Return KL(N(mean, e^log_var) ‖ p(z | y)) of each latent in nats: (B, K)."""
        other, other_log_var = self.normal(condition)
        gap = ops.square(mean - other) * ops.exp(-other_log_var)
        return 0.5 * (other_log_var - log_var + ops.exp(log_var - other_log_var) + gap - 1.0)

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` needs."""
        return super().get_config() | {"net": keras.saving.serialize_keras_object(self.net)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Rebuild from `get_config`."""
        return cls(**config | {"net": keras.saving.deserialize_keras_object(config["net"])})


@_register
class VampPrior(Prior):
    """A mixture of the posteriors of learned pseudo-inputs: Tomczak & Welling (2018), section 2.

    Parameters
    ----------
    components : int
        Number of pseudo-inputs. Training starts with them at random samples of the first 10,000, and keeps
        them within the range of these.
    shape : tuple of int, optional
        Of a pseudo-input; by default the model's encoder says it.

    Examples
    --------
    >>> import numpy as np
    >>> from aelib import VariationalAutoencoder, blocks
    >>> from aelib.priors import VampPrior
    >>> nets = blocks.dense_encoder(20, 2 * 3), blocks.dense_decoder(20, 3)
    >>> VariationalAutoencoder(*nets, prior=VampPrior(10)).sample(5).shape
    (5, 20)
    """

    def __init__(self, components: int = 50, *, shape: Sequence[int] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.components = checks.whole_number("components", components)
        self.posterior = None
        if shape is not None:
            self._make(shape)

    def _make(self, shape: Sequence[int]) -> None:
        self.shape = tuple(shape)
        self.pseudo_inputs = self.add_weight(
            name="pseudo_inputs", shape=(self.components, *self.shape), initializer="random_uniform"
        )
        # Weights, not numbers: a compiled step must see what `adapt` finds.
        fixed = {"shape": (), "trainable": False}
        self.low = self.add_weight(name="low", initializer="zeros", **fixed)
        self.high = self.add_weight(name="high", initializer="ones", **fixed)

    def attach(self, model: keras.Model) -> None:
        """Take the model's posterior, and the shape of its data."""
        if not hasattr(model, "posterior"):
            raise ValueError(
                f"a VampPrior is a mixture of the model's posteriors, and {type(model).__name__} has none: "
                "take another prior, or a variational autoencoder"
            )
        self.posterior = _Untracked(model.posterior)  # type: ignore[assignment]
        shape = getattr(model.encoder, "input_shape", None)
        if not hasattr(self, "pseudo_inputs"):
            if not isinstance(shape, tuple) or None in shape[1:]:
                raise ValueError(
                    "a VampPrior learns inputs of the encoder, which must say what shape it reads, got "
                    f"{shape}: build it with keras.Input(shape)"
                )
            self._make(shape[1:])

    def adapt(self, x: np.ndarray) -> None:
        """Start at random training samples."""
        for weight, edge in ((self.low, x.min()), (self.high, x.max())):
            weight.assign(edge)
        rows = np.random.default_rng(0).choice(len(x), self.components, replace=len(x) < self.components)
        self.pseudo_inputs.assign(x[rows])

    def normals(self) -> list[Any]:
        """Return the means and log-variances of the components: (C, K), (C, K)."""
        if self.posterior is None:
            raise ValueError("a VampPrior belongs to a model: VariationalAutoencoder(..., prior=VampPrior())")
        # Not `ops.clip`: on JAX it does not take weights as limits inside a compiled step.
        seen = ops.minimum(ops.maximum(self.pseudo_inputs, self.low), self.high)
        return [ops.cast(part, "float32") for part in self.posterior.function(seen)]

    def log_prob(self, code: Any, condition: Any = None) -> Any:
        """Return the logarithm of the mixture's density: (..., K) -> (...)."""
        each = objectives.normal_log_density(code[..., None, :], *self.normals())  # (..., C)
        return ops.logsumexp(each, axis=-1) - math.log(self.components)

    def draw(self, n: int, size: int, *, seed: keras.random.SeedGenerator, condition: Any = None) -> Any:
        """Draw `n` codes: tensor (n, K)."""
        mean, log_var = self.normals()
        rows = keras.random.randint((n,), 0, self.components, seed=seed)
        noise = keras.random.normal((n, mean.shape[-1]), seed=seed)
        return ops.take(mean, rows, axis=0) + ops.exp(0.5 * ops.take(log_var, rows, axis=0)) * noise

    def kl_by_unit(self, mean: Any, log_var: Any, condition: Any = None) -> Any:
        """Return None: the divergence from a mixture has no closed form."""
        return None

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` needs."""
        own = {"components": self.components, "shape": getattr(self, "shape", None)}
        return super().get_config() | own


class _Untracked:
    """Holds a function where Keras does not look for layers: else model and prior would hold each other."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function


class MixturePrior:
    """A mixture of normals fitted to the codes of a trained model: Ghosh et al. (2020), section 4.

    scikit-learn's `GaussianMixture` with full covariances.

    Parameters
    ----------
    components : int
    seed : int, optional
        Of the fit.

    Examples
    --------
    >>> import numpy as np
    >>> from aelib.priors import MixturePrior
    >>> codes = np.random.default_rng(0).normal(size=(200, 3))
    >>> MixturePrior(2, seed=0).fit(codes).sample(5).shape
    (5, 3)
    """

    def __init__(self, components: int = 10, *, seed: int | None = None) -> None:
        self.components = checks.whole_number("components", components)
        self.seed = checks.seed("seed", seed)
        self.mixture = None

    def fit(self, codes: ArrayLike) -> Self:
        """Fit to codes, ndarray (n, K), and return itself."""
        from sklearn.mixture import GaussianMixture

        codes = checks.codes(codes)
        if len(codes) <= self.components:
            raise ValueError(f"{self.components} components need more codes than that, got {len(codes)}")
        self.mixture = GaussianMixture(self.components, random_state=self.seed, reg_covar=1e-5).fit(codes)
        return self

    def log_prob(self, codes: ArrayLike) -> np.ndarray:
        """Return the logarithm of the density: (n, K) -> ndarray (n,)."""
        return _fitted(self, self.mixture).score_samples(checks.codes(codes))

    def sample(self, n: int, *, seed: int | None = None) -> np.ndarray:
        """Draw codes: ndarray (n, K)."""
        mixture = _fitted(self, self.mixture)
        n, rng = checks.whole_number("n", n), np.random.default_rng(checks.seed("seed", seed))
        counts = rng.multinomial(n, mixture.weights_)
        # In single precision they miss NumPy's check by a rounding; the fit has factored each of them.
        parts = [
            rng.multivariate_normal(mean, covariance, size, check_valid="ignore")
            for mean, covariance, size in zip(mixture.means_, mixture.covariances_, counts, strict=True)
        ]
        return rng.permutation(np.concatenate(parts)).astype("float32")


class _Velocity(keras.Model):
    """The net of flow matching: (z_t, t) -> the velocity, trained on straight lines from noise to codes."""

    def __init__(self, net: keras.Model, seed: int | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.net = net
        self.noise = keras.random.SeedGenerator(seed)
        self.built = True  # its net is; JAX's loop asks

    def call(self, code, training=None):
        start = keras.random.normal(ops.shape(code), seed=self.noise)
        t = keras.random.uniform((ops.shape(code)[0], 1), seed=self.noise)
        return self.net([(1 - t) * start + t * code, t]) - (code - start)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return ops.mean(ops.square(y_pred))


class FlowMatchingPrior:
    """A flow from N(0, I) to the codes of a trained model, by flow matching: Lipman et al. (2023).

    A net learns the velocity along straight lines between noise and codes (their example II, σ_min = 0);
    codes are drawn by following it from noise with Heun's method. Its density is not computed: there is no
    `log_prob`.

    Parameters
    ----------
    hidden : tuple of int
        Widths of the net's hidden layers.
    epochs, batch_size : int
    learning_rate : float
        At the start; it falls to 0 along a cosine.
    steps : int
        Of Heun's method, two evaluations of the net each.
    seed : int, optional

    Examples
    --------
    >>> import numpy as np
    >>> from aelib.priors import FlowMatchingPrior
    >>> codes = np.random.default_rng(0).normal(size=(200, 3))
    >>> FlowMatchingPrior(hidden=(16,), epochs=2).fit(codes).sample(5).shape
    (5, 3)
    """

    def __init__(
        self,
        hidden: int | Sequence[int] = (256, 256),
        *,
        epochs: int = 100,
        batch_size: int = 256,
        learning_rate: float = 2e-3,
        steps: int = 20,
        seed: int | None = None,
    ) -> None:
        self.hidden = checks.whole_numbers("hidden", hidden)
        self.epochs = checks.whole_number("epochs", epochs)
        self.batch_size = checks.whole_number("batch_size", batch_size)
        self.learning_rate = checks.number("learning_rate", learning_rate, above=0)
        self.steps = checks.whole_number("steps", steps)
        self.seed = checks.seed("seed", seed)
        self.net = None

    def fit(self, codes: ArrayLike) -> Self:
        """Fit to codes, ndarray (n, K), and return itself; they are standardized first."""
        codes = checks.codes(codes).astype("float32")
        self.mean, self.scale = codes.mean(axis=0), np.maximum(codes.std(axis=0), 1e-6)
        z, t = keras.Input((codes.shape[1],)), keras.Input((1,))
        waves = [ops.cos(math.pi * 2**k * t) for k in range(4)]
        h = ops.concatenate([z, t, *waves], axis=-1)
        for width in self.hidden:
            h = keras.layers.Dense(width, "silu")(h)
        self.net = keras.Model([z, t], keras.layers.Dense(codes.shape[1])(h))
        model = _Velocity(self.net, self.seed, name="velocity")
        steps = self.epochs * math.ceil(len(codes) / self.batch_size)
        rate = keras.optimizers.schedules.CosineDecay(self.learning_rate, steps)
        model.compile(keras.optimizers.Adam(rate))
        options = {"batch_size": self.batch_size, "epochs": self.epochs, "verbose": 0}
        training.fit(model, model.fit, (codes - self.mean) / self.scale, **options)
        return self

    def sample(self, n: int, *, seed: int | None = None) -> np.ndarray:
        """Draw codes: ndarray (n, K)."""
        net, n = _fitted(self, self.net), checks.whole_number("n", n)
        noise = np.random.default_rng(checks.seed("seed", seed)).normal(size=(n, len(self.mean)))
        z = ops.convert_to_tensor(noise.astype("float32"))
        for step in range(self.steps):
            now, later = (ops.full((n, 1), (step + more) / self.steps) for more in (0, 1))
            first = net([z, now])
            second = net([z + first / self.steps, later])
            z = z + (first + second) / (2 * self.steps)
        return ops.convert_to_numpy(z) * self.scale + self.mean


def _fitted(prior: Any, inner: Any) -> Any:
    if inner is None:
        raise ValueError(f"{type(prior).__name__} is not fitted yet: call fit(model.encode(x)) first")
    return inner


def of(model: Any) -> Prior:
    """Return a model's prior; N(0, I) where it names none."""
    prior = getattr(model, "prior", None)
    return prior if isinstance(prior, Prior) else Prior()


def get(prior: Prior | None) -> Prior:
    """Return a prior: itself, or the standard normal for None.

    Raises
    ------
    ValueError
        If it is neither.
    """
    if prior is None:
        return Prior()
    if isinstance(prior, Prior):
        return prior
    raise ValueError(
        f"prior must be an aelib.priors.Prior, as VampPrior(50), or None for N(0, I); got {prior!r}. One "
        "that is fitted to codes afterwards is given to sample(prior=...)"
    )
