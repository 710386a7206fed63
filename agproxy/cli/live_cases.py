"""What `agproxy doctor --live` asks: a client's requests, small, each for one thing that Gemini does.

Pure. They go through the gateway's own codecs, so that what is captured is what the gateway sends and gets.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..backends.gemini import models
from ..jsontext import JsonObject

CHAT, COUNT = "/v1/chat/completions", "/v1/responses/input_tokens"
NO_MODEL = "no-such-model"
INVALID_KEY = "invalid-key-of-agproxy-doctor"
_EFFORTS = ("none", "minimal", "low", "medium", "high")
_TOOL: JsonObject = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "name of the city"}},
            "required": ["city"],
        },
    },
}
_SCHEMA: JsonObject = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
_WEATHER = "What is the weather in Paris and London? Call the function for both at once."


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One request. body: what the client sends; follows: the case whose answer is needed for it, of which `make`
    makes it, None where that answer will not do. tokens_in, tokens_out: about what it costs. is_invalid: asked with
    a key that nobody has. settings: those of the gateway that are not at their defaults, as golden cases have them."""

    name: str
    about: str
    body: JsonObject | None = None
    path: str = CHAT
    follows: str = ""
    make: Callable[[JsonObject], JsonObject | None] | None = None
    tokens_in: int = 30
    tokens_out: int = 60
    is_invalid: bool = False
    settings: JsonObject = field(default_factory=dict)


def cases_of(model: str, *, has_key: bool) -> tuple[Case, ...]:
    """All cases for a model. has_key: the account is an API key, so that a wrong one can be tried, too."""

    def chat(text: str, **more: Any) -> JsonObject:
        return {"model": model, "messages": [{"role": "user", "content": text}], **more}

    known = models.facts(model)
    thinks = 300 if known.thinks else 0
    tools = {"tools": [_TOOL]}
    schema = {"type": "json_schema", "json_schema": {"name": "person", "schema": _SCHEMA, "strict": True}}
    found = [
        Case(name="text", about="a short answer, whole", body=chat("Say hello in one short sentence.")),
        Case(
            name="stream",
            about="an answer long enough for several chunks",
            body=chat("Count from one to sixty in words.", stream=True),
            tokens_out=200,
        ),
        Case(name="calls", about="two parallel calls", body=chat(_WEATHER, **tools), tokens_in=100),
        Case(
            name="calls-stream",
            about="two parallel calls, streamed",
            body=chat(_WEATHER, stream=True, **tools),
            tokens_in=100,
        ),
        Case(
            name="signature",
            about="the calls come back with their thought signatures, and their results",
            follows="calls",
            make=lambda answer: _with_results(model, answer, keeps_signatures=True),
            tokens_in=300,
        ),
        Case(
            name="signature-lost",
            about="the same where the client lost the signatures, so that the documented bypass value stands in",
            follows="calls",
            make=lambda answer: _with_results(model, answer, keeps_signatures=False),
            tokens_in=300,
        ),
        Case(name="schema", about="JSON by a schema", body=chat("Ada is 36.", response_format=schema), tokens_in=60),
        *(
            Case(
                name=f"thinking-{effort}",
                about=f"reasoning_effort {effort}, sent as {setting}",
                body=chat("What is 17 times 23? The number alone.", reasoning_effort=effort),
                tokens_out=60 + (0 if effort == "none" else 2 * thinks),
            )
            for effort, setting in thinking_settings(model).items()
        ),
        Case(
            name="bad-model",
            about="a model that is not there",
            body=chat("Hello") | {"model": NO_MODEL},
            settings={"model_map": {NO_MODEL: NO_MODEL}},
            tokens_in=0,
            tokens_out=0,
        ),
        Case(
            name="bad-argument",
            about="a safety category that is not there",
            body=chat("Hello", extra_body={"google": {"safety_settings": [_NONSENSE]}}),
            tokens_in=0,
            tokens_out=0,
        ),
    ]
    if has_key:
        wrong = chat("Hello")
        found.append(
            Case(name="bad-key", about="a key that nobody has", body=wrong, is_invalid=True, tokens_in=0, tokens_out=0)
        )
    count = {"model": model, "input": "How many tokens are these?"}
    found.append(Case(name="count", about="countTokens", path=COUNT, body=count, tokens_in=0, tokens_out=0))
    return tuple(found)


_NONSENSE = {"category": "HARM_CATEGORY_NONSENSE", "threshold": "BLOCK_NONE"}


def thinking_settings(model: str) -> dict[str, str]:
    """The efforts that mean different thinking settings on a model, and what each is sent as."""
    known = models.facts(model)
    found: dict[str, str] = {}
    for effort in _EFFORTS if known.thinks else ():
        if known.budget is not None:
            setting = f"thinkingBudget {models.thinking_budget(known, effort)}"
        else:
            setting = f"thinkingLevel {models.thinking_level(known, effort)}"
        if setting not in found.values():
            found[effort] = setting
    return found


def _with_results(model: str, answer: JsonObject, *, keeps_signatures: bool) -> JsonObject | None:
    """The history with the calls of an answer and what they brought. None where it called nothing."""
    match answer:
        case {"choices": [{"message": {"tool_calls": [_, *_] as calls}}]}:
            pass
        case _:
            return None
    kept = [{key: value for key, value in call.items() if keeps_signatures or key != "extra_content"} for call in calls]
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "sunny, 21 degrees"} for call in calls]
    history = [
        {"role": "user", "content": _WEATHER},
        {"role": "assistant", "content": None, "tool_calls": kept},
        *results,
    ]
    return {"model": model, "messages": history, "tools": [_TOOL]}
