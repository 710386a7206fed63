"""HTTP read by h11 alone, to hold our own reading against; and our server fed by hand, without a socket."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import h11
from wire import echo, refuse

from agproxy.config import Config
from agproxy.errors import UpstreamFailed
from agproxy.http11 import HttpRequest, Reply
from agproxy.io import plain
from agproxy.io.client import _Connection as _Upstream
from agproxy.io.connection_pool import ConnectionPool
from agproxy.io.dial import Origin
from agproxy.io.server import Server, _Connection

LIMIT = 65536

# --- answers ---------------------------------------------------------------------------------------------------


def by_h11(pieces: Sequence[bytes]) -> tuple[Any, ...]:
    """What h11 makes of an answer: head, body, is_whole, count of 1xx, and "error" or (keeps alive, bytes behind)."""
    parser = h11.Connection(h11.CLIENT, LIMIT)
    parser.send(h11.Request(method="GET", target="/", headers=[("host", "a")]))
    parser.send(h11.EndOfMessage())
    head, body, is_whole, informational = None, b"", False, 0
    for piece in pieces:
        parser.receive_data(piece)
        try:
            while not is_whole:
                event = parser.next_event()
                if isinstance(event, h11.Response):
                    fields = tuple((name.decode(), value.decode("latin-1")) for name, value in event.headers)
                    head = (event.status_code, fields)
                elif isinstance(event, h11.InformationalResponse):
                    informational += 1
                elif isinstance(event, h11.Data):
                    body += event.data
                elif isinstance(event, h11.EndOfMessage):
                    is_whole = True
                else:
                    break
        except h11.RemoteProtocolError:
            return head, body, False, informational, "error"
    keeps_alive = parser.our_state is h11.DONE and parser.their_state is h11.DONE
    rest = parser.trailing_data[0] if is_whole else b""
    return head, body, is_whole, informational, (is_whole and keeps_alive, rest)


def by_us(pieces: Sequence[bytes]) -> tuple[tuple[Any, ...], plain.AnswerReader]:
    """The same of our reader."""
    reader = plain.AnswerReader("GET", LIMIT)
    body, behind = b"", b""
    for piece in pieces:
        if reader.is_whole:
            behind += piece
        elif reader.error is None:
            body += reader.feed(piece)
    head = (reader.status, reader.headers) if reader.status else None
    last = "error" if reader.error else (reader.is_whole and reader.keeps_alive, reader.rest + behind)
    return (head, body, reader.is_whole and not reader.error, reader.informational, last), reader


def receive(pieces: Sequence[bytes], **settings: Any) -> tuple[Any, ...]:
    """What a connection of our client makes of these pieces and the end behind them: (status, headers, body) of a whole
    answer, or how far it came and what was said. The second value: whether it would be used again."""

    async def main() -> tuple[Any, ...]:
        complaints: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        buffer = memoryview(bytearray(LIMIT))
        connection = _Upstream(Origin("https", "a", 443, None), replace(Config(), **settings), buffer, lambda _: None)
        pool = connection.pool = _Resting(1)
        wire = _Wire()
        connection.connection_made(wire)
        body = bytearray()

        async def ask() -> tuple[Any, ...]:
            answer = connection.ask("GET", b"", b"", 1e9)
            await answer.wait_for_head()
            await answer.pump(body.extend)
            return answer.status, answer.headers

        task = asyncio.ensure_future(ask())
        await asyncio.sleep(0)
        for piece in pieces:
            if wire.has_ended:
                break
            buffer[: len(piece)] = piece
            connection.buffer_updated(len(piece))
            for _ in range(3):
                await asyncio.sleep(0)
        if not wire.has_ended and not pool.rested:
            connection.eof_received()
        rested = pool.rested
        connection.connection_lost(None)
        assert not complaints, complaints
        try:
            return (*await task, bytes(body)), rested
        except UpstreamFailed as error:
            return (error.message, bytes(body)), rested

    return asyncio.run(main())


class _Resting(ConnectionPool):
    """A pool of one connection: whether it came back, and has not been closed since."""

    rested = False

    def release(self, connection: _Upstream) -> None:
        self.rested = True

    def forget(self, connection: _Upstream) -> None:
        self.rested = False
        connection.pool = None


# --- requests --------------------------------------------------------------------------------------------------


@dataclass
class Requests:
    """What h11 reads out of a client's bytes: whole requests, and whether it then refused what follows.

    is_last: it would take no other request behind these.
    """

    whole: list[tuple[Any, ...]] = field(default_factory=list)
    is_refused: bool = False
    is_last: bool = False


def requests_by_h11(data: bytes) -> Requests:
    """Each request on a connection of its own, since h11 minds the empty lines that may stand before one."""
    found = Requests()
    while not found.is_last:
        while data.startswith(b"\r\n"):
            data = data[2:]
        parser = h11.Connection(h11.SERVER, LIMIT)
        parser.receive_data(data)
        head, body = None, b""
        try:
            while not isinstance(event := parser.next_event(), h11.EndOfMessage):
                if isinstance(event, h11.Request):
                    head = event
                elif isinstance(event, h11.Data):
                    body += event.data
                else:
                    return found
        except h11.RemoteProtocolError:
            found.is_refused = True
            return found
        assert head is not None
        fields = tuple((name.decode(), value.decode("latin-1")) for name, value in head.headers)
        found.whole.append((head.method.decode(), head.target.decode(), fields, body))
        # An Upgrade that is answered by no 101 leaves the connection as it is (RFC 9110, 7.8).
        found.is_last = parser.their_state not in (h11.DONE, h11.MIGHT_SWITCH_PROTOCOL)
        data = parser.trailing_data[0]
    return found


class _Wire(asyncio.Transport):
    """A transport that takes all at once; `written` is what came out."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.has_ended = False

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return self.has_ended

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.has_ended = True

    close = abort = write_eof

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def is_reading(self) -> bool:
        return True

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


