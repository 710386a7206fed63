"""JSON, strict both ways: what is not RFC 8259 is one ValueError, whatever Python's own parser thinks of it."""

import json
import random

import pytest

from agproxy import jsontext


@pytest.mark.parametrize(
    "text",
    [
        "NaN",
        "Infinity",
        "-Infinity",
        "[1e999]",
        "[-1e999]",
        "",
        " ",
        "{",
        "[1,]",
        "{'a':1}",
        "01",
        '"\t"',
        "[1] 2",
        "\ufeff1",
    ],
)
def test_what_is_no_json_is_a_value_error(text):
    with pytest.raises(ValueError, match=r"."):  # each has its own words
        jsontext.loads(text)


@pytest.mark.parametrize("data", [b"\xff", b'"\xc3"', b'"\xed\xa0\x80"', "1".encode("utf-16")])
def test_bytes_that_are_not_utf8_are_a_value_error(data):
    with pytest.raises(ValueError, match="codec"):
        jsontext.loads(data)


def test_a_byte_order_mark_before_bytes_is_passed_over():
    assert jsontext.loads(b'\xef\xbb\xbf{"a":1}') == {"a": 1}


def test_a_number_of_thousands_of_digits_is_a_value_error():
    with pytest.raises(ValueError, match="digits"):
        jsontext.loads("9" * 5000)


def nested(opening, closing, depth):
    return opening * depth + "1" + closing * depth


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
def test_nesting_has_a_limit_of_its_own(opening, closing):
    each = opening.count("[") + opening.count("{")
    most = jsontext.MAX_DEPTH // each

    assert jsontext.text(jsontext.loads(nested(opening, closing, most))) == nested(opening, closing, most)
    for depth in (most + 1, 100_000):
        with pytest.raises(ValueError, match="nested too deeply"):
            jsontext.loads(nested(opening, closing, depth))


def test_an_empty_array_counts_as_a_level_too():
    limit = jsontext.MAX_DEPTH
    assert jsontext.loads("[" * limit + "]" * limit) is not None
    with pytest.raises(ValueError, match="nested too deeply"):
        jsontext.loads("[" * (limit + 1) + "]" * (limit + 1))


def test_many_brackets_that_are_not_deep_are_no_trouble():
    wide = [{"a": []}] * 1000
    assert jsontext.loads(json.dumps(wide)) == wide
    assert jsontext.loads('"' + "[" * 1000 + '"') == "[" * 1000


def test_what_is_read_at_the_limit_can_be_written_some_levels_deeper():
    value = jsontext.loads(nested("[", "]", jsontext.MAX_DEPTH))
    assert jsontext.text({"contents": [{"parts": [{"functionCall": {"args": value}}]}]})


def test_what_is_written_is_compact_and_keeps_its_characters():
    assert jsontext.text({"a": [1, 2.5, None, True], "b": "грüß 😀\n"}) == '{"a":[1,2.5,null,true],"b":"грüß 😀\\n"}'
    assert jsontext.dumps({"é": "e"}) == '{"é":"e"}'.encode()


def test_a_lone_surrogate_is_escaped_since_utf8_cannot_hold_it():
    value = jsontext.loads('"a\\ud800"')
    assert jsontext.dumps([value, "é"]) == b'["a\\ud800","\\u00e9"]'
    assert jsontext.loads(jsontext.dumps(value)) == value


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [float("-inf")]])
def test_a_number_that_json_cannot_hold_is_a_value_error(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        jsontext.dumps(value)


def test_a_value_without_end_is_a_value_error():
    ring = []
    ring.append(ring)
    with pytest.raises(ValueError, match="nested too deeply"):
        jsontext.text(ring)


@pytest.mark.parametrize("value", [None, 0, -1, 1.5, 10**300, "", "a\u2028b", [], {}, {"a": {"b": [None]}}])
def test_what_is_written_reads_back_as_it_was(value):
    assert jsontext.loads(jsontext.dumps(value)) == value
    assert json.loads(jsontext.text(value)) == value


# --- in slices, and the short ways -----------------------------------------------------------------------------


def drawn(draw, depth):
    """A JSON value."""
    kind = draw.randrange(7 if depth else 5)
    if kind == 5:
        return [drawn(draw, depth - 1) for _ in range(draw.randrange(4))]
    if kind == 6:
        return {draw.choice('ab"é'): drawn(draw, depth - 1) for _ in range(draw.randrange(4))}
    text = draw.choice(["", 'a\n"\\é', "\u2028", "{[", "\ud800"])
    return [None, True, draw.randrange(-9, 9), draw.random(), text][kind]


def read_by(reader, text):
    try:
        return reader(text)
    except ValueError as error:
        return f"{type(error).__name__}: {error}"


def test_slices_are_read_and_written_as_the_whole_is():
    """Broken texts too: the errors are the same."""
    draw = random.Random(20261124)
    for _ in range(5000):
        value = {f"k{number}": drawn(draw, 4) for number in range(draw.randrange(4))}
        value = value if draw.random() < 0.8 else drawn(draw, 4)
        text = json.dumps(value, ensure_ascii=draw.random() < 0.5, indent=draw.choice([None, 1]))
        place = draw.randrange(len(text))
        broken = text[:place] + draw.choice(',]}"0: \x00') + text[place + draw.randrange(2) :]
        for one in (text, broken):
            assert read_by(jsontext.loads_sliced, one) == read_by(jsontext.loads, one), one
        assert jsontext.dumps_sliced(value) == jsontext.dumps(value)


def test_slices_have_the_same_limits():
    for depth in (198, 199, 200, 100_000):
        text = '{"a":' + "[" * depth + "]" * depth + "}"
        assert read_by(jsontext.loads_sliced, text) == read_by(jsontext.loads, text)
    assert jsontext.loads_sliced(b'\xef\xbb\xbf {"a": [1, {"b": 2}], "a": 3} \n') == {"a": 3}
    with pytest.raises(ValueError, match="utf-8"):
        jsontext.loads_sliced(b'{"a": "\xff"}')


@pytest.mark.parametrize("text", ["", "a", 'a"\\\n\x00\x1f', "é€😀\u2028", "\ud800é"])
def test_a_text_alone_is_quoted_as_any_value_is(text):
    assert jsontext.quoted(text) == jsontext.dumps(text)
