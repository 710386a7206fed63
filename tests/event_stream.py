"""Event streams read twice: by our parser, and by a reading of the standard's text that shares nothing with it."""

import re

from agproxy import sse
from agproxy.sse import Event


def read(pieces, **limits):
    decoder = sse.Decoder(**limits)
    events = [event for piece in pieces for event in decoder.feed(piece)]
    return events + decoder.finish(), decoder.stray


def reference(data: bytes) -> tuple[list[Event], str]:
    """Section 9.2.6 of the HTML standard, for a whole text, and the two places where we differ from it."""
    text = data.decode().removeprefix("\ufeff")
    lines = re.split("\r\n|\r|\n", text)
    events, stray, name, buffer = [], [], "", []
    for line in [*lines, ""]:  # the last blank line is ours: an event that was cut short counts
        if line == "":
            if buffer:
                events.append(Event(name or "message", "\n".join(buffer)))
            name, buffer = "", []
            continue
        if line.startswith(":"):
            continue
        field, value = line.split(":", 1) if ":" in line else (line, "")
        value = value[1:] if value.startswith(" ") else value
        if field == "data":
            buffer.append(value)
        elif field == "event":
            name = value
        elif field not in ("id", "retry"):
            stray.append(line)  # ours too: the standard skips it
    return events, "\n".join(stray)
