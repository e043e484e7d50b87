"""Clustering: figures that compare clusters with labels, and deep embedded clustering as one objective."""

from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix

from aelib import checks, likelihoods
from aelib.autoencoder import Autoencoder


def matched_accuracy(labels: ArrayLike, clusters: ArrayLike) -> float:
    """Share of samples that are in their class's cluster, in the best matching of clusters to classes.

    Each cluster stands for one class at most and each class for one cluster at most; the matching is that of
    the Hungarian method (Kuhn, 1955), as SciPy computes it. Numbers of clusters and classes may differ.

    Parameters
    ----------
    labels, clusters : array (n,)
        The class and the cluster of each sample, named by whole numbers or strings.

    Returns
    -------
    float
        In (0, 1].
    """
    labels, clusters = np.asarray(labels), np.asarray(clusters)
    for name, value in (("labels", labels), ("clusters", clusters)):
        if value.dtype.kind == "f":
            checks.finite(name, value, remedy="leave out the samples without one")
    if labels.ndim != 1 or labels.shape != clusters.shape or not labels.size:
        raise ValueError(
            f"labels and clusters must both have shape (n >= 1,), got {labels.shape} and {clusters.shape}"
        )
    table = contingency_matrix(labels, clusters)  # (classes, clusters)
    return float(table[linear_sum_assignment(table, maximize=True)].sum() / labels.size)


def scores(labels: ArrayLike, clusters: ArrayLike) -> dict[str, float]:
    """Compare clusters with labels: (n,), (n,) -> {"accuracy", "NMI", "ARI"}, dict of float.

    `matched_accuracy`, and scikit-learn's normalised mutual information and adjusted Rand index. The labels
    are used for measuring only. Each figure is 1 for a perfect match; two unrelated partitions have an ARI
    of 0 on average, but an accuracy and an NMI above 0.
    """
    return {
        "accuracy": matched_accuracy(labels, clusters),
        "NMI": float(normalized_mutual_info_score(labels, clusters)),
        "ARI": float(adjusted_rand_score(labels, clusters)),
    }


def soft_assignment(codes: Any, centroids: Any) -> Any:
    """Return how much each code belongs to each cluster: (n, K), (J, K) -> (n, J), each row's sum is 1.

    Student's t with one degree of freedom, q_nj ∝ 1 / (1 + ‖z_n - μ_j‖²): Xie et al. (2016), equation 1.
    """
    apart = ops.sum(ops.square(codes[:, None] - centroids[None]), axis=-1)  # (n, J)
    weight = 1 / (1 + apart)
    return weight / ops.sum(weight, axis=1, keepdims=True)


def target_distribution(assignment: Any) -> Any:
    """Sharpen a soft assignment: (n, J) -> (n, J), each row's sum is 1.

    p_nj ∝ q_nj² / Σ_n q_nj: Xie et al. (2016), equation 3. The square favours what is near already; the
    division holds large clusters back. The sum is over the rows given, so give all samples together.
    """
    weight = ops.square(assignment) / ops.sum(assignment, axis=0, keepdims=True)
    return weight / ops.sum(weight, axis=1, keepdims=True)


