"""Markers: what a prompt may ask the simulator to do, written as [[sim:NAME]] or [[sim:NAME=VALUE]].

One table holds them all; the package docstring prints it and a test holds the two together. The value of a marker
ends at the first "]]", so JSON in it writes "] ]" for two closing brackets in a row.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from .status import Refused

_WRITTEN = re.compile(r"\[\[sim:\s*([a-z0-9-]+)\s*(?:=(.*?))?\]\]", re.DOTALL)

# name -> what it does. `N`, `SECONDS`, `TEXT` stand for the value; square brackets mean that it may be left out.
MARKERS: dict[str, str] = {
    "400": "400 INVALID_ARGUMENT",
    "400-location": "400 FAILED_PRECONDITION, as for a country where the API is not offered",
    "400-too-long": "400 INVALID_ARGUMENT, as for a prompt over the model's limit",
    "401": "401 UNAUTHENTICATED, as for an expired access token",
    "403": "403 PERMISSION_DENIED, as for an API that is switched off",
    "404": "404 NOT_FOUND, as for a model that is gone",
    "429[=SECONDS]": "429 RESOURCE_EXHAUSTED per minute, with RetryInfo (34.074824224 s unless given)",
    "429-daily": "429 RESOURCE_EXHAUSTED for the day's quota",
    "429-zero": "429 for a quota of 0: the model is not in this tier",
    "429-capacity": "429 without details, as Vertex AI sends it when its shared capacity is used up",
    "500": "500 INTERNAL",
    "503": "503 UNAVAILABLE",
    "504": "504 DEADLINE_EXCEEDED",
    "html": "502 with a page in HTML, as Google's front end sends it",
    "fail-first=N[,STATUS]": "the first N requests with this prompt fail with 503 (or STATUS)",
    "slow=SECONDS": "wait before the first byte",
    "pause=SECONDS": "wait in the middle of the stream",
    "delay=SECONDS": "wait between two words of the stream",
    "cut": "break the connection in the middle of the answer",
    "error-mid-stream[=STATUS]": "a bare JSON error (499 unless given) in the middle of the stream",
    "garbage": "something that is not JSON in the middle of the answer",
    "no-finish": "the answer ends without a finishReason",
    "blocked[=REASON]": "the prompt is blocked: promptFeedback (SAFETY unless given), no candidates",
    "safety": "the answer stops half way with finishReason SAFETY",
    "recitation": "the answer stops half way with finishReason RECITATION and a citation",
    "finish=REASON": "the answer stops half way with this finishReason, known or not",
    "empty": "STOP without any part",
    "malformed-call": "MALFORMED_FUNCTION_CALL without content",
    "max-tokens": "the answer stops half way with finishReason MAX_TOKENS",
    "call=NAME [ARGS]": "call this function, declared or not; ARGS is a JSON object",
    "calls=N": "N parallel calls",
    "steps=N": "N steps of calls, one after another, before the answer in text",
    "preface=TEXT": "text before the calls",
    "think=N": "think N words",
    "words=N": "an answer of N words: w1 w2 w3 ...",
    "echo": "the answer is the user's text without its markers",
    "say=TEXT": "the answer is TEXT",
    "cached=N": "report N tokens of the prompt as cached",
    "replay=NAME": "answer with the recorded file of this name from the replay folder",
}
_NAMES = {re.split(r"[\[=]", written)[0]: written for written in MARKERS}

_MOST_SECONDS = 3600.0
_MOST_COUNT = 1_000_000


@dataclass(frozen=True, slots=True)
class Markers:
    """The markers of one prompt, by name; the last of several of one name counts."""

    values: dict[str, str]

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def text(self, name: str) -> str | None:
        """The value given to a marker, "" if it has none; None if it is absent."""
        return self.values.get(name)

    def seconds(self, name: str) -> float | None:
        """Seconds given to a marker, at most an hour; None if it is absent or has no value."""
        written = self.values.get(name)
        if not written:
            return None
        try:
            return min(max(float(written), 0.0), _MOST_SECONDS)
        except ValueError:
            raise _bad_value(name, written, "a number of seconds") from None

    def count(self, name: str) -> int | None:
        """The number given to a marker, at most a million; None if it is absent."""
        written = self.values.get(name)
        if not written:
            return None
        if not written.isascii() or not written.isdigit() or len(written) > 7:
            raise _bad_value(name, written, "a whole number of at most seven digits")
        return min(int(written), _MOST_COUNT)


def _bad_value(name: str, written: str, wanted: str) -> Refused:
    return Refused(400, f"Simulator: [[sim:{name}={written[:40]}]] needs {wanted}.")


def find(texts: Iterable[str]) -> Markers:
    """The markers in the user's texts. Raises Refused for a name that is not in the table: a typo should be seen."""
    values: dict[str, str] = {}
    for text in texts:
        if "[[sim:" not in text:
            continue
        for name, value in _WRITTEN.findall(text):
            if name not in _NAMES:
                raise Refused(400, f"Simulator: unknown marker [[sim:{name}]]. Known: {', '.join(sorted(_NAMES))}.")
            if not value and "=" in _NAMES[name].split("[")[0]:
                raise Refused(400, f"Simulator: [[sim:{name}]] needs a value: [[sim:{_NAMES[name]}]].")
            values[name] = value.strip() if name not in ("say", "preface") else value
    return Markers(values)


def strip(text: str) -> str:
    """The text without its markers and without the space that they leave at the ends."""
    return _WRITTEN.sub("", text).strip() if "[[sim:" in text else text
