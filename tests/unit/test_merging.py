"""Pieces of configuration join files of users: nothing of theirs is lost, twice is as good as once."""

import json
import tomllib
from decimal import Decimal

import pytest

from agproxy.merging import BEGIN, CannotMerge, JsonValues, TomlBlock, YamlItem, YamlKeys

TOML = TomlBlock(
    top={"model": "m", "model_provider": "agproxy"},
    table=("model_providers", "agproxy"),
    values={"name": "agproxy", "base_url": "http://127.0.0.1:8045/v1"},
)
KEYS = YamlKeys(values={"model": "openai/m", "openai-api-base": "http://127.0.0.1:8045/v1"})
ITEM = YamlItem(parent="models", values={"name": "m (agproxy)", "model": "m"}, head={"name": "agproxy", "schema": "v1"})
LIST = YamlItem(parent="", values={"model_id": "agproxy/m", "model_name": "m"}, head={})
JSON = JsonValues(values={"provider": {"agproxy": {"url": "u"}}, "model": "agproxy/m", "list": [{"name": "m", "x": 1}]})


def twice(fragment, old):
    new = fragment.merge(old)
    assert fragment.merge(new) == new
    return new


# --- TOML ------------------------------------------------------------------------------------------------------

USERS_TOML = """\
# my settings
model = "gpt-5.5"  # the best
approval_policy = "never"

[model_providers.other]
name = "Other"
model = "stays"

[mcp_servers.toy]
command = "python"
"""


def test_toml_keys_are_replaced_at_the_top_only_and_tables_stay():
    new = twice(TOML, USERS_TOML)

    assert '# before agproxy: model = "gpt-5.5"  # the best\n' in new
    assert "# my settings\n" in new
    value = tomllib.loads(new)
    assert value == tomllib.loads(USERS_TOML) | {
        "model": "m",
        "model_provider": "agproxy",
        "model_providers": {
            "other": {"name": "Other", "model": "stays"},
            "agproxy": {"name": "agproxy", "base_url": "http://127.0.0.1:8045/v1"},
        },
    }


def test_a_new_value_takes_the_place_of_the_old_block():
    other = TomlBlock(top={"model": "n"}, table=TOML.table, values=TOML.values)
    new = other.merge(TOML.merge(USERS_TOML))

    assert tomllib.loads(new)["model"] == "n"
    assert "model_provider" not in tomllib.loads(new)
    assert new.count(BEGIN) == 2


@pytest.mark.parametrize(
    ("old", "why"),
    [
        ("model = ", "not TOML"),
        ('[model_providers.agproxy]\nname = "mine"\n', "of its own"),
        ('model_providers = "x"\n', "no table"),
        ('"model" = "quoted"\n', "the same keys|not TOML"),
        ('model = """\nover\nlines"""\n', "not TOML|the same keys"),
        ('model_providers = { other = { name = "x" } }\n', "the same keys|not TOML"),
        (f"{BEGIN}\nmodel = 1\n", "marks"),
    ],
)
def test_toml_that_cannot_be_joined_is_left(old, why):
    with pytest.raises(CannotMerge, match=why):
        TOML.merge(old)


@pytest.mark.parametrize("added", ["mine = 1\n", "\n# x\n  'mine' = 1\n[b]\n", "\r\nmine = 1\r\n"])
def test_a_key_that_a_user_put_below_our_table_does_not_go_to_another(added):
    with pytest.raises(CannotMerge, match="goes on"):
        TOML.merge(TOML.merge(USERS_TOML) + added)


def test_a_table_that_a_user_put_below_ours_stays():
    new = twice(TOML, TOML.merge(USERS_TOML) + "# x\n[b]\nc = 1\n")
    assert tomllib.loads(new)["b"] == {"c": 1}


def test_a_file_of_its_own_and_an_empty_one_say_the_same():
    assert tomllib.loads(TOML.text()) == tomllib.loads(TOML.merge("")) == tomllib.loads(TOML.merge("\n"))


# --- YAML ------------------------------------------------------------------------------------------------------


def test_yaml_keys_are_replaced_and_comments_stay():
    new = twice(KEYS, "# mine\nmodel: gpt-4o\ndark-mode: true\nread:\n  - a.md\n")

    assert new.startswith("# mine\n# before agproxy: model: gpt-4o\ndark-mode: true\nread:\n  - a.md\n")
    assert '\nmodel: "openai/m"\nopenai-api-base: "http://127.0.0.1:8045/v1"\n' in new


@pytest.mark.parametrize(
    ("old", "why"),
    [
        ("{model: x}\n", "manner of JSON"),
        ("a: 1\n---\nb: 2\n---\n", "several"),
        ("model: >\n  folded\n", "several lines"),
        ("model:\n  x\n", "several lines"),
        ('"model": x\n', "in quotes"),
    ],
)
def test_yaml_keys_that_cannot_be_replaced_are_left(old, why):
    with pytest.raises(CannotMerge, match=why):
        KEYS.merge(old)


