"""Sockets that listen: made from hosts and a port, or inherited from who started the process; and letting clients in.

Knows addresses and socket options; must not know what is spoken on the connections, which `server` does.
"""

import asyncio
import contextlib
import errno
import logging
import os
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..errors import ConfigError
from ..http11 import UNIX

log = logging.getLogger("agproxy.server")

# Out of file descriptors: asking again at once would spin.
ACCEPT_PAUSE_SECONDS = 1.0
_ACCEPTS_PER_TURN = 64
_TCP = frozenset({socket.AF_INET, socket.AF_INET6})

BACKLOG = 1024
_BIND_ATTEMPTS = 20
_SHARED: int | None = getattr(socket, "SO_REUSEPORT", None)
_NO_IPV6 = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT})


def bind(hosts: Sequence[str], port: int, *, reuse_port: bool = False) -> list[socket.socket]:
    """Listening sockets for every address of all hosts, on one port; 0 takes a port that is free for all of them.

    reuse_port: others of the same user may listen there too, where each of their sockets has said so; the kernel
    shares the connections out. Blocks while a host name is looked up: addresses and `localhost` are not. Raises
    ConfigError naming the address that cannot be had.
    """
    if reuse_port and _SHARED is None:
        raise ConfigError("this platform cannot share a port between processes")
    attempt = 1
    while True:
        listeners: list[socket.socket] = []
        try:
            for host in dict.fromkeys(hosts):
                for family, address in _addresses(host):
                    wanted = listeners[0].getsockname()[1] if listeners else port
                    if (listener := _listen(family, address, wanted, host, reuse_port)) is not None:
                        listeners.append(listener)
            return listeners
        except OSError as error:
            close_all(listeners)
            # A port that was free for the first address may be taken for the second: draw another.
            if port != 0 or not listeners or attempt == _BIND_ATTEMPTS:
                place = f"{', '.join(hosts)} port {port}"
                raise ConfigError(f"cannot listen on {place}: {error.strerror}; choose another host or port") from None
            attempt += 1


def bound(listeners: Iterable[socket.socket]) -> tuple[tuple[str, int], ...]:
    """(address, port) of each that has one."""
    return tuple(listener.getsockname()[:2] for listener in listeners if listener.family in _TCP)


def paths(listeners: Iterable[socket.socket]) -> tuple[str, ...]:
    """The path of each Unix socket; @name of one that has no file."""
    names = (listener.getsockname() for listener in listeners if listener.family not in _TCP)
    return tuple(name if isinstance(name, str) else "@" + name[1:].decode("utf-8", "replace") for name in names)


def urls(bound: Iterable[tuple[str, int]], *, has_tls: bool) -> tuple[str, ...]:
    """The base URLs for clients."""
    scheme = "https" if has_tls else "http"
    return tuple(f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}/v1" for host, port in bound)


def close_all(listeners: Iterable[socket.socket]) -> None:
    for listener in listeners:
        listener.close()


def _addresses(host: str) -> list[tuple[int, str]]:
    """Address family and address of each that a host name stands for."""
    if host == "localhost":
        # Not by the resolver: clients try either, and what listens on only one is reached by half of them.
        return [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((int(family), str(address[0])) for family, _, _, _, address in found))


def _listen(family: int, address: str, port: int, host: str, reuse_port: bool) -> socket.socket | None:
    """A listening socket; None where the second half of `localhost` does not exist on this machine."""
    sock = None
    try:
        sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        sock.setblocking(False)
        if os.name == "posix":  # elsewhere it would let two servers share a port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port and _SHARED is not None:
            sock.setsockopt(socket.SOL_SOCKET, _SHARED, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address, port))
        sock.listen(BACKLOG)
    except OSError as error:
        if sock is not None:
            sock.close()
        if host == "localhost" and family == socket.AF_INET6 and error.errno in _NO_IPV6:
            return None
        raise
    return sock


class Door:
    """Lets clients in by one listening socket: `enter` is called with each accepted socket and its peer's address,
    and has the socket from then on. The door closes its own."""

    def __init__(self, listener: socket.socket, enter: Callable[[socket.socket, str], None]) -> None:
        self._listener = listener
        self._is_tcp = listener.family in _TCP
        self._enter = enter
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        self._listener.setblocking(False)
        try:
            self._watch()
        except NotImplementedError:  # Windows' usual loop
            self._task = self._loop.create_task(self._accept_each())

    async def close(self) -> None:
        """Stop, and close the socket. What the system has accepted and nobody has seen, it resets."""
        if self._pause is not None:
            self._pause.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        else:
            self._loop.remove_reader(self._listener)
        self._listener.close()

    def _watch(self) -> None:
        # Not sock_accept: cancelled between the accepting and its own end, it forgets the new socket.
        self._pause = None
        self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        """Let in who waits, some at a time: those who are in want a turn, too."""
        for _ in range(_ACCEPTS_PER_TURN):
            try:
                sock, address = self._listener.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                _complain(error)
                self._loop.remove_reader(self._listener)
                self._pause = self._loop.call_later(ACCEPT_PAUSE_SECONDS, self._watch)
                return
            self._let_in(sock, address)

    async def _accept_each(self) -> None:
        """The same for a loop that has no readers. Its forgotten socket, if there is one, the finalizer closes."""
        while True:
            try:
                sock, address = await self._loop.sock_accept(self._listener)
            except ConnectionAbortedError:
                continue
            except OSError as error:
                _complain(error)
                await asyncio.sleep(ACCEPT_PAUSE_SECONDS)
                continue
            self._let_in(sock, address)

    def _let_in(self, sock: socket.socket, address: Any) -> None:
        sock.setblocking(False)
        if self._is_tcp:  # asyncio does so only where the listener was made with IPPROTO_TCP
            with contextlib.suppress(OSError):  # BSDs say so of a client that has gone already
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._enter(sock, address[0] if self._is_tcp else UNIX)


def _complain(error: OSError) -> None:
    # EMFILE and its kin: the connection stays in the queue.
    log.warning("cannot accept connections: %s", error.strerror)
