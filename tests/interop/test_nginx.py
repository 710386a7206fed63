"""Debian's nginx in front of two gateways, with the configuration that deploy/nginx.conf shows."""

import http.client
import json
import shutil
import socket
import subprocess
import threading
import time

import pytest
from gated_gemini import GatedGemini
from running import ROOT, start

from agproxy.account import key_id

NGINX = shutil.which("nginx")
pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")

KEYS = [f"client-key-{number}" for number in range(8)]
SETTINGS = {
    "AGPROXY_AUTH_MODE": "strict",
    "AGPROXY_ACCOUNT_EMAIL": "none",
    "AGPROXY_API_KEY": ",".join(KEYS),
}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def is_open(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Site:
    """Two gateways behind nginx."""

    def __init__(self, folder, upstream_url):
        self._folder, self._upstream_url = folder, upstream_url
        self.ports = [free_port(), free_port()]
        self.accounts = [key_id("good-0"), key_id("good-1")]
        self.gateways = [self.start(number) for number in range(2)]
        self.port = free_port()
        text = (ROOT / "deploy" / "nginx.conf").read_text()
        for shown, used in (("8045", self.ports[0]), ("8046", self.ports[1]), ("8080", f"127.0.0.1:{self.port}")):
            assert shown in text
            text = text.replace(shown, str(used))
        (folder / "nginx.conf").write_text(text)
        options = f"daemon off; pid {folder}/pid; error_log {folder}/error.log;"
        self._nginx = subprocess.Popen(
            [NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", f"{folder}/error.log", "-g", options]
        )
        deadline = time.monotonic() + 20
        while not is_open(self.port):
            assert self._nginx.poll() is None, (folder / "error.log").read_text()
            assert time.monotonic() < deadline

    def start(self, number):
        home, port = self._folder / f"home{number}", str(self.ports[number])
        environ = SETTINGS | {"AGPROXY_UPSTREAM_URL": self._upstream_url, "GEMINI_API_KEY": f"good-{number}"}
        return start("serve", "--port", port, home=home, **environ)

    def stop(self):
        self._nginx.terminate()
        self._nginx.wait(20)
        for gateway in self.gateways:
            gateway.stop()

    def ask(self, path, body, key=KEYS[0], method="POST"):
        """The answer's status and JSON, and the number of the gateway that gave it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, json.dumps(body), {"authorization": f"Bearer {key}"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read()), self.who(answer)
        finally:
            connection.close()

    def who(self, answer):
        """Which gateway answered: each has an account of its own."""
        return self.accounts.index(answer.headers["x-account-id"])

    def chat(self, key=KEYS[0]):
        messages = [{"role": "user", "content": "hi"}]
        return self.ask("/v1/chat/completions", {"model": "gemini-2.5-flash", "messages": messages}, key)


@pytest.fixture
def site(tmp_path):
    with GatedGemini(2, free=1) as gemini:
        made = Site(tmp_path, gemini.url)
        made.gemini = gemini
        yield made
        made.stop()


class Stream:
    """A streamed chat through nginx, of which the first chunk has come."""

    def __init__(self, site, key):
        self.connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=20)
        body = {"model": "gemini-2.5-flash", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
        self.connection.request("POST", "/v1/chat/completions", json.dumps(body), {"authorization": f"Bearer {key}"})
        self.answer = self.connection.getresponse()
        self.first = self.answer.readline()
        self.who = site.who(self.answer)

    def rest(self):
        data = self.answer.read()
        self.connection.close()
        return data


def test_each_chunk_of_a_stream_comes_at_once(site):
    stream = Stream(site, KEYS[0])
    assert stream.first.startswith(b"data: {")  # upstream has not sent the second one yet
    site.gemini.goes_on.put(True)
    assert stream.rest().endswith(b"data: [DONE]\n\n")


def test_a_key_stays_with_its_gateway_and_keys_are_shared_out(site):
    homes = {key: {site.chat(key)[2] for _ in range(3)} for key in KEYS}

    assert all(len(found) == 1 for found in homes.values())
    assert {number for found in homes.values() for number in found} == {0, 1}


def test_a_client_goes_on_from_its_responses(site):
    previous = None
    for _ in range(4):
        body = {"model": "gemini-2.5-flash", "input": "hi"}
        status, response, _ = site.ask("/v1/responses", body | ({"previous_response_id": previous} if previous else {}))
        assert status == 200, response
        previous = response["id"]


def test_a_rollout_loses_no_request_and_no_stream(site):
    failures, done, is_over = [], [], threading.Event()

    def work(key):
        while not is_over.is_set():
            status, answer, _ = site.chat(key)
            done.append(status)
            if status != 200:
                failures.append(answer)

    workers = [threading.Thread(target=work, args=(key,)) for key in KEYS]
    for worker in workers:
        worker.start()
    try:
        for number in range(2):
            old = site.gateways[number]
            key = next(key for key in KEYS if site.chat(key)[2] == number)
            stream = Stream(site, key)
            assert stream.who == number
            old.process.terminate()
            while site.chat(key)[2] == number:  # until it goes elsewhere
                pass
            site.gemini.goes_on.put(True)
            assert stream.rest().endswith(b"data: [DONE]\n\n")
            assert old.process.wait(20) == 0
            site.gateways[number] = site.start(number)
    finally:
        is_over.set()
        for worker in workers:
            worker.join()
    assert failures == []
    assert len(done) > 100
