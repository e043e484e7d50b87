"""The doors: tables and figures that a page reads from other chapters' ledgers while the book is built."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image

from aelib.book import ledger
from tools import execute

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "book" / "_ext"))
import doors  # noqa: E402
import light  # noqa: E402

PAGES = ["index.md", "guide/choose.ipynb"]


def headline(best, rival, *, lower=True, measure="MSE per pixel", task="reconstruct"):
    return {
        "task": task,
        "data": "MNIST",
        "measure": measure,
        "lower_is_better": lower,
        "best": {"name": "a net", "value": best},
        "baseline": {"name": "PCA-16", "value": rival},
        "seeds": 3,
        "seconds": 12.3,
    }


def ledger_of(*headlines, claims=()):
    records = [{"name": "test MSE, 16 numbers", "value": -0.01234}]
    return {"headlines": list(headlines), "claims": list(claims), "records": records}


@pytest.mark.parametrize(
    ("entry", "winner", "words"),
    [
        (headline(0.25, 1.0), "net", "75 % less: 0.25, PCA-16 1"),
        (headline(1.5, 1.0), "rival", "50 % more: 1.5, PCA-16 1"),
        (headline(0.995, 1.0), "", "less than 1 % apart: 0.995, PCA-16 1"),
        (headline(94.2, 93.1, lower=False, measure="% right"), "net", "+1.1 points: 94.2, PCA-16 93.1"),
        (headline(77.7, 79.9, lower=False, measure="% right"), "rival", "−2.2 points: 77.7, PCA-16 79.9"),
        (headline(5.2, 18.2, measure="% misread"), "net", "+13.0 points: 5.2, PCA-16 18.2"),
        (headline(0.28, 0.3, measure="cross-entropy"), "net", "0.02 better: 0.28, PCA-16 0.3"),
        (headline(22.0, 25.0, lower=False, measure="PSNR, dB"), "rival", "3 worse: 22, PCA-16 25"),
    ],
)  # fmt: skip
def test_a_headline_is_won_lost_or_drawn(entry, winner, words):
    assert doors.comparison(entry) == (winner, words)
    named = {
        "net": "a net",
        "rival": "**use the rival: PCA-16**",
        "": "either; the rival, PCA-16, is simpler",
    }
    assert doors.use(entry) == named[winner]


def test_a_lead_within_three_standard_deviations_over_seeds_is_none():
    entry, stored = headline(0.25, 0.3), ledger_of()
    assert doors.spread(entry, stored) is None
    stored["records"] += [{"name": "MSE, net", "value": 0.25}, {"name": "MSE, net, sd", "value": 0.02}]
    sd = doors.spread(entry, stored)
    assert sd == 0.02
    words = "less than 3 standard deviations over seeds apart: 0.25, PCA-16 0.3"
    assert doors.comparison(entry, sd) == ("", words)
    assert doors.comparison(headline(0.2, 0.3), sd)[0] == "net"


def test_verdicts_are_by_task_and_name_the_tasks_without_a_headline():
    ledgers = {
        "types/one": ledger_of(headline(1, 2, task="search"), headline(1, 2)),
        "types/two": ledger_of(headline(3, 2) | {"data": "words"}),
        "types/better": ledger_of(headline(0.5, 2)),
        "types/three": {"claims": [], "records": []},
    }
    lines = doors.verdicts(ledgers)
    rows = [line for line in lines[2:] if line.startswith("|")]
    named = [re.findall(r"types/\w+", row) for row in rows]
    assert named == [["types/better", "types/one"], ["types/two"], ["types/one"]]
    assert [row.split("|")[1].strip() for row in rows] == ["**reconstruct**", "", "**search**"]
    assert "75 % less" in rows[0]
    assert "use the rival" in rows[1]
    assert "search*" not in lines[-1]
    assert "*generate* ({doc}`/types/variational`" in lines[-1]
    every = {f"types/{task}": ledger_of(headline(1, 2, task=task)) for task in ledger.TASKS}
    assert all(line.startswith("|") for line in doors.verdicts(every))


def test_each_task_has_chapters():
    assert set(doors.CHAPTERS) == set(ledger.TASKS)
    assert {name for names in doors.CHAPTERS.values() for name in names} <= set(execute.chapters())


def test_the_path_adds_up():
    lines = doors.path({"First": {"a/b": (30, 4), "a/c": (50, 6)}, "Second": {"b/d": (120, 0.4)}})
    assert lines[2] == "| {doc}`/a/b` | 30 min | 4 min |"
    assert lines[4] == "| **First**, 2 chapters | **80 min** | **10 min** |"
    assert lines[5] == "| **Second**, 1 chapter | **2.0 h** | **0 min** |"
    assert lines[6:] == ["| **All** | **3.3 h** | **10 min** |"]


def test_problems_show_headlines_or_words():
    ledgers = {"a/b": ledger_of(headline(3, 2)), "a/c": ledger_of()}
    text = ["Blurred | a/b | reconstruct | never shown", "Slow | a/c | reconstruct | 3 against 4"]
    text += ["Lost | a/b | search |"]
    lines = doors.problems(text, ledgers, {"a/b": 7, "a/c": 9})[2:]
    assert lines[0] == (
        "| Blurred | {doc}`/a/b` | **Nothing: use the rival.** 50 % more: 3, PCA-16 2"
        " (MNIST: MSE per pixel) | 7 min |"
    )
    assert lines[1].endswith("| 3 against 4 | 9 min |")
    assert lines[2].endswith("| no headline yet | 7 min |")
    for line in ("Slow | a/d | search |", "Slow | a/b | sing |"):
        with pytest.raises(ValueError, match=r"no ledger of 'a/\w', or no task"):
            doors.problems([line], ledgers, {"a/b": 7})


def superseded(text, ledgers):
    """Yield the chapters of which a page says in its own words what their headlines say."""
    for body in re.findall(r"```\{problems\}\n(.*?)```", text, re.DOTALL):
        for line in body.splitlines():
            _, chapter, task, words = (cell.strip() for cell in line.split("|"))
            if words and task in [h["task"] for h in ledgers[chapter].get("headlines", ())]:
                yield chapter


def test_words_give_way_to_headlines():
    rows = "Slow | a/b | reconstruct | words\nFast | a/c | reconstruct | words\nNew | a/b | search | words\n"
    text = f"```{{problems}}\n{rows}New | a/b | reconstruct |\n```"
    assert list(superseded(text, {"a/b": ledger_of(headline(1, 2)), "a/c": ledger_of()})) == ["a/b"]
    front = (ROOT / "book" / "index.md").read_text("utf-8")
    assert list(superseded(front, ledger.read(ROOT))) == [], "the headline says it: take the words out"


def a_book(root, page):
    """A book of one ledger, one notebook with a live figure, and a page."""
    book = root / "book"
    (book / "results" / "types").mkdir(parents=True)
    (book / "types").mkdir()
    (root / "_toc.yml").write_text(
        "root: index\nparts:\n  - caption: Types\n    chapters:\n      - file: types/one\n"
    )
    claims = [{"holds": True}, {"holds": False}]
    every = [headline(0.25, 1.0, task=task) for task in ledger.TASKS]  # links to no chapter but this one
    stored = ledger_of(*every, claims=claims) | {"chapter": "types/one"}
    (book / "results" / "types" / "one.json").write_text(json.dumps(stored))
    figure = '<figure data-kind="live-draw">drawn</figure>'
    output = nbformat.v4.new_output("display_data", data={"text/html": figure, "text/plain": ""})
    cells = [
        nbformat.v4.new_markdown_cell("# One"),
        nbformat.v4.new_code_cell("draw()", outputs=[output], execution_count=1),
    ]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["aelib"] = {"seconds": 130, "cpu_seconds": 200}
    notebook.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
    nbformat.write(notebook, book / "types" / "one.ipynb")
    (book / "index.md").write_text(f"# Front\n\n{page}\n\n```{{toctree}}\ntypes/one\n```\n")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-C", "-D", "root_doc=index"]
    command += ["-D", "extensions=myst_nb,doors", "-D", "nb_execution_mode=off", ".", "_out"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "book" / "_ext")}
    return subprocess.run(command, cwd=book, env=environment, check=False, capture_output=True, text=True)


def test_a_page_reads_the_ledgers(tmp_path):
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    (tmp_path / "benchmarks" / "results" / "speed.json").write_text('{"net": {"rate": [0, 12345]}}')
    page = (
        "{measured}`types/one :: test MSE, 16 numbers :: .3f`, "
        "{measured}`benchmarks/speed :: net/rate/1 :: ,.0f`"
        "\n\n{tally}`claims` claims, {tally}`missed` missed\n\n```{verdicts}\n```\n\n```{path}\n```\n\n"
        "```{problems}\nSlow | types/one | reconstruct |\n```\n\n```{borrowed} types/one live-draw\n```"
    )
    run = a_book(tmp_path, page)
    assert run.returncode == 0, run.stderr
    built = (tmp_path / "book" / "_out" / "index.html").read_text("utf-8")
    text = re.sub(r"<[^>]+>", " ", built)
    for words in ("−0.012, 12,345", "2 claims, 1 missed", "75 % less: 0.25, PCA-16 1", "1 min", "2 min"):
        assert words in text
    assert built.count('<figure data-kind="live-draw">drawn</figure>') == 1
    assert 'href="types/one.html"' in built


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("{measured}`types/one :: lost :: .3f`", "there is no figure"),
        ("{measured}`types/two :: lost :: .3f`", "there is no figure"),
        ("{measured}`types/one`", "there is no figure"),
        ("{measured}`benchmarks/lost :: a :: .3f`", "there is no figure"),
        ("{tally}`pages`", "is not counted"),
        ("```{problems}\nSlow | types/two | reconstruct |\n```", "there is no ledger"),
        ("```{borrowed} types/one live-walk\n```", "stores no figure"),
    ],
)
def test_a_figure_that_is_not_there_fails_the_build(tmp_path, page, message):
    run = a_book(tmp_path, page)
    assert run.returncode != 0
    assert message in run.stderr


def text_of(page):
    path = ROOT / "book" / page
    if path.suffix == ".md":
        return path.read_text("utf-8")
    cells = nbformat.read(path, as_version=4).cells
    return "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


@pytest.mark.parametrize("page", PAGES)
def test_every_measured_figure_exists(page):
    asked = re.findall(r"\{measured\}`([^`]+)`", text_of(page))
    assert len(asked) > 10
    ledgers = ledger.read(ROOT)
    for text in asked:
        chapter, name, form = text.split(" :: ")
        assert format(doors.value(ROOT, ledgers, chapter, name), form)


def test_the_front_pages_lines_run_on_an_array(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", text_of("index.md"), re.DOTALL)
    assert len([line for line in code.splitlines() if line]) == 10
    found = {"x": np.random.default_rng(0).random((64, 8, 8, 1), dtype="float32")}
    exec(compile(code, "index", "exec"), found)
    assert found["codes"].shape == (64, 32)
    assert (tmp_path / "net.keras").is_file()


def test_the_tree_is_closed():
    tree = text_of("guide/choose.ipynb").partition('<div class="tree">')[2].partition("</div>")[0]
    assert tree.count("<details>") == tree.count("</details>") > 10
    leaves = re.findall(r"</summary>\n\n(.+)\n\n</details>", tree)
    assert len(leaves) > 10
    assert all("{doc}" in leaf or "no autoencoder" in leaf or "aelib." in leaf for leaf in leaves)


def test_previews_are_small_and_figures_stay(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (300, 768, 3), dtype=np.uint8)
    (tmp_path / "_static" / "gallery").mkdir(parents=True)
    (tmp_path / "_images").mkdir()
    for name in ("one", "two"):
        Image.fromarray(noise).save(tmp_path / "_images" / f"{name}.png")
    Image.fromarray(noise).save(tmp_path / "_static" / "gallery" / "one.png")
    for name, size in (("one", (640, 250)), ("two", (768, 300))):
        shown, told = light.small(tmp_path / "_images" / f"{name}.png")
        with Image.open(shown) as picture:
            assert told == picture.size == size
