"""The book's own rules. Each is a function that lists what is wrong, and each is shown to find a fault."""

import base64
import gzip
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import numpy as np
import pytest
import tinycss2
import yaml
from fontTools.ttLib import TTFont
from PIL import Image

from aelib import results
from tools import execute

ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "book"
BUILT = ROOT / "_build" / "html"
sys.path.append(str(BOOK / "_ext"))
import light  # noqa: E402

NOTEBOOKS = execute.chapters()
PAGES = sorted(p for p in BOOK.rglob("*") if p.suffix in (".md", ".ipynb") and "_build" not in p.parts)
PAGES = [p for p in PAGES if p.parent.relative_to(BOOK) != Path("reference/results")]  # made from the ledgers
BIB_KEYS = set(re.findall(r"^@\w+\{([^,]+),", (BOOK / "references.bib").read_text("utf-8"), re.MULTILINE))
LIMIT = 600_000
LIVE_LIMIT = 400_000  # 250 kB of weights, in base64, and the static picture


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def figures(cell):
    """The cell's visible pictures; a glued one is shown elsewhere."""
    return [
        o
        for o in cell.outputs
        if "image/png" in o.get("data", {}) and "scrapbook" not in o.get("metadata", {})
    ]


def errors_stored(notebook):
    for i, cell in enumerate(code_cells(notebook)):
        for output in cell.outputs:
            if output.output_type == "error":
                yield f"code cell {i} stores the error {output.ename}"
            if output.output_type == "stream" and output.name == "stderr":
                yield f"code cell {i} stores messages on stderr: {output.text[:80]!r}"


def stamp_wrong(notebook):
    stamp = notebook.metadata.get("aelib", {})
    missing = {"profile", "seconds", "device", "code"} - set(stamp)
    if not {"modules", "package"} & set(stamp):
        missing.add("modules")  # `package` is what 0.1 stamped instead
    if missing:
        yield f"its stamp lacks {sorted(missing)}"
    elif stamp["profile"] != "full":
        yield f"it was run in the profile {stamp['profile']!r}"
    elif stamp["code"] != execute.code_hash(notebook):
        yield "its code has changed since it was run: `make run`"
    # On a busy machine a run waits its turn; the processor's time is what it takes alone.
    elif min(stamp["seconds"], stamp.get("cpu_seconds", stamp["seconds"])) > 900:
        yield f"it takes {stamp['seconds']} s; 900 are allowed"


def out_of_order(notebook):
    counts = [cell.execution_count for cell in code_cells(notebook)]
    if counts != list(range(1, len(counts) + 1)):
        yield f"its cells were executed in the order {counts}"


def alt_missing(notebook):
    for i, cell in enumerate(code_cells(notebook)):
        alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
        if figures(cell) and len(alt.split()) < 8:
            yield f"code cell {i} draws a figure, and its alt text is {alt!r}"


def exercises_missing(notebook):
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    asked = len(re.findall(r"^\*\*\d+\. ", text.partition("## Exercises")[2], re.MULTILINE))
    solved = [cell for cell in code_cells(notebook) if "solution" in cell.metadata.get("tags", [])]
    if asked < 3 or len(solved) < asked:
        yield f"it has {asked} exercises and {len(solved)} solutions; three of each are the least"
    if any("hide-cell" not in cell.metadata.tags for cell in solved):
        yield "a solution is not hidden"


def too_large(notebook):
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    live = [output for output in outputs if 'data-kind="live-' in output.get("data", {}).get("text/html", "")]
    for what, kept, limit in (
        ("outputs", [output for output in outputs if output not in live], LIMIT),
        ("live figures", live, LIVE_LIMIT),
    ):
        size = len(json.dumps(kept))
        if size > limit:
            yield f"its {what} take {size} bytes; {limit} are allowed"


def sections_missing(notebook):
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    for heading in ("## The idea", "## The mathematics", "## What goes wrong", "## Exercises", "## Sources"):
        if heading not in text:
            yield f"it has no section {heading!r}"


