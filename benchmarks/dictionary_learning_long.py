"""Learn dictionaries of a classifier's and of a word net's activations, for the curves of the chapter.

    AELIB_DATA_DIR=... python benchmarks/dictionary_learning_long.py

Two nets of the same form, whose first hidden layer has 256 ReLU units and whose second has 128: one tells
the garments of Fashion-MNIST apart, the other reads eight words of film reviews (IMDB) and predicts the
next one of 2,000. Dictionaries of 1,024 units are learnt of the first hidden layer: TopK, BatchTopK,
JumpReLU and L1, at several counts (BatchTopK and JumpReLU of the word net at one), eight epochs of 30,000
samples, one seed, and three at a count of 8. The learning rate of each kind is chosen at a count of 8, by
what is left unexplained of the classifier's activations of validation images (L1's: by its loss), then the
weight of the auxiliary term for TopK; both serve the word net too. Rivals: PCA with as many components, L1
with its amplitudes refitted; random directions and activations of training samples, both with orthogonal
matching pursuit; the largest of the layer's own activations. Then TopK without the auxiliary term, and for
twice the epochs. Every run is stored, and a second start goes on after it; half an hour of one core. The
figures, of samples that were not trained on, go to ``benchmarks/results/dictionary_learning_long.json``.
"""

import argparse
import json
import os
import re
import tempfile
import time
from collections import Counter
from pathlib import Path

import keras
import numpy as np
from keras import layers
from sklearn.linear_model import orthogonal_mp_gram

import aelib
from aelib import SparseAutoencoder, SparseDictionary, dictionaries
from aelib.book import ledger
from aelib.files import write_atomically

RESULT = Path(__file__).parent / "results" / "dictionary_learning_long.json"
LAYER, SECOND, UNITS = 256, 128, 1024
SAMPLES, EPOCHS, BATCH, JUDGED, PURSUED = 30_000, 8, 256, 5_000, 2_000
REFITTED = 100  # units on, of codes whose amplitudes are fitted again
COUNTS, MIDDLE, SEEDS = (2, 4, 8, 16, 32, 64), 8, (0, 1, 2)
KINDS = ("topk", "batch_topk", "jumprelu", "l1")
RIVALS = ("pca", "neurons", "random", "data")
RATES = (3e-4, 1e-3, 3e-3, 1e-2)
STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0)
PRICE = 3.0
AUXILIARY = (1 / 32, 1 / 8, 1 / 2, 2.0, 8.0)
OPTIONS = {"dead_after": 5_000, "bandwidth": 1.0}
VOCABULARY, WINDOW, EMBEDDING = 2_000, 8, 32


def classifier(seed, shape, classes):
    """Return an untrained net, and its two halves: up to the layer that is explained, and from there."""
    keras.utils.set_random_seed(seed)
    first = keras.Sequential([keras.Input(shape), layers.Flatten(), layers.Dense(LAYER, "relu")])
    return join(first, classes)


def word_net(seed):
    """Return an untrained net that predicts a word from eight, and its two halves."""
    keras.utils.set_random_seed(seed)
    read = layers.Embedding(VOCABULARY, EMBEDDING)
    first = [keras.Input((WINDOW,), dtype="int32"), read, layers.Flatten(), layers.Dense(LAYER, "relu")]
    return join(keras.Sequential(first), VOCABULARY)


def join(first, classes):
    """Put a second hidden layer and logits behind the first."""
    rest = keras.Sequential(
        [keras.Input((LAYER,)), layers.Dense(SECOND, "relu"), layers.Dense(classes)], name="rest"
    )
    return keras.Sequential([first, rest]), first, rest


