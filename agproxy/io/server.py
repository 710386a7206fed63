"""The HTTP/1.1 server: bytes of clients <-> HttpRequest and Reply, on h11 and asyncio.

Follows RFC 9110 and RFC 9112. Knows sockets, time-outs and limits; must not know any API's JSON: `refuse` renders
what is refused here. `heads` reads requests: plain ones itself, all others by h11, and refuses what h11 is too lenient
about.

Data is pushed: a chunk that comes from upstream goes through the handler's feed into `Reply.write` and to the
client's socket within one callback, without a task, a timer or a queue. A reader that is too slow pauses the
upstream connection which the reply follows.
"""

import asyncio
import contextlib
import enum
import functools
import logging
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from email.utils import formatdate
from io import BytesIO

import h11

from ..config import Config
from ..errors import GatewayError, HttpRefused, InternalError, Overloaded
from ..http11 import UNIX, Flow, Handler, Headers, HttpRequest, HttpResponse, find
from .coding import CodingError, Inflater, TooLarge, coding_of
from .heads import Head, complain_of_start, describe, has_stray_lf, parse_head, path_of
from .listen import Door
from .plain import write_answer

log = logging.getLogger("agproxy.server")

Refuse = Callable[[GatewayError, str], HttpResponse]
# Request id, peer, method and path, as far as they were read, and what the client was told.
OnRefused = Callable[[str, str, str, str, GatewayError], None]

# What comes behind a head is handed to h11 in blocks of this size, so that pipelined requests are not moved about.
_BLOCK_BYTES = 65536
_READ_BYTES = 262144

_LEAST_SECONDS = 0.001  # asyncio takes no time-out of 0

_CRLF = b"\r\n"
_END_OF_HEAD = b"\r\n\r\n"
_BODILESS = frozenset({204, 304})

INTERNAL_ERROR = "The gateway failed to answer; its log has the details under this request id."


def _sentence(error: Exception) -> str:
    words = str(error)
    return f"{words[0].upper()}{words[1:]}."


class _Clock:
    """The Date header, made once a second."""

    def __init__(self) -> None:
        self._second = -1
        self._date = ""

    def date(self) -> str:
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._date = formatdate(second, usegmt=True)
        return self._date


_clock = _Clock()


# --- answers ---------------------------------------------------------------------------------------------------


class _Reply:
    """One answer: `http11.Reply`. It lets go of its connection when it has ended or the client has gone."""

    __slots__ = (
        "_connection",
        "_head",
        "_id",
        "_is_bodiless",
        "_is_chunked",
        "_is_old",
        "_left",
        "_must_close",
        "has_started",
        "source",
    )

    def __init__(self, connection: "_Connection", id: str, *, is_head: bool, is_old: bool, must_close: bool) -> None:
        self._connection: _Connection | None = connection
        self._id = id
        self._is_old = is_old
        self._head = b""
        self._is_chunked = False
        self._is_bodiless = is_head
        self._left: int | None = None  # of the body that the head has promised
        self._must_close = must_close
        self.source: Flow | None = None
        self.has_started = False

    @property
    def is_over(self) -> bool:
        return self._connection is None

    def send(self, response: HttpResponse) -> None:
        headers = response.headers
        # HEAD tells the length that GET would have; a handler may know it without making the body.
        if response.status not in _BODILESS and find(headers, "content-length") is None:
            headers = (*headers, ("content-length", str(len(response.body))))
        self.start(response.status, headers)
        self.write(response.body)
        self.end()

    def start(self, status: int, headers: Headers) -> None:
        if self.has_started:
            raise RuntimeError("the answer has started already")
        connection = self._connection
        if connection is None:
            self.has_started = True
            return
        if find(headers, "x-request-id") is None:
            headers = (*headers, ("x-request-id", self._id))
        fields = [*headers, ("date", _clock.date())]
        is_bodiless = self._is_bodiless or status in _BODILESS
        length = find(headers, "content-length")
        is_chunked = length is None and status not in _BODILESS and not self._is_old
        if is_chunked:
            fields.append(("transfer-encoding", "chunked"))
        if self._must_close or connection.server.is_closing or find(headers, "connection") is not None:
            self._must_close = True
            fields.append(("connection", "close"))
        # Built first: a header that may not be sent raises here, while a 500 can still be sent instead.
        self._head = write_answer(status, fields)
        self._is_bodiless = is_bodiless
        self._is_chunked = is_chunked and not is_bodiless
        self._left = None if length is None or is_bodiless else int(length)
        self.has_started = True

    def write(self, data: bytes) -> None:
        connection = self._connection
        if connection is None or not data or self._is_bodiless:
            return
        if self._is_chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        elif self._left is not None:
            self._left -= len(data)
            if self._left < 0:
                raise RuntimeError("the answer is longer than its Content-Length")
        head = self._head
        if head:
            self._head = b""
            if len(data) > _BLOCK_BYTES:  # not worth a copy
                connection.written += len(head)
                connection.transport.write(head)
            else:
                data = head + data
        connection.written += len(data)
        connection.transport.write(data)

    def end(self) -> None:
        connection = self._connection
        if connection is None:
            return
        if self._left:
            raise RuntimeError("the answer is shorter than its Content-Length")
        if self._head or self._is_chunked:
            last = self._head + b"0\r\n\r\n" if self._is_chunked else self._head
            connection.written += len(last)
            connection.transport.write(last)
        self._head = b""
        self.detach()
        connection.on_answered(self._must_close)

    def abort(self) -> None:
        self.has_started = True
        connection = self._connection
        if connection is not None:
            self.detach()
            connection.on_aborted()

    def follow(self, source: Flow | None) -> None:
        connection = self._connection
        self.source = source if connection is not None else None
        if source is not None and connection is not None and connection.is_write_paused:
            source.pause()

    def detach(self) -> None:
        self._connection = None
        self.source = None


