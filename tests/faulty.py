"""A gateway between clients and an upstream that does everything wrong, and what must hold of it all the same.

`surviving` runs the real gateway on loopback. `Upstream` answers by the model that is asked for: `gemini-well` streams
in steps, each after the client has had the last one; what else is asked for with the key of the account "bad" is
answered by the fault under test, and with that of "good" as it should be.
"""

import asyncio
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import responses_stream
from wire import Answer, Raw, peer, until

from agproxy.account import Account, Endpoint
from agproxy.config import Config
from agproxy.embed import Running, listening

BAD_KEY, GOOD_KEY = "AIza-secret-of-the-bad-one", "AIza-secret-of-the-good-one"
BEGUN, WHOLE = "Grüße", "Grüße, schöne Welt"
STEPS = 40

SSE_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"


def chunk(text: str, finish: str | None = None) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}
    if finish is not None:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2}}


def dump(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def event(value: Any) -> bytes:
    return b"data: " + (value if isinstance(value, bytes) else dump(value)) + b"\r\n\r\n"


def piece(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


# The whole answer as one body, and as one event stream in two events.
UNARY = dump(chunk(WHOLE, "STOP"))
FIRST = event(chunk(BEGUN))
SECOND = event(chunk(WHOLE.removeprefix(BEGUN), "STOP"))


@dataclass(eq=False)
class Line:
    """One request at the faulty upstream: what a fault says to it. is_stream: an event stream was asked for.

    seen: set when the client has the first frame of the answer, so that a fault can strike right after it.
    """

    raw: Raw
    is_stream: bool
    seen: asyncio.Event

    @property
    def body(self) -> bytes:
        """The right body."""
        return FIRST + SECOND if self.is_stream else UNARY

    @property
    def middle(self) -> int:
        """A place in the body within a character of two bytes, within an event, and behind the first one."""
        return self.body.index("ö".encode()) + 1

    def write(self, data: bytes) -> None:
        self.raw.write(data)

    def answer(self, body: bytes | None = None, *headers: str, status: str = "200 OK", version: str = "1.1") -> None:
        """A whole answer of a stated length."""
        body = self.body if body is None else body
        lines = [f"HTTP/{version} {status}", f"Content-Length: {len(body)}", *headers]
        self.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    async def begin(self, head: bytes = SSE_HEAD) -> bytes:
        """Head and first event in one chunk, and wait until the client has it; what is left of the body. Of a unary
        answer the first 50 bytes."""
        cut = len(FIRST) if self.is_stream else 50
        self.write(head + (piece(self.body[:cut]) if head == SSE_HEAD else self.body[:cut]))
        if self.is_stream:
            await self.seen.wait()
        else:
            await self.raw.writer.drain()
        return self.body[cut:]

    async def fill(self, data: bytes) -> None:
        """Send without end, until the gateway has had enough."""
        while not self.raw.writer.transport.is_closing():
            self.write(data)
            await self.raw.writer.drain()
            await asyncio.sleep(0)

    async def closed(self) -> None:
        """Say nothing more, until the gateway closes."""
        await self.raw.is_closed()


Script = Callable[[Line], Awaitable[None]]


@dataclass(frozen=True)
class Fault:
    """What upstream does, and what clients get: "ok", or the code of their error.

    has_begun: a stream breaks after its first frame, so the error comes within it. settings: of the gateway.
    """

    script: Script
    unary: str | None
    stream: str | None
    has_begun: bool = False
    settings: dict[str, Any] = field(default_factory=dict)
    status: int | None = None

    def code(self, is_stream: bool) -> str | None:
        return self.stream if is_stream else self.unary


@dataclass
class Upstream:
    """The scripted upstream. requests: (path, key) of each; open: connections that are there."""

    fault: Script
    requests: list[tuple[str, str]] = field(default_factory=list)
    open: set[Raw] = field(default_factory=set)
    seen: dict[str, asyncio.Event] = field(default_factory=dict)
    steps: dict[str, asyncio.Queue[int]] = field(default_factory=dict)

    async def script(self, raw: Raw) -> None:
        self.open.add(raw)
        try:
            while True:
                request = await raw.request()
                path = request.chunks[0].decode().split(" ")[1]
                self.requests.append((path, request.headers.get("x-goog-api-key", "")))
                model, _, method = path.rpartition("/")[2].partition(":")
                if not method:
                    Line(raw, False, asyncio.Event()).answer(b'{"models": []}')
                    continue
                line = Line(raw, method.startswith("stream"), self.seen.setdefault(model, asyncio.Event()))
                if model.startswith("gemini-well"):
                    await self._stream_in_steps(raw, self.steps[model])
                elif request.headers["x-goog-api-key"] == GOOD_KEY:
                    line.answer()
                else:
                    await self.fault(line)
                    return
        finally:
            self.open.discard(raw)

    async def _stream_in_steps(self, raw: Raw, steps: "asyncio.Queue[int]") -> None:
        raw.write(SSE_HEAD)
        for number in range(STEPS):
            raw.write(piece(event(chunk(step_text(number), "STOP" if number == STEPS - 1 else None))))
            assert await steps.get() == number
        raw.write(LAST)


def step_text(number: int) -> str:
    return f"<{number} ü€😀 {'x' * (number * 37 % 300)}>"


# --- clients


def body_of(protocol: str, model: str, is_stream: bool) -> tuple[str, dict[str, Any]]:
    """Path and body of a request."""
    body: dict[str, Any] = {"model": model, "stream": is_stream}
    if protocol == "chat":
        return "/v1/chat/completions", body | {"messages": [{"role": "user", "content": "hello"}]}
    if protocol == "responses":
        return "/v1/responses", body | {"input": "hello"}
    return "/v1/completions", body | {"prompt": "hello"}


def request(path: str, body: Any) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data


def frames_of(answer: Answer) -> list[Any]:
    """The data of an event stream's frames, as JSON; [DONE] as it is."""
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = [line[6:] for line in answer.body.decode().split("\n") if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def text_of(protocol: str, answer: Answer, is_stream: bool) -> str:
    """The text of a whole good answer, whose form is checked; in a stream that failed, the text until then."""
    if not is_stream:
        body = json.loads(answer.body)
        if protocol == "chat":
            return body["choices"][0]["message"]["content"]
        if protocol == "completions":
            return body["choices"][0]["text"]
        return body["output"][-1]["content"][0]["text"]
    frames = frames_of(answer)
    if protocol == "responses":
        responses_stream.check(answer.body)
        return "".join(frame["delta"] for frame in frames if frame["type"] == "response.output_text.delta")
    choices = [choice for frame in frames if "choices" in frame for choice in frame["choices"]]
    if protocol == "chat":
        return "".join(choice["delta"].get("content") or "" for choice in choices)
    return "".join(choice["text"] for choice in choices)


def error_of(protocol: str, answer: Answer, is_stream: bool, has_begun: bool) -> dict[str, Any]:
    """The error that an answer tells, in its protocol's own shape."""
    if not (is_stream and has_begun):
        assert answer.headers["content-type"] == "application/json"
        assert answer.status in (500, 502, 503, 504), answer
        (key, error), *more = json.loads(answer.body).items()
        assert (key, more, set(error)) == ("error", [], {"message", "type", "param", "code"})
        assert error["type"] in ("server_error", "service_unavailable_error")
        return error
    assert answer.status == 200
    last = frames_of(answer)[-1]
    if protocol == "responses":
        assert responses_stream.check(answer.body)["status"] == "failed"
        assert last["response"]["error"]["code"] in ("server_error", "server_is_overloaded")
        return last["response"]["error"]
    assert set(last["error"]) == {"message", "type", "param", "code"}
    return last["error"]


# --- the gateway and what must hold of it


def open_files() -> int | None:
    folder = Path("/proc/self/fd")
    return len(os.listdir(folder)) if folder.is_dir() else None


@dataclass
class Neighbour:
    """Streams that run beside, one after the other: each must come whole. stalls: seconds from a step's sending to its
    coming, as the client sees it."""

    port: int
    upstream: Upstream
    model: str = "gemini-well"
    whole: int = 0
    chunks: int = 0
    stalls: list[float] = field(default_factory=list)
    is_last: bool = False

    async def run(self) -> None:
        while not (self.is_last and self.whole):
            await self._stream()

    async def _stream(self) -> None:
        raw = Raw(*await asyncio.open_connection("127.0.0.1", self.port))
        steps = self.upstream.steps[self.model] = asyncio.Queue()
        numbers = iter(range(STEPS))
        began = time.monotonic()

        def on_chunk(data: bytes) -> None:
            nonlocal began
            if b'"content":"<' in data:
                self.stalls.append(time.monotonic() - began)
                self.chunks += 1
                steps.put_nowait(next(numbers))
                began = time.monotonic()

        try:
            raw.write(request(*body_of("chat", self.model, True)))
            answer = await raw.answer(on_chunk=on_chunk)
        finally:
            await raw.close()
        assert answer.is_whole
        assert text_of("chat", answer, True) == "".join(map(step_text, range(STEPS)))
        assert frames_of(answer)[-1] == "[DONE]"
        self.whole += 1


@dataclass
class Scene:
    """A running gateway, its upstream, and a neighbour whose stream runs all the time."""

    running: Running
    upstream: Upstream
    neighbour: Neighbour
    raws: list[Raw] = field(default_factory=list)

    @property
    def port(self) -> int:
        return self.running.bound[0][1]

    async def connect(self, receive_bytes: int = 0) -> Raw:
        """A connection; receive_bytes: what the system may hold for a client that does not read, else it decides."""
        sock = socket.socket()
        if receive_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.port))
        raw = Raw(*await asyncio.open_connection(sock=sock, limit=2**26))
        self.raws.append(raw)
        return raw

    async def ask(self, protocol: str, model: str, is_stream: bool) -> Answer:
        """One request; upstream is told when the first frame of its answer is here."""
        raw = await self.connect()
        seen = self.upstream.seen.setdefault(model, asyncio.Event())
        raw.write(request(*body_of(protocol, model, is_stream)))
        return await raw.answer(on_chunk=lambda _: seen.set())

    async def nothing_is_left(self) -> None:
        """All clients leave; then nothing is under way, upstream's connections rest or are gone, no account is busy."""
        server, gateway = self.running.server, self.running.gateway
        for raw in self.raws:
            await raw.close()
        await until(lambda: not server._connections and not server._tasks)
        client = self.running.reach.lines._usual
        pools = client._pools.values()
        await until(lambda: client._connections == {one for pool in pools for one in pool._resting})
        resting = set(client._connections)
        assert [pool._open for pool in pools] == [len(pool._resting) for pool in pools]
        assert not any(pool._waiters for pool in pools)
        assert all(one._answer is None for one in resting)
        assert {use.in_flight for use in gateway.pool._uses.values()} == {0}
        assert not gateway.pool._probes
        assert gateway._upstream.attempts._waiting == 0
        await until(lambda: len(self.upstream.open) == len(resting))


@asynccontextmanager
async def surviving(
    fault: Script, *, accounts: tuple[Account, ...] | None = None, bad_url: str = "", **settings: Any
) -> AsyncIterator[Scene]:
    """A gateway on a faulty upstream, with a neighbour's stream all the time. At the end nothing may be left: no
    connection, task, open file or busy account, and the neighbour must have had all of its chunks.

    bad_url: where the account "bad" goes instead.
    """
    files, tasks = open_files(), asyncio.all_tasks()
    upstream = Upstream(fault)
    async with peer(upstream.script) as port:
        config = Config(
            **{
                "host": "127.0.0.1",
                "port": 0,
                "upstream_url": f"http://127.0.0.1:{port}",
                "scheduling": "fill-first",
                "max_attempts": 2,
                "keepalive_seconds": 0.0,
                "drain_seconds": 0.0,
                "max_wait_seconds": 0.0,
                **settings,
            }
        )
        known = accounts or (
            Account(
                id="bad", key=BAD_KEY, models=("gemini-lone-*", "gemini-pair-*"), endpoint=Endpoint(base_url=bad_url)
            ),
            Account(id="good", key=GOOD_KEY, models=("gemini-pair-*", "gemini-well*")),
        )
        async with listening(config, known) as running:
            neighbour = Neighbour(running.bound[0][1], upstream)
            scene = Scene(running, upstream, neighbour)
            beside = asyncio.create_task(neighbour.run())
            try:
                await until(lambda: neighbour.chunks)
                yield scene
                neighbour.is_last = True
                await beside
                await scene.nothing_is_left()
            finally:
                beside.cancel()
                await asyncio.gather(beside, return_exceptions=True)
                for raw in scene.raws:  # after a failure
                    raw.writer.transport.abort()
    await until(lambda: asyncio.all_tasks() == tasks)
    if files is not None:
        await until(lambda: open_files() == files)
