"""Autoencoders as scikit-learn estimators, for tables: they go into a `Pipeline` and a `GridSearchCV`.

The transformer and the detector expect features on comparable scales: put a `StandardScaler` before them,
which leaves gaps (NaN) as they are. The imputer scales by itself, for its rows come back as they were.
"""

import contextlib
import functools
import math
import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, Self

import keras
import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    OneToOneFeatureMixin,
    OutlierMixin,
    TransformerMixin,
)
from sklearn.model_selection import train_test_split
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from aelib import anomaly, blocks, checks, likelihoods
from aelib.autoencoder import Autoencoder
from aelib.corruptions import MaskingNoise

BATCH = 128


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed Keras, and leave the caller's own generators as they were."""
    python, numpy = random.getstate(), np.random.get_state()
    keras.utils.set_random_seed(seed)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def _whole_batches(function: Callable[..., np.ndarray], x: np.ndarray) -> np.ndarray:
    """Apply `function(x, batch_size=)` in batches of one shape, the last one filled up.

    So a row's answer does not depend on how many come with it: float32 rounds differently in other shapes.
    """
    # By copies of the last row: rows of zeros are no data to some likelihoods.
    filled = np.pad(x, [(0, -len(x) % BATCH), (0, 0)], mode="edge")
    return function(filled, batch_size=BATCH)[: len(x)]


def _refuse_texts(x: Any) -> None:
    """Refuse a data frame with columns that are no numbers, by their names."""
    if not hasattr(x, "iloc") or not hasattr(x, "columns"):
        return
    texts = []
    for i, dtype in enumerate(x.dtypes):
        if getattr(dtype, "kind", "O") in "biuf":
            continue
        try:
            if getattr(dtype, "kind", "O") in "mM":
                raise TypeError("a time is no number")
            x.iloc[:, i].to_numpy(dtype=np.float64, na_value=np.nan)
        except (TypeError, ValueError):
            texts.append(str(x.columns[i]))
    if texts:
        raise ValueError(
            f"X has columns that are no numbers: {', '.join(texts[:5])}{', …' * (len(texts) > 5)}; encode "
            "them first, for example with scikit-learn's OneHotEncoder"
        )


