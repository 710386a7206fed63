"""What a web page can and cannot do with a local gateway: a browser's own request shapes against a real process."""

import http.client
import json
from urllib.parse import urlsplit

import pytest
from running import start

BODY = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}]})
PATH = "/v1/chat/completions"
# What Chrome sends before a cross-origin POST of the openai SDK for JavaScript.
PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type,x-stainless-lang,x-stainless-timeout",
}


def ask(url, method, path, body=None, **headers):
    """A request whose Host and Origin are the test's to choose."""
    place = urlsplit(url)
    client = http.client.HTTPConnection(place.hostname, place.port, timeout=20)
    client.putrequest(method, path, skip_host=True)
    given = {"Host": place.netloc} | {name.replace("_", "-"): value for name, value in headers.items()}
    if body is not None:
        given["Content-Length"] = str(len(body))
    for name, value in given.items():
        client.putheader(name, value)
    client.endheaders(body.encode() if body is not None else None)
    with client.getresponse() as answer:
        answer.body = answer.read()
    client.close()
    return answer


@pytest.mark.parametrize("origin", ["http://localhost:3000", "https://127.0.0.1", "http://[::1]:8080"])
def test_a_page_of_this_machine_may_ask_and_read(gateway, origin):
    asked = ask(gateway.url, "OPTIONS", PATH, Origin=origin, **PREFLIGHT)
    assert asked.status == 204
    assert asked.headers["access-control-allow-origin"] == origin
    assert asked.headers["access-control-allow-headers"] == PREFLIGHT["Access-Control-Request-Headers"]
    assert "POST" in asked.headers["access-control-allow-methods"]
    assert asked.headers["access-control-allow-credentials"] is None

    answer = ask(gateway.url, "POST", PATH, BODY, Origin=origin)
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == origin
    assert "x-request-id" in answer.headers["access-control-expose-headers"]


def test_streams_and_errors_carry_cors_headers_too(gateway):
    stream = json.dumps(json.loads(BODY) | {"stream": True})
    for body in (stream, "{broken", json.dumps({"model": "zebra", "messages": [{"role": "user", "content": "x"}]})):
        answer = ask(gateway.url, "POST", PATH, body, Origin="http://localhost:3000")
        assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"


def test_what_the_server_refuses_by_itself_can_be_read_by_the_page_too(gateway):
    answer = ask(gateway.url, "POST", PATH, BODY, Origin="http://localhost:3000", Content_Encoding="br")

    assert answer.status == 415
    assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "http://localhost.evil.example", "http://127.0.0.1.evil.example", "file://", "x"],
)
def test_a_foreign_page_is_refused_before_anything_happens(gateway, origin):
    preflight = ask(gateway.url, "OPTIONS", PATH, Origin=origin, **PREFLIGHT)
    assert preflight.status == 403
    assert preflight.headers["access-control-allow-origin"] is None

    answer = ask(gateway.url, "POST", PATH, BODY, Origin=origin, Content_Type="text/plain")
    assert answer.status == 403
    assert json.loads(answer.body)["error"]["code"] == "origin_not_allowed"
    assert answer.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8045", 200),
        ("agproxy.localhost", 200),
        ("127.0.0.1", 200),
        ("[::1]:8045", 200),
        ("192.168.1.7:8045", 200),
        ("rebind.evil.example", 403),
        ("localhost.evil.example:8045", 403),
        ("127.0.0.1.evil.example", 403),
        ("127.evil.example", 403),
    ],
)
def test_a_name_that_only_foreign_dns_can_have_led_here_is_refused(gateway, host, status):
    assert ask(gateway.url, "GET", "/v1/models", Host=host).status == status


def test_named_hosts_and_origins_are_let_in(simulator, tmp_path):
    running = start(
        "serve",
        "--allowed-hosts",
        "gateway.lan,*.home.arpa",
        "--allowed-origins",
        "vscode-webview://*,null",
        home=tmp_path,
        GEMINI_API_KEY="k",
        AGPROXY_UPSTREAM_URL=simulator.url,
    )
    try:
        assert ask(running.url, "GET", "/v1/models", Host="gateway.lan:8045").status == 200
        assert ask(running.url, "GET", "/v1/models", Host="box.home.arpa").status == 200
        assert ask(running.url, "GET", "/v1/models", Host="other.lan").status == 403
        assert ask(running.url, "POST", PATH, BODY, Origin="vscode-webview://abc123").status == 200
        assert ask(running.url, "POST", PATH, BODY, Origin="null").status == 200
        assert ask(running.url, "POST", PATH, BODY, Origin="https://evil.example").status == 403
    finally:
        running.stop()


def test_with_a_client_key_any_page_may_ask_if_it_brings_the_key(simulator, tmp_path):
    running = start(
        "serve",
        "--auth-mode",
        "strict",
        home=tmp_path,
        AGPROXY_API_KEY="sk-page",
        GEMINI_API_KEY="k",
        AGPROXY_UPSTREAM_URL=simulator.url,
    )
    page = "https://app.example"
    try:
        preflight = ask(running.url, "OPTIONS", PATH, Origin=page, **PREFLIGHT)
        assert (preflight.status, preflight.headers["access-control-allow-origin"]) == (204, page)
        with_key = ask(running.url, "POST", PATH, BODY, Origin=page, Authorization="Bearer sk-page", Host="any.example")
        assert with_key.status == 200
        assert ask(running.url, "POST", PATH, BODY, Origin=page).status == 401
        assert ask(running.url, "POST", PATH, BODY, Origin=page, Authorization="Bearer no").status == 401
    finally:
        running.stop()


def test_options_without_an_origin_says_what_a_path_allows(gateway):
    answer = ask(gateway.url, "OPTIONS", "/v1/completions")

    assert (answer.status, answer.headers["allow"]) == (204, "OPTIONS, POST")


def test_a_websocket_upgrade_is_answered_426(gateway):
    answer = ask(
        gateway.url,
        "GET",
        "/v1/responses",
        Connection="Upgrade",
        Upgrade="websocket",
        Sec_WebSocket_Version="13",
        Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==",
    )

    assert answer.status == 426
    assert json.loads(answer.body)["error"]["message"]
