"""`agproxy doctor` as a user runs it: what is found where something is wrong, and what to do about it."""

import email.utils
import json
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from authority import make_certificates
from running import ROOT, clean_environment, start

from agproxy.cooldowns import Cause, CoolDown
from agproxy.io.limits import LimitsFile

KEY = "AIzaSyA-good-key-1234567890abcdefghijk"


class Told(dict):
    """The findings by name. status: the exit status; text: all that was printed."""


@pytest.fixture
def home(tmp_path):
    (tmp_path / "home").mkdir(mode=0o700)
    return tmp_path / "home"


@pytest.fixture
def doctor(home, simulator):
    """One examination of accounts on the simulated Gemini; its JSON is read."""

    def run(*arguments, **environ):
        environ = {"GEMINI_API_KEY": KEY, "AGPROXY_UPSTREAM_URL": simulator.url, "AGPROXY_PORT": free_port()} | environ
        done = subprocess.run(
            [sys.executable, "-m", "agproxy", "doctor", "--json", "--timeout", "5", *arguments],
            env=clean_environment(home, environ),
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=60,
        )
        assert done.returncode in (0, 1), done.stderr
        told = Told((finding["name"], finding) for finding in json.loads(done.stdout))
        told.status, told.text = done.returncode, done.stdout + done.stderr
        assert (done.returncode == 1) == any(finding["state"] == "fail" for finding in told.values())
        assert KEY not in told.text
        assert all(finding["advice"] for finding in told.values() if finding["state"] in ("fail", "warn"))
        return told

    return run


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


@contextmanager
def serving(handler, context=None):
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Stranger(BaseHTTPRequestHandler):
    """Some other program."""

    asked = 0

    def do_GET(self):
        type(self).asked += 1
        self.send_response(200)
        self.end_headers()

    do_POST = do_GET

    def version_string(self):
        return "stranger/1"

    def log_message(self, *_):
        """The test tells what matters."""


# --- all is well -----------------------------------------------------------------------------------------------


def test_all_is_well_with_a_gateway_that_runs(doctor, gateway):
    told = doctor(AGPROXY_PORT=gateway.url.rpartition(":")[2])

    assert told.status == 0
    assert {name: f["state"] for name, f in told.items() if f["state"] != "ok"} == {}
    assert "runs at http://127.0.0.1" in told["port"]["found"]
    assert "gemini-2.5-flash-lite answered" in told["chat"]["found"]
    assert "[DONE]" in told["stream"]["found"]
    assert [name for name in told if name.startswith("account key-")]


def test_without_a_gateway_it_says_how_to_start_one(doctor):
    told = doctor()

    assert told.status == 0
    assert "is free" in told["port"]["found"]
    assert told["chat"]["state"] == told["stream"]["state"] == "skipped"
    assert "agproxy serve" in told["chat"]["advice"]


def test_offline_nobody_is_called(doctor, gateway):
    class Counting(Stranger):
        asked = 0

    with serving(Counting) as port:
        told = doctor(
            "--offline", AGPROXY_UPSTREAM_URL=f"http://127.0.0.1:{port}", AGPROXY_PORT=gateway.url.rpartition(":")[2]
        )

    assert told.status == 0
    assert Counting.asked == 0
    assert told["chat"]["state"] == told["upstream"]["state"] == "skipped"


def test_a_simulated_gemini_needs_no_account(doctor):
    told = doctor(GEMINI_API_KEY="", AGPROXY_SIMULATE="on")
    assert told.status == 0
    assert told["upstream"]["state"] == "skipped"


def test_accounts_that_cannot_be_read_are_no_reason_to_simulate(doctor, home):
    file = home / "accounts.json"
    file.write_text("{]")
    file.chmod(0o600)
    told = doctor(GEMINI_API_KEY="", AGPROXY_SIMULATE="auto")
    assert told["accounts"]["state"] == "fail"
    assert "simulated" not in told.text


