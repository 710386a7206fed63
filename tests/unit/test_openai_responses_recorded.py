"""Recorded traffic: OpenAI's requests are taken, its answers are what ours look like, and Gemini's come out whole."""

import json
from collections import defaultdict

import pytest
import responses_stream as grammar
from recorded import FOLDER, exchanges, need_recorded, upstream_answers

from agproxy.backends import gemini
from agproxy.conversation import (
    ChoiceEnded,
    Citation,
    Code,
    CodeOutput,
    Exchange,
    Finish,
    Media,
    MessageEnded,
    MessageStarted,
    PartEnded,
    PartStarted,
    Policy,
    Reasoning,
    Text,
    ToolCall,
    Usage,
    fold,
)
from agproxy.errors import GatewayError, InvalidRequest
from agproxy.frontends import openai_responses as responses

need_recorded()

ID = "0123456789abcdef01234567"


def _requests():
    return [
        (name, exchange["request"])
        for name, exchange in exchanges("openai")
        if (exchange["method"], exchange["path"]) == ("POST", "/v1/responses")
    ]


def _lines(text):
    """Events of a recorded file, one JSON a line; a few files have other lines in between."""
    for line in text.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and "type" in event:
            yield event


def _streams():
    for name, exchange in exchanges("openai"):
        if exchange["path"].startswith("/v1/responses") and isinstance(exchange["response"], str):
            yield name, list(_lines(exchange["response"].replace("data: ", "")))
    for file in sorted((FOLDER / "ai-sdk" / "openai").glob("*.chunks.txt")):
        events = list(_lines(file.read_text("utf-8")))
        if events and events[0]["type"].startswith("response."):
            yield file.name, events


def _objects():
    """Whole recorded responses."""
    for name, exchange in exchanges("openai"):
        answer = exchange["response"]
        if exchange["path"] == "/v1/responses" and isinstance(answer, dict) and answer.get("object") == "response":
            yield name, answer
    for name, events in STREAMS:
        for event in events:
            if event["type"] == "response.completed":
                yield name, event["response"]


REQUESTS = _requests()
STREAMS = list(_streams())
OBJECTS = list(_objects())

# Hand-made fixtures of the AI SDK and of other vendors, which leave out what OpenAI sends.
_NOT_LIVE = ("azure-", "github-", "custom-tool", "parallel-tool-call-wrapper")


# --- requests


def _taken(body, history):
    try:
        return responses.decode_request(body, history=history)
    except InvalidRequest as error:
        return error


@pytest.mark.parametrize(("name", "body"), REQUESTS, ids=[name for name, _ in REQUESTS])
def test_a_recorded_request_is_taken_or_refused_by_name(name, body):
    untouched = json.dumps(body)
    for history in (None, ()):
        taken = _taken(body, history)
        if isinstance(taken, InvalidRequest):
            assert taken.message
            assert taken.param
            continue
        assert taken.model == body["model"]
        assert taken.turns
        gemini.encode(taken, "gemini-3-pro-image" if taken.output.modalities else "gemini-3-pro", Policy())
    assert json.dumps(body) == untouched


def test_most_recorded_requests_are_taken():
    taken = sum(not isinstance(_taken(body, ()), InvalidRequest) for _, body in REQUESTS)
    assert taken >= len(REQUESTS) * 0.9


# --- the shapes of answers


