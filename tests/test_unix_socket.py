"""Listening on a Unix socket: beside TCP or alone, its file, and what stands in its way."""

import asyncio
import http.client
import json
import os
import signal
import socket
import stat
import sys
import threading
from dataclasses import replace

import pytest
from running import start

from agproxy.config import Config
from agproxy.embed import listening
from agproxy.errors import ConfigError
from agproxy.io import files, listen, unix_socket
from agproxy.io.unix_socket import bind_unix
from agproxy.pool import Account

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no Unix sockets on Windows")

ALONE = Config(host="", simulate="on")


class Client(http.client.HTTPConnection):
    """HTTP by a Unix socket."""

    def __init__(self, path, host="localhost"):
        super().__init__(host, timeout=20)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(self.path)


def ask(path, url, body=None, host="localhost", headers=None):
    """Status, headers and JSON of an answer."""
    client = Client(path, host)
    data = None if body is None else json.dumps(body)
    client.request("GET" if body is None else "POST", url, data, headers or {})
    with client.getresponse() as answer:
        read = answer.status, answer.headers, json.load(answer)
    client.close()
    return read


CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}]}


def served(config, then, **more):
    """Run a gateway, and `then(running)` beside it in a thread."""

    async def main():
        async with listening(config, more.pop("accounts", ()), **more) as running:
            await asyncio.to_thread(then, running)

    asyncio.run(main())


def test_alone_it_answers_by_the_socket_whatever_name_the_client_uses(tmp_path):
    path = tmp_path / "agproxy.sock"

    def then(running):
        assert (running.bound, running.unix, running.urls) == ((), (str(path),), ())
        for host in ("localhost", "agproxy", "unix"):
            status, _, answer = ask(path, "/v1/chat/completions", CHAT, host)
            assert (status, "Hello" in answer["choices"][0]["message"]["content"]) == (200, True)

    served(replace(ALONE, listen_unix=str(path)), then)
    assert not path.exists()


def test_beside_tcp_both_answer(tmp_path):
    path = tmp_path / "agproxy.sock"

    def then(running):
        assert ask(path, "/healthz")[0] == 200
        client = http.client.HTTPConnection(*running.bound[0], timeout=20)
        client.request("GET", "/healthz")
        assert client.getresponse().status == 200
        client.close()

    served(Config(host="127.0.0.1", port=0, simulate="on", listen_unix=str(path)), then)


def test_its_clients_are_of_this_machine_and_still_need_the_key(simulator, tmp_path):
    path = tmp_path / "agproxy.sock"
    account = Account(id="mine", key="any", email="me@example.com")
    config = Config(host="", listen_unix=str(path), upstream_url=simulator.url)
    strict = replace(config, auth_mode="strict", api_key=(("one", "sk-one"),))

    def then(running):
        _, headers, _ = ask(path, "/v1/chat/completions", CHAT)
        assert headers["x-account-email"] == "me@example.com"
        assert ask(path, "/agproxy/why/req_1")[2]["error"]["code"] == "request_not_found"  # not: who are you
        status, _, answer = ask(path, "/v1/models", headers={"Origin": "https://evil.example"})
        assert (status, answer["error"]["code"]) == (403, "origin_not_allowed")

    def then_strict(running):
        assert ask(path, "/v1/models")[0] == 401
        assert ask(path, "/v1/models", headers={"Authorization": "Bearer sk-one"})[0] == 200

    served(config, then, accounts=(account,))
    served(strict, then_strict, accounts=(account,))


@pytest.mark.parametrize("mode", ["0600", "660", "0666"])
def test_the_file_has_the_mode_of_the_settings_whatever_the_umask(tmp_path, mode):
    path = tmp_path / "agproxy.sock"

    def then(running):
        assert stat.S_IMODE(path.stat().st_mode) == int(mode, 8)

    before = os.umask(0o077)
    try:
        served(replace(ALONE, listen_unix=str(path), unix_mode=mode), then)
    finally:
        os.umask(before)


def test_the_file_of_a_killed_process_is_replaced_and_that_of_a_live_one_is_not(tmp_path):
    path = tmp_path / "agproxy.sock"
    flags = ("--host", "", "--listen-unix", str(path), "--simulate", "on")
    first = start("serve", *flags, home=tmp_path)
    assert any(f'uds="{path}"' in line for line in first.lines)
    with pytest.raises(AssertionError, match=f"cannot listen on {path}: another process does"):
        start("serve", *flags, home=tmp_path)
    assert ask(path, "/healthz")[0] == 200

    first.stop(signal.SIGKILL)
    assert path.exists()
    second = start("serve", *flags, home=tmp_path)
    assert ask(path, "/healthz")[0] == 200
    assert second.stop() == 0
    assert not path.exists()


