"""LlamaIndex's OpenAILike against a running gateway on the simulated Gemini.

Runs in an environment with llama-index-llms-openai-like.
"""

import asyncio

import pytest
from foreign import library

like = library("llama_index.llms.openai_like", "llama-index-llms-openai-like")
workflow = library("llama_index.core.agent.workflow", "llama-index-llms-openai-like")
core = library("llama_index.core.llms", "llama-index-llms-openai-like")
tools = library("llama_index.core.tools", "llama-index-llms-openai-like")

pytestmark = pytest.mark.filterwarnings("ignore")
MODELS = ["gpt-4o", "gemini-3.8-flash"]


def model_of(gateway, name, *, is_chat=True):
    return like.OpenAILike(
        model=name,
        api_base=gateway.base_url,
        api_key="unused",
        is_chat_model=is_chat,
        is_function_calling_model=is_chat,
        context_window=100_000,
        max_retries=0,
    )


@pytest.mark.parametrize("is_stream", [False, True], ids=["unary", "stream"])
@pytest.mark.parametrize("name", MODELS)
def test_a_function_agent_does_a_job_of_two_steps_and_quotes_the_results(gateway, name, is_stream):
    asked = []

    def get_weather(city: str) -> str:
        """The weather in a city"""
        asked.append(city)
        return f"sunny in {city}"

    async def main():
        agent = workflow.FunctionAgent(
            tools=[tools.FunctionTool.from_defaults(get_weather)],
            llm=model_of(gateway, name),
            system_prompt="Be brief",
            streaming=is_stream,
        )
        return str(await agent.run("What is the weather in Paris and London? [[sim:steps=2]]"))

    answer = asyncio.run(main())
    assert asked.count("Paris") == asked.count("London") == 2
    assert "sunny in Paris" in answer
    assert "sunny in London" in answer


@pytest.mark.parametrize("name", MODELS)
def test_a_streamed_chat_is_the_unary_one_in_pieces(gateway, name):
    model, asked = model_of(gateway, name), [core.ChatMessage(role="user", content="Hello there")]
    whole = model.chat(asked).message.content
    pieces = [piece.delta for piece in model.stream_chat(asked)]

    assert "Hello there" in whole
    assert "".join(piece or "" for piece in pieces) == whole


def test_a_completion_model_answers(gateway):
    assert "Once upon a time" in model_of(gateway, "gpt-4o", is_chat=False).complete("Once upon a time").text
