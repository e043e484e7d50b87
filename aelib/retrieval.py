"""Nearest neighbours among codes, and what they are worth.

The searches are FAISS's (Douze et al., 2024); without it, scikit-learn and NumPy do the two exact ones.
"""

import hashlib
import importlib
import io
import json
from collections.abc import Iterator
from dataclasses import KW_ONLY, asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import orthogonal_procrustes
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.neighbors import NearestNeighbors

from aelib import checks, files

PLAIN, LOSSY = ("exact", "binary"), ("ivf", "hnsw", "pq", "opq")
MAGIC, DIGEST = b"aelib.retrieval 2\n", 32  # begin a file: the digest is the SHA-256 of what follows
_FILL = "drop or fill these rows before they are encoded"


def _faiss(kind: str, threads: int) -> Any:
    """Return FAISS, which brings an OpenMP of its own and is imported late, or None where it is missing."""
    try:
        faiss = importlib.import_module("faiss")
    except ImportError:
        if kind in PLAIN:
            return None
        raise ImportError(f"kind={kind!r} needs FAISS: pip install faiss-cpu") from None
    faiss.omp_set_num_threads(threads)
    return faiss


class _Rows:
    """An array to which rows are added: its room doubles when it is full, so that n rows cost O(n)."""

    def __init__(self, rows: np.ndarray) -> None:
        self._room, self.ntotal = rows, len(rows)
        self.d = rows.shape[1]  # FAISS's names, as its own indices have them

    @property
    def array(self) -> np.ndarray:
        """The rows, without the room that is free."""
        return self._room[: self.ntotal]

    def reserve(self, count: int) -> None:
        """Make room for so many rows more."""
        wanted = self.ntotal + count
        if wanted > len(self._room):
            grown = np.empty((max(wanted, 2 * self.ntotal), self.d), self._room.dtype)
            grown[: self.ntotal] = self.array
            self._room = grown

    def add(self, rows: np.ndarray) -> None:
        """Copy rows behind those that are there."""
        self.reserve(len(rows))
        self._room[self.ntotal : self.ntotal + len(rows)] = rows
        self.ntotal += len(rows)


