"""`encrypted_content`: the text of a reasoning item in which thought signatures travel to the client and back.

The item stands before what is signed, as OpenAI's does, and clients replay the text as it is. Ours is base64url of a
JSON object, not encrypted: it holds nothing but what upstream itself hands out.

    {"v": 1, "calls": {call id: signature}, "next": {item type: signature}, "reasoning": signature}

`calls` finds its call by id wherever it stands; `next` belongs to the next item of that type; `reasoning` is the
item's own. Text that is not ours (OpenAI's, another gateway's) reads as None.
"""

import base64
import binascii
from dataclasses import dataclass, field

from ... import jsontext
from ...jsontext import JsonObject

_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """The signatures of one reasoning item."""

    calls: dict[str, str] = field(default_factory=dict)
    next: dict[str, str] = field(default_factory=dict)
    reasoning: str | None = None

    def __bool__(self) -> bool:
        return bool(self.calls or self.next or self.reasoning)


def _encode(value: JsonObject) -> str:
    return base64.urlsafe_b64encode(jsontext.dumps({"v": _VERSION, **value})).decode("ascii")


def _decode(text: str) -> JsonObject | None:
    try:
        value = jsontext.loads(base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True))
    except (ValueError, binascii.Error):
        return None
    return value if isinstance(value, dict) and value.get("v") == _VERSION else None


def encode_seal(seal: Seal) -> str:
    value: JsonObject = {}
    if seal.calls:
        value["calls"] = seal.calls
    if seal.next:
        value["next"] = seal.next
    if seal.reasoning is not None:
        value["reasoning"] = seal.reasoning
    return _encode(value)


def _strings(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    return {key: item for key, item in value.items() if isinstance(item, str)}


def decode_seal(text: str) -> Seal | None:
    """The signatures in a text of ours; None for any other text."""
    value = _decode(text)
    if value is None:
        return None
    reasoning = value.get("reasoning")
    return Seal(
        calls=_strings(value.get("calls")),
        next=_strings(value.get("next")),
        reasoning=reasoning if isinstance(reasoning, str) else None,
    )


def encode_summary(summary: str) -> str:
    """`encrypted_content` of a compaction item: what the history before it came down to."""
    return _encode({"summary": summary})


def decode_summary(text: str) -> str | None:
    value = _decode(text)
    summary = None if value is None else value.get("summary")
    return summary if isinstance(summary, str) else None
