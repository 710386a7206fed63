"""What the gateway's owner may see and change: the routes below /v1/agproxy/, the page, and the OpenAPI document."""

import asyncio
import http.client
import json
import re
import time
from urllib.parse import urlsplit

import pytest
from fakes import NOW, FakeReply, FakeUpstream, Scripted, ask, make_gateway
from running import ROOT, start

from agproxy import openapi
from agproxy.account import Account, key_id
from agproxy.config import Config
from agproxy.entries import Entry, Wanted
from agproxy.gateway import build_routes
from agproxy.http11 import HttpRequest
from agproxy.io.pages import read_page
from agproxy.io.registry import Registry
from agproxy.tally import STEPS, Tally, merged

PAGES = sorted((ROOT / "agproxy" / "ui").iterdir())
JSON = (("content-type", "application/json"),)
ANSWER = {
    "candidates": [{"content": {"parts": [{"text": "Hi"}]}, "finishReason": "STOP"}],
    "usageMetadata": {"promptTokenCount": 7, "candidatesTokenCount": 3, "totalTokenCount": 10},
}
CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "SECRET-PROMPT"}]}
LIMITED = Scripted.of({"error": {"code": 429, "message": "slow down", "status": "RESOURCE_EXHAUSTED"}}, 429)


def talk(gateway, *asked):
    """Requests (method, path, body, headers) one after the other; their replies."""

    async def run():
        replies = []
        for number, (method, path, body, headers) in enumerate(asked):
            path, _, query = path.partition("?")
            data = b"" if body is None else json.dumps(body).encode()
            request = HttpRequest(
                method=method,
                path=path,
                query=query,
                headers=(("host", "localhost:8045"), *headers),
                body=data,
                peer="127.0.0.1",
                id=f"req_{number}",
            )
            reply = FakeReply()
            await gateway.handle(request, reply)
            replies.append(reply)
        await gateway.close()
        return replies

    return asyncio.run(run())


def get(path, *headers):
    return ("GET", path, None, headers)


def post(path, body=None, *headers):
    return ("POST", path, body or {}, (*JSON, *headers))


def entry(number, **more):
    values = {"id": f"req_{number}", "at": float(NOW), "method": "POST", "path": "/v1/x", "status": 200, "attempts": 1}
    return Entry(**(values | {"protocol": "openai_chat"} | more))


# --- the tally -------------------------------------------------------------------------------------------------


def test_what_several_processes_counted_is_their_sum():
    one, other = Tally(), Tally()
    for tally in (one, other):
        for seconds in (0.1, 0.1, 0.1, 2.0):
            tally.add(entry(1, total_seconds=seconds, prompt_tokens=5, output_tokens=2, account="a"))
    other.add(entry(2, status=429, account="b", outcomes=("a=429", "b=429"), error="rate_limit_exceeded"))

    # As it comes from another process.
    found = merged([one.told(NOW + 2), json.loads(json.dumps(other.told(NOW + 2)))], NOW + 2)

    assert (found["requests"], found["errors"], found["prompt_tokens"], found["output_tokens"]) == (9, 1, 40, 16)
    assert found["per_minute"]["requests"] == 9
    assert sum(found["recent"]["requests"]) == 9
    assert len(found["recent"]["requests"]) == len(found["recent"]["p50"]) == STEPS
    assert found["latency"]["p50"] == pytest.approx(0.1, rel=0.1)
    assert found["latency"]["p95"] == pytest.approx(2.0, rel=0.1)
    assert found["accounts"] == {
        "a": {"served": 8, "failed": 1, "tokens": 56},
        "b": {"served": 0, "failed": 1, "tokens": 0},
    }
    assert [row["status"] for row in found["errors_seen"]] == [429]


def test_what_is_older_than_five_minutes_counts_only_in_the_sums():
    tally = Tally()
    tally.add(entry(1, total_seconds=1.0))

    found = merged([tally.told(NOW + 1000)], NOW + 1000)

    assert found["requests"] == 1
    assert sum(found["recent"]["requests"]) == 0
    assert found["latency"]["p50"] is None


