"""One entry for each request, however it ends, and what stands in it: on a scripted upstream, within one loop."""

import asyncio
import json
import logging
import time

import pytest
from fakes import NOW, FakeReply, FakeUpstream, Scripted, make_gateway

from agproxy.config import Config
from agproxy.entries import CUT_SHORT, Entry, from_value, json_line, text_line, to_value, told_steps
from agproxy.errors import UpstreamFailed
from agproxy.exchange import Stream
from agproxy.http11 import HttpRequest
from agproxy.io import logs
from agproxy.io.state import State

MODEL = "gemini-2.5-flash"
CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "a prompt"}]}
KEYED = Config(keepalive_seconds=0.0, auth_mode="strict", api_key=(("ann", "key-of-ann"),))
USAGE = {
    "promptTokenCount": 30,
    "cachedContentTokenCount": 10,
    "candidatesTokenCount": 2,
    "thoughtsTokenCount": 5,
    "totalTokenCount": 37,
}


def chunk(text, finish="STOP"):
    candidate = {"content": {"role": "model", "parts": [{"text": text}]}}
    if finish is not None:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], "usageMetadata": USAGE}


def event(text, finish="STOP"):
    return b"data: " + json.dumps(chunk(text, finish)).encode() + b"\r\n\r\n"


def failure(status):
    return Scripted.of({"error": {"code": status, "message": "no", "status": "X"}}, status)


class Stuck(Scripted):
    """An answer that never comes to its end: a whole one not at all, a stream stands still after its first word."""

    def __init__(self):
        super().__init__()
        self.has_begun = asyncio.Event()

    async def read(self):
        self.has_begun.set()
        await asyncio.Event().wait()

    async def pump(self, feed, reply=None):
        feed(event("first ", finish=None))
        await self.read()


class Front:
    """A gateway that is looked at, and requests with ids of their own."""

    def __init__(self, *script, config=None, store=None, observers=()):
        self.entries = []
        self.upstream = FakeUpstream(list(script))
        self.gateway = make_gateway(
            self.upstream, config=config, store=store, observers=(*observers, self.entries.append)
        )
        self._count = 0

    def request(self, path="/v1/chat/completions", body=CHAT, method="POST", headers=(), query=""):
        self._count += 1
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = (("host", "localhost"), *headers)
        return HttpRequest(
            method=method,
            path=path,
            query=query,
            headers=headers,
            body=data,
            peer="127.0.0.1",
            id=f"req_{self._count}",
        )

    async def ask(self, *args, **more):
        reply = FakeReply()
        await self.gateway.handle(self.request(*args, **more), reply)
        return reply

    def ask_once(self, *args, **more):
        """One request to its end, and the one entry of it."""
        reply = asyncio.run(self.ask(*args, **more))
        assert self.gateway.in_flight == {}
        (entry,) = self.entries
        return reply, entry


# --- what stands in an entry -----------------------------------------------------------------------------------


def test_a_whole_answer_leaves_what_it_was_and_what_it_cost():
    front = Front(Scripted.of(chunk("an answer")), config=KEYED)

    reply, entry = front.ask_once(headers=(("authorization", "Bearer key-of-ann"),))

    assert (entry.id, entry.client, entry.peer, entry.protocol) == ("req_1", "ann", "127.0.0.1", "openai_chat")
    assert (entry.method, entry.path, entry.action, entry.is_stream) == (
        "POST",
        "/v1/chat/completions",
        "create",
        False,
    )
    assert (entry.model_asked, entry.model, entry.account) == ("gpt-4o", MODEL, "account-k")
    assert (entry.status, entry.error, entry.message, entry.is_error) == (200, None, None, False)
    assert (entry.attempts, entry.outcomes) == (1, ())
    assert (entry.bytes_in, entry.bytes_out) == (len(json.dumps(CHAT)), len(reply.body))
    tokens = (entry.prompt_tokens, entry.cached_tokens, entry.output_tokens, entry.reasoning_tokens)
    assert tokens == (30, 10, 7, 5)
    assert entry.at == pytest.approx(NOW, abs=60)
    assert (entry.first_byte_seconds, entry.total_seconds) == (0.0, 0.0)  # the fake clock stands still
    assert [step["event"] for step in entry.steps] == ["picked", "answered"]


