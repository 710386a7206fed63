"""`agproxy doctor`: looks at everything that may keep the gateway from answering, and says what to do about it.

Each check is a function that gives a Finding; those that wait for others run side by side. Nothing costs tokens but
one chat and one stream through a gateway that runs.
"""

import argparse
import asyncio
import dataclasses
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .. import accounts, pool
from ..accounts import Entry, account_of
from ..config import Config, Loaded
from ..errors import ConfigError
from ..setup import MODEL
from . import check_files, probe
from .accounts import seconds
from .colour import BOLD, RED, YELLOW, paint
from .common import EXIT_FAILED, RawHelp, add_settings, home_of, load, load_aloud
from .finding import Finding, State, skipped
from .term import plain

if TYPE_CHECKING:
    from .common import Commands

_DESCRIPTION = """\
Looks at Python, files and permissions, settings, the port, the way to Google (names, proxy, TLS, clock), each account,
and one chat and one stream through the gateway if it runs. Says of each what was found, and what to do where it is not
as it should be. The accounts are tried by counting tokens, which is free; the chat and the stream cost some tokens.

--live makes some fifteen small calls with your account, says their cost and asks before, and tells what Gemini did
otherwise than the simulator and the decoder expect. What was captured is written into a folder, without keys.

exit status: 0 nothing is broken (there may be warnings), 1 something is"""
_SECONDS = 10.0
_STYLES = {State.OK: "32", State.WARN: YELLOW, State.FAIL: RED, State.SKIPPED: "2"}


