"""A stranger asks for digits by name: a conditional VAE, its prior learned for each class."""

import keras
import numpy as np

import aelib
from aelib import blocks

keras.utils.set_random_seed(0)
data = aelib.load("digits", verbose=False)
labels = np.eye(10, dtype="float32")
CODE, SHAPE = 6, data.x_train.shape[1:]

# The label joins the last axis: ten more channels in every pixel, ten more numbers beside the code.
encoder = blocks.dense_encoder((*SHAPE[:2], SHAPE[2] + 10), 2 * CODE, hidden=(128,))
decoder = blocks.dense_decoder(SHAPE, CODE + 10, hidden=(128,))
model = aelib.ConditionalVariationalAutoencoder(
    blocks.with_condition(encoder, 10),
    blocks.with_condition(decoder, 10),
    prior=aelib.priors.ConditionalPrior(blocks.dense_encoder(10, 2 * CODE, hidden=())),
    seed=0,
)
model.compile(keras.optimizers.Adam(3e-3))
train = {"x": data.x_train, "condition": labels[data.y_train]}
model.fit(train, batch_size=64, epochs=20, verbose=0)

wanted = np.repeat(np.arange(10), 20)
drawn = model.sample(labels[wanted], seed=0)
test = {"x": data.x_test, "condition": labels[data.y_test]}
right = model.elbo(test).mean
wrong = model.elbo(test | {"condition": labels[(data.y_test + 1) % 10]}).mean
