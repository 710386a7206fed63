"""The official openai SDK's `responses` and `conversations`, against a running gateway on the simulated Gemini."""

import asyncio
import json

import pytest
from foreign import library

openai = library("openai", "openai")
pydantic = library("pydantic", "openai")

MODELS = ["gpt-4o", "gemini-3.8-flash"]
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}
QUESTION = "What is the weather in Paris?"


class Person(pydantic.BaseModel):
    name: str
    age: int


@pytest.fixture
def client(gateway):
    with openai.OpenAI(base_url=gateway.base_url, api_key="unused", max_retries=0) as made:
        yield made


def calls_of(response):
    return [item for item in response.output if item.type == "function_call"]


def results(response, text):
    return [
        {"type": "function_call_output", "call_id": call.call_id, "output": text.format(**json.loads(call.arguments))}
        for call in calls_of(response)
    ]


@pytest.mark.parametrize("model", MODELS)
def test_create_answers_in_text_of_many_scripts(client, model):
    text = "Grüße, 東京, Ελλάδα, עברית, 🎉"
    answer = client.responses.create(model=model, instructions="Be brief", input=f"{text} [[sim:echo]]")

    assert answer.output_text == text
    assert answer.status == "completed"
    assert answer.completed_at >= answer.created_at
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    assert answer._request_id.startswith("req_")


@pytest.mark.parametrize("model", MODELS)
def test_the_stream_helper_puts_the_same_answer_together(client, model):
    text = "東京 and Zürich 🎉"
    whole = client.responses.create(model=model, input=text)
    with client.responses.stream(model=model, input=text) as stream:
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()

    assert len(deltas) > 2
    assert "".join(deltas) == final.output_text == whole.output_text


def test_a_plain_stream_is_numbered_and_ends_once(client):
    events = list(client.responses.create(model="gpt-4o", input="hello", stream=True))

    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type for event in events[:2]] == ["response.created", "response.in_progress"]
    assert [event.type for event in events if event.type == "response.completed"] == [events[-1].type]


@pytest.mark.parametrize("model", MODELS)
def test_parse_gives_an_object_of_the_class(client, model):
    parsed = client.responses.parse(model=model, input="Ann is 30", text_format=Person)
    assert isinstance(parsed.output_parsed, Person)

    with client.responses.stream(model=model, input="Ann is 30", text_format=Person) as stream:
        for _ in stream:
            pass
        assert isinstance(stream.get_final_response().output_parsed, Person)


@pytest.mark.parametrize("is_stream", [False, True], ids=["unary", "stream"])
@pytest.mark.parametrize("model", MODELS)
def test_tools_by_previous_response_id(client, model, is_stream):
    first = ask(client, is_stream, model=model, input=QUESTION, tools=[WEATHER])
    assert [json.loads(call.arguments) for call in calls_of(first)] == [{"city": "Paris"}]

    second = ask(
        client,
        is_stream,
        model=model,
        input=results(first, "sunny in {city}"),
        tools=[WEATHER],
        previous_response_id=first.id,
    )
    assert "sunny in Paris" in second.output_text
    third = ask(client, is_stream, model=model, input="Thanks [[sim:echo]]", previous_response_id=second.id)
    assert third.output_text == "Thanks"


@pytest.mark.parametrize("is_stored", [False, True], ids=["store off", "store on"])
@pytest.mark.parametrize("is_stream", [False, True], ids=["unary", "stream"])
@pytest.mark.parametrize("model", MODELS)
def test_tools_by_sending_all_output_items_back(client, model, is_stream, is_stored):
    history = [{"role": "user", "content": QUESTION}]
    first = ask(client, is_stream, model=model, input=history, tools=[WEATHER], store=is_stored)
    history += [item.to_dict() for item in first.output]
    history += results(first, "sunny in {city}")
    second = ask(client, is_stream, model=model, input=history, tools=[WEATHER], store=is_stored)

    assert "sunny in Paris" in second.output_text


def ask(client, is_stream, **body):
    if not is_stream:
        return client.responses.create(**body)
    with client.responses.stream(**body) as stream:
        for _ in stream:
            pass
        return stream.get_final_response()


def texts(pages):
    """The messages of a list that is read page by page."""
    return [item.content[0].text for item in pages if item.type == "message"]


def test_a_stored_response_is_retrieved_listed_and_deleted(client):
    first = client.responses.create(model="gpt-4o", input="one", metadata={"topic": "x"})
    second = client.responses.create(model="gpt-4o", input="two", previous_response_id=first.id)

    found = client.responses.retrieve(first.id)
    assert found.output_text == first.output_text
    assert found.metadata == {"topic": "x"}
    items = client.responses.input_items.list(second.id, order="asc", limit=1)
    assert texts(items) == ["one", first.output_text, "two"]

    assert client.responses.delete(first.id) is None
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)
    assert client.responses.create(model="gpt-4o", input="three", previous_response_id=second.id).status == "completed"


def test_what_is_not_stored_is_not_found(client):
    answer = client.responses.create(model="gpt-4o", input="one", store=False)

    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(answer.id)
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="gpt-4o", input="two", previous_response_id=answer.id)
    assert caught.value.code == "previous_response_not_found"


def poll(client, identifier):
    while (found := client.responses.retrieve(identifier)).status in ("queued", "in_progress"):
        pass
    return found


