"""What agproxy costs, beside the floor (`relay.py`) and whichever peers are installed.

    make bench                                all of it, some minutes
    python tests/bench/bench.py unary fast    only these parts (see PARTS)
    python tests/bench/bench.py --check       exit status 1 where a bar is missed

Everything is loopback on one machine: load (this process) -> gateway -> fake Gemini (`upstream.py`). Servers are
measured by turns, A B A B, in rounds of some hundred milliseconds, so that what else runs on the machine hits all
alike; a ratio is of two neighbouring rounds, and a table shows its least, middle and greatest. CPU is the server
process's own account, which holds on a busy machine; wall-clock figures (throughput, first byte, waits, start) only
compare within one run.

agproxy runs as a user would run it: client key, model mapping, three accounts, access log, one process.
"""

import argparse
import asyncio
import itertools
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))

import peers  # noqa: E402
from load import KEY, Client, Clients, connect, cpu_seconds, messages_of, request, rss_kilobytes  # noqa: E402

ROUNDS = 7
# Names of the client's -> names that tell the fake Gemini what to answer.
SHAPES = ("short", "fast-1", "fast-200", "fast-2000", "paced-1000-500", "paced-400-5", "held-1")
MAPPING = ",".join(f"bench-{shape}=gemini-{shape}" for shape in SHAPES)
FLOOR = "relay"
OURS = "agproxy"


# --- servers ---------------------------------------------------------------------------------------------------


@dataclass
class Server:
    name: str
    process: subprocess.Popen
    port: int
    clients: Clients = field(init=False)

    def __post_init__(self) -> None:
        self.clients = Clients(self.port)

    @property
    def cpu(self) -> float:
        return cpu_seconds(self.process.pid)

    def stop(self) -> None:
        self.clients.close()
        self.process.kill()  # workers end with who looks after them
        self.process.wait()


def environment(home: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.upper().startswith(("AGPROXY_", "GEMINI_", "GOOGLE_"))}
    kept = {k: v for k, v in kept.items() if not k.lower().endswith("_proxy")}
    return kept | {
        "AGPROXY_HOME": home,
        "AGPROXY_API_KEY": KEY,
        "AGPROXY_AUTH_MODE": "all_except_health",
        "GEMINI_API_KEY": "k1,k2,k3",
        "PYTHONPATH": str(ROOT),
    }