@pytest.mark.parametrize("is_left", [False, True])
def test_of_two_that_start_at_once_one_listens_and_the_other_is_told(tmp_path, monkeypatch, is_left):
    """The second comes when the first has its file and does not yet listen."""
    path = tmp_path / "agproxy.sock"
    if is_left:
        with socket.socket(socket.AF_UNIX) as gone:
            gone.bind(str(path))
    is_waiting_or_done, told, got = threading.Event(), [], []

    def second():
        try:
            got.append(bind_unix(str(path), 0o600))
        except ConfigError as error:
            told.append(str(error))
        is_waiting_or_done.set()

    thread = threading.Thread(target=second)
    chmod, try_lock = os.chmod, files.try_lock

    def chmod_slowly(*arguments):
        chmod(*arguments)
        if thread.ident is None:
            thread.start()
            assert is_waiting_or_done.wait(20)

    def try_and_tell(descriptor):
        is_had = try_lock(descriptor)
        if not is_had:
            is_waiting_or_done.set()
        return is_had

    monkeypatch.setattr(os, "chmod", chmod_slowly)
    monkeypatch.setattr(files, "try_lock", try_and_tell)
    with bind_unix(str(path), 0o600) as first:
        thread.join(20)
        for listener in got:
            listener.close()
        assert told == [f"cannot listen on {path}: another process does"]
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            first.accept()[0].close()
        assert list(tmp_path.iterdir()) == [path]  # no lock is left, which would keep another user out
    assert list(tmp_path.iterdir()) == []


def test_who_waits_in_vain_for_another_start_is_told(tmp_path, monkeypatch):
    path = tmp_path / "agproxy.sock"
    monkeypatch.setattr(unix_socket, "_LOCK_SECONDS", 0.02)
    with files.locked_in_passing(path, 0), pytest.raises(ConfigError, match=r"another process has held \S+\.lock"):
        bind_unix(str(path), 0o600)
    bind_unix(str(path), 0o600).close()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_socket_is_never_replaced(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("mine")

    with pytest.raises(ConfigError, match="it exists, and is no socket"):
        bind_unix(str(path), 0o600)
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    ("path", "reason"), [("no/such/folder", "No such file"), ("x" * 200, "too long"), ("a\0b", "NUL")]
)
def test_a_path_that_cannot_be_had_is_told(tmp_path, monkeypatch, path, reason):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=reason):
        bind_unix(path, 0o600)
    assert list(tmp_path.iterdir()) == []


def test_a_successor_may_come_as_soon_as_it_stops_listening(tmp_path):
    """While its last answers go on; then its end leaves the successor's file alone."""
    path = tmp_path / "agproxy.sock"
    first = bind_unix(str(path), 0o600)
    first.close()
    assert not path.exists()
    second = bind_unix(str(path), 0o600)
    first.close()
    assert path.exists()
    second.close()
    assert not path.exists()


def test_a_file_put_there_by_hand_stays(tmp_path):
    path = tmp_path / "agproxy.sock"
    listener = bind_unix(str(path), 0o600)
    path.unlink()
    path.write_text("mine")

    listener.close()
    assert path.read_text() == "mine"


def test_the_file_is_its_makers_to_remove_not_a_childs(tmp_path):
    path = tmp_path / "agproxy.sock"
    listener = bind_unix(str(path), 0o600)
    child = os.fork()
    if child == 0:
        listener.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert path.exists()
    listener.close()
    assert not path.exists()


def test_an_inherited_socket_serves_and_its_file_stays(tmp_path):
    """It is the supervisor's, who may hand it to the next process."""
    path = tmp_path / "agproxy.sock"
    ours = socket.socket(socket.AF_UNIX)
    ours.bind(str(path))
    ours.listen()

    def then(running):
        assert running.unix == (str(path),)
        assert ask(path, "/healthz")[0] == 200

    served(Config(simulate="on"), then, listeners=[ours])
    assert path.exists()


def test_inherited_sockets_are_held_to_the_rules_of_the_door():
    """What a supervisor opens to the network asks for a key, whatever `host` says."""
    for config, reason in ((Config(simulate="on"), "listening on 0.0.0.0"), (Config(host="0.0.0.0"), None)):
        address = "0.0.0.0" if reason else "127.0.0.1"
        listeners = listen.bind([address], 0)
        if reason:
            with pytest.raises(ConfigError, match=reason):
                served(config, lambda running: None, listeners=listeners)
        else:
            served(config, lambda running: None, listeners=listeners)
        assert listeners[0].fileno() == -1


def test_nothing_to_listen_on_is_an_error():
    with pytest.raises(ConfigError, match="host and listen_unix are both empty"):
        served(ALONE, lambda running: None)


def test_a_mode_is_octal():
    from agproxy.config import load

    for bad in ("600x", "0888", "7", "rw", ""):
        with pytest.raises(ConfigError, match="octal"):
            load({"unix_mode": bad}, {}, {}, "config.json")
    assert load({"unix_mode": "0660"}, {}, {}, "config.json").config.unix_mode == "0660"
