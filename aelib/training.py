"""Training on data in memory: many steps in one compiled call, behind `Autoencoder.fit`.

Keras hands its compiled step one batch after the other; for a small net that costs more than the step itself.
Here a compiled program gets the data once, and the order in which the samples are wanted as a matrix of row
numbers, a row for each step; it picks the batches and takes the steps by itself, about a second's worth in a
call. The epochs, callbacks and metrics around it are those of `keras.Model.fit`, and so are the numbers; only
where TensorFlow compiles by XLA does a seed stand for other random draws than elsewhere. What cannot be done
this way is left to `keras.Model.fit` itself: see `fit`.
"""

import contextlib
import functools
import itertools
import math
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import keras
import numpy as np

from aelib import layers, likelihoods

#: A run of fewer steps is left to Keras: compiling a loop would take longer.
FEW_STEPS = 256
#: Seconds that one call of the program may take: in between, the bar moves and Ctrl-C is heard.
CALL_SECONDS = 1.0
#: Steps of the first call, when nothing is known yet of its pace.
FIRST_STEPS = 16
#: Data up to so many bytes are put on the device whole; larger ones in parts of `PART_BYTES`.
RESIDENT_BYTES = 2**31
PART_BYTES = 2**26
#: Seconds, roughly estimated, from which a run repays the few that XLA takes to compile.
XLA_REPAYS = 10.0
#: Layers that XLA makes quicker on a CPU; convolutions and recurrent layers it slows down.
XLA_QUICKENS = (
    keras.Model,
    keras.layers.InputLayer,
    keras.layers.Dense,
    keras.layers.Activation,
    keras.layers.ReLU,
    keras.layers.LeakyReLU,
    keras.layers.ELU,
    keras.layers.PReLU,
    keras.layers.Softmax,
    keras.layers.Dropout,
    keras.layers.GaussianNoise,
    keras.layers.GaussianDropout,
    keras.layers.BatchNormalization,
    keras.layers.LayerNormalization,
    keras.layers.Flatten,
    keras.layers.Reshape,
    keras.layers.Permute,
    keras.layers.Concatenate,
    keras.layers.Add,
    keras.layers.Rescaling,
    keras.layers.Normalization,
    layers.GaussianNoise,
    layers.MaskingNoise,
    layers.SaltAndPepperNoise,
    layers.Sampling,
    layers.TiedDense,
    likelihoods.Likelihood,
)


def fit(
    model: keras.Model, ordinary: Callable[..., Any], x: Any, y: Any = None, **options: Any
) -> keras.callbacks.History:
    """Train `model` as `keras.Model.fit` would, and stop where the loss is no longer finite.

    Arrays are trained on by a compiled loop, on TensorFlow and JAX. Keras's own loop takes over for
    pipelines, `steps_per_epoch`, a `steps_per_execution` of the user's, eager runs, several devices, PyTorch,
    models that bring their own `train_step`, runs of fewer than `FEW_STEPS` steps, and, on JAX without an
    accelerator, layers that are not in `XLA_QUICKENS`; with a warning, for callbacks that act on every batch.

    Parameters
    ----------
    model : keras.Model
        Compiled and built, with all its metrics.
    ordinary : callable
        The model's `keras.Model.fit`.
    x, y : ndarray (n, ...), or whatever else `keras.Model.fit` takes
    **options
        As for `keras.Model.fit`; `callbacks` is a list.

    Returns
    -------
    keras.callbacks.History

    Raises
    ------
    FloatingPointError
        When the loss is no longer finite; the message names the terms and the step.
    """
    callbacks = list(options.pop("callbacks", None) or ())
    guarded = [*callbacks, _StopWhereNotFinite()]
    if not _are_plain(x, y, options) or _is_special(model) or _is_short(x, options):
        return ordinary(x, y, callbacks=guarded, **options)
    run = _Run(model, (x, y, options.pop("sample_weight", None)), **options)
    watchers = sorted({type(callback).__name__ for callback in callbacks if _acts_on_batches(callback)})
    if _can_loop(model):
        if not watchers:
            return run.fit(callbacks)
        warnings.warn(
            f"training hands over one batch at a time, which is slower, since {', '.join(watchers)} acts on "
            "every batch; where once an epoch will do, override on_epoch_end instead",
            stacklevel=3,
        )
    return run.fit_by(ordinary, guarded)


