"""What a decoder's raw output says about the data: likelihoods as objects, to be passed, saved and loaded.

A likelihood of one's own is a class that says what its targets may be, and defines two methods::

    @keras.saving.register_keras_serializable("mine")
    class Exponential(Likelihood):
        support = "non-negative"

        def feature_nll(self, target, raw):  # raw: the logarithm of the rate
            return ops.exp(raw) * target - raw

        def mean(self, raw):
            return ops.exp(-raw)

Training, `elbo`, `aelib.bounds`, `aelib.anomaly` and `decode` all ask the likelihood and nobody else.
"""

from aelib.likelihoods.base import RANGES, Likelihood
from aelib.likelihoods.composed import Masked, Mixed
from aelib.likelihoods.features import (
    Bernoulli,
    Categorical,
    Gaussian,
    Laplace,
    NegativeBinomial,
    Poisson,
    get,
)

__all__ = [
    "RANGES",
    "Bernoulli",
    "Categorical",
    "Gaussian",
    "Laplace",
    "Likelihood",
    "Masked",
    "Mixed",
    "NegativeBinomial",
    "Poisson",
    "get",
]
