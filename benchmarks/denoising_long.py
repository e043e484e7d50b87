"""Train the residual net of `types/denoising` to the end, and tune its rivals, noise level by noise level.

    AELIB_DATA_DIR=... python benchmarks/denoising_long.py

Fashion-MNIST with Gaussian noise that is not clipped; every answer is clipped to [0, 1] before it is judged.
The net, six convolutions at half resolution and a skip past them, reads the noise level as a second channel.
It is trained on all training images, levels drawn evenly from 0.05 to 1, for 8 epochs and for 16, one seed
each. The rivals have 16 tries each at every level on 500 validation images; each may draw a straight line
through its grey values, fitted there. All are judged on 1,000 test images. BM3D is tried if `bm3d` can be
imported (``pip install bm3d``, free for non-commercial use; no requirement of this book): it takes more than
half a second an image, so it has 5 tries on 16 validation images and is judged on 60 test images. About 25
minutes of processor time. Every finished part is stored, and a second start goes on after it. The figures go
to ``benchmarks/results/denoising_long.json``.
"""

import argparse
import json
import math
import os
import time
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops
from scipy import ndimage
from skimage import restoration

import aelib
from aelib import metrics
from aelib.book import ledger
from aelib.files import write_atomically

SHAPE, SPREAD = (28, 28, 1), 0.35  # the standard deviation of a training pixel
LEVELS = (0.1, 0.2, 0.3, 0.5, 0.75, 1.0)
LEAST, MOST = 0.05, 1.0
WIDTH, DEPTH, BATCH, RATE, SEED = 32, 5, 128, 2e-3, 0
EPOCHS = (8, 16)
TRIES, TUNING, TEST = 16, 500, 1000
SLOW_TRIES, SLOW_TUNING, SLOW_TEST = 5, 16, 60


def noisy(x, level, seed):
    """Return the images with Gaussian noise, not clipped; the same for everybody who asks for this seed."""
    rng = np.random.default_rng([seed, round(1000 * level)])
    return (x + level * rng.standard_normal(x.shape)).astype("float32")


def with_map(x, level):
    """Append the noise level as a second channel: (n, 28, 28, 1), (n, 1, 1, 1) or float -> (n, 28, 28, 2)."""
    level = np.broadcast_to(np.float32(level), x.shape)
    return np.concatenate([x, level], axis=-1, dtype="float32")


# --- The net ---------------------------------------------------------------------------------------------


def fold(x, side=14):
    """Turn each 2 × 2 pixels into four channels: (B, 28, 28, 1) -> (B, 14, 14, 4)."""
    x = ops.transpose(ops.reshape(x, (-1, side, 2, side, 2)), (0, 1, 3, 2, 4))
    return ops.reshape(x, (-1, side, side, 4))


def unfold(x, side=14):
    """Return the pixels to their places: (B, 14, 14, 4) -> (B, 28, 28, 1)."""
    x = ops.transpose(ops.reshape(x, (-1, side, side, 2, 2)), (0, 1, 3, 2, 4))
    return ops.reshape(x, (-1, 2 * side, 2 * side, 1))


def residual_net(seed):
    """Build the net: noisy images and their noise level (B, 28, 28, 2) -> clean images (B, 28, 28, 1)."""
    keras.utils.set_random_seed(seed)
    both = keras.Input((28, 28, 2))
    seen, level = both[..., :1], both[..., 1:]
    share = SPREAD**2 / (SPREAD**2 + level**2)  # of a pixel's variance that is not noise
    root = ops.sqrt(share)
    h = ops.concatenate([fold(root * seen / SPREAD), level[:, ::2, ::2]], axis=-1)  # (B, 14, 14, 5)
    for _ in range(DEPTH):
        h = layers.Conv2D(WIDTH, 3, padding="same", activation="relu")(h)
    h = layers.Conv2D(4, 3, padding="same")(h)
    return keras.Model(both, share * seen + level * root * unfold(h), name="residual")


