"""Every recorded Gemini and Vertex answer, through Chat Completions: the same text, calls, finish and usage come out.

The facts are taken from the recorded JSON by a reading of its own, short and separate from the codec.
"""

import json
import random
from collections import Counter
from dataclasses import replace

import pytest
from recorded import UpstreamAnswer, need_recorded, upstream_answers

from agproxy.backends import gemini
from agproxy.conversation import Exchange, Policy, Request, Role, Text, Turn, fold
from agproxy.errors import GatewayError
from agproxy.frontends import openai_chat

need_recorded()
ANSWERS = list(upstream_answers())
STREAMS = [answer for answer in ANSWERS if answer.stream is not None]

REQUEST = Request(model="gpt-4o", turns=(Turn(role=Role.USER, parts=(Text(text="hello"),)),), is_stream=True)
EXCHANGE = Exchange(
    id="0123456789abcdef01234567",
    created=1700000000,
    model="gpt-4o",
    request=REQUEST,
    body={"stream_options": {"include_usage": True}},
)
FILTERED = {
    "SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR", "OTHER",
    "IMAGE_SAFETY", "NO_IMAGE",
}  # fmt: skip
BROKEN = {"MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "MALFORMED_RESPONSE"}


def decoder():
    encoded = gemini.encode(REQUEST, "gemini-2.5-flash", Policy())
    return gemini.decoder(encoded, EXCHANGE.id)


def unary(answer: UpstreamAnswer) -> dict:
    """What a client is answered: a chat.completion, or the error's own words."""
    events = []
    try:
        if answer.status != 200:
            raise gemini.decode_error(answer.status, (), json.dumps(answer.chunks[0]).encode())
        reader = decoder()
        for chunk in answer.chunks:
            events += reader.feed(chunk)
        events += reader.finish()
    except GatewayError as error:
        return openai_chat.encode_error(error) | {"status": error.status}
    return openai_chat.encode_response(fold(events), EXCHANGE)


def streamed(pieces: list[bytes]) -> bytes:
    encoded = gemini.encode(REQUEST, "gemini-2.5-flash", Policy())
    reader = gemini.byte_decoder(encoded, EXCHANGE.id, max_event_bytes=1 << 26)
    encoder = openai_chat.StreamEncoder(EXCHANGE)
    frames = []
    try:
        for piece in pieces:
            for event in reader.feed(piece):
                frames += encoder.feed(event)
        for event in reader.finish():
            frames += encoder.feed(event)
    except GatewayError as error:
        frames += encoder.fail(error)
    return b"".join(frames)


def expected(answer: UpstreamAnswer) -> dict:
    """The facts of an answer, read straight from Gemini's JSON."""
    text, thoughts, calls, finish, usage = "", "", [], None, {}
    has_other, block = False, None
    for chunk in answer.chunks:
        usage.update(chunk.get("usageMetadata") or {})
        feedback = chunk.get("promptFeedback") or {}
        if feedback.get("blockReason") or (feedback.get("blockReasonMessage") and not chunk.get("candidates")):
            block = feedback
        for candidate in chunk.get("candidates") or []:
            finish = candidate.get("finishReason", finish)
            for part in (candidate.get("content") or {}).get("parts") or []:
                if part.get("thought"):
                    thoughts += part.get("text", "")
                elif "text" in part:
                    text += part["text"]
                elif "functionCall" in part:
                    calls.append(part["functionCall"])
                elif part and "thoughtSignature" not in {*part} - {"toolCall", "toolResponse"}:
                    has_other = has_other or not {"toolCall", "toolResponse"} & {*part}
                if {"executableCode", "codeExecutionResult", "inlineData"} & {*part}:
                    has_other = True
    prompt = usage.get("promptTokenCount", 0) + usage.get("toolUsePromptTokenCount", 0)
    output = usage.get("candidatesTokenCount", 0) + usage.get("thoughtsTokenCount", 0)
    return {
        "text": text,
        "thoughts": thoughts,
        "calls": _whole_calls(calls),
        "finish": finish,
        "block": block,
        "has_other": has_other,
        "usage": (prompt, output, usage.get("thoughtsTokenCount", 0), usage.get("cachedContentTokenCount", 0)),
    }


def _whole_calls(pieces: list[dict]) -> list[tuple[str, dict]]:
    """Calls with their arguments; streamed pieces joined, which the recordings do for flat and nested paths."""
    calls: list[tuple[str, dict]] = []
    strings: dict[str, str] = {}
    for piece in pieces:
        if piece.get("name"):
            calls.append((piece["name"], dict(piece.get("args") or {})))
            strings = {}
        for partial in piece.get("partialArgs") or []:
            path = partial["jsonPath"]
            if "stringValue" in partial:
                strings[path] = strings.get(path, "") + partial["stringValue"]
                value = strings[path]
            else:
                value = next(partial[k] for k in ("numberValue", "boolValue", "nullValue") if k in partial)
            steps = path.removeprefix("$.").replace("[", ".[").split(".")
            place = calls[-1][1]
            for step, following in zip(steps, [*steps[1:], None], strict=True):
                key = int(step[1:-1]) if step.startswith("[") else step
                new = value if following is None else ([] if following.startswith("[") else {})
                if isinstance(key, int) and key == len(place):
                    place.append(new)
                elif (isinstance(key, str) and (following is None or key not in place)) or following is None:
                    place[key] = new
                place = place[key]
    return calls


def fold_stream(data: bytes) -> dict:
    """What a client reads from our stream, put together the way SDKs do."""
    lines = [line[6:] for line in data.decode().split("\n") if line.startswith("data: ")]
    chunks = [json.loads(line) for line in lines if line != "[DONE]"]
    out = {"content": "", "thoughts": "", "calls": [], "refusal": "", "finish": None, "usage": None, "error": None}
    out["done"] = lines[-1] == "[DONE]"
    for chunk in chunks:
        out["error"] = chunk.get("error", out["error"])
        out["usage"] = chunk.get("usage") or out["usage"]
        for choice in chunk.get("choices", []):
            delta = choice["delta"]
            out["content"] += delta.get("content") or ""
            out["thoughts"] += delta.get("reasoning_content") or ""
            out["refusal"] += delta.get("refusal") or ""
            for call in delta.get("tool_calls", []):
                if "id" in call:
                    assert call["index"] == len(out["calls"])
                    out["calls"].append([call["id"], call["function"]["name"], ""])
                out["calls"][call["index"]][2] += call["function"]["arguments"]
            out["finish"] = choice["finish_reason"] or out["finish"]
    return out


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: f"{answer.folder}/{answer.name}")
def test_a_recorded_answer_comes_out_with_its_facts(answer):
    facts, given = expected(answer) if answer.status == 200 else {}, unary(answer)
    if answer.status != 200:
        assert given["error"]["message"]
        assert given["status"] >= 400
        return
    failed = next((chunk["error"]["code"] for chunk in answer.chunks if "error" in chunk), None)
    if failed is not None:
        assert given["status"] == (failed if failed == 400 else 502)
        return
    broken = facts["finish"] in BROKEN
    is_empty = not (facts["text"] or facts["calls"] or facts["has_other"])
    if broken or (is_empty and facts["finish"] == "STOP") or (is_empty and not facts["finish"] and not facts["block"]):
        assert given["status"] == 502, given
        return
    choice = given["choices"][0]
    message = choice["message"]
    prompt, output, thinking, cached = facts["usage"]
    assert given["usage"]["prompt_tokens"] == prompt
    assert given["usage"]["completion_tokens"] == output
    assert given["usage"]["total_tokens"] == prompt + output
    assert given["usage"]["completion_tokens_details"]["reasoning_tokens"] == thinking
    assert given["usage"]["prompt_tokens_details"]["cached_tokens"] == cached
    if facts["has_other"]:
        assert all(line in message["content"] for line in facts["text"].splitlines())
    else:
        assert (message["content"] or "") == facts["text"]
    assert message.get("reasoning_content", "") == facts["thoughts"]
    calls = [(c["function"]["name"], json.loads(c["function"]["arguments"])) for c in message.get("tool_calls", [])]
    assert calls == facts["calls"]
    ids = [call["id"] for call in message.get("tool_calls", [])]
    assert len(set(ids)) == len(ids)
    assert all(0 < len(i) <= 40 for i in ids)
    if facts["block"] is not None and is_empty:
        assert choice["finish_reason"] == "content_filter"
        assert message["refusal"]
    elif facts["finish"] in FILTERED:
        assert choice["finish_reason"] == "content_filter"
    elif facts["finish"] == "MAX_TOKENS":
        assert choice["finish_reason"] == "length"
    else:
        assert choice["finish_reason"] == ("tool_calls" if calls else "stop")


