"""From an origin to an open connection: its name's addresses, TCP, the proxy's handshake, TLS.

Every socket that leads out of this process is made here, once `egress` has said that it may.

Follows RFC 8305 for hosts with several addresses, RFC 8446 and RFC 9110, section 4.3.4 for TLS by way of the ssl
module's defaults. Knows nothing of HTTP beyond the proxy's handshake. All that can go wrong is raised as
UpstreamFailed, which names the host and the cause.
"""

import asyncio
import ipaddress
import itertools
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import certifi

from ..config import Config
from ..errors import Retry, UpstreamFailed
from .egress import Egress
from .names import Names
from .proxy import PORTS, Dialogue, Proxy, join_host, open_tunnel

# RFC 8305, section 8: how long one address may be silent before the next one is tried beside it.
_NEXT_ADDRESS_SECONDS = 0.25

_P = TypeVar("_P", bound=asyncio.BaseProtocol)
_Address = tuple[int, Any]  # a family, and what sockets of this family take for an address
Resolver = Callable[[str, int], Awaitable[list[_Address]]]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a connection leads. Connections of one origin are interchangeable."""

    scheme: str
    host: str
    port: int
    proxy: Proxy | None
    place: str = field(init=False, compare=False)
    """Host and port as the Host header has them."""

    def __post_init__(self) -> None:
        place = join_host(self.host, None if self.port == PORTS[self.scheme] else self.port)
        object.__setattr__(self, "place", place)

    def __hash__(self) -> int:
        return hash(self.place)  # that of four values costs each request 1 us


class Dialer:
    """Opens connections. Keeps the TLS context, made at the first need, and knows which names are being looked up.

    egress: where connections may lead; None for whoever has a rule of its own (`fetch`). resolver: gives a host's
    addresses, the only ones that are connected to; may raise what is to end the dialling.
    """

    def __init__(self, config: Config, egress: Egress | None, resolver: Resolver | None = None) -> None:
        self.config = config
        self._egress = egress
        self._names = Names()
        self._resolver = resolver or self.resolve
        self._context: ssl.SSLContext | None = None

    def check(self, origin: Origin) -> None:
        """Raises UpstreamFailed for an origin, or a proxy, that is no host of the configuration."""
        if self._egress is not None:
            self._egress.check(origin.host, origin.port)
            if origin.proxy is not None:
                self._egress.check(origin.proxy.host, origin.proxy.port)

    async def dial(self, origin: Origin, factory: Callable[[], _P]) -> _P:
        """A protocol made by `factory`, connected to the origin."""
        self.check(origin)
        seconds = self.config.connect_timeout_seconds
        place = origin.place if origin.proxy is None else f"{origin.place} through {origin.proxy.place}"
        try:
            async with asyncio.timeout(seconds):
                return await self._dial(origin, factory)
        except TimeoutError:
            message = f"{place}: no connection within {seconds:g} s"
            raise UpstreamFailed(message, status=504, code="upstream_timeout") from None
        except ssl.SSLCertVerificationError as error:
            message = f"{place}: its TLS certificate is not trusted: {error.verify_message}"
            raise UpstreamFailed(message, code="upstream_tls") from None
        except ssl.SSLError as error:
            words = (error.reason or "the handshake failed").replace("_", " ").lower()
            raise UpstreamFailed(f"{place}: TLS: {words}", code="upstream_tls") from None
        except (socket.gaierror, UnicodeError):  # the latter for what can be no name
            raise UpstreamFailed(f"{place}: the host name cannot be resolved", code="upstream_connect") from None
        except OSError as error:
            words = os.strerror(error.errno) if error.errno else "the connection was closed"
            raise UpstreamFailed(f"{place}: cannot connect: {words}", code="upstream_connect") from None

    async def _dial(self, origin: Origin, factory: Callable[[], _P]) -> _P:
        proxy = origin.proxy
        if proxy is None:
            return await self._open(factory, origin.host, origin.port, origin.scheme == "https")
        if origin.scheme == "http" and proxy.scheme != "socks5":
            return await self._open(factory, proxy.host, proxy.port, proxy.scheme == "https")
        dialogue = await self._open(Dialogue, proxy.host, proxy.port, proxy.scheme == "https")
        is_open = False
        try:
            await open_tunnel(dialogue, proxy, origin.host, origin.port)
            protocol = factory()
            if origin.scheme == "https":
                transport = await asyncio.get_running_loop().start_tls(
                    dialogue.transport, protocol, self._tls(), server_hostname=origin.host
                )
                if transport is None:  # closed in the same moment
                    raise ConnectionResetError
                protocol.connection_made(transport)
            else:
                dialogue.transport.set_protocol(protocol)
                protocol.connection_made(dialogue.transport)
            is_open = True
            return protocol
        finally:
            if not is_open:
                dialogue.transport.abort()

    async def _open(self, factory: Callable[[], _P], host: str, port: int, has_tls: bool) -> _P:
        """TCP, and TLS over it where wanted."""
        tls = self._tls() if has_tls else None
        sock = await _connect(await self._resolver(host, port))
        # From here on asyncio owns the socket and closes it if this is cancelled.
        _, protocol = await asyncio.get_running_loop().create_connection(
            factory, sock=sock, ssl=tls, server_hostname=host if tls else None
        )
        return protocol

    async def resolve(self, host: str, port: int) -> list[_Address]:
        """The host's addresses in the order to try: as the system prefers them, but families taking turns."""
        try:
            version = ipaddress.ip_address(host).version
            return [(socket.AF_INET if version == 4 else socket.AF_INET6, (host, port))]
        except ValueError:
            pass
        found = await self._names.look_up(host, port)
        addresses: list[_Address] = [(family, address) for family, _, _, _, address in found]
        first = [address for address in addresses if address[0] == addresses[0][0]]
        others = [address for address in addresses if address[0] != addresses[0][0]]
        return [address for pair in itertools.zip_longest(first, others) for address in pair if address is not None]

    def _tls(self) -> ssl.SSLContext:
        """TLS as browsers do it; made late, since reading the certificates takes as long as the rest of start-up."""
        if self._context is None:
            file = self.config.ca_file or os.environ.get("SSL_CERT_FILE", "")
            try:
                if file:
                    context = ssl.create_default_context(cafile=file)
                else:
                    # As text, not by path: inside a zipapp there is no path.
                    context = ssl.create_default_context(cadata=certifi.contents())
            except OSError as error:  # ssl.SSLError, too
                words = (error.reason if isinstance(error, ssl.SSLError) else error.strerror) or "not certificates"
                words = words.replace("_", " ").lower()
                message = f"the CA certificates in {file or 'certifi'} cannot be used: {words}"
                raise UpstreamFailed(message, code="upstream_tls", retry=Retry.NEVER) from None
            context.set_alpn_protocols(["http/1.1"])
            self._context = context
        return self._context


