"""What an account may be told beside its credential, as it stands in the accounts file.

    "project": "my-project"      whose quota it draws on: accounts that name the same one share limits
    "priority": 1                higher ones are asked first (0)
    "weight": 2.5                its share of the work beside others (1)
    "models": ["gemini-2.5-*"]   the only models it serves (all)
    "limits": {"in_flight": 4, "requests_per_minute": 60}
    "upstream": {"kind": "vertex", "project": "p", "location": "global", "base_url": ..., "version": ...,
                 "quota_project": ...}
    "disabled_reason": "..."     why agproxy itself took it out

Its own proxy stands in `secret`, since the URL may hold a password. Pure: JSON in, checked values out.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from . import jsontext
from .account import CODE_ASSIST, GEMINI_API, UPSTREAMS, VERTEX, Endpoint
from .credentials import API_KEY, COMMAND

NAMES = ("project", "priority", "weight", "models", "limits", "upstream", "disabled_reason")

_MOST_CHARACTERS = 200
_PLACE = re.compile(r"[A-Za-z0-9][\w.:-]*\Z", re.ASCII)
_URL = re.compile(r"https?://[^\s@?#]+\Z")
_PROXY = re.compile(r"(?:https?|socks5h?)://\S+\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """The fields of `account.Account` of the same names."""

    project: str = ""
    priority: int = 0
    weight: float = 1.0
    models: tuple[str, ...] = ()
    most_in_flight: int = 0
    requests_per_minute: int = 0
    endpoint: Endpoint = GEMINI_API
    proxy: str = field(default="", repr=False)


def check_name(value: Any) -> str:
    """Text that a person chose, as for a project."""
    if not isinstance(value, str) or not value.isprintable() or len(value) > _MOST_CHARACTERS:
        raise ValueError("text was expected")
    return value.strip()


def check_place(value: Any) -> str:
    """A project, a location or a version: what stands in a path of Google's."""
    if not isinstance(value, str) or len(value) > _MOST_CHARACTERS or (value and not _PLACE.match(value)):
        raise ValueError("letters, digits, dots and dashes were expected")
    return value


def check_url(value: Any) -> str:
    """The base URL of an upstream."""
    if not isinstance(value, str) or (value and not _URL.match(value)):
        raise ValueError("an https:// URL was expected")
    return value.rstrip("/")


def check_proxy(value: Any) -> str:
    """The URL of a proxy, which may hold a password. The message never quotes it."""
    if isinstance(value, str) and (not value or (_PROXY.match(value) and _has_host(value))):
        return value
    raise ValueError("a URL http://, https:// or socks5://host:port was expected")


def _has_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets that do not close, a port that is none
        return False


def check_whole(value: Any) -> int:
    """A whole number."""
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > 10**9:
        raise ValueError("a whole number was expected")
    return value


def check_count(value: Any) -> int:
    """A whole number from 0 on."""
    if check_whole(value) < 0:
        raise ValueError("a whole number from 0 on was expected")
    return int(value)


def check_weight(value: Any) -> float:
    """A share of the work."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= jsontext.MOST_FLOAT:
        raise ValueError("a number above 0 was expected")
    return float(value)


def check_models(value: Any) -> tuple[str, ...]:
    """Patterns of models."""
    if not isinstance(value, list) or not all(isinstance(word, str) and word.strip() for word in value):
        raise ValueError("a list of models was expected, where * matches anything")
    return tuple(word.strip() for word in value)


def _check_kind(value: Any) -> str:
    if value not in UPSTREAMS:
        raise ValueError(f"one of {', '.join(UPSTREAMS)} was expected")
    return str(value)


# Key in the file -> (field of Traits, check).
_OWN: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "project": ("project", check_name),
    "priority": ("priority", check_whole),
    "weight": ("weight", check_weight),
    "models": ("models", check_models),
}
_LIMITS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "in_flight": ("most_in_flight", check_count),
    "requests_per_minute": ("requests_per_minute", check_count),
}
_UPSTREAM: dict[str, Callable[[Any], str]] = {
    "kind": _check_kind,
    "base_url": check_url,
    "version": check_place,
    "project": check_place,
    "location": check_place,
    "quota_project": check_place,
}


def decode(kind: str, row: Mapping[str, Any], secret: Mapping[str, Any]) -> Traits:
    """The traits in an account's row. Keys that are not known are passed by. Raises ValueError with the path first."""
    found: dict[str, Any] = {}
    for values, prefix, table in ((row, "", _OWN), (_object(row, "limits"), "limits.", _LIMITS)):
        for name, (target, check) in table.items():
            if values.get(name) is not None:
                found[target] = _checked(f"{prefix}{name}", check, values[name])
    upstream = _object(row, "upstream")
    places = {
        name: _checked(f"upstream.{name}", check, upstream[name])
        for name, check in _UPSTREAM.items()
        if upstream.get(name) is not None
    }
    endpoint = Endpoint(**places)
    _check_endpoint(kind, endpoint)
    if secret.get("proxy") is not None:
        found["proxy"] = _checked("secret.proxy", check_proxy, secret["proxy"])
    return Traits(endpoint=endpoint, **found)


def _check_endpoint(kind: str, endpoint: Endpoint) -> None:
    if endpoint.kind == CODE_ASSIST and kind != COMMAND:
        raise ValueError(f"upstream.kind: {CODE_ASSIST} takes the token of a {COMMAND} only")
    if endpoint.kind == VERTEX and kind != API_KEY and not endpoint.project:
        raise ValueError("upstream.project: a project was expected: only API keys do without, in express mode")


def _object(row: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = row.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"{name}: an object was expected")
    return value


def _checked(path: str, check: Callable[[Any], Any], value: Any) -> Any:
    try:
        return check(value)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
