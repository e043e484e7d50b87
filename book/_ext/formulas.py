"""Typeset formulas while the book is built, so that a page needs no script for them.

KaTeX, run by an engine that pip installs, turns each into MathML, and a formula that it does not understand fails
the build. Browsers set MathML in the font with which each page comes: STIX Two Math, cut down to what the book uses.
"""

import html
import logging
import re
from functools import cache
from importlib import resources
from pathlib import Path

from docutils import nodes
from sphinx.util.logging import getLogger

logger = getLogger(__name__)

_TOKEN = re.compile(r'<m(i|o|n|text)( mathvariant="([a-z-]+)")?([^>]*)>([^<]*)</m\1>')
# What HTML does not need, and the formula's source, which would double its weight.
_NEEDLESS = re.compile(
    r' xmlns="[^"]*"|</?semantics>|<annotation.*?</annotation>', re.DOTALL
)
# TeX leaves a thin space between a function's name and its argument, or a factor before it, unless a bracket stands there.
_THIN = '<mspace width="0.1667em"/>'
_AFTER_NAME = re.compile(r"(<mo>\u2061</mo>)(?!</|<mo[^>]*>[^∫∑∏])")
_BEFORE_NAME = re.compile(
    r"(</m(?:i|n|frac|su[bp]|subsup|row|over)>|[)\]]</mo>)(?=<mi[^>]*>\w+</mi><mo>\u2061</mo>)"
)
# Where Unicode's styled letters begin: capitals, small letters, digits, Greek capitals, Greek small letters.
_STYLES = {
    "bold": (0x1D400, 0x1D41A, 0x1D7CE, 0x1D6A8, 0x1D6C2),
    "bold-italic": (0x1D468, 0x1D482, None, 0x1D71C, 0x1D736),
    "script": (0x1D49C, 0x1D4B6, None, None, None),
    "double-struck": (0x1D538, 0x1D552, 0x1D7D8, None, None),
    "monospace": (0x1D670, 0x1D68A, 0x1D7F6, None, None),
    "sans-serif": (0x1D5A0, 0x1D5BA, 0x1D7E2, None, None),
}
# Letters that Unicode had before it had the alphabets.
_EXCEPTIONS = {
    "script": dict(zip("BEFHILMRego", "ℬℰℱℋℐℒℳℛℯℊℴ", strict=True)),
    "double-struck": dict(zip("CHNPQRZ", "ℂℍℕℙℚℝℤ", strict=True)),
}
_STARTS = "Aa0Αα"
_SIZES = 26, 26, 10, 25, 25


@cache
def engine():
    """Return a function that turns TeX into MathML: (tex, display) -> str."""
    from py_mini_racer import MiniRacer

    context = MiniRacer()
    context.eval(
        resources.files("sphinxcontrib").joinpath("katex.min.js").read_text("utf-8")
    )
    context.eval(
        "function typeset(tex, display) { try { return katex.renderToString(tex, {displayMode: display,"
        " output: 'mathml', strict: 'error'}) } catch (error) { return '!' + error.message } }"
    )
    return lambda tex, display: context.call("typeset", tex, display)


def styled(letter, variant):
    """Return a letter of one of Unicode's alphabets for mathematics; browsers know no other bold ones."""
    if letter in _EXCEPTIONS.get(variant, {}):
        return _EXCEPTIONS[variant][letter]
    for begin, first, size in zip(_STYLES[variant], _STARTS, _SIZES, strict=True):
        place = ord(letter) - ord(first)
        if begin is not None and 0 <= place < size:
            return chr(begin + place)
    return letter


def _token(match):
    kind, _, variant, rest, text = match.groups()
    if variant in _STYLES:
        return f"<m{kind}{rest}>{''.join(styled(letter, variant) for letter in html.unescape(text))}</m{kind}>"
    return match[0]


def mathml(tex, *, display=False, location=None):
    """Return the MathML of a formula; warn of one that KaTeX does not understand, which fails the build."""
    answer = engine()(tex, display)
    if answer.startswith("!"):
        logger.warning("a formula cannot be typeset: %s", answer[1:], location=location)
    answer = answer.removeprefix('<span class="katex">').removesuffix("</span>")
    answer = _BEFORE_NAME.sub(
        rf"\1{_THIN}", _AFTER_NAME.sub(rf"\1{_THIN}", _NEEDLESS.sub("", answer))
    )
    # The macron that KaTeX writes is cut for letters of text, and would touch the letter under it.
    return _TOKEN.sub(_token, answer.replace("ˉ", "‾"))


def visit_inline(self, node):
    """Write an inline formula."""
    self.body.append(mathml(node.astext(), location=node))
    raise nodes.SkipNode


def visit_block(self, node):
    """Write a displayed formula, which scrolls by itself where the screen is narrow."""
    self.body.append(self.starttag(node, "div", CLASS="formula"))
    tex = node.astext()
    parts = (
        [tex]
        if node.get("nowrap") or "\\begin{" in tex
        else [part for part in tex.split("\n\n") if part.strip()]
    )
    self.body += [mathml(part, display=True, location=node) for part in parts]
    if number := node.get("number"):
        self.body.append(f'<span class="eqno">({number})</span>')
    self.body.append("</div>\n")
    raise nodes.SkipNode


def write_font(app, exception):
    """Cut the font down to the characters of all formulas, for any page of the built book."""
    logging.getLogger("fontTools.subset").setLevel("WARNING")  # it lists every glyph
    if exception or app.builder.format != "html":
        return
    from fontTools import subset

    characters = set()
    for page in Path(app.outdir).rglob("*.html"):
        for formula in re.findall(r"<math.*?</math>", page.read_text("utf-8"), re.DOTALL):
            characters |= set(html.unescape(re.sub(r"<[^>]*>", "", formula)))
    # Letters stand in <mi> as plain ones, which a browser shows in italics.
    characters |= {styled_italic(letter) for letter in characters}
    # A root is an element, and its sign no character of the page.
    characters.add("√")
    options = subset.Options(flavor="woff2", layout_features=["ssty"], hinting=False)
    font = subset.load_font(
        str(resources.files("ziamath").joinpath("fonts/STIXTwoMath-Regular.ttf")), options
    )
    cutter = subset.Subsetter(options)
    cutter.populate(text="".join(sorted(characters)))
    cutter.subset(font)
    subset.save_font(font, str(Path(app.outdir, "_static", "math.woff2")), options)


def styled_italic(letter):
    """Return the italic letter that a browser shows for a plain one in a formula."""
    for begin, first, size in (
        (0x1D434, "A", 26),
        (0x1D44E, "a", 26),
        (0x1D6E2, "Α", 25),
        (0x1D6FC, "α", 25),
    ):
        place = ord(letter) - ord(first)
        if 0 <= place < size:
            return "ℎ" if letter == "h" else chr(begin + place)
    return letter


def setup(app):
    """Register the renderer, and the font."""
    app.add_html_math_renderer(
        "mathml", inline_renderers=(visit_inline, None), block_renderers=(visit_block, None)
    )
    app.connect("build-finished", write_font)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
