"""Runs of a long script: stored at once, found again, and never mixed with others."""

import json

import pytest

from aelib.book.runs import Runs


def test_a_second_start_goes_on_after_what_is_stored(tmp_path, capsys):
    path, computed = tmp_path / "new" / "runs.json", []

    def compute(seed):
        computed.append(seed)
        return {"mse": seed / 2}

    for seeds in ((0, 1), (0, 1, 2)):
        runs = Runs(path, {"epochs": 3})
        found = [runs.get({"seed": seed}, lambda seed=seed: compute(seed))["mse"] for seed in seeds]
    assert found == [0, 0.5, 1]
    assert computed == [0, 1, 2]
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert json.loads(path.read_text("utf-8")) == runs.stored


def test_a_run_that_breaks_leaves_the_earlier_ones(tmp_path):
    path = tmp_path / "runs.json"
    runs = Runs(path, {})
    runs.get({"seed": 0}, lambda: {"mse": 1})
    with pytest.raises(ZeroDivisionError):
        runs.get({"seed": 1}, lambda: {"mse": 1 / 0})
    assert Runs(path, {}).stored["runs"] == [{"seed": 0, "mse": 1}]
    assert runs.find({"seed": 1}) is None


def test_a_key_must_agree_whole(tmp_path):
    runs = Runs(tmp_path / "runs.json", {})
    runs.get({"kind": "L1", "seed": 0}, lambda: {"mse": 1})
    assert runs.find({"kind": "KL", "seed": 0}) is None
    assert runs.find({"kind": "L1", "seed": 0, "epochs": 2}) is None
    assert runs.find({"seed": 0})["kind"] == "L1"


def test_a_file_of_other_settings_is_refused_but_not_one_of_another_device(tmp_path):
    path = tmp_path / "runs.json"
    Runs(path, {"epochs": 3, "device": "one"}).get({"seed": 0}, dict)
    assert Runs(path, {"epochs": 3, "device": "another"}).find({"seed": 0}) == {"seed": 0}
    with pytest.raises(ValueError, match=r"made with 'epochs' 3, this run has 4: move the file away"):
        Runs(path, {"epochs": 4, "device": "one"})
