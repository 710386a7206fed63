"""What is kept between requests, on disk: one SQLite file in WAL mode, used by one worker thread of its own.

`records.Store` on Python's sqlite3. The event loop never waits for the disk: each call is a job for the thread, which
opens the file with the first one, so that a gateway that keeps nothing never loads SQLite. A record belongs to a
family (a chain of responses with its forks, a conversation with its items); age counts from the family's last change,
and over the size limit the family that has rested longest goes first. Tidying is a job too, in small steps, between
those of requests.

The file is readable by its owner only. One that is no database, or is broken, is set aside under another name and a
new one begins. Knows no kind of record by name. All that SQLite and the operating system raise becomes
StateUnavailable.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .. import jsontext
from ..errors import StateUnavailable
from ..records import Chain, Change, Children, Get, Put, Read, Record, Remove
from .beside import telling
from .database import Database, size_of

if TYPE_CHECKING:
    import sqlite3

log = logging.getLogger("agproxy.state")

T = TypeVar("T")

FILE = "state.sqlite3"
VERSION = 1
_SCHEMA = """
CREATE TABLE families (id INTEGER PRIMARY KEY, used INTEGER NOT NULL);
CREATE INDEX families_by_use ON families (used);
CREATE TABLE records (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    owner TEXT NOT NULL,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    parent_kind TEXT,
    parent_id TEXT,
    family INTEGER NOT NULL,
    expires INTEGER,
    is_removed INTEGER NOT NULL DEFAULT 0,
    body TEXT NOT NULL,
    UNIQUE (owner, kind, id)
);
CREATE INDEX records_by_parent ON records (owner, parent_kind, parent_id, kind, number);
CREATE INDEX records_by_family ON records (family);
CREATE INDEX records_by_expiry ON records (expires) WHERE expires IS NOT NULL;
"""
_COLUMNS = "kind, id, parent_kind, parent_id, expires, number, body"
_SHOWN = "is_removed = 0 AND (expires IS NULL OR expires > :now)"

_TIDY_SECONDS = 600.0
_TIDY_FAMILIES = 50  # a step of tidying: some milliseconds, so that requests between two steps hardly wait
_FREED = 0.1  # of the size limit, at once, so that not every answer is followed by tidying
_WAL_BYTES = 64 * 1024 * 1024


class State:
    """The records of one home folder; file None keeps them in memory, for as long as the process lives."""

    def __init__(self, file: Path | None, *, max_age_seconds: float, max_bytes: int) -> None:
        self.file = file
        self._max_age_seconds = max_age_seconds
        self._max_bytes = max_bytes
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="agproxy-state")
        self._is_closing = False
        # From here on the worker's alone.
        self._database = Database(file, schema=_SCHEMA, version=VERSION, loss="responses", wal_bytes=_WAL_BYTES)
        self._tidied = float("-inf")
        self._goal_bytes = max_bytes

    async def read(self, owner: str, reads: Sequence[Read], now: float) -> list[tuple[Record, ...]]:
        owner = _key(owner)
        return await self._run(lambda database: [_read(database, owner, read, int(now)) for read in reads], now)

    async def write(self, owner: str, changes: Sequence[Change], now: float) -> None:
        def change(database: "sqlite3.Connection") -> None:
            for one in changes:
                if isinstance(one, Put):
                    _put(database, _key(owner), one.record, int(now))
                else:
                    _remove(database, _key(owner), one)

        await self._run(change, now)

    async def close(self) -> None:
        """Finish the jobs that were given, and close the file."""
        self._is_closing = True
        await asyncio.get_running_loop().run_in_executor(self._worker, self._close)
        self._worker.shutdown()

    async def _run(self, job: Callable[["sqlite3.Connection"], T], now: float) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, self._serve, job, now)

    # --- in the worker thread

    def _serve(self, job: Callable[["sqlite3.Connection"], T], now: float) -> T:
        result, size = self._do(lambda database: (job(database), size_of(database)))
        if now - self._tidied >= _TIDY_SECONDS or size > self._max_bytes:
            self._tidied = now
            self._submit_tidying(now)
        return result

    def _submit_tidying(self, now: float) -> None:
        with contextlib.suppress(RuntimeError):  # the worker takes no more: the store is being closed
            self._worker.submit(self._tidy, now).add_done_callback(telling("old responses could not be tidied away"))

    def _do(self, job: Callable[["sqlite3.Connection"], T]) -> T:
        import sqlite3  # here, so that only who keeps something pays for loading it

        try:
            return self._database.do(job)
        except (sqlite3.Error, OSError) as error:
            words = str(error).partition(" with text ")[0]  # behind it SQLite quotes what is kept
            log.error("%s: %s", self.file or "state in memory", words)
            raise StateUnavailable(f"What was kept of earlier requests cannot be used now: {words}.") from None

    def _close(self) -> None:
        self._database.close()

    def _tidy(self, now: float) -> None:
        """One step: what has expired, what is too old, what is too much. Another follows while there is more."""

        def step(database: "sqlite3.Connection") -> bool:
            database.execute("DELETE FROM records WHERE expires <= ?", (int(now),))
            old = "SELECT id FROM families WHERE used < ? ORDER BY used LIMIT ?"
            families = database.execute(old, (int(now - self._max_age_seconds), _TIDY_FAMILIES)).fetchall()
            if not families and size_of(database) > self._goal_bytes:
                self._goal_bytes = int(self._max_bytes * (1 - _FREED))
                families = database.execute("SELECT id FROM families ORDER BY used, id LIMIT 1").fetchall()
            database.executemany("DELETE FROM records WHERE family = ?", families)
            database.executemany("DELETE FROM families WHERE id = ?", families)
            if not families:
                self._goal_bytes = self._max_bytes
            return bool(families)

        if self._is_closing:
            return
        with contextlib.suppress(StateUnavailable):  # it is in the log
            if self._do(step):
                self._submit_tidying(now)
            else:
                self._database.give_back()


# --- records ---------------------------------------------------------------------------------------------------


def _key(identifier: str) -> str:
    """An id as SQLite can hold it. A client's JSON may bring a lone surrogate, which UTF-8 cannot: it is escaped."""
    return identifier.encode("utf-8", "backslashreplace").decode()


