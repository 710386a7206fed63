"""The HTTPS client towards upstream: a Call goes out, an UpstreamReply comes back, on h11 and asyncio.

Follows RFC 9112. Knows connections, TLS, proxies, time-outs and limits; must not know any API's JSON. All that
sockets, TLS and h11 raise becomes UpstreamFailed here; messages name the host and never hold headers or URLs.

An answer's bytes are pushed: each read of the socket calls the reader's feed, once and at once. The coroutine in
`pump` wakes when the answer has ended or failed. One timer a connection watches all its time-outs; it is re-armed
when it fires.
"""

import asyncio
import os
import re
import select
import ssl
import sys
from collections.abc import Callable
from functools import lru_cache
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import h11

from ..account import hide
from ..config import Config
from ..errors import Overloaded, Retry, UpstreamFailed
from ..http11 import Call, Follower, Headers, find
from .coding import CodingError, Inflater, TooLarge, coding_of
from .connection_pool import ConnectionPool
from .dial import Dialer, Origin, Resolver
from .egress import Egress
from .plain import AnswerReader, write_request
from .proxy import PORTS, ProxyRules, is_loopback_host

_MAX_INFORMATIONAL = 16
# A request's body is written in pieces of this size, each when the one before it has left: given to TLS as a whole, a
# large one would be copied three times and stop the loop until it is encrypted.
_PIECE_BYTES = 65536
_NOTHING = memoryview(b"")  # not the empty end of a body: that would hold all of it as long as the answer lasts
_READ_BYTES = 65536

# Taking a URL apart costs 8 us, its host is nearly always the same one.
_PLAIN_URL = re.compile(r"(https?://[A-Za-z0-9.:\[\]-]+)(/[!-\"$-~]*)")

Feed = Callable[[bytes], None]


class _Stale(Exception):
    """A kept connection was closed by upstream before a byte of the answer: the request may go out once more."""


# --- answers ---------------------------------------------------------------------------------------------------


