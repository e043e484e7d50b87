"""In-page figures that run a small trained net in the browser, without a kernel and without a library.

The figure's HTML holds the net in 8 bits, at most 250 kB in all, and a static picture. On the book's pages
`book/_static/live.js` runs the net on what the reader draws, moves or corrupts; in print, without scripts and
in Jupyter, the picture stays. `aelib.book.quantized.QuantizedNet` gives the same numbers in Python.

Pictures are grey, (H, W) or (H, W, 1), on [0, 1]. A model is an `aelib.Autoencoder`, a variational one
included, or a pair of Keras models, (encoder, decoder), whose output is the picture.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike

from aelib import Autoencoder, ImportanceWeightedAutoencoder, VariationalAutoencoder, anomaly, checks
from aelib import likelihoods as likelihood_types
from aelib.book.interactive import Figure, _sheet, short
from aelib.book.quantized import QuantizedNet, Weights, encoded

#: Bytes of HTML that a figure may have.
LIMIT = 250_000
#: How far a picture of the net in 8 bits may lie from the net's own: root of the mean square over its pixels.
TOLERANCE = 0.02
#: The side, in pixels, of the squares that are drawn for one pixel of the picture.
FINE = 4
_FORMAT = 1
_LATENTS_SHOWN = 20


@dataclass(frozen=True)
class _Halves:
    """A model's two nets in 8 bits, and the model's own way from the input to the picture.

    `raw` is the decoder before the likelihood's mean, whose function `mean` names.
    """

    encoder: Any  # a QuantizedNet, or None where there is only a decoder
    raw: QuantizedNet
    mean: str
    model: Any

    @property
    def decoder(self) -> QuantizedNet:
        return self.raw.then(self.mean)

    @property
    def whole(self) -> QuantizedNet:
        return self.encoder + self.decoder

    def own_decoded(self, codes: np.ndarray) -> np.ndarray:
        """Return what the model itself decodes: (n, K) -> ndarray (n, ...)."""
        if isinstance(self.model, Autoencoder):
            return self.model.decode(codes)
        decoder = self.model[1] if isinstance(self.model, tuple) else self.model
        return decoder.predict(np.asarray(codes, np.float32), verbose=0)

    def own(self, x: np.ndarray) -> np.ndarray:
        """Return the model's own reconstruction of pictures (n, H, W)."""
        if isinstance(self.model, tuple):
            encoder = self.model[0]
            return self.own_decoded(encoder.predict(x.reshape(-1, *self.encoder.input_shape), verbose=0))
        return self.model.reconstruct(x.reshape(-1, *self.encoder.input_shape))


def _halves(model, *, decoder_only=False):
    """Read a model's nets."""
    if isinstance(model, Autoencoder):
        likelihood = model.likelihood
        means = {
            likelihood_types.Bernoulli: "sigmoid",
            likelihood_types.Gaussian: "linear",
            likelihood_types.Laplace: "linear",
        }
        if type(likelihood) not in means or likelihood.outputs_per_feature != 1:
            raise ValueError(
                f"a live figure shows means of a Bernoulli, Laplace or plain Gaussian likelihood, got "
                f"{type(likelihood).__name__} with {likelihood.outputs_per_feature} outputs a feature: train "
                "the figure's model with likelihood='bernoulli'"
            )
        raw = QuantizedNet.from_keras(model.decoder)
        variational = isinstance(model, VariationalAutoencoder | ImportanceWeightedAutoencoder)
        kept = int(np.prod(raw.input_shape)) if variational else None
        encoder = None if decoder_only else QuantizedNet.from_keras(model.encoder, outputs=kept)
        return _Halves(encoder, raw, means[type(likelihood)], model)
    if decoder_only and isinstance(model, keras.Model):
        return _Halves(None, QuantizedNet.from_keras(model), "linear", model)
    if (
        not isinstance(model, tuple | list)
        or len(model) != 2
        or not all(isinstance(one, keras.layers.Layer) for one in model)
    ):
        raise TypeError(
            f"model must be an aelib.Autoencoder or a pair of Keras models, (encoder, decoder), got {model!r}"
        )
    encoder = None if decoder_only else QuantizedNet.from_keras(model[0])
    return _Halves(encoder, QuantizedNet.from_keras(model[1]), "linear", tuple(model))