@pytest.mark.parametrize("answer", STREAMS, ids=lambda answer: f"{answer.folder}/{answer.name}")
def test_a_recorded_stream_tells_the_same_as_its_fold_in_any_split(answer):
    data = answer.stream
    whole = streamed([data])
    assert streamed([data[i : i + 1] for i in range(len(data))]) == whole
    chance = random.Random(answer.name)
    for _ in range(10):
        cuts = sorted(chance.sample(range(1, len(data)), min(20, len(data) - 1)))
        pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        assert streamed(pieces) == whole

    told, given = fold_stream(whole), unary(answer)
    if "error" in given:
        assert told["error"]["message"] == given["error"]["message"]
        assert not told["done"]
        return
    message = given["choices"][0]["message"]
    assert told["content"] == (message["content"] or "")
    assert told["thoughts"] == message.get("reasoning_content", "")
    assert told["refusal"] == (message["refusal"] or "")
    assert told["finish"] == given["choices"][0]["finish_reason"]
    assert told["usage"] == given["usage"]
    assert [tuple(call) for call in told["calls"]] == [
        (call["id"], call["function"]["name"], call["function"]["arguments"]) for call in message.get("tool_calls", [])
    ]
    assert told["done"]


def test_each_folder_of_recordings_was_tried():
    tried = Counter(answer.folder for answer in ANSWERS)
    assert {"exchanges/gemini", "exchanges/vertex", "googleai", "ai-sdk/google"} <= set(tried)


def test_the_same_answer_under_another_exchange_has_other_ids():
    answer = next(a for a in ANSWERS if any("functionCall" in json.dumps(c) for c in a.chunks))
    other = replace(EXCHANGE, id="f" * 24)
    events = []
    reader = decoder()
    for chunk in answer.chunks:
        events += reader.feed(chunk)
    events += reader.finish()
    assert openai_chat.encode_response(fold(events), other)["id"] != unary(answer)["id"]
