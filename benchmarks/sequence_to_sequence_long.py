"""Train the nets of `types/sequence_to_sequence` to their plateau, three seeds a row.

    KERAS_BACKEND=jax python benchmarks/sequence_to_sequence_long.py --workers 4

Four tasks, each with one fixed frame and one thing changed a row. **beats**: the normal beats of ECG5000,
split as in the chapter, a code of 8; the ideas of the chapter one by one, with 140 steps of one sample or 14
of ten, and rivals that read a beat whole. **waves** (10 to 40 steps, codes of 8 and of 4) and **pulses** (a
code of 4): made up, 8,000 for training; encoder or decoder changed. **vowels**: the utterances of nine
speakers, 7 to 29 steps of 12 features, a code of 8; the epoch with the lowest validation error is kept, and a
linear probe reads the speaker from the code. Padding is NaN; every encoder skips it, and no loss counts it.

A step of nets this small is many short operations one after the other, for which a GPU gains a factor of a
few only; several workers fill its gaps. Seconds are wall seconds of training, compilation included, beside
the other workers. Every finished run is stored, the first seed of every row first, and a second start goes
on after it: ``benchmarks/results/sequence_to_sequence_long.json``.
"""

import argparse
import functools
import json
import math
import multiprocessing
import os
import re
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the workers share the memory

import keras
import numpy as np
from keras import layers, ops

import aelib
from aelib import blocks, likelihoods, metrics
from aelib.book import ledger
from aelib.files import write_atomically

FILL = -9.0  # what the encoders see in place of NaN
UNITS, LONGEST, SEEDS = 64, 40, (0, 1, 2)
RATE, CLIP, CONSTANT = 5e-3, 10.0, 1e-3


# ------------------------------------------------------------------------------------------------- the data
@functools.cache
def beats():
    """Return the normal beats of ECG5000, 2,000 + 400 + 519, as the chapter splits them."""
    ecg = aelib.load("ecg5000")
    parts = ((ecg.x_train, ecg.y_train), (ecg.x_val, ecg.y_val), (ecg.x_test, ecg.y_test))
    x = np.concatenate([x[y == 0] for x, y in parts])[..., None]
    x = x[np.random.default_rng(0).permutation(len(x))]
    first, second = len(x) * 2000 // 2919, len(x) * 2400 // 2919
    return x[:first], x[first:second], x[second:]


def ended(x, length):
    """Put NaN after the end of each sequence: (n, J) -> (n, J, 1)."""
    return np.where(np.arange(x.shape[1]) < length, x, np.nan)[..., None].astype("float32")


def waves(n, seed):
    """Return waves of 10 to 40 steps, random in amplitude, period, phase and drift of the period."""
    rng = np.random.default_rng(seed)
    length = rng.integers(10, LONGEST + 1, (n, 1))
    amplitude, period, phase, drift = (
        rng.uniform(low, high, (n, 1)) for low, high in ((0.5, 1.5), (12, 30), (0, 2 * np.pi), (-0.5, 0.5))
    )
    j = np.arange(LONGEST)
    x = amplitude * np.sin(phase + 2 * np.pi * (j / period + drift * (j / LONGEST) ** 2))
    return ended(x, length)


def pulses(n, seed):
    """Return sequences of 10 to 40 steps with one pulse each, random in place, width and height."""
    rng = np.random.default_rng(seed)
    length = rng.integers(10, LONGEST + 1, (n, 1))
    height, width, share = (rng.uniform(low, high, (n, 1)) for low, high in ((0.5, 1.5), (1, 3), (0, 1)))
    j = np.arange(LONGEST)
    return ended(height * np.exp(-0.5 * ((j - share * (length - 1)) / width) ** 2), length)


@functools.cache
def vowels():
    """Return the utterances with every feature standardised, and their speakers."""
    data = aelib.load("japanese_vowels")
    mean, sd = (f(data.x_train, axis=(0, 1)) for f in (np.nanmean, np.nanstd))
    parts = [((x - mean) / sd).astype("float32") for x in (data.x_train, data.x_val, data.x_test)]
    return parts, (data.y_train, data.y_val, data.y_test)