def test_for_people_the_advice_stands_below_the_finding(home, simulator):
    done = subprocess.run(
        [sys.executable, "-m", "agproxy", "doctor", "--offline"],
        env=clean_environment(home, {"AGPROXY_PORT": free_port()}),
        capture_output=True,
        text=True,
    )
    lines = done.stdout.splitlines()
    (place,) = [index for index, line in enumerate(lines) if line.startswith("fail")]
    assert "accounts" in lines[place]
    assert lines[place + 1].strip().startswith("-> agproxy accounts add")
    assert lines[-1].startswith("1 broken, 0 to look at")
    assert done.returncode == 1


# --- files and settings ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"), [('{"prot": 1}', "did you mean port"), ("{", "not JSON"), ('{"port": "x"}', "whole number")]
)
def test_a_config_that_cannot_be_used(doctor, home, text, found):
    (home / "config.json").write_text(text)
    told = doctor("--offline")

    assert told["settings"]["state"] == "fail"
    assert found in told["settings"]["found"]
    assert "chat" not in told


def test_settings_that_are_misspelt_or_shut_everybody_out(doctor):
    assert "AGPROXY_PORTT" in doctor("--offline", AGPROXY_PORTT="1")["settings"]["found"]
    told = doctor("--offline", AGPROXY_AUTH_MODE="strict")
    assert told["start"]["state"] == "fail"
    assert "AGPROXY_API_KEY" in told["start"]["advice"]


def test_permissions_that_are_too_wide(doctor, home):
    (home / "config.json").write_text('{"proxy": {"api_key": "sk-client"}}')
    (home / "config.json").chmod(0o644)
    home.chmod(0o755)
    told = doctor("--offline")

    assert told["home folder"]["advice"] == f"chmod 700 {home}"
    assert told["settings"]["advice"] == f"chmod 600 {home / 'config.json'}"
    assert "sk-client" not in told.text


def test_a_home_that_is_no_folder(doctor, home, tmp_path):
    (tmp_path / "file").write_text("x")
    told = doctor("--offline", "--home", str(tmp_path / "file"))
    assert told["home folder"]["state"] == "fail"


def test_accounts_that_are_missing_broken_or_off(doctor, home):
    assert "accounts add" in doctor("--offline", GEMINI_API_KEY="")["accounts"]["advice"]
    file = home / "accounts.json"
    file.write_text("{]")
    file.chmod(0o600)
    assert doctor("--offline")["accounts"]["state"] == "fail"
    row = {"id": "key-1", "kind": "api_key", "api_key": "AIzaSyB-good-key-1234567890abcdefghijk", "enabled": False}
    file.write_text(json.dumps({"version": 1, "accounts": [row]}))
    told = doctor("--offline", GEMINI_API_KEY="")
    assert "accounts enable" in told["accounts"]["advice"]


def test_limits_that_hold_and_a_file_that_is_none(doctor, home):
    now = time.time()
    cool_down = CoolDown(until=now + 600, cause=Cause.DAY, steps=1, message="")
    LimitsFile(home).update(lambda _: {("key-1", "m"): cool_down}, now)
    told = doctor("--offline")
    assert told["limits.json"]["state"] == "warn"
    assert "1 limit" in told["limits.json"]["found"]
    (home / "limits.json").write_text("{")
    assert "not what this version writes" in doctor("--offline")["limits.json"]["found"]


def test_a_state_file_that_is_broken(doctor, home):
    (home / "state.sqlite3").write_bytes(b"no database at all, but long enough to be read as one" * 20)
    told = doctor("--offline")
    assert told["state.sqlite3"]["state"] == "fail"
    assert told["state.sqlite3"]["advice"].startswith("move it away")


# --- the port --------------------------------------------------------------------------------------------------


def test_a_port_that_another_program_has(doctor):
    with serving(Stranger) as port:
        told = doctor("--offline", AGPROXY_PORT=str(port))

    assert told["port"]["state"] == "fail"
    assert "stranger/1" in told["port"]["found"]
    assert "--port" in told["port"]["advice"]


