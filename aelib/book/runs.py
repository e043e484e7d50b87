"""Runs of a long script, kept in a file: what is finished stays, and a second start goes on after it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aelib.files import write_atomically


class Runs:
    """Finished runs of a script; a run that is in the file is not run again.

    Parameters
    ----------
    path : str or Path
        A JSON file; it need not be there yet.
    settings : dict
        What all runs have in common. A file with others is refused, except for ``"device"``.

    Attributes
    ----------
    stored : dict
        The settings, ``"runs"``, and what else the script adds.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from aelib.book.runs import Runs
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     runs = Runs(Path(folder) / "runs.json", {"epochs": 3})
    ...     run = runs.get({"seed": 0}, lambda: {"mse": 0.5})
    {"seed": 0, "mse": 0.5}
    """

    def __init__(self, path: str | Path, settings: dict[str, Any]) -> None:
        self.path = Path(path)
        self.stored: dict[str, Any] = settings | {"runs": []}
        if self.path.is_file():
            self.stored |= json.loads(self.path.read_text("utf-8"))
        for name, value in settings.items():
            if name != "device" and self.stored[name] != value:
                raise ValueError(
                    f"{self.path} was made with {name!r} {self.stored[name]!r}, this run has {value!r}: "
                    "move the file away, or give another path"
                )

    def find(self, key: dict[str, Any]) -> dict[str, Any] | None:
        """Return the run with this key, or None."""
        runs = (run for run in self.stored["runs"] if all(run.get(k) == v for k, v in key.items()))
        return next(runs, None)

    def get(self, key: dict[str, Any], compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return the run with this key: from the file, or computed, stored and printed."""
        run = self.find(key)
        if run is None:
            run = key | compute()
            self.stored["runs"].append(run)
            self.save()
            print(json.dumps(run), flush=True)
        return run

    def save(self) -> None:
        """Write what is there."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, json.dumps(self.stored, indent=1, ensure_ascii=False) + "\n")
