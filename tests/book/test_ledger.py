import base64
import io
import json
import os
import stat
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest

from aelib import data
from aelib import files as storage
from aelib.book import ledger as results
from aelib.book import profile as profiles


@pytest.fixture(params=["full", "quick"])
def in_either(request, monkeypatch):
    """Each profile in turn, whichever the environment asks for."""
    monkeypatch.setattr(profiles, "profile", profiles.Profile(request.param))


@pytest.fixture
def in_full(monkeypatch):
    monkeypatch.setattr(profiles, "profile", profiles.Profile("full"))


@pytest.fixture
def in_quick(monkeypatch):
    monkeypatch.setattr(profiles, "profile", profiles.Profile("quick"))


@pytest.fixture
def book(tmp_path, monkeypatch):
    """A book to write to, and the working folder somewhere in it."""
    (tmp_path / "_toc.yml").touch()
    (tmp_path / "book" / "types").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "book" / "types")
    monkeypatch.setattr(data, "_loaded", {})
    return tmp_path


@pytest.fixture
def ledger():
    return results.Ledger("types/sparse")


def files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.usefixtures("in_full")
def test_round_trip(book, ledger):
    data.register_source("mnist", "the original")
    data.register_source("digits", "scikit-learn")
    returned = ledger.record(
        "test MSE", np.float32(0.5), unit="per pixel", reference=0.75, source="PCA, 32 °"
    )
    ledger.record("epochs", 3)
    ledger.claim("the net beats PCA", 0.5, "<", 0.75)
    assert type(returned) is float
    path = ledger.save()
    assert path == book / "book" / "results" / "types" / "sparse.json"
    assert json.loads(path.read_text("utf-8")) == {
        "chapter": "types/sparse",
        "profile": "full",
        "device": results.device(),
        "data": {"digits": "scikit-learn", "mnist": "the original"},
        "records": [
            {"name": "test MSE", "value": 0.5, "unit": "per pixel", "reference": 0.75, "source": "PCA, 32 °"},
            {"name": "epochs", "value": 3.0, "unit": "", "reference": None, "source": ""},
        ],
        "claims": [{"text": "the net beats PCA", "left": 0.5, "relation": "<", "right": 0.75, "holds": True}],
    }
    assert results.read(book) == {"types/sparse": ledger.as_dict()}
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert "°" in path.read_text("utf-8"), "readable in a diff"


@pytest.mark.usefixtures("in_quick")
def test_quick_profile_writes_nothing(book, ledger):
    ledger.record("test MSE", 0.5)
    assert ledger.save() is None
    assert files(book) == [book / "_toc.yml"]


@pytest.mark.usefixtures("in_full")
def test_nothing_is_written_outside_a_book(tmp_path, monkeypatch, ledger):
    monkeypatch.chdir(tmp_path)
    assert ledger.save() is None
    assert files(tmp_path) == []


def test_find_book(book, tmp_path):
    assert results.find_book() == book
    assert results.find_book(book / "book") == book
    assert results.find_book(tmp_path.parent) is None


@pytest.mark.usefixtures("in_full")
@pytest.mark.parametrize("failing", ["chmod", "replace"])
def test_a_failing_save_leaves_the_old_file(book, ledger, monkeypatch, failing):
    ledger.record("a", 1)
    before = ledger.save().read_text()

    def refuse(*_, **__):
        raise OSError("disk full")

    ledger.record("b", 2)
    with monkeypatch.context() as patch:
        patch.setattr(os, failing, refuse)
        with pytest.raises(OSError, match="disk full"):
            ledger.save()
    path = book / "book" / "results" / "types" / "sparse.json"
    assert path.read_text() == before
    assert sorted(files(book)) == sorted([book / "_toc.yml", path])


def test_a_text_that_cannot_be_encoded_leaves_nothing(tmp_path):
    with pytest.raises(UnicodeEncodeError):
        storage.write_atomically(tmp_path / "a.json", "half \ud800")
    assert files(tmp_path) == []


RELATIONS = [
    (1, "<", 2, True),
    (2, "<", 2, False),
    (2, "<=", 2, True),
    (3, "<=", 2, False),
    (3, ">", 2, True),
    (2, ">", 2, False),
    (2, ">=", 2, True),
    (1, ">=", 2, False),
    (2, "==", 2, True),
    (1, "==", 2, False),
]


