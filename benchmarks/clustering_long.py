"""Train the nets of `applications/clustering` to their plateau, and group what they see with five seeds.

In two parts, since the first wants an accelerator and the second only processors and `umap-learn`:

    KERAS_BACKEND=jax JAX_COMPILATION_CACHE_DIR=... python benchmarks/clustering_long.py --codes
    AELIB_DATA_DIR=... python benchmarks/clustering_long.py

**Part one** trains autoencoders 784-500-500-2000-10 on all training images, 60 epochs in batches of 256, by
the squared error, and a convolutional one with a code of the same size; seed 0 of the dense one also for
twice the epochs. From each dense net start two that train themselves: DEC (stochastic gradient descent,
0.01, momentum 0.9) and IDEC (Adam, 1e-3, a tenth of the clustering term to one of the mean squared error),
as in the code of Guo and co-authors, until fewer than 0.1 % of the images move in a round, or for 93 rounds,
which are 20,000 steps. A round is an epoch of 215 steps; theirs is 140. What follows needs is kept in
``_build/clustering``, a file of float16 for each net. On a GPU the nets of MNIST should take six minutes;
on one core the dense net alone takes twenty minutes a seed.

**Part two** groups the codes, and what principal components and UMAP make of the images, by k-means,
mixtures, HDBSCAN and spectral clustering, with the seeds 0 to 4 (garments: 0 to 2), and measures on test
images, which no method was fitted to. UMAP has the settings of the N2D authors: 20 neighbours, least distance
0, 10 dimensions; other numbers of neighbours are tried with seed 0. By estimate a quarter of an hour of one
core a seed, and half an hour more for the rows with one seed: two hours and a half for both data sets.

Every finished run is stored, and a second start goes on after it. The figures go to
``benchmarks/results/clustering_long.json``.
"""

import argparse
import functools
import json
import os
import time
import warnings
from pathlib import Path

import keras
import numpy as np
from sklearn.cluster import HDBSCAN, KMeans, SpectralClustering
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KNeighborsClassifier

import aelib
from aelib import blocks, clustering, metrics, training
from aelib.book import ledger
from aelib.files import write_atomically

ROOT = Path(__file__).resolve().parent.parent
CLUSTERS = SIZE = 10
PARTS = ("train", "val", "test")
AT_ONCE = 5000  # images that are assigned at once
#: Of the summed squared error: what 1 of its mean is, beside 0.1 of the clustering term.
WEIGHTS = {"DEC": 0.0, "IDEC": 10 / 784}
SETTINGS = {
    "images": 55_000,
    "seeds": {"mnist": [0, 1, 2, 3, 4], "fashion_mnist": [0, 1, 2]},
    "hidden": [500, 500, 2000],
    "filters": [32, 64, 128],
    "epochs": 60,
    "batch": 256,
    "rate": 1e-3,
    "tolerance": 1e-3,
    "rounds": 93,
    "starts": 20,
    "neighbours": 20,
    "tried neighbours": [5, 10, 40, 80],
    "spectral images": 10_000,
    "density images": 20_000,
    "least share": 0.01,
    "kept codes": 10_000,
}
TRIAL = SETTINGS | {
    "images": 600,
    "seeds": {"mnist": [0], "fashion_mnist": []},
    "hidden": [32],
    "filters": [4, 8],
    "epochs": 1,
    "rounds": 2,
    "starts": 1,
    "tried neighbours": [5],
    "spectral images": 300,
    "density images": 400,
    "kept codes": 300,
}


def load(name, settings):
    """Return {part: (images (n, 28, 28, 1), labels (n,))}, and where they come from."""
    data, n = aelib.load(name), settings["images"]
    parts = {part: (getattr(data, f"x_{part}")[:n], getattr(data, f"y_{part}")[:n]) for part in PARTS}
    return parts, data.source


def stopped_clock(begun):
    """Return the wall seconds since `begun`."""
    return round(time.perf_counter() - begun, 2)


# Part one: nets ---------------------------------------------------------------------------------------------


def build(kind, seed, settings):
    """Build an untrained autoencoder."""
    keras.utils.set_random_seed(seed)
    if kind == "convolutional":
        filters = tuple(settings["filters"])
        encoder = blocks.conv_encoder((28, 28, 1), SIZE, filters=filters)
        decoder = blocks.conv_decoder((28, 28, 1), SIZE, filters=filters[::-1])
    else:
        hidden = tuple(settings["hidden"])
        encoder = blocks.dense_encoder((28, 28, 1), SIZE, hidden=hidden)
        decoder = blocks.dense_decoder((28, 28, 1), SIZE, hidden=hidden[::-1])
    return aelib.Autoencoder(encoder, decoder, likelihood="gaussian")


