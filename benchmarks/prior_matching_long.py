"""Train the nets of `types/prior_matching` for longer than a notebook may take, and draw from them.

    AELIB_DATA_DIR=... python benchmarks/prior_matching_long.py

Fashion-MNIST, dense nets, a code of 32 numbers, 15 epochs of all training images in batches of 500. The
rows are PCA, a plain autoencoder, a Wasserstein autoencoder (WAE-MMD), an adversarial one and a VAE; each
draws its codes from N(0, I), from one normal and from a mixture of normals fitted to its codes, and from a
flow; the VAEs also from a second VAE. What each is trained with (the weight of its term; the scale of WAE's
kernel, the discriminator's learning rate) is chosen on validation images after short runs; the number of the
mixture's components by the density of validation codes. The VAE appears twice: with the weight that is best
with N(0, I), and with the one that is best with a mixture. Then follow twice the epochs and other code sizes,
with seed 0. The Fréchet distances are by `aelib.book.ruler`, 10,000 drawn images against the test images.
About an hour of one core after the choices, which take five minutes of a GPU. Every finished run is stored,
and a second start goes on after it. The figures go to ``benchmarks/results/prior_matching_long.json``.
"""

import argparse
import contextlib
import functools
import json
import math
import os
import time
from pathlib import Path

import keras
import numpy as np
from keras import ops

import aelib
from aelib import blocks, metrics, objectives, training
from aelib.book import ledger
from aelib.book.ruler import Ruler
from aelib.files import write_atomically
from aelib.priors import FlowMatchingPrior

SHAPE, SEEDS = (28, 28, 1), (0, 1, 2)
SETTINGS = {
    "images": 55_000,
    "batch": 500,
    "rate": 2e-3,
    "size": 32,
    "sizes": [8, 64],
    "epochs": 15,
    "epochs to choose": 10,
    "flow epochs": 20,
    "second epochs": 10,
    "classifier epochs": 5,
    "mixture rounds": 30,
    "mixture codes": 20_000,
    "components": [1, 3, 10, 30, 100, 300],
    "components to choose": 30,
    "drawn": 10_000,
}
TRIAL = SETTINGS | {
    "images": 1000,
    "batch": 100,
    "sizes": [8],
    "epochs": 2,
    "epochs to choose": 1,
    "flow epochs": 2,
    "second epochs": 2,
    "classifier epochs": 1,
    "mixture rounds": 3,
    "components": [1, 2, 4],
    "components to choose": 2,
    "drawn": 200,
}
#: The settings that are tried: the weight first, then the second one at the best weight.
GRIDS = {
    "WAE": {"strength": (64.0, 256.0, 1024.0, 4096.0, 16384.0), "scale": (0.1, 0.3, 1.0, 3.0, 10.0)},
    "adversarial": {
        "strength": (1.0, 4.0, 16.0, 64.0, 256.0),
        "discriminator rate": (1.25e-4, 2.5e-4, 5e-4, 1e-3, 2e-3),
    },
    "VAE": {"beta": (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0, 8.0)},
}
START = {"WAE": {"scale": 1.0}, "adversarial": {"discriminator rate": 5e-4}, "VAE": {}}
FACTORS = {"strength": 4.0, "scale": 3.0, "discriminator rate": 2.0, "beta": 2.0}
LOW = "VAE, for a mixture"
#: The score of a run whose loss was not finite: further away than any image.
DIVERGED = 1e4
KINDS = ("PCA", "plain", "WAE", "adversarial", "VAE", LOW)


def exact():
    """Return a context in which JAX multiplies matrices in full float32, which a GPU does not by itself."""
    if keras.backend.backend() != "jax":
        return contextlib.nullcontext()
    import jax

    return jax.default_matmul_precision("highest")


class WAE(aelib.WassersteinAutoencoder):
    """A Wasserstein autoencoder whose weight and kernel scale can be set after compiling."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, strength=1.0, **kwargs)
        self.strength = self.add_weight(shape=(), initializer="ones", trainable=False, name="strength")
        self.scale = self.add_weight(shape=(), initializer="ones", trainable=False, name="scale")

    def terms(self, target, out):
        """Return the base's terms; a kernel that is `scale` times as wide sees codes that much closer."""
        code = out["code"]
        draw = self.prior.draw(ops.shape(code)[0], code.shape[-1], seed=self.noise)
        apart = objectives.mmd(code / self.scale, draw / self.scale)
        return aelib.Autoencoder.terms(self, target, out) | {"mmd": self.strength * apart}