# ------------------------------------------------------------------------------------------------- the parts
class Clock(layers.Layer):
    """Adds the time to every step, as sines and cosines: (B, J, K) -> (B, J, K + 2 bands)."""

    def __init__(self, bands=4, **kwargs):
        super().__init__(**kwargs)
        self.bands = bands

    def build(self, shape):
        """Make the table."""
        angle = np.pi * np.arange(shape[1])[:, None] / shape[1] * 2.0 ** np.arange(self.bands)
        self.time = np.concatenate([np.sin(angle), np.cos(angle)], axis=1).astype("float32")

    def call(self, x):
        """Return the steps, each with its time."""
        return ops.concatenate([x, self.time + ops.zeros_like(x[..., :1])], axis=-1)


class Real(layers.Layer):
    """Tells real steps from padding: (B, J, K) -> (B, J), 1 or 0."""

    def call(self, x):
        """Return 1 for every step that is not all fill."""
        return ops.cast(ops.any(ops.not_equal(x, FILL), axis=-1), "float32")


class AsMask(layers.Layer):
    """Turns the numbers of `Real` into booleans, for recurrent layers."""

    def call(self, real):
        """Return real > 0.5."""
        return ops.greater(real, 0.5)


class MeanOverReal(layers.Layer):
    """Takes the mean over real steps: (B, J, K), (B, J) -> (B, K)."""

    def call(self, h, real):
        """Return the mean."""
        return ops.sum(h * real[..., None], axis=1) / ops.sum(real, axis=1, keepdims=True)


class Attention(layers.Layer):
    """Lets real steps look at real steps, one head, and adds what they find: (B, J, K) -> (B, J, K)."""

    def build(self, shape):
        """Make the four maps."""
        self.maps = [layers.Dense(shape[-1], use_bias=False) for _ in range(4)]
        for one in self.maps:
            one.build(shape)

    def call(self, h, real):
        """Return the sums."""
        asked, offered, value = (one(h) for one in self.maps[:3])
        scores = ops.matmul(asked, ops.transpose(offered, (0, 2, 1))) / math.sqrt(h.shape[-1])
        scores = scores - 1e9 * (1 - real[:, None, :])
        return h + self.maps[3](ops.matmul(ops.softmax(scores), value))


def read(kind, shape, code):
    """Build an encoder for sequences with an end: (B, J, K) -> (B, code). All are told the time."""
    x = keras.Input(shape)
    real = Real()(x)
    clean = layers.Multiply()([x, layers.Reshape((shape[0], 1))(real)])
    h = Clock(5)(clean)
    if kind in ("lstm", "gru"):
        cell = {"lstm": layers.LSTM, "gru": layers.GRU}[kind]
        h = cell(UNITS, use_cudnn=False)(h, mask=AsMask()(real))
    elif kind == "convolution":
        for _ in range(3):  # each layer's output after the end is set to 0, as its padding is
            h = layers.Conv1D(UNITS, 5, padding="same", activation="silu")(h)
            h = layers.Multiply()([h, layers.Reshape((shape[0], 1))(real)])
        h = MeanOverReal()(h, real)
    elif kind == "attention":
        h = layers.Dense(UNITS)(h)
        for _ in range(2):
            h = Attention()(h, real)
            h = h + layers.Dense(UNITS)(layers.Dense(2 * UNITS, "silu")(layers.LayerNormalization()(h)))
        h = MeanOverReal()(h, real)
    elif kind == "steps":  # a dense net a step, and the mean: no step sees another
        for _ in range(2):
            h = layers.Dense(2 * UNITS, "silu")(h)
        h = MeanOverReal()(h, real)
    return keras.Model(x, layers.Dense(code, name="code")(h), name="encoder")


def write(kind, shape, code):
    """Build a decoder that is told the time: (B, code) -> (B, J, K)."""
    stack = [layers.Input((code,)), layers.RepeatVector(shape[0]), Clock(5)]
    if kind == "steps":
        stack += [layers.Dense(2 * UNITS, "silu") for _ in range(3)]
    else:
        cell = {"lstm": layers.LSTM, "gru": layers.GRU}[kind]
        stack += [cell(UNITS, return_sequences=True, use_cudnn=False)]
    return keras.Sequential([*stack, layers.Dense(shape[1], name="raw")], name="decoder")


