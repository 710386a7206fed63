"""All that a JSON Schema says of one place, merged into one value: its own words, what it refers to, its allOf.

Alternatives (anyOf, oneOf) are collected, not followed. Bounded in depth and in work, since small definitions that
refer to each other twice grow without end; what lies beyond is told by its type alone. `Losses` remembers what could
not be carried.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from ....conversation import Notice
from ....jsontext import JsonObject
from .references import MISSING, REFERENCES, Document
from .words import (
    KEPT,
    KIND_OF,
    MERGED,
    SILENT,
    TYPES,
    common_types,
    fits,
    is_number,
    key,
    listed,
    shown,
    strings,
    types_of,
)

# How often a schema may come up within itself; then it is cut. Three levels of a tree are told.
_MOST_ROUNDS = 3
# References, allOf and alternatives that lead to each other: far below Python's recursion limit.
_MOST_STEPS = 120
# Schemas looked at in all, long lists counting more: a tenth of a second.
_MOST_SCHEMAS = 5_000
_LONG = ("enum", "properties", "required")

_NO_PLACE = "has no place in Gemini's Schema, told in the description"
_TOO_MUCH = "goes deeper or is longer than is told: from there on only the type is"


class Losses:
    """What Schema has no place for: one notice for each keyword, with the first place and how many more there are."""

    def __init__(self) -> None:
        self._lost: dict[str, tuple[str, dict[str, None]]] = {}
        self._unknown: dict[str, None] = {}

    def add(self, keyword: str, path: str, what: str = _NO_PLACE) -> None:
        self._lost.setdefault(keyword, (what, {}))[1][path] = None

    def add_unknown(self, keyword: str) -> None:
        self._unknown[keyword[:64]] = None

    def notices(self, path: str) -> tuple[Notice, ...]:
        """path: what the whole schema is called."""
        found = []
        for keyword, (what, places) in self._lost.items():
            where = ".".join(filter(None, (path, next(iter(places)))))
            more = f" (and at {len(places) - 1} more places)" if len(places) > 1 else ""
            found.append(Notice(message=f"{where}: {keyword} {what}{more}", param=path))
        if self._unknown:
            names = ", ".join(list(self._unknown)[:5]) + (" ..." if len(self._unknown) > 5 else "")
            found.append(Notice(message=f"{path}: not known to JSON Schema, left out: {names}", param=path))
        return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the conversion stands. trail: the schemas that references led through on the way here."""

    path: str = ""
    depth: int = 0
    trail: tuple[int, ...] = ()
    may_restore: bool = True

    def below(self, step: str, flat: "Flat") -> "Place":
        path = f"{self.path}.{step}" if self.path else step
        return replace(self, path=path, depth=self.depth + 1, trail=self.trail + flat.trail)


@dataclass(frozen=True, slots=True)
class Union:
    """Alternatives, and the references that led to them: one of these again says nothing new."""

    keyword: str
    alternatives: tuple[Any, ...]
    chain: tuple[int, ...]


@dataclass(slots=True)
class Flat:
    """All that holds at one place. Each property and the items have several schemas where several speak of them."""

    types: tuple[str, ...] | None = None
    enum: tuple[Any, ...] | None = None
    required: dict[str, None] = field(default_factory=dict)
    properties: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    items: tuple[Any, ...] = ()
    prefix: tuple[Any, ...] = ()
    unions: tuple[Union, ...] = ()
    words: JsonObject = field(default_factory=dict)  # all other keywords
    texts: tuple[str, ...] = ()  # descriptions
    hints: tuple[str, ...] = ()
    trail: tuple[int, ...] = ()
    has_properties: bool = False
    is_closed: bool = False  # no properties but those named
    is_short: bool = False  # no items but those of the tuple
    is_circle: bool = False  # a reference led back to this very place
    is_impossible: bool = False

    def copy(self) -> "Flat":
        """For an alternative to be added; unions and circles are not copied."""
        return replace(
            self,
            required=dict(self.required),
            properties=dict(self.properties),
            words=dict(self.words),
            unions=(),
            is_circle=False,
        )

    def is_only(self, base: "Flat") -> bool:
        """Whether nothing was added to a copy of `base` but descriptions."""
        return replace(self, texts=(), trail=(), is_circle=False) == replace(base.copy(), texts=(), trail=())


