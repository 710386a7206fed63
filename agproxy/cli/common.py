"""What the commands share: settings as flags, the home folder, running a server until a signal."""

import argparse
import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .. import config
from ..config import SETTINGS, Loaded
from ..io import home as home_io

if TYPE_CHECKING:
    # argparse does not say this type aloud; it is what add_subparsers returns.
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


class Help(argparse.HelpFormatter):
    """Wide enough for flags and their choices."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32, width=110)


def add_home(parser: argparse.ArgumentParser) -> None:
    """The flag for the home folder."""
    parser.add_argument(
        "--home",
        metavar="DIR",
        help="folder of config.json, accounts.json and state (AGPROXY_HOME; default by platform)",
    )


def add_settings(parser: argparse.ArgumentParser) -> None:
    """A flag for every setting but the secret ones: what stands in argv, everybody on the machine can read."""
    add_home(parser)
    for setting in SETTINGS:
        if setting.secret:
            continue
        shown = config.show(setting, setting.default) or "empty"
        note = f"{setting.help} (default {shown}{' ' + setting.unit if setting.unit else ''})".replace("%", "%%")
        if setting.kind == "bool":
            parser.add_argument(
                setting.flag, dest=setting.name, nargs="?", const="on", metavar="on|off", default=None, help=note
            )
        else:
            metavar = "|".join(setting.choices) if setting.choices else setting.kind.upper()
            parser.add_argument(setting.flag, dest=setting.name, metavar=metavar, default=None, help=note)


def home_of(options: argparse.Namespace, environ: Mapping[str, str]) -> Path:
    """--home, AGPROXY_HOME, or the platform's default."""
    return Path(options.home or environ.get("AGPROXY_HOME") or home_io.default_home(environ))


def load(options: argparse.Namespace, environ: Mapping[str, str]) -> Loaded:
    """The effective settings of a command."""
    home = home_of(options, environ)
    flags = {
        setting.name: getattr(options, setting.name)
        for setting in SETTINGS
        if getattr(options, setting.name, None) is not None
    }
    return config.load(flags, environ, home_io.read_config(home), str(home / "config.json"))


async def wait_for_stop(close: Callable[[float], Awaitable[None]], drain_seconds: float) -> int:
    """Sleep until SIGTERM or Ctrl-C, then let open answers end. A second signal ends at once with 130."""
    loop = asyncio.get_running_loop()
    signals: asyncio.Queue[int] = asyncio.Queue()
    names = [signal.SIGINT, signal.SIGTERM]
    try:
        for name in names:
            loop.add_signal_handler(name, signals.put_nowait, name)
    except NotImplementedError:  # Windows' loop has no signal handlers: the plain ones wake it up
        for name in names:
            signal.signal(name, lambda number, frame: loop.call_soon_threadsafe(signals.put_nowait, number))
    await signals.get()
    closing = asyncio.ensure_future(close(drain_seconds))
    again = asyncio.ensure_future(signals.get())
    await asyncio.wait({closing, again}, return_when=asyncio.FIRST_COMPLETED)
    if closing.done():
        again.cancel()
        await closing
        return 0
    closing.cancel()
    await asyncio.wait({closing})
    await close(0)
    return EXIT_INTERRUPTED
