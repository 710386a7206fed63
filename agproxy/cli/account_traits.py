"""The flags that say what an account is told beside its credential, for `accounts add` and `accounts edit`."""

import argparse
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from .. import jsontext, traits
from ..account import UPSTREAMS
from ..accounts import Record
from ..errors import ConfigError


def _number(text: str) -> Any:
    try:
        return jsontext.loads(text)
    except ValueError:
        return text


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


# Flag -> (path in the account's row, how its text is read, what --help says).
_FLAGS: dict[str, tuple[tuple[str, ...], Callable[[str], Any], str]] = {
    "project": (("project",), str, "whose quota it draws on; accounts that name the same project share limits"),
    "priority": (("priority",), _number, "accounts with a higher number are asked first (0)"),
    "weight": (("weight",), _number, "its share of the work beside others (1)"),
    "models": (("models",), _words, "the only models it serves, several by commas, * matches anything (all)"),
    "in-flight": (("limits", "in_flight"), _number, "most requests under way at once (0: no limit)"),
    "rpm": (("limits", "requests_per_minute"), _number, "most requests a minute (0: no limit)"),
    "upstream": (("upstream", "kind"), str, f"where its calls go: {', '.join(UPSTREAMS)}"),
    "upstream-base": (("upstream", "base_url"), str, "another base URL, without the version"),
    "upstream-api": (("upstream", "version"), str, "another version in the path"),
    "upstream-project": (("upstream", "project"), str, "Google Cloud project in the path of vertex, or of code_assist"),
    "location": (("upstream", "location"), str, "location in the path of vertex (global)"),
    "quota-project": (("upstream", "quota_project"), str, "who pays: x-goog-user-project"),
    "proxy": (("proxy",), str, "its own proxy; one with a password belongs into accounts.json by hand"),
}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags, in a group of their own."""
    group = parser.add_argument_group("what the account is for ('' takes a value back)")
    for flag, (_, _, note) in _FLAGS.items():
        group.add_argument(f"--{flag}", dest=_name(flag), metavar="VALUE", help=note)


def _name(flag: str) -> str:
    return "trait_" + flag.replace("-", "_")


def apply(record: Record, options: argparse.Namespace) -> Record:
    """The record with what the flags say. Raises ConfigError naming the flag."""
    more, secret = dict(record.more), dict(record.secret)
    for flag, (path, read, _) in _FLAGS.items():
        text = getattr(options, _name(flag), None)
        if text is None:
            continue
        if flag == "proxy" and "@" in text:
            raise ConfigError("--proxy: a password is not taken from the command line, which everybody can read")
        _put(secret if flag == "proxy" else more, path, read(text) if text else None)
        try:
            traits.decode(record.kind, _alone(more, path) if flag != "proxy" else {}, secret)
        except ValueError as error:
            if not _is_about_others(error):
                raise ConfigError(f"--{flag}: {error}") from None
    try:
        traits.decode(record.kind, more, secret)
    except ValueError as error:
        raise ConfigError(f"{record.id}: {error}") from None
    return replace(record, more=more, secret=secret)


def _put(row: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    """Set a value in a row, or take it out; an object that is empty then goes too."""
    *outer, name = path
    target = row
    if outer:
        inner = row.get(outer[0])
        target = dict(inner) if isinstance(inner, dict) else {}
    if value is None:
        target.pop(name, None)
    else:
        target[name] = value
    if outer and target:
        row[outer[0]] = target
    elif outer:
        row.pop(outer[0], None)


def _alone(row: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    """A row with nothing but what a path leads to, so that what is wrong is this flag's doing."""
    value = row.get(path[0])
    if len(path) > 1 and isinstance(value, dict):
        value = {path[1]: value[path[1]]} if path[1] in value else {}
    return {path[0]: value}


def _is_about_others(error: ValueError) -> bool:
    """Whether it is the combination that is wrong: another flag may mend it."""
    return str(error).startswith(("upstream.project: a project was expected: only", "upstream.kind: code_assist takes"))
