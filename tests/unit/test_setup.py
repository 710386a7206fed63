"""What is told to each client, held to the clients' documented shapes."""

import json
from dataclasses import replace

import pytest

from agproxy.errors import ConfigError
from agproxy.setup import CLIENTS, Facts, render

FACTS = Facts(base_url="http://127.0.0.1:8045/v1", home="/home/me")
LOCKED = replace(FACTS, needs_key=True)


def values(name, facts=FACTS):
    return json.loads(render(name, facts).file.fragment.text())


@pytest.mark.parametrize("name", CLIENTS)
@pytest.mark.parametrize("facts", [FACTS, LOCKED], ids=["open", "with-key"])
def test_every_client_is_told_of_url_model_and_key(name, facts):
    plan = render(name, replace(facts, model="gemini-x"))
    text = plan.file.fragment.text() if plan.file else plan.text

    assert "http://127.0.0.1:8045/v1" in text
    assert "gemini-x" in text
    told = text + " ".join(f"{variable}={value}" for variable, value in plan.exports)
    if facts.needs_key:
        assert "API_KEY" in told or "YOUR_CLIENT_KEY" in told
    elif name not in ("codex", "llm", "curl"):  # which can do without any
        assert "unused" in told


@pytest.mark.parametrize("name", [name for name in CLIENTS if name != "cline"])
def test_a_key_is_never_in_what_is_written(name):
    plan = render(name, replace(LOCKED, key="sk-secret"))

    assert "sk-secret" not in repr(plan)
    assert plan.file is None or not plan.file.is_secret


def test_cline_has_no_other_way_and_says_so():
    plan = render("cline", replace(LOCKED, key="sk-secret"))

    assert plan.file.is_secret
    assert "sk-secret" in plan.file.fragment.text()
    assert any("plain text" in note for note in plan.notes)
    assert not render("cline", FACTS).file.is_secret


@pytest.mark.parametrize("name", ["opencode", "kilo"])
def test_providers_of_the_ai_sdk(name):
    """Kilo: packages/kilo-docs/pages/ai-providers/openai-compatible.md; opencode: opencode.ai/config.json."""
    value = values(name, replace(LOCKED, key_variable="MY_KEY"))
    provider = value["provider"]["agproxy"]

    assert value["model"] == "agproxy/gemini-3.8-flash"
    assert provider["npm"] == "@ai-sdk/openai-compatible"
    assert provider["options"] == {"baseURL": "http://127.0.0.1:8045/v1", "apiKey": "{env:MY_KEY}"}
    assert set(provider["models"]["gemini-3.8-flash"]["limit"]) == {"context", "output"}


def test_zed_gets_the_documented_settings():
    """docs/src/ai/use-api-access.md: api_url, models with name and max_tokens, capabilities of true and false; the
    key's variable is the provider's name in capitals and _API_KEY."""
    plan = render("zed", replace(LOCKED, key_variable="MY_GATEWAY_API_KEY"))
    value = json.loads(plan.file.fragment.text())
    ((name, provider),) = value["language_models"]["openai_compatible"].items()
    (model,) = provider["available_models"]

    assert name == "my-gateway"
    assert value["agent"]["default_model"] == {"provider": "my-gateway", "model": "gemini-3.8-flash"}
    assert set(provider) == {"api_url", "available_models"}
    assert set(model) == {"name", "display_name", "max_tokens", "max_output_tokens", "capabilities"}
    documented = {"tools", "images", "parallel_tool_calls", "prompt_cache_key"}
    assert set(model["capabilities"]) == documented
    assert plan.exports == (("MY_GATEWAY_API_KEY", "YOUR_CLIENT_KEY"),)
    with pytest.raises(ConfigError, match="_API_KEY"):
        render("zed", replace(LOCKED, key_variable="MY_KEY"))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"model": "a b"}, "--model"),
        ({"model": 'a"'}, "--model"),
        ({"model": "$(x)"}, "--model"),
        ({"model": ""}, "--model"),
        ({"key_variable": "a-b"}, "--key-env"),
        ({"key_variable": "$X"}, "--key-env"),
    ],
)
def test_words_that_would_break_out_of_their_place_are_refused(changes, why):
    with pytest.raises(ConfigError, match=why):
        render("curl", replace(LOCKED, **changes))


def test_aider_reads_its_own_variables_only():
    with pytest.raises(ConfigError, match="OPENAI_API_KEY or AIDER_OPENAI_API_KEY"):
        render("aider", replace(LOCKED, key_variable="MY_KEY"))
    assert render("aider", LOCKED).exports[0][0] == "OPENAI_API_KEY"


@pytest.mark.parametrize(
    ("name", "changes", "path"),
    [
        ("codex", {}, "/home/me/.codex/config.toml"),
        ("codex", {"environ": {"CODEX_HOME": "/c"}}, "/c/config.toml"),
        ("opencode", {"environ": {"XDG_CONFIG_HOME": "/x"}}, "/x/opencode/opencode.json"),
        ("llm", {"system": "darwin"}, "/home/me/Library/Application Support/io.datasette.llm/extra-openai-models.yaml"),
        ("llm", {"environ": {"LLM_USER_PATH": "/l"}}, "/l/extra-openai-models.yaml"),
        ("zed", {"system": "darwin"}, "/home/me/.config/zed/settings.json"),
        ("zed", {"system": "win32", "environ": {"APPDATA": "C:\\A"}}, "C:\\A\\Zed\\settings.json"),
        ("aider", {"system": "win32", "home": "C:\\me"}, "C:\\me\\.aider.conf.yml"),
    ],
)
def test_places(name, changes, path):
    assert render(name, replace(FACTS, **changes)).file.paths[0] == path


def test_https_is_told_with_what_a_certificate_of_ones_own_needs():
    told = " ".join(render("codex", replace(FACTS, base_url="https://box:8045/v1")).notes)
    assert "SSL_CERT_FILE" in told
    assert "NODE_EXTRA_CA_CERTS" in told


def test_an_unknown_client_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="codex, aider"):
        render("vim", FACTS)
