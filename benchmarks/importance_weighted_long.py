"""Train the nets of `types/importance_weighted` to where a notebook has no time for, on JAX and a GPU.

    KERAS_BACKEND=jax AELIB_DATA_DIR=... python benchmarks/importance_weighted_long.py --epochs 200

The nets are those of Burda et al. (2016): 784-200-200-50-200-200-784, tanh, pixels binarised afresh in every
step, 5,000 draws an image to measure. The schedule is shorter: batches of 200, Adam at 2e-3 along a cosine.
A step of such a net is too small for a GPU, so **three nets, with seeds 0, 1 and 2, are trained in one
program**: each layer has three matrices, the loss is the sum of three losses, and so no net feels the
others. They share the order of the images and the binarisation. Then each is taken out, as the
model of `aelib` that it is, and measured by `aelib.bounds`.

The rows, in the order in which they are run: a VAE, k = 50 and k = 5 for ``--epochs``; the trained VAE,
continued for half as many with k = 50 (switched), or as it was (continued); the VAE and k = 50 for half the
epochs, which shows how near the others are to their plateau; and the VAE continued for as many seconds as
the switched one took. With ``--minutes`` the number of epochs follows from the pace of a few. Every finished
row is stored, and a second start goes on after it. The figures go to
``benchmarks/results/importance_weighted_long.json``.
"""

import argparse
import itertools
import json
import math
import os
import time
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops

import aelib
from aelib import blocks, bounds, metrics
from aelib.book import ledger
from aelib.files import write_atomically

ROOT = Path(__file__).resolve().parent.parent
SHAPE, PIXELS, HIDDEN, LATENTS = (28, 28, 1), 784, 200, 50
SEEDS, BATCH, RATE, RESTART = (0, 1, 2), 200, 2e-3, 1e-3
TEST_SEED, VALIDATION_SEED = 2, 1  # of the binarisation, the same for every net and in the chapter
#: {row: (draws in training, share of the epochs, the row whose nets it starts from)}
ROWS = {
    "VAE": (1, 1.0, None),
    "k = 50": (50, 1.0, None),
    "k = 5": (5, 1.0, None),
    "switched": (50, 0.5, "VAE"),
    "continued": (1, 0.5, "VAE"),
    "VAE, half": (1, 0.5, None),
    "k = 50, half": (50, 0.5, None),
    "continued, equal seconds": (1, None, "VAE"),
}


def binarise(images, seed):
    """Draw every pixel as a coin: white with the probability of its grey value."""
    coins = np.random.default_rng(seed).random(images.shape, dtype="float32")
    return (coins < images).astype("float32")


def single(seed, x_train):
    """Return one untrained net of aelib, whose decoder starts out with the mean image."""
    keras.utils.set_random_seed(seed)
    sizes = {"hidden": (HIDDEN, HIDDEN), "activation": "tanh"}
    encoder = blocks.dense_encoder(SHAPE, 2 * LATENTS, **sizes)
    decoder = blocks.dense_decoder(SHAPE, LATENTS, **sizes)
    mean = np.clip(x_train.mean(axis=0), 1e-3, 1 - 1e-3).ravel()
    decoder.get_layer("raw").bias.assign(np.log(mean / (1 - mean)))
    return aelib.VariationalAutoencoder(encoder, decoder, seed=seed)


def side_by_side(shape, sizes, name):
    """Build dense nets side by side: (B, ...) -> (B, seeds, sizes[-1])."""
    start = keras.Input(shape)
    h, equation = (layers.Flatten()(start), "bd,sde->bse") if len(shape) == 3 else (start, "bsd,sde->bse")
    for i, size in enumerate(sizes):
        activation = "tanh" if i < len(sizes) - 1 else None
        h = layers.EinsumDense(
            equation, output_shape=(len(SEEDS), size), bias_axes="se", activation=activation
        )(h)
        equation = "bsd,sde->bse"
    return keras.Model(start, h, name=name)


