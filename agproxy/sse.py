"""Event-stream bytes <-> events, after the WHATWG HTML standard, section 9.2 ("Server-sent events").

`Decoder` takes bytes in any split (inside a UTF-8 character, between CR and LF) and gives whole events. It differs
from the standard in two places, on purpose: a last event without its blank line is not thrown away (`finish`
returns it), and a line that is no field of the format is not skipped but collected, since Gemini can follow good
events with a bare JSON error (recorded as `streaming-failure-error-mid-stream`), which a skipping reader takes for
a clean end.
"""

from dataclasses import dataclass

DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"  # not ": ping": Continue's reader takes that text for the end of a batch


@dataclass(frozen=True, slots=True)
class Event:
    """One event: its type ("message" unless the stream says otherwise) and its data lines joined by LF."""

    name: str
    data: str


class DecodeError(ValueError):
    """The bytes are no event stream: not UTF-8, or an event over the limit."""


_FIELDS = frozenset({b"data", b"event", b"id", b"retry"})


class Decoder:
    """Bytes in, events out. `stray` holds the text of lines that belong to no event, joined by LF.

    max_event_bytes bounds the lines of one event, and all stray text. A DecodeError that events came before in the
    same bytes is raised by the next call, so that the same events come out in any split.
    """

    __slots__ = (
        "_after_cr",
        "_at_start",
        "_data",
        "_data_bytes",
        "_error",
        "_is_within",
        "_max",
        "_name",
        "_pending",
        "_pending_bytes",
        "_stray",
        "_stray_bytes",
    )

    def __init__(self, *, max_event_bytes: int = 64 * 1024 * 1024) -> None:
        self._max = max_event_bytes
        self._pending: list[bytes] = []  # pieces of a line that has not ended yet
        self._pending_bytes = 0
        self._after_cr = False
        self._at_start = True
        self._name = b""
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._stray: list[bytes] = []
        self._stray_bytes = 0
        self._error: DecodeError | None = None
        self._is_within = False  # an event or a line, or after an error: one look instead of five

    @property
    def stray(self) -> str:
        """Text outside every event, such as a bare JSON error; undecodable bytes shown as replacement marks."""
        return b"\n".join(self._stray).decode("utf-8", "replace")

    def feed(self, data: bytes) -> list[Event]:
        """Events that these bytes complete."""
        if self._error is not None:
            raise self._error
        events: list[Event] = []
        try:
            self._lines(data, events)
        except DecodeError as error:
            self._error = error
            if not events:
                raise
        finally:
            has_error = self._error is not None
            self._is_within = bool(self._pending or self._data or self._name or self._after_cr or has_error)
        return events

    def feed_whole(self, data: bytes) -> str:
        """The data of bytes that are one event and nothing else, as streams mostly come, at a third of what looking for
        lines costs. Empty for any other bytes, which then must go to `feed`."""
        value = data[6:-4] if data.endswith(b"\r\n\r\n") else data[6:-2] if data.endswith(b"\n\n") else b""
        if not data.startswith(b"data: ") or b"\n" in value or b"\r" in value or len(data) > self._max:
            return ""
        if self._is_within:
            return ""
        try:
            text = value.decode()
        except UnicodeDecodeError:
            return ""
        self._at_start = False
        return text

    def _lines(self, data: bytes, events: list[Event]) -> None:
        if self._after_cr and data:
            self._after_cr = False
            if data.startswith(b"\n"):  # second half of a CRLF that was split
                data = data[1:]
        if not data:
            return
        lines = data.splitlines(keepends=True)  # bytes split at CR, LF and CRLF only, as the standard has it
        last = lines[-1]
        if last[-1] not in b"\r\n":
            lines.pop()
        elif last.endswith(b"\r"):
            self._after_cr = True
        for line in lines:
            if self._pending:
                self._pending.append(line)
                line = b"".join(self._pending)
                self._pending.clear()
                self._pending_bytes = 0
            self._line(line.rstrip(b"\r\n"), events)
        if last[-1] not in b"\r\n":
            self._pending.append(last)
            self._pending_bytes += len(last)
            self._check(self._pending_bytes + self._data_bytes)

    def finish(self) -> list[Event]:
        """The event that the end of the stream cut short of its blank line, if there is one."""
        if self._error is not None:
            raise self._error
        events: list[Event] = []
        if self._pending:
            line = b"".join(self._pending)
            self._pending.clear()
            self._line(line, events)
        self._line(b"", events)
        return events

    def _check(self, size: int) -> None:
        if size > self._max:
            raise DecodeError(f"an event of over {self._max} bytes")

    def _line(self, line: bytes, events: list[Event]) -> None:
        self._check(len(line) + self._data_bytes)
        if self._at_start:
            self._at_start = False
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line:
            if self._data:
                try:
                    data = self._data[0].decode() if len(self._data) == 1 else b"\n".join(self._data).decode()
                    name = self._name.decode() if self._name else "message"
                except UnicodeDecodeError:
                    raise DecodeError("the stream is not UTF-8") from None
                events.append(Event(name, data))
                self._data.clear()
                self._data_bytes = 0
            self._name = b""
            return
        if line.startswith(b"data:"):
            value = line[6:] if line[5:6] == b" " else line[5:]
        elif line.startswith(b":"):
            return
        else:
            field, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if field not in _FIELDS:
                self._stray.append(line)
                self._stray_bytes += len(line) + 1
                self._check(self._stray_bytes)
                return
            if field != b"data":
                if field == b"event":
                    self._name = value
                return
        self._data.append(value)
        self._data_bytes += len(line) + 1  # with its end: empty lines take memory too


def encode(data: bytes, name: str | None = None) -> bytes:
    """One frame. `data` is a single line, as compact JSON is."""
    if name is None:
        return b"data: " + data + b"\n\n"
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"
