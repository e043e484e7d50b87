"""Keep pages light: one style sheet with the rules that some page uses, no script without a use, small pictures."""

import base64
import hashlib
import html
import io
import re
import struct
from pathlib import Path

import tinycss2
from PIL import Image

#: What the sheet is made of, in this order; extensions add others, for features that the book does not use.
SHEETS = (
    "pygments.css",
    "styles/furo.css",
    "mystnb.*.css",
    "sphinx-design.min.css",
    "styles/furo-extensions.css",
    "style.css",
    "interactive.css",
)
#: How many pixels wide a preview on the front page is at most.
PREVIEW = 640
#: Characters of a table that fit beside one another on a phone; more than a short line, LINE, may be broken.
PHONE, LINE = 46, 20
#: What scripts add to a page after it is built, besides the classes that interactive.js names.
ADDED = {
    "button",
    "input",
    "label",
    "table",
    "caption",
    "tr",
    "td",
    "svg",
    "circle",
    "text",
}
ADDED |= {"#search-results", ".search-summary", ".search", ".context", ".highlighted"}
ADDED |= {".scrolled", ".scroll-current", ".show-back-to-top", ".copy"}


def lighten_head(app, pagename, templatename, context, doctree):
    """Link one sheet and the scripts that the page needs, none of which holds the page up."""

    def url(name):
        return context["pathto"](f"_static/{name}", resource=True)

    body = context.get("body", "")
    scripts = [
        "scripts/furo.js",
        "page.js",
        *(["interactive.js"] if re.search("ae-(interactive|quiz)", body) else []),
    ]
    head = [f'<link rel="stylesheet" href="{url("book.css")}">']
    head += [f'<script defer src="{url(name)}"></script>' for name in scripts]
    context["metatags"] = context.get("metatags", "") + "".join(head)
    context["css_files"] = []
    wanted = (
        ("documentation_options.js", "doctools.js", "sphinx_highlight.js")
        if pagename == "search"
        else ()
    )
    context["script_files"] = [
        s for s in context["script_files"] if str(s.filename).endswith(wanted or "/")
    ]


def names(page):
    """Return the tags, .classes and #ids of a page."""
    found = set(re.findall(r"<([a-z][a-z0-9]*)", page))
    for value in re.findall(r'\bclass="([^"]*)"', page):
        found |= {f".{name}" for name in html.unescape(value).split()}
    return found | {f"#{name}" for name in re.findall(r'\bid="([^"]*)"', page)}


def _needs(selector):
    """Return the names without which a selector matches nothing; arguments of :not() and the like do not count."""
    needed, before = set(), ""
    for token in selector:
        if token.type == "hash":
            needed.add(f"#{token.value}")
        elif token.type == "ident" and before != ":":
            needed.add(f".{token.value}" if before == "." else token.lower_value)
        before = token.value if token.type == "literal" else ""
    return needed


def _split(tokens):
    parts = [[]]
    for token in tokens:
        if token == ",":
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def purge(rules, pages):
    """Return the text of those rules whose selectors can match on one of the pages, each a set of names."""
    kept = []
    for rule in rules:
        if rule.type == "qualified-rule":
            selectors = [
                s for s in _split(rule.prelude) if any(_needs(s) <= page for page in pages)
            ]
            if selectors and any(token.type != "whitespace" for token in rule.content):
                head = ",".join(
                    tinycss2.serialize(selector).strip() for selector in selectors
                )
                kept.append(f"{head}{{{tinycss2.serialize(rule.content).strip()}}}")
        elif rule.type == "at-rule" and rule.lower_at_keyword in (
            "media",
            "supports",
            "container",
            "layer",
        ):
            inner = purge(
                tinycss2.parse_rule_list(rule.content or [], skip_comments=True), pages
            )
            if inner:
                kept.append(
                    f"@{rule.at_keyword}{tinycss2.serialize(rule.prelude)}{{{inner}}}"
                )
        elif rule.type == "at-rule" and rule.lower_at_keyword != "charset":
            kept.append(rule.serialize())
    return re.sub(r"\s+", " ", "\n".join(kept)) if kept else ""


def sheets(static):
    """Return the files that the sheet of a built book is made of."""
    return [file for pattern in SHEETS for file in sorted(Path(static).glob(pattern))]


def small(file):
    """Write a picture as WebP where that is smaller, and return the file to show and its size in pixels."""
    if file.suffix == ".svg":
        box = re.search(
            r'viewBox="[\d.-]+ [\d.-]+ ([\d.]+) ([\d.]+)"', file.read_text("utf-8")
        )
        return file, (round(float(box[1])), round(float(box[2])))
    packed = file.with_suffix(".webp")
    preview = (file.parent.parent / "_static" / "gallery" / file.name).exists()
    with Image.open(file) as picture:
        if preview:  # not a figure: a card shows it at half this width, on a sharp screen at this one
            picture = picture.convert("RGB")
            picture.thumbnail((PREVIEW, 4 * PREVIEW), Image.Resampling.LANCZOS)
        if not packed.exists() or packed.stat().st_mtime < file.stat().st_mtime:
            picture.save(packed, lossless=True, quality=80, method=4)
            if preview:
                coarse = io.BytesIO()
                picture.save(coarse, "webp", quality=80, method=4)
                packed.write_bytes(min(packed.read_bytes(), coarse.getvalue(), key=len))
        if preview:
            return packed, picture.size
        return min(packed, file, key=lambda f: f.stat().st_size), picture.size