def test_so_many_of_the_newest_are_remembered_and_failures_longer_and_no_probe_pushes_them_out():
    tally = Tally(3)
    for number in range(100):
        tally.add(entry(number, status=429 if number == 10 else 200))
    tally.add(entry(100, protocol="gateway"))

    assert [one.id for _, one in tally.recent] == ["req_97", "req_98", "req_99", "req_100"]
    assert (tally.find("req_98").id, tally.find("req_96")) == ("req_98", None)
    assert [row["id"] for row in tally.told(NOW)["errors"]] == ["req_10"]


def test_requests_to_the_gateway_itself_are_not_counted():
    tally = Tally()
    tally.add(entry(1, protocol="admin"))
    tally.add(entry(2, protocol="gateway"))

    assert tally.told(NOW)["sums"]["requests"] == 0
    assert tally.latest(Wanted(only_api=True), 9) == []
    assert len(tally.latest(Wanted(), 9)) == 2


# --- requests --------------------------------------------------------------------------------------------------


def test_requests_are_listed_the_newest_first_and_filtered_without_a_journal():
    gateway = make_gateway(FakeUpstream([Scripted.of(ANSWER), LIMITED]), config=Config(max_wait_seconds=0))
    *_, all_of_them, errors, none, paged = talk(
        gateway,
        post("/v1/chat/completions", CHAT),
        post("/v1/chat/completions", CHAT | {"model": "gemini-2.5-pro"}),
        get("/v1/agproxy/requests"),
        get("/v1/agproxy/requests?errors=true"),
        get("/v1/agproxy/requests?model=nothing-*"),
        get("/v1/agproxy/requests?limit=1"),
    )

    assert all_of_them.json["source"] == "memory"
    assert [row["id"] for row in all_of_them.json["data"]] == ["req_1", "req_0"]
    assert all_of_them.json["data"][1]["output_tokens"] == 3
    assert [row["status"] for row in errors.json["data"]] == [429]
    assert none.json["data"] == []
    assert paged.json["has_more"] is True
    assert b"SECRET-PROMPT" not in all_of_them.body


def test_one_request_tells_each_attempt():
    gateway = make_gateway(FakeUpstream([LIMITED, Scripted.of(ANSWER)]), "k1", "k2")
    _, found, missing = talk(
        gateway,
        post("/v1/chat/completions", CHAT),
        get("/v1/agproxy/requests/req_0"),
        get("/v1/agproxy/requests/req_none"),
    )

    assert [step["event"] for step in found.json["steps"]] == ["picked", "failed", "picked", "answered"]
    assert found.json["recording"] is None
    assert missing.status == 404
    assert missing.json["error"]["code"] == "request_not_found"


@pytest.mark.parametrize("query", ["limit=0", "limit=501", "limit=x", "before=-1"])
def test_a_filter_that_is_none_is_refused_by_name(query):
    (reply,) = talk(make_gateway(FakeUpstream([])), get(f"/v1/agproxy/requests?{query}"))

    assert reply.status == 400
    assert reply.json["error"]["param"] == query.partition("=")[0]


# --- accounts --------------------------------------------------------------------------------------------------


def accounts_file(home, *keys):
    rows = [{"kind": "gemini_api_key", "label": key, "secret": {"api_key": key}} for key in keys]
    file = home / "accounts.json"
    file.write_text(json.dumps({"version": 1, "accounts": rows}))
    file.chmod(0o600)
    return file


def managed(tmp_path, monkeypatch, *keys, script=(), **settings):
    """A gateway whose accounts are those of a file and of the environment."""
    monkeypatch.setenv("GEMINI_API_KEY", "AIza-of-the-environment")
    monkeypatch.delenv("GOOGLE_API_KEY", raising=False)
    accounts_file(tmp_path, *keys)
    gateway = make_gateway(FakeUpstream(list(script)), config=Config(**settings), registry=Registry(tmp_path))
    gateway.use_accounts(tuple(Account(id=key_id(key), key=key) for key in keys))
    return gateway


