"""`agproxy setup` as a user runs it: print, write with a backup, take back."""

import json
import os
import subprocess
import sys
import tomllib

import pytest
from running import ROOT, clean_environment

KEY = "sk-client-secret"


@pytest.fixture
def setup(tmp_path):
    (tmp_path / "me").mkdir()

    def run(*arguments, **environ):
        environ = {"HOME": str(tmp_path / "me"), "XDG_CONFIG_HOME": str(tmp_path / "me" / ".config")} | environ
        return subprocess.run(
            [sys.executable, "-m", "agproxy", "setup", *arguments],
            env=clean_environment(tmp_path / "home", environ),
            capture_output=True,
            text=True,
            cwd=ROOT,
        )

    run.me = tmp_path / "me"
    return run


LOCKED = {"AGPROXY_API_KEY": KEY, "AGPROXY_AUTH_MODE": "strict"}


def test_alone_it_lists_the_clients_and_their_places(setup):
    done = setup()

    assert done.returncode == 0
    assert "codex" in done.stdout
    assert "~/.codex/config.toml" in done.stdout
    assert len(done.stdout.splitlines()) == 13


def test_what_is_printed_is_the_configuration_and_nothing_else(setup):
    done = setup("codex", "--port", "9000", "--model", "gpt-5.5", **LOCKED)
    value = tomllib.loads(done.stdout)

    assert value["model"] == "gpt-5.5"
    assert value["model_providers"]["agproxy"]["base_url"] == "http://127.0.0.1:9000/v1"
    assert value["model_providers"]["agproxy"]["env_key"] == "GATEWAY_API_KEY"
    assert str(setup.me / ".codex" / "config.toml") in done.stderr
    assert not (setup.me / ".codex").exists()


def test_writing_keeps_what_is_there_and_undo_brings_it_back(setup):
    file = setup.me / ".codex" / "config.toml"
    file.parent.mkdir()
    file.write_text('# mine\nmodel = "x"\n[mcp_servers.a]\ncommand = "b"\n')
    file.chmod(0o644)
    before = file.read_bytes()

    done = setup("codex", "--write")
    assert done.returncode == 0, done.stderr
    assert tomllib.loads(file.read_text())["mcp_servers"] == {"a": {"command": "b"}}
    assert file.stat().st_mode & 0o777 == 0o644
    (backup,) = file.parent.glob("config.toml.agproxy-*.bak")
    assert backup.read_bytes() == before
    assert "it is so already" in setup("codex", "--write").stdout
    assert setup("codex", "--write", "--model", "gpt-5.5").returncode == 0

    assert setup("codex", "--undo").returncode == 0
    assert tomllib.loads(file.read_text())["model"] == "gemini-3.8-flash"
    assert setup("codex", "--undo").returncode == 0
    assert file.read_bytes() == before
    assert os.listdir(file.parent) == ["config.toml"]
    done = setup("codex", "--undo")
    assert done.returncode == 1
    assert "nothing to take back" in done.stderr


def test_a_file_that_was_not_there_goes_again(setup):
    file = setup.me / ".config" / "opencode" / "opencode.json"
    assert setup("opencode", "--write").returncode == 0
    assert file.stat().st_mode & 0o777 == 0o600
    assert setup("opencode", "--undo").returncode == 0
    assert os.listdir(file.parent) == []


def test_a_file_changed_since_is_not_undone(setup):
    file = setup.me / ".aider.conf.yml"
    file.write_text("dark-mode: true\n")
    setup("aider", "--write")
    with file.open("a") as stream:
        stream.write("vim: true\n")
    done = setup("aider", "--undo")

    assert done.returncode == 2
    assert "was changed since" in done.stderr
    assert ".bak" in done.stderr
    assert "vim: true" in file.read_text()


@pytest.mark.parametrize("client", ["zed", "opencode"])
def test_json_with_comments_is_printed_and_not_rewritten(setup, client):
    name = {"zed": "settings.json", "opencode": "opencode.jsonc"}[client]
    file = setup.me / ".config" / client / name
    file.parent.mkdir(parents=True)
    file.write_text('// my settings\n{"theme": "x"}\n')
    done = setup(client, "--write")

    assert done.returncode == 1
    assert "comments" in done.stderr
    assert "http://127.0.0.1:8045/v1" in json.dumps(json.loads(done.stdout))
    assert file.read_text() == '// my settings\n{"theme": "x"}\n'
    assert os.listdir(file.parent) == [name]


