"""The one table of types, likelihoods, policies and dtypes: what every test of the contract goes through.

It knows no backend, so that it serves TensorFlow, JAX and PyTorch alike.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import keras
import numpy as np
from keras import ops

from aelib import (
    AdversarialAutoencoder,
    Autoencoder,
    ContractiveAutoencoder,
    ImportanceWeightedAutoencoder,
    SparseAutoencoder,
    SparseDictionary,
    VariationalAutoencoder,
    WassersteinAutoencoder,
    blocks,
    layers,
    likelihoods,
    priors,
)
from aelib.clustering import DeepEmbeddedClustering

SHAPE, CODE, N, BATCH = (6, 5, 1), 3, 10, 4
X = np.random.default_rng(0).random((N, *SHAPE), dtype="float32")
X[8:] = 0.01  # the short last batch is unlike the others, so that its weight shows

# The few steps of most tests are over before TensorFlow has built a graph; JAX is slow without one.
EAGERLY = keras.backend.backend() != "jax"
POLICIES = ("float32", "mixed_float16", "mixed_bfloat16")
DTYPES = ("uint8", "bool", "float32", "float64")


@keras.saving.register_keras_serializable("stranger")
class Exponential(likelihoods.Likelihood):
    """Somebody else's likelihood: exponential times, the raw output the logarithm of their rate."""

    support = "non-negative"

    def feature_nll(self, target, raw):
        return ops.exp(raw) * target - raw

    def mean(self, raw):
        return ops.exp(-raw)


def dense(kind=Autoencoder, activation="relu", **options):
    encoder = blocks.dense_encoder(SHAPE, CODE, hidden=(7,), activation=activation)
    return kind(encoder, blocks.dense_decoder(SHAPE, CODE, hidden=(7,)), **options)


def convolutional(**options):
    encoder = blocks.conv_encoder(SHAPE, CODE, filters=(2,))
    return Autoencoder(encoder, blocks.conv_decoder(SHAPE, CODE, filters=(2,)), **options)


def regularised(**options):
    code = keras.layers.Dense(CODE, kernel_regularizer=keras.regularizers.L2(0.1), name="code")
    encoder = keras.Sequential([keras.Input(SHAPE), keras.layers.Flatten(), code])
    return Autoencoder(encoder, blocks.dense_decoder(SHAPE, CODE, hidden=(7,)), **options)


def overcomplete(k, per="sample", **options):
    encoder = blocks.dense_encoder(SHAPE, CODE, hidden=(7,))
    encoder = keras.Sequential([keras.Input(SHAPE), *encoder.layers, layers.KSparse(k, per=per)])
    return Autoencoder(encoder, blocks.dense_decoder(SHAPE, CODE, hidden=(7,)), **options)


def tied(**options):
    encoder = blocks.dense_encoder(SHAPE, CODE, hidden=())
    up = layers.TiedDense(encoder.layers[-1])
    decoder = keras.Sequential([keras.Input((CODE,)), up, keras.layers.Reshape(SHAPE)])
    return Autoencoder(encoder, decoder, **options)


def variational(kind=VariationalAutoencoder, **options):
    encoder = blocks.dense_encoder(SHAPE, 2 * CODE, hidden=(7,))
    return kind(encoder, blocks.dense_decoder(SHAPE, CODE, hidden=(7,)), **options)


def quantised(quantizer=None, **options):
    encoder = blocks.dense_encoder(SHAPE, CODE, hidden=(7,))
    quantizer = quantizer or layers.VectorQuantizer(5, seed=1)
    encoder = keras.Sequential([keras.Input(SHAPE), *encoder.layers, quantizer])
    return Autoencoder(encoder, blocks.dense_decoder(SHAPE, CODE, hidden=(7,)), **options)


