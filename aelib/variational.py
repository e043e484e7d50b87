"""The variational family: autoencoders whose code is a distribution, and whose prior can be sampled."""

import keras
import numpy as np
from keras import ops

from aelib import bounds, layers, objectives
from aelib.autoencoder import Autoencoder


@keras.saving.register_keras_serializable("aelib")
class VariationalAutoencoder(Autoencoder):
    """A variational autoencoder: Kingma & Welling (2014), Rezende et al. (2014).

    The loss is the negative evidence lower bound of one draw: the reconstruction, **summed** over the pixels,
    plus the KL divergence, **summed** over the latents; both averaged over the batch. The constants that a
    likelihood leaves out (see `aelib.objectives`) are missing from the loss, and counted by `elbo`.

    Parameters
    ----------
    encoder : keras.Model
        (B, ...) -> (B, 2 K): the means, then the logarithms of the **variances**.
    decoder : keras.Model
        (B, K) -> (B, ...), raw.
    likelihood : {"bernoulli", "gaussian", "laplace"}
    variance : float
        Of a pixel under the Gaussian likelihood.
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
        self, encoder, decoder, *, beta=1.0, warmup=0, free_bits=0.0, variance=0.5, seed=None, **kwargs
    ):
        super().__init__(encoder, decoder, **kwargs)
        width, code = encoder.output_shape[-1], decoder.input_shape[-1]
        if width != 2 * code:
            raise ValueError(
                f"the encoder must return 2 x {code} numbers, means and log-variances; got {width}"
            )
        for name, value in (("beta", beta), ("warmup", warmup), ("free_bits", free_bits)):
            if not value >= 0:
                raise ValueError(f"{name} must be >= 0, got {value!r}")
        self.beta, self.warmup, self.free_bits = float(beta), int(warmup), float(free_bits)
        self.variance, self.seed = float(variance), seed
        if self.likelihood.name == "gaussian":
            self.likelihood = objectives.normal(self.variance)
        self.sampling = layers.Sampling(seed=seed)
        self.step = self.add_weight(shape=(), initializer="zeros", trainable=False, name="step")

    def posterior(self, x, training=None):
        """Return the posterior's mean and the logarithm of its variance: (B, ...) -> (B, K), (B, K)."""
        return ops.split(self.encoder(x, training=training), 2, axis=-1)

    def call(self, x, training=None):
        """Return a draw as ``code``, its raw ``reconstruction``, and the posterior: ``mean``, ``log_var``."""
        seen = x if self.corrupt is None else self.corrupt(x, training=training)
        mean, log_var = self.posterior(seen, training=training)
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

    def encode(self, x, *, batch_size=512):
        """Return the posterior means of `x`: ndarray (n, ...) -> ndarray (n, K)."""
        return super().encode(x, batch_size=batch_size)[:, : self.decoder.input_shape[-1]]

    def sample(self, n, *, seed=None):
        """Return the means of the data for `n` codes from the prior: ndarray (n, ...)."""
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise ValueError(f"n must be a whole number >= 1, got {n!r}")
        code = np.random.default_rng(seed).normal(size=(n, self.decoder.input_shape[-1]))
        return self.decode(code.astype("float32"))

    def interpolate(self, start, end, *, steps=8):
        """Decode `steps` codes on the line from each `start` to its `end`: (n, ...) -> (n, steps, ...)."""
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 2:
            raise ValueError(f"steps must be a whole number >= 2, got {steps!r}")
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
        own = ("beta", "warmup", "free_bits", "variance", "seed")
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
        if isinstance(samples, bool) or not isinstance(samples, int) or samples < 1:
            raise ValueError(f"samples must be a whole number >= 1, got {samples!r}")
        if (self.beta, self.warmup, self.free_bits) != (1.0, 0, 0.0):
            raise ValueError("the importance-weighted bound has no beta, warmup or free_bits")
        self.samples = samples

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
        if not strength >= 0:
            raise ValueError(f"strength must be >= 0, got {strength!r}")
        self.strength, self.seed = float(strength), seed
        self.prior = keras.random.SeedGenerator(seed)

    def terms(self, target, out):
        """Return the base's terms and ``mmd``."""
        draw = keras.random.normal(ops.shape(out["code"]), dtype=out["code"].dtype, seed=self.prior)
        return super().terms(target, out) | {"mmd": self.strength * objectives.mmd(out["code"], draw)}

    def get_config(self):
        """Return what `from_config` needs."""
        return super().get_config() | {"strength": self.strength, "seed": self.seed}
