"""Whatever a model may say, and whatever a client may send: the laws that hold for all of it."""

import json

import pytest
from responses_stream import check, read

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
from agproxy.errors import InvalidRequest, UpstreamFailed
from agproxy.frontends import openai_responses as responses

hypothesis = pytest.importorskip("hypothesis", reason="hypothesis is not installed")
st = pytest.importorskip("hypothesis.strategies")
given, settings = hypothesis.given, hypothesis.settings

TOOLS = [
    {"type": "function", "name": "f"},
    {"type": "namespace", "name": "n", "description": "d", "tools": [{"type": "function", "name": "g"}]},
    {"type": "custom", "name": "c"},
    {"type": "shell"},
    {"type": "local_shell"},
    {"type": "apply_patch"},
    {"type": "tool_search", "execution": "client"},
]
BODY = {"model": "m", "input": "x", "tools": TOOLS}
EXCHANGE = Exchange(
    id="0123456789abcdef01234567", created=1, model="m", request=responses.decode_request(BODY), body=BODY
)
NAMES = [tool.name for tool in EXCHANGE.request.tools] + ["undeclared"]
ARGUMENTS = [
    "{}",
    '{"a":[1,"é"]}',
    '{"input":"raw \\n text"}',
    '{"commands":["ls","","pwd",5]}',
    '{"command":"ls"}',
    '{"type":"update_file","path":"p","diff":"@@\\n+x"}',
    '{"type":"delete_file","path":"p"}',
    '{"type":"create_file","path":"p","diff":""}',
    '{"query":"q"}',
    '{"cut": "of',
    "",
    "[]",
]
signature = st.none() | st.sampled_from(["SIG", "other"])
pieces = st.lists(st.text(max_size=6), max_size=4)


def _split(text):
    return st.lists(st.integers(0, len(text)), max_size=3).map(
        lambda cuts: [text[a:b] for a, b in zip([0, *sorted(cuts)], [*sorted(cuts), len(text)], strict=True)]
    )


parts = st.lists(
    st.one_of(
        st.tuples(st.builds(Text, text=st.just(""), opaque=signature), pieces),
        st.tuples(st.builds(Reasoning, text=st.just(""), opaque=signature), pieces),
        st.tuples(
            st.builds(
                ToolCall, id=st.just("call"), name=st.sampled_from(NAMES), arguments=st.just(""), opaque=signature
            ),
            st.sampled_from(ARGUMENTS).flatmap(_split),
        ),
        st.tuples(
            st.sampled_from(
                [
                    Media(mime_type="image/png", data="AAAA", opaque="M"),
                    Media(mime_type="audio/wav", data="AAAA"),
                    Media(mime_type=None, uri="https://a"),
                    Code(code="1", language="python", opaque="X"),
                    Code(code="", language="python"),
                    CodeOutput(output="1", is_ok=True),
                    CodeOutput(output="", is_ok=False),
                ]
            ),
            st.just([]),
        ),
    ),
    max_size=8,
)


@st.composite
def answers(draw):
    events = [MessageStarted(response_id=None, model=None)]
    text_length = 0
    for number, (part, texts) in enumerate(draw(parts)):
        if isinstance(part, ToolCall):
            part = ToolCall(id=f"call_{number}", name=part.name, arguments="", opaque=part.opaque)
        if isinstance(part, Text):
            text_length += sum(map(len, texts))
        events += [
            PartStarted(choice=0, part=part),
            *(PartDelta(choice=0, text=text) for text in texts),
            PartEnded(choice=0),
        ]
    offsets = st.integers(0, text_length + 2)
    citations = st.lists(
        st.builds(Citation, start=offsets, end=offsets, url=st.just("u"), title=st.just("t")), max_size=3
    )
    events.append(
        ChoiceEnded(
            choice=0,
            finish=draw(st.sampled_from(Finish)),
            citations=tuple(draw(citations)),
            searches=tuple(draw(st.lists(st.sampled_from(["a", "b"]), max_size=2))),
        )
    )
    events.append(MessageEnded(usage=Usage()))
    return events


