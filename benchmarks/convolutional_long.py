"""Train the nets of `types/convolutional` longer than a notebook may.

    AELIB_DATA_DIR=... python benchmarks/convolutional_long.py

Fashion-MNIST, all training images in batches of 128, Adam along a cosine. The runs: the much-copied net with
pooling (60 epochs, three quarters of an hour of processor time); convolutions of stride 2 with a linear code
of 256 numbers (20 epochs), and with one by a third convolution (20 epochs); the linear path with
convolutional corrections, started at PCA (20 epochs); and, at 32 numbers, the strided net against a dense one
(15 epochs each; the dense one with three seeds, and once with 30 epochs), whose learning rates are first
chosen on validation. All but the first take about an hour of processor time. Each run keeps its best epoch by
validation loss, reloads it, checks it against a fingerprint of that epoch's weights, and is measured once on
the test set. Start the script again after a kill: it goes on after the last epoch that was finished. The
figures go to ``benchmarks/results/convolutional_long.json``, which the chapter cites.
"""

import argparse
import csv
import hashlib
import json
import math
import os
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops
from sklearn.decomposition import PCA

import aelib
from aelib import blocks, metrics
from aelib.book import ledger
from aelib.files import write_atomically

SHAPE = (28, 28, 1)
FILTERS = (32, 32, 16)
BATCH = 128
SWEEP_IMAGES, SWEEP_EPOCHS = 11_000, 4


def convolution(filters, padding="same"):
    """Return a 3×3 convolution, its batch normalisation, and ReLU."""
    return [layers.Conv2D(filters, 3, padding=padding), layers.BatchNormalization(), layers.ReLU()]


def encoder():
    """Build the encoder: 28 → 14 → 7 → 4 by pooling that rounds up, (B, 28, 28, 1) → (B, 256)."""
    stack = [layers.Input(SHAPE)]
    for n in FILTERS:
        stack += [*convolution(n), layers.MaxPooling2D(2, padding="same")]
    return keras.Sequential([*stack, layers.Flatten()], name="encoder")


def decoder():
    """Build the decoder: 4 → 8 → 16, which a convolution without padding turns into 14, → 28; logits."""
    stack = [layers.Input((4 * 4 * FILTERS[-1],)), layers.Reshape((4, 4, FILTERS[-1]))]
    for n, padding in zip(reversed(FILTERS), ("same", "same", "valid"), strict=True):
        stack += [*convolution(n, padding), layers.UpSampling2D(2)]
    return keras.Sequential([*stack, layers.Conv2D(1, 3, padding="same", name="raw")], name="decoder")


def much_copied(x, code):
    """Build the much-copied net, whose code is 4 × 4 × 16."""
    assert code == 4 * 4 * FILTERS[-1]
    return aelib.Autoencoder(encoder(), decoder())


def normalized():
    """Return batch normalisation that follows quickly, and ReLU."""
    return [layers.BatchNormalization(momentum=0.9), layers.ReLU()]


def strided(x, code):
    """Build convolutions of 32 and 64 filters with stride 2, a linear code, and transposed convolutions."""
    down = [layers.Input(SHAPE)]
    for n in (32, 64):
        down += [layers.Conv2D(n, 3, 2, "same", use_bias=False), *normalized()]
    down += [layers.Flatten(), layers.Dense(code, name="code")]
    up = [layers.Input((code,)), layers.Dense(7 * 7 * 64, use_bias=False)]
    up += [layers.Reshape((7, 7, 64)), *normalized()]
    up += [layers.Conv2DTranspose(32, 3, 2, "same", use_bias=False), *normalized()]
    up += [layers.Conv2DTranspose(1, 3, 2, "same", name="raw")]
    return aelib.Autoencoder(keras.Sequential(down, name="encoder"), keras.Sequential(up, name="decoder"))


def shared_code(x, code):
    """Build the strided net with a code of 4 × 4 × 16 by a third convolution, in place of dense layers."""
    assert code == 4 * 4 * 16
    down = [layers.Input(SHAPE)]
    for n in (32, 64):
        down += [layers.Conv2D(n, 3, 2, "same", use_bias=False), *normalized()]
    down += [layers.Conv2D(16, 3, 2, "same", name="code"), layers.Flatten()]
    up = [layers.Input((code,)), layers.Reshape((4, 4, 16))]
    up += [layers.Conv2DTranspose(64, 3, 2, "same", output_padding=0, use_bias=False), *normalized()]
    up += [layers.Conv2DTranspose(32, 3, 2, "same", use_bias=False), *normalized()]
    up += [layers.Conv2DTranspose(1, 3, 2, "same", name="raw")]
    return aelib.Autoencoder(keras.Sequential(down, name="encoder"), keras.Sequential(up, name="decoder"))


def dense(x, code):
    """Build 784-512-256-code and back."""
    return aelib.Autoencoder(
        blocks.dense_encoder(SHAPE, code, hidden=(512, 256), activation="silu"),
        blocks.dense_decoder(SHAPE, code, hidden=(256, 512), activation="silu"),
    )


