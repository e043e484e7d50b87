"""Train the transformer of `types/masked`, which is too slow for a notebook.

    AELIB_DATA_DIR=... python benchmarks/masked_long.py

Fashion-MNIST, 16 patches of 7 × 7 pixels, tokens of 64 numbers, two blocks in the encoder and one in the
decoder; 20 epochs of all training images, batches of 128, AdamW at 2e-3 along a cosine. What changes from
row to row is the number of hidden patches: none (all pixels count), 4 or 12, with three seeds, but for 4
with one; and one net with 12 has twice the epochs. Each encoder, and an untrained one, is then fine-tuned
on 1,000 labels, with the draws of the chapter and a learning rate of its own. About an hour of processor
time. Every finished run is stored, and a second start goes on after it. The figures go to
``benchmarks/results/masked_long.json``.
"""

import argparse
import json
import math
import os
import time
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops

import aelib
from aelib import likelihoods, metrics
from aelib.book import ledger
from aelib.files import write_atomically
from aelib.layers import PatchMasking

SHAPE, SIDE = (28, 28, 1), 7
GRID = 28 // SIDE
PATCHES = GRID**2
WIDTH, NARROW, DEPTH = 64, 48, 2
EPOCHS, BATCH, RATE, SEEDS = 20, 128, 2e-3, (0, 1, 2)
PER_CLASS, TUNING_EPOCHS, DRAWS, TRIAL = 100, 30, range(5), 100
STARTS = {"untrained": None, "plain": 0, "4 hidden": 4, "12 hidden": 12}


def cut(images):
    """Cut images into patches: (B, 28, 28, 1) -> (B, 16, 49)."""
    cells = ops.reshape(images, (-1, GRID, SIDE, GRID, SIDE))
    return ops.reshape(ops.transpose(cells, (0, 1, 3, 2, 4)), (-1, PATCHES, SIDE**2))


def paste(patches):
    """Put patches together: (B, 16, 49) -> (B, 28, 28, 1)."""
    cells = ops.reshape(patches, (-1, GRID, GRID, SIDE, SIDE))
    return ops.reshape(ops.transpose(cells, (0, 1, 3, 2, 4)), (-1, *SHAPE))


class Hide(layers.Layer):
    """Draws the visible patches: images -> their pixels (B, V, 49), and E (B, V, 16)."""

    def __init__(self, hidden, *, seed=0):
        super().__init__()
        self.visible = PATCHES - hidden
        self.masking = PatchMasking(SIDE, hidden / PATCHES, seed=seed)

    def build(self, shape):
        """Check that patches tile the images."""
        self.masking.build(shape)

    def call(self, images):
        """Return a dict of both."""
        covered = self.masking.mask(images)[:, ::SIDE, ::SIDE, 0]
        order = ops.argsort(ops.reshape(covered, (-1, PATCHES)), axis=1)
        which = ops.one_hot(order[:, : self.visible], PATCHES, dtype="float32")
        return {"patches": ops.matmul(which, cut(images)), "which": which}


def whole(images):
    """Return all patches in their order, and the identity for E."""
    patches = cut(images)
    return {"patches": patches, "which": ops.ones_like(patches[..., :1]) * ops.eye(PATCHES)}


class Places(layers.Layer):
    """Adds a learned vector to every place: (B, 16, N) -> (B, 16, N)."""

    def build(self, shape):
        """Make the table."""
        start = keras.initializers.RandomNormal(stddev=0.02)
        self.table = self.add_weight(shape=shape[1:], initializer=start)

    def call(self, t):
        """Return the sums."""
        return t + self.table


def block(t, width):
    """Return what a transformer block makes of tokens: attention of one head, then two dense layers."""
    h = layers.LayerNormalization(epsilon=1e-5)(t)
    asked, offered, value = (layers.Dense(width, use_bias=False)(h) for _ in range(3))
    scores = ops.matmul(asked, ops.transpose(offered, (0, 2, 1))) / math.sqrt(width)
    t = t + layers.Dense(width)(ops.matmul(ops.softmax(scores), value))
    h = layers.LayerNormalization(epsilon=1e-5)(t)
    return t + layers.Dense(width)(layers.Dense(2 * width, "relu")(h))


