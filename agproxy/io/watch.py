"""Files that people, editors and other processes change while the gateway runs: looked at now and then.

A look is one system call a file. Where the stamp differs from the one seen last, the file is left a moment to settle,
since editors write in several steps, and then its owner is told, once a change. What the file says, and what becomes of
a broken one, is the owner's matter.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

Stamp = tuple[int, ...]

SETTLE_SECONDS = 0.05
_MOST_SETTLING = 20  # a file that somebody writes without end is read all the same


def stamp_of(file: Path) -> Stamp | None:
    """Changes with every change of a file; None where there is none, or none that can be looked at."""
    try:
        seen = os.stat(file)
    except OSError:  # what keeps the file from being read, its reader says
        return None
    return seen.st_mtime_ns, seen.st_size, seen.st_ino


class Watched:
    """A file, and who is told of its changes. Make it before the file is first read: no change is missed then."""

    def __init__(self, stamp: Callable[[], Stamp | None], changed: Callable[[], Awaitable[None]]) -> None:
        self.stamp = stamp
        self.changed = changed
        self.seen = stamp()


class Watcher:
    """Looks at files every `seconds()`; 0 is never, but for `nudge`, which has all of them read again; `on_nudged` is
    called when they were."""

    def __init__(
        self,
        files: Sequence[Watched],
        seconds: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        *,
        on_nudged: Callable[[], None] = lambda: None,
    ) -> None:
        self._files = files
        self._on_nudged = on_nudged
        self._seconds = seconds
        self._sleep = sleep
        self._nudged = asyncio.Event()

    def nudge(self) -> None:
        """Look at once, and take every file for changed."""
        self._nudged.set()

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            is_forced = await self._wait()
            for file in self._files:
                await self.look(file, is_forced=is_forced)
            if is_forced:
                self._on_nudged()

    async def look(self, file: Watched, *, is_forced: bool = False) -> None:
        """Tell the owner of a file where it has changed, or in any case."""
        stamp = file.stamp()
        if stamp == file.seen and not is_forced:
            return
        for _ in range(_MOST_SETTLING):
            await self._sleep(SETTLE_SECONDS)
            before, stamp = stamp, file.stamp()
            if stamp == before:
                break
        file.seen = stamp
        await file.changed()

    async def _wait(self) -> bool:
        """Whether it was a nudge that ended the pause."""
        seconds = self._seconds()
        try:
            async with asyncio.timeout(seconds if seconds > 0 else None):
                await self._nudged.wait()
        except TimeoutError:
            return False
        self._nudged.clear()
        return True