def test_accounts_tell_their_state_and_no_key(tmp_path, monkeypatch):
    gateway = managed(tmp_path, monkeypatch, "AIza-one", script=[LIMITED], max_wait_seconds=0)
    _, found = talk(gateway, post("/v1/chat/completions", CHAT), get("/v1/agproxy/accounts"))

    rows = {row["id"]: row for row in found.json["data"]}
    mine, of_environment = rows[key_id("AIza-one")], rows[key_id("AIza-of-the-environment")]
    assert mine["state"] == "limited"
    assert mine["limits"][0]["model"] == "gemini-2.5-flash"
    assert mine["limits"][0]["cause"] == "limit"
    assert mine["failed"] == 1
    assert of_environment["is_changeable"] is False
    assert "GEMINI_API_KEY" in of_environment["why_not"]
    assert b"AIza-one" not in found.body.replace(b'"label":"AIza-one"', b"")
    assert b"AIza-of-the" not in found.body


def test_an_account_is_disabled_in_the_file_and_one_of_the_environment_says_why_not(tmp_path, monkeypatch):
    gateway = managed(tmp_path, monkeypatch, "AIza-one")
    mine, other = key_id("AIza-one"), key_id("AIza-of-the-environment")
    disabled, found, refused, missing = talk(
        gateway,
        post(f"/v1/agproxy/accounts/{mine}/disable"),
        get("/v1/agproxy/accounts"),
        post(f"/v1/agproxy/accounts/{other}/disable"),
        post("/v1/agproxy/accounts/nobody/enable"),
    )

    assert disabled.status == 200
    assert json.loads((tmp_path / "accounts.json").read_text())["accounts"][0]["enabled"] is False
    assert {row["id"]: row["state"] for row in found.json["data"]}[mine] == "disabled"
    assert (refused.status, refused.json["error"]["code"]) == (409, "account_not_changeable")
    assert missing.status == 404


def test_limits_are_forgotten(tmp_path, monkeypatch):
    gateway = managed(tmp_path, monkeypatch, "AIza-one", script=[LIMITED], max_wait_seconds=0)
    *_, found = talk(
        gateway,
        post("/v1/chat/completions", CHAT),
        post(f"/v1/agproxy/accounts/{key_id('AIza-one')}/reset"),
        get("/v1/agproxy/accounts"),
    )

    assert {row["id"]: row["state"] for row in found.json["data"]}[key_id("AIza-one")] == "ready"


def test_an_account_is_tested_and_what_upstream_quotes_of_its_key_is_not_told(tmp_path, monkeypatch):
    denied = Scripted.of({"error": {"code": 403, "message": "key AIza-one is bad", "status": "PERMISSION_DENIED"}}, 403)
    gateway = managed(tmp_path, monkeypatch, "AIza-one", script=[Scripted.of(ANSWER), denied])
    path = f"/v1/agproxy/accounts/{key_id('AIza-one')}/test"
    good, bad, wrong = talk(gateway, post(path), post(path), post(path, {"model": 5}))

    assert (good.json["ok"], good.json["status"]) == (True, 200)
    assert (bad.json["ok"], bad.json["status"]) == (False, 403)
    assert b"AIza-one" not in bad.body
    assert wrong.status == 400


def test_an_accounts_file_that_cannot_be_read_is_told_and_the_rest_is_seen(tmp_path, monkeypatch):
    gateway = managed(tmp_path, monkeypatch, "AIza-one")
    (tmp_path / "accounts.json").write_text("{broken")

    (reply,) = talk(gateway, get("/v1/agproxy/accounts"))
    snapshot = asyncio.run(gateway._admin.snapshot())

    assert reply.status == 503
    assert "accounts file" in snapshot["problem"]
    assert snapshot["in_flight"] == 0


# --- models ----------------------------------------------------------------------------------------------------


