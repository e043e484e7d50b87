"""Train what the deep chapter needs and a notebook has no time for; every finished run is stored.

    AELIB_DATA_DIR=... python benchmarks/deep_long.py

Three parts, in ``benchmarks/results/deep_long.json``, which ``book/types/deep.ipynb`` reads:

``objectives`` is the autoencoder of 2006, 784-1000-500-250-30, on MNIST without any augmentation, trained on
the cross-entropy as its authors' released code does, by the notebook's recipe and at three learning rates, of
which the notebook takes the best; cross-entropy and squared error are measured.

``depth`` is Fashion-MNIST with codes of 32: one to four hidden layers on each side at (nearly) equal numbers
of parameters, for the budgets of 784-128-64-32 and of 784-512-256-32. Every layer narrows by the same factor
down to the code. The learning rate is chosen for each depth and budget on validation images by runs of three
epochs, on a grid that grows until the best rate is inside. Then three seeds of 15 epochs. Where one of them
collapses at that rate, it is noted, and all three get half of it.

``augmented`` is the net of 2006 with digits shifted by at most one pixel, for 60 epochs, on the squared
error. An interrupted run goes on after the last whole epoch.

On one core: about 15, 30 and 12 minutes of processor time.
"""

import argparse
import itertools
import json
import math
import os
import time
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops

import aelib
from aelib import metrics
from aelib.book import ledger
from aelib.files import write_atomically

ROOT = Path(__file__).resolve().parent.parent
STATE = ROOT / "_build" / "deep_long"
RESULT = ROOT / "benchmarks" / "results" / "deep_long.json"
SHAPE = (28, 28, 1)
FAMOUS = (1000, 500, 250)
#: The augmented run.
SEED, BATCH, RATE = 0, 250, 1e-3
LAID_OUT, BREAK, EPOCHS = 150, 50, 60
#: The net of 2006, as in the notebook.
FAMOUS_EPOCHS, FAMOUS_BATCH, FAMOUS_RATES = 25, 128, (1e-3, 2e-3, 4e-3)
#: Width against depth.
BUDGETS = {"small": (128, 64), "large": (512, 256)}
DEPTHS, CODE, SEEDS = (1, 2, 3, 4), 32, (0, 1, 2)
DEPTH_BATCH, DEPTH_EPOCHS, TRIAL_EPOCHS = 128, 15, 3
RATES = (2e-3, 4e-3, 8e-3)


def build(hidden, code, *, seed, output=None, likelihood="bernoulli"):
    """Return an untrained dense autoencoder, the decoder the mirror image of the encoder."""
    keras.utils.set_random_seed(seed)
    encoder = [layers.Dense(n, "silu", kernel_initializer="he_normal") for n in hidden]
    decoder = [layers.Dense(n, "silu", kernel_initializer="he_normal") for n in hidden[::-1]]
    pixels = [layers.Dense(784, output), layers.Reshape(SHAPE)]
    return aelib.Autoencoder(
        keras.Sequential([layers.Input(SHAPE), layers.Flatten(), *encoder, layers.Dense(code)]),
        keras.Sequential([layers.Input((code,)), *decoder, *pixels]),
        likelihood=likelihood,
    )


def train(net, x, *, epochs, batch, rate):
    """Fit with Adam, whose rate rises over the first 20th of the steps; return the processor seconds."""
    steps = epochs * math.ceil(len(x) / batch)
    warm_up = max(1, steps // 20)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - warm_up), warmup_target=rate, warmup_steps=warm_up
    )
    net.compile(keras.optimizers.Adam(schedule))
    begun = time.process_time()
    net.fit(x, epochs=epochs, batch_size=batch, verbose=0)
    return round(time.process_time() - begun, 1)


def bce(net, x):
    """Return the binary cross-entropy in nats per pixel, from the logits."""
    return net.evaluate(x, batch_size=500, verbose=0, return_dict=True)["loss"] / 784


def parameters(hidden, code=CODE):
    """Return the number of parameters of the mirrored net."""
    chain = (784, *hidden, code, *hidden[::-1], 784)
    return sum(m * n + n for m, n in itertools.pairwise(chain))


def widths(depth, budget):
    """Return the hidden widths, each layer narrower by one factor, whose net comes closest to a budget."""

    def taper(first):
        return tuple(round(first * (CODE / first) ** (j / depth)) for j in range(depth))

    first = min(range(CODE + 1, 1500), key=lambda n: abs(parameters(taper(n)) - budget))
    return taper(first)


