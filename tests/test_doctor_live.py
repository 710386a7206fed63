"""`agproxy doctor --live`: no difference on the simulator, and each deviation of an upstream that deviates."""

import json
import os
import pty
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import test_golden
from running import ROOT, clean_environment

from agproxy.cli.live_cases import cases_of, thinking_settings

KEY = "AIzaSyA-secret-key-1234567890abcdefghijk"


@pytest.fixture
def live(tmp_path, simulator):
    """One run; its JSON by case. The folder of captures is run.folder."""

    def run(*arguments, status=None, **environ):
        environ = {"GEMINI_API_KEY": KEY, "AGPROXY_UPSTREAM_URL": simulator.url} | environ
        folder = tmp_path / f"captures-{len(list(tmp_path.iterdir()))}"
        done = subprocess.run(
            [sys.executable, "-m", "agproxy", "doctor", "--live", "--json", "--output", str(folder), *arguments],
            env=clean_environment(tmp_path / "home", environ),
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
            cwd=ROOT,
        )
        assert KEY not in done.stdout + done.stderr
        run.folder, run.status, run.told = folder, done.returncode, done.stderr
        if done.returncode == 2:
            return None
        outcomes = {one["case"]: one for one in json.loads(done.stdout)}
        clean = not any(one["differences"] or one["problem"] for one in outcomes.values())
        assert done.returncode == (0 if clean else 1), done.stderr
        return outcomes

    return run


