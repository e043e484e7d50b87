"""Train the nets of `types/disentangled` to their plateau: fifteen objectives, five seeds.

    python benchmarks/disentangled_long.py

Sprites of known shape, scale, x and y, 9,600 images of 32 × 32 pixels, half of them for training; dense nets
1024-512-256 and back, codes of 10. The rows of one seed differ in the objective alone, so they are trained
side by side: one model whose layers hold a set of weights for each row, and whose loss is the sum over the
rows. Adam scales every weight by itself, so a row learns what it would learn alone. The rows are a plain
autoencoder, β-VAEs and β-TC-VAEs, and β-VAEs that are told the factors of 100 images. Batches of 256, Adam
at 1e-3 along a cosine. One more run has twice the steps, and three have sprites that also turn. Every
finished seed is stored in ``benchmarks/results/disentangled_long.json``, and a second start goes on after it.
Ten minutes on a GPU, a day on one core.
"""

import argparse
import functools
import json
import math
import os
import time
import warnings
from pathlib import Path

import joblib
import keras
import numpy as np
from keras import layers, ops
from scipy.stats import rankdata
from sklearn.decomposition import PCA, FastICA
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GridSearchCV

import aelib
from aelib import disentanglement, objectives
from aelib.book import ledger
from aelib.files import write_atomically

SIDE, CODE, HIDDEN = 32, 10, (512, 256)
BATCH, RATE, STEPS, LABELS = 256, 1e-3, 12_000, 100
BETAS = (2, 4, 8, 16, 32)
#: Of each row: the weights of KL, of further total correlation, and of the labels; and whether it has noise.
ROWS = {"plain": (0, 0, 0, False), "VAE": (1, 0, 0, True)}
ROWS |= {f"beta-VAE, {b}": (b, 0, 0, True) for b in BETAS}
ROWS |= {f"beta-TC-VAE, {b}": (1, b - 1, 0, True) for b in BETAS}
ROWS |= {f"labels, {g}": (4, 0, g, True) for g in (1, 10, 100)}
#: (sprites that turn, seed, how many times the steps), in order of importance.
RUNS = [(False, seed, 1) for seed in range(5)]
RUNS = [*RUNS[:3], (True, 0, 1), *RUNS[3:], (False, 0, 2), (True, 1, 1), (True, 2, 1)]


class Parallel(layers.Layer):
    """One dense layer a row: (B, D) or (B, M, D) -> (B, M, units)."""

    def __init__(self, rows, units, activation=None):
        super().__init__()
        self.rows, self.units, self.activation = rows, units, keras.activations.get(activation)

    def build(self, shape):
        """Make a set of weights for each row."""
        scale = math.sqrt((2.0 if self.activation is keras.activations.relu else 1.0) / shape[-1])
        start = keras.initializers.RandomNormal(stddev=scale)
        self.kernel = self.add_weight(shape=(self.rows, shape[-1], self.units), initializer=start)
        self.bias = self.add_weight(shape=(self.rows, self.units), initializer="zeros")

    def call(self, x):
        """Return what each row's layer makes of it."""
        given = "bi" if len(x.shape) == 2 else "bmi"
        return self.activation(ops.einsum(f"{given},mio->bmo", x, self.kernel) + self.bias)


