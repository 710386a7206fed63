"""The gateway inside a program's own event loop: `await agproxy.serve(config)`."""

import asyncio
import contextlib
import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
from running import ROOT, clean_environment

import agproxy
from agproxy.config import Config
from agproxy.embed import listening
from agproxy.errors import ConfigError
from agproxy.pool import Account

SIMULATED = Config(host="127.0.0.1", port=0, simulate="on")


@contextlib.asynccontextmanager
async def serving(config=SIMULATED, **more):
    """A gateway in a task of its own: the task, and what `on_ready` was told."""
    ready = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(agproxy.serve(config, on_ready=ready.set_result, **more))
    await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        await task
    try:
        yield task, ready.result()
    finally:
        task.cancel()
        await asyncio.wait({task})


def read(url, body=None):
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data), timeout=20) as answer:
        return json.load(answer)


def open_stream(url, text):
    """A streamed chat whose head has come."""
    host = urlsplit(url)
    client = http.client.HTTPConnection(host.hostname, host.port, timeout=20)
    body = {"model": "gpt-4o", "stream": True, "messages": [{"role": "user", "content": text}]}
    client.request("POST", "/v1/chat/completions", json.dumps(body))
    return client, client.getresponse()


def is_listening(running):
    with socket.socket() as probe:
        return probe.connect_ex(running.bound[0]) == 0


def test_it_serves_beside_the_program_and_leaves_nothing_behind_when_cancelled():
    async def main():
        before = asyncio.all_tasks()
        async with serving() as (task, running):
            body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}]}
            answer = await asyncio.to_thread(read, running.urls[0] + "/chat/completions", body)
            assert "Hello" in answer["choices"][0]["message"]["content"]
            assert running.reach.is_simulated
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not is_listening(running)
        assert asyncio.all_tasks() == before

    asyncio.run(main())


def test_it_installs_no_signal_handlers_and_runs_in_any_thread():
    """Python lets only the main thread install handlers: one that tried would fail here."""
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    seen = []

    async def main():
        async with serving() as (_, running):
            seen.append(await asyncio.to_thread(read, running.urls[0].removesuffix("/v1") + "/healthz"))
            seen.append([signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)])

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    thread.join(20)

    assert seen == [{"status": "ok", "version": agproxy.__version__}, handlers]


def test_several_run_in_one_loop_each_with_its_own_settings():
    async def main():
        strict = Config(host="127.0.0.1", port=0, simulate="on", auth_mode="strict", api_key=(("one", "sk-one"),))
        async with serving() as (_, first), serving(strict) as (_, second):
            assert first.bound != second.bound
            assert (await asyncio.to_thread(read, first.urls[0] + "/models"))["object"] == "list"
            with pytest.raises(urllib.error.HTTPError, match="401") as caught:
                await asyncio.to_thread(read, second.urls[0] + "/models")
            caught.value.close()

    asyncio.run(main())


def test_the_accounts_may_be_handed_in(simulator, monkeypatch):
    monkeypatch.delenv("GEMINI_API_KEY", raising=False)
    config = Config(host="127.0.0.1", port=0, upstream_url=simulator.url)

    async def main():
        async with serving(config, accounts=[Account(id="mine", key="any")]) as (_, running):
            body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}]}
            assert (await asyncio.to_thread(read, running.urls[0] + "/chat/completions", body))["choices"]
        async with serving(config, accounts=[]) as (_, running):
            with pytest.raises(urllib.error.HTTPError, match="503") as caught:
                await asyncio.to_thread(read, running.urls[0] + "/chat/completions", body)
            caught.value.close()

    asyncio.run(main())


def test_cancelled_it_lets_an_open_answer_end():
    async def main():
        async with serving() as (task, running):
            client, answer = await asyncio.to_thread(
                open_stream, running.urls[0], "Hi [[sim:words=40]] [[sim:delay=0.01]]"
            )
            task.cancel()
            rest = await asyncio.to_thread(answer.read)
            assert rest.endswith(b"data: [DONE]\n\n")
            client.close()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())


def test_cancelled_twice_it_cuts_an_open_answer():
    async def main():
        async with serving() as (task, running):
            client, answer = await asyncio.to_thread(
                open_stream, running.urls[0], "Hi [[sim:words=9]] [[sim:pause=600]]"
            )
            task.cancel()
            await asyncio.sleep(0)  # one turn of the loop, in which it takes the first: two at once would be one
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(task, 20)
            with pytest.raises(http.client.IncompleteRead):
                await asyncio.to_thread(answer.read)
            client.close()

    asyncio.run(main())


def test_a_taken_port_is_an_error_that_names_it():
    async def main():
        async with serving() as (_, running):
            port = running.bound[0][1]
            with pytest.raises(ConfigError, match=str(port)):
                await agproxy.serve(Config(host="127.0.0.1", port=port, simulate="on"))

    asyncio.run(main())


def test_importing_the_package_alone_loads_nothing_else():
    program = "import sys, agproxy; print(sorted(n for n in sys.modules if n in ('asyncio', 'h11', 'agproxy.gateway')))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="no attribute 'server'"):
        _ = agproxy.server


# What a loop of Windows does not have. asyncio's own transports go past these public methods.
WINDOWS = """
import asyncio, sys
def refuse(*arguments):
    raise NotImplementedError
for name in ("reader", "writer", "signal_handler"):
    setattr(asyncio.SelectorEventLoop, "add_" + name, refuse)
    setattr(asyncio.SelectorEventLoop, "remove_" + name, refuse)
from agproxy.cli import main
sys.exit(main(["serve", "--simulate", "on", "--host", "127.0.0.1", "--port", "0"]))
"""


def test_a_loop_without_posix_calls_will_do(tmp_path):
    """A stand-in for Windows: it answers, and it stops in order on a signal, without the loop's help for either."""
    process = subprocess.Popen(
        [sys.executable, "-c", WINDOWS],
        env=clean_environment(tmp_path, {}),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    with process, process.stderr as lines:
        line = next((line for line in lines if "base_url" in line), "")
        assert read(line.split()[1].removesuffix("/v1") + "/healthz")["status"] == "ok"
        process.send_signal(signal.SIGTERM)
        rest = lines.read()
        assert process.wait(20) == 0, rest


def test_it_serves_on_a_socket_that_listens_already():
    async def main():
        ours = socket.create_server(("127.0.0.1", 0))
        address = ours.getsockname()
        async with listening(replace(SIMULATED, port=1), (), listeners=[ours]) as running:
            assert running.bound == (address,)
            assert (await asyncio.to_thread(read, running.urls[0] + "/models"))["object"] == "list"
        assert ours.fileno() == -1

    asyncio.run(main())
