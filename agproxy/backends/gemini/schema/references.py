"""Where schemas stand within a JSON Schema, and what its references point to.

Follows JSON Schema 2020-12 (and drafts 4 to 7 where they differ), RFC 6901 for pointers. Knows nothing of Gemini.
Never fetches: a reference out of the document points to nothing.
"""

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urljoin

from ....jsontext import JsonObject

# Keywords whose value is a schema, a list of schemas, or a map from names to schemas. `items` and `dependencies`
# have two forms; what a property is called never matters: `properties` holds names, not keywords.
ONE = frozenset(
    {
        "additionalItems",
        "additionalProperties",
        "contains",
        "contentSchema",
        "else",
        "if",
        "items",
        "not",
        "propertyNames",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
    }
)
MANY = frozenset({"allOf", "anyOf", "items", "oneOf", "prefixItems"})
MAPS = frozenset({"$defs", "definitions", "dependencies", "dependentSchemas", "patternProperties", "properties"})
REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")

MISSING = object()


def is_schema(value: Any) -> bool:
    return isinstance(value, dict | bool)


def children(schema: JsonObject) -> Iterator[tuple[str, str | int | None, Any]]:
    """(keyword, name or index within it, schema) of every schema that stands directly in this one."""
    for keyword, value in schema.items():
        if keyword in ONE and is_schema(value):
            yield keyword, None, value
        elif keyword in MANY and isinstance(value, list):
            yield from ((keyword, index, one) for index, one in enumerate(value) if is_schema(one))
        elif keyword in MAPS and isinstance(value, dict):
            yield from ((keyword, name, one) for name, one in value.items() if is_schema(one))


class Document:
    """A whole JSON Schema, for looking up what its references mean."""

    def __init__(self, root: JsonObject) -> None:
        self._root = root
        self._base = root["$id"] if isinstance(root.get("$id"), str) else ""
        self._named: dict[str, Any] | None = None

    def target(self, reference: str) -> Any:
        """The schema that a reference points to, MISSING where there is none in this document."""
        resource, _, fragment = reference.partition("#")
        start: Any = self._root
        if resource:
            start = self._names().get(_join(self._base, resource), MISSING)
        if not fragment or start is MISSING:
            return start
        fragment = unquote(fragment)
        if not fragment.startswith("/"):
            return self._names().get("#" + fragment, MISSING)
        for step in fragment[1:].split("/"):
            start = _step(start, step.replace("~1", "/").replace("~0", "~"))
        return start if is_schema(start) else MISSING

    def _names(self) -> dict[str, Any]:
        """Schemas by `$id` (absolute) and by anchor (with its #)."""
        if self._named is None:
            self._named = {}
            waiting: list[Any] = [self._root]
            while waiting:
                schema = waiting.pop()
                if not isinstance(schema, dict):
                    continue
                for word in ("$id", "id"):
                    name = schema.get(word)
                    if isinstance(name, str):
                        # Draft 4 and 6 write an anchor as an id that is only a fragment.
                        known_as = name if name.startswith("#") else _join(self._base, name).removesuffix("#")
                        self._named.setdefault(known_as, schema)
                for word in ("$anchor", "$dynamicAnchor"):
                    if isinstance(schema.get(word), str):
                        self._named.setdefault("#" + schema[word], schema)
                waiting += [child for _, _, child in children(schema)]
        return self._named


def _join(base: str, reference: str) -> str:
    try:
        return urljoin(base, reference)
    except ValueError:  # a host that is none
        return reference


def _step(value: Any, step: str) -> Any:
    if isinstance(value, dict):
        return value.get(step, MISSING)
    if isinstance(value, list) and step.isdecimal() and len(step) < 10 and int(step) < len(value):
        return value[int(step)]
    return MISSING
