"""The command line but for serve, simulate and accounts: what it prints, where, and with which exit status."""

import io
import itertools
import json
import logging
import os
import socket
import subprocess
import sys

import fakes
import pytest
from running import ROOT, clean_environment

from agproxy import __version__, config, models
from agproxy.cli import colour, main, parse
from agproxy.config import SETTINGS, Config
from agproxy.frontends import FRONTENDS

CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Grüße aus Köln"}]}
COMPLETION = {"model": "gpt-4o", "prompt": "Grüße aus Köln"}
RESPONSE = {"model": "gpt-4o", "input": "Grüße aus Köln"}


class Result:
    def __init__(self, status, out, err):
        self.status, self.out, self.err = status, out, err

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture
def home(tmp_path):
    return tmp_path


@pytest.fixture
def run(home, capsys, monkeypatch):
    """Run a command in this process, in a clean environment: run("config", "port", stdin=..., AGPROXY_PORT="1")."""

    def call(*arguments, stdin=b"", **environ):
        with monkeypatch.context() as patch:
            for name in list(os.environ):
                if name.startswith(("AGPROXY_", "GEMINI_", "GOOGLE_", "NO_COLOR")):
                    patch.delenv(name)
            patch.setenv("AGPROXY_HOME", str(home))
            for name, value in environ.items():
                patch.setenv(name, value)
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
            log = logging.getLogger("agproxy")
            before = log.handlers[:], log.level, log.propagate
            try:
                status = main(arguments)
            except SystemExit as ended:
                status = ended.code
            finally:  # `serve` sets logging up, and here it is not the process's own
                log.handlers[:], log.level, log.propagate = before
        return Result(status, *capsys.readouterr())

    return call


def dump(value):
    return json.dumps(value).encode()


def one_line(result, status=2):
    """The one line of a complaint."""
    assert result.status == status
    assert result.err.count("\n") == 1, result.err
    assert result.err.startswith("agproxy: ")
    return result.err


# --- help and version ------------------------------------------------------------------------------------------


def test_help_names_every_command_and_how_to_begin(run):
    result = run("--help")

    assert result.status == 0
    for word in ("serve", "accounts", "config", "models", "translate", "simulate", "version"):
        assert f"\n    {word} " in result.out
    assert "GEMINI_API_KEY" in result.out
    assert "--simulate auto" in result.out


@pytest.mark.parametrize("command", ["serve", "accounts", "config", "models", "translate", "simulate", "version"])
def test_every_command_has_help_of_its_own(run, command):
    result = run(command, "--help")

    assert result.status == 0
    assert result.out.startswith(f"usage: agproxy {command}") or result.out.startswith(f"usage: agproxy [{command}]")


def test_serve_tells_every_setting_with_its_default_and_no_secret_as_a_flag(run):
    told = run("serve", "--help").out

    for setting in SETTINGS:
        assert (f"\n  {setting.flag} " in told) is not setting.secret, setting.name
        if setting.secret:
            assert setting.variable in told
    assert "(default 8045)" in told


def test_version_tells_where_each_part_was_loaded_from(run):
    for arguments in (["--version"], ["-V"], ["version"]):
        lines = {line.split()[0]: line for line in run(*arguments).out.splitlines()}
        assert __version__ in lines["agproxy"]
        assert str(ROOT / "agproxy") in lines["agproxy"]
        assert "site-packages" in lines["h11"]
        assert "site-packages" in lines["certifi"]
        assert sys.executable in lines["Python"]


# --- mistakes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["serve", "--prot", "9"], "did you mean --port?"),
        (["--prot", "9"], "did you mean --port?"),
        (["serve", "frog"], "'frog'"),
        (["srve"], "'srve'"),
        (["serve", "--port", "many"], "--port: 'many': a whole number was expected"),
        (["serve", "--port", "70000"], "at most 65535"),
        (["serve", "--port"], "--port"),
        (["serve", "--simul", "on"], "--simulate"),
        (["config", "prot"], "did you mean port?"),
        (["config", "--port", "x"], "--port"),
        (["models", "explain"], "models explain NAME"),
        (["models", "list", "gpt-4o"], "models explain NAME"),
        (["models", "--upstream"], "GEMINI_API_KEY"),
        (["translate", "--from", "soap"], "openai_chat"),
        (["translate", "--answer", "/nowhere/request.json"], "/nowhere/request.json"),
    ],
)
def test_a_mistake_is_one_line_that_helps(run, arguments, words):
    assert words in one_line(run(*arguments))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "config.json: not JSON"),
        ("[]", "config.json: a JSON object was expected"),
        ('{"prot": 1}', "did you mean port?"),
        ('{"port": "x"}', "config.json: port"),
    ],
)
def test_a_broken_settings_file_is_one_line_for_every_command(run, home, text, words):
    (home / "config.json").write_text(text)

    for arguments in (["serve"], ["config"], ["models"], ["translate"]):
        assert words in one_line(run(*arguments, stdin=dump(CHAT)))


