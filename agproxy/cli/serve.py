"""`agproxy serve`: the gateway with the user's settings, a banner, and signals to stop it."""

import argparse
import asyncio
import gc
import os
import shutil
import socket
import sys
from collections.abc import Awaitable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .. import __version__, pool
from ..accounts import usable
from ..config import Config, check_served
from ..errors import ConfigError
from ..io import logs
from ..io.descriptors import SPARE, raise_limit
from ..io.store import KeyStore
from ..io.systemd import Notifier, take_listeners
from ..keys import Ring
from .accounts import gather
from .colour import BOLD, YELLOW, paint, warn
from .common import add_settings, home_of, load, wait_for_stop
from .place import Place
from .reload import Reloader, warn_of_names
from .term import plain

if TYPE_CHECKING:
    from .common import Commands


_DESCRIPTION = """\
Run the gateway until Ctrl-C or SIGTERM; a second one cuts the answers that are still open.

Upstream accounts: GEMINI_API_KEY (else GOOGLE_API_KEY), one key or several by commas, and beside them those of
`agproxy accounts`. Every setting below can also stand in the environment (AGPROXY_PORT for --port) or in config.json
of the home folder; a flag goes before the environment, and that before config.json. `agproxy config` shows which one
holds."""


def add(commands: "Commands") -> None:
    parser = commands.add_parser(
        "serve",
        help="the gateway (what agproxy does when no command is named)",
        usage="agproxy [serve] [--home DIR] [--SETTING VALUE ...]",
        description=_DESCRIPTION,
    )
    add_settings(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    home = home_of(options, os.environ)
    place = Place.of(os.environ)
    notifier, inherited = Notifier.taken(os.environ), take_listeners(os.environ)
    reloader = Reloader(options, os.environ, notifier)  # before anything is read, so that no change is missed
    loaded = load(options, os.environ)
    logs.set_up(loaded.config.log_level, loaded.config.log_format)
    for warning in loaded.warnings if place is None else ():  # a supervisor has said them
        warn(warning)
    entries, is_whole = gather(home, os.environ)
    settings = loaded.config
    if not settings.simulates(entries if is_whole else None):
        settings = replace(settings, simulate="off")  # also where none of them is in use
    reloader.begin(loaded.config)
    accounts, ring = usable(entries), Ring(KeyStore(home, warn).load().keys)
    settings = ring.govern(settings)
    if place is not None:
        return asyncio.run(_work(settings, accounts, ring, home, reloader, place))
    warn_of_names(ring, settings)
    if settings.workers > 1:
        return _supervise(settings, accounts, ring, notifier, inherited)
    return asyncio.run(_serve(settings, accounts, ring, home, reloader, notifier, inherited))


async def _serve(
    settings: Config,
    accounts: tuple[pool.Account, ...],
    ring: Ring,
    home: Path,
    reloader: Reloader,
    notifier: Notifier,
    inherited: list[socket.socket] | None,
) -> int:
    from ..embed import listening  # here, so that the other commands start without asyncio's and TLS's weight

    most_files = raise_limit()
    async with (
        listening(settings, accounts, home, inherited, write_line=logs.write_access, keys=ring) as running,
        reloader.watching(running),
    ):
        reach = running.reach
        banner = _banner(settings, running.urls, running.unix, reach.accounts, reach.is_simulated, most_files)
        print(banner, file=sys.stderr, flush=True)
        _tune_python()

        def close(seconds: float) -> Awaitable[None]:
            notifier.stopping()
            return running.close(seconds)

        with notifier.watched():
            notifier.ready(_status(running.urls, running.unix))
            return await wait_for_stop(close, lambda: running.gateway.config.drain_seconds)


async def _work(
    settings: Config,
    accounts: tuple[pool.Account, ...],
    ring: Ring,
    home: Path,
    reloader: Reloader,
    place: Place,
) -> int:
    """One of several workers."""
    from ..embed import listening
    from ..io.workers import Worker

    raise_limit()
    folder = Path(place.folder)
    worker = Worker(folder, place.name, place.index, place.count, settings)
    async with (
        place.beating() as say_ready,
        listening(settings, accounts, home, place.sockets(), worker, logs.write_access, ring) as running,
        reloader.watching(running),
    ):
        say_ready()
        _tune_python()
        status = await wait_for_stop(running.close, lambda: running.gateway.config.drain_seconds, place.lifeline)
    if place.is_orphan and not any(folder.glob("*.sock")):  # the last one
        shutil.rmtree(folder, ignore_errors=True)
    return status


def _status(urls: tuple[str, ...], unix: tuple[str, ...]) -> str:
    return "Serving on " + ", ".join(urls + unix)


def _supervise(
    settings: Config,
    accounts: tuple[pool.Account, ...],
    ring: Ring,
    notifier: Notifier,
    inherited: list[socket.socket] | None,
) -> int:
    """Several workers, and this process to look after them."""
    from ..io import listen
    from ..io.tls import server_context
    from .workers import Supervisor, bind, command_line

    if os.name != "posix":
        raise ConfigError("workers: this platform cannot share a port between processes: run one")
    hosts = None if inherited is None else [host for host, _ in listen.bound(inherited)]
    check_served(settings, hosts, has_keys=bool(ring))
    if settings.tls_cert:
        server_context(settings.tls_cert, settings.tls_key)  # so that what is wrong with it is said once
    most_files = raise_limit()
    for account in accounts:
        if 0 < account.most_in_flight < settings.workers:
            warn(f"account {account.id}: its limit of {account.most_in_flight} requests under way is 1 in each worker")
    listeners = bind(settings) if inherited is None else [inherited] * settings.workers
    is_simulated = settings.simulates(accounts)
    urls, unix = listen.urls(listen.bound(listeners[0]), has_tls=bool(settings.tls_cert)), listen.paths(listeners[0])
    banner = _banner(settings, urls, unix, accounts, is_simulated, most_files)

    def on_ready() -> None:
        print(banner, file=sys.stderr, flush=True)
        notifier.ready(_status(urls, unix))

    return asyncio.run(Supervisor(listeners, command_line(), notifier).run(on_ready))


def _tune_python() -> None:
    """Two of Python's own settings, for a process that does nothing but this."""
    # The collector of cyclic garbage looks for some every 700 objects, of which a large request has a hundred thousand,
    # and each time that it looks at everything, at what was made at start, too. Requests leave few cycles.
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
    # How long a thread that works on a large body may keep the loop waiting, each time that it lets go of the
    # interpreter, which is at each read and write. At the default of 5 ms a chunk of a stream would wait for 15.
    sys.setswitchinterval(0.0005)


def _banner(
    settings: Config,
    urls: tuple[str, ...],
    unix: tuple[str, ...],
    accounts: tuple[pool.Account, ...],
    is_simulated: bool,
    most_files: int | None,
) -> str:
    key = "YOUR_CLIENT_KEY" if settings.effective_auth_mode != "off" else "unused"
    header = "" if key == "unused" else f" -H 'Authorization: Bearer {key}'"
    lines = [paint(f"agproxy {__version__} is ready", BOLD, sys.stderr)]
    if urls:
        lines.append(f"  base_url   {'  '.join(urls)}")
    if unix:
        lines.append(f"  socket     {'  '.join(plain(path) for path in unix)}")
    if settings.ui and urls:
        lines.append(f"  monitor    {urls[0].removesuffix('/v1')}/ui")
    lines.append(f"  auth       {settings.effective_auth_mode}")
    if settings.workers > 1:
        lines.append(f"  workers    {settings.workers}")
    if is_simulated:
        note = "*** SIMULATED GEMINI: every answer is made up on this machine, none comes from Google ***"
        lines.append(f"  upstream   {paint(note, YELLOW, sys.stderr)}")
    else:
        lines.append(f"  upstream   {settings.upstream_url}")
        known = ", ".join(
            plain(f"{account.id} ({account.label})" if account.label else account.id) for account in accounts
        )
        advice = "none in use: 'agproxy accounts add', or set GEMINI_API_KEY, or try --simulate auto"
        lines.append(f"  accounts   {known or advice}")
    wanted = settings.max_connections * 2 + SPARE
    if most_files is not None and most_files < wanted:
        note = f"the limit is {most_files}, full use of max_connections takes {wanted}: raise it with ulimit -n"
        lines.append(f"  open files {paint(note, YELLOW, sys.stderr)}")
    client, flag = "", ""
    if not urls:
        path = plain(unix[0])
        client = f', http_client=httpx.Client(transport=httpx.HTTPTransport(uds="{path}"))'
        flag = f" --unix-socket {path}"
    url = urls[0] if urls else "http://localhost/v1"
    lines += [
        f'  python     OpenAI(base_url="{url}", api_key="{key}"{client})',
        f"  curl       curl{flag}{header} {url}/chat/completions -d "
        """'{"model":"gpt-4o","messages":[{"role":"user","content":"Hello"}]}'""",
    ]
    return "\n".join(lines)