class _Answer:
    """One upstream answer: `http11.UpstreamReply`, and the Flow that a slow client pauses."""

    __slots__ = (
        "_config",
        "_connection",
        "_error",
        "_feed",
        "_inflater",
        "_is_used",
        "_kept",
        "_kept_bytes",
        "_loop",
        "_place",
        "_proxy",
        "_waiter",
        "deadline",
        "has_head",
        "headers",
        "is_slow",
        "status",
    )

    def __init__(self, connection: "_Connection", config: Config, deadline: float) -> None:
        self.status = 0
        self.headers: Headers = ()
        self.deadline = deadline
        self.has_head = False
        self.is_slow = False
        self._connection: _Connection | None = connection
        self._loop = connection.loop
        self._config = config
        self._place = connection.origin.place
        self._proxy = connection.origin.proxy
        self._inflater: Inflater | None = None
        self._kept: list[bytes] = []
        self._kept_bytes = 0
        self._feed: Feed | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self._is_used = False

    @property
    def is_paused(self) -> bool:
        """Whether upstream may not send: its silence is then our own doing."""
        return self.is_slow or (self._feed is None and self._kept_bytes > self._config.read_buffer_bytes)

    # -- the gateway's side

    async def read(self) -> bytes:
        is_whole = self._connection is None and self._error is None and self._feed is None
        if is_whole and self._kept_bytes <= self._config.max_upstream_body_bytes:  # it has come with its head
            self._feed = _ignore
            self._is_used = True
            return self._plain(self._take_kept())
        body = BytesIO()

        def keep(data: bytes) -> None:
            if body.tell() + len(data) > self._config.max_upstream_body_bytes:
                raise self._too_large()
            body.write(data)

        await self.pump(keep)
        return self._plain(body.getvalue())

    def _plain(self, body: bytes) -> bytes:
        """The body of a failure without the login of a proxy that has read the request, and may quote it."""
        proxy = self._proxy
        if self.status < 400 or proxy is None:
            return body
        return hide(body.decode("latin-1"), proxy.secrets).encode("latin-1")

    async def pump(self, feed: Feed, reply: Follower | None = None) -> None:
        if self._is_used:
            raise RuntimeError("the answer has been read already")
        self._is_used = True
        try:
            self._feed = feed
            if reply is not None:
                reply.follow(self)
            if self._kept:
                feed(self._take_kept())
            if self._error is None and self._connection is not None:
                self._connection.update_reading()
                self._waiter = self._loop.create_future()
                await self._waiter
            if self._error is not None:
                raise self._error
        finally:
            self._waiter = None
            if reply is not None:
                reply.follow(None)
            self.close()

    def _take_kept(self) -> bytes:
        kept, self._kept, self._kept_bytes = self._kept, [], 0
        return kept[0] if len(kept) == 1 else b"".join(kept)

    def close(self) -> None:
        self._feed = _ignore
        if self._connection is not None:
            self._connection.abort()

    def pause(self) -> None:
        self.is_slow = True
        if self._connection is not None:
            self._connection.update_reading()

    def resume(self) -> None:
        self.is_slow = False
        if self._connection is not None:
            self._connection.update_reading()

    def _too_large(self) -> UpstreamFailed:
        limit = self._config.max_upstream_body_bytes
        return UpstreamFailed(f"{self._place}: the answer is over {limit} bytes", code="bad_upstream")

    # -- the connection's side

    async def wait_for_head(self) -> None:
        """Returns when the head is there; raises what came instead."""
        is_good = False  # also false where the head comes and the waiting task is cancelled in the same moment
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
            if self._error is not None:
                raise self._error
            is_good = True
        finally:
            self._waiter = None
            if not is_good:
                self.close()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def take_head(self, status: int, headers: Headers) -> None:
        try:
            coding = coding_of(find(headers, "content-encoding"))
        except CodingError as error:
            raise UpstreamFailed(f"{self._place}: {error}", code="bad_upstream") from None
        if coding is not None:
            self._inflater = Inflater(coding)
            headers = tuple(pair for pair in headers if pair[0] not in ("content-encoding", "content-length"))
        self.status = status
        self.headers = headers
        self.has_head = True
        self._wake()

    def take(self, data: bytes) -> None:
        """The body's next bytes, in one piece a read. Raises what the feed raises."""
        if self._inflater is not None:
            try:
                data = self._inflater.decode(data, self._config.max_upstream_body_bytes)
            except TooLarge:
                raise self._too_large() from None
            except CodingError as error:
                raise UpstreamFailed(f"{self._place}: {error}", code="bad_upstream") from None
        if not data:
            return
        if self._feed is not None:
            self._feed(data)
        else:
            self._kept.append(data)
            self._kept_bytes += len(data)

    def finish(self) -> None:
        """The body is whole. Raises UpstreamFailed where its coding says otherwise."""
        if self._inflater is not None:
            try:
                self._inflater.finish()
            except CodingError as error:
                raise UpstreamFailed(f"{self._place}: {error}", code="bad_upstream") from None

    def end(self, error: Exception | None) -> None:
        """The connection lets go of this answer: whole, or failed."""
        self._error = error
        self._connection = None
        self._wake()


def _ignore(data: bytes) -> None:
    """The feed of an answer that nobody reads any more."""


# --- connections -----------------------------------------------------------------------------------------------


