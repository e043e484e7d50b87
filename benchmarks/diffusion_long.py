"""Train the diffusion models of `types/diffusion` to the end, and measure how they draw garments.

    AELIB_DATA_DIR=... python benchmarks/diffusion_long.py

Fashion-MNIST, all 55,000 training images. One denoiser for all noise levels (preconditioned and sampled as
by Karras et al., 2022, weights averaged) in three places: on pixels, folded to 14 × 14 × 4 (a U-Net of two
sizes); on the code of 7 × 7 × 4 numbers of a convolutional autoencoder (convolutions at one size); on the
code of 64 numbers of another (dense layers). Three seeds each, and seed 0 of each with twice the epochs.
Seed 0 on pixels is drawn from by Heun's method, by Euler's and by annealed Langevin walks, with different
numbers of evaluations. Rivals: a mixture of normals on the same codes, and the dense autoencoder and VAE of
`benchmarks/vector_quantized_long.py` with its code sizes and components. The Fréchet distances are by
`aelib.book.ruler`, 10,000 images against the test images.

The stored figures are not all of these: the minutes on the GPU were enough for seed 0 in the three places.
The rivals, and seed 2 on the code of 64, ran on a core of a processor each (``--rivals``, ``--run
vector 2``). Seconds are wall seconds; the device stands beside them. Every finished run is stored, the most
important first, and a second start goes on after it. The figures go to
``benchmarks/results/diffusion_long.json``, 64 draws from pixels to ``diffusion_samples.npz`` beside it.
"""

import argparse
import gc
import itertools
import json
import math
import os
import time
import warnings
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops
from sklearn.exceptions import ConvergenceWarning

import aelib
from aelib import blocks, metrics, training
from aelib.book import ledger
from aelib.book.ruler import Ruler
from aelib.files import write_atomically
from aelib.priors import MixturePrior

SHAPE, SEEDS = (28, 28, 1), (0, 1, 2)
CENTRE, SPREAD = -0.5, 1.2  # of the logarithms of the noise levels in training
LEAST, MOST, RHO = 0.005, 50.0, 7  # the noise levels that a sampler passes through
SETTINGS = {
    "images": 55_000,
    "drawn": 10_000,
    "steps": 18,
    "pixels": {"epochs": 16, "batch": 128, "rate": 1e-3, "widths": [64, 128]},
    "grid": {"epochs": 24, "batch": 256, "rate": 1e-3, "widths": [96]},
    "vector": {"epochs": 60, "batch": 256, "rate": 1e-3, "widths": [512, 512, 512]},
    "coder": {"epochs": 12, "batch": 128, "rate": 2e-3},
    "rival epochs": 6,
    "rivals": {"plain": [256, 500], "VAE": [32, 90]},
}
TRIAL = SETTINGS | {
    "images": 300,
    "drawn": 100,
    "steps": 3,
    "pixels": {"epochs": 1, "batch": 64, "rate": 1e-3, "widths": [8, 8]},
    "grid": {"epochs": 1, "batch": 64, "rate": 1e-3, "widths": [8]},
    "vector": {"epochs": 2, "batch": 64, "rate": 1e-3, "widths": [16]},
    "coder": {"epochs": 1, "batch": 64, "rate": 2e-3},
    "rival epochs": 1,
    "rivals": {"plain": [8, 5], "VAE": [8, 5]},
}


# --- The nets --------------------------------------------------------------------------------------------


def conv(width, size=3, **options):
    """Return a convolution that keeps the size."""
    return layers.Conv2D(width, size, padding="same", **options)


def embedded(level):
    """Describe the logarithm of the noise level by waves and two dense layers: (B, 1) -> (B, 128)."""
    quarter = ops.log(level) / 4
    waves = [wave(2**k * quarter) for k in range(4) for wave in (ops.cos, ops.sin)]
    return layers.Dense(128, "silu")(layers.Dense(128, "silu")(ops.concatenate(waves, axis=-1)))


