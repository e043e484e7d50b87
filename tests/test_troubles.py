"""The page of troubles: twenty sections, each with a fault that appears and a cure that cures."""

import re
from pathlib import Path

import nbformat
import pytest

BOOK = Path(__file__).resolve().parent.parent / "book"
PAGE = "guide/troubleshooting"
TROUBLES = 20
_TABLE_ROW = re.compile(r"^\| .*\{ref\}`(trouble-[\w-]+)` \|$", re.MULTILINE)
_HEAD = re.compile(r"\A\((trouble-[\w-]+)\)=\n## (.+)\n")


def page():
    return nbformat.read(BOOK / f"{PAGE}.ipynb", as_version=4)


def sections(notebook):
    """Return {label: (title, cells)} of the sections that begin with a label, up to the take-home box."""
    found, current = {}, None
    for cell in notebook.cells:
        head = _HEAD.match(cell.source) if cell.cell_type == "markdown" else None
        if head:
            found[head[1]] = current = (head[2], [cell])
        elif re.match(r"#+ |`{4}\{takehome", cell.source):
            current = None
        elif current:
            current[1].append(cell)
    return found


def checks_in(cells, tag):
    """Count the assertions, claims and expected messages in the cells with a tag."""
    code = [
        cell.source for cell in cells if cell.cell_type == "code" and tag in cell.metadata.get("tags", [])
    ]
    return len(
        re.findall(
            r"^ *(?:assert |np\.testing\.assert|ledger\.claim\(|complaint\()", "\n".join(code), re.MULTILINE
        )
    )


def faults_of(notebook, book=BOOK):
    """Yield what the page of troubles lacks."""
    found = sections(notebook)
    if len(found) != TROUBLES:
        yield f"it has {len(found)} sections, wanted are {TROUBLES}"
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    if (rows := _TABLE_ROW.findall(text)) != list(found):
        yield f"the table names {sorted(set(rows) ^ set(found))}, or names sections twice or in another order"
    for label, (title, cells) in found.items():
        for tag in ("fault", "cure"):
            if not checks_in(cells, tag):
                yield f"{title}: no cell tagged {tag!r} asserts or claims anything"
        prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        links = re.findall(r"\{doc\}`\.\./([\w/]+)`", prose)
        if not any((book / f"{link}.ipynb").is_file() for link in links):
            yield f"{label}: it links to no chapter"
        if not re.search(r"^\*\*.+\*\*", prose, re.MULTILINE):
            yield f"{label}: its symptom is not named"
        if "aelib" not in "\n".join(cell.source for cell in cells):
            yield f"{label}: it does not say what aelib does"


def test_the_page_of_troubles_is_whole():
    assert list(faults_of(page())) == []


def test_the_table_quotes_messages_that_the_cells_expect():
    """A message between back-ticks in the table is one that a cell expects, or is told of as not run."""
    notebook = page()
    table = next(cell.source for cell in notebook.cells if "## Find your symptom" in cell.source)
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    elsewhere = {  # results, names of functions, and what would end the notebook
        "loss: nan", "loss: inf", "add_loss", "load_weights", "mixed_float16", "predict",
        "OOM when allocating tensor", "ResourceExhaustedError", "NotImplementedError",
    }  # fmt: skip
    quoted = [
        quote.strip()
        for _, quote in re.findall(r"(`{1,2})(?!\S*`\{)(.+?)\1(?!`)", re.sub(r"\{ref\}`[^`]+`", "", table))
    ]
    assert len(quoted) > 20
    rewritten = " ".join(re.sub(r"[\"']\s*\n\s*[\"']", "", code).split())
    lost = [quote for quote in quoted if quote not in elsewhere and quote not in rewritten]
    assert lost == []


def rewrite(old, new):
    """Return what replaces a text in every cell."""

    def spoil(cells):
        for cell in cells:
            cell.source = cell.source.replace(old, new)

    return spoil


def untag(tag):
    """Return what takes a tag from every cell."""

    def spoil(cells):
        for cell in cells:
            cell.metadata.tags = [kept for kept in cell.metadata.get("tags", []) if kept != tag]

    return spoil


def lose_a_section(cells):
    cells.pop(next(i for i, cell in enumerate(cells) if _HEAD.match(cell.source)))


SPOILT = {
    "a section lost": lose_a_section,
    "no faults": untag("fault"),
    "no cures": untag("cure"),
    "nothing asserted": rewrite("assert ", "print "),
    "no links": rewrite("{doc}`../", "{doc}`../lost/"),
    "not in the table": rewrite("| {ref}`trouble-load` |", "| |"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_page_that_lacks_something_is_found(name):
    notebook = page()
    SPOILT[name](notebook.cells)
    assert list(faults_of(notebook))
