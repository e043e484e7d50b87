import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from aelib import Autoencoder, VariationalAutoencoder, anomaly, blocks, likelihoods
from aelib.data import Table

SIZES = pd.CategoricalDtype(["S", "M", "L"], ordered=True)
COLORS = pd.CategoricalDtype(["red", "green", "blue"])


def whole():
    """Return a frame with a column of every kind, nothing missing."""
    return pd.DataFrame(
        {
            "color": pd.Series(["red", "blue", "red", "blue"], dtype=COLORS),
            "price": [1.0, 2.5, -3.0, 4.0],
            "size": pd.Series(["S", "L", "M", "S"], dtype=SIZES),
            "text": ["a", "b", "a", "c"],
            "count": np.array([1, 2, 3, 250], np.uint8),
            "new": [True, False, True, True],
            "object": pd.Series(["x", 1, "x", "y"], dtype=object),
            "nullable": pd.array([1, 2, 3, 4], dtype="Int64"),
        }
    )


def gappy():
    """Return a frame with a column of every kind that can say what is missing, and gaps in each."""
    frame = whole().drop(columns=["count", "new"])
    frame["flag"] = pd.array([True, False, True, True], dtype="boolean")
    for row, name in enumerate(frame.columns):
        frame.loc[row % 3, name] = np.nan
    return frame


NAMES = ["price", "count", "nullable", "size", "color_red", "color_blue", "text_a", "text_b", "text_c"]


def test_numbers_and_ranks_are_standardized_and_categories_one_hot():
    frame = whole()
    table = Table().fit(frame)
    x = table.transform(frame)
    assert x.dtype == np.float32
    assert list(table.get_feature_names_out()[:9]) == NAMES
    assert x.shape == (4, len(table.get_feature_names_out()))
    for place, values in enumerate((frame["price"], frame["count"], frame["nullable"], [0, 2, 1, 0])):
        values = np.asarray(values, float)
        np.testing.assert_allclose(x[:, place], (values - values.mean()) / values.std(), rtol=1e-5)
    np.testing.assert_array_equal(x[:, 4:6], [[1, 0], [0, 1], [1, 0], [0, 1]])
    np.testing.assert_array_equal(x[:, 6:9], [[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 1]])


@pytest.mark.parametrize("make", [whole, gappy])
def test_there_and_back(make):
    """With columns in another order, and categories as texts, too."""
    frame = make()
    table = Table().fit(frame)
    other = frame[frame.columns[::-1]].astype({"color": object})
    for rows in (frame, other):
        back = table.inverse_transform(table.transform(rows))
        pd.testing.assert_frame_equal(back, frame, rtol=1e-5)


def test_training_rows_alone_set_the_scale():
    table = Table().fit(pd.DataFrame({"a": [0.0, 2.0]}))
    np.testing.assert_allclose(table.transform(pd.DataFrame({"a": [5.0]})), [[4]])


def test_what_is_missing_is_nan_in_all_of_its_group():
    x = Table().fit_transform(pd.DataFrame({"a": [1.0, np.nan, 2.0], "b": ["x", "y", None]}))
    np.testing.assert_array_equal(np.isnan(x), [[0, 0, 0], [1, 0, 0], [0, 1, 1]])


def test_back_from_means_and_probabilities():
    table = Table().fit(whole())
    x = table.transform(whole())
    x[:, 1] += 100  # past what a byte can hold
    x[:, 3] += 100
    x[:, 4:6] = [0.4, 0.6]
    back = table.inverse_transform(x)
    assert list(back["count"]) == [255] * 4
    assert list(back["size"]) == ["L"] * 4
    assert list(back["color"]) == ["blue"] * 4


def test_a_dtype_without_missing_values_gives_way():
    table = Table().fit(whole())
    back = table.inverse_transform(np.full((2, len(table.get_feature_names_out())), np.nan))
    assert back.isna().all(axis=None)
    dtypes = {name: str(dtype) for name, dtype in back.dtypes.items()}
    assert dtypes["count"] == "float64"
    assert dtypes["new"] == "object"
    assert dtypes["nullable"] == "Int64"


def test_an_unknown_category_is_refused_by_name():
    table = Table().fit(whole())
    frame = whole().assign(color=pd.Series(["red", "green", "red", "blue"], dtype=COLORS))
    with pytest.raises(ValueError, match=r"'color' holds 'green', .* only 'red', 'blue': fit the table"):
        table.transform(frame)
    with pytest.raises(ValueError, match=r"column 'size' holds 'XL', .* only 'S', 'M', 'L'"):
        table.transform(whole().assign(size=["S", "XL", "M", "L"]))


def test_an_unknown_category_may_count_as_missing():
    table = Table(unknown="missing").fit(whole())
    x = table.transform(whole().assign(text=["a", "b", "new", "c"]))
    assert np.isnan(x).sum() == 3
    assert isinstance(table.likelihood(), likelihoods.Masked)


