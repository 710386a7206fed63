"""What the OpenAI protocols share: error bodies, the model list, ids, token counts.

Follows OpenAI's API reference and what the live API is recorded to send where the reference is silent.
"""

from collections.abc import Sequence
from typing import Any

from ..conversation import Exchange, Usage
from ..errors import Fault, GatewayError, InternalError, NoAccount, Unauthorized, UpstreamRateLimited
from ..jsontext import JsonObject
from . import _fields as read

# Status -> OpenAI's error type, where the error does not say its own.
_TYPES = {
    403: "request_forbidden",
    429: "rate_limit_error",
    500: "server_error",
    503: "service_unavailable_error",
}


def error_object(error: GatewayError) -> JsonObject:
    """The object under `error`: all four keys, always."""
    if error.type is not None:
        kind = error.type
    elif isinstance(error, UpstreamRateLimited) and error.is_daily:
        kind = "insufficient_quota"
    elif isinstance(error, NoAccount | InternalError):
        kind = "server_error"
    else:
        fallback = "invalid_request_error" if error.fault is Fault.CLIENT else "server_error"
        kind = _TYPES.get(error.status, fallback)
    if isinstance(error, Unauthorized):
        kind = "invalid_request_error"
    return {"message": error.message, "type": kind, "param": error.param, "code": error.code}


def encode_error(error: GatewayError) -> JsonObject:
    return {"error": error_object(error)}


# A list with nothing in it. `has_more` must be there and false: the SDK asks for ever without it.
EMPTY_LIST: JsonObject = {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


def encode_models(names: Sequence[str], created: int, owner: str) -> JsonObject:
    return {"object": "list", "data": [encode_model(name, created, owner) for name in names]}


def encode_model(name: str, created: int, owner: str) -> JsonObject:
    return {"id": name, "object": "model", "created": created, "owned_by": owner}


def chat_usage(usage: Usage) -> JsonObject:
    """Usage of Chat Completions. All details are numbers: Zed fails on null, and on a missing object."""
    prompt: JsonObject = {"cached_tokens": usage.cached_tokens, "audio_tokens": usage.prompt_audio_tokens}
    output: JsonObject = {
        "reasoning_tokens": usage.reasoning_tokens,
        "audio_tokens": usage.output_audio_tokens,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    }
    if usage.prompt_image_tokens:
        prompt["image_tokens"] = usage.prompt_image_tokens
    if usage.output_image_tokens:
        output["image_tokens"] = usage.output_image_tokens
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": prompt,
        "completion_tokens_details": output,
    }


def session_of(body: dict[str, Any]) -> str | None:
    """What a client says ties its requests together. Raises InvalidRequest for what is no text."""
    found = None
    for name in ("prompt_cache_key", "safety_identifier", "user"):
        value = body.get(name)
        if value is not None and read.string(value, name):
            found = found or value
    return found


def fingerprint(model: str | None) -> str | None:
    """`system_fingerprint`: the model version that upstream ran, in the form that clients expect."""
    return f"fp_{model}" if model else None


def chat_id(exchange: Exchange) -> str:
    return f"chatcmpl-{exchange.id}"
