"""Train convolutional and dense VAEs of equally many parameters to their plateau, by both clocks.

    AELIB_DATA_DIR=... python benchmarks/convolutional_variational_long.py --speed
    AELIB_DATA_DIR=... KERAS_BACKEND=jax python benchmarks/convolutional_variational_long.py

Fashion-MNIST, 2 and 16 latents, Bernoulli pixels, all training images, batches of 250, Adam at a rate that
falls along a cosine from epoch to epoch. The peak is chosen for both nets among equally many, on validation
images, by short runs of two seeds; both then train at half of the smaller of the two, since the next larger
one broke. A long run that breaks all the same is repeated at half its rate, and says so.

Each net has 20 epochs with three seeds; twice as many with one; and the convolutional one so few that a
processor takes as long for them as for the dense one's 20, the dense one so many that it takes as long for
them as for the convolutional 20: these numbers come from speeds that ``--speed`` has measured and stored.
Further rows have 16 latents and one change: a larger dense net, normalization layers, a Gaussian likelihood
with a learned variance.

Every finished run is stored, and a second start goes on after it; the most important runs come first. The
figures go to ``benchmarks/results/convolutional_variational_long.json``, the speeds to
``convolutional_variational_speed.json`` beside it. Seconds are those of the wall; they include compiling.
"""

import argparse
import dataclasses
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
from sklearn.metrics import silhouette_score
from sklearn.neighbors import KNeighborsClassifier

import aelib
from aelib import blocks, bounds, metrics, objectives, priors
from aelib.book import ledger
from aelib.book.ruler import Ruler
from aelib.files import write_atomically

RESULTS = Path(__file__).parent / "results"
SPEED = RESULTS / "convolutional_variational_speed.json"
SHAPE, FILTERS, KERNEL, NECK = (28, 28, 1), (32, 64), 4, 32
LATENTS, BATCH, EPOCHS, SEEDS = (16, 2), 250, 20, (0, 1, 2)
RATES, TRIAL_EPOCHS, TRIAL_SEEDS = (5e-4, 1e-3, 2e-3, 4e-3, 8e-3), 4, (100, 101)
PART = 1000  # images measured at once, and those of the log-likelihood
BROKEN = 1e4  # nats, for a run whose loss is no longer finite
NORMS = {
    "convolutional, batch norm": layers.BatchNormalization,
    "convolutional, group norm": lambda: layers.GroupNormalization(8),
}


def convolutional(latents, norm=None):
    """Return encoder and decoder: strided convolutions, a narrow dense layer, and their mirror image."""
    stage = {"kernel_size": KERNEL, "strides": 2, "padding": "same", "use_bias": norm is None}

    def block(layer):
        return [layer, *([norm()] if norm else []), layers.Activation("silu")]

    encoder = [layers.Input(SHAPE)]
    for n in FILTERS:  # 28 -> 14 -> 7
        encoder += block(layers.Conv2D(n, **stage))
    encoder += [layers.Flatten(), layers.Dense(NECK, "silu"), layers.Dense(2 * latents)]
    decoder = [layers.Input((latents,)), layers.Dense(NECK, "silu")]
    decoder += [layers.Dense(7 * 7 * FILTERS[1], "silu"), layers.Reshape((7, 7, FILTERS[1]))]
    decoder += block(layers.Conv2DTranspose(FILTERS[0], **stage))  # 7 -> 14
    decoder += [layers.Conv2DTranspose(1, KERNEL, strides=2, padding="same")]  # 14 -> 28, logits
    return keras.Sequential(encoder, name="encoder"), keras.Sequential(decoder, name="decoder")


