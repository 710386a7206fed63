"""The HTTP server, asked over real sockets: by http.client, and byte by byte where a client would not do it."""

import asyncio
import contextlib
import errno
import gzip
import http.client
import json
import random
import socket
import struct
import zlib

import pytest
from wire import Raw, echo, run, serving, until, upload_too_much

from agproxy.errors import ConfigError
from agproxy.http11 import HttpResponse
from agproxy.io import listen
from agproxy.io import server as server_module
from agproxy.io.server import Server

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
POST = b"POST /v1/chat HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"


def post(body: bytes, *headers: str) -> bytes:
    lines = ["POST /p HTTP/1.1", "Host: a", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


# --- requests and answers --------------------------------------------------------------------------------------


def test_a_request_reaches_the_handler_whole():
    async def main():
        async with serving() as served:
            raw = await served.connect()
            raw.write(
                b"POST /v1/models%2Fx?a=1&b=%20 HTTP/1.1\r\nHost: a:1\r\nX-Some:  t\xe9xt \r\n"
                b"Content-Length: 5\r\n\r\nhello"
            )
            answer = await raw.answer()
            assert (answer.status, answer.body) == (200, b"hello")
            (request,) = served.requests
            assert (request.method, request.path, request.query) == ("POST", "/v1/models%2Fx", "a=1&b=%20")
            assert request.headers == (("host", "a:1"), ("x-some", "t\xe9xt"), ("content-length", "5"))
            assert (request.body, request.peer, request.id) == (b"hello", "127.0.0.1", "req_1")

    run(main)


def test_the_standard_librarys_client_keeps_its_connection():
    def ask(port):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        sockets = set()
        for number in range(3):
            connection.request("POST", "/x", body=json.dumps(number), headers={"Content-Type": "application/json"})
            response = connection.getresponse()
            assert (response.status, response.read()) == (200, str(number).encode())
            sockets.add(connection.sock.getsockname())
        connection.request("GET", "/x", headers={"Connection": "close"})
        response = connection.getresponse()
        assert response.getheader("connection") == "close"
        response.read()
        connection.close()
        assert len(sockets) == 1

    async def main():
        async with serving() as served:
            await asyncio.to_thread(ask, served.port)

    run(main)


def test_every_answer_has_a_date_and_a_request_id():
    async def main():
        async with serving() as served:
            raw = await served.connect()
            raw.write(GET + GET)
            first, second = await raw.answer(), await raw.answer()
            assert first.headers["date"].endswith(" GMT")
            assert (first.headers["x-request-id"], second.headers["x-request-id"]) == ("req_1", "req_2")

    run(main)


def test_small_chunks_do_not_wait_for_the_clients_acknowledgement():
    async def main():
        async with serving() as served:
            await served.connect()
            (connection,) = await connections(served, 1)
            sock = connection.transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    run(main)


def test_the_handlers_own_request_id_stands():
    async def handler(request, reply):
        reply.send(HttpResponse(status=200, headers=(("x-request-id", "mine"),)))

    async def main():
        async with serving(handler) as served:
            raw = await served.connect()
            raw.write(GET)
            assert (await raw.answer()).headers["x-request-id"] == "mine"

    run(main)


def test_pipelined_requests_are_answered_in_order_and_one_at_a_time():
    under_way = []

    async def handler(request, reply):
        under_way.append(request.path)
        assert len(under_way) == 1
        for _ in range(5 if request.path == "/slow" else 0):
            await asyncio.sleep(0)
        under_way.remove(request.path)
        reply.send(HttpResponse(status=200, body=request.path.encode() + request.body))

    async def main():
        async with serving(handler) as served:
            raw = await served.connect()
            chunked = b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
            slow = GET.replace(b"GET /", b"GET /slow")
            raw.write(slow + POST + chunked + GET + slow + chunked)
            bodies = [(await raw.answer()).body for _ in range(6)]
            assert bodies == [b"/slow", b"/v1/chathello", b"/cabc", b"/", b"/slow", b"/cabc"]

    run(main)


def test_requests_in_any_split_are_the_same_requests():
    async def main():
        async with serving() as served:
            raw = await served.connect()
            chunked = CHUNKED.replace(b"chunked", b"Chunked") + b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nt: 1\r\n\r\n"
            feeding = asyncio.create_task(raw.write_bytewise(chunked + POST + b"\r\n\r\n" + chunked + GET))
            answers = [await raw.answer() for _ in range(4)]
            await feeding
            assert [answer.body for answer in answers] == [b"abcde", b"hello", b"abcde", b""]

    run(main)


def test_a_streamed_answer_leaves_chunk_by_chunk_and_its_head_with_the_first():
    go_on = asyncio.Event()

    async def handler(request, reply):
        reply.start(200, (("content-type", "text/event-stream"),))
        reply.write(b"one")
        await go_on.wait()
        reply.write(b"")
        reply.write(b"two, and more")
        reply.end()

    async def main():
        async with serving(handler) as served:
            raw = await served.connect()
            raw.write(GET)
            first = await raw.reader.read(65536)  # what left in one write arrives in one read
            assert first.startswith(b"HTTP/1.1 200 OK\r\n")
            assert first.endswith(b"\r\n\r\n3\r\none\r\n")
            go_on.set()
            rest = await raw.reader.readuntil(b"0\r\n\r\n")
            assert rest == b"d\r\ntwo, and more\r\n0\r\n\r\n"

    run(main)


def test_an_answer_is_one_write_and_a_chunk_is_one_write():
    async def handler(request, reply):
        if request.path == "/whole":
            reply.send(HttpResponse(status=200, body=b"body"))
        else:
            reply.start(200, ())
            reply.write(b"one")
            reply.write(b"two")
            reply.end()

    async def main():
        async with serving(handler) as served:
            raw = await served.connect()
            (connection,) = await connections(served, 1)
            writes = []
            write = connection.transport.write
            connection.transport.write = lambda data: (writes.append(bytes(data)), write(data))
            raw.write(GET.replace(b"/", b"/whole", 1))
            await raw.answer()
            assert [data.endswith(b"\r\n\r\nbody") for data in writes] == [True]
            writes.clear()
            raw.write(GET)
            await raw.answer()
            assert writes[0].endswith(b"\r\n\r\n3\r\none\r\n")
            assert writes[1:] == [b"3\r\ntwo\r\n", b"0\r\n\r\n"]

    run(main)


def test_requests_that_wait_in_the_input_keep_their_order_and_their_bytes():
    """Behind a chunked body, whose end only h11 finds, the next requests may be in h11's hands and in ours."""
    go_on = asyncio.Event()

    async def handler(request, reply):
        if request.path == "/slow":
            await go_on.wait()
        await echo(request, reply)

    async def main():
        async with serving(handler, read_buffer_bytes=2**20) as served:
            raw = await served.connect()
            raw.write(GET.replace(b"/", b"/slow", 1))
            await until(lambda: served.requests)
            bodies = [bytes((n,)) * 40_000 for n in range(1, 5)]
            chunked = [CHUNKED + b"9c40\r\n" + body + b"\r\n0\r\n\r\n" for body in bodies]
            raw.write(CHUNKED + b"1\r\na\r\n0\r\n\r\n" + b"".join(map(post, bodies)) + b"".join(chunked) + GET)
            (connection,) = served.server._connections
            await until(lambda: len(connection._input) > 320_000)
            go_on.set()
            assert [(await raw.answer()).body for _ in range(11)] == [b"", b"a", *bodies, *bodies, b""]

    run(main)


def test_an_empty_stream_is_a_whole_answer():
    async def handler(request, reply):
        reply.start(200, ())
        reply.end()

    async def main():
        async with serving(handler) as served:
            raw = await served.connect()
            raw.write(GET + GET)
            for _ in range(2):
                answer = await raw.answer()
                assert (answer.body, answer.is_whole) == (b"", True)

    run(main)


def test_a_stream_of_known_length_is_not_chunked():
    async def handler(request, reply):
        reply.start(200, (("content-length", "6"),))
        reply.write(b"abc")
        reply.write(b"def")
        reply.end()

    async def main():
        async with serving(handler) as served:
            raw = await served.connect()
            raw.write(GET)
            answer = await raw.answer()
            assert (answer.body, answer.headers.get("transfer-encoding")) == (b"abcdef", None)

    run(main)


def test_http_1_0_gets_its_stream_unchunked_and_then_the_end_of_the_connection():
    async def handler(request, reply):
        reply.start(200, ())
        reply.write(b"abc")
        reply.write(b"def")
        reply.end()

    async def main():
        async with serving(handler) as served:
            raw = await served.connect()
            raw.write(b"GET / HTTP/1.0\r\n\r\n")
            answer = await raw.answer()
            assert (answer.body, answer.headers["connection"]) == (b"abcdef", "close")
            assert "transfer-encoding" not in answer.headers
            assert await raw.is_closed()

    run(main)


@pytest.mark.parametrize("streams", [False, True])
def test_head_has_the_headers_of_get_and_no_body(streams):
    async def handler(request, reply):
        if streams:
            reply.start(200, (("x-a", "b"),))
            reply.write(b"twelve bytes")
            reply.end()
        else:
            reply.send(HttpResponse(status=200, headers=(("x-a", "b"),), body=b"twelve bytes"))

    async def main():
        async with serving(handler) as served:
            raw = await served.connect()
            raw.write(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n" + GET)
            head, get = await raw.answer("HEAD"), await raw.answer()
            assert get.body == b"twelve bytes"
            ids = ("x-request-id", "date")
            assert {k: v for k, v in head.headers.items() if k not in ids} == {
                k: v for k, v in get.headers.items() if k not in ids
            }

    run(main)


def test_204_and_304_have_no_body_and_the_connection_goes_on():
    async def handler(request, reply):
        reply.send(HttpResponse(status=int(request.path[1:])))

    async def main():
        async with serving(handler) as served:
            raw = await served.connect()
            for status in (204, 304, 200):
                raw.write(GET.replace(b"/ ", b"/%d " % status, 1))
                answer = await raw.answer()
                assert answer.status == status
                assert ("content-length" in answer.headers) == (status == 200)

    run(main)


def test_an_upstream_status_without_a_name_is_sent():
    async def handler(request, reply):
        reply.send(HttpResponse(status=529))

    async def main():
        async with serving(handler) as served:
            raw = await served.connect()
            raw.write(GET)
            assert (await raw.answer()).status == 529

    run(main)


@pytest.mark.parametrize(
    ("target", "path", "query", "host"),
    [
        (b"OPTIONS *", "*", "", "a"),
        (b"OPTIONS /v1/x", "/v1/x", "", "a"),
        (b"GET http://other.test:8045/v1/x?y=http://z", "/v1/x", "y=http://z", "other.test:8045"),
        (b"GET HTTP://other.test", "/", "", "other.test"),
        (b"GET http://other.test?y", "/", "y", "other.test"),
        (b"GET http://[::1]:80/x", "/x", "", "[::1]:80"),
        (b"GET /?", "/", "", "a"),
        (b"GET //x//y", "//x//y", "", "a"),
    ],
)
def test_targets_of_every_form_are_understood(target, path, query, host):
    async def main():
        async with serving() as served:
            raw = await served.connect()
            raw.write(target + b" HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await raw.answer()).status == 200
            (request,) = served.requests
            assert (request.path, request.query, request.header("host")) == (path, query, host)

    run(main)


def test_a_request_to_upgrade_is_handed_on_and_answered_as_any_other():
    async def handler(request, reply):
        reply.send(HttpResponse(status=426 if request.header("upgrade") == "websocket" else 200))

    async def main():
        async with serving(handler) as served:
            raw = await served.connect()
            raw.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + GET)
            assert (await raw.answer()).status == 426
            assert (await raw.answer()).status == 200

    run(main)


def test_100_continue_comes_where_the_body_will_be_read():
    async def main():
        async with serving() as served:
            raw = await served.connect()
            head, body = POST[:-5].replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"), POST[-5:]
            raw.write(head)
            assert (await raw.answer()).status == 100
            raw.write(body)
            assert (await raw.answer()).body == b"hello"
            raw.write(head + body)  # did not wait: needs no leave
            assert (await raw.answer()).status == 200
            raw.write(head.replace(b"HTTP/1.1", b"HTTP/1.0") + body)
            assert (await raw.answer()).status == 200

    run(main)


def test_100_continue_does_not_come_after_a_refusal():
    async def main():
        async with serving(max_body_bytes=4) as served:
            raw = await served.connect()
            raw.write(POST[:-5].replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
            assert (await raw.answer()).status == 413
            assert await raw.is_closed()

    run(main)


# --- content codings -------------------------------------------------------------------------------------------


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


TEXT = b'{"model": "x", "messages": []}' * 50


@pytest.mark.parametrize("bytewise", [False, True])
@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", gzip.compress(TEXT)),
        ("X-GZip", gzip.compress(TEXT)),
        ("gzip, identity", gzip.compress(TEXT[:700]) + gzip.compress(TEXT[700:])),
        ("deflate", zlib.compress(TEXT)),
        ("deflate", raw_deflate(TEXT)),
        ("identity", TEXT),
    ],
)
def test_compressed_bodies_are_decompressed(coding, body, bytewise):
    async def main():
        async with serving() as served:
            raw = await served.connect()
            request = post(body, f"Content-Encoding: {coding}", "Content-Type: application/json")
            if bytewise:
                await raw.write_bytewise(request)
            else:
                raw.write(request + GET)
            assert (await raw.answer()).body == TEXT
            seen = served.requests[0]
            assert seen.header("content-type") == "application/json"
            if coding != "identity":
                assert seen.header("content-encoding") is None
                assert seen.header("content-length") is None

    run(main)


@pytest.mark.parametrize(
    ("coding", "body", "status"),
    [
        ("br", b"x", 415),
        ("gzip, gzip", gzip.compress(gzip.compress(TEXT)), 415),
        ("gzip", b"not gzip at all", 400),
        ("gzip", gzip.compress(TEXT)[:-1], 400),
        ("gzip", gzip.compress(TEXT) + b"garbage", 400),
        ("deflate", zlib.compress(TEXT) + b"garbage", 400),
        ("deflate", zlib.compress(TEXT) + zlib.compress(TEXT), 400),
        ("gzip", gzip.compress(bytes(100_001)), 413),
        ("deflate", raw_deflate(bytes(100_001)), 413),
        ("gzip", gzip.compress(b"")[:5], 400),
    ],
)
def test_compressed_bodies_that_are_unknown_damaged_or_too_large_are_refused(coding, body, status):
    async def main():
        async with serving(max_body_bytes=100_000) as served:
            raw = await served.connect()
            raw.write(post(body, f"Content-Encoding: {coding}"))
            answer = await raw.answer()
            assert answer.status == status
            assert served.requests == []

    run(main)


# --- what is not HTTP ------------------------------------------------------------------------------------------

REFUSED = {
    "length and chunks": (CHUNKED[:-2] + b"Content-Length: 3\r\n\r\n", 400),
    "two lengths": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", 400),
    "the same length twice": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\ncontent-length: 3\r\n\r\n", 400),
    "a list of lengths": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\n", 400),
    "a signed length": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\n", 400),
    "a negative length": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -3\r\n\r\n", 400),
    "a length of no digits": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", 400),
    "a length of 21 digits": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 000000000000000000003\r\n\r\n", 400),
    "a folded header": (b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n", 400),
    "a folded length": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n 3\r\n\r\n", 400),
    "a first line that is folded": (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
    "no host": (b"GET / HTTP/1.1\r\nX: y\r\n\r\n", 400),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
    "an odd host": (b"GET / HTTP/1.1\r\nHost: a/b@c\r\n\r\n", 400),
    "an odd authority": (b"GET http://u:p@a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "only LF": (b"GET / HTTP/1.1\nHost: a\n\n", 400),
    "one bare LF": (b"GET / HTTP/1.1\r\nX: y\nHost: a\r\n\r\n", 400),
    "a bare LF at the end": (b"GET / HTTP/1.1\r\nHost: a\r\n\n", 400),
    "a bare CR in a value": (b"GET / HTTP/1.1\r\nHost: a\r\nX: y\rz\r\n\r\n", 400),
    "a bare CR before CRLF": (b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", 400),
    "a bare CR in the first line": (b"GET /\r HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "NUL in a value": (b"GET / HTTP/1.1\r\nHost: a\r\nX: y\0z\r\n\r\n", 400),
    "NUL in a name": (b"GET / HTTP/1.1\r\nHost: a\r\nX\0: y\r\n\r\n", 400),
    "a space before the colon": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 3\r\n\r\n", 400),
    "a tab before the colon": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding\t: chunked\r\n\r\n", 400),
    "a header without a colon": (b"GET / HTTP/1.1\r\nHost: a\r\nnonsense\r\n\r\n", 400),
    "a header without a name": (b"GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n", 400),
    "a coding before chunked": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 400),
    "chunked twice": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", 400),
    "two transfer-encodings": (CHUNKED[:-2] + b"Transfer-Encoding: identity\r\n\r\n", 400),
    "identity as transfer-encoding": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n", 400),
    "chunked with a vertical tab": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n", 400),
    "chunked in quotes": (b'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: "chunked"\r\n\r\n', 400),
    "chunked by a like name": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n", 400),
    "chunked with a parameter": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;q=1\r\n\r\n", 400),
    "chunked and a comma": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked,\r\n\r\n", 400),
    "an empty transfer-encoding": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n", 400),
    "a length with 0x": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x3\r\n\r\n", 400),
    "a length with an underscore": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0_3\r\n\r\n", 400),
    "a length of other digits": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \xef\xbc\x93\r\n\r\n", 400),
    "a length in superscript": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \xb3\r\n\r\n", 400),
    "a vertical tab before a length": (b"POST / HTTP/1.1\r\nHost: a\r\n\x0bContent-Length: 3\r\n\r\n", 400),
    "a chunk size with a sign": (CHUNKED + b"+3\r\nabc\r\n0\r\n\r\n", 400),
    "a chunk size with an underscore": (CHUNKED + b"0_3\r\nabc\r\n0\r\n\r\n", 400),
    "a chunk size after a space": (CHUNKED + b" 3\r\nabc\r\n0\r\n\r\n", 400),
    "a chunk size of 21 digits": (CHUNKED + b"f" * 21 + b"\r\nabc\r\n0\r\n\r\n", 400),
    "no chunk size": (CHUNKED + b"\r\nabc\r\n0\r\n\r\n", 400),
    "a chunk extension with a LF": (CHUNKED + b"3;a\nb\r\nabc\r\n0\r\n\r\n", 400),
    "a chunk without its CRLF": (CHUNKED + b"3\r\nabc0\r\n\r\n", 400),
    "a trailer with a bare CR": (CHUNKED + b"3\r\nabc\r\n0\r\nX: y\rz\r\n\r\n", 400),
    "chunks in HTTP/1.0": (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    "a chunk size that is no number": (CHUNKED + b"xyz\r\n", 400),
    "a chunk size with 0x": (CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n", 400),
    "a negative chunk size": (CHUNKED + b"-1\r\n", 400),
    "a chunk that is too long": (CHUNKED + b"3\r\nabcd\r\n0\r\n\r\n", 400),
    "a chunk size that ends with LF": (CHUNKED + b"3\nabc\r\n0\r\n\r\n", 400),
    "a chunked body that ends with LF": (CHUNKED + b"3\r\nabc\r\n0\r\n\n", 400),
    "trailers that end with LF": (CHUNKED + b"0\r\nx: y\n\n", 400),
    "trailers that are no headers": (CHUNKED + b"0\r\nx y\r\n\r\n", 400),
    "a target that is not ASCII": (b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a target with a space": (b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a target with a control character": (b"GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a target that is no path": (b"GET x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "an asterisk for GET": (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "another scheme": (b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "no host in the target": (b"GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "no version": (b"GET /\r\n\r\n", 400),
    "a lower-case version": (b"GET / http/1.1\r\nHost: a\r\n\r\n", 400),
    "a space at the start": (b" GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "two spaces": (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a tab for a space": (b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "HTTP/2.0 with a path": (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    "HTTP/0.9": (b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505),
    "CONNECT": (b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 405),
    "TRACE": (b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    "an HTTP/1.0 body without length": (b"POST / HTTP/1.0\r\n\r\nhello", 411),
}


@pytest.mark.parametrize("bytewise", [False, True], ids=["at once", "bytewise"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_http_forbids_is_refused_and_nothing_behind_it_is_read(name, bytewise):
    request, status = REFUSED[name]

    async def main():
        async with serving() as served:
            raw = await served.connect()
            if bytewise:
                await raw.write_bytewise(request)
            else:
                raw.write(request + GET)
            answer = await raw.answer()
            assert answer.status == status, answer.body
            assert (answer.headers["x-request-id"], answer.headers["connection"]) == ("req_1", "close")
            assert await raw.is_closed()
            assert served.requests == []

    run(main)


def test_chunk_extensions_and_trailers_say_nothing_of_the_request():
    """Also those that would mean another body, or another host, in a head."""
    body = b'0003;a="b";c\r\nabc\r\n000;x\r\nContent-Length: 50\r\nTransfer-Encoding: chunked\r\nHost: b\r\n\r\n'

    async def main():
        async with serving() as served:
            raw = await served.connect()
            raw.write(CHUNKED + body + POST)
            assert (await raw.answer()).body == b"abc"
            assert (await raw.answer()).body == b"hello"
            assert [request.header("host") for request in served.requests] == ["a", "a"]
            assert served.requests[0].header("content-length") is None

    run(main)


def test_a_refusal_is_rendered_for_the_path_that_was_asked():
    async def main():
        async with serving(max_header_bytes=1024) as served:
            for request, path in [
                (b"POST /v1/chat?key=x HTTP/1.1\r\nHost: a\r\nX: y\0\r\n\r\n", "/v1/chat"),
                (b"POST /v1/chat?key=x HTTP/1.1\r\nHost: a\r\nContent-Encoding: br\r\n\r\n", "/v1/chat"),
                (CHUNKED.replace(b"/ ", b"/v1/chat ", 1) + b"zz\r\n", "/v1/chat"),
                (b"nonsense\r\n\r\n", ""),
            ]:
                raw = await served.connect()
                raw.write(request)
                assert (await raw.answer()).headers["x-refused-at"] == path

    run(main)


def test_a_refusal_is_not_rendered_for_the_path_before():
    async def main():
        async with serving() as served:
            for bad in (b"\x16\x03\x01", b"GET /\n"):
                raw = await served.connect()
                raw.write(POST)
                assert (await raw.answer()).status == 200
                raw.write(bad)
                assert (await raw.answer()).headers["x-refused-at"] == ""

    run(main)


def test_refusals_say_what_is_wrong():
    async def main():
        async with serving() as served:
            for name, words in [
                ("identity as transfer-encoding", b"Transfer-Encoding may only be chunked."),
                ("two lengths", b"The request has more than one Content-Length or Transfer-Encoding."),
                ("no host", b"HTTP/1.1 wants exactly one Host header."),
                ("TLS", b"It looks like TLS; this port speaks plain HTTP."),
                ("a header without a colon", b"The request is not HTTP: illegal header line."),
            ]:
                raw = await served.connect()
                raw.write(REFUSED[name][0])
                assert (await raw.answer()).body.endswith(words)

    run(main)


def test_a_refusal_does_not_repeat_what_was_sent():
    async def main():
        async with serving() as served:
            raw = await served.connect()
            raw.write(b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization\x01: Bearer sk-secret\r\n\r\n")
            answer = await raw.answer()
            assert answer.status == 400
            assert b"secret" not in answer.body

    run(main)


def test_405_and_415_say_what_would_do():
    async def main():
        async with serving() as served:
            raw = await served.connect()
            raw.write(b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert "POST" in (await raw.answer()).headers["allow"]
            raw = await served.connect()
            raw.write(post(b"x", "Content-Encoding: zstd"))
            assert (await raw.answer()).headers["accept-encoding"] == "gzip, deflate"

    run(main)


def test_no_bytes_make_the_server_fail(caplog):
    """Seeded damage to good requests: an answer or a closed connection, never a traceback."""
    dice = random.Random(7)
    good = [GET, POST, CHUNKED + b"3\r\nabc\r\n0\r\n\r\n", post(gzip.compress(TEXT), "Content-Encoding: gzip")]

    async def main():
        limits = dict.fromkeys(("header_timeout_seconds", "body_timeout_seconds", "idle_timeout_seconds"), 0.01)
        async with serving(**limits) as served:
            for _ in range(300):
                data = bytearray(dice.choice(good) + dice.choice(good))
                for _ in range(dice.randint(1, 3)):
                    place = dice.randrange(len(data))
                    data[place : place + dice.randint(0, 2)] = dice.randbytes(dice.randint(0, 2))
                raw = await served.connect()
                raw.write(bytes(data))
                with contextlib.suppress(asyncio.IncompleteReadError):
                    while (await raw.answer()).headers.get("connection") != "close":
                        pass
                await raw.close()

    run(main, skips_time=True)
    assert caplog.records == []


# --- limits ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dripped", [False, True])
def test_headers_over_the_limit_are_431(dripped):
    async def main():
        async with serving(max_header_bytes=1024) as served:
            raw = await served.connect()
            fits = b"GET / HTTP/1.1\r\nHost: a\r\nX: "
            fits += b"y" * (1024 - len(fits) - 4) + b"\r\n\r\n"
            raw.write(fits)
            assert (await raw.answer()).status == 200
            if dripped:
                await raw.write_bytewise(fits[:-4] + b"yyyyy")
            else:
                raw.write(fits[:-4] + b"y\r\n\r\n")
            assert (await raw.answer()).status == 431

    run(main)


def test_a_length_over_the_limit_is_413_before_the_body_is_sent():
    async def main():
        async with serving(max_body_bytes=4) as served:
            raw = await served.connect()
            raw.write(POST.replace(b"5", b"4")[:-1])
            assert (await raw.answer()).status == 200
            raw.write(POST[:-5])
            assert (await raw.answer()).status == 413
            assert await raw.is_closed()

    run(main)


def test_a_chunked_body_over_the_limit_is_413():
    async def main():
        async with serving(max_body_bytes=4) as served:
            raw = await served.connect()
            raw.write(CHUNKED + b"3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n")
            assert (await raw.answer()).status == 200
            raw.write(CHUNKED + b"3\r\nabc\r\n2\r\nde\r\n")
            assert (await raw.answer()).status == 413

    run(main)


def test_a_client_that_sends_on_after_413_can_still_read_it():
    """Without the lingering read, the kernel resets the connection and the answer is lost."""

    async def main():
        async with serving(max_body_bytes=1000) as served:
            client = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
            await asyncio.to_thread(upload_too_much, client)

    run(main)


def test_a_client_that_never_stops_sending_after_a_refusal_is_cut():
    async def main():
        async with serving(max_body_bytes=4, linger_seconds=0.05) as served:
            raw = await served.connect()
            raw.write(POST)
            assert (await raw.answer()).status == 413

            async def send_on():
                while True:
                    raw.write(b"more")
                    await raw.writer.drain()
                    await asyncio.sleep(0.001)

            with pytest.raises(ConnectionError):
                await send_on()

    run(main, skips_time=True)


def test_a_head_that_takes_too_long_is_408_however_it_drips():
    async def main():
        async with serving(header_timeout_seconds=0.05) as served:
            raw = await served.connect()

            async def drip():
                for i in range(len(GET) - 4):
                    raw.write(GET[i : i + 1])
                    await asyncio.sleep(0.01)

            dripping = asyncio.create_task(drip())
            answer = await raw.answer()
            assert (answer.status, answer.headers["connection"]) == (408, "close")
            dripping.cancel()

    run(main, skips_time=True)


def test_a_body_that_stops_is_408_and_one_that_goes_on_is_not():
    async def main():
        async with serving(body_timeout_seconds=0.1) as served:
            raw = await served.connect()
            raw.write(POST[:-5])
            for i in range(5):  # longer in all than the time-out
                await asyncio.sleep(0.03)
                raw.write(b"hello"[i : i + 1])
            assert (await raw.answer()).status == 200
            raw.write(POST[:-1])
            answer = await raw.answer()
            assert (answer.status, answer.headers["x-refused-at"]) == (408, "/v1/chat")

    run(main, skips_time=True)


def test_idle_connections_are_closed_without_a_word():
    async def main():
        async with serving(idle_timeout_seconds=0.05) as served:
            raw = await served.connect()
            raw.write(GET)
            assert (await raw.answer()).status == 200
            assert await raw.is_closed()

    run(main, skips_time=True)


def test_a_connection_without_any_request_is_closed_without_a_word():
    async def main():
        async with serving(header_timeout_seconds=0.05) as served:
            silent, empty_lines = await served.connect(), await served.connect()
            empty_lines.write(b"\r\n\r\n\r")
            assert await silent.is_closed()
            assert await empty_lines.is_closed()

    run(main, skips_time=True)


def test_no_time_out_runs_while_an_answer_is_under_way():
    async def handler(request, reply):
        await asyncio.sleep(0.1)
        await echo(request, reply)

    async def main():
        limits = dict.fromkeys(
            ("header_timeout_seconds", "body_timeout_seconds", "idle_timeout_seconds", "write_timeout_seconds"), 0.03
        )
        async with serving(handler, **limits) as served:
            raw = await served.connect()
            raw.write(POST)
            assert (await raw.answer()).body == b"hello"

    run(main, skips_time=True)


def test_one_connection_too_many_is_503_and_its_place_is_free_again_later():
    async def main():
        async with serving(max_connections=1) as served:
            first = await served.connect()
            first.write(GET)
            assert (await first.answer()).status == 200
            second = await served.connect()
            second.write(GET)
            answer = await second.answer()
            assert (answer.status, answer.headers["retry-after"], answer.headers["connection"]) == (503, "1", "close")
            assert await second.is_closed()
            await first.close()
            await second.close()
            await until(lambda: not served.server._connections)
            third = await served.connect()
            third.write(GET)
            assert (await third.answer()).status == 200
            assert len(served.requests) == 2

    run(main)


def test_far_too_many_connections_are_not_let_in_at_all():
    async def main():
        async with serving(max_connections=1, spare_connections=1) as served:
            kept = [await served.connect() for _ in range(2)]
            await until(lambda: len(served.server._connections) == 2)
            assert await (await served.connect()).is_closed()
            assert len(kept) == 2

    run(main)


def test_bytes_behind_a_request_under_way_are_bounded():
    release = asyncio.Event()

    async def handler(request, reply):
        await release.wait()
        reply.send(HttpResponse(status=200, body=b"%d" % len(request.body)))

    async def main():
        async with serving(handler, read_buffer_bytes=4096) as served:
            raw = await served.connect()
            raw.write(post(bytes(50_000)) * 200)
            await until(lambda: served.requests)
            (connection,) = served.server._connections
            await until(lambda: not connection.transport.is_reading())
            assert len(connection._input) < 4096 + 2 * 256 * 1024
            release.set()
            for _ in range(200):
                assert (await raw.answer()).body == b"50000"

    run(main)


def test_a_client_that_asks_on_without_reading_is_not_answered_without_end():
    async def handler(request, reply):
        reply.send(HttpResponse(status=200, body=bytes(1_000_000)))

    async def main():
        async with serving(handler) as served:
            raw = await served.connect()
            raw.writer.transport.pause_reading()
            raw.write(GET * 1000)
            (connection,) = await connections(served, 1)
            await until(lambda: connection.is_write_paused)
            seen = len(served.requests)
            for _ in range(20):
                await asyncio.sleep(0)
            assert len(served.requests) == seen < 100
            raw.writer.transport.resume_reading()
            for _ in range(100):
                assert len((await raw.answer()).body) == 1_000_000

    run(main)


async def connections(served, count):
    await until(lambda: len(served.server._connections) == count)
    return tuple(served.server._connections)


# --- slow readers ----------------------------------------------------------------------------------------------


class Source:
    """A flow that notes what it is told."""

    def __init__(self):
        self.told = []

    def pause(self):
        self.told.append("pause")

    def resume(self):
        self.told.append("resume")


def test_a_slow_reader_pauses_the_source_and_lets_it_go_on_when_it_has_read():
    source = Source()
    done = asyncio.Event()

    async def handler(request, reply):
        reply.start(200, ())
        reply.follow(source)
        while not source.told:
            reply.write(bytes(65536))
            await asyncio.sleep(0)
        await done.wait()
        reply.follow(None)
        reply.end()

    async def main():
        async with serving(handler, write_buffer_bytes=4096) as served:
            raw = await served.connect()
            raw.writer.transport.pause_reading()
            raw.write(GET)
            await until(lambda: source.told)
            assert source.told == ["pause"]
            raw.writer.transport.resume_reading()
            await until(lambda: len(source.told) == 2)
            assert source.told == ["pause", "resume"]
            done.set()
            assert (await raw.answer()).is_whole

    run(main)


def test_a_source_that_is_followed_late_is_paused_at_once():
    source, late = Source(), Source()
    done = asyncio.Event()

    async def handler(request, reply):
        reply.start(200, ())
        reply.follow(source)
        while not source.told:
            reply.write(bytes(65536))
            await asyncio.sleep(0)
        reply.follow(late)
        await done.wait()
        reply.end()

    async def main():
        async with serving(handler, write_buffer_bytes=4096) as served:
            raw = await served.connect()
            raw.writer.transport.pause_reading()
            raw.write(GET)
            await until(lambda: late.told)
            done.set()
            raw.writer.transport.resume_reading()
            assert (await raw.answer()).is_whole
            assert late.told[0] == "pause"

    run(main)


@pytest.mark.parametrize("streams", [False, True])
def test_a_client_that_stops_reading_for_good_is_cut(streams):
    source = Source()

    async def handler(request, reply):
        if streams:
            reply.start(200, ())
            reply.follow(source)
            while not source.told:
                reply.write(bytes(65536))
                await asyncio.sleep(0)
            await asyncio.Event().wait()
        reply.send(HttpResponse(status=200, body=bytes(16 * 2**20)))

    async def main():
        async with serving(handler, write_timeout_seconds=0.05) as served:
            raw = await served.connect()
            raw.writer.transport.pause_reading()
            raw.write(GET)
            await until(lambda: served.requests)
            await until(lambda: not served.server._connections)
            await until(lambda: not served.server._tasks)

    run(main, skips_time=True)


def test_a_client_that_reads_slowly_gets_all():
    async def handler(request, reply):
        reply.send(HttpResponse(status=200, headers=(("connection", "close"),), body=bytes(8 * 2**20)))

    async def main():
        async with serving(handler, write_timeout_seconds=0.05) as served:
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            sock.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(sock, ("127.0.0.1", served.port))
            await loop.sock_sendall(sock, GET)
            got = 0
            while data := await loop.sock_recv(sock, 1 << 20):
                got += len(data)
                await asyncio.sleep(0.002)
            sock.close()
            assert got > 8 * 2**20

    run(main, skips_time=True)


# --- clients that go -------------------------------------------------------------------------------------------


def reset(raw: Raw) -> None:
    """Close with RST."""
    sock = raw.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raw.writer.transport.abort()


@pytest.mark.parametrize("leave", [Raw.close, lambda raw: raw.writer.write_eof(), reset], ids=["close", "eof", "reset"])
@pytest.mark.parametrize("has_started", [False, True])
def test_the_handler_is_cancelled_when_its_client_goes(leave, has_started):
    ends = []

    async def handler(request, reply):
        if has_started:
            reply.start(200, ())
            reply.write(b"x")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            reply.write(b"into the void")
            reply.follow(Source())
            reply.end()
            ends.append(reply.has_started)
            raise

    async def main():
        async with serving(handler) as served:
            raw = await served.connect()
            raw.write(GET)
            await until(lambda: served.requests)
            result = leave(raw)
            if result is not None:
                await result
            await until(lambda: ends)
            await until(lambda: not served.server._connections)
            assert ends == [has_started]

    run(main)


def test_a_client_that_ends_without_having_read_is_gone_too():
    ends = []

    async def handler(request, reply):
        source = Source()
        reply.start(200, ())
        reply.follow(source)
        try:
            while not source.told:
                reply.write(bytes(65536))
                await asyncio.sleep(0)
            await asyncio.Event().wait()
        finally:
            ends.append(request.path)

    async def main():
        async with serving(handler) as served:
            raw = await served.connect()
            raw.writer.transport.pause_reading()
            raw.write(GET)
            (connection,) = await connections(served, 1)
            await until(lambda: connection.is_write_paused)
            raw.writer.write_eof()
            await until(lambda: ends)

    run(main)


def test_a_client_that_is_gone_when_it_is_refused_is_no_failure(monkeypatch):
    """Between the reset and the loop's word of it, shutdown() fails."""

    def not_connected():
        raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

    async def main():
        async with serving(header_timeout_seconds=0.02) as served:
            raw = await served.connect()
            raw.write(GET[:9])
            (connection,) = await connections(served, 1)
            monkeypatch.setattr(connection.transport, "write_eof", not_connected)
            await connections(served, 0)

    run(main)


@pytest.mark.parametrize("ends_well", [True, False])
def test_what_a_handler_does_after_its_answer_is_not_cut_off(ends_well):
    gone = asyncio.Event()
    ends = []

    async def handler(request, reply):
        if ends_well:
            await echo(request, reply)
        else:
            reply.abort()
        await gone.wait()
        ends.append("stored")

    async def main():
        async with serving(handler) as served:
            raw = await served.connect()
            raw.write(GET + GET)
            if ends_well:
                assert (await raw.answer()).status == 200
                assert (await raw.answer()).status == 200
            await until(lambda: served.requests)
            await raw.close()
            await until(lambda: not served.server._connections)
            gone.set()
            await until(lambda: len(ends) == len(served.requests))

    run(main)


@pytest.mark.parametrize("data", [b"", GET[:9], POST[:-2], CHUNKED + b"3\r\na"])
def test_a_client_that_goes_within_its_request_is_forgotten(data):
    async def main():
        async with serving() as served:
            raw = await served.connect()
            raw.write(data)
            await connections(served, 1)
            raw.writer.write_eof()
            assert await raw.is_closed()
            await connections(served, 0)
            assert served.requests == []

    run(main)


# --- handlers that fail ----------------------------------------------------------------------------------------


async def raises(request, reply):
    raise ValueError("sk-secret")


async def returns_without_an_answer(request, reply):
    pass


async def sends_a_header_that_may_not_be(request, reply):
    reply.send(HttpResponse(status=200, headers=(("x-a", "b\r\nx-c: d"),)))


@pytest.mark.parametrize("handler", [raises, returns_without_an_answer, sends_a_header_that_may_not_be])
def test_a_failing_handler_is_a_500_with_a_fixed_text_and_a_logged_id(handler, caplog):
    async def main():
        async with serving(handler) as served:
            raw = await served.connect()
            raw.write(GET + GET)
            for number in (1, 2):  # the connection goes on
                answer = await raw.answer()
                assert (answer.status, answer.headers["x-request-id"]) == (500, f"req_{number}")
                assert answer.body == server_module.INTERNAL_ERROR.encode()

    run(main)
    assert [record.name for record in caplog.records] == ["agproxy.server"] * 2
    assert "req_1" in caplog.text


async def fails_within(request, reply):
    reply.start(200, ())
    reply.write(b"half")
    raise ValueError


async def ends_without_end(request, reply):
    reply.start(200, ())
    reply.write(b"half")


async def sends_less_than_it_said(request, reply):
    reply.start(200, (("content-length", "10"),))
    reply.write(b"half")
    reply.end()


async def sends_more_than_it_said(request, reply):
    reply.start(200, (("content-length", "10"),))
    reply.write(b"half")
    reply.write(b"and too much")


async def aborts(request, reply):
    reply.start(200, ())
    reply.write(b"half")
    await asyncio.sleep(0)
    reply.abort()


@pytest.mark.parametrize(
    "handler", [fails_within, ends_without_end, sends_less_than_it_said, sends_more_than_it_said, aborts]
)
def test_an_answer_that_breaks_off_looks_broken_to_the_client(handler, caplog):
    async def main():
        async with serving(handler) as served:
            raw = await served.connect()
            raw.write(GET)
            assert not (await raw.answer()).is_whole

    run(main)
    assert len(caplog.records) == (handler is not aborts)


async def cancels_itself(request, reply):
    raise asyncio.CancelledError


@pytest.mark.parametrize("handler", [raises, cancels_itself])
def test_an_answer_that_cannot_even_fail_cuts_the_connection(handler, caplog, monkeypatch):
    async def main():
        async with serving(handler) as served:
            monkeypatch.setattr(served.server, "refused", None)  # so that rendering the 500 fails, too
            raw = await served.connect()
            raw.write(GET)
            assert await raw.is_closed()

    run(main)
    assert ("could not be answered" in caplog.text) == (handler is raises)


def test_an_answer_cannot_start_twice(caplog):
    async def handler(request, reply):
        reply.start(200, ())
        reply.start(200, ())

    async def main():
        async with serving(handler) as served:
            raw = await served.connect()
            raw.write(GET)
            with pytest.raises(asyncio.IncompleteReadError):
                await raw.answer()

    run(main)
    assert "has started already" in caplog.text


# --- start and close -------------------------------------------------------------------------------------------


def test_close_lets_answers_end_says_so_and_closes_the_rest():
    go_on = asyncio.Event()

    async def handler(request, reply):
        if request.path == "/stream":
            reply.start(200, ())
            reply.write(b"one")
        if request.path != "/quick":
            await go_on.wait()
        if request.path == "/stream":
            reply.write(b"two")
            reply.end()
        else:
            reply.send(HttpResponse(status=200, body=b"done"))

    async def main():
        async with serving(handler) as served:
            idle, unary, stream, upload = [await served.connect() for _ in range(4)]
            idle.write(GET.replace(b"/", b"/quick", 1))
            unary.write(GET.replace(b"/", b"/unary", 1))
            stream.write(GET.replace(b"/", b"/stream", 1))
            upload.write(POST[:-1])
            assert (await idle.answer()).status == 200
            await until(lambda: len(served.requests) == 3)
            closing = asyncio.create_task(served.server.close(1000))
            assert await idle.is_closed()
            with pytest.raises(ConnectionError):
                await served.connect()
            upload.write(POST[-1:])
            await until(lambda: len(served.requests) == 4)
            assert not closing.done()
            go_on.set()
            answer = await unary.answer()
            assert (answer.body, answer.headers["connection"]) == (b"done", "close")
            assert (await stream.answer()).body == b"onetwo"
            assert (await upload.answer()).headers["connection"] == "close"
            for raw in (unary, stream, upload):
                assert await raw.is_closed()
            await closing

    run(main)


def test_close_cuts_what_does_not_end_in_time():
    ends = []

    async def handler(request, reply):
        reply.start(200, ())
        reply.write(b"x")
        try:
            await asyncio.Event().wait()
        finally:
            ends.append(request.path)

    async def main():
        async with serving(handler) as served:
            raw, half = await served.connect(), await served.connect()
            raw.write(GET)
            half.write(GET[:5])
            await until(lambda: served.requests)
            await served.server.close(0.02)
            assert ends == ["/"]
            assert not (await raw.answer()).is_whole
            answer = await half.answer()  # nobody waits for the rest of its request
            assert (answer.status, answer.headers["retry-after"], answer.headers["connection"]) == (503, "1", "close")

    run(main, skips_time=True)


def test_close_does_not_wait_for_requests_that_may_never_come_whole():
    async def main():
        async with serving() as served:
            head, body = await served.connect(), await served.connect()
            head.write(GET[:5])
            body.write(POST[:-1])
            # Until both have been read: to one that has said nothing yet, `close` owes a moment.
            await until(lambda: len([one for one in served.server._connections if one._id]) == 2)
            began = asyncio.get_running_loop().time()
            await served.server.close(1000)
            assert asyncio.get_running_loop().time() - began < 10
            assert (await head.answer()).status == 503
            assert (await body.answer()).status == 408

    run(main, skips_time=True)


def test_close_serves_who_has_just_come_and_is_about_to_ask():
    """Its request may be under way: nobody sends it again by itself, as on a connection that was kept."""

    async def main():
        async with serving() as served:
            asking, silent = await served.connect(), await served.connect()
            await until(lambda: len(served.server._connections) == 2)
            closing = asyncio.create_task(served.server.close(1000))
            await until(lambda: served.server.is_closing and not served.server._doors)
            asking.write(GET)
            answer = await asking.answer()
            assert (answer.status, answer.headers["connection"]) == (200, "close")
            await closing
            assert await silent.is_closed()
            assert asyncio.get_running_loop().time() < 10

    run(main, skips_time=True)


def test_close_does_not_wait_for_half_a_head_that_comes_only_then():
    async def main():
        async with serving() as served:
            raw = await served.connect()
            await until(lambda: served.server._connections)
            closing = asyncio.create_task(served.server.close(1000))
            await until(lambda: served.server.is_closing and not served.server._doors)
            raw.write(GET[:5])
            assert (await raw.answer()).status == 408
            await raw.close()
            await closing
            assert asyncio.get_running_loop().time() < 10

    run(main, skips_time=True)


def test_close_waits_for_what_handlers_do_after_their_answer():
    ends = []

    async def handler(request, reply):
        await echo(request, reply)
        try:
            await asyncio.Event().wait()
        finally:
            ends.append(request.path)

    async def main():
        async with serving(handler) as served:
            raw = await served.connect()
            raw.write(GET)
            assert (await raw.answer()).status == 200
            await served.server.close(0.01)
            assert ends == ["/"]

    run(main, skips_time=True)


def make_server(handler=echo):
    from wire import refuse

    from agproxy.config import Config

    return Server(Config(), handler, refuse, lambda: "id")


async def start(server, hosts, port):
    listeners = listen.bind(hosts, port)
    await server.start(listeners)
    return listen.bound(listeners)


def has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as sock:
        sock.bind(("::1", 0))
        return True
    return False


def test_localhost_is_both_loopback_addresses_on_one_port():
    if not has_ipv6():
        pytest.skip("this machine has no ::1")

    async def main():
        server = make_server()
        listeners = listen.bind(["localhost"], 0)
        addresses = listen.bound(listeners)
        await server.start(listeners)
        assert [address for address, _ in addresses] == ["127.0.0.1", "::1"]
        assert len({port for _, port in addresses}) == 1
        # Else ::1 with "::" would take 0.0.0.0's port as well.
        assert listeners[1].getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        for address, port in addresses:
            raw = Raw(*await asyncio.open_connection(address, port))
            raw.write(GET)
            assert (await raw.answer()).status == 200
            await raw.close()
        await server.close(1)

    run(main)


def test_localhost_without_ipv6_is_127_0_0_1_alone(monkeypatch):
    class NoIPv6(socket.socket):
        def bind(self, address):
            if self.family == socket.AF_INET6:
                raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
            super().bind(address)

    async def main():
        server = make_server()
        with monkeypatch.context() as patch:
            patch.setattr(socket, "socket", NoIPv6)
            addresses = await start(server, ["localhost", "localhost"], 0)
        assert [address for address, _ in addresses] == ["127.0.0.1"]
        await server.close(0)

    run(main)


def test_several_hosts_share_a_port():
    async def main():
        server = make_server()
        addresses = await start(server, ["127.0.0.1", "127.0.0.2"], 0)
        assert addresses[0][1] == addresses[1][1]
        await server.close(0)

    run(main)


def test_a_port_can_be_taken_again_at_once():
    """The connections of the last run are still in TIME_WAIT."""

    async def main():
        async with serving() as served:
            raw = await served.connect()
            raw.write(GET)
            assert (await raw.answer()).status == 200
            await served.server.close(0)
            assert await raw.is_closed()
            await raw.close()
            again = make_server()
            assert await start(again, ["127.0.0.1"], served.port) == (("127.0.0.1", served.port),)
            await again.close(0)

    run(main)


def test_an_address_in_use_is_named():
    async def main():
        async with serving() as served:
            with pytest.raises(ConfigError, match=rf"127\.0\.0\.1 port {served.port}: Address already in use"):
                listen.bind(["127.0.0.1"], served.port)

    run(main)


class Starved(socket.socket):
    """A listener that has no descriptor left for the first clients."""

    tries = 0
    misses = 2

    def accept(self):
        Starved.tries += 1
        if Starved.tries <= Starved.misses:
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


@pytest.mark.parametrize("misses", [2, 10**9])
def test_running_out_of_descriptors_pauses_accepting_and_does_not_end_it(misses, monkeypatch, caplog):
    monkeypatch.setattr(listen, "ACCEPT_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(Starved, "tries", 0)
    monkeypatch.setattr(Starved, "misses", misses)

    async def main():
        server = make_server()
        with monkeypatch.context() as patch:
            patch.setattr(socket, "socket", Starved)
            ((_, port),) = await start(server, ["127.0.0.1"], 0)
        raw = Raw(*await asyncio.open_connection("127.0.0.1", port))
        raw.write(GET)
        await until(lambda: Starved.tries >= 2)
        if misses == 2:
            assert (await raw.answer()).status == 200
        await server.close(1)
        await raw.close()

    run(main, skips_time=True)
    assert {record.getMessage() for record in caplog.records} == {"cannot accept connections: Too many open files"}
    assert 2 <= len(caplog.records) <= 3  # a pause after each


class Readerless(asyncio.SelectorEventLoop):
    """A loop that can accept and knows no readers, as Windows' usual one."""

    def add_reader(self, fd, callback, *args):
        raise NotImplementedError


@pytest.mark.parametrize("loop", [asyncio.SelectorEventLoop, Readerless])
def test_a_crowd_at_the_door_is_let_in(loop):
    async def main():
        async with serving() as served:
            raws = await asyncio.gather(*(served.connect() for _ in range(300)))
            for raw in raws:
                raw.write(GET)
            assert {(await raw.answer()).status for raw in raws} == {200}

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())


def test_a_client_that_comes_while_the_server_stops_is_not_forgotten_unclosed():
    """At every point of its way in: each turn of the loop that the server lets pass before it stops."""

    async def main():
        for turns in range(6):
            server = make_server()
            ((_, port),) = await start(server, ["127.0.0.1"], 0)
            await asyncio.sleep(0)  # it waits for clients now
            with socket.create_connection(("127.0.0.1", port), 20) as client:
                for _ in range(turns):
                    await asyncio.sleep(0)
                await server.close(0)
                with contextlib.suppress(ConnectionResetError):  # it was still in the system's queue
                    assert await asyncio.to_thread(client.recv, 1) == b""

    run(main)


@pytest.mark.parametrize("protocol", [0, socket.IPPROTO_TCP], ids=["inherited", "own"])
def test_small_writes_go_out_at_once(protocol):
    """asyncio sets TCP_NODELAY only on sockets made with IPPROTO_TCP, which one from elsewhere need not be."""

    async def main():
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        server = make_server()
        await server.start([listener])
        raw = Raw(*await asyncio.open_connection(*listener.getsockname()))
        raw.write(GET)
        assert (await raw.answer()).status == 200
        (connection,) = server._connections
        accepted = connection.transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        await raw.close()
        await server.close(0)

    run(main)


def test_a_port_is_shared_only_with_who_shares_it():
    first = listen.bind(["127.0.0.1"], 0, reuse_port=True)
    ((_, port),) = listen.bound(first)
    second = listen.bind(["127.0.0.1"], port, reuse_port=True)
    assert listen.bound(second) == listen.bound(first)
    with pytest.raises(ConfigError, match="Address already in use"):
        listen.bind(["127.0.0.1"], port)
    listen.close_all(first + second)