class SideBySide(aelib.VariationalAutoencoder):
    """As many autoencoders as `rows`, with one loss: the sum of theirs.

    `fit(images, targets)` takes the factors as targets, brought to mean 0 and variance 1, (n, J + 1); the
    last column is 1 where they are told, else 0.
    """

    def __init__(self, rows, n, told, seed):
        m = len(rows)
        pixels = SIDE * SIDE
        encoder = [layers.Input((SIDE, SIDE, 1)), layers.Flatten()]
        encoder += [Parallel(m, units, "relu") for units in HIDDEN]
        encoder += [Parallel(m, 2 * CODE), layers.Reshape((m, 2, CODE)), layers.Permute((2, 1, 3))]
        decoder = [layers.Input((m * CODE,)), layers.Reshape((m, CODE))]
        decoder += [Parallel(m, units, "relu") for units in HIDDEN[::-1]] + [Parallel(m, pixels)]
        super().__init__(keras.Sequential([*encoder, layers.Flatten()]), keras.Sequential(decoder), seed=seed)
        self.rows, self.n, self.told = m, n, told
        kl, tc, labels, noisy = np.array([*rows.values()], "float32").T
        self.weights_of = {"kl": kl, "tc": tc, "labels": labels}
        self.silence = np.repeat(np.where(noisy, 0.0, -30.0), CODE).astype("float32")

    def posterior(self, x, training=None):
        """Return means and log-variances, (B, M·K) each; a plain row's variance is next to nothing."""
        mean, log_var = super().posterior(x, training=training)
        return mean, ops.where(self.silence < 0, ops.zeros_like(log_var) + self.silence, log_var)

    def _zero_target(self, out):
        return ops.zeros((1, self.told + 1))

    def by_row(self, out):
        """Return what every image costs in every row, by name: (B, M) each."""
        x = ops.reshape(out["input"], (-1, 1, SIDE * SIDE))
        raw = out["reconstruction"]
        code, mean, log_var = (
            ops.reshape(out[n], (-1, self.rows, CODE)) for n in ("code", "mean", "log_var")
        )
        noise = ops.reshape(self.silence, (self.rows, CODE)) == 0
        quiet = ops.where(noise, log_var, 0.0)  # so that a plain row adds no huge numbers
        return {
            "reconstruction": ops.sum(ops.softplus(raw) - x * raw, axis=-1),
            "kl": objectives.gaussian_kl(mean, quiet),
            "tc": objectives.total_correlation(code, mean, quiet, self.n)[1],
        }

    def terms(self, target, out):
        """Return the terms, summed over the rows."""
        parts = self.by_row(out)
        known, wanted = target[:, -1:], target[:, :-1]
        first = ops.reshape(out["mean"], (-1, self.rows, CODE))[..., : wanted.shape[1]]
        parts["labels"] = known * ops.sum(ops.square(first - wanted[:, None]), axis=-1)
        weights = self.weights_of | {"reconstruction": np.ones(self.rows, "float32")}
        return {name: ops.sum(weights[name] * part, axis=1) for name, part in parts.items()}

    def judge(self, x):
        """Return the codes, (M, n, K), and each row's reconstruction and KL, mean over `x`, {name: (M,)}."""
        codes, costs = [], []
        for at in range(0, len(x), 500):
            images = ops.convert_to_tensor(x[at : at + 500])
            out = self(images) | {"input": images}
            codes.append(ops.convert_to_numpy(out["mean"]).reshape(-1, self.rows, CODE))
            parts = self.by_row(out)
            costs.append({n: ops.convert_to_numpy(parts[n]).sum(0) for n in ("reconstruction", "kl")})
        total = {n: sum(part[n] for part in costs) / len(x) for n in costs[0]}
        return np.concatenate(codes).transpose(1, 0, 2), total


@functools.cache
def drawn(**sizes):
    """Return all sprites, drawn once."""
    return aelib.data.sprites(SIDE, **sizes)


def sprites(turning, seed, small):
    """Return images and factors in three parts, the targets of training, and which images are labelled."""
    sizes = (
        {"scales": 6, "angles": 6, "positions": 12}
        if turning
        else {"scales": 8, "angles": 1, "positions": 20}
    )
    if small:
        sizes |= {"positions": 6}
    images, factors = drawn(**sizes)
    factors = factors if turning else np.delete(factors, 2, axis=1)
    order = np.random.default_rng(0).permutation(len(images))
    images, factors = images[order], factors[order]
    half, rest = len(images) // 2, len(images) * 3 // 4
    parts = [(images[a:b], factors[a:b]) for a, b in ((0, half), (half, rest), (rest, None))]
    labelled = np.random.default_rng(seed).choice(half, LABELS, replace=False)
    known = np.zeros((half, 1), "float32")
    known[labelled] = half / LABELS  # so that a labelled image weighs as if all had labels
    scaled = (factors[:half] - factors[:half].mean(0)) / factors[:half].std(0)
    return parts, np.concatenate([scaled * (known > 0), known], axis=1).astype("float32"), labelled


