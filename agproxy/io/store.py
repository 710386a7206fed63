"""The accounts file on disk: read without a lock, changed by one process at a time, whole at every moment.

A change goes: lock -> read -> change -> new file beside the old one, 0600, synced -> it takes the old one's place in
one step -> folder synced. Whoever reads sees the old file or the new one, and a process killed anywhere in between
leaves one of them, at worst with a stray `.tmp` beside it that the next change removes.

The lock is a file of its own, `accounts.json.lock`, since the accounts file itself is replaced by another with every
change. The operating system holds it (flock; on Windows a locked byte) and lets go when the process dies, so it is
never stale and never deleted; the pid in it only serves the message for who waits in vain.

Knows files, locks and permissions. What the file says is `accounts`' matter. All that the operating system raises
becomes a ConfigError that names the file.
"""

import contextlib
import errno
import itertools
import os
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from .. import accounts
from ..accounts import BadDocument, Document, NewerDocument
from ..errors import ConfigError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

T = TypeVar("T")
Stamp = tuple[int, int, int]

FILE = "accounts.json"
LOCK_SECONDS = 10.0  # a change takes milliseconds; who holds the lock longer is stopped or on a dead network disk
_PAUSE_SECONDS = 0.005
# On Windows a locked byte cannot be read: one far behind the pid leaves that readable.
_LOCKED_BYTE = 1 << 20
_WINDOWS_TRIES = 50
# A folder that holds only these is agproxy's own, and may be closed to others.
_OWN_PREFIXES = ("accounts.json", ".accounts.json.", "config.json")
# What file systems say that cannot sync a folder; the change itself is in place by then.
_NO_FOLDER_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF})


class AccountStore:
    """The accounts.json of a home folder. `warn` is told what was put right, one sentence each.

    A symbolic link in the file's place is followed: its target is what gets replaced, with the lock beside it.
    """

    def __init__(self, home: Path, warn: Callable[[str], None], *, lock_seconds: float = LOCK_SECONDS) -> None:
        self.file = home / FILE
        self._home = home
        self._warn = warn
        self._lock_seconds = lock_seconds

    def stamp(self) -> Stamp | None:
        """Changes with every change of the file; None where there is no file. One system call, fit for polling.

        Take it before `load`: a change in between then shows as one more, and none is missed.
        """
        try:
            seen = os.stat(self.file)
        except OSError:  # what keeps the file from being read, `load` says
            return None
        return seen.st_mtime_ns, seen.st_size, seen.st_ino

    def load(self) -> Document:
        """What the file says; an empty document where there is none. Takes no lock, changes nothing but permissions.

        Raises ConfigError where the file cannot be used.
        """
        with _explained(self.file, "cannot be read"):
            data = self._read()
        try:
            return self._decode(data)
        except BadDocument as error:
            raise ConfigError(
                f"{self.file}: not an accounts file: {error}. Nothing in it was changed. Mend it, or move it away; "
                "'agproxy accounts add' keeps it under another name and begins a new one"
            ) from None

    def update(
        self, change: Callable[[Document], Document], *, replaces_unusable: bool = False
    ) -> tuple[Document, Document]:
        """Change the file under the lock, so that no other process's change is lost; the document before and after.

        `change` gets what the file says at that moment; what it raises leaves the file as it is, and so does a change
        that changes nothing. replaces_unusable: a file that is no accounts document is kept under another name, and
        `change` starts from an empty one; else that is a ConfigError, as is everything else that forbids writing.
        """
        with _explained(self.file, "was not changed"):
            target = self._prepare()
            with _locked(target, self._lock_seconds):
                self._remove_strays(target)
                before = self._read_or_set_aside(target) if replaces_unusable else self.load()
                after = change(before)
                if after != before:
                    _replace(target, accounts.encode(after))
        return before, after

    # --- reading

    def _read(self) -> bytes | None:
        try:
            with _patiently(lambda: self.file.open("rb")) as stream:
                self._close_to_others(stream.fileno())
                return stream.read()
        except FileNotFoundError:
            self._behind_links()
            return None

    def _behind_links(self) -> Path:
        """The path of the file behind all links. A link to nothing is no empty store: perhaps a disk is missing."""
        target = Path(os.path.realpath(self.file))
        if self.file.is_symlink() and not target.exists():
            raise ConfigError(f"{self.file}: a link to {target}, which is not there")
        return target

    def _decode(self, data: bytes | None) -> Document:
        """Raises BadDocument, or ConfigError for a file that only a newer agproxy may touch."""
        if data is None:
            return Document()
        try:
            document = accounts.decode(data)
        except NewerDocument as error:
            raise ConfigError(f"{self.file}: {error}") from None
        for notice in document.notices:
            self._warn(f"{self.file}: {notice}")
        return document

    def _close_to_others(self, descriptor: int) -> None:
        """Repair the permissions of the open file; a file system that keeps none is told of."""
        if sys.platform == "win32":  # the profile's access list is what protects it there
            return
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
        if not mode & 0o077:
            return
        found = f"{self.file}: others on this machine could read it (mode {mode:04o})"
        try:
            os.fchmod(descriptor, mode & 0o700)
        except OSError as error:
            self._warn(f"{found}, and still can: {error.strerror}")
            return
        if stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o077:
            self._warn(f"{found}, and still can: its file system keeps no permissions")
        else:
            self._warn(f"{found}; now only its owner can. If that matters, make new keys")

    # --- writing

    def _prepare(self) -> Path:
        """Make the home folder, or see that it is closed to others; the path of the file behind all links."""
        try:
            self._home.mkdir(mode=0o700, parents=True)
        except FileExistsError:
            self._close_folder()
        else:
            os.chmod(self._home, 0o700)  # whatever the umask left of it
        return self._behind_links()

    def _close_folder(self) -> None:
        """Take the home folder's permissions from others, if it is agproxy's alone: `--home .` may be anything."""
        if sys.platform == "win32":
            return
        seen = os.stat(self._home)
        mode = stat.S_IMODE(seen.st_mode)
        if not mode & 0o077 or not stat.S_ISDIR(seen.st_mode):
            return
        found = f"{self._home}: others on this machine can look into this folder (mode {mode:04o})"
        if not all(name.startswith(_OWN_PREFIXES) for name in os.listdir(self._home)):
            self._warn(f"{found}; it holds other things too, so it was left. The keys are in a file that is closed")
            return
        try:
            os.chmod(self._home, 0o700)
        except OSError as error:
            self._warn(f"{found}: {error.strerror}")
        else:
            self._warn(f"{found}; now only its owner can")

    def _remove_strays(self, target: Path) -> None:
        """What killed writers left; under the lock there is no other kind."""
        for name in os.listdir(target.parent):
            if name.startswith(f".{target.name}.") and name.endswith(".tmp"):
                try:
                    os.unlink(target.parent / name)
                except OSError as error:
                    self._warn(f"{target.parent / name}: left by a killed agproxy, not removed: {error.strerror}")

    def _read_or_set_aside(self, target: Path) -> Document:
        data = self._read()
        try:
            return self._decode(data)
        except BadDocument as error:
            kept = _keep_aside(target, data or b"")
            self._warn(f"{self.file}: not an accounts file: {error}. It is kept as {kept}, and a new one begins")
            return Document()


