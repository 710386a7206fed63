"""Everything that an upstream can do wrong, done to every protocol, whole and streamed, beside a healthy stream.

Each case runs the real gateway on loopback (`faulty`): every protocol asks twice, once where the faulty account is the
only one and once where another stands by. The clients must get their protocol's own error, or the right answer; the
neighbour must get all of its chunks; and nothing may be left behind.
"""

import asyncio
import gzip
import random
import socket
import ssl
import struct

import pytest
from authority import make_certificates
from faulty import (
    BEGUN,
    FIRST,
    LAST,
    SECOND,
    SSE_HEAD,
    UNARY,
    WHOLE,
    Fault,
    Line,
    chunk,
    dump,
    error_of,
    event,
    piece,
    surviving,
    text_of,
)
from wire import Raw, peer, run

VARIANTS = [(p, is_stream) for p in ("chat", "completions", "responses") for is_stream in (False, True)]
OK = "ok"
CLOSED, TIMEOUT, NOT_HTTP, NOT_GEMINI = "upstream_closed", "upstream_timeout", "bad_upstream", "bad_upstream_body"
# Short enough to be waited for, long enough for a loaded machine: all else of a case takes some milliseconds.
QUICK = {"first_byte_timeout_seconds": 0.4, "upstream_idle_timeout_seconds": 0.4}
SMALL = {"max_upstream_body_bytes": 100_000, "max_event_bytes": 50_000, "max_header_bytes": 8192}


def says(make, unary=OK, stream=OK, **more):
    """A fault that is bytes: those that `make` gives of a Line, and then the end of the connection."""

    async def script(line: Line) -> None:
        line.write(make(line))

    return Fault(script, unary, stream, **more)


def answers(*args, unary=OK, stream=OK, has_begun=False, **more):
    """A fault that is a whole answer, as `Line.answer` makes it; its first argument may be made of the Line."""

    async def script(line: Line) -> None:
        body, *headers = args
        line.answer(body(line) if callable(body) else body, *headers, **more)

    return Fault(script, unary, stream, has_begun=has_begun)


def breaks(rest, code, **more):
    """A fault after the first event: `rest` of what is left of the body is sent, and then the connection ends."""

    async def script(line: Line) -> None:
        line.write(rest(await line.begin()))

    return Fault(script, code, code, has_begun=True, **more)


def reset(raw: Raw) -> None:
    sock = raw.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raw.writer.transport.abort()


# --- what happens over time


async def closes(line):
    pass


async def resets(line):
    reset(line.raw)


async def says_nothing(line):
    await line.closed()


async def half_a_head_and_silence(line):
    line.write(SSE_HEAD[:20])
    await line.closed()


async def continues_and_falls_silent(line):
    line.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    await line.closed()


async def drips(line):
    await line.raw.write_bytewise(SSE_HEAD + piece(line.body) + LAST)


async def endless_header(line):
    line.write(b"HTTP/1.1 200 OK\r\nX: ")
    await line.fill(b"x" * 4096)


async def endless_headers(line):
    line.write(b"HTTP/1.1 200 OK\r\n")
    await line.fill(b"X: y\r\n" * 600)


