"""Link each term of the glossary where a chapter first uses it.

The glossary is the definition list at the end of ``reference/notation``. "principal component analysis (PCA)" is found under
both names, "posterior, prior" under each, and all of them with an "s" behind. Words that also have an everyday meaning are
linked only where a chapter prints them alone in bold, as it does where it explains them.
"""

import re
from pathlib import Path

from docutils import nodes

PAGE = "reference/notation"
#: Terms with an everyday meaning, or a second one in other chapters.
EVERYDAY = {
    "absorption",
    "baseline",
    "claim",
    "clock",
    "commitment",
    "continuity",
    "contribution",
    "excess",
    "factor",
    "gate",
    "kernel",
    "knee",
    "map",
    "mask",
    "patch",
    "profile",
    "proposal",
    "rate",
    "score",
    "shard",
    "splitting",
}
_ENTRY = re.compile(r"^(\S.*)\n: ", re.MULTILINE)
_OUTSIDE = (
    nodes.table,
    nodes.figure,
    nodes.caption,
    nodes.legend,
    nodes.footnote,
    nodes.raw,
)


def read_terms(text):
    """Return every name of the glossary's terms, in lower case, with the anchor of its entry."""
    anchors = {}
    for entry in _ENTRY.findall(text.partition("## Glossary")[2]):
        long, short = re.fullmatch(r"(.*?)(?: \((.*)\))?", entry).groups()
        for name in [*long.split(", "), *([short] if short else [])]:
            anchors.setdefault(name.casefold(), anchor(entry))
    return anchors


def anchor(entry):
    """Return the anchor of an entry."""
    return f"term-{nodes.make_id(entry) or '-'.join(f'{ord(c):x}' for c in entry)}"


def add_anchors(app, doctree):
    """Give each entry of the glossary its anchor."""
    if app.env.docname != PAGE:
        return
    for entry in doctree.findall(nodes.term):
        name = anchor(entry.astext())
        if name not in entry["ids"]:
            entry["ids"].append(name)


def link_terms(doctree, anchors, uri):
    """Link the first use of each term in the paragraphs of a page to ``uri#anchor``."""
    names = "|".join(re.escape(name) for name in sorted(anchors, key=len, reverse=True))
    use = re.compile(rf"(?<![\w-])({names})(s?)(?![\w-])", re.IGNORECASE)
    seen = set()
    for text in list(doctree.findall(nodes.Text)):
        parent = text.parent
        around = (
            parent.parent if isinstance(parent, nodes.strong | nodes.emphasis) else parent
        )
        if not isinstance(around, nodes.paragraph) or _within(around, _OUTSIDE):
            continue
        pieces, end = [], 0
        for match in use.finditer(text):
            name = match[1].casefold()
            target = anchors[name]
            alone = isinstance(parent, nodes.strong) and match[0] == text
            if target in seen or (name in EVERYDAY and not alone):
                continue
            seen.add(target)
            pieces.append(nodes.Text(text[end : match.start()]))
            link = nodes.reference(
                "", match[0], refuri=f"{uri}#{target}", internal=True, classes=["term"]
            )
            pieces.append(link)
            end = match.end()
        if pieces:
            parent.replace(
                text,
                [piece for piece in [*pieces, nodes.Text(text[end:])] if piece.astext()],
            )


def _within(node, kinds):
    while node := node.parent:
        if isinstance(node, kinds):
            return True
    return False


def link_page(app, doctree, docname):
    """Link the terms on a chapter's page."""
    if Path(app.env.doc2path(docname)).suffix == ".ipynb" and app.builder.format == "html":
        link_terms(doctree, app.env.glossary, app.builder.get_relative_uri(docname, PAGE))


def read_glossary(app, env, added, changed, removed):
    """Read the glossary, and have every page written anew when it has changed."""
    anchors = read_terms(Path(env.doc2path(PAGE)).read_text("utf-8"))
    old, env.glossary = getattr(env, "glossary", None), anchors
    return [] if old in (None, anchors) else list(env.found_docs)


def setup(app):
    """Register the hooks."""
    app.connect("env-get-outdated", read_glossary)
    app.connect("doctree-read", add_anchors)
    app.connect("doctree-resolved", link_page)
    return {"env_version": 1, "parallel_read_safe": True, "parallel_write_safe": True}
