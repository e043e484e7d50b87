"""The figures of `aelib.book.live` in a real browser: what the page computes, and who can use it."""

import base64
import io
import itertools
import json
import shutil
import sys

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image
from sklearn.decomposition import PCA
from test_browser import BUILT, CHROMIUM, LOW_CONTRAST, PAGE, PATIENCE, STATIC, browser, show  # noqa: F401

from aelib import Autoencoder, VariationalAutoencoder, blocks
from aelib.book import live, quantized
from aelib.book.quantized import QuantizedNet

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt-get install chromium)")
sys.path.append(str(STATIC.parent / "_ext"))
import light  # noqa: E402

SHAPE = (12, 12, 1)
RNG = np.random.default_rng(0)


def spots(n, seed=0):
    """Spots of light at random places, (n, 12, 12)."""
    row, column = np.random.default_rng(seed).uniform(3, 9, (2, n, 1, 1))
    y, x = np.mgrid[:12, :12]
    return np.exp(-((y - row) ** 2 + (x - column) ** 2) / 4).astype("float32")


X = spots(40)


@pytest.fixture(scope="module")
def models():
    """A dense and a convolutional net, a variational one with a code of 2, each with few weights."""
    keras.utils.set_random_seed(0)
    dense = Autoencoder(
        blocks.dense_encoder(SHAPE, 3, hidden=16),
        blocks.dense_decoder(SHAPE, 3, hidden=16, activation="gelu"),
    )
    encoder = keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.Conv2D(6, 3, padding="same"),
            layers.BatchNormalization(),
            layers.LeakyReLU(),
            layers.MaxPooling2D(3, 1, padding="same"),
            layers.MaxPooling2D(2),
            layers.Conv2D(5, 3, 2, "valid", activation="elu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(4),
        ],
        name="encoder",
    )
    decoder = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(3 * 3 * 6, "silu"),
            layers.Reshape((3, 3, 6)),
            layers.Conv2DTranspose(6, 4, 2, "same", activation="relu"),
            layers.BatchNormalization(),
            layers.UpSampling2D(2),
            layers.Conv2DTranspose(4, (4, 2), (1, 1), "valid", activation="softplus"),
            layers.Cropping2D(((2, 1), (0, 1))),
            layers.Conv2D(1, 3, padding="same"),
        ],
        name="decoder",
    )
    conv = Autoencoder(encoder, decoder)
    flat = VariationalAutoencoder(
        blocks.dense_encoder(SHAPE, 2 * 2, hidden=16), blocks.dense_decoder(SHAPE, 2, hidden=16)
    )
    for model in (dense, conv, flat):
        model.compile(keras.optimizers.Adam(0.01))
        model.fit(X[..., None], epochs=20 if model is dense else 3, verbose=0)
    return {"dense": dense, "conv": conv, "flat": flat}


def nets(model):
    halves = live._halves(model)
    return halves.encoder, halves.decoder


def draw(model, **options):
    return live.draw(
        model, X[:4], alt="spots and reconstructions", caption="Draw a spot.", labels="abcd", **options
    )


def walk(model):
    codes, labels = model.encode(X[..., None]), range(len(X))
    return live.walk(model, codes, labels, size=(12, 12), alt="a map of spots", caption="Move the point.")


def corrupt(model, **options):
    return live.corrupt(model, X[:4], alt="spots, corrupted", caption="Add noise.", **options)


def score(model, **options):
    return live.score(model, X[:4], 0.02, alt="spots and scores", caption="Draw a spot.", **options)


def ready(page, number=0):
    """Wait for a figure to run its net, and return it."""
    figure = page.locator("figure").nth(number)
    figure.scroll_into_view_if_needed()
    page.wait_for_function(
        "n => document.querySelectorAll('figure')[n].live?.milliseconds !== undefined", arg=number
    )
    return figure


def state(figure, name):
    """Return what the figure computed last, once it has drawn what was asked for."""
    value = figure.evaluate(
        """async (figure, name) => {
            for (let i = 0; i < 3; i += 1) await new Promise(requestAnimationFrame);
            const value = figure.live[name];
            return value?.length === undefined || typeof value === "string" ? value : [...value];
        }""",
        name,
    )
    return np.float32(value) if isinstance(value, list) else value


def pixels(canvas):
    """Return the greys of a canvas, from 0 to 1, as they are stored in it."""
    values = canvas.evaluate(
        "c => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data].filter((_, i) => !(i % 4))"
    )
    return np.array(values) / 255


def stroke(page, pad, *points):
    box = pad.bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=4)
    page.mouse.up()


