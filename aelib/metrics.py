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


def pca_reconstruct(x_train, x, components):
    """Reconstruct `x` from its first principal `components`, fitted on `x_train`; the shape of `x` is kept.

    The baseline of every chapter: the best linear autoencoder there is with a code of that size
    (Baldi & Hornik, 1989).
    """
    from sklearn.decomposition import PCA

    x_train, x = np.asarray(x_train), np.asarray(x)
    pca = PCA(components, svd_solver="covariance_eigh").fit(x_train.reshape(len(x_train), -1))
    return pca.inverse_transform(pca.transform(x.reshape(len(x), -1))).reshape(x.shape)
