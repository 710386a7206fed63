"""More requests to the model than are served at once: who waits, who is turned away, and what never counts."""

import asyncio
import json

import pytest
from fakes import FakeReply, Scripted, make_gateway
from wire import run, until

from agproxy.config import Config
from agproxy.http11 import HttpRequest
from agproxy.io.state import State

ANSWER = {"candidates": [{"content": {"role": "model", "parts": [{"text": "hi"}]}, "finishReason": "STOP"}]}
CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"


class Upstream:
    """Holds every call until `go` is set. `texts`: what was asked, in order."""

    def __init__(self):
        self.texts = []
        self.go = asyncio.Event()

    async def send(self, call):
        if call.method == "GET":
            return Scripted.of({"models": []})
        self.texts.append(json.loads(call.body)["contents"][-1]["parts"][-1]["text"])
        await self.go.wait()
        if "streamGenerate" in call.url:
            return Scripted(pieces=[b"data: " + json.dumps(ANSWER).encode() + b"\r\n\r\n"])
        return Scripted.of({"totalTokens": 3} if "countTokens" in call.url else ANSWER)


class Front:
    """A gateway on a held upstream, and its clients."""

    def __init__(self, **settings):
        self.upstream = Upstream()
        store = State(None, max_age_seconds=1e9, max_bytes=1 << 30)
        config = Config(keepalive_seconds=0.0, **settings)
        self.store = store
        self.gateway = make_gateway(self.upstream, config=config, store=store)

    @property
    def places(self):
        return self.gateway._places

    async def ask(self, path=CHAT, text="", method="POST", **more):
        about = {"input": text} if path.startswith(RESPONSES) else {"messages": [{"role": "user", "content": text}]}
        body = json.dumps({"model": "gemini-2.5-flash", **about, **more}).encode() if method == "POST" else b""
        headers = (("host", "localhost"),)
        reply = FakeReply()
        await self.gateway.handle(
            HttpRequest(method=method, path=path, query="", headers=headers, body=body, peer="127.0.0.1", id="req_1"),
            reply,
        )
        return reply

    def asking(self, *texts, **more):
        """A client each, in tasks, which have come as far as they can."""
        return [asyncio.create_task(self.ask(text=text, **more)) for text in texts]

    async def stop(self):
        self.upstream.go.set()
        await self.gateway.close()
        await self.store.close()


def overloaded(test, *, skips_time=False, **settings):
    """Run a test against a gateway; none of its places may be left taken."""

    async def main():
        front = Front(**settings)
        await test(front)
        await front.stop()
        assert (front.places.taken, front.places.waiting) == (0, 0)

    run(main, skips_time=skips_time)


def test_who_finds_no_place_waits_and_is_served_in_order():
    async def test(front):
        clients = front.asking("1", "2", "3", "4", "5")
        await until(lambda: len(front.upstream.texts) == 2 and front.places.waiting == 3)
        late = front.asking("6")
        front.upstream.go.set()
        assert [(await client).status for client in clients + late] == [200] * 6
        assert front.upstream.texts == ["1", "2", "3", "4", "5", "6"]

    overloaded(test, max_in_flight=2)


@pytest.mark.parametrize(
    ("path", "more"),
    [
        (CHAT, {}),
        (CHAT, {"stream": True}),
        (RESPONSES, {}),
        (RESPONSES, {"background": True}),
        (RESPONSES + "/compact", {}),
        (RESPONSES + "/input_tokens", {}),
    ],
)
def test_one_too_many_is_503_with_a_time_to_come_again(path, more):
    async def test(front):
        clients = front.asking("1", "2")
        await until(lambda: front.places.waiting == 1)
        reply = await front.ask(path, "3", **more)
        assert (reply.status, reply.headers["retry-after"], reply.json["error"]["code"]) == (503, "1", "overloaded")
        assert reply.headers["x-request-id"] == "req_1"
        assert front.upstream.texts == ["1"]
        front.upstream.go.set()
        assert [(await client).status for client in clients] == [200, 200]

    overloaded(test, max_in_flight=1, max_queued=1)


