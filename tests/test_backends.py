"""The same code on Keras's other backends, each in a process of its own where it is installed."""

import importlib.util
import os
import subprocess
import sys

import pytest

SCRIPT = """
import keras, numpy as np, aelib
from keras import ops
keras.utils.set_random_seed(0)
x = np.random.default_rng(0).random((50, 9, 7, 2), dtype="float32")

@keras.saving.register_keras_serializable("test")
class Sparse(aelib.Autoencoder):
    def terms(self, target, out):
        return super().terms(target, out) | {"sparsity": 0.1 * ops.sum(ops.abs(out["code"]), axis=-1)}

for cls, likelihood in ((aelib.Autoencoder, "bernoulli"), (Sparse, "gaussian")):
    encoder = aelib.blocks.conv_encoder((9, 7, 2), 3, filters=(4, 4))
    decoder = aelib.blocks.conv_decoder((9, 7, 2), 3, filters=(4, 4))
    noise = aelib.layers.GaussianNoise(0.1, seed=0)
    model = cls(encoder, decoder, likelihood=likelihood, corrupt=noise)
    model.compile("adam")
    history = model.fit(x, epochs=3, batch_size=16, validation_data=(x, x)).history
    terms = [np.array(v) for k, v in history.items() if not k.startswith("val_") and k != "loss"]
    np.testing.assert_allclose(history["loss"], sum(terms), rtol=1e-5)
    assert history["val_loss"][-1] < history["val_loss"][0]
    model.save("model.keras")
    again = keras.saving.load_model("model.keras")
    np.testing.assert_array_equal(again.reconstruct(x), model.reconstruct(x))
    assert model.reconstruct(x).shape == x.shape
print(keras.backend.backend())
"""


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_train_save_and_load(backend, tmp_path):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    env = os.environ | {"KERAS_BACKEND": backend, "AELIB_PROGRESS": "0"}
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=env, cwd=tmp_path, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split()[-1] == backend
