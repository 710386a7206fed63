"""Threads for what would hold the event loop up. Made at the first need: most gateways never see a large body."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")

# They share one interpreter with the loop: more of them would not be faster, only keep it waiting longer.
_THREADS = 2


class Threads:
    """Runs pure work. `close` drops what waits; what is under way ends by itself."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None

    async def run(self, work: Callable[..., T], /, *args: Any, **more: Any) -> T:
        """What `work(*args, **more)` gives or raises."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_THREADS, "agproxy-aside")
        return await asyncio.get_running_loop().run_in_executor(self._pool, partial(work, *args, **more))

    async def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
