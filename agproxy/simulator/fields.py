"""Request bodies against the message tables of `protocol`, read as Google's own JSON reader reads them.

What it forgives, as recorded: snake_case names, a single value for a repeated field, numbers in text, whole numbers
written 40.0, enum names in lower case, either base64 alphabet, null for "not set". What it refuses, with Google's
words: unknown names, wrong types, unknown enum names, two values of one `oneof`. All faults are reported at once.
The value that comes out has camelCase names, lists for repeated fields and numbers for numbers.
"""

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..jsontext import JsonObject
from ..jsontext import text as json_text
from .protocol import ENUMS, MESSAGES, ONE_OF
from .status import Violation

GEMINI = "gemini"
VERTEX = "vertex"

_PACKAGE = {GEMINI: "google.ai.generativelanguage.v1beta", VERTEX: "google.cloud.aiplatform.v1beta1"}
_WELL_KNOWN = {
    "struct": "google.protobuf.Struct",
    "duration": "google.protobuf.Duration",
    "timestamp": "google.protobuf.Timestamp",
}
_INT_BITS = {"int32": 31, "int64": 63}
_DURATION = re.compile(r"-?\d{1,12}(\.\d{1,9})?s\Z")
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)\Z")
_BASE64 = re.compile(rb"[A-Za-z0-9+/]*={0,2}\Z")

_BAD = object()  # a scalar that could not be read; its violation is noted


@dataclass(frozen=True, slots=True)
class _Field:
    snake: str
    camel: str
    kind: str
    is_repeated: bool
    is_map: bool
    only: str | None


def _camel(snake: str) -> str:
    return re.sub(r"(?<=[a-z0-9])_([a-z0-9])", lambda match: match[1].upper(), snake)


def _field(snake: str, declared: str) -> _Field:
    kind, _, only = declared.partition(" @")
    return _Field(
        snake=snake,
        camel=_camel(snake),
        kind=kind.removeprefix("*").removeprefix("map "),
        is_repeated=kind.startswith("*"),
        is_map=kind.startswith("map "),
        only=only or None,
    )


def _names(fields: dict[str, str]) -> dict[str, _Field]:
    known = [_field(snake, declared) for snake, declared in fields.items()]
    return {field.snake: field for field in known} | {field.camel: field for field in known}


_BY_NAME = {message: _names(fields) for message, fields in MESSAGES.items()}


def read(message: str, value: Any, api: str) -> tuple[JsonObject, list[Violation]]:
    """The message in canonical form, and everything that was wrong with it. `api` is GEMINI or VERTEX."""
    reader = _Reader(api)
    if value is None:
        return {}, []
    if not isinstance(value, dict):
        description = 'Invalid JSON payload received. Unknown name "": Root element must be a message.'
        return {}, [Violation("", description)]
    return reader.message(message, value, ""), reader.violations


def has_field(message: str, name: str) -> bool:
    """Whether a name, in either spelling, is a field of the message; query parameters may bind to those."""
    return name.partition(".")[0] in _BY_NAME[message]