def free_port() -> int:
    import socket

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Bench:
    """Starts what is measured, and keeps the rows."""

    def __init__(self, stack: ExitStack, python: str, rounds: int, given: dict[str, str]) -> None:
        self.stack = stack
        self.peers = given
        self.python = python
        self.rounds = rounds
        self.home = stack.enter_context(tempfile.TemporaryDirectory())
        self.rows: list[tuple[str, str, str, str, str]] = []
        self.missed: list[str] = []
        self.upstream = self.start_small("upstream", "upstream.py")
        self.ours = self.start_ours()
        self.relay = self.start_small(FLOOR, "relay.py", str(self.upstream.port))

    def start_small(self, name: str, *words: str) -> Server:
        """One of our own scripts: it prints its port."""
        process = subprocess.Popen([self.python, str(HERE / words[0]), *words[1:]], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        server = Server(name, process, int(process.stdout.readline()))
        self.stack.callback(server.stop)
        return server

    def ours_command(self, port: int, *words: str, program: tuple[str, ...] = ("-m", "agproxy")) -> list[str]:
        upstream = ("--upstream-url", f"http://127.0.0.1:{self.upstream.port}")
        settings = ("serve", "--host", "127.0.0.1", "--port", str(port), "--model-map", MAPPING)
        return [self.python, *program, *settings, *(words or upstream)]

    def start_ours(self, *words: str, program: tuple[str, ...] = ("-m", "agproxy"), name: str = OURS) -> Server:
        port = free_port()
        command = self.ours_command(port, *words, program=program)
        with Path(self.home, f"{name}-{port}.log").open("w") as log:
            process = subprocess.Popen(command, env=environment(self.home), stdout=log, stderr=log)
        server = Server(name, process, port)
        self.stack.callback(server.stop)
        wait_until_healthy(process, port)
        return server

    # --- results

    def row(self, what: str, ours: str, floor: str, ratio: str, bar: str = "", *, is_met: bool | None = None) -> None:
        verdict = "" if is_met is None else ("yes" if is_met else "NO")
        self.rows.append((what, ours, floor, ratio, f"{bar} {verdict}".strip()))
        print(f"{what:<52} {ours:>16} {floor:>16}  {ratio:<22} {bar:<12} {verdict}", flush=True)
        if is_met is False:
            self.missed.append(what)

    def compare(self, what: str, ours: list[float], floor: list[float], unit: str, most: float | None = None) -> None:
        """One row of a quantity that was measured by turns."""
        ratios = sorted(a / b for a, b in zip(ours, floor, strict=True))
        middle = statistics.median(ratios)
        shown = f"{ratios[0]:.2f} / {middle:.2f} / {ratios[-1]:.2f}"
        bar = "" if most is None else f"<= {most:g}"
        is_met = None if most is None else middle <= most
        values = (f"{statistics.median(ours):,.1f} {unit}", f"{statistics.median(floor):,.1f} {unit}")
        self.row(what, *values, shown, bar, is_met=is_met)


def wait_until_healthy(process: subprocess.Popen, port: int) -> None:
    deadline = time.perf_counter() + 30
    while time.perf_counter() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5):
                return
        except OSError:
            if process.poll() is not None:
                raise RuntimeError(f"{process.args} ended at once") from None
            time.sleep(0.002)
    raise RuntimeError(f"{process.args} did not start")


Found = dict[str, list]


async def by_turns(bench: Bench, servers: list[Server], measure: Callable, rounds: int | None = None) -> Found:
    """measure(server), each server in each round; the first round only warms up."""
    found: Found = {server.name: [] for server in servers}
    for number in range((rounds or bench.rounds) + 1):
        for server in servers:
            value = await measure(server)
            if number:
                found[server.name].append(value)
    return found


def model_of(server: Server, name: str) -> str:
    """Ours maps the name; the relay has no mapping."""
    return f"gemini-{name}" if server.name == FLOOR else f"bench-{name}"


# --- parts -----------------------------------------------------------------------------------------------------


async def unary(bench: Bench) -> None:
    for concurrency in (1, 16, 64):
        total = 300 if concurrency == 1 else 800

        async def measure(server: Server, concurrency: int = concurrency, total: int = total) -> tuple[float, float]:
            data = request(model_of(server, "short"))
            cpu, began = server.cpu, time.perf_counter()
            await server.clients.run(data, total=total, concurrency=concurrency)
            return (server.cpu - cpu) / total * 1e6, total / (time.perf_counter() - began)

        found = await by_turns(bench, [bench.ours, bench.relay], measure)
        ours, floor = found[OURS], found[FLOOR]
        bench.compare(f"unary, {concurrency} at once: CPU a request", *columns(ours, floor, 0), "us", 1.6)
        bench.compare(f"unary, {concurrency} at once: requests a second", *columns(ours, floor, 1), "/s")


def columns(ours: list, floor: list, index: int) -> tuple[list[float], list[float]]:
    return [row[index] for row in ours], [row[index] for row in floor]


async def fast(bench: Bench) -> None:
    per_chunk = {}
    for chunks, total in ((200, 40), (2000, 4)):

        async def measure(server: Server, chunks: int = chunks, total: int = total) -> float:
            data = request(model_of(server, f"fast-{chunks}"), stream=True)
            cpu = server.cpu
            await server.clients.run(data, total=total, concurrency=4)
            return (server.cpu - cpu) / total / chunks * 1e6

        found = await by_turns(bench, [bench.ours, bench.relay], measure)
        per_chunk[chunks] = found[OURS]
        bench.compare(f"stream, {chunks} chunks as fast as possible: CPU a chunk", found[OURS], found[FLOOR], "us", 2.5)
    bench.compare("  a chunk of 2,000 beside one of 200 (both ours)", per_chunk[2000], per_chunk[200], "us", 1.1)


