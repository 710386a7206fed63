"""JSON Schema -> Gemini's own Schema, for upstreams and models without the fields that take JSON Schema.

Follows the API reference of `Schema` (v1beta) and what the API refuses there: unknown names, a list as `type`, enums
of anything but text, an empty text in an enum, `required` or `items` beside another type, an array without `items`, a
place without a type, and anything at all beside `any_of`. What Schema cannot say is told in the description and in
one notice for each keyword; no property is made up.

    references     resolved in place; what leads back into itself is cut after a few rounds
    allOf          merged; oneOf -> anyOf, which stands alone: all else that holds there moves into its branches
    type lists     anyOf; null -> nullable
    const, enum    an enum of texts; numbers are spelled out there, and `restore_value` turns the answer's back
    tuples         one schema for all items
    anything       text, number, boolean or object, since every place needs a type
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .... import jsontext
from ....conversation import Notice
from ....jsontext import JsonObject
from .merge import Flat, Losses, Merger, Place, Union
from .references import MISSING
from .words import (
    COUNTS,
    FLAGS,
    FORMATS,
    HINTS,
    KIND_OF,
    NUMERIC,
    described,
    fits,
    is_number,
    key,
    kind_of_value,
    listed,
    obeys,
    shown,
    strings,
    types_of,
)

_MOST_DEPTH = 24  # of the Schema that is made; more than the API takes
_MOST_COMPARED = 30  # branches of a oneOf that are compared with each other
_ANYTHING = ("string", "number", "boolean", "object", "null")


@dataclass(frozen=True, slots=True, kw_only=True)
class Restore:
    """How the values of an answer become those of the client's schema: texts of an enum stand for other values."""

    values: Mapping[str, Any] = field(default_factory=dict)
    properties: Mapping[str, "Restore"] = field(default_factory=dict)
    items: "Restore | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """A Schema, what it could not carry, and how to turn answers back (None: they are as they should be)."""

    schema: JsonObject
    notices: tuple[Notice, ...]
    restore: Restore | None


def to_gemini_schema(
    schema: JsonObject, path: str, *, is_arguments: bool = False, may_restore: bool = True
) -> Converted:
    """The Schema that says the same, as far as Schema can. Never raises; the input is not modified.

    path: what notices call the schema. is_arguments: it describes a function's arguments, so its root must be one
    object: alternatives there are joined. may_restore: answers go through `restore_value`; without it an enum of
    numbers is told as bounds and a hint, since texts would reach the client as texts.
    """
    losses = Losses()
    converter = _Converter(Merger(schema, losses), losses)
    place = Place(may_restore=may_restore)
    made = converter.arguments(schema, place) if is_arguments else converter.place([schema], place)
    if made is None:
        losses.add("schema", "", "lets no value through")
        made = _Made({"type": "OBJECT", "description": "(no value fits)"})
    return Converted(schema=made.schema, notices=losses.notices(path), restore=made.restore)


def restore_value(value: Any, restore: Restore | None) -> Any:
    """A parsed answer with the client's own values. `value` is not modified."""
    if restore is None:
        return value
    if isinstance(value, str):
        return restore.values.get(value, value)
    if isinstance(value, dict):
        return {name: restore_value(one, restore.properties.get(name)) for name, one in value.items()}
    if isinstance(value, list):
        return [restore_value(one, restore.items) for one in value]
    return value


@dataclass(frozen=True, slots=True)
class _Made:
    schema: JsonObject
    restore: Restore | None = None


