"""How requests share a pool: modes, lines, waits, fallbacks and what is told, with the gateway's own loop around a
scripted upstream."""

import asyncio
import json
import random
from collections import Counter

import pytest
from fakes import FakeReply, Scripted, ask

from agproxy.config import Config
from agproxy.gateway import Gateway
from agproxy.http11 import HttpRequest
from agproxy.pool import Account, Pool

PROMPT_SECONDS = 5.0  # what would otherwise wait for max_wait_seconds, 9 or 10
CHAT = "/v1/chat/completions"
FLASH, PRO, LITE = "gemini-2.5-flash", "gemini-2.5-pro", "gemini-2.5-flash-lite"
ANSWER = {"candidates": [{"content": {"role": "model", "parts": [{"text": "hi"}]}, "finishReason": "STOP"}]}


def refusal(status, seconds=None, quota=None):
    details = []
    if seconds is not None:
        details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{seconds}s"})
    if quota is not None:
        details.append({"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": quota}]})
    return Scripted.of({"error": {"code": status, "message": "no", "status": "X", "details": details}}, status)


DAY = refusal(429, quota="GenerateRequestsPerDayPerProjectPerModel-FreeTier")


class Upstream:
    """Answers by a function of key and model; `calls` are those that came, `active` those under way by key."""

    def __init__(self, answer=lambda key, model: Scripted.of(ANSWER)):
        self.answer = answer
        self.calls = []
        self.active = Counter()
        self.most_active = Counter()
        self.gate = None

    async def send(self, call):
        key = dict(call.headers)["x-goog-api-key"]
        model = call.url.rpartition("/")[2].partition(":")[0]
        self.calls.append((key, model))
        self.active[key] += 1
        self.most_active[key] = max(self.most_active[key], self.active[key])
        try:
            if self.gate is not None:
                await self.gate.wait()
            return self.answer(key, model)
        finally:
            self.active[key] -= 1


class Clock:
    def __init__(self):
        self.now = 1_800_000_000.0

    def __call__(self):
        return self.now


def gateway(upstream, *accounts, clock=None, **settings):
    return Gateway(
        config=Config(keepalive_seconds=0.0, **settings),
        pool=Pool(Account(id=a, key=a) if isinstance(a, str) else a for a in accounts),
        send=upstream.send,
        base_url="https://upstream.example/v1beta",
        now=clock or Clock(),
        clock=lambda: 0.0,
        new_id=lambda: "0" * 24,
    )


def account(name, **more):
    return Account(id=name, key=name, **more)


async def chat(front, text="hello", model=FLASH, id="req_1", headers=(), **more):
    body = {"model": model, "messages": [{"role": "user", "content": text}], **more}
    request = HttpRequest(
        method="POST",
        path=CHAT,
        query="",
        headers=(("host", "localhost"), *headers),
        body=json.dumps(body).encode(),
        peer="127.0.0.1",
        id=id,
    )
    reply = FakeReply()
    await front.handle(request, reply)
    return reply


def served(front, *texts, **more):
    async def run():
        return [(await chat(front, text, **more)).headers["x-account-id"] for text in texts]

    return asyncio.run(run())


# --- modes -----------------------------------------------------------------------------------------------------


def test_balance_is_the_default_and_takes_turns():
    assert served(gateway(Upstream(), "a", "b", "c"), *"123456") == ["a", "b", "c", "a", "b", "c"]


def test_fill_first_stays_with_the_first_account_that_can_serve():
    front = gateway(Upstream(), "a", "b", scheduling="fill-first")
    assert served(front, *"1234") == ["a"] * 4

    limited = Upstream(lambda key, model: refusal(429, 60) if key == "a" else Scripted.of(ANSWER))
    assert served(gateway(limited, "a", "b", scheduling="fill-first"), *"123") == ["b"] * 3
    assert limited.calls.count(("a", FLASH)) == 1


