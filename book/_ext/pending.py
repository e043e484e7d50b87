"""Say on the pages of `pending_chapters` (see `_config.yml`) that their figures are those of an earlier release."""

from docutils import nodes

TITLE = "Figures of 0.1"
TEXT = "The code on this page has changed since its figures were computed. They will be computed again for 0.2."


def add_note(app, doctree):
    """Put the note below the page's title."""
    if app.env.docname in app.config.pending_chapters:
        note = nodes.admonition(
            "", nodes.title("", TITLE), nodes.paragraph("", TEXT), classes=["pending"]
        )
        section = next(doctree.findall(nodes.section))
        section.insert(section.first_child_matching_class(nodes.title) + 1, note)


def setup(app):
    """Register the list, a change of which reads the pages again, and the hook."""
    app.add_config_value("pending_chapters", [], "env")
    app.connect("doctree-read", add_note)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
