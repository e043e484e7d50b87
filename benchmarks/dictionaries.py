"""Find 64 sparse features that lie in 16 dimensions: sparse dictionaries, their rivals, and controls.

    python benchmarks/dictionaries.py

The data are those of Sharkey et al. (2022) and Elhage et al. (2022) in small: random directions of length 1,
each on with a probability of 1/32, by a magnitude drawn evenly from 0 to 1, so that two are on for a sample.
Trained are the three kinds of `SparseDictionary`, an L1 penalty and a KL one on nets of the same size; the
rivals are scikit-learn's MiniBatchDictionaryLearning, FastICA and PCA; the controls are random directions and
the true ones. Every setting of a method is the one that finds the features best on three seeds, whose
features are others than those of the three seeds that are reported; a grid whose edge is best is widened.
Then TopK alone: other counts k, other widths, and features that are on more often. Every run is stored, and a
second start goes on after it. It takes about half an hour of one core. The figures, of samples that were not
trained on, go to ``benchmarks/results/dictionaries.json``.
"""

import argparse
import json
import os
import tempfile
import time
import warnings
from pathlib import Path

import keras
import numpy as np
from sklearn.decomposition import FastICA, MiniBatchDictionaryLearning
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import orthogonal_mp_gram

from aelib import SparseAutoencoder, SparseDictionary, dictionaries
from aelib.book import ledger
from aelib.files import write_atomically

RESULT = Path(__file__).parent / "results" / "dictionaries.json"
FEATURES, WIDTH, ON = 64, 16, 2
SAMPLES, UNSEEN, PURSUED, EPOCHS, BATCH = 60_000, 20_000, 4_000, 12, 256
CHOICE_SEEDS, SEEDS = (0, 1, 2), (3, 4, 5)
DEAD_AFTER, LOUD, FOUND = 1_000, 0.05, 0.9
#: Settings in the order in which they are chosen: where each starts, the first grid, the step that widens it.
RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
AUXILIARY = (1 / 4, 1.0, 4.0, 16.0)
BANDWIDTHS = (0.1, 0.3, 1.0, 3.0)
STRENGTHS = (0.03, 0.1, 0.3, 1.0)
PLANS = {
    "random": {},
    "true": {},
    "ica": {},
    "pca": {},
    "sklearn": {"alpha": (0.5, (0.125, 0.25, 0.5, 1.0, 2.0), 2)},
    "topk": {"rate": (3e-2, RATES, 3), "auxiliary": (1.0, AUXILIARY, 4)},
    "batch_topk": {"rate": (3e-2, RATES, 3), "auxiliary": (1.0, AUXILIARY, 4)},
    "jumprelu": {
        "rate": (3e-2, RATES, 3),
        "auxiliary": (4.0, AUXILIARY, 4),
        "bandwidth": (1.0, BANDWIDTHS, 3),
    },
    "l1": {"strength": (0.3, STRENGTHS, 3), "rate": (1e-2, RATES, 3)},
    "kl": {
        "strength": (1.0, (0.1, 0.3, 1.0, 3.0), 3),
        "rate": (1e-2, RATES, 3),
        "target": (1 / 32, (1 / 128, 1 / 64, 1 / 32, 1 / 16), 2),
    },
}
COUNTS, WIDTHS, DENSITIES = (1, 2, 4, 8), (32, 64, 128, 256), (1, 2, 4, 8)


def superposition(random, samples, features, on=ON):
    """Draw (samples, WIDTH), sums of a few of the features."""
    active = random.random((samples, FEATURES)) < on / FEATURES
    return (active * random.random(active.shape) @ features).astype("float32")


def penalised(kind, units, strength, target=None):
    """Build an L1 or KL autoencoder of the size of a `SparseDictionary`, for standardised data."""
    activation = "relu" if kind == "l1" else "sigmoid"
    # The L1 penalty is a price only if the directions cannot grow; a sigmoid, at most 1, needs them free.
    constraint = keras.constraints.UnitNorm(axis=1) if kind == "l1" else None
    encoder = keras.Sequential([keras.Input((WIDTH,)), keras.layers.Dense(units, activation)])
    paint = keras.layers.Dense(WIDTH, kernel_constraint=constraint)
    decoder = keras.Sequential([keras.Input((units,)), paint])
    atoms = np.random.default_rng(int(keras.random.randint((), 0, 2**31 - 1))).normal(size=(units, WIDTH))
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    start = np.zeros(units) if kind == "l1" else np.full(units, np.log(target / (1 - target)))
    encoder.layers[-1].set_weights([atoms.T, start])
    decoder.layers[-1].set_weights([atoms, np.zeros(WIDTH)])
    return SparseAutoencoder(encoder, decoder, strength=strength, rate=target, likelihood="gaussian")


