"""Client keys with limits: through a gateway, in their files, on the command line, and with OpenAI's SDK."""

import asyncio
import contextlib
import json
import re
import subprocess
import sys
import time

import pytest
from fakes import NOW, FakeUpstream, Scripted, ask, make_gateway
from running import ROOT, clean_environment, start

from agproxy import keys
from agproxy.clients import Clients
from agproxy.config import Config
from agproxy.errors import ConfigError
from agproxy.io.store import KeyStore
from agproxy.io.usage import UsageFile, UsageKeeper
from agproxy.keys import Document, Key, Limits, Ring
from agproxy.quotas import DAY, MINUTE

GIVEN = "agp-" + "x" * 43
BEARER = (("authorization", f"Bearer {GIVEN}"),)
CHAT = {"model": "gemini-2.5-flash", "messages": [{"role": "user", "content": "hello"}]}
ANSWER = {
    "candidates": [{"content": {"role": "model", "parts": [{"text": "hi"}]}, "finishReason": "STOP"}],
    "usageMetadata": {"promptTokenCount": 30, "candidatesTokenCount": 12, "totalTokenCount": 42},
}
TODAY = int(NOW // DAY)


def guest(**more):
    return Key(name="guest", digest=keys.digest_of(GIVEN), **more)


def limited(answers=5, *, config=None, models=(), **limits):
    upstream = FakeUpstream([Scripted.of(ANSWER) for _ in range(answers)])
    ring = Ring([guest(models=models, limits=Limits(**limits))])
    settings = config or Config(auth_mode="strict", keepalive_seconds=0.0)
    return make_gateway(upstream, config=settings, clients=Clients(ring)), upstream


def chat(gateway, body=CHAT, headers=BEARER):
    return ask(gateway, "/v1/chat/completions", body, headers=headers)


def header(reply, name):
    return dict(reply.headers).get(name)


# --- through a gateway


def test_a_key_over_its_limit_gets_openais_429_and_upstream_hears_nothing():
    gateway, upstream = limited(requests_per_minute=1)
    first, second = chat(gateway), chat(gateway)

    assert (first.status, second.status, len(upstream.calls)) == (200, 429, 1)
    assert header(first, "x-ratelimit-limit-requests") == "1"
    assert header(first, "x-ratelimit-remaining-requests") == "0"
    error = second.json["error"]
    assert (error["type"], error["code"], error["param"]) == ("requests", "rate_limit_exceeded", None)
    assert re.fullmatch(
        r"Rate limit reached for key guest on requests per min \(RPM\): Limit 1, Used 1, Requested 1\. "
        r"Please try again in [\d.]+m?s\.",
        error["message"],
    )
    assert 0 < int(header(second, "retry-after")) <= 60
    assert header(second, "x-ratelimit-remaining-requests") == "0"
    assert header(second, "x-ratelimit-reset-requests") is not None
    assert header(second, "x-ratelimit-limit-tokens") is None


def test_tokens_of_an_answer_count_against_the_next_request():
    gateway, _ = limited(tokens_per_day=42)
    first, second = chat(gateway), chat(gateway)

    assert (first.status, second.status) == (200, 429)
    assert header(first, "x-ratelimit-remaining-tokens") == "42"  # its own were not counted when its head was sent
    assert second.json["error"]["type"] == "tokens"
    assert "tokens per day (TPD): Limit 42, Used 42" in second.json["error"]["message"]
    assert header(second, "x-should-retry") == "false"  # an SDK would sleep for hours


def test_a_key_without_limits_is_told_nothing_of_limits():
    gateway, _ = limited()
    replies = [chat(gateway) for _ in range(5)]

    assert {reply.status for reply in replies} == {200}
    assert not [name for name in dict(replies[0].headers) if name.startswith("x-ratelimit")]


def test_what_is_no_request_to_a_model_is_not_counted():
    gateway, _ = limited(requests_per_day=1)
    for path in ("/v1/models/gpt-4o", "/v1/chat/completions", "/v1/nothing"):
        ask(gateway, path, None, "GET", BEARER)

    assert chat(gateway).status == 200


def test_another_key_is_not_held_up():
    settings = Config(auth_mode="strict", api_key=(("me", "sk-me"),), keepalive_seconds=0.0)
    gateway, _ = limited(config=settings, requests_per_day=1)
    assert [chat(gateway).status for _ in range(2)] == [200, 429]

    assert chat(gateway, headers=(("authorization", "Bearer sk-me"),)).status == 200


@pytest.mark.parametrize("stream", [False, True])
def test_a_model_that_is_not_allowed_is_404_model_not_found(stream):
    gateway, upstream = limited(models=("gemini-2.5-flash",))
    refused = chat(gateway, CHAT | {"model": "gemini-2.5-pro", "stream": stream})

    assert (refused.status, refused.json["error"]["code"]) == (404, "model_not_found")
    assert upstream.calls == []
    assert chat(gateway, CHAT | {"model": "gpt-4o"}).status == 200  # means gemini-2.5-flash


def test_a_key_sees_the_models_that_it_may_use():
    gateway, _ = limited(models=("gpt-5*",))
    gateway.pool.accounts = ()
    listed = {model["id"] for model in ask(gateway, "/v1/models", None, "GET", BEARER).json["data"]}

    assert listed == {"gpt-5", "gpt-5-mini", "gpt-5-nano"}
    assert ask(gateway, "/v1/models/gpt-5", None, "GET", BEARER).status == 200
    assert ask(gateway, "/v1/models/gpt-4o", None, "GET", BEARER).status == 404


def test_a_key_may_not_go_on_with_a_fallback_that_it_may_not_use():
    settings = Config(
        auth_mode="strict",
        keepalive_seconds=0.0,
        max_wait_seconds=0.0,
        model_map=(("mine", "gemini-2.5-flash|gemini-2.5-pro"),),
    )
    gateway, upstream = limited(config=settings, models=("gemini-2.5-flash",))
    busy = {"error": {"code": 429, "message": "no", "status": "RESOURCE_EXHAUSTED"}}
    upstream.script[:] = [Scripted.of(busy, 429), Scripted.of(ANSWER)]

    assert chat(gateway, CHAT | {"model": "mine"}).status == 429
    assert len(upstream.calls) == 1


# --- the files


def test_the_keys_file_is_closed_to_others_and_a_broken_one_is_told(tmp_path):
    store = KeyStore(tmp_path / "home", lambda text: None)
    assert store.load() == Document()
    store.update(lambda document: Document(keys=(guest(),)))
    assert store.load().keys == (guest(),)
    if sys.platform != "win32":
        assert store.file.stat().st_mode & 0o777 == 0o600
    store.file.write_text("{")
    with pytest.raises(ConfigError, match=r"keys\.json: not a file of client keys"):
        store.load()


def keeper_of(tmp_path, clients):
    return UsageKeeper(tmp_path / "usage.sqlite3", clients, lambda: NOW, lambda _: asyncio.Event().wait())


def test_processes_learn_what_the_others_have_counted_and_a_restart_forgets_nothing(tmp_path):
    key = guest(limits=Limits(requests_per_day=5))

    async def main():
        one, other, later = (Clients(Ring([key])) for _ in range(3))
        first, second = keeper_of(tmp_path, one), keeper_of(tmp_path, other)
        async with first.keeping(), second.keeping():
            for clients in (one, one, other, other):
                assert clients.meter.begin(key, NOW) is None
            await first.sync()
            await second.sync()
            assert other.meter.begin(key, NOW) is None
            assert other.meter.begin(key, NOW) is not None
            await second.sync()
            await first.sync()
            assert one.meter.begin(key, NOW) is not None
        async with keeper_of(tmp_path, later).keeping():
            assert later.meter.begin(key, NOW).used == 5

    asyncio.run(main())


def test_use_that_cannot_be_stored_is_kept_and_said_once(tmp_path, caplog):
    clients = Clients(Ring([guest(limits=Limits(requests_per_day=1))]))

    async def main():
        (tmp_path / "usage.sqlite3").mkdir()
        keeper = keeper_of(tmp_path, clients)
        async with keeper.keeping():
            clients.meter.begin(clients.ring.keys[0], NOW)
            await keeper.sync()
            await keeper.sync()
            assert clients.meter.begin(clients.ring.keys[0], NOW) is not None
            (tmp_path / "usage.sqlite3").rmdir()

    asyncio.run(main())
    assert len([record for record in caplog.records if "usage.sqlite3" in record.getMessage()]) == 1
    with contextlib.closing(UsageFile(tmp_path / "usage.sqlite3")) as file:
        assert file.add({}, {}, NOW) == {("guest", DAY, TODAY): (1, 0)}


def test_windows_that_are_over_are_let_go_of_and_counts_have_a_bound(tmp_path):
    minute, later = int(NOW // MINUTE), NOW + 3 * DAY
    with contextlib.closing(UsageFile(tmp_path / "usage.sqlite3")) as file:
        for _ in range(3):  # upstream may say any number of tokens
            file.add({("a", MINUTE, minute): (1, 2**80)}, {("a", TODAY, "m"): [1, 2**80, -5, 0, 0]}, NOW)
        assert file.add({}, {}, NOW) == {("a", MINUTE, minute): (3, 2**62)}
        (used,) = file.used(TODAY)
        assert (used.requests, used.input_tokens, used.output_tokens) == (3, 2**62, 0)
        file.add({("b", DAY, TODAY + 3): (1, 1)}, {}, later)
        assert file.add({}, {}, later) == {("b", DAY, TODAY + 3): (1, 1)}
        assert file.add({}, {}, NOW) == {}


# --- the command line


@pytest.fixture
def agproxy(tmp_path):
    def run(*arguments, status=0, **environ):
        done = subprocess.run(
            [sys.executable, "-m", "agproxy", "keys", *arguments],
            env=clean_environment(tmp_path, environ),
            capture_output=True,
            text=True,
            timeout=60,
            cwd=ROOT,
        )
        assert done.returncode == status, done.stderr
        return done.stdout if status == 0 else done.stderr

    return run


def test_a_key_is_made_shown_once_and_kept_nowhere(agproxy, tmp_path):
    made = agproxy("add", "laptop", "--rpm", "3", "--models", "gemini-2.5-*, gpt-4o", "--expires", "30d")

    assert re.fullmatch(r"agp-[\w-]{43}\n", made)
    assert made.strip() not in "".join(file.read_text() for file in tmp_path.iterdir())
    (key,) = KeyStore(tmp_path, print).load().keys
    assert Ring([key]).find(made.strip()) is key
    assert (key.models, key.limits) == (("gemini-2.5-*", "gpt-4o"), Limits(requests_per_minute=3))
    assert 29.9 * DAY < key.expires - time.time() <= 30 * DAY
    shown = json.loads(agproxy("show", "laptop", "--json"))
    assert (shown["state"], shown["limits"]) == ("valid", {"requests_per_minute": 3})
    assert key.digest not in agproxy("list", "--json") + agproxy("list") + agproxy("show", "laptop")


def test_keys_are_edited_and_revoked_and_their_names_never_given_again(agproxy, tmp_path):
    agproxy("add", "laptop", "--rpm", "3", "--tpd", "1000", "--expires", "30d")
    agproxy("edit", "laptop", "--rpm", "0", "--tpm", "7", "--expires", "never", "--models", "a")
    (key,) = KeyStore(tmp_path, print).load().keys
    assert key.limits == Limits(tokens_per_minute=7, tokens_per_day=1000)
    assert (key.expires, key.models) == (None, ("a",))
    agproxy("edit", "laptop", "--models", "*")
    assert KeyStore(tmp_path, print).load().keys[0].models == ()
    agproxy("revoke", "laptop")

    assert json.loads(agproxy("list", "--json"))[0]["state"] == "revoked"
    assert "never used twice" in agproxy("add", "laptop", status=2)
    assert "revoked" in agproxy("edit", "laptop", "--rpm", "5", status=2)
    assert "did you mean laptop" in agproxy("revoke", "lapto", status=2)


def test_a_name_of_the_settings_is_taken(agproxy, tmp_path):
    (tmp_path / "config.json").write_text('{"proxy": {"api_key": {"me": "sk-me"}}}')

    assert "taken" in agproxy("add", "me", status=2)


@pytest.mark.parametrize(
    "flags",
    [
        ("--expires", "yesterday"),
        ("--expires", "2020-01-01"),
        ("--rpm", "-1"),
        ("--rpm", "many"),
        ("--models", ","),
    ],
)
def test_flags_that_make_no_sense_are_refused(agproxy, tmp_path, flags):
    agproxy("add", "laptop", *flags, status=2)

    assert not (tmp_path / "keys.json").exists()


# --- a real gateway


def until(is_so, running):
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline, "\n".join(running.lines)
        assert running.ask("/healthz").status == 200


def test_openais_sdk_meets_a_limit_and_a_running_gateway_takes_up_keys(agproxy, tmp_path):
    openai = pytest.importorskip("openai")
    running = start("serve", home=tmp_path, AGPROXY_SIMULATE="on", AGPROXY_RELOAD_SECONDS="0.02")
    messages = [{"role": "user", "content": "hello"}]
    try:
        assert running.chat("hello").status == 200  # no key, none asked for
        key = agproxy("add", "laptop", "--rpd", "2").strip()
        until(lambda: running.chat("hello").status == 401, running)
        with openai.OpenAI(base_url=running.base_url, api_key=key, max_retries=0) as client:
            ask_model = client.chat.completions.with_raw_response.create
            answer = ask_model(model="gpt-4o", messages=messages)
            assert answer.headers["x-ratelimit-remaining-requests"] == "1"
            for _ in client.chat.completions.create(model="gpt-4o", messages=messages, stream=True):
                pass
            with pytest.raises(openai.RateLimitError, match="Limit 2, Used 2, Requested 1") as caught:
                ask_model(model="gpt-4o", messages=messages)
            assert (caught.value.code, caught.value.type) == ("rate_limit_exceeded", "requests")
            headers = caught.value.response.headers
            assert headers["x-ratelimit-limit-requests"] == "2"
            assert headers["x-ratelimit-remaining-requests"] == "0"
            assert 0 < int(headers["retry-after"]) <= DAY
            assert running.ask("/metrics", headers={"authorization": f"Bearer {key}"}).status == 403

            agproxy("edit", "laptop", "--rpd", "0", "--models", "gemini-2.5-pro")
            refused = []

            def is_refused():
                try:
                    ask_model(model="gpt-4o", messages=messages)
                except openai.NotFoundError as error:
                    refused.append(error)
                except openai.RateLimitError:
                    pass
                return bool(refused)

            until(is_refused, running)
            assert refused[0].code == "model_not_found"
            agproxy("revoke", "laptop")
            until(lambda: running.ask("/v1/models", headers={"authorization": f"Bearer {key}"}).status == 401, running)
            with pytest.raises(openai.AuthenticationError, match="revoked"):
                client.models.list()
    finally:
        running.stop()
    (row,) = json.loads(agproxy("usage", "--json"))
    assert (row["key"], row["model"], row["requests"]) == ("laptop", "gemini-2.5-flash", 2)
    assert row["input_tokens"] > 0
    assert "laptop" in agproxy("usage")
    assert "laptop" not in agproxy("usage", "other")
