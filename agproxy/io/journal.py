"""The journal of requests: journal.sqlite3 in the home folder, written by a thread of its own, read by anybody.

`JournalFile.add` is handed each entry on the event loop and only puts it into a line; the thread writes what has come
in the meantime as one transaction. Where the disk does not keep up entries are dropped and counted; nobody waits.
Several processes write to one file. Age and size are bounded, the oldest goes first. `Reader` is what `agproxy logs`
reads with.

Entries are kept in pages, a row of SQLite for up to _IN_PAGE of them that ended at about the same time: JSON, a list of
`entries.to_row`. A row for each entry with a column for each field cost a request twice as much CPU (`make bench
ARGS=unary`): each statement lets go of the interpreter some five times, and has to win it back from a busy event loop.
Pages that cannot hold what is asked for are passed over by SQLite: an id or a client is found in 64 MB within 60 ms.
"""

import asyncio
import contextlib
import logging
import sys
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .. import jsontext
from ..entries import FIELDS, OWN_PROTOCOLS, Entry, Wanted, from_row, from_value, to_row
from ..errors import ConfigError, StateUnavailable
from .beside import telling
from .database import Database, make_tables, size_of

if TYPE_CHECKING:
    import sqlite3

log = logging.getLogger("agproxy.journal")

T = TypeVar("T")

_ALL = Wanted()
FILE = "journal.sqlite3"
VERSION = 2
# at: when its last entry ended, Unix seconds. worst: the greatest status in it. has_api: whether there is any that did
# not ask the gateway about itself.
_SCHEMA = """
CREATE TABLE pages (number INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, worst INTEGER NOT NULL,
    has_api INTEGER NOT NULL, told TEXT NOT NULL);
CREATE TABLE bodies (place INTEGER PRIMARY KEY, told BLOB NOT NULL);
"""
_INSERT = "INSERT INTO pages (at, worst, has_api, told) VALUES (?, ?, ?, ?)"
# Entries of a page, so that the place of one is its page's number times this, and its own within the page.
_IN_PAGE = 100

_GATHER_SECONDS = 0.1  # how long entries wait for others, to be written with them
_MOST_WAITING = 20_000  # entries; 20 MB
_MOST_PAGES = 64  # that are read at a time
_MOST_BEGUN = 10  # entries whose ids begin alike
_MOST_INTEGER = 2**63 - 1  # of SQLite
_FIND_AGAIN_SECONDS = (0.05, 0.1, 0.2, 0.4)
_AGAIN_SECONDS = 0.2  # before a second attempt
_TIDY_SECONDS = 600.0
_TIDY_SHARE = 0.01  # of the size limit: after so much was written its size is looked at
_TIDY_PAGES = 1000  # a step of tidying: some milliseconds
_TIDY_SHARES = 50  # where it is too much, a step frees one of so many shares
_FREED = 0.1  # of the size limit, at once, so that not every batch is followed by tidying
_WAL_BYTES = 4 * 1024 * 1024


def _text(value: Any) -> str:
    """JSON as SQLite can hold it: half a surrogate pair, which UTF-8 cannot, becomes its escape."""
    return jsontext.text(value).encode("utf-8", "backslashreplace").decode()


def _page(batch: list[Entry]) -> tuple[float, int, bool, str]:
    """The row of some entries."""
    worst = max(entry.status for entry in batch)
    has_api = any(entry.protocol not in OWN_PROTOCOLS for entry in batch)
    return max(map(_end_of, batch)), worst, has_api, _text([to_row(entry) for entry in batch])


def _convert(database: "sqlite3.Connection") -> None:
    """Format 1 had a row for each entry, and a column for each field."""
    known = {row[1] for row in database.execute("PRAGMA table_info(entries)")}
    names = [name for name in FIELDS if name in known]
    database.execute("ALTER TABLE entries RENAME TO old_entries")
    database.execute("ALTER TABLE bodies RENAME TO old_bodies")
    make_tables(database, _SCHEMA)
    columns = ", ".join(f'"{name}"' for name in names)
    rows = database.execute(f"SELECT number, {columns} FROM old_entries ORDER BY number")
    with_bodies = {number for (number,) in database.execute("SELECT number FROM old_bodies")}
    while some := rows.fetchmany(_IN_PAGE):
        found = [(row[0], entry) for row in some if (entry := _of_format_1(names, row[1:])) is not None]
        if not found:
            continue
        page = database.execute(_INSERT, _page([entry for _, entry in found])).lastrowid
        assert page is not None
        for index, (number, _) in enumerate(found):
            if number in with_bodies:
                copy = "INSERT INTO bodies (place, told) SELECT ?, told FROM old_bodies WHERE number = ?"
                database.execute(copy, (page * _IN_PAGE + index, number))
    database.execute("DROP TABLE old_entries")
    database.execute("DROP TABLE old_bodies")