def trained(x, epochs, seed=SEED):
    """Return a trained net and the processor seconds of its training."""
    net, rng = residual_net(seed), np.random.default_rng(seed)
    schedule = keras.optimizers.schedules.CosineDecay(RATE, epochs * math.ceil(len(x) / BATCH))
    net.compile(keras.optimizers.Adam(schedule), "mse", jit_compile=False)
    begun = time.process_time()
    for epoch in range(epochs):  # fresh noise in every epoch
        level = rng.uniform(LEAST, MOST, (len(x), 1, 1, 1)).astype("float32")
        spoilt = x + level * rng.standard_normal(x.shape, dtype="float32")
        weight = 0.3 / level[..., 0]  # so that a decibel counts about as much at every level
        history = net.fit(
            with_map(spoilt, level), x, sample_weight=weight, batch_size=BATCH, verbose=0
        ).history
        print(f"epoch {epoch + 1} of {epochs}: {history['loss'][0]:.5f}", flush=True)
    return net, time.process_time() - begun


# --- The rivals: each (images, level, strength, form) -> images -------------------------------------------


def one_by_one(function):
    """Make a filter for one image into a filter for a stack (n, 28, 28, 1)."""

    def stack(x, level, strength, form):
        return np.stack([function(image[..., 0], level, strength, form) for image in x])[..., None]

    return stack


def shrink(d, threshold, form):
    """Return wavelet coefficients, shrunk softly or cut off hard."""
    if form == "hard":
        return d * (np.abs(d) > threshold)
    return np.sign(d) * np.maximum(np.abs(d) - threshold, 0)


def wavelets(x, threshold, depth, form, axes=(1, 2), step=1):
    """Shrink the Haar coefficients of every shift of `x` (periodic), and average over the shifts."""
    if not depth:
        return x
    bands = [x]
    for axis in axes:  # sums and differences of what lies `step` apart
        bands = [(b + sign * np.roll(b, -step, axis)) / 2**0.5 for b in bands for sign in (1, -1)]
    coarse, *details = bands
    bands = [wavelets(coarse, threshold, depth - 1, form, axes, 2 * step)]
    bands += [shrink(d, threshold, form) for d in details]
    for axis in reversed(axes):
        pairs = zip(bands[::2], bands[1::2], strict=True)
        bands = [(s + d + np.roll(s - d, step, axis)) / 8**0.5 for s, d in pairs]
    return bands[0]


def median(x, level, side, passes):
    """Take the median of a square window, once or twice."""
    for _ in range(passes):
        x = ndimage.median_filter(x, size=(1, side, side, 1))
    return x


@one_by_one
def total_variation(image, level, weight, form):
    """Chambolle's total variation, as scikit-image has it."""
    return restoration.denoise_tv_chambolle(image, weight=weight)


@one_by_one
def non_local_means(image, level, h, form):
    """Non-local means; the form is a patch's side, the distance searched, and whether the level is told."""
    side, distance, told = form
    return restoration.denoise_nl_means(
        image, patch_size=side, patch_distance=distance, h=h, sigma=level * told
    )


@one_by_one
def bm3d(image, level, assumed, form):
    """Block matching and 3D filtering, by its authors' package."""
    import bm3d as package

    return package.bm3d(image, assumed)


#: Name: function, first strength as a multiple of the level, and its forms, the first to begin with.
FILTERS = {
    "median": (median, None, [(side, passes) for side in range(3, 19, 2) for passes in (1, 2)]),
    "Gaussian": (lambda x, level, s, form: ndimage.gaussian_filter(x, (0, s, s, 0)), 1.5, [()]),
    "total variation": (total_variation, 0.7, [()]),
    "non-local means": (
        non_local_means,
        0.6,
        [(5, 6, 1), (5, 3, 1), (5, 10, 1), (7, 6, 1), (3, 6, 1), (5, 6, 0)],
    ),
    "wavelets": (
        lambda x, level, s, form: wavelets(x, s, *form),
        1.5,
        [(3, "soft"), (2, "soft"), (4, "soft"), (3, "hard"), (2, "hard")],
    ),
    "BM3D": (bm3d, 1.0, [()]),
}
COMPONENTS = (2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 640)


def straightened(answer, line):
    """Draw a straight line through the grey values, and clip them."""
    return np.clip(np.polyval(line, answer), 0, 1)


