"""Train the autoencoder of the chapter on bottlenecks at every code size from 2 to 128, beside PCA.

    AELIB_DATA_DIR=... python benchmarks/bottleneck_sweep.py

MNIST, 784-512-256-K-256-512-784 with SiLU, 15 epochs of all training images, batches of 128, Adam at 2e-3
falling to zero along a cosine; nothing but K changes. Three seeds at K = 16 and 128, one elsewhere, and
one net at K = 128 with twice the epochs. The test images are measured once, at the end. The figures go to
``benchmarks/results/bottleneck_sweep.json``, copies of eight validation images, one code size a row, to
``bottleneck_sweep.png`` beside it; the chapter shows both.
"""

import json
import math
import time
from pathlib import Path

import keras
import numpy as np
from PIL import Image

import aelib
from aelib import blocks, metrics
from aelib.book import ledger
from aelib.files import write_atomically

RESULT = Path(__file__).parent / "results" / "bottleneck_sweep.json"
SHAPE, EPOCHS, BATCH, RATE = (28, 28, 1), 15, 128, 2e-3
SIZES, REPEATED, SEEDS = (2, 4, 8, 16, 32, 64, 128), (16, 128), (0, 1, 2)


def train(x, code, seed=0, epochs=EPOCHS):
    """Return a trained net, its losses and the processor seconds that it took."""
    keras.utils.set_random_seed(seed)
    model = aelib.Autoencoder(
        blocks.dense_encoder(SHAPE, code, hidden=(512, 256), activation="silu"),
        blocks.dense_decoder(SHAPE, code, hidden=(256, 512), activation="silu", output_activation="sigmoid"),
        likelihood="gaussian",
    )
    steps = epochs * math.ceil(len(x) / BATCH)
    model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(RATE, steps)))
    begun = time.process_time()
    history = model.fit(x, epochs=epochs, batch_size=BATCH, verbose=0).history
    return model, history["loss"], time.process_time() - begun


def measured(data, rebuild):
    """Return the mean squared error per pixel on each part of the data."""
    parts = {"train": data.x_train, "validation": data.x_val, "test": data.x_test}
    return {f"{name} MSE": metrics.mse(x, rebuild(x)) for name, x in parts.items()}


def main():
    """Train all nets, and store their figures."""
    data = aelib.load("mnist")
    rows, pictures, spent = [], [], []
    runs = [(code, seed, EPOCHS) for seed in SEEDS for code in (REPEATED if seed else SIZES)]
    for code, seed, epochs in [*runs, (SIZES[-1], 0, 2 * EPOCHS)]:
        net, loss, seconds = train(data.x_train, code, seed, epochs)
        errors = measured(data, net.reconstruct)
        row = {"code": code, "seed": seed, "epochs": epochs} | errors
        rows.append(row | {"cpu_seconds": round(seconds), "loss": [round(one / 784, 6) for one in loss]})
        print(row, round(seconds), flush=True)
        if epochs == EPOCHS:
            spent.append(seconds)
            if seed == 0:
                pictures.append(net.reconstruct(data.x_val[:8]))
    pca = []
    for code in SIZES:
        errors = measured(data, lambda x, code=code: metrics.pca_reconstruct(data.x_train, x, code))
        pca.append({"code": code} | errors)
    about = {"device": ledger.device(), "parameters of the largest": net.count_params()}
    about["cpu_seconds of a net"] = float(np.mean(spent))
    write_atomically(RESULT, json.dumps(about | {"rows": rows, "pca": pca}, indent=1) + "\n")
    sheet = np.concatenate([np.concatenate(list(row[..., 0]), axis=1) for row in pictures])
    Image.fromarray(np.round(255 * sheet).astype("uint8")).save(RESULT.with_suffix(".png"), optimize=True)


if __name__ == "__main__":
    main()
