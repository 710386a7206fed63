"""Clients that read or write slowly, or not at all, through the whole gateway: upstream waits, memory is bounded."""

import asyncio
import json

import pytest
from faulty import SSE_HEAD, body_of, chunk, event, frames_of, piece, request, surviving, text_of
from wire import run, until

PARTS, PART = 300, "x" * 32768
CASES = [
    ("chat", {}),
    ("chat", {"n": 3}),
    ("completions", {}),
    ("completions", {"prompt": ["a", "b"]}),
    ("responses", {}),
]


def unsent(scene):
    return max(one.transport.get_write_buffer_size() for one in scene.running.server._connections)


@pytest.mark.parametrize(("protocol", "more"), CASES, ids=[f"{protocol} {more}" for protocol, more in CASES])
def test_a_slow_reader_holds_back_all_of_its_upstreams_and_gets_all(protocol, more):
    """10 MB an upstream call, of which the gateway holds no more than its buffers."""
    asked = []

    async def floods(line):
        asked.append(line)
        line.write(SSE_HEAD)
        for _ in range(PARTS):
            line.write(piece(event(chunk(PART))))
            await line.raw.writer.drain()
        line.write(piece(event(chunk("", "STOP"))) + b"0\r\n\r\n")
        await line.closed()

    calls = max(more.get("n", 1), len(more.get("prompt", "a")))

    async def main():
        async with surviving(floods) as scene:
            raw = await scene.connect(65536)
            raw.writer.transport.pause_reading()
            path, body = body_of(protocol, "gemini-lone-1", True)
            raw.write(request(path, body | more))

            def paused():
                client = scene.running.reach.lines._usual
                theirs = [one for one in client._connections if one._answer and one._answer.has_head]
                return sum(not one._transport.is_reading() for one in theirs) == calls

            await until(paused)
            assert unsent(scene) < 65536 + calls * 2 * 65536
            assert len(asked) == calls
            raw.writer.transport.resume_reading()
            answer = await raw.answer()
            assert answer.is_whole
            if calls == 1:
                assert text_of(protocol, answer, True) == PART * PARTS
            else:
                texts = [0] * calls
                for frame in frames_of(answer)[:-1]:
                    for choice in frame["choices"]:
                        text = choice["delta"].get("content") if "delta" in choice else choice["text"]
                        texts[choice["index"]] += len(text or "")
                assert texts == [len(PART) * PARTS] * calls

    run(main)


async def floods_for_ever(line):
    line.write(SSE_HEAD)
    await line.fill(piece(event(chunk(PART))))


@pytest.mark.parametrize("protocol", ["chat", "responses"])
def test_a_reader_that_has_stopped_for_good_is_cut_whatever_keep_alives_say(protocol):
    """What the gateway itself adds to the unsent bytes is no sign of life of the client."""

    async def main():
        async with surviving(floods_for_ever, write_timeout_seconds=0.4, keepalive_seconds=0.05) as scene:
            raw = await scene.connect(65536)
            raw.writer.transport.pause_reading()
            raw.write(request(*body_of(protocol, "gemini-lone-1", True)))
            await until(lambda: any(one.is_write_paused for one in scene.running.server._connections))
            (stuck,) = [one for one in scene.running.server._connections if one.is_write_paused]
            await until(lambda: stuck not in scene.running.server._connections)

    run(main)


async def drip(raw, begin, more):
    """A request that goes on for ever, a byte in each turn of the loop, until the gateway has answered."""
    raw.write(begin)
    answering = asyncio.create_task(raw.answer())
    while not answering.done():
        raw.write(more)
        await asyncio.sleep(0)
    return await answering


@pytest.mark.parametrize("is_dripping", [False, True], ids=["silent", "dripping"])
def test_heads_and_bodies_that_never_end_are_told_so_and_hold_nobody_up(is_dripping):
    async def unasked(line):
        raise AssertionError("upstream was asked")

    head = b"POST /v1/responses HTTP/1.1\r\nHost: localhost\r\n"
    body = head + b"Content-Length: 100000000\r\n\r\n{"
    # A body may take its time as long as something comes, so those that drip are ended by its size.
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n"

    async def main():
        limits = {"header_timeout_seconds": 0.3, "body_timeout_seconds": 0.3, "max_body_bytes": 2000}
        async with surviving(unasked, **limits) as scene:
            raws = [await scene.connect() for _ in range(40)]
            if is_dripping:
                kinds = [(head + b"X: ", b"y"), (chunked, b"1\r\n \r\n")]
            else:
                kinds = [(head, b""), (chunked + b"5\r\n", b"")]
            answers = await asyncio.gather(*(drip(raw, *kinds[n % 2]) for n, raw in enumerate(raws)))
            assert [answer.status for answer in answers[::2]] == [408] * 20
            assert [answer.status for answer in answers[1::2]] == [413 if is_dripping else 408] * 20
            for answer in answers:
                assert json.loads(answer.body)["error"]["type"] == "invalid_request_error"
            raw = await scene.connect()
            raw.write(body)
            assert (await raw.answer()).status == 413
            assert scene.neighbour.chunks > 0

    run(main)
