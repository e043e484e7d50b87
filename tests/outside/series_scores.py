"""A stranger's series: windows, a net, and scores on the series' own time axis."""

import keras
import numpy as np

import aelib

keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)
LENGTH, STRIDE, STEPS = 32, 4, 1203
time = np.arange(STEPS)
series = np.stack([np.sin(time / 4), np.cos(time / 4)], axis=1) + rng.normal(0, 0.05, (STEPS, 2))
series[900:910, 0] = 0.0  # a sensor that falls silent

train = aelib.data.windows(series[:800], LENGTH, STRIDE)
x = aelib.data.windows(series, LENGTH, STRIDE, tail="drop")
encoder = aelib.blocks.dense_encoder((LENGTH, 2), 2, hidden=(32,))
decoder = aelib.blocks.dense_decoder((LENGTH, 2), 2, hidden=(32,))
model = aelib.Autoencoder(encoder, decoder, likelihood="gaussian")
model.compile(keras.optimizers.Adam(0.01))
model.fit(train, epochs=40, verbose=0)

errors = aelib.anomaly.errors(model, x, per_feature=True).mean(axis=-1)  # (n, LENGTH, 2) -> (n, LENGTH)
scores = aelib.data.spread(errors, LENGTH, STRIDE, steps=STEPS)
coarse = aelib.data.spread(aelib.anomaly.errors(model, x), LENGTH, STRIDE, steps=STEPS, reduce="max")
