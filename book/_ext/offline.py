"""Keep pages to what they need from their own folder.

The theme adds Thebe's loader to every page, with the address of another host in it, whether it is used or not; and
Jupyter Book adds every script and style below `_static`: MathJax among them, which Sphinx then adds once more, and
those of the live figures, which `interactive.js` loads where there is one.
"""

ON_DEMAND = ("live.js", "live.css")


def drop_scripts(app, pagename, templatename, context, doctree):
    """Take Thebe, MathJax without its `async`, and what is loaded on demand out of a page's files."""

    def kept(script):
        if str(script.filename or "").endswith(ON_DEMAND):
            return False
        name, body = str(script.filename or ""), str(script.attributes.get("body") or "")
        if "thebe" in name.lower() or "thebe" in body.lower():
            return False
        return "mathjax" not in name or "async" in script.attributes

    context["script_files"] = [script for script in context["script_files"] if kept(script)]
    context["css_files"] = [
        style
        for style in context["css_files"]
        if not str(style.filename or "").endswith(ON_DEMAND)
    ]


def setup(app):
    """Register the hook, after the theme's own."""
    app.connect("html-page-context", drop_scripts, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
