"""Choose the settings of `types/sparse` and train its nets with three seeds.

    AELIB_DATA_DIR=... python benchmarks/sparse_long.py

Fashion-MNIST, one dense layer each way, 1,024 units, squared error; k-sparse, L1 and KL. The k-sparse net is
an `aelib.SparseDictionary`, the others are of dense layers. With one seed there are also k-sparse without its
auxiliary loss, k-sparse of dense layers, and L1 of a dictionary's layers, which centre the data. In order:
learning rates, two seeds, on 20,480 images; strengths, rates and counts, one seed, on the same images; then,
at settings chosen on validation, all training images with three seeds, and one seed with twice the epochs.
About 40 minutes of processor time. Every finished run is stored, and a second start goes on after it. The
figures go to ``benchmarks/results/sparse_long.json``.
"""

import argparse
import math
import os
import time
from pathlib import Path

import keras
import numpy as np
from keras import layers

import aelib
from aelib import dictionaries, metrics
from aelib.book import ledger
from aelib.book.runs import Runs

SHAPE, UNITS, COUNT, BATCH = (28, 28, 1), 1024, 25, 256
SUB, SUB_EPOCHS, RATE_EPOCHS, EPOCHS, SEEDS = 20_480, 6, 3, 10, (0, 1, 2)
JUDGED = 2000  # validation images that judge a setting: the refit takes its time
RATES = {
    "k-sparse": (1e-3, 3e-3, 1e-2),
    "L1": (3e-4, 1e-3, 3e-3, 1e-2),
    "KL": (1e-3, 3e-3, 1e-2, 3e-2),
}
START = {
    "k-sparse": {"count": COUNT},
    "L1": {"strength": 1.0},
    "KL": {"strength": 3.0, "rate": COUNT / UNITS},
}
COUNTS, L1_STRENGTHS = (12, 25, 50, 100), (0.15, 0.3, 0.6, 1.2, 2.4, 4.8)
KL_STRENGTHS, KL_RATES = (0.3, 1.0, 3.0, 10.0), (0.006, 0.012, COUNT / UNITS, 0.05, 0.1)
DEAD_AFTER = 10_000  # samples: in every epoch, dead units are found and revived
# One seed each; None is the learning rate of k-sparse. The strength leaves 26 numbers.
OTHERS = {
    "k-sparse, no auxiliary loss": ({"count": COUNT}, None),
    "k-sparse, not centred": ({"count": COUNT}, 3e-3),
    "L1, centred": ({"strength": 4.8}, 3e-3),
}
VISIBLE, LABELS = 0.1, 5000


def build(kind, seed, x, *, count=COUNT, strength=1.0, rate=None):
    """Return a net of 1,024 units, which starts from random directions around the mean of `x`."""
    keras.utils.set_random_seed(seed)
    if kind in ("k-sparse", "k-sparse, no auxiliary loss"):
        auxiliary = 1 / 32 if kind == "k-sparse" else 0.0
        return aelib.SparseDictionary(SHAPE, UNITS, k=count, auxiliary=auxiliary, dead_after=DEAD_AFTER)
    if kind == "L1, centred":
        read, paint = dictionaries.DictionaryEncoder(UNITS), dictionaries.DictionaryDecoder(SHAPE)
        encoder = keras.Sequential([layers.Input(SHAPE), read])
        decoder = keras.Sequential([layers.Input((UNITS,)), paint])
        for layer in (read, paint):
            layer.adapt(x[:10_000])
        read.kernel.assign(keras.ops.transpose(paint.directions))
        own = strength * float(paint.scale)  # for the code of scaled data
        return aelib.SparseAutoencoder(encoder, decoder, strength=own, likelihood="gaussian")
    read = layers.Dense(UNITS, "sigmoid" if kind == "KL" else "relu")
    unit = None if kind == "KL" else keras.constraints.UnitNorm(axis=1)
    paint = layers.Dense(784, kernel_constraint=unit)
    stack = [layers.Input(SHAPE), layers.Flatten(), read]
    if kind == "k-sparse, not centred":
        stack.append(aelib.layers.KSparse(count))
    encoder = keras.Sequential(stack)
    decoder = keras.Sequential([layers.Input((UNITS,)), paint, layers.Reshape(SHAPE)])
    directions = np.random.default_rng(seed).standard_normal((UNITS, 784)).astype("float32")
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    offset, mean = math.log(rate / (1 - rate)) if kind == "KL" else 0.0, x.mean(axis=0).ravel()
    read.set_weights([directions.T, offset - directions @ mean])
    paint.set_weights([directions, mean])
    if kind == "k-sparse, not centred":
        return aelib.Autoencoder(encoder, decoder, likelihood="gaussian")
    return aelib.SparseAutoencoder(encoder, decoder, strength=strength, rate=rate, likelihood="gaussian")


