"""A fake Gemini that is never the bottleneck: every answer is bytes made beforehand, no JSON is read.

    python tests/bench/upstream.py [--tls FILE.pem]       says its port on standard output

The name of the model in the path says what is answered:

    ...:generateContent                      a short answer
    gemini-fast-N:streamGenerateContent      N chunks, in as few writes as they fit in
    gemini-paced-N-MS:streamGenerateContent  N chunks, one every MS milliseconds, the first at once
    gemini-stamped-N-MS:streamGenerateContent the same; each chunk's text begins with its number and the time, "#0 123 "
    gemini-held-1:streamGenerateContent      one chunk, then nothing: a stream that stays open
"""

import argparse
import asyncio
import functools
import json
import re
import ssl
import time
from collections.abc import Callable

WORDS = "The quick brown fox jumps over the lazy dog near the river bank while it rains. "
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_STREAM = re.compile(rb"gemini-(fast|paced|stamped|held)-(\d+)(?:-(\d+))?:stream")
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\nServer: bench\r\n%s\r\n\r\n"
_STREAM_HEAD = _HEAD % (b"text/event-stream", b"Transfer-Encoding: chunked")


def answer(text: str, finish: str | None = None) -> bytes:
    """What Gemini sends: a whole answer or one chunk, compact as on the wire."""
    candidate = {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}
    if finish is not None:
        candidate["finishReason"] = finish
    usage = {"promptTokenCount": 12, "candidatesTokenCount": 34, "totalTokenCount": 46}
    body = {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "gemini-bench", "responseId": "abc123"}
    return json.dumps(body, separators=(",", ":")).encode()


@functools.cache
def unary() -> bytes:
    body = answer(WORDS * 3, "STOP")
    return _HEAD % (b"application/json; charset=UTF-8", b"Content-Length: %d" % len(body)) + body


@functools.cache
def chunk(is_last: bool) -> bytes:
    event = b"data: " + answer(WORDS[:45], "STOP" if is_last else None) + b"\r\n\r\n"
    return b"%x\r\n%b\r\n" % (len(event), event)


def plain(number: int, is_last: bool) -> bytes:
    return chunk(is_last)


def stamped(number: int, is_last: bool) -> bytes:
    """A chunk that says when it was sent, in nanoseconds of the clock that all processes of a machine share."""
    text = f"#{number} {time.monotonic_ns()} {WORDS[:25]}"
    event = b"data: " + answer(text, "STOP" if is_last else None) + b"\r\n\r\n"
    return b"%x\r\n%b\r\n" % (len(event), event)


@functools.cache
def fast(count: int) -> bytes:
    return _STREAM_HEAD + chunk(False) * (count - 1) + chunk(True) + b"0\r\n\r\n"


class Upstream(asyncio.Protocol):
    transport: asyncio.Transport
    streams = 0

    def __init__(self) -> None:
        self.head = b""
        self.path = b""
        self.left = 0
        self.count = 0
        self.make: Callable[[int, bool], bytes] = plain

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.left > 0:
            self.left -= len(data)
        else:
            self.head += data
            end = self.head.find(b"\r\n\r\n")
            if end < 0:
                return
            length = _LENGTH.search(self.head, 0, end + 2)
            self.left = (int(length[1]) if length else 0) - (len(self.head) - end - 4)
            self.path = self.head.split(b" ", 2)[1]
            self.head = b""
        if self.left <= 0:
            self.answer()

    def answer(self) -> None:
        match = _STREAM.search(self.path)
        if match is None:
            self.transport.write(unary())
        elif match[1] == b"fast":
            self.transport.write(fast(int(match[2])))
        elif match[1] == b"held":
            self.transport.write(_STREAM_HEAD + chunk(False))
        else:
            count, seconds = int(match[2]), int(match[3]) / 1000
            self.count = count
            self.make = stamped if match[1] == b"stamped" else plain
            self.transport.write(_STREAM_HEAD + self.make(0, False))
            # Streams that began together go on at moments of their own, spread evenly, whichever gateway asked.
            Upstream.streams += 1
            due = asyncio.get_running_loop().time() + seconds * (Upstream.streams * 0.618034 % 1)
            asyncio.get_running_loop().call_at(due, self.pace, count - 1, seconds, due)

    def pace(self, left: int, seconds: float, due: float) -> None:
        if self.transport.is_closing():
            return
        data = self.make(self.count - left, left == 1)
        if left == 1:
            self.transport.write(data + b"0\r\n\r\n")
            return
        self.transport.write(data)
        asyncio.get_running_loop().call_at(due + seconds, self.pace, left - 1, seconds, due + seconds)


async def main(certificate: str) -> None:
    context = None
    if certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0, ssl=context, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--tls", default="", metavar="FILE.pem", help="certificate and key")
    asyncio.run(main(parser.parse_args().tls))
