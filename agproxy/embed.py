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
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from . import pool
from .config import Config
from .gateway import Gateway
from .http11 import Send
from .io.client import Client
from .io.server import Server

_SIMULATED = pool.Account(id="simulated", key="simulated", label="simulator")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """A way to upstream: `send` makes calls below `base_url` with the key of one of the accounts."""

    send: Send
    base_url: str
    accounts: tuple[pool.Account, ...]
    is_simulated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A gateway that listens. bound: (address, port) of each listener. close: stop listening, and let open answers
    go on for so many seconds."""

    bound: tuple[tuple[str, int], ...]
    reach: Reach
    gateway: Gateway
    close: Callable[[float], Awaitable[None]]

    @property
    def urls(self) -> tuple[str, ...]:
        """The base URLs for clients."""
        return tuple(f"http://{f'[{host}]' if ':' in host else host}:{port}/v1" for host, port in self.bound)


async def serve(
    config: Config | None = None,
    *,
    accounts: Iterable[pool.Account] | None = None,
    on_ready: Callable[[Running], None] | None = None,
) -> None:
    """Run the gateway until this task is cancelled.

    accounts: where answers come from; None takes those of GEMINI_API_KEY. on_ready is called once it listens, with
    the addresses. Cancelled, it lets open answers go on for `drain_seconds`; cancelled again, it cuts them. Raises
    ConfigError where it cannot listen.
    """
    known = pool.from_environment(os.environ) if accounts is None else tuple(accounts)
    async with listening(config or Config(), known) as running:
        if on_ready is not None:
            on_ready(running)
        await asyncio.get_running_loop().create_future()


@asynccontextmanager
async def listening(config: Config, accounts: tuple[pool.Account, ...]) -> AsyncIterator[Running]:
    """A gateway that listens within the block and is stopped after it, however the block ends."""
    async with AsyncExitStack() as stack:
        reach = await stack.enter_async_context(reaching(config, accounts))
        gateway = Gateway(
            config=config,
            pool=pool.Pool(reach.accounts),
            send=reach.send,
            base_url=reach.base_url,
            now=time.time,
            clock=time.monotonic,
            new_id=lambda: os.urandom(12).hex(),
        )
        stack.push_async_callback(gateway.close)
        server = Server(config, gateway.handle, gateway.refuse, lambda: f"req_{os.urandom(16).hex()}")
        bound = await server.start([config.host], config.port)
        stack.push_async_callback(_drain, server, config.drain_seconds)
        yield Running(bound=bound, reach=reach, gateway=gateway, close=server.close)


@asynccontextmanager
async def reaching(config: Config, accounts: tuple[pool.Account, ...]) -> AsyncIterator[Reach]:
    """A client towards upstream, and where the settings say so an embedded simulated Gemini for upstream."""
    async with AsyncExitStack() as stack:
        base_url = config.upstream_url.rstrip("/")
        is_simulated = config.simulate == "on" or (config.simulate == "auto" and not accounts)
        if is_simulated:
            base_url = await stack.enter_async_context(_simulator(config))
            accounts = (_SIMULATED,)
        client = Client(config)
        stack.push_async_callback(client.close)
        yield Reach(
            send=client.send,
            base_url=f"{base_url}/{config.upstream_version}",
            accounts=accounts,
            is_simulated=is_simulated,
        )


@asynccontextmanager
async def _simulator(config: Config) -> AsyncIterator[str]:
    """The simulated Gemini on a free loopback port; its base URL."""
    from .simulator import Simulator, refuse  # here, since with real accounts nobody needs it

    server = Server(config, Simulator(), refuse, lambda: os.urandom(8).hex())
    bound = await server.start(["127.0.0.1"], 0)
    try:
        yield f"http://127.0.0.1:{bound[0][1]}"
    finally:
        await server.close(0)


async def _drain(server: Server, seconds: float) -> None:
    """Let open answers end; a second cancellation cuts them."""
    try:
        await server.close(seconds)
    except asyncio.CancelledError:
        await server.close(0)
        raise
