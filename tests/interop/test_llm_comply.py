"""llm-comply, a compliance tester of others, against a running gateway: its own schemas, its own checks.

It takes a model's name for what the model can do, so gpt-5 runs all tests and gpt-4o skips the one on thinking.
"""

import json

import pytest
from foreign import command, run

# llm-comply 0.5.0 looks for events `response.reasoning_summary.delta` and `.done`; in the schema that it brings along,
# and from OpenAI, they are called `response.reasoning_summary_text.delta` and `.done`.
ITS_OWN_MISTAKE = "unknown SSE event type: response.reasoning_summary_text."


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


@pytest.mark.parametrize("model", ["gpt-5", "gpt-4o"])
def test_responses_pass_all_of_its_tests_but_for_its_own_mistake(gateway, tmp_path, model):
    _, results = comply(gateway, tmp_path, "open-responses", model)

    assert len(results) == 13
    for name, errors in complaints(results).items():
        assert [error for error in errors if not error.startswith(ITS_OWN_MISTAKE)] == [], name
    passed = [name for name, result in results.items() if result["status"] == "passed"]
    assert {"basic-response", "system-prompt", "multi-turn", "tool-calling", "image-input"} <= set(passed)


def test_responses_pass_all_of_its_tests_once_it_overlooks_the_names_of_two_events(gateway, tmp_path):
    summary, results = comply(gateway, tmp_path, "open-responses", "gpt-5", "--ignore", ITS_OWN_MISTAKE)

    assert complaints(results) == {}
    assert summary["passed"] == 13
