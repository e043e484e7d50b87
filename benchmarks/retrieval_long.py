"""Compare ways to write an image in 4 to 32 bytes, for `applications/retrieval`.

    AELIB_DATA_DIR=... python benchmarks/retrieval_long.py --codes
    AELIB_DATA_DIR=... python benchmarks/retrieval_long.py

Fashion-MNIST. The first call trains dense autoencoders, 784-512-256-K and back, and stores their codes below
``_build/retrieval_codes``, a file a net: numbers of K = 4 to 64 with 256 steps each, bits of four recipes.
Learning rates, the strength of the noise and the recipe are chosen by precision at 10 on validation images.
Seed 0 of everything comes before seed 1. It needs no FAISS, and runs on TensorFlow or JAX: as much as 60 nets
of 20 epochs, some 90 minutes of one core or 10 of a GPU. To bring 55 MB of codes from one machine to another:
``tar cf - -C _build --exclude tries retrieval_codes | split -b 15M``.

The second call needs FAISS and no GPU, and takes about two hours of one core, by estimate. It takes numbers,
of PCA or of a net, turns them to their principal axes, divides them by s**weight (s: the standard deviation
along an axis), and writes them in bits: levels for each number, an optimised product quantizer, or signs
after ITQ's rotation. Settings are chosen on 2,000 validation queries against 55,000 training images, with
seed 0, and tested with 10,000 test queries (P(10)) and the first 1,000 (mAP) against all 60,000, with three
seeds. A row without codes is left out. Every finished run is stored, and a second start goes on after it. The
figures go to ``benchmarks/results/retrieval_long.json``.
"""

import argparse
import json
import math
import os
import time
from pathlib import Path

import keras
import numpy as np
from keras import ops
from sklearn.decomposition import PCA

import aelib
from aelib import blocks
from aelib.book import ledger
from aelib.book.runs import Runs
from aelib.retrieval import ITQ, Index, binarize, mean_average_precision, precision_at_k

ROOT = Path(__file__).resolve().parent.parent
HIDDEN, BATCH, EPOCHS, SEEDS = (512, 256), 256, 20, (0, 1, 2)
SIZES, HASH_SIZES, MIDDLE = (4, 8, 16, 32, 64), (32, 64, 128, 256), 64
RECIPES, NOISES = ("balanced", "rounding", "noise", "sigmoid"), (0.75, 1.5, 3.0)
RATES = (1e-3, 3e-3, 1e-2)
BUDGETS = (8, 4, 16, 32)  # bytes; the one that is looked at most closely comes first
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)  # all there is between none and full whitening
COMPONENTS, PRODUCT_SIZES = 256, (16, 32, 64, 128)
JUDGED, RANKED = 2000, 1000  # validation queries; test queries of full rankings


class Round(keras.layers.Layer):
    """0 or 1 forwards, a sigmoid for the gradient."""

    def call(self, a):
        """Round numbers to bits: (B, K) -> (B, K)."""
        soft = ops.sigmoid(a)
        hard = ops.cast(a > 0, soft.dtype)
        return soft + ops.stop_gradient(hard - soft)


def build(recipe, size, seed, noise=0.0):
    """Return a dense autoencoder with a code of numbers, or of bits by a recipe."""
    keras.utils.set_random_seed(seed)
    encoder = blocks.dense_encoder((784,), size, hidden=HIDDEN, activation="silu")
    if recipe == "balanced":
        encoder.add(keras.layers.BatchNormalization(center=False, scale=False))
    if recipe == "noise":
        encoder.add(aelib.layers.GaussianNoise(noise, clip=False, seed=seed))
    if recipe in ("balanced", "rounding"):
        encoder.add(Round())
    elif recipe != "numbers":
        encoder.add(keras.layers.Activation("sigmoid"))
    decoder = blocks.dense_decoder((784,), size, hidden=HIDDEN[::-1], activation="silu")
    return aelib.Autoencoder(encoder, decoder)


