"""The official openai SDK's Chat Completions in depth: helpers, tool loops, pictures, async, retries, broken streams.

Runs where `openai` is installed, against a running gateway on the simulated Gemini. First things are in
test_openai_sdk.py.
"""

import asyncio
import base64
import json
import socketserver
import struct
import threading
import time
import zlib
from enum import StrEnum
from http.server import BaseHTTPRequestHandler

import pytest

openai = pytest.importorskip("openai", "1.92", reason="needs the openai SDK: pip install openai")
pydantic = pytest.importorskip("pydantic")

# One with thinking budgets, one that checks signatures and gives calls ids of its own.
MODELS = ["gpt-4o", "gemini-3.8-flash"]

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


class Person(pydantic.BaseModel):
    name: str
    age: int


class Colour(StrEnum):
    RED = "red"
    GREEN = "green"


class Item(pydantic.BaseModel):
    title: str
    colour: Colour
    price: float | None


class Basket(pydantic.BaseModel):
    owner: Person
    items: list[Item]
    is_paid: bool


class Node(pydantic.BaseModel):
    label: str
    children: list["Node"]


class GetWeather(pydantic.BaseModel):
    """The weather in a city"""

    city: str


def connect(gateway, **options):
    options = {"max_retries": 0} | options
    return openai.OpenAI(base_url=gateway.base_url, api_key="unused", **options)


@pytest.fixture
def client(gateway):
    with connect(gateway) as made:
        yield made


def user(text):
    return [{"role": "user", "content": text}]


def png(width=4, height=4):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = b"".join(b"\0" + b"\xff\0\0" * width for _ in range(height))
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(data).decode()


# --- structured output -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("shape", [Person, Basket, Node])
def test_parse_gives_an_instance_of_the_model_class(client, model, shape):
    answer = client.chat.completions.parse(model=model, messages=user("Ada is 36"), response_format=shape)

    assert isinstance(answer.choices[0].message.parsed, shape)
    assert answer.choices[0].finish_reason == "stop"


def test_parse_raises_on_an_answer_that_was_cut_by_its_limit(client):
    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(
            model="gpt-4o", messages=user("Ada is 36 [[sim:max-tokens]]"), response_format=Person
        )


@pytest.mark.parametrize("marker", ["safety", "blocked"])
def test_parse_raises_on_an_answer_that_was_filtered(client, marker):
    with pytest.raises(openai.ContentFilterFinishReasonError):
        client.chat.completions.parse(
            model="gpt-4o", messages=user(f"Ada is 36 [[sim:{marker}]]"), response_format=Person
        )


def test_parse_gives_the_arguments_of_a_pydantic_tool(client):
    answer = client.chat.completions.parse(
        model="gpt-4o",
        messages=user("What is the weather in Paris?"),
        tools=[openai.pydantic_function_tool(GetWeather, name="get_weather")],
    )

    assert answer.choices[0].message.tool_calls[0].function.parsed_arguments == GetWeather(city="Paris")


def test_response_format_json_object_and_json_schema_give_json_in_content(client):
    plain = client.chat.completions.create(
        model="gpt-4o", messages=user("Answer in JSON"), response_format={"type": "json_object"}
    )
    assert isinstance(json.loads(plain.choices[0].message.content), dict)

    schema = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "tags": {"type": "array", "items": {"type": "string"}}},
        "required": ["name", "tags"],
        "additionalProperties": False,
    }
    named = {"name": "thing", "strict": True, "schema": schema}
    strict = client.chat.completions.create(
        model="gpt-4o", messages=user("Describe Ada"), response_format={"type": "json_schema", "json_schema": named}
    )
    assert set(json.loads(strict.choices[0].message.content)) == {"name", "tags"}


