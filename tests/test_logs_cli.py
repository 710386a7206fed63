"""`agproxy logs` and its kin, on real gateway processes and the files that they leave."""

import asyncio
import json
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.request
from contextlib import closing

import pytest
from running import clean_environment, start
from test_entries import CHAT
from test_recording import IMAGE

from agproxy import cli
from agproxy.config import Config
from agproxy.entries import Entry, Wanted
from agproxy.http11 import HttpRequest
from agproxy.io.journal import FILE, JournalFile, Reader
from agproxy.recording import Budget, Recording

PROMPT = "the words of a prompt"
KEYS = '{"ann": "key-of-ann", "bob": "key-of-bob"}'


def run(capsys, home, *arguments):
    """(status, standard output, standard error) of a command in this process."""
    status = cli.main([*arguments, "--home", str(home)])
    return (status, *capsys.readouterr())


def lines(capsys, home, *arguments):
    status, out, _ = run(capsys, home, "logs", *arguments)
    assert status == 0
    return out.splitlines()


def bearer(name):
    return {"authorization": f"Bearer key-of-{name}"}


@pytest.fixture(scope="module")
def home(simulator, tmp_path_factory):
    """A home folder in which a gateway with two client keys has worked, its bodies recorded, and has stopped."""
    home = tmp_path_factory.mktemp("home")
    (home / "config.json").write_text(json.dumps({"proxy": {"api_key": json.loads(KEYS), "auth_mode": "strict"}}))
    environ = {"GEMINI_API_KEY": "account-key", "AGPROXY_UPSTREAM_URL": simulator.url, "AGPROXY_JOURNAL_BODIES": "all"}
    served = start("serve", home=home, AGPROXY_MAX_WAIT_SECONDS="0", **environ)
    try:
        image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{IMAGE}"}}
        content = [{"type": "text", "text": PROMPT}, image]
        served.ask(
            "/v1/chat/completions", CHAT | {"messages": [{"role": "user", "content": content}]}, headers=bearer("ann")
        )
        served.ask("/v1/responses", {"model": "gpt-5", "stream": True, "input": PROMPT}, headers=bearer("bob"))
        failing = {"role": "user", "content": "[[sim:503]]"}
        served.ask("/v1/chat/completions", CHAT | {"messages": [failing]}, headers=bearer("ann"))
        served.ask("/healthz", headers=bearer("ann"))
    finally:
        served.stop()
    return home


def entries_of(home):
    with Reader(home / FILE) as reader:
        return [found.entry for found in reader.latest(Wanted(), 100)]


def ids(home):
    return [entry.id for entry in entries_of(home)]


# --- the list --------------------------------------------------------------------------------------------------


def test_each_request_is_a_line_the_newest_last(capsys, home):
    chat, responses, failed, health = lines(capsys, home)

    assert "POST /v1/chat/completions -> 200 openai_chat gpt-4o=gemini-2.5-flash" in chat
    assert "client=ann" in chat
    assert "POST /v1/responses -> 200 openai_responses gpt-5=" in responses
    assert " -> 503 " in failed
    assert "GET /healthz -> 200" in health
    assert "\x1b" not in chat  # no terminal, no colours


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("--errors",), [2]),
        (("--client", "bob"), [1]),
        (("--model", "gpt-4*"), [0, 2]),
        (("--model", "gemini-2.5-flash", "--client", "ann"), [0, 2]),
        (("--limit", "1"), [3]),
        (("--limit", "0"), []),
        (("--client", "nobody"), []),
    ],
)
def test_what_is_asked_for_is_shown(capsys, home, flags, expected):
    assert [line.split()[1] for line in lines(capsys, home, *flags)] == [ids(home)[number] for number in expected]


def test_json_is_one_object_a_line(capsys, home):
    values = [json.loads(line) for line in lines(capsys, home, "--json")]

    assert [value["id"] for value in values] == ids(home)
    assert (values[0]["client"], values[0]["status"], values[0]["protocol"]) == ("ann", 200, "openai_chat")
    assert values[1]["is_stream"]
    assert all(value["first_byte_seconds"] is not None for value in values[:2])