def load_data(trial):
    """Return images as rows, and labels: train, validation, test."""
    data = aelib.load("fashion_mnist")
    sizes = (3000, 300, 300) if trial else (None, None, None)
    images = (data.x_train, data.x_val, data.x_test)
    labels = (data.y_train, data.y_val, data.y_test)
    return [x[:n].reshape(-1, 784) for x, n in zip(images, sizes, strict=True)], [
        y[:n] for y, n in zip(labels, sizes, strict=True)
    ]


def file_of(recipe, size, seed, epochs):
    """Return the name of the file with a net's codes."""
    return f"{recipe}-{size}-{seed}-{epochs}.npz"


def store_numbers(codes, path):
    """Keep numbers with 256 steps between the extremes of each."""
    low, high = codes.min(axis=0), codes.max(axis=0)
    step = np.maximum(high - low, 1e-9) / 255
    np.savez(path, codes=np.rint((codes - low) / step).astype(np.uint8), low=low, step=step)


def read_codes(path):
    """Return what a net made of train, validation and test images: numbers, or packed bits."""
    with np.load(path) as file:
        if "low" not in file:
            return file["codes"]
        return (file["low"] + file["step"] * file["codes"]).astype("float32")


def bits_of(net, x):
    """Return a net's bits, packed."""
    return binarize(net.encode(x), 0.5)


