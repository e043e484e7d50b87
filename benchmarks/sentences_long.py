"""Train the transformers of `applications/sentences`, which are too slow for a notebook.

    AELIB_DATA_DIR=... KERAS_BACKEND=jax python benchmarks/sentences_long.py
    AELIB_DATA_DIR=... KERAS_BACKEND=jax python benchmarks/sentences_long.py --trial --out trial.json

All on the training reviews of `imdb`, without their labels; 5,000 words, tokens of 64 numbers, two blocks.

*reviews*: a masked transformer on pieces of 64 words, three seeds. The mean of its tokens over a review is
the feature of a logistic regression on 100, 1,000 and all labels, five draws of each small number, as in the
chapter. Controls: the same net untrained, and the small word vectors that ship with ``wordllama``
(``pip install wordllama``; left out where it is not installed).

*sentences*: sentences of 5 to 16 words with 15 % blanks. The open net is two blocks; the others have a code
of so many numbers between the blocks, and nothing else passes.

About 40 minutes of processor time on one core. Every finished run is stored, and a second start goes on after
it. The figures go to ``benchmarks/results/sentences_long.json``.
"""

import argparse
import collections
import math
import os
import re
import time
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

import aelib
from aelib.book import ledger
from aelib.book.runs import Runs

WORDS, WIDTH, HEADS = 5_000, 64, 4
PAD, BLANK, UNKNOWN, FIRST = 0, 1, 2, 3
PIECE, LONGEST, SHORTEST, HIDDEN = 64, 16, 5, 0.15
RATE, SEEDS, DRAWS = 2e-3, (0, 1, 2), range(5)
EPOCHS = {"reviews": 2, "sentences": 2}
BATCHES = {"reviews": 32, "sentences": 64}
CODES = (32, 128, 512)
GRID = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)


def words_of(text):
    """Return the words of a text in small letters."""
    return re.findall(r"[a-z0-9]+(?:'[a-z]+)?", text.lower().replace("<br />", " "))


def sentences_of(text):
    """Return the words of each sentence of a text."""
    return [words_of(part) for part in re.split(r"[.!?]+|<br />", text)]


class Words:
    """The most frequent words of some texts, and their numbers."""

    def __init__(self, texts, size):
        counts = collections.Counter(word for text in texts for word in words_of(text))
        common = sorted(counts, key=lambda word: (-counts[word], word))
        self.spelling = ["", "___", "?", *common[: size - FIRST]]
        self.number = {word: i for i, word in enumerate(self.spelling) if i >= FIRST}

    def encode(self, words):
        """Return the number of each word."""
        return [self.number.get(word, UNKNOWN) for word in words]


def padded(rows, length):
    """Put lists of numbers into one array, (n, length), zeros at the end."""
    out = np.zeros((len(rows), length), np.int32)
    for line, row in zip(out, rows, strict=True):
        line[: len(row)] = row
    return out


def pieces(words, texts):
    """Cut reviews into pieces of at most 64 words: (n, 64), and whose review each is, (n,)."""
    rows, owner = [], []
    for i, text in enumerate(texts):
        numbers = words.encode(words_of(text)) or [UNKNOWN]
        cut = [numbers[at : at + PIECE] for at in range(0, len(numbers), PIECE)]
        rows += cut
        owner += [i] * len(cut)
    return padded(rows, PIECE), np.array(owner)


def sentences(words, texts, without=()):
    """Return the different sentences of 5 to 16 words, at most one in five unknown: (n, 16)."""
    found = {}
    for text in texts:
        for sentence in sentences_of(text):
            row = tuple(words.encode(sentence))
            if SHORTEST <= len(row) <= LONGEST and row.count(UNKNOWN) <= len(row) / 5 and row not in without:
                found[row] = None
    return padded(list(found), LONGEST)


def hide(rows, rng, intact):
    """Hide 15 % of the known words of each row, at least one.

    Returns the rows with blanks, (n, L), the places that count in the loss, (n, M), their words and weights.
    With `intact`, as many known words that were left count as well. Without it one hidden word in five stays
    as it is, so that the net also learns to read words that are there.
    """
    length = rows.shape[1]
    known = rows >= FIRST
    most = math.ceil(HIDDEN * length)
    order = np.argsort(rng.random(rows.shape) + 2 * ~known, axis=1)
    count = known.sum(axis=1)
    share = np.minimum(np.maximum(1, np.round(HIDDEN * count)), count).astype(int)
    places = order[:, : 2 * most if intact else most]
    rank = np.arange(places.shape[1])
    hidden = rank < share[:, None]
    counted = rank < np.minimum(2 * share, count)[:, None] if intact else hidden
    blank = hidden & ((rng.random(hidden.shape) < 0.8) | intact)
    words = np.take_along_axis(rows, places, axis=1)
    shown = rows.copy()
    np.put_along_axis(shown, places, np.where(blank, BLANK, words), axis=1)
    return shown, places.astype("int32"), words, counted.astype("float32")


