"""A stranger's table, with categories and gaps: which row is odd, and in which column?"""

import keras
import numpy as np
import pandas as pd

import aelib

keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)
kind = rng.choice(["bike", "car", "truck"], 400)
weight = pd.Series(kind).map({"bike": 15.0, "car": 1400.0, "truck": 9000.0}) * rng.normal(1, 0.1, 400)
wear = pd.CategoricalDtype(["new", "used", "worn"], ordered=True)
frame = pd.DataFrame(
    {
        "kind": kind,
        "log_weight": np.log(weight),
        "wheels": pd.Series(kind).map({"bike": 2, "car": 4, "truck": 6}),
        "wear": pd.Categorical.from_codes(rng.integers(0, 3, 400), dtype=wear),
    }
)
frame = frame.mask(rng.random(frame.shape) < 0.05)
frame.loc[399] = ["bike", np.log(9000), 6, "used"]  # a bicycle of nine tonnes

table = aelib.data.Table().fit(frame[:300])
x = table.transform(frame)
encoder = aelib.blocks.dense_encoder(x.shape[1], 4, hidden=(32,))
decoder = aelib.blocks.dense_decoder(x.shape[1], 2, hidden=(32,))
model = aelib.VariationalAutoencoder(encoder, decoder, likelihood=table.likelihood(), seed=0)
model.compile(keras.optimizers.Adam(0.01))
model.fit(x[:300], epochs=60, verbose=0)

scores = aelib.anomaly.nll(model, x)
costs = np.nansum(aelib.anomaly.nll(model, x[399:], per_feature=True), axis=0)
by_feature = dict(zip(table.get_feature_names_out(), costs, strict=True))
restored = table.inverse_transform(model.reconstruct(x))
