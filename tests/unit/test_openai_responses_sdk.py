"""The official openai SDK reads our answers: its own accumulator, its own types, unary and streamed."""

import json

import pytest

from agproxy import jsontext
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
    PartDelta,
    PartEnded,
    PartStarted,
    Reasoning,
    Text,
    ToolCall,
    Usage,
    fold,
)
from agproxy.errors import UpstreamFailed
from agproxy.frontends import openai_responses as responses

openai = pytest.importorskip("openai", reason="the openai SDK is not installed")
httpx = pytest.importorskip("httpx", reason="the openai SDK's HTTP client is not installed")
pydantic = pytest.importorskip("pydantic")

TOOLS = [
    {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}, "strict": False},
    {"type": "custom", "name": "c"},
    {"type": "shell"},
    {"type": "local_shell"},
    {"type": "apply_patch"},
]
BODY = {"model": "gpt-5", "input": "hi", "tools": TOOLS}
EXCHANGE = Exchange(
    id="0123456789abcdef01234567",
    created=1700000000,
    model="gpt-5",
    request=responses.decode_request(BODY),
    body=BODY,
)
# Real, but in no version of the SDK's types.
NOT_IN_TYPES = {
    "keepalive",
    "response.apply_patch_call_operation_diff.delta",
    "response.apply_patch_call_operation_diff.done",
}


def _part(part, *pieces):
    return [
        PartStarted(choice=0, part=part),
        *(PartDelta(choice=0, text=piece) for piece in pieces),
        PartEnded(choice=0),
    ]


def _call(name, arguments, number, opaque=None):
    return _part(ToolCall(id=f"call_{number}", name=name, arguments="", opaque=opaque), json.dumps(arguments))


def _answer(*parts, finish=Finish.STOP, **end):
    return [
        MessageStarted(response_id=None, model=None),
        *(event for events in parts for event in events),
        ChoiceEnded(choice=0, finish=finish, **end),
        MessageEnded(usage=Usage(prompt_tokens=3, output_tokens=4, reasoning_tokens=1)),
    ]


TEXT = _answer(
    _part(Reasoning(text=""), "let ", "me think"),
    _part(Text(text="", opaque="SIG"), "Grüße ", "🎉"),
    searches=("greetings",),
    citations=(Citation(start=0, end=5, url="https://a", title="A"),),
)
CALLS = _answer(
    _call("f", {"a": [1, "é"]}, 1, opaque="SIG"),
    _call("f", {}, 2),
    _call("c", {"input": "raw\ntext"}, 3),
    _call("shell", {"commands": ["ls", "pwd"]}, 4),
    _call("local_shell", {"command": ["ls"]}, 5),
    _call("apply_patch", {"type": "update_file", "path": "a", "diff": "@@\n+x"}, 6),
    finish=Finish.TOOL_CALLS,
)
RUN = _answer(
    _part(Code(code="print(1)", language="python")),
    _part(CodeOutput(output="1", is_ok=True)),
    _part(Media(mime_type="image/png", data="AAAA")),
    _part(Text(text=""), "done"),
)
CUT = _answer(_part(Text(text=""), "half"), finish=Finish.LENGTH)


def _stream(events, *, fails=None):
    encoder = responses.StreamEncoder(EXCHANGE)
    frames = encoder.keep_alive()
    for event in events:
        frames += encoder.feed(event)
    if fails is not None:
        frames += encoder.fail(fails)
    return b"".join(frames)


def _client(content, kind):
    def handler(request):
        return httpx.Response(200, headers={"content-type": kind}, content=content)

    return openai.OpenAI(
        api_key="k",
        base_url="http://agproxy.test/v1",
        max_retries=0,
        http_client=httpx.Client(transport=httpx.MockTransport(handler)),
    )


@pytest.mark.parametrize("events", [TEXT, CALLS, RUN], ids=["text", "calls", "run"])
def test_the_accumulator_of_the_sdk_ends_with_the_object_that_unary_gives(events):
    client = _client(_stream(events), "text/event-stream")
    with client, client.responses.stream(model="gpt-5", input="hi") as stream:
        for _ in stream:
            pass
        final = stream.get_final_response()
    unary = responses.encode_response(fold(events), EXCHANGE)
    with _client(jsontext.dumps(unary), "application/json") as client:
        whole = client.responses.create(model="gpt-5", input="hi")

    assert whole.output_text == final.output_text
    shown = [json.loads(item.to_json()) for item in final.output]
    for item in shown:  # the helper adds what it has parsed
        item.pop("parsed_arguments", None)
        for part in item.get("content") or ():
            part.pop("parsed", None)
    assert shown == [json.loads(item.to_json()) for item in whole.output]


def test_the_text_that_the_sdk_gathers_piece_by_piece_is_the_whole():
    with _client(_stream(TEXT), "text/event-stream") as client, client.responses.stream(model="m", input="x") as stream:
        deltas = [event for event in stream if event.type == "response.output_text.delta"]

    assert [event.snapshot for event in deltas] == ["Grüße ", "Grüße 🎉"]


@pytest.mark.parametrize("events", [TEXT, CALLS, RUN, CUT], ids=["text", "calls", "run", "cut"])
def test_every_event_and_object_has_the_types_of_the_sdk(events):
    from openai.types.responses import Response, ResponseStreamEvent

    adapter = pydantic.TypeAdapter(ResponseStreamEvent)
    for line in _stream(events).decode().splitlines():
        if line.startswith("data: "):
            event = json.loads(line[6:])
            if event["type"] not in NOT_IN_TYPES:
                adapter.validate_python(event)
    Response.model_validate(responses.encode_response(fold(events), EXCHANGE))


def test_a_cut_answer_ends_as_incomplete():
    with _client(_stream(CUT), "text/event-stream") as client, client.responses.stream(model="m", input="x") as stream:
        *_, last = stream

    assert last.type == "response.incomplete"
    assert last.response.incomplete_details.reason == "max_output_tokens"


def test_a_failure_in_mid_stream_is_the_last_event():
    content = _stream(TEXT[:8], fails=UpstreamFailed("it broke"))
    with _client(content, "text/event-stream") as client:
        events = list(client.responses.create(model="m", input="x", stream=True))

    assert events[-1].type == "response.failed"
    assert events[-1].response.error.message == "it broke"
