"""`aelib.book.live`: what the figures store and refuse; tests/test_live_browser.py sees them run."""

import base64
import io
import json
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image
from sklearn.decomposition import PCA
from test_interactive import parse

from aelib import (
    Autoencoder,
    ImportanceWeightedAutoencoder,
    VariationalAutoencoder,
    anomaly,
    blocks,
    likelihoods,
)
from aelib.book import live
from aelib.book.quantized import QuantizedNet

STATIC = Path(__file__).parents[2] / "book" / "_static"
SHAPE = (12, 12, 1)
WORDS = {"alt": "spots and what the net makes of them", "caption": "Draw a spot."}


@pytest.fixture(scope="module")
def images():
    """Spots of light at random places, (40, 12, 12)."""
    rng = np.random.default_rng(0)
    row, column = rng.uniform(3, 9, (2, 40, 1, 1))
    y, x = np.mgrid[:12, :12]
    return np.exp(-((y - row) ** 2 + (x - column) ** 2) / 4).astype("float32")


def dense(code=3, kind=Autoencoder, **options):
    twice = 2 if kind in (VariationalAutoencoder, ImportanceWeightedAutoencoder) else 1
    encoder = blocks.dense_encoder(SHAPE, twice * code, hidden=8)
    return kind(encoder, blocks.dense_decoder(SHAPE, code, hidden=8), **options)


def floats(text):
    return np.frombuffer(base64.b64decode(text), "<f4")


def weights(packed):
    gain, scale = floats(packed["gain"]), floats(packed["scale"])
    whole = np.frombuffer(base64.b64decode(packed["values"]), np.int8)
    return whole.reshape(-1, len(scale)) * gain[:, None] * scale


def make(kind, images, model=None, **options):
    options = WORDS | options
    model = model or dense(2 if kind == "walk" else 3)
    if kind == "draw":
        return live.draw(model, images[:4], **options)
    if kind == "walk":
        codes = np.random.default_rng(0).normal(size=(30, 2))
        return live.walk(model, codes, ["ab"[i % 2] for i in range(30)], size=(12, 12), **options)
    if kind == "corrupt":
        return live.corrupt(model, images[:4], **options)
    return live.score(model, images[:4], 0.1, **options)


KINDS = ("draw", "walk", "corrupt", "score")


@pytest.mark.parametrize("kind", KINDS)
def test_html_holds_data_picture_and_words(kind, images):
    figure = make(kind, images, caption="""<b>"Draw" & 'see'</b>""")
    tags, text = parse(figure)
    assert list(tags) == ["figure", "img", "figcaption"]
    assert tags["figure"]["data-kind"] == f"live-{kind}"
    assert json.loads(tags["figure"]["data-figure"]) == figure.data
    assert figure.data["caption"] == """<b>"Draw" & 'see'</b>"""
    assert text == figure.caption
    assert text.startswith(figure.data["caption"])
    assert tags["img"]["alt"] == WORDS["alt"]
    rows = {"draw": 2, "walk": 9, "corrupt": 3, "score": 2}[kind]
    columns = 9 if kind == "walk" else 4
    assert Image.open(io.BytesIO(figure.picture)).size == (13 * columns, 13 * rows)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("word", ["alt", "caption"])
def test_words_are_required(kind, word, images):
    with pytest.raises(ValueError, match=f"{word} must .* got ' '"):
        make(kind, images, **{word: " "})
    with pytest.raises(TypeError, match=word):
        live.draw(dense(), images[:2], **{name: text for name, text in WORDS.items() if name != word})


@pytest.mark.parametrize("kind", KINDS)
def test_a_figure_too_large_says_how_large_and_what_to_do(kind, images):
    with pytest.raises(ValueError, match=r"has \d+ kB, 3 are allowed \(.*(net|decoder) \d+ kB.*narrower"):
        make(kind, images, limit=3000)


