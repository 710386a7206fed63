"""Work that goes on beside a block: owned by it, ended with it, and never silent where it fails."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Coroutine
from typing import Any

log = logging.getLogger("agproxy.beside")


@contextlib.asynccontextmanager
async def beside(work: Coroutine[Any, Any, None], name: str) -> AsyncIterator[None]:
    """Run work in a task of this name within the block. It is cancelled at the block's end, and waited for.

    What it raises is logged at once: the block goes on without it, and its end raises nothing of it.
    """
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_tell)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


def _tell(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("%s has ended, until agproxy is restarted", task.get_name(), exc_info=error)
