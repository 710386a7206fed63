"""`agproxy keys`: client keys of keys.json, and what was used by them.

A key is shown once, by `add`. A running gateway takes changes up. Exit status: 0, 2 where the command cannot be carried
out.
"""

import argparse
import datetime
import json
import os
import re
import secrets
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import keys
from ..config import PREFIX as VARIABLE_PREFIX
from ..errors import ConfigError
from ..io.store import KeyStore
from ..io.usage import FILE as USAGE_FILE
from ..io.usage import UsageFile
from ..keys import Document, Key, Limits
from ..quotas import DAY
from . import colour, common, term
from .common import add_home, home_of

if TYPE_CHECKING:
    from .common import Commands

_FLAGS = (
    ("rpm", "requests_per_minute", "requests a minute"),
    ("tpm", "tokens_per_minute", "tokens a minute, of prompts and answers"),
    ("rpd", "requests_per_day", "requests a day"),
    ("tpd", "tokens_per_day", "tokens a day"),
)
_UNITS = {"m": 60, "h": 3600, "d": DAY, "w": 7 * DAY}
_MOST_DAYS = 400
_GREEN = "32"


def add(commands: "Commands") -> None:
    parser = commands.add_parser(
        "keys",
        help="client keys with limits: add, list, show, edit, revoke, usage",
        description="Client keys of keys.json in the home folder, each with an end, models and limits of its own. "
        f"Those of {VARIABLE_PREFIX}API_KEY are used beside them, and have no limits. Days and minutes are of UTC.",
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    adding = _action(actions, "add", _add, "make a key, and print it: it is shown this once")
    adding.add_argument("name", metavar="NAME", help="who or what it is for, as logs and usage tell it")
    _add_flags(adding)
    listing = _action(actions, "list", _list, "all keys")
    listing.add_argument("--json", action="store_true", help="as JSON")
    showing = _action(actions, "show", _show, "one key: all but the key itself, which is kept nowhere")
    showing.add_argument("name", metavar="NAME")
    showing.add_argument("--json", action="store_true", help="as JSON")
    editing = _action(actions, "edit", _edit, "change the end, the models or the limits of a key")
    editing.add_argument("name", metavar="NAME")
    _add_flags(editing)
    revoking = _action(actions, "revoke", _revoke, "let keys open nothing from now on, for good")
    revoking.add_argument("names", metavar="NAME", nargs="+")
    using = _action(actions, "usage", _usage, "requests and tokens by key, day and model")
    using.add_argument("names", metavar="NAME", nargs="*", help="of these keys (default: all)")
    using.add_argument("--days", type=_days, default=7, metavar="N", help="the last so many days (default 7)")
    using.add_argument("--json", action="store_true", help="as JSON")


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--expires", type=_moment, metavar="DATE", help="2027-01-31 (its first moment), 30d, 12h; never"
    )
    parser.add_argument("--models", metavar="P,P", help="the models it may use: names or patterns with *; '*' is all")
    for flag, name, what in _FLAGS:
        parser.add_argument(f"--{flag}", dest=name, type=_count, metavar="N", help=f"{what}; 0 is no limit")


def _action(
    actions: "Commands", name: str, run: Callable[[argparse.Namespace], int], note: str
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=note, description=note[0].upper() + note[1:] + ".")
    add_home(parser)
    parser.set_defaults(run=run)
    return parser


# --- what is typed


def _count(text: str) -> int:
    if not re.fullmatch(r"\d{1,15}", text, re.ASCII):
        raise argparse.ArgumentTypeError("a whole number was expected")
    return int(text)


def _days(text: str) -> int:
    count = _count(text)
    if not 1 <= count <= _MOST_DAYS:
        raise argparse.ArgumentTypeError(f"a number of days from 1 to {_MOST_DAYS} was expected")
    return count


def _moment(text: str) -> int:
    """Unix seconds of an end; 0 is never."""
    if text == "never":
        return 0
    if match := re.fullmatch(r"(\d{1,6})([mhdw])", text, re.ASCII):
        return int(time.time()) + int(match[1]) * _UNITS[match[2]]
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            "a date such as 2027-01-31, a time such as 30d, or never was expected"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    if moment.timestamp() <= time.time():
        raise argparse.ArgumentTypeError("that moment has passed: 'agproxy keys revoke' ends a key now")
    return int(moment.timestamp())


def _changed(key: Key, options: argparse.Namespace) -> Key:
    """A key with what the flags say."""
    limits = {name: getattr(options, name) for _, name, _ in _FLAGS if getattr(options, name) is not None}
    models = key.models
    if options.models is not None:
        models = tuple(filter(None, (word.strip() for word in options.models.split(","))))
        models = () if models == ("*",) else models
        if not models and options.models.strip() != "*":
            raise ConfigError("--models: names of models by commas were expected, or * for all")
    expires = key.expires if options.expires is None else options.expires or None
    return replace(key, limits=replace(key.limits, **limits), models=models, expires=expires)


# --- actions


def _store(options: argparse.Namespace) -> KeyStore:
    term.never_fail(sys.stdout, sys.stderr)
    return KeyStore(home_of(options, os.environ), colour.warn)