async def endless_1xx(line):
    await line.fill(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")


async def endless_1xx_header(line):
    line.write(b"HTTP/1.1 103 Early Hints\r\nLink: ")
    await line.fill(b"x" * 4096)


async def resets_after_some(line):
    line.write(await line.begin() and b"")
    reset(line.raw)


async def falls_silent_after_some(line):
    await line.begin()
    await line.closed()


async def falls_silent_in_a_length(line):
    await line.begin(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    await line.closed()


async def ends_in_a_length(line):
    line.write(await line.begin(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"))


async def length_too_short(line):
    cut = line.middle
    line.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % cut + line.body)


async def endless_body(line):
    line.write(SSE_HEAD + piece(b'{"a": "'))
    await line.fill(piece(b"x" * 8192))


async def endless_event(line):
    await line.begin()
    line.write(piece(b"data: "))
    await line.fill(piece(b"x" * 8192))


async def endless_lines_of_an_event(line):
    await line.begin()
    await line.fill(piece(b"data: x\n" * 1000))


async def endless_strays(line):
    await line.begin()
    await line.fill(piece(b"stray\n" * 1000))


async def events_without_end(line):
    await line.begin()
    await line.fill(piece(event(chunk("!"))))


async def comments_without_end(line):
    await line.begin()
    await line.fill(piece(b": still here\n\n" * 10))


async def endless_trailers(line):
    await line.begin()
    line.write(piece(SECOND) + b"0\r\n")
    await line.fill(b"x: y\r\n" * 1000)


async def endless_chunk_extension(line):
    await line.begin()
    line.write(b"5;x=")
    await line.fill(b"x" * 8192)


async def answers_twice(line):
    line.answer()
    line.answer(dump(chunk("meant for nobody", "STOP")))
    await line.closed()


async def goes_on_after_its_answer(line):
    line.write(SSE_HEAD + piece(line.body) + LAST + b"and more")
    await line.closed()


async def keeps_open_what_is_whole(line):
    line.answer()
    await line.closed()


async def one_byte_a_chunk(line):
    line.write(SSE_HEAD + b"".join(piece(line.body[n : n + 1]) for n in range(len(line.body))) + LAST)


def gzipped(data, cut=None):
    return gzip.compress(data)[:cut]


CODED = "Content-Encoding: gzip"
NOT_UTF8 = dump(chunk("SPOILT", "STOP")).replace(b"SPOILT", b"Gr\xfc\xdfe")
BLOB = random.Random(7).randbytes(3000)
LONG = "long " * 200_000


def either(unary, stream):
    """A body for whole answers, and one for streams."""
    return lambda line: stream if line.is_stream else unary


FAULTS = {
    # before the answer
    "closes": Fault(closes, CLOSED, CLOSED),
    "resets": Fault(resets, CLOSED, CLOSED),
    "says nothing": Fault(says_nothing, TIMEOUT, TIMEOUT, settings=QUICK),
    # the head
    "half a head": says(lambda line: SSE_HEAD[:20], CLOSED, CLOSED),
    "half a status line": says(lambda line: b"HTTP/1.", CLOSED, CLOSED),
    "half a head and silence": Fault(half_a_head_and_silence, TIMEOUT, TIMEOUT, settings=QUICK),
    "drips": Fault(drips, OK, OK),
    "another protocol": says(lambda line: b"SSH-2.0-OpenSSH_9.6\r\n\r\n", NOT_HTTP, NOT_HTTP),
    "a frame of HTTP/2": says(lambda line: b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0d", NOT_HTTP, NOT_HTTP),
    "random bytes": says(lambda line: BLOB, CLOSED, CLOSED),
    "a body without a head": says(lambda line: line.body, CLOSED, NOT_HTTP),
    "HTTP/3.0": answers(None, version="3.0"),
    "a header without a colon": answers(None, "nonsense", unary=NOT_HTTP, stream=NOT_HTTP),
    "NUL in a header": answers(None, "X: \0", unary=NOT_HTTP, stream=NOT_HTTP),
    "a space before the colon": answers(None, "X : y", unary=NOT_HTTP, stream=NOT_HTTP),
    "two lengths": answers(None, "Content-Length: 7", unary=NOT_HTTP, stream=NOT_HTTP),
    "a length that is no number": says(
        lambda line: b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n" + line.body, NOT_HTTP, NOT_HTTP
    ),
    "an unknown transfer coding": answers(None, "Transfer-Encoding: gzip", unary=NOT_HTTP, stream=NOT_HTTP),
    "an endless header": Fault(endless_header, NOT_HTTP, NOT_HTTP, settings=SMALL),
    "endless headers": Fault(endless_headers, NOT_HTTP, NOT_HTTP, settings=SMALL),
    # answers before the answer
    "100": says(lambda line: b"HTTP/1.1 100 Continue\r\n\r\n" + SSE_HEAD + piece(line.body) + LAST),
    "102 and 103": says(
        lambda line: (
            b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
            + SSE_HEAD
            + piece(line.body)
            + LAST
        )
    ),
    "100 and silence": Fault(continues_and_falls_silent, TIMEOUT, TIMEOUT, settings=QUICK),
    "100 and the end": says(lambda line: b"HTTP/1.1 100 Continue\r\n\r\n", CLOSED, CLOSED),
    "101": says(lambda line: b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", NOT_HTTP, NOT_HTTP),
    "1xx without end": Fault(endless_1xx, NOT_HTTP, NOT_HTTP),
    "a 1xx that does not end": Fault(endless_1xx_header, NOT_HTTP, NOT_HTTP, settings=SMALL),
    # the status
    **{
        f"a redirect ({status})": answers(
            b"", "Location: /v1beta/models/gemini-trap:x", status=f"{status} Found", unary=None, stream=None
        )
        for status in (301, 302, 303, 307, 308)
    },
    "204": says(lambda line: b"HTTP/1.1 204 No Content\r\n\r\n", NOT_GEMINI, NOT_GEMINI),
    "205": answers(b"", status="205 Reset Content", unary=NOT_GEMINI, stream=NOT_GEMINI),
    "206": answers(None, status="206 Partial Content", unary=NOT_GEMINI, stream=NOT_GEMINI),
    "304": says(lambda line: b"HTTP/1.1 304 Not Modified\r\n\r\n", None, None),
    "999": answers(b"", status="999 Denied", unary=NOT_GEMINI, stream=NOT_GEMINI),
    "a 500 in HTML": answers(
        b"<html>no", "Content-Type: text/html", status="500 No", unary=NOT_GEMINI, stream=NOT_GEMINI
    ),
    "a 500 that is not UTF-8": answers(NOT_UTF8, status="500 No", unary=NOT_GEMINI, stream=NOT_GEMINI),
    "a 500 that is cut": says(lambda line: b"HTTP/1.1 500 No\r\nContent-Length: 99\r\n\r\n{", CLOSED, CLOSED),
    "an error of 200": answers(dump({"error": {"code": 500, "message": "no"}}), unary=None, stream=None),
    # HTTP/1.0, and bodies that the end of the connection ends
    "HTTP/1.0": answers(None, version="1.0"),
    "HTTP/1.0 without a length": says(lambda line: b"HTTP/1.0 200 OK\r\n\r\n" + line.body),
    "HTTP/1.0, cut": says(
        lambda line: b"HTTP/1.0 200 OK\r\n\r\n" + line.body[: line.middle], NOT_GEMINI, NOT_GEMINI, has_begun=True
    ),
    "no length": says(lambda line: b"HTTP/1.1 200 OK\r\n\r\n" + line.body),
    "no reason in the status line": says(lambda line: b"HTTP/1.1 200\r\n\r\n" + line.body),
    "a folded header": answers(None, "X: y\r\n z"),
    "no content type": answers(None),
    "a false content type": answers(None, "Content-Type: image/png"),
    # the body's framing
    "cut between chunks": breaks(lambda rest: b"", CLOSED),
    "cut within a chunk": breaks(lambda rest: b"%x\r\n" % len(rest) + rest[:-9], CLOSED),
    "cut within a character": breaks(
        lambda rest: b"%x\r\n" % len(rest) + rest[: rest.rindex("ö".encode()) + 1], CLOSED
    ),
    "cut within a chunk's size": breaks(lambda rest: b"%x" % len(rest), CLOSED),
    "cut after a chunk's size": breaks(lambda rest: b"%x\r" % len(rest), CLOSED),
    "cut within a chunk's end": breaks(lambda rest: piece(rest)[:-1], CLOSED),
    "cut before the last chunk": breaks(piece, CLOSED),
    "cut within the last chunk": breaks(lambda rest: piece(rest) + LAST[:-2], CLOSED),
    "reset after some": Fault(resets_after_some, CLOSED, CLOSED, has_begun=True),
    "silence after some": Fault(falls_silent_after_some, TIMEOUT, TIMEOUT, has_begun=True, settings=QUICK),
    "a chunk size that is none": breaks(lambda rest: b"zz\r\n" + rest, NOT_HTTP),
    "a negative chunk size": breaks(lambda rest: b"-5\r\n" + rest, NOT_HTTP),
    "a chunk size of 21 digits": breaks(lambda rest: b"f" * 21 + b"\r\n" + rest, NOT_HTTP),
    "a chunk that is too long": breaks(lambda rest: piece(rest)[:-2] + b"more\r\n" + LAST, NOT_HTTP),
    "a chunk extension": says(lambda line: SSE_HEAD + piece(line.body).replace(b"\r\n", b";x=y\r\n", 1) + LAST),
    "an endless chunk extension": Fault(endless_chunk_extension, NOT_HTTP, NOT_HTTP, has_begun=True, settings=SMALL),
    "trailers": says(lambda line: SSE_HEAD + piece(line.body) + b"0\r\nX: y\r\n\r\n"),
    "endless trailers": Fault(endless_trailers, NOT_HTTP, NOT_HTTP, has_begun=True, settings=SMALL),
    "one byte a chunk": Fault(one_byte_a_chunk, OK, OK),
    "a length that is too long, and the end": Fault(ends_in_a_length, CLOSED, CLOSED, has_begun=True),
    "a length that is too long, and silence": Fault(
        falls_silent_in_a_length, TIMEOUT, TIMEOUT, has_begun=True, settings=QUICK
    ),
    "a length that is too short": Fault(length_too_short, NOT_GEMINI, NOT_GEMINI, has_begun=True),
    # content codings
    "gzip": answers(lambda line: gzipped(line.body), CODED),
    "gzip in two members": answers(lambda line: gzipped(line.body[:30]) + gzipped(line.body[30:]), CODED),
    "half of gzip": answers(lambda line: gzipped(line.body, -9), CODED, unary=NOT_HTTP, stream=NOT_HTTP),
    "gzip and more": answers(lambda line: gzipped(line.body) + b"more", CODED, unary=NOT_HTTP, stream=NOT_HTTP),
    "gzip that is none": answers(None, CODED, unary=NOT_HTTP, stream=NOT_HTTP),
    "gzip that is not told": answers(lambda line: gzipped(line.body), unary=NOT_GEMINI, stream=NOT_GEMINI),
    "a coding that nobody asked for": answers(None, "Content-Encoding: br", unary=NOT_HTTP, stream=NOT_HTTP),
    "two codings": answers(None, "Content-Encoding: gzip, gzip", unary=NOT_HTTP, stream=NOT_HTTP),
    "gzip that swells": Fault(answers(gzipped(bytes(200_000)), CODED).script, NOT_HTTP, NOT_HTTP, settings=SMALL),
    # bodies
    "an empty body": answers(b"", unary=NOT_GEMINI, stream="empty_answer"),
    "an empty object": answers(either(b"{}", event(b"{}")), unary="empty_answer", stream="empty_answer"),
    "a body without end": Fault(endless_body, NOT_HTTP, NOT_GEMINI, settings=SMALL),
    "not JSON": answers(either(b"{'a': 1}", event(b"{'a': 1}")), unary=NOT_GEMINI, stream=NOT_GEMINI),
    "a page": answers(b"<!doctype html><p>Sign in", unary=NOT_GEMINI, stream=NOT_GEMINI),
    "JSON that is cut": answers(
        lambda line: line.body[: line.middle], unary=NOT_GEMINI, stream=NOT_GEMINI, has_begun=True
    ),
    "a list": answers(either(b"[1, 2]", event(b"[1, 2]")), unary=NOT_GEMINI, stream=NOT_GEMINI),
    "a number that is none": answers(
        either(b'{"candidates": NaN}', event(b'{"candidates": NaN}')), unary=NOT_GEMINI, stream=NOT_GEMINI
    ),
    "a number of 5000 digits": answers(
        either(b"[" + b"9" * 5000 + b"]", event(b"[" + b"9" * 5000 + b"]")), unary=NOT_GEMINI, stream=NOT_GEMINI
    ),
    "deep nesting": answers(either(b"[" * 50_000, event(b"[" * 50_000)), unary=NOT_GEMINI, stream=NOT_GEMINI),
    "fields of other types": answers(
        either(*(wrap(b'{"candidates": "x", "usageMetadata": [], "modelVersion": 5}') for wrap in (bytes, event))),
        unary="empty_answer",
        stream="empty_answer",
    ),
    "JSON for a stream": answers(UNARY, unary=OK, stream=NOT_GEMINI),
    "a stream for JSON": answers(FIRST + SECOND, unary=NOT_GEMINI, stream=OK),
    "not UTF-8": answers(
        either(NOT_UTF8, FIRST + event(NOT_UTF8)), unary=NOT_GEMINI, stream=NOT_GEMINI, has_begun=True
    ),
    "UTF-16": answers(lambda line: line.body.decode().encode("utf-16"), unary=NOT_GEMINI, stream=NOT_GEMINI),
    "a byte order mark": answers(lambda line: b"\xef\xbb\xbf" + line.body),
    # streams
    "a huge event": answers(either(*(w(dump(chunk(LONG, "STOP"))) for w in (bytes, event)))),
    "an event without end": Fault(endless_event, NOT_HTTP, NOT_GEMINI, has_begun=True, settings=SMALL),
    "lines of an event without end": Fault(
        endless_lines_of_an_event, NOT_HTTP, NOT_GEMINI, has_begun=True, settings=SMALL
    ),
    "strays without end": Fault(endless_strays, NOT_HTTP, NOT_GEMINI, has_begun=True, settings=SMALL),
    "events without end": Fault(
        events_without_end, TIMEOUT, TIMEOUT, has_begun=True, settings={"total_timeout_seconds": 0.5}
    ),
    "comments without end": Fault(
        comments_without_end, TIMEOUT, TIMEOUT, has_begun=True, settings={"total_timeout_seconds": 0.5}
    ),
    "no blank line at the end": answers(lambda line: line.body.rstrip()),
    "no finish reason": answers(either(dump(chunk(WHOLE)), event(chunk(WHOLE)))),
    "strays in a stream": answers(
        either(b"what?", FIRST + b"what?\n\n" + SECOND), unary=NOT_GEMINI, stream=NOT_GEMINI, has_begun=True
    ),
    "a bare error in a stream": answers(
        either(b"what?", FIRST + b'{"error": {"code": 500, "message": "no"}}\n'),
        unary=NOT_GEMINI,
        stream=None,
        has_begun=True,
    ),
    # what comes after the answer
    "a second answer": Fault(answers_twice, OK, OK),
    "trailing bytes": Fault(goes_on_after_its_answer, OK, OK),
    "a connection that stays open": Fault(keeps_open_what_is_whole, OK, OK),
}
# What another account may serve instead: nothing has gone out, and it was no accident of the model.
STAYS = ("empty_answer",)


def check(protocol, answer, is_stream, code, has_begun, text):
    if code == OK:
        assert (answer.status, answer.is_whole) == (200, True), answer.body
        assert text_of(protocol, answer, is_stream) == text
        return
    error = error_of(protocol, answer, is_stream, has_begun)
    assert answer.is_whole
    assert b"secret" not in answer.body
    if not (protocol == "responses" and is_stream and has_begun):  # its codes are of a closed list
        assert error["code"] == code, error
        assert (answer.status == 504) == (code == TIMEOUT and not (is_stream and has_begun))
    if is_stream and has_begun:
        assert text_of(protocol, answer, is_stream).startswith(BEGUN)


async def suffer(fault, **more):
    """All protocols ask at the same time: where the bad account is the only one, and where another stands by."""
    async with surviving(fault.script, **fault.settings, **more) as scene:

        async def one(protocol, is_stream, kind):
            answer = await scene.ask(protocol, f"gemini-{kind}-{protocol}-{is_stream:d}", is_stream)
            has_begun = fault.has_begun and is_stream
            code = fault.code(is_stream)
            may_rotate = code not in (OK, *STAYS) and "total_timeout_seconds" not in fault.settings
            if kind == "pair" and may_rotate and not has_begun:
                code = OK
                assert answer.headers["x-agproxy-attempts"].startswith("2; bad=")
                assert answer.headers["x-account-id"] == "good"
            text = LONG if fault is FAULTS["a huge event"] else WHOLE
            check(protocol, answer, is_stream, code, has_begun, text)

        await asyncio.gather(*(one(p, is_stream, kind) for p, is_stream in VARIANTS for kind in ("lone", "pair")))
    return scene


@pytest.mark.parametrize("name", FAULTS)
def test_no_fault_of_upstream_harms_more_than_its_own_request(name, caplog):
    async def main():
        scene = await suffer(FAULTS[name])
        assert not [path for path, _ in scene.upstream.requests if "trap" in path]

    run(main)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


# --- connections that cannot be had


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """A throw-away authority, and a certificate for a name that is not the one that is asked for."""
    return make_certificates(tmp_path_factory.mktemp("certificates"), "elsewhere.test")


async def speaks_plain_http(raw):
    await raw.reader.read(1)
    raw.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


async def says_nonsense(raw):
    raw.write(BLOB)
    await raw.is_closed()


async def stalls(raw):
    while await raw.reader.read(4096):
        pass


async def begins_and_stalls(raw):
    await raw.reader.read(4096)
    raw.write(b"\x16\x03\x03\x00\x7a\x02")  # the beginning of a ServerHello
    await stalls(raw)


async def ends(raw):
    await raw.reader.read(4096)


async def resets_at_once(raw):
    reset(raw)


CONNECTIONS = {
    "plain HTTP where TLS is expected": (speaks_plain_http, "upstream_tls", {}),
    "nonsense where TLS is expected": (says_nonsense, "upstream_tls", {}),
    "a handshake that is never begun": (stalls, TIMEOUT, {"connect_timeout_seconds": 0.4}),
    "a handshake that stalls": (begins_and_stalls, TIMEOUT, {"connect_timeout_seconds": 0.4}),
    "a handshake that ends": (ends, "upstream_connect", {}),
    "a handshake that is reset": (resets_at_once, "upstream_connect", {}),
    "an authority that nobody knows": ("", "upstream_tls", {}),
    "a certificate for another name": ("ca.pem", "upstream_tls", {}),
}


@pytest.mark.parametrize("name", CONNECTIONS)
def test_no_fault_of_tls_harms_more_than_its_own_request(name, certificates, caplog):
    script, code, settings = CONNECTIONS[name]
    options = {}
    if isinstance(script, str):
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificates / "server.pem", certificates / "server.key")
        options["ssl"] = tls
        settings = {"ca_file": str(certificates / script)} if script else {}
        script = stalls

    async def main():
        async with peer(script, **options) as port:
            await suffer(Fault(closes, code, code, settings=settings), bad_url=f"https://localhost:{port}")

    run(main)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_a_port_where_nobody_listens_harms_no_more_than_its_own_request(caplog):
    async def main():
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{sock.getsockname()[1]}"
            await suffer(Fault(closes, "upstream_connect", "upstream_connect"), bad_url=url)

    run(main)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


# --- connections that end while they rest


@pytest.mark.parametrize("leave", [lambda raw: raw.writer.close(), reset], ids=["closed", "reset"])
@pytest.mark.parametrize(("protocol", "is_stream"), VARIANTS)
def test_a_kept_connection_that_ends_just_when_it_is_used_is_replaced(protocol, is_stream, leave, caplog):
    struck = []

    async def script(line):
        line.answer()
        struck.append((await line.raw.request()).body)
        leave(line.raw)

    async def main():
        async with surviving(script) as scene:
            for _ in range(4):
                answer = await scene.ask(protocol, "gemini-lone-1", is_stream)
                assert text_of(protocol, answer, is_stream) == WHOLE
                assert answer.headers["x-agproxy-attempts"] == "1"
            assert struck

    run(main)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
