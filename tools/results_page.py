"""Make the parts of pages that come from what the chapters stored: the results, and the gallery.

python -m tools.results_page     writes book/reference/results/ and book/_static/gallery/*.png

In the folder of results, board.txt holds the board and the missed goals for `reference/results`, and every
chapter has a page of tables.
"""

import base64
import subprocess
import sys
from pathlib import Path

import nbformat
import yaml

from aelib import files
from aelib.book import ledger
from tools import execute

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "book" / "_ext"))
from doors import hours, running_minutes  # noqa: E402

RIVALS = {"best": "autoencoder", "baseline": "strongest rival", "published": "published"}
FOLDER = Path("book", "reference", "results")


def _text(text):
    return str(text).replace("|", "\\|").replace("$", "\\$")


def _table(head, rows, align=""):
    """Return a table as lines of Markdown; `align` has an r for each column of numbers."""
    rules = ["--:" if side == "r" else "---" for side in align.ljust(len(head))]
    return [f"| {' | '.join(map(str, row))} |" for row in (head, rules, *rows)] + [""]


def name_of(chapter):
    """Return the name of a chapter's page of tables, without its ending."""
    return chapter.replace("/", "_")


def title(notebook):
    """Return the title of a notebook."""
    return next(cell.source for cell in notebook.cells).partition("\n")[0].removeprefix("# ")


def _headline(h):
    """Return what was measured, and the three figures."""
    better = "lower" if h["lower_is_better"] else "higher"
    figures = [f"**{h[kind]['value']:.4g}** {_text(h[kind]['name'])}" if kind in h else "" for kind in RIVALS]
    return [_text(f"{h['task']}, {h['data']}: {h['measure']} ({better} is better)"), *figures]


def board(parts, ledgers, runs):
    """Return a table for each part of the book, of one row a headline; a chapter without one has a row too.

    `parts` are {caption: chapters}; `runs` say in words how long each chapter ran, on what, and when.
    """
    lines = []
    for caption, chapters in parts.items():
        rows = []
        for chapter in chapters:
            claims = ledgers[chapter]["claims"]
            missed = sum(not claim["holds"] for claim in claims)
            first = f"{{doc}}`/{chapter}` ({{doc}}`tables <results/{name_of(chapter)}>`):"
            goals = f"[{missed} of {len(claims)}](#missed-goals)" if missed else "none"
            for headline in ledgers[chapter].get("headlines", ()):
                measured, *figures = _headline(headline)
                seeds = f"{headline['seeds']} seed{'s' * (headline['seeds'] > 1)}"
                rows.append([f"{first} {measured}", *figures, f"{seeds}, {runs[chapter]}", goals])
            if not ledgers[chapter].get("headlines"):
                none = "a guide, no headline" if chapter.startswith("guide/") else "no headline yet"
                rows.append([f"{first} {none}", "", "", "", runs[chapter], goals])
        head = "chapter and headline", *RIVALS.values(), "run", "goals missed"
        lines += [f"### {caption}", "", ":::{container} door-board", *_table(head, rows), ":::", ""]
    return "\n".join(lines)


def goals(titles, ledgers):
    """Return the claims that do not hold, by chapter, each with its reason; `titles` are {chapter: title}."""
    lines = []
    for chapter, heading in titles.items():
        missed = [claim for claim in ledgers[chapter]["claims"] if not claim["holds"]]
        if not missed:
            continue
        tables = f"{{doc}}`its tables <results/{name_of(chapter)}>`"
        if tried := len(ledgers[chapter].get("choices", ())):
            tables += f", with the settings tried in {tried} search{'es' * (tried > 1)} on validation data"
        lines += [f"### {heading}", "", f"See {{doc}}`/{chapter}` and {tables}.", ""]
        for c in missed:
            figures = f"{c['left']:.4g}, wanted {c['relation']} {c['right']:.4g}"
            lines.append(f"- {_text(c['text'])}: {figures}. *Reason:* {_text(c['reason'])}.")
        lines.append("")
    return "\n".join(lines)


