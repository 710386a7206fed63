"""`agproxy accounts` for every kind: add, login, edit, reorder, import, export, status, reset, test."""

import base64
import contextlib
import json
import os
import pty
import re
import subprocess
import sys
import time
import urllib.request
from urllib.parse import parse_qs, urlsplit

import pytest
from running import ROOT, clean_environment, start
from token_endpoint import INVALID_GRANT, serving, token

from agproxy.account import key_id
from agproxy.cooldowns import Cause, CoolDown
from agproxy.io.limits import LimitsFile

KEY, OTHER = "AIzaSyA-good-key-1234567890abcdefghijk", "AIzaSyB-good-key-1234567890abcdefghijk"
ADC = {
    "type": "authorized_user",
    "client_id": "my-client",
    "client_secret": "c1ient-s3cret",
    "refresh_token": "r3fresh",
}


@pytest.fixture
def agproxy(tmp_path):
    def run(*arguments, typed="", **environ):
        done = subprocess.run(
            [sys.executable, "-m", "agproxy", "accounts", *arguments],
            env=clean_environment(tmp_path / "home", environ),
            input=typed,
            capture_output=True,
            text=True,
            timeout=60,
            cwd=ROOT,
        )
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.fixture
def rows(tmp_path):
    return lambda: json.loads((tmp_path / "home" / "accounts.json").read_text())["accounts"]


def test_an_adc_file_becomes_an_oauth_user(agproxy, rows, tmp_path):
    file = tmp_path / "adc.json"
    file.write_text(json.dumps(ADC | {"quota_project_id": "payer"}))

    status, out, err = agproxy("add", "--file", str(file), "--label", "mine", "--priority", "2")
    assert (status, err) == (0, "")
    assert re.fullmatch(r"added: oauth-[0-9a-f]{10} \(mine\), oauth_user\n", out)
    (row,) = rows()
    assert row["upstream"] == {"quota_project": "payer"}
    assert (row["priority"], row["secret"]["refresh_token"]) == (2, "r3fresh")
    told = agproxy("list")[1] + agproxy("show", "mine")[1] + agproxy("show", "mine", "--json")[1]
    assert "s3cret" not in told
    assert "r3fresh" not in told
    assert agproxy("add", "--kind", "oauth_user", typed=json.dumps(ADC))[1].startswith("already there, changed")


