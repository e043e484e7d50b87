"""A stranger's β-TC-VAE, as a subclass: its term takes the place of the divergence (Chen et al., 2018)."""

import keras
import numpy as np

import aelib
from aelib import blocks, objectives

keras.utils.set_random_seed(0)
images, factors = aelib.data.sprites(16, scales=1, angles=1, positions=8)
images, factors = images[factors[:, 0] == 1], factors[factors[:, 0] == 1, 3:]


@keras.saving.register_keras_serializable("stranger")
class TotalCorrelation(aelib.VariationalAutoencoder):
    def terms(self, target, out):
        reconstruction = super().terms(target, out)["reconstruction"]
        parts = objectives.total_correlation(out["code"], out["mean"], out["log_var"], len(images))
        information, correlation, units = parts
        return {
            "reconstruction": reconstruction,
            "information": information,
            "correlation": self.beta * correlation,
            "units": units,
        }


model = TotalCorrelation(
    blocks.dense_encoder(images.shape[1:], 2 * 2, hidden=(64,)),
    blocks.dense_decoder(images.shape[1:], 2, hidden=(64,)),
    beta=4.0,
    seed=0,
)
model.compile(keras.optimizers.Adam(5e-3))
history = model.fit(images, batch_size=32, epochs=150, verbose=0).history
codes = model.encode(images)
together = np.abs(np.corrcoef(codes.T, factors.T)[:2, 2:])
