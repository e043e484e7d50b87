"""Train the deep chapter's 784-1000-500-250-30 autoencoder on all digits, for longer than a notebook should.

    python benchmarks/deep_long.py

Started again after an interruption it goes on after the last whole epoch: the checkpoints lie in
``_build/deep_long``. At the end it measures the test set once and writes
``benchmarks/results/deep_long.json``, which ``book/types/deep.ipynb`` reads if it is there.
"""

import json
import time
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops

import aelib
from aelib import metrics, results

ROOT = Path(__file__).resolve().parent.parent
STATE = ROOT / "_build" / "deep_long"
RESULT = ROOT / "benchmarks" / "results" / "deep_long.json"
SHAPE, HIDDEN, CODE = (28, 28, 1), (1000, 500, 250), 30
SEED, BATCH, RATE = 0, 250, 1e-3
LAID_OUT, BREAK, EPOCHS = 150, 50, 60


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


def build(steps):
    """Return the untrained model, compiled; an epoch has so many steps."""
    keras.utils.set_random_seed(SEED)
    encoder = [layers.Dense(n, "silu", kernel_initializer="he_normal") for n in HIDDEN]
    decoder = [layers.Dense(n, "silu", kernel_initializer="he_normal") for n in HIDDEN[::-1]]
    pixels = [layers.Dense(784, "sigmoid"), layers.Reshape(SHAPE)]
    model = aelib.Autoencoder(
        keras.Sequential([layers.Input(SHAPE), layers.Flatten(), *encoder, layers.Dense(CODE)]),
        keras.Sequential([layers.Input((CODE,)), *decoder, *pixels]),
        likelihood="gaussian",
    )
    model.compile(keras.optimizers.Adam(Schedule(steps)), jit_compile=True)
    return model


def main():
    """Train, or go on training; then measure once and write the result."""
    mnist = aelib.load("mnist")
    STATE.mkdir(parents=True, exist_ok=True)
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    batches, progress = Shifted(mnist.x_train), Progress(STATE / "progress.jsonl")
    model = build(len(batches))
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
    result = {
        "what": "MNIST, 784-1000-500-250-30 mirrored, SiLU, He initialisation, shifts by at most one pixel",
        "measure": "squared error per image",
        **{key: metrics.squared_error_per_image(x, model.reconstruct(x)) for key, x in parts.items()},
        "epochs": EPOCHS,
        "seed": SEED,
        "batch_size": BATCH,
        "learning_rate": RATE,
        "schedule": Schedule.__doc__,
        "device": results.device(),
        "seconds": round(sum(line["seconds"] for line in lines)),
        "cpu_seconds": round(sum(line["cpu_seconds"] for line in lines)),
        "loss": [line["loss"] for line in lines],
        "val_loss": [line["val_loss"] for line in lines],
    }
    results.write_atomically(RESULT, json.dumps(result, indent=1) + "\n")
    print({key: value for key, value in result.items() if not isinstance(value, list)})


if __name__ == "__main__":
    main()
