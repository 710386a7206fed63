"""LangChain's ChatOpenAI and a LangGraph agent against a running gateway on the simulated Gemini.

Runs in an environment with langchain-openai and langgraph. LangChain keeps only name, arguments and id of a call, so
thought signatures are lost on the way.
"""

import pytest
from foreign import library

openai = library("langchain_openai", "langchain-openai")
messages = library("langchain_core.messages", "langchain-openai")
tools = library("langchain_core.tools", "langchain-openai")
pydantic = library("pydantic", "langchain-openai")

pytestmark = pytest.mark.filterwarnings("ignore")
MODELS = ["gpt-4o", "gemini-3.8-flash"]
JOB = "What is the weather in Paris and London? [[sim:steps=2]]"


class Person(pydantic.BaseModel):
    name: str
    age: int


@pytest.fixture
def weather():
    """A tool, and the cities that it was asked for."""
    asked = []

    @tools.tool
    def get_weather(city: str) -> str:
        """The weather in a city"""
        asked.append(city)
        return f"sunny in {city}"

    return get_weather, asked


def model_of(gateway, model, **more):
    return openai.ChatOpenAI(model=model, base_url=gateway.base_url, api_key="unused", max_retries=0, **more)


def answer_of(model, history, *, is_stream):
    if not is_stream:
        return model.invoke(history)
    answer = None
    for chunk in model.stream(history):
        answer = chunk if answer is None else answer + chunk
    return answer


@pytest.mark.parametrize("is_stream", [False, True], ids=["unary", "stream"])
@pytest.mark.parametrize("name", MODELS)
def test_a_loop_by_hand_does_a_job_of_two_steps_and_quotes_the_results(gateway, weather, name, is_stream):
    get_weather, asked = weather
    model = model_of(gateway, name, stream_usage=True).bind_tools([get_weather])
    history = [messages.SystemMessage("Be brief"), messages.HumanMessage(JOB)]
    for _ in range(3):
        answer = answer_of(model, history, is_stream=is_stream)
        history += [answer, *(get_weather.invoke(call) for call in answer.tool_calls)]

    assert asked == ["Paris", "London", "Paris", "London"]
    assert answer.tool_calls == []
    assert "sunny in Paris" in answer.content
    assert "sunny in London" in answer.content
    assert answer.response_metadata["finish_reason"] == "stop"
    usage = answer.usage_metadata
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] > 0
    ids = [call["id"] for message in history if isinstance(message, messages.AIMessage) for call in message.tool_calls]
    assert len(set(ids)) == 4


@pytest.mark.parametrize("name", MODELS)
def test_a_langgraph_agent_does_the_same_job(gateway, weather, name):
    prebuilt = library("langgraph.prebuilt", "langgraph")
    get_weather, asked = weather
    agent = prebuilt.create_react_agent(model_of(gateway, name), [get_weather])
    result = agent.invoke({"messages": [("user", JOB)]})

    assert asked.count("Paris") == asked.count("London") == 2
    assert "sunny in Paris" in result["messages"][-1].content


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
@pytest.mark.parametrize("name", MODELS)
def test_structured_output_is_an_instance_of_the_class(gateway, name, method):
    model = model_of(gateway, name).with_structured_output(Person, method=method)

    assert model.invoke("Ada is 36") == Person(name="Ada", age=36)


@pytest.mark.parametrize("marker", ["cut", "error-mid-stream"])
def test_a_stream_that_breaks_off_raises(gateway, marker):
    with pytest.raises(Exception, match=r"closed the connection|cancelled") as caught:
        list(model_of(gateway, "gpt-4o").stream(f"Hello [[sim:{marker}]]"))
    assert "APIError" in [kind.__name__ for kind in caught.type.__mro__]


def test_several_prompts_side_by_side_keep_their_order(gateway):
    answers = model_of(gateway, "gpt-4o").batch([f"[[sim:say=answer {number}]]" for number in range(10)])

    assert [answer.content for answer in answers] == [f"answer {number}" for number in range(10)]


def test_the_legacy_completion_model_answers(gateway):
    model = openai.OpenAI(model="gpt-4o", base_url=gateway.base_url, api_key="unused", max_retries=0)

    assert "Once upon a time" in model.invoke("Once upon a time")
    assert "".join(model.stream("[[sim:say=a b c d]]")) == "a b c d"
