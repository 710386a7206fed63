"""How each client is told of the gateway: the text of its configuration, where that stands, and what else to do.

Knows the clients' own formats, nothing of the machine: `Facts` brings the base URL, the folders and the environment.
No secret is written where a client can name an environment variable instead. How a piece of configuration joins what
a file holds already is `merging`'s matter.

Sources, November 2026: Codex 0.169, opencode 1.18, llm 0.36, aider 0.86 and the SDKs as installed and tried
(tests/interop/test_setup.py); Continue docs/reference.mdx and packages/config-yaml; Cline
sdk/packages/core/src/types/provider-settings.ts; Kilo packages/kilo-docs/pages/ai-providers/openai-compatible.md;
Zed docs/src/ai/use-api-access.md.
"""

import json
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from .errors import ConfigError
from .jsontext import JsonObject
from .merging import Fragment, JsonValues, TomlBlock, YamlItem, YamlKeys

MODEL = "gemini-3.8-flash"
KEY_VARIABLE = "GATEWAY_API_KEY"
NO_KEY = "unused"  # most clients insist on one, also where the gateway asks for none
_KEY_PLACE = "YOUR_CLIENT_KEY"
_CONTEXT_TOKENS, _OUTPUT_TOKENS = 1_048_576, 65_536  # of all current Gemini text models
_PROVIDER = "agproxy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a configuration is made of. key_variable: where the client finds its key; key: the key itself, for a client
    that cannot be told of a variable, where the user has settled on one. home: the user's own folder, not agproxy's.
    now: this moment in ISO 8601."""

    base_url: str
    model: str = MODEL
    needs_key: bool = False
    key_variable: str = ""
    key: str = field(default="", repr=False)
    home: str = "~"
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    system: str = "linux"
    now: str = "1970-01-01T00:00:00.000Z"


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A piece of a client's configuration. paths: where it may stand; the first that is there, else the first, is the
    place. is_secret: it holds the client key."""

    paths: tuple[str, ...]
    fragment: Fragment
    is_secret: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What sets a client up: a file, or a text (a program, a command) where it has none. exports: environment
    variables that it needs; notes: what else the user should know or do, a sentence each."""

    file: File | None = None
    text: str = ""
    exports: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """One client. place: where it keeps its configuration, in words. key_variables: those that it reads, where it can
    not be told of another; the first is taken."""

    name: str
    title: str
    place: str
    render: Callable[[Facts], Plan]
    key_variables: tuple[str, ...] = ()


def render(name: str, facts: Facts) -> Plan:
    """What sets this client up. Raises ConfigError for a client that is not known, or facts that it cannot use."""
    client = CLIENTS.get(name)
    if client is None:
        raise ConfigError(f"no client is called {name!r}: {', '.join(CLIENTS)}")
    variable = facts.key_variable or (client.key_variables or (KEY_VARIABLE,))[0]
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", variable):
        raise ConfigError("--key-env: the name of an environment variable was expected")
    if client.key_variables and variable not in client.key_variables:
        raise ConfigError(f"--key-env: {client.title} reads its key from {' or '.join(client.key_variables)} only")
    if not re.fullmatch(r"[^\s\"'`$\\{}]+", facts.model) or not facts.model.isprintable():
        raise ConfigError("--model: a model's name without spaces and quotes was expected")
    plan = client.render(replace(facts, key_variable=variable))
    notes = plan.notes
    if facts.base_url.startswith("https://"):
        notes += (
            "where the gateway's certificate is one of your own: SSL_CERT_FILE (Python, Codex, curl) or "
            "NODE_EXTRA_CA_CERTS (Node) names the authority's file for the client",
        )
    return replace(plan, notes=notes)


# --- what several clients share --------------------------------------------------------------------------------


def _join(facts: Facts, *words: str) -> str:
    return ("\\" if facts.system == "win32" else "/").join(word.rstrip("/\\") for word in words)


def _config_home(facts: Facts) -> str:
    return facts.environ.get("XDG_CONFIG_HOME") or _join(facts, facts.home, ".config")


def _app_data(facts: Facts) -> str:
    """Where programs that follow each platform's own custom keep their files."""
    if facts.system == "win32":
        return facts.environ.get("APPDATA") or _join(facts, facts.home, "AppData", "Roaming")
    if facts.system == "darwin":
        return _join(facts, facts.home, "Library", "Application Support")
    return _config_home(facts)


