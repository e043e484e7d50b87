"""Measure built pages by Lighthouse, as a phone on a slow line gets them: compressed, slowed down fourfold.

python -m tools.lighthouse [PAGE ...]

Pages are named without their ending; by default the front page, two chapters, the results and the API. Needs
the program `lighthouse` (``npm install --global lighthouse``) and Chromium, found by Lighthouse or by
CHROME_PATH. A busy machine makes pages look slower than they are.
"""

import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

from tools import read

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("index", "foundations/first_autoencoder", "types/variational", "reference/results", "reference/api")
FLAGS = "--headless=new --no-sandbox --disable-gpu"
TIMES = {"FCP": "first-contentful-paint", "LCP": "largest-contentful-paint", "TBT": "total-blocking-time"}


def row(page, report):
    """Return a line of the table: the four scores of 100, and what the speed is made of."""
    scores = [round(100 * (one["score"] or 0)) for one in report["categories"].values()]
    audits = report["audits"]
    times = [f"{name} {audits[audit].get('displayValue', '?')}" for name, audit in TIMES.items()]
    kilobytes = audits["total-byte-weight"]["numericValue"] / 1000
    return (
        f"{page:34}" + "".join(f"{score:5}" for score in scores) + f"  {', '.join(times)}, {kilobytes:.0f} kB"
    )


def findings(report):
    """Return the audits, other than those of speed, that a page does not pass."""
    return [
        f"{audit['id']}: {audit['title']}"
        for kind, category in report["categories"].items()
        if kind != "performance"
        for audit in (report["audits"][one["id"]] for one in category["auditRefs"] if one["weight"])
        if audit["score"] not in (None, 1)
    ]


def measure(program, url):
    """Return Lighthouse's report on a page."""
    command = [program, url, "--quiet", f"--chrome-flags={FLAGS}", "--output=json", "--output-path=stdout"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode:
        sys.exit(f"lighthouse failed on {url}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)


def main(pages=PAGES, folder=ROOT / "_build" / "html"):
    """Print a table of the pages; return the exit status."""
    program = shutil.which("lighthouse")
    if program is None:
        sys.exit("lighthouse is missing: npm install --global lighthouse")
    missing = [page for page in pages if not (folder / f"{page}.html").is_file()]
    if missing:
        sys.exit(f"not built: {', '.join(missing)}; run `make book`, and name pages as in types/basic")
    with read.server(folder, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for page in pages:
            report = measure(program, f"http://127.0.0.1:{server.server_port}/{page}.html")
            if page == pages[0]:
                print(f"{'':34}" + "".join(f"{kind[:4]:>5}" for kind in report["categories"]))
            print(row(page, report), *findings(report), sep="\n    ", flush=True)
        server.shutdown()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or PAGES))