def train_net(net, x, y, epochs, rate=1e-3):
    """Train a net by cross-entropy."""
    schedule = keras.optimizers.schedules.CosineDecay(rate, epochs * -(-len(x) // BATCH))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    net.compile(keras.optimizers.Adam(schedule), loss)
    net.fit(x, y, epochs=epochs, batch_size=BATCH, verbose=0)


def windows(texts, words):
    """Return windows of eight words and the word that follows each, as numbers; 0 is any rare word."""
    number = {word: i for i, word in enumerate(words)}
    inputs, targets = [], []
    for text in texts:
        ids = np.array([number.get(word, 0) for word in tokens(text)], "int32")
        if len(ids) <= WINDOW:
            continue
        view = np.lib.stride_tricks.sliding_window_view(ids, WINDOW + 1)
        inputs.append(view[:, :-1])
        targets.append(view[:, -1])
    return np.concatenate(inputs), np.concatenate(targets)


def tokens(text):
    """Return the words of a text, in small letters, and its marks."""
    return re.findall(r"[a-z']+|[.,!?]", text.lower().replace("<br />", " "))


def garments(trial):
    """Return the classifier's halves, and the samples and labels of training, validation and test."""
    data = aelib.load("fashion_mnist")
    take = 600 if trial else None
    parts = [
        (x[:take], y[:take])
        for x, y in ((data.x_train, data.y_train), (data.x_val, data.y_val), (data.x_test, data.y_test))
    ]
    net, first, rest = classifier(0, parts[0][0].shape[1:], 10)
    train_net(net, *parts[0], 1 if trial else 8)
    return first, rest, parts


def words(trial):
    """Return the word net's halves, and the samples and targets of training, validation and test."""
    data = aelib.load("imdb")
    texts = [list(part[: 60 if trial else n]) for part, n in ((data.x_train, 3_000), (data.x_val, 600))]
    texts.append(list(data.x_test[: 60 if trial else 600]))
    counts = Counter(word for text in texts[0] for word in tokens(text))
    known = ["?", *(word for word, _ in counts.most_common(VOCABULARY - 1))]
    parts = [windows(part, known) for part in texts]
    shuffled = np.random.default_rng(0).permutation(len(parts[0][0]))
    parts[0] = tuple(part[shuffled] for part in parts[0])
    picks = [np.random.default_rng(1).permutation(len(x))[:JUDGED] for x, _ in parts[1:]]
    judged = [(x[pick], y[pick]) for (x, y), pick in zip(parts[1:], picks, strict=True)]
    net, first, rest = word_net(0)
    train_net(net, *parts[0], 1 if trial else 2)
    return first, rest, [parts[0], *judged]


class Layer:
    """Activations of a net's layer, and what the rest of the net makes of others in their place."""

    def __init__(self, first, rest, parts):
        self.rest = rest
        activations = [first.predict(x[:SAMPLES], batch_size=500, verbose=0) for x, _ in parts]
        self.train = activations[0]
        self.center = self.train.mean(axis=0)
        self.scale = float(np.sqrt(self.train.var(axis=0).mean()))
        self.parts = {
            name: (h[:JUDGED], y[:JUDGED])
            for name, h, (_, y) in zip(("val", "test"), activations[1:], parts[1:], strict=True)
        }
        self.ends = {
            name: (self.loss(h, y), self.loss(self.blank(h), y)) for name, (h, y) in self.parts.items()
        }

    def blank(self, h):
        """Return the mean activation, once for each sample."""
        return np.broadcast_to(self.center, h.shape)

    def loss(self, h, y):
        """Return the net's cross-entropy in nats, given the activations of the layer."""
        logits = self.rest.predict(h, batch_size=1000, verbose=0).astype("float64")
        return float(np.mean(np.logaddexp.reduce(logits, axis=1) - logits[np.arange(len(y)), y]))

    def judge(self, back, part):
        """Return the two figures of reconstructions of the first samples of a part."""
        h, y = (rows[: len(back)] for rows in self.parts[part])
        clean, ablated = self.ends[part]
        if len(back) < len(self.parts[part][0]):
            clean, ablated = self.loss(h, y), self.loss(self.blank(h), y)
        return {
            f"{part}_fraction_unexplained": dictionaries.fraction_unexplained(h, back),
            f"{part}_loss_recovered": dictionaries.loss_recovered(clean, self.loss(back, y), ablated),
        }


def l1_model(strength):
    """Build a dictionary of the same size that pays for its activity, for standardised data."""
    encoder = keras.Sequential([keras.Input((LAYER,)), layers.Dense(UNITS, "relu")])
    paint = layers.Dense(LAYER, kernel_constraint=keras.constraints.UnitNorm(axis=1))
    decoder = keras.Sequential([keras.Input((UNITS,)), paint])
    atoms = directions(int(keras.random.randint((), 0, 2**31 - 1)))
    encoder.layers[-1].set_weights([atoms.T, np.zeros(UNITS)])
    paint.set_weights([atoms, np.zeros(LAYER)])
    return SparseAutoencoder(encoder, decoder, strength=strength, likelihood="gaussian")


def directions(seed):
    """Return random directions of length 1."""
    atoms = np.random.default_rng(seed).normal(size=(UNITS, LAYER))
    return atoms / np.linalg.norm(atoms, axis=1, keepdims=True)


def refit(rows, codes, atoms):
    """Return reconstructions whose amplitudes are those of least squares on each code's support."""
    back = np.zeros_like(rows)
    for i, code in enumerate(codes):
        chosen = np.flatnonzero(code)
        if len(chosen):
            basis = atoms[chosen].T
            back[i] = basis @ np.linalg.lstsq(basis, rows[i], rcond=None)[0]
    return back


def learnt(layer, kind, seed, *, rate, value, epochs, auxiliary):
    """Train one dictionary; return its figures on validation and test samples."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    schedule = keras.optimizers.schedules.CosineDecay(rate, epochs * -(-len(layer.train) // BATCH))
    if kind == "l1":
        model, data = l1_model(value), (layer.train - layer.center) / layer.scale
    else:
        model = SparseDictionary(LAYER, UNITS, k=value, kind=kind, auxiliary=auxiliary, **OPTIONS)
        data = layer.train
    model.compile(keras.optimizers.Adam(schedule))
    begun = time.process_time()
    model.fit(data, epochs=epochs, batch_size=BATCH, verbose=0)
    figures = {"cpu_seconds": round(time.process_time() - begun, 1)}
    for part, (h, _) in layer.parts.items():
        if kind == "l1":
            rows = (h - layer.center) / layer.scale
            codes = model.encode(rows)
            kernel, bias = model.decoder.layers[-1].get_weights()
            back = model.decode(codes)
            objective = np.sum(np.square(rows - back), axis=1) + value * codes.sum(axis=1)
            figures |= layer.judge(back * layer.scale + layer.center, part)
            figures[f"{part}_objective"] = float(objective.mean())
            if dictionaries.l0(codes) <= REFITTED:
                few = refit((rows - bias)[:PURSUED], codes[:PURSUED], kernel) + bias
                again = layer.judge(few * layer.scale + layer.center, part)
                figures |= {f"{name}_refitted": number for name, number in again.items()}
        else:
            codes = model.encode(h)
            figures |= layer.judge(model.reconstruct(h), part)
        figures |= {
            f"{part}_l0": dictionaries.l0(codes),
            f"{part}_dead_share": dictionaries.dead_share(codes),
        }
        if part == "val":
            density = dictionaries.firing_density(codes)
            edges = np.linspace(-4, 0, 17)
            figures["density_histogram"] = np.histogram(np.log10(np.maximum(density, 1e-4)), edges)[
                0
            ].tolist()
    return figures


def fixed(layer, kind, count):
    """Return the figures of a rival that needs no training, with `count` numbers a sample."""
    figures = {"val_l0": float(count), "test_l0": float(count)}
    for part, (h, _) in layer.parts.items():
        rows = (h - layer.center) / layer.scale
        if kind == "pca":
            data = (layer.train - layer.center) / layer.scale
            axes = np.linalg.eigh(data.T @ data)[1][:, ::-1][:, :count]
            back = rows @ axes @ axes.T
        elif kind == "neurons":
            border = np.partition(np.abs(rows), -count, axis=1)[:, [-count]]
            back = np.where(np.abs(rows) >= border, rows, 0)
        else:
            atoms, rows = directions(0), rows[:PURSUED].astype("float64")
            if kind == "data":
                drawn = np.random.default_rng(0).choice(len(layer.train), UNITS, len(layer.train) < UNITS)
                atoms = ((layer.train[drawn] - layer.center) / layer.scale).astype("float64")
                atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
            amounts = orthogonal_mp_gram(atoms @ atoms.T, atoms @ rows.T, n_nonzero_coefs=count)
            back = (atoms.T @ amounts).T
        figures |= layer.judge(back * layer.scale + layer.center, part)
    return figures


class Runs:
    """All runs so far, each kept under its settings and written when it ends."""

    def __init__(self, trial):
        self.path = Path(tempfile.gettempdir()) / RESULT.name if trial else RESULT
        self.epochs = 1 if trial else EPOCHS
        self.result = json.loads(self.path.read_text("utf-8")) if self.path.exists() else {}
        self.result |= {
            "training": f"{SAMPLES} samples, {EPOCHS} epochs, batches of {BATCH}, Adam, cosine from the rate",
            "options": OPTIONS,
            "units": UNITS,
            "device": ledger.device(),
        }
        for name in ("nets", "choices", "rates", "tables", "runs"):
            self.result.setdefault(name, {})

    def stored(self, name, compute):
        """Return the figures of one run, from the store where it has them."""
        if name not in self.result["runs"]:
            self.result["runs"][name] = compute()
            self.save()
            figures = self.result["runs"][name]
            shown = {k: round(v, 3) for k, v in figures.items() if k[:3] in ("val", "cpu")}
            print(name, shown, flush=True)
        return self.result["runs"][name]

    def fixed(self, net, layer, kind, count):
        """Judge one rival that needs no training, or look it up."""
        return self.stored(f"{net} {kind} {count}", lambda: fixed(layer, kind, count))

    def learn(self, net, layer, kind, value, seed=0, rate=None, longer=1, auxiliary=None):
        """Train one dictionary, or look it up."""
        rate = self.result["rates"][kind] if rate is None else rate
        auxiliary = self.result["auxiliary"] if auxiliary is None else auxiliary
        name = f"{net} {kind} {value:g} seed={seed} rate={rate:g}"
        name += f" epochs={longer * EPOCHS}" * (longer > 1) + f" auxiliary={auxiliary:g}" * (kind != "l1")
        settings = {"rate": rate, "value": value, "epochs": longer * self.epochs, "auxiliary": auxiliary}
        return self.stored(name, lambda: learnt(layer, kind, seed, **settings))

    def save(self):
        """Write all that is known."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, json.dumps(self.result, indent=1) + "\n")


def choose(runs, layer, trial):
    """Choose each kind's learning rate at the middle count, and after TopK's the auxiliary weight of all."""
    choices = ledger.Ledger("benchmarks/dictionary_learning")
    start = AUXILIARY[2]
    for kind in KINDS:
        value = PRICE if kind == "l1" else MIDDLE

        def score(rate, kind=kind, value=value):
            auxiliary = runs.result.get("auxiliary", start)
            figures = runs.learn("classifier", layer, kind, value, rate=rate, auxiliary=auxiliary)
            # Of L1, whose count is free, by what it was trained for.
            return figures["val_objective" if kind == "l1" else "val_fraction_unexplained"]

        tried = widened(score, RATES, 3, trial)
        runs.result["rates"][kind] = choices.choose(f"rate of {kind}", list(tried), list(tried.values()))
        if kind == "topk":

            def weighed(auxiliary):
                figures = runs.learn("classifier", layer, "topk", MIDDLE, auxiliary=auxiliary)
                return figures["val_fraction_unexplained"]

            tried = widened(weighed, AUXILIARY, 4, trial)
            name = "weight of the auxiliary term"
            runs.result["auxiliary"] = choices.choose(name, list(tried), list(tried.values()))
        runs.result["choices"] = choices.choices
        runs.save()


def widened(score, grid, step, trial):
    """Return {setting: score} in order, with the grid widened while its edge is best."""
    scores = {value: score(value) for value in (grid[:3] if trial else grid)}
    for _ in range(0 if trial else 4):
        best, settings = min(scores, key=scores.get), sorted(scores)
        if best not in (settings[0], settings[-1]):
            break
        new = best / step if best == settings[0] else best * step
        scores[new] = score(new)
    return dict(sorted(scores.items()))


def main():
    """Train both nets, choose, sweep, and write the figures after each run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trial", action="store_true", help="a taste, which is stored elsewhere")
    trial = parser.parse_args().trial
    runs, made = Runs(trial), {"classifier": garments, "words": words}
    for net, make in made.items():
        begun = time.process_time()
        layer = Layer(*make(trial))
        runs.result["nets"][net] = {
            "clean_val": layer.ends["val"][0],
            "ablated_val": layer.ends["val"][1],
            "clean_test": layer.ends["test"][0],
            "ablated_test": layer.ends["test"][1],
            "activations": len(layer.train),
            "cpu_seconds": round(time.process_time() - begun, 1),
        }
        runs.save()
        print(net, runs.result["nets"][net], flush=True)
        table = runs.result["tables"].setdefault(net, {})
        counts = COUNTS[1:3] if trial else COUNTS
        values = {kind: STRENGTHS[1:3] if kind == "l1" and trial else STRENGTHS for kind in KINDS}
        values |= {kind: counts for kind in KINDS if kind != "l1"}
        if net == "words":
            values |= dict.fromkeys(("batch_topk", "jumprelu"), (MIDDLE,))
        table["fixed"] = {
            kind: {str(count): runs.fixed(net, layer, kind, count) for count in counts} for kind in RIVALS
        }
        if net == "classifier":
            choose(runs, layer, trial)
        middle = {kind: PRICE if kind == "l1" else MIDDLE for kind in KINDS}
        table["seeds"] = {k: [runs.learn(net, layer, k, middle[k], seed=s) for s in SEEDS] for k in KINDS}
        few = SEEDS if net == "classifier" else SEEDS[:1]
        table["no auxiliary"] = [runs.learn(net, layer, "topk", MIDDLE, seed=s, auxiliary=0) for s in few]
        runs.save()
        table["longer"] = runs.learn(net, layer, "topk", MIDDLE, longer=2)
        table["curves"] = {
            kind: {str(value): runs.learn(net, layer, kind, value) for value in values[kind]}
            for kind in KINDS
        }
        runs.save()
    print("done", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    main()
