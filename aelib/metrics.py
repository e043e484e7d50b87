"""How good a reconstruction is, in NumPy: figures per pixel and per image, and what to hold them against."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from aelib import checks

_DIVIDE = "divide images on 0 to 255 by 255"
_FILL = "drop or fill these rows, or mark them by mask="
_DROP = "drop or fill these rows"
#: Side of the window of `ssim` in pixels.
_WINDOW = 7


def _numbers(name: str, value: ArrayLike, *, remedy: str = _DROP) -> np.ndarray:
    """Return an array of finite numbers in double precision, (n >= 1, ...)."""
    return checks.finite(name, np.asarray(checks.samples(name, value), np.float64), remedy=remedy)


def _pair(x: ArrayLike, reconstruction: ArrayLike, mask: ArrayLike | None = None) -> tuple[np.ndarray, ...]:
    """Return both in double precision, and which of their numbers count, bool; the others are 0 in both."""
    pair = {"x": checks.samples("x", x), "reconstruction": checks.samples("reconstruction", reconstruction)}
    shape, other = (part.shape for part in pair.values())
    if shape != other:
        raise ValueError(f"x {shape} and reconstruction {other} must have one shape")
    observed = _observed(mask, shape)
    # Multiplying would not do: 0 times NaN is NaN.
    pair = {name: np.where(observed, part, 0).astype(np.float64) for name, part in pair.items()}
    return *(checks.finite(name, part, remedy=_FILL) for name, part in pair.items()), observed


def _observed(mask: ArrayLike | None, shape: tuple[int, ...]) -> np.ndarray:
    """Return a mask in the shape of the data; without one, all is observed."""
    if mask is None:
        return np.ones(shape, bool)
    mask = np.asarray(mask)
    if mask.dtype != bool:
        raise ValueError(
            f"mask must be bool, True where x is observed, got {mask.dtype}: ~np.isnan(x) is one"
        )
    try:
        mask = np.broadcast_to(mask, shape)
    except ValueError:
        raise ValueError(
            f"mask must have the shape {shape} of x, or one that NumPy broadcasts to it, got {mask.shape}"
        ) from None
    if not mask.any():
        raise ValueError(f"mask must be True somewhere, got none of {mask.size} numbers observed")
    return mask


def _peak(x: np.ndarray, observed: np.ndarray, data_range: float | None) -> float:
    """Return the range of the data, and refuse data that leave it."""
    if data_range is None:
        checks.within("x", x[observed], 0, 1, remedy=f"{_DIVIDE}, or say how wide they range: data_range=255")
        return 1.0
    data_range = checks.number("data_range", data_range, above=0)
    least, most = checks.extent(x[observed])
    if most - least > data_range * (1 + 1e-6):
        raise ValueError(
            f"data_range must be at least as wide as x, which goes from {least:g} to {most:g}, got "
            f"{data_range:g}"
        )
    return data_range


def mse(x: ArrayLike, reconstruction: ArrayLike, *, mask: ArrayLike | None = None) -> float:
    """Mean squared error per pixel: (n, ...), (n, ...) -> float.

    Parameters
    ----------
    x, reconstruction : array (n, ...)
    mask : array of bool, optional
        True where `x` is observed; of the shape of `x`, or broadcast to it. Only these numbers count; where
        it is False, both may hold NaN.
    """
    x, reconstruction, observed = _pair(x, reconstruction, mask)
    return float(np.sum(np.square(x - reconstruction)) / np.count_nonzero(observed))


def squared_error_per_image(
    x: ArrayLike, reconstruction: ArrayLike, *, mask: ArrayLike | None = None
) -> float:
    """Squared error summed over an image's pixels, averaged over the images; `mask` as in `mse`.

    The measure of Hinton and Salakhutdinov (2006).
    """
    x, reconstruction, _ = _pair(x, reconstruction, mask)
    return float(np.sum(np.square(x - reconstruction)) / len(x))


def bce(
    x: ArrayLike, reconstruction: ArrayLike, *, clip: float = 1e-7, mask: ArrayLike | None = None
) -> float:
    """Binary cross-entropy in nats per pixel, natural logarithm: (n, ...), (n, ...) -> float.

    Parameters
    ----------
    x : array of float in [0, 1]
    reconstruction : array of float
        Probabilities; clipped to [clip, 1 - clip], which also mends a PCA's values outside [0, 1].
    clip : float
        In (0, 0.5). What suits a baseline best is to be chosen on validation data.
    mask : array of bool, optional
        As in `mse`.
    """
    clip = checks.number("clip", clip, above=0, below=0.5)
    x, reconstruction, observed = _pair(x, reconstruction, mask)
    checks.within("x", x, 0, 1, remedy=f"{_DIVIDE}, or measure other data by mse")
    p = np.clip(reconstruction, clip, 1 - clip)
    terms = x * np.log(p) + (1 - x) * np.log1p(-p)
    return float(-np.mean(terms[observed]))


def bce_floor(x: ArrayLike) -> float:
    """Return the least binary cross-entropy per pixel, in nats, that `x` allows: its own entropy."""
    x = checks.within("x", _numbers("x", x), 0, 1, remedy=_DIVIDE)
    inside = x[(x > 0) & (x < 1)]
    return float(-np.sum(inside * np.log(inside) + (1 - inside) * np.log1p(-inside)) / x.size)


def psnr(
    x: ArrayLike, reconstruction: ArrayLike, *, data_range: float | None = None, mask: ArrayLike | None = None
) -> float:
    """Peak signal-to-noise ratio in dB: the mean of the figures of the single images.

    An image that is reproduced exactly has no finite ratio, and is refused.

    Parameters
    ----------
    x, reconstruction : array (n, ...)
    data_range : float, optional
        The greatest difference that two pixels can have, 255 for images of bytes. Without it, `x` must be in
        [0, 1], and it is 1.
    mask : array of bool, optional
        As in `mse`; every image needs an observed pixel.
    """
    x, reconstruction, observed = _pair(x, reconstruction, mask)
    peak = _peak(x, observed, data_range)
    counts = np.count_nonzero(observed.reshape(len(x), -1), axis=1)
    if not counts.all():
        raise ValueError(f"mask must be True somewhere in each image, got none in image {counts.argmin()}")
    errors = np.sum(np.square(x - reconstruction).reshape(len(x), -1), axis=1) / counts
    if not errors.all():
        raise ValueError(f"{np.sum(errors == 0)} images are reproduced exactly: their PSNR is infinite")
    return float(np.mean(20 * np.log10(peak) - 10 * np.log10(errors)))


def ssim(
    x: ArrayLike, reconstruction: ArrayLike, *, data_range: float | None = None, mask: ArrayLike | None = None
) -> float:
    """Structural similarity, the mean of the figures of the single images: (n, H, W, C) -> float.

    Wang et al. (2004), as scikit-image computes it: a uniform window of 7 pixels.

    Parameters
    ----------
    x, reconstruction : array (n, H, W, C)
    data_range : float, optional
        As in `psnr`; without it, `x` must be in [0, 1].
    mask : array of bool, optional
        As in `mse`. Only windows that are observed as a whole count; every image needs one.
    """
    from scipy.ndimage import minimum_filter
    from skimage.metrics import structural_similarity

    x, reconstruction, observed = _pair(x, reconstruction, mask)
    if x.ndim != 4:
        raise ValueError(f"images must have shape (n, height, width, channels), got {x.shape}")
    if min(x.shape[1:3]) < _WINDOW:
        raise ValueError(f"images must have at least {_WINDOW} x {_WINDOW} pixels, got shape {x.shape}")
    peak = _peak(x, observed, data_range)
    inner = slice(_WINDOW // 2, -(_WINDOW // 2))  # the centres of the windows within the image
    figures = []
    for i, (a, b, seen) in enumerate(zip(x, reconstruction, observed, strict=True)):
        whole = minimum_filter(seen, size=(_WINDOW, _WINDOW, 1))[inner, inner]
        if not whole.any():
            raise ValueError(f"mask must be True for one whole window of 7 pixels in each image, not in {i}")
        _, similarity = structural_similarity(a, b, data_range=peak, channel_axis=-1, full=True)
        figures.append(np.mean(similarity[inner, inner][whole]))
    return float(np.mean(figures))


def delta_e(x: ArrayLike, reconstruction: ArrayLike) -> float:
    """Difference of colours by CIEDE2000, the mean over all pixels: RGB (n, H, W, 3) in [0, 1] -> float.

    As scikit-image computes it (Luo et al., 2001); a difference of about 1 can just be seen.
    """
    from skimage.color import deltaE_ciede2000, rgb2lab

    x, reconstruction, _ = _pair(x, reconstruction)
    _check_rgb(x)
    return float(np.mean(deltaE_ciede2000(rgb2lab(x), rgb2lab(reconstruction))))


def _check_rgb(x: np.ndarray) -> None:
    if x.ndim != 4 or x.shape[-1] != 3:
        raise ValueError(f"x must be RGB images of shape (n >= 1, H, W, 3), got {x.shape}")
    checks.within("x", x, 0, 1, remedy=_DIVIDE)


def colorfulness(x: ArrayLike) -> float:
    """Return the mean colourfulness of RGB images (n, H, W, 3) in [0, 1]: 0 for grey, above 80 for gaudy.

    Hasler & Süsstrunk (2003), section 7, on their scale of 0 to 255.
    """
    x = _numbers("x", x)
    _check_rgb(x)
    red, green, blue = np.moveaxis(255 * x.reshape(len(x), -1, 3), -1, 0)
    opponent = np.stack([red - green, (red + green) / 2 - blue])  # (2, n, H·W)
    spread, offset = np.hypot(*opponent.std(axis=-1)), np.hypot(*opponent.mean(axis=-1))
    return float(np.mean(spread + 0.3 * offset))


def pca_reconstruct(x_train: ArrayLike, x: ArrayLike, components: int) -> np.ndarray:
    """Reconstruct `x` from its first principal `components`, fitted on `x_train`; the shape of `x` is kept.

    The baseline of every chapter: the best linear autoencoder there is with a code of that size
    (Baldi & Hornik, 1989).
    """
    from sklearn.decomposition import PCA

    components = checks.whole_number("components", components)
    x_train, x = (
        checks.finite(name, checks.samples(name, value), remedy=_DROP)
        for name, value in (("x_train", x_train), ("x", x))
    )
    if x_train.shape[1:] != x.shape[1:]:
        raise ValueError(f"x_train {x_train.shape} and x {x.shape} must hold samples of one shape")
    pca = PCA(components, svd_solver="covariance_eigh").fit(x_train.reshape(len(x_train), -1))
    return pca.inverse_transform(pca.transform(x.reshape(len(x), -1))).reshape(x.shape)


def activity(codes: ArrayLike, *, tolerance: float = 1e-6) -> dict[str, float]:
    """Describe how a code uses its units: (n, K) -> dict of float.

    Parameters
    ----------
    codes : array (n, K)
    tolerance : float
        A number whose magnitude is not above it counts as 0.

    Returns
    -------
    dict
        ``active``, the mean share of a code's units that are not 0; ``mean``, the mean activity; ``dead``,
        the number of units that give the same for every sample; ``hoyer``, the mean sparsity of the codes
        in [0, 1], (√K - ‖z‖₁/‖z‖₂) / (√K - 1): 1 for a single unit, 0 for equal ones (Hoyer, 2004,
        section 3.1; a code of zeros counts as 1).
    """
    tolerance = checks.number("tolerance", tolerance, least=0)
    codes = np.asarray(checks.array("codes", codes), np.float64)
    if codes.ndim != 2 or codes.shape[1] < 2 or not codes.size:
        raise ValueError(f"codes must have shape (n >= 1, K >= 2), got {codes.shape}")
    checks.finite("codes", codes, remedy=_DROP)
    root = np.sqrt(codes.shape[1])
    norm = np.linalg.norm(codes, axis=1)
    ratio = np.divide(np.abs(codes).sum(axis=1), norm, out=np.ones_like(norm), where=norm > 0)
    return {
        "active": float(np.mean(np.abs(codes) > tolerance)),
        "mean": float(np.mean(codes)),
        "dead": int(np.sum(np.ptp(codes, axis=0) <= tolerance)),
        "hoyer": float(np.mean((root - ratio) / (root - 1))),
    }


def active_units(means: ArrayLike, *, threshold: float = 0.01) -> int:
    """Count the latents whose posterior mean varies over the data by more than `threshold`: (n, K) -> int.

    Burda et al. (2016), section 5.2. The others have collapsed: what they say does not depend on the sample.
    """
    threshold = checks.number("threshold", threshold, least=0)
    means = _numbers("means", means)
    if means.ndim != 2:
        raise ValueError(f"means must have shape (n >= 1, K >= 1), got {means.shape}")
    return int((means.var(axis=0) > threshold).sum())


def frechet_distance(features: ArrayLike, others: ArrayLike) -> float:
    """Distance of two sets of features, each taken for a normal distribution: (n, d), (m, d) -> float.

    ‖μ₁ - μ₂‖² + tr(S₁ + S₂ - 2 (S₁ S₂)^½), squared units of a feature, with the unbiased estimates of the
    covariances, so n, m >= 2. It depends on n and m, also for samples of one distribution: compare equal
    numbers, and give the figure of two such samples as a floor. Dowson & Landau (1982); Heusel et al. (2017),
    section 2.
    """
    features, others = _numbers("features", features), _numbers("others", others)
    if features.ndim != 2 or features.shape[1:] != others.shape[1:] or min(len(features), len(others)) < 2:
        raise ValueError(f"need (n >= 2, d) and (m >= 2, d), got {features.shape} and {others.shape}")
    shift = features.mean(axis=0) - others.mean(axis=0)
    one, two = (np.atleast_2d(np.cov(part.T)) for part in (features, others))
    # The eigenvalues of a product of two covariances are real and not negative, up to rounding.
    root = np.sqrt(np.maximum(np.linalg.eigvals(one @ two).real, 0)).sum()
    return float(shift @ shift + np.trace(one) + np.trace(two) - 2 * root)


def bits_per_pixel(data: bytes, images: ArrayLike) -> float:
    """Return the bits that each number of `images`, an array (n, H, W, C), costs in `data`, their bytes."""
    return 8 * len(data) / np.size(images)


def singular_values(jacobians: ArrayLike) -> np.ndarray:
    """Return the mean spectrum of the samples' Jacobians, falling: (n, K, D) -> (min(K, D),).

    How many of them stand out is the number of directions in which a code follows its input
    (Rifai et al., 2011, section 5.3).
    """
    jacobians = _numbers("jacobians", jacobians)
    if jacobians.ndim != 3:
        raise ValueError(f"jacobians must have shape (n >= 1, K, D), got {jacobians.shape}")
    return np.linalg.svd(jacobians, compute_uv=False).mean(axis=0)


def linear_probe(
    train: tuple[ArrayLike, ArrayLike],
    validation: tuple[ArrayLike, ArrayLike],
    test: tuple[ArrayLike, ArrayLike],
    *,
    penalties: float | Sequence[float] = (1e-1, 1e-2, 1e-3),
    max_iter: int = 100,
) -> float:
    """Return the test accuracy of a linear classifier on codes: the share of labels it gets right.

    Logistic regression (scikit-learn, L-BFGS) on features brought to mean 0 and variance 1 on the training
    set; its L2 penalty is chosen on the validation set.

    Parameters
    ----------
    train, validation, test : tuple of (codes (n, ...), labels (n,))
    penalties : sequence of float
        Weights of ½‖w‖² against the **mean** log-loss, to choose from. They are tried from the strongest
        down, each fit going on from the one before.
    max_iter : int
        Of each fit.
    """
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    penalties = [checks.number("every penalty", penalty, above=0) for penalty in np.atleast_1d(penalties)]
    max_iter = checks.whole_number("max_iter", max_iter)
    parts = [(np.asarray(x, np.float32), np.asarray(y)) for x, y in (train, validation, test)]
    if any(len(x) != len(y) or not len(x) for x, y in parts):
        raise ValueError(f"codes and labels must match, got {[(x.shape, y.shape) for x, y in parts]}")
    for (x, _), name in zip(parts, ("train", "validation", "test"), strict=True):
        checks.finite(f"the codes of {name}", x, remedy=_DROP)
    scaler = StandardScaler().fit(parts[0][0].reshape(len(parts[0][0]), -1))
    (x, y), held_out, unseen = ((scaler.transform(x.reshape(len(x), -1)), y) for x, y in parts)
    probe, scores = LogisticRegression(max_iter=max_iter, warm_start=True), []
    # One thread: the products are small, and on a busy machine several threads mostly wait for each other.
    with threadpool_limits(1), warnings.catch_warnings():
        # Stopping early is one more way to regularise, and judged on the same validation set.
        warnings.simplefilter("ignore", ConvergenceWarning)
        for penalty in sorted(penalties, reverse=True):
            probe.set_params(C=1 / (penalty * len(x))).fit(x, y)
            scores.append((probe.score(*held_out), probe.score(*unseen)))
    return float(max(scores, key=lambda score: score[0])[1])
