"""How good a reconstruction is, in NumPy: figures per pixel and per image, and what to hold them against."""

import numpy as np


def _pair(x, reconstruction):
    x, reconstruction = np.asarray(x, np.float64), np.asarray(reconstruction, np.float64)
    if x.shape != reconstruction.shape or not x.size:
        raise ValueError(
            f"originals {x.shape} and reconstructions {reconstruction.shape} must match, not be empty"
        )
    return x, reconstruction


def mse(x, reconstruction):
    """Mean squared error per pixel: (n, ...), (n, ...) -> float."""
    x, reconstruction = _pair(x, reconstruction)
    return float(np.mean(np.square(x - reconstruction)))


def squared_error_per_image(x, reconstruction):
    """Squared error summed over an image's pixels, averaged over the images.

    The measure of Hinton and Salakhutdinov (2006).
    """
    return mse(x, reconstruction) * np.asarray(x)[0].size


def bce(x, reconstruction, *, clip=1e-7):
    """Binary cross-entropy in nats per pixel, natural logarithm: (n, ...), (n, ...) -> float.

    Parameters
    ----------
    x : array of float in [0, 1]
    reconstruction : array of float
        Probabilities; clipped to [clip, 1 - clip], which also mends a PCA's values outside [0, 1].
    clip : float
        In (0, 0.5). What suits a baseline best is to be chosen on validation data.
    """
    x, reconstruction = _pair(x, reconstruction)
    if not 0 < clip < 0.5:
        raise ValueError(f"clip must be in (0, 0.5), got {clip!r}")
    p = np.clip(reconstruction, clip, 1 - clip)
    return float(-np.mean(x * np.log(p) + (1 - x) * np.log1p(-p)))


def bce_floor(x):
    """Return the least binary cross-entropy per pixel, in nats, that `x` allows: its own entropy."""
    x = np.asarray(x, np.float64)
    if not x.size or not (x.min() >= 0 and x.max() <= 1):
        raise ValueError(f"pixels must be in [0, 1], got {'none' if not x.size else (x.min(), x.max())}")
    inside = x[(x > 0) & (x < 1)]
    return float(-np.sum(inside * np.log(inside) + (1 - inside) * np.log1p(-inside)) / x.size)


def psnr(x, reconstruction):
    """Peak signal-to-noise ratio in dB for data in [0, 1]: the mean of the figures of the single images.

    An image that is reproduced exactly has no finite ratio, and is refused.
    """
    x, reconstruction = _pair(x, reconstruction)
    errors = np.mean(np.square(x - reconstruction).reshape(len(x), -1), axis=1)
    if not errors.all():
        raise ValueError(f"{np.sum(errors == 0)} images are reproduced exactly: their PSNR is infinite")
    return float(np.mean(-10 * np.log10(errors)))


def ssim(x, reconstruction):
    """Structural similarity, the mean of the figures of the single images: (n, H, W, C) in [0, 1] -> float.

    Wang et al. (2004), as scikit-image computes it: a uniform window of 7 pixels.
    """
    from skimage.metrics import structural_similarity

    x, reconstruction = _pair(x, reconstruction)
    if x.ndim != 4:
        raise ValueError(f"images must have shape (n, height, width, channels), got {x.shape}")
    pairs = zip(x, reconstruction, strict=True)
    return float(np.mean([structural_similarity(a, b, data_range=1.0, channel_axis=-1) for a, b in pairs]))


def delta_e(x, reconstruction):
    """Difference of colours by CIEDE2000, the mean over all pixels: RGB (n, H, W, 3) in [0, 1] -> float.

    As scikit-image computes it (Luo et al., 2001); a difference of about 1 can just be seen.
    """
    from skimage.color import deltaE_ciede2000, rgb2lab

    x, reconstruction = _pair(x, reconstruction)
    return float(np.mean(deltaE_ciede2000(rgb2lab(x), rgb2lab(reconstruction))))


def colourfulness(x):
    """Return the mean colourfulness of RGB images (n, H, W, 3) in [0, 1]: 0 for grey, above 80 for gaudy.

    Hasler & Süsstrunk (2003), section 7, on their scale of 0 to 255.
    """
    x = np.asarray(x, np.float64)
    if x.ndim != 4 or x.shape[-1] != 3 or not x.size:
        raise ValueError(f"x must have shape (n >= 1, H, W, 3), got {x.shape}")
    red, green, blue = np.moveaxis(255 * x.reshape(len(x), -1, 3), -1, 0)
    opponent = np.stack([red - green, (red + green) / 2 - blue])  # (2, n, H·W)
    spread, offset = np.hypot(*opponent.std(axis=-1)), np.hypot(*opponent.mean(axis=-1))
    return float(np.mean(spread + 0.3 * offset))