@pytest.mark.parametrize("name", ["dense", "conv"])
def test_the_page_computes_what_python_computes(show, models, name):  # noqa: F811
    model = models[name]
    pca = PCA(model.decoder.input_shape[-1]).fit(X.reshape(len(X), -1))
    options = {"neighbors": X[4:], "neighbor_labels": range(36)} if name == "dense" else {}
    page = show(draw(model, pca=pca, **options))
    figure, (encoder, decoder) = ready(page), nets(model)
    for i in range(4):
        page.get_by_role("button", name=f"load sample {i + 1}: {'abcd'[i]}").click()
        x = state(figure, "input")
        np.testing.assert_allclose(x, np.rint(X[i].ravel() * 255) / 255, atol=1e-6)
        code = state(figure, "code")
        np.testing.assert_allclose(code, encoder.evaluate(x[None])[0], atol=1e-3)
        output = state(figure, "output")
        np.testing.assert_allclose(output, decoder.evaluate(code[None]).ravel(), atol=1e-3)
        own = model.reconstruct(x.reshape(1, *SHAPE)).ravel()
        assert np.sqrt(np.square(output - own).mean()) <= live.TOLERANCE
        np.testing.assert_allclose(
            state(figure, "pca"), pca.inverse_transform(pca.transform(x[None]))[0], atol=0.02
        )
        shown = pixels(page.get_by_role("img", name="the net's reconstruction"))
        np.testing.assert_allclose(shown, np.clip(output, 0, 1), atol=0.5 / 255 + 1e-6)
        error = np.square(x - output).mean()
        label = page.get_by_role("img", name="the net's reconstruction").get_attribute("aria-label")
        assert float(label.split("error ")[1].replace("·10⁻", "e-")) == pytest.approx(error, rel=0.01)
        if options:
            distances = np.square(encoder.evaluate(X[4:]) - code).sum(axis=1)
            assert state(figure, "nearest")[0] in np.argsort(distances)[:2]
    print(f"{name}: {state(figure, 'milliseconds'):.1f} ms a frame")


@pytest.mark.parametrize("name", ["relu", "sigmoid", "tanh", "silu", "gelu", "leaky_relu", "elu", "softplus"])
def test_every_activation(show, name):  # noqa: F811
    keras.utils.set_random_seed(1)
    encoder = blocks.dense_encoder(144, 2, hidden=4, activation=name)
    encoder.layers[1].set_weights([8 * w for w in encoder.layers[1].get_weights()])
    page = show(draw((encoder, blocks.dense_decoder(144, 2, hidden=4, activation=name))))
    figure = ready(page)
    code = QuantizedNet.from_keras(encoder).evaluate(state(figure, "input")[None])[0]
    np.testing.assert_allclose(state(figure, "code"), code, atol=1e-3)


def test_drawing_by_mouse(show, models):  # noqa: F811
    page = show(draw(models["dense"]))
    figure, pad = ready(page), page.get_by_role("application", name="drawing pad")
    page.get_by_role("button", name="clear the pad").click()
    assert not state(figure, "input").any()
    empty = state(figure, "code")
    stroke(page, pad, (0.1, 0.1), (0.3, 0.1), (0.3, 0.25))
    x = state(figure, "input").reshape(12, 12)
    assert (state(figure, "code") != empty).any()
    # Brought to the middle and to its size, as in Python.
    middle = [(x.sum(axis=1 - axis) * (np.arange(12) + 0.5)).sum() / x.sum() for axis in (0, 1)]
    assert middle == pytest.approx([6, 6], abs=0.15)
    ink = pixels(pad).reshape(48, 48)
    np.testing.assert_allclose(x, live.centered(ink, (12, 12)), atol=0.02)
    encoder, _ = nets(models["dense"])
    np.testing.assert_allclose(state(figure, "code"), encoder.evaluate(x[None])[0], atol=1e-3)


def test_drawing_without_centring_stays_where_it_is(show, models):  # noqa: F811
    page = show(draw(models["dense"], center=False))
    figure, pad = ready(page), page.get_by_role("application", name="drawing pad")
    page.get_by_role("button", name="clear the pad").click()
    stroke(page, pad, (0.125, 0.125), (0.125, 0.125))
    x = state(figure, "input").reshape(12, 12)
    assert x[1, 1] > 0.9
    assert not x[5:].any()
    assert not x[:, 5:].any()


