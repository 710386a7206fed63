"""What the gateway counts of its requests, and how it is told to Prometheus. Pure.

`Counters.observe` is an observer of the ledger: one `Entry` a request, no work for a chunk. What stands for a moment
(gauges) is read when somebody asks. A process's numbers are a `Data`, plain JSON, so that those of several processes
can be added up by `merge`, and `render` writes the sum as text in Prometheus's exposition format 0.0.4, or in
OpenMetrics 1.0.

Clients name models, so that label is bounded: the first _MOST_MODELS models that upstream has served keep their names,
all others are "other".
"""

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .entries import Batch, Entry

Data = dict[str, list[list[Any]]]
"""Name of a family -> samples, each [label values, value]. A histogram's value is [sum, count of the first bucket, ...,
of the last, which has no bound], not cumulated."""

OTHER = "other"
_MOST_MODELS = 200
_MOST_ACCOUNTS = 1000
_NO_MODEL = frozenset({400, 403, 404})  # upstream's words for a model that it does not have, too

# Seconds. OpenTelemetry's advice for generative AI, up to the longest answers that upstream gives.
DURATIONS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84, 600.0)
_BUCKETS = len(DURATIONS) + 1

SUM, MOST, LEAST = "sum", "most", "least"


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """kind: counter, gauge or histogram. merge: what the numbers of several processes become."""

    kind: str
    help: str
    labels: tuple[str, ...] = ()
    merge: str = SUM


def _counter(help: str, *labels: str) -> Family:
    return Family(kind="counter", help=help, labels=labels)


def _gauge(help: str, *labels: str, merge: str = SUM) -> Family:
    return Family(kind="gauge", help=help, labels=labels, merge=merge)


def _histogram(help: str, *labels: str) -> Family:
    return Family(kind="histogram", help=help, labels=labels)


FAMILIES: dict[str, Family] = {
    "agproxy_requests_total": _counter(
        "Requests that have ended, by status; 499: the client left before the end.", "protocol", "model", "code"
    ),
    "agproxy_tokens_total": _counter(
        "Tokens as upstream counts them: input (cached among it), output (reasoning among it), cached, reasoning.",
        "protocol",
        "model",
        "type",
    ),
    "agproxy_request_duration_seconds": _histogram(
        "From a request's begin to the end of its answer.", "protocol", "model"
    ),
    "agproxy_time_to_first_byte_seconds": _histogram(
        "From a request's begin to the first byte of its answer, where that is no error.", "protocol", "model"
    ),
    "agproxy_wait_seconds_total": _counter("What requests have waited for a place or an account."),
    "agproxy_body_bytes_total": _counter("Bodies of requests (in) and answers (out).", "direction"),
    "agproxy_upstream_attempts_total": _counter(
        "Calls of requests to the model, by account: ok, the status of a failure, or cut where the answer broke off.",
        "account",
        "outcome",
    ),
    "agproxy_journal_dropped_total": _counter("Entries that the journal could not take."),
    "agproxy_requests_in_flight": _gauge("Requests that have not ended."),
    "agproxy_streams_open": _gauge("Streams that have begun and not ended."),
    "agproxy_requests_queued": _gauge("Requests that wait for a place among max_in_flight."),
    "agproxy_connections": _gauge("Connections that are open, with clients or with upstream.", "side"),
    "agproxy_accounts": _gauge("Accounts in use: ready, or cooling, for one model at least.", "state", merge=MOST),
    "agproxy_account_requests_in_flight": _gauge("Calls under way.", "account"),
    "agproxy_account_cooling_seconds": _gauge(
        "How long an account (or the project that accounts share) is still passed by for a model (* is all), and why.",
        "account",
        "model",
        "cause",
        merge=MOST,
    ),
    "agproxy_event_loop_lag_seconds": _gauge(
        "The most that the event loop was late in the last 15 to 30 seconds.", merge=MOST
    ),
    "agproxy_workers": _gauge("Processes whose numbers these are."),
    "agproxy_build_info": _gauge("Always 1.", "version", "python", merge=MOST),
    "process_cpu_seconds_total": _counter("User and system CPU time, of all workers."),
    "process_resident_memory_bytes": _gauge("Resident memory, of all workers."),
    "process_open_fds": _gauge("Open file descriptors, of all workers."),
    "process_max_fds": _gauge("Most file descriptors that may be open, of all workers."),
    "process_start_time_seconds": _gauge("When the first of them started, Unix seconds.", merge=LEAST),
}
COUNTED = frozenset(name for name, family in FAMILIES.items() if family.kind != "gauge")
"""Families that only grow: what they count outlives the process that has counted it."""