@pytest.mark.parametrize("flags", [["--port", "0"], ["--listen-unix", "/run/agproxy.sock", "--host", ""]])
def test_what_was_written_is_taken_back_also_where_the_settings_say_no_base_url(setup, flags):
    file = setup.me / ".aider.conf.yml"
    assert setup("aider", "--write").returncode == 0
    assert setup("aider", "--write", *flags).returncode == 2
    done = setup("aider", "--undo", *flags)

    assert done.returncode == 0, done.stderr
    assert not file.exists()


def test_a_link_to_dotfiles_stays_a_link(setup, tmp_path):
    (tmp_path / "dotfiles").mkdir()
    real = tmp_path / "dotfiles" / "aider.yml"
    real.write_text("dark-mode: true\n")
    (setup.me / ".aider.conf.yml").symlink_to(real)
    setup("aider", "--write")

    assert (setup.me / ".aider.conf.yml").is_symlink()
    assert "openai-api-base" in real.read_text()


def test_a_key_is_written_for_cline_only_and_closed_to_others(setup):
    file = setup.me / ".cline" / "data" / "settings" / "providers.json"
    assert KEY not in setup("cline", **LOCKED).stdout
    file.parent.mkdir(parents=True)
    file.write_text('{"version": 1, "providers": {}, "modes": {"x": 1}}')
    file.chmod(0o644)
    done = setup("cline", "--write", **LOCKED)

    assert done.returncode == 0, done.stderr
    assert "plain text" in done.stderr
    assert KEY not in done.stdout + done.stderr
    value = json.loads(file.read_text())
    assert value["providers"]["openai-compatible"]["settings"]["apiKey"] == KEY
    assert value["modes"] == {"x": 1}
    assert file.stat().st_mode & 0o777 == 0o600


def test_which_of_several_keys_is_meant_has_to_be_said(setup):
    many = LOCKED | {"AGPROXY_API_KEY": f"other,{KEY}"}
    done = setup("cline", "--write", **many)
    assert done.returncode == 2
    assert "key1, key2" in done.stderr
    assert KEY not in done.stderr
    assert setup("cline", "--write", "--key-name", "key2", **many).returncode == 0
    assert KEY in (setup.me / ".cline" / "data" / "settings" / "providers.json").read_text()
    assert setup("cline", "--key-name", "nobody", **many).returncode == 2


@pytest.mark.parametrize(
    ("flags", "url"),
    [
        (["--host", "0.0.0.0"], "http://127.0.0.1:8045/v1"),
        (["--host", "::1", "--port", "1"], "http://[::1]:1/v1"),
        (["--host", "box.lan"], "http://box.lan:8045/v1"),
        (["--tls-cert", "x.pem"], "https://localhost:8045/v1"),
        (["--tls-cert", "x.pem", "--host", "box.lan"], "https://box.lan:8045/v1"),
        (["--url", "https://box.lan/"], "https://box.lan/v1"),
        (["--url", "https://box.lan/llm/v1/"], "https://box.lan/llm/v1"),
    ],
)
def test_the_base_url_comes_from_the_settings_or_as_it_is_said(setup, flags, url):
    value = json.loads(setup("opencode", *flags).stdout)
    assert value["provider"]["agproxy"]["options"]["baseURL"] == url


@pytest.mark.parametrize(
    "arguments",
    [
        ["--write"],
        ["curl", "--write"],
        ["curl", "--undo"],
        ["vim"],
        ["codex", "--port", "0"],
        ["codex", "--url", "box"],
        ["codex", "--url", "http://a b/"],
        ["codex", "--url", "http://u:p@h/"],
        ["codex", "--url", 'http://h/";x'],
        ["codex", "--write", "--undo"],
    ],
)
def test_mistakes_are_one_line_and_status_2(setup, arguments):
    done = setup(*arguments)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