def test_figures_of_a_page_are_small():
    x = np.random.default_rng(0).random((60, 28, 28), "float32")
    encoder = blocks.dense_encoder((28, 28, 1), 16, hidden=64)
    model = Autoencoder(encoder, blocks.dense_decoder((28, 28, 1), 16, hidden=64))
    pca = PCA(16).fit(x.reshape(60, -1))
    figure = live.draw(model, x[:10], pca=pca, neighbors=x, **WORDS)
    assert len(figure._repr_html_()) < live.LIMIT


@pytest.mark.parametrize(
    ("kind", "likelihood", "mean"),
    [
        (Autoencoder, "bernoulli", "sigmoid"),
        (Autoencoder, "gaussian", "linear"),
        (Autoencoder, "laplace", "linear"),
        (VariationalAutoencoder, "bernoulli", "sigmoid"),
        (VariationalAutoencoder, "gaussian", "linear"),
        (ImportanceWeightedAutoencoder, "bernoulli", "sigmoid"),
    ],
)
def test_halves_are_those_of_the_model(kind, likelihood, mean, images):
    model = dense(kind=kind, likelihood=likelihood)
    halves = live._halves(model)
    assert halves.mean == mean
    x = images[:5, ..., None]
    np.testing.assert_allclose(halves.encoder.evaluate(x), model.encode(x), atol=0.02)
    np.testing.assert_allclose(halves.whole.evaluate(x), model.reconstruct(x), atol=0.02)
    np.testing.assert_allclose(halves.own(images[:5]), model.reconstruct(x), atol=1e-6)


def test_a_pair_of_keras_models_will_do(images):
    encoder = blocks.dense_encoder(144, 3, hidden=8)
    decoder = blocks.dense_decoder(144, 3, hidden=8, output_activation="sigmoid")
    figure = live.draw((encoder, decoder), images[:3], **WORDS)
    assert figure.data["decoder"]["layers"][-2]["activation"] == ["sigmoid", None]
    assert [layer["kind"] for layer in figure.data["encoder"]["layers"]] == ["reshape", "dense", "dense"]
    two = blocks.dense_decoder(SHAPE, 2, hidden=8)
    assert live.walk(two, np.eye(2), size=(12, 12), **WORDS).data["points"][0][2] == ""


def test_samples_are_stored_as_bytes(images):
    figure = make("draw", images, labels=[1, 2, 3, "x"])
    stored = np.frombuffer(base64.b64decode(figure.data["samples"]), np.uint8).reshape(4, 12, 12)
    np.testing.assert_allclose(stored / 255, images[:4], atol=0.5 / 255 + 1e-7)
    assert figure.data["names"] == ["1", "2", "3", "x"]
    same = live.draw(dense(), stored[..., None], **WORDS)
    assert same.data["samples"] == figure.data["samples"]


def test_pca_is_stored_in_8_bits(images):
    flat = images.reshape(len(images), -1)
    pca = PCA(3).fit(flat)
    packed = make("draw", images, pca=pca).data["pca"]
    matrix, mean = weights(packed), floats(packed["mean"])
    np.testing.assert_allclose(matrix.T, pca.components_, atol=np.abs(pca.components_).max() / 254)
    rebuilt = (flat - mean) @ matrix @ matrix.T + mean
    np.testing.assert_allclose(rebuilt, pca.inverse_transform(pca.transform(flat)), atol=0.02)
    with pytest.raises(
        ValueError, match=r"3 components of 144 pixels.*got \(2, 144\): PCA\(n_components=3\)"
    ):
        make("draw", images, pca=PCA(2).fit(flat))


