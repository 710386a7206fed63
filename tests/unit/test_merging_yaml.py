"""What `setup` makes of users' YAML, read by a parser: what was there stays, or the file does."""

import pytest

from agproxy.merging import BEGIN, END, CannotMerge, YamlItem, YamlKeys

yaml = pytest.importorskip("yaml", reason="needs PyYAML")

KEYS = YamlKeys(values={"model": "openai/m", "openai-api-base": "http://127.0.0.1:8045/v1"})
ITEM = YamlItem(
    parent="models",
    values={"name": "m (agproxy)", "roles": ["chat", "edit"], "key": "${{ s.K }}"},
    head={"schema": "v1"},
)
LIST = YamlItem(parent="", values={"model_id": "agproxy/m", "vision": True}, head={})


def merged(fragment, old):
    """What the file says afterwards, when merged once and when merged twice."""
    new = fragment.merge(old)
    assert fragment.merge(new) == new
    return yaml.safe_load(new)


# A mapping written in ways that are taken. Where it has keys called model and models, those are of the kind replaced.
TAKEN = [
    "a: 1\n",
    "---\na: 1\n",
    "# mine\n\n---  # mine\na: 1 # one\n\n\n# end",
    'a: it\'s "quoted" # not: "really\n',
    "a: foo\n  bar\n  baz\nb: 1\n",
    "a:\n  foo\n  bar\n",
    "a:\n\n  foo\n",
    "a: \"x # \\\" y\" # z\nb: 'it''s: x'\n",
    "a: |\n  \"not closed\n  models:\n   - x\n\n  model: y\nb: >-\n    x: 'y\nc: 1\n",
    "a:\n- |\n  'x\n- >2\n   [x\n-\n  b: 1\n- c: |-\n    \"x\n  d: 2\n",
    'a: [x, \'y, ]\', {b: "}", c: it\'s}] # z\nb: {}\nurl: {u: http://x/y, "k":1}\n',
    'a: &x\n  b: 1\nc: *x\nd:\n  <<: *x\n  e: !!str 5\n  "q: r": |\n    \'x\n',
    "a : 1\nb c: http://x:1/y#z\nd: -1\ne: ~\nf: ?x\n",
    "a:\n  - - x\n    - y: 1\n      z: 2\n  -   b: 1\n      c: 2\n",
    "a: |\n  text\n\n\n\n# comment\n",
    "ключ: значение 🙂\n",
    "model-x: 1\nmodels-y: 2\n",
]


@pytest.mark.parametrize("old", [*TAKEN, *(text.replace("\n", "\r\n") for text in TAKEN[:6])])
def test_what_is_there_stays(old):
    theirs = yaml.safe_load(old)

    assert merged(KEYS, old) == theirs | KEYS.values
    assert merged(ITEM, old) == theirs | {"models": [ITEM.values]}
    before, after = f"{old.rstrip()}\nmodel : gpt # mine\n", f"\n# x\nlast: 'model'\n{old.replace('---', '#')}"
    assert merged(KEYS, before) == theirs | KEYS.values
    assert merged(KEYS, "model: 'gpt'\nopenai-api-base:\n" + after) == theirs | KEYS.values | {"last": "model"}


@pytest.mark.parametrize(
    "models",
    [
        "models:\n",
        "models: # mine\n\n# mine\n",
        "models:\n- name: a\n- name: b\n",
        "models:\n\n  # mine\n    - name: a\n      x:\n      - y\n      text: |\n       - models:\n    - b\n",
        "models :\n - name: 'a'\n   roles: [chat]\n",
    ],
)
@pytest.mark.parametrize("around", TAKEN)
def test_lists_keep_their_items(models, around):
    old = f"first: 1\n{models}rules:\n- x\n{around.replace('---', '#')}"
    theirs = yaml.safe_load(old)

    assert merged(ITEM, old) == theirs | {"models": [ITEM.values, *(theirs["models"] or [])]}


@pytest.mark.parametrize("old", ["- a\n", "# x\n---\n- b: 1\n  c: |\n   'x\n- - d\n- e\n  f\n", "- model_id: 'x'"])
def test_a_list_at_the_margin_gets_one_more(old):
    assert merged(LIST, old) == [*yaml.safe_load(old), LIST.values]


