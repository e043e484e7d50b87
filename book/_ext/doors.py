"""The doors of the book: what a page shows of other chapters, read from what they stored while the book is built.

````
{measured}`types/basic :: test BCE, PCA-32 :: .4f`     a figure of a chapter's ledger, or of a benchmark's result
{tally}`claims`                                       how many chapters, figures or claims there are, hold, were missed

```{verdicts}                                         the headlines of all chapters, by task
```
```{path}                                             the chapters in their order, with the time that they take
```
```{problems}                                         a table: problem | chapter | task | words until it has a headline
A few photographs | foundations/training | reconstruct |
```
```{borrowed} foundations/first_autoencoder live-draw  a figure that another chapter stores
```
````

Nothing of it can go stale: a page that uses one of these is read anew in every build.
"""

import json
import math
from pathlib import Path

import yaml
from docutils import nodes
from docutils.statemachine import StringList
from pattern import reading_minutes
from sphinx.util.docutils import SphinxDirective, SphinxRole

from aelib.book import ledger

#: Where the book treats a task, whether or not one of these chapters has a headline.
CHAPTERS = {
    "reconstruct": ["foundations/bottleneck", "types/basic", "types/deep"],
    "compress": ["applications/compression"],
    "denoise": ["types/denoising", "applications/denoising_and_transformation"],
    "fill in": ["types/masked"],
    "generate": ["types/variational", "types/prior_matching", "applications/generation"],
    "find anomalies": [
        "applications/anomaly_detection",
        "applications/time_series_anomalies",
    ],
    "cluster": ["applications/clustering"],
    "search": ["applications/retrieval", "applications/text"],
    "represent": [
        "applications/feature_extraction",
        "types/contractive",
        "applications/sentences",
    ],
    "translate": [
        "applications/colorization",
        "applications/denoising_and_transformation",
        "applications/sentences",
    ],
    "explain": ["types/dictionary_learning", "types/sparse"],
}
#: Figures that differ by less are called alike: a share of the rival's, and standard deviations over seeds.
ALIKE, SPREADS = 0.01, 3


def spread(headline, stored):
    """Return the standard deviation that a ledger records beside a headline's best figure, or None."""
    figures = {record["name"]: record["value"] for record in stored["records"]}
    best = headline["best"]["value"]
    scales = (1, 100) if headline["measure"].startswith("%") else (1,)
    for name, value in figures.items():
        for scale in scales:
            if math.isclose(scale * value, best, rel_tol=1e-12):
                for sd in (f"{name}, sd", f"sd {name}", f"sd of {name}"):
                    if sd in figures:
                        return scale * figures[sd]
    return None


def comparison(headline, sd=None):
    """Return who wins a headline ("net", "rival", or "" where they are alike), and the figures in words."""
    best, rival = headline["best"]["value"], headline["baseline"]["value"]
    lower, measure = headline["lower_is_better"], headline["measure"]
    ahead = rival - best if lower else best - rival
    figures = f"{best:.4g}, {headline['baseline']['name']} {rival:.4g}"
    if abs(ahead) < ALIKE * abs(rival):
        return "", f"less than {100 * ALIKE:.0f} % apart: {figures}"
    if sd and abs(ahead) < SPREADS * sd:
        return "", f"less than {SPREADS} standard deviations over seeds apart: {figures}"
    winner = "net" if ahead > 0 else "rival"
    if measure.startswith("%"):
        points = f"{ahead:+.1f}".replace("-", "−")
        return winner, f"{points} points: {figures}"
    # A share says nothing where the scale has no zero, as decibels and cross-entropies have none.
    if lower and not any(word in measure for word in ("entropy", "nats", "dB", "bits")):
        more = "less" if ahead > 0 else "more"
        return winner, f"{100 * abs(ahead / rival):.0f} % {more}: {figures}"
    return winner, f"{abs(ahead):.3g} {'better' if ahead > 0 else 'worse'}: {figures}"


def use(headline, sd=None):
    """Return what to use, by a headline."""
    winner, _ = comparison(headline, sd)
    rival = headline["baseline"]["name"]
    return {
        "net": headline["best"]["name"],
        "rival": f"**use the rival: {rival}**",
        "": f"either; the rival, {rival}, is simpler",
    }[winner]


def _row(*cells):
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def _links(chapters):
    return ", ".join(f"{{doc}}`/{chapter}`" for chapter in chapters)


def rows(ledgers):
    """Return the headlines by task, data and measure, the best of each first: {key: [(chapter, headline)]}."""
    found = {}
    for task in ledger.TASKS:
        for chapter, stored in ledgers.items():
            for headline in stored.get("headlines", ()):
                if headline["task"] == task:
                    key = task, headline["data"], headline["measure"]
                    found.setdefault(key, []).append((chapter, headline))
    for entries in found.values():
        sign = 1 if entries[0][1]["lower_is_better"] else -1
        entries.sort(key=lambda entry: sign * entry[1]["best"]["value"])
    return found