class SideBySide(aelib.Autoencoder):
    """One net for every seed, trained on the bound of `samples` draws; pixels are binarised in every step."""

    def __init__(self, samples):
        super().__init__(
            side_by_side(SHAPE, (HIDDEN, HIDDEN, 2 * LATENTS), "encoder"),
            side_by_side((len(SEEDS), LATENTS), (HIDDEN, HIDDEN, PIXELS), "decoder"),
        )
        self.samples = samples
        self.noise = keras.random.SeedGenerator(0)

    def call(self, x, training=None):
        """Return the binarised ``pixels``, and of each net the posterior's ``mean`` and ``log_var``."""
        if training:
            x = ops.cast(keras.random.uniform(ops.shape(x), seed=self.noise) < x, "float32")
        mean, log_var = ops.split(self.encoder(x), 2, axis=-1)  # (B, S, K)
        return {"pixels": x, "reconstruction": x, "mean": mean, "log_var": log_var}

    def terms(self, target, out):
        """Return the negative bound of each net, (B,), by the name of its seed."""
        mean, log_var = out["mean"], out["log_var"]
        noise = keras.random.normal((self.samples, *ops.shape(mean)), seed=self.noise)
        z = mean + ops.exp(0.5 * log_var) * noise  # (k, B, S, K)
        logits = self.decoder(ops.reshape(z, (-1, len(SEEDS), LATENTS)))
        logits = ops.reshape(logits, (self.samples, -1, len(SEEDS), PIXELS))
        x = ops.reshape(out["pixels"], (-1, 1, PIXELS))
        log_likelihood = ops.sum(x * logits - ops.softplus(logits), axis=-1)  # (k, B, S)
        if self.samples == 1:  # the divergence of a VAE, in closed form
            kl = 0.5 * ops.sum(ops.exp(log_var) + ops.square(mean) - 1.0 - log_var, axis=-1)
            loss = kl - log_likelihood[0]
        else:
            log_ratio = 0.5 * ops.sum(ops.square(noise) + log_var - ops.square(z), axis=-1)
            loss = math.log(self.samples) - ops.logsumexp(log_likelihood + log_ratio, axis=0)
        return {f"seed {seed}": loss[:, i] for i, seed in enumerate(SEEDS)}


class Cosine(keras.callbacks.Callback):
    """Lets the learning rate fall along half a cosine, epoch by epoch."""

    def __init__(self, peak, epochs):
        super().__init__()
        self.peak, self.epochs = peak, epochs

    def on_epoch_begin(self, epoch, logs=None):
        """Set the rate of the epoch."""
        done = (epoch + 0.5) / self.epochs
        self.model.optimizer.learning_rate = self.peak * 0.5 * (1 + math.cos(math.pi * done))


class Trainer:
    """The nets for one number of draws: compiled once, and rewound before each run."""

    def __init__(self, samples, x_train):
        self.net, self.x = SideBySide(samples), x_train
        options = {"jit_compile": True} if keras.backend.backend() == "jax" else {}
        self.net.compile(keras.optimizers.Adam(RATE), **options)
        self.net.optimizer.build(self.net.trainable_variables)
        self.state = [ops.convert_to_numpy(variable) for variable in self.net.optimizer.variables]

    def run(self, weights, epochs, peak):
        """Train from these weights; return the new ones, the loss of each epoch and seed, and seconds."""
        keras.utils.set_random_seed(0)
        self.net.set_weights(weights)
        self.net.noise.state.assign([0, 0])
        for variable, value in zip(self.net.optimizer.variables, self.state, strict=True):
            variable.assign(value)
        begun = time.perf_counter()
        history = self.net.fit(
            self.x, epochs=epochs, batch_size=BATCH, callbacks=[Cosine(peak, epochs)], verbose=0
        ).history
        seconds = time.perf_counter() - begun
        return self.net.get_weights(), [history[f"seed {seed}"] for seed in SEEDS], seconds


