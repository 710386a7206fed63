"""HTTP/1.1 in its plain form, read and written without h11: what nearly every message is, at a tenth of the cost.

Of a request that costs 130 us on a bare relay, h11 takes 37 us for the client's head, 45 for our answer, 60 for both
directions upstream, and 12 for each chunk of a stream; here that is 5, 4, 8 and 0.7. h11 stays the judge: what is not
plain (HTTP/1.0, 1xx, folded lines, several lengths, chunk extensions, trailers, whatever is broken) is handed to it
with the bytes as they came. tests/test_plain.py holds that h11 reads the same out of whatever is taken here.

Follows RFC 9112. Pure: bytes in, values out.
"""

import http
import re
from collections.abc import Sequence
from functools import lru_cache
from sys import intern

import h11

from ..http11 import Headers

_TOKEN = "[-!#$%&'*+.^_`|~0-9A-Za-z]+"
# h11's idea of a value: no line ends, no NUL, and no white space but blanks and tabs. Both ends are trimmed later.
_LINE = re.compile(rf"({_TOKEN}):([^\0\n\r\v\f]*)")
_LINES = re.compile(rf"(?:{_LINE.pattern}\r\n)*")
_REQUEST = re.compile(rf"({_TOKEN}) (/[!-~]*) HTTP/1\.1")
_STATUS = re.compile(r"HTTP/1\.1 ([2-5][0-9][0-9])(?: [\t\x20-\x7e]*)?")
_REQUEST_LINE = re.compile(rf"{_TOKEN} [!-~]+")
_NAME = re.compile(_TOKEN)
_LENGTH = re.compile("[0-9]{1,18}")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})\r\n")
_CHUNK_BEGUN = re.compile(rb"[0-9A-Fa-f]{1,15}\r?|0+\r\n\r?")
_MOST_KEPT_CHARACTERS = 200
_CRLF = b"\r\n"
_BODILESS = frozenset({204, 304})
_REASONS = {int(status): status.phrase for status in http.HTTPStatus}


@lru_cache(maxsize=1024)
def _field(line: str) -> tuple[str, str] | None:
    """Name and value of a header's line, None where it is not plain."""
    match = _LINE.fullmatch(line)
    return None if match is None else (intern(match[1].lower()), match[2].strip(" \t"))


def _split(head: str, start: re.Pattern[str]) -> tuple[re.Match[str], list[tuple[str, str]]] | None:
    """The first line of a whole head, and its headers; None where they are not plain. A client says nearly all of them
    in each request again, so short lines are kept: looking one up takes a tenth of taking it apart."""
    first, *lines = head[:-4].split("\r\n")
    match = start.fullmatch(first)
    if match is None or not lines:
        return None
    headers = []
    for line in lines:
        field = _field(line) if len(line) <= _MOST_KEPT_CHARACTERS else _field.__wrapped__(line)
        if field is None:
            return None
        headers.append(field)
    return match, headers


# --- requests --------------------------------------------------------------------------------------------------


def read_request(raw: bytes) -> tuple[str, str, Headers, int] | None:
    """Method, target, headers and body length of a client's whole head; None where h11 must judge it."""
    found = _split(raw.decode("latin-1"), _REQUEST)
    if found is None:
        return None
    match, headers = found
    hosts = 0
    length = ""
    for name, value in headers:
        if name == "host":
            hosts += 1
        elif name == "content-length":
            if length or not _LENGTH.fullmatch(value):
                return None
            length = value
        elif name in _UNUSUAL or (name == "connection" and value.lower() != "keep-alive"):
            return None
    if hosts != 1 or match[1] in ("CONNECT", "TRACE"):
        return None
    return match[1], match[2], tuple(headers), int(length or 0)


_UNUSUAL = frozenset({"transfer-encoding", "expect", "upgrade"})


