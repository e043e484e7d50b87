"""Every test starts from the same seed, draws on no screen, leaves no figure open, and may take its time."""

import random
import sys

import hypothesis
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

mpl.use("Agg")
# Both of Hypothesis's limits go by the clock.
hypothesis.settings.register_profile(
    "patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("patient")


@pytest.fixture(autouse=True)
def _same_start():
    random.seed(0)
    np.random.seed(0)
    if "keras" in sys.modules:  # what needs no net shall not wait for a backend
        sys.modules["keras"].utils.set_random_seed(0)
    yield
    plt.close("all")