@keras.saving.register_keras_serializable("aelib")
class DeepEmbeddedClustering(Autoencoder):
    """An autoencoder whose codes are pulled towards centroids that move with them: Xie et al. (2016).

    The term ``clustering`` is KL(P ‖ Q), where Q is the `soft_assignment` of the codes to the centroids, and
    P, which counts as a constant, its `target_distribution`. P is the `y` of `fit`: ``fit(x, P)`` holds it
    fixed, as the paper does between two updates. Without `y` it is recomputed from each batch at each step;
    this needs no state, but the sizes of the clusters are then those of the batch, and so is the figure that
    `evaluate` gives. The reconstruction's target is always the input.

    Start from a trained encoder and decoder, and call `initialize`; it may be called again at any time.

    Parameters
    ----------
    clusters : int
        Number of centroids, at least 2.
    reconstruction : float
        Weight of the reconstruction, at least 0, beside the divergence's 1. With 0 there is no such term:
        this model then neither trains nor regularises the variables of `decoder` and of the likelihood, and
        runs the decoder in inference mode, but leaves the objects themselves as trainable as they were.
        Keeping the reconstruction is the improved variant, IDEC (Guo et al., 2017); note that here it is
        summed over the features.

    Attributes
    ----------
    centroids : variable (J, K)

    Examples
    --------
    >>> import numpy as np
    >>> from aelib import blocks
    >>> from aelib.clustering import DeepEmbeddedClustering
    >>> nets = blocks.dense_encoder(20, 2), blocks.dense_decoder(20, 2)
    >>> model = DeepEmbeddedClustering(*nets, clusters=3)
    >>> model.assign(np.zeros((5, 20), "float32")).shape
    (5, 3)
    """

    def __init__(
        self,
        encoder: keras.layers.Layer,
        decoder: keras.layers.Layer,
        *,
        clusters: int,
        reconstruction: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(encoder, decoder, **kwargs)
        self.clusters = checks.whole_number("clusters", clusters, least=2)
        self.reconstruction = checks.number("reconstruction", reconstruction, least=0)
        shape = (self.clusters, encoder.output_shape[-1])
        start = keras.initializers.RandomNormal(stddev=1.0)
        self.centroids = self.add_weight(shape=shape, initializer=start, name="centroids")

    def call(self, x, training=None):
        """Return {"code": (B, code), "reconstruction": (B, ...), raw}."""
        code = self.encoder(self.visible(x, training=training), training=training)
        decoding = training if self.reconstruction else False
        return {"code": code, "reconstruction": self.decoder(code, training=decoding)}

    def _is_reached(self, variable: Any) -> bool:
        """Return whether the objective depends on a variable; what is the encoder's too always counts."""
        if self.reconstruction:
            return True
        aside = {id(v) for part in (self.decoder, self.likelihood) for v in part.variables}
        return id(variable) not in aside - {id(v) for v in self.encoder.variables}

    # Keras trains what these list, on every backend; `decoder.trainable` would freeze the caller's object.
    @property
    def trainable_variables(self) -> list[Any]:
        """What `fit` trains."""
        return [variable for variable in super().trainable_variables if self._is_reached(variable)]

    @property
    def non_trainable_variables(self) -> list[Any]:
        """All other variables, in the order of `variables`."""
        trained = {id(variable) for variable in self.trainable_variables}
        return [variable for variable in self.variables if id(variable) not in trained]

    @property
    def trainable_weights(self) -> list[Any]:
        """What `fit` trains."""
        return [weight for weight in super().trainable_weights if self._is_reached(weight)]

    @property
    def non_trainable_weights(self) -> list[Any]:
        """All other weights, in the order of `weights`."""
        trained = {id(weight) for weight in self.trainable_weights}
        return [weight for weight in self.weights if id(weight) not in trained]

    def initialize(self, x: Any, *, n_init: int = 10, seed: int | None = 0) -> np.ndarray:
        """Put the centroids at the k-means centres of the codes of `x`; return its clusters, int (n,)."""
        n_init, seed = checks.whole_number("n_init", n_init), checks.seed("seed", seed)
        kmeans = KMeans(self.clusters, n_init=n_init, random_state=seed).fit(self.encode(x))
        self.centroids.assign(kmeans.cluster_centers_)
        return kmeans.labels_

    def assign(self, x: Any, *, batch_size: int = 512) -> np.ndarray:
        """Return the soft assignment of `x`: (n, ...) -> ndarray (n, J); ``argmax(1)`` is the cluster."""
        codes = checks.parts(self.encode(x, batch_size=batch_size), rows=2**14)
        return np.concatenate(
            [ops.convert_to_numpy(soft_assignment(ops.convert_to_tensor(c), self.centroids)) for c in codes]
        )

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Return the loss as every autoencoder does; without `y`, the target P is the batch's own."""
        if y is None:
            code = ops.cast(y_pred["code"], self.centroids.dtype)
            y = ops.stop_gradient(target_distribution(soft_assignment(code, self.centroids)))
        return super().compute_loss(x, y, y_pred, sample_weight, training)

    def terms(self, target, out):
        """Return ``clustering``, from the target P, and ``reconstruction`` of the input, times its weight."""
        assignment = soft_assignment(out["code"], self.centroids)  # (B, J)
        if tuple(target.shape[1:]) != (self.clusters,):
            raise ValueError(f"the target P must have shape (n, {self.clusters}), got {tuple(target.shape)}")
        # A share that underflows to 0 adds 0.
        logs = ops.log(ops.maximum(target, keras.config.epsilon() ** 2)) - ops.log(assignment)
        terms = {"clustering": ops.sum(target * logs, axis=-1)}
        if self.reconstruction:
            whole = super().terms(out["input"], out)["reconstruction"]
            terms["reconstruction"] = self.reconstruction * whole
        return terms

    def _zero_target(self, out: dict[str, Any]) -> Any:
        return ops.full((out["code"].shape[0], self.clusters), 1 / self.clusters)

    def _check_target(self, target: Any, name: str, x: Any) -> None:
        """Refuse a `y` that is no distribution P; without one, the target is the input."""
        if not name.startswith("the target"):
            super()._check_target(target, name, x)
        elif target.shape[1:] != (self.clusters,):
            raise ValueError(f"{name}, P, must have shape (n, {self.clusters}), got {target.shape}")
        else:
            likelihoods.get("categorical").check(target, name=f"{name}, P,")

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` needs."""
        own = {"clusters": self.clusters, "reconstruction": self.reconstruction}
        return super().get_config() | own