class Merger:
    """Merges the schemas of one document. `losses` collects what is told in words only."""

    def __init__(self, root: JsonObject, losses: Losses) -> None:
        self._document = Document(root)
        self._losses = losses
        self._left = _MOST_SCHEMAS
        self._steps = 0

    @property
    def is_spent(self) -> bool:
        """Whether nothing more is looked at."""
        return self._left < 0

    @property
    def is_deep(self) -> bool:
        return self._steps > _MOST_STEPS

    def enter(self) -> None:
        """A step deeper at the same place; `leave` ends it."""
        self._steps += 1

    def leave(self) -> None:
        self._steps -= 1

    def add(self, schema: Any, flat: Flat, place: Place, chain: tuple[int, ...] = ()) -> None:
        """Add all that a schema says. chain: the references within this place that led to it."""
        self._left -= 1
        if schema is False:
            flat.is_impossible = True
        if not isinstance(schema, dict):
            return
        self._left -= sum(len(schema[word]) for word in _LONG if isinstance(schema.get(word), list | dict)) // 20
        if self.is_spent or self.is_deep:
            self.cut(schema, flat, place)
            return
        self.enter()
        try:
            self._add_own(schema, flat, place, chain)
            for word in REFERENCES:
                if isinstance(schema.get(word), str):
                    self._follow(schema[word], flat, place, chain)
            members = schema.get("allOf")
            for member in members if isinstance(members, list) else ():
                self.add(member, flat, place, (*chain, id(member)))
        finally:
            self.leave()

    def cut(self, schema: Any, flat: Flat, place: Place, name: str = "") -> None:
        """Add only the type of a schema that goes on too far."""
        self._losses.add("nesting", place.path, _TOO_MUCH)
        flat.hints += (f"goes on in the form of {name[:100]}" if name else "goes on",)
        types = types_of(schema)
        if types is not None:
            flat.types = common_types(flat.types, types)
            flat.has_properties = True  # it is no free object: what it holds is known

    def _follow(self, reference: str, flat: Flat, place: Place, chain: tuple[int, ...]) -> None:
        target = self._document.target(reference)
        if target is MISSING:
            what = "points to nothing in the schema: anything is let through"
            self._losses.add(reference[:100], place.path, what)
            flat.hints += (f"as in {reference[:100]}",)
        elif id(target) in chain:
            flat.is_circle = True
        elif place.trail.count(id(target)) >= _MOST_ROUNDS:
            self.cut(target, flat, place, reference)
        elif id(target) not in flat.trail:
            flat.trail += (id(target),)
            self.add(target, flat, place, (*chain, id(target)))

    def _add_own(self, schema: JsonObject, flat: Flat, place: Place, chain: tuple[int, ...]) -> None:
        self._add_types(schema, flat, place)
        self._add_values(schema, flat, place)
        self._add_object(schema, flat)
        self._add_array(schema, flat, place)
        for word in ("anyOf", "oneOf"):
            alternatives = schema.get(word)
            if isinstance(alternatives, list) and alternatives:
                flat.unions += (Union(word, tuple(alternatives), chain),)
        text = schema.get("description")
        if isinstance(text, str) and text not in flat.texts:
            flat.texts += (text,)
        for word, value in schema.items():
            if word in KEPT:
                self._add_word(word, value, schema, flat, place)
            elif word not in MERGED and word not in SILENT and not word.startswith("x-"):
                self._losses.add_unknown(word)

    def _add_types(self, schema: JsonObject, flat: Flat, place: Place) -> None:
        if "type" not in schema:
            return
        written = schema["type"]
        named = strings(written if isinstance(written, list) else [written])
        types = tuple(dict.fromkeys(word.lower() for word in named if word.lower() in TYPES))
        if not named or any(word.lower() not in TYPES for word in named):
            self._losses.add("type", place.path, f"{shown(written)} is none of JSON Schema's types, left out")
        if types:
            if schema.get("nullable") is True and "null" not in types:
                types = (*types, "null")
            flat.types = common_types(flat.types, types)
            flat.is_impossible = flat.is_impossible or not flat.types

    def _add_values(self, schema: JsonObject, flat: Flat, place: Place) -> None:
        """const and enum: what is in all of them."""
        given = [schema["enum"]] if isinstance(schema.get("enum"), list) else []
        if "const" in schema:
            given.append([schema["const"]])
        types = types_of(schema) if "type" in schema else None
        for values in given:
            if values and types is not None and not any(fits(value, types) for value in values):
                # Nothing can fit. Whoever wrote {"type": "integer", "enum": ["1", "2"]} meant something all the same.
                self._losses.add("enum", place.path, "has no value of the type beside it, told in the description")
                flat.hints += (f"one of {listed(values)}",)
                continue
            keyed = {key(value): value for value in values}
            if flat.enum is None:
                flat.enum = tuple(keyed.values())
            else:
                flat.enum = tuple(value for value in flat.enum if key(value) in keyed)
            flat.is_impossible = flat.is_impossible or not flat.enum

    def _add_object(self, schema: JsonObject, flat: Flat) -> None:
        properties = schema.get("properties")
        if isinstance(properties, dict):
            flat.has_properties = True
            for name, value in properties.items():
                flat.properties[name] = (*flat.properties.get(name, ()), value)
        flat.required |= dict.fromkeys(strings(schema.get("required")))
        if schema.get("additionalProperties") is False or schema.get("unevaluatedProperties") is False:
            flat.is_closed = True

    def _add_array(self, schema: JsonObject, flat: Flat, place: Place) -> None:
        items, prefix = schema.get("items", MISSING), schema.get("prefixItems")
        if isinstance(items, list):  # the tuples of draft 7 and before
            items, prefix = schema.get("additionalItems", MISSING), items
        if isinstance(prefix, list):
            if flat.prefix and tuple(prefix) != flat.prefix:
                self._tell_also("prefixItems", prefix, flat, place)
            flat.prefix = flat.prefix or tuple(prefix)
        if isinstance(items, dict):
            flat.items += (items,)
        elif items is False or schema.get("unevaluatedItems") is False:
            flat.is_short = True

    def _add_word(self, word: str, value: Any, schema: JsonObject, flat: Flat, place: Place) -> None:
        if value is True and word in ("exclusiveMinimum", "exclusiveMaximum"):  # draft 4: a flag beside the bound
            value = schema.get("minimum" if word == "exclusiveMinimum" else "maximum")
        before = flat.words.get(word, MISSING)
        if before is MISSING:
            flat.words[word] = value
        elif word not in KIND_OF and word not in ("if", "not", "format"):
            return  # notes to readers: the outer one is the nearer one
        elif is_number(before) and is_number(value) and word.startswith(("min", "exclusiveMin")):
            flat.words[word] = max(before, value)
        elif is_number(before) and is_number(value) and word.startswith(("max", "exclusiveMax")):
            flat.words[word] = min(before, value)
        elif key(before) != key(value) and not isinstance(value, bool):
            self._tell_also(word, value, flat, place)

    def _tell_also(self, word: str, value: Any, flat: Flat, place: Place) -> None:
        """A second one of what Schema, and our hints, have only one place for."""
        flat.hints += (f"{word} {shown(value)} as well",)
        self._losses.add(word, place.path)
