"""llm-comply, a compliance tester of others, against a running gateway: its own schemas, its own checks.

It takes a model's name for what the model can do, so gpt-5 runs all tests and gpt-4o skips the one on thinking.
"""

import json

import pytest
from foreign import command, run


def comply(gateway, home, form, model, *more):
    """Its results by test, as it reports them."""
    tester = command("llm-comply", "llm-comply")
    asked = ["--format", form, "--base-url", gateway.base_url, "--api-key", "unused", "--model", model, "--json", *more]
    report = json.loads(run([tester, *asked], home=home).output)
    return report["summary"], {result["id"]: result for result in report["results"]}


def complaints(results):
    return {name: result["errors"] for name, result in results.items() if result["status"] == "failed"}


@pytest.mark.parametrize("model", ["gpt-5", "o3-mini"])
def test_chat_completions_pass_nine_of_nine(gateway, tmp_path, model):
    summary, results = comply(gateway, tmp_path, "openai-chat", model)

    assert complaints(results) == {}
    assert (summary["passed"], summary["total"]) == (9, 9)
    assert [result["id"] for result in results.values() if result.get("warnings")] == []


@pytest.mark.parametrize("model", ["gpt-4o", "gemini-2.5-flash", "gemini-3.8-flash"])
def test_chat_completions_pass_all_that_it_tries_on_other_models(gateway, tmp_path, model):
    summary, results = comply(gateway, tmp_path, "openai-chat", model)

    assert complaints(results) == {}
    assert summary["passed"] == 8
    assert [result["id"] for result in results.values() if result["status"] == "skipped"] == ["chat-reasoning-summary"]


def test_responses_pass_thirteen_of_thirteen(gateway, tmp_path):
    summary, results = comply(gateway, tmp_path, "open-responses", "gpt-5")

    assert complaints(results) == {}
    assert (summary["passed"], summary["total"]) == (13, 13)


@pytest.mark.parametrize("model", ["gpt-4o", "gemini-3.8-flash"])
def test_responses_pass_all_that_it_tries_on_other_models(gateway, tmp_path, model):
    summary, results = comply(gateway, tmp_path, "open-responses", model)

    assert complaints(results) == {}
    assert summary["passed"] == 12
    assert [result["id"] for result in results.values() if result["status"] == "skipped"] == ["reasoning-summary"]
