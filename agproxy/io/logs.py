"""Where log lines go: standard error, one line each, time in UTC."""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from .. import jsontext

LEVELS = {"error": logging.ERROR, "warning": logging.WARNING, "info": logging.INFO, "debug": logging.DEBUG}
ACCESS = "agproxy.access"


class _Lines(logging.Formatter):
    """One line a record. The standard formatter costs twice as much, most of it for the time."""

    _second = 0
    _stamp = ""

    def formatMessage(self, record: logging.LogRecord) -> str:
        second = int(record.created)
        if second != self._second:
            self._second = second
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._stamp}Z {record.levelname} {record.name}: {record.message}"

    def usesTime(self) -> bool:
        return False


class _JsonLines(_Lines):
    """One JSON object a record: time, level, logger, and its message, or the fields of what has ended."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)  # with the traceback, if there is one
        head, _, rest = text.partition(": ")
        stamp, level, name = head.split(" ")
        begin = f'{{"time":"{stamp}","level":"{level.lower()}","logger":"{name}",'
        if record.name == ACCESS and rest.startswith("{"):
            return begin + rest[1:]
        return begin + jsontext.dumps({"message": rest}).decode()[1:]


@contextmanager
def silent() -> Iterator[None]:
    """Within the block nothing is logged: for commands that say themselves what there is to say."""
    root = logging.getLogger("agproxy")
    before = root.handlers[:], root.propagate
    root.handlers[:], root.propagate = [logging.NullHandler()], False
    try:
        yield
    finally:
        root.handlers[:], root.propagate = before


def set_up(level: str, form: str = "text") -> None:
    """Log to standard error from this level on, as text or json; takes the place of an earlier set-up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines() if form == "json" else _Lines())
    # What no line shows is not looked up: the logging manual's own advice, 2 us a line.
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    root = logging.getLogger("agproxy")
    root.handlers[:] = [handler]
    root.propagate = False
    root.setLevel(LEVELS[level])
