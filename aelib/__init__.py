"""Autoencoders, composed from small tested parts, and the measurements to judge them by."""

import lazy_loader

__version__ = "0.2.0.dev0"

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=[
        "adversarial",
        "anomaly",
        "autodiff",
        "blocks",
        "book",
        "bounds",
        "checks",
        "clustering",
        "compression",
        "convmatrix",
        "data",
        "dictionaries",
        "divergences",
        "estimators",
        "interactive",
        "layers",
        "likelihoods",
        "metrics",
        "objectives",
        "plots",
        "priors",
        "profiles",
        "results",
        "retrieval",
        "steps",
        "training",
    ],
    submod_attrs={
        "adversarial": ["AdversarialAutoencoder"],
        "autoencoder": ["Autoencoder"],
        "data": ["Dataset", "load"],
        "book.profile": ["profile"],
        "dictionaries": ["SparseDictionary"],
        "saved": ["load_model"],
        "penalized": ["ContractiveAutoencoder", "SparseAutoencoder"],
        "variational": [
            "ConditionalVariationalAutoencoder",
            "ImportanceWeightedAutoencoder",
            "VariationalAutoencoder",
            "WassersteinAutoencoder",
        ],
    },
)
