"""Retrieval: FAISS and its stand-in find what brute force finds, and no damaged index comes back."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.metrics import average_precision_score

from aelib.retrieval import ITQ, Index, binarize, mean_average_precision, precision_at_k

ENGINES = ["faiss", "plain"]


@pytest.fixture(params=ENGINES)
def engine(request, monkeypatch):
    """Run a test with FAISS, where it is installed, and as if it were not."""
    if request.param == "faiss":
        pytest.importorskip("faiss")
    else:
        monkeypatch.setitem(sys.modules, "faiss", None)
    return request.param


@pytest.fixture
def codes():
    return np.random.default_rng(0).normal(size=(400, 6)).astype("float32")


@pytest.fixture
def queries():
    return np.random.default_rng(1).normal(size=(30, 6)).astype("float32")


def by_force(codes, queries):
    """Every distance, in double precision."""
    return np.linalg.norm(queries[:, None].astype(float) - codes[None], axis=2)


def test_exact_is_brute_force(engine, codes, queries):
    distances, indices = Index().fit(codes).search(queries, np.int32(7))
    wanted = by_force(codes, queries)
    np.testing.assert_array_equal(indices, wanted.argsort(axis=1)[:, :7])
    np.testing.assert_allclose(distances, np.sort(wanted, axis=1)[:, :7], atol=1e-4)
    assert indices.dtype == np.int64


def test_a_code_is_its_own_nearest_at_no_distance(engine, codes):
    distances, indices = Index().fit(codes).search(codes, 1)
    np.testing.assert_array_equal(indices[:, 0], np.arange(400))
    np.testing.assert_allclose(distances, 0, atol=5e-3)


def test_cosine_is_the_order_of_the_cosine(engine, codes, queries):
    codes[0] = 0  # has no direction, and stays where it is
    distances, indices = Index(cosine=True).fit(codes * 3).search(queries * 5, 9)
    length = np.linalg.norm(codes, axis=1) * np.linalg.norm(queries, axis=1)[:, None]
    cosine = queries @ codes.T / np.maximum(length, 1e-30)
    cosine[:, 0] = 0.5  # distance 1 from everything of length 1
    wanted = (-cosine).argsort(axis=1)[:, :9]
    np.testing.assert_array_equal(indices, wanted)
    real = indices > 0
    np.testing.assert_allclose(
        (1 - distances**2 / 2)[real], np.take_along_axis(cosine, wanted, axis=1)[real], atol=1e-5
    )


def test_binary_counts_the_bits_that_differ(engine):
    rng = np.random.default_rng(0)
    bits, asked = rng.integers(0, 2, (300, 64)), rng.integers(0, 2, (20, 64))
    wanted = np.sum(bits[None] != asked[:, None], axis=2)
    distances, indices = Index("binary").fit(binarize(bits, 0.5)).search(binarize(asked, 0.5), 10)
    np.testing.assert_array_equal(distances, np.sort(wanted, axis=1)[:, :10])
    np.testing.assert_array_equal(distances, np.take_along_axis(wanted, indices, axis=1))
    assert distances.dtype == np.int32


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1), st.integers(2, 60), st.integers(1, 9))
def test_a_shuffled_database_gives_the_same_answers(seed, n, width):
    rng = np.random.default_rng(seed)
    codes, queries = rng.normal(size=(n, width)), rng.normal(size=(5, width))
    order = rng.permutation(n)
    distances, indices = Index().fit(codes).search(queries, 2)
    shuffled, places = Index().fit(codes[order]).search(queries, 2)
    np.testing.assert_allclose(shuffled, distances, atol=1e-3)
    if width > 1:  # in one dimension two may be equally far, to the last digit
        np.testing.assert_array_equal(order[places], indices)


@pytest.mark.parametrize("kind", ["exact", "binary"])
def test_added_codes_are_numbered_on(engine, codes, kind):
    codes = binarize(codes) if kind == "binary" else codes
    index = Index(kind).add(codes[:150]).add(codes[150:])
    once = Index(kind).fit(codes[:3]).fit(codes)  # a second fit starts again
    assert len(index) == len(once) == 400
    for mine, wanted in zip(index.search(codes[:9], 3), once.search(codes[:9], 3), strict=True):
        np.testing.assert_array_equal(mine, wanted)


def test_an_index_keeps_its_codes_when_the_caller_changes_his(engine, codes, queries):
    index = Index().fit(codes)
    before = index.search(queries, 3)[1]
    codes[:] = 0
    np.testing.assert_array_equal(index.search(queries, 3)[1], before)


@pytest.mark.parametrize(
    ("few", "many"),
    [
        ({"kind": "ivf", "nprobe": 1, "nlist": 20}, ("nprobe", 20)),
        ({"kind": "hnsw", "M": 4, "ef_construction": 4, "ef_search": 1}, ("ef_search", 400)),
    ],
)
def test_more_effort_finds_more(codes, queries, few, many):
    pytest.importorskip("faiss")
    index = Index(**few).fit(codes[:390]).add(codes[390:])
    wanted = by_force(codes, queries).argsort(axis=1)[:, :5]
    assert len(index) == 400

    def recall():
        found = index.search(queries, 5)[1]
        return np.mean([len(np.intersect1d(a, b)) / 5 for a, b in zip(found, wanted, strict=True)])

    before = recall()
    setattr(index, *many)
    assert 0 < before < recall()
    assert recall() > 0.95


def test_all_cells_are_exact(codes, queries):
    pytest.importorskip("faiss")
    index = Index("ivf", nprobe=20).fit(codes)  # the root of 400
    distances, indices = index.search(queries, 5)
    wanted, places = Index().fit(codes).search(queries, 5)
    np.testing.assert_array_equal(indices, places)
    np.testing.assert_allclose(distances, wanted, atol=1e-3)


def test_what_one_cell_does_not_hold_is_minus_one(codes, queries):
    pytest.importorskip("faiss")
    distances, indices = Index("ivf", nprobe=1, nlist=40).fit(codes).search(queries, 60)
    missing = indices < 0
    assert missing.any()
    assert np.isinf(distances[missing]).all()
    assert np.isfinite(distances[~missing]).all()
    labels = np.zeros(400, int)
    assert precision_at_k(labels, labels[:30], indices) == pytest.approx(1 - missing.mean())


def squeezed(codes, engine):
    """What a product quantizer makes of codes: each part's nearest centre, by hand."""
    import faiss

    rotation = np.eye(engine.d, dtype="float32")
    if isinstance(engine, faiss.IndexPreTransform):
        rotation = faiss.vector_to_array(faiss.downcast_VectorTransform(engine.chain.at(0)).A)
        engine = faiss.downcast_index(engine.index)
        rotation = rotation.reshape(engine.d, -1)
    shape = engine.pq.M, engine.pq.ksub, engine.pq.dsub
    centres = faiss.vector_to_array(engine.pq.centroids).reshape(shape)
    turned = (codes @ rotation.T).reshape(len(codes), engine.pq.M, -1)
    apart = np.square(turned[:, :, None] - centres[None]).sum(axis=-1)  # (n, M, ksub)
    nearest = np.take_along_axis(centres, apart.argmin(axis=-1).T[..., None], axis=1)  # (M, n, dsub)
    return nearest.transpose(1, 0, 2).reshape(len(codes), -1) @ rotation


