"""Requests to the simulated Gemini without a socket: a reply that keeps what it is given, and readers of answers."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from agproxy.http11 import Headers, HttpRequest, HttpResponse
from agproxy.simulator import Simulator

KEY: Headers = (("x-goog-api-key", "k"),)
FLASH = "/v1beta/models/gemini-2.5-flash"
THIRD = "/v1beta/models/gemini-3.8-flash"
VERTEX = "/v1beta1/projects/p/locations/global/publishers/google/models"
WEATHER = {
    "name": "get_weather",
    "description": "The weather at a place.",
    "parametersJsonSchema": {
        "type": "object",
        "properties": {"location": {"type": "string"}, "unit": {"enum": ["celsius", "fahrenheit"]}},
        "required": ["location"],
    },
}


@dataclass
class Kept:
    """A Reply that keeps everything."""

    status: int = 0
    headers: Headers = ()
    body: bytes = b""
    writes: list[bytes] = field(default_factory=list)
    has_started: bool = False
    has_ended: bool = False
    is_aborted: bool = False
    source: Any = None

    def send(self, response: HttpResponse) -> None:
        assert not self.has_started
        self.status, self.headers, self.body = response.status, response.headers, response.body
        self.has_started = self.has_ended = True

    def start(self, status: int, headers: Headers) -> None:
        assert not self.has_started
        self.status, self.headers, self.has_started = status, headers, True

    def write(self, data: bytes) -> None:
        assert self.has_started
        assert not self.has_ended
        self.writes.append(data)
        self.body += data

    def end(self) -> None:
        assert not self.is_aborted
        self.has_ended = True

    def abort(self) -> None:
        self.is_aborted = self.has_ended = True

    def follow(self, source: Any) -> None:
        self.source = source

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        return self.json["error"]

    @property
    def parts(self) -> list[dict[str, Any]]:
        """The parts of a whole answer's only candidate."""
        (candidate,) = self.json["candidates"]
        return candidate.get("content", {}).get("parts", [])

    @property
    def text(self) -> str:
        return text_of(self.parts)

    @property
    def calls(self) -> list[tuple[str, Any]]:
        return [
            (part["functionCall"]["name"], part["functionCall"]["args"])
            for part in self.parts
            if "functionCall" in part
        ]

    @property
    def chunks(self) -> list[Any]:
        """The chunks of an event stream; every line of it has to be an event."""
        blocks = self.body.decode().split("\r\n\r\n")
        assert blocks.pop() == ""
        assert all(block.startswith("data: ") and "\n" not in block for block in blocks)
        return [json.loads(block[6:]) for block in blocks]


def text_of(parts: list[dict[str, Any]]) -> str:
    return "".join(part.get("text", "") for part in parts if not part.get("thought"))


def streamed_parts(chunks: list[Any], candidate: int = 0) -> list[dict[str, Any]]:
    return [
        part
        for chunk in chunks
        for one in chunk.get("candidates", [])
        if one.get("index", 0) == candidate
        for part in one.get("content", {}).get("parts", [])
    ]


class Clock:
    """A sleep that takes no time and keeps what it was asked for."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.waits.append(seconds)

    @property
    def total(self) -> float:
        return sum(self.waits)


def ask(
    path: str,
    body: Any = None,
    *,
    method: str | None = None,
    headers: Headers = KEY,
    simulator: Simulator | None = None,
) -> Kept:
    """One request; `body` as JSON, or bytes as they are."""
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    bare, _, query = path.partition("?")
    verb = method or ("GET" if body is None else "POST")
    request = HttpRequest(method=verb, path=bare, query=query, headers=headers, body=data, peer="", id="1")
    reply = Kept()
    asyncio.run((simulator or Simulator(sleep=Clock()))(request, reply))
    assert reply.has_ended
    return reply


def prompt(text: str = "Hello", **more: Any) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": [{"text": text}]}]} | more


def tools(*declarations: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"functionDeclarations": list(declarations or (WEATHER,))}]


def generate(text: str = "Hello", *, path: str = THIRD, simulator: Simulator | None = None, **more: Any) -> Kept:
    return ask(f"{path}:generateContent", prompt(text, **more), simulator=simulator)


def stream(text: str = "Hello", *, path: str = THIRD, simulator: Simulator | None = None, **more: Any) -> Kept:
    return ask(f"{path}:streamGenerateContent?alt=sse", prompt(text, **more), simulator=simulator)
