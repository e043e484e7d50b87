"""Write what stands around a page: its description and card, and, where the book has an address, the ways to it.

The address is that of the repository's pages on GitHub, by the environment's GITHUB_REPOSITORY (owner/name), which
its runners set. Without it, no page names an address.
"""

import html
import os
import re
from pathlib import Path
from urllib.parse import quote

from docutils import nodes
from PIL import Image, ImageOps

#: Width and height, in pixels, of the pictures on cards, which would cut off what is wider or higher; and their margin.
CARD, MARGIN = (1200, 630), 30


def set_address(app, config):
    """Derive the book's address, and the one of its sources, from the repository's name."""
    if config.github_repository:
        owner, _, name = config.github_repository.partition("/")
        config.html_baseurl = f"https://{owner.lower()}.github.io/{name}/"
        source = f"https://github.com/{config.github_repository}/"
        config.html_theme_options |= {
            "source_repository": source,
            "source_branch": "main",
            "source_directory": "book/",
            "top_of_page_buttons": ["edit"],
        }


def description(doctree):
    """Return a page's first paragraph, cut after a word where it is long, without the words that chapters begin with."""
    first = next(
        (
            p
            for p in doctree.findall(nodes.paragraph)
            if isinstance(p.parent, nodes.section) and "times" not in p["classes"]
        ),
        None,
    )
    text = " ".join(first.astext().split()) if first else ""
    if (sentence := text.removeprefix("In one sentence: ")) != text:
        text = sentence[0].upper() + sentence[1:]
    return text if len(text) <= 200 else text[:199].rpartition(" ")[0] + "…"


def add_head(app, pagename, templatename, context, doctree):
    """Add the description, the card, and the addresses for the foot."""
    # The theme says it too.
    context["metatags"] = re.sub(
        r'<meta name="viewport"[^>]*>\s*', "", context.get("metatags", "")
    )
    if doctree is None:
        return
    base = app.config.html_baseurl
    title = html.unescape(re.sub("<[^>]*>", "", context["title"]))
    tags = {"og:type": "article", "og:site_name": app.config.project, "og:title": title}
    tags |= {"description": description(doctree), "og:description": description(doctree)}
    picture = Path("_static", "gallery", f"{pagename.rpartition('/')[2]}.png")
    if base:
        tags["og:url"] = f"{base}{pagename}.html"
        if Path(
            app.srcdir, picture
        ).is_file():  # a card's picture needs an address that is whole
            tags["og:image"] = f"{base}_static/cards/{picture.name}"
            tags |= {"og:image:width": str(CARD[0]), "og:image:height": str(CARD[1])}
    tags["twitter:card"] = "summary_large_image" if "og:image" in tags else "summary"
    context["metatags"] += "".join(
        f'<meta {"property" if name.startswith("og:") else "name"}="{name}" content="{html.escape(value)}">'
        for name, value in tags.items()
        if value
    )
    if repository := app.config.github_repository:
        context["report"] = (
            f"https://github.com/{repository}/issues/new?title={quote(title, safe='')}"
        )
        if str(app.env.doc2path(pagename)).endswith(".ipynb"):
            context["colab"] = (
                f"https://colab.research.google.com/github/{repository}/blob/colab/book/{pagename}.ipynb"
            )


def card(picture):
    """Return a picture in the middle of a card, on white."""
    inner = tuple(side - 2 * MARGIN for side in CARD)
    fitted = ImageOps.contain(picture.convert("RGBA"), inner, Image.Resampling.LANCZOS)
    whole = Image.new("RGB", CARD, "white")
    place = tuple((side - part) // 2 for side, part in zip(CARD, fitted.size))
    whole.paste(fitted, place, fitted)
    return whole


def write_cards(app, exception):
    """Write the pictures of the cards, where the book has an address."""
    if exception or app.builder.format != "html" or not app.config.github_repository:
        return
    folder = Path(app.outdir, "_static", "cards")
    folder.mkdir(exist_ok=True)
    for file in sorted(Path(app.srcdir, "_static", "gallery").glob("*.png")):
        with Image.open(file) as picture:
            card(picture).save(folder / file.name, optimize=True)


def write_sitemap(app, exception):
    """List the pages for search engines."""
    if exception or app.builder.format != "html" or not app.config.github_repository:
        return
    places = "".join(
        f"<url><loc>{app.config.html_baseurl}{name}.html</loc></url>\n"
        for name in sorted(app.env.found_docs)
    )
    Path(app.outdir, "sitemap.xml").write_text(
        f'<?xml version="1.0" encoding="utf-8"?>\n<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n'
        f"{places}</urlset>\n",
        "utf-8",
    )


def setup(app):
    """Register the name of the repository, and the hooks; the theme's options are set before."""
    app.add_config_value(
        "github_repository", os.environ.get("GITHUB_REPOSITORY", ""), "html"
    )
    app.connect("config-inited", set_address, priority=950)
    app.connect("html-page-context", add_head)
    app.connect("build-finished", write_cards)
    app.connect("build-finished", write_sitemap)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
