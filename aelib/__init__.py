"""Autoencoders, composed from small tested parts, and the measurements to judge them by."""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=[
        "anomaly",
        "autodiff",
        "blocks",
        "bounds",
        "clustering",
        "compression",
        "convmatrix",
        "data",
        "estimators",
        "interactive",
        "layers",
        "metrics",
        "objectives",
        "plots",
        "profiles",
        "results",
        "retrieval",
        "steps",
    ],
    submod_attrs={
        "autoencoder": ["Autoencoder", "ContractiveAutoencoder", "SparseAutoencoder"],
        "data": ["Dataset", "load"],
        "profiles": ["profile"],
        "variational": [
            "ImportanceWeightedAutoencoder",
            "VariationalAutoencoder",
            "WassersteinAutoencoder",
        ],
    },
)
