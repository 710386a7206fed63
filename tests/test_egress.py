"""The process connects to the hosts of its configuration and to no others, also when that changes while it runs."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import time

import hostile_upstream
import pytest
from running import ROOT, clean_environment, start

from agproxy import embed
from agproxy.account import Account, Endpoint
from agproxy.config import Config
from agproxy.credentials import Command, Metadata, OAuthUser, ServiceAccount
from agproxy.egress import places
from agproxy.errors import GatewayError
from agproxy.http11 import Call
from agproxy.io.tokens import ask_metadata

GOOGLE = "generativelanguage.googleapis.com:443"
TOKENS = "oauth2.googleapis.com:443"
USER = OAuthUser(client_id="c", client_secret="s", refresh_token="r")
ROBOT = ServiceAccount(client_email="a@b", private_key="k", token_url="https://tokens.example:444/t")


# --- the list --------------------------------------------------------------------------------------------------


def listed(*accounts, environ=None, **settings):
    """host:port -> the proxy that it is reached by."""
    return {place.name: place.through for place in places(Config(**settings), accounts, environ or {})}


def account(**traits):
    return Account(id="a", **traits)


@pytest.mark.parametrize(
    ("accounts", "expected"),
    [
        ([], {GOOGLE}),
        ([account(key="k")], {GOOGLE}),
        ([account(key="k", endpoint=Endpoint(base_url="https://Own.Example/x"))], {GOOGLE, "own.example:443"}),
        ([account(key="k", endpoint=Endpoint(kind="vertex"))], {GOOGLE, "aiplatform.googleapis.com:443"}),
        (
            [account(credential=USER, endpoint=Endpoint(kind="vertex", project="p", location="europe-west4"))],
            {GOOGLE, TOKENS, "europe-west4-aiplatform.googleapis.com:443"},
        ),
        (
            [account(credential=ROBOT, endpoint=Endpoint(kind="vertex", project="p", location="eu"))],
            {GOOGLE, "tokens.example:444", "aiplatform.eu.rep.googleapis.com:443"},
        ),
        (
            [account(credential=Command(argv=("gcloud",)), endpoint=Endpoint(kind="code_assist"))],
            {GOOGLE, "cloudcode-pa.googleapis.com:443"},
        ),
        ([account(credential=Metadata())], {GOOGLE, "metadata.google.internal:80"}),
        ([account(credential=Metadata(host="127.0.0.1:99"))], {GOOGLE, "127.0.0.1:99"}),
        ([account(credential=Metadata(host="127.0.0.1:no-port"))], {GOOGLE}),
        ([account(key="k", endpoint=Endpoint(base_url="https://[::1]:7"))], {GOOGLE, "[::1]:7"}),
        ([account(key="k", endpoint=Endpoint(base_url="https://host:70000"))], {GOOGLE}),
    ],
)
def test_the_list_has_each_host_that_accounts_and_settings_name(accounts, expected):
    assert set(listed(*accounts)) == expected


def test_the_list_tells_who_needs_a_host():
    found = places(Config(), [account(credential=USER, label="work")], {})

    assert {place.name: place.why for place in found} == {
        GOOGLE: ("upstream_url", "account a (work)"),
        TOKENS: ("account a (work): its tokens",),
    }


def test_a_metadata_server_of_the_environment_is_listed():
    assert "meta.example:80" in listed(account(credential=Metadata()), environ={"GCE_METADATA_HOST": "meta.example"})


def test_proxies_are_listed_with_those_who_are_reached_by_them_and_without_their_passwords():
    own = account(key="k", endpoint=Endpoint(base_url="https://own.example"), proxy="socks5://me:s3cret@socks.example")
    found = listed(own, upstream_proxy="http://me:s3cret@proxy.example:3128")

    assert found == {
        GOOGLE: "http://proxy.example:3128",
        "proxy.example:3128": "",
        "own.example:443": "socks5://socks.example:1080",
        "socks.example:1080": "",
    }
    assert "s3cret" not in repr(places(Config(), [own], {}))


def test_what_no_proxy_names_is_reached_without_one():
    environ = {"HTTPS_PROXY": "http://proxy.example:3128", "NO_PROXY": "googleapis.com"}

    assert listed(account(key="k"), environ=environ) == {GOOGLE: ""}


# --- the command -----------------------------------------------------------------------------------------------


def command(home, *words, **environ):
    done = subprocess.run(
        [sys.executable, "-m", "agproxy", "config", "--egress", *words],
        env=clean_environment(home, environ),
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def write_accounts(home, *rows):
    (home / "accounts.json").write_text(json.dumps({"version": 1, "accounts": list(rows)}))
    (home / "accounts.json").chmod(0o600)


def key_row(key="good-1", **more):
    return {"kind": "gemini_api_key", "secret": {"api_key": key}, **more}


def test_the_command_prints_the_list_with_reasons(tmp_path):
    write_accounts(
        tmp_path,
        key_row(label="work", upstream={"kind": "vertex", "location": "europe-west4"}),
        key_row("good-2", enabled=False, upstream={"base_url": "https://never.example"}),
        {"id": "cmd", "kind": "command", "secret": {"command": "gcloud auth print-access-token --x s3cret"}},
    )
    printed = command(tmp_path, HTTPS_PROXY="http://me:s3cret@proxy.example:3128")
    lines = {line.split()[0]: line for line in printed.splitlines() if line}

    assert "http://proxy.example:3128" in lines[GOOGLE]
    assert "upstream_url" in lines[GOOGLE]
    assert "(work)" in lines["europe-west4-aiplatform.googleapis.com:443"]
    assert "proxy of upstream_url" in lines["proxy.example:3128"]
    assert "any public host" in lines["fetch_media"]
    assert "gcloud for the tokens of account cmd" in lines["runs"]
    assert "never.example" not in printed
    assert "s3cret" not in printed


def test_the_command_s_json_has_the_same(tmp_path):
    write_accounts(tmp_path, {"id": "cmd", "kind": "command", "secret": {"command": ["gcloud"]}})
    found = json.loads(command(tmp_path, "--json", "--fetch-media", "refuse"))

    assert found["hosts"] == [
        {"host": GOOGLE[:-4], "port": 443, "through": None, "why": ["upstream_url", "account cmd"]},
    ]
    assert found["fetch_media"]["mode"] == "refuse"
    assert found["runs"] == [{"account": "cmd", "program": "gcloud"}]


@pytest.mark.parametrize(("mode", "key", "is_simulated"), [("on", "k", True), ("auto", "", True), ("auto", "k", False)])
def test_a_simulated_gemini_is_the_only_host_where_it_answers(tmp_path, mode, key, is_simulated):
    found = json.loads(command(tmp_path, "--json", "--simulate", mode, GEMINI_API_KEY=key))

    assert [(one["host"], one["port"]) for one in found["hosts"]] == [
        ("127.0.0.1", None) if is_simulated else (GOOGLE[:-4], 443)
    ]


def test_accounts_that_cannot_be_read_are_not_simulated(tmp_path):
    (tmp_path / "accounts.json").write_text("{]")
    found = json.loads(command(tmp_path, "--json", "--simulate", "auto"))

    assert [one["host"] for one in found["hosts"]] == [GOOGLE[:-4]]


# --- the lock --------------------------------------------------------------------------------------------------


class Trap:
    """Listens, and counts who connects."""

    def __enter__(self):
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    def __exit__(self, *_):
        self._socket.close()

    @property
    def was_reached(self):
        """Whether somebody has connected, so far."""
        self._socket.setblocking(False)
        try:
            self._socket.accept()[0].close()
        except BlockingIOError:
            return False
        return True


@pytest.fixture
def trap():
    with Trap() as one:
        yield one


def test_a_trap_notices_who_connects(trap):
    assert not trap.was_reached
    socket.create_connection(("127.0.0.1", trap.port)).close()
    assert trap.was_reached


def running_in_here(use, *accounts, **settings):
    """Run `use` with a gateway in this process."""
    config = Config(host="127.0.0.1", port=0, state=False, **settings)

    async def main():
        async with embed.listening(config, accounts) as running:
            await use(running)

    asyncio.run(main())


def get(url, proxy=""):
    return Call(method="GET", url=url, body=b"", headers=(), proxy=proxy)


def test_a_call_to_another_host_is_refused_before_a_socket_is_made_and_the_host_is_named(trap, caplog):
    async def use(running):
        with pytest.raises(GatewayError, match=f"127.0.0.1:{trap.port} is no host of agproxy's configuration") as told:
            await running.reach.send(get(f"{trap.url}/x?key=s3cret"))
        assert (told.value.status, told.value.code) == (502, "egress_refused")

    running_in_here(use, account(key="k"))
    assert not trap.was_reached
    assert f"127.0.0.1:{trap.port} is no host of this configuration" in caplog.text
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_a_proxy_that_no_account_has_is_not_connected_to(trap, scheme):
    async def use(running):
        with pytest.raises(GatewayError, match=f"127.0.0.1:{trap.port} is no host"):
            await running.reach.send(get("http://gemini.invalid/", proxy=f"{scheme}://127.0.0.1:{trap.port}"))

    running_in_here(use, account(key="k"), upstream_url="http://gemini.invalid", allow_plain_http=True)
    assert not trap.was_reached


def test_another_metadata_server_is_not_asked(trap):
    async def use(running):
        with pytest.raises(GatewayError, match=f"127.0.0.1:{trap.port} is no host"):
            await ask_metadata(Metadata(host=f"127.0.0.1:{trap.port}"), running.reach.egress)

    running_in_here(use, account(credential=Metadata(host="127.0.0.1:1")))
    assert not trap.was_reached


def test_hosts_come_and_go_with_the_accounts(trap):
    own = account(key="k", endpoint=Endpoint(base_url=trap.url))

    async def is_refused(running):
        try:
            async with asyncio.timeout(0.05):
                await running.reach.send(get(trap.url))
        except TimeoutError:  # it listens and says nothing
            return False
        except GatewayError as error:
            return error.code == "egress_refused"

    async def use(running):
        assert await is_refused(running)
        running.use([own])
        assert not await is_refused(running)
        running.use([account(key="k")])
        assert await is_refused(running)
        running.apply(Config(host="127.0.0.1", port=0, state=False, max_attempts=7))
        assert await is_refused(running)

    running_in_here(use, account(key="k"))


def test_with_a_simulated_gemini_the_real_one_is_no_host(trap):
    async def use(running):
        with pytest.raises(GatewayError, match="is no host"):
            await running.reach.send(get(trap.url))
        assert (await running.reach.send(get(running.reach.base_url + "/models"))).status == 403, "it wants a key"

    running_in_here(use, upstream_url=trap.url, simulate="on")
    assert not trap.was_reached


# --- a real process --------------------------------------------------------------------------------------------


def test_a_redirect_of_upstream_s_leads_nowhere(tmp_path, trap):
    with hostile_upstream.serving("fine", "token") as upstream:
        upstream.elsewhere = trap.url
        environ = {"GEMINI_API_KEY": "k", "AGPROXY_UPSTREAM_URL": upstream.url, "AGPROXY_MAX_ATTEMPTS": "1"}
        running = start("serve", home=tmp_path, **environ)
        try:
            answer = running.chat("do:redirect", model="gemini-2.5-flash")
        finally:
            running.stop()

    assert (answer.status, "redirect" in answer.json["error"]["message"]) == (502, True)
    assert not trap.was_reached


# Says that it has begun, waits until it may end, and prints a token.
SLOW = "import sys; open(sys.argv[1], 'w').close(); open(sys.argv[2]).read(); print('token')"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are Unix's")
@pytest.mark.parametrize("what", ["host", "proxy"])
def test_what_an_account_no_longer_names_is_not_reached_by_a_request_that_was_under_way(tmp_path, trap, what):
    """The account is edited while a request waits for its token: the call that follows would go to the old place."""
    begun, may_end = tmp_path / "begun", tmp_path / "may_end"
    for pipe in (begun, may_end):
        os.mkfifo(pipe)

    def row(**more):
        secret = {"command": [sys.executable, "-c", SLOW, str(begun), str(may_end)]}
        return {"id": "slow", "kind": "command", "label": "slow", "secret": secret | more.pop("secret", {}), **more}

    if what == "host":
        old, new = row(upstream={"base_url": trap.url}), row(upstream={"base_url": "http://127.0.0.1:1"})
    else:
        upstream = {"base_url": "http://gemini.invalid"}
        old = row(upstream=upstream, secret={"proxy": f"http://127.0.0.1:{trap.port}"})
        new = row(upstream=upstream, secret={"proxy": "http://127.0.0.1:1"})
    write_accounts(tmp_path, old)
    running = start(
        "serve",
        home=tmp_path,
        AGPROXY_RELOAD_SECONDS="0.02",
        AGPROXY_ALLOW_PLAIN_HTTP="on",
        AGPROXY_MAX_ATTEMPTS="1",
    )
    answers = []
    asking = threading.Thread(target=lambda: answers.append(running.chat("hi", model="gemini-2.5-flash")))
    try:
        asking.start()
        begun.read_text()
        write_accounts(tmp_path, new)
        deadline = time.monotonic() + 20
        while not any("1 accounts in use" in line for line in running.lines):
            assert time.monotonic() < deadline, running.lines
            assert running.ask("/healthz").status == 200
        may_end.write_text("")
        asking.join(20)
    finally:
        running.stop()

    assert answers[0].status == 502
    assert f"127.0.0.1:{trap.port} is no host of agproxy's configuration" in answers[0].json["error"]["message"]
    assert not trap.was_reached
    assert any("agproxy.egress" in line for line in running.lines)