def _pictures(name, images, halves=None):
    """Return pictures as uint8 (n, H, W)."""
    images = checks.samples(name, images)
    shape = images.shape
    if images.ndim not in (3, 4) or (images.ndim == 4 and shape[3] != 1):
        raise ValueError(f"{name} must have shape (n, H, W) or (n, H, W, 1), grey, got {shape}")
    if images.dtype != np.uint8:
        checks.within(name, images, 0, 1, remedy="divide by 255")
        images = np.rint(255 * images.astype(np.float32)).astype(np.uint8)
    images = images.reshape(shape[:3])
    if halves is not None:
        for end, wanted in (("reads", halves.encoder.input_shape), ("returns", halves.raw.output_shape)):
            if np.prod(wanted) != np.prod(shape[1:3]):
                raise ValueError(
                    f"{name} have {shape[1]} x {shape[2]} pixels, but the model {end} the shape {wanted}"
                )
    return images


def _names(name, labels, count):
    """Return labels as texts, empty ones where there are none."""
    labels = [""] * count if labels is None else [str(label) for label in np.asarray(labels).tolist()]
    if len(labels) != count:
        raise ValueError(f"{name} must be {count}, one each, got {len(labels)}")
    return labels


def _agree(own, ours, tolerance):
    """Refuse 8 bits that change the pictures more than is allowed: (n, ...), (n, ...)."""
    tolerance = checks.number("tolerance", tolerance, above=0)
    difference = (np.asarray(own).reshape(len(own), -1) - ours.reshape(len(own), -1)).astype(np.float64)
    worst = float(np.sqrt(np.square(difference).mean(axis=1)).max())
    if not worst <= tolerance:
        raise ValueError(
            f"with weights of 8 bits a picture differs from the net's own by {worst:.3g}, root of the mean "
            f"square over its pixels, and {np.abs(difference).max():.3g} at most; {tolerance:g} is allowed: "
            "train with weight decay or batch normalisation, so that no weight is far larger than the "
            "rest, or raise tolerance"
        )


def _figure(kind, data, rows, caption, explained, alt, limit, parts):
    """Put a figure together, whose static picture has `rows` (r, c, H, W), and hold it to its size."""
    if not isinstance(caption, str) or not caption.strip():
        raise ValueError(f"caption must say what the reader can do and see, got {caption!r}")
    data = {"format": _FORMAT, "caption": caption.strip(), **data}
    sheet = _sheet(np.clip(rows, 0, 1))
    width = min(40, 4 * rows.shape[1])
    figure = Figure(f"live-{kind}", data, sheet, alt, f"{caption.strip()} {explained}", width)
    size = len(figure._repr_html_().encode())
    if size > limit:
        listed = {name: len(str(part)) for name, part in parts.items() if part is not None}
        listed["picture"] = 4 * len(sheet) // 3
        shares = ", ".join(f"{name} {bytes_ / 1000:.0f} kB" for name, bytes_ in listed.items())
        raise ValueError(
            f"the figure has {size / 1000:.0f} kB, {limit / 1000:g} are allowed ({shares}): use narrower "
            "layers or fewer filters, fewer neighbors and samples, or no PCA"
        )
    return figure


def _ranges(codes):
    """Return where the sliders of a code begin and end: the range of the codes and a fifth more."""
    low, high = codes.min(axis=0), codes.max(axis=0)
    margin = np.maximum(0.1 * (high - low), 1e-3)
    return [[float(f"{v:.4g}") for v in pair] for pair in zip(low - margin, high + margin, strict=True)]


def _subscript(number):
    return "".join("₀₁₂₃₄₅₆₇₈₉"[int(digit)] for digit in str(number))