def _exports(facts: Facts) -> tuple[tuple[str, str], ...]:
    """The variable that a configuration refers to, where a key is asked for."""
    return ((facts.key_variable, _KEY_PLACE),) if facts.needs_key else ()


def _ai_sdk_provider(facts: Facts) -> JsonObject:
    """A provider as opencode and Kilo, which comes from it, take it."""
    key = f"{{env:{facts.key_variable}}}" if facts.needs_key else NO_KEY
    model = {
        "name": facts.model,
        "attachment": True,
        "reasoning": True,
        "tool_call": True,
        "limit": {"context": _CONTEXT_TOKENS, "output": _OUTPUT_TOKENS},
    }
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "agproxy",
        "options": {"baseURL": facts.base_url, "apiKey": key},
        "models": {facts.model: model},
    }
    return {"provider": {_PROVIDER: provider}, "model": f"{_PROVIDER}/{facts.model}"}


def _python_key(facts: Facts) -> str:
    return f"os.environ[{json.dumps(facts.key_variable)}]" if facts.needs_key else json.dumps(NO_KEY)


# --- the clients -----------------------------------------------------------------------------------------------


def _codex(facts: Facts) -> Plan:
    provider: dict[str, str | int] = {"name": "agproxy", "base_url": facts.base_url, "wire_api": "responses"}
    if facts.needs_key:
        provider["env_key"] = facts.key_variable
    folder = facts.environ.get("CODEX_HOME") or _join(facts, facts.home, ".codex")
    top: dict[str, str | int] = {"model": facts.model, "model_provider": _PROVIDER}
    top["model_context_window"] = _CONTEXT_TOKENS
    fragment = TomlBlock(top=top, table=("model_providers", _PROVIDER), values=provider)
    notes = ["Codex says once that it has no metadata for a Gemini name: that is harmless"]
    return Plan(
        file=File(paths=(_join(facts, folder, "config.toml"),), fragment=fragment),
        exports=_exports(facts),
        notes=tuple(notes),
    )


def _aider(facts: Facts) -> Plan:
    values = {"model": f"openai/{facts.model}", "openai-api-base": facts.base_url}
    if not facts.needs_key:
        values["openai-api-key"] = NO_KEY
    return Plan(
        file=File(paths=(_join(facts, facts.home, ".aider.conf.yml"),), fragment=YamlKeys(values=values)),
        exports=_exports(facts),
        notes=("a .aider.conf.yml in a repository or in the folder where aider starts goes before this one",),
    )


def _opencode(facts: Facts) -> Plan:
    folder = _join(facts, _config_home(facts), "opencode")
    paths = tuple(_join(facts, folder, name) for name in ("opencode.json", "opencode.jsonc"))
    values = {"$schema": "https://opencode.ai/config.json", **_ai_sdk_provider(facts)}
    return Plan(
        file=File(paths=paths, fragment=JsonValues(values=values)),
        exports=_exports(facts),
        notes=("an opencode.json in a project goes before this one",),
    )


def _kilo(facts: Facts) -> Plan:
    folder = _join(facts, _config_home(facts), "kilo")
    paths = tuple(_join(facts, folder, name) for name in ("kilo.json", "kilo.jsonc"))
    return Plan(
        file=File(paths=paths, fragment=JsonValues(values=_ai_sdk_provider(facts))),
        exports=_exports(facts),
        notes=("the extension for VS Code reads the same file; it needs the variable in the environment of VS Code",)
        if facts.needs_key
        else ("the extension for VS Code reads the same file",),
    )