@pytest.mark.usefixtures("in_quick")
@pytest.mark.parametrize(("left", "relation", "right", "holds"), RELATIONS)
def test_quick_only_evaluates_claims(ledger, left, relation, right, holds):
    assert ledger.claim("it holds", left, relation, right) is holds
    assert ledger.claims[0]["holds"] is holds


@pytest.mark.usefixtures("in_full")
@pytest.mark.parametrize(("left", "relation", "right", "holds"), RELATIONS)
def test_full_stops_at_a_false_claim(ledger, left, relation, right, holds):
    if holds:
        assert ledger.claim("it holds", left, relation, right) is True
    else:
        with pytest.raises(
            results.ClaimError, match=rf"types/sparse: it holds: {left} {relation} {right} does"
        ):
            ledger.claim("it holds", left, relation, right)
        assert ledger.claims == []


@pytest.mark.usefixtures("in_either")
def test_a_goal_that_is_missed_is_stored_with_its_reason(ledger):
    assert ledger.claim("beats the paper", 2, "<", 1, goal=True, reason="a tenth of the epochs") is False
    assert ledger.claim("beats the mean", 0, "<", 1, goal=True, reason="a tenth of the epochs") is True
    missed, reached = ledger.claims
    assert (missed["holds"], missed["reason"]) == (False, "a tenth of the epochs")
    assert reached["holds"] is True
    assert "reason" not in reached


@pytest.mark.usefixtures("in_either")
def test_refusals_show_what_they_got(ledger):
    ledger.record("a", 1)
    with pytest.raises(ValueError, match="types/sparse has recorded 'a' already"):
        ledger.record("a", 2)
    with pytest.raises(ValueError, match=r"the reference 3.0 of 'b' needs a source"):
        ledger.record("b", 2, reference=3)
    with pytest.raises(ValueError, match="'b' must be finite, got inf"):
        ledger.record("b", float("inf"))
    with pytest.raises(ValueError, match="'reference of b' must be finite, got nan"):
        ledger.record("b", 1, reference=np.nan, source="a paper")
    with pytest.raises(TypeError, match="'b' must be a number, got 'many'"):
        ledger.record("b", "many")
    with pytest.raises(TypeError, match=r"'b' must be a number, got \[1, 2\]"):
        ledger.record("b", [1, 2])
    with pytest.raises(ValueError, match=r"relation must be one of <, <=, >, >=, ==; got '!='"):
        ledger.claim("c", 1, "!=", 2)
    with pytest.raises(ValueError, match="the goal 'c' needs a reason"):
        ledger.claim("c", 1, "<", 2, goal=True)
    with pytest.raises(ValueError, match="'c' must be finite, got nan"):
        ledger.claim("c", float("nan"), "<", 2)
    assert [record["name"] for record in ledger.records] == ["a"]
    assert ledger.claims == []


def test_value(ledger):
    ledger.record("a", 1)
    ledger.record("b", 2)
    assert ledger.value("b") == 2.0
    with pytest.raises(KeyError, match=r"types/sparse has no record 'c'; it has \['a', 'b'\]"):
        ledger.value("c")


@pytest.mark.parametrize(
    "chapter", ["", "sparse", "types/", "/sparse", "types/../sparse", "a/b/c", "types/a b"]
)
def test_chapter_is_a_path_of_two(chapter):
    with pytest.raises(ValueError, match="must look like 'types/basic', got") as error:
        results.Ledger(chapter)
    assert repr(chapter) in str(error.value)


@pytest.mark.usefixtures("in_full")
def test_read_sorts_by_chapter(book):
    assert results.read(book) == {}
    chapters = ["types/sparse", "applications/anomaly", "types/basic", "foundations/pca"]
    for chapter in chapters:
        results.Ledger(chapter).save()
    assert list(results.read(book)) == sorted(chapters)


def test_device_in_words(monkeypatch):
    import keras

    monkeypatch.setattr(keras.distribution, "list_devices", lambda kind: [])
    assert f"{os.cpu_count()} CPU cores" in results.device()
    monkeypatch.setattr(keras.distribution, "list_devices", lambda kind: ["gpu:0", "gpu:1"])
    assert results.device() == f"2 GPU; Keras {keras.__version__} on {keras.backend.backend()}"