def test_a_background_response_is_polled_to_its_end(client):
    begun = client.responses.create(model="gpt-4o", input="hello [[sim:echo]]", background=True)

    assert begun.status in ("queued", "in_progress")
    assert poll(client, begun.id).output_text == "hello"


def test_a_background_response_is_cancelled_and_stays_so(client):
    begun = client.responses.create(model="gpt-4o", input="hello [[sim:slow=60]]", background=True)

    assert client.responses.cancel(begun.id).status == "cancelled"
    assert client.responses.cancel(begun.id).status == "cancelled"
    assert client.responses.retrieve(begun.id).status == "cancelled"
    plain = client.responses.create(model="gpt-4o", input="hello")
    with pytest.raises(openai.BadRequestError, match="Cannot cancel a synchronous response"):
        client.responses.cancel(plain.id)


def test_a_background_stream_is_taken_up_where_it_was_left(client):
    heard = []
    with client.responses.create(
        model="gpt-4o", input="hello [[sim:words=20]] [[sim:delay=0.01]]", background=True, stream=True
    ) as stream:
        for event in stream:
            heard.append(event)
            if event.type == "response.output_text.delta":
                break
    identifier = heard[0].response.id
    rest = list(client.responses.retrieve(identifier, stream=True, starting_after=heard[-1].sequence_number))

    assert [event.sequence_number for event in heard + rest] == list(range(len(heard + rest)))
    assert rest[-1].type == "response.completed"
    text = "".join(event.delta for event in heard + rest if event.type == "response.output_text.delta")
    assert text == client.responses.retrieve(identifier).output_text


def test_conversations_keep_what_was_said(client):
    items = [{"type": "message", "role": "user", "content": "My name is Bo"}]
    made = client.conversations.create(metadata={"a": "b"}, items=items)
    answer = client.responses.create(model="gpt-4o", input="Who am I?", conversation=made.id)
    assert answer.conversation.id == made.id

    listed = client.conversations.items.list(made.id, order="asc", limit=2)
    assert texts(listed) == ["My name is Bo", "Who am I?", answer.output_text]
    added = client.conversations.items.create(made.id, items=items)
    one = client.conversations.items.retrieve(added.data[0].id, conversation_id=made.id)
    assert one.content[0].text == "My name is Bo"
    assert client.conversations.items.delete(one.id, conversation_id=made.id).id == made.id
    assert client.conversations.update(made.id, metadata={"c": "d"}).metadata == {"c": "d"}
    assert client.conversations.retrieve(made.id).metadata == {"c": "d"}
    assert client.conversations.delete(made.id).deleted is True
    with pytest.raises(openai.NotFoundError):
        client.conversations.retrieve(made.id)


def test_a_history_is_compacted_and_gone_on_from(client):
    history = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]
    compact = client.responses.compact(model="gpt-4o", input=history)
    assert [item.type for item in compact.output] == ["message", "compaction"]
    assert compact.usage.total_tokens > 0

    items = [item.to_dict(warnings=False) for item in compact.output]  # its types know no user message in an output
    answer = client.responses.create(model="gpt-4o", input=[*items, {"role": "user", "content": "go on [[sim:echo]]"}])
    assert answer.output_text.endswith("go on")


def test_input_tokens_are_counted(client):
    few = client.responses.input_tokens.count(model="gpt-4o", input="hello")
    many = client.responses.input_tokens.count(model="gpt-4o", input="hello " * 100, instructions="Be brief")

    assert few.object == "response.input_tokens"
    assert 0 < few.input_tokens < many.input_tokens


def test_all_of_it_asynchronously(gateway):
    async def main():
        async with openai.AsyncOpenAI(base_url=gateway.base_url, api_key="unused", max_retries=0) as client:
            one, two = await asyncio.gather(
                client.responses.create(model="gpt-4o", input="one [[sim:echo]]"),
                client.responses.parse(model="gpt-4o", input="Ann is 30", text_format=Person),
            )
            assert one.output_text == "one"
            assert isinstance(two.output_parsed, Person)
            async with client.responses.stream(
                model="gpt-4o", input="two [[sim:echo]]", previous_response_id=one.id
            ) as stream:
                async for _ in stream:
                    pass
                assert (await stream.get_final_response()).output_text == "two"
            begun = await client.responses.create(model="gpt-4o", input="hi [[sim:slow=60]]", background=True)
            assert (await client.responses.cancel(begun.id)).status == "cancelled"
            items = [item async for item in client.responses.input_items.list(one.id)]
            assert len(items) == 1
            await client.responses.delete(one.id)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("marker", "error"),
    [
        ("400", openai.BadRequestError),
        ("404", openai.NotFoundError),
        ("429=61", openai.RateLimitError),
        ("500", openai.InternalServerError),
        ("blocked", openai.BadRequestError),
    ],
)
@pytest.mark.parametrize("is_stream", [False, True], ids=["unary", "stream"])
def test_a_failure_is_the_sdks_own_error(serve, marker, error, is_stream):
    gateway = serve()
    with (
        openai.OpenAI(base_url=gateway.base_url, api_key="unused", max_retries=0) as client,
        pytest.raises(error) as caught,
    ):
        client.responses.create(model="gpt-4o", input=f"hello [[sim:{marker}]]", stream=is_stream)
    assert caught.value.request_id.startswith("req_")


def test_a_failure_in_mid_stream_is_response_failed(client):
    events = list(client.responses.create(model="gpt-4o", input="hello [[sim:error-mid-stream]]", stream=True))

    assert events[-1].type == "response.failed"
    assert events[-1].response.error.message