def test_a_stream_leaves_the_same_and_every_byte_of_its_body_is_counted():
    front = Front(Scripted(pieces=[event("an ", None), event("answer")]))

    reply, entry = front.ask_once(body=CHAT | {"stream": True})

    assert entry.is_stream
    assert (entry.status, entry.bytes_out) == (200, len(reply.body))
    assert (entry.prompt_tokens, entry.output_tokens) == (30, 7)
    assert entry.first_byte_seconds == 0.0


def test_several_calls_of_one_answer_are_summed_as_its_usage_is():
    front = Front(Scripted.of(chunk("one")), Scripted.of(chunk("two")))
    body = {"model": MODEL, "prompt": ["a", "b"]}

    reply, entry = front.ask_once("/v1/completions", body)

    usage = reply.json["usage"]
    assert (entry.prompt_tokens, entry.output_tokens) == (usage["prompt_tokens"], usage["completion_tokens"])
    assert (entry.attempts, entry.protocol) == (2, "openai_completions")


def test_failed_attempts_and_warnings_are_told():
    front = Front(failure(503), Scripted.of(chunk("an answer")))
    front.gateway.use_accounts(make_gateway(front.upstream, "k", "l").pool.accounts)

    _, entry = front.ask_once(body=CHAT | {"logit_bias": {"1": 1}})

    assert (entry.status, entry.attempts) == (200, 2)
    assert [outcome.rpartition("=")[2] for outcome in entry.outcomes] == ["503"]
    assert any("logit_bias" in notice for notice in entry.notices)
    assert [step["event"] for step in entry.steps] == ["picked", "failed", "picked", "answered"]


def test_an_entry_comes_back_from_its_json_and_survives_a_later_versions_fields():
    _, entry = Front(Scripted.of(chunk("an answer"))).ask_once(body=CHAT | {"logit_bias": {}})

    value = json.loads(json.dumps(to_value(entry)))

    assert from_value(value | {"of_tomorrow": 1}) == from_value(value)
    assert (from_value(value).steps, from_value(value).notices) == (tuple(told_steps(entry.steps)), entry.notices)
    with pytest.raises(ValueError, match="no entry"):
        from_value({"id": "req_1"})


def test_no_prompt_and_no_answer_is_in_an_entry():
    front = Front(Scripted.of(chunk("an answer")))

    _, entry = front.ask_once(query="key=SECRET")

    assert not any(word in repr(to_value(entry)) for word in ("a prompt", "an answer", "SECRET"))


# --- exactly one, however it ends ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "method", "body", "status", "error"),
    [
        ("/healthz", "GET", b"", 200, None),
        ("/healthz", "HEAD", b"", 200, None),
        ("/v1/chat/completions", "OPTIONS", b"", 204, None),
        ("/v1/chat/completions", "POST", b"{", 400, "InvalidRequest"),
        ("/v1/chat/completions", "POST", {"model": "gpt-4o"}, 400, "missing_required_parameter"),
        ("/v1/chat/completions", "POST", CHAT | {"model": "no-such"}, 404, "model_not_found"),
        ("/v1/nowhere", "POST", b"", 404, "NotFound"),
        ("/v1/chat/completions", "PUT", b"", 405, "method_not_supported"),
        ("/v1/models/no-such", "GET", b"", 404, "model_not_found"),
    ],
)
def test_what_is_answered_without_upstream(path, method, body, status, error):
    front = Front(failure(500))  # for the list of models, where that is asked for

    reply, entry = front.ask_once(path, body, method)

    assert (reply.status, entry.status, entry.error) == (status, status, error)
    assert entry.is_error is (status >= 400)
    assert entry.bytes_out == (0 if method == "HEAD" else len(reply.body))
    assert (entry.first_byte_seconds is None) is entry.is_error
    assert entry.attempts == 0


