"""Which exchange a method and path mean. Pure; the table comes from the frontends and the gateway.

Paths are read as people write them: without /v1, with /v1 twice, with a slash too many. A pattern's `{name}` takes
one segment, `{name...}` as the last one takes the rest, since model ids may hold slashes.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote

from .errors import HttpRefused, NotFound


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """frontend: the codec whose protocol speaks here. action: what to do. by_body: (key, frontend) pairs; the first
    key that the body has decides instead of `frontend`, for paths that two protocols share. read_as: such pairs too,
    but for reading the body only; the answer is still in the path's protocol."""

    method: str
    pattern: str
    frontend: str
    action: str
    by_body: tuple[tuple[str, str], ...] = ()
    read_as: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    route: Route
    params: dict[str, str]


@lru_cache(maxsize=64)
def segments(path: str) -> tuple[str, ...]:
    """The decoded segments of a path as sent, less empty ones, every leading `v1`, and Google's own `v1beta/openai`."""
    parts = [unquote(part) for part in path.split("/") if part]
    while parts[:1] == ["v1"]:
        del parts[0]
    if parts[:2] == ["v1beta", "openai"]:
        del parts[:2]
    return tuple(parts)


def _bind(pattern: str, parts: tuple[str, ...]) -> dict[str, str] | None:
    wanted = pattern.strip("/").split("/") if pattern != "/" else []
    params: dict[str, str] = {}
    for number, want in enumerate(wanted):
        if want.endswith("...}"):
            if number >= len(parts):
                return None
            params[want[1:-4]] = "/".join(parts[number:])
            return params
        if number >= len(parts):
            return None
        if want.startswith("{"):
            params[want[1:-1]] = parts[number]
        elif want != parts[number]:
            return None
    return params if len(parts) == len(wanted) else None


def find_frontend(table: Sequence[Route], path: str, default: str) -> str:
    """The frontend in whose shape an error on this path is told, even where method or route are wrong."""
    parts = segments(path)
    for route in table:
        if _bind(route.pattern, parts) is not None:
            return route.frontend
    return default


def methods_of(table: Sequence[Route], path: str) -> tuple[str, ...]:
    """What may be done on a path, for Allow; empty but for OPTIONS where there is no such path."""
    parts = segments(path)
    found = {route.method for route in table if _bind(route.pattern, parts) is not None}
    return tuple(sorted(found | {"OPTIONS"} | ({"HEAD"} if "GET" in found else set())))


def match(table: Sequence[Route], method: str, path: str) -> Match:
    """The route of a request; HEAD is served as GET.

    Raises NotFound that names the nearest route, or HttpRefused 405 with Allow.
    """
    parts = segments(path)
    wanted = "GET" if method == "HEAD" else method
    for route in table:
        params = _bind(route.pattern, parts)
        if params is not None and route.method == wanted:
            return Match(route=route, params=params)
    allowed = methods_of(table, path)
    if allowed != ("OPTIONS",):
        raise HttpRefused(
            f"Not allowed to {method} on {path}.",
            status=405,
            code="method_not_supported",
            headers=(("allow", ", ".join(allowed)),),
        )
    patterns = [route.pattern for route in table if "{" not in route.pattern and route.pattern != "/"]
    close = difflib.get_close_matches("/" + "/".join(parts), patterns, 1, 0.4)
    hint = f" Did you mean /v1{close[0]}?" if close else ""
    raise NotFound(f"Invalid URL ({method} {path}).{hint} The base_url of this server ends in /v1.")
