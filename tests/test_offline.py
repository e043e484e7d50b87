import zipfile

import nbformat
import pytest

from tools import offline


@pytest.fixture
def root(tmp_path):
    """A built book of one page and one notebook."""
    files = {
        "_build/html/index.html": "pages",
        "_build/html/_static/book.css": "p {}",
        "_build/html/_sources/index.md": "left out",
        "benchmarks/results/a.json": "{}",
        "book/_static/a.svg": "<svg/>",
        "book/types/draft.md": "left out",
        "LICENSE": "MIT",
        "CITATION.cff": "title: A book\nversion: 1.0\nauthors:\n  - name: The makers\n",
        "_toc.yml": "root: index\nparts:\n  - chapters:\n      - file: types/one\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    nbformat.write(nbformat.v4.new_notebook(), tmp_path / "book" / "types" / "one.ipynb")
    return tmp_path


def test_the_archive_holds_pages_notebooks_and_an_index(root):
    offline.main(root / "out" / "book.zip", root)
    with zipfile.ZipFile(root / "out" / "book.zip") as archive:
        assert archive.namelist() == [
            f"book/{name}"
            for name in (
                "CITATION.cff", "LICENSE", "index.html", "notebooks/_static/a.svg", "notebooks/_toc.yml",
                "notebooks/benchmarks/results/a.json", "notebooks/types/one.ipynb",
                "pages/_static/book.css", "pages/index.html",
            )
        ]  # fmt: skip
        index = archive.read("book/index.html").decode()
    assert "<h1>A book</h1>" in index
    assert "Version 1.0, by The makers." in index
    assert 'href="pages/index.html"' in index


def test_the_same_files_give_the_same_archive(root):
    offline.main(root / "one" / "book.zip", root)
    for file in root.rglob("*.*"):
        file.touch()
    offline.main(root / "two" / "book.zip", root)
    assert (root / "one" / "book.zip").read_bytes() == (root / "two" / "book.zip").read_bytes()


def test_an_unbuilt_book_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="`make book` first"):
        offline.main(tmp_path / "book.zip", tmp_path)
