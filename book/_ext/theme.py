"""Set the theme's own options: Jupyter Book passes those of another theme."""


def set_options(app, config):
    """Give the options of Furo."""
    config.html_theme_options = {"footer_icons": [], "sidebar_hide_name": False}


def set_dark_code(app):
    """Name the colours of code in the dark; the theme makes the option known only after `_config.yml` is read."""
    app.config.pygments_dark_style = "a11y-dark"


def mend_roles(app, pagename, templatename, context, doctree):
    """Mend what the writers of the bibliography and of folded cells put into a page."""
    if "body" in context:
        body = context["body"].replace(
            ' role="doc-biblioentry"', ' role="listitem"'
        )  # a role dropped since
        # The name of a control must hold the words that are seen on it.
        context["body"] = body.replace(' aria-label="Toggle hidden content"', "")


def setup(app):
    """Register the three, after Jupyter Book's hook and before the theme's."""
    app.connect("config-inited", set_options, priority=900)
    app.connect("html-page-context", mend_roles)
    app.connect("builder-inited", set_dark_code, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
