"""What somebody does who uses the package on data of their own: each script stands in `outside/`."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

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
