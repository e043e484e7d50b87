"""Set the theme's own options: Jupyter Book passes those of another theme."""


def set_options(app, config):
    config.html_theme_options = {"footer_icons": [], "sidebar_hide_name": False}


def setup(app):
    app.connect("config-inited", set_options, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
