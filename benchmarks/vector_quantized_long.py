"""Train the tokenisers, priors and rivals of `types/vector_quantized` for longer than a notebook may take.

    AELIB_DATA_DIR=... python benchmarks/vector_quantized_long.py

Fashion-MNIST, codes of 7 × 7 tokens of at most 8 bits. Two tokenisers with the same convolutions, a codebook
of 256 words (running averages, restarts) and finite scalar quantisation with levels 8 · 6 · 5 = 240: three
seeds each, and the better kind once for twice the epochs; the learning rate of each kind is chosen on
validation images after a short run. A causal transformer learns the tokens of the longer run and draws new
images; another has half the epochs. Its rivals are a plain dense autoencoder and a dense VAE, sampled from
N(0, I) or from a mixture of normals that is fitted to the codes; code size and number of components are
chosen on validation images. The Fréchet distances are by `aelib.book.ruler`, 10,000 images against the test
images, three draws each. About 55 minutes of one core. Every finished run is stored, and a second start goes
on after it. The figures go to ``benchmarks/results/vector_quantized_long.json``, the tokenisers' weights to
``_build``.
"""

import argparse
import gc
import json
import math
import os
import time
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops

import aelib
from aelib import blocks, metrics
from aelib.book import ledger
from aelib.book.ruler import Ruler
from aelib.files import write_atomically
from aelib.layers import FiniteScalarQuantizer, VectorQuantizer
from aelib.priors import MixturePrior

ROOT = Path(__file__).resolve().parent.parent
SHAPE, PLACES, LEVELS, WORDS, SEEDS = (28, 28, 1), 49, (8, 6, 5), 256, (0, 1, 2)
SETTINGS = {
    "images": 55_000,
    "batch": 128,
    "epochs": 4,
    "images to choose": 20_000,
    "prior epochs": 4,
    "prior rate": 2e-3,
    "width": 96,
    "depth": 2,
    "heads": 4,
    "dropout": 0.1,
    "rival epochs": 6,
    "drawn": 10_000,
}
TRIAL = SETTINGS | {
    "images": 640,
    "epochs": 1,
    "prior epochs": 2,
    "rival epochs": 1,
    "images to choose": 640,
    "drawn": 200,
}


def searched(score, grid, *, factor, most=7, top=math.inf):
    """Return the scores of a grid that grows until its best setting is inside it, or is `top`."""
    scores = {setting: score(setting) for setting in grid}
    while len(scores) < most:
        best = min(scores, key=scores.get)
        if best not in (min(scores), max(scores)):
            break
        setting = min(top, best * factor) if best == max(scores) else type(best)(best / factor)
        if not setting or setting in scores:
            break
        scores[setting] = score(setting)
    return scores


def quantizer(kind, seed):
    """Return a new quantiser and the length of the vectors that it reads."""
    if kind == "fsq":
        return FiniteScalarQuantizer(LEVELS), len(LEVELS)
    return VectorQuantizer(WORDS, from_data=True, seed=seed), 16


def tokenizer(kind, seed):
    """Build a vector-quantised autoencoder: 28 × 28 pixels -> 7 × 7 tokens -> 28 × 28 logits."""
    keras.utils.set_random_seed(seed)
    layer, length = quantizer(kind, seed)
    size = {"kernel_size": 4, "strides": 2, "padding": "same"}

    def residual(h):
        inner = layers.Conv2D(32, 3, padding="same", activation="silu")(h)
        return h + layers.Conv2D(64, 1)(inner)

    x = keras.Input(SHAPE)
    h = layers.Conv2D(32, **size, activation="silu")(x)
    h = residual(layers.Conv2D(64, **size, activation="silu")(h))
    encoder = keras.Model(x, layer(layers.Conv2D(length, 1)(h)), name="encoder")
    z = keras.Input((7, 7, length))
    h = residual(layers.Conv2D(64, 3, padding="same", activation="silu")(z))
    h = layers.Conv2DTranspose(32, **size, activation="silu")(h)
    decoder = keras.Model(z, layers.Conv2DTranspose(1, **size)(h), name="decoder")
    return aelib.Autoencoder(encoder, decoder)


def train(net, x, *, rate, epochs, batch, jit=False):
    """Train with Adam along half a cosine; return the processor seconds."""
    steps = epochs * math.ceil(len(x) / batch)
    schedule = keras.optimizers.schedules.CosineDecay(rate, steps)
    net.compile(keras.optimizers.Adam(schedule), jit_compile=jit)
    begun = time.process_time()
    net.fit(x, epochs=epochs, batch_size=batch, verbose=0)
    return time.process_time() - begun