class _AutoencoderEstimator(BaseEstimator):
    def __init__(
        self,
        n_components: int = 2,
        *,
        hidden: int | Sequence[int] = (64, 32),
        build: Callable[[int, int], Autoencoder] | None = None,
        likelihood: str | likelihoods.Likelihood = "gaussian",
        missing: Literal["refuse", "mask"] = "refuse",
        epochs: int = 100,
        batch_size: int = 32,
        learning_rate: float = 1e-3,
        callbacks: Any = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        warm_start: bool = False,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_components = n_components
        self.hidden = hidden
        self.build = build
        self.likelihood = likelihood
        self.missing = missing
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.callbacks = callbacks
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.missing == "mask"
        return tags

    def _table(self, x: Any, *, fit: bool = False, least: int = 1) -> np.ndarray:
        """Return `x` as floats, (n >= least, features), finite, or NaN where gaps are foreseen."""
        gaps = checks.choice("missing", self.missing, ("refuse", "mask")) == "mask"
        _refuse_texts(x)
        x = validate_data(
            self,
            x,
            reset=fit,
            dtype=[np.float64, np.float32],
            ensure_all_finite=False,
            ensure_min_samples=least,
        )
        wrong = np.isinf(x) if gaps else ~np.isfinite(x)
        if wrong.any():
            remedy = "" if gaps else ": drop or fill them, or say missing='mask', which takes NaN as a gap"
            raise ValueError(
                f"X has {np.count_nonzero(wrong)} values that are {'infinite' if gaps else 'NaN or infinite'}"
                f", in {self._columns(wrong.any(axis=0))}{remedy}"
            )
        if fit and np.isnan(x).all(axis=0).any():
            empty = self._columns(np.isnan(x).all(axis=0))
            raise ValueError(f"nothing is observed (all is NaN) in {empty} of X: drop it")
        self._refuse_empty_rows(x)
        return x

    def _refuse_empty_rows(self, x: np.ndarray) -> None:
        empty = np.isnan(x).all(axis=1)
        if empty.any():
            raise ValueError(
                f"nothing is observed (all is NaN) in row {int(np.argmax(empty))} of X: drop such rows"
            )

    def _columns(self, chosen: np.ndarray) -> str:
        """Write which columns are chosen, bool (features,), by their names where they have any."""
        names = getattr(self, "feature_names_in_", np.arange(len(chosen)))[chosen]
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        return f"column{'s' * (len(names) > 1)} {', '.join(map(str, names[:5]))}{more}"

    def _build(self, features: int, corrupt: keras.layers.Layer | None = None) -> Autoencoder:
        units = checks.whole_number("n_components", self.n_components)
        if self.build is not None:
            model = self.build(features, units)
            if self.missing == "mask" and model.likelihood.observed(np.zeros((1, features))) is None:
                raise ValueError(
                    "missing='mask' needs a net that knows gaps: let build give it likelihood="
                    f"Masked('gaussian'), got {type(model.likelihood).__name__}"
                )
            return model
        hidden = checks.whole_numbers("hidden", self.hidden)
        likelihood = likelihoods.get(self.likelihood)
        # Each fit trains one of its own: it may have weights.
        likelihood = type(likelihood).from_config(likelihood.get_config())
        if self.missing == "mask":
            if not isinstance(likelihood, likelihoods.Masked):
                likelihood = likelihoods.Masked(likelihood, fill=self._gap)
            # The net reads 0 for a gap, and beside the cells which of them are observed.
            cells = keras.Input((features,))
            observed = keras.ops.not_equal(cells, likelihood.fill)
            seen = keras.ops.where(observed, cells, keras.ops.zeros_like(cells))
            dense = blocks.dense_encoder(2 * features, units, hidden=hidden)
            code = dense(keras.ops.concatenate([seen, keras.ops.cast(observed, cells.dtype)], axis=-1))
            encoder = keras.Model(cells, code, name="encoder")
        else:
            encoder = blocks.dense_encoder(features, units, hidden=hidden)
        return Autoencoder(
            encoder,
            blocks.dense_decoder(likelihood.raw_shape((None, features))[1:], units, hidden=hidden[::-1]),
            likelihood=likelihood,
            corrupt=corrupt,
        )

    @property
    def _gap(self) -> float:
        """What marks a gap for the encoder: the `fill` of a `Masked` likelihood, else an unlikely number."""
        if isinstance(self.likelihood, likelihoods.Masked):
            return self.likelihood.fill
        return -49152.0  # exact in all float types

    def _goes_on(self) -> bool:
        return checks.flag("warm_start", self.warm_start) and hasattr(self, "model_")

    def _train(self, x, seed, corrupt=None):
        """Train a net on `x`, (n, features), the last one where it goes on, and keep it."""
        epochs = checks.whole_number("epochs", self.epochs)
        batch_size = checks.whole_number("batch_size", self.batch_size)
        rate = checks.number("learning_rate", self.learning_rate, above=0)
        callbacks = [] if self.callbacks is None else self.callbacks
        callbacks = list(callbacks) if isinstance(callbacks, list | tuple) else [callbacks]
        validation = None
        if checks.flag("early_stopping", self.early_stopping):
            share = checks.inner_share("validation_fraction", self.validation_fraction)
            patience = checks.whole_number("n_iter_no_change", self.n_iter_no_change)
            x, validation = train_test_split(x, test_size=share, random_state=seed)
            callbacks.append(
                keras.callbacks.EarlyStopping("val_loss", patience=patience, restore_best_weights=True)
            )
        with _seeded(seed):
            goes_on = self._goes_on()
            model = self.model_ if goes_on else self._build(x.shape[1], corrupt)
            if goes_on:
                model.optimizer.learning_rate = rate
            else:
                model.compile(keras.optimizers.Adam(rate))
            new = model.fit(
                x,
                epochs=epochs,
                batch_size=batch_size,
                callbacks=callbacks,
                validation_data=validation,
                verbose=0,
            ).history
        old = self.history_ if goes_on else {}
        self.model_, self.history_ = model, {name: [*old.get(name, []), *new[name]] for name in new}
        code = model.encode(x[:1])
        if code.ndim != 2:
            raise ValueError(f"the net must have codes of shape (n, K), got {code.shape}")
        self._code_width = code.shape[1]

    def _checked(self, x: Any) -> np.ndarray:
        check_is_fitted(self, "model_")
        return self._table(x)

    def _score(self, score: Callable[..., np.ndarray], x: np.ndarray) -> np.ndarray:
        return _whole_batches(functools.partial(score, self.model_), x).astype(np.float64)


class AutoencoderTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, _AutoencoderEstimator):
    """A table's rows to codes and back, as `sklearn.decomposition.PCA` does it.

    Parameters
    ----------
    n_components : int
        Size of the code.
    hidden : int or tuple of int
        Widths of the encoder's hidden layers, from the input to the code; the decoder mirrors them.
    build : callable, optional
        Called with the number of features and `n_components`, returns the `aelib.Autoencoder` to train, not
        compiled, whose samples have shape (features,); it takes the place of `hidden` and `likelihood`. To be
        pickled, the estimator needs a function that a module defines.
    likelihood : str or aelib.likelihoods.Likelihood
        Of the columns: "gaussian" for standardised ones, "poisson" for counts, a `Mixed` for columns of
        different kinds; see `aelib.likelihoods`.
    missing : {"refuse", "mask"}
        What to do with NaN: refuse it, or take it as a gap. The net is told where the gaps are, and they cost
        nothing; errors are means over the cells observed, and `inverse_transform` gives full rows.
    epochs, batch_size : int
    learning_rate : float
        Of Adam.
    callbacks : keras.callbacks.Callback or list of them, optional
    early_stopping : bool
        Hold out the share `validation_fraction` of the rows, stop when their loss has not fallen for
        `n_iter_no_change` epochs, and return to the best weights.
    validation_fraction : float
        In (0, 1).
    n_iter_no_change : int
    warm_start : bool
        Let another call of `fit` train the same net for `epochs` more, instead of a new one.
    random_state : int, RandomState or None
        Seeds the weights and the order of the samples, as scikit-learn's estimators read it.

    Attributes
    ----------
    model_ : Autoencoder
        The trained net; ``model_.save(path)`` writes it to a file.
    history_ : dict of lists
        The loss of each epoch and its terms.

    Examples
    --------
    >>> import numpy as np
    >>> from aelib.estimators import AutoencoderTransformer
    >>> x = np.random.default_rng(0).normal(size=(50, 4))
    >>> AutoencoderTransformer(n_components=2, epochs=1, random_state=0).fit(x).transform(x).shape
    (50, 2)
    """

    def fit(self, X: ArrayLike, y: Any = None) -> Self:  # noqa: N803
        """Train on the rows of `X`, (n, features); `y` is not read.

        Raises
        ------
        FloatingPointError
            When the loss is no longer finite.
        """
        X = self._table(X, fit=True)
        self._train(X, check_random_state(self.random_state).randint(2**31))
        return self

    @property
    def _n_features_out(self) -> int:
        return self._code_width

    def transform(self, X: ArrayLike) -> np.ndarray:  # noqa: N803
        """Return the codes: (n, features) -> (n, n_components), of the dtype of `X`."""
        X = self._checked(X)
        code = _whole_batches(self.model_.encode, X)
        remedy = "the net has diverged: bring the columns to one scale (StandardScaler)"
        return checks.finite("the codes", code, remedy=remedy).astype(X.dtype)

    def inverse_transform(self, X: ArrayLike) -> np.ndarray:  # noqa: N803
        """Return the rows that belong to codes: (n, n_components) -> (n, features)."""
        check_is_fitted(self, "model_")
        code = check_array(X, dtype=[np.float64, np.float32])
        return _whole_batches(self.model_.decode, code).astype(code.dtype)

    def score(self, X: ArrayLike, y: Any = None) -> float:  # noqa: N803
        """Return minus the mean squared error per feature of the reconstructions: greater is better."""
        X = self._checked(X)
        return -float(self._score(anomaly.errors, X).mean())


