"""What is recorded of a request's bodies, and that no secret is in it: on a scripted upstream, within one loop."""

import asyncio
import base64
import json

import pytest
from fakes import Scripted
from test_entries import CHAT, Front, Stuck, chunk, event, failure

from agproxy.account import Account
from agproxy.config import Config
from agproxy.credentials import OAuthUser, ServiceAccount
from agproxy.errors import UpstreamFailed
from agproxy.http11 import HttpRequest
from agproxy.recording import ALL, DROPPED, REMOVED, Budget, Fit, Recording

SECRETS = {
    "client": "key-of-ann",
    "other": "key-of-bob",
    "account": "AIzaSyAccountKey",
    "proxy": "proxy-pass",
    "typed": "wrong-key-of-somebody",
}
IMAGE = base64.b64encode(bytes(range(256)) * 20).decode()


def settings(bodies="all", **more):
    keys = (("ann", SECRETS["client"]), ("bob", SECRETS["other"]))
    return Config(keepalive_seconds=0.0, journal_bodies=bodies, auth_mode="off", api_key=keys, **more)


def front(*script, **more):
    made = Front(*script, config=settings(**more))
    made.gateway.use_accounts(
        (Account(id="a", key=SECRETS["account"], proxy=f"http://me:{SECRETS['proxy']}@127.0.0.1:1"),)
    )
    return made


HEADERS = (("authorization", f"Bearer {SECRETS['client']}"), ("cookie", "session=1"), ("user-agent", "a tool"))


def whole(text):
    return Scripted.of(chunk(text))


def streamed(*pieces, **more):
    return Scripted(pieces=pieces, **more)


def told(entry):
    return json.loads(json.dumps(entry.recording.told()))


def test_a_whole_exchange_is_recorded_both_ways():
    made = front(whole("an answer"))

    reply, entry = made.ask_once(headers=HEADERS, query="api-key=abcdef&n=1")

    value = told(entry)
    assert value["request"]["method"] == "POST"
    assert value["request"]["path"] == "/v1/chat/completions"
    assert value["request"]["query"] == f"api-key={REMOVED}&n=1"
    assert ["user-agent", "a tool"] in value["request"]["headers"]
    assert json.loads(value["request"]["body"]) == CHAT
    (call,) = value["calls"]
    assert (call["account"], call["method"], call["status"], call["error"]) == ("a", "POST", 200, None)
    assert call["url"].endswith("/models/gemini-2.5-flash:generateContent")
    assert json.loads(call["body"]) == made.upstream.bodies[0]
    assert json.loads(call["answer"]) == chunk("an answer")
    assert value["answer"]["status"] == 200
    assert json.loads(value["answer"]["body"]) == reply.json
    assert value["exchange"][0] == f"{1:024x}"


def test_a_stream_is_recorded_as_its_raw_frames():
    made = front(streamed(event("an ", None), event("answer")))

    reply, entry = made.ask_once(body=CHAT | {"stream": True})

    value = told(entry)
    assert value["calls"][0]["answer"] == (event("an ", None) + event("answer")).decode()
    assert value["answer"]["body"] == reply.body.decode()


def test_each_attempt_is_recorded_and_why_it_failed():
    made = front(failure(503), UpstreamFailed("No way there."), whole("an answer"))
    made.gateway.use_accounts(tuple(Account(id=name, key=f"key-{name}") for name in "abc"))

    _, entry = made.ask_once()

    calls = told(entry)["calls"]
    assert [(call["status"], call["error"]) for call in calls] == [(503, None), (None, "No way there."), (200, None)]
    assert {call["account"] for call in calls} == {"a", "b", "c"}


def test_a_stream_that_broke_off_and_a_client_that_left_are_recorded_as_far_as_they_came():
    made = front(streamed(event("first", None), error=UpstreamFailed("The line broke.")))
    reply, entry = made.ask_once(body=CHAT | {"stream": True})
    (call,) = told(entry)["calls"]
    assert (call["answer"], call["error"]) == (event("first", None).decode(), "The line broke.")
    assert told(entry)["answer"]["body"] == reply.body.decode()

    async def leave():
        stuck = Stuck()
        made = front(stuck)
        task = asyncio.create_task(made.ask(body=CHAT | {"stream": True}))
        await stuck.has_begun.wait()
        task.cancel()
        await asyncio.wait({task})
        return made.entries[0]

    value = told(asyncio.run(leave()))
    assert '"first "' in value["calls"][0]["answer"]
    assert '"first "' in value["answer"]["body"]


@pytest.mark.parametrize(
    ("bodies", "status", "expected"), [("off", 400, False), ("errors", 200, False), ("errors", 400, True)]
)
def test_it_is_recorded_when_the_setting_says_so(bodies, status, expected):
    script = [whole("an answer")] if status == 200 else [failure(status)]
    _, entry = front(*script, bodies=bodies).ask_once()

    assert (entry.recording is not None) is expected


def test_no_secret_is_in_a_recording():
    words = " ".join(SECRETS.values())
    body = CHAT | {"messages": [{"role": "user", "content": words}], "user": SECRETS["other"]}
    made = front(whole(f"you said {words}"))
    typed = (("x-api-key", SECRETS["typed"]), ("proxy-thing", SECRETS["proxy"]), ("x-say", SECRETS["other"]))

    _, entry = made.ask_once(body=body, headers=(*HEADERS, *typed))

    text = json.dumps(told(entry))
    for name in ("client", "other", "account", "proxy"):
        assert SECRETS[name] not in text, name
    # What no setting knows goes from headers only.
    assert SECRETS["typed"] not in json.dumps(told(entry)["request"]["headers"])
    assert "session=1" not in text
    assert REMOVED in text


