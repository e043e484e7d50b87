"""Models from files."""

import importlib
from pathlib import Path
from typing import Any

import keras

#: Where classes of models and of their parts are defined; Keras finds those alone that have been imported.
_MODULES = (
    "adversarial", "clustering", "corruptions", "dictionaries", "divergences", "layers", "likelihoods",
    "penalized", "priors", "quantizer", "variational",
)  # fmt: skip


def load_model(path: str | Path, **kwargs: Any) -> keras.Model:
    """Read a model that ``model.save("model.keras")`` wrote, whichever of the package's it is.

    `keras.saving.load_model` does the same where the model's class has been imported already; a class or a
    likelihood of your own has to be imported for both.

    Parameters
    ----------
    path : str or path
    **kwargs
        As for `keras.saving.load_model`.

    Returns
    -------
    keras.Model
    """
    for name in _MODULES:
        importlib.import_module(f"aelib.{name}")
    return keras.saving.load_model(path, **kwargs)