def test_cache_first_keeps_a_talk_with_its_account_and_spreads_talks():
    front = gateway(Upstream(), "a", "b", scheduling="cache-first")
    one, two = served(front, "one", "two")

    assert {one, two} == {"a", "b"}
    assert served(front, "one", "one", "two", "one") == [one, one, two, one]


@pytest.mark.parametrize(
    "same",
    [
        {"prompt_cache_key": "s"},
        {"user": "s"},
        {"headers": (("session-id", "s"),)},
        {"headers": (("x-claude-code-session-id", "s"),)},
    ],
)
def test_a_session_is_what_the_request_or_the_client_names(same):
    front = gateway(Upstream(), "a", "b", scheduling="cache-first")

    assert len(set(served(front, *"1234", **same))) == 1


def test_cache_first_moves_at_once_where_its_account_is_out_for_longer_than_a_request_may_wait():
    answers = {"a": Scripted.of(ANSWER)}
    upstream = Upstream(lambda key, model: answers.get(key) or Scripted.of(ANSWER))
    front = gateway(upstream, "a", "b", scheduling="cache-first")
    assert served(front, "one") == ["a"]

    answers["a"] = refusal(429, 60)
    assert served(front, "one", "one", "one") == ["b", "b", "b"]
    assert upstream.calls.count(("a", FLASH)) == 2


def test_cache_first_waits_for_its_account_before_it_moves():
    async def main():
        upstream = Upstream()
        front = gateway(upstream, account("a", most_in_flight=1), "b", scheduling="cache-first", max_wait_seconds=9.0)
        assert (await chat(front, "one")).headers["x-account-id"] == "a"
        upstream.gate = asyncio.Event()
        busy = asyncio.create_task(chat(front, "one"))
        second = asyncio.create_task(chat(front, "one"))
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(upstream.calls) == 2, "the second waits though b is idle"
        upstream.gate.set()
        async with asyncio.timeout(PROMPT_SECONDS):
            return [(await task).headers["x-account-id"] for task in (busy, second)]

    assert asyncio.run(main()) == ["a", "a"]


def test_performance_goes_where_fewest_requests_are_under_way():
    async def main():
        upstream = Upstream()
        front = gateway(upstream, "a", "b", "c", scheduling="performance")
        upstream.gate = asyncio.Event()
        tasks = [asyncio.create_task(chat(front)) for _ in range(9)]
        for _ in range(30):
            await asyncio.sleep(0)
        upstream.gate.set()
        await asyncio.gather(*tasks)
        return upstream.most_active

    assert asyncio.run(main()) == Counter(a=3, b=3, c=3)


def test_performance_prefers_the_quicker_account():
    clock = Clock()

    def answer(key, model):
        clock.now += {"slow": 4.0, "quick": 0.5}[key]
        return Scripted.of(ANSWER)

    front = gateway(Upstream(answer), "slow", "quick", clock=clock, scheduling="performance")
    assert served(front, *"123456") == ["slow", "quick", "quick", "quick", "quick", "quick"]


# --- limits of the owner's own ---------------------------------------------------------------------------------


def test_no_more_requests_are_under_way_than_the_owner_allows_and_the_line_is_fair():
    async def main():
        upstream = Upstream()
        front = gateway(upstream, account("a", most_in_flight=2))
        upstream.gate = asyncio.Event()
        order = []

        async def one(number):
            reply = await chat(front, str(number))
            order.append(number)
            return reply.status

        tasks = [asyncio.create_task(one(number)) for number in range(12)]
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(upstream.calls) == 2
        upstream.gate.set()
        assert set(await asyncio.gather(*tasks)) == {200}
        return order, upstream.most_active["a"]

    order, most = asyncio.run(main())
    assert order == sorted(order)
    assert most == 2


