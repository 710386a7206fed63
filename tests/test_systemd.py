"""As a service of systemd: sockets that it hands over, and what it is told of the gateway's life."""

import asyncio
import configparser
import contextlib
import os
import signal
import socket
import sys
import time
import uuid

import pytest
from running import ROOT, start
from test_unix_socket import ask as ask_unix

from agproxy.config import SETTINGS
from agproxy.errors import ConfigError
from agproxy.io.systemd import Notifier, take_listeners

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no systemd on Windows")


class Supervisor:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, path):
        self.address = f"@agproxy-test-{uuid.uuid4().hex}" if path is None else str(path)
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind("\0" + self.address[1:] if path is None else self.address)
        self._sock.settimeout(20)

    def hear(self):
        """The next message."""
        return dict(line.split("=", 1) for line in self._sock.recv(4096).decode().split("\n"))

    def hear_of(self, word):
        """The next message with this word."""
        while word not in (heard := self.hear()):
            pass
        return heard

    def close(self):
        self._sock.close()


@pytest.fixture
def supervisor(tmp_path):
    with contextlib.closing(Supervisor(tmp_path / "notify")) as supervisor:
        yield supervisor


@pytest.fixture
def serve(tmp_path):
    started = []

    def make(*flags, **more):
        started.append(start("serve", "--simulate", "on", *flags, home=tmp_path, **more))
        return started[-1]

    yield make
    for running in started:
        running.stop()


# --- life


@pytest.mark.parametrize("workers", ["1", "2"])
def test_it_tells_when_it_is_ready_reads_its_settings_and_stops(serve, supervisor, workers):
    running = serve("--workers", workers, NOTIFY_SOCKET=supervisor.address)
    heard = supervisor.hear()
    assert heard["READY"] == "1"
    assert heard["STATUS"].startswith("Serving on http://")
    assert running.url in heard["STATUS"]
    status = heard["STATUS"]

    before = time.monotonic_ns() // 1000
    os.kill(running.process.pid, signal.SIGHUP)
    heard = supervisor.hear()
    assert heard["RELOADING"] == "1"
    assert before <= int(heard["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
    assert supervisor.hear() == {"READY": "1", "STATUS": status}

    assert running.stop() == 0
    assert supervisor.hear()["STOPPING"] == "1"
    assert not any("Traceback" in line for line in running.lines)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_it_says_in_time_that_it_lives(serve, supervisor, workers):
    serve("--workers", workers, NOTIFY_SOCKET=supervisor.address, WATCHDOG_USEC="100000")
    times = []
    for _ in range(4):
        assert supervisor.hear_of("WATCHDOG") == {"WATCHDOG": "1"}
        times.append(time.monotonic())
    assert times[-1] - times[0] >= 0.1  # three pauses of 50 ms, of which the first may have been heard late


def test_a_watchdog_for_another_process_is_none_of_ours(supervisor):
    for environ in (
        {"WATCHDOG_USEC": "100", "WATCHDOG_PID": str(os.getpid() + 1)},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {},
    ):
        environ["NOTIFY_SOCKET"] = supervisor.address
        notifier = Notifier.taken(environ)
        assert environ == {}

        async def main(notifier=notifier):
            with notifier.watched():
                notifier.ready("well")

        asyncio.run(main())
        assert supervisor.hear() == {"READY": "1", "STATUS": "well"}  # and no WATCHDOG before


@pytest.mark.skipif(sys.platform != "linux", reason="abstract sockets are Linux's")
def test_the_socket_may_have_no_file():
    with contextlib.closing(Supervisor(None)) as supervisor:
        Notifier.taken({"NOTIFY_SOCKET": supervisor.address}).ready("well")
        assert supervisor.hear()["READY"] == "1"


def test_a_supervisor_that_has_gone_is_one_line_in_the_log(supervisor, caplog):
    notifier = Notifier.taken({"NOTIFY_SOCKET": supervisor.address + "-gone"})
    notifier.ready("well")
    notifier.stopping()
    (record,) = caplog.records
    assert record.getMessage() == "the supervisor cannot be told READY=1: No such file or directory"


def test_without_a_supervisor_nothing_is_told(caplog):
    notifier = Notifier.taken({})
    notifier.ready("well")
    notifier.stopping()
    assert caplog.records == []


# --- sockets


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sockets_that_are_handed_over_are_served(serve, tmp_path, workers):
    path = tmp_path / "agproxy.sock"
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(path))
        unix.listen()
        running = serve("--workers", workers, listeners=[tcp, unix])
        assert running.url == f"http://127.0.0.1:{tcp.getsockname()[1]}"
        assert running.chat("Hello").status == 200
        status, _, answer = ask_unix(path, "/healthz")
        assert (status, answer["status"]) == (200, "ok")
        assert running.stop() == 0
        # Who connects now waits for the next process, which systemd starts for it.
        with socket.create_connection(tcp.getsockname(), 20) as waiting:
            waiting.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            serve("--workers", workers, listeners=[tcp, unix])
            assert b"200" in waiting.recv(100)
    assert path.exists()


def test_sockets_open_to_the_network_ask_for_a_key(serve):
    with socket.create_server(("0.0.0.0", 0)) as tcp:
        for workers in ("1", "2"):
            with pytest.raises(AssertionError, match=r"listening on 0\.0\.0\.0 lets other machines in"):
                serve("--workers", workers, listeners=[tcp])


def test_sockets_of_another_process_are_not_taken():
    environ = {"LISTEN_PID": str(os.getpid() + 1), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "web", "OTHER": "stays"}
    assert take_listeners(environ) is None
    assert environ == {"OTHER": "stays"}
    assert take_listeners({}) is None
    assert take_listeners({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "0"}) is None


def test_what_is_no_listening_stream_is_named(serve):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams, socket.socket() as connected:
        for sock in (datagrams, connected):
            with pytest.raises(AssertionError, match="the socket number 1 that was handed over does not listen"):
                serve(listeners=[sock])
    with open(os.devnull) as file, pytest.raises(AssertionError, match=r"number 1 .* cannot be used: Socket operation"):
        serve(listeners=[file])
    with pytest.raises(ConfigError, match="LISTEN_FDS"):
        take_listeners({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "many"})


# --- the unit files


def unit(name):
    parser = configparser.RawConfigParser(strict=False, delimiters="=", comment_prefixes="#")
    parser.optionxform = str
    parser.read(ROOT / "deploy" / "systemd" / name)
    return parser


def test_the_units_name_only_settings_that_there_are():
    text = (ROOT / "deploy" / "systemd" / "agproxy.service").read_text()
    known = {setting.variable for setting in SETTINGS} | {"AGPROXY_HOME"}
    named = {word.split("=")[0] for line in text.splitlines() for word in line.split() if "AGPROXY_" in word}
    named = {name.lstrip("#").removeprefix("Environment=") for name in named} - {"Environment"}
    assert named <= known
    assert unit("agproxy.service")["Service"]["Type"] == "notify"
    assert unit("agproxy.socket")["Socket"]["Accept"] == "no"