async def open_plain(egress: Egress, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection without TLS and proxy: to the metadata server, which has neither. Raises UpstreamFailed, OSError."""
    egress.check(host, port)
    found = await Names().look_up(host, port)
    return await asyncio.open_connection(sock=await _connect([(family, where) for family, _, _, _, where in found]))


async def _connect(addresses: Sequence[_Address]) -> socket.socket:
    """A socket connected to whichever address answers first; each later one starts a little later.

    asyncio's own way to do this (happy_eyeballs_delay) loses sockets when it is cancelled (Python 3.11).
    """
    if len(addresses) == 1:
        return await _connect_one(addresses[0])
    waiting = list(addresses)
    tasks: set[asyncio.Task[socket.socket]] = set()
    errors: list[BaseException] = []
    try:
        while waiting or tasks:
            if waiting:
                tasks.add(asyncio.create_task(_connect_one(waiting.pop(0))))
            patience = _NEXT_ADDRESS_SECONDS if waiting else None
            done, _ = await asyncio.wait(tasks, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                error = task.exception()
                tasks.discard(task)
                if error is None:
                    return task.result()
                errors.append(error)
        raise errors[0]
    finally:
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, socket.socket):  # connected in the same moment as the one that is returned
                result.close()


async def _connect_one(address: _Address) -> socket.socket:
    family, where = address
    # asyncio sets TCP_NODELAY only where the protocol is named
    protocol = socket.IPPROTO_TCP if family in (socket.AF_INET, socket.AF_INET6) else 0
    sock = socket.socket(family, socket.SOCK_STREAM, protocol)
    is_connected = False
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, where)
        is_connected = True
        return sock
    finally:
        if not is_connected:
            sock.close()
