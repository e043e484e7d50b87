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
rng = np.random.default_rng(0)
x = rng.random((50, 1, 1, 1), dtype="float32") * rng.random((9, 7, 2), dtype="float32")

TYPES = [
    (aelib.Autoencoder, {}),
    (aelib.SparseAutoencoder, {"strength": 0.1, "likelihood": "gaussian"}),
    (aelib.ContractiveAutoencoder, {"strength": 0.1}),
    (aelib.ContractiveAutoencoder, {"strength": 0.1, "probes": 2, "seed": 0}),
    (aelib.VariationalAutoencoder, {"warmup": 2, "seed": 0}),
    (aelib.ImportanceWeightedAutoencoder, {"samples": 3, "seed": 0}),
    (aelib.WassersteinAutoencoder, {"strength": 1.0, "seed": 0}),
]
for cls, options in TYPES:
    width = 6 if issubclass(cls, aelib.VariationalAutoencoder) else 3
    encoder = aelib.blocks.conv_encoder((9, 7, 2), width, filters=(4, 4))
    decoder = aelib.blocks.conv_decoder((9, 7, 2), 3, filters=(4, 4))
    noise = aelib.layers.GaussianNoise(0.1, seed=0)
    model = cls(encoder, decoder, corrupt=noise, **options)
    model.compile(keras.optimizers.Adam(0.01))
    history = model.fit(x, epochs=4, batch_size=16, validation_data=(x, x)).history
    terms = [np.array(v) for k, v in history.items() if not k.startswith("val_") and k != "loss"]
    np.testing.assert_allclose(history["loss"], sum(terms), rtol=1e-5)
    assert history["val_loss"][-1] < history["val_loss"][0]
    model.save("model.keras")
    again = keras.saving.load_model("model.keras")
    np.testing.assert_array_equal(again.reconstruct(x), model.reconstruct(x))
    assert model.reconstruct(x).shape == x.shape
    if width == 6:
        bound = aelib.bounds.importance_weighted_bound(model, x, 5)
        assert model.elbo(x, samples=50).mean < bound.mean < 0

codes = keras.Sequential([encoder, aelib.layers.KSparse(2), aelib.layers.VectorQuantizer(4)])
model = aelib.Autoencoder(codes, decoder)
model.compile("adam")
assert np.isfinite(model.fit(x, epochs=2).history["loss"]).all()
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
