"""Stand-ins for the two ends of a gateway: a client's reply that remembers, an upstream that follows a script."""

import asyncio
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from agproxy.config import Config
from agproxy.gateway import Gateway
from agproxy.http11 import Call, Flow, Follower, Headers, HttpRequest, HttpResponse
from agproxy.pool import Account, Pool
from agproxy.records import Store


class FakeReply:
    """A Reply that keeps what it was given; `writes` are the pieces of a streamed body."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.writes: list[bytes] = []
        self.has_ended = False
        self.was_aborted = False

    @property
    def has_started(self) -> bool:
        return self.status != 0

    @property
    def body(self) -> bytes:
        return b"".join(self.writes)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def send(self, response: HttpResponse) -> None:
        self.start(response.status, response.headers)
        self.writes.append(response.body)
        self.end()

    def start(self, status: int, headers: Headers) -> None:
        assert not self.has_started
        self.status, self.headers = status, dict(headers)

    def write(self, data: bytes) -> None:
        assert self.has_started
        assert not self.has_ended
        self.writes.append(data)

    def end(self) -> None:
        assert not self.has_ended
        self.has_ended = True

    def abort(self) -> None:
        self.was_aborted = True

    def follow(self, source: Flow | None) -> None:
        pass


@dataclass
class Scripted:
    """One upstream answer: whole, or its body in pieces; `error` breaks it off after the pieces."""

    status: int = 200
    pieces: Iterable[bytes] = ()
    headers: Headers = (("content-type", "application/json"),)
    error: Exception | None = None
    is_closed: bool = False

    @classmethod
    def of(cls, value: Any, status: int = 200) -> "Scripted":
        return cls(status=status, pieces=(json.dumps(value).encode(),))

    async def read(self) -> bytes:
        if self.error is not None:
            raise self.error
        return b"".join(self.pieces)

    async def pump(self, feed: Callable[[bytes], None], reply: Follower | None = None) -> None:
        for piece in self.pieces:
            feed(piece)
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        self.is_closed = True


@dataclass
class FakeUpstream:
    """Answers calls by a script, in order; an exception in it is raised. `calls` are those that came."""

    script: list[Scripted | Exception]
    calls: list[Call] = field(default_factory=list)

    async def send(self, call: Call) -> Scripted:
        self.calls.append(call)
        answer = self.script.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def bodies(self) -> list[Any]:
        return [json.loads(call.body) for call in self.calls]


NOW = 1700000000


def make_gateway(
    upstream: FakeUpstream, *keys: str, config: Config | None = None, store: Store | None = None, **more: Any
) -> Gateway:
    """A gateway with accounts of these keys, a clock that starts at NOW, and counted ids."""
    numbers = iter(range(1, 1_000_000))
    began = time.monotonic()
    return Gateway(
        config=config or Config(keepalive_seconds=0.0),
        pool=Pool(Account(id=f"account-{key}", key=key) for key in keys or ("k",)),
        send=upstream.send,
        base_url="https://upstream.example/v1beta",
        now=lambda: NOW + time.monotonic() - began,
        clock=lambda: 0.0,
        new_id=lambda: f"{next(numbers):024x}",
        store=store,
        **more,
    )


def ask(gateway: Gateway, path: str, body: Any, method: str = "POST", headers: Headers = ()) -> FakeReply:
    """One request through a gateway, from a client on this machine."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = HttpRequest(
        method=method,
        path=path,
        query="",
        headers=(("host", "localhost"), *headers),
        body=data,
        peer="127.0.0.1",
        id="req_1",
    )
    reply = FakeReply()

    async def run() -> None:
        await gateway.handle(request, reply)
        await gateway.close()

    asyncio.run(run())
    return reply
