"""Print the built book as one PDF, with outline, contents, and links between its pages.

python -m tools.pdf FILE [PAGE ...]     PAGE as in types/basic; all of them by default

The pages are joined into one, with identifiers that are still unique, and Chromium prints it. Live figures
are pictures and solutions are open; code that only keeps the books is left out.
"""

import posixpath
import re
import shutil
import sys
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
BUILT = ROOT / "_build" / "html"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
FLAGS += ["--disable-sync"]
PATIENCE = 1_200_000  # milliseconds: a busy machine is slow, not wrong
MARGIN = {"top": "16mm", "bottom": "18mm", "left": "16mm", "right": "16mm"}
NUMBER = '<p style="font: 8px sans-serif; margin: auto">{}</p>'
STYLE = """
html { font-size: 13px; }
article, .contents { max-width: none; }
.part, .contents { break-before: page; }
.cover { padding: 35vh 0 0; text-align: center; }
.cover p:first-child { font-size: 2.5rem; font-weight: 650; }
.contents { columns: 2; }
.contents h1 { column-span: all; }
.contents p { break-after: avoid; font-weight: 650; margin: 1rem 0 .25rem; }
.contents ul { list-style: none; margin: 0; padding: 0 0 0 .75rem; }
.contents li, .contents p { break-inside: avoid; }
h1, h2, h3, h4 { white-space: break-spaces; } /* or the outline lacks the space where a line ends */
article h1 { font-size: 2rem; margin-top: 0; }
article h2 { border: 0; font-size: 1.5rem; margin-top: 2rem; padding: 0; }
h1, h2, h3, h4, .times { break-after: avoid; }
p, pre, table, ol, ul, dl, .admonition { break-before: auto; break-inside: auto; orphans: 3; widows: 3; }
figure, img { break-after: auto; }
figure, img, .formula, fieldset, .sd-card, tr { break-inside: avoid; }
article img { max-height: 21cm; object-fit: contain; }
.cell_output img { max-width: 85%; }
.sd-row > .sd-col.sd-col { flex: 0 0 50%; width: 50%; }
.headerlink, .viewcode-link, .cell:not(.tag_solution) > .hide { display: none; }
.hide > summary { display: none !important; }
.tag_solution::before { content: "Solution"; font-weight: 650; }
article pre { overflow-wrap: anywhere; white-space: pre-wrap; }
.formula, .table-wrapper, .output { overflow: visible !important; }
article table.docutils { font-size: .8rem; overflow-wrap: break-word; }
article table.docutils code { font-size: 1em; white-space: normal; }
"""


def order(index):
    """Return the pages that the sidebar of the front page lists, that page first."""
    return ["index", *re.findall(r'<a class="reference internal" href="([^"#]+)\.html"', sidebar(index))]


def sidebar(index):
    """Return the contents in the sidebar of the front page, without its switches."""
    tree = re.search(r'<div class="sidebar-tree">(.*?)</div>', index, re.DOTALL)[1]
    return re.sub(r"<input[^>]*>|<label.*?</label>", "", tree, flags=re.DOTALL)


def unique(page, name=""):
    """Return an identifier within the whole book, of a page or of what has a name on it."""
    return page.replace("/", "-") + (f"--{name}" if name else "")


def rewrite(text, page, pages, built):
    """Return a page's HTML as a part of the whole: identifiers, links and files that are right there.

    A link to a page that is not printed becomes text.
    """

    def attribute(match):
        name, value = match.groups()
        folder = posixpath.dirname(page)
        if name == "src":
            outside = re.match(r"[a-z]+:", value)
            return f'src="{value if outside else (built / folder / value).resolve().as_uri()}"'
        if name == "href":
            if re.match(r"[a-z]+:", value):
                return match[0]
            target, _, fragment = value.partition("#")
            target = (
                posixpath.normpath(posixpath.join(folder, target)).removesuffix(".html") if target else page
            )
            return f'href="#{unique(target, fragment)}"' if target in pages else ""
        return f'{name}="{" ".join(unique(page, one) for one in value.split())}"'

    def tag(match):
        new = re.sub(
            r'(?<=\s)(id|for|aria-labelledby|aria-describedby|href|src)="([^"]*)"', attribute, match[0]
        )
        new = new.replace(' loading="lazy"', "")
        return re.sub("^<details(?! open)", "<details open", new)

    text = re.sub(r"<script\b.*?</script>", "", text, flags=re.DOTALL)
    # Each piece of code is an entry in the PDF's structure; without those in the plain colour it halves.
    text = re.sub(r'<span class="(?:n|nn|p|w|o)">([^<]*)</span>', r"\1", text)
    return re.sub(r"<[a-z][^<>]*>", tag, text)


def whole(built, pages, citation):
    """Return the HTML of all pages, one after another, below a title and the contents."""
    index = (built / "index.html").read_text("utf-8")
    parts = []
    for page in pages:
        text = (built / f"{page}.html").read_text("utf-8")
        article = re.search(r"<article\b.*?</article>", text, re.DOTALL)[0]
        parts.append(f'<div class="part" id="{unique(page)}">{rewrite(article, page, pages, built)}</div>')
    authors = ", ".join(author["name"] for author in citation["authors"])
    return "\n".join(
        [
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{citation["title"]}</title>',
            f'<link rel="stylesheet" href="{(built / "_static" / "book.css").as_uri()}">',
            f'<style>{STYLE}</style></head><body data-theme="light">',
            f'<div class="cover"><p>{citation["title"]}</p><p>{authors}</p>',
            f"<p>Version {citation['version']}</p><p>Text and figures CC BY 4.0, code MIT</p></div>",
            f'<nav class="contents"><h1>Contents</h1>{rewrite(sidebar(index), "index", pages, built)}</nav>',
            *parts,
            "</body></html>",
        ]
    )


def print_pdf(source, target):
    """Let Chromium print an HTML file."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS, timeout=PATIENCE)
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(source.as_uri())
        number = NUMBER.format('<span class="pageNumber"></span>')
        page.pdf(
            path=target,
            format="A4",
            margin=MARGIN,
            display_header_footer=True,
            header_template="<p></p>",
            footer_template=number,
            print_background=True,
            outline=True,
            tagged=True,
        )
        browser.close()


def main(target, *pages, built=BUILT):
    """Write the PDF; return the exit status."""
    if CHROMIUM is None:
        sys.exit("Chromium is missing; on Debian: apt-get install chromium")
    if not (built / "index.html").is_file():
        sys.exit("the book is not built: `make book` first")
    pages = pages or order((built / "index.html").read_text("utf-8"))
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "book.html")
        source.write_text(whole(built, pages, citation), "utf-8")
        print_pdf(source, target)
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB, {len(pages)} pages of the book")


if __name__ == "__main__":
    main(*sys.argv[1:])