def verdicts(ledgers):
    """Return a table of all headlines, by task, and the tasks that have none yet; lines of Markdown.

    Where chapters share task, data and measure, the best of their figures is shown.
    """
    lines = [
        _row("task", "data and measure", "what to use", "gain over the strongest rival", "seconds", "chapter"),
        "|---|---|---|---|--:|---|",
    ]  # fmt: skip
    seen = set()
    for (task, data, measure), entries in rows(ledgers).items():
        chapter, headline = entries[0]
        others = [other for other, _ in entries[1:]]
        sd = spread(headline, ledgers[chapter])
        _, gain = comparison(headline, sd)
        better = "" if headline["lower_is_better"] else " (higher is better)"
        lines.append(
            _row(
                "" if task in seen else f"**{task}**",
                f"{data}: {measure}{better}",
                use(headline, sd),
                gain,
                f"{max(1, headline['seconds']):.0f}",
                _links([chapter]) + (f"; also {_links(others)}" if others else ""),
            )
        )
        seen.add(task)
    missing = [task for task in ledger.TASKS if task not in seen]
    if missing:
        listed = "; ".join(f"*{task}* ({_links(CHAPTERS[task])})" for task in missing)
        lines += ["", f"No chapter has a headline yet on these tasks: {listed}."]
    return lines


def hours(minutes):
    """Return a time in words."""
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def running_minutes(notebook):
    """Return how long a chapter's full run takes by its stamp, or 0."""
    stamp = notebook["metadata"].get("aelib", {})
    seconds = stamp.get("seconds", 0)
    return min(seconds, stamp.get("cpu_seconds", seconds)) / 60


def path(parts):
    """Return a table of the first part's chapters, and of the other parts; lines of Markdown.

    `parts` are {caption: {chapter: (minutes to read, minutes to run)}}.
    """
    lines = [_row("chapter", "reading", "running"), "|---|--:|--:|"]
    all_read = all_ran = 0
    for i, (caption, chapters) in enumerate(parts.items()):
        for chapter, (read, ran) in chapters.items() if i == 0 else ():
            lines.append(_row(_links([chapter]), hours(read), hours(ran)))
        read, ran = (sum(column) for column in zip(*chapters.values(), strict=True))
        all_read, all_ran = all_read + read, all_ran + ran
        what = f"**{caption}**, {len(chapters)} chapter{'s' * (len(chapters) > 1)}"
        lines.append(_row(what, f"**{hours(read)}**", f"**{hours(ran)}**"))
    return [*lines, _row("**All**", f"**{hours(all_read)}**", f"**{hours(all_ran)}**")]


def problems(text, ledgers, minutes):
    """Return the table of problems; lines of Markdown.

    `text` has one row a line: problem | chapter | task | words, which are shown as long as the chapter has no
    headline on the task. `minutes` are those that it takes to read the chapters.
    """
    lines = [_row("your problem", "chapter", "what the net gains", "to read")]
    lines.append("|---|---|---|--:|")
    for line in text:
        problem, chapter, task, words = (cell.strip() for cell in line.split("|"))
        if chapter not in ledgers or task not in ledger.TASKS:
            raise ValueError(
                f"there is no ledger of {chapter!r}, or no task {task!r}: {line}"
            )
        said = []
        for headline in ledgers[chapter].get("headlines", ()):
            if headline["task"] == task:
                winner, gain = comparison(headline, spread(headline, ledgers[chapter]))
                verdict = {
                    "rival": "**Nothing: use the rival.** ",
                    "": "**Nothing.** ",
                }
                where = f"{headline['data']}: {headline['measure']}"
                said.append(f"{verdict.get(winner, '')}{gain} ({where})")
        gains = "; ".join(said) or words or "no headline yet"
        lines.append(_row(problem, _links([chapter]), gains, f"{minutes[chapter]} min"))
    return lines


def stored_figure(notebook, kind):
    """Return the HTML of the first figure of a kind that a notebook stores, or None."""
    for cell in notebook["cells"]:
        for output in cell.get("outputs", ()):
            page = "".join(output.get("data", {}).get("text/html", ""))
            if f'data-kind="{kind}"' in page:
                return page
    return None


def tally(ledgers):
    """Return what can be counted: {name: number}."""
    claims = [claim for stored in ledgers.values() for claim in stored["claims"]]
    held = sum(claim["holds"] for claim in claims)
    return {
        "chapters": len(ledgers),
        "figures": sum(len(stored["records"]) for stored in ledgers.values()),
        "claims": len(claims),
        "held": held,
        "missed": len(claims) - held,
    }