def test_a_home_without_a_journal_is_told(capsys, tmp_path):
    status, out, errors = run(capsys, tmp_path, "logs")

    assert (status, out) == (0, "")
    assert "holds no request" in errors


def test_follow_shows_what_ends_from_then_on(home):
    arguments = [sys.executable, "-u", "-m", "agproxy", "logs", "-f", "--errors", "--home", str(home)]
    following = subprocess.Popen(arguments, env=clean_environment(home, {}), stdout=subprocess.PIPE, text=True)
    try:
        assert ids(home)[2] in following.stdout.readline()

        async def add():
            journal = JournalFile(home / FILE, max_age_seconds=1e12, max_bytes=1 << 30)
            journal.add(Entry(id="req_fine", at=1e9, method="GET", path="/", status=200, client="follow"))
            journal.add(Entry(id="req_bad", at=1e9, method="GET", path="/", status=404, client="follow"))
            await journal.close()

        asyncio.run(add())
        assert "req_bad" in following.stdout.readline()
        following.send_signal(signal.SIGINT)
        assert following.wait(10) == 130
    finally:
        following.kill()
        following.wait()
        following.stdout.close()
        with Reader(home / FILE) as reader:
            assert [found.entry.id for found in reader.latest(Wanted(client="follow"), 9)] == ["req_fine", "req_bad"]
        forget(home, "follow")


def forget(home, client):
    """Take a client's entries out again."""
    with closing(sqlite3.connect(home / FILE)) as database:
        database.execute("DELETE FROM pages WHERE instr(told, ?)", (json.dumps(client),))
        database.commit()


# --- one -------------------------------------------------------------------------------------------------------


def test_show_tells_all_of_a_request(capsys, home):
    identifier = ids(home)[0]

    status, out, _ = run(capsys, home, "logs", "show", identifier[:12])

    assert status == 0
    for words in (
        identifier,
        "ann, from 127.0.0.1",
        "gpt-4o -> gemini-2.5-flash",
        "was chosen",
        "answered",
        "What the client sent",
        PROMPT,
        "What went upstream, call 1",
        '"contents"',
        "What came back of call 1",
        '"candidates"',
        "What the client was answered",
        '"chat.completion"',
        f"[agproxy: {len(IMAGE)} characters of base64",
    ):
        assert words in out, words


def test_show_tells_each_attempt_and_why(capsys, home):
    _, out, _ = run(capsys, home, "logs", "show", ids(home)[2])

    assert "failed with 503" in out
    assert "no account could serve" in out or out.count("failed with 503") > 1


def test_show_says_which_setting_records_bodies(capsys, home):
    with Reader(home / FILE) as reader:
        assert reader.find("req_bare") == []

    async def add():
        journal = JournalFile(home / FILE, max_age_seconds=1e12, max_bytes=1 << 30)
        journal.add(Entry(id="req_bare", at=1e9, method="GET", path="/", status=200, client="bare"))
        await journal.close()

    asyncio.run(add())
    try:
        status, out, _ = run(capsys, home, "logs", "show", "req_bare")
        assert (status, "set journal_bodies" in out) == (0, True)
        status, _, errors = run(capsys, home, "logs", "replay", "req_bare")
        assert (status, "journal_bodies" in errors) == (2, True)
    finally:
        forget(home, "bare")


@pytest.mark.parametrize("action", ["show", "replay"])
def test_an_id_that_means_none_or_several_is_refused(capsys, home, action):
    status, _, errors = run(capsys, home, "logs", action, "req_nobody")
    assert (status, "no request 'req_nobody'" in errors) == (2, True)

    status, _, errors = run(capsys, home, "logs", action, "req_")
    assert (status, "several requests begin" in errors) == (2, True)


def test_show_as_json_has_everything(capsys, home):
    _, out, _ = run(capsys, home, "logs", "show", ids(home)[1], "--json")

    value = json.loads(out)
    assert value["steps"]
    assert "response.completed" in value["recording"]["answer"]["body"]


def test_no_secret_is_shown_or_kept(capsys, home):
    told = b"".join(path.read_bytes() for path in home.glob("journal*"))
    for identifier in ids(home):
        told += run(capsys, home, "logs", "show", identifier, "--json")[1].encode()

    for secret in (b"key-of-ann", b"key-of-bob", b"account-key"):
        assert secret not in told


