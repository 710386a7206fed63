"""Work on large bodies, done beside the event loop: reading 5 MB, and writing them in upstream's words, takes 60 ms, in
which every stream would stand still. The codecs are pure, so a thread can run them.

A thread alone does not help: C code keeps the interpreter's lock to its end, and json is C code. So such bodies are
read and written in slices (`jsontext`), between which the loop gets its turn; how soon is `sys.setswitchinterval`,
which `agproxy serve` sets. What the threads are is handed in; without them work is done at once.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

# Below this, all of it takes less than 2 ms, and four trips to a thread are not worth it.
LARGE_BYTES = 128 * 1024


class RunInThread(Protocol):
    """Runs work in a thread. A cancelled run goes on to its end, for nobody."""

    def __call__(self, work: Callable[..., T], /, *args: Any, **more: Any) -> Awaitable[T]: ...


class Aside:
    """Runs work at once, or where a body is large in a thread."""

    def __init__(self, run_in_thread: RunInThread | None = None) -> None:
        self._run_in_thread = run_in_thread

    async def run(self, size_bytes: int, work: Callable[..., T], /, *args: Any, **more: Any) -> T:
        """What `work(*args, **more)` gives. size_bytes: of the body that it works on."""
        if size_bytes < LARGE_BYTES or self._run_in_thread is None:
            return work(*args, **more)
        return await self._run_in_thread(work, *args, **more)
