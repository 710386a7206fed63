"""Changes of config.json and accounts.json reach a running gateway; broken ones change nothing and are told."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from running import ROOT, clean_environment, start

from agproxy import embed
from agproxy.config import SETTINGS, Config
from agproxy.io.watch import Watched, Watcher, stamp_of
from agproxy.pool import Account


@pytest.fixture
def serve(simulator, tmp_path):
    started = []

    def make(config=None, *flags, **environ):
        if config is not None:
            write(tmp_path, config)
        environ = {"AGPROXY_UPSTREAM_URL": simulator.url, "AGPROXY_RELOAD_SECONDS": "0.02"} | environ
        started.append(start("serve", *flags, home=tmp_path, **environ))
        return started[-1]

    yield make
    for running in started:
        running.stop()


def write(home, value):
    text = value if isinstance(value, str) else json.dumps(value)
    (home / "config.json").write_text(text, encoding="utf-8")


def until(running, is_so):
    """Wait until something holds; asking for the health of the gateway is the clock."""
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline, "\n".join(running.lines)
        assert running.ask("/healthz").status == 200


def logged(running, words):
    return [line for line in running.lines if words in line]


def accounts(home, *arguments, keys=""):
    command = [sys.executable, "-m", "agproxy", "accounts", *arguments]
    done = subprocess.run(
        command, env=clean_environment(home, {}), input=keys, capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def mapped(running, model="my-model"):
    return running.chat("hi", model=model).headers["X-Mapped-Model"]


def test_an_edited_model_map_is_in_force_without_a_restart(serve, tmp_path):
    running = serve({"model_map": {"my-model": "gemini-2.5-pro"}}, GEMINI_API_KEY="good")
    assert mapped(running) == "gemini-2.5-pro"

    write(tmp_path, {"model_map": {"my-model": "gemini-2.5-flash"}})
    until(running, lambda: logged(running, "model_map changed, in force now"))
    assert mapped(running) == "gemini-2.5-flash"


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ('{"model_map": {', "not JSON"),
        ({"max_attempts": 0}, "at least 1"),
        ({"modelmap": {}}, "did you mean"),
        ({"proxy": {"auth_mode": "strict"}}, "AGPROXY_API_KEY"),
    ],
)
def test_a_broken_edit_keeps_the_old_settings_and_says_so_once(serve, tmp_path, broken, reason):
    running = serve({"model_map": {"my-model": "gemini-2.5-pro"}}, GEMINI_API_KEY="good")

    write(tmp_path, broken)
    until(running, lambda: logged(running, "stay as they were"))
    assert mapped(running) == "gemini-2.5-pro"
    assert reason in logged(running, "stay as they were")[0]

    write(tmp_path, {"model_map": {"my-model": "gemini-2.5-flash"}})
    until(running, lambda: mapped(running) == "gemini-2.5-flash")
    assert len(logged(running, "stay as they were")) == 1


def test_what_only_a_restart_can_change_keeps_its_old_value_and_is_named(serve, tmp_path):
    running = serve({}, GEMINI_API_KEY="good")

    write(tmp_path, {"host": "127.0.0.2", "upstream_version": "v1", "default_model": "gemini-2.5-pro"})
    until(running, lambda: logged(running, "until agproxy is restarted"))
    assert "host, upstream_version changed" in logged(running, "until agproxy is restarted")[0]
    assert mapped(running, "zebra") == "gemini-2.5-pro"


def test_a_flag_still_goes_before_the_file(serve, tmp_path):
    running = serve({}, "--default-model", "gemini-2.5-pro", GEMINI_API_KEY="good")

    write(tmp_path, {"default_model": "gemini-2.5-flash", "max_attempts": 4})
    until(running, lambda: logged(running, "max_attempts changed, in force now"))
    assert mapped(running, "zebra") == "gemini-2.5-pro"


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="the platform has no SIGHUP")
def test_a_hangup_has_the_files_read_where_watching_is_off(serve, tmp_path):
    running = serve({}, GEMINI_API_KEY="good", AGPROXY_RELOAD_SECONDS="0")
    write(tmp_path, {"default_model": "gemini-2.5-pro"})

    os.kill(running.process.pid, signal.SIGHUP)
    until(running, lambda: logged(running, "default_model changed, in force now"))
    assert mapped(running, "zebra") == "gemini-2.5-pro"
    assert running.stop() == 0


def test_accounts_added_and_disabled_by_the_command_are_seen(serve, tmp_path):
    running = serve()
    assert running.chat("hi").status == 503

    accounts(tmp_path, "add", "--label", "one", keys="good-1\n")
    until(running, lambda: running.chat("hi").status == 200)
    accounts(tmp_path, "disable", "one")
    until(running, lambda: running.chat("hi").status == 503)
    accounts(tmp_path, "enable", "one")
    until(running, lambda: running.chat("hi").status == 200)


def test_a_broken_accounts_file_keeps_the_accounts_in_use(serve, tmp_path):
    accounts(tmp_path, "add", keys="good-1\n")
    running = serve()

    (tmp_path / "accounts.json").write_text('{"version": 1, "accounts": [', encoding="utf-8")
    until(running, lambda: logged(running, "accounts in use stay as they were"))
    assert running.chat("hi").status == 200


def test_the_embedded_simulator_steps_back_when_the_first_account_comes(serve, tmp_path):
    running = serve(None, "--simulate", "auto")
    before = running.chat("hi").headers["X-Account-Id"]

    accounts(tmp_path, "add", keys="good-1\n")
    until(running, lambda: logged(running, "1 accounts in use"))
    assert (before, running.chat("hi").headers["X-Account-Id"][:4]) == ("simulated", "key-")


# --- the parts -------------------------------------------------------------------------------------------------


def test_settings_that_need_a_restart_say_so_where_they_are_declared():
    needing = {setting.name for setting in SETTINGS if setting.restart}

    assert {"host", "port", "upstream_url", "upstream_version", "simulate", "ca_file", "upstream_proxy"} <= needing
    assert not {"model_map", "max_attempts", "log_level", "api_key", "reload_seconds"} & needing


def test_a_program_of_its_own_swaps_settings_and_accounts():
    async def main():
        config = Config(host="127.0.0.1", port=0, state=False)
        async with embed.listening(config, (Account(id="a", key="k"),)) as running:
            waiting = running.apply(Config(host="127.0.0.1", port=9, state=False, max_attempts=7))
            assert waiting == ("port",)
            assert (running.gateway.config.max_attempts, running.gateway.config.port) == (7, 0)
            assert running.server.config is running.reach.lines.config is running.gateway.config
            running.use([Account(id="b", key="k")])
            assert [account.id for account in running.gateway.pool.accounts] == ["b"]

    asyncio.run(main())


def test_a_file_is_read_once_a_change_and_only_when_it_has_settled(tmp_path):
    file = tmp_path / "file"
    file.write_text("1")
    seen, pauses = [], []

    async def changed():
        seen.append(file.read_text())

    async def pause(seconds):
        pauses.append(seconds)
        if len(pauses) == 1:
            file.write_text("333")  # the editor was not done

    watched = Watched(lambda: stamp_of(file), changed)
    watcher = Watcher([watched], lambda: 0.0, pause)

    async def main():
        await watcher.look(watched)
        file.write_text("22")
        await watcher.look(watched)
        await watcher.look(watched)
        await watcher.look(watched, is_forced=True)

    asyncio.run(main())
    assert seen == ["333", "333"]
    assert len(pauses) == 3


def test_a_file_that_is_not_there_has_no_stamp(tmp_path):
    assert stamp_of(tmp_path / "none") is None
