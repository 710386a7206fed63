"""/metrics of a gateway that runs, of one process and of several."""

import asyncio
import json
import os
import re
import signal
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path

import pytest
from gated_gemini import GatedGemini
from running import start
from scripted_gemini import ScriptedGemini, says
from test_workers import ask, children_of, needs_proc, two_workers, until

from agproxy.account import Account
from agproxy.config import Config
from agproxy.embed import listening
from agproxy.io.handed import Handed
from agproxy.io.lag import Lag
from agproxy.metrics import FAMILIES, OPEN_METRICS

BODY = {"model": "gemini-2.5-flash", "messages": [{"role": "user", "content": "hello"}], "stream": True}
CHAT = 'agproxy_requests_total{protocol="openai_chat",model="gemini-2.5-flash",code="200"}'


def sample(text, name):
    """The value of one sample, 0 where it is not there."""
    found = re.search(f"^{re.escape(name)} (.+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def get(url, headers=None):
    """(status, content type, text)"""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, None, headers or {}), timeout=20) as answer:
            return answer.status, answer.headers["content-type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["content-type"], error.read().decode()


def chat(url):
    data = json.dumps(BODY).encode()
    with urllib.request.urlopen(url + "/v1/chat/completions", data, timeout=20) as answer:
        return answer.read()


def with_gateway(tmp_path, steps, **settings):
    """Do `steps` with the URL of a gateway whose upstream says hello."""

    async def main():
        with ScriptedGemini([says("hello")] * 2) as gemini:
            config = Config(host="127.0.0.1", port=0, upstream_url=gemini.url, **settings)
            async with listening(config, (Account(id="a", key="k"),), tmp_path) as running:
                return await asyncio.to_thread(steps, f"http://127.0.0.1:{running.bound[0][1]}")

    return asyncio.run(main())


def test_a_scrape_tells_of_requests_accounts_and_the_process(tmp_path):
    def steps(url):
        chat(url)
        chat(url)
        return get(url + "/metrics"), get(url + "/metrics", {"accept": "application/openmetrics-text; version=1.0.0"})

    (status, kind, text), (_, open_kind, open_text) = with_gateway(tmp_path, steps)

    assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert sample(text, CHAT) == 2
    assert sample(text, 'agproxy_upstream_attempts_total{account="a",outcome="ok"}') == 2
    labels = 'protocol="openai_chat",model="gemini-2.5-flash"'
    assert sample(text, f"agproxy_time_to_first_byte_seconds_count{{{labels}}}") == 2
    assert sample(text, f'agproxy_tokens_total{{{labels},type="output"}}') > 0
    assert sample(text, "agproxy_requests_in_flight") == 1  # the scrape
    assert sample(text, "agproxy_streams_open") == 0
    assert sample(text, 'agproxy_accounts{state="ready"}') == 1
    assert sample(text, 'agproxy_connections{side="client"}') >= 1
    assert sample(text, "agproxy_workers") == 1
    assert sample(text, "process_cpu_seconds_total") > 0
    assert 1e9 < sample(text, "process_start_time_seconds") < 1e10
    assert set(re.findall("^# TYPE ([a-z_]+)", text, re.MULTILINE)) >= {
        name for name in FAMILIES if name.startswith("agproxy_") and not name.endswith("cooling_seconds")
    }
    assert open_kind == OPEN_METRICS
    assert open_text.endswith("# EOF\n")


def test_an_account_that_cools_down_is_told_with_its_cause(tmp_path):
    async def main():
        with GatedGemini() as gemini:
            config = Config(host="127.0.0.1", port=0, upstream_url=gemini.url)
            async with listening(config, (Account(id="a", key="k"),), tmp_path) as running:
                row = {"quota": "a", "model": "m", "until": 4e9, "cause": "DAY", "steps": 1, "message": "spent"}
                running.gateway.pool.restore([row], 0.0)
                return await asyncio.to_thread(get, f"http://127.0.0.1:{running.bound[0][1]}/metrics")

    _, _, text = asyncio.run(main())

    assert sample(text, 'agproxy_account_cooling_seconds{account="a",model="m",cause="day"}') > 1e6
    assert sample(text, 'agproxy_accounts{state="cooling"}') == 1
    assert sample(text, 'agproxy_accounts{state="ready"}') == 0


def test_metrics_are_for_the_owner(tmp_path):
    def steps(url):
        keys = ({}, {"authorization": "Bearer sk-me"}, {"authorization": "Bearer sk-admin"})
        return [get(url + "/metrics", key)[0] for key in keys]

    settings = {"auth_mode": "strict", "api_key": (("me", "sk-me"),)}
    assert with_gateway(tmp_path / "one", steps, **settings) == [401, 200, 401]
    assert with_gateway(tmp_path / "two", steps, admin_key="sk-admin", **settings) == [401, 401, 200]


def test_the_loop_is_told_to_be_late_by_what_it_was_late():
    class Loop:
        now = 100.0

        def time(self):
            return self.now

        def call_at(self, due, tick):
            self.due, self.tick = due, tick

    loop = Loop()
    lag = Lag(loop)
    lag.start()
    told = []
    for late in (0.0, 0.25, *[0.0] * 20, 0.125, *[0.0] * 40):
        loop.now = loop.due + late
        loop.tick()
        told.append(lag.seconds)

    assert told[:16] == [0.0, *[0.25] * 15]
    assert list(dict.fromkeys(told[1:])) == [0.25, 0.125, 0.0]  # each is forgotten in time


# --- several workers


@pytest.mark.skipif(os.name != "posix", reason="workers need POSIX")
def test_any_worker_answers_for_all_and_for_those_that_have_left(tmp_path):
    async def main():
        with ScriptedGemini([says("hello")] * 2) as gemini:
            async with two_workers(tmp_path, gemini.url) as urls:
                await asyncio.to_thread(chat, urls[0])
                await asyncio.to_thread(chat, urls[1])
                texts = [await asyncio.to_thread(ask, url, "GET", "/metrics") for url in urls]
                return [text for _, text in texts]

    for text in asyncio.run(main()):
        assert sample(text, CHAT) == 2
        assert sample(text, "agproxy_workers") == 2
        assert sample(text, 'agproxy_accounts{state="ready"}') == 1


class Claims:
    """What is alive, and what is claimed."""

    def __init__(self):
        self.taken = {}

    def claim(self, key):
        return None if key in self.taken else self.taken.setdefault(key, partial(self.taken.pop, key))

    def holder(self, key):
        return "somebody" if key in self.taken else None


def data(number):
    return {"agproxy_wait_seconds_total": [[[], number]]}


def total(parts):
    return sum(part["agproxy_wait_seconds_total"][0][1] for part in parts if part)


def test_counts_of_the_dead_are_folded_into_one_file_and_count_once(tmp_path):
    claims, now = Claims(), [0.0]
    dead = [Handed(tmp_path, f"dead{number}", claims) for number in range(20)]
    for handed in dead:
        handed.close(data(1))
    alive = Handed(tmp_path, "alive", claims)
    alive.write(data(100))
    hung = Handed(tmp_path, "hung", claims)
    hung.write(data(5))
    newest = max(file.stat().st_mtime for file in tmp_path.iterdir())
    this = Handed(tmp_path, "this", claims, lambda: now[0])
    others = lambda: asyncio.run(this.others(["alive"]))  # noqa: E731

    now[0] = newest + 1  # too soon: another scrape may have heard them
    assert total(others()) == 25
    assert len(list(tmp_path.glob("dead*"))) == 20
    now[0] = newest + 100
    assert [total(others()) for _ in range(3)] == [25, 25, 25]
    assert {file.name for file in tmp_path.iterdir()} == {"gone.json", "alive.counted", "hung.counted"}


def test_a_folding_that_was_killed_counts_nothing_twice(tmp_path):
    claims = Claims()
    Handed(tmp_path, "dead", claims).close(data(3))
    kept = (tmp_path / "dead.counted").read_bytes()
    this = Handed(tmp_path, "this", claims, lambda: 1e12)
    asyncio.run(this.others([]))
    (tmp_path / "dead.counted").write_bytes(kept)  # as if its removal had not happened

    assert total(asyncio.run(this.others([]))) == 3


@needs_proc
def test_counters_do_not_become_less_when_workers_die_or_are_replaced(tmp_path):
    running = start("serve", "--workers", "2", home=tmp_path, AGPROXY_SIMULATE="on")
    try:
        labels = 'agproxy_requests_total{protocol="openai_chat",model="gemini-2.5-flash",code="200"}'
        for _ in range(6):
            assert running.ask("/v1/chat/completions", BODY).status == 200
        scrape = lambda: running.ask("/metrics").body.decode()  # noqa: E731
        text = scrape()
        assert sample(text, labels) == 6
        assert sample(text, "agproxy_workers") == 2

        before = children_of(running.process.pid)
        os.kill(before[0], signal.SIGKILL)
        until(lambda: len(set(children_of(running.process.pid)) | set(before)) == 3, running)
        assert sample(scrape(), labels) == 6

        before = children_of(running.process.pid)
        running.process.send_signal(signal.SIGHUP)
        until(lambda: not set(children_of(running.process.pid)) & set(before), running)
        assert running.ask("/v1/chat/completions", BODY).status == 200
        assert sample(scrape(), labels) == 7
        assert Path(f"/proc/{running.process.pid}").exists()
    finally:
        running.stop()