def test_the_mapping_and_why_a_name_means_what_it_means():
    config = Config(model_map=(("fast", "gemini-2.5-flash-lite"), ("my-*", "gemini-2.5-pro")))
    gateway = make_gateway(FakeUpstream([Scripted.of({"models": []})] * 3), config=config)
    table, exact, unknown, wrong = talk(
        gateway,
        get("/v1/agproxy/models"),
        post("/v1/agproxy/explain", {"model": "fast"}),
        post("/v1/agproxy/explain", {"model": "llama-9"}),
        post("/v1/agproxy/explain", {}),
    )

    assert table.json["data"][0] == {"name": "fast", "model": "gemini-2.5-flash-lite", "rule": "model_map: fast"}
    assert exact.json["model"] == "gemini-2.5-flash-lite"
    assert "exact rule" in exact.json["why"]
    assert unknown.json["model"] is None
    assert wrong.status == 400


# --- who may -----------------------------------------------------------------------------------------------------


def test_with_an_admin_key_nothing_is_told_or_changed_without_it():
    gateway = make_gateway(FakeUpstream([]), config=Config(admin_key="owner", api_key=(("a", "client"),)))
    bearer = (("authorization", "Bearer owner"),)
    for route in build_routes():
        if not route.pattern.startswith("/agproxy/") or route.action == "live":
            continue
        path = "/v1" + route.pattern.replace("{", "").replace("}", "")
        for headers in ((), (("authorization", "Bearer client"),)):
            (reply,) = talk(gateway, (route.method, path, {}, (*JSON, *headers)))
            assert reply.status == 401, path
    (reply,) = talk(gateway, get("/v1/agproxy/status", *bearer))
    assert reply.status == 200
    assert b"owner" not in reply.body
    assert b'client"' not in reply.body.replace(b'"client":', b"")


@pytest.mark.parametrize("origin", ["http://localhost:3000", "http://127.0.0.1:9", "https://evil.example", "null"])
def test_pages_of_other_origins_see_and_change_nothing_without_a_key(origin):
    gateway = make_gateway(FakeUpstream([]))
    headers = (("origin", origin),)
    for asked in (
        get("/v1/agproxy/status", *headers),
        get("/v1/agproxy/live", *headers),
        post("/v1/agproxy/accounts/account-k/reset", {}, *headers),
    ):
        (reply,) = talk(gateway, asked)
        assert (reply.status, reply.json["error"]["code"]) == (403, "origin_not_allowed")


def test_the_gateway_s_own_page_may():
    gateway = make_gateway(FakeUpstream([]))
    own = (("origin", "http://localhost:8045"),)
    (reply,) = talk(gateway, post("/v1/agproxy/accounts/account-k/reset", {}, *own))

    assert reply.status == 200


def test_a_page_on_a_name_that_was_allowed_is_of_the_same_origin():
    gateway = make_gateway(FakeUpstream([]), config=Config(allowed_hosts=("box.lan",)))

    def asked(origin):
        request = HttpRequest(
            method="POST",
            path="/v1/agproxy/accounts/account-k/reset",
            query="",
            headers=(("host", "box.lan:8045"), ("origin", origin), *JSON),
            body=b"{}",
            peer="127.0.0.1",
            id="req_1",
        )
        reply = FakeReply()
        asyncio.run(gateway.handle(request, reply))
        return reply.status

    assert asked("http://box.lan:8045") == 200
    assert asked("http://box.lan:8046") == 403


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_what_a_form_can_send_changes_nothing(content_type):
    gateway = make_gateway(FakeUpstream([]))
    asked = ("POST", "/v1/agproxy/accounts/account-k/reset", {}, (("content-type", content_type),))
    (reply,) = talk(gateway, asked)

    assert reply.status == 415


# --- the page ----------------------------------------------------------------------------------------------------


def test_the_page_needs_no_key_and_allows_nothing_from_elsewhere():
    config = Config(auth_mode="strict", api_key=(("a", "sk-client"),))
    gateway = make_gateway(FakeUpstream([]), config=config, read_page=read_page)
    for path in ("/ui", *(f"/ui/{file.name}" for file in PAGES)):
        (reply,) = talk(gateway, get(path))
        assert reply.status == 200
        policy = reply.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; ")
        assert "unsafe" not in policy
        assert "http" not in policy
        assert "frame-ancestors 'none'" in policy
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["referrer-policy"] == "no-referrer"
    (moved,) = talk(gateway, get("/ui/"))
    assert (moved.status, moved.headers["location"]) == (308, "../ui")


