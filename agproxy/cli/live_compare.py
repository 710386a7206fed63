"""What Gemini really did beside what the decoder knows and what the simulator does: every difference, in words.

Pure. The simulator is a reading of the API of its own, so that it stands for what is expected; where the two differ,
either Gemini has changed or the simulator is wrong.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .. import jsontext, sse
from ..backends.gemini import answer_fields, unwrap
from ..backends.gemini.decode import BROKEN, FINISH
from ..http11 import Headers, find
from ..jsontext import JsonObject

# What each answer with content must have, for all that rests on it.
_NEEDED = (
    "candidates",
    "usageMetadata.promptTokenCount",
    "usageMetadata.totalTokenCount",
    "modelVersion",
    "responseId",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """One exchange: upstream's answer, and what the client got for it. upstream_status 0: no call was made."""

    upstream_status: int = 0
    upstream_headers: Headers = ()
    upstream_body: bytes = b""
    client_status: int = 0
    client_headers: Headers = ()
    client_notices: tuple[str, ...] = ()
    client_body: bytes = b""
    is_count: bool = False

    @property
    def is_stream(self) -> bool:
        return (find(self.upstream_headers, "content-type") or "").startswith("text/event-stream")

    @property
    def chunks(self) -> list[Any]:
        """Upstream's JSON: each chunk of a stream, or the one body. Raises ValueError where it is none."""
        if not self.is_stream:
            return [unwrap(jsontext.loads(self.upstream_body))]
        decoder = sse.Decoder()
        events = [*decoder.feed(self.upstream_body), *decoder.finish()]
        return [unwrap(jsontext.loads(event.data)) for event in events]


def differences(real: Capture, expected: Capture) -> list[str]:
    """What is different, a line each; none where all is as the simulator and the decoder expect it."""
    try:
        chunks = real.chunks
    except ValueError:
        return [f"the answer (HTTP {real.upstream_status}) is not JSON"]
    found = [f"field unknown to the decoder: {path}" for path in _unknown(chunks, real)]
    found += _unlike("HTTP status", real.upstream_status, expected.upstream_status)
    found += _unlike("content type", _content_type(real), _content_type(expected))
    if real.upstream_status == 200 and not real.is_count:
        found += _missing(chunks)
        found += [
            f"finish reason unknown to the decoder: {word}" for word in _finishes(chunks) - (FINISH.keys() | BROKEN)
        ]
    if real.upstream_status == expected.upstream_status:
        found += _beside(chunks, expected.chunks, real, expected)
    found += _facts_unlike(client_facts(real), client_facts(expected))
    return list(dict.fromkeys(found))


def _beside(chunks: list[Any], others: list[Any], real: Capture, expected: Capture) -> list[str]:
    """Two answers of one status."""
    mine, theirs = _paths(chunks, real), _paths(others, expected)
    found = [f"only Gemini sends {path}" for path in sorted(mine - theirs)]
    found += [f"only the simulator sends {path}" for path in sorted(theirs - mine)]
    found += _unlike("finish reasons", sorted(_finishes(chunks)), sorted(_finishes(others)))
    if real.upstream_status != 200:
        found += _facts_unlike(_error_facts(chunks), _error_facts(others))
    elif real.is_stream and expected.is_stream:
        found += _facts_unlike(_stream_facts(chunks, real), _stream_facts(others, expected))
    return found


def _unlike(what: str, real: object, expected: object) -> list[str]:
    return [] if real == expected else [f"{what}: {_shown(real)}, the simulator has {_shown(expected)}"]


def _facts_unlike(real: Mapping[str, object], expected: Mapping[str, object]) -> list[str]:
    return [line for name in expected for line in _unlike(name, real.get(name), expected[name])]


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if value is None:
        return "none"
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


# --- upstream's answers ----------------------------------------------------------------------------------------


def _known(capture: Capture) -> JsonObject:
    return answer_fields.COUNT if capture.is_count else answer_fields.GENERATE


def _unknown(chunks: Iterable[Any], capture: Capture) -> list[str]:
    return sorted({path for chunk in chunks for path in answer_fields.unknown(chunk, _known(capture))})


def _paths(chunks: Iterable[Any], capture: Capture) -> set[str]:
    return {path for chunk in chunks for path in answer_fields.paths(chunk, _known(capture))}