@pytest.mark.parametrize("indent", ["", "  ", "    "])
def test_an_item_comes_into_the_list_in_its_own_indentation(indent):
    old = f"name: mine\nmodels: # all of them\n{indent}- name: a\n{indent}  model: b\nrules: []\n"
    new = twice(ITEM, old)

    assert f'\n{indent}- name: "m (agproxy)"\n{indent}  model: "m"\n' in new
    assert [line for line in old.splitlines() if line not in new.splitlines()] == []
    assert new.index("models:") < new.index("agproxy)") < new.index("rules:")


def test_a_file_without_the_list_gets_one():
    assert twice(ITEM, "name: mine\n").startswith("name: mine\n\nmodels:\n")
    assert 'schema: "v1"' in twice(ITEM, "# nothing yet\n")
    assert ITEM.text() == 'name: "agproxy"\nschema: "v1"\nmodels:\n  - name: "m (agproxy)"\n    model: "m"\n'


def test_an_item_of_a_bare_list_is_appended():
    old = "- model_id: other\n  model_name: o\n"
    assert twice(LIST, old).startswith(old)
    assert '\n- model_id: "agproxy/m"\n  model_name: "m"\n' in LIST.merge(old)


@pytest.mark.parametrize(
    ("fragment", "old", "why"),
    [
        (ITEM, "models: [{name: a}]\n", "not written as a list"),
        (ITEM, "models:\n  - name: m (agproxy)\n", "of its own"),
        (LIST, "[{}]", "manner of JSON"),
        (LIST, "key: value\n", "does not begin with a list"),
        (LIST, "- model_id: 'agproxy/m'\n", "of its own"),
    ],
)
def test_lists_that_cannot_be_joined_are_left(fragment, old, why):
    with pytest.raises(CannotMerge, match=why):
        fragment.merge(old)


# --- JSON ------------------------------------------------------------------------------------------------------


def test_json_objects_are_joined_lists_by_name_and_the_rest_stays():
    old = {"theme": "dark", "provider": {"x": {"y": 1}}, "model": "x/y", "list": [{"name": "m"}, {"name": "n"}]}
    new = twice(JSON, json.dumps(old, indent=4))

    assert json.loads(new) == {
        "theme": "dark",
        "provider": {"x": {"y": 1}, "agproxy": {"url": "u"}},
        "model": "agproxy/m",
        "list": [{"name": "m", "x": 1}, {"name": "n"}],
    }
    assert '\n    "theme"' in new


@pytest.mark.parametrize(
    "old", ["// mine\n{}", '{"a": 1,}', '{"a": 1} /* x */', "[]", '{"a": 1, "a": 2}', "{" * 5, "[" * 100_000]
)
def test_json_with_comments_and_other_things_is_left(old):
    with pytest.raises(CannotMerge):
        JSON.merge(old)


@pytest.mark.parametrize(
    ("old", "why"),
    [
        ('{"a": 1e999}', "number"),
        ('{"a": [-1e400]}', "number"),
        ('{"a": NaN}', "number"),
        ('{"a": -Infinity}', "number"),
        ('{"a": 0.12345678901234567890123}', "number .*: 0.12345678901234567890123"),
        ('{"a": 1e-999}', "number"),
        ('{"a": 1e-99999999999999999999}', "number"),
        ('{"a": "\\ud800"}', "surrogate"),
        ('{"\\udc00": 1}', "surrogate"),
        ('{"a": ' + "[" * 5000 + "]" * 5000 + "}", "deep|plain JSON"),
    ],
)
def test_json_that_would_not_be_the_same_when_written_anew_is_left(old, why):
    with pytest.raises(CannotMerge, match=why):
        JSON.merge(old)


def test_numbers_and_characters_of_json_stay_what_they_are():
    numbers = "[0.1, 1.50, 1e5, -0.0, 1E-7, 123456789012345678901234567890, 1.7976931348623157e308]"
    old = '{"a": ' + numbers + ', "b": "\\ud83d\\ude42"}'
    new = json.loads(twice(JSON, old), parse_float=Decimal)
    assert {key: new[key] for key in "ab"} == json.loads(old, parse_float=Decimal)


def test_an_item_of_the_same_name_keeps_its_other_keys_and_odd_names_do_no_harm():
    theirs = [{"name": ["m"]}, {"name": None}, {"name": {}}, "m", {"x": 0}, {"name": "m", "mine": 2, "x": 3}]
    new = json.loads(twice(JSON, json.dumps({"list": theirs})))
    assert new["list"] == [*theirs[:-1], {"name": "m", "mine": 2, "x": 1}]


def test_a_new_time_alone_is_no_change():
    fresh = JsonValues(values={"a": {"time": 2, "b": 1}}, fresh=("a", "time"))
    assert fresh.merge('{"a": {"time": 1, "b": 1}}') == '{"a": {"time": 1, "b": 1}}'
    assert json.loads(fresh.merge('{"a": {"time": 1, "b": 0}}')) == {"a": {"time": 2, "b": 1}}
