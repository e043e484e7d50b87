"""`aelib.book.quiz`: the HTML and what is refused; tests/test_quiz_browser.py answers the questions."""

import doctest
import re
from html.parser import HTMLParser

import pytest

from aelib.book import quiz as quizzes
from aelib.book.quiz import Question, quiz


def one(text="What?", options=("this", "that"), answer=1, why="Because."):
    return Question(text, options, answer=answer, why=why)


def parse(made):
    tags, texts, parser = [], [], HTMLParser()
    parser.handle_starttag = lambda tag, attributes: tags.append((tag, dict(attributes)))
    parser.handle_data = texts.append
    parser.feed(made._repr_html_())
    return tags, "".join(texts)


def test_html_is_a_plain_form_with_open_answers():
    tags, text = parse(quiz([one(), one("And?", ["a", "b", "c"], 2, "So it is.")]))
    names = [tag for tag, _ in tags]
    assert names.count("fieldset") == names.count("legend") == names.count("details") == 2
    assert [a["data-answer"] for tag, a in tags if tag == "fieldset"] == ["1", "2"]
    radios = [a for tag, a in tags if tag == "input"]
    assert {a["type"] for a in radios} == {"radio"}
    assert [a["value"] for a in radios] == ["0", "1", "0", "1", "2"]
    assert len({a["name"] for a in radios}) == 2
    assert all("open" in a for tag, a in tags if tag == "details")
    assert "1. What?" in text
    assert "(c) c" in text
    assert "(b) that" in text.split("Answer to question 1")[1]
    assert text.endswith("So it is.")
    assert "script" not in names


def test_names_of_two_quizzes_differ_and_those_of_one_stay():
    names = [re.findall('name="([^"]+)"', quiz([one(text)])._repr_html_())[0] for text in ("A?", "B?", "A?")]
    assert names[0] == names[2] != names[1]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a `Dense(3)` layer", "a <code>Dense(3)</code> layer"),
        ("`a < b` & <b>c</b>", "<code>a &lt; b</code> &amp; &lt;b&gt;c&lt;/b&gt;"),
        ("*one* and **two**", "<em>one</em> and <strong>two</strong>"),
        ("`x ** 2 * y`, 2 * 3 * 4", "<code>x ** 2 * y</code>, 2 * 3 * 4"),
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("a ` alone", "a ` alone"),
    ],
)
def test_texts_are_escaped_but_for_code_and_emphasis(text, shown):
    made = quiz([one(text, [text, "other"], 0, text)])._repr_html_()
    assert made.count(shown) == 4  # the question, the option, the answer and the reason


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: one(" "), "text must say something, got ' '"),
        (lambda: one(why=""), "why must say something, got ''"),
        (lambda: one(options=["a"], answer=0), "at least two, all different, got"),
        (lambda: one(options=["a", "b", " A "]), "all different"),
        (lambda: one(options=["a", ""]), "each say something"),
        (lambda: one(options="ab"), "a sequence of texts, got 'ab'"),
        (lambda: one(answer=2), "a position among 2 options, from 0, got 2"),
        (lambda: one(answer=-1), "answer must be a whole number >= 0, got -1"),
        (lambda: one(answer=True), "answer must be a whole number"),
        (lambda: quiz([]), "one Question or more"),
        (lambda: quiz(["What?"]), "one Question or more"),
        (lambda: quiz([one(), one()]), "all be different"),
    ],
)
def test_errors_show_the_value(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_example_runs():
    assert not doctest.testmod(quizzes).failed
    assert repr(quiz([one()])) == "<1 questions>"