class Counters:
    """What one process has counted."""

    def __init__(self) -> None:
        self._batch = Batch(self._count)
        self._requests: dict[tuple[str, str, int], int] = {}
        self._uses: dict[tuple[str, str], list[float]] = {}  # tokens, then the two histograms
        self._attempts: dict[tuple[str, str], int] = {}
        self._models: set[str] = {""}
        self._accounts: set[str] = set()
        self._waited = 0.0
        self._bytes_in = self._bytes_out = 0

    def observe(self, entry: Entry) -> None:
        """A request has ended."""
        self._batch.add(entry)

    def _count(self, entry: Entry) -> None:
        model, status = entry.model, entry.status
        if model not in self._models:
            is_served = status < 400 or (entry.attempts > 0 and status not in _NO_MODEL)
            if is_served and len(self._models) <= _MOST_MODELS:
                self._models.add(model)
            else:
                model = OTHER
        protocol = entry.protocol
        key = (protocol, model, status)
        self._requests[key] = self._requests.get(key, 0) + 1
        use = self._uses.get((protocol, model))
        if use is None:
            use = self._uses[protocol, model] = [0] * _USE_LENGTH
        if entry.prompt_tokens or entry.output_tokens:
            use[0] += entry.prompt_tokens
            use[1] += entry.output_tokens
            use[2] += entry.cached_tokens
            use[3] += entry.reasoning_tokens
        seconds = entry.total_seconds
        use[_TOTAL] += seconds
        use[_TOTAL + 1 + bisect_left(DURATIONS, seconds)] += 1
        first = entry.first_byte_seconds
        if first is not None:
            use[_FIRST] += first
            use[_FIRST + 1 + bisect_left(DURATIONS, first)] += 1
        self._waited += entry.waited_seconds
        self._bytes_in += entry.bytes_in
        self._bytes_out += entry.bytes_out
        if entry.attempts:
            self._count_attempts(entry)

    def _count_attempts(self, entry: Entry) -> None:
        failed = entry.outcomes
        for outcome in failed:
            account, _, status = outcome.rpartition("=")
            self._attempt(account, status)
        if entry.attempts > len(failed) and entry.account is not None:
            self._attempt(entry.account, "ok" if entry.status < 400 else "cut")

    def _attempt(self, account: str, outcome: str) -> None:
        if account not in self._accounts:
            if len(self._accounts) < _MOST_ACCOUNTS:
                self._accounts.add(account)
            else:
                account = OTHER
        key = (account, outcome)
        self._attempts[key] = self._attempts.get(key, 0) + 1

    def data(self) -> Data:
        """All of it."""
        self._batch.settle()
        uses = self._uses.items()
        return {
            "agproxy_requests_total": [[list(map(str, key)), number] for key, number in self._requests.items()],
            "agproxy_tokens_total": [
                [[*key, kind], use[place]]
                for key, use in uses
                if use[0] or use[1]
                for place, kind in enumerate(_TOKEN_TYPES)
            ],
            "agproxy_request_duration_seconds": [[list(key), use[_TOTAL:_FIRST]] for key, use in uses],
            "agproxy_time_to_first_byte_seconds": [[list(key), use[_FIRST:]] for key, use in uses if any(use[_FIRST:])],
            "agproxy_wait_seconds_total": [[[], self._waited]],
            "agproxy_body_bytes_total": [[["in"], self._bytes_in], [["out"], self._bytes_out]],
            "agproxy_upstream_attempts_total": [[list(key), number] for key, number in self._attempts.items()],
        }


_TOKEN_TYPES = ("input", "output", "cached", "reasoning")
_TOTAL = len(_TOKEN_TYPES)
_FIRST = _TOTAL + 1 + _BUCKETS
_USE_LENGTH = _FIRST + 1 + _BUCKETS


def merge(parts: Iterable[Data]) -> Data:
    """The numbers of several processes as those of one. A family that this version does not know is left out."""
    merged: dict[str, dict[tuple[str, ...], Any]] = {}
    for part in parts:
        for name, samples in part.items():
            family = FAMILIES.get(name)
            if family is None:
                continue
            known = merged.setdefault(name, {})
            for labels, value in samples:
                key = tuple(labels)
                known[key] = value if key not in known else _together(family, known[key], value)
    return {name: [[list(key), value] for key, value in samples.items()] for name, samples in merged.items()}


def _together(family: Family, one: Any, other: Any) -> Any:
    if family.kind == "histogram":
        return [a + b for a, b in zip(one, other, strict=True)]
    if family.merge == SUM:
        return one + other
    return max(one, other) if family.merge == MOST else min(one, other)


def counted(data: Data) -> Data:
    """What of it outlives its process."""
    return {name: samples for name, samples in data.items() if name in COUNTED}


# --- text ------------------------------------------------------------------------------------------------------

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def content_type(accept: str | None) -> str:
    """Which of the two a scraper asks for by its Accept header."""
    return OPEN_METRICS if accept is not None and "application/openmetrics-text" in accept.lower() else TEXT


def render(data: Data, kind: str = TEXT) -> bytes:
    """The text of numbers, families in their order above, samples in that of their labels."""
    is_open = kind == OPEN_METRICS
    lines: list[str] = []
    for name, family in FAMILIES.items():
        samples = data.get(name)
        if not samples:
            continue
        shown = name.removesuffix("_total") if is_open and family.kind == "counter" else name
        lines.append(f"# HELP {shown} {family.help}")
        lines.append(f"# TYPE {shown} {family.kind}")
        for labels, value in sorted(samples, key=lambda sample: sample[0]):
            pairs = [f'{label}="{_escape(text)}"' for label, text in zip(family.labels, labels, strict=True)]
            if family.kind == "histogram":
                lines += _histogram_lines(name, pairs, value)
            else:
                lines.append(f"{name}{_braces(pairs)} {_number(value)}")
    if is_open:
        lines.append("# EOF")
    return ("\n".join(lines) + "\n").encode()


def _histogram_lines(name: str, pairs: list[str], value: list[float]) -> Iterable[str]:
    total = 0.0
    for bound, count in zip((*map(_number, DURATIONS), "+Inf"), value[1:], strict=True):
        total += count
        within = f'le="{bound}"'
        yield f"{name}_bucket{_braces([*pairs, within])} {_number(total)}"
    yield f"{name}_sum{_braces(pairs)} {_number(value[0])}"
    yield f"{name}_count{_braces(pairs)} {_number(total)}"


def _braces(pairs: list[str]) -> str:
    return f"{{{','.join(pairs)}}}" if pairs else ""


def _escape(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return escaped.encode("utf-8", "backslashreplace").decode()


def _number(value: float) -> str:
    """As exactly as a float goes; whole numbers without a point."""
    return str(int(value)) if value == int(value) else repr(float(value))