@pytest.mark.parametrize(("kind", "parts"), [("pq", 3), ("opq", 3), ("opq", 4)])
def test_quantized_codes_are_compared_with_the_query_itself(codes, queries, kind, parts):
    """Also where 4 parts of 6 numbers make 8."""
    pytest.importorskip("faiss")
    index = Index(kind, M=parts, nbits=4).fit(codes[:390]).add(codes[390:])
    assert len(index) == 400
    wanted = by_force(squeezed(codes, index._engine), queries)
    distances, indices = index.search(queries, 5)
    np.testing.assert_allclose(distances, np.sort(wanted, axis=1)[:, :5], atol=1e-3)
    np.testing.assert_allclose(np.take_along_axis(wanted, indices, axis=1), distances, atol=1e-3)


def test_the_rotation_spreads_what_the_parts_have_unequally(codes):
    pytest.importorskip("faiss")
    codes = codes * np.float32([9, 9, 1, 1, 0.1, 0.1])  # the first part is as wide as nine of the second
    errors = {}
    for kind in ("pq", "opq"):
        engine = Index(kind, M=3, nbits=4).fit(codes)._engine
        errors[kind] = np.square(squeezed(codes, engine) - codes).sum(axis=1).mean()
    assert errors["opq"] < 0.6 * errors["pq"]