def write_request(method: str, target: str, headers: Sequence[tuple[str, str]]) -> bytes:
    """The head of a request. Raises ValueError where HTTP does not allow its characters."""
    line = f"{method} {target}"
    if not _REQUEST_LINE.fullmatch(line):
        raise ValueError("a character that may not stand in a request line")
    return f"{line} HTTP/1.1\r\n{_write_fields(headers)}\r\n".encode("latin-1")


def write_answer(status: int, headers: Sequence[tuple[str, str]]) -> bytes:
    """The head of an answer. Raises ValueError where HTTP does not allow its characters."""
    return f"HTTP/1.1 {status} {_REASONS.get(status, '')}\r\n{_write_fields(headers)}\r\n".encode("latin-1")


def _write_fields(headers: Sequence[tuple[str, str]]) -> str:
    fields = "".join([f"{name}: {value}\r\n" for name, value in headers])
    values = "".join([value for _, value in headers])
    # Looks at the whole instead of one at each: all names are tokens, and no value can end its line.
    is_legal = _are_names(tuple([name for name, _ in headers])) and (
        (values.isascii() and values.isprintable())
        or (_LINES.fullmatch(fields) is not None and fields.count("\n") == len(headers))
    )
    if not is_legal:
        raise ValueError("a character that may not stand in a header")
    return fields


@lru_cache(maxsize=256)
def _are_names(names: tuple[str, ...]) -> bool:
    return all(map(_NAME.fullmatch, names))


# --- answers ---------------------------------------------------------------------------------------------------