def test_a_command_and_a_metadata_server_are_added_by_flags(agproxy, rows):
    assert agproxy("add", "--run", "gcloud auth print-access-token", "--upstream", "code_assist")[0] == 0
    flags = ("--upstream", "vertex", "--upstream-project", "p", "--location", "eu", "--rpm", "60", "--models", "a,b*")
    assert agproxy("add", "--kind", "gce_metadata", *flags)[0] == 0

    first, second = rows()
    assert (first["kind"], first["secret"]["command"]) == ("command", "gcloud auth print-access-token")
    assert second["upstream"] == {"kind": "vertex", "project": "p", "location": "eu"}
    assert (second["limits"], second["models"]) == ({"requests_per_minute": 60}, ["a", "b*"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("add", "--upstream", "openai"), "--upstream: "),
        (("add", "--upstream", "code_assist"), "code_assist takes the token of a command only"),
        (("add", "--kind", "gce_metadata", "--upstream", "vertex"), "a project was expected"),
        (("add", "--weight", "0"), "--weight: weight: a number above 0"),
        (("add", "--rpm", "many"), "--rpm: limits.requests_per_minute: a whole number"),
        (("add", "--proxy", "http://me:pass@host:1"), "--proxy: a password is not taken"),
        (("add", "--kind", "command"), "--run: the command"),
        (("add", "--kind", "oauth_user"), "one credentials file of the type"),
        (("login",), "agproxy brings no OAuth client of its own"),
    ],
)
def test_what_cannot_be_is_one_line_that_names_it(agproxy, arguments, words):
    status, out, err = agproxy(*arguments, typed=KEY)

    assert (status, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1


def test_edit_changes_what_is_given_and_takes_back_what_is_empty(agproxy, rows):
    agproxy("add", "--label", "one", "--project", "p", "--rpm", "5", typed=KEY)
    assert agproxy("edit", "one", "--label", "two", "--rpm", "", "--weight", "2.5") == (
        0,
        f"changed: {key_id(KEY)} (one)\n",
        "",
    )

    (row,) = rows()
    assert (row["label"], row["project"], row["weight"], "limits" in row) == ("two", "p", 2.5, False)
    assert row["secret"] == {"api_key": KEY}


def test_reorder_puts_accounts_first(agproxy, rows):
    for name, key in (("a", KEY), ("b", OTHER), ("c", "k3")):
        agproxy("add", "--label", name, typed=key)
    assert agproxy("reorder", "c", "b")[1] == "in order now: c, b, a\n"

    assert [row["label"] for row in rows()] == ["c", "b", "a"]


def test_what_is_exported_can_be_imported_elsewhere(agproxy, tmp_path):
    agproxy("add", "--label", "one", "--priority", "3", typed=KEY)
    agproxy("add", "--kind", "oauth_user", typed=json.dumps(ADC))
    file = tmp_path / "export.json"
    assert agproxy("export", "--output", str(file)) == (0, "", "")
    assert file.stat().st_mode & 0o777 == 0o600
    assert agproxy("export", "--output", str(file))[0] == 2, "nothing is overwritten"

    elsewhere = {"AGPROXY_HOME": str(tmp_path / "elsewhere")}
    assert agproxy("import", str(file), **elsewhere)[0] == 0
    assert agproxy("export", **elsewhere)[1] == file.read_text()
    assert agproxy("export", "--keys")[1] == KEY + "\n"


def test_a_list_of_keys_is_imported_and_changes_nothing_of_those_that_are_there(agproxy, rows):
    agproxy("add", "--label", "one", typed=KEY)
    status, out, _ = agproxy("import", typed=f"# keys\n{KEY}\n{OTHER}\n")

    assert status == 0
    assert out.splitlines() == [
        f"already there: {key_id(KEY)}, gemini_api_key",
        f"added: {key_id(OTHER)}, gemini_api_key",
    ]
    assert rows()[0]["label"] == "one"


def test_status_shows_the_limits_and_reset_forgets_them(agproxy, tmp_path):
    agproxy("add", "--label", "one", typed=KEY)
    agproxy("add", "--label", "two", "--project", "p", typed=OTHER)
    limits = LimitsFile(tmp_path / "home")
    limit = CoolDown(until=time.time() + 600, cause=Cause.LIMIT, steps=1, message="slow down")
    limits.sync({(key_id(KEY), "gemini-2.5-pro"): limit, ("project:p", "gemini-2.5-flash"): limit}, time.time())

    lines = [line.split() for line in agproxy("status")[1].splitlines()[1:]]
    assert [(line[1], line[2], line[3]) for line in lines] == [
        ("one", "limited", "gemini-2.5-pro"),
        ("two", "limited", "gemini-2.5-flash"),
    ]
    (first, _) = json.loads(agproxy("status", "--json")[1])
    assert first["limits"][0]["cause"] == "limit"
    assert "gemini-2.5-flash" in agproxy("reset", "two")[1]
    assert [row["limits"] == [] for row in json.loads(agproxy("status", "--json")[1])] == [False, True]
    assert agproxy("reset")[0] == 0
    assert agproxy("reset")[1] == "there was no limit to forget\n"


def test_reset_reaches_a_running_gateway(agproxy, simulator, tmp_path):
    (tmp_path / "home").mkdir(mode=0o700)
    environ = {"AGPROXY_UPSTREAM_URL": simulator.url, "GEMINI_API_KEY": "limited-1"}
    running = start("serve", home=tmp_path / "home", **environ)
    try:
        answers = [running.chat("hi") for _ in range(2)]
        assert [answer.headers["X-AGProxy-Attempts"] for answer in answers] == [
            "1; " + key_id("limited-1") + "=429",
            None,
        ]
        deadline = time.monotonic() + 20
        while not LimitsFile(tmp_path / "home").load(time.time()):
            assert time.monotonic() < deadline
            running.ask("/healthz")
        assert agproxy("reset", **environ)[0] == 0
        while running.chat("hi").headers["X-AGProxy-Attempts"] is None:
            assert time.monotonic() < deadline
    finally:
        running.stop()


def test_limits_of_an_account_of_the_environment_outlive_a_restart(simulator, tmp_path):
    environ = {"AGPROXY_UPSTREAM_URL": simulator.url, "GEMINI_API_KEY": "limited-1"}
    seen = []
    for _ in range(2):
        running = start("serve", home=tmp_path, **environ)
        answer = running.chat("hi")
        seen.append((answer.status, answer.headers["X-AGProxy-Attempts"]))
        assert running.stop() == 0

    assert seen == [(429, "1; " + key_id("limited-1") + "=429"), (429, None)]
    assert "limited-1" not in (tmp_path / "limits.json").read_text()


def test_test_makes_a_call_with_each_kind(agproxy, simulator, tmp_path):
    with serving(token("good-token")) as good, serving(INVALID_GRANT) as bad:
        rows = [
            {"kind": "gemini_api_key", "label": "key", "secret": {"api_key": KEY}},
            {"kind": "gce_metadata", "label": "gce", "secret": {"host": good.place}},
            {"kind": "oauth_user", "label": "revoked", "secret": ADC | {"token_uri": bad.url}},
            {
                "kind": "command",
                "label": "assist",
                "secret": {"command": [sys.executable, "-c", "print('good-token')"]},
                "upstream": {"kind": "code_assist", "base_url": simulator.url},
            },
        ]
        agproxy("import", typed=json.dumps(rows))
        status, out, _ = agproxy("test", "--json", "--upstream-url", simulator.url)

    results = {row["label"]: row for row in json.loads(out)}
    assert status == 1
    assert {name: row["ok"] for name, row in results.items()} == {
        "key": True,
        "gce": True,
        "revoked": False,
        "assist": True,
    }
    assert "invalid_grant" in results["revoked"]["error"]


# --- login -----------------------------------------------------------------------------------------------------


def start_login(tmp_path, endpoint):
    file = tmp_path / "client_secret.json"
    inner = {"client_id": "my-client", "client_secret": "c1ient-s3cret", "token_uri": endpoint.url + "/token"}
    file.write_text(json.dumps({"installed": inner}))
    process = subprocess.Popen(
        [sys.executable, "-m", "agproxy", "accounts", "login", "--client-file", str(file), "--no-browser"],
        env=clean_environment(tmp_path / "home", {}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    url = next(line.strip() for line in process.stderr if "http" in line)
    return process, {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def id_token(email):
    claims = base64.urlsafe_b64encode(json.dumps({"email": email}).encode()).rstrip(b"=").decode()
    return f"x.{claims}.x"


SIGNED_IN = (
    200,
    {"access_token": "t", "expires_in": 60, "refresh_token": "r3fresh", "id_token": id_token("me@example.org")},
)


@pytest.mark.parametrize("way", ["browser", "pasted address", "pasted code"])
def test_login_brings_a_refresh_token_by_each_way_back(tmp_path, rows, way):
    with serving(SIGNED_IN) as endpoint:
        process, asked = start_login(tmp_path, endpoint)
        target = f"/?state={asked['state']}&code=4/c0de"
        if way == "browser":
            with urllib.request.urlopen(asked["redirect_uri"] + target, timeout=20) as page:
                assert b"close this page" in page.read()
        else:
            process.stdin.write({"pasted address": asked["redirect_uri"] + target, "pasted code": "4/c0de"}[way] + "\n")
            process.stdin.flush()
        out, err = process.communicate(timeout=60)

    assert process.returncode == 0, err
    assert re.fullmatch(r"added: oauth-[0-9a-f]{10} me@example.org\n", out)
    (form,) = endpoint.forms
    assert (form["code"], form["redirect_uri"]) == ("4/c0de", asked["redirect_uri"])
    assert asked["code_challenge_method"] == "S256"
    assert asked["client_id"] == form["client_id"] == "my-client"
    (row,) = rows()
    assert (row["email"], row["secret"]["refresh_token"]) == ("me@example.org", "r3fresh")
    assert "c1ient-s3cret" not in out + err


def test_the_answer_to_another_sign_in_is_not_taken(tmp_path):
    with serving(SIGNED_IN) as endpoint:
        process, asked = start_login(tmp_path, endpoint)
        process.stdin.write(f"{asked['redirect_uri']}/?state=foreign&code=stolen\n")
        process.stdin.write("4/c0de\n")
        process.stdin.flush()
        _, err = process.communicate(timeout=60)

    assert "another sign-in" in err
    assert [form["code"] for form in endpoint.forms] == ["4/c0de"]


# --- progress --------------------------------------------------------------------------------------------------


def shown_on_a_terminal(simulator, tmp_path, **environ):
    """What `accounts test` writes to standard error where that is a terminal, and to standard output."""
    terminal, inner = pty.openpty()
    environ = {"GEMINI_API_KEY": f"{KEY},{OTHER}", "AGPROXY_UPSTREAM_URL": simulator.url, "TERM": "xterm"} | environ
    process = subprocess.Popen(
        [sys.executable, "-m", "agproxy", "accounts", "test"],
        env=clean_environment(tmp_path / "home", environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=inner,
        cwd=ROOT,
    )
    os.close(inner)
    out, _ = process.communicate(timeout=60)
    shown = b""
    with contextlib.suppress(OSError):  # Linux's way to say that the other end is closed
        while piece := os.read(terminal, 65536):
            shown += piece
    os.close(terminal)
    assert process.returncode == 0, (out, shown)
    return shown.decode(), out.decode()


def test_progress_is_one_line_that_goes_again(simulator, tmp_path):
    shown, out = shown_on_a_terminal(simulator, tmp_path, NO_COLOR="1")

    assert [line.strip() for line in shown.split("\r")[1:4]] == [f"{n} of 2 accounts" for n in range(3)]
    assert shown.split("\r")[-2].strip() == ""
    assert "\x1b" not in shown
    assert "\n" not in shown
    assert "accounts" not in out


def test_there_is_no_progress_on_a_dumb_terminal(simulator, tmp_path):
    assert shown_on_a_terminal(simulator, tmp_path, TERM="dumb")[0] == ""


def test_there_is_no_progress_where_nobody_looks(agproxy, simulator):
    assert agproxy("test", GEMINI_API_KEY=KEY, AGPROXY_UPSTREAM_URL=simulator.url)[2] == ""