def _missing(chunks: Iterable[Any]) -> list[str]:
    seen = {path for chunk in chunks for path in answer_fields.paths(chunk, answer_fields.GENERATE)}
    return [f"missing: {path}" for path in _NEEDED if path not in seen]


def _candidates(chunk: Any) -> list[JsonObject]:
    candidates = chunk.get("candidates") if isinstance(chunk, dict) else None
    return [one for one in candidates if isinstance(one, dict)] if isinstance(candidates, list) else []


def _finishes(chunks: Iterable[Any]) -> set[str]:
    return {str(one["finishReason"]) for chunk in chunks for one in _candidates(chunk) if "finishReason" in one}


def _content_type(capture: Capture) -> str:
    return (find(capture.upstream_headers, "content-type") or "none").partition(";")[0]


def _error_facts(chunks: list[Any]) -> dict[str, object]:
    """The shape of an error: its code and status, the kinds of its details, the reasons in them."""
    body = chunks[0] if chunks else None
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return {"error object": False}
    details = [one for one in error.get("details") or () if isinstance(one, dict)]
    return {
        "error object": True,
        "error.code": error.get("code"),
        "error.status": error.get("status"),
        "error.details": sorted(str(one.get("@type", "?")).rpartition(".")[2] for one in details),
        "error reasons": sorted(str(one["reason"]) for one in details if "reason" in one),
    }


def _stream_facts(chunks: list[Any], capture: Capture) -> dict[str, object]:
    """How a stream is cut into chunks."""
    last = len(chunks) - 1
    finished = [index for index, chunk in enumerate(chunks) if _finishes([chunk])]
    return {
        "chunks: more than one": len(chunks) > 1,
        "chunks: lines end with": "CR LF" if b"\r\n\r\n" in capture.upstream_body else "LF",
        "chunks: finish reason in the last alone": finished == [last],
        "chunks: usage in each": all(isinstance(c, dict) and "usageMetadata" in c for c in chunks),
        "chunks: one response id": len({c.get("responseId") for c in chunks if isinstance(c, dict)}) == 1,
        "chunks: [DONE] at the end": b"[DONE]" in capture.upstream_body,
    }


# --- what the client gets --------------------------------------------------------------------------------------


def client_facts(capture: Capture) -> dict[str, object]:
    """The facts of the gateway's own answer that do not rest on the model's words."""
    facts: dict[str, object] = {"client: HTTP status": capture.client_status}
    facts["client: warnings"] = list(capture.client_notices)
    try:
        message = _message(capture)
    except ValueError:
        return facts | {"client: body": "not readable"}
    if message is None:
        return facts
    content = message.get("content")
    calls = message.get("tool_calls") or []
    return facts | {
        "client: finish_reason": message.get("finish_reason"),
        "client: has text": bool(content),
        "client: calls": [call["function"]["name"] for call in calls],
        "client: calls with a signature": sum("extra_content" in call for call in calls),
        "client: has reasoning": bool(message.get("reasoning_content")),
        "client: JSON keys": _json_keys(content),
    }


def _message(capture: Capture) -> JsonObject | None:
    """The assistant's message, joined where it was streamed, with its finish_reason; None for all else."""
    if capture.client_status != 200:
        return None
    if not capture.is_stream:
        match jsontext.loads(capture.client_body):
            case {"choices": [{"message": dict(message), "finish_reason": reason}, *_]}:
                return message | {"finish_reason": reason}
        return None
    decoder = sse.Decoder()
    joined: JsonObject = {"content": "", "reasoning_content": "", "tool_calls": []}
    for event in [*decoder.feed(capture.client_body), *decoder.finish()]:
        match None if event.data == "[DONE]" else jsontext.loads(event.data):
            case {"choices": [{"delta": dict(delta), "finish_reason": reason}, *_]}:
                joined["content"] += delta.get("content") or ""
                joined["reasoning_content"] += delta.get("reasoning_content") or ""
                # A call's first piece names it; the rest are arguments.
                joined["tool_calls"] += [c for c in delta.get("tool_calls") or () if c.get("function", {}).get("name")]
                joined["finish_reason"] = reason or joined.get("finish_reason")
            case {"error": _}:
                joined["finish_reason"] = "error"
    return joined


def _json_keys(content: object) -> list[str] | str:
    try:
        value = jsontext.loads(content) if isinstance(content, str) else None
    except ValueError:
        return "not JSON"
    return sorted(value) if isinstance(value, dict) else "not JSON"