def judge(function, spoilt, clean, level, strength, form):
    """Return the PSNR of a setting on validation images, and its straight line."""
    answer = function(spoilt, level, strength, form)
    line = np.polyfit(answer.ravel().astype("float64"), clean.ravel(), 1)
    return metrics.psnr(clean, straightened(answer, line)), line


def tuned(name, spoilt, clean, level, tries):
    """Return a filter's best setting, its line, its validation PSNR and every try.

    The strength is looked for on a scale of factors, from the three around the usual value: beyond an edge
    if the best lies there, else between the best and its better neighbour. Then the other forms are tried at
    that strength, and the tries that are left refine the strength of the best form.
    """
    function, usual, forms = FILTERS[name]
    seen = {}

    def ask(strength, form):
        if (strength, form) not in seen:
            seen[strength, form] = judge(function, spoilt, clean, level, strength, form)

    def next_strength(form):
        scores = {s: psnr for (s, f), (psnr, _) in seen.items() if f == form}
        best, known = max(scores, key=scores.get), sorted(scores)
        at = known.index(best)
        if len(known) == 1:
            return best * 1.25
        if at == 0:
            return best * best / known[1]
        if at == len(known) - 1:
            return best * best / known[-2]
        beside = max(known[at - 1], known[at + 1], key=scores.get)
        return math.sqrt(best * beside)

    def best():
        return max(seen, key=lambda key: seen[key][0])

    if usual is None:  # a list of forms, and no strength
        for side, passes in forms[:tries]:
            ask(side, passes)
    else:
        for factor in (0.6, 1.0, 1 / 0.6):
            ask(factor * usual * level, forms[0])
        while len(seen) < min(7, tries):
            ask(next_strength(forms[0]), forms[0])
        strength = best()[0]
        for form in forms[1:]:
            ask(strength, form)
        while len(seen) < tries:
            ask(next_strength(best()[1]), best()[1])
    strength, form = best()
    listed = [[*map(str, key), round(psnr, 3)] for key, (psnr, _) in seen.items()]
    same = sorted(s for s, f in seen if f == form)
    inside = usual is None or same[0] < strength < same[-1]
    return strength, form, seen[strength, form][1], seen[strength, form][0], listed, inside


def figures(clean, answer):
    """Return what is stored of an answer to test images: PSNR, SSIM, PSNR of those that BM3D is judged on."""
    answer = np.clip(answer, 0, 1)
    part = slice(0, SLOW_TEST)
    return {
        "images": len(clean),
        "psnr": metrics.psnr(clean, answer),
        "ssim": metrics.ssim(clean, answer),
        "psnr, few": metrics.psnr(clean[part], answer[part]),
        "ssim, few": metrics.ssim(clean[part], answer[part]),
    }


def filter_level(name, data, level, sizes):
    """Tune a filter at one level, and judge it on test images."""
    tries, tuning, test = sizes["slow" if name == "BM3D" else "quick"]
    clean = data.x_val[:tuning]
    begun = time.process_time()
    strength, form, line, psnr, listed, inside = tuned(name, noisy(clean, level, 1), clean, level, tries)
    clean = data.x_test[:test]
    answer = FILTERS[name][0](noisy(clean, level, 2), level, strength, form)
    return figures(clean, straightened(answer, line)) | {
        "setting": [str(strength), str(form)],
        "validation psnr": psnr,
        "tries": listed,
        "inside": bool(inside),
        "seconds": round(time.process_time() - begun, 1),
    }


