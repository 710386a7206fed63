"""Clients that go at every point of a request, through the whole gateway: upstream's connection goes with them.

What a client that has left costs is what upstream still does for it, so the time until upstream sees it is measured,
as events at the fake upstream, not by looking now and then.
"""

import asyncio
import contextlib
import socket
import struct
import time

import pytest
from faulty import BAD_KEY, FIRST, GOOD_KEY, SSE_HEAD, UNARY, body_of, piece, request, surviving
from wire import peer, run, until

from agproxy.account import Account, Endpoint

# What passes between a client's end and upstream's: two sockets and some turns of the loop, 1 ms on an idle machine.
MOST_SECONDS = 0.1
VARIANTS = [(p, is_stream) for p in ("chat", "completions", "responses") for is_stream in (False, True)]


GOOD = Account(id="good", key=GOOD_KEY, models=("gemini-well*",))


def reset(raw):
    sock = raw.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raw.writer.transport.abort()


LEAVE = {"close": lambda raw: raw.writer.close(), "reset": reset, "half-close": lambda raw: raw.writer.write_eof()}


class Watched:
    """An upstream that says some bytes and then waits for its end, whose moment is kept."""

    def __init__(self, *says):
        self.says = dict(says)
        self.asked = []
        self.has_ended = asyncio.Event()
        self.ended = 0.0

    async def script(self, line):
        self.asked.append(line)
        line.write(self.says.get(line.is_stream, b""))
        await line.closed()
        self.ended = time.monotonic()
        self.has_ended.set()

    async def on_connection(self, raw):
        """The same, for what is no request yet."""
        self.asked.append(raw)
        while await raw.reader.read(4096):
            pass
        self.ended = time.monotonic()
        self.has_ended.set()


HALVES = ((True, SSE_HEAD + piece(FIRST)), (False, SSE_HEAD + piece(UNARY[:50])))


@pytest.mark.parametrize("leave", LEAVE)
@pytest.mark.parametrize("moment", ["before the first byte", "within the answer"])
@pytest.mark.parametrize(("protocol", "is_stream"), VARIANTS)
def test_upstream_is_left_at_once_when_the_client_leaves(protocol, is_stream, moment, leave, caplog):
    async def main():
        upstream = Watched(*(HALVES if moment == "within the answer" else ()))
        async with surviving(upstream.script) as scene:
            raw = await scene.connect()
            raw.write(request(*body_of(protocol, "gemini-lone-1", is_stream)))
            await until(lambda: upstream.asked)
            if moment == "within the answer":
                client = scene.running.reach.lines._usual
                await until(lambda: any(one._answer and one._answer.status for one in client._connections))
                if is_stream:
                    await raw.reader.readuntil(b"\r\n\r\n")
            left = time.monotonic()
            LEAVE[leave](raw)
            await upstream.has_ended.wait()
            assert upstream.ended - left < MOST_SECONDS
            assert len(upstream.asked) == 1  # nobody asks again for who has gone

    run(main)
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "WARNING")]


@pytest.mark.parametrize("leave", LEAVE)
def test_a_handshake_with_upstream_is_given_up_when_the_client_leaves(leave):
    async def main():
        upstream = Watched()
        async with contextlib.AsyncExitStack() as stack:
            port = await stack.enter_async_context(peer(upstream.on_connection))
            far = Endpoint(base_url=f"https://localhost:{port}")
            bad = Account(id="bad", key=BAD_KEY, models=("gemini-lone-*",), endpoint=far)
            # The first one is asked for its list of models, too.
            scene = await stack.enter_async_context(surviving(upstream.script, accounts=(GOOD, bad)))
            raw = await scene.connect()
            raw.write(request(*body_of("chat", "gemini-lone-1", True)))
            await until(lambda: upstream.asked)
            left = time.monotonic()
            LEAVE[leave](raw)
            await upstream.has_ended.wait()
            assert upstream.ended - left < MOST_SECONDS

    run(main)


@pytest.mark.parametrize("leave", LEAVE)
@pytest.mark.parametrize("limit", ["in flight", "a minute"])
def test_who_leaves_while_it_waits_for_an_account_leaves_its_place_in_line(leave, limit):
    """The next in line is served, and for the one that has left upstream is never asked."""
    limits = {"most_in_flight": 1} if limit == "in flight" else {"requests_per_minute": 1}
    busy = Account(id="bad", key=BAD_KEY, models=("gemini-lone-*",), **limits)

    async def main():
        upstream = Watched(*HALVES)
        async with surviving(upstream.script, accounts=(busy, GOOD), max_wait_seconds=60.0) as scene:
            attempts = scene.running.gateway._upstream.attempts
            first, second, third = [await scene.connect() for _ in range(3)]
            for number, raw in enumerate((first, second, third)):
                raw.write(request(*body_of("chat", "gemini-lone-1", True)))
                await until(lambda number=number: attempts._waiting == number if number else upstream.asked)
            LEAVE[leave](second)
            await until(lambda: attempts._waiting == 1)
            assert len(upstream.asked) == 1
            LEAVE[leave](first)
            if limit == "in flight":
                await until(lambda: len(upstream.asked) == 2)
                await third.reader.readuntil("Grüße".encode())
            LEAVE[leave](third)
            await until(lambda: attempts._waiting == 0)
            assert not attempts._lines

    run(main)


@pytest.mark.parametrize("leave", LEAVE)
@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.99])
def test_who_leaves_within_its_request_is_forgotten(leave, share, caplog):
    async def main():
        upstream = Watched()
        async with surviving(upstream.script) as scene:
            raw = await scene.connect()
            whole = request(*body_of("chat", "gemini-lone-1", True))
            raw.write(whole[: max(1, int(len(whole) * share))])
            await until(
                lambda: any(one._peer and one._phase.name != "IDLE" for one in scene.running.server._connections)
            )
            LEAVE[leave](raw)
            await scene.nothing_is_left()
            assert not upstream.asked

    run(main)
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "WARNING")]


def test_many_that_leave_at_once_leave_nothing(caplog):
    """200 clients at every point of their requests, and the neighbour's stream between them."""

    async def main():
        upstream = Watched(*HALVES)
        async with surviving(upstream.script) as scene:
            for round_ in range(4):
                for number in range(50):
                    protocol, is_stream = VARIANTS[number % len(VARIANTS)]
                    raw = await scene.connect()
                    whole = request(*body_of(protocol, f"gemini-lone-{round_}", is_stream))
                    raw.write(whole[: len(whole) * (number % 7 + 1) // 4])
                for number, raw in enumerate(scene.raws[-50:]):
                    tuple(LEAVE.values())[number % 3](raw)
            await scene.nothing_is_left()
            assert upstream.asked

    run(main)
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "WARNING")]
