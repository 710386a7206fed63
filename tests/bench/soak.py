"""Many streams at once for minutes, coming and going: what is lost, what waits, what grows.

    python tests/bench/soak.py [--minutes 10] [--streams 1000] [--workers 1]

Each stream is Chat or Responses, lasts some seconds to a minute, and every tenth is cut by its client in the middle.
Upstream stamps each chunk with its number and the time, so that a chunk that is missing, doubled or out of order is
seen, and how long each took. A few streams go to upstream directly: what the gateway adds is the difference.
Exit status 1 where anything was lost, or memory grew.
"""

import argparse
import asyncio
import json
import random
import re
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from bench import Bench, Server
from load import KEY, rss_kilobytes

DIRECT = 20
PACE_MS = 500
_STAMP = re.compile(rb"#(\d+) (\d+) ")
_GROWTH = 1.1  # of memory, from the end of the first fifth to the end: more is a leak


@dataclass
class Tally:
    whole: int = 0
    cut: int = 0
    chunks: int = 0
    failures: list[str] = field(default_factory=list)
    waits: list[int] = field(default_factory=list)  # nanoseconds from upstream's write to the client's read

    def percentile(self, share: float) -> float:
        """Milliseconds."""
        ordered = sorted(self.waits)
        return ordered[int(len(ordered) * share)] / 1e6 if ordered else 0.0


@dataclass(frozen=True)
class Kind:
    """How a stream is asked for, and which of its lines bring text."""

    path: str
    marks: bytes

    def body(self, count: int) -> bytes:
        model = f"gemini-stamped-{count}-{PACE_MS}"
        if "responses" in self.path:
            return json.dumps({"model": model, "input": "hi", "stream": True, "store": count % 2 == 0}).encode()
        return json.dumps({"model": model, "stream": True, "messages": [{"role": "user", "content": "hi"}]}).encode()


CHAT = Kind("/v1/chat/completions", b'"content":"#')
RESPONSES = Kind("/v1/responses", b"response.output_text.delta")
GEMINI = Kind("", b"#")


async def stream(port: int, kind: Kind, tally: Tally) -> None:
    """One stream, read to its end or cut in its middle."""
    count = random.randint(10, 110)
    stops_at = random.randint(1, count - 1) if random.random() < 0.1 else count
    path = kind.path or f"/v1/models/gemini-stamped-{count}-{PACE_MS}:streamGenerateContent"
    body = kind.body(count)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    seen, is_ended = 0, False
    try:
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {KEY}\r\n"
        writer.write(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        while seen < stops_at or stops_at == count:
            line = await reader.readline()
            now = time.monotonic_ns()
            if line == b"0\r\n":
                is_ended = True
                break
            if not line:
                break
            if kind.marks in line and (match := _STAMP.search(line)) is not None:
                if int(match[1]) != seen:
                    tally.failures.append(f"{kind.path}: chunk {int(match[1])} in place of {seen}")
                    return
                seen += 1
                tally.chunks += 1
                tally.waits.append(now - int(match[2]))
        if stops_at < count:
            tally.cut += 1
        elif seen == count and is_ended:
            tally.whole += 1
        else:
            tally.failures.append(f"{kind.path}: {seen} of {count} chunks, {'ended' if is_ended else 'cut'}")
    finally:
        writer.transport.abort()


async def keep_streaming(port: int, kinds: list[Kind], tally: Tally, until: float) -> None:
    await asyncio.sleep(random.random() * 5)
    while time.monotonic() < until:
        try:
            await stream(port, random.choice(kinds), tally)
        except OSError as error:
            tally.failures.append(str(error))


def memory(server: Server) -> int:
    """Kilobytes of the process, or of its workers."""
    pid = server.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sum(rss_kilobytes(int(child)) for child in children) or rss_kilobytes(pid)


def descriptors(server: Server) -> int:
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


async def run(options: argparse.Namespace) -> int:
    with ExitStack() as stack:
        bench = Bench(stack, sys.executable, 1, {})
        words = ("--upstream-url", f"http://127.0.0.1:{bench.upstream.port}", "--workers", str(options.workers))
        server = bench.start_ours(*words, name="soak")
        idle_files = descriptors(server)
        through, direct = Tally(), Tally()
        began = time.monotonic()
        until = began + options.minutes * 60
        tasks = [
            asyncio.create_task(keep_streaming(server.port, [CHAT, RESPONSES], through, until))
            for _ in range(options.streams)
        ]
        tasks += [
            asyncio.create_task(keep_streaming(bench.upstream.port, [GEMINI], direct, until)) for _ in range(DIRECT)
        ]
        sizes: list[int] = []
        while time.monotonic() < until:
            await asyncio.sleep(min(options.minutes * 6, 30))
            sizes.append(memory(server))
            print(
                f"{time.monotonic() - began:5.0f} s  {through.whole:,} whole, {through.cut:,} cut by the client, "
                f"{through.chunks:,} chunks, {len(through.failures)} failures, {sizes[-1] / 1024:.1f} MB, "
                f"CPU {server.cpu:.0f} s",
                flush=True,
            )
        await asyncio.gather(*tasks)
        deadline = time.monotonic() + 70  # rested connections to upstream are kept for 50 s
        while descriptors(server) > idle_files + 2 and time.monotonic() < deadline:
            await asyncio.sleep(1)
        settled, growth = sizes[len(sizes) // 5], sizes[-1] / sizes[len(sizes) // 5]
        print(f"streams        {through.whole:,} whole, {through.cut:,} cut by the client, {through.chunks:,} chunks")
        print(f"lost           {len(through.failures)} {through.failures[:5]}")
        for share in (0.5, 0.99, 0.999, 1 - 1e-9):
            ours, theirs = through.percentile(share), direct.percentile(share)
            print(f"wait p{share * 100:<8.4g} {ours:8.2f} ms, direct {theirs:.2f} ms, added {ours - theirs:.2f} ms")
        print(
            f"memory         {settled / 1024:.1f} MB -> {sizes[-1] / 1024:.1f} MB ({growth:.2f}), "
            f"after the storm {memory(server) / 1024:.1f} MB"
        )
        print(f"descriptors    {idle_files} -> {descriptors(server)}")
        log = next(Path(bench.home).glob("soak-*.log")).read_text()
        errors = [line for line in log.splitlines() if " ERROR " in line or "Traceback" in line]
        print(f"errors logged  {len(errors)} {errors[:3]}")
        return int(bool(through.failures or errors) or growth > _GROWTH)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=1)
    return asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
