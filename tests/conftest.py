"""Every test starts from the same seed, draws on no screen, leaves no figure open, and may take its time."""

import hypothesis
import keras
import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest

mpl.use("Agg")
# Both of Hypothesis's limits go by the clock.
hypothesis.settings.register_profile(
    "patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("patient")


@pytest.fixture(autouse=True)
def _same_start():
    keras.utils.set_random_seed(0)
    yield
    plt.close("all")