async def paced(bench: Bench) -> None:
    """Many streams that are open already, a chunk every half second on each: what one more chunk costs."""
    streams = 1000

    async def measure(server: Server) -> float:
        data = request(model_of(server, "paced-1000-500"), stream=True)
        clients = await server.clients.some(streams)
        asking = [asyncio.ensure_future(client.ask(data)) for client in clients]
        while not all(client.reads for client in clients):
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)
        before, cpu = sum(len(client.reads) for client in clients), server.cpu
        await asyncio.sleep(3)
        chunks, used = sum(len(client.reads) for client in clients) - before, server.cpu - cpu
        server.clients.close()
        await asyncio.gather(*asking, return_exceptions=True)
        return used / chunks * 1e6

    found = await by_turns(bench, [bench.ours, bench.relay], measure, rounds=3)
    bench.compare(f"stream, {streams:,} open, paced: CPU a chunk", found[OURS], found[FLOOR], "us", 1.3)


async def first_byte(bench: Bench) -> None:
    """Requests at half of what the gateway can carry, at even distances; what it adds to the upstream's own answer."""
    probe = request("bench-fast-1", stream=True)
    began = time.perf_counter()
    await bench.ours.clients.run(probe, total=800, concurrency=16)
    rate = 800 / (time.perf_counter() - began) / 2

    async def measure(server: Server) -> float:
        data = request(model_of(server, "fast-1"), stream=True)
        if server.name == "upstream":
            data = data.replace(b"/v1/chat/completions", b"/v1/models/gemini-fast-1:streamGenerateContent")
        clients = await server.clients.some(32)
        waits: list[float] = []

        async def one(client: Client) -> None:
            sent = time.perf_counter()
            await client.ask(data)
            waits.append(client.reads[0] - sent)
            idle.append(client)

        idle = list(clients)
        async with asyncio.TaskGroup() as group:
            due = time.perf_counter()
            for _ in range(500):
                due += 1 / rate
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                if idle:
                    group.create_task(one(idle.pop()))
        return statistics.median(waits) * 1000

    found = await by_turns(bench, [bench.ours, bench.relay, bench.upstream], measure)
    added = [a - b for a, b in zip(found[OURS], found["upstream"], strict=True)]
    floor = [a - b for a, b in zip(found[FLOOR], found["upstream"], strict=True)]
    middle = statistics.median(added)
    bench.row(
        f"added to the first byte at half load ({rate:.0f}/s), p50",
        f"{middle:.2f} ms",
        f"{statistics.median(floor):.2f} ms",
        f"{min(added):.2f} / {middle:.2f} / {max(added):.2f} ms",
        "< 1 ms",
        is_met=middle < 1,
    )


async def large(bench: Bench) -> None:
    """CPU of large requests, and how long a stream beside them has to wait."""
    for size, total in ((1_000, 100), (10_000, 60), (50_000, 30), (500_000, 6), (5_000_000, 1), (10_000_000, 1)):

        async def measure(server: Server, size: int = size, total: int = total) -> float:
            data = request(model_of(server, "short"), messages_of(size))
            cpu = server.cpu
            await server.clients.run(data, total=total, concurrency=1)
            return (server.cpu - cpu) / total * 1e6

        found = await by_turns(bench, [bench.ours, bench.relay], measure, rounds=5)
        shown = f"{size // 1000:,} KB"
        bench.compare(f"request of {shown}: CPU", found[OURS], found[FLOOR], "us")
    for name, size, each, most in (
        ("500 KB", 500_000, 5_000, None),
        ("5 MB in 1,000 messages", 5_000_000, 5_000, 20),
        ("5 MB in one text", 5_000_000, 5_000_000, None),
    ):
        await beside(bench, name, size, each, most)


