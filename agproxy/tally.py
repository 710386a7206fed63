"""What has happened in the last minutes, counted as requests end: for who looks on, such as the monitor page. Pure.

Each process has a tally. `told` is it as JSON, which other processes can read; `merged` adds them up. Latencies are
counted in classes that are 19% apart, so that percentiles of several processes can be had from their sums.
"""

import math
from collections import deque
from collections.abc import Sequence

from .entries import OWN_PROTOCOLS, Batch, Entry, Wanted
from .jsontext import JsonObject

STEP_SECONDS = 5
STEPS = 60  # five minutes
MOST_RECENT = 500
_MOST_ERRORS = 8
_MOST_OWN = 50
_CLASSES = 4  # of latency, in each doubling
_SUMS = ("requests", "errors", "prompt_tokens", "cached_tokens", "output_tokens")


class _Slot:
    """Counts of one step, in the order of _SUMS. latency: how many of each class."""

    __slots__ = ("counts", "latency")

    def __init__(self) -> None:
        self.counts = [0] * len(_SUMS)
        self.latency: dict[int, int] = {}

    def told(self) -> JsonObject:
        latency = {str(number): count for number, count in self.latency.items()}  # as JSON has them
        return {"latency": latency, **dict(zip(_SUMS, self.counts, strict=True))}


