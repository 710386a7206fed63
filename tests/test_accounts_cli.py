"""`agproxy accounts`, and the gateway on the accounts file, as real processes. The simulated Gemini judges a key by its
name: `limited` is always over its limit, `invalid` never valid."""

import json
import os
import select
import stat
import subprocess
import sys

import pytest
from running import clean_environment, start

from agproxy.pool import key_id

KEY = "AIzaSyExample-0123456789abcdefghijklmn3f9k"
OTHER = "AIzaSyExample-other-0123456789abcdefgh7xyz"
ID, OTHER_ID = key_id(KEY), key_id(OTHER)


class Agproxy:
    """Runs `agproxy accounts ...` with a home folder; no output ever holds a key."""

    def __init__(self, home):
        self.home = home
        self.file = home / "accounts.json"

    def __call__(self, *arguments, typed="", **environ):
        done = subprocess.run(
            [sys.executable, "-m", "agproxy", "accounts", *arguments],
            env=clean_environment(self.home, environ),
            input=typed.encode() if isinstance(typed, str) else typed,
            capture_output=True,
            timeout=60,
        )
        result = done.returncode, done.stdout.decode(), done.stderr.decode()
        assert KEY not in result[1] + result[2]
        assert OTHER not in result[1] + result[2]
        assert "Traceback" not in result[2]
        return result

    @property
    def stored(self):
        return json.loads(self.file.read_text("utf-8"))["accounts"]


@pytest.fixture
def agproxy(tmp_path):
    return Agproxy(tmp_path / "home")


@pytest.fixture
def two(agproxy):
    """A store with two accounts, labelled work and home."""
    assert agproxy("add", "--label", "work", typed=KEY)[0] == 0
    assert agproxy("add", "--label", "home", "--email", "me@example.org", typed=OTHER)[0] == 0
    return agproxy


# --- add


def test_keys_come_from_standard_input_one_a_line(agproxy):
    typed = f"\ufeff# my keys\r\n{KEY}\r\n\r\n  {OTHER}  \n#\n{KEY}\n"

    status, out, err = agproxy("add", "--label", "práce", "--email", "me@example.org", typed=typed)
    assert (status, err) == (0, "")
    assert out.splitlines() == [f"added: {ID} (práce) AIza...3f9k", f"added: {OTHER_ID} (práce) AIza...7xyz"]
    assert [(row["id"], row["label"], row["email"], row["enabled"], row["secret"]) for row in agproxy.stored] == [
        (ID, "práce", "me@example.org", True, {"api_key": KEY}),
        (OTHER_ID, "práce", "me@example.org", True, {"api_key": OTHER}),
    ]
    if os.name == "posix":
        assert stat.S_IMODE(agproxy.home.stat().st_mode) == 0o700
        assert stat.S_IMODE(agproxy.file.stat().st_mode) == 0o600


def test_a_key_that_is_there_already_is_told_and_no_mistake(two):
    before = two.file.read_bytes()

    assert two("add", typed=KEY) == (0, f"already there: {ID} (work) AIza...3f9k\n", "")
    assert two.file.read_bytes() == before
    status, out, _ = two("add", "--label", "new", "--disabled", typed=KEY)
    assert (status, out) == (0, f"already there, changed: {ID} (new) AIza...3f9k, disabled\n")


def test_a_key_that_the_environment_brings_too_is_told(agproxy):
    _, out, _ = agproxy("add", typed=KEY, GEMINI_API_KEY=f"x,{KEY}")

    assert "GEMINI_API_KEY brings it too, and it counts once" in out


