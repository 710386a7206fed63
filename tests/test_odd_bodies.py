"""Bodies that no honest client sends: each is answered rightly or refused clearly, and nobody else waits for it.

Through the real gateway, beside a healthy stream: what is no JSON or hardly any, what is huge, what is nested without
end. And every field of every request with values at the edges of JSON, by way of the gateway alone.
"""

import asyncio
import gzip
import json

import pytest
from fakes import FakeReply, FakeUpstream, Scripted, make_gateway
from faulty import WHOLE, body_of, dump, request, surviving, text_of
from wire import run

from agproxy.config import Config
from agproxy.frontends import FRONTENDS
from agproxy.http11 import HttpRequest
from agproxy.io.state import State

HALF = "\ud800"  # a surrogate alone: JSON may hold it, UTF-8 not
HUGE = 10**400  # an integer that is no double

CHAT = {"model": "gemini-lone-1", "messages": [{"role": "user", "content": "hello"}]}


def with_member(member):
    """Chat's body with one more member, as text."""
    return dump(CHAT)[:-1] + b", " + member.encode() + b"}"


def saying(content):
    return CHAT | {"messages": [{"role": "user", "content": content}]}


DEEP = 20_000
# body -> the status that it gets.
BODIES = {
    "nothing": (b"", 400),
    "white space": (b" \r\n\t ", 400),
    "no JSON": (b"hello", 400),
    "half of it": (dump(CHAT)[:-10], 400),
    "more than it": (dump(CHAT) + b"}", 400),
    "two of it": (dump(CHAT) * 2, 400),
    "a list": (b"[" + dump(CHAT) + b"]", 400),
    "a text": (b'"hello"', 400),
    "null": (b"null", 400),
    "NUL": (b"\0" * 100, 400),
    "UTF-16": (json.dumps(CHAT).encode("utf-16"), 400),
    "UTF-16 without its mark": (json.dumps(CHAT).encode("utf-16-le"), 400),
    "UTF-32": (json.dumps(CHAT).encode("utf-32"), 400),
    "Latin-1": (dump(saying("Grüße")).decode().encode("latin-1"), 400),
    "half a character": (dump(saying("Grüße")).replace("ß".encode(), b"\xc3"), 400),
    "a character that is too long": (dump(saying("A")).replace(b"A", b"\xc1\x81"), 400),
    "a surrogate in UTF-8": (dump(saying("A")).replace(b"A", b"\xed\xa0\x80"), 400),
    "a byte order mark": (b"\xef\xbb\xbf" + dump(CHAT), 200),
    "two byte order marks": (b"\xef\xbb\xbf\xef\xbb\xbf" + dump(CHAT), 400),
    "gzip that is not told": (gzip.compress(dump(CHAT)), 400),
    "NaN": (with_member('"temperature": NaN'), 400),
    "Infinity": (with_member('"temperature": -Infinity'), 400),
    "1e400": (with_member('"temperature": 1e400'), 400),
    "1e400 in an unknown field": (with_member('"x": 1e400'), 400),
    "an integer of 400 digits": (with_member(f'"temperature": {HUGE}'), 400),
    "an integer of 4,000 digits": (with_member(f'"max_tokens": {"9" * 4000}'), 200),
    "an integer of 5,000 digits": (with_member(f'"seed": {"9" * 5000}'), 400),
    "an integer of a million digits": (with_member(f'"x": {"9" * 1_000_000}'), 400),
    "a fraction of a million digits": (with_member(f'"temperature": 0.{"1" * 1_000_000}'), 200),
    "a leading zero": (with_member('"n": 01'), 400),
    "a hexadecimal number": (with_member('"n": 0x1'), 400),
    "a control character in a text": (dump(saying("A")).replace(b"A", b"a\nb"), 400),
    "an escape that is none": (dump(saying("A")).replace(b"A", rb"\x41"), 400),
    "a surrogate alone": (json.dumps(saying(HALF)).encode(), 200),
    "a surrogate alone as the model": (json.dumps(CHAT | {"model": f"gemini-lone-{HALF}"}).encode(), 200),
    "a surrogate alone as a name": (json.dumps(CHAT | {HALF: HALF}).encode(), 200),
    "NUL in a text": (json.dumps(saying("a\0b")).encode(), 200),
    "NUL in the model": (json.dumps(CHAT | {"model": "gemini-lone-\0"}).encode(), 200),
    "line ends in the model": (json.dumps(CHAT | {"model": "gemini-lone-\r\nx: y"}).encode(), 200),
    "the model twice": (with_member('"model": "gemini-lone-2"'), 200),
    "the model twice, the last one null": (with_member('"model": null'), 400),
    "messages twice": (with_member('"messages": []'), 400),
    "100,000 names": (with_member(", ".join(f'"{n}": 0' for n in range(100_000))), 200),
    "deep lists": (with_member(f'"x": {"[" * DEEP}{"]" * DEEP}'), 400),
    "deep objects": (with_member(f'"x": {chr(123)}"a":' * DEEP + "1" + "}" * DEEP), 400),
    "deep lists that do not end": (b"[" * 1_000_000, 400),
    "deep content": (dump(saying("A")).replace(b'"A"', b"[" * 150 + b"]" * 150), 400),
    "100,000 messages": (dump(CHAT | {"messages": CHAT["messages"] * 100_000}), 200),
    "100,000 messages, the last one wrong": (dump(CHAT | {"messages": [*CHAT["messages"] * 100_000, 5]}), 400),
    "10 MB in one text": (dump(saying("word " * 2_000_000)), 200),
    "100,000 parts": (dump(saying([{"type": "text", "text": "x"}] * 100_000)), 200),
    "100,000 tools": (dump(CHAT | {"tools": [{"type": "function", "function": {"name": "f"}}] * 100_000}), (200, 400)),
}


