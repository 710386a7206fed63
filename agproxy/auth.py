"""Who may ask: the key of a request against the configured keys. Pure decisions.

Clients may use the API; the owner may also look into the gateway and change it, which is all below /v1/agproxy/, and
/metrics. `admit` is the one place that tells the two apart. Keys of keys.json are never the owner's: who is given one
may be anybody.

The first of three headers that is there decides, so that a tool which sends several cannot be read two ways:
`Authorization: Bearer`, then `x-api-key` (Anthropic's clients), then `x-goog-api-key` (Google's).
"""

import hmac
from functools import lru_cache
from hashlib import sha256

from .config import Config
from .errors import Forbidden, Unauthorized
from .http11 import Headers, find, is_loopback
from .keys import Key, Ring
from .values import value_class

OWNER = "admin"
CHALLENGE = 'Bearer realm="agproxy"'
_CHALLENGE = (("www-authenticate", CHALLENGE),)
_MOST_KEPT_CHARACTERS = 200
_HEALTH = frozenset({("healthz",), ("health",), ("readyz",)})


@value_class(frozen=True, slots=True)
class Client:
    """name: of the key that a request brings, None where it brings none and needs none. key: the same, if it is one of
    keys.json."""

    name: str | None = None
    key: Key | None = None


NOBODY = Client()


def admit(config: Config, ring: Ring, headers: Headers, peer: str, parts: tuple[str, ...], now: float) -> Client:
    """Who asks. Raises what keeps it out.

    peer: the client's address. parts: of the path, as `routes.segments` reads it. now: Unix seconds.
    """
    if parts[:1] == ("ui",):  # the monitor page holds nothing: it asks for the key, and brings it for what it reads
        return NOBODY
    if is_owners(parts):
        return Client(check_owner(config, ring, headers, peer))
    key = None
    if ring and (given := client_key(headers)) is not None and (key := ring.find(given)) is not None:
        why = key.refusal(now)
        if not why:
            return Client(key.name, key)
        if config.effective_auth_mode != "off":
            raise Unauthorized(f"Incorrect API key provided: {why}.", headers=_CHALLENGE)
    return Client(check(config, headers, is_health=parts in _HEALTH))


def is_owners(parts: tuple[str, ...]) -> bool:
    """Whether a path is for the gateway's owner alone."""
    return parts[:1] == ("agproxy",) or parts == ("metrics",)


def check_owner(config: Config, ring: Ring, headers: Headers, peer: str) -> str | None:
    """Let in who brings `admin_key`, where that is set; else who brings a key of `api_key`, whatever auth_mode says;
    where there is no key at all, this machine. The key's name comes back, OWNER for the first. Raises Unauthorized,
    Forbidden."""
    keys = ((OWNER, config.admin_key),) if config.admin_key else config.api_key
    if not keys:
        if ring:  # others use this gateway, and may reach it from this machine, as through a tunnel
            raise Forbidden("This asks for agproxy's admin key, and none is set: set AGPROXY_ADMIN_KEY.")
        if is_loopback(peer):
            return None
        raise Forbidden("Without a key in the settings, only this machine may ask that.")
    name = key_name(headers, keys)
    if name is None:
        asked = "admin key (the setting admin_key)" if config.admin_key else "client key, whatever auth_mode says"
        raise Unauthorized(f"This asks for agproxy's {asked}.", headers=_CHALLENGE)
    return name


def client_key(headers: Headers) -> str | None:
    """The key that a request brings. An empty Bearer counts as absent: some tools send one when unconfigured."""
    authorization = (find(headers, "authorization") or "").strip()
    if authorization:
        scheme, _, value = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return authorization  # some tools put the bare key there; Basic and others match no key
        if value.strip():
            return value.strip()
    for name in ("x-api-key", "x-goog-api-key"):
        value_of = find(headers, name)
        if value_of is not None and value_of.strip():
            return value_of.strip()
    return None


def key_name(headers: Headers, keys: tuple[tuple[str, str], ...]) -> str | None:
    """The name of the configured key that a request brings, or None. It is compared with each one, in constant time."""
    given = client_key(headers)
    if given is None:
        return None
    # Clients bring the same few keys again. How long it takes tells only that this very one has just been here.
    digest = _given_digest(given) if len(given) <= _MOST_KEPT_CHARACTERS else _given_digest.__wrapped__(given)
    found = None
    for name, key in keys:
        if hmac.compare_digest(digest, _digest(key)):
            found = name
    return found


@lru_cache(maxsize=256)
def _given_digest(given: str) -> bytes:
    """Of a key in a header: text there is latin-1 by contract, whatever encoding the client wrote."""
    return sha256(given.encode("latin-1", "backslashreplace")).digest()


@lru_cache(maxsize=1024)
def _digest(key: str) -> bytes:
    """Of a configured key."""
    return sha256(key.encode()).digest()


def check(config: Config, headers: Headers, *, is_health: bool) -> str | None:
    """The client's key name, or None where no key is asked for. Raises Unauthorized."""
    mode = config.effective_auth_mode
    name = key_name(headers, config.api_key) if config.api_key else None
    if mode == "off" or (mode == "all_except_health" and is_health):
        return name
    if name is not None:
        return name
    if client_key(headers) is None:
        raise Unauthorized(
            "You didn't provide an API key. Send agproxy's client key as 'Authorization: Bearer YOUR_KEY'.",
            headers=_CHALLENGE,
        )
    raise Unauthorized("Incorrect API key provided: it is none of agproxy's client keys.", headers=_CHALLENGE)
