"""Autoencoders as scikit-learn estimators, for tables: they go into a `Pipeline` and a `GridSearchCV`.

Both expect features on comparable scales: put a `StandardScaler` before them.
"""

import contextlib
import functools
import math
import random
import warnings

import keras
import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, OutlierMixin, TransformerMixin
from sklearn.model_selection import train_test_split
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from aelib import anomaly, blocks
from aelib.autoencoder import Autoencoder

BATCH = 128


@contextlib.contextmanager
def _seeded(seed):
    """Seed Keras, and leave the caller's own generators as they were."""
    python, numpy = random.getstate(), np.random.get_state()
    keras.utils.set_random_seed(seed)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def _whole_batches(function, x):
    """Apply `function(x, batch_size=)` in batches of one shape, the last one filled up.

    So a row's answer does not depend on how many come with it: float32 rounds differently in other shapes.
    """
    filled = np.pad(x, [(0, -len(x) % BATCH), (0, 0)])
    return function(filled, batch_size=BATCH)[: len(x)]


class _AutoencoderEstimator(BaseEstimator):
    def __init__(
        self,
        n_components=2,
        *,
        hidden=(64, 32),
        build=None,
        epochs=100,
        batch_size=32,
        learning_rate=1e-3,
        random_state=None,
    ):
        self.n_components = n_components
        self.hidden = hidden
        self.build = build
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.random_state = random_state

    def _build(self, features):
        # A search over np.arange hands over NumPy's whole numbers.
        units, *hidden = (int(n) if n and n == n // 1 else n for n in (self.n_components, *self.hidden))
        if self.build is not None:
            return self.build(features, units)
        return Autoencoder(
            blocks.dense_encoder((features,), units, hidden=hidden),
            blocks.dense_decoder((features,), units, hidden=hidden[::-1]),
            likelihood="gaussian",
        )

    def _train(self, x, seed):
        """Train a new net on `x`, (n, features), and keep it."""
        for name in ("epochs", "batch_size"):
            value = getattr(self, name)
            if value != int(value) or value < 1:
                raise ValueError(f"{name} must be a whole number >= 1, got {value!r}")
        with _seeded(seed):
            self.model_ = self._build(x.shape[1])
            self.model_.compile(keras.optimizers.Adam(self.learning_rate))
            history = self.model_.fit(x, epochs=self.epochs, batch_size=self.batch_size, verbose=0)
        self.history_ = history.history

    def _checked(self, x):
        check_is_fitted(self)
        return validate_data(self, x, reset=False, dtype=[np.float64, np.float32])

    def _errors(self, x):
        return _whole_batches(functools.partial(anomaly.errors, self.model_), x).astype(np.float64)


class AutoencoderTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, _AutoencoderEstimator):
    """A table's rows to codes and back, as `sklearn.decomposition.PCA` does it.

    Parameters
    ----------
    n_components : int
        Size of the code.
    hidden : tuple of int
        Widths of the encoder's hidden layers, from the input to the code; the decoder mirrors them.
    build : callable, optional
        Called with the number of features and `n_components`, returns the `aelib.Autoencoder` to train, not
        compiled, whose samples have shape (features,); it takes the place of `hidden`. To be pickled, the
        estimator needs a function that a module defines.
    epochs, batch_size : int
    learning_rate : float
        Of Adam.
    random_state : int, RandomState or None
        Seeds the weights and the order of the samples, as scikit-learn's estimators read it.

    Attributes
    ----------
    model_ : Autoencoder
        The trained net; ``model_.save(path)`` writes it to a file.
    history_ : dict of lists
        The loss of each epoch and its terms.
    """

    def fit(self, X, y=None):  # noqa: N803
        """Train on the rows of `X`, (n, features); `y` is not read."""
        X = validate_data(self, X, dtype=[np.float64, np.float32])
        self._train(X, check_random_state(self.random_state).randint(2**31))
        return self

    @property
    def _n_features_out(self):
        return self.model_.encoder.output_shape[1]

    def transform(self, X):  # noqa: N803
        """Return the codes: (n, features) -> (n, n_components), of the dtype of `X`."""
        X = self._checked(X)
        return _whole_batches(self.model_.encode, X).astype(X.dtype)

    def inverse_transform(self, X):  # noqa: N803
        """Return the rows that belong to codes: (n, n_components) -> (n, features)."""
        check_is_fitted(self)
        code = check_array(X, dtype=[np.float64, np.float32])
        return _whole_batches(self.model_.decode, code).astype(code.dtype)

    def score(self, X, y=None):  # noqa: N803
        """Return minus the mean squared error per feature of the reconstructions: greater is better."""
        X = self._checked(X)
        return -float(self._errors(X).mean())


class AutoencoderDetector(OutlierMixin, _AutoencoderEstimator):
    """Rows unlike those it was fitted to, by their reconstruction error.

    A part of the rows is held out of training. Their errors set the threshold such that at most the share
    `false_alarms` of fresh rows from the same source is taken for outliers, on average over the draws of
    that part (split conformal prediction; see `aelib.anomaly.Threshold`). Fit it to normal rows alone.

    Parameters
    ----------
    n_components, hidden, build, epochs, batch_size, learning_rate, random_state
        As in `AutoencoderTransformer`.
    false_alarms : float
        In (0, 1).
    calibration : float
        Share of the rows that is held out, in (0, 1).

    Attributes
    ----------
    model_, history_
        As in `AutoencoderTransformer`.
    threshold_ : aelib.anomaly.Threshold
        Fitted to the errors of the rows held out.
    offset_ : float
        Minus the threshold: `decision_function` is `score_samples` less it.
    """

    def __init__(
        self,
        n_components=2,
        *,
        hidden=(64, 32),
        build=None,
        epochs=100,
        batch_size=32,
        learning_rate=1e-3,
        random_state=None,
        false_alarms=0.05,
        calibration=0.25,
    ):
        super().__init__(
            n_components,
            hidden=hidden,
            build=build,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            random_state=random_state,
        )
        self.false_alarms = false_alarms
        self.calibration = calibration

    def fit(self, X, y=None):  # noqa: N803
        """Train on a part of the rows of `X`, (n, features), and calibrate on the rest; `y` is not read.

        With too few rows for the promise, the threshold is the largest of the errors held out, and a warning
        says which share of false alarms that stands for.
        """
        X = validate_data(self, X, dtype=[np.float64, np.float32], ensure_min_samples=2)
        random_state = check_random_state(self.random_state)
        train, held_out = train_test_split(X, test_size=self.calibration, random_state=random_state)
        self._train(train, random_state.randint(2**31))
        promise, least = self.false_alarms, math.nextafter(1 / (len(held_out) + 1), 1)
        if 0 < promise < least:
            warnings.warn(
                f"{len(held_out)} rows held out cannot promise false_alarms={promise}; "
                f"they can promise {least:.3g}",
                stacklevel=2,
            )
            promise = least
        self.threshold_ = anomaly.Threshold(promise).fit(self._errors(held_out))
        self.offset_ = -float(self.threshold_.value)
        return self

    def score_samples(self, X):  # noqa: N803
        """Return minus the mean squared error of each row, (n,): the lower, the more unusual."""
        X = self._checked(X)
        return -self._errors(X)

    def decision_function(self, X):  # noqa: N803
        """Return `score_samples` less `offset_`, (n,): negative for outliers."""
        return self.score_samples(X) - self.offset_

    def predict(self, X):  # noqa: N803
        """Return -1 for outliers and 1 for the rest: (n, features) -> (n,)."""
        return np.where(self.decision_function(X) < 0, -1, 1)