@pytest.mark.parametrize("path", ["/ui/nothing", "/ui/..%2Fconfig.py", "/ui/%2e%2e", "/ui/../config.py"])
def test_no_other_file_is_served(path):
    (reply,) = talk(make_gateway(FakeUpstream([]), read_page=read_page), get(path))

    assert reply.status == 404


def test_the_page_is_small_and_makes_no_html_of_text():
    sources = {file.name: file.read_text(encoding="utf-8") for file in PAGES}

    assert sum(len(source.splitlines()) for source in sources.values()) < 1200
    for name, source in sources.items():
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\(|new Function|style=", source
        ), name
        if name != "icon.svg":
            assert not re.search(r"https?://(?!www\.w3\.org/)", source), name


def test_the_page_can_be_switched_off():
    gateway = make_gateway(FakeUpstream([]), config=Config(ui=False), read_page=read_page)
    (reply,) = talk(gateway, get("/ui"))

    assert reply.status == 404


# --- OpenAPI ------------------------------------------------------------------------------------------------------


def test_each_route_is_documented_and_none_is_invented():
    document = ask(make_gateway(FakeUpstream([])), "/openapi.json", None, "GET").json
    documented = {(method.upper(), path) for path, one in document["paths"].items() for method in one}

    assert documented == {(route.method, openapi.path_of(route.pattern)) for route in build_routes()}
    assert set(openapi.SAID) == {(route.method, route.pattern) for route in build_routes()}
    operations = [operation for one in document["paths"].values() for operation in one.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)


def test_the_document_is_valid():
    validator = pytest.importorskip("openapi_spec_validator")

    validator.validate(json.loads(json.dumps(openapi.document(build_routes()))))


def test_each_schema_is_used_and_there():
    text = json.dumps(openapi.document(build_routes()))
    for name in openapi._SCHEMAS:
        assert f'"#/components/schemas/{name}"' in text, name
    for said in openapi.SAID.values():
        assert {said.body, said.answer} - {""} <= set(openapi._SCHEMAS)


def test_what_is_answered_has_what_the_document_promises(tmp_path, monkeypatch):
    gateway = managed(tmp_path, monkeypatch, "AIza-one", script=[Scripted.of(ANSWER), Scripted.of(ANSWER)])
    mine = key_id("AIza-one")
    _, *replies = talk(
        gateway,
        post("/v1/chat/completions", CHAT),
        get("/v1/agproxy/status"),
        get("/v1/agproxy/requests"),
        get("/v1/agproxy/requests/req_0"),
        get("/v1/agproxy/accounts"),
        post(f"/v1/agproxy/accounts/{mine}/reset"),
        post(f"/v1/agproxy/accounts/{mine}/test"),
    )
    for reply, name in zip(replies, ("Status", "RequestList", "Request", "AccountList", "Change", "Test"), strict=True):
        fits(reply.json, {"$ref": f"#/components/schemas/{name}"})


TYPES = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "object": dict, "array": list}


def fits(value, schema):
    """What is promised is there, and of the promised type."""
    if "$ref" in schema:
        schema = openapi._SCHEMAS[schema["$ref"].rpartition("/")[2]]
    if "const" in schema:
        assert value == schema["const"]
    if "enum" in schema:
        assert value in schema["enum"]
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    assert not kinds or (value is None and "null" in kinds) or any(isinstance(value, TYPES.get(k, ())) for k in kinds)
    if isinstance(value, dict):
        for name in schema.get("required", ()):
            assert name in value
        for name, inner in schema.get("properties", {}).items():
            if name in value:
                fits(value[name], inner)
    if isinstance(value, list) and "items" in schema:
        for one in value:
            fits(one, schema["items"])


# --- what the owner's own requests leave


