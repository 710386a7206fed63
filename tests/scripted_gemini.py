"""A Gemini that follows a script, as a server of its own: what the gateway asks is kept, what it gets is written down.

For clients that are processes (Codex), so that a test can say what the model does in each step and look at what it was
asked. Streams only, since such clients stream.
"""

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Chunk = dict[str, Any]


@dataclass(frozen=True)
class Step:
    """One answer: chunks of a stream, or an error's status with its body; a cut one breaks off after its chunks."""

    chunks: Sequence[Chunk] = ()
    status: int = 200
    error: Chunk | None = None
    is_cut: bool = False


def _chunk(parts: list[Chunk], finish: str | None = None, tokens: int = 110) -> Chunk:
    candidate: Chunk = {"content": {"role": "model", "parts": parts}, "index": 0}
    if finish is not None:
        candidate["finishReason"] = finish
    usage = {"promptTokenCount": tokens - 10, "candidatesTokenCount": 10, "totalTokenCount": tokens}
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "scripted"}


def says(text: str) -> Step:
    return Step(chunks=[_chunk([{"text": text}], "STOP")])


def calls(name: str, signature: str | None = None, thought: str = "", tokens: int = 110, **arguments: Any) -> Step:
    """A function call, perhaps with a thought before it and a signature on it. tokens: what it is said to have cost."""
    part: Chunk = {"functionCall": {"name": name, "args": arguments}}
    if signature is not None:
        part["thoughtSignature"] = signature
    before = [_chunk([{"text": thought, "thought": True}])] if thought else []
    return Step(chunks=[*before, _chunk([part], "STOP", tokens)])


def cut_after(text: str) -> Step:
    return Step(chunks=[_chunk([{"text": text}])], is_cut=True)


def limited(seconds: int) -> Step:
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{seconds}s"}]
    error = {"code": 429, "message": "Slow down.", "status": "RESOURCE_EXHAUSTED", "details": details}
    return Step(status=429, error={"error": error})


def refused(message: str) -> Step:
    return Step(status=400, error={"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}})


@dataclass
class ScriptedGemini:
    """Serves one step after the other; a step may be made from the request that it answers. `asked` are the bodies."""

    script: list[Step | Callable[[Chunk], Step]]
    asked: list[Chunk] = field(default_factory=list)
    url: str = ""

    def __enter__(self) -> "ScriptedGemini":
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def next_step(self, body: Chunk) -> Step:
        self.asked.append(body)
        if not self.script:
            return refused("the script has ended")
        step = self.script.pop(0)
        return step(body) if callable(step) else step

    def _handler(gemini) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._send(200, "application/json", b'{"models": []}')

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                step = gemini.next_step(body)
                if step.error is not None:
                    self._send(step.status, "application/json", json.dumps(step.error).encode())
                    return
                data = b"".join(b"data: " + json.dumps(chunk).encode() + b"\r\n\r\n" for chunk in step.chunks)
                # A cut stream promises more than it sends.
                self._send(200, "text/event-stream", data, missing=99 if step.is_cut else 0)

            def _send(self, status: int, kind: str, data: bytes, missing: int = 0) -> None:
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(data) + missing))
                self.end_headers()
                self.wfile.write(data)
                self.close_connection = self.close_connection or missing > 0

            def log_message(self, *_: object) -> None:
                """The test tells what matters."""

        return Handler