def test_a_line_has_a_bound():
    async def main():
        upstream = Upstream()
        front = gateway(upstream, account("a", most_in_flight=1), max_queued=2)
        upstream.gate = asyncio.Event()
        tasks = [asyncio.create_task(chat(front)) for _ in range(5)]
        for _ in range(50):
            await asyncio.sleep(0)
        upstream.gate.set()
        return sorted([(await task).status for task in tasks])

    assert asyncio.run(main()) == [200, 200, 200, 503, 503]


def test_a_client_that_leaves_the_line_holds_nobody_up():
    async def main():
        upstream = Upstream()
        front = gateway(upstream, account("a", most_in_flight=1))
        upstream.gate = asyncio.Event()
        tasks = [asyncio.create_task(chat(front)) for _ in range(4)]
        for _ in range(50):
            await asyncio.sleep(0)
        tasks[1].cancel()
        tasks[0].cancel()
        await asyncio.wait(tasks[:2])
        upstream.gate.set()
        return [(await task).status for task in tasks[2:]]

    assert asyncio.run(main()) == [200, 200]


def test_nobody_who_comes_later_takes_the_place_of_who_waits():
    async def main():
        upstream = Upstream()
        front = gateway(upstream, account("a", most_in_flight=1))
        upstream.gate = asyncio.Event()
        order = []

        async def one(name):
            await chat(front, name)
            order.append(name)

        def answer(key, model):
            if len(upstream.calls) == 1:  # the first is about to end: who comes now finds the account free before
                tasks.append(asyncio.ensure_future(one("late")))
            return Scripted.of(ANSWER)

        upstream.answer = answer
        tasks = [asyncio.ensure_future(one("first")), asyncio.ensure_future(one("waiting"))]
        for _ in range(50):
            await asyncio.sleep(0)
        upstream.gate.set()
        async with asyncio.timeout(PROMPT_SECONDS):
            while len(order) < 3:
                await asyncio.sleep(0)
        return order

    assert asyncio.run(main()) == ["first", "waiting", "late"]


def test_who_leaves_at_the_very_moment_of_being_called_passes_the_call_on():
    async def main():
        upstream = Upstream()
        front = gateway(upstream, account("a", most_in_flight=1))
        upstream.gate = asyncio.Event()

        def answer(key, model):
            tasks[1].cancel()
            return Scripted.of(ANSWER)

        upstream.answer = answer
        tasks = [asyncio.create_task(chat(front)) for _ in range(3)]
        for _ in range(50):
            await asyncio.sleep(0)
        upstream.gate.set()
        async with asyncio.timeout(PROMPT_SECONDS):
            return (await tasks[2]).status

    assert asyncio.run(main()) == 200


def test_requests_per_minute_are_kept_to_and_told_with_the_time():
    clock = Clock()
    front = gateway(Upstream(), account("a", requests_per_minute=2), clock=clock, max_wait_seconds=0.0)
    assert served(front, "1", "2") == ["a", "a"]

    clock.now += 15.0
    reply = asyncio.run(chat(front))
    assert (reply.status, reply.headers["retry-after"]) == (503, "45")
    clock.now += 45.1
    assert served(front, "3") == ["a"]


def test_an_account_that_comes_while_a_request_waits_serves_it_at_once():
    async def main():
        front = gateway(Upstream(lambda key, model: refusal(429, 9) if key == "a" else Scripted.of(ANSWER)), "a")
        task = asyncio.create_task(chat(front))
        for _ in range(20):
            await asyncio.sleep(0)
        front.use_accounts((account("a"), account("b")))
        async with asyncio.timeout(PROMPT_SECONDS):
            return (await task).headers["x-account-id"]

    assert asyncio.run(main()) == "b"


# --- fallbacks -------------------------------------------------------------------------------------------------

MAP = (("mine", f"{PRO}|{FLASH}|{LITE}"),)


