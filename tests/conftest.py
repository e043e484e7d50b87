"""Every test starts from the same seed, draws on no screen and leaves no figure open."""

import keras
import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest

mpl.use("Agg")


@pytest.fixture(autouse=True)
def _same_start():
    keras.utils.set_random_seed(0)
    yield
    plt.close("all")
