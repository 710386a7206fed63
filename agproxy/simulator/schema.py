"""A value for a schema: always the same one, valid for it, and taken from the user's words where they fit.

Reads both dialects that the API takes: JSON Schema (2020-12, as far as a value can be found by rule) and Gemini's own
Schema with its upper-case types. Only required properties are filled, so recursion ends where the schema lets it;
where it does not, a bounded depth ends it. Knows no protocol.
"""

import math
import operator
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..jsontext import JsonObject
from .words import Hints

_MAX_DEPTH = 24
_MAX_STEPS = 20_000  # alternatives that fail one after another would else take for ever
_MOST_ITEMS = 1_000
_MOST_CHARACTERS = 100_000
_HUGE = 10**300  # no float holds an integer of this size
_EXACT = 2.0**53  # beyond this a float is no longer exact
_ABSENT = object()


class Unsatisfiable(Exception):
    """No value was found for the schema: `false`, a cycle through required properties, or bounds that contradict."""


# format -> example, after RFC 3339, 5321, 3986, 4122, 2673 and JSON Schema's vocabulary for formats.
FORMATS = {
    "date-time": "2026-01-31T12:00:00Z",
    "date": "2026-01-31",
    "time": "12:00:00Z",
    "duration": "PT1H",
    "email": "user@example.com",
    "idn-email": "user@example.com",
    "hostname": "example.com",
    "idn-hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "url": "https://example.com/",
    "uri-reference": "/example",
    "iri": "https://example.com/",
    "uuid": "123e4567-e89b-42d3-a456-426614174000",
    "json-pointer": "/example",
    "regex": ".*",
    "byte": "ZXhhbXBsZQ==",
    "binary": "example",
}

# Tried in turn where a `pattern` is set; the first that matches is taken.
_PATTERN_POOL = (
    *FORMATS.values(),
    *("a" * n for n in (1, 2, 3, 4, 5, 6, 8, 10, 16, 32)),
    *("A" * n for n in (1, 2, 3, 4, 5, 6, 8)),
    *("1" * n for n in range(1, 17)),
    *("A1", "AB-1", "AB-12", "AB-123", "AB-1234", "ABC-1", "ABC-123", "ABC-1234", "ABC123", "a1", "a-1", "a_b"),
    *("abc-123", "#aabbcc", "#AABBCC", "1.0", "1.00", "1.0.0", "v1.0.0", "12:00", "12:00:00", "2026-01", "+15550100"),
    *("+1-555-0100", "555-0100", "123-45-6789", "/example", "example.txt", "en-US", "en_US", "$1.00", "true", "1,000"),
    "",
)

