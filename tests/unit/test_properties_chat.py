"""What holds for any Chat request that a client could send, and for any bytes that upstream could answer with."""

import json

import pytest

pytest.importorskip("hypothesis")

from chat_stream import check
from fakes import FakeUpstream, Scripted, ask, make_gateway
from hypothesis import given, settings
from hypothesis import strategies as some
from simulator_client import ask as ask_simulator

from agproxy.config import Config

quick = settings(derandomize=True, database=None, deadline=None, max_examples=150)
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

models = some.sampled_from(
    ["gpt-4o", "gpt-5", "gemini-2.0-flash", "gemini-2.5-pro", "gemini-3.8-flash", "gemini-3.1-pro-preview"]
)
texts = some.sampled_from(["", "Hello", "日本 😀", "look at the sky", '{"$ref": "#/x"}', "a\nb"])
names = some.sampled_from(["look", "mcp/files/read", "7zip", "list.all"])
arguments = some.sampled_from(["{}", "", '{"at":"sky"}', '{"n":[1,null,{"x":1.5}]}', '{"at":', "null"])
schema = some.sampled_from(
    [
        {"type": "object", "properties": {}},
        {"type": "object", "properties": {"at": {"type": ["string", "null"]}}, "additionalProperties": False},
        {"type": "object", "properties": {"n": {"enum": [1, 2]}, "type": {"const": "x"}}, "required": ["n"]},
        {"$defs": {"T": {"type": "object", "properties": {"next": {"$ref": "#/$defs/T"}}}}, "$ref": "#/$defs/T"},
        {"type": "object", "properties": {"list": {"type": "array"}, "any": {"anyOf": [{"type": "string"}, {}]}}},
    ]
)


def maybe(**fields):
    return some.fixed_dictionaries({}, optional=fields)