def test_what_the_owner_reads_is_not_recorded_once_more():
    seen = []
    config = Config(journal_bodies="all")
    gateway = make_gateway(FakeUpstream([Scripted.of(ANSWER)]), config=config, observers=(seen.append,))
    talk(gateway, post("/v1/chat/completions", CHAT), get("/v1/agproxy/requests"), get("/v1/agproxy/status"))

    assert [entry.recording is not None for entry in seen] == [True, False, False]
    assert all(entry.recording is None for _, entry in gateway._admin.tally.recent)


def test_the_head_of_the_live_stream_ends():
    (reply,) = talk(make_gateway(FakeUpstream([])), ("HEAD", "/v1/agproxy/live", None, ()))

    assert (reply.status, reply.has_ended, reply.body) == (200, True, b"")


def test_who_leaves_the_live_stream_has_not_failed():
    seen = []
    gateway = make_gateway(FakeUpstream([]), observers=(seen.append,))

    async def run():
        request = HttpRequest(
            method="GET",
            path="/v1/agproxy/live",
            query="",
            headers=(("host", "localhost"),),
            body=b"",
            peer="127.0.0.1",
            id="req_1",
        )
        reply = FakeReply()
        task = asyncio.create_task(gateway.handle(request, reply))
        while not reply.writes:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        await gateway.close()

    asyncio.run(run())
    assert [entry.status for entry in seen] == [200]


# --- a real process ----------------------------------------------------------------------------------------------


class Live:
    """The live stream of a process."""

    def __init__(self, running):
        parts = urlsplit(running.url)
        self.connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
        self.connection.request("GET", "/v1/agproxy/live")
        self.answer = self.connection.getresponse()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.answer.close()
        self.connection.close()

    def next(self):
        while not (line := self.answer.readline()).startswith(b"data: "):
            if not line:
                return None
        return json.loads(line[6:])

    def until(self, holds):
        end = time.monotonic() + 15
        while time.monotonic() < end:
            if holds(snapshot := self.next()):
                return snapshot
        raise AssertionError(snapshot)


def test_a_live_stream_counts_all_workers_and_ends_when_the_gateway_does(tmp_path):
    running = start("serve", "--simulate", "on", "--workers", "2", home=tmp_path)
    try:
        for _ in range(12):
            assert running.chat("hello").status == 200
        with Live(running) as live:
            snapshot = live.until(lambda one: one["workers"] == 2 and one["requests"] == 12)
            assert snapshot["per_minute"]["requests"] == 12
            assert snapshot["in_flight"] == 0
            assert snapshot["accounts"][0]["served"] == 12
            began = time.monotonic()
            assert running.stop() == 0
            assert time.monotonic() - began < 15  # drain_seconds are 30: nobody waits for who looks on
            assert live.until(lambda one: one is None) is None
    finally:
        running.stop()


def test_recorded_bodies_are_shown_and_a_disabled_account_is_asked_no_more(tmp_path, simulator):
    accounts_file(tmp_path, "good-one", "good-two")
    flags = ("--upstream-url", simulator.url, "--journal-bodies", "all", "--reload-seconds", "0.05")
    running = start("serve", *flags, home=tmp_path)
    try:
        identifier = running.chat("hello").headers["x-request-id"]
        found = running.ask(f"/v1/agproxy/requests/{identifier}").json
        assert "hello" in found["recording"]["request"]["body"]
        assert len(found["recording"]["calls"]) == 1
        listed = running.ask("/v1/agproxy/requests?limit=5").json
        assert listed["source"] == "journal"
        assert [row["id"] for row in listed["data"]] == [identifier]

        path = f"/v1/agproxy/accounts/{key_id('good-one')}"
        assert running.ask(f"{path}/disable", {}, headers=dict(JSON)).status == 200
        with Live(running) as live:
            live.until(lambda one: [row["is_used"] for row in one["accounts"]] == [False, True])
        assert {running.chat("x").headers["x-account-id"] for _ in range(4)} == {key_id("good-two")}
        assert running.ask(f"{path}/test", {}, headers=dict(JSON)).json["ok"] is True
    finally:
        running.stop()