def reader():
    """Build the encoder: patches (B, V, 49) and E (B, V, 16) -> tokens (B, V, 64)."""
    patches = keras.Input((None, SIDE**2), name="patches")
    which = keras.Input((None, PATCHES), name="which")
    t = layers.Dense(WIDTH)(patches) + layers.Dense(WIDTH, use_bias=False)(which)
    for _ in range(DEPTH):
        t = block(t, WIDTH)
    t = layers.LayerNormalization(epsilon=1e-5)(t)
    return keras.Model({"patches": patches, "which": which}, t, name="reader")


def encoder(read, hidden, seed):
    """Build images -> tokens of the visible patches, and E."""
    image = keras.Input(SHAPE)
    seen = Hide(hidden, seed=seed)(image) if hidden else whole(image)
    return keras.Model(image, {"tokens": read(seen), "which": seen["which"]}, name="encoder")


def decoder():
    """Build tokens and E -> logits of all pixels."""
    tokens = keras.Input((None, WIDTH), name="tokens")
    which = keras.Input((None, PATCHES), name="which")
    t = ops.matmul(ops.transpose(which, (0, 2, 1)), layers.Dense(NARROW)(tokens))
    t = layers.LayerNormalization(epsilon=1e-5)(block(Places()(t), NARROW))
    image = paste(layers.Dense(SIDE**2, name="raw")(t))
    return keras.Model({"tokens": tokens, "which": which}, image, name="decoder")


class MaskedAutoencoder(aelib.Autoencoder):
    """An autoencoder that is charged for the hidden patches alone."""

    def terms(self, target, out):
        """Return the cross-entropy of the hidden pixels."""
        seen = ops.sum(out["code"]["which"], axis=1)
        seen = paste(ops.repeat(seen[..., None], SIDE**2, axis=-1))
        wanted = ops.where(seen > 0.5, math.nan, target)
        return {"reconstruction": self.likelihood.nll(wanted, out["reconstruction"])}


def pretrained(x, hidden, seed, epochs):
    """Return a trained net and the processor seconds that it took."""
    keras.utils.set_random_seed(seed)
    parts = encoder(reader(), hidden, seed), decoder()
    if hidden:
        net = MaskedAutoencoder(*parts, likelihood=likelihoods.Masked("bernoulli"))
    else:
        net = aelib.Autoencoder(*parts)
    steps = epochs * math.ceil(len(x) / BATCH)
    warm_up = max(1, steps // 20)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - warm_up), warmup_target=RATE, warmup_steps=warm_up
    )
    net.compile(keras.optimizers.AdamW(rate, weight_decay=0.01), jit_compile=True)  # three times as quick
    begun = time.process_time()
    net.fit(x, epochs=epochs, batch_size=BATCH, verbose=0)
    return net, time.process_time() - begun


def fill_error(net, x, hidden=12, count=40):
    """Return the mean squared error per hidden pixel, with the chapter's forty masks."""
    rng = np.random.default_rng(0)
    masks = np.stack([rng.permutation(PATCHES) >= hidden for _ in range(count)])
    which = np.stack([np.eye(PATCHES, dtype="float32")[mask] for mask in masks])
    which = which[np.arange(len(x)) % count]
    read, answers = net.encoder.get_layer("reader"), []
    for at in range(0, len(x), 1000):
        rows = ops.convert_to_tensor(which[at : at + 1000])
        tokens = read({"patches": ops.matmul(rows, cut(x[at : at + 1000])), "which": rows})
        answers.append(ops.convert_to_numpy(ops.sigmoid(net.decoder({"tokens": tokens, "which": rows}))))
    seen = np.asarray(paste(np.repeat(which.sum(axis=1)[..., None], SIDE**2, axis=-1))) > 0.5
    return metrics.mse(x, np.concatenate(answers), mask=~seen)


def draw(labels, seed):
    """Return the row numbers of a labelled draw, as in the chapter."""
    rng = np.random.default_rng(seed)
    members = (np.flatnonzero(labels[:10_000] == c) for c in range(10))
    return np.concatenate([rng.choice(rows, PER_CLASS, replace=False) for rows in members])


