"""tools/execute.py and reach.py: what a stamp depends on, what is stripped; nothing half-run is stored."""

import base64
import io
import re

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from PIL import Image

from tools import execute, reach


def notebook(*sources, text="some text"):
    cells = [nbformat.v4.new_markdown_cell(text), *(nbformat.v4.new_code_cell(s) for s in sources)]
    return nbformat.v4.new_notebook(cells=cells)


def test_code_hash_sees_code_and_nothing_else():
    base = execute.code_hash(notebook("a = 1", "b = 2"))
    assert base == execute.code_hash(notebook("a = 1\n", "b = 2", text="other text"))
    assert base != execute.code_hash(notebook("a = 1", "b = 3"))
    assert base != execute.code_hash(notebook("a = 1\nb = 2"))


PACKAGE = {
    "__init__.py": """
import lazy_loader
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submodules=["models", "sums"], submod_attrs={"models": ["Model"], "data": ["load"]}
)
""",
    "models.py": """
import math
from aelib import sums
class Model:
    def terms(self):
        return sums.twice(1)
def other():
    return math.sqrt(2)
""",
    "sums.py": """
SIZE = 3
def twice(x):
    return 2 * x * SIZE
def unused():
    return 1
""",
    "data/__init__.py": """
from aelib.data import sources
def load(name):
    return sources.SPECS[name]
""",
    "data/sources.py": """
SPECS = {}
SPECS["digits"] = 64
""",
    "alias.py": """
from aelib.sums import twice
__all__ = ["twice"]
""",
}


@pytest.fixture
def hashes(tmp_path):
    """A function that changes a file of a small package, and hashes what a source reaches in it."""

    def of(source, file=None, old="", new=""):
        for name, text in PACKAGE.items():
            path = tmp_path / "aelib" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            assert name != file or old in text
            path.write_text(text.replace(old, new) if name == file else text)
        return reach.hashes(source, reach.read(tmp_path / "aelib"))

    return of


@pytest.mark.parametrize(
    ("source", "file", "old", "new", "changed"),
    [
        ("import aelib\naelib.Model()", "models.py", "(1)", "(2)", {"models"}),
        ("import aelib\naelib.Model()", "sums.py", "SIZE = 3", "SIZE = 4", {"sums"}),
        ("import aelib\naelib.Model()", "sums.py", "return 1", "return 2", set()),
        ("import aelib\naelib.Model()", "models.py", "math.sqrt(2)", "math.sqrt(3)", set()),
        ("import aelib\naelib.Model()", "data/sources.py", "64", "65", set()),
        ("import aelib\naelib.load('digits')", "data/sources.py", "64", "65", {"data.sources"}),
        ("from aelib import load\nload('digits')", "data/__init__.py", "[name]", "[0]", {"data"}),
        ("from aelib.models import Model", "models.py", "(1)", "(2)", set()),
        ("import aelib.sums as s\ns.twice(2)", "sums.py", "2 * x", "3 * x", {"sums"}),
        ("import aelib\naelib.sums.twice(2)", "sums.py", "2 * x", "3 * x", {"sums"}),
        ("from aelib.alias import twice\ntwice(2)", "sums.py", "2 * x", "3 * x", {"sums"}),
        ("from aelib.alias import twice\ntwice(2)", "alias.py", '["twice"]', "[]", set()),
        ("from aelib import sums\nf(sums)", "sums.py", "return 1", "return 2", {"sums"}),
        ("from aelib.sums import twice as f\nfrom keras import f\nf(2)", "sums.py", "2 *", "3 *", {"sums"}),
        ("from aelib import models\nmodels.other()", "models.py", "t math", "t cmath as math", {"models"}),
        ("def f():\n    from aelib import sums\n    sums.twice(1)", "sums.py", "2 *", "3 *", {"sums"}),
    ],
)
def test_a_stamp_names_the_modules_that_changed(hashes, source, file, old, new, changed):
    before, after = hashes(source), hashes(source, file, old, new)
    assert set(before) == set(after)
    assert {name for name in before if before[name] != after[name]} == changed


