"""Vector quantisation (van den Oord et al., 2017). Import the layer from `aelib.layers`."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("aelib")
class VectorQuantizer(keras.layers.Layer):
    """Replaces every vector by the nearest one of a codebook: (B, ..., d) -> (B, ..., d).

    Gradients pass straight through to the encoder. The codebook is no weight that gradients train: each of
    its vectors follows the mean of the vectors that chose it, as a running average (van den Oord et al.,
    2017, section 3.2 and appendix A.1). A vector that hardly anything chooses is put where a random vector of
    the batch is, so that it comes back into use. The layer adds one loss, the commitment: `commitment` times
    the squared distance from the encoder's vectors to the chosen ones, summed over a sample and averaged
    over the batch.

    Parameters
    ----------
    size : int
        Number of vectors in the codebook.
    commitment : float
        Weight of the added loss, at least 0.
    decay : float
        Of the running averages, in (0, 1).
    revive : float
        A vector whose running average of uses in a batch falls below this is moved; 0 turns it off.
    seed : int, optional
        Of the moves.
    """

    def __init__(self, size, *, commitment=0.25, decay=0.99, revive=0.1, seed=None, **kwargs):
        super().__init__(**kwargs)
        if isinstance(size, bool) or not isinstance(size, int) or size < 2:
            raise ValueError(f"size must be a whole number >= 2, got {size!r}")
        if not 0 < decay < 1:
            raise ValueError(f"decay must be in (0, 1), got {decay!r}")
        for name, value in (("commitment", commitment), ("revive", revive)):
            if not value >= 0:
                raise ValueError(f"{name} must be >= 0, got {value!r}")
        self.size = size
        self.commitment = float(commitment)
        self.decay = float(decay)
        self.revive = float(revive)
        self.seed = seed
        self.draws = keras.random.SeedGenerator(seed)

    def build(self, input_shape):
        """Make the codebook and its running averages."""
        width = input_shape[-1]
        self.codebook = self.add_weight(
            shape=(self.size, width), initializer="random_normal", trainable=False, name="codebook"
        )
        self.uses = self.add_weight(shape=(self.size,), initializer="ones", trainable=False, name="uses")
        self.sums = self.add_weight(
            shape=(self.size, width), initializer="zeros", trainable=False, name="sums"
        )
        self.sums.assign(ops.copy(self.codebook))  # two variables must not share a buffer

    def indices(self, x):
        """Return which vector of the codebook is nearest to each of `x`: (B, ..., d) -> (B, ...), int32."""
        flat = ops.reshape(x, (-1, x.shape[-1]))
        # The squared distance, less |x|², which is the same for the whole codebook.
        distance = ops.sum(ops.square(self.codebook), axis=1) - 2 * ops.matmul(
            flat, ops.transpose(self.codebook)
        )
        return ops.reshape(ops.cast(ops.argmin(distance, axis=1), "int32"), ops.shape(x)[:-1])

    def lookup(self, indices):
        """Return the vectors with these numbers: (B, ...), int -> (B, ..., d)."""
        return ops.take(self.codebook, indices, axis=0)

    def call(self, x, training=None):
        """Return the chosen vectors; gradients see the identity."""
        indices = self.indices(x)
        chosen = self.lookup(indices)
        apart = ops.square(x - ops.stop_gradient(chosen))
        self.add_loss(self.commitment * ops.mean(ops.sum(ops.reshape(apart, (ops.shape(x)[0], -1)), axis=1)))
        if training:
            self._follow(ops.stop_gradient(x), indices)
        return x + ops.stop_gradient(chosen - x)

    def _follow(self, x, indices):
        flat = ops.reshape(x, (-1, x.shape[-1]))
        choice = ops.one_hot(ops.reshape(indices, (-1,)), self.size, dtype=flat.dtype)  # (n, size)
        uses = self.decay * self.uses + (1 - self.decay) * ops.sum(choice, axis=0)
        sums = self.decay * self.sums + (1 - self.decay) * ops.matmul(ops.transpose(choice), flat)
        idle = (uses < self.revive)[:, None]
        drawn = keras.random.randint((self.size,), 0, ops.shape(flat)[0], seed=self.draws)
        self.uses.assign(ops.where(idle[:, 0], ops.ones_like(uses), uses))
        self.sums.assign(ops.where(idle, ops.take(flat, drawn, axis=0), sums))
        self.codebook.assign(self.sums / self.uses[:, None])

    def compute_output_shape(self, input_shape):
        """Return the shape of the input."""
        return input_shape

    def get_config(self):
        """Return what rebuilds the layer."""
        own = ("size", "commitment", "decay", "revive", "seed")
        return super().get_config() | {name: getattr(self, name) for name in own}
