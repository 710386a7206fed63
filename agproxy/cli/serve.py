"""`agproxy serve`: the gateway, its client, its accounts and the embedded simulator, put together and run."""

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from .. import __version__, pool
from ..config import Config
from ..io import logs
from .common import EXIT_USAGE, Help, add_settings, load, wait_for_stop

if TYPE_CHECKING:
    from .common import Commands

_SIMULATOR_KEY = "simulated"


def add(commands: "Commands") -> None:
    parser = commands.add_parser("serve", help="the gateway (default)", formatter_class=Help)
    add_settings(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    loaded = load(options, os.environ)
    logs.set_up(loaded.config.log_level)
    for warning in loaded.warnings:
        print(f"agproxy: warning: {warning}", file=sys.stderr)
    accounts = pool.from_environment(os.environ)
    return asyncio.run(_serve(loaded.config, accounts))


async def _serve(settings: Config, accounts: tuple[pool.Account, ...]) -> int:
    from ..gateway import Gateway
    from ..io.client import Client
    from ..io.server import Server

    stops: list[Callable[[], Awaitable[None]]] = []
    base_url = f"{settings.upstream_url.rstrip('/')}/{settings.upstream_version}"
    is_simulated = settings.simulate == "on" or (settings.simulate == "auto" and not accounts)
    if is_simulated:
        base_url, stop = await _embed_simulator(settings)
        stops.append(stop)
        accounts = (pool.Account(id="simulated", key=_SIMULATOR_KEY, label="simulator"),)
    client = Client(settings)
    gateway = Gateway(
        config=settings,
        pool=pool.Pool(accounts),
        send=client.send,
        base_url=base_url,
        now=time.time,
        clock=time.monotonic,
        new_id=lambda: os.urandom(12).hex(),
    )
    server = Server(settings, gateway.handle, gateway.refuse, lambda: f"req_{os.urandom(16).hex()}")
    try:
        bound = await server.start([settings.host], settings.port)
    except OSError as error:
        print(f"agproxy: cannot listen on {settings.host}:{settings.port}: {error.strerror or error}", file=sys.stderr)
        status = EXIT_USAGE
    else:
        print(_banner(settings, bound, accounts, is_simulated), file=sys.stderr, flush=True)
        status = await wait_for_stop(server.close, settings.drain_seconds)
    await gateway.close()
    await client.close()
    for stop in stops:
        await stop()
    return status


async def _embed_simulator(settings: Config) -> tuple[str, Callable[[], Awaitable[None]]]:
    """Start the simulated Gemini on a free loopback port; its base URL and how to stop it."""
    from ..io.server import Server
    from ..simulator import Simulator, refuse

    server = Server(settings, Simulator(), refuse, lambda: os.urandom(8).hex())
    bound = await server.start(["127.0.0.1"], 0)
    return f"http://127.0.0.1:{bound[0][1]}/{settings.upstream_version}", lambda: server.close(0)


def _banner(
    settings: Config, bound: Sequence[tuple[str, int]], accounts: Sequence[pool.Account], is_simulated: bool
) -> str:
    urls = [f"http://{f'[{host}]' if ':' in host else host}:{port}/v1" for host, port in bound]
    key = "YOUR_CLIENT_KEY" if settings.effective_auth_mode != "off" else "unused"
    lines = [
        f"agproxy {__version__} is ready",
        f"  base_url   {'  '.join(urls)}",
        f"  auth       {settings.effective_auth_mode}",
    ]
    if is_simulated:
        lines += [
            "  upstream   *** SIMULATED GEMINI: every answer is made up on this machine, none comes from Google ***",
        ]
    else:
        lines.append(f"  upstream   {settings.upstream_url}")
        known = ", ".join(f"{account.id} ({account.label})" for account in accounts)
        lines.append(f"  accounts   {known or 'none: set GEMINI_API_KEY, or try --simulate auto'}")
    lines += [
        f'  python     OpenAI(base_url="{urls[0]}", api_key="{key}")',
        f"  curl       curl {urls[0]}/chat/completions -d "
        """'{"model":"gpt-4o","messages":[{"role":"user","content":"Hello"}]}'""",
    ]
    return "\n".join(lines)
