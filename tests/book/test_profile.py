import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest

from aelib.book.profile import Profile


def test_full_keeps_everything():
    profile = Profile()
    x = np.arange(2000)
    assert profile.full
    assert profile.epochs(30) == 30
    assert profile.pick("all", "few") == "all"
    np.testing.assert_array_equal(profile.take(x), x)


def test_quick_takes_a_fixed_part():
    profile = Profile("quick")
    x = np.arange(2000)
    assert not profile.full
    assert [profile.epochs(n) for n in (30, 2, 1)] == [2, 2, 1]
    assert profile.pick("all", "few") == "few"
    np.testing.assert_array_equal(profile.take(x), x[:512])
    np.testing.assert_array_equal(profile.take(x, quick=3), [0, 1, 2])


def test_unknown_name_is_shown():
    with pytest.raises(ValueError, match=r"full, quick; got 'fast'"):
        Profile("fast")


@pytest.mark.parametrize("number", [-1, 2.5, True])
def test_what_is_no_number_of_epochs_or_rows_is_shown(number):
    with pytest.raises(ValueError, match=f"epochs must be a whole number >= 0, got {number}"):
        Profile().epochs(number)
    with pytest.raises(ValueError, match=f"quick must be a whole number >= 1, got {number}"):
        Profile("quick").take(np.arange(3), quick=number)


def test_profile_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Profile().name = "quick"


@pytest.mark.parametrize(
    ("value", "name"), [(None, "full"), ("", "full"), ("full", "full"), ("quick", "quick")]
)
def test_environment_chooses(value, name):
    environment = {k: v for k, v in os.environ.items() if k != "AELIB_PROFILE"}
    environment |= {} if value is None else {"AELIB_PROFILE": value}
    code = "import aelib; print(aelib.profile.name)"
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == name
