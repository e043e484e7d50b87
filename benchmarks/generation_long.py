"""Fit wider flow-matching priors than a notebook can, on the two codes of `applications/generation`.

    AELIB_DATA_DIR=... python benchmarks/generation_long.py
    AELIB_DATA_DIR=... python benchmarks/generation_long.py --trial --out trial.json

Fashion-MNIST. Two autoencoders, with a code of 64 numbers and with four at 7 × 7 places, are trained as
in the chapter, three seeds each. Their codes get a mixture of normals (as many as the chapter chose) and a
flow of three hidden layers of 512 units. Rows with one change each (one seed): twice the width, twice
the epochs, two layers of 256, twice and half the learning rate.

The measure is the book's Fréchet distance of 10,000 draws from the test images; what is chosen is chosen by
the 5,000 validation images. The rows of three seeds and of twice the width take 75 minutes of one core and
are stored; the other changes are still to be run. Every finished run is stored, and a second start goes on
after it; the figures go to ``benchmarks/results/generation_long.json``.
"""

import argparse
import functools
import math
import time
from pathlib import Path

import keras
from keras import layers

import aelib
from aelib import metrics
from aelib.book import ledger
from aelib.book.ruler import Ruler
from aelib.book.runs import Runs
from aelib.priors import FlowMatchingPrior, MixturePrior

SHAPE, CODE, PLACES, NARROW, WIDE = (28, 28, 1), 64, (7, 7, 4), 16, 32
EPOCHS, BATCH, RATE, SEEDS = 3, 256, 4e-3, (0, 1, 2)
NORMALS, FITTED = {"autoencoder": 30, "spatial": 10}, 10_000
FLOW = {"hidden": [512, 512, 512], "epochs": 100, "learning_rate": 1e-3}
CHANGES = (
    {"hidden": [1024, 1024, 1024]},
    {"epochs": 200},
    {"hidden": [256, 256]},
    {"learning_rate": 2e-3},
    {"learning_rate": 5e-4},
)


def build(kind, seed):
    """Return one of the chapter's two autoencoders, untrained."""
    keras.utils.set_random_seed(seed)
    half = {"kernel_size": 4, "strides": 2, "padding": "same"}
    down = [layers.Input(SHAPE), *(layers.Conv2D(n, activation="silu", **half) for n in (NARROW, WIDE))]
    up = [layers.Conv2DTranspose(NARROW, activation="silu", **half), layers.Conv2DTranspose(1, **half)]
    if kind == "spatial":
        down += [layers.Conv2D(PLACES[-1], 1), layers.Flatten()]
        first = [layers.Input((math.prod(PLACES),)), layers.Reshape(PLACES)]
        first += [layers.Conv2D(WIDE, 3, padding="same", activation="silu")]
    else:
        down += [layers.Flatten(), layers.Dense(CODE)]
        first = [layers.Input((CODE,)), layers.Dense(7 * 7 * WIDE, "silu"), layers.Reshape((7, 7, WIDE))]
    return aelib.Autoencoder(keras.Sequential(down), keras.Sequential(first + up))


class Study:
    """The data, the ruler, and the nets, each trained once."""

    def __init__(self, trial):
        data, self.ruler = aelib.load("fashion_mnist"), Ruler("fashion_mnist")
        few = 600 if trial else None
        self.train, self.val, self.test = data.x_train[:few], data.x_val[:few], data.x_test[:few]
        self.source, self.trial, self.trained = data.source, trial, {}
        self.real = {part: self.ruler.features(getattr(self, part)) for part in ("val", "test")}

    def net(self, kind, seed):
        """Return a trained net, the codes of the training images, and the seconds."""
        if (kind, seed) in self.trained:
            return self.trained[kind, seed]
        net, begun = build(kind, seed), time.process_time()
        rate = keras.optimizers.schedules.CosineDecay(RATE, EPOCHS * math.ceil(len(self.train) / BATCH))
        net.compile(keras.optimizers.Adam(rate))
        net.fit(self.train, epochs=EPOCHS, batch_size=BATCH, verbose=0)
        spent = time.process_time() - begun
        self.trained[kind, seed] = net, net.encode(self.train), spent
        return self.trained[kind, seed]

    def distances(self, net, draw):
        """Return the Fréchet distances of decoded draws from validation and test images."""
        far = {}
        for part, real in self.real.items():
            images = net.decode(draw(len(real)))
            far[part] = float(metrics.frechet_distance(self.ruler.features(images), real))
        return far

    def rebuilt(self, kind, seed):
        """Measure training images taken through code and decoder: what a perfect prior would reach."""
        net, codes, seconds = self.net(kind, seed)
        return self.distances(net, lambda n: codes[:n]) | {"seconds": seconds}

    def mixture(self, kind, seed):
        """Fit a mixture to some of the codes and measure its draws."""
        net, codes, _ = self.net(kind, seed)
        begun = time.process_time()
        prior = MixturePrior(NORMALS[kind], seed=seed).fit(codes[:FITTED])
        spent = time.process_time() - begun
        return self.distances(net, functools.partial(prior.sample, seed=seed + 10)) | {"seconds": spent}

    def flow(self, kind, seed, settings):
        """Fit a flow to all codes and measure its draws."""
        net, codes, _ = self.net(kind, seed)
        settings = settings | ({"epochs": 1} if self.trial else {})
        begun = time.process_time()
        prior = FlowMatchingPrior(**settings, batch_size=500, seed=seed).fit(codes)
        spent = time.process_time() - begun
        return self.distances(net, functools.partial(prior.sample, seed=seed + 10)) | {"seconds": spent}


def main():
    """Run what is not stored yet, and store it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trial", action="store_true", help="few images and epochs, to try it out")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "generation_long.json"
    )
    args = parser.parse_args()
    study = Study(args.trial)
    settings = {"epochs": EPOCHS, "normals": NORMALS, "images": len(study.train), "flow": FLOW}
    runs = Runs(args.out, settings | {"device": ledger.device(), "data": study.source})

    def measure(prior, kind, seed, change=None):
        key = {"prior": prior, "kind": kind, "seed": seed} | (
            {"change": change or {}} if prior == "flow" else {}
        )
        todo = functools.partial(study.flow, settings=FLOW | (change or {})) if prior == "flow" else None
        runs.get(key, lambda: (todo or getattr(study, prior))(kind, seed))

    for seed in SEEDS:
        for kind in ("spatial", "autoencoder"):
            for prior in ("rebuilt", "mixture", "flow"):
                measure(prior, kind, seed)
    for change in CHANGES:
        for kind in ("spatial", "autoencoder"):
            measure("flow", kind, SEEDS[0], change)


if __name__ == "__main__":
    main()