def test_a_client_that_is_kept_out():
    _, entry = Front(config=KEYED).ask_once(headers=(("authorization", "Bearer wrong"),))

    assert (entry.status, entry.error, entry.client, entry.protocol) == (401, "invalid_api_key", None, "")
    assert "wrong" not in repr(entry)


def test_upstream_that_fails():
    front = Front(failure(500), failure(500), failure(500))
    front.gateway.use_accounts(make_gateway(front.upstream, "k", "l", "m").pool.accounts)

    _, entry = front.ask_once()

    assert (entry.status, entry.attempts, entry.is_error) == (500, 3, True)
    assert entry.message
    assert entry.first_byte_seconds is None


def test_a_stream_that_fails_in_the_middle():
    front = Front(Scripted(pieces=[event("first", None)], error=UpstreamFailed("The line broke.", code="broken")))

    reply, entry = front.ask_once(body=CHAT | {"stream": True})

    assert reply.status == 200
    assert (entry.status, entry.error, entry.message) == (502, "broken", "The line broke.")
    assert (entry.prompt_tokens, entry.bytes_out) == (30, len(reply.body))  # what was counted until then


def test_a_stream_that_fails_before_its_first_byte():
    _, entry = Front(failure(400)).ask_once(body=CHAT | {"stream": True})

    assert (entry.status, entry.is_stream, entry.first_byte_seconds) == (400, True, None)


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_client_that_leaves(is_stream):
    async def test():
        stuck = Stuck()
        front = Front(stuck)
        task = asyncio.create_task(front.ask(body=CHAT | {"stream": is_stream}))
        await stuck.has_begun.wait()
        (progress,) = front.gateway.in_flight.values()
        assert (progress.model, progress.attempts, progress.is_stream) == (MODEL, 1, is_stream)
        task.cancel()
        await asyncio.wait({task})
        return front

    front = asyncio.run(test())
    (entry,) = front.entries
    assert (entry.status, entry.error, entry.account) == (CUT_SHORT, "cut_short", "account-k")
    assert entry.prompt_tokens == (30 if is_stream else 0)
    assert front.gateway.in_flight == {}


def test_a_bug(monkeypatch):
    def fail(self, frames):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(Stream, "write", fail)
    front = Front(Scripted(pieces=[event("an answer")]))

    with pytest.raises(ZeroDivisionError):
        asyncio.run(front.ask(body=CHAT | {"stream": True}))

    (entry,) = front.entries
    assert (entry.status, entry.error, entry.message) == (500, "InternalError", "ZeroDivisionError")


# --- background runs -------------------------------------------------------------------------------------------


def background(*script, **more):
    """A front that keeps things; call `close` at the end."""
    store = State(None, max_age_seconds=1e9, max_bytes=1 << 30)
    return Front(*script, store=store, **more), store


def run_in_background(script, act, *, is_stream=False):
    """Begin a run, `act(front, response id, asking)`, and close; the entries of /responses."""

    async def test():
        front, store = background(script)
        body = {"model": MODEL, "input": "a", "background": True, "stream": is_stream}
        asking = asyncio.create_task(front.ask("/v1/responses", body))
        if not is_stream:
            await asking
        await act(front, asking)
        await front.gateway.close()
        await store.close()
        assert front.gateway.in_flight == {}
        return [entry for entry in front.entries if entry.path == "/v1/responses"]

    return asyncio.run(test())


