"""A stranger's folder of images, one of them broken: a net trained on batches from the disk."""

import sys
from pathlib import Path

import keras
import numpy as np
from PIL import Image

import aelib

path = Path(sys.argv[1])
rng = np.random.default_rng(0)
for i in range(48):
    height, width = rng.integers(12, 20, 2)
    ramp = np.linspace(0, rng.uniform(100, 255), width) * np.ones((height, 1))
    name = f"{i:02d}.{['png', 'jpg', 'tif'][i % 3]}"
    Image.fromarray(ramp.astype(np.uint8)).save(path / name)
(path / "13.jpg").write_bytes((path / "13.jpg").read_bytes()[:-200])

try:
    aelib.data.folder(path, size=12)
except ValueError as error:
    refused = str(error)

images = aelib.data.folder(path, size=12, batch_size=16, errors="skip")
keras.utils.set_random_seed(0)
encoder, decoder = aelib.blocks.dense_encoder(images.shape, 2), aelib.blocks.dense_decoder(images.shape, 2)
model = aelib.Autoencoder(encoder, decoder)
model.compile(keras.optimizers.Adam(0.01))
losses = model.fit(images, epochs=10, verbose=0).history["loss"]
errors = aelib.anomaly.errors(model, images)
