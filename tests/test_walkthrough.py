"""What README promises a new user, each command against a real process on the simulated Gemini."""

import http.client
import json
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from running import ROOT, clean_environment, start

from agproxy import __version__


def frames(body: bytes) -> list:
    events = [block.removeprefix("data: ") for block in body.decode().split("\n\n") if block.startswith("data: ")]
    return [event if event == "[DONE]" else json.loads(event) for event in events]


def test_health_answers_with_the_version(gateway):
    assert gateway.ask("/healthz").json == {"status": "ok", "version": __version__}
    assert gateway.ask("/readyz").status == 200


def test_models_are_listed_as_openai_lists_them(gateway):
    listing = gateway.ask("/v1/models").json

    assert listing["object"] == "list"
    names = [model["id"] for model in listing["data"]]
    assert {"gpt-4o", "o3", "claude-sonnet-4-5", "gemini-2.5-flash"} <= set(names)
    assert len(set(names)) == len(names)
    assert gateway.ask("/v1/models/gpt-4o").json["object"] == "model"
    assert gateway.ask("/v1/models/nope").json["error"]["code"] == "model_not_found"


def test_a_unary_chat_answers_the_user(gateway):
    answer = gateway.chat("Grüße aus Köln 🎉")

    assert answer.headers["content-type"] == "application/json"
    assert answer.json["object"] == "chat.completion"
    assert "Grüße aus Köln 🎉" in answer.json["choices"][0]["message"]["content"]
    usage = answer.json["usage"]
    assert usage["prompt_tokens"] + usage["completion_tokens"] == usage["total_tokens"] > 0


def test_a_streamed_chat_ends_with_done(gateway):
    answer = gateway.chat("Hello [[sim:words=4]]", stream=True)

    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    *chunks, done = frames(answer.body)
    assert done == "[DONE]"
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    assert text == "w1 w2 w3 w4"
    assert [c["choices"][0]["finish_reason"] for c in chunks if c["choices"][0]["finish_reason"]] == ["stop"]
    assert all("usage" not in chunk for chunk in chunks)


def test_a_response_answers_the_input_under_the_instructions(gateway):
    body = {"model": "gpt-4o", "instructions": "Answer like a pirate", "input": "Where is the treasure?"}
    answer = gateway.ask("/v1/responses", body).json

    assert answer["object"] == "response"
    assert answer["status"] == "completed"
    text = next(item for item in answer["output"] if item["type"] == "message")["content"][0]["text"]
    assert "Where is the treasure?" in text
    assert "Answer like a pirate" in text


def test_a_completion_completes_the_prompt(gateway):
    answer = gateway.ask("/v1/completions", {"model": "gpt-4o", "prompt": "Once upon a time"}).json

    assert answer["object"] == "text_completion"
    assert "Once upon a time" in answer["choices"][0]["text"]


def test_headers_tell_what_served_the_request(gateway):
    answer = gateway.chat("Hello")

    assert answer.headers["X-Mapped-Model"] == "gemini-2.5-flash"
    assert answer.headers["X-Account-Id"].startswith("key-")
    assert "test-key" not in str(answer.headers)
    assert answer.headers["x-request-id"].startswith("req_")
    assert int(answer.headers["openai-processing-ms"]) >= 0
    assert answer.headers["openai-model"] is None
    assert answer.headers["X-Account-Email"] is None


def test_ignored_fields_are_named_in_a_header(gateway):
    answer = gateway.chat("Hello", logit_bias={"50256": -100}, no_such_field=1)

    assert answer.status == 200
    assert "logit_bias" in answer.headers["X-AGProxy-Warnings"]
    assert "no_such_field" in answer.headers["X-AGProxy-Warnings"]


@pytest.mark.parametrize("path", ["/chat/completions", "/v1/v1/chat/completions", "/v1/chat/completions/"])
def test_odd_paths_are_served_as_what_they_mean(gateway, path):
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}]}

    assert gateway.ask(path, body).json["object"] == "chat.completion"


def test_the_stacked_path_is_read_by_its_body(gateway):
    path = "/v1/chat/completions/responses"

    assert gateway.ask(path, {"model": "gpt-4o", "input": "Hello"}).json["object"] == "response"
    messages = [{"role": "user", "content": "Hello"}]
    assert gateway.ask(path, {"model": "gpt-4o", "messages": messages}).json["object"] == "chat.completion"


