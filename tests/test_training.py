"""The compiled loop trains as Keras's own loop does, and leaves to that what it cannot do."""

import itertools
import math
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import layers, ops

from aelib import Autoencoder, training
from aelib.variational import VariationalAutoencoder

#: 21 samples: five batches of 4 and a short one of 1.
X = np.random.default_rng(0).random((21, 6), dtype="float32")
WEIGHTS = np.linspace(0, 2, len(X), dtype="float32")


def dense(code=2, hidden=(), width=6):
    """An encoder and a decoder, with whatever layers before the code."""
    encoder = keras.Sequential([keras.Input((width,)), *hidden, layers.Dense(code)])
    decoder = keras.Sequential([keras.Input((2,)), layers.Dense(width)])
    return encoder, decoder


def plain():
    return Autoencoder(*dense())


def with_everything():
    hidden = [layers.Dense(5, "relu", kernel_regularizer="l2"), layers.BatchNormalization()]
    return Autoencoder(*dense(hidden=hidden), corrupt=layers.GaussianNoise(0.1, seed=1))


def variational():
    hidden = [layers.Dense(5, "tanh"), layers.Dropout(0.2, seed=2)]
    return VariationalAutoencoder(*dense(4, hidden), warmup=9, seed=3)


def falling_rate():
    rate = keras.optimizers.schedules.CosineDecay(0.01, 10)
    return keras.optimizers.Adam(rate, clipnorm=1.0, use_ema=True, ema_overwrite_frequency=4)


def prepared(build, optimizer=falling_rate, **options):
    keras.utils.set_random_seed(0)
    model = build()
    model.compile(optimizer() if callable(optimizer) else optimizer, **options)
    return model


def state(model):
    """Everything that training changes, in order."""
    return [ops.convert_to_numpy(variable) for variable in model.variables + model.optimizer.variables]


def assert_same(one, other, **tolerance):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, **({"rtol": 1e-4, "atol": 1e-6} | tolerance))


def assert_same_history(one, other):
    assert set(one.history) == set(other.history)
    for name, values in one.history.items():
        assert values == pytest.approx(other.history[name], rel=1e-5, abs=1e-6), name


@pytest.fixture(autouse=True)
def _no_run_is_short(monkeypatch):
    monkeypatch.setattr(training, "FEW_STEPS", 0)


@pytest.fixture
def loops(monkeypatch):
    """Count the runs that the compiled loop makes."""
    made = []
    fit = training._Run.fit
    monkeypatch.setattr(training._Run, "fit", lambda *given: made.append(given) or fit(*given))
    return made


@pytest.fixture
def in_parts(monkeypatch):
    """Let the device hold two steps' data at a time, in calls of one step."""
    monkeypatch.setattr(training, "RESIDENT_BYTES", 0)
    monkeypatch.setattr(training, "PART_BYTES", 2 * 4 * X[:1].nbytes)
    monkeypatch.setattr(training, "CALL_SECONDS", 0.0)
    monkeypatch.setattr(training, "FIRST_STEPS", 1)


class Seen(Autoencoder):
    """Its terms are the mean of the first feature and of its square: known, if every sample comes once."""

    def terms(self, target, out):
        first = out["input"][:, 0]
        return super().terms(target, out) | {"first": first, "square": ops.square(first)}


# The same as Keras's own loop


@pytest.mark.parametrize(
    ("build", "options"),
    [
        (with_everything, {"sample_weight": WEIGHTS, "validation_data": (X[:7], X[:7], WEIGHTS[:7])}),
        (variational, {"validation_split": 0.3, "validation_freq": 2, "validation_batch_size": 2}),
    ],
)
def test_the_numbers_are_those_of_kerass_own_loop(loops, build, options):
    options = {"batch_size": 4, "epochs": 2, "shuffle": False, "verbose": 0} | options
    quick, ordinary = prepared(build), prepared(build)
    history = quick.fit(X, **options)
    assert len(loops) == 1
    y = X if "sample_weight" in options else None
    assert_same_history(history, keras.Model.fit(ordinary, X, y, **options))
    assert_same(state(quick), state(ordinary))
    assert int(quick.optimizer.iterations) == 2 * math.ceil((21 if y is not None else 14) / 4)


def test_mixed_precision_and_bytes(loops):
    def build():
        keras.config.set_dtype_policy("mixed_float16")
        try:
            return plain()
        finally:
            keras.config.set_dtype_policy("float32")

    bits = (X > 0.5).astype("uint8")
    quick, ordinary = prepared(build, "adam"), prepared(build, "adam")
    options = {"batch_size": 4, "epochs": 2, "shuffle": False, "verbose": 0}
    assert_same_history(quick.fit(bits, **options), keras.Model.fit(ordinary, bits, **options))
    assert_same(state(quick), state(ordinary))
    assert len(loops) == 1
    assert type(quick.optimizer).__name__ == "LossScaleOptimizer"


