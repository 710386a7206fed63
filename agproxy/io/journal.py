"""The journal of requests: journal.sqlite3 in the home folder, written by a thread of its own, read by anybody.

`JournalFile.add` is handed each entry on the event loop and only puts it into a line; the thread writes what has come
in the meantime as one transaction. Where the disk does not keep up entries are dropped and counted; nobody waits.
Several processes write to one file. Age and size are bounded, the oldest goes first. `Reader` is what `agproxy logs`
reads with. A column stands for each field of `Entry`; those that a later version adds are added to the file. There is
no index by id: it would cost every request 3 us, and looking through all 64 MB takes 20 ms, for people only.
"""

import asyncio
import contextlib
import logging
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .. import jsontext
from ..entries import FIELDS, Entry, Wanted, from_value
from ..errors import ConfigError, StateUnavailable
from .beside import telling
from .database import Database, size_of

if TYPE_CHECKING:
    import sqlite3

log = logging.getLogger("agproxy.journal")

T = TypeVar("T")

FILE = "journal.sqlite3"
VERSION = 1
_COLUMNS = ", ".join(f'"{name}"' for name in FIELDS)
_SCHEMA = f"""
CREATE TABLE entries (number INTEGER PRIMARY KEY AUTOINCREMENT, {_COLUMNS});
CREATE TABLE bodies (number INTEGER PRIMARY KEY, told BLOB NOT NULL);
"""
_VALUES = f"({', '.join('?' * len(FIELDS))})"
_INSERT = f"INSERT INTO entries ({_COLUMNS}) VALUES {_VALUES}"
# Each statement lets go of the interpreter and has to win it back from a busy event loop, which costs 5 us on both
# sides: so many rows go into one, as many as every SQLite takes values in one.
_TOGETHER = 999 // len(FIELDS)
_INSERT_TOGETHER = _INSERT + f", {_VALUES}" * (_TOGETHER - 1)

_GATHER_SECONDS = 0.04  # how long entries wait for others, to be written with them
_MOST_WAITING = 20_000  # entries; 20 MB
_FIND_AGAIN_SECONDS = (0.05, 0.1, 0.2, 0.4)
_AGAIN_SECONDS = 0.2  # before a second attempt
_TIDY_SECONDS = 600.0
_TIDY_ENTRIES = 1000  # a step of tidying: some milliseconds
_TIDY_SHARES = 50  # where it is too much, a step frees one of so many shares
_FREED = 0.1  # of the size limit, at once, so that not every batch is followed by tidying
_WAL_BYTES = 4 * 1024 * 1024
_MOST_INTEGER = 2**63 - 1

# Fields that no SQLite value holds: kept as JSON, NULL where they are empty.
_AS_JSON = tuple(FIELDS.index(name) for name in ("outcomes", "notices", "steps"))
_values_of = attrgetter(*FIELDS)


def _row(entry: Entry) -> list[Any]:
    row = list(_values_of(entry))
    for place in _AS_JSON:
        row[place] = jsontext.text(row[place]) if row[place] else None
    return row


def _encodable(value: Any) -> Any:
    """A value as SQLite can hold it: half a surrogate escaped, a number of more than 64 bits cut."""
    if isinstance(value, int):
        return min(value, _MOST_INTEGER)
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _entry(row: tuple[Any, ...]) -> Entry:
    values = dict(zip(FIELDS, row, strict=True))
    for place in _AS_JSON:
        name = FIELDS[place]
        values[name] = jsontext.loads(values[name]) if values[name] else ()
    values["is_stream"] = bool(values["is_stream"])
    return from_value({name: value for name, value in values.items() if value is not None})


