"""The one model that owns the plumbing, and the types that override its `terms` and nothing else."""

import os
from types import SimpleNamespace

import keras
import numpy as np
from keras import ops

from aelib import autodiff, layers, objectives


@keras.saving.register_keras_serializable("aelib")
class Autoencoder(keras.Model):
    """An encoder and a decoder, trained together to give back their input.

    ``model.fit(x)`` is enough: the target is the input. ``model.fit(x, y)`` learns to give back `y` instead.
    The loss is the mean over the batch of the named terms that `terms` returns; each is summed over the
    features of a sample and appears under its own name in the history, and their sum is ``loss``.
    In `terms`, ``out["input"]`` is the model's input; a term that belongs to the whole batch may be a scalar.

    Parameters
    ----------
    encoder, decoder : keras.Model
        (B, ...) -> (B, code), and (B, code) -> (B, ...), whose output is raw: see `likelihood`.
    likelihood : {"bernoulli", "gaussian", "laplace"}
        What the raw output means: logits of pixels in [0, 1], means, or medians.
    corrupt : keras.layers.Layer, optional
        Applied to the input in training only; the target stays clean (a denoising autoencoder).
    """

    def __init__(self, encoder, decoder, *, likelihood="bernoulli", corrupt=None, **kwargs):
        super().__init__(**kwargs)
        self.encoder = encoder
        self.decoder = decoder
        self.corrupt = corrupt
        self.likelihood = objectives.likelihood(likelihood)
        # Keras locks a built model against new metrics, so the trackers live where it does not look.
        self.bookkeeping = SimpleNamespace(trackers={})

    def call(self, x, training=None):
        """Return {"code": (B, code), "reconstruction": (B, ...), raw}."""
        seen = x if self.corrupt is None else self.corrupt(x, training=training)
        code = self.encoder(seen, training=training)
        return {"code": code, "reconstruction": self.decoder(code, training=training)}

    def terms(self, target, out):
        """Return the named terms of the objective, each (B,), from the target and what `call` returned."""
        return {"reconstruction": self.likelihood.negative_log(target, out["reconstruction"])}

    def compile(self, optimizer="adam", *, loss=None, **kwargs):
        """Prepare for training, as `keras.Model.compile`; the loss is given by `terms`, never here."""
        names = ("loss_weights", "metrics", "weighted_metrics")
        given = {"loss": loss} | {name: kwargs.get(name) for name in names}
        refused = {name: value for name, value in given.items() if value is not None}
        if refused:
            raise ValueError(
                f"an autoencoder's loss is the sum of its terms: choose likelihood=, or override terms(); "
                f"got {refused}"
            )
        super().compile(optimizer=optimizer, **kwargs)
        names = self._named_losses(*self._example())
        self.bookkeeping.trackers = {name: keras.metrics.Mean(name=name) for name in names}

    def compile_from_config(self, config):
        """Compile a model that was loaded; Keras itself does so only where `compile` is its own."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def _example(self):
        """Run the model on one sample of zeros: it builds the model, and shows which terms it has."""
        # Where any length will do, one that survives five halvings.
        x = ops.zeros([1, *(n or 32 for n in self.encoder.input_shape[1:])])
        out = self(x, training=False)
        return x, ops.zeros_like(out["reconstruction"]), out

    def _named_losses(self, x, target, out):
        terms = self.terms(target, {"input": x} | out)
        if self.losses:
            terms["regularization"] = sum(ops.sum(loss) for loss in self.losses)
        return terms

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Average each term over the batch, note it under its name, and return their sum, a scalar."""
        total = 0.0
        for name, term in self._named_losses(x, x if y is None else y, y_pred).items():
            if sample_weight is not None and ops.ndim(term):
                term = term * ops.cast(ops.reshape(sample_weight, (-1,)), term.dtype)
            mean = ops.mean(term)
            # Weighted by the batch size, else a short last batch counts as much as a full one.
            self.bookkeeping.trackers[name].update_state(mean, sample_weight=ops.shape(x)[0])
            total = total + mean
        # A distributed strategy sums the replicas' losses; Keras's own hook divides by their number.
        return self._aggregate_additional_loss(total)

    @property
    def metrics(self):
        """Keras's own metrics, and the tracker of each term."""
        return super().metrics + list(self.bookkeeping.trackers.values())

    def fit(self, x=None, y=None, *, verbose="auto", callbacks=(), **kwargs):
        """Train, as `keras.Model.fit`, with one progress bar instead of a line for every epoch.

        ``AELIB_PROGRESS=0`` in the environment turns the bar off.
        """
        if verbose == "auto":
            verbose = 0
            if os.environ.get("AELIB_PROGRESS", "1") != "0":
                from tqdm.keras import TqdmCallback

                callbacks = [*callbacks, TqdmCallback(verbose=0)]
        y = self._target(x, y, kwargs)
        return super().fit(x, y, verbose=verbose, callbacks=list(callbacks), **kwargs)

    def evaluate(self, x=None, y=None, **kwargs):
        """Return the loss and its terms, as `keras.Model.evaluate`, without corruption."""
        return super().evaluate(x, self._target(x, y, kwargs), **kwargs)

    def _target(self, x, y, options):
        _check(self.encoder, x)
        # Keras drops the weights of samples that have no target.
        return x if y is None and options.get("sample_weight") is not None else y

    def encode(self, x, *, batch_size=512):
        """Return the codes of `x`: ndarray (n, ...) -> ndarray (n, code)."""
        return _predict(self.encoder, x, batch_size)

    def decode(self, code, *, batch_size=512):
        """Return the mean of the data given the codes: ndarray (n, code) -> ndarray (n, ...)."""
        raw = _predict(self.decoder, code, batch_size)
        return ops.convert_to_numpy(self.likelihood.mean(ops.convert_to_tensor(raw)))

    def reconstruct(self, x, *, batch_size=512):
        """Return the reconstructions of `x`, without corruption: ndarray (n, ...) -> (n, ...)."""
        return self.decode(self.encode(x, batch_size=batch_size), batch_size=batch_size)

    def get_config(self):
        """Return what `from_config` needs; weights are not part of it."""
        parts = {name: getattr(self, name) for name in ("encoder", "decoder", "corrupt")}
        parts = {name: keras.saving.serialize_keras_object(part) for name, part in parts.items()}
        return super().get_config() | parts | {"likelihood": self.likelihood.name}

    @classmethod
    def from_config(cls, config):
        """Rebuild an untrained model from `get_config`."""
        config = dict(config)
        config["encoder"] = keras.saving.deserialize_keras_object(config["encoder"])
        with layers.sharing(config["encoder"]):
            for name in ("decoder", "corrupt"):
                config[name] = keras.saving.deserialize_keras_object(config[name])
        return cls(**config)


