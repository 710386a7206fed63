"""Pydantic AI with its OpenAI chat provider, against a running gateway on the simulated Gemini.

Runs in an environment with pydantic-ai-slim[openai].
"""

import asyncio

import pytest
from foreign import library

ai = library("pydantic_ai", "'pydantic-ai-slim[openai]'")
chat = library("pydantic_ai.models.openai", "'pydantic-ai-slim[openai]'")
provider = library("pydantic_ai.providers.openai", "'pydantic-ai-slim[openai]'")
pydantic = library("pydantic", "'pydantic-ai-slim[openai]'")

pytestmark = pytest.mark.filterwarnings("ignore")
MODELS = ["gpt-4o", "gemini-3.8-flash"]
JOB = "What is the weather in Paris and London? [[sim:steps=2]]"


class Person(pydantic.BaseModel):
    name: str
    age: int


@pytest.fixture
def weather():
    asked = []

    def get_weather(city: str) -> str:
        """The weather in a city"""
        asked.append(city)
        return f"sunny in {city}"

    return get_weather, asked


def agent_of(gateway, name, **more):
    source = provider.OpenAIProvider(base_url=gateway.base_url, api_key="unused")
    return ai.Agent(chat.OpenAIChatModel(name, provider=source), **more)


def streamed(agent, text, **more):
    async def main():
        async with agent.run_stream(text, **more) as result:
            pieces = [piece async for piece in result.stream_text(delta=True)]
            return "".join(pieces), await result.get_output()

    return asyncio.run(main())


@pytest.mark.parametrize("name", MODELS)
def test_an_agent_does_a_job_of_two_steps_and_goes_on_talking(gateway, weather, name):
    get_weather, asked = weather
    agent = agent_of(gateway, name, instructions="Be brief", tools=[get_weather])
    result = agent.run_sync(JOB)
    assert asked.count("Paris") == asked.count("London") == 2
    assert "sunny in Paris" in result.output
    assert "sunny in London" in result.output

    again = agent.run_sync("And now?", message_history=result.all_messages())
    assert "turn 2" in again.output


@pytest.mark.parametrize("name", MODELS)
def test_a_streaming_agent_does_the_same(gateway, weather, name):
    get_weather, asked = weather
    text, output = streamed(agent_of(gateway, name, tools=[get_weather]), JOB)

    assert asked.count("Paris") == asked.count("London") == 2
    assert "sunny in London" in text
    assert text == output


@pytest.mark.parametrize("way", ["ToolOutput", "NativeOutput"])
@pytest.mark.parametrize("name", MODELS)
def test_an_agent_gives_its_output_as_a_class(gateway, name, way):
    agent = agent_of(gateway, name, output_type=getattr(ai, way)(Person))

    assert agent.run_sync("Ada is 36").output == Person(name="Ada", age=36)


@pytest.mark.parametrize(
    ("marker", "error"),
    [
        ("blocked", "ContentFilterError"),
        ("400-too-long", "ModelContextWindowExceededError"),
        ("cut", "ModelServerError"),
    ],
)
def test_what_is_blocked_too_long_or_broken_raises_its_own_error(gateway, marker, error):
    agent = agent_of(gateway, f"gemini-2.5-{marker}-ai")  # a model that no other test uses: it may be in trouble after
    for ask in (agent.run_sync, lambda text: streamed(agent, text)):
        with pytest.raises(ai.exceptions.AgentRunError) as caught:
            ask(f"Hello [[sim:{marker}]]")
        assert caught.type.__name__ == error