def without_idle(codes, like=None):
    """Set units to 0 whose mean varies by less than 0.01: they have collapsed."""
    return codes * ((codes if like is None else like).var(axis=0) > 0.01)


def bold_mig(codes, factors):
    """Return the MIG by a hundred labels: units and factors in five bins of equal number."""
    binned = np.stack([np.floor(5 * (rankdata(c) - 0.5) / len(c)) for c in codes.T], axis=1)
    levels = np.floor(5 * factors / (factors.max(axis=0) + 1))
    return float(disentanglement.mig(binned * (codes.var(axis=0) > 0), levels, bins=5).mean())


def predicted(train, wanted, x):
    """Return factors predicted from 100 labels by ridge regression, linear and with a Gaussian kernel."""
    center, scale = train.mean(0), np.maximum(train.std(), 1e-6)
    train, x = (train - center) / scale, (x - center) / scale
    linear = RidgeCV(np.logspace(-4, 4, 17)).fit(train, wanted)
    grid = {"alpha": [1e-4, 1e-3, 1e-2, 1e-1, 1], "gamma": np.logspace(-4, 0, 9) * 10 / train.shape[1]}
    kernel = GridSearchCV(KernelRidge(kernel="rbf"), grid, cv=5).fit(train, wanted - wanted.mean(0))
    return {"ridge": linear.predict(x), "kernel": kernel.predict(x) + wanted.mean(0)}


def told(train, labels, x, factors):
    """Return R² by factor, and the MIG of the predictions taken as a code, for both regressions."""
    answers = {}
    for name, guess in predicted(train, labels.astype(float), x).items():
        error = np.mean((guess - factors) ** 2, axis=0) / factors.var(axis=0)
        gap = float(disentanglement.mig(guess, factors).mean())
        answers[name] = {"R2": (1 - error).tolist(), "MIG of the predictions": gap}
    return answers


def measured(codes, parts, labelled):
    """Return the figures of one code: {training, validation, test} -> dict."""
    factors = {name: part[1] for name, part in zip(codes, parts, strict=True)}
    codes = {name: without_idle(part, codes["training"]) for name, part in codes.items()}
    gaps = {name: disentanglement.mig(codes[name], factors[name]) for name in ("validation", "test")}
    forest = disentanglement.dci(
        (codes["validation"], factors["validation"]), (codes["test"], factors["test"]), trees=10
    )
    few = codes["training"][labelled], factors["training"][labelled]
    return {
        "active": int((codes["training"].var(axis=0) > 0.01).sum()),
        "MIG, validation": float(gaps["validation"].mean()),
        "MIG": float(gaps["test"].mean()),
        "MIG by factor": gaps["test"].tolist(),
        "information": disentanglement.mutual_information(codes["test"], factors["test"]).round(3).tolist(),
        "D": forest.disentanglement,
        "C": forest.completeness,
        "I": forest.informativeness,
        "MIG by 100 labels": bold_mig(*few),
        "from 100 labels": told(*few, codes["test"], factors["test"]),
    }


