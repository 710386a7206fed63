"""A Gemini in threads, so that the loop under test does nothing for it, whose streams go on only when they are told."""

import contextlib
import json
import queue
import re
import socket
import threading

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
SHORT = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"


def chunk(text="some words of an answer, " * 10, finish=None):
    candidate = {"content": {"role": "model", "parts": [{"text": text}]}, "index": 0}
    if finish is not None:
        candidate["finishReason"] = finish
    usage = {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5}
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "gemini-2.5-flash", "responseId": "r"}


def event(finish=None):
    return b"data: " + json.dumps(chunk(finish=finish)).encode() + b"\r\n\r\n"


class GatedGemini:
    """Answers short requests, and streams whose every chunk but the first `free` waits for `goes_on`, so that each is a
    read of its own."""

    def __init__(self, count=0, free=0):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.goes_on = queue.SimpleQueue()
        self._count, self._free = count, free

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._listener.close()
        self.goes_on.put(None)

    def _accept(self):
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock):
        with sock, contextlib.suppress(OSError):  # whoever asked may leave at any time
            while head := self._read_request(sock):
                if b"/models?" in head:
                    sock.sendall(SHORT % (2, b"{}"))
                elif b":stream" in head:
                    self._stream(sock)
                else:
                    data = json.dumps(chunk(finish="STOP")).encode()
                    sock.sendall(SHORT % (len(data), data))

    def _read_request(self, sock):
        head = b""
        while b"\r\n\r\n" not in head:
            if not (piece := sock.recv(65536)):
                return b""
            head += piece
        head, _, start = head.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        left = int(length[1]) - len(start) if length else 0
        while left > 0:
            left -= len(sock.recv(left))
        return head

    def _stream(self, sock):
        sock.sendall(HEAD)
        for number in range(self._count):
            if number >= self._free and self.goes_on.get(timeout=20) is None:
                self.goes_on.put(None)  # the test is over, for the other streams too: nobody reads this any more
                return
            data = event("STOP" if number == self._count - 1 else None)
            sock.sendall(b"%x\r\n%b\r\n" % (len(data), data))
        sock.sendall(b"0\r\n\r\n")
