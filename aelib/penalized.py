"""Autoencoders with a penalty beside the reconstruction: on activity, or on how far a code moves."""

from typing import Any

import keras
from keras import ops

from aelib import architecture, autodiff, checks, objectives
from aelib.autoencoder import Autoencoder


@keras.saving.register_keras_serializable("aelib")
class SparseAutoencoder(Autoencoder):
    """An autoencoder that pays for activity in its code.

    Parameters
    ----------
    strength : float
        Weight of the term ``sparsity``, at least 0. The reconstruction beside it is summed over the features.
    rate : float, optional
        Without it the term is the sum of the code's magnitudes. With it, it is the divergence of each unit's
        mean activity in the batch from that rate in (0, 1); the code must then lie in [0, 1] (Ng, 2011).

    Examples
    --------
    >>> import numpy as np
    >>> from aelib import SparseAutoencoder, blocks
    >>> x = np.random.default_rng(0).random((64, 20), dtype="float32")
    >>> encoder = blocks.dense_encoder(20, 30, hidden=(), code_activation="sigmoid")
    >>> model = SparseAutoencoder(encoder, blocks.dense_decoder(20, 30, hidden=()), strength=0.1, rate=0.05)
    >>> model.compile("adam")
    >>> sorted(model.fit(x, verbose=0).history)
    ['loss', 'reconstruction', 'sparsity']
    """

    def __init__(
        self,
        encoder: keras.layers.Layer,
        decoder: keras.layers.Layer,
        *,
        strength: float,
        rate: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(encoder, decoder, **kwargs)
        self.strength = checks.number("strength", strength, least=0)
        self.rate = None if rate is None else checks.inner_share("rate", rate)
        activation = architecture.last_activation(encoder)
        if self.rate is not None and activation not in (None, "sigmoid", "hard_sigmoid", "softmax"):
            raise ValueError(
                f"rate={self.rate} is a unit's mean activity, so codes must lie in [0, 1]; the encoder ends "
                f"in {activation}: use code_activation='sigmoid', or leave rate out for an L1 penalty"
            )

    def _adapt(self, x: Any, target: Any) -> None:
        super()._adapt(x, target)
        if self.rate is not None:
            low, high = checks.extent(ops.convert_to_numpy(self.encoder(self.visible(x[:256]))))
            if low < 0 or high > 1:
                raise ValueError(
                    f"rate={self.rate} needs codes in [0, 1], got {low:g} to {high:g}: use "
                    "code_activation='sigmoid', or leave rate out for an L1 penalty"
                )

    def terms(self, target, out):
        """Return the base's terms and ``sparsity``."""
        code = out["code"]
        penalty = objectives.l1(code) if self.rate is None else objectives.rate_kl(code, self.rate)
        return super().terms(target, out) | {"sparsity": self.strength * penalty}

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` needs."""
        return super().get_config() | {"strength": self.strength, "rate": self.rate}


@keras.saving.register_keras_serializable("aelib")
class ContractiveAutoencoder(Autoencoder):
    """An autoencoder that pays for how far its code moves with its clean input (Rifai et al., 2011).

    Parameters
    ----------
    strength : float
        Weight of the term ``contraction``, the squared Frobenius norm of the encoder's Jacobian; at least 0.
    probes : int, optional
        Without it the norm is exact: in closed form if the encoder is one dense sigmoid layer, else by as
        many backward passes as the code has units. With it, it is estimated by that many random directions.
    seed : int, optional

    Examples
    --------
    >>> import numpy as np
    >>> from aelib import ContractiveAutoencoder, blocks
    >>> x = np.random.default_rng(0).random((64, 20), dtype="float32")
    >>> nets = blocks.dense_encoder(20, 3), blocks.dense_decoder(20, 3)
    >>> model = ContractiveAutoencoder(*nets, strength=0.1)
    >>> model.compile("adam")
    >>> sorted(model.fit(x, verbose=0).history)
    ['contraction', 'loss', 'reconstruction']
    """

    def __init__(
        self,
        encoder: keras.layers.Layer,
        decoder: keras.layers.Layer,
        *,
        strength: float,
        probes: int | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(encoder, decoder, **kwargs)
        self.strength = checks.number("strength", strength, least=0)
        self.probes = None if probes is None else checks.whole_number("probes", probes)
        self.seed = checks.seed("seed", seed)
        self.directions = keras.random.SeedGenerator(seed)

    def terms(self, target, out):
        """Return the base's terms and ``contraction``."""
        return super().terms(target, out) | {"contraction": self.strength * self._norm(out)}

    def _norm(self, out):
        if self.probes is None and self.corrupt is None and self._is_one_sigmoid_layer():
            return autodiff.sigmoid_jacobian_norm(out["code"], self.encoder.layers[-1].kernel)

        def encoder(x):  # in the objective's precision, whatever the encoder's
            return ops.cast(self.encoder(x), x.dtype)

        clean = self.likelihood.hide(out["input"])
        return autodiff.jacobian_norm(encoder, clean, probes=self.probes, seed=self.directions)

    def _is_one_sigmoid_layer(self) -> bool:
        """Return whether the closed form holds: nothing before the dense layer changes a number."""
        *before, last = getattr(self.encoder, "layers", [None])
        rearranged = keras.layers.InputLayer, keras.layers.Flatten, keras.layers.Reshape, keras.layers.Permute
        return (
            isinstance(last, keras.layers.Dense)
            and last.activation is keras.activations.sigmoid
            and all(isinstance(layer, rearranged) for layer in before)
        )

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` needs."""
        own = {"strength": self.strength, "probes": self.probes, "seed": self.seed}
        return super().get_config() | own
