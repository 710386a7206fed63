"""Several processes on one address: every answer is the same whichever worker gets the request, and none is lost when
workers come and go."""

import asyncio
import contextlib
import errno
import http.client
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from gated_gemini import GatedGemini
from running import ROOT, clean_environment, start
from scripted_gemini import ScriptedGemini, calls, says

from agproxy.account import Account, share_of
from agproxy.config import Config
from agproxy.embed import listening
from agproxy.entries import Wanted
from agproxy.errors import StateUnavailable
from agproxy.io.journal import FILE, Reader
from agproxy.io.workers import Worker

pytestmark = pytest.mark.skipif(os.name != "posix", reason="workers need POSIX")


# --- two workers in one loop, so that a test can choose who is asked ---------------------------------------------


@contextlib.asynccontextmanager
async def two_workers(folder, upstream_url, workers=None):
    """The base URLs of two workers that share a folder; `workers` takes them up."""
    config = Config(host="127.0.0.1", port=0, upstream_url=upstream_url, drain_seconds=0)
    shared = folder / "shared"
    shared.mkdir()
    async with contextlib.AsyncExitStack() as stack:
        urls = []
        for index in range(2):
            worker = Worker(shared, f"worker{index}", index, 2, config)
            running = await stack.enter_async_context(
                listening(config, (Account(id="a", key="k"),), folder, worker=worker)
            )
            if workers is not None:
                workers.append(worker)
            urls.append(f"http://127.0.0.1:{running.bound[0][1]}")
        yield urls


def ask(url, method, path, body=None):
    """(status, JSON or text) of one request."""
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=20)
    try:
        connection.request(method, path, None if body is None else json.dumps(body))
        answer = connection.getresponse()
        data = answer.read()
    finally:
        connection.close()
    is_json = answer.headers["content-type"] == "application/json"
    return answer.status, json.loads(data) if is_json else data.decode()


BACKGROUND = {"model": "gemini-2.5-flash", "input": "hello", "background": True}


def with_a_run(tmp_path, steps, body=BACKGROUND, count=2):
    """Begin a run at the first of two workers, and do `steps` with the URLs, the run's id and upstream."""

    async def main():
        with GatedGemini(count) as gemini:
            async with two_workers(tmp_path, gemini.url) as urls:
                _, response = await asyncio.to_thread(ask, urls[0], "POST", "/v1/responses", body)
                await asyncio.to_thread(steps, urls, response["id"], gemini)

    asyncio.run(main())


def status_at(url, identifier):
    found = ask(url, "GET", f"/v1/responses/{identifier}")[1]
    assert "status" in found, found
    return found["status"]


def test_a_run_of_another_worker_is_told_as_it_stands(tmp_path):
    def steps(urls, identifier, gemini):
        assert status_at(urls[1], identifier) in ("queued", "in_progress")
        for _ in range(2):
            gemini.goes_on.put(True)
        _, stream = ask(urls[1], "GET", f"/v1/responses/{identifier}?stream=true")
        assert stream.count("response.output_text.delta") >= 2
        assert status_at(urls[1], identifier) == status_at(urls[0], identifier) == "completed"

    with_a_run(tmp_path, steps)


def test_a_request_that_is_handed_on_is_one_entry_of_the_journal(tmp_path):
    def steps(urls, identifier, gemini):
        assert status_at(urls[1], identifier) in ("queued", "in_progress")
        assert ask(urls[1], "POST", f"/v1/responses/{identifier}/cancel", {})[0] == 200

    with_a_run(tmp_path, steps)

    with Reader(tmp_path / FILE) as reader:
        entries = [found.entry for found in reader.latest(Wanted(), 100)]
    told = sorted((entry.action, entry.status, entry.error) for entry in entries)
    assert told == [("cancel_response", 200, None), ("create", 499, "cancelled"), ("get_response", 200, None)]
    assert {entry.peer for entry in entries} == {"127.0.0.1"}


def test_workers_ask_each_other_without_the_proxy_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")

    def steps(urls, identifier, gemini):
        status, response = ask(urls[1], "POST", f"/v1/responses/{identifier}/cancel")
        assert (status, response.get("status")) == (200, "cancelled"), response

    with_a_run(tmp_path, steps)


