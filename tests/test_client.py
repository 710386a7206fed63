"""The upstream client against scripted servers, plain and over TLS, directly and through proxies."""

import asyncio
import contextlib
import gzip
import http.server
import socket
import ssl
import threading
import zlib
from dataclasses import replace

import pytest
from authority import make_certificates
from wire import Raw, peer, run, serving, until

from agproxy.config import Config
from agproxy.errors import ConfigError, Fault, Overloaded, Retry, UpstreamFailed
from agproxy.http11 import Call
from agproxy.io import dial
from agproxy.io.client import Client
from agproxy.io.connection_pool import ConnectionPool
from agproxy.io.names import Names
from agproxy.io.proxy import ProxyRules, parse_proxy

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
NO_PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in NO_PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)


def call(port, path="/", *, body=b"", method="POST", headers=(), scheme="http", host="127.0.0.1"):
    return Call(method=method, url=f"{scheme}://{host}:{port}{path}", body=body, headers=tuple(headers))


@contextlib.asynccontextmanager
async def calling(**settings):
    """A client; at the end it is closed and holds nothing."""
    client = Client(replace(Config(), **settings), None)
    try:
        yield client
    finally:
        await client.close()
        assert client._connections == set()
        assert client._pools == {}


def answering(*answers, seen=None):
    """A script: each request of a connection gets the next answer, then the connection waits for its end."""

    async def script(raw):
        for answer in answers:
            request = await raw.request()
            if seen is not None:
                seen.append(request)
            raw.write(answer)
        await raw.is_closed()

    return script


async def silent(raw):
    """A script that takes what comes and says nothing."""
    await asyncio.Event().wait()


async def fails(client, *args, **kwargs):
    """The UpstreamFailed that a call ends in."""
    with pytest.raises(UpstreamFailed) as caught:
        await (await client.send(call(*args, **kwargs))).read()
    return caught.value


# --- calls and answers -----------------------------------------------------------------------------------------


def test_a_call_goes_out_as_it_is_with_what_http_needs():
    seen = []

    async def main():
        async with peer(answering(OK, seen=seen)) as port, calling() as client:
            headers = [("x-goog-api-key", "k"), ("content-type", "application/json")]
            await client.send(call(port, "/v1beta/x%2Fy:go?alt=sse&a=%20", body=b"{}", headers=headers))
            (request,) = seen
            assert request.chunks == [b"POST /v1beta/x%2Fy:go?alt=sse&a=%20 HTTP/1.1"]
            assert request.body == b"{}"
            assert request.headers == {
                "host": f"127.0.0.1:{port}",
                "x-goog-api-key": "k",
                "content-type": "application/json",
                "accept-encoding": "gzip",
                "content-length": "2",
            }

    run(main)


def test_a_call_may_choose_its_codings_and_need_have_no_body():
    seen = []

    async def main():
        async with peer(answering(OK, OK, OK, seen=seen)) as port, calling() as client:
            for method in ("GET", "DELETE", "POST"):
                await (await client.send(call(port, method=method, headers=[("accept-encoding", "identity")]))).read()
            assert [request.headers["accept-encoding"] for request in seen] == ["identity"] * 3
            assert [request.headers.get("content-length") for request in seen] == [None, None, "0"]

    run(main)


