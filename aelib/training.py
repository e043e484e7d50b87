"""Training on data in memory: many steps in one compiled call, behind `Autoencoder.fit`.

Keras hands its compiled step one batch after the other; for a small net that costs more than the step itself.
Here a compiled program gets the data once, and the order in which the samples are wanted as a matrix of row
numbers, a row for each step; it picks the batches and takes the steps by itself, about a second's worth in a
call. The epochs, callbacks and metrics around it are those of `keras.Model.fit`, and so are the numbers. What
cannot be done this way is left to `keras.Model.fit` itself: see `fit`.
"""

import contextlib
import functools
import math
import time
import warnings
from unittest import mock

import keras
import numpy as np

from aelib import layers, likelihoods

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


def fit(model, ordinary, x, y=None, **options):
    """Train `model` as `keras.Model.fit` would, and stop where the loss is no longer finite.

    Arrays are trained on by a compiled loop, on TensorFlow and JAX. Keras's own loop takes over for
    pipelines, `steps_per_epoch`, a `steps_per_execution` of the user's, eager runs, several devices, PyTorch,
    and models that bring their own `train_step`; and, with a warning, for callbacks that act on every batch.

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
    if _is_plain(model) and _are_plain(x, y, options):
        watchers = sorted({type(each).__name__ for each in callbacks if _acts_on_batches(each)})
        if not watchers:
            return _Run(model, (x, y, options.pop("sample_weight", None)), callbacks, **options).fit()
        warnings.warn(
            f"training hands over one batch at a time, which is slower, since {', '.join(watchers)} acts on "
            "every batch; where once an epoch will do, override on_epoch_end instead",
            stacklevel=3,
        )
    return ordinary(x, y, callbacks=[*callbacks, _StopWhereNotFinite()], **options)


def _is_plain(model):
    """Return whether the model trains as Keras does by default: compiled, on one device, by its own steps."""
    own = ("train_step", "test_step", "make_train_function", "make_test_function", "compute_metrics")
    if any(_origin(model, name) != "keras" for name in own):
        return False
    if _origin(model, "evaluate") not in ("keras", "aelib"):
        return False
    if model.run_eagerly or model.steps_per_execution != 1 or not model.trainable_variables:
        return False
    if not isinstance(model.optimizer, keras.optimizers.Optimizer):
        return False
    if keras.config.max_epochs() is not None or keras.config.max_steps_per_epoch() is not None:
        return False
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return model._distribute_strategy is None and not tf.config.functions_run_eagerly()
    return keras.backend.backend() == "jax" and model.jit_compile and not keras.distribution.distribution()


def _origin(model, name):
    """Return the package whose class defines a method, or "" if it was set on the object itself."""
    if name in vars(model):
        return ""
    owner = next(cls for cls in type(model).__mro__ if name in vars(cls))
    return owner.__module__.partition(".")[0]


def _are_plain(x, y, options):
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


def _acts_on_batches(callback):
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


def check_finite(logs, where):
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

    def on_epoch_end(self, epoch, logs=None):
        if not self.model.stop_training:
            check_finite(logs or {}, f"in epoch {epoch + 1}")


class _Run:
    """One call of `fit`: the epochs, callbacks and validation around the compiled loop."""

    def __init__(
        self,
        model,
        training,
        callbacks,
        *,
        batch_size=None,
        epochs=1,
        verbose=0,
        validation_split=0.0,
        validation_data=None,
        shuffle=True,
        initial_epoch=0,
        validation_batch_size=None,
        validation_freq=1,
        **_,
    ):
        if validation_data is not None and not isinstance(validation_data, tuple | list):
            validation_data = (validation_data,)
        if validation_split and validation_data is None:
            at = math.floor(len(training[0]) * (1 - validation_split))
            validation_data = [None if array is None else array[at:] for array in training]
            training = [None if array is None else array[:at] for array in training]
        self.model = model
        self.epochs = range(initial_epoch, epochs)
        self.batch_size = int(batch_size or 32)
        self.shuffle = shuffle
        self.validation_batch_size = int(validation_batch_size or self.batch_size)
        self.validation_freq = validation_freq
        self.steps = math.ceil(len(training[0]) / self.batch_size)
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        xla = _xla_pays(model, steps=self.steps * len(self.epochs), batch_size=self.batch_size)
        self.training = _Data(training)
        self.train_program = _Program(model, "train", self.training, xla=xla)
        self.validation = None
        if validation_data is not None:
            self.validation = _Data(validation_data)
            self.test_program = _Program(model, "test", self.validation, xla=model.jit_compile)
        self.callbacks = keras.callbacks.CallbackList(
            callbacks,
            add_history=True,
            add_progbar=verbose != 0,
            verbose=verbose,
            epochs=epochs,
            steps=self.steps,
            model=model,
        )

    def fit(self):
        """Train, and return the history."""
        model, logs = self.model, None
        model.stop_training = False
        self.callbacks.on_train_begin()
        # `BackupAndRestore` has just told the model where it was interrupted.
        first = model._initial_epoch or self.epochs.start
        for epoch in range(first, self.epochs.stop):
            model.reset_metrics()
            self.callbacks.on_epoch_begin(epoch)
            self._train(epoch)
            logs = _as_numbers(model.get_metrics_result())
            if self.validation is not None and (epoch + 1) % self.validation_freq == 0:
                logs |= {f"val_{name}": value for name, value in self._validate().items()}
            self.callbacks.on_epoch_end(epoch, logs)
            if model.stop_training:
                break
        model.optimizer.finalize_variable_values(model.trainable_weights)
        self.callbacks.on_train_end(logs)
        return model.history

    def _train(self, epoch):
        order = _order(self.training.rows, self.batch_size, self.shuffle)
        for start, stop, part in self.training.parts(order, self.batch_size, self.train_program):
            self.callbacks.on_train_batch_begin(start)
            done, finite = self.train_program(*part)
            logs = _as_numbers(self.model.get_metrics_result())
            self.callbacks.on_train_batch_end(stop - 1, logs)
            if self.model.stop_training:
                break
            if not finite:
                check_finite(logs, f"at step {start + done} of epoch {epoch + 1}")

    def _validate(self):
        self.callbacks.on_test_begin()
        self.model.reset_metrics()
        order = np.arange(self.validation.rows)
        for start, stop, part in self.validation.parts(order, self.validation_batch_size, self.test_program):
            self.callbacks.on_test_batch_begin(start)
            self.test_program(*part)
            self.callbacks.on_test_batch_end(stop - 1)
        logs = _as_numbers(self.model.get_metrics_result())
        self.callbacks.on_test_end(logs)
        return logs


def _as_numbers(logs):
    return {name: float(value) for name, value in logs.items()}


def _order(n, batch_size, shuffle):
    """Return the order in which an epoch takes `n` samples, drawn as Keras draws it for arrays: (n,)."""
    if shuffle == "batch":
        starts = range(0, n, batch_size)
        return np.concatenate([start + np.random.permutation(min(batch_size, n - start)) for start in starts])
    return np.random.permutation(n) if shuffle else np.arange(n)


class _Data:
    """Arrays in reach of a program: on the device whole, or a part at a time where they are too large.

    Parameters
    ----------
    arrays : sequence of ndarray or None
        Inputs, targets and weights of the samples, as far as given.
    """

    def __init__(self, arrays):
        x, y, weight = (*arrays, None, None)[:3]
        # Keras, too, takes no weights without targets.
        self.arrays = (x,) if y is None else (x, y) if weight is None else (x, y, weight)
        self.rows = len(x)
        self.row_bytes = sum({id(array): array[:1].nbytes for array in self.arrays}.values())
        self.resident = None
        if self.rows * self.row_bytes <= RESIDENT_BYTES:
            self.resident = self._placed(lambda array: array)

    def _placed(self, choose):
        """Put what `choose` returns of each array on the device; of one that stands twice, once."""
        placed = {id(array): array for array in self.arrays}
        placed = {key: keras.ops.convert_to_tensor(choose(array)) for key, array in placed.items()}
        return tuple(placed[id(array)] for array in self.arrays)

    def parts(self, order, batch_size, program):
        """Yield (start, stop, arguments of `program`) for the steps of an epoch; the last may be short."""
        full = self.rows // batch_size
        matrix = np.asarray(order[: full * batch_size], "int32").reshape(full, batch_size)
        most = full
        if self.resident is None:
            most = max(1, PART_BYTES // (batch_size * self.row_bytes))
        start = 0
        while start < full:
            stop = min(full, start + most, start + program.steps)
            yield start, stop, self._part(matrix, start, stop, min(most, full))
            start = stop
        if full * batch_size < self.rows:
            rest = np.asarray(order[None, full * batch_size :], "int32")
            yield full, full + 1, self._part(rest, 0, 1, 1)

    def _part(self, matrix, start, stop, most):
        """Return (data, order, first step, end) with the data of these steps of the `matrix`."""
        if self.resident is not None:
            return self.resident, matrix, start, stop
        # Always as many rows, since a program is compiled for the shape of the data.
        wanted = matrix[start:stop].reshape(-1)
        rows = np.zeros(most * matrix.shape[1], "int32")
        rows[: len(wanted)] = wanted
        order = np.arange(len(rows), dtype="int32").reshape(most, -1)
        return self._placed(lambda array: array[rows]), order, 0, stop - start


class _Program:
    """A compiled loop over steps, in calls of about `CALL_SECONDS`.

    Parameters
    ----------
    model : keras.Model
    kind : {"train", "test"}
        Of the steps.
    data : _Data
        The program is compiled for samples like these.
    xla : bool
        Whether TensorFlow is to compile by XLA; JAX always does.
    """

    def __init__(self, model, kind, data, *, xla=False):
        self.model = model
        self.kind = kind
        self.data = data
        self.xla = xla
        self.steps = FIRST_STEPS

    def __call__(self, data, order, start, stop):
        """Take the steps from `start` to `stop`, whose samples stand in these rows of `order`.

        Returns
        -------
        done : int
            How many steps were taken: as many as asked for, or up to the first whose loss was not finite.
        finite : bool
        """
        begun = time.perf_counter()
        # A single step, such as that of a short last batch, is not worth XLA's time.
        loop = _loop(self.model, self.kind, self.data, xla=self.xla and len(order) > 1)
        end, finite = loop(data, order, start, stop)
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
    with _one_generator():
        compiled = compiled.get_concrete_function()

    def loop(data, order, start, stop):
        return compiled(data, tf.constant(order), tf.constant(start), tf.constant(stop))

    return loop


@contextlib.contextmanager
def _one_generator():
    """Draw under XLA what TensorFlow draws without it.

    XLA's own default are other numbers, and on a CPU it takes five to ten times as long to draw them.
    """
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


def _xla_pays(model, *, steps, batch_size):
    """Return whether TensorFlow should compile this run by XLA.

    It takes some seconds to compile. On two cores it then takes a dense net's steps in half the time, a
    convolution's in twice.
    """
    asked = getattr(model.bookkeeping, "jit_compile", "auto")
    if keras.backend.backend() != "tensorflow" or asked is False:
        return False
    if model.jit_compile:  # asked for, or on a GPU
        return True
    if not all(isinstance(layer, XLA_QUICKENS) for layer in model._flatten_layers()):
        return False
    weights = sum(math.prod(variable.shape) for variable in model.trainable_variables)
    seconds = steps * (5e-4 + 6 * weights * batch_size / 1e11)
    return seconds > XLA_REPAYS