def test_waiting_has_an_end():
    async def test(front):
        (client,) = front.asking("1")
        await until(lambda: front.upstream.texts)
        loop = asyncio.get_running_loop()
        began = loop.time()
        reply = await front.ask(text="2")
        assert (reply.status, loop.time() - began) == (503, pytest.approx(7, abs=0.1))
        assert "within 7 s" in reply.json["error"]["message"]
        front.upstream.go.set()
        assert (await client).status == 200
        assert (await front.ask(text="3")).status == 200

    overloaded(test, skips_time=True, max_in_flight=1, max_wait_seconds=7.0)


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_client_that_leaves_the_line_holds_nobody_up(turns):
    """Also where it leaves in the very turn of the loop in which it is given its place."""

    async def test(front):
        first, second, third = front.asking("1", "2", "3")
        await until(lambda: front.places.waiting == 2)
        front.upstream.go.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        second.cancel()
        await asyncio.wait({second})
        assert [(await client).status for client in (first, third)] == [200, 200]

    overloaded(test, max_in_flight=1)


def test_a_client_that_leaves_its_answer_gives_its_place_to_the_next():
    async def test(front):
        first, second = front.asking("1", "2")
        await until(lambda: front.places.waiting == 1)
        first.cancel()
        await until(lambda: front.upstream.texts == ["1", "2"])
        front.upstream.go.set()
        assert (await second).status == 200

    overloaded(test, max_in_flight=1)


def test_health_lists_and_what_is_kept_do_not_count():
    async def test(front):
        front.upstream.go.set()
        kept = (await front.ask(RESPONSES, "0")).json["id"]
        front.upstream.go.clear()
        (client,) = front.asking("1")
        await until(lambda: front.upstream.texts == ["0", "1"])
        for path in ("/healthz", "/readyz", "/v1/models", f"/v1/responses/{kept}", "/v1/agproxy/why/req_1"):
            assert (await front.ask(path, method="GET")).status == 200
        assert (await front.ask(text="2")).status == 503
        front.upstream.go.set()
        assert (await client).status == 200

    overloaded(test, max_in_flight=1, max_queued=0)


@pytest.mark.parametrize("stream", [False, True])
def test_a_background_run_has_one_place_until_its_end(stream):
    async def test(front):
        client = asyncio.create_task(front.ask(RESPONSES, "1", background=True, stream=stream))
        await until(lambda: front.upstream.texts)
        await until(lambda: front.places.taken == 1)
        assert client.done() is not stream
        assert (await front.ask(text="2")).status == 503
        front.upstream.go.set()
        assert (await client).status == 200
        await until(lambda: front.places.taken == 0)

    overloaded(test, max_in_flight=1, max_queued=0)


def test_a_request_that_fails_leaves_its_place():
    async def test(front):
        front.upstream.go.set()
        for _ in range(3):
            assert (await front.ask(text="1", temperature="hot")).status == 400

    overloaded(test, max_in_flight=1, max_queued=0)


@pytest.mark.parametrize("most", [0, 3])
def test_a_limit_that_is_raised_lets_in_who_waits(most):
    async def test(front):
        clients = front.asking("1", "2", "3")
        await until(lambda: front.places.waiting == 2)
        front.gateway.config = Config(keepalive_seconds=0.0, max_in_flight=most)
        await until(lambda: front.upstream.texts == ["1", "2", "3"])
        front.upstream.go.set()
        assert [(await client).status for client in clients] == [200] * 3

    overloaded(test, max_in_flight=1)


def test_without_a_limit_nobody_waits():
    async def test(front):
        clients = front.asking(*map(str, range(3000)))
        await until(lambda: len(front.upstream.texts) == 3000)
        front.upstream.go.set()
        assert {(await client).status for client in clients} == {200}

    overloaded(test, max_in_flight=0)