def parts(net, x):
    """Return codes (n, K), directions (K, D) and offset (D,): codes @ directions + offset are the outputs.

    Layers of a dictionary code data of variance 1, so such codes are brought to the data's scale.
    """
    codes, paint = net.encode(x), net.decoder.layers[0]
    if not isinstance(paint, dictionaries.DictionaryDecoder):
        return codes, *paint.get_weights()
    center, scale, bias, directions = (
        keras.ops.convert_to_numpy(w) for w in (paint.center, paint.scale, paint.bias, paint.directions)
    )
    return codes * scale, directions, center + scale * bias


def train(net, x, epochs, rate):
    """Fit in place and return the processor seconds."""
    steps = epochs * math.ceil(len(x) / BATCH)
    schedule = keras.optimizers.schedules.CosineDecay(rate, steps)
    net.compile(keras.optimizers.Adam(schedule))
    begun = time.process_time()
    net.fit(x, epochs=epochs, batch_size=BATCH, verbose=0)
    return time.process_time() - begun


def refit(directions, target, size, count):
    """Fit the amplitudes of the `count` largest contributions anew by least squares: (n, D)."""
    back = np.empty_like(target)
    for at in range(0, len(target), 250):
        rows = slice(at, at + 250)
        which = np.argpartition(-size[rows], count - 1, axis=1)[:, :count]
        on = np.take_along_axis(size[rows], which, axis=1) > 0
        chosen = directions[which] * on[..., None]  # (250, count, D)
        gram = chosen @ chosen.transpose(0, 2, 1) + 1e-4 * np.eye(count, dtype="float32")
        amounts = np.linalg.solve(gram, chosen @ target[rows, :, None])
        back[rows] = (chosen * amounts).sum(axis=1)
    return back


def measure(net, x, count=COUNT):
    """Return the figures by which a code is judged."""
    codes, directions, bias = parts(net, x)
    lengths = np.linalg.norm(directions, axis=1)
    size = codes * lengths
    flat = x.reshape(len(x), -1)
    border = -np.partition(-size, count - 1, axis=1)[:, count - 1 : count]
    few = np.where((size >= border) & (size > 0), codes, 0)
    nonzero = float((codes > 0).sum(axis=1).mean())
    figures = {
        "mse": metrics.mse(flat, codes @ directions + bias),
        "kept": metrics.mse(flat, few @ directions + bias),
        "refit": metrics.mse(flat, refit(directions, flat - bias, size, count) + bias),
        "nonzero": nonzero,
        "visible": float((size > VISIBLE).sum(axis=1).mean()),
        "hoyer": metrics.activity(size)["hoyer"],
        "mean": float(codes.mean()),
        "dead": int((np.ptp(size, axis=0) <= VISIBLE).sum()),
    }
    if nonzero <= 60:  # else the support is no small one
        most = int((codes > 0).sum(axis=1).max())
        figures["own support"] = metrics.mse(flat, refit(directions, flat - bias, size, most) + bias)
    return figures


def selectivity(net, x, labels):
    """Return the mean selectivity of the units that are visible for at least 1 image in 200."""
    codes, directions, _ = parts(net, x)
    size = codes * np.linalg.norm(directions, axis=1)
    size = size[:, (size > VISIBLE).mean(axis=0) >= 0.005]
    if not size.shape[1]:
        return 0.0
    means = np.stack([size[labels == c].mean(axis=0) for c in range(10)], axis=1)
    best = means.max(axis=1)
    rest = (means.sum(axis=1) - best) / 9
    return float(np.mean((best - rest) / (best + rest)))


def probe(net, data, seed, labels):
    """Return the accuracy of a linear probe, in %."""
    draw = np.random.default_rng(seed).permutation(len(data.x_train))[:labels]
    sets = ((data.x_train[draw], data.y_train[draw]), (data.x_val, data.y_val), (data.x_test, data.y_test))
    pairs = ((net.encode(x), y) for x, y in sets)
    return 100 * metrics.linear_probe(*pairs, penalties=(1.0, 0.3, 0.1, 0.03, 0.01), max_iter=60)


def widened(grid, score, *, factor, most=6):
    """Return the setting with the lowest score; the grid grows while that is on its edge."""
    scores = {value: score(value) for value in grid}
    for _ in range(most):
        best = min(scores, key=scores.get)
        if best not in (min(scores), max(scores)):
            break
        beyond = best / factor if best == min(scores) else best * factor
        scores[beyond] = score(beyond)
    return min(scores, key=scores.get)


