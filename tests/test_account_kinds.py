"""Each kind of account in a real process, against the simulated Gemini and a token endpoint of the test's own."""

import json
import sys
import time

import pytest
from running import start
from token_endpoint import INVALID_GRANT, serving, token


@pytest.fixture
def serve(simulator, tmp_path):
    started = []

    def make(*rows, **environ):
        (tmp_path / "accounts.json").write_text(json.dumps({"version": 1, "accounts": list(rows)}))
        (tmp_path / "accounts.json").chmod(0o600)
        environ = {"AGPROXY_UPSTREAM_URL": simulator.url, "AGPROXY_RELOAD_SECONDS": "0.02"} | environ
        started.append(start("serve", home=tmp_path, **environ))
        return started[-1]

    yield make
    for running in started:
        running.stop()


def oauth(endpoint, refresh="refresh-1", **more):
    secret = {"client_id": "my-client", "client_secret": "my-secret", "refresh_token": refresh}
    return {"id": "oauth-1", "kind": "oauth_user", "secret": secret | {"token_uri": endpoint.url + "/token"}, **more}


def command(code, **more):
    return {"id": "command-1", "kind": "command", "secret": {"command": [sys.executable, "-c", code]}, **more}


def streamed(running, text="Hello"):
    return running.chat(text, stream=True).body.decode()


def test_an_oauth_user_s_token_is_fetched_once_and_serves_many(serve):
    with serving(token("good-token")) as endpoint:
        running = serve(oauth(endpoint))
        assert {running.chat("Hello").status for _ in range(3)} == {200}

    assert endpoint.forms == [
        {
            "grant_type": "refresh_token",
            "client_id": "my-client",
            "client_secret": "my-secret",
            "refresh_token": "refresh-1",
        }
    ]


def test_a_token_that_upstream_calls_old_is_renewed_once_and_the_request_goes_on(serve):
    with serving(token("expired-token"), token("good-token")) as endpoint:
        running = serve(oauth(endpoint))
        answer = running.chat("Hello")

    assert answer.status == 200
    assert answer.headers["X-AGProxy-Attempts"] == "2; oauth-1=502"
    assert len(endpoint.forms) == 2


def test_a_token_that_stays_bad_is_the_account_s_fault_and_the_next_account_answers(serve):
    with serving(token("expired-token")) as endpoint:
        running = serve(oauth(endpoint), {"kind": "gemini_api_key", "secret": {"api_key": "good-1"}})
        answers = [running.chat("Hello") for _ in range(3)]

    assert {answer.status for answer in answers} == {200}
    assert len(endpoint.forms) == 2, "one renewal, and then the account rests"


def test_a_revoked_credential_is_disabled_on_disk_with_the_reason_and_costs_no_request(serve, tmp_path):
    with serving(INVALID_GRANT) as endpoint:
        running = serve(oauth(endpoint, priority=1), {"kind": "gemini_api_key", "secret": {"api_key": "good-1"}})
        assert running.chat("Hello").status == 200

        deadline = time.monotonic() + 20
        while (row := json.loads((tmp_path / "accounts.json").read_text())["accounts"][0]).get("enabled", True):
            assert time.monotonic() < deadline
            assert running.chat("Hello").status == 200
    assert "invalid_grant" in row["disabled_reason"]
    assert row["secret"]["refresh_token"] == "refresh-1"
    assert len(endpoint.forms) == 1


def test_a_credential_command_s_token_serves_and_is_kept_until_it_ends(serve, tmp_path):
    count = tmp_path / "count"
    code = f"open({str(count)!r}, 'a').write('x'); print('good-token')"
    running = serve(command(code))

    assert {running.chat("Hello").status for _ in range(3)} == {200}
    assert count.read_text() == "x"


def test_a_credential_command_that_fails_shows_its_own_words(serve):
    running = serve(command("import sys; sys.exit('please sign in first')"))
    answer = running.chat("Hello")

    assert (answer.status, answer.json["error"]["code"]) == (502, "upstream_auth")
    assert "please sign in first" in answer.json["error"]["message"]


