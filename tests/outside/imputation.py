"""A stranger's table with gaps: cells taken away and filled in by column means, a regression, a net."""

import numpy as np
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, SimpleImputer
from sklearn.preprocessing import StandardScaler

import aelib
from aelib.estimators import AutoencoderImputer

data = aelib.load("nyc_weather", verbose=False)
scaler = StandardScaler().fit(data.x_train)
train, test = scaler.transform(data.x_train), scaler.transform(data.x_test)
NUMBERS = 9  # the first columns; month, day and hour are always known

rng = np.random.default_rng(0)
taken = rng.random(test.shape) < 0.2
taken[:, NUMBERS:] = False
taken &= ~np.isnan(test)
holes = np.where(taken, np.nan, test)

rivals = {
    "column means": SimpleImputer(),
    "iterative": IterativeImputer(max_iter=20, random_state=0),
    "autoencoder": AutoencoderImputer(
        hidden=(128, 128), n_components=16, epochs=60, batch_size=256, learning_rate=2e-3, random_state=0
    ),
}
errors = {}
for name, imputer in rivals.items():
    filled = imputer.fit(train).transform(holes)
    errors[name] = float(np.sqrt(np.mean((filled - test)[taken] ** 2)))

if __name__ == "__main__":
    print({name: round(error, 3) for name, error in errors.items()})
