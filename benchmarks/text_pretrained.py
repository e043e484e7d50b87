"""Search, group and classify newsgroup posts by pretrained vectors of word pieces, for `applications/text`.

    pip install wordllama==0.4.0.post1
    AELIB_DATA_DIR=... python benchmarks/text_pretrained.py

`wordllama` ships 32,000 vectors of 256 numbers, one for each piece of a word, and the tokenizer that cuts
texts into these pieces; nothing is downloaded. A post's code is the mean of the vectors of its pieces, in two
forms: every piece weighs the same, or a piece of probability p weighs a / (a + p) (Arora et al., 2017). Codes
of 256 numbers, and by PCA of the training posts 128, 64 and 32, plain or divided by the spread of each
component to the power 1/2. What is best for each size is chosen by precision@10 of the validation posts; the
test posts are then used once, for precision@k, k-means (NMI, five starts) and probes with 100, 1,000 and all
labels.

Posts, washing, vocabulary, labels and measures are those of the chapter: the same posts are left out. About
three minutes of processor time. Every finished run is stored, and a second start goes on after it. The
figures go to ``benchmarks/results/text_pretrained.json``.
"""

import argparse
import functools
import re
import time
from pathlib import Path

import numpy as np
import wordllama
from safetensors.numpy import load_file
from sklearn.cluster import KMeans
from sklearn.datasets import _twenty_newsgroups as washing
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize
from tokenizers import Tokenizer

import aelib
from aelib import clustering, retrieval
from aelib.book.runs import Runs

PARTS = ("train", "val", "test")
SIZES, WHITEN = (256, 128, 64, 32), (0.0, 0.5)
POOLING = {"mean": None, "a = 0.01": 0.01, "a = 0.001": 1e-3, "a = 0.0001": 1e-4, "a = 0.00001": 1e-5}
KS, LABELS, DRAWS, STARTS = (1, 10, 100), (100, 1000, None), 5, 5
STRENGTHS = (0.01, 0.1, 1, 10, 100, 1000)
TRIAL = 300


def washed(post):
    """Return a post without its header, the lines that it quotes, and its signature."""
    if post.count("\n") < 2:  # tabs where the original has line breaks
        post = post.replace("\t", "\n")
    if re.match(r"[A-Z][\w-]*:", post):
        post = washing.strip_newsgroup_header(post)
    return washing.strip_newsgroup_footer(washing.strip_newsgroup_quoting(post))


def read(trial):
    """Return the chapter's posts and labels of each part."""
    news = aelib.load("newsgroups")
    texts = {part: [washed(post) for post in getattr(news, f"x_{part}")] for part in PARTS}
    labels = {part: np.asarray(getattr(news, f"y_{part}")) for part in PARTS}
    reader = CountVectorizer(stop_words="english", token_pattern="[a-z]{3,}", min_df=2).fit(texts["train"])
    for part in PARTS:
        keep = np.flatnonzero(reader.transform(texts[part]).getnnz(axis=1) >= 5)[: TRIAL if trial else None]
        texts[part], labels[part] = [texts[part][i] for i in keep], labels[part][keep]
    return texts, labels


def pretrained():
    """Return the vectors (pieces, 256) and the tokenizer that the package ships."""
    folder = Path(wordllama.__file__).parent
    (vectors,) = load_file(folder / "weights" / "l2_supercat_256.safetensors").values()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizers" / "l2_supercat_tokenizer_config.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return vectors.astype("float32"), tokenizer


def cut(tokenizer, texts):
    """Return the numbers of the pieces of each text."""
    return [np.array(e.ids) for e in tokenizer.encode_batch(texts, add_special_tokens=False)]


def pool(pieces, vectors, weight):
    """Return the weighted mean of the vectors of each text's pieces: (n, 256)."""
    means = np.zeros((len(pieces), vectors.shape[1]), "float32")
    for row, numbers in zip(means, pieces, strict=True):
        if len(numbers):
            row[:] = weight[numbers] @ vectors[numbers] / weight[numbers].sum()
    return means


def shrunk(codes, size, whiten):
    """Return codes of `size` numbers, fitted to the training posts; 256 are left as they are."""
    if size >= codes["train"].shape[1] and not whiten:
        return codes
    pca = PCA(size, svd_solver="full").fit(codes["train"])
    scale = pca.explained_variance_ ** (whiten / 2)
    return {part: (pca.transform(x) / scale).astype("float32") for part, x in codes.items()}