def test_jax_loops_over_convolutions_on_an_accelerator_only(monkeypatch):
    """On two cores a loop of theirs took five times as long as Keras's steps."""
    jax = pytest.importorskip("jax")
    convolution = [layers.Reshape((6, 1)), layers.Conv1D(2, 3), layers.Flatten()]
    nets = [
        prepared(build, jit_compile=True)
        for build in (plain, lambda: Autoencoder(*dense(hidden=convolution)))
    ]
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    for device, loops in (("cpu", [True, False]), ("gpu", [True, True])):
        monkeypatch.setattr(jax, "default_backend", lambda device=device: device)
        assert [training._can_loop(net) for net in nets] == loops


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="JAX always compiles by XLA")
def test_xla_is_used_where_it_pays():
    assert not training._xla_pays(prepared(plain), steps=10, batch_size=4)
    assert training._xla_pays(prepared(plain), steps=10**6, batch_size=4)
    assert training._xla_pays(prepared(plain, jit_compile=True), steps=1, batch_size=4)
    convolution = [layers.Reshape((6, 1)), layers.Conv1D(2, 3), layers.Flatten()]
    assert not training._xla_pays(
        prepared(lambda: Autoencoder(*dense(hidden=convolution))), steps=10**6, batch_size=4
    )


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="JAX always compiles by XLA")
@pytest.mark.parametrize("build", [plain, variational])
def test_xla_gives_the_same_numbers_but_for_those_that_are_drawn(build, monkeypatch):
    def trained():
        model = prepared(build)
        model.fit(X, batch_size=4, shuffle=False, verbose=0)
        return state(model)

    plainly, asked = trained(), []
    loop = training._tensorflow_loop
    monkeypatch.setattr(training, "_tensorflow_loop", lambda *given: asked.append(given[-1]) or loop(*given))
    monkeypatch.setattr(training, "XLA_REPAYS", 0.0)
    by_xla = trained()
    assert asked == [True, False]  # the last is for the short batch
    assert_same(by_xla, plainly if build is plain else trained())


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="JAX always compiles by XLA")
def test_what_xla_cannot_compile_is_compiled_without(monkeypatch):
    class Gamma(Autoencoder):
        def terms(self, target, out):
            draw = keras.random.gamma((2,), 1.0, seed=1)
            return super().terms(target, out) | {"draw": ops.sum(draw)}

    monkeypatch.setattr(training, "XLA_REPAYS", 0.0)
    history = prepared(lambda: Gamma(*dense())).fit(X, batch_size=4, epochs=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    with pytest.raises(Exception, match=r"(?i)xla|compile|unsupported"):
        prepared(lambda: Gamma(*dense()), jit_compile=True).fit(X, batch_size=4, verbose=0)


@pytest.mark.parametrize("shuffle", [False, True, "batch"])
def test_every_sample_is_seen_once_an_epoch(loops, shuffle):
    model = prepared(lambda: Seen(*dense()))
    history = model.fit(X, batch_size=4, epochs=2, shuffle=shuffle, verbose=0).history
    assert history["first"] == pytest.approx([X[:, 0].mean()] * 2, rel=1e-5)
    assert history["square"] == pytest.approx([np.square(X[:, 0]).mean()] * 2, rel=1e-5)
    assert len(loops) == 1


def test_the_order_changes_with_the_epoch_and_not_with_the_run():
    keras.utils.set_random_seed(1)
    first = [training._order(9, 4, True) for _ in range(2)]
    assert sorted(first[0]) == sorted(first[1]) == list(range(9))
    assert (first[0] != first[1]).any()
    keras.utils.set_random_seed(1)
    np.testing.assert_array_equal(training._order(9, 4, True), first[0])
    within = training._order(9, 4, "batch")
    assert [sorted(within[i : i + 4]) for i in (0, 4, 8)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8]]


def test_a_memory_map_in_parts_trains_as_the_array_at_once(loops, in_parts, monkeypatch, tmp_path):
    np.save(tmp_path / "x.npy", X)
    on_disk = np.load(tmp_path / "x.npy", mmap_mode="r")
    places = []
    convert = keras.ops.convert_to_tensor

    def noted(array, *given, **named):
        if isinstance(array, np.ndarray) and array.ndim == 2:
            places.append(len(array))
        return convert(array, *given, **named)

    options = {"batch_size": 4, "epochs": 2, "verbose": 0, "validation_split": 0.3}
    in_pieces = prepared(with_everything)
    with monkeypatch.context() as patch:
        patch.setattr(keras.ops, "convert_to_tensor", noted)
        history = in_pieces.fit(on_disk, **options)
    assert len(loops) == 1
    assert max(places) == 8
    monkeypatch.setattr(training, "RESIDENT_BYTES", 2**31)
    at_once = prepared(with_everything)
    assert_same_history(history, at_once.fit(X, **options))
    assert_same(state(in_pieces), state(at_once))


