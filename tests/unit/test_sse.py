"""Event streams in any split, beside a reading of the standard's text that shares nothing with the parser."""

import random
from functools import partial

import pytest
from dialogue import splits, tried
from event_stream import read, reference

from agproxy import sse
from agproxy.sse import DecodeError, Event

MARK = "\ufeff".encode()


DIALOGUES = {
    "one event": ("data: hello\n\n", [Event("message", "hello")]),
    "no space after the colon": ("data:hello\n\n", [Event("message", "hello")]),
    "only the first space is taken": ("data:  hello \n\n", [Event("message", " hello ")]),
    "carriage returns end lines": ("data: a\rdata: b\r\r", [Event("message", "a\nb")]),
    "both ends of line": ("data: a\r\ndata: b\r\n\r\n", [Event("message", "a\nb")]),
    "mixed ends of line": ("data: a\rdata: b\ndata: c\r\n\r\n", [Event("message", "a\nb\nc")]),
    "several lines of data": ("data: {\ndata: }\n\n", [Event("message", "{\n}")]),
    "a comment within an event": ("data: a\n: ping\ndata: b\n\n", [Event("message", "a\nb")]),
    "comments alone": (": keep-alive\n\n:\n\n", []),
    "a name": ("event: error\ndata: x\n\n", [Event("error", "x")]),
    "a name is forgotten after its event": (
        "event: a\ndata: 1\n\ndata: 2\n\n",
        [Event("a", "1"), Event("message", "2")],
    ),
    "a name without data is no event": ("event: a\n\ndata: 1\n\n", [Event("message", "1")]),
    "id and retry say nothing to us": ("id: 7\nretry: 10\ndata: 1\n\n", [Event("message", "1")]),
    "a field without colon is empty": ("data\n\ndata\ndata\n\n", [Event("message", ""), Event("message", "\n")]),
    "blank lines alone": ("\n\r\n\r\n\n", []),
    "a colon in the data": ('data: {"a": 1}\n\n', [Event("message", '{"a": 1}')]),
    "characters of two to four bytes": ("data: é€😀\n\n", [Event("message", "é€😀")]),
    "separators that are no ends of line": ("data: a\u2028b\x0bc\x85d\n\n", [Event("message", "a\u2028b\x0bc\x85d")]),
    "a byte order mark": ("\ufeffdata: 1\n\n", [Event("message", "1")]),
    "a second byte order mark is data": ("\ufeffdata: \ufeff1\n\n", [Event("message", "\ufeff1")]),
    "a last event without its blank line": ("data: 1\n\ndata: 2\n", [Event("message", "1"), Event("message", "2")]),
    "a last line without its end": ("data: 1\n\ndata: 2", [Event("message", "1"), Event("message", "2")]),
    "a last line that ends in half an end": ("data: 1\r", [Event("message", "1")]),
}


@pytest.mark.parametrize(("text", "events"), DIALOGUES.values(), ids=DIALOGUES)
def test_the_same_events_come_out_in_any_split(text, events):
    assert reference(text.encode()) == (events, "")
    for pieces in splits(text.encode(), seed=1):
        assert read(pieces) == (events, ""), pieces


STRAY = {
    "a bare JSON error": ('data: 1\r\n\r\n{\r\n  "error": {"code": 499}\r\n}\r\n', '{\n  "error": {"code": 499}\n}'),
    "an error before everything": ('{"error": {}}', '{"error": {}}'),
    "a page": ("<html>\n\n<p>502</p>\n", "<html>\n<p>502</p>"),
    "a field of another case": ("DATA: 1\n\ndata: 1\n\n", "DATA: 1"),
    "a field with a space before it": (" data: 1\n\n", " data: 1"),
}


@pytest.mark.parametrize(("text", "stray"), STRAY.values(), ids=STRAY)
def test_text_outside_the_events_is_kept_and_told(text, stray):
    """Quirk: `streaming-failure-error-mid-stream`. A reader that skips such lines takes the failure for a good end."""
    assert reference(text.encode())[1] == stray
    for pieces in splits(text.encode(), seed=2):
        events, left = read(pieces)
        assert left == stray
        assert all(event.data == "1" for event in events)


def test_stray_bytes_that_are_no_text_are_shown_as_marks():
    assert read([b"oops \xff\n"])[1] == "oops \ufffd"


def test_streams_by_chance_read_as_the_standard_says():
    chance = random.Random(20261124)
    atoms = [b"data:", b"data: ", b"event: x", b"id: 1", b":", b": c", b"x", "é".encode(), "😀".encode(), b" ", b"\t",
             b"\n", b"\r", b"\r\n", b"\n\n", b"\r\n\r\n", b"{", b"data", b"retry"]  # fmt: skip
    for number in range(300):
        data = b"".join(chance.choice(atoms) for _ in range(chance.randint(2, 30)))
        if chance.random() < 0.2:
            data = MARK + data
        expected = reference(data)
        for pieces in splits(data, seed=number, count=4):
            assert read(pieces) == expected, pieces


