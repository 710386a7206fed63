"""OpenAI's Agents SDK over Responses, its default, against a running gateway on the simulated Gemini."""

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
            return await ask(agents.OpenAIResponsesModel(model=name, openai_client=client))

    return asyncio.run(main())


async def streamed(agent, job, **more):
    result = agents.Runner.run_streamed(agent, job, **more)
    async for _ in result.stream_events():
        pass
    return result


@pytest.mark.parametrize("chain", [False, True], ids=["items", "previous_response_id"])
@pytest.mark.parametrize("is_stream", [False, True], ids=["unary", "stream"])
@pytest.mark.parametrize("name", MODELS)
def test_an_agent_does_a_job_of_two_steps_and_quotes_the_results(gateway, weather, name, is_stream, chain):
    get_weather, asked = weather

    async def ask(model):
        agent = agents.Agent(name="Forecaster", instructions="Be brief", tools=[get_weather], model=model)
        make = streamed if is_stream else agents.Runner.run
        return await make(agent, JOB, auto_previous_response_id=chain)

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
    assert result.final_output


@pytest.mark.parametrize("is_stream", [False, True], ids=["unary", "stream"])
@pytest.mark.parametrize("name", MODELS)
def test_an_agent_gives_its_output_as_a_class(gateway, name, is_stream):
    async def ask(model):
        agent = agents.Agent(name="Reader", instructions="Be brief", output_type=Person, model=model)
        return await (streamed if is_stream else agents.Runner.run)(agent, "Ann is 30")

    assert isinstance(work(gateway, name, ask).final_output, Person)


def test_an_agent_remembers_by_a_conversation(gateway):
    async def ask(model):
        made = await model._client.conversations.create()
        agent = agents.Agent(name="Friend", instructions="Be brief", model=model)
        await agents.Runner.run(agent, "My name is Bo", conversation_id=made.id)
        await agents.Runner.run(agent, "Who am I?", conversation_id=made.id)
        items = [item async for item in model._client.conversations.items.list(made.id, order="asc")]
        return [item.content[0].text for item in items if getattr(item, "role", "") == "user"]

    assert work(gateway, "gpt-4o", ask) == ["My name is Bo", "Who am I?"]
