import numpy as np
import pytest

from aelib import Autoencoder, anomaly, blocks
from aelib.data import spread, windows

SERIES = np.arange(20.0).reshape(10, 2)


@pytest.mark.parametrize(("length", "stride"), [(4, 1), (4, 3), (2, 4), (10, 7)])
def test_windows_are_rows_of_the_series(length, stride):
    found = windows(SERIES, length, stride)
    starts = range(0, 10 - length + 1, stride)
    np.testing.assert_array_equal(found, [SERIES[i : i + length] for i in starts])


def test_windows_copy_nothing():
    found = windows(SERIES, 4)
    assert found.shape == (7, 4, 2)
    assert np.shares_memory(found, SERIES)
    assert not found.flags.writeable


def test_a_list_is_a_series_of_one_channel():
    np.testing.assert_array_equal(windows([1, 2, 3], 2), [[[1], [2]], [[2], [3]]])


def test_a_tail_is_refused_or_dropped_as_asked():
    with pytest.raises(
        ValueError, match="length 4 and stride 4 leave out the last 2 of 10 steps: choose tail='drop'"
    ):
        windows(SERIES, 4, 4)
    assert windows(SERIES, 4, 4, tail="drop").shape == (2, 4, 2)


@pytest.mark.parametrize(
    ("series", "arguments", "message"),
    [
        (np.zeros((3, 4, 5)), (2,), r"\(T,\) or \(T, C\), got \(3, 4, 5\)"),
        (np.zeros(5), (6,), "length must be at most the 5 steps of the series, got 6"),
        (np.zeros(5), (0,), "length must be a whole number >= 1, got 0"),
        (np.zeros(5), (2, 1.5), "stride must be a whole number >= 1, got 1.5"),
    ],
)
def test_bad_series(series, arguments, message):
    with pytest.raises(ValueError, match=message):
        windows(series, *arguments)


def test_a_bad_tail():
    with pytest.raises(ValueError, match="tail must be one of refuse, drop; got 'pad'"):
        windows(SERIES, 4, tail="pad")


@pytest.mark.parametrize("per_step", [False, True])
@pytest.mark.parametrize("reduce", ["mean", "max"])
@pytest.mark.parametrize(("length", "stride"), [(4, 1), (4, 3), (2, 4), (5, 2)])
def test_spread_is_what_a_loop_over_the_steps_gives(length, stride, reduce, per_step):
    n, steps = len(windows(SERIES, length, stride, tail="drop")), 10
    scores = np.random.default_rng(0).normal(size=(n, length) if per_step else n)
    scores.flat[1] = np.nan
    expected = []
    for t in range(steps):
        places = [(i, t - i * stride) for i in range(n) if 0 <= t - i * stride < length]
        here = [scores[place] if per_step else scores[place[0]] for place in places]
        here = [score for score in here if not np.isnan(score)]
        expected.append(getattr(np, reduce)(here) if here else np.nan)
    found = spread(scores, length, stride, steps=steps, reduce=reduce)
    np.testing.assert_allclose(found, expected)


def test_spread_ends_with_the_last_window():
    np.testing.assert_array_equal(spread([1, 3], 3, 2), [1, 1, 2, 3, 3])
    assert spread([1.0], 3).dtype == np.float64


@pytest.mark.parametrize(
    ("scores", "options", "message"),
    [
        (np.zeros((3, 2)), {}, r"scores must have the shape \(n,\) or \(n, 4\), got \(3, 2\)"),
        (np.zeros((3, 4, 2)), {}, "take the mean over channels first"),
        (np.zeros(3), {"steps": 7}, "a series of 8 to 9 steps, got steps=7"),
        (np.zeros(3), {"steps": 10}, "a series of 8 to 9 steps, got steps=10"),
        (np.zeros(3), {"reduce": "min"}, "reduce must be one of mean, max; got 'min'"),
    ],
)
def test_bad_scores(scores, options, message):
    with pytest.raises(ValueError, match=message):
        spread(scores, 4, 2, **options)


def test_a_net_reads_the_windows_and_its_scores_come_back():
    x = windows(SERIES / 20, 4)
    model = Autoencoder(blocks.dense_encoder((4, 2), 1), blocks.dense_decoder((4, 2), 1))
    model.compile("adam")
    model.fit(x, verbose=0)
    by_step = anomaly.errors(model, x, per_feature=True).mean(axis=-1)
    assert np.isfinite(spread(by_step, 4)).all()
