"""What holds of the gateway for any request and any answer of upstream, as plain functions: tests/fuzz looks for what
breaks them, and what once did is tried again from tests/fuzz/found with each run.
"""

import asyncio
import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import chat_stream
import responses_stream
from fakes import FakeReply, FakeUpstream, Scripted, make_gateway
from json_schemas import assert_accepted

from agproxy import jsontext
from agproxy.backends.gemini.schema import clean_json_schema, restore_value, to_gemini_schema
from agproxy.config import Config
from agproxy.errors import GatewayError
from agproxy.frontends import FRONTENDS
from agproxy.http11 import Call, HttpRequest
from agproxy.io.state import State

PATHS = {
    "openai_chat": "/v1/chat/completions",
    "openai_completions": "/v1/completions",
    "openai_responses": "/v1/responses",
}
CONFIG = Config(keepalive_seconds=0.0, max_wait_seconds=0.0, max_attempts=1, fetch_media="pass", auth_mode="off")
GOOD = {
    "candidates": [{"content": {"role": "model", "parts": [{"text": "hi"}]}, "finishReason": "STOP"}],
    "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5},
    "modelVersion": "gemini-2.5-flash",
    "responseId": "r",
}
Split = Callable[[bytes], Sequence[bytes]]


def in_one(data: bytes) -> Sequence[bytes]:
    return [data]


@dataclass
class Same:
    """An upstream that says the same to every call: these chunks."""

    chunks: Sequence[Any] = (GOOD,)
    split: Split = in_one
    calls: list[Call] = field(default_factory=list)

    async def send(self, call: Call) -> Scripted:
        self.calls.append(call)
        assert json.loads(call.body or b"{}") is not None
        if ":countTokens" in call.url:
            return Scripted.of({"totalTokens": 3})
        if ":streamGenerateContent" in call.url:
            data = b"".join(b"data: " + json.dumps(chunk).encode() + b"\r\n\r\n" for chunk in self.chunks)
            return Scripted(pieces=self.split(data), headers=(("content-type", "text/event-stream"),))
        if ":generateContent" in call.url:
            return Scripted.of(self.chunks[0])
        return Scripted.of({"models": [{"name": "models/gemini-2.5-flash"}]})


@dataclass(frozen=True)
class Ask:
    """One request of a client; body: JSON, bytes as they are, or None for none."""

    path: str
    body: Any = None
    method: str = "POST"
    query: str = ""


def converse(*asked: Ask, upstream: Same | FakeUpstream | None = None, is_kept: bool = False) -> list[FakeReply]:
    """The answers of one gateway to requests, one after the other. `{0}` in a path or a body is the id in
    the first answer."""
    replies: list[FakeReply] = []

    async def main() -> None:
        store = State(None, max_age_seconds=1e9, max_bytes=1 << 30) if is_kept else None
        gateway = make_gateway(upstream or Same(), config=CONFIG, store=store)  # type: ignore[arg-type]
        try:
            for ask in asked:
                first = str(replies[0].json.get("id")) if replies else ""
                path = ask.path.replace("{0}", first)
                data = ask.body
                if not isinstance(data, bytes):
                    data = b"" if data is None else json.dumps(data).replace("{0}", first).encode()
                headers = (("host", "localhost"),)
                request = HttpRequest(
                    method=ask.method, path=path, query=ask.query, headers=headers, body=data, peer="::1", id="req_1"
                )
                replies.append(FakeReply())
                await gateway.handle(request, replies[-1])
        finally:
            await gateway.close()
            if store is not None:
                await store.close()

    asyncio.run(main())
    return replies


# --- requests --------------------------------------------------------------------------------------------------


def refused_well(reply: FakeReply) -> None:
    """An error that is the client's, told in words."""
    assert reply.has_ended
    assert 400 <= reply.status < 500, reply.body
    error = reply.json["error"]
    assert isinstance(error["message"], str)
    assert error["message"]


def decodes(name: str, body: Any) -> None:
    """A codec takes a body or refuses it by name, and never changes it."""
    before = copy.deepcopy(body)
    try:
        FRONTENDS[name].decode_request(body)
    except GatewayError as error:
        assert 400 <= error.status < 500  # noqa: PT017
        shown = FRONTENDS[name].encode_error(error)["error"]
        top = (shown["param"] or "").replace("[", ".").partition(".")[0]
        assert top in {*body, *FRONTENDS[name].FIELDS} or any(word in shown["message"] for word in ("model", "body"))
    assert repr(body) == repr(before)


def answers(name: str, body: Any) -> FakeReply:
    """A good upstream's answer reaches the client, or the request is refused."""
    (reply,) = converse(Ask(PATHS[name], body))
    if reply.status != 200:
        refused_well(reply)
    elif b"text/event-stream" in reply.headers["content-type"].encode():
        told = read_stream(name, reply.body)
        assert told is not None, reply.body
    else:
        assert reply.json["object"]
    return reply