def _continue(facts: Facts) -> Plan:
    key = f"${{{{ secrets.{facts.key_variable} }}}}" if facts.needs_key else NO_KEY
    item = {
        "name": f"{facts.model} (agproxy)",
        "provider": "openai",
        "model": facts.model,
        "apiBase": facts.base_url,
        "apiKey": key,
        "contextLength": _CONTEXT_TOKENS,
        "roles": ["chat", "edit", "apply"],
        "capabilities": ["tool_use", "image_input"],
    }
    folder = facts.environ.get("CONTINUE_GLOBAL_DIR") or _join(facts, facts.home, ".continue")
    head = {"name": "agproxy", "version": "1.0.0", "schema": "v1"}
    notes: tuple[str, ...] = ()
    if facts.base_url.startswith("https://"):
        notes += (
            "Continue is told of your own authority by requestOptions.caBundlePath of the model. Its command line "
            "1.5.47 did not heed it when tried: where it says 'Connection error', take plain http on this machine",
        )
    if facts.needs_key:
        place = _join(facts, folder, ".env")
        notes += (f"the extension does not see your shell's variables: put {facts.key_variable}=... into {place}",)
    fragment = YamlItem(parent="models", values=item, head=head)
    return Plan(
        file=File(paths=(_join(facts, folder, "config.yaml"),), fragment=fragment),
        exports=_exports(facts),
        notes=notes,
    )


def _cline(facts: Facts) -> Plan:
    settings = {
        "provider": "openai-compatible",
        "apiKey": (facts.key or _KEY_PLACE) if facts.needs_key else NO_KEY,
        "model": facts.model,
        "baseUrl": facts.base_url,
    }
    entry = {"settings": settings, "updatedAt": facts.now, "tokenSource": "manual"}
    values: JsonObject = {
        "version": 1,
        "lastUsedProvider": "openai-compatible",
        "providers": {"openai-compatible": entry},
    }
    path = facts.environ.get("CLINE_PROVIDER_SETTINGS_PATH") or _join(
        facts, facts.home, ".cline", "data", "settings", "providers.json"
    )
    fragment = JsonValues(
        values=values, fresh=("providers", "openai-compatible", "updatedAt"), start={"version": 1, "modes": {}}
    )
    notes: tuple[str, ...] = ("in VS Code: provider OpenAI Compatible, with this base URL, key and model ID",)
    if facts.needs_key:
        notes += ("Cline cannot be told of an environment variable: your client key stands in this file in plain text",)
    return Plan(file=File(paths=(path,), fragment=fragment, is_secret=facts.needs_key), notes=notes)


