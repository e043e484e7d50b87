"""Reviews, utterances, a table and a series: the user's files and the originals give the same arrays."""

import csv
import dataclasses
import io
import tarfile
import zipfile

import numpy as np
import pytest

from aelib import data
from aelib.data import records

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """Return the user's folder and the cache, both empty."""
    user, cache = tmp_path / "user", tmp_path / "cache"
    user.mkdir()
    monkeypatch.setenv("AELIB_CACHE_DIR", str(cache))
    monkeypatch.setenv("AELIB_DATA_DIR", str(user))
    monkeypatch.setenv("AELIB_PROFILE", "full")
    monkeypatch.setattr(data, "_loaded", {})
    return user, cache


def both(name, folders, monkeypatch, stored, originals, rows):
    """Load the user's file, then the originals; return both."""
    spec = data.SPECS[name]
    unknown = {"files": dict.fromkeys(spec.files), "contents": ()}
    spec = dataclasses.replace(spec, rows=rows, held_out=spec.held_out and 5, **unknown)
    monkeypatch.setitem(data.SPECS, name, spec)
    user, cache = folders
    np.savez(user / spec.file, **stored)
    mine = data.load(name, verbose=False)
    (user / spec.file).unlink()
    (cache / name).mkdir(parents=True)
    for file, content in originals.items():
        (cache / name / file).write_bytes(content)
    original = data.load(name, verbose=False)
    assert (mine.source, original.source) == ("AELIB_DATA_DIR", "original (downloaded)")
    for part in ("x_train", "y_train", "x_val", "y_val", "x_test", "y_test"):
        np.testing.assert_array_equal(getattr(mine, part), getattr(original, part))
    return mine


def test_reviews(folders, monkeypatch):
    texts = [f"a film, number {i % 23}, né à Paris" for i in range(25)]  # two of them stand twice
    labels = np.array([i % 23 % 2 for i in range(25)], np.uint8)
    content = [text.encode() for text in texts]
    stored = {
        "text": np.frombuffer(b"".join(content), np.uint8),
        "offsets": np.cumsum([0, *map(len, content)]),
        "label": labels,
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        members = [
            (f"aclImdb/train/{('neg', 'pos')[label]}/{i}_1.txt", text)
            for i, (text, label) in enumerate(zip(content, labels, strict=True))
        ]
        for name, text in [
            *members,
            ("aclImdb/train/unsup/1_0.txt", b"x"),
            ("aclImdb/test/pos/1_9.txt", b"y"),
        ]:
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))
    x_test = records.split_reviews(texts, labels)[2]
    originals = {"aclImdb_v1.tar.gz": buffer.getvalue()}
    found = both("imdb", folders, monkeypatch, stored, originals, (25 - len(x_test), len(x_test)))
    train = set(found.x_train) | set(found.x_val)
    assert not train & set(found.x_test)
    assert train | set(found.x_test) == set(texts)
    assert len(set(found.x_test)) == 23 // 5


def test_utterances(folders, monkeypatch):
    spec, originals, stored = data.SPECS["japanese_vowels"], {}, {}
    for part, rows in zip(("train", "test"), spec.rows, strict=True):
        lengths = RNG.integers(7, 30, rows)
        x = np.full((rows, 29, 12), np.nan, np.float32)
        for row, steps in zip(x, lengths, strict=True):
            row[:steps] = RNG.normal(size=(steps, 12)).round(3)
        shares = [30] * 9 if part == "train" else [31, 35, 88, 44, 29, 24, 40, 50, 29]
        stored |= {f"x_{part}": x, f"y_{part}": np.repeat(np.arange(9), shares).astype(np.uint8)}
        blocks = [
            "\n".join(" ".join(map(str, step)) for step in row[:n]) for row, n in zip(x, lengths, strict=True)
        ]
        originals[f"ae.{part}"] = "\n\n".join(blocks) + "\n\n"

    def packed(texts):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, text in texts.items():
                archive.writestr(name, text)
        return {"japanese+vowels.zip": buffer.getvalue()}

    found = both("japanese_vowels", folders, monkeypatch, stored, packed(originals), spec.rows)
    assert np.isnan(found.x_test).any()
    (content,) = packed(originals | {"ae.train": " ".join(["1"] * 12)}).values()
    (folders[1] / "japanese_vowels" / "japanese+vowels.zip").write_bytes(content)
    with pytest.raises(ValueError, match=r"ae.train must hold 270 utterances, got 1"):
        records.read_utterances(folders[1] / "japanese_vowels")


