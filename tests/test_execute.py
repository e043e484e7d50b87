"""tools/execute.py: what a stamp depends on, what is stripped, and that nothing half-run is stored."""

import base64
import io

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from PIL import Image

from tools import execute, results_page


def notebook(*sources, text="some text"):
    cells = [nbformat.v4.new_markdown_cell(text), *(nbformat.v4.new_code_cell(s) for s in sources)]
    return nbformat.v4.new_notebook(cells=cells)


def test_code_hash_sees_code_and_nothing_else():
    base = execute.code_hash(notebook("a = 1", "b = 2"))
    assert base == execute.code_hash(notebook("a = 1\n", "b = 2", text="other text"))
    assert base != execute.code_hash(notebook("a = 1", "b = 3"))
    assert base != execute.code_hash(notebook("a = 1\nb = 2"))


def test_package_hash_sees_code_but_no_comments(tmp_path):
    module = tmp_path / "m.py"

    def of(text):
        module.write_text(text)
        return execute.package_hash(tmp_path)

    base = of('"""Doc."""\n\ndef f(x):\n    """Doc."""\n    return x\n')
    assert base == of('"""Other."""\n\ndef f(x):\n    """Other."""\n    # why\n    return  x\n')
    assert base != of('"""Doc."""\n\ndef f(x):\n    """Doc."""\n    return -x\n')


def test_clean_strips_log_lines_and_keeps_warnings_and_glue():
    book = notebook("run()")
    log = "I0000 00:00:1795232422.227483    4829 port.cc:153] oneDNN custom operations are on.\n"
    log += "WARNING:tensorflow:5 out of the last 5 calls to <function f> triggered tf.function retracing.\n"
    stream, glued = nbformat.v4.new_output("stream", name="stderr", text=log), {"scrapbook": {"name": "x"}}
    kept = nbformat.v4.new_output("display_data", data={"text/plain": "1"}, metadata=glued)
    book.cells[1].outputs = [stream, kept]
    book.cells[1].metadata["execution"] = {"iopub.status.busy": "2026"}
    book.metadata["widgets"] = {}
    execute.clean(book)
    assert book.cells[1].outputs == [kept]
    assert "execution" not in book.cells[1].metadata
    assert "widgets" not in book.metadata
    book.cells[1].outputs = [
        nbformat.v4.new_output("stream", name="stderr", text=log + "UserWarning: beware\n")
    ]
    execute.clean(book)
    assert book.cells[1].outputs[0].text.strip() == "UserWarning: beware"


@pytest.fixture
def root(tmp_path):
    (tmp_path / "_toc.yml").write_text(
        "root: index\nparts:\n  - chapters:\n      - file: types/one\n      - file: types/page\n"
    )
    (tmp_path / "book" / "types").mkdir(parents=True)
    return tmp_path


def test_chapters_are_the_notebooks_of_the_toc(root):
    nbformat.write(notebook("1"), execute.path_of("types/one", root))
    (root / "book" / "types" / "page.md").write_text("# A page")
    assert execute.chapters(root) == ["types/one"]


@pytest.mark.enable_socket
def test_execute_stamps_and_stores(root, monkeypatch):
    path = execute.path_of("types/one", root)
    nbformat.write(notebook("import os; print(os.environ['AELIB_PROFILE'])"), path)
    for name in ("AELIB_PROFILE", "AELIB_PROGRESS", "TF_CPP_MIN_LOG_LEVEL"):
        monkeypatch.setenv(name, "")
    execute.execute("types/one", root)
    stored = nbformat.read(path, as_version=4)
    assert stored.cells[1].outputs[0].text == "full\n"
    assert execute.staleness(stored, execute.package_hash()) == ""
    assert execute.staleness(stored, "another") == "aelib changed"
    stored.cells[1].source += "\n1"
    assert execute.staleness(stored, execute.package_hash()) == "its code changed"
    assert execute.staleness(notebook("1"), "") == "never run in the full profile"


@pytest.mark.enable_socket
def test_a_run_that_fails_leaves_the_old_notebook(root, monkeypatch):
    path = execute.path_of("types/one", root)
    nbformat.write(notebook("1 / 0"), path)
    before = path.read_bytes()
    for name in ("AELIB_PROFILE", "AELIB_PROGRESS", "TF_CPP_MIN_LOG_LEVEL"):
        monkeypatch.setenv(name, "")
    with pytest.raises(Exception, match="ZeroDivisionError"):
        execute.execute("types/one", root)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["one.ipynb"]


def test_results_page_lists_claims_figures_and_reasons():
    claim = {"text": "a beats b", "left": 1.0, "relation": "<", "right": 2.0, "holds": True}
    goal = {
        "text": "a is tiny",
        "left": 1.0,
        "relation": "<",
        "right": 0.5,
        "holds": False,
        "reason": "too short",
    }
    record = {
        "name": "MSE | test",
        "value": 0.123456789,
        "unit": "per pixel",
        "reference": 0.2,
        "source": "PCA",
    }
    ledger = {
        "chapter": "types/one",
        "claims": [claim, goal],
        "records": [record],
        "data": {"mnist": "original"},
    }
    page = results_page.tables({"types/one": ledger | {"device": "2 CPU cores", "profile": "full"}})
    assert "| a beats b | 1 | `<` | 2 | yes |" in page
    assert "no: too short" in page
    assert r"| MSE \| test | 0.12346 | per pixel | 0.2 | PCA |" in page
    assert "mnist (original)" in page
    assert "2 CPU cores" in page


def test_figures_get_fewer_colours_and_look_the_same():
    figure, ax = plt.subplots()
    ax.scatter(*np.random.default_rng(0).random((2, 300)), c=np.arange(300), alpha=0.7)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    png = base64.b64encode(file.getvalue()).decode()
    smaller = execute.fewer_colours(png)
    assert len(smaller) < 0.6 * len(png)
    before, after = (
        np.asarray(Image.open(io.BytesIO(base64.b64decode(p))).convert("RGB"), float) for p in (png, smaller)
    )
    assert abs(before - after).mean() < 1
    assert (abs(before - after) > 32).mean() < 0.001
    assert execute.fewer_colours(smaller) == smaller, "twice is once"

    display = nbformat.v4.new_output("display_data", {"application/papermill.record/image/png": png})
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", outputs=[display])])
    execute.clean(book)
    assert book.cells[0].outputs[0].data == {"application/papermill.record/image/png": smaller}