class Bent:
    """The simulator behind a server that changes its answers: bend(path, status, chunk) gives the chunk to send."""

    def __init__(self, simulator, bend=lambda path, status, chunk: chunk, *, refuse=None, frame=None):
        self.asked = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(handler):
                body = handler.rfile.read(int(handler.headers["content-length"]))
                self.asked.append((handler.path, json.loads(body)))
                if refuse is not None and (answer := refuse(len(self.asked), handler.path)) is not None:
                    handler.answer(answer[0], "application/json", json.dumps(answer[1]).encode())
                    return
                headers = {"content-type": "application/json", "x-goog-api-key": handler.headers["x-goog-api-key"]}
                request = urllib.request.Request(simulator.url + handler.path, body, headers)
                try:
                    reply = urllib.request.urlopen(request, timeout=30)
                except urllib.error.HTTPError as error:
                    reply = error
                with reply:
                    status, kind, data = reply.status, reply.headers["content-type"], reply.read()
                if kind.startswith("text/event-stream"):
                    chunks = [json.loads(line[5:]) for line in data.split(b"\r\n") if line.startswith(b"data:")]
                    sent = [bend(handler.path, status, chunk) for chunk in chunks]
                    if frame is not None:
                        data = frame(sent)
                    else:
                        data = b"".join(b"data: " + json.dumps(chunk).encode() + b"\r\n\r\n" for chunk in sent)
                else:
                    data = json.dumps(bend(handler.path, status, json.loads(data))).encode()
                handler.answer(status, kind, data)

            def answer(handler, status, kind, data):
                handler.send_response(status)
                handler.send_header("content-type", kind)
                handler.send_header("content-length", str(len(data)))
                handler.end_headers()
                handler.wfile.write(data)

            def log_message(handler, *_):
                """The test tells what matters."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


# --- no difference ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["gemini-3.8-flash", "gemini-2.5-flash"])
def test_the_simulator_does_what_is_expected_of_it(live, model):
    outcomes = live("--yes", "--model", model)

    assert live.status == 0, outcomes
    assert {"text", "stream", "calls", "signature", "signature-lost", "schema", "bad-model", "bad-key", "count"} <= set(
        outcomes
    )
    assert f"{len(outcomes)} calls of {model}" in live.told


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("gemini-3.8-flash", ["thinkingLevel LOW", "thinkingLevel MEDIUM", "thinkingLevel HIGH"]),
        (
            "gemini-2.5-pro",
            ["thinkingBudget 128", "thinkingBudget 1024", "thinkingBudget 8192", "thinkingBudget 24576"],
        ),
        ("gemini-2.0-flash", []),
    ],
)
def test_each_thinking_setting_of_a_model_is_asked_once(model, settings):
    cases = cases_of(model, has_key=False)

    assert list(thinking_settings(model).values()) == settings
    assert len([case for case in cases if case.name.startswith("thinking-")]) == len(settings)
    assert "bad-key" not in {case.name for case in cases}


def test_captures_become_golden_cases_and_hold_no_secret(live):
    live("--yes")
    cases = sorted(path.parent for path in live.folder.glob("openai_chat/*/1-client-request.json"))

    assert len(cases) == 13
    for case in cases:
        asked, answer = test_golden.run(case, test_golden.whole)
        assert asked == json.loads((case / "2-upstream-request.json").read_bytes()), case.name
        captured = next(case.glob("4-client-response.*"))
        if captured.suffix == ".json":
            theirs, ours = json.loads(captured.read_bytes()), json.loads(answer)
            assert (theirs["status"], theirs["headers"]) == (ours["status"], ours["headers"])
        else:
            assert answer.endswith(b"data: [DONE]\n\n")
        assert (case / "about.md").read_text()
    files = [file for file in live.folder.rglob("*") if file.is_file()]
    assert not [file for file in files if KEY.encode() in file.read_bytes()]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    assert (live.folder / "other" / "count" / "3-upstream-response.json").exists()


def test_the_embedded_simulator_needs_neither_account_nor_consent(live):
    live(GEMINI_API_KEY="", AGPROXY_SIMULATE="on")
    assert live.status == 0


# --- consent ---------------------------------------------------------------------------------------------------


def test_nothing_is_asked_without_consent(live, simulator):
    with Bent(simulator) as upstream:
        assert live(AGPROXY_UPSTREAM_URL=upstream.url) is None
    assert "say --yes" in live.told
    assert "14 calls of gemini-3.8-flash" in live.told
    assert "tokens in" in live.told
    assert upstream.asked == []
    assert not live.folder.exists()


@pytest.mark.parametrize(("typed", "status"), [("y\n", 0), ("n\n", 2), ("\n", 2)])
def test_on_a_terminal_it_asks(simulator, tmp_path, typed, status):
    terminal, inner = pty.openpty()
    environ = {"GEMINI_API_KEY": KEY, "AGPROXY_UPSTREAM_URL": simulator.url}
    process = subprocess.Popen(
        [sys.executable, "-m", "agproxy", "doctor", "--live", "--output", str(tmp_path / "captures")],
        env=clean_environment(tmp_path, environ) | {"PYTHONPATH": str(ROOT)},
        stdin=inner,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(inner)
    os.write(terminal, typed.encode())
    _, err = process.communicate(timeout=60)
    os.close(terminal)

    assert process.returncode == status, err
    assert "Go on? [y/N]" in err
    assert (tmp_path / "captures").exists() is (status == 0)


def test_without_an_account_it_says_so(live):
    assert live("--yes", GEMINI_API_KEY="") is None
    assert "accounts add" in live.told


# --- each deviation --------------------------------------------------------------------------------------------


def test_new_fields_and_chunks_of_another_shape_are_told(live, simulator):
    def bend(path, status, chunk):
        for candidate in chunk.get("candidates", ()):
            candidate["mood"] = {"level": 3}
            for part in candidate.get("content", {}).get("parts", ()):
                part["shade"] = 1
        return chunk | {"novelty": True}

    def frame(chunks):
        for chunk in chunks:
            chunk["candidates"][0].setdefault("finishReason", "STOP")
            chunk["responseId"] = str(id(chunk))
        for chunk in chunks[:-1]:
            del chunk["usageMetadata"]
        return b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks)

    with Bent(simulator, bend, frame=frame) as upstream:
        outcomes = live("--yes", AGPROXY_UPSTREAM_URL=upstream.url)

    for name in ("text", "stream", "calls", "schema"):
        found = outcomes[name]["differences"]
        assert "field unknown to the decoder: novelty" in found
        assert "field unknown to the decoder: candidates[].mood" in found
        assert "field unknown to the decoder: candidates[].content.parts[].shade" in found
        assert not [line for line in found if "mood.level" in line]
    assert "field unknown to the decoder: novelty" in outcomes["count"]["differences"]
    found = outcomes["stream"]["differences"]
    assert "chunks: lines end with: LF, the simulator has CR LF" in found
    assert "chunks: finish reason in the last alone: no, the simulator has yes" in found
    assert "chunks: usage in each: no, the simulator has yes" in found
    assert "chunks: one response id: no, the simulator has yes" in found


def test_missing_fields_and_new_finish_reasons_are_told(live, simulator):
    def bend(path, status, chunk):
        if status != 200:
            return chunk
        chunk.pop("responseId", None)
        chunk.pop("modelVersion", None)
        chunk.get("usageMetadata", {}).pop("totalTokenCount", None)
        for candidate in chunk.get("candidates", ()):
            if candidate.get("finishReason") == "STOP":
                candidate["finishReason"] = "DONE_WELL"
        return chunk

    with Bent(simulator, bend) as upstream:
        found = live("--yes", AGPROXY_UPSTREAM_URL=upstream.url)["text"]["differences"]

    assert "missing: responseId" in found
    assert "missing: modelVersion" in found
    assert "missing: usageMetadata.totalTokenCount" in found
    assert "finish reason unknown to the decoder: DONE_WELL" in found
    assert "only the simulator sends responseId" in found
    assert "finish reasons: DONE_WELL, the simulator has STOP" in found


def test_other_errors_other_ends_and_missing_calls_are_told(live, simulator):
    def refuse(number, path):
        if "no-such-model" in path:
            return 400, {"error": {"code": 400, "message": "no", "status": "FAILED_PRECONDITION"}}
        return None

    def bend(path, status, chunk):
        if status == 400 and "details" in chunk.get("error", {}):
            del chunk["error"]["details"]
            chunk["error"]["status"] = "WRONG"
        for candidate in chunk.get("candidates", ()):
            parts = candidate.get("content", {}).get("parts", [])
            if any("functionCall" in part for part in parts):
                candidate["content"]["parts"] = [{"text": "I will not."}]
        return chunk

    def frame(chunks):
        return b"".join(b"data: " + json.dumps(chunk).encode() + b"\r\n\r\n" for chunk in chunks) + b"data: [DONE]\n\n"

    with Bent(simulator, bend, refuse=refuse, frame=frame) as upstream:
        outcomes = live("--yes", AGPROXY_UPSTREAM_URL=upstream.url)

    assert "HTTP status: 400, the simulator has 404" in outcomes["bad-model"]["differences"]
    found = outcomes["bad-key"]["differences"]
    assert "error.status: WRONG, the simulator has INVALID_ARGUMENT" in found
    assert any(line.startswith("error.details: none") for line in found)
    assert any(line.startswith("client: HTTP status: 400") for line in found)
    assert outcomes["text"]["differences"] == []
    assert outcomes["stream"]["differences"] == ["the answer (HTTP 200) is not JSON"]
    assert "client: has text: yes, the simulator has no" in outcomes["calls"]["differences"]
    assert "has no calls" in outcomes["signature"]["problem"]


def test_calls_and_schemas_that_are_not_followed_are_told(live, simulator):
    def bend(path, status, chunk):
        for candidate in chunk.get("candidates", ()):
            parts = candidate.get("content", {}).get("parts", [])
            called = [part for part in parts if "functionCall" in part]
            if called:
                candidate["content"]["parts"] = called[:1]
                called[0].pop("thoughtSignature", None)
            for part in parts:
                if part.get("text", "").startswith("{"):
                    part["text"] = "Ada is 36."
        return chunk

    with Bent(simulator, bend) as upstream:
        outcomes = live("--yes", AGPROXY_UPSTREAM_URL=upstream.url)

    assert "client: calls: get_weather, the simulator has get_weather, get_weather" in outcomes["calls"]["differences"]
    assert "client: calls with a signature: 0, the simulator has 1" in outcomes["calls"]["differences"]
    assert "client: JSON keys: not JSON, the simulator has age, name" in outcomes["schema"]["differences"]


# --- limits and trouble ----------------------------------------------------------------------------------------


def limit(seconds):
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{seconds}s"}
    error = {"code": 429, "message": "Slow down.", "status": "RESOURCE_EXHAUSTED", "details": [info]}
    return 429, {"error": error}


def test_a_short_limit_is_waited_for(live, simulator):
    with Bent(simulator, refuse=lambda number, path: limit(0.2) if number == 2 else None) as upstream:
        live("--yes", AGPROXY_UPSTREAM_URL=upstream.url)
    assert live.status == 0


def test_a_long_limit_ends_it(live, simulator):
    with Bent(simulator, refuse=lambda number, path: limit(4000) if number == 3 else None) as upstream:
        outcomes = live("--yes", AGPROXY_UPSTREAM_URL=upstream.url)
    assert list(outcomes) == ["text", "stream", "calls"]
    assert outcomes["calls"]["problem"].startswith("the rest was not asked")
    assert len(upstream.asked) == 3


def test_an_upstream_that_is_not_there_ends_it_at_once(live):
    outcomes = live("--yes", AGPROXY_UPSTREAM_URL="http://127.0.0.1:9")
    assert list(outcomes) == ["text"]
    assert "agproxy doctor" in outcomes["text"]["problem"]


def test_a_folder_that_is_there_is_left(live, tmp_path):
    assert live("--yes", "--output", str(tmp_path)) is None
    assert str(tmp_path) in live.told
