"""Carries a pool's limits to disk and back while the gateway runs: in batches, off the event loop.

Looks once a second, which is one system call where nothing has changed. Knows no formats: `limits` does.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from ..cooldowns import merge
from ..pool import Pool
from .beside import beside
from .limits import LimitsFile, keep

log = logging.getLogger("agproxy.limits")

_PAUSE_SECONDS = 1.0


class LimitsKeeper:
    """Keeps a pool and a file in step. changed: called where others changed limits that somebody may wait for."""

    def __init__(
        self,
        file: LimitsFile,
        pool: Pool,
        now: Callable[[], float],
        changed: Callable[[], None],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._file = file
        self._pool = pool
        self._now = now
        self._changed = changed
        self._sleep = sleep
        self._version = pool.version
        self._stamp = file.stamp()
        self._has_warned = False

    @asynccontextmanager
    async def keeping(self) -> AsyncIterator[None]:
        """Load, keep in step within the block, and write once more at its end."""
        now = self._now()
        self._pool.replace_cool_downs(await asyncio.to_thread(self._file.load, now), now)
        try:
            async with beside(self._run(), "the keeping of limits"):
                yield
        finally:
            await self.look()

    async def look(self) -> None:
        """Write and read, if either side has changed."""
        stamp = self._file.stamp()
        if self._pool.version == self._version and stamp == self._stamp:
            return
        now = self._now()
        self._version, sent = self._pool.version, self._pool.cool_downs(now)
        known = await asyncio.to_thread(keep, self._file, sent, now, self._warn)
        self._stamp = self._file.stamp()
        # What was learnt while the file was written counts as well.
        self._pool.replace_cool_downs(merge(sent, self._pool.cool_downs(now), known), now)
        if known != sent:
            self._changed()

    async def _run(self) -> None:
        while True:
            await self._sleep(_PAUSE_SECONDS)
            await self.look()

    def _warn(self, message: str) -> None:
        if not self._has_warned:
            log.warning("%s", message)
        self._has_warned = True