def baselines(parts, labelled, seed):
    """Return the figures of PCA, ICA and, where labels are used, of the pixels."""
    flat = [part[0].reshape(len(part[0]), -1) for part in parts]
    names = ("training", "validation", "test")
    pca = PCA(CODE).fit(flat[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it has not converged
        ica = FastICA(CODE, whiten="unit-variance", random_state=seed, max_iter=1000).fit(flat[0])
    rows = {}
    for name, model in (("PCA", pca), ("ICA", ica)):
        codes = dict(zip(names, map(model.transform, flat), strict=True))
        rows[name] = measured(codes, parts, labelled)
    few, wanted = flat[0][labelled].astype(float), parts[0][1][labelled]
    rows["pixels"] = {"from 100 labels": told(few, wanted, flat[2].astype(float), parts[2][1])}
    return rows


def device():
    """Describe what computes; Keras on JAX cannot be asked for GPUs where there are none."""
    try:
        return ledger.device()
    except RuntimeError:
        return f"{os.cpu_count()} CPU cores; Keras {keras.__version__} on {keras.backend.backend()}"


def started(model, n, told, seed, total):
    """Return an untrained model of this seed; one that has been compiled is rewound, to save the time."""
    keras.utils.set_random_seed(seed)
    fresh = SideBySide(ROWS, n, told, seed)
    if model is None:
        fresh.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(RATE, total)))
        return fresh
    model.set_weights(fresh.get_weights())
    model.sampling.noise.state.assign(fresh.sampling.noise.state)
    for variable in model.optimizer.variables:
        variable.assign(np.zeros(variable.shape, "float32"))
    return model


def main():
    """Run what is not stored yet, and store it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trial", action="store_true", help="a few steps, to try it out")
    parser.add_argument("--steps", type=int, default=None)
    here = Path(__file__).parent / "results" / "disentangled_long.json"
    parser.add_argument("--out", type=Path, default=here)
    args = parser.parse_args()
    steps = args.steps or (20 if args.trial else STEPS)
    stored = {
        "what": "sprites of 32 x 32, dense 1024-512-256, codes of 10, batches of 256",
        "steps": steps,
        "device": device(),
        "rows": [*ROWS],
        "runs": [],
    }
    if args.out.is_file():
        stored |= json.loads(args.out.read_text("utf-8"))
    if stored["steps"] != steps:
        raise SystemExit(f"{args.out} has other settings: move it away")
    done = {(run["turning"], run["seed"], run["times"]) for run in stored["runs"]}
    models = {}
    for turning, seed, times in RUNS[:2] if args.trial else RUNS:
        if (turning, seed, times) in done:
            continue
        parts, targets, labelled = sprites(turning, seed, args.trial)
        x = parts[0][0]
        epochs = math.ceil(steps * times / math.ceil(len(x) / BATCH))
        begun = time.perf_counter()
        total = epochs * math.ceil(len(x) / BATCH)
        model = models[turning, times] = started(
            models.get((turning, times)), len(x), targets.shape[1] - 1, seed, total
        )
        history = model.fit(x, targets, batch_size=BATCH, epochs=epochs, verbose=0).history
        seconds = time.perf_counter() - begun
        names = ("training", "validation", "test")
        judged = {name: model.judge(part[0]) for name, part in zip(names, parts, strict=True)}
        rows = {} if times > 1 else baselines(parts, labelled, seed)
        for m, name in enumerate(ROWS):
            codes = {part: judged[part][0][m] for part in names}
            rows[name] = measured(codes, parts, labelled)
            for cost in ("reconstruction", "kl"):
                rows[name] |= {cost: float(judged["test"][1][cost][m])}
                rows[name] |= {f"{cost}, training": float(judged["training"][1][cost][m])}
        whole = time.perf_counter() - begun
        run = {"turning": turning, "seed": seed, "times": times, "epochs": epochs, "images": len(x)}
        run |= {"seconds, training, wall": round(seconds, 1), "seconds, wall": round(whole, 1)}
        stored["runs"].append(run | {"loss": history["loss"][:: max(1, epochs // 20)], "rows": rows})
        args.out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(args.out, json.dumps(stored, indent=None, ensure_ascii=False) + "\n")
        shown = {name: round(row["MIG"], 3) for name, row in rows.items() if "MIG" in row}
        print(json.dumps(run | {"MIG": shown}), flush=True)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with joblib.parallel_config("threading", n_jobs=min(8, os.cpu_count())):  # of forests and grids
        main()