@pytest.mark.parametrize(
    ("options", "count", "message"),
    [
        ({"kind": "pq", "M": 4}, 400, "M must divide the 6 numbers of a code, got 4; or take kind='opq'"),
        (
            {"kind": "pq", "M": 3},
            255,
            "nbits=8 needs at least 256 codes of 6 numbers .* got 255: lower nbits",
        ),
        ({"kind": "opq", "M": 6, "nbits": 1}, 5, "needs at least 6 codes of 6 numbers .*, got 5"),
        ({"kind": "opq", "M": 4, "nbits": 1}, 7, "needs at least 8 codes of 6 numbers .*, got 7"),
    ],
)
def test_a_product_quantizer_says_what_it_lacks(codes, options, count, message):
    pytest.importorskip("faiss")
    with pytest.raises(ValueError, match=message):
        Index(**options).fit(codes[:count])
    if "needs" in message:
        assert len(Index(**options).fit(codes[: count + 1])) == count + 1


@pytest.mark.parametrize("kind", ["ivf", "hnsw", "pq"])
def test_the_lossy_kinds_need_faiss(monkeypatch, codes, tmp_path, kind):
    pytest.importorskip("faiss")
    Index(kind, M=6).fit(codes).save(tmp_path / "index")
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match="pip install faiss-cpu"):
        Index(kind, M=6).fit(codes)
    with pytest.raises(ImportError, match="pip install faiss-cpu"):
        Index.load(tmp_path / "index")


def test_the_graph_is_the_same_when_built_again(codes, queries):
    pytest.importorskip("faiss")
    first, again = (Index("hnsw").fit(codes).search(queries, 5)[1] for _ in range(2))
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "exact"},
        {"kind": "exact", "cosine": True},
        {"kind": "binary"},
        {"kind": "ivf", "nprobe": 3},
        {"kind": "hnsw", "ef_search": 30},
        {"kind": "pq", "M": 3, "nbits": 4},
        {"kind": "opq", "M": 2, "nbits": 3, "cosine": True},
    ],
)
def test_a_saved_index_answers_alike(tmp_path, codes, queries, options):
    pytest.importorskip("faiss")
    if options["kind"] == "binary":
        codes, queries = binarize(codes), binarize(queries)
    index = Index(**options).fit(codes)
    index.save(tmp_path / "index")
    again = Index.load(tmp_path / "index")
    assert repr(again) == repr(index)
    assert len(again) == 400
    assert [path.name for path in tmp_path.iterdir()] == ["index"]
    for mine, wanted in zip(again.search(queries, 4), index.search(queries, 4), strict=True):
        np.testing.assert_array_equal(mine, wanted)


@pytest.mark.parametrize("kind", ["exact", "binary"])
def test_a_file_does_not_ask_for_faiss(monkeypatch, tmp_path, codes, kind):
    pytest.importorskip("faiss")
    codes = binarize(codes) if kind == "binary" else codes
    index = Index(kind).fit(codes)
    index.save(tmp_path / "index")
    wanted = index.search(codes[:5], 4)[0]
    monkeypatch.setitem(sys.modules, "faiss", None)
    found = Index.load(tmp_path / "index").search(codes[:5], 4)[0]
    np.testing.assert_allclose(found, wanted, atol=5e-3)


