"""No secret comes out anywhere: a real gateway with accounts of every kind, an upstream that quotes each credential in
each of its errors, every protocol, every command; then all that came out is searched for all that went in.

What came out: standard output and error at log level debug, heads and bodies of all answers, the files of the home
folder, /proc/PID/cmdline, and what upstream saw of URLs. What went in: keys, tokens, passwords, and for logs, files and
errors also words of prompts, tool results and answers. Each is looked for as it is, in base64 and percent-encoded.
"""

import asyncio
import base64
import contextlib
import gc
import http.server
import importlib.util
import json
import logging
import os
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
import time
import urllib.parse
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import hostile_upstream
import pytest
from running import ROOT, clean_environment, start

from agproxy import config
from agproxy.account import hide, secrets_of_url
from agproxy.errors import ConfigError
from agproxy.io import logs

HAS_CRYPTOGRAPHY = importlib.util.find_spec("cryptography") is not None

# What must come out nowhere. None is one of a real service.
SECRETS = {
    "key of the environment": "AIzaSyEnvironment0123456789abcdefghijkl",
    "key of the file": "AIzaSyFile9876543210zyxwvutsrqponmlkjih",
    "new kind of key": "AQ.Ab8RN6NewKindOfKey0123456789_abcdefghijklmnop",
    "key that looks like none": "correct horse battery".replace(" ", "-") + "-staple",
    "key behind a proxy": "AIzaSyProxied0123456789abcdefghijklmnop",
    "key behind a refusing proxy": "AIzaSyTunnel0123456789abcdefghijklmnopq",
    "proxy's password": "pr0xy-pass:w/rd",
    "client secret": "GOCSPX-ClientSecret0123456789abc",
    "refresh token": "1//0gRefreshToken-0123456789abcdefghij",
    "refused refresh token": "1//0gRefusedToken-0123456789abcdefghij",
    "access token": "ya29.a0AccessToken0123456789abcdefghijkl",
    "command's token": "commandtoken.of-no-known-form",
    "client key": "sk-client-key-0123456789abcdefghijklmnop",
    "client key in the file": "family-client-key-of-the-file",
    "wrong client key": "sk-client-key-0123456789abcdefghijklmnoX",
    "misplaced key": "AIzaSyMisplaced0123456789abcdefghijklmn",
}
# What must be in no log, no error and no file; the answers to the client who sent them hold them, and the state.
MARKERS = {
    "prompt": "prompt-marker-zwölf-7f3a",
    "tool result": "tool-result-marker-91bc",
    "answer": "answer-marker-40de",
}
# They hold secrets, and that is what they are for.
HOLDERS = {"config.json", "accounts.json"}
# These keep conversations, which is what they are for; keys are in none of them.
KEEPERS = ("state.sqlite3", "state.sqlite3-wal", "state.sqlite3-shm")
JOURNAL = "journal.sqlite3"

TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
FAILURES = (
    "400",
    "404",
    "500",
    "503",
    "429",
    "html",
    "garbage",
    "strange",
    "late",
    "cut",
    "drop",
    "nohttp",
    "redirect",
)


def forms(secret: str) -> dict[str, bytes]:
    """How a secret may be written: as it is, percent-encoded, in JSON, and in base64 wherever it stands in a text."""
    plain = secret.encode()
    found = {"as it is": plain, "percent-encoded": urllib.parse.quote(secret, safe="").encode()}
    found["in JSON"] = json.dumps(secret)[1:-1].encode()
    for shift in range(3):
        # The bytes beside it are not known: only digits that stand for nothing but the secret are looked for.
        digits = base64.b64encode(b"\0" * shift + plain)[(0, 2, 3)[shift] :]
        whole = digits.rstrip(b"=")[: len(digits) - (4 if (shift + len(plain)) % 3 else 0)]
        found[f"in base64, {shift}"] = whole
        found[f"in base64 for URLs, {shift}"] = whole.replace(b"+", b"-").replace(b"/", b"_")
    return found


FORMS = {name: forms(secret) for name, secret in (SECRETS | MARKERS).items()}


