"""`agproxy serve --workers N`: a supervisor that holds the listening sockets, and N gateways at work on them.

The supervisor binds one socket for each worker (SO_REUSEPORT, so that the kernel spreads the connections; where that
does not spread them, all share one), and keeps them open as long as it lives: what waits in a socket's queue is there
for the next worker, whether the last one crashed or made place. Each worker is this same command, run again as a
process of its own with a `Place` in its environment.

    SIGHUP          each worker in turn is replaced by a new one, which reads settings and code anew; the old one lets
                    its answers end. One that does not come up changes nothing.
    SIGTERM, Ctrl-C all workers let their answers end; a second one cuts them
    a crash         another takes the place at once, after a pause where it happens again and again

A worker whose supervisor has died stops, as by SIGTERM. POSIX only.
"""

import asyncio
import contextlib
import io
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..config import Config
from ..errors import ConfigError
from ..io import listen
from ..io.beside import telling
from ..io.systemd import Notifier
from ..io.unix_socket import bind_unix
from .common import EXIT_FAILED, EXIT_INTERRUPTED
from .place import VARIABLE, Place

log = logging.getLogger("agproxy.workers")

_HANGUP: int = getattr(signal, "SIGHUP", signal.SIGTERM)  # always there where workers are
_READY_SECONDS = 30.0
_STEADY_SECONDS = 10.0  # a worker that lived so long did not fail at its start
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 30.0
_KILL_SECONDS = 5.0  # after a second signal, which ends a worker at once
_SILENT_SECONDS = 60.0  # after which a worker is taken for hung: the longest work that holds its loop takes a second


@dataclass(slots=True, eq=False)
class _Child:
    """A worker's process. pipe: what it says, a byte when it is ready and one every few seconds. began, heard: by the
    monotonic clock."""

    index: int
    name: str
    process: asyncio.subprocess.Process
    pipe: io.FileIO
    began: float
    heard: float
    is_leaving: bool = False  # it was asked to

    def hear(self) -> None:
        """It has said something, or can say nothing any more."""
        if self.pipe.read(4096):
            self.heard = time.monotonic()
        else:
            self.hush()

    def hush(self) -> None:
        """Listen no more."""
        asyncio.get_running_loop().remove_reader(self.pipe)
        self.pipe.close()


