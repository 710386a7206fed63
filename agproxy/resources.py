"""What is kept between requests, served: records read before an exchange and written after it, background runs.

A frontend that keeps things brings a `Keeper`: pure code that says what it reads and what it leaves. This module
carries both to the store and back, holds the runs that go on without a client, and lets one answer at a time work on
what its keeper locks. A run is an exchange whose reply is the `Run` itself: it holds the frames and passes them on to
whoever follows. Runs are tasks of one process: where several serve one address, requests about a run are handed to the
one that has claimed it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from .conversation import Exchange, Notice
from .errors import GatewayError, InternalError, InvalidRequest, StateUnavailable
from .exchange import Progress, Stream, Upstream, stream_headers
from .frontends import KEEPERS, Keeper, KeptEncoder
from .http11 import Flow, Headers, HttpRequest, HttpResponse, Reply
from .jsontext import JsonObject
from .ledger import Ledger
from .records import Asked, Change, Found, Read, Record, Store

log = logging.getLogger("agproxy.resources")

_INTERRUPTED = "The gateway failed or was stopped while this response was being made."


def _key(kind: str, owner: str, name: str) -> str:
    return f"{kind}\0{owner}\0{name}"


def _run_key(owner: str, identifier: str) -> str:
    return _key("run", owner, identifier)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One exchange of a frontend that keeps things: for whom, and what was read for it."""

    keeper: Keeper
    owner: str
    exchange: Exchange
    found: Found
    progress: Progress


class _Follower:
    """A client that hears a run, from the first frame that it has not had. progress: of its request, where that is
    not the run's own, which counts what it says itself."""

    def __init__(self, reply: Reply, cut: Callable[[bytes], bytes], progress: Progress | None) -> None:
        self._reply = reply
        self._progress = progress
        self._cut = cut
        self._has_heard = False

    def hear(self, run: "Run", data: bytes) -> None:
        """More was said: `data`, the last of the run's frames."""
        if not self._has_heard:
            data = self._cut(b"".join(run.frames))
            self._has_heard = bool(data)
        if self._progress is not None:
            self._progress.bytes_out += len(data)
        self._reply.write(data)


class Run:
    """An exchange without a client; for its stream it is the reply."""

    has_started = True

    def __init__(self, kept: Kept) -> None:
        self.kept = kept
        self.encoder: KeptEncoder = kept.keeper.StreamEncoder(kept.exchange)
        self.frames: list[bytes] = []
        self.followers: set[_Follower] = set()
        self.is_cancelled = False
        self.has_ended = False
        self.task: asyncio.Task[None] | None = None

    def write(self, data: bytes) -> None:
        self.frames.append(data)
        for follower in self.followers:
            follower.hear(self, data)

    def end(self) -> None:
        self.has_ended = True

    async def stop(self) -> None:
        """Stop the run, and wait until that is written. One that is over already is only being written."""
        assert self.task is not None
        await asyncio.sleep(0)  # a task that is cancelled before it has begun would end nothing
        if not self.encoder.is_over:
            self.task.cancel()
        await asyncio.wait({self.task})

    def send(self, response: HttpResponse) -> None:
        raise NotImplementedError("a run has no client to answer")

    def start(self, status: int, headers: Headers) -> None:
        raise NotImplementedError("a run has started from the beginning")

    def abort(self) -> None:
        """Nobody to cut off."""

    def follow(self, source: Flow | None) -> None:
        """Nobody reads too slowly: what a run says is held anyway."""


class Workers(Protocol):
    """Who works on what, among the processes that serve one address."""

    def claim(self, key: str) -> Callable[[], None] | None:
        """Take a piece of work, until what is returned is called; None where it is taken."""
        ...

    def holder(self, key: str) -> str | None:
        """The name of the other process that has taken a piece of work; None where none has."""
        ...

    async def forward(self, holder: str, request: HttpRequest, reply: Reply) -> None:
        """Have another process answer a request. Raises UpstreamFailed where it has gone."""
        ...

    def publish(self, name: str, source: Callable[[], Any]) -> None:
        """Let the other processes `gather` what `source` gives, as JSON."""
        ...

    async def gather(self, name: str) -> list[Any]:
        """What each of the other processes publishes under a name."""
        ...