@pytest.mark.parametrize(
    "arguments",
    [
        ("add", KEY),
        ("add", "--key", KEY),
        ("add", f"--key={KEY}"),
        ("add", f"--api-key={KEY}"),
        ("add", "-k", KEY),
        ("add", "--keey", KEY),
        ("add", f"--keey={KEY}"),
        ("add", "--label", KEY),
        (KEY,),
        ("show", KEY),
        ("remove", KEY),
        ("test", KEY),
        ("list", KEY),
    ],
)
def test_a_key_in_the_command_line_is_refused_and_never_repeated(agproxy, arguments):
    status, out, err = agproxy(*arguments, typed="other-key")

    assert (status, out) == (2, "")
    assert err.startswith("agproxy: ")
    assert not agproxy.file.exists()
    if arguments[:1] == ("add",) and arguments[1].startswith((KEY, "--key", "--api-key", "-k")):
        assert "keys are not taken from the command line" in err


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("", "no key was given: there is one at https://aistudio.google.com/apikey"),
        ("# nothing\n\n", "no key was given"),
        (f"{KEY} x", "the key: it holds spaces"),
        (f"GEMINI_API_KEY={KEY}\n", "the key: it looks like a setting (NAME=value)"),
        (f"good\n\n{KEY},{OTHER}\n", "standard input, line 3: it holds quotes or commas"),
        (f"good\n{KEY}\u00e9\n", "standard input, line 2: it holds spaces or characters beyond ASCII"),
        (b"good\n\xff\xfe\n", "standard input, line 2: it holds spaces or characters beyond ASCII"),
        ("x" * (1 << 21), "no list of keys"),
    ],
)
def test_what_is_no_key_is_refused_and_nothing_is_added(agproxy, typed, said):
    status, out, err = agproxy("add", typed=typed)

    assert (status, out) == (2, "")
    assert said in err
    assert not agproxy.file.exists()


@pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals are POSIX")
def test_on_a_terminal_the_key_is_asked_for_and_not_shown(agproxy):
    status, shown = on_a_terminal(agproxy, ["add", "--label", "typed"], f"{KEY}\n")

    assert status == 0
    assert shown.startswith("Gemini API key (it is not shown): ")
    assert f"added: {ID} (typed) AIza...3f9k" in shown
    assert KEY not in shown
    assert agproxy.stored[0]["secret"] == {"api_key": KEY}


@pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals are POSIX")
@pytest.mark.parametrize("typed", ["\x04", "\n", "  \n"])
def test_no_answer_at_the_prompt_adds_nothing(agproxy, typed):
    status, shown = on_a_terminal(agproxy, ["add"], typed)

    assert status == 2
    assert "no key was given" in shown
    assert not agproxy.file.exists()


@pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals are POSIX")
def test_colours_are_for_terminals_that_want_them(two):
    _, shown = on_a_terminal(two, ["list"], "", TERM="xterm", NO_COLOR="")
    assert "\x1b[" in shown
    assert "\x1b[" not in on_a_terminal(two, ["list"], "", TERM="xterm", NO_COLOR="1")[1]
    assert "\x1b[" not in two("list", TERM="xterm")[1]


def on_a_terminal(agproxy, arguments, typed, **environ):
    """Run with a pseudo-terminal for all three streams; the exit status and what the terminal showed. The answer is
    typed once a prompt stands there, since a terminal echoes what comes before."""
    master, slave = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "agproxy", "accounts", *arguments],
        env=clean_environment(agproxy.home, environ),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    shown = b""
    try:
        while select.select([master], [], [], 20)[0]:
            try:
                piece = os.read(master, 4096)
            except OSError:  # Linux: the other end is closed
                piece = b""
            if not piece:
                break
            shown += piece
            if typed and shown.endswith(b": "):
                os.write(master, typed.encode())
                typed = ""
        return process.wait(20), shown.decode().replace("\r\n", "\n")
    finally:
        process.kill()
        process.wait()
        os.close(master)


# --- list, show


