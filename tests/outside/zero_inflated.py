"""A stranger's likelihood: counts with more zeros than a Poisson has. `train` and save, or `load` it."""

import sys

import keras
import numpy as np
from keras import ops

import aelib


@keras.saving.register_keras_serializable("stranger")
class ZeroInflatedPoisson(aelib.likelihoods.Likelihood):
    support, outputs_per_feature, reads_logits = "counts", 2, True

    def feature_nll(self, target, raw):
        log_rate, absent = self.split(raw)  # absent: the logit of a zero that is no count
        counted = ops.exp(log_rate) - target * log_rate
        return ops.softplus(absent) + ops.where(
            target > 0, counted, -ops.logaddexp(absent, -ops.exp(log_rate))
        )

    def feature_constant(self, target):
        return aelib.autodiff.lgamma(target + 1)

    def mean(self, raw):
        log_rate, absent = self.split(raw)
        return ops.sigmoid(-absent) * ops.exp(log_rate)


if __name__ == "__main__":
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    rate = np.exp(rng.normal(size=(300, 2)) @ rng.normal(size=(2, 8)) / 2)
    x = rng.poisson(rate) * (rng.random((300, 8)) < 0.6)
    if sys.argv[1] == "train":
        encoder, decoder = aelib.blocks.dense_encoder(8, 4), aelib.blocks.dense_decoder(16, 2)
        model = aelib.VariationalAutoencoder(encoder, decoder, likelihood=ZeroInflatedPoisson(), seed=0)
        model.compile("adam")
        model.fit(x, epochs=3, verbose=0)
        model.save("counts.keras")
    model = aelib.load_model("counts.keras")
    print(model.elbo(x).mean, aelib.anomaly.negative_elbo(model, x).mean(), model.reconstruct(x).mean())