def tokens_of(net, images):
    """Return the tokens of images: (n, 49), int."""
    tokens = net.encoder.layers[-1].indices(net.encode(images))
    return ops.convert_to_numpy(tokens).reshape(-1, PLACES)


def paint(net, tokens):
    """Return the images of tokens (n, 49)."""
    return net.decode(ops.convert_to_numpy(net.encoder.layers[-1].lookup(tokens.reshape(-1, 7, 7))))


def use_of(tokens, size):
    """Return how many words are used, and the perplexity of their frequencies."""
    share = np.bincount(tokens.ravel(), minlength=size) / tokens.size
    share = share[share > 0]
    return len(share), float(np.exp(-np.sum(share * np.log(share))))


class Block(layers.Layer):
    """A transformer block: attention to this place and those before it, then two dense layers."""

    def __init__(self, width, heads, dropout):
        super().__init__()
        self.width, self.heads = width, heads
        self.first, self.second = (layers.LayerNormalization(epsilon=1e-5) for _ in range(2))
        self.qkv, self.out = layers.Dense(3 * width, use_bias=False), layers.Dense(width)
        self.up, self.down = layers.Dense(2 * width, "silu"), layers.Dense(width)
        self.drop = layers.Dropout(dropout)

    def split(self, h):
        """Cut into heads: (B, T, N) -> (B, heads, T, N / heads)."""
        cut = ops.reshape(h, (-1, h.shape[1], self.heads, self.width // self.heads))
        return ops.transpose(cut, (0, 2, 1, 3))

    def call(self, x, past=None, training=None):
        """Return the new x, and the keys and values; `past` are those of the places before."""
        query, key, value = (self.split(h) for h in ops.split(self.qkv(self.first(x)), 3, axis=-1))
        if past is not None:
            key, value = (ops.concatenate(pair, axis=2) for pair in zip(past, (key, value), strict=True))
        scores = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))) / math.sqrt(query.shape[-1])
        rows, columns = query.shape[2], key.shape[2]
        scores = scores + np.triu(np.full((rows, columns), -1e9, "float32"), 1 + columns - rows)
        weights = ops.exp(scores - ops.logsumexp(scores, axis=-1, keepdims=True))
        mixed = ops.transpose(ops.matmul(weights, value), (0, 2, 1, 3))
        x = x + self.drop(self.out(ops.reshape(mixed, (-1, rows, self.width))), training=training)
        x = x + self.drop(self.down(self.up(self.second(x))), training=training)
        return x, (key, value)


class TokenPrior(keras.Model):
    """A causal transformer over tokens: (B, 49) -> logits of the token at each place, (B, 49, words)."""

    def __init__(self, words, *, width, depth, heads, dropout):
        super().__init__()
        self.words = words
        self.word = layers.Embedding(words + 1, width)  # the last stands before the first place
        self.place = layers.Embedding(PLACES, width)
        self.blocks = [Block(width, heads, dropout) for _ in range(depth)]
        self.last, self.logits = layers.LayerNormalization(epsilon=1e-5), layers.Dense(words)

    def call(self, tokens, training=None):
        """Shift the tokens by one place, so that each is predicted from those before it."""
        start = ops.full_like(tokens[:, :1], self.words)
        before = ops.concatenate([start, tokens[:, :-1]], axis=1)
        x = self.word(before) + self.place(np.arange(PLACES))
        for block in self.blocks:
            x, _ = block(x, training=training)
        return self.logits(self.last(x))

    def sample(self, n, seed, chunk=1000):
        """Draw tokens (n, 49), one place after the other."""
        rng, drawn = np.random.default_rng(seed), np.zeros((n, PLACES), "int32")
        for at in range(0, n, chunk):
            part = drawn[at : at + chunk]
            now, past = np.full((len(part), 1), self.words, "int32"), [None] * len(self.blocks)
            for t in range(PLACES):
                x = self.word(now) + self.place(np.array([t]))
                for i, block in enumerate(self.blocks):
                    x, past[i] = block(x, past[i])
                logits = ops.convert_to_numpy(self.logits(self.last(x)))[:, 0]
                now = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)[:, None].astype("int32")
                part[:, t] = now[:, 0]
        return drawn