def test_a_run_of_another_worker_is_cancelled(tmp_path):
    def steps(urls, identifier, gemini):
        status, response = ask(urls[1], "POST", f"/v1/responses/{identifier}/cancel", {})
        assert (status, response["status"]) == (200, "cancelled")
        assert status_at(urls[0], identifier) == status_at(urls[1], identifier) == "cancelled"

    with_a_run(tmp_path, steps)


def test_what_goes_on_from_a_run_of_another_worker_is_refused_while_it_runs(tmp_path):
    def steps(urls, identifier, gemini):
        body = {"model": "gemini-2.5-flash", "input": "more", "previous_response_id": identifier}
        answers = [ask(url, "POST", "/v1/responses", body) for url in urls]
        assert [status for status, _ in answers] == [400, 400]
        assert {error["error"]["param"] for _, error in answers} == {"previous_response_id"}

    with_a_run(tmp_path, steps)


def test_a_conversation_has_one_answer_at_a_time_whoever_makes_it(tmp_path):
    async def main():
        with GatedGemini(2) as gemini:
            async with two_workers(tmp_path, gemini.url) as urls:
                _, conversation = await asyncio.to_thread(ask, urls[0], "POST", "/v1/conversations", {})
                body = BACKGROUND | {"conversation": conversation["id"]}
                await asyncio.to_thread(ask, urls[0], "POST", "/v1/responses", body)
                status, error = await asyncio.to_thread(ask, urls[1], "POST", "/v1/responses", body)
                assert (status, error["error"]["code"]) == (409, "conversation_locked")

    asyncio.run(main())


def test_the_signature_of_a_call_is_known_to_the_other_worker(tmp_path):
    async def main():
        with ScriptedGemini([calls("look", signature="c2lnbmF0dXJl", place="here"), says("done")]) as gemini:
            async with two_workers(tmp_path, gemini.url) as urls:
                messages = [{"role": "user", "content": "look"}]
                tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
                body = {"model": "gemini-3-pro-preview", "messages": messages, "tools": [tool], "stream": True}
                _, stream = await asyncio.to_thread(ask, urls[0], "POST", "/v1/chat/completions", body)
                call = next(json.loads(line[6:]) for line in stream.splitlines() if "tool_calls" in line)
                call = call["choices"][0]["delta"]["tool_calls"][0]
                made = {"id": call["id"], "type": "function", "function": {"name": "look", "arguments": "{}"}}
                messages += [
                    {"role": "assistant", "tool_calls": [made]},
                    {"role": "tool", "tool_call_id": call["id"], "content": "a tree"},
                ]
                status, _ = await asyncio.to_thread(ask, urls[1], "POST", "/v1/chat/completions", body)
                assert status == 200
            return gemini.asked[-1]

    parts = [part for turn in asyncio.run(main())["contents"] for part in turn["parts"]]
    assert [part["thoughtSignature"] for part in parts if "functionCall" in part] == ["c2lnbmF0dXJl"]


def test_what_workers_publish_is_gathered_and_not_shown_to_clients(tmp_path):
    async def main():
        with GatedGemini() as gemini:
            workers = []
            async with two_workers(tmp_path, gemini.url, workers) as urls:
                first, second = workers
                second.publish("count", lambda: {"requests": 7})
                assert await first.gather("count") == [{"requests": 7}]
                assert await first.gather("unknown") == []
                assert (await asyncio.to_thread(ask, urls[0], "GET", "/workers/count"))[0] == 404
            assert await first.gather("count") == []

    asyncio.run(main())