def test_the_list_shows_accounts_of_file_and_environment_in_aligned_columns(two):
    two("disable", "home")

    status, out, err = two("list", GEMINI_API_KEY=f"{KEY},only-in-the-environment")
    assert (status, err) == (0, "")
    assert [line.split() for line in out.splitlines()] == [
        ["ID", "LABEL", "KIND", "STATE", "SOURCE", "KEY"],
        [ID, "work", "gemini_api_key", "enabled", "env+file", "AIza...3f9k"],
        [key_id("only-in-the-environment"), "GEMINI_API_KEY", "gemini_api_key", "enabled", "env", "..."],
        [OTHER_ID, "home", "gemini_api_key", "disabled", "file", "AIza...7xyz"],
    ]
    assert len({line.index(kind) for line, kind in zip(out.splitlines(), ["KIND"] + ["gemini_"] * 3, strict=True)}) == 1


def test_the_list_can_be_json(two):
    status, out, _ = two("list", "--json", GOOGLE_API_KEY=KEY)

    assert status == 0
    assert json.loads(out)[0] == {
        "id": ID,
        "label": "work",
        "email": None,
        "kind": "gemini_api_key",
        "enabled": True,
        "usable": True,
        "source": ["env", "file"],
        "key": "AIza...3f9k",
    }


def test_an_empty_list_says_what_to_do_and_makes_no_folder(agproxy):
    assert agproxy("list", "--json") == (0, "[]\n", "")
    status, out, err = agproxy("list")
    assert (status, out) == (0, "")
    assert "agproxy accounts add" in err
    assert not agproxy.home.exists()


def test_show_tells_all_but_secrets(two):
    rows = [row | {"tint": "p-1", "token": "hidden"} for row in two.stored]
    two.file.write_text(json.dumps({"version": 1, "accounts": rows}))

    status, out, _ = two("show", "home", GEMINI_API_KEY=OTHER)
    assert status == 0
    assert out.splitlines() == [
        f"id       {OTHER_ID}",
        "label    home",
        "email    me@example.org",
        "kind     gemini_api_key",
        "state    enabled",
        f"source   environment (GEMINI_API_KEY), {two.file}",
        "key      AIza...7xyz",
        "also     tint, token: not known to this version, kept as it is",
    ]
    assert json.loads(two("show", "--json", OTHER_ID[:8])[1])["email"] == "me@example.org"


def test_what_a_label_holds_does_not_reach_the_terminal_as_it_is(two):
    rows = [row | {"label": "\x1b[31mred\n\u202e"} for row in two.stored]
    two.file.write_text(json.dumps({"version": 1, "accounts": rows}))

    for arguments in (["list"], ["show", ID], ["show", "key-"], ["disable", ID], ["add"]):
        _, out, err = two(*arguments, typed=KEY)
        assert "\x1b" not in out + err
        assert "\u202e" not in out + err


def test_a_terminal_that_knows_no_unicode_gets_escapes(two):
    two("add", "--label", "日本", typed=KEY)

    status, out, err = two("list", PYTHONIOENCODING="ascii")
    assert (status, err) == (0, "")
    assert "\\u65e5\\u672c" in out


# --- remove, enable, disable


def test_accounts_are_named_by_id_label_or_the_beginning_of_an_id(two):
    assert two("disable", "work", OTHER_ID[:-2]) == (
        0,
        f"disabled: {ID} (work)\ndisabled: {OTHER_ID} (home)\n",
        "",
    )
    assert [row["enabled"] for row in two.stored] == [False, False]
    assert two("disable", "work")[1] == f"already disabled: {ID} (work)\n"
    assert two("enable", ID)[1] == f"enabled: {ID} (work)\n"
    assert two("remove", "home")[1] == f"removed: {OTHER_ID} (home)\n"
    assert [row["id"] for row in two.stored] == [ID]
    assert OTHER not in two.file.read_text()


def test_a_name_that_fits_none_or_several_changes_nothing(two):
    before = two.file.read_bytes()

    for arguments, said in (
        (["remove", "work", "nobody"], "there is no account 'nobody'"),
        (["disable", "key-"], f"means more than one account: {ID} (work), {OTHER_ID} (home)"),
        (["enable"], "required"),
    ):
        status, out, err = two(*arguments)
        assert (status, out) == (2, "")
        assert said in err
    assert two.file.read_bytes() == before


