"""The ruler of generated images: a classifier for MNIST and one for Fashion-MNIST, the same in every chapter.

Their weights are stored beside this module. ``benchmarks/rulers.py`` trains them.
"""

from collections.abc import Callable, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import ArrayLike

from aelib import checks, metrics

#: The data sets that there is a ruler for.
NAMES = ("mnist", "fashion_mnist")
SHAPE, FEATURES, CLASSES = (28, 28, 1), 64, 10


def build() -> keras.Model:
    """Return the net of the rulers, untrained: images (B, 28, 28, 1) -> features (B, 64), logits (B, 10)."""
    x = keras.Input(SHAPE)
    h = layers.Conv2D(16, 4, strides=2, padding="same", activation="relu")(x)
    h = layers.Conv2D(32, 4, strides=2, padding="same", activation="relu")(h)
    features = layers.Dense(FEATURES, "relu")(layers.Flatten()(h))
    return keras.Model(x, [features, layers.Dense(CLASSES)(features)])


def stored(name: str) -> Traversable:
    """Return the file with the weights of a ruler."""
    return resources.files("aelib.book") / "rulers" / f"{name}.npz"


class Ruler:
    """Measures generated images in the features of a small classifier.

    The distance is that of Heusel et al. (2017), section 2, but in these features: it cannot be compared with
    an FID from the literature. It falls as the number of images grows, so compare equal numbers and name
    that of two sets of real images beside it, the floor.

    Parameters
    ----------
    name : {"mnist", "fashion_mnist"}

    Examples
    --------
    >>> import numpy as np
    >>> from aelib.book.ruler import Ruler
    >>> Ruler("mnist").features(np.zeros((3, 28, 28, 1))).shape
    (3, 64)
    """

    def __init__(self, name: str) -> None:
        if name not in NAMES:
            raise ValueError(f"there are rulers for {', '.join(NAMES)}; got {name!r}")
        self.name = name
        self.net = build()
        with stored(name).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            self.net.set_weights([arrays[key].astype("float32") for key in arrays])

    def _describe(self, images: ArrayLike) -> list[np.ndarray]:
        images = checks.samples("images", images)
        if images.shape[1:] != SHAPE:
            raise ValueError(f"images must have the shape {('n', *SHAPE)}, got {images.shape}")
        remedy = "give means, as model.decode and model.sample do, and not raw output"
        checks.within("images", images, 0, 1, remedy=remedy)
        return self.net.predict(images.astype("float32"), batch_size=500, verbose=0)

    def features(self, images: ArrayLike) -> np.ndarray:
        """Return what the classifier decides by: (n, 28, 28, 1) in [0, 1] -> ndarray (n, 64)."""
        return self._describe(images)[0].astype("float64")

    def probabilities(self, images: ArrayLike) -> np.ndarray:
        """Return the classifier's probabilities of the ten classes: (n, 28, 28, 1) -> ndarray (n, 10)."""
        return ops.convert_to_numpy(ops.softmax(self._describe(images)[1]))

    def distance(self, images: ArrayLike, real: ArrayLike) -> float:
        """Return the Fréchet distance of two sets of images, (n, 28, 28, 1) and (m, 28, 28, 1)."""
        return metrics.frechet_distance(self.features(images), self.features(real))

    def measure(
        self, sample: Callable[..., Any], real: np.ndarray, *, seeds: Sequence[int] = (0, 1, 2)
    ) -> tuple[float, float]:
        """Return the mean and the standard deviation of the distance of sets of samples from `real`.

        Parameters
        ----------
        sample : callable
            ``sample(n, seed=seed)`` returns `n` images, as ``model.sample`` does.
        real : ndarray (n, 28, 28, 1)
            Held-out images; as many are drawn.
        seeds : sequence of int
            Two or more.
        """
        if len(seeds) < 2:
            raise ValueError(f"an error bar needs two seeds or more, got {list(seeds)}")
        known = self.features(real)
        drawn = (self.features(sample(len(real), seed=seed)) for seed in seeds)
        values = [metrics.frechet_distance(features, known) for features in drawn]
        return float(np.mean(values)), float(np.std(values, ddof=1))

    def floor(self, real: np.ndarray, others: np.ndarray) -> float:
        """Return the distance of two sets of real images, which must be equally many.

        Draw them at random: the two halves of MNIST's test images, in their order, are by different writers.
        """
        if len(real) != len(others):
            raise ValueError(f"the floor needs sets of one size, got {len(real)} and {len(others)}")
        return self.distance(real, others)
