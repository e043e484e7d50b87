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

#: Words that are read in a minute, a guess; a line of code counts as five, a formula or a role as one.
WORDS, LINE = 200, 5
_BLOCK = re.compile(r"```.*?```", re.DOTALL)
_ONE_WORD = re.compile(r"\$\$.*?\$\$|\$[^$]+\$|\{[a-z:]+\}`[^`]*`", re.DOTALL)


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
            words += len(_ONE_WORD.sub("x", _BLOCK.sub(" ", source)).split())
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
        # A run on a busy machine waits its turn; the processor's time is what it takes alone.
        seconds = min(stamp["seconds"], stamp.get("cpu_seconds", stamp["seconds"]))
        minutes = max(1, round(seconds / 60))
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
    # After the note on old figures is in its place, so that the times stand between it and the title.
    app.connect("doctree-read", add_times, priority=600)
    # A higher version makes the next build read all pages anew.
    return {"env_version": 2, "parallel_read_safe": True, "parallel_write_safe": True}