class Training:
    """Trains nets and stores their codes."""

    def __init__(self, folder, trial):
        self.folder, self.trial = folder, trial
        self.epochs = 1 if trial else EPOCHS
        self.images, self.labels = load_data(trial)
        self.everything = np.concatenate(self.images)
        settings = {"epochs": self.epochs, "images": len(self.images[0]), "batch": BATCH, "hidden": [*HIDDEN]}
        settings["device"] = ledger.device()
        self.runs = Runs(folder / "runs.json", settings)
        self.rates, self.noise, self.best = {}, NOISES[1], "balanced"

    def precision(self, codes, kind):
        """P(10) on validation queries of codes of all images."""
        n, wanted = len(self.images[0]), self.labels[1][:JUDGED]
        found = Index(kind).fit(codes[:n]).search(codes[n : n + len(wanted)], 10)[1]
        return precision_at_k(self.labels[0], wanted, found)

    def net(self, recipe, size, seed, *, lr=None, noise=None, times=1):
        """Train a net, store its codes, return its figures."""
        noise = (self.noise if noise is None else noise) if recipe == "noise" else 0.0
        lr = lr or self.rates["numbers" if recipe == "numbers" else "bits"]
        key = {"part": "net", "recipe": recipe, "size": size, "seed": seed}
        key |= {"lr": lr, "noise": noise, "epochs": times * self.epochs}
        return self.runs.get(key, lambda: self.compute(**key))

    def compute(self, *, recipe, size, seed, lr, noise, epochs, part):
        """Train one net."""
        x_train, x_val, _ = self.images
        net = build(recipe, size, seed, noise)
        schedule = keras.optimizers.schedules.CosineDecay(lr, epochs * math.ceil(len(x_train) / BATCH))
        net.compile(keras.optimizers.Adam(schedule))
        begun = time.perf_counter()
        net.fit(x_train, epochs=epochs, batch_size=BATCH, verbose=0)
        seconds = time.perf_counter() - begun
        figures = {"seconds": round(seconds, 1)}
        codes = net.encode(x_val)
        figures["mse"] = float(np.square(x_val - net.decode(codes)).mean())
        if recipe == "numbers":
            codes = net.encode(self.everything)
            stored = codes
            figures["precision"] = self.precision(codes, "exact")
        else:
            hard = (codes > 0.5).astype("float32")
            figures["mse of bits"] = float(np.square(x_val - net.decode(hard)).mean())
            stored = bits_of(net, self.everything)
            ones = np.unpackbits(stored[: len(x_train)], axis=1).mean(axis=0)
            figures["dead"] = int(np.sum((ones < 0.01) | (ones > 0.99)))
            certain = np.clip(np.stack([ones, 1 - ones]), 1e-12, 1)
            figures["entropy"] = float(-(certain * np.log2(certain)).sum())
            figures["precision"] = self.precision(stored, "binary")
        path = self.tried(lr, noise, recipe, size, seed, epochs)
        path.parent.mkdir(parents=True, exist_ok=True)
        if recipe == "numbers":
            store_numbers(stored, path)
        else:
            np.savez(path, codes=stored)
        return figures

    def tried(self, lr, noise, *name):
        """Return where the codes of a net are until its settings are chosen."""
        return self.folder / "tries" / f"{lr:g}-{noise:g}-{file_of(*name)}"

    def choose(self, name, grid, score, factor):
        """Return the setting of the highest score; the grid grows while that is on its edge."""
        scores = {value: score(value) for value in grid}
        for _ in range(0 if self.trial else 3):
            best = max(scores, key=scores.get)
            if best not in (min(scores), max(scores)):
                break
            beyond = best / factor if best == min(scores) else best * factor
            scores[beyond] = score(beyond)
        best = max(scores, key=scores.get)
        self.runs.stored.setdefault("choices", {})[name] = {f"{k:g}": v for k, v in sorted(scores.items())}
        self.runs.save()
        return best

    def chosen(self, *name):
        """Give the codes of the chosen settings their plain name."""
        recipe = name[0]
        lr = self.rates["numbers" if recipe == "numbers" else "bits"]
        noise = self.noise if recipe == "noise" else 0.0
        path = self.tried(lr, noise, *name)
        if path.is_file():
            path.replace(self.folder / file_of(*name))

    def final(self, recipe, size, seed, times=1):
        """Train a net of the comparison."""
        self.net(recipe, size, seed, times=times)
        self.chosen(recipe, size, seed, times * self.epochs)

    def all(self):
        """Train everything, the most important first."""
        two = SEEDS[:1] if self.trial else SEEDS[:2]

        def mean(recipe, size, **setting):
            return np.mean([self.net(recipe, size, seed, **setting)["precision"] for seed in two])

        rates = RATES[:1] if self.trial else RATES
        self.rates["numbers"] = self.choose("rate of numbers", rates, lambda v: mean("numbers", 8, lr=v), 3)
        self.rates["bits"] = self.choose("rate of bits", rates, lambda v: mean("balanced", MIDDLE, lr=v), 3)
        noises = NOISES[:1] if self.trial else NOISES
        self.noise = self.choose("noise", noises, lambda v: mean("noise", MIDDLE, noise=v), 2)
        for seed in SEEDS:
            for size in SIZES:
                self.final("numbers", size, seed)
            for recipe in RECIPES:
                self.final(recipe, MIDDLE, seed)
            if seed == SEEDS[0]:
                scores = {recipe: mean(recipe, MIDDLE) for recipe in RECIPES}
                self.best = max(scores, key=scores.get)
                self.runs.stored |= {"rates": self.rates, "noise": self.noise, "recipe": self.best}
                self.runs.stored["choices"]["recipe"] = scores
                self.runs.save()
            for size in HASH_SIZES:
                self.final(self.best, size, seed)
            if seed == SEEDS[0]:
                for size in SIZES[1:]:  # whichever the comparison will choose
                    self.final("numbers", size, seed, times=2)
                self.final(self.best, MIDDLE, seed, times=2)


def axes(codes, weight):
    """Return the function that turns codes to principal axes and divides by s**weight."""
    pca = PCA(svd_solver="covariance_eigh").fit(codes)
    spread = np.sqrt(np.maximum(pca.explained_variance_, 1e-12))
    matrix = pca.components_.T / spread**weight
    return lambda z: ((z - pca.mean_) @ matrix).astype("float32")


def levels(codes, bits, rounds=15):
    """Return the 2**bits levels of each number with the least squared error: (n, K) -> (K, 2**bits).

    Lloyd's rounds from the quantiles.
    """
    codes = codes[:20_000]
    found = np.quantile(codes, (np.arange(2**bits) + 0.5) / 2**bits, axis=0).T  # (K, 2**bits)
    for column, values in zip(found, codes.T, strict=True):
        for _ in range(rounds):
            nearest = np.searchsorted((column[1:] + column[:-1]) / 2, values)
            count = np.bincount(nearest, minlength=len(column))
            total = np.bincount(nearest, values, minlength=len(column))
            column[:] = np.where(count > 0, total / np.maximum(count, 1), column)
    return found.astype("float32")