def at_count(strengths, counts, wanted):
    """Return the strength at which L1 leaves `wanted` numbers, between those that were tried."""
    order = np.argsort(counts)
    logs = np.log(np.array(strengths))[order]
    return float(np.exp(np.interp(math.log(wanted), np.log(np.maximum(counts, 1e-3))[order], logs)))


def main():
    """Run what is not stored yet, and store it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trial", action="store_true", help="tiny runs, to try it out")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "sparse_long.json")
    args = parser.parse_args()
    data = aelib.load("fashion_mnist")
    x, x_val = data.x_train, data.x_val
    sub_size, sub_epochs, rate_epochs, epochs = SUB, SUB_EPOCHS, RATE_EPOCHS, EPOCHS
    if args.trial:
        sub_size, sub_epochs, rate_epochs, epochs = 1024, 1, 1, 1
        x, x_val = x[:2048], x_val[:500]
    runs = Runs(
        args.out,
        {
            "what": "one layer each way, 1,024 units, squared error",
            "epochs": epochs,
            "images": len(x),
            "sub": [sub_size, sub_epochs, rate_epochs],
            "batch": BATCH,
            "device": ledger.device(),
            "data": data.source,
        },
    )
    sub = x[:sub_size]

    def short(kind, seed, epochs, lr, *, only_loss=False, **setting):
        net = build(kind, seed, data.x_train, **setting)
        figures = {"seconds": round(train(net, sub, epochs, lr), 1)}
        terms = net.evaluate(x_val, batch_size=BATCH, verbose=0, return_dict=True)
        figures["loss"] = terms["reconstruction" if kind == "k-sparse" else "loss"]
        return figures if only_loss else figures | measure(net, x_val[:JUDGED])

    def best_rate(kind):
        def loss(rate):
            pair = [
                runs.get(
                    {"part": "rate", "kind": kind, "lr": rate, "seed": seed},
                    lambda seed=seed: short(kind, seed, rate_epochs, rate, only_loss=True, **START[kind]),
                )
                for seed in SEEDS[:2]
            ]
            return np.mean([run["loss"] for run in pair])

        return widened(RATES[kind], loss, factor=3)

    def sweep(kind, name, value, **fixed):
        return runs.get(
            {"part": f"sweep {name}", "kind": kind, name: value} | fixed,
            lambda: short(kind, 0, sub_epochs, rates[kind], **fixed | {name: value}),
        )

    rates = {kind: best_rate(kind) for kind in RATES}
    for count in COUNTS:
        sweep("k-sparse", "count", count)
    by_strength = [sweep("L1", "strength", value)["nonzero"] for value in L1_STRENGTHS]
    strength = at_count(L1_STRENGTHS, by_strength, COUNT)
    weight = widened(
        KL_STRENGTHS, lambda value: sweep("KL", "strength", value, rate=COUNT / UNITS)["refit"], factor=3
    )
    rate = widened(KL_RATES, lambda value: sweep("KL", "rate", value, strength=weight)["refit"], factor=2)
    settings = {
        "k-sparse": {"count": COUNT},
        "L1": {"strength": strength},
        "KL": {"strength": weight, "rate": rate},
    }

    def long(kind, seed, epochs):
        net = build(kind, seed, data.x_train, **settings[kind])
        seconds = train(net, x, epochs, rates[kind])
        left = float((net.encode(x_val) > 0).sum(axis=1).mean())
        figures = {
            "validation": {"mse": metrics.mse(x_val, net.reconstruct(x_val)), "nonzero": left},
            "test": measure(net, data.x_test[:2000] if args.trial else data.x_test),
        }
        figures["selectivity"] = selectivity(net, x_val, data.y_val[: len(x_val)])
        figures["probe"] = probe(net, data, seed, 100 if args.trial else LABELS)
        return figures | {"seconds": round(seconds, 1), "lr": rates[kind]}

    def final(kind, seed, epochs):
        key = {"part": "final", "kind": kind, "seed": seed, "epochs": epochs} | settings[kind]
        return runs.get(key, lambda: long(kind, seed, epochs))

    # Trained longer and on more images, L1 leaves another number: correct its strength once.
    found = final("L1", SEEDS[0], epochs)["validation"]["nonzero"]
    if abs(found / COUNT - 1) > 0.05 and not args.trial:
        settings["L1"]["strength"] = at_count(L1_STRENGTHS, by_strength, COUNT**2 / found)
    runs.stored["settings"] = settings
    plan = [(kind, seed, epochs) for seed in SEEDS for kind in RATES]
    plan[3:3] = [(kind, SEEDS[0], 2 * epochs) for kind in RATES]
    for kind, seed, length in plan:
        final(kind, seed, length)
    for kind, (setting, lr) in OTHERS.items():
        settings[kind], rates[kind] = setting, lr or rates["k-sparse"]
        final(kind, SEEDS[0], epochs)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    main()