class Store:
    """The stored results: a dict that is written after every run."""

    def __init__(self, path):
        self.path = path
        self.results = json.loads(path.read_text("utf-8")) if path.is_file() else {}

    def part(self, name, settings):
        """Return a part; refuse one that was begun with other settings."""
        part = self.results.setdefault(name, dict(settings))
        settings = json.loads(json.dumps(settings))
        if {key: part.get(key) for key in settings} != settings:
            raise SystemExit(f"{self.path}, {name}: begun with other settings; move it away")
        return part

    def write(self):
        """Write the file, whole or not at all."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, json.dumps(self.results, indent=1) + "\n")


def objectives(store, x, held_out, test, *, epochs):
    """Train the net of 2006 on the cross-entropy; measure both errors."""
    part = store.part(
        "objectives",
        {
            "what": "MNIST, 784-1000-500-250-30 mirrored, SiLU, He initialisation, no augmentation",
            "epochs": epochs,
            "images": len(x),
            "batch_size": FAMOUS_BATCH,
            "objective": "cross-entropy",
            "seed": SEED,
        },
    )
    part.setdefault("device", ledger.device())
    runs = part.setdefault("runs", [])
    for rate in FAMOUS_RATES:
        if any(run["learning_rate"] == rate for run in runs):
            continue
        net = build(FAMOUS, 30, seed=SEED)
        seconds = train(net, x, epochs=epochs, batch=FAMOUS_BATCH, rate=rate)
        row = {"learning_rate": rate, "seconds": seconds}
        for name, images in (("training", x), ("validation", held_out), ("test", test)):
            row[f"{name} squared error per image"] = metrics.squared_error_per_image(
                images, net.reconstruct(images)
            )
            row[f"{name} cross-entropy"] = bce(net, images)
        runs.append(row)
        store.write()
        print("cross-entropy", row, flush=True)


def choose_rate(tries, score):
    """Fill `tries` (rate as text: score) until its best rate is inside; return the best rate."""
    for rate in RATES:
        score(rate)
    while len(tries) < 8:
        rates = sorted(map(float, tries))
        best = min(rates, key=lambda rate: tries[f"{rate:g}"])
        if best == rates[0]:
            score(best / 2)
        elif best == rates[-1]:
            score(best * 2)
        else:
            return best
    raise SystemExit(f"no best learning rate inside {tries}")


def depth_runs(store, x, held_out, test, *, epochs, trial_epochs, seeds):
    """Width against depth at equal numbers of parameters."""
    part = store.part(
        "depth",
        {
            "what": "Fashion-MNIST, codes of 32, SiLU, He initialisation, Adam with warm-up and cosine",
            "epochs": epochs,
            "trial_epochs": trial_epochs,
            "images": len(x),
            "batch_size": DEPTH_BATCH,
        },
    )
    for key, value in (("device", ledger.device()), ("rates", {}), ("runs", []), ("collapsed", [])):
        part.setdefault(key, value)
    depth_epochs = epochs

    def run(hidden, seed, epochs, rate):
        net = build(hidden, CODE, seed=seed)
        return net, train(net, x, epochs=epochs, batch=DEPTH_BATCH, rate=rate)

    def final(budget, depth, hidden, seed, epochs):
        key = {"budget": budget, "depth": depth, "seed": seed, "epochs": epochs}
        if any(key.items() <= stored.items() for stored in part["runs"]):
            return
        net, seconds = run(hidden, seed, epochs, best[budget, depth])
        row = key | {"hidden": hidden, "parameters": parameters(hidden), "rate": best[budget, depth]}
        row |= {"training": bce(net, x), "validation": bce(net, held_out), "test": bce(net, test)}
        row |= {"seconds": seconds}
        print(json.dumps(row), flush=True)
        if row["validation"] > min(part["rates"][f"{budget}, {depth}"].values()):
            # Worse than after three epochs: it collapsed. All seeds get half the rate.
            part["collapsed"].append(row)
            part["runs"] = [r for r in part["runs"] if (r["budget"], r["depth"]) != (budget, depth)]
            best[budget, depth] /= 2
            for again in seeds[: seeds.index(seed) + 1]:
                final(budget, depth, hidden, again, depth_epochs)
        else:
            part["runs"].append(row)
        store.write()

    best, shapes = {}, {}
    for budget, reference in BUDGETS.items():
        for depth in DEPTHS:
            hidden = shapes[budget, depth] = widths(depth, parameters(reference))
            tries = part["rates"].setdefault(f"{budget}, {depth}", {})

            def score(rate, tries=tries, hidden=hidden):
                name = f"{rate:g}"
                if name not in tries:
                    net, seconds = run(hidden, SEEDS[0], trial_epochs, rate)
                    tries[name] = bce(net, held_out)
                    store.write()
                    print(hidden, name, tries[name], seconds, flush=True)

            halved = sum((row["budget"], row["depth"]) == (budget, depth) for row in part["collapsed"])
            best[budget, depth] = choose_rate(tries, score) / 2**halved
            final(budget, depth, hidden, SEEDS[0], epochs)
    for seed in seeds[1:]:
        for (budget, depth), hidden in shapes.items():
            final(budget, depth, hidden, seed, epochs)
    for budget, depth in (("small", 1), ("small", 4), ("large", 2)):  # is it the plateau?
        final(budget, depth, shapes[budget, depth], SEEDS[0], 2 * epochs)


class Shifted(keras.utils.PyDataset):
    """Batches of images, each image moved by at most one pixel down or up and right or left."""

    def __init__(self, x):
        super().__init__()
        self.padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        self.draw(0)

    def draw(self, epoch):
        """Draw the order and the shifts of an epoch; the same epoch always gets the same."""
        rng = np.random.default_rng([SEED, epoch])
        self.order = rng.permutation(len(self.padded))
        self.shifts = rng.integers(0, 3, (2, len(self.padded), 1, 1))

    def __len__(self):
        return -(-len(self.padded) // BATCH)

    def __getitem__(self, i):
        chosen = self.order[i * BATCH : (i + 1) * BATCH, None, None]
        down, right = self.shifts[:, i * BATCH : (i + 1) * BATCH]
        return (self.padded[chosen, np.arange(28)[:, None] + down, np.arange(28) + right],)


class Progress(keras.callbacks.Callback):
    """Keep one line per epoch in a file: the losses, and the seconds by the clock and of the processor."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def on_epoch_begin(self, epoch, logs=None):
        """Note the time."""
        self.start = time.perf_counter(), time.process_time()

    def on_epoch_end(self, epoch, logs=None):
        """Write the line."""
        line = {"epoch": epoch + 1} | {key: round(float(logs[key]), 4) for key in ("loss", "val_loss")}
        line |= {"seconds": round(time.perf_counter() - self.start[0], 2)}
        line |= {"cpu_seconds": round(time.process_time() - self.start[1], 2)}
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def read(self):
        """Return the lines, by epoch; an epoch that was begun twice counts as it ended."""
        lines = [json.loads(line) for line in self.path.read_text("utf-8").splitlines()]
        return [line for _, line in sorted({line["epoch"]: line for line in lines}.items())]


