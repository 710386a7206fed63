"""The report of a hunt: how many examples each test has looked at."""

import logging
import sys

import pytest


def pytest_terminal_summary(terminalreporter):
    hunting = sys.modules.get("hunting")  # absent where hypothesis is
    if hunting is not None and hunting.SECONDS:
        terminalreporter.write_sep("-", f"hunted {hunting.SECONDS:g} s a test from seed {hunting.SEED}")
        for name, count in hunting.counts.items():
            terminalreporter.write_line(f"{count:8} {name}")


@pytest.fixture(autouse=True, scope="module")
def silence():
    """What is broken a thousand times is logged a thousand times."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