def test_a_claim_ends_with_its_holder(tmp_path):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path; from agproxy.config import Config; from agproxy.io.workers import Worker\n"
        "kept = Worker(Path(sys.argv[2]), 'other', 0, 2, Config()).claim('work')\n"
        "print(kept is not None, flush=True); sys.stdin.read()"
    )
    worker = Worker(tmp_path, "this", 1, 2, Config())
    command = [sys.executable, "-c", code, str(ROOT), str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "True\n"
        assert worker.claim("work") is None
        assert worker.holder("work") == "other"
        other.kill()
        other.wait()

    assert worker.holder("work") is None
    release = worker.claim("work")
    assert worker.holder("work") is None  # nobody else's
    release()
    assert [file.suffix for file in tmp_path.iterdir()] == []


@pytest.mark.parametrize(("limit", "shares"), [(7, [3, 2, 2]), (3, [1, 1, 1]), (2, [1, 1, 1]), (0, [0, 0, 0])])
def test_limits_of_an_accounts_owner_are_divided(limit, shares):
    account = Account(id="a", most_in_flight=limit, requests_per_minute=limit)
    found = [share_of(account, index, 3) for index in range(3)]

    assert [account.most_in_flight for account in found] == shares
    assert [account.requests_per_minute for account in found] == shares


# --- real processes ------------------------------------------------------------------------------------------------


@pytest.fixture
def serve(tmp_path):
    started = []

    def make(*flags, **environ):
        started.append(start("serve", "--workers", "2", *flags, home=tmp_path, **environ))
        return started[-1]

    yield make
    for running in started:
        running.stop(signal.SIGKILL)


def children_of(pid):
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def until(is_so, running):
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline, "\n".join(running.lines)
        assert running.ask("/healthz").status == 200


needs_proc = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="no /proc here")


@needs_proc
def test_a_crashed_worker_is_replaced_and_its_connections_wait(serve):
    running = serve(AGPROXY_SIMULATE="on")
    before = children_of(running.process.pid)
    assert len(before) == 2
    for pid in before:
        os.kill(pid, signal.SIGKILL)

    assert running.chat("hi").status == 200
    until(lambda: len(children_of(running.process.pid)) == 2, running)
    assert not set(children_of(running.process.pid)) & set(before)
    assert sum("ended with status -9" in line for line in running.lines) == 2