class Adversarial(aelib.AdversarialAutoencoder):
    """An adversarial autoencoder whose weight can be set after compiling."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, strength=1.0, **kwargs)
        self.strength = self.add_weight(shape=(), initializer="ones", trainable=False, name="strength")


class VAE(aelib.VariationalAutoencoder):
    """A variational autoencoder whose weight can be set after compiling."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.beta = self.add_weight(shape=(), initializer="ones", trainable=False, name="beta")


def build(kind, size, seed):
    """Build an untrained net."""
    keras.utils.set_random_seed(seed)
    outputs = 2 * size if kind == "VAE" else size
    encoder = blocks.dense_encoder(SHAPE, outputs, hidden=(512, 256), activation="silu")
    decoder = blocks.dense_decoder(SHAPE, size, hidden=(256, 512), activation="silu")
    if kind == "WAE":
        return WAE(encoder, decoder, seed=seed)
    if kind == "adversarial":
        judge = blocks.dense_encoder(size, 1, hidden=(256, 256), activation="silu")
        return Adversarial(encoder, decoder, discriminator=judge, seed=seed)
    if kind == "VAE":
        return VAE(encoder, decoder, seed=seed)
    return aelib.Autoencoder(encoder, decoder)


def second(size, seed):
    """Build the second VAE, which reads codes."""
    keras.utils.set_random_seed(seed)
    encoder = blocks.dense_encoder(size, 2 * size, hidden=(256, 256), activation="silu")
    decoder = blocks.dense_decoder(size, size, hidden=(256, 256), activation="silu")
    return aelib.VariationalAutoencoder(encoder, decoder, likelihood="gaussian", seed=seed)


def judge_of(size, seed):
    """Build the classifier of the two-sample test."""
    keras.utils.set_random_seed(seed)
    return blocks.dense_encoder(size, 1, hidden=(256, 256), activation="silu")


class Cosine(keras.callbacks.Callback):
    """Lets learning rates fall along half a cosine, epoch by epoch."""

    def __init__(self, rates, epochs):
        super().__init__()
        self.rates, self.epochs = rates, epochs

    def on_epoch_begin(self, epoch, logs=None):
        """Set the rates of this epoch."""
        optimizer = self.model.optimizer
        each = [optimizer.first, optimizer.second] if hasattr(optimizer, "first") else [optimizer]
        for one, rate in zip(each, self.rates, strict=True):
            one.learning_rate = rate * 0.5 * (1 + math.cos(math.pi * epoch / self.epochs))


class Compiled:
    """A model that is compiled once, and begun anew for each run."""

    def __init__(self, make, compile_):
        self.make, self.model = make, make(0)
        compile_(self.model)
        self.rewound = None

    def start(self, seed):
        """Return the model with the weights of a fresh one."""
        fresh = self.make(seed).variables
        for mine, theirs in zip(self.model.variables, fresh, strict=True):
            mine.assign(theirs.value)
        optimizer = self.model.optimizer
        if self.rewound is None:
            optimizer.build(self.model.trainable_variables)
            self.rewound = [ops.convert_to_numpy(variable.value) for variable in optimizer.variables]
        for variable, value in zip(optimizer.variables, self.rewound, strict=True):
            variable.assign(value)
        keras.utils.set_random_seed(seed)  # of the order of the images
        return self.model


def compile_net(model):
    """Compile an autoencoder; the rates are set by `Cosine`."""
    if isinstance(model, Adversarial):
        model.compile(keras.optimizers.Adam(1e-3), discriminator_optimizer=keras.optimizers.Adam(1e-3, 0.5))
    else:
        model.compile(keras.optimizers.Adam(1e-3))


def compile_judge(model):
    """Compile the classifier."""
    model.compile(keras.optimizers.Adam(1e-3), keras.losses.BinaryCrossentropy(from_logits=True))


@functools.cache
def compiled(kind, size):
    """Return the compiled model of a kind and a code size."""
    if kind == "judge":
        return Compiled(functools.partial(judge_of, size), compile_judge)
    if kind == "second":
        return Compiled(functools.partial(second, size), compile_net)
    return Compiled(functools.partial(build, kind, size), compile_net)


class Pca:
    """Principal components, in the place of a net."""

    def __init__(self, mean, axes):
        self.mean, self.axes = mean, axes

    def encode(self, x):
        """Return the codes: (n, K)."""
        return ((x.reshape(len(x), -1) - self.mean) @ self.axes.T).astype("float32")

    def decode(self, codes):
        """Return the images."""
        return np.clip(codes @ self.axes + self.mean, 0, 1).reshape(-1, *SHAPE).astype("float32")


