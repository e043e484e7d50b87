"""Run notebooks in the full profile, strip what is volatile, and stamp them with what they ran on.

python -m tools.execute types/basic ...   run these chapters
python -m tools.execute                   run the chapters whose code changed since their stamp
python -m tools.execute --all             run every chapter
python -m tools.execute --list            list the chapters whose stamp differs from the code or from aelib
python -m tools.execute --release         the same, and fail if there is one: none may be stale in a release
"""

import argparse
import base64
import io
import os
import re
import resource
import sys
import time
from pathlib import Path

import nbformat
import yaml
from nbclient import NotebookClient
from nbclient.exceptions import CellControlSignal, DeadKernelError
from PIL import Image

from aelib import files
from aelib.book import ledger
from tools import reach

ROOT = Path(__file__).resolve().parent.parent

# What TensorFlow writes past every setting: its C++ log, and its advice to whoever trains many nets; and
# tqdm's wish for widgets, which the book does not use.
_LOG_LINE = re.compile(
    r"^([IWE]\d{4} [\d:.]+ .*|\d{4}-\d\d-\d\d [\d:.]+: [IWE] .*|WARNING: All log messages before.*"
    r"|WARNING:tensorflow:\d+ out of the last \d+ calls .* retracing.*"
    r"|.*TqdmWarning: IProgress not found.*|  from .autonotebook import tqdm as notebook_tqdm)$"
)

AELIB_CHANGED = "aelib changed"


def code_of(notebook):
    """Return the code cells of a notebook."""
    return [cell.source.strip() for cell in notebook.cells if cell.cell_type == "code"]


def code_hash(notebook):
    """Hash the code cells of a notebook, whatever its text and its outputs say."""
    return reach.digest("\0".join(code_of(notebook)))


def module_hashes(notebook, modules):
    """Hash what a notebook reaches in each module of aelib; `modules` are those that `reach.read` returns."""
    return reach.hashes("\n".join(code_of(notebook)), modules)


def chapters(root=ROOT):
    """Return the chapters that are notebooks, in the order of ``_toc.yml``, as paths without their ending."""
    toc = yaml.safe_load((root / "_toc.yml").read_text("utf-8"))
    files = [toc["root"], *(entry["file"] for part in toc["parts"] for entry in part["chapters"])]
    return [name for name in files if (root / "book" / f"{name}.ipynb").is_file()]


def path_of(chapter, root=ROOT):
    """Return the path of a chapter's notebook."""
    return root / "book" / f"{chapter}.ipynb"


def pending(root=ROOT):
    """Return the `pending_chapters` of ``_config.yml``, which says what they are."""
    return yaml.safe_load((root / "_config.yml").read_text("utf-8"))["sphinx"]["config"]["pending_chapters"]


def staleness(notebook, modules):
    """Say why the stored outputs are not those of the code as it stands, or return an empty text."""
    stamp = notebook.metadata.get("aelib", {})
    if stamp.get("profile") != "full":
        return "never run in the full profile"
    if stamp.get("code") != code_hash(notebook):
        return "its code changed"
    if "modules" not in stamp:  # 0.1 stamped the package as one
        return AELIB_CHANGED
    then, now = stamp["modules"], module_hashes(notebook, modules)
    changed = sorted(name for name in {*then, *now} if then.get(name) != now.get(name))
    return f"{AELIB_CHANGED}: {', '.join(changed)}" if changed else ""


def fewer_colours(png):
    """Return a PNG, in base64, with 256 colours if that makes it smaller: a third, for a typical figure."""
    file = io.BytesIO()
    picture = Image.open(io.BytesIO(base64.b64decode(png)))
    if picture.mode == "P":
        return png
    # Without dithering an even area stays even.
    palette = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    palette.save(file, "PNG", optimize=True)
    return min(base64.b64encode(file.getvalue()).decode(), png, key=len)


def clean(notebook):
    """Strip what differs from run to run, and the log lines of C++ libraries; keep figures small."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type != "code":
            continue
        for output in cell.outputs:
            if output.output_type == "stream":
                output.text = "\n".join(ln for ln in output.text.split("\n") if not _LOG_LINE.match(ln))
            for kind in [kind for kind in output.get("data", {}) if kind.endswith("image/png")]:
                output.data[kind] = fewer_colours(output.data[kind])
        cell.outputs = [o for o in cell.outputs if o.output_type != "stream" or o.text.strip()]
    notebook.metadata = nbformat.from_dict(
        {
            key: notebook.metadata[key]
            for key in ("aelib", "kernelspec", "language_info", "jupytext")
            if key in notebook.metadata
        }
    )


def cpu_seconds():
    """Return the processor time of the processes that this one has started and seen the end of."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def execute(chapter, root=ROOT, timeout=3600):
    """Run one chapter in the full profile and store it, whole or not at all; return the seconds it took."""
    path = path_of(chapter, root)
    notebook = nbformat.read(path, as_version=4)
    modules = module_hashes(notebook, reach.read(ROOT / "aelib"))
    os.environ.update(AELIB_PROFILE="full", AELIB_PROGRESS="0", TF_CPP_MIN_LOG_LEVEL="3")
    start, used = time.perf_counter(), cpu_seconds()
    client = NotebookClient(
        notebook,
        timeout=timeout,
        startup_timeout=timeout,
        kernel_name="python3",
        resources={"metadata": {"path": path.parent}},
    )
    client.execute()
    seconds = time.perf_counter() - start
    notebook.metadata["aelib"] = {
        "profile": "full",
        "date": time.strftime("%Y-%m-%d"),
        "seconds": round(seconds),
        "cpu_seconds": round(cpu_seconds() - used),
        "device": ledger.device(),
        "code": code_hash(notebook),
        "modules": modules,
    }
    clean(notebook)
    files.write_atomically(path, nbformat.writes(notebook) + "\n")
    return seconds


def main(arguments=None):
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "chapter", nargs="*", help="as in types/basic; default: every chapter whose code changed"
    )
    parser.add_argument("--all", action="store_true", help="run every chapter, changed or not")
    parser.add_argument("--list", action="store_true", help="only list what is stale")
    parser.add_argument(
        "--release", action="store_true", help="only list what is stale, and fail if anything is"
    )
    options = parser.parse_args(arguments)
    known, modules = chapters(), reach.read(ROOT / "aelib")
    unknown = [name for name in options.chapter if name not in known]
    if unknown:
        parser.error(f"no such notebook: {', '.join(unknown)}; known: {', '.join(known)}")
    reasons = {name: staleness(nbformat.read(path_of(name), as_version=4), modules) for name in known}
    if options.list or options.release:
        stale = [f"{name}: {reason}" for name, reason in reasons.items() if reason]
        print("\n".join(stale) or "nothing is stale")
        return int(options.release and bool(stale))
    changed = [name for name, reason in reasons.items() if reason and not reason.startswith(AELIB_CHANGED)]
    failed = []
    for name in known if options.all else options.chapter or changed:
        print(f"{name}: running", flush=True)
        try:
            print(f"{name}: {execute(name):.0f} s", flush=True)
        except (CellControlSignal, DeadKernelError) as error:  # the others are still worth their run
            print(f"{name}: {error}", flush=True)
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", flush=True)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
