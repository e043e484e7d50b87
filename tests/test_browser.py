"""The in-page figures in a real browser: by mouse, touch and keyboard, in print and without scripts.

Uses the Chromium of the system (Debian's package `chromium`), which `playwright` drives but does not install.
"""

import io
import pickle
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from docutils import nodes
from PIL import Image

from aelib import interactive, steps
from aelib.convmatrix import convolution_matrix
from tools import read
from tools.pdf import CHROMIUM, FLAGS, PATIENCE

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt-get install chromium)")
STATIC = Path(__file__).parents[1] / "book" / "_static"
sys.path.append(str(STATIC.parent / "_ext"))
import light  # noqa: E402

# A page in the book's style, and the boxes that a notebook's output sits in.
PAGE = """<!doctype html><html lang="en"><head>
<meta charset="utf-8"><title>figures</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,"><link rel="stylesheet" href="{static}/style.css">
<link rel="stylesheet" href="{static}/interactive.css"><script src="{static}/interactive.js"></script>
<style>body {{ background: var(--color-background-primary); color: var(--color-foreground-primary);
font-family: sans-serif; margin: 1rem }}</style></head>
<body data-theme="{theme}">
<div class="cell_output"><div class="output text_html">{body}</div></div></body></html>"""


BUILT = Path(__file__).parents[1] / "_build" / "html"
# The tables of three chapters stand for those of all.
PARTS = "index.html", "*/*.html", "reference/results/types_[bm]*.html"
CHAPTERS = sorted(page.relative_to(BUILT).as_posix() for part in PARTS for page in BUILT.glob(part))
CHAPTERS = [page for page in CHAPTERS if page[0] != "_"]  # Sphinx's own, such as listings of the sources


@pytest.mark.skipif(not CHAPTERS, reason="the book is not built: `make book` first")
@pytest.mark.parametrize("chapter", CHAPTERS or ["none"])
def test_a_page_of_the_book_reads_on_a_phone(browser, chapter):
    """Nothing is missing or foreign, every formula is set, and nothing is wider than the screen."""
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.set_default_timeout(PATIENCE)
    trouble, requested = [], []
    page.on("request", lambda request: requested.append(request.url))
    page.on("requestfailed", lambda request: trouble.append(f"missing: {request.url}"))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on(
        "request",
        lambda r: (
            None if r.url.startswith(("file:", "data:", "blob:")) else trouble.append(f"foreign: {r.url}")
        ),
    )
    page.goto((BUILT / chapter).as_uri())
    inline, displayed = doctree_formulas(chapter)
    found = [
        page.locator(f"article {which}").count() for which in ("math:not([display])", ".formula:has(math)")
    ]
    wrong = page.evaluate("[...document.querySelectorAll('merror')].map((e) => e.textContent)")
    wide = page.evaluate(WIDE)
    width = page.evaluate("document.documentElement.scrollWidth")
    page.close()
    assert not [url for url in requested if "searchindex" in url]  # it is loaded by who searches
    assert not trouble
    assert found == [inline, displayed]
    assert not wrong
    assert not wide
    assert width <= 390


# Formulas that reach out of their column, unless they stand in a box that scrolls.
WIDE = """() => {
    const scrolls = (node) =>
        node && (/auto|scroll/.test(getComputedStyle(node).overflowX) || scrolls(node.parentElement));
    const column = document.querySelector("article").getBoundingClientRect().right;
    return [...document.querySelectorAll("article math")]
        .filter((m) => m.getBoundingClientRect().right > column + 1 && !scrolls(m.parentElement))
        .map((m) => m.textContent);
}"""


def doctree_formulas(chapter):
    """Return how many formulas a page has in its lines, and how many by themselves."""
    file = BUILT.parent / ".doctrees" / chapter.replace(".html", ".doctree")
    if not file.is_file():  # Sphinx's own page, such as the index
        return 0, 0
    doctree = pickle.loads(file.read_bytes())
    return len(list(doctree.findall(nodes.math))), len(list(doctree.findall(nodes.math_block)))


