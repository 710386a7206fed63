"""The supervisor of workers alone, with small programs for workers: what it does when they fail, hang or are many."""

import asyncio
import os
import signal
import sys
import time

import pytest

from agproxy.cli import workers
from agproxy.cli.workers import Supervisor
from agproxy.io.systemd import Notifier

pytestmark = pytest.mark.skipif(os.name != "posix", reason="workers need POSIX")

# A worker that beats as the real one does, until SIGTERM or the end of its supervisor.
BEATS = """
import json, os, select, signal, sys
place = json.loads(os.environ["AGPROXY_WORKER"])
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
open(os.path.join(place["folder"], place["name"] + ".sock"), "w").close()
while True:
    os.write(place["ready"], b".")
    if select.select([place["lifeline"]], [], [], 0.05)[0]:
        os._exit(0)
"""
SILENT = "import os, time; time.sleep(60)"


def supervisor(count=2, program=BEATS, **more):
    return Supervisor([[]] * count, [sys.executable, "-ISc", program], Notifier(), **more)


def running(made, steps):
    """The exit status of a supervisor that `steps(made)` is done with, and then gets SIGTERM."""

    async def main():
        ready = asyncio.Event()
        task = asyncio.create_task(made.run(ready.set))
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED, timeout=20)
        waiting.cancel()
        await steps(made)
        if not task.done():
            os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(20):
            return await task

    return asyncio.run(main())


async def until(is_so):
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def pids(made):
    return {child.process.pid for child in made._current.values() if child.process.returncode is None}


def test_a_worker_that_cannot_be_started_is_tried_again(monkeypatch, caplog):
    real, failures = asyncio.create_subprocess_exec, [BlockingIOError(11, "no more processes")]

    async def steps(made):
        before = pids(made)

        async def spawn(*command, **more):
            if failures:
                raise failures.pop()
            return await real(*command, **more)

        monkeypatch.setattr(asyncio, "create_subprocess_exec", spawn)
        os.kill(min(before), signal.SIGKILL)
        await until(lambda: len(pids(made) - before) == 1 and len(pids(made)) == 2)

    monkeypatch.setattr(workers, "_FIRST_PAUSE_SECONDS", 0.05)
    assert running(supervisor(), steps) == 0
    assert "cannot be started" in caplog.text


def test_a_worker_that_hangs_is_replaced_and_its_socket_goes(monkeypatch, caplog):
    async def steps(made):
        hung = made._current[0]
        os.kill(hung.process.pid, signal.SIGSTOP)
        await until(lambda: made._current[0] is not hung)
        assert not os.path.exists(os.path.join(made._folder, f"{hung.name}.sock"))

    monkeypatch.setattr(workers, "_FIRST_PAUSE_SECONDS", 0.05)
    assert running(supervisor(silent_seconds=0.6), steps) == 0
    assert "has not been heard" in caplog.text


def test_a_reload_that_is_asked_for_during_another_is_done_after_it():
    async def steps(made):
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: made._serial > 2)
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: made._serial == 6)
        await until(lambda: made._rolling.done())
        assert made._serial == 6

    assert running(supervisor(), steps) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_while_workers_start_is_no_failure(number):
    async def main():
        made = supervisor(program=SILENT)
        task = asyncio.create_task(made.run(lambda: pytest.fail("none of them is ready")))
        await until(lambda: made._serial == 2)
        os.kill(os.getpid(), signal.SIGHUP)  # changes nothing
        os.kill(os.getpid(), number)
        async with asyncio.timeout(20):
            return await task

    assert asyncio.run(main()) == 0
