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
RIVALS = ("best", "baseline", "published")


def _row(*cells):
    return "| " + " | ".join(str(cell).replace("|", "\\|").replace("$", "\\$") for cell in cells) + " |"


def board(ledgers, seconds):
    """Return one row a headline, with the autoencoder's figure and its rivals', and how long chapters run."""
    lines = ["## At a glance", "", _row("chapter", "task", "autoencoder", "rival", "published", "seeds")]
    lines.append("|---|---|---|---|---|--:|")
    for chapter, stored in ledgers.items():
        for h in stored.get("headlines", ()):
            cells = [f"{h[kind]['value']:.4g} ({h[kind]['name']})" if kind in h else "" for kind in RIVALS]
            better = "lower" if h["lower_is_better"] else "higher"
            task = f"{h['task']}, {h['data']}: {h['measure']} ({better} is better)"
            lines.append(_row(f"{{doc}}`../{chapter}`", task, *cells, h["seeds"]))
    took = [f"{{doc}}`../{chapter}` {seconds[chapter] / 60:.0f}" for chapter in ledgers if chapter in seconds]
    lines += ["", f"Minutes that a chapter runs, on two cores of a processor: {', '.join(took)}.", ""]
    return "\n".join(lines)


def goals(ledgers):
    """Return the claims that do not hold, each with its chapter and its reason."""
    lines = ["## Goals that were missed", "", _row("chapter", "goal", "figures", "reason")]
    lines.append("|---|---|---|---|")
    for chapter, stored in ledgers.items():
        for c in stored["claims"]:
            if not c["holds"]:
                figures = f"{c['left']:.4g}, wanted {c['relation']} {c['right']:.4g}"
                lines.append(_row(f"{{doc}}`../{chapter}`", c["text"], figures, c["reason"]))
    return "\n".join([*lines, ""])


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
    folder, seconds = root / "book" / "_static" / "gallery", {}
    folder.mkdir(exist_ok=True)
    for chapter in execute.chapters(root):
        notebook = nbformat.read(execute.path_of(chapter, root), as_version=4)
        for name, picture in gallery(notebook).items():
            (folder / f"{name}.png").write_bytes(picture)
        if "seconds" in (stamp := notebook.metadata.get("aelib", {})):
            seconds[chapter] = stamp["seconds"]
    ledgers = ledger.read(root)
    parts = board(ledgers, seconds), goals(ledgers), tables(ledgers)
    files.write_atomically(root / "book" / "reference" / "results_tables.txt", "\n".join(parts))


if __name__ == "__main__":
    main()