# --- the stream helper -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_the_stream_helper_tells_content_in_deltas_and_parses_it_at_the_end(client, model):
    with client.chat.completions.stream(
        model=model, messages=user("Ada is 36"), response_format=Person, stream_options={"include_usage": True}
    ) as stream:
        events = list(stream)
        final = stream.get_final_completion()

    deltas = [event.delta for event in events if event.type == "content.delta"]
    (done,) = [event for event in events if event.type == "content.done"]
    assert len(deltas) > 1
    assert "".join(deltas) == done.content == final.choices[0].message.content
    assert isinstance(done.parsed, Person)
    assert isinstance(final.choices[0].message.parsed, Person)
    assert final.usage.total_tokens > 0


@pytest.mark.parametrize("model", MODELS)
def test_the_stream_helper_tells_each_tool_call_and_parses_its_arguments(client, model):
    with client.chat.completions.stream(
        model=model,
        messages=user("What is the weather in Paris and London?"),
        tools=[openai.pydantic_function_tool(GetWeather, name="get_weather")],
    ) as stream:
        events = list(stream)
        final = stream.get_final_completion()

    done = [event for event in events if event.type == "tool_calls.function.arguments.done"]
    assert [(event.index, event.name) for event in done] == [(0, "get_weather"), (1, "get_weather")]
    assert [event.parsed_arguments for event in done] == [GetWeather(city="Paris"), GetWeather(city="London")]
    assert any(event.type == "tool_calls.function.arguments.delta" for event in events)
    calls = final.choices[0].message.tool_calls
    assert [call.function.parsed_arguments for call in calls] == [GetWeather(city="Paris"), GetWeather(city="London")]
    assert len({call.id for call in calls}) == 2


def test_the_stream_helper_tells_a_blocked_prompt_as_a_refusal(client):
    with client.chat.completions.stream(model="gpt-4o", messages=user("Hello [[sim:blocked]]")) as stream:
        events = list(stream)
        final = stream.current_completion_snapshot.choices[0]

    refusal = "".join(event.delta for event in events if event.type == "refusal.delta")
    (done,) = [event for event in events if event.type == "refusal.done"]
    assert refusal == done.refusal == final.message.refusal
    assert "SAFETY" in refusal
    assert (final.finish_reason, final.message.content or "") == ("content_filter", "")


def test_a_blocked_prompt_is_a_refusal_in_an_unary_answer(client):
    choice = client.chat.completions.create(model="gpt-4o", messages=user("Hello [[sim:blocked]]")).choices[0]

    assert (choice.finish_reason, choice.message.content) == ("content_filter", None)
    assert "SAFETY" in choice.message.refusal


# --- tools -----------------------------------------------------------------------------------------------------


def ask(client, is_stream, **request):
    """The completed message of a request, unary or by the stream helper."""
    if not is_stream:
        return client.chat.completions.create(**request).choices[0]
    with client.chat.completions.stream(**request) as stream:
        return stream.get_final_completion().choices[0]


def bare(message):
    """The assistant message as most frameworks keep it: no extra fields."""
    calls = []
    for call in message.tool_calls:
        function = {"name": call.function.name, "arguments": call.function.arguments}
        calls.append({"id": call.id, "type": "function", "function": function})
    return {"role": "assistant", "content": message.content, "tool_calls": calls}


@pytest.mark.parametrize("is_stream", [False, True], ids=["unary", "stream"])
@pytest.mark.parametrize("keep", ["whole", "bare"])
@pytest.mark.parametrize("model", MODELS)
def test_two_parallel_calls_of_one_function_get_each_its_own_result(client, model, keep, is_stream):
    messages = user("What is the weather in Paris and London?")
    first = ask(client, is_stream, model=model, messages=messages, tools=[WEATHER])
    calls = first.message.tool_calls
    assert first.finish_reason == "tool_calls"
    assert [json.loads(call.function.arguments) for call in calls] == [{"city": "Paris"}, {"city": "London"}]
    assert len({call.id for call in calls}) == 2

    weather = {"Paris": "19 degrees", "London": "rain"}
    results = [
        {"role": "tool", "tool_call_id": call.id, "content": weather[json.loads(call.function.arguments)["city"]]}
        for call in calls
    ]
    echoed = first.message.model_dump(exclude={"parsed"}) if keep == "whole" else bare(first.message)
    if keep == "whole":
        for call in echoed["tool_calls"]:
            call["function"].pop("parsed_arguments", None)
    messages += [echoed, *reversed(results)]  # in any order: the ids say which is whose
    second = ask(client, is_stream, model=model, messages=messages, tools=[WEATHER])

    assert second.finish_reason == "stop"
    assert second.message.content.index("19 degrees") < second.message.content.index("rain")