def _record(row: tuple[Any, ...]) -> Record:
    """Raises sqlite3.DataError for a row that the disk, or another program, has changed."""
    import sqlite3

    kind, identifier, parent_kind, parent_id, expires, number, text = row
    try:
        body = jsontext.loads(text)
    except (ValueError, TypeError):
        body = None
    if not isinstance(body, dict):
        raise sqlite3.DataError(f"record {number} is damaged")
    return Record(
        kind=kind,
        id=identifier,
        parent=None if parent_kind is None else (parent_kind, parent_id),
        expires=expires,
        number=number,
        body=body,
    )


_CHAIN = f"""
WITH RECURSIVE chain AS (
    SELECT {_COLUMNS} FROM records WHERE owner = :owner AND kind = :kind AND id = :id AND {_SHOWN}
    UNION ALL
    SELECT {", ".join(f"r.{name}" for name in _COLUMNS.split(", "))}
    FROM chain JOIN records AS r
    ON r.owner = :owner AND r.kind = chain.parent_kind AND r.id = chain.parent_id AND r.kind = chain.kind
)
SELECT {_COLUMNS} FROM chain ORDER BY number
"""


def _read(database: "sqlite3.Connection", owner: str, read: Read, now: int) -> tuple[Record, ...]:
    values: dict[str, Any] = {"owner": owner, "kind": read.kind, "now": now}
    if isinstance(read, Chain):
        query = _CHAIN
        values |= {"id": _key(read.id)}
    elif isinstance(read, Get):
        query = f"SELECT {_COLUMNS} FROM records WHERE owner = :owner AND kind = :kind AND id = :id AND {_SHOWN}"
        values |= {"id": _key(read.id)}
    else:
        query = _children(read)
        values |= {"parent_kind": read.parent[0], "parent_id": _key(read.parent[1])}
        values |= {"after": None if read.after is None else _key(read.after)}
        values |= {"limit": -1 if read.limit is None else read.limit}
    return tuple(_record(row) for row in database.execute(query, values))


def _children(read: Children) -> str:
    sign, order = ("<", "DESC") if read.is_newest_first else (">", "ASC")
    start = "SELECT number FROM records WHERE owner = :owner AND kind = :kind AND id = :after"
    after = "" if read.after is None else f"AND number {sign} ({start})"
    return f"""
    SELECT {_COLUMNS} FROM records
    WHERE owner = :owner AND kind = :kind AND parent_kind = :parent_kind AND parent_id = :parent_id AND {_SHOWN} {after}
    ORDER BY number {order} LIMIT :limit
    """


def _put(database: "sqlite3.Connection", owner: str, record: Record, now: int) -> None:
    identifier = _key(record.id)
    parent_kind, parent_id = (None, None) if record.parent is None else (record.parent[0], _key(record.parent[1]))
    find = "SELECT family FROM records WHERE owner = ? AND kind = ? AND id = ?"
    row = database.execute(find, (owner, record.kind, identifier)).fetchone()
    row = row or database.execute(find, (owner, parent_kind, parent_id)).fetchone()
    if row is None:
        family = database.execute("INSERT INTO families (used) VALUES (?)", (now,)).lastrowid
    else:
        (family,) = row
        database.execute("UPDATE families SET used = ? WHERE id = ?", (now, family))
    database.execute(
        "INSERT INTO records (owner, kind, id, parent_kind, parent_id, family, expires, body) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (owner, kind, id) DO UPDATE SET expires = excluded.expires, body = excluded.body, is_removed = 0",
        (owner, record.kind, identifier, parent_kind, parent_id, family, record.expires, _text(record.body)),
    )


def _text(body: jsontext.JsonObject) -> str:
    return jsontext.dumps(body).decode()  # by way of UTF-8, which a lone surrogate survives only as an escape


def _remove(database: "sqlite3.Connection", owner: str, change: Remove) -> None:
    """Delete a record and what belongs to it; where later ones go on from it, it is only hidden until they are gone."""
    key: tuple[str, str, str] | None = (owner, change.kind, _key(change.id))
    is_asked = True
    while key is not None:
        row = database.execute(
            "SELECT family, parent_kind, parent_id, is_removed FROM records WHERE owner = ? AND kind = ? AND id = ?",
            key,
        ).fetchone()
        if row is None or not (is_asked or row[3]):
            return
        family, parent_kind, parent_id, _ = row
        database.execute(
            "DELETE FROM records WHERE owner = ? AND parent_kind = ? AND parent_id = ? AND kind != ?",
            (*key, change.kind),
        )
        below = "SELECT 1 FROM records WHERE owner = ? AND parent_kind = ? AND parent_id = ? LIMIT 1"
        if database.execute(below, key).fetchone() is not None:
            database.execute("UPDATE records SET is_removed = 1 WHERE owner = ? AND kind = ? AND id = ?", key)
            return
        database.execute("DELETE FROM records WHERE owner = ? AND kind = ? AND id = ?", key)
        database.execute(
            "DELETE FROM families WHERE id = ? AND NOT EXISTS (SELECT 1 FROM records WHERE family = families.id)",
            (family,),
        )
        key = (owner, parent_kind, parent_id) if parent_kind == change.kind else None
        is_asked = False