def _paths(value, path=""):
    """Every key path of a value; what stands in lists counts as one."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield f"{path}.{key}"
            yield from _paths(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from _paths(inner, path + "[]")


def _ours():
    """Our own answer of every kind, as a stream."""
    tools = [
        {"type": "function", "name": "f"},
        {"type": "namespace", "name": "n", "description": "d", "tools": [{"type": "function", "name": "g"}]},
        {"type": "custom", "name": "c"},
        {"type": "local_shell"},
        {"type": "shell"},
        {"type": "apply_patch"},
        {"type": "tool_search", "execution": "client"},
    ]
    body = {"model": "m", "input": "hi", "tools": tools}
    exchange = Exchange(id=ID, created=1, model="m", request=responses.decode_request(body), body=body)
    calls = {
        "f": {"a": 1},
        "n__g": {},
        "c": {"input": "x"},
        "local_shell": {"command": ["ls"]},
        "shell": {"commands": ["ls"]},
        "apply_patch": {"type": "update_file", "path": "p", "diff": "d"},
        "tool_search": {"query": "q"},
    }
    parts = [Reasoning(text="hm"), Code(code="1", language="python"), CodeOutput(output="1", is_ok=True)]
    parts += [Media(mime_type="image/png", data="AAAA")]
    parts += [
        ToolCall(id=f"call_{name}", name=name, arguments=json.dumps(arguments), opaque="SIG" if name == "f" else None)
        for name, arguments in calls.items()
    ]
    parts += [Text(text="text")]
    encoder = responses.StreamEncoder(exchange)
    events = [MessageStarted(response_id=None, model=None)]
    for part in parts:
        events += [PartStarted(choice=0, part=part), PartEnded(choice=0)]
    citation = Citation(start=0, end=4, url="https://a", title="A")
    events += [
        ChoiceEnded(choice=0, finish=Finish.STOP, citations=(citation,), searches=("q",)),
        MessageEnded(usage=Usage()),
    ]
    return b"".join(frame for event in events for frame in encoder.feed(event))


OURS = grammar.read(_ours())

# Not always said.
_ITEMS_OPTIONAL = {"phase", "content", "encrypted_content", "namespace", "sources"}
# What an image says of its making, which Gemini does not tell; and what a search of OpenAI's own says.
_UNKNOWN_HERE = {
    "image_generation_call": {"background", "quality", "revised_prompt", "size", "action"},
    "shell_call": {"environment"},
    "function_call": {"caller"},
}


def _by_type(found, kind):
    items = defaultdict(list)
    for item in found:
        items[item["type"]].append(set(item))
    return items[kind]


def test_the_response_object_has_the_keys_of_the_live_api():
    newest = [set(answer) for _, answer in OBJECTS if "tool_usage" in answer]
    ours = set(OURS[-1]["response"])

    assert newest
    assert set.intersection(*newest) - {"billing"} <= ours
    assert ours <= set.union(*newest)
    usage = OURS[-1]["response"]["usage"]
    recorded_usage = {p for _, answer in OBJECTS if "tool_usage" in answer for p in _paths(answer["usage"] or {})}
    assert set(_paths(usage)) == recorded_usage


@pytest.mark.parametrize(
    "kind", sorted({item["type"] for item in OURS[-1]["response"]["output"]} - {"custom_tool_call"})
)
def test_an_item_has_the_keys_of_the_live_api(kind):
    recorded = _by_type((item for _, answer in OBJECTS for item in answer["output"]), kind)
    recorded += _by_type((e["item"] for _, events in STREAMS for e in events if e["type"].endswith("item.done")), kind)
    ours = _by_type(OURS[-1]["response"]["output"], kind)

    assert recorded, f"no {kind} was recorded"
    needed = set.intersection(*recorded) - _ITEMS_OPTIONAL - _UNKNOWN_HERE.get(kind, set())
    for keys in ours:
        assert needed <= keys
        assert keys <= set.union(*recorded) | _ITEMS_OPTIONAL


@pytest.mark.parametrize("kind", sorted({event["type"] for event in OURS}))
def test_an_event_has_the_keys_of_the_live_api(kind):
    recorded = [
        {*event} - {"obfuscation", "copilot_usage"}
        for name, events in STREAMS
        for event in events
        if event["type"] == kind and not any(word in name for word in _NOT_LIVE)
    ]
    if not recorded:
        assert "custom_tool_call" in kind, f"no {kind} was recorded"
        return
    for event in OURS:
        if event["type"] == kind:
            assert set.intersection(*recorded) <= set(event) <= set.union(*recorded)


@pytest.mark.parametrize(("name", "events"), STREAMS, ids=[name for name, _ in STREAMS])
def test_the_grammar_that_ours_are_held_to_is_that_of_the_live_api(name, events):
    """Items of the kinds that we send come in the recorded streams as our grammar has it."""
    if any(word in name for word in _NOT_LIVE):
        pytest.skip("written by hand, or of another vendor")
    bodies = {}
    for event in events:
        index = event.get("output_index")
        if event["type"] == "response.created":
            bodies = {}
        elif event["type"] == "response.output_item.added":
            bodies[index] = ""
        elif event["type"] == "response.output_item.done":
            form = grammar.BODIES.get(event["item"]["type"])
            if form is not None:
                # Whole images may be preceded by partial ones, and citations stand between the deltas.
                body = bodies[index].replace("partial_image ", "")
                annotations = body.count("annotation ")
                body = body.replace("annotation ", "").replace(
                    "text.done", "annotation " * annotations + "text.done", 1
                )
                assert grammar.re.fullmatch(form, body), (event["item"]["type"], body)
        elif index is not None:
            short = grammar._SHORT.get(event["type"], event["type"].rpartition(".")[2])
            bodies[index] += short + " "


# --- Gemini's answers through this protocol

ANSWERS = [answer for answer in upstream_answers() if answer.status == 200]


def _exchange():
    body = {"model": "gpt-5", "input": "hi"}
    return Exchange(id=ID, created=1, model="gpt-5", request=responses.decode_request(body), body=body)


def _events(answer):
    at = _exchange()
    reader = gemini.decoder(gemini.encode(at.request, "gemini-3-pro-preview", Policy()), at.id)
    for chunk in answer.chunks:
        yield from reader.feed(chunk)
    yield from reader.finish()


def _unary(events):
    return responses.encode_response(fold(events), _exchange())


def _facts(answer):
    text, thoughts, calls, signatures = "", "", [], []
    for chunk in answer.chunks:
        for candidate in (chunk.get("candidates") or [])[:1]:
            for part in (candidate.get("content") or {}).get("parts") or []:
                if part.get("thought"):
                    thoughts += part.get("text", "")
                elif "text" in part:
                    text += part["text"]
                elif (part.get("functionCall") or {}).get("name"):
                    calls.append(part["functionCall"]["name"])
                    if "thoughtSignature" in part:
                        signatures.append(part["thoughtSignature"])
    return text, thoughts, calls, signatures


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: f"{answer.folder}/{answer.name}")
def test_a_gemini_answer_comes_out_with_its_facts_unary_and_streamed(answer):
    encoder = responses.StreamEncoder(_exchange())
    frames = []
    try:
        events = list(_events(answer))
    except GatewayError as error:
        final = grammar.check(b"".join(encoder.fail(error)))
        assert final["error"]["message"]
        return
    if events[-2].finish is Finish.FILTERED and len(events) == 3:
        for render in (lambda: [encoder.feed(event) for event in events], lambda: _unary(events)):
            with pytest.raises(InvalidRequest) as caught:
                render()
            assert caught.value.code == "invalid_prompt"
        return
    for event in events:
        frames += encoder.feed(event)
    final = grammar.check(b"".join(frames))
    assert _unary(events) == final
    text, thoughts, calls, signatures = _facts(answer)
    told = "".join(p["text"] for item in final["output"] if item["type"] == "message" for p in item["content"])
    assert told == text or "](" in told
    summaries = [p["text"] for item in final["output"] if item["type"] == "reasoning" for p in item["summary"]]
    assert "".join(summaries) == thoughts
    called = [item for item in final["output"] if item["type"] == "function_call"]
    assert [item["name"] for item in called] == calls
    request = responses.decode_request({"model": "m", "input": final["output"]})
    replayed = [part for turn in request.turns for part in turn.parts if hasattr(part, "arguments")]
    assert [part.opaque for part in replayed if part.opaque is not None] == signatures
