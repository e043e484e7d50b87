"""Fit 32 pictures and the codes of garments together: the limit of the basic autoencoder's decoder.

``python benchmarks/basic_long.py`` takes about twenty minutes of one core. For each of three seeds it trains
the net of ``types/basic`` on Fashion-MNIST, then takes turns: the best codes for fixed pictures, the best
pictures for fixed codes, both by L-BFGS, on 10,000 training images, until a turn lowers the excess on these
by less than 0.1 %. After each turn it searches the best codes of 1,000 validation images for the pictures.
The figures go to ``benchmarks/results/basic_long.json``, which the chapter cites.
"""

import argparse
import json
import math
import os
import time
from pathlib import Path

import keras
import numpy as np
import scipy.optimize

import aelib
from aelib import blocks, metrics
from aelib.book import ledger
from aelib.files import write_atomically

SHAPE, CODE = (28, 28, 1), 32
EPOCHS, BATCH, RATE = 20, 128, 3e-3
STEPS, SEARCH, ENOUGH = 20, 100, 1e-3


def loss_and_slope(a, x):
    """Return the summed cross-entropy of logits a, and its derivative: (n, D), (n, D) -> float, (n, D)."""
    small = np.exp(-np.abs(a))
    loss = np.sum(np.maximum(a, 0) + np.log1p(small) - x * a, dtype=np.float64)
    return loss, np.where(a >= 0, 1, small) / (1 + small) - x


def minimise(function, start, steps):
    """Minimise a function, which returns a loss and its slope, by L-BFGS from an array of any shape."""

    def flat(vector):
        loss, slope = function(vector.reshape(start.shape).astype(np.float32))
        return loss, slope.ravel().astype(np.float64)

    options = {"maxiter": steps, "maxcor": 20}
    found = scipy.optimize.minimize(
        flat, start.ravel().astype(np.float64), jac=True, method="L-BFGS-B", options=options
    )
    return found.x.reshape(start.shape).astype(np.float32)


def best_codes(x, start, pictures, steps):
    """Return codes of least loss for fixed pictures, the last the offset: (n, D), (n, K) -> (n, K)."""

    def function(z):
        loss, slope = loss_and_slope(z @ pictures[:-1] + pictures[-1], x)
        return loss, slope @ pictures[:-1].T

    return minimise(function, start, steps)


def best_pictures(x, z, start, steps):
    """Return pictures of least loss for fixed codes: (n, D), (n, K) -> (K + 1, D)."""
    z = np.hstack([z, np.ones((len(z), 1), np.float32)])

    def function(pictures):
        loss, slope = loss_and_slope(z @ pictures, x)
        return loss, z.T @ slope

    return minimise(function, start, steps)


def excess(x, z, pictures):
    """Return the cross-entropy above the floor, in nats per pixel."""
    return loss_and_slope(z @ pictures[:-1] + pictures[-1], x)[0] / x.size - metrics.bce_floor(x)


def train(x, seed, epochs):
    """Return the encoder's and the decoder's weights of a trained net: (D, K), (K,), (K + 1, D)."""
    keras.utils.set_random_seed(seed)
    model = aelib.Autoencoder(
        blocks.dense_encoder(SHAPE, CODE, hidden=()), blocks.dense_decoder(SHAPE, CODE, hidden=())
    )
    steps = epochs * math.ceil(len(x) / BATCH)
    model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(RATE, steps)))
    model.fit(x, epochs=epochs, batch_size=BATCH, verbose=0)
    kernel, bias = model.encoder.layers[-1].get_weights()
    return kernel, bias, np.vstack(model.decoder.get_layer("raw").get_weights())


def take_turns(x, x_val, kernel, bias, pictures, turns):
    """Fit pictures and codes in turns; return the excess on both sets of images before and after each."""
    z, z_val = x @ kernel + bias, x_val @ kernel + bias
    encoded = excess(x_val, z_val, pictures)
    z_val = best_codes(x_val, z_val, pictures, SEARCH)
    z = best_codes(x, z, pictures, SEARCH)
    fitted, held_out = [excess(x, z, pictures)], [excess(x_val, z_val, pictures)]
    while len(fitted) <= turns and (len(fitted) < 2 or fitted[-1] < (1 - ENOUGH) * fitted[-2]):
        pictures = best_pictures(x, z, pictures, STEPS)
        z = best_codes(x, z, pictures, STEPS)
        z_val = best_codes(x_val, z_val, pictures, SEARCH)
        fitted.append(excess(x, z, pictures))
        held_out.append(excess(x_val, z_val, pictures))
        print(f"turn {len(fitted) - 1}: {fitted[-1]:.5f}, validation {held_out[-1]:.5f}", flush=True)
    return {"encoder": encoded, "training_excess_by_turn": fitted, "excess_by_turn": held_out}


def main():
    """Train, take turns, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--images", type=int, default=10_000, help="training images that the turns fit")
    parser.add_argument("--turns", type=int, default=60, help="at most so many")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of the nets that they start from")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "basic_long.json")
    args = parser.parse_args()
    data = aelib.load("fashion_mnist")
    x, x_val = data.x_train[: args.images].reshape(-1, 784), data.x_val[:1000].reshape(-1, 784)
    runs = []
    for seed in args.seeds:
        begin = time.process_time()
        run = take_turns(x, x_val, *train(data.x_train, seed, args.epochs), args.turns)
        runs.append({"seed": seed, "cpu_seconds": round(time.process_time() - begin)} | run)
    figures = {
        "what": "excess over the floor, nats per pixel, the first 1,000 validation images, codes searched",
        "images": args.images,
        "data": data.source,
        "device": ledger.device(),
        "runs": runs,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(args.out, json.dumps(figures, indent=1, ensure_ascii=False) + "\n")
    print(json.dumps(figures, ensure_ascii=False))


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    main()