def test_drawing_by_keyboard(show, models):  # noqa: F811
    page = show(draw(models["dense"], center=False))
    figure, pad = ready(page), page.get_by_role("application", name="drawing pad")
    pad.focus()
    page.keyboard.press("Delete")
    assert not state(figure, "input").any()
    for _ in range(3):
        page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowLeft")
    assert page.locator(".ae-cursor").is_visible()
    before = state(figure, "code")
    page.keyboard.press("Space")
    x = state(figure, "input").reshape(12, 12)
    assert np.unravel_index(x.argmax(), x.shape) == (3, 5)
    assert (state(figure, "code") != before).any()
    for _ in range(4):
        page.keyboard.press("Shift+ArrowDown")
    x = state(figure, "input").reshape(12, 12)
    assert (x[3:8, 5] > 0.9).all()
    assert x[10].max() == 0
    page.keyboard.press("Tab")
    assert not page.locator(".ae-cursor").is_visible()
    assert page.evaluate("document.activeElement.textContent") == "Clear"


def test_drawing_by_touch(show, models):  # noqa: F811
    page = show(draw(models["dense"]), score(models["dense"]), width=390, has_touch=True, is_mobile=True)
    figure, pad = ready(page), page.get_by_role("application", name="drawing pad").first
    page.get_by_role("button", name="clear the pad").first.tap()
    box = pad.bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 3)
    assert state(figure, "input").max() > 0.5
    assert pad.evaluate("e => getComputedStyle(e).touchAction") == "none"
    for control in page.locator("button:visible, input:visible").all():
        assert control.bounding_box()["height"] >= 44


def test_sliders_move_the_picture(show, models):  # noqa: F811
    page = show(draw(models["dense"]))
    figure, (_, decoder) = ready(page), nets(models["dense"])
    first, x = state(figure, "output"), state(figure, "input")
    slider = page.get_by_role("slider", name="z₂")
    code = state(figure, "code")
    assert float(slider.get_attribute("aria-valuetext").replace("−", "-")) == pytest.approx(
        code[1], abs=0.006
    )
    slider.press("End")
    low, high = draw(models["dense"]).data["ranges"][1]
    moved = state(figure, "code")
    np.testing.assert_allclose(moved, [code[0], high, code[2]], atol=1e-5)
    np.testing.assert_allclose(state(figure, "output"), decoder.evaluate(moved[None]).ravel(), atol=1e-3)
    assert np.abs(state(figure, "output") - first).max() > 0.01
    np.testing.assert_array_equal(state(figure, "input"), x)
    assert low < high
    page.get_by_role("button", name="back to the code of the drawing").click()
    np.testing.assert_allclose(state(figure, "code"), code)


def test_a_long_code_is_a_chart_and_its_sliders_are_folded(show):  # noqa: F811
    model = (blocks.dense_encoder(144, 24, hidden=()), blocks.dense_decoder(144, 24, hidden=()))
    page = show(draw(model))
    figure = ready(page)
    assert page.get_by_role("img", name="the code, 24 numbers").is_visible()
    assert not page.get_by_role("slider", name="z₂₄").is_visible()
    page.get_by_text("Move the 24 numbers").click()
    page.get_by_role("slider", name="z₂₄").press("Home")
    assert state(figure, "code")[23] == pytest.approx(draw(model).data["ranges"][23][0])


def test_walk(show, models):  # noqa: F811
    made = walk(models["flat"])
    page = show(made)
    figure, (_, decoder) = ready(page), nets(models["flat"])
    map_ = page.get_by_role("application", name="map of the codes")
    seen = [state(figure, "code")]
    for key in ("ArrowRight", "ArrowUp", "Shift+ArrowLeft"):
        map_.press(key)
        seen.append(state(figure, "code"))
        expected = decoder.evaluate(seen[-1][None]).ravel()
        np.testing.assert_allclose(state(figure, "output"), expected, atol=1e-3)
    assert [tuple(np.sign(b - a)) for a, b in itertools.pairwise(seen)] == [(1, 0), (0, 1), (-1, 0)]
    box, (low, high) = map_.bounding_box(), np.transpose(made.data["ranges"])
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 4)
    np.testing.assert_allclose(
        state(figure, "code"), low + (high - low) * [0.25, 0.75], atol=0.02 * (high - low).max()
    )
    marker = page.locator(".ae-point").bounding_box()
    assert marker["x"] + marker["width"] / 2 == pytest.approx(box["x"] + box["width"] / 4, abs=4)
    assert "z₂" in page.get_by_role("img", name="picture decoded at").get_attribute("aria-label")
    low, high = np.array(made.data["ranges"]).T
    places = (models["flat"].encode(X[..., None]) - low) / (high - low)
    at = (state(figure, "code") - low) / (high - low)
    assert state(figure, "nearest") == str(np.square(places - at).sum(axis=1).argmin())
    page.get_by_role("slider", name="z₂").press("Home")
    assert state(figure, "code")[1] == pytest.approx(low[1])


