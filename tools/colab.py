"""Write the notebooks as Google Colab is to open them: their first cell, folded, installs aelib.

python -m tools.colab FOLDER

The name of the repository comes from GITHUB_REPOSITORY, so no notebook of the book's own names one. The
workflow that publishes the pages puts the folder on the branch that the pages' buttons open, `BRANCH`.
"""

import os
import re
import sys
from pathlib import Path

import nbformat

from tools import execute

BRANCH = "colab"
#: It leaves an installed TensorFlow as it is: aelib requires Keras alone.
INSTALL = """\
# @title Install aelib, where it is missing
import importlib.util

if importlib.util.find_spec("aelib") is None:
    %pip install --quiet "aelib[retrieval] @ git+https://github.com/{repository}" optuna umap-learn"""


def prepared(notebook, repository):
    """Return a notebook with the cell that installs aelib before all others."""
    cell = nbformat.v4.new_code_cell(
        INSTALL.format(repository=repository), metadata={"cellView": "form", "tags": ["hide-input"]}
    )
    notebook.cells.insert(0, cell)
    return notebook


def main(folder, repository, root=execute.ROOT):
    """Write every chapter's notebook into the folder, under the path that it has in the book."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        sys.exit(f"GITHUB_REPOSITORY must be owner/name, got {repository!r}")
    for chapter in execute.chapters(root):
        target = execute.path_of(chapter, Path(folder))
        target.parent.mkdir(parents=True, exist_ok=True)
        notebook = nbformat.read(execute.path_of(chapter, root), as_version=4)
        nbformat.write(prepared(notebook, repository), target)


if __name__ == "__main__":
    main(sys.argv[1], os.environ.get("GITHUB_REPOSITORY", ""))
