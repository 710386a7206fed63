"""Attempts, legs and streams of one exchange, on a scripted upstream: what is asked of it, what the client gets."""

import asyncio
import gc
import json

import pytest
from fakes import FakeReply, FakeUpstream, Scripted, ask, make_gateway

from agproxy.config import Config
from agproxy.conversation import Text
from agproxy.errors import UpstreamFailed
from agproxy.http11 import HttpRequest

CHAT = "/v1/chat/completions"


def candidate(*parts, finish="STOP", **more):
    return {"candidates": [{"content": {"role": "model", "parts": list(parts)}, "finishReason": finish}], **more}


def text(words):
    usage = {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5}
    return candidate({"text": words}, usageMetadata=usage)


def failure(status, **more):
    return Scripted.of({"error": {"code": status, "message": "no", "status": "X", **more}}, status)


def limited(seconds=None, quota=None):
    details = []
    if seconds is not None:
        details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{seconds}s"})
    if quota is not None:
        details.append({"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": quota}]})
    return failure(429, details=details)


def sse(*chunks):
    return b"".join(b"data: " + json.dumps(chunk).encode() + b"\r\n\r\n" for chunk in chunks)


def streamed(*chunks, error=None):
    return Scripted(pieces=[sse(chunk) for chunk in chunks], error=error)


def body(content="hello", **more):
    return {"model": "gemini-2.5-flash", "messages": [{"role": "user", "content": content}]} | more


def frames(reply: FakeReply):
    blocks = reply.body.decode().split("\n\n")
    events = [block.removeprefix("data: ") for block in blocks if block.startswith("data: ")]
    return [event if event == "[DONE]" else json.loads(event) for event in events]


def keys_of(upstream):
    return [dict(call.headers)["x-goog-api-key"] for call in upstream.calls]


@pytest.mark.parametrize("first", [limited(30), failure(503), failure(529), failure(500), failure(403), failure(502)])
def test_a_fault_of_one_account_goes_to_the_next(first):
    upstream = FakeUpstream([first, Scripted.of(text("hi"))])
    reply = ask(make_gateway(upstream, "a", "b"), CHAT, body())

    assert reply.status == 200
    assert keys_of(upstream) == ["a", "b"]
    assert reply.headers["x-account-id"] == "account-b"
    assert all(call.url.endswith("/models/gemini-2.5-flash:generateContent") for call in upstream.calls)


@pytest.mark.parametrize("stream", [False, True])
def test_a_mistake_of_the_client_is_told_at_once(stream):
    upstream = FakeUpstream([failure(400)])
    reply = ask(make_gateway(upstream, "a", "b"), CHAT, body(stream=stream))

    assert (reply.status, len(upstream.calls)) == (400, 1)
    assert reply.json["error"]["type"] == "invalid_request_error"


def test_attempts_are_bounded():
    upstream = FakeUpstream([failure(500)] * 9)
    reply = ask(make_gateway(upstream, *"abcdefgh", config=Config(max_attempts=4)), CHAT, body())

    assert (reply.status, len(upstream.calls)) == (500, 4)


def test_one_limited_account_is_a_429_with_its_time():
    reply = ask(make_gateway(FakeUpstream([limited(34.2)])), CHAT, body())

    assert reply.status == 429
    assert (reply.headers["retry-after"], reply.headers["retry-after-ms"]) == ("35", "34200")
    assert reply.json["error"]["code"] == "rate_limit_exceeded"


def test_a_short_limit_is_waited_for():
    upstream = FakeUpstream([limited(0.01), Scripted.of(text("hi"))])

    assert ask(make_gateway(upstream), CHAT, body()).status == 200


def test_a_long_wait_tells_sdks_not_to_repeat():
    reply = ask(make_gateway(FakeUpstream([limited(61)])), CHAT, body())

    assert reply.headers["x-should-retry"] == "false"


def test_a_spent_day_is_told_as_insufficient_quota():
    upstream = FakeUpstream([limited(12, "GenerateRequestsPerDayPerProjectPerModel-FreeTier")])
    reply = ask(make_gateway(upstream, config=Config(max_wait_seconds=0.0)), CHAT, body())

    assert reply.status == 429
    assert reply.json["error"]["code"] == "insufficient_quota"
    assert reply.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "accident", [candidate(finish="MALFORMED_FUNCTION_CALL"), candidate(), candidate({"text": ""})]
)
def test_a_broken_answer_is_tried_once_more_and_then_told(accident, stream):
    make = streamed if stream else Scripted.of
    healed = FakeUpstream([make(accident), make(text("hi"))])
    assert ask(make_gateway(healed, "a", "b"), CHAT, body(stream=stream)).status == 200
    assert keys_of(healed) == ["a", "a"]

    upstream = FakeUpstream([make(accident)] * 5)
    reply = ask(make_gateway(upstream, "a", "b"), CHAT, body(stream=stream))
    assert (reply.status, len(upstream.calls)) == (502, 2)


