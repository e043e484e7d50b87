"""Say on a page how to cite the book, and where its PDF and its archive are.

````
```{citation}
```
The entry for BibTeX, from CITATION.cff.

```{downloads}
```
The files, where the book has an address: only the workflow that publishes it (pages.yml) puts them there.
````
"""

from pathlib import Path

import yaml
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

#: Below the address; the names are those that the Makefile gives.
FILES = {
    "downloads/autoencoders_measured.pdf": "the whole book as one PDF",
    "downloads/autoencoders_measured.zip": "pages and notebooks as one archive",
}


def bibtex(citation, year, url=""):
    """Return the entry; `citation` is what CITATION.cff holds."""
    authors = " and ".join(f"{{{author['name']}}}" for author in citation["authors"])
    fields = {"author": authors, "title": citation["title"], "year": year}
    fields |= {"note": f"Version {citation['version']}"} | ({"url": url} if url else {})
    lines = [f"  {name:6} = {{{text}}}," for name, text in fields.items()]
    return "\n".join(["@misc{aelib,", *lines, "}"])


class Citation(SphinxDirective):
    """The entry for BibTeX."""

    def run(self):
        file = Path(self.env.srcdir).parent / "CITATION.cff"
        self.env.note_dependency(str(file))
        entry = bibtex(
            yaml.safe_load(file.read_text("utf-8")),
            self.config.copyright,
            self.config.html_baseurl,
        )
        return [nodes.literal_block(entry, entry, language="bibtex")]


class Downloads(SphinxDirective):
    """A list of links, or how to make the files."""

    def run(self):
        base = self.config.html_baseurl
        if not base:
            return []
        items = [
            nodes.list_item(
                "",
                nodes.paragraph("", "", nodes.reference("", words, refuri=f"{base}{file}")),
            )
            for file, words in FILES.items()
        ]
        return [nodes.bullet_list("", *items)]


def setup(app):
    """Register both."""
    app.add_directive("citation", Citation)
    app.add_directive("downloads", Downloads)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
