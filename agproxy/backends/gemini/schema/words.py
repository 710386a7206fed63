"""The vocabulary: which keyword says what, values compared and shown, and constraints in words.

Follows JSON Schema 2020-12 (drafts 4 to 7 where they differ). Constraints that Gemini's Schema has no field for are
told to the model in a description; the texts for that are here.
"""

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from .... import jsontext
from ....jsontext import JsonObject
from .references import REFERENCES

MOST_SHOWN = 200  # characters of JSON in a hint
MOST_TOLD = 20  # things of one sort in a hint

TYPES = ("string", "number", "integer", "boolean", "array", "object", "null")
NUMERIC = ("integer", "number")

# Which type a keyword speaks of; of others it says nothing.
_WORDS = {
    "object": "properties required additionalProperties minProperties maxProperties patternProperties propertyNames "
    "unevaluatedProperties dependencies dependentRequired dependentSchemas",
    "array": "items prefixItems additionalItems minItems maxItems uniqueItems contains minContains maxContains "
    "unevaluatedItems",
    "number": "minimum maximum exclusiveMinimum exclusiveMaximum multipleOf",
    "string": "minLength maxLength pattern contentEncoding contentMediaType contentSchema",
}
KIND_OF = {word: kind for kind, words in _WORDS.items() for word in words.split()}
# The formats that Schema's reference names; others are refused by older models.
FORMATS = {"string": ("date-time", "enum"), "integer": ("int32", "int64"), "number": ("float", "double")}
COUNTS = {
    "string": ("minLength", "maxLength"),
    "array": ("minItems", "maxItems"),
    "object": ("minProperties", "maxProperties"),
}
# Merged by rules of their own.
MERGED = frozenset(
    {
        *("type", "nullable", "enum", "const", "properties", "required", "items", "prefixItems", "description"),
        *("allOf", "anyOf", "oneOf"),
        *REFERENCES,
    }
)
# Of these the first one holds, or the tighter bound.
KEPT = (
    frozenset({"title", "default", "example", "examples", "format", "propertyOrdering", "if", "then", "else", "not"})
    | {"readOnly", "writeOnly", "deprecated"}
    | set(KIND_OF)
) - MERGED
# Read where they belong, or without meaning for an answer. So is all that begins with x-.
SILENT = frozenset(
    {
        *("$anchor", "$comment", "$defs", "$dynamicAnchor", "$id", "$recursiveAnchor", "$schema", "$vocabulary"),
        *("definitions", "discriminator", "externalDocs", "id", "strict", "xml"),
    }
)


# A value breaks the bound of this name if the comparison holds.
_NUMBER_BOUNDS: dict[str, Callable[[Any, Any], bool]] = {
    "minimum": operator.lt,
    "exclusiveMinimum": operator.le,
    "maximum": operator.gt,
    "exclusiveMaximum": operator.ge,
}
_LENGTH_BOUNDS: dict[str, Callable[[Any, Any], bool]] = {"minLength": operator.lt, "maxLength": operator.gt}


# --- values ----------------------------------------------------------------------------------------------------


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def strings(value: Any) -> tuple[str, ...]:
    """The texts of a list, in order; none where it is no list."""
    return tuple(word for word in value if isinstance(word, str)) if isinstance(value, list) else ()


