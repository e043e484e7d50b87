"""What keeps the codes of a variational autoencoder near its prior: the terms beside its reconstruction.

Each divergence maps the prior and what the model returned to named terms, (B,) or a scalar of the batch.
`aelib.VariationalAutoencoder` weighs them by `beta`, over `warmup`.
"""

from typing import Any

import keras
from keras import ops

from aelib import checks, objectives

_register = keras.saving.register_keras_serializable("aelib")


class Divergence(keras.layers.Layer):
    """The base of all divergences: a subclass defines `call`.

    `call(prior, out)` gets an `aelib.priors.Prior` and a dict: ``code``, a draw, ``mean`` and ``log_var`` of
    the posterior, (B, K) each, and ``condition``, (B, C) or None.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**({"dtype": "float32"} | kwargs))
        self.built = True

    def __call__(self, prior: Any, out: dict[str, Any]) -> dict[str, Any]:
        """Return {name of a term: its cost, (B,) or a scalar}."""
        return self.call(prior, out)


@_register
class KL(Divergence):
    """The Kullback-Leibler divergence of the posterior from the prior, ``kl``: Kingma & Welling (2014).

    In closed form where the prior has one, else estimated by the draw that was decoded.

    Parameters
    ----------
    free_bits : float
        Nats that each latent may cost, on the batch's average, before it is charged (Kingma et al., 2016,
        appendix C.8); the prior must have a closed form.

    Examples
    --------
    >>> from aelib import VariationalAutoencoder, blocks
    >>> from aelib.divergences import KL
    >>> nets = blocks.dense_encoder(20, 2 * 3), blocks.dense_decoder(20, 3)
    >>> VariationalAutoencoder(*nets, divergence=KL(free_bits=0.1)).divergence.free_bits
    0.1
    """

    def __init__(self, free_bits: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.free_bits = checks.number("free_bits", free_bits, least=0)

    def call(self, prior, out):
        """Return ``kl``: (B,), with free bits a scalar."""
        posterior = out["mean"], out["log_var"]
        if not self.free_bits:
            return {"kl": prior.kl(*posterior, out["code"], out["condition"])}
        units = prior.kl_by_unit(*posterior, out["condition"])
        if units is None:
            raise ValueError(
                f"free_bits={self.free_bits:g} is counted for each unit, and {type(prior).__name__} has no "
                "divergence by unit: take free_bits=0, or a normal prior"
            )
        return {"kl": ops.sum(ops.maximum(ops.mean(units, axis=0), self.free_bits))}

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` needs."""
        return super().get_config() | {"free_bits": self.free_bits}


@_register
class TotalCorrelation(Divergence):
    """The divergence in three terms, weighed one by one, the total correlation most: Chen et al. (2018).

    ``mutual_information``, ``total_correlation``, ``units``: see `aelib.objectives.total_correlation`. The
    prior is N(0, I).

    Parameters
    ----------
    n : int
        Number of training samples.
    alpha, beta, gamma : float
        Weights of the three terms; β-TC-VAE has `alpha` = `gamma` = 1.

    Examples
    --------
    >>> from aelib import VariationalAutoencoder, blocks
    >>> from aelib.divergences import TotalCorrelation
    >>> nets = blocks.dense_encoder(20, 2 * 3), blocks.dense_decoder(20, 3)
    >>> model = VariationalAutoencoder(*nets, divergence=TotalCorrelation(n=1000, beta=6))
    """

    def __init__(
        self, n: int, *, alpha: float = 1.0, beta: float = 6.0, gamma: float = 1.0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.n = checks.whole_number("n", n)
        weights = {"alpha": alpha, "beta": beta, "gamma": gamma}
        self.weights_of = {name: checks.number(name, weight, least=0) for name, weight in weights.items()}

    def call(self, prior, out):
        """Return the three terms, (B,) each."""
        terms = objectives.total_correlation(out["code"], out["mean"], out["log_var"], self.n)
        names = "mutual_information", "total_correlation", "units"
        weights = self.weights_of.values()
        return {name: weight * term for name, weight, term in zip(names, weights, terms, strict=True)}

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` needs."""
        return super().get_config() | {"n": self.n} | self.weights_of


@_register
class MMD(Divergence):
    """The maximum mean discrepancy of the batch's codes from as many draws of the prior, ``mmd``.

    With a normal posterior that is an InfoVAE of α = 1 (Zhao et al., 2019, section 3.2): the information
    between data and code is not charged.

    Parameters
    ----------
    strength : float
    seed : int, optional
        Of the prior's draws.

    Examples
    --------
    >>> from aelib import VariationalAutoencoder, blocks
    >>> from aelib.divergences import MMD
    >>> nets = blocks.dense_encoder(20, 2 * 3), blocks.dense_decoder(20, 3)
    >>> model = VariationalAutoencoder(*nets, divergence=MMD(strength=10.0))
    """

    def __init__(self, strength: float = 1.0, *, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.strength = checks.number("strength", strength, least=0)
        self.seed = checks.seed("seed", seed)
        self.noise = keras.random.SeedGenerator(seed)

    def call(self, prior, out):
        """Return ``mmd``, a scalar."""
        code = out["code"]
        draws = prior.draw(ops.shape(code)[0], code.shape[-1], seed=self.noise, condition=out["condition"])
        return {"mmd": self.strength * objectives.mmd(code, ops.cast(draws, code.dtype))}

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` needs."""
        return super().get_config() | {"strength": self.strength, "seed": self.seed}


def get(divergence: Divergence | None, free_bits: float = 0.0) -> Divergence:
    """Return a divergence: itself, or `KL` with `free_bits` for None.

    Raises
    ------
    ValueError
        If it is neither.
    """
    if divergence is None:
        return KL(free_bits)
    if isinstance(divergence, Divergence):
        return divergence
    raise ValueError(f"divergence must be an aelib.divergences.Divergence or None, got {divergence!r}")