# Around the loop


def test_early_stopping_and_a_falling_rate_act_as_in_kerass_own_loop(loops):
    def callbacks():
        return [
            keras.callbacks.EarlyStopping("val_loss", patience=2, restore_best_weights=True),
            keras.callbacks.ReduceLROnPlateau("val_loss", patience=1, factor=0.5),
            keras.callbacks.TerminateOnNaN(),
        ]

    # The other half of the data is their opposite, so that validation gets worse before long.
    options = {"batch_size": 4, "epochs": 30, "shuffle": False, "verbose": 0}
    options["validation_data"] = (X, 1 - X)
    quick, ordinary = (prepared(plain, keras.optimizers.Adam(0.05)) for _ in range(2))
    one = quick.fit(X, callbacks=callbacks(), **options)
    other = keras.Model.fit(ordinary, X, callbacks=callbacks(), **options)
    assert 2 < len(one.epoch) < 30
    assert one.epoch == other.epoch
    assert_same_history(one, other)
    assert_same(state(quick), state(ordinary))
    assert len(loops) == 1


def test_a_run_that_is_resumed_ends_as_one_without_a_break(tmp_path):
    options = {"batch_size": 4, "shuffle": False, "verbose": 0}
    whole, first = prepared(plain), prepared(plain)
    expected = whole.fit(X, epochs=4, **options)
    first.fit(X, epochs=2, **options)
    first.save(tmp_path / "model.keras")
    resumed = keras.saving.load_model(tmp_path / "model.keras")
    history = resumed.fit(X, initial_epoch=2, epochs=4, **options)
    assert history.epoch == [2, 3]
    assert history.history["loss"] == pytest.approx(expected.history["loss"][2:], rel=1e-5)
    assert_same(state(resumed), state(whole))