def test_a_level_that_the_training_rows_lack_has_its_rank():
    frame = pd.DataFrame({"size": pd.Series(["S", "L"], dtype=SIZES)})
    table = Table().fit(frame)
    middle = pd.DataFrame({"size": pd.Series(["M"], dtype=SIZES)})
    np.testing.assert_allclose(table.transform(middle), [[0]])


def test_the_likelihood_fits_the_columns():
    mixed = Table().fit(whole()).likelihood()
    assert isinstance(mixed, likelihoods.Mixed)
    assert mixed.columns == [4, 2, 3, 2, 3]
    assert [type(part).__name__ for part in mixed.likelihoods] == ["Gaussian"] + ["Categorical"] * 4
    masked = Table().fit(gappy()).likelihood()
    assert isinstance(masked, likelihoods.Masked)
    assert Table().fit(whole()[["text"]]).likelihood().columns == [3]
    assert Table().fit(whole()[["price"]]).likelihood().columns == [1]


@pytest.mark.parametrize("columns", [["text", "color"], ["price", "size"]])
def test_one_kind_alone_goes_there_and_back(columns):
    frame = whole()[columns]
    table = Table().fit(frame)
    back = table.inverse_transform(table.transform(frame))
    pd.testing.assert_frame_equal(back, frame, rtol=1e-5)


@pytest.mark.parametrize(("kind", "make"), [(Autoencoder, whole), (VariationalAutoencoder, gappy)])
def test_a_net_reads_the_rows_scores_and_restores_them(kind, make):
    frame = pd.concat([make()] * 3, ignore_index=True)
    table = Table().fit(frame)
    x = table.transform(frame)
    d = x.shape[1]
    nets = blocks.dense_encoder(d, 2, hidden=(4,)), blocks.dense_decoder(d, 2, hidden=(4,))
    if kind is VariationalAutoencoder:
        nets = blocks.dense_encoder(d, 4, hidden=(4,)), nets[1]
    model = kind(*nets, likelihood=table.likelihood())
    model.compile("adam")
    model.fit(x, verbose=0)
    per_feature = anomaly.nll(model, x, per_feature=True)
    np.testing.assert_array_equal(np.isnan(per_feature), np.isnan(x))
    restored = table.inverse_transform(model.reconstruct(x))
    assert not restored.isna().any(axis=None)
    assert dict(restored.dtypes) == dict(frame.dtypes)


@pytest.mark.parametrize(
    ("frame", "kind", "message"),
    [
        (np.zeros((3, 2)), TypeError, "read from a pandas DataFrame, got ndarray"),
        (pd.DataFrame({"a": []}), ValueError, r"must have rows, .* got shape \(0, 1\)"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), ValueError, r"names of their own.*columns \['a', 'a'\]"),
        (pd.DataFrame({"a": [1], "b": [None]}), ValueError, "not so 'b': drop them"),
        (pd.DataFrame({"a": pd.to_datetime(["2020-01-01"])}), TypeError, "column 'a' must .* got datetime64"),
        (pd.DataFrame({"a": [1j]}), TypeError, "column 'a' must .* got complex128"),
        (pd.DataFrame({"a": [1.0, np.inf]}), ValueError, "column 'a' must be finite or missing"),
    ],
)
def test_bad_training_rows(frame, kind, message):
    with pytest.raises(kind, match=message):
        Table().fit(frame)


def test_bad_rows_later_on():
    table = Table().fit(whole())
    with pytest.raises(ValueError, match=r"lacking: \['price'\], new: \['cost'\]"):
        table.transform(whole().rename(columns={"price": "cost"}))
    with pytest.raises(ValueError, match=r"column 'price' must hold numbers.*'dear'"):
        table.transform(whole().assign(price=["dear"] * 4))
    with pytest.raises(ValueError, match=r"must have the shape \(n, 14\), as transform .* got \(2, 3\)"):
        table.inverse_transform(np.zeros((2, 3)))


def test_a_bad_option_and_a_table_without_training_rows():
    with pytest.raises(ValueError, match="unknown must be one of refuse, missing; got 'ignore'"):
        Table(unknown="ignore").fit(whole())
    for method in ("transform", "inverse_transform"):
        with pytest.raises(NotFittedError):
            getattr(Table(), method)(whole())
    for method in ("likelihood", "get_feature_names_out"):
        with pytest.raises(NotFittedError):
            getattr(Table(), method)()


def test_it_is_one_of_scikit_learn_s_transformers():
    table = clone(Table(unknown="missing")).set_output(transform="pandas")
    x = table.fit_transform(whole())
    assert list(x.columns[:9]) == NAMES
    assert not hasattr(table, "set_fit_request")  # a frame is data, nothing to be routed
    np.testing.assert_allclose(x.to_numpy(), Table().fit_transform(whole()))