class _Reader:
    def __init__(self, api: str) -> None:
        self.api = api
        self.violations: list[Violation] = []

    def message(self, message: str, value: JsonObject, path: str) -> JsonObject:
        """One message that stands at `path`, without what could not be read; that is noted."""
        result: JsonObject = {}
        names = _BY_NAME[message]
        for name, item in value.items():
            field = names.get(name)
            if field is None or field.only not in (None, self.api):
                self._unknown(name, path, "Cannot find field.")
                continue
            if item is None and field.kind != "value":
                continue
            here = f"{path}.{field.snake}" if path else field.snake
            if field.is_map:
                self._map(field, item, here, path, result)
            elif field.is_repeated:
                items = item if isinstance(item, list) else [item]
                many = isinstance(item, list)
                read_items = [
                    self._value(field, entry, f"{here}[{n}]" if many else here, path) for n, entry in enumerate(items)
                ]
                result.setdefault(field.camel, []).extend(entry for entry in read_items if entry is not _BAD)
            else:
                entry = self._value(field, item, here, path)
                if entry is not _BAD:
                    self._check_one_of(message, field, result, path)
                    result[field.camel] = entry
        return result

    def _check_one_of(self, message: str, field: _Field, result: JsonObject, path: str) -> None:
        name, members = ONE_OF.get(message, ("", frozenset()))
        if field.camel in members and any(other in members and other != field.camel for other in result):
            description = f"oneof field '{name}' is already set. Cannot set '{field.camel}'"
            self._note(path, f"Invalid value at '{path}' (oneof), {description}")

    def _map(self, field: _Field, item: Any, here: str, path: str, result: JsonObject) -> None:
        if not isinstance(item, dict):
            self._not_repeating(field, item, here, path)
            return
        read_items = {
            key: self._value(field, entry, f"{here}[{n}].value", here)
            for n, (key, entry) in enumerate(item.items())
            if entry is not None
        }
        result[field.camel] = {key: entry for key, entry in read_items.items() if entry is not _BAD}

    def _value(self, field: _Field, item: Any, here: str, path: str) -> Any:
        kind = field.kind
        if kind == "value":
            return item
        if isinstance(item, list):
            self._not_repeating(field, item, here, path)
            return _BAD
        if kind in MESSAGES:
            if isinstance(item, dict):
                return self.message(kind, item, here)
            if item is None:
                return {}
            self._invalid(here, self._full_name(kind), item)
            return _BAD
        if kind == "struct":
            if isinstance(item, dict):
                return item
            self._invalid(here, f"type.googleapis.com/{_WELL_KNOWN[kind]}", item)
            return _BAD
        if isinstance(item, dict):
            self._unknown(field.camel, path, "Proto field is not a message, cannot start object.")
            return _BAD
        if kind in ENUMS:
            return self._enum(kind, item, here)
        return self._scalar(kind, item, here)

    def _full_name(self, kind: str) -> str:
        return f"type.googleapis.com/{_PACKAGE[self.api]}.{kind}"

    def _enum(self, kind: str, item: Any, here: str) -> Any:
        names = ENUMS[kind]
        if isinstance(item, str):
            word = item.upper().replace("-", "_")
            if word in names:
                return word
        elif isinstance(item, int) and not isinstance(item, bool) and 0 <= item < len(names):
            return names[item]
        self._invalid(here, self._full_name(kind), item)
        return _BAD

    def _scalar(self, kind: str, item: Any, here: str) -> Any:
        value = _SCALARS[kind](item)
        if value is _BAD:
            self._invalid(here, _SCALAR_WORDS[kind], item, note=_SCALAR_NOTES.get(kind, ""))
        return value

    def _not_repeating(self, field: _Field, item: Any, here: str, path: str) -> None:
        if isinstance(item, list):
            self._unknown(field.camel, path, "Proto field is not repeating, cannot start list.")
        else:
            self._invalid(here, "Map", item)

    def _unknown(self, name: str, path: str, why: str) -> None:
        at = f" at '{path}'" if path else ""
        self._note(path, f'Invalid JSON payload received. Unknown name "{name}"{at}: {why}')

    def _invalid(self, here: str, kind: str, item: Any, note: str = "") -> None:
        shown = json_text(item)
        if len(shown) > 200:
            shown = shown[:200] + "..."
        self._note(here, f"Invalid value at '{here}' ({kind}), {note}{shown}")

    def _note(self, path: str, description: str) -> None:
        self.violations.append(Violation(path, description))


def _string(item: Any) -> Any:
    return item if isinstance(item, str) else _BAD


def _bool(item: Any) -> Any:
    if isinstance(item, bool):
        return item
    return {"true": True, "false": False}.get(item, _BAD) if isinstance(item, str) else _BAD


def _int(bits: int) -> Callable[[Any], Any]:
    def read_int(item: Any) -> Any:
        number = _number(item)
        if number is _BAD or number != int(number) or not -(1 << bits) <= number < 1 << bits:
            return _BAD
        return int(item) if isinstance(item, int | str) and str(item).lstrip("-").isdigit() else int(number)

    return read_int


def _number(item: Any) -> Any:
    if isinstance(item, bool):
        return _BAD
    if isinstance(item, int | float):
        return item
    if isinstance(item, str):
        try:
            number = float(item)
        except ValueError:
            return _BAD
        return number if abs(number) < float("inf") else _BAD
    return _BAD


def _bytes(item: Any) -> Any:
    """Base64 text as it came: with - and _ or + and /, padded or not. Never decoded further: only its form counts."""
    if not isinstance(item, str):
        return _BAD
    try:
        raw = item.encode("ascii").translate(bytes.maketrans(b"-_", b"+/"))
    except UnicodeEncodeError:
        return _BAD
    if not _BASE64.match(raw) or len(raw.rstrip(b"=")) % 4 == 1:
        return _BAD
    return item


def decoded(text: str) -> bytes:
    """The bytes of a base64 text that `read` has accepted."""
    raw = text.encode("ascii").translate(bytes.maketrans(b"-_", b"+/")).rstrip(b"=")
    try:
        return base64.b64decode(raw + b"=" * (-len(raw) % 4))
    except binascii.Error:
        return b""


def _matching(pattern: re.Pattern[str]) -> Callable[[Any], Any]:
    return lambda item: item if isinstance(item, str) and pattern.match(item) else _BAD


_SCALARS: dict[str, Callable[[Any], Any]] = {
    "string": _string,
    "bool": _bool,
    "int32": _int(_INT_BITS["int32"]),
    "int64": _int(_INT_BITS["int64"]),
    "float": _number,
    "double": _number,
    "bytes": _bytes,
    "duration": _matching(_DURATION),
    "timestamp": _matching(_TIMESTAMP),
}
_SCALAR_WORDS = {kind: f"TYPE_{kind.upper()}" for kind in _SCALARS} | {
    kind: f"type.googleapis.com/{name}" for kind, name in _WELL_KNOWN.items()
}
_SCALAR_NOTES = {"bytes": "Base64 decoding failed for "}
