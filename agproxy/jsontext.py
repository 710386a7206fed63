"""JSON text <-> values, strict both ways: RFC 8259, nothing more.

Python's json reads NaN and Infinity and rounds 1e999 to infinity, none of which any peer can read back; it stops
at deep nesting with RecursionError. Here all of that is one ValueError, and nesting has a fixed limit. Knows no
protocol.
"""

import json
import math
from json.encoder import encode_basestring as _quote
from typing import Any

JsonObject = dict[str, Any]

# What is read at one depth of the stack must be writable at another, some levels down in another shape, so the limit
# is far below Python's own. Gemini's parser stops at 100 (protobuf's default).
MAX_DEPTH = 200


def _refuse_constant(word: str) -> float:
    raise ValueError(f"{word} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is out of range")
    return number


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)
# What `decode` calls between its searches for white space, which cost as much again as the value of a chunk.
_scan = _DECODER.scan_once  # type: ignore[attr-defined]
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False, check_circular=False)
_ASCII = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), allow_nan=False, check_circular=False)


def loads(text: str | bytes) -> Any:
    """The value of a JSON text. Raises ValueError for anything that is not JSON in UTF-8."""
    if isinstance(text, bytes):
        text = text.decode("utf-8-sig" if text.startswith(b"\xef\xbb\xbf") else "utf-8")
    try:
        try:
            value, end = _scan(text, 0)
        except StopIteration:
            end = -1
        if end != len(text):
            value = _DECODER.decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    # Too few characters or brackets for so many levels settle it for nearly every text; only the others are walked.
    if len(text) > 2 * MAX_DEPTH and text.count("{") + text.count("[") > MAX_DEPTH and isinstance(value, (dict, list)):
        _check_depth(value)
    return value


def _check_depth(value: Any) -> None:
    level = [value]  # all objects and arrays of one depth
    for _ in range(MAX_DEPTH):
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, (dict, list))
        ]
        if not level:
            return
    raise ValueError("nested too deeply")


def text(value: Any) -> str:
    """Compact JSON text, characters as they are. Raises ValueError for what JSON cannot hold."""
    try:
        return _ENCODER.encode(value)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def quoted(text: str) -> bytes:
    """The JSON of a text, as `dumps` has it: the hot path of a stream, at a third of the cost."""
    try:
        return _quote(text).encode()
    except UnicodeEncodeError:
        return _ASCII.encode(text).encode()


def dumps(value: Any) -> bytes:
    """Compact JSON in UTF-8. A lone surrogate, which UTF-8 cannot hold, leaves everything \\u-escaped."""
    try:
        return text(value).encode()
    except UnicodeEncodeError:
        return _ASCII.encode(value).encode()
