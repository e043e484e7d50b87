"""How large a run is: the whole of the data, or a taste of it."""

from dataclasses import dataclass
from typing import Any

from aelib import checks, data

NAMES = ("full", "quick")


@dataclass(frozen=True)
class Profile:
    """The size of a run, in one place.

    Parameters
    ----------
    name : {"full", "quick"}
        ``full`` is what the book prints: the real data and every epoch. ``quick`` is what the
        tests run: no network, small subsets, one or two epochs.

    Raises
    ------
    ValueError
        If `name` is not a known profile.
    """

    name: str = "full"

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise ValueError(f"AELIB_PROFILE must be one of {', '.join(NAMES)}; got {self.name!r}")

    @property
    def full(self) -> bool:
        """Whether this is the full profile."""
        return self.name == "full"

    def pick(self, full: Any, quick: Any) -> Any:
        """Return `full` in the full profile and `quick` in the quick one."""
        return full if self.full else quick

    def epochs(self, full: int) -> int:
        """Return `full` epochs, or at most 2 in the quick profile."""
        full = checks.whole_number("epochs", full, least=0)
        return self.pick(full, min(full, 2))

    def take(self, x: Any, quick: int = 512) -> Any:
        """Return all of the array `x`, or its first `quick` rows in the quick profile."""
        return self.pick(x, x[: checks.whole_number("quick", quick)])


#: The profile of this process, read once from the environment variable ``AELIB_PROFILE``.
profile = Profile(data.profile_name())
