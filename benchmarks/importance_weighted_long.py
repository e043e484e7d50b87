"""Train the nets of the importance-weighted chapter by the stages of Burda et al. (2016), as many as wished.

    python benchmarks/importance_weighted_long.py --stages 6 --nets "VAE 1" "IWAE 50"

Stage i has 3^i epochs at a learning rate of 1e-3 · 10^(-i/7); six stages are 364 epochs, the paper's eight
3,280. After every epoch each net is stored in ``_build/importance_weighted_long``. Started again after an
interruption, or with more stages, it goes on after the last whole epoch, and draws what an unbroken run would
have drawn. Each net that is done is measured on the first 1,000 test images, and its figures go to
``benchmarks/results/importance_weighted_long.json``, with device and epochs. It runs on TensorFlow and,
with ``KERAS_BACKEND=jax``, on JAX.
"""

import argparse
import json
import os
import time
from pathlib import Path

import keras
import numpy as np

import aelib
from aelib import blocks, bounds, metrics, results
from aelib.variational import ImportanceWeightedAutoencoder, VariationalAutoencoder

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "results" / "importance_weighted_long.json"
SHAPE, HIDDEN, LATENTS = (28, 28, 1), (200, 200), 50
SEED, BATCH = 0, 20
NETS = {"VAE 1": 1, "IWAE 5": 5, "IWAE 50": 50}


def rates(stages):
    """Return the learning rate of every epoch of so many stages."""
    return [1e-3 * 10 ** (-i / 7) for i in range(stages) for _ in range(3**i)]


def binarise(images, rng):
    """Draw every pixel as a coin: white with the probability of its grey value."""
    return (rng.random(images.shape, dtype="float32") < images).astype("float32")


def build(name, x_train):
    """Return an untrained net, compiled; the decoder starts out with the mean image."""
    keras.utils.set_random_seed(SEED)
    encoder = blocks.dense_encoder(SHAPE, 2 * LATENTS, hidden=HIDDEN, activation="tanh")
    decoder = blocks.dense_decoder(SHAPE, LATENTS, hidden=HIDDEN[::-1], activation="tanh")
    mean = np.clip(x_train.mean(axis=0), 1e-3, 1 - 1e-3).ravel()
    decoder.get_layer("raw").bias.assign(np.log(mean / (1 - mean)))
    if name.startswith("VAE"):
        model = VariationalAutoencoder(encoder, decoder, seed=SEED)
    else:
        model = ImportanceWeightedAutoencoder(encoder, decoder, samples=NETS[name], seed=SEED)
    # On a CPU, TensorFlow's XLA takes twice as long for fifty draws; JAX always compiles.
    fast = keras.backend.backend() == "jax" or bool(keras.distribution.list_devices("gpu"))
    model.compile(keras.optimizers.Adam(1e-3, epsilon=1e-4), jit_compile=fast)
    return model


def store(model, lines, folder):
    """Write the net and what its epochs noted; a kill in between leaves the earlier pair valid."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"epoch_{len(lines)}.keras"
    model.save(folder / name)
    results.write_atomically(folder / "epochs.json", json.dumps(lines))
    for old in folder.glob("epoch_*.keras"):
        if old.name != name:
            old.unlink()


def train(name, x_train, stages, folder):
    """Train, or go on training, and return (the model, what its epochs noted)."""
    log = folder / "epochs.json"
    lines = json.loads(log.read_text("utf-8")) if log.is_file() else []
    last = folder / f"epoch_{len(lines)}.keras"
    model = keras.saving.load_model(last) if lines else build(name, x_train)
    for epoch, rate in list(enumerate(rates(stages)))[len(lines) :]:
        start, cpu = time.perf_counter(), time.process_time()
        rng = np.random.default_rng([SEED, epoch])  # a net's epoch sees the same images in every run
        images = binarise(x_train[rng.permutation(len(x_train))], rng)
        # A stored net has forgotten how far its noise had come: give each epoch its own stretch of it.
        model.sampling.noise.state.assign([SEED, epoch * 4 * len(images)])
        model.optimizer.learning_rate = rate
        loss = model.fit(images, epochs=1, batch_size=BATCH, shuffle=False, verbose=0).history["loss"][0]
        seconds = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu}
        lines.append({"epoch": epoch + 1, "loss": loss} | {key: round(s, 2) for key, s in seconds.items()})
        store(model, lines, folder)
        print(name, lines[-1], flush=True)
    return model, lines


def measure(name, model, lines, stages, data, args):
    """Return the figures of a trained net."""
    rng = np.random.default_rng(SEED)
    test = binarise(data.x_test[: args.test_images], rng)
    found = bounds.log_likelihood(model, test, samples=args.samples, decodes=args.decodes)
    means = model.encode(binarise(data.x_val, rng))
    return {
        "what": f"784-200-200-{LATENTS}-200-200-784, tanh, {name}: the object of training and its draws",
        "negative_log_likelihood": -found.mean,
        "standard_error": found.error,
        "measure": f"nats, {args.samples} samples, first {len(test)} test images, binarised with seed {SEED}",
        "elbo": model.elbo(test, samples=10).mean,
        "active_units": metrics.active_units(means),
        "stages": stages,
        "epochs": len(lines),
        "training_images": args.images or len(data.x_train),
        "batch_size": BATCH,
        "seed": SEED,
        "device": results.device(),
        "data": data.source,
        "seconds": round(sum(line["seconds"] for line in lines)),
        "cpu_seconds": round(sum(line["cpu_seconds"] for line in lines)),
        "loss": [round(line["loss"], 3) for line in lines],
    }


def main():
    """Train each net, measure it, and add its figures to the file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--stages", type=int, default=6, choices=range(1, 9))
    parser.add_argument("--nets", nargs="+", default=list(NETS), choices=NETS)
    parser.add_argument("--images", type=int, default=None, help="train on the first so many, to try it out")
    parser.add_argument("--test-images", type=int, default=1000)
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--decodes", type=int, default=5000, help="codes decoded at once, in measuring")
    parser.add_argument("--folder", type=Path, default=ROOT / "_build" / "importance_weighted_long")
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args()
    data = aelib.load("mnist")
    for name in args.nets:
        model, lines = train(
            name, data.x_train[: args.images], args.stages, args.folder / name.replace(" ", "_")
        )
        known = json.loads(args.out.read_text("utf-8")) if args.out.is_file() else {}
        known[name] = measure(name, model, lines, args.stages, data, args)
        args.out.parent.mkdir(parents=True, exist_ok=True)
        results.write_atomically(args.out, json.dumps(known, indent=1, ensure_ascii=False) + "\n")
        print({key: value for key, value in known[name].items() if key != "loss"}, flush=True)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    main()