def sequential(**options):
    """Rows as steps, their pixels as features."""
    encoder = blocks.recurrent_encoder(SHAPE[:2], CODE, units=(4,), cell="gru")
    decoder = blocks.recurrent_decoder(SHAPE[:2], CODE, units=(4,), cell="gru")
    flat = keras.Sequential([keras.Input(SHAPE), keras.layers.Reshape(SHAPE[:2]), *encoder.layers])
    images = keras.Sequential([keras.Input((CODE,)), *decoder.layers, keras.layers.Reshape(SHAPE)])
    return Autoencoder(flat, images, **options)


def sigmoid_code(kind, *, hidden=(), **options):
    encoder = blocks.dense_encoder(SHAPE, CODE, hidden=hidden, code_activation="sigmoid")
    return kind(encoder, blocks.dense_decoder(SHAPE, CODE, hidden=(7,)), **options)


# What the terms are, written once more in NumPy: (target, raw output) -> (n, H, W, C).
NEGATIVE_LOG = {
    "bernoulli": lambda x, raw: np.logaddexp(0, raw) - x * raw,
    "gaussian": lambda x, raw: (x - raw) ** 2,
    "laplace": lambda x, raw: np.abs(x - raw),
}
MEAN = {"bernoulli": lambda raw: 1 / (1 + np.exp(-raw)), "gaussian": np.array, "laplace": np.array}


def l2_of_the_code_layer(model, code):
    return 0.1 * np.sum(np.square(ops.convert_to_numpy(model.encoder.get_layer("code").kernel)))


def rate_divergence(model, code):
    """Of every batch by itself, averaged by their sizes."""
    mean = [code[i : i + BATCH].mean(axis=0) for i in range(0, N, BATCH)]
    divergence = [np.sum(0.1 * np.log(0.1 / m) + 0.9 * np.log(0.9 / (1 - m))) for m in mean]
    return 2 * np.average(divergence, weights=[4, 4, 2])


def clustering_divergence(model, code):
    """Of every batch by itself, averaged by their sizes; P is the batch's own."""
    q = 1 / (1 + np.sum((code[:, None] - ops.convert_to_numpy(model.centroids)) ** 2, axis=2))
    q /= q.sum(axis=1, keepdims=True)
    figures = []
    for part in (q[i : i + BATCH] for i in range(0, N, BATCH)):
        p = part**2 / part.sum(axis=0)
        p /= p.sum(axis=1, keepdims=True)
        figures += list(np.sum(p * np.log(p / part), axis=1))
    return np.mean(figures)


def dictionary(kind, likelihood="gaussian", **options):
    return SparseDictionary(SHAPE, CODE, k=2, kind=kind, likelihood=likelihood, bandwidth=1, **options)


def squared_distance_from_k(model, code):
    """A tenth of it, as a share of the data's variance; of every batch by itself, averaged by their sizes."""
    apart = [(np.mean(np.sum(code[i : i + BATCH] > 0, axis=1)) / 2 - 1) ** 2 for i in range(0, N, BATCH)]
    scale = ops.convert_to_numpy(model.decoder.layers[0].scale)
    return 0.1 * 30 * scale**2 * np.average(apart, weights=[4, 4, 2])


def contraction_of_two_layers(model, code):
    """J of tanh, then linear: the product of the two kernels, with the slopes of the units between them."""
    first, last = (model.encoder.layers[i].get_weights() for i in (1, 2))
    slope = 1 - np.tanh(X.reshape(N, -1) @ first[0] + first[1]) ** 2
    jacobian = np.einsum("dh,nh,hk->nkd", first[0], slope, last[0])
    return 0.2 * np.mean(np.sum(jacobian**2, axis=(1, 2)))


def contraction_of_a_sigmoid(model, code):
    kernel = model.encoder.layers[-1].get_weights()[0]
    return 0.2 * np.mean(np.sum(((code * (1 - code))[:, None] * kernel) ** 2, axis=(1, 2)))


