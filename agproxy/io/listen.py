"""Sockets that listen: made from hosts and a port, or inherited from who started the process.

Knows addresses and socket options; must not know what is spoken on the connections. `server` lets clients in by them.
"""

import errno
import os
import socket
from collections.abc import Iterable, Sequence

from ..errors import ConfigError

_BACKLOG = 1024
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
    """(address, port) of each."""
    return tuple(listener.getsockname()[:2] for listener in listeners)


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
        sock.listen(_BACKLOG)
    except OSError as error:
        if sock is not None:
            sock.close()
        if host == "localhost" and family == socket.AF_INET6 and error.errno in _NO_IPV6:
            return None
        raise
    return sock