class JournalFile:
    """What a gateway writes. `add` is an observer of its ledger."""

    def __init__(self, file: Path, *, max_age_seconds: float, max_bytes: int) -> None:
        self.file = file
        self.dropped = 0
        self._max_age_seconds = max_age_seconds
        self._max_bytes = max_bytes
        self._waiting: deque[Entry] = deque()
        self._has_job = False
        self._hurry = threading.Event()
        self._worker: ThreadPoolExecutor | None = None
        # From here on the worker's alone.
        self._database = Database(file, schema=_SCHEMA, version=VERSION, loss="entries", wal_bytes=_WAL_BYTES)
        self._told_dropped = 0
        self._has_columns = False
        self._tidied = float("-inf")

    def add(self, entry: Entry) -> None:
        """Write an entry, soon. Returns at once."""
        if len(self._waiting) >= _MOST_WAITING:
            self.dropped += 1
            return
        if entry.recording is not None:
            entry.recording.end()
            if entry.recording.is_dropped:
                log.warning("%s: the bodies were dropped: too many are under way or wait to be written", entry.id)
        self._waiting.append(entry)
        if not self._has_job:
            self._has_job = True
            self._submit()

    async def find(self, request_id: str) -> Entry | None:
        """The entry of a request that has ended, which another process may just be writing."""
        return await self._soon(lambda: self._find(request_id))

    async def _soon(self, read: Callable[[], T | None]) -> T | None:
        """What is read in the worker thread, as soon as it is there, or None after a moment."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._pool, read)
        for seconds in _FIND_AGAIN_SECONDS:
            if found is not None:
                break
            await asyncio.sleep(seconds)
            found = await loop.run_in_executor(self._pool, read)
        return found

    async def latest(self, wanted: Wanted, limit: int) -> list[tuple[int, Entry]]:
        """The newest that are wanted, the newest first, each with its place. Raises StateUnavailable."""

        def read() -> list[tuple[int, Entry]]:
            with self._reading() as reader:
                return [(found.number, found.entry) for found in reversed(reader.latest(wanted, limit))]

        return await asyncio.get_running_loop().run_in_executor(self._pool, read)

    async def show(self, request_id: str) -> tuple[Entry, jsontext.JsonObject | None] | None:
        """The entry of a request and its recorded bodies; None where it is not kept. Raises StateUnavailable."""

        def read() -> tuple[Entry, jsontext.JsonObject | None] | None:
            with self._reading() as reader:
                found = reader.find(request_id, is_whole=True)
                return (found[0].entry, reader.bodies(found[0].number)) if found else None

        return await self._soon(read)

    @contextlib.contextmanager
    def _reading(self) -> Iterator["Reader"]:
        try:
            with Reader(self.file) as reader:
                yield reader
        except ConfigError as error:
            log.warning("%s", error)
            raise StateUnavailable("The journal of requests cannot be read now; the log says why.") from None

    async def close(self) -> None:
        """Write what waits, and close the file."""
        self._hurry.set()
        if self._worker is not None:
            await asyncio.get_running_loop().run_in_executor(self._worker, self._close)
            self._worker.shutdown()

    @property
    def _pool(self) -> ThreadPoolExecutor:
        if self._worker is None:
            self._worker = ThreadPoolExecutor(1, "agproxy-journal")
        return self._worker

    def _submit(self) -> None:
        self._pool.submit(self._write).add_done_callback(telling("entries of the journal could not be written"))

    # --- in the worker thread

    def _write(self) -> None:
        self._hurry.wait(_GATHER_SECONDS)
        self._has_job = False  # before the line is emptied: what comes from here on has a job of its own
        batch: list[Entry] = []
        with contextlib.suppress(IndexError):
            while True:
                batch.append(self._waiting.popleft())
        if batch:
            try:
                size = self._save(batch)
            except BaseException:  # a bug, which `telling` logs
                self.dropped += len(batch)
                raise
            finally:
                for entry in batch:
                    if entry.recording is not None:
                        entry.recording.release()
            if size is not None:
                self._tidy_if_due(max(entry.at + entry.total_seconds for entry in batch), size)
        if self.dropped > self._told_dropped:
            count, self._told_dropped = self.dropped - self._told_dropped, self.dropped
            log.warning(
                "%s: %d entries were dropped: the disk does not keep up, or cannot be written", self.file, count
            )

    def _save(self, batch: list[Entry]) -> int | None:
        """The bytes of the file then; None where it could not be written, twice, and the batch is dropped."""
        import sqlite3

        rows = [_row(entry) for entry in batch]
        told = [self._told(entry) if entry.recording is not None else None for entry in batch]

        def job(database: "sqlite3.Connection") -> int:
            self._add_columns(database)
            if not any(told):
                whole = len(rows) // _TOGETHER * _TOGETHER
                for place in range(0, whole, _TOGETHER):
                    database.execute(_INSERT_TOGETHER, list(chain.from_iterable(rows[place : place + _TOGETHER])))
                database.executemany(_INSERT, rows[whole:])
                return size_of(database)
            for row, bodies in zip(rows, told, strict=True):
                number = database.execute(_INSERT, row).lastrowid
                if bodies is not None:
                    database.execute("INSERT INTO bodies (number, told) VALUES (?, ?)", (number, bodies))
            return size_of(database)

        is_again = is_escaped = False
        while True:
            try:
                return self._database.do(job)
            except (UnicodeEncodeError, OverflowError):  # JSON may hold what SQLite does not
                if is_escaped:
                    raise
                is_escaped = True
                rows = [[_encodable(value) for value in row] for row in rows]
            except (sqlite3.Error, OSError) as error:
                self._database.close()
                if is_again:
                    log.error("%s: %s", self.file, error)
                    self.dropped += len(batch)
                    return None
                is_again = True
                self._hurry.wait(_AGAIN_SECONDS)

    def _told(self, entry: Entry) -> bytes | None:
        assert entry.recording is not None
        try:
            return zlib.compress(jsontext.dumps(entry.recording.told()), 1)
        except Exception:  # the boundary: whatever passed must not cost the others their entries
            log.exception("%s: the bodies could not be kept", entry.id)
            return None

    def _add_columns(self, database: "sqlite3.Connection") -> None:
        """Those of fields that an older version did not know."""
        if self._has_columns:
            return
        known = {row[1] for row in database.execute("PRAGMA table_info(entries)")}
        for name in FIELDS:
            if name not in known:
                database.execute(f'ALTER TABLE entries ADD COLUMN "{name}"')
        self._has_columns = True

    def _find(self, request_id: str) -> Entry | None:
        try:
            with Reader(self.file) as reader:
                found = reader.find(request_id, is_whole=True)
        except ConfigError as error:
            log.warning("%s", error)
            return None
        return found[0].entry if found else None

    def _close(self) -> None:
        self._write()
        self._database.close()

    # --- tidying

    def _tidy_if_due(self, now: float, size: int) -> None:
        """Delete what is too old and what is too much, in steps."""
        if now - self._tidied < _TIDY_SECONDS and size <= self._max_bytes:
            return
        self._tidied = now
        import sqlite3

        least = now - self._max_age_seconds
        goal = self._max_bytes * (1 - _FREED) if size > self._max_bytes else self._max_bytes

        def step(database: "sqlite3.Connection") -> bool:
            oldest = "SELECT number, at FROM entries ORDER BY number LIMIT ?"
            found = database.execute(oldest, (_TIDY_ENTRIES,)).fetchall()
            gone = [number for number, at in found if at < least]
            if not gone and size_of(database) > goal:
                (count,) = database.execute("SELECT count(*) FROM entries").fetchone()
                gone = [number for number, _ in found[: count // _TIDY_SHARES + 1]]
            if gone:
                database.execute("DELETE FROM entries WHERE number BETWEEN ? AND ?", (gone[0], gone[-1]))
                database.execute("DELETE FROM bodies WHERE number <= ?", (gone[-1],))
            return bool(gone)

        try:
            while self._database.do(step):
                pass
            self._database.give_back()
        except (sqlite3.Error, OSError) as error:
            log.error("%s: old entries could not be deleted: %s", self.file, error)


# --- reading ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An entry with its place in the file, which grows from one to the next."""

    number: int
    entry: Entry


