import dataclasses
import gzip
import hashlib
import http.server
import io
import os
import re
import struct
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.ndimage import zoom

import aelib
from aelib import data
from aelib.data import sources, standins

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

NOWHERE = "http://127.0.0.1:9/"  # the discard port: nothing listens
ROWS = (40, 12)
STANDINS = {
    "mnist": ((28, 28, 1), 10, "scikit-learn's digits, enlarged to 28×28"),
    "fashion_mnist": ((28, 28, 1), 10, "scikit-learn's digits, enlarged to 28×28"),
    "cifar10": ((32, 32, 3), 2, "patches of scikit-learn's two sample photographs"),
    "ecg5000": ((140,), 2, "synthetic heartbeats"),
    "newsgroups": ((), 6, "lines of scikit-learn's data set descriptions"),
    "imdb": ((), 6, "lines of scikit-learn's data set descriptions"),
    "japanese_vowels": ((29, 12), 9, "synthetic utterances"),
    "nyc_weather": ((12,), 3, "synthetic weather"),
    "ucr_anomaly_135": ((), 2, "a synthetic pulse"),
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Keep every test off the user's folders, off the ledger and off the network; return the cache."""
    monkeypatch.delenv("AELIB_DATA_DIR", raising=False)
    monkeypatch.setenv("AELIB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("AELIB_PROGRESS", "0")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("AELIB_PROFILE", "full")
    monkeypatch.setattr(data, "_loaded", {})
    for name, spec in data.SPECS.items():
        small = {"rows": ROWS, "held_out": spec.held_out and 5, "address": spec.address and NOWHERE}
        monkeypatch.setitem(data.SPECS, name, dataclasses.replace(spec, **small))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    path = tmp_path / "users data"
    path.mkdir()
    monkeypatch.setenv("AELIB_DATA_DIR", str(path))
    return path


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setenv("AELIB_PROFILE", "quick")


def change(monkeypatch, name, **changes):
    monkeypatch.setitem(data.SPECS, name, dataclasses.replace(data.SPECS[name], **changes))


def make(name, seed=0, rows=ROWS):
    """Return the arrays of a tiny data set of the form of `name`."""
    rng, spec = np.random.default_rng(seed), data.SPECS[name]
    arrays = {}
    for part, n in zip(("train", "test"), rows, strict=True):
        if spec.dtype is np.uint8:
            arrays[f"x_{part}"] = rng.integers(0, 256, (n, *spec.shape), np.uint8)
        else:
            arrays[f"x_{part}"] = rng.normal(size=(n, *spec.shape)).astype(np.float32)
        arrays[f"y_{part}"] = (np.arange(n) % len(spec.class_names)).astype(np.uint8)
    return arrays


def save(folder, name, **arrays):
    np.savez(folder / f"{name}.npz", **arrays)


def idx(array, magic=None):
    magic = 0x800 + array.ndim if magic is None else magic
    return gzip.compress(struct.pack(f">I{array.ndim}I", magic, *array.shape) + array.tobytes())


def idx_files(arrays):
    return dict(zip(sources.IDX_FILES, (idx(arrays[key]) for key in sources.KEYS), strict=True))


def md5s(files):
    return {name: f"md5:{hashlib.md5(content).hexdigest()}" for name, content in files.items()}


def put(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def ecg_zip(arrays):
    """Pack beats as the UCR archive does: a label of 1 is normal, and there are four others."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for part in ("train", "test"):
            y = arrays[f"y_{part}"]
            labels = np.where(y == 0, 1, 2 + np.arange(len(y)) % 4)
            table = io.StringIO()
            np.savetxt(table, np.column_stack([labels, arrays[f"x_{part}"]]), fmt="%.9e")
            archive.writestr(f"ECG5000_{part.upper()}.txt", table.getvalue())
    return buffer.getvalue()


@pytest.fixture
def ecg(monkeypatch):
    """Make a tiny archive pass for the original; return its arrays."""
    arrays = make("ecg5000")
    prints = tuple(sources.fingerprint(arrays[f"x_{p}"], arrays[f"y_{p}"]) for p in ("train", "test"))
    change(monkeypatch, "ecg5000", contents=prints)
    return arrays


@pytest.fixture
def serve():
    """Return a function that serves files on the loopback, whole or cut in half, and gives the address."""
    servers = []

    def start(files, half=False, declare=True):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                content = files[self.path.lstrip("/")]
                self.server.hits += 1
                self.send_response(200)
                if declare:
                    self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2] if half else content)

            def log_message(self, *args):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.hits = 0
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        return server, f"http://127.0.0.1:{server.server_port}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


# Names and imports


def test_an_unknown_name_is_shown_with_the_known_ones():
    with pytest.raises(
        ValueError, match="'minst'; known are mnist, fashion_mnist, cifar10, ecg5000, newsgroups"
    ):
        aelib.load("minst")


def test_importing_is_light():
    heavy = "{'tensorflow', 'keras', 'sklearn', 'scipy', 'pooch', 'matplotlib'}"
    code = f"import sys, aelib.data; print({heavy} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


# Splits and types


def test_the_published_sizes_are_asked_for(monkeypatch):
    monkeypatch.undo()  # the sizes of the other tests are tiny
    sizes = {name: (spec.rows, spec.held_out, len(spec.class_names)) for name, spec in data.SPECS.items()}
    assert sizes == {
        "mnist": ((60_000, 10_000), 5_000, 10),
        "fashion_mnist": ((60_000, 10_000), 5_000, 10),
        "cifar10": ((5_000, 1_000), None, 10),
        "ecg5000": ((500, 4_500), None, 2),
        "newsgroups": ((11_314, 7_532), None, 20),
        "imdb": ((20_008, 4_992), None, 2),
        "japanese_vowels": ((270, 370), None, 9),
        "nyc_weather": ((21_830, 4_285), None, 3),
        "ucr_anomaly_135": ((1_200, 6_301), 200, 2),
    }


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_the_last_training_images_are_for_validation(folder, name):
    arrays = make(name)
    save(folder, name, **arrays)
    found = data.load(name)
    scaled = (arrays["x_train"] / 255).astype(np.float32)[..., None]
    np.testing.assert_allclose(found.x_train, scaled[:-5], rtol=1e-6)
    np.testing.assert_allclose(found.x_val, scaled[-5:], rtol=1e-6)
    np.testing.assert_allclose(found.x_test[..., 0], arrays["x_test"] / 255, rtol=1e-6)
    for y, expected in zip(
        (found.y_train, found.y_val, found.y_test),
        (arrays["y_train"][:-5], arrays["y_train"][-5:], arrays["y_test"]),
        strict=True,
    ):
        assert y.dtype == np.int64
        np.testing.assert_array_equal(y, expected)
    assert found.x_train.dtype == found.x_val.dtype == found.x_test.dtype == np.float32
    assert (found.name, found.class_names) == (name, data.SPECS[name].class_names)


@pytest.mark.parametrize("name", ["cifar10", "ecg5000"])
def test_a_seeded_tenth_is_for_validation(folder, name):
    arrays = make(name)
    save(folder, name, **arrays)
    found = data.load(name)
    expected = arrays["x_train"] / (255 if name == "cifar10" else 1)
    chosen = np.sort(np.random.default_rng(0).permutation(ROWS[0])[: ROWS[0] // 10])
    np.testing.assert_allclose(found.x_val, expected[chosen], rtol=1e-6)
    np.testing.assert_array_equal(found.y_val, arrays["y_train"][chosen])
    np.testing.assert_allclose(found.x_train, np.delete(expected, chosen, axis=0), rtol=1e-6)
    np.testing.assert_array_equal(found.y_train, np.delete(arrays["y_train"], chosen))
    assert found.x_train.dtype == found.x_test.dtype == np.float32


def test_beats_in_double_precision_are_accepted(folder):
    arrays = make("ecg5000")
    save(folder, "ecg5000", **arrays | {"x_train": arrays["x_train"].astype(np.float64)})
    assert data.load("ecg5000").x_train.dtype == np.float32


def test_more_cifar_images_are_cut_to_the_subset(folder):
    arrays = make("cifar10", rows=(ROWS[0] + 3, ROWS[1] + 2))
    save(folder, "cifar10", **arrays)
    found = data.load("cifar10")
    assert len(found.x_train) + len(found.x_val) == len(found.y_train) + len(found.y_val) == ROWS[0]
    np.testing.assert_allclose(found.x_test, arrays["x_test"][: ROWS[1]] / 255, rtol=1e-6)


@pytest.mark.parametrize("profile", ["full", "quick"])
def test_digits_are_always_there(monkeypatch, profile):
    from sklearn.datasets import load_digits

    monkeypatch.setenv("AELIB_PROFILE", profile)
    found, again, bunch = data.load("digits"), data.load("digits"), load_digits()
    assert found.source == data._loaded["digits"] == "scikit-learn"
    assert found.x_train.shape[1:] == (8, 8, 1)
    assert found.x_train.dtype == np.float32
    assert found.y_test.dtype == np.int64
    x = np.concatenate([found.x_train, found.x_val, found.x_test])
    y = np.concatenate([found.y_train, found.y_val, found.y_test])
    # The parts together are the digits, each once and with its own label.
    pairs = sorted(
        (label, (image * 16).astype(np.uint8).tobytes()) for image, label in zip(x, y, strict=True)
    )
    original = zip(bunch.images, bunch.target, strict=True)
    assert pairs == sorted((label, image.astype(np.uint8).tobytes()) for image, label in original)
    np.testing.assert_array_equal(found.x_test, again.x_test)
    np.testing.assert_array_equal(found.x_val, again.x_val)
    share = np.bincount(found.y_test) / np.bincount(bunch.target)
    assert np.all(np.abs(share - 0.2) < 0.01)


# Where a data set is looked for


def test_the_users_folder_then_the_cache(folder, cache, monkeypatch, capsys):
    mine, cached = make("mnist", 1), make("mnist", 2)
    files = idx_files(cached)
    change(monkeypatch, "mnist", files=md5s(files))
    put(cache / "mnist", files)
    save(folder, "mnist", **mine)
    found = data.load("mnist")
    np.testing.assert_allclose(found.x_test[..., 0], mine["x_test"] / 255, rtol=1e-6)
    assert found.source == data._loaded["mnist"] == "AELIB_DATA_DIR"
    assert capsys.readouterr().out == "mnist: 35 + 5 + 12 examples (AELIB_DATA_DIR)\n"
    (folder / "mnist.npz").unlink()
    found = data.load("mnist", verbose=False)  # offline: the address leads nowhere
    np.testing.assert_allclose(found.x_test[..., 0], cached["x_test"] / 255, rtol=1e-6)
    np.testing.assert_allclose(found.x_val[..., 0], cached["x_train"][-5:] / 255, rtol=1e-6)
    np.testing.assert_array_equal(found.y_test, cached["y_test"])
    assert found.source == data._loaded["mnist"] == "original (downloaded)"
    assert capsys.readouterr().out == ""


def test_an_empty_variable_counts_as_unset(folder, monkeypatch):
    save(folder, "mnist", **make("mnist"))
    monkeypatch.chdir(folder)
    monkeypatch.setenv("AELIB_DATA_DIR", "")
    with pytest.raises(FileNotFoundError, match="not set"):
        data.load("mnist")


def test_the_users_folder_must_be_one(folder, monkeypatch):
    monkeypatch.setenv("AELIB_DATA_DIR", str(folder / "mnits"))
    with pytest.raises(NotADirectoryError, match=r"AELIB_DATA_DIR must be a folder, got '.*mnits'"):
        data.load("mnist")


def test_a_tilde_is_the_home_folder(folder, monkeypatch):
    save(folder, "mnist", **make("mnist"))
    monkeypatch.setenv("HOME", str(folder.parent))
    monkeypatch.setenv("USERPROFILE", str(folder.parent))
    monkeypatch.setenv("AELIB_DATA_DIR", f"~/{folder.name}")
    assert data.load("mnist").source == "AELIB_DATA_DIR"


def test_the_default_cache_is_poochs(cache, monkeypatch):
    import pooch

    asked = []
    monkeypatch.setenv("AELIB_CACHE_DIR", "")
    monkeypatch.setattr(pooch, "os_cache", lambda name: asked.append(name) or str(cache))
    with pytest.raises(FileNotFoundError, match=re.escape(str(cache / "mnist"))):
        data.load("mnist")
    assert asked == ["aelib"]


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10", "ecg5000"])
def test_offline_the_error_says_what_to_do(name, cache):
    with pytest.raises(FileNotFoundError) as caught:
        data.load(name)
    wanted = [
        name,
        f"{name}.npz",
        "AELIB_DATA_DIR",
        "not set",
        str(cache / name),
        NOWHERE,
        *data.SPECS[name].files,
    ]
    assert [text for text in wanted if text not in str(caught.value)] == []
    assert name not in data._loaded


# Stand-ins


def key(x):
    return x if isinstance(x, str) else x.tobytes()


def test_every_original_has_a_stand_in():
    """One without passed every test, and failed in the quick profile."""
    assert set(standins.STANDINS) == set(data.SPECS) == set(STANDINS)
    assert set(data.NAMES) == set(data.SPECS) | {"digits"}


@pytest.mark.parametrize("name", STANDINS)
def test_standin(name, quick, serve, monkeypatch, capsys):
    shape, classes, description = STANDINS[name]
    server, address = serve({})
    if name != "newsgroups":
        change(monkeypatch, name, address=address)
    data.load(name, verbose=False)  # the first call imports scikit-learn
    begin = time.process_time()
    found = data.load(name)
    assert time.process_time() - begin < 1, "seconds of processor: a busy machine does not count"
    assert server.hits == 0
    assert found.source == data._loaded[name] == f"stand-in: {description}"
    assert re.fullmatch(
        rf"{name}: [\d,]+ \+ [\d,]+ \+ [\d,]+ examples \({re.escape(found.source)}\)\n",
        capsys.readouterr().out,
    )

    parts = (found.x_train, found.x_val, found.x_test)
    assert all(x.shape[1:] == shape and len(x) for x in parts)
    assert all(x.dtype == (object if name in ("newsgroups", "imdb") else np.float32) for x in parts)
    if len(shape) == 3:
        assert all(0 <= x.min() < 0.1 and 0.9 < x.max() <= 1 for x in parts)
    for y, x in zip((found.y_train, found.y_val, found.y_test), parts, strict=True):
        assert y.shape == (len(x),)
        assert y.dtype == np.int64
    for y in (found.y_train, found.y_test):
        assert set(y) == set(range(classes)) or (name == "ucr_anomaly_135" and set(y) == {0})
    assert len(set(found.class_names)) == len(found.class_names) == classes
    seen = [{key(x) for x in part} for part in parts]
    if name != "ucr_anomaly_135":  # a step of a series is one number, which may come back
        assert len(set.union(*seen)) == sum(map(len, seen))

    again = data.load(name, verbose=False)
    for field in dataclasses.fields(data.Dataset):
        np.testing.assert_array_equal(getattr(found, field.name), getattr(again, field.name))


def test_digits_are_enlarged_like_pictures():
    (small, _, _, _), _ = standins.digits()
    (large, _, _, _), _, _ = standins.enlarged_digits()
    expected = zoom(small[3, ..., 0], 3.5, mode="nearest", grid_mode=True)
    np.testing.assert_allclose(large[3, ..., 0], np.clip(expected, 0, 1), atol=1e-5)


def test_patches_are_cut_from_the_photograph_that_the_label_names():
    from sklearn.datasets import load_sample_images

    (x_train, y_train, x_test, y_test), _, _ = standins.photograph_patches()
    found = {(key(x), y) for x, y in zip([*x_train, *x_test], [*y_train, *y_test], strict=True)}
    expected = {
        (key(image[r : r + 32, c : c + 32]), label)
        for label, image in enumerate(load_sample_images().images)
        for r in range(0, 427 - 31, 32)
        for c in range(0, 640 - 31, 32)
    }
    assert found == expected
    assert len(expected) == 520


def test_heartbeats_look_normalised_and_abnormal_ones_differ():
    (x_train, y_train, x_test, y_test), _, _ = standins.synthetic_heartbeats()
    np.testing.assert_allclose(x_train.mean(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose(x_train.std(axis=1, ddof=1), 1, rtol=1e-5)
    means = np.array([x_train[y_train == label].mean(axis=0) for label in (0, 1)])
    nearest = np.argmin(((x_test[:, None] - means) ** 2).sum(axis=-1), axis=1)
    assert np.mean(nearest == y_test) > 0.95
    assert 0.2 < np.std(x_test[y_test == 0], axis=0).max() < 2  # no two beats are alike


def test_lines_come_from_the_description_that_the_label_names():
    from sklearn import datasets

    (x_train, y_train, x_test, y_test), names, _ = standins.descriptions()
    texts = [getattr(datasets, f"load_{name}")().DESCR for name in names]
    for line, label in zip([*x_train, *x_test], [*y_train, *y_test], strict=True):
        holders = [
            i for i, text in enumerate(texts) if line in [found.strip() for found in text.splitlines()]
        ]
        assert holders == [label]
    assert len(x_train) > 100


def test_quick_prefers_real_data(quick, folder, cache, ecg):
    put(cache / "ecg5000", {"ECG5000.zip": ecg_zip(ecg)})
    assert data.load("ecg5000").source == "original (downloaded)"
    save(folder, "ecg5000", **ecg)
    assert data.load("ecg5000").source == "AELIB_DATA_DIR"


def test_quick_does_not_believe_a_damaged_cache(quick, cache, monkeypatch):
    files = idx_files(make("mnist"))
    change(monkeypatch, "mnist", files=md5s(files))
    put(cache / "mnist", files)
    assert data.load("mnist").source == "original (downloaded)"
    put(cache / "mnist", {"t10k-labels-idx1-ubyte.gz": idx(np.zeros(ROWS[1], np.uint8))})
    assert data.load("mnist").source.startswith("stand-in")


# Faults in the user's files


def replaced(**changes):
    return lambda arrays: arrays | {k: change(arrays[k]) for k, change in changes.items()}


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        (
            "mnist",
            lambda a: {k: v for k, v in a.items() if k != "y_test"},
            "no y_test, only x_train, y_train, x_test",
        ),
        ("mnist", lambda a: {}, "no x_train, y_train, x_test, y_test, only nothing"),
        (
            "mnist",
            replaced(x_train=lambda x: x[:-1]),
            r"x_train must have the shape \(40, 28, 28\), got \(39, 28, 28\)",
        ),
        ("mnist", replaced(x_train=lambda x: np.concatenate([x, x])), r"\(40, 28, 28\), got \(80, 28, 28\)"),
        ("mnist", replaced(x_test=lambda x: x[..., None]), r"\(12, 28, 28\), got \(12, 28, 28, 1\)"),
        ("mnist", replaced(x_test=lambda x: x[0, 0, 0]), r"\(12, 28, 28\), got \(\)"),
        ("cifar10", replaced(x_test=lambda x: x.swapaxes(1, 3)), r"\(12, 32, 32, 3\), got \(12, 3, 32, 32\)"),
        ("cifar10", replaced(x_train=lambda x: x[1:]), r"\(40, 32, 32, 3\), got \(39, 32, 32, 3\)"),
        ("mnist", replaced(x_train=lambda x: x / 255), "x_train must be uint8, got float64"),
        ("ecg5000", replaced(x_train=lambda x: x.astype(int)), "x_train must be floating, got int64"),
        (
            "mnist",
            replaced(y_train=lambda y: y[1:]),
            r"y_train must be 40 integers, got uint8 of shape \(39,\)",
        ),
        (
            "mnist",
            replaced(y_train=lambda y: y[:, None]),
            r"y_train must be 40 integers, got uint8 of shape \(40, 1\)",
        ),
        ("mnist", replaced(y_test=lambda y: y / 1), "y_test must be 12 integers, got float64"),
        ("mnist", replaced(y_test=lambda y: y + 1), "y_test must be from 0 to 9, got 1 to 10"),
        ("ecg5000", replaced(y_test=lambda y: y.astype(int) - 1), "y_test must be from 0 to 1, got -1 to 0"),
        (
            "ecg5000",
            replaced(x_test=lambda x: x / (x != x[3, 5])),
            "x_test must be finite: 1 of its 1680 .* row 3, got -?inf",
        ),
        (
            "ecg5000",
            replaced(x_train=lambda x: np.where(x == x[3, 5], np.nan, x)),
            "x_train must be finite: 1 of its 5600 .* row 3, got nan",
        ),
        (
            "ecg5000",
            replaced(x_train=lambda x: x * np.float64(1e39)),
            "x_train must be finite: 4145 of its 5600 .* row 0, got",
        ),
        ("mnist", replaced(x_train=lambda x: x.astype(object)), "Object arrays cannot be loaded"),
        ("mnist", replaced(y_train=lambda y: y.astype(object)), "Object arrays cannot be loaded"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_a_fault_in_a_users_file_is_named(folder, name, spoil, message):
    save(folder, name, **spoil(make(name)))
    with pytest.raises(ValueError, match=message) as caught:
        data.load(name)
    assert str(caught.value).startswith(str(folder / f"{name}.npz"))


def truncate(content):
    return content[: len(content) // 2]


def flip(content):
    return content[:4000] + bytes([content[4000] ^ 255]) + content[4001:]


def garble(content):
    """Give the first member of a zip file a kind of block that deflate does not have."""
    start = 30 + sum(struct.unpack_from("<HH", content, 26))
    return content[:start] + b"\xff" + content[start + 1 :]


@pytest.mark.parametrize(
    "spoil",
    [truncate, flip, garble, lambda c: b"", lambda c: b"x_train", lambda c: b"junk" + c],
    ids=["truncated", "a byte flipped", "not deflated", "empty", "text", "junk before"],
)
@pytest.mark.parametrize("profile", ["full", "quick"])
def test_a_damaged_users_file_is_refused(folder, monkeypatch, spoil, profile):
    monkeypatch.setenv("AELIB_PROFILE", profile)  # a stand-in would hide the damage
    path = folder / "mnist.npz"
    np.savez_compressed(path, **make("mnist"))
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))} cannot be used: "):
        data.load("mnist")


def test_a_zip_of_something_else_is_refused(folder):
    with zipfile.ZipFile(folder / "mnist.npz", "w") as archive:
        for name in sources.KEYS:
            archive.writestr(name, b"not an array")
    with pytest.raises(ValueError, match="x_train must be uint8"):
        data.load("mnist")


# Downloads


def test_a_download_is_checked_and_kept(serve, cache, monkeypatch):
    arrays = make("fashion_mnist")
    files = idx_files(arrays)
    server, address = serve(files)
    change(monkeypatch, "fashion_mnist", files=md5s(files), address=address)
    found = data.load("fashion_mnist")
    np.testing.assert_allclose(found.x_test[..., 0], arrays["x_test"] / 255, rtol=1e-6)
    assert found.source == "original (downloaded)"
    assert sorted(os.listdir(cache / "fashion_mnist")) == sorted(files)
    data.load("fashion_mnist")
    assert server.hits == 4


@pytest.mark.parametrize("declare", [True, False])
def test_an_interrupted_download_is_not_believed(serve, cache, monkeypatch, declare):
    files = idx_files(make("mnist"))
    _, address = serve(files, half=True, declare=declare)
    change(monkeypatch, "mnist", files=md5s(files), address=address)
    with pytest.raises(FileNotFoundError, match=r"mnist\.npz"):
        data.load("mnist")
    assert os.listdir(cache / "mnist") == []
    with pytest.raises(FileNotFoundError, match=r"mnist\.npz"):
        data.load("mnist")
    change(monkeypatch, "mnist", address=serve(files)[1])
    assert data.load("mnist").source == "original (downloaded)"


@pytest.mark.parametrize("declare", [True, False])
def test_an_interrupted_download_without_a_checksum_is_not_believed(serve, monkeypatch, ecg, declare):
    files = {"ECG5000.zip": ecg_zip(ecg)}
    change(monkeypatch, "ecg5000", address=serve(files, half=True, declare=declare)[1])
    for _ in range(2):
        with pytest.raises(FileNotFoundError, match=r"ecg5000\.npz"):
            data.load("ecg5000")
    change(monkeypatch, "ecg5000", address=serve(files)[1])
    found = data.load("ecg5000")
    np.testing.assert_allclose(found.x_test, ecg["x_test"], rtol=1e-6)
    np.testing.assert_array_equal(found.y_test, ecg["y_test"])


def test_a_damaged_cache_is_refused_offline_and_mended_online(serve, cache, monkeypatch):
    files = idx_files(make("mnist"))
    change(monkeypatch, "mnist", files=md5s(files))
    # Well-formed, but of another content: only the checksum can tell.
    put(cache / "mnist", files | {"t10k-labels-idx1-ubyte.gz": idx(np.zeros(ROWS[1], np.uint8))})
    with pytest.raises(FileNotFoundError, match="no intact copy"):
        data.load("mnist")
    server, address = serve(files)
    change(monkeypatch, "mnist", address=address)
    np.testing.assert_array_equal(data.load("mnist").y_test, make("mnist")["y_test"])
    assert server.hits == 1


def test_a_wrong_file_from_the_server_is_refused(serve, monkeypatch):
    files = idx_files(make("mnist"))
    change(monkeypatch, "mnist", files=md5s(files), address=serve(idx_files(make("mnist", 1)))[1])
    with pytest.raises(FileNotFoundError, match="hash"):
        data.load("mnist")


@pytest.mark.parametrize(("value", "shown"), [("0", False), ("1", True), (None, True)])
def test_the_progress_bar_can_be_hidden(serve, monkeypatch, capsys, ecg, value, shown):
    if value is None:
        monkeypatch.delenv("AELIB_PROGRESS")
    else:
        monkeypatch.setenv("AELIB_PROGRESS", value)
    change(monkeypatch, "ecg5000", address=serve({"ECG5000.zip": ecg_zip(ecg)})[1])
    data.load("ecg5000")
    assert ("B/s" in capsys.readouterr().err) == shown


# Readers


def test_idx(tmp_path):
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    path = tmp_path / "images.gz"
    path.write_bytes(idx(array))
    np.testing.assert_array_equal(sources.read_idx(path), array)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (idx(np.zeros(3, np.uint8), magic=0x00000D01), "begins with 00000d01"),  # floats
        (idx(np.zeros(3, np.uint8), magic=0x01000801), "begins with 01000801"),
        (idx(np.zeros(3, np.uint8), magic=0x00000803), "begins with 00000803"),  # too short for three sizes
        (gzip.compress(b""), "begins with nothing"),
        (gzip.compress(b"\0\0\x08"), "begins with 000008"),
        (gzip.compress(b"\0\0\x08\x01\0\0\0\x03ab"), r"must hold 3 bytes for \(3,\), got 2"),
        (gzip.compress(b"\0\0\x08\x01\0\0\0\x03abcd"), r"must hold 3 bytes for \(3,\), got 4"),
    ],
    ids=["floats", "first byte", "sizes missing", "empty", "three bytes", "one too few", "one too many"],
)
def test_idx_refuses_what_it_is_not(tmp_path, content, message):
    path = tmp_path / "images.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        sources.read_idx(path)


def cifar_tar(arrays):
    """Pack images as the binary version does: a label, then the red, the green and the blue plane."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, part in [("data_batch_2", "test"), ("data_batch_1", "train"), ("test_batch", "test")]:
            images, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]
            planes = np.concatenate([images[..., c].reshape(len(images), -1) for c in range(3)], axis=1)
            content = np.column_stack([labels, planes]).tobytes()
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}.bin")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def test_cifar_is_the_first_images_of_the_binary_version(cache, monkeypatch):
    arrays = make("cifar10", rows=(ROWS[0] + 7, ROWS[1] + 4))
    files = {"cifar-10-binary.tar.gz": cifar_tar(arrays)}
    change(monkeypatch, "cifar10", files=md5s(files))
    put(cache / "cifar10", files)
    found = data.load("cifar10")
    np.testing.assert_allclose(found.x_test, arrays["x_test"][: ROWS[1]] / 255, rtol=1e-6)
    np.testing.assert_array_equal(found.y_test, arrays["y_test"][: ROWS[1]])
    first = {key(x) for x in (arrays["x_train"][: ROWS[0]] / np.float32(255)).astype(np.float32)}
    assert {key(x) for x in [*found.x_train, *found.x_val]} == first


@pytest.mark.parametrize(
    "content",
    [
        lambda arrays: b"no archive",
        lambda arrays: cifar_tar({k: v[:3] for k, v in arrays.items()}),
        lambda arrays: truncate(cifar_tar(arrays)),
    ],
    ids=["no archive", "too few", "truncated"],
)
def test_a_cifar_archive_of_another_content_is_refused(cache, monkeypatch, content):
    files = {"cifar-10-binary.tar.gz": content(make("cifar10"))}
    change(monkeypatch, "cifar10", files=md5s(files))
    put(cache / "cifar10", files)
    with pytest.raises(FileNotFoundError, match="no intact copy"):
        data.load("cifar10")


def test_the_fingerprint_ignores_the_order_of_rows_and_nothing_else():
    arrays = make("ecg5000")
    x, y = arrays["x_train"], arrays["y_train"]
    expected = sources.fingerprint(x, y)
    assert sources.fingerprint(x[::-1], y[::-1]) == expected
    assert sources.fingerprint(x.astype(np.float64), y.astype(np.int64)) == expected
    assert sources.fingerprint(x, y[::-1]) != expected
    assert sources.fingerprint(x[1:], y[1:]) != expected
    assert sources.fingerprint(x[:, 0], y) != sources.fingerprint(x[::-1, 0], y[::-1])  # a series
    changed = x.copy()
    changed[3, 5] = np.nextafter(changed[3, 5], np.float32(9))
    assert sources.fingerprint(changed, y) != expected


@pytest.mark.parametrize("part", ["train", "test"])
def test_beats_of_another_content_are_refused(cache, ecg, part):
    changed = ecg | {f"y_{part}": 1 - ecg[f"y_{part}"]}
    put(cache / "ecg5000", {"ECG5000.zip": ecg_zip(ecg)})
    assert data.load("ecg5000").source == "original (downloaded)"
    put(cache / "ecg5000", {"ECG5000.zip": ecg_zip(changed)})
    with pytest.raises(ValueError, match=f"the {part} arrays must have the fingerprint"):
        data.SPECS["ecg5000"].read_originals(cache / "ecg5000")
    with pytest.raises(FileNotFoundError):
        data.load("ecg5000")


# Newsgroups, which scikit-learn reads


@pytest.fixture
def fetch(monkeypatch):
    """Replace scikit-learn's reader by one that knows its file by the content; note the calls."""
    from sklearn import datasets
    from sklearn.utils import Bunch

    fake = SimpleNamespace(calls=[], online=False)

    def fetch_20newsgroups(*, data_home, subset, remove, download_if_missing):
        fake.calls.append((str(data_home), subset, remove, download_if_missing))
        path = data_home / "20news-bydate_py3.pkz"
        if download_if_missing and fake.online:
            put(data_home, {path.name: b"posts"})
        if not path.is_file() or path.read_bytes() != b"posts":
            raise OSError("20Newsgroups dataset not found")
        n = ROWS[subset == "test"]
        return Bunch(data=[f"{subset} post {i}" for i in range(n)], target=np.arange(n) % 20)

    monkeypatch.setattr(datasets, "fetch_20newsgroups", fetch_20newsgroups)
    return fake


def check_newsgroups(found):
    assert found.x_train.dtype == found.x_val.dtype == found.x_test.dtype == object
    assert sorted([*found.x_train, *found.x_val]) == sorted(f"train post {i}" for i in range(ROWS[0]))
    assert list(found.x_test) == [f"test post {i}" for i in range(ROWS[1])]
    for x, y in ((found.x_train, found.y_train), (found.x_val, found.y_val), (found.x_test, found.y_test)):
        assert [int(text.split()[-1]) % 20 for text in x] == list(y)
        assert y.dtype == np.int64
    assert len(found.x_val) == ROWS[0] // 10
    assert (found.class_names[0], found.class_names[19]) == ("alt.atheism", "talk.religion.misc")


def test_newsgroups_from_the_users_folder(folder, fetch):
    put(folder, {"20news-bydate_py3.pkz": b"posts"})
    found = data.load("newsgroups")
    check_newsgroups(found)
    assert found.source == "AELIB_DATA_DIR"
    assert fetch.calls == [(str(folder), subset, (), False) for subset in ("train", "test")]


def test_newsgroups_from_the_cache(cache, fetch, quick):
    put(cache / "newsgroups", {"20news-bydate_py3.pkz": b"posts"})
    found = data.load("newsgroups")
    check_newsgroups(found)
    assert found.source == "original (downloaded)"
    assert not any(download for *_, download in fetch.calls)


def test_newsgroups_are_downloaded_by_scikit_learn(cache, fetch):
    fetch.online = True
    found = data.load("newsgroups")
    check_newsgroups(found)
    assert found.source == "original (downloaded)"
    assert fetch.calls[-1] == (str(cache / "newsgroups"), "test", (), True)


def test_newsgroups_offline(cache, fetch):
    with pytest.raises(
        FileNotFoundError, match=r"20news-bydate_py3\.pkz into a folder and set AELIB_DATA_DIR"
    ):
        data.load("newsgroups")


@pytest.mark.parametrize("profile", ["full", "quick"])
def test_a_damaged_file_of_newsgroups_is_refused(folder, fetch, monkeypatch, profile):
    monkeypatch.setenv("AELIB_PROFILE", profile)
    put(folder, {"20news-bydate_py3.pkz": b"po"})
    with pytest.raises(ValueError, match=r"20news-bydate_py3\.pkz cannot be used: .*not found"):
        data.load("newsgroups")


def test_quick_replaces_a_damaged_cache_of_newsgroups(cache, fetch, quick):
    put(cache / "newsgroups", {"20news-bydate_py3.pkz": b"po"})
    assert data.load("newsgroups").source.startswith("stand-in")


def test_every_public_name_resolves():
    assert set(data.__all__) <= set(dir(data))
    for name in data.__all__:
        assert getattr(data, name) is not None
