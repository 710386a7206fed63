"""`agproxy simulate`: the simulated Gemini alone, on Google's own paths."""

import argparse
import asyncio
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import Config
from ..io import logs
from .common import Help, wait_for_stop

if TYPE_CHECKING:
    from .common import Commands


def add(commands: "Commands") -> None:
    parser = commands.add_parser(
        "simulate", help="a simulated Gemini API, for tests and offline work", formatter_class=Help
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8046, help="port to listen on (default 8046; 0 takes a free one)")
    parser.add_argument("--replay", type=Path, metavar="DIR", help="answer with the recorded answers in this folder")
    parser.add_argument(
        "--delay", type=float, default=0.0, metavar="SECONDS", help="pause between streamed words (default 0)"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    logs.set_up("info")
    return asyncio.run(_simulate(options))


async def _simulate(options: argparse.Namespace) -> int:
    from ..io import listen
    from ..io.server import Server
    from ..simulator import Simulator, refuse

    settings = replace(Config(), host=options.host, port=options.port)
    simulator = Simulator(replay=options.replay, delay_seconds=options.delay)
    server = Server(settings, simulator, refuse, lambda: os.urandom(8).hex())
    listeners = listen.bind([settings.host], settings.port)
    await server.start(listeners)
    host, port = listen.bound(listeners)[0]
    print(f"simulated Gemini API on http://{host}:{port} (any key is taken)", file=sys.stderr, flush=True)
    return await wait_for_stop(server.close, lambda: 5.0)
