"""Small data that ships with the dependencies, for runs that must not wait for a download."""

import numpy as np

#: Height, centre and width of the waves P, Q, R, S, T, as shares of the R wave and of the beat:
#: a normal beat, and one that starts in the ventricle (no P, a broad QRS complex, T upside down).
_WAVES = np.array(
    [
        [
            (0.15, 0.20, 0.025),
            (-0.12, 0.36, 0.010),
            (1.0, 0.40, 0.012),
            (-0.25, 0.44, 0.012),
            (0.3, 0.68, 0.04),
        ],
        [
            (0.00, 0.20, 0.025),
            (-0.05, 0.30, 0.020),
            (0.9, 0.40, 0.045),
            (-0.45, 0.53, 0.040),
            (-0.3, 0.75, 0.05),
        ],
    ]
)


def _hold_out(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return x_train, y_train, x_test, y_test: a seeded fifth of every class is the test set."""
    from sklearn.model_selection import train_test_split

    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.2, random_state=0, stratify=y)
    return x_train, y_train, x_test, y_test


def digits() -> tuple[tuple[np.ndarray, ...], tuple[str, ...]]:
    """Return scikit-learn's digits, (n, 8, 8, 1) float32 in [0, 1], split, and the names of the classes.

    The split is by image: scikit-learn does not say who wrote which, so a writer may be on both sides.

    References
    ----------
    Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = (bunch.images[..., None] / 16).astype(np.float32)
    return _hold_out(images, bunch.target), tuple("0123456789")


def enlarged_digits() -> tuple[tuple[np.ndarray, ...], tuple[str, ...], str]:
    """Return the digits enlarged to (n, 28, 28, 1) by cubic splines, in the same split."""
    from scipy.ndimage import zoom

    (x_train, y_train, x_test, y_test), names = digits()
    # Enlarging is linear: W X Wᵀ does it for all images at once. A spline overshoots, hence the clip.
    W = zoom(np.eye(8, dtype=np.float32), (3.5, 1), mode="nearest", grid_mode=True)  # (28, 8)
    x_train, x_test = (np.clip(W @ x[..., 0] @ W.T, 0, 1)[..., None] for x in (x_train, x_test))
    return (x_train, y_train, x_test, y_test), names, "scikit-learn's digits, enlarged to 28×28"


def photograph_patches(size: int = 32) -> tuple[tuple[np.ndarray, ...], tuple[str, ...], str]:
    """Return the patches, (n, 32, 32, 3) uint8, of two photographs; the label says of which.

    The patches are the cells of a grid, so no pixel is in the training and in the test set.
    """
    from sklearn.datasets import load_sample_images

    patches = []
    for image in load_sample_images().images:
        rows, columns = image.shape[0] // size, image.shape[1] // size
        grid = image[: rows * size, : columns * size].reshape(rows, size, columns, size, 3)
        patches.append(grid.swapaxes(1, 2).reshape(-1, size, size, 3))  # (R, S, C, S, 3) -> (R·C, S, S, 3)
    y = np.repeat(np.arange(len(patches)), [len(p) for p in patches])
    names = ("temple", "flower")
    return _hold_out(np.concatenate(patches), y), names, "patches of scikit-learn's two sample photographs"


def synthetic_heartbeats(
    n: int = 1250, length: int = 140
) -> tuple[tuple[np.ndarray, ...], tuple[str, ...], str]:
    """Return beats, (n, 140) float32, each a sum of five Gaussian waves; label 1 has another morphology.

    Like the beats of ECG5000, each has mean 0 and standard deviation 1.

    References
    ----------
    McSharry et al., A dynamical model for generating synthetic electrocardiogram signals, IEEE
    Transactions on Biomedical Engineering 50(3), 2003; the waves are theirs, the dynamics left out.
    """
    rng = np.random.default_rng(0)
    y = (np.arange(n) % 5 < 2).astype(np.int64)  # two in five are abnormal, as in ECG5000
    waves = _WAVES[y] * (1 + rng.normal(0, (0.12, 0.02, 0.10), size=(n, 5, 3)))  # (N, wave, 3)
    height, centre, width = np.moveaxis(waves, -1, 0)[..., None]  # (N, wave, 1) each
    time = np.arange(length) / length
    beats = np.sum(height * np.exp(-0.5 * ((time - centre) / width) ** 2), axis=1)  # (N, wave, T) -> (N, T)
    beats += rng.normal(0, 0.02, size=beats.shape)
    beats -= beats.mean(axis=1, keepdims=True)
    beats /= beats.std(axis=1, ddof=1, keepdims=True)
    return _hold_out(beats.astype(np.float32), y), ("normal", "abnormal"), "synthetic heartbeats"


def descriptions() -> tuple[tuple[np.ndarray, ...], tuple[str, ...], str]:
    """Return the lines, (n,) str, of scikit-learn's descriptions of its data sets; the label says of which.

    Whole paragraphs would be some fifty, too few for the models that a chapter fits.
    """
    from sklearn import datasets

    names = ("iris", "wine", "breast_cancer", "diabetes", "digits", "linnerud")
    labels = {}
    for label, name in enumerate(names):
        for line in getattr(datasets, f"load_{name}")().DESCR.splitlines():
            if len(line.split()) >= 4:  # shorter ones are headings and markup
                labels.setdefault(line.strip(), set()).add(label)
    # A line that two descriptions share has no one label.
    pairs = [(text, found.pop()) for text, found in labels.items() if len(found) == 1]
    x = np.array([text for text, _ in pairs], dtype=object)
    y = np.array([label for _, label in pairs])
    return _hold_out(x, y), names, "lines of scikit-learn's data set descriptions"


def synthetic_utterances(
    n: int = 180, length: int = 29, features: int = 12
) -> tuple[tuple[np.ndarray, ...], tuple[str, ...], str]:
    """Return utterances, (n, 29, 12) float32 of 7 to 29 steps, NaN after the end; the label is the speaker.

    Each speaker glides between two vowels of their own, at their own pace.
    """
    rng = np.random.default_rng(0)
    y = np.arange(n) % 9
    vowels = rng.normal(size=(9, 2, features))
    x = np.full((n, length, features), np.nan)
    for row, speaker in zip(x, y, strict=True):
        steps = rng.integers(7, length + 1)
        share = np.linspace(0, 1, steps)[:, None] ** (1 + speaker / 9)
        row[:steps] = (1 - share) * vowels[speaker, 0] + share * vowels[speaker, 1]
        row[:steps] += 0.2 * rng.normal(size=(steps, features))
    return (
        _hold_out(x.astype(np.float32), y),
        tuple(f"speaker {k + 1}" for k in range(9)),
        "synthetic utterances",
    )


def synthetic_weather(days: int = 60) -> tuple[tuple[np.ndarray, ...], tuple[str, ...], str]:
    """Return an hourly table, (n, 12) float32 in the columns of ``nyc_weather``, with gaps."""
    rng = np.random.default_rng(0)
    hours = np.arange(24 * days)
    hour, day = hours % 24, hours // 24
    month = 1 + day * 12 // days
    temp = 55 - 20 * np.cos(2 * np.pi * day / days) - 8 * np.cos(2 * np.pi * (hour - 3) / 24)
    temp = temp + np.convolve(rng.normal(0, 3, len(hours)), np.ones(12) / 4, "same")
    humid = np.clip(60 + 15 * np.cos(2 * np.pi * (hour - 3) / 24) + rng.normal(0, 8, len(hours)), 15, 100)
    dewp = temp - (100 - humid) / 5 * 1.8
    speed = rng.gamma(4, 2.5, len(hours))
    rain = np.where(rng.random(len(hours)) < 0.06, rng.exponential(0.05, len(hours)), 0)
    columns = [temp, dewp, humid, rng.integers(0, 37, len(hours)) * 10, speed, 1.3 * speed + 4, rain]
    columns += [rng.normal(1018, 7, len(hours)), 10 - 60 * np.minimum(rain, 0.1), month, day % 28 + 1, hour]
    x = np.stack(columns, axis=1)
    x[:, :9][rng.random((len(x), 9)) < [0, 0, 0, 0.02, 0, 0.8, 0, 0.1, 0]] = np.nan
    y = rng.integers(0, 3, len(x))
    return _hold_out(x.astype(np.float32), y), ("EWR", "JFK", "LGA"), "synthetic weather"


def synthetic_pulse(
    steps: int = 3000, start: int = 1000, first: int = 2200, last: int = 2230
) -> tuple[tuple[np.ndarray, ...], tuple[str, ...], str]:
    """Return a series, (n,) float32, of a pulse whose one beat in the test part lacks its second wave."""
    rng = np.random.default_rng(0)
    beat = np.arange(steps) / 40 + 0.02 * np.cumsum(rng.normal(size=steps)) / 40
    phase = beat % 1
    wave, echo = np.exp(-0.5 * ((phase - 0.3) / 0.08) ** 2), np.exp(-0.5 * ((phase - 0.6) / 0.1) ** 2)
    y = np.zeros(steps, np.int64)
    y[first:last] = 1
    x = (70 + 40 * wave + 12 * np.where(y, -1, 1) * echo + rng.normal(0, 0.5, steps)).astype(np.float32)
    return (x[:start], y[:start], x[start:], y[start:]), ("normal", "anomaly"), "a synthetic pulse"


#: What replaces a data set in the quick profile: functions that return (arrays, class names, description).
STANDINS = {
    "mnist": enlarged_digits,
    "fashion_mnist": enlarged_digits,
    "cifar10": photograph_patches,
    "ecg5000": synthetic_heartbeats,
    "newsgroups": descriptions,
    "imdb": descriptions,
    "japanese_vowels": synthetic_utterances,
    "nyc_weather": synthetic_weather,
    "ucr_anomaly_135": synthetic_pulse,
}