def _is_short(x: Any, options: dict[str, Any]) -> bool:
    """Return whether the run is over before a loop of its own would be compiled."""
    batches = math.ceil(len(x) / (options.get("batch_size") or 32))
    return batches * options.get("epochs", 1) < FEW_STEPS


def _is_special(model: keras.Model) -> bool:
    """Return whether the model trains in a way of its own: by its own steps, or on several devices."""
    own = ("train_step", "test_step", "make_train_function", "make_test_function", "compute_metrics")
    if any(_origin(model, name) != "keras" for name in own):
        return True
    if _origin(model, "evaluate") not in ("keras", "aelib"):
        return True
    if keras.backend.backend() == "tensorflow" and model._distribute_strategy is not None:
        return True
    capped = (keras.config.max_epochs(), keras.config.max_steps_per_epoch()) != (None, None)
    return capped or keras.distribution.distribution() is not None


def _can_loop(model: keras.Model) -> bool:
    """Return whether the model's steps can be compiled into a loop."""
    if model.run_eagerly or model.steps_per_execution != 1 or not model.trainable_variables:
        return False
    if not isinstance(model.optimizer, keras.optimizers.Optimizer):
        return False
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return not tf.config.functions_run_eagerly()
    if keras.backend.backend() != "jax" or not model.jit_compile:
        return False
    import jax

    # On a CPU, XLA computes a convolution inside a loop several times slower than outside of one.
    return jax.default_backend() != "cpu" or all(map(_is_quickened, model._flatten_layers()))


def _origin(model: keras.Model, name: str) -> str:
    """Return the package whose class defines a method, or "" if it was set on the object itself."""
    if name in vars(model):
        return ""
    owner = next(cls for cls in type(model).__mro__ if name in vars(cls))
    return owner.__module__.partition(".")[0]


def _are_plain(x: Any, y: Any, options: dict[str, Any]) -> bool:
    """Return whether the data are arrays of equal length, and no option asks for Keras's own loop."""
    known = {"batch_size", "epochs", "verbose", "validation_split", "validation_data", "shuffle"}
    known |= {"sample_weight", "initial_epoch", "validation_batch_size", "validation_freq"}
    if any(value is not None for name, value in options.items() if name not in known):
        return False
    validation = options.get("validation_data")
    if validation is not None and not isinstance(validation, tuple | list):
        validation = (validation,)
    for arrays in ((x, y, options.get("sample_weight")), validation):
        given = [array for array in arrays or () if array is not None]
        if not all(isinstance(array, np.ndarray) for array in given):
            return False
        if arrays is not None and len({len(array) for array in given}) != 1:
            return False
    sizes = [options.get(name) or 32 for name in ("batch_size", "validation_batch_size")]
    counts = [*sizes, options.get("validation_freq", 1)]
    if not all(isinstance(number, int | np.integer) and number > 0 for number in counts):
        return False
    split = options.get("validation_split") or 0.0
    return not split or validation is not None or 0 < math.floor(len(x) * (1 - split)) < len(x)


def _acts_on_batches(callback: keras.callbacks.Callback) -> bool:
    """Return whether a callback wants to hear of every batch, be it of training or of validation."""
    if isinstance(callback, keras.callbacks.ModelCheckpoint | keras.callbacks.BackupAndRestore):
        return callback.save_freq not in ("epoch", False)
    if isinstance(callback, keras.callbacks.ProgbarLogger | keras.callbacks.TerminateOnNaN):
        return False
    if any(cls.__module__.startswith("tqdm") for cls in type(callback).__mro__):
        return False
    hooks = [f"on_{phase}batch_{end}" for phase in ("", "train_", "test_") for end in ("begin", "end")]
    return any(
        hook in vars(callback) or getattr(type(callback), hook) is not getattr(keras.callbacks.Callback, hook)
        for hook in hooks
    )


