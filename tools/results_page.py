"""Make the parts of pages that come from what the chapters stored: the tables of results, and the gallery.

python tools/results_page.py      writes book/reference/results_tables.txt and book/_static/gallery/*.png
"""

import base64
from pathlib import Path

import nbformat

from aelib import files
from aelib.book import ledger
from tools import execute

ROOT = Path(__file__).resolve().parent.parent


def _row(*cells):
    return "| " + " | ".join(str(cell).replace("|", "\\|").replace("$", "\\$") for cell in cells) + " |"


def tables(ledgers):
    """Return one section a chapter: its claims, its figures, folded away, and where its data came from."""
    lines = []
    for chapter, stored in ledgers.items():
        held = sum(claim["holds"] for claim in stored["claims"])
        summary = f"{held} of {len(stored['claims'])} claims hold; {len(stored['records'])} figures"
        lines += [f"## {{doc}}`../{chapter}`", "", f"<details><summary>{summary}</summary>", ""]
        if stored["claims"]:
            lines += [_row("claim", "left", "is", "right", "holds"), "|---|--:|:-:|--:|:-:|"]
            for c in stored["claims"]:
                verdict = "yes" if c["holds"] else f"no: {c['reason']}"
                lines.append(
                    _row(c["text"], f"{c['left']:.5g}", f"`{c['relation']}`", f"{c['right']:.5g}", verdict)
                )
            lines.append("")
        if stored["records"]:
            lines += [_row("figure", "value", "unit", "reference", "source"), "|---|--:|---|--:|---|"]
            for r in stored["records"]:
                reference = "" if r["reference"] is None else f"{r['reference']:.5g}"
                lines.append(_row(r["name"], f"{r['value']:.5g}", r["unit"], reference, r["source"]))
            lines.append("")
        data = ", ".join(f"{name} ({source})" for name, source in stored["data"].items()) or "none"
        lines += ["</details>", "", f"Data: {data}. Computed on {stored['device']}.", ""]
    return "\n".join(lines)


def gallery(notebook):
    """Return the pictures that a notebook has glued under a name that starts with "gallery ": {name: PNG}."""
    found = {}
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            name = output.get("metadata", {}).get("scrapbook", {}).get("name", "")
            picture = output.get("data", {}).get("application/papermill.record/image/png")
            if name.startswith("gallery ") and picture:
                found[name.removeprefix("gallery ")] = base64.b64decode(picture)
    return found


def main(root=ROOT):
    """Write both below the book at `root`."""
    files.write_atomically(root / "book" / "reference" / "results_tables.txt", tables(ledger.read(root)))
    folder = root / "book" / "_static" / "gallery"
    folder.mkdir(exist_ok=True)
    for chapter in execute.chapters(root):
        for name, picture in gallery(nbformat.read(execute.path_of(chapter, root), as_version=4)).items():
            (folder / f"{name}.png").write_bytes(picture)


if __name__ == "__main__":
    main()
