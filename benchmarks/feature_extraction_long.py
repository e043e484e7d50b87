"""Measure what `applications/feature_extraction` compares, with five draws and three seeds.

    AELIB_DATA_DIR=... python benchmarks/feature_extraction_long.py --part patches
    AELIB_DATA_DIR=... python benchmarks/feature_extraction_long.py --part nets

Fashion-MNIST; 10, 100, 1,000 and all labels; a logistic regression on frozen features, whose penalty is
chosen for each kind of features and each number of labels on validation images.

``patches`` compares pixels, PCA-256, histograms of oriented gradients (HOG, PCA-256) and codes of patches
(PCA-256), whose dictionary is learned, made of random patches, or of random directions. Settings of HOG and
of each code are chosen on validation with 1,000 labels. Draw i has the dictionary of seed i, and the same
labelled images for all kinds. NumPy and scikit-learn do most of it: about 40 minutes of one core.

``nets`` pretrains a convolutional encoder (not at all, as a plain autoencoder, as a denoising one; three
seeds) and fine-tunes it, every start on the same images in the same 50 shifted and flipped versions, each
start with a learning rate of its own. It is meant for a GPU: about 400,000 small steps.

Every finished run is stored, and a second start goes on after it. The figures go to
``benchmarks/results/feature_extraction_patches.json`` and ``feature_extraction_nets.json``.
"""

import argparse
import math
import os
import time
import warnings
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops
from scipy.sparse import csr_matrix
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

import aelib
from aelib import blocks, metrics
from aelib.book import ledger
from aelib.book.runs import Runs
from aelib.layers import GaussianNoise

ROOT = Path(__file__).resolve().parent.parent
SHAPE, CODE, CLASSES = (28, 28, 1), 256, 10
DRAWS, TRIALS, SEEDS = range(5), (100, 101), (0, 1, 2)
LABELS = (10, 100, 1000, "all")
PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0, 1e3, 1e4)
FITTED_ON = 10_000  # images that the PCA of large features is fitted on

# The codes of patches.
SIDE, UNITS, PATCHES, ROUNDS, WHITENING = 6, 200, 200_000, 20, 0.1
THRESHOLDS, CONTRASTS = (0.5, 1.0, 2.0), (1e-3, 1e-2, 1e-1)
CELLS, FLOORS = (2, 4, 7, 14), (0.01, 0.1, 1.0)
DICTIONARIES = ("learned", "random patches", "random directions")

# The nets. Labels: (epochs over all versions of the labelled images, batch).
PRETRAINING = {"plain": 0.0, "denoising": 0.3}  # standard deviation of the noise
PRE_EPOCHS, PRE_BATCH, PRE_RATE = 20, 128, 2e-3
TUNING = {10: (30, 50), 100: (8, 50), 1000: (4, 100), "all": (10, 128)}
RATES = (1e-4, 3e-4, 1e-3, 3e-3)
REACH, VERSIONS = 2, 50  # shifts of at most 2 pixels each way, 25 of them, and their mirror images


