"""What commands write: tables, and text that comes from elsewhere. Colours are `colour`'s matter."""

import io
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
