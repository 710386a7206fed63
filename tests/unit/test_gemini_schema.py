"""JSON Schema for Gemini: what each keyword becomes, what the native fields need, how answers are turned back."""

import json

import pytest
from dialogue import call, chunk, encode, model, request, result, told, tool, user
from json_schemas import assert_accepted
from recorded import FOLDER, exchanges

from agproxy.backends import gemini
from agproxy.backends.gemini.schema import clean_json_schema, restore_value, to_gemini_schema
from agproxy.conversation import Format, Output, ToolCall, fold


def convert(schema, **more):
    """The converted schema, once it is known that Gemini takes it."""
    converted = to_gemini_schema(schema, "f", **more)
    assert_accepted(converted.schema)
    return converted


def schema_of(schema, **more):
    """The converted schema of one that nothing is lost of."""
    converted = convert(schema, **more)
    assert converted.notices == ()
    return converted.schema


def warnings(converted):
    return [notice.message for notice in converted.notices]


def obj(*required, **properties):
    return {"type": "object", "properties": properties, "required": list(required)}


TEXT = {"type": "string"}
NUMBER = {"type": "number"}


# Types


@pytest.mark.parametrize("kind", ["string", "number", "integer", "boolean", "null"])
def test_a_plain_type_is_spelled_in_capitals(kind):
    assert schema_of({"type": kind}) == {"type": kind.upper()}


def test_null_beside_a_type_becomes_nullable():
    nullable = {"type": "STRING", "nullable": True}

    assert schema_of({"type": ["string", "null"]}) == nullable
    assert schema_of({"anyOf": [TEXT, {"type": "null"}]}) == nullable
    assert schema_of({"oneOf": [{"type": "null"}, TEXT]}) == nullable
    assert schema_of({"type": "string", "nullable": True}) == nullable


def test_several_types_become_alternatives_each_with_its_own_keywords():
    made = schema_of({"type": ["integer", "string"], "minLength": 1, "minimum": 2, "title": "Id"})

    assert made == {
        "anyOf": [
            {"type": "INTEGER", "minimum": 2, "title": "Id"},
            {"type": "STRING", "minLength": 1, "title": "Id"},
        ]
    }


def test_a_type_that_is_not_written_is_read_from_the_keywords():
    assert schema_of({"properties": {"a": TEXT}})["type"] == "OBJECT"
    assert schema_of({"items": TEXT}) == {"type": "ARRAY", "items": {"type": "STRING"}}
    assert schema_of({"maxLength": 3})["type"] == "STRING"
    assert schema_of({"minimum": 3})["type"] == "NUMBER"


def test_where_anything_may_stand_gemini_is_told_what_it_can_be_and_the_client_is_told_so():
    for anything in ({}, True):
        converted = convert(obj(value=anything))
        kinds = [branch["type"] for branch in converted.schema["properties"]["value"]["anyOf"]]
        assert kinds == ["STRING", "NUMBER", "BOOLEAN", "OBJECT"]
        assert warnings(converted) == ["f.properties.value: any value is told as text, number, boolean or object"]


def test_a_type_that_json_schema_does_not_have_is_left_out_with_a_warning():
    converted = convert({"type": "uuid", "minLength": 1})

    assert converted.schema == {"type": "STRING", "minLength": 1}
    assert warnings(converted) == ['f: type "uuid" is none of JSON Schema\'s types, left out']


# Objects


def test_properties_keep_their_order_and_what_is_required_stays_so():
    assert schema_of(obj("b", b=TEXT, a=NUMBER) | {"additionalProperties": False}) == {
        "type": "OBJECT",
        "properties": {"b": {"type": "STRING"}, "a": {"type": "NUMBER"}},
        "required": ["b"],
        "propertyOrdering": ["b", "a"],
    }


def test_a_property_may_be_called_like_a_keyword():
    names = ["type", "enum", "$ref", "properties", "items", "required", "const", "anyOf", "$defs", "description"]

    made = schema_of(obj(*names, **dict.fromkeys(names, TEXT)))

    assert made["properties"] == {name: {"type": "STRING"} for name in names}
    assert made["required"] == names


def test_values_of_free_properties_are_told_in_words_and_none_is_made_up():
    converted = convert(obj(map={"type": "object", "additionalProperties": {"type": "integer"}}))

    assert converted.schema["properties"]["map"] == {
        "type": "OBJECT",
        "description": '(any properties, each {"type":"integer"})',
    }
    assert warnings(converted) == [
        "f.properties.map: additionalProperties has no place in Gemini's Schema, told in the description"
    ]