def add(commands: "Commands") -> None:
    parser = commands.add_parser(
        "doctor",
        help="what is wrong with files, settings, network, accounts, and what to do about it",
        usage="agproxy doctor [--offline | --live [--yes] [--account ID] [--output DIR]] [--json] [--model M] "
        "[--timeout SECONDS] [--SETTING VALUE ...]",
        description=_DESCRIPTION,
        formatter_class=RawHelp,
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--offline", action="store_true", help="leave out all that calls Google")
    what.add_argument(
        "--live", action="store_true", help="instead: what Gemini really does, and what is expected of it"
    )
    parser.add_argument("--yes", action="store_true", help="with --live: its cost is all right")
    parser.add_argument("--account", metavar="ID", help="with --live: the account to ask with (the first)")
    parser.add_argument("--output", metavar="DIR", help="with --live: a new folder for what is captured (doctor-TIME)")
    parser.add_argument("--json", action="store_true", help="print a JSON array of findings")
    parser.add_argument("--model", help=f"model to try (default {probe.MODEL}, with --live {MODEL})")
    parser.add_argument(
        "--timeout", type=seconds, metavar="SECONDS", help=f"for one call (default {_SECONDS:g}, with --live 120)"
    )
    add_settings(parser, is_shown=False)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    home = home_of(options, os.environ)
    if options.live:
        return _run_live(options, home)
    options.model = options.model or probe.MODEL
    options.timeout = options.timeout or _SECONDS
    loaded: Loaded | None = None
    problem = ""
    try:
        loaded = load(options, os.environ)
    except ConfigError as error:
        problem = str(error)
    entries, notices = _read_accounts(home)
    findings = [check_files.python(), check_files.home_folder(home), check_files.config_file(home, loaded, problem)]
    if loaded is None:
        findings.append(skipped("network", "nothing else can be told without the settings"))
    else:
        is_simulated = loaded.config.simulates(entries)
        findings += [
            check_files.conflicts(loaded, home),
            check_files.accounts(home, entries, notices, is_simulated=is_simulated),
            check_files.limits_file(home, time.time()),
            check_files.state_file(home, is_kept=loaded.config.state),
        ]
        used = [entry for entry in entries or () if entry.record.is_enabled]
        findings += asyncio.run(_examine(options, loaded.config, used, is_simulated))
    if options.json:
        print(json.dumps([_shown(finding) for finding in findings], indent=2, ensure_ascii=False))
    else:
        print("\n".join(_lines(findings)))
    return EXIT_FAILED if any(finding.state is State.FAIL for finding in findings) else 0


def _run_live(options: argparse.Namespace, home: Path) -> int:
    from . import live

    loaded = load_aloud(options, os.environ)
    settings = loaded.config
    entries, notices = _read_accounts(home)
    if entries is None:
        raise ConfigError("; ".join(notices))
    used = [entry for entry in entries if entry.record.is_enabled]
    return live.run(options, settings, used, is_simulated=settings.simulate == "on")


def _read_accounts(home: Path) -> tuple[tuple[Entry, ...] | None, list[str]]:
    """The accounts, None where their file cannot be read; and what there is to say of it."""
    from ..io.store import AccountStore

    notices: list[str] = []
    try:
        document = AccountStore(home, notices.append).load()
    except ConfigError as error:
        return None, [*notices, str(error)]
    return accounts.merge(pool.from_environment(os.environ), document), notices


async def _examine(
    options: argparse.Namespace, settings: Config, used: Sequence[Entry], is_simulated: bool
) -> list[Finding]:
    """All that waits for others."""
    from ..egress import places_of
    from ..io.egress import Egress
    from ..io.lines import Lines  # here, so that the other commands start without TLS's weight
    from . import check_gateway

    own = [] if (url := check_gateway.url_of(settings)) is None else [(url, "this gateway", "")]
    client = check_gateway.client_settings(settings)
    lines = Lines(client, Egress(places_of(own, client, os.environ)))
    try:
        gateway = check_gateway.gateway_of(settings, lines.send, options.timeout)
        port, upstream = await asyncio.gather(
            check_gateway.port(settings, gateway), _upstream(options, settings, used, is_simulated)
        )
        finding, is_running = port
        if gateway is None or not is_running:
            tried = [check_gateway.not_running(name) for name in ("chat", "stream")]
        elif options.offline and not is_simulated:
            tried = [skipped(name, "it would call Google (--offline)") for name in ("chat", "stream")]
        else:
            chat, stream = check_gateway.chat(gateway, options.model), check_gateway.stream(gateway, options.model)
            tried = list(await asyncio.gather(chat, stream))
    finally:
        await lines.close()
    return [finding, check_gateway.unix_socket(settings.listen_unix), *upstream, *tried]


async def _upstream(
    options: argparse.Namespace, settings: Config, used: Sequence[Entry], is_simulated: bool
) -> list[Finding]:
    from ..egress import places
    from ..io.egress import Egress
    from ..io.lines import Lines
    from . import check_upstream

    if options.offline or is_simulated:
        return [skipped("upstream", "--offline" if options.offline else "answers are simulated")]
    limit = options.timeout
    known = [account_of(entry) for entry in used if entry.is_known]
    try:
        lines = Lines(settings, Egress(places(settings, known, os.environ)))
    except ConfigError as error:  # the proxy's URL
        return [check_upstream.bad_proxy(str(error))]
    reachable = check_upstream.places_of(settings, used)
    try:
        names, proxies, reached, outcomes = await asyncio.gather(
            asyncio.gather(*(check_upstream.name(settings, place, limit) for place in reachable)),
            asyncio.gather(*(check_upstream.proxy(settings, place, limit) for place in reachable)),
            asyncio.gather(*(check_upstream.reach(lines.send, place, limit) for place in reachable)),
            probe.call_all(settings, used, options.model, limit, counts_only=True),
        )
    finally:
        await lines.close()
    by_place = [(*three[:2], check_upstream.way(three[2])) for three in zip(names, proxies, reached, strict=True)]
    tried = [check_upstream.account(*pair) for pair in zip(used, outcomes, strict=True)]
    return [*(finding for three in by_place for finding in three), check_upstream.clock(reached), *tried]


# --- what is shown ---------------------------------------------------------------------------------------------


def _shown(finding: Finding) -> dict[str, str]:
    return dataclasses.asdict(finding) | {"state": finding.state.value}


def _lines(findings: Sequence[Finding]) -> list[str]:
    width = max(len(plain(finding.name)) for finding in findings)
    lines = []
    for finding in findings:
        state = paint(f"{finding.state.value:<7}", _STYLES[finding.state], sys.stdout)
        lines.append(f"{state}  {plain(finding.name):<{width}}  {plain(finding.found)}")
        if finding.advice:
            lines.append(f"{'':<9}-> {paint(plain(finding.advice), BOLD, sys.stdout)}")
    counts = {state: sum(finding.state is state for finding in findings) for state in State}
    told = f"{counts[State.FAIL]} broken, {counts[State.WARN]} to look at, {counts[State.OK]} as they should be"
    return [*lines, "", told]
