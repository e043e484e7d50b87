"""Write what stands around a page: its description and card, and, where the book has an address, the ways to it.

The address is that of the repository's pages on GitHub, by the environment's GITHUB_REPOSITORY (owner/name), which
its runners set. Without it, no page names an address.
"""

import html
import os
from pathlib import Path

from docutils import nodes


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
    """Return a page's first paragraph, cut after a word where it is long."""
    first = next(
        (
            p
            for p in doctree.findall(nodes.paragraph)
            if isinstance(p.parent, nodes.section) and "times" not in p["classes"]
        ),
        None,
    )
    text = " ".join(first.astext().split()) if first else ""
    return text if len(text) <= 200 else text[:199].rpartition(" ")[0] + "…"


def add_head(app, pagename, templatename, context, doctree):
    """Add the description, the card, and the addresses for the foot."""
    if doctree is None:
        return
    base, title = app.config.html_baseurl, nodes.Text(context["title"]).astext()
    tags = {"og:type": "article", "og:site_name": app.config.project, "og:title": title}
    tags |= {"description": description(doctree), "og:description": description(doctree)}
    picture = Path("_static", "gallery", f"{pagename.rpartition('/')[2]}.png")
    if base:
        tags["og:url"] = f"{base}{pagename}.html"
        if Path(
            app.srcdir, picture
        ).is_file():  # a card's picture needs an address that is whole
            tags["og:image"] = base + picture.as_posix()
    tags["twitter:card"] = "summary_large_image" if "og:image" in tags else "summary"
    context["metatags"] = context.get("metatags", "") + "".join(
        f'<meta {"property" if name.startswith("og:") else "name"}="{name}" content="{html.escape(value)}">'
        for name, value in tags.items()
        if value
    )
    if repository := app.config.github_repository:
        context["report"] = (
            f"https://github.com/{repository}/issues/new?title={html.escape(title)}"
        )
        if str(app.env.doc2path(pagename)).endswith(".ipynb"):
            context["colab"] = (
                f"https://colab.research.google.com/github/{repository}/blob/colab/book/{pagename}.ipynb"
            )


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
    app.connect("build-finished", write_sitemap)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