@pytest.mark.parametrize("name", BODIES)
def test_an_odd_body_is_answered_or_refused_and_nobody_waits_for_it(name, caplog):
    body, status = BODIES[name]

    async def answers(line):
        line.answer()
        await line.closed()

    async def main():
        async with surviving(answers) as scene:
            raw = await scene.connect()
            raw.write(request("/v1/chat/completions", body))
            answer = await raw.answer()
            assert answer.is_whole
            assert answer.status in (status if isinstance(status, tuple) else (status,)), answer.body[:300]
            if answer.status == 200:
                assert text_of("chat", answer, False) == WHOLE
            else:
                error = json.loads(answer.body)["error"]
                assert error["type"] == "invalid_request_error"
                assert len(answer.body) < 1000
            raw.write(request(*body_of("chat", "gemini-lone-9", False)))  # the connection goes on
            assert (await raw.answer()).status == 200

    run(main)
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "WARNING")]


# --- fields

ANSWER = {"candidates": [{"content": {"parts": [{"text": "hi"}]}, "finishReason": "STOP"}]}
BASES = {
    "openai_chat": ("/v1/chat/completions", {"model": "gemini-x", "messages": [{"role": "user", "content": "x"}]}),
    "openai_completions": ("/v1/completions", {"model": "gemini-x", "prompt": "x"}),
    "openai_responses": ("/v1/responses", {"model": "gemini-x", "input": "x"}),
}
_SCHEMA = {"type": "object", "properties": {HALF: {"type": "number", "minimum": HUGE, "enum": [HALF]}}}
_CALL = {"id": HALF, "type": "function", "function": {"name": HALF, "arguments": '{"a":1e400}'}}
VALUES = (
    HUGE,
    -HUGE,
    10**4000,
    2**63,
    1e308,
    5e-324,
    -0.0,
    HALF,
    "a\0b",
    "x" * 70_000,
    [HALF],
    [HUGE],
    {HALF: HALF},
    {"a": HUGE},
    {"type": HALF},
    [{"type": HALF}],
    [{"role": "user", "content": HALF}],
    [{"role": "user", "content": [{"type": "text", "text": "\0"}]}],
    [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": f"data:{HALF};base64,{HALF}"}}]}],
    [{"role": "user", "content": [{"type": "input_image", "image_url": f"https://exa{HALF}mple/"}]}],
    [{"role": "assistant", "tool_calls": [_CALL]}, {"role": "tool", "tool_call_id": HALF, "content": HALF}],
    [{"type": "function_call", "call_id": HALF, "name": "f", "arguments": "9" * 5000}],
    [{"type": "function", "function": {"name": HALF, "parameters": _SCHEMA}}],
    [{"type": "function", "name": "f", "parameters": _SCHEMA}],
    {"type": "json_schema", "json_schema": {"name": HALF, "schema": _SCHEMA}},
    {"format": {"type": "json_schema", "name": "a", "schema": {"const": HALF, "$ref": f"#/{HALF}"}}},
)


async def answered(path, body, method="POST"):
    """The answer of a gateway that keeps what is asked, also to what goes on from it."""
    stream = b"data: " + dump(ANSWER) + b"\n\n"
    is_stream = bool(body.get("stream"))
    script = [Scripted(pieces=(stream,)) if is_stream else Scripted.of(ANSWER) for _ in range(8)]
    store = State(None, max_age_seconds=1e6, max_bytes=10**9)
    config = Config(keepalive_seconds=0.0, fetch_media="refuse", max_wait_seconds=0.0)
    gateway = make_gateway(FakeUpstream(script), config=config, store=store)
    reply = FakeReply()
    asked = HttpRequest(
        method=method,
        path=path,
        query="",
        headers=(("host", "localhost"),),
        body=json.dumps(body).encode(),
        peer="127.0.0.1",
        id="req_1",
    )
    try:
        await gateway.handle(asked, reply)
    finally:
        await gateway.close()
        await store.close()
    return reply


@pytest.mark.parametrize(("name", "field"), [(name, field) for name in BASES for field in FRONTENDS[name].FIELDS])
def test_a_field_at_the_edges_of_json_is_taken_or_refused(name, field, caplog):
    path, body = BASES[name]

    async def main():
        for value in VALUES:
            for is_stream in (False, True):
                reply = await answered(path, {"stream": is_stream} | body | {field: value})
                assert reply.status in (200, 400, 404), (value, reply.body)
                reply.body.decode()

    asyncio.run(main())
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("path", ["/v1/conversations", "/v1/responses"])
@pytest.mark.parametrize("kind", ["message", "reasoning", "item_reference", "function_call"])
def test_an_item_whose_id_is_no_text_for_a_database_is_no_failure(path, kind):
    item = {"type": kind, "id": HALF, "role": "user", "content": HALF, "summary": [], "call_id": HALF, "name": "f"}
    body = {"items": [item]} if path == "/v1/conversations" else {"model": "gemini-x", "input": [item]}

    reply = asyncio.run(answered(path, body))

    assert reply.status in (200, 400, 404), reply.body
