"""The gateway's parts put together and run inside whatever event loop is there: a program's own, or the command's.

    import agproxy, asyncio
    from agproxy.config import Config

    async def main():
        await agproxy.serve(Config(port=0), on_ready=lambda running: print(running.urls[0]))

    asyncio.run(main())

`serve` runs until it is cancelled. It installs no signal handlers, sets up no logging (the loggers are called
`agproxy.*`), reads no flags and no config.json (`agproxy.config.load` does, if a program wants that), and leaves
nothing behind in the loop. `agproxy serve` is the same with signals, a banner and the user's settings.
"""

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from . import pool
from .account import share_of
from .clients import Clients
from .config import SETTINGS, Config, check_served
from .egress import places
from .errors import ConfigError
from .gateway import Gateway
from .http11 import Send
from .io import listen
from .io.egress import Egress
from .io.fetch import Fetcher
from .io.journal import FILE as JOURNAL_FILE
from .io.journal import JournalFile
from .io.keeper import LimitsKeeper
from .io.lag import Lag
from .io.limits import LimitsFile
from .io.lines import Lines
from .io.pages import read_page
from .io.registry import Registry
from .io.revoker import Revoker
from .io.server import Server
from .io.state import FILE as STATE_FILE
from .io.state import State
from .io.threads import Threads
from .io.tls import server_context
from .io.tokens import Tokens
from .io.unix_socket import bind_unix
from .io.usage import FILE as USAGE_FILE
from .io.usage import UsageKeeper
from .io.workers import Worker
from .keys import Ring
from .scrape import Scraper, Seen

