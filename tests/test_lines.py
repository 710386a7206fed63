"""An account's own proxy carries its calls and no others."""

import asyncio
import copy

import pytest

from agproxy.account import Account, Endpoint
from agproxy.backends import Target, gemini
from agproxy.backends.gemini.upstreams import fit
from agproxy.config import Config
from agproxy.errors import UpstreamFailed
from agproxy.http11 import Call
from agproxy.io.egress import Egress, Place
from agproxy.io.lines import Lines
from agproxy.targets import target_of

HOSTS = [
    Place(host=host, port=port, why=()) for host, port in (("upstream.invalid", 80), ("127.0.0.1", 1), ("127.0.0.1", 2))
]
PLAIN = Config(allow_plain_http=True, connect_timeout_seconds=5.0)


def call(proxy=""):
    return Call(method="GET", url="http://upstream.invalid/x", body=b"", headers=(), proxy=proxy)


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


def fault(*calls, config=PLAIN):
    async def main():
        lines = Lines(config, Egress(HOSTS))
        faults = []
        try:
            for one in calls:
                with pytest.raises(UpstreamFailed) as caught:
                    await lines.send(one)
                faults.append(caught.value.message)
        finally:
            await lines.close()
        return faults

    return asyncio.run(main())


def test_a_call_that_names_a_proxy_goes_through_it_and_the_others_do_not():
    first, second, third = fault(call("http://me:s3cret@127.0.0.1:1"), call("socks5://127.0.0.1:2"), call())

    assert "through http://127.0.0.1:1" in first
    assert "through socks5://127.0.0.1:2" in second
    assert "through" not in third
    assert "s3cret" not in first


def test_settings_that_change_reach_the_lines_through_proxies_too():
    async def main():
        lines = Lines(PLAIN, Egress(HOSTS))
        with pytest.raises(UpstreamFailed):
            await lines.send(call("http://127.0.0.1:1"))
        lines.config = Config(allow_plain_http=False)
        with pytest.raises(UpstreamFailed, match="not called over plain http"):
            await lines.send(call("http://127.0.0.1:1"))
        await lines.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        (Endpoint(), "https://up.example/v1beta/models/m:generateContent"),
        (Endpoint(base_url="https://own.example/x/"), "https://own.example/x/v1beta/models/m:generateContent"),
        (Endpoint(base_url="https://own.example", version="v1"), "https://own.example/v1/models/m:generateContent"),
        (
            Endpoint(kind="vertex"),
            "https://aiplatform.googleapis.com/v1beta1/publishers/google/models/m:generateContent",
        ),
        (
            Endpoint(kind="vertex", project="p"),
            "https://aiplatform.googleapis.com/v1beta1/projects/p/locations/global/publishers/google/models/m"
            ":generateContent",
        ),
        (
            Endpoint(kind="vertex", project="p", location="eu"),
            "https://aiplatform.eu.rep.googleapis.com/v1beta1/projects/p/locations/eu/publishers/google/models/m"
            ":generateContent",
        ),
        (
            Endpoint(kind="vertex", project="p", location="us-central1", version="v1"),
            "https://us-central1-aiplatform.googleapis.com/v1/projects/p/locations/us-central1/publishers/google/models"
            "/m:generateContent",
        ),
        (Endpoint(kind="code_assist"), "https://cloudcode-pa.googleapis.com/v1internal:generateContent"),
    ],
)
def test_each_upstream_has_its_address(endpoint, url):
    account = Account(id="a", key="k", endpoint=endpoint, proxy="http://proxy:1")
    target = target_of(account, "k", "https://up.example/v1beta")
    encoded = gemini.Encoded(body={"contents": []}, names=None, declared=frozenset(), only_first_call=False, notices=())
    made = gemini.call(encoded, "m", target, is_stream=False)

    assert made.url == url
    assert made.proxy == "http://proxy:1"
    assert dict(made.headers)["x-goog-api-key"] == "k"


def test_what_other_upstreams_do_not_know_is_left_out_and_the_body_stays_as_it_was():
    body = {"contents": [], "serviceTier": "flex", "toolConfig": {"includeServerSideToolInvocations": True}}
    before = copy.deepcopy(body)
    for kind in ("vertex", "code_assist"):
        fitted, notices = fit(Target(base_url="u", key="k", user_agent="a", kind=kind), body)
        assert fitted == {"contents": []}
        assert len(notices) == 1
    more = {"toolConfig": {"includeServerSideToolInvocations": True, "functionCallingConfig": {"mode": "ANY"}}}
    assert fit(Target(base_url="u", key="k", user_agent="a", kind="vertex"), more)[0] == {
        "toolConfig": {"functionCallingConfig": {"mode": "ANY"}}
    }
    assert body == before
    assert fit(Target(base_url="u", key="k", user_agent="a"), body) == (body, ())