class Chrono(keras.initializers.Initializer):
    """Biases of an LSTM whose keep gates remember for 1 to T steps (Tallec and Ollivier, 2018)."""

    def __init__(self, steps, seed=0):
        self.steps, self.seed = steps, seed

    def __call__(self, shape, dtype=None):
        """Return the biases, in Keras's order: write, keep, new, show."""
        units = shape[0] // 4
        keep = np.log(np.random.default_rng(self.seed).uniform(1, self.steps - 1, units))
        return ops.convert_to_tensor(np.concatenate([-keep, keep, np.zeros(2 * units)]), dtype or "float32")


def beat_net(seed, *, cell="lstm", patch=10, both_ways=False, clock=False, chrono=False, reader="last"):
    """Build the chapter's recurrent autoencoder of a beat; `patch=1` and no extras: the usual recipe."""
    steps = 140 // patch
    make = {"lstm": layers.LSTM, "gru": layers.GRU}[cell]
    bias = {"bias_initializer": Chrono(steps, seed), "unit_forget_bias": False} if chrono else {}
    x = keras.Input((140, 1))
    h = layers.Reshape((steps, patch))(x)
    if reader == "attention":
        real = Real()(h)
        h = layers.Dense(UNITS)(Clock()(h))
        for _ in range(2):
            h = Attention()(h, real)
            h = h + layers.Dense(UNITS)(layers.Dense(2 * UNITS, "silu")(layers.LayerNormalization()(h)))
        h = layers.GlobalAveragePooling1D()(h)
    else:
        cells = make(UNITS, return_sequences=reader == "mean", use_cudnn=False, **bias)
        h = (layers.Bidirectional(cells) if both_ways else cells)(h)
        h = layers.GlobalAveragePooling1D()(h) if reader == "mean" else h
    encoder = keras.Model(x, layers.Dense(8, name="code")(h), name="encoder")
    stack = [layers.Input((8,)), layers.RepeatVector(steps), *([Clock()] if clock else [])]
    stack += [make(UNITS, return_sequences=True, use_cudnn=False, **bias), layers.Dense(patch, name="raw")]
    return encoder, keras.Sequential([*stack, layers.Reshape((140, 1))], name="decoder")


def fixed_net(kind):
    """Build the rivals of a beat that read it whole."""
    if kind == "dense":
        options = {"activation": "silu"}
        encoder = blocks.dense_encoder((140, 1), 8, hidden=(128, 64), **options)
        return encoder, blocks.dense_decoder((140, 1), 8, hidden=(64, 128), **options)
    options = {"kernel": 7, "activation": "silu"}
    encoder = blocks.conv_encoder((140, 1), 8, filters=(32, 64, 64), **options)
    return encoder, blocks.conv_decoder((140, 1), 8, filters=(64, 64, 32), **options)


# ------------------------------------------------------------------------------------------------- the rows
BOTH = {"both_ways": True, "clock": True}
SHORT = {  # 40 epochs, as the chapter trains the usual recipe: what each idea gains
    "14 steps": ({}, {}),
    "14 steps, constant rate": ({}, {"falling": False}),
    "14 steps, no clipping": ({}, {"clip": None}),
    "14 steps, constant rate, no clipping": ({}, {"falling": False, "clip": None}),
    "14 steps, reversed": ({}, {"backwards": True}),
    "14 steps, both ways": ({"both_ways": True}, {}),
    "14 steps, clock": ({"clock": True}, {}),
    "14 steps, both ways, clock": (BOTH, {}),
    "140 steps": ({"patch": 1}, {}),
    "140 steps, clock": ({"patch": 1, "clock": True}, {}),
    "140 steps, clock, chrono": ({"patch": 1, "clock": True, "chrono": True}, {}),
    "140 steps, clock, mean state": ({"patch": 1, "clock": True, "reader": "mean"}, {}),
    "140 steps, constant rate, no clipping": ({"patch": 1}, {"falling": False, "clip": None}),
}
LONG = {  # to the plateau
    "LSTM": BOTH,
    "GRU": BOTH | {"cell": "gru"},
    "attention": {"reader": "attention", "clock": True},
    "convolution": "convolution",
    "dense": "dense",
}
MADE = [("waves", 8), ("waves", 4), ("pulses", 4)]
READERS = ("gru", "lstm", "convolution", "attention", "steps")
EPOCHS = {"beats short": 40, "beats": 300, "made": 150, "vowels": 300}
BATCH = {"beats short": 64, "beats": 128, "made": 256, "vowels": 32}