def ledger_not_saved(notebook):
    if "ledger.save()" not in code_cells(notebook)[-1].source:
        yield "its last code cell does not save the ledger"


GATES = [
    errors_stored, stamp_wrong, out_of_order, alt_missing, exercises_missing, too_large, sections_missing,
    ledger_not_saved,
]  # fmt: skip
#: A guide is looked up, not studied: it has sections of its own and no exercises. See test_troubles.py.
NOT_OF_GUIDES = (exercises_missing, sections_missing)


@pytest.mark.parametrize("gate", GATES, ids=lambda gate: gate.__name__)
@pytest.mark.parametrize("chapter", NOTEBOOKS)
def test_gate(chapter, gate):
    if gate is stamp_wrong and chapter in execute.pending():
        pytest.skip("its full run is still to come")
    if gate in NOT_OF_GUIDES and chapter.startswith("guide/"):
        pytest.skip("a guide has a form of its own")
    assert not list(gate(nbformat.read(execute.path_of(chapter), as_version=4)))


def good_notebook():
    """A notebook that passes every gate."""
    new = nbformat.v4
    picture = new.new_output("display_data", data={"image/png": "aGVsbG8="})
    cells = [new.new_markdown_cell("## The idea\n## The mathematics\n## What goes wrong\n## Sources")]
    cells += [new.new_markdown_cell("## Exercises\n**1. A (easy).**\n\n**2. B.**\n\n**3. C.**")]
    cells += [new.new_code_cell("plot()", execution_count=1, outputs=[picture])]
    cells[-1].metadata["mystnb"] = {
        "image": {"alt": "A curve that falls steeply and then stays where it is."}
    }
    for i in range(3):
        cells += [new.new_code_cell("1", execution_count=2 + i, metadata={"tags": ["solution", "hide-cell"]})]
    cells += [new.new_code_cell("ledger.save()", execution_count=5)]
    notebook = new.new_notebook(cells=cells)
    stamp = {"profile": "full", "seconds": 3, "device": "2 cores", "modules": {}}
    notebook.metadata["aelib"] = stamp | {"code": execute.code_hash(notebook)}
    return notebook


def _fault(name):
    """Each fault, by the gate that has to find it."""
    notebook = good_notebook()
    code = code_cells(notebook)
    new_output = nbformat.v4.new_output
    if name == "error":
        code[1].outputs = [new_output("error", ename="ValueError", evalue="", traceback=[])]
    elif name == "stderr":
        code[1].outputs = [new_output("stream", name="stderr", text="UserWarning: beware")]
    elif name == "quick":
        notebook.metadata.aelib.profile = "quick"
    elif name == "no stamp":
        del notebook.metadata["aelib"]
    elif name == "no modules":
        del notebook.metadata.aelib["modules"]
    elif name == "slow":
        notebook.metadata.aelib.update(seconds=901, cpu_seconds=1200)
    elif name == "edited":
        code[0].source += "\nmore()"
    elif name == "order":
        code[0].execution_count = 9
    elif name == "not run":
        code[0].execution_count = None
    elif name == "alt":
        code[0].metadata = {}
    elif name == "two exercises":
        notebook.cells[1].source = notebook.cells[1].source.replace("**3. C.**", "")
    elif name == "unsolved":
        code[1].metadata.tags = []
    elif name == "open solution":
        code[1].metadata.tags = ["solution"]
    elif name == "large":
        code[0].outputs[0].data["image/png"] = "a" * LIMIT
    elif name == "large live figure":
        code[0].outputs[0].data["text/html"] = '<figure data-kind="live-walk">' + "a" * LIVE_LIMIT
    elif name == "section":
        notebook.cells[0].source = "## The idea"
    elif name == "unsaved":
        code[-1].source = "pass"
    return notebook


