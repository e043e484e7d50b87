"""Pack the built pages and the notebooks into one archive, to read without a network.

python -m tools.offline FILE

The same files give the same archive, byte for byte.
"""

import sys
import zipfile
from pathlib import Path

import yaml

from tools import colab, execute

#: What only a host needs, or the next build.
LEFT_OUT = {".buildinfo", "_sources", "cards", "downloads", "objects.inv", "sitemap.xml"}
INDEX = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title></head><body>
<h1>{title}</h1>
<p>Version {version}, by {authors}. Text and figures CC BY 4.0, code MIT.</p>
<p><a href="pages/index.html">Read the book</a>. Its pages need no network.</p>
<p>The folder <a href="notebooks/">notebooks</a> holds the chapters as notebooks with their outputs, and the
files that they read; to run them, install the package aelib.</p>
</body></html>
"""


def contents(root):
    """Return what the archive holds, besides its index, as {name: file}."""
    built, book = root / "_build" / "html", root / "book"
    files = {Path("pages", file.relative_to(built)): file for file in built.rglob("*") if file.is_file()}
    files = {name: file for name, file in files.items() if not LEFT_OUT & set(name.parts)}
    notebooks = [execute.path_of(chapter, root) for chapter in execute.chapters(root)]
    for file in (*notebooks, *book.glob("_static/*.svg")):
        files[Path("notebooks", file.relative_to(book))] = file
    for pattern in colab.READ:
        files |= {Path("notebooks", file.relative_to(root)): file for file in root.glob(pattern)}
    return files | {Path(name): root / name for name in ("LICENSE", "CITATION.cff")}


def main(target, root=execute.ROOT):
    """Write the archive; its files lie in a folder of its own name."""
    if not (root / "_build" / "html" / "index.html").is_file():
        sys.exit("the book is not built: `make book` first")
    target, citation = Path(target), yaml.safe_load((root / "CITATION.cff").read_text("utf-8"))
    authors = ", ".join(author["name"] for author in citation["authors"])
    packed = {name.as_posix(): file.read_bytes() for name, file in contents(root).items()}
    packed["index.html"] = INDEX.format_map(citation | {"authors": authors}).encode()
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w") as archive:
        for name in sorted(packed):
            entry = zipfile.ZipInfo(f"{target.stem}/{name}")  # of 1980, whenever it is made
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, packed[name], zipfile.ZIP_DEFLATED, 9)
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB, {len(packed)} files")


if __name__ == "__main__":
    main(*sys.argv[1:])
