"""JSON and event streams in any bytes: as Python's json and the standard's text read them, in slices and in any split.

tests/unit/test_properties_core.py holds the laws of whole values; here are the spoiled texts and the limits.
"""

import json

import pytest

pytest.importorskip("hypothesis")

from dialogue import tried
from event_stream import read, reference
from hunting import anything, hunt, splits_of, spoiled_bytes, texts
from hypothesis import given
from hypothesis import strategies as some

from agproxy import jsontext, sse

# --- JSON ---

objects = some.dictionaries(texts, anything | some.lists(anything, max_size=3), max_size=3)
written = some.one_of(
    some.tuples(anything | objects, some.sampled_from([None, 1]), some.booleans()).map(
        lambda drawn: json.dumps(drawn[0], indent=drawn[1], ensure_ascii=drawn[2])
    ),
    some.sampled_from(
        ['{"a":1,"a":[2]}', '{"a":[1],"a":{}}', '[1E400]', '{"a":-0}', '{"a":1e5}', '"\\ud83d\\ude00"', '{"\\ud800":0}']
    ),
    some.integers(190, 210).map(lambda depth: '{"a":' + "[" * depth + "]" * depth + "}"),
)  # fmt: skip
JSON_PIECES = [b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"\\u", b"\\ud800", b"NaN", b"1e999", b"-", b"0", b".",
    b" ", b"\n", b"\xef\xbb\xbf", b"\xff", b"\x0b", b"\xc2\xa0", b"null", b'"a":1,', b"/**/"]  # fmt: skip


def by_python(data: bytes):
    """Python's json, without what is no JSON."""

    def refuse(word):
        raise ValueError(word)

    def finite(text):
        if float(text) in (float("inf"), float("-inf")):
            raise ValueError(text)
        return float(text)

    return json.loads(data.decode("utf-8-sig"), parse_constant=refuse, parse_float=finite)


@hunt(150)
@given(spoiled_bytes(written.map(lambda text: text.encode("utf-8", "surrogatepass")), JSON_PIECES, most=2))
def test_any_text_is_the_value_that_python_reads_whole_or_in_slices(data):
    value, error = tried(jsontext.loads, data, errors=ValueError)
    sliced, same = tried(jsontext.loads_sliced, data, errors=ValueError)
    wanted, refused = tried(by_python, data, errors=(ValueError, RecursionError))

    assert repr(sliced) == repr(value)
    assert (type(same), str(same)) == (type(error), str(error))
    if error is None:
        assert repr(value) == repr(wanted)
        assert refused is None
        assert jsontext.dumps_sliced(value) == jsontext.dumps(value)
        assert json.loads(jsontext.dumps(value)) == value
    else:
        assert refused is not None or "deep" in str(error)


# --- event streams ---

pieces = some.lists(
    some.sampled_from(
        ["data:", "data: {}", "data", "event: x", "event", ": c", "id: 1", "retry: 5", "\ufeff", "{", "error",
         " ", "\n", "\n", "\r", "\r\n", "\r\n\r\n", "\n\n", "\n\n", "é😀", "\u2028", "\x0b", "\x1c"]
    ), max_size=16,
).map("".join)  # fmt: skip


@hunt(150)
@given(pieces, some.data())
def test_any_stream_is_read_as_the_standard_says_in_any_split(text, draw):
    data = text.encode()
    expected = reference(data)

    assert read([data]) == expected
    assert read([data[i : i + 1] for i in range(len(data))]) == expected
    assert read(draw.draw(splits_of(data))) == expected


@hunt(60)
@given(some.lists(pieces, max_size=4))
def test_what_is_read_as_one_event_at_once_is_what_reading_by_the_line_gives(blocks):
    """As the decoder of Gemini's streams uses the two ways in turn."""
    quick, slow = sse.Decoder(), sse.Decoder()
    found = []
    for block in blocks:
        data = b"data: " + block.encode()
        text = quick.feed_whole(data)
        found += [sse.Event("message", text)] if text else quick.feed(data)
    wanted = [event for block in blocks for event in slow.feed(b"data: " + block.encode())]

    assert found + quick.finish() == wanted + slow.finish()
    assert quick.stray == slow.stray


@hunt(60)
@given(some.binary(max_size=40) | pieces.map(str.encode), some.integers(1, 30), some.data())
def test_any_bytes_keep_within_the_limit_or_are_refused_in_any_split(data, limit, draw):
    def outcome(split):
        decoder = sse.Decoder(max_event_bytes=limit)
        events = []
        for piece in [*split, None]:
            found, error = tried(
                *((decoder.feed, piece) if piece is not None else (decoder.finish,)), errors=sse.DecodeError
            )
            events += found or []
            if error is not None:
                return events, str(error)
        return events, None

    events, error = outcome([data])
    assert all(len(event.data) <= limit for event in events)
    assert outcome(draw.draw(splits_of(data))) == (events, error)