def draw(labels, count, seed):
    """Return the row numbers of `count` images, as many of each class; of all images for "all"."""
    if count == "all":
        return np.arange(len(labels))
    rng = np.random.default_rng(seed)
    members = (np.flatnonzero(labels == c) for c in range(CLASSES))
    return np.concatenate([rng.choice(rows, count // CLASSES, replace=False) for rows in members])


def flat(images):
    """Return images as rows of pixels."""
    return images.reshape(len(images), -1)


# --- probes ---------------------------------------------------------------------------------------------


class Probe:
    """A logistic regression on frozen features, all divided by one number."""

    def __init__(self, data, train, val, test):
        mean, scale = train.mean(axis=0), math.sqrt(train.var(axis=0).mean())
        self.data = data
        self.train, self.val, self.test = ((z - mean) / scale for z in (train, val, test))

    def fit(self, rows, penalty):
        """Return a probe trained on the labelled `rows`."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return LogisticRegression(C=1 / penalty, max_iter=300).fit(
                self.train[rows], self.data.y_train[rows]
            )

    def score(self, count, seeds, penalty, *, on="test"):
        """Return the percentage of labels that each draw's probe gets right."""
        z, y = (self.test, self.data.y_test) if on == "test" else (self.val, self.data.y_val)
        return [100 * self.fit(draw(self.data.y_train, count, s), penalty).score(z, y) for s in seeds]

    def best_penalty(self, count):
        """Return the penalty that does best on validation images, and the score of every try."""
        seeds = TRIALS if count != "all" else TRIALS[:1]
        grid = PENALTIES if count != "all" else (1.0, 10.0, 100.0)

        def score(penalty):
            return float(np.mean(self.score(count, seeds, penalty, on="validation")))

        return widened(grid, score, factor=10.0)


def widened(grid, score, *, factor, most=4):
    """Return the setting with the highest score and all tries; the grid grows while that is on its edge."""
    scores = {value: score(value) for value in grid}
    for _ in range(most):
        best = max(sorted(scores), key=scores.get)  # of equal ones the smallest
        if best not in (min(scores), max(scores)):
            break
        beyond = best / factor if best == min(scores) else best * factor
        scores[beyond] = score(beyond)
    return max(sorted(scores), key=scores.get), {f"{v:.3g}": s for v, s in sorted(scores.items())}


# --- features without a net -----------------------------------------------------------------------------


def in_pieces(function, images, size=5000):
    """Apply `function` to `size` images at a time."""
    return np.concatenate([function(images[i : i + size]) for i in range(0, len(images), size)])


def oriented_gradients(images, cell=4, floor=0.1, bins=9):
    """Histograms of oriented gradients of square images: (n, 28, 28, 1) -> (n, features)."""
    down, right = np.gradient(images[..., 0], axis=(1, 2))
    size = np.hypot(down, right)
    angle = np.arctan2(down, right) % np.pi * bins / np.pi  # 0 to 9: nine directions
    count = images.shape[1] // cell
    cells = np.zeros((len(images), count, count, bins), "float32")
    for b in range(bins):
        away = np.abs(angle - b)  # a direction between two bins counts for both, by its nearness
        share = np.maximum(1 - np.minimum(away, bins - away), 0)
        cells[..., b] = (size * share).reshape(-1, count, cell, count, cell).sum(axis=(2, 4))
    last = count - 1  # blocks of 2 x 2 cells, each brought to length 1
    corners = [cells[:, i : i + last, j : j + last] for i in (0, 1) for j in (0, 1)]
    block = np.concatenate(corners, axis=-1)
    block /= np.linalg.norm(block, axis=-1, keepdims=True) + floor
    return block.reshape(len(images), -1)


def unit(rows):
    """Bring rows to length 1."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def sample_patches(images, count, seed, contrast):
    """Return random patches that are not flat, of mean 0 and contrast-normalised: (count, SIDE²)."""
    rng = np.random.default_rng(seed)
    found, wanted = [], count
    while wanted > 0:
        which = rng.integers(len(images), size=2 * count)
        top, left = rng.integers(images.shape[1] - SIDE + 1, size=(2, 2 * count))
        reach = np.arange(SIDE)
        p = images[which[:, None, None], top[:, None, None] + reach[:, None], left[:, None, None] + reach, 0]
        p = p.reshape(len(p), -1)
        p = p[p.var(axis=1) > 1e-4][:wanted]
        found.append(p)
        wanted -= len(p)
    p = np.concatenate(found)
    p = p - p.mean(axis=1, keepdims=True)
    return p / np.sqrt((p**2).mean(axis=1, keepdims=True) + contrast)


def whitener(patches):
    """Return the mean (d,) and the ZCA matrix (d, d) of patches."""
    mean = patches.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(patches.T))
    return mean, (vectors / np.sqrt(values + WHITENING)) @ vectors.T


def learn_dictionary(w, start, rounds=ROUNDS):
    """Train a tied autoencoder with one active unit; return its directions and the share not explained.

    In turn: each patch takes the direction with the largest absolute product, and each direction becomes the
    mean of its patches, weighted by their amplitudes, and is brought to length 1.
    """
    d, errors, total = start, [], float((w**2).sum())
    for _ in range(rounds):
        z = w @ d.T  # (n, UNITS)
        best = np.abs(z).argmax(axis=1)
        amount = z[np.arange(len(w)), best]
        errors.append(1 - float((amount**2).sum()) / total)
        d = unit(csr_matrix((amount, (best, np.arange(len(w)))), shape=(len(d), len(w))) @ w + d)
    return d.astype("float32"), errors


class PatchCode(layers.Layer):
    """Images -> codes of their patches: one convolution, divided by the local contrast.

    Parameters
    ----------
    directions : ndarray (UNITS, SIDE²)
        Of whitened patches.
    mean, white : ndarray
        As `whitener` returns them.
    contrast, threshold : float
    components, offset : ndarray, optional
        Of a PCA of the codes; without it codes are returned as they are, (B, 4 · 4 · 2 · UNITS).
    """

    def __init__(self, directions, mean, white, contrast, threshold, *, components=None, offset=None):
        super().__init__()
        read = directions @ white  # (UNITS, 36)
        self.shift = (read @ mean).astype("float32")
        read = read - read.mean(axis=1, keepdims=True)  # so that a patch's own mean drops out
        self.kernel = read.T.reshape(SIDE, SIDE, 1, -1).astype("float32")
        self.contrast, self.threshold = contrast, threshold
        self.components, self.offset = components, offset

    def call(self, x):
        """Return the code."""
        mean = ops.average_pool(x, SIDE, 1, "valid")
        spread = ops.average_pool(ops.square(x), SIDE, 1, "valid") - ops.square(mean)
        s = ops.conv(x, self.kernel, 1, "valid") / ops.sqrt(ops.maximum(spread, 0.0) + self.contrast)
        s = s - self.shift  # (B, 23, 23, UNITS)
        both = ops.concatenate([ops.relu(s - self.threshold), ops.relu(-s - self.threshold)], axis=-1)
        pooled = ops.average_pool(both, 6, 6, "same")  # (B, 4, 4, 2 * UNITS)
        z = ops.sqrt(ops.reshape(pooled, (-1, 16 * pooled.shape[-1])))
        return z if self.components is None else ops.matmul(z - self.offset, self.components.T)


def applied(layer, images, batch=250):
    """Return what a layer makes of images."""
    image = keras.Input(SHAPE)
    return keras.Model(image, layer(image)).predict(images, batch_size=batch, verbose=0)


def reduced(features, size=CODE):
    """Fit a PCA on features; return its mean and components."""
    size = min(size, *features.shape)
    solver = "randomized" if features.shape[1] > 2000 else "covariance_eigh"
    pca = PCA(size, svd_solver=solver, random_state=0).fit(features)
    return pca.mean_.astype("float32"), pca.components_.astype("float32")


class Code:
    """A code of patches with its PCA: fitted on unlabelled images, then applied to any."""

    def __init__(self, x, kind, seed, *, contrast=1e-2, threshold=1.0, patches=PATCHES, fitted_on=FITTED_ON):
        p = sample_patches(x, patches, seed, contrast)
        mean, white = whitener(p)
        w = ((p - mean) @ white).astype("float32")
        rng = np.random.default_rng(1000 + seed)
        directions = unit(w[rng.choice(len(w), UNITS, replace=False)])
        self.errors = None
        if kind == "learned":
            directions, self.errors = learn_dictionary(w, directions)
        elif kind == "random directions":
            directions = unit(rng.standard_normal((UNITS, SIDE**2)).astype("float32"))
        setting = (directions, mean, white, contrast, threshold)
        offset, components = reduced(applied(PatchCode(*setting), x[:fitted_on]))
        self.layer = PatchCode(*setting, components=components, offset=offset)

    def __call__(self, images):
        """Return the codes of images, (n, CODE)."""
        return applied(self.layer, images)


# --- nets -----------------------------------------------------------------------------------------------


def version(images, k):
    """Return images shifted by up to `REACH` pixels and, for odd k, mirrored; k is 0 to 49."""
    wide, mirrored = 2 * REACH + 1, k % 2
    down, right = divmod(k // 2, wide)
    height, width = images.shape[1:3]
    padded = np.pad(images, ((0, 0), (REACH, REACH), (REACH, REACH), (0, 0)))
    seen = padded[:, down : down + height, right : right + width]
    return seen[:, :, ::-1] if mirrored else seen


def every_version(images):
    """Return all versions of all images: (n, ...) -> (50 n, ...)."""
    return np.concatenate([version(images, k) for k in range(VERSIONS)])


def some_version(images, seed):
    """Return one random version of each image."""
    which, seen = np.random.default_rng(seed).integers(VERSIONS, size=len(images)), np.empty_like(images)
    for k in range(VERSIONS):
        seen[which == k] = version(images[which == k], k)
    return seen


def decoder():
    """Build the mirror image of `aelib.blocks.conv_encoder`: (B, CODE) -> (B, 28, 28, 1), logits."""
    return keras.Sequential(
        [
            layers.Input((CODE,)),
            layers.Dense(7 * 7 * 64, "relu"),
            layers.Reshape((7, 7, 64)),
            layers.Conv2DTranspose(32, 3, 2, "same", activation="relu"),
            layers.Conv2DTranspose(1, 3, 2, "same"),
        ]
    )


def encoder():
    """Build the encoder: convolutions of stride 2 with 32 and 64 maps, and a dense code."""
    return blocks.conv_encoder(SHAPE, CODE, filters=(32, 64))


def pretrained(x, x_val, kind, seed, epochs):
    """Return the weights of a pretrained encoder, its curve on validation images, and the wall seconds."""
    keras.utils.set_random_seed(seed)
    noise = PRETRAINING[kind]
    net = aelib.Autoencoder(encoder(), decoder(), corrupt=GaussianNoise(noise, seed=seed) if noise else None)
    steps = epochs * math.ceil(len(x) / PRE_BATCH)
    net.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(PRE_RATE, steps)))
    begun = time.perf_counter()
    for epoch in range(epochs):
        net.fit(some_version(x, 1000 * seed + epoch), batch_size=PRE_BATCH, verbose=0)
    seconds = time.perf_counter() - begun
    return net.encoder.get_weights(), metrics.mse(x_val, net.reconstruct(x_val)), seconds


class Paced(keras.optimizers.AdamW):
    """AdamW with a warm-up and a cosine, whose peak can be set anew without compiling anew."""

    def __init__(self, steps, **options):
        super().__init__(1.0, weight_decay=0.01, **options)
        rise = max(1, steps // 10)
        self.pace = keras.optimizers.schedules.CosineDecay(
            0.0, max(1, steps - rise), warmup_target=1.0, warmup_steps=rise
        )

    def _get_current_learning_rate(self):
        return self._learning_rate * self.pace(self.iterations)


class Classifier:
    """Encoder, ReLU and ten logits, for one number of labels; rewound before each run.

    It is an `aelib.Autoencoder` whose decoder gives back the class: its loop over the data is compiled.
    """

    def __init__(self, data, count, stretch=1):
        self.data, self.count = data, count
        self.epochs, self.batch = TUNING[count]
        self.epochs *= stretch
        size = len(data.x_train) if count == "all" else VERSIONS * count
        self.read = encoder()
        self.head = layers.Dense(CLASSES, kernel_initializer="zeros")
        head = keras.Sequential([layers.Input((CODE,)), layers.ReLU(), self.head])
        self.net = aelib.Autoencoder(self.read, head, likelihood="categorical")
        steps = self.epochs * math.ceil(size / self.batch)
        self.net.compile(Paced(steps))
        self.net.optimizer.build(self.net.trainable_variables)
        self.state = [ops.convert_to_numpy(v) for v in self.net.optimizer.variables]

    def run(self, weights, seed, rate):
        """Fine-tune from the encoder's `weights` on draw `seed`, with a peak learning rate."""
        keras.utils.set_random_seed(seed)
        self.read.set_weights(weights)
        self.head.set_weights([np.zeros((CODE, CLASSES)), np.zeros(CLASSES)])
        for variable, value in zip(self.net.optimizer.variables, self.state, strict=True):
            variable.assign(value)
        self.net.optimizer.learning_rate = rate
        rows = draw(self.data.y_train, self.count, seed)
        x, y = self.data.x_train[rows], np.eye(CLASSES, dtype="float32")[self.data.y_train[rows]]
        if self.count == "all":
            for epoch in range(self.epochs):
                self.net.fit(some_version(x, 5000 + 100 * seed + epoch), y, batch_size=self.batch, verbose=0)
        else:
            self.net.fit(
                every_version(x),
                np.tile(y, (VERSIONS, 1)),
                epochs=self.epochs,
                batch_size=self.batch,
                verbose=0,
            )
        return self

    def accuracy(self, x, y):
        """Return the percentage of labels that it gets right."""
        return 100 * float(np.mean(self.net.reconstruct(x, batch_size=1000).argmax(axis=1) == y))


# --- the runs -------------------------------------------------------------------------------------------


def patches(data, runs, labels, *, trial):
    """Probe pixels, PCA, HOG and codes of patches."""
    few = {"patches": 2000, "fitted_on": 300} if trial else {}
    x, x_val, x_test = data.x_train, data.x_val, data.x_test
    middle = 100 if trial else 1000
    parts = (x, x_val, x_test)

    def of_code(kind, seed, images=parts, **setting):
        code = Code(x, kind, seed, **setting, **few)
        return code, [code(part) for part in images]

    def of_hog(cell, floor, images=parts):
        offset, components = reduced(oriented_gradients(x[:FITTED_ON], cell, floor))

        def make(piece):
            return (oriented_gradients(piece, cell, floor) - offset) @ components.T

        return [in_pieces(make, part) for part in images]

    # Settings: with 1,000 labels, two draws, validation images. Only the labelled rows are encoded.
    rows = [draw(data.y_train, middle, seed) for seed in TRIALS]

    def judged(make):
        *train, val = make([x[r] for r in rows] + [x_val])
        scores = []
        for z, r in zip(train, rows, strict=True):
            mean, scale = z.mean(axis=0), math.sqrt(z.var(axis=0).mean())
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                fits = [
                    LogisticRegression(C=1 / p, max_iter=300).fit((z - mean) / scale, data.y_train[r])
                    for p in (10.0, 100.0)
                ]
            scores.append([100 * fit.score((val - mean) / scale, data.y_val) for fit in fits])
        return float(np.max(np.mean(scores, axis=0)))

    def choose(kind, name, grid, make, factor):
        def compute():
            best, tries = widened(grid, lambda value: judged(make(value)), factor=factor)
            return {"best": best, "tries": tries}

        return runs.get({"part": "setting", "kind": kind, "setting": name}, compute)["best"]

    # One setting after the other, the second at the best of the first.
    cells = {
        cell: runs.get(
            {"part": "setting", "kind": "HOG", "cell": cell},
            lambda cell=cell: {"score": judged(lambda images: of_hog(cell, 0.1, images))},
        )["score"]
        for cell in CELLS
    }
    cell = max(cells, key=cells.get)
    floor = choose(
        "HOG", "floor", FLOORS, lambda value: lambda images: of_hog(cell, value, images), factor=10.0
    )
    settings = {}
    for kind in DICTIONARIES:
        threshold = choose(
            kind,
            "threshold",
            THRESHOLDS,
            lambda value, kind=kind: lambda images: of_code(kind, TRIALS[0], images, threshold=value)[1],
            factor=2.0,
        )
        contrast = choose(
            kind,
            "contrast",
            CONTRASTS,
            lambda value, kind=kind, threshold=threshold: (
                lambda images: of_code(kind, TRIALS[0], images, threshold=threshold, contrast=value)[1]
            ),
            factor=10.0,
        )
        settings[kind] = {"threshold": threshold, "contrast": contrast}

    def penalties(kind, make):
        """Return the penalty for each number of labels, chosen on features of the trial's seed."""
        made = None
        found = {}
        for count in labels:

            def compute(count=count):
                nonlocal made
                made = made or Probe(data, *make())
                best, tries = made.best_penalty(count)
                return {"best": best, "tries": tries}

            found[count] = runs.get({"part": "penalty", "kind": kind, "labels": count}, compute)["best"]
        return found

    def measured(kind, seeds, make):
        """Probe features of each seed with its draw; rivals without a seed are made once."""
        made = {}
        for seed in seeds:
            for count in labels:
                if count == "all" and kind not in DICTIONARIES and seed:
                    continue  # the same images, the same features

                def compute(seed=seed, count=count):
                    of = seed if kind in DICTIONARIES else 0
                    if of not in made:
                        made.clear()  # one at a time in memory
                        begun = time.process_time()
                        made[of] = Probe(data, *make(of)), time.process_time() - begun
                    probe, cost = made[of]
                    right = probe.score(count, [seed], chosen[kind][count])[0]
                    return {"right": right, "seconds to make": round(cost, 1)}

                runs.get({"part": "probe", "kind": kind, "labels": count, "seed": seed}, compute)

    fitted = {"pixels": None}

    def pixels(_=0):
        return [flat(part) for part in parts]

    def pca(_=0):
        if "PCA" not in fitted:
            fitted["PCA"] = reduced(flat(x[:FITTED_ON]))
        offset, components = fitted["PCA"]
        return [(flat(part) - offset) @ components.T for part in parts]

    makers = {"pixels": pixels, "PCA": pca, "HOG": lambda _=0: of_hog(cell, floor)}
    makers |= {
        kind: lambda seed=TRIALS[0], kind=kind: of_code(kind, seed, **settings[kind])[1]
        for kind in DICTIONARIES
    }
    chosen = {kind: penalties(kind, make) for kind, make in makers.items()}
    for kind in ("learned", "random patches", "HOG", "PCA", "pixels", "random directions"):
        measured(kind, DRAWS, makers[kind])


def nets(data, runs, labels, *, trial):
    """Pretrain, fine-tune and probe a convolutional encoder."""
    state = ROOT / "_build" / "feature_extraction_long"
    state.mkdir(parents=True, exist_ok=True)
    epochs = 1 if trial else PRE_EPOCHS
    seeds, draws = (SEEDS[:1], DRAWS[:1]) if trial else (SEEDS, DRAWS)
    x, x_val, x_test = data.x_train, data.x_val, data.x_test

    def weights(start, seed, epochs=epochs):
        if start == "scratch":
            keras.utils.set_random_seed(1000 + seed)
            return encoder().get_weights()
        path = state / f"{'trial_' if trial else ''}{start}_{seed}_{epochs}.npz"
        key = {"part": "pretraining", "start": start, "seed": seed, "epochs": epochs}
        if not path.is_file():  # its figures may be stored from a machine that is gone
            found, error, seconds = pretrained(x, x_val, start, seed, epochs)
            np.savez(path, *found)
            runs.get(key, lambda: {"mse": error, "seconds": round(seconds, 1)})
        with np.load(path) as stored:
            return [stored[name] for name in stored.files]

    classifiers = {}

    def tuned(start, count, rate, seed, *, on, stretch=1, of=None):
        if (count, stretch) not in classifiers:
            classifiers[count, stretch] = Classifier(data, count, stretch)
        one = weights(start, seed % len(seeds)) if of is None else of
        run = classifiers[count, stretch].run(one, seed, rate)
        return run.accuracy(x_test, data.y_test) if on == "test" else run.accuracy(x_val, data.y_val)

    starts = ("scratch", *PRETRAINING)
    chosen = {}
    for count in labels:
        for start in starts:
            trials = TRIALS if count != "all" and not trial else TRIALS[:1]

            def score(rate, start=start, count=count, trials=trials):
                of = weights(start, 0)
                return float(np.mean([tuned(start, count, rate, s, on="validation", of=of) for s in trials]))

            def compute(score=score):
                best, tries = widened(
                    RATES[1:] if trial else RATES, score, factor=3.0, most=0 if trial else 4
                )
                return {"best": best, "tries": tries}

            chosen[start, count] = runs.get({"part": "rate", "start": start, "labels": count}, compute)[
                "best"
            ]
        # Seed after seed, so that what is stored is even whenever the run ends.
        for seed in draws if count != "all" else seeds:
            for start in starts:
                runs.get(
                    {"part": "tuned", "start": start, "labels": count, "seed": seed, "stretch": 1},
                    lambda start=start, count=count, seed=seed: {
                        "right": tuned(start, count, chosen[start, count], seed, on="test")
                    },
                )
        classifiers.clear()
    # Frozen codes.
    for start in starts:
        made = {}

        def features(seed, start=start, made=made):
            if seed not in made:
                made.clear()
                net = encoder()
                net.set_weights(weights(start, seed))
                made[seed] = Probe(
                    data, *(net.predict(p, batch_size=1000, verbose=0) for p in (x, x_val, x_test))
                )
            return made[seed]

        for count in labels:

            def compute(count=count, features=features):
                best, tries = features(0).best_penalty(count)
                return {"best": best, "tries": tries}

            penalty = runs.get({"part": "penalty", "kind": f"code, {start}", "labels": count}, compute)[
                "best"
            ]
            for net in seeds:
                mine = [s for s in draws if s % len(seeds) == net] if count != "all" else [net]
                for seed in mine:
                    runs.get(
                        {"part": "probe", "kind": f"code, {start}", "labels": count, "seed": seed},
                        lambda count=count, seed=seed, net=net, penalty=penalty, features=features: {
                            "right": features(net).score(count, [seed], penalty)[0]
                        },
                    )
    # Whether longer runs change it: of fine-tuning, and of pretraining.
    for count in labels:
        for start in starts:
            for seed in draws[:3] if count != "all" else seeds[:1]:
                runs.get(
                    {"part": "tuned", "start": start, "labels": count, "seed": seed, "stretch": 2},
                    lambda start=start, count=count, seed=seed: {
                        "right": tuned(start, count, chosen[start, count], seed, on="test", stretch=2)
                    },
                )
        for seed in draws[:3] if count != "all" else seeds[:1]:
            runs.get(
                {"part": "tuned", "start": "plain, twice", "labels": count, "seed": seed, "stretch": 1},
                lambda count=count, seed=seed: {
                    "right": tuned(
                        "plain",
                        count,
                        chosen["plain", count],
                        seed,
                        on="test",
                        of=weights("plain", 0, 2 * epochs),
                    )
                },
            )
        classifiers.clear()


def main():
    """Run what is not stored yet, and store it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--part", choices=("patches", "nets"), required=True)
    parser.add_argument("--trial", action="store_true", help="tiny runs, to try it out")
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    data = aelib.load("fashion_mnist")
    labels = LABELS
    if args.trial:
        from types import SimpleNamespace

        size = {"train": 800, "val": 150, "test": 150}
        small = {f"{a}_{part}": getattr(data, f"{a}_{part}")[:n] for part, n in size.items() for a in "xy"}
        data = SimpleNamespace(**small, source=data.source)
        labels = (10, 100, "all") if args.part == "patches" else (10, "all")
        TUNING.update({10: (26, 50), "all": (1, 128)})  # just enough steps for the compiled loop
    out = args.out or ROOT / "benchmarks" / "results" / f"feature_extraction_{args.part}.json"
    settings = {
        "what": {
            "patches": "probes of pixels, PCA-256, HOG-256 and codes of patches-256",
            "nets": "convolutional encoder, 32 and 64 maps, code of 256; fine-tuned, 50 versions an image",
        }[args.part],
        "images": len(data.x_train),
        "device": ledger.device(),
        "data": data.source,
    }
    if args.part == "nets":
        settings["epochs"] = 1 if args.trial else PRE_EPOCHS
        settings["steps"] = {
            str(n): e * math.ceil((len(data.x_train) if n == "all" else VERSIONS * n) / b)
            for n, (e, b) in TUNING.items()
        }
    {"patches": patches, "nets": nets}[args.part](data, Runs(out, settings), labels, trial=args.trial)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    main()
