"""`aelib.interactive`: the HTML and the pictures; tests/test_browser.py sees them move."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aelib.book import interactive
from aelib.plots import COLOURS

STATIC = Path(__file__).parents[2] / "book" / "_static"


def frames(n=3, k=2, channels=1):
    return np.random.default_rng(0).random((n, k, 5, 4, channels)).astype("float32")


def parse(figure):
    """Read a figure's HTML back: {tag: attributes}, and the text."""
    found, texts, parser = {}, [], HTMLParser()
    parser.handle_starttag = lambda tag, attributes: found.setdefault(tag, dict(attributes))
    parser.handle_data = texts.append
    parser.feed(figure._repr_html_())
    return found, "".join(texts)


def pixels(figure):
    return np.asarray(Image.open(io.BytesIO(figure.picture)).convert("RGBA"))


def test_html_holds_the_data_the_picture_and_the_words():
    nasty = """<script>"a" & 'b' &lt;</script>"""
    figure = interactive.slider(frames(), [2, 4, 8], nasty, alt=nasty, captions=["x", nasty, "'"], start=-1)
    tags, text = parse(figure)
    assert list(tags) == ["figure", "img", "figcaption"]
    assert tags["figure"]["data-kind"] == "slider"
    assert json.loads(tags["figure"]["data-figure"]) == figure.data
    assert figure.data["start"] == 2
    assert figure.data["captions"] == ["x", nasty, "'"]
    assert tags["img"]["alt"] == nasty
    picture = tags["img"]["src"].removeprefix("data:image/png;base64,")
    assert base64.b64decode(picture, validate=True) == figure.picture
    assert text == f"From top to bottom: {nasty} 2 (x), 4 ({nasty}), 8 (')."
    assert repr(figure) == f"<slider: {nasty}>"


def test_slider_lays_out_grey_pictures():
    images = frames()
    figure = interactive.slider(images, [2, 4, "∞"], "size", alt="a", reference=("originals", images[0] / 2))
    sheet = pixels(figure)
    assert (figure.data["width"], figure.data["height"]) == (10, 6)
    assert sheet.shape == (4 * 6, 10, 4)
    rows = np.concatenate([images[:1] / 2, images])
    for i, k in np.ndindex(4, 2):
        tile = sheet[6 * i : 6 * i + 6, 5 * k : 5 * k + 5]
        # Half a level of 63, and half a level of 255 twice.
        np.testing.assert_allclose(tile[:5, :4, 0] / 255, rows[i, k, ..., 0], atol=0.5 / 63 + 1 / 255)
        assert (tile[:5, :4, 3] == 255).all()
        assert not tile[5:, :, 3].any()
        assert not tile[:, 4:, 3].any()
    assert figure.caption == "From top to bottom: originals; size 2, 4, ∞."
    assert figure.data["reference"] == "originals"


def test_colour_is_kept_exactly():
    images = np.random.default_rng(1).integers(0, 256, (2, 6, 7, 3), np.uint8)
    sheet = pixels(interactive.slider(images, "ab", "size", alt="a"))
    np.testing.assert_array_equal(sheet[:6, :7, :3], images[0])
    np.testing.assert_array_equal(sheet[7:13, :7, :3], images[1])


def test_explorer_draws_y_upwards():
    levels = np.arange(6).reshape(2, 3) / 5  # rows (y), columns (x)
    images = np.broadcast_to(levels[..., None, None], (2, 3, 4, 4))
    points = [[0, 10], [2, 20], [1, 15], [2.6, 10], [0, 26]]
    figure = interactive.explorer(images, [0, 1, 2], [10, 20], alt="a", points=points, names="abcde")
    sheet = pixels(figure)[..., 0] / 255
    np.testing.assert_allclose(sheet[1::5, 1::5], levels[::-1], atol=0.01)
    assert figure.data["points"] == [[167, 750, "a"], [833, 250, "b"], [500, 500, "c"]]
    assert figure.data["start"] == [1, 1]
    assert (figure.data["x"], figure.data["y"]) == (["0", "1", "2"], ["10", "20"])
    assert "points" not in interactive.explorer(images, [0, 1, 2], [10, 20], alt="a").data
    dots = interactive.explorer(images, [0, 1, 2], [10, 20], alt="a", points=points, start=(0, -1)).data
    assert [p[2] for p in dots["points"]] == ["", "", ""]
    assert dots["start"] == [0, 1]


