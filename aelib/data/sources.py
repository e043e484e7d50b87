"""What the original data sets look like, where they are, and how to read them without unpickling."""

import gzip
import hashlib
import math
import struct
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

#: The arrays of a data set, and their order.
KEYS = ("x_train", "y_train", "x_test", "y_test")

_FASHION = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot"
_CIFAR = "airplane,automobile,bird,cat,deer,dog,frog,horse,ship,truck"
_GROUPS = (
    "alt.atheism,comp.graphics,comp.os.ms-windows.misc,comp.sys.ibm.pc.hardware,comp.sys.mac.hardware,"
    "comp.windows.x,misc.forsale,rec.autos,rec.motorcycles,rec.sport.baseball,rec.sport.hockey,sci.crypt,"
    "sci.electronics,sci.med,sci.space,soc.religion.christian,talk.politics.guns,talk.politics.mideast,"
    "talk.politics.misc,talk.religion.misc"
)

#: The files of MNIST and of what imitates it, in the order of KEYS.
IDX_FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


@dataclass(frozen=True)
class Spec:
    """What a data set looks like, and where its original is."""

    file: str  # in AELIB_DATA_DIR
    dtype: type
    shape: tuple  # of one example
    rows: tuple  # training and test examples
    class_names: tuple
    read: Callable  # folder with the originals -> the arrays of KEYS
    files: dict  # name of an original -> its published checksum, or None
    address: str = ""  # of the originals, up to their names; empty: scikit-learn downloads them itself
    held_out: int | None = None  # the last n training examples are for validation; None: a seeded tenth
    subset: bool = False  # `rows` are the first of what may be more
    gaps: bool = False  # NaN stands where a number is missing
    columns: tuple = ()  # of a table
    unpack: Callable | None = None  # what np.load gives of the user's file -> the arrays of KEYS
    contents: tuple = ()  # fingerprints of the training and test arrays, where no checksum is published

    def read_originals(self, folder: Path) -> tuple[np.ndarray, ...]:
        """Return the checked arrays of the originals in a folder.

        Raises
        ------
        ValueError
            If they do not fit, or are not the arrays of the originals.
        """
        arrays = self.check(self.read(folder), folder)
        for part, expected, x, y in zip(
            ("train", "test"), self.contents, arrays[::2], arrays[1::2], strict=False
        ):
            if (found := fingerprint(x, y)) != expected:
                raise ValueError(
                    f"{folder}: the {part} arrays must have the fingerprint {expected}, got {found}"
                )
        return arrays

    def check(self, arrays: Sequence[np.ndarray], where: str | Path) -> tuple[np.ndarray, ...]:
        """Return the arrays, cut to the subset where the data set is one.

        Raises
        ------
        ValueError
            If a type, a shape, a label or a value does not fit; the message begins with `where`.
        """
        checked = []
        for part, rows, x, y in zip(("train", "test"), self.rows, arrays[::2], arrays[1::2], strict=True):
            if not np.issubdtype(x.dtype, self.dtype):
                raise ValueError(f"{where}: x_{part} must be {self.dtype.__name__}, got {x.dtype}")
            enough = x.ndim and (x.shape[0] == rows or (self.subset and x.shape[0] > rows))
            if not enough or x.shape[1:] != self.shape:
                raise ValueError(
                    f"{where}: x_{part} must have the shape {(rows, *self.shape)}, got {x.shape}"
                )
            if y.shape != x.shape[:1] or not np.issubdtype(y.dtype, np.integer):
                found = f"{y.dtype} of shape {y.shape}"
                raise ValueError(f"{where}: y_{part} must be {len(x)} integers, got {found}")
            if y.min() < 0 or y.max() >= len(self.class_names):
                wanted = f"0 to {len(self.class_names) - 1}"
                raise ValueError(f"{where}: y_{part} must be from {wanted}, got {y.min()} to {y.max()}")
            if self.dtype is np.floating:
                _check_finite(f"{where}: x_{part}", np.where(np.isnan(x), 0, x) if self.gaps else x)
            checked += [x[:rows], y[:rows]]
        return tuple(checked)


def _check_finite(name: str, x: np.ndarray) -> None:
    """Refuse NaN, infinity, and what float32 cannot hold."""
    bad = ~(np.abs(x) <= np.finfo(np.float32).max)  # NaN compares as False
    if bad.any():
        row = int(np.argmax(bad.any(axis=tuple(range(1, x.ndim)))))
        raise ValueError(
            f"{name} must be finite: {np.count_nonzero(bad)} of its {x.size} numbers are not, the first in "
            f"row {row}, got {x[bad][0]}"
        )