@pytest.mark.parametrize("challenge", [None, 'Basic realm="router"'])
def test_another_program_that_has_the_port_is_not_told_the_client_key(doctor, challenge):
    heard = []

    class Curious(Stranger):
        def do_GET(self):
            heard.append(str(self.headers))
            self.send_response(200 if challenge is None else 401)
            if challenge is not None:
                self.send_header("www-authenticate", challenge)
            self.send_header("content-length", "0")
            self.end_headers()

        do_POST = do_GET

    keys = {"AGPROXY_API_KEY": "sk-ours", "AGPROXY_AUTH_MODE": "strict"}
    with serving(Curious) as port:
        told = doctor("--offline", AGPROXY_PORT=str(port), **keys)
        doctor("--offline", AGPROXY_PORT=str(port), GATEWAY_API_KEY="sk-mine")

    assert "another program answers" in told["port"]["found"]
    assert len(heard) == 2
    assert not [headers for headers in heard if "authorization" in headers.lower() or "sk-" in headers]


def test_a_port_whose_program_says_nothing(doctor):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        told = doctor("--offline", "--timeout", "0.3", AGPROXY_PORT=str(listener.getsockname()[1]))
    assert told["port"]["state"] == "fail"
    assert "0.3 s" in told["port"]["found"]


def test_a_gateway_with_another_key(doctor, tmp_path, simulator):
    environ = {"GEMINI_API_KEY": "good", "AGPROXY_UPSTREAM_URL": simulator.url, "AGPROXY_AUTH_MODE": "strict"}
    running = start("serve", home=tmp_path / "other", AGPROXY_API_KEY="sk-theirs", **environ)
    try:
        port = running.url.rpartition(":")[2]
        told = doctor("--offline", AGPROXY_PORT=port, AGPROXY_API_KEY="sk-ours", AGPROXY_AUTH_MODE="strict")
        keyless = doctor("--offline", AGPROXY_PORT=port)
        fine = doctor(AGPROXY_PORT=port, AGPROXY_API_KEY="sk-theirs", AGPROXY_AUTH_MODE="strict")
    finally:
        running.stop()

    assert "refuses this client key" in told["port"]["found"]
    assert "asks for a client key, and none" in keyless["port"]["found"]
    assert fine["chat"]["state"] == "ok"
    assert "sk-ours" not in told.text
    assert "sk-theirs" not in fine.text


