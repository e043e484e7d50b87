"""Train the nets of `applications/denoising_and_transformation` for longer than a notebook can.

    AELIB_DATA_DIR=... python benchmarks/denoising_and_transformation_long.py

Three tasks. **pages**: a U-Net cleans scans of pages, with and without a skip of full size; Tesseract reads
what comes out. **garments**: a net enlarges Fashion-MNIST from 14 × 14 to 28 × 28. **masks**: an autoencoder,
a U-Net and the U-Net without its skips mark a digit on a photograph; an autoencoder that is given the mask
says what its decoder could draw; two nets of **scenes** rebuild their input. Three seeds at `STEPS` (the one
with the mask: seed 0), and seed 0 with twice as many, but for the U-Net without skips and the scenes. No
setting is chosen here. `RATES` were set on short trials; that of the pages is half of the first one, at which
three of eight nets broke. Masks are judged on validation and test scenes at every level, and the chapter
takes the level that is best on validation. Codes are also silenced (every scene gets the mean code) and
swapped (each gets that of the scene before it).

About an hour of one core with one thread an operation: 54 minutes of training, and the judging. Every
finished run is stored, those of three seeds on which the chapter's verdicts rest first, and a second start
goes on after it. The figures go to ``benchmarks/results/denoising_and_transformation_long.json``, what seed
0 makes of a few validation images to ``denoising_and_transformation_pictures.npz`` beside it.
"""

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from keras import layers, ops

import aelib
from aelib import metrics
from aelib.book import ledger, pairs
from aelib.book.runs import Runs

SEEDS, EPOCHS = (0, 1, 2), 20
STEPS = {"pages": 5200, "garments": 4800, "masks": 6000, "scenes": 2000}
RATES = {"pages": 2e-3, "garments": 4e-3, "masks": 3e-3, "scenes": 3e-3}
LEVELS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7)
COUNTS = {"stack": 150, "pages": [8, 16], "images": [1000, 2000], "curve": 256, "epochs": EPOCHS}
TRIAL = {"stack": 3, "pages": [1, 2], "images": [32, 32], "curve": 32, "epochs": 2}


# --- The nets, as the chapter writes them ----------------------------------------------------------------
def conv(filters, stride=1, kernel=3):
    """Return a convolution with SiLU."""
    return layers.Conv2D(filters, kernel, stride, "same", activation="silu")


def double(filters):
    """Return a transposed convolution that doubles the size."""
    return layers.Conv2DTranspose(filters, 4, 2, "same", activation="silu")


def page_net(full_skip):
    """Build the U-Net of the pages: (B, H, W, 1) -> logits of the same shape."""
    page = layers.Input((None, None, 1))
    half = conv(16, 2, 5)(page)
    quarter = conv(32)(conv(32, 2)(half))
    seen = conv(48)(conv(48)(conv(48, 2)(quarter)))  # an eighth
    seen = conv(32)(layers.Concatenate()([double(32)(seen), quarter]))
    seen = conv(16)(layers.Concatenate()([double(16)(seen), half]))
    seen = layers.Concatenate()([double(8)(seen), conv(8)(page)]) if full_skip else double(16)(seen)
    white = keras.initializers.Constant(2.0)  # most of a page is paper
    return keras.Model(page, layers.Conv2D(1, 3, padding="same", bias_initializer=white)(seen))


def upscaler():
    """Build the net that enlarges: (B, 14, 14, 1) -> (B, 28, 28, 1)."""
    small = layers.Input((14, 14, 1))
    seen = conv(24, kernel=5)(small)
    for _ in range(3):
        seen = seen + conv(24)(seen)
    four = small + layers.Conv2D(4, 3, padding="same", kernel_initializer="zeros")(seen)
    square = layers.Permute((1, 3, 2, 4))(layers.Reshape((14, 14, 2, 2))(four))
    return keras.Model(small, layers.Reshape((28, 28, 1))(square))


SIDE, FILTERS_DOWN = pairs.SIDE, (8, 16, 32)  # at 32, 16 and 8 places a side; 64 at 4


def normed(layer):
    """Return a layer without offset, batch normalisation and SiLU."""
    return keras.Sequential([layer, layers.BatchNormalization(momentum=0.97), layers.Activation("silu")])


def down(filters, stride=2):
    """Return a normed convolution that halves the size."""
    return normed(layers.Conv2D(filters, 3, stride, "same", use_bias=False))