ANSWERS = {
    "length": (OK, b"ok"),
    "chunks": (CHUNKED + b"1\r\no\r\n1;x\r\nk\r\n0\r\nt: 1\r\n\r\n", b"ok"),
    "until the end": (b"HTTP/1.1 200 OK\r\n\r\nok", b"ok"),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\nContent-Type: a\r\n\r\nok", b"ok"),
    "nothing": (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    "no reason": (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", b"ok"),
    "after 1xx": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + OK, b"ok"),
    "gzip": (CHUNKED[:-2] + b"Content-Encoding: gzip\r\n\r\n%x\r\n%b\r\n0\r\n\r\n", b"ok" * 999),
    "deflate": (CHUNKED[:-2] + b"Content-Encoding: deflate\r\n\r\n%x\r\n%b\r\n0\r\n\r\n", b"ok" * 999),
    "gzip, empty": (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n", b""),
}
for _name, _compress in (("gzip", gzip.compress), ("deflate", zlib.compress)):
    _packed = _compress(ANSWERS[_name][1])
    ANSWERS[_name] = (ANSWERS[_name][0] % (len(_packed), _packed), ANSWERS[_name][1])


@pytest.mark.parametrize("bytewise", [False, True], ids=["at once", "bytewise"])
@pytest.mark.parametrize("name", ANSWERS)
def test_answers_of_every_framing_are_read_whole_in_any_split(name, bytewise):
    wire, body = ANSWERS[name]

    async def script(raw):
        await raw.request()
        await (raw.write_bytewise(wire) if bytewise else asyncio.sleep(0))
        raw.write(b"" if bytewise else wire)

    async def main():
        async with peer(script) as port, calling() as client:
            answer = await client.send(call(port))
            assert answer.status in (200, 204)
            assert await answer.read() == body
            if "content-encoding" in wire.decode("latin-1").lower():
                assert not {name for name, _ in answer.headers} & {"content-encoding", "content-length"}

    run(main)


def test_status_and_headers_come_as_they_are():
    wire = b"HTTP/1.1 429 Too Many\r\nRetry-After:  7 \r\nX-A: 1\r\nX-A: \xe9\r\nContent-Length: 0\r\n\r\n"

    async def main():
        async with peer(answering(wire)) as port, calling() as client:
            answer = await client.send(call(port))
            assert answer.status == 429
            assert answer.headers == (("retry-after", "7"), ("x-a", "1"), ("x-a", "\xe9"), ("content-length", "0"))

    run(main)


def test_head_and_redirects_are_answers_as_any_other():
    moved = b"HTTP/1.1 307 Moved\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
    seen = []

    async def main():
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"
        async with peer(answering(head, moved, seen=seen)) as port, calling() as client:
            assert await (await client.send(call(port, method="HEAD"))).read() == b""
            answer = await client.send(call(port))
            assert (answer.status, await answer.read()) == (307, b"")
            assert len(seen) == 2

    run(main)


def test_the_standard_librarys_server_is_understood():
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    async def main():
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            async with calling() as client:
                for size in (3, 5_000_000):
                    answer = await client.send(call(server.server_port, body=b"x" * size))
                    assert len(await answer.read()) == size
            server.shutdown()
            thread.join()

    run(main)


# --- pump ------------------------------------------------------------------------------------------------------


def test_each_read_is_fed_once_and_not_from_a_task():
    step = asyncio.Event()
    fed = []

    def feed(data):
        assert asyncio.current_task() is None  # straight from the socket's callback
        assert type(data) is bytes
        fed.append(data)
        step.set()

    async def script(raw):
        await raw.request()
        raw.write(CHUNKED)
        await step.wait()
        for piece in (b"1\r\na\r\n2\r\nbc\r\n", b"3\r\ndef\r\n"):
            step.clear()
            raw.write(piece)
            await step.wait()
        raw.write(b"1\r\ng\r\n0\r\n\r\n")

    async def main():
        async with peer(script) as port, calling() as client:
            answer = await client.send(call(port))
            asyncio.get_running_loop().call_soon(step.set)
            await answer.pump(feed)
            assert fed == [b"abc", b"def", b"g"]

    run(main)


def test_bytes_that_came_before_the_pump_are_fed_first():
    fed = []

    async def main():
        async with peer(answering(OK)) as port, calling() as client:
            answer = await client.send(call(port))
            await answer.pump(fed.append)
            assert fed == [b"ok"]
            with pytest.raises(RuntimeError):
                await answer.read()

    run(main)


@pytest.mark.parametrize("at", [0, 1])
def test_what_the_feed_raises_is_raised_from_the_pump_and_the_connection_cut(at):
    gone = asyncio.Event()
    fed = []

    def feed(data):
        if len(fed) == at:
            raise LookupError("mine")
        fed.append(data)

    async def script(raw):
        await raw.request()
        raw.write(CHUNKED + b"1\r\na\r\n")
        await until(lambda: len(fed) == at)
        raw.write(b"1\r\nb\r\n")
        assert await raw.is_closed()
        gone.set()

    async def main():
        async with peer(script) as port, calling() as client:
            with pytest.raises(LookupError, match="mine"):
                await (await client.send(call(port))).pump(feed)
            assert client._connections == set() or await until(lambda: not client._connections) is None
            await gone.wait()

    run(main)


class SlowReply:
    """A reply whose reader is slow from the start."""

    def __init__(self):
        self.sources = []

    def follow(self, source):
        self.sources.append(source)
        if source is not None:
            source.pause()


def test_a_slow_reply_pauses_the_upstream_connection_and_that_silence_is_no_time_out():
    fed = []

    async def script(raw):
        await raw.request()
        raw.write(CHUNKED)
        for _ in range(64):
            raw.write(b"%x\r\n%b\r\n" % (2**20, bytes(2**20)))
        await raw.writer.drain()
        raw.write(b"0\r\n\r\n")
        await raw.is_closed()

    async def main():
        async with peer(script) as port, calling(upstream_idle_timeout_seconds=0.05) as client:
            answer = await client.send(call(port))
            reply = SlowReply()
            pumping = asyncio.create_task(answer.pump(lambda data: fed.append(len(data)), reply))
            await asyncio.sleep(0.12)  # well over the idle time-out
            assert sum(fed) < 2**20
            assert not pumping.done()
            reply.sources[0].resume()
            await pumping
            assert sum(fed) == 64 * 2**20
            assert reply.sources[-1] is None

    run(main, skips_time=True)


def test_silence_counts_from_the_moment_at_which_a_slow_reply_goes_on():
    resumed = asyncio.Event()
    reply = SlowReply()

    async def script(raw):
        await raw.request()
        raw.write(CHUNKED)
        await resumed.wait()
        await asyncio.sleep(0.05)
        raw.write(b"2\r\nok\r\n0\r\n\r\n")

    async def main():
        fed = []
        async with peer(script) as port, calling(upstream_idle_timeout_seconds=0.1) as client:
            answer = await client.send(call(port))
            pumping = asyncio.create_task(answer.pump(fed.append, reply))
            await asyncio.sleep(0.5)
            reply.sources[0].resume()
            resumed.set()
            await pumping
            assert fed == [b"ok"]

    run(main, skips_time=True)


def test_a_pause_within_the_last_read_does_not_outlive_the_answer():
    started = []

    async def script(raw):
        for _ in range(2):
            await raw.request()
            await until(lambda: started)
            raw.write(OK)
        await raw.is_closed()

    async def main():
        async with peer(script) as port, calling(first_byte_timeout_seconds=1) as client:
            sending = asyncio.create_task(client.send(call(port)))
            await until(lambda: client._connections)
            (connection,) = client._connections
            await until(lambda: connection._answer)
            answer = connection._answer
            answer._feed = lambda data: answer.pause()  # the pump cannot start before the head, so this stands for it
            started.append(1)
            await sending
            assert await (await client.send(call(port))).read() == b"ok"
            assert client._connections == {connection}

    run(main, skips_time=True)


def test_an_answer_that_nobody_reads_yet_is_read_ahead_only_so_far():
    async def script(raw):
        await raw.request()
        raw.write(CHUNKED)
        for _ in range(64):
            raw.write(b"%x\r\n%b\r\n" % (2**20, bytes(2**20)))
        raw.write(b"0\r\n\r\n")
        await raw.is_closed()

    async def main():
        async with peer(script) as port, calling(read_buffer_bytes=4096) as client:
            answer = await client.send(call(port))
            (connection,) = client._connections
            await until(lambda: not connection._transport.is_reading())
            assert answer._kept_bytes <= 4096 + 256 * 1024
            assert len(await answer.read()) == 64 * 2**20

    run(main)


def test_a_slow_client_holds_back_upstream_through_the_whole_gateway():
    sent = 0

    async def script(raw):
        nonlocal sent
        await raw.request()
        raw.write(CHUNKED)
        for _ in range(200):
            raw.write(b"%x\r\n%b\r\n" % (2**18, bytes(2**18)))
            await raw.writer.drain()
            sent += 2**18
        raw.write(b"0\r\n\r\n")
        await raw.is_closed()

    async def main():
        async with peer(script) as port, calling() as client:

            async def relay(request, reply):
                answer = await client.send(call(port))
                reply.start(200, ())
                await answer.pump(reply.write, reply)
                reply.end()

            async with serving(relay) as served:
                raw = await served.connect()
                raw.writer.transport.pause_reading()
                raw.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                await until(lambda: client._connections)
                (connection,) = client._connections
                await until(lambda: not connection._transport.is_reading())
                (downstream,) = served.server._connections
                assert downstream.transport.get_write_buffer_size() < 65536 + 2 * 256 * 1024
                assert sent < 200 * 2**18
                raw.writer.transport.resume_reading()
                assert len((await raw.answer()).body) == 200 * 2**18

    run(main)


# --- connections -----------------------------------------------------------------------------------------------


def test_one_connection_serves_one_call_after_the_other():
    peers = []

    async def script(raw):
        peers.append(raw)
        await answering(OK, CHUNKED + b"2\r\nok\r\n0\r\n\r\n", OK)(raw)

    async def main():
        async with peer(script) as port, calling() as client:
            for _ in range(3):
                answer = await client.send(call(port, body=b"x"))
                assert await answer.read() == b"ok"
                answer.close()
            assert len(peers) == 1

    run(main)


@pytest.mark.parametrize(
    "answer",
    [
        OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
        OK.replace(b"1.1", b"1.0"),
        OK + b"garbage",
        OK + OK,
        b"HTTP/1.1 200 OK\r\n\r\nok",
    ],
)
def test_a_connection_that_cannot_be_trusted_to_go_on_is_not_used_again(answer):
    requests = []

    async def script(raw):
        requests.append(0)
        me = len(requests) - 1
        while True:
            await raw.request()
            requests[me] += 1
            raw.write(answer)
            if b"Content-Length" not in answer:
                return

    async def main():
        async with peer(script) as port, calling() as client:
            for _ in range(2):
                assert await (await client.send(call(port))).read() == b"ok"
            assert requests == [1, 1]

    run(main)


def test_bytes_on_an_idle_connection_close_it():
    peers = []
    talk = asyncio.Event()

    async def script(raw):
        peers.append(raw)
        await raw.request()
        raw.write(OK)
        if len(peers) == 1:
            await talk.wait()
            raw.write(OK.replace(b"ok", b"no"))
        await raw.is_closed()

    async def main():
        async with peer(script) as port, calling() as client:
            assert await (await client.send(call(port))).read() == b"ok"
            talk.set()
            await until(lambda: not client._connections)
            assert await (await client.send(call(port))).read() == b"ok"
            assert len(peers) == 2

    run(main)


@pytest.mark.parametrize("more", [OK.replace(b"ok", b"no"), b""], ids=["an answer that nobody asked for", "the end"])
def test_a_connection_on_which_something_has_come_is_not_used_again(more):
    """Also where the loop has not seen it yet: else it would be taken for the answer to the next call."""
    raws, asked_again = [], []

    async def script(raw):
        raws.append(raw)
        await raw.request()
        raw.write(OK)
        asked_again.append(not await raw.is_closed())

    async def main():
        async with peer(script) as port, calling() as client:
            assert await (await client.send(call(port))).read() == b"ok"
            raws[0].write(more)
            if not more:
                raws[0].writer.write_eof()
            answer = await client.send(call(port))  # at once: the loop has not looked at the socket since
            assert await answer.read() == b"ok"
            await until(lambda: asked_again)
            assert (len(raws), asked_again) == (2, [False])

    run(main)


def test_an_idle_connection_is_closed_when_its_time_is_over():
    async def main():
        async with peer(answering(OK, OK)) as port, calling(upstream_keepalive_seconds=0.03) as client:
            assert await (await client.send(call(port))).read() == b"ok"
            assert await (await client.send(call(port))).read() == b"ok"
            assert len(client._connections) == 1
            await until(lambda: not client._connections)
            assert client._pools == {}

    run(main, skips_time=True)


def test_an_idle_connection_that_upstream_closes_is_forgotten():
    async def script(raw):
        await raw.request()
        raw.write(OK)

    async def main():
        async with peer(script) as port, calling() as client:
            assert await (await client.send(call(port))).read() == b"ok"
            await until(lambda: not client._connections)
            assert client._pools == {}

    run(main)


def closing_on_the_second(counts, partial=b""):
    """A script: answers the first request of each connection and closes upon the second."""

    async def script(raw):
        counts.append(0)
        me = len(counts) - 1
        await raw.request()
        counts[me] += 1
        raw.write(OK)
        await raw.request()
        counts[me] += 1
        raw.write(partial)

    return script


def test_a_stale_connection_is_replaced_once_by_a_fresh_one():
    counts = []

    async def main():
        async with peer(closing_on_the_second(counts)) as port, calling() as client:
            for _ in range(3):
                assert await (await client.send(call(port, body=b"x" * 100_000))).read() == b"ok"
            assert counts == [2, 2, 1]

    run(main)


def test_the_fresh_connection_is_not_another_stale_one():
    arrived = []
    both = asyncio.Event()

    async def script(raw):
        arrived.append(raw)
        await raw.request()
        if len(arrived) == 2:
            both.set()
        await both.wait()
        raw.write(OK)
        if len(arrived) < 3:
            await raw.request()

    async def main():
        async with peer(script) as port, calling(max_upstream_connections=2) as client:
            await asyncio.gather(*(client.send(call(port)) for _ in range(2)))
            assert await (await client.send(call(port))).read() == b"ok"
            assert len(arrived) == 3

    run(main)


def test_a_call_that_waited_for_its_fresh_connection_does_not_get_a_used_one():
    """X finds its connection stale, Y takes the free place; what Y leaves behind is stale as well."""
    counts = []

    async def main():
        async with peer(closing_on_the_second(counts)) as port, calling(max_upstream_connections=1) as client:

            async def one():
                return await (await client.send(call(port))).read()

            assert await one() == b"ok"
            assert await asyncio.gather(one(), one()) == [b"ok", b"ok"]
            assert counts == [2, 1, 1]
            assert [pool._open for pool in client._pools.values()] == [1]

    run(main)


def test_a_fresh_connection_takes_the_place_of_a_resting_one_if_it_must():
    class Resting:
        is_open = True
        pool = None

        def abort(self):
            self.is_open = False
            pool.forget(self)

    pool = ConnectionPool(1)

    async def main():
        assert await pool.acquire(fresh=False) is None
        resting = Resting()
        pool.release(resting)
        assert await pool.acquire(fresh=True) is None
        assert not resting.is_open
        pool.free()
        assert pool.is_empty

    run(main)


@pytest.mark.parametrize(("partial", "served"), [(b"HTTP/1.1 2", [2]), (b"HTTP/1.1 100 Continue\r\n\r\n", [2])])
def test_nothing_is_sent_again_once_bytes_have_come(partial, served):
    counts = []

    async def main():
        async with peer(closing_on_the_second(counts, partial)) as port, calling() as client:
            assert await (await client.send(call(port))).read() == b"ok"
            error = await fails(client, port)
            assert (error.code, counts) == ("upstream_closed", served)

    run(main)


def test_a_fresh_connection_that_closes_is_an_error_at_once():
    counts = []

    async def script(raw):
        counts.append(1)
        await raw.request()

    async def main():
        async with peer(script) as port, calling() as client:
            error = await fails(client, port)
            assert (error.status, error.retry, error.fault) == (502, Retry.NEXT_ACCOUNT, Fault.UPSTREAM)
            assert error.message == f"127.0.0.1:{port} closed the connection before its answer"
            assert counts == [1]

    run(main)


def test_calls_over_the_limit_wait_their_turn():
    order = []
    release = asyncio.Event()

    async def script(raw):
        while True:
            request = await raw.request()
            order.append(request.chunks[0].split()[1])
            await release.wait()
            raw.write(OK)

    async def main():
        async with peer(script) as port, calling(max_upstream_connections=1) as client:

            async def one(number):
                return await (await client.send(call(port, f"/{number}"))).read()

            tasks = []
            for number in range(5):
                tasks.append(asyncio.create_task(one(number)))
                await asyncio.sleep(0)
            await until(lambda: order)
            tasks[2].cancel()
            release.set()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert [result for result in results if isinstance(result, bytes)] == [b"ok"] * 4
            assert order == [b"/0", b"/1", b"/3", b"/4"]
            assert len(client._connections) == 1

    run(main)


def test_a_waiting_call_gets_the_place_of_a_connection_that_ended():
    async def script(raw):
        await raw.request()
        raw.write(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        await raw.is_closed()

    async def main():
        async with peer(script) as port, calling(max_upstream_connections=1) as client:
            answers = await asyncio.gather(*(client.send(call(port)) for _ in range(4)))
            assert [await answer.read() for answer in answers] == [b"ok"] * 4

    run(main)


def test_a_call_that_finds_no_place_in_time_is_told_so():
    async def script(raw):
        await raw.request()
        await raw.is_closed()

    async def main():
        limits = {"max_upstream_connections": 1, "connect_timeout_seconds": 0.05}
        async with peer(script) as port, calling(**limits) as client:
            first = asyncio.create_task(client.send(call(port)))
            await until(lambda: client._connections)
            with pytest.raises(Overloaded, match="all 1 connections") as caught:
                await client.send(call(port))
            assert caught.value.status == 503
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)

    run(main, skips_time=True)


def test_a_request_in_two_pieces_does_not_wait_for_upstreams_acknowledgement():
    async def main():
        async with peer(answering(OK)) as port, calling() as client:
            await client.send(call(port))
            (connection,) = client._connections
            sock = connection._transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    run(main)


# --- time-outs -------------------------------------------------------------------------------------------------


def test_silence_before_the_head_is_a_504():
    async def script(raw):
        await raw.request()
        raw.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await raw.is_closed()

    async def main():
        async with peer(script) as port, calling(first_byte_timeout_seconds=0.05) as client:
            error = await fails(client, port)
            assert (error.status, error.code, error.retry) == (504, "upstream_timeout", Retry.NEXT_ACCOUNT)
            assert error.message == f"127.0.0.1:{port} did not answer within 0.05 s"

    run(main, skips_time=True)


def test_silence_within_the_body_is_a_504_and_slow_bytes_are_not():
    async def script(raw):
        await raw.request()
        raw.write(CHUNKED)
        for _ in range(6):
            raw.write(b"1\r\na\r\n")
            await asyncio.sleep(0.03)
        await raw.is_closed()

    async def main():
        fed = []
        async with peer(script) as port, calling(upstream_idle_timeout_seconds=0.1) as client:
            answer = await client.send(call(port))
            with pytest.raises(UpstreamFailed, match=r"silent for 0\.1 s") as caught:
                await answer.pump(fed.append)
            assert (caught.value.status, b"".join(fed)) == (504, b"aaaaaa")

    run(main, skips_time=True)


def test_an_answer_that_never_ends_is_a_504_in_the_end():
    async def script(raw):
        await raw.request()
        raw.write(CHUNKED)
        while not raw.writer.is_closing():
            raw.write(b"1\r\na\r\n")
            await asyncio.sleep(0.01)

    async def main():
        async with peer(script) as port, calling(total_timeout_seconds=0.1) as client:
            answer = await client.send(call(port))
            with pytest.raises(UpstreamFailed, match=r"took over 0\.1 s") as caught:
                await answer.read()
            assert (caught.value.status, caught.value.code) == (504, "upstream_timeout")

    run(main, skips_time=True)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_request_that_is_long_in_leaving_is_not_upstreams_silence(scheme, certificates, monkeypatch):
    async def script(raw):
        sock = raw.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)  # the kernel's buffers must not hide the pace
        await raw.reader.readuntil(b"\r\n\r\n")
        for _ in range(16):
            await asyncio.sleep(0.02)
            await raw.reader.readexactly(2**21)
        raw.write(OK)
        await raw.is_closed()

    async def main():
        options = {"ssl": server_tls(certificates)} if scheme == "https" else {}
        settings = {"first_byte_timeout_seconds": 0.1, "ca_file": str(certificates / "ca.pem")}
        async with peer(script, limit=65536, **options) as port, calling(**settings) as client:
            resolving_to(monkeypatch, ("127.0.0.1", port))
            wanted = call(port, body=bytes(2**25), scheme=scheme, host="localhost")
            assert await (await client.send(wanted)).read() == b"ok"

    run(main, skips_time=True)


def test_a_handshake_that_never_ends_is_a_504():
    async def main():
        async with peer(silent) as port, calling(connect_timeout_seconds=0.05) as client:
            error = await fails(client, port, scheme="https")
            assert (error.status, error.code) == (504, "upstream_timeout")
            assert "no connection within 0.05 s" in error.message

    run(main, skips_time=True)


# --- answers that are not whole or not HTTP ----------------------------------------------------------------------

PACKED = gzip.compress(b"some text " * 100)
GZIP = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
BROKEN = {
    "a short length": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok", "upstream_closed"),
    "chunks without an end": (CHUNKED + b"2\r\nok\r\n", "upstream_closed"),
    "a chunk without an end": (CHUNKED + b"5\r\nok", "upstream_closed"),
    "half a head": (b"HTTP/1.1 200 OK\r\nConte", "upstream_closed"),
    "nothing": (b"", "upstream_closed"),
    "not HTTP": (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "bad_upstream"),
    "no header": (b"HTTP/1.1 200 OK\r\nsk-secret\r\n\r\n", "bad_upstream"),
    "two lengths": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nokk", "bad_upstream"),
    "an odd transfer-encoding": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "bad_upstream"),
    "an odd chunk": (CHUNKED + b"zz\r\n", "bad_upstream"),
    "a switch of protocols": (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", "bad_upstream"),
    "1xx without end": (b"HTTP/1.1 100 Continue\r\n\r\n" * 17, "bad_upstream"),
    "headers without end": (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 400_000, "bad_upstream"),
    "an unknown coding": (b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 2\r\n\r\nok", "bad_upstream"),
    "gzip cut short": (GZIP % (len(PACKED) - 1) + PACKED[:-1], "bad_upstream"),
    "gzip that is none": (GZIP % 4 + b"okok", "bad_upstream"),
    "gzip and more": (GZIP % (len(PACKED) + 2) + PACKED + b"ok", "bad_upstream"),
}


@pytest.mark.parametrize("bytewise", [False, True], ids=["at once", "bytewise"])
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_answer_is_an_error_that_does_not_quote_it(name, bytewise):
    wire, code = BROKEN[name]
    if bytewise and len(wire) > 10_000:
        pytest.skip("the same path as at once, only slowly")

    async def script(raw):
        await raw.request()
        await (raw.write_bytewise(wire) if bytewise else asyncio.sleep(0))
        raw.write(b"" if bytewise else wire)

    async def main():
        async with peer(script) as port, calling() as client:
            error = await fails(client, port)
            assert (error.code, error.status) == (code, 502)
            assert f"127.0.0.1:{port}" in error.message
            assert "secret" not in error.message

    run(main)


def test_the_good_part_of_a_broken_answer_is_fed_before_the_error():
    fed, has_head = [], asyncio.Event()

    async def script(raw):
        await raw.request()
        raw.write(CHUNKED)
        await has_head.wait()
        raw.write(b"2\r\nok\r\nzz\r\n")
        await raw.is_closed()

    async def main():
        async with peer(script) as port, calling() as client:
            answer = await client.send(call(port))
            has_head.set()
            with pytest.raises(UpstreamFailed, match="body is not HTTP"):
                await answer.pump(fed.append)
            assert fed == [b"ok"]

    run(main)


@pytest.mark.parametrize(
    "wire",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n" + bytes(1001),
        GZIP % len(gzip.compress(bytes(1001))) + gzip.compress(bytes(1001)),
        b"HTTP/1.1 200 OK\r\n\r\n" + bytes(1001),
    ],
)
def test_a_body_over_the_limit_is_not_read_whole(wire):
    async def main():
        async with peer(answering(wire)) as port, calling(max_upstream_body_bytes=1000) as client:
            assert "over 1000 bytes" in (await fails(client, port)).message

    run(main)


def test_a_compressed_stream_cannot_swell_without_bound():
    """The reader of a stream keeps nothing, so its bound is on what one read may become."""
    bomb = gzip.compress(bytes(100_000))
    fed = []

    async def main():
        async with (
            peer(answering(GZIP % len(bomb) + bomb)) as port,
            calling(max_upstream_body_bytes=50_000) as client,
        ):
            with pytest.raises(UpstreamFailed, match="over 50000 bytes"):
                await (await client.send(call(port))).pump(fed.append)
            assert fed == []

    run(main)


def test_a_compressed_stream_is_fed_as_it_comes():
    compressor = zlib.compressobj(wbits=31)
    fed = []

    async def script(raw):
        await raw.request()
        raw.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n")
        for word in (b"one", b"two"):
            count = len(fed)
            raw.write(compressor.compress(word) + compressor.flush(zlib.Z_SYNC_FLUSH))
            await until(lambda count=count: len(fed) > count)
        raw.write(compressor.flush())

    async def main():
        async with peer(script) as port, calling() as client:
            await (await client.send(call(port))).pump(fed.append)
            assert fed == [b"one", b"two"]

    run(main)


def test_an_answer_that_comes_before_the_request_has_left_is_taken():
    async def script(raw):
        raw.writer.transport.pause_reading()
        raw.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        await raw.writer.drain()
        await asyncio.Event().wait()

    async def main():
        async with peer(script) as port, calling() as client:
            answer = await client.send(call(port, body=bytes(64 * 2**20)))
            assert (answer.status, await answer.read()) == (413, b"no")
            await until(lambda: not client._connections)

    run(main)


# --- giving up -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["send", "read", "pump", "close", "client"])
def test_giving_up_cuts_the_connection_at_once(moment):
    asked, gone = asyncio.Event(), asyncio.Event()

    async def script(raw):
        await raw.request()
        asked.set()
        if moment != "send":
            raw.write(CHUNKED + b"1\r\na\r\n")
        assert await raw.is_closed()
        gone.set()

    async def main():
        async with peer(script) as port, calling() as client:

            async def work():
                answer = await client.send(call(port))
                if moment == "close":
                    answer.close()
                    answer.close()
                elif moment == "read":
                    await answer.read()
                else:
                    await answer.pump(lambda data: None)

            task = asyncio.create_task(work())
            await asked.wait()
            if moment == "client":
                await client.close()
                with pytest.raises(UpstreamFailed, match="given up"):
                    await task
            elif moment == "close":
                await task
            else:
                for _ in range(5):
                    await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            await gone.wait()
            await until(lambda: not client._connections)

    run(main)


def test_a_closed_client_takes_no_more_calls():
    async def main():
        async with calling() as client:
            await client.close()
            assert (await fails(client, 1)).retry is Retry.NEVER

    run(main)


def test_a_client_that_is_closed_while_it_dials_leaves_nothing(monkeypatch):
    resolving, go_on = asyncio.Event(), asyncio.Event()

    async def main():
        async with peer(answering(OK)) as port, calling() as client:

            async def look_up(self, host, at):
                resolving.set()
                await go_on.wait()
                return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

            monkeypatch.setattr(Names, "look_up", look_up)
            sending = asyncio.create_task(client.send(call(port, host="localhost")))
            await resolving.wait()
            await client.close()
            go_on.set()
            with pytest.raises(UpstreamFailed, match="shutting down"):
                await sending
            await until(lambda: not client._connections)

    run(main)


# --- where it does not connect to ------------------------------------------------------------------------------


def test_nobody_listening_is_a_clear_error():
    async def main():
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
            async with calling() as client:
                error = await fails(client, port)
                assert error.message == f"127.0.0.1:{port}: cannot connect: Connection refused"
                assert (error.status, error.code, error.retry) == (502, "upstream_connect", Retry.NEXT_ACCOUNT)

    run(main)


def test_a_name_that_does_not_resolve_is_a_clear_error(monkeypatch):
    def unknown(*args, **kwargs):
        raise socket.gaierror(-2, "Name or service not known")

    async def main():
        monkeypatch.setattr(socket, "getaddrinfo", unknown)
        async with calling() as client:
            error = await fails(client, 443, scheme="https", host="gone.test")
            assert error.message == "gone.test: the host name cannot be resolved"

    run(main)


@pytest.mark.parametrize("host", ["example.test", "10.0.0.1", "[2001:db8::1]", "localhost.example.test"])
def test_keys_do_not_travel_in_plain_text_beyond_this_machine(host):
    async def main():
        async with calling() as client:
            error = await fails(client, 80, "/?key=sk-secret", host=host)
            assert "allow_plain_http" in error.message
            assert "secret" not in error.message
            assert error.retry is Retry.NEVER

    run(main)


@pytest.mark.parametrize("url", ["", "x", "ftp://a/", "http://", "https://u:p@a/", "http://a:b/", "http://[::1/"])
def test_a_url_that_is_none_is_refused(url):
    async def main():
        async with calling() as client:
            with pytest.raises(UpstreamFailed, match="upstream URL") as caught:
                await client.send(Call(method="GET", url=url, body=b"", headers=()))
            assert caught.value.retry is Retry.NEVER

    run(main)


@pytest.mark.parametrize(
    ("path", "headers"),
    [("/", [("x-goog-api-key", "sk-secret\n")]), ("/", [("x", "sk-\u20ac-secret")]), ("/a b?key=sk-secret", [])],
)
def test_a_key_that_is_no_header_value_is_not_shown(path, headers):
    async def main():
        async with peer(answering(OK)) as port, calling() as client:
            error = await fails(client, port, path, headers=headers)
            assert "does not allow" in error.message
            assert "secret" not in f"{error.message}{error.__cause__}"

    run(main)


def resolving_to(monkeypatch, *addresses):
    """Let names mean these addresses, on the port that is asked for."""

    async def look_up(self, host, port):
        return [
            (socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, at or port))
            for ip, at in addresses
        ]

    monkeypatch.setattr(Names, "look_up", look_up)