THOUGHT = {"candidates": [{"content": {"parts": [{"text": "hm", "thought": True}]}}]}
BROKEN = candidate(finish="MALFORMED_FUNCTION_CALL")


def test_a_broken_answer_after_thoughts_is_tried_once_more_where_the_client_has_seen_nothing():
    whole = {"candidates": [{**THOUGHT["candidates"][0], "finishReason": "MALFORMED_FUNCTION_CALL"}]}
    unary = FakeUpstream([Scripted.of(whole), Scripted.of(text("hi"))])
    assert ask(make_gateway(unary), CHAT, body()).status == 200

    silent = FakeUpstream([streamed(THOUGHT, BROKEN), streamed(text("hi"))])
    prompt = {"model": "gemini-2.5-flash", "prompt": "a", "stream": True}
    assert frames(ask(make_gateway(silent), "/v1/completions", prompt))[-1] == "[DONE]"

    shown = FakeUpstream([streamed(THOUGHT, BROKEN), streamed(text("hi"))])
    reply = ask(make_gateway(shown), CHAT, body(stream=True))
    assert "error" in frames(reply)[-1]
    assert len(shown.calls) == 1


def test_a_prompt_that_is_blocked_after_words_is_filtered_and_no_success():
    blocked = {"promptFeedback": {"blockReason": "SAFETY"}}
    said = {"candidates": [{"content": {"parts": [{"text": "Hel"}]}}]}
    *_, finish, done = frames(ask(make_gateway(FakeUpstream([streamed(said, blocked)])), CHAT, body(stream=True)))

    assert (finish["choices"][0]["finish_reason"], done) == ("content_filter", "[DONE]")


def test_a_stream_is_not_repeated_once_its_first_frame_is_out():
    upstream = FakeUpstream(
        [streamed({"candidates": [{"content": {"parts": [{"text": "Hel"}]}}]}, error=UpstreamFailed("cut"))]
    )
    reply = ask(make_gateway(upstream, "a", "b"), CHAT, body(stream=True))

    assert (reply.status, len(upstream.calls)) == (200, 1)
    *_, last = frames(reply)
    assert last["error"]["message"] == "cut"
    assert reply.has_ended


def test_a_stream_that_fails_before_its_first_frame_goes_to_the_next_account():
    upstream = FakeUpstream([streamed(error=UpstreamFailed("cut")), streamed(text("hi"))])
    reply = ask(make_gateway(upstream, "a", "b"), CHAT, body(stream=True))

    assert keys_of(upstream) == ["a", "b"]
    assert frames(reply)[-1] == "[DONE]"
    assert all(answer.is_closed for answer in upstream.script)


def test_the_frames_of_one_upstream_read_leave_in_one_write():
    chunks = [{"candidates": [{"content": {"parts": [{"text": word}]}}]} for word in "abcd"]
    upstream = FakeUpstream([Scripted(pieces=[sse(*chunks), sse(text("e"))])])
    reply = ask(make_gateway(upstream), CHAT, body(stream=True))

    assert len(reply.writes) == 3  # two reads and the end


def test_several_choices_are_calls_side_by_side_and_the_prompt_counts_once():
    upstream = FakeUpstream([Scripted.of(text("one")), Scripted.of(text("two")), Scripted.of(text("three"))])
    reply = ask(make_gateway(upstream), CHAT, body(n=3, seed=7))

    assert [choice["index"] for choice in reply.json["choices"]] == [0, 1, 2]
    assert {choice["message"]["content"] for choice in reply.json["choices"]} == {"one", "two", "three"}
    assert reply.json["usage"]["prompt_tokens"] == 3
    assert reply.json["usage"]["completion_tokens"] == 6
    assert [sent["generationConfig"]["seed"] for sent in upstream.bodies] == [7, 8, 9]