@dataclass(eq=False)
class Index:
    """A store of codes that is asked for the nearest ones.

    Codes are given as an array or a memory map, or as a pipeline: tf.data, a `keras.utils.PyDataset`, or any
    iterable of batches. They are read in parts; the index itself holds them in memory, in float32 (but for
    ``"binary"``, ``"pq"`` and ``"opq"``). The names of the options are FAISS's.

    Parameters
    ----------
    kind : {"exact", "ivf", "hnsw", "binary", "pq", "opq"}
        Compare with every code; with those of the nearest cells (inverted file: Jégou et al., 2011); along
        the links of a graph (Malkov & Yashunin, 2020); count differing bits of codes that `binarize` packed;
        compare with every code as a product quantizer keeps it (Jégou et al., 2011), in M · nbits / 8 bytes;
        the same after a rotation that makes its errors small (Ge et al., 2014, the non-parametric solution).
        All but ``"exact"`` and ``"binary"`` may miss neighbours, and need FAISS.
    cosine : bool
        Bring every code to length 1 first. The order is then that of the cosine; the distance d stays
        Euclidean, and the cosine is 1 − d²/2. Not for ``"binary"``.
    nlist, nprobe : int
        ``"ivf"``: into how many cells k-means splits the codes, by default the root of their number; how
        many cells a query looks into, which may be changed at any time.
    M : int
        ``"hnsw"``: links of a code in a layer of the graph. ``"pq"``, ``"opq"``: parts into which a code is
        split, of equal width: for ``"pq"`` it divides K.
    ef_construction, ef_search : int
        ``"hnsw"``: candidates kept while a code is linked; and candidates kept in a search, which may be
        changed at any time.
    nbits : int
        ``"pq"``, ``"opq"``: bits for each part, up to 16: k-means lays 2**nbits centres in it, which takes as
        many codes.
    threads : int
        For FAISS. With more than 1 it is faster, but a graph is not built twice alike.

    Examples
    --------
    >>> import numpy as np
    >>> from aelib.retrieval import Index
    >>> codes = np.random.default_rng(0).normal(size=(100, 8)).astype("float32")
    >>> distances, rows = Index().fit(codes).search(codes[:2], 3)
    >>> rows[:, 0].tolist()
    [0, 1]
    """

    kind: str = "exact"
    _: KW_ONLY
    cosine: bool = False
    nlist: int | None = None
    nprobe: int = 8
    M: int = 16
    ef_construction: int = 40
    ef_search: int = 16
    nbits: int = 8
    threads: int = 1

    def __post_init__(self):
        checks.choice("kind", self.kind, PLAIN + LOSSY)
        self.cosine = checks.flag("cosine", self.cosine)
        if self.cosine and self.kind == "binary":
            raise ValueError("cosine=True is not for kind='binary', whose distance is a count of bits")
        if self.nlist is not None:
            self.nlist = checks.whole_number("nlist", self.nlist)
        for name in ("nprobe", "M", "ef_construction", "ef_search", "nbits", "threads"):
            setattr(self, name, checks.whole_number(name, getattr(self, name)))
        if self.nbits > 16:
            raise ValueError(f"nbits must be at most 16, got {self.nbits}: take a larger M for more bytes")
        self._engine = None  # `_Rows` of the codes, or FAISS's index of a lossy kind

    def __len__(self) -> int:
        """Return the number of codes in the index."""
        return 0 if self._engine is None else self._engine.ntotal

    def _given(self, name: str, codes: Any) -> tuple[Any, int]:
        """Return codes in parts, as they are stored, and how many there are; 0 where that is not known."""
        if _is_array(codes):
            codes = self._checked(name, checks.array(name, codes))  # the whole of it, before a part is used
            return map(self._stored, checks.parts(codes)), len(codes)
        return self._batches(name, codes), 0

    def _batches(self, name: str, codes: Any) -> Iterator[np.ndarray]:
        from aelib import batches  # imports Keras, which an index of arrays does without

        first_row = 0
        for part in batches.parts(name, codes):
            yield self._stored(self._checked(name, part, first_row))
            first_row += len(part)

    def _checked(self, name: str, codes: np.ndarray, first_row: int = 0) -> np.ndarray:
        """Return codes that fit into the index, or raise a ValueError."""
        if codes.ndim != 2 or not codes.size:
            raise ValueError(f"{name} must have shape (n >= 1, K >= 1), got {codes.shape}")
        if len(self) and codes.shape[1] != self._engine.d:
            raise ValueError(f"{name} must have {self._engine.d} columns like the codes, got {codes.shape}")
        if self.kind == "binary":
            if codes.dtype != np.uint8:
                raise ValueError(f"{name} must be bits packed as uint8 (binarize), got {codes.dtype}")
            return codes
        return checks.finite(name, codes, remedy=_FILL, first_row=first_row)

    def _stored(self, codes: np.ndarray) -> np.ndarray:
        """Return a copy of codes as the index holds them."""
        if self.kind == "binary":
            return np.array(codes, order="C")
        codes = np.array(codes, np.float32, order="C")
        if self.cosine:
            codes /= np.maximum(np.linalg.norm(codes, axis=1, keepdims=True), 1e-30)
        return codes

    def fit(self, codes: Any) -> Self:
        """Replace whatever the index holds by `codes`, (n, K); return the index."""
        self._engine = None
        return self.add(codes)

    def add(self, codes: Any) -> Self:
        """Add `codes`, (n, K), numbered on from those before; return the index.

        The cells of ``"ivf"`` and the quantizers of ``"pq"`` and ``"opq"`` are fitted to the codes that are
        added first, which are held twice meanwhile, and stay. A pipeline is checked batch by batch: those
        before a bad one have been added.
        """
        parts, count = self._given("codes", codes)
        if self._engine is None and self.kind in ("ivf", "pq", "opq"):
            parts = [_joined(parts, count)]
        for part in parts:
            if self._engine is None:
                self._engine = self._empty(part)
                if self.kind in PLAIN:
                    self._engine.reserve(count)
            self._engine.add(part)
        return self

    def _empty(self, codes: np.ndarray) -> Any:
        """Return an engine for codes like these, with none in it."""
        if self.kind in PLAIN:
            return _Rows(codes[:0])
        faiss, (count, width) = _faiss(self.kind, self.threads), codes.shape
        if self.kind == "hnsw":
            engine = faiss.IndexHNSWFlat(width, self.M)
            engine.hnsw.efConstruction = self.ef_construction
            return engine
        if self.kind in ("pq", "opq"):
            return self._product_quantizer(faiss, codes)
        nlist = self.nlist or round(count**0.5)
        if nlist > count:
            raise ValueError(f"nlist must be at most the number of codes, {count}, got {nlist}")
        engine = faiss.IndexIVFFlat(faiss.IndexFlatL2(width), width, nlist)
        engine.cp.min_points_per_centroid = 1  # no warning for small data
        engine.train(codes)
        return engine

    def _product_quantizer(self, faiss: Any, codes: np.ndarray) -> Any:
        """Return FAISS's product quantizer, fitted to codes, with none in it."""
        count, width = codes.shape
        if self.kind == "pq" and width % self.M:
            raise ValueError(f"M must divide the {width} numbers of a code, got {self.M}; or take kind='opq'")
        padded = -(-width // self.M) * self.M
        engine = faiss.IndexPQ(padded, self.M, self.nbits)
        # FAISS's rotation writes past its memory where there are fewer codes than numbers.
        needed = max(2**self.nbits, padded if self.kind == "opq" else 1)
        if count < needed:
            raise ValueError(
                f"kind={self.kind!r} with nbits={self.nbits} needs at least {needed} codes of {width} "
                f"numbers in the first fit or add, got {count}: lower nbits, or take kind='exact'"
            )
        engine.pq.cp.min_points_per_centroid = 1  # no warning for small data
        if self.kind == "opq":
            rotation = faiss.OPQMatrix(width, self.M, padded)
            inner = faiss.ProductQuantizer(padded, self.M, self.nbits)  # its own is always of 8 bits
            inner.cp.min_points_per_centroid = 1
            rotation.pq = inner
            rotation.train(codes)
            rotation.pq = None
            engine = faiss.IndexPreTransform(rotation, engine)
        engine.train(codes)
        return engine

    def search(self, queries: Any, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the `k` nearest codes of each query, the nearest first: (q, K) -> (q, k), (q, k).

        The first array holds Euclidean distances (float; for ``"pq"`` and ``"opq"`` to the quantized codes),
        or for ``"binary"`` the number of differing bits (int32); the second the numbers of the codes in the
        order in which they were added (int64). Where ``"ivf"`` or ``"hnsw"`` finds fewer than `k`, the rest
        is −1 at an infinite distance. Queries are read in parts, as codes are.
        """
        if not len(self):
            raise ValueError("the index is empty: fit(codes) first")
        k = checks.whole_number("k", k)
        if k > len(self):
            raise ValueError(f"k must be at most the number of codes in the index, {len(self)}, got {k}")
        parts, _ = self._given("queries", queries)
        distances, indices = zip(*(self._nearest(part, k) for part in parts), strict=True)
        return np.concatenate(distances), np.concatenate(indices)

    def _nearest(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        faiss = _faiss(self.kind, self.threads)
        if self.kind == "binary":
            codes = self._engine.array
            return faiss.knn_hamming(queries, codes, k) if faiss else _count_bits(codes, queries, k)
        if not faiss:
            neighbours = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(self._engine.array)
            return neighbours.kneighbors(queries)
        if self.kind == "exact":
            squared, indices = faiss.knn(queries, self._engine.array, k)
        elif self.kind == "ivf":
            self._engine.nprobe = checks.whole_number("nprobe", self.nprobe)
            squared, indices = self._engine.search(queries, k)
        elif self.kind == "hnsw":
            self._engine.hnsw.efSearch = checks.whole_number("ef_search", self.ef_search)
            squared, indices = self._engine.search(queries, k)
        else:
            squared, indices = self._engine.search(queries, k)
        squared[indices < 0] = np.inf
        return np.sqrt(np.maximum(squared, 0)), indices  # rounding may have taken a 0 below 0

    def save(self, path: str | Path) -> None:
        """Write the index to `path`, whole or not at all; nothing in the file is pickled."""
        if not len(self):
            raise ValueError("the index is empty: there is nothing to save")
        options, content = json.dumps(asdict(self)).encode(), io.BytesIO()
        if self.kind in LOSSY:
            stored = _faiss(self.kind, self.threads).serialize_index(self._engine)
        else:
            stored = self._engine.array
        np.savez(content, options=np.frombuffer(options, np.uint8), stored=stored)
        digest = hashlib.sha256(content.getbuffer()).digest()
        files.write_atomically(path, MAGIC + digest + content.getvalue())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read an index that `save` wrote; raises ValueError if it is damaged, cut short or no index.

        The digest in the file guards against accidents, not against forgers.
        """
        data = Path(path).read_bytes()
        start = len(MAGIC) + DIGEST
        if data[:start] != MAGIC + hashlib.sha256(data[start:]).digest():
            raise ValueError(
                f"{path} is no index of this format, or is damaged or cut short: {len(data)} bytes"
            )
        with np.load(io.BytesIO(data[start:]), allow_pickle=False) as file:
            index, stored = cls(**json.loads(bytes(file["options"]))), file["stored"]
        if index.kind in LOSSY:
            index._engine = _faiss(index.kind, index.threads).deserialize_index(stored)
        else:
            index._engine = _Rows(stored)
        return index


def _is_array(codes: Any) -> bool:
    """Return whether codes come in one piece; what has no shape and is no list is read batch by batch."""
    return isinstance(codes, list | tuple) or (hasattr(codes, "shape") and hasattr(codes, "__len__"))


def _joined(parts: Iterator[np.ndarray], count: int) -> np.ndarray:
    """Return all parts as one array."""
    first = next(parts)
    rows = _Rows(first)
    rows.reserve(count - len(first))
    for part in parts:
        rows.add(part)
    return rows.array


def _count_bits(codes: np.ndarray, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the `k` codes that differ from each query in the fewest bits, and in how many: no FAISS here."""
    distances, indices = np.empty((len(queries), k), np.int32), np.empty((len(queries), k), np.int64)
    for i, query in enumerate(queries):
        apart = np.bitwise_count(codes ^ query).sum(axis=1, dtype=np.int32)
        indices[i] = np.argsort(apart, kind="stable")[:k]
        distances[i] = apart[indices[i]]
    return distances, indices


class ITQ:
    """Numbers whose signs are good bits: iterative quantization (Gong & Lazebnik, 2011, section 2).

    The first principal components of the codes, turned by the rotation that brings them closest to their
    signs. Every bit counts the same, while the components differ in variance: divided by s**whiten, s the
    standard deviation of each, the late ones weigh more. ``binarize(ITQ(64).fit(codes).transform(codes))``
    are the bits.

    Parameters
    ----------
    bits : int
        Components, at most as many as there are directions in which the codes vary.
    whiten : float
        In [0, 1]: 0 is ITQ as published, 1 makes all components equal. Choose it on validation queries.
    max_iter : int
        Rounds of signs and rotation.
    seed : int
        Of the first rotation.

    Attributes
    ----------
    projection : ndarray (K, bits)
    mean : ndarray (K,)

    Examples
    --------
    >>> import numpy as np
    >>> from aelib.retrieval import ITQ
    >>> codes = np.random.default_rng(0).normal(size=(100, 8))
    >>> ITQ(4).fit(codes).transform(codes).shape
    (100, 4)
    """

    def __init__(self, bits: int, *, whiten: float = 0.5, max_iter: int = 50, seed: int | None = 0) -> None:
        self.bits = checks.whole_number("bits", bits)
        self.whiten = checks.share("whiten", whiten)
        self.max_iter = checks.whole_number("max_iter", max_iter)
        self.seed = checks.seed("seed", seed)

    def fit(self, codes: ArrayLike) -> Self:
        """Find the rotation for `codes`, (n >= 2, K), of which some 10,000 do; return self."""
        codes = checks.codes(codes, least=2).astype(np.float64)
        pca = PCA(min(self.bits, *codes.shape), random_state=self.seed).fit(codes)
        variances = pca.explained_variance_
        varied = np.count_nonzero(variances > 1e-12 * variances.max())
        if varied < self.bits:
            raise ValueError(
                f"bits must be at most {varied}, the directions in which these {len(codes)} codes of "
                f"{codes.shape[1]} numbers vary, got {self.bits}"
            )
        scaled = pca.components_.T / variances ** (self.whiten / 2)  # (K, bits)
        components = (codes - pca.mean_) @ scaled
        start = np.random.default_rng(self.seed).standard_normal((self.bits, self.bits))
        rotation = np.linalg.qr(start)[0]
        for _ in range(self.max_iter):
            rotation, _ = orthogonal_procrustes(components, np.sign(components @ rotation))
        self.mean, self.projection = pca.mean_, scaled @ rotation
        return self

    def transform(self, codes: ArrayLike) -> np.ndarray:
        """Return the numbers whose signs are the bits: (n, K) -> float32 (n, bits)."""
        if not hasattr(self, "mean"):
            raise NotFittedError("there is no rotation yet: fit it to codes first")
        codes = checks.codes(codes, width=len(self.mean))
        parts = [(part - self.mean) @ self.projection for part in checks.parts(codes)]
        return np.concatenate(parts).astype(np.float32)


def binarize(codes: ArrayLike, thresholds: ArrayLike | None = None) -> np.ndarray:
    """Turn codes into bits, 1 where a number is above its threshold: (n, K) -> uint8 (n, ⌈K/8⌉).

    `thresholds` is one number or (K,), by default 0: the bits are the signs. Give queries the thresholds of
    the database; those of ``np.median(codes, axis=0)`` make each bit 1 for half of the codes.
    """
    codes = checks.codes(codes)
    thresholds = checks.array("thresholds", 0.0 if thresholds is None else thresholds)
    if thresholds.shape not in ((), codes.shape[1:]):
        raise ValueError(
            f"thresholds must be one number or have shape ({codes.shape[1]},) like a code, got "
            f"{thresholds.shape}"
        )
    checks.finite("thresholds", np.atleast_1d(thresholds), remedy="take those of codes without NaN")
    return np.concatenate([np.packbits(part > thresholds, axis=1) for part in checks.parts(codes)])


def _relevant(labels: ArrayLike, queries_labels: ArrayLike, indices: ArrayLike) -> np.ndarray:
    """Return whether each answer has its query's label, bool (q, k); −1, no answer, never has."""
    labels, queries_labels, indices = map(np.asarray, (labels, queries_labels, indices))
    shapes = labels.shape, queries_labels.shape, indices.shape
    ranks = labels.ndim == 1 and queries_labels.ndim == 1 and indices.ndim == 2
    if not ranks or len(queries_labels) != len(indices) or not labels.size or not indices.size:
        raise ValueError(f"labels, queries_labels, indices must have shapes (n,), (q,), (q, k), got {shapes}")
    if indices.dtype.kind not in "iu":
        raise ValueError(f"indices must be whole numbers, as Index.search returns them, got {indices.dtype}")
    if indices.min() < -1 or indices.max() >= len(labels):
        raise ValueError(
            f"indices must be from -1 to {len(labels) - 1}, the last of the labels, got {indices.min()} to "
            f"{indices.max()}"
        )
    return (labels[indices] == queries_labels[:, None]) & (indices >= 0)


def precision_at_k(labels: ArrayLike, queries_labels: ArrayLike, indices: ArrayLike) -> float:
    """Share of the k answers that have their query's label, the mean over the queries.

    `labels` (n,) are those of the codes in the index, `queries_labels` (q,) those of the queries, `indices`
    (q, k) what `Index.search` returns; −1, no answer, counts as a wrong one.
    """
    return float(_relevant(labels, queries_labels, indices).mean())


def mean_average_precision(labels: ArrayLike, queries_labels: ArrayLike, indices: ArrayLike) -> float:
    """Mean over the queries of the average precision of a ranking; arguments as in `precision_at_k`.

    The average precision of one query with R codes of its label in the index is the sum of the precision at
    the rank of every right answer among its k, divided by min(R, k). With ``k == len(labels)`` it is that of
    the **full ranking**, scikit-learn's ``average_precision_score`` where no two distances are equal; equal
    ones count in the order given. With fewer answers it is **mAP at k**, another figure: say which you give.
    """
    relevant = _relevant(labels, queries_labels, indices)
    length = relevant.shape[1]
    total = np.sum(relevant * (np.cumsum(relevant, axis=1) / np.arange(1, length + 1)), axis=1)
    names, which = np.unique(queries_labels, return_inverse=True)
    there = np.array([np.sum(np.asarray(labels) == name) for name in names])
    if not there.all():
        raise ValueError(f"no code in the index has the label {names[there.argmin()]!r} of a query")
    return float(np.mean(total / np.minimum(there[which], length)))