@pytest.mark.parametrize(
    ("fault", "gate"),
    [
        ("error", errors_stored), ("stderr", errors_stored),
        ("quick", stamp_wrong), ("no stamp", stamp_wrong),
        ("no modules", stamp_wrong), ("slow", stamp_wrong), ("edited", stamp_wrong),
        ("order", out_of_order), ("not run", out_of_order),
        ("alt", alt_missing),
        ("two exercises", exercises_missing), ("unsolved", exercises_missing),
        ("open solution", exercises_missing),
        ("large", too_large), ("large live figure", too_large),
        ("section", sections_missing), ("unsaved", ledger_not_saved),
    ],
)  # fmt: skip
def test_gate_finds_the_fault(fault, gate):
    assert not list(gate(good_notebook()))
    assert list(gate(_fault(fault)))


def wrongly_pending(chapters, book=execute.path_of):
    """Only a chapter whose code has changed since its full run may wait for the next one."""
    for chapter in chapters:
        if not book(chapter).is_file():
            yield f"{chapter}: there is no such chapter"
        elif not any("code has changed" in fault for fault in stamp_wrong(nbformat.read(book(chapter), 4))):
            yield f"{chapter}: its stored run is that of its code; take it out of `pending_chapters`"


def test_pending_chapters_wait_for_a_run():
    assert list(wrongly_pending(execute.pending())) == []


def test_a_wrongly_pending_chapter_is_found(tmp_path):
    for name, notebook in {
        "run": good_notebook(),
        "waits": _fault("edited"),
        "quick": _fault("quick"),
    }.items():
        nbformat.write(notebook, tmp_path / f"{name}.ipynb")
    found = list(wrongly_pending(["run", "waits", "quick", "lost"], lambda name: tmp_path / f"{name}.ipynb"))
    assert [fault.split(":")[0] for fault in found] == ["run", "quick", "lost"]


def test_a_pending_chapter_says_so(tmp_path):
    """Two pages are built, one of them pending; then the other way round, without any other change."""
    for name in ("one", "two"):
        (tmp_path / f"{name}.md").write_text(f"# Page {name}\n\nText.\n")
    (tmp_path / "index.md").write_text("# Index\n\n```{toctree}\none\ntwo\n```\n")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-C", "-D", "root_doc=index"]
    command += ["-D", "extensions=myst_parser,pending", ".", "_out"]
    for waiting in ("one", "two"):
        subprocess.run(
            [*command, "-D", f"pending_chapters={waiting}"],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(BOOK / "_ext")},
            check=True,
        )
        pages = [
            page.stem for page in (tmp_path / "_out").glob("*.html") if "Figures of 0.1" in page.read_text()
        ]
        assert pages == [waiting]


@pytest.mark.parametrize("repository", ["", "Somebody/book"])
def test_a_page_names_addresses_where_the_book_has_one(tmp_path, repository):
    """Tiny pages, built with and without the name of a repository."""
    (tmp_path / "_static" / "gallery").mkdir(parents=True)
    Image.new("RGB", (768, 216), "navy").save(tmp_path / "_static" / "gallery" / "one.png")
    (tmp_path / "one.md").write_text(
        '# Page "one" & *two*\n\nIn one sentence: said *first*: a < b.\n\nSecond.\n'
    )
    (tmp_path / "index.md").write_text("# Index\n\nAll.\n\n```{toctree}\none\ntwo\n```\n")
    cells = [nbformat.v4.new_markdown_cell("# Two\n\nA notebook.")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "two.ipynb")
    options = (
        f"root_doc=index html_theme=furo extensions=myst_nb,theme,around templates_path={BOOK}/_templates"
    )
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-C", "-D", "nb_execution_mode=off"]
    command += [part for option in options.split() for part in ("-D", option)]
    environment = os.environ | {"PYTHONPATH": str(BOOK / "_ext"), "GITHUB_REPOSITORY": repository}
    subprocess.run([*command, ".", "_out"], cwd=tmp_path, env=environment, check=True)
    page = (tmp_path / "_out" / "one.html").read_text("utf-8")
    assert '<meta name="description" content="Said first: a &lt; b.">' in page
    base = "https://somebody.github.io/book/"
    named = [
        f'<link rel="canonical" href="{base}one.html">',
        f'<meta property="og:image" content="{base}_static/cards/one.png">',
        'href="https://github.com/Somebody/book/edit/main/book/one.md"',
        '"https://github.com/Somebody/book/issues/new?title=Page%20%E2%80%9Cone%E2%80%9D%20%26%20two"',
    ]
    assert [address in page for address in named] == [bool(repository)] * 4
    assert "colab" not in page
    colab = "https://colab.research.google.com/github/Somebody/book/blob/colab/book/two.ipynb"
    assert (colab in (tmp_path / "_out" / "two.html").read_text("utf-8")) == bool(repository)
    card = tmp_path / "_out" / "_static" / "cards" / "one.png"
    assert card.is_file() == bool(repository)
    if repository:
        with Image.open(card) as picture:
            assert picture.size == (1200, 630)
            assert [picture.getpixel(place) for place in ((600, 315), (600, 20))] == [(0, 0, 128), (255,) * 3]
    sitemap = tmp_path / "_out" / "sitemap.xml"
    assert sitemap.is_file() == bool(repository)
    assert not repository or f"<loc>{base}one.html</loc>" in sitemap.read_text("utf-8")


