"""Gemini as upstream: Google's Gemini API, `generateContent` and `streamGenerateContent`.

`encode` writes requests, `decode` reads answers, `errors` judges failures, `models` knows the models' differences.
This module is the contract's face; it alone knows paths and the credential's header.
"""

from urllib.parse import quote

from ... import jsontext
from ...http11 import JSON, Call
from .. import Target
from .decode import StreamDecoder
from .encode import Encoded, encode
from .errors import FOREIGN_SIGNATURE, decode_error
from .models import facts
from .stream import ByteDecoder

NAME = "gemini"

__all__ = [
    "FOREIGN_SIGNATURE",
    "NAME",
    "ByteDecoder",
    "Encoded",
    "StreamDecoder",
    "byte_decoder",
    "call",
    "decode_error",
    "decode_models",
    "decoder",
    "encode",
    "models_call",
    "takes_candidates",
]


def call(encoded: Encoded, model: str, target: Target, *, is_stream: bool) -> Call:
    """The upstream request of one attempt. The key goes into a header: a URL would end up in logs."""
    method = "streamGenerateContent?alt=sse" if is_stream else "generateContent"
    return Call(
        method="POST",
        url=f"{target.base_url}/models/{quote(model, safe='')}:{method}",
        body=jsontext.dumps(encoded.body),
        headers=(("content-type", JSON), *_auth(target)),
    )


def models_call(target: Target, page_token: str | None = None) -> Call:
    """The upstream request for one page of the model list."""
    token = f"&pageToken={quote(page_token, safe='')}" if page_token else ""
    return Call(method="GET", url=f"{target.base_url}/models?pageSize=1000{token}", body=b"", headers=_auth(target))


def _auth(target: Target) -> tuple[tuple[str, str], ...]:
    return (("user-agent", target.user_agent), ("x-goog-api-key", target.key))


def decoder(encoded: Encoded, exchange_id: str, choice_offset: int = 0) -> StreamDecoder:
    return StreamDecoder(
        exchange_id=exchange_id,
        names=encoded.names,
        declared=encoded.declared,
        only_first_call=encoded.only_first_call,
        choice_offset=choice_offset,
    )


def byte_decoder(encoded: Encoded, exchange_id: str, choice_offset: int = 0, *, max_event_bytes: int) -> ByteDecoder:
    return ByteDecoder(decoder(encoded, exchange_id, choice_offset), max_event_bytes=max_event_bytes)


def takes_candidates(model: str, count: int) -> bool:
    """Whether one call can bring so many choices."""
    return facts(model).takes_candidates and count <= 8


def decode_models(value: object) -> tuple[tuple[str, ...], str | None]:
    """(names of models that answer, next page's token) of a models.list answer."""
    if not isinstance(value, dict):
        return (), None
    models = value.get("models")
    names = []
    for model in models if isinstance(models, list) else ():
        match model:
            case {"name": str(name), "supportedGenerationMethods": list(methods)} if "generateContent" in methods:
                names.append(name.removeprefix("models/"))
    token = value.get("nextPageToken")
    return tuple(names), token if isinstance(token, str) and token else None