def test_no_damaged_file_comes_back(tmp_path):
    path = tmp_path / "index"
    Index().fit(np.arange(6.0).reshape(3, 2)).save(path)
    whole = path.read_bytes()
    for size in range(0, len(whole), 7):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="damaged or cut short"):
            Index.load(path)
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(ValueError, match="damaged or cut short"):
            Index.load(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(ValueError, match="damaged or cut short"):
        Index.load(path)


def test_a_save_that_fails_leaves_the_old_file(tmp_path, monkeypatch, codes):
    path = tmp_path / "index"
    Index().fit(codes).save(path)
    before = path.read_bytes()

    def refuse(*_):
        raise OSError("the disk is full")

    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(OSError, match="full"):
        Index().fit(codes[:5]).save(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["index"]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"kind": "annoy"}, "kind must be one of exact, binary, ivf, hnsw, pq, opq; got 'annoy'"),
        ({"kind": "binary", "cosine": True}, "count of bits"),
        ({"cosine": 1}, "cosine must be True or False, got 1"),
        ({"nprobe": 0}, "nprobe must be a whole number >= 1, got 0"),
        ({"nprobe": None}, "nprobe must be a whole number >= 1, got None"),
        ({"ef_search": True}, "ef_search must be a whole number >= 1, got True"),
        ({"ef_construction": "40"}, "ef_construction must be a whole number >= 1, got '40'"),
        ({"M": -1}, "M must be a whole number >= 1, got -1"),
        ({"nlist": 2.0}, "nlist must be a whole number >= 1, got 2.0"),
        ({"nbits": 0}, "nbits must be a whole number >= 1, got 0"),
        ({"nbits": 17}, "nbits must be at most 16, got 17: take a larger M"),
        ({"threads": 0}, "threads must be a whole number >= 1, got 0"),
    ],
)
def test_bad_options_are_refused(options, match):
    with pytest.raises(ValueError, match=match):
        Index(**options)


@pytest.mark.parametrize("bad", [np.zeros(6), np.zeros((0, 6)), np.full((2, 6), np.nan)])
def test_bad_codes_are_refused(engine, codes, bad):
    with pytest.raises(ValueError, match="codes must"):
        Index().fit(bad)
    with pytest.raises(ValueError, match="queries must"):
        Index().fit(codes).search(bad, 1)


def test_what_does_not_fit_is_refused(engine, codes, tmp_path):
    index = Index().fit(codes)
    with pytest.raises(ValueError, match=r"6 columns.*\(3, 5\)"):
        index.add(np.zeros((3, 5)))
    with pytest.raises(ValueError, match="uint8"):
        Index("binary").fit(codes)
    for k in (0, 2.5, True):
        with pytest.raises(ValueError, match=f"k must be a whole number >= 1, got {k}"):
            index.search(codes, k)
    with pytest.raises(ValueError, match="k must be at most the number of codes in the index, 400, got 401"):
        index.search(codes, 401)
    with pytest.raises(ValueError, match=r"the index is empty: fit\(codes\) first"):
        Index().search(codes, 1)
    with pytest.raises(ValueError, match="empty"):
        Index().save(tmp_path / "index")


def test_more_cells_than_codes_are_refused(codes):
    pytest.importorskip("faiss")
    with pytest.raises(ValueError, match="nlist must be at most the number of codes, 400, got 401"):
        Index("ivf", nlist=401).fit(codes)


def test_bits_are_those_above_the_threshold():
    codes = np.array([[-1.0, 0, 2, 0.1, 0, 0, 0, 0, 3], [5, 5, 5, 5, 5, 5, 5, 5, -5]])
    np.testing.assert_array_equal(binarize(codes), [[0b00110000, 0b10000000], [255, 0]])
    np.testing.assert_array_equal(binarize(codes, np.median(codes, axis=0))[0], [0, 0b10000000])
    np.testing.assert_array_equal(binarize(codes, 2.5), [[0, 128], [255, 0]])


