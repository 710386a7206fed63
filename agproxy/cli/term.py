"""What commands write on a terminal: colours where they are wanted, tables, text that comes from elsewhere."""

import io
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from typing import TextIO

_CODES = {"red": "31", "green": "32", "yellow": "33", "bold": "1", "dim": "2"}

Cell = tuple[str, str]
"""Text and the name of its colour, or an empty name."""


def has_colours(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether a stream is a terminal that shows colours, and nobody objects (NO_COLOR, see no-color.org)."""
    if environ.get("NO_COLOR") or environ.get("TERM") == "dumb" or not stream.isatty():
        return False
    return sys.platform != "win32" or "WT_SESSION" in environ  # the old console shows the codes as they are


def never_fail(*streams: TextIO) -> None:
    """Write characters that a stream's encoding lacks as escapes: a label must not end a command."""
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def plain(text: str) -> str:
    """Text from elsewhere on one line, its control characters escaped: a terminal obeys them."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in " ".join(text.split()))


def table(heads: Sequence[str], rows: Sequence[Sequence[Cell]], *, colours: bool) -> str:
    """Aligned columns under their heads; the last one is not padded."""
    lines = [[(head, "dim") for head in heads], *rows]
    widths = [max(_width(line[column][0]) for line in lines) for column in range(len(heads))]
    return "\n".join(
        "  ".join(
            _paint(cell, colours) + " " * (width - _width(cell[0])) for cell, width in zip(line, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def _paint(cell: Cell, colours: bool) -> str:
    text, colour = cell
    return f"\x1b[{_CODES[colour]}m{text}\x1b[0m" if colours and colour else text


def _width(text: str) -> int:
    """Columns on a terminal: East Asian wide characters take two, combining ones none."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )
