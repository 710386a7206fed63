"""JSON Schema for the fields that take it as it is: `parametersJsonSchema`, `responseJsonSchema`.

Follows their reference ("if $ref is set on a sub-schema, no other properties, except for those starting with a $, may
be set"; the list of keywords) and what the API was seen to answer: "reference to undefined schema", and "ref loops are
only supported if they include optional or nullable property values, or a potentially-zero-length array items". The
reference allows loops through optional properties alone; the API's own, later words are followed, since a property
that is made optional may be missing from the answer. Changes that and nothing else; a schema without any of it comes
back as the very same object. What the API merely ignores stays, since the model reads it all the same.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ....conversation import Notice
from ....jsontext import JsonObject
from .references import MANY, MAPS, MISSING, ONE, Document, children, is_schema

_MOST_DEPTH = 100  # what lies deeper goes upstream as it is
# Documented to be a schema or a boolean.
_MAY_BE_BOOLEAN = frozenset({"additionalItems", "additionalProperties", "unevaluatedItems", "unevaluatedProperties"})

_DANGLING = "points to nothing in the schema, which Gemini refuses: anything is let through there"
_CUT = "leads back to itself without a property between, which Gemini refuses: anything is let through there"
_FREED = "a circle through required properties, which Gemini refuses: told in the description instead"
_FALSE = "no value is allowed here, which Gemini has no word for: told in the description"


def clean_json_schema(schema: JsonObject, path: str = "") -> tuple[JsonObject, tuple[Notice, ...]]:
    """The schema as the native fields take it, and what of its meaning had to change. Never raises.

    path: what notices call the schema. What only says the same in other words (annotations beside $ref, `true`, a
    constant) has no notice. The input is not modified.
    """
    if not _may_break(schema):
        return schema, ()
    document = Document(schema)
    freed, cut = _find_circles(schema, document)
    cleaner = _Cleaner(document, freed, cut)
    cleaned = cleaner.clean(schema, "", 0)
    notices = []
    for what, places in cleaner.changes.items():
        where = ".".join(filter(None, (path, places[0])))
        more = f" (and at {len(places) - 1} more places)" if len(places) > 1 else ""
        notices.append(Notice(message=f"{where or 'the schema'}: {what}{more}", param=path or None))
    return cleaned, tuple(notices)


def _may_break(schema: JsonObject) -> bool:
    """Whether there is anything to change at all: most schemas have nothing, and each request brings dozens."""
    waiting: list[Any] = [schema]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            if True in value or False in value:  # 1 and 0 too: they only cost time
                return True
            waiting += [one for one in value if isinstance(one, dict | list)]
            continue
        if "$ref" in value or "const" in value:
            return True
        for keyword, one in value.items():
            if isinstance(one, dict | list):
                waiting.append(one)
            elif isinstance(one, bool) and keyword not in _MAY_BE_BOOLEAN:
                return True
    return False


class _Cleaner:
    """Rewrites one schema. `changes` says what lost its meaning, and where."""

    def __init__(self, document: Document, freed: Mapping[int, frozenset[str]], cut: frozenset[int]) -> None:
        self._document = document
        self._freed = freed
        self._cut = cut
        self.changes: dict[str, list[str]] = {}

    def _change(self, what: str, place: str) -> None:
        self.changes.setdefault(what, []).append(place)

    def _any(self, value: Any, place: str, depth: int) -> Any:
        """A schema at a place where a boolean is not known."""
        if value is True:
            return {}
        if value is False:
            self._change(_FALSE, place)
            return {"not": {}, "description": "(No value may stand here.)"}
        return self.clean(value, place, depth) if isinstance(value, dict) else value

    def clean(self, schema: JsonObject, place: str, depth: int) -> JsonObject:
        """The same object where nothing had to change."""
        if depth > _MOST_DEPTH:
            return schema
        result = dict(schema)
        for keyword, value in schema.items():
            here = f"{place}.{keyword}" if place else keyword
            if keyword in ONE and is_schema(value):
                if not (isinstance(value, bool) and keyword in _MAY_BE_BOOLEAN):
                    result[keyword] = self._any(value, here, depth + 1)
            elif keyword in MANY and isinstance(value, list):
                result[keyword] = [self._any(one, f"{here}[{n}]", depth + 1) for n, one in enumerate(value)]
            elif keyword in MAPS and isinstance(value, dict):
                result[keyword] = {k: self._any(one, f"{here}.{k[:64]}", depth + 1) for k, one in value.items()}
        self._constant(result)
        if schema.get("items") is False and isinstance(schema.get("prefixItems"), list):
            result.setdefault("maxItems", len(schema["prefixItems"]))
        freed = self._freed.get(id(schema))
        if freed:
            names = [name for name in schema["required"] if name in freed]
            result["required"] = [name for name in schema["required"] if name not in freed]
            result["description"] = _with_hint(result, f"Always with {', '.join(name[:64] for name in names)}.")
            self._change(_FREED, f"{place}.required" if place else "required")
        result = self._reference(schema, result, place)
        return schema if _is_same(schema, result) else result

    def _constant(self, result: JsonObject) -> None:
        """`const` is not among the keywords that are held to; an enum of one is, for texts and numbers."""
        value = result.get("const")
        if isinstance(value, str | int | float) and not isinstance(value, bool) and "enum" not in result:
            del result["const"]
            result["enum"] = [value]

    def _reference(self, schema: JsonObject, result: JsonObject, place: str) -> JsonObject:
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            return result
        rest = {keyword: value for keyword, value in result.items() if keyword != "$ref"}
        is_dangling = self._document.target(reference) is MISSING
        if is_dangling or id(schema) in self._cut:
            self._change(_DANGLING if is_dangling else _CUT, place)
            return rest | {"description": _with_hint(rest, f"As in {reference[:100]}.")}
        if all(keyword.startswith("$") for keyword in rest):
            return result
        if "anyOf" not in rest:
            return rest | {"anyOf": [{"$ref": reference}]}
        others = rest.get("allOf")
        return rest | {"allOf": [*(others if isinstance(others, list) else ()), {"$ref": reference}]}


def _with_hint(schema: JsonObject, hint: str) -> str:
    own = schema.get("description")
    return f"{own}\n({hint})" if isinstance(own, str) and own else f"({hint})"


def _is_same(before: JsonObject, after: JsonObject) -> bool:
    """Whether every schema in it is the very object that it was."""
    if before.keys() != after.keys():
        return False
    for keyword, value in before.items():
        other = after[keyword]
        if value is other:
            continue
        if isinstance(value, list) and isinstance(other, list):
            if len(value) != len(other) or any(one is not two for one, two in zip(value, other, strict=True)):
                return False
        elif isinstance(value, dict) and isinstance(other, dict) and keyword in MAPS:
            if any(value[name] is not other[name] for name in value):
                return False
        else:
            return False
    return True


# --- circles ---------------------------------------------------------------------------------------------------

_Edge = tuple[str | None, int]  # the required property that it leads through, if any; the schema that it leads to
_Edges = dict[int, list[_Edge]]


def _find_circles(root: JsonObject, document: Document) -> tuple[dict[int, frozenset[str]], frozenset[int]]:
    """What makes circles that the API refuses: required properties by their object's id, and ids of $ref schemas.

    A circle does no harm where a value can end it, so only the other links are followed. In what is still a circle
    then, required properties are freed; where it has none, its $refs are cut.
    """
    edges, references = _read_edges(root, document)
    groups = _groups(edges)
    freed: dict[int, frozenset[str]] = {}
    for node, links in edges.items():
        names = frozenset(name for name, other in links if name is not None and groups[node] == groups[other])
        if names:
            freed[node] = names
            edges[node] = [link for link in links if link[0] not in names]
    groups = _groups(edges)
    return freed, frozenset(node for node, target in references.items() if groups[node] == groups[target])


def _read_edges(root: JsonObject, document: Document) -> tuple[_Edges, dict[int, int]]:
    """The links that no value of a schema can do without, for all schemas of a document; and what each $ref means."""
    edges: _Edges = {}
    references: dict[int, int] = {}
    waiting: list[Any] = [root]
    while waiting:
        schema = waiting.pop()
        if id(schema) in edges:
            continue
        links: list[_Edge] = []
        edges[id(schema)] = links
        if not isinstance(schema, dict):
            continue
        is_needed = _needs(schema)
        for keyword, name, child in children(schema):
            waiting.append(child)
            if is_needed(keyword, name):
                links.append((str(name) if keyword == "properties" else None, id(child)))
        reference = schema.get("$ref")
        target = document.target(reference) if isinstance(reference, str) else MISSING
        if target is not MISSING:
            waiting.append(target)
            links.append((None, id(target)))
            references[id(schema)] = id(target)
    return edges, references


def _needs(schema: JsonObject) -> Callable[[str, str | int | None], bool]:
    """Whether every value that fits a schema holds one that fits what stands under a keyword, as the API sees it. What
    all of its children ask of the schema is worked out once."""
    types, given, least = schema.get("type"), schema.get("required"), schema.get("minItems")
    is_nullable = isinstance(types, list) and "null" in types
    required = frozenset(name for name in given if isinstance(name, str)) if isinstance(given, list) else frozenset()
    has_items = isinstance(least, int | float) and least > 0
    closed = {
        keyword
        for keyword in ("anyOf", "oneOf")
        if isinstance(schema.get(keyword), list)
        and not any(isinstance(one, dict) and one.get("type") == "null" for one in schema[keyword])
    }

    def is_needed(keyword: str, name: str | int | None) -> bool:
        if is_nullable:
            return False
        match keyword:
            case "properties":
                return name in required
            case "items" | "prefixItems":
                return has_items
            case "anyOf" | "oneOf":
                return keyword in closed
            case _:
                return keyword == "allOf"

    return is_needed


def _groups(edges: Mapping[int, Sequence[_Edge]]) -> dict[int, int]:
    """Schemas that lead to each other have the same number: strongly connected components, after Kosaraju."""
    order: list[int] = []
    seen: set[int] = set()
    for start in edges:
        stack = [(start, False)]
        while stack:
            node, is_done = stack.pop()
            if is_done:
                order.append(node)
            elif node not in seen:
                seen.add(node)
                stack.append((node, True))
                stack += [(other, False) for _, other in edges[node] if other not in seen]
    backwards: dict[int, list[int]] = {node: [] for node in edges}
    for node, links in edges.items():
        for _, other in links:
            backwards[other].append(node)
    groups: dict[int, int] = {}
    for start in reversed(order):
        waiting = [start]
        while waiting:
            node = waiting.pop()
            if node not in groups:
                groups[node] = start
                waiting += backwards[node]
    return groups