class Judge(keras.Model):
    """Images -> their log p(x), ELBO and effective number of draws: (B, ...) -> (B, 3)."""

    def __init__(self, model, samples):
        super().__init__()
        self.model, self.samples, self.noise = model, samples, keras.random.SeedGenerator(0)

    def call(self, x):
        """Draw, weigh and add up, in log space."""
        log_w = bounds.log_weights(self.model, x, self.samples, seed=self.noise)
        total = ops.logsumexp(log_w, axis=0)
        effective = ops.exp(2 * total - ops.logsumexp(2 * log_w, axis=0))
        return ops.stack([total - math.log(self.samples), ops.mean(log_w, axis=0), effective], axis=1)


def stacked(nets):
    """Return the weights of aelib's nets in the form of `SideBySide`, its random state aside."""
    parts = [[*net.encoder.get_weights(), *net.decoder.get_weights()] for net in nets]
    return [np.stack(arrays) for arrays in zip(*parts, strict=True)]


def take_out(weights, seed, net):
    """Put the weights of one seed into a net of aelib."""
    mine = [array[SEEDS.index(seed)] for array in weights[:12]]
    net.encoder.set_weights(mine[:6])
    net.decoder.set_weights(mine[6:])
    return net


def pace(trainers, weights):
    """Return the seconds of an epoch, by the number of draws, the compilation left out."""
    found = {}
    for samples, trainer in trainers.items():
        trainer.run(weights[samples], 1, RATE)
        found[samples] = trainer.run(weights[samples], 2, RATE)[2] / 2
        print(f"k = {samples}: {found[samples]:.2f} s an epoch of {len(SEEDS)} nets", flush=True)
    return found


def affordable(seconds, minutes):
    """Return the number of epochs with which all rows take so many minutes."""
    shares = [(k, share) for k, share, _ in ROWS.values() if share] + [(50, 0.5)]
    return max(4, int(60 * minutes / sum(seconds[k] * share for k, share in shares)))


def device():
    """Describe what this process computes on, with the name of the accelerator."""
    if keras.backend.backend() != "jax":
        return ledger.device()
    import jax

    kind = jax.devices()[0].device_kind
    where = f"{os.cpu_count()} CPU cores" if kind == "cpu" else f"1 {kind}"
    return f"{where}; Keras {keras.__version__} on jax {jax.__version__}"


def paired(scores):
    """Return {"a over b": [[mean lead in nats, its standard error] for each seed]} of all pairs of rows."""
    leads = {}
    for a, b in itertools.permutations(scores, 2):
        lead = scores[a] - scores[b]
        error = lead.std(axis=1, ddof=1) / math.sqrt(lead.shape[1])
        leads[f"{a} over {b}"] = [
            [round(float(number), 4) for number in pair]
            for pair in zip(lead.mean(axis=1), error, strict=True)
        ]
    return leads


