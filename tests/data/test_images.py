import numpy as np
import pytest
from PIL import ExifTags, Image

from aelib import Autoencoder, anomaly, blocks
from aelib.data import folder

RNG = np.random.default_rng(0)
GREY, COLOR = RNG.integers(0, 256, (6, 4), np.uint8), RNG.integers(0, 256, (6, 4, 3), np.uint8)
DEEP = RNG.integers(0, 65536, (6, 4)).astype(np.uint16)


def save(path, name, pixels, **options):
    Image.fromarray(pixels).save(path / name, **options)


@pytest.fixture
def broken(tmp_path):
    """Return a folder with two images, one that ends too soon, and one that is none."""
    for name in ("a.png", "c.png", "d.png"):
        save(tmp_path, name, GREY)
    whole = (tmp_path / "c.png").read_bytes()
    (tmp_path / "c.png").write_bytes(whole[: len(whole) * 2 // 3])
    (tmp_path / "b.jpg").write_text("no image")
    return tmp_path


@pytest.mark.parametrize("suffix", ["png", "tif", "TIFF"])
@pytest.mark.parametrize(("pixels", "most"), [(GREY, 255), (DEEP, 65535), (COLOR, 255)])
def test_pixels_are_exact_without_loss(tmp_path, suffix, pixels, most):
    save(tmp_path, f"a.{suffix}", pixels)
    x = folder(tmp_path)
    assert x.dtype == np.float32
    np.testing.assert_allclose(x, (pixels / most).reshape(1, 6, 4, -1), rtol=1e-6)


def test_big_endian_of_16_bits(tmp_path):
    save(tmp_path, "a.tif", DEEP.astype(">u2"))
    np.testing.assert_allclose(folder(tmp_path)[0, ..., 0], DEEP / 65535, rtol=1e-6)


def test_jpeg(tmp_path):
    save(tmp_path, "a.JPG", np.full((8, 8, 3), (200, 100, 50), np.uint8), quality=95)
    np.testing.assert_allclose(folder(tmp_path)[0, 4, 4] * 255, (200, 100, 50), atol=4)


def test_order_is_by_name_and_other_files_are_left_alone(tmp_path):
    for value, name in enumerate(("b.png", "a.png", "c.png", "B.png")):
        save(tmp_path, name, np.full((2, 2), value, np.uint8))
    (tmp_path / "notes.txt").write_text("none")
    (tmp_path / ".a.png").write_text("none")
    (tmp_path / "more").mkdir()
    assert list(folder(str(tmp_path))[:, 0, 0, 0] * 255) == [3, 1, 0, 2]


def test_grey_among_colors_is_repeated(tmp_path):
    save(tmp_path, "a.png", COLOR)
    save(tmp_path, "b.png", GREY)
    save(tmp_path, "c.png", DEEP)
    x = folder(tmp_path)
    np.testing.assert_allclose(x[0], COLOR / np.float32(255))
    for row, grey in ((x[1], GREY / 255), (x[2], DEEP / 65535)):
        np.testing.assert_allclose(row, np.repeat(grey[..., None], 3, axis=-1), rtol=1e-6)


def test_channels_may_be_chosen(tmp_path):
    save(tmp_path, "a.png", COLOR)
    luma = COLOR @ np.array([0.299, 0.587, 0.114]) / 255
    np.testing.assert_allclose(folder(tmp_path, channels=1)[0, ..., 0], luma, atol=1 / 255)
    save(tmp_path, "a.png", GREY)
    assert folder(tmp_path, channels=3).shape == (1, 6, 4, 3)


def test_palettes_and_transparency(tmp_path):
    Image.fromarray(GREY).convert("LA").save(tmp_path / "a.png")
    assert folder(tmp_path).shape[-1] == 1
    Image.fromarray(COLOR).quantize(16).save(tmp_path / "b.png")
    assert folder(tmp_path).shape[-1] == 3


@pytest.mark.parametrize(("pixels", "most"), [(GREY, 255), (DEEP, 65535)])
def test_sizes_may_differ_where_one_is_given(tmp_path, pixels, most):
    save(tmp_path, "a.png", pixels)
    save(tmp_path, "b.png", pixels.repeat(2, axis=0).repeat(2, axis=1))
    x = folder(tmp_path, size=(6, 4))
    np.testing.assert_allclose(x[0, ..., 0], pixels / most, rtol=1e-6)
    assert x.shape == (2, 6, 4, 1)
    # Shrinking averages, so that the mean stays: a filter that skips pixels would not keep it.
    np.testing.assert_allclose(folder(tmp_path, size=2).mean(axis=(1, 2, 3)), pixels.mean() / most, atol=0.05)
    with pytest.raises(ValueError, match=r"a.png is 6 by 4 \(height by width\), b.png is 12 by 8; give size"):
        folder(tmp_path)


def test_a_photograph_is_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # turned a quarter against the clock
    save(tmp_path, "a.png", GREY, exif=exif)
    np.testing.assert_allclose(folder(tmp_path)[0, ..., 0] * 255, np.rot90(GREY, -1), rtol=1e-6)


def test_a_broken_file_is_refused_by_name(broken):
    with pytest.raises(ValueError, match=r"b.jpg cannot be read .* or leave it out with errors='skip'"):
        folder(broken)


@pytest.mark.parametrize("batch_size", [None, 2])
def test_a_broken_file_is_skipped_by_name(broken, batch_size):
    with pytest.warns(UserWarning, match=r"\.(jpg|png) cannot be read as an image") as caught:
        x = folder(broken, errors="skip", batch_size=batch_size)
    assert [str(warning.message).split(" cannot")[0][-5:] for warning in caught] == ["b.jpg", "c.png"]
    assert all(warning.filename == __file__ for warning in caught)
    assert (x if batch_size is None else x[0]).shape == (2, 6, 4, 1)


def test_what_would_be_read_in_part_is_refused(tmp_path):
    save(tmp_path, "a.tif", GREY, save_all=True, append_images=[Image.fromarray(GREY)])
    with pytest.raises(ValueError, match=r"a.tif cannot be .* it has 2 pages"):
        folder(tmp_path)
    save(tmp_path, "a.tif", np.ones((3, 3), np.float32))
    with pytest.raises(ValueError, match=r"a.tif cannot be .* 32 bits"):
        folder(tmp_path)


def test_no_folder_and_no_image(tmp_path):
    with pytest.raises(NotADirectoryError, match=r"must be a folder that exists, got '.*nowhere'"):
        folder(tmp_path / "nowhere")
    (tmp_path / "cats").mkdir()
    with pytest.raises(
        ValueError, match=r"got 0 files with such a name.* folders within it are not searched"
    ):
        folder(tmp_path)
    (tmp_path / "a.png").write_text("none")
    with (
        pytest.warns(UserWarning, match=r"a\.png"),
        pytest.raises(ValueError, match="got 1 files with such a name, none of which can"),
    ):
        folder(tmp_path, errors="skip")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (2, 2, 3)}, r"size must be one number, or height and width, got \(2, 2, 3\)"),
        ({"size": 0}, "size must be a whole number >= 1, got 0"),
        ({"channels": 2}, r"channels must be 1 \(grey\), 3 \(colour\) or None .* got 2"),
        ({"batch_size": 0}, "batch_size must be a whole number >= 1, got 0"),
        ({"errors": "ignore"}, "errors must be one of refuse, skip; got 'ignore'"),
    ],
)
def test_bad_options(tmp_path, options, message):
    save(tmp_path, "a.png", GREY)
    with pytest.raises(ValueError, match=message):
        folder(tmp_path, **options)


def test_a_net_is_trained_on_batches_that_are_read_when_asked_for(tmp_path, monkeypatch):
    for i in range(5):
        save(tmp_path, f"{i}.png", np.roll(GREY, i, axis=0))
    x, stream = folder(tmp_path), folder(tmp_path, batch_size=2)
    assert [file.name for file in stream.files] == [f"{i}.png" for i in range(5)]
    assert stream.shape == (6, 4, 1)
    assert [len(stream[i]) for i in range(len(stream))] == [2, 2, 1]
    model = Autoencoder(blocks.dense_encoder((6, 4, 1), 2), blocks.dense_decoder((6, 4, 1), 2))
    model.compile("adam")
    opened = []
    monkeypatch.setattr(Image, "open", lambda file, open=Image.open: opened.append(file) or open(file))
    model.fit(stream, epochs=2, verbose=0)
    assert len(opened) >= 10
    np.testing.assert_allclose(model.encode(stream), model.encode(x), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(anomaly.errors(model, stream), anomaly.errors(model, x), rtol=1e-4)