@pytest.mark.parametrize("corruption", ["gaussian", "masking"])
def test_corrupt(show, models, corruption):  # noqa: F811
    page = show(corrupt(models["dense"], corruption=corruption, start=0.25))
    figure, (encoder, decoder) = ready(page), nets(models["dense"])
    level = page.get_by_role("slider")
    clean = np.rint(X[0].ravel() * 255) / 255
    first = state(figure, "input")
    assert state(figure, "level") == pytest.approx(0.25)
    expected = decoder.evaluate(encoder.evaluate(first[None])).ravel()
    np.testing.assert_allclose(state(figure, "output"), expected, atol=1e-3)
    level.press("End")
    most = state(figure, "input")
    changed = np.abs(most - clean).mean(), np.abs(first - clean).mean()
    assert changed[0] > changed[1] > 0
    level.press("Home")
    np.testing.assert_allclose(state(figure, "input"), clean, atol=1e-6)
    level.press("End")
    np.testing.assert_array_equal(state(figure, "input"), most)  # the noise is the same
    if corruption == "masking":
        assert not most.any()
    else:
        noise = state(figure, "noise")
        assert abs(noise.mean()) < 0.3
        assert noise.std() == pytest.approx(1, abs=0.2)
        np.testing.assert_allclose(most, np.clip(clean + noise, 0, 1), atol=1e-6)
        page.get_by_role("button", name="New noise").click()
        assert (state(figure, "input") != most).any()
    page.get_by_role("button", name="load sample 2").click()
    level.press("Home")
    np.testing.assert_allclose(state(figure, "input"), np.rint(X[1].ravel() * 255) / 255, atol=1e-6)
    assert "error 0" in page.get_by_role("img", name="corrupted").get_attribute("aria-label")


@pytest.mark.parametrize("measure", ["errors", "nll"])
def test_score(show, models, measure):  # noqa: F811
    model = models["dense"]
    page = show(score(model, measure=measure))
    figure, halves = ready(page), live._halves(model)
    for i in (0, 1, "drawn"):
        if i == "drawn":
            stroke(page, page.get_by_role("application"), (0.2, 0.2), (0.8, 0.8), (0.8, 0.2), (0.2, 0.8))
        else:
            page.get_by_role("button", name=f"load sample {i + 1}").click()
        x = state(figure, "input")[None]
        expected = live.scores_of(x, (halves.encoder + halves.raw).evaluate(x), "sigmoid", measure)[0]
        found = state(figure, "score")
        assert found == pytest.approx(expected, abs=1e-3)
        text = page.locator(".ae-text").inner_text()
        assert ("Above the threshold: looks unlike the training data" in text) == (found > 0.02)
        bar = page.get_by_role("img", name="score").bounding_box()
        filled, limit = (page.locator(f".ae-{name}").bounding_box() for name in ("filled", "limit"))
        assert (filled["width"] > limit["x"] - bar["x"]) == (found > 0.02)
    assert found > 0.02
    page.wait_for_function("document.querySelector('.ae-spoken').textContent.includes('Above')")
    assert page.locator(".ae-spoken").get_attribute("aria-live") == "polite"


@pytest.fixture(scope="module")
def four(models):
    return [draw(models["dense"]), walk(models["flat"]), corrupt(models["dense"]), score(models["dense"])]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_fits_and_reads(show, four, theme, width):  # noqa: F811
    page = show(*four, theme=theme, width=width, reduced_motion="reduce")
    for i in range(4):
        ready(page, i)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    fits = "[...document.querySelectorAll('.cell_output')].every((e) => e.scrollWidth <= e.clientWidth)"
    assert page.evaluate(fits)
    assert [low for low in page.evaluate(LOW_CONTRAST) if not str(low).startswith("saw only")] == []
    assert page.evaluate("document.getAnimations().length") == 0
    identifiers = page.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(identifiers) == len(set(identifiers))
    # Whatever can be moved or pressed has a name.
    nameless = """[...document.querySelectorAll('.ae-live :is(button, input, canvas, [role])')].filter((e) =>
        !(e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.length || e.ariaHidden))"""
    assert page.evaluate(f"{nameless}.map((e) => e.outerHTML)") == []


