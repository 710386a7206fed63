"""Small files that several processes change: replaced in one step, under a lock that dies with its holder.

A change goes: lock -> read -> change -> new file beside the old one, 0600, synced -> it takes the old one's place in
one step -> folder synced. Whoever reads sees the old file or the new one, and a process killed anywhere in between
leaves one of them, at worst with a stray `.tmp` beside it.

The lock is a file of its own, NAME.lock, since the file itself is replaced by another with every change. The operating
system holds it (flock; on Windows a locked byte) and lets go when the process dies, so it is never stale and never
deleted; the pid in it only serves the message for who waits in vain.
"""

import contextlib
import errno
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from ..errors import ConfigError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

T = TypeVar("T")

_PAUSE_SECONDS = 0.005
# On Windows a locked byte cannot be read: one far behind the pid leaves that readable.
_LOCKED_BYTE = 1 << 20
_WINDOWS_TRIES = 50
# What file systems say that cannot sync a folder; the change itself is in place by then.
_NO_FOLDER_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF})


@contextlib.contextmanager
def explained(file: Path, outcome: str) -> Iterator[None]:
    """The operating system's errors as ConfigError."""
    try:
        yield
    except OSError as error:
        place = f" ({error.filename})" if error.filename is not None and str(error.filename) != str(file) else ""
        raise ConfigError(f"{file}: {outcome}: {error.strerror or error}{place}") from None


def patiently(action: Callable[[], T]) -> T:
    """Windows refuses to open a file while it is being replaced, and to replace it while it is read: try for a second.

    Elsewhere neither disturbs the other.
    """
    if sys.platform == "win32":
        for _ in range(_WINDOWS_TRIES):
            with contextlib.suppress(PermissionError):
                return action()
            time.sleep(1 / _WINDOWS_TRIES)
    return action()


def replace_file(target: Path, data: bytes) -> None:
    """Put data in the file's place, in one step and for good."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    write_new(temporary, data)
    try:
        _advance_time(temporary, target)
        patiently(lambda: temporary.replace(target))
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(target.parent)


def keep_aside(target: Path, data: bytes) -> Path:
    """Write data to a file of its own beside the target. The target stays, so that nothing is missing at any time."""
    when = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    for number in itertools.count(1):
        kept = target.with_name(f"{target.name}.corrupt-{when}" + (f"-{number}" if number > 1 else ""))
        with contextlib.suppress(FileExistsError):
            write_new(kept, data)
            break
    _sync_folder(target.parent)
    return kept


def write_new(file: Path, data: bytes) -> None:
    """Write a private file that was not there, whole and on the disk, or not at all. Raises FileExistsError."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    is_whole = False
    try:
        with open(descriptor, "wb") as stream:
            _make_private(descriptor, file.parent)
            stream.write(data)
            stream.flush()
            _sync(descriptor)
        is_whole = True
    finally:
        if not is_whole:
            file.unlink()


def _make_private(descriptor: int, folder: Path) -> None:
    """0600 whatever the umask; what root writes (sudo, containers) belongs to the folder's owner, who must read it."""
    if sys.platform == "win32":
        return
    os.fchmod(descriptor, 0o600)
    owner = os.stat(folder)
    if os.geteuid() == 0 and owner.st_uid != 0:
        with contextlib.suppress(PermissionError):  # a root that may give nothing away: then it is root's
            os.fchown(descriptor, owner.st_uid, owner.st_gid)


def _advance_time(temporary: Path, target: Path) -> None:
    """Make the new file's time later than the old one's, so that `stamp` differs though the clock stood still.

    Kernels count file times in steps of milliseconds, and an inode freed by one change may serve the next but one.
    """
    try:
        last = os.stat(target).st_mtime_ns
    except FileNotFoundError:
        return
    if os.stat(temporary).st_mtime_ns <= last:
        os.utime(temporary, ns=(last + 1000, last + 1000))


def _sync(descriptor: int) -> None:
    if sys.platform == "darwin":
        with contextlib.suppress(OSError):  # fsync there stops at the disk's cache; not every file system knows this
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
    os.fsync(descriptor)


def _sync_folder(folder: Path) -> None:
    """Make a new name in a folder last. Windows opens no folders; NTFS keeps a journal of names itself."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)


# --- the lock --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def locked(target: Path, seconds: float) -> Iterator[None]:
    """Hold the lock of a file. Raises ConfigError where another process holds it for all these seconds."""
    file = target.with_name(target.name + ".lock")
    descriptor = _open_lock(file)
    try:
        if not _wait_for(descriptor, time.monotonic() + seconds):
            raise ConfigError(f"{target}: was not changed: {_holder(descriptor)} has held {file} for {seconds:g} s")
        try:
            _write_pid(descriptor, b"%d\n" % os.getpid())
            yield
        finally:
            _write_pid(descriptor, b"")
            unlock(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked_in_passing(target: Path, seconds: float) -> Iterator[None]:
    """As `locked`, but the lock's file goes with the lock: it would keep other users from the name. Not for Windows,
    where no open file can go. Raises OSError, ConfigError."""
    file = target.with_name(target.name + ".lock")
    deadline = time.monotonic() + seconds
    descriptor = None
    while descriptor is None:
        descriptor = _try_to_hold(file, deadline)
        if descriptor is None and time.monotonic() >= deadline:
            raise ConfigError(f"{target}: another process has held {file} for {seconds:g} s")
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):  # somebody has tidied up
            file.unlink()
        os.close(descriptor)


def _try_to_hold(file: Path, deadline: float) -> int | None:
    """A descriptor of the file that holds its lock; None where it was not to be had, or was of a file that has gone,
    whose lock keeps nobody out."""
    try:
        descriptor = _open_lock(file)
    except FileNotFoundError:
        if not file.parent.is_dir():
            raise
        return None
    is_held = False
    try:
        if _wait_for(descriptor, deadline):
            with contextlib.suppress(FileNotFoundError):
                is_held = os.path.samestat(os.fstat(descriptor), os.lstat(file))
    finally:
        if not is_held:
            os.close(descriptor)
    return descriptor if is_held else None


def _wait_for(descriptor: int, deadline: float) -> bool:
    """Whether the lock was to be had until then, by the monotonic clock."""
    while not try_lock(descriptor):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_PAUSE_SECONDS)
    return True


def _open_lock(file: Path) -> int:
    # Not through a link, which would have another file emptied for the pid. Windows has no such flag.
    flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0)
    try:
        descriptor = os.open(file, flags | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return os.open(file, flags)
    _make_private(descriptor, file.parent)
    return descriptor


def _write_pid(descriptor: int, text: bytes) -> None:
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.ftruncate(descriptor, 0)
    os.write(descriptor, text)


def _holder(descriptor: int) -> str:
    os.lseek(descriptor, 0, os.SEEK_SET)
    text = os.read(descriptor, 32).strip()
    return f"process {text.decode()}" if text.isdigit() else "another process"


if sys.platform == "win32":

    def try_lock(descriptor: int) -> bool:
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

    def unlock(descriptor: int) -> None:
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:

    def try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