def read_idx(path: Path) -> np.ndarray:
    """Return the bytes of a gzipped IDX file as an array with the shape that its header says.

    Raises
    ------
    ValueError
        If the file is no IDX file of bytes, or is not as long as its header says.
    """
    content = gzip.decompress(path.read_bytes())
    dimensions = content[3] if content[:3] == b"\0\0\x08" and len(content) > 3 else 0
    start = 4 + 4 * dimensions
    if not dimensions or len(content) < start:
        raise ValueError(f"{path} is no IDX file of bytes: it begins with {content[:4].hex() or 'nothing'}")
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    if len(content) - start != math.prod(shape):
        raise ValueError(f"{path} must hold {math.prod(shape)} bytes for {shape}, got {len(content) - start}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def read_mnist(folder: Path) -> tuple[np.ndarray, ...]:
    """Return the four arrays of MNIST, or of a data set in its format."""
    return tuple(read_idx(folder / name) for name in IDX_FILES)


def read_cifar(folder: Path) -> tuple[np.ndarray, ...]:
    """Return the first training batch and the test batch of CIFAR-10 in its binary version."""
    with tarfile.open(folder / "cifar-10-binary.tar.gz") as archive:
        batches = {
            member.name.rpartition("/")[2]: archive.extractfile(member).read()  # type: ignore[union-attr]
            for member in archive
            if member.name.endswith(("/data_batch_1.bin", "/test_batch.bin"))
        }
    arrays = ()
    for name in ("data_batch_1.bin", "test_batch.bin"):
        records = np.frombuffer(batches[name], np.uint8).reshape(-1, 1 + 3 * 32 * 32)
        images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)  # (N, C, H, W) -> (N, H, W, C)
        arrays += (images, records[:, 0])
    return arrays


def read_ecg(folder: Path) -> tuple[np.ndarray, ...]:
    """Return the beats of ECG5000, with the labels 0 (normal) and 1 (the four other classes)."""
    arrays = ()
    with zipfile.ZipFile(folder / "ECG5000.zip") as archive:
        for part in ("TRAIN", "TEST"):
            with archive.open(f"ECG5000_{part}.txt") as text:
                table = np.loadtxt(text, ndmin=2)
            arrays += (table[:, 1:].astype(np.float32), (table[:, 0] != 1).astype(np.int64))
    return arrays


def fingerprint(x: np.ndarray, y: np.ndarray) -> str:
    """Return the SHA-256 of the rows (label, values) as float32; only of a series does their order matter."""
    rows = np.column_stack([y, x.reshape(len(x), -1)]).astype("<f4")
    rows[np.isnan(rows)] = np.nan  # one of the many
    parts = [row.tobytes() for row in rows]
    return hashlib.sha256(b"".join(parts if x.ndim == 1 else sorted(parts))).hexdigest()


def read_newsgroups(folder: Path, *, download: bool = False) -> tuple[np.ndarray, ...]:
    """Return the posts of the ``bydate`` split, whole, from scikit-learn's cache in `folder`."""
    from sklearn.datasets import fetch_20newsgroups

    arrays = ()
    for subset in ("train", "test"):
        bunch = fetch_20newsgroups(data_home=folder, subset=subset, remove=(), download_if_missing=download)
        arrays += (np.array(bunch.data, dtype=object), bunch.target)
    return arrays


def _md5(*checksums: str) -> dict[str, str]:
    return {name: f"md5:{md5}" for name, md5 in zip(IDX_FILES, checksums, strict=True)}


#: The data sets that have an original. Checksums are as their publishers, or torchvision, give them.
SPECS = {
    "mnist": Spec(
        file="mnist.npz",
        dtype=np.uint8,
        shape=(28, 28),
        rows=(60_000, 10_000),
        class_names=tuple("0123456789"),
        read=read_mnist,
        files=_md5(
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "d53e105ee54ea40749a09fcbcd1e9432",
            "9fb629c4189551a2d022fa330f9573f3",
            "ec29112dd5afa0611ce80d1b7f02629c",
        ),
        address="https://ossci-datasets.s3.amazonaws.com/mnist/",
        held_out=5_000,
    ),
    "fashion_mnist": Spec(
        file="fashion_mnist.npz",
        dtype=np.uint8,
        shape=(28, 28),
        rows=(60_000, 10_000),
        class_names=tuple(_FASHION.split(",")),
        read=read_mnist,
        files=_md5(
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
        address="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        held_out=5_000,
    ),
    "cifar10": Spec(
        file="cifar10.npz",
        dtype=np.uint8,
        shape=(32, 32, 3),
        rows=(5_000, 1_000),
        class_names=tuple(_CIFAR.split(",")),
        read=read_cifar,
        files={"cifar-10-binary.tar.gz": "md5:c32a1d4ab5d03f1284b67883e8d87530"},
        address="https://www.cs.toronto.edu/~kriz/",
        subset=True,
    ),
    "ecg5000": Spec(
        file="ecg5000.npz",
        dtype=np.floating,
        shape=(140,),
        rows=(500, 4_500),
        class_names=("normal", "abnormal"),
        read=read_ecg,
        files={"ECG5000.zip": None},
        address="https://www.timeseriesclassification.com/aeon-toolkit/",
        # 292 of the 500 training beats and 2,627 of the 4,500 test beats are normal.
        contents=(
            "780d69f3b2e148891b738c46966d39d3149d4cfdfdb8b007fc231d1bdf515ea4",
            "e062a776ec06c92211356cfe5d219f2ec505c7dd09d865cf7660d7be0f73a342",
        ),
    ),
    "newsgroups": Spec(
        file="20news-bydate_py3.pkz",
        dtype=np.object_,
        shape=(),
        rows=(11_314, 7_532),
        class_names=tuple(_GROUPS.split(",")),
        read=read_newsgroups,
        files={"20news-bydate_py3.pkz": None},
    ),
}
