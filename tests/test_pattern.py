"""The pattern of a chapter: its times, its take-home box whose lines run, its questions, its folded cells."""

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
import yaml

from tools import execute

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "book" / "_ext"))
import pattern  # noqa: E402

CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))["sphinx"]["config"]
OLD = CONFIG["old_pattern_chapters"]
#: What only keeps the books, or loads what they are kept with.
BOOKKEEPING = re.compile(r"^(ledger\.|ledger = |import |from |plots\.use|profile)")


def take_home(notebook):
    """The Python lines of each take-home box."""
    text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    boxes = re.findall(r"^(`{4,}|:{3,})\{takehome\}\n(.*?)^\1$", text, re.MULTILINE | re.DOTALL)
    return [re.findall(r"```python\n(.*?)```", body, re.DOTALL) for _, body in boxes]


def folded(cell):
    return bool({"hide-input", "hide-cell", "remove-cell"} & set(cell.metadata.get("tags", [])))


def off_pattern(notebook):
    """Yield what a chapter lacks of the pattern."""
    boxes = take_home(notebook)
    if len(boxes) != 1 or len(boxes[0]) != 1:
        yield f"it has {len(boxes)} take-home boxes, with {[*map(len, boxes)]} programs; wanted is 1"
    elif not 1 < len(lines := [line for line in boxes[0][0].splitlines() if line.strip()]) <= 12:
        yield f"the lines to take home are {len(lines)}; about ten are wanted"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    asked = sum(cell.source.count("Question(") for cell in code if "quiz(" in cell.source)
    if asked != 3:
        yield f"it asks {asked} questions; three are wanted"
    for i, cell in enumerate(code):
        lines = [line for line in cell.source.splitlines() if line.strip() and line[0] not in " )]}"]
        if lines and all(map(BOOKKEEPING.match, lines)) and not folded(cell):
            yield f"code cell {i} only keeps the books, and is not folded: {lines[0]!r}"


def good_chapter():
    new = nbformat.v4
    box = "````{takehome}\nWhen the data are images.\n\n```python\nimport aelib\nprint(x.shape)\n```\n````"
    quiz = "quiz([Question('a'), Question('b'), Question('c')])"
    imports = new.new_code_cell(
        "import aelib\nfrom aelib import (\n    plots,\n)", metadata={"tags": ["hide-input"]}
    )
    work = new.new_code_cell("y = 2\nledger.record('y', y)")
    last = new.new_code_cell("ledger.save()", metadata={"tags": ["hide-input"]})
    return new.new_notebook(cells=[new.new_markdown_cell(box), imports, work, new.new_code_cell(quiz), last])


def test_a_chapter_off_the_pattern_is_found():
    assert list(off_pattern(good_chapter())) == []
    faults = {
        "no box": lambda cells: cells.pop(0),
        "two programs": lambda cells: cells[0].update(
            source=cells[0].source.replace("```python", "```python\n```\n```python")
        ),
        "a long program": lambda cells: cells[0].update(
            source=cells[0].source.replace("print", "1\n" * 20 + "print")
        ),
        "two questions": lambda cells: cells[3].update(source=cells[3].source.replace(", Question('c')", "")),
        "open imports": lambda cells: cells[1].metadata.clear(),
        "open ledger": lambda cells: cells[4].metadata.clear(),
    }
    for name, spoil in faults.items():
        chapter = good_chapter()
        spoil(chapter.cells)
        assert len(list(off_pattern(chapter))) == 1, name


@pytest.mark.parametrize("chapter", [name for name in execute.chapters() if name not in OLD])
def test_the_chapter_is_on_the_pattern(chapter):
    assert list(off_pattern(nbformat.read(execute.path_of(chapter), 4))) == []


@pytest.mark.parametrize("chapter", [name for name in execute.chapters() if name not in OLD])
def test_the_lines_to_take_home_run_on_an_array(chapter, tmp_path, monkeypatch):
    """On images of the reader's own, here noise: small ones, and few."""
    monkeypatch.chdir(tmp_path)
    ((code,),) = take_home(nbformat.read(execute.path_of(chapter), 4))
    x = np.random.default_rng(0).random((64, 8, 8, 1), dtype="float32")
    exec(compile(code, chapter, "exec"), {"x": x})


def test_chapters_on_the_old_pattern_are_chapters_and_off_the_new_one():
    assert set(OLD) <= set(execute.chapters())
    fit = [name for name in OLD if not list(off_pattern(nbformat.read(execute.path_of(name), 4)))]
    assert fit == [], "take them out of `old_pattern_chapters`"


def test_times_are_those_of_text_and_stamp():
    cells = [
        {"cell_type": "markdown", "source": ["word " * 498, "$$a + b$$ ", "{doc}`a b c`"], "metadata": {}},
        {"cell_type": "code", "source": "a\n\n" * 20, "metadata": {}},
        {"cell_type": "code", "source": "a\n" * 900, "metadata": {"tags": ["hide-cell"]}},
    ]
    notebook = {"cells": cells, "metadata": {}}
    assert pattern.times(notebook) == "Reading: 3 minutes"
    notebook["metadata"] = {"aelib": {"seconds": 40, "device": "2 CPU cores, x86_64; Keras"}}
    assert pattern.times(notebook) == "Reading: 3 minutes · running: 1 minute on 2 CPU cores"
    notebook["metadata"]["aelib"]["seconds"] = 1203
    assert pattern.times(notebook).endswith("running: 20 minutes on 2 CPU cores")
    notebook["metadata"]["aelib"]["cpu_seconds"] = 820
    assert pattern.times(notebook).endswith("running: 14 minutes on 2 CPU cores")


def test_the_box_is_on_the_page(tmp_path):
    (tmp_path / "index.md").write_text("# Page\n\n````{takehome}\nUse it.\n\n```python\nfit(x)\n```\n````\n")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-C", "-D", "root_doc=index"]
    command += ["-D", "extensions=myst_parser,pattern", ".", "_out"]
    subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT / "book" / "_ext")}, check=True
    )
    page = (tmp_path / "_out" / "index.html").read_text("utf-8")
    assert "takehome" in page
    assert "Take home" in page
    assert "Reading" not in page
