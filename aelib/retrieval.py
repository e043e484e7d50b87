"""Nearest neighbours among codes, and what they are worth.

The searches are FAISS's (Douze et al., 2024); without it, scikit-learn and NumPy do the two exact ones.
"""

import hashlib
import importlib
import io
import json
from dataclasses import KW_ONLY, asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from sklearn.neighbors import NearestNeighbors

from aelib import files

PLAIN, LOSSY = ("exact", "binary"), ("ivf", "hnsw")
MAGIC, DIGEST = b"aelib.retrieval 1\n", 32  # begin a file: the digest is the SHA-256 of what follows


def _faiss(kind, threads):
    """Return FAISS, which brings an OpenMP of its own and is imported late, or None where it is missing."""
    try:
        faiss = importlib.import_module("faiss")
    except ImportError:
        if kind in PLAIN:
            return None
        raise ImportError(f"kind={kind!r} needs FAISS: pip install faiss-cpu") from None
    faiss.omp_set_num_threads(threads)
    return faiss


@dataclass(eq=False)
class Index:
    """A store of codes that is asked for the nearest ones.

    Parameters
    ----------
    kind : {"exact", "ivf", "hnsw", "binary"}
        Compare with every code; with those of the nearest cells (inverted file: Jégou et al., 2011); along
        the links of a graph (Malkov & Yashunin, 2020); count differing bits of codes that `binarize` packed.
        The second and the third may miss neighbours, and need FAISS.
    cosine : bool
        Bring every code to length 1 first. The order is then that of the cosine; the distance d stays
        Euclidean, and the cosine is 1 − d²/2. Not for ``"binary"``.
    cells, probes : int
        ``"ivf"``: into how many cells k-means splits the codes, by default the root of their number; how
        many cells a query looks into, which may be changed at any time.
    links, build, effort : int
        ``"hnsw"``: links of a code in a layer of the graph; candidates kept while a code is linked; and
        candidates kept in a search, which may be changed at any time.
    threads : int
        For FAISS. With more than 1 it is faster, but a graph is not built twice alike.
    """

    kind: str = "exact"
    _: KW_ONLY
    cosine: bool = False
    cells: int | None = None
    probes: int = 8
    links: int = 16
    build: int = 40
    effort: int = 16
    threads: int = 1

    def __post_init__(self):
        if self.kind not in PLAIN + LOSSY:
            raise ValueError(f"kind must be one of {', '.join(PLAIN + LOSSY)}; got {self.kind!r}")
        if self.cosine and self.kind == "binary":
            raise ValueError("cosine=True is not for kind='binary', whose distance is a count of bits")
        for name in ("cells", "probes", "links", "build", "effort", "threads"):
            value = getattr(self, name)
            if (type(value) is not int or value < 1) and (name, value) != ("cells", None):
                raise ValueError(f"{name} must be a whole number >= 1, got {value!r}")
        self._engine = None  # the codes themselves, or FAISS's index of a lossy kind

    def __len__(self):
        """Return the number of codes in the index."""
        return 0 if self._engine is None else self._shape()[0]

    def _shape(self):
        return self._engine.shape if self.kind in PLAIN else (self._engine.ntotal, self._engine.d)

    def _check(self, name, codes):
        """Return codes in the form that is stored, or raise a ValueError."""
        codes = np.asarray(codes)
        if codes.ndim != 2 or not codes.size:
            raise ValueError(f"{name} must have shape (n >= 1, K >= 1), got {codes.shape}")
        if self._engine is not None and codes.shape[1] != self._shape()[1]:
            raise ValueError(f"{name} must have {self._shape()[1]} columns like the codes, got {codes.shape}")
        if self.kind == "binary":
            if codes.dtype != np.uint8:
                raise ValueError(f"{name} must be bits packed as uint8 (binarize), got {codes.dtype}")
            return np.array(codes, order="C")
        codes = np.array(codes, np.float32, order="C")
        if not np.isfinite(codes).all():
            raise ValueError(f"{name} must be finite, got NaN or infinity")
        if self.cosine:
            codes /= np.maximum(np.linalg.norm(codes, axis=1, keepdims=True), 1e-30)
        return codes

    def fit(self, codes):
        """Replace whatever the index holds by `codes`, (n, K); return the index."""
        self._engine = None
        return self.add(codes)

    def add(self, codes):
        """Add `codes`, (n, K), numbered on from those before; return the index.

        The cells of ``"ivf"`` are laid by the first codes, and stay.
        """
        codes = self._check("codes", codes)
        if self.kind in PLAIN:
            self._engine = np.concatenate([self._engine, codes]) if len(self) else codes
        else:
            self._engine = self._engine or self._empty(codes)
            self._engine.add(codes)
        return self

    def _empty(self, codes):
        """Return FAISS's index for codes like these, with none in it."""
        faiss, (count, width) = _faiss(self.kind, self.threads), codes.shape
        if self.kind == "hnsw":
            engine = faiss.IndexHNSWFlat(width, self.links)
            engine.hnsw.efConstruction = self.build
            return engine
        cells = self.cells or round(count**0.5)
        if cells > count:
            raise ValueError(f"cells must be at most the number of codes, {count}, got {cells}")
        engine = faiss.IndexIVFFlat(faiss.IndexFlatL2(width), width, cells)
        engine.cp.min_points_per_centroid = 1  # no warning for small data
        engine.train(codes)
        return engine

    def search(self, queries, k):
        """Return the `k` nearest codes of each query, the nearest first: (q, K) -> (q, k), (q, k).

        The first array holds Euclidean distances (float), or for ``"binary"`` the number of differing bits
        (int32); the second the numbers of the codes in the order in which they were added (int64). Where
        ``"ivf"`` or ``"hnsw"`` finds fewer than `k`, the rest is −1 at an infinite distance.
        """
        queries, codes = self._check("queries", queries), self._engine
        if k not in range(1, len(self) + 1):
            raise ValueError(f"k must be from 1 to the number of codes in the index, {len(self)}, got {k!r}")
        k, faiss = int(k), _faiss(self.kind, self.threads)  # FAISS takes no NumPy number
        if self.kind == "binary":
            return faiss.knn_hamming(queries, codes, k) if faiss else self._count_bits(queries, k)
        if not faiss:
            return NearestNeighbors(n_neighbors=k, algorithm="brute").fit(codes).kneighbors(queries)
        if self.kind == "ivf":
            codes.nprobe = self.probes
        elif self.kind == "hnsw":
            codes.hnsw.efSearch = self.effort
        search = partial(faiss.knn, xb=codes) if self.kind == "exact" else codes.search
        squared, indices = search(queries, k=k)
        squared[indices < 0] = np.inf
        return np.sqrt(np.maximum(squared, 0)), indices  # rounding may have taken a 0 below 0

    def _count_bits(self, queries, k):
        """Search ``"binary"`` without FAISS."""
        apart = [np.bitwise_count(self._engine ^ query).sum(axis=1, dtype=np.int32) for query in queries]
        indices = np.stack([np.argsort(row, kind="stable")[:k] for row in apart])
        return np.stack([row[near] for row, near in zip(apart, indices, strict=True)]), indices

    def save(self, path):
        """Write the index to `path`, whole or not at all; nothing in the file is pickled."""
        if not len(self):
            raise ValueError("the index is empty: there is nothing to save")
        options, content = json.dumps(asdict(self)).encode(), io.BytesIO()
        stored = self._engine
        if self.kind in LOSSY:
            stored = _faiss(self.kind, self.threads).serialize_index(stored)
        np.savez(content, options=np.frombuffer(options, np.uint8), stored=stored)
        digest = hashlib.sha256(content.getbuffer()).digest()
        files.write_atomically(path, MAGIC + digest + content.getvalue())

    @classmethod
    def load(cls, path):
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
            stored = _faiss(index.kind, index.threads).deserialize_index(stored)
        index._engine = stored
        return index