def rows():
    """Return the runs, most important first: (task, row, code, seed, times, rate)."""
    made = [(task, f"{reader} + steps", code) for task, code in MADE for reader in READERS[:4]]
    voices = [("vowels", f"{reader} + steps", 8) for reader in READERS]
    tall = [("beats", row, 8) for row in LONG]
    low = [("beats short", row, 8) for row in SHORT if row.startswith("14 ")]
    slow = [("beats short", row, 8) for row in SHORT if row.startswith("140")]
    recurrent = [("vowels", "gru + gru", 8), ("waves", "gru + gru", 8), ("waves", "gru + gru", 4)]
    first = [*voices, *tall, *made, *low, *recurrent]
    plain = [(*row, seed, 0.2, None) for row in [*voices, recurrent[0]] for seed in SEEDS]
    plain += [(*row, 0, 1, None) for row in first]
    plain.append(("beats short", "14 steps, constant rate", 8, 0, 1, RATE))
    plain += [(*row, 0, 1, None) for row in slow]
    plain += [(*row, seed, 1, None) for seed in SEEDS[1:] for row in [*voices, *tall, *made, *recurrent]]
    double = [("vowels", "gru + steps", 8), ("beats", "LSTM", 8), ("waves", "gru + steps", 4)]
    double += [("waves", "convolution + steps", 4), ("waves", "convolution + steps", 8)]
    plain += [(*row, 0, 2, None) for row in double]
    rates = [("vowels", "gru + steps", 8), ("waves", "convolution + steps", 8), ("waves", "gru + steps", 8)]
    plain += [(*row, 0, 1, rate) for row in rates for rate in (RATE / 2.5, RATE * 2.5)]
    plain += [(*row, seed, 1, None) for seed in SEEDS[1:] for row in low]
    return plain + [(*row, seed, 1, None) for seed in SEEDS[1:] for row in slow]


def family(task):
    """Return which settings a task takes."""
    return "made" if task in ("waves", "pulses") else task


def execute(job):
    """Train one net, and return what is stored of it."""
    (task, row, code, seed, times, rate), trial = job
    keras.utils.set_random_seed(seed)
    options, labels = {}, None
    if task.startswith("beats"):
        x_train, x_val, x_test = beats()
        if task == "beats":
            parts = fixed_net(LONG[row]) if isinstance(LONG[row], str) else beat_net(seed, **LONG[row])
        else:
            shape, options = SHORT[row]
            parts = beat_net(seed, **shape)
        likelihood = likelihoods.get("gaussian")
    else:
        if task == "vowels":
            (x_train, x_val, x_test), labels = vowels()
        else:
            make = {"waves": waves, "pulses": pulses}[task]
            x_train, x_val, x_test = (make(n, k) for n, k in ((8000, 1), (1000, 2), (1000, 3)))
        reader, writer = row.split(" + ")
        parts = read(reader, x_train.shape[1:], code), write(writer, x_train.shape[1:], code)
        likelihood = likelihoods.Masked("gaussian", fill=FILL, steps=True)
    if trial:
        x_train = x_train[:40]
    net = aelib.Autoencoder(*parts, likelihood=likelihood)
    epochs = 2 if trial else round(times * EPOCHS[family(task)])
    batch = BATCH[family(task)]
    rate = rate or (RATE if options.get("falling", True) else CONSTANT)
    # The rivals without recurrence take smaller steps, as in the chapter.
    rate = rate / 2.5 if task == "beats" and row in ("convolution", "dense", "attention") else rate
    steps = epochs * math.ceil(len(x_train) / batch)
    schedule = keras.optimizers.schedules.CosineDecay(rate, steps) if options.get("falling", True) else rate
    optimizer = keras.optimizers.Adam(schedule, global_clipnorm=options.get("clip", CLIP))
    net.compile(optimizer, **({} if keras.backend.backend() == "jax" else {"jit_compile": False}))
    callbacks = []
    if task == "vowels":  # 243 utterances: nets learn them by heart
        callbacks = [keras.callbacks.EarlyStopping("val_loss", patience=10**6, restore_best_weights=True)]
    targets = (x_train[:, ::-1].copy(), x_val[:, ::-1].copy()) if options.get("backwards") else (None, None)
    held_out = (x_val,) if targets[1] is None else (x_val, targets[1])
    untrained = probe(net, (x_train, x_val, x_test), labels) if labels and not trial else None
    begun = time.perf_counter()
    history = net.fit(
        x_train,
        targets[0],
        epochs=epochs,
        batch_size=batch,
        validation_data=held_out,
        validation_batch_size=512,
        callbacks=callbacks,
        verbose=0,
    ).history
    seconds = time.perf_counter() - begun

    def error(x, codes=None):
        answer = net.decode(net.encode(x) if codes is None else codes)
        answer = answer[:, ::-1] if options.get("backwards") else answer
        return metrics.mse(np.nan_to_num(x), answer, mask=~np.isnan(x))

    per = np.mean(np.sum(~np.isnan(x_val), axis=(1, 2)))  # numbers a sequence: the loss is summed over them
    marks = np.unique(np.linspace(0, epochs - 1, 26).astype(int))
    run = {"task": task, "row": row, "code": code, "seed": seed, "epochs": epochs, "rate": rate}
    run["device"] = ledger.device()
    run |= {"parameters": net.count_params(), "validation": error(x_val), "test": error(x_test)}
    run |= {"training": error(x_train), "swapped": error(x_val, np.roll(net.encode(x_val), 1, axis=0))}
    run["best epoch"] = 1 + int(np.argmin(history["val_loss"]))
    run["curve"] = [[int(m) + 1, float(history["val_loss"][m] / per)] for m in marks]
    if labels and not trial:
        run |= {"speaker": probe(net, (x_train, x_val, x_test), labels), "speaker, untrained": untrained}
    return {"key": key(job), **run, "seconds": round(seconds, 1)}