def train(net, x, epochs, settings):
    """Train in place by Adam along half a cosine; return the loss of each epoch."""
    steps = epochs * -(-len(x) // settings["batch"])
    net.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(settings["rate"], steps)))
    history = net.fit(x, epochs=epochs, batch_size=settings["batch"], verbose=0)
    return [round(loss / 784, 6) for loss in history.history["loss"]]


def self_train(kind, start, parts, seed, settings):
    """Train a copy of a net by DEC or IDEC; return the model, and a row for each round."""
    halves = []
    for half in (start.encoder, start.decoder):
        halves.append(keras.models.clone_model(half))
        halves[-1].set_weights(half.get_weights())
    model = clustering.DeepEmbeddedClustering(
        *halves, clusters=CLUSTERS, reconstruction=WEIGHTS[kind], likelihood="gaussian"
    )
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9) if kind == "DEC" else keras.optimizers.Adam(1e-3)
    model.compile(optimizer)
    (x, _), (x_val, y_val) = parts["train"], parts["val"]
    model.initialize(x, n_init=settings["starts"], seed=seed)
    keras.utils.set_random_seed(seed)  # of the order of the images
    before, trace = model.assign(x, batch_size=AT_ONCE), []
    for count in range(1, settings["rounds"] + 1):
        target = np.asarray(clustering.target_distribution(before), "float32")
        loss = model.fit(x, target, epochs=1, batch_size=settings["batch"], verbose=0).history["clustering"][
            0
        ]
        after = model.assign(x, batch_size=AT_ONCE)
        moved = float(np.mean(after.argmax(1) != before.argmax(1)))
        nmi = clustering.scores(y_val, model.assign(x_val, batch_size=AT_ONCE).argmax(1))["NMI"]
        trace.append([count, round(float(loss), 5), moved, round(nmi, 5)])
        before = after
        if moved < settings["tolerance"]:
            break
    return model, trace


class Nets:
    """Part one: trains what is not in the folder yet."""

    def __init__(self, folder, weights, settings):
        self.folder, self.weights, self.settings = folder, weights, settings
        self.begun = time.perf_counter()
        folder.mkdir(parents=True, exist_ok=True)
        weights.mkdir(parents=True, exist_ok=True)

    def weights_of(self, data, seed):
        """Return where the weights of a dense net are kept."""
        return self.weights / f"{data}-{seed}.weights.h5"

    def done(self, data, kind, seed):
        """Return whether a net need not be trained: dense ones are wanted until others have begun there."""
        if kind == "dense" and not self.weights_of(data, seed).is_file():
            return all(self.path(data, name, seed).is_file() for name in ("dense", *WEIGHTS))
        return self.path(data, kind, seed).is_file()

    def path(self, data, kind, seed):
        """Return where a net's codes are kept."""
        return self.folder / f"{data}-{kind}-{seed}.npz"

    def keep(self, data, kind, seed, arrays, meta):
        """Store codes and answers, whole or not at all."""
        path = self.path(data, kind, seed)
        meta = {"data": data, "kind": kind, "seed": seed, "device": device()} | meta
        half = path.with_suffix(".part.npz")
        np.savez_compressed(half, meta=json.dumps(meta), **arrays)
        half.replace(path)
        shown = {name: value for name, value in meta.items() if name not in ("losses", "trace")}
        print(f"{time.perf_counter() - self.begun:6.1f} s", json.dumps(shown), flush=True)

    def codes(self, model, parts, most=None):
        """Return {part: codes as float16}."""
        return {part: model.encode(x[:most]).astype("float16") for part, (x, _) in parts.items()}

    def run(self, data, parts, kind, seed):
        """Train a plain net, and store its codes."""
        if self.done(data, kind, seed):
            return
        net = build(kind, seed, self.settings)
        epochs = {"untrained": 0, "twice": 2 * self.settings["epochs"]}.get(kind, self.settings["epochs"])
        begun = time.perf_counter()
        losses = train(net, parts["train"][0], epochs, self.settings) if epochs else []
        meta = {"epochs": epochs, "seconds": stopped_clock(begun), "losses": losses}
        if epochs:
            meta["MSE"] = {part: metrics.mse(x, net.reconstruct(x)) for part, (x, _) in parts.items()}
        if kind == "dense":
            net.save_weights(self.weights_of(data, seed))
        self.keep(data, kind, seed, self.codes(net, parts), meta)

    def run_itself(self, data, parts, kind, seed):
        """Let a dense net train itself, and store its answers and some codes."""
        if self.done(data, kind, seed):
            return
        start = build("dense", seed, self.settings)
        start.load_weights(self.weights_of(data, seed))
        begun = time.perf_counter()
        model, trace = self_train(kind, start, parts, seed, self.settings)
        meta = {"rounds": len(trace), "seconds": stopped_clock(begun), "trace": trace}
        meta["stopped"] = trace[-1][2] < self.settings["tolerance"]
        begun = time.perf_counter()
        model.assign(parts["test"][0])
        meta["seconds to assign"] = stopped_clock(begun)
        answers = {
            f"answer_{part}": model.assign(x).argmax(1).astype("uint8") for part, (x, _) in parts.items()
        }
        arrays = self.codes(model, parts, self.settings["kept codes"]) | answers
        self.keep(data, kind, seed, arrays, meta)