class _Converter:
    """Makes Schemas of what the merger says of a place. A method that gives None found that no value fits there."""

    def __init__(self, merger: Merger, losses: Losses) -> None:
        self._merger = merger
        self._losses = losses

    def place(self, schemas: Sequence[Any], place: Place) -> _Made | None:
        """The Schema of a place where all these hold."""
        flat = Flat()
        for schema in schemas:
            if place.depth > _MOST_DEPTH:
                self._merger.cut(schema, flat, place)
            else:
                self._merger.add(schema, flat, place)
        return self._make(flat, place)

    def _make(self, flat: Flat, place: Place) -> _Made | None:
        if flat.is_impossible:
            return None
        if flat.unions and self._merger.is_deep:
            self._losses.add(flat.unions[0].keyword, place.path, "leads too deep and was left out")
            flat.unions = ()
        if flat.unions:
            return self._union(flat, place)
        if flat.enum is not None:
            flat.enum = tuple(one for one in flat.enum if obeys(one, flat.words))
            if not flat.enum:
                return None
        if flat.enum is not None and any(kind_of_value(one) in ("string", *NUMERIC) for one in flat.enum):
            return self._enumerated(flat, place)
        return self._of_types(flat, place)

    # --- by type

    def _of_types(self, flat: Flat, place: Place) -> _Made | None:
        """One Schema for each type that is allowed, joined if there are several."""
        types = flat.types
        if types is None and flat.enum is not None:
            types = tuple(dict.fromkeys(kind_of_value(value) for value in flat.enum))
        if types is None:
            suggested: JsonObject = {"properties": None} if flat.has_properties or flat.required else {}
            suggested |= {"items": None} if flat.items or flat.prefix or flat.is_short else {}
            types = types_of(suggested | flat.words)
        if types is None:
            self._losses.add("any value", place.path, "is told as text, number, boolean or object")
            types, flat.has_properties = _ANYTHING, True
        if "number" in types:
            types = tuple(word for word in types if word != "integer")
        kinds = [word for word in types if word != "null"]
        inner = place if len(kinds) == 1 else replace(place, may_restore=False)
        made = [one for kind in kinds if (one := self._typed(kind, flat, inner)) is not None]
        has_null = "null" in types and (flat.enum is None or any(value is None for value in flat.enum))
        return _joined(made, has_null=has_null)

    def _typed(self, kind: str, flat: Flat, place: Place) -> _Made | None:
        values = None
        if flat.enum is not None:
            values = [value for value in flat.enum if fits(value, (kind,))]
            if not values:
                return None
        schema: JsonObject = {"type": kind.upper()}
        hints = list(flat.hints)
        made: _Made | None = _Made(schema)
        self._counts(kind, schema, flat, place)
        match kind:
            case "string":
                if isinstance(flat.words.get("pattern"), str):
                    schema["pattern"] = flat.words["pattern"]
            case "integer" | "number":
                self._bounds(schema, hints, flat, place)
            case "array":
                made = self._array(schema, hints, flat, place)
            case "object":
                made = self._object(schema, hints, flat, place)
        if made is not None:
            if values is not None:
                self._tell_values(kind, values, schema, hints, place)
            self._annotate(schema, hints, flat, place)
        return made

    def _annotate(self, schema: JsonObject, hints: list[str], flat: Flat, place: Place) -> None:
        """What every type has: format, title, default, example, and the description with its hints."""
        words = flat.words
        kind = schema["type"].lower()
        wanted = words.get("format")
        if isinstance(wanted, str) and wanted in FORMATS.get(kind, ()):
            schema["format"] = wanted
        elif isinstance(wanted, str) and wanted:
            hints.append(f"format {wanted[:64]}")
            self._losses.add("format", place.path)
        if isinstance(words.get("title"), str):
            schema["title"] = words["title"]
        if "default" in words:
            schema["default"] = words["default"]
        examples = words["examples"] if isinstance(words.get("examples"), list) else []
        if "example" in words or examples:
            schema["example"] = words["example"] if "example" in words else examples[0]
        if len(examples) > 1:
            hints.append(f"for example {listed(examples)}")
        hints += [flag for word, flag in FLAGS.items() if words.get(word) is True]
        family = "number" if kind == "integer" else kind
        for word, tell in HINTS.items():
            if word in words and KIND_OF.get(word, family) == family:
                told = tell(words[word], words)
                if told is not None:
                    hints.append(told)
                    self._losses.add(word, place.path)
        description = described(flat.texts, hints)
        if description:
            schema["description"] = description

    def _counts(self, kind: str, schema: JsonObject, flat: Flat, place: Place) -> None:
        for word in COUNTS.get(kind, ()):
            value = flat.words.get(word, MISSING)
            if value is MISSING:
                continue
            if is_number(value) and 0 <= value < 2**63 and value == int(value):
                schema[word] = int(value)
            else:
                self._losses.add(word, place.path, f"{shown(value)} is no count, left out")

    def _bounds(self, schema: JsonObject, hints: list[str], flat: Flat, place: Place) -> None:
        """minimum and maximum, and the exclusive ones: exact for whole numbers, else with a hint."""
        words = flat.words
        for word, exclusive, sign, told in (
            ("minimum", "exclusiveMinimum", 1, "greater"),
            ("maximum", "exclusiveMaximum", -1, "less"),
        ):
            bounds = [words[word]] if is_number(words.get(word)) else []
            beyond: Any = words.get(exclusive)
            if is_number(beyond) and schema["type"] == "INTEGER":
                bounds.append(sign * (math.floor(sign * beyond) + 1))  # the next whole number
            elif is_number(beyond):
                bounds.append(beyond)
                hints.append(f"{told} than {shown(beyond)}")
                self._losses.add(exclusive, place.path)
            if bounds:
                schema[word] = max(bounds) if sign > 0 else min(bounds)

    def _array(self, schema: JsonObject, hints: list[str], flat: Flat, place: Place) -> _Made:
        below = place.below("items", flat)
        if flat.is_short:
            schema["maxItems"] = min(len(flat.prefix), schema.get("maxItems", len(flat.prefix)))
        made: _Made | None = None
        if flat.prefix:
            rest = [{"allOf": list(flat.items)}] if flat.items else []
            made = self.place([{"anyOf": [*flat.prefix, *rest]}], below)
            if len(flat.prefix) > 1 or rest:
                then = f"; then {shown(flat.items[0])}" if rest else ""
                hints.append(f"items in this order: {listed(flat.prefix)}{then}")
                self._losses.add("prefixItems", place.path)
        elif schema.get("maxItems") != 0:
            made = self.place(flat.items or [{}], below)
        if made is None:  # no item fits: only the empty list does
            schema["maxItems"] = 0
            made = _Made({"type": "STRING"})
        schema["items"] = made.schema
        return _Made(schema, Restore(items=made.restore) if made.restore is not None else None)

    def _object(self, schema: JsonObject, hints: list[str], flat: Flat, place: Place) -> _Made | None:
        properties: JsonObject = {}
        restores: dict[str, Restore] = {}
        for name, schemas in flat.properties.items():
            below = place.below(f"properties.{name[:64]}", flat)
            made = self.place(schemas, below)
            if made is None and name in flat.required:
                return None
            if made is None:
                self._losses.add("schema", below.path, "lets no value through: the property was left out")
                continue
            properties[name] = made.schema
            if made.restore is not None:
                restores[name] = made.restore
        if properties:
            schema["properties"] = properties
        required = [name for name in flat.required if name in properties]
        if required:
            schema["required"] = required
        if len(properties) > 1:
            # Without it, models up to 2.0 write properties by the alphabet.
            given = [name for name in strings(flat.words.get("propertyOrdering")) if name in properties]
            schema["propertyOrdering"] = list(dict.fromkeys([*given, *properties]))
        self._tell_others(hints, flat, place, has_properties=bool(properties))
        return _Made(schema, Restore(properties=restores) if restores else None)

    def _tell_others(self, hints: list[str], flat: Flat, place: Place, *, has_properties: bool) -> None:
        """Properties that an object may or must have, but of which Schema can say nothing."""
        unknown = [name for name in flat.required if name not in flat.properties]
        if unknown:
            hints.append(f"always with {listed(unknown)}")
            self._losses.add("required", place.path, "names properties that it does not describe, told in words")
        extra = flat.words.get("additionalProperties")
        if isinstance(extra, dict) and extra:
            hints.append(f"{'further' if has_properties else 'any'} properties, each {shown(extra)}")
            self._losses.add("additionalProperties", place.path)
            return
        # At the root of a function {"type": "object"} is the usual way to say that it has no arguments.
        is_free = not flat.is_closed and (extra is not None or (place.depth > 0 and not flat.has_properties))
        if is_free and not has_properties:
            hints.append("any properties")

    # --- enums

    def _enumerated(self, flat: Flat, place: Place) -> _Made | None:
        """An enum with texts or numbers in it: one of texts where answers can be turned back, else by type."""
        values = [value for value in flat.enum or () if flat.types is None or fits(value, flat.types)]
        scalars = [value for value in values if value is not None]
        has_others = any(not isinstance(value, str) for value in scalars)
        is_nested = any(isinstance(value, list | dict) for value in scalars)
        if is_nested or not scalars or (has_others and (not place.may_restore or len(scalars) == 1)):
            return self._of_types(flat, place)
        spelled: dict[str, Any] = {value: value for value in scalars if isinstance(value, str)}
        for value in scalars:
            spelled.setdefault(value if isinstance(value, str) else jsontext.text(value), value)
        schema: JsonObject = {"type": "STRING"}
        hints = list(flat.hints)
        self._tell_texts(list(spelled), schema, hints, place)
        back = {text: value for text, value in spelled.items() if not isinstance(value, str)}
        texts = {key(value): text for text, value in spelled.items()}
        words = {word: value for word, value in flat.words.items() if word not in KIND_OF and word != "examples"}
        for word in ("default", "example"):
            if word in words:
                words[word] = texts.get(key(words[word]), words[word])
        if words.get("format") in (*FORMATS["integer"], *FORMATS["number"]):
            del words["format"]
        self._annotate(schema, hints, replace(flat, words=words), place)
        has_null = any(value is None for value in values)
        return _joined([_Made(schema, Restore(values=back) if back else None)], has_null=has_null)

    def _tell_texts(self, texts: Sequence[str], schema: JsonObject, hints: list[str], place: Place) -> None:
        """An enum of texts. The API refuses an empty one in it."""
        if "" in texts:
            self._losses.add('""', place.path, "cannot stand in an enum of Gemini's: left out of the choices")
        if any(texts):
            schema["enum"] = [text for text in texts if text]
        else:
            schema["maxLength"] = 0
            hints.append("always empty")

    def _tell_values(
        self, kind: str, values: Sequence[Any], schema: JsonObject, hints: list[str], place: Place
    ) -> None:
        """The values of an enum in a type that can have none."""
        if kind == "string":
            self._tell_texts(values, schema, hints, place)
            return
        if kind == "boolean" and len(values) == 2:
            return
        if kind in NUMERIC:
            schema["minimum"], schema["maximum"] = min(values), max(values)
            if len(values) == 1:
                return
        hints.append(f"{'always' if len(values) == 1 else 'one of'} {listed(values)}")
        self._losses.add("enum", place.path)

    # --- alternatives

    def _union(self, flat: Flat, place: Place) -> _Made | None:
        """anyOf and oneOf: the first of them branches, each branch with all else that holds here."""
        union = flat.unions[0]
        others = [one for one in union.alternatives if types_of(one) != ("null",)]
        is_lone = len(others) == 1 and len(flat.unions) == 1
        inner = place if is_lone else replace(place, may_restore=False)
        branches: list[_Made] = []
        has_null = False
        for alternative in union.alternatives:
            if self._merger.is_spent and branches:
                self._losses.add(union.keyword, place.path, "has more alternatives than are told")
                break
            branch = self._branch(flat, union, alternative, inner)
            if branch is not None and branch.schema.get("type") == "NULL":
                has_null = True
            elif branch is not None:
                branches.append(branch)
        made = _joined(branches, has_null=has_null)
        if made is not None and union.keyword == "oneOf" and not _are_apart(made.schema.get("anyOf", ())):
            self._losses.add("oneOf", place.path, "is told as anyOf: that only one may fit is told in words")
            first = made.schema["anyOf"][0]
            first["description"] = described([first.get("description", "")], ["only one of these forms may fit"])
        return made

    def _branch(self, flat: Flat, union: Union, alternative: Any, place: Place) -> _Made | None:
        """One alternative with all else that holds here."""
        branch = flat.copy()
        title = branch.words.pop("title", None)
        self._merger.enter()
        try:
            self._merger.add(alternative, branch, place, (*union.chain, id(alternative)))
            if title is not None:
                branch.words.setdefault("title", title)
            if branch.is_circle and branch.is_only(flat):
                return None  # "this, or that again": nothing but this
            branch.unions += flat.unions[1:]
            return self._make(branch, place)
        finally:
            self._merger.leave()

    # --- arguments

    def arguments(self, schema: JsonObject, place: Place) -> _Made | None:
        """A function's arguments: one object. Its alternatives are joined, since no union may stand there."""
        flat = Flat()
        self._merger.add(schema, flat, place)
        self._join_alternatives(flat, place)
        if flat.types is not None and "object" not in flat.types:
            self._losses.add("type", "", "is no object, as a function's arguments always are: they are not described")
            return _Made({"type": "OBJECT"})
        return self._typed("object", replace(flat, enum=None), place)

    def _forms(self, union: Union, place: Place) -> list[Flat]:
        """The alternatives that are objects, each with its own alternatives joined."""
        forms = []
        for alternative in union.alternatives:
            form = Flat()
            self._merger.enter()
            try:
                self._merger.add(alternative, form, place, (*union.chain, id(alternative)))
                self._join_alternatives(form, place)
            finally:
                self._merger.leave()
            is_circle = form.is_circle and form.is_only(Flat())
            if not form.is_impossible and not is_circle and "object" in (form.types or ("object",)):
                forms.append(form)
        return forms

    def _join_alternatives(self, flat: Flat, place: Place) -> None:
        """Make one object of alternatives: every property of all, required what all require, and a hint."""
        while flat.unions:
            union, flat.unions = flat.unions[0], flat.unions[1:]
            forms = self._forms(union, place)
            if not forms:
                continue
            flat.trail += tuple(step for form in forms for step in form.trail)
            flat.has_properties = True
            for name in dict.fromkeys(name for form in forms for name in form.properties):
                variants = [{"allOf": list(form.properties[name])} for form in forms if name in form.properties]
                if name not in flat.properties:
                    flat.properties[name] = (variants[0] if len(variants) == 1 else {"anyOf": variants},)
            flat.required |= {name: None for name in forms[0].required if all(name in one.required for one in forms)}
            flat.texts += tuple(text for form in forms for text in form.texts if text not in flat.texts)
            if len(forms) > 1:
                sets = listed([list(form.required or form.properties) for form in forms], " or ")
                flat.hints += (f"one of these sets of properties: {sets}",)
                self._losses.add(union.keyword, place.path, "is joined into one object, its forms are told in words")


