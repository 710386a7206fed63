"""The official openai SDK against a running gateway on the simulated Gemini."""

import json

import pytest

openai = pytest.importorskip("openai", reason="the openai SDK is not installed")

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]}},
            "required": ["city"],
        },
    },
}


@pytest.fixture
def client(gateway):
    with openai.OpenAI(base_url=gateway.base_url, api_key="unused", max_retries=0) as made:
        yield made


def user(text):
    return [{"role": "user", "content": text}]


def test_chat_unary_with_text_of_many_scripts(client):
    text = "Grüße, 東京, Ελλάδα, עברית, 🎉"
    answer = client.chat.completions.create(model="gpt-4o", messages=user(text))

    assert text in answer.choices[0].message.content
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer._request_id.startswith("req_")


def test_chat_streamed_gives_the_same_text_in_pieces(client):
    text = "東京 and Zürich 🎉"
    whole = client.chat.completions.create(model="gpt-4o", messages=user(text)).choices[0].message.content
    stream = client.chat.completions.create(
        model="gpt-4o", messages=user(text), stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)

    pieces = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]
    assert len(pieces) > 2
    assert "".join(pieces) == whole
    assert chunks[-1].usage.total_tokens > 0


def test_a_function_call_unary_and_its_result_in_the_next_turn(client):
    messages = user("What is the weather in Paris?")
    first = client.chat.completions.create(model="gpt-4o", messages=messages, tools=[WEATHER])
    call = first.choices[0].message.tool_calls[0]

    assert first.choices[0].finish_reason == "tool_calls"
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments)["city"] == "Paris"

    messages += [
        first.choices[0].message.model_dump(),
        {"role": "tool", "tool_call_id": call.id, "content": "19 degrees, sunny"},
    ]
    second = client.chat.completions.create(model="gpt-4o", messages=messages, tools=[WEATHER])
    assert "19 degrees, sunny" in second.choices[0].message.content


@pytest.mark.parametrize("model", ["gpt-4o", "gemini-3.8-flash"])
def test_a_function_call_streamed_is_put_together_by_the_helper(client, model):
    with client.chat.completions.stream(
        model=model, messages=user("What is the weather in Paris and London?"), tools=[WEATHER]
    ) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion()

    calls = final.choices[0].message.tool_calls
    assert [json.loads(call.function.arguments)["city"] for call in calls] == ["Paris", "London"]
    assert len({call.id for call in calls}) == 2
    assert final.choices[0].finish_reason == "tool_calls"


def test_a_client_that_drops_signatures_can_go_on_with_gemini_3(client):
    messages = user("What is the weather in Paris?")
    first = client.chat.completions.create(model="gemini-3.8-flash", messages=messages, tools=[WEATHER])
    call = first.choices[0].message.tool_calls[0]
    assert call.model_extra["extra_content"]["google"]["thought_signature"]

    bare = {"id": call.id, "type": "function", "function": call.function.model_dump()}
    messages += [
        {"role": "assistant", "content": None, "tool_calls": [bare]},
        {"role": "tool", "tool_call_id": call.id, "content": "19 degrees"},
    ]
    second = client.chat.completions.create(model="gemini-3.8-flash", messages=messages, tools=[WEATHER])
    assert "19 degrees" in second.choices[0].message.content


def test_responses_unary_and_streamed(client):
    text = "Where is Zürich?"
    answer = client.responses.create(model="gpt-4o", instructions="Be brief", input=text)
    assert text in answer.output_text
    assert answer.status == "completed"

    with client.responses.stream(model="gpt-4o", instructions="Be brief", input=text) as stream:
        for _ in stream:
            pass
        assert stream.get_final_response().output_text == answer.output_text


def test_completions(client):
    answer = client.completions.create(model="gpt-4o", prompt="Once upon a time")

    assert "Once upon a time" in answer.choices[0].text


def test_models_list_and_retrieve(client):
    assert "gpt-4o" in [model.id for model in client.models.list()]
    assert client.models.retrieve("models/gemini-2.5-flash").id == "models/gemini-2.5-flash"


def test_an_unknown_model_is_not_found(client):
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="zebra-9", messages=user("hello"))
    assert caught.value.code == "model_not_found"


def test_a_wrong_request_is_a_bad_request(client):
    with pytest.raises(openai.BadRequestError, match="temperature"):
        client.chat.completions.create(model="gpt-4o", messages=user("hello"), temperature=7)


def test_an_upstream_limit_is_a_rate_limit_error_with_retry_after(client):
    with pytest.raises(openai.RateLimitError) as caught:
        # A model of its own: the gateway remembers the limit, and other tests ask other models.
        client.chat.completions.create(model="gemini-2.5-limited", messages=user("hello [[sim:429=34.2]]"))

    assert caught.value.response.headers["retry-after"] == "35"
    assert 34_000 < int(caught.value.response.headers["retry-after-ms"]) <= 34_200  # what is left of it by then
    assert caught.value.code == "rate_limit_exceeded"


def test_a_stream_that_breaks_off_raises_and_never_ends_well(client):
    stream = client.chat.completions.create(
        model="gpt-4o", messages=user("hello [[sim:error-mid-stream]]"), stream=True
    )

    with pytest.raises(openai.APIError):
        list(stream)