@pytest.mark.parametrize("stream", [False, True])
def test_when_every_account_is_out_for_a_model_its_fallback_serves_and_is_named(stream):
    def answer(key, model):
        if model == PRO:
            return refusal(429, 60)
        return (
            Scripted(pieces=[b"data: " + json.dumps(ANSWER).encode() + b"\r\n\r\n"]) if stream else Scripted.of(ANSWER)
        )

    upstream = Upstream(answer)
    front = gateway(upstream, "a", "b", model_map=MAP)
    replies = [asyncio.run(chat(front, model="mine", stream=stream)) for _ in range(2)]

    assert [(reply.status, reply.headers["x-mapped-model"]) for reply in replies] == [(200, FLASH)] * 2
    assert [model for _, model in upstream.calls] == [PRO, PRO, FLASH, FLASH]


def test_a_fallback_is_not_asked_for_a_mistake_of_the_client():
    upstream = Upstream(lambda key, model: refusal(400))
    reply = asyncio.run(chat(gateway(upstream, "a", model_map=MAP), model="mine"))

    assert (reply.status, len(upstream.calls)) == (400, 1)


def test_when_all_fallbacks_are_out_too_the_last_one_s_limit_is_told():
    upstream = Upstream(lambda key, model: refusal(429, {PRO: 60, FLASH: 50, LITE: 40}[model]))
    reply = asyncio.run(chat(gateway(upstream, "a", model_map=MAP), model="mine"))

    assert (reply.status, reply.headers["retry-after"], reply.headers["x-mapped-model"]) == (429, "40", LITE)


# --- what is told ----------------------------------------------------------------------------------------------


def test_an_exhausted_pool_tells_the_soonest_time_and_what_was_tried():
    seconds = {"a": 40, "b": 25, "c": 90}
    front = gateway(Upstream(lambda key, model: refusal(429, seconds[key])), *"abc")
    reply = asyncio.run(chat(front))

    assert (reply.status, reply.headers["retry-after"]) == (429, "25")
    assert reply.headers["x-agproxy-attempts"] == "3; a=429; b=429; c=429"
    assert reply.json["error"]["message"].endswith("(attempts: a=429, b=429, c=429)")


def test_a_spent_day_of_one_account_is_not_told_as_the_whole_pool_s():
    front = gateway(Upstream(lambda key, model: DAY if key == "b" else refusal(429, 20)), "a", "b", max_attempts=2)
    reply = asyncio.run(chat(front))

    assert reply.json["error"]["code"] == "rate_limit_exceeded"
    assert (reply.headers["retry-after"], "x-should-retry" in reply.headers) == ("20", False)


def test_attempts_used_up_while_others_are_idle_say_to_come_back_at_once():
    front = gateway(Upstream(lambda key, model: DAY), *"abcd", max_attempts=2)
    reply = asyncio.run(chat(front))

    assert (reply.status, reply.json["error"]["code"]) == (429, "rate_limit_exceeded")
    assert reply.headers["retry-after"] == "1"


def test_why_tells_each_pick_and_skip_of_a_request():
    upstream = Upstream(lambda key, model: refusal(429, 60) if key == "a" else Scripted.of(ANSWER))
    front = gateway(upstream, "a", "b")
    asyncio.run(chat(front, id="req_first"))
    asyncio.run(chat(front, id="req_second"))

    steps = ask(front, "/v1/agproxy/why/req_first", b"", "GET").json["steps"]
    assert [(step["event"], step["account"]) for step in steps] == [
        ("picked", "a"),
        ("failed", "a"),
        ("picked", "b"),
        ("answered", "b"),
    ]
    assert steps[1]["why"] == "over its limit"
    (picked, _) = ask(front, "/v1/agproxy/why/req_second", b"", "GET").json["steps"]
    assert picked["skipped"] == [{"account": "a", "why": "over its limit for 60 s"}]
    assert ask(front, "/v1/agproxy/why/req_third", b"", "GET").status == 404


def test_why_is_for_who_has_a_key_even_where_requests_need_none():
    keyed = gateway(Upstream(), "a", api_key=(("me", "sk-me"),), auth_mode="off")
    asyncio.run(chat(keyed))

    assert ask(keyed, "/v1/agproxy/why/req_1", b"", "GET").status == 401
    assert ask(keyed, "/v1/agproxy/why/req_1", b"", "GET", (("authorization", "Bearer sk-me"),)).status == 200