def rounded(codes, to):
    """Replace each number by its nearest level."""
    columns = [
        column[np.searchsorted((column[1:] + column[:-1]) / 2, values)]
        for column, values in zip(to, codes.T, strict=True)
    ]
    return np.stack(columns, axis=1)


class Levels:
    """Numbers rounded to levels, compared with queries that are not."""

    def __init__(self, codes, bits):
        to = levels(codes[0], bits)
        self.codes = rounded(np.concatenate(codes), to)
        self.bytes = self.codes.shape[1] * bits / 8
        self.index, self.squares = Index().fit(self.codes), np.square(self.codes).sum(axis=1)

    def search(self, queries, k):
        """Return the k nearest."""
        return self.index.search(queries, k)[1]

    def ranking(self, queries):
        """Return all codes in order."""
        return np.argsort(self.squares - 2 * queries @ self.codes.T, axis=1)


class Bits:
    """Packed bits, compared by counting; of equally distant ones the first comes first."""

    def __init__(self, codes):
        self.codes = np.concatenate(codes)
        self.bytes, self.index = self.codes.shape[1], Index("binary").fit(self.codes)

    def search(self, queries, k):
        """Return the k nearest."""
        return self.index.search(queries, k)[1]

    def ranking(self, queries):
        """Return all codes in order."""
        apart = (np.bitwise_count(self.codes ^ query).sum(axis=1, dtype=np.int32) for query in queries)
        return np.stack([np.argsort(row, kind="stable") for row in apart])


class Products:
    """An optimised product quantizer, fitted to the first part of the codes."""

    def __init__(self, codes, parts, bits, seed):
        # FAISS draws its first centres by the order of the rows: another order is another seed.
        self.order = np.arange(sum(map(len, codes)))
        if seed:
            count = len(codes[0])
            self.order[:count] = np.random.default_rng(seed).permutation(count)
        self.index = Index("opq", M=parts, nbits=bits).fit(codes[0][self.order[: len(codes[0])]])
        for more in codes[1:]:
            self.index.add(more)
        self.bytes = parts * bits / 8

    def search(self, queries, k):
        """Return the k nearest."""
        return self.order[self.index.search(queries, k)[1]]

    def ranking(self, queries):
        """Return all codes in order."""
        return self.search(queries, len(self.order))