def test_an_account_of_the_environment_cannot_be_removed_here(two):
    status, _, err = two("remove", "GEMINI_API_KEY", GEMINI_API_KEY="elsewhere")
    assert status == 2
    assert "is not in the accounts file: it comes from GEMINI_API_KEY" in err

    assert two("remove", "work", GEMINI_API_KEY=KEY)[1] == f"removed: {ID} (work); GEMINI_API_KEY still brings it\n"


# --- files that cannot be used


def test_a_broken_file_is_refused_by_all_and_set_aside_by_add(two):
    broken = two.file.read_bytes()[:-20]
    two.file.write_bytes(broken)

    for arguments in (["list"], ["show", ID], ["remove", ID], ["enable", ID], ["disable", ID], ["test"]):
        status, out, err = two(*arguments, GEMINI_API_KEY="another")
        assert (status, out) == (2, "")
        assert f"{two.file}: not an accounts file: not JSON: " in err
        assert "Nothing in it was changed" in err
    assert two.file.read_bytes() == broken
    status, out, err = two("add", typed="new-key")
    assert (status, out) == (0, f"added: {key_id('new-key')} ...\n")
    (kept,) = two.home.glob("accounts.json.corrupt-*")
    assert kept.read_bytes() == broken
    assert f"It is kept as {kept}, and a new one begins" in err
    assert len(two.stored) == 1


def test_a_home_that_cannot_be_written_is_told_in_one_line(agproxy):
    agproxy.home.write_text("a file")

    status, out, err = agproxy("add", typed=KEY)
    assert (status, out) == (2, "")
    assert err.startswith(f"agproxy: {agproxy.file}: ")
    assert len(err.splitlines()) == 1


# --- test


def test_test_makes_one_call_with_each_account(two, simulator):
    two("add", "--label", "over", typed="limited-key-of-mine")
    two("add", "--label", "wrong", typed="invalid-key-of-mine")
    two("add", "--label", "off", "--disabled", typed="invalid-too")

    status, out, err = two("test", "--upstream-url", simulator.url, GEMINI_API_KEY="good-one")
    assert status == 1
    lines = {line.split()[1]: line for line in out.splitlines()}
    assert list(lines) == ["LABEL", "GEMINI_API_KEY", "work", "home", "over", "wrong"]
    for label in ("GEMINI_API_KEY", "work", "home"):
        assert lines[label].split()[2] == "200"
        assert lines[label].split()[3].isdigit()
        assert lines[label].endswith("ok")
    assert lines["over"].split()[2] == "429"
    assert "quota" in lines["over"]
    assert lines["wrong"].split()[2] == "400"
    assert "API_KEY_INVALID" in lines["wrong"]
    assert "invalid-key-of-mine" not in out
    assert "(off) is disabled and was not tested" in err


def test_test_takes_names_settings_and_a_model(two, simulator):
    environ = {"AGPROXY_UPSTREAM_URL": simulator.url}

    status, out, err = two("test", "work", ID, "--json", **environ)
    assert (status, err) == (0, "")
    (result,) = json.loads(out)
    assert (result["id"], result["ok"], result["status"], result["error"]) == (ID, True, 200, None)
    assert result["latency_ms"] >= 0
    status, out, _ = two("test", "work", "--model", "no-such-model", **environ)
    assert status == 1
    assert "404" in out
    two("disable", "work")
    assert two("test", "work", **environ)[0] == 0, "named, a disabled account is tested"
    (two.home / "config.json").write_text('{"upstream_url": "http://127.0.0.1:9"}')
    status, out, _ = two("test", "work")
    assert status == 1
    assert "127.0.0.1:9: cannot connect: Connection refused" in out