def test_size_stays_small():
    images = np.random.default_rng(0).random((8, 8, 28, 28, 1))  # noise, the worst to compress
    assert len(interactive.slider(images, range(8), "size", alt="a")._repr_html_()) < 56_000


@pytest.mark.parametrize(
    ("value", "text"), [(-0.12345, "−0.123"), (np.nan, ""), (None, ""), (4.0, "4"), ("a-b", "a-b")]
)
def test_short(value, text):
    assert interactive.short(value) == text


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: interactive.slider(frames(), [1, 2], "s", alt="a"), "as many, got 3, 2 and no"),
        (lambda: interactive.slider(frames(), [1, 2, 3], "s", alt="a", captions=["x"]), "got 3, 3 and 1"),
        (lambda: interactive.slider(frames(), [1, 2, 3], "s", alt=" "), "alt must .* got ' '"),
        (lambda: interactive.slider(frames(), [1, 2, 3], "s", alt="a", start=3), "among 3, got 3"),
        (
            lambda: interactive.slider(frames(), [1, 2, 3], "s", alt="a", start=-4),
            "start must be .* >= -3, got -4",
        ),
        (
            lambda: interactive.slider(frames(), [1, 2, 3], "s", alt="a", start=0.5),
            "start must be .* got 0.5",
        ),
        (lambda: interactive.slider(2 * frames(), [1, 2, 3], "s", alt="a"), r"in \[0, 1\]; got float32 from"),
        (lambda: interactive.slider(frames() * np.nan, [1, 2, 3], "s", alt="a"), "from nan to nan"),
        (lambda: interactive.slider(frames().astype(int), [1, 2, 3], "s", alt="a"), "got int64"),
        (
            lambda: interactive.slider(frames(channels=2), [1, 2, 3], "s", alt="a"),
            r"got shape \(3, 2, 5, 4, 2\)",
        ),
        (lambda: interactive.slider(np.ones((3, 4)), [1, 2, 3], "s", alt="a"), "got shape"),
        (lambda: interactive.slider([], [], "s", alt="a"), "among 0, got 0"),
        (
            lambda: interactive.slider(frames(), [1, 2, 3], "s", alt="a", reference=("o", frames())),
            "frame's shape",
        ),
        (lambda: interactive.explorer(frames(), [0, 1, 2], [0, 1], alt="a"), r"= \(2, 3\), got \(3, 2"),
        (lambda: interactive.explorer(frames(), [1, 0], [0, 1, 2], alt="a"), r"must increase, got \[1, 0\]"),
        (
            lambda: interactive.explorer(frames(), [0, 1], [0, 1, 2], alt="a", points=[[0, 0]], names="ab"),
            r"got \(1, 2\), 2 names",
        ),
    ],
)
def test_errors_show_the_value(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_script_and_style_are_plain():
    script, style = ((STATIC / f"interactive.{kind}").read_text("utf-8") for kind in ("js", "css"))
    assert len(script.splitlines()) < 300
    assert not re.search(r"eval|Function\(|innerHTML|document\.write|import\b|fetch|XMLHttp", script)
    assert re.findall(r"https?://[^\"]+", script + style) == [
        "http://www.w3.org/2000/svg"
    ]  # a name, not a load
    assert not re.search(r"url\(|@import|animation|transition", style)
    for name, colour in (("read", "autoencoder"), ("computed", "validation")):
        assert f"--ae-{name}: {COLOURS[colour]};" in style