def fit(model, x, rate, epochs):
    """Train a net along a cosine from `rate`."""
    schedule = keras.optimizers.schedules.CosineDecay(rate, epochs * -(-len(x) // BATCH))
    model.compile(keras.optimizers.Adam(schedule))
    model.fit(x, epochs=epochs, batch_size=BATCH, verbose=0)


def pursued(x, directions, count):
    """Return the fraction of variance unexplained by the best `count` directions of each sample.

    Orthogonal matching pursuit: it judges the directions, whatever encoder they came with.
    """
    atoms = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    centre = x.mean(axis=0)
    rows = (x - centre)[:PURSUED].astype("float64")
    amounts = orthogonal_mp_gram(
        atoms @ atoms.T, atoms @ rows.T, n_nonzero_coefs=min(count, len(atoms)), copy_Gram=True
    )
    return dictionaries.fraction_unexplained(rows, (atoms.T @ amounts).T)


def learn(kind, seed, x, features, *, units, k, epochs, **settings):
    """Return the directions (K, WIDTH) that a method finds, and a function from samples to codes and back."""
    centre, scale = x.mean(axis=0), float(np.sqrt(x.var(axis=0).mean()))
    data = (x - centre) / scale
    if kind in dictionaries.KINDS:
        rate = settings.pop("rate")
        model = SparseDictionary(WIDTH, units, k=k, kind=kind, dead_after=DEAD_AFTER, **settings)
        fit(model, x, rate, epochs)

        def use(new):
            return model.encode(new), model.reconstruct(new)

        return model.dictionary, use
    if kind in ("l1", "kl"):
        model = penalised(kind, units, settings["strength"], settings.get("target"))
        fit(model, data, settings["rate"], epochs)
        atoms = keras.ops.convert_to_numpy(model.decoder.layers[-1].kernel)

        def use(new):
            codes = model.encode((new - centre) / scale)
            lengths = scale * np.linalg.norm(atoms, axis=1)
            return codes * lengths, model.decode(codes) * scale + centre

        return atoms, use
    if kind == "sklearn":
        options = {"fit_algorithm": "cd", "positive_code": True, "tol": 0, "max_no_improvement": None}
        passes = settings.pop("passes", 1)
        model = MiniBatchDictionaryLearning(
            units, batch_size=BATCH, max_iter=passes, random_state=seed, **options, **settings
        )
        model.set_params(transform_algorithm="lasso_lars", transform_alpha=settings["alpha"])
        with warnings.catch_warnings():  # of samples whose lasso stopped early, one by one
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(data)

        def use(new):
            codes = model.transform((new - centre) / scale)
            return codes * scale, codes @ model.components_ * scale + centre

        return model.components_, use
    if kind == "ica":
        model = FastICA(WIDTH, whiten="unit-variance", max_iter=1000, random_state=seed).fit(data)
        return np.concatenate([model.mixing_.T, -model.mixing_.T]), None
    if kind == "pca":
        axes = np.linalg.svd(data[:10_000], full_matrices=False)[2]
        return np.concatenate([axes, -axes]), None
    if kind == "random":
        return np.random.default_rng(1000 + seed).normal(size=(units, WIDTH)), None
    return features, None


def run(kind, seed, *, units=FEATURES, k=ON, on=ON, samples=SAMPLES, epochs=EPOCHS, **settings):
    """Train one, and return its figures."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(FEATURES, WIDTH))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    x, unseen = (superposition(random, n, features, on) for n in (samples, UNSEEN))
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    begun = time.perf_counter(), time.process_time()
    directions, use = learn(kind, seed, x, features, units=units, k=k, epochs=epochs, **settings)
    seconds, cpu_seconds = time.perf_counter() - begun[0], time.process_time() - begun[1]
    lengths = np.linalg.norm(directions, axis=1, keepdims=True)
    cosines = (features @ (directions / np.maximum(lengths, 1e-9)).T).max(axis=1)
    figures = {
        "mean_max_cosine": float(cosines.mean()),
        "found_share": float(np.mean(cosines > FOUND)),
        "fraction_unexplained_pursuit": pursued(unseen, directions[lengths[:, 0] > 1e-9], on),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu_seconds, 1),
    }
    if use is not None:
        unseen = unseen[:PURSUED] if kind == "sklearn" else unseen
        codes, back = use(unseen)
        loud = np.where(np.abs(codes) > LOUD, codes, 0)
        figures |= {
            "dead_share": dictionaries.dead_share(codes if kind != "kl" else loud),
            "l0": dictionaries.l0(codes),
            "l0_loud": dictionaries.l0(loud),
            "fraction_unexplained": dictionaries.fraction_unexplained(unseen, back),
        }
    return figures


class Runs:
    """All runs so far, each kept under its settings and written when it ends."""

    def __init__(self, trial):
        self.path = Path(tempfile.gettempdir()) / RESULT.name if trial else RESULT
        self.seeds = CHOICE_SEEDS[:1] if trial else CHOICE_SEEDS
        self.size = {"samples": 3_000, "epochs": 1} if trial else {}
        self.result = {}
        if self.path.exists() and "runs" in (stored := json.loads(self.path.read_text("utf-8"))):
            self.result = stored
        self.result |= {
            "data": f"{FEATURES} features in {WIDTH} dimensions, {ON} on for a sample, uniform from 0 to 1",
            "training": f"{SAMPLES} samples, {EPOCHS} epochs, batches of {BATCH}, Adam, cosine from the rate",
            "dead_after": DEAD_AFTER,
            "loud": LOUD,
            "found": FOUND,
            "seeds_of_the_choice": CHOICE_SEEDS,
            "seeds": SEEDS,
            "device": ledger.device(),
        }
        self.result.setdefault("kinds", {})
        self.result.setdefault("sweeps", {})
        self.result.setdefault("runs", {})

    def __call__(self, kind, seed, **settings):
        """Return the figures of one run, from the store where it has them."""
        name = " ".join([kind, f"seed={seed}", *(f"{key}={value:g}" for key, value in settings.items())])
        if name not in self.result["runs"]:
            self.result["runs"][name] = run(kind, seed, **settings, **self.size)
            self.save()
            figures = self.result["runs"][name]
            print(name, {key: round(value, 4) for key, value in figures.items()}, flush=True)
        return self.result["runs"][name]

    def save(self):
        """Write all that is known."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, json.dumps(self.result, indent=1) + "\n")


def mean(rows):
    """Average the figures of several runs."""
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def tune(runs, choices, kind, settings, name, grid, step):
    """Return the value that finds the features best, widening the grid while its edge is best."""
    grid, scores = list(grid)[: 3 if runs.size else None], {}
    for _ in range(1 if runs.size else 5):
        for value in list(grid):
            if value not in scores:
                found = [runs(kind, s, **settings | {name: value})["mean_max_cosine"] for s in runs.seeds]
                scores[value] = float(np.mean(found))
        best = max(grid, key=scores.__getitem__)
        if best == grid[0]:
            grid.insert(0, best / step)
        elif best == grid[-1]:
            grid.append(best * step)
        else:
            break
    ordered = [scores[value] for value in grid if value in scores]
    tried = [value for value in grid if value in scores]
    return choices.choose(f"{name} of {kind}", tried, ordered, lower_is_better=False)


def main():
    """Choose, train and measure all, and write the figures after each run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trial", action="store_true", help="a taste, which is stored elsewhere")
    runs = Runs(parser.parse_args().trial)
    choices = ledger.Ledger("benchmarks/dictionaries")
    chosen = {}
    for kind, plan in PLANS.items():
        settings, before = {name: start for name, (start, *_) in plan.items()}, len(choices.choices)
        for name, (_, grid, step) in plan.items():
            settings[name] = tune(runs, choices, kind, settings, name, grid, step)
        chosen[kind] = settings
        rows = [runs(kind, seed, **settings) for seed in SEEDS]
        runs.result["kinds"][kind] = {
            "settings": settings,
            "choices": choices.choices[before:],
            "mean": mean(rows),
            "by_seed": rows,
        }
        runs.save()
        print(kind, settings, {name: round(v, 4) for name, v in mean(rows).items()}, flush=True)
    topk = chosen["topk"]
    sweeps = {
        "k": {k: {"k": k} for k in COUNTS},
        "units": {units: {"units": units} for units in WIDTHS},
        "on": {on: {"on": on, "k": on} for on in DENSITIES},
        "auxiliary": {0: {"auxiliary": 0.0}, topk["auxiliary"]: {}},
    }
    for name, rows in sweeps.items():
        runs.result["sweeps"][name] = {
            str(value): [runs("topk", seed, **topk | changed) for seed in SEEDS]
            for value, changed in rows.items()
        }
        runs.save()
    longer = [runs("sklearn", seed, **chosen["sklearn"], passes=3) for seed in SEEDS]
    runs.result["sweeps"]["passes"] = {"3": longer}
    runs.save()
    print("done", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    main()
