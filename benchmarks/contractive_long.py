"""Sweep the strengths of `types/contractive` and its rivals, and train the chosen ones four times as long.

    AELIB_DATA_DIR=... python benchmarks/contractive_long.py

MNIST, 784-256-784 with sigmoid units and tied weights, batches of 128, Adam along a cosine to zero: the
recipe of the chapter. First five learning rates, for the plain and a contractive net. Then the sweep: five
strengths of weight decay, denoising and contraction, 6 epochs, seed 0, judged on validation images. Then the
longer runs: each kind at its chosen strength, and the plain net, 24 epochs, three seeds, measured on the test
images once, at the end; and the linear net with a decoder matrix of its own, with and without the penalty, 6
and 24 epochs, on validation images. It takes about an hour of processor time. The figures go to
``benchmarks/results/contractive_long.json``, which the chapter cites.
"""

import argparse
import json
import time
from pathlib import Path

import keras
import numpy as np
from keras import layers
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

import aelib
from aelib import autodiff
from aelib.book import ledger
from aelib.files import write_atomically
from aelib.layers import GaussianNoise, TiedDense

RESULT = Path(__file__).parent / "results" / "contractive_long.json"
SHAPE, EPOCHS, LONGER, BATCH, RATE, SEEDS = (28, 28, 1), 6, 24, 128, 2e-2, (0, 1, 2)
RATES = (5e-3, 1e-2, 2e-2, 4e-2, 8e-2)
GRID = {
    "decay": (1e-3, 3e-3, 1e-2, 3e-2, 1e-1),
    "denoising": (0.25, 0.5, 1.0, 2.0, 4.0),
    "contractive": (0.1, 0.3, 1.0, 3.0, 10.0),
}
PENALTIES = (1.0, 0.1, 0.01, 1e-3, 1e-4)
SHIFTS = ((0, 1), (0, -1), (1, 0), (-1, 0))


def build(seed, kind, strength, *, tied=True, activation="sigmoid"):
    """Return an untrained net, as the chapter builds it."""
    keras.utils.set_random_seed(seed)
    decay = keras.regularizers.L2(strength) if kind == "decay" else None
    read = layers.Dense(256, activation, kernel_regularizer=decay, name="code")
    encoder = keras.Sequential([layers.Input(SHAPE), layers.Flatten(), read])
    write = TiedDense(read) if tied else layers.Dense(784)
    decoder = keras.Sequential([layers.Input((256,)), write, layers.Reshape(SHAPE)])
    if kind == "contractive":
        return aelib.ContractiveAutoencoder(encoder, decoder, strength=strength)
    noise = GaussianNoise(strength, clip=False, seed=seed) if kind == "denoising" else None
    return aelib.Autoencoder(encoder, decoder, corrupt=noise)


def train(net, x, epochs, rate=RATE):
    """Train the net, and return the processor seconds."""
    steps = epochs * -(-len(x) // BATCH)
    net.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(rate, steps)))
    begin = time.process_time()
    net.fit(x, epochs=epochs, batch_size=BATCH, verbose=0)
    return time.process_time() - begin


def length(x):
    """Return the Euclidean length of every row: (n, ...) -> (n,)."""
    return np.linalg.norm(x.reshape(len(x), -1), axis=1)


def grain(change):
    """Return noise that moves every image exactly as far as `change` does."""
    noise = np.random.default_rng(0).standard_normal(change.shape, dtype="float32")
    return noise * (length(change) / length(noise))[:, None, None, None]


def movement(encode, images):
    """Return the code's movement under a shift and under noise, as shares of its scale."""
    changes = [np.roll(images, shift, axis=(1, 2)) - images for shift in SHIFTS]
    changes += [grain(change) for change in changes]
    codes = encode(images)
    gone = [np.mean(length(encode(images + change) - codes)) for change in changes]
    return np.reshape(gone, (2, 4)).mean(axis=1) / np.mean(length(codes - np.roll(codes, 1, axis=0)))


def probe(codes, labels, held_out, held_out_labels, asked, asked_labels, draw, count=1000):
    """Return the accuracy of the chapter's linear probe; `held_out` chooses its scaling and its penalty."""
    rows = np.random.default_rng(draw).permutation(len(codes))[:count]
    mean, sd = codes.mean(axis=0), codes.std(axis=0)
    tried = []
    for unit in (np.where(sd > 1e-6, sd, 1), np.sqrt(np.mean(sd**2))):
        ready = [(part - mean) / unit for part in (codes[rows], held_out, asked)]
        judge = LogisticRegression(max_iter=100, warm_start=True)
        for penalty in PENALTIES:
            judge.set_params(C=1 / (penalty * count)).fit(ready[0], labels[rows])
            tried.append((judge.score(ready[1], held_out_labels), judge.score(ready[2], asked_labels)))
    return max(tried, key=lambda row: row[0])[1]