class AutoencoderDetector(OutlierMixin, _AutoencoderEstimator):
    """Rows unlike those it was fitted to, by their reconstruction error.

    A part of the rows is held out of training. Their errors set the threshold such that at most the share
    `alpha` of fresh rows from the same source is taken for outliers, on average over the draws of that part
    (split conformal prediction; see `aelib.anomaly.Threshold`). Fit it to normal rows alone.

    For rows that are a mixture of both, unlabelled, say how large the share of outliers is: `contamination`.
    **The promise on false alarms then no longer holds**: nothing is held out, and the threshold is what that
    share of the rows of training exceeds, be they odd or not.

    Parameters
    ----------
    n_components, hidden, build, likelihood, missing, epochs, batch_size, learning_rate
        As in `AutoencoderTransformer`.
    callbacks, early_stopping, validation_fraction, n_iter_no_change, warm_start, random_state
        As in `AutoencoderTransformer`.
    alpha : float
        In (0, 1).
    calibration : float
        Share of the rows that is held out, in (0, 1).
    contamination : float, "auto" or None
        The share of outliers among the rows of training, in (0, 0.5], as in scikit-learn's detectors; `alpha`
        and `calibration` are then not read. "auto" or None: all rows are normal.
    criterion : {"error", "nll"}
        What makes a row unusual: its squared error, or, for counts, categories and mixed tables, its negative
        log-likelihood per variable. See `aelib.anomaly.errors` and `nll`.

    Attributes
    ----------
    model_, history_
        As in `AutoencoderTransformer`.
    threshold_ : aelib.anomaly.Threshold or None
        Fitted to the scores of the rows held out; None with `contamination`.
    offset_ : float
        Minus the threshold: `decision_function` is `score_samples` less it.

    Examples
    --------
    >>> import numpy as np
    >>> from aelib.estimators import AutoencoderDetector
    >>> x = np.random.default_rng(0).normal(size=(50, 4))
    >>> detector = AutoencoderDetector(n_components=2, epochs=1, contamination=0.1, random_state=0).fit(x)
    >>> int((detector.predict(x) == -1).sum())
    5
    """

    def __init__(
        self,
        n_components: int = 2,
        *,
        hidden: int | Sequence[int] = (64, 32),
        build: Callable[[int, int], Autoencoder] | None = None,
        likelihood: str | likelihoods.Likelihood = "gaussian",
        missing: Literal["refuse", "mask"] = "refuse",
        epochs: int = 100,
        batch_size: int = 32,
        learning_rate: float = 1e-3,
        callbacks: Any = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        warm_start: bool = False,
        random_state: int | np.random.RandomState | None = None,
        alpha: float = 0.05,
        calibration: float = 0.25,
        contamination: float | Literal["auto"] | None = None,
        criterion: Literal["error", "nll"] = "error",
    ) -> None:
        super().__init__(
            n_components,
            hidden=hidden,
            build=build,
            likelihood=likelihood,
            missing=missing,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            callbacks=callbacks,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            warm_start=warm_start,
            random_state=random_state,
        )
        self.alpha = alpha
        self.calibration = calibration
        self.contamination = contamination
        self.criterion = criterion

    def fit(self, X: ArrayLike, y: Any = None) -> Self:  # noqa: N803
        """Train on the rows of `X`, (n, features), or on a part and calibrate on the rest; `y` is not read.

        With too few rows for the promise, the threshold is the largest of the scores held out, and a warning
        says which share of false alarms that stands for.

        Raises
        ------
        FloatingPointError
            When the loss is no longer finite.
        """
        checks.choice("criterion", self.criterion, ("error", "nll"))
        mixed = self.contamination is not None and self.contamination != "auto"
        X = self._table(X, fit=True, least=2)
        if not self._goes_on():
            # A fit that goes on must not train on the rows that were held out of the first.
            self._seed = check_random_state(self.random_state).randint(2**31)
        if mixed:
            share = self._contamination()
            self._train(X, self._seed)
            self.threshold_, self.offset_ = None, float(np.quantile(-self._oddity(X), share))
            return self
        alpha = checks.inner_share("alpha", self.alpha)
        share = checks.inner_share("calibration", self.calibration)
        train, held_out = train_test_split(X, test_size=share, random_state=self._seed)
        self._train(train, self._seed)
        least = math.nextafter(1 / (len(held_out) + 1), 1)
        if alpha < least:
            warnings.warn(
                f"{len(held_out)} rows held out cannot promise alpha={alpha}; they can promise {least:.3g}",
                stacklevel=2,
            )
            alpha = least
        self.threshold_ = anomaly.Threshold(alpha).fit(self._oddity(held_out))
        self.offset_ = -float(self.threshold_.value)
        return self

    def _contamination(self) -> float:
        try:
            return checks.number("contamination", self.contamination, above=0, most=0.5)
        except ValueError as error:
            raise ValueError(f"{error}; or 'auto' or None, where all rows are normal") from None

    def _oddity(self, x: np.ndarray) -> np.ndarray:
        return self._score(anomaly.nll if self.criterion == "nll" else anomaly.errors, x)

    def score_samples(self, X: ArrayLike) -> np.ndarray:  # noqa: N803
        """Return minus the score of each row, by `criterion`, (n,): the lower, the more unusual."""
        X = self._checked(X)
        return -self._oddity(X)

    def decision_function(self, X: ArrayLike) -> np.ndarray:  # noqa: N803
        """Return `score_samples` less `offset_`, (n,): negative for outliers."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: ArrayLike) -> np.ndarray:  # noqa: N803
        """Return -1 for outliers and 1 for the rest: (n, features) -> (n,)."""
        return np.where(self.decision_function(X) < 0, -1, 1)


class AutoencoderImputer(OneToOneFeatureMixin, TransformerMixin, _AutoencoderEstimator):
    """A table's gaps (NaN) filled from the cells observed beside them, by a denoising autoencoder.

    In training a random share of the observed cells is hidden from the encoder too, and counts in the loss:
    so it learns to fill gaps where the right answer is known (Gondara & Wang, 2018). The encoder also reads
    which cells are observed. Observed cells come back as they were. On small tables whose columns depend on
    each other linearly, scikit-learn's `IterativeImputer` is the better choice.

    Parameters
    ----------
    n_components, hidden, build, likelihood, epochs, batch_size, learning_rate
        As in `AutoencoderTransformer`. Columns of a likelihood that takes all real numbers, such as
        "gaussian", are standardised inside. A net of `build` brings its own ``corrupt=``, and a `Masked`
        likelihood.
    callbacks, early_stopping, validation_fraction, n_iter_no_change, warm_start, random_state
        As in `AutoencoderTransformer`.
    masking_rate : float
        Share of the observed cells that is hidden in training, in [0, 1).

    Attributes
    ----------
    model_, history_
        As in `AutoencoderTransformer`.
    mean_, scale_ : ndarray (features,)
        By which the columns are standardised.

    Examples
    --------
    >>> import numpy as np
    >>> from aelib.estimators import AutoencoderImputer
    >>> x = np.random.default_rng(0).normal(size=(50, 4))
    >>> AutoencoderImputer(n_components=2, epochs=1, random_state=0).fit(x).transform(x).shape
    (50, 4)
    """

    def __init__(
        self,
        n_components: int = 16,
        *,
        hidden: int | Sequence[int] = (64,),
        build: Callable[[int, int], Autoencoder] | None = None,
        likelihood: str | likelihoods.Likelihood = "gaussian",
        epochs: int = 100,
        batch_size: int = 32,
        learning_rate: float = 1e-3,
        callbacks: Any = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        warm_start: bool = False,
        random_state: int | np.random.RandomState | None = None,
        masking_rate: float = 0.25,
    ) -> None:
        super().__init__(
            n_components,
            hidden=hidden,
            build=build,
            likelihood=likelihood,
            missing="mask",
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            callbacks=callbacks,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            warm_start=warm_start,
            random_state=random_state,
        )
        self.masking_rate = masking_rate

    def fit(self, X: ArrayLike, y: Any = None) -> Self:  # noqa: N803
        """Train on the rows of `X`, (n, features), gaps included; `y` is not read.

        Raises
        ------
        FloatingPointError
            When the loss is no longer finite.
        """
        rate = checks.number("masking_rate", self.masking_rate, least=0, below=1)
        X = self._table(X, fit=True)
        if not self._goes_on():
            self.mean_, self.scale_ = np.zeros(X.shape[1]), np.ones(X.shape[1])
            if likelihoods.get(self.likelihood).support == "real":
                self.mean_, self.scale_ = np.nanmean(X, axis=0), np.nanstd(X, axis=0)
                self.scale_[self.scale_ == 0] = 1.0
        seed = check_random_state(self.random_state).randint(2**31)
        self._train(self._scaled(X), seed, corrupt=MaskingNoise(rate, value=self._gap, seed=seed))
        return self

    def _refuse_empty_rows(self, x: np.ndarray) -> None:
        """Take them: a row of gaps is filled with what the net makes of knowing nothing."""

    def _scaled(self, x: np.ndarray) -> np.ndarray:
        return (x - self.mean_) / self.scale_

    def transform(self, X: ArrayLike) -> np.ndarray:  # noqa: N803
        """Return `X` with its gaps filled: (n, features) -> (n, features), of the dtype of `X`."""
        X = self._checked(X)
        full = _whole_batches(self.model_.reconstruct, self._scaled(X)) * self.scale_ + self.mean_
        checks.finite("what fills the gaps", full, remedy="the net has diverged: lower learning_rate")
        return np.where(np.isnan(X), full, X).astype(X.dtype)
