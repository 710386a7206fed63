"""accounts.json and keys.json on disk: read without a lock, changed by one process at a time, whole at every moment.

How a file is replaced and locked is `files`' matter; a `.tmp` that a killed writer left, the next change removes.

Knows files and permissions. What the files say is the matter of `accounts` and `keys`. All that the operating system
raises becomes a ConfigError that names the file.
"""

import os
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from .. import accounts, keys
from ..documents import BadDocument, NewerDocument
from ..errors import ConfigError
from .files import explained, keep_aside, locked, patiently, replace_file
from .watch import Stamp, stamp_of

ACCOUNTS_FILE, KEYS_FILE = "accounts.json", "keys.json"
LOCK_SECONDS = 10.0  # a change takes milliseconds; who holds the lock longer is stopped or on a dead network disk
# A folder that holds only these is agproxy's own, and may be closed to others.
_OWN_PREFIXES = (
    *("accounts.json", ".accounts.json.", "keys.json", ".keys.json.", "limits.json", ".limits.json."),
    *("config.json", "state.sqlite3", "usage.sqlite3"),
)


class _Document(Protocol):
    @property
    def notices(self) -> tuple[str, ...]: ...


D = TypeVar("D", bound=_Document)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind(Generic[D]):
    """name: of the file. what: it is; advice: what helps where it is not. empty: the document where there is none."""

    name: str
    what: str
    advice: str
    decode: Callable[[bytes], D]
    encode: Callable[[D], bytes]
    empty: D


class Store(Generic[D]):
    """A file of a home folder. `warn` is told what was put right, one sentence each.

    A symbolic link in the file's place is followed: its target is what gets replaced, with the lock beside it.
    """

    def __init__(
        self, kind: _Kind[D], home: Path, warn: Callable[[str], None], *, lock_seconds: float = LOCK_SECONDS
    ) -> None:
        self._kind = kind
        self.file = home / kind.name
        self._home = home
        self._warn = warn
        self._lock_seconds = lock_seconds

    def stamp(self) -> Stamp | None:
        """Changes with every change of the file; None where there is no file. One system call, fit for polling.

        Take it before `load`: a change in between then shows as one more, and none is missed.
        """
        return stamp_of(self.file)

    def load(self) -> D:
        """What the file says; an empty document where there is none. Takes no lock, changes nothing but permissions.

        Raises ConfigError where the file cannot be used.
        """
        with explained(self.file, "cannot be read"):
            data = self._read()
        try:
            return self._decode(data)
        except BadDocument as error:
            raise ConfigError(
                f"{self.file}: not {self._kind.what}: {error}. Nothing in it was changed. {self._kind.advice}"
            ) from None

    def update(self, change: Callable[[D], D], *, replaces_unusable: bool = False) -> tuple[D, D]:
        """Change the file under the lock, so that no other process's change is lost; the document before and after.

        `change` gets what the file says at that moment; what it raises leaves the file as it is, and so does a change
        that changes nothing. replaces_unusable: a file that is no such document is kept under another name, and
        `change` starts from an empty one; else that is a ConfigError, as is everything else that forbids writing.
        """
        with explained(self.file, "cannot be written"):
            target = self._prepare()
            with locked(target, self._lock_seconds):
                self._remove_strays(target)
                before = self._read_or_set_aside(target) if replaces_unusable else self.load()
                after = change(before)
                if after != before:
                    replace_file(target, self._kind.encode(after))
        return before, after

    # --- reading

    def _read(self) -> bytes | None:
        try:
            with patiently(lambda: self.file.open("rb")) as stream:
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

    def _decode(self, data: bytes | None) -> D:
        """Raises BadDocument, or ConfigError for a file that only a newer agproxy may touch."""
        if data is None:
            return self._kind.empty
        try:
            document = self._kind.decode(data)
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
        is_shared = mode & (stat.S_ISVTX | stat.S_ISGID)  # somebody has set it up for several users, as /tmp is
        if is_shared or not all(name.startswith(_OWN_PREFIXES) for name in os.listdir(self._home)):
            self._warn(f"{found}; it is not agproxy's alone, so it was left. The keys are in a file that is closed")
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

    def _read_or_set_aside(self, target: Path) -> D:
        data = self._read()
        try:
            return self._decode(data)
        except BadDocument as error:
            kept = keep_aside(target, data or b"")
            self._warn(f"{self.file}: not {self._kind.what}: {error}. It is kept as {kept}, and a new one begins")
            return self._kind.empty


class AccountStore(Store[accounts.Document]):
    """The accounts.json of a home folder."""

    def __init__(self, home: Path, warn: Callable[[str], None], *, lock_seconds: float = LOCK_SECONDS) -> None:
        advice = "Mend it, or move it away; 'agproxy accounts add' keeps it under another name and begins a new one"
        kind = _Kind(
            name=ACCOUNTS_FILE,
            what="an accounts file",
            advice=advice,
            decode=accounts.decode,
            encode=accounts.encode,
            empty=accounts.Document(),
        )
        super().__init__(kind, home, warn, lock_seconds=lock_seconds)


class KeyStore(Store[keys.Document]):
    """The keys.json of a home folder."""

    def __init__(self, home: Path, warn: Callable[[str], None], *, lock_seconds: float = LOCK_SECONDS) -> None:
        kind = _Kind(
            name=KEYS_FILE,
            what="a file of client keys",
            advice="Mend it, or move it away",
            decode=keys.decode,
            encode=keys.encode,
            empty=keys.Document(),
        )
        super().__init__(kind, home, warn, lock_seconds=lock_seconds)