def test_without_scripts_and_in_print_the_picture_stays(show, four):  # noqa: F811
    page = show(*four, java_script_enabled=False, width=390)
    assert page.locator("button, input, .ae-live").count() == 0
    for i, figure in enumerate(four):
        assert page.get_by_role("img", name=figure.alt).is_visible()
        assert page.locator("figcaption").nth(i).inner_text() == figure.caption
    page = show(*four)
    for i in range(4):
        ready(page, i)
    assert not page.locator("figcaption").first.is_visible()
    page.emulate_media(media="print")
    for figure in four:
        assert page.get_by_role("img", name=figure.alt, exact=True).is_visible()
    assert not page.locator(".ae-live").first.is_visible()


def test_a_net_is_loaded_only_where_it_is_seen(show, four):  # noqa: F811
    page = show("<p style='height: 5000px'>far above</p>", four[0])
    assert page.locator("link[href*='live.css'], script[src*='live.js']").count() == 0
    ready(page)
    assert page.locator("script[src*='live.js']").count() == 1


def test_a_figure_of_an_unknown_kind_keeps_its_picture(show, four):  # noqa: F811
    page = show(four[0]._repr_html_().replace("live-draw", "live-none"), four[1])
    ready(page, 1)
    assert page.get_by_role("img", name=four[0].alt).is_visible()
    image = Image.open(io.BytesIO(page.get_by_role("img", name=four[0].alt).screenshot()))
    assert image.width > 100


def test_a_built_page_loads_the_data_of_a_net_where_it_is_seen(browser, four, tmp_path):  # noqa: F811
    static = tmp_path / "_static"
    static.mkdir()
    for name in ("interactive.js", "interactive.css", "live.js", "live.css", "style.css"):
        shutil.copy(STATIC / name, static)
    body = "".join(figure._repr_html_() for figure in four[:2])
    (tmp_path / "page.html").write_text(
        light.move_data(PAGE.format(theme="light", static="_static", body=body), static), "utf-8"
    )
    text = (tmp_path / "page.html").read_text("utf-8")
    assert "data-figure" not in text
    assert len(list((static / "live").glob("*.js"))) == 2
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto((tmp_path / "page.html").as_uri())
    for i in range(2):
        ready(page, i)
    page.close()


def unpacked(net):
    """Return a net as a page holds it; those of the book's figures are dense."""

    def array(text, kind):
        return np.frombuffer(base64.b64decode(text), kind)

    operations = []
    for layer in net["layers"]:
        if layer["kind"] == "dense":
            gain, scale, bias = (array(layer[name], "<f4") for name in ("gain", "scale", "bias"))
            weights = quantized.Weights(
                array(layer["values"], "i1").reshape(len(gain), len(scale)), gain, scale
            )
            operation = quantized._Dense(weights, bias, quantized._Activation(*layer["activation"]))
        elif layer["kind"] == "activation":
            operation = quantized._Activation(*layer["activation"])
        else:
            assert layer["kind"] == "reshape"
            operation = quantized._Reshaping(tuple(layer["shape"]))
        operations.append(operation)
    return QuantizedNet(tuple(net["shape"]), (), tuple(operations))


def test_a_net_is_unpacked_as_it_was(models):
    for net in nets(models["dense"]):
        x = np.random.default_rng(1).random((3, *net.input_shape), np.float32)
        np.testing.assert_array_equal(unpacked(net.packed()).evaluate(x), net.evaluate(x))


@pytest.mark.parametrize("chapter", ["foundations/first_autoencoder", "types/variational"])
def test_figures_of_the_built_book_compute_what_python_computes(browser, chapter):  # noqa: F811
    path = BUILT / f"{chapter}.html"
    if not path.is_file():
        pytest.skip("the book is not built: `make book` first")
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(path.as_uri())
    figures = page.locator("figure")
    places = [
        i for i in range(figures.count()) if "live" in (figures.nth(i).get_attribute("data-kind") or "")
    ]
    assert places
    for place in places:
        figure = ready(page, place)
        source = BUILT / "_static" / "live" / f"{figure.get_attribute('data-source')}.js"
        data = json.loads(source.read_text("utf-8").partition(" = ")[2].rstrip(";\n"))
        slider, seen = figure.get_by_role("slider").first, []
        for key in ("Home", "End", "ArrowLeft"):
            slider.press(key)
            code = state(figure, "code")
            expected = unpacked(data["decoder"]).evaluate(code[None]).ravel()
            np.testing.assert_allclose(state(figure, "output"), expected, atol=1e-3)
            seen.append(expected)
        assert np.abs(seen[0] - seen[1]).max() > 0.01
        if "encoder" in data:
            for button in figure.get_by_role("button", name="load sample").all()[:3]:
                button.click()
                expected = unpacked(data["encoder"]).evaluate(state(figure, "input")[None])[0]
                np.testing.assert_allclose(state(figure, "code"), expected, atol=1e-3)
    page.close()
