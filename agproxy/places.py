"""How many requests to the model are under way at once, and the line before that: first come, first served.

Where the limit is not reached, a request costs an addition and a subtraction. Who finds it reached waits for a place
of its own, so long as the line has a bound and its patience lasts; whoever comes later never goes before it.
"""

import asyncio
from collections import OrderedDict

from .errors import Overloaded

# When to come again: places are let go of all the time, and which one is next nobody knows.
_RETRY_AFTER_SECONDS = 1.0


class Places:
    """Places for requests. most: how many at once; 0 is no limit. It may change at any time."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._line: OrderedDict[asyncio.Future[None], None] = OrderedDict()
        self.taken = 0

    @property
    def most(self) -> int:
        return self._most

    @most.setter
    def most(self, most: int) -> None:
        self._most = most
        self._call()

    @property
    def waiting(self) -> int:
        return len(self._line)

    def take(self) -> bool:
        """Take a place, if there is one and nobody waits for it. Whoever takes one leaves it in the end."""
        if self._line or 0 < self._most <= self.taken:
            return False
        self.taken += 1
        return True

    def stay(self) -> None:
        """One more place, whatever the limit: for what goes on beyond the request that has begun it."""
        self.taken += 1

    async def wait(self, most_waiting: int, patience: float) -> None:
        """Take a place when one is free, at the end of the line. patience: seconds. Raises Overloaded."""
        if len(self._line) >= most_waiting or patience <= 0:
            raise Overloaded(
                f"{self.taken} requests are under way and {len(self._line)} wait: no more are taken on.",
                retry_after_seconds=_RETRY_AFTER_SECONDS,
            )
        called: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line[called] = None
        try:
            async with asyncio.timeout(patience):
                await called
        except BaseException as error:  # the client has gone, or its time is over: what it was given goes on
            if called.done() and not called.cancelled():
                self.leave()
            else:
                self._line.pop(called, None)
            if not isinstance(error, TimeoutError):
                raise
            raise Overloaded(
                f"{self.taken} requests are under way, and no place became free within {patience:g} s.",
                retry_after_seconds=_RETRY_AFTER_SECONDS,
            ) from None

    def leave(self) -> None:
        """Let go of a place."""
        self.taken -= 1
        if self._line:
            self._call()

    def _call(self) -> None:
        """Give places to who waits for them, while there are any."""
        while self._line and not 0 < self._most <= self.taken:
            called, _ = self._line.popitem(last=False)
            if not called.done():  # else its client has gone, in this very turn of the loop
                self.taken += 1
                called.set_result(None)