def test_tokens_and_credentials_are_secrets():
    user = OAuthUser(client_id="id", client_secret="the-client-secret", refresh_token="the-refresh-token")
    machine = ServiceAccount(client_email="a@b", private_key="-----BEGIN\nlines\n-----END")
    made = front(whole("the-access-token the-refresh-token"))
    accounts = (Account(id="u", credential=user), Account(id="m", credential=machine, models=("none",)))
    made.gateway.use_accounts(accounts)

    class Tokens:
        async def token(self, account):
            return "the-access-token"

        def forget(self, account):
            raise AssertionError

    made.gateway._upstream.attempts.tokens = Tokens()
    said = "the-client-secret and -----BEGIN\nlines\n-----END"

    _, entry = made.ask_once(body=CHAT | {"messages": [{"role": "user", "content": said}]})

    assert made.upstream.calls, entry
    text = json.dumps(told(entry))
    for secret in ("the-client-secret", "the-refresh-token", "the-access-token", "BEGIN"):
        assert secret not in text, secret


def test_media_become_a_mark_that_is_the_same_on_both_sides():
    url = f"data:image/png;base64,{IMAGE}"
    content = [{"type": "text", "text": "what is it?"}, {"type": "image_url", "image_url": {"url": url}}]
    made = front(whole("a picture"))

    _, entry = made.ask_once(body=CHAT | {"messages": [{"role": "user", "content": content}]})

    value = told(entry)
    assert IMAGE not in json.dumps(value)
    sent = json.loads(value["request"]["body"])["messages"][0]["content"][1]["image_url"]["url"]
    mark = sent.removeprefix("data:image/png;base64,")
    assert mark.startswith(f"[agproxy: {len(IMAGE)} characters of base64, sha256 ")
    parts = json.loads(value["calls"][0]["body"])["contents"][0]["parts"]
    assert [part["inlineData"]["data"] for part in parts if "inlineData" in part] == [mark]


def test_a_body_is_cut_at_its_bound_with_a_mark():
    long = "\u00e9" * 5000
    made = front(whole(long), journal_body_max_bytes=1000)

    _, entry = made.ask_once(body=json.dumps(CHAT | {"user": long}, ensure_ascii=False).encode())

    value = told(entry)
    for text in (value["request"]["body"], value["calls"][0]["answer"], value["answer"]["body"]):
        assert len(text.encode()) < 1100
        assert "[agproxy: cut, 1000 of " in text


def test_bytes_that_are_no_text_are_kept_readable():
    _, entry = front().ask_once(body=b"\xff\x00{")

    assert entry.status == 400
    assert told(entry)["request"]["body"] == "\\xff\x00{"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://h/v1/models/key-model:x?alt=sse&key=abc", f"https://h/v1/models/key-model:x?alt=sse&key={REMOVED}"),
        ("key=abc", f"key={REMOVED}"),
        ("a=b&access_token=abc&c=d", f"a=b&access_token={REMOVED}&c=d"),
        ("https://auth.example/token?a=b", "https://auth.example/token?a=b"),
        ("", ""),
    ],
)
def test_parameters_that_hold_secrets_are_removed_from_urls(url, expected):
    assert Fit((), 1000).query(url) == expected


def test_a_long_secret_goes_before_a_shorter_one_in_it_and_tiny_ones_are_let_be():
    fit = Fit(("abcd", "abcdefgh", "x"), 1000)

    assert fit.text("abcdefgh abcd x") == f"{REMOVED} {REMOVED} x"


def begun(budget, size):
    request = HttpRequest(method="POST", path="/", query="", headers=(), body=b"x" * size, peer="", id="r")
    return Recording(request, settings(), (), budget)


def test_where_bodies_are_too_much_the_newest_drops_its_own_and_older_ones_stay_whole():
    budget = Budget(1000)
    old, new = begun(budget, 400), begun(budget, 400)

    old.wrote(b"y" * 300)  # over it: the newer one makes room
    new.wrote(b"z" * 10)

    assert (old.told()["request"]["body"], old.told()["answer"]["body"]) == ("x" * 400, "y" * 300)
    value = new.told()
    assert value["request"]["body"] == "[agproxy: dropped, 400 bytes: too much was under way]"
    assert value["answer"]["body"] == "[agproxy: dropped, 10 bytes: too much was under way]"
    assert (old.held_bytes, new.held_bytes) == (700, 0)


def test_one_that_is_too_much_alone_is_dropped_and_what_waits_to_be_written_is_not():
    budget = Budget(1000)
    waiting = begun(budget, 600)
    waiting.end()

    assert begun(budget, 500).is_dropped
    assert begun(budget, 1001).is_dropped
    assert not waiting.is_dropped
    waiting.release()
    assert not begun(budget, 1000).is_dropped


def test_what_nobody_holds_any_more_is_free_again():
    budget = Budget(1000)
    for _ in range(3):
        assert not begun(budget, 900).is_dropped


def test_requests_go_on_where_their_bodies_are_dropped(monkeypatch):
    monkeypatch.setattr(ALL, "most_bytes", 10)
    made = front(streamed(event("an ", None), event("answer")))

    reply, entry = made.ask_once(body=CHAT | {"stream": True})

    assert b"answer" in reply.body
    value = told(entry)
    bodies = (value["request"]["body"], value["calls"][0]["body"], value["calls"][0]["answer"], value["answer"]["body"])
    assert all(DROPPED.match(body) for body in bodies)
    assert value["calls"][0]["status"] == value["answer"]["status"] == 200
