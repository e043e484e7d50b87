"""Data frames as the input of a net, and back. Import from `aelib.data`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from aelib import checks

if TYPE_CHECKING:
    import pandas as pd

    from aelib.likelihoods import Likelihood


class Table(TransformerMixin, BaseEstimator):
    """A data frame's way into an autoencoder and back: numbers, ordered levels, categories, gaps.

    The dtype of a column in the training rows says what it is: numbers are standardised; ordered categoricals
    become the rank of their level, standardised; other categoricals, texts and booleans become one-hot
    groups, with a column for each category in the training rows. What is missing becomes NaN, of a category
    the whole group. Change a dtype beforehand to change that: ``frame.astype({"zip code": "category"})``.

    Parameters
    ----------
    unknown : {"refuse", "missing"}
        What to do with a category or level that `fit` has not met: raise an error, or take it for missing.

    Attributes
    ----------
    dtypes_ : dict
        The dtype of each column.
    levels_ : dict
        The levels of ordered columns, in order, and then the categories of the others.
    scaler_ : StandardScaler or None
        Of the numbers and the ranks.
    gaps_ : bool
        Whether anything was missing in the training rows, or an unknown category will be.

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"height": [1.0, 3.0, None], "color": ["red", "blue", "red"]})
    >>> table = Table().fit(frame)
    >>> table.get_feature_names_out()
    array(['height', 'color_blue', 'color_red'], dtype=object)
    >>> table.transform(frame)
    array([[-1.,  0.,  1.],
           [ 1.,  1.,  0.],
           [nan,  0.,  1.]], dtype=float32)
    """

    def __init__(self, *, unknown: Literal["refuse", "missing"] = "refuse") -> None:
        self.unknown = unknown

    def fit(self, X: pd.DataFrame, y: Any = None) -> Self:  # noqa: N803
        """Learn scales and categories from a data frame of training rows, and return self.

        Raises
        ------
        TypeError
            For what is no data frame, and for columns that are none of the kinds above, such as dates.
        ValueError
            If the frame is empty, two columns have one name, or a column holds nothing or infinity.
        """
        import pandas as pd

        checks.choice("unknown", self.unknown, ("refuse", "missing"))
        frame = _frame(X)
        self.dtypes_ = dict(frame.dtypes)
        if not frame.size or len(self.dtypes_) < frame.shape[1]:
            raise ValueError(
                "the frame must have rows, and columns with names of their own, got shape "
                f"{frame.shape}, columns {list(frame.columns)}"
            )
        missing = frame.isna()
        if missing.all().any():
            empty = ", ".join(repr(name) for name in frame.columns[missing.all()])
            raise ValueError(f"columns must hold something in the training rows, not so {empty}: drop them")
        kinds = {name: _kind(name, dtype) for name, dtype in self.dtypes_.items()}
        self._numbers = [name for name, kind in kinds.items() if kind == "number"]
        self._ordered = [name for name, kind in kinds.items() if kind == "ordered"]
        self._groups = [name for name, kind in kinds.items() if kind == "category"]
        self.levels_ = {name: frame[name].cat.categories for name in self._ordered}
        for name in self._groups:  # of a category that a dtype names and no row has, nothing can be learned
            self.levels_[name] = pd.Categorical(frame[name]).remove_unused_categories().categories
        self.gaps_ = bool(missing.any(axis=None)) or self.unknown == "missing"
        scaled = self._numbers + self._ordered
        self.scaler_ = StandardScaler().fit(self._unscaled(frame)) if scaled else None
        return self

    def transform(self, X: pd.DataFrame) -> np.ndarray:  # noqa: N803
        """Return the rows as float32 (n, D), NaN where something is missing.

        The numbers come first, then the ordered columns, then the groups of the categories: see
        `get_feature_names_out`.

        Raises
        ------
        ValueError
            If columns are lacking or new, no longer hold numbers, hold infinity, or a category that is
            unknown.
        """
        check_is_fitted(self)
        frame = _frame(X)
        if set(frame.columns) != set(self.dtypes_):
            lacking = [name for name in self.dtypes_ if name not in frame.columns]
            new = [name for name in frame.columns if name not in self.dtypes_]
            raise ValueError(
                f"the columns must be those of the training rows; lacking: {lacking}, new: {new}. Add or "
                "drop them, or fit the table again"
            )
        x = np.empty((len(frame), len(self.get_feature_names_out())), np.float32)
        for name, columns in self._slices():
            levels = self.levels_[name]
            codes = self._codes(name, frame[name])[:, None]
            x[:, columns] = np.where(codes < 0, np.nan, codes == np.arange(len(levels)))
        if self.scaler_ is not None:
            x[:, : self.scaler_.n_features_in_] = self.scaler_.transform(self._unscaled(frame))
        return x

    def inverse_transform(self, X: ArrayLike) -> pd.DataFrame:  # noqa: N803
        """Return a data frame from what `reconstruct` returns: float (n, D), means and probabilities.

        Columns, their order, dtypes and categories are those of the training rows; whole numbers and ranks
        are rounded, of each group the likeliest category is taken. NaN in `X` is missing in the frame: there
        a dtype that cannot say so, such as int64, gives way to float64 or object.
        """
        import pandas as pd

        check_is_fitted(self)
        x = checks.samples("X", X)
        width = len(self.get_feature_names_out())
        if x.shape[1:] != (width,):
            raise ValueError(f"X must have the shape (n, {width}), as transform returns it, got {x.shape}")
        columns = {}
        if self.scaler_ is not None:
            scaled = self.scaler_.inverse_transform(np.float64(x[:, : self.scaler_.n_features_in_]))
            columns = dict(zip(self._numbers + self._ordered, scaled.T, strict=True))
        for name in self._ordered:
            ranks = np.rint(columns[name]).clip(0, len(self.levels_[name]) - 1)
            columns[name] = self._levels(name, np.nan_to_num(ranks, nan=-1))
        for name, group in self._slices():
            gaps = np.isnan(x[:, group]).any(axis=1)
            columns[name] = self._levels(name, np.where(gaps, -1, x[:, group].argmax(axis=1)))
        return pd.DataFrame({name: _column(columns[name], dtype) for name, dtype in self.dtypes_.items()})

    def likelihood(self) -> Likelihood:
        """Return what explains such rows: `Mixed`, within `Masked` where there are gaps.

        Numbers and ranks are Gaussian with one learned variance, each category is `Categorical`. Rows with
        gaps that the training rows had not need ``Masked(table.likelihood())``. A decoder's output has
        the width of the data.
        """
        from aelib import likelihoods

        check_is_fitted(self)
        parts = []
        if self.scaler_ is not None:
            parts.append((self.scaler_.n_features_in_, likelihoods.Gaussian("learned")))
        parts += [(len(self.levels_[name]), likelihoods.Categorical()) for name in self._groups]
        mixed = likelihoods.Mixed(parts)
        return likelihoods.Masked(mixed) if self.gaps_ else mixed

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the D columns that `transform` returns: a category's is "column_category"."""
        check_is_fitted(self)
        names = [str(name) for name in self._numbers + self._ordered]
        names += [f"{name}_{level}" for name in self._groups for level in self.levels_[name]]
        return np.array(names, dtype=object)

    def _slices(self) -> Iterator[tuple[Any, slice]]:
        """Yield each category's name and its group's columns in `transform`'s rows."""
        start = len(self._numbers) + len(self._ordered)
        for name in self._groups:
            stop = start + len(self.levels_[name])
            yield name, slice(start, stop)
            start = stop

    def _unscaled(self, frame: pd.DataFrame) -> np.ndarray:
        """Return numbers and ranks as float64 (n, columns), NaN where missing."""
        columns = [_floats(name, frame[name]) for name in self._numbers]
        for name in self._ordered:
            codes = self._codes(name, frame[name])
            columns.append(np.where(codes < 0, np.nan, codes))
        return np.stack(columns, axis=1)

    def _codes(self, name: Any, column: pd.Series) -> np.ndarray:
        """Return the places of a column's levels, (n,), -1 where missing."""
        import pandas as pd

        column, levels = column.astype(object), self.levels_[name]
        strange = ~(column.isin(levels) | column.isna())
        if strange.any() and self.unknown == "refuse":
            raise ValueError(
                f"column {name!r} holds {column[strange].iloc[0]!r}, which the training rows had not, only "
                f"{', '.join(map(repr, levels[:20]))}: fit the table on rows that have it, or take it for "
                "missing with Table(unknown='missing')"
            )
        return pd.Categorical(column.where(~strange), categories=levels).codes

    def _levels(self, name: Any, codes: np.ndarray) -> pd.Categorical:
        """Return levels by their places, as a categorical."""
        import pandas as pd

        return pd.Categorical.from_codes(codes.astype(int), categories=self.levels_[name])