# Is what has the focus in sight? A switch of a drawer is not; but the sign that it belongs to is outlined.
FOCUSED = """() => {
    const node = document.activeElement;
    const shown = node.matches(".sidebar-toggle")
        ? [...node.labels].find((label) => label.offsetWidth && !label.matches(".overlay"))
        : node;
    const box = shown?.getBoundingClientRect();
    const across = box?.right > 0 && box.left < innerWidth && box.width > 1;
    const inside = across && box.bottom > 0 && box.top < innerHeight;
    const seen = inside && shown.checkVisibility({ opacityProperty: true, visibilityProperty: true });
    const outlined = node === shown || getComputedStyle(shown ?? node).outlineStyle === "solid";
    return [node.id || node.textContent.trim().slice(0, 40), Boolean(seen && outlined)];
}"""
STILL = "*, ::before, ::after { transition: none !important; scroll-behavior: auto !important }"


@pytest.mark.skipif(not CHAPTERS, reason="the book is not built: `make book` first")
@pytest.mark.parametrize(("width", "switches"), [(1280, ["__toc"]), (390, ["__navigation", "__toc"])])
def test_the_keyboard_meets_only_what_is_seen(browser, width, switches):
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.set_default_timeout(PATIENCE)
    page.goto((BUILT / "types" / "basic.html").as_uri())
    page.add_style_tag(content=STILL)
    page.evaluate(WAKE)  # a live figure that wakes above the view moves what has the focus
    page.evaluate("scrollTo(0, 0)")
    met = []
    for _ in range(80):
        page.keyboard.press("Tab")
        met.append(page.evaluate(FOCUSED))
    assert [name for name, seen in met if not seen] == []
    assert [name for name, _ in met if name.startswith("__")] == switches
    for switch in switches:
        link = page.locator({"__toc": ".toc-tree li li a", "__navigation": ".sidebar-tree a"}[switch]).first
        assert not link.is_visible()
        page.locator(f"#{switch}").focus()
        page.keyboard.press("Space")
        assert link.is_visible()
        link.focus()
        assert page.evaluate(FOCUSED)[1]
        page.keyboard.press("Escape")
        assert not link.is_visible()
        assert page.evaluate("document.activeElement.id") == switch
    page.close()


