"""Turn the ledgers into the tables of the page reference/results: `python tools/results_page.py OUTPUT`."""

import sys
from pathlib import Path

from aelib import results

ROOT = Path(__file__).resolve().parent.parent


def _row(*cells):
    return "| " + " | ".join(str(cell).replace("|", "\\|").replace("$", "\\$") for cell in cells) + " |"


def tables(ledgers):
    """Return one section a chapter: its claims, then its figures, then where its data came from."""
    lines = []
    for chapter, ledger in ledgers.items():
        lines += [f"## {{doc}}`../{chapter}`", ""]
        if ledger["claims"]:
            lines += [_row("claim", "left", "", "right", "holds"), "|---|--:|:-:|--:|:-:|"]
            for c in ledger["claims"]:
                verdict = "yes" if c["holds"] else f"no: {c['reason']}"
                lines.append(
                    _row(c["text"], f"{c['left']:.5g}", f"`{c['relation']}`", f"{c['right']:.5g}", verdict)
                )
            lines.append("")
        if ledger["records"]:
            lines += [_row("figure", "value", "unit", "reference", "source"), "|---|--:|---|--:|---|"]
            for r in ledger["records"]:
                reference = "" if r["reference"] is None else f"{r['reference']:.5g}"
                lines.append(_row(r["name"], f"{r['value']:.5g}", r["unit"], reference, r["source"]))
            lines.append("")
        data = ", ".join(f"{name} ({source})" for name, source in ledger["data"].items()) or "none"
        lines += [f"Data: {data}. Computed on {ledger['device']}.", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    results.write_atomically(sys.argv[1], tables(results.read(ROOT)))