@contextlib.contextmanager
def black_hole():
    """A port whose connections are neither accepted nor refused: its queue is full."""
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def closed_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def test_an_address_that_refuses_is_not_the_last(monkeypatch):
    async def main():
        async with peer(answering(OK)) as port, calling() as client:
            resolving_to(monkeypatch, ("127.0.0.1", closed_port()), ("127.0.0.1", closed_port()), ("127.0.0.1", port))
            assert await (await client.send(call(80, host="localhost"))).read() == b"ok"

    run(main)


def test_addresses_that_all_refuse_are_one_clear_error(monkeypatch):
    async def main():
        async with calling() as client:
            resolving_to(monkeypatch, ("127.0.0.1", closed_port()), ("127.0.0.1", closed_port()))
            error = await fails(client, 80, host="localhost")
            assert error.message == "localhost: cannot connect: Connection refused"

    run(main)


def test_an_address_that_is_silent_is_overtaken_by_the_next(monkeypatch):
    monkeypatch.setattr(dial, "_NEXT_ADDRESS_SECONDS", 0.02)

    async def main():
        with black_hole() as hole:
            async with peer(answering(OK)) as port, calling() as client:
                resolving_to(monkeypatch, ("127.0.0.1", hole), ("127.0.0.1", hole), ("127.0.0.1", port))
                assert await (await client.send(call(80, host="localhost"))).read() == b"ok"

    run(main)


