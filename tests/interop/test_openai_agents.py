"""OpenAI's Agents SDK over Chat Completions, against a running gateway on the simulated Gemini.

Runs in an environment with openai-agents.
"""

import asyncio

import pytest
from foreign import library

agents = library("agents", "openai-agents")
openai = library("openai", "openai-agents")
pydantic = library("pydantic", "openai-agents")

pytestmark = pytest.mark.filterwarnings("ignore")
MODELS = ["gpt-4o", "gemini-3.8-flash"]
JOB = "What is the weather in Paris and London? [[sim:steps=2]]"


class Person(pydantic.BaseModel):
    name: str
    age: int


@pytest.fixture
def weather():
    asked = []

    @agents.function_tool
    def get_weather(city: str) -> str:
        """The weather in a city"""
        asked.append(city)
        return f"sunny in {city}"

    return get_weather, asked


def work(gateway, name, ask):
    """Run `ask(model)` with a model of the gateway."""

    async def main():
        agents.set_tracing_disabled(True)
        async with openai.AsyncOpenAI(base_url=gateway.base_url, api_key="unused", max_retries=0) as client:
            return await ask(agents.OpenAIChatCompletionsModel(model=name, openai_client=client))

    return asyncio.run(main())


@pytest.mark.parametrize("is_stream", [False, True], ids=["unary", "stream"])
@pytest.mark.parametrize("name", MODELS)
def test_an_agent_does_a_job_of_two_steps_and_quotes_the_results(gateway, weather, name, is_stream):
    get_weather, asked = weather

    async def ask(model):
        agent = agents.Agent(name="Forecaster", instructions="Be brief", tools=[get_weather], model=model)
        if not is_stream:
            return await agents.Runner.run(agent, JOB)
        result = agents.Runner.run_streamed(agent, JOB)
        async for _ in result.stream_events():
            pass
        return result

    result = work(gateway, name, ask)
    assert asked.count("Paris") == asked.count("London") == 2
    assert len(result.raw_responses) == 3
    assert "sunny in Paris" in result.final_output
    assert "sunny in London" in result.final_output


@pytest.mark.parametrize("name", MODELS)
def test_an_agent_hands_over_to_another(gateway, name):
    async def ask(model):
        other = agents.Agent(
            name="Spanish agent", handoff_description="speaks Spanish", instructions="Hola", model=model
        )
        agent = agents.Agent(name="Desk", instructions="Be brief", handoffs=[other], model=model)
        return await agents.Runner.run(agent, "Transfer me to the Spanish agent [[sim:steps=1]]")

    result = work(gateway, name, ask)
    assert result.last_agent.name == "Spanish agent"
    assert "Hola" in result.final_output


@pytest.mark.parametrize("name", MODELS)
def test_an_agent_gives_its_output_as_a_class(gateway, name):
    async def ask(model):
        agent = agents.Agent(name="Clerk", instructions="Be brief", output_type=Person, model=model)
        return await agents.Runner.run(agent, "Ada is 36")

    assert work(gateway, name, ask).final_output == Person(name="Ada", age=36)


def test_a_gemini_3_agent_with_tools_gives_its_output_as_a_class(gateway, weather):
    async def ask(model):
        agent = agents.Agent(name="Clerk", tools=[weather[0]], output_type=Person, model=model)
        return await agents.Runner.run(agent, "What is the weather in Paris? [[sim:steps=1]]")

    assert isinstance(work(gateway, "gemini-3.8-flash", ask).final_output, Person)
    assert weather[1] == ["Paris"]
