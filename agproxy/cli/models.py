"""`agproxy models`: the names that clients may use, which Gemini model each means, and which rule decides it."""

import argparse
import asyncio
import json
import os
from typing import TYPE_CHECKING

from .. import models
from ..accounts import usable
from ..config import Config
from ..errors import ConfigError, GatewayError
from ..models import Explanation
from ..pool import Account
from .accounts import gather
from .colour import BOLD, DIM, complain, paint
from .common import EXIT_FAILED, RawHelp, add_settings, home_of, load_aloud

if TYPE_CHECKING:
    from .common import Commands

_DESCRIPTION = """\
list     the names that clients may use, the Gemini model that each means, and the rule that says so
explain  which rule takes a name, why it wins, and which others would have taken it

Names: your own rules (model_map; exact ones first, then the most specific wildcard), Gemini names as they are, a
built-in table, the default model. With --upstream what the account lists counts too: it decides about -preview."""


def add(commands: "Commands") -> None:
    parser = commands.add_parser(
        "models",
        help="the names that clients may use, and which Gemini model each means",
        usage="agproxy models [list | explain NAME ...] [--upstream] [--json] [--SETTING VALUE ...]",
        description=_DESCRIPTION,
        formatter_class=RawHelp,
    )
    parser.add_argument("action", nargs="?", choices=("list", "explain"), default="list", help=argparse.SUPPRESS)
    parser.add_argument("names", metavar="NAME", nargs="*", help="with explain: what a client calls the model")
    parser.add_argument("--upstream", action="store_true", help="ask an account for the models that it may use")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_settings(parser, is_shown=False)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    if (options.action == "explain") != bool(options.names):
        raise ConfigError("say `agproxy models list` or `agproxy models explain NAME`")
    loaded = load_aloud(options, os.environ)
    listed: tuple[str, ...] = ()
    if options.upstream:
        try:
            accounts = usable(gather(home_of(options, os.environ), os.environ)[0])
            listed = asyncio.run(_ask_upstream(loaded.config, accounts))
        except GatewayError as error:
            complain(f"the model list of upstream could not be had: {error.message}")
            return EXIT_FAILED
    if options.action == "list":
        _list(loaded.config, listed, as_json=options.json)
        return 0
    found = {name: _explain(loaded.config, name, listed) for name in options.names}
    if options.json:
        print(json.dumps({name: models.as_json(one) for name, one in found.items()}, indent=2, ensure_ascii=False))
    else:
        print("\n\n".join(_tell(name, one) for name, one in found.items()))
    return 0 if all(one.winner for one in found.values()) else EXIT_FAILED


# --- list ------------------------------------------------------------------------------------------------------


def _list(settings: Config, listed: tuple[str, ...], *, as_json: bool) -> None:
    rows = models.table(settings.model_map, settings.default_model, listed)
    if as_json:
        print(json.dumps([dict(zip(("name", "model", "rule"), row, strict=True)) for row in rows], indent=2))
        return
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, model, rule in rows:
        print(f"{name:<{widths[0]}}  {model:<{widths[1]}}  {paint(rule, DIM)}")


# --- explain ---------------------------------------------------------------------------------------------------


def _explain(settings: Config, name: str, listed: tuple[str, ...]) -> Explanation:
    return models.explain(name, settings.model_map, settings.default_model, frozenset(listed))


def _tell(name: str, found: Explanation) -> str:
    lines = []
    if found.winner is None:
        lines.append(paint(f"{name} is no model here: 404 model_not_found", BOLD))
        lines.append("  why      no rule takes it; a default_model would")
    else:
        lines.append(paint(f"{name} is {found.winner.model}", BOLD))
        lines += [f"  else     {fallback}, when every account is out" for fallback in found.winner.fallbacks]
        lines.append(f"  rule     {found.winner.rule}")
        lines.append(f"  why      {models.why(found)}")
        lines += [f"  note     {note}" for note in models.notes(found.winner)]
    lines += [f"  lost     {loser.rule} ({loser.model}): {reason}" for loser, reason in found.losers]
    if found.others:
        lines.append(f"  no match {', '.join(found.others)} (model_map)")
    return "\n".join(lines)


# --- upstream --------------------------------------------------------------------------------------------------


async def _ask_upstream(settings: Config, accounts: tuple[Account, ...]) -> tuple[str, ...]:
    """The models that the first account with a key for the Gemini API may use. Raises GatewayError."""
    from ..account import GEMINI
    from ..answers import listed_models
    from ..embed import reaching
    from ..targets import target_of

    async with reaching(settings, accounts) as reach:
        account = next((one for one in reach.accounts if one.key and one.endpoint.kind == GEMINI), None)
        if account is None:
            raise ConfigError(
                "there is no account to ask: run `agproxy accounts add`, set GEMINI_API_KEY, or try --simulate on"
            )
        target = target_of(account, account.key, reach.base_url)
        return await listed_models(reach.send, target)