def corrected_encoder(pca):
    """Build z = U(x - mean) + what strided convolutions add, which is 0 at the start."""
    image = keras.Input(SHAPE)
    linear = layers.Dense(pca.n_components_, name="linear")
    z = linear(layers.Flatten()(image))
    seen = layers.Conv2D(32, 3, 2, "same", activation="silu")(image)
    seen = layers.Conv2D(64, 3, 2, "same", activation="silu")(seen)
    z = z + layers.Dense(pca.n_components_, kernel_initializer="zeros")(layers.Flatten()(seen))
    linear.set_weights([pca.components_.T, -pca.components_ @ pca.mean_])
    return keras.Model(image, z, name="encoder")


def corrected_decoder(pca, width=64, clip=0.01):
    """Build logits of the picture Uᵀz + mean, plus what a residual block at 14 × 14 adds: 0 at the start."""
    z = keras.Input((pca.n_components_,))
    linear = layers.Dense(784, name="linear")
    picture = layers.Reshape(SHAPE)(linear(z))
    p = ops.clip(picture, clip, 1 - clip)
    alike = layers.Rescaling((1 / np.sqrt(pca.explained_variance_)).tolist())(z)
    grown = layers.Reshape((7, 7, 64))(layers.Dense(7 * 7 * 64, activation="silu")(alike))
    h = layers.Conv2D(width, 4, 2, "same")(picture)  # 28 → 14: each block of 2 × 2 becomes maps
    h = h + layers.Conv2DTranspose(width, 3, 2, "same")(grown)  # 7 → 14
    change = layers.Conv2D(width, 3, padding="same", activation="silu")(layers.Activation("silu")(h))
    h = h + layers.Conv2D(width, 3, padding="same")(change)
    last = layers.Conv2DTranspose(1, 4, 2, "same", kernel_initializer="zeros", name="raw")
    logits = ops.log(p) - ops.log(1 - p) + last(layers.Activation("silu")(h))
    linear.set_weights([pca.components_, pca.mean_])
    return keras.Model(z, logits, name="decoder")


def corrected(x, code):
    """Build the linear path with convolutional corrections, started at the PCA of `x`."""
    pca = PCA(code, svd_solver="covariance_eigh").fit(x.reshape(len(x), -1))
    return aelib.Autoencoder(corrected_encoder(pca), corrected_decoder(pca))


BUILD = {
    "much-copied": much_copied,
    "strided": strided,
    "shared": shared_code,
    "dense": dense,
    "corrected": corrected,
}