def test_test_without_accounts_or_with_unknown_kinds_fails(agproxy, simulator):
    status, _, err = agproxy("test")
    assert status == 2
    assert "there is no account to test" in err

    agproxy.home.mkdir(mode=0o700)
    agproxy.file.write_text('{"version": 1, "accounts": [{"id": "v", "kind": "vertex"}]}')
    agproxy.file.chmod(0o600)
    status, out, _ = agproxy("test", "--upstream-url", simulator.url)
    assert status == 1
    assert "knows no accounts of the kind 'vertex'" in out


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "soon"])
def test_a_time_out_is_a_number_of_seconds(agproxy, text):
    status, _, err = agproxy("test", f"--timeout={text}")

    assert status == 2
    assert "a number of seconds was expected" in err


# --- the gateway on the accounts file


@pytest.fixture
def serve(agproxy, simulator):
    started = []

    def make(*flags, **environ):
        environ = {"AGPROXY_UPSTREAM_URL": simulator.url} | environ
        started.append(start("serve", *flags, home=agproxy.home, **environ))
        return started[-1]

    yield make
    for running in started:
        running.stop()


def served(running, times=4):
    return {running.chat("Hello").headers["X-Account-Id"] for _ in range(times)}


def test_the_gateway_uses_accounts_of_file_and_environment_once_each(two, serve):
    running = serve(GEMINI_API_KEY=f"{KEY},third-key")

    assert served(running, 6) == {ID, OTHER_ID, key_id("third-key")}
    assert running.ask("/readyz").json["accounts"] == 3
    banner = "\n".join(running.lines)
    assert f"{ID} (work)" in banner
    assert KEY not in banner


def test_the_file_brings_the_email_for_the_header(two, serve):
    two("disable", "work")

    answer = serve().chat("Hello")
    assert answer.headers["X-Account-Id"] == OTHER_ID
    assert answer.headers["X-Account-Email"] == "me@example.org"


def test_a_disabled_account_serves_nobody_even_if_the_environment_brings_it(two, serve):
    two("disable", "work")

    assert served(serve(GEMINI_API_KEY=KEY)) == {OTHER_ID}


def test_accounts_that_are_all_disabled_are_not_replaced_by_a_simulation(two, serve):
    two("disable", "work", "home")
    running = serve("--simulate", "auto")

    answer = running.chat("Hello")
    assert (answer.status, answer.json["error"]["code"]) == (503, "no_account")
    assert "SIMULATED" not in "\n".join(running.lines)


def test_a_broken_file_leaves_the_gateway_with_the_environment_and_a_loud_line(two, serve):
    broken = two.file.read_bytes()[:-20]
    two.file.write_bytes(broken)
    running = serve("--simulate", "auto", GEMINI_API_KEY="good-key")

    assert served(running) == {key_id("good-key")}
    told = "\n".join(running.lines)
    assert "*** THE ACCOUNTS FILE IS NOT USED ***" in told
    assert "Accounts in use: the 1 of the environment" in told
    assert KEY not in told
    alone = serve("--simulate", "auto")
    assert alone.chat("Hello").status == 503
    assert two.file.read_bytes() == broken


def test_a_kind_of_tomorrow_is_told_and_not_used(two, serve):
    two.file.write_text(json.dumps({"version": 1, "accounts": [*two.stored, {"id": "v", "kind": "vertex"}]}))
    running = serve()

    assert served(running) == {ID, OTHER_ID}
    assert any("account v is of a kind that this version does not know" in line for line in running.lines)


def test_reading_commands_leave_a_store_that_a_killed_writer_left(two):
    stray = two.home / ".accounts.json.99999.tmp"
    stray.write_text('{"version": 1, "acc')
    (two.home / "accounts.json.lock").write_text("99999\n")

    assert two("list")[0] == 0
    assert stray.exists()
    assert two("disable", "work")[0] == 0
    assert not stray.exists()