class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """A cosine laid out for 150 epochs, times a straight line from 1 at epoch 50 to 0 at epoch 60."""

    def __init__(self, steps):
        self.cosine = keras.optimizers.schedules.CosineDecay(RATE, LAID_OUT * steps)
        self.start, self.end = BREAK * steps, EPOCHS * steps

    def __call__(self, step):
        """Return the learning rate of a step."""
        left = (self.end - ops.cast(step, "float32")) / (self.end - self.start)
        return self.cosine(step) * ops.clip(left, 0.0, 1.0)


def augmented(store, mnist):
    """Train the net of 2006 on shifted digits for 60 epochs, or go on training; measure once."""
    if "augmented" in store.results:
        return
    STATE.mkdir(parents=True, exist_ok=True)
    batches, progress = Shifted(mnist.x_train), Progress(STATE / "progress.jsonl")
    model = build(FAMOUS, 30, seed=SEED, output="sigmoid", likelihood="gaussian")
    model.compile(keras.optimizers.Adam(Schedule(len(batches))), jit_compile=True)
    model.fit(
        batches,
        epochs=EPOCHS,
        validation_data=(mnist.x_val,),
        validation_batch_size=500,
        callbacks=[
            keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: batches.draw(epoch)),
            keras.callbacks.BackupAndRestore(STATE, double_checkpoint=True, delete_checkpoint=False),
            progress,
        ],
    )
    lines = progress.read()
    parts = {"training": mnist.x_train, "validation": mnist.x_val, "test": mnist.x_test}
    store.results["augmented"] = {
        "what": "MNIST, 784-1000-500-250-30 mirrored, SiLU, He initialisation, shifts by at most one pixel",
        "measure": "squared error per image",
        **{key: metrics.squared_error_per_image(x, model.reconstruct(x)) for key, x in parts.items()},
        "epochs": EPOCHS,
        "seed": SEED,
        "batch_size": BATCH,
        "learning_rate": RATE,
        "schedule": Schedule.__doc__,
        "device": ledger.device(),
        "seconds": round(sum(line["seconds"] for line in lines)),
        "cpu_seconds": round(sum(line["cpu_seconds"] for line in lines)),
        "loss": [line["loss"] for line in lines],
        "val_loss": [line["val_loss"] for line in lines],
    }
    store.write()


def main():
    """Run what is not stored yet, and store it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--trial", action="store_true", help="tiny sizes, to see that it runs; names --out")
    parser.add_argument("--part", choices=("objectives", "depth", "augmented"), help="this part alone")
    args = parser.parse_args()
    if args.trial and args.out == RESULT:
        raise SystemExit("a trial needs an --out of its own")
    store, count = Store(args.out), 1000 if args.trial else None
    mnist, fashion = aelib.load("mnist"), aelib.load("fashion_mnist")
    digits, garments = (
        [part[:count] for part in (data.x_train, data.x_val, data.x_test)] for data in (mnist, fashion)
    )
    if args.part in (None, "objectives"):
        objectives(store, *digits, epochs=1 if args.trial else FAMOUS_EPOCHS)
    if args.part in (None, "depth"):
        depth_runs(
            store,
            *garments,
            epochs=1 if args.trial else DEPTH_EPOCHS,
            trial_epochs=1 if args.trial else TRIAL_EPOCHS,
            seeds=SEEDS[:1] if args.trial else SEEDS,
        )
    if args.part in (None, "augmented") and not args.trial:
        augmented(store, mnist)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    main()