def dense(latents, hidden=None):
    """Return a dense pair; by default of as many parameters as the convolutional one, to half a per cent."""
    if hidden is None:
        wanted = sum(part.count_params() for part in convolutional(latents))
        width = min(range(64, 512), key=lambda n: abs(dense_parameters(latents, n) - wanted))
        hidden = (width, width // 2)
    return (
        blocks.dense_encoder(SHAPE, 2 * latents, hidden=hidden, activation="silu"),
        blocks.dense_decoder(SHAPE, latents, hidden=hidden[::-1], activation="silu"),
    )


def dense_parameters(latents, width):
    """Return the parameters of a dense pair with hidden layers of `width` and half of it."""
    sides = (784, width, width // 2)
    halves = [(*sides, 2 * latents), (latents, *sides[::-1])]
    return sum(a * b + b for half in halves for a, b in itertools.pairwise(half))


def halves(net, latents):
    """Return encoder and decoder of a row."""
    if net.startswith("dense"):
        return dense(latents, hidden=(512, 256) if net == "dense, larger" else None)
    return convolutional(latents, NORMS.get(net))


def falling(peak, epochs):
    """Return a callback that lowers the learning rate along a cosine, from epoch to epoch."""
    return keras.callbacks.LearningRateScheduler(
        lambda epoch: peak * 0.5 * (1 + math.cos(math.pi * epoch / epochs))
    )


class Runner:
    """A net compiled once, and rewound before each run."""

    def __init__(self, net, latents, likelihood="bernoulli"):
        self.net, self.latents = net, latents
        self.model = aelib.VariationalAutoencoder(*halves(net, latents), likelihood=likelihood, seed=0)
        self.model.compile(keras.optimizers.Adam(1e-3))
        self.model(np.zeros((1, *SHAPE), "float32"))  # builds the likelihood
        self.model.optimizer.build(self.model.trainable_variables)
        self.start = [ops.convert_to_numpy(v) for v in self.model.optimizer.variables]
        self.likelihood = self.model.likelihood.get_weights()

    def run(self, data, seed, peak, epochs):
        """Train from the start of a seed; return the validation loss by epoch, infinite if it broke."""
        keras.utils.set_random_seed(seed)
        parts = halves(self.net, self.latents)
        self.model.encoder.set_weights(parts[0].get_weights())
        self.model.decoder.set_weights(parts[1].get_weights())
        self.model.likelihood.set_weights(self.likelihood)
        self.model.sampling.noise.state.assign([seed, 0])
        for variable, value in zip(self.model.optimizer.variables, self.start, strict=True):
            variable.assign(value)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that no unit is active, which is counted
                return self.model.fit(
                    data.x_train,
                    epochs=epochs,
                    batch_size=BATCH,
                    validation_data=(data.x_val,),
                    validation_batch_size=BATCH,
                    callbacks=[falling(peak, epochs)],
                    verbose=0,
                ).history["val_loss"]
        except (ValueError, FloatingPointError) as error:
            print(self.net, seed, peak, error, flush=True)
            return [math.inf]


def best_rate(runner, data, epochs, rates=RATES, seeds=TRIAL_SEEDS):
    """Return the peak with the lowest mean validation loss, never on an edge, and every try."""
    scores = {}
    rates = list(rates)
    while True:
        for rate in rates:
            if rate not in scores:
                ends = [runner.run(data, seed, rate, epochs)[-1] for seed in seeds]
                score = float(np.mean(ends))
                scores[rate] = score if math.isfinite(score) else BROKEN
        best = min(scores, key=scores.get)
        if best not in (min(scores), max(scores)) or len(scores) > len(RATES) + 3:
            return best, dict(sorted(scores.items()))
        rates = [best / 2 if best == min(scores) else best * 2]


def parts(x):
    """Return images in parts of one size, for which a function is compiled once."""
    return [x[i : i + PART] for i in range(0, len(x), PART)]


def draws(model, x, seed=0):
    """Return one code for each image, drawn from its posterior: (n, K)."""
    posteriors = [[ops.convert_to_numpy(one) for one in model.posterior(part)] for part in parts(x)]
    mean, log_var = (np.concatenate(both) for both in zip(*posteriors, strict=True))
    noise = np.random.default_rng(seed).standard_normal(mean.shape)  # float64, for the mixture's covariances
    return mean + np.exp(0.5 * log_var) * noise


class Judge:
    """Measures a trained net on the test set."""

    def __init__(self, data, args):
        self.data, self.trial = data, args.trial
        self.ruler = Ruler("fashion_mnist")
        order = np.random.default_rng(0).permutation(len(data.x_test))
        half = len(order) // 2
        self.real, self.others = data.x_test[order[:half]], data.x_test[order[half : 2 * half]]
        self.features = self.ruler.features(self.real)
        self.floor = self.ruler.floor(self.real, self.others)
        self.labelled = slice(0, 10_000)

    def distance(self, images):
        """Return the Fréchet distance of images from the first half of the test set."""
        return metrics.frechet_distance(self.ruler.features(images), self.features)

    def bound(self, model):
        """Return the bound and its parts in nats, the error, and the active units."""
        data = self.data
        elbo = bounds.elbo(model, data.x_test, samples=5, decodes=5 * PART)
        kl = [ops.convert_to_numpy(objectives.gaussian_kl(*model.posterior(x))) for x in parts(data.x_test)]
        kl = float(np.concatenate(kl).mean())
        return {
            "elbo": elbo.mean,
            "elbo_error": elbo.error,
            "elbo_1000": float(elbo.each[:PART].mean()),
            "kl": kl,
            "reconstruction": -elbo.mean - kl,
            "mse": metrics.mse(data.x_test, model.reconstruct(data.x_test, batch_size=500)),
            "active": metrics.active_units(model.encode(data.x_val, batch_size=500)),
        }

    def rest(self, model):
        """Return log-likelihood, distances of samples, and how well the codes separate the classes."""
        data = self.data
        some = data.x_test[: 8 if self.trial else PART]
        samples = 20 if self.trial else 1000
        tight = bounds.log_likelihood(model, some, samples=samples, decodes=20_000)
        count = len(self.real)
        drawn = [self.distance(model.sample(count, seed=seed)) for seed in (1, 2, 3)]
        known = draws(model, data.x_train[self.labelled])
        mixture = priors.MixturePrior(10, seed=0).fit(known)
        mixed = [self.distance(model.decode(mixture.sample(count, seed=seed))) for seed in (1, 2, 3)]
        codes = {part: model.encode(getattr(data, f"x_{part}"), batch_size=500) for part in ("val", "test")}
        codes["train"] = model.encode(data.x_train[self.labelled], batch_size=500)
        y = data.y_train[self.labelled]
        nearest = KNeighborsClassifier(15).fit(codes["train"], y)
        return {
            "log_likelihood_1000": tight.mean,
            "rebuilt": self.distance(model.reconstruct(self.others, batch_size=500)),
            "prior": float(np.mean(drawn)),
            "prior_draws": drawn,
            "mixture": float(np.mean(mixed)),
            "knn": 100 * float(nearest.score(codes["test"], data.y_test)),
            "probe": 100
            * metrics.linear_probe(
                (codes["train"], y), (codes["val"], data.y_val), (codes["test"], data.y_test)
            ),
            "silhouette": float(silhouette_score(codes["test"][:5000], data.y_test[:5000])),
        }


def measure_speed(out, data):
    """Measure and store the processor seconds that an epoch takes, after a first one that compiles."""
    seconds, images = {}, 25_000
    for latents in LATENTS:
        for net in ("convolutional", "dense"):
            model = aelib.VariationalAutoencoder(*halves(net, latents), seed=0)
            model.compile(keras.optimizers.Adam(1e-3))
            model.fit(data.x_train[:images], epochs=1, batch_size=BATCH, verbose=0)
            begun = time.process_time()
            epochs = 1 if net == "convolutional" else 3
            model.fit(data.x_train[:images], epochs=epochs, batch_size=BATCH, verbose=0)
            whole = (time.process_time() - begun) / epochs * len(data.x_train) / images
            seconds[f"{net}, {latents}"] = round(whole, 2)
            print(net, latents, f"{whole:.1f} s", flush=True)
    about = {"device": ledger.device(), "images": len(data.x_train), "batch": BATCH}
    about["what"] = "processor seconds of an epoch of training"
    write_atomically(out, json.dumps(about | {"seconds": seconds}, indent=1) + "\n")


def plan(epochs, short, long, seeds):
    """Yield (net, latents, likelihood, epochs, seed, whether to measure all), the most important first."""
    pair, bits = ("convolutional", "dense"), "bernoulli"

    def main_runs(seed, k):
        yield from ((net, k, bits, epochs, seed, True) for net in pair)
        yield from ((net, k, bits, short[k], seed, False) for net in pair)

    for k in LATENTS:
        yield from main_runs(seeds[0], k)
    for k in LATENTS:
        yield "dense", k, bits, long[k], seeds[0], False
        yield from ((net, k, bits, 2 * epochs, seeds[0], False) for net in pair[::-1])
        for seed in seeds[1:]:
            yield from main_runs(seed, k)
    yield from (("dense, larger", 16, bits, epochs, seed, False) for seed in seeds)
    yield from ((net, 16, "gaussian", epochs, seeds[0], False) for net in pair)
    yield from ((net, 16, bits, epochs, seeds[0], False) for net in NORMS)
    for seed in seeds[1:]:
        yield from (("dense", k, bits, long[k], seed, False) for k in LATENTS)
        yield from ((net, 16, "gaussian", epochs, seed, False) for net in pair)
        yield from ((net, 16, bits, epochs, seed, False) for net in NORMS)


def device():
    """Return what this runs on, also where JAX has no GPU to ask about."""
    try:
        return ledger.device()
    except RuntimeError:
        return f"{os.cpu_count()} CPU cores; Keras {keras.__version__} on {keras.backend.backend()}"


def main():
    """Run what is not stored yet, and store it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trial", action="store_true", help="few images and epochs, to try it out")
    parser.add_argument("--speed", action="store_true", help="measure the speed of this processor, and stop")
    parser.add_argument("--out", type=Path, default=RESULTS / "convolutional_variational_long.json")
    args = parser.parse_args()
    data = aelib.load("fashion_mnist")
    if args.speed:
        measure_speed(SPEED, data)
        return
    seconds = json.loads(SPEED.read_text("utf-8"))["seconds"]
    epochs, trial_epochs, rates, seeds, trial_seeds = EPOCHS, TRIAL_EPOCHS, RATES, SEEDS, TRIAL_SEEDS
    if args.trial:
        names = [f"{axis}_{part}" for axis in "xy" for part in ("train", "val", "test")]
        data = dataclasses.replace(data, **{name: getattr(data, name)[:500] for name in names})
        epochs, trial_epochs, rates, seeds, trial_seeds = 2, 1, (5e-4, 1e-3, 2e-3), (0,), (100,)
    ratio = {k: seconds[f"convolutional, {k}"] / seconds[f"dense, {k}"] for k in LATENTS}
    short = {k: max(1, round(epochs / ratio[k])) for k in LATENTS}
    long = {k: round(epochs * ratio[k]) for k in LATENTS}
    judge, runners = Judge(data, args), {}
    stored = {
        "epochs": epochs,
        "short": {str(k): n for k, n in short.items()},
        "long": {str(k): n for k, n in long.items()},
        "images": len(data.x_train),
        "batch": BATCH,
        "trial_epochs": trial_epochs,
        "trial_seeds": trial_seeds,
        "device": device(),
        "data": data.source,
        "floor": judge.floor,
        "rates": {},
        "runs": [],
    }
    if args.out.is_file():
        stored |= json.loads(args.out.read_text("utf-8"))
    if (stored["epochs"], stored["images"]) != (epochs, len(data.x_train)):
        raise SystemExit(f"{args.out} has other settings: move it away")

    def store():
        args.out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(args.out, json.dumps(stored, indent=1, ensure_ascii=False) + "\n")

    names = ("net", "latents", "likelihood", "epochs", "seed")
    for *key, thorough in plan(epochs, short, long, seeds):
        run = dict(zip(names, key, strict=True))
        if any(all(old[name] == run[name] for name in names) for old in stored["runs"]):
            continue
        begun, worked = time.perf_counter(), time.process_time()
        net, latents, likelihood = key[:3]
        if (net, latents, likelihood) not in runners:
            runners[net, latents, likelihood] = Runner(net, latents, likelihood)
        runner = runners[net, latents, likelihood]
        for plain in ("convolutional", "dense"):  # all variants have the rate of these two
            which = f"{plain}, {latents}"
            if which in stored["rates"]:
                continue
            runners.setdefault((plain, latents, "bernoulli"), Runner(plain, latents, "bernoulli"))
            best, tries = best_rate(
                runners[plain, latents, "bernoulli"], data, trial_epochs, rates, trial_seeds
            )
            stored["rates"][which] = {"best": best, "tries": {f"{r:g}": score for r, score in tries.items()}}
            store()
            print(which, stored["rates"][which], f"{time.perf_counter() - begun:.0f} s", flush=True)
            begun, worked = time.perf_counter(), time.process_time()
        run["rate"] = (
            min(stored["rates"][f"{one}, {latents}"]["best"] for one in ("convolutional", "dense")) / 2
        )
        curve = runner.run(data, run["seed"], run["rate"], run["epochs"])
        while not math.isfinite(curve[-1]):
            run["rate"] /= 2
            curve = runner.run(data, run["seed"], run["rate"], run["epochs"])
        run["parameters"] = sum(part.count_params() for part in (runner.model.encoder, runner.model.decoder))
        run["train_seconds"] = round(time.perf_counter() - begun, 1)
        run["train_cpu_seconds"] = round(time.process_time() - worked, 1)
        run["val_loss"] = [round(value, 3) for value in curve]
        run |= judge.bound(runner.model) | (judge.rest(runner.model) if thorough else {})
        run["seconds"] = round(time.perf_counter() - begun, 1)
        stored["runs"].append(run)
        store()
        print({k: v for k, v in run.items() if k not in ("val_loss", "prior_draws")}, flush=True)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the device may be shared
    main()