@dataclass(frozen=True)
class Type:
    """One row of the contract: how to build it, its likelihood, and its further terms in NumPy."""

    build: Callable  # takes likelihood=, and whatever an Autoencoder takes
    likelihood: str = "bernoulli"
    extra: dict = field(default_factory=dict)  # {term: (model, codes) -> mean over the samples}
    random: bool = False  # whether training draws more than the order of the samples
    draws: tuple = ()  # the terms of a type whose evaluation draws too


TYPES = {
    "dense": Type(dense),
    "convolutional": Type(convolutional),
    "denoising": Type(lambda **o: dense(corrupt=layers.GaussianNoise(0.5), **o), random=True),
    "gaussian": Type(lambda likelihood="gaussian": dense(likelihood=likelihood), "gaussian"),
    "laplace": Type(lambda likelihood="laplace": dense(likelihood=likelihood), "laplace"),
    "sparse": Type(
        lambda **o: dense(SparseAutoencoder, strength=0.1, **o),
        extra={"sparsity": lambda model, code: 0.1 * np.mean(np.sum(np.abs(code), axis=1))},
    ),
    "sparse by rate": Type(
        lambda **o: sigmoid_code(SparseAutoencoder, strength=2, rate=0.1, **o),
        extra={"sparsity": rate_divergence},
        random=True,  # the rate is a batch's, and the batches are drawn
    ),
    "contractive": Type(
        lambda **o: dense(ContractiveAutoencoder, "tanh", strength=0.2, **o),
        extra={"contraction": contraction_of_two_layers},
    ),
    "contractive, closed form": Type(
        lambda **o: sigmoid_code(ContractiveAutoencoder, strength=0.2, **o),
        extra={"contraction": contraction_of_a_sigmoid},
    ),
    "contractive, estimated": Type(
        lambda **o: dense(ContractiveAutoencoder, "tanh", strength=0.2, probes=2, seed=0, **o),
        random=True,
        draws=("reconstruction", "contraction"),
    ),
    "clustering": Type(
        lambda **o: dense(DeepEmbeddedClustering, clusters=4, reconstruction=1.0, **o),
        extra={"clustering": clustering_divergence},
        random=True,  # the target is a batch's, and the batches are drawn
    ),
    "k-sparse": Type(lambda **o: overcomplete(2, **o)),
    "k-sparse by batch": Type(lambda **o: overcomplete(2, "batch", **o), random=True),
    "tied": Type(tied),
    "variational": Type(variational, random=True, draws=("reconstruction", "kl")),
    "variational, warmed up": Type(
        lambda likelihood=None: variational(
            likelihood=likelihood or likelihoods.Gaussian(0.1), beta=0.5, warmup=4, free_bits=0.1
        ),
        "gaussian",
        random=True,
        draws=("reconstruction", "kl"),
    ),
    "variational, learned variance": Type(
        lambda likelihood="gaussian": variational(likelihood=likelihood),
        "gaussian",
        random=True,
        draws=("reconstruction", "kl"),
    ),
    "importance-weighted": Type(
        lambda **o: variational(ImportanceWeightedAutoencoder, samples=3, **o),
        random=True,
        draws=("bound",),
    ),
    "variational, vamp prior": Type(
        lambda **o: variational(prior=priors.VampPrior(3), **o), random=True, draws=("reconstruction", "kl")
    ),
    "adversarial": Type(
        lambda **o: dense(
            AdversarialAutoencoder, discriminator=blocks.dense_encoder(CODE, 1, hidden=(5,)), seed=0, **o
        ),
        random=True,
        draws=("reconstruction", "adversary", "discriminator"),
    ),
    "wasserstein": Type(
        lambda **o: dense(WassersteinAutoencoder, strength=5, **o),
        random=True,
        draws=("reconstruction", "mmd"),
    ),
    "quantised": Type(quantised, random=True, draws=("reconstruction", "regularization")),
    "quantised by levels": Type(lambda **o: quantised(layers.FiniteScalarQuantizer((8, 5, 5)), **o)),
    "dictionary": Type(lambda **o: dictionary("topk", **o), "gaussian", {"auxiliary": lambda *_: 0.0}),
    "dictionary by batch": Type(
        lambda **o: dictionary("batch_topk", **o), "gaussian", {"auxiliary": lambda *_: 0.0}, random=True
    ),
    "dictionary by threshold": Type(
        lambda **o: dictionary("jumprelu", auxiliary=0, strength=0.1, **o),
        "gaussian",
        {"sparsity": squared_distance_from_k},
        random=True,  # the mean number of units is a batch's, and the batches are drawn
    ),
    "sequential": Type(sequential),
    "regularised": Type(regularised, extra={"regularization": l2_of_the_code_layer}),
}