class Bits(keras.callbacks.Callback):
    """Validation bits a token after each epoch."""

    def __init__(self, tokens):
        super().__init__()
        self.tokens, self.curve = tokens, []

    def on_epoch_end(self, epoch, logs=None):
        """Measure."""
        self.curve.append(bits_of(self.model, self.tokens))


def bits_of(prior, tokens):
    """Return the cross-entropy of tokens (n, 49), in bits a token."""
    return prior.evaluate(tokens, tokens, batch_size=500, verbose=0) / math.log(2)


def train_prior(tokens, val, words, seed, epochs, settings):
    """Return a trained prior, its validation curve and the processor seconds."""
    keras.utils.set_random_seed(seed)
    prior = TokenPrior(words, **{name: settings[name] for name in ("width", "depth", "heads", "dropout")})
    steps = epochs * math.ceil(len(tokens) / settings["batch"])
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, steps - steps // 20, warmup_target=settings["prior rate"], warmup_steps=steps // 20
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    prior.compile(keras.optimizers.AdamW(rate, weight_decay=0.01), loss, jit_compile=True)
    begun, watch = time.process_time(), Bits(val)
    options = {"batch_size": settings["batch"], "callbacks": [watch], "verbose": 0}
    prior.fit(tokens, tokens, epochs=epochs, **options)
    return prior, watch.curve, time.process_time() - begun


def frequencies(tokens, words):
    """Return the shares of the words at each place, each counted once more: (49, words)."""
    counts = np.ones((PLACES, words))
    np.add.at(counts, (np.arange(PLACES), tokens), 1)
    return counts / counts.sum(axis=1, keepdims=True)