# --- connections -----------------------------------------------------------------------------------------------


class _Phase(enum.Enum):
    IDLE = "waiting for a request"
    HEAD = "within a request's head"
    BODY = "within a request's body"
    ANSWER = "answer under way"
    LEAVING = "answered for the last time"


class _Connection(asyncio.BufferedProtocol):
    """One client connection: requests in, one after the other; one timer, re-armed only when it fires.

    A read lands in the server's one buffer, and is taken out of it within the same callback: the 256 KiB that asyncio
    would allocate for each cost 8 us.
    """

    __slots__ = (
        "_body",
        "_config",
        "_deadline",
        "_head",
        "_id",
        "_inflater",
        "_input",
        "_is_head",
        "_is_surplus",
        "_left",
        "_loop",
        "_must_linger",
        "_path",
        "_peer",
        "_phase",
        "_reply",
        "_searched",
        "_tail",
        "_taken",
        "_task",
        "_timer",
        "is_write_paused",
        "server",
        "transport",
        "written",
    )

    transport: asyncio.Transport

    def __init__(self, server: "Server", peer: str, is_surplus: bool) -> None:
        self.server = server
        self.is_write_paused = False
        self.written = 0  # bytes of answers, sent or not
        self._config = server.config
        self._loop = asyncio.get_running_loop()
        self._peer = peer
        self._is_surplus = is_surplus
        self._phase = _Phase.IDLE
        self._input = bytearray()  # not handled yet; empty while a body is read
        self._searched = 0  # bytes of it in which no end of a head was found
        self._id = ""
        self._path = ""  # of the request that is read
        self._is_head = False
        self._head: Head | None = None
        self._left: int | None = None  # of the body's Content-Length; None for a chunked body
        self._body = BytesIO()
        self._tail = b""
        self._inflater: Inflater | None = None
        self._reply: _Reply | None = None
        self._task: asyncio.Task[None] | None = None
        self._must_linger = False
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._taken = 0  # bytes that had been sent when the deadline was set

    # -- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.set_write_buffer_limits(high=self._config.write_buffer_bytes)
        self.server.add(self)
        self._set_deadline(self._config.header_timeout_seconds)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.server.buffer

    def buffer_updated(self, nbytes: int) -> None:
        data = bytes(self.server.buffer[:nbytes])
        if self._phase is _Phase.BODY:
            self._take_body(data)
        elif self._phase is not _Phase.LEAVING:
            self._input += data
            self._go_on()

    def eof_received(self) -> None:
        # Most clients that half-close have gone, and no SDK half-closes; nginx takes it so, too.
        if self._phase is _Phase.ANSWER:
            self._drop_answer()
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._drop_answer()
        self._deadline = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.server.remove(self)

    def pause_writing(self) -> None:
        self.is_write_paused = True
        self._taken = self._count_taken()
        if self._phase is _Phase.ANSWER:
            self._set_deadline(self._config.write_timeout_seconds)
        if self._reply is not None and self._reply.source is not None:
            self._reply.source.pause()

    def resume_writing(self) -> None:
        self.is_write_paused = False
        if self._phase is _Phase.ANSWER:
            self._deadline = None
            if self._reply is not None and self._reply.source is not None:
                self._reply.source.resume()
        else:
            self._go_on()

    # -- requests

    def _go_on(self) -> None:
        """Read the next request, unless an answer is under way or a slow reader has not taken the last one."""
        if self._phase is _Phase.ANSWER or self.is_write_paused:
            if len(self._input) > self._config.read_buffer_bytes:
                self.transport.pause_reading()
        elif self._phase in (_Phase.IDLE, _Phase.HEAD):
            self.transport.resume_reading()
            self._take_head()

    def _take_head(self) -> None:
        head = self._input
        while head.startswith(_CRLF):  # RFC 9112, 2.2: empty lines before a request are to be ignored
            del head[:2]
        if not head or head == b"\r":
            return
        if self._phase is _Phase.IDLE:
            self._phase = _Phase.HEAD
            self._id = self.server.new_id()
            self._path = ""
            self._is_head = False
            self._head = None
            self._searched = 0
            self._set_deadline(self._hurried(self._config.header_timeout_seconds))
        end = head.find(_END_OF_HEAD, max(0, self._searched - 3))
        limit = self._config.max_header_bytes
        if (complaint := complain_of_start(head[0])) is not None:
            self._refuse(HttpRefused(complaint))
        elif end > limit - 4 or (end < 0 and len(head) > limit):
            self._refuse(HttpRefused(f"The request's headers are over {limit} bytes.", status=431))
        elif end < 0 and has_stray_lf(head, self._searched):
            self._refuse(HttpRefused("The request's head holds a bare LF or a NUL."))
        elif end < 0:
            self._searched = len(head)
        else:
            raw = bytes(head[: end + 4])
            del head[: end + 4]
            self._begin(raw)

    def _begin(self, raw: bytes) -> None:
        """A whole head has come; what is behind it waits in the input."""
        self._is_head = raw.startswith(b"HEAD ")
        try:
            head = self._head = parse_head(raw, self._config.max_header_bytes)
            self._path = head.path
            self._check_head(head)
        except GatewayError as error:
            self._path = self._path or path_of(raw)
            self._refuse(error)
            return
        length = self._left
        if length is not None and length <= len(self._input) and self._inflater is None:  # whole, as nearly all come
            body = bytes(self._input[:length])
            del self._input[:length]
            self._run(body)
            return
        self._tail = b""
        self._phase = _Phase.BODY
        self._set_deadline(self._hurried(self._config.body_timeout_seconds))
        if head.wants_continue and not self._input:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._take_body(b"")  # ends a request that has no body
        while self._input and self._phase is _Phase.BODY:
            size = _BLOCK_BYTES if self._left is None else min(_BLOCK_BYTES, self._left)
            block = bytes(self._input[:size])
            del self._input[:size]
            self._take_body(block)

    def _check_head(self, head: Head) -> None:
        """Refuse what can be refused before the body is read."""
        if self._is_surplus:
            raise Overloaded("The gateway has as many connections as it may have.", retry_after_seconds=1)
        limit = self._config.max_body_bytes
        if head.length is not None and head.length > limit:
            raise HttpRefused(f"The request's body is over {limit} bytes.", status=413)
        if head.is_old and head.method in ("POST", "PUT", "PATCH") and find(head.headers, "content-length") is None:
            # Its body would end where the client closes, which cannot be told from a client that went away.
            raise HttpRefused("HTTP/1.0 needs Content-Length.", status=411)
        try:
            coding = coding_of(find(head.headers, "content-encoding"))
        except CodingError as error:
            headers = (("accept-encoding", "gzip, deflate"),)
            raise HttpRefused(_sentence(error), status=415, headers=headers) from None
        self._inflater = None if coding is None else Inflater(coding)
        self._left = head.length

    def _take_body(self, data: bytes) -> None:
        if data:
            self._set_deadline(self._hurried(self._config.body_timeout_seconds))
        try:
            is_whole = self._take_chunks(data) if self._left is None else self._take_bytes(data, self._left)
            if is_whole:
                self._check_end()
                # BytesIO hands out what it holds: a large body is not copied once more.
                body, self._body = self._body.getvalue(), BytesIO()
                self._run(body)
        except h11.RemoteProtocolError as error:
            self._refuse(HttpRefused(describe(error)))
        except HttpRefused as error:
            self._refuse(error)

    def _take_bytes(self, data: bytes, left: int) -> bool:
        if len(data) > left:
            self._input += data[left:]
            data = data[:left]
        self._left = left - len(data)
        if data:
            self._add_body(data)
        return self._left == 0

    def _take_chunks(self, data: bytes) -> bool:
        assert self._head is not None
        parser = self._head.parser
        assert parser is not None
        if data:
            parser.receive_data(data)
        while True:
            event = parser.next_event()
            if isinstance(event, h11.Data):
                self._add_body(event.data)
            elif isinstance(event, h11.EndOfMessage):
                behind = parser.trailing_data[0]
                self._input[:0] = behind
                if (self._tail + data[: len(data) - len(behind)])[-4:] != _END_OF_HEAD:
                    raise HttpRefused("The chunked body does not end with CRLF CRLF.")
                return True
            else:
                self._tail = data[-4:] if len(data) >= 4 else (self._tail + data)[-4:]
                return False

    def _add_body(self, data: bytes) -> None:
        room = self._config.max_body_bytes - self._body.tell()
        try:
            if self._inflater is not None:
                data = self._inflater.decode(data, room)
            elif len(data) > room:
                raise TooLarge
        except TooLarge:
            raise HttpRefused(f"The request's body is over {self._config.max_body_bytes} bytes.", status=413) from None
        except CodingError as error:
            raise HttpRefused(_sentence(error)) from None
        self._body.write(data)

    def _check_end(self) -> None:
        """The request is whole."""
        if self._inflater is not None:
            try:
                self._inflater.finish()
            except CodingError as error:
                raise HttpRefused(_sentence(error)) from None
            # The body is no longer what these two said.
            gone = ("content-encoding", "content-length")
            assert self._head is not None
            self._head.headers = tuple(pair for pair in self._head.headers if pair[0] not in gone)
            self._inflater = None

    def _run(self, body: bytes) -> None:
        """Hand the request to the handler."""
        head = self._head
        assert head is not None
        request = HttpRequest(
            method=head.method,
            path=head.path,
            query=head.query,
            headers=head.headers,
            body=body,
            peer=self._peer,
            id=self._id,
        )
        self._head = None  # the request has what is in it, and lets go of it
        self._phase = _Phase.ANSWER
        self._deadline = None
        self._reply = _Reply(self, self._id, is_head=self._is_head, is_old=head.is_old, must_close=not head.may_stay)
        self._task = self.server.run(request, self._reply)

    # -- answers

    def on_answered(self, must_close: bool) -> None:
        """The reply's last byte is written."""
        self._reply = None
        self._task = None  # what it does after its answer is not the client's business any more
        if must_close or self.server.is_closing:
            self._leave()
            return
        self._phase = _Phase.IDLE
        self._taken = self._count_taken()
        config, has_unsent = self._config, self._taken < self.written
        self._set_deadline(config.write_timeout_seconds if has_unsent else config.idle_timeout_seconds)
        if self._input:
            self._loop.call_soon(self._go_on)  # not here: the handler's frame is below us

    def on_aborted(self) -> None:
        """The handler has given its answer up."""
        self._reply = None
        self._task = None
        self._phase = _Phase.LEAVING
        self.transport.abort()

    def _refuse(self, error: GatewayError) -> None:
        """Answer what breaks HTTP or a limit, and leave: what follows on this connection cannot be trusted."""
        response = self.server.refused(error, self._path, () if self._head is None else self._head.headers)
        headers = response.headers
        for name, value in error.headers:
            if find(headers, name) is None:
                headers = (*headers, (name, value))
        if error.retry_after_seconds is not None and find(headers, "retry-after") is None:
            headers = (*headers, ("retry-after", str(round(error.retry_after_seconds))))
        self._phase = _Phase.ANSWER
        self._body = BytesIO()
        self._inflater = None
        self._must_linger = True
        self._reply = _Reply(self, self._id, is_head=self._is_head, is_old=True, must_close=True)
        method = "" if self._head is None else self._head.method
        self._reply.send(HttpResponse(status=response.status, headers=headers, body=response.body))
        if self.server.on_refused is not None:
            self.server.on_refused(self._id, self._peer, method, self._path, error)

    def _drop_answer(self) -> None:
        """The client has gone: nobody waits for the answer under way."""
        if self._reply is not None:
            self._reply.detach()
            self._reply = None
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def _leave(self) -> None:
        linger = self._must_linger or bool(self._input)
        self._taken = self._count_taken()
        is_short = linger or (self._phase is _Phase.IDLE and self._taken == self.written)
        self._phase = _Phase.LEAVING
        self._input.clear()
        # Closing a socket with unread bytes resets it, and the reset can overtake the answer (RFC 9112, section 9.6).
        # Under TLS, `close` waits for the client to close as well, and an idle one may not even look.
        self._set_deadline(self._config.linger_seconds if is_short else self._config.write_timeout_seconds)
        if not linger:
            self.transport.close()
            return
        self.transport.resume_reading()
        if not self.transport.can_write_eof():  # TLS; and closed, it would break off at the first byte that comes
            return
        try:
            self.transport.write_eof()
        except OSError:  # the client has reset the connection, and the loop has not told us yet
            self.transport.abort()

    def drain(self) -> None:
        """The server is closing: leave now, or after the answer that is under way. Half a head may never become a whole
        one: it is told to come again. A body that is coming may end, and one that stalls is not waited for. A first
        request has a moment, since it may be on its way: no client sends it again by itself, as it does where a
        connection that was kept is closed."""
        if self._phase is _Phase.IDLE and not self._input and not self._id:
            self._set_deadline(self._config.linger_seconds)
        elif self._phase is _Phase.IDLE and not self._input:
            self._leave()
        elif self._phase in (_Phase.IDLE, _Phase.HEAD):
            self._refuse(Overloaded("The gateway is stopping.", retry_after_seconds=1))
        elif self._phase is _Phase.BODY:
            self._set_deadline(self._hurried(self._config.body_timeout_seconds))

    def _hurried(self, seconds: float) -> float:
        """How long a head may take, or a body be silent: only a moment where the server is closing."""
        return min(seconds, self._config.linger_seconds) if self.server.is_closing else seconds

    def abort(self) -> None:
        self.transport.abort()

    # -- time

    def _count_taken(self) -> int:
        """Bytes that the client's side has taken. Not those that wait: a keep-alive adds to them."""
        return self.written - self.transport.get_write_buffer_size()

    def _set_deadline(self, seconds: float) -> None:
        self._deadline = deadline = self._loop.time() + seconds
        if self._timer is None or self._timer.when() > deadline:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(deadline, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._deadline is None:
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._on_timer)
            return
        if self._phase in (_Phase.HEAD, _Phase.BODY):
            self._refuse(HttpRefused(f"The request stopped {self._phase.value}.", status=408))
            return
        taken = self._count_taken()
        if taken < self.written and taken > self._taken:  # the client reads on, if slowly
            self._taken = taken
            self._set_deadline(self._config.write_timeout_seconds)
        elif self._phase is not _Phase.IDLE:
            self.transport.abort()
        else:
            self._leave()