def check_finite(logs: dict[str, float], where: str) -> None:
    """Raise FloatingPointError unless the loss and its terms are finite.

    Parameters
    ----------
    logs : dict
        {name: number}; figures of validation, ``val_...``, may be what they like.
    where : str
        When that was, for the message: "at step 3 of epoch 1".
    """
    bad = [name for name in logs if not name.startswith("val_") and not math.isfinite(logs[name])]
    terms = " and ".join(f"{name!r} is {logs[name]:g}" for name in bad if name != "loss")
    if bad:
        raise FloatingPointError(
            f"the loss is no longer finite {where}: {terms or 'the sum of its terms overflows'}. Lower the "
            "learning rate, clip the gradients as in keras.optimizers.Adam(clipnorm=1.0), or look for "
            "extreme numbers in the data. The weights are spoilt: start again from a fresh model"
        )


class _StopWhereNotFinite(keras.callbacks.Callback):
    """Stops Keras's own loop after an epoch whose loss was not finite."""

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if not self.model.stop_training:
            check_finite(logs or {}, f"in epoch {epoch + 1}")


class _Run:
    """One call of `fit` on arrays: the epochs, callbacks and validation around the compiled loop."""

    def __init__(
        self,
        model: keras.Model,
        training: tuple[Any, ...],
        *,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = 0,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool | str = True,
        initial_epoch: int = 0,
        validation_batch_size: int | None = None,
        validation_freq: int = 1,
        **_: Any,
    ) -> None:
        validation = validation_data
        if validation is not None and not isinstance(validation, tuple | list):
            validation = (validation,)
        if validation_split and validation is None:
            at = math.floor(len(training[0]) * (1 - validation_split))
            validation = _each(training, lambda array: array[at:])
            training = _each(training, lambda array: array[:at])
        self.model = model
        self.training = _without_none(training)
        self.validation = None if validation is None else _without_none(validation)
        self.epochs = range(initial_epoch, epochs)
        self.verbose = verbose
        self.shuffle = shuffle
        self.batch_size = int(batch_size or 32)
        self.validation_batch_size = int(validation_batch_size or self.batch_size)
        self.validation_freq = validation_freq

    def fit_by(self, ordinary: Callable[..., Any], callbacks: list[Any]) -> Any:
        """Train by Keras's own loop, in the same order as by the compiled one."""
        return ordinary(
            _Batches(self.training, self.batch_size, self.shuffle),
            epochs=self.epochs.stop,
            verbose=self.verbose,
            callbacks=callbacks,
            validation_data=self.validation,
            shuffle=False,
            initial_epoch=self.epochs.start,
            validation_batch_size=self.validation_batch_size,
            validation_freq=self.validation_freq,
        )

    def fit(self, callbacks: Any) -> Any:
        """Train by the compiled loop, and return the history."""
        model, logs = self.model, None
        steps = math.ceil(len(self.training[0]) / self.batch_size)
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        xla = _xla_pays(model, steps=steps * len(self.epochs), batch_size=self.batch_size)
        train = _Program(model, "train", _Data(self.training), xla=xla)
        test = None
        if self.validation is not None:
            test = _Program(model, "test", _Data(self.validation), xla=model.jit_compile)
        callbacks = keras.callbacks.CallbackList(
            callbacks,
            add_history=True,
            add_progbar=self.verbose != 0,
            verbose=self.verbose,
            epochs=self.epochs.stop,
            steps=steps,
            model=model,
        )
        model.stop_training = False
        callbacks.on_train_begin()
        # `BackupAndRestore` has just told the model where it was interrupted.
        first = model._initial_epoch or self.epochs.start
        for epoch in range(first, self.epochs.stop):
            model.reset_metrics()
            callbacks.on_epoch_begin(epoch)
            self._train(train, callbacks, epoch)
            logs = _as_numbers(model.get_metrics_result())
            if test is not None and (epoch + 1) % self.validation_freq == 0:
                logs |= {f"val_{name}": value for name, value in self._validate(test, callbacks).items()}
            callbacks.on_epoch_end(epoch, logs)
            if model.stop_training:
                break
        model.optimizer.finalize_variable_values(model.trainable_weights)
        callbacks.on_train_end(logs)
        return model.history

    def _train(self, program, callbacks, epoch):
        order = _order(len(self.training[0]), self.batch_size, self.shuffle)
        for start, stop, call in program.calls(order, self.batch_size):
            callbacks.on_train_batch_begin(start)
            done, finite = call()
            logs = _as_numbers(self.model.get_metrics_result())
            callbacks.on_train_batch_end(stop - 1, logs)
            if self.model.stop_training:
                break
            if not finite:
                check_finite(logs, f"at step {start + done} of epoch {epoch + 1}")

    def _validate(self, program, callbacks):
        callbacks.on_test_begin()
        self.model.reset_metrics()
        order = np.arange(len(self.validation[0]))
        for start, stop, call in program.calls(order, self.validation_batch_size):
            callbacks.on_test_batch_begin(start)
            call()
            callbacks.on_test_batch_end(stop - 1)
        logs = _as_numbers(self.model.get_metrics_result())
        callbacks.on_test_end(logs)
        return logs


