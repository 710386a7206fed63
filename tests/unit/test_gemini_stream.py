"""The bytes of a stream in, events out: the same in any split, and no failure that looks like a good end."""

import json

import pytest
from dialogue import EXCHANGE_ID, answer, chunk, decode, encode, function_call, request, splits, tool, user

from agproxy.backends.gemini import byte_decoder
from agproxy.conversation import PartDelta, fold
from agproxy.errors import GatewayError, Retry, UpstreamFailed, UpstreamRateLimited

CHUNKS = [
    chunk("hé") | {"responseId": "r", "modelVersion": "gemini-2.5-flash"},
    chunk("😀 llo", {"text": "", "thoughtSignature": "s"}),
    chunk(function_call(args={"q": "日本"})),
    chunk("", finish="STOP") | {"usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 3}},
]


def sse(*chunks, end="\r\n"):
    return "".join(f"data: {json.dumps(one, ensure_ascii=False)}{end}{end}" for one in chunks).encode()


def decoder(limit=1 << 20):
    asked = request(user("hello"), tools=(tool("look"),))
    return byte_decoder(encode(asked), EXCHANGE_ID, max_event_bytes=limit)


def read(pieces, limit=1 << 20):
    """Everything that came out: the events, and the error that ended them if one did."""
    reader, events = decoder(limit), []
    try:
        for piece in pieces:
            events += reader.feed(piece)
        events += reader.finish()
    except GatewayError as error:
        return events, error
    return events, None


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r"], ids=repr)
def test_a_stream_is_the_events_of_its_chunks_in_any_split(end):
    expected = decode(*CHUNKS)

    for pieces in splits(sse(*CHUNKS, end=end), seed=1):
        assert read(pieces) == (expected, None)
    assert read([sse(one, end=end) for one in CHUNKS]) == (expected, None)
    assert fold(expected) == answer(*CHUNKS)


def test_an_event_that_comes_alone_is_read_as_one_that_comes_with_others():
    """Most reads are one event, and what is quick for them must not forget what came before."""
    first, second, third = (sse(one, end="\n") for one in CHUNKS[:3])
    expected = [event.text for event in decode(*CHUNKS[:3]) if isinstance(event, PartDelta)]

    for pieces in (
        [first, second, third],
        [first[:-1], b"\n", second, third],
        [first[:-2], b"\n\n" + second, third],
        [first + second[:9], second[9:], third],
        [b": c\n", first, b": c\n\n", second, third],
        [b"\xef\xbb\xbf" + first, second, third],
        [b"event: x\n", first, second, b"id: 1\r", b"\n", third],
        [first.replace(b"\n\n", b"\r\n\r"), b"\n", second, third],
    ):
        events, _ = read(pieces)
        assert [event.text for event in events if isinstance(event, PartDelta)] == expected, pieces


def test_two_lines_of_data_that_come_apart_are_one_event():
    text = json.dumps(CHUNKS[0], indent=1)
    lines = [f"data: {line}\n".encode() for line in text.split("\n")]

    events, _ = read([*lines[:-1], lines[-1] + b"\n"])
    assert [event.text for event in events if isinstance(event, PartDelta)] == ["hé"]


def test_comments_and_a_missing_last_blank_line_change_nothing():
    data = b": hello\r\n\r\n" + sse(*CHUNKS).rstrip(b"\r\n")

    for pieces in splits(data, seed=2):
        assert read(pieces) == (decode(*CHUNKS), None)


BARE = b"""{\r
  "error": {\r
    "code": 499,\r
    "message": "The operation was cancelled.",\r
    "status": "CANCELLED"\r
  }\r
}\r
"""


def test_a_bare_error_after_good_chunks_is_the_end_and_no_good_one():
    """Quirk: `streaming-failure-error-mid-stream`. A reader that skips such lines takes it for a clean end."""
    for pieces in splits(sse(*CHUNKS[:2]) + BARE, seed=3):
        events, error = read(pieces)
        assert [event.text for event in events if isinstance(event, PartDelta)] == ["hé", "😀 llo"]
        assert (error.status, error.message, error.retry) == (502, "The operation was cancelled.", Retry.NEXT_ACCOUNT)


def test_a_bare_error_before_everything_is_what_it_says():
    bare = b'[{"error": {"code": 429, "message": "slow down"}}]'
    for data in (bare, bare[1:-1], b"data: " + bare + b"\n\n"):
        events, error = read([data])
        assert (events, type(error), error.retry) == ([], UpstreamRateLimited, Retry.NEXT_ACCOUNT)


def test_an_error_in_an_event_is_told_after_what_came_before_it_in_any_split():
    data = sse(CHUNKS[0], {"error": {"code": 503, "message": "overloaded"}}, CHUNKS[1])

    for pieces in splits(data, seed=4):
        events, error = read(pieces)
        assert [event.text for event in events if isinstance(event, PartDelta)] == ["hé"]
        assert (error.status, error.message, error.retry) == (503, "overloaded", Retry.NEXT_ACCOUNT)


STRAY = {
    "a page": b"<html>502 Bad Gateway</html>",
    "words": b"upstream connect error",
    "a chunk that is no event": json.dumps(CHUNKS[0]).encode(),
    "a list of chunks, as without alt=sse": json.dumps(CHUNKS).encode(),
}


@pytest.mark.parametrize("stray", STRAY.values(), ids=STRAY)
@pytest.mark.parametrize("before", [(), CHUNKS], ids=["alone", "after a whole answer"])
def test_stray_text_is_never_skipped(stray, before):
    for pieces in splits(sse(*before) + stray, seed=5, count=5):
        events, error = read(pieces)
        assert type(error) is UpstreamFailed
        assert (error.code, error.message) == ("bad_upstream_body", "Upstream's stream holds text that is no event.")
        assert error.retry is Retry.NEXT_ACCOUNT  # who has shown words already allows none
        assert bool(events) is bool(before)


BAD = {
    "no JSON": b"data: {\n\n",
    "no text at all": b"data:\n\n",
    "another protocol's end": b"data: [DONE]\n\n",
    "JSON that is no chunk": b"data: 5\n\n",
    "numbers that are none": b'data: {"candidates": NaN}\n\n',
    "nested beyond measure": b"data: " + b"[" * 5000 + b"]" * 5000 + b"\n\n",
    "not UTF-8": b'data: {"a": "\xff"}\n\n',
    "an event over the limit": b"data: " + b"x" * 30_000,
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
@pytest.mark.parametrize("before", [(), CHUNKS[:1]], ids=["first", "after words"])
def test_bytes_that_are_no_stream_of_chunks_are_told_as_such(bad, before):
    data = sse(*before) + bad
    for pieces in ([data], [sse(*before), bad], [data[:-3], data[-3:]]):
        events, error = read(pieces, limit=20_000)
        assert (type(error), error.status, error.code) == (UpstreamFailed, 502, "bad_upstream_body")
        assert error.retry is Retry.NEXT_ACCOUNT  # who has shown words already allows none
        assert [event.text for event in events if isinstance(event, PartDelta)] == (["hé"] if before else [])


def test_an_error_stays_the_same_however_often_the_stream_is_asked():
    reader = decoder()
    reader.feed(sse(CHUNKS[0]) + b"data: {\n\n")

    for ask in (lambda: reader.feed(sse(CHUNKS[1])), reader.finish, reader.finish):
        with pytest.raises(UpstreamFailed, match="not JSON"):
            ask()


def test_an_empty_stream_is_an_error_that_may_be_tried_again():
    for data in (b"", b"\r\n\r\n", b": ping\n\n"):
        events, error = read([data])
        assert (events, error.code, error.retry) == ([], "empty_answer", Retry.SAME_ACCOUNT)
