"""Write the notebooks as Google Colab is to open them: their first cell, folded, installs aelib.

python -m tools.colab FOLDER

Colab opens a notebook alone. So the files of the book that chapters read lie on the branch beside the
notebooks, and the cell clones it: there `aelib.results.find_book` finds them.

The name of the repository comes from GITHUB_REPOSITORY, so no notebook of the book's own names one. The
workflow that publishes the pages puts the folder on the branch that the pages' buttons open, `BRANCH`.
"""

import os
import re
import shutil
import sys
from pathlib import Path

import nbformat

from tools import execute

BRANCH = "colab"
#: What chapters read of the book: `_toc.yml` marks its folder.
READ = ("_toc.yml", "benchmarks/results/*.json", "benchmarks/results/*.png", "benchmarks/results/*.npz")
#: It leaves an installed TensorFlow as it is: aelib requires Keras alone. Once the
#: runtime has been restarted, both are there, yet the working folder is the first one again.
INSTALL = """\
# @title Install aelib, where it is missing, and fetch the files that the book reads
import importlib.util
import os

if importlib.util.find_spec("aelib") is None:
    %pip install --quiet "aelib[retrieval] @ git+https://github.com/{repository}" optuna opentsne umap-learn
    !git clone --quiet --depth 1 --branch {branch} https://github.com/{repository} aelib-book
if os.path.isdir("aelib-book"):
    os.chdir("aelib-book")"""


def prepared(notebook, repository):
    """Return a notebook with the cell that installs aelib before all others."""
    cell = nbformat.v4.new_code_cell(
        INSTALL.format(repository=repository, branch=BRANCH),
        metadata={"cellView": "form", "tags": ["hide-input"]},
    )
    notebook.cells.insert(0, cell)
    return notebook


def main(folder, repository, root=execute.ROOT):
    """Write every chapter's notebook, and what chapters read, under the paths that they have in the book."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        sys.exit(f"GITHUB_REPOSITORY must be owner/name, got {repository!r}")
    for chapter in execute.chapters(root):
        target = execute.path_of(chapter, Path(folder))
        target.parent.mkdir(parents=True, exist_ok=True)
        notebook = nbformat.read(execute.path_of(chapter, root), as_version=4)
        nbformat.write(prepared(notebook, repository), target)
    for file in (file for pattern in READ for file in root.glob(pattern)):
        target = Path(folder, file.relative_to(root))
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)


if __name__ == "__main__":
    main(sys.argv[1], os.environ.get("GITHUB_REPOSITORY", ""))