@pytest.mark.parametrize("old", ["", "\n", "# mine\n", "---\n", "# a\n---\n# b"])
def test_a_file_without_values_gets_ours(old):
    assert merged(KEYS, old) == KEYS.values
    assert merged(ITEM, old) == {"schema": "v1", "models": [ITEM.values]}
    assert merged(LIST, old) == [LIST.values]


NOT_PLAIN = [
    "plain text\n",
    "  a: 1\n",
    "- a\nb: 1\n",
    "a: 1\n- b\n",
    "-\n  a: 1\n",
    'a: "x\nmodel: y"\n',
    "a: 'x\n\nmodels:\n\n y'\n",
    'a:\n  - "x\n\nmodel: y"\n',
    'a:\n  b: !<t,x> "x\nmodel: y"\n',
    'a: &x "x\nmodel: y"\n',
    '- "x\n- y"\n',
    "a: [x,\nmodel, y]\n",
    "a: {x: 'y\nmodel: z'}\n",
    "a: [b:'c, [ ', d]\nmodel: ', e]]\n",
    "a: [b 'c, [ ', d]\nmodel: ', e]]\n",
    '"models":\n  - name: a\n',
    "'model': x\n",
    '"mod\\x65l": x\n',
    "? model\n: x\n",
    "? models\n",
    "&a model: x\n",
    "!!str models: []\n",
    "!!map\nmodel: x\n",
    "--- !!map\nmodel: x\n",
    "--- {a: 1}\n",
    "%YAML 1.1\n---\na: 1\n",
    "a: &x {model: 1, models: []}\n<<: *x\n",
    "a: 1\n---\nb: 1\n",
    "---\n---\n",
    "a: 1\n...\n",
    "a: |+\n  x\n\n\n",
    "a: |\n  x",
    "a:\tb\n",
    "a: 1\rmodel: 2\n",
    "a: x\u2028model: y\n",
    "\ufeffmodel: 2\n",
    "null\n",
    "*x\n",
]


@pytest.mark.parametrize("old", NOT_PLAIN)
@pytest.mark.parametrize("fragment", [KEYS, ITEM, LIST], ids=["keys", "item", "list"])
def test_what_is_written_in_other_ways_is_left(fragment, old):
    with pytest.raises(CannotMerge):
        fragment.merge(old)


@pytest.mark.parametrize(
    "value",
    [
        *("foo\n  bar", '"foo\n  bar"', "\n\n  foo", "\n- foo", "x\n  # y\n  z", "# x\n\n# y\n x", "|\n  x", "|"),
        *("&m gpt\nweak: *m", "!!str x", "*a", "[a]", "{}"),
    ],
)
def test_keys_with_values_of_other_kinds_are_left(value):
    with pytest.raises(CannotMerge):
        KEYS.merge(f"a: 1\nmodel: {value}\nb: 1\n")


@pytest.mark.parametrize(
    "value",
    [
        *("\n  a:\n    name: b", "\n-\n  name: a", "\n  - a\n  -\n    b", "\n  text", " text", " []", "\n  [a]", " ~"),
        *(" &x\n - a", "\n  &x\n  - a", "\n  *a", "\n  - # x\n    a: 1", "\n  - a\nmodels:\n  - b"),
    ],
)
def test_lists_of_other_kinds_are_left(value):
    with pytest.raises(CannotMerge):
        ITEM.merge(f"a: 1\nmodels:{value}\nb: 1\n")


def test_a_list_is_no_place_for_keys_nor_a_mapping_one_for_items():
    for fragment, old in [(KEYS, "- a\n"), (ITEM, "- a\n"), (LIST, "a: 1\n")]:
        with pytest.raises(CannotMerge, match="list"):
            fragment.merge(old)


@pytest.mark.parametrize(
    ("fragment", "old"),
    [
        (LIST, f"- model_id: a\n\n{BEGIN}\n- model_id: agproxy/m\n{END}\n\n# x\n  mine: 1\n"),
        (ITEM, f"models:\n  {BEGIN}\n  - name: m (agproxy)\n  {END}\n    mine: 1\n  - name: a\n"),
        (KEYS, f"a: b\n\n{BEGIN}\nmodel: x\n{END}\n  mine\n"),
    ],
)
def test_what_a_user_added_to_our_lines_is_not_left_to_others(fragment, old):
    with pytest.raises(CannotMerge):
        fragment.merge(old)