@pytest.mark.parametrize("is_stream", [False, True], ids=["unary", "stream"])
@pytest.mark.parametrize("model", MODELS)
def test_a_job_of_three_steps_with_two_calls_each_comes_to_its_end(client, model, is_stream):
    messages = user("What is the weather in Paris? [[sim:steps=3]] [[sim:calls=2]] [[sim:preface=I shall look.]]")
    ids, number = [], 0
    for _ in range(3):
        choice = ask(client, is_stream, model=model, messages=messages, tools=[WEATHER])
        assert choice.finish_reason == "tool_calls"
        assert choice.message.content == "I shall look."
        messages.append(bare(choice.message))
        for call in choice.message.tool_calls:
            number += 1
            ids.append(call.id)
            messages.append({"role": "tool", "tool_call_id": call.id, "content": f"result {number}"})
    last = ask(client, is_stream, model=model, messages=messages, tools=[WEATHER])

    assert last.finish_reason == "stop"
    assert "result 5" in last.message.content
    assert "result 6" in last.message.content
    assert len(set(ids)) == 6


@pytest.mark.parametrize("is_stream", [False, True], ids=["unary", "stream"])
def test_a_conversation_that_began_at_another_gateway_goes_on(gateway, serve, is_stream):
    """Gemini 3 wants its signatures back; this client drops them, and this gateway never saw them."""
    messages = user("What is the weather in Paris and London?")
    with connect(serve()) as client:
        first = ask(client, is_stream, model="gemini-3.8-flash", messages=messages, tools=[WEATHER])
    messages.append(bare(first.message))
    for call in first.message.tool_calls:
        messages.append({"role": "tool", "tool_call_id": call.id, "content": f"result of {call.id}"})
    with connect(gateway) as client:
        second = ask(client, is_stream, model="gemini-3.8-flash", messages=messages, tools=[WEATHER])

    assert all(f"result of {call.id}" in second.message.content for call in first.message.tool_calls)


def asked_with(arguments):
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": arguments}}
    return [
        *user("What is the weather in Paris?"),
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "19 degrees"},
    ]


@pytest.mark.parametrize("arguments", ["", "{}", '{"city": "Paris"}'])
def test_a_call_in_the_history_may_have_any_arguments_or_none(client, arguments):
    answer = client.chat.completions.create(model="gpt-4o", messages=asked_with(arguments), tools=[WEATHER])

    assert "19 degrees" in answer.choices[0].message.content


@pytest.mark.parametrize("arguments", ['{"city": "Par', "null", "[]", "Paris"])
def test_a_call_in_the_history_may_have_arguments_that_are_no_object(client, arguments):
    answer = client.chat.completions.create(model="gpt-4o", messages=asked_with(arguments), tools=[WEATHER])

    assert "19 degrees" in answer.choices[0].message.content


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
def test_a_call_that_is_demanded_comes(client, choice):
    answer = client.chat.completions.create(model="gpt-4o", messages=user("Hello"), tools=[WEATHER], tool_choice=choice)

    assert answer.choices[0].message.tool_calls[0].function.name == "get_weather"
    assert answer.choices[0].finish_reason == "tool_calls"


def test_no_call_comes_where_none_is_allowed(client):
    answer = client.chat.completions.create(
        model="gpt-4o", messages=user("What is the weather in Paris?"), tools=[WEATHER], tool_choice="none"
    )

    assert answer.choices[0].message.tool_calls is None


def test_without_parallel_calls_one_call_comes(client):
    answer = client.chat.completions.create(
        model="gpt-4o",
        messages=user("What is the weather in Paris and London?"),
        tools=[WEATHER],
        parallel_tool_calls=False,
    )

    assert len(answer.choices[0].message.tool_calls) == 1