def test_why_tells_of_a_request_that_waits():
    async def main():
        front = gateway(Upstream(lambda key, model: refusal(429, 60)), "a", max_wait_seconds=100.0)
        waiting = asyncio.create_task(chat(front, id="req_waits"))
        while not (progress := front.in_flight.get("req_waits")) or len(progress.steps) < 3:
            await asyncio.sleep(0)
        path = "/v1/agproxy/why/req_waits"
        request = HttpRequest(method="GET", path=path, query="", headers=(), body=b"", peer="127.0.0.1", id="req_2")
        reply = FakeReply()
        await front.handle(request, reply)
        waiting.cancel()
        await asyncio.wait({waiting})
        return reply.json["steps"]

    assert [step["event"] for step in asyncio.run(main())] == ["picked", "failed", "waits"]


# --- the pool that never says no while one account could say yes -----------------------------------------------


@pytest.mark.parametrize("mode", ["balance", "performance", "cache-first", "fill-first"])
@pytest.mark.parametrize("seed", range(3))
def test_no_request_fails_while_an_account_could_serve_and_none_is_asked_while_it_is_known_to_be_limited(seed, mode):
    """10 accounts x 3 models with random limits; requests are made by the gateway's own loop, 10 attempts each."""
    chance, clock = random.Random(seed), Clock()
    names = [f"a{number}" for number in range(10)]
    limits, told = {}, {}

    def answer(key, model):
        assert told.get((key, model), 0.0) <= clock.now, "asked while it is known to be limited"
        until = limits.get((key, model), 0.0)
        if until <= clock.now and chance.random() < 0.15:
            until = limits[(key, model)] = clock.now + chance.uniform(1, 90)
        if until > clock.now:
            told[(key, model)] = until
            return refusal(429, f"{until - clock.now:.9f}")
        return Scripted.of(ANSWER)

    front = gateway(Upstream(answer), *names, clock=clock, max_attempts=10, max_wait_seconds=0.0, scheduling=mode)

    async def main():
        outcomes = Counter()
        for number in range(1000):
            clock.now += chance.expovariate(4.0)
            model = chance.choice([FLASH, PRO, LITE])
            reply = await chat(front, f"talk {chance.randrange(40)}", model, id=f"req_{number}")
            outcomes[reply.status] += 1
            if reply.status != 200:
                assert all(limits.get((name, model), 0.0) > clock.now for name in names)
                soonest = min(limits[(name, model)] for name in names) - clock.now
                assert abs(int(reply.headers["retry-after-ms"]) / 1000 - soonest) < 0.01
        return outcomes

    outcomes = asyncio.run(main())
    assert set(outcomes) <= {200, 429}
    assert outcomes[200] > 500
    assert outcomes[429] > 10


def test_shares_follow_the_weights_within_five_percent_through_the_gateway():
    weights = {"a": 1.0, "b": 2.0, "c": 5.0}
    upstream = Upstream()
    front = gateway(upstream, *(account(name, weight=weight) for name, weight in weights.items()))

    async def main():
        for number in range(800):
            await chat(front, id=f"req_{number}")

    asyncio.run(main())
    counts = Counter(key for key, _ in upstream.calls)
    for name, weight in weights.items():
        assert abs(counts[name] - 100 * weight) <= 5 * weight


def test_no_attempt_begins_after_the_time_of_a_whole_request():
    clock = Clock()

    def late(key, model):
        clock.now += 40.0
        return refusal(500)

    upstream = Upstream(late)
    running = gateway(upstream, "a", "b", "c", "d", clock=clock, max_attempts=4, total_timeout_seconds=60.0)
    body = {"model": FLASH, "messages": [{"role": "user", "content": "x"}]}

    assert ask(running, CHAT, body).status == 500
    assert len(upstream.calls) == 2
