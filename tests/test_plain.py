"""Whatever is read and written without h11 is what h11 would make of it: same accepts, same values.

What `plain` does not take goes to h11 itself, so only what it takes can differ. The corpus is what SDKs, proxies and
attackers send; each case also runs in many broken forms and, for answers, in many splits, the same ones every time.
"""

import random

import h11
import pytest
from judges import LIMIT, by_h11, by_us

from agproxy.errors import HttpRefused
from agproxy.io import heads, plain

SDK = (
    b"POST /v1/chat/completions?x=1 HTTP/1.1\r\nHost: localhost:8045\r\nAccept-Encoding: gzip, deflate, br\r\n"
    b"Connection: keep-alive\r\nAccept: application/json\r\nContent-Type: application/json\r\n"
    b"User-Agent: OpenAI/Python 2.8.1\r\nX-Stainless-Lang: python\r\nAuthorization: Bearer sk-1\r\n"
    b"x-stainless-read-timeout: 600\r\nContent-Length: 17\r\n\r\n"
)
REQUESTS = (
    SDK,
    b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
    b"GET /a HTTP/1.1\r\nHost:\t [::1]:80 \r\nEmpty:\r\nOdd!#$%&'*+-.^_`|~: \x80\xff\x01 b\tc  \r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET http://a.example/b HTTP/1.1\r\nHost: c\r\n\r\n",
    b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Keep-Alive, close\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET / HTTP/1.1\r\nX: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    b"GET / HTTP/1.1\nHost: a\n\r\n\r\n",
    b"CONNECT /a HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /\x80 HTTP/1.1\r\nHost: a\r\n\r\n",
)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nServer: x\r\n"
PLAIN_ANSWERS = (
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1A\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\n\r\n",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nbehind",
    HEAD + b"Content-Length: 5\r\n\r\nhello",
    HEAD + b"Content-Length: 5\r\n\r\nhello, behind",
    b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 3\r\nContent-Length: 2\r\n\r\n{}",
)
ANSWERS = (
    *PLAIN_ANSWERS,
    HEAD
    + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\nhi\r\n3;a=b\r\nhey\r\n000\r\nTrailer: t\r\n\r\n",
    HEAD + b"Transfer-Encoding: Chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n2 \r\nhi\r\n0\r\n\r\n",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi!\r\n0\r\n\r\n",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\nhi\n0\n\n",
    HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    HEAD + b"Content-Length: 0\r\n\r\n",
    HEAD + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    HEAD + b"Content-Length: five\r\n\r\nhello",
    HEAD + b"\r\nuntil the end",
    HEAD + b"Connection: foo, Close\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 204 No Content\r\nServer: x\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 999 ?\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 2\r\n\r\nok",
    b"<html>what is this</html>\r\n\r\n",
)
BYTES = (b"", b"\r", b"\n", b"\r\n", b" ", b"\t", b":", b"0", b"5", b"a", b"\0", b"\x0b", b"\x80", b";", b",", b"-")


def broken(raw: bytes, draw: random.Random) -> bytes:
    """One or two places of a message changed."""
    for _ in range(draw.randint(1, 2)):
        place = draw.randrange(len(raw))
        raw = raw[:place] + draw.choice(BYTES) + raw[place + draw.randint(0, 2) :]
    return raw


def cases(corpus: tuple[bytes, ...], count: int) -> list[tuple[random.Random, bytes]]:
    draw = random.Random(20261124)
    return [(draw, raw) for raw in corpus] + [(draw, broken(draw.choice(corpus), draw)) for _ in range(count)]


# --- requests --------------------------------------------------------------------------------------------------


def judged(raw: bytes) -> tuple:
    """What h11, with the refusals of ours on top, makes of a head."""
    parser = h11.Connection(h11.SERVER, LIMIT)
    request = heads._judge(raw, parser)
    path, query, authority = heads.split_target(request)
    headers = heads.decode_headers(request, authority)
    length = next((int(value) for name, value in headers if name == "content-length"), 0)
    assert not parser.they_are_waiting_for_100_continue
    assert parser.their_state in (h11.SEND_BODY, h11.DONE)  # neither upgrading nor closing
    assert heads._may_stay(request)
    return request.method.decode(), path, query, headers, length


def test_a_request_that_is_taken_is_what_h11_reads():
    taken = 0
    for _, raw in cases(REQUESTS + 6 * REQUESTS[:3], 20_000):
        if raw.find(b"\r\n\r\n") != len(raw) - 4 or plain.read_request(raw) is None:
            continue
        taken += 1
        try:
            wanted = judged(raw)
        except HttpRefused as refused:
            with pytest.raises(HttpRefused, match=str(refused.message)):
                heads.parse_head(raw, LIMIT)
            continue
        head = heads.parse_head(raw, LIMIT)
        assert (head.method, head.path, head.query, head.headers, head.length) == wanted, raw
        assert (head.is_old, head.may_stay, head.wants_continue, head.parser) == (False, True, False, None)
    assert taken > 2_000


