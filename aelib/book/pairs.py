"""Pairs of input and target, made by a program: spoilt and clean pages, scenes with a digit and its mask.

What ``applications/denoising_and_transformation`` and ``benchmarks/denoising_and_transformation_long.py``
share. A scan is put together from four sheets: the page, the ghost of its back, the pen and the paper.
"""

import io
import os
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
from matplotlib import font_manager
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from sklearn.datasets import load_sample_images

TEXT = """the encoder writes a short note about the picture and the decoder has only
this note to go by what the note leaves out is lost a narrow note forces a
choice and the choice is what the net has learnt about its pictures old paper
forgets in another way coffee damp and bad light lie over the letters and a
scanner blurs what they leave whoever knows how letters look can guess most of
them back that knowledge is nowhere written down as a rule it sits in many
pages clean ones and spoilt ones side by side"""
WORDS = np.random.default_rng(0).permutation(sorted(set(TEXT.split())))
#: Words for training, and those that are kept for validation and test.
SEEN, UNSEEN = WORDS[:50], WORDS[50:]
#: Height and width of a page and the distance of its lines, in pixels.
HIGH, WIDE, LINE = 192, 384, 24
#: Side of a scene, in pixels.
SIDE = 32


@cache
def font(name: str, size: int = 17) -> ImageFont.FreeTypeFont:
    """Return a font that matplotlib brings along."""
    return ImageFont.truetype(font_manager.findfont(name), size)


def standard_fonts() -> list[ImageFont.FreeTypeFont]:
    """Return the two fonts of the pages."""
    return [font("DejaVu Serif"), font("DejaVu Sans")]


def write(
    words: Sequence[str],
    rng: np.random.Generator,
    fonts: Sequence[ImageFont.FreeTypeFont],
) -> tuple[str, np.ndarray]:
    """Fill a page with random words; return its text, and (192, 384), black on white."""
    chosen, lines = fonts[int(rng.integers(len(fonts)))], []
    page = Image.new("L", (WIDE, HIGH), 255)
    draw = ImageDraw.Draw(page)
    left, top = rng.integers(8, 20), rng.integers(4, 10)
    for y in range(top, HIGH - LINE + 3, LINE):
        line = more = rng.choice(words)
        while left + draw.textlength(more, chosen) < WIDE - 8:
            line, more = more, f"{more} {rng.choice(words)}"
        draw.text((left, y), line, font=chosen, fill=30)
        lines.append(line)
    return " ".join(lines), np.asarray(page, "float32") / 255


def cloud(rng: np.random.Generator, width: float) -> np.ndarray:
    """Draw a smooth random field between -1 and 1: (192, 384)."""
    field = ndimage.gaussian_filter(rng.normal(size=(HIGH, WIDE)), width)
    return field / np.abs(field).max()


def paper(rng: np.random.Generator) -> np.ndarray:
    """Draw paper with uneven light and stains: (192, 384), white is 1."""
    stains = 1 - 0.45 * np.clip(4 * cloud(rng, 18) - 1, 0, 1)
    return (0.85 + 0.15 * cloud(rng, 60)) * stains


def pen(rng: np.random.Generator, strokes: int) -> np.ndarray:
    """Draw thin curves right across the page, as dark as ink: (192, 384), ink is 1."""
    sheet, t = Image.new("L", (WIDE, HIGH)), np.linspace(0, 1, 20)
    for _ in range(strokes):
        (x0, x1, y0, y1), bend = rng.random(4), 0.15 * rng.normal()
        x, y = x0 + (x1 - x0) * t, y0 + (y1 - y0) * t + bend * np.sin(np.pi * t)
        ImageDraw.Draw(sheet).line([*zip(WIDE * x, HIGH * y, strict=True)], fill=200, width=2)
    return np.asarray(sheet, "float32") / 255


def sheets(
    words: Sequence[str],
    count: int,
    rng: np.random.Generator,
    *,
    fonts: Sequence[ImageFont.FreeTypeFont] | None = None,
    strokes: int = 6,
) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """Make the sheets of scans.

    Parameters
    ----------
    words : sequence of str
        The pages are written with these.
    count : int
        How many of each.
    rng : numpy.random.Generator
    fonts : sequence of fonts, optional
        By default the two of `standard_fonts`.
    strokes : int
        How many strokes of the pen cross a page.

    Returns
    -------
    texts : tuple of str
        What is written on the pages.
    stacks : dict
        ``"page"``, ``"ghost"``, ``"pen"`` and ``"paper"``, each (count, 192, 384).
    """
    fonts = fonts or standard_fonts()
    texts, written = zip(*(write(words, rng, fonts) for _ in range(count)), strict=True)
    backs = [write(words, rng, fonts)[1][:, ::-1] for _ in range(count)]
    stacks = {
        "page": written,
        "ghost": [0.35 * ndimage.gaussian_filter(1 - back, 1) for back in backs],
        "pen": [pen(rng, strokes) for _ in range(count)],
        "paper": [paper(rng) for _ in range(count)],
    }
    return texts, {name: np.array(stack, "float32") for name, stack in stacks.items()}


def scan(
    parts: dict[str, np.ndarray], rng: np.random.Generator, *, blur: float = 0.8, noise: float = 0.06
) -> np.ndarray:
    """Put sheets (n, H, W) on each other, blur them and add noise: (n, H, W)."""
    ink = np.maximum(np.maximum(1 - parts["page"], parts["ghost"]), parts["pen"])
    seen = ndimage.gaussian_filter(parts["paper"] * (1 - ink), (0, blur, blur))
    return np.clip(seen + noise * rng.normal(size=seen.shape), 0, 1).astype("float32")