def value(root, ledgers, chapter, name):
    """Return a chapter's record, or an entry, a/b/0, of a file in `benchmarks/results`."""
    if chapter.startswith("benchmarks/"):
        file = root / "benchmarks" / "results" / f"{chapter.partition('/')[2]}.json"
        entry = json.loads(file.read_text("utf-8"))
        for key in name.split("/"):
            entry = entry[int(key) if isinstance(entry, list) else key]
        return entry
    return next(r["value"] for r in ledgers[chapter]["records"] if r["name"] == name)


class _Door:
    """What a directive and a role need to know of the book."""

    @property
    def root(self):
        return Path(self.env.srcdir).parent

    @property
    def ledgers(self):
        self.env.note_reread()
        return ledger.read(self.root)

    def notebook(self, chapter):
        file = Path(self.env.srcdir, f"{chapter}.ipynb")
        return json.loads(file.read_text("utf-8"))

    def parts(self):
        """Return {caption: chapters that are notebooks}."""
        toc = yaml.safe_load((self.root / "_toc.yml").read_text("utf-8"))
        parts = {
            part["caption"]: [
                entry["file"]
                for entry in part["chapters"]
                if Path(self.env.srcdir, f"{entry['file']}.ipynb").is_file()
            ]
            for part in toc["parts"]
        }
        return {caption: chapters for caption, chapters in parts.items() if chapters}


class Table(_Door, SphinxDirective):
    """A table that is written as Markdown and parsed in place."""

    def lines(self):
        raise NotImplementedError

    def run(self):
        box = nodes.container(classes=["door", f"door-{self.name}"])
        self.set_source_info(box)
        try:
            lines = self.lines()
        except (ValueError, KeyError) as error:
            raise self.error(f"{self.name}: {error}") from error
        self.state.nested_parse(
            StringList(lines, source=self.name), self.content_offset, box
        )
        return [box]


class Verdicts(Table):
    """What the chapters' headlines say, by task."""

    def lines(self):
        order = [chapter for part in self.parts().values() for chapter in part]
        ledgers = self.ledgers
        return verdicts({name: ledgers[name] for name in order if name in ledgers})


class ReadingPath(Table):
    """The chapters in their order, with their times."""

    def lines(self):
        self.env.note_reread()
        parts = {}
        for caption, chapters in self.parts().items():
            books = {chapter: self.notebook(chapter) for chapter in chapters}
            parts[caption] = {
                chapter: (reading_minutes(book["cells"]), running_minutes(book))
                for chapter, book in books.items()
            }
        return path(parts)


class Problems(Table):
    """Problems, and the chapters that answer them."""

    has_content = True

    def lines(self):
        ledgers = self.ledgers
        minutes = {
            chapter: reading_minutes(self.notebook(chapter)["cells"])
            for part in self.parts().values()
            for chapter in part
        }
        return problems(self.content, ledgers, minutes)


class Borrowed(_Door, SphinxDirective):
    """A figure that another chapter stores; light.py moves its data into a file that both pages share."""

    required_arguments = 2

    def run(self):
        self.env.note_reread()
        chapter, kind = self.arguments
        page = stored_figure(self.notebook(chapter), kind)
        if page is None:
            raise self.error(f"{chapter} stores no figure of the kind {kind!r}")
        return [nodes.raw("", page, format="html")]


class Measured(_Door, SphinxRole):
    """A figure: chapter :: record :: format."""

    def run(self):
        try:
            chapter, name, form = (part.strip() for part in self.text.split(" :: "))
            number = value(self.root, self.ledgers, chapter, name)
            return [nodes.Text(format(number, form).replace("-", "−"))], []
        except (ValueError, LookupError, StopIteration, OSError):
            message = self.inliner.reporter.warning(
                f"there is no figure {self.text!r}", line=self.lineno
            )
            return [nodes.Text("?")], [message]


class Tally(_Door, SphinxRole):
    """A count."""

    def run(self):
        counts = tally(self.ledgers)
        if self.text not in counts:
            message = self.inliner.reporter.warning(
                f"{self.text!r} is not counted; {', '.join(counts)} are",
                line=self.lineno,
            )
            return [nodes.Text("?")], [message]
        return [nodes.Text(f"{counts[self.text]:,}")], []


def setup(app):
    """Register the directives and the roles."""
    app.add_directive("verdicts", Verdicts)
    app.add_directive("path", ReadingPath)
    app.add_directive("problems", Problems)
    app.add_directive("borrowed", Borrowed)
    app.add_role("measured", Measured())
    app.add_role("tally", Tally())
    return {"parallel_read_safe": True, "parallel_write_safe": True}
