"""Look-ups of host names: shared, bounded, and never what a process waits for at its end."""

import asyncio
import socket
import subprocess
import sys
import threading

import pytest
from running import ROOT
from wire import run, until

from agproxy.config import Config
from agproxy.errors import UpstreamFailed
from agproxy.http11 import Call
from agproxy.io import names
from agproxy.io.client import Client
from agproxy.io.names import Names

ADDRESS = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 443))
# A call to a name that the system goes on looking up for ever; the process then has nothing more to do.
STUCK = """
import asyncio, socket, threading
socket.getaddrinfo = lambda *_, **__: threading.Event().wait()
from agproxy.config import Config
from agproxy.http11 import Call
from agproxy.io.{module} import {name}
async def main():
    config = Config(connect_timeout_seconds=0.05, fetch_timeout_seconds=0.05)
    {made} = {name}({takes})
    try:
        await {call}
    except Exception as error:
        print(error)
asyncio.run(main())
"""
CLIENT = {"module": "client", "name": "Client", "made": "client", "takes": "config, None"}
FETCHER = {"module": "fetch", "name": "Fetcher", "made": "fetcher", "takes": "config"}


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (
            STUCK.format(call="client.send(Call(method='GET', url='https://a.test/', body=b'', headers=()))", **CLIENT),
            "a.test: no connection within 0.05 s",
        ),
        (STUCK.format(call="fetcher.fetch('https://a.test/', 'image')", **FETCHER), "it did not come within 0.05 s"),
    ],
    ids=["upstream", "an image"],
)
def test_a_look_up_that_hangs_does_not_hold_up_the_end_of_the_process(code, told):
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=10)

    assert (done.returncode, done.stderr) == (0, "")
    assert told in done.stdout


class System:
    """A resolver of the system's that answers when it is let."""

    def __init__(self, monkeypatch):
        self.asked = []
        self.may_answer = threading.Event()
        self.answer = [ADDRESS]
        monkeypatch.setattr(socket, "getaddrinfo", self.look_up)

    def look_up(self, host, port, **more):
        self.asked.append(host)
        assert self.may_answer.wait(10)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_all_who_ask_for_a_name_share_one_look_up_and_one_of_them_may_leave(monkeypatch):
    system = System(monkeypatch)

    async def main():
        found = Names()
        asking = [asyncio.create_task(found.look_up("a.test", 443)) for _ in range(5)]
        await until(lambda: system.asked)
        asking[0].cancel()
        await asyncio.wait({asking[0]})
        system.may_answer.set()
        assert await asyncio.gather(*asking[1:]) == [[ADDRESS]] * 4
        assert system.asked == ["a.test"]
        assert await found.look_up("a.test", 443) == [ADDRESS]  # nothing is remembered
        assert system.asked == ["a.test", "a.test"]

    run(main)


def test_a_failure_goes_to_all_who_asked_and_to_nobody_if_nobody_waits(monkeypatch):
    system = System(monkeypatch)
    system.answer = socket.gaierror(socket.EAI_NONAME, "unknown")

    async def main():
        found = Names()
        asking = [asyncio.create_task(found.look_up("a.test", 443)) for _ in range(2)]
        alone = asyncio.create_task(found.look_up("b.test", 443))
        await until(lambda: len(system.asked) == 2)
        alone.cancel()
        system.may_answer.set()
        for result in await asyncio.gather(*asking, return_exceptions=True):
            assert result is system.answer
        await until(lambda: not found._under_way)

    run(main)


def test_names_that_are_looked_up_at_once_have_a_bound(monkeypatch):
    system = System(monkeypatch)
    monkeypatch.setattr(names, "_MOST_THREADS", 2)

    async def main():
        found = Names()
        asking = [asyncio.create_task(found.look_up(host, 443)) for host in ("a.test", "b.test")]
        await until(lambda: len(system.asked) == 2)
        with pytest.raises(socket.gaierror):
            await found.look_up("c.test", 443)
        system.may_answer.set()
        await asyncio.gather(*asking)
        assert await found.look_up("c.test", 443) == [ADDRESS]

    run(main)


def test_what_can_be_no_name_is_told_like_a_name_that_is_unknown():
    async def main():
        client = Client(Config(), None)
        with pytest.raises(UpstreamFailed, match="cannot be resolved"):
            await client.send(Call(method="GET", url=f"https://{'a' * 64}.test/", body=b"", headers=()))
        await client.close()

    run(main)