# --- unions of what was made -----------------------------------------------------------------------------------


def _joined(made: Sequence[_Made], *, has_null: bool) -> _Made | None:
    """One Schema for several alternatives: without doubles, a union within a union opened."""
    found = [branch for one in made for branch in one.schema.get("anyOf", [one.schema])]
    if len(found) > 1 and all(branch.keys() == {"type", "enum"} for branch in found):
        # Constants, one a form: together they are one enum.
        found = [{"type": "STRING", "enum": list(dict.fromkeys(text for branch in found for text in branch["enum"]))}]
    branches = list({key(branch): branch for branch in found}.values()) if len(found) > 1 else found
    if not branches:
        return _Made({"type": "NULL"}) if has_null else None
    if has_null:
        branches = [branches[0] | {"nullable": True}, *branches[1:]]
    if len(branches) > 1:
        return _Made({"anyOf": branches})
    return _Made(branches[0], made[0].restore)


def _are_apart(branches: Sequence[JsonObject]) -> bool:
    """Whether no value can fit two of these, as far as is easily seen."""
    if len(branches) > _MOST_COMPARED:
        return False
    return all(_excludes(one, other) for n, one in enumerate(branches) for other in branches[n + 1 :])


def _excludes(one: JsonObject, other: JsonObject) -> bool:
    kinds = {one.get("type"), other.get("type")}
    if one.get("nullable") and other.get("nullable"):
        return False
    if kinds == {"OBJECT"}:
        # Told apart by a property that both must have, such as a constant.
        both = set(one.get("required", ())) & set(other.get("required", ()))
        pairs = [(one["properties"][name], other["properties"][name]) for name in both]
        return any(first.get("type") != "OBJECT" and _excludes(first, second) for first, second in pairs)
    if len(kinds) > 1:
        return None not in kinds and not kinds <= {"INTEGER", "NUMBER"}
    if "enum" in one and "enum" in other:
        return not set(one["enum"]) & set(other["enum"])
    lowest = max(one.get("minimum", -math.inf), other.get("minimum", -math.inf))
    return bool(lowest > min(one.get("maximum", math.inf), other.get("maximum", math.inf)))
