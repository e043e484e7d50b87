"""tools/results_page.py: the board, the missed goals, and each chapter's tables."""

import json
import subprocess

import nbformat

from tools import results_page

HEADLINE = {
    "task": "search",
    "data": "MNIST",
    "measure": "mAP",
    "lower_is_better": False,
    "best": {"name": "bits", "value": 0.61234},
    "baseline": {"name": "PCA", "value": 0.5},
    "seeds": 3,
    "seconds": 9.0,
}
HELD = {"text": "a beats b", "left": 1.0, "relation": "<", "right": 2.0, "holds": True}
MISSED = {"text": "a | b", "left": 1.0, "relation": "<", "right": 0.5, "holds": False, "reason": "too short"}
CHOICE = {
    "name": "rate",
    "best": "2",
    "tries": [{"setting": "1", "score": 0.5}, {"setting": "2", "score": 0.25}],
}
RECORD = {"name": "MSE | test", "value": 0.123456789, "unit": "per pixel", "reference": 0.2, "source": "PCA"}
LEDGERS = {
    "types/one": {"claims": [MISSED, HELD], "headlines": [HEADLINE], "choices": [CHOICE]},
    "types/two": {"claims": []},
    "guide/three": {"claims": [HELD]},
}


def test_the_board_has_a_row_for_each_chapter():
    parts = {"Types": ["types/one", "types/two"], "Guide": ["guide/three"]}
    lines = results_page.board(parts, LEDGERS, dict.fromkeys(LEDGERS, "9 min, 2 CPU cores")).splitlines()
    assert [line for line in lines if line.startswith("#")] == ["### Types", "### Guide"]
    rows = [line for line in lines if line.startswith("| {doc}")]
    assert rows[0] == (
        "| {doc}`/types/one` ({doc}`tables <results/types_one>`): search, MNIST: mAP (higher is better)"
        " | **0.6123** bits | **0.5** PCA |  | 3 seeds, 9 min, 2 CPU cores | [1 of 2](#missed-goals) |"
    )
    assert rows[1].endswith(" no headline yet |  |  |  | 9 min, 2 CPU cores | none |")
    assert "a guide, no headline" in rows[2]
    assert {line.count(" | ") for line in lines if line.startswith("|")} == {5}


def test_missed_goals_stand_below_their_chapter():
    lines = results_page.goals(
        dict(zip(LEDGERS, ("The one", "Two", "Three"), strict=True)), LEDGERS
    ).splitlines()
    assert [line for line in lines if line.startswith("#")] == ["### The one"]
    assert lines[2].startswith("See {doc}`/types/one` and {doc}`its tables <results/types_one>`")
    assert "tried in 1 search on validation data" in lines[2]
    assert r"- a \| b: 1, wanted < 0.5. *Reason:* too short." in lines
    assert "a beats b" not in "\n".join(lines)


def test_a_page_lists_claims_figures_and_what_was_tried():
    stored = LEDGERS["types/one"] | {"records": [RECORD], "data": {"mnist": "original"}, "device": "2 cores"}
    page = results_page.page("types/one", "The one", stored, "9 min")
    assert page.startswith(
        "# The one: tables\n\nWhat {doc}`/types/one` recorded: 1 of 2 claims hold; 1 figures."
    )
    assert "| **0.6123** bits | **0.5** PCA |  | 3 | 9 |" in page
    assert "| a beats b | 1 < 2 | yes |" in page
    assert r"| a \| b | 1 < 0.5 | no: too short |" in page
    assert r"| MSE \| test | 0.12346 | per pixel | 0.2 PCA |" in page
    assert "| rate | 2 | 1: 0.5, 2: 0.25 |" in page
    assert "mnist (original)" in page


def test_a_run_is_dated_by_its_stamp_or_by_git(tmp_path):
    assert results_page.dates(tmp_path) == {}
    notebook = nbformat.v4.new_notebook()
    notebook.metadata["aelib"] = {"seconds": 130, "cpu_seconds": 200}
    stored = {"device": "2 CPU cores, x86_64; Keras"}
    assert results_page.run_of(notebook, stored, "2026-01-02") == "2 min, 2 CPU cores, 2026-01-02"
    assert results_page.run_of(notebook, stored, "") == "2 min, 2 CPU cores"
    notebook.metadata["aelib"]["date"] = "2026-03-04"
    assert results_page.run_of(notebook, stored, "2026-01-02") == "2 min, 2 CPU cores, 2026-03-04"


def test_the_day_of_the_last_commit_counts(tmp_path, monkeypatch):
    ledger = tmp_path / "book" / "results" / "types" / "one.json"
    ledger.parent.mkdir(parents=True)
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    for day in ("2026-01-02", "2026-01-03"):
        monkeypatch.setenv("GIT_AUTHOR_DATE", f"{day}T12:00:00")
        ledger.write_text(day)
        subprocess.run(["git", "add", "."], cwd=tmp_path, check=True)
        subprocess.run(["git", *who, "commit", "--quiet", "-m", "x"], cwd=tmp_path, check=True)
    assert results_page.dates(tmp_path) == {"types/one": "2026-01-03"}


def test_pages_of_chapters_that_are_gone_go(tmp_path):
    (tmp_path / "_toc.yml").write_text(
        "root: index\nparts:\n  - caption: Types\n    chapters:\n      - file: types/one\n"
    )
    folder = tmp_path / results_page.FOLDER
    for new in (folder, tmp_path / "book/results", tmp_path / "book/types", tmp_path / "book/_static"):
        new.mkdir(parents=True)
    (folder / "types_gone.md").write_text("# Gone")
    stored = LEDGERS["types/one"] | {"chapter": "types/one", "records": [], "data": {}, "device": "2 cores"}
    (tmp_path / "book/results/one.json").write_text(json.dumps(stored))
    cells = [nbformat.v4.new_markdown_cell("# The one\n\nText.")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "book/types/one.ipynb")
    results_page.main(tmp_path)
    assert sorted(file.name for file in folder.iterdir()) == ["board.txt", "types_one.md"]
    text = (folder / "board.txt").read_text("utf-8")
    assert text.index("## At a glance") < text.index("### Types") < text.index("## Goals that were missed")
    assert "### The one" in text