class Start(layers.Layer):
    """Word numbers -> vectors of words plus vectors of places: (B, L) -> (B, L, 64)."""

    def build(self, shape):
        """Make both tables."""
        small = keras.initializers.RandomNormal(stddev=0.05)
        self.words = self.add_weight(shape=(WORDS, WIDTH), initializer=small, name="words")
        self.places = self.add_weight(shape=(shape[1], WIDTH), initializer=small, name="places")

    def call(self, tokens):
        """Return the sums."""
        return ops.take(self.words, tokens, axis=0) + self.places


class End(layers.Layer):
    """Vectors at some places -> logits of all words, by the start's own table."""

    def __init__(self, start):
        super().__init__()
        self.start = start

    def build(self, shape):
        """Make the biases."""
        self.bias = self.add_weight(shape=(WORDS,), initializer="zeros", name="bias")

    def call(self, t, places):
        """Return the logits."""
        t = ops.take_along_axis(t, places[..., None], axis=1)
        return ops.matmul(t, ops.transpose(self.start.words)) + self.bias


def block(t, real):
    """Return what a transformer block makes of tokens: attention of four heads, then two dense layers."""
    length, head = t.shape[1], WIDTH // HEADS
    h = layers.LayerNormalization(epsilon=1e-5)(t)

    def heads():
        return ops.transpose(ops.reshape(layers.Dense(WIDTH)(h), (-1, length, HEADS, head)), (0, 2, 1, 3))

    asked, offered, value = heads(), heads(), heads()
    scores = ops.matmul(asked, ops.transpose(offered, (0, 1, 3, 2))) / math.sqrt(head)
    weights = ops.softmax(scores - 1e9 * (1.0 - real[:, None, None, :]))
    mixed = ops.reshape(ops.transpose(ops.matmul(weights, value), (0, 2, 1, 3)), (-1, length, WIDTH))
    t = t + layers.Dense(WIDTH)(mixed)
    h = layers.LayerNormalization(epsilon=1e-5)(t)
    return t + layers.Dense(WIDTH)(layers.Dense(2 * WIDTH, "relu")(h))


def build(length, code=None, seed=0):
    """Return the net for training, tokens and places -> logits, and the reader, tokens -> vectors."""
    keras.utils.set_random_seed(seed)
    tokens = keras.Input((length,), dtype="int32", name="tokens")
    places = keras.Input((None,), dtype="int32", name="places")
    real = ops.cast(tokens != PAD, "float32")
    start = Start()
    t = first = block(start(tokens), real)
    if code is not None:
        z = layers.Dense(code, name="code")(layers.Flatten()(first * real[..., None]))
        t = layers.Reshape((length, WIDTH))(layers.Dense(length * WIDTH)(z))
    t = layers.LayerNormalization(epsilon=1e-5)(block(t, real))
    net = keras.Model({"tokens": tokens, "places": places}, End(start)(t, places))
    return net, keras.Model(tokens, {"first": first, "last": t})


def surprise(words, logits):
    """Return -log p(word) at each place, (B, M); Keras's own builds one-hot vectors."""
    words = ops.cast(words, "int32")[..., None]
    return ops.logsumexp(logits, axis=-1) - ops.take_along_axis(logits, words, axis=-1)[..., 0]


