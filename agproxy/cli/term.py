"""What commands write: tables, progress, and text that comes from elsewhere. Colours are `colour`'s matter."""

import io
import os
import sys
import unicodedata
from collections.abc import Sequence
from typing import TextIO

from .colour import DIM, paint

Cell = tuple[str, str]
"""Text and its style, which may be empty."""


def never_fail(*streams: TextIO) -> None:
    """Write characters that a stream's encoding lacks as escapes: a label must not end a command."""
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def plain(text: str) -> str:
    """Text from elsewhere on one line, its control characters escaped: a terminal obeys them."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in " ".join(text.split()))


class Progress:
    """A line on standard error that tells how far a command is; only where that is a terminal, and gone at the end."""

    def __init__(self, total: int, what: str) -> None:
        self._total, self._what = total, what
        self._done = 0
        self._width = 0
        self._is_shown = sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    def __enter__(self) -> "Progress":
        self.tell()
        return self

    def __exit__(self, *exception: object) -> None:
        self._write("")

    def step(self) -> None:
        """One more is done."""
        self._done += 1
        self.tell()

    def tell(self, doing: str = "") -> None:
        """What goes on now."""
        self._write(f"{self._done} of {self._total} {self._what}{': ' if doing else ''}{doing}")

    def _write(self, text: str) -> None:
        if self._is_shown:
            # Overwritten with spaces: a terminal that knows no escape sequences shows it as well.
            print(f"\r{text:<{self._width}}", end="" if text else "\r", file=sys.stderr, flush=True)
            self._width = len(text)


def table(heads: Sequence[str], rows: Sequence[Sequence[Cell]], stream: TextIO) -> str:
    """Aligned columns under their heads, for a stream."""
    lines = [[(head, DIM) for head in heads], *rows]
    widths = [max(_width(line[column][0]) for line in lines) for column in range(len(heads))]
    return "\n".join(
        "  ".join(
            (paint(text, style, stream) if style else text) + " " * (width - _width(text))
            for (text, style), width in zip(line, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def _width(text: str) -> int:
    """Columns on a terminal: East Asian wide characters take two, combining ones none."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