class Alone:
    """`Workers` of a process that serves its address alone."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def claim(self, key: str) -> Callable[[], None] | None:
        if key in self._taken:
            return None
        self._taken.add(key)
        return partial(self._taken.discard, key)

    def holder(self, key: str) -> str | None:
        return None

    async def forward(self, holder: str, request: HttpRequest, reply: Reply) -> None:
        raise NotImplementedError("there is nobody else")

    def publish(self, name: str, source: Callable[[], Any]) -> None:
        """Nobody asks."""

    async def gather(self, name: str) -> list[Any]:
        return []


class Resources:
    """Store, runs and locks of one gateway. store None: nothing is kept."""

    def __init__(self, *, store: Store | None, upstream: Upstream, workers: Workers, ledger: Ledger) -> None:
        self._store = store
        self._upstream = upstream
        self._workers = workers
        self._ledger = ledger
        self._runs: dict[tuple[str, str], Run] = {}

    async def close(self) -> None:
        """Stop every run, and wait until the store knows."""
        await asyncio.gather(*(run.stop() for run in self._runs.values()))

    async def drain(self, seconds: float) -> None:
        """Wait for the runs under way, at most this long."""
        tasks = {run.task for run in self._runs.values() if run.task is not None}
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)

    def keeper(self, frontend: str) -> Keeper | None:
        """What a frontend keeps things by; None where it does not, or nothing is kept here."""
        return None if self._store is None else KEEPERS.get(frontend)

    # --- records

    async def find(self, keeper: Keeper, owner: str, needs: Callable[[Found], Iterable[Read]]) -> Found:
        """All that `needs` asks for; it is asked again with what was found, until nothing is missing."""
        found: dict[Read, tuple[Record, ...]] = {}
        while missing := [read for read in dict.fromkeys(needs(found)) if read not in found]:
            if self._store is None:
                found |= dict.fromkeys(missing, ())
                continue
            found |= await self._read(self._store, keeper, owner, missing)
        return found

    async def _read(self, store: Store, keeper: Keeper, owner: str, reads: list[Read]) -> Found:
        """Records as they are now. Where the store says that one runs and nobody has claimed it, its run may have ended
        in between: the store is read once more, since a claim ends after the run is written."""
        before: set[str] = set()
        while True:
            lost: set[str] = set()
            answers = await store.read(owner, reads, self._upstream.now())
            found = {
                read: tuple(self._settled(keeper, owner, record, lost) for record in records)
                for read, records in zip(reads, answers, strict=True)
            }
            if not lost or lost == before:
                return found
            before = lost

    def _settled(self, keeper: Keeper, owner: str, record: Record, lost: set[str]) -> Record:
        """A record as it is now; its id comes to `lost` where nobody has the run that it speaks of."""
        run = self._runs.get((owner, record.id))

        def is_elsewhere() -> bool:
            if self.elsewhere(owner, record.id) is None:
                lost.add(record.id)
                return False
            return True

        return keeper.settle(record, None if run is None else run.encoder.response, is_elsewhere)

    def elsewhere(self, owner: str, identifier: str) -> str | None:
        """The other process that has the run of this id, if one has."""
        return None if (owner, identifier) in self._runs else self._workers.holder(_run_key(owner, identifier))

    async def _write(self, owner: str, changes: tuple[Change, ...]) -> None:
        if not changes:
            return
        if self._store is None:
            raise InvalidRequest("Nothing is kept here: the setting 'state' is off.", code="unsupported_parameter")
        await self._store.write(owner, changes, self._upstream.now())

    async def keep(self, kept: Kept, response: JsonObject, *more: Change) -> None:
        """Write what an answer leaves. The answer itself does not fail where that cannot be done."""
        try:
            await self._write(kept.owner, (*kept.keeper.changes(kept.exchange, response, kept.found), *more))
        except StateUnavailable as error:
            log.error("%s: the response could not be kept", kept.progress.request.id)
            kept.progress.note((Notice(message=f"store: ignored ({error.message})"),))

    def kept_encoder(self, kept: Kept) -> tuple[KeptEncoder, Callable[[list[bytes]], Awaitable[None]]]:
        """The encoder of a stream that is kept, and what writes it when it is complete."""
        encoder = kept.keeper.StreamEncoder(kept.exchange)

        async def keep(_: list[bytes]) -> None:
            await self.keep(kept, encoder.response)

        return encoder, keep

    def lock(self, keeper: Keeper, owner: str, body: JsonObject, turn: ExitStack) -> None:
        """Let nobody else work on what a request's keeper locks, until `turn` ends. Raises InvalidRequest."""
        name = keeper.lock_of(body)
        if name is None:
            return
        release = self._workers.claim(_key("turn", owner, name))
        if release is None:
            raise keeper.locked(name)
        turn.callback(release)

    # --- resource routes

    async def serve(self, keeper: Keeper, owner: str, asked: Asked) -> JsonObject:
        """The answer of a resource route."""
        if asked.action in keeper.STOPS:
            await self._stop(owner, asked.params["id"])
        found = await self.find(keeper, owner, lambda found: keeper.needs(asked, found))
        outcome = keeper.handle(asked, found)
        await self._write(owner, outcome.changes)
        return outcome.body

    async def replay(
        self, keeper: Keeper, owner: str, asked: Asked, progress: Progress, reply: Reply, head: Headers
    ) -> None:
        """A run's stream from any place on: what it has said, and what it says from now on."""
        run = self._runs.get((owner, asked.params["id"]))
        if run is not None:
            await self.follow(run, reply, head, lambda frames: keeper.frames_after(frames, asked), progress)
            return
        found = await self.find(keeper, owner, lambda found: keeper.needs(asked, found))
        frames = keeper.frames_after(keeper.kept_frames(found, asked), asked)
        reply.start(200, stream_headers(head))
        progress.bytes_out += len(frames)
        reply.write(frames)
        reply.end()

    # --- runs

    async def start(self, kept: Kept, turn: ExitStack) -> Run:
        """Begin a run. It holds `turn` until its end. Raises StateUnavailable where it could not be found again."""
        with turn:
            run = Run(kept)
            response = run.encoder.response
            # Before the store knows of it: a run that nobody has claimed is one that was cut off.
            if (release := self._workers.claim(_run_key(kept.owner, response["id"]))) is not None:
                turn.callback(release)
            await self._write(kept.owner, tuple(kept.keeper.changes(kept.exchange, response, kept.found)))
            run.task = asyncio.create_task(self._run(run, turn.pop_all()), name=f"run {response['id']}")
        self._runs[(kept.owner, response["id"])] = run
        kept.progress.is_background = True
        return run

    async def _run(self, run: Run, turn: ExitStack) -> None:
        kept = run.kept

        async def keep(frames: list[bytes]) -> None:
            said = b"".join((*run.frames, *frames))
            more = kept.keeper.stream_changes(kept.exchange, said, int(self._upstream.now()))
            await self.keep(kept, run.encoder.response, *more)

        stream = Stream(self._upstream, run.encoder, kept.exchange, kept.progress, run, lambda: (), keep=keep)
        identifier = run.encoder.response["id"]
        error: GatewayError | None = None
        try:
            run.write(b"".join(run.encoder.begin()))
            error = await stream.run()
        finally:
            is_cancelled = run.is_cancelled and not run.has_ended
            if not run.has_ended:  # cancelled by a client, by the gateway's stop, or a bug
                error = InternalError(_INTERRUPTED)
                frames = run.encoder.cancel() if is_cancelled else run.encoder.fail(error)
                await keep(frames)
                run.write(b"".join(frames))
            turn.close()
            del self._runs[(kept.owner, identifier)]
            status = run.encoder.response["status"]
            log.info("%s run %s: %s", kept.progress.request.id, identifier, status)
            self._ledger.end_run(kept.progress, error, is_cancelled=is_cancelled)

    async def follow(
        self,
        run: Run,
        reply: Reply,
        head: Headers,
        cut: Callable[[bytes], bytes],
        progress: Progress | None = None,
    ) -> None:
        """Pass on what a run has said (as `cut` leaves it) and what it says until its end. progress: as a follower
        has it."""
        assert run.task is not None
        cut(b"")  # so that what is wrong with it is still a status
        follower = _Follower(reply, cut, progress)
        reply.start(200, stream_headers(head))
        follower.hear(run, b"")
        run.followers.add(follower)
        try:
            await asyncio.wait({run.task})
        finally:
            run.followers.discard(follower)
        reply.end()

    async def _stop(self, owner: str, identifier: str) -> None:
        """Cancel a run, if there is one, and wait until that is written."""
        run = self._runs.get((owner, identifier))
        if run is not None:
            run.is_cancelled = True
            await run.stop()