def _zed(facts: Facts) -> Plan:
    stem = facts.key_variable.removesuffix("_API_KEY")
    if stem == facts.key_variable or not re.fullmatch(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*", stem):
        raise ConfigError("--key-env: Zed reads <PROVIDER>_API_KEY, so a name such as GATEWAY_API_KEY was expected")
    provider = stem.lower().replace("_", "-")
    model = {
        "name": facts.model,
        "display_name": f"{facts.model} (agproxy)",
        "max_tokens": _CONTEXT_TOKENS,
        "max_output_tokens": _OUTPUT_TOKENS,
        "capabilities": {
            "tools": True,
            "images": True,
            "parallel_tool_calls": True,
            "prompt_cache_key": False,
        },
    }
    values: JsonObject = {
        "language_models": {"openai_compatible": {provider: {"api_url": facts.base_url, "available_models": [model]}}},
        "agent": {"default_model": {"provider": provider, "model": facts.model}},
    }
    folder = (
        _join(facts, _app_data(facts), "Zed") if facts.system == "win32" else _join(facts, _config_home(facts), "zed")
    )
    return Plan(
        file=File(paths=(_join(facts, folder, "settings.json"),), fragment=JsonValues(values=values)),
        exports=((facts.key_variable, _KEY_PLACE if facts.needs_key else NO_KEY),),
        notes=("a Zed that was not started from a shell does not see the variable: give the key in its AI settings",),
    )


def _llm(facts: Facts) -> Plan:
    item: dict[str, object] = {
        "model_id": f"agproxy/{facts.model}",
        "model_name": facts.model,
        "api_base": facts.base_url,
        "supports_tools": True,
        "supports_schema": True,
        "vision": True,
    }
    notes = [f"then: llm -m agproxy/{facts.model} 'Hello'"]
    if facts.needs_key:
        item["api_key_name"] = "agproxy"
        notes.append("instead of the variable, `llm keys set agproxy` keeps the key, in llm's keys.json")
    folder = facts.environ.get("LLM_USER_PATH") or _join(facts, _app_data(facts), "io.datasette.llm")
    return Plan(
        file=File(
            paths=(_join(facts, folder, "extra-openai-models.yaml"),),
            fragment=YamlItem(parent="", values=item, head={}),
        ),
        exports=_exports(facts),
        notes=tuple(notes),
    )


def _openai_python(facts: Facts) -> Plan:
    lines = ["import os", ""] if facts.needs_key else []
    lines += [
        "from openai import OpenAI",
        "",
        f"client = OpenAI(base_url={json.dumps(facts.base_url)}, api_key={_python_key(facts)})",
        "answer = client.chat.completions.create(",
        f'    model={json.dumps(facts.model)}, messages=[{{"role": "user", "content": "Hello"}}]',
        ")",
        "print(answer.choices[0].message.content)",
    ]
    return Plan(text="\n".join(lines), exports=_exports(facts), notes=(_sdk_note(facts),))


def _sdk_note(facts: Facts) -> str:
    key = "your client key" if facts.needs_key else NO_KEY
    return f"without a change in a program: OPENAI_BASE_URL={facts.base_url} and OPENAI_API_KEY={key}"


def _openai_node(facts: Facts) -> Plan:
    key = f"process.env.{facts.key_variable}" if facts.needs_key else json.dumps(NO_KEY)
    lines = [
        'import OpenAI from "openai";',
        "",
        f"const client = new OpenAI({{ baseURL: {json.dumps(facts.base_url)}, apiKey: {key} }});",
        "const answer = await client.chat.completions.create({",
        f"  model: {json.dumps(facts.model)},",
        '  messages: [{ role: "user", content: "Hello" }],',
        "});",
        "console.log(answer.choices[0].message.content);",
    ]
    return Plan(
        text="\n".join(lines),
        exports=_exports(facts),
        notes=("it is an ES module: save it as .mjs", _sdk_note(facts)),
    )


def _langchain(facts: Facts) -> Plan:
    lines = ["import os", ""] if facts.needs_key else []
    lines += [
        "from langchain_openai import ChatOpenAI",
        "",
        "model = ChatOpenAI(",
        f"    model={json.dumps(facts.model)}, base_url={json.dumps(facts.base_url)}, api_key={_python_key(facts)}",
        ")",
        'print(model.invoke("Hello").content)',
    ]
    return Plan(text="\n".join(lines), exports=_exports(facts), notes=("it needs langchain-openai",))


def _curl(facts: Facts) -> Plan:
    body = json.dumps({"model": facts.model, "messages": [{"role": "user", "content": "Hello"}]})
    lines = [f"curl {shlex.quote(facts.base_url + '/chat/completions')}"]
    if facts.needs_key:
        lines.append(f'  -H "Authorization: Bearer ${facts.key_variable}"')
    lines += ["  -H 'Content-Type: application/json'", f"  -d {shlex.quote(body)}"]
    return Plan(text=" \\\n".join(lines), exports=_exports(facts))


_PROGRAM = "in your program: no file"

CLIENTS: Mapping[str, Client] = {
    client.name: client
    for client in (
        Client(name="codex", title="Codex CLI", place="~/.codex/config.toml (CODEX_HOME)", render=_codex),
        Client(
            name="aider",
            title="aider",
            place="~/.aider.conf.yml",
            render=_aider,
            key_variables=("OPENAI_API_KEY", "AIDER_OPENAI_API_KEY"),
        ),
        Client(name="opencode", title="opencode", place="~/.config/opencode/opencode.json", render=_opencode),
        Client(name="continue", title="Continue", place="~/.continue/config.yaml", render=_continue),
        Client(name="cline", title="Cline", place="~/.cline/data/settings/providers.json", render=_cline),
        Client(name="kilo", title="Kilo Code", place="~/.config/kilo/kilo.json", render=_kilo),
        Client(name="zed", title="Zed", place="~/.config/zed/settings.json", render=_zed),
        Client(name="openai-python", title="openai SDK for Python", place=_PROGRAM, render=_openai_python),
        Client(name="openai-node", title="openai SDK for Node", place=_PROGRAM, render=_openai_node),
        Client(name="langchain", title="LangChain", place=_PROGRAM, render=_langchain),
        Client(
            name="llm",
            title="llm",
            place="extra-openai-models.yaml of its folder (LLM_USER_PATH)",
            render=_llm,
            key_variables=("OPENAI_API_KEY",),
        ),
        Client(name="curl", title="curl", place="on its command line: no file", render=_curl),
    )
}