def main():
    """Run what is not stored yet, and store it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=None, help="of training: sets the epochs")
    parser.add_argument("--test-images", type=int, default=10_000)
    parser.add_argument("--samples", type=int, default=5000, help="draws for each test image")
    parser.add_argument("--decodes", type=int, default=100_000, help="codes decoded at once, in measuring")
    parser.add_argument("--trial", action="store_true", help="tiny, to try it out")
    parser.add_argument("--folder", type=Path, default=ROOT / "_build" / "importance_weighted_long")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "benchmarks" / "results" / "importance_weighted_long.json"
    )
    args = parser.parse_args()
    if args.trial:
        args.epochs, args.test_images, args.samples, args.decodes = 2, 40, 100, 1000
        args.folder = args.folder.with_name("importance_weighted_trial")
    data = aelib.load("mnist")
    x_train = data.x_train[: 400 if args.trial else None]
    x_test = binarise(data.x_test[: args.test_images], TEST_SEED)
    x_val = binarise(data.x_val, VALIDATION_SEED)
    starts = [single(seed, x_train) for seed in SEEDS]
    start, model = stacked(starts), starts[0]
    judge = Judge(model, args.samples)
    trainers = {samples: Trainer(samples, x_train) for samples in (1, 5, 50)}
    rest = {samples: trainer.net.get_weights()[12:] for samples, trainer in trainers.items()}
    stored = json.loads(args.out.read_text("utf-8")) if args.out.is_file() else {}
    if not stored:
        if args.minutes:
            fresh = {samples: start + rest[samples] for samples in trainers}
            args.epochs = affordable(pace(trainers, fresh), args.minutes)
        stored = {
            "what": "784-200-200-50-200-200-784, tanh, binarised MNIST: three seeds trained side by side",
            "epochs": args.epochs,
            "images": len(x_train),
            "batch_size": BATCH,
            "rate": [RATE, RESTART],
            "seeds": SEEDS,
            "measure": f"nats, {args.samples} draws, first {len(x_test)} test images",
            "device": device(),
            "data": data.source,
            "rows": {},
            "leads": {},
        }
    if stored["images"] != len(x_train) or not stored["measure"].endswith(f" {len(x_test)} test images"):
        raise SystemExit(f"{args.out} has other settings: move it away")
    args.folder.mkdir(parents=True, exist_ok=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    scores = {name: np.load(args.folder / f"{name} scores.npy") for name in stored["rows"]}
    print(f"{stored['epochs']} epochs of {math.ceil(len(x_train) / BATCH)} steps", flush=True)
    for name, (samples, share, origin) in ROWS.items():
        if name in stored["rows"]:
            continue
        if share is None:
            as_long, quick = stored["rows"]["switched"], stored["rows"]["continued"]
            each = quick["seconds"] / quick["epochs"]
            epochs = min(2 * stored["epochs"], max(1, round(as_long["seconds"] / each)))
        else:
            epochs = max(1, round(share * stored["epochs"]))
        weights = start
        if origin:
            with np.load(args.folder / f"{origin}.npz") as file:
                weights = [file[key] for key in file.files]
        trained, losses, seconds = trainers[samples].run(
            weights[:12] + rest[samples], epochs, RESTART if origin else RATE
        )
        np.savez(args.folder / f"{name}.npz", *trained)
        begun, figures, active = time.perf_counter(), [], []
        for seed in SEEDS:
            take_out(trained, seed, model)
            judge.noise.state.assign([0, 0])
            figures.append(judge.predict(x_test, batch_size=max(1, args.decodes // args.samples), verbose=0))
            active.append(metrics.active_units(model.encode(x_val)))
        figures = np.array(figures, "float64")  # (seeds, images, 3)
        scores[name] = figures[..., 0]
        np.save(args.folder / f"{name} scores.npy", scores[name])
        every = max(1, epochs // 25)
        error = scores[name].std(axis=1, ddof=1) / math.sqrt(len(x_test))
        stored["rows"][name] = {
            "draws": samples,
            "epochs": epochs,
            "before": origin,
            "negative_log_p": np.round(-scores[name].mean(axis=1), 4).tolist(),
            "standard_error": np.round(error, 4).tolist(),
            "negative_elbo": np.round(-figures[..., 1].mean(axis=1), 4).tolist(),
            "effective_draws": np.round(np.median(figures[..., 2], axis=1), 1).tolist(),
            "active_units": active,
            "seconds": round(seconds, 1),
            "measuring_seconds": round(time.perf_counter() - begun, 1),
            "loss_of_seed_0": {i + 1: round(losses[0][i], 2) for i in range(every - 1, epochs, every)},
        }
        stored["leads"] = paired(scores)
        write_atomically(args.out, json.dumps(stored, indent=1, ensure_ascii=False) + "\n")
        told = {key: value for key, value in stored["rows"][name].items() if key != "loss_of_seed_0"}
        print(name, json.dumps(told), flush=True)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    main()