# --- the server ------------------------------------------------------------------------------------------------


class Server:
    """Listens, and runs `handler` once a request, each in a task of its own.

    `refuse` renders an error in the protocol that a path belongs to; `new_id` makes request ids; `dress` gives such an
    answer the headers that the request's own ask for, those of CORS. `on_refused` hears of what no handler sees.
    """

    _loop: asyncio.AbstractEventLoop

    def __init__(
        self,
        config: Config,
        handler: Handler,
        refuse: Refuse,
        new_id: Callable[[], str],
        dress: Callable[[Headers], Headers] | None = None,
        on_refused: OnRefused | None = None,
    ) -> None:
        self.config = config
        self.on_refused = on_refused
        self._refuse = refuse
        self._dress = dress
        self.new_id = new_id
        self.is_closing = False
        self.tls: ssl.SSLContext | None = None
        self.buffer = memoryview(bytearray(_READ_BYTES))
        self._handler = handler
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._doors: list[Door] = []
        # Each with its socket where there is a handshake, which may take the client's time.
        self._adopting: dict[asyncio.Task[None], socket.socket | None] = {}
        self._settled: asyncio.Future[None] | None = None

    @property
    def open(self) -> int:
        """Connections with clients."""
        return len(self._connections) + len(self._adopting)

    async def start(self, listeners: Sequence[socket.socket], tls: ssl.SSLContext | None = None) -> None:
        """Let clients in by these sockets, which listen already (`listen.bind`). The server closes them.

        tls: spoken with whoever comes by TCP. Setting `tls` anew is in force for whoever comes after.
        """
        self.tls = tls
        self._loop = asyncio.get_running_loop()
        for listener in listeners:
            door = Door(listener, self._enter)
            door.open()
            self._doors.append(door)

    async def close(self, drain_seconds: float) -> None:
        """Stop listening, let answers under way end within this time, cut the rest, and wait for all of it."""
        self.is_closing = True
        for door in self._doors:
            await door.close()
        self._doors.clear()
        for sock in self._adopting.values():
            if sock is not None:
                with contextlib.suppress(OSError):  # the client has gone
                    sock.shutdown(socket.SHUT_RDWR)  # ends the handshake; cancelled, asyncio may forget the socket
        await asyncio.gather(*self._adopting, return_exceptions=True)
        for connection in tuple(self._connections):
            connection.drain()
        await self._settle(drain_seconds)
        for connection in tuple(self._connections):
            connection.abort()
        for task in tuple(self._tasks):
            task.cancel()
        await self._settle(None)

    async def _settle(self, seconds: float | None) -> None:
        """Wait until no connection and no task is left, at most this long."""
        if not self._connections and not self._tasks:
            return
        self._settled = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait(
                {self._settled}, timeout=seconds
            )  # not asyncio.timeout: 3.11.2 forgets it once cancelled
        finally:
            self._settled = None

    def _check_settled(self) -> None:
        if self._settled is not None and not self._settled.done() and not self._connections and not self._tasks:
            self._settled.set_result(None)

    # -- connections

    def _enter(self, sock: socket.socket, peer: str) -> None:
        count = self.open
        if count >= self.config.max_connections + self.config.spare_connections:
            sock.close()
            return
        # A task, since it takes some turns of the loop.
        tls = None if peer == UNIX else self.tls
        task = self._loop.create_task(self._adopt(sock, peer, count >= self.config.max_connections, tls))
        self._adopting[task] = None if tls is None else sock
        task.add_done_callback(self._adopting.pop)

    async def _adopt(self, sock: socket.socket, peer: str, is_surplus: bool, tls: ssl.SSLContext | None) -> None:
        def connection() -> _Connection:
            return _Connection(self, peer, is_surplus)

        if tls is None:
            await self._loop.connect_accepted_socket(connection, sock)
            return
        try:
            await self._loop.connect_accepted_socket(
                connection,
                sock,
                ssl=tls,
                ssl_handshake_timeout=max(self.config.header_timeout_seconds, _LEAST_SECONDS),
                ssl_shutdown_timeout=max(self.config.write_timeout_seconds, _LEAST_SECONDS),
            )
        except ssl.SSLError as error:
            log.info("%s: no TLS with this client: %s", peer, (error.reason or "?").replace("_", " ").lower())
        except OSError as error:  # it left or was too slow
            log.debug("%s: no TLS with this client: %s", peer, type(error).__name__)

    def add(self, connection: _Connection) -> None:
        self._connections.add(connection)

    def remove(self, connection: _Connection) -> None:
        self._connections.discard(connection)
        self._check_settled()

    # -- requests

    def refused(self, error: GatewayError, path: str, asked: Headers) -> HttpResponse:
        """The answer to a request that the handler does not see, or whose handler failed."""
        response = self._refuse(error, path)
        return response if self._dress is None else replace(response, headers=response.headers + self._dress(asked))

    def run(self, request: HttpRequest, reply: _Reply) -> asyncio.Task[None]:
        """Start the handler in a task, and hold the task until it is done."""
        task = self._loop.create_task(self._answer(request, reply))
        self._tasks.add(task)
        task.add_done_callback(functools.partial(self._on_task_done, reply))
        return task

    async def _answer(self, request: HttpRequest, reply: _Reply) -> None:
        try:
            await self._handler(request, reply)
        except Exception:  # the boundary: whatever a handler's bug raises must end here as a 500 and a traceback
            log.exception("request %s: the handler failed", request.id)
        else:
            if reply.is_over:
                return
            log.error("request %s: the handler returned without ending its answer", request.id)
        if reply.has_started:
            reply.abort()
        else:
            reply.send(self.refused(InternalError(INTERNAL_ERROR), request.path, request.headers))

    def _on_task_done(self, reply: _Reply, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a handler's failure could not be answered", exc_info=error)
        reply.abort()  # nothing, unless the task was cancelled or failed as above
        self._check_settled()
