"""Quantisation by a learnt codebook or by a fixed grid. Import the layers from `aelib.layers`."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from aelib import checks

#: The running average of uses never falls below this: nothing is to be divided by 0, or by what underflows.
_FEWEST_USES = 1e-5


@keras.saving.register_keras_serializable("aelib")
class VectorQuantizer(keras.layers.Layer):
    """Replaces every vector by the nearest one of a codebook: (B, ..., d) -> (B, ..., d).

    Gradients pass straight through to the encoder. The codebook is no weight that gradients train: each of
    its vectors follows the mean of the vectors that chose it, as a running average (van den Oord et al.,
    2017, section 3.2 and appendix A.1). A vector that hardly anything chooses is put where a random vector of
    the batch is, so that it comes back into use; one that nothing chooses, and that is not moved, stays where
    it is for any number of steps: hence no Laplace smoothing of the counts as in the paper's code, which
    draws such a vector to the origin. The layer adds one loss, the commitment: `commitment` times
    the squared distance from the encoder's vectors to the chosen ones, summed over a sample and averaged
    over the batch.

    Distances and averages are computed in float32 also where the net computes in half precision.

    Parameters
    ----------
    num_embeddings : int
        Number of vectors in the codebook, at least 2.
    commitment : float
        Weight of the added loss, at least 0.
    decay : float
        Of the running averages, in (0, 1).
    restart_threshold : float
        A vector whose running average of uses in a batch falls below this is moved; 0 turns it off, and a
        vector that nothing chooses then stays where it is.
    from_data : bool
        Whether the codebook starts, with the first batch of training, at random vectors of that batch;
        otherwise at small normal ones.
    seed : int, optional
        Of the moves.

    Attributes
    ----------
    codebook : variable (num_embeddings, d)
    uses : variable (num_embeddings,)
        How many vectors of a batch choose each, a running average.

    Examples
    --------
    >>> import numpy as np
    >>> from aelib.layers import VectorQuantizer
    >>> layer = VectorQuantizer(8)
    >>> layer(np.zeros((5, 2), "float32")).shape[1], layer.indices(np.zeros((5, 2), "float32")).shape[0]
    (2, 5)
    """

    def __init__(
        self,
        num_embeddings: int,
        *,
        commitment: float = 0.25,
        decay: float = 0.99,
        restart_threshold: float = 0.1,
        from_data: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_embeddings = checks.whole_number("num_embeddings", num_embeddings, least=2)
        self.commitment = checks.number("commitment", commitment, least=0)
        self.decay = checks.inner_share("decay", decay)
        self.restart_threshold = checks.number("restart_threshold", restart_threshold, least=0)
        self.from_data = checks.flag("from_data", from_data)
        self.seed = checks.seed("seed", seed)
        self.draws = keras.random.SeedGenerator(self.seed)

    @property
    def _precision(self) -> str:
        return keras.backend.result_type(self.compute_dtype, "float32")

    def build(self, input_shape):
        """Make the codebook, and the running average of its uses."""
        width = input_shape[-1]
        if len(input_shape) < 2 or width is None:
            raise ValueError(
                f"vectors must have the shape (B, ..., d) with d known, got {tuple(input_shape)}"
            )
        state = {"dtype": self._precision, "trainable": False, "autocast": False}
        self.codebook = self.add_weight(
            shape=(self.num_embeddings, width), initializer="random_normal", name="codebook", **state
        )
        self.uses = self.add_weight(shape=(self.num_embeddings,), initializer="ones", name="uses", **state)
        if self.from_data:
            self.started = self.add_weight(shape=(), initializer="zeros", name="started", **state)

    def indices(self, x: Any) -> Any:
        """Return which vector of the codebook is nearest to each of `x`: (B, ..., d) -> (B, ...), int32."""
        x = ops.cast(x, self._precision)
        flat = ops.reshape(x, (-1, x.shape[-1]))
        # The squared distance, less |x|², which is the same for the whole codebook.
        distance = ops.sum(ops.square(self.codebook), axis=1) - 2 * ops.matmul(
            flat, ops.transpose(self.codebook)
        )
        return ops.reshape(ops.cast(ops.argmin(distance, axis=1), "int32"), ops.shape(x)[:-1])

    def lookup(self, indices: Any) -> Any:
        """Return the vectors with these numbers: (B, ...), int -> (B, ..., d)."""
        return ops.take(self.codebook, indices, axis=0)

    def call(self, x, training=None):
        """Return the chosen vectors; gradients see the identity."""
        x = ops.cast(x, self._precision)
        indices = self.indices(x)
        chosen = self.lookup(indices)
        apart = ops.square(x - ops.stop_gradient(chosen))
        self.add_loss(self.commitment * ops.mean(ops.sum(ops.reshape(apart, (ops.shape(x)[0], -1)), axis=1)))
        if training:
            self._follow(ops.stop_gradient(x), indices)
        return ops.cast(x + ops.stop_gradient(chosen - x), self.compute_dtype)

    def _follow(self, x: Any, indices: Any) -> None:
        """Move every vector towards the mean of those that chose it.

        With the averages N' = γN + (1 - γ)n of the counts and m' = γm + (1 - γ)s of the sums, the vector is
        e' = m'/N' = e + (1 - γ)(s - n e)/N'. Written so, one that nothing chooses stays exactly where it is,
        where m and N both underflow after some thousand steps, and m/N is then NaN.
        """
        flat = ops.reshape(x, (-1, x.shape[-1]))
        choice = ops.one_hot(ops.reshape(indices, (-1,)), self.num_embeddings, dtype=flat.dtype)  # (n, J)
        counts = ops.sum(choice, axis=0)  # (J,)
        sums = ops.matmul(ops.transpose(choice), flat)  # (J, d)
        uses = ops.maximum(self.decay * self.uses + (1 - self.decay) * counts, _FEWEST_USES)
        step = (1 - self.decay) * (sums - counts[:, None] * self.codebook) / uses[:, None]
        idle = uses < self.restart_threshold
        if self.from_data:
            idle = ops.logical_or(idle, self.started < 1)
            self.started.assign(1)
        drawn = keras.random.randint((self.num_embeddings,), 0, ops.shape(flat)[0], seed=self.draws)
        self.codebook.assign(ops.where(idle[:, None], ops.take(flat, drawn, axis=0), self.codebook + step))
        self.uses.assign(ops.where(idle, ops.ones_like(uses), uses))

    def compute_output_shape(self, input_shape):
        """Return the shape of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds the layer."""
        own = ("num_embeddings", "commitment", "decay", "restart_threshold", "from_data", "seed")
        return super().get_config() | {name: getattr(self, name) for name in own}


@keras.saving.register_keras_serializable("aelib")
class FiniteScalarQuantizer(keras.layers.Layer):
    """Rounds each number of a short vector to one of a few levels in [-1, 1]: (B, ..., d) -> (B, ..., d).

    Mentzer et al. (2024), section 3 and appendix A.1. Every number is bounded by tanh and rounded; gradients
    pass straight through the rounding. All combinations of levels form a codebook that needs no training, has
    no idle vectors, and adds no loss. It stands wherever a `VectorQuantizer` does, behind an encoder whose
    last axis has `d` numbers, one for each entry of `levels`.

    An even number L of levels cannot lie evenly about 0: they go from -1 to 1 - 2 / L, and the tanh is moved
    by half a step, its argument by the artanh of that, so that 0 stays 0 (the paper's listing has tan).

    Parameters
    ----------
    levels : tuple of int
        How many levels each number has, at least 3; the paper advises 5 or more. (8, 5, 5, 5) makes 1,000.

    Attributes
    ----------
    num_embeddings : int
        Size of the implicit codebook, the product of the levels; at most 2³¹ - 1.

    Examples
    --------
    >>> import numpy as np
    >>> from aelib.layers import FiniteScalarQuantizer
    >>> layer = FiniteScalarQuantizer((5, 3))
    >>> layer.num_embeddings
    15
    """

    def __init__(self, levels: int | Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        levels = checks.whole_numbers("every entry of levels", levels, least=3)
        self.num_embeddings = math.prod(levels)
        if not levels or self.num_embeddings >= 2**31:
            raise ValueError(
                "levels must be one or more whole numbers whose product is below 2³¹, so that int32 holds "
                f"the indices, got {levels!r}: take fewer, or smaller ones"
            )
        self.levels = levels
        self._half = np.array(levels) // 2
        self._basis = np.cumprod((1, *levels[:-1]))

    @property
    def _precision(self) -> str:
        return keras.backend.result_type(self.compute_dtype, "float32")

    def build(self, input_shape):
        """Check that the vectors are as long as `levels`."""
        if len(input_shape) < 2 or input_shape[-1] != len(self.levels):
            raise ValueError(
                f"vectors must have the shape (B, ..., {len(self.levels)}), a number for each of the levels "
                f"{self.levels}, got {tuple(input_shape)}: give the layer before as many units, or filters"
            )

    def bound(self, x: Any) -> Any:
        """Return what is to be rounded, in steps of one: (B, ..., d) -> (B, ..., d)."""
        levels = np.array(self.levels)
        # A little less than the whole range, lest the rounding at its ends goes one level too far.
        half = (levels - 1) * (1 - 1e-3) / 2
        offset = np.where(levels % 2, 0, 0.5)
        shift = np.arctanh(offset / half)
        x = ops.cast(x, self._precision)
        half, offset, shift = (ops.cast(part, x.dtype) for part in (half, offset, shift))
        return ops.tanh(x + shift) * half - offset

    def call(self, x):
        """Return the nearest levels; gradients see `bound` alone."""
        bounded = self.bound(x)
        rounded = bounded + ops.stop_gradient(ops.round(bounded) - bounded)
        return ops.cast(rounded / ops.cast(self._half, bounded.dtype), self.compute_dtype)

    def codes_to_indices(self, codes: Any) -> Any:
        """Return the number of each vector in the codebook: (B, ..., d), levels -> (B, ...), int32.

        It reads what the layer returned, not, as a `VectorQuantizer` does, the encoder's vectors too.
        """
        codes = ops.cast(codes, self._precision)
        digits = ops.cast(ops.round(codes * ops.cast(self._half, codes.dtype)), "int32")
        return ops.sum((digits + ops.cast(self._half, "int32")) * ops.cast(self._basis, "int32"), axis=-1)

    def indices_to_codes(self, indices: Any) -> Any:
        """Return the vectors with these numbers: (B, ...), int -> (B, ..., d), levels in [-1, 1]."""
        indices = ops.cast(indices, "int32")[..., None]
        basis, levels = ops.cast(self._basis, "int32"), ops.cast(self.levels, "int32")
        digits = ops.cast((indices // basis) % levels, self._precision)
        half = ops.cast(self._half, digits.dtype)
        return (digits - half) / half

    # The names that a `VectorQuantizer` gives them.
    indices, lookup = codes_to_indices, indices_to_codes

    def compute_output_shape(self, input_shape):
        """Return the shape of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds the layer."""
        return super().get_config() | {"levels": self.levels}
