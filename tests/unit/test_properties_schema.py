"""Laws of the conversion of schemas: whatever a client sends, Gemini takes what comes out, and it means the same."""

import copy

import pytest
from json_schemas import Endless, assert_accepted, is_valid, places, property_names

from agproxy.backends.gemini.schema import clean_json_schema, restore_value, to_gemini_schema
from agproxy.simulator.schema import Unsatisfiable, example

hypothesis = pytest.importorskip("hypothesis", reason="hypothesis is not installed")
st = pytest.importorskip("hypothesis.strategies")
given = hypothesis.given
quick = hypothesis.settings(derandomize=True, database=None, deadline=None, max_examples=150)

# Names that are keywords as well: a property may be called anything.
NAMES = st.sampled_from(["a", "b", "type", "enum", "$ref", "properties", "items", "required", "anyOf", "const"])
TYPES = ["string", "number", "integer", "boolean", "array", "object", "null"]
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.sampled_from([0.5, 2.0, "", "a", "b", "1"]))
REFERENCES = st.sampled_from(
    ["#", "#/$defs/A", "#/$defs/B", "#/properties/a", "#/anyOf/0", "#b", "u:x", "#/no", "no#/x"]
)


VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=5,
)


def wild_schemas():
    """Schemas as they might be, with every keyword, well used or not."""
    counts = st.sampled_from([0, 1, 3, -1, 2.0, 2.5, "x", None])

    def larger(inner):
        inner = st.one_of(st.booleans(), inner)
        maps = st.dictionaries(NAMES, inner, max_size=3)
        lists = st.lists(inner, max_size=3)
        keywords = {
            "type": st.one_of(st.sampled_from([*TYPES, "any", "STRING"]), st.lists(st.sampled_from(TYPES), max_size=3)),
            "properties": maps,
            "required": st.lists(NAMES, max_size=3),
            "additionalProperties": inner,
            "patternProperties": maps,
            "propertyNames": inner,
            "dependentRequired": st.just({"a": ["b"]}),
            "dependentSchemas": maps,
            "dependencies": maps,
            "items": st.one_of(inner, lists),
            "prefixItems": lists,
            "additionalItems": inner,
            "contains": inner,
            "uniqueItems": st.booleans(),
            "allOf": lists,
            "anyOf": lists,
            "oneOf": lists,
            "not": inner,
            "if": inner,
            "then": inner,
            "else": inner,
            "const": SCALARS,
            "enum": st.lists(st.one_of(SCALARS, st.just({"a": [1]})), max_size=4),
            "nullable": st.booleans(),
            "format": st.sampled_from(["date-time", "uri", "int32", "", 3]),
            "minimum": counts,
            "maximum": counts,
            "exclusiveMinimum": st.one_of(counts, st.booleans()),
            "exclusiveMaximum": st.one_of(counts, st.booleans()),
            "multipleOf": counts,
            "minItems": counts,
            "maxItems": counts,
            "minLength": counts,
            "maxProperties": counts,
            "pattern": st.sampled_from(["^a", "(", 3]),
            "title": st.sampled_from(["T", 3]),
            "description": st.sampled_from(["D", "E", "", 3]),
            "default": SCALARS,
            "examples": st.lists(SCALARS, max_size=2),
            "propertyOrdering": st.lists(NAMES, max_size=3),
            "$ref": REFERENCES,
            "$anchor": st.just("b"),
            "$id": st.just("u:x"),
            "$defs": st.fixed_dictionaries({}, optional={"A": inner, "B": inner}),
            "x-more": SCALARS,
            "unheard": SCALARS,
        }
        return st.lists(st.sampled_from(sorted(keywords)), max_size=6, unique=True).flatmap(
            lambda chosen: st.fixed_dictionaries({word: keywords[word] for word in chosen})
        )

    return st.recursive(st.just({}), larger, max_leaves=12)


