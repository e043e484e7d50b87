"""How to cite the book: CITATION.cff, the page's entry for BibTeX, and the files for reading offline."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
sys.path.append(str(ROOT / "book" / "_ext"))
import cite  # noqa: E402


def test_the_citation_agrees_with_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
    assert CITATION["version"] == project["version"]
    assert CITATION["title"] == config["title"]
    holder = f"Copyright (c) {config['copyright']} {CITATION['authors'][0]['name']}"
    assert holder in (ROOT / "LICENSE").read_text("utf-8")


def test_an_entry_has_an_address_only_where_the_book_has_one():
    citation = {"title": "A, B", "authors": [{"name": "The makers"}, {"name": "X"}], "version": "1.0"}
    entry = cite.bibtex(citation, "2026")
    assert entry.splitlines() == [
        "@misc{aelib,", "  author = {{The makers} and {X}},", "  title  = {A, B},", "  year   = {2026},",
        "  note   = {Version 1.0},", "}",
    ]  # fmt: skip
    assert "  url    = {https://a.org/},\n}" in cite.bibtex(citation, "2026", "https://a.org/")


def test_the_files_are_those_that_make_writes():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert {f"_build/{Path(file).with_suffix('')}" for file in cite.FILES} == {
        line.removeprefix("DOWNLOADS := ") for line in makefile.splitlines() if line.startswith("DOWNLOADS")
    }
    assert "cp -r _build/downloads _build/html/" in (ROOT / ".github/workflows/pages.yml").read_text("utf-8")


@pytest.mark.parametrize("repository", ["", "Somebody/book"])
def test_files_are_linked_only_where_they_are(tmp_path, repository):
    book = tmp_path / "book"
    book.mkdir()
    (tmp_path / "CITATION.cff").write_text((ROOT / "CITATION.cff").read_text("utf-8"), "utf-8")
    (book / "index.md").write_text("# Cite\n\n```{citation}\n```\n\n```{downloads}\n```\n")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-q",
        "-W",
        "-C",
        "-D",
        "root_doc=index",
        "-D",
        "copyright=2026",
    ]
    command += ["-D", "html_theme=furo", "-D", "extensions=myst_parser,theme,around,cite", ".", "_out"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "book" / "_ext"), "GITHUB_REPOSITORY": repository}
    subprocess.run(command, cwd=book, env=environment, check=True)
    page = (book / "_out" / "index.html").read_text("utf-8")
    assert "The aelib maintainers" in page
    assert ("https://somebody.github.io/book/downloads/autoencoders_measured.pdf" in page) == bool(repository)