def _strength(value):
    if not value >= 0:
        raise ValueError(f"strength must be >= 0, got {value!r}")
    return float(value)


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
    """

    def __init__(self, encoder, decoder, *, strength, rate=None, **kwargs):
        super().__init__(encoder, decoder, **kwargs)
        if rate is not None and not 0 < rate < 1:
            raise ValueError(f"rate must be in (0, 1), got {rate!r}")
        self.strength = _strength(strength)
        self.rate = rate

    def terms(self, target, out):
        """Return the base's terms and ``sparsity``."""
        code = out["code"]
        penalty = objectives.l1(code) if self.rate is None else objectives.rate_kl(code, self.rate)
        return super().terms(target, out) | {"sparsity": self.strength * penalty}

    def get_config(self):
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
    """

    def __init__(self, encoder, decoder, *, strength, probes=None, seed=None, **kwargs):
        super().__init__(encoder, decoder, **kwargs)
        self.strength = _strength(strength)
        self.probes = probes
        self.seed = seed
        self.directions = keras.random.SeedGenerator(seed)

    def terms(self, target, out):
        """Return the base's terms and ``contraction``."""
        return super().terms(target, out) | {"contraction": self.strength * self._norm(out)}

    def _norm(self, out):
        *before, last = self.encoder.layers
        closed = getattr(last, "activation", None) is keras.activations.sigmoid and not any(
            layer.weights for layer in before
        )
        if closed and self.probes is None and self.corrupt is None and isinstance(last, keras.layers.Dense):
            return autodiff.sigmoid_jacobian_norm(out["code"], last.kernel)
        return autodiff.jacobian_norm(self.encoder, out["input"], probes=self.probes, seed=self.directions)

    def get_config(self):
        """Return what `from_config` needs."""
        own = {"strength": self.strength, "probes": self.probes, "seed": self.seed}
        return super().get_config() | own


def _check(model, x):
    """Refuse an array that Keras would reshape or skip without a word; a pipeline of batches has no shape."""
    if not hasattr(x, "shape"):
        return
    shape, expected = tuple(x.shape), model.input_shape[1:]
    fits = len(shape) == len(expected) + 1 and all(
        e in (None, n) for e, n in zip(expected, shape[1:], strict=True)
    )
    if not fits or not shape[0]:
        raise ValueError(f"the {model.name} expects an array of shape (n >= 1, {expected}), got {shape}")


def _predict(model, x, batch_size):
    x = np.asarray(x)
    _check(model, x)
    return model.predict(x, batch_size=batch_size, verbose=0)
