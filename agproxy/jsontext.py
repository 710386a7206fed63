"""JSON text <-> values, strict both ways: RFC 8259, nothing more.

Python's json reads NaN and Infinity and rounds 1e999 to infinity, none of which any peer can read back; it stops
at deep nesting with RecursionError. Here all of that is one ValueError, and nesting has a fixed limit. Knows no
protocol.
"""

import json
import math
import re
from collections.abc import Callable, Iterable
from json.encoder import c_make_encoder  # type: ignore[attr-defined]
from json.encoder import encode_basestring as _quote
from typing import Any

JsonObject = dict[str, Any]

# What is read at one depth of the stack must be writable at another, some levels down in another shape, so the limit
# is far below Python's own. Gemini's parser stops at 100 (protobuf's default).
MAX_DEPTH = 200
# JSON's integers have no end, and float() of a greater one raises.
MOST_FLOAT = 1.7976931348623157e308


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
_SPACE = re.compile(r"[ \t\n\r]*")
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False, check_circular=False)
# What `encode` makes anew for each value, at a third of a small one's cost; None where Python has no C code for it.
_pieces: Callable[[Any, int], Iterable[str]] = (
    c_make_encoder(None, _ENCODER.default, _quote, None, ":", ",", False, False, False)
    if c_make_encoder is not None
    else lambda value, _: _ENCODER.iterencode(value)
)
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


def loads_sliced(text: str | bytes) -> Any:
    """As `loads`, for a thread: others get their turn between the members of the outermost object and between the
    elements of the arrays in it."""
    if isinstance(text, bytes):
        text = text.decode("utf-8-sig" if text.startswith(b"\xef\xbb\xbf") else "utf-8")
    try:
        value = _slices(text)
    except (StopIteration, IndexError, ValueError, RecursionError):
        return loads(text)  # says what is wrong
    if text.count("{") + text.count("[") > MAX_DEPTH:
        _check_depth(value)
    return value


def _slices(text: str) -> JsonObject:
    """The value of a text that is an object. Raises anything where it is not, or is no JSON."""
    value: JsonObject = {}
    place = _open(text, _skip(text, 0), "{")
    mark = "}" if text[place] == "}" else ","
    while mark == ",":
        if text[place] != '"':
            raise ValueError
        key, place = _scan(text, place)
        place = _open(text, _skip(text, place), ":")
        value[key], place = _elements(text, place + 1) if text[place] == "[" else _scan(text, place)
        place = _skip(text, place)
        mark = text[place]
        place = _skip(text, place + 1)
    if mark != "}" or place != len(text):
        raise ValueError
    return value


def _elements(text: str, place: int) -> tuple[list[Any], int]:
    """The elements of an array, and where it ends; place: behind its bracket."""
    items: list[Any] = []
    place = _skip(text, place)
    mark = "]" if text[place] == "]" else ","
    if mark == "]":
        return items, place + 1
    while mark == ",":
        item, place = _scan(text, place)
        items.append(item)
        place = _skip(text, place)
        mark = text[place]
        place = place + 1 if mark == "]" else _skip(text, place + 1)
    if mark != "]":
        raise ValueError
    return items, place


def _skip(text: str, place: int) -> int:
    """Behind the white space that may stand here."""
    match = _SPACE.match(text, place)
    return place if match is None else match.end()


def _open(text: str, place: int, mark: str) -> int:
    """Behind a mark that must stand here, and the white space after it."""
    if text[place] != mark:
        raise ValueError
    return _skip(text, place + 1)


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
        return "".join(_pieces(value, 0))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def readable_text(value: JsonObject) -> str:
    """As `text`, for what its reader must be able to read with `loads`: raises ValueError also where it is nested
    deeper than that allows. Where Python's own encoder stops differs between its versions."""
    written = text(value)
    if len(written) > 2 * MAX_DEPTH and written.count("{") + written.count("[") > MAX_DEPTH:
        _check_depth(value)
    return written


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


def dumps_sliced(value: Any) -> bytes:
    """As `dumps`, for a thread: others get their turn between the members of objects and the elements of arrays, three
    levels deep."""
    pieces: list[bytes] = []
    try:
        _write(value, pieces, 3)
    except UnicodeEncodeError:
        return _ASCII.encode(value).encode()
    return b"".join(pieces)


def _write(value: Any, pieces: list[bytes], levels: int) -> None:
    if levels and value and type(value) is dict and all(type(key) is str for key in value):
        mark = b"{"
        for key, item in value.items():
            pieces.append(b"%b%b:" % (mark, _quote(key).encode()))
            mark = b","
            _write(item, pieces, levels - 1)
        pieces.append(b"}")
    elif levels and value and type(value) is list:
        mark = b"["
        for item in value:
            pieces.append(mark)
            mark = b","
            _write(item, pieces, levels - 1)
        pieces.append(b"]")
    else:
        pieces.append(text(value).encode())
