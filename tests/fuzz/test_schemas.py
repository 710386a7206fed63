"""Any JSON Schema, and anything that is none: converted into one that Gemini takes, in bounded time, never changed.

tests/unit/test_properties_schema.py holds the laws of meaning on schemas made by rule; here are those that clients have
sent, spoiled, and those that lead back to themselves.
"""

import json
from pathlib import Path

import pytest

pytest.importorskip("hypothesis")

import laws
from hunting import Pool, hunt, places, small, spoiled
from hypothesis import given
from hypothesis import strategies as some
from recorded import FOLDER, exchanges

GOLDEN = Path(__file__).parents[1] / "golden"
LOOPS = [
    {"$ref": "#"},
    {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
    {"type": "object", "properties": {"next": {"$ref": "#"}, "all": {"type": "array", "items": {"$ref": "#"}}}},
    {"anyOf": [{"$ref": "#/$defs/node"}], "$defs": {"node": {"allOf": [{"$ref": "#/$defs/node"}, {"type": "object"}]}}},
    {"$defs": {"n": {"properties": {c: {"$ref": "#/$defs/n"} for c in "abcdef"}}}, "$ref": "#/$defs/n"},
    {"oneOf": [{"const": 1}, {"enum": ["a", None, 2.5]}], "not": {}, "if": {"type": "string"}, "then": False},
    {
        "type": ["object", "null"],
        "patternProperties": {"^a": {"format": "date"}},
        "additionalProperties": {"$ref": "#"},
    },
    {"allOf": [{"anyOf": [{"minimum": n}, {"maxLength": n}]} for n in range(8)]},
    {"type": "array", "prefixItems": [{"type": "integer"}], "contains": {"const": 2}, "minItems": 10**30},
]


def schemas():
    """Those of tests/golden and of recorded requests: whatever looks like one."""
    bodies = [json.loads(file.read_bytes()) for file in sorted(GOLDEN.glob("*/*/1-client-request.json"))]
    if FOLDER.is_dir():
        bodies += [one["request"] for folder in ("openai", "gemini") for _, one in exchanges(folder)]
    for body in bodies:
        for place in places(body):
            if place[-1] in ("parameters", "schema", "parametersJsonSchema", "responseJsonSchema"):
                found = body
                for step in place:
                    found = found[step]
                if isinstance(found, dict):
                    yield small(found)


SCHEMAS = Pool([*LOOPS, *{json.dumps(one): one for one in schemas()}.values()])


@some.composite
def deep(draw):
    """Nested as far as a request may be."""
    schema = draw(some.sampled_from([{}, {"type": "string"}, {"$ref": "#"}]))
    for _ in range(draw(some.integers(0, 90))):
        key = draw(some.sampled_from(["items", "additionalProperties", "not", "anyOf", "allOf", "properties"]))
        schema = {key: [schema] if key.endswith("Of") else {"a": schema} if key == "properties" else schema}
    return schema


@hunt(120)
@given(spoiled(SCHEMAS, 4).filter(lambda schema: isinstance(schema, dict)), some.booleans(), some.booleans())
def test_any_schema_that_was_sent_becomes_one_that_gemini_takes(schema, is_arguments, may_restore):
    laws.converts(schema, is_arguments=is_arguments, may_restore=may_restore)


@hunt(20)
@given(deep(), some.booleans())
def test_any_depth_ends(schema, is_arguments):
    laws.converts(schema, is_arguments=is_arguments)


@pytest.mark.parametrize("schema", LOOPS, ids=json.dumps)
def test_what_leads_back_to_itself_ends(schema):
    laws.converts(schema)