def test_weather(folders, monkeypatch):
    rows = 30
    numbers = RNG.normal(size=(rows, 9)).round(2).astype(np.float32)
    numbers[::7, 5] = np.nan
    month, airport = np.arange(rows) % 12 + 1, np.arange(rows) % 3
    stored = {"x": numbers, "month": month, "day": month, "hour": airport, "origin": airport.astype(np.uint8)}
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["origin", "year", "month", "day", "hour", *records.WEATHER, "time_hour"])
    for row, m, a in zip(numbers, month, airport, strict=True):
        cells = ["NA" if np.isnan(value) else str(value) for value in row]
        table.writerow([("EWR", "JFK", "LGA")[a], 2013, m, m, a, *cells, "2013-01-01T06:00:00Z"])
    originals = {"weather.csv": text.getvalue().encode()}
    test = int((month > 10).sum())
    found = both("nyc_weather", folders, monkeypatch, stored, originals, (rows - test, test))
    assert found.columns == records.COLUMNS
    assert set(found.x_test[:, 9]) == {11, 12}
    assert np.isnan(np.concatenate([found.x_train, found.x_val, found.x_test])[:, 5]).sum() == 5


def test_a_series(folders, monkeypatch):
    x = RNG.normal(size=60).round(3).astype(np.float32)
    y = np.zeros(60, np.uint8)
    y[40:44] = 1
    stored = {"x_train": x[:20], "y_train": y[:20], "x_test": x, "y_test": y}

    def packed(*names):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name in names:
                archive.writestr(f"All/{name}_20_40_44.txt", "\n".join(map(str, x)))
        return buffer.getvalue()

    name = "UCR_TimeSeriesAnomalyDatasets2021.zip"
    originals = {name: packed("134_UCR_Anomaly_a", "135_UCR_Anomaly_b")}
    found = both("ucr_anomaly_135", folders, monkeypatch, stored, originals, (20, 40))
    np.testing.assert_array_equal(found.x_val, x[15:20])  # the last steps, not steps from everywhere
    assert found.y_test.sum() == 4
    (folders[1] / name).write_bytes(packed("134_UCR_Anomaly_a"))
    with pytest.raises(ValueError, match=r"must hold one series 135, got \[\]"):
        records.read_series(folders[1])


def test_infinity_is_refused_where_gaps_are_allowed(folders):
    spec = data.SPECS["japanese_vowels"]
    arrays = {
        f"x_{part}": np.zeros((n, *spec.shape)) for part, n in zip(("train", "test"), spec.rows, strict=True)
    }
    arrays |= {f"y_{part}": np.zeros(n, int) for part, n in zip(("train", "test"), spec.rows, strict=True)}
    arrays["x_train"][3, 0, 0] = np.inf
    np.savez(folders[0] / spec.file, **arrays)
    with pytest.raises(ValueError, match=r"x_train must be finite: 1 of its .* the first in row 3, got inf"):
        data.load("japanese_vowels")


def test_every_original_is_known_by_its_checksum_or_its_contents():
    """But for the newsgroups, which scikit-learn downloads and checks."""
    for name, spec in data.SPECS.items():
        known = all(spec.files.values()) or len(spec.contents) == 2 or name == "newsgroups"
        assert known, f"{name}: give the checksum of each file, or the fingerprints of its arrays as contents"