@pytest.mark.parametrize(
    ("codes", "thresholds", "message"),
    [
        (np.zeros(3), None, r"codes must have shape \(n >= 1, K\), got \(3,\)"),
        (np.zeros((0, 3)), None, r"codes must have shape .*, got \(0, 3\)"),
        (np.zeros((2, 3)), [0, 1], r"thresholds must be one number or have shape \(3,\) .*, got \(2,\)"),
        ([[0.0], [np.nan]], None, "codes must be finite: 1 of its 2 .* row 1; drop or fill these rows"),
        ([[0.0]], np.nan, "thresholds must be finite: 1 of its 1"),
    ],
)
def test_bits_of_what_is_no_code_are_refused(codes, thresholds, message):
    with pytest.raises(ValueError, match=message):
        binarize(codes, thresholds)


def skewed(n=500, width=8):
    rng = np.random.default_rng(3)
    return rng.normal(size=(n, width)) * 0.7 ** np.arange(width) @ rng.normal(size=(width, width)) + 2


def loss(numbers):
    """Share of the squares that is lost when numbers are taken for their signs, at the best length."""
    return 1 - np.abs(numbers).mean() ** 2 / np.square(numbers).mean()


def test_bits_of_rotated_signs_are_those_signs():
    """A cube's corners, turned: half the Hamming distance is a quarter of the squared Euclidean one."""
    rng = np.random.default_rng(0)
    corners = rng.choice([-1.0, 1.0], (300, 5))
    codes = corners @ np.linalg.qr(rng.normal(size=(5, 5)))[0]
    starts = [ITQ(5, whiten=0, seed=seed).fit(codes).transform(codes) for seed in range(10)]
    turned = min(starts, key=loss)  # some end in a local optimum
    assert loss(turned) < 0.02
    bits = np.sign(turned)
    np.testing.assert_allclose(bits[:40] @ bits.T, corners[:40] @ corners.T)


def test_the_rotation_is_as_good_as_that_of_faiss():
    faiss = pytest.importorskip("faiss")
    codes = skewed()
    components = PCA(6).fit_transform(codes).astype("float32")
    theirs = faiss.ITQMatrix(6)
    theirs.train(components)
    mine = loss(ITQ(6, whiten=0).fit(codes).transform(codes))
    assert mine == pytest.approx(loss(theirs.apply_py(components)), rel=0.02)
    assert mine < loss(ITQ(6, whiten=0, max_iter=1).fit(codes).transform(codes)) - 0.01


@pytest.mark.parametrize("whiten", [0, 0.5, 1])
def test_whitening_divides_by_a_power_of_the_deviation(whiten):
    codes = skewed()
    numbers = ITQ(4, whiten=whiten, max_iter=3).fit(codes).transform(codes)
    variances = np.linalg.eigvalsh(np.cov(codes.T))[:-5:-1]
    assert numbers.dtype == np.float32
    np.testing.assert_allclose(
        np.linalg.eigvalsh(np.cov(numbers.T))[::-1], variances ** (1 - whiten), rtol=1e-4
    )
    np.testing.assert_allclose(numbers.mean(axis=0), 0, atol=1e-5)


def test_bits_do_not_depend_on_unit_or_parts(monkeypatch):
    codes = skewed()
    wanted = binarize(ITQ(8).fit(codes).transform(codes))
    assert wanted.shape == (500, 1)
    monkeypatch.setattr("aelib.checks.PART_BYTES", 1000)
    itq = ITQ(8).fit(64 * codes)
    np.testing.assert_array_equal(binarize(itq.transform(64 * codes)), wanted)