class Tally:
    """Counts of one process, and so many of the newest entries themselves. `add` is an observer of its ledger."""

    def __init__(self, most_recent: int = MOST_RECENT) -> None:
        self._batch = Batch(self._count)
        self._recent: deque[tuple[int, Entry]] = deque(maxlen=most_recent)
        self._own: deque[tuple[int, Entry]] = deque(maxlen=_MOST_OWN)  # apart: probes would push out the others
        self._errors: deque[Entry] = deque(maxlen=_MOST_ERRORS)
        self._number = 0
        self._sums = [0] * len(_SUMS)
        self._slots: dict[int, _Slot] = {}
        self._accounts: dict[str, JsonObject] = {}

    def add(self, entry: Entry) -> None:
        """A request has ended."""
        self._batch.add(entry)

    @property
    def recent(self) -> list[tuple[int, Entry]]:
        """The newest, each with its number, the newest last."""
        self._batch.settle()
        return sorted([*self._own, *self._recent], key=lambda pair: pair[0])

    def _count(self, entry: Entry) -> None:
        self._number += 1
        if entry.protocol in OWN_PROTOCOLS:
            self._own.append((self._number, entry))
            return
        self._recent.append((self._number, entry))
        number = int((entry.at + entry.total_seconds) // STEP_SECONDS)
        slot = self._slots.get(number) or self._new_slot(number)
        slot.counts[0] += 1
        if entry.is_error:
            slot.counts[1] += 1
            self._errors.append(entry)
        slot.counts[2] += entry.prompt_tokens
        slot.counts[3] += entry.cached_tokens
        slot.counts[4] += entry.output_tokens
        if entry.attempts and entry.status < 400:
            grade = _class_of(entry.total_seconds)
            slot.latency[grade] = slot.latency.get(grade, 0) + 1
        if entry.outcomes or entry.account is not None:
            self._count_accounts(entry)

    def _new_slot(self, number: int) -> "_Slot":
        """A slot to count in. What is too old to be shown goes into the sums."""
        slot = self._slots[number] = _Slot()
        for old in [old for old in self._slots if old <= number - STEPS]:
            self._sums = list(map(sum, zip(self._sums, self._slots.pop(old).counts, strict=True)))
        return slot

    def _count_accounts(self, entry: Entry) -> None:
        for outcome in entry.outcomes:
            self._account(outcome.rpartition("=")[0])["failed"] += 1
        if entry.account is not None and not entry.is_error:
            account = self._account(entry.account)
            account["served"] += 1
            account["tokens"] += entry.prompt_tokens + entry.output_tokens

    def _account(self, name: str) -> JsonObject:
        return self._accounts.setdefault(name, {"served": 0, "failed": 0, "tokens": 0})

    def told(self, now: float) -> JsonObject:
        """All of it that matters now, as JSON for `merged`."""
        self._batch.settle()
        least = int(now // STEP_SECONDS) - STEPS
        counts = [self._sums, *(slot.counts for slot in self._slots.values())]
        return {
            "sums": dict(zip(_SUMS, map(sum, zip(*counts, strict=True)), strict=True)),
            "slots": {str(number): slot.told() for number, slot in self._slots.items() if number > least},
            "accounts": self._accounts,
            "errors": [_error_row(entry) for entry in reversed(self._errors)],
        }

    def find(self, request_id: str) -> Entry | None:
        """The entry of a request, if it is remembered."""
        return next((entry for _, entry in reversed(self.recent) if entry.id == request_id), None)

    def latest(self, wanted: Wanted, limit: int) -> list[tuple[int, Entry]]:
        """The newest that are wanted of those that are remembered, the newest first, each with its number."""
        found = ((number, entry) for number, entry in reversed(self.recent) if wanted.meets(entry, number))
        return [pair for pair, _ in zip(found, range(limit), strict=False)]


def merged(tallies: Sequence[JsonObject], now: float) -> JsonObject:
    """What several processes have counted, together.

    {"requests", "errors", "prompt_tokens", "cached_tokens", "output_tokens": since each began, "per_minute": the same
    of the last minute, "recent": the same in lists, a number for each step of "step_seconds" up to "until", with "p50"
    and "p95" in seconds or null, "latency": {"p50", "p95", "p99"}, "errors_seen": [...], "accounts": {id: {"served",
    "failed", "tokens"}}}
    """
    last = int(now // STEP_SECONDS)
    numbers = range(last - STEPS + 1, last + 1)
    slots = {number: [t["slots"][str(number)] for t in tallies if str(number) in t["slots"]] for number in numbers}
    rows = {name: [sum(slot[name] for slot in slots[number]) for number in numbers] for name in _SUMS}
    latencies = [_added([slot["latency"] for slot in slots[number]]) for number in numbers]
    minute = int(60 // STEP_SECONDS)
    accounts: dict[str, JsonObject] = {}
    for tally in tallies:
        for name, counted in tally["accounts"].items():
            known = accounts.setdefault(name, dict.fromkeys(counted, 0))
            for key, count in counted.items():
                known[key] += count
    errors = sorted((row for tally in tallies for row in tally["errors"]), key=lambda row: -float(row["at"]))
    whole = _added(latencies)
    return {
        **{name: sum(tally["sums"][name] for tally in tallies) for name in _SUMS},
        "recent": {
            "step_seconds": STEP_SECONDS,
            "until": (last + 1) * STEP_SECONDS,
            **rows,
            "p50": [percentile(one, 0.5) for one in latencies],
            "p95": [percentile(one, 0.95) for one in latencies],
        },
        "per_minute": {name: sum(rows[name][-minute:]) for name in _SUMS},
        "latency": {f"p{share:g}": percentile(whole, share / 100) for share in (50, 95, 99)},
        "errors_seen": errors[:_MOST_ERRORS],
        "accounts": accounts,
    }


def _added(histograms: Sequence[dict[str, int]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for histogram in histograms:
        for name, count in histogram.items():
            found[name] = found.get(name, 0) + count
    return found


def _class_of(seconds: float) -> int:
    return round(math.log2(max(seconds, 0.0001)) * _CLASSES)


def percentile(histogram: dict[str, int], share: float) -> float | None:
    """The latency that so many of all stay within, in seconds; None where there are none."""
    left = sum(histogram.values()) * share
    for number in sorted(map(int, histogram)):
        left -= histogram[str(number)]
        if left <= 1e-9:
            return float(round(2.0 ** (number / _CLASSES), 4))
    return None


def _error_row(entry: Entry) -> JsonObject:
    return {
        "id": entry.id,
        "at": round(entry.at + entry.total_seconds, 3),
        "status": entry.status,
        "error": entry.error,
        "message": entry.message,
        "model": entry.model_asked,
        "path": entry.path,
    }
