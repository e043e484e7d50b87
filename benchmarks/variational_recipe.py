"""Compare the convolutional VAE of the keras.io example with a dense one of as many parameters.

    AELIB_DATA_DIR=... python benchmarks/variational_recipe.py

Fashion-MNIST, two latents, batches of 128, seed 0, 8 epochs of all training images; one change a row: the
example's constant rate of 1e-3, or 2e-3 falling to zero along a cosine. The ELBO is that of the validation
images. The figures go to ``benchmarks/results/variational_recipe.json``; the chapter on variational
autoencoders prints them.
"""

import json
import time
from pathlib import Path

import keras
from keras import layers

import aelib
from aelib import blocks, bounds
from aelib.book import ledger
from aelib.files import write_atomically

RESULT = Path(__file__).parent / "results" / "variational_recipe.json"
SHAPE, EPOCHS, BATCH = (28, 28, 1), 8, 128


def convolutional():
    """Return the architecture of the example; its sigmoid is in the likelihood."""
    stage = {"strides": 2, "padding": "same", "activation": "relu"}
    encoder = [
        layers.Input(SHAPE),
        layers.Conv2D(32, 3, **stage),
        layers.Conv2D(64, 3, **stage),
        layers.Flatten(),
        layers.Dense(16, activation="relu"),
        layers.Dense(2 * 2),
    ]
    decoder = [
        layers.Input((2,)),
        layers.Dense(7 * 7 * 64, activation="relu"),
        layers.Reshape((7, 7, 64)),
        layers.Conv2DTranspose(64, 3, **stage),
        layers.Conv2DTranspose(32, 3, **stage),
        layers.Conv2DTranspose(1, 3, padding="same"),
    ]
    return keras.Sequential(encoder, name="encoder"), keras.Sequential(decoder, name="decoder")


def dense():
    """Return a dense pair of about as many parameters."""
    return (
        blocks.dense_encoder(SHAPE, 2 * 2, hidden=(80, 48), activation="silu"),
        blocks.dense_decoder(SHAPE, 2, hidden=(48, 80), activation="silu"),
    )


def main():
    """Train all four, and store their figures."""
    data = aelib.load("fashion_mnist")
    steps = EPOCHS * -(-len(data.x_train) // BATCH)
    rows = {}
    for net, halves in (("convolutional", convolutional), ("dense", dense)):
        for rate in ("constant 0.001", "0.002 falling"):
            keras.utils.set_random_seed(0)
            model = aelib.VariationalAutoencoder(*halves())
            schedule = (
                1e-3 if rate == "constant 0.001" else keras.optimizers.schedules.CosineDecay(2e-3, steps)
            )
            model.compile(keras.optimizers.Adam(schedule))
            begun = time.process_time()
            model.fit(data.x_train, epochs=EPOCHS, batch_size=BATCH, verbose=0)
            row = {"parameters": model.count_params(), "cpu_seconds": round(time.process_time() - begun)}
            row["elbo"] = bounds.elbo(model, data.x_val, samples=5).mean
            rows[f"{net}, {rate}"] = row
            print(net, rate, row, flush=True)
    about = {"device": ledger.device(), "epochs": EPOCHS, "seeds": 1}
    write_atomically(RESULT, json.dumps(about | {"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