class Normal:
    """N(0, I), which is fitted to nothing."""

    def fit(self, codes):
        """Return itself."""
        self.size = codes.shape[1]
        return self

    def sample(self, n, *, seed):
        """Draw codes: (n, K)."""
        return np.random.default_rng(seed).standard_normal((n, self.size)).astype("float32")


class Mixture:
    """A mixture of normals with full covariances, as `aelib.priors.MixturePrior`, on the accelerator."""

    def __init__(self, components, *, seed, rounds, most):
        self.components, self.seed, self.rounds, self.most = components, seed, rounds, most

    def fit(self, codes):
        """Fit to codes (n, K) by k-means and then expectation maximisation; return itself."""
        with exact():
            return self._fit(codes[: self.most])

    def _fit(self, codes):
        rng, n = np.random.default_rng(self.seed), len(codes)
        self.centre, self.spread = codes.mean(axis=0), np.maximum(codes.std(axis=0), 1e-6)
        z = ops.convert_to_tensor(((codes - self.centre) / self.spread).astype("float32"))
        size, count = z.shape[1], self.components
        self.eye = ops.eye(size)
        means = ops.take(z, rng.choice(n, count, replace=False), axis=0)
        for _ in range(20):  # k-means
            apart = ops.sum(ops.square(means), axis=1) - 2 * ops.matmul(z, ops.transpose(means))
            share = ops.one_hot(ops.argmin(apart, axis=1), count)  # (n, C)
            total = ops.sum(share, axis=0)[:, None]
            means = ops.where(total > 0, ops.matmul(ops.transpose(share), z) / ops.maximum(total, 1.0), means)
        squares = ops.reshape(z[:, :, None] * z[:, None, :], (n, size * size))
        before = -math.inf
        for _ in range(self.rounds):
            self._maximise(z, squares, share)
            logs = self._logs(z)  # (n, C)
            each = ops.logsumexp(logs, axis=1, keepdims=True)
            share, now = ops.exp(logs - each), float(ops.mean(each))
            if now - before < 1e-3:
                break
            before = now
        self.means_, self.covariances_, self.weights_ = (
            ops.convert_to_numpy(part).astype("float64") for part in (self.means, self.covs, self.weights)
        )
        return self

    def _maximise(self, z, squares, share):
        total = ops.sum(share, axis=0) + 1e-6
        size, count = z.shape[1], self.components
        self.weights = total / ops.sum(total)
        self.means = ops.matmul(ops.transpose(share), z) / total[:, None]
        second_moment = ops.matmul(ops.transpose(share), squares) / total[:, None]
        outer = self.means[:, :, None] * self.means[:, None, :]
        covs = ops.reshape(second_moment, (count, size, size)) - outer
        # As if a thousandth of the whole and one code of unit variance belonged to every component.
        self.covs = (covs * total[:, None, None] + self.eye) / (total[:, None, None] + 1) + 1e-3 * self.eye
        root = ops.cholesky(self.covs)
        self.inverse = ops.solve_triangular(root, ops.tile(self.eye[None], (count, 1, 1)), lower=True)
        self.half = ops.sum(ops.log(ops.diagonal(root, axis1=1, axis2=2)), axis=1)

    def _logs(self, z):
        """Return log weight + log density of each component: (n, C)."""
        size, parts = z.shape[1], []
        chunk = max(1, int(2e7 / (self.components * size)))
        turned = ops.reshape(self.inverse, (-1, size))  # (C K, K)
        shift = ops.sum(self.inverse * self.means[:, None, :], axis=2)  # (C, K)
        constant = ops.log(self.weights) - self.half - 0.5 * size * math.log(2 * math.pi)
        for at in range(0, z.shape[0], chunk):
            white = ops.matmul(z[at : at + chunk], ops.transpose(turned))
            white = ops.reshape(white, (-1, self.components, size)) - shift
            parts.append(constant - 0.5 * ops.sum(ops.square(white), axis=2))
        return ops.concatenate(parts, axis=0)

    def log_prob(self, codes):
        """Return the mean of the logarithm of the density."""
        z = ops.convert_to_tensor(((codes - self.centre) / self.spread).astype("float32"))
        with exact():
            value = float(ops.mean(ops.logsumexp(self._logs(z), axis=1)))
        return value - float(np.log(self.spread).sum())

    def sample(self, n, *, seed):
        """Draw codes: (n, K)."""
        rng = np.random.default_rng(seed)
        counts = rng.multinomial(n, self.weights_ / self.weights_.sum())
        roots = np.linalg.cholesky(self.covariances_)
        noise = rng.standard_normal((n, roots.shape[1]))
        which = np.repeat(np.arange(self.components), counts)
        drawn = self.means_[which] + np.einsum("nij,nj->ni", roots[which], noise)
        return rng.permutation(drawn * self.spread + self.centre).astype("float32")


