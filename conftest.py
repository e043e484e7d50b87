"""Holds every notebook to its time in the quick profile: 45 seconds, its cells' durations added up.

On a machine that is busy with other things a notebook takes longer through no fault of its own, so the run
fails only where one takes two thirds more; what passes its budget is named in any case.
"""

from collections import Counter

import pytest

BUDGET = 45.0
LIMIT = 75.0
seconds = Counter()


def pytest_runtest_logreport(report):
    """Add up the durations of a notebook's cells, on the process that hears of them all."""
    path = report.nodeid.partition("::")[0]
    if path.endswith(".ipynb"):
        seconds[path] += report.duration


def pytest_terminal_summary(terminalreporter):
    """Print what each notebook took."""
    for path, total in seconds.most_common():
        terminalreporter.write_line(f"{path}: {total:.0f} s" + (" is too long" if total > BUDGET else ""))


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session, exitstatus):
    """Fail a run in which a notebook took too long."""
    if exitstatus == 0 and any(total > LIMIT for total in seconds.values()):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