class AnswerReader:
    """One answer of an upstream: its bytes in, its head and body out.

    status is 0 until the head is there. rest: bytes behind a whole answer. error: why nothing more can be read.
    """

    __slots__ = (
        "_begun",
        "_h11",
        "_is_chunked",
        "_left",
        "_limit",
        "_method",
        "error",
        "headers",
        "informational",
        "is_whole",
        "keeps_alive",
        "rest",
        "status",
    )

    def __init__(self, method: str, max_header_bytes: int) -> None:
        self.status = 0
        self.headers: Headers = ()
        self.is_whole = False
        self.keeps_alive = False
        self.rest = b""
        self.informational = 0
        self.error: h11.RemoteProtocolError | None = None
        self._method = method
        self._limit = max_header_bytes
        self._h11: h11.Connection | None = None
        self._is_chunked = False
        self._left = 0  # of the body, or of the open chunk with the CRLF behind it
        self._begun = b""  # of a chunk's size

    def feed(self, data: bytes) -> bytes:
        """The body's bytes in these. Call it no more after is_whole or error."""
        if self._h11 is not None:
            return self._judge(self._h11, data)
        if not self.status:
            if (begin := self._read_head(data)) == 0:
                return self._leave_to_h11(b"", data)
            data = data[begin:]
        if self._is_chunked:
            return self._read_chunks(data)
        if len(data) >= self._left:
            self.is_whole = True
            self.rest = data[self._left :]
            return data[: self._left] if self.rest else data
        self._left -= len(data)
        return data

    def feed_end(self) -> bytes:
        """The connection has ended, which ends a body that has no length."""
        return b"" if self._h11 is None else self._judge(self._h11, b"")

    def _read_head(self, data: bytes) -> int:
        """Where the body begins; 0 where h11 must judge the head, also for one that came in pieces."""
        end = data.find(b"\r\n\r\n") + 4
        if not 4 <= end <= self._limit or self._method == "HEAD":
            return 0
        found = _split(data[:end].decode("latin-1"), _STATUS)
        if found is None:
            return 0
        match, headers = found
        framing = 0
        keeps_alive = True
        for name, value in headers:
            if name == "content-length":
                if not _LENGTH.fullmatch(value):
                    return 0
                framing += 1
                self._left = int(value)
            elif name == "transfer-encoding":
                if value != "chunked":
                    return 0
                framing += 1
                self._is_chunked = True
            elif name == "connection":
                token = value.lower()
                if token not in ("close", "keep-alive"):
                    return 0
                keeps_alive = keeps_alive and token != "close"
        status = int(match[1])
        if framing != 1 or status in _BODILESS:
            self._is_chunked = False
            return 0
        self.headers = tuple(headers)
        self.keeps_alive = keeps_alive
        self.status = status
        return end

    def _read_chunks(self, data: bytes) -> bytes:
        if self._begun:
            data = self._begun + data
            self._begun = b""
        pieces: list[bytes] = []
        place, size = 0, len(data)
        if not self._left and (match := _CHUNK.match(data)) and (length := int(match[1], 16)):
            place = match.end()
            if place + length + 2 == size and data.endswith(_CRLF):  # one chunk a read, as paced streams come
                return data[place:-2]
            place = 0
        if self._left:  # of a chunk that an earlier read began
            place = self._take_chunk(data, 0, self._left, pieces)
        while place < size:
            match = _CHUNK.match(data, place)
            if match is None or (length := int(match[1], 16)) == 0:
                return self._end_chunks(data, place, pieces)
            begin = match.end()
            end = begin + length
            if data.startswith(_CRLF, end):
                pieces.append(data[begin:end])
                place = end + 2
            else:
                place = self._take_chunk(data, begin, length + 2, pieces)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _take_chunk(self, data: bytes, place: int, left: int, pieces: list[bytes]) -> int:
        """As much of a chunk as is there; left: its bytes with the CRLF behind it. Where to read on comes back."""
        part = data[place : place + left]
        self._left = left - len(part)
        length = max(0, left - 2)
        pieces.append(part[:length])
        footer = part[length:]
        if footer != _CRLF[2 - min(2, left) :][: len(footer)]:
            self.error = h11.RemoteProtocolError("a chunk does not end with CRLF")
            return len(data)
        return place + len(part)

    def _end_chunks(self, data: bytes, place: int, pieces: list[bytes]) -> bytes:
        """Behind the last plain chunk: the end of the body, the beginning of a chunk's size, or a case for h11."""
        match = _CHUNK.match(data, place)
        if match is not None and data.startswith(_CRLF, match.end()):
            self.is_whole = True
            self.rest = data[match.end() + 2 :]
        elif _CHUNK_BEGUN.fullmatch(data, place):
            self._begun = data[place:]
        else:
            connection = b"" if self.keeps_alive else b"connection: close\r\n"
            head = b"HTTP/1.1 200 OK\r\n%btransfer-encoding: chunked\r\n\r\n" % connection
            pieces.append(self._leave_to_h11(head, data[place:]))
        return b"".join(pieces)

    # -- what is not plain

    def _leave_to_h11(self, head: bytes, data: bytes) -> bytes:
        """head: what stands for the head that has been read already."""
        parser = self._h11 = h11.Connection(h11.CLIENT, self._limit)
        parser.send(h11.Request(method=self._method, target="/", headers=[("host", "upstream")]))
        parser.send(h11.EndOfMessage())
        if head:
            parser.receive_data(head)
            parser.next_event()
        return self._judge(parser, data)

    def _judge(self, parser: h11.Connection, data: bytes) -> bytes:
        pieces = []
        parser.receive_data(data)
        try:
            while True:
                event = parser.next_event()
                if isinstance(event, h11.Data):
                    pieces.append(bytes(event.data))
                elif isinstance(event, h11.Response):
                    self.headers = tuple((n.decode("ascii"), v.decode("latin-1")) for n, v in event.headers)
                    self.status = event.status_code
                elif isinstance(event, h11.InformationalResponse):
                    self.informational += 1
                elif isinstance(event, h11.EndOfMessage):
                    self.is_whole = True
                    is_done = parser.our_state is h11.DONE and parser.their_state is h11.DONE
                    self.keeps_alive = is_done and bool(data)  # else the connection's end was the body's
                    self.rest = parser.trailing_data[0]
                    break
                else:
                    break
        except h11.RemoteProtocolError as error:
            self.error = error
        return b"".join(pieces)