class Measurement:
    """Writes codes in bits and measures the search."""

    def __init__(self, folder, out, trial):
        self.folder, self.trial = folder, trial
        self.images, self.labels = load_data(trial)
        self.training = json.loads((folder / "runs.json").read_text("utf-8"))
        self.epochs = self.training["epochs"]
        if not trial and self.training["images"] != len(self.images[0]):
            raise SystemExit(f"{folder} is of {self.training['images']} images: a trial")
        settings = {"what": "P(10) and mAP at equal bytes", "judged": JUDGED, "ranked": RANKED}
        settings |= {"device": ledger.device(), "images": len(self.images[0])}
        self.runs = Runs(out, settings)
        self.runs.stored["training"] = self.training
        self.pca = PCA(COMPONENTS, svd_solver="covariance_eigh").fit(self.images[0])
        self.projected = [self.pca.transform(x).astype("float32") for x in self.images]

    # Codes of train, validation and test images

    def numbers(self, source, size, seed, epochs=None):
        """Return the numbers of PCA or of a net, or None where its codes are missing."""
        if source == "PCA":
            return [z[:, :size] for z in self.projected]
        return self.net_codes("numbers", size, seed, epochs)

    def net_codes(self, recipe, size, seed, epochs=None):
        """Return a net's codes in three parts, or None."""
        path = self.folder / file_of(recipe, size, seed, epochs or self.epochs)
        if not path.is_file():
            return None
        cuts = np.cumsum([len(x) for x in self.images[:2]])
        return np.split(read_codes(path), cuts)

    def written(self, source, writing, budget, seed, *, size, weight, bits, epochs=None):
        """Return the kind of store, and the codes of train, validation and test; None without codes."""
        if writing == "learnt bits":
            codes = self.net_codes(self.training["recipe"], 8 * budget, seed, epochs)
            return None if codes is None else ("binary", codes)
        if writing == "hyperplanes":
            planes = np.random.default_rng(seed).standard_normal((784, 8 * budget)).astype("float32")
            return "binary", [binarize((x - self.pca.mean_) @ planes) for x in self.images]
        if writing == "signs":
            return "binary", [binarize(z[:, : 8 * budget]) for z in self.projected]
        codes = self.numbers(source, size, seed, epochs)
        if codes is None:
            return None
        if writing == "ITQ":
            turn = ITQ(8 * budget, whiten=weight, seed=seed).fit(codes[0][:10_000])
            return "binary", [binarize(turn.transform(z)) for z in codes]
        turn = axes(codes[0], weight)
        return writing, [turn(z) for z in codes]

    def store_of(self, kind, codes, budget, seed, bits):
        """Return the store of a method with these codes in it."""
        if kind == "binary":
            return Bits(codes)
        if kind == "levels":
            return Levels(codes, bits)
        return Products(codes, budget, 4 if self.trial else 8, seed)

    def judge(self, source, writing, budget, setting):
        """P(10) on validation queries with seed 0; -1 without codes."""
        if self.run_is_missing(source, setting["size"]):
            return -1.0
        key = {"part": "try", "source": source, "writing": writing, "bytes": budget} | setting

        def compute():
            kind, codes = self.written(source, writing, budget, 0, **setting)
            store = self.store_of(kind, codes[:1], budget, 0, setting["bits"])
            found = store.search(codes[1][:JUDGED], 10)
            return {"precision": precision_at_k(self.labels[0], self.labels[1][:JUDGED], found)}

        return self.runs.get(key, compute)["precision"]

    def run_is_missing(self, source, size):
        """Whether the codes of seed 0 that a try needs are not there."""
        return source == "net" and not (self.folder / file_of("numbers", size, 0, self.epochs)).is_file()

    def best(self, source, writing, budget):
        """Choose the setting of a method on validation queries."""
        free = {"size": 0, "weight": 0.0, "bits": 0}
        if writing in ("signs", "hyperplanes", "learnt bits"):
            return free
        grid = []
        if writing == "ITQ":
            sizes = [8 * budget] if source == "PCA" else [s for s in SIZES if s >= 8 * budget]
            grid = [free | {"size": size, "weight": w} for size in sizes for w in WEIGHTS]
        elif writing == "levels":
            pairs = [(8 * budget // bits, bits) for bits in range(1, 9)]
            if source == "net":
                pairs = [(size, 8 * budget // size) for size in SIZES if 1 <= 8 * budget // size <= 8]
            pairs = [(size, bits) for size, bits in pairs if 2 <= size <= COMPONENTS]
            grid = [{"size": s, "weight": w, "bits": b} for s, b in pairs for w in WEIGHTS]
        else:
            sizes = PRODUCT_SIZES if source == "PCA" else SIZES[1:]
            grid = [free | {"size": size} for size in sizes if size >= budget]
        scores = [self.judge(source, writing, budget, setting) for setting in grid]
        if not scores or max(scores) < 0:
            return None
        if writing == "opq":
            self.widen(grid, scores, source, budget)
        return grid[int(np.argmax(scores))]

    def widen(self, grid, scores, source, budget):
        """Add settings of OPQ, which takes its time: more components, and weights while they gain."""

        def add(setting):
            grid.append(setting)
            scores.append(self.judge(source, "opq", budget, setting))

        if source == "PCA" and np.argmax(scores) == len(scores) - 1 and not self.trial:
            add(grid[-1] | {"size": COMPONENTS})
        best = grid[int(np.argmax(scores))]
        for weight in WEIGHTS[1:]:
            before = max(scores)
            add(best | {"weight": weight})
            if scores[-1] < before:
                break

    def test(self, source, writing, budget, seed, epochs=None):
        """Measure a method at its best setting on the test images."""
        setting = self.best(source, writing, budget)
        if setting is None:
            return
        key = {"part": "test", "source": source, "writing": writing, "bytes": budget, "seed": seed}
        key |= {"epochs": (epochs or self.epochs) if source == "net" else 0}
        if self.runs.find(key):
            return
        begun = time.process_time()
        ready = self.written(source, writing, budget, seed, **setting, epochs=epochs)
        if ready is not None:
            self.runs.get(key, lambda: setting | self.figures(ready, budget, seed, setting["bits"], begun))

    def figures(self, ready, budget, seed, bits, begun):
        """P(10) of all test queries and mAP of the first, with the standard errors over queries."""
        kind, codes = ready
        labels, wanted = np.concatenate(self.labels[:2]), self.labels[2]
        store = self.store_of(kind, codes[:2], budget, seed, bits)
        right = (labels[store.search(codes[2], 10)] == wanted[:, None]).mean(axis=1)
        values = []
        for at in range(0, len(wanted[:RANKED]), 50):
            order = store.ranking(codes[2][at : at + 50])
            pairs = zip(wanted[at : at + 50], order, strict=True)
            values += [mean_average_precision(labels, label[None], row[None]) for label, row in pairs]
        return {
            "precision": float(right.mean()),
            "precision error": float(right.std(ddof=1) / len(right) ** 0.5),
            "map": float(np.mean(values)),
            "map error": float(np.std(values, ddof=1) / len(values) ** 0.5),
            "bytes a code": float(store.bytes),
            "seconds": round(time.process_time() - begun, 1),
        }

    def pixels(self):
        """Measure the 784 pixels themselves, by distance or by angle."""

        def score(cosine):
            index = Index(cosine=cosine).fit(self.images[0])
            found = index.search(self.images[1][:JUDGED], 10)[1]
            return precision_at_k(self.labels[0], self.labels[1][:JUDGED], found)

        def compute():
            scores = {"distance": score(False), "angle": score(True)}
            images = self.images
            if scores["angle"] > scores["distance"]:
                images = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in images]
            labels, everything = np.concatenate(self.labels[:2]), np.concatenate(images[:2])
            found = Index().fit(everything).search(images[2], 10)[1]
            values = []
            for at in range(0, len(self.labels[2][:RANKED]), 100):
                asked, wanted = images[2][at : at + 100], self.labels[2][at : at + 100]
                order = np.argsort(np.square(everything).sum(axis=1) - 2 * asked @ everything.T, axis=1)
                values.append(mean_average_precision(labels, wanted, order))
            figures = {"precision": precision_at_k(labels, self.labels[2], found)}
            return figures | {"validation": scores, "map": float(np.mean(values)), "bytes a code": 784.0}

        self.runs.get({"part": "test", "source": "pixels", "writing": "784 bytes"}, compute)

    def all(self):
        """Measure everything, the most important first."""
        self.pixels()
        methods = [("PCA", "levels"), ("PCA", "opq"), ("PCA", "ITQ"), ("net", "levels"), ("net", "opq")]
        methods += [("net", "ITQ"), ("net", "learnt bits"), ("PCA", "signs"), ("pixels", "hyperplanes")]
        fixed = [("PCA", "levels"), ("PCA", "signs")]  # nothing in them is drawn
        budgets = BUDGETS[:2] if self.trial else BUDGETS
        for seed in SEEDS:
            for budget in budgets:
                for source, writing in methods:
                    if seed == SEEDS[0] or (source, writing) not in fixed:
                        self.test(source, writing, budget, seed)
            if seed == SEEDS[0]:  # twice the epochs, at the settings of the usual ones
                for writing in ("levels", "opq", "learnt bits"):
                    self.test("net", writing, BUDGETS[0], seed, epochs=2 * self.epochs)


def main():
    """Run what is not stored yet, and store it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--codes", action="store_true", help="train the nets and store their codes")
    parser.add_argument("--trial", action="store_true", help="tiny runs, to try it out")
    parser.add_argument("--folder", type=Path, default=ROOT / "_build" / "retrieval_codes")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "retrieval_long.json")
    args = parser.parse_args()
    if args.codes:
        Training(args.folder, args.trial).all()
    else:
        Measurement(args.folder, args.out, args.trial).all()


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    main()