def page(chapter, heading, stored, run):
    """Return the page of a chapter's tables: headlines, claims, figures, settings that were tried, data."""
    held = sum(claim["holds"] for claim in stored["claims"])
    data = ", ".join(f"{name} ({source})" for name, source in stored["data"].items()) or "none"
    lines = [f"# {heading}: tables", ""]
    lines += [
        f"What {{doc}}`/{chapter}` recorded: {held} of {len(stored['claims'])} claims hold; "
        f"{len(stored['records'])} figures. Run: {run}. Data: {data}. Computed on {stored['device']}.\n"
    ]
    if headlines := stored.get("headlines"):
        rows = [[*_headline(h), h["seeds"], f"{h['seconds']:.0f}"] for h in headlines]
        head = "measured", *RIVALS.values(), "seeds", "seconds a seed"
        lines += ["## Headlines", "", *_table(head, rows, "    rr")]
    if claims := stored["claims"]:
        rows = []
        for c in claims:
            verdict = "yes" if c["holds"] else f"no: {_text(c['reason'])}"
            rows.append([_text(c["text"]), f"{c['left']:.5g} {c['relation']} {c['right']:.5g}", verdict])
        lines += ["## Claims", "", *_table(("claim", "figures", "holds"), rows)]
    if records := stored["records"]:
        rows = []
        for r in records:
            reference = "" if r["reference"] is None else f"{r['reference']:.5g} "
            cells = _text(r["unit"]), f"{reference}{_text(r['source'])}"
            rows.append([_text(r["name"]), f"{r['value']:.5g}", *cells])
        lines += ["## Figures", "", *_table(("figure", "value", "unit", "reference"), rows, " r")]
    if choices := stored.get("choices"):
        rows = []
        for c in choices:
            tried = ", ".join(f"{_text(t['setting'])}: {t['score']:.4g}" for t in c["tries"])
            rows.append([_text(c["name"]), _text(c["best"]), tried])
        lines += ["## Settings tried on validation data", ""]
        lines += _table(("setting", "chosen", "setting: score"), rows)
    return "\n".join(lines)


def dates(root):
    """Return the day of the last commit of each ledger, {chapter: date}; empty without Git's history."""
    command = ["git", "log", "--format=:%as", "--name-only", "--relative", "--", "book/results"]
    try:
        log = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return {}
    found, day = {}, ""
    for line in filter(None, log.splitlines()):
        if line.startswith(":"):
            day = line[1:]
        else:
            found.setdefault(line.removeprefix("book/results/").removesuffix(".json"), day)
    return found


def run_of(notebook, stored, committed):
    """Say how long a chapter ran, on what and when; `committed` is the date for a stamp without one."""
    minutes = hours(max(1, running_minutes(notebook)))
    day = notebook.metadata.get("aelib", {}).get("date", committed)
    return ", ".join(filter(None, (minutes, stored["device"].partition(",")[0].partition(";")[0], day)))


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
    pictures, folder = root / "book" / "_static" / "gallery", root / FOLDER
    for new in (pictures, folder):
        new.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    ledgers, committed, titles, runs = ledger.read(root), dates(root), {}, {}
    for chapter in execute.chapters(root):
        notebook = nbformat.read(execute.path_of(chapter, root), as_version=4)
        for name, picture in gallery(notebook).items():
            (pictures / f"{name}.png").write_bytes(picture)
        titles[chapter] = title(notebook)
        runs[chapter] = run_of(notebook, ledgers[chapter], committed.get(chapter, ""))
        text = page(chapter, titles[chapter], ledgers[chapter], runs[chapter])
        files.write_atomically(folder / f"{name_of(chapter)}.md", text)
    toc = yaml.safe_load((root / "_toc.yml").read_text("utf-8"))
    parts = {
        part["caption"]: [entry["file"] for entry in part["chapters"] if entry["file"] in titles]
        for part in toc["parts"]
    }
    parts = {caption: chapters for caption, chapters in parts.items() if chapters}
    text = f"## At a glance\n\n{board(parts, ledgers, runs)}\n"
    text += f"(missed-goals)=\n## Goals that were missed\n\n{goals(titles, ledgers)}"
    files.write_atomically(folder / "board.txt", text)


if __name__ == "__main__":
    main()
