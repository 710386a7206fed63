"""What the tests of the server and of the client share: a checked event loop, raw connections, scripted peers."""

import asyncio
import contextlib
import gc
import http.client
import selectors
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

from agproxy.config import Config
from agproxy.http11 import Handler, HttpRequest, HttpResponse, Reply
from agproxy.io import listen
from agproxy.io.server import Server

PATIENCE_SECONDS = 20.0  # how long a test that hangs may hang


class SkippingLoop(asyncio.SelectorEventLoop):
    """A loop whose clock stands while anything happens, and jumps to the next timer when nothing does.

    Time-outs are then exact on however slow a machine. Not for tests with threads, which happen outside the loop.
    """

    def __init__(self) -> None:
        super().__init__(_SkippingSelector(self))
        self.now = 0.0

    def time(self) -> float:
        return self.now


class _SkippingSelector(selectors.DefaultSelector):
    def __init__(self, loop: SkippingLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        events = super().select(0.002)  # what is on its way through the kernel counts as happening
        if not events:
            self._loop.now += timeout
        return events


def run(main: Callable[[], Awaitable[None]], *, skips_time: bool = False) -> None:
    """Run a test's coroutine; then no task, no open transport and no unhandled exception may be left."""

    async def checked() -> None:
        loop = asyncio.get_running_loop()
        complaints: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        async with asyncio.timeout(PATIENCE_SECONDS):
            await main()
        await asyncio.sleep(0)  # transports that were closed say so in the next turn
        await asyncio.sleep(0)
        assert not complaints, complaints
        assert asyncio.all_tasks() == {asyncio.current_task()}
        left = [transport for transport in loop._transports.values() if not transport.is_closing()]
        assert not left, left
        gc.collect()  # what was forgotten unclosed warns here, and warnings are errors
        assert not complaints, complaints

    with asyncio.Runner(loop_factory=SkippingLoop if skips_time else None) as runner:
        runner.run(checked())


async def until(condition: Callable[[], Any]) -> None:
    """Let the loop turn until something has happened."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            await asyncio.sleep(0.001)


@dataclass
class Answer:
    """An answer as it stood on the wire."""

    status: int
    headers: dict[str, str]
    body: bytes
    is_whole: bool = True
    chunks: list[bytes] = field(default_factory=list)


class Raw:
    """One side of a connection, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    async def write_bytewise(self, data: bytes) -> None:
        for i in range(len(data)):
            self.writer.write(data[i : i + 1])
            await asyncio.sleep(0)
            if self.writer.transport.is_closing():
                return

    async def answer(self, method: str = "GET", on_chunk: Callable[[bytes], None] | None = None) -> Answer:
        """The next answer; not whole where the connection ended within it. on_chunk: is told each chunk as it comes."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status_line, *lines = head.split("\r\n")[:-2]
        version, status = status_line.split(" ")[:2]
        assert version == "HTTP/1.1"
        pairs = [line.split(": ", 1) for line in lines]
        headers = {name.lower(): value for name, value in pairs}
        assert len(headers) == len(pairs), f"a header came twice: {pairs}"
        answer = Answer(int(status), headers, b"")
        try:
            if method == "HEAD" or status in ("100", "204", "304"):
                pass
            elif headers.get("transfer-encoding") == "chunked":
                while size := int(await self.reader.readuntil(b"\r\n"), 16):
                    answer.chunks.append(await self.reader.readexactly(size))
                    assert await self.reader.readexactly(2) == b"\r\n"
                    if on_chunk is not None:
                        on_chunk(answer.chunks[-1])
                assert await self.reader.readexactly(2) == b"\r\n"
                answer.body = b"".join(answer.chunks)
            elif "content-length" in headers:
                answer.body = await self.reader.readexactly(int(headers["content-length"]))
            else:
                answer.body = await self.reader.read()
        except (asyncio.IncompleteReadError, ConnectionError):
            answer.is_whole = False
        return answer

    async def request(self) -> Answer:
        """The next request, as `headers` and `body`; `chunks[0]` is its first line."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        line, *lines = head.decode("latin-1").split("\r\n")[:-2]
        headers = dict(item.split(": ", 1) for item in lines)
        body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return Answer(0, headers, body, chunks=[line.encode()])

    async def is_closed(self) -> bool:
        """Whether nothing more comes: waits until the peer closes. False where bytes come."""
        try:
            return await self.reader.read(1) == b""
        except ConnectionError:
            return True

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


def refuse(error: Any, path: str) -> HttpResponse:
    """Errors as the tests render them: the path shows in whose words it would be."""
    return HttpResponse(status=error.status, headers=(("x-refused-at", path),), body=error.message.encode())


@dataclass
class Served:
    """A running server and what its handler has seen."""

    server: Server
    port: int
    requests: list[HttpRequest]
    raws: list[Raw] = field(default_factory=list)

    async def connect(self, **options: Any) -> Raw:
        raw = Raw(*await asyncio.open_connection("127.0.0.1", self.port, limit=2**26, **options))
        self.raws.append(raw)
        return raw


async def echo(request: HttpRequest, reply: Reply) -> None:
    """The plainest handler."""
    reply.send(HttpResponse(status=200, headers=(("content-type", "text/plain"),), body=request.body))


@contextlib.asynccontextmanager
async def serving(
    handler: Handler = echo, *, tls: ssl.SSLContext | None = None, **settings: Any
) -> AsyncIterator[Served]:
    """A server on a free port; at the end all is closed."""
    requests: list[HttpRequest] = []

    async def recording(request: HttpRequest, reply: Reply) -> None:
        requests.append(request)
        await handler(request, reply)

    numbers = iter(range(1, 10**9))
    server = Server(replace(Config(), **settings), recording, refuse, lambda: f"req_{next(numbers)}")
    listeners = listen.bind(["127.0.0.1"], 0)
    ((_, port),) = listen.bound(listeners)
    await server.start(listeners, tls)
    served = Served(server, port, requests)
    try:
        yield served
    finally:
        for raw in served.raws:
            await raw.close()
        await server.close(0)


@contextlib.asynccontextmanager
async def peer(script: Callable[[Raw], Awaitable[None]], **options: Any) -> AsyncIterator[int]:
    """A scripted server: `script` runs once a connection, then the connection is closed. Gives the port."""
    tasks: set[asyncio.Task[None]] = set()
    failures: list[BaseException] = []

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        raw = Raw(reader, writer)
        try:
            await script(raw)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client went away, or the test is over
        except BaseException as error:
            failures.append(error)
        finally:
            writer.transport.abort() if writer.is_closing() else writer.close()
            tasks.discard(task)

    server = await asyncio.start_server(on_connection, "127.0.0.1", 0, **{"limit": 2**26, **options})
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)
        assert not failures, failures


def upload_too_much(client: http.client.HTTPConnection) -> None:
    """Send 32 MB to a server that takes 1,000 bytes, and read what it says to that."""
    with contextlib.closing(client):
        client.request("POST", "/", body=bytes(32 * 2**20))
        answer = client.getresponse()
        assert answer.status == 413
        assert b"over 1000 bytes" in answer.read()