def centered(drawing: ArrayLike, size: tuple[int, int] = (28, 28), *, center: bool = True) -> np.ndarray:
    """Bring a drawing to the size of the net's pictures, as MNIST's digits were brought to theirs.

    With `center`, the longer side of what is drawn becomes 5/7 of the picture (20 of 28 pixels), and its
    centre of mass the middle of the picture (LeCun et al., 1998). A net that was trained on such digits has
    seen no digit in a corner. In the page this is done whenever a stroke ends; while one is being drawn, the
    place and the scale stay as they are.

    Parameters
    ----------
    drawing : array-like (H, W) of float
        Ink from 0 to 1; in the page, four times as many pixels each way as the picture has.
    size : (int, int)
        Height and width of the result.
    center : bool
        Without it the whole drawing is scaled to the picture.

    Returns
    -------
    ndarray `size` of float64
        Each pixel the mean of 4 x 4 places of the drawing.
    """
    ink = np.asarray(drawing, np.float64)
    rows, columns = np.nonzero(ink)
    if center and rows.size:
        longer = max(np.ptp(rows), np.ptp(columns)) + 1
        scale = min(size) * 5 / 7 / longer
        total = ink.sum()
        middle = [
            (ink.sum(axis=1 - axis) * (np.arange(ink.shape[axis]) + 0.5)).sum() / total for axis in (0, 1)
        ]
    else:
        scale = min(size[0] / ink.shape[0], size[1] / ink.shape[1])
        middle = [n / 2 for n in ink.shape]
    places = []
    for n, center_, extent in zip(size, middle, ink.shape, strict=True):
        places_here = np.floor(center_ + ((np.arange(n * FINE) + 0.5) / FINE - n / 2) / scale).astype(int)
        places.append(np.where((places_here >= 0) & (places_here < extent), places_here, extent))
    fine = np.pad(ink, [(0, 1), (0, 1)])[np.ix_(*places)]  # what lies outside reads the zeros of the edge
    return fine.reshape(size[0], FINE, size[1], FINE).mean(axis=(1, 3))


def _packed_pca(pca, code, pixels, samples, tolerance):
    """Return PCA as the script takes it, its mean in floats and its components in 8 bits."""
    mean, components = np.asarray(pca.mean_, np.float32), np.asarray(pca.components_, np.float32)
    if components.shape != (code, pixels):
        raise ValueError(
            f"pca must have {code} components of {pixels} pixels, as many as the code has numbers, got "
            f"{components.shape}: PCA(n_components={code}).fit(images.reshape(len(images), -1))"
        )
    weights = Weights.of(components.T)  # (pixels, K)
    flat = samples.reshape(len(samples), -1)

    def rebuilt(matrix):
        return (flat - mean) @ matrix @ matrix.T + mean

    _agree(rebuilt(components.T), rebuilt(weights.floats), tolerance)
    return {"mean": encoded(mean), **weights.packed()}, rebuilt(weights.floats).reshape(samples.shape)


