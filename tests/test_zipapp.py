"""The one-file form, and copies of the package inside other trees: what they hold, that they run, where from."""

import ast
import hashlib
import http.server
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import certifi
import h11
import pytest
from authority import make_certificates
from running import ROOT, Running, clean_environment

from agproxy import __version__

ISOLATED = (sys.executable, "-I", "-S")
HELLO = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}]}


def build(target, *, root=ROOT, **environ):
    """Run the builder as `make zipapp` does; what it printed."""
    done = subprocess.run(
        [sys.executable, str(root / ".ci" / "build_zipapp.py"), str(target)],
        env=os.environ | environ,
        cwd=target.parent,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def zipapp(tmp_path_factory):
    target = tmp_path_factory.mktemp("zipapp") / "agproxy.pyz"
    build(target)
    return target


def run(*command, cwd, stdin="", **environ):
    done = subprocess.run(
        [*command],
        input=stdin,
        env=clean_environment(cwd, {"PYTHONPATH": ""} | environ),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def start(*command, home, **environ):
    """A gateway started by this command line, once it says where it is."""
    process = subprocess.Popen(
        [*command, "serve", "--host", "127.0.0.1", "--port", "0"],
        env=clean_environment(home, {"PYTHONPATH": ""} | environ),
        cwd=home,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    seen = []
    for line in process.stderr:
        seen.append(line)
        if found := re.search(r"base_url +(http://[\d.]+:\d+)", line):
            threading.Thread(target=process.stderr.read, daemon=True).start()
            return Running(process, found[1])
    process.wait()
    raise AssertionError("the process ended: " + "".join(seen))


def end(running):
    status = running.stop()
    running.process.stderr.close()
    return status


# --- the file --------------------------------------------------------------------------------------------------


def test_the_same_source_gives_the_same_bytes_elsewhere_and_at_another_time(zipapp, tmp_path):
    """Another folder, time zone, day (of the files), umask and hash seed, and leavings of editors beside the source."""
    copy = tmp_path / "copy"
    for name in ("agproxy", ".ci"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "LICENSE", copy)
    (copy / "agproxy" / ".config.py.swp").write_bytes(b"x")
    (copy / "agproxy" / "config.py~").write_bytes(b"x")
    for file in copy.rglob("*"):
        os.utime(file, (86400 * 365, 86400 * 365))
        file.chmod(0o700)
    printed = build(tmp_path / "again.pyz", root=copy, TZ="Pacific/Kiritimati", PYTHONHASHSEED="7")

    assert (tmp_path / "again.pyz").read_bytes() == zipapp.read_bytes()
    assert printed.split() == [hashlib.sha256(zipapp.read_bytes()).hexdigest(), str(tmp_path / "again.pyz")]


def test_it_holds_the_three_packages_their_licences_and_nothing_else(zipapp):
    with zipfile.ZipFile(zipapp) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        for package in ("agproxy", "h11", "certifi"):
            assert archive.read(f"licenses/{package}")

    assert names == sorted(names)
    assert {name.split("/")[0] for name in names} == {"__main__.py", "agproxy", "h11", "certifi", "licenses"}
    ours = {str(file.relative_to(ROOT)) for file in (ROOT / "agproxy").rglob("*.py")}
    assert {name for name in names if name.startswith("agproxy/") and name.endswith(".py")} == ours


def test_it_runs_alone_and_tells_that_its_parts_are_its_own(zipapp, tmp_path):
    """-I and -S: no environment, no site-packages."""
    lines = {line.split()[0]: line for line in run(*ISOLATED, zipapp, "--version", cwd=tmp_path).splitlines()}

    assert __version__ in lines["agproxy"]
    for name in ("agproxy", "h11", "certifi"):
        assert lines[name].endswith(str(zipapp / name)), lines[name]


def test_a_python_that_cannot_use_the_compiled_modules_runs_the_sources(zipapp, tmp_path):
    other = tmp_path / "other.pyz"
    with zipfile.ZipFile(zipapp) as old, zipfile.ZipFile(other, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, b"\0\0\0\0" + data[4:] if name.endswith(".pyc") else data)

    assert "agproxy  " + __version__ in run(*ISOLATED, other, "--version", cwd=tmp_path)


def test_it_answers_from_the_simulated_gemini(zipapp, tmp_path):
    running = start(*ISOLATED, zipapp, home=tmp_path, AGPROXY_SIMULATE="on")
    try:
        assert "Hello" in running.ask("/v1/chat/completions", HELLO).json["choices"][0]["message"]["content"]
        assert running.ask("/ui").body == (ROOT / "agproxy" / "ui" / "monitor.html").read_bytes()
    finally:
        assert end(running) == 0


def test_it_is_ready_in_a_moment_and_small(zipapp, tmp_path):
    """Bars: start to first /healthz under 0.3 s, idle RSS under 40 MB; the time has room for a loaded machine."""
    began = time.monotonic()
    running = start(*ISOLATED, zipapp, home=tmp_path)
    try:
        running.ask("/healthz")
        seconds = time.monotonic() - began
        status = Path(f"/proc/{running.process.pid}/status")
        kilobytes = int(status.read_text().split("VmRSS:")[1].split()[0]) if status.exists() else 0
    finally:
        end(running)

    assert kilobytes < 40 * 1024
    assert seconds < 1.5


# --- TLS towards upstream --------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """A throw-away authority, and a certificate of it for localhost."""
    return make_certificates(tmp_path_factory.mktemp("certificates"), "localhost")


class Gemini(http.server.BaseHTTPRequestHandler):
    """Answers every call with one fixed text; `keys` are those that came."""

    keys: list[str] = []  # noqa: RUF012

    def do_POST(self):
        self.keys.append(self.headers["x-goog-api-key"])
        self.rfile.read(int(self.headers["content-length"]))
        content = {"role": "model", "parts": [{"text": "Over TLS."}]}
        body = json.dumps({"candidates": [{"content": content, "finishReason": "STOP"}]}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def upstream(certificates):
    """Gemini over TLS, with a certificate that only our own authority vouches for."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    Gemini.keys.clear()

    class Quiet(http.server.ThreadingHTTPServer):
        def handle_error(self, request, client_address):
            pass  # a refused handshake is what one of the tests wants

    with Quiet(("127.0.0.1", 0), Gemini) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"https://localhost:{server.server_port}"
        server.shutdown()
        thread.join()


def ask_over_tls(zipapp, home, url, **environ):
    running = start(*ISOLATED, zipapp, home=home, GEMINI_API_KEY="k", AGPROXY_UPSTREAM_URL=url, **environ)
    try:
        return running.ask("/v1/chat/completions", HELLO)
    finally:
        end(running)


def test_an_upstream_that_nobody_vouches_for_is_refused_and_never_sees_the_key(zipapp, tmp_path, upstream):
    answer = ask_over_tls(zipapp, tmp_path, upstream, SSL_CERT_FILE="")

    assert (answer.status, answer.json["error"]["code"]) == (502, "upstream_tls")
    assert "not trusted" in answer.json["error"]["message"]
    assert Gemini.keys == []


@pytest.mark.parametrize("variable", ["AGPROXY_CA_FILE", "SSL_CERT_FILE"])
def test_an_upstream_of_the_configured_authority_is_believed(zipapp, tmp_path, upstream, certificates, variable):
    answer = ask_over_tls(zipapp, tmp_path, upstream, **{variable: str(certificates / "ca.pem")})

    assert answer.json["choices"][0]["message"]["content"] == "Over TLS."
    assert Gemini.keys == ["k"]


# --- copies in other trees -------------------------------------------------------------------------------------

# Run as a program: a gateway on the simulated Gemini answers one request, and everything came from the copy.
PROGRAM = """
import asyncio, importlib, json, sys, urllib.request
sys.path[:0] = sys.argv[2:]
package = importlib.import_module(sys.argv[1])
Config = importlib.import_module(sys.argv[1] + ".config").Config

def ask(url):
    body = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}]}).encode()
    with urllib.request.urlopen(url + "/chat/completions", body) as answer:
        return json.load(answer)["choices"][0]["message"]["content"]