@pytest.mark.parametrize("model", MODELS)
def test_the_legacy_functions_of_2023_go_on_over_several_turns(client, model):
    messages = user("What is the weather in Paris?")
    first = client.chat.completions.create(model=model, messages=messages, functions=[WEATHER["function"]])
    call = first.choices[0].message.function_call
    assert first.choices[0].finish_reason == "function_call"
    assert (call.name, json.loads(call.arguments)) == ("get_weather", {"city": "Paris"})
    assert first.choices[0].message.tool_calls is None

    messages += [
        {"role": "assistant", "content": None, "function_call": call.model_dump()},
        {"role": "function", "name": "get_weather", "content": "19 degrees"},
    ]
    second = client.chat.completions.create(model=model, messages=messages, functions=[WEATHER["function"]])
    assert "19 degrees" in second.choices[0].message.content


def test_a_legacy_function_call_streams_in_its_own_field(client):
    stream = client.chat.completions.create(
        model="gpt-4o",
        messages=user("Hello"),
        functions=[WEATHER["function"]],
        function_call={"name": "get_weather"},
        stream=True,
    )
    deltas = [(chunk.choices[0].delta.function_call, chunk.choices[0].finish_reason) for chunk in stream]

    calls = [call for call, _ in deltas if call]
    assert calls[0].name == "get_weather"
    assert json.loads("".join(call.arguments or "" for call in calls)) == {"city": "Paris"}
    assert deltas[-1][1] == "function_call"


CODE = {"type": "custom", "custom": {"name": "run_code", "description": "Runs code"}}


@pytest.mark.parametrize("model", MODELS)
def test_a_custom_tool_is_called_with_plain_text_and_its_result_is_read(client, model):
    messages = user("Run the code `print(1)`")
    first = client.chat.completions.create(model=model, messages=messages, tools=[CODE])
    (call,) = first.choices[0].message.tool_calls
    assert (call.type, call.custom.name, call.custom.input) == ("custom", "run_code", "print(1)")

    messages += [
        first.choices[0].message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "1 came out"},
    ]
    second = client.chat.completions.create(model=model, messages=messages, tools=[CODE])
    assert "1 came out" in second.choices[0].message.content


def test_a_custom_tool_call_streams(client):
    """The SDK's typed helper knows no custom calls in streams; the plain stream has them."""
    stream = client.chat.completions.create(
        model="gpt-4o", messages=user("Run the code `print(1)`"), tools=[CODE], stream=True
    )
    pieces = [call for chunk in stream for call in chunk.choices[0].delta.tool_calls or []]

    assert pieces[0].id
    assert pieces[0].type == "custom"
    assert pieces[0].model_extra["custom"]["name"] == "run_code"
    assert "".join(piece.model_extra["custom"]["input"] for piece in pieces) == "print(1)"


# --- several choices, log probabilities, media -----------------------------------------------------------------


@pytest.mark.parametrize("model", ["gpt-4o", "gemini-2.0-flash", "gemini-3.8-flash"])
def test_two_choices_come_unary(client, model):
    answer = client.chat.completions.create(model=model, messages=user("Hello"), n=2)

    assert [choice.index for choice in answer.choices] == [0, 1]
    assert all("Hello" in choice.message.content for choice in answer.choices)
    assert all(choice.finish_reason == "stop" for choice in answer.choices)


@pytest.mark.parametrize("model", ["gpt-4o", "gemini-2.0-flash", "gemini-3.8-flash"])
def test_two_choices_come_streamed_and_the_helper_keeps_them_apart(client, model):
    unary = client.chat.completions.create(model=model, messages=user("Hello"), n=2)
    with client.chat.completions.stream(
        model=model, messages=user("Hello"), n=2, stream_options={"include_usage": True}
    ) as stream:
        chunks = [event.chunk for event in stream if event.type == "chunk"]
        final = stream.get_final_completion()

    assert [choice.index for choice in final.choices] == [0, 1]
    assert [c.message.content for c in final.choices] == [c.message.content for c in unary.choices]
    assert all(len(chunk.choices) <= 1 for chunk in chunks)
    assert len({chunk.id for chunk in chunks}) == 1
    assert final.usage.to_dict() == unary.usage.to_dict()