# Of signatures that workers share; their folder may lie in memory.
_MOST_SHARED_BYTES = 64 * 1024 * 1024
_SIMULATED = pool.Account(id="simulated", key="simulated-key", label="simulator")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """A way to upstream: `send` makes calls below `base_url` with the key of one of the accounts, and to no host that
    `egress` does not let through. real_url: the same where the answers are simulated, for when accounts come."""

    send: Send
    lines: Lines
    egress: Egress
    base_url: str
    real_url: str
    accounts: tuple[pool.Account, ...]
    is_simulated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A gateway that listens. bound: (address, port) of each listener that has one; unix: the paths of the others.
    close: stop listening, and let open answers go on for so many seconds. hosts: as for `check_served`. Settings and
    accounts can be changed while it runs."""

    bound: tuple[tuple[str, int], ...]
    unix: tuple[str, ...]
    hosts: tuple[str, ...] | None
    reach: Reach
    gateway: Gateway
    server: Server
    close: Callable[[float], Awaitable[None]]
    worker: Worker | None = None

    def apply(self, config: Config) -> tuple[str, ...]:
        """Swap the settings whole, for all requests to come; the names of those that only a restart can change, which
        stay as they are. Raises ConfigError for settings that no gateway starts with."""
        old = self.gateway.config
        kept = {s.name: getattr(old, s.name) for s in SETTINGS if s.restart}
        waiting = tuple(name for name, value in kept.items() if getattr(config, name) != value)
        new = self.gateway.clients.ring.govern(replace(config, **kept))
        check_served(new, self.hosts, has_keys=bool(self.gateway.clients.ring))
        self.gateway.config = self.server.config = self.reach.lines.config = new
        self._allow(self.gateway.pool.accounts)
        return waiting

    def use_keys(self, ring: Ring, config: Config) -> None:
        """Swap the client keys beside those of the settings, which are `config`. Raises ConfigError, and keeps those in
        force, where no gateway starts with them."""
        clients = self.gateway.clients
        before, clients.ring = clients.ring, ring
        try:
            self.apply(config)
        except ConfigError:
            clients.ring = before
            raise

    def renew_certificate(self) -> None:
        """Read the certificate and its key again, for connections to come. Raises ConfigError, and keeps those in
        force, where the files cannot be used."""
        config = self.gateway.config
        if config.tls_cert:
            self.server.tls = server_context(config.tls_cert, config.tls_key)

    def use(self, accounts: Iterable[pool.Account]) -> None:
        """Swap the accounts; what is known of those that stay is kept. With accounts of the user's own the embedded
        simulator, if it stands in for them, is no longer asked."""
        if self.reach.is_simulated:
            if self.gateway.config.simulate == "on":
                return
            self.gateway.base_url = self.reach.real_url
        known = _shares(accounts, self.worker)
        self._allow(known)
        self.gateway.use_accounts(known)

    def _allow(self, accounts: tuple[pool.Account, ...]) -> None:
        is_real = self.gateway.base_url == self.reach.real_url
        upstream = "" if is_real else self.gateway.base_url
        self.reach.egress.allow(places(self.gateway.config, accounts, os.environ, upstream))

    @property
    def urls(self) -> tuple[str, ...]:
        """The base URLs for clients; none where it listens on Unix sockets alone."""
        return listen.urls(self.bound, has_tls=self.server.tls is not None)


async def serve(
    config: Config | None = None,
    *,
    accounts: Iterable[pool.Account] | None = None,
    home: Path | None = None,
    on_ready: Callable[[Running], None] | None = None,
) -> None:
    """Run the gateway until this task is cancelled.

    accounts: where answers come from; None takes those of GEMINI_API_KEY. home: the folder for what is kept between
    requests; None keeps it in memory. on_ready is called once it listens, with the addresses. Cancelled, it lets open
    answers go on for `drain_seconds`; cancelled again, it cuts them. Raises ConfigError where it cannot listen.
    """
    known = pool.from_environment(os.environ) if accounts is None else tuple(accounts)
    async with listening(config or Config(), known, home) as running:
        if on_ready is not None:
            on_ready(running)
        await asyncio.get_running_loop().create_future()


@asynccontextmanager
async def listening(
    config: Config,
    accounts: tuple[pool.Account, ...],
    home: Path | None = None,
    listeners: Sequence[socket.socket] | None = None,
    worker: Worker | None = None,
    write_line: Callable[[str], None] | None = None,
    keys: Ring | None = None,
) -> AsyncIterator[Running]:
    """A gateway that listens within the block and is stopped after it, however the block ends.

    listeners: sockets that listen already, from whoever supervises this process; they are used in place of host, port
    and listen_unix, and closed at the end. worker: this process's place among those that serve one address. keys:
    client keys beside those of the settings. Raises ConfigError where the address cannot be had, or the settings would
    let anybody in or nobody.
    """
    hosts = None if listeners is None else tuple(address for address, _ in listen.bound(listeners))
    async with AsyncExitStack() as stack:
        if listeners is not None:
            stack.callback(listen.close_all, listeners)
        clients = Clients(Ring() if keys is None else keys)
        config = clients.ring.govern(config)
        check_served(config, hosts, has_keys=bool(clients.ring))
        tls = server_context(config.tls_cert, config.tls_key) if config.tls_cert else None
        if listeners is None:
            listeners = _open(config, stack)
        bound, unix = listen.bound(listeners), listen.paths(listeners)
        reach = await stack.enter_async_context(reaching(config, accounts))
        store, journal = _kept(config, home, stack)
        shared = None
        if worker is not None:
            shared = State(worker.database, max_age_seconds=86400, max_bytes=_MOST_SHARED_BYTES)
            stack.push_async_callback(shared.close)
            stack.push_async_callback(worker.close)
        revoker = None if home is None else Revoker(home)
        if revoker is not None:
            stack.push_async_callback(revoker.close)
        tokens = Tokens(reach.send, time.time, reach.egress)
        stack.push_async_callback(tokens.close)
        fetcher = Fetcher(config)
        stack.push_async_callback(fetcher.close)
        digits = _Digits().draw
        threads = Threads()
        stack.push_async_callback(threads.close)
        lag = Lag(asyncio.get_running_loop())
        lag.start()
        stack.callback(lag.stop)

        def seen() -> Seen:
            return Seen(gateway=gateway, server=server, lines=reach.lines, lag=lag)

        scraper = Scraper(seen, lambda: 0 if journal is None else journal.dropped, worker)
        stack.callback(scraper.hand_on)
        if home is not None:
            await stack.enter_async_context(UsageKeeper(home / USAGE_FILE, clients).keeping())
        gateway = Gateway(
            config=config,
            pool=pool.Pool(_shares(reach.accounts, worker)),
            send=reach.send,
            base_url=reach.base_url,
            now=time.time,
            clock=time.monotonic,
            new_id=lambda: digits(12),
            store=store,
            tokens=tokens,
            on_revoked=None if revoker is None else revoker.revoke,
            fetch=fetcher.fetch_all,
            run_in_thread=threads.run,
            workers=worker,
            shared=shared,
            write_line=write_line,
            observers=(scraper.counters.observe,) if journal is None else (scraper.counters.observe, journal.add),
            scrape=scraper.answer,
            clients=clients,
            find_entry=None if journal is None else journal.find,
            registry=None if home is None else Registry(home),
            archive=journal,
            read_page=read_page,
        )
        stack.push_async_callback(gateway.close)
        if home is not None and not reach.is_simulated:
            limits = LimitsKeeper(LimitsFile(home), gateway.pool, time.time, gateway.accounts_changed)
            await stack.enter_async_context(limits.keeping())

        server = Server(
            config, gateway.handle, gateway.refuse, lambda: f"req_{digits(16)}", gateway.cors_headers, gateway.refused
        )
        if worker is not None:
            inner = Server(config, worker.handling(gateway.handle), gateway.refuse, server.new_id)
            await inner.start([bind_unix(str(worker.socket_path), 0o600)])
            stack.push_async_callback(inner.close, 0)
        await server.start(listeners, tls)
        close = partial(_close, server, gateway)
        stack.push_async_callback(_drain, close, lambda: gateway.config.drain_seconds)
        gateway.look_ahead()
        yield Running(
            bound=bound,
            unix=unix,
            hosts=hosts,
            reach=reach,
            gateway=gateway,
            server=server,
            close=close,
            worker=worker,
        )


def _kept(config: Config, home: Path | None, stack: AsyncExitStack) -> tuple[State | None, JournalFile | None]:
    """What is kept of requests, as the settings have it. The stack closes it."""
    state = journal = None
    if config.state:
        state = State(
            None if home is None else home / STATE_FILE,
            max_age_seconds=config.state_max_age_days * 86400,
            max_bytes=config.state_max_bytes,
        )
        stack.push_async_callback(state.close)
    if config.journal and home is not None:
        journal = JournalFile(
            home / JOURNAL_FILE,
            max_age_seconds=config.journal_max_age_days * 86400,
            max_bytes=config.journal_max_bytes,
        )
        stack.push_async_callback(journal.close)
    return state, journal


async def _close(server: Server, gateway: Gateway, seconds: float) -> None:
    """Stop listening, let answers and runs end within this time, and cut the rest."""
    began = time.monotonic()
    gateway.stop_looking_on()
    await server.close(seconds)
    await gateway.drain(max(seconds - (time.monotonic() - began), 0.0))


def _open(config: Config, stack: AsyncExitStack) -> list[socket.socket]:
    """The sockets of the settings. The stack closes them."""
    listeners = listen.bind([config.host], config.port) if config.host else []
    stack.callback(listen.close_all, listeners)
    if config.listen_unix:
        listeners.append(bind_unix(config.listen_unix, int(config.unix_mode, 8)))
    return listeners


@asynccontextmanager
async def reaching(config: Config, accounts: tuple[pool.Account, ...]) -> AsyncIterator[Reach]:
    """A client towards upstream, and where the settings say so an embedded simulated Gemini for upstream."""
    async with AsyncExitStack() as stack:
        base_url = real_url = config.upstream_url.rstrip("/")
        is_simulated = config.simulates(accounts)
        if is_simulated:
            base_url = await stack.enter_async_context(_simulator(config))
            accounts = (_SIMULATED,)
        egress = Egress(places(config, accounts, os.environ, base_url if is_simulated else ""))
        lines = Lines(config, egress)
        stack.push_async_callback(lines.close)
        yield Reach(
            send=lines.send,
            lines=lines,
            egress=egress,
            base_url=f"{base_url}/{config.upstream_version}",
            real_url=f"{real_url}/{config.upstream_version}",
            accounts=accounts,
            is_simulated=is_simulated,
        )


@asynccontextmanager
async def _simulator(config: Config) -> AsyncIterator[str]:
    """The simulated Gemini on a free loopback port; its base URL."""
    from .simulator import Simulator, refuse  # here, since with real accounts nobody needs it

    server = Server(config, Simulator(), refuse, lambda: os.urandom(8).hex())
    listeners = listen.bind(["127.0.0.1"], 0)
    await server.start(listeners)
    try:
        yield f"http://127.0.0.1:{listen.bound(listeners)[0][1]}"
    finally:
        await server.close(0)


class _Digits:
    """Random hex digits for ids. They are had from the system some hundred ids at a time: each call costs 2 us."""

    def __init__(self) -> None:
        self._bytes = b""
        self._place = 0

    def draw(self, count: int) -> str:
        """The digits of so many bytes that nobody was given before."""
        begin, end = self._place, self._place + count
        if end > len(self._bytes):
            self._bytes = os.urandom(4096)
            begin, end = 0, count
        self._place = end
        return self._bytes[begin:end].hex()


async def _drain(close: Callable[[float], Awaitable[None]], seconds: Callable[[], float]) -> None:
    """Let open answers end; a second cancellation cuts them."""
    try:
        await close(seconds())
    except asyncio.CancelledError:
        await close(0)
        raise


def _shares(accounts: Iterable[pool.Account], worker: Worker | None) -> tuple[pool.Account, ...]:
    """The accounts as this process may use them."""
    if worker is None:
        return tuple(accounts)
    return tuple(share_of(account, worker.index, worker.count) for account in accounts)
