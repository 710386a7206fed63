"""1,000 streams open at once through a real gateway on a real simulated Gemini: nothing lost, nothing kept."""

import asyncio
import json
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from running import start

from agproxy.io.descriptors import raise_limit

STREAMS = 1000
WORDS = 6
# Each stream is held in its middle until all are open, which takes a loaded machine some seconds.
HELD_SECONDS = 8
TEXT = " ".join(f"w{number}" for number in range(1, WORDS + 1))


def descriptors(running):
    folder = Path(f"/proc/{running.process.pid}/fd")
    if not folder.is_dir():
        pytest.skip("no /proc here")
    return len(list(folder.iterdir()))


def resident_kilobytes(running):
    status = Path(f"/proc/{running.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


async def read_stream(place, body, opened):
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {place.netloc}\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    received = await reader.readuntil(b'"content":"w1"')
    opened.append(None)
    received += await reader.readuntil(b"0\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return received


def text_of(received):
    lines = [line[6:] for line in received.decode().splitlines() if line.startswith("data: {")]
    deltas = [choice["delta"] for line in lines for choice in json.loads(line)["choices"]]
    return "".join(delta.get("content") or "" for delta in deltas)


def test_a_thousand_streams_at_once_lose_nothing_and_leave_nothing(tmp_path):
    most = raise_limit()
    if most is not None and most < STREAMS + 200:
        pytest.skip(f"this process may open {most} files only")
    simulator = start("simulate", home=tmp_path)
    gateway = start(
        "serve",
        home=tmp_path,
        GEMINI_API_KEY="k",
        AGPROXY_UPSTREAM_URL=simulator.url,
        AGPROXY_UPSTREAM_KEEPALIVE_SECONDS="0.5",
        AGPROXY_LOG_LEVEL="warning",
    )
    messages = [{"role": "user", "content": f"[[sim:words={WORDS}]] [[sim:pause={HELD_SECONDS}]]"}]
    body = json.dumps({"model": "gemini-2.0-flash", "stream": True, "messages": messages}).encode()
    place = urlsplit(gateway.url)
    gateway.chat("warm up")
    before, opened = resident_kilobytes(gateway), []

    async def storm():
        tasks = [asyncio.create_task(read_stream(place, body, opened)) for _ in range(STREAMS)]
        while len(opened) < STREAMS and not any(task.done() for task in tasks):
            await asyncio.sleep(0.05)
        during = descriptors(gateway), resident_kilobytes(gateway)
        return during, await asyncio.wait_for(asyncio.gather(*tasks), 90)

    try:
        (files, resident), answers = asyncio.run(storm())
        assert len(opened) == STREAMS
        assert files >= 2 * STREAMS  # a client's connection and an upstream one each
        assert {text_of(answer) for answer in answers} == {TEXT}
        assert all(answer.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n") for answer in answers)
        assert (resident - before) / STREAMS < 60  # kilobytes a stream; the bench states the true figure
        deadline = time.monotonic() + 30
        while descriptors(gateway) > 40 and time.monotonic() < deadline:
            gateway.ask("/healthz")
        assert descriptors(gateway) <= 40
        assert not [line for line in gateway.lines if "ERROR" in line]
    finally:
        assert gateway.stop() == 0
        simulator.stop()