def test_a_connection_that_nobody_takes_is_a_504():
    async def main():
        with black_hole() as hole:
            async with calling(connect_timeout_seconds=0.05) as client:
                error = await fails(client, hole)
                assert (error.status, error.code) == (504, "upstream_timeout")

    run(main, skips_time=True)


def test_address_families_take_turns(monkeypatch):
    async def main():
        resolving_to(monkeypatch, ("::1", 1), ("::2", 1), ("::3", 1), ("192.0.2.1", 1))
        tried = [address[0] for _, address in await dial.Dialer(Config(), None).resolve("gemini.test", 443)]
        assert tried == ["::1", "192.0.2.1", "::2", "::3"]

    run(main)


# --- TLS -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """A throw-away authority and a certificate for localhost and gemini.test."""
    return make_certificates(tmp_path_factory.mktemp("certificates"), "localhost", "gemini.test", "proxy.test")


def server_tls(certificates):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


def test_https_is_verified_against_the_given_authority_and_kept_alive(certificates):
    names, protocols, peers = [], [], []
    context = server_tls(certificates)
    context.sni_callback = lambda sock, name, context: names.append(name)

    async def script(raw):
        peers.append(raw)
        protocols.append(raw.writer.get_extra_info("ssl_object").selected_alpn_protocol())
        await answering(OK, CHUNKED + b"1\r\no\r\n1\r\nk\r\n0\r\n\r\n")(raw)

    async def main():
        async with peer(script, ssl=context) as port, calling(ca_file=str(certificates / "ca.pem")) as client:
            for size in (10, 1_000_000):
                answer = await client.send(call(port, scheme="https", host="localhost", body=bytes(size)))
                assert await answer.read() == b"ok"
            assert (names, protocols, len(peers)) == (["localhost"], ["http/1.1"], 1)

    run(main)


