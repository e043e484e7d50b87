import re

import pytest

from tools import pdf

INDEX = """<div class="sidebar-tree"><p class="caption">Types</p><ul><li>
<a class="reference internal" href="types/a.html">A</a><input type="checkbox"><label for="x">+</label></li>
<li><a class="reference internal" href="types/b.html">B</a></li></ul></div>
<article><h1 id="front">Front</h1><a class="reference internal" href="types/a.html#here">A</a></article>"""
CITATION = {"title": "A book", "authors": [{"name": "The makers"}], "version": "1.0"}


@pytest.fixture
def built(tmp_path):
    (tmp_path / "types").mkdir()
    (tmp_path / "index.html").write_text(INDEX)
    for name in "ab":
        text = f'<nav>left out</nav><article><h1 id="here">{name.upper()}</h1><p>text</p></article>'
        (tmp_path / "types" / f"{name}.html").write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('<h2 class="x" id="here">', '<h2 class="x" id="types-a--here">'),
        ('<label for="c" data-id="c">', '<label for="types-a--c" data-id="c">'),
        ('<ul aria-labelledby="c d">', '<ul aria-labelledby="types-a--c types-a--d">'),
        ('<a href="#here">', '<a href="#types-a--here">'),
        ('<a href="b.html#there">', '<a href="#types-b--there">'),
        ('<a href="../index.html">', '<a href="#index">'),
        ('<a href="../_modules/aelib.html#X">', "<a >"),
        ('<a href="https://example.org/b.html#c">', '<a href="https://example.org/b.html#c">'),
        ('<img src="../_images/p.webp" loading="lazy">', '<img src="file:///built/_images/p.webp">'),
        ('<img src="data:image/png;base64,aGk=">', '<img src="data:image/png;base64,aGk=">'),
        ("<details><summary>s</summary>", "<details open><summary>s</summary>"),
        ("<details open>", "<details open>"),
        (
            '<span class="n">x</span><span class="p">.</span><span class="k">is</span>',
            'x.<span class="k">is</span>',
        ),
        ("<script>x</script><code>id=&quot;y&quot;</code>", "<code>id=&quot;y&quot;</code>"),
    ],
)
def test_a_page_becomes_a_part(before, after):
    assert pdf.rewrite(before, "types/a", ["index", "types/a", "types/b"], pdf.Path("/built")) == after


def links(text):
    """Return the identifiers of a page, and those that its links lead to."""
    return re.findall(r'<[a-z][^<>]* id="([^"]*)"', text), re.findall(r'<[a-z][^<>]* href="#([^"]*)"', text)


def test_the_whole_has_every_page_once_and_no_broken_link(built):
    pages = pdf.order(INDEX)
    assert pages == ["index", "types/a", "types/b"]
    text = pdf.whole(built, pages, CITATION)
    there, wanted = links(text)
    assert len(there) == len(set(there)) == 6
    assert wanted == ["types-a", "types-b", "types-a--here"]
    assert set(wanted) <= set(there)
    assert "left out" not in text
    assert "<input" not in text
    assert "Version 1.0" in text


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(pdf, "CHROMIUM", "chromium")
    with pytest.raises(SystemExit, match="`make book` first"):
        pdf.main(tmp_path / "book.pdf", built=tmp_path)
    monkeypatch.setattr(pdf, "CHROMIUM", None)
    with pytest.raises(SystemExit, match="apt-get install chromium"):
        pdf.main(tmp_path / "book.pdf", built=tmp_path)


needs_book = pytest.mark.skipif(
    not (pdf.BUILT / "index.html").is_file(), reason="the book is not built: `make book` first"
)


@needs_book
def test_the_links_of_the_whole_book_lead_somewhere():
    text = pdf.whole(pdf.BUILT, pdf.order((pdf.BUILT / "index.html").read_text("utf-8")), CITATION)
    there, wanted = links(text)
    assert len(there) == len(set(there)) > 1000
    assert set(wanted) <= set(there)


@needs_book
@pytest.mark.skipif(pdf.CHROMIUM is None, reason="needs Chromium (Debian: apt-get install chromium)")
def test_two_chapters_are_printed_with_outline_and_links(tmp_path):
    pytest.importorskip("playwright", reason="needs the package playwright")
    pdf.main(tmp_path / "two.pdf", "types/basic", "types/deep")
    content = (tmp_path / "two.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert b"/Outlines" in content
    links = re.findall(rb"/Dest /(\S+)", content)
    assert {b"types-basic", b"types-deep"} <= set(links)
    assert b"file://" not in content
