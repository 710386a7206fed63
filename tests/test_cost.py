"""What one more chunk, one more message and one more kilobyte may cost. Counted where it can be; else CPU, best of
several, against CPU of the same process in the same test: wide bounds that no busy machine reaches, and that a hop for
each chunk or a second look at everything before breaks at once. The figures themselves are `make bench`'s."""

import asyncio
import gc
import json
import re
import socket
import time

import pytest
from fakes import FakeUpstream, Scripted, ask, make_gateway
from gated_gemini import GatedGemini, chunk, event

from agproxy import embed
from agproxy.config import Config
from agproxy.pool import Account

CHAT = "/v1/chat/completions"


def body(*texts, **more):
    messages = [{"role": ("user", "assistant")[number % 2], "content": text} for number, text in enumerate(texts)]
    return {"model": "gemini-2.5-flash", "messages": messages, **more}


def cpu_seconds(work, times):
    """The least that it took; without the garbage collector, which goes through all that other tests have left too."""
    found = []
    gc.disable()
    try:
        for _ in range(times):
            began = time.process_time()
            work()
            found.append(time.process_time() - began)
    finally:
        gc.enable()
    return min(found)


# --- streams ---------------------------------------------------------------------------------------------------


def stream_through(pieces):
    reply = ask(make_gateway(FakeUpstream([Scripted(pieces=pieces)])), CHAT, body("hello", stream=True))
    assert reply.body.endswith(b"data: [DONE]\n\n")
    return reply


@pytest.mark.parametrize("each", [1, 10])
def test_each_read_of_upstream_leaves_in_one_write(each):
    pieces = [event() * each for _ in range(50)] + [event("STOP")]

    assert len(stream_through(pieces).writes) == len(pieces) + 1  # and the end, which upstream says without bytes


def test_a_chunk_costs_the_same_however_long_the_answer_is():
    def seconds_each(count):
        pieces = [event()] * (count - 1) + [event("STOP")]
        return cpu_seconds(lambda: stream_through(pieces), 5) / count

    assert seconds_each(4000) < 1.5 * seconds_each(400)


def listening(upstream):
    config = Config(host="127.0.0.1", port=0, upstream_url=upstream.url, state=False)
    return embed.listening(config, (Account(id="a", key="k"),))


def post(data):
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data


def read_stream(port, upstream):
    """A client that asks upstream for the next chunk when it has read one; the reads that it took."""
    reads = []
    with socket.create_connection(("127.0.0.1", port), 20) as sock:
        sock.sendall(post(json.dumps(body("hello", stream=True)).encode()))
        upstream.goes_on.put(True)
        while not (reads and reads[-1].endswith(b"0\r\n\r\n")):
            reads.append(sock.recv(65536))
            assert reads[-1]
            if b'"delta":{"content":"some' in reads[-1]:
                upstream.goes_on.put(True)
    return reads


def count_hops(count):
    """Of a stream of so many chunks: tasks, callbacks and timers in the loop, and HTTP chunks that the client got."""
    made = {"tasks": 0, "call_soon": 0, "call_at": 0}

    async def main(upstream):
        loop = asyncio.get_running_loop()

        def make_task(loop, coroutine, **more):
            made["tasks"] += 1
            return asyncio.Task(coroutine, loop=loop, **more)

        def counted(name):
            method = getattr(loop, name)

            def call(*args, **more):
                made[name] += 1
                return method(*args, **more)

            return call

        async with listening(upstream) as running:
            loop.set_task_factory(make_task)
            loop.call_soon, loop.call_at = counted("call_soon"), counted("call_at")
            return await asyncio.to_thread(read_stream, running.bound[0][1], upstream)

    with GatedGemini(count) as upstream:
        raw = b"".join(asyncio.run(main(upstream)))
    return made | {"chunks": len(re.findall(rb"\r\n[0-9a-f]+\r\ndata: ", raw))}


def test_a_chunk_makes_no_task_no_callback_and_no_timer():
    few, many = count_hops(50), count_hops(250)

    assert many["chunks"] - few["chunks"] == 200
    for name in ("tasks", "call_soon", "call_at"):
        assert many[name] - few[name] < 20, name  # model lists and other housekeeping come and go


# --- requests --------------------------------------------------------------------------------------------------


def unary_through(data):
    gateway = make_gateway(FakeUpstream([Scripted.of(chunk(finish="STOP"))]))
    assert ask(gateway, CHAT, data).status == 200


@pytest.mark.parametrize("shape", ["many messages", "one text"])
def test_the_cost_of_a_request_grows_as_its_size_does(shape):
    words = 'def f(x):\n\treturn ["a", x + 1]\n' * 30

    def seconds(count):
        data = json.dumps(body(*[words] * count) if shape == "many messages" else body(words * count)).encode()
        return cpu_seconds(lambda: unary_through(data), 3)

    assert seconds(2000) < 1.6 * 8 * seconds(250)  # 2 MB beside 0.25 MB


def test_many_small_messages_cost_what_they_are():
    def seconds(count):
        data = json.dumps(body(*["hello"] * count)).encode()
        return cpu_seconds(lambda: unary_through(data), 3)

    assert seconds(32000) < 1.6 * 8 * seconds(4000)  # both so large that they are read in slices


def test_a_large_request_does_not_hold_the_loop():
    """Counted is the CPU that the loop's own thread uses between two of its turns: 5 MB read, translated and written at
    once would be some 60 ms."""
    data = json.dumps(body(*['some words and a quote " or two\n' * 150] * 1000)).encode()
    turns = []

    def ask_largely(port):
        with socket.create_connection(("127.0.0.1", port), 20) as sock:
            sock.sendall(post(data))
            return sock.recv(65536)

    async def main(upstream):
        async with listening(upstream) as running:
            for _ in range(3):
                asking = asyncio.ensure_future(asyncio.to_thread(ask_largely, running.bound[0][1]))
                while not asking.done():
                    began = time.thread_time()
                    await asyncio.sleep(0)
                    turns.append(time.thread_time() - began)
                assert (await asking).startswith(b"HTTP/1.1 200")

    with GatedGemini() as upstream:
        asyncio.run(main(upstream))
    assert len(data) > 5_000_000
    assert max(turns) < 0.015
