"""A Unix socket to listen on: its file, the file's mode, and what another process has left there.

A file that nobody listens on any more is replaced. One that somebody listens on, or that is no socket, never is.
"""

import contextlib
import errno
import logging
import os
import socket
import stat
import sys
from pathlib import Path

from ..errors import ConfigError
from .files import locked_in_passing
from .listen import BACKLOG

log = logging.getLogger("agproxy.server")

_LOCK_SECONDS = 5.0  # others hold it for less than a millisecond
_LIVE = frozenset({0, errno.EAGAIN, errno.EINPROGRESS})  # taken, or in the queue for it


def _identity(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


if sys.platform == "win32":

    def bind_unix(path: str, mode: int) -> socket.socket:
        """Python knows none on Windows."""
        raise ConfigError("listen_unix: there are no Unix sockets on Windows; use host and port")

else:

    class _Listener(socket.socket):
        """A socket whose file goes when it is closed: by the process that made it, not by one that inherits it, and
        only where the file is still its own. That is sure as long as the socket holds the file's inode, whose number
        the file of a successor would else be given: so the file goes first."""

        def __init__(self, path: str) -> None:
            super().__init__(socket.AF_UNIX, socket.SOCK_STREAM)
            self._path = path
            self._file: tuple[int, int] | None = None
            self._owner = os.getpid()

        def listen_at(self, mode: int) -> None:
            # Alone: between its bind and its listen, another start would take the file for one that was left.
            with locked_in_passing(Path(self._path), _LOCK_SECONDS):
                self._listen_alone(mode)

        def _listen_alone(self, mode: int) -> None:
            try:
                self.bind(self._path)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                _remove_stale(self._path)
                self.bind(self._path)
            self._file = _identity(self._path)
            os.chmod(self._path, mode)  # before it listens: until then nobody can connect
            self.listen(BACKLOG)

        def close(self) -> None:
            if self._file is not None and self._owner == os.getpid():
                try:
                    if _identity(self._path) == self._file:
                        os.unlink(self._path)
                except FileNotFoundError:  # somebody has tidied up
                    pass
                except OSError as error:
                    log.warning("%s cannot be removed: %s", self._path, error.strerror)
            self._file = None
            super().close()

    def bind_unix(path: str, mode: int) -> socket.socket:
        """A socket that listens at a path. Closing it removes its file. mode: of the file, whatever the umask.

        Raises ConfigError that says why it cannot be had.
        """
        if "\0" in path:
            raise ConfigError("listen_unix: the path has a NUL in it")
        listener = _Listener(os.path.abspath(path))
        try:
            listener.listen_at(mode)
        except OSError as error:
            listener.close()
            raise ConfigError(f"cannot listen on {path}: {error.strerror or error}") from None
        except ConfigError:
            listener.close()
            raise
        return listener

    def _remove_stale(path: str) -> None:
        """Remove the socket that a process which is gone has left. Raises ConfigError where that is not sure."""
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise ConfigError(f"cannot listen on {path}: it exists, and is no socket")
        found = _identity(path)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            code = probe.connect_ex(path)
        if code in _LIVE:
            raise ConfigError(f"cannot listen on {path}: another process does")
        if code not in (errno.ECONNREFUSED, errno.ENOENT):
            raise ConfigError(f"cannot listen on {path}: it exists, and cannot be tried: {os.strerror(code)}")
        with contextlib.suppress(FileNotFoundError):
            if _identity(path) == found:
                os.unlink(path)
