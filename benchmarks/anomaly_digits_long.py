"""Train the nets of `applications/anomaly_detection` that know one digit of MNIST, to their plateau.

    AELIB_DATA_DIR=... python benchmarks/anomaly_digits_long.py

Each digit in turn is normal: a dense net (784-256-128-code and back) is trained on its images alone, with
three seeds, and the error of its copies ranks the test images, all digits. Images are divided by a power of
their length, the one with which PCA does best on validation images. The code size is chosen on validation
images with the nets of three digits. Two digits are trained once for twice the epochs.

The ROC-AUC of every net, and of the mean of the three nets' scores, goes to
``benchmarks/results/anomaly_digits_long.json``; a second start goes on after the runs that are there. About 7
minutes of one processor core.
"""

import argparse
import math
import time
from pathlib import Path

import keras
import numpy as np
from sklearn.metrics import roc_auc_score

import aelib
from aelib import anomaly, blocks
from aelib.book import ledger
from aelib.book.runs import Runs

ROOT = Path(__file__).resolve().parent.parent
POWERS, SIZES = (0, 0.25, 0.5, 0.75, 1), (4, 8, 16, 32, 64, 128, 256)
HIDDEN, EPOCHS, BATCH, RATE, SEEDS = (256, 128), 30, 128, 2e-3, (0, 1, 2)
CODES, CHOOSERS, DOUBLED = (4, 8, 12, 16, 24), (2, 5, 8), (2, 8)


def scale(images, power):
    """Divide images by their length to a power; 9 is about the mean length: (n, ...) -> (n, 784)."""
    rows = images.reshape(len(images), -1)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows * (9 / np.maximum(length, 1e-3)) ** power).astype("float32")


def best_power(data, digits):
    """Return the power with which PCA, at its best size, has the best mean AUC on validation images."""
    images, labels = data.x_val[:1000], data.y_val[:1000]
    tried = {}
    for digit in digits:
        for power in POWERS:
            x, held_out = scale(data.x_train[data.y_train == digit], power), scale(images, power)
            vectors = np.linalg.eigh(np.cov(x.T.astype("float64")))[1][:, ::-1]
            z = (held_out - x.mean(axis=0)) @ vectors
            for size in SIZES:
                auc = roc_auc_score(labels != digit, np.square(z[:, size:]).sum(axis=1))
                tried.setdefault((power, size), []).append(auc)
    return max(tried, key=lambda setting: np.mean(tried[setting]))[0]


def fit(x, code, seed, epochs):
    """Train a net on one digit's images, (n, 784)."""
    keras.utils.set_random_seed(seed)
    net = aelib.Autoencoder(
        blocks.dense_encoder((784,), code, hidden=HIDDEN, activation="silu"),
        blocks.dense_decoder((784,), code, hidden=HIDDEN[::-1], activation="silu"),
        likelihood="gaussian",
    )
    schedule = keras.optimizers.schedules.CosineDecay(RATE, epochs * math.ceil(len(x) / BATCH))
    net.compile(keras.optimizers.Adam(schedule))
    net.fit(x, epochs=epochs, batch_size=BATCH, verbose=0)
    return net


def attempt(data, digit, power, code, epochs):
    """Return the AUC of one net on validation images."""
    net = fit(scale(data.x_train[data.y_train == digit], power), code, 0, epochs)
    return {"auc": float(roc_auc_score(data.y_val != digit, anomaly.errors(net, scale(data.x_val, power))))}


def run(data, digit, power, code, seeds, epochs):
    """Return the test AUC of each seed's net, of their mean score, and the processor seconds of one net."""
    x, rows = scale(data.x_train[data.y_train == digit], power), scale(data.x_test, power)
    start = time.process_time()
    nets = [fit(x, code, seed, epochs) for seed in seeds]
    seconds = (time.process_time() - start) / len(seeds)
    scores = [anomaly.errors(net, rows) for net in nets]
    aucs = [
        round(float(roc_auc_score(data.y_test != digit, s)), 5) for s in [*scores, np.mean(scores, axis=0)]
    ]
    return {"auc": aucs[:-1], "averaged": aucs[-1], "seconds": round(seconds, 1)}


def main():
    """Train whatever is not in the file yet."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--trial", action="store_true", help="two digits, two epochs, two seeds")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    digits, seeds, epochs, choosers, doubled = range(10), SEEDS, EPOCHS, CHOOSERS, DOUBLED
    if options.trial:
        digits, seeds, epochs, choosers, doubled = (1, 8), SEEDS[:2], 2, (1,), (1,)
    stem = "anomaly_digits_trial" if options.trial else "anomaly_digits_long"
    path = options.out or ROOT / "benchmarks" / "results" / f"{stem}.json"
    settings = {"epochs": epochs, "hidden": list(HIDDEN), "batch": BATCH, "learning_rate": RATE}
    runs = Runs(path, settings | {"device": ledger.device()})
    data = aelib.load("mnist")
    if "power" not in runs.stored:
        runs.stored["power"] = best_power(data, digits)
        runs.save()
    power, tries = runs.stored["power"], {}
    for code in CODES:
        keys = [{"try": code, "digit": digit} for digit in choosers]
        found = [
            runs.get(key, lambda c=code, d=key["digit"]: attempt(data, d, power, c, epochs)) for key in keys
        ]
        tries[code] = float(np.mean([run["auc"] for run in found]))
    code = max(tries, key=tries.get)
    runs.stored |= {"code": code, "tries": tries}
    runs.save()
    for digit in digits:
        key = {"digit": digit, "epochs": epochs}
        runs.get(key, lambda d=digit: run(data, d, power, code, seeds, epochs))
    for digit in doubled:
        key = {"digit": digit, "epochs": 2 * epochs}
        runs.get(key, lambda d=digit: run(data, d, power, code, seeds[:1], 2 * epochs))


if __name__ == "__main__":
    main()
