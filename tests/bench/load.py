"""Load: clients that cost little beside what they measure, and the accounts of the processes that they ask."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path

KEY = "bench-client-key"

# What OpenAI's SDK for Python sends beside Host and Content-Length.
_SDK_HEADERS = {
    "Accept-Encoding": "gzip, deflate",
    "Connection": "keep-alive",
    "Accept": "application/json",
    "Content-Type": "application/json",
    "User-Agent": "OpenAI/Python 2.8.1",
    "X-Stainless-Lang": "python",
    "X-Stainless-Package-Version": "2.8.1",
    "X-Stainless-OS": "Linux",
    "X-Stainless-Arch": "x64",
    "X-Stainless-Runtime": "CPython",
    "X-Stainless-Runtime-Version": "3.11.7",
    "Authorization": f"Bearer {KEY}",
    "X-Stainless-Async": "false",
    "x-stainless-retry-count": "0",
    "x-stainless-read-timeout": "600",
}
_TURN = 'Please look at this file and tell me what you would change in it:\n\tdef f(x):\n\t\treturn ["a", x + 1]\n'
MESSAGES = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "What is a gateway, in one sentence?"},
]


def messages_of(size: int, *, each: int = 5_000) -> list[dict[str, str]]:
    """A conversation of about so many bytes of JSON: turns of `each` bytes, as coding agents send them."""
    if size <= 1_000:
        return MESSAGES
    count = max(1, size // each) | 1  # odd: the last one is the user's
    text = (_TURN * (size // count // len(_TURN) + 1))[: size // count - len(_TURN) // 2]
    return [{"role": ("user", "assistant")[number % 2], "content": text} for number in range(count)]


def request(model: str, messages: list[dict[str, str]] = MESSAGES, **more: object) -> bytes:
    """A whole chat request."""
    body = json.dumps({"model": model, "messages": messages, **more}, ensure_ascii=False).encode()
    lines = [f"{name}: {value}" for name, value in _SDK_HEADERS.items()]
    head = "\r\n".join(
        ["POST /v1/chat/completions HTTP/1.1", "Host: 127.0.0.1", *lines, f"Content-Length: {len(body)}"]
    )
    return head.encode() + b"\r\n\r\n" + body


class Client(asyncio.Protocol):
    """One kept connection. `reads` are the moments at which bytes of the answer came."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._done: asyncio.Future[None] | None = None
        self._head = b""
        self._left: int | None = None
        self._tail = b""
        self.reads: list[float] = []
        self.bytes = 0
        self.is_over = False  # the server closes it, as some do after each answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    async def ask(self, data: bytes) -> None:
        """Send a request and wait for the whole answer. Raises where it is no 200."""
        self.reads = []
        self._head, self._left, self._tail = b"", None, b""
        self._done = asyncio.get_running_loop().create_future()
        self.transport.write(data)
        await self._done

    def data_received(self, data: bytes) -> None:
        self.reads.append(time.perf_counter())
        self.bytes += len(data)
        if self._left is None:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            if not self._head.startswith(b"HTTP/1.1 200"):
                self._fail(self._head[:400].decode())
                return
            lower = self._head[: end + 2].lower()
            self.is_over = b"\r\nconnection: close" in lower
            data = self._head[end + 4 :]
            place = lower.find(b"content-length: ")
            self._left = int(lower[place + 16 : lower.find(b"\r", place)]) if place >= 0 else -1
        if self._left < 0:
            self._tail = (self._tail + data)[-7:]
            if self._tail == b"\r\n0\r\n\r\n":
                self._finish()
        else:
            self._left -= len(data)
            if self._left <= 0:
                self._finish()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_over = True
        self._fail("the connection was closed")

    def _finish(self) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(None)

    def _fail(self, words: str) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(RuntimeError(words))


async def connect(port: int) -> Client:
    _, client = await asyncio.get_running_loop().create_connection(Client, "127.0.0.1", port)
    return client


class Clients:
    """Kept connections to one server."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._clients: list[Client] = []

    async def some(self, count: int) -> list[Client]:
        missing = count - len(self._clients)
        if missing > 0:
            self._clients += await asyncio.gather(*(connect(self.port) for _ in range(missing)))
        return self._clients[:count]

    async def run(self, data: bytes, *, total: int, concurrency: int) -> list[float]:
        """Ask `total` times, `concurrency` at once; the seconds that each took until its first byte."""
        todo: Iterator[int] = iter(range(total))
        waits: list[float] = []

        async def work(client: Client) -> None:
            for _ in todo:
                if client.is_over:
                    self._clients.remove(client)
                    client = await connect(self.port)
                    self._clients.append(client)
                began = time.perf_counter()
                await client.ask(data)
                waits.append(client.reads[0] - began)

        await asyncio.gather(*(work(client) for client in await self.some(concurrency)))
        return waits

    def close(self) -> None:
        for client in self._clients:
            client.transport.abort()
        self._clients.clear()


def cpu_seconds(pid: int) -> float:
    """What a process and its children have used, all living threads, to the nanosecond: /proc/PID/stat counts in
    hundredths of a second."""
    total = 0.0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            total += int((task / "schedstat").read_text().split()[0]) / 1e9
            total += sum(cpu_seconds(int(child)) for child in (task / "children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
    return total


def rss_kilobytes(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0])
