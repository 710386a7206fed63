"""One SQLite file in WAL mode, used by one thread: made private, opened at its first use, set aside where it is broken.

What is in it is the caller's matter. Its methods block, and raise sqlite3.Error and OSError. Several processes may have
the file open when it breaks: one of them sets it aside, and all go on with the new one, by its inode.
"""

import contextlib
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ..errors import ConfigError
from .files import locked

if TYPE_CHECKING:
    import sqlite3

log = logging.getLogger("agproxy.database")

T = TypeVar("T")


_LOCK_SECONDS = 10.0  # another process that writes to the same file does so for milliseconds
_FREED_PAGES = 4000  # of the file, given back to the disk at a time


class Database:
    """file None: in memory. schema: statements that make the tables of a new file of this version. convert: brings the
    tables of an older version into this one's form, in one transaction. loss: what a new file begins without, for the
    log."""

    def __init__(
        self,
        file: Path | None,
        *,
        schema: str,
        version: int,
        loss: str,
        wal_bytes: int,
        convert: "Callable[[sqlite3.Connection], None] | None" = None,
    ) -> None:
        self._convert = convert
        self.file = file
        self._schema = schema
        self._version = version
        self._loss = loss
        self._wal_bytes = wal_bytes
        self._database: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None  # the file that was there when it was opened: device, inode

    def do(self, job: Callable[["sqlite3.Connection"], T]) -> T:
        """One job as one transaction; where the file turns out to be broken, once more on a new one."""
        import sqlite3  # here, so that only who keeps something pays for loading it

        try:
            return self._transact(job)
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            if not _is_broken(error):
                raise
            self._set_aside(error)
            return self._transact(job)

    def close(self) -> None:
        """Close the file. The next job opens it again."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def give_back(self) -> None:
        """Give free pages back to the disk, if the file is open."""
        if self._database is not None:
            # By a script: `execute` stops at a statement's first row, and this one has none, so that it frees one page.
            self._database.executescript(f"PRAGMA incremental_vacuum({_FREED_PAGES})")

    def _transact(self, job: Callable[["sqlite3.Connection"], T]) -> T:
        if self._database is not None and not self._is_in_place():
            self.close()  # what goes into the old one now nobody would find
        database = self._database or self._open()
        database.execute("BEGIN IMMEDIATE")
        try:
            result = job(database)
        except BaseException:
            database.rollback()
            raise
        database.commit()
        return result

    def _open(self) -> "sqlite3.Connection":
        import sqlite3

        if self.file is not None:
            self._opened = _make_private(self.file)
        database = sqlite3.connect(self.file or ":memory:", timeout=_LOCK_SECONDS, isolation_level=None)
        try:
            database.execute("PRAGMA auto_vacuum = INCREMENTAL")  # before the first table, or never
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")  # a killed process loses nothing, a power cut the newest
            database.execute("PRAGMA secure_delete = FAST")
            database.execute(f"PRAGMA journal_size_limit = {self._wal_bytes}")
            self._see_version(database)
        except BaseException:
            database.close()
            raise
        self._database = database
        return database

    def _see_version(self, database: "sqlite3.Connection") -> None:
        """Make the tables of a new file, convert those of an older one. Raises OSError for a file of a later format."""
        database.execute("BEGIN IMMEDIATE")
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version == 0:
            make_tables(database, self._schema)
        elif version < self._version and self._convert is not None:
            log.info("%s: it is converted from format %d to %d", self.file, version, self._version)
            self._convert(database)
        if version < self._version:
            database.execute(f"PRAGMA user_version = {self._version}")
        database.commit()
        if version > self._version:
            raise OSError(f"the file was written by a newer agproxy (format {version}, this one knows {self._version})")

    def _set_aside(self, error: Exception) -> None:
        """Keep a broken file under another name, so that a new one can begin."""
        self.close()
        if self.file is None:
            return
        try:
            with locked(self.file, _LOCK_SECONDS):
                if not self._is_in_place():  # another process has set it aside, and the new one is its work
                    return
                stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
                kept = self.file.with_name(f"{self.file.name}.corrupt-{stamp}-{os.getpid()}")
                told = "%s: %s. It is kept as %s, and a new one begins without its %s"
                log.error(told, self.file, error, kept, self._loss)
                for suffix in ("-wal", "-shm"):
                    self.file.with_name(self.file.name + suffix).unlink(missing_ok=True)
                self.file.replace(kept)
        except ConfigError as held:
            raise OSError(str(held)) from None

    def _is_in_place(self) -> bool:
        """Whether the file of that name is still the one that was opened."""
        if self.file is None:
            return True
        try:
            found = os.stat(self.file)
        except FileNotFoundError:
            return False
        return (found.st_dev, found.st_ino) == self._opened


def make_tables(database: "sqlite3.Connection", schema: str) -> None:
    """By statements one at a time: `executescript` would end the transaction."""
    for statement in filter(str.strip, schema.split(";")):
        database.execute(statement)


def size_of(database: "sqlite3.Connection") -> int:
    """Bytes in use, without pages that are free again."""
    pages, free, size = (
        database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def _make_private(file: Path) -> tuple[int, int]:
    """Make the file before SQLite does, 0600 whatever the umask; its journal files take their mode from it. Its device
    and inode."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
    found = file.stat()
    if found.st_mode & 0o077:
        with contextlib.suppress(PermissionError):  # another's file: then it is not ours to close
            file.chmod(0o600)
    return found.st_dev, found.st_ino


def _is_broken(error: Exception) -> bool:
    """SQLITE_CORRUPT or SQLITE_NOTADB: the file itself is at fault, not its disk, its lock or our words. Where Python
    cannot even decode SQLite's complaint, it quotes the names in a broken file."""
    return isinstance(error, UnicodeDecodeError) or getattr(error, "sqlite_errorcode", 0) & 0xFF in (11, 26)