def test_itq_refuses_what_it_cannot_turn():
    codes = skewed()
    with pytest.raises(ValueError, match=r"at most 7, the directions in which these 500 .* 8 .*, got 8"):
        ITQ(8).fit(codes[:, [0, 1, 2, 3, 4, 5, 6, 0]])
    with pytest.raises(ValueError, match=r"at most 2, the directions in which these 3 codes"):
        ITQ(4).fit(codes[:3])
    with pytest.raises(ValueError, match=r"codes must have shape \(n >= 2, K\), got \(1, 8\)"):
        ITQ(1).fit(codes[:1])
    with pytest.raises(ValueError, match=r"codes must have shape \(n >= 1, 8\), got \(500, 7\)"):
        ITQ(2).fit(codes).transform(codes[:, 1:])
    with pytest.raises(ValueError, match=r"whiten must be in \[0, 1\], got 2"):
        ITQ(2, whiten=2)
    with pytest.raises(NotFittedError, match="fit it to codes"):
        ITQ(2).transform(codes)


@pytest.mark.parametrize("kind", ["exact", "ivf", "hnsw"])
def test_nan_is_counted_and_placed(codes, kind):
    if kind != "exact":
        pytest.importorskip("faiss")
    index = Index(kind).fit(codes)
    codes[7, 2] = codes[9, 0] = np.nan
    for call in (index.fit, index.add, lambda codes: Index(kind).fit(codes).search(codes, 1)):
        with pytest.raises(ValueError, match=r"codes must be finite: 2 of its 2400 .* row 7; drop or fill"):
            call(codes)
    with pytest.raises(ValueError, match=r"queries must be finite: 2 of its 2400 .* row 7; drop or fill"):
        Index(kind).fit(codes[10:]).search(codes, 1)
    with pytest.raises(ValueError, match=r"codes must be finite: 1 of its 18 .* row 7;"):
        Index(kind).fit(codes[i : i + 3] for i in range(0, 400, 3))


def memory_map(codes, folder):
    np.save(folder / "codes.npy", codes)
    return np.load(folder / "codes.npy", mmap_mode="r")


def pipeline(codes):
    from tensorflow.data import Dataset

    return Dataset.from_tensor_slices((codes, np.zeros(len(codes)))).batch(70)


def py_dataset(codes):
    from keras.utils import PyDataset

    class Batches(PyDataset):
        def __len__(self):
            return 4

        def __getitem__(self, i):
            return codes[100 * i : 100 * (i + 1)]

    return Batches()


SOURCES = {
    "memory map": memory_map,
    "tf.data": lambda codes, _: pipeline(codes),
    "PyDataset": lambda codes, _: py_dataset(codes),
    "generator": lambda codes, _: (codes[i : i + 33] for i in range(0, 400, 33)),
    "list": lambda codes, _: codes.tolist(),
    "double precision": lambda codes, _: codes.astype("float64"),
}