def judged(net, data, images, labels):
    """Return a net's figures on images: cross-entropy, norm, movements, directions, the probe."""
    half = len(data.x_val) // 2
    parts = net.evaluate(images, batch_size=500, verbose=0, return_dict=True)
    norms = np.asarray(autodiff.jacobian_norm(net.encoder, images[:200]))
    rows = np.asarray(autodiff.jacobian(net.encoder, images[:100])).reshape(min(100, len(images)), -1, 784)
    squares = np.maximum(np.linalg.eigvalsh(rows @ rows.transpose(0, 2, 1))[:, ::-1], 0)
    shares = np.cumsum(squares, axis=1) / squares.sum(axis=1, keepdims=True)
    shift, noise = movement(net.encode, images[:2000])
    codes = [net.encode(x) for x in (data.x_train[:10_000], data.x_val[:half], images)]
    with threadpool_limits(1):
        right = [
            probe(codes[0], data.y_train[:10_000], codes[1], data.y_val[:half], codes[2], labels, draw)
            for draw in SEEDS
        ]
    return {
        "bce": parts["reconstruction"] / 784,
        "norm": float(np.sqrt(norms.mean())),
        "shift": float(shift),
        "noise": float(noise),
        "directions": float(np.mean(1 + (shares < 0.9).sum(axis=1))),
        "probe": float(np.mean(right)),
    }


def main():
    """Train all nets, and store their figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=None, help="train on the first so many, to try it out")
    parser.add_argument("--epochs", type=int, nargs=2, default=(EPOCHS, LONGER))
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args()
    short, longer = args.epochs
    data = aelib.load("mnist")
    x, half = data.x_train[: args.images], len(data.x_val) // 2
    held_out = data.x_val[half:], data.y_val[half:]  # the other half chooses the probe's settings
    rates = []
    for kind in ("plain", "contractive"):
        for rate in RATES:
            net = build(0, kind, 1.0)
            train(net, x, short, rate)
            loss = net.evaluate(data.x_val, batch_size=500, verbose=0, return_dict=True)["loss"] / 784
            rates.append({"kind": kind, "rate": rate, "loss": loss})
            print(rates[-1], flush=True)
    settings = [("plain", 0.0)] + [(kind, s) for kind, grid in GRID.items() for s in grid]
    sweep = []
    for kind, strength in settings:
        net = build(0, kind, strength)
        seconds = train(net, x, short)
        row = {"kind": kind, "strength": strength} | judged(net, data, *held_out)
        sweep.append(row | {"cpu_seconds": round(seconds)})
        print(sweep[-1], flush=True)
    chosen = {"plain": 0.0}
    for kind in GRID:
        chosen[kind] = max((row for row in sweep if row["kind"] == kind), key=lambda row: row["probe"])[
            "strength"
        ]
    long_rows = []
    for kind, strength in chosen.items():
        rows = []
        for seed in SEEDS:
            net = build(seed, kind, strength)
            train(net, x, longer)
            rows.append(judged(net, data, data.x_test, data.y_test))
            print(kind, strength, seed, rows[-1], flush=True)
        names = ("bce", "norm", "shift", "noise", "directions")
        values = np.array([[row[name] for name in names] for row in rows])
        right = [row["probe"] for row in rows]
        long_rows.append(
            {
                "kind": kind,
                "strength": strength,
                "epochs": longer,
                "mean": values.mean(axis=0).tolist(),
                "sd": values.std(axis=0, ddof=1).tolist(),
                "probe": float(np.mean(right)),
                "probe sd": float(np.std(right, ddof=1)),
            }
        )
    untied = []
    for strength in (0.0, 1.0):
        for epochs in (short, longer):
            net = build(0, "decay" if strength else "plain", strength, tied=False, activation=None)
            train(net, x, epochs, 1e-2)
            row = {"strength": strength, "epochs": epochs} | judged(net, data, *held_out)
            untied.append(row)
            print("untied", row, flush=True)
    about = {"device": ledger.device(), "data": data.source, "images": len(x), "epochs": short, "rate": RATE}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    parts = {"rates": rates, "sweep": sweep, "longer": long_rows, "untied": untied}
    write_atomically(args.out, json.dumps(about | parts, indent=1) + "\n")


if __name__ == "__main__":
    main()
