"""Train the classifiers of `aelib.book.ruler`, and store their weights beside it.

    AELIB_DATA_DIR=... python benchmarks/rulers.py --train

The recipe was fixed before: 15 epochs of all training images but the validation set, Adam at 2e-3 falling
to 0 along a cosine, batches of 128, weight decay 1e-4, seed 0. Weights are kept in 16 bits, 205 kB a ruler.
Without ``--train`` the stored weights are measured. New weights are a new ruler: every chapter that measures
by it runs again. The figures go to ``benchmarks/results/rulers.json``. The halves of the test images are
drawn at random, since MNIST's first 5,000 are by other writers than its last.
"""

import io
import json
import sys
from pathlib import Path

import keras
import numpy as np

import aelib
from aelib.book import ruler
from aelib.files import write_atomically

RESULT = Path(__file__).parent / "results" / "rulers.json"
EPOCHS, BATCH, RATE = 15, 128, 2e-3


def train(name, data):
    """Train and store one ruler."""
    keras.utils.set_random_seed(0)
    net = ruler.build()
    model = keras.Model(net.input, net.output[1])
    schedule = keras.optimizers.schedules.CosineDecay(RATE, EPOCHS * -(-len(data.x_train) // BATCH))
    model.compile(
        keras.optimizers.AdamW(schedule, weight_decay=1e-4),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=False,
    )
    model.fit(data.x_train, data.y_train, batch_size=BATCH, epochs=EPOCHS, verbose=2)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, *[weight.astype("float16") for weight in net.get_weights()])
    path = Path(str(ruler.stored(name)))
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, buffer.getvalue())


def measure(name, data):
    """Return the figures of one ruler."""
    judge, n, half = ruler.Ruler(name), len(data.x_val), len(data.x_test) // 2
    mixed = data.x_test[np.random.default_rng(0).permutation(2 * half)]
    mean = np.repeat(data.x_train.mean(axis=0)[None], n, axis=0)

    def accuracy(x, y):
        return float(np.mean(judge.probabilities(x).argmax(axis=1) == y))

    return {
        "accuracy": {
            "validation": accuracy(data.x_val, data.y_val),
            "test": accuracy(data.x_test, data.y_test),
        },
        "two random halves of the test images": judge.floor(mixed[:half], mixed[half:]),
        "training images from validation images": judge.floor(data.x_train[:n], data.x_val),
        "the mean image from validation images": judge.distance(mean, data.x_val),
    }


def main():
    """Train the rulers if asked to, and store their figures."""
    figures = {}
    for name in ruler.NAMES:
        data = aelib.load(name)
        if data.source.startswith("stand-in"):
            raise SystemExit(f"{name} must be the original, got {data.source}: set AELIB_DATA_DIR")
        if "--train" in sys.argv:
            train(name, data)
        figures[name] = measure(name, data)
    print(json.dumps(figures, indent=1))
    write_atomically(RESULT, json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
