"""The variational family: autoencoders whose code is a distribution, and whose prior can be sampled."""

import warnings

import keras
import numpy as np
from keras import ops

from aelib import batches, bounds, checks, layers, likelihoods, metrics, objectives
from aelib.autoencoder import Autoencoder


@keras.saving.register_keras_serializable("aelib")
class VariationalAutoencoder(Autoencoder):
    """A variational autoencoder: Kingma & Welling (2014), Rezende et al. (2014).

    The loss is the negative evidence lower bound of one draw: the reconstruction, **summed** over the pixels,
    plus the KL divergence, **summed** over the latents; both averaged over the batch. The constants that a
    likelihood leaves out (see `aelib.likelihoods`) are missing from the loss, and counted by `elbo`.

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
    """

    def __init__(
        self,
        encoder,
        decoder,
        *,
        likelihood="bernoulli",
        variance=None,
        beta=1.0,
        warmup=0,
        free_bits=0.0,
        seed=None,
        **kwargs,
    ):
        if likelihood == "gaussian":
            likelihood = likelihoods.Gaussian("learned" if variance is None else variance)
        elif variance is not None:
            raise ValueError(
                f"variance={variance!r} belongs to likelihood='gaussian', got likelihood={likelihood!r}: "
                "give the scale to the likelihood itself, as in aelib.likelihoods.Laplace(0.1)"
            )
        super().__init__(encoder, decoder, likelihood=likelihood, **kwargs)
        width, code = _width(encoder, "output_shape"), _width(decoder, "input_shape")
        if None not in (width, code) and width != 2 * code:
            raise ValueError(
                f"the encoder must return 2 x {code} numbers, means and log-variances; got {width}"
            )
        self.beta = checks.number("beta", beta, least=0)
        self.warmup = checks.whole_number("warmup", warmup, least=0)
        self.free_bits = checks.number("free_bits", free_bits, least=0)
        self.seed = checks.seed("seed", seed)
        self.sampling = layers.Sampling(seed=self.seed)
        self.step = self.add_weight(
            shape=(), initializer="zeros", trainable=False, name="step", dtype="float32"
        )

    def posterior(self, x, training=None):
        """Return the posterior's mean and the logarithm of its variance: (B, ...) -> (B, K), (B, K).

        In training it is that of the corrupted input, where the model has a corruption.
        """
        return ops.split(self.encoder(self.visible(x, training=training), training=training), 2, axis=-1)

    def call(self, x, training=None):
        """Return a draw as ``code``, its raw ``reconstruction``, and the posterior: ``mean``, ``log_var``."""
        mean, log_var = self.posterior(x, training=training)
        code = self.sampling(mean, log_var)
        out = {"code": code, "mean": mean, "log_var": log_var}
        out["reconstruction"] = self.decoder(code, training=training)
        if training and self.warmup:
            out["weight"] = self.beta * ops.minimum(self.step / self.warmup, 1.0)
            self.step.assign_add(1.0)
        return out

    def terms(self, target, out):
        """Return the base's terms and ``kl``, the divergence from the prior times its weight."""
        units = objectives.gaussian_kl_by_unit(out["mean"], out["log_var"])  # (B, K)
        if self.free_bits:
            kl = ops.sum(ops.maximum(ops.mean(units, axis=0), self.free_bits))
        else:
            kl = ops.sum(units, axis=-1)
        return super().terms(target, out) | {"kl": out.get("weight", self.beta) * kl}

    def fit(self, x=None, y=None, *args, **kwargs):
        """Train, as `Autoencoder.fit`; warns where no unit of the code has become active."""
        history = super().fit(x, y, *args, **kwargs)
        # Fewer steps show nothing yet.
        if batches.is_array(x) and len(x) > 1 and int(ops.convert_to_numpy(self.optimizer.iterations)) >= 100:
            means = self.posterior(batches.as_array("the data", x)[:256])[0]
            if not metrics.active_units(ops.convert_to_numpy(ops.cast(means, "float32"))):
                warnings.warn(
                    "no unit of the code is active: the posterior is the same for every sample, and the "
                    "decoder ignores it (posterior collapse). Train longer, lower beta, raise warmup or "
                    "free_bits, or, for a Gaussian likelihood, let variance='learned'",
                    stacklevel=2,
                )
        return history

    def _encoded(self, x, batch_size):
        both = super()._encoded(x, batch_size)
        return both[:, : both.shape[1] // 2]

    def sample(self, n, *, seed=None):
        """Return the means of the data for `n` codes from the prior: ndarray (n, ...)."""
        n, seed = checks.whole_number("n", n), checks.seed("seed", seed)
        if _width(self.decoder, "input_shape") is None:
            raise ValueError("the decoder does not say how long a code is: build it with keras.Input((K,))")
        code = np.random.default_rng(seed).normal(size=(n, _width(self.decoder, "input_shape")))
        return self.decode(code.astype("float32"))

    def interpolate(self, start, end, *, steps=8):
        """Decode `steps` codes on the line from each `start` to its `end`: (n, ...) -> (n, steps, ...)."""
        steps = checks.whole_number("steps", steps, least=2)
        one, two = self.encode(start), self.encode(end)
        if one.shape != two.shape:
            raise ValueError(f"both ends must hold as many samples, got {len(one)} and {len(two)}")
        share = np.linspace(0, 1, steps, dtype=one.dtype)[:, None]
        codes = (1 - share) * one[:, None] + share * two[:, None]  # (n, steps, K)
        decoded = self.decode(codes.reshape(-1, codes.shape[-1]))
        return decoded.reshape(len(one), steps, *decoded.shape[1:])

    def elbo(self, x, *, samples=1, seed=0):
        """Estimate the evidence lower bound on log p(x), in nats: see `aelib.bounds.elbo`."""
        return bounds.elbo(self, x, samples=samples, seed=seed)

    def get_config(self):
        """Return what `from_config` needs."""
        own = ("beta", "warmup", "free_bits", "seed")
        return super().get_config() | {name: getattr(self, name) for name in own}


@keras.saving.register_keras_serializable("aelib")
class ImportanceWeightedAutoencoder(VariationalAutoencoder):
    """An autoencoder trained on the importance-weighted bound of `samples` draws: Burda et al. (2016).

    With one draw it is a VAE whose divergence is estimated by the draw too. Its one term, ``bound``, is the
    negative bound, the likelihood's constants included; `beta`, `warmup` and `free_bits` have no place in it.

    Parameters
    ----------
    samples : int
        Draws for each image and step, decoded at once.
    """

    def __init__(self, encoder, decoder, *, samples=5, likelihood="bernoulli", **kwargs):
        super().__init__(encoder, decoder, likelihood=likelihood, **kwargs)
        if (self.beta, self.warmup, self.free_bits) != (1.0, 0, 0.0):
            raise ValueError("the importance-weighted bound has no beta, warmup or free_bits")
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

    def get_config(self):
        """Return what `from_config` needs."""
        return super().get_config() | {"samples": self.samples}


@keras.saving.register_keras_serializable("aelib")
class WassersteinAutoencoder(Autoencoder):
    """An autoencoder whose codes are pulled, as a crowd, towards N(0, I): WAE-MMD, Tolstikhin et al. (2018).

    Each code stays a point. The term ``mmd`` is `strength` times the squared maximum mean discrepancy between
    the batch's codes and as many draws from the prior.

    Parameters
    ----------
    strength : float
        At least 0. The reconstruction beside it is summed over the features.
    seed : int, optional
        Of the prior's draws.
    """

    def __init__(self, encoder, decoder, *, strength, seed=None, **kwargs):
        super().__init__(encoder, decoder, **kwargs)
        self.strength = checks.number("strength", strength, least=0)
        self.seed = checks.seed("seed", seed)
        self.prior = keras.random.SeedGenerator(seed)

    def terms(self, target, out):
        """Return the base's terms and ``mmd``."""
        draw = keras.random.normal(ops.shape(out["code"]), dtype=out["code"].dtype, seed=self.prior)
        return super().terms(target, out) | {"mmd": self.strength * objectives.mmd(out["code"], draw)}

    def get_config(self):
        """Return what `from_config` needs."""
        return super().get_config() | {"strength": self.strength, "seed": self.seed}


def _width(model, name):
    """Return the last axis of a model's input or output shape, or None where it does not say."""
    try:
        shape = getattr(model, name)
    except (AttributeError, ValueError):
        return None
    return shape[-1] if isinstance(shape, tuple) else None