def test_ssl_cert_file_is_heeded(certificates, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "ca.pem"))

    async def main():
        async with peer(answering(OK), ssl=server_tls(certificates)) as port, calling() as client:
            assert await (await client.send(call(port, scheme="https", host="localhost"))).read() == b"ok"

    run(main)


def test_an_authority_that_certifi_does_not_know_is_refused(certificates):
    async def main():
        async with peer(answering(OK), ssl=server_tls(certificates)) as port, calling() as client:
            error = await fails(client, port, scheme="https", host="localhost")
            assert (error.status, error.code) == (502, "upstream_tls")
            assert error.message.startswith(f"localhost:{port}: its TLS certificate is not trusted: ")

    run(main)


def test_a_certificate_for_another_name_is_refused(certificates):
    async def main():
        tls = server_tls(certificates)
        async with peer(answering(OK), ssl=tls) as port, calling(ca_file=str(certificates / "ca.pem")) as client:
            error = await fails(client, port, scheme="https", host="127.0.0.1")
            assert error.code == "upstream_tls"
            assert "127.0.0.1" in error.message

    run(main)


def test_a_server_that_speaks_no_tls_is_a_clear_error(certificates):
    async def script(raw):
        await raw.reader.read(1)
        raw.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async def main():
        async with peer(script) as port, calling(ca_file=str(certificates / "ca.pem")) as client:
            error = await fails(client, port, scheme="https", host="localhost")
            assert (error.code, error.message) == ("upstream_tls", f"localhost:{port}: TLS: wrong version number")

    run(main)