def test_logprobs_come_unary_and_streamed(client):
    """gemini-2.0-flash: later models of the Gemini API refuse them."""
    asked = {"model": "gemini-2.0-flash", "messages": user("Hello"), "logprobs": True, "top_logprobs": 2}
    unary = client.chat.completions.create(**asked).choices[0]
    tokens = unary.logprobs.content
    assert "".join(token.token for token in tokens) == unary.message.content
    assert all(bytes(token.bytes).decode() == token.token for token in tokens)
    assert all(len(token.top_logprobs) == 2 and token.logprob <= 0 for token in tokens)

    with client.chat.completions.stream(**asked) as stream:
        events = list(stream)
        streamed = stream.get_final_completion().choices[0]
    assert [token.token for token in streamed.logprobs.content] == [token.token for token in tokens]
    assert any(event.type == "logprobs.content.delta" for event in events)


def test_logprobs_of_a_model_that_has_none_are_refused_by_name(client):
    with pytest.raises(openai.BadRequestError, match=r"(?i)logprobs"):
        client.chat.completions.create(model="gpt-4o", messages=user("Hello"), logprobs=True)


@pytest.mark.parametrize("detail", ["auto", "low", "high"])
def test_a_picture_in_a_data_url_is_seen(client, detail):
    content = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": png(), "detail": detail}},
    ]
    answer = client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": content}])

    assert "image/png" in answer.choices[0].message.content
    assert answer.usage.prompt_tokens > 200


def test_a_sound_and_a_document_are_heard_and_read(client):
    sound = base64.b64encode(b"RIFF$\0\0\0WAVEfmt ").decode()
    document = "data:application/pdf;base64," + base64.b64encode(b"%PDF-1.4\n%%EOF").decode()
    content = [
        {"type": "text", "text": "What are these?"},
        {"type": "input_audio", "input_audio": {"data": sound, "format": "wav"}},
        {"type": "file", "file": {"filename": "paper.pdf", "file_data": document}},
    ]
    answer = client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": content}])

    assert "audio/wav" in answer.choices[0].message.content
    assert "application/pdf" in answer.choices[0].message.content


# --- many at once ----------------------------------------------------------------------------------------------


def test_twenty_streams_side_by_side_each_get_their_own_answer(gateway):
    async def one(client, number):
        stream = await client.chat.completions.create(
            model="gpt-4o", messages=user(f"[[sim:say=answer {number} of twenty]]"), stream=True
        )
        chunks = [chunk async for chunk in stream]
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        return text, {chunk.id for chunk in chunks}, chunks[-1].choices[0].finish_reason

    async def main():
        async with openai.AsyncOpenAI(base_url=gateway.base_url, api_key="unused", max_retries=0) as client:
            return await asyncio.gather(*(one(client, number) for number in range(20)))

    answers = asyncio.run(main())
    assert [text for text, _, _ in answers] == [f"answer {number} of twenty" for number in range(20)]
    assert all(len(ids) == 1 for _, ids, _ in answers)
    assert len({next(iter(ids)) for _, ids, _ in answers}) == 20
    assert {finish for _, _, finish in answers} == {"stop"}


def test_the_async_client_streams_tool_calls_by_its_helper(gateway):
    async def main():
        async with (
            openai.AsyncOpenAI(base_url=gateway.base_url, api_key="unused", max_retries=0) as client,
            client.chat.completions.stream(
                model="gpt-4o",
                messages=user("What is the weather in Paris and London?"),
                tools=[openai.pydantic_function_tool(GetWeather, name="get_weather")],
            ) as stream,
        ):
            return await stream.get_final_completion()

    calls = asyncio.run(main()).choices[0].message.tool_calls
    assert [call.function.parsed_arguments.city for call in calls] == ["Paris", "London"]


