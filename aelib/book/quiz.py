"""Questions with answers that are checked in the page; without scripts and in print they are text."""

import hashlib
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_lowercase

from aelib import checks

_EMPHASIS = ((r"\*\*", "strong"), (r"\*", "em"))


@dataclass(frozen=True)
class Question:
    """A question with one right answer.

    Texts may hold `code` between backquotes, *emphasis* between single stars and **strong emphasis** between
    double ones; all else is shown as it is written.

    Attributes
    ----------
    text : str
    options : sequence of str
        At least two, all different.
    answer : int
        The position of the right one, from 0.
    why : str
        Why it is right, and best also why the others are wrong.
    """

    text: str
    options: Sequence[str]
    answer: int
    why: str

    def __post_init__(self):
        for name in ("text", "why"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value.strip():
                raise ValueError(f"{name} must say something, got {value!r}")
        if isinstance(self.options, str):
            raise ValueError(f"options must be a sequence of texts, got {self.options!r}")
        object.__setattr__(self, "options", tuple(self.options))
        if not all(isinstance(option, str) and option.strip() for option in self.options):
            raise ValueError(f"options must each say something, got {self.options!r}")
        alike = {" ".join(option.split()).casefold() for option in self.options}
        if len(self.options) < 2 or len(alike) < len(self.options):
            raise ValueError(f"options must be at least two, all different, got {self.options!r}")
        object.__setattr__(self, "answer", checks.whole_number("answer", self.answer, least=0))
        if self.answer >= len(self.options):
            raise ValueError(
                f"answer must be a position among {len(self.options)} options, from 0, got {self.answer}"
            )


@dataclass(frozen=True)
class Quiz:
    """Questions, which a notebook stores as HTML."""

    questions: tuple

    def __repr__(self):
        return f"<{len(self.questions)} questions>"

    def _repr_html_(self):
        # Buttons of one group share a name; those of another quiz on the page must not.
        key = hashlib.sha256(repr(self.questions).encode()).hexdigest()[:8]
        asked = "".join(_asked(q, i, f"ae-quiz-{key}-{i}") for i, q in enumerate(self.questions))
        return f'<section class="ae-quiz" aria-label="questions">{asked}</section>'


def quiz(questions: Sequence[Question]) -> Quiz:
    """Build questions that the reader answers in the page.

    Parameters
    ----------
    questions : sequence of Question

    Returns
    -------
    Quiz
        With the HTML of a form whose script, in `book/_static/interactive.js`, checks the answers and counts
        the right ones.

    Examples
    --------
    >>> from aelib.book.quiz import Question, quiz
    >>> quiz([Question("What is 1 + 1?", ["1", "2"], answer=1, why="One more than 1 is 2.")])
    <1 questions>
    """
    questions = tuple(questions)
    if not questions or not all(isinstance(question, Question) for question in questions):
        raise ValueError(f"questions must be one Question or more, got {questions!r}")
    if len({question.text for question in questions}) < len(questions):
        raise ValueError("questions must all be different")
    return Quiz(questions)


def _marked(text):
    """Escape a text but for its code and emphasis."""
    parts = re.split(r"(`[^`]+`)", text.strip())
    for i, part in enumerate(parts):
        part = html.escape(part, quote=False)
        if i % 2:
            parts[i] = f"<code>{part[1:-1]}</code>"
            continue
        for mark, tag in _EMPHASIS:
            part = re.sub(rf"{mark}(?!\s)([^*]+?)(?<!\s){mark}", rf"<{tag}>\1</{tag}>", part)
        parts[i] = part
    return "".join(parts)


def _asked(question, number, name):
    options = "".join(
        f'<label><input type="radio" name="{name}" value="{i}"> '
        f"<span>({ascii_lowercase[i]}) {_marked(option)}</span></label>"
        for i, option in enumerate(question.options)
    )
    right = f"({ascii_lowercase[question.answer]}) {_marked(question.options[question.answer])}"
    return (
        f'<fieldset data-answer="{question.answer}"><legend>{number + 1}. {_marked(question.text)}</legend>'
        f"{options}<details open><summary>Answer to question {number + 1}</summary>"
        f"<p><strong>{right}</strong></p><p>{_marked(question.why)}</p></details></fieldset>"
    )
