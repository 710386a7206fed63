"""The Response object around an answer's items: what the request asked for, said back, and the counts.

Keys stand in the order in which the live API sends them (recordings of 2026), all of them always, so that strict
readers (Open Responses demands numbers for temperature and penalties) find what they look for.
"""

from typing import Any

from ...conversation import Exchange, Usage
from ...errors import (
    Fault,
    GatewayError,
    NoAccount,
    Overloaded,
    UpstreamAuthFailed,
    UpstreamOverloaded,
    UpstreamRateLimited,
)
from ...jsontext import JsonObject

_IMAGE_USAGE: JsonObject = {
    "input_tokens": 0,
    "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
    "output_tokens": 0,
    "output_tokens_details": {"image_tokens": 0, "text_tokens": 0},
    "total_tokens": 0,
}


def response_id(exchange: Exchange) -> str:
    return f"resp_{exchange.id}"


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value


# What the live API fills in where a tool does not say it.
_TOOL_DEFAULTS: dict[str, JsonObject] = {
    "function": {"description": None, "parameters": None, "strict": False},
    "tool_search": {"description": None, "parameters": None},
    "web_search": {"filters": None, "search_context_size": "medium", "user_location": None},
}


def _echo_tool(tool: JsonObject) -> JsonObject:
    """A tool as the live API shows it, those inside a namespace too."""
    defaults = _TOOL_DEFAULTS.get(tool["type"], {})
    echoed = {**tool, **{name: value for name, value in defaults.items() if tool.get(name) is None}}
    if tool["type"] == "namespace":
        echoed["tools"] = [_echo_tool(inner) for inner in tool["tools"]]
    return echoed


def _echo_text(text: JsonObject) -> JsonObject:
    form = _or(text.get("format"), {"type": "text"})
    if form.get("type") == "json_schema":
        form = {
            "type": "json_schema",
            "description": form.get("description"),
            "name": form.get("name"),
            "schema": form.get("schema"),
            "strict": _or(form.get("strict"), False),
        }
    return {"format": form, "verbosity": _or(text.get("verbosity"), "medium")}


def _echo_reasoning(reasoning: JsonObject) -> JsonObject:
    return {
        "context": _or(reasoning.get("context"), "current_turn"),
        "effort": reasoning.get("effort"),
        "mode": _or(reasoning.get("mode"), "standard"),
        "summary": _or(reasoning.get("summary"), reasoning.get("generate_summary")),
    }


def skeleton(exchange: Exchange) -> JsonObject:
    """The object of a response that has only begun."""
    body = exchange.body
    conversation = body.get("conversation")
    if isinstance(conversation, str):
        conversation = {"id": conversation}
    return {
        "id": response_id(exchange),
        "object": "response",
        "created_at": exchange.created,
        "status": "in_progress",
        "background": _or(body.get("background"), False),
        "completed_at": None,
        **({} if conversation is None else {"conversation": {"id": conversation.get("id")}}),
        "error": None,
        "frequency_penalty": float(_or(body.get("frequency_penalty"), 0.0)),
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "max_tool_calls": body.get("max_tool_calls"),
        "model": exchange.model,
        "moderation": None,
        "output": [],
        "parallel_tool_calls": _or(body.get("parallel_tool_calls"), True),
        "presence_penalty": float(_or(body.get("presence_penalty"), 0.0)),
        "previous_response_id": body.get("previous_response_id"),
        "prompt_cache_key": body.get("prompt_cache_key"),
        "prompt_cache_retention": body.get("prompt_cache_retention"),
        "reasoning": _echo_reasoning(_or(body.get("reasoning"), {})),
        "safety_identifier": body.get("safety_identifier"),
        "service_tier": _or(body.get("service_tier"), "auto"),
        "store": _or(body.get("store"), True),
        "temperature": float(_or(body.get("temperature"), 1.0)),
        "text": _echo_text(_or(body.get("text"), {})),
        "tool_choice": _or(body.get("tool_choice"), "auto"),
        "tool_usage": {"image_gen": _IMAGE_USAGE, "web_search": {"num_requests": 0}},
        "tools": [_echo_tool(tool) for tool in _or(body.get("tools"), [])],
        "top_logprobs": _or(body.get("top_logprobs"), 0),
        "top_p": float(_or(body.get("top_p"), 1.0)),
        "truncation": _or(body.get("truncation"), "disabled"),
        "usage": None,
        "user": body.get("user"),
        "metadata": _or(body.get("metadata"), {}),
    }


def ended_tier(begun: JsonObject) -> str:
    """The tier that an answer was served at: `auto` is resolved by its end."""
    tier = begun["service_tier"]
    return "default" if tier == "auto" else "priority" if tier == "fast" else str(tier)


def usage_object(usage: Usage) -> JsonObject:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.total_tokens,
    }


# Codes of our own errors that `response.error.code` has a word for, and which Codex knows how to act on.
_KEPT_CODES = frozenset({"context_length_exceeded", "invalid_prompt", "insufficient_quota", "rate_limit_exceeded"})


# What a Responses stream says as `response.failed` on a 200, even before its first frame: the gateway's own credential
# troubles. Codex repeats a 5xx thirty times and hides its text, while it shows the message of a `response.failed` with
# `invalid_prompt` at once.
EVENT_ERRORS: tuple[type[GatewayError], ...] = (UpstreamAuthFailed, NoAccount)


def _failed_code(error: GatewayError) -> str:
    if isinstance(error, UpstreamRateLimited):
        return "insufficient_quota" if error.is_daily else "rate_limit_exceeded"
    if error.code in _KEPT_CODES:
        return str(error.code)
    if isinstance(error, EVENT_ERRORS) or error.fault is Fault.CLIENT:
        return "invalid_prompt"  # the one code whose message Codex shows, and which it does not repeat
    if isinstance(error, UpstreamOverloaded | Overloaded):
        return "server_is_overloaded"
    return "server_error"


def failure_object(error: GatewayError) -> JsonObject:
    """`response.error` of a failed response. Codex waits as long as the text of a rate limit says."""
    code, message = _failed_code(error), error.message
    wait = error.retry_after_seconds
    if code == "rate_limit_exceeded" and wait is not None and "try again in" not in message.lower():
        message = f"{message.rstrip()} Please try again in {max(1, -int(-wait // 1))}s."
    return {"code": code, "message": message}
