"""Train each kind of model under float32, mixed_float16 and mixed_bfloat16, from the same start.

    AELIB_DATA_DIR=... python benchmarks/policies.py

MNIST, 10,000 training images, three epochs in batches of 128, Adam at 1e-3; the loss is that of the 5,000
validation images, in nats. About five minutes of processor time, most of it half precision, which CPUs
only imitate: what is compared is the result, not the speed. Figures go
to ``benchmarks/results/policies.json``.
"""

import json
from pathlib import Path

import keras
from keras import layers

import aelib
from aelib import blocks
from aelib.book import ledger
from aelib.files import write_atomically

RESULT = Path(__file__).parent / "results" / "policies.json"
SHAPE, CODE = (28, 28, 1), 16
POLICIES = ("float32", "mixed_float16", "mixed_bfloat16")


def dense(kind=aelib.Autoencoder, code=CODE, code_activation="linear", **options):
    """Build 784-128-16-128-784 as a model of the given kind; a variational encoder has `code` 32."""
    encoder = blocks.dense_encoder(SHAPE, code, hidden=(128,), code_activation=code_activation)
    return kind(encoder, blocks.dense_decoder(SHAPE, CODE, hidden=(128,)), **options)


def convolutional():
    """Build strided convolutions and their mirror image."""
    encoder = blocks.conv_encoder(SHAPE, CODE, filters=(8, 16))
    return aelib.Autoencoder(encoder, blocks.conv_decoder(SHAPE, CODE, filters=(16, 8)))


def quantized():
    """Build a dense net whose code is one of 64 words."""
    stack = blocks.dense_encoder(SHAPE, CODE, hidden=(128,)).layers
    quantizer = aelib.layers.VectorQuantizer(64, seed=0)
    encoder = keras.Sequential([layers.Input(SHAPE), *stack, quantizer])
    return aelib.Autoencoder(encoder, blocks.dense_decoder(SHAPE, CODE, hidden=(128,)))


KINDS = {
    "dense": dense,
    "convolutional": convolutional,
    "denoising": lambda: dense(corrupt=aelib.layers.GaussianNoise(0.3, seed=0)),
    "sparse (KL)": lambda: dense(aelib.SparseAutoencoder, code_activation="sigmoid", rate=0.1, strength=1.0),
    "contractive": lambda: dense(aelib.ContractiveAutoencoder, strength=0.1),
    "variational": lambda: dense(aelib.VariationalAutoencoder, code=2 * CODE, seed=0),
    "importance-weighted": lambda: dense(
        aelib.ImportanceWeightedAutoencoder, code=2 * CODE, samples=5, seed=0
    ),
    "Wasserstein": lambda: dense(aelib.WassersteinAutoencoder, strength=10.0, seed=0),
    "vector-quantized": quantized,
}


def final_loss(build, policy, x_train, x_val):
    """Return the validation loss in nats after three epochs under a policy."""
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(policy)
    try:
        model = build()
    finally:
        keras.config.set_dtype_policy("float32")
    model.compile(keras.optimizers.Adam(1e-3))
    model.fit(x_train, batch_size=128, epochs=3, verbose=0)
    return model.evaluate(x_val, batch_size=500, verbose=0, return_dict=True)["loss"]


def main():
    """Print and store the table."""
    mnist = aelib.load("mnist")
    if mnist.source.startswith("stand-in"):
        raise SystemExit(f"mnist must be the original, got {mnist.source}: set AELIB_DATA_DIR")
    figures = {}
    for name, build in KINDS.items():
        losses = {p: final_loss(build, p, mnist.x_train[:10_000], mnist.x_val) for p in POLICIES}
        figures[name] = {p: {"nats": round(loss, 3)} for p, loss in losses.items()}
        for policy in POLICIES[1:]:
            change = 100 * (losses[policy] / losses["float32"] - 1)
            figures[name][policy]["percent from float32"] = round(change, 2)
        print(name, figures[name], flush=True)
    stored = {"device": ledger.device(), "kinds": figures}
    write_atomically(RESULT, json.dumps(stored, indent=1) + "\n")


if __name__ == "__main__":
    main()
