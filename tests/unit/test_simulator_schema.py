"""A value for every schema, valid for it and taken from the sentence where it fits; and the words of sentences."""

import json

import pytest

from agproxy.simulator.schema import Unsatisfiable, example
from agproxy.simulator.words import Hints, content_words


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string"}, "example"),
        ({"type": "STRING", "nullable": True}, "example"),
        ({"type": ["null", "integer"]}, 1),
        ({"type": "null"}, None),
        ({"type": "boolean"}, True),
        ({}, "example"),
        (True, "example"),
        ({"const": {"a": [1]}}, {"a": [1]}),
        ({"enum": [None, "b", "a"]}, "b"),
        ({"type": "INTEGER", "enum": ["3", "4"]}, 3),
        ({"type": "integer", "enum": ["x", 4]}, 4),
        ({"type": "integer", "minimum": 10}, 10),
        ({"type": "integer", "maximum": -4}, -4),
        ({"type": "integer", "exclusiveMinimum": 4, "multipleOf": 5}, 5),
        ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, 0.5),
        ({"type": "number", "minimum": 0.25, "maximum": 0.3}, 0.25),
        ({"type": "integer", "default": 7}, 7),
        ({"type": "integer", "default": 7, "maximum": 3}, 1),
        ({"type": "string", "example": "shown", "default": "other"}, "shown"),
        ({"type": "string", "minLength": 10}, "examplexxx"),
        ({"type": "string", "maxLength": 3}, "exa"),
        ({"type": "string", "format": "date"}, "2026-01-31"),
        ({"type": "string", "format": "email", "maxLength": 4}, "exam"),
        ({"type": "string", "pattern": "^[A-Z]{3}-[0-9]{3}$"}, "ABC-123"),
        ({"type": "string", "pattern": "("}, "example"),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 3}, [1, 2, 3]),
        ({"type": "array", "items": {"type": "string"}, "minItems": 2}, ["example", "example2"]),
        ({"type": "array", "maxItems": 0}, []),
        ({"type": "array", "prefixItems": [{"type": "integer"}, {"const": "b"}]}, [1, "b"]),
        ({"type": "object"}, {}),
        ({"type": "object", "properties": {"a": {}, "b": {}}, "required": ["b"]}, {"b": "example"}),
        ({"type": "object", "required": ["city"]}, {"city": "Paris"}),
        (
            {"properties": {"a": {}, "b": {}}, "propertyOrdering": ["b", "a"], "required": ["a", "b"]},
            {"b": "example", "a": "example"},
        ),
        ({"type": "object", "minProperties": 2, "properties": {"a": {"const": 1}}}, {"a": 1, "key1": "example"}),
        ({"anyOf": [{"type": "null"}, {"type": "integer"}]}, 1),
        ({"anyOf": [False, {"const": 2}]}, 2),
        ({"anyOf": [{"type": "OBJECT", "required": ["b"]}], "properties": {"b": {"const": 3}}}, {"b": 3}),
        ({"allOf": [{"type": "integer", "minimum": 2}, {"minimum": 5}]}, 5),
        (
            {"allOf": [{"properties": {"a": {"const": 1}}, "required": ["a"]}, {"required": ["city"]}]},
            {"a": 1, "city": "Paris"},
        ),
        ({"$ref": "#/$defs/x~1y", "$defs": {"x/y": {"const": 4}}}, 4),
        ({"ref": "#/defs/x", "defs": {"x": {"type": "INTEGER"}}}, 1),
        ({"$ref": "#name", "$defs": {"x": {"$anchor": "name", "const": 5}}}, 5),
    ],
)
def test_each_keyword_has_its_value(schema, value):
    made = example(schema)

    assert made == value
    assert json.dumps(made) == json.dumps(value)  # in the same order too


@pytest.mark.parametrize(
    "schema",
    [
        False,
        {"$ref": "#/nowhere"},
        {"$ref": "https://example.com/other.json"},
        {"$ref": "#"},
        {"enum": []},
        {"type": "integer", "minimum": 5, "maximum": 4},
        {"type": "string", "minLength": 5, "maxLength": 4},
        {"type": "array", "items": False, "minItems": 1},
        {"allOf": [{"type": "string"}, {"type": "integer"}]},
        {"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}] * 3}}},
        {"type": "object", "properties": {"me": {"$ref": "#"}}, "required": ["me"]},
        {"type": "string", "minLength": 10**9},
        {"type": "array", "minItems": 10**9},
    ],
)
def test_what_nothing_satisfies_is_said_at_once(schema):
    with pytest.raises(Unsatisfiable):
        example(schema)


def test_recursion_ends_where_the_schema_lets_it():
    node = {
        "type": "object",
        "properties": {
            "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
            "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
        },
        "required": ["next", "children"],
    }
    assert example({"$ref": "#/$defs/node", "$defs": {"node": node}}) == {"next": None, "children": []}


def test_an_answer_that_requires_nothing_is_filled_and_arguments_are_not():
    schema = {"properties": {"a": {"const": 1}, "b": False, "c": {"properties": {"d": {}}}}}

    assert example(schema, fill=True) == {"a": 1, "c": {}}
    assert example(schema) == {}


def values(sentence, **properties):
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return example(schema, Hints.of(sentence))


TEXT = {"type": "string"}
NUMBER = {"type": "number"}


def test_names_quotes_and_numbers_are_used_in_their_order():
    assert values("Fly from Oslo to New York", start=TEXT, goal=TEXT) == {"start": "Oslo", "goal": "New York"}
    assert values('Run "ls -la" now', command=TEXT) == {"command": "ls -la"}
    assert values("add 2 and 3.5", a=NUMBER, b=NUMBER) == {"a": 2, "b": 3.5}
    assert values("Search cats in Rome", query=TEXT) == {"query": "Search cats in Rome"}
    assert values("Weather in Rome", city=TEXT, unit=TEXT) == {"city": "Rome", "unit": "example"}
    assert values("a number: 500", n={"type": "integer", "maximum": 10}) == {"n": 1}


@pytest.mark.parametrize(
    ("sentence", "names"),
    [
        ("What is the weather in Paris and London?", ("Paris", "London")),
        ("Is New York bigger than San Francisco?", ("New York", "San Francisco")),
        ("Paris weather", ("Paris",)),
        ("Describe it. Check twice.", ()),
        ("Please call get_Weather", ()),
        ("wie ist das Wetter in Köln", ("Wetter", "Köln")),
        ("погода в Москве", ("Москве",)),
        ("東京の天気", ()),
    ],
)
def test_names_are_words_with_capitals_inside_a_sentence(sentence, names):
    assert Hints.of(sentence).names == names


@pytest.mark.parametrize(
    ("sentence", "twice"),
    [
        ("Paris and London", True),
        ("Paris & Rome", True),
        ("do both", True),
        ("Ask Paris about London", False),
        ("Hi", False),
    ],
)
def test_two_names_joined_ask_twice(sentence, twice):
    assert Hints.of(sentence).asks_twice is twice


def test_words_that_carry_meaning_are_found_in_names_too():
    assert content_words("getWeatherReports at_the_cities") == {"weather", "report", "citie"}
