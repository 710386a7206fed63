"""What clients have used by their keys, in usage.sqlite3 of the home folder: for their limits, and for people.

Each gateway on the folder adds what it has counted, once a second and off the event loop, and learns what all of them
have. So limits are exact for one process, and right within a second or two for several. Days of use are kept for
_KEPT_DAYS; of the windows of limits only those of now.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..clients import USES, Clients, Use
from ..errors import ConfigError
from ..quotas import DAY, MINUTE, Counts, Window
from .beside import beside
from .database import Database

if TYPE_CHECKING:
    import sqlite3

log = logging.getLogger("agproxy.usage")

FILE = "usage.sqlite3"
VERSION = 1
_PAUSE_SECONDS = 1.0
_KEPT_DAYS = 400
_WAL_BYTES = 1024 * 1024
_MOST_COUNT = 2**62  # SQLite's numbers end at 2^63
_SCHEMA = f"""
CREATE TABLE windows (key TEXT, size INTEGER, number INTEGER, requests INTEGER, tokens INTEGER,
    PRIMARY KEY (key, size, number)) WITHOUT ROWID;
CREATE TABLE uses (day INTEGER, key TEXT, model TEXT, {", ".join(f"{name} INTEGER" for name in USES)},
    PRIMARY KEY (day, key, model)) WITHOUT ROWID
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """What one key has used of one model on one day of UTC."""

    day: int
    key: str
    model: str
    requests: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    reasoning_tokens: int


class UsageFile:
    """The file. Its methods block, and raise sqlite3.Error and OSError."""

    def __init__(self, file: Path) -> None:
        self._database = Database(file, schema=_SCHEMA, version=VERSION, loss="usage", wal_bytes=_WAL_BYTES)

    def add(self, windows: dict[Window, Counts], uses: dict[Use, list[int]], now: float) -> dict[Window, Counts]:
        """Add what was counted; the counts of all processes for the windows of now come back."""
        minute, day = int(now // MINUTE), int(now // DAY)

        def job(database: "sqlite3.Connection") -> dict[Window, Counts]:
            database.executemany(
                "INSERT INTO windows VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
                f"requests = {_sum('requests')}, tokens = {_sum('tokens')}",
                [(*window, *map(_bounded, counts)) for window, counts in windows.items()],
            )
            database.executemany(
                f"INSERT INTO uses VALUES (?, ?, ?{', ?' * len(USES)}) ON CONFLICT DO UPDATE SET "
                + ", ".join(f"{name} = {_sum(name)}" for name in USES),
                [(number, key, model, *map(_bounded, counts)) for (key, number, model), counts in uses.items()],
            )
            if windows or uses:
                # One window more: another process may be a little behind.
                database.execute("DELETE FROM windows WHERE size = ? AND number < ?", (MINUTE, minute - 1))
                database.execute("DELETE FROM windows WHERE size = ? AND number < ?", (DAY, day - 1))
                database.execute("DELETE FROM uses WHERE day < ?", (day - _KEPT_DAYS,))
            rows = database.execute(
                "SELECT key, size, number, requests, tokens FROM windows "
                "WHERE (size = ? AND number = ?) OR (size = ? AND number = ?)",
                (MINUTE, minute, DAY, day),
            )
            return {(key, size, number): (requests, tokens) for key, size, number, requests, tokens in rows}

        return self._database.do(job)

    def used(self, least_day: int) -> list[Used]:
        """All use since a day, by day, key and model. Raises ConfigError where it cannot be read."""
        import sqlite3

        assert self._database.file is not None
        if not self._database.file.exists():
            return []
        query = f"SELECT day, key, model, {', '.join(USES)} FROM uses WHERE day >= ? ORDER BY day, key, model"

        def job(database: "sqlite3.Connection") -> list[Used]:
            names = ("day", "key", "model", *USES)
            return [Used(**dict(zip(names, row, strict=True))) for row in database.execute(query, (least_day,))]

        try:
            return self._database.do(job)
        except (sqlite3.Error, OSError) as error:
            raise ConfigError(f"{self._database.file}: cannot be read: {error}") from None

    def close(self) -> None:
        self._database.close()


def _sum(name: str) -> str:
    return f"min({name} + excluded.{name}, {_MOST_COUNT})"


def _bounded(count: int) -> int:
    """Upstream says how many tokens there were: it may say anything."""
    return max(0, min(count, _MOST_COUNT))


class UsageKeeper:
    """Keeps a gateway's clients and the file in step."""

    def __init__(
        self,
        file: Path,
        clients: Clients,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._usage = UsageFile(file)
        self._file = file
        self._clients = clients
        self._now = now
        self._sleep = sleep
        self._has_warned = False
        self._thread: ThreadPoolExecutor | None = None
        self._syncing = asyncio.Lock()

    @asynccontextmanager
    async def keeping(self) -> AsyncIterator[None]:
        """Learn what was used before, keep in step within the block, and write once more at its end."""
        await self.sync()
        try:
            async with beside(self._run(), "the keeping of usage"):
                yield
        finally:
            await self.sync()
            if self._thread is not None:
                await asyncio.get_running_loop().run_in_executor(self._thread, self._usage.close)
                self._thread.shutdown()

    async def sync(self) -> None:
        """Write what was counted, and learn what others have."""
        async with self._syncing:
            await asyncio.shield(asyncio.ensure_future(self._sync()))

    async def _sync(self) -> None:
        clients, now = self._clients, self._now()
        windows, uses = clients.meter.take(), clients.take_uses()
        if not windows and not uses and not clients.ring.has_limits:
            return
        import sqlite3  # here, so that only who has such keys pays for loading it

        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "agproxy-usage")
        try:
            loop = asyncio.get_running_loop()
            clients.meter.settle(await loop.run_in_executor(self._thread, self._usage.add, windows, uses, now))
            self._has_warned = False
        except (sqlite3.Error, OSError) as error:
            clients.meter.give_back(now)
            clients.give_back_uses(uses)
            if not self._has_warned:
                log.error("%s: %s. Limits of keys count what this process has seen", self._file, error)
            self._has_warned = True

    async def _run(self) -> None:
        while True:
            await self._sleep(_PAUSE_SECONDS)
            await self.sync()