def leaks(where: str, data: bytes, names) -> list[str]:
    return [
        f"{where}: the {name}, {form}: ...{data[max(data.find(text) - 120, 0) : data.find(text) + 60]!r}"
        for name in names
        for form, text in FORMS[name].items()
        if text in data
    ]


@dataclass
class Seen:
    """All that came out. answers: (what was asked, status, head, body)."""

    home: Path
    log: str = ""
    answers: list[tuple[str, int, str, bytes]] = field(default_factory=list)
    printed: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    cmdline: bytes = b""
    targets: list[str] = field(default_factory=list)
    upstream_heads: list[str] = field(default_factory=list)
    exported: bytes = b""


def account(label: str, kind: str, secret: dict, **more) -> dict:
    """A row of accounts.json. The models that it serves begin with its label."""
    return {"id": f"{label}-1", "kind": kind, "label": label, "models": [f"gemini-{label}*"], "secret": secret, **more}


def key_account(label: str, key: str, proxy: str = "", base_url: str = "") -> dict:
    secret = {"api_key": SECRETS[key]} | ({"proxy": proxy} if proxy else {})
    return account(label, "gemini_api_key", secret, upstream={"base_url": base_url})


def account_rows(upstream, token_file: Path) -> list[dict]:
    """Accounts of every kind."""
    password = urllib.parse.quote(SECRETS["proxy's password"], safe="")
    proxy = f"http://proxy-user:{password}@127.0.0.1:{upstream.port}"
    user = {"client_id": "my-client", "client_secret": SECRETS["client secret"]}
    oauth = user | {"refresh_token": SECRETS["refresh token"], "token_uri": f"{upstream.url}/token"}
    refused = user | {"refresh_token": SECRETS["refused refresh token"], "token_uri": f"{upstream.url}/refusing-token"}
    told = f"open({str(token_file)!r}).read()"
    rows = [
        key_account("file", "key of the file"),
        key_account("newkind", "new kind of key"),
        key_account("odd", "key that looks like none"),
        key_account("proxied", "key behind a proxy", proxy, "http://gemini.invalid"),
        key_account("tunnel", "key behind a refusing proxy", proxy, "https://gemini.invalid"),
        account("oauth", "oauth_user", oauth),
        account("refused", "oauth_user", refused),
        account("gce", "gce_metadata", {"host": f"127.0.0.1:{upstream.port}"}),
        account("command", "command", {"command": [sys.executable, "-c", f"print({told})"]}),
        account("failing", "command", {"command": [sys.executable, "-c", f"import sys; sys.exit('ya29.' + {told})"]}),
    ]
    if HAS_CRYPTOGRAPHY:
        secret = {"client_email": "robot@example.iam", "private_key": private_key()}
        rows.append(account("service", "service_account", secret | {"token_uri": f"{upstream.url}/token"}))
    return rows


