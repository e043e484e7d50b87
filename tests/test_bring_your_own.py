"""The page on data of one's own: the parts of its sections, and its lines for PyTorch, where installed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from test_troubles import rewrite, untag

from aelib.book import ledger
from tools import execute

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "book" / "_ext"))
import doors  # noqa: E402

PAGE = "guide/bring_your_own"
SECTIONS = ("own-images", "own-table", "own-series", "own-documents")
PARTS = ("You have", "Load", "Check", "Train", "Result", "Change for yours", "Bad input")
_CHECK = re.compile(r"^ *(?:assert |complaint\()", re.MULTILINE)
WITH_AELIB = """
import sys
import numpy as np

x = np.load("x.npy")
exec(compile(open("lines.py").read(), "lines", "exec"))
import keras

assert keras.backend.backend() == sys.argv[1], keras.backend.backend()
print(np.mean((copies - x) ** 2), net.count_params())
"""


def page():
    return nbformat.read(execute.path_of(PAGE), as_version=4)


def text_of(notebook):
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def sections(notebook):
    """Return {label: cells} of the sections that begin with a label."""
    found, current = {}, None
    for cell in notebook.cells:
        head = re.match(r"\((own-\w+)\)=\n## ", cell.source) if cell.cell_type == "markdown" else None
        if head:
            current = found.setdefault(head[1], [])
        if current is not None:
            current.append(cell)
    return found


def faults_of(notebook):
    """Yield what the page lacks."""
    found = sections(notebook)
    if tuple(found) != (*SECTIONS, "own-torch"):
        yield f"its sections are {list(found)}"
    table = text_of(notebook).partition("(own-images)=")[0]
    if re.findall(r"^\| .*\{ref\}`(own-\w+)` \|", table, re.MULTILINE) != list(found):
        yield "the table does not name each section once, in order"
    for label in set(SECTIONS) & set(found):
        cells = found[label]
        prose = "\n\n".join(cell.source for cell in cells)
        parts = re.findall(r"^\*\*([A-Z][a-z ]+?)[.:]?\*\*", prose, re.MULTILINE)
        if tuple(part for part in parts if part in PARTS) != PARTS:
            yield f"{label}: its parts are {parts}"
        for tag in ("fault", "cure"):
            code = "\n".join(c.source for c in cells if tag in c.metadata.get("tags", []))
            if not _CHECK.search(code):
                yield f"{label}: no cell tagged {tag!r} asserts anything"


def test_the_page_is_whole():
    assert list(faults_of(page())) == []


SPOILT = {
    "a section lost": rewrite("(own-series)=\n", ""),
    "a part lost": rewrite("**Change for yours:**", "Change:"),
    "no faults": untag("fault"),
    "no cures": untag("cure"),
    "not in the table": rewrite("| {ref}`own-table` |", "| |"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_page_that_lacks_something_is_found(name):
    notebook = page()
    SPOILT[name](notebook.cells)
    assert list(faults_of(notebook))


def test_its_measured_figures_exist():
    asked = re.findall(r"\{measured\}`([^`]+)`", text_of(page()))
    assert len(asked) == 2
    for entry in asked:
        chapter, name, form = entry.split(" :: ")
        assert format(doors.value(ROOT, ledger.read(ROOT), chapter, name), form)


def listing(beginning):
    """Return the one listing outside the take-home box that begins so."""
    text = re.sub(r"`{4}\{takehome\}.*?`{4}", "", text_of(page()), flags=re.DOTALL)
    (found,) = [
        code for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if code.startswith(beginning)
    ]
    return found


def images():
    """Smooth images of three numbers each, (512, 8, 8, 1), in [0, 1]."""
    factors = np.random.default_rng(0).normal(size=(512, 3))
    maps = np.random.default_rng(1).normal(size=(3, 64))
    return (1 / (1 + np.exp(-factors @ maps))).reshape(-1, 8, 8, 1).astype("float32")


def with_aelib(backend, folder):
    """Run the lines with aelib in a process of their own; return their error and count of parameters."""
    np.save(folder / "x.npy", images())
    (folder / "lines.py").write_text(listing("import os").replace('"torch"', f'"{backend}"'))
    run = subprocess.run(
        [sys.executable, "-c", WITH_AELIB, backend],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "AELIB_PROGRESS": "0"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    error, parameters = run.stdout.split()[-2:]
    return float(error), int(parameters)


def test_the_lines_with_aelib_run_on_this_backend(tmp_path):
    error, _ = with_aelib("tensorflow", tmp_path)
    assert error < 0.25 * images().var(axis=0).mean()


def test_the_lines_in_pytorch_run_and_match(tmp_path, monkeypatch):
    """Plain PyTorch, and aelib on it: as many parameters, and errors of one size."""
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    x = images()
    found = {"x": x}
    exec(compile(listing("import torch"), PAGE, "exec"), found)
    assert found["codes"].shape == (512, 20)
    assert found["copies"].shape == x.shape
    assert (tmp_path / "net.pt").is_file()
    plain = float(np.mean((found["copies"] - x) ** 2))
    assert plain < 0.25 * x.var(axis=0).mean()
    error, parameters = with_aelib("torch", tmp_path)
    assert parameters == sum(p.numel() for p in found["net"].parameters())
    assert 0.5 < error / plain < 2