def test_built_pages_say_which_of_them_are_pending():
    built = {name: ROOT / "_build" / "html" / f"{name}.html" for name in NOTEBOOKS}
    if not all(page.is_file() for page in built.values()):
        pytest.skip("the book is not built: `make book` first")
    said = [name for name, page in built.items() if "pending admonition" in page.read_text("utf-8")]
    assert said == [name for name in NOTEBOOKS if name in execute.pending()]


def short_guards(text):
    """Time-outs are guards against hanging: 20 minutes at least, whatever else the machine does."""
    return [found for found in re.findall(r"timeout[ =(]+(\d+)", text) if int(found) < 1200]


def test_nothing_fails_by_the_clock():
    files = [ROOT / "Makefile", ROOT / "pyproject.toml", *(ROOT / "tests").rglob("*.py")]
    assert {file.name: found for file in files if (found := short_guards(file.read_text("utf-8")))} == {}
    for short in (f"--timeout {300}", f"--nbval-cell-timeout={1199}", f"pytest.mark.timeout({60})"):
        assert short_guards(f"{short} --timeout 1200")


@pytest.mark.enable_socket
def test_processor_seconds_are_those_of_the_kernel(tmp_path):
    burn = "import time\nwhile time.process_time() < 3: pass"
    cells = [nbformat.v4.new_code_cell(source, execution_count=1) for source in ("1", burn)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "burn.ipynb")
    (tmp_path / "conftest.py").write_text(
        (ROOT / "conftest.py").read_text("utf-8").replace("BUDGET = 45, 20", "BUDGET = 2, 1")
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-n",
        "1",
        "--nbval-lax",
        "burn.ipynb",
    ]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, "a budget only reports"
    reported = re.findall(r"^ *(\d+)  (?:burn.ipynb, over its budget of 2|mean)", run.stdout, re.MULTILINE)
    assert len(reported) == 2, run.stdout
    assert all(int(used) >= 3 for used in reported), run.stdout


def toc_files():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
    entries = [entry for part in toc["parts"] for entry in part["chapters"]]
    sections = [section for entry in entries for section in entry.get("sections", [])]
    return [toc["root"], *(entry["file"] for entry in entries + sections if "file" in entry)]


def not_in_toc(pages, listed):
    return sorted(set(pages) - set(listed)) + sorted(set(listed) - set(pages))


def test_every_page_is_in_the_table_of_contents():
    pages = [str(p.relative_to(BOOK).with_suffix("")) for p in PAGES]
    assert not_in_toc(pages, toc_files()) == []
    assert not_in_toc([*pages, "types/lost"], toc_files()) == ["types/lost"]


