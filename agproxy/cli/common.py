"""What the commands share: settings as flags, the home folder, running a server until a signal."""

import argparse
import asyncio
import difflib
import signal
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from .. import config
from ..config import SETTINGS, Loaded, Setting
from ..io import home as home_io
from ..masking import hide_secrets
from .colour import complain, warn

if TYPE_CHECKING:
    # argparse does not say this type aloud; it is what add_subparsers returns.
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

# The first setting of each group, in the order of config.SETTINGS -> the group's heading in --help and README.
HEADINGS = {
    "host": "where it listens",
    "auth_mode": "who may use it",
    "upstream_url": "where answers come from",
    "model_map": "models",
    "max_attempts": "attempts",
    "thoughts": "translation",
    "fetch_media": "images and files that a request names by a URL",
    "state": "what is kept between requests",
    "journal": "the journal of requests",
    "max_connections": "limits of the server",
    "connect_timeout_seconds": "limits of the upstream client",
    "reload_seconds": "while it runs",
    "log_level": "logs",
}


class Help(argparse.HelpFormatter):
    """Wide enough for flags and their choices."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32, width=110)


class RawHelp(Help, argparse.RawDescriptionHelpFormatter):
    """The same, with the line breaks of descriptions and epilogs kept."""


class Parser(argparse.ArgumentParser):
    """A parser whose complaint is one line: argparse would print all flags above it. It takes no shortened flags,
    since a flag of tomorrow could change what they mean."""

    def __init__(self, **options: Any) -> None:
        usual: dict[str, Any] = {"formatter_class": Help, "allow_abbrev": False}
        super().__init__(**(usual | options))

    def error(self, message: str) -> NoReturn:
        # Who typed a key where none belongs should not find it in the log of a build as well.
        complain(f"{hide_secrets(message)} (see {self.prog} --help)")
        raise SystemExit(EXIT_USAGE)


def nearest(word: str, words: Iterable[str]) -> str:
    """A hint for a word that is none of these."""
    close = difflib.get_close_matches(word, list(words), 1, 0.5)
    return f"; did you mean {close[0]}?" if close else ""


def groups() -> dict[str, list[Setting]]:
    """The settings under their headings, in order."""
    found: dict[str, list[Setting]] = {}
    heading = ""
    for setting in SETTINGS:
        heading = HEADINGS.get(setting.name, heading)
        found.setdefault(heading, []).append(setting)
    return found


def add_home(parser: argparse.ArgumentParser, *, is_inner: bool = False) -> None:
    """The flag for the home folder. is_inner: the parser is of an action whose command has the flag as well."""
    parser.add_argument(
        "--home",
        metavar="DIR",
        default=argparse.SUPPRESS if is_inner else None,  # a default would take the place of what the command was told
        help="folder of config.json, accounts.json and state (AGPROXY_HOME; default by platform)",
    )


def add_settings(parser: argparse.ArgumentParser, *, is_shown: bool = True, is_inner: bool = False) -> None:
    """A flag for every setting but the secret ones: what stands in argv, everybody on the machine can read.

    is_shown: whether --help tells them; one command that does is enough. is_inner: as for `add_home`.
    """
    add_home(parser, is_inner=is_inner)
    for heading, settings in groups().items():
        group = parser.add_argument_group(heading if is_shown else None)
        for setting in settings:
            if not setting.secret:
                _add_flag(group, setting, is_shown)
    if not is_shown:
        parser.epilog = "--SETTING VALUE: all settings of `agproxy serve --help`, with the same meaning."
        return
    parser.formatter_class = RawHelp
    secrets = "\n".join(f"  {s.variable:<24}{s.help}" for s in SETTINGS if s.secret)
    parser.epilog = f"only in the environment or in config.json, since other users can read flags:\n{secrets}"


def _add_flag(group: "argparse._ArgumentGroup", setting: Setting, is_shown: bool) -> None:
    shown = config.show(setting, setting.default) if setting.default not in ("", ()) else "none"
    note = f"{setting.help} (default {shown}{' ' + setting.unit if setting.unit else ''})".replace("%", "%%")
    if not is_shown:
        note = argparse.SUPPRESS
    if setting.kind == "bool":
        group.add_argument(
            setting.flag, dest=setting.name, nargs="?", const="on", metavar="on|off", default=None, help=note
        )
    else:
        metavar = "|".join(setting.choices) if setting.choices else setting.kind.upper()
        group.add_argument(setting.flag, dest=setting.name, metavar=metavar, default=None, help=note)


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


def load_aloud(options: argparse.Namespace, environ: Mapping[str, str]) -> Loaded:
    """The effective settings of a command; what is odd about them is said."""
    loaded = load(options, environ)
    for warning in loaded.warnings:
        warn(warning)
    return loaded


async def wait_for_stop(
    close: Callable[[float], Awaitable[None]], drain_seconds: Callable[[], float], lifeline: int | None = None
) -> int:
    """Sleep until SIGTERM or Ctrl-C, then let open answers end. A second signal ends at once with 130.

    lifeline: a descriptor whose end counts as the first signal: that of whoever started this process.
    """
    loop = asyncio.get_running_loop()
    signals: asyncio.Queue[int] = asyncio.Queue()
    names = [signal.SIGINT, signal.SIGTERM]
    try:
        for name in names:
            loop.add_signal_handler(name, signals.put_nowait, name)
    except NotImplementedError:  # Windows' loop has no signal handlers: the plain ones wake it up
        for name in names:
            signal.signal(name, lambda number, frame: loop.call_soon_threadsafe(signals.put_nowait, number))
    if lifeline is not None:
        loop.add_reader(lifeline, signals.put_nowait, signal.SIGTERM)
    await signals.get()
    if lifeline is not None:
        loop.remove_reader(lifeline)
    closing = asyncio.ensure_future(close(drain_seconds()))
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
