"""The adversarial autoencoder: a discriminator keeps the codes near a prior that need not have a density."""

from typing import Any, Self

import keras
from keras import ops
from keras.src.utils import tracking

from aelib import checks
from aelib.variational import WithPrior


@keras.saving.register_keras_serializable("aelib")
class AdversarialAutoencoder(WithPrior):
    """An autoencoder whose codes a discriminator cannot tell from the prior's: Makhzani et al. (2016).

    Both players move in every step, each by its own term: ``discriminator`` is the cross-entropy of telling
    draws of the prior from codes, and moves the discriminator alone; ``adversary`` is the encoder's cost of
    codes that are recognized, -log D(code) (Goodfellow et al., 2014, section 3), and moves the encoder alone.
    Their sum is no measure of progress. Where the game stands even, both are near log 2 for each code (the
    discriminator's, which judges two, near 2 log 2).

    Parameters
    ----------
    encoder, decoder, likelihood, corrupt
        As for `Autoencoder`.
    discriminator : keras.Model
        (B, K) -> (B, 1), a logit. Dropout in it acts in training; so does batch normalization, whose averages
        follow the discriminator's own two batches.
    strength : float
        Weight of ``adversary`` beside the reconstruction, which is summed over the features.
    prior : aelib.priors.Prior, optional
        By default N(0, I).
    seed : int, optional
        Of the prior's draws.

    Examples
    --------
    >>> import numpy as np
    >>> from aelib import AdversarialAutoencoder, blocks
    >>> x = np.random.default_rng(0).random((100, 20), dtype="float32")
    >>> discriminator = blocks.dense_encoder(2, 1, hidden=(32, 32))
    >>> model = AdversarialAutoencoder(
    ...     blocks.dense_encoder(20, 2), blocks.dense_decoder(20, 2), discriminator=discriminator
    ... )
    >>> model.compile("adam", discriminator_optimizer="adam")
    >>> history = model.fit(x, epochs=1, verbose=0)
    >>> model.sample(5).shape
    (5, 20)
    """

    def __init__(
        self,
        encoder: keras.layers.Layer,
        decoder: keras.layers.Layer,
        *,
        discriminator: keras.layers.Layer,
        strength: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(encoder, decoder, **kwargs)
        if not isinstance(discriminator, keras.layers.Layer):
            raise ValueError(f"discriminator must be a keras.Model or a layer, got {discriminator!r}")
        shape = getattr(discriminator, "output_shape", (None, 1))
        if tuple(shape[1:]) != (1,):
            raise ValueError(f"the discriminator must return one logit a code, (B, 1), got {shape}")
        self.discriminator = discriminator
        self.strength = checks.number("strength", strength, least=0)
        self.noise = keras.random.SeedGenerator(self.seed)

    def call(self, x, training=None):
        """Return ``code``, ``reconstruction``, and logits, (B,): of ``prior`` draws and, twice, of codes.

        ``found`` gives the discriminator its gradient, ``judged`` the encoder.
        """
        out = super().call(x, training=training)
        code = out["code"]
        draws = self.prior.draw(ops.shape(code)[0], code.shape[-1], seed=self.noise)
        real = self.discriminator(ops.cast(draws, code.dtype), training=training)
        found = self.discriminator(ops.stop_gradient(code), training=training)
        weights = [ops.stop_gradient(weight.value) for weight in self.discriminator.trainable_variables]
        others = [weight.value for weight in self.discriminator.non_trainable_variables]
        judged, _ = self.discriminator.stateless_call(weights, others, code, training=training)
        return out | {"prior": real[:, 0], "found": found[:, 0], "judged": judged[:, 0]}

    def terms(self, target, out):
        """Return the base's terms, ``adversary`` and ``discriminator``: (B,) each."""
        return super().terms(target, out) | {
            "adversary": self.strength * ops.softplus(-out["judged"]),
            "discriminator": ops.softplus(-out["prior"]) + ops.softplus(out["found"]),
        }

    def compile(
        self,
        optimizer: str | keras.optimizers.Optimizer = "adam",
        *args: Any,
        discriminator_optimizer: str | keras.optimizers.Optimizer | None = None,
        **kwargs: Any,
    ) -> None:
        """Prepare for training, as `Autoencoder.compile`.

        Parameters
        ----------
        optimizer : str or keras.optimizers.Optimizer
            Of encoder and decoder.
        discriminator_optimizer : str or keras.optimizers.Optimizer, optional
            By default one of the same settings.
        """
        optimizer = keras.optimizers.get(optimizer)
        both = getattr(optimizer, "inner_optimizer", optimizer)  # of one that scales the loss for 16 bits
        if not isinstance(both, TwoOptimizers):
            if discriminator_optimizer is None:
                discriminator_optimizer = type(optimizer).from_config(optimizer.get_config())
            optimizer = both = TwoOptimizers(optimizer, keras.optimizers.get(discriminator_optimizer))
        elif discriminator_optimizer is not None:
            raise ValueError("optimizer= holds both optimizers already: leave discriminator_optimizer= out")
        both.second_of({id(variable) for variable in self.discriminator.variables})
        super().compile(optimizer, *args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` needs."""
        return super().get_config() | {"strength": self.strength}

    _parts = ("prior", "discriminator")  # type: ignore[assignment]


@keras.saving.register_keras_serializable("aelib")
class TwoOptimizers(keras.optimizers.Optimizer):
    """Two optimizers in one: the second moves the variables that `second_of` names, the first all others.

    Parameters
    ----------
    first, second : keras.optimizers.Optimizer
    """

    def __init__(self, first: keras.optimizers.Optimizer, second: keras.optimizers.Optimizer) -> None:
        super().__init__(learning_rate=0.0)
        self.first, self.second = first, second
        self._second = set()

    def second_of(self, ids: set[int]) -> None:
        """Name the variables of the second optimizer by their `id`."""
        self._second = ids

    def _parted(self, variables, gradients=None):
        """Return the lists for `apply` or `build` of the first and of the second optimizer."""
        rows = zip(variables, variables if gradients is None else gradients, strict=True)
        rows = [(id(variable) in self._second, variable, gradient) for variable, gradient in rows]
        return [[row[1:] for row in rows if row[0] is mine] for mine in (False, True)]

    @tracking.no_automatic_dependency_tracking
    def build(self, var_list):
        """Make both optimizers' variables."""
        for optimizer, rows in zip((self.first, self.second), self._parted(var_list), strict=True):
            optimizer.build([variable for variable, _ in rows])
        super().build(var_list)

    def apply(self, grads: list[Any], trainable_variables: list[Any] | None = None) -> None:
        """Take a step of both."""
        if not self.built:
            self.build(trainable_variables)
        variables = self._trainable_variables if trainable_variables is None else trainable_variables
        for optimizer, rows in zip((self.first, self.second), self._parted(variables, grads), strict=True):
            optimizer.apply([gradient for _, gradient in rows], [variable for variable, _ in rows])

    @property
    def variables(self) -> list[Any]:
        """Return the variables of both, after this one's own."""
        return self._variables + self.first.variables + self.second.variables

    @property
    def iterations(self) -> Any:
        """Return the count of steps."""
        return self.first.iterations

    @property
    def learning_rate(self) -> Any:
        """Return the first optimizer's, which may be set."""
        return self.first.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate: Any) -> None:
        self.first.learning_rate = learning_rate

    def finalize_variable_values(self, var_list: list[Any]) -> None:
        """Let both put their averages of the weights in place, if they keep such."""
        for optimizer, rows in zip((self.first, self.second), self._parted(var_list), strict=True):
            optimizer.finalize_variable_values([variable for variable, _ in rows])

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` needs."""
        parts = {"first": self.first, "second": self.second}
        return {name: keras.saving.serialize_keras_object(part) for name, part in parts.items()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Rebuild from `get_config`."""
        return cls(*(keras.saving.deserialize_keras_object(config[name]) for name in ("first", "second")))