class Supervisor:
    """Keeps workers at work. listeners: the sockets of each worker; command: what starts one, by its `Place`."""

    def __init__(
        self,
        listeners: Sequence[Sequence[socket.socket]],
        command: Sequence[str],
        notifier: Notifier,
        *,
        silent_seconds: float = _SILENT_SECONDS,
    ) -> None:
        self._listeners = listeners
        self._silent_seconds = silent_seconds
        self._notifier = notifier
        self._command = command
        self._folder = tempfile.mkdtemp(prefix="agproxy-")  # 0700; its path must be short, for the names of sockets
        self._lifeline, self._life = os.pipe()
        self._serial = 0
        self._current: dict[int, _Child] = {}
        self._watching: dict[_Child, asyncio.Task[None]] = {}
        self._rolling: asyncio.Task[None] | None = None
        self._is_asked_again = False
        self._stopping = asyncio.Event()

    async def run(self, on_ready: Callable[[], None]) -> int:
        """Start the workers and keep them until SIGTERM or Ctrl-C; the exit status comes back.

        on_ready is called when all serve for the first time.
        """
        loop = asyncio.get_running_loop()
        signals: asyncio.Queue[int] = asyncio.Queue()
        numbers = (signal.SIGTERM, signal.SIGINT, _HANGUP)
        for number in numbers:
            loop.add_signal_handler(number, signals.put_nowait, number)
        try:
            if (status := await self._first_start(signals)) is not None:
                return await self._stop(signals, status)
            with self._notifier.watched():
                on_ready()
                while await signals.get() == _HANGUP:
                    if self._rolling is None or self._rolling.done():
                        self._rolling = asyncio.create_task(self._roll(), name="rolling reload")
                        self._rolling.add_done_callback(telling("the workers could not all be replaced"))
                    else:
                        self._is_asked_again = True
                return await self._stop(signals, 0)
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)
            self._close_listeners()
            os.close(self._life)
            os.close(self._lifeline)
            shutil.rmtree(self._folder, ignore_errors=True)

    async def _first_start(self, signals: "asyncio.Queue[int]") -> int | None:
        """None when every worker has come up; the exit status where one did not, or a signal asked for the end."""
        starting = asyncio.ensure_future(self._start_all())
        try:
            while True:
                asked = asyncio.ensure_future(signals.get())
                await asyncio.wait({starting, asked}, return_when=asyncio.FIRST_COMPLETED)
                if not asked.done():
                    asked.cancel()
                elif asked.result() != _HANGUP:  # new settings are what they are starting with
                    return 0
                if starting.done():
                    return None if starting.result() else EXIT_FAILED
        finally:
            if not starting.done():
                self._stopping.set()
                await asyncio.wait({starting})

    # --- starting

    async def _start_all(self) -> bool:
        """Whether every worker has come up."""
        return all(await asyncio.gather(*(self._begin(index) for index in range(len(self._listeners)))))

    async def _begin(self, index: int) -> bool:
        """Whether a worker has come up, and has its place."""
        child = await self._start(index)
        if child is not None:
            self._put(child)
        return child is not None

    async def _start(self, index: int) -> _Child | None:
        """A worker that serves; None where it could not be started, ended before it served, or took too long."""
        try:
            return await self._spawn(index)
        except OSError as error:  # no memory, no descriptors, no program any more
            log.error("worker %d cannot be started: %s", index, error)
            return None

    async def _spawn(self, index: int) -> _Child | None:
        self._serial += 1
        name = f"worker{index}x{self._serial}"
        ready, said = os.pipe()
        listeners = tuple(listener.fileno() for listener in self._listeners[index])
        place = Place(
            index=index,
            count=len(self._listeners),
            name=name,
            folder=self._folder,
            listeners=listeners,
            ready=said,
            lifeline=self._lifeline,
        )
        pipe = io.FileIO(ready)
        process, is_ready = None, False
        try:
            try:
                process = await asyncio.create_subprocess_exec(
                    *self._command,
                    env={**os.environ, VARIABLE: place.to_text()},
                    pass_fds=(*listeners, said, self._lifeline),
                    process_group=0,  # Ctrl-C on the terminal is the supervisor's to pass on
                )
            finally:
                os.close(said)
            is_ready = await self._is_heard(pipe)
        finally:
            if not is_ready:
                pipe.close()
                if process is not None and process.returncode is None:
                    process.kill()
                    await process.wait()
        if not is_ready:
            return None
        now = time.monotonic()
        return _Child(index, name, process, pipe, now, now)

    async def _is_heard(self, pipe: io.FileIO) -> bool:
        """Whether a worker says that it is ready, before it ends, in time, and while it is still wanted."""
        loop = asyncio.get_running_loop()
        said = asyncio.Event()
        loop.add_reader(pipe, said.set)
        waits = [asyncio.ensure_future(event.wait()) for event in (said, self._stopping)]
        try:
            await asyncio.wait(waits, timeout=_READY_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            return said.is_set() and pipe.read(1) != b""
        finally:
            loop.remove_reader(pipe)
            for wait in waits:
                wait.cancel()

    def _put(self, child: _Child) -> None:
        """Give a worker its place; the one that had it before is asked to leave."""
        before = self._current.get(child.index)
        if self._stopping.is_set():
            _send(child, signal.SIGTERM)
        self._current[child.index] = child
        asyncio.get_running_loop().add_reader(child.pipe, child.hear)
        task = self._watching[child] = asyncio.create_task(self._watch(child), name=child.name)
        task.add_done_callback(lambda _: self._watching.pop(child))
        task.add_done_callback(telling(f"worker {child.index} is looked after no more"))
        if before is not None:
            _send(before, signal.SIGTERM)

    async def _watch(self, child: _Child) -> None:
        """Wait for a worker's end, and see to another one where it was not asked to go."""
        status = await self._end_of(child)
        if not child.pipe.closed:
            child.hush()
        Path(self._folder, f"{child.name}.sock").unlink(missing_ok=True)  # of one that had no time for it
        pause = 0.0
        while self._current.get(child.index) is child and not self._stopping.is_set():
            if pause or time.monotonic() - child.began < _STEADY_SECONDS:
                pause = min(max(pause * 2, _FIRST_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS)
            log.error(
                "worker %d (process %d) ended with status %d: another starts in %g s",
                child.index,
                child.process.pid,
                status,
                pause,
            )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stopping.wait()
                break
            if (new := await self._start(child.index)) is not None:
                self._put(new)
            pause = max(pause, _FIRST_PAUSE_SECONDS)

    async def _end_of(self, child: _Child) -> int:
        """The status of a worker's process when it has ended. One that says nothing for long is killed."""
        ending = asyncio.ensure_future(child.process.wait())
        try:
            while not ending.done():
                await asyncio.wait({ending}, timeout=self._silent_seconds / 4)
                if not ending.done() and time.monotonic() - child.heard > self._silent_seconds:
                    log.error(
                        "worker %d (process %d) has not been heard for %g s: it is killed",
                        child.index,
                        child.process.pid,
                        self._silent_seconds,
                    )
                    child.heard = time.monotonic()
                    child.process.kill()
            return ending.result()
        finally:
            ending.cancel()

    async def _roll(self) -> None:
        """Replace each worker by a new one, one after the other; and again where that was asked for meanwhile."""
        self._notifier.reloading()
        try:
            self._is_asked_again = True
            while self._is_asked_again:
                self._is_asked_again = False
                await self._replace_all()
        finally:
            if not self._stopping.is_set():
                self._notifier.ready()

    async def _replace_all(self) -> None:
        log.info("replacing %d workers", len(self._listeners))
        for index in range(len(self._listeners)):
            new = await self._start(index)
            if new is None and self._stopping.is_set():
                return
            if new is None:
                log.error("the new worker %d did not come up: the workers that serve go on", index)
                return
            self._put(new)
        log.info("all workers are new; the old ones let their answers end")

    # --- stopping

    async def _stop(self, signals: "asyncio.Queue[int]", status: int) -> int:
        """End every worker. How long their answers may go on is theirs to know, by `drain_seconds`."""
        self._stopping.set()
        self._notifier.stopping()
        self._close_listeners()  # what came to a queue that nobody empties would wait for the end of the drain
        if self._rolling is not None:
            await asyncio.wait({self._rolling})
        for child in self._watching:
            if not child.is_leaving:  # to one that was replaced it would be the second signal, which cuts
                _send(child, signal.SIGTERM)
        patience: float | None = None
        while self._watching:
            asked = asyncio.ensure_future(signals.get())
            done, _ = await asyncio.wait(
                {asked, *self._watching.values()}, timeout=patience, return_when=asyncio.FIRST_COMPLETED
            )
            if asked in done and asked.result() != _HANGUP:
                status, patience = EXIT_INTERRUPTED, _KILL_SECONDS
                for child in self._watching:
                    _send(child, signal.SIGINT)  # another one: two of a kind are one to whom neither has reached yet
            asked.cancel()
            if not done:
                for child in self._watching:
                    child.process.kill()
        return status

    def _close_listeners(self) -> None:
        for listeners in self._listeners:
            listen.close_all(listeners)


def _send(child: _Child, number: int) -> None:
    child.is_leaving = True
    if child.process.returncode is None:
        child.process.send_signal(number)


def bind(config: Config) -> list[list[socket.socket]]:
    """Listening sockets for each worker. Raises ConfigError where the address cannot be had."""
    first = listen.bind([config.host], config.port) if config.host else []
    try:
        unix = [bind_unix(config.listen_unix, int(config.unix_mode, 8))] if config.listen_unix else []
    except ConfigError:
        listen.close_all(first)
        raise
    if not first:
        return [unix] * config.workers
    if sys.platform != "linux":  # elsewhere the kernel does not share connections out: all workers share a socket
        return [first + unix] * config.workers
    # The first ones were bound without SO_REUSEPORT, so that another gateway on this address is noticed.
    port = listen.bound(first)[0][1]
    listen.close_all(first)
    return [listen.bind([config.host], port, reuse_port=True) + unix for _ in range(config.workers)]


def command_line() -> list[str]:
    """What starts this same command again: as it was started, by this same Python."""
    return [sys.executable, *sys.orig_argv[1:]]