async def main():
    ready = asyncio.get_running_loop().create_future()
    config = Config(host="127.0.0.1", port=0, simulate="on")
    task = asyncio.create_task(package.serve(config, on_ready=ready.set_result))
    print(await asyncio.to_thread(ask, (await ready).urls[0]))
    task.cancel()
    await asyncio.wait({task})

asyncio.run(main())
print(*sorted({name.split("agproxy")[0] + "agproxy" for name in sys.modules if "agproxy" in name}))
print(sys.modules["h11"].__file__, sys.modules["certifi"].__file__)
"""


def copy_to(folder, *packages):
    for package in packages:
        source = {
            "agproxy": ROOT / "agproxy",
            "h11": Path(h11.__file__).parent,
            "certifi": Path(certifi.__file__).parent,
        }
        shutil.copytree(source[package], folder / package, ignore=shutil.ignore_patterns("__pycache__"))


def test_a_folder_with_the_three_packages_on_the_path_is_enough(tmp_path):
    vendor = tmp_path / "vendor"
    copy_to(vendor, "agproxy", "h11", "certifi")
    text, names, files = run(*ISOLATED, "-c", PROGRAM, "agproxy", vendor, cwd=tmp_path).splitlines()

    assert "Hello" in text
    assert names == "agproxy"
    assert files.split() == [str(vendor / "h11" / "__init__.py"), str(vendor / "certifi" / "__init__.py")]


def test_it_works_as_a_package_within_another_under_that_name_only(tmp_path):
    """h11 and certifi import themselves by their own names, so their folder has to be on the path."""
    vendor = tmp_path / "thing" / "_vendor"
    copy_to(vendor, "agproxy", "h11", "certifi")
    text, names, files = run(
        *ISOLATED, "-c", PROGRAM, "thing._vendor.agproxy", tmp_path, tmp_path / "thing" / "_vendor", cwd=tmp_path
    ).splitlines()

    assert "Hello" in text
    assert names == "thing._vendor.agproxy"
    assert files.split() == [str(vendor / "h11" / "__init__.py"), str(vendor / "certifi" / "__init__.py")]


def test_no_module_imports_the_package_by_its_own_name():
    """A copy under another name would then run half of somebody else's."""
    for file in (ROOT / "agproxy").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            assert not any(name.partition(".")[0] == "agproxy" for name in names), file


def test_the_command_line_of_a_copy_is_its_own(tmp_path):
    copy_to(tmp_path / "thing", "agproxy")
    printed = run(sys.executable, "-m", "thing.agproxy", "--version", cwd=tmp_path)

    assert printed.splitlines()[0].endswith(str(tmp_path / "thing" / "agproxy"))