def _add(options: argparse.Namespace) -> int:
    store = _store(options)
    config = common.load(argparse.Namespace(home=options.home), os.environ).config
    text = keys.PREFIX + secrets.token_urlsafe(32)
    made = _changed(Key(name=options.name, digest=keys.digest_of(text), created=int(time.time())), options)

    def change(document: Document) -> Document:
        try:
            keys.check_name(options.name, {key.name for key in document.keys} | dict(config.api_key).keys())
        except ValueError as error:
            raise ConfigError(f"{error}. A name is never used twice, not even after its key is revoked") from None
        return replace(document, keys=(*document.keys, made))

    before, _ = store.update(change)
    print(text)
    print(f"key {made.name} is made; it is shown this once. {_told(made)}", file=sys.stderr)
    if not before.keys and config.auth_mode == "auto" and not config.allow_lan_access:
        print(
            "from now on every client has to bring a key; /metrics and /v1/agproxy/ ask for ", end="", file=sys.stderr
        )
        owners = "the admin key" if config.admin_key else "a key of AGPROXY_API_KEY" if config.api_key else ""
        print(owners or f"{VARIABLE_PREFIX}ADMIN_KEY, which is not set", file=sys.stderr)
    return 0


def _find(document: Document, name: str) -> Key:
    key = document.find(name)
    if key is None:
        raise ConfigError(
            f"no key is called {term.plain(name)[:80]}{common.nearest(name, [key.name for key in document.keys])}"
        )
    return key


def _list(options: argparse.Namespace) -> int:
    document = _store(options).load()
    now = time.time()
    if options.json:
        print(json.dumps([_shown(key, now) for key in document.keys], indent=2, ensure_ascii=False))
        return 0
    rows: list[list[term.Cell]] = [
        [
            (key.name, colour.BOLD),
            _state(key, now),
            (_date(key.expires), ""),
            (term.plain(", ".join(key.models)) or "all", ""),
            (_limits(key.limits), ""),
        ]
        for key in document.keys
    ]
    print(term.table(("NAME", "STATE", "EXPIRES", "MODELS", "LIMITS"), rows, sys.stdout))
    return 0


def _show(options: argparse.Namespace) -> int:
    key = _find(_store(options).load(), options.name)
    shown = _shown(key, time.time())
    if options.json:
        print(json.dumps(shown, indent=2, ensure_ascii=False))
        return 0
    state = _state(key, time.time())[0]
    print(f"{key.name}: {state}, made {_date(key.created)}. {_told(key)}")
    return 0


def _edit(options: argparse.Namespace) -> int:
    def change(document: Document) -> Document:
        old = _find(document, options.name)
        if old.is_revoked:
            raise ConfigError(f"the key {old.name} has been revoked: make another")
        new = _changed(old, options)
        return replace(document, keys=tuple(new if key is old else key for key in document.keys))

    _, document = _store(options).update(change)
    print(f"{options.name}: {_told(_find(document, options.name))}")
    return 0


def _revoke(options: argparse.Namespace) -> int:
    def change(document: Document) -> Document:
        chosen = {_find(document, name).name for name in options.names}
        return replace(
            document, keys=tuple(replace(k, is_revoked=True) if k.name in chosen else k for k in document.keys)
        )

    _store(options).update(change)
    for name in options.names:
        print(f"revoked: {name}")
    return 0


def _usage(options: argparse.Namespace) -> int:
    term.never_fail(sys.stdout, sys.stderr)
    file = UsageFile(Path(home_of(options, os.environ)) / USAGE_FILE)
    try:
        found = file.used(int(time.time() // DAY) - options.days + 1)
    finally:
        file.close()
    found = [used for used in found if not options.names or used.key in options.names]
    if options.json:
        rows = [{"day": _day(u.day), **{n: getattr(u, n) for n in ("key", "model", *_COUNTED)}} for u in found]
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return 0
    cells: list[list[term.Cell]] = [
        [
            (_day(used.day), ""),
            (term.plain(used.key), colour.BOLD),
            (term.plain(used.model), ""),
            *((f"{getattr(used, name):,}", "") for name in _COUNTED),
        ]
        for used in found
    ]
    heads = ("DAY", "KEY", "MODEL", "REQUESTS", "TOKENS IN", "OUT", "CACHED", "THINKING")
    print(term.table(heads, cells, sys.stdout))
    return 0


_COUNTED = ("requests", "input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")


# --- what is shown


def _shown(key: Key, now: float) -> dict[str, Any]:
    """A key as JSON, without its hash and what this version does not know."""
    value = keys.to_value(replace(key, more={}))
    del value["sha256"]
    return value | {"state": _state(key, now)[0]}


def _state(key: Key, now: float) -> term.Cell:
    if key.is_revoked:
        return "revoked", colour.YELLOW
    return ("expired", colour.YELLOW) if key.refusal(now) else ("valid", _GREEN)


def _told(key: Key) -> str:
    models = term.plain(", ".join(key.models)) or "all"
    return f"Expires: {_date(key.expires)}; models: {models}; limits: {_limits(key.limits)}."


def _limits(limits: Limits) -> str:
    told = [f"{getattr(limits, name):,} {flag.upper()}" for flag, name, _ in _FLAGS if getattr(limits, name)]
    return ", ".join(told) or "none"


def _date(seconds: int | None) -> str:
    if seconds is None:
        return "never"
    try:
        return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError, OSError):
        return str(seconds)


def _day(number: int) -> str:
    return datetime.datetime.fromtimestamp(number * DAY, datetime.UTC).strftime("%Y-%m-%d")