def test_an_object_of_which_nothing_is_said_may_have_any_properties():
    made = schema_of(obj(free={"type": "object"}, empty={"type": "object", "properties": {}}))

    assert made["properties"] == {
        "free": {"type": "OBJECT", "description": "(any properties)"},
        "empty": {"type": "OBJECT"},
    }


def test_a_required_property_that_is_not_described_is_told_in_words():
    converted = convert(obj("a", "b", a=TEXT))

    assert (converted.schema["required"], converted.schema["description"]) == (["a"], '(always with "b")')
    assert len(converted.notices) == 1


def test_a_property_that_can_have_no_value_is_left_out_with_a_warning():
    converted = convert(obj(a=TEXT, b=False))

    assert list(converted.schema["properties"]) == ["a"]
    assert warnings(converted) == ["f.properties.b: schema lets no value through: the property was left out"]


# Arrays


def test_an_array_without_items_gets_some():
    for schema in ({"type": "array"}, {"type": "array", "items": {}}, {"type": "array", "items": True}):
        converted = convert(schema)
        assert converted.schema["items"]["anyOf"][0]["type"] == "STRING"
        assert len(converted.notices) == 1


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "prefixItems": [NUMBER, TEXT], "items": False},
        {"type": "array", "items": [NUMBER, TEXT], "additionalItems": False},
    ],
    ids=["2020-12", "draft 7"],
)
def test_a_tuple_becomes_an_array_whose_items_are_any_of_its_own(schema):
    converted = convert(schema)

    assert converted.schema == {
        "type": "ARRAY",
        "maxItems": 2,
        "items": {"anyOf": [{"type": "NUMBER"}, {"type": "STRING"}]},
        "description": '(items in this order: {"type":"number"}, {"type":"string"})',
    }
    assert len(converted.notices) == 1


def test_an_array_of_no_items_stays_empty():
    assert schema_of({"type": "array", "items": False})["maxItems"] == 0


def test_counts_of_items_characters_and_properties_are_kept():
    made = schema_of({"type": "array", "items": {"type": "string", "maxLength": 9}, "minItems": 1, "maxItems": 3.0})

    assert made == {"type": "ARRAY", "items": {"type": "STRING", "maxLength": 9}, "minItems": 1, "maxItems": 3}
    assert schema_of({"type": "object", "maxProperties": 2})["maxProperties"] == 2


def test_a_count_that_is_none_is_left_out_with_a_warning():
    converted = convert({"type": "string", "minLength": -1})

    assert converted.schema == {"type": "STRING"}
    assert warnings(converted) == ["f: minLength -1 is no count, left out"]


# Numbers