def binarize(codes, thresholds=None):
    """Turn codes into bits, 1 where a number is above its threshold: (n, K) -> uint8 (n, ⌈K/8⌉).

    `thresholds` is one number or (K,), by default 0: the bits are the signs. Give queries the thresholds of
    the database; those of ``np.median(codes, axis=0)`` make each bit 1 for half of the codes.
    """
    codes, thresholds = np.asarray(codes), np.asarray(0.0 if thresholds is None else thresholds)
    shapes = codes.shape, thresholds.shape
    if codes.ndim != 2 or shapes[1] not in ((), shapes[0][1:]) or not codes.size or np.isnan(codes).any():
        raise ValueError(f"codes must be numbers (n, K), thresholds () or (K,), got shapes {shapes} or NaN")
    return np.packbits(codes > thresholds, axis=1)


def _relevant(labels, queries_labels, indices):
    """Return whether each answer has its query's label, bool (q, k); −1, no answer, never has."""
    labels, queries_labels, indices = map(np.asarray, (labels, queries_labels, indices))
    shapes = labels.shape, queries_labels.shape, indices.shape
    if tuple(map(len, shapes)) != (1, 1, 2) or shapes[1] != shapes[2][:1] or not labels.size * indices.size:
        raise ValueError(f"labels, queries_labels, indices must have shapes (n,), (q,), (q, k), got {shapes}")
    if indices.dtype.kind not in "iu" or indices.min() < -1 or indices.max() >= len(labels):
        raise ValueError(f"indices must be whole numbers from -1 to {len(labels) - 1}, got {indices.dtype}")
    return (labels[indices] == queries_labels[:, None]) & (indices >= 0)


def precision_at_k(labels, queries_labels, indices):
    """Share of the k answers that have their query's label, the mean over the queries.

    `labels` (n,) are those of the codes in the index, `queries_labels` (q,) those of the queries, `indices`
    (q, k) what `Index.search` returns; −1, no answer, counts as a wrong one.
    """
    return float(_relevant(labels, queries_labels, indices).mean())


def mean_average_precision(labels, queries_labels, indices):
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