# --- retries and time-outs -------------------------------------------------------------------------------------


class Watch:
    """An SDK client whose requests are counted and timed as they leave."""

    def __init__(self, gateway, **options):
        self.times, self.counts = [], []
        http = openai.DefaultHttpxClient(event_hooks={"request": [self._note]})
        self.client = connect(gateway, http_client=http, **options)

    def _note(self, request):
        self.times.append(time.monotonic())
        self.counts.append(request.headers["x-stainless-retry-count"])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.close()


def test_the_sdk_waits_as_long_as_a_limit_says_and_tries_again(serve):
    gateway = serve(AGPROXY_MAX_ATTEMPTS="1")  # or the gateway would wait in its place
    with Watch(gateway, max_retries=1) as watch, pytest.raises(openai.RateLimitError) as caught:
        watch.client.chat.completions.create(model="gpt-4o", messages=user("Hello [[sim:429=1.2]]"))

    assert watch.counts == ["0", "1"]
    assert watch.times[1] - watch.times[0] >= 1.2  # the SDK's own first step is at most 0.5 s
    assert caught.value.response.headers["retry-after-ms"] == "1200"


def test_the_gateway_itself_waits_out_a_short_limit(gateway):
    with Watch(gateway) as watch:
        started = time.monotonic()
        with pytest.raises(openai.RateLimitError):
            watch.client.chat.completions.create(model="gemini-2.5-short", messages=user("Hello [[sim:429=0.2]]"))
    assert watch.counts == ["0"]
    assert time.monotonic() - started >= 0.4  # three attempts


def test_the_sdk_tries_an_overloaded_upstream_again_and_gets_its_answer(serve):
    gateway = serve(AGPROXY_MAX_ATTEMPTS="1")
    with Watch(gateway, max_retries=2) as watch:
        answer = watch.client.chat.completions.create(
            model="gpt-4o", messages=user("Try the SDK [[sim:fail-first=1]]"), stream=False
        )

    assert "Try the SDK" in answer.choices[0].message.content
    assert watch.counts == ["0", "1"]


@pytest.mark.parametrize("is_stream", [False, True], ids=["unary", "stream"])
def test_the_sdk_does_not_repeat_what_will_not_pass(gateway, is_stream):
    with Watch(gateway, max_retries=2) as watch, pytest.raises(openai.RateLimitError) as caught:
        watch.client.chat.completions.create(
            model="gemini-2.5-spent", messages=user("Hello [[sim:429-daily]]"), stream=is_stream
        )

    assert watch.counts == ["0"]
    assert (caught.value.code, caught.value.type) == ("insufficient_quota", "insufficient_quota")


def test_a_time_out_of_the_client_is_its_own_error_and_the_gateway_goes_on(gateway):
    with connect(gateway) as client:
        with pytest.raises(openai.APITimeoutError):
            client.with_options(timeout=0.5).chat.completions.create(
                model="gpt-4o", messages=user("Hello [[sim:slow=30]]")
            )
        answer = client.chat.completions.create(model="gpt-4o", messages=user("Hello"))
    assert "Hello" in answer.choices[0].message.content


@pytest.fixture
def nervous(serve):
    """A client of a gateway that sends keep-alives every tenth of a second."""
    with connect(serve(AGPROXY_KEEPALIVE_SECONDS="0.1")) as made:
        yield made


def test_keep_alives_before_the_first_word_and_within_the_answer_do_not_show(nervous):
    text = "Hello [[sim:slow=0.5]] [[sim:pause=0.5]] [[sim:say=one two three]]"
    raw = nervous.chat.completions.with_streaming_response.create(model="gpt-4o", messages=user(text), stream=True)
    with raw as response:
        assert sum(line.startswith(":") for line in response.iter_lines()) >= 4
    chunks = list(nervous.chat.completions.create(model="gpt-4o", messages=user(text), stream=True))

    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "one two three"
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_a_refusal_after_a_keep_alive_is_an_error_of_the_stream(nervous):
    stream = nervous.chat.completions.create(
        model="gpt-4o", messages=user("Hello [[sim:slow=0.5]] [[sim:400-too-long]]"), stream=True
    )
    with pytest.raises(openai.APIError) as caught:
        list(stream)
    assert caught.value.code == "context_length_exceeded"