def test_several_streamed_choices_make_one_stream():
    upstream = FakeUpstream([streamed(text("one")), streamed(text("two"))])
    reply = ask(make_gateway(upstream), CHAT, body(n=2, stream=True, stream_options={"include_usage": True}))

    *chunks, usage, done = frames(reply)
    assert done == "[DONE]"
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 4
    finishes = [(c["choices"][0]["index"], c["choices"][0]["finish_reason"]) for c in chunks]
    assert sorted(pair for pair in finishes if pair[1]) == [(0, "stop"), (1, "stop")]
    assert len({chunk["id"] for chunk in chunks}) == 1


def test_a_model_that_takes_several_candidates_is_called_once():
    answer = {
        "candidates": [
            {"content": {"parts": [{"text": "one"}]}, "finishReason": "STOP"},
            {"content": {"parts": [{"text": "two"}]}, "finishReason": "STOP", "index": 1},
        ]
    }
    upstream = FakeUpstream([Scripted.of(answer)])
    reply = ask(make_gateway(upstream), CHAT, body(model="gemini-2.0-flash", n=2))

    assert upstream.bodies[0]["generationConfig"]["candidateCount"] == 2
    assert [choice["message"]["content"] for choice in reply.json["choices"]] == ["one", "two"]


@pytest.mark.parametrize("stream", [False, True])
def test_an_empty_choice_among_good_ones_is_an_empty_choice(stream):
    chunk = {
        "candidates": [
            {"content": {"role": "model"}, "finishReason": "STOP"},
            {"content": {"parts": [{"text": "two"}]}, "finishReason": "STOP", "index": 1},
        ]
    }
    upstream = FakeUpstream([streamed(chunk) if stream else Scripted.of(chunk)])
    reply = ask(make_gateway(upstream), CHAT, body(model="gemini-2.0-flash", n=2, stream=stream))

    assert reply.status == 200
    if stream:
        choices = [choice for frame in frames(reply)[:-1] for choice in frame["choices"]]
        texts = ["".join(c["delta"].get("content") or "" for c in choices if c["index"] == n) for n in (0, 1)]
        assert sorted(c["index"] for c in choices if c["finish_reason"] == "stop") == [0, 1]
    else:
        texts = [choice["message"]["content"] for choice in reply.json["choices"]]
        assert [choice["finish_reason"] for choice in reply.json["choices"]] == ["stop", "stop"]
        assert "choice 0 of Gemini's answer is empty" in reply.headers["x-agproxy-warnings"]
    assert texts == ["", "two"]


def test_warnings_have_a_bound_whatever_a_body_brings(caplog):
    unknown = {f"x{number}": 0 for number in range(5000)}
    with caplog.at_level("INFO", "agproxy"):
        reply = ask(make_gateway(FakeUpstream([Scripted.of(text("hi"))])), CHAT, body() | unknown)

    assert reply.headers["x-agproxy-warnings"].startswith("x0: unknown field, ignored; x1: unknown field, ignored; ")
    assert reply.headers["x-agproxy-warnings"].endswith("...")
    assert not [record for record in caplog.records if len(record.getMessage()) > 2000]


def test_too_many_choices_are_refused_by_name():
    reply = ask(make_gateway(FakeUpstream([])), CHAT, body(n=9))

    assert (reply.status, reply.json["error"]["param"]) == (400, "n")


def test_each_prompt_of_a_completion_has_its_choices():
    upstream = FakeUpstream([Scripted.of(text(word)) for word in ("1", "2")])
    reply = ask(
        make_gateway(upstream), "/v1/completions", {"model": "gemini-2.5-flash", "prompt": ["a", "b"], "echo": True}
    )

    assert [choice["text"] for choice in reply.json["choices"]] == ["a1", "b2"]
    assert reply.json["usage"] == {"prompt_tokens": 6, "completion_tokens": 4, "total_tokens": 10}


CALL = candidate({"functionCall": {"name": "look", "args": {"at": "sky"}}, "thoughtSignature": "c2lnbmF0dXJl"})
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}]


def second_turn(call):
    bare = {"id": call["id"], "type": "function", "function": call["function"]}
    messages = [
        {"role": "user", "content": "look"},
        {"role": "assistant", "content": None, "tool_calls": [bare]},
        {"role": "tool", "tool_call_id": call["id"], "content": "blue"},
    ]
    return body(model="gemini-3.8-flash", tools=TOOLS, messages=messages)


def signature_sent(upstream):
    parts = [part for content in upstream.bodies[-1]["contents"] for part in content["parts"]]
    return next(part for part in parts if "functionCall" in part).get("thoughtSignature")