class SecondVAE:
    """A VAE of codes, from which they are drawn, the learned variance included (Dai & Wipf, 2019)."""

    def __init__(self, *, seed, settings):
        self.seed, self.settings = seed, settings

    def fit(self, codes):
        """Fit to codes (n, K), and return itself."""
        self.centre, self.spread = codes.mean(axis=0), np.maximum(codes.std(axis=0), 1e-6)
        self.net = compiled("second", codes.shape[1]).start(self.seed)
        epochs = self.settings["second epochs"]
        options = {"batch_size": self.settings["batch"], "epochs": epochs, "verbose": 0}
        z = ((codes - self.centre) / self.spread).astype("float32")
        self.net.fit(z, callbacks=[Cosine([1e-3], epochs)], **options)
        return self

    def sample(self, n, *, seed):
        """Draw codes: (n, K)."""
        means = self.net.sample(n, seed=seed)
        deviation = math.exp(5.0 * float(self.net.likelihood.tenth.value))
        noise = np.random.default_rng([seed, 1]).standard_normal(means.shape)
        return ((means + deviation * noise) * self.spread + self.centre).astype("float32")


def searched(score, grid, *, factor, known=(), most=12):
    """Return the scores of a grid that grows until its best setting is inside it."""
    scores = dict(known)
    scores |= {setting: score(setting) for setting in grid if setting not in scores}
    while len(scores) < most:
        best = min(scores, key=scores.get)
        if best not in (min(scores), max(scores)):
            break
        setting = best * factor if best == max(scores) else best / factor
        scores[setting] = score(setting)
    return scores


def tries_of(scores):
    """Return scores in the form that is stored."""
    return {
        "best": min(scores, key=scores.get),
        "tries": {f"{setting:.6g}": scores[setting] for setting in sorted(scores)},
    }


def device():
    """Describe what this computes on."""
    try:
        return ledger.device()
    except RuntimeError:  # JAX, asked for GPUs where there are none
        return f"{os.cpu_count()} CPU cores; Keras {keras.__version__} on {keras.backend.backend()}"