def pca_reconstruct(x_train, x, components):
    """Reconstruct `x` from its first principal `components`, fitted on `x_train`; the shape of `x` is kept.

    The baseline of every chapter: the best linear autoencoder there is with a code of that size
    (Baldi & Hornik, 1989).
    """
    from sklearn.decomposition import PCA

    x_train, x = np.asarray(x_train), np.asarray(x)
    pca = PCA(components, svd_solver="covariance_eigh").fit(x_train.reshape(len(x_train), -1))
    return pca.inverse_transform(pca.transform(x.reshape(len(x), -1))).reshape(x.shape)


def activity(codes, *, tolerance=1e-6):
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
    codes = np.asarray(codes, np.float64)
    if codes.ndim != 2 or codes.shape[1] < 2 or not codes.size:
        raise ValueError(f"codes must have shape (n >= 1, K >= 2), got {codes.shape}")
    root = np.sqrt(codes.shape[1])
    norm = np.linalg.norm(codes, axis=1)
    ratio = np.divide(np.abs(codes).sum(axis=1), norm, out=np.ones_like(norm), where=norm > 0)
    return {
        "active": float(np.mean(np.abs(codes) > tolerance)),
        "mean": float(np.mean(codes)),
        "dead": int(np.sum(np.ptp(codes, axis=0) <= tolerance)),
        "hoyer": float(np.mean((root - ratio) / (root - 1))),
    }


def active_units(means, *, threshold=0.01):
    """Count the latents whose posterior mean varies over the data by more than `threshold`: (n, K) -> int.

    Burda et al. (2016), section 5.2. The others have collapsed: what they say does not depend on the sample.
    """
    means = np.asarray(means, np.float64)
    if means.ndim != 2 or not means.size:
        raise ValueError(f"means must have shape (n >= 1, K >= 1), got {means.shape}")
    return int((means.var(axis=0) > threshold).sum())


def frechet_distance(features, others):
    """Distance of two sets of features, each taken for a normal distribution: (n, d), (m, d) -> float.

    ‖μ₁ - μ₂‖² + tr(S₁ + S₂ - 2 (S₁ S₂)^½), squared units of a feature, with the unbiased estimates of the
    covariances, so n, m >= 2. It depends on n and m, also for samples of one distribution: compare equal
    numbers, and give the figure of two such samples as a floor. Dowson & Landau (1982); Heusel et al. (2017),
    section 2.
    """
    features, others = np.asarray(features, np.float64), np.asarray(others, np.float64)
    if features.ndim != 2 or features.shape[1:] != others.shape[1:] or min(len(features), len(others)) < 2:
        raise ValueError(f"need (n >= 2, d) and (m >= 2, d), got {features.shape} and {others.shape}")
    shift = features.mean(axis=0) - others.mean(axis=0)
    one, two = (np.atleast_2d(np.cov(part.T)) for part in (features, others))
    # The eigenvalues of a product of two covariances are real and not negative, up to rounding.
    root = np.sqrt(np.maximum(np.linalg.eigvals(one @ two).real, 0)).sum()
    return float(shift @ shift + np.trace(one) + np.trace(two) - 2 * root)


def bits_per_pixel(data, images):
    """Return the bits that each number of `images`, an array (n, H, W, C), costs in `data`, their bytes."""
    return 8 * len(data) / np.size(images)


def singular_values(jacobians):
    """Return the mean spectrum of the samples' Jacobians, falling: (n, K, D) -> (min(K, D),).

    How many of them stand out is the number of directions in which a code follows its input
    (Rifai et al., 2011, section 5.3).
    """
    jacobians = np.asarray(jacobians, np.float64)
    if jacobians.ndim != 3 or not jacobians.size:
        raise ValueError(f"Jacobians must have shape (n >= 1, K, D), got {jacobians.shape}")
    return np.linalg.svd(jacobians, compute_uv=False).mean(axis=0)


def linear_probe(train, validation, test, *, penalties=(1e-1, 1e-2, 1e-3), max_iter=100):
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

    parts = [(np.asarray(x, np.float32), np.asarray(y)) for x, y in (train, validation, test)]
    if any(len(x) != len(y) or not len(x) for x, y in parts):
        raise ValueError(f"codes and labels must match, got {[(x.shape, y.shape) for x, y in parts]}")
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