@pytest.mark.parametrize("kind", ["exact", "binary", "ivf", "hnsw"])
@pytest.mark.parametrize("source", SOURCES)
def test_codes_come_from_wherever_training_data_do(monkeypatch, codes, tmp_path, kind, source):
    if kind in ("ivf", "hnsw"):
        pytest.importorskip("faiss")
    if kind == "binary":
        codes = binarize(codes)
        if source in ("list", "double precision"):
            pytest.skip("bits are bytes")
    monkeypatch.setattr("aelib.checks.PART_BYTES", 1000)  # so that an array is read in parts too
    wanted = Index(kind, nlist=4 if kind == "ivf" else None).fit(codes).search(codes[:50], 3)
    index = Index(kind, nlist=4 if kind == "ivf" else None).fit(SOURCES[source](codes, tmp_path))
    assert len(index) == 400
    for mine, theirs in zip(index.search(codes[:50], 3), wanted, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    all_queries = index.search(SOURCES[source](codes, tmp_path), 1)[1]
    np.testing.assert_array_equal(all_queries, index.search(codes, 1)[1])


@pytest.mark.parametrize("empty", [[], np.zeros((0, 3)), iter(())])
def test_nothing_is_refused(empty):
    with pytest.raises(ValueError, match="codes must"):
        Index().fit(empty)


def test_what_holds_no_codes_is_refused():
    with pytest.raises(
        TypeError, match="codes must be an array, a pipeline or an iterable of batches, got int"
    ):
        Index().fit(3)


def test_adding_one_by_one_copies_little(monkeypatch, codes):
    """Room doubles, so that n codes are copied n times in all, and not n² / 2 times."""
    copied, empty = [], np.empty

    def counted(shape, *args, **options):
        copied.append(shape[0])
        return empty(shape, *args, **options)

    index = Index()
    monkeypatch.setattr(np, "empty", counted)
    for row in codes:
        index.add(row[None])
    monkeypatch.undo()
    assert len(index) == 400
    assert sum(copied) < 4 * 400
    np.testing.assert_array_equal(index.search(codes[:9], 3)[1], Index().fit(codes).search(codes[:9], 3)[1])


def test_options_that_change_later_are_checked_when_used(codes):
    pytest.importorskip("faiss")
    for kind, name in (("ivf", "nprobe"), ("hnsw", "ef_search")):
        index = Index(kind).fit(codes)
        setattr(index, name, 0)
        with pytest.raises(ValueError, match=f"{name} must be a whole number >= 1, got 0"):
            index.search(codes, 1)


def test_numpys_numbers_are_saved(codes, tmp_path):
    index = Index(nprobe=np.int64(3), cosine=np.bool_(True)).fit(codes)
    index.save(tmp_path / "index")
    assert repr(Index.load(tmp_path / "index")) == repr(index)


def test_precision_by_hand():
    labels = ["shoe", "shirt", "shoe", "bag"]
    assert precision_at_k(labels, ["shoe", "bag"], [[0, 1, 2], [3, 2, 1]]) == pytest.approx(0.5)
    assert precision_at_k(labels, ["bag"], [[3, -1]]) == 0.5  # -1 is not the last code


def test_mean_average_precision_of_the_full_ranking_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    labels, asked = rng.integers(0, 4, 50), rng.integers(0, 4, 12)
    distances = rng.random((12, 50))
    wanted = [average_precision_score(labels == y, -row) for y, row in zip(asked, distances, strict=True)]
    found = mean_average_precision(labels, asked, distances.argsort(axis=1))
    assert found == pytest.approx(np.mean(wanted))


def test_mean_average_precision_at_k_by_hand():
    labels = [1, 0, 1, 1, 0]
    assert mean_average_precision(labels, [1], [[0, 1, 2]]) == pytest.approx((1 + 2 / 3) / 3)
    assert mean_average_precision(labels, [0], [[0, 1, 2]]) == pytest.approx((1 / 2) / 2)
    assert mean_average_precision(labels, [0], [[1]]) == 1
    assert mean_average_precision(labels, [0, 0], [[1, -1], [0, -1]]) == pytest.approx((1 / 2 + 0) / 2)


@pytest.mark.parametrize(
    ("labels", "asked", "indices", "match"),
    [
        ([0, 1], [0], [0, 1], "shapes"),
        ([0, 1], [0], [[0], [1]], "shapes"),
        ([[0], [1]], [0], [[0]], "shapes"),
        ([], [], np.zeros((0, 1), int), "shapes"),
        ([0, 1], [0], [[2]], "from -1 to 1, .* got 2 to 2"),
        ([0, 1], [0], [[-2]], "from -1 to 1, .* got -2 to -2"),
        ([0, 1], [0], [[0.0]], "whole numbers, as Index.search returns them, got float64"),
    ],
)
def test_bad_answers_are_refused(labels, asked, indices, match):
    for measure in (precision_at_k, mean_average_precision):
        with pytest.raises(ValueError, match=match):
            measure(labels, asked, indices)


def test_a_query_without_its_like_has_no_average_precision():
    with pytest.raises(ValueError, match="label"):
        mean_average_precision([0, 1], [1, 2], [[0], [1]])
