"""What systemd and a service tell each other: sockets that it hands over, and where the service is in its life.

The protocols of sd_listen_fds(3) and sd_notify(3), by the environment and a datagram socket. Other supervisors speak
them, too; where nobody does, nothing happens. What was told is taken out of the environment: it is for this process
alone.
"""

import asyncio
import logging
import os
import socket
import sys
import time
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager

from ..errors import ConfigError

log = logging.getLogger("agproxy.systemd")

_FIRST_DESCRIPTOR = 3
_SEND_SECONDS = 1.0


# --- sockets ---------------------------------------------------------------------------------------------------


def take_listeners(environ: MutableMapping[str, str]) -> list[socket.socket] | None:
    """The listening sockets that were handed to this process; None where none were. Raises ConfigError for what is
    none that HTTP can be spoken on."""
    pid, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    names = environ.pop("LISTEN_FDNAMES", "").split(":")
    environ.pop("LISTEN_PIDFDID", None)
    if sys.platform == "win32" or pid != str(os.getpid()) or count in ("", "0"):
        return None
    if not (count.isascii() and count.isdigit()):
        raise ConfigError(f"LISTEN_FDS: a number was expected, not {count[:20]!r}")
    taken = []
    for number in range(int(count)):
        name = names[number] if number < len(names) and names[number] else f"number {number + 1}"
        taken.append(_take(_FIRST_DESCRIPTOR + number, name[:100]))
    return taken


def _take(descriptor: int, name: str) -> socket.socket:
    try:
        os.set_inheritable(descriptor, False)
        sock = socket.socket(fileno=descriptor)
    except OSError as error:
        raise ConfigError(f"the socket {name} that was handed over cannot be used: {error.strerror}") from None
    is_ours = sock.family in (socket.AF_INET, socket.AF_INET6) or sock.family == getattr(socket, "AF_UNIX", None)
    if not is_ours or sock.type != socket.SOCK_STREAM or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.close()
        raise ConfigError(
            f"the socket {name} that was handed over does not listen for streams: ListenStream= and Accept=no do"
        )
    return sock


# --- life ------------------------------------------------------------------------------------------------------


class Notifier:
    """Tells the supervisor when the service is ready, reads its settings anew, and stops; and that its event loop still
    turns. address: of the supervisor's socket, empty for none; watchdog_seconds: how long it may be silent."""

    def __init__(self, address: str = "", watchdog_seconds: float | None = None) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._watchdog_seconds = watchdog_seconds
        self._status = ""
        self._has_failed = False

    @classmethod
    def taken(cls, environ: MutableMapping[str, str]) -> "Notifier":
        """By what the environment says."""
        address = environ.pop("NOTIFY_SOCKET", "")
        microseconds, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
        is_watched = microseconds.isascii() and microseconds.isdigit() and pid in ("", str(os.getpid()))
        return cls(address, int(microseconds) / 1e6 if is_watched and int(microseconds) else None)

    def ready(self, status: str = "") -> None:
        """It serves, for the first time or again. status: for people; empty: as before."""
        self._status = status or self._status
        self._tell("READY=1", f"STATUS={self._status}")

    def reloading(self) -> None:
        """It reads its settings; `ready` follows."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", "STATUS=Reading settings anew")

    def stopping(self) -> None:
        """It has begun to stop, which takes as long as open answers do."""
        self._tell("STOPPING=1", "STATUS=Letting open answers end")

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Within the block it says in time that the event loop turns."""
        if self._watchdog_seconds is None:
            yield
            return
        loop = asyncio.get_running_loop()
        pause = self._watchdog_seconds / 2
        timer: asyncio.TimerHandle

        def live() -> None:
            nonlocal timer
            self._tell("WATCHDOG=1")
            timer = loop.call_later(pause, live)

        live()
        try:
            yield
        finally:
            timer.cancel()

    def _tell(self, *lines: str) -> None:
        """Send a message. One that cannot be sent is a line in the log, the first time."""
        if not self._address or sys.platform == "win32":
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.settimeout(_SEND_SECONDS)
                sock.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            if not self._has_failed:
                log.warning("the supervisor cannot be told %s: %s", lines[0], error.strerror or error)
            self._has_failed = True