def compiled(name, x, code, seed, epochs, rate):
    """Return a net with its schedule: the rate rises for 5 % of the steps, then falls along a cosine."""
    keras.utils.set_random_seed(seed)
    model = BUILD[name](x, code)
    steps = epochs * math.ceil(len(x) / BATCH)
    if name == "much-copied":
        schedule = keras.optimizers.schedules.CosineDecay(rate, steps)
    else:
        rise = max(1, steps // 20)
        schedule = keras.optimizers.schedules.CosineDecay(
            rate / 100, max(1, steps - rise), warmup_target=rate, warmup_steps=rise
        )
    # XLA makes dense nets quicker and convolutions slower.
    model.compile(keras.optimizers.Adam(schedule), jit_compile="auto" if name == "dense" else False)
    return model


def digest(model):
    """Return a fingerprint of all weights, to the bit; a number, since logs hold nothing else."""
    content = b"".join(w.tobytes() for w in model.get_weights())
    return float(int(hashlib.sha256(content).hexdigest()[:13], 16))  # 52 bits: exact as a float


class Note(keras.callbacks.Callback):
    """Adds to each epoch's log its duration and the weights' fingerprint; must precede the CSV logger."""

    def on_epoch_begin(self, epoch, logs=None):
        """Start the clocks."""
        self.start, self.cpu = time.time(), time.process_time()

    def on_epoch_end(self, epoch, logs):
        """Read the clocks."""
        logs["seconds"], logs["cpu_seconds"] = time.time() - self.start, time.process_time() - self.cpu
        logs["weights"] = digest(self.model)
        print(f"epoch {epoch + 1}: {logs['val_loss'] / 784:.5f}, {logs['seconds']:.0f} s", flush=True)


def read_log(path):
    """Return what the epochs noted, one dict of str an epoch; of one trained twice, the last."""
    rows = list(csv.DictReader(path.open())) if path.is_file() else []
    return list({int(row["epoch"]): row for row in rows}.values())


def train(model, x, x_val, epochs, folder):
    """Train, or go on training, and return (the log, the path of the best epoch's model)."""
    folder.mkdir(parents=True, exist_ok=True)
    log, best = folder / "log.csv", folder / "best.keras"
    done = read_log(log)
    if len(done) >= epochs:
        return done, best
    so_far = min((float(row["val_loss"]) for row in done), default=None)
    callbacks = [
        Note(),
        keras.callbacks.CSVLogger(log, append=True),
        # The threshold, else the first epoch after a kill counts as the best so far.
        keras.callbacks.ModelCheckpoint(best, save_best_only=True, initial_value_threshold=so_far),
        keras.callbacks.BackupAndRestore(folder / "backup"),
    ]
    model.fit(x, epochs=epochs, batch_size=BATCH, validation_data=(x_val,), callbacks=callbacks, verbose=0)
    return read_log(log), best


def bce(model, x):
    """Return the cross-entropy in nats per pixel, from the logits."""
    return model.evaluate(x, batch_size=500, verbose=0, return_dict=True)["loss"] / 784


def measured(name, code, seed, epochs, rate, data, x, folder):
    """Train one net and return its figures."""
    model = compiled(name, x, code, seed, epochs, rate)
    log, path = train(model, x, data.x_val, epochs, folder / f"{name}-{code}-{seed}-{epochs}")
    row = min(log, key=lambda row: float(row["val_loss"]))
    model = keras.saving.load_model(path)
    assert digest(model) == float(row["weights"]), "the reloaded model is not the best epoch's, bit for bit"
    return {
        "net": name,
        "code": code,
        "seed": seed,
        "epochs": len(log),
        "rate": rate,
        "parameters": model.count_params(),
        "best_epoch": int(row["epoch"]) + 1,
        "seconds": round(sum(float(r["seconds"]) for r in log)),
        "cpu_seconds": round(sum(float(r["cpu_seconds"]) for r in log)),
        "device": ledger.device(),
        "train_bce_last_epoch": float(log[-1]["loss"]) / 784,
        "validation_bce": bce(model, data.x_val),
        "test_bce": bce(model, data.x_test),
        "test_mse": metrics.mse(data.x_test, model.reconstruct(data.x_test)),
        "validation_bce_by_epoch": [round(float(r["val_loss"]) / 784, 5) for r in log],
    }


def best_rate(name, code, x, x_val):
    """Return the learning rate that does best in a short run, and the validation BCE of every try."""

    def score(rate):
        model = compiled(name, x, code, 100, SWEEP_EPOCHS, rate)
        model.fit(x, epochs=SWEEP_EPOCHS, batch_size=BATCH, verbose=0)
        return bce(model, x_val)

    scores = {rate: score(rate) for rate in (2e-3, 4e-3, 8e-3)}
    while len(scores) < 8:
        best = min(scores, key=scores.get)
        if best not in (min(scores), max(scores)):
            break
        rate = best / 2 if best == min(scores) else best * 2
        scores[rate] = score(rate)
    return min(scores, key=scores.get), dict(sorted(scores.items()))


def main():
    """Run what is not stored yet, and store it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trial", action="store_true", help="512 images and one epoch, to try it out")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir(), "convolutional_long"))
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "convolutional_long.json"
    )
    args = parser.parse_args()
    data = aelib.load("fashion_mnist")
    x = data.x_train[:512] if args.trial else data.x_train
    stored = {"images": len(x), "batch": BATCH, "data": data.source, "rates": {}, "runs": []}
    if args.out.is_file():
        stored |= json.loads(args.out.read_text("utf-8"))
    if stored["images"] != len(x):
        raise SystemExit(f"{args.out} has other settings: move it away")

    def store():
        args.out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(args.out, json.dumps(stored, indent=1, ensure_ascii=False) + "\n")

    for name in ("strided", "dense"):
        if name not in stored["rates"]:
            best, tries = best_rate(name, 32, x[:SWEEP_IMAGES], data.x_val)
            tries = [{"rate": rate, "validation_bce": score} for rate, score in tries.items()]
            stored["rates"][name] = {"best": best, "tries": tries}
            store()
            print(name, stored["rates"][name], flush=True)
    stride, flat = (stored["rates"][name]["best"] for name in ("strided", "dense"))
    wanted = [  # net, code, seed, epochs, peak of the learning rate
        ("strided", 256, 0, 20, stride),
        ("corrected", 256, 0, 20, 1.5e-3),
        ("shared", 256, 0, 20, stride),
        ("strided", 32, 0, 15, stride),
        *(("dense", 32, seed, 15, flat) for seed in (0, 1, 2)),
        ("dense", 32, 0, 30, flat),
        ("much-copied", 256, 0, 60, 3e-3),
    ]
    done = {(run["net"], run["code"], run["seed"], run["epochs"]) for run in stored["runs"]}
    for name, code, seed, epochs, rate in wanted:
        epochs = min(epochs, 1 + seed) if args.trial else epochs
        if (name, code, seed, epochs) in done:
            continue
        stored["runs"].append(measured(name, code, seed, epochs, rate, data, x, args.folder))
        store()
        print(json.dumps(stored["runs"][-1]), flush=True)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    main()