def test_a_gateway_with_named_keys_is_asked_with_the_one_that_clients_have(doctor, home, simulator):
    environ = {"GEMINI_API_KEY": "good", "AGPROXY_UPSTREAM_URL": simulator.url}
    command = [sys.executable, "-m", "agproxy", "keys", "add", "laptop"]
    made = subprocess.run(
        command, env=clean_environment(home, {}), capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    key = re.search(r"agp-\S+", made.stdout)[0]
    running = start("serve", home=home, **environ)
    try:
        port = running.url.rpartition(":")[2]
        without = doctor("--offline", AGPROXY_PORT=port)
        fine = doctor(AGPROXY_PORT=port, GATEWAY_API_KEY=key)
    finally:
        running.stop()

    assert "agproxy keys" in without["port"]["advice"] + without.get("chat", {}).get("advice", "")
    assert fine["chat"]["state"] == fine["stream"]["state"] == "ok"
    assert key not in fine.text


def test_a_gateway_over_tls(doctor, tmp_path, simulator):
    make_certificates(tmp_path, "localhost")
    chain = tmp_path / "chain.pem"  # with its authority, by which doctor knows it
    chain.write_bytes((tmp_path / "server.pem").read_bytes() + (tmp_path / "ca.pem").read_bytes())
    files = {"AGPROXY_TLS_CERT": str(chain), "AGPROXY_TLS_KEY": str(tmp_path / "server.key")}
    running = start(
        "serve", home=tmp_path / "other", GEMINI_API_KEY="good", AGPROXY_UPSTREAM_URL=simulator.url, **files
    )
    try:
        told = doctor(AGPROXY_PORT=running.url.rpartition(":")[2], **files)
        other = doctor("--offline", AGPROXY_HOST="127.0.0.1", AGPROXY_PORT=running.url.rpartition(":")[2], **files)
    finally:
        running.stop()

    assert "runs at https://localhost" in told["port"]["found"]
    assert told["chat"]["state"] == told["stream"]["state"] == "ok"
    assert other["port"]["state"] == "warn"  # the certificate is made for another name
    assert "SSL_CERT_FILE" in other["port"]["advice"]
    assert "cannot be read" in doctor("--offline", AGPROXY_TLS_CERT="/nowhere.pem")["start"]["found"]


def test_an_address_that_this_machine_has_not(doctor):
    told = doctor(
        "--offline", "--timeout", "0.5", AGPROXY_HOST="192.0.2.1", AGPROXY_API_KEY="k", AGPROXY_AUTH_MODE="strict"
    )
    assert told["port"]["state"] == "fail"


def test_a_unix_socket_and_its_place(doctor, tmp_path):
    path = tmp_path / "s"
    assert "made at the start" in doctor("--offline", AGPROXY_LISTEN_UNIX=str(path))["unix socket"]["found"]
    assert doctor("--offline", AGPROXY_LISTEN_UNIX=str(tmp_path / "no" / "s"))["unix socket"]["state"] == "fail"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        told = doctor("--offline", AGPROXY_LISTEN_UNIX=str(path), AGPROXY_HOST="")
    assert "somebody listens" in told["unix socket"]["found"]
    assert told["port"]["state"] == "skipped"
    assert "made anew" in doctor("--offline", AGPROXY_LISTEN_UNIX=str(path))["unix socket"]["found"]
    path.unlink()
    path.write_text("x")
    assert "no socket" in doctor("--offline", AGPROXY_LISTEN_UNIX=str(path))["unix socket"]["found"]


# --- the way to Google -----------------------------------------------------------------------------------------


def test_a_name_that_leads_nowhere(doctor):
    told = doctor(AGPROXY_UPSTREAM_URL="https://nothing.invalid")
    assert told["dns"]["state"] == told["upstream"]["state"] == "fail"
    assert "nothing.invalid" in told["dns"]["found"]
    assert "above" in next(f for name, f in told.items() if name.startswith("account "))["advice"]


def test_a_proxy_that_is_not_there_or_cannot_be_read(doctor):
    secret = {"AGPROXY_UPSTREAM_PROXY": f"http://me:hidden@127.0.0.1:{free_port()}"}
    told = doctor(AGPROXY_UPSTREAM_URL="https://nothing.invalid", **secret)
    assert told["proxy"]["state"] == "fail"
    assert "refused" in told["proxy"]["found"]
    assert "hidden" not in told.text
    told = doctor(AGPROXY_UPSTREAM_URL="https://nothing.invalid", AGPROXY_UPSTREAM_PROXY="ftp://x")
    assert "upstream_proxy" in told["proxy"]["found"]


def test_a_certificate_that_nobody_trusts(doctor, tmp_path):
    make_certificates(tmp_path, "localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    with serving(Stranger, context) as port:
        url = f"https://localhost:{port}"
        told = doctor(AGPROXY_UPSTREAM_URL=url)
        trusted = doctor(AGPROXY_UPSTREAM_URL=url, AGPROXY_CA_FILE=str(tmp_path / "ca.pem"))

    assert "not trusted" in told["upstream"]["found"]
    assert "--ca-file" in told["upstream"]["advice"]
    assert trusted["upstream"]["state"] == "ok"


@pytest.mark.parametrize(("seconds", "state"), [(0, "ok"), (90, "warn"), (-4000, "fail")])
def test_a_clock_that_goes_wrong(doctor, seconds, state):

    class Clock(Stranger):
        def date_time_string(self, timestamp=None):
            return email.utils.formatdate(time.time() - seconds, usegmt=True)

    with serving(Clock) as port:
        told = doctor(AGPROXY_UPSTREAM_URL=f"http://127.0.0.1:{port}")
    assert told["clock"]["state"] == state


def test_an_account_that_google_refuses(doctor):
    told = doctor(GEMINI_API_KEY="invalid-key-0123456789")
    account = next(f for name, f in told.items() if name.startswith("account "))
    assert account["state"] == "fail"
    assert "aistudio" in account["advice"]
    assert "invalid-key-0123456789" not in told.text


def test_a_model_that_the_account_has_not(doctor, gateway):
    told = doctor("--model", "no-such-model", AGPROXY_PORT=gateway.url.rpartition(":")[2])
    account = next(f for name, f in told.items() if name.startswith("account "))
    assert "--model" in account["advice"]
    assert told["chat"]["state"] == "fail"
    assert "--model" in told["chat"]["advice"]