def unknown_citations(text, known=BIB_KEYS):
    cited = re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", text)
    return sorted({key.strip() for group in cited for key in group.split(",")} - known)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_citation_exists(page):
    assert unknown_citations(page.read_text("utf-8")) == []


def test_an_unknown_citation_is_found():
    assert unknown_citations("as {cite}`kingma2014,nobody1999` says") == ["nobody1999"]


def ledger_faults(ledger):
    for claim in ledger["claims"]:
        if not claim["holds"] and not claim.get("reason"):
            yield f"{claim['text']!r} does not hold, and no reason is given"
    if ledger["profile"] != "full":
        yield f"it comes from the profile {ledger['profile']!r}"
    if any(source.startswith("stand-in") for source in ledger["data"].values()):
        yield "it stands on stand-in data"


def test_ledgers_are_sound():
    ledgers = results.read(ROOT)
    assert set(ledgers) == set(NOTEBOOKS)
    assert {name: list(ledger_faults(ledger)) for name, ledger in ledgers.items()} == {n: [] for n in ledgers}
    broken = {
        "claims": [{"text": "x", "holds": False}],
        "profile": "quick",
        "data": {"mnist": "stand-in: digits"},
    }
    assert len(list(ledger_faults(broken))) == 3


def glued_faults(notebook, ledger):
    """What the text prints must be what the ledger holds: each glued number, by name."""
    recorded = {record["name"]: record["value"] for record in ledger["records"]}
    for cell in code_cells(notebook):
        for output in cell.outputs:
            name = output.get("metadata", {}).get("scrapbook", {}).get("name", "")
            text = output.get("data", {}).get("application/papermill.record/text/plain")
            if text is not None and recorded.get(name) != float(text):
                yield f"the notebook glues {name!r} = {text}, the ledger says {recorded.get(name)}"


@pytest.mark.parametrize("chapter", NOTEBOOKS)
def test_glued_numbers_are_the_ledgers(chapter):
    ledger = results.read(ROOT)[chapter]
    notebook = nbformat.read(execute.path_of(chapter), as_version=4)
    assert list(glued_faults(notebook, ledger)) == []
    if ledger["records"]:
        ledger["records"][0]["value"] += 1.0
        assert list(glued_faults(notebook, ledger))


class Assets(HTMLParser):
    """Collects what a page would load from another host: scripts, styles, images, fonts, frames."""

    def __init__(self):
        super().__init__()
        self.foreign = []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        loads = {
            "script": "src",
            "img": "src",
            "iframe": "src",
            "source": "src",
            "link": "href",
            "object": "data",
        }
        url = attrs.get(loads.get(tag, ""), "") or ""
        follows = tag != "link" or attrs.get("rel") not in (
            "canonical",
            "license",
            "search",
            "index",
            "next",
            "prev",
        )
        if follows and re.match(r"(https?:)?//", url):
            self.foreign.append(url)


def foreign_assets(html):
    parser = Assets()
    parser.feed(html)
    return parser.foreign + re.findall(r"(?:@import|url\()\s*[\"']?((?:https?:)?//[^\"')]+)", html)


def test_built_pages_load_nothing_from_elsewhere():
    built = ROOT / "_build" / "html"
    if not (built / "index.html").is_file():
        pytest.skip("the book is not built: `make book` first")
    pages = list(built.rglob("*.html"))
    assert {p.name: found for p in pages if (found := foreign_assets(p.read_text("utf-8")))} == {}


@pytest.mark.parametrize(
    "html",
    [
        '<script src="https://cdn.example.org/a.js"></script>',
        '<link rel="stylesheet" href="//fonts.example.org/a.css">',
        '<img src="http://example.org/pixel.png">',
        "<style>@font-face {src: url(https://example.org/a.woff2)}</style>",
    ],
)
def test_a_foreign_asset_is_found(html):
    assert foreign_assets(html)
    assert not foreign_assets('<a href="https://example.org">link</a><script src="_static/a.js"></script>')