def test_a_port_in_use_is_one_line_that_names_it(run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = one_line(run("serve", "--host", "127.0.0.1", "--port", str(port)))

    assert f"127.0.0.1 port {port}" in line
    assert "in use" in line


def test_a_host_that_is_not_ours_is_one_line(run):
    assert "192.0.2.1" in one_line(run("serve", "--host", "192.0.2.1", "--port", "0"))


def command(*arguments, home, flags=(), **more):
    environ = clean_environment(home, more.pop("environ", {}))
    line = [sys.executable, *flags, "-m", "agproxy", *arguments]
    return subprocess.Popen(line, env=environ, cwd=ROOT, text=True, **more)


def test_a_missing_dependency_is_one_line(tmp_path):
    """-S leaves out site-packages, and with it h11."""
    process = command("serve", "--port", "0", home=tmp_path, flags=["-S"], stderr=subprocess.PIPE)
    _, err = process.communicate(timeout=20)

    assert process.returncode == 2
    assert err == "agproxy: h11 is missing: pip install h11\n"


@pytest.mark.parametrize("arguments", [["config"], ["config", "port"]], ids=["long", "short"])
def test_a_reader_that_leaves_is_no_error(tmp_path, arguments):
    buffered = {"PYTHONUNBUFFERED": ""}  # so that text is left for the end, when Python flushes once more
    process = command(*arguments, home=tmp_path, environ=buffered, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    with process.stderr as stream:
        err = stream.read()

    assert (process.wait(20), err) == (0, "")


# --- colours ---------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("stream", "environ", "is_painted"),
    [
        (Terminal(), {}, True),
        (Terminal(), {"NO_COLOR": "1"}, False),
        (Terminal(), {"NO_COLOR": ""}, True),
        (Terminal(), {"TERM": "dumb"}, False),
        (io.StringIO(), {}, False),
    ],
)
def test_colours_are_for_terminals_that_want_them(monkeypatch, stream, environ, is_painted):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environ.items():
        monkeypatch.setenv(name, value)

    assert colour.paint("x", colour.RED, stream) == ("\x1b[31mx\x1b[0m" if is_painted else "x")


def test_what_is_piped_has_no_colours(run):
    for arguments in (["config"], ["config", "port"], ["models"], ["models", "explain", "gpt-4o"], ["serve", "--x"]):
        result = run(*arguments)
        assert "\x1b" not in result.out + result.err


# --- config ----------------------------------------------------------------------------------------------------


def test_config_shows_every_setting_and_that_all_are_defaults(run, home):
    result = run("config")

    lines = {line.split()[0]: line for line in result.out.splitlines() if line.startswith("  ")}
    assert set(lines) == {setting.name for setting in SETTINGS}
    assert all(line.endswith("  default") for line in lines.values())
    assert str(home / "config.json") in result.out


def test_config_tells_where_each_value_came_from(run, home):
    (home / "config.json").write_text(
        '{"port": 1, "max_attempts": 7, "proxy": {"auth_mode": "strict"}, "thoughts": false}'
    )
    result = run("config", "--json", "--port", "3", "--thoughts", AGPROXY_PORT="2", AGPROXY_MAX_ATTEMPTS="8")

    told = {name: (one["value"], one["source"]) for name, one in result.json.items() if one["source"] != "default"}
    assert told == {
        "port": (3, "--port"),
        "max_attempts": (8, "AGPROXY_MAX_ATTEMPTS"),
        "auth_mode": ("strict", f"{home / 'config.json'}: proxy.auth_mode"),
        "thoughts": (True, "--thoughts"),
    }


def test_config_never_shows_a_secret(run):
    secrets = {"AGPROXY_API_KEY": "sk-of-a-client", "AGPROXY_UPSTREAM_PROXY": "http://me:hush@proxy.example:1"}

    for arguments in (["config"], ["config", "--json"], ["config", "api_key", "upstream_proxy"]):
        result = run(*arguments, **secrets)
        assert result.status == 0
        assert "sk-of-a-client" not in result.out + result.err
        assert "hush" not in result.out + result.err
        assert "AGPROXY_API_KEY" in result.out


@pytest.mark.parametrize("name", ["auth_mode", "auth-mode", "AGPROXY_AUTH_MODE", "proxy.auth_mode"])
def test_a_setting_is_found_by_every_way_to_write_it(run, name):
    result = run("config", name, "--auth-mode", "strict")

    assert result.out.startswith("auth_mode = strict\n  from     --auth-mode\n")
    assert "AGPROXY_AUTH_MODE" in result.out
    assert "all_except_health" in result.out


def test_names_may_stand_on_both_sides_of_flags(run):
    assert list(run("config", "port", "--json", "host", "--port", "1", "images").json) == ["port", "host", "images"]
    assert list(run("models", "explain", "--json", "gpt-4o").json) == ["gpt-4o"]


def test_what_config_prints_as_json_is_what_config_json_takes(run):
    told = run("config", "--json", "--model-map", "a=b", "--allowed-hosts", "x,y", "--max-wait-seconds", "2.5").json
    secrets = {setting.name for setting in SETTINGS if setting.secret}
    values = {one["key"]: one["value"] for name, one in told.items() if name not in secrets}

    loaded = config.load({}, {}, values, "config.json")
    assert loaded.config == Config(model_map=(("a", "b"),), allowed_hosts=("x", "y"), max_wait_seconds=2.5)


def test_an_unknown_variable_is_a_warning_on_standard_error(run):
    result = run("config", "--json", AGPROXY_PROT="1")

    assert result.status == 0
    assert result.json
    assert result.err == "agproxy: warning: unknown variable AGPROXY_PROT; did you mean AGPROXY_PORT?\n"


# --- models ----------------------------------------------------------------------------------------------------


def test_models_lists_what_names_mean_under_these_settings(run):
    rows = {row["name"]: row for row in run("models", "--json").json}
    assert rows["gpt-4o"] == {"name": "gpt-4o", "model": models.BUILT_IN["gpt-4o"], "rule": "built-in: gpt-4o"}
    assert rows["claude-*"]["model"] == models.BUILT_IN["claude-*"]

    mapped = run(
        "models", "list", "--json", "--model-map", "gpt-4*=gemini-x,mine=gemini-y", "--default-model", "gemini-z"
    )
    rows = {row["name"]: (row["model"], row["rule"]) for row in mapped.json}
    assert rows["gpt-4o"] == ("gemini-x", "model_map: gpt-4*")
    assert rows["gpt-4*"] == ("gemini-x", "model_map")
    assert rows["mine"] == ("gemini-y", "model_map: mine")
    assert rows["(any other)"] == ("gemini-z", "default_model")


def test_models_as_text_are_aligned_columns(run):
    lines = run("models").out.splitlines()

    assert len({line.index("gemini-") for line in lines}) == 1


def test_models_of_upstream_come_from_the_account(run, simulator):
    environ = {"GEMINI_API_KEY": "good", "AGPROXY_UPSTREAM_URL": simulator.url}

    names = {row["name"] for row in run("models", "--upstream", "--json", **environ).json}
    assert {"gemini-2.5-flash", "gpt-4o"} <= names
    assert "gemini-2.5-flash" not in {row["name"] for row in run("models", "--json").json}


def test_an_upstream_that_refuses_is_one_line_without_the_key(run, simulator):
    environ = {"GEMINI_API_KEY": "invalid-key-of-ours", "AGPROXY_UPSTREAM_URL": simulator.url}
    line = one_line(run("models", "--upstream", **environ), status=1)

    assert "invalid-key-of-ours" not in line


def test_the_simulated_gemini_can_be_asked_too(run):
    assert run("models", "--upstream", "--simulate", "on").status == 0


MAP = "gpt-4o=gemini-exact,gpt-*=gemini-short,gpt-4*=gemini-long,g*t-4*=gemini-stars,other=gemini-q"


@pytest.mark.parametrize(
    ("name", "flags", "model", "rule", "why"),
    [
        ("GPT-4o", ["--model-map", MAP], "gemini-exact", "model_map: gpt-4o", "exact rule"),
        ("gpt-4.9", ["--model-map", MAP], "gemini-long", "model_map: gpt-4*", "most specific"),
        ("gemini-2.5-pro", [], "gemini-2.5-pro", "Gemini name as it is", "as they are"),
        ("gemini-3-pro", [], "gemini-3.1-pro-preview", "successor of gemini-3-pro", "as they are"),
        ("gpt-4o", [], "gemini-2.5-flash", "built-in: gpt-4o", "built-in table"),
        ("gpt-4o-mini-2024-07-18", [], "gemini-2.5-flash-lite", "built-in: gpt-4*-mini*", "most specific"),
        ("zebra", ["--default-model", "gemini-z"], "gemini-z", "default_model", "nothing else"),
    ],
)
def test_explain_tells_which_rule_won_and_why(run, name, flags, model, rule, why):
    found = run("models", "explain", name, "--json", *flags).json[name]
    assert (found["model"], found["rule"]) == (model, rule)
    assert why in found["why"]

    text = run("models", "explain", name, *flags).out
    assert text.startswith(f"{name} is {model}\n")
    assert rule in text


def test_explain_tells_what_lost_and_why(run):
    found = run("models", "explain", "gpt-4.9", "--json", "--model-map", MAP, "--default-model", "gemini-z").json[
        "gpt-4.9"
    ]

    lost = {one["rule"]: one["why"] for one in found["lost"]}
    assert lost == {
        "model_map: gpt-*": "less specific: 4 literal characters, gpt-4* has 5",
        "model_map: g*t-4*": "less specific: 4 literal characters, gpt-4* has 5",
        "built-in: gpt-4*": "a wildcard rule of model_map goes before a wildcard in the built-in table",
        "default_model": "a wildcard rule of model_map goes before the default model",
    }
    assert found["no_match"] == ["gpt-4o", "other"]


def test_explain_tells_equal_rules_apart(run):
    def lost(name, rules):
        found = run("models", "explain", name, "--json", "--model-map", rules).json[name]
        return found["rule"], found["lost"][0]["why"]

    assert lost("abcd", "a*bcd=x,*a*bcd=y") == ("model_map: a*bcd", "less specific: more stars than a*bcd")
    assert lost("abc", "b*=z,*c=x,a*=y") == ("model_map: *c", "*c comes first")
    assert lost("abc", "ABC=x,abc=y") == ("model_map: ABC", "ABC comes first")


def test_models_that_stand_in_for_another_are_told(run):
    rules = ["--model-map", "x=gemini-a|gemini-3-pro, y*=gemini-b|gemini-c"]

    found = run("models", "explain", "x", "--json", *rules).json["x"]
    assert (found["model"], found["fallbacks"]) == ("gemini-a", ["gemini-3.1-pro-preview"])
    assert found["notes"] == ["upstream serves gemini-3-pro under the name gemini-3.1-pro-preview"]
    assert "else     gemini-3.1-pro-preview" in run("models", "explain", "x", *rules).out
    rows = {
        row["name"]: row["model"]
        for row in run("models", "--json", *rules, "--default-model", "gemini-d|gemini-e").json
    }
    assert (rows["x"], rows["y*"]) == ("gemini-a|gemini-3.1-pro-preview", "gemini-b|gemini-c")
    assert rows["(any other)"] == "gemini-d|gemini-e"


def test_explain_warns_of_a_target_that_is_no_gemini_name(run):
    found = run("models", "explain", "mine", "--json", "--model-map", "mine=gpt-4o").json["mine"]

    assert found["model"] == "gpt-4o"
    assert "is no Gemini name" in found["notes"][0]


def test_a_name_that_nothing_takes_is_told_and_ends_with_1(run):
    result = run("models", "explain", "zebra", "gpt-4o")

    assert result.status == 1
    assert "zebra is no model here: 404 model_not_found" in result.out
    assert "gpt-4o is gemini-2.5-flash" in result.out


def test_what_explain_says_is_what_the_gateway_does():
    """`explain` and `resolve` agree on every name and set of rules that these pieces make."""
    pieces = ("gpt-4", "o", "-mini", "gemini-3-pro", "*", "GPT", "models/")
    names = ["".join(pair) for pair in itertools.product(pieces, repeat=2)]
    patterns = [name for name in names if "models/" not in name]
    listed = frozenset({"gemini-3-pro-preview"})
    for number, name in enumerate(names):
        for step in range(len(patterns)):
            rules = tuple((patterns[(number + step * k) % len(patterns)], f"gemini-{k}") for k in range(3))
            for default in ("", "gemini-3-pro"):
                found = models.explain(name, rules, default, listed)
                try:
                    resolved = models.resolve(name, rules, default, listed)
                except models.NotFound:
                    assert found.winner is None
                else:
                    assert (found.winner.model, found.winner.rule) == (resolved.model, resolved.rule)


# --- translate: a request --------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [CHAT, COMPLETION, RESPONSE])
def test_a_request_is_told_by_its_body_and_becomes_one_for_gemini(run, body):
    result = run("translate", stdin=dump(body))

    assert result.status == 0
    head, _, rest = result.out.partition("\n\n")
    assert head == "POST /v1beta/models/gemini-2.5-flash:generateContent"
    assert json.loads(rest)["contents"][0]["parts"] == [{"text": "Grüße aus Köln"}]
    assert rest.startswith('{\n  "')
    assert "Grüße" in rest
    assert result.err == ""


def test_every_protocol_can_be_named(run):
    for name in FRONTENDS:
        assert name in run("translate", "--help").out
    forced = run("translate", "--from", "openai_completions", stdin=dump(CHAT))
    assert forced.status == 1
    assert forced.json["error"]["param"] == "prompt"


def test_what_translate_prints_raw_is_what_the_gateway_sends(run):
    body = CHAT | {"temperature": 0.25, "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]}
    upstream = fakes.FakeUpstream([fakes.Scripted.of({"candidates": [{"content": {"parts": [{"text": "x"}]}}]})])
    fakes.ask(fakes.make_gateway(upstream), "/v1/chat/completions", body)

    assert run("translate", "--raw", stdin=dump(body)).out.encode() == upstream.calls[0].body


def test_a_streamed_request_asks_for_a_stream(run):
    assert run("translate", stdin=dump(CHAT | {"stream": True})).out.startswith(
        "POST /v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse\n"
    )


def test_the_settings_of_a_command_line_count(run):
    flags = ["--model-map", "gpt-4o=gemini-2.5-pro", "--upstream-version", "v1", "--thoughts", "off"]
    result = run("translate", *flags, stdin=dump(CHAT))

    assert result.out.startswith("POST /v1/models/gemini-2.5-pro:generateContent\n")
    assert "includeThoughts" not in result.out


def test_a_key_that_clients_need_is_not_needed_here(run):
    assert run("translate", "--auth-mode", "strict", stdin=dump(CHAT), AGPROXY_API_KEY="sk-one").status == 0


def test_several_choices_are_several_calls(run):
    body = CHAT | {"model": "gemini-3.8-flash", "n": 2}

    assert run("translate", stdin=dump(body)).out.count("generateContent (2 times)\n") == 1
    seeded = run("translate", stdin=dump(body | {"seed": 7})).out
    assert [line for line in seeded.splitlines() if line.startswith("POST")] == [
        "POST /v1beta/models/gemini-3.8-flash:generateContent"
    ] * 2
    assert '"seed": 7' in seeded
    assert '"seed": 8' in seeded


def test_warnings_go_to_standard_error_one_a_line(run):
    result = run("translate", stdin=dump(CHAT | {"logit_bias": {"1": 2}, "no_such_field": 1}))

    assert result.status == 0
    lines = result.err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("agproxy: warning: ") for line in lines)
    assert "logit_bias" in lines[0]
    assert "no_such_field" in lines[1]
    assert "no_such_field" not in result.out


@pytest.mark.parametrize(
    ("stdin", "flags", "code", "param"),
    [
        (b"{broken", [], None, None),
        (b"", [], None, None),
        (b"[]", [], None, None),
        (b"\xff", [], None, None),
        (b'{"model": "gpt-4o"}', [], None, "messages"),
        (dump(CHAT | {"model": "zebra"}), [], "model_not_found", None),
        (dump(CHAT | {"temperature": 9}), [], None, "temperature"),
        (dump(CHAT | {"logit_bias": {"1": 2}}), ["--unsupported", "refuse"], "unsupported_parameter", "logit_bias"),
    ],
)
def test_what_a_client_would_be_refused_is_its_error_body_and_exit_status_1(run, stdin, flags, code, param):
    result = run("translate", *flags, stdin=stdin)

    assert result.status == 1
    error = result.json["error"]
    assert error["param"] == param
    if code is not None:
        assert error["code"] == code


# --- translate: an answer --------------------------------------------------------------------------------------

CHUNKS = [
    {"candidates": [{"content": {"role": "model", "parts": [{"text": "Hel"}]}}], "modelVersion": "gemini-x"},
    {
        "candidates": [{"content": {"role": "model", "parts": [{"text": "lo"}]}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5},
    },
]
WHOLE = CHUNKS[1]
EVENTS = b"".join(b"data: " + dump(chunk) + b"\r\n\r\n" for chunk in CHUNKS)


@pytest.fixture
def answer(run, home):
    """Translate an upstream answer to a request."""

    def call(request, given, *flags):
        file = home / "request.json"
        file.write_bytes(dump(request))
        return run("translate", "--answer", str(file), *flags, stdin=given)

    return call


def frames(text):
    return [block.removeprefix("data: ") for block in text.split("\n\n") if block.startswith("data: ")]


def told(text):
    """What the frames of a streamed chat say."""
    *chunks, done = frames(text)
    assert done == "[DONE]"
    deltas = [choice["delta"] for chunk in chunks for choice in json.loads(chunk)["choices"]]
    return "".join(delta.get("content") or "" for delta in deltas)


@pytest.mark.parametrize(
    ("request_body", "kind"),
    [(CHAT, "chat.completion"), (COMPLETION, "text_completion"), (RESPONSE, "response")],
)
def test_a_whole_answer_becomes_the_clients(answer, request_body, kind):
    result = answer(request_body, dump(WHOLE))

    assert result.status == 0
    assert result.json["object"] == kind
    assert '"lo"' in result.out
    assert result.out.startswith('{\n  "')


def test_raw_answers_are_one_line_as_on_the_wire(answer):
    result = answer(CHAT, dump(WHOLE), "--raw")

    assert result.json["choices"][0]["message"]["content"] == "lo"
    assert "\n" not in result.out


@pytest.mark.parametrize(
    ("given", "text"),
    [(EVENTS, "Hello"), (dump(CHUNKS), "Hello"), (dump(WHOLE), "lo"), (b"\n" + EVENTS.replace(b"\r", b""), "Hello")],
    ids=["events", "array", "whole", "events with bare LF"],
)
def test_an_answer_to_a_streamed_request_becomes_frames(answer, given, text):
    result = answer(CHAT | {"stream": True}, given)

    assert (result.status, result.err) == (0, "")
    assert told(result.out) == text


def test_a_stream_for_a_request_that_asked_for_none_is_shown_and_said(answer):
    result = answer(CHAT, EVENTS)

    assert told(result.out) == "Hello"
    assert "the request is taken to ask for one" in result.err


def test_an_upstream_error_becomes_the_clients_and_ends_with_1(answer):
    error = {"error": {"code": 400, "message": "Bad schema.", "status": "INVALID_ARGUMENT"}}

    for request in (CHAT, CHAT | {"stream": True}):
        for given in (dump(error), dump([error])):
            result = answer(request, given)
            assert result.status == 1
            assert result.json["error"]["type"] == "invalid_request_error"
            assert "Bad schema." in result.json["error"]["message"]


def test_what_is_no_answer_at_all_is_an_upstream_failure(answer):
    result = answer(CHAT, b"<html>502</html>")

    assert result.status == 1
    assert result.json["error"]["type"] == "server_error"


def test_a_warning_that_comes_late_in_a_stream_is_told(answer):
    """A stream without finishReason ends well, with a warning; its headers have gone out long before."""
    result = answer(CHAT | {"stream": True}, b"data: " + dump(CHUNKS[0]) + b"\n\n")

    assert told(result.out) == "Hel"
    assert result.err.count("agproxy: warning: ") == 1


def test_translate_needs_no_network(run, monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("a connection was opened"))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("a name was looked up"))

    assert run("translate", stdin=dump(CHAT)).status == 0


def test_a_command_line_without_a_command_is_serve():
    assert parse([]).run is parse(["serve"]).run
    assert parse(["--port", "1"]).port == "1"