def test_neighbors_are_codes_and_small_pictures(images):
    model = dense()
    figure = live.draw(model, images[:4], neighbors=images, neighbor_labels=range(40), **WORDS)
    packed = figure.data["neighbors"]
    encoder = QuantizedNet.from_keras(model.encoder)
    codes = encoder.evaluate(np.rint(images * 255) / 255)
    np.testing.assert_allclose(weights(packed), codes, atol=np.abs(codes).max() / 254 + 1e-6)
    assert (packed["columns"], packed["size"], packed["names"][39]) == (20, [6, 6], "39")
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(packed["sheet"]))).convert("L"))
    assert sheet.shape == (2 * 7, 20 * 7)
    mean = images[21].reshape(6, 2, 6, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(sheet[7:13, 7:13] / 255, mean, atol=0.05)
    low, high = np.transpose(figure.data["ranges"])
    assert (low < codes.min(axis=0)).all()
    assert (high > codes.max(axis=0)).all()


def test_long_codes_are_folded(images):
    assert not make("draw", images, dense(20)).data["folded"]
    figure = make("draw", images, dense(21))
    assert figure.data["folded"]
    assert figure.data["latents"][20] == "z₂₁"


def test_the_map_holds_all_points_with_y_upwards():
    codes = [[0.0, 10.0], [1.0, 20.0], [0.5, 15.0]]
    decoder = blocks.dense_decoder((2, 2), 2, hidden=())
    figure = live.walk(decoder, codes, "abc", size=(2, 2), **WORDS)
    assert figure.data["points"] == [[83, 917, "a"], [917, 83, "b"], [500, 500, "c"]]
    np.testing.assert_allclose(figure.data["ranges"], [[-0.1, 1.1], [9, 21]])
    assert "z₁ from −0.1 to 1.1, left to right, and at z₂ from 9 to 21, upwards" in figure.caption


def test_scores_are_those_of_anomaly(images):
    for likelihood, measure in (("bernoulli", "errors"), ("bernoulli", "nll"), ("gaussian", "errors")):
        model = dense(likelihood=likelihood)
        x = (np.rint(images[:5] * 255) / 255).astype("float32")[..., None]
        halves = live._halves(model)
        raw = (halves.encoder + halves.raw).evaluate(x)
        expected = getattr(anomaly, measure)(model, x)
        np.testing.assert_allclose(live.scores_of(x, raw, halves.mean, measure), expected, atol=2e-3)


def test_thresholds_may_be_objects(images):
    threshold = anomaly.Threshold(0.1).fit(np.linspace(0, 1, 50))
    figure = live.score(dense(), images[:2], threshold, **WORDS)
    assert figure.data["threshold"] == threshold.value
    assert f"threshold {threshold.value:.3g}" in figure.caption
    assert figure.data["most"] >= 2.5 * threshold.value
    with pytest.raises(ValueError, match="no value yet"):
        live.score(dense(), images[:2], anomaly.Threshold(0.1), **WORDS)


def test_centred_drawings():
    ink = np.zeros((48, 48))
    ink[2:10, 4:8] = 1  # 8 high, 4 wide, in a corner
    done = live.centered(ink, (12, 12))
    rows, columns = np.nonzero(done)
    # The longer side is 5/7 of 12 pixels, and the middle is in the middle.
    assert np.ptp(rows) + 1 == pytest.approx(12 * 5 / 7, abs=1.5)
    assert np.ptp(columns) + 1 == pytest.approx(12 * 5 / 14, abs=2)
    middle = [(done.sum(axis=1 - axis) * (np.arange(12) + 0.5)).sum() / done.sum() for axis in (0, 1)]
    assert middle == pytest.approx([6, 6], abs=0.1)
    # Without centring, or without ink, the drawing is only made smaller: each pixel the mean of 16.
    plain = live.centered(ink, (12, 12), center=False)
    np.testing.assert_allclose(plain, ink.reshape(12, 4, 12, 4).mean(axis=(1, 3)))
    assert not live.centered(np.zeros((48, 48)), (12, 12)).any()


def test_8_bits_that_change_the_picture_are_refused(images):
    model = dense()
    layer = model.decoder.layers[0]
    kernel, bias = layer.get_weights()
    kernel = np.random.default_rng(0).normal(size=kernel.shape)
    kernel += 1000 * np.eye(*kernel.shape)  # one weight far larger than the rest of its row and column
    layer.set_weights([kernel, bias])
    first = model.encoder.layers[-1]
    matrix, bias = first.get_weights()
    matrix[:, 0], bias[0] = 0, 0
    first.set_weights([30 * matrix, bias])
    with pytest.raises(ValueError, match=r"differs from the net's own by .*; 0.02 is allowed: train with"):
        live.draw(model, images[:3], **WORDS)
    live.draw(model, images[:3], tolerance=1.0, **WORDS)


def softmax():
    return keras.Sequential([keras.Input((3,)), layers.Dense(144, "softmax", name="shares")])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: live.draw(dense(), np.zeros((3, 12, 12, 3)), **WORDS), r"grey, got \(3, 12, 12, 3\)"),
        (lambda x: live.draw(dense(), 255 * x, **WORDS), r"images must be in \[0, 1\], .*: divide by 255"),
        (lambda x: live.draw(dense(), x[:, :9], **WORDS), "have 9 x 12 pixels, but the model reads"),
        (lambda x: live.draw(dense(), x[:3], labels="ab", **WORDS), "labels must be 3, one each, got 2"),
        (lambda x: live.draw(dense(), x[:3], tolerance=0, **WORDS), "tolerance must be > 0"),
        (
            lambda x: live.draw(dense(likelihood=likelihoods.Poisson()), x[:3], **WORDS),
            "Bernoulli, Laplace or plain Gaussian likelihood, got Poisson",
        ),
        (
            lambda x: live.draw((blocks.dense_encoder(144, 3), softmax()), x[:3], **WORDS),
            "shares .*activation softmax",
        ),
        (
            lambda x: live.draw(
                (keras.Sequential([keras.Input(SHAPE), layers.Conv2D(2, 3)]), softmax()), x[:3], **WORDS
            ),
            "activation softmax",
        ),
        (lambda x: live.walk(dense(3), np.eye(3), **WORDS), r"must have shape \(n >= 2, 2\)"),
        (lambda x: live.walk(dense(2), np.eye(2), **WORDS), "return 28 x 28 pixels, got"),
        (lambda x: live.walk(dense(2), np.eye(2), "abc", size=(12, 12), **WORDS), "labels must be 2"),
        (lambda x: live.corrupt(dense(), x[:2], corruption="salt", **WORDS), "gaussian, masking; got 'salt'"),
        (lambda x: live.corrupt(dense(), x[:2], corruption="masking", most=2, **WORDS), r"most must be in"),
        (lambda x: live.corrupt(dense(), x[:2], start=2, **WORDS), r"start must be in \[0, 1\]"),
        (lambda x: live.score(dense(), x[:2], -1, **WORDS), "threshold must be > 0"),
        (
            lambda x: live.score(dense(likelihood="gaussian"), x[:2], 1, measure="nll", **WORDS),
            "is for a Bernoulli likelihood",
        ),
    ],
)
def test_errors_show_the_value(call, message, images):
    with pytest.raises(ValueError, match=message):
        call(images)


def test_models_of_another_kind_are_refused(images):
    with pytest.raises(TypeError, match=r"must be an .*Autoencoder or a pair of Keras models"):
        live.draw(softmax(), images, **WORDS)


def test_script_and_style_are_plain():
    script, style = ((STATIC / f"live.{kind}").read_text("utf-8") for kind in ("js", "css"))
    assert len(script) + len(style) < 45_000
    assert not re.search(r"eval\(|Function\(|innerHTML|document\.write|import\b|fetch|XMLHttp", script)
    assert not re.search(r"https?://", script + style)
    assert not re.search(r"url\(|@import|animation|transition", style)
    assert f"const FINE = {live.FINE};" in script