@pytest.mark.parametrize("stream", [False, True])
def test_a_signature_that_the_client_lost_is_put_back(stream):
    upstream = FakeUpstream([streamed(CALL) if stream else Scripted.of(CALL), Scripted.of(text("blue"))])
    gateway = make_gateway(upstream)
    reply = ask(gateway, CHAT, body(model="gemini-3.8-flash", tools=TOOLS, stream=stream))
    if stream:
        deltas = [chunk["choices"][0]["delta"] for chunk in frames(reply) if chunk != "[DONE]"]
        call = next(delta["tool_calls"][0] for delta in deltas if "tool_calls" in delta)
        call["function"]["arguments"] = '{"at":"sky"}'
    else:
        call = reply.json["choices"][0]["message"]["tool_calls"][0]
    assert call["extra_content"] == {"google": {"thought_signature": "c2lnbmF0dXJl"}}

    ask(gateway, CHAT, second_turn(call))
    assert signature_sent(upstream) == "c2lnbmF0dXJl"


def test_after_a_restart_the_documented_bypass_stands_in():
    upstream = FakeUpstream([Scripted.of(text("blue"))])
    call = {"id": "call_1", "function": {"name": "look", "arguments": "{}"}}
    ask(make_gateway(upstream), CHAT, second_turn(call))

    assert signature_sent(upstream) == "skip_thought_signature_validator"


def test_a_signature_of_another_model_is_dropped_and_the_call_repeated():
    refused = Scripted.of({"error": {"code": 400, "message": "Corrupted thought signature.", "status": "X"}}, 400)
    upstream = FakeUpstream([refused, Scripted.of(text("blue"))])
    request = second_turn({"id": "call_1", "function": {"name": "look", "arguments": "{}"}})
    extra = {"extra_content": {"google": {"thought_signature": "Zm9yZWlnbg=="}}}
    request["messages"][1]["tool_calls"][0] |= extra
    reply = ask(make_gateway(upstream), CHAT, request)

    assert reply.status == 200
    assert signature_sent(upstream) == "skip_thought_signature_validator"


def test_strings_that_a_client_chose_are_encoded_in_the_path_and_escaped_in_headers():
    upstream = FakeUpstream([Scripted.of(text("hi"))])
    reply = ask(make_gateway(upstream), CHAT, body(model="gemini-x/../ü?y#z"))

    assert upstream.calls[0].url.endswith("/models/gemini-x%2F..%2F%C3%BC%3Fy%23z:generateContent")
    assert reply.headers["x-mapped-model"] == r"gemini-x/../\xfc?y#z"


def test_unsupported_fields_can_be_refused_by_a_setting():
    gateway = make_gateway(FakeUpstream([]), config=Config(unsupported="refuse"))
    reply = ask(gateway, CHAT, body(logit_bias={"1": 2}))

    assert (reply.status, reply.json["error"]["param"]) == (400, "logit_bias")


def test_silence_is_filled_with_keep_alives_and_attempts_go_on():
    """The 200 goes out while upstream is silent; a failed attempt after it still goes to the next account."""

    class Slow(Scripted):
        async def pump(self, feed, reply=None):
            while not writes:
                await asyncio.sleep(0.001)
            raise UpstreamFailed("gone")

    upstream = FakeUpstream([Slow(), streamed(text("hi"))])
    reply = FakeReply()
    writes = reply.writes
    gateway = make_gateway(upstream, "a", "b", config=Config(keepalive_seconds=0.01))
    gateway._upstream.clock = lambda: asyncio.get_running_loop().time()
    request = HttpRequest(
        method="POST", path=CHAT, query="", headers=(), body=json.dumps(body(stream=True)).encode(), peer="", id="r"
    )
    asyncio.run(gateway.handle(request, reply))

    assert reply.status == 200
    assert reply.writes[0] == b": keep-alive\n\n"
    assert frames(reply)[-1] == "[DONE]"


def test_a_failure_after_a_keep_alive_is_told_within_the_stream():
    class Slow(Scripted):
        async def pump(self, feed, reply=None):
            while not writes:
                await asyncio.sleep(0.001)
            raise UpstreamFailed("gone")

    upstream = FakeUpstream([Slow()] * 1)
    reply = FakeReply()
    writes = reply.writes
    gateway = make_gateway(upstream, config=Config(keepalive_seconds=0.01, max_attempts=1))
    gateway._upstream.clock = lambda: asyncio.get_running_loop().time()
    request = HttpRequest(
        method="POST", path=CHAT, query="", headers=(), body=json.dumps(body(stream=True)).encode(), peer="", id="r"
    )
    asyncio.run(gateway.handle(request, reply))

    assert frames(reply)[-1]["error"]["message"] == "gone"
    assert reply.has_ended


