"""Work that goes on beside a block: owned by it, ended with it, and never silent where it fails."""

import asyncio
import concurrent.futures
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

log = logging.getLogger("agproxy.beside")


@contextlib.asynccontextmanager
async def beside(work: Coroutine[Any, Any, None], name: str) -> AsyncIterator[None]:
    """Run work in a task of this name within the block. It is cancelled at the block's end, and waited for.

    What it raises is logged at once: the block goes on without it, and its end raises nothing of it.
    """
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(telling(f"{name} has ended, until agproxy is restarted"))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


def telling(message: str) -> Callable[["asyncio.Future[Any] | concurrent.futures.Future[Any]"], None]:
    """A callback for a task, or a thread's future, whose result nobody waits for: logs what it raises."""

    def tell(done: "asyncio.Future[Any] | concurrent.futures.Future[Any]") -> None:
        if not done.cancelled() and (error := done.exception()) is not None:
            log.error("%s", message, exc_info=error)

    return tell
