"""What `agproxy setup CLIENT` prints or writes makes the real client reach a running gateway, in a fresh home.

Each is tried with a gateway that asks for no key, with one that does, and with one that does over TLS. Zed has no
headless mode: its settings are held to the documented ones in tests/unit/test_setup.py.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from authority import make_certificates
from foreign import command, node_modules, run
from running import clean_environment, start

KEY = "sk-client-key"
PROMPT = "Answer. [[sim:words=3]]"
ANSWER = "w1 w2 w3"  # which does not stand in the prompt


@pytest.fixture(scope="module")
def gateways(simulator, tmp_path_factory):
    """Three gateways, and the settings by which `agproxy setup` knows each."""
    home = tmp_path_factory.mktemp("gateways")
    make_certificates(home, "localhost")
    environ = {"GEMINI_API_KEY": "good", "AGPROXY_UPSTREAM_URL": simulator.url}
    locked = {"AGPROXY_API_KEY": KEY, "AGPROXY_AUTH_MODE": "strict"}
    files = {"AGPROXY_TLS_CERT": str(home / "server.pem"), "AGPROXY_TLS_KEY": str(home / "server.key")}
    settings = {"open": {}, "with-key": locked, "over-tls": locked | files}
    started = {name: start("serve", home=home / name, **environ, **more) for name, more in settings.items()}
    for name, running in started.items():
        running.settings, running.ca = settings[name], home / "ca.pem"
    yield started
    for running in started.values():
        running.stop()


class Place:
    """A home folder, set up by `agproxy setup` for one of the gateways."""

    def __init__(self, gateway, home):
        self.gateway, self.home = gateway, home
        self.needs_key = bool(gateway.settings)
        self.work = home / "work"
        self.work.mkdir(parents=True)

    def setup(self, client, *flags):
        environ = clean_environment(self.home / "agproxy", {"HOME": str(self.home)})
        environ |= {"XDG_CONFIG_HOME": str(self.home / ".config"), "AGPROXY_PORT": self.gateway.url.rpartition(":")[2]}
        environ |= self.gateway.settings
        done = subprocess.run(
            [sys.executable, "-m", "agproxy", "setup", client, *flags], env=environ, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def run(self, *arguments, variable="GATEWAY_API_KEY", **environ):
        """The client, with its key in its environment where one is asked for."""
        if self.needs_key:
            environ |= {variable: KEY}
        if "AGPROXY_TLS_CERT" in self.gateway.settings:  # as the notes of `agproxy setup` say
            environ |= {"SSL_CERT_FILE": str(self.gateway.ca), "NODE_EXTRA_CA_CERTS": str(self.gateway.ca)}
        done = run([str(word) for word in arguments], home=self.home, folder=self.work, **environ)
        assert done.status == 0, done.output
        assert ANSWER in done.output
        return done

    def holds_no_key(self, *, except_for=()):
        files = [file for file in self.home.rglob("*") if file.is_file() and file.name not in except_for]
        return not [file for file in files if KEY.encode() in file.read_bytes()]


@pytest.fixture(params=["open", "with-key", "over-tls"])
def place(request, gateways, tmp_path):
    return Place(gateways[request.param], tmp_path / "home")


def test_codex(place):
    codex = node_modules("@openai/codex") / ".bin" / "codex"
    place.setup("codex", "--write")
    assert place.holds_no_key()
    done = place.run(codex, "exec", "--json", "--skip-git-repo-check", PROMPT)

    assert "turn.completed" in done.output
    assert "unrecognized" not in done.output


def test_aider(place):
    aider = command("aider", "aider-chat")
    place.setup("aider", "--write")
    flags = "--no-git --yes-always --no-check-update --no-show-release-notes --analytics-disable --no-pretty"
    flags += " --no-show-model-warnings --map-tokens 0"
    environ = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    place.run(aider, *flags.split(), "--message", PROMPT, variable="OPENAI_API_KEY", **environ)


def test_opencode(place):
    opencode = node_modules("opencode-ai") / ".bin" / "opencode"
    place.setup("opencode", "--write")
    assert place.holds_no_key()
    place.run(opencode, "run", PROMPT, OPENCODE_DISABLE_AUTOUPDATE="1", OPENCODE_DISABLE_MODELS_FETCH="1")


def test_kilo(place):
    kilo = node_modules("@kilocode/cli") / ".bin" / "kilo"
    place.setup("kilo", "--write")
    assert place.holds_no_key()
    place.run(kilo, "run", PROMPT)


def test_continue(place):
    if "AGPROXY_TLS_CERT" in place.gateway.settings:
        pytest.skip("Continue's command line heeds neither caBundlePath nor NODE_EXTRA_CA_CERTS (1.5.47)")
    continue_ = node_modules("@continuedev/cli") / ".bin" / "cn"
    place.setup("continue", "--write")
    assert place.holds_no_key()
    place.run(continue_, "-p", PROMPT)


def test_continue_finds_the_key_in_its_env_file(gateways, tmp_path):
    place = Place(gateways["with-key"], tmp_path / "home")
    continue_ = node_modules("@continuedev/cli") / ".bin" / "cn"
    place.setup("continue", "--write")
    (place.home / ".continue" / ".env").write_text(f"GATEWAY_API_KEY={KEY}\n")
    place.run(continue_, "-p", PROMPT, variable="NOT_READ")


def test_cline(place):
    cline = node_modules("cline") / ".bin" / "cline"
    place.setup("cline", "--write")
    written = place.home / ".cline" / "data" / "settings" / "providers.json"
    assert place.holds_no_key(except_for=("providers.json",))
    assert written.stat().st_mode & 0o777 == 0o600
    # It would leave a daemon behind, which serves later runs too.
    place.run(cline, "--json", PROMPT, CLINE_SESSION_BACKEND_MODE="local")


def test_llm(place):
    llm = command("llm", "llm")
    place.setup("llm", "--write")
    place.run(llm, "-m", "agproxy/gemini-3.8-flash", PROMPT, variable="OPENAI_API_KEY")


def asked(text):
    """A printed program or command with the prompt of these tests in place of its own."""
    assert text.count('"Hello"') == 1
    return text.replace('"Hello"', f'"{PROMPT}"')


def python_with(module):
    """An interpreter that has the module, or a skip."""
    programs = [Path(sys.executable)]
    if os.environ.get("AGPROXY_INTEROP"):
        programs += sorted(Path(os.environ["AGPROXY_INTEROP"]).glob("*/bin/python"))
    for program in programs:
        if subprocess.run([program, "-c", f"import {module}"], capture_output=True).returncode == 0:
            return program
    pytest.skip(f"{module} is not installed in an environment in the folder AGPROXY_INTEROP")


@pytest.mark.parametrize(("client", "module"), [("openai-python", "openai"), ("langchain", "langchain_openai")])
def test_python_programs(place, client, module):
    program = python_with(module)
    (place.work / "hello.py").write_text(asked(place.setup(client)))
    place.run(program, "hello.py")


def test_openai_node(place):
    modules = node_modules("openai")
    (place.work / "node_modules").symlink_to(modules)
    (place.work / "hello.mjs").write_text(asked(place.setup("openai-node")))
    place.run("node", "hello.mjs")


def test_curl(place):
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    (place.work / "hello.sh").write_text(asked(place.setup("curl")))
    place.run("sh", "hello.sh")