# A number breaks the bound of this name if the comparison holds.
_BREAKS: dict[str, Callable[[Any, Any], bool]] = {
    "minimum": operator.lt,
    "exclusiveMinimum": operator.le,
    "maximum": operator.gt,
    "exclusiveMaximum": operator.ge,
}
_KEYWORD_TYPES = (
    ("object", ("properties", "required", "additionalProperties", "minProperties", "patternProperties")),
    ("array", ("items", "prefixItems", "minItems", "maxItems", "uniqueItems", "contains")),
    ("number", ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")),
    ("string", ("minLength", "maxLength", "pattern", "format")),
)


def example(schema: Any, hints: Hints | None = None, *, number: int = 0, fill: bool = False) -> Any:
    """A value for the schema. Raises Unsatisfiable.

    hints: the user's words. number: which of several values to make; different numbers give different values where
    the words allow it. fill: an object at the top that requires nothing gets all its properties.
    """
    return _Maker(schema, hints or Hints.of(""), number, fill).make(schema, "", 0)


@dataclass(slots=True)
class _Maker:
    root: Any
    hints: Hints
    number: int
    fill: bool
    used_names: int = 0
    used_numbers: int = 0
    steps: int = 0
    open: list[str] = field(default_factory=list)  # references that are being followed, outermost first

    def make(self, schema: Any, name: str, depth: int, nth: int = 0) -> Any:
        """A value for a schema that stands at a property called `name`, the nth of several in an array."""
        self.steps += 1
        if schema is False:
            raise Unsatisfiable
        if not isinstance(schema, dict):
            schema = {}
        if depth > _MAX_DEPTH or self.steps > _MAX_STEPS:
            raise Unsatisfiable
        reference = schema.get("$ref", schema.get("ref"))
        if isinstance(reference, str):
            siblings = {key: value for key, value in schema.items() if key not in ("$ref", "ref")}
            self.open.append(reference)
            try:
                return self.make(_merge([self._target(reference), siblings]), name, depth + 1, nth)
            finally:
                self.open.pop()
        if isinstance(schema.get("allOf"), list) and schema["allOf"]:
            rest = {key: value for key, value in schema.items() if key != "allOf"}
            return self.make(_merge([rest, *map(self._resolved, schema["allOf"])]), name, depth + 1, nth)
        for key in ("anyOf", "oneOf"):
            if isinstance(schema.get(key), list) and schema[key]:
                return self._one_of(schema, key, name, depth, nth)
        if "const" in schema:
            allowed = schema.get("enum")
            fits = not isinstance(allowed, list) or schema["const"] in allowed
            return self._enum(schema | {"enum": [schema["const"]] if fits else []}, nth)
        if isinstance(schema.get("enum"), list):
            return self._enum(schema, nth)
        return self._typed(schema, name, depth, nth)

    def _resolved(self, schema: Any, depth: int = 0) -> Any:
        reference = schema.get("$ref", schema.get("ref")) if isinstance(schema, dict) else None
        if not isinstance(reference, str) or depth > _MAX_DEPTH:
            return schema
        siblings = {key: value for key, value in schema.items() if key not in ("$ref", "ref")}
        return _merge([self._resolved(self._target(reference), depth + 1), siblings])

    def _target(self, reference: str) -> Any:
        """What a reference within the document points to: a JSON pointer, or an $anchor or $id under $defs."""
        _, _, pointer = reference.partition("#")
        if not pointer and reference in ("#", ""):
            return self.root
        if pointer.startswith("/"):
            target = self.root
            for step in pointer[1:].split("/"):
                target = _step(target, step.replace("~1", "/").replace("~0", "~"))
            return target
        for key in ("$defs", "definitions", "defs"):
            defined = self.root.get(key, {}) if isinstance(self.root, dict) else {}
            for name, target in defined.items() if isinstance(defined, dict) else ():
                known_as = {name, *((target.get("$id"), target.get("$anchor")) if isinstance(target, dict) else ())}
                if reference in known_as or (pointer and pointer in known_as):
                    return target
        raise Unsatisfiable

    def _one_of(self, schema: JsonObject, key: str, name: str, depth: int, nth: int) -> Any:
        rest = {word: value for word, value in schema.items() if word != key}
        for alternative in sorted(schema[key], key=self._rank):
            joined = alternative if not rest else _merge([rest, self._resolved(alternative)])
            try:
                return self.make(joined, name, depth + 1, nth)
            except Unsatisfiable:
                continue
        raise Unsatisfiable

    def _rank(self, alternative: Any) -> int:
        """The order in which alternatives are tried: as written, but null after values, and a cycle last."""
        return 2 if self._is_cycle(alternative) else int(_is_null(alternative))

    def _is_cycle(self, schema: Any) -> bool:
        return isinstance(schema, dict) and schema.get("$ref", schema.get("ref")) in self.open

    def _enum(self, schema: JsonObject, nth: int) -> Any:
        types = _types(schema)
        choices = [value for value in schema["enum"] if not types or _has_type(value, types)]
        if not choices and "integer" in types:  # Gemini's Schema writes the numbers of an enum as text
            choices = [int(value) for value in schema["enum"] if isinstance(value, str) and _is_integer(value)]
        choices = sorted(choices, key=lambda value: value is None)
        if not choices:
            raise Unsatisfiable
        return choices[nth % len(choices)]

    def _typed(self, schema: JsonObject, name: str, depth: int, nth: int) -> Any:
        types = _types(schema) or [_guessed_type(schema)]
        for kind in sorted(types, key=lambda word: word == "null"):
            try:
                match kind:
                    case "object":
                        return self._object(schema, depth)
                    case "array":
                        return self._array(schema, name, depth)
                    case "integer" | "number":
                        return self._number(schema, kind, nth)
                    case "boolean":
                        return nth % 2 == 0
                    case "null":
                        return None
                    case "none":
                        raise Unsatisfiable
                    case _:
                        return self._string(schema, name, nth)
            except Unsatisfiable:
                if len(types) == 1:
                    raise
        raise Unsatisfiable

    def _object(self, schema: JsonObject, depth: int) -> JsonObject:
        properties = schema.get("properties")
        properties = properties if isinstance(properties, dict) else {}
        required = _strings(schema.get("required"))
        order = [word for word in _strings(schema.get("propertyOrdering")) if word in properties]
        order += [word for word in properties if word not in order]
        order += [word for word in required if word not in order]
        value = {word: self.make(_property(schema, word), word, depth + 1) for word in order if word in required}
        least = _integer(schema.get("minProperties"), 0)
        if self.fill and depth == 0 and not required:
            least = max(least, len(properties))
        for word in order:
            if word in value or len(value) >= least:
                continue
            try:
                value[word] = self.make(properties[word], word, depth + 1)
            except Unsatisfiable:
                continue
        value = {word: value[word] for word in order if word in value}
        extra = schema.get("additionalProperties", True)
        least = _integer(schema.get("minProperties"), 0)
        if least > _MOST_ITEMS:
            raise Unsatisfiable
        for n in range(max(0, least - len(value))):
            value[f"key{n + 1}"] = self.make(extra, f"key{n + 1}", depth + 1, n)
        return value

    def _array(self, schema: JsonObject, name: str, depth: int) -> list[Any]:
        first = schema.get("prefixItems")
        first = first if isinstance(first, list) else []
        least = _integer(schema.get("minItems"), 0)
        most = _integer(schema.get("maxItems"), _MOST_ITEMS)
        if most < least or least > _MOST_ITEMS:
            raise Unsatisfiable
        values = [self.make(one, name, depth + 1) for one in first[: max(most, least)]]
        items = schema.get("items", schema.get("contains", True))
        wanted = max(least, min(most, 0 if first else 1))
        while len(values) < wanted:
            if len(values) >= least and self._is_cycle(items):
                break
            try:
                values.append(self.make(items, _singular(name), depth + 1, len(values)))
            except Unsatisfiable:
                if len(values) < least:
                    raise
                break
        return values

    def _number(self, schema: JsonObject, kind: str, nth: int) -> Any:
        low, high = _bounds(schema)
        step: Any = schema.get("multipleOf")
        if not _is_number(step) or step <= 0:
            step = 1 if kind == "integer" else None
        said: Iterable[float] = self.hints.numbers[(self.number + self.used_numbers) :][:1]
        candidates: list[Any] = [*_given(schema), *said]
        start = 1 if low is None else low
        candidates += [1 + nth, start + nth, start, 0, -1, high if high is not None else start]
        if step and abs(start / step) < _EXACT:
            candidates += [math.ceil(start / step) * step + nth * step, math.ceil(start / step) * step]
        elif low is not None and high is not None:
            candidates.append((low + high) / 2)
        for candidate in candidates:
            fitted = _fitted(candidate, kind, schema, step)
            if fitted is not _ABSENT:
                self.used_numbers += candidate in said
                return fitted
        raise Unsatisfiable

    def _string(self, schema: JsonObject, name: str, nth: int) -> str:
        shortest = _integer(schema.get("minLength"), 0)
        if shortest > _MOST_CHARACTERS:
            raise Unsatisfiable
        longest = _integer(schema.get("maxLength"), _MOST_CHARACTERS)
        if longest < shortest:
            raise Unsatisfiable
        given = [value for value in _given(schema) if isinstance(value, str)]
        pattern = schema.get("pattern")
        wanted = schema.get("format")
        said = self.hints.string_for(name, self.number + self.used_names + nth, self.used_names + nth)
        if isinstance(pattern, str):
            pool = [*given, *([said.text] if said.is_said else []), *_PATTERN_POOL]
            return _matching(pattern, pool, shortest, longest)
        if isinstance(wanted, str) and wanted in FORMATS:
            shown = next((text for text in [*given, FORMATS[wanted]] if shortest <= len(text) <= longest), None)
            return shown if shown is not None else _sized("example", shortest, longest)
        if said.is_said:
            self.used_names += 1
            return _sized(said.text, shortest, longest)
        plain = next(iter(given), said.text)
        return _sized(plain if nth == 0 else f"{plain}{nth + 1}", shortest, longest)


def _step(target: Any, step: str) -> Any:
    if isinstance(target, dict) and step in target:
        return target[step]
    if isinstance(target, list) and step.isdigit() and int(step) < len(target):
        return target[int(step)]
    raise Unsatisfiable


def _merge(schemas: Sequence[Any]) -> Any:
    """One schema that holds for all: properties and required joined, bounds tightened, the later word else."""
    merged: JsonObject = {}
    for schema in schemas:
        if schema is False:
            return False
        if not isinstance(schema, dict):
            continue
        for key, value in schema.items():
            before = merged.get(key)
            if key == "properties" and isinstance(before, dict) and isinstance(value, dict):
                merged[key] = before | value
            elif key in ("required", "allOf") and isinstance(before, list) and isinstance(value, list):
                merged[key] = before + [word for word in value if word not in before]
            elif key == "type" and before is not None:
                merged[key] = _common_types(_types(merged), _types(schema))
            elif key == "items" and before is not None:
                merged[key] = {"allOf": [before, value]}
            elif key in ("anyOf", "oneOf") and isinstance(before, list) and isinstance(value, list):
                merged[key] = [{"allOf": [one, other]} for one in before for other in value][:_MOST_ITEMS]
            elif key == "const" and "const" in merged and before != value:
                return False
            elif key == "enum" and isinstance(before, list) and isinstance(value, list):
                merged[key] = [word for word in before if word in value]
            elif key.startswith(("min", "exclusiveMin")) and _is_number(before) and _is_number(value):
                merged[key] = max(before, value)
            elif key.startswith(("max", "exclusiveMax")) and _is_number(before) and _is_number(value):
                merged[key] = min(before, value)
            else:
                merged[key] = value
    return merged


def _is_null(schema: Any) -> bool:
    return isinstance(schema, dict) and _types(schema) == ["null"]


def _types(schema: JsonObject) -> list[str]:
    written = schema.get("type")
    return [word.lower() for word in _strings(written if isinstance(written, list) else [written])]


def _common_types(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """Types that both allow; `none`, which no value has, where there are none."""
    common = [word for word in first if word in second or (word == "integer" and "number" in second)]
    common += ["integer"] if "integer" in second and "number" in first and "integer" not in common else []
    return common or ["none"]


def _guessed_type(schema: JsonObject) -> str:
    return next((kind for kind, keys in _KEYWORD_TYPES if any(key in schema for key in keys)), "string")


def _strings(value: Any) -> list[str]:
    return [word for word in value if isinstance(word, str)] if isinstance(value, list) else []


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _HUGE


def _is_integer(text: str) -> bool:
    return re.fullmatch(r"-?\d{1,18}", text) is not None


def _integer(value: Any, default: int) -> int:
    return int(value) if _is_number(value) else default


def _has_type(value: Any, types: Sequence[str]) -> bool:
    match value:
        case None:
            kinds = {"null"}
        case bool():
            kinds = {"boolean"}
        case int():
            kinds = {"integer", "number"}
        case float():
            kinds = {"number"} | ({"integer"} if value.is_integer() else set())
        case str():
            kinds = {"string"}
        case list():
            kinds = {"array"}
        case _:
            kinds = {"object"}
    return not kinds.isdisjoint(types)


def _property(schema: JsonObject, word: str) -> Any:
    properties = schema.get("properties")
    if isinstance(properties, dict) and word in properties:
        return properties[word]
    extra = schema.get("additionalProperties", True)
    return True if extra is False else extra


def _given(schema: JsonObject) -> list[Any]:
    """Values that the schema itself shows."""
    shown = schema.get("examples")
    return [*([schema["example"]] if "example" in schema else []), *(shown if isinstance(shown, list) else [])] + (
        [schema["default"]] if schema.get("default") is not None else []
    )


def _bounds(schema: JsonObject) -> tuple[Any, Any]:
    lows = [schema[key] for key in ("minimum", "exclusiveMinimum") if _is_number(schema.get(key))]
    highs = [schema[key] for key in ("maximum", "exclusiveMaximum") if _is_number(schema.get(key))]
    return (max(lows) if lows else None), (min(highs) if highs else None)


def _fitted(candidate: Any, kind: str, schema: JsonObject, step: Any) -> Any:
    """The number in the wanted kind if it keeps all bounds, else _ABSENT."""
    if not _is_number(candidate) or not math.isfinite(candidate):
        return _ABSENT
    if kind == "integer" and candidate != int(candidate):
        candidate = math.ceil(candidate)
    value = int(candidate) if candidate == int(candidate) else candidate
    for key, breaks in _BREAKS.items():
        if _is_number(schema.get(key)) and breaks(value, schema[key]):
            return _ABSENT
    written: Any = schema.get("multipleOf")
    if _is_number(written) and written > 0 and not _is_multiple(value, written):
        return _ABSENT
    return value


def _is_multiple(value: float, step: float) -> bool:
    ratio = value / step
    return abs(ratio) < _EXACT and abs(ratio - round(ratio)) < 1e-9


def _sized(text: str, shortest: int, longest: int) -> str:
    if len(text) < shortest:
        text = text + "x" * (shortest - len(text))
    return text[:longest]


def _matching(pattern: str, pool: Iterable[str], shortest: int, longest: int) -> str:
    try:
        compiled = re.compile(pattern)
    except (re.error, OverflowError, RecursionError):
        return _sized("example", shortest, longest)
    for candidate in pool:
        if shortest <= len(candidate) <= longest and compiled.search(candidate):
            return candidate
    return _sized("example", shortest, longest)


def _singular(name: str) -> str:
    return name[:-1] if name.endswith("s") and len(name) > 3 else name
