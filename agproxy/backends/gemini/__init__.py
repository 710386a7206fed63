"""Gemini as upstream: Google's Gemini API, `generateContent` and `streamGenerateContent`.

`encode` writes requests, `decode` reads answers, `errors` judges failures, `models` knows the models' differences.
`upstreams` knows paths, the credential's header, and in what Google's ways to the models differ. This module is the
contract's face.
"""

from ...conversation import Notice
from ...errors import UpstreamFailed
from ...http11 import Call
from .. import Target
from .decode import StreamDecoder
from .encode import Encoded, encode
from .errors import FOREIGN_SIGNATURE, decode_error
from .models import facts
from .stream import ByteDecoder
from .upstreams import CODE_ASSIST, auth, base_url, count_body, fit, post, quoted, unwrap, wrap

NAME = "gemini"

__all__ = [
    "FOREIGN_SIGNATURE",
    "NAME",
    "ByteDecoder",
    "Encoded",
    "StreamDecoder",
    "base_url",
    "byte_decoder",
    "call",
    "count_call",
    "decode_count",
    "decode_error",
    "decode_models",
    "decoder",
    "encode",
    "models_call",
    "notices",
    "takes_candidates",
    "unwrap",
]


def call(encoded: Encoded, model: str, target: Target, *, is_stream: bool, in_slices: bool = False) -> Call:
    """The upstream request of one attempt. in_slices: written so that other threads get their turn."""
    method = "streamGenerateContent?alt=sse" if is_stream else "generateContent"
    body = wrap(target, model, fit(target, encoded.body)[0])
    return post(target, model, method, body, in_slices=in_slices)


def notices(encoded: Encoded, target: Target) -> tuple[Notice, ...]:
    """What of a body has no effect on this upstream."""
    return fit(target, encoded.body)[1]


def count_call(encoded: Encoded, model: str, target: Target) -> Call:
    """The upstream request that counts the tokens of a prompt, its tools and instructions included."""
    return post(target, model, "countTokens", count_body(target, model, fit(target, encoded.body)[0]))


def decode_count(value: object) -> int:
    """Tokens of a countTokens answer. Raises UpstreamFailed where it is none; 0 is left out by protobuf's rules."""
    count = value.get("totalTokens", 0) if isinstance(value, dict) else None
    if not isinstance(count, int):
        raise UpstreamFailed("Upstream's count of tokens is not Gemini's.", code="bad_upstream_body")
    return count


def models_call(target: Target, page_token: str | None = None) -> Call:
    """The upstream request for one page of the model list."""
    token = f"&pageToken={quoted(page_token)}" if page_token else ""
    url = f"{target.base_url}/models?pageSize=1000{token}"
    return Call(method="GET", url=url, body=b"", headers=auth(target), proxy=target.proxy)


def decoder(encoded: Encoded, exchange_id: str, choice_offset: int = 0) -> StreamDecoder:
    return StreamDecoder(
        exchange_id=exchange_id,
        names=encoded.names,
        declared=encoded.declared,
        only_first_call=encoded.only_first_call,
        restores=encoded.restores,
        candidates=encoded.candidates,
        choice_offset=choice_offset,
    )


def byte_decoder(
    encoded: Encoded, exchange_id: str, choice_offset: int = 0, *, max_event_bytes: int, target: Target | None = None
) -> ByteDecoder:
    is_wrapped = target is not None and target.kind == CODE_ASSIST
    inner = decoder(encoded, exchange_id, choice_offset)
    return ByteDecoder(inner, max_event_bytes=max_event_bytes, is_wrapped=is_wrapped)


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
    return tuple(filter(None, names)), token if isinstance(token, str) and token else None
