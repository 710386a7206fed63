"""What a check of `agproxy doctor` brings."""

import enum
from dataclasses import dataclass


class State(enum.Enum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One check. found: what is so; advice: what to do about it, "" where nothing has to be done. No secrets in
    either."""

    name: str
    state: State
    found: str
    advice: str = ""


def ok(name: str, found: str) -> Finding:
    return Finding(name=name, state=State.OK, found=found)


def warn(name: str, found: str, advice: str) -> Finding:
    return Finding(name=name, state=State.WARN, found=found, advice=advice)


def fail(name: str, found: str, advice: str) -> Finding:
    return Finding(name=name, state=State.FAIL, found=found, advice=advice)


def skipped(name: str, found: str, advice: str = "") -> Finding:
    return Finding(name=name, state=State.SKIPPED, found=found, advice=advice)