NAMELESS = {"mode": "auto", "tools": [{"type": "function"}]}


@pytest.mark.parametrize(
    "wrong",
    [
        {"n": 10**400},
        {"temperature": 10**400},
        {"model": "x" * 257},
        {"user": 5},
        {
            "tools": TOOLS,
            "tool_choice": {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "auto", "tools": [{"type": "function"}]},
            },
        },
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_wrong_value_is_a_400_that_names_it_whatever_it_is(wrong):
    reply = ask(make_gateway(FakeUpstream([])), CHAT, body(**wrong))

    assert reply.status == 400
    assert reply.json["error"]["param"]
    assert len(reply.body) < 1000


def test_a_model_name_is_data_in_frames_and_in_the_log(caplog):
    name = 'gemini-x"\x00\n"content":"\x00"'
    with caplog.at_level("INFO", "agproxy"):
        reply = ask(make_gateway(FakeUpstream([streamed(text("hi"))])), CHAT, body(model=name, stream=True))

    *chunks, done = frames(reply)
    assert done == "[DONE]"
    assert {chunk["model"] for chunk in chunks} == {name}
    assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks) == "hi"
    assert not any("\n" in record.getMessage() or "\x00" in record.getMessage() for record in caplog.records)


def test_images_that_we_wrote_into_a_field_go_back_in_their_message():
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}, "index": 0}
    messages = [
        {"role": "user", "content": "draw"},
        {"role": "assistant", "content": "here", "images": [picture]},
        {"role": "user", "content": "[click](data:text/html;base64,AAAA)"},
        {"role": "assistant", "content": "[click](data:text/html;base64,AAAA)"},
        {"role": "user", "content": "bigger"},
    ]
    upstream = FakeUpstream([Scripted.of(text("ok"))])
    ask(make_gateway(upstream), CHAT, body(messages=messages))

    contents = upstream.bodies[0]["contents"]
    assert contents[1]["parts"] == [{"text": "here"}, {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}]
    assert contents[3]["parts"] == [{"text": "[click](data:text/html;base64,AAAA)"}]  # not what we would have written


# --- what an open stream keeps ---------------------------------------------------------------------------------


class Open:
    """An upstream answer that stays open after its pieces, and looks at what the gateway still holds then."""

    def __init__(self, pieces, look):
        self.status, self.headers = 200, (("content-type", "text/event-stream"),)
        self._pieces, self._look = pieces, look

    async def pump(self, feed, reply=None):
        for piece in self._pieces:
            feed(piece)
            self._look()

    def close(self):
        pass


def alive(mark):
    """How many texts of conversations, and lists of messages or contents, hold this mark."""
    gc.collect()
    objects = gc.get_objects()
    texts = [one for one in objects if isinstance(one, Text) and mark in one.text]
    lists = [one for one in objects if isinstance(one, list) and one and isinstance(one[0], dict) and "role" in one[0]]
    return len(texts) + sum(mark in str(one) for one in lists)


def test_an_open_stream_keeps_nothing_of_its_request():
    """500 KB of history a stream, and a thousand streams, are no 500 MB."""
    seen = []
    answer = Open([b": nothing yet\n\n", sse(text("hi"))], lambda: seen.append(alive("a long history")))
    upstream = FakeUpstream([answer])

    reply = ask(make_gateway(upstream), CHAT, json.dumps(body("a long history", stream=True)).encode())

    assert frames(reply)[-1] == "[DONE]"
    assert seen[0] > 0
    assert seen[-1] == 0


def test_a_request_is_kept_until_the_first_frame():
    """A stream that fails before it is asked for once more, whole."""
    upstream = FakeUpstream(
        [Scripted(pieces=[b": nothing yet\n\n"], error=UpstreamFailed("cut")), streamed(text("hi"))]
    )

    reply = ask(make_gateway(upstream, "a", "b"), CHAT, body("a long history", stream=True))

    assert frames(reply)[-1] == "[DONE]"
    assert [sent["contents"][0]["parts"] for sent in upstream.bodies] == [[{"text": "a long history"}]] * 2