# --- files -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _explained(file: Path, outcome: str) -> Iterator[None]:
    """The operating system's errors as ConfigError."""
    try:
        yield
    except OSError as error:
        place = f" ({error.filename})" if error.filename is not None and str(error.filename) != str(file) else ""
        raise ConfigError(f"{file}: {outcome}: {error.strerror or error}{place}") from None


def _patiently(action: Callable[[], T]) -> T:
    """Windows refuses to open a file while it is being replaced, and to replace it while it is read: try for a second.

    Elsewhere neither disturbs the other.
    """
    if sys.platform == "win32":
        for _ in range(_WINDOWS_TRIES):
            with contextlib.suppress(PermissionError):
                return action()
            time.sleep(1 / _WINDOWS_TRIES)
    return action()


def _replace(target: Path, data: bytes) -> None:
    """Put data in the file's place, in one step and for good."""
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
    temporary = Path(name)
    try:
        with open(descriptor, "wb") as stream:
            _make_private(descriptor, target.parent)
            stream.write(data)
            stream.flush()
            _sync(descriptor)
        _advance_time(temporary, target)
        _patiently(lambda: temporary.replace(target))
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(target.parent)


def _keep_aside(target: Path, data: bytes) -> Path:
    """Write data to a file of its own beside the target. The target stays, so that nothing is missing at any time."""
    when = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    for number in itertools.count(1):
        kept = target.with_name(f"{target.name}.corrupt-{when}" + (f"-{number}" if number > 1 else ""))
        try:
            descriptor = os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            continue
        break
    is_whole = False
    try:
        with open(descriptor, "wb") as stream:
            _make_private(descriptor, target.parent)
            stream.write(data)
            stream.flush()
            _sync(descriptor)
        is_whole = True
    finally:
        if not is_whole:
            kept.unlink()
    _sync_folder(target.parent)
    return kept


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
def _locked(target: Path, seconds: float) -> Iterator[None]:
    """Hold the lock of a file. Raises ConfigError where another process holds it for all these seconds."""
    file = target.with_name(target.name + ".lock")
    descriptor = _open_lock(file)
    try:
        deadline = time.monotonic() + seconds
        while not _try_lock(descriptor):
            if time.monotonic() >= deadline:
                raise ConfigError(f"{target}: was not changed: {_holder(descriptor)} has held {file} for {seconds:g} s")
            time.sleep(_PAUSE_SECONDS)
        try:
            _write_pid(descriptor, b"%d\n" % os.getpid())
            yield
        finally:
            _write_pid(descriptor, b"")
            _unlock(descriptor)
    finally:
        os.close(descriptor)


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

    def _try_lock(descriptor: int) -> bool:
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:

    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