def precision(codes, labels, part, ks):
    """Return precision@k of a part's posts among the training posts, by the cosine, for each k."""
    near = retrieval.Index(cosine=True).fit(codes["train"]).search(codes[part], max(ks))[1]
    score = retrieval.precision_at_k
    return {str(k): score(labels["train"], labels[part], near[:, :k]) for k in ks}


def draw(labels, amount, seed):
    """Return the numbers of `amount` labelled posts, as many of each group; all for None."""
    order = np.random.default_rng(seed).permutation(len(labels))
    if amount is None:
        return order
    groups = np.unique(labels)
    per_group = max(1, amount // len(groups))
    return np.concatenate([order[labels[order] == group][:per_group] for group in groups])


def probes(codes, labels, amount):
    """Return the test accuracy, in %, of each draw, and the strength chosen on validation posts."""
    unit = {part: normalize(x) for part, x in codes.items()}

    def fit(few, strength):
        model = LogisticRegression(C=strength, tol=1e-3, max_iter=300)
        return model.fit(unit["train"][few], labels["train"][few])

    first = draw(labels["train"], amount, 0)
    tries = {c: 100 * fit(first, c).score(unit["val"], labels["val"]) for c in STRENGTHS}
    best = max(tries, key=tries.get)
    draws = [draw(labels["train"], amount, seed) for seed in range(DRAWS if amount else 1)]
    test = [100 * fit(few, best).score(unit["test"], labels["test"]) for few in draws]
    return {"C": best, "validation": {str(c): v for c, v in tries.items()}, "test": test}


def group(codes, labels, count):
    """Return the NMI and the matched accuracy of k-means on the test posts, for each start."""
    unit = normalize(codes["test"])
    fits = [KMeans(count, n_init=1, random_state=start).fit(unit).labels_ for start in range(STARTS)]
    found = [clustering.scores(labels["test"], fit) for fit in fits]
    return {name: [f[name] for f in found] for name in ("NMI", "accuracy")}


def main():
    """Run what is not stored yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trial", action="store_true", help="a few hundred posts, to another file")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    name = "text_pretrained_trial.json" if options.trial else "text_pretrained.json"
    out = options.out or Path(__file__).parent / "results" / name
    begun = time.process_time()
    texts, labels = read(options.trial)
    vectors, tokenizer = pretrained()
    pieces = {part: cut(tokenizer, texts[part]) for part in PARTS}
    counts = np.bincount(np.concatenate(pieces["train"]), minlength=len(vectors))
    share = counts / counts.sum()
    encoding = time.process_time() - begun

    runs = Runs(
        out,
        {
            "package": "wordllama 0.4.0.post1",
            "pieces": len(vectors),
            "numbers": vectors.shape[1],
            "posts": {part: len(texts[part]) for part in PARTS},
        },
    )
    runs.stored.setdefault("seconds of reading, cutting and counting", encoding)

    @functools.cache
    def pooled(pooling):
        weight = np.ones(len(vectors)) if (a := POOLING[pooling]) is None else a / (a + share)
        return {part: pool(pieces[part], vectors, weight.astype("float32")) for part in PARTS}

    def codes_of(pooling, size, whiten):
        return shrunk(pooled(pooling), size, whiten)

    for pooling in POOLING:
        for size in SIZES:
            for whiten in WHITEN:
                if whiten and size == vectors.shape[1] and options.trial:
                    continue  # fewer posts than numbers would do
                key = {"kind": "try", "pooling": pooling, "size": size, "whiten": whiten}
                runs.get(
                    key,
                    lambda key=key: {
                        "validation": precision(
                            codes_of(key["pooling"], key["size"], key["whiten"]), labels, "val", (10,)
                        )["10"]
                    },
                )
    for size in SIZES:
        tries = [run for run in runs.stored["runs"] if run["kind"] == "try" and run["size"] == size]
        best = max(tries, key=lambda run: run["validation"])
        chosen = {name: best[name] for name in ("pooling", "size", "whiten")}

        def test(chosen=chosen, size=size):
            codes = codes_of(**chosen)
            found = {"test": precision(codes, labels, "test", KS)}
            if size in (256, 32):
                groups = len(np.unique(labels["train"]))
                found["clusters"] = group(codes, labels, groups)
                found["probes"] = {str(amount or "all"): probes(codes, labels, amount) for amount in LABELS}
            return found

        runs.get({"kind": "test"} | chosen, test)
    runs.stored["processor seconds of the last start"] = time.process_time() - begun
    runs.save()


if __name__ == "__main__":
    main()