def test_device_asks_torch_where_keras_does_not_know(monkeypatch):
    import types

    import keras

    torch = types.SimpleNamespace(cuda=types.SimpleNamespace(device_count=lambda: 1))
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    assert results.device() == f"1 GPU; Keras {keras.__version__} on torch"


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """What a running shell displays."""
    pytest.importorskip("IPython")
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output
    from traitlets.config import Config

    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    shell = InteractiveShell.instance(config=Config(HistoryManager={"enabled": False}))
    with capture_output() as shown:
        yield shown
    shell.restore_sys_module_state()
    InteractiveShell.clear_instance()


def test_a_record_is_glued_as_myst_nb_does(notebook, ledger):
    myst_nb = pytest.importorskip("myst_nb")
    ledger.record("test MSE", np.float32(0.5))
    myst_nb.glue("test MSE", 0.5, display=False)
    ours, theirs = notebook.outputs
    assert ours.data == theirs.data
    assert ours.metadata == theirs.metadata


def test_a_figure_is_glued_as_a_picture(notebook):
    figure, ax = plt.subplots(figsize=(2, 1), dpi=50)
    ax.plot([0, 1])
    results.glue("curve", figure)
    (output,) = notebook.outputs
    assert output.metadata["scrapbook"]["name"] == "curve"
    prefix = output.metadata["scrapbook"]["mime_prefix"]
    picture = plt.imread(io.BytesIO(base64.b64decode(output.data[f"{prefix}image/png"])))
    assert picture.ndim == 3
    assert picture.std() > 0


@pytest.mark.parametrize("installed", [True, False])
def test_nothing_is_glued_outside_a_notebook(capsys, monkeypatch, ledger, installed):
    if installed:
        pytest.importorskip("IPython")
    else:
        monkeypatch.setitem(sys.modules, "IPython", None)
    ledger.record("a", 1)
    assert capsys.readouterr().out == ""


def test_the_best_setting_is_chosen_and_every_try_is_stored(in_either, ledger):
    assert ledger.choose("rate", [1e-3, 1e-2, 1e-1], [3, 1, 2]) == 1e-2
    assert ledger.choose("share", [0.5, 0.8, 1.0], [1, 2, 3], lower_is_better=False, bounds=[1.0]) == 1.0
    stored = ledger.as_dict()["choices"]
    assert stored[0] == {
        "name": "rate",
        "best": "0.01",
        "tries": [{"setting": s, "score": v} for s, v in (("0.001", 3.0), ("0.01", 1.0), ("0.1", 2.0))],
    }
    assert [choice["name"] for choice in stored] == ["rate", "share"]


def test_a_best_setting_on_an_edge_stops_a_full_run(in_full, ledger):
    for scores in ([1, 2, 3], [3, 2, 1]):
        with pytest.raises(results.ClaimError, match=r"the best rate, \d, lies on the edge .*: widen it"):
            ledger.choose("rate", [1, 2, 3], scores)
    assert "choices" not in ledger.as_dict()


def test_a_quick_run_does_not_mind_an_edge(in_quick, ledger):
    assert ledger.choose("rate", [1, 2, 3], [1, 2, 3]) == 1


@pytest.mark.parametrize(("grid", "scores"), [([1, 2], [1, 2]), ([1, 2, 3], [1, 2])])
def test_a_grid_needs_three_settings_and_their_scores(ledger, grid, scores):
    with pytest.raises(ValueError, match=f"got {len(grid)} settings and 2 scores"):
        ledger.choose("rate", grid, scores)


HEADLINE = {
    "task": "denoise", "data": "MNIST", "measure": "PSNR", "lower_is_better": False,
    "best": ("net", 20), "baseline": ("Wiener", 18.0), "seeds": 3, "seconds": 60,
}  # fmt: skip


def test_a_headline_is_stored(ledger):
    ledger.headline(**HEADLINE)
    ledger.headline(**HEADLINE, published=("Vincent2010", 21.0))
    one, two = ledger.as_dict()["headlines"]
    assert one["best"] == {"name": "net", "value": 20.0}
    assert "published" not in one
    assert two["published"] == {"name": "Vincent2010", "value": 21.0}
    with pytest.raises(ValueError, match=r"task must be one of 'reconstruct', .*; got 'win'"):
        ledger.headline(**HEADLINE | {"task": "win"})


def test_models_are_kept_by_full_runs_alone(in_either, book, ledger):
    class Model:
        def save(self, path):
            path.write_text("weights")

    path = ledger.keep("net", Model())
    if profiles.profile.full:
        assert path == book / "_build" / "models" / "types" / "sparse" / "net.keras"
        assert path.read_text() == "weights"
    else:
        assert path is None
        assert not files(book / "_build") if (book / "_build").exists() else True
