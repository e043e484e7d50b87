"""Train the much-copied convolutional net of `types/convolutional` longer than a notebook may.

``python benchmarks/convolutional_long.py`` takes half an hour on two free cores. Start it again after a kill:
it goes on after the last epoch that was finished, or only measures if that was the last. The best epoch by
validation loss is kept, reloaded, and measured once on the test set. The figures go to
``benchmarks/results/convolutional_long.json``, which the chapter cites.
"""

import argparse
import csv
import hashlib
import json
import os
import tempfile
import time
from pathlib import Path

import keras
from keras import layers

import aelib
from aelib import metrics, results

SHAPE = (28, 28, 1)
FILTERS = (32, 32, 16)
SEED = 0
BATCH = 128
RATE = 3e-3


def convolution(filters, padding="same"):
    """Return a 3×3 convolution, its batch normalisation, and ReLU."""
    return [layers.Conv2D(filters, 3, padding=padding), layers.BatchNormalization(), layers.ReLU()]


def encoder():
    """Build the encoder: 28 → 14 → 7 → 4 by pooling that rounds up, (B, 28, 28, 1) → (B, 256)."""
    stack = [layers.Input(SHAPE)]
    for n in FILTERS:
        stack += [*convolution(n), layers.MaxPooling2D(2, padding="same")]
    return keras.Sequential([*stack, layers.Flatten()], name="encoder")


def decoder():
    """Build the decoder: 4 → 8 → 16, which a convolution without padding turns into 14, → 28; logits."""
    stack = [layers.Input((4 * 4 * FILTERS[-1],)), layers.Reshape((4, 4, FILTERS[-1]))]
    for n, padding in zip(reversed(FILTERS), ("same", "same", "valid"), strict=True):
        stack += [*convolution(n, padding), layers.UpSampling2D(2)]
    return keras.Sequential([*stack, layers.Conv2D(1, 3, padding="same", name="raw")], name="decoder")


def digest(model):
    """Return a fingerprint of all weights, to the bit."""
    return hashlib.sha256(b"".join(w.tobytes() for w in model.get_weights())).hexdigest()


class Note(keras.callbacks.Callback):
    """Adds to each epoch's log its duration and the weights' fingerprint; must precede the CSV logger."""

    def on_epoch_begin(self, epoch, logs=None):
        """Start the clocks."""
        self.start, self.cpu = time.time(), time.process_time()

    def on_epoch_end(self, epoch, logs):
        """Read the clocks."""
        logs["seconds"], logs["cpu_seconds"] = time.time() - self.start, time.process_time() - self.cpu
        logs["weights"] = digest(self.model)


def read_log(path):
    """Return what the epochs noted, one dict of str an epoch; of one trained twice, the last."""
    rows = list(csv.DictReader(path.open())) if path.is_file() else []
    return list({int(row["epoch"]): row for row in rows}.values())


def train(x_train, x_val, epochs, folder):
    """Train, or go on training, and return (the log, the path of the best epoch's model)."""
    folder.mkdir(parents=True, exist_ok=True)
    log, best = folder / "log.csv", folder / "best.keras"
    keras.utils.set_random_seed(SEED)
    model = aelib.Autoencoder(encoder(), decoder())
    schedule = keras.optimizers.schedules.CosineDecay(RATE, epochs * -(-len(x_train) // BATCH))
    model.compile(keras.optimizers.Adam(schedule), jit_compile=False)
    done = read_log(log)
    if len(done) >= epochs:
        return done, best
    so_far = min((float(row["val_loss"]) for row in done), default=None)
    callbacks = [
        Note(),
        keras.callbacks.CSVLogger(log, append=True),
        # The threshold, else the first epoch after a kill counts as the best so far.
        keras.callbacks.ModelCheckpoint(best, save_best_only=True, initial_value_threshold=so_far),
        keras.callbacks.BackupAndRestore(folder / "backup"),
    ]
    model.fit(
        x_train, epochs=epochs, batch_size=BATCH, validation_data=(x_val,), callbacks=callbacks, verbose=0
    )
    return read_log(log), best


def main():
    """Train, measure, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--images", type=int, default=None, help="train on the first so many, to try it out")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir(), "convolutional_long"))
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "convolutional_long.json"
    )
    args = parser.parse_args()
    data = aelib.load("fashion_mnist")
    x_train = data.x_train[: args.images]
    log, path = train(x_train, data.x_val, args.epochs, args.folder)

    row = min(log, key=lambda row: float(row["val_loss"]))
    model = keras.saving.load_model(path)
    assert digest(model) == row["weights"], "the reloaded model is not the best epoch's, bit for bit"
    bce = {
        name: model.evaluate(x, batch_size=500, verbose=0, return_dict=True)["loss"] / 784
        for name, x in (("validation", data.x_val), ("test", data.x_test))
    }
    figures = {
        "net": f"filters {FILTERS}, code 4 × 4 × {FILTERS[-1]}",
        "parameters": model.count_params(),
        "training": f"{len(x_train)} images, Adam, cosine from {RATE}, batches of {BATCH}",
        "seed": SEED,
        "epochs": len(log),
        "best_epoch": int(row["epoch"]) + 1,
        "seconds": round(sum(float(r["seconds"]) for r in log)),
        "cpu_seconds": round(sum(float(r["cpu_seconds"]) for r in log)),
        "device": results.device(),
        "data": data.source,
        "train_bce_last_epoch": float(log[-1]["loss"]) / 784,
        "validation_bce": bce["validation"],
        "test_bce": bce["test"],
        "test_mse": metrics.mse(data.x_test, model.reconstruct(data.x_test)),
        "validation_bce_by_epoch": [round(float(r["val_loss"]) / 784, 5) for r in log],
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    results.write_atomically(args.out, json.dumps(figures, indent=1, ensure_ascii=False) + "\n")
    print(json.dumps(figures, ensure_ascii=False))


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    main()
