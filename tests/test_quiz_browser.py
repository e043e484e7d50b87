"""The questions of `aelib.book.quiz` in a real browser."""

import pytest
from test_browser import CHROMIUM, LOW_CONTRAST, browser, show  # noqa: F401

from aelib.book.quiz import Question, quiz

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt-get install chromium)")


def three():
    return quiz(
        [
            Question("What is `1 + 1`?", ["1", "2", "3"], answer=1, why="One more than 1."),
            Question(
                "Is a *linear* autoencoder PCA?", ["yes", "no"], answer=0, why="It spans the same space."
            ),
            Question("Which word is **long**?", ["a", "Donaudampfschiff" * 5], answer=1, why="Count."),
        ]
    )


def test_answers_are_checked_and_counted(show):  # noqa: F811
    page = show(three())
    score, reasons = page.get_by_role("status"), page.locator("details")
    assert score.inner_text() == ""
    assert not any(reasons.nth(i).evaluate("e => e.open") for i in range(3))
    page.get_by_role("button", name="check answer 1").click()
    assert score.inner_text() == "Question 1: choose an answer first."
    page.get_by_role("radio", name="(b) 2").check()
    page.get_by_role("button", name="check answer 1").click()
    assert score.inner_text() == "Question 1: right. 1 of 3 right."
    assert reasons.nth(0).evaluate("e => e.open")
    assert page.get_by_text("One more than 1.").is_visible()
    page.get_by_role("radio", name="(b) no").check()
    page.get_by_role("button", name="check answer 2").click()
    assert score.inner_text() == "Question 2: not right. 1 of 3 right."
    assert page.locator("fieldset").nth(1).get_attribute("class") == "ae-wrong"
    page.get_by_role("radio", name="(a) yes").check()
    assert page.locator(".ae-verdict").nth(1).inner_text() == ""
    page.get_by_role("button", name="check answer 2").click()
    assert score.inner_text() == "Question 2: right. 2 of 3 right."


def test_by_keyboard(show):  # noqa: F811
    page = show(three())
    page.get_by_role("radio", name="(a) 1").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.get_by_role("status").inner_text() == "Question 1: right. 1 of 3 right."


def test_two_quizzes_do_not_meddle(show):  # noqa: F811
    other = quiz([Question("Another?", ["x", "y"], answer=0, why="So.")])
    page = show(three(), other)
    page.get_by_role("radio", name="(a) 1").check()
    page.get_by_role("radio", name="(a) x").check()
    assert page.get_by_role("radio", name="(a) 1").is_checked()


def test_without_scripts_and_in_print_the_answers_are_text(show):  # noqa: F811
    page = show(three(), java_script_enabled=False)
    assert page.get_by_text("One more than 1.").is_visible()
    assert page.locator("button").count() == 0
    page = show(three())
    assert not page.get_by_text("One more than 1.").is_visible()
    page.emulate_media(media="print")
    assert not page.locator("button").first.is_visible()
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.get_by_text("One more than 1.").is_visible()
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert not page.locator("details").first.evaluate("e => e.open")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_fits_and_reads(show, theme, width):  # noqa: F811
    page = show(three(), theme=theme, width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    fits = "[...document.querySelectorAll('.cell_output')].every((e) => e.scrollWidth <= e.clientWidth)"
    assert page.evaluate(fits)
    low = page.evaluate(LOW_CONTRAST.replace(".ae-live *", ".ae-quiz *"))
    assert [one for one in low if not str(one).startswith("saw only")] == []
    for control in page.locator("label, button, summary").all():
        assert control.bounding_box()["height"] >= 44
    assert page.get_by_role("group").first.is_visible()