def train(net, rows, epochs, batch, seed, intact):
    """Train in place with new blanks in each epoch; return the loss of each and the processor seconds."""
    rng = np.random.default_rng(seed)
    steps = epochs * (len(rows) // batch)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - steps // 20), warmup_target=RATE, warmup_steps=max(1, steps // 20)
    )
    optimizer = keras.optimizers.AdamW(rate, weight_decay=0.01, global_clipnorm=1.0)
    net.compile(optimizer, surprise, jit_compile=True)
    begun, losses = time.process_time(), []
    for _ in range(epochs):
        chosen = rng.permutation(len(rows))[: len(rows) // batch * batch]
        shown, places, words, weights = hide(rows[chosen], rng, intact)
        history = net.fit(
            {"tokens": shown, "places": places},
            words,
            sample_weight=weights,
            batch_size=batch,
            shuffle=False,
            verbose=0,
        )
        losses.append(history.history["loss"][0] / float(weights.mean()))
    return losses, time.process_time() - begun


def features(reader, rows, owner, number):
    """Return the mean of a review's vectors after the first and the second block: (n, 128)."""
    total, count = np.zeros((number, 2 * WIDTH)), np.zeros((number, 1))
    for at in range(0, len(rows), 512):
        part = rows[at : at + 512]
        filled = np.pad(part, ((0, 512 - len(part)), (0, 0)))  # one shape, one compilation
        out = reader.predict_on_batch(filled)
        real = (part != PAD)[..., None]
        tokens = np.concatenate([out["first"], out["last"]], axis=-1)[: len(part)]
        np.add.at(total, owner[at : at + 512], (tokens * real).sum(axis=1))
        np.add.at(count, owner[at : at + 512], real.sum(axis=1))
    return (total / count).astype("float32")


def draw(labels, number, seed):
    """Return the rows of a labelled draw, half of each class, as in the chapter."""
    rng = np.random.default_rng(1000 * number + seed)
    halves = (rng.choice(np.flatnonzero(labels == c), number // 2, replace=False) for c in (0, 1))
    return np.concatenate([*halves])


def probe(x, y, numbers):
    """Return the test accuracy of logistic regressions on so many labels; C is chosen on validation."""
    out = {}
    scaler = StandardScaler().fit(x["train"])
    x = {part: scaler.transform(values) for part, values in x.items()}

    def accuracy(rows, c, part):
        model = LogisticRegression(C=c, max_iter=500).fit(x["train"][rows], y["train"][rows])
        return 100 * float(model.score(x[part], y[part]))

    for number in numbers:
        name = str(number or "all")
        drawn = [draw(y["train"], number, s) for s in DRAWS] if number else [np.arange(len(y["train"]))]
        trial = draw(y["train"], number, 99) if number else drawn[0]
        scores = [accuracy(trial, c, "val") for c in GRID]
        best = int(np.argmax(scores))
        out[name] = {
            "accuracy": [accuracy(rows, GRID[best], "test") for rows in drawn],
            "C": GRID[best],
            "edge": best in (0, len(GRID) - 1),
            "validation": scores[best],
        }
    return out


def review_run(data, epochs, seed, numbers):
    """Pretrain on pieces of reviews, then probe."""
    net, reader = build(PIECE, seed=seed)
    losses, seconds = [], 0.0
    if epochs:
        losses, seconds = train(net, data["pieces"][0], epochs, BATCHES["reviews"], seed, intact=False)
    sizes = {part: len(texts) for part, texts in data["texts"].items()}
    x = {part: features(reader, *data["cut"][part], size) for part, size in sizes.items()}
    return {"loss": losses, "seconds": round(seconds, 1), "probe": probe(x, data["labels"], numbers)}


def shipped_run(data, numbers):
    """Probe the word vectors that ship with a package: the mean over a review."""
    import wordllama
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    folder = Path(wordllama.__file__).parent
    tokenizer = Tokenizer.from_file(str(folder / "tokenizers" / "l2_supercat_tokenizer_config.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    (table,) = load_file(folder / "weights" / "l2_supercat_256.safetensors").values()
    table = table.astype("float32")
    begun = time.process_time()
    x = {
        part: np.stack(
            [table[tokenizer.encode(text, add_special_tokens=False).ids].mean(axis=0) for text in texts]
        )
        for part, texts in data["texts"].items()
    }
    return {"seconds": round(time.process_time() - begun, 1), "probe": probe(x, data["labels"], numbers)}


def right(net, rows, shown):
    """Return the percentage of known words that are right, in the blanks and in the other places."""
    everywhere = np.broadcast_to(np.arange(LONGEST, dtype="int32"), (250, LONGEST))
    guess = np.zeros_like(rows)
    for at in range(0, len(rows), 250):
        logits = net.predict_on_batch({"tokens": shown[at : at + 250], "places": everywhere})
        guess[at : at + 250] = FIRST + logits[..., FIRST:].argmax(axis=-1)
    blank, intact = shown == BLANK, (shown == rows) & (rows >= FIRST)
    score = {
        name: 100 * float((guess == rows)[m].mean()) for name, m in (("blank", blank), ("intact", intact))
    }
    return score, guess


def sentence_run(data, epochs, code, seed):
    """Train on sentences with blanks; count the words that are right in the test sentences."""
    net, _ = build(LONGEST, code, seed)
    losses, seconds = train(net, data["lines"], epochs, BATCHES["sentences"], seed, intact=True)
    score, guess = right(net, data["asked"], data["shown"])
    validation, _ = right(net, data["asked_val"], data["shown_val"])
    examples = []
    for row in range(40):
        spell = [data["words"].spelling[i] for i in guess[row]]
        examples.append(" ".join(spell[: int((data["asked"][row] != PAD).sum())]))
    return {
        "parameters": net.count_params(),
        "loss": losses,
        "seconds": round(seconds, 1),
        "test": score,
        "validation": validation,
        "examples": examples,
    }


def prepare(trial):
    """Load the reviews and cut them up."""
    imdb = aelib.load("imdb")
    take = 400 if trial else None
    texts = {"train": imdb.x_train[:take], "val": imdb.x_val[:take], "test": imdb.x_test[:take]}
    labels = {"train": imdb.y_train[:take], "val": imdb.y_val[:take], "test": imdb.y_test[:take]}
    fresh = ~np.isin(texts["train"], texts["val"])  # copies are not to stand on both sides
    texts["train"], labels["train"] = texts["train"][fresh], labels["train"][fresh]
    words = Words(texts["train"], WORDS)
    data = {"texts": texts, "labels": labels, "words": words, "source": imdb.source}
    data["cut"] = {part: pieces(words, some) for part, some in texts.items()}
    data["pieces"] = data["cut"]["train"]
    lines = sentences(words, texts["train"])
    seen = {tuple(int(i) for i in row if i) for row in lines}
    data["lines"] = lines
    for part, name, seed in (("val", "_val", 1), ("test", "", 2)):
        asked = sentences(words, texts[part], seen)
        asked = asked[np.random.default_rng(seed).permutation(len(asked))[: 500 if trial else 5_000]]
        asked = asked[: len(asked) // 250 * 250]
        data["asked" + name] = asked
        data["shown" + name] = hide(asked, np.random.default_rng(seed), intact=True)[0]
    return data


def main():
    """Run what is not stored yet, and store it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trial", action="store_true", help="a few reviews and one epoch, to try it out")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "sentences_long.json")
    args = parser.parse_args()
    epochs = dict.fromkeys(EPOCHS, 1) if args.trial else EPOCHS
    numbers = (50, 100, None) if args.trial else (100, 1_000, None)
    data = prepare(args.trial)
    settings = {
        "what": "masked transformers, 5,000 words, tokens of 64, two blocks of four heads",
        "epochs": epochs,
        "batches": BATCHES,
        "seeds": list(SEEDS),
        "labels": [str(number or "all") for number in numbers],
        "reviews": len(data["texts"]["train"]),
        "words": int((data["cut"]["train"][0] != PAD).sum()),
        "pieces": len(data["pieces"][0]),
        "sentences": len(data["lines"]),
        "asked": len(data["asked"]),
        "blanks": int((data["shown"] == BLANK).sum()),
        "checksum": int((data["asked"].astype(np.int64) * (data["shown"] == BLANK)).sum()),
        "parameters": build(PIECE)[0].count_params(),
        "device": ledger.device(),
        "data": data["source"],
    }
    runs = Runs(args.out, settings)

    def reviews(seed, epochs):
        key = {"kind": "reviews", "epochs": epochs, "seed": seed}
        key |= {"batch": BATCHES["reviews"]} if epochs else {}
        runs.get(key, lambda: review_run(data, epochs, seed, numbers))

    def lines(code, seed, epochs):
        key = {"kind": "sentences", "code": code or 0, "epochs": epochs, "seed": seed}
        key |= {"batch": BATCHES["sentences"]}
        runs.get(key, lambda: sentence_run(data, epochs, code, seed))

    few, short = epochs["reviews"], epochs["sentences"]
    try:
        runs.get({"kind": "shipped", "seed": 0}, lambda: shipped_run(data, numbers))
    except ImportError:
        print("wordllama is not installed: its row is left out", flush=True)
    reviews(0, 0)
    reviews(0, few)
    lines(None, 0, short)
    lines(128, 0, short)
    for seed in SEEDS[1:]:
        lines(None, seed, short)
        lines(128, seed, short)
    for code in CODES:
        lines(code, 0, short)
    for seed in SEEDS[1:]:
        reviews(seed, few)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    main()