def test_a_wrong_key_is_an_authentication_error_and_the_right_one_is_taken(serve):
    gateway = serve(AGPROXY_AUTH_MODE="strict", AGPROXY_API_KEY="sk-right")
    asked = {"model": "gpt-4o", "messages": user("Hello")}
    with openai.OpenAI(base_url=gateway.base_url, api_key="sk-wrong", max_retries=0) as client:
        for call in (lambda: client.chat.completions.create(**asked), client.models.list):
            with pytest.raises(openai.AuthenticationError) as caught:
                call()
            assert caught.value.code == "invalid_api_key"
    with openai.OpenAI(base_url=gateway.base_url, api_key="sk-right", max_retries=0) as client:
        assert "Hello" in client.chat.completions.create(**asked).choices[0].message.content


# --- what breaks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("marker", ["cut", "error-mid-stream", "garbage"])
def test_an_upstream_that_breaks_off_within_a_stream_raises_after_the_text_so_far(client, marker):
    stream = client.chat.completions.create(
        model="gpt-4o", messages=user(f"Hello [[sim:words=40]] [[sim:{marker}]]"), stream=True
    )
    pieces = (chunk.choices[0].delta.content or "" for chunk in stream)
    seen = []
    with pytest.raises(openai.APIError) as caught:
        seen.extend(pieces)

    assert "".join(seen).startswith("w1 w2 w3")
    assert not isinstance(caught.value, openai.APIStatusError)
    assert caught.value.message
    assert caught.value.body["type"]


@pytest.mark.parametrize("marker", ["cut", "garbage", "html", "empty", "malformed-call"])
def test_an_upstream_that_breaks_off_its_whole_answer_is_a_bad_gateway(client, marker):
    model = f"gemini-2.5-{marker}"  # of its own: the account is kept from a model in trouble
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model=model, messages=user(f"Hello [[sim:{marker}]]"), tools=[WEATHER])

    assert caught.value.status_code == 502
    assert caught.value.type == "server_error"


def test_one_answer_that_broke_off_is_not_told_to_the_next_request(serve):
    gateway = serve(AGPROXY_MAX_ATTEMPTS="1", AGPROXY_MAX_WAIT_SECONDS="0")
    with connect(gateway) as client:
        with pytest.raises(openai.InternalServerError):
            client.chat.completions.create(model="gpt-4o", messages=user("Hello [[sim:cut]]"))
        answer = client.chat.completions.create(model="gpt-4o", messages=user("Hello"))
    assert "Hello" in answer.choices[0].message.content


def test_a_prompt_that_is_too_long_has_the_code_that_agents_look_for(client):
    for is_stream in (False, True):
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(
                model="gpt-4o", messages=user("Hello [[sim:400-too-long]]"), stream=is_stream
            )
        assert caught.value.code == "context_length_exceeded"


