"""Reports what tests and notebooks take of the processor, and fails nothing by the clock.

What a test takes by the clock depends on what else the machine does. So the budgets count the processor's
seconds, a notebook's kernel among them, and only report; the Makefile's time-outs are guards against hanging.
"""

import resource
from collections import Counter

import pytest

#: Seconds of processor in the quick profile, for one notebook and for the mean of them.
BUDGET, MEAN_BUDGET = 45, 20
seconds = Counter()
_counted = 0.0


def cpu_seconds():
    """Return what this process has used, and those that it has started and seen the end of."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def pytest_itemcollected(item):
    """Let a busy machine take its time to hand over the output of a cell; nbval allows 5 seconds."""
    if hasattr(item, "output_timeout"):
        item.output_timeout = 300


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Note what has been used since the last test; a notebook's kernel ends with its last cell."""
    global _counted
    report = yield
    if call.when == "teardown":
        used = cpu_seconds()
        report.user_properties.append(("cpu_seconds", used - _counted))
        _counted = used
    return report


def pytest_runtest_logreport(report):
    """Add up by file, in the process that hears of all tests."""
    used = dict(report.user_properties).get("cpu_seconds", 0.0)
    seconds[report.nodeid.partition("::")[0]] += used


def pytest_terminal_summary(terminalreporter):
    """Print what each file took; the first of a worker bears the imports."""
    notebooks = [used for path, used in seconds.items() if path.endswith(".ipynb")]
    terminalreporter.section("processor seconds")
    for path, used in seconds.most_common(None if notebooks else 10):
        over = path.endswith(".ipynb") and used > BUDGET
        terminalreporter.write_line(f"{used:5.0f}  {path}" + f", over its budget of {BUDGET}" * over)
    terminalreporter.write_line(f"{seconds.total():5.0f}  all")
    if notebooks:
        mean = sum(notebooks) / len(notebooks)
        terminalreporter.write_line(f"{mean:5.0f}  mean of a notebook; its budget is {MEAN_BUDGET}")
