"""Work on large bodies: in a thread, where there are threads."""

import asyncio
import threading

import pytest

from agproxy.aside import LARGE_BYTES, Aside
from agproxy.io.threads import Threads


def where(name, *, more=""):
    return name + more, threading.current_thread() is threading.main_thread()


def run(size, work, *args, **more):
    async def main():
        threads = Threads()
        try:
            return await Aside(threads.run).run(size, work, *args, **more)
        finally:
            await threads.close()

    return asyncio.run(main())


def test_work_on_a_small_body_is_done_at_once():
    assert run(LARGE_BYTES - 1, where, "a", more="b") == ("ab", True)


def test_work_on_a_large_body_is_done_in_a_thread():
    assert run(LARGE_BYTES, where, "a", more="b") == ("ab", False)


def test_without_threads_all_is_done_at_once():
    assert asyncio.run(Aside().run(LARGE_BYTES, where, "a")) == ("a", True)


@pytest.mark.parametrize("size", [0, LARGE_BYTES])
def test_what_work_raises_is_raised(size):
    with pytest.raises(ZeroDivisionError):
        run(size, lambda: 1 / 0)


def test_the_loop_goes_on_beside_it_and_a_cancelled_run_hurts_nobody():
    begun, may_end = threading.Event(), threading.Event()

    def work():
        begun.set()
        assert may_end.wait(20)

    async def main():
        threads = Threads()
        running = asyncio.create_task(Aside(threads.run).run(LARGE_BYTES, work))
        await asyncio.to_thread(begun.wait, 20)
        running.cancel()
        await asyncio.wait({running})
        assert running.cancelled()
        may_end.set()
        await threads.close()

    asyncio.run(main())
