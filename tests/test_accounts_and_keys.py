"""Client keys and upstream accounts, seen from a client of a real process. The simulated Gemini judges a key by its
name: `limited` is always over its limit, `overloaded` always 503, `invalid` never valid."""

import pytest
from running import start

BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture
def serve(simulator, tmp_path):
    started = []

    def make(*flags, **environ):
        environ = {"AGPROXY_UPSTREAM_URL": simulator.url, "GEMINI_API_KEY": "good"} | environ
        started.append(start("serve", *flags, home=tmp_path, **environ))
        return started[-1]

    yield make
    for running in started:
        running.stop()


def ask(running, **headers):
    return running.ask("/v1/chat/completions", BODY, headers={k.replace("_", "-"): v for k, v in headers.items()})


def test_a_strict_gateway_wants_the_key_everywhere(serve):
    running = serve("--auth-mode", "strict", AGPROXY_API_KEY="sk-one,sk-two")

    refused = ask(running)
    assert refused.status == 401
    assert refused.json["error"]["code"] == "invalid_api_key"
    assert refused.headers["www-authenticate"].startswith("Bearer")
    assert running.ask("/healthz").status == 401
    assert running.ask("/v1/models").status == 401
    assert ask(running, Authorization="Bearer wrong").status == 401
    for headers in (
        {"Authorization": "Bearer sk-one"},
        {"Authorization": "bearer sk-two"},
        {"x_api_key": "sk-two"},
        {"x_goog_api_key": "sk-one"},
        {"Authorization": "Bearer ", "x_api_key": "sk-one"},
    ):
        assert ask(running, **headers).status == 200, headers
    assert ask(running, Authorization="Bearer wrong", x_api_key="sk-one").status == 401


def test_lan_access_asks_for_a_key_but_not_for_health(serve):
    running = serve("--host", "127.0.0.1", "--allow-lan-access", AGPROXY_API_KEY="sk-one")

    assert running.ask("/healthz").status == 200
    assert ask(running).status == 401
    assert ask(running, Authorization="Bearer sk-one").status == 200


def test_a_limited_or_broken_account_is_passed_by(serve):
    running = serve(GEMINI_API_KEY="limited-1,overloaded-1,good-1")

    served = {ask(running).headers["X-Account-Id"] for _ in range(4)}
    assert len(served) == 1


def test_healthy_accounts_take_turns(serve):
    running = serve(GEMINI_API_KEY="good-1, good-2 ,good-3,good-1")

    served = [ask(running).headers["X-Account-Id"] for _ in range(6)]
    assert len(set(served)) == 3
    assert served[:3] == served[3:]


def test_google_api_key_counts_where_gemini_api_key_is_absent(serve):
    running = serve(GEMINI_API_KEY="", GOOGLE_API_KEY="good-9")

    assert ask(running).status == 200


def test_upstream_trouble_with_the_key_is_not_the_clients_401(serve):
    running = serve(GEMINI_API_KEY="invalid-key-of-ours")

    answer = ask(running, Authorization="Bearer whatever")
    assert answer.status == 502
    assert answer.json["error"]["code"] == "upstream_auth"
    assert answer.headers["x-should-retry"] == "false"
    assert "invalid-key-of-ours" not in str(answer.headers) + answer.body.decode() + "\n".join(running.lines)


def test_all_accounts_over_a_daily_limit_say_that_it_will_not_pass_soon(serve):
    running = serve(GEMINI_API_KEY="exhausted-1,exhausted-2")

    answer = ask(running)
    assert answer.status == 429
    assert answer.json["error"]["code"] == "insufficient_quota"
    assert answer.headers["x-should-retry"] == "false"


def test_a_map_of_models_from_the_environment_decides(serve):
    running = serve(AGPROXY_MODEL_MAP="gpt-4o=gemini-2.5-pro,my-*=gemini-2.0-flash", AGPROXY_DEFAULT_MODEL="gemini-x")

    def mapped(model):
        return running.ask("/v1/chat/completions", BODY | {"model": model}).headers["X-Mapped-Model"]

    assert mapped("GPT-4o") == "gemini-2.5-pro"
    assert mapped("my-model") == "gemini-2.0-flash"
    assert mapped("zebra-9") == "gemini-x"
    assert mapped("gemini-2.5-flash") == "gemini-2.5-flash"


@pytest.mark.parametrize(
    ("flags", "environ", "advice"),
    [
        (["--auth-mode", "strict"], {}, "AGPROXY_API_KEY"),
        (["--auth-mode", "all_except_health"], {}, "AGPROXY_API_KEY"),
        (["--allow-lan-access"], {}, "AGPROXY_API_KEY"),
        (["--host", "0.0.0.0"], {}, "--allow-lan-access"),
        (["--host", "::"], {"AGPROXY_API_KEY": "sk"}, "--auth-mode strict"),
        (["--upstream-url", "http://gemini.example"], {}, "https"),
        (["--allow-lan-access", "--auth-mode", "off"], {"AGPROXY_API_KEY": "sk"}, "listen on localhost"),
    ],
)
def test_a_door_that_is_open_or_has_no_key_is_refused_at_start(tmp_path, flags, environ, advice):
    with pytest.raises(AssertionError) as caught:
        start("serve", *flags, home=tmp_path, **environ)

    assert advice in str(caught.value)
    assert "Traceback" not in str(caught.value)