def linear_level(data, mean, covariance, level, sizes):
    """Judge PCA, its components chosen on validation images, and the affine map, which needs no choice."""
    _, tuning, test = sizes["quick"]
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = values[::-1], vectors[:, ::-1]

    def mapped(x, gains):
        flat = x.reshape(len(x), -1) - mean
        return ((flat @ vectors) * gains @ vectors.T + mean).reshape(x.shape)

    def kept(x, level, k, form):
        return mapped(x, np.arange(len(values)) < k)

    clean, spoilt = data.x_val[:tuning], noisy(data.x_val[:tuning], level, 1)
    scores = {k: judge(kept, spoilt, clean, level, k, ()) for k in COMPONENTS}
    k = max(scores, key=lambda key: scores[key][0])
    clean, spoilt = data.x_test[:test], noisy(data.x_test[:test], level, 2)
    tries = {
        "setting": [str(k), ""],
        "tries": [[str(key), round(v[0], 3)] for key, v in scores.items()],
        "inside": k not in (COMPONENTS[0], COMPONENTS[-1]),
    }
    wiener = mapped(spoilt, values / (values + level**2))
    return {
        "as it is": figures(clean, spoilt),
        "PCA": figures(clean, straightened(kept(spoilt, level, k, ()), scores[k][1])) | tries,
        "affine map": figures(clean, wiener),
    }


def main():
    """Run what is not stored yet, and store it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trial", action="store_true", help="very small, to try it out")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "denoising_long.json")
    args = parser.parse_args()
    data = aelib.load("fashion_mnist")
    x = data.x_train[: 640 if args.trial else None]
    epochs, levels = (1,) if args.trial else EPOCHS, (0.1, 1.0) if args.trial else LEVELS
    sizes = {"quick": (TRIES, TUNING, TEST), "slow": (SLOW_TRIES, SLOW_TUNING, SLOW_TEST)}
    if args.trial:
        sizes = {"quick": (TRIES, 10, 10), "slow": (3, 1, 2)}
    stored = {
        "what": "Gaussian noise, not clipped; answers clipped to [0, 1]",
        "images": len(x),
        "levels": levels,
        "sizes": sizes,
        "parameters": residual_net(SEED).count_params(),
        "device": ledger.device(),
        "data": data.source,
        "rivals": {},
        "nets": {},
    }
    if args.out.is_file():
        stored |= json.loads(args.out.read_text("utf-8"))
    if stored["images"] != len(x):
        raise SystemExit(f"{args.out} has other settings: move it away")

    def store():
        args.out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(args.out, json.dumps(stored, indent=1, ensure_ascii=False) + "\n")

    flat = x.reshape(len(x), -1)
    mean, covariance = flat.mean(axis=0), np.cov(flat.T, bias=True)
    for level in levels:
        known = str(level) in stored["rivals"].get("affine map", {})
        rows = {} if known else linear_level(data, mean, covariance, level, sizes)
        for name, row in rows.items():
            stored["rivals"].setdefault(name, {})[str(level)] = row
            print(name, level, round(row["psnr"], 2), round(row["ssim"], 3), flush=True)
        for name in FILTERS:
            if name == "BM3D" or str(level) in stored["rivals"].get(name, {}):
                continue
            row = filter_level(name, data, level, sizes)
            stored["rivals"].setdefault(name, {})[str(level)] = row
            print(
                name, level, row["setting"], round(row["psnr"], 2), row["inside"], row["seconds"], flush=True
            )
        store()
    for number in epochs:
        if str(number) in stored["nets"]:
            continue
        net, seconds = trained(x, number)
        rows = {}
        for level in levels:
            clean = data.x_val[:TUNING]
            answer = net.predict(with_map(noisy(clean, level, 1), level), batch_size=500, verbose=0)
            chosen = metrics.psnr(clean, np.clip(answer, 0, 1))
            clean = data.x_test[: sizes["quick"][2]]
            answer = net.predict(with_map(noisy(clean, level, 2), level), batch_size=500, verbose=0)
            rows[str(level)] = figures(clean, answer) | {"validation psnr": chosen}
            print(number, level, round(rows[str(level)]["psnr"], 2), flush=True)
        stored["nets"][str(number)] = {"seed": SEED, "seconds": round(seconds, 1), "levels": rows}
        store()
    try:
        import bm3d  # noqa: F401
    except ImportError:
        print("bm3d is not installed: left out")
        return
    for level in levels:
        if str(level) not in stored["rivals"].get("BM3D", {}):
            row = filter_level("BM3D", data, level, sizes)
            stored["rivals"].setdefault("BM3D", {})[str(level)] = row
            print("BM3D", level, row["setting"], round(row["psnr"], 2), row["inside"], flush=True)
            store()


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    main()
