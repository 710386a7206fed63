"""W3C Trace Context: the trace that a client's request belongs to, and how upstream is told of it. Pure.

A gateway is a span of its own: what goes on upstream has the client's trace id, its flags and its `tracestate`, and
this span's id as the parent (W3C Trace Context, level 1; of the flags also level 2's "random").
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from .http11 import Headers

_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_KNOWN_FLAGS = 0x03  # sampled, random: what a vendor does not know it passes on as 0
_MOST_STATE_CHARACTERS = 512  # that many have to be passed on


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """id: 32 hex digits. span: 16 hex digits, this gateway's own. headers: for the calls upstream."""

    id: str
    span: str
    headers: Headers


def read(headers: Headers, new_span: Callable[[], str]) -> Trace | None:
    """The trace of a request; None where it names none, or not by the rules, as these ask for."""
    for name, _ in headers:
        if name == "traceparent":
            break
    else:
        return None
    (parent, *more) = (value for name, value in headers if name == "traceparent")
    match = _PARENT.fullmatch(parent.strip())
    if match is None or more:
        return None
    version, trace, span, flags, rest = match.groups()
    if version == "ff" or (version == "00" and rest) or trace == "0" * 32 or span == "0" * 16:
        return None
    mine = new_span()
    told = [("traceparent", f"00-{trace}-{mine}-{int(flags, 16) & _KNOWN_FLAGS:02x}")]
    state = ",".join(value.strip() for name, value in headers if name == "tracestate" and value.strip())
    if state and len(state) <= _MOST_STATE_CHARACTERS and state.isascii() and state.isprintable():
        told.append(("tracestate", state))
    return Trace(id=trace, span=mine, headers=tuple(told))
