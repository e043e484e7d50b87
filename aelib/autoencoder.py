"""The one model that owns the plumbing; every type overrides its `terms` and little else."""

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import keras
import numpy as np
from keras import ops

from aelib import architecture, batches, checks, layers, likelihoods


@keras.saving.register_keras_serializable("aelib")
class Autoencoder(keras.Model):
    """An encoder and a decoder, trained together to give back their input.

    ``model.fit(x)`` is enough: the target is the input. ``model.fit(x, y)`` learns to give back `y` instead.
    The loss is the mean over the batch of the named terms that `terms` returns; each is summed over the
    features of a sample and appears under its own name in the history, and their sum is ``loss``. The
    objective is computed in float32 whatever the policy of the nets (in float64 under that policy).
    In `terms`, ``out["input"]`` is the model's input; a term that belongs to the whole batch may be a scalar.

    The nets may read and return several arrays: the input may be a dict of arrays, the code a dict, list or
    tuple of them, whatever shape of net gives or takes it. `target_of` then says what is to be given back.

    Data may be numbers of any dtype, booleans too. What the likelihood cannot explain is refused: pixels on 0
    to 255 under a Bernoulli likelihood, NaN unless the likelihood is `Masked`.

    Parameters
    ----------
    encoder, decoder : keras.Model
        (B, ...) -> (B, code), and (B, code) -> (B, ...), whose output is raw: see `likelihood`.
    likelihood : str or aelib.likelihoods.Likelihood
        What the raw output means: "bernoulli", logits of data in [0, 1]; "gaussian", means; "laplace",
        medians; "categorical", "poisson", "negative_binomial", or an object, your own included. An encoder
        that begins with a `keras.layers.Masking` gets it masked likewise, so that padded steps cost nothing.
    corrupt : keras.layers.Layer, optional
        Applied to the input in training only; the target stays clean (a denoising autoencoder).

    Raises
    ------
    ValueError
        If the decoder's last activation contradicts the likelihood.

    Examples
    --------
    >>> import numpy as np
    >>> from aelib import Autoencoder, blocks
    >>> x = np.random.default_rng(0).random((100, 20), dtype="float32")
    >>> model = Autoencoder(blocks.dense_encoder(20, 2), blocks.dense_decoder(20, 2))
    >>> model.compile("adam")
    >>> history = model.fit(x, epochs=1, verbose=0)
    >>> model.encode(x).shape, model.reconstruct(x).shape
    ((100, 2), (100, 20))
    """

    def __init__(
        self,
        encoder: keras.layers.Layer,
        decoder: keras.layers.Layer,
        *,
        likelihood: str | likelihoods.Likelihood = "bernoulli",
        corrupt: keras.layers.Layer | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        for name, part in (("encoder", encoder), ("decoder", decoder)):
            if not isinstance(part, keras.layers.Layer):
                raise ValueError(f"{name} must be a keras.Model or a layer, got {part!r}")
        # The parts cast their inputs to their own policy; the objective wants them as they came.
        self.autocast = False
        self.encoder = encoder
        self.decoder = decoder
        self.corrupt = corrupt
        self.likelihood = architecture.masked_like(encoder, likelihoods.get(likelihood))
        architecture.check_last_activation(decoder, self.likelihood)
        # Keras locks a built model against new metrics, so the trackers live where it does not look.
        self.bookkeeping = SimpleNamespace(trackers={}, judged=True, jit_compile="auto")

    def call(self, x, training=None):
        """Return {"code": (B, code), "reconstruction": (B, ...), raw}."""
        code = self.encoder(self.visible(x, training=training), training=training)
        return {"code": code, "reconstruction": self.decoder(code, training=training)}

    def target_of(self, x: Any) -> Any:
        """Return what is to be given back where no target is named: the input, if it is a single array."""
        if isinstance(x, dict):
            raise ValueError(
                f"the data are a dict of {', '.join(map(repr, x))}: say by a target what to give back, "
                "fit(x, y), or a subclass that overrides target_of(x)"
            )
        return x

    def visible(self, x: Any, training: bool | None = None) -> Any:
        """Return what the encoder sees: `x` corrupted in training, and filled where it is missing."""
        if isinstance(x, dict):
            if self.corrupt is not None:
                raise ValueError(
                    f"corrupt= is for one array, got a dict of {', '.join(map(repr, x))}: override visible()"
                )
            return {name: self._as_input(part, name) for name, part in x.items()}
        x = self._as_input(x)
        clean = self.likelihood.hide(x)
        if self.corrupt is None:
            return clean
        return self.likelihood.hide(x, self.corrupt(clean, training=training))

    def _as_input(self, x: Any, name: str | None = None) -> Any:
        """Turn whole numbers and booleans into floats, unless the encoder reads such (an embedding)."""
        inputs = getattr(self.encoder, "inputs", None) or [None]
        if name is not None:
            inputs = [one for one in inputs if one is not None and one.name == name] or [None]
        if getattr(inputs[0], "dtype", "float32").startswith("int"):
            return ops.convert_to_tensor(x)
        x = ops.convert_to_tensor(x)
        return x if keras.backend.is_float_dtype(x.dtype) else ops.cast(x, self.variable_dtype)

    def terms(self, target, out):
        """Return the named terms of the objective, each (B,), from the target and what `call` returned."""
        return {"reconstruction": self.likelihood.nll(target, out["reconstruction"])}

    def compile(
        self,
        optimizer: str | keras.optimizers.Optimizer = "adam",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        **kwargs: Any,
    ) -> None:
        """Prepare for training, as `keras.Model.compile`; the loss is given by `terms`, never here."""
        refused = {
            "loss": loss,
            "loss_weights": loss_weights,
            "metrics": metrics,
            "weighted_metrics": weighted_metrics,
        }
        refused = {name: value for name, value in refused.items() if value is not None}
        if refused:
            raise ValueError(
                "an autoencoder's loss is the sum of its terms: choose likelihood=, or override terms(); for "
                f"other figures call aelib.metrics on model.reconstruct(x); got {refused}"
            )
        self.bookkeeping.jit_compile = kwargs.get("jit_compile", "auto")
        super().compile(optimizer=optimizer, **kwargs)
        if architecture.input_shape(self.encoder) is not None:
            self._prepare(self._zeros())

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compile a model that was loaded; Keras itself does so only where `compile` is its own."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def _zeros(self) -> Any:
        """Return one sample of zeros. Where any length will do, one that survives five halvings."""
        shape = architecture.input_shape(self.encoder)
        if shape is None:
            raise ValueError(
                "the encoder does not say what shape it reads: call the model on a batch first, model(x[:1])"
            )

        def zeros(shape):
            return np.zeros([1, *(n or 32 for n in shape)], "float32")

        if isinstance(shape, dict):
            return {name: zeros(one) for name, one in shape.items()}
        return [zeros(one) for one in shape] if isinstance(shape, list) else zeros(shape)

    def _prepare(self, x, target=None):
        """Build the model on a sample and a tracker for each term; note whether the likelihood judges it."""
        out = self(x, training=False)
        nll, calls = self.likelihood.nll, []
        self.likelihood.nll = lambda *pair: calls.append(pair) or nll(*pair)
        try:
            names = self._named_losses(x, self._zero_target(out) if target is None else target, out)
        finally:
            del self.likelihood.nll
        self.bookkeeping.judged = bool(calls)
        for name in names:
            self._mean_of(name)

    def _zero_target(self, out: dict[str, Any]) -> Any:
        return ops.zeros(self.likelihood.data_shape(tuple(out["reconstruction"].shape)))

    def _mean_of(self, name: str) -> keras.metrics.Mean:
        trackers = self.bookkeeping.trackers
        if name not in trackers:
            trackers[name] = keras.metrics.Mean(name=name, dtype="float32")
        return trackers[name]

    def _named_losses(self, x: Any, target: Any, out: dict[str, Any]) -> dict[str, Any]:
        """Return the terms by name, in the objective's precision."""
        dtype = "float64" if self.compute_dtype == "float64" else "float32"

        def precise(tensor):
            return ops.cast(tensor, dtype)

        out = keras.tree.map_structure(precise, {"input": x} | out)
        terms = self.terms(precise(target), out)
        if self.losses:
            terms["regularization"] = sum(ops.sum(precise(loss)) for loss in self.losses)
        return terms

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Average each term over the batch, note it under its name, and return their sum, a scalar."""
        total = 0.0
        target = self.target_of(x) if y is None else y
        for name, term in self._named_losses(x, target, y_pred).items():
            if sample_weight is not None and ops.ndim(term):
                term = term * ops.cast(ops.reshape(sample_weight, (-1,)), term.dtype)
            mean = ops.mean(term)
            # Weighted by the batch size, else a short last batch counts as much as a full one.
            self._mean_of(name).update_state(mean, sample_weight=ops.shape(target)[0])
            total = total + mean
        # A distributed strategy sums the replicas' losses; Keras's own hook divides by their number.
        return self._aggregate_additional_loss(total)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Keras's own metrics, and the tracker of each term."""
        return super().metrics + list(self.bookkeeping.trackers.values())

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: str | int = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool | str = True,
        class_weight: None = None,
        sample_weight: Any = None,
        **kwargs: Any,
    ) -> keras.callbacks.History:
        """Train, as `keras.Model.fit`, with one progress bar instead of a line for every epoch.

        ``AELIB_PROGRESS=0`` in the environment turns the bar off. Data in memory are trained on by a compiled
        loop over many steps at once: see `aelib.training`.

        Raises
        ------
        ValueError
            For data that the likelihood cannot explain, NaN, or a target of another shape than the
            reconstruction's; of a pipeline, the first batch is checked.
        FloatingPointError
            When the loss is no longer finite; the message names the terms and the step.
        """
        from aelib import training

        if class_weight is not None:
            raise ValueError("an autoencoder has no classes: weigh samples by sample_weight=")
        x, y, sample_weight = self._checked(x, y, sample_weight, adapt=True)
        if validation_data is not None:
            validation_data = self._checked(*_unpacked(validation_data), name="the validation data")
        callbacks = [] if callbacks is None else callbacks
        callbacks = list(callbacks) if isinstance(callbacks, list | tuple) else [callbacks]
        if verbose == "auto":
            verbose = 0
            if os.environ.get("AELIB_PROGRESS", "1") != "0":
                from tqdm.keras import TqdmCallback

                callbacks.append(TqdmCallback(verbose=0))
        return training.fit(
            self,
            super().fit,
            x,
            y,
            batch_size=batch_size and int(batch_size),  # PyTorch's loader takes no NumPy integer
            epochs=epochs,
            verbose=verbose,
            callbacks=callbacks,
            validation_split=validation_split,
            validation_data=validation_data,
            shuffle=shuffle,
            sample_weight=sample_weight,
            **kwargs,
        )

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: str | int = "auto",
        sample_weight: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Return the loss and its terms, as `keras.Model.evaluate`, without corruption."""
        if not kwargs.get("_use_cached_eval_dataset"):  # `fit` has checked its validation data
            x, y, sample_weight = self._checked(x, y, sample_weight)
        return super().evaluate(x, y, batch_size and int(batch_size), verbose, sample_weight, **kwargs)

    def train_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None, **kwargs: Any) -> Any:
        """Take one step, as `keras.Model.train_on_batch`, on data that are checked as those of `fit`."""
        return super().train_on_batch(*self._checked(x, y, sample_weight, adapt=True), **kwargs)

    def test_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None, **kwargs: Any) -> Any:
        """Return the loss of one batch, as `keras.Model.test_on_batch`, of data that are checked."""
        return super().test_on_batch(*self._checked(x, y, sample_weight), **kwargs)

    def _checked(
        self, x: Any, y: Any = None, sample_weight: Any = None, *, name: str = "the data", adapt: bool = False
    ) -> tuple[Any, Any, Any]:
        """Return what Keras is to be given, checked: x, y, sample_weight; a pipeline by its first batch."""
        if not self.compiled:
            raise ValueError("the model has no optimizer yet: call model.compile('adam') first")
        if batches.is_array(x):
            x = batches.as_array(name, x)
            y = None if y is None else batches.as_array(f"the target of {name}", y)
            first, target = x, y
            if sample_weight is not None:
                sample_weight = _weights(sample_weight, batches.rows(x))
                y = self.target_of(x) if y is None else y  # Keras drops the weights of samples without
        else:
            if y is not None:
                raise ValueError(f"{name} is a pipeline: let its batches be (x, y), and give no y beside it")
            batch, x = batches.peek(name, x)
            pair = batch if isinstance(batch, tuple | list) else (batch,)
            first, target, weights = (*pair, None, None)[:3]
            first = batches.as_array(name, first)
            target = None if target is None else batches.as_array(f"the target of {name}", target)
            if weights is not None:
                _weights(weights, batches.rows(first))
        self._check_input(first, name)
        named = target is not None
        target = target if named else self.target_of(first)
        self._prepare_once(first, target)
        self._check_target(target, f"the target of {name}" if named else name, first)
        if batches.rows(target) != batches.rows(first):
            raise ValueError(f"{name} has {batches.rows(first)} samples, its target {batches.rows(target)}")
        if named or isinstance(first, dict):
            self._check_finite(first, name)
        if adapt and not int(ops.convert_to_numpy(self.optimizer.iterations)):
            self._adapt(first, target)
        return x, y, sample_weight

    def _check_input(self, x: Any, name: str = "x") -> None:
        """Refuse an array of another shape than the encoder reads."""
        shape = architecture.input_shape(self.encoder)
        if isinstance(x, dict):
            self._check_inputs(x, name, shape)
            return
        if shape is None or isinstance(shape, list):
            return
        if isinstance(shape, dict):
            raise ValueError(
                f"the {self.encoder.name} reads a dict of {', '.join(map(repr, shape))}; {name} is an array "
                f"of shape {x.shape}"
            )
        if not checks.shapes_agree(shape, x.shape[1:]):
            hint = ""
            if checks.shapes_agree(shape, x.shape):
                hint = "; that is one sample: take x[None], or x[:1], and a pipeline in batches, x.batch(32)"
            elif x.ndim == len(shape) > 1 and tuple(x.shape[1:]) == tuple(shape[:-1]):
                hint = "; images need an axis of channels: x[..., None]"
            raise ValueError(
                f"the {self.encoder.name} reads {name} of shape (n >= 1, {', '.join(map(str, shape))}), got "
                f"{x.shape}{hint}"
            )

    def _check_inputs(self, x: dict[str, Any], name: str, shape: Any) -> None:
        """Refuse a dict of arrays that the encoder cannot read."""
        if not isinstance(shape, dict):
            return
        if set(shape) != set(x):
            raise ValueError(
                f"the {self.encoder.name} reads {', '.join(map(repr, shape))}, {name} has "
                f"{', '.join(map(repr, x))}: the names must be the same"
            )
        for key, one in shape.items():
            if not checks.shapes_agree(one, x[key].shape[1:]):
                raise ValueError(
                    f"the {self.encoder.name} reads {key!r} of shape (n >= 1, "
                    f"{', '.join(map(str, one))}), got {x[key].shape}"
                )

    def _check_finite(self, x: Any, name: str, first_row: int = 0) -> None:
        """Refuse NaN and infinity in what the encoder reads, unless the likelihood foresees it."""
        if isinstance(x, dict):
            for key, part in x.items():
                checks.finite(f"{name}[{key!r}]", part, first_row=first_row)
        elif self.likelihood.observed(x[:1]) is None:
            checks.finite(name, x, first_row=first_row)

    def _prepare_once(self, x: Any, target: Any) -> None:
        if not self.bookkeeping.trackers or not self.built:
            self._prepare(batches.each(lambda part: np.array(part[:1]), x), np.array(target[:1]))

    def _check_target(self, target: Any, name: str, x: Any) -> None:
        """Refuse targets, an ndarray (n, ...), that the reconstruction of `x` cannot be compared with.

        Where `terms` never asks the likelihood, only NaN is refused: what the target means is its affair.
        """
        if not self.bookkeeping.judged:
            checks.finite(name, target)
            return
        out = architecture.output_shape(self.decoder)
        if out is None:  # the decoder does not say: ask it
            out = tuple(self(batches.each(lambda part: np.array(part[:1]), x))["reconstruction"].shape[1:])
        wanted = self.likelihood.raw_shape(target.shape)
        if not checks.shapes_agree(wanted[1:], out):
            shape = ", ".join(map(str, out))
            raise ValueError(
                f"{name} has the shape {target.shape}, the decoder's output (n, {shape}), which "
                f"{type(self.likelihood).__name__} cannot compare: they must agree. `y` is what is to be "
                "reconstructed, no label; for a plain autoencoder leave it out: fit(x)"
            )
        self.likelihood.check(target, name=name)
        activation = architecture.last_activation(self.decoder)
        if self.likelihood.reads_logits or activation not in likelihoods.RANGES:
            return
        low, high = likelihoods.RANGES[activation]
        observed = self.likelihood.observed(target)
        least, most = checks.extent(target if observed is None else target[observed])
        if least < low - 1e-6 or most > high + 1e-6:
            raise ValueError(
                f"the decoder ends in a {activation}, which gives {low:g} to {high:g}; {name} has numbers "
                f"from {least:g} to {most:g}: use a linear last layer, or rescale the data"
            )

    def _adapt(self, x: Any, target: Any) -> None:
        """Prepare for training data before the very first step."""
        self.likelihood.adapt(target)

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Return what `call` does, as `keras.Model.predict`: ``reconstruction`` is raw, logits for instance.

        For the means of the data take `reconstruct`, which also checks the input.
        """
        return super().predict(x, *args, **kwargs)

    def export(self, filepath: str | Path, *args: Any, **kwargs: Any) -> Any:
        """Write what `call` does for serving, as `keras.Model.export`: the served ``reconstruction`` is raw.

        For means, serve the likelihood's `mean` with it:
        ``keras.Model(i := keras.Input(shape), model.likelihood.mean(model(i)["reconstruction"]))``.
        """
        return super().export(filepath, *args, **kwargs)

    def encode(self, x: Any, *, batch_size: int = 512) -> Any:
        """Return the codes of `x`: (n, ...) -> ndarray (n, code), or the arrays that the encoder gives.

        `x` is anything that `fit` takes: an array or a memory map of any dtype, a `tf.data` pipeline, a
        `PyDataset`, batches; memory holds a part of it at a time.
        """
        return self._in_parts(x, batch_size, self._encoded)

    def decode(self, code: Any, *, batch_size: int = 512) -> np.ndarray:
        """Return the mean of the data given the codes: ndarray (n, code) -> ndarray (n, ...)."""
        batch_size = checks.whole_number("batch_size", batch_size)
        shape = architecture.input_shape(self.decoder)
        if _are_several(code, shape):
            code = batches.as_arrays("the codes", code)
            return batches.join(
                [self._decoded(part, batch_size) for part in batches.slices(code, batch_size)]
            )
        if batches.is_array(code):
            code = batches.as_array("the codes", code)
            if shape is not None and not checks.shapes_agree(shape, code.shape[1:]):
                wanted = ", ".join(map(str, shape))
                raise ValueError(
                    f"the {self.decoder.name} reads codes of shape (n >= 1, {wanted}), got {code.shape}"
                )
        parts = batches.parts("the codes", code, multiple=batch_size)
        return np.concatenate([self._decoded(checks.finite("the codes", part), batch_size) for part in parts])

    def reconstruct(self, x: Any, *, batch_size: int = 512) -> np.ndarray:
        """Return the reconstructions of `x`, without corruption: (n, ...) -> ndarray (n, ...).

        The means of the data, also where `x` is missing (see `aelib.likelihoods.Masked`). `x` as in `encode`.
        """
        return self._in_parts(x, batch_size, self._reconstructed)

    def _in_parts(self, x: Any, batch_size: int, function: Callable[[Any, int], Any]) -> Any:
        """Apply `function(ndarray, batch_size)` to every part of `x`, checked, and join what it returns."""
        batch_size = checks.whole_number("batch_size", batch_size)
        return batches.join(
            [function(part, batch_size) for part in self.checked_parts(x, multiple=batch_size)]
        )

    def checked_parts(self, x: Any, *, multiple: int = 1, name: str = "x") -> Iterator[Any]:
        """Yield `x` in arrays that the encoder can read: finite, or missing where that is foreseen."""
        start = 0
        for part in batches.parts(name, x, multiple=multiple):
            self._check_input(part, name)
            self._check_finite(part, name, start)
            start += batches.rows(part)
            yield part

    def _encoded(self, x: Any, batch_size: int) -> Any:
        return _predict(self.encoder, batches.each(ops.convert_to_numpy, self.visible(x)), batch_size)

    def _decoded(self, code: Any, batch_size: int) -> np.ndarray:
        raw = ops.convert_to_tensor(_predict(self.decoder, batches.each(_float, code), batch_size))
        return ops.convert_to_numpy(self.likelihood.mean(raw))

    def _reconstructed(self, x: Any, batch_size: int) -> Any:
        return self._decoded(self._encoded(x, batch_size), batch_size)

    def save(self, filepath: str | Path, *args: Any, **kwargs: Any) -> Any:
        """Write the whole model to a ``.keras`` file, as `keras.Model.save`."""
        if str(filepath).endswith((".h5", ".hdf5")):
            raise ValueError(
                f"the format of {str(filepath)!r} cannot hold this model: save it as 'model.keras', or its "
                "weights alone with save_weights('model.weights.h5')"
            )
        return super().save(filepath, *args, **kwargs)

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Build a model that was loaded."""
        if architecture.input_shape(self.encoder) is None:
            super().build_from_config(config)
        elif not self.built:
            self(self._zeros())

    def _seed_states(self) -> dict[str, Any]:
        weights = {id(weight) for weight in self.weights}
        rest = [variable for variable in self.variables if id(variable) not in weights]
        return {f"seed_{i}": state for i, state in enumerate(rest) if "seed_generator" in state.path}

    def save_own_variables(self, store: Any) -> None:
        """Save what no part saves, the states of the random draws, too: Keras forgets them."""
        super().save_own_variables(store)
        for name, state in self._seed_states().items():
            store[name] = ops.convert_to_numpy(state)

    def load_own_variables(self, store: Any) -> None:
        """Load what `save_own_variables` has saved, so that a resumed run goes on with other draws."""
        saved = {name: store[name] for name in list(store.keys())}
        super().load_own_variables({name: saved[name] for name in saved if not name.startswith("seed_")})
        for name, state in self._seed_states().items():
            if name in saved:
                state.assign(saved[name])

    def load_weights(self, filepath: str | Path, *args: Any, **kwargs: Any) -> Any:
        """Read weights that `save_weights` wrote, into a fresh model too."""
        if not self.built:
            self(self._zeros())
        return super().load_weights(filepath, *args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` needs; weights are not part of it."""
        parts = {name: getattr(self, name) for name in ("encoder", "decoder", "corrupt", "likelihood")}
        parts = {name: keras.saving.serialize_keras_object(part) for name, part in parts.items()}
        return super().get_config() | parts

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Rebuild an untrained model from `get_config`."""
        config = dict(config)
        for name in ("encoder", "decoder", "corrupt", "likelihood"):
            config[name] = keras.saving.deserialize_keras_object(config[name])
        layers.retie(config["decoder"], config["encoder"])
        return cls(**config)


def _weights(value: Any, rows: int) -> np.ndarray:
    """Return the weights of `rows` samples, checked."""
    weights = batches.as_array("sample_weight", value)
    if weights.shape not in ((rows,), (rows, 1)):
        raise ValueError(f"sample_weight must be one number a sample, ({rows},), got shape {weights.shape}")
    remedy = "a sample that is not to count has the weight 0"
    return checks.within("sample_weight", weights, 0, math.inf, remedy=remedy)


def _float(x: np.ndarray) -> np.ndarray:
    """Return an array in float32, or in float64 if it has that already."""
    return x if x.dtype in (np.float32, np.float64) else np.asarray(x).astype(np.float32)


def _predict(model: keras.layers.Layer, x: Any, batch_size: int) -> Any:
    """Apply a model to an ndarray; a single batch is not worth the compilation, but for recurrent nets."""
    recurrent = any(isinstance(layer, keras.layers.RNN) for layer in getattr(model, "layers", ()))
    if batches.rows(x) > batch_size or recurrent:
        return batches.each(_float, model.predict(x, batch_size=batch_size, verbose=0))
    return batches.each(lambda part: _float(ops.convert_to_numpy(part)), model(x, training=False))


def _are_several(code: Any, shape: Any) -> bool:
    """Return whether a code is several arrays, each a row for every sample, and no array in a list's form."""
    if isinstance(code, dict):
        return True
    if not isinstance(code, list | tuple):
        return False
    return isinstance(shape, list) or (shape is None and all(hasattr(part, "shape") for part in code))


def _unpacked(data: Any) -> tuple[Any, Any, Any]:
    """Return (x, y, weight) from what Keras takes as validation data: x alone, (x, y), or all three."""
    if not isinstance(data, tuple | list) or not len(data) or len(data) > 3 or np.isscalar(data[0]):
        return data, None, None
    return (*data, None, None)[:3]
