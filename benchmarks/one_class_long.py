"""Train the convolutional autoencoder of Ruff et al. (2018) on one digit of MNIST at a time, in full.

``python benchmarks/one_class_long.py`` tries to repeat the paper's baseline. It does not succeed, and
`applications/anomaly_detection` names its mean as a failed replication. Every digit is trained for 30 epochs
or ``--epochs`` of them, with the paper's rate and batch. Start it again after a kill: finished digits are not
trained again. The ROC-AUC of each digit against the other nine on the test set goes to
``benchmarks/results/one_class_long.json``, written after every digit.
"""

import argparse
import json
import os
import time
from pathlib import Path

import keras
import numpy as np
from keras import layers
from sklearn.metrics import roc_auc_score

import aelib
from aelib import anomaly, results

RATE, BATCH, SEED = 1e-4, 200, 0


def stage(maps):
    """Return a 5×5 convolution without biases, its normalisation, and a leaky ReLU."""
    return [
        layers.Conv2D(maps, 5, padding="same", use_bias=False),
        layers.BatchNormalization(center=False, scale=False, epsilon=1e-4),
        layers.LeakyReLU(0.01),
    ]


def build():
    """Build the net: 28 → 14 → 7 → 32 numbers → 4 → 8 → 16, cropped to 14, → 28."""
    keras.utils.set_random_seed(SEED)
    stack = [layers.Input((28, 28, 1)), *stage(8), layers.MaxPool2D(), *stage(4), layers.MaxPool2D()]
    encoder = keras.Sequential([*stack, layers.Flatten(), layers.Dense(32, use_bias=False)], name="encoder")
    stack = [layers.Input((32,)), layers.Reshape((4, 4, 2)), layers.LeakyReLU(0.01)]
    stack += [layers.UpSampling2D(), *stage(4)]
    stack += [layers.UpSampling2D(), layers.Cropping2D(1), *stage(8), layers.UpSampling2D()]
    stack += [layers.Conv2D(1, 5, padding="same", use_bias=False), layers.Activation("sigmoid")]
    return aelib.Autoencoder(encoder, keras.Sequential(stack, name="decoder"), likelihood="gaussian")


def normalised(images):
    """Global contrast normalisation with the L1 norm: mean 0, mean magnitude 1; (n, 28, 28, 1)."""
    centred = images - images.mean(axis=(1, 2, 3), keepdims=True)
    return centred / np.abs(centred).mean(axis=(1, 2, 3), keepdims=True)


def score(digit, data, epochs, images=None):
    """Train on one digit, and return the ROC-AUC on the test set and the processor seconds."""
    start = time.process_time()
    x = normalised(data.x_train[data.y_train == digit][:images])
    low, width = x.min(), np.ptp(x)
    model = build()
    model.compile(keras.optimizers.Adam(RATE), jit_compile=False)
    model.fit((x - low) / width, epochs=epochs, batch_size=BATCH, verbose=0)
    errors = anomaly.errors(model, (normalised(data.x_test) - low) / width)
    return float(roc_auc_score(data.y_test != digit, errors)), time.process_time() - start


def main(arguments=None):
    """Train what is not trained yet, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--digits", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--images", type=int, default=None, help="train on the first so many, to try it out")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "one_class_long.json")
    args = parser.parse_args(arguments)
    data = aelib.load("mnist")
    recipe = {
        "net": "DCAE of Ruff et al. (2018), code 32",
        "training": f"Adam, rate {RATE}, batches of {BATCH}, seed {SEED}",
        "epochs": args.epochs,
        "images": args.images or "all",
        "device": results.device(),
        "data": data.source,
    }
    figures = json.loads(args.out.read_text("utf-8")) if args.out.is_file() else {}
    if any(figures.get(key) != value for key, value in recipe.items()):
        figures = recipe | {"auc": {}, "cpu_seconds": {}}
    for digit in args.digits:
        if str(digit) not in figures["auc"]:
            auc, seconds = score(digit, data, args.epochs, args.images)
            figures["auc"][str(digit)], figures["cpu_seconds"][str(digit)] = auc, round(seconds)
            figures["mean"] = float(np.mean(list(figures["auc"].values())))
            args.out.parent.mkdir(parents=True, exist_ok=True)
            results.write_atomically(args.out, json.dumps(figures, indent=1) + "\n")
            print(f"digit {digit}: {auc:.4f}, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    main()
