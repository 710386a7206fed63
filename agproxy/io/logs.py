"""Where log lines go: standard error, one line each, time in UTC."""

import logging
import sys
import time

LEVELS = {"error": logging.ERROR, "warning": logging.WARNING, "info": logging.INFO, "debug": logging.DEBUG}


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


def set_up(level: str) -> None:
    """Log to standard error from this level on; takes the place of an earlier set-up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    # What no line shows is not looked up: the logging manual's own advice, 2 us a line.
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    root = logging.getLogger("agproxy")
    root.handlers[:] = [handler]
    root.propagate = False
    root.setLevel(LEVELS[level])
