"""The floor: what a relay in Python on h11 costs that does nothing a gateway must do.

    python tests/bench/relay.py UPSTREAM_PORT [CA.pem]    says its port on standard output

h11 serves the client; upstream is spoken to by hand over kept connections; one json.loads and one json.dumps a request
and a chunk, in fixed shapes. No key check, no routes, no mapping, no tools, no errors, no time-outs, no limits, no log.
"""

import asyncio
import json
import ssl
import sys

import h11

UPSTREAM_PORT = int(sys.argv[1])
TLS = ssl.create_default_context(cafile=sys.argv[2]) if len(sys.argv) > 2 else None
encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
idle: list["Upstream"] = []


class Client(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        self.h11 = h11.Connection(h11.SERVER)
        self.upstream = None

    def data_received(self, data):
        self.h11.receive_data(data)
        while True:
            event = self.h11.next_event()
            kind = type(event)
            if kind is h11.Request:
                self.target, self.body = event.target, []
            elif kind is h11.Data:
                self.body.append(event.data)
            elif kind is h11.EndOfMessage:
                return self.ask()
            else:
                return None

    def ask(self):
        if self.target == b"/healthz":
            return self.reply(b"{}")
        request = json.loads(b"".join(self.body))
        self.is_stream = request.get("stream", False)
        contents = [
            {"role": "user" if m["role"] == "user" else "model", "parts": [{"text": m["content"]}]}
            for m in request["messages"]
        ]
        data = encode({"contents": contents}).encode()
        method = "streamGenerateContent?alt=sse" if self.is_stream else "generateContent"
        head = (
            f"POST /v1beta/models/{request['model']}:{method} HTTP/1.1\r\nhost: 127.0.0.1\r\nx-goog-api-key: k\r\n"
            f"content-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
        ).encode()
        if idle:
            idle.pop().send(self, head + data)
        else:
            asyncio.get_running_loop().create_task(self.connect(head + data))

    async def connect(self, data):
        _, upstream = await asyncio.get_running_loop().create_connection(Upstream, "127.0.0.1", UPSTREAM_PORT, ssl=TLS)
        upstream.send(self, data)

    def start(self, headers):
        return self.h11.send(h11.Response(status_code=200, headers=[("content-type", "application/json"), *headers]))

    def reply(self, body):
        head = self.start([("content-length", str(len(body)))])
        self.transport.write(head + self.h11.send(h11.Data(data=body)) + self.h11.send(h11.EndOfMessage()))
        self.h11.start_next_cycle()

    def end_stream(self, data):
        self.transport.write(data + self.h11.send(h11.EndOfMessage()))
        self.h11.start_next_cycle()

    def connection_lost(self, exc):
        if self.upstream is not None:
            self.upstream.transport.abort()


class Upstream(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def send(self, client, data):
        self.client, self.has_head, self.rest, self.text = client, False, b"", b""
        client.upstream = self
        self.transport.write(data)

    def data_received(self, data):
        self.rest += data
        if not self.has_head:
            head, mark, self.rest = self.rest.partition(b"\r\n\r\n")
            if not mark:
                self.rest = head
                return
            self.has_head = True
            if self.client.is_stream:
                self.client.transport.write(self.client.start([("transfer-encoding", "chunked")]))
            else:
                self.length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if self.client.is_stream:
            self.stream()
        elif len(self.rest) == self.length:
            value = json.loads(self.rest)
            message = {"role": "assistant", "content": value["candidates"][0]["content"]["parts"][0]["text"]}
            choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
            body = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": choices}
            self.finish().reply(encode(body).encode())

    def stream(self):
        rest, place, is_last = self.rest, 0, False
        while (end := rest.find(b"\r\n", place)) >= 0:  # Transfer-Encoding: chunked
            size = int(rest[place:end], 16)
            if len(rest) < end + 4 + size:
                break
            self.text += rest[end + 2 : end + 2 + size]
            place = end + 4 + size
            if size == 0:
                is_last = True
                break
        self.rest = rest[place:]
        *events, self.text = self.text.split(b"\r\n\r\n")
        frames = []
        for event in events:
            value = json.loads(event[6:])["candidates"][0]
            delta = {"content": value["content"]["parts"][0]["text"]}
            choices = [{"index": 0, "delta": delta, "finish_reason": value.get("finishReason")}]
            chunk = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices}
            frames.append(f"data: {encode(chunk)}\n\n")
        if is_last:
            frames.append("data: [DONE]\n\n")
        data = "".join(frames).encode()
        data = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        if is_last:
            self.finish().end_stream(data)
        elif data:
            self.client.transport.write(data)

    def finish(self):
        client, self.client = self.client, None
        client.upstream = None
        idle.append(self)
        return client


async def main():
    server = await asyncio.get_running_loop().create_server(Client, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
