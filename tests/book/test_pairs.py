"""Pairs made by a program: the pages, what reads them, and the scenes."""

import numpy as np
import pytest

from aelib.book import pairs


@pytest.fixture(scope="module")
def made():
    return pairs.sheets(pairs.SEEN, 2, np.random.default_rng(0))


def test_words_of_the_test_are_not_in_training():
    assert not set(pairs.SEEN) & set(pairs.UNSEEN)
    texts, clean, spoilt = pairs.pages(pairs.UNSEEN, 1, 1)
    assert set(texts[0].split()) <= set(pairs.UNSEEN)
    assert clean.shape == spoilt.shape == (1, 192, 384, 1)
    for x in (clean, spoilt):
        assert 0 <= x.min() < 0.5 < x.max() <= 1


def test_the_same_seed_makes_the_same_pages():
    for one, other in zip(
        pairs.pages(pairs.UNSEEN, 1, 1)[1:], pairs.pages(pairs.UNSEEN, 1, 1)[1:], strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_a_scan_without_damage_is_the_page(made):
    parts = {name: np.zeros_like(stack) for name, stack in made[1].items()}
    parts |= {"page": made[1]["page"], "paper": np.ones_like(parts["paper"])}
    seen = pairs.scan(parts, np.random.default_rng(0), blur=1e-6, noise=0)
    np.testing.assert_allclose(seen, parts["page"], atol=1e-6)


def test_more_strokes_and_other_fonts_are_drawn():
    few, many = (pairs.pen(np.random.default_rng(0), n).mean() for n in (1, 12))
    assert 0 < few < many
    one, other = (
        pairs.pages(pairs.SEEN, 1, 0, fonts=[pairs.font(name)])[1] for name in ("DejaVu Sans", "STIXGeneral")
    )
    assert np.any(one != other)


def test_crops_are_new_and_belong_together(made):
    rng = np.random.default_rng(1)
    spoilt, clean = pairs.crops(made[1], rng)
    assert spoilt.shape == clean.shape == (3, 64, 64, 1)
    assert np.any(pairs.crops(made[1], rng)[1] != clean)
    paper = np.median(spoilt[clean > 0.99])
    assert np.median(spoilt[clean < 0.2]) < 0.6 * paper  # other crops: as light as paper


def test_edits_are_counted():
    for a, b, count in (("", "", 0), ("", "ab", 2), ("ab", "", 2), ("abc", "axc", 1), ("flaw", "lawn", 2)):
        assert pairs.edits(a, b) == count


@pytest.mark.skipif(pairs.reader() is None, reason="Tesseract is not installed")
def test_clean_pages_are_read():
    texts, clean, spoilt = pairs.pages(pairs.UNSEEN, 2, 1)
    assert pairs.misread(clean, texts).max() < 3
    assert pairs.misread(spoilt, texts).mean() > 5


def test_scenes_and_their_masks_belong_together():
    digits = np.zeros((4, 28, 28, 1), "float32")
    digits[:, 10:20, 12:16] = 1
    scenes, masks = pairs.on_photograph(digits, pairs.grounds(True), np.random.default_rng(0))
    assert scenes.shape == masks.shape == (4, 32, 32, 1)
    np.testing.assert_array_equal(masks.sum(axis=(1, 2, 3)), 40)
    for scene, mask in zip(scenes, masks, strict=True):
        assert np.ptp(scene[mask > 0]) < 1e-6  # one level of ink
    np.testing.assert_array_equal(pairs.overlap(masks, masks > 0.5), 1)
    np.testing.assert_array_equal(pairs.overlap(masks, np.zeros_like(masks)), 0)


def test_the_upper_and_lower_parts_share_nothing():
    assert pairs.grounds(True).shape[-2:] == pairs.grounds(False).shape[-2:] == (32, 32)
    assert pairs.grounds(True).shape[1] + 31 == 300


def test_halving_takes_means():
    x = np.arange(28 * 28, dtype="float32").reshape(1, 28, 28, 1)
    small = pairs.halve(x)
    assert small.shape == (1, 14, 14, 1)
    assert small[0, 0, 0, 0] == x[0, :2, :2].mean()
