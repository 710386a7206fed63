"""`agproxy completions`: the scripts are loaded into the shells themselves, and asked."""

import os
import pty
import select
import shutil
import subprocess
import sys
import time

import pytest
from running import ROOT, clean_environment

from agproxy.cli import whole_parser
from agproxy.cli.completions import read
from agproxy.config import SETTINGS

# What is typed, the last word unfinished -> some of what is offered, and what must not be.
CASES = {
    "agproxy ": (["serve", "accounts", "setup", "doctor", "completions"], ["codex"]),
    "agproxy acc": (["accounts"], ["serve"]),
    "agproxy --allow-l": (["--allow-lan-access"], ["serve"]),
    "agproxy accounts ": (["add", "list", "test"], ["serve"]),
    "agproxy accounts add --la": (["--label"], ["--json"]),
    "agproxy accounts add --k": (["--kind"], ["--key"]),
    "agproxy accounts add --kind comm": (["command"], ["api_key"]),
    "agproxy serve --auth-mode ": (["off", "strict", "auto"], ["--port"]),
    "agproxy --auth-mode str": (["strict"], ["off"]),
    "agproxy config --images ": (["markdown", "field"], ["port"]),
    "agproxy setup co": (["codex", "continue"], ["zed"]),
    "agproxy setup codex --w": (["--write"], ["--raw"]),
    "agproxy models e": (["explain"], ["list"]),
    "agproxy completions ": (["bash", "zsh", "fish"], ["csh"]),
    "agproxy translate --answer some": (["some-file.json"], ["some-folder-not"]),
}


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scripts")
    for shell in ("bash", "zsh", "fish"):
        done = subprocess.run(
            [sys.executable, "-m", "agproxy", "completions", shell],
            env=clean_environment(folder, {}),
            capture_output=True,
            cwd=ROOT,
        )
        assert done.returncode == 0
        (folder / shell).write_bytes(done.stdout)
    (folder / "some-file.json").write_text("{}")
    return folder


def shell_of(name):
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def offered_by_bash(script, typed):
    words = typed.split(" ")
    line = f"""
        source {script}
        COMP_WORDS=({" ".join(f"'{word}'" for word in words)}) COMP_CWORD={len(words) - 1}
        complete -p agproxy >/dev/null || exit 1
        _agproxy
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run([shell_of("bash"), "-uc", line], capture_output=True, text=True, cwd=script.parent)
    assert done.returncode == 0, done.stderr
    return done.stdout.split(), done.stderr


@pytest.mark.parametrize("typed", CASES)
def test_bash_offers(scripts, typed):
    offered, complaints = offered_by_bash(scripts / "bash", typed)
    wanted, unwanted = CASES[typed]

    assert set(wanted) <= set(offered)
    assert not set(unwanted) & set(offered)
    assert [line for line in complaints.splitlines() if "compopt" not in line] == []


def test_bash_completes_behind_an_equals_sign(scripts):
    assert offered_by_bash(scripts / "bash", "agproxy --auth-mode = str")[0] == ["strict"]
    assert "strict" in offered_by_bash(scripts / "bash", "agproxy --auth-mode =")[0]


def test_bash_itself_calls_it(scripts):
    """An interactive bash that is typed at, as a person would."""
    assert "accounts" in typed_at(
        [shell_of("bash"), "--norc", "-i"], f"source {scripts / 'bash'}", "agproxy acc\t", "accounts"
    )


@pytest.mark.parametrize("typed", CASES)
def test_fish_offers(scripts, typed):
    fish = shell_of("fish")
    environ = {"PATH": os.environ["PATH"], "HOME": str(scripts)}
    line = f"source {scripts / 'fish'}; complete -C '{typed}'"
    done = subprocess.run([fish, "--no-config", "-c", line], capture_output=True, text=True, cwd=scripts, env=environ)
    offered = {line.partition("\t")[0] for line in done.stdout.splitlines()}
    wanted, unwanted = CASES[typed]

    assert done.stderr == ""
    assert set(wanted) <= offered
    assert not set(unwanted) & offered


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("agproxy acc\t", "accounts"),
        ("agproxy accounts add --lab\t", "--label"),
        ("agproxy serve --auth-mode str\t", "strict"),
        ("agproxy serve --auth-mode=str\t", "--auth-mode=strict"),
        ("agproxy setup cli\t", "cline"),
        ("agproxy translate --answer some\t", "some-file.json"),
    ],
)
def test_zsh_itself_completes(scripts, typed, shown):
    command = f"cd {scripts}; autoload -U compinit; compinit -D -u; source {scripts / 'zsh'}"
    assert shown in typed_at([shell_of("zsh"), "-f", "-i"], command, typed, shown)


def typed_at(shell, command, typed, wanted):
    """What an interactive shell shows for typed keys, until the wanted word has come or 10 s are over."""
    environ = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "TERM": "dumb", "PS1": "", "PROMPT": ""}
    terminal, inner = pty.openpty()
    process = subprocess.Popen(shell, stdin=inner, stdout=inner, stderr=inner, env=environ, start_new_session=True)
    os.close(inner)
    shown = b""

    def read_until(word):
        nonlocal shown
        deadline = time.monotonic() + 10
        while word not in shown and time.monotonic() < deadline:
            if select.select([terminal], [], [], 0.1)[0]:
                shown += os.read(terminal, 65536)
        assert word in shown, shown

    try:
        os.write(terminal, f"{command}; echo LOA'DED'\n".encode())
        read_until(b"LOADED")
        shown = b""
        os.write(terminal, typed.encode())
        read_until(wanted.encode())
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
    return shown.decode(errors="replace")


def test_every_command_and_every_setting_is_in_the_tree():
    root = read(whole_parser(), "agproxy")
    paths = {node.path for node in root.walk()}
    (serve,) = [node for node in root.inner if node.path == "agproxy serve"]
    known = {name for flag in serve.flags for name in flag.names}

    assert {f"agproxy {word}" for word in root.words} <= paths
    assert "agproxy accounts import" in paths
    assert {setting.flag for setting in SETTINGS if not setting.secret} <= known
    assert not {setting.flag for setting in SETTINGS if setting.secret} & known
    by_flag = {name: flag.values for flag in serve.flags for name in flag.names}
    for setting in SETTINGS:
        if setting.choices:
            assert by_flag[setting.flag] == setting.choices


def test_a_shell_that_is_not_known_is_refused(scripts):
    done = subprocess.run(
        [sys.executable, "-m", "agproxy", "completions", "csh"],
        env=clean_environment(scripts, {}),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "bash" in done.stderr