def private_key() -> str:
    """A new key in PEM; a line in its middle is made known as a secret."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    SECRETS["private key"] = pem.splitlines()[5]
    FORMS["private key"] = forms(SECRETS["private key"])
    return pem


class Run:
    """The run of the process whose output is looked at."""

    def __init__(self, home: Path, upstream, token_file: Path) -> None:
        self.seen = Seen(home)
        self.home = home
        self.upstream = upstream
        self.rows = account_rows(upstream, token_file)
        self.write("accounts.json", {"version": 1, "accounts": self.rows})
        self.settings = {"proxy": {"api_key": {"family": SECRETS["client key in the file"]}}, "max_attempts": 1}
        self.write("config.json", self.settings)
        # One that the environment brings too: the gateway's keys are those of the file then.
        self.environ = {
            "AGPROXY_UPSTREAM_URL": upstream.url,
            "AGPROXY_LOG_LEVEL": "debug",
            "AGPROXY_JOURNAL_BODIES": "all",
            "AGPROXY_RELOAD_SECONDS": "0",
            "AGPROXY_AUTH_MODE": "strict",
            "AGPROXY_ALLOW_PLAIN_HTTP": "on",
            "AGPROXY_MAX_WAIT_SECONDS": "0",
            "GEMINI_API_KEY": SECRETS["key of the environment"],
        }
        self.running = start("serve", home=home, **self.environ)
        self.key = SECRETS["client key in the file"]

    def write(self, name: str, value) -> None:
        text = value if isinstance(value, str) else json.dumps(value)
        (self.home / name).write_text(text, encoding="utf-8")
        (self.home / name).chmod(0o600)

    def ask(self, path: str, body=None, key: str | None = None, **more):
        headers = {"Authorization": f"Bearer {self.key if key is None else key}"}
        answer = self.running.ask(path, body, headers=headers, **more)
        self.seen.answers.append((f"{path} {str(body)[:300]}", answer.status, str(answer.headers), answer.body))
        return answer

    # --- what is done

    def chat(self, model: str, word: str, stream: bool = False):
        text = f"{MARKERS['prompt']} do:{word}"
        messages = [
            {"role": "user", "content": text},
            {"role": "assistant", "tool_calls": [{"id": "c1", "type": "function", "function": CALL}]},
            {"role": "tool", "tool_call_id": "c1", "content": f"{MARKERS['tool result']} do:{word}"},
        ]
        body = {"model": model, "messages": messages, "tools": [TOOL], "stream": stream}
        return self.ask("/v1/chat/completions", body)

    def failures(self) -> None:
        """Each account with each failure, whole and streamed; models differ, so that no limit hides the next one."""
        labels = [row["label"] for row in self.rows] + ["2.5-flash"]
        jobs = [(f"gemini-{label}-{word}", word) for word in FAILURES for label in labels]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda job: (self.chat(*job), self.chat(*job, stream=True)), jobs))

    def refusals(self) -> None:
        """These take accounts out, and so come last."""
        for label in [*(row["label"] for row in self.rows), "2.5-flash"]:
            self.chat(f"gemini-{label}", "401" if label in ("oauth", "command", "service", "odd") else "403")

    def successes(self) -> None:
        for label in ("file", "newkind", "odd", "proxied", "oauth", "gce", "command", "2.5-flash"):
            model = f"gemini-{label}"
            assert self.chat(model, "good").status == 200, (label, self.seen.answers[-1])
            assert MARKERS["answer"].encode() in self.chat(model, "good", stream=True).body
        if HAS_CRYPTOGRAPHY:
            assert self.chat("gemini-service", "good").status == 200
        text = f"{MARKERS['prompt']} do:good"
        for stream in (False, True):
            prompt = {"model": "gemini-2.5-flash", "prompt": text, "stream": stream}
            assert self.ask("/v1/completions", prompt).status == 200
            asked = {"model": "gemini-2.5-flash", "input": text, "stream": stream}
            answer = self.ask("/v1/responses", asked)
            assert answer.status == 200
        kept = self.ask("/v1/responses", {"model": "gemini-2.5-flash", "input": text}).json["id"]
        again = {"model": "gemini-2.5-flash", "input": text, "previous_response_id": kept}
        assert self.ask("/v1/responses", again).status == 200
        background = self.ask("/v1/responses", again | {"background": True}).json["id"]
        for path in (kept, f"{kept}/input_items", background):
            assert self.ask(f"/v1/responses/{path}").status == 200
        assert self.ask("/v1/responses/input_tokens", {"model": "gemini-2.5-flash", "input": text}).status == 200
        assert self.ask("/v1/models").status == 200
        for path in ("/", "/healthz", "/readyz", "/v1/models/gemini-2.5-flash"):
            assert self.ask(path).status == 200

    def mistakes(self) -> None:
        """What clients do wrong, each protocol."""
        text = f"{MARKERS['prompt']} do:400"
        for path, body in (
            ("/v1/chat/completions", {"messages": [{"role": "user", "content": text}]}),
            ("/v1/completions", {"prompt": text}),
            ("/v1/responses", {"input": text}),
            ("/v1/responses/input_tokens", {"input": text}),
            ("/v1/responses/compact", {"input": text}),
        ):
            for word in ("400", "500", "late"):
                body = json.loads(json.dumps(body).replace("do:400", f"do:{word}"))
                for stream in (False, True):
                    self.ask(path, body | {"model": f"gemini-file-{word}-{len(path)}", "stream": stream})
            assert self.ask(path, body | {"model": "gemini-file"}, key=SECRETS["wrong client key"]).status == 401
            self.ask(path, body | {"model": "none-of-these"})
            self.ask(path, body | {"model": "gemini-file", "temperature": "hot"})
            self.ask(path, json.dumps(body)[:-7].encode())
            self.ask(path, b"\xff\xfe" + json.dumps(body).encode())
        for path in ("/v1/models/nothing", "/v1/nothing", "/v1/responses/resp_nothing", "/v1/agproxy/why/nothing"):
            self.ask(path)
            self.ask(path, key=SECRETS["wrong client key"])
        self.ask("/v1/chat/completions?key=" + SECRETS["wrong client key"], {"model": "gemini-file"}, key="")

    def reasons(self) -> None:
        """Why some of the requests went where they went."""
        for _, _, head, _ in self.seen.answers[::5]:
            for line in head.splitlines():
                if line.lower().startswith("x-request-id:"):
                    self.ask(f"/v1/agproxy/why/{line.split()[1]}")

    def disconnect(self) -> None:
        """A client that goes away while its answer is awaited, and one that sends half a request."""
        body = json.dumps({"model": "gemini-file", "messages": [{"role": "user", "content": "do:hang"}]}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self.key}\r\n"
        place = ("127.0.0.1", int(self.running.url.rpartition(":")[2]))
        with socket.create_connection(place) as sock:
            sock.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            assert self.upstream.hangs.wait(20)
        with socket.create_connection(place) as sock:
            sock.sendall(f"{head}Content-Length: 99\r\n\r\n".encode() + MARKERS["prompt"].encode())
        with socket.create_connection(place) as sock:
            sock.sendall(f"{head}Bad Header {SECRETS['wrong client key']}\r\n\r\n".encode())
            self.seen.answers.append(("a bad head", 0, "", sock.recv(65536)))

    def reload(self) -> None:
        """Good and bad files, taken up by SIGHUP."""
        bad_row = {"kind": "gemini_api_key", "secret": {"api_key": SECRETS["misplaced key"] + " "}}
        key = SECRETS["misplaced key"]
        for name, value in (
            ("config.json", {"max_attempts": key}),
            ("config.json", {"proxy": {"api_key": [key, 1]}}),
            ("config.json", {"upstream_proxy": key, "scheduling": key}),
            ("config.json", '{"proxy": {"api_key": "' + key + '", ]}'),
            ("accounts.json", {"version": 1, "accounts": [*self.rows, bad_row]}),
            ("accounts.json", {"version": 1, "accounts": [{"kind": "oauth_user", "secret": {"client_id": [key]}}]}),
            ("accounts.json", {"version": 1, "accounts": [{"kind": key, "id": key, "secret": {"api_key": key}}]}),
            ("accounts.json", '{"version": 1, "accounts": [{"secret": {"api_key": "' + key),
        ):
            kept = (self.home / name).read_text(encoding="utf-8")
            self.hang_up(name, value)
            self.write(name, kept)

    def hang_up(self, name: str, value) -> None:
        self.write(name, value)
        before = len(self.running.lines)
        os.kill(self.running.process.pid, signal.SIGHUP)
        # config.json is read before accounts.json, and of that each reading writes a line.
        until = time.monotonic() + 20
        while not any("accounts" in line for line in self.running.lines[before:]):
            assert time.monotonic() < until
            self.running.ask("/healthz")

    def command(self, *words: str, stdin: str = "", **environ: str) -> tuple[int, bytes]:
        done = subprocess.run(
            [sys.executable, "-m", "agproxy", *words],
            env=clean_environment(self.home, self.environ | environ),
            input=stdin.encode(),
            capture_output=True,
            timeout=60,
            cwd=ROOT,
        )
        return done.returncode, done.stdout + done.stderr

    def commands(self) -> None:
        key = SECRETS["misplaced key"]
        lines: list[tuple[str, ...]] = [
            ("accounts", "list"),
            ("accounts", "status", "--json"),
            *(("accounts", "show", word, "--json") for word in ("oauth", "proxied")),
            ("accounts", "show", "service" if HAS_CRYPTOGRAPHY else "gce"),
            *(("accounts", "test", "--json", "--model", f"gemini-x-do:{word}") for word in ("403", "garbage")),
            ("config", "--json"),
            ("models", "list", "--upstream"),
            ("logs", "--limit", "999999", "--json"),
            # Mistakes: the key where it does not belong.
            ("serve", "--api-key", key),
            (f"--api-key={SECRETS['key that looks like none']}",),
            ("accounts", "add", key),
            ("accounts", "add", "--key", SECRETS["key that looks like none"]),
            ("accounts", "show", key),
            ("accounts", "edit", "file", "--proxy", f"http://u:{key}@proxy"),
            ("accounts", "edit", "file", "--upstream-base", f"http://u:{key}@host"),
            ("config", key),
        ]
        with ThreadPoolExecutor(3) as pool:
            for words, printed in zip(lines, pool.map(lambda words: self.command(*words), lines), strict=True):
                self.seen.printed[" ".join(words)] = printed
        for name, value in (("AGPROXY_PORT", key), ("AGPROXY_API_KEY", f"{key}\x01"), ("AGPROXY_UPSTREAM_PROXY", key)):
            self.seen.printed[name] = self.command("serve", "--port", "0", "--host", "256.0.0.1", **{name: value})
        self.seen.printed["a URL with a password"] = self.command(
            "config", AGPROXY_UPSTREAM_URL=f"http://u:{urllib.parse.quote(key)}@127.0.0.1:1"
        )
        self.seen.printed["bad keys"] = self.command("accounts", "add", stdin=f"{key} {key}\n")
        self.seen.exported = self.command("accounts", "export")[1]

    def end(self) -> Seen:
        process = self.running.process
        line = Path(f"/proc/{process.pid}/cmdline")
        self.seen.cmdline = line.read_bytes() if line.exists() else b""
        self.upstream.release.set()
        self.running.stop()
        self.seen.log = "\n".join(self.running.lines)
        self.seen.targets = self.upstream.targets
        self.seen.upstream_heads = self.upstream.heads
        return self.seen


CALL = {"name": "look", "arguments": "{}"}


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    home = tmp_path_factory.mktemp("secrets") / "home"
    home.mkdir(mode=0o700)
    token_file = tmp_path_factory.mktemp("token") / "token"
    token_file.write_text(SECRETS["command's token"])
    with hostile_upstream.serving(MARKERS["answer"], SECRETS["access token"]) as upstream:
        run = Run(home, upstream, token_file)
        try:
            run.successes()
            run.disconnect()
            run.failures()
            run.mistakes()
            run.refusals()
            run.reload()
            run.commands()
            run.reasons()
        finally:
            seen = run.end()
    return seen


def test_the_log_tells_no_secret_no_prompt_and_no_answer(seen):
    assert "DEBUG" in seen.log, "the log was to be at its fullest"
    assert leaks("the log", seen.log.encode(), FORMS) == []


def test_no_answer_tells_a_secret(seen):
    assert {status for _, status, _, _ in seen.answers} >= {200, 400, 401, 404, 429, 500, 502, 503}
    found = []
    for asked, status, head, body in seen.answers:
        found += leaks(f"{status} for {asked}", head.encode() + body, SECRETS)
    assert not found, "\n".join(found)


def test_no_error_tells_a_prompt_a_tool_result_or_an_answer(seen):
    found = []
    for asked, status, head, body in seen.answers:
        if status >= 400:
            found += leaks(f"{status} for {asked}", head.encode() + body, MARKERS)
    assert not found, "\n".join(found)


def test_no_command_tells_a_secret_unless_it_is_asked_to_export_them(seen):
    found = []
    for words, (_, printed) in seen.printed.items():
        found += leaks(words, printed, FORMS)
    assert not found, "\n".join(found)
    assert seen.printed["accounts list"][0] == 0
    assert SECRETS["refresh token"].encode() in seen.exported, "export is the one that does"


def test_no_file_but_those_for_secrets_holds_one_and_none_but_the_state_a_conversation(seen):
    found = []
    for file in (file for file in seen.home.rglob("*") if file.is_file() and file.name not in HOLDERS):
        found += leaks(file.name, file.read_bytes(), SECRETS if file.name in KEEPERS else FORMS)
    assert not found, "\n".join(found)


def test_the_journal_holds_no_secret_not_in_bodies_either_and_no_conversation_but_in_those(seen):
    with contextlib.closing(sqlite3.connect(seen.home / JOURNAL)) as database:
        entries = repr(database.execute("SELECT told FROM pages").fetchall())
        bodies = [zlib.decompress(told) for (told,) in database.execute("SELECT told FROM bodies")]

    assert not (found := leaks("an entry", entries.encode(), FORMS)), "\n".join(found)
    assert len(bodies) > 300
    assert MARKERS["tool result"].encode() in b"".join(bodies), "bodies were to be recorded"
    found = [leak for body in bodies for leak in leaks("a body", body, SECRETS)]
    assert not found, "\n".join(found)


@pytest.mark.skipif(os.name != "posix", reason="modes are Unix's")
def test_files_are_for_their_owner_only(seen):
    modes = {path.relative_to(seen.home).as_posix(): stat.S_IMODE(path.stat().st_mode) for path in seen.home.rglob("*")}

    assert {"config.json", "accounts.json", "state.sqlite3", "limits.json", JOURNAL} <= set(modes)
    assert {name: oct(mode) for name, mode in modes.items() if mode & 0o077} == {}
    assert stat.S_IMODE(seen.home.stat().st_mode) == 0o700


def test_the_process_list_shows_no_secret(seen):
    assert leaks("/proc/PID/cmdline", seen.cmdline, FORMS) == []


def test_upstream_gets_keys_in_headers_and_never_in_a_url(seen):
    assert leaks("URLs", "\n".join(seen.targets).encode(), FORMS) == []
    heads = "\n".join(seen.upstream_heads)
    for name in ("key of the environment", "key of the file", "key behind a proxy", "access token", "command's token"):
        assert SECRETS[name] in heads, "it was to be used, else this shows nothing"
    for name in ("client key in the file", "wrong client key"):
        assert SECRETS[name] not in heads, "a client's key is for the gateway alone"


@pytest.mark.parametrize("shift", range(9))
def test_the_search_finds_what_is_hidden_in_base64(shift):
    hidden = base64.b64encode(b"x" * shift + SECRETS["client secret"].encode() + b"y" * (shift % 4))

    assert leaks("here", hidden, ["client secret"])


# --- the parts -------------------------------------------------------------------------------------------------


def logged(capsys, log):
    logs.set_up("debug")
    log(logging.getLogger("agproxy.test"))
    return capsys.readouterr().err


@pytest.fixture
def restored_logs():
    loggers = [logging.getLogger(name) for name in ("agproxy", "asyncio")]
    before = [(log.handlers[:], log.level, log.propagate) for log in loggers]
    yield
    for log, (handlers, level, propagate) in zip(loggers, before, strict=True):
        log.handlers[:], log.level, log.propagate = handlers, level, propagate


def fail(log, error, cause=None):
    try:
        raise error from cause
    except Exception:
        log.exception("it failed")


@pytest.mark.usefixtures("restored_logs")
@pytest.mark.parametrize("kind", [ValueError, KeyError, RuntimeError, UnicodeError, AssertionError])
def test_a_traceback_tells_where_and_not_what_was_in_the_request(capsys, kind):
    text = logged(capsys, lambda log: fail(log, kind(MARKERS["prompt"]), kind(SECRETS["client key"])))

    assert leaks("the log", text.encode(), FORMS) == []
    assert text.count(f"{kind.__name__} (what it says is not logged)") == 2
    assert 'test_secrets.py", line' in text
    assert "raise error from cause" in text


@pytest.mark.usefixtures("restored_logs")
def test_a_traceback_of_a_mistake_in_the_program_says_which(capsys):
    assert "TypeError: int expected\n" in logged(capsys, lambda log: fail(log, TypeError("int expected")))


@pytest.mark.usefixtures("restored_logs")
def test_a_task_that_fails_unheard_is_logged_without_what_its_exception_says(capsys):
    async def main():
        async def broken():
            raise ValueError(MARKERS["prompt"])

        task = asyncio.create_task(broken())
        await asyncio.wait({task})
        del task
        gc.collect()

    text = logged(capsys, lambda log: asyncio.run(main()))
    assert "Z ERROR asyncio: Task exception was never retrieved" in text
    assert leaks("the log", text.encode(), FORMS) == []


@pytest.mark.parametrize(
    ("text", "secrets", "expected"),
    [
        ("no such key: abcdef-1", ("abcdef-1",), "no such key: ..."),
        ("a%2Fb%3Dcdef", ("a/b=cdef",), "..."),
        ("longer-secret and secret-", ("secret", "longer-secret"), "... and ...-"),
        ("a short one stays", ("short", ""), "a short one stays"),
        ("user:pa:ss dXNlcjpwYTpzcw==", secrets_of_url("http://user:pa%3Ass@proxy:1"), "... ..."),
        ("user proxy", secrets_of_url("http://proxy:1"), "user proxy"),
    ],
)
def test_known_secrets_are_taken_out_of_what_others_write(text, secrets, expected):
    assert hide(text, secrets) == expected


@pytest.mark.parametrize("url", ["http://u:p@host", "https://u@host", "https://host/?key=k", "https://host#k"])
def test_an_upstream_url_with_a_secret_in_it_is_refused_and_not_repeated(url):
    with pytest.raises(ConfigError, match="AGPROXY_UPSTREAM_URL: a URL without") as refused:
        config.load({}, {"AGPROXY_UPSTREAM_URL": url}, {}, "config.json")
    assert url not in str(refused.value)


# --- a proxy of the environment --------------------------------------------------------------------------------


class Quoting(http.server.BaseHTTPRequestHandler):
    """A proxy that refuses every call, and quotes the login that it was sent."""

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        login = self.headers["proxy-authorization"]
        words = f"bad login {login}, that is {base64.b64decode(login.removeprefix('Basic ')).decode()}"
        body = json.dumps({"error": {"code": 400, "message": words, "status": "INVALID_ARGUMENT"}}).encode()
        self.send_response(400)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.send_error(404)

    def log_message(self, *_):
        pass


def test_the_login_of_a_proxy_of_the_environment_is_in_no_error_no_log_and_no_journal(tmp_path):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quoting) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        running = start(
            "serve",
            *("--journal-bodies", "all", "--allow-plain-http", "--log-level", "debug"),
            home=tmp_path,
            HTTP_PROXY=f"http://proxy-user:a-long-password@127.0.0.1:{proxy.server_port}",
            AGPROXY_UPSTREAM_URL="http://gemini.invalid",
            GEMINI_API_KEY="k",
        )
        try:
            answer = running.chat("hello")
            why = running.ask(f"/v1/agproxy/why/{answer.headers['x-request-id']}")
            shown = running.ask(f"/v1/agproxy/requests/{answer.headers['x-request-id']}")
        finally:
            running.stop()
            proxy.shutdown()

    assert (answer.status, why.status, shown.status) == (400, 200, 200)
    assert "bad login" in answer.json["error"]["message"]
    assert "bad login" in json.dumps(shown.json["recording"])
    told = (answer.body + why.body + shown.body).decode() + "".join(running.lines)
    assert "a-long-password" not in told
    assert base64.b64encode(b"proxy-user:a-long-password").decode() not in told