class _Endless(BaseHTTPRequestHandler):
    """A Gemini that says one word, then nothing more, and notes when its client has gone."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        candidate = {"content": {"role": "model", "parts": [{"text": "word"}]}}
        self.wfile.write(b"data: " + json.dumps({"candidates": [candidate]}).encode() + b"\r\n\r\n")
        self.wfile.flush()
        if self.connection.recv(1) == b"":
            self.server.has_gone.set()
        self.close_connection = True

    def log_message(self, *_):
        pass


class _EndlessServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


@pytest.fixture
def endless():
    with _EndlessServer(("127.0.0.1", 0), _Endless) as server:
        server.has_gone = threading.Event()
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("way", ["break", "close", "timeout"])
def test_a_client_that_leaves_a_stream_ends_the_upstream_call(serve, endless, way):
    gateway = serve(AGPROXY_UPSTREAM_URL=f"http://127.0.0.1:{endless.server_address[1]}")
    with connect(gateway) as client:
        stream = client.with_options(timeout=2).chat.completions.create(
            model="gpt-4o", messages=user("Hello"), stream=True
        )
        if way == "timeout":
            with pytest.raises(Exception, match="timed out"):  # of the SDK, before version 3 of its HTTP library
                list(stream)
        else:
            with stream:
                for chunk in stream:
                    if chunk.choices[0].delta.content:
                        break
    assert endless.has_gone.wait(10), "the gateway kept the upstream call"


# --- stored completions, extras --------------------------------------------------------------------------------


def test_stored_completions_are_none(client):
    """Section 8 of the notes: nothing is stored, so the list is empty and has an end, and the rest is not found."""
    assert list(client.chat.completions.list()) == []
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.retrieve("chatcmpl-123")
    assert "chatcmpl-123" in caught.value.message
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.delete("chatcmpl-123")


def test_what_gemini_has_no_place_for_is_told_in_a_header(client):
    raw = client.chat.completions.with_raw_response.create(
        model="gpt-4o",
        messages=user("Hello"),
        logit_bias={"50256": -100},
        prediction={"type": "content", "content": "Hello"},
        extra_body={"min_p": 0.1},
    )

    warnings = raw.headers["x-agproxy-warnings"]
    assert all(name in warnings for name in ("logit_bias", "prediction", "min_p"))
    assert "Hello" in raw.parse().choices[0].message.content


def test_the_fields_that_change_nothing_are_taken(client):
    raw = client.chat.completions.with_raw_response.create(
        model="gpt-4o",
        messages=[{"role": "developer", "content": "Be brief"}, *user("Hello")],
        metadata={},
        store=False,
        user="someone",
        safety_identifier="someone",
        prompt_cache_key="key",
        service_tier="auto",
        verbosity="medium",
        seed=7,
        temperature=0.5,
        top_p=0.9,
        max_completion_tokens=8000,
        reasoning_effort="low",
        modalities=["text"],
    )

    assert raw.headers.get("x-agproxy-warnings") is None
    assert "Be brief" in raw.parse().choices[0].message.content


# --- legacy completions ----------------------------------------------------------------------------------------


def test_completions_of_several_prompts_with_several_choices_each(client):
    answer = client.completions.create(model="gpt-4o", prompt=["first", "second"], n=2, echo=True)

    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    begun = ["first", "first", "second", "second"]
    for choice, prompt in zip(answer.choices, begun, strict=True):
        assert choice.text.startswith(prompt)
        assert f'"{prompt}"' in choice.text


def test_completions_end_before_a_stop_word_and_at_their_limit(client):
    stopped = client.completions.create(model="gpt-4o", prompt="[[sim:words=9]]", stop=["w4", "w6"])
    assert (stopped.choices[0].text.strip(), stopped.choices[0].finish_reason) == ("w1 w2 w3", "stop")

    short = client.completions.create(model="gemini-2.0-flash", prompt="[[sim:words=9]]", max_tokens=3)
    assert (short.choices[0].text, short.choices[0].finish_reason) == ("w1 w2 w3", "length")
    assert short.usage.completion_tokens == 3


def test_completions_stream_each_choice_under_its_index(client):
    asked = {"model": "gpt-4o", "prompt": ["first", "second"], "n": 2, "echo": True}
    whole = client.completions.create(**asked)
    stream = client.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    texts, finishes, usage = {}, {}, []
    for chunk in stream:
        assert chunk.object == "text_completion"
        usage += [chunk.usage] if chunk.usage else []
        for choice in chunk.choices:
            texts[choice.index] = texts.get(choice.index, "") + choice.text
            finishes[choice.index] = choice.finish_reason or finishes.get(choice.index)

    assert texts == {choice.index: choice.text for choice in whole.choices}
    assert finishes == dict.fromkeys(range(4), "stop")
    assert [one.total_tokens for one in usage] == [whole.usage.total_tokens]