class _Connection(asyncio.BufferedProtocol):
    """One upstream connection, used for one answer after the other. `pool` counts it as long as it is open.

    `buffer` is where a read lands before h11 takes it over, within one callback, so all connections share one. Left to
    itself asyncio allocates 256 KiB for each read; where the heap has no such hole, that costs as much as all the rest
    (measured: 30 us a chunk instead of 17).
    """

    __slots__ = (
        "_answer",
        "_buffer",
        "_config",
        "_has_bytes",
        "_is_lost",
        "_is_write_paused",
        "_on_lost",
        "_outgoing",
        "_patience",
        "_reader",
        "_served",
        "_stamp",
        "_timer",
        "_transport",
        "_unsent",
        "loop",
        "origin",
        "pool",
    )

    def __init__(
        self, origin: Origin, config: Config, buffer: memoryview, on_lost: "Callable[[_Connection], None]"
    ) -> None:
        self.origin = origin
        self.pool: ConnectionPool[Any] | None = None
        self._buffer = buffer
        self._on_lost = on_lost
        self._config = config
        self.loop = asyncio.get_running_loop()  # kept: up to Python 3.11 asking for it is a system call
        self._transport: asyncio.Transport | None = None
        self._is_lost = False
        self._answer: _Answer | None = None
        self._reader: AnswerReader | None = None
        self._served = 0
        self._has_bytes = False
        self._stamp = 0.0  # of the last sign of life
        self._outgoing = _NOTHING  # of the request's body: not yet given to the transport
        self._is_write_paused = False
        self._unsent = 0
        self._timer: asyncio.TimerHandle | None = None
        self._patience = max(
            1.0,
            min(
                config.upstream_keepalive_seconds,
                config.upstream_idle_timeout_seconds,
                config.first_byte_timeout_seconds,
            ),
        )

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    @property
    def is_fit(self) -> bool:
        """Whether a resting connection can take a request: open, and nothing has come that the loop has not seen yet.
        An answer that nobody asked for would else be taken for the next one's, whosever that is."""
        return self.is_open and not _has_input(self._transport)

    # -- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=_PIECE_BYTES)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        answer = self._answer
        if answer is None:
            self.abort()  # bytes that nobody asked for: whose answer they are cannot be told
            return
        self._stamp = self.loop.time()
        self._has_bytes = True
        self._parse(answer, bytes(self._buffer[:nbytes]))

    def eof_received(self) -> None:
        answer = self._answer
        if answer is not None and answer.has_head and self._is_end_genuine():
            self._parse(answer, b"")  # ends a body that has no length; cuts any other
        self._lose_answer()
        self.abort()

    def _is_end_genuine(self) -> bool:
        """Whether upstream itself said that it ends. Under TLS anybody on the way can close the TCP connection, and a
        body without a length would pass for whole; only close_notify comes from upstream (RFC 9112, section 9.8)."""
        assert self._transport is not None
        tls = self._transport.get_extra_info("ssl_object")
        if tls is None:
            return True
        try:
            return bool(tls.read(1) == b"")
        except ssl.SSLZeroReturnError:
            return True
        except ssl.SSLError:
            return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._lose_answer()
        if self.pool is not None:
            self.pool.forget(self)
        self._on_lost(self)

    def _lose_answer(self) -> None:
        """Upstream has closed the connection under the answer, if there is one."""
        answer = self._answer
        if answer is None:
            return
        if self._served and not self._has_bytes:
            self._let_go(_Stale())
            return
        when = "within its answer" if answer.has_head else "before its answer"
        self._let_go(UpstreamFailed(f"{self.origin.place} closed the connection {when}", code="upstream_closed"))

    # -- an exchange

    def ask(self, method: str, head: bytes, body: bytes, deadline: float) -> _Answer:
        """Send the request. Its answer's head is to be waited for."""
        assert self._transport is not None
        answer = self._answer = _Answer(self, self._config, deadline)
        self._has_bytes = False
        self._reader = AnswerReader(method, self._config.max_header_bytes)
        self._stamp = self.loop.time()
        self._transport.write(head + body[:_PIECE_BYTES])
        self._outgoing = memoryview(body)[_PIECE_BYTES:] if len(body) > _PIECE_BYTES else _NOTHING
        self._send_on()
        self._unsent = self._count_unsent()
        self._arm()
        return answer

    def pause_writing(self) -> None:
        self._is_write_paused = True

    def resume_writing(self) -> None:
        self._is_write_paused = False
        self._send_on()

    def _send_on(self) -> None:
        while self._outgoing and not self._is_write_paused and self._transport is not None:
            piece, self._outgoing = self._outgoing[:_PIECE_BYTES], self._outgoing[_PIECE_BYTES:] or _NOTHING
            self._transport.write(piece)

    def _count_unsent(self) -> int:
        assert self._transport is not None
        return len(self._outgoing) + self._transport.get_write_buffer_size()

    def _parse(self, answer: _Answer, data: bytes) -> None:
        """Hand over all that can be read; no data is the end of the connection. Whatever a step raises is the end of
        the answer, not of the loop."""
        reader = self._reader
        assert reader is not None
        error: Exception | None = None
        body = reader.feed(data) if data else reader.feed_end()
        try:
            if not answer.has_head:
                if reader.informational > _MAX_INFORMATIONAL:
                    raise UpstreamFailed(f"{self.origin.place}: too many 1xx answers", code="bad_upstream")
                if reader.status:
                    answer.take_head(reader.status, reader.headers)
                    self._arm()
            if body:
                answer.take(body)
            if reader.is_whole:
                answer.finish()
            elif reader.error is not None:
                raise self._describe(reader.error, answer)
        except Exception as failure:  # also what the reader's feed raises, to be raised again from its pump
            error = failure
        if self._answer is not answer:  # the feed closed it
            return
        if error is not None:
            self._let_go(error)
            self.abort()
        elif reader.is_whole:
            self._let_go(None)
            self._end(reader)
        elif answer.is_paused:
            self.update_reading()

    def _describe(self, failure: h11.RemoteProtocolError, answer: _Answer) -> UpstreamFailed:
        place = self.origin.place
        if failure.error_status_hint == 431:
            return UpstreamFailed(f"{place}: the answer's headers are too long", code="bad_upstream")
        if "closed connection" in str(failure):
            return UpstreamFailed(f"{place} closed the connection within its answer", code="upstream_closed")
        part = "body" if answer.has_head else "head"
        # Not h11's words: they quote what came.
        return UpstreamFailed(f"{place}: the answer's {part} is not HTTP", code="bad_upstream")

    def _let_go(self, error: Exception | None) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.end(error)

    def _end(self, reader: AnswerReader) -> None:
        """After a whole answer: rest in the pool, or close where that is not safe."""
        transport = self._transport
        assert transport is not None
        can_rest = (
            reader.keeps_alive
            and not reader.rest
            and not transport.is_closing()
            and self._count_unsent() == 0
            and self.pool is not None
        )
        if not can_rest:
            self.abort()
            return
        assert self.pool is not None
        self._served += 1
        self._unsent = 0
        self._stamp = self.loop.time()
        self._arm()
        transport.resume_reading()  # the feed may have paused it within the last read
        self.pool.release(self)

    def abort(self) -> None:
        """Close at once. Bytes not sent and not read are lost."""
        self._let_go(UpstreamFailed(f"the answer of {self.origin.place} was given up", code="upstream_closed"))
        if self._transport is not None:
            self._transport.abort()
        if self.pool is not None:
            self.pool.forget(self)

    def update_reading(self) -> None:
        """Pause or resume the socket, whichever the answer wants."""
        answer, transport = self._answer, self._transport
        if answer is None or transport is None or transport.is_closing():
            return
        if answer.is_paused:
            transport.pause_reading()
        elif not transport.is_reading():
            self._stamp = self.loop.time()  # the silence so far was ours
            transport.resume_reading()
            self._arm()

    # -- time

    def _due(self) -> float:
        """When the next time-out passes if nothing happens until then."""
        answer, config = self._answer, self._config
        if answer is None:
            return self._stamp + config.upstream_keepalive_seconds
        if not answer.has_head:
            return min(answer.deadline, self._stamp + config.first_byte_timeout_seconds)
        if answer.is_paused:
            return answer.deadline
        return min(answer.deadline, self._stamp + config.upstream_idle_timeout_seconds)

    def _arm(self) -> None:
        due = self._due()
        if self._timer is None or self._timer.when() > due:
            if self._timer is not None:
                self._timer.cancel()
            # No later than any time-out to come is due, so that it needs no new timer: a request has three of them.
            self._timer = self.loop.call_at(min(due, self.loop.time() + self._patience), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        answer = self._answer
        if self._transport is None or self._is_lost:
            return
        now = self.loop.time()
        unsent = self._count_unsent()
        if unsent != self._unsent:  # the request is still leaving: that is a sign of life, too
            self._unsent = unsent
            self._stamp = now
        if now < self._due():
            self._arm()
            return
        if answer is not None:
            place, config = self.origin.place, self._config
            if now >= answer.deadline:
                message = f"{place}: the answer took over {config.total_timeout_seconds:g} s"
            elif answer.has_head:
                message = f"{place} was silent for {config.upstream_idle_timeout_seconds:g} s within its answer"
            else:
                message = f"{place} did not answer within {config.first_byte_timeout_seconds:g} s"
            self._let_go(UpstreamFailed(message, status=504, code="upstream_timeout"))
        self.abort()


def _has_input(transport: asyncio.BaseTransport | None) -> bool:
    """Whether bytes, or the end of the connection, wait in a socket. Costs 1 us."""
    sock = None if transport is None else transport.get_extra_info("socket")
    if sock is None:
        return False
    if sys.platform == "win32":
        return bool(select.select([sock], (), (), 0)[0])
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def _shutting_down() -> UpstreamFailed:
    return UpstreamFailed("the gateway is shutting down", status=503, retry=Retry.NEVER)


# --- the client ------------------------------------------------------------------------------------------------


class Client:
    """Sends calls. Connections are kept and used again; `close` cuts them all. egress, resolver: as `Dialer` has it."""

    def __init__(self, config: Config, egress: Egress | None, resolver: Resolver | None = None) -> None:
        self._config = config
        self._rules = ProxyRules(config.upstream_proxy, os.environ)
        self._dialer = Dialer(config, egress, resolver)
        self._buffer = memoryview(bytearray(_READ_BYTES))
        self._origin = lru_cache(maxsize=64)(self._find_origin)
        self._pools: dict[Origin, ConnectionPool[_Connection]] = {}
        self._connections: set[_Connection] = set()
        self._is_closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._settled: asyncio.Future[None] | None = None

    @property
    def open(self) -> int:
        """Connections that stand."""
        return len(self._connections)

    @property
    def config(self) -> Config:
        """The settings in force. Setting it is for connections to come; proxy and certificates stay."""
        return self._config

    @config.setter
    def config(self, config: Config) -> None:
        self._config = self._dialer.config = config
        self._origin.cache_clear()

    async def send(self, call: Call) -> _Answer:
        """The answer to a call, once its head has come. Raises UpstreamFailed, or Overloaded where no place is free.

        Redirects are not followed. A cancelled send closes its connection.
        """
        loop = self._loop = self._loop or asyncio.get_running_loop()
        deadline = loop.time() + self._config.total_timeout_seconds
        origin, head = self._prepare(call)
        connection = self._rested(origin) or await self._connect(origin, fresh=False)
        answer = connection.ask(call.method, head, call.body, deadline)
        try:
            await answer.wait_for_head()
            return answer
        except _Stale:
            pass
        # Once: a fresh connection cannot be stale, so what it raises is the answer.
        connection = await self._connect(origin, fresh=True)
        answer = connection.ask(call.method, head, call.body, deadline)
        await answer.wait_for_head()
        return answer

    async def close(self) -> None:
        """Cut every connection and wait until all are gone."""
        self._is_closed = True
        for connection in tuple(self._connections):
            connection.abort()
        if self._connections:
            self._settled = asyncio.get_running_loop().create_future()
            await self._settled

    # -- requests

    def _prepare(self, call: Call) -> tuple[Origin, bytes]:
        """Where a call goes, and its head."""
        match = _PLAIN_URL.fullmatch(call.url)
        origin, target = (self._origin(match[1])[0], match[2]) if match else self._origin(call.url)
        headers = [("host", origin.place), *call.headers]
        if origin.scheme == "http" and origin.proxy is not None and origin.proxy.scheme != "socks5":
            target = f"http://{origin.place}{target}"  # RFC 9112, 3.2.2
            if origin.proxy.authorization is not None:
                headers.append(("proxy-authorization", origin.proxy.authorization))
        if find(call.headers, "accept-encoding") is None:
            headers.append(("accept-encoding", "gzip"))
        if call.body or call.method in ("POST", "PUT", "PATCH"):
            headers.append(("content-length", str(len(call.body))))
        try:
            return origin, write_request(call.method, target, headers)
        except ValueError:
            raise UpstreamFailed(
                f"{origin.host}: the method, path or a header of the call holds characters that HTTP does not allow",
                code="upstream_call",
                retry=Retry.NEVER,
            ) from None

    def _find_origin(self, url: str) -> tuple[Origin, str]:
        """The origin of a URL, and its target."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            host, port = "", None
        if not host or parts.scheme not in PORTS or "@" in parts.netloc:
            raise UpstreamFailed("the upstream URL is not http(s)://host", code="upstream_url", retry=Retry.NEVER)
        scheme, port = parts.scheme, port or PORTS[parts.scheme]
        if scheme == "http" and not self._config.allow_plain_http and not is_loopback_host(host):
            raise UpstreamFailed(
                f"{host} is not called over plain http: keys would travel unencrypted (setting allow_plain_http)",
                code="upstream_url",
                retry=Retry.NEVER,
            )
        origin = Origin(scheme, host, port, self._rules.choose(scheme, host, port))
        return origin, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

    # -- connections

    def _rested(self, origin: Origin) -> _Connection | None:
        """A connection that rests, and is free for one call."""
        pool = self._pools.get(origin)
        if pool is None or self._is_closed:
            return None
        self._dialer.check(origin)  # a connection that rests may lead to what the configuration has no more
        return pool.take()

    async def _connect(self, origin: Origin, *, fresh: bool) -> _Connection:
        """A connection that is free for one call: a resting one, or a new one."""
        if self._is_closed:
            raise _shutting_down()
        self._dialer.check(origin)
        pool = self._pools.get(origin)
        if pool is None:
            pool = self._pools[origin] = ConnectionPool(self._config.max_upstream_connections)
        try:
            if pool.is_full:
                async with asyncio.timeout(self._config.connect_timeout_seconds):
                    connection = await pool.acquire(fresh=fresh)
            else:  # nothing to wait for, and a time-out costs as much as all the rest of this
                connection = await pool.acquire(fresh=fresh)
        except TimeoutError:
            message = f"all {self._config.max_upstream_connections} connections to {origin.place} are in use"
            raise Overloaded(message, retry_after_seconds=1) from None
        if connection is not None:
            return connection

        def factory() -> _Connection:
            return _Connection(origin, self._config, self._buffer, self._forget)

        try:
            connection = await self._dialer.dial(origin, factory)
        finally:
            if connection is None:
                pool.free()
                self._drop_empty_pool(origin)
        connection.pool = pool
        self._connections.add(connection)
        if self._is_closed:  # meanwhile
            connection.abort()
            raise _shutting_down()
        return connection

    def _forget(self, connection: _Connection) -> None:
        self._connections.discard(connection)
        self._drop_empty_pool(connection.origin)
        if self._settled is not None and not self._settled.done() and not self._connections:
            self._settled.set_result(None)

    def _drop_empty_pool(self, origin: Origin) -> None:
        pool = self._pools.get(origin)
        if pool is not None and pool.is_empty:
            del self._pools[origin]
