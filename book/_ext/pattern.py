"""What every chapter shows in one form: the time it takes, below its title, and the box to take home.

````
```{takehome}
When to use it, …

    ```python
    ten lines
    ```
```
````
"""

import json
import re
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

#: Words that are read in a minute; a line of code counts as ten.
WORDS, LINE = 200, 10


class TakeHome(SphinxDirective):
    """The box that ends a chapter: when, defaults, cost, first check, when not, and ten lines that run."""

    has_content = True

    def run(self):
        box = nodes.admonition("", nodes.title("", "Take home"), classes=["takehome"])
        self.set_source_info(box)
        self.state.nested_parse(self.content, self.content_offset, box)
        return [box]


def reading_minutes(cells):
    """Return how many minutes it takes to read the cells of a notebook, hidden ones left out."""
    words = 0
    for cell in cells:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            words += len(
                re.sub(r"```.*?```|\$\$.*?\$\$", " ", source, flags=re.DOTALL).split()
            )
        elif not {"hide-cell", "hide-input", "remove-cell"} & set(
            cell["metadata"].get("tags", [])
        ):
            words += LINE * sum(bool(line.strip()) for line in source.splitlines())
    return max(1, round(words / WORDS))


def times(notebook):
    """Return the line below a chapter's title."""
    line = f"Reading: {reading_minutes(notebook['cells'])} minutes"
    stamp = notebook["metadata"].get("aelib", {})
    if "seconds" in stamp:
        minutes = max(1, round(stamp["seconds"] / 60))
        where = stamp["device"].partition(",")[0].partition(";")[0]
        line += (
            f" · running: {minutes} {'minute' if minutes == 1 else 'minutes'} on {where}"
        )
    return line


def add_times(app, doctree):
    """Put the times below the title of a chapter's page."""
    path = Path(app.env.doc2path(app.env.docname))
    if path.suffix != ".ipynb":
        return
    section = next(doctree.findall(nodes.section))
    line = times(json.loads(path.read_text("utf-8")))
    place = section.first_child_matching_class(nodes.title) + 1
    section.insert(place, nodes.paragraph("", line, classes=["times"]))


def setup(app):
    """Register the directive, the hook, and the list of chapters that are still to be rewritten."""
    app.add_directive("takehome", TakeHome)
    app.add_config_value("old_pattern_chapters", [], "env")
    app.connect(
        "doctree-read", add_times, priority=400
    )  # before the note on pending figures
    return {"parallel_read_safe": True, "parallel_write_safe": True}