def device():
    """Describe what this computes on."""
    try:
        return ledger.device()
    except RuntimeError:  # JAX, asked for GPUs where there are none
        return f"{os.cpu_count()} CPU cores; Keras {keras.__version__} on {keras.backend.backend()}"


def train_nets(folder, weights, settings):
    """Run part one; what matters most comes first."""
    training.FEW_STEPS = 64  # a round is short, but there are many of them
    nets = Nets(folder, weights, settings)
    for data, seeds in settings["seeds"].items():
        if not seeds:
            continue
        parts, _ = load(data, settings)
        for seed in seeds:
            nets.run(data, parts, "dense", seed)
            for kind in WEIGHTS:
                nets.run_itself(data, parts, kind, seed)
            nets.run(data, parts, "untrained", seed)
        nets.run(data, parts, "twice", seeds[0])
        for seed in seeds:
            nets.run(data, parts, "convolutional", seed)


# Part two: groups -------------------------------------------------------------------------------------------


def fit_kmeans(z, seed):
    """Fit k-means, the best of ten starts."""
    return KMeans(CLUSTERS, n_init=10, random_state=seed).fit(z)


def fit_mixture(z, seed):
    """Fit a mixture with full covariances that begins at the centres of k-means."""
    centres = fit_kmeans(z, seed).cluster_centers_
    return GaussianMixture(CLUSTERS, means_init=centres, max_iter=300, random_state=seed).fit(z)


class ByNeighbours:
    """Gives new points the answer of the fitted points next to them."""

    def __init__(self, z, answers, count):
        self.labels_ = answers
        self.vote = KNeighborsClassifier(count).fit(z, answers)

    def predict(self, z):
        """Return the cluster of each point: (n, K) -> (n,)."""
        return self.vote.predict(z)


def fit_density(z, seed, *, most, share):
    """Fit HDBSCAN to the first points; a new one belongs where the nearest of them does, or is noise, -1."""
    del seed  # nothing is drawn
    z = z[:most]
    found = HDBSCAN(min_cluster_size=max(5, round(share * len(z))), min_samples=10, copy=True).fit(z)
    return ByNeighbours(z, found.labels_, 1)


