"""The ledger: every figure and every claim of a chapter, written down where tests can read it."""

from __future__ import annotations

import base64
import io
import json
import math
import operator
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from aelib import data, files
from aelib.book import profile as profiles

if TYPE_CHECKING:
    import keras

#: What a headline may be about: the guide sorts by these.
TASKS = (
    "reconstruct",
    "compress",
    "denoise",
    "fill in",
    "generate",
    "find anomalies",
    "cluster",
    "search",
    "represent",
    "translate",
    "explain",
)

_RELATIONS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq}


class ClaimError(AssertionError):
    """A claim of the book that its own figures do not bear out."""


def find_book(start: str | Path | None = None) -> Path | None:
    """Return the folder with ``_toc.yml`` at or above `start` (default: here), or None."""
    start = Path(start or Path.cwd()).resolve()
    return next((p for p in (start, *start.parents) if (p / "_toc.yml").is_file()), None)


def device() -> str:
    """Describe what this process computes on, in words: the accelerator, or the processor and its cores."""
    import keras

    backend = f"Keras {keras.__version__} on {keras.backend.backend()}"
    gpus = _gpus(keras.backend.backend())
    where = f"{gpus} GPU" if gpus else f"{os.cpu_count()} CPU cores, {platform.machine()}"
    return f"{where}; {backend}"


def _gpus(backend: str) -> int:
    if backend == "torch":
        import torch

        return torch.cuda.device_count()
    if backend == "jax":
        import jax

        return sum(device.platform == "gpu" for device in jax.devices())
    import keras

    return len(keras.distribution.list_devices("gpu"))


def glue(name: str, value: Any) -> None:
    """Store a figure or a number in the running notebook under `name`, so that the text can show it.

    Written as a display that shows nothing, in the form that myst-nb's glue reads; outside a notebook it does
    nothing. `value` is a Matplotlib figure, kept as a PNG, or anything else, kept as its `repr`.
    """
    ipython = sys.modules.get("IPython")  # in every notebook; but a reader need not have it
    if ipython is None or ipython.get_ipython() is None:
        return
    if hasattr(value, "savefig"):
        buffer = io.BytesIO()
        value.savefig(buffer, format="png")
        mime, content = "image/png", base64.b64encode(buffer.getvalue()).decode()
    else:
        mime, content = "text/plain", repr(value)
    prefix = "application/papermill.record/"
    metadata = {"scrapbook": {"name": name, "mime_prefix": prefix}}
    ipython.display.display({prefix + mime: content}, metadata=metadata, raw=True)


def _number(name: str, value: Any) -> float:
    """Turn a scalar of any array library into a float, and refuse what JSON or a reader could not use."""
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name!r} must be a number, got {value!r}") from error
    if not math.isfinite(number):
        raise ValueError(f"{name!r} must be finite, got {number!r}")
    return number


