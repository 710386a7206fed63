"""How late the event loop is: a timer a second, and by how much it was missed."""

import asyncio

PERIOD_SECONDS = 1.0
WINDOW_SECONDS = 15.0


class Lag:
    """Measures from `start` to `stop`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._window_ends = 0.0
        self._now = self._before = 0.0

    @property
    def seconds(self) -> float:
        """The most of this window of time and the one before."""
        return max(self._now, self._before)

    def start(self) -> None:
        self._due = self._loop.time() + PERIOD_SECONDS
        self._timer = self._loop.call_at(self._due, self._tick)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self) -> None:
        now = self._loop.time()
        if now >= self._window_ends:
            self._before, self._now, self._window_ends = self._now, 0.0, now + WINDOW_SECONDS
        self._now = max(self._now, now - self._due)
        self.start()