@pytest.mark.skipif(not (BUILT / "index.html").is_file(), reason="the book is not built: `make book` first")
def test_the_font_of_the_formulas_can_draw_a_root():
    pages = [page for page in BUILT.rglob("*.html") if "<msqrt>" in page.read_text("utf-8")]
    assert pages
    assert ord("√") in TTFont(BUILT / "_static" / "math.woff2").getBestCmap()


def weight(page):
    """Return the bytes that a host sends before the first picture below the fold, and in all, in kB."""
    text = page.read_text("utf-8")
    links = re.findall(r'<(?:link rel="stylesheet"|script)[^>]* (?:href|src)="([^"]+)"', text)
    pictures = [src for src in re.findall(r'<img[^>]* src="([^"]+)"', text) if not src.startswith("data:")]
    late = {page.parent / src for src in pictures} | live_files(page, text)
    files = {page} | {(page.parent / link.split("?")[0]).resolve() for link in links}
    if "<math" in text:
        files.add(BUILT / "_static" / "math.woff2")
    early = sum(map(sent, files))
    return early / 1000, (early + sum(map(sent, late))) / 1000


def live_files(page, text):
    """Return what a page loads when its figures that run a net come into view."""
    nets = re.findall(r'data-source="(\w+)"', text)
    scripts = {(page.parent / src).resolve() for src in re.findall(r'src="([^"]*interactive\.js)', text)}
    return {
        file
        for script in scripts
        for name in ("live.js", "live.css", *(f"live/{net}.js" for net in nets))
        if nets and (file := script.parent / name)
    }


def sent(file):
    """Return the bytes of a file as hosts send it: text compressed."""
    content = file.read_bytes()
    return len(content if file.suffix in (".png", ".webp", ".woff2") else gzip.compress(content))


def too_heavy(pages):
    """A page needs at most 300 kB before its first picture below the fold, and 900 kB in all."""
    weights = {page.name: weight(page) for page in pages}
    return {name: found for name, found in weights.items() if found[0] > 300 or found[1] > 900}


@pytest.mark.skipif(not (BUILT / "index.html").is_file(), reason="the book is not built: `make book` first")
def test_pages_are_light():
    pages = [page for page in BUILT.rglob("*.html") if "_static" not in page.parts]
    assert len(pages) > 40
    assert too_heavy(pages) == {}


def test_a_heavy_page_is_found(tmp_path):
    (tmp_path / "a.js").write_bytes(np.random.default_rng(0).bytes(290_000))
    (tmp_path / "b.png").write_bytes(bytes(620_000))
    page = tmp_path / "page.html"
    page.write_text('<script defer src="a.js?v=1"></script><img alt="" src="b.png">')
    assert list(too_heavy([page])) == ["page.html"]
    (tmp_path / "b.png").write_bytes(bytes(600_000))
    assert too_heavy([page]) == {}
    (tmp_path / "a.js").write_bytes(np.random.default_rng(0).bytes(310_000))
    assert list(too_heavy([page])) == ["page.html"]


def test_a_heavy_net_is_found(tmp_path):
    (tmp_path / "live").mkdir()
    for name, size in (("interactive.js", 9), ("live.js", 9), ("live.css", 9), ("live/abc.js", 901_000)):
        (tmp_path / name).write_bytes(np.random.default_rng(0).bytes(size))
    page = tmp_path / "page.html"
    page.write_text('<script defer src="interactive.js"></script><p>no figure</p>')
    assert too_heavy([page]) == {}
    page.write_text(page.read_text() + '<figure data-kind="live-draw" data-source="abc">')
    assert list(too_heavy([page])) == ["page.html"]


def test_the_nets_of_built_pages_are_weighed():
    page = BUILT / "types" / "variational.html"
    if not page.is_file():
        pytest.skip("the book is not built: `make book` first")
    found = live_files(page, page.read_text("utf-8"))
    assert len(found) >= 3
    assert all(file.is_file() for file in found)