D = 6
counts = np.random.default_rng(1).integers(0, 9, (N, D))
binary = np.random.default_rng(2).integers(0, 2, (N, D))
classes = np.eye(D, dtype=int)[np.random.default_rng(3).integers(0, D, N)]
with_marks = np.where(np.random.default_rng(4).random((N, D)) < 0.3, 255, counts)
table = np.concatenate([binary[:, :2], classes[:, :D] @ np.eye(D, 3, dtype=int), counts[:, :1]], axis=1)
table[:, 2] = 1 - table[:, 3:5].sum(axis=1)  # columns 2 to 4 are one-hot

#: {name: (the likelihood, whole numbers (N, D) that it can explain, the dtypes that hold them)}.
LIKELIHOODS = {
    "bernoulli": (likelihoods.Bernoulli, binary, DTYPES),
    "gaussian": (likelihoods.Gaussian, binary, DTYPES),
    "gaussian, learned": (lambda: likelihoods.Gaussian("learned"), binary, DTYPES),
    "gaussian, predicted": (lambda: likelihoods.Gaussian("predicted"), binary, DTYPES),
    "laplace": (likelihoods.Laplace, binary, DTYPES),
    "categorical": (likelihoods.Categorical, classes, DTYPES),
    "poisson": (likelihoods.Poisson, counts, ("uint8", "int64", "float32", "float64")),
    "negative binomial": (likelihoods.NegativeBinomial, counts, ("uint8", "int64", "float32", "float64")),
    "mixed": (
        lambda: likelihoods.Mixed([(2, "bernoulli"), (3, "categorical"), (1, "negative_binomial")]),
        table,
        ("uint8", "int64", "float32", "float64"),
    ),
    "masked": (
        lambda: likelihoods.Masked("poisson", value=255, fill=0),
        with_marks,
        ("uint8", "int64", "float32", "float64"),
    ),
    "somebody's own": (Exponential, counts, ("uint8", "int64", "float32", "float64")),
}


def table_model(likelihood, kind=Autoencoder):
    """Build a small net for tables of D columns, its decoder as wide as the likelihood asks for."""
    wide = likelihood.raw_shape((None, D))[-1]
    width = 2 * CODE if issubclass(kind, VariationalAutoencoder | ImportanceWeightedAutoencoder) else CODE
    encoder, decoder = (
        blocks.dense_encoder(D, width, hidden=(4,)),
        blocks.dense_decoder(wide, CODE, hidden=()),
    )
    model = kind(encoder, decoder, likelihood=likelihood)
    for part in (encoder, decoder):  # else a rate, the exponential of what the net says, may overflow
        part.set_weights([weights / 4 for weights in part.get_weights()])
    model.compile(keras.optimizers.SGD(1e-4), run_eagerly=EAGERLY)
    return model


def compiled(build, *, seed=0, eagerly=EAGERLY, **options):
    """Build and compile; eagerly, since the few steps of most tests are over before a graph is built."""
    keras.utils.set_random_seed(seed)
    model = build()
    model.compile(keras.optimizers.Adam(0.01, beta_1=0.8), run_eagerly=eagerly, **options)
    return model


def fit(model, epochs=1, **options):
    return model.fit(X, batch_size=BATCH, epochs=epochs, verbose=0, **options).history


def evaluate(model, *data, **options):
    return model.evaluate(*(data or (X,)), batch_size=BATCH, verbose=0, return_dict=True, **options)