async def beside(bench: Bench, name: str, size: int, each: int, most: float | None) -> None:
    async def measure(server: Server) -> float:
        data = request(model_of(server, "short"), messages_of(size, each=each))
        stream, other = await connect(server.port), await connect(server.port)
        reading = asyncio.ensure_future(stream.ask(request(model_of(server, "paced-400-5"), stream=True)))
        await asyncio.sleep(0.3)
        began = time.perf_counter()
        await other.ask(data)
        ended = time.perf_counter()
        await asyncio.sleep(0.05)
        moments = [moment for moment in stream.reads if moment > began - 0.02]
        gaps = [b - a for a, b in itertools.pairwise(moments) if a < ended + 0.02]
        reading.cancel()
        stream.transport.abort()
        other.transport.abort()
        return max(0.0, max(gaps) - 0.005) * 1000

    found = await by_turns(bench, [bench.ours, bench.relay], measure)
    waits = sorted(found[OURS])
    middle = statistics.median(waits)
    shown = f"{waits[0]:.1f} / {middle:.1f} / {waits[-1]:.1f} ms"
    values = (f"{middle:.1f} ms", f"{statistics.median(found[FLOOR]):.1f} ms")
    bar = "" if most is None else f"<= {most:g} ms"
    is_met = None if most is None else middle <= most
    bench.row(f"a stream's wait beside a request of {name}", *values, shown, bar, is_met=is_met)


async def memory(bench: Bench) -> None:
    server = bench.start_ours(name="memory")
    idle = rss_kilobytes(server.process.pid)
    bench.row("RSS idle", f"{idle / 1024:.1f} MB", "", "", "< 35 MB", is_met=idle < 35 * 1024)
    await server.clients.run(request("bench-fast-200", stream=True), total=50, concurrency=4)
    warm = rss_kilobytes(server.process.pid)
    count = 1000
    asking = []
    for opened in range(50, count + 1, 50):  # not all in one moment: what one needs to begin, the next can use again
        for client in (await server.clients.some(opened))[-50:]:
            asking.append(asyncio.ensure_future(client.ask(request("bench-held-1", stream=True))))
        while not all(client.reads for client in await server.clients.some(opened)):
            await asyncio.sleep(0.01)
    held = rss_kilobytes(server.process.pid)
    each = (held - warm) / count
    bench.row("RSS an open stream", f"{each:.1f} KB", "", "", "< 20 KB", is_met=each < 20)
    server.clients.close()
    await asyncio.gather(*asking, return_exceptions=True)
    await asyncio.sleep(1)
    after = rss_kilobytes(server.process.pid)
    bench.row("RSS after 1,000 streams", f"{after / 1024:.1f} MB", f"warm {warm / 1024:.1f} MB", "")


async def churn(bench: Bench) -> None:
    """Memory while 1,000 streams stay open and connections come and go beside them. asyncio's transports are cycles:
    what a closed connection leaves waits for the collector, so the first ten thousands show a rise that then ends."""
    server = bench.start_ours(name="churn")
    held = await server.clients.some(1000)
    asking = [asyncio.ensure_future(client.ask(request("bench-held-1", stream=True))) for client in held]
    while not all(client.reads for client in held):
        await asyncio.sleep(0.05)
    data = request("bench-fast-1", stream=True)

    async def come_and_go(count: int) -> None:
        for _ in range(count):
            client = await connect(server.port)
            await client.ask(data)
            await asyncio.sleep(0.05)  # old enough for the collector's last generation
            client.transport.abort()

    sizes = []
    for _ in range(10):
        await asyncio.gather(*(come_and_go(50) for _ in range(200)))
        sizes.append(rss_kilobytes(server.process.pid) / 1024)
    server.clients.close()
    await asyncio.gather(*asking, return_exceptions=True)
    ratio = sizes[9] / sizes[3]
    shown = f"after 10,000: {sizes[0]:.1f} MB"
    bench.row(
        "RSS, 1,000 streams, after 100,000 connections beside",
        f"{sizes[9]:.1f} MB",
        f"40,000: {sizes[3]:.1f} MB",
        f"{ratio:.3f}; {shown}",
        "<= 1.05",
        is_met=ratio <= 1.05,
    )


