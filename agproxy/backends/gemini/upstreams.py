"""Google's three ways to the same models: the Gemini API, Vertex AI, and the envelope of Code Assist.

Knows hosts, paths, the header of a credential, and in what the bodies differ. Code Assist is the internal API of
Google's own command-line tool, without any promise; agproxy speaks it for tokens that the user brings.
"""

from functools import lru_cache
from typing import Any
from urllib.parse import quote

from ... import jsontext
from ...conversation import Notice
from ...http11 import JSON, Call, Headers
from ...jsontext import JsonObject
from .. import Target

GEMINI, VERTEX, CODE_ASSIST = "gemini", "vertex", "code_assist"

_DEFAULT_VERSION = {GEMINI: "v1beta", VERTEX: "v1beta1", CODE_ASSIST: "v1internal"}
# New families are often served in few places only, and there always.
DEFAULT_LOCATION = "global"
_MULTI_REGIONS = ("us", "eu")

# Fields that only the Gemini API has -> what a client should know where it does not come into effect. Their absence
# changes nothing of an answer where there is nothing to tell.
_GEMINI_ONLY: dict[tuple[str, ...], str] = {
    ("serviceTier",): "service_tier has no effect on this account: its upstream is not the Gemini API",
    ("toolConfig", "includeServerSideToolInvocations"): "",
}


def host(kind: str, location: str) -> str:
    """The base URL of an upstream, without a version."""
    if kind == CODE_ASSIST:
        return "https://cloudcode-pa.googleapis.com"
    if kind == GEMINI:
        return "https://generativelanguage.googleapis.com"
    if location in _MULTI_REGIONS:
        return f"https://aiplatform.{location}.rep.googleapis.com"
    if location == DEFAULT_LOCATION:
        return "https://aiplatform.googleapis.com"
    return f"https://{location}-aiplatform.googleapis.com"


def base_url(kind: str, *, base: str = "", version: str = "", location: str = "") -> str:
    """The base URL with its version."""
    return f"{(base or host(kind, location or DEFAULT_LOCATION)).rstrip('/')}/{version or _DEFAULT_VERSION[kind]}"


def auth(target: Target) -> Headers:
    """Who asks. The credential goes into a header: a URL would end up in logs."""
    headers = [("user-agent", target.user_agent)]
    if target.is_token:
        headers.append(("authorization", f"Bearer {target.key}"))
    else:
        headers.append(("x-goog-api-key", target.key))
    if target.quota_project:
        headers.append(("x-goog-user-project", target.quota_project))
    return tuple(headers)


@lru_cache(maxsize=256)
def quoted(word: str) -> str:
    """A word that others chose, so that it stays in its place of a URL. JSON may hold half a surrogate, UTF-8 not."""
    return quote(word, safe="", errors="replace")


def _url(target: Target, model: str, method: str) -> str:
    if target.kind == CODE_ASSIST:
        return f"{target.base_url}:{method}"
    if target.kind == GEMINI:
        return f"{target.base_url}/models/{quoted(model)}:{method}"
    place = ""
    if target.project:
        place = f"/projects/{quoted(target.project)}/locations/{quoted(target.location or DEFAULT_LOCATION)}"
    return f"{target.base_url}{place}/publishers/google/models/{quoted(model)}:{method}"


def post(target: Target, model: str, method: str, body: JsonObject, *, in_slices: bool = False) -> Call:
    """A call of a model's method. in_slices: the body is written so that other threads get their turn."""
    return Call(
        method="POST",
        url=_url(target, model, method),
        body=jsontext.dumps_sliced(body) if in_slices else jsontext.dumps(body),
        headers=(("content-type", JSON), *auth(target)),
        proxy=target.proxy,
    )


def fit(target: Target, body: JsonObject) -> tuple[JsonObject, tuple[Notice, ...]]:
    """A GenerateContentRequest of the Gemini API as this upstream takes it; the body given stays as it is."""
    if target.kind == GEMINI:
        return body, ()
    notices: list[Notice] = []
    for path, message in _GEMINI_ONLY.items():
        shorter = _without(body, path)
        if shorter is not body and message:
            notices.append(Notice(message=message))
        body = shorter
    return body, tuple(notices)


def _without(body: JsonObject, path: tuple[str, ...]) -> JsonObject:
    name, *rest = path
    if name not in body:
        return body
    if not rest:
        return {key: value for key, value in body.items() if key != name}
    inner = body[name]
    shorter = _without(inner, tuple(rest)) if isinstance(inner, dict) else inner
    if shorter is inner:
        return body
    if not shorter:
        return {key: value for key, value in body.items() if key != name}
    return {**body, name: shorter}


def wrap(target: Target, model: str, body: JsonObject) -> JsonObject:
    """The body in this upstream's envelope."""
    if target.kind != CODE_ASSIST:
        return body
    envelope: JsonObject = {"model": model, "request": body}
    if target.project:
        envelope["project"] = target.project
    return envelope


def unwrap(chunk: Any) -> Any:
    """An answer, or a chunk of one, out of Code Assist's envelope. An error has none."""
    if isinstance(chunk, dict) and isinstance(chunk.get("response"), dict):
        return chunk["response"]
    return chunk


def count_body(target: Target, model: str, body: JsonObject) -> JsonObject:
    """The body of countTokens for a GenerateContentRequest."""
    if target.kind == VERTEX:
        taken = ("contents", "systemInstruction", "tools", "generationConfig")
        return {name: body[name] for name in taken if name in body}
    if target.kind == CODE_ASSIST:
        return {"request": {"model": f"models/{model}", "contents": body["contents"]}}
    return {"generateContentRequest": {"model": f"models/{model}", **body}}