@pytest.mark.enable_socket
@pytest.mark.skipif(not CHAPTERS, reason="the book is not built: `make book` first")
def test_search_finds_a_chapter(browser):
    with read.server(BUILT, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        requested = []
        page.on("request", lambda request: requested.append(request.url))
        page.goto(f"http://127.0.0.1:{server.server_port}/index.html")
        assert not [url for url in requested if "searchindex" in url]
        page.get_by_role("textbox", name="Search").fill("posterior collapse")
        page.keyboard.press("Enter")
        page.locator("#search-results a[href*='types/variational.html']").first.wait_for()
        assert [url for url in requested if "searchindex" in url]
        page.locator("#search-results").filter(has_text="posterior").wait_for()  # excerpts come one by one
        page.close()
        server.shutdown()
        thread.join()


# Cells of open code that are still wider than their column at 1280 px; take out what has been rewritten.
WIDE_CODE = {
    "applications/anomaly_detection.html": 5,
    "applications/clustering.html": 1,
    "applications/colorization.html": 4,
    "applications/compression.html": 4,
    "applications/denoising_and_transformation.html": 3,
    "applications/dimensionality_reduction.html": 2,
    "applications/feature_extraction.html": 1,
    "applications/generation.html": 7,
    "applications/retrieval.html": 2,
    "applications/scaling_out.html": 6,
    "applications/sentences.html": 1,
    "applications/tables.html": 3,
    "applications/text.html": 2,
    "applications/time_series_anomalies.html": 1,
    "foundations/bottleneck.html": 11,
    "foundations/decoder.html": 9,
    "foundations/encoder.html": 8,
    "foundations/first_autoencoder.html": 4,
    "foundations/losses.html": 8,
    "foundations/training.html": 9,
    "foundations/transposed_convolutions.html": 9,
    "guide/bring_your_own.html": 1,
    "guide/choose.html": 2,
    "guide/troubleshooting.html": 6,
    "types/basic.html": 7,
    "types/contractive.html": 4,
    "types/convolutional.html": 6,
    "types/convolutional_variational.html": 3,
    "types/deep.html": 7,
    "types/denoising.html": 12,
    "types/dictionary_learning.html": 4,
    "types/diffusion.html": 5,
    "types/disentangled.html": 1,
    "types/importance_weighted.html": 5,
    "types/masked.html": 10,
    "types/prior_matching.html": 6,
    "types/sequence_to_sequence.html": 6,
    "types/sparse.html": 5,
    "types/variational.html": 9,
    "types/vector_quantized.html": 9,
}
CODE = """() => {
    for (const details of document.querySelectorAll("details")) details.open = !details.matches(".hide");
    return [...document.querySelectorAll("article .highlight pre")]
        .filter((pre) => !pre.closest(".cell_output") && pre.scrollWidth > pre.clientWidth)
        .map((pre) => pre.textContent.split("\\n").reduce((a, b) => (a.length < b.length ? b : a)));
}"""


@pytest.mark.skipif(not CHAPTERS, reason="the book is not built: `make book` first")
def test_open_code_fits_its_column(browser):
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.set_default_timeout(PATIENCE)
    wide = {}
    for chapter in CHAPTERS:
        page.goto((BUILT / chapter).as_uri())
        if found := page.evaluate(CODE):
            wide[chapter] = found
    page.close()
    more = {chapter: found for chapter, found in wide.items() if len(found) > WIDE_CODE.get(chapter, 0)}
    assert more == {}
    assert sorted(WIDE_CODE.keys() - wide.keys()) == [], "take them out of WIDE_CODE"


@pytest.mark.skipif(not CHAPTERS, reason="the book is not built: `make book` first")
@pytest.mark.parametrize(
    ("chapter", "place"), [("types/variational.html", -1), ("reference/results.html", 0)]
)
def test_a_wide_table_folds_on_a_phone(browser, chapter, place):
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.set_default_timeout(PATIENCE)
    page.goto((BUILT / chapter).as_uri())
    table = page.get_by_role("table").filter(has=page.locator("[data-label]")).nth(place)
    row = table.get_by_role("row").nth(1)
    tops = [cell.bounding_box()["y"] for cell in row.get_by_role("cell").all()]
    assert len(tops) > 2
    assert tops == sorted(set(tops))
    assert table.get_by_role("columnheader").count() == len(tops)
    fits = "[...document.querySelectorAll('.table-wrapper')].every((e) => e.scrollWidth <= e.clientWidth)"
    assert page.evaluate(fits)
    page.set_viewport_size({"width": 1280, "height": 800})
    tops = [cell.bounding_box()["y"] for cell in row.get_by_role("cell").all()]
    assert len(set(tops)) == 1
    page.close()


def slider():
    grey = np.broadcast_to(np.linspace(0, 1, 4)[:, None, None, None, None], (4, 3, 8, 8, 1))
    captions = [f"error {4 - i}" for i in range(4)]
    name = ("originals", np.full((3, 8, 8, 1), 0.25))
    return interactive.slider(
        grey, [2, 4, 8, 16], "size", alt="grey", captions=captions, reference=name, start=1
    )


def stepper(transposed=False):
    kernel = np.arange(9).reshape(3, 3) - 4
    matrix, shapes = convolution_matrix(kernel, (4, 4)), {"input_shape": (4, 4), "output_shape": (2, 2)}
    if transposed:
        matrix, shapes = matrix.T, {"input_shape": (2, 2), "output_shape": (4, 4)}
    vector = np.arange(matrix.shape[1])
    done = steps.product_steps(matrix, vector, extra=[steps.Grid("kernel", kernel)], **shapes)
    return steps.stepper(done, "output pixel", alt="a kernel slides")


def explorer(points=None):
    grey = np.broadcast_to(np.arange(12).reshape(3, 4)[..., None, None] / 11, (3, 4, 8, 8))
    return interactive.explorer(grey, [0, 1, 2, 3], [0, 1, 2], alt="a map", points=points)


# WCAG AA: 4.5 to 1 for text against the colour behind it, 3 to 1 for the frames of buttons and results.
LOW_CONTRAST = """() => {
    const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const read = (colour) => {
        pen.clearRect(0, 0, 1, 1);
        pen.fillStyle = colour;
        pen.fillRect(0, 0, 1, 1);
        return [...pen.getImageData(0, 0, 1, 1).data];
    };
    const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const light = (rgb) =>
        [0.2126, 0.7152, 0.0722].reduce((sum, weight, i) => sum + weight * linear(rgb[i] / 255), 0);
    const behind = (node) => {
        const colour = read(getComputedStyle(node).backgroundColor);
        return colour[3] || !node.parentElement ? colour : behind(node.parentElement);
    };
    const ratio = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
    const low = [];
    let seen = 0;
    const check = (what, node, colour, back, least) => {
        const value = ratio(read(colour), behind(back));
        seen += 1;
        if (value < least) low.push([what, node.className, node.textContent, value]);
    };
    for (const node of document.querySelectorAll(".ae-live *")) {
        const style = getComputedStyle(node);
        const text = [...node.childNodes].some((child) => child.nodeType === 3);
        if (text) check("text", node, style.color, node, 4.5);
        if (node.matches("button")) check("button", node, style.borderColor, node.parentElement, 3);
        if (node.matches(".ae-result")) check("result", node, style.outlineColor, document.body, 3);
    }
    return seen > 100 ? low : [`saw only ${seen}`];
}"""


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS, timeout=PATIENCE)
        yield browser
        browser.close()