OF_SPHINX = ("search.html", "genindex.html", "py-modindex.html")


@pytest.mark.skipif(not (BUILT / "index.html").is_file(), reason="the book is not built: `make book` first")
def test_heads_of_built_pages():
    """Each page says the book's name, and what it says once, once."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
    name = f'<meta property="og:site_name" content="{config["title"]}">'
    wrong = {}
    for page in BUILT.rglob("*.html"):
        if {"_static", "_modules"} & set(page.parts) or page.name in OF_SPHINX:
            continue
        head = page.read_text("utf-8").partition("</head>")[0]
        tags = {tag: head.count(f'<meta name="{tag}"') for tag in ("viewport", "description")}
        if name not in head or set(tags.values()) != {1} or 'content="In one sentence' in head:
            wrong[page.name] = tags
    assert wrong == {}


WIDE = """<table class="docutils align-default">
<thead>
<tr class="row-odd"><th class="head"><p>What &amp; where</p></th>
<th class="head"><p><math><mi>β</mi></math></p></th>
<th class="head"><p>Why</p></th></tr>
</thead>
<tbody>
<tr class="row-even"><td><p>code <code>K</code></p></td><td>1 of <em>2</em></td><td><p>{why}</p></td></tr>
</tbody>
</table>"""


def test_a_wide_table_folds():
    table = WIDE.format(why="Unpronounceable" * 3)
    folded = light.fold_tables(table)
    assert re.findall(r"data-label=\"([^\"]*)\"", folded) == ["What &amp; where", "β", "Why"]
    assert re.findall(r"role=\"(\w+)\"", folded) == [
        "table", "rowgroup", "row", *["columnheader"] * 3, "rowgroup", "row", *["cell"] * 3
    ]  # fmt: skip
    assert "<div>1 of <em>2</em></div></td>" in folded
    assert re.sub(r' role="\w+"| data-label="[^"]*"|fold |</?div>', "", folded) == table
    assert light.fold_tables(folded) == folded


@pytest.mark.parametrize("change", [("<p>Unpro", '<p colspan="2">Unpro'), ("<td>1", "<td></td><td>1")])
def test_a_table_that_is_narrow_or_irregular_stays(change):
    narrow, irregular = WIDE.format(why="Short"), WIDE.format(why="Unpronounceable" * 3).replace(*change)
    assert light.fold_tables(narrow) == narrow
    assert light.fold_tables(irregular) == irregular


def test_pictures_have_a_width_and_a_height(tmp_path):
    Image.new("L", (30, 20)).save(tmp_path / "a.png")
    data = base64.b64encode((tmp_path / "a.png").read_bytes()).decode()
    page = f'<img alt="" src="a.png"><img class="ae-static" alt="b" src="data:image/png;base64,{data}">'
    light_page = light.lighten_pictures(tmp_path / "page.html", page, {})
    assert light_page.count('width="30" height="20"') == 2
    assert light.lighten_pictures(tmp_path / "page.html", light_page, {}) == light_page


def purged(css, *pages):
    rules = tinycss2.parse_stylesheet(css, skip_comments=True, skip_whitespace=True)
    return light.purge(rules, [light.names(page) for page in pages])


@pytest.mark.parametrize(
    ("selector", "kept"),
    [
        ("p", True), ("p.a", True), ("#x > .a", True), ("table", False), (".b", False), ("#y", False),
        ("p.c", False),  # each is used, yet on two pages
        (".a:not(.b):hover::before", True), (":root", True), (".b, .a", True), ("*", True),
        ("[data-q] p", True),
    ],
)  # fmt: skip
def test_purging_keeps_what_can_match(selector, kept):
    css = f"@media print {{ {selector} {{ color: red }} }} {selector} {{ top: 0 }} @charset 'utf-8';"
    out = purged(css, '<p class="a" id="x">', '<div class="c">')
    assert ("top: 0" in out) == ("@media print" in out) == kept
    assert ".b" not in out or ":not" in selector
    assert "charset" not in out
