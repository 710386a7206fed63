"""What is known of one request when it has ended: a value, its line in a log, and its row in a store. Pure.

Counts, names and times, and messages of errors and notices, which quote the client's wrong values and upstream's words;
nothing else of what was asked or answered. `ledger` makes entries, one a request; the access log, the journal and
whatever counts are handed each of them.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import field, replace
from fnmatch import translate
from functools import lru_cache
from operator import attrgetter, itemgetter
from typing import Any

from . import jsontext
from .http11 import header_safe
from .recording import Recording
from .values import value_class

# The client left, or the gateway stopped, before the answer had ended; nginx's word for the former.
CUT_SHORT = 499
# Requests to the gateway itself: who looks on at the others would see himself.
OWN_PROTOCOLS = frozenset({"gateway", "admin"})
_TOGETHER = 64

Step = dict[str, Any]
"""What was decided on the way: {"at": Unix seconds, "model", "event": "picked" | "waits" | "nobody" | "failed" |
"answered", and of an event's own "account", "status", "why", "message", "wait_seconds", "in_line", "skipped"}."""


@value_class(frozen=True, slots=True, kw_only=True)
class Entry:
    """One request that has ended, however it did.

    id: as in x-request-id. at: Unix seconds of its begin. client: name of the client's key, None where it brought
    none. protocol: the frontend's name, or "gateway" for the gateway's own routes, "" where no route was found.
    action: as in `routes.Route`, "" as before. model_asked, model: "" where no model was asked. account: id of the last
    one that was tried. attempts: upstream calls. outcomes: each failed one, as `account=status`. status: as sent, that
    of the error where a stream failed after its head, CUT_SHORT where the answer was not ended. error, message: the
    error's code and words, both None where there was none. bytes_in, bytes_out: of the bodies, as the gateway reads and
    writes them. Tokens: as upstream counts them, 0 where it has not; prompt includes cached, output includes reasoning.
    first_byte_seconds: to the first byte of an answer that is no error, else None. total_seconds: to the answer's end.
    waited_seconds: for an account, of total_seconds. notices: what the client was warned of. trace: the trace id of W3C
    Trace Context, where the client sent one. steps: what `why` tells. recording: the bodies, where they are recorded;
    no line and no JSON of an entry has them.
    """

    id: str
    at: float
    client: str | None = None
    peer: str = ""
    protocol: str = ""
    method: str
    path: str
    action: str = ""
    is_stream: bool = False
    model_asked: str = ""
    model: str = ""
    account: str | None = None
    attempts: int = 0
    outcomes: tuple[str, ...] = ()
    status: int
    error: str | None = None
    message: str | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    first_byte_seconds: float | None = None
    total_seconds: float = 0.0
    waited_seconds: float = 0.0
    notices: tuple[str, ...] = ()
    trace: str | None = None
    steps: tuple[Step, ...] = ()
    recording: Recording | None = field(default=None, repr=False, compare=False)

    @property
    def is_error(self) -> bool:
        """Whether the client did not get what it asked for."""
        return self.status >= 400


class Batch:
    """Entries for somebody who counts them. They come some at a time, which costs each a third of what it would in the
    middle of its request: 1 us instead of 3 (`make bench ARGS=unary`). Settle it before the counts are told."""

    def __init__(self, count: Callable[[Entry], None]) -> None:
        self._count = count
        self._waiting: list[Entry] = []

    def add(self, entry: Entry) -> None:
        """One more, without its recording, which may hold megabytes."""
        self._waiting.append(entry if entry.recording is None else replace(entry, recording=None))
        if len(self._waiting) >= _TOGETHER:
            self.settle()

    def settle(self) -> None:
        """Have all of them counted."""
        waiting, self._waiting = self._waiting, []
        for entry in waiting:
            self._count(entry)


@value_class(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which entries: all that meet each condition. model: a pattern with * for the model asked or the one that
    answered. client: the key's name. account: the id of the last one that was tried. before: only those that came
    before this place. only_api: not what asked the gateway about itself."""

    only_errors: bool = False
    model: str | None = None
    client: str | None = None
    account: str | None = None
    before: int | None = None
    only_api: bool = False

    def meets(self, entry: Entry, place: int) -> bool:
        """Whether an entry at this place is one of them."""
        return self.meets_row(_values_of(entry), place)

    def meets_row(self, row: Sequence[Any], place: int) -> bool:
        """The same of an entry's row, as `to_row` has it."""
        if self.before is not None and place >= self.before:
            return False
        status, client, account, protocol, asked, model = _filtered(row)
        return (
            (not self.only_errors or status >= 400)
            and (self.client is None or client == self.client)
            and (self.account is None or account == self.account)
            and not (self.only_api and protocol in OWN_PROTOCOLS)
            and (self.model is None or any(map(_pattern(self.model), (asked, model))))
        )


@lru_cache(maxsize=64)
def _pattern(model: str) -> Callable[[str], Any]:
    """What a whole name is matched with; * is any characters."""
    return re.compile(translate(model.replace("[", "[[]").replace("?", "[?]"))).match


FIELDS = tuple(name for name in Entry.__dataclass_fields__ if name != "recording")
_values_of = attrgetter(*FIELDS)
_filtered = itemgetter(*map(FIELDS.index, ("status", "client", "account", "protocol", "model_asked", "model")))
_TIMES = ("at", "first_byte_seconds", "total_seconds", "waited_seconds")
_TUPLES = frozenset({"outcomes", "notices", "steps"})


def text_line(entry: Entry) -> str:
    """For people: what does not apply is left out, and no line break comes in from outside."""
    line = f"{entry.id} {entry.method} {entry.path} -> {entry.status}"
    if entry.model:
        line += f" {entry.protocol} {header_safe(entry.model_asked, 100)}={header_safe(entry.model, 100)}"
    if entry.account is not None:
        line += f" {entry.account}"
    if entry.client is not None:
        line += f" client={header_safe(entry.client, 100)}"
    if entry.attempts:
        line += f" attempts={entry.attempts}"
    line += f" bytes={entry.bytes_in}+{entry.bytes_out}"
    if entry.prompt_tokens or entry.output_tokens:
        line += f" tokens={entry.prompt_tokens}+{entry.output_tokens}"
        if entry.cached_tokens:
            line += f" cached={entry.cached_tokens}"
        if entry.reasoning_tokens:
            line += f" thinking={entry.reasoning_tokens}"
    if entry.is_stream and entry.first_byte_seconds is not None:
        line += f" first={int(entry.first_byte_seconds * 1000)}ms"
    line += f" {int(entry.total_seconds * 1000)}ms"
    if entry.waited_seconds:
        line += f" waited={int(entry.waited_seconds * 1000)}ms"
    if entry.trace is not None:
        line += f" trace={entry.trace}"
    if entry.error is not None:
        line += f" {entry.error}"
    return line


def json_line(entry: Entry) -> str:
    """For programs: one JSON object, all fields but the steps; fields may be added to it."""
    value = to_value(entry)
    del value["steps"]
    return jsontext.dumps(value).decode()


def to_value(entry: Entry) -> jsontext.JsonObject:
    """All of an entry as JSON. `from_value` reads it back."""
    value = {name: getattr(entry, name) for name in FIELDS}
    for name in _TIMES:
        if value[name] is not None:
            value[name] = round(value[name], 6)
    value["steps"] = told_steps(entry.steps)
    return value


def told_steps(steps: Iterable[Step]) -> list[Step]:
    """Steps as JSON."""
    return [step | {"at": round(step.get("at", 0), 3)} for step in steps]


def from_value(value: jsontext.JsonObject) -> Entry:
    """The entry in `to_value`'s JSON; what a later version wrote beside it is left out. Raises ValueError for what is
    none."""
    known: dict[str, Any] = {name: value[name] for name in FIELDS if name in value}
    try:
        return Entry(**(known | {name: tuple(known.get(name, ())) for name in _TUPLES}))
    except TypeError as error:
        raise ValueError(f"no entry of a request: {error}") from None


# --- rows ------------------------------------------------------------------------------------------------------

_TIME_PLACES = tuple(map(FIELDS.index, _TIMES))
_STEPS_PLACE = FIELDS.index("steps")


def to_row(entry: Entry) -> list[Any]:
    """The values of an entry in the order of FIELDS, for a store, as cheap to write as they can be: times in whole
    microseconds, since the digits of a float are looked for, and of the usual two steps only their times."""
    row = list(_values_of(entry))
    for place in _TIME_PLACES:
        if row[place] is not None:
            row[place] = round(row[place] * 1e6)
    if _has_usual_steps(entry):
        row[_STEPS_PLACE] = [round(step["at"] * 1e6) for step in entry.steps]
    return row


def from_row(row: list[Any]) -> Entry:
    """The entry of `to_row`'s values. An earlier version had fewer of them, a later one has more behind. Raises
    ValueError or TypeError for what is none."""
    value = dict(zip(FIELDS, row, strict=False))
    for name in _TIMES:
        if value.get(name) is not None:
            value[name] = value[name] / 1e6
    entry = from_value(value)
    if entry.steps and not isinstance(entry.steps[0], dict):
        return replace(entry, steps=_usual_steps(entry, *entry.steps))
    return entry


def _usual_steps(entry: Entry, picked: int, answered: int) -> tuple[Step, ...]:
    """The steps of a request that its first account has answered. picked, answered: when, in microseconds."""
    times = (("picked", picked), ("answered", answered))
    return tuple(
        {"at": at / 1e6, "model": entry.model, "event": event, "account": entry.account} for event, at in times
    )


def _has_usual_steps(entry: Entry) -> bool:
    if len(entry.steps) != 2:
        return False
    picked, answered = entry.steps
    return (
        len(picked) == len(answered) == 4
        and picked["event"] == "picked"
        and answered["event"] == "answered"
        and picked.get("account") == answered.get("account") == entry.account
        and picked["model"] == answered["model"] == entry.model
    )
