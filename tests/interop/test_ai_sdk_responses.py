"""Vercel's AI SDK over Responses, its default for OpenAI, against a running gateway on the simulated Gemini."""

import json
from pathlib import Path

import pytest
from foreign import node_modules, run

PROGRAM = Path(__file__).parent / "node" / "ai_sdk_responses.mjs"


@pytest.mark.parametrize("is_stored", [False, True], ids=["store off", "store on"])
@pytest.mark.parametrize("model", ["gpt-5", "gemini-3.8-flash"])
def test_the_ai_sdk_does_a_job_of_two_steps(gateway, tmp_path, model, is_stored):
    """With store on it names reasoning items by id only, so that its second step needs what was kept."""
    (tmp_path / "node_modules").symlink_to(node_modules("ai", "@ai-sdk/openai"))  # Node looks beside the program
    script = tmp_path / PROGRAM.name
    script.write_bytes(PROGRAM.read_bytes())
    done = run(["node", str(script), gateway.base_url, model, json.dumps(is_stored)], home=tmp_path)
    assert done.status == 0, done.output
    told = json.loads(done.output.strip().splitlines()[-1])

    for job in (told["unary"], told["stream"]):
        assert job["asked"] == ["Paris", "Paris"]
        assert (job["steps"], job["finish"]) == (3, "stop")
        assert "sunny in Paris" in job["text"]
        assert (job["named"] > 0) is is_stored
    assert told["person"].keys() == {"name", "age"}