# --- once more -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 1, 2])
def test_the_same_version_answers_the_same(capsys, home, number):
    flags = ("--max-wait-seconds", "0")
    status, out, _ = run(capsys, home, "logs", "replay", ids(home)[number], *flags)

    assert (status, out.splitlines()) == (0, ["upstream request: the same", "answer: the same"])


def test_the_simulator_answers_the_same_once_more(capsys, home):
    status, out, _ = run(capsys, home, "logs", "replay", ids(home)[1], "--simulator")

    assert (status, out.splitlines()) == (0, ["upstream request: the same", "answer: the same"])


def test_what_another_version_would_do_is_a_diff(capsys, home):
    flags = ("--thoughts", "off", "--model-map", "gpt-4o=gemini-2.5-pro")
    before = (home / FILE).stat().st_mtime_ns

    status, out, _ = run(capsys, home, "logs", "replay", ids(home)[0], *flags)

    assert status == 1
    assert "-POST /v1beta/models/gemini-2.5-flash:generateContent" in out
    assert "+POST /v1beta/models/gemini-2.5-pro:generateContent" in out
    assert '-      "includeThoughts": true' in out
    assert out.splitlines()[-1] == "answer: the same"  # for upstream was the recording
    assert (home / FILE).stat().st_mtime_ns == before  # and leaves nothing


def test_it_is_replayed_also_where_the_settings_keep_no_journal(capsys, home):
    status, out, _ = run(capsys, home, "logs", "replay", ids(home)[1], "--journal", "off")
    assert (status, out.splitlines()[-1]) == (0, "answer: the same")


