"""Whole answers of Gemini, for all who ask it something: a request's attempts, the model list, a test of an account."""

from typing import Any

from . import jsontext
from .backends import Target, gemini
from .errors import UpstreamFailed
from .http11 import Send, UpstreamReply

_MOST_PAGES = 20


async def whole(answer: UpstreamReply) -> Any:
    """The JSON of an answer, which is closed then. Raises what upstream's error means, UpstreamFailed for no JSON."""
    try:
        body = await answer.read()
    finally:
        answer.close()
    if answer.status != 200:
        raise gemini.decode_error(answer.status, answer.headers, body)
    try:
        return jsontext.loads(body)
    except ValueError:
        raise UpstreamFailed("Upstream's answer is not JSON: is it the Gemini API?", code="bad_upstream_body") from None


async def listed_models(send: Send, target: Target) -> tuple[str, ...]:
    """The models that the Gemini API lists for a target, each once. Raises GatewayError."""
    names: list[str] = []
    token: str | None = None
    for _ in range(_MOST_PAGES):
        page, token = gemini.decode_models(await whole(await send(gemini.models_call(target, token))))
        names += page
        if token is None:
            break
    return tuple(dict.fromkeys(names))