def residual(h, level, width):
    """Change h by two convolutions that know the level: (B, S, S, C), (B, 128) -> (B, S, S, width)."""
    groups = max(1, min(8, width // 4))
    inner = conv(width)(ops.silu(layers.GroupNormalization(math.gcd(groups, h.shape[-1]))(h)))
    inner = inner + ops.reshape(layers.Dense(width)(level), (-1, 1, 1, width))
    inner = ops.silu(layers.GroupNormalization(groups)(inner))
    inner = conv(width, kernel_initializer="zeros")(inner)
    if h.shape[-1] != width:
        h = conv(width, 1)(h)
    return h + inner


def unet(x, level, widths):
    """Return the correction F of a U-Net with a size for each width: (B, S, S, C), (B, 1) -> (B, S, S, C)."""
    level, skips = embedded(level), []
    h = conv(widths[0])(x)
    for depth, width in enumerate(widths):
        if depth:
            h = conv(width, strides=2)(h)
        h = residual(h, level, width)
        skips.append(h)
    h = residual(residual(h, level, widths[-1]), level, widths[-1])
    for depth in reversed(range(len(widths))):
        h = residual(ops.concatenate([h, skips[depth]], axis=-1), level, widths[depth])
        if depth:
            h = conv(widths[depth - 1])(ops.repeat(ops.repeat(h, 2, axis=1), 2, axis=2))
    return conv(x.shape[-1], kernel_initializer="zeros")(ops.silu(h))


def dense(x, level, widths):
    """Return the correction F of residual dense layers: (B, K), (B, 1) -> (B, K)."""
    level, h = embedded(level), layers.Dense(widths[0])(x)
    for width in widths:
        inner = layers.Dense(width, "silu")(
            ops.silu(layers.LayerNormalization()(h)) + layers.Dense(width)(level)
        )
        h = h + layers.Dense(width, kernel_initializer="zeros")(inner)
    return layers.Dense(x.shape[-1], kernel_initializer="zeros")(ops.silu(h))


def fold(x):
    """Turn each 2 × 2 pixels into four channels: (B, 28, 28, 1) -> (B, 14, 14, 4)."""
    x = x.reshape(-1, 14, 2, 14, 2).transpose(0, 1, 3, 2, 4)
    return np.ascontiguousarray(x.reshape(-1, 14, 14, 4))


def unfold(x):
    """Return the pixels to their places: (B, 14, 14, 4) -> (B, 28, 28, 1)."""
    return x.reshape(-1, 14, 14, 2, 2).transpose(0, 1, 3, 2, 4).reshape(-1, 28, 28, 1)


def denoiser(body, shape, widths, seed):
    """Build the net r: noisy data of variance 1 (B, ...) and noise levels (B, 1) -> clean data (B, ...)."""
    keras.utils.set_random_seed(seed)
    seen, level = keras.Input(shape), keras.Input((1,))
    own = ops.reshape(level, (-1,) + (1,) * len(shape))
    share = 1 / (1 + ops.square(own))  # w
    root = ops.sqrt(share)
    return keras.Model([seen, level], share * seen + own * root * body(root * seen, level, widths))


class Training(keras.Model):
    """Trains a denoiser: draws a level and noise for each sample, and returns the error of F."""

    def __init__(self, net, seed, **kwargs):
        super().__init__(**kwargs)
        self.net = net
        self.seed = keras.random.SeedGenerator(seed)

    def call(self, clean, training=None):
        """Return the error in units in which every level counts alike: (B, ...) -> (B, ...)."""
        rows = ops.shape(clean)[0]
        level = ops.exp(CENTRE + SPREAD * keras.random.normal((rows, 1), seed=self.seed))
        own = ops.reshape(level, (-1,) + (1,) * (len(clean.shape) - 1))
        noisy = clean + own * keras.random.normal(ops.shape(clean), seed=self.seed)
        return (self.net([noisy, level], training=training) - clean) * ops.sqrt(1 + 1 / ops.square(own))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Return the mean square."""
        return ops.mean(ops.square(y_pred))


def train(net, data, seed, *, epochs, batch, rate):
    """Train a denoiser in place, and keep the running average of its weights; return losses and seconds."""
    model = Training(net, seed)
    steps = epochs * math.ceil(len(data) / batch)
    schedule = keras.optimizers.schedules.CosineDecay(rate, steps)
    adam = keras.optimizers.Adam(schedule, use_ema=True, ema_momentum=0.999)
    jit = "auto" if keras.backend.backend() == "jax" else False
    model.compile(adam, jit_compile=jit)
    model(data[:2])
    begun = time.perf_counter()
    options = {"batch_size": batch, "epochs": epochs, "verbose": 0}
    history = training.fit(model, model.fit, data, **options).history
    return history["loss"], time.perf_counter() - begun


# --- The samplers ----------------------------------------------------------------------------------------


class Answers:
    """The denoiser as a function of arrays, which counts its evaluations."""

    def __init__(self, net, chunk=2500):
        self.net, self.chunk, self.count = net, chunk, 0

    def __call__(self, seen, level):
        """Return r(seen, level): (n, ...), float -> (n, ...)."""
        self.count += 1
        parts = [seen[at : at + self.chunk] for at in range(0, len(seen), self.chunk)]
        levels = [np.full((len(part), 1), level, "float32") for part in parts]
        answers = [self.net.predict_on_batch([part, own]) for part, own in zip(parts, levels, strict=True)]
        return np.concatenate(answers)


def ladder(steps):
    """Return the levels that a deterministic sampler passes through, down to 0 (Karras et al., eq. 5)."""
    ends = MOST ** (1 / RHO), LEAST ** (1 / RHO)
    return np.append(np.linspace(*ends, steps) ** RHO, 0.0)


def follow(answers, start, steps, *, heun=True):
    """Solve dx/dν = (x - r) / ν from much noise to none, by Heun's method or Euler's."""
    levels = ladder(steps)
    x = MOST * start
    for now, later in itertools.pairwise(levels.tolist()):
        slope = (x - answers(x, now)) / now
        moved = x + (later - now) * slope
        if heun and later:
            slope = (slope + (moved - answers(moved, later)) / later) / 2
            moved = x + (later - now) * slope
        x = moved.astype("float32")
    return x


def langevin(answers, start, levels, steps, rng):
    """Walk by Langevin steps δ = ν²/5, level by level, and denoise at the end."""
    x = MOST * start
    for level in np.geomspace(MOST, LEAST, levels).tolist():
        for _ in range(steps):
            noise = rng.standard_normal(x.shape, dtype="float32")
            x = (x + 0.1 * (answers(x, level) - x) + 0.2**0.5 * level * noise).astype("float32")
    return answers(x, LEAST)


# --- Autoencoders for codes, and rivals --------------------------------------------------------------------


def coder(kind, seed):
    """Build a convolutional autoencoder with a code of 7 × 7 × 4 numbers ("grid") or of 64 ("vector")."""
    keras.utils.set_random_seed(seed)
    half = {"kernel_size": 4, "strides": 2, "padding": "same"}
    down = [layers.Conv2D(width, activation="silu", **half) for width in (32, 64)]
    down.append(conv(64, activation="silu"))
    up = [conv(64, activation="silu"), layers.Conv2DTranspose(32, activation="silu", **half)]
    up.append(layers.Conv2DTranspose(1, **half))
    if kind == "grid":
        down.append(conv(4, 1))
        code = (7, 7, 4)
    else:
        down += [layers.Flatten(), layers.Dense(64)]
        up = [layers.Dense(7 * 7 * 64, "silu"), layers.Reshape((7, 7, 64)), *up]
        code = (64,)
    encoder = keras.Sequential([layers.Input(SHAPE), *down], name="encoder")
    decoder = keras.Sequential([layers.Input(code), *up], name="decoder")
    return aelib.Autoencoder(encoder, decoder)


def rival(kind, size, seed):
    """Build a dense autoencoder or VAE with a code of `size` numbers."""
    keras.utils.set_random_seed(seed)
    outputs = size if kind == "plain" else 2 * size
    encoder = blocks.dense_encoder(SHAPE, outputs, hidden=(256, 128), activation="silu")
    decoder = blocks.dense_decoder(SHAPE, size, hidden=(128, 256), activation="silu")
    if kind == "plain":
        return aelib.Autoencoder(encoder, decoder)
    return aelib.VariationalAutoencoder(encoder, decoder, seed=seed)


def train_coder(net, x, *, epochs, batch, rate):
    """Train an autoencoder with Adam along half a cosine; return the wall seconds."""
    schedule = keras.optimizers.schedules.CosineDecay(rate, epochs * math.ceil(len(x) / batch))
    jit = "auto" if keras.backend.backend() == "jax" else False
    net.compile(keras.optimizers.Adam(schedule), jit_compile=jit)
    begun = time.perf_counter()
    net.fit(x, epochs=epochs, batch_size=batch, verbose=0)
    return time.perf_counter() - begun


def nearest(images, others, chunk=250):
    """Return the mean squared error per pixel to the nearest of the others: (n, ...), (m, ...) -> (n,)."""
    a, b = images.reshape(len(images), -1), others.reshape(len(others), -1)
    square, found = np.square(b).sum(axis=1), []
    for at in range(0, len(a), chunk):
        part = a[at : at + chunk]
        gaps = np.square(part).sum(axis=1)[:, None] - 2 * part @ b.T + square
        found.append(gaps.min(axis=1))
    return np.concatenate(found) / a.shape[1]


class Scaled:
    """Data of mean 0 and variance 1, over all pixels together or for each number of a code."""

    def __init__(self, data, *, axis):
        self.mean = data.mean(axis=axis)
        self.scale = np.maximum(data.std(axis=axis), 1e-6)

    def into(self, data):
        """Scale."""
        return ((data - self.mean) / self.scale).astype("float32")

    def back(self, data):
        """Undo it."""
        return (data * self.scale + self.mean).astype("float32")


class Script:
    """The runs, and where they are stored."""

    def __init__(self, out, settings):
        self.out, self.settings = out, settings
        data = aelib.load("fashion_mnist")
        self.x, self.x_test = data.x_train[: settings["images"]], data.x_test
        self.ruler = Ruler("fashion_mnist")
        self.known = self.ruler.features(self.x_test)
        self.coders = {}
        self.weights = Path(__file__).resolve().parent.parent / "_build" / "diffusion" / out.stem
        self.stored = {
            "what": "diffusion models of pixels and of codes, and rivals",
            "settings": settings,
            "data": data.source,
            "floor": [],
            "runs": [],
            "samplers": [],
            "mixtures": [],
            "rivals": [],
            "copies": [],
        }
        if out.is_file():
            self.stored |= json.loads(out.read_text("utf-8"))
        if self.stored["settings"] != settings:
            raise SystemExit(f"{out} has other settings: move it away")

    def save(self, part, run):
        """Store a run, and what it ran on."""
        run = run | {"device": ledger.device()}
        self.stored[part].append(run)
        self.out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.out, json.dumps(self.stored, indent=1, ensure_ascii=False) + "\n")
        short = {name: value for name, value in run.items() if name not in ("losses", "device")}
        print(f"{time.perf_counter():8.0f} s", part, json.dumps(short), flush=True)
        gc.collect()

    def done(self, part, **key):
        """Return the stored run with these settings, or None."""
        return next((run for run in self.stored[part] if key.items() <= run.items()), None)

    def distance(self, images):
        """Return the Fréchet distance from the test images."""
        return metrics.frechet_distance(self.ruler.features(np.clip(images, 0, 1)), self.known)

    def held_out(self, seed):
        """Draw as many training images as are drawn elsewhere."""
        rng = np.random.default_rng(seed)
        return self.x[rng.choice(len(self.x), min(len(self.x), self.settings["drawn"]), replace=False)]

    def floor(self):
        """Measure real images against real images."""
        for seed in SEEDS:
            if not self.done("floor", seed=seed):
                self.save("floor", {"seed": seed, "distance": self.distance(self.held_out(seed))})

    def coder(self, kind, seed):
        """Return a trained autoencoder for codes and its seconds."""
        if (kind, seed) not in self.coders:
            net = coder(kind, seed)
            self.coders[kind, seed] = net, train_coder(net, self.x, **self.settings["coder"])
        return self.coders[kind, seed]

    def place(self, kind, seed):
        """Return training data of variance 1, the way back to images, and what else there is to store."""
        if kind == "pixels":
            scaled = Scaled(self.x, axis=None)
            return fold(scaled.into(self.x)), lambda data: unfold(scaled.back(data)), {}
        net, seconds = self.coder(kind, seed)
        codes = net.encode(self.x)
        scaled = Scaled(codes, axis=0)
        rebuilt = net.reconstruct(self.held_out(seed))
        more = {
            "coder seconds": round(seconds, 1),
            "coder parameters": net.encoder.count_params() + net.decoder.count_params(),
            "rebuilt": self.distance(rebuilt),
            "rebuilt MSE": metrics.mse(self.x_test, net.reconstruct(self.x_test)),
        }
        return scaled.into(codes), lambda data: net.decode(scaled.back(data)), more

    def diffuse(self, kind, seed, times=1):
        """Train a denoiser on pixels or codes, and draw from it."""
        if self.done("runs", kind=kind, seed=seed, times=times):
            return
        options = dict(self.settings[kind])
        options["epochs"] *= times
        widths, n = options.pop("widths"), self.settings["drawn"]
        data, back, more = self.place(kind, seed)
        net = denoiser(dense if kind == "vector" else unet, data.shape[1:], widths, seed)
        losses, seconds = train(net, data, seed, **options)
        answers = Answers(net)
        start = np.random.default_rng([seed, 1]).standard_normal((n, *data.shape[1:]), dtype="float32")
        back(follow(answers, start, 2))  # compile
        begun, answers.count = time.perf_counter(), 0
        images = back(follow(answers, start, self.settings["steps"]))
        spent = time.perf_counter() - begun
        run = {
            "kind": kind,
            "seed": seed,
            "times": times,
            **options,
            "parameters": net.count_params(),
            **more,
            "distance": self.distance(images),
            "evaluations": answers.count,
            "seconds": round(seconds, 1),
            "milliseconds a sample": 1000 * spent / n,
            "losses": losses,
        }
        self.save("runs", run)
        if kind == "pixels" and seed == 0:
            self.weights.mkdir(parents=True, exist_ok=True)
            net.save_weights(self.weights / f"pixels-{times}.weights.h5")
            self.copies(images, times)

    def samplers(self):
        """Draw from one net on pixels in several ways, each with several numbers of evaluations."""
        n, answers = self.settings["drawn"], None
        ways = [("Heun", 4), ("Heun", 8), ("Heun", 32), ("Euler", 15), ("Euler", 35)]
        ways += [("Langevin", 12), ("Langevin", 60)]
        for name, steps in ways:
            if self.done("samplers", sampler=name, steps=steps):
                continue
            if answers is None:
                data, back, _ = self.place("pixels", 0)
                net = denoiser(unet, data.shape[1:], self.settings["pixels"]["widths"], 0)
                net.load_weights(self.weights / "pixels-1.weights.h5")
                answers = Answers(net)
                start = np.random.default_rng([0, 1]).standard_normal((n, *data.shape[1:]), dtype="float32")
                follow(answers, start, 2)  # compile
            begun, answers.count = time.perf_counter(), 0
            if name == "Langevin":
                drawn = langevin(answers, start, steps, 3, np.random.default_rng([0, 2]))
            else:
                drawn = follow(answers, start, steps, heun=name == "Heun")
            spent = time.perf_counter() - begun
            run = {
                "sampler": name,
                "steps": steps,
                "evaluations": answers.count,
                "distance": self.distance(back(drawn)),
                "milliseconds a sample": 1000 * spent / n,
            }
            self.save("samplers", run)

    def copies(self, images, times):
        """Look for the nearest training image of 1,000 draws, and of test images; keep 64 draws."""
        images = np.clip(images, 0, 1)
        drawn, real = (nearest(part[:1000], self.x) for part in (images, self.x_test))
        shares = {f"{q} %": float(np.mean(drawn < np.quantile(real, q / 100))) for q in (1, 5, 50)}
        run = {
            "times": times,
            "drawn": float(drawn.mean()),
            "test": float(real.mean()),
            "least drawn": float(drawn.min()),
            "least test": float(real.min()),
            "share of draws nearer than this quantile of the test images": shares,
        }
        kept = np.round(255 * images[:64]).astype("uint8")[..., 0]
        np.savez_compressed(
            self.out.with_name(self.out.stem.removesuffix("_long") + "_samples.npz"), images=kept
        )
        self.save("copies", run)

    def mixture(self, kind, seed, components):
        """Fit a mixture of normals to the codes of a diffusion model's autoencoder, and draw from it."""
        if self.done("mixtures", kind=kind, seed=seed):
            return
        net, seconds = self.coder(kind, seed)
        codes = net.encode(self.held_out(seed))
        flat = codes.reshape(len(codes), -1)
        begun = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            prior = MixturePrior(min(components, len(flat) // 20), seed=seed).fit(flat)
        spent = time.perf_counter() - begun
        drawn = prior.sample(self.settings["drawn"], seed=seed).reshape(-1, *codes.shape[1:])
        run = {
            "kind": kind,
            "seed": seed,
            "components": components,
            "distance": self.distance(net.decode(drawn)),
            "coder seconds": round(seconds, 1),
            "seconds": round(spent, 1),
        }
        self.save("mixtures", run)

    def compete(self, kind, seed):
        """Train a dense rival, and draw from a mixture of its codes; for a VAE also from N(0, I)."""
        if self.done("rivals", kind=kind, seed=seed):
            return
        size, components = self.settings["rivals"][kind]
        net, n = rival(kind, size, seed), self.settings["drawn"]
        seconds = train_coder(net, self.x, epochs=self.settings["rival epochs"], batch=128, rate=2e-3)
        codes, begun = net.encode(self.held_out(seed)), time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            prior = MixturePrior(min(components, len(codes) // 20), seed=seed).fit(codes)
        seconds += time.perf_counter() - begun
        begun = time.perf_counter()
        images = net.decode(prior.sample(n, seed=seed))
        spent = time.perf_counter() - begun
        run = {
            "kind": kind,
            "seed": seed,
            "size": size,
            "components": components,
            "parameters": net.encoder.count_params() + net.decoder.count_params(),
            "distance": self.distance(images),
            "rebuilt": self.distance(net.reconstruct(self.held_out(seed))),
            "seconds": round(seconds, 1),
            "milliseconds a sample": 1000 * spent / n,
        }
        if kind == "VAE":
            run["distance, N(0, I)"] = self.distance(net.sample(n, seed=seed))
        self.save("rivals", run)


def main():
    """Run what is not stored yet, and store it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trial", action="store_true", help="tiny sizes, to try it out")
    parser.add_argument("--rivals", action="store_true", help="the dense rivals only")
    parser.add_argument("--run", nargs=2, metavar=("KIND", "SEED"), help="one net only, as: vector 1")
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    name = "diffusion_trial_long.json" if args.trial else "diffusion_long.json"
    out = args.out or (Path(__file__).parent / ("../_build" if args.trial else "results") / name).resolve()
    script = Script(out, TRIAL if args.trial else SETTINGS)
    if args.run:
        script.diffuse(args.run[0], int(args.run[1]))
        return
    script.floor()
    if not args.rivals:
        for kind in ("pixels", "grid", "vector"):
            script.diffuse(kind, 0)
        for seed in SEEDS[1:]:
            script.diffuse("pixels", seed)
        script.samplers()
        for kind in ("grid", "vector"):
            for seed in SEEDS[1:]:
                script.diffuse(kind, seed)
        for kind in ("pixels", "grid", "vector"):
            script.diffuse(kind, 0, times=2)
        for kind in ("vector", "grid"):
            script.mixture(kind, 0, 300)
    for seed in SEEDS:
        for kind in ("VAE", "plain"):
            script.compete(kind, seed)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    main()