@dataclass
class Served:
    """What became of a client's bytes: the requests that the handler saw, the statuses of all answers, whether the
    server then took no more."""

    requests: list[HttpRequest] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    is_over: bool = False


def _statuses(written: bytes, has_ended: bool) -> list[int]:
    """The statuses of the answers, each of which must be whole and as long as it says."""
    found = []
    while written:
        head, mark, written = written.partition(b"\r\n\r\n")
        assert mark
        line, *lines = head.decode("latin-1").split("\r\n")
        status = int(line.split(" ")[1])
        fields = dict(one.lower().split(": ", 1) for one in lines)
        assert len(fields) == len(lines)
        length = int(fields.get("content-length", 0))
        if status != 100:
            found.append(status)
        is_bodiless = status in (100, 204, 304) or fields.get("x-head") or (has_ended and not written)
        if not is_bodiless:  # the refusal of a HEAD request ends what is written
            assert len(written) >= length
            written = written[length:]
    return found


async def _echo(request: HttpRequest, reply: Reply) -> None:
    """As `wire.echo`; an answer to HEAD says so, since its length is not that of its body."""
    if request.method == "HEAD":
        reply.start(200, (("x-head", "1"), ("content-length", str(len(request.body)))))
        reply.end()
    else:
        await echo(request, reply)


def serve(pieces: Sequence[bytes], **settings: Any) -> Served:
    """A server's connection fed with these pieces, one turn of the loop or more between them."""
    found = Served()

    async def handler(request: HttpRequest, reply: Reply) -> None:
        found.requests.append(request)
        await _echo(request, reply)

    async def main() -> None:
        complaints: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        server = Server(replace(Config(), **settings), handler, refuse, lambda: "req_1")
        await server.start(())  # it has no doors: its one client is brought in by hand
        connection = _Connection(server, "127.0.0.1", False)
        wire = _Wire()
        connection.connection_made(wire)
        for piece in pieces:
            if wire.has_ended:
                break
            server.buffer[: len(piece)] = piece
            connection.buffer_updated(len(piece))
            await _settled(server)
        connection.connection_lost(None)
        assert not complaints, complaints
        found.is_over = wire.has_ended
        found.statuses = _statuses(wire.written, wire.has_ended)

    asyncio.run(main())
    return found


async def _settled(server: Server) -> None:
    """Let the loop turn until nothing more is to be done."""
    for _ in range(3):
        await asyncio.sleep(0)
    while server._tasks:
        for _ in range(3):
            await asyncio.sleep(0)