def test_a_live_replay_asks_the_account_of_then(capsys, home, simulator, monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEY", "account-key")
    monkeypatch.setenv("AGPROXY_UPSTREAM_URL", simulator.url)
    assert run(capsys, home, "logs", "replay", ids(home)[1], "--live")[0] == 0

    monkeypatch.setenv("GEMINI_API_KEY", "another-key")
    status, _, errors = run(capsys, home, "logs", "replay", ids(home)[1], "--live")
    assert (status, "is not among those in use" in errors) == (2, True)


def test_what_cannot_be_sent_again_is_refused(capsys, home):
    status, _, errors = run(capsys, home, "logs", "replay", ids(home)[3])
    assert (status, "only a request to a model" in errors) == (2, True)


@pytest.mark.parametrize(
    ("most_bytes", "budget", "said"), [(10, None, "journal_body_max_bytes"), (1000, Budget(5), "its body was dropped")]
)
def test_a_body_that_is_not_whole_is_refused(most_bytes, budget, said, capsys, tmp_path):
    body = b'{"input": "aaaaaaaaaaaaaaaaaaaa"}'
    request = HttpRequest(method="POST", path="/v1/responses", query="", headers=(), body=body, peer="", id="r")
    config = Config(journal_bodies="all", journal_body_max_bytes=most_bytes)
    recording = Recording(request, config, (), *([] if budget is None else [budget]))

    async def add():
        journal = JournalFile(tmp_path / FILE, max_age_seconds=1e12, max_bytes=1 << 30)
        values = {"at": 1e9, "method": "POST", "path": "/v1/responses", "status": 200, "action": "create"}
        journal.add(Entry(id="req_1", recording=recording, **values))
        await journal.close()

    asyncio.run(add())
    status, _, errors = run(capsys, tmp_path, "logs", "replay", "req_1")
    assert (status, said in errors) == (2, True)


def test_a_home_before_the_action_counts_as_one_after_it(capsys, home):
    identifier = ids(home)[0]
    for arguments in (["show", identifier], ["replay", identifier]):
        assert cli.main(["logs", "--home", str(home), *arguments]) == 0
        assert capsys.readouterr().out


# --- what a running gateway leaves -----------------------------------------------------------------------------


def test_nothing_of_prompts_and_answers_is_kept_unless_a_setting_says_so(simulator, tmp_path):
    served = start("serve", home=tmp_path, GEMINI_API_KEY="account-key", AGPROXY_UPSTREAM_URL=simulator.url)
    try:
        assert b"Simulated answer" in served.chat(PROMPT).body
    finally:
        served.stop()

    kept = b"".join(path.read_bytes() for path in tmp_path.glob("journal*"))
    assert b"/v1/chat/completions" in kept
    for words in (PROMPT.encode(), b"Simulated answer", b"account-key"):
        assert words not in kept


def test_with_the_journal_off_there_is_no_file(simulator, tmp_path):
    environ = {"GEMINI_API_KEY": "k", "AGPROXY_UPSTREAM_URL": simulator.url, "AGPROXY_JOURNAL": "off"}
    served = start("serve", home=tmp_path, **environ)
    try:
        assert served.chat("hello").status == 200
    finally:
        served.stop()
    assert not (tmp_path / FILE).exists()


def test_a_request_is_in_the_journal_at_once_and_known_to_every_process_of_the_home(simulator, tmp_path):
    environ = {"GEMINI_API_KEY": "k", "AGPROXY_UPSTREAM_URL": simulator.url}
    one = start("serve", home=tmp_path, **environ)
    try:
        other = start("serve", home=tmp_path, **environ)
        try:
            identifier = one.chat("hello").headers["x-request-id"]
            told = other.ask(f"/v1/agproxy/why/{identifier}")
            assert told.status == 200
            assert [step["event"] for step in told.json["steps"]] == ["picked", "answered"]
            assert other.ask("/v1/agproxy/why/req_nobody").status == 404
            assert identifier in ids(tmp_path)  # while both run
        finally:
            other.stop()
    finally:
        one.stop()


def test_the_log_is_json_where_the_setting_says_so_every_line_of_it(simulator, tmp_path):
    environ = {"GEMINI_API_KEY": "k", "AGPROXY_UPSTREAM_URL": simulator.url, "AGPROXY_LOG_FORMAT": "json"}
    served = start("serve", home=tmp_path, AGPROXY_LOG_LEVEL="debug", **environ)
    try:
        answer = served.chat("hello", logit_bias={"1": 1})
    finally:
        served.stop()
    begin = next(number for number, line in enumerate(served.lines) if line.startswith("  curl")) + 1
    values = [json.loads(line) for line in served.lines[begin:]]
    assert all({"time", "level", "logger"} <= value.keys() for value in values)
    (access,) = [value for value in values if value["logger"] == "agproxy.access"]
    assert (access["id"], access["status"]) == (answer.headers["x-request-id"], 200)
    assert access["notices"]


def test_what_the_server_refuses_by_itself_is_an_entry_too(simulator, tmp_path):
    environ = {"GEMINI_API_KEY": "k", "AGPROXY_UPSTREAM_URL": simulator.url, "AGPROXY_MAX_BODY_BYTES": "1000"}
    served = start("serve", home=tmp_path, **environ)
    try:
        assert served.ask("/v1/responses", b"x" * 2000).status == 413
        with socket.create_connection(("127.0.0.1", int(served.url.rpartition(":")[2])), 10) as sock:
            sock.sendall(b"this is no HTTP\r\n\r\n")
            assert sock.recv(1000).startswith(b"HTTP/1.1 400")
    finally:
        served.stop()
    large, broken = entries_of(tmp_path)
    assert (large.method, large.path, large.status, large.error) == ("POST", "/v1/responses", 413, "HttpRefused")
    assert (broken.status, broken.peer) == (400, "127.0.0.1")
    assert large.id.startswith("req_")
    assert large.id != broken.id


def test_a_client_that_leaves_a_stream_is_an_entry_of_its_own_status(simulator, tmp_path):
    environ = {"GEMINI_API_KEY": "k", "AGPROXY_UPSTREAM_URL": simulator.url}
    served = start("serve", home=tmp_path, **environ)
    try:
        body = json.dumps(
            CHAT | {"stream": True, "messages": [{"role": "user", "content": "[[sim:slow=30]]"}]}
        ).encode()
        request = urllib.request.Request(served.url + "/v1/chat/completions", body)
        with pytest.raises(TimeoutError):
            urllib.request.urlopen(request, timeout=0.3)
    finally:
        served.stop()
    (entry,) = entries_of(tmp_path)
    assert (entry.status, entry.error, entry.is_stream) == (499, "cut_short", True)