@settings(max_examples=400, deadline=None)
@given(answers(), st.integers(0, 12))
def test_every_legal_answer_is_a_legal_stream_and_the_same_as_unary(events, patience):
    encoder = responses.StreamEncoder(EXCHANGE)
    frames = []
    try:
        for number, event in enumerate(events):
            frames += encoder.feed(event)
            if number == patience:
                frames += encoder.keep_alive()
    except InvalidRequest:
        assert not frames
        with pytest.raises(InvalidRequest):
            responses.encode_response(fold(events), EXCHANGE)
        return
    final = check(b"".join(frames))
    if final["status"] != "failed":
        assert responses.encode_response(fold(events), EXCHANGE) == final
    assert encoder.fail(UpstreamFailed("late")) == []
    json.dumps(final)


@settings(max_examples=200, deadline=None)
@given(answers(), st.integers(0, 20))
def test_every_answer_can_fail_at_any_moment(events, count):
    encoder = responses.StreamEncoder(EXCHANGE)
    frames = [frame for event in events[: min(count, len(events) - 2)] for frame in encoder.feed(event)]
    frames += encoder.fail(UpstreamFailed("broke"))

    assert check(b"".join(frames))["status"] == "failed"


@settings(max_examples=200, deadline=None)
@given(answers())
def test_every_answer_can_be_replayed(events):
    """What we send is taken back whole: each call with its arguments, each signature on its call."""
    try:
        output = responses.encode_response(fold(events), EXCHANGE)["output"]
    except InvalidRequest:
        return
    request = responses.decode_request({"model": "m", "tools": TOOLS, "input": output})
    sent = [part for part in fold(events).choices[0].parts if isinstance(part, ToolCall)]
    back = [part for turn in request.turns for part in turn.parts if isinstance(part, ToolCall)]

    assert [(part.id, part.name, part.opaque) for part in back] == [(p.id, p.name, p.opaque) for p in sent]
    assert all(isinstance(json.loads(part.arguments), dict) for part in back)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40))
def test_a_delta_says_the_text_that_it_was_given(text):
    encoder = responses.StreamEncoder(EXCHANGE)
    encoder.feed(PartStarted(choice=0, part=Text(text="x")))
    frames = encoder.feed(PartDelta(choice=0, text=text))

    assert [event["delta"] for event in read(b"".join(frames))] == ([text] if text else [])


# --- garbage

scalars = st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-2, 2) | st.text(max_size=5)
WORDS = [
    "type", "role", "content", "id", "call_id", "name", "namespace", "arguments", "output", "input", "summary",
    "encrypted_content", "action", "operation", "tools", "text", "status", "command", "commands", "path", "diff",
    "image_url", "file_data", "detail", "format", "schema", "mode", "effort", "outputs", "code", "result", "execution",
]  # fmt: skip
KINDS = [
    "message", "reasoning", "function_call", "function_call_output", "custom_tool_call", "local_shell_call",
    "local_shell_call_output", "shell_call", "shell_call_output", "apply_patch_call", "apply_patch_call_output",
    "tool_search_call", "tool_search_output", "additional_tools", "code_interpreter_call", "image_generation_call",
    "mcp_call", "compaction", "configuration_update", "item_reference", "web_search_call", "program", "function",
    "custom", "namespace", "shell", "local_shell", "apply_patch", "tool_search", "web_search", "code_interpreter",
    "input_text", "input_image", "input_file", "output_text", "json_schema", "allowed_tools", "user", "assistant",
    "system", "logs", "exec", "create_file",
]  # fmt: skip
values = st.recursive(
    scalars | st.sampled_from(KINDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=6),
    max_leaves=25,
)
bodies = st.fixed_dictionaries(
    {"model": st.just("m"), "input": st.lists(st.dictionaries(st.sampled_from(WORDS), values, max_size=6), max_size=3)},
    optional={
        name: values
        for name in responses.FIELDS
        if name not in ("model", "input", "messages", "max_tokens", "prompt", "functions", "function_call", "n")
    },
)


@settings(max_examples=200, deadline=None)
@given(bodies | st.fixed_dictionaries({"model": values, "input": values}))
def test_garbage_is_taken_or_refused_and_never_an_accident(body):
    before = json.dumps(body)
    try:
        request = responses.decode_request(body, history=())
    except InvalidRequest as error:
        assert 400 <= error.status < 500  # noqa: PT017
    else:
        exchange = Exchange(id="0" * 24, created=1, model="m", request=request, body=body)
        check(b"".join(responses.StreamEncoder(exchange).fail(UpstreamFailed("x"))))
    assert json.dumps(body) == before
