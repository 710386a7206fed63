"""A real agproxy process for a test: started as a user would, stopped by pid, its log at hand."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


@dataclass
class Answer:
    status: int
    headers: Message
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Running:
    """`url` is http://127.0.0.1:PORT, or empty where it has no port; `lines` is what the process wrote to standard
    error so far."""

    process: subprocess.Popen
    url: str
    lines: list[str] = field(default_factory=list)

    @property
    def base_url(self) -> str:
        return self.url + "/v1"

    def ask(self, path: str, body: Any = None, *, method: str | None = None, headers: dict | None = None) -> Answer:
        """One request by urllib; `body` as JSON, or bytes as they are."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers or {}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return Answer(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.headers, error.read())

    def chat(self, text: str, **more: Any) -> Answer:
        body = {"model": "gpt-4o", "messages": [{"role": "user", "content": text}]} | more
        return self.ask("/v1/chat/completions", body)

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


def clean_environment(home: Path, extra: dict[str, str]) -> dict[str, str]:
    """An environment without the tester's own keys and settings."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AGPROXY_", "GEMINI_", "GOOGLE_"))}
    kept = {k: v for k, v in kept.items() if not k.lower().endswith("_proxy")}
    return kept | {"AGPROXY_HOME": str(home), "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"} | extra


# Puts the descriptors that it is given by number in the place where systemd puts sockets, and becomes the command.
_HAND_OVER = """
import os, sys
numbers = [int(number) for number in sys.argv[1].split(",")]
copies = [os.dup(number) for number in numbers]
for place, copy in enumerate(copies, 3):
    os.dup2(copy, place)
    os.set_inheritable(place, True)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(numbers))}
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


def start(command: str, *flags: str, home: Path, listeners: Sequence[socket.socket] = (), **environ: str) -> Running:
    """Start `agproxy COMMAND FLAGS` on a free port and wait until it says that it is ready. listeners: handed over as
    systemd does."""
    words = ["-m", "agproxy", command, "--port", "0", *flags]
    numbers = [listener.fileno() for listener in listeners]
    if numbers:
        words = ["-c", _HAND_OVER, ",".join(map(str, numbers)), *words]
    process = subprocess.Popen(
        [sys.executable, *words],
        env=clean_environment(home, environ),
        pass_fds=numbers,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines: list[str] = []
    ready = threading.Event()
    is_up: list[bool] = []

    def read() -> None:
        with process.stderr as stream:
            for line in stream:
                lines.append(line.rstrip("\n"))
                if re.search("https?://", line):
                    is_up.append(True)
                    ready.set()
        ready.set()

    threading.Thread(target=read, daemon=True).start()
    assert ready.wait(20), "the process did not become ready"
    if not is_up:
        process.kill()
        process.wait()
        raise AssertionError("the process ended: " + "\n".join(lines))
    found = next((match for line in lines if (match := re.search(r"https?://[\d.]+:\d+", line))), None)
    return Running(process, found[0] if found is not None else "", lines)