def told(asked: Sequence[Any], *, is_kept: bool = True) -> None:
    """Each request of a talk is answered, or refused as the client's fault. Of JSON, each one is a list: path, body,
    method, query."""
    for reply in converse(*(ask if isinstance(ask, Ask) else Ask(*ask) for ask in asked), is_kept=is_kept):
        assert reply.has_ended
        if reply.status >= 400:
            refused_well(reply)
        else:
            assert reply.status in (200, 204)


# --- answers ---------------------------------------------------------------------------------------------------


def read_stream(name: str, body: bytes) -> Any:
    """What a legal stream adds up to; None if it ends with an error."""
    if name == "openai_responses":
        final = responses_stream.check(body)
        return None if final["status"] == "failed" else final
    chunks = chat_stream.check(body) if name == "openai_chat" else chat_stream.check_completions(body)
    if chunks and "error" in chunks[-1]:
        return None
    usage = next((chunk["usage"] for chunk in chunks if chunk.get("usage")), None)
    return chat_stream.plain(chat_stream.join(chunks)), usage


def read_whole(name: str, body: Any) -> Any:
    """The same of a unary answer."""
    if name == "openai_responses":
        return body
    return chat_stream.plain(chat_stream.whole(body)), body["usage"]


REQUESTS: dict[str, Any] = {
    "openai_chat": {
        "model": "gemini-2.5-flash",
        "messages": [{"role": "user", "content": "x"}],
        "stream_options": {"include_usage": True},
        "tools": [
            {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}},
            {"type": "custom", "custom": {"name": "note"}},
        ],
    },
    "openai_completions": {"model": "gemini-2.5-flash", "prompt": "x", "stream_options": {"include_usage": True}},
    "openai_responses": {
        "model": "gemini-2.5-flash",
        "input": "x",
        "tools": [{"type": "function", "name": "look"}, {"type": "custom", "name": "note"}, {"type": "shell"}],
    },
}


def streams(name: str, chunks: Sequence[Any], split: Split = in_one, **more: Any) -> None:
    """Whatever upstream streams ends legally, and says the same in any split."""
    body = REQUESTS[name] | more | {"stream": True}
    (first,) = converse(Ask(PATHS[name], body), upstream=Same(chunks))
    (other,) = converse(Ask(PATHS[name], body), upstream=Same(chunks, split))
    for reply in (first, other):
        assert reply.has_ended
        assert not reply.was_aborted
        if reply.status == 200:
            read_stream(name, reply.body)
        else:
            assert 400 <= reply.status < 600
            assert reply.json["error"]["message"]
    assert (other.status, other.body) == (first.status, first.body)


def same_whole_and_streamed(name: str, chunk: Any, **more: Any) -> None:
    """An answer in one piece and the stream of that piece tell a client the same."""
    body = REQUESTS[name] | more
    plain_body = {key: value for key, value in body.items() if key != "stream_options"}
    (unary,) = converse(Ask(PATHS[name], plain_body), upstream=Same((chunk,)))
    (streamed,) = converse(Ask(PATHS[name], body | {"stream": True}), upstream=Same((chunk,)))
    assert unary.has_ended
    assert streamed.has_ended
    if unary.status != 200:
        assert 400 <= unary.status < 600
        assert unary.json["error"]["message"]
        assert streamed.status == unary.status or read_stream(name, streamed.body) is None
        return
    if streamed.status != 200:
        raise AssertionError((unary.body, streamed.body))
    assert read_stream(name, streamed.body) == read_whole(name, unary.json)


def fails_well(name: str, status: int, body: bytes, headers: Sequence[Sequence[str]] = (), **more: Any) -> None:
    """Whatever upstream's answer is made of, a client has an answer or an error of its own protocol."""
    script = Scripted(status=status, pieces=(body,), headers=tuple((key, value) for key, value in headers))
    (reply,) = converse(Ask(PATHS[name], REQUESTS[name] | more), upstream=FakeUpstream([script]))
    assert reply.has_ended
    assert not reply.was_aborted
    if reply.status != 200:
        assert 400 <= reply.status < 600
        assert reply.json["error"]["message"]
    elif more.get("stream"):
        read_stream(name, reply.body)
    else:
        assert reply.json["object"]


# --- schemas ---------------------------------------------------------------------------------------------------


def converts(schema: Any, *, is_arguments: bool = True, may_restore: bool = True) -> None:
    """Any object becomes a schema that Gemini takes, and is not changed itself; restoring takes any value."""
    before = copy.deepcopy(schema)
    converted = to_gemini_schema(schema, "f", is_arguments=is_arguments, may_restore=may_restore)
    assert_accepted(converted.schema)
    cleaned, _ = clean_json_schema(schema)
    assert clean_json_schema(cleaned)[0] is cleaned
    assert repr(schema) == repr(before)
    for value in (None, "x", {}, {"a": [1, {"b": None}]}, schema):
        jsontext.text(restore_value(copy.deepcopy(value), converted.restore))