part = some.one_of(
    some.builds(lambda text: {"type": "text", "text": text}, texts),
    some.just({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "low"}}),
    some.just({"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}),
    some.just({"type": "file", "file": {"filename": "a.pdf", "file_data": "JVBERi0="}}),
)
content = texts | some.lists(part, min_size=1, max_size=3)
user = some.builds(lambda given: [{"role": "user", "content": given}], content)
system = some.builds(
    lambda role, text: [{"role": role, "content": text}], some.sampled_from(["system", "developer"]), texts
)
assistant = some.builds(lambda text: [{"role": "assistant", "content": text}], texts)


@some.composite
def tool_turn(draw):
    """Calls, and their results in any order, perhaps not all of them."""
    count = draw(some.integers(1, 3))
    ids = [f"call_{draw(some.integers(0, 10**6))}_{number}" for number in range(count)]
    calls = [
        {"id": id, "type": "function", "function": {"name": draw(names), "arguments": draw(arguments)}} for id in ids
    ]
    if draw(some.booleans()):
        calls[0]["extra_content"] = {"google": {"thought_signature": "c2ln"}}
    answered = draw(some.permutations(ids))[: draw(some.integers(0, count))]
    results = [{"role": "tool", "tool_call_id": id, "content": draw(texts)} for id in answered]
    return [{"role": "assistant", "content": draw(some.none() | texts), "tool_calls": calls}, *results]


@some.composite
def requests(draw):
    turns = draw(some.lists(some.one_of(user, user, system, assistant, tool_turn()), min_size=1, max_size=6))
    body = {"model": draw(models), "messages": [message for turn in turns for message in turn]}
    declared = draw(some.lists(names, unique=True, max_size=3))
    if declared:
        body["tools"] = [
            {
                "type": "function",
                "function": {"name": name, "parameters": draw(schema), "strict": draw(some.booleans())},
            }
            for name in declared
        ]
        choices = ["auto", "none", "required", {"type": "function", "function": {"name": declared[0]}}]
        body |= draw(maybe(tool_choice=some.sampled_from(choices), parallel_tool_calls=some.booleans()))
    formats = [{"type": "json_object"}, {"type": "json_schema", "json_schema": {"name": "x", "schema": draw(schema)}}]
    return body | draw(
        maybe(
            temperature=some.floats(0, 2),
            top_p=some.floats(0, 1),
            max_tokens=some.integers(1, 70_000),
            seed=some.integers(-(2**60), 2**60),
            stop=some.lists(some.sampled_from(["a", "", "END"]), max_size=6),
            presence_penalty=some.floats(-2, 2),
            response_format=some.sampled_from(formats),
            reasoning_effort=some.sampled_from(["none", "minimal", "low", "medium", "high", "xhigh"]),
            web_search_options=some.just({}),
            n=some.integers(1, 3),
        )
    )


class Strict(FakeUpstream):
    """Answers as the simulated Gemini does, which refuses what Gemini refuses."""

    async def send(self, call):
        self.calls.append(call)
        return Scripted(status=200, pieces=(b"{}",))


@quick
@given(requests(), some.sampled_from(["native", "convert"]))
def test_any_valid_request_makes_one_that_the_strict_simulator_accepts(body, schemas):
    upstream = Strict([])
    gateway = make_gateway(upstream, config=Config(keepalive_seconds=0.0, schemas=schemas, max_attempts=1))
    reply = ask(gateway, "/v1/chat/completions", body)

    assert upstream.calls, reply.json
    for call in upstream.calls:
        judged = ask_simulator(call.url.removeprefix("https://upstream.example"), json.loads(call.body))
        assert judged.status == 200, (judged.body, call.body)


answer_part = some.one_of(
    some.builds(lambda text: {"text": text}, texts),
    some.builds(lambda text: {"text": text, "thought": True}, texts),
    some.builds(lambda text: {"text": text, "thoughtSignature": "c2ln"}, texts),
    some.builds(lambda name: {"functionCall": {"name": name, "args": {"at": 1}}}, names),
    some.just({"functionCall": {"id": "same", "name": "look"}, "thoughtSignature": "c2ln"}),
    some.just({"functionCall": {"name": "look", "willContinue": True}}),
    some.just({"functionCall": {"partialArgs": [{"jsonPath": "$.at", "stringValue": "x"}], "willContinue": True}}),
    some.just({"functionCall": {}}),
    some.just({"inlineData": {"mimeType": "image/png", "data": PNG}}),
    some.just({"executableCode": {"language": "PYTHON", "code": "1"}}),
    some.just({"codeExecutionResult": {"output": "1"}}),
    some.just({}),
    some.just({"hologram": 1}),
)
reasons = some.sampled_from(["STOP", "MAX_TOKENS", "SAFETY", "MALFORMED_FUNCTION_CALL", "FAKE_ENUM"])
candidate = some.fixed_dictionaries(
    {},
    optional={
        "index": some.integers(0, 2),
        "content": some.builds(lambda parts: {"role": "model", "parts": parts}, some.lists(answer_part, max_size=3)),
        "finishReason": reasons,
    },
)
any_chunk = some.one_of(
    some.fixed_dictionaries({"candidates": some.lists(candidate, max_size=3)}),
    some.just({"usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2}}),
    some.just({"promptFeedback": {"blockReason": "SAFETY"}}),
    some.just({"error": {"code": 503, "message": "busy", "status": "UNAVAILABLE"}}),
    some.just({}),
    some.just([]),
)
any_chunks = some.lists(any_chunk, max_size=5)


@quick
@given(any_chunks)
def test_any_upstream_bytes_make_a_legal_stream_or_an_error(chunks):
    data = b"".join(b"data: " + json.dumps(chunk).encode() + b"\r\n\r\n" for chunk in chunks)
    upstream = FakeUpstream([Scripted(pieces=(data,)), Scripted(pieces=(data,))])
    body = {"model": "gemini-2.5-flash", "stream": True, "messages": [{"role": "user", "content": "x"}]}
    reply = ask(
        make_gateway(upstream, config=Config(keepalive_seconds=0.0, max_wait_seconds=0.0)), "/v1/chat/completions", body
    )

    assert reply.has_ended
    if reply.status == 200:
        check(reply.body)
    else:
        assert reply.json["error"]["message"]