@pytest.mark.parametrize("raw", REQUESTS[:3])
def test_what_clients_send_is_plain(raw):
    assert plain.read_request(raw) is not None


@pytest.mark.parametrize("raw", REQUESTS[3:])
def test_what_is_odd_is_left_to_h11(raw):
    assert plain.read_request(raw) is None


# --- answers ---------------------------------------------------------------------------------------------------


def pieces_of(raw: bytes, draw: random.Random) -> list[bytes]:
    """Up to five pieces; the head mostly stays whole, since one in pieces is h11's at once."""
    least = raw.find(b"\r\n\r\n") + 4 if draw.random() < 0.8 else 1
    places = sorted(draw.randint(min(least, len(raw)), len(raw)) for _ in range(draw.randint(0, 4)))
    return [raw[a:b] for a, b in zip([0, *places], [*places, len(raw)], strict=True) if a < b]


def test_an_answer_is_what_h11_reads():
    plain_ones = 0
    for draw, raw in cases(ANSWERS + 6 * PLAIN_ANSWERS, 20_000):
        pieces = pieces_of(raw, draw)
        found, reader = by_us(pieces)
        assert found == by_h11(pieces), pieces
        plain_ones += reader._h11 is None
    assert plain_ones > 2_000


@pytest.mark.parametrize("raw", PLAIN_ANSWERS)
def test_what_upstreams_send_is_plain(raw):
    """In any two pieces of the body."""
    for place in range(raw.find(b"\r\n\r\n") + 4, len(raw)):
        _, reader = by_us([raw[:place], raw[place:]])
        assert (reader.is_whole, reader._h11) == (True, None)


def test_the_head_of_an_answer_without_a_body_is_h11s():
    reader = plain.AnswerReader("HEAD", LIMIT)
    assert reader.feed(HEAD + b"Content-Length: 5\r\n\r\n") == b""
    assert (reader.is_whole, reader.status, reader.keeps_alive) == (True, 200, True)


def test_a_body_without_a_length_ends_with_its_connection():
    reader = plain.AnswerReader("GET", LIMIT)
    assert reader.feed(HEAD + b"\r\nso far") == b"so far"
    assert not reader.is_whole
    assert reader.feed_end() == b""
    assert (reader.is_whole, reader.keeps_alive) == (True, False)


# --- what is written -------------------------------------------------------------------------------------------


def test_what_is_written_is_what_h11_reads():
    headers = (("content-type", "text/plain"), ("x-empty", ""), ("x-latin", "é"), ("content-length", "0"))
    wanted = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    parser = h11.Connection(h11.SERVER)
    parser.receive_data(plain.write_request("POST", "/a?b=c", (("host", "x"), *headers)))
    request = parser.next_event()
    assert (request.method, request.target, list(request.headers)[1:]) == (b"POST", b"/a?b=c", wanted)
    for status, reason in ((200, b"OK"), (404, b"Not Found"), (529, b"")):
        parser = h11.Connection(h11.CLIENT)
        parser.send(h11.Request(method="GET", target="/", headers=[("host", "a")]))
        parser.receive_data(plain.write_answer(status, headers))
        answer = parser.next_event()
        assert (answer.status_code, answer.reason, list(answer.headers)) == (status, reason, wanted)


@pytest.mark.parametrize(
    "header",
    [
        ("x", "a\r\nset-cookie: b"),
        ("x", "a\nb: c"),
        ("x", "a\rb"),
        ("x", "a\0"),
        ("x", "€"),
        ("x: y", "z"),
        ("x:y", "z"),
        ("x\r\ny", "z"),
        ("", "z"),
        ("x y", "z"),
        ("é", "z"),
    ],
)
def test_no_header_can_bring_a_line_of_its_own(header):
    for headers in ([header], [("a", "b"), header, ("c", "d")]):
        with pytest.raises(ValueError, match=r"character|codec"):
            plain.write_answer(200, headers)
        with pytest.raises(ValueError, match=r"character|codec"):
            plain.write_request("GET", "/", headers)


@pytest.mark.parametrize(
    ("method", "target"), [("GET", "/a b"), ("GET", "/\r\nx"), ("GE T", "/"), ("", "/"), ("G", "")]
)
def test_no_request_line_can_bring_more_than_itself(method, target):
    with pytest.raises(ValueError, match="character"):
        plain.write_request(method, target, ())