@pytest.mark.parametrize("text", [None, "not a certificate"])
def test_certificates_that_cannot_be_read_are_named(text, tmp_path):
    file = tmp_path / "ca.pem"
    if text is not None:
        file.write_text(text)

    async def main():
        async with calling(ca_file=str(file)) as client:
            error = await fails(client, 1, scheme="https", host="localhost")
            assert str(file) in error.message
            assert error.retry is Retry.NEVER

    run(main)


def test_a_tls_body_without_length_that_is_cut_is_not_taken_for_whole(certificates):
    """Without close_notify an attacker could end it anywhere."""

    async def script(raw):
        await raw.request()
        raw.write(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        await raw.writer.drain()
        await until(lambda: fed)
        raw.writer.transport.abort()

    fed = []

    async def main():
        tls = server_tls(certificates)
        async with peer(script, ssl=tls) as port, calling(ca_file=str(certificates / "ca.pem")) as client:
            answer = await client.send(call(port, scheme="https", host="localhost"))
            with pytest.raises(UpstreamFailed, match="closed the connection within its answer"):
                await answer.pump(fed.append)

    run(main)


def test_a_tls_body_without_length_that_upstream_ends_itself_is_whole(certificates):
    async def script(raw):
        await raw.request()
        raw.write(b"HTTP/1.1 200 OK\r\n\r\nwhole")

    async def main():
        tls = server_tls(certificates)
        async with peer(script, ssl=tls) as port, calling(ca_file=str(certificates / "ca.pem")) as client:
            assert await (await client.send(call(port, scheme="https", host="localhost"))).read() == b"whole"

    run(main)


# --- proxies ---------------------------------------------------------------------------------------------------


async def splice(raw, port):
    """Carry bytes both ways until one side ends."""
    upstream = Raw(*await asyncio.open_connection("127.0.0.1", port))

    async def carry(source, target):
        with contextlib.suppress(ConnectionError):
            while data := await source.reader.read(65536):
                target.write(data)
        target.writer.close()

    try:
        await asyncio.gather(carry(raw, upstream), carry(upstream, raw))
    finally:
        await upstream.close()


def connect_proxy(seen, target_port, answer=b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n"):
    async def script(raw):
        request = await raw.request()
        seen.append(request)
        raw.write(answer)
        if b" 200 " in answer:
            await splice(raw, target_port)

    return script


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_https_goes_through_an_http_proxy_by_connect(scheme, certificates):
    seen, at_upstream, names = [], [], []
    tls, upstream_tls = server_tls(certificates), server_tls(certificates)
    upstream_tls.sni_callback = lambda sock, name, context: names.append(name)

    async def main():
        async with (
            peer(answering(OK, OK, seen=at_upstream), ssl=upstream_tls) as port,
            peer(connect_proxy(seen, port), **({"ssl": tls} if scheme == "https" else {})) as proxy_port,
        ):
            url = f"{scheme}://us%40er:p%3Ass@localhost:{proxy_port}"
            async with calling(upstream_proxy=url, ca_file=str(certificates / "ca.pem")) as client:
                for _ in range(2):  # the tunnel is kept
                    answer = await client.send(call(443, "/x", scheme="https", host="gemini.test", body=b"y"))
                    assert await answer.read() == b"ok"
        (request,) = seen
        assert request.chunks == [b"CONNECT gemini.test:443 HTTP/1.1"]
        assert request.headers == {"host": "gemini.test:443", "proxy-authorization": "Basic dXNAZXI6cDpzcw=="}
        assert names == ["gemini.test"]
        assert [r.headers["host"] for r in at_upstream] == ["gemini.test"] * 2
        assert all("proxy-authorization" not in r.headers for r in at_upstream)

    run(main)


def test_plain_http_asks_the_proxy_by_absolute_url():
    seen = []

    async def main():
        async with peer(answering(OK, seen=seen)) as proxy_port:
            settings = {"upstream_proxy": f"http://u:p@127.0.0.1:{proxy_port}", "allow_plain_http": True}
            async with calling(**settings) as client:
                assert await (await client.send(call(8080, "/x?y", host="gemini.test"))).read() == b"ok"
        (request,) = seen
        assert request.chunks == [b"POST http://gemini.test:8080/x?y HTTP/1.1"]
        assert request.headers["host"] == "gemini.test:8080"
        assert request.headers["proxy-authorization"] == "Basic dTpw"

    run(main)


@pytest.mark.parametrize(
    ("answer", "words", "retry"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "it answered 407 Proxy Auth", Retry.NEVER),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 3\r\n\r\nabc", "it answered 502 Bad Gateway", None),
        (b"HTTP/1.1 503\r\n\r\n", "it answered 503", None),
        (b"", "it closed the connection", None),
        (b"HTTP/1.1 2", "it closed the connection", None),
        (b"SSH-2.0\r\n\r\n", "its answer is not HTTP", None),
        (b"HTTP/1.1 299 OK\r\n\r\nmore", "it sent bytes that belong to nothing", None),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000, "", None),
    ],
)
def test_a_proxy_that_gives_no_tunnel_is_named_without_its_login(answer, words, retry):
    async def script(raw):
        await raw.request()
        raw.write(answer)

    async def main():
        async with peer(script) as port, calling(upstream_proxy=f"http://user:sk-secret@127.0.0.1:{port}") as client:
            error = await fails(client, 443, scheme="https", host="gemini.test")
            assert error.message.startswith(f"no tunnel through the proxy http://127.0.0.1:{port}: {words}")
            assert "secret" not in error.message
            assert (error.code, error.retry) == ("upstream_proxy", retry or Retry.NEXT_ACCOUNT)

    run(main)