def attempt(job):
    """Execute a job; what fails is printed and left to the next start, and the others go on."""
    try:
        return execute(job)
    except Exception as error:
        print(f"{key(job)} failed: {error!r}", flush=True)
        return None


def probe(net, parts, labels):
    """Return the share of test speakers that a linear probe reads from the codes."""
    codes = [net.encode(x) for x in parts]
    pairs = zip(codes, labels, strict=True)
    return metrics.linear_probe(*pairs, penalties=(1e-1, 1e-2, 1e-3, 1e-4), max_iter=300)


def key(job):
    """Return the name of a run."""
    return json.dumps(job[0])


def main():
    """Run what is not stored yet, and store it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trial", action="store_true", help="two epochs of 40 sequences, one seed")
    parser.add_argument(
        "--workers", type=int, default=None, help="processes side by side; by default 4 on a GPU, else 1"
    )
    parser.add_argument("--only", default="", help="a pattern for '<task> <row> <seed> x<times>' of runs")
    out = Path(__file__).parent / "results" / "sequence_to_sequence_long.json"
    parser.add_argument("--out", type=Path, default=out)
    args = parser.parse_args()
    args.workers = args.workers or (4 if "GPU" in ledger.device() else 1)
    stored = {
        "what": "recurrent, convolutional and attention autoencoders of sequences",
        "epochs": EPOCHS,
        "batch": BATCH,
        "trial": args.trial,
        "workers": args.workers,
        "device": ledger.device(),
        "runs": [],
    }
    if args.out.is_file():
        before = json.loads(args.out.read_text("utf-8"))
        stored["runs"] = [{"device": before["device"], **run} for run in before["runs"]]
    done = {run["key"] for run in stored["runs"]}
    jobs = [
        (row, args.trial) for row in rows() if not (args.trial and (row[3], row[4], row[5]) != (0, 1, None))
    ]
    named = {key(job): "{} {} {} x{}".format(*(job[0][i] for i in (0, 1, 3, 4))) for job in jobs}
    jobs = [job for job in jobs if key(job) not in done and re.search(args.only, named[key(job)])]
    pool = multiprocessing.get_context("spawn").Pool(args.workers) if args.workers > 1 else None
    begun = time.perf_counter()
    for run in pool.imap_unordered(attempt, jobs) if pool else map(attempt, jobs):
        if run is None:
            continue
        stored["runs"].append(run)
        args.out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(args.out, json.dumps(stored, indent=1, ensure_ascii=False) + "\n")
        keras.backend.clear_session()
        shown = [run[k] for k in ("task", "row", "code", "seed", "epochs", "validation", "test", "swapped")]
        print(round(time.perf_counter() - begun), *shown, run.get("speaker"), run["seconds"], flush=True)


if __name__ == "__main__":
    main()
