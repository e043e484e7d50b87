import os
import re
import subprocess
import sys

import nbformat
import pytest

from tools import colab, execute

FILE = re.compile(r"""["'/]([\w-]+\.(?:json|png|csv|npz|npy|svg))\b""")


def files_read(notebook):
    """Return the names of files that a notebook reads from the book."""
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    if "TemporaryDirectory()" in code:  # what lies there the notebook has written itself
        code = re.sub(r"""folder / ["'][\w.-]+|\{folder\}/[\w.-]+""", "", code)
    return set(FILE.findall(code)) if "find_book()" in code else set()


def test_every_chapter_installs_aelib_first(tmp_path):
    colab.main(tmp_path, "Somebody/book")
    for chapter in execute.chapters():
        ours, theirs = (nbformat.read(execute.path_of(chapter, root), 4) for root in (execute.ROOT, tmp_path))
        first, *others = theirs.cells
        assert [cell.source for cell in others] == [cell.source for cell in ours.cells]
        assert '"aelib[retrieval] @ git+https://github.com/Somebody/book"' in first.source
        nbformat.validate(theirs)


def test_what_chapters_read_lies_beside_them(tmp_path):
    colab.main(tmp_path, "Somebody/book")
    there = {path.name for path in (tmp_path / "benchmarks" / "results").iterdir()}
    chapters = {name: nbformat.read(execute.path_of(name), 4) for name in execute.chapters()}
    read = {name: found for name, notebook in chapters.items() if (found := files_read(notebook))}
    assert len(read) >= 7
    assert {name: found - there for name, found in read.items() if found - there} == {}
    assert (tmp_path / "_toc.yml").is_file()


def test_a_file_that_a_chapter_reads_is_found():
    cell = nbformat.v4.new_code_cell('find_book() / "benchmarks/results/lost.json"')
    assert files_read(nbformat.v4.new_notebook(cells=[cell])) == {"lost.json"}
    own = nbformat.v4.new_code_cell('folder = Path(TemporaryDirectory().name)\nnp.load(folder / "own.npy")')
    assert files_read(nbformat.v4.new_notebook(cells=[cell, own])) == {"lost.json"}


def test_nothing_is_installed_where_aelib_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = []
    head, _, rest = colab.INSTALL.format(repository="Somebody/book", branch="colab").partition("    %pip")
    command, clone, *last = rest.splitlines()
    exec("\n".join([head + "    ran.append(1)", *last]), {"ran": ran})
    assert ran == []
    assert os.getcwd() == str(tmp_path)
    assert command.startswith(" install --quiet")
    assert clone.startswith("    !git clone")
    assert "tensorflow" not in command


# The first cell where aelib is missing, once more, and after a restart of the runtime; nothing is installed.
COLAB = """
import importlib.util, os, sys
from IPython.core.interactiveshell import InteractiveShell
from aelib.results import find_book
start, cell = os.getcwd(), sys.stdin.read()
assert find_book() is None
shell = InteractiveShell.instance()
shell.register_magic_function(lambda line: print("pip", line), magic_name="pip")
find, missing = importlib.util.find_spec, True
importlib.util.find_spec = lambda name: None if missing and name == "aelib" else find(name)
for missing, folder in ((True, start), (False, None), (False, start)):
    os.chdir(folder or os.getcwd())
    shell.run_cell(cell).raise_error()
    print(find_book())
"""


def test_the_first_cell_brings_a_notebook_to_its_files(tmp_path):
    """The branch is cloned from a folder in the place of GitHub."""
    branch, content = tmp_path / "branch", tmp_path / "content"
    colab.main(branch, "Somebody/book")
    content.mkdir()
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q", "-b", colab.BRANCH], ["add", "."], ["commit", "-q", "-m", "Notebooks"]):
        subprocess.run([*git, *words], cwd=branch, check=True)
    here = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.{branch.as_uri()}.insteadOf"}
    here |= {
        "GIT_CONFIG_VALUE_0": "https://github.com/Somebody/book",
        "IPYTHONDIR": str(tmp_path / "ipython"),
    }
    first = nbformat.read(execute.path_of(execute.chapters()[0], branch), 4).cells[0].source
    run = subprocess.run(
        [sys.executable, "-c", COLAB],
        cwd=content,
        input=first,
        env=os.environ | {"PYTHONPATH": str(execute.ROOT)} | here,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = run.stdout.splitlines()
    assert [line for line in lines if line.startswith("pip")] == [
        line for line in lines if "Somebody/book" in line
    ]
    assert lines[-3:] == [str(content / "aelib-book")] * 3, run.stdout + run.stderr
    assert (content / "aelib-book" / "benchmarks" / "results" / "masked_long.json").is_file()


@pytest.mark.parametrize("repository", ["", "book", "https://github.com/Somebody/book"])
def test_a_repository_has_an_owner_and_a_name(tmp_path, repository):
    with pytest.raises(SystemExit, match="GITHUB_REPOSITORY must be owner/name"):
        colab.main(tmp_path, repository)
    assert not any(tmp_path.iterdir())