def test_the_connection_to_a_proxy_that_refuses_is_closed_at_once():
    gone = asyncio.Event()

    async def script(raw):
        await raw.request()
        raw.write(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
        assert await raw.is_closed()
        gone.set()

    async def main():
        async with peer(script) as port, calling(upstream_proxy=f"http://127.0.0.1:{port}") as client:
            await fails(client, 443, scheme="https", host="gemini.test")
            await gone.wait()

    run(main)


@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_a_proxy_that_is_silent_is_a_504(scheme):
    async def main():
        async with peer(silent) as port:
            settings = {"upstream_proxy": f"{scheme}://127.0.0.1:{port}", "connect_timeout_seconds": 0.05}
            async with calling(**settings) as client:
                error = await fails(client, 443, scheme="https", host="gemini.test")
                assert (error.status, error.code) == (504, "upstream_timeout")

    run(main, skips_time=True)


def test_nobody_listening_at_the_proxy_is_a_clear_error():
    async def main():
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
            async with calling(upstream_proxy=f"http://u:sk-secret@127.0.0.1:{port}") as client:
                error = await fails(client, 443, scheme="https", host="gemini.test")
                place = f"gemini.test through http://127.0.0.1:{port}"
                assert error.message == f"{place}: cannot connect: Connection refused"

    run(main)


def socks_proxy(seen, target_port, *, login=None, reply=0, kind=1):
    async def script(raw):
        version, count = await raw.reader.readexactly(2)
        methods = await raw.reader.readexactly(count)
        method = 2 if login else 0
        assert version == 5
        if method not in methods:
            raw.write(b"\x05\xff")
            return
        raw.write(bytes((5, method)))
        if login:
            _, size = await raw.reader.readexactly(2)
            user = await raw.reader.readexactly(size)
            (size,) = await raw.reader.readexactly(1)
            is_right = (user, await raw.reader.readexactly(size)) == login
            raw.write(bytes((1, 0 if is_right else 1)))
            if not is_right:
                return
        assert await raw.reader.readexactly(3) == b"\x05\x01\x00"
        (address_kind,) = await raw.reader.readexactly(1)
        size = {1: 4, 4: 16}.get(address_kind) or (await raw.reader.readexactly(1))[0]
        seen.append((address_kind, await raw.reader.readexactly(size), await raw.reader.readexactly(2)))
        bound = {1: bytes(4), 3: b"\x04name", 4: bytes(16)}[kind]
        raw.write(bytes((5, reply, 0, kind)) + bound + b"\0\0")
        if reply == 0:
            await splice(raw, target_port)

    return script


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
@pytest.mark.parametrize(("login", "url_login"), [(None, ""), (None, "u:p@"), ((b"us@er", b"p:ss"), "us%40er:p%3Ass@")])
@pytest.mark.parametrize("kind", [1, 3, 4])
def test_https_goes_through_a_socks5_proxy_which_resolves_the_name(scheme, login, url_login, kind, certificates):
    seen = []

    async def main():
        async with (
            peer(answering(OK), ssl=server_tls(certificates)) as port,
            peer(socks_proxy(seen, port, login=login, kind=kind)) as proxy_port,
        ):
            url = f"{scheme}://{url_login}127.0.0.1:{proxy_port}"
            async with calling(upstream_proxy=url, ca_file=str(certificates / "ca.pem")) as client:
                assert await (await client.send(call(443, scheme="https", host="gemini.test"))).read() == b"ok"
        assert seen == [(3, b"gemini.test", b"\x01\xbb")]

    run(main)


@pytest.mark.parametrize(
    ("host", "kind", "packed"),
    [("192.0.2.1", 1, bytes((192, 0, 2, 1))), ("[2001:db8::1]", 4, b"\x20\x01\x0d\xb8" + bytes(11) + b"\x01")],
)
def test_addresses_go_to_a_socks5_proxy_as_addresses(host, kind, packed):
    seen = []

    async def main():
        async with peer(answering(OK)) as port, peer(socks_proxy(seen, port)) as proxy_port:
            settings = {"upstream_proxy": f"socks5://127.0.0.1:{proxy_port}", "allow_plain_http": True}
            async with calling(**settings) as client:
                assert await (await client.send(call(80, host=host))).read() == b"ok"
        assert seen == [(kind, packed, b"\0\x50")]

    run(main)


@pytest.mark.parametrize(
    ("url_login", "options", "words", "retry"),
    [
        ("", {"login": (b"u", b"p")}, "it wants a login that is not configured", Retry.NEXT_ACCOUNT),
        ("u:sk-secret@", {"login": (b"u", b"p")}, "it refuses the user or the password", Retry.NEVER),
        ("", {"reply": 5}, "connection refused", Retry.NEXT_ACCOUNT),
        ("", {"reply": 99}, "reply 99", Retry.NEXT_ACCOUNT),
    ],
)
def test_a_socks5_proxy_that_refuses_is_a_clear_error(url_login, options, words, retry):
    async def main():
        proxy = peer(socks_proxy([], 0, **options))
        async with proxy as port, calling(upstream_proxy=f"socks5://{url_login}127.0.0.1:{port}") as client:
            error = await fails(client, 443, scheme="https", host="gemini.test")
            assert error.message == f"no tunnel through the proxy socks5://127.0.0.1:{port}: {words}"
            assert (error.code, error.retry) == ("upstream_proxy", retry)

    run(main)


def test_what_does_not_speak_socks5_is_named():
    async def script(raw):
        await raw.reader.read(1)
        raw.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async def main():
        async with peer(script) as port, calling(upstream_proxy=f"socks5://127.0.0.1:{port}") as client:
            error = await fails(client, 443, scheme="https", host="gemini.test")
            assert error.message.endswith("it does not speak SOCKS5")

    run(main)


@pytest.mark.parametrize("way", ["http", "name", "https", "http proxy", "https proxy", "socks5 proxy"])
def test_cancelled_calls_of_every_age_leave_nothing_behind(way, certificates, monkeypatch):
    """Cancels at each turn of the loop that a call takes; afterwards all places must be free."""
    tls = server_tls(certificates)
    direct = way in ("http", "name")

    async def two_addresses(self, host, port):
        await asyncio.sleep(0)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in ("127.0.0.1", "127.0.0.1")]

    async def main():
        monkeypatch.setattr(Names, "look_up", two_addresses)
        async with contextlib.AsyncExitStack() as stack:
            port = await stack.enter_async_context(peer(answering(OK, OK, OK), **({} if direct else {"ssl": tls})))
            settings = {"max_upstream_connections": 1, "ca_file": str(certificates / "ca.pem")}
            host = {"http": "127.0.0.1", "name": "localhost", "https": "localhost"}.get(way, "gemini.test")
            if way.endswith("proxy"):
                script = socks_proxy([], port) if way.startswith("socks5") else connect_proxy([], port)
                proxy = peer(script, **({"ssl": tls} if way.startswith("https") else {}))
                proxy_port = await stack.enter_async_context(proxy)
                settings["upstream_proxy"] = f"{way.split()[0]}://localhost:{proxy_port}"
            client = await stack.enter_async_context(calling(**settings))
            wanted = call(port, host=host, scheme="http" if direct else "https")
            for turns in range(60):
                tasks = [asyncio.create_task(client.send(wanted)) for _ in range(3)]
                for _ in range(turns):
                    await asyncio.sleep(0)
                for task in tasks:
                    task.cancel()
                for result in await asyncio.gather(*tasks, return_exceptions=True):
                    if not isinstance(result, BaseException):
                        result.close()
            assert await (await client.send(wanted)).read() == b"ok"
            assert [pool._open for pool in client._pools.values()] == [1]

    run(main)