def test_a_backup_goes_on_where_it_was_interrupted(tmp_path):
    class Interrupt(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    def run(*more):
        model = prepared(plain)
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup", delete_checkpoint=False)
        return model.fit(X, batch_size=4, epochs=4, verbose=0, callbacks=[backup, *more])

    with pytest.raises(KeyboardInterrupt):
        run(Interrupt())
    assert run().epoch == [2, 3]


def test_a_model_that_is_compiled_anew_is_trained_as_compiled():
    model = prepared(plain)
    model.fit(X, batch_size=4, verbose=0)
    model.encoder.trainable = False
    model.compile("sgd")
    encoder, decoder = (part.get_weights() for part in (model.encoder, model.decoder))
    model.fit(X, batch_size=4, verbose=0)
    assert_same(model.encoder.get_weights(), encoder, rtol=0, atol=0)
    assert not np.array_equal(model.decoder.get_weights()[0], decoder[0])
    assert int(model.optimizer.iterations) == 6


def test_calls_are_of_about_a_second(monkeypatch):
    clock = itertools.count(0.0, 0.5)  # every call takes half a second
    monkeypatch.setattr(training, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    program = training._Program(prepared(plain), "train", training._Data((X,)))
    taken = []
    for _ in range(2):
        for start, stop, call in program.calls(np.arange(len(X)), 1):
            assert call() == (stop - start, True)
            taken.append(stop - start)
    assert taken == [16, 5, 10, 11]


def test_the_bar_of_keras_counts_steps(capsys):
    prepared(plain).fit(X, batch_size=4, epochs=1, verbose=1)
    assert "6/6" in capsys.readouterr().out


# Left to Keras's own loop


class Watcher(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.batches = []

    def on_train_batch_end(self, batch, logs=None):
        self.batches.append(batch)


def test_a_callback_for_batches_hears_of_every_one_and_of_the_same_samples(loops):
    watcher, quick, watched = Watcher(), prepared(plain), prepared(plain)
    with pytest.warns(UserWarning, match=r"slower, since Watcher acts on every batch.*on_epoch_end"):
        history = watched.fit(X, X, batch_size=4, epochs=2, verbose=0, callbacks=[watcher])
    keras.utils.set_random_seed(0)
    assert watcher.batches == 2 * [0, 1, 2, 3, 4, 5]
    assert not loops
    assert_same_history(history, quick.fit(X, X, batch_size=4, epochs=2, verbose=0))
    assert_same(state(watched), state(quick))


def test_which_callbacks_act_on_batches(tmp_path):
    path = str(tmp_path / "weights.weights.h5")
    checkpoint = {"filepath": path, "save_weights_only": True}
    tqdm = pytest.importorskip("tqdm.keras")
    once = [
        keras.callbacks.EarlyStopping(),
        keras.callbacks.CSVLogger(path),
        keras.callbacks.LearningRateScheduler(lambda epoch: 0.1),
        keras.callbacks.LambdaCallback(on_epoch_end=print),
        keras.callbacks.ModelCheckpoint(**checkpoint),
        keras.callbacks.BackupAndRestore(path),
        keras.callbacks.TerminateOnNaN(),
        keras.callbacks.ProgbarLogger(),
        tqdm.TqdmCallback(verbose=0),
    ]
    assert not [callback for callback in once if training._acts_on_batches(callback)]
    always = [
        keras.callbacks.LambdaCallback(on_train_batch_end=print),
        keras.callbacks.ModelCheckpoint(save_freq=3, **checkpoint),
        keras.callbacks.BackupAndRestore(path, save_freq=3),
        Watcher(),
    ]
    assert all(training._acts_on_batches(callback) for callback in always)


class OwnStep(Autoencoder):
    def train_step(self, *given):
        return super().train_step(*given)


@pytest.mark.parametrize(
    ("build", "compiled", "options"),
    [
        (plain, {}, {"steps_per_epoch": 3}),
        (plain, {}, {"class_weight": {0: 1.0}}),
        (plain, {}, {"validation_data": iter([X])}),
        (plain, {}, {"validation_data": (X, X), "validation_steps": 1}),
        (plain, {}, {"validation_split": 0.99}),
        (plain, {}, {"x": (row[None] for row in X)}),
        (plain, {"run_eagerly": True}, {}),
        (plain, {"steps_per_execution": 2}, {}),
        (lambda: OwnStep(*dense()), {}, {}),
    ],
)
def test_what_the_loop_cannot_do_is_left_to_keras_without_a_word(recwarn, loops, build, compiled, options):
    calls = []
    model = prepared(build, **compiled)
    training.fit(model, lambda *given, **named: calls.append(named), **({"x": X} | options))
    assert len(calls) == 1
    assert not loops
    assert not [warning for warning in recwarn if "slower" in str(warning.message)]


def test_a_step_that_is_set_on_the_model_itself_is_left_to_keras(loops):
    calls, model = [], prepared(plain)
    model.train_step = lambda data: {"loss": 0.0}
    training.fit(model, lambda *given, **named: calls.append(named), X)
    assert len(calls) == 1
    assert not loops


# A loss that is no longer finite


def too_large():
    """The eleventh sample's squared error overflows: the third step of a batch of 4."""
    x = X.copy()
    x[10] = 1e30
    return x


def gaussian():
    return Autoencoder(*dense(), likelihood="gaussian")


def test_a_loss_that_is_not_finite_stops_the_run_at_its_step(loops):
    model = prepared(gaussian, "sgd")
    wanted = r"finite at step 3 of epoch 1: 'reconstruction' is inf.*learning rate, clip"
    with pytest.raises(FloatingPointError, match=wanted):
        model.fit(too_large(), batch_size=4, epochs=3, shuffle=False, verbose=0)
    assert int(model.optimizer.iterations) == 3
    assert len(loops) == 1


def test_kerass_own_loop_stops_after_the_epoch(loops):
    model = prepared(gaussian, "sgd", steps_per_execution=2)
    with pytest.raises(FloatingPointError, match=r"finite in epoch 1: 'reconstruction' is (inf|nan)"):
        model.fit(too_large(), batch_size=4, epochs=3, shuffle=False, verbose=0)
    assert int(model.optimizer.iterations) == 6
    assert not loops


def test_who_asks_keras_to_terminate_gets_no_error(loops, capsys):
    model = prepared(gaussian, "sgd")
    callbacks = [keras.callbacks.TerminateOnNaN()]
    history = model.fit(too_large(), batch_size=4, epochs=3, shuffle=False, verbose=0, callbacks=callbacks)
    assert history.epoch == [0]
    assert int(model.optimizer.iterations) == 3
    assert len(loops) == 1


def test_only_the_loss_and_its_terms_have_to_be_finite():
    training.check_finite({"loss": 1.0, "val_loss": math.inf}, "now")
    with pytest.raises(FloatingPointError, match="finite now: the sum of its terms overflows"):
        training.check_finite({"loss": math.inf, "reconstruction": 1.0}, "now")
