"""What somebody does who uses the package on data of their own: each script stands in `outside/`."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

HERE = Path(__file__).parent / "outside"


@pytest.fixture
def run(monkeypatch):
    """Return a function that runs a script in this process and returns its variables."""

    def script(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        return runpy.run_path(str(HERE / f"{name}.py"), run_name="__main__")

    return script


def test_a_table_with_categories_and_gaps(run):
    found = run("table_scores")
    scores, frame, restored = (found[name] for name in ("scores", "frame", "restored"))
    assert scores.argmax() == 399
    assert scores[399] > 2 * np.sort(scores)[-2]
    assert max(found["by_feature"], key=found["by_feature"].get) == "kind_bike"
    assert not restored.isna().any(axis=None)
    assert (restored["kind"] == frame["kind"])[:399][frame["kind"].notna()[:399]].mean() > 0.95


def test_a_folder_with_a_broken_file(run, tmp_path):
    with pytest.warns(UserWarning, match=r"13\.jpg cannot be read as an image"):
        found = run("image_folder", tmp_path)
    assert "13.jpg" in found["refused"]
    assert len(found["errors"]) == len(found["images"].files) == 47
    assert found["losses"][-1] < found["losses"][0]


def test_a_series_and_its_scores(run):
    found = run("series_scores")
    for scores in (found["scores"], found["coarse"]):
        assert scores.shape == (1203,)
        assert np.isnan(scores[-3:]).all()
        assert np.isfinite(scores[:-3]).all()
        odd = np.zeros(1203, bool)
        odd[900 - 32 : 910 + 32] = True
        assert np.nanmax(scores[odd]) > 2 * np.nanmax(scores[~odd])
    assert 900 <= np.nanargmax(found["scores"]) < 910


def test_digits_by_name(run):
    found = run("conditional_digits")
    data, drawn, wanted = (found[name] for name in ("data", "drawn", "wanted"))
    nearest = KNeighborsClassifier(3).fit(data.x_train.reshape(len(data.x_train), -1), data.y_train)
    assert np.mean(nearest.predict(drawn.reshape(len(drawn), -1)) == wanted) > 0.9
    assert found["right"] > found["wrong"] + 5


def test_a_total_correlation_of_ones_own(run):
    found = run("total_correlation")
    history, together = found["history"], found["together"]
    assert set(history) == {"loss", "reconstruction", "information", "correlation", "units"}
    assert history["reconstruction"][-1] < 0.5 * history["reconstruction"][0]
    # Each unit follows a place along the picture's axes, or along others: it is not lost.
    assert together.max(axis=0).min() > 0.5


def test_gaps_are_filled_better_than_by_means(run):
    errors = run("imputation")["errors"]
    assert errors["autoencoder"] < 0.95 * errors["column means"]