def fit_spectral(z, seed, *, most):
    """Fit spectral clustering to the first points; ten neighbours vote on a new one."""
    z = z[:most]
    spectral = SpectralClustering(
        CLUSTERS, affinity="nearest_neighbors", n_neighbors=10, n_init=10, random_state=seed
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a graph in several pieces
        return ByNeighbours(z, spectral.fit(z).labels_, 10)


def map_of(seed, neighbours):
    """Return UMAP with the settings of the N2D authors, but for the number of neighbours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import umap
    return umap.UMAP(n_neighbors=neighbours, min_dist=0.0, n_components=CLUSTERS, random_state=seed, n_jobs=1)


class Groups:
    """Part two: groups what is not in the results yet."""

    def __init__(self, folder, out, settings):
        self.folder, self.out, self.settings, self.begun = folder, out, settings, time.perf_counter()
        self.stored = {
            "what": "clusters of codes, components and maps, measured on test images",
            "settings": settings,
            "device": device(),
            "data": {},
            "nets": [],
            "rows": [],
        }
        if out.is_file():
            self.stored |= json.loads(out.read_text("utf-8"))
        if self.stored["settings"] != settings:
            raise SystemExit(f"{out} has other settings: move it away")

    def save(self, latest):
        """Store what there is."""
        self.out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.out, json.dumps(self.stored, indent=1, ensure_ascii=False) + "\n")
        print(f"{time.perf_counter() - self.begun:6.1f} s", json.dumps(latest), flush=True)

    def note_nets(self):
        """Copy what part one says of its nets."""
        names = sorted(path for path in self.folder.glob("*.npz") if ".part." not in path.name)
        self.stored["nets"] = [json.loads(str(np.load(path)["meta"])) for path in names]
        self.save({"nets": len(names)})

    def begin(self, data):
        """Load a data set; labels are for measuring."""
        self.name = data
        parts, self.stored["data"][data] = load(data, self.settings)
        self.x = {part: x.reshape(len(x), -1) for part, (x, _) in parts.items()}
        self.y = {part: y for part, (_, y) in parts.items()}
        self.fitted = {}

    def components(self, count):
        """Return {part: the first principal components}, and the seconds for fitting them."""
        if count not in self.fitted:
            begun = time.perf_counter()
            pca = PCA(count, svd_solver="covariance_eigh").fit(self.x["train"])
            z = {part: pca.transform(x).astype("float64") for part, x in self.x.items()}
            self.fitted[count] = z, stopped_clock(begun)
        return self.fitted[count]

    def representation(self, kind, seed):
        """Return {part: (n, K)} and the seconds for learning it, or None where part one has not made it."""
        if kind == "pixels":
            return self.x, 0.0
        if kind.startswith("PCA-"):
            return self.components(int(kind.removeprefix("PCA-")))
        path = self.folder / f"{self.name}-{kind}-{seed}.npz"
        if not path.is_file():
            return None
        with np.load(path) as kept:
            codes = {part: kept[part].astype("float64") for part in PARTS}
            return codes, json.loads(str(kept["meta"]))["seconds"]

    def rows(self, **key):
        """Return the stored rows with these entries."""
        return [row for row in self.stored["rows"] if key.items() <= row.items()]

    def measure(self, key, fitted, z, seconds):
        """Measure a grouping on test and validation images, and store the row."""
        begun = time.perf_counter()
        answer = {"test": fitted.predict(z["test"])}
        row = key | {"seconds": round(seconds, 2), "seconds to assign": stopped_clock(begun)}
        answer["val"] = fitted.predict(z["val"])
        row |= clustering.scores(self.y["test"], answer["test"])
        row["validation NMI"] = clustering.scores(self.y["val"], answer["val"])["NMI"]
        own = fitted.predict(z["train"]) if not hasattr(fitted, "labels_") else fitted.labels_
        row["fitted NMI"] = clustering.scores(self.y["train"][: len(own)], own)["NMI"]
        row["fitted images"] = len(own)
        self.stored["rows"].append(row)
        self.save(row)
        return answer["test"]

    def group(self, kind, seed, groupings, space, *, z, spent):
        """Fit and measure each grouping of one space."""
        for name, fit in groupings.items():
            key = {"data": self.name, "seed": seed, "code": kind, "space": space, "grouping": name}
            if self.rows(**key):
                continue
            begun = time.perf_counter()
            fitted = fit(z["train"], seed)
            answer = self.measure(key, fitted, z, spent + time.perf_counter() - begun)
            if name == "HDBSCAN":
                self.stored["rows"][-1] |= self.left_out(fitted, answer, z, seed)
                self.save({"left out": self.stored["rows"][-1]["noise"]})

    def left_out(self, fitted, answer, z, seed):
        """Compare HDBSCAN's noise with the points of which a mixture is least sure, as many of them."""
        keep, labels = answer >= 0, self.y["test"]
        mixture = fit_mixture(z["train"], seed)
        sure = mixture.predict_proba(z["test"]).max(axis=1)
        surest = np.argsort(-sure, kind="stable")[: keep.sum()]
        return {
            "clusters": int(fitted.labels_.max() + 1),
            "noise": float(np.mean(~keep)),
            "NMI, kept": clustering.scores(labels[keep], answer[keep])["NMI"] if keep.any() else 0.0,
            "NMI, mixture's surest": clustering.scores(labels[surest], mixture.predict(z["test"][surest]))[
                "NMI"
            ]
            if keep.any()
            else 0.0,
        }

    def flat(self, kind, seed):
        """Group a representation as it is."""
        found = self.representation(kind, seed)
        if found is None:
            return
        groupings = {"k-means": fit_kmeans}
        if kind != "pixels":
            groupings["mixture"] = fit_mixture
        if kind in ("PCA-50", "dense"):
            most = self.settings["spectral images"]
            groupings |= {
                "spectral, fewer": functools.partial(fit_spectral, most=most),
                "k-means, fewer": lambda z, seed: fit_kmeans(z[:most], seed),
            }
        self.group(kind, seed, groupings, "itself", z=found[0], spent=found[1])

    def mapped(self, kind, seed, neighbours, groupings):
        """Group what UMAP makes of a representation."""
        space = "UMAP" if neighbours == self.settings["neighbours"] else f"UMAP, {neighbours} neighbours"
        key = {"data": self.name, "seed": seed, "code": kind, "space": space}
        found = self.representation(kind, seed)
        if found is None or all(self.rows(**key, grouping=name) for name in groupings):
            return
        z, spent = found
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            begun = time.perf_counter()
            to_map = map_of(seed, neighbours)
            points = {"train": to_map.fit_transform(z["train"]).astype("float64")}
            fitting = stopped_clock(begun)
            begun = time.perf_counter()
            points["test"] = to_map.transform(z["test"]).astype("float64")
            placing = stopped_clock(begun)
            points["val"] = to_map.transform(z["val"]).astype("float64")
        self.group(kind, seed, groupings, space, z=points, spent=spent + fitting)
        for row in self.rows(**key):
            row |= {"seconds of UMAP": fitting, "seconds to place": placing}
        self.save(key | {"seconds of UMAP": fitting, "seconds to place": placing})

    def by_itself(self, kind, seed):
        """Measure the answers of DEC or IDEC, and what is left in its code."""
        key = {"data": self.name, "seed": seed, "code": kind, "space": "itself", "grouping": kind}
        path = self.folder / f"{self.name}-{kind}-{seed}.npz"
        if self.rows(**key) or not path.is_file():
            return
        with np.load(path) as kept:
            meta = json.loads(str(kept["meta"]))
            answer = {part: kept[f"answer_{part}"] for part in PARTS}
            near = KNeighborsClassifier(10).fit(kept["train"], self.y["train"][: len(kept["train"])])
            right = near.score(kept["val"], self.y["val"][: len(kept["val"])])
        before, spent = self.representation("dense", seed)
        most = self.settings["kept codes"]
        near = KNeighborsClassifier(10).fit(before["train"][:most], self.y["train"][:most])
        row = key | {"seconds": round(spent + meta["seconds"], 2)}
        row |= {name: meta[name] for name in ("seconds to assign", "rounds", "stopped")}
        row |= clustering.scores(self.y["test"], answer["test"])
        row["validation NMI"] = clustering.scores(self.y["val"], answer["val"])["NMI"]
        row["fitted NMI"] = clustering.scores(self.y["train"], answer["train"])["NMI"]
        row["fitted images"] = len(answer["train"])
        row |= {"10-NN": right, "10-NN before": near.score(before["val"], self.y["val"])}
        self.stored["rows"].append(row)
        self.save(row)


def group_all(folder, out, settings):
    """Run part two; seed 0 of every row first."""
    groups = Groups(folder, out, settings)
    groups.note_nets()
    density = functools.partial(fit_density, most=settings["density images"], share=settings["least share"])
    after_map = {"mixture": fit_mixture, "k-means": fit_kmeans, "HDBSCAN": density}
    for data, seeds in settings["seeds"].items():
        if not seeds:
            continue
        groups.begin(data)
        for seed in seeds:
            for kind in ("dense", "PCA-50"):
                groups.mapped(kind, seed, settings["neighbours"], after_map)
            for kind in ("dense", "PCA-50", "PCA-10", "pixels", "untrained", "convolutional"):
                groups.flat(kind, seed)
            for kind in WEIGHTS:
                groups.by_itself(kind, seed)
            for kind in ("PCA-10", "convolutional"):
                groups.mapped(kind, seed, settings["neighbours"], after_map)
        groups.flat("twice", seeds[0])
        groups.mapped("twice", seeds[0], settings["neighbours"], after_map)
        for count in settings["tried neighbours"]:
            for kind in ("dense", "PCA-50"):
                groups.mapped(kind, seeds[0], count, {"mixture": fit_mixture})


def main():
    """Run one of the two parts."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--codes", action="store_true", help="train the nets, and store their codes")
    parser.add_argument("--trial", action="store_true", help="a tiny run, to try the script out")
    parser.add_argument("--folder", type=Path, default=ROOT / "_build" / "clustering", help="of the codes")
    parser.add_argument("--weights", type=Path, help="folder of the weights, which part two does not need")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "clustering_long.json")
    args = parser.parse_args()
    settings = TRIAL if args.trial else SETTINGS
    if args.codes:
        train_nets(args.folder, args.weights or args.folder / "weights", settings)
    else:
        group_all(args.folder, args.out, settings)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    main()