def _conditions(wanted: Wanted) -> tuple[str, list[Any]]:
    """For a WHERE, with its values."""
    words = ["1"]
    values: list[Any] = []
    if wanted.only_errors:
        words.append("status >= 400")
    if wanted.only_api:
        words.append("protocol NOT IN ('gateway', 'admin')")
    if wanted.model is not None:
        pattern = wanted.model.replace("[", "[[]").replace("?", "[?]")
        words.append("(model_asked GLOB ? OR model GLOB ?)")
        values += [pattern, pattern]
    for condition, value in (
        ("client = ?", wanted.client),
        ("account = ?", wanted.account),
        ("number < ?", wanted.before),
    ):
        if value is not None:
            words.append(condition)
            values.append(value)
    return " AND ".join(words), values


class Reader:
    """Reads a journal, while others may write it. Used with `with`. Its methods raise ConfigError for a file that
    cannot be read; one that does not exist is empty."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._database: sqlite3.Connection | None = None

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def latest(self, wanted: Wanted, limit: int) -> list[Found]:
        """The newest that are wanted, oldest first."""
        where, values = _conditions(wanted)
        return self._select(f"{where} ORDER BY number DESC LIMIT ?", [*values, limit])[::-1]

    def after(self, wanted: Wanted, number: int) -> list[Found]:
        """Those that are wanted of what came after a place, oldest first."""
        where, values = _conditions(wanted)
        return self._select(f"{where} AND number > ? ORDER BY number", [*values, number])

    def last_number(self) -> int:
        """The place of the newest of all."""
        rows = self._rows("SELECT max(number) FROM entries", [])
        return (rows[0][0] or 0) if rows else 0

    def find(self, request_id: str, *, is_whole: bool = False) -> list[Found]:
        """The entry of a request; where the id is not whole, all that begin so, the newest some only."""
        found = self._select("id = ? ORDER BY number DESC LIMIT 1", [request_id])
        if found or is_whole:
            return found
        return self._select("substr(id, 1, ?) = ? ORDER BY number DESC LIMIT 10", [len(request_id), request_id])

    def bodies(self, number: int) -> jsontext.JsonObject | None:
        """The recording of an entry, as `Recording.told` has it; None where there is none."""
        rows = self._rows("SELECT told FROM bodies WHERE number = ?", [number])
        if not rows:
            return None
        try:
            value = jsontext.loads(zlib.decompress(rows[0][0]))
        except (zlib.error, ValueError):
            raise ConfigError(f"{self.file}: the bodies of entry {number} cannot be read") from None
        assert isinstance(value, dict)
        return value

    def changes(self) -> int:
        """A number that changes when another process has written."""
        rows = self._rows("PRAGMA data_version", [])
        return int(rows[0][0]) if rows else 0

    def _select(self, condition: str, values: list[Any]) -> list[Found]:
        columns = self._columns()
        rows = self._rows(f"SELECT number, {columns} FROM entries WHERE {condition}", values)
        try:
            return [Found(number=row[0], entry=_entry(row[1:])) for row in rows]
        except (ValueError, TypeError):
            raise ConfigError(f"{self.file}: an entry is damaged") from None

    def _columns(self) -> str:
        """The fields' columns, NULL for those that the version which wrote the file did not know."""
        known = {row[1] for row in self._rows("PRAGMA table_info(entries)", [])}
        return ", ".join(f'"{name}"' if name in known else "NULL" for name in FIELDS)

    def _rows(self, query: str, values: list[Any]) -> list[Any]:
        import sqlite3

        try:
            if self._database is None:
                if not self.file.exists():
                    return []
                self._database = sqlite3.connect(f"{self.file.absolute().as_uri()}?mode=rw", uri=True, timeout=5.0)
                self._database.execute("PRAGMA query_only = ON")
                (version,) = self._database.execute("PRAGMA user_version").fetchone()
                if version > VERSION:
                    raise ConfigError(f"{self.file}: written by a newer agproxy (format {version})")
            return self._database.execute(query, [_encodable(value) for value in values]).fetchall()
        except UnicodeDecodeError:  # of SQLite's complaint, which quotes a broken file
            raise ConfigError(f"{self.file}: database disk image is malformed") from None
        except sqlite3.Error as error:
            if "no such table" in str(error):  # it was just made
                return []
            raise ConfigError(f"{self.file}: {error}") from None