def test_empty_reads_change_nothing():
    assert read([b"", b"data: 1\r", b"", b"\n", b"", b"\r\n", b""]) == ([Event("message", "1")], "")


@pytest.mark.parametrize("data", [b"data: \xff\n\n", b"event: \xff\ndata: 1\n\n", b"data: \xc3\n\n", b"data: \xc3"])
def test_bytes_that_are_not_utf8_are_an_error(data):
    for pieces in splits(data, seed=3):
        with pytest.raises(DecodeError, match="not UTF-8"):
            read(pieces)


LIMIT = 40
OVER = {
    "a long line": b"data: " + b"x" * 40 + b"\n\n",
    "a line that never ends": b"data: " + b"x" * 100,
    "many lines": b"data: 0123456789\n" * 4 + b"\n",
    "many empty lines": b"data\n" * 9 + b"\n",
    "a long comment": b":" + b"x" * 41 + b"\n",
    "a long name": b"event: " + b"x" * 40 + b"\n",
    "stray text": b"0123456789\n" * 4,
}


@pytest.mark.parametrize("data", OVER.values(), ids=OVER)
def test_what_is_over_the_limit_is_an_error_in_any_split(data):
    for pieces in splits(data, seed=4):
        with pytest.raises(DecodeError, match="over 40 bytes"):
            read(pieces, max_event_bytes=LIMIT)


def test_the_limit_is_for_each_event_and_not_for_the_stream():
    event = b"data: " + b"x" * 33 + b"\n\n"  # 40 bytes with the end of its line
    for pieces in splits(event * 20, seed=5, count=5):
        assert read(pieces, max_event_bytes=LIMIT)[0] == [Event("message", "x" * 33)] * 20
    with pytest.raises(DecodeError):
        read([b"data: " + b"x" * 34 + b"\n\n"], max_event_bytes=LIMIT)


@pytest.mark.parametrize("bad", [b"data: \xff\n\n", b"data: " + b"x" * 100])
def test_what_came_before_an_error_is_told_first_in_any_split(bad):
    for pieces in splits(b"data: 1\n\ndata: 2\n\n" + bad, seed=6):
        decoder, events = sse.Decoder(max_event_bytes=60), []
        for ask in [*(partial(decoder.feed, piece) for piece in pieces), decoder.finish]:
            new, error = tried(ask, errors=DecodeError)
            events += new or ()
        assert events == [Event("message", "1"), Event("message", "2")]
        assert error is not None


@pytest.mark.parametrize("bad", [b"data: \xff\n\n", b"stray text\n"])
def test_after_an_error_nothing_more_is_read(bad):
    decoder = sse.Decoder(max_event_bytes=9)
    with pytest.raises(DecodeError):
        decoder.feed(bad)
    for again in (lambda: decoder.feed(b"data: 1\n\n"), decoder.finish):
        with pytest.raises(DecodeError):
            again()


def test_frames_that_we_write_read_back():
    written = sse.encode(b'{"a":1}') + sse.KEEP_ALIVE + sse.encode("é".encode(), "ping") + sse.DONE

    assert written.startswith(b'data: {"a":1}\n\n')
    events = [Event("message", '{"a":1}'), Event("ping", "é"), Event("message", "[DONE]")]
    assert read([written]) == reference(written) == (events, "")


WHOLE = ["data: {}\n\n", "data: é\r\n\r\n", "data:  a\n\n"]
NOT_WHOLE = ["data: 1\n\ndata: 2\n\n", "data: 1\n", "data: 1\r\r", "data: a\ndata: b\n\n", ": x\n\n", "data:1\n\n"]


@pytest.mark.parametrize("text", WHOLE)
def test_a_read_that_is_one_event_needs_no_look_for_lines(text):
    decoder = sse.Decoder()
    for _ in range(2):
        assert [Event("message", decoder.feed_whole(text.encode()))] == read([text.encode()])[0]
    assert decoder.finish() == []


@pytest.mark.parametrize("text", NOT_WHOLE)
def test_any_other_read_is_left_to_the_look_for_lines(text):
    decoder = sse.Decoder()
    assert decoder.feed_whole(text.encode()) == ""
    assert [*decoder.feed(text.encode()), *decoder.finish()] == read([text.encode()])[0]


@pytest.mark.parametrize("begun", [b"data: 1\n", b"event: x\n", b"da", b"data: 1\r\n\r", b"id: 1\rdata: 1\r"])
def test_what_has_begun_is_ended_by_the_look_for_lines(begun):
    for end in (b"data: 2\n\n", b"\ndata: 2\n\n"):
        decoder = sse.Decoder()
        events = decoder.feed(begun)
        if text := decoder.feed_whole(end):
            events.append(Event("message", text))
        else:
            events += decoder.feed(end)
        assert [*events, *decoder.finish()] == read([begun + end])[0], end


def test_a_whole_event_that_cannot_be_is_left_to_the_look_for_lines():
    assert sse.Decoder().feed_whole(b"data: \xff\n\n") == ""
    assert sse.Decoder(max_event_bytes=9).feed_whole(b"data: 12345\n\n") == ""
