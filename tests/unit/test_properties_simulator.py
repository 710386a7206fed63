"""The simulator's values for schemas, against parties that we did not write: hypothesis and pydantic."""

import json
from typing import Literal

import pytest

from agproxy.simulator.schema import Unsatisfiable, example
from agproxy.simulator.words import Hints

hypothesis = pytest.importorskip("hypothesis", reason="hypothesis is not installed")
pydantic = pytest.importorskip("pydantic", reason="pydantic is not installed")
given, st = hypothesis.given, hypothesis.strategies
BaseModel, Field, TypeAdapter = pydantic.BaseModel, pydantic.Field, pydantic.TypeAdapter


class Address(BaseModel):
    street: str = Field(min_length=3, max_length=12)
    number: int = Field(ge=1, le=9, multiple_of=3)


class Person(BaseModel):
    name: str
    mood: Literal["calm", "cross"]
    address: Address
    tags: list[str] = Field(min_length=2)
    friends: list["Person"] = Field(default_factory=list)
    ratio: float = Field(gt=0, lt=1)
    note: str | None
    pet: Address | int


def test_a_models_schema_gets_a_value_that_the_model_takes():
    adapter = TypeAdapter(Person)
    value = example(adapter.json_schema(), Hints.of("Describe Ada Lovelace"), fill=True)

    assert adapter.validate_python(value, strict=True).name == "Ada Lovelace"


KEYWORDS = [
    "type", "properties", "required", "items", "enum", "const", "anyOf", "allOf", "$ref", "$defs", "minimum", "maximum",
    "multipleOf", "minLength", "pattern", "format", "minItems", "prefixItems", "additionalProperties", "minProperties",
    "default", "examples", "a",
]  # fmt: skip


@given(
    st.recursive(
        st.sampled_from([None, True, 0, -1, 2.5, "string", "OBJECT", "#", "#/a", "date", "(", "\ud800", 10**400]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(KEYWORDS),
                inner,
                max_size=5,
            )
        ),
        max_leaves=15,
    ),
    st.integers(0, 2),
)
def test_nonsense_gets_a_json_value_or_is_unsatisfiable(schema, number):
    try:
        value = example(schema, Hints.of('Paris 3 "q"'), number=number)
    except Unsatisfiable:
        return
    json.dumps(value, allow_nan=False)