def test_a_body_needs_no_content_type(gateway):
    host = urlsplit(gateway.url)
    client = http.client.HTTPConnection(host.hostname, host.port, timeout=20)
    body = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}]})
    client.request("POST", "/v1/chat/completions", body)
    with client.getresponse() as answer:
        assert answer.status == 200
        answer.read()
    client.close()


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{broken", None),
        (b"", None),
        (b"[1]", None),
        (b'{"model":"gpt-4o"}', "messages"),
        (b'{"model":"gpt-4o","messages":[]}', "messages"),
        (b'{"model":"gpt-4o","messages":[{"role":"robot","content":"x"}]}', "messages[0].role"),
        (b'{"model":"gpt-4o","messages":[{"role":"user","content":{}}]}', "messages[0].content"),
        (b'{"model":"gpt-4o","messages":[{"role":"user","content":"x"}],"temperature":9}', "temperature"),
    ],
)
def test_a_broken_body_is_a_400_that_names_the_place(gateway, body, param):
    answer = gateway.ask("/v1/chat/completions", body)

    assert answer.status == 400
    assert answer.json["error"]["type"] == "invalid_request_error"
    assert answer.json["error"]["param"] == param
    assert set(answer.json["error"]) == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"].startswith("req_")


def test_an_unknown_model_and_an_unknown_route_are_404(gateway):
    unknown = gateway.ask("/v1/chat/completions", {"model": "zebra-9", "messages": [{"role": "user", "content": "x"}]})
    assert (unknown.status, unknown.json["error"]["code"]) == (404, "model_not_found")
    lost = gateway.ask("/v1/chat/completion", {})
    assert lost.status == 404
    assert "/v1/chat/completions" in lost.json["error"]["message"]
    wrong = gateway.ask("/v1/completions")
    assert (wrong.status, wrong.headers["allow"]) == (405, "OPTIONS, POST")


def test_the_embedded_simulator_serves_when_no_account_is_there_and_says_so(tmp_path):
    running = start("serve", "--simulate", "auto", home=tmp_path)
    try:
        assert any("SIMULATED" in line for line in running.lines)
        assert "Hello" in running.chat("Hello").json["choices"][0]["message"]["content"]
    finally:
        assert running.stop() == 0


def test_without_an_account_the_gateway_starts_and_says_what_to_do(tmp_path):
    running = start("serve", home=tmp_path)
    try:
        answer = running.chat("Hello")
        assert answer.status == 503
        assert "GEMINI_API_KEY" in answer.json["error"]["message"]
        assert running.ask("/readyz").status == 503
        assert running.ask("/healthz").status == 200
    finally:
        assert running.stop() == 0


@pytest.mark.parametrize(
    ("flags", "environ", "message"),
    [
        (["--auth-mode", "sometimes"], {}, "--auth-mode"),
        ([], {"AGPROXY_MAX_ATTEMPTS": "many"}, "AGPROXY_MAX_ATTEMPTS"),
    ],
)
def test_a_bad_setting_is_one_line_that_names_it(tmp_path, flags, environ, message):
    done = subprocess.run(
        [sys.executable, "-m", "agproxy", "serve", *flags],
        env=clean_environment(tmp_path, environ),
        capture_output=True,
        text=True,
        timeout=20,
        cwd=ROOT,
    )

    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_an_unknown_variable_is_a_warning_and_an_unknown_key_an_error(tmp_path):
    running = start("serve", home=tmp_path, AGPROXY_AUTHMODE="strict")
    running.stop()
    assert any("AGPROXY_AUTHMODE" in line and "AGPROXY_AUTH_MODE" in line for line in running.lines)

    (tmp_path / "config.json").write_text('{"proxy": {"auth_mod": "strict"}}')
    with pytest.raises(AssertionError, match=r"did you mean proxy\.auth_mode"):
        start("serve", home=tmp_path)


def test_it_is_ready_in_a_moment_and_small(tmp_path):
    """Bars: start to first /healthz under 0.3 s, idle RSS under 40 MB; the time has room for a loaded machine."""
    began = time.monotonic()
    running = start("serve", home=tmp_path)
    running.ask("/healthz")
    seconds = time.monotonic() - began
    try:
        status = Path(f"/proc/{running.process.pid}/status").read_text()
    except FileNotFoundError:
        pytest.skip("no /proc here")
    finally:
        running.stop()
    kilobytes = int(status.split("VmRSS:")[1].split()[0])
    assert kilobytes < 40 * 1024
    assert seconds < 1.5
