"""The files in deploy/ are what the code expects: settings, paths, ports, times, users. tests/test_systemd.py and
tests/interop/test_nginx.py look at those for systemd and nginx."""

import json
import os
import plistlib
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import xml.etree.ElementTree
from dataclasses import fields
from pathlib import Path, PureWindowsPath

import pytest
from running import ROOT, clean_environment, start
from test_unix_socket import CHAT, ask

from agproxy import cli
from agproxy.config import NOT_SETTINGS, PREFIX, SETTINGS, Config
from agproxy.io.home import default_home

DEPLOY = ROOT / "deploy"
FILES = sorted(file for file in DEPLOY.rglob("*") if file.is_file())
DEFAULTS = {field.name: field.default for field in fields(Config)}
UID = "10001"


def text_of(name):
    return (DEPLOY / name).read_text(encoding="utf-8")


def instructions():
    """The Dockerfile's instructions in order: word and rest."""
    lines = [line for line in text_of("Dockerfile").replace("\\\n", " ").splitlines() if line and line[0] != "#"]
    return [tuple(line.split(" ", 1)) for line in lines]


def yaml_of(name):
    yaml = pytest.importorskip("yaml")
    return list(yaml.safe_load_all(text_of(name)))


# --- all of them -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_variable_exists(file):
    named = set(re.findall(rf"\b{PREFIX}[A-Z_]*[A-Z]\b", file.read_text(encoding="utf-8")))

    assert named <= {setting.variable for setting in SETTINGS} | NOT_SETTINGS


def test_every_file_is_in_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")

    assert [file.name for file in FILES if file.relative_to(ROOT).as_posix() not in readme] == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_commands_of_agproxy_within_exist(file):
    text = file.read_text(encoding="utf-8")
    for words in re.findall(r"`agproxy ([a-z][^`]*)`|compose run --rm agproxy (.*)", text):
        cli.parse(shlex.split(next(filter(None, words))))


# --- the container ---------------------------------------------------------------------------------------------


def test_the_image_ends_as_a_user_without_rights_in_the_home_that_is_its_volume():
    last = instructions()
    last = last[max(place for place, (word, _) in enumerate(last) if word == "FROM") :]
    rest = {}
    for word, value in last:
        rest.setdefault(word, []).append(value)

    assert "RUN" not in rest, "the last stage needs no shell"
    assert rest["USER"] == [f"{UID}:{UID}"]
    assert f"--chown={UID}:{UID} /empty /home/agproxy" in rest["COPY"][-1]
    assert rest["VOLUME"] == rest["WORKDIR"] == ["/home/agproxy"]
    environ = dict(word.split("=") for word in shlex.split(rest["ENV"][0]))
    assert environ == {"HOME": "/home/agproxy", "AGPROXY_ALLOW_LAN_ACCESS": "true"}
    assert rest["STOPSIGNAL"] == ["SIGTERM"]
    assert rest["EXPOSE"] == [str(DEFAULTS["port"])]
    assert json.loads(rest["ENTRYPOINT"][0]) == ["python3", "/agproxy.pyz"]
    cli.parse(json.loads(rest["CMD"][0]))


@pytest.mark.skipif(sys.platform != "linux", reason="the home folder of Linux")
def test_what_is_kept_lies_within_the_volume(monkeypatch):
    monkeypatch.setenv("HOME", "/home/agproxy")

    assert default_home({}) == Path("/home/agproxy/.config/agproxy")


def test_all_that_the_image_is_built_from_exists_and_suffices(tmp_path):
    """The build stage in a folder of its own: its COPY lines, then the builder."""
    copied = [rest.split() for word, rest in instructions() if word == "COPY" and "--from" not in rest]
    for *sources, target in copied:
        for source in sources:
            assert (ROOT / source).exists(), source
            place = tmp_path / target / Path(source).name if target.endswith("/") else tmp_path / target
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(ROOT / source)
    done = subprocess.run(
        [sys.executable, "-c", BUILDER, str(tmp_path)], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "agproxy.pyz").stat().st_size > 1_000_000


# Links lead back to the tree of the tests, so the builder is told where it is.
BUILDER = """
import pathlib, runpy, sys
root = pathlib.Path(sys.argv[1])
names = runpy.run_path(root / ".ci" / "build_zipapp.py")
names["main"].__globals__["ROOT"] = root
names["main"]([str(root / "agproxy.pyz")])
"""


def health_check():
    command = next(rest for word, rest in instructions() if word == "HEALTHCHECK").partition("CMD ")[2]
    name, flag, code = json.loads(command)
    assert (name, flag) == ("python3", "-c")
    assert f"'127.0.0.1', {DEFAULTS['port']}," in code
    return code


def test_the_health_check_tells_a_gateway_that_answers_from_none(tmp_path):
    """As in the image: the gateway asks for a client key, which the check does not have."""
    environ = clean_environment(tmp_path, {"http_proxy": "http://127.0.0.1:9"})  # a check that goes there would fail

    def check(port):
        code = health_check().replace(str(DEFAULTS["port"]), str(port))
        return subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, timeout=30).returncode

    gateway = start("serve", home=tmp_path, AGPROXY_AUTH_MODE="all_except_health", AGPROXY_API_KEY="client-key")
    try:
        up = check(gateway.url.rpartition(":")[2])
    finally:
        gateway.stop()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        down = check(closed.getsockname()[1])

    assert up == 0
    assert down != 0