def draw_each(shares, n, seed):
    """Draw the token of each place by itself: (n, 49)."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.choice(len(p), n, p=p) for p in shares], axis=1)


def rival(kind, size, seed):
    """Build a dense autoencoder or VAE with a code of `size` numbers."""
    keras.utils.set_random_seed(seed)
    outputs = size if kind == "plain" else 2 * size
    encoder = blocks.dense_encoder(SHAPE, outputs, hidden=(256, 128), activation="silu")
    decoder = blocks.dense_decoder(SHAPE, size, hidden=(128, 256), activation="silu")
    if kind == "plain":
        return aelib.Autoencoder(encoder, decoder)
    return aelib.VariationalAutoencoder(encoder, decoder, seed=seed)


def train_rival(kind, size, seed, x, epochs, settings):
    """Return a trained rival and the processor seconds."""
    net = rival(kind, size, seed)
    return net, train(net, x, rate=2e-3, epochs=epochs, batch=settings["batch"], jit=True)


class Script:
    """The runs, and where they are stored."""

    def __init__(self, out, settings):
        self.out, self.settings = out, settings
        self.weights = ROOT / "_build" / "vector_quantized" / out.stem
        self.weights.mkdir(parents=True, exist_ok=True)
        data = aelib.load("fashion_mnist")
        self.x, self.x_val, self.x_test = data.x_train[: settings["images"]], data.x_val, data.x_test
        self.ruler = Ruler("fashion_mnist")
        self.known = self.ruler.features(self.x_test)
        self.stored = {
            "what": "tokenisers of 49 tokens, a transformer as their prior, dense rivals",
            "settings": settings,
            "device": ledger.device(),
            "data": data.source,
            "rates": {},
            "tokenizers": [],
            "priors": [],
            "choices": {},
            "rivals": [],
        }
        if out.is_file():
            self.stored |= json.loads(out.read_text("utf-8"))
        if self.stored["settings"] != settings:
            raise SystemExit(f"{out} has other settings: move it away")

    def save(self, latest):
        """Store what there is."""
        self.out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.out, json.dumps(self.stored, indent=1, ensure_ascii=False) + "\n")
        print(f"{time.process_time():6.0f} s", json.dumps(latest), flush=True)
        gc.collect()  # nets that are done hold their data

    def done(self, part, **key):
        """Return the stored run with these settings, or None."""
        runs = self.stored[part]
        return next((run for run in runs if key.items() <= run.items()), None)

    def distance(self, images):
        """Return the Fréchet distance from the test images."""
        return metrics.frechet_distance(self.ruler.features(np.clip(images, 0, 1)), self.known)

    def held_out(self, seed):
        """Draw as many training images as are drawn elsewhere."""
        rng = np.random.default_rng(seed)
        return self.x[rng.choice(len(self.x), min(len(self.x), self.settings["drawn"]), replace=False)]

    def floor(self):
        """Measure real images against real images."""
        if "floor" not in self.stored:
            self.stored["floor"] = [self.distance(self.held_out(seed)) for seed in SEEDS]
            self.save({"floor": self.stored["floor"]})

    def rate(self, kind):
        """Choose a learning rate on validation images, after one pass over some of the training images."""
        if kind not in self.stored["rates"]:

            def score(rate):
                net, few = tokenizer(kind, 0), self.x[: self.settings["images to choose"]]
                train(net, few, rate=rate, epochs=1, batch=self.settings["batch"])
                return metrics.mse(self.x_val, net.reconstruct(self.x_val))

            scores = searched(score, (1e-3, 2e-3, 4e-3), factor=2)
            tries = {f"{rate:.3g}": scores[rate] for rate in sorted(scores)}
            self.stored["rates"][kind] = {"best": min(scores, key=scores.get), "tries": tries}
            self.save({kind: self.stored["rates"][kind]})
        return self.stored["rates"][kind]["best"]

    def path(self, kind, seed, epochs):
        """Return where a tokeniser's weights lie."""
        return self.weights / f"{kind}-{seed}-{epochs}.weights.h5"

    def tokenize(self, kind, seed, epochs):
        """Train and measure a tokeniser."""
        if self.done("tokenizers", kind=kind, seed=seed, epochs=epochs):
            return
        rate, net = self.rate(kind), tokenizer(kind, seed)
        seconds = train(net, self.x, rate=rate, epochs=epochs, batch=self.settings["batch"])
        net.save_weights(self.path(kind, seed, epochs))
        size = net.encoder.layers[-1].num_embeddings
        used, perplexity = use_of(tokens_of(net, self.x_test), size)
        answer = net.reconstruct(self.x_test)
        run = {
            "kind": kind,
            "seed": seed,
            "epochs": epochs,
            "rate": rate,
            "parameters": net.encoder.count_params() + net.decoder.count_params(),
            "validation MSE": metrics.mse(self.x_val, net.reconstruct(self.x_val)),
            "MSE": metrics.mse(self.x_test, answer),
            "PSNR": metrics.psnr(self.x_test, answer),
            "used": used,
            "perplexity": perplexity,
            "rebuilt": self.distance(net.reconstruct(self.held_out(seed))),
            "seconds": round(seconds, 1),
        }
        self.stored["tokenizers"].append(run)
        self.save(run)

    def best(self):
        """Return the kind of tokeniser whose first net has the lower validation error."""
        wanted = (0, self.settings["epochs"])
        runs = [run for run in self.stored["tokenizers"] if (run["seed"], run["epochs"]) == wanted]
        return min(runs, key=lambda run: run["validation MSE"])["kind"]

    def model_tokens(self, kind, seed, epochs):
        """Train a prior on the tokens of a tokeniser, and draw from it."""
        if self.done("priors", kind=kind, seed=seed, epochs=epochs):
            return
        net = tokenizer(kind, seed)
        net.load_weights(self.path(kind, seed, 2 * self.settings["epochs"]))
        words = net.encoder.layers[-1].num_embeddings
        tokens, val, test = (tokens_of(net, x) for x in (self.x, self.x_val, self.x_test))
        prior, curve, seconds = train_prior(tokens, val, words, seed, epochs, self.settings)
        shares = frequencies(tokens, words)
        overall = np.bincount(tokens.ravel(), minlength=words) + 1
        overall = overall / overall.sum()
        n, draws = self.settings["drawn"], (10 * seed, 10 * seed + 1, 10 * seed + 2)
        begun = time.process_time()
        drawn = [paint(net, prior.sample(n, draw)) for draw in draws]
        spent = (time.process_time() - begun) / len(draws)
        run = {
            "kind": kind,
            "seed": seed,
            "epochs": epochs,
            "parameters": prior.count_params(),
            "curve": curve,
            "bits": {
                "uniform": math.log2(words),
                "frequencies": -float(np.mean(np.log2(overall[test]))),
                "frequencies by place": -float(np.mean(np.log2(shares[np.arange(PLACES), test]))),
                "transformer": bits_of(prior, test),
                "transformer, training": bits_of(prior, tokens[: len(test)]),
            },
            "distance": [self.distance(images) for images in drawn],
            "distance, by place": self.distance(paint(net, draw_each(shares, n, seed))),
            "seconds": round(seconds, 1),
            "seconds to draw": round(spent, 1),
        }
        self.stored["priors"].append(run)
        self.save(run)

    def choose(self, kind):
        """Choose code size and components of a rival, by the distance of draws from validation images."""
        if kind in self.stored["choices"]:
            return self.stored["choices"][kind]
        few, n = self.x[: self.settings["images to choose"]], len(self.x_val)
        known = self.ruler.features(self.x_val)
        nets, most = {}, len(few[:10_000]) // 20  # twenty codes to a component at least

        def draw(size, prior, components=30):
            if size not in nets:
                nets[size], _ = train_rival(kind, size, 0, few, self.settings["rival epochs"], self.settings)
            if prior == "own":
                images = nets[size].sample(n, seed=0)
            else:
                codes = nets[size].encode(few[:10_000])
                mixture = MixturePrior(min(components, most), seed=0).fit(codes)
                images = nets[size].decode(mixture.sample(n, seed=0))
            return metrics.frechet_distance(self.ruler.features(images), known)

        sizes = searched(lambda size: draw(size, "mixture"), (8, 16, 32), factor=2)
        size = min(sizes, key=sizes.get)
        counts = searched(lambda count: draw(size, "mixture", count), (10, 30, 90), factor=3, top=most)
        chosen = {
            "size": size,
            "components": min(counts, key=counts.get),
            "sizes": {str(each): sizes[each] for each in sorted(sizes)},
            "mixtures": {str(each): counts[each] for each in sorted(counts)},
        }
        if kind == "VAE":
            own = searched(lambda size: draw(size, "own"), (8, 16, 32), factor=2)
            chosen["own size"] = min(own, key=own.get)
            chosen["own sizes"] = {str(each): own[each] for each in sorted(own)}
        self.stored["choices"][kind] = chosen
        self.save(chosen)
        return chosen

    def compete(self, kind, seed, epochs):
        """Train a rival, and draw from a mixture of its codes; for a VAE also from N(0, I)."""
        chosen, n, nets = self.choose(kind), self.settings["drawn"], {}
        draws = (10 * seed, 10 * seed + 1, 10 * seed + 2)
        for prior in ("mixture", "N(0, I)")[: 1 + (kind == "VAE")]:
            if self.done("rivals", kind=kind, prior=prior, seed=seed, epochs=epochs):
                continue
            size = chosen["size" if prior == "mixture" else "own size"]
            if size not in nets:
                nets[size] = train_rival(kind, size, seed, self.x, epochs, self.settings)
            net, seconds = nets[size]
            if prior == "mixture":
                codes, begun = net.encode(self.held_out(seed)), time.process_time()
                mixture = MixturePrior(min(chosen["components"], len(codes) // 20), seed=seed).fit(codes)
                seconds += time.process_time() - begun
                drawn = [net.decode(mixture.sample(n, seed=draw)) for draw in draws]
            else:
                drawn = [net.sample(n, seed=draw) for draw in draws]
            run = {
                "kind": kind,
                "prior": prior,
                "seed": seed,
                "epochs": epochs,
                "size": size,
                "components": chosen["components"] if prior == "mixture" else None,
                "parameters": net.encoder.count_params() + net.decoder.count_params(),
                "distance": [self.distance(images) for images in drawn],
                "rebuilt": self.distance(net.reconstruct(self.held_out(seed))),
                "seconds": round(seconds, 1),
            }
            self.stored["rivals"].append(run)
            self.save(run)


def main():
    """Run what is not stored yet, and store it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trial", action="store_true", help="tiny sizes, to try it out")
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    name = "vector_quantized_trial.json" if args.trial else "vector_quantized_long.json"
    out = args.out or (ROOT / "_build" if args.trial else Path(__file__).parent / "results") / name
    settings = TRIAL if args.trial else SETTINGS
    script, epochs = Script(out, settings), settings["epochs"]
    script.floor()
    for kind in ("vq", "fsq"):
        script.tokenize(kind, 0, epochs)
    best = script.best()
    script.tokenize(best, 0, 2 * epochs)
    script.model_tokens(best, 0, settings["prior epochs"])
    for seed in SEEDS:
        for kind in ("plain", "VAE"):
            script.compete(kind, seed, settings["rival epochs"])
    for seed in SEEDS[1:]:
        for kind in ("vq", "fsq"):
            script.tokenize(kind, seed, epochs)
    script.model_tokens(best, 0, 2 * settings["prior epochs"])


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    main()