def test_a_background_run_has_its_entry_when_it_has_ended():
    async def act(front, asking):
        assert front.entries == []
        while front.gateway.in_flight:
            await asyncio.sleep(0)

    (entry,) = run_in_background(Scripted(pieces=[event("an answer")]), act)

    assert (entry.id, entry.status, entry.protocol, entry.attempts) == ("req_1", 200, "openai_responses", 1)
    assert (entry.prompt_tokens, entry.output_tokens) == (30, 7)


@pytest.mark.parametrize("has_begun", [False, True])
def test_a_background_run_that_the_gateways_stop_cuts_short(has_begun):
    stuck = Stuck()

    async def act(front, asking):
        if has_begun:
            await stuck.has_begun.wait()

    (entry,) = run_in_background(stuck, act)

    assert (entry.status, entry.error) == (500, "InternalError")


def test_a_background_run_that_its_client_cancels():
    stuck = Stuck()

    async def act(front, asking):
        await stuck.has_begun.wait()
        identifier = asking.result().json["id"]
        assert (await front.ask(f"/v1/responses/{identifier}/cancel", b"")).status == 200

    (entry,) = run_in_background(stuck, act)

    assert (entry.status, entry.error) == (CUT_SHORT, "cancelled")


def test_a_background_stream_whose_client_leaves_ends_with_its_run():
    stuck = Stuck()

    async def act(front, asking):
        await stuck.has_begun.wait()
        asking.cancel()
        await asyncio.wait({asking})
        assert front.entries == []
        assert list(front.gateway.in_flight) == ["req_1"]

    (entry,) = run_in_background(stuck, act, is_stream=True)

    assert (entry.status, entry.is_stream) == (500, True)


# --- observers and lines ---------------------------------------------------------------------------------------


def test_an_observer_that_fails_breaks_nothing(caplog):
    def fail(entry):
        raise ZeroDivisionError("a bug")

    front = Front(Scripted.of(chunk("an answer")), observers=(fail,))

    reply, entry = front.ask_once()

    assert (reply.status, entry.status) == (200, 200)
    assert "an observer failed" in caplog.text


LINE = Entry(
    id="req_1",
    at=NOW,
    client="ann",
    method="POST",
    path="/v1/chat/completions",
    protocol="openai_chat",
    is_stream=True,
    model_asked="gpt-4o\n",
    model=MODEL,
    account="key-1",
    attempts=2,
    outcomes=("key-0=429",),
    status=502,
    error="broken",
    message="The line broke.",
    bytes_in=10,
    bytes_out=20,
    prompt_tokens=30,
    cached_tokens=10,
    output_tokens=7,
    reasoning_tokens=5,
    first_byte_seconds=0.25,
    total_seconds=1.5,
    waited_seconds=0.1,
    notices=("seed: ignored",),
    trace="4bf92f3577b34da6a3ce929d0e0e4736",
)


def test_the_line_for_people_tells_what_there_is_and_leaves_out_the_rest():
    assert text_line(LINE) == (
        "req_1 POST /v1/chat/completions -> 502 openai_chat gpt-4o\\n=gemini-2.5-flash key-1 client=ann attempts=2 "
        "bytes=10+20 "
        "tokens=30+7 cached=10 thinking=5 first=250ms 1500ms waited=100ms trace=4bf92f3577b34da6a3ce929d0e0e4736 broken"
    )
    assert text_line(Entry(id="req_2", at=NOW, method="GET", path="/healthz", status=200, bytes_out=5)) == (
        "req_2 GET /healthz -> 200 bytes=0+5 0ms"
    )


def test_the_line_for_programs_is_one_json_object():
    line = json_line(LINE)

    assert "\n" not in line
    value = json.loads(line)
    assert value["prompt_tokens"] == 30
    assert (value["model_asked"], value["notices"], value["client"]) == ("gpt-4o\n", ["seed: ignored"], "ann")
    assert "steps" not in value


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_access_log_is_the_first_observer(form, caplog):
    caplog.set_level(logging.INFO, "agproxy.access")
    front = Front(Scripted.of(chunk("an answer")), config=Config(keepalive_seconds=0.0, log_format=form))

    _, entry = front.ask_once(body=CHAT | {"logit_bias": {"1": 1}})

    lines = [record.getMessage() for record in caplog.records if record.name == "agproxy.access"]
    if form == "json":
        (line,) = lines
        assert json.loads(line)["prompt_tokens"] == 30
    else:
        assert lines[0] == text_line(entry)
        assert lines[1].startswith("req_1 warnings: ")