async def start(bench: Bench) -> None:
    zipapp = ROOT / "dist" / "agproxy.pyz"
    programs: list[tuple[str, tuple[str, ...]]] = [("python -m agproxy", ("-m", "agproxy"))]
    if zipapp.exists():
        programs.append(("the zipapp", ("-I", "-S", str(zipapp))))
    for name, program in programs:
        walls, cpus = [], []
        for _ in range(bench.rounds):
            began = time.perf_counter()
            server = bench.start_ours(program=program, name="start")
            walls.append(time.perf_counter() - began)
            cpus.append(server.cpu)
            server.stop()
        walls.sort()
        shown = f"{walls[0]:.3f} / {statistics.median(walls):.3f} / {walls[-1]:.3f} s"
        bench.row(
            f"start of {name} to its first /healthz",
            f"{statistics.median(walls):.3f} s",
            f"CPU {statistics.median(cpus):.3f} s",
            shown,
            "< 0.25 s",
            is_met=walls[0] < 0.25,
        )


async def tls(bench: Bench) -> None:
    """Upstream over TLS: a request, and a chunk of a fast stream."""
    openssl = shutil.which("openssl")
    if openssl is None:
        print("TLS: there is no openssl command to make a certificate with")
        return
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "key.pem"]
    names = ["-subj", "/CN=bench", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    subprocess.run(
        [openssl, "req", "-x509", *key, "-out", "ca.pem", *names], cwd=bench.home, check=True, capture_output=True
    )
    ca, both = Path(bench.home, "ca.pem"), Path(bench.home, "both.pem")
    both.write_text(ca.read_text() + Path(bench.home, "key.pem").read_text())
    upstream = bench.start_small("upstream", "upstream.py", "--tls", str(both))
    relay = bench.start_small(FLOOR, "relay.py", str(upstream.port), str(ca))
    ours = bench.start_ours("--upstream-url", f"https://127.0.0.1:{upstream.port}", "--ca-file", str(ca), name=OURS)
    for what, shape, chunks, total in (("a request", "short", 1, 500), ("a chunk", "fast-200", 200, 30)):

        async def measure(server: Server, shape: str = shape, chunks: int = chunks, total: int = total) -> float:
            data = request(model_of(server, shape), stream=chunks > 1)
            cpu = server.cpu
            await server.clients.run(data, total=total, concurrency=4)
            return (server.cpu - cpu) / total / chunks * 1e6

        found = await by_turns(bench, [ours, relay], measure)
        bench.compare(f"upstream over TLS: CPU {what}", found[OURS], found[FLOOR], "us")


async def workers(bench: Bench) -> None:
    """Two workers beside one: requests that are large enough for the gateway, not load and upstream, to be what the
    machine's two cores are busy with."""
    upstream = ("--upstream-url", f"http://127.0.0.1:{bench.upstream.port}")
    one = bench.start_ours(*upstream, name="one")
    two = bench.start_ours(*upstream, "--workers", "2", name="two")
    for size, total in ((1_000, 1500), (50_000, 600), (500_000, 80)):
        data = request("bench-short", messages_of(size))

        async def measure(server: Server, data: bytes = data, total: int = total) -> float:
            began = time.perf_counter()
            await server.clients.run(data, total=total, concurrency=32)
            return total / (time.perf_counter() - began)

        found = await by_turns(bench, [one, two], measure)
        ratios = sorted(b / a for a, b in zip(found["one"], found["two"], strict=True))
        middle = statistics.median(ratios)
        bench.row(
            f"2 workers beside 1: requests a second of {size // 1000} KB",
            f"{statistics.median(found['two']):,.0f} /s",
            f"{statistics.median(found['one']):,.0f} /s",
            f"{ratios[0]:.2f} / {middle:.2f} / {ratios[-1]:.2f}",
            ">= 1.7" if size == 500_000 else "",
            is_met=middle >= 1.7 if size == 500_000 else None,
        )


async def others(bench: Bench) -> None:
    """Requests a second at concurrency 16, beside the peers that are installed."""
    home = Path(bench.home)
    for name, peer in peers.PEERS.items():
        program = peers.find(name, bench.peers)
        if program is None:
            print(f"{name}: not installed (see peers.py)")
            continue
        port = free_port()
        command = peer.command(program, home, port, bench.upstream.port)
        with (home / f"{name}.log").open("w") as log:
            process = subprocess.Popen(command, env=peers.environment(home), cwd=home, stdout=log, stderr=log)
        server = Server(name, process, port)
        bench.stack.callback(server.stop)
        data = peer.data(bench.upstream.port)
        try:
            await until_it_answers(server, data)
        except RuntimeError as error:
            print(f"{error}\n{(home / f'{name}.log').read_text()[-1000:]}")
            continue

        async def measure(server: Server, name: str = name, data: bytes = data) -> tuple[float, float]:
            is_peer = server.name == name
            cpu, began = server.cpu, time.perf_counter()
            done = 0
            while (seconds := time.perf_counter() - began) < 1.0:
                await server.clients.run(data if is_peer else request("bench-short"), total=100, concurrency=16)
                done += 100
            return done / seconds, (server.cpu - cpu) / done * 1e6

        found = await by_turns(bench, [bench.ours, server], measure, rounds=5)
        bench.compare(f"CPU a request beside {name}", *columns(found[OURS], found[name], 1), "us")
        ours, theirs = columns(found[OURS], found[name], 0)
        ratios = sorted(a / b for a, b in zip(ours, theirs, strict=True))
        middle = statistics.median(ratios)
        shown = f"{ratios[0]:.1f} / {middle:.1f} / {ratios[-1]:.1f}"
        values = (f"{statistics.median(ours):,.0f} /s", f"{statistics.median(theirs):,.0f} /s")
        bar, is_met = ("", None) if peer.least is None else (f">= {peer.least:g}", middle >= peer.least)
        bench.row(f"requests a second beside {name}, 16 at once", *values, shown, bar, is_met=is_met)
        server.stop()


async def until_it_answers(server: Server, data: bytes) -> None:
    deadline = time.perf_counter() + 60
    while True:
        try:
            client = await connect(server.port)
            await client.ask(data)
            client.transport.abort()
            return
        except (OSError, RuntimeError) as error:
            if time.perf_counter() > deadline or server.process.poll() is not None:
                raise RuntimeError(f"{server.name} does not answer: {error}") from None
            await asyncio.sleep(0.2)


PARTS: dict[str, Callable] = {
    "start": start,
    "memory": memory,
    "churn": churn,
    "unary": unary,
    "fast": fast,
    "paced": paced,
    "first_byte": first_byte,
    "large": large,
    "tls": tls,
    "workers": workers,
    "peers": others,
}


async def run(options: argparse.Namespace) -> int:
    with ExitStack() as stack:
        bench = Bench(stack, options.python, options.rounds, dict(pair.split("=", 1) for pair in options.peer))
        print(f"{'':<52} {OURS:>16} {FLOOR:>16}  {'ratio min / median / max':<26} bar")
        for name in options.parts or PARTS:
            await PARTS[name](bench)
    print("missed: " + ("; ".join(bench.missed) or "none"))
    return 1 if options.check and bench.missed else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help="of " + ", ".join(PARTS))
    parser.add_argument("--python", default=sys.executable, help="interpreter of the servers")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PROGRAM", help="where a peer is")
    parser.add_argument("--check", action="store_true", help="exit status 1 where a bar is missed")
    options = parser.parse_args()
    if unknown := [part for part in options.parts if part not in PARTS]:
        parser.error(f"there is no part {unknown[0]!r}, but {', '.join(PARTS)}")
    return asyncio.run(run(options))


if __name__ == "__main__":
    sys.exit(main())