ENVIRONMENTS = [
    ({}, "https", None),
    ({"HTTPS_PROXY": "http://a:1"}, "https", "http://a:1"),
    ({"https_proxy": "http://a:1", "HTTPS_PROXY": "http://b:2"}, "https", "http://a:1"),
    ({"HTTPS_PROXY": "http://a:1"}, "http", None),
    ({"HTTP_PROXY": "a:1"}, "http", "http://a:1"),
    ({"ALL_PROXY": "socks5h://a"}, "https", "socks5://a:1080"),
    ({"ALL_PROXY": "socks5://a", "https_proxy": "https://b"}, "https", "https://b:443"),
]


@pytest.mark.parametrize(("environ", "scheme", "place"), ENVIRONMENTS)
def test_the_environment_chooses_the_proxy(environ, scheme, place):
    proxy = ProxyRules("", environ).choose(scheme, "gemini.test", 443)
    assert (proxy and proxy.place) == place


def test_the_setting_comes_before_the_environment():
    rules = ProxyRules("http://a:1", {"HTTPS_PROXY": "http://b:2"})
    assert rules.choose("https", "gemini.test", 443) == parse_proxy("http://a:1", "")


@pytest.mark.parametrize(
    ("no_proxy", "host", "is_direct"),
    [
        ("gemini.test", "gemini.test", True),
        ("GEMINI.test", "gemini.test", True),
        ("gemini.test", "api.gemini.test", True),
        (".gemini.test", "api.gemini.test", True),
        (".gemini.test", "gemini.test", True),
        ("*.gemini.test", "api.gemini.test", True),
        ("gemini.test", "notgemini.test", False),
        ("gemini.test", "gemini.test.example", False),
        ("other.test, gemini.test", "gemini.test", True),
        ("other.test gemini.test", "gemini.test", True),
        ("*", "gemini.test", True),
        ("gemini.test:443", "gemini.test", True),
        ("gemini.test:80", "gemini.test", False),
        ("192.0.2.0/24", "192.0.2.7", True),
        ("192.0.2.0/24", "192.0.3.7", False),
        ("192.0.2.7", "192.0.2.7", True),
        ("192.0.2.7:443", "192.0.2.7", True),
        ("2001:db8::1", "2001:db8::1", True),
        ("[2001:db8::1]:443", "2001:db8::1", True),
        ("[2001:db8::1]:80", "2001:db8::1", False),
        ("", "gemini.test", False),
        (",.,", "gemini.test", False),
        ("", "localhost", True),
        ("", "127.0.0.2", True),
        ("", "::1", True),
    ],
)
def test_no_proxy_names_what_is_reached_directly(no_proxy, host, is_direct):
    rules = ProxyRules("http://a:1", {"NO_PROXY": no_proxy})
    assert (rules.choose("https", host, 443) is None) == is_direct


@pytest.mark.parametrize("url", ["ftp://a", "socks4://a", "http://", "http://a:b", "http://[::1"])
def test_a_proxy_that_cannot_be_used_is_a_settings_error_without_its_login(url):
    with pytest.raises(ConfigError, match="HTTPS_PROXY") as caught:
        ProxyRules("", {"HTTPS_PROXY": url.replace("://", "://u:sk-secret@")})
    assert "secret" not in str(caught.value)


def test_a_proxys_login_is_not_in_its_repr():
    assert "secret" not in repr(parse_proxy("http://user:sk-secret@a:1", ""))


def test_making_a_client_reads_no_certificates(monkeypatch):
    """It would cost start-up about as much as all the rest."""
    monkeypatch.setattr(dial.certifi, "contents", lambda: pytest.fail("read at start"))
    Client(Config(), None)