class Script:
    """The runs, and where they are stored."""

    def __init__(self, out, settings):
        self.out, self.settings, self.begun = out, settings, time.perf_counter()
        data = aelib.load("fashion_mnist")
        self.x, self.x_val, self.x_test = data.x_train[: settings["images"]], data.x_val, data.x_test
        self.x_test = self.x_test[: settings["drawn"]]
        self.ruler = Ruler("fashion_mnist")
        self.known = {"val": self.ruler.features(self.x_val), "test": self.ruler.features(self.x_test)}
        self.stored = {
            "what": "dense nets, priors before and after training, Fréchet distances",
            "settings": settings,
            "device": device(),
            "data": data.source,
            "choices": {},
            "runs": [],
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

    def distance(self, images, part="test"):
        """Return the Fréchet distance from held-out images."""
        return metrics.frechet_distance(self.ruler.features(np.clip(images, 0, 1)), self.known[part])

    @functools.cached_property
    def components_of_images(self):
        """Return the mean image and all principal components, the first one first."""
        flat = self.x.reshape(len(self.x), -1)
        mean = flat.mean(axis=0, dtype="float64").astype("float32")
        values, vectors = np.linalg.eigh(np.cov((flat - mean).T, dtype="float64"))
        return mean, vectors[:, np.argsort(values)[::-1]].T.astype("float32")

    @functools.cached_property
    def flat(self):
        """Return the training images as a tensor (n, 784)."""
        return ops.convert_to_tensor(self.x.reshape(len(self.x), -1))

    def train(self, kind, size, seed, epochs, setting):
        """Return a trained net and the seconds that it took."""
        if kind == "PCA":
            mean, axes = self.components_of_images
            return Pca(mean, axes[:size]), 0.0
        net = compiled("VAE" if kind == LOW else kind, size).start(seed)
        rates = [self.settings["rate"]]
        for name, value in setting.items():
            if name == "discriminator rate":
                rates.append(value)
            else:
                getattr(net, name).assign(value)
        begun = time.perf_counter()
        options = {"batch_size": self.settings["batch"], "epochs": epochs, "verbose": 0}
        net.fit(self.x, callbacks=[Cosine(rates, epochs)], **options)
        return net, time.perf_counter() - begun

    def codes(self, net, x, seed):
        """Return the codes of images; those of a VAE are draws from its posteriors."""
        if not isinstance(net, VAE):
            return np.asarray(net.encode(x))
        mean, log_var = np.split(net.encoder.predict(x, batch_size=500, verbose=0), 2, axis=1)
        noise = np.random.default_rng(seed).standard_normal(mean.shape)
        return (mean + np.exp(0.5 * log_var) * noise).astype("float32")

    def mixture(self, components, seed):
        """Return a mixture that is not fitted yet."""
        rounds, most = self.settings["mixture rounds"], self.settings["mixture codes"]
        return Mixture(components, seed=seed, rounds=rounds, most=most)

    def choose(self, kind):
        """Choose the settings of a kind on validation images, after short runs."""
        if kind in self.stored["choices"]:
            return
        setting, size = dict(START[kind]), self.settings["size"]
        chosen, scores, afterwards = {}, {}, {}
        for name, grid in GRIDS[kind].items():

            def score(value, name=name):
                made = setting | {name: value}
                try:
                    net, _ = self.train(kind, size, 100, self.settings["epochs to choose"], made)
                except FloatingPointError:
                    afterwards[value] = DIVERGED
                    return DIVERGED
                if kind == "VAE":  # the same net, with a mixture
                    prior = self.mixture(self.settings["components to choose"], 0)
                    prior.fit(self.codes(net, self.x, 0))
                    images = net.decode(prior.sample(len(self.x_val), seed=0))
                    afterwards[value] = self.distance(images, "val")
                return self.distance(net.decode(standard_normal(size, len(self.x_val))), "val")

            # The best of the first settings has been tried with what the second one starts from.
            known = {START[kind][name]: min(scores.values())} if scores else {}
            scores = searched(score, grid, factor=FACTORS[name], known=known)
            chosen[name] = tries_of(scores)
            setting[name] = chosen[name]["best"]
            while kind == "VAE" and min(afterwards, key=afterwards.get) == min(afterwards):
                if len(afterwards) > 14:
                    break
                score(min(afterwards) / 2)
        self.stored["choices"][kind] = chosen
        if kind == "VAE":
            self.stored["choices"][LOW] = {"beta": tries_of(afterwards)}
        self.save({kind: self.stored["choices"][kind]})

    def setting(self, kind):
        """Return the chosen settings of a kind."""
        return {name: choice["best"] for name, choice in self.stored["choices"].get(kind, {}).items()}

    def components(self, kind, net, codes):
        """Choose the number of a mixture's components by the log-density of validation codes."""
        choices = self.stored.setdefault("components", {})
        if kind not in choices:
            held, density, distance = self.codes(net, self.x_val, 1), {}, {}
            counts = list(self.settings["components"])
            while counts:
                count = counts.pop(0)
                prior = self.mixture(count, 0).fit(codes)
                images = net.decode(prior.sample(len(self.x_val), seed=0))
                density[count] = -prior.log_prob(held)
                distance[str(count)] = self.distance(images, "val")
                if not counts and min(density, key=density.get) == count:
                    counts.append(3 * count)  # the best must not lie on the grid's edge
            choices[kind] = tries_of(density) | {"distance": distance}
        return choices[kind]["best"]

    def two_samples(self, held, drawn, seed):
        """Return how well codes and draws can be told apart: a classifier's right answers in %, and MMD²."""
        drawn = drawn[: len(held)]
        centre, spread = drawn.mean(axis=0), drawn.std(axis=0)
        one, two = (((part - centre) / spread).astype("float32") for part in (held, drawn))
        half = len(one) // 2
        x = np.concatenate([one[:half], two[:half]])
        y = np.repeat(np.float32([[1], [0]]), half, axis=0)
        judge, epochs = compiled("judge", held.shape[1]).start(seed), self.settings["classifier epochs"]
        options = {"batch_size": min(250, half), "epochs": epochs, "verbose": 0}
        training.fit(judge, judge.fit, x, y, callbacks=[Cosine([2e-3], epochs)], **options)
        logits = judge.predict(np.concatenate([one[half:], two[half:]]), batch_size=1000, verbose=0)[:, 0]
        right = np.mean(logits[: len(one) - half] > 0), np.mean(logits[len(one) - half :] <= 0)
        with exact():
            apart = float(objectives.mmd(*(ops.convert_to_tensor(part[:5000]) for part in (one, two))))
        return {"accuracy": 100 * float(np.mean(right)), "MMD": apart}

    def nearest(self, images):
        """Return the median over images of the RMS distance to the nearest training image."""
        wanted = ops.convert_to_tensor(images[:300].reshape(-1, 784))
        with exact():
            apart = ops.sum(ops.square(self.flat), axis=1) - 2 * ops.matmul(wanted, ops.transpose(self.flat))
            least = ops.convert_to_numpy(ops.min(apart, axis=1) + ops.sum(ops.square(wanted), axis=1))
        return float(np.median(np.sqrt(np.maximum(least, 0) / 784)))

    def floor(self):
        """Measure real images: against real images, and against those of the training set."""
        if "floor" not in self.stored:
            rng, n = np.random.default_rng(0), min(len(self.x), len(self.x_test))
            draws = [self.x[rng.choice(len(self.x), n, replace=False)] for _ in SEEDS]
            self.stored["floor"] = [self.distance(images) for images in draws]
            self.stored["nearest, test images"] = self.nearest(self.x_test)
            self.save({"floor": self.stored["floor"]})

    def run(self, kind, size, seed, epochs, *, whole=True):
        """Train a net, fit every prior to its codes, and measure what is drawn."""
        key = {"kind": kind, "size": size, "seed": seed, "epochs": epochs}
        if any(key.items() <= run.items() for run in self.stored["runs"]):
            return
        net, seconds = self.train(kind, size, seed, epochs, self.setting(kind))
        codes, held = self.codes(net, self.x, seed), self.codes(net, self.x_test, 100 + seed)
        rebuilt = net.decode(net.encode(self.x_test))
        run = key | {
            "device": device(),
            "seconds": round(seconds, 1),
            "MSE": metrics.mse(self.x_test, rebuilt),
            "rebuilt": self.distance(rebuilt),
            "rebuilt, drawn codes": self.distance(net.decode(held)),
            "active": int(np.sum(np.var(net.encode(self.x_test), axis=0) > 0.01)),
            "priors": {},
        }
        if size == self.settings["size"]:
            components = self.components(kind, net, codes)
        else:
            components = self.stored["components"][kind]["best"]
        priors = {
            "N(0, I)": Normal,
            "normal": functools.partial(self.mixture, 1, seed),
            "mixture": functools.partial(self.mixture, components, seed),
        }
        if whole:
            flow = {"epochs": self.settings["flow epochs"], "batch_size": self.settings["batch"]}
            priors["flow"] = functools.partial(FlowMatchingPrior, (256, 256), seed=seed, **flow)
            if kind in ("VAE", LOW):
                priors["second VAE"] = functools.partial(SecondVAE, seed=seed, settings=self.settings)
        for name, make in priors.items():
            begun = time.perf_counter()
            prior = make().fit(codes)
            spent = time.perf_counter() - begun
            drawn = np.asarray(prior.sample(self.settings["drawn"], seed=seed), "float32")
            images = net.decode(drawn)
            seen = self.ruler.features(np.clip(images, 0, 1))
            run["priors"][name] = {
                "distance": metrics.frechet_distance(seen, self.known["test"]),
                "validation distance": metrics.frechet_distance(seen[: len(self.x_val)], self.known["val"]),
                "seconds": round(spent, 1),
                "nearest": self.nearest(images),
            } | (self.two_samples(held, drawn, seed) if whole else {})
        self.stored["runs"].append(run)
        self.save(run)


def standard_normal(size, n):
    """Return draws from N(0, I): (n, K)."""
    return np.random.default_rng(0).standard_normal((n, size)).astype("float32")


def main():
    """Run what is not stored yet, and store it; what matters most comes first."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trial", action="store_true", help="a tiny run, to try the script out")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "prior_matching_long.json"
    )
    args = parser.parse_args()
    settings = TRIAL if args.trial else SETTINGS
    script = Script(args.out, settings)
    script.floor()
    for kind in GRIDS:
        script.choose(kind)
    size, epochs = settings["size"], settings["epochs"]
    for seed in SEEDS:
        for kind in KINDS:
            script.run(kind, size, seed, epochs)
    for kind in ("plain", "VAE"):
        script.run(kind, size, 0, 2 * epochs, whole=False)
    for other in settings["sizes"]:
        for kind in KINDS[:-1]:
            script.run(kind, other, 0, epochs, whole=False)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    main()