class Ledger:
    """The figures and claims of one chapter.

    Parameters
    ----------
    chapter : str
        Path of the chapter without its ending, as in ``"types/basic"``.

    Examples
    --------
    >>> ledger = Ledger("types/basic")
    >>> ledger.record("test BCE", 0.284, unit="nats per pixel", reference=0.282, source="the usual tutorial")
    0.284
    """

    def __init__(self, chapter: str) -> None:
        part, _, name = chapter.partition("/")
        if not (part and name) or not all(p.replace("_", "").isalnum() for p in (part, name)):
            raise ValueError(f"chapter must look like 'types/basic', got {chapter!r}")
        self.chapter = chapter
        self.records = []
        self.claims = []
        self.choices = []
        self.headlines = []

    def record(
        self, name: str, value: Any, *, unit: str = "", reference: float | None = None, source: str = ""
    ) -> float:
        """Write down one figure, with the figure to hold it against, glue it, and return it as a float.

        Raises
        ------
        ValueError
            If the value is not finite, the name is taken, or a reference has no source.
        """
        if any(r["name"] == name for r in self.records):
            raise ValueError(f"{self.chapter} has recorded {name!r} already")
        if reference is not None:
            reference = _number(f"reference of {name}", reference)
            if not source:
                raise ValueError(f"the reference {reference} of {name!r} needs a source")
        value = _number(name, value)
        glue(name, value)
        self.records.append(
            {"name": name, "value": value, "unit": unit, "reference": reference, "source": source}
        )
        return value

    def value(self, name: str) -> float:
        """Return the figure recorded as `name`."""
        for record in self.records:
            if record["name"] == name:
                return record["value"]
        raise KeyError(f"{self.chapter} has no record {name!r}; it has {[r['name'] for r in self.records]}")

    def claim(
        self,
        text: str,
        left: Any,
        relation: Literal["<", "<=", ">", ">=", "=="],
        right: Any,
        *,
        goal: bool = False,
        reason: str = "",
    ) -> bool:
        """State that `left` `relation` `right`, and return whether it holds.

        A claim that fails stops a full run. With ``goal=True`` it is an open goal: it is stored with the
        `reason` why it was missed, and the run goes on. The quick profile's nets are hardly trained, so
        there a claim is only evaluated.

        Raises
        ------
        ClaimError
            If the claim is false in the full profile and not a goal.
        """
        if relation not in _RELATIONS:
            raise ValueError(f"relation must be one of {', '.join(_RELATIONS)}; got {relation!r}")
        if goal and not reason:
            raise ValueError(f"the goal {text!r} needs a reason, for the case that it is missed")
        left, right = _number(text, left), _number(text, right)
        holds = bool(_RELATIONS[relation](left, right))
        if not holds and not goal and profiles.profile.full:
            raise ClaimError(f"{self.chapter}: {text}: {left:.6g} {relation} {right:.6g} does not hold")
        entry = {"text": text, "left": left, "relation": relation, "right": right, "holds": holds}
        self.claims.append(entry | ({"reason": reason} if goal and not holds else {}))
        return holds

    def choose(
        self,
        name: str,
        grid: Sequence[Any],
        scores: Sequence[float],
        *,
        lower_is_better: bool = True,
        bounds: Sequence[Any] = (),
    ) -> Any:
        """Pick the setting with the best score on validation data, and store every try.

        Parameters
        ----------
        name : str
            What is chosen, as in "learning rate".
        grid : sequence
            Settings in their order along one axis; at least three.
        scores : sequence of float
            One for each.
        lower_is_better : bool
        bounds : sequence
            Settings beyond which there are none, so that one may be the best: a share of 1, say.

        Raises
        ------
        ClaimError
            In the full profile, if the best setting lies on an edge of the grid: widen it.
        """
        grid, scores = list(grid), [_number(f"the score of {name}", score) for score in scores]
        if len(grid) != len(scores) or len(grid) < 3:
            raise ValueError(
                f"{name}: the grid needs three settings or more, and a score for each; got {len(grid)} "
                f"settings and {len(scores)} scores"
            )
        best = (min if lower_is_better else max)(range(len(grid)), key=scores.__getitem__)
        chosen = grid[best]
        if best in (0, len(grid) - 1) and chosen not in list(bounds) and profiles.profile.full:
            raise ClaimError(
                f"{self.chapter}: the best {name}, {chosen!r}, lies on the edge of the grid {grid}: widen "
                "it, or name it in bounds= where there is nothing beyond"
            )
        pairs = zip(map(str, grid), scores, strict=True)
        tries = [{"setting": setting, "score": score} for setting, score in pairs]
        self.choices.append({"name": name, "best": str(chosen), "tries": tries})
        return chosen

    def headline(
        self,
        *,
        task: str,
        data: str,
        measure: str,
        best: tuple[str, float],
        baseline: tuple[str, float],
        lower_is_better: bool,
        seeds: int,
        seconds: float,
        published: tuple[str, float] | None = None,
    ) -> None:
        """Name the chapter's result on a task: what the guide, the front page and the results show.

        Parameters
        ----------
        task : str
            One of `TASKS`.
        data, measure : str
        best, baseline : tuple of (str, float)
            The autoencoder's and the strongest rival's name and figure.
        lower_is_better : bool
        seeds : int
        seconds : float
            Of training, for one seed.
        published : tuple of (str, float), optional
            A figure from the literature, with its citation.
        """
        if task not in TASKS:
            raise ValueError(f"task must be one of {', '.join(map(repr, TASKS))}; got {task!r}")
        rows = {"best": best, "baseline": baseline} | ({"published": published} if published else {})
        rows = {kind: {"name": name, "value": _number(name, value)} for kind, (name, value) in rows.items()}
        entry = {"task": task, "data": data, "measure": measure, "lower_is_better": bool(lower_is_better)}
        self.headlines.append(entry | rows | {"seeds": int(seeds), "seconds": _number("seconds", seconds)})

    def keep(self, name: str, model: keras.Model) -> Path | None:
        """Save a trained model below the book's ``_build/models``, for others to download; return its path.

        Saves nothing and returns None where `save` does not.
        """
        root = find_book()
        if root is None or not profiles.profile.full:
            return None
        path = root / "_build" / "models" / self.chapter / f"{name}.keras"
        path.parent.mkdir(parents=True, exist_ok=True)
        model.save(path)
        return path

    def as_dict(self) -> dict[str, Any]:
        """Return the ledger in the form that is stored."""
        more = {"choices": self.choices, "headlines": self.headlines}
        return {
            "chapter": self.chapter,
            "profile": profiles.profile.name,
            "device": device(),
            "data": data.loaded(),
            "records": self.records,
            "claims": self.claims,
        } | {name: entries for name, entries in more.items() if entries}

    def save(self) -> Path | None:
        """Write ``book/results/<chapter>.json`` and return its path.

        Writes nothing and returns None in the quick profile, and where no ``_toc.yml`` is at or above the
        working folder. The file appears whole or not at all.
        """
        root = find_book()
        if root is None or not profiles.profile.full:
            return None
        path = root / "book" / "results" / f"{self.chapter}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_atomically(path, json.dumps(self.as_dict(), indent=1, ensure_ascii=False) + "\n")
        return path


def read(root: str | Path) -> dict[str, dict[str, Any]]:
    """Return every stored ledger below the book at `root`, as {chapter: ledger}, in order of name."""
    ledgers = [json.loads(p.read_text("utf-8")) for p in Path(root, "book", "results").rglob("*.json")]
    return {ledger["chapter"]: ledger for ledger in sorted(ledgers, key=lambda entry: entry["chapter"])}