def test_a_metadata_server_s_token_serves(serve):
    with serving(token("good-token")) as endpoint:
        row = {"id": "gce-1", "kind": "gce_metadata", "secret": {"host": endpoint.place}}
        assert serve(row).chat("Hello").status == 200

    assert endpoint.paths == [("/computeMetadata/v1/instance/service-accounts/default/token", "Google")]


def vertex(simulator, **more):
    return {"kind": "vertex", "base_url": simulator.url, **more}


@pytest.mark.parametrize("place", [{"project": "my-project"}, {"project": "my-project", "location": "europe-west4"}])
def test_vertex_ai_serves_with_a_token_whole_and_streamed(serve, simulator, place):
    running = serve(command("print('good-token')", upstream=vertex(simulator, **place)))

    assert "Hello" in running.chat("Hello").json["choices"][0]["message"]["content"]
    assert streamed(running).endswith("data: [DONE]\n\n")


def test_vertex_ai_in_express_mode_serves_with_a_key(serve, simulator):
    row = {"kind": "gemini_api_key", "secret": {"api_key": "good-1"}, "upstream": vertex(simulator)}

    assert serve(row).chat("Hello").status == 200


def test_what_only_the_gemini_api_has_is_left_out_on_vertex_ai_and_told(serve, simulator):
    running = serve(command("print('good-token')", upstream=vertex(simulator, project="p")))
    answer = running.chat("Hello", service_tier="flex", model="gemini-2.5-flash")

    assert answer.status == 200, answer.body
    assert "service_tier has no effect on this account" in answer.headers["X-AGProxy-Warnings"]


@pytest.mark.parametrize("tools", [[], [{"type": "function", "function": {"name": "look", "parameters": {}}}]])
def test_code_assist_s_envelope_is_put_on_and_taken_off(serve, simulator, tools):
    upstream = {"kind": "code_assist", "base_url": simulator.url, "project": "p"}
    running = serve(command("print('good-token')", upstream=upstream))
    more = {"tools": tools} if tools else {}

    assert "Hello" in running.chat("Hello", **more).json["choices"][0]["message"]["content"]
    body = streamed(running)
    assert '"content":"' in body
    assert body.endswith("data: [DONE]\n\n")


def test_code_assist_takes_a_command_s_token_only(serve, simulator):
    upstream = {"kind": "code_assist", "base_url": simulator.url}
    running = serve(
        {"kind": "gemini_api_key", "secret": {"api_key": "good-1"}, "upstream": upstream}, GEMINI_API_KEY="good-2"
    )

    assert any("code_assist takes the token of a command only" in line for line in running.lines)
    assert running.chat("Hello").status == 200


@pytest.mark.parametrize("word", ["denied", "limited", "overloaded", "invalid", "exhausted"])
def test_other_upstreams_failures_are_classified_as_the_gemini_api_s(serve, simulator, word):
    bad = command(f"print('{word}-token')", priority=1, upstream=vertex(simulator, project="p"))
    running = serve(bad, {"kind": "gemini_api_key", "secret": {"api_key": "good-1"}})
    first, second = running.chat("Hello"), running.chat("Hello")

    assert (first.status, second.status) == (200, 200)
    assert first.headers["X-AGProxy-Attempts"].startswith("3" if word == "invalid" else "2")
    assert second.headers["X-AGProxy-Attempts"] == "1"


def test_an_account_serves_only_the_models_that_its_owner_allows(serve):
    rows = [
        {"kind": "gemini_api_key", "secret": {"api_key": "good-1"}, "models": ["gemini-2.5-pro"], "priority": 1},
        {"kind": "gemini_api_key", "secret": {"api_key": "good-2"}, "models": ["gemini-2.5-flash*"]},
    ]
    running = serve(*rows)
    ids = [running.chat("Hello", model=m).headers["X-Account-Id"] for m in ("gemini-2.5-pro", "gemini-2.5-flash")]
    nobody = running.chat("Hello", model="gemini-2.0-flash")

    assert len(set(ids)) == 2
    assert (nobody.status, nobody.json["error"]["code"]) == (503, "no_account")
    assert "gemini-2.0-flash" in nobody.json["error"]["message"]
