"""Large bodies are read and written in slices: the same values, the same bytes, the same refusals as in one piece."""

import json
import random

import pytest

from agproxy import jsontext

TEXTS = [
    "{}",
    " { } ",
    '{"a":1}',
    '\ufeff{"a":[]}',
    '{"a" : [ ] , "b" : [ 1 , "x" , {"c":[[]]} ] }\n',
    '{"messages":[{"role":"user","content":"日本 😀"},{"role":"user"}],"n":1.5,"x":null}',
    '{"a":1,"a":[2]}',
    "[1,2]",
    "5",
    '"x"',
]
BROKEN = [
    "",
    "{",
    '{"a"',
    '{"a":',
    '{"a":1',
    '{"a":1,}',
    '{"a":[1,]}',
    '{"a":[1 2]}',
    '{"a":[1',
    '{"a":NaN}',
    '{"a":[1e999]}',
    '{"a":1}x',
    "{1:2}",
    '{"a" 1}',
    '{"a":"\x01"}',
    '{"a":' + "[" * 5000 + "]" * 5000 + "}",
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_read_as_in_one_piece(text):
    assert jsontext.loads_sliced(text.encode()) == jsontext.loads(text.encode())


@pytest.mark.parametrize("text", BROKEN)
def test_what_is_no_json_is_refused_with_the_same_words(text):
    with pytest.raises(ValueError, match=r"(?s).*") as whole:
        jsontext.loads(text.encode())
    with pytest.raises(ValueError, match=r"(?s).*") as sliced:
        jsontext.loads_sliced(text.encode())

    assert str(sliced.value) == str(whole.value)


def test_a_text_cut_anywhere_is_never_read():
    text = '{"a":[1,{"b":"c"}],"d":{"e":[true,null]}}'
    for end in range(len(text)):
        with pytest.raises(ValueError, match=r"(?s).*"):
            jsontext.loads_sliced(text[:end])


def any_value(chance, depth=5):
    kind = chance.randrange(9 if depth else 6)
    if kind < 6:
        return [None, True, -5, 1.25, "é😀\n\x00", "\ud800" if chance.random() < 0.1 else "plain"][kind]
    if kind == 6:
        return [any_value(chance, depth - 1) for _ in range(chance.randrange(4))]
    return {chance.choice("abcdé"): any_value(chance, depth - 1) for _ in range(chance.randrange(4))}


def test_any_value_is_written_as_in_one_piece_and_read_back():
    chance = random.Random(7)
    for _ in range(2000):
        value = {"contents": any_value(chance), "x": any_value(chance)}
        written = jsontext.dumps_sliced(value)
        assert written == jsontext.dumps(value)
        assert jsontext.loads_sliced(written) == json.loads(written) == value


def test_a_name_that_utf_8_cannot_hold_leaves_everything_escaped_as_in_one_piece():
    value = {"\x7f": 1, "\ud800": 2}

    assert jsontext.dumps_sliced(value) == jsontext.dumps(value)