@pytest.fixture
def show(browser, tmp_path):
    """Return a function that opens figures in a page, which must raise no error and load no other host."""
    contexts, errors, requests = [], [], []

    def open_page(*figures, theme="light", width=1280, **options):
        body = "".join(f if isinstance(f, str) else f._repr_html_() for f in figures)
        file = tmp_path / f"{len(contexts)}.html"
        file.write_text(PAGE.format(theme=theme, static=STATIC.as_uri(), body=body), "utf-8")
        contexts.append(browser.new_context(viewport={"width": width, "height": 800}, **options))
        page = contexts[-1].new_page()
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(file.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not errors
    assert requests
    assert all(url.startswith(("file:", "data:")) for url in requests)


def grey(locator, down=0.5):
    """Return the grey, from 0 to 1, half across an element and that far down it."""
    image = Image.open(io.BytesIO(locator.screenshot())).convert("L")
    return image.getpixel((image.width // 2, int(image.height * down))) / 255


def test_slider_by_keyboard(show):
    page = show(slider())
    range_, frames = page.get_by_role("slider", name="size"), page.locator(".ae-frame")
    seen = []
    range_.focus()
    for key in ("Home", "ArrowRight", "ArrowUp", "End", "ArrowRight", "ArrowLeft"):
        page.keyboard.press(key)
        seen.append(range_.input_value())
        assert grey(frames.nth(1)) == pytest.approx(int(seen[-1]) / 3, abs=0.03)
        assert grey(frames.nth(1), down=0.02) == pytest.approx(int(seen[-1]) / 3, abs=0.03)  # no other row
        assert grey(frames.nth(0)) == pytest.approx(0.25, abs=0.03)
    assert seen == ["0", "1", "2", "3", "3", "2"]
    assert range_.get_attribute("aria-valuetext") == "8: error 2"
    assert page.locator(".ae-value").inner_text() == "8: error 2"
    assert frames.nth(1).get_attribute("aria-label") == "size 8: error 2"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "size: next"
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    assert range_.input_value() == "3"
    # At the end the button says so, yet keeps the focus.
    assert page.evaluate("document.activeElement.getAttribute('aria-disabled')") == "true"
    style = "getComputedStyle(document.activeElement)"
    outline = f"{style}.outlineStyle + {style}.outlineWidth"
    assert page.evaluate(outline) == "solid3px"


def test_slider_by_mouse(show):
    page = show(slider())
    range_ = page.get_by_role("slider")
    assert range_.input_value() == "1"
    box = range_.bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.click(box["x"] + box["width"] - 4, middle)
    assert range_.input_value() == "3"
    page.mouse.move(box["x"] + box["width"] - 8, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 3, middle, steps=5)
    page.mouse.up()
    assert range_.get_attribute("aria-valuetext") == "4: error 3"
    assert page.locator(".ae-frame").nth(1).get_attribute("aria-label") == "size 4: error 3"
    page.get_by_role("button", name="size: previous").click()
    assert range_.input_value() == "0"


def test_by_touch_on_a_phone(show):
    page = show(slider(), explorer(), width=390, has_touch=True, is_mobile=True)
    range_ = page.get_by_role("slider", name="size")
    page.get_by_role("button", name="size: next").tap()
    assert range_.input_value() == "2"
    box = range_.bounding_box()
    page.touchscreen.tap(box["x"] + 3, box["y"] + box["height"] / 2)
    assert range_.input_value() == "0"
    for control in page.locator("button, input").all():
        assert control.bounding_box()["height"] >= 44
    box = page.locator(".ae-map").bounding_box()
    page.touchscreen.tap(box["x"] + 0.9 * box["width"], box["y"] + 0.1 * box["height"])
    assert page.get_by_role("slider", name="z₁").input_value() == "3"
    assert page.get_by_role("slider", name="z₂").input_value() == "2"
    assert page.locator(".ae-map").evaluate("e => getComputedStyle(e).touchAction") == "none"


def test_stepper_draws_and_speaks(show):
    page = show(stepper())
    figure, text = page.locator(".ae-live"), page.locator(".ae-text")
    assert text.inner_text().startswith("output 1 = ")
    windows = []
    for i in range(4):
        tables = {
            name: figure.locator("table").nth(k) for k, name in enumerate(["input", "kernel", "C", "output"])
        }
        assert tables["C"].locator("tr").nth(i).locator(".ae-window").count() == 9
        windows.append(tables["input"].locator(".ae-window").all_inner_texts())
        result = tables["output"].locator(".ae-result").inner_text()
        assert text.inner_text().endswith(f" = {result}")
        assert (
            page.get_by_role("slider").get_attribute("aria-valuetext") == f"{i + 1} of 4: {text.inner_text()}"
        )
        if i < 3:
            page.get_by_role("button", name="output pixel: next").click()
    assert windows[3] == ["5", "6", "7", "9", "10", "11", "13", "14", "15"]
    assert text.get_attribute("aria-live") == "polite"
    page.get_by_role("slider").press("Home")  # now the range speaks, and the line is silent
    assert text.get_attribute("aria-live") == "off"
    assert text.inner_text().startswith("output 1 = ")


def test_explorer_shows_what_is_decoded_under_the_pointer(show):
    page = show(explorer())
    # The map is the sheet at first; the picture beside it follows.
    across, up = page.get_by_role("slider", name="z₁"), page.get_by_role("slider", name="z₂")
    map_, picture = page.locator(".ae-map"), page.locator(".ae-frame")
    box = map_.bounding_box()
    for column, row in np.ndindex(4, 3):
        page.mouse.move(
            box["x"] + box["width"] * (column + 0.3) / 4, box["y"] + box["height"] * (2.7 - row) / 3
        )
        assert (across.input_value(), up.input_value()) == (str(column), str(row))
        assert grey(picture) == pytest.approx((4 * row + column) / 11, abs=0.03)
        marker = page.locator(".ae-marker").bounding_box()
        assert marker["x"] == pytest.approx(box["x"] + 1 + (box["width"] - 2) * column / 4, abs=1)
        assert marker["y"] == pytest.approx(box["y"] + 1 + (box["height"] - 2) * (2 - row) / 3, abs=1)
    across.press("Home")
    up.press("ArrowDown")
    assert grey(picture) == pytest.approx(4 / 11, abs=0.03)
    assert picture.get_attribute("aria-label") == "decoded at z₁ 0, z₂ 1"


def test_explorer_draws_points(show):
    page = show(explorer(points=[[0, 0], [3, 2]]))
    box, dots = page.locator(".ae-map").bounding_box(), page.locator(".ae-map circle")
    assert dots.count() == 2
    first, second = (dots.nth(i).bounding_box() for i in (0, 1))
    assert first["x"] < box["x"] + box["width"] / 4 < box["x"] + 3 * box["width"] / 4 < second["x"]
    assert first["y"] > second["y"]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_fits_and_reads(show, theme, width):
    page = show(slider(), stepper(), stepper(transposed=True), explorer(), theme=theme, width=width)
    assert page.locator(".ae-on").count() == 4
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    fits = "[...document.querySelectorAll('.cell_output')].every((e) => e.scrollWidth <= e.clientWidth)"
    assert page.evaluate(fits)
    assert page.evaluate(LOW_CONTRAST) == []


def test_roles_names_and_identifiers(show):
    page = show(slider(), slider(), stepper(), explorer())
    tree = page.locator("body").aria_snapshot().replace("'", "")  # YAML quotes what holds a colon
    for line in (
        'figure "grey":',
        'img "size 4: error 3"',
        'slider "size": "1"',
        'button "size: next"',
        'table "kernel":',
        'slider "z₂": "1"',
    ):
        assert f"- {line}" in tree
    assert "From top" not in tree
    identifiers = page.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(identifiers) == len(set(identifiers)) == 5


def test_without_scripts_the_picture_stays(show):
    page = show(slider(), stepper(), java_script_enabled=False, width=390)
    assert page.locator("button, input, .ae-live").count() == 0
    for i, alt in enumerate(["grey", "a kernel slides"]):
        picture = page.get_by_role("img", name=alt)
        assert picture.is_visible()
        assert 100 < picture.bounding_box()["width"] <= 390
        assert page.locator("figcaption").nth(i).is_visible()
    image = Image.open(io.BytesIO(page.get_by_role("img", name="grey").screenshot())).convert("L")
    middle = [image.getpixel((image.width // 6, int(image.height * (i + 0.5) / 5))) / 255 for i in range(5)]
    assert middle == pytest.approx([0.25, 0, 1 / 3, 2 / 3, 1], abs=0.03)


def test_print_shows_the_picture(show):
    page = show(slider())
    assert not page.get_by_role("img", name="grey", exact=True).is_visible()
    page.emulate_media(media="print")
    assert page.get_by_role("img", name="grey", exact=True).is_visible()
    assert page.locator("figcaption").is_visible()
    assert not page.locator(".ae-live").is_visible()


def test_nothing_moves_by_itself(show):
    page = show(slider(), stepper(), reduced_motion="reduce")
    page.get_by_role("button", name="size: next").click()
    assert page.evaluate("document.getAnimations().length") == 0
    still = "(e) => getComputedStyle(e).transitionDuration === '0s'"
    assert page.evaluate(f"[...document.querySelectorAll('.ae-live *')].every({still})")


def test_a_broken_figure_keeps_its_picture_and_spares_the_others(show):
    page = show(slider()._repr_html_().replace('data-kind="slider"', 'data-kind="none"'), slider())
    assert page.locator("figure").nth(0).get_by_role("img", name="grey").is_visible()
    assert page.locator("figure").nth(0).locator(".ae-live").count() == 0
    assert page.locator("figure").nth(1).get_by_role("slider").is_visible()


# Of the tokens of code, the letters of formulas, and the rows of long lists, the first ones stand for all.
THIN = """() => {
    for (const [selector, least] of [
        [".highlight span", 3], ["article math *", 3], ["dt.sig *", 3], ["tbody tr", 3], ["dl", 9],
        [".citation", 20],
    ]) {
        const seen = new Map();
        for (const node of document.querySelectorAll(selector)) {
            if (!node.isConnected || node.closest("th, a")) continue;
            const kind = [node.tagName, node.className, !node.closest(".cell_output, table")].join();
            seen.set(kind, (seen.get(kind) ?? 0) + 1);
            if (seen.get(kind) > least) node.remove();
        }
    }
}"""
# axe takes a heading that is a formula for an empty one.
AXE = """() => axe.run().then((result) => {
    const mistaken = (id, html) => id === "empty-table-header" && html.includes("<math");
    return result.violations
        .map((v) => [v.id, v.nodes.map((n) => n.html).filter((html) => !mistaken(v.id, html)).slice(0, 3)])
        .filter(([, nodes]) => nodes.length);
})"""
# Figures that run a net do so where they are seen.
WAKE = """async () => {
    for (const figure of document.querySelectorAll("figure[data-kind^=live]")) {
        figure.scrollIntoView();
        while (!figure.querySelector(".ae-live")) await new Promise(requestAnimationFrame);
    }
}"""


@pytest.fixture(scope="module", params=["light-1280", "dark-1280", "dark-390"])
def axe(browser, request):
    """Return a function that looks for what shuts readers out of a page; the page is used again and again."""
    package = pytest.importorskip("axe_playwright_python", reason="needs the package axe-playwright-python")
    script = Path(package.__file__).with_name("axe.min.js").read_text("utf-8")
    theme, width = request.param.split("-")
    context = browser.new_context(viewport={"width": int(width), "height": 800}, color_scheme=theme)
    page = context.new_page()
    page.set_default_timeout(PATIENCE)

    def findings(chapter):
        page.goto((BUILT / chapter).as_uri())
        page.evaluate(WAKE)
        page.evaluate(THIN)
        page.evaluate(script)
        return page.evaluate(AXE)

    findings.name = request.param
    yield findings
    context.close()


@pytest.mark.skipif(not CHAPTERS, reason="the book is not built: `make book` first")
def test_no_page_shuts_readers_out(axe):
    """Every page in the light; in the dark, whose colours are the same on all, a third, wide and narrow."""
    pages = {"light-1280": CHAPTERS, "dark-1280": CHAPTERS[::3], "dark-390": CHAPTERS[1::3]}[axe.name]
    assert {page: found for page in pages if (found := axe(page))} == {}


def test_what_shuts_readers_out_is_found(axe, tmp_path):
    (tmp_path / "page.html").write_text(
        "<html><body><img src=''><p style='color: #ccc'>pale</p></body></html>"
    )
    found = {name for name, _ in axe(tmp_path / "page.html")}
    assert {"image-alt", "html-has-lang"} <= found


# The styles of up to two elements of each kind.
STYLES = """async () => {
    await document.fonts.ready;
    const seen = new Map(), styles = [];
    for (const node of document.querySelectorAll("body, body *:not(math *)")) {
        const kind = `${node.tagName}.${node.getAttribute("class")}`;
        seen.set(kind, (seen.get(kind) ?? 0) + 1);
        if (seen.get(kind) > 2) continue;
        for (const part of [null, "::before", "::after"]) {
            const style = getComputedStyle(node, part);
            const names = [...style].filter((name) => !name.startsWith("--"));
            const all = names.map((name) => `${name}: ${style.getPropertyValue(name)}`);
            styles.push([kind, part, ...all].join("; "));
        }
    }
    return styles;
}"""


@pytest.mark.skipif(not CHAPTERS, reason="the book is not built: `make book` first")
@pytest.mark.parametrize(
    "chapter", ["index.html", "search.html", "types/basic.html", "foundations/bottleneck.html"]
)
@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 390)])
def test_the_purged_sheet_looks_like_the_whole(browser, chapter, theme, width):
    """The page's one sheet against the sheets that it was made of."""
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=theme)
    page.set_default_timeout(PATIENCE)
    page.goto((BUILT / chapter).as_uri(), wait_until="networkidle")  # a live figure has its data
    page.add_style_tag(content="*, ::before, ::after { transition: none !important }")
    purged = page.evaluate(STYLES)
    page.evaluate(
        """() => document.querySelector("link[rel=stylesheet]")
            .replaceWith(Object.assign(document.createElement("meta"), {id: "sheets"}))"""
    )
    unstyled = page.evaluate(STYLES)
    for file in light.sheets(BUILT / "_static"):  # in the place of the one, before a live figure's own sheet
        page.evaluate(
            """(href) => new Promise((onload) => document.querySelector("#sheets").before(
                Object.assign(document.createElement("link"), {rel: "stylesheet", href, onload})))""",
            file.as_uri(),
        )
    whole = page.evaluate(STYLES)
    page.close()
    assert len(whole) > 100
    assert unstyled != whole
    assert [pair for pair in zip(purged, whole, strict=True) if pair[0] != pair[1]] == []
