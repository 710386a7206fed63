"""Clients for Node against a running gateway on the simulated Gemini: the openai SDK and Vercel's AI SDK.

The programs stand in `node/`; they do their work and print what came, and the tests here judge it.
"""

import json
from pathlib import Path

import pytest
from foreign import node_modules, run

PROGRAMS = Path(__file__).parent / "node"
MODELS = ["gpt-4o", "gemini-3.8-flash"]


@pytest.fixture
def told(gateway, tmp_path):
    """Run a program with these packages and read what it prints."""

    def ask(program, packages, *arguments):
        modules = node_modules(*packages)
        # Node looks for packages from where the program lies.
        (tmp_path / "node_modules").symlink_to(modules)
        script = tmp_path / program
        script.write_bytes((PROGRAMS / program).read_bytes())
        done = run(["node", str(script), gateway.base_url, *arguments], home=tmp_path)
        assert done.status == 0, done.output
        return json.loads(done.output.strip().splitlines()[-1])

    return ask


def check_job(job):
    assert job["asked"] == ["Paris", "London", "Paris", "London"]
    assert "get_weather returned sunny in Paris; get_weather returned sunny in London" in job["text"]


@pytest.mark.parametrize("model", MODELS)
def test_the_openai_sdk_for_node_runs_tools_streams_and_raises(told, model):
    result = told("openai_sdk.mjs", ["openai"], model)

    for job in (result["unary"], result["stream"]):
        check_job(job)
        assert job["answers"] == 3
    assert [text.count("Hello") for text in result["two"]["texts"]] == [1, 1]
    assert result["two"]["total"] > 0
    assert result["cut"]["text"].startswith("w1 w2 w3")
    assert (result["cut"]["error"], result["cut"]["status"]) == ("APIError", None)
    assert "closed the connection" in result["cut"]["message"]
    assert (result["wrong"]["error"], result["wrong"]["status"]) == ("BadRequestError", 400)
    assert result["person"] == {"name": "Ada", "age": 36}
    assert "gpt-4o" in result["models"]


@pytest.mark.parametrize("provider", ["compatible", "google", "openai"])
@pytest.mark.parametrize("model", MODELS)
def test_the_ai_sdk_does_a_job_of_two_steps_and_tells_what_breaks(told, model, provider):
    packages = ["ai", "@ai-sdk/openai-compatible", "@ai-sdk/openai"]
    result = told("ai_sdk.mjs", packages, model, provider)

    for job in (result["unary"], result["stream"]):
        check_job(job)
        assert (job["steps"], job["finish"]) == (3, "stop")
        assert job["total"] > 0
        assert job["thoughts"] == (provider != "openai")  # that one does not read reasoning_content
    assert "closed the connection" in result["cut"]["error"]
    assert result["blocked"] == {"finish": "content-filter"}
    assert result["person"] == {"name": "Ada", "age": 36}
