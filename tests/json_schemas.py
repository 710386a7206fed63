"""What the tests of schemas share: the judges of a converted schema, and a plain validator of JSON Schema."""

from collections.abc import Iterator
from typing import Any

from agproxy.simulator import fields, models, validate
from agproxy.simulator.status import Refused

# Keywords of Gemini's Schema that the API takes beside one type only, as its refusals say.
ONLY_FOR = {
    "items": "ARRAY",
    "minItems": "ARRAY",
    "maxItems": "ARRAY",
    "properties": "OBJECT",
    "required": "OBJECT",
    "propertyOrdering": "OBJECT",
    "minProperties": "OBJECT",
    "maxProperties": "OBJECT",
    "enum": "STRING",
    "pattern": "STRING",
    "minLength": "STRING",
    "maxLength": "STRING",
}
MODELS = ("gemini-1.5-flash", "gemini-2.5-flash", "gemini-3.8-flash")


def places(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every Schema within a Schema, itself first."""
    yield schema
    inner = [*schema.get("properties", {}).values(), *schema.get("anyOf", [])]
    for one in inner + ([schema["items"]] if "items" in schema else []):
        yield from places(one)


def assert_accepted(schema: dict[str, Any]) -> None:
    """The simulated Gemini takes it on every generation, for functions and for answers; and so would the real one."""
    for body in (
        {"tools": [{"functionDeclarations": [{"name": "f", "parameters": schema}]}]},
        {"generationConfig": {"responseMimeType": "application/json", "responseSchema": schema}},
    ):
        request = {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]} | body
        canonical, violations = fields.read("GenerateContentRequest", request, fields.GEMINI)
        assert not violations, violations
        for name in MODELS:
            model = models.resolve(name)
            assert model is not None
            try:
                validate.check(canonical, model, fields.GEMINI)
            except Refused as refused:
                raise AssertionError(f"{name}: {refused.message}") from None
    for place in places(schema):
        if "anyOf" in place:  # "When using any_of, it must be the only field set."
            assert set(place) == {"anyOf"}, place
            continue
        assert place["type"] in ("STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT", "NULL"), place
        for keyword, kind in ONLY_FOR.items():
            assert keyword not in place or place["type"] == kind, (keyword, place)
        assert set(place.get("propertyOrdering", ())) <= set(place.get("properties", ()))


def property_names(schema: Any) -> set[str]:
    """The names of all properties that a schema speaks of, wherever it does."""
    if isinstance(schema, list):
        return set().union(*map(property_names, schema))
    if not isinstance(schema, dict):
        return set()
    names = set(schema["properties"]) if isinstance(schema.get("properties"), dict) else set()
    return names.union(*map(property_names, schema.values()))


_TYPES: dict[str, Any] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: is_number(value) and value == int(value),
    "number": lambda value: is_number(value),
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def same(one: Any, other: Any) -> bool:
    return one == other and isinstance(one, bool) == isinstance(other, bool)


class Endless(Exception):
    """The schema leads back to itself without ever looking into the value: JSON Schema gives it no meaning."""


def is_valid(value: Any, schema: Any, root: dict[str, Any], within: tuple[int, ...] = ()) -> bool:
    """Whether a value fits a schema, of the keywords that the tests use. References are of the form #/$defs/NAME."""
    if isinstance(schema, bool):
        return schema
    if id(schema) in within:
        raise Endless
    within = (*within, id(schema))
    if "$ref" in schema and not is_valid(value, root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root, within):
        return False
    types = schema.get("type", [])
    types = [types] if isinstance(types, str) else types
    if types and not any(_TYPES[word](value) for word in types):
        return False
    if "const" in schema and not same(value, schema["const"]):
        return False
    if "enum" in schema and not any(same(value, one) for one in schema["enum"]):
        return False
    if not all(is_valid(value, one, root, within) for one in schema.get("allOf", [])):
        return False
    if "anyOf" in schema and not any(is_valid(value, one, root, within) for one in schema["anyOf"]):
        return False
    if "oneOf" in schema and not any(is_valid(value, one, root, within) for one in schema["oneOf"]):
        return False
    return _has_valid_parts(value, schema, root)


def _has_valid_parts(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    if isinstance(value, dict):
        known = schema.get("properties", {})
        if any(name not in value for name in schema.get("required", [])):
            return False
        return all(is_valid(one, known.get(name, True), root) for name, one in value.items())
    if isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            return False
        return all(is_valid(one, schema.get("items", True), root) for one in value)
    if isinstance(value, str):
        return schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value))
    if is_number(value):
        return schema.get("minimum", value) <= value <= schema.get("maximum", value)
    return True