def _as_numbers(logs: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in logs.items()}


def _each(arrays: tuple[Any, ...], change: Callable[[Any], Any]) -> tuple[Any, ...]:
    """Apply `change` to each of the arrays, the Nones left out; to one that stands twice, once."""
    changed = {id(array): array for array in arrays if array is not None}
    changed = {key: change(array) for key, array in changed.items()}
    return tuple(changed.get(id(array)) for array in arrays)


def _without_none(arrays: Any) -> tuple[Any, ...]:
    """Return (x,), (x, y) or (x, y, weight); Keras, too, drops the weights of samples without targets."""
    return tuple(itertools.takewhile(lambda array: array is not None, arrays))


def _order(n: int, batch_size: int, shuffle: bool | str) -> np.ndarray:
    """Return the order in which an epoch takes `n` samples: (n,).

    It is drawn by NumPy, which `keras.utils.set_random_seed` seeds. Keras's own loop does so on JAX only; on
    TensorFlow it takes the same order in every epoch once a seed is set (Keras 3.15).
    """
    if shuffle == "batch":
        starts = range(0, n, batch_size)
        return np.concatenate([start + np.random.permutation(min(batch_size, n - start)) for start in starts])
    return np.random.permutation(n) if shuffle else np.arange(n)


class _Batches(keras.utils.PyDataset):
    """Arrays for Keras's own loop, a batch at a time, in the order that the compiled loop would take."""

    def __init__(self, arrays: tuple[np.ndarray, ...], batch_size: int, shuffle: bool | str) -> None:
        super().__init__()
        self.arrays = arrays
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.order = np.arange(len(arrays[0]))

    def __len__(self) -> int:
        return math.ceil(len(self.order) / self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        rows = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        return _each(self.arrays, lambda array: array[rows])

    def on_epoch_begin(self) -> None:
        self.order = _order(len(self.order), self.batch_size, self.shuffle)


class _Data:
    """Arrays in reach of a program: on the device whole, or a part at a time where they are too large.

    Parameters
    ----------
    arrays : tuple of ndarray (n, ...)
        Inputs, targets and weights, as far as given.
    """

    def __init__(self, arrays: tuple[np.ndarray, ...]) -> None:
        self.arrays = arrays
        self.rows = len(arrays[0])
        self.row_bytes = sum({id(array): array[:1].nbytes for array in arrays}.values())
        self.resident = None
        if self.rows * self.row_bytes <= RESIDENT_BYTES:
            self.resident = _each(arrays, keras.ops.convert_to_tensor)

    def parts(
        self, order: np.ndarray, batch_size: int, steps: Callable[[], int]
    ) -> Iterator[tuple[int, int, tuple[Any, ...]]]:
        """Yield (start, stop, arguments of a loop) for the steps of an epoch; the last batch may be short.

        `steps` is called for the number of steps that the next part may have.
        """
        full = self.rows // batch_size
        matrix = np.asarray(order[: full * batch_size], "int32").reshape(full, batch_size)
        most = full
        if self.resident is None:
            most = min(full, max(1, PART_BYTES // (batch_size * self.row_bytes)))
        start = 0
        while start < full:
            stop = min(full, start + most, start + steps())
            yield start, stop, self._part(matrix, start, stop, most)
            start = stop
        if full * batch_size < self.rows:
            rest = np.asarray(order[None, full * batch_size :], "int32")
            yield full, full + 1, self._part(rest, 0, 1, 1)

    def _part(self, matrix, start, stop, most):
        """Return (data, order, start, stop) that stand for these rows of the matrix."""
        if self.resident is not None:
            return self.resident, matrix, start, stop
        # Always as many rows, since JAX and XLA compile for the shape of the data.
        rows = np.zeros((most, matrix.shape[1]), "int32")
        rows[: stop - start] = matrix[start:stop]
        data = _each(self.arrays, lambda array: keras.ops.convert_to_tensor(array[rows.ravel()]))
        return data, np.arange(rows.size, dtype="int32").reshape(rows.shape), 0, stop - start


class _Program:
    """A compiled loop over the steps of an epoch, in calls of about `CALL_SECONDS`.

    Parameters
    ----------
    model : keras.Model
    kind : {"train", "test"}
        Of the steps.
    data : _Data
    xla : bool
        Whether TensorFlow is to compile by XLA; JAX always does.
    """

    def __init__(self, model: keras.Model, kind: str, data: _Data, *, xla: bool = False) -> None:
        self.model = model
        self.kind = kind
        self.data = data
        self.xla = xla
        self.steps = FIRST_STEPS

    def calls(
        self, order: np.ndarray, batch_size: int
    ) -> Iterator[tuple[int, int, Callable[[], tuple[int, bool]]]]:
        """Yield (start, stop, call) for an epoch in this order; `call()` takes these steps."""
        for start, stop, part in self.data.parts(order, batch_size, lambda: self.steps):
            yield start, stop, functools.partial(self._take, *part)

    def _take(self, data: Any, order: np.ndarray, start: int, stop: int) -> tuple[int, bool]:
        """Take the steps whose samples stand in these rows of `order`.

        Returns
        -------
        done : int
            How many steps were taken: as many as asked for, or up to the first whose loss was not finite.
        finite : bool
        """
        begun = time.perf_counter()
        # A single step, such as that of a short last batch, is not worth XLA's time.
        xla = self.xla and len(order) > 1
        loop = _loop(self.model, self.kind, self.data, xla=xla)
        try:
            end, finite = loop(data, order, start, stop)
        except Exception:
            if not xla or self.model.jit_compile:
                raise
            # Nobody asked for XLA, which cannot compile everything.
            self.xla = False
            return self._take(data, order, start, stop)
        done, finite = int(end) - start, bool(finite)
        if len(order) > 1:
            pace = done / (time.perf_counter() - begun)
            # The first call is slow, since it compiles; the next ones make up for that.
            self.steps = max(1, min(16 * self.steps, int(pace * CALL_SECONDS)))
        return done, finite


def _loop(model, kind, data, *, xla):
    """Return the compiled loop for such data, kept with the model until it is compiled anew."""
    kept = vars(model).setdefault("_loops", {})
    tracker = model.metrics[0]  # of the loss: `compile` makes a new one each time
    if kept.get("tracker") is not tracker:
        kept.clear()
        kept["tracker"] = tracker
    key = (kind, xla, *((array.dtype.name, array.shape[1:]) for array in data.arrays))
    if key not in kept:
        tensorflow = keras.backend.backend() == "tensorflow"
        kept[key] = _tensorflow_loop(model, kind, data, xla) if tensorflow else _jax_loop(model, kind)
    return kept[key]


def _tensorflow_loop(model, kind, data, xla):
    """Return (data, order, start, stop) -> (end, whether the loss is finite), compiled by TensorFlow."""
    import tensorflow as tf

    step = model.train_step if kind == "train" else model.test_step

    def take_steps(data, order, start, stop):
        def take_one(i, _):
            rows = order[i]
            logs = step(tuple(tf.gather(array, rows) for array in data))
            return i + 1, tf.math.is_finite(logs["loss"])

        return tf.while_loop(lambda i, finite: (i < stop) & finite, take_one, (start, True))

    # Batches of any length share one program; only XLA goes on to compile it for each length.
    signature = (
        tuple(tf.TensorSpec((None, *array.shape[1:]), array.dtype) for array in data.arrays),
        tf.TensorSpec((None, None), "int32"),
        tf.TensorSpec((), "int32"),
        tf.TensorSpec((), "int32"),
    )
    compiled = tf.function(take_steps, input_signature=signature, autograph=False, jit_compile=xla)
    # Traced here, not by its first call: TensorFlow takes models that train in turn for a careless retracing.
    with _philox():
        compiled = compiled.get_concrete_function()

    def loop(data, order, start, stop):
        return compiled(data, tf.constant(order), tf.constant(start), tf.constant(stop))

    return loop


@contextlib.contextmanager
def _philox():
    """Draw by Philox under XLA, too: its own default takes five to ten times as long on a CPU."""
    import tensorflow as tf

    philox = {
        (tf.random, "stateless_normal"): "alg",
        (tf.random, "stateless_uniform"): "alg",
        (tf.random, "stateless_truncated_normal"): "alg",
        (tf.nn.experimental, "stateless_dropout"): "rng_alg",
    }
    with contextlib.ExitStack() as stack:
        for (module, name), argument in philox.items():
            function = functools.partial(getattr(module, name), **{argument: "philox"})
            stack.enter_context(mock.patch.object(module, name, function))
        yield


def _jax_loop(model, kind):
    """Return (data, order, start, stop) -> (end, whether the loss is finite), compiled by JAX."""
    import jax

    step = model.train_step if kind == "train" else model.test_step

    @jax.jit
    def take_steps(state, data, order, start, stop):
        def more(carried):
            i, finite, _ = carried
            return (i < stop) & finite

        def take_one(carried):
            i, _, state = carried
            batch = tuple(array.at[order[i]].get(mode="promise_in_bounds") for array in data)
            logs, state = step(state, batch)
            return i + 1, jax.numpy.isfinite(logs["loss"]), state

        return jax.lax.while_loop(more, take_one, (start, True, state))

    def loop(data, order, start, stop):
        variables = [model.trainable_variables, model.non_trainable_variables]
        variables += [model.optimizer.variables] if kind == "train" else []
        variables += [model.metrics_variables]
        state = tuple([variable.value for variable in group] for group in variables)
        end, finite, state = take_steps(state, data, order, start, stop)
        for group, values in zip(variables, state, strict=True):
            for variable, value in zip(group, values, strict=True):
                variable.assign(value)
        return end, finite

    return loop


def _is_quickened(layer: keras.layers.Layer) -> bool:
    parts = ("aelib.divergences", "aelib.priors")  # which import this module
    return isinstance(layer, XLA_QUICKENS) or type(layer).__module__ in parts


def _xla_pays(model: keras.Model, *, steps: int, batch_size: int) -> bool:
    """Return whether TensorFlow should compile this run by XLA.

    It takes some seconds to compile. On two cores it then takes a dense net's steps in half the time, a
    convolution's in twice.
    """
    asked = getattr(getattr(model, "bookkeeping", None), "jit_compile", "auto")
    if keras.backend.backend() != "tensorflow" or asked is False:
        return False
    if model.jit_compile:  # asked for, or on a GPU
        return True
    if not all(_is_quickened(layer) for layer in model._flatten_layers()):
        return False
    weights = sum(math.prod(variable.shape) for variable in model.trainable_variables)
    seconds = steps * (5e-4 + 6 * weights * batch_size / 1e11)
    return seconds > XLA_REPAYS
