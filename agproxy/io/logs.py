"""Where log lines go: standard error, one line each, time in UTC.

A traceback follows its line. What an exception says is told only where it speaks of the program: a ValueError or a
KeyError of Python's own quotes what it stumbled over, which may be a key or a prompt.
"""

import logging
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType

from .. import jsontext
from ..errors import ConfigError, GatewayError

LEVELS = {"error": logging.ERROR, "warning": logging.WARNING, "info": logging.INFO, "debug": logging.DEBUG}
ACCESS = "agproxy.access"


# They speak of names and types, or their messages are written here.
_SPEAKING = (AttributeError, TypeError, NameError, ImportError, OSError, GatewayError, ConfigError)

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


def _said(error: BaseException) -> str:
    name = type(error).__name__
    return f"{name}: {error}" if isinstance(error, _SPEAKING) else f"{name} (what it says is not logged)"


class _Lines(logging.Formatter):
    """One line a record. The standard formatter costs twice as much, most of it for the time."""

    _second = 0
    _stamp = ""

    def _at(self, moment: float) -> str:
        second = int(moment)
        if second != self._second:
            self._second = second
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return self._stamp

    def access(self, line: str) -> str:
        """A line of the access log, as `format` would have it."""
        return f"{self._at(time.time())}Z INFO {ACCESS}: {line}\n"

    def formatMessage(self, record: logging.LogRecord) -> str:
        # Of asyncio's the first line: the rest is the repr of a task with what its exception says.
        message = record.message if record.name != "asyncio" else record.message.partition("\n")[0]
        return f"{self._at(record.created)}Z {record.levelname} {record.name}: {message}"

    def formatException(self, ei: _ExcInfo) -> str:
        error, lines = ei[1], []
        while error is not None:
            frames = "".join(traceback.format_list(traceback.extract_tb(error.__traceback__)))
            lines.append(f"Traceback (most recent call last):\n{frames}{_said(error)}")
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        return "\nafter:\n".join(lines)

    def usesTime(self) -> bool:
        return False


class _JsonLines(_Lines):
    """One JSON object a record: time, level, logger, and its message, or the fields of what has ended."""

    def access(self, line: str) -> str:
        told = line[1:] if line.startswith("{") else jsontext.dumps({"message": line}).decode()[1:]
        return f'{{"time":"{self._at(time.time())}Z","level":"info","logger":"{ACCESS}",{told}\n'

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)  # with the traceback, if there is one
        head, _, rest = text.partition(": ")
        stamp, level, name = head.split(" ")
        begin = f'{{"time":"{stamp}","level":"{level.lower()}","logger":"{name}",'
        if record.name == ACCESS and rest.startswith("{"):
            return begin + rest[1:]
        return begin + jsontext.dumps({"message": rest}).decode()[1:]


_lines = _Lines()


def write_access(line: str) -> None:
    """A line of the access log, without the way through `logging`, which costs 4 us a line instead of 1.5."""
    with suppress(OSError):  # whoever read standard error has gone, or its disk is full: no reason to fail a request
        if sys.stderr is not None:
            sys.stderr.write(_lines.access(line))


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
    """Log to standard error from this level on, as text or json; takes the place of an earlier set-up. Where there is
    no standard error (pythonw, a closed descriptor) nothing is logged."""
    global _lines
    _lines = _JsonLines() if form == "json" else _Lines()
    handler: logging.Handler = logging.NullHandler() if sys.stderr is None else logging.StreamHandler(sys.stderr)
    handler.setFormatter(_lines)
    # What no line shows is not looked up: the logging manual's own advice, 2 us a line.
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    root = logging.getLogger("agproxy")
    root.handlers[:] = [handler]
    root.propagate = False
    root.setLevel(LEVELS[level])
    logging.getLogger("asyncio").handlers[:] = [handler]  # what it says of tasks that failed