def pages(
    words: Sequence[str], count: int, seed: int, **options: Any
) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Make whole pages: their texts, the clean pages and the scans, both (count, 192, 384, 1)."""
    rng = np.random.default_rng(seed)
    texts, parts = sheets(words, count, rng, **options)
    return texts, parts["page"][..., None], scan(parts, rng)[..., None]


def crops(
    stacks: dict[str, np.ndarray],
    rng: np.random.Generator,
    count: int = 3,
    size: tuple[int, int] = (64, 64),
    margin: int = 4,
) -> tuple[np.ndarray, np.ndarray]:
    """Cut from each stack at random, and return new scans and the clean crops: (count, 64, 64, 1) twice."""
    high, wide = size[0] + 2 * margin, size[1] + 2 * margin
    parts = {}
    for name, stack in stacks.items():
        n = rng.integers(len(stack), size=count)
        rows, columns = (
            rng.integers(0, whole - part + 1, count) for whole, part in ((HIGH, high), (WIDE, wide))
        )
        parts[name] = sliding_window_view(stack, (high, wide), (1, 2))[n, rows, columns]
    inner = np.s_[:, margin:-margin, margin:-margin, None]  # the blur needs a margin
    return scan(parts, rng)[inner], parts["page"][inner]


def reader() -> str | None:
    """Return where Tesseract is, or None."""
    return shutil.which("tesseract")


def read(images: np.ndarray) -> list[str]:
    """Return what Tesseract reads on pages (n, 192, 384, 1), enlarged twice: n texts."""
    grey = (255 * np.clip(images[..., 0], 0, 1)).astype("uint8")
    size = (2 * WIDE, 2 * HIGH)
    large = [Image.fromarray(g).resize(size, Image.Resampling.BICUBIC) for g in grey]
    file = io.BytesIO()  # one file of n pages: Tesseract loads its model only once
    large[0].save(file, "tiff", save_all=True, append_images=large[1:])
    texts = _recognised(file.getvalue()).split("\f")[: len(large)]
    return [" ".join(text.split()) for text in texts]


@cache  # some settings give the same pages
def _recognised(file: bytes) -> str:
    command = [str(reader()), "stdin", "stdout", "--psm", "6"]  # 6: one block of text
    alone = os.environ | {"OMP_THREAD_LIMIT": "1"}
    return subprocess.run(command, input=file, capture_output=True, check=True, env=alone).stdout.decode()


def edits(a: str, b: str) -> int:
    """Count the insertions, deletions and replacements that lead from a to b (Levenshtein).

    Examples
    --------
    >>> from aelib.book import pairs
    >>> pairs.edits("kitten", "sitting")
    3
    """
    row = list(range(len(b) + 1))
    for i, letter in enumerate(a, 1):
        corner, row[0] = row[0], i
        for j, other in enumerate(b, 1):
            least = min(row[j] + 1, row[j - 1] + 1, corner + (letter != other))
            corner, row[j] = row[j], least
    return row[-1]


def misread(images: np.ndarray, texts: Sequence[str]) -> np.ndarray:
    """Return the edits from what is read to what is written, in % of the characters: (pages,)."""
    parts = np.array_split(images, min(2, len(images)))
    with ThreadPoolExecutor(2) as pool:  # Tesseract is a process of its own
        found = [text for part in pool.map(read, parts) for text in part]
    wrong = [edits(a, b) / len(b) for a, b in zip(found, texts, strict=True)]
    return 100 * np.array(wrong)


def grounds(top: bool) -> np.ndarray:
    """Return all pieces of the upper or lower parts of two photographs: (photo, row, column, 32, 32)."""
    photos = [photo.mean(axis=-1) / 255 for photo in load_sample_images().images]
    parts = np.array([p[:300] if top else p[300:] for p in photos], "float32")
    return sliding_window_view(parts, (SIDE, SIDE), (1, 2))


def on_photograph(
    digits: np.ndarray, pieces: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Paste digits (n, 28, 28, 1) on pieces; return scenes and masks, (n, 32, 32, 1) twice."""
    n = len(digits)
    ground = pieces[tuple(rng.integers(size, size=n) for size in pieces.shape[:3])]
    ground = 0.5 + 0.8 * (ground - ground.mean(axis=(1, 2), keepdims=True))  # paler
    ground = np.clip(ground, 0, 1)[..., None]
    rows, columns = rng.integers(0, SIDE - 27, (2, n, 1, 1))
    whole = np.zeros((n, SIDE, SIDE, 1), "float32")
    at, step = np.arange(n)[:, None, None], np.arange(28)
    whole[at, rows + step[:, None], columns + step] = digits
    ink = 0.5 + rng.choice([-1, 1], n) * rng.uniform(0.2, 0.45, n)
    scenes = ground * (1 - whole) + ink.astype("float32")[:, None, None, None] * whole
    return scenes, (whole > 0.5).astype("float32")


def overlap(masks: np.ndarray, marked: np.ndarray) -> np.ndarray:
    """Return intersection over union of each image: (n, 32, 32, 1) twice -> (n,)."""
    marked = marked.astype("float32")
    both = np.minimum(masks, marked).sum(axis=(1, 2, 3))
    return both / np.maximum(masks, marked).sum(axis=(1, 2, 3))


def halve(x: np.ndarray) -> np.ndarray:
    """Return the mean of each 2 × 2 block: (n, 28, 28, 1) -> (n, 14, 14, 1)."""
    return x.reshape(len(x), 14, 2, 14, 2, 1).mean(axis=(2, 4))