def _of_format_1(names: list[str], row: tuple[Any, ...]) -> Entry | None:
    values = {name: value for name, value in zip(names, row, strict=True) if value is not None}
    try:
        for name in ("outcomes", "notices", "steps"):
            if name in values:
                values[name] = jsontext.loads(values[name])
        values["is_stream"] = bool(values.get("is_stream"))
        return from_value(values)
    except (ValueError, TypeError, AttributeError):
        log.warning("an entry of the older format is damaged, and left out")
        return None


def _end_of(entry: Entry) -> float:
    return entry.at + entry.total_seconds


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
        self._reading_worker: ThreadPoolExecutor | None = None  # a long look must not keep entries waiting
        # From here on the worker's alone.
        self._database = Database(
            file, schema=_SCHEMA, version=VERSION, loss="entries", wal_bytes=_WAL_BYTES, convert=_convert
        )
        self._told_dropped = 0
        self._written = 0  # bytes, since its size was looked at
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
                return [(found.place, found.entry) for found in reversed(reader.latest(wanted, limit))]

        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._pool, lambda: None)  # behind what is being written
        if self._reading_worker is None:
            self._reading_worker = ThreadPoolExecutor(1, "agproxy-journal-reader")
        return await loop.run_in_executor(self._reading_worker, read)

    async def show(self, request_id: str) -> tuple[Entry, jsontext.JsonObject | None] | None:
        """The entry of a request and its recorded bodies; None where it is not kept. Raises StateUnavailable."""

        def read() -> tuple[Entry, jsontext.JsonObject | None] | None:
            with self._reading() as reader:
                found = reader.find(request_id, is_whole=True)
                return (found[0].entry, reader.bodies(found[0].place)) if found else None

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
        if self._reading_worker is not None:
            self._reading_worker.shutdown(wait=False, cancel_futures=True)

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
                is_saved = self._save(batch)
            except BaseException:  # a bug, which `telling` logs
                self.dropped += len(batch)
                raise
            finally:
                for entry in batch:
                    if entry.recording is not None:
                        entry.recording.release()
            if is_saved:
                self._tidy_if_due(max(map(_end_of, batch)))
        if self.dropped > self._told_dropped:
            count, self._told_dropped = self.dropped - self._told_dropped, self.dropped
            log.warning(
                "%s: %d entries were dropped: the disk does not keep up, or cannot be written", self.file, count
            )

    def _save(self, batch: list[Entry]) -> bool:
        """Whether it could be written; else, after a second attempt, it is dropped."""
        import sqlite3

        told = [None if entry.recording is None else self._told(entry) for entry in batch]
        in_page = 1 if any(told) else _IN_PAGE  # bodies are large, and go page by page when they are too much

        def job(database: "sqlite3.Connection") -> None:
            for begin in range(0, len(batch), in_page):
                row = _page(batch[begin : begin + in_page])
                number = database.execute(_INSERT, row).lastrowid
                assert number is not None
                self._written += len(row[-1])
                if (bodies := told[begin]) is not None:
                    database.execute("INSERT INTO bodies (place, told) VALUES (?, ?)", (number * _IN_PAGE, bodies))
                    self._written += len(bodies)

        is_again = False
        while True:
            try:
                self._database.do(job)
            except (sqlite3.Error, OSError) as error:
                self._database.close()
                if is_again:
                    log.error("%s: %s", self.file, error)
                    self.dropped += len(batch)
                    return False
                is_again = True
                self._hurry.wait(_AGAIN_SECONDS)
            else:
                return True

    def _told(self, entry: Entry) -> bytes | None:
        assert entry.recording is not None
        try:
            return zlib.compress(jsontext.dumps(entry.recording.told()), 1)
        except Exception:  # the boundary: whatever passed must not cost the others their entries
            log.exception("%s: the bodies could not be kept", entry.id)
            return None

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

    def _tidy_if_due(self, now: float) -> None:
        """Delete what is too old and what is too much, in steps."""
        is_time = now - self._tidied >= _TIDY_SECONDS
        if not is_time and self._written <= self._max_bytes * _TIDY_SHARE:
            return
        import sqlite3

        self._written = 0
        least = now - self._max_age_seconds
        goal = self._max_bytes

        def step(database: "sqlite3.Connection") -> bool:
            oldest = "SELECT number, at FROM pages ORDER BY number LIMIT ?"
            found = database.execute(oldest, (_TIDY_PAGES,)).fetchall()
            gone = [number for number, at in found if at < least]
            if not gone and size_of(database) > goal:
                (count,) = database.execute("SELECT count(*) FROM pages").fetchone()
                gone = [number for number, _ in found[: count // _TIDY_SHARES + 1]]
            if gone:
                database.execute("DELETE FROM pages WHERE number BETWEEN ? AND ?", (gone[0], gone[-1]))
                database.execute("DELETE FROM bodies WHERE place < ?", ((gone[-1] + 1) * _IN_PAGE,))
            return bool(gone)

        try:
            is_much = self._database.do(size_of) > goal
            if not is_time and not is_much:
                return
            self._tidied = now
            if is_much:
                goal = int(goal * (1 - _FREED))
            while self._database.do(step):
                pass
            self._database.give_back()
        except (sqlite3.Error, OSError) as error:
            log.error("%s: old entries could not be deleted: %s", self.file, error)


# --- reading ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An entry with its place in the file, which grows from one to the next."""

    place: int
    entry: Entry


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
        return self._search(wanted.meets_row, limit, wanted=wanted)[::-1]

    def after(self, wanted: Wanted, place: int) -> list[Found]:
        """Those that are wanted of what came after a place, oldest first."""
        return self._search(lambda row, at: at > place and wanted.meets_row(row, at), wanted=wanted, after=place)[::-1]

    def last_place(self) -> int:
        """The place of the newest of all."""
        found = self._search(lambda *_: True, 1)
        return found[0].place if found else 0

    def find(self, request_id: str, *, is_whole: bool = False) -> list[Found]:
        """The entry of a request; where the id is not whole, all that begin so, the newest some only."""
        word = _text(request_id)
        found = self._search(lambda row, _: row[0] == request_id, 1, words=[word])
        if found or is_whole:
            return found
        return self._search(lambda row, _: row[0].startswith(request_id), _MOST_BEGUN, words=[word[:-1]])

    def bodies(self, place: int) -> jsontext.JsonObject | None:
        """The recording of the entry at a place, as `Recording.told` has it; None where there is none."""
        rows = self._rows("SELECT told FROM bodies WHERE place = ?", place)
        if not rows:
            return None
        try:
            value = jsontext.loads(zlib.decompress(rows[0][0]))
        except (zlib.error, ValueError):
            raise ConfigError(f"{self.file}: the bodies of entry {place} cannot be read") from None
        assert isinstance(value, dict)
        return value

    def changes(self) -> int:
        """A number that changes when another process has written."""
        rows = self._rows("PRAGMA data_version")
        return int(rows[0][0]) if rows else 0

    def _search(
        self,
        meets: Callable[[list[Any], int], bool],
        limit: int = sys.maxsize,
        *,
        wanted: Wanted = _ALL,
        words: Sequence[str] = (),
        after: int = 0,
    ) -> list[Found]:
        """Those whose row meets a condition, the newest first. wanted, words, after: what SQLite can pass pages over
        by."""
        names = [_text(name) for name in (wanted.client, wanted.account) if name is not None]
        if wanted.model is not None:  # the longest of what stands between its stars
            names.append(_text(max(wanted.model.split("*"), key=len))[1:-1])
        conditions = ["number BETWEEN ? AND ?"] + ["worst >= 400"] * wanted.only_errors + ["has_api"] * wanted.only_api
        conditions += ["instr(told, ?)"] * (len(words) + len(names))
        query = f"SELECT number, told FROM pages WHERE {' AND '.join(conditions)} ORDER BY number DESC LIMIT ?"
        least, most = after // _IN_PAGE, _MOST_INTEGER
        if wanted.before is not None:
            most = min(most, wanted.before // _IN_PAGE)
        found: list[Found] = []
        count = 1
        while True:
            pages = self._rows(query, least, most, *words, *names, count)
            for number, told in pages:
                try:
                    rows = jsontext.loads(told)
                    if not isinstance(rows, list):
                        raise TypeError
                    page = enumerate(rows, number * _IN_PAGE)
                    fitting = [Found(place=place, entry=from_row(row)) for place, row in page if meets(row, place)]
                except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError):  # anything but rows
                    raise ConfigError(f"{self.file}: an entry is damaged") from None
                found += reversed(fitting)
                most = number - 1
                if len(found) >= limit:
                    return found[:limit]
            if len(pages) < count:
                return found
            count = min(count * 2, _MOST_PAGES)

    def _rows(self, query: str, *values: Any) -> list[Any]:
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
                if 0 < version < VERSION:
                    told = "the gateway converts it when it next writes to it"
                    raise ConfigError(f"{self.file}: written by an older agproxy (format {version}); {told}")
            return self._database.execute(query, values).fetchall()
        except UnicodeDecodeError:  # of SQLite's complaint, which quotes a broken file
            raise ConfigError(f"{self.file}: database disk image is malformed") from None
        except sqlite3.Error as error:
            if "no such table" in str(error):  # it was just made
                return []
            raise ConfigError(f"{self.file}: {error}") from None
