import re
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "book" / "_ext"))
formulas = pytest.importorskip("formulas")


def text(tex):
    return re.sub(r"<[^>]*>", "", formulas.mathml(tex))


@pytest.mark.parametrize(
    ("tex", "letters"),
    [
        (r"\mathbf{xA0}", "𝐱𝐀𝟎"),
        (r"\boldsymbol\mu", "𝝁"),
        (r"\textbf{a}", "𝐚"),
        (r"\mathbb{ER}", "𝔼ℝ"),
        (r"\mathcal{LB}", "ℒℬ"),
        (r"\mathrm{x}", "x"),
        (r"\bar x", "x‾"),
    ],
)
def test_letters_are_those_of_unicode(tex, letters):
    assert text(tex) == letters


@pytest.mark.parametrize(
    ("tex", "spaces"),
    [
        (r"\log p", 1),
        (r"\log(p)", 0),
        (r"2\log p", 2),
        (r"a\log(p)", 1),
        (r"=\log p", 1),
        (r"\log\sum_k k", 1),
    ],
)
def test_a_function_stands_off_what_it_is_applied_to(tex, spaces):
    assert formulas.mathml(tex).count("0.1667em") == spaces


def test_nothing_of_the_source_stays():
    out = formulas.mathml(r"\frac{1}{N}", display=True)
    assert "frac{" not in out
    assert "annotation" not in out
    assert out.startswith('<math display="block"')


def test_what_katex_does_not_understand_is_a_warning(monkeypatch):
    said = []
    monkeypatch.setattr(formulas.logger, "warning", lambda *args, **_: said.append(args[1]))
    formulas.mathml("x^2")
    assert not said
    for wrong in (r"\nosuchthing", "½", r"\frac{1"):
        formulas.mathml(wrong)
    assert len(said) == 3