def plain_schemas():
    """Schemas of which Gemini's Schema can say everything but the numbers of an enum, recursive ones too."""
    described = st.fixed_dictionaries({}, optional={"description": st.just("D"), "title": st.just("T")})
    leaves = st.one_of(
        st.sampled_from(["string", "number", "integer", "boolean", "null"]).map(lambda kind: {"type": kind}),
        st.lists(st.sampled_from(["string", "integer", "boolean", "null"]), min_size=1, unique=True).map(
            lambda kinds: {"type": kinds}
        ),
        st.lists(st.one_of(st.none(), st.integers(-9, 9), st.sampled_from(["a", "b", "1"])), min_size=1).map(
            lambda values: {"enum": values}
        ),
        st.one_of(st.integers(-9, 9), st.sampled_from(["a", 0.5])).map(lambda value: {"const": value}),
        st.builds(
            lambda low, more: {"type": "integer", "minimum": low, "maximum": low + more},
            st.integers(-5, 5),
            st.integers(0, 5),
        ),
        st.builds(
            lambda low, more: {"type": "string", "minLength": low, "maxLength": low + more},
            st.integers(0, 3),
            st.integers(0, 5),
        ),
        st.sampled_from(["#/$defs/A", "#/$defs/B"]).map(lambda reference: {"$ref": reference}),
    )

    def larger(inner):
        properties = st.dictionaries(NAMES, inner, max_size=3)
        objects = st.builds(
            lambda known, chosen: {
                "type": "object",
                "properties": known,
                "required": [name for name, is_chosen in zip(known, chosen, strict=False) if is_chosen],
            },
            properties,
            st.lists(st.booleans(), min_size=3, max_size=3),
        )
        arrays = st.builds(
            lambda one, least: {"type": "array", "items": one, "minItems": least}, inner, st.integers(0, 2)
        )
        several = st.lists(inner, min_size=1, max_size=3)
        unions = st.one_of(several.map(lambda all: {"anyOf": all}), several.map(lambda all: {"oneOf": all}))
        both = st.tuples(objects, objects).map(lambda pair: {"allOf": list(pair)})
        return st.tuples(st.one_of(objects, arrays, unions, both), described).map(lambda pair: pair[0] | pair[1])

    schemas = st.recursive(leaves, larger, max_leaves=10)
    return st.builds(lambda root, a, b: root | {"$defs": {"A": a, "B": b}}, schemas, schemas, schemas)


@quick
@given(schema=wild_schemas(), is_arguments=st.booleans(), may_restore=st.booleans())
def test_any_schema_becomes_one_that_gemini_takes_without_new_properties(schema, is_arguments, may_restore):
    before = copy.deepcopy(schema)

    converted = to_gemini_schema(schema, "f", is_arguments=is_arguments, may_restore=may_restore)

    assert schema == before
    assert_accepted(converted.schema)
    described = {name for place in places(converted.schema) for name in place.get("properties", ())}
    assert described <= property_names(schema)
    assert may_restore or converted.restore is None
    if is_arguments:
        assert converted.schema["type"] == "OBJECT"
    assert converted == to_gemini_schema(schema, "f", is_arguments=is_arguments, may_restore=may_restore)


@quick
@given(schema=plain_schemas())
def test_a_value_for_the_converted_schema_fits_the_clients_once_it_is_restored(schema):
    converted = to_gemini_schema(schema, "f")
    hypothesis.assume("goes on" not in str(converted.schema) and "one of" not in str(converted.schema))
    try:
        made = example(converted.schema)
    except Unsatisfiable:
        return
    if "no value fits" in converted.schema.get("description", ""):
        return
    try:
        assert is_valid(restore_value(made, converted.restore), schema, schema), (converted.schema, made)
    except Endless:
        hypothesis.reject()


@quick
@given(schema=wild_schemas())
def test_cleaning_ends_at_once_with_a_schema_that_needs_no_more_cleaning(schema):
    before = copy.deepcopy(schema)

    cleaned, _ = clean_json_schema(schema)

    assert schema == before
    again, notices = clean_json_schema(cleaned)
    assert again is cleaned
    assert notices == ()


@quick
@given(schema=plain_schemas(), value=VALUES)
def test_cleaning_changes_no_meaning_without_saying_so(schema, value):
    cleaned, notices = clean_json_schema(schema)
    hypothesis.assume(not notices)
    try:
        assert is_valid(value, cleaned, cleaned) is is_valid(value, schema, schema)
    except Endless:
        hypothesis.reject()