def lighten_pictures(page, text, cache):
    """Give each picture of a page its size, and let all but the first load late."""
    first = True

    def attributes(match):
        nonlocal first
        if match[2].startswith("data:image/png;base64,") and " width=" not in match[0]:
            # Width and height stand in the first 24 bytes.
            start = base64.b64decode(match[2].partition(",")[2][:32])
            width, height = struct.unpack(">II", start[16:24])
            return f'<img{match[1]} src="{match[2]}" width="{width}" height="{height}"{match[3]}>'
        file = (page.parent / html.unescape(match[2])).resolve()
        if match[2].startswith("data:") or " width=" in match[0] or not file.is_file():
            return match[0]
        if file not in cache:
            cache[file] = small(file)
        shown, (width, height) = cache[file]
        late, first = "" if first else ' loading="lazy"', False
        source = match[2].removesuffix(file.name) + shown.name
        return f'<img{match[1]} src="{source}" width="{width}" height="{height}"{late}{match[3]}>'

    return re.sub(r'<img((?: [^>]*?)?) src="([^"]*)"([^>]*)>', attributes, text)


def fold_tables(text):
    """Prepare tables that are too wide for a phone: there, each cell stands in a line of its own after its heading.

    What is shown as a block is no table for a screen reader, unless its role says so.
    """
    return re.sub(
        r'<table class="docutils [^"]*">.*?</table>', _folded, text, flags=re.DOTALL
    )


def _folded(match):
    table = match[0]
    head, _, body = table.partition("</thead>")
    heads = re.findall(r"<th\b[^>]*>(.*?)</th>", head, re.DOTALL)
    rows = [
        re.findall(r"<t[hd]\b[^>]*>.*?</t[hd]>", row, re.DOTALL)
        for row in body.split("<tr")[1:]
    ]
    regular = head.count("<tr") == 1 and not re.search(r"(col|row)span=", table)
    if not regular or not rows or any(len(row) != len(heads) for row in rows):
        return table
    columns = zip(heads, *rows)
    if sum(_needed(map(_words, column)) for column in columns) <= PHONE:
        return table
    labels = [html.escape(" ".join(_words(cell).split())) for cell in heads]
    body = re.sub(
        r"<tr\b[^>]*>.*?</tr>", lambda row: _labelled(row[0], labels), body, flags=re.DOTALL
    )
    for tag, role in (("thead", "rowgroup"), ("tbody", "rowgroup"), ("tr", "row")):
        head = head.replace(f"<{tag}", f'<{tag} role="{role}"')
        body = body.replace(f"<{tag}", f'<{tag} role="{role}"')
    head = head.replace(
        '<table class="docutils', '<table role="table" class="fold docutils', 1
    )
    return re.sub(r"<th\b", '<th role="columnheader"', head) + "</thead>" + body


def _labelled(row, labels):
    """Give each cell of a row the heading of its column, and one box for what it holds."""
    label = iter(labels)

    def cell(match):
        tag, attributes, inner = match.groups()
        role = "rowheader" if tag == "th" else "cell"
        return f'<{tag} role="{role}" data-label="{next(label)}"{attributes}><div>{inner}</div></{tag}>'

    return re.sub(r"<(t[hd])\b([^>]*)>(.*?)</\1>", cell, row, flags=re.DOTALL)


def _words(cell):
    return html.unescape(re.sub(r"<[^>]*>", "", cell)).strip()


def _needed(texts):
    """Return the characters that a column needs: its longest word, or a short line, and the space beside it."""
    texts = list(texts)
    word = max((len(word) for text in texts for word in text.split()), default=0)
    return 2 + max(word, min(LINE, max(map(len, texts))))


def move_data(text, static):
    """Move the data of figures that run a net into files, which a page loads when they come into view."""

    def moved(match):
        data = html.unescape(match[2])
        name = hashlib.sha256(data.encode()).hexdigest()[:16]
        file = static / "live" / f"{name}.js"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"(window.aelibData ??= {{}})['{name}'] = {data};\n", "utf-8")
        return f'{match[1]} data-source="{name}"'

    return re.sub(r"""(data-kind="live-[a-z]+") data-figure='([^']*)'""", moved, text)


def lighten_files(app, exception):
    """Write the sheet, the pictures, and the data of live figures."""
    if exception or app.builder.format != "html":
        return
    static, used, pictures = Path(app.outdir, "_static"), [], {}
    added = ADDED | {
        f".{name}"
        for name in re.findall(r"ae-[a-z]+", (static / "interactive.js").read_text("utf-8"))
    }
    for page in sorted(Path(app.outdir).rglob("*.html")):
        text = page.read_text("utf-8")
        lighter = move_data(fold_tables(lighten_pictures(page, text, pictures)), static)
        if lighter != text:
            page.write_text(lighter, "utf-8")
        used.append(names(lighter) | added)
    css = "\n".join(file.read_text("utf-8") for file in sheets(static))
    rules = tinycss2.parse_stylesheet(css, skip_comments=True, skip_whitespace=True)
    (static / "book.css").write_text(purge(rules, used), "utf-8")


def setup(app):
    """Register both hooks, after the theme's own."""
    app.connect("html-page-context", lighten_head, priority=900)
    app.connect("build-finished", lighten_files, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