class Classifier:
    """Encoder, mean of its tokens, ten logits; compiled once, and rewound before each run."""

    def __init__(self, data, epochs):
        self.data, self.epochs = data, epochs
        image, self.read = keras.Input(SHAPE), reader()
        self.head = layers.Dense(10, kernel_initializer="zeros")
        self.net = keras.Model(image, self.head(layers.GlobalAveragePooling1D()(self.read(whole(image)))))
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.net.compile(keras.optimizers.AdamW(1e-3, weight_decay=0.01), loss, jit_compile=True)
        self.net.optimizer.build(self.net.trainable_variables)
        self.state = [variable.numpy() for variable in self.net.optimizer.variables]

    def run(self, weights, seed, rate, x, y):
        """Fine-tune on the draw of this seed; return the percentage of `y` that it gets right."""
        keras.utils.set_random_seed(seed)
        self.read.set_weights(weights)
        self.head.set_weights([np.zeros((WIDTH, 10)), np.zeros(10)])
        for variable, value in zip(self.net.optimizer.variables, self.state, strict=True):
            variable.assign(value)
        rows, epochs = draw(self.data.y_train, seed), self.epochs

        def schedule(epoch):
            rise = min(1.0, (epoch + 1) / max(1, epochs // 10))
            return rate * rise * 0.5 * (1 + math.cos(math.pi * epoch / epochs))

        self.net.fit(
            self.data.x_train[rows],
            self.data.y_train[rows],
            batch_size=50,
            epochs=epochs,
            callbacks=[keras.callbacks.LearningRateScheduler(schedule)],
            verbose=0,
        )
        answers = self.net.predict(x, batch_size=1000, verbose=0).argmax(axis=1)
        return 100 * float(np.mean(answers == y))

    def best_rate(self, weights):
        """Return the rate that does best on 2,000 validation images, and the score of every try."""
        x, y = self.data.x_val[:2000], self.data.y_val[:2000]
        scores = {rate: self.run(weights, TRIAL, rate, x, y) for rate in (1e-3 / 3, 1e-3, 3e-3)}
        while len(scores) < 8:
            best = max(scores, key=scores.get)
            if best not in (min(scores), max(scores)):
                break
            rate = best / 3 if best == min(scores) else best * 3
            scores[rate] = self.run(weights, TRIAL, rate, x, y)
        return max(scores, key=scores.get), dict(sorted(scores.items()))


def main():
    """Run what is not stored yet, and store it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--tuning-epochs", type=int, default=TUNING_EPOCHS)
    parser.add_argument(
        "--images", type=int, default=None, help="pretrain on the first so many, to try it out"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "masked_long.json")
    args = parser.parse_args()
    data = aelib.load("fashion_mnist")
    x = data.x_train[: args.images]
    stored = {
        "what": "transformer, 16 patches, tokens of 64, 2 + 1 blocks",
        "epochs": args.epochs,
        "images": len(x),
        "seeds": SEEDS,
        "parameters": [reader().count_params(), decoder().count_params()],
        "device": ledger.device(),
        "data": data.source,
        "rates": {},
        "runs": [],
    }
    if args.out.is_file():
        stored |= json.loads(args.out.read_text("utf-8"))
    if (stored["epochs"], stored["images"]) != (args.epochs, len(x)):
        raise SystemExit(f"{args.out} has other settings: move it away")
    wanted = [(start, SEEDS[0], args.epochs) for start in STARTS]
    wanted += [(start, seed, args.epochs) for seed in SEEDS[1:] for start in STARTS if start != "4 hidden"]
    wanted.append(("12 hidden", SEEDS[0], 2 * args.epochs))
    done = {(run["start"], run["seed"], run["epochs"]) for run in stored["runs"]}
    classifier = Classifier(data, args.tuning_epochs)
    for start, seed, epochs in wanted:
        if (start, seed, epochs) in done:
            continue
        if start == "untrained":
            keras.utils.set_random_seed(1000 + seed)
            weights, fill, seconds = reader().get_weights(), None, 0.0
        else:
            net, seconds = pretrained(x, STARTS[start], seed, epochs)
            weights = net.encoder.get_layer("reader").get_weights()
            fill = fill_error(net, data.x_test)
        if start not in stored["rates"]:
            best, tries = classifier.best_rate(weights)
            stored["rates"][start] = {
                "best": best,
                "tries": {f"{r:.2g}": score for r, score in tries.items()},
            }
        rate = stored["rates"][start]["best"]
        tuned = [classifier.run(weights, i, rate, data.x_test, data.y_test) for i in DRAWS]
        run = {"start": start, "seed": seed, "epochs": epochs, "fill": fill, "tuned": tuned}
        stored["runs"].append(run | {"seconds": round(seconds, 1)})
        args.out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(args.out, json.dumps(stored, indent=1, ensure_ascii=False) + "\n")
        print(json.dumps(stored["runs"][-1]), flush=True)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    main()