@contextlib.contextmanager
def open_stream(url):
    """The answer of a stream whose first chunk has come."""
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=20)
    body = {"model": "gemini-2.5-flash", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    with contextlib.closing(connection):
        connection.request("POST", "/v1/chat/completions", json.dumps(body))
        with connection.getresponse() as answer:
            assert answer.readline().startswith(b"data: ")
            yield answer


def is_listening(url):
    with socket.socket() as probe:
        return probe.connect_ex((urlsplit(url).hostname, urlsplit(url).port)) == 0


@needs_proc
def test_a_rolling_reload_loses_no_stream(serve):
    with GatedGemini(2, free=1) as gemini, contextlib.ExitStack() as stack:
        running = serve(AGPROXY_UPSTREAM_URL=gemini.url, GEMINI_API_KEY="k")
        before = children_of(running.process.pid)
        answers = [stack.enter_context(open_stream(running.url)) for _ in range(8)]

        running.process.send_signal(signal.SIGHUP)
        until(lambda: any("all workers are new" in line for line in running.lines), running)
        assert running.chat("hi").status == 200
        assert len(set(children_of(running.process.pid)) - set(before)) == 2

        for _ in answers:
            gemini.goes_on.put(True)
        assert all(answer.read().endswith(b"data: [DONE]\n\n") for answer in answers)
        until(lambda: not set(children_of(running.process.pid)) & set(before), running)


@needs_proc
def test_a_stop_after_a_reload_does_not_cut_the_streams_of_the_workers_that_were_replaced(serve):
    """They were asked to leave before: a second time would cut them."""
    with GatedGemini(2, free=1) as gemini:
        running = serve(AGPROXY_UPSTREAM_URL=gemini.url, GEMINI_API_KEY="k")
        before = children_of(running.process.pid)
        with open_stream(running.url) as answer:
            running.process.send_signal(signal.SIGHUP)
            until(lambda: any("all workers are new" in line for line in running.lines), running)
            running.process.send_signal(signal.SIGTERM)
            deadline = time.monotonic() + 20
            while set(children_of(running.process.pid)) - set(before):  # the new ones, which have nothing to do
                assert time.monotonic() < deadline
            gemini.goes_on.put(True)
            assert answer.read().endswith(b"data: [DONE]\n\n")
        assert running.process.wait(20) == 0


@needs_proc
def test_a_reload_with_broken_settings_leaves_the_workers_that_serve(serve, tmp_path):
    running = serve(AGPROXY_SIMULATE="on")
    before = children_of(running.process.pid)
    (tmp_path / "config.json").write_text('{"max_attempts": 0}')

    running.process.send_signal(signal.SIGHUP)
    until(lambda: any("did not come up" in line for line in running.lines), running)
    assert children_of(running.process.pid) == before
    assert running.chat("hi").status == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_lets_streams_end_and_a_second_one_cuts_them(serve, number):
    with GatedGemini(2, free=1) as gemini:
        running = serve(AGPROXY_UPSTREAM_URL=gemini.url, GEMINI_API_KEY="k")
        with open_stream(running.url) as answer:
            running.process.send_signal(number)
            gemini.goes_on.put(True)
            assert answer.read().endswith(b"data: [DONE]\n\n")
        assert running.process.wait(20) == 0

        running = serve(AGPROXY_UPSTREAM_URL=gemini.url, GEMINI_API_KEY="k")
        with open_stream(running.url) as answer:
            running.process.send_signal(number)
            while is_listening(running.url):
                pass
            running.process.send_signal(number)
            with pytest.raises(http.client.IncompleteRead):
                answer.read()
        assert running.process.wait(20) == 130


@needs_proc
def test_workers_do_not_outlive_their_supervisor(serve):
    running = serve(AGPROXY_SIMULATE="on")
    pipes = [os.pidfd_open(pid) for pid in children_of(running.process.pid)]
    running.process.kill()

    for pipe in pipes:
        assert select.select([pipe], [], [], 20)[0]
        os.close(pipe)


def run_serve(home, *flags, **environ):
    command = [sys.executable, "-m", "agproxy", "serve", "--workers", "2", *flags]
    environment = clean_environment(home, {"AGPROXY_SIMULATE": "on"} | environ)
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def test_an_address_that_is_in_use_is_not_shared_with_strangers(serve, tmp_path):
    running = serve(AGPROXY_SIMULATE="on")
    done = run_serve(tmp_path, "--port", str(urlsplit(running.url).port))

    assert done.returncode == 2
    assert "cannot listen" in done.stderr


def test_workers_that_cannot_start_end_the_command_and_say_why(tmp_path):
    done = run_serve(tmp_path, "--port", "0", AGPROXY_UPSTREAM_PROXY="gopher://nowhere")

    assert done.returncode == 1
    assert "upstream_proxy" in done.stderr
    assert "Traceback" not in done.stderr


# --- others that fail ----------------------------------------------------------------------------------------------


def test_a_silent_worker_holds_nobody_up(tmp_path, monkeypatch):
    monkeypatch.setattr("agproxy.io.workers._ASK_SECONDS", 0.05)

    async def main():
        worker = Worker(tmp_path, "this", 0, 2, Config())
        with socket.socket(socket.AF_UNIX) as silent:
            silent.bind(str(tmp_path / "other.sock"))
            silent.listen()
            assert await worker.gather("count") == []
        await worker.close()

    asyncio.run(main())


def test_an_answer_that_breaks_off_in_another_worker_is_an_error_and_not_done_again(tmp_path):
    async def main():
        with GatedGemini(2) as gemini:
            workers = []
            async with two_workers(tmp_path, gemini.url, workers) as urls:
                _, response = await asyncio.to_thread(ask, urls[0], "POST", "/v1/responses", BACKGROUND)
                path = workers[0].socket_path
                path.unlink()

                async def leave(reader, writer):
                    await reader.readuntil(b"\r\n\r\n")
                    writer.close()

                async with await asyncio.start_unix_server(leave, path):
                    status, error = await asyncio.to_thread(
                        ask, urls[1], "POST", f"/v1/responses/{response['id']}/cancel", {}
                    )
                assert (status, error["error"]["code"]) == (502, "upstream_closed")
                assert (await asyncio.to_thread(status_at, urls[0], response["id"])) == "in_progress"

    asyncio.run(main())


def test_a_claim_that_cannot_be_written_is_let_go(tmp_path, monkeypatch):
    worker = Worker(tmp_path, "this", 0, 2, Config())

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(StateUnavailable):
            worker.claim("work")
    assert worker.claim("work") is not None


def test_the_unix_socket_goes_where_the_port_cannot_be_had(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        flags = ("--port", port, "--host", "127.0.0.1", "--listen-unix", str(tmp_path / "s"))
        assert run_serve(tmp_path, *flags).returncode == 2
    assert not (tmp_path / "s").exists()