def test_comments_docstrings_and_layout_do_not_count(hashes):
    call = "import aelib\naelib.Model()"
    documented = [
        hashes(call, "models.py", "class Model:\n", f"class Model:\n\n    '{text}'\n    # {text}\n")
        for text in ("A model.", "Another one.")
    ]
    assert documented[0] == documented[1]


def test_type_hints_do_not_count_but_defaults_do(hashes):
    call = "from aelib import sums\nf(sums)"
    hints = "if TYPE_CHECKING:\n    from aelib.data import load\n\ndef twice(x: int, *y: load) -> Any:"
    plain, hinted, default = (
        hashes(call, "sums.py", "def twice(x):", line)
        for line in ("def twice(x, *y):", hints, "def twice(x=1, *y):")
    )
    assert plain == hinted
    assert set(plain) == set(default) == {"sums"}
    assert plain != default


def test_hashes_do_not_depend_on_the_version_of_python():
    """Continuous integration runs this on several."""
    text = 'def twice(x, *, f=lambda y: y, **rest):\n    return f"{x!r:>8} is {f}" if x else [{}, None]\n'
    assert reach.digest(reach.parse(text).text("twice")) == "3ce0116ca00252ac"


def test_relative_imports_are_refused():
    with pytest.raises(ValueError, match="relative imports"):
        reach.parse("from . import sums")


def test_a_chapter_reaches_what_it_uses_and_no_more():
    book = nbformat.read(execute.path_of("types/basic"), as_version=4)
    reached = set(execute.module_hashes(book, reach.read(execute.ROOT / "aelib")))
    assert {"autoencoder", "blocks", "book.ledger", "data.sources", "likelihoods", "metrics"} <= reached
    assert not {"anomaly", "retrieval", "convmatrix", "results"} & reached
    book = nbformat.read(execute.path_of("types/contractive"), as_version=4)  # which has no live figure
    assert "book.interactive" not in execute.module_hashes(book, reach.read(execute.ROOT / "aelib"))


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
    code = "import os\nfrom aelib import files\nprint(os.environ['AELIB_PROFILE'])\nfiles.write_atomically;"
    nbformat.write(notebook(code), path)
    for name in ("AELIB_PROFILE", "AELIB_PROGRESS", "TF_CPP_MIN_LOG_LEVEL"):
        monkeypatch.setenv(name, "")
    execute.execute("types/one", root)
    stored = nbformat.read(path, as_version=4)
    assert stored.cells[1].outputs[0].text == "full\n"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", stored.metadata.aelib.date)
    modules = reach.read(execute.ROOT / "aelib")
    assert stored.metadata.aelib.modules == execute.module_hashes(stored, modules) != {}
    assert execute.staleness(stored, modules) == ""
    stored.metadata.aelib.modules["files"] = "another"
    assert execute.staleness(stored, modules) == "aelib changed: files"
    del stored.metadata.aelib["modules"]
    assert execute.staleness(stored, modules) == "aelib changed"
    stored.cells[1].source += "\n1"
    assert execute.staleness(stored, modules) == "its code changed"
    assert execute.staleness(notebook("1"), modules) == "never run in the full profile"


def test_a_release_has_no_stale_chapter(root, monkeypatch, capsys):
    path = execute.path_of("types/one", root)
    fresh = notebook("1")
    fresh.metadata["aelib"] = {"profile": "full", "code": execute.code_hash(fresh), "modules": {}}
    nbformat.write(fresh, path)
    monkeypatch.setattr(execute, "chapters", lambda: ["types/one"])
    monkeypatch.setattr(execute, "path_of", lambda chapter: path)
    assert execute.main(["--release"]) == 0
    fresh.metadata["aelib"]["modules"] = {"blocks": "x"}
    nbformat.write(fresh, path)
    assert execute.main(["--list"]) == 0
    assert execute.main(["--release"]) == 1
    assert capsys.readouterr().out == "nothing is stale\n" + 2 * "types/one: aelib changed: blocks\n"


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
