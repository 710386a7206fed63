"""Colours on a terminal, and only there. Follows no-color.org: NO_COLOR with any text in it switches them off."""

import os
import sys
from typing import TextIO

BOLD, RED, YELLOW, DIM = "1", "31", "33", "2"


def has_colour(stream: TextIO | None) -> bool:
    """Whether what reads this stream shows colours. None: there is no such stream (pythonw, a closed descriptor)."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or stream is None or not stream.isatty():
        return False
    # The old Windows console prints the codes as they are; these come with the terminals that do not.
    return sys.platform != "win32" or bool({"WT_SESSION", "ANSICON", "TERM"} & os.environ.keys())


def paint(text: str, style: str, stream: TextIO | None = None) -> str:
    """The text in a style, or as it is where the stream (standard output) has no colours."""
    return f"\x1b[{style}m{text}\x1b[0m" if text and has_colour(stream or sys.stdout) else text


def complain(message: str) -> None:
    """One line on standard error: what a command cannot do."""
    print(f"{paint('agproxy:', RED, sys.stderr)} {message}", file=sys.stderr)


def warn(message: str) -> None:
    """One line on standard error: what a command did all the same."""
    print(f"{paint('agproxy: warning:', YELLOW, sys.stderr)} {message}", file=sys.stderr)