def _halved(images):
    """Return pictures (n, H, W) of uint8 at half their size, each pixel the mean of four, in 16 greys."""
    n, h, w = images.shape
    images = np.pad(images, [(0, 0), (0, h % 2), (0, w % 2)]).astype(np.float32)
    means = images.reshape(n, (h + 1) // 2, 2, (w + 1) // 2, 2).mean(axis=(2, 4))
    return np.rint(np.rint(means / 17) * 17).astype(np.uint8)


def _packed_neighbors(neighbors, labels, encoder):
    """Return the codes of known pictures in 8 bits, and the pictures at half their size as one PNG."""
    codes = Weights.of(encoder.evaluate(neighbors.reshape(len(neighbors), -1) / np.float32(255)))
    small = _halved(neighbors)
    columns = min(20, len(small))
    small = np.pad(small, [(0, -len(small) % columns), (0, 0), (0, 0)])
    sheet = _sheet(small.reshape(-1, columns, *small.shape[1:]))
    return {
        **codes.packed(),
        "names": _names("neighbor_labels", labels, len(neighbors)),
        "columns": columns,
        "size": list(small.shape[1:]),
        "sheet": base64.b64encode(sheet).decode(),
    }


def draw(
    model: Any,
    images: ArrayLike,
    *,
    alt: str,
    caption: str,
    labels: Sequence | None = None,
    pca: Any = None,
    neighbors: ArrayLike | None = None,
    neighbor_labels: Sequence | None = None,
    center: bool = True,
    tolerance: float = TOLERANCE,
    limit: int = LIMIT,
) -> Figure:
    """Let the reader draw a picture, and show its code, to be moved, and its reconstruction.

    By mouse, finger or keyboard. Beside the reconstruction stand PCA's, each with its squared error per
    pixel (before anything is cut to [0, 1]), and the known pictures whose codes are nearest.

    Parameters
    ----------
    model : aelib.Autoencoder, or (encoder, decoder)
    images : array-like (n, H, W) or (n, H, W, 1)
        Samples that the reader can load, some ten; uint8, or floats in [0, 1]. The net in 8 bits is held to
        the net's own on them.
    alt : str
        What the static picture shows, in words.
    caption : str
        What the reader can do and see.
    labels : sequence of n, optional
        What the samples are, a word each.
    pca : sklearn.decomposition.PCA, optional
        Fitted on flattened pictures, with as many components as the code has numbers.
    neighbors : array-like (m, H, W), optional
        Known pictures, a few hundred at most: some 100 bytes each.
    neighbor_labels : sequence of m, optional
    center : bool
        Whether what is drawn is scaled and centred as MNIST's digits are: see `centered`.
    tolerance : float
        How far a sample's picture may lie from the net's own, root of the mean square over its pixels.
    limit : int
        Bytes of HTML that the figure may have.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        For a layer that cannot run in the page, a net that 8 bits change too much, and a figure too large.
    """
    halves = _halves(model)
    samples = _pictures("images", images, halves)
    x = samples / np.float32(255)
    codes = halves.encoder.evaluate(x)
    if codes.ndim != 2:
        raise ValueError(f"the code must be a vector, got {codes.shape[1:]}: end the encoder with Flatten")
    reconstruction = halves.decoder.evaluate(codes).reshape(x.shape)
    _agree(halves.own(x), reconstruction, tolerance)
    data = _pad_data(samples, labels, center)
    data |= {"encoder": halves.encoder.packed(), "decoder": halves.decoder.packed()}
    rows, explained = [x, reconstruction], "From top to bottom: originals; reconstructions"
    if pca is not None:
        data["pca"], rebuilt = _packed_pca(pca, codes.shape[1], x[0].size, x, tolerance)
        rows.append(rebuilt)
        explained += f"; PCA's with {codes.shape[1]} components"
    if neighbors is not None:
        neighbors = _pictures("neighbors", neighbors, halves)
        data["neighbors"] = _packed_neighbors(neighbors, neighbor_labels, halves.encoder)
        codes = np.concatenate([codes, halves.encoder.evaluate(neighbors / np.float32(255))])
    data["ranges"] = _ranges(codes)
    data["latents"] = [f"z{_subscript(k + 1)}" for k in range(codes.shape[1])]
    data["folded"] = codes.shape[1] > _LATENTS_SHOWN
    parts = {name: data.get(name) for name in ("encoder", "decoder", "pca", "neighbors", "samples")}
    return _figure("draw", data, np.stack(rows), caption, explained + ".", alt, limit, parts)


def _pad_data(samples, labels, center):
    """Return what every figure with samples stores."""
    return {
        "size": list(samples.shape[1:]),
        "samples": encoded(samples),
        "names": _names("labels", labels, len(samples)),
        "center": checks.flag("center", center),
    }


def walk(
    model: Any,
    codes: ArrayLike,
    labels: Sequence | None = None,
    *,
    alt: str,
    caption: str,
    size: tuple[int, int] = (28, 28),
    axes: tuple[str, str] = ("z₁", "z₂"),
    tolerance: float = TOLERANCE,
    limit: int = LIMIT,
) -> Figure:
    """Let the reader move a point on a map of 2-D codes, and show the picture that is decoded there.

    Parameters
    ----------
    model : aelib.Autoencoder, (encoder, decoder), or a decoder alone
    codes : array-like (n, 2)
        Of known pictures, a few hundred: they are drawn as the map and say where it ends.
    labels : sequence of n, optional
        One or two letters each, drawn in place of dots.
    alt, caption : str
        As in `draw`.
    size : (int, int)
        Height and width of a decoded picture, in pixels.
    axes : (str, str)
        Names of the two numbers.
    tolerance, limit
        As in `draw`; the net in 8 bits is held to the net's own at these codes.

    Returns
    -------
    Figure
    """
    halves = _halves(model, decoder_only=True)
    codes = checks.codes(codes, least=2, width=2).astype(np.float32)
    size = tuple(checks.whole_numbers("size", size))
    names = _names("labels", labels, len(codes))
    if np.prod(halves.raw.input_shape) != 2 or np.prod(halves.raw.output_shape) != np.prod(size):
        raise ValueError(
            f"the decoder must read 2 numbers and return {size[0]} x {size[1]} pixels, got "
            f"{halves.raw.input_shape} and {halves.raw.output_shape}"
        )
    some = codes[:: max(1, len(codes) // 100)]
    _agree(halves.own_decoded(some), halves.decoder.evaluate(some), tolerance)
    (left, right), (bottom, top) = _ranges(codes)
    extent = np.array([[left, bottom], [right - left, top - bottom]])
    places = np.rint(1000 * (codes - extent[0]) / extent[1]).astype(int)
    data = {
        "decoder": halves.decoder.packed(),
        "size": list(size),
        "axes": list(axes),
        "ranges": [[left, right], [bottom, top]],
        "points": [[int(x), int(1000 - y), name] for (x, y), name in zip(places, names, strict=True)],
    }
    x, y = np.linspace(left, right, 9), np.linspace(top, bottom, 9)
    grid = np.stack(np.meshgrid(x, y), axis=-1)  # (9, 9, 2), y downwards
    rows = halves.decoder.evaluate(grid.reshape(-1, 2)).reshape(9, 9, *size)
    explained = f"Pictures decoded at {axes[0]} from {short(left)} to {short(right)}, left to right, and at "
    explained += f"{axes[1]} from {short(bottom)} to {short(top)}, upwards."
    parts = {"decoder": data["decoder"], "points": data["points"]}
    return _figure("walk", data, rows, caption, explained, alt, limit, parts)


def _corrupted(x, level, corruption, seed):
    rng = np.random.default_rng(seed)
    if corruption == "gaussian":
        return np.clip(x + level * rng.standard_normal(x.shape, np.float32), 0, 1).astype(np.float32)
    return np.where(rng.random(x.shape) < level, 0, x).astype(np.float32)


def corrupt(
    model: Any,
    images: ArrayLike,
    *,
    alt: str,
    caption: str,
    labels: Sequence | None = None,
    corruption: str = "gaussian",
    most: float = 1.0,
    start: float = 0.5,
    tolerance: float = TOLERANCE,
    limit: int = LIMIT,
) -> Figure:
    """Let the reader corrupt a picture, and show what the net makes of it.

    Beside both stands the squared error per pixel against the clean picture, before and after.

    Parameters
    ----------
    model : aelib.Autoencoder, or (encoder, decoder)
        Trained to remove the corruption.
    images : array-like (n, H, W) or (n, H, W, 1)
        Clean pictures to choose from, as in `draw`.
    alt, caption, labels
        As in `draw`.
    corruption : {"gaussian", "masking"}
        Noise of mean 0, the result cut to [0, 1] as `aelib.corruptions.GaussianNoise` cuts images, its level
        the standard deviation; or pixels set to 0, its level their share.
    most, start : float
        The highest level, and the first.
    tolerance, limit
        As in `draw`; the net in 8 bits is held to the net's own on corrupted images.

    Returns
    -------
    Figure
    """
    corruption = checks.choice("corruption", corruption, ("gaussian", "masking"))
    most = checks.number("most", most, above=0, most=None if corruption == "gaussian" else 1)
    start = checks.number("start", start, least=0, most=most)
    halves = _halves(model)
    samples = _pictures("images", images, halves)
    clean = samples / np.float32(255)
    noisy = _corrupted(clean, start, corruption, seed=0)
    answer = halves.whole.evaluate(noisy).reshape(clean.shape)
    _agree(halves.own(noisy), answer, tolerance)
    data = _pad_data(samples, labels, center=False)
    data |= {"net": halves.whole.packed(), "corruption": corruption, "most": most, "start": start}
    level = "standard deviation" if corruption == "gaussian" else "share of pixels"
    explained = f"From top to bottom: originals; corrupted, {level} {start:g}; the net's answers."
    parts = {"net": data["net"], "samples": data["samples"]}
    rows = np.stack([clean, noisy, answer])
    return _figure("corrupt", data, rows, caption, explained, alt, limit, parts)


def score(
    model: Any,
    images: ArrayLike,
    threshold: Any,
    *,
    alt: str,
    caption: str,
    labels: Sequence | None = None,
    measure: str = "errors",
    center: bool = True,
    tolerance: float = TOLERANCE,
    limit: int = LIMIT,
) -> Figure:
    """Let the reader draw, and show the anomaly score of the drawing against a threshold.

    Parameters
    ----------
    model : aelib.Autoencoder, or (encoder, decoder)
        Trained on normal pictures.
    images : array-like (n, H, W) or (n, H, W, 1)
        Samples that the reader can load, normal and other ones, as in `draw`.
    threshold : float, or a fitted `aelib.anomaly.Threshold` or `RobustThreshold`
        Scores strictly above it are alarms.
    alt, caption, labels, center
        As in `draw`.
    measure : {"errors", "nll"}
        The score of `aelib.anomaly.errors`, the mean squared error per pixel; or of `aelib.anomaly.nll`, the
        negative log-likelihood per pixel in nats, for a Bernoulli likelihood: the binary cross-entropy.
    tolerance, limit
        As in `draw`.

    Returns
    -------
    Figure
    """
    measure = checks.choice("measure", measure, ("errors", "nll"))
    value = getattr(threshold, "value", threshold)
    if isinstance(threshold, anomaly.Threshold | anomaly.RobustThreshold) and value is threshold:
        raise ValueError("the threshold has no value yet: fit it to scores of normal samples first")
    value = checks.number("threshold", value, above=0)
    halves = _halves(model)
    if measure == "nll" and not (isinstance(model, Autoencoder) and halves.mean == "sigmoid"):
        raise ValueError("measure='nll' is for a Bernoulli likelihood: use measure='errors'")
    samples = _pictures("images", images, halves)
    x = samples / np.float32(255)
    raw = (halves.encoder + halves.raw).evaluate(x).reshape(x.shape)
    reconstruction = halves.whole.evaluate(x).reshape(x.shape)
    _agree(halves.own(x), reconstruction, tolerance)
    scores = scores_of(x, raw, halves.mean, measure)
    data = _pad_data(samples, labels, center)
    data |= {
        "net": (halves.encoder + halves.raw).packed(),
        "mean": halves.mean,
        "measure": measure,
        "threshold": value,
        "most": max(2.5 * value, 1.25 * float(scores.max())),
    }
    listed = ", ".join(f"{s:.3g}" for s in scores)
    unit = "mean squared error per pixel" if measure == "errors" else "binary cross-entropy per pixel in nats"
    explained = (
        f"From top to bottom: originals; reconstructions. Scores, from left to right, {unit}: {listed}; "
    )
    explained += f"threshold {value:.3g}."
    parts = {"net": data["net"], "samples": data["samples"]}
    return _figure("score", data, np.stack([x, reconstruction]), caption, explained, alt, limit, parts)


def scores_of(x: ArrayLike, raw: ArrayLike, mean: str, measure: str) -> np.ndarray:
    """Return the scores that the page computes: pictures and raw outputs (n, ...) -> ndarray (n,).

    Parameters
    ----------
    x, raw : array-like (n, ...)
    mean : {"sigmoid", "linear"}
        From the raw output to the picture.
    measure : {"errors", "nll"}
        See `score`.
    """
    x, raw = (np.asarray(each, np.float64) for each in (x, raw))
    x, raw = (each.reshape(len(each), -1) for each in (x, raw))
    if measure == "nll":
        return (np.logaddexp(raw, 0) - x * raw).mean(axis=1)
    picture = 1 / (1 + np.exp(-raw)) if mean == "sigmoid" else raw
    return np.square(x - picture).mean(axis=1)
