"""The one model that owns the plumbing; a type of autoencoder overrides `terms` and nothing else."""

import os
from types import SimpleNamespace

import keras
import numpy as np
from keras import ops

from aelib import objectives


@keras.saving.register_keras_serializable("aelib")
class Autoencoder(keras.Model):
    """An encoder and a decoder, trained together to give back their input.

    ``model.fit(x)`` is enough: the target is the input. ``model.fit(x, y)`` learns to give back `y` instead.
    The loss is the mean over the batch of the named terms that `terms` returns; each is summed over the
    features of a sample and appears under its own name in the history, and their sum is ``loss``.

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
        x = ops.zeros([1, *(n or 1 for n in self.encoder.input_shape[1:])])
        out = self(x, training=False)
        return ops.zeros_like(out["reconstruction"]), out

    def _named_losses(self, target, out):
        terms = self.terms(target, out)
        if self.losses:
            terms["regularization"] = sum(ops.sum(loss) for loss in self.losses)
        return terms

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Average each term over the batch, note it under its name, and return their sum, a scalar."""
        total = 0.0
        for name, term in self._named_losses(x if y is None else y, y_pred).items():
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
        for name in ("encoder", "decoder", "corrupt"):
            config[name] = keras.saving.deserialize_keras_object(config[name])
        return cls(**config)


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