def up(filters):
    """Return a normed transposed convolution that doubles the size."""
    return normed(layers.Conv2DTranspose(filters, 4, 2, "same", use_bias=False))


def encoder(skips):
    """Build the encoder: scene -> code (64,), and the maps of 32, 16 and 8 places a side for the skips."""
    scene = layers.Input((SIDE, SIDE, 1))
    seen, maps = scene, []
    for stride, n in zip((1, 2, 2), FILTERS_DOWN, strict=True):
        seen = down(n, stride)(seen)
        maps.append(seen)
    code = layers.Dense(64)(layers.Flatten()(down(64)(seen)))
    return keras.Model(scene, [code, *maps] if skips else [code])


def dense_decoder():
    """Build the autoencoder's decoder: code (64,) -> logits (32, 32, 1)."""
    code = layers.Input((64,))
    seen = normed(layers.Dense(512, use_bias=False))(code)
    logits = layers.Reshape((SIDE, SIDE, 1))(layers.Dense(SIDE**2)(seen))
    return keras.Model([code], logits)


def conv_decoder(skips):
    """Build the U-Net's decoder: code (64,), and maps if there are skips -> logits (32, 32, 1)."""
    code = layers.Input((64,))
    maps = []
    if skips:
        sides = (SIDE, SIDE // 2, SIDE // 4)
        maps = [layers.Input((s, s, n)) for s, n in zip(sides, FILTERS_DOWN, strict=True)]
    seen = normed(layers.Dense(4 * 4 * 64, use_bias=False))(code)
    seen = layers.Reshape((4, 4, 64))(seen)
    for level, n in zip((2, 1, 0), FILTERS_DOWN[::-1], strict=True):
        seen = up(n)(seen)
        if skips:
            seen = layers.Concatenate()([seen, maps[level]])
    return keras.Model([code, *maps], layers.Conv2D(1, 3, padding="same")(seen))


KINDS = {
    "autoencoder": lambda: (encoder(False), dense_decoder()),
    "U-Net": lambda: (encoder(True), conv_decoder(True)),
    "U-Net without skips": lambda: (encoder(False), conv_decoder(False)),
}


def answer(net, x, change=lambda code: code):
    """Return the raw output for x, the code changed on the way from encoder to decoder."""
    code, *maps = map(np.array, keras.tree.flatten(net.encoder.predict(x, batch_size=250, verbose=0)))
    return net.decoder.predict([change(code), *maps], batch_size=250, verbose=0)


CHANGES = {
    "as it is": lambda code: code,
    "silenced": lambda code: np.broadcast_to(code.mean(axis=0), code.shape),
    "swapped": lambda code: np.roll(code, 1, axis=0),
}


# --- Training --------------------------------------------------------------------------------------------
class Fresh(keras.utils.PyDataset):
    """Batches that are drawn anew at every step: draw(rng) -> inputs, targets."""

    def __init__(self, draw, steps, seed):
        super().__init__()
        self.draw, self.steps, self.rng = draw, steps, np.random.default_rng(seed)

    def __len__(self):
        return self.steps

    def __getitem__(self, step):
        return self.draw(self.rng)


def sigmoid(logits):
    """Return probabilities."""
    return np.array(ops.sigmoid(logits))


class Study:
    """The data, and a run of each task."""

    def __init__(self, trial, out, compiled):
        self.trial, self.out, self.compiled = trial, out, compiled
        counts = TRIAL if trial else COUNTS
        self.epochs = counts["epochs"]
        rng = np.random.default_rng(0)
        _, self.stacks = pairs.sheets(pairs.SEEN, counts["stack"], rng)
        self.pages_val, self.pages_test = (
            pairs.pages(pairs.UNSEEN, count, seed)
            for count, seed in zip(counts["pages"], (1, 2), strict=True)
        )
        n, m = counts["images"]
        self.big, big_val, big_test = self.parts("fashion_mnist", n, m)
        self.small = pairs.halve(self.big)
        self.garments_val, self.garments_test = ((pairs.halve(big), big) for big in (big_val, big_test))
        self.digits, digits_val, digits_test = self.parts("mnist", n, m)
        self.top, bottom = pairs.grounds(True), pairs.grounds(False)
        self.scenes_val, self.scenes_test = (
            pairs.on_photograph(digits, bottom, np.random.default_rng(seed))
            for digits, seed in ((digits_val, 1), (digits_test, 2))
        )
        self.curve = counts["curve"]

    def parts(self, name, n, m):
        """Load images for training, n for validation and m for the test."""
        data = aelib.load(name)
        return (data.x_train[:128] if self.trial else data.x_train), data.x_val[:n], data.x_test[:m]

    def checks(self):
        """Return sums of the test data, by which the chapter sees that it has the same."""
        made = {"pages": self.pages_test[2], "garments": self.garments_test[0], "scenes": self.scenes_test[0]}
        return {name: float(x.sum(dtype="float64")) for name, x in made.items()}

    def pasted(self, rng, count=24):
        """Draw fresh scenes and their masks."""
        digits = self.digits[rng.integers(len(self.digits), size=count)]
        return pairs.on_photograph(digits, self.top, rng)

    def train(self, net, draw, task, times, seed, validation, scale=1, **options):
        """Train with Adam along a cosine on fresh batches; return steps, seconds and curves."""
        steps = self.epochs * 2 if self.trial else times * STEPS[task]
        schedule = keras.optimizers.schedules.CosineDecay(RATES[task], steps)
        net.compile(keras.optimizers.Adam(schedule), jit_compile=self.compiled, **options)
        begun = time.process_time()
        fitted = net.fit(
            Fresh(draw, steps // self.epochs, seed),
            epochs=self.epochs,
            validation_data=validation,
            validation_batch_size=32 if task == "garments" else 4 if task == "pages" else 64,
            verbose=0,
        )
        seconds = round(time.process_time() - begun, 1)
        curves = {key: [round(v / scale, 6) for v in fitted.history[key]] for key in ("loss", "val_loss")}
        return {"steps": steps, "seconds": seconds, "weights": net.count_params()} | curves

    def keep(self, name, images):
        """Store a few answers as bytes beside the figures."""
        path = self.out.with_name(self.out.stem.removesuffix("_long") + "_pictures.npz")
        stored = dict(np.load(path)) if path.is_file() else {}
        stored[name] = (255 * np.clip(images, 0, 1)).round().astype("uint8")
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, **stored)

    def pages(self, net, seed, times):
        """Clean pages, with the skip of full size or without."""
        keras.utils.set_random_seed(seed)
        model = page_net(net == "full-size skip")
        _, clean, spoilt = self.pages_val
        run = self.train(
            model,
            lambda rng: pairs.crops(self.stacks, rng),
            "pages",
            times,
            seed,
            (spoilt[:4], clean[:4]),
            loss=keras.losses.BinaryCrossentropy(from_logits=True),
        )

        def cleaned(spoilt):
            return sigmoid(model.predict(spoilt, batch_size=4, verbose=0))

        for part, (texts, clean, spoilt) in (("validation", self.pages_val), ("test", self.pages_test)):
            images = cleaned(spoilt)
            run[f"psnr, {part}"] = metrics.psnr(clean, images)
            run[f"misread, {part}"] = pairs.misread(images, texts).round(4).tolist()
        if seed == 0 and times == 1:
            self.keep(f"page, {net}", cleaned(self.pages_val[2][:1])[0, ..., 0])
            if net == "full-size skip":
                run["cases"] = {
                    case: [pairs.misread(images, texts).mean(), metrics.psnr(clean, images)]
                    for case, (texts, clean, spoilt) in self.cases().items()
                    for images in [cleaned(spoilt)]
                }
        return run

    def cases(self):
        """Make pages that differ from those of training in one thing each."""
        count, other = len(self.pages_val[0]), [pairs.font("STIXGeneral", 20)]
        return {
            "as tested": pairs.pages(pairs.UNSEEN, count, 4),
            "words of training": pairs.pages(pairs.SEEN, count, 4),
            "another font": pairs.pages(pairs.UNSEEN, count, 4, fonts=other),
            "twice the strokes": pairs.pages(pairs.UNSEEN, count, 4, strokes=12),
        }

    def garments(self, net, seed, times):
        """Enlarge garments."""
        keras.utils.set_random_seed(seed)
        model = upscaler()

        def draw(rng):
            n = rng.integers(len(self.big), size=32)
            return self.small[n], self.big[n]

        run = self.train(model, draw, "garments", times, seed, self.garments_val, loss="mse")
        for part, (small, big) in (("validation", self.garments_val), ("test", self.garments_test)):
            images = np.clip(model.predict(small, batch_size=250, verbose=0), 0, 1)
            run |= {f"psnr, {part}": metrics.psnr(big, images), f"ssim, {part}": metrics.ssim(big, images)}
            if part == "validation" and seed == 0 and times == 1:
                self.keep("garments", images[:8])
        return run

    def masks(self, net, seed, times):
        """Mark the digit; the oracle is given its mask."""
        keras.utils.set_random_seed(seed)
        oracle = net == "oracle"
        model = aelib.Autoencoder(*KINDS["autoencoder" if oracle else net](), likelihood="bernoulli")

        def draw(rng):
            scenes, masks = self.pasted(rng)
            return (masks if oracle else scenes), masks

        (seen_val, masks_val), (seen_test, masks_test) = (
            (masks if oracle else scenes, masks) for scenes, masks in (self.scenes_val, self.scenes_test)
        )
        judged = seen_val[: self.curve], masks_val[: self.curve]
        run = self.train(model, draw, "masks", times, seed, judged, scale=SIDE**2)

        def at_levels(masks, x, change):
            found = sigmoid(answer(model, x, change))
            return [round(float(pairs.overlap(masks, found > level).mean()), 5) for level in LEVELS]

        run["iou, validation"] = at_levels(masks_val, seen_val, CHANGES["as it is"])
        for name, change in CHANGES.items():
            run[f"iou, test, {name}"] = at_levels(masks_test, seen_test, change)
        if seed == 0 and times == 1:
            self.keep(f"masks, {net}", sigmoid(answer(model, seen_val[:8])))
        return run

    def scenes(self, net, seed, times):
        """Rebuild the input."""
        keras.utils.set_random_seed(seed)
        model = aelib.Autoencoder(*KINDS[net](), likelihood="gaussian")

        def draw(rng):
            scenes, _ = self.pasted(rng)
            return scenes, scenes

        x_val, x_test = self.scenes_val[0], self.scenes_test[0]
        judged = x_val[: self.curve], x_val[: self.curve]
        run = self.train(model, draw, "scenes", times, seed, judged, scale=SIDE**2)
        for name, change in CHANGES.items():
            run[f"mse, test, {name}"] = metrics.mse(x_test, answer(model, x_test, change))
            if seed == 0 and times == 1:
                self.keep(f"scenes, {net}, {name}", answer(model, x_val[:8], change))
        return run


def rows():
    """Return the runs, most important first: (task, net, seed, times)."""
    verdicts = [
        ("pages", "full-size skip"),
        ("pages", "no full-size skip"),
        ("garments", "upscaler"),
        ("masks", "U-Net"),
        ("masks", "autoencoder"),
    ]
    found = [(*row, seed, 1) for seed in SEEDS for row in verdicts]
    found += [("masks", "oracle", 0, 1), ("masks", "U-Net without skips", 0, 1)]
    found += [
        ("pages", "full-size skip", 0, 2),
        ("garments", "upscaler", 0, 2),
        ("masks", "autoencoder", 0, 2),
    ]
    found += [("scenes", net, 0, 1) for net in ("autoencoder", "U-Net")] + [("masks", "U-Net", 0, 2)]
    found += [("masks", "U-Net without skips", seed, 1) for seed in SEEDS[1:]]
    found += [("pages", "no full-size skip", 0, 2), ("masks", "oracle", 0, 2)]
    return found + [("scenes", net, seed, 1) for seed in SEEDS[1:] for net in ("autoencoder", "U-Net")]


def main():
    """Run what is not stored yet, and store it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trial", action="store_true", help="four steps on a few images")
    parser.add_argument("--compiled", action="store_true", help="compile with XLA (always so on JAX)")
    out = Path(__file__).parent / "results" / "denoising_and_transformation_long.json"
    parser.add_argument("--out", type=Path, default=out)
    args = parser.parse_args()
    if pairs.reader() is None:
        parser.error("Tesseract has to be installed: it judges the pages")
    study = Study(args.trial, args.out, args.compiled or keras.backend.backend() == "jax")
    settings = {
        "what": "nets that clean pages, enlarge garments and mark digits",
        "trial": args.trial,
        "counts": TRIAL if args.trial else COUNTS,
        "rates": RATES,
        "levels": list(LEVELS),
        "checks": study.checks(),
        "backend": keras.backend.backend(),
        "device": ledger.device(),
    }
    runs = Runs(args.out, settings)
    for task, net, seed, times in rows():
        key = {"task": task, "net": net, "seed": seed, "times": times}
        runs.get(
            key, lambda task=task, net=net, seed=seed, times=times: getattr(study, task)(net, seed, times)
        )
        keras.backend.clear_session()


if __name__ == "__main__":
    main()