def test_an_exclusive_bound_of_whole_numbers_is_the_next_whole_number():
    made = schema_of({"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 9.5})

    assert made == {"type": "INTEGER", "minimum": 1, "maximum": 9}


@pytest.mark.parametrize("bound", [{"exclusiveMinimum": 0}, {"minimum": 0, "exclusiveMinimum": True}])
def test_an_exclusive_bound_of_fractions_is_told_in_words_too(bound):
    converted = convert({"type": "number"} | bound)

    assert converted.schema == {"type": "NUMBER", "minimum": 0, "description": "(greater than 0)"}
    assert len(converted.notices) == 1


# Texts


def test_only_the_formats_of_gemini_are_kept_and_others_are_told_in_words():
    assert schema_of({"type": "string", "format": "date-time"})["format"] == "date-time"
    assert schema_of({"type": "integer", "format": "int64"})["format"] == "int64"

    converted = convert({"type": "string", "format": "uri", "description": "Where."})

    assert converted.schema == {"type": "STRING", "description": "Where.\n(format uri)"}
    assert warnings(converted) == ["f: format has no place in Gemini's Schema, told in the description"]


def test_notes_to_the_reader_are_kept():
    made = schema_of(
        {"type": "string", "title": "T", "default": "d", "examples": ["x"], "pattern": "^a", "deprecated": True}
    )

    assert made == {
        "type": "STRING",
        "pattern": "^a",
        "title": "T",
        "default": "d",
        "example": "x",
        "description": "(deprecated)",
    }


# Constraints in words


@pytest.mark.parametrize(
    ("schema", "hint"),
    [
        ({"type": "integer", "multipleOf": 5}, "a multiple of 5"),
        ({"type": "array", "items": TEXT, "uniqueItems": True}, "no two items are the same"),
        ({"type": "array", "items": TEXT, "contains": {"const": "a"}}, 'at least 1 of the items fit {"const":"a"}'),
        ({"type": "string", "not": {"const": "a"}}, 'not {"const":"a"}'),
        ({"type": "string", "contentEncoding": "base64"}, "encoded as base64"),
        (
            obj(a=TEXT) | {"patternProperties": {"^x": TEXT}},
            'properties by the pattern of their name: {"^x":{"type":"string"}}',
        ),
        (obj(a=TEXT) | {"propertyNames": {"maxLength": 3}}, 'names of properties fit {"maxLength":3}'),
        (obj(a=TEXT) | {"dependentRequired": {"a": ["b"]}}, 'properties that need others: {"a":["b"]}'),
        (
            obj(a=TEXT) | {"if": {"required": ["a"]}, "then": {"required": ["b"]}},
            'if {"required":["a"]} then {"required":["b"]}',
        ),
    ],
)
def test_a_constraint_without_a_place_is_told_in_the_description_and_in_a_warning(schema, hint):
    converted = convert(schema | {"description": "Mine."})

    assert converted.schema["description"] == f"Mine.\n({hint})"
    assert len(converted.notices) == 1


def test_a_long_constraint_is_told_in_part():
    converted = convert({"type": "string", "not": {"enum": ["x" * 500]}})

    assert len(converted.schema["description"]) < 250


def test_one_warning_tells_of_a_keyword_however_often_it_came():
    converted = convert(obj(**{name: {"type": "string", "format": "uri"} for name in "abc"}))

    assert warnings(converted) == [
        "f.properties.a: format has no place in Gemini's Schema, told in the description (and at 2 more places)"
    ]


def test_a_keyword_that_nobody_knows_is_named_and_left_out():
    converted = convert({"type": "string", "color": "red", "x-note": 1, "$comment": "c"})

    assert converted.schema == {"type": "STRING"}
    assert warnings(converted) == ["f: not known to JSON Schema, left out: color"]


# Enums


def test_an_enum_of_texts_stays_as_it_is():
    assert schema_of({"enum": ["a", "b"]}) == {"type": "STRING", "enum": ["a", "b"]}
    assert schema_of({"const": "a"}) == {"type": "STRING", "enum": ["a"]}


def test_an_enum_of_numbers_is_spelled_out_and_the_answer_turned_back():
    converted = convert(obj("n", n={"type": "integer", "enum": [60, 1440], "default": 60}))

    assert converted.schema["properties"]["n"] == {"type": "STRING", "enum": ["60", "1440"], "default": "60"}
    assert restore_value({"n": "60"}, converted.restore) == {"n": 60}
    assert restore_value({"n": 60}, converted.restore) == {"n": 60}  # a model that knew better
    assert restore_value({"m": "60"}, converted.restore) == {"m": "60"}
    assert converted.notices == ()


def test_numbers_are_turned_back_wherever_they_stand():
    row = obj(level={"enum": [1, 2.5, None]}, name=TEXT)
    converted = convert(obj(rows={"type": "array", "items": row}))

    answer = {"rows": [{"level": "2.5", "name": "1"}, {"level": None}]}

    assert restore_value(answer, converted.restore) == {"rows": [{"level": 2.5, "name": "1"}, {"level": None}]}


def test_texts_that_look_like_numbers_stay_texts():
    converted = convert({"enum": ["1", 1, 2, True, "auto"]})

    assert converted.schema == {"type": "STRING", "enum": ["1", "auto", "2", "true"]}
    assert [restore_value(text, converted.restore) for text in converted.schema["enum"]] == ["1", "auto", 2, True]


def test_a_constant_number_is_told_by_its_bounds():
    assert schema_of({"const": 3}) == {"type": "INTEGER", "minimum": 3, "maximum": 3}


def test_where_answers_cannot_be_turned_back_numbers_are_told_by_bounds_and_words():
    converted = convert({"enum": [1, 2, 5]}, may_restore=False)

    assert converted.schema == {"type": "INTEGER", "minimum": 1, "maximum": 5, "description": "(one of 1, 2, 5)"}
    assert converted.restore is None
    assert len(converted.notices) == 1


def test_among_alternatives_numbers_are_not_spelled_out_since_a_text_might_be_meant():
    converted = convert({"anyOf": [{"enum": [1, 2]}, TEXT]})

    assert converted.schema["anyOf"][0]["type"] == "INTEGER"
    assert restore_value("1", converted.restore) == "1"


def test_beside_another_type_numbers_within_an_object_are_not_spelled_out_either():
    converted = convert({"type": ["object", "string"], "properties": {"n": {"enum": [1, 2]}}})

    assert converted.schema["anyOf"][0]["properties"]["n"]["type"] == "INTEGER"
    assert converted.restore is None


def test_null_is_no_alternative_that_numbers_could_be_mistaken_for():
    converted = convert({"anyOf": [{"type": "integer", "enum": [1, 2]}, {"type": "null"}]})

    assert converted.schema == {"type": "STRING", "enum": ["1", "2"], "nullable": True}
    assert restore_value("2", converted.restore) == 2


def test_an_empty_text_leaves_the_choices_since_gemini_refuses_it():
    converted = convert({"enum": ["", "a"]})

    assert converted.schema == {"type": "STRING", "enum": ["a"]}
    assert len(converted.notices) == 1
    assert convert({"const": ""}).schema == {"type": "STRING", "maxLength": 0, "description": "(always empty)"}


def test_booleans_have_no_enum():
    assert schema_of({"enum": [True, False]}) == {"type": "BOOLEAN"}
    assert convert({"const": True}).schema == {"type": "BOOLEAN", "description": "(always true)"}


def test_values_of_an_enum_that_break_the_bounds_beside_it_are_left_out():
    assert schema_of({"enum": ["", "a", "abc", 1], "minLength": 1, "maxLength": 2, "minimum": 2}) == {
        "type": "STRING",
        "enum": ["a"],
    }
    assert schema_of({"allOf": [{"enum": [1, 2, 3]}, {"exclusiveMinimum": 2}]})["minimum"] == 3
    assert convert({"const": 0, "minimum": 1}).schema["description"] == "(no value fits)"


def test_an_enum_that_contradicts_its_type_is_told_in_words():
    converted = convert({"type": "integer", "enum": ["1", "2"]})

    assert converted.schema == {"type": "INTEGER", "description": '(one of "1", "2")'}
    assert len(converted.notices) == 1


# allOf, anyOf, oneOf


def test_all_of_several_schemas_is_one_with_the_tighter_bounds():
    made = schema_of(
        {
            "description": "Outer.",
            "allOf": [
                {"type": ["integer", "string"], "minimum": 1, "maximum": 9, "description": "Inner."},
                {"type": "number", "minimum": 3, "maximum": 20},
            ],
        }
    )

    assert made == {"type": "INTEGER", "minimum": 3, "maximum": 9, "description": "Outer.\nInner."}


def test_properties_of_all_are_joined_and_one_that_two_speak_of_keeps_both():
    made = schema_of(
        {"allOf": [obj("a", a={"type": "string", "minLength": 1}), obj("b", a={"maxLength": 5}, b=NUMBER)]}
    )

    assert made["properties"] == {"a": {"type": "STRING", "minLength": 1, "maxLength": 5}, "b": {"type": "NUMBER"}}
    assert made["required"] == ["a", "b"]


def test_alternatives_stand_alone_and_take_along_all_that_stood_beside_them():
    made = schema_of(
        {"description": "D", "title": "T", **obj("a", a=TEXT), "anyOf": [obj("b", b=NUMBER), obj("c", c=TEXT)]}
    )

    first, second = made["anyOf"]
    assert set(made) == {"anyOf"}
    assert (first["required"], second["required"]) == (["a", "b"], ["a", "c"])
    assert [branch["description"] for branch in (first, second)] == ["D", "D"]
    assert set(second["properties"]) == {"a", "c"}


def test_constants_as_alternatives_are_one_enum():
    assert schema_of({"oneOf": [{"const": "a"}, {"const": "b"}]}) == {"type": "STRING", "enum": ["a", "b"]}


def test_one_of_forms_that_exclude_each_other_needs_no_warning():
    forms = [obj("kind", kind={"const": "cat"}, meow=NUMBER), obj("kind", kind={"const": "dog"}, bark=NUMBER)]

    assert len(schema_of({"oneOf": forms})["anyOf"]) == 2
    assert len(schema_of({"oneOf": [TEXT, NUMBER]})["anyOf"]) == 2


def test_one_of_forms_that_overlap_is_told_in_words():
    converted = convert({"oneOf": [obj(a=TEXT), obj(b=TEXT)]})

    assert converted.schema["anyOf"][0]["description"] == "(only one of these forms may fit)"
    assert warnings(converted) == ["f: oneOf is told as anyOf: that only one may fit is told in words"]


def test_alternatives_within_alternatives_are_opened_and_doubles_left_out():
    made = schema_of({"anyOf": [{"anyOf": [TEXT, NUMBER]}, NUMBER, {"type": "boolean"}]})

    assert [branch["type"] for branch in made["anyOf"]] == ["STRING", "NUMBER", "BOOLEAN"]


def test_an_alternative_that_can_have_no_value_is_left_out():
    assert schema_of({"type": "string", "anyOf": [NUMBER, {"minLength": 2}, False]}) == {
        "type": "STRING",
        "minLength": 2,
    }


def test_a_schema_that_lets_nothing_through_is_told_so():
    converted = convert({"allOf": [TEXT, NUMBER]})

    assert converted.schema == {"type": "OBJECT", "description": "(no value fits)"}
    assert warnings(converted) == ["f: schema lets no value through"]


# References


@pytest.mark.parametrize(
    ("reference", "more"),
    [
        ("#/$defs/A", {"$defs": {"A": TEXT}}),
        ("#/definitions/A~1B", {"definitions": {"A/B": TEXT}}),
        ("#/properties/b/items", {}),
        ("#/$defs/A%20B", {"$defs": {"A B": TEXT}}),
        ("#a", {"$defs": {"x": {"$anchor": "a", **TEXT}}}),
        ("#a", {"definitions": {"x": {"$id": "#a", **TEXT}}}),
        ("address", {"$id": "https://x.test/s/root", "$defs": {"x": {"$id": "/s/address", **TEXT}}}),
        ("#/$defs/0/anyOf/1", {"$defs": {"0": {"anyOf": [NUMBER, TEXT]}}}),
    ],
)
def test_a_reference_is_resolved_wherever_it_points_within_the_schema(reference, more):
    schema = obj(a={"$ref": reference}, b={"type": "array", "items": TEXT}) | more

    assert schema_of(schema)["properties"]["a"] == {"type": "STRING"}


def test_what_stands_beside_a_reference_holds_as_well():
    schema = {"$defs": {"A": {"type": "string", "description": "A."}}, "$ref": "#/$defs/A", "description": "Mine."}

    assert schema_of(schema) == {"type": "STRING", "description": "Mine.\nA."}


def test_a_reference_to_nothing_lets_anything_through_with_a_warning():
    for reference in ("#/$defs/none", "https://elsewhere.test/schema", "#/a/0/b", "//[", "#none"):
        converted = convert(obj(a={"$ref": reference}))
        assert f"(as in {reference})" in converted.schema["properties"]["a"]["anyOf"][0]["description"]
        assert any(f"{reference} points to nothing in the schema" in line for line in warnings(converted))


TREE = {
    "$defs": {"node": obj("v", v=NUMBER, kids={"type": "array", "items": {"$ref": "#/$defs/node"}})},
    "$ref": "#/$defs/node",
}


def test_a_recursive_schema_is_told_three_levels_deep():
    converted = convert(TREE)

    place, levels = converted.schema, 0
    while "properties" in place:
        place, levels = place["properties"]["kids"]["items"], levels + 1
    assert levels == 3
    assert place == {"type": "OBJECT", "description": "(goes on in the form of #/$defs/node)"}
    assert len(converted.notices) == 1


def test_a_schema_that_is_only_itself_is_anything():
    for schema in (
        {"$ref": "#"},
        {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
    ):
        assert "anyOf" in convert(schema).schema


def test_this_or_that_again_is_this():
    assert schema_of({"$defs": {"e": {"anyOf": [NUMBER, {"$ref": "#/$defs/e"}]}}, "$ref": "#/$defs/e"}) == {
        "type": "NUMBER"
    }


def test_forms_that_extend_what_lists_them_are_forms_all_the_same():
    """OpenAPI's way to write inheritance: Pet is one of Cat and Dog, and each of them is all of Pet and more."""
    kinds = {kind: {"allOf": [{"$ref": "#/$defs/pet"}, obj(kind, **{kind: TEXT})]} for kind in ("cat", "dog")}
    pet = obj("name", name=TEXT) | {"anyOf": [{"$ref": f"#/$defs/{kind}"} for kind in kinds]}

    made = schema_of({"$defs": {"pet": pet, **kinds}, "$ref": "#/$defs/pet"})

    assert [branch["required"] for branch in made["anyOf"]] == [["name", "cat"], ["name", "dog"]]


def doubling(count, *, through):
    """Definitions that each refer to the next one twice: 2**count places if nobody stops."""
    defs = {f"d{n}": through({"$ref": f"#/$defs/d{n + 1}"}) for n in range(count)}
    return {"$defs": defs | {f"d{count}": TEXT}, "$ref": "#/$defs/d0"}


@pytest.mark.parametrize(
    "through",
    [lambda next: obj(a=next, b=next), lambda next: {"allOf": [next, next]}, lambda next: {"anyOf": [next, {**next}]}],
    ids=["properties", "allOf", "anyOf"],
)
def test_small_definitions_cannot_make_endless_work(through):
    made = convert(doubling(40, through=through)).schema

    assert len(json.dumps(made)) < 3_000_000


@pytest.mark.parametrize("keyword", ["properties", "items", "allOf", "anyOf", "oneOf", "not", "prefixItems"])
def test_no_depth_is_too_deep(keyword):
    wrap = {"properties": lambda one: {"a": one}, "items": lambda one: one, "not": lambda one: one}
    schema = TEXT
    for _ in range(400):
        schema = {keyword: wrap.get(keyword, lambda one: [one])(schema)}

    convert(schema)
    convert(schema, is_arguments=True)
    clean_json_schema(schema)


# Arguments of functions


def test_arguments_of_several_forms_are_joined_into_one_object():
    converted = convert(
        {
            "anyOf": [
                obj("op", op={"const": "run"}, script=TEXT),
                obj("op", "id", op={"enum": ["stop", "query"]}, id=TEXT),
            ]
        },
        is_arguments=True,
    )

    assert converted.schema == {
        "type": "OBJECT",
        "properties": {
            "op": {"type": "STRING", "enum": ["run", "stop", "query"]},
            "script": {"type": "STRING"},
            "id": {"type": "STRING"},
        },
        "required": ["op"],
        "propertyOrdering": ["op", "script", "id"],
        "description": '(one of these sets of properties: ["op"] or ["op","id"])',
    }
    assert len(converted.notices) == 1


def test_arguments_that_are_no_object_are_not_described():
    converted = convert(TEXT, is_arguments=True)

    assert converted.schema == {"type": "OBJECT"}
    assert len(converted.notices) == 1


# The native fields


def test_a_schema_that_is_taken_as_it_is_is_not_even_copied():
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "x",
        **obj("a", a={"type": ["string", "null"], "enum": ["x", None]}, b={"$ref": "#/$defs/B"}),
        "additionalProperties": False,
        "$defs": {"B": obj(c={"type": "array", "uniqueItems": True, "items": {"$ref": "#/$defs/B"}})},
    }

    cleaned, notices = clean_json_schema(schema)

    assert cleaned is schema
    assert notices == ()


def test_words_beside_a_reference_move_around_it():
    schema = obj(a={"$ref": "#/$defs/A", "description": "D", "$comment": "c"}) | {"$defs": {"A": TEXT}}

    cleaned, notices = clean_json_schema(schema)

    assert cleaned["properties"]["a"] == {"description": "D", "$comment": "c", "anyOf": [{"$ref": "#/$defs/A"}]}
    assert notices == ()


def test_alternatives_beside_a_reference_stay_and_the_reference_joins_what_must_all_hold():
    schema = obj(a={"$ref": "#/$defs/A", "anyOf": [TEXT], "allOf": [TEXT]}) | {"$defs": {"A": TEXT}}

    cleaned, _ = clean_json_schema(schema)

    assert cleaned["properties"]["a"] == {"anyOf": [TEXT], "allOf": [TEXT, {"$ref": "#/$defs/A"}]}


def test_a_reference_to_nothing_does_not_spoil_the_whole_request():
    cleaned, notices = clean_json_schema(obj(a={"$ref": "#/$defs/no", "title": "T"}, b={"$ref": "http://x/y"}), "f")

    assert cleaned["properties"] == {
        "a": {"title": "T", "description": "(As in #/$defs/no.)"},
        "b": {"description": "(As in http://x/y.)"},
    }
    (notice,) = notices
    assert notice.message.startswith("f.properties.a: points to nothing in the schema")
    assert notice.message.endswith("(and at 1 more places)")


AND = obj("left", "right", left={"anyOf": [TEXT, {"$ref": "#/$defs/and"}]}, right=TEXT)


def test_a_circle_of_required_properties_makes_them_optional_and_says_so():
    """Refused by the API though a text would end it: only null, an empty list or a missing property do."""
    schema = {"$defs": {"and": AND}, **obj("filter", filter={"$ref": "#/$defs/and"})}

    cleaned, notices = clean_json_schema(schema, "f")

    node = cleaned["$defs"]["and"]
    assert (node["required"], node["description"]) == (["right"], "(Always with left.)")
    assert node["properties"] == AND["properties"]
    assert cleaned["required"] == ["filter"]  # leads into the circle, but is no part of it
    assert [notice.message.partition(": ")[0] for notice in notices] == ["f.$defs.and.required"]


@pytest.mark.parametrize(
    "step",
    [
        {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
        {"type": "array", "items": {"$ref": "#/$defs/node"}},
        {"type": ["object", "null"], "properties": {"node": {"$ref": "#/$defs/node"}}, "required": ["node"]},
        obj(node={"$ref": "#/$defs/node"}),
    ],
    ids=["null in anyOf", "empty list", "null in type", "missing property"],
)
def test_a_circle_that_a_value_can_end_is_left_alone(step):
    """OpenAI's strict schemas require every property: lists and trees are such circles."""
    schema = {"$defs": {"node": obj("v", "next", v=NUMBER, next=step)}, **obj("first", first={"$ref": "#/$defs/node"})}

    cleaned, notices = clean_json_schema(schema)

    assert cleaned is schema
    assert notices == ()


def test_a_circle_without_any_property_is_cut():
    endless = {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/list"}}
    schema = {"$defs": {"list": endless}, **obj(a={"$ref": "#/$defs/list"})}

    cleaned, notices = clean_json_schema(schema, "f")

    assert cleaned["$defs"]["list"]["items"] == {"description": "(As in #/$defs/list.)"}
    assert cleaned["properties"] == schema["properties"]
    assert len(notices) == 1


def test_boolean_schemas_are_written_out():
    schema = obj(any=True, none=False, list={"type": "array", "prefixItems": [TEXT, True], "items": False})

    cleaned, notices = clean_json_schema(schema, "f")

    assert cleaned["properties"]["any"] == {}
    assert cleaned["properties"]["none"] == {"not": {}, "description": "(No value may stand here.)"}
    assert cleaned["properties"]["list"]["prefixItems"] == [TEXT, {}]
    assert cleaned["properties"]["list"]["maxItems"] == 2
    assert len(notices) == 1


def test_a_constant_is_an_enum_of_one_and_data_are_not_taken_for_schemas():
    schema = obj(a={"const": "x"}, b={"const": None, "default": {"const": 1, "$ref": "#/no"}}, const=TEXT)

    cleaned, notices = clean_json_schema(schema)

    assert cleaned["properties"]["a"] == {"enum": ["x"]}
    assert cleaned["properties"]["b"] is schema["properties"]["b"]
    assert notices == ()


# In requests and answers

LEVELS = obj("level", level={"type": "integer", "enum": [1, 5, 9]})


def test_functions_go_upstream_with_their_json_schema_unless_the_setting_says_convert():
    asked = request(user("Hi"), tools=(tool("set", parameters=LEVELS),))

    (native,) = encode(asked).body["tools"][0]["functionDeclarations"]
    (converted,) = encode(asked, schemas="convert").body["tools"][0]["functionDeclarations"]

    assert native == {"name": "set", "parametersJsonSchema": LEVELS}
    assert converted["parameters"]["properties"]["level"]["enum"] == ["1", "5", "9"]
    assert "parametersJsonSchema" not in converted


def test_a_function_without_arguments_has_no_schema():
    nothing = {"type": "object", "properties": {}, "additionalProperties": False}
    encoded = encode(request(user("Hi"), tools=(tool("ping", parameters=nothing),)), schemas="convert")

    assert encoded.body["tools"][0]["functionDeclarations"] == [{"name": "ping"}]


def test_warnings_name_the_function():
    asked = request(user("Hi"), tools=(tool("go", parameters=obj(a={"$ref": "#/no"})),))

    assert told(encode(asked)).startswith("tools[go].properties.a: points to nothing in the schema")
    assert "tools[go].properties.a: #/no points to nothing" in told(encode(asked, schemas="convert"))


def test_a_call_comes_back_with_the_clients_own_numbers_whole_and_streamed():
    asked = request(user("Hi"), tools=(tool("set", parameters=LEVELS), tool("other", parameters=obj(level=TEXT))))
    encoded = encode(asked, schemas="convert")

    def answer(name):
        decoder = gemini.decoder(encoded, "0" * 24)
        part = {"functionCall": {"name": name, "args": {"level": "5"}}}
        (choice,) = fold([*decoder.feed(chunk(part, finish="STOP")), *decoder.finish()]).choices
        (made,) = choice.parts
        assert isinstance(made, ToolCall)
        return json.loads(made.arguments)

    assert answer("set") == {"level": 5}
    assert answer("other") == {"level": "5"}


def test_the_schema_of_an_answer_has_no_numbers_spelled_out_since_a_stream_cannot_turn_them_back():
    asked = request(user("Hi"), output=Output(format=Format.JSON, schema=LEVELS))

    native = encode(asked).body["generationConfig"]
    converted = encode(asked, schemas="convert")

    assert native["responseJsonSchema"] is LEVELS
    level = converted.body["generationConfig"]["responseSchema"]["properties"]["level"]
    assert level == {"type": "INTEGER", "minimum": 1, "maximum": 9, "description": "(one of 1, 5, 9)"}
    assert "response_format.properties.level: enum has no place" in told(converted)


def test_a_history_of_calls_does_not_hinder_the_conversion():
    asked = request(
        user("Hi"),
        model(call("c1", "set", '{"level":5}')),
        user(result("c1", "ok", name="set")),
        tools=(tool("set", parameters=LEVELS),),
    )

    assert encode(asked, schemas="convert").body["contents"][1]["parts"][0]["functionCall"]["args"] == {"level": 5}


# Recorded traffic


def recorded_schemas():
    """Every schema that a recorded request holds, for functions and for answers."""
    if not FOLDER.is_dir():
        return
    for folder in ("openai", "gemini"):
        for name, exchange in exchanges(folder):
            if isinstance(exchange["request"], dict):
                for kind, schema in _schemas_in(exchange["request"]):
                    yield pytest.param(folder, kind, schema, id=f"{name}-{kind}")


def _schemas_in(body):
    for entry in body.get("tools") or ():
        if not isinstance(entry, dict):
            continue
        described = entry.get("function") if isinstance(entry.get("function"), dict) else entry
        yield from (("tool", described[word]) for word in ("parameters",) if isinstance(described.get(word), dict))
        for declared in entry.get("functionDeclarations") or entry.get("function_declarations") or ():
            for word in ("parametersJsonSchema", "parameters_json_schema"):
                if isinstance(declared.get(word), dict):
                    yield "tool", declared[word]
    wanted = body.get("response_format") or (body.get("text") or {}).get("format")
    if isinstance(wanted, dict):
        schema = wanted.get("schema") or (wanted.get("json_schema") or {}).get("schema")
        if isinstance(schema, dict):
            yield "answer", schema
    config = body.get("generationConfig") or {}
    if isinstance(config.get("responseJsonSchema"), dict):
        yield "answer", config["responseJsonSchema"]


RECORDED = list(recorded_schemas()) or [
    pytest.param("", "", {}, marks=pytest.mark.skip(reason=f"no recorded traffic at {FOLDER}: set AGPROXY_RECORDED"))
]


@pytest.mark.parametrize(("folder", "kind", "schema"), RECORDED)
def test_every_recorded_schema_converts_to_one_that_gemini_takes(folder, kind, schema):
    convert(schema, is_arguments=kind == "tool", may_restore=kind == "tool")
    cleaned, notices = clean_json_schema(schema)

    assert notices == ()
    if folder == "gemini":  # the real API took it
        assert cleaned is schema