def _frame(frame: Any) -> pd.DataFrame:
    import pandas as pd

    if not isinstance(frame, pd.DataFrame):
        raise TypeError(
            f"a table is read from a pandas DataFrame, got {type(frame).__name__}: pd.DataFrame(array, "
            "columns=[...]) makes one"
        )
    return frame


def _kind(name: Any, dtype: Any) -> str:
    """Return what a column is by its dtype: "number", "ordered" or "category"."""
    from pandas.api import types

    if isinstance(dtype, types.CategoricalDtype):
        return "ordered" if dtype.ordered else "category"
    if types.is_bool_dtype(dtype) or types.is_string_dtype(dtype) or types.is_object_dtype(dtype):
        return "category"
    if types.is_numeric_dtype(dtype) and not types.is_complex_dtype(dtype):
        return "number"
    raise TypeError(
        f"column {name!r} must hold numbers, texts, booleans or categories, got {dtype}: turn it into such, "
        "dates into days since the first, for example"
    )


def _floats(name: Any, column: pd.Series) -> np.ndarray:
    """Return a column of numbers as float64, NaN where missing."""
    try:
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise ValueError(f"column {name!r} must hold numbers, as in the training rows, got {error}") from None
    if np.isinf(values).any():
        raise ValueError(f"column {name!r} must be finite or missing, got infinity: drop or mark such cells")
    return values


def _column(values: Any, dtype: Any) -> pd.Series:
    """Return a column in its dtype, as far as that can hold what is missing."""
    import pandas as pd
    from pandas.api import types

    column = pd.Series(values)
    if types.is_integer_dtype(dtype):
        bounds = np.iinfo(getattr(dtype, "numpy_dtype", dtype))
        column = column.round().clip(bounds.min, bounds.max)
    if column.isna().any() and isinstance(dtype, np.dtype) and dtype.kind in "biu":
        return column.astype(object if dtype.kind == "b" else np.float64)
    return column.astype(dtype)