# --- traces ----------------------------------------------------------------------------------------------------

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_trace_goes_on_upstream_with_a_span_of_the_gateways_own(is_stream):
    script = Scripted(pieces=[event("x")]) if is_stream else Scripted.of(chunk("x"))
    front = Front(script)
    headers = (("traceparent", PARENT), ("tracestate", "a=1"), ("tracestate", "b=2"))

    _, entry = front.ask_once(body=CHAT | {"stream": is_stream}, headers=headers)

    sent = dict(front.upstream.calls[0].headers)
    version, trace, span, flags = sent["traceparent"].split("-")
    assert (version, trace, flags, sent["tracestate"]) == ("00", "4bf92f3577b34da6a3ce929d0e0e4736", "01", "a=1,b=2")
    assert len(span) == 16
    assert span not in (PARENT.split("-")[2], "0" * 16)
    assert entry.trace == trace


@pytest.mark.parametrize(
    ("parents", "expected"),
    [
        ((), None),
        ((PARENT,), "00"),
        (("cc" + PARENT[2:],), "00"),  # a later version is read as this one
        (("cc" + PARENT[2:] + "-what-comes",), "00"),
        (("ff" + PARENT[2:],), None),
        ((PARENT + "-more",), None),
        ((PARENT.upper(),), None),
        ((PARENT[:-1],), None),
        (("00-" + "0" * 32 + PARENT[35:],), None),
        ((PARENT[:36] + "0" * 16 + "-01",), None),
        ((PARENT, PARENT), None),
        ((PARENT[:-2] + "ff",), "03"),
    ],
)
def test_a_trace_is_taken_by_the_rules_or_not_at_all(parents, expected):
    front = Front(Scripted.of(chunk("x")))

    _, entry = front.ask_once(headers=(*(("traceparent", parent) for parent in parents), ("tracestate", "a=1")))

    sent = dict(front.upstream.calls[0].headers)
    assert (entry.trace is None) is (expected is None)
    assert ("traceparent" in sent, "tracestate" in sent) == (expected is not None,) * 2
    if expected is not None:
        assert sent["traceparent"].startswith("00-4bf92f3577b34da6a3ce929d0e0e4736-")
    if expected == "03":
        assert sent["traceparent"].endswith("-03")


@pytest.mark.parametrize("state", ["x" * 513, "a=\xe9", ""])
def test_a_state_that_cannot_go_on_is_left_out(state):
    front = Front(Scripted.of(chunk("x")))

    front.ask_once(headers=(("traceparent", PARENT), ("tracestate", state)))

    assert "tracestate" not in dict(front.upstream.calls[0].headers)


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_short_way_to_the_log_writes_what_logging_would(form, capsys, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1_795_000_000.5)
    monkeypatch.setattr(time, "time_ns", lambda: 1_795_000_000_500_000_000)  # of this, since 3.13, records have it
    root, other = logging.getLogger("agproxy"), logging.getLogger("asyncio")
    for logger, name, value in ((root, "handlers", []), (root, "propagate", True), (other, "handlers", [])):
        monkeypatch.setattr(logger, name, value)
    monkeypatch.setattr(root, "level", root.level)
    line = json_line(LINE) if form == "json" else text_line(LINE)
    logs.set_up("info", form)
    logging.getLogger("agproxy.access").info(line)
    logs.write_access(line)

    by_logging, by_us = capsys.readouterr().err.splitlines()
    assert by_us == by_logging