def kind_of_value(value: Any) -> str:
    """JSON Schema's type of a value; integer for every whole number."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "integer" if value.is_integer() else "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"


def fits(value: Any, types: Sequence[str]) -> bool:
    kind = kind_of_value(value)
    return kind in types or (kind == "integer" and "number" in types)


def obeys(value: Any, words: JsonObject) -> bool:
    """Whether a value of an enum keeps the bounds and lengths that stand beside it."""
    size = len(value) if isinstance(value, str) else value
    bounds = _LENGTH_BOUNDS if isinstance(value, str) else _NUMBER_BOUNDS if is_number(value) else {}
    return not any(is_number(words.get(word)) and breaks(size, words[word]) for word, breaks in bounds.items())


def key(value: Any) -> tuple[str, Any]:
    """Two values are the same in JSON if their keys are: 1 and 1.0 are, 1 and true are not."""
    if is_number(value):
        return "number", value
    if isinstance(value, list | dict):
        try:
            return "nested", jsontext.text(value)
        except ValueError:  # deeper than JSON text is written: the same only as itself
            return "nested", id(value)
    return kind_of_value(value), value


def common_types(first: Sequence[str] | None, second: Sequence[str]) -> tuple[str, ...]:
    """The types that both allow, in the order of the first; None allows all."""
    if first is None:
        return tuple(second)
    both = [word for word in first if word in second or (word == "integer" and "number" in second)]
    if "number" in first and "integer" in second and "integer" not in both:
        both.append("integer")
    return tuple(both)


def types_of(schema: Any) -> tuple[str, ...] | None:
    """The types that a schema names, or that its keywords suggest; None where it says nothing."""
    if not isinstance(schema, dict):
        return None
    written = schema.get("type")
    named = tuple(word.lower() for word in strings(written if isinstance(written, list) else [written]))
    known = tuple(dict.fromkeys(word for word in named if word in TYPES))
    if known:
        return (*known, "null") if schema.get("nullable") is True and "null" not in known else known
    return next(((KIND_OF[word],) for word in schema if word in KIND_OF), None)


# --- hints -----------------------------------------------------------------------------------------------------


def shown(value: Any) -> str:
    """A value for a hint: JSON, cut where it is long."""
    text = ""
    for piece in _pieces(value, 0):
        text += piece
        if len(text) > MOST_SHOWN:
            return text[: MOST_SHOWN - 3] + "..."
    return text


def _pieces(value: Any, depth: int) -> Iterator[str]:
    """JSON text piece by piece, so that no more of a long value is written than is shown."""
    if isinstance(value, dict | list) and depth >= 8:
        yield "..."
    elif isinstance(value, dict):
        for n, (name, one) in enumerate(value.items()):
            yield ("," if n else "{") + jsontext.text(name[:MOST_SHOWN]) + ":"
            yield from _pieces(one, depth + 1)
        yield "}" if value else "{}"
    elif isinstance(value, list):
        for n, one in enumerate(value):
            yield "," if n else "["
            yield from _pieces(one, depth + 1)
        yield "]" if value else "[]"
    else:
        yield jsontext.text(value[:MOST_SHOWN] if isinstance(value, str) else value)


def listed(values: Sequence[Any], separator: str = ", ") -> str:
    """Values for a hint, not too many of them."""
    more = (separator + "...") if len(values) > MOST_TOLD else ""
    return separator.join(shown(value) for value in values[:MOST_TOLD]) + more


def described(texts: Iterable[str], hints: Iterable[str]) -> str:
    """A description: the client's own words, then what Schema could not say."""
    own = "\n".join(text for text in texts if text)
    told = "; ".join(dict.fromkeys(hints))
    if not told:
        return own
    return f"{own}\n({told})" if own else f"({told})"


Tell = Callable[[Any, JsonObject], str | None]


def _if_object(words: str) -> Tell:
    return lambda value, _: f"{words} {shown(value)}" if isinstance(value, dict) and value else None


def _if_text(words: str) -> Tell:
    return lambda value, _: f"{words} {value[:64]}" if isinstance(value, str) and value else None


def _contains(value: Any, words: JsonObject) -> str | None:
    if not isinstance(value, dict | bool):
        return None
    most = words.get("maxContains")
    limit = f" and at most {shown(most)}" if is_number(most) else ""
    return f"at least {shown(words.get('minContains', 1))}{limit} of the items fit {shown(value)}"


def _condition(value: Any, words: JsonObject) -> str | None:
    branches = [f"{word} {shown(words[word])}" for word in ("then", "else") if word in words]
    return f"if {shown(value)} {' '.join(branches)}" if branches else None


def _not(value: Any, words: JsonObject) -> str | None:
    return f"not {shown(value)}" if isinstance(value, dict | bool) and value is not False else None


FLAGS = {"deprecated": "deprecated", "readOnly": "read only", "writeOnly": "write only"}

# keyword -> what a description says of its value (the other keywords beside it), None where it demands nothing.
HINTS: dict[str, Tell] = {
    "multipleOf": lambda value, _: f"a multiple of {shown(value)}" if is_number(value) else None,
    "uniqueItems": lambda value, _: "no two items are the same" if value is True else None,
    "contains": _contains,
    "not": _not,
    "if": _condition,
    "patternProperties": _if_object("properties by the pattern of their name:"),
    "propertyNames": _if_object("names of properties fit"),
    "dependentRequired": _if_object("properties that need others:"),
    "dependentSchemas": _if_object("properties that demand more:"),
    "dependencies": _if_object("properties that demand more:"),
    "unevaluatedProperties": _if_object("further properties, each"),
    "unevaluatedItems": _if_object("further items, each"),
    "contentEncoding": _if_text("encoded as"),
    "contentMediaType": _if_text("holding"),
    "contentSchema": _if_object("holding JSON that fits"),
}
