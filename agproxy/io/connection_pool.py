"""The upstream connections of one origin: how many may be open, which rest, and who waits for one.

Knows nothing of HTTP: a connection says of itself whether it can be used.
"""

import asyncio
from collections import deque
from typing import Any, Generic, Protocol, TypeVar


class Pooled(Protocol):
    """What a pool asks of its connections. is_fit: a resting one can take a request."""

    pool: "ConnectionPool[Any] | None"

    @property
    def is_open(self) -> bool: ...

    @property
    def is_fit(self) -> bool: ...

    def abort(self) -> None: ...


C = TypeVar("C", bound=Pooled)


class ConnectionPool(Generic[C]):
    """The connections of one origin: how many are open, which rest, and who waits, first come first served."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open = 0  # connections and places promised to those who are dialling
        self._resting: list[C] = []
        self._waiters: deque[asyncio.Future[C | None]] = deque()

    @property
    def is_empty(self) -> bool:
        return self._open == 0 and not self._waiters

    @property
    def is_full(self) -> bool:
        """Whether who wants a connection has to wait for somebody else's."""
        return self._open >= self._limit and not self._resting

    def take(self) -> C | None:
        """A resting connection, if there is one."""
        while self._resting:
            connection = self._resting.pop()  # the one used last: the others may then expire
            if connection.is_fit:
                return connection
            connection.abort()
        return None

    async def acquire(self, *, fresh: bool) -> C | None:
        """A resting connection, or None: a place for a new one, which counts until `forget` or `free`."""
        while True:
            if not fresh and (connection := self.take()) is not None:
                return connection
            if self._open >= self._limit and self._resting:
                self._resting.pop(0).abort()
            if self._open < self._limit:
                self._open += 1
                return None
            waiter: asyncio.Future[C | None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                given = await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():  # what came in the same moment goes to the next
                    self._give_back(waiter.result())
                raise
            if given is None or (not fresh and given.is_fit):
                return given
            if given.is_open:  # used before, so it may be stale like the last one: only its place is wanted
                given.pool = None
                given.abort()
                return None

    def _give_back(self, given: C | None) -> None:
        if given is None:
            self.free()
        elif given.is_open:
            self.release(given)

    def release(self, connection: C) -> None:
        """The connection's answer is over and it can take another."""
        if not self._wake(connection):
            self._resting.append(connection)

    def free(self) -> None:
        """A place is free."""
        if not self._wake(None):
            self._open -= 1

    def _wake(self, given: C | None) -> bool:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(given)
                return True
        return False

    def forget(self, connection: C) -> None:
        """The connection is closed."""
        connection.pool = None
        if connection in self._resting:
            self._resting.remove(connection)
        self.free()