def test_without_a_client_key_the_image_does_not_start(tmp_path):
    environ = clean_environment(tmp_path, {"AGPROXY_ALLOW_LAN_ACCESS": "true", "GEMINI_API_KEY": "x"})
    done = subprocess.run(
        [sys.executable, "-m", "agproxy", "serve"], env=environ, capture_output=True, text=True, timeout=30
    )

    assert done.returncode == 2
    assert "AGPROXY_API_KEY" in done.stderr


def test_compose_takes_all_rights_and_waits_for_open_answers():
    (compose,) = yaml_of("compose.yaml")
    service = compose["services"]["agproxy"]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["user"] == f"{UID}:{UID}"
    assert service["ports"] == [f"127.0.0.1:{DEFAULTS['port']}:{DEFAULTS['port']}"], "this machine only"
    assert "environment" not in service, "keys come from the file"
    assert int(service["stop_grace_period"].removesuffix("s")) > DEFAULTS["drain_seconds"]
    volume, place = service["volumes"][0].split(":")
    assert volume in compose["volumes"]
    assert ("VOLUME", place) in instructions()
    build = service["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).resolve() == DEPLOY / "Dockerfile"


def test_kubernetes_is_of_one_mind_with_the_image():
    service, deployment = yaml_of("kubernetes.yaml")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    environ = {item["name"]: item["value"] for item in container["env"]}

    assert service["spec"]["selector"].items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    assert deployment["spec"]["selector"]["matchLabels"] == deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["ports"][0]["targetPort"] == container["ports"][0]["containerPort"] == DEFAULTS["port"]
    assert str(pod["securityContext"]["runAsUser"]) == UID
    assert ("VOLUME", container["volumeMounts"][0]["mountPath"]) in instructions()
    assert pod["terminationGracePeriodSeconds"] > int(environ["AGPROXY_DRAIN_SECONDS"])
    for probe in ("readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["port"] == DEFAULTS["port"]
    assert container["lifecycle"]["preStop"]["exec"]["command"][0] == "python3"


# --- macOS, Windows --------------------------------------------------------------------------------------------


def test_the_launch_agent_restarts_what_fails_and_waits_for_open_answers():
    agent = plistlib.loads(text_of("agproxy.plist").encode())
    python, file, *arguments = agent["ProgramArguments"]

    assert agent["Label"] == "agproxy"
    assert Path(file).name == "agproxy.pyz"
    assert Path(python).name == "python3"
    cli.parse(arguments)
    assert agent["KeepAlive"] == {"SuccessfulExit": False}
    assert agent["ExitTimeOut"] > DEFAULTS["drain_seconds"]
    assert agent["SoftResourceLimits"]["NumberOfFiles"] > DEFAULTS["max_connections"] + DEFAULTS["spare_connections"]
    assert "EnvironmentVariables" not in agent, "no keys in a file that all may read"


def test_the_command_that_fills_in_the_launch_agent_leaves_no_placeholder(tmp_path):
    command = next(line.strip() for line in text_of("agproxy.plist").splitlines() if line.strip().startswith("sed "))
    command = command.partition(" > ")[0]
    filled = subprocess.run(
        ["sh", "-c", command], cwd=DEPLOY, env=os.environ | {"HOME": str(tmp_path)}, capture_output=True, timeout=30
    )
    agent = plistlib.loads(filled.stdout)

    assert agent["ProgramArguments"][1] == f"{tmp_path}/.local/lib/agproxy.pyz"
    assert agent["StandardErrorPath"] == f"{tmp_path}/Library/Logs/agproxy.log"
    assert Path(agent["ProgramArguments"][0]).is_file()


def test_the_task_of_windows_runs_for_good_and_without_more_rights():
    space = {"t": "http://schemas.microsoft.com/windows/2004/02/mit/task"}
    task = xml.etree.ElementTree.fromstring(text_of("agproxy-task.xml"))

    def value(path):
        return task.find(path, space).text

    assert value("t:Settings/t:ExecutionTimeLimit") == "PT0S"
    assert value("t:Principals/t:Principal/t:RunLevel") == "LeastPrivilege"
    assert value("t:Settings/t:RestartOnFailure/t:Interval") == "PT1M"
    flag, file, *arguments = shlex.split(value("t:Actions/t:Exec/t:Arguments"), posix=False)
    assert flag == "-3"
    assert PureWindowsPath(file.strip('"')).name == "agproxy.pyz"
    cli.parse(arguments)


NO_STREAMS = """
import signal, sys, threading
sys.stdin = sys.stdout = sys.stderr = None  # as pythonw has it
from agproxy.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_a_gateway_without_standard_streams_serves_and_stops(tmp_path):
    """As pyw.exe starts it. It cannot say when it is ready, so a Unix socket's file tells."""
    if sys.platform == "win32":
        pytest.skip("no Unix sockets")
    place = tmp_path / "s"
    arguments = ["serve", "--host", "", "--listen-unix", str(place), "--simulate", "on"]
    process = subprocess.Popen([sys.executable, "-c", NO_STREAMS, *arguments], env=clean_environment(tmp_path, {}))
    try:
        deadline = time.monotonic() + 20
        while not place.exists():
            assert process.poll() is None, "it ended"
            assert time.monotonic() < deadline
        status, _, _ = ask(place, "/v1/chat/completions", CHAT)
        process.send_signal(signal.SIGTERM)
        ended = process.wait(20)
    finally:
        process.kill()
        process.wait()

    assert (status, ended) == (200, 0)
