"""Any bytes on a connection: what is taken is what h11 reads, what h11 refuses is refused, and no split changes it."""

import gzip
import zlib

import pytest

pytest.importorskip("hypothesis")

from hunting import hunt, splits_of, spoiled_bytes
from hypothesis import given
from hypothesis import strategies as some
from judges import by_h11, by_us, receive, requests_by_h11, serve

ROOMY = {"max_upstream_body_bytes": 1000}
TIGHT = {"max_header_bytes": 700, "max_body_bytes": 60}

# --- grammar: messages made of good and odd pieces, then spoiled by the byte ---


def mostly(good, *odd):
    """One of the good ones, and one of the odd ones every so often."""
    times = 1 + 20 * len(odd) // len(good)
    return some.sampled_from([*(list(good) * times), *odd])


names = mostly(
    ["Host", "Content-Length", "Transfer-Encoding", "Connection", "Expect", "Content-Encoding", "Upgrade", "X-A", "TE"],
    "Content-length ", "Transfer_Encoding", "", "Trailer:", "é",
)  # fmt: skip
values = some.sampled_from(
    [
        "a", "localhost:8045", "[::1]", "a b", "a,b", "0", "3", "5", "5, 5", "+5", "-1", "0x5", "5 ", "99999999999",
        "9" * 30, "chunked", "Chunked", "gzip, chunked", "chunked, chunked", "identity", "close", "keep-alive",
        "keep-alive, close", "upgrade", "100-continue", "gzip", "deflate", "", "\t x \t", "\x80\xff", "x" * 600,
    ]
)  # fmt: skip
plain_fields = some.sampled_from(
    ["Connection: keep-alive", "Accept:*/*", "X-Empty:", "X: \x80\xff", "connection: close", "Expect: 100-continue"]
)
odd_fields = some.tuples(names, mostly([": ", ":", ":\t"], " : ", ""), values).map("".join)
ends = mostly(["\r\n"], "\n", "\r", "\r\n ")
chunks = some.lists(mostly(["3\r\nabc\r\n", "0A\r\n0123456789\r\n", "1;x=y\r\nz\r\n"], "2\r\nab\r\r\n"), max_size=3)
last_chunks = mostly(["0\r\n\r\n", "000\r\n\r\n"], "0\r\nT: u\r\n\r\n", "0\r\n", "0\n\n", "-1\r\n")
chunked_bodies = some.tuples(chunks.map("".join), last_chunks).map("".join)
methods = mostly(["GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS"], "CONNECT", "TRACE", "get", "PRI")
targets = mostly(
    ["/", "/v1/models?a=b", "/%2e%2e//"], "*", "http://a/b?c", "http://", "ftp://a/", "/é", "a", "/ b", "/#x"
)
versions = mostly(["HTTP/1.1"], "HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "http/1.1", "HTTP/1.1 ", "")
INSERTS = [
    b"", b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b"\t", b":", b"0", b"5", b"\0", b"\x0b", b"\x80", b";", b",",
    b"Content-Length: 2\r\n", b"Transfer-Encoding: chunked\r\n", b"\r\n ", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
]  # fmt: skip


@some.composite
def messages(draw, first_lines):
    """One message: its first line, some fields, a body that fits them or one that does not."""
    fields = draw(some.lists(plain_fields, max_size=2))
    if not draw(some.integers(0, 3)):
        fields.append(draw(odd_fields))
    kind = draw(mostly(["none", "length", "chunked"], "wrong"))
    body = ""
    if kind == "length":
        body = draw(some.sampled_from(["", "abc", "x" * 70, "GET / HTTP/1.1\r\nHost: b\r\n\r\n"]))
        fields.append(f"Content-Length: {len(body)}")
    elif kind == "chunked":
        body = draw(chunked_bodies)
        fields.append("Transfer-Encoding: chunked")
    elif kind == "wrong":
        body = draw(chunked_bodies | some.sampled_from(["", "abc"]))
    if draw(some.integers(0, 19)):
        fields.insert(0, "Host: a")
    text = draw(first_lines) + draw(ends) + "".join(field + draw(ends) for field in fields) + draw(ends) + body
    return text.encode("latin-1", "replace")


request_lines = some.tuples(methods, mostly([" "], "  "), targets, some.just(" "), versions).map("".join)
good_requests = messages(request_lines)
requests = good_requests | spoiled_bytes(good_requests, INSERTS, most=2)
status_lines = mostly(
    ["HTTP/1.1 200 OK", "HTTP/1.1 429 Too Many Requests", "HTTP/1.1 200 "],
    "HTTP/1.1 204 No Content", "HTTP/1.1 304 x", "HTTP/1.1 100 Continue", "HTTP/1.1 200", "HTTP/1.0 200 OK",
    "HTTP/1.1 99 x", "HTTP/1.1 600 x", "HTTP/2 200", "ICY 200 OK", "HTTP/1.1 101 Switching Protocols",
)  # fmt: skip
good_answers = messages(status_lines)
answers = good_answers | spoiled_bytes(good_answers, INSERTS, most=2)


@hunt(120)
@given(some.lists(requests, min_size=1, max_size=3).map(b"".join), some.data())
def test_any_bytes_of_a_client_are_requests_as_h11_reads_them_or_refused(data, draw):
    judged = requests_by_h11(data)
    whole = serve([data])
    refusals = [status for status in whole.statuses if status >= 400]

    # Of what h11 takes we take the beginning, and the same of each.
    assert len(whole.requests) <= len(judged.whole)
    for ours, (method, target, fields, body) in zip(whole.requests, judged.whole, strict=False):
        assert ours.method == method
        if target.startswith("/"):
            assert ours.path + ("?" + ours.query if "?" in target else "") == target
            assert ours.headers == fields or "content-encoding" in dict(fields)
        assert ours.body == body or "content-encoding" in dict(fields)
    # Each is answered, in order; at most one refusal, which is the end.
    assert whole.statuses == [200] * len(whole.requests) + refusals
    assert len(refusals) <= 1
    assert all(status < 500 or status == 505 for status in refusals)
    assert whole.is_over or not refusals
    if judged.is_refused or len(whole.requests) < len(judged.whole):
        assert refusals or whole.is_over, "neither answered nor refused"
    # The same verdict in any split.
    pieces = draw.draw(splits_of(data))
    assert_same(serve(pieces), whole)


def assert_same(found, wanted):
    assert found.requests == wanted.requests
    assert [status // 100 for status in found.statuses] == [status // 100 for status in wanted.statuses]
    assert found.is_over == wanted.is_over


@hunt(60)
@given(requests, some.data())
def test_any_request_meets_the_same_limits_in_any_split(data, draw):
    whole = serve([data], **TIGHT)

    assert_same(serve([data[i : i + 1] for i in range(len(data))], **TIGHT), whole)
    assert_same(serve(draw.draw(splits_of(data)), **TIGHT), whole)
    assert all(len(request.body) <= TIGHT["max_body_bytes"] for request in whole.requests)


@hunt(150)
@given(some.lists(answers, min_size=1, max_size=2).map(b"".join), some.data())
def test_any_bytes_of_an_upstream_are_an_answer_as_h11_reads_it(data, draw):
    pieces = draw.draw(splits_of(data))
    if not pieces:
        return
    found, _ = by_us(pieces)
    assert found == by_h11(pieces)


PACKED = gzip.compress(b"words " * 30)
packed = some.builds(
    lambda coding, body: (
        b"HTTP/1.1 200 OK\r\nContent-Encoding: %b\r\nContent-Length: %d\r\n\r\n" % (coding, len(body)) + body
    ),
    some.sampled_from([b"gzip", b"deflate", b"x-gzip", b"br", b"gzip, gzip"]),
    spoiled_bytes(some.sampled_from([PACKED, PACKED * 2, zlib.compress(b"x" * 90), b""]), [b"\x1f\x8b", b"\0"], most=1),
)


@hunt(80)
@given(answers | packed, some.data())
def test_any_bytes_of_an_upstream_come_out_of_the_client_the_same_in_any_split(data, draw):
    """Whole or cut off at the same place; how far a cut one was told may differ, what was told is the beginning."""
    outcome, rested = receive([data], **ROOMY)
    other, same = receive(draw.draw(splits_of(data)), **ROOMY)

    assert (len(other), rested) == (len(outcome), same)
    if len(outcome) == 3:
        assert other == outcome
        whole, _ = by_us([data])
        assert outcome[0] == whole[0][0]
        assert "content-encoding" in dict(whole[0][1]) or outcome[1:] == (whole[0][1], whole[1])
    else:
        assert outcome[1].startswith(other[1]) or other[1].startswith(outcome[1])
