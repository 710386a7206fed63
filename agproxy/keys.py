"""Named client keys with an end, models and limits of their own: the document of keys.json as values. Pure.

    {"version": 1,
     "keys": [{"name": "laptop", "sha256": "9f86d0...", "created": 1795000000, "expires": null, "revoked": false,
               "models": ["gemini-2.5-*"], "limits": {"requests_per_minute": 10, "tokens_per_day": 1000000}}]}

A key itself is shown once, when it is made, and kept nowhere. Its SHA-256 is enough: slow hashes protect passwords, of
which an attacker can try the likely ones; of 256 random bits none is likelier than another, and 2^256 cannot be tried
however quick the hash is. For the same reason it may be looked up in a dict: how long that takes tells nothing of it.

A name is never used twice, not after its key is revoked either: what clients keep here belongs to the name.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from hashlib import sha256
from typing import Any

from .config import Config
from .documents import BadDocument, is_whole, read

VERSION = 1
PREFIX = "agp-"
_MOST_LIMIT = 10**15
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
# Names of the gateway's own: of the admin key, and of client keys that have none.
_TAKEN = re.compile(r"admin|key\d+")
_DIGEST = re.compile("[0-9a-f]{64}")
_KNOWN = frozenset({"name", "sha256", "created", "expires", "revoked", "models", "limits"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a key may use; 0 is no limit. Tokens are those of prompts and answers."""

    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    requests_per_day: int = 0
    tokens_per_day: int = 0

    def __bool__(self) -> bool:
        return any(getattr(self, name) for name in LIMITS)


LIMITS = tuple(f.name for f in fields(Limits))


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key. digest: SHA-256, hex. created, expires: Unix seconds. models: patterns, none lets all through. more:
    what this version does not know."""

    name: str
    digest: str
    created: int = 0
    expires: int | None = None
    is_revoked: bool = False
    models: tuple[str, ...] = ()
    limits: Limits = Limits()
    more: Mapping[str, Any] = field(default_factory=dict)

    def refusal(self, now: float) -> str:
        """Why it opens nothing, "" where it does."""
        if self.is_revoked:
            return "it has been revoked"
        if self.expires is not None and now >= self.expires:
            return "it has expired"
        return ""

    def may_use(self, *names: str) -> bool:
        """Whether a model may be asked that goes by these names."""
        return not self.models or any(fnmatchcase(n.lower(), p.lower()) for n in names for p in self.models)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """The whole file."""

    keys: tuple[Key, ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict)
    notices: tuple[str, ...] = ()

    def find(self, name: str) -> Key | None:
        return next((key for key in self.keys if key.name == name), None)


class Ring:
    """The keys of a document, for looking up."""

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        self.keys = tuple(keys)
        self._by_digest = {key.digest: key for key in self.keys}
        self.by_name = {key.name: key for key in self.keys}
        self.has_limits = any(key.limits for key in self.keys)

    def __bool__(self) -> bool:
        return bool(self.keys)

    def find(self, given: str) -> Key | None:
        """The key that a client brings, expired and revoked ones too."""
        return self._by_digest.get(digest_of(given)) if given.startswith(PREFIX) else None

    def govern(self, config: Config) -> Config:
        """The settings where there are these keys: what `auth_mode` leaves to agproxy is then to ask for them."""
        if self.keys and config.auth_mode == "auto":
            return replace(config, auth_mode="all_except_health")
        return config


def digest_of(text: str) -> str:
    """As keys.json keeps a key. Header text is latin-1 by contract."""
    return sha256(text.encode("latin-1", "backslashreplace")).hexdigest()


def check_name(name: str, taken: Iterable[str] = ()) -> None:
    """Raises ValueError for a name that no key may have."""
    if not _NAME.fullmatch(name):
        raise ValueError("a name of 1 to 64 letters, digits and . _ @ - was expected, the first a letter or a digit")
    if _TAKEN.fullmatch(name) or name in taken:
        raise ValueError(f"the name {name} is taken")


# --- text <-> document -----------------------------------------------------------------------------------------


def decode(data: bytes) -> Document:
    """The document of a file. Raises BadDocument or NewerDocument."""
    rows, more = read(data, "keys", VERSION)
    keys = tuple(_decode_key(row, f"keys[{index}]") for index, row in enumerate(rows))
    for attribute, name in (("name", "name"), ("digest", "sha256")):
        seen: dict[str, int] = {}
        for index, key in enumerate(keys):
            if (first := seen.setdefault(getattr(key, attribute), index)) != index:
                raise BadDocument(f"keys[{index}].{name}: it is that of keys[{first}] too")
    return Document(keys=keys, more=more)


def _decode_key(row: Any, path: str) -> Key:
    if not isinstance(row, dict):
        raise BadDocument(f"{path}: an object was expected")
    name, digest, models = row.get("name"), row.get("sha256"), row.get("models", [])
    created, expires, is_revoked = row.get("created", 0), row.get("expires"), row.get("revoked", False)
    if not isinstance(name, str):
        raise BadDocument(f"{path}.name: text was expected")
    try:
        check_name(name)
    except ValueError as error:
        raise BadDocument(f"{path}.name: {error}") from None
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise BadDocument(f"{path}.sha256: 64 hex digits were expected")
    if not is_whole(created) or not (expires is None or is_whole(expires)):
        raise BadDocument(f"{path}: created and expires: Unix seconds were expected, or null for expires")
    if not isinstance(is_revoked, bool):
        raise BadDocument(f"{path}.revoked: true or false was expected")
    if not isinstance(models, list) or not all(isinstance(model, str) and model for model in models):
        raise BadDocument(f"{path}.models: a list of patterns was expected")
    return Key(
        name=name,
        digest=digest,
        created=created,
        expires=expires,
        is_revoked=is_revoked,
        models=tuple(models),
        limits=_decode_limits(row.get("limits", {}), f"{path}.limits"),
        more={n: v for n, v in row.items() if n not in _KNOWN},
    )


def _decode_limits(value: Any, path: str) -> Limits:
    """A limit that this version does not know could not be held to, so the file is refused."""
    if not isinstance(value, dict):
        raise BadDocument(f"{path}: an object was expected")
    for name, number in value.items():
        if name not in LIMITS:
            raise BadDocument(f"{path}: {', '.join(LIMITS)} were expected")
        if not is_whole(number) or not 0 <= number <= _MOST_LIMIT:
            raise BadDocument(f"{path}.{name}: a whole number from 0 to {_MOST_LIMIT} was expected")
    return Limits(**value)


def encode(document: Document) -> bytes:
    """The file of a document."""
    value = {"version": VERSION, "keys": [to_value(key) for key in document.keys], **document.more}
    try:
        return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
    except UnicodeEncodeError:  # a lone surrogate in a key that we do not know: UTF-8 cannot hold it, JSON can
        return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()


def to_value(key: Key) -> dict[str, Any]:
    """A key as JSON."""
    return {
        "name": key.name,
        "sha256": key.digest,
        "created": key.created,
        "expires": key.expires,
        "revoked": key.is_revoked,
        "models": list(key.models),
        "limits": {name: getattr(key.limits, name) for name in LIMITS if getattr(key.limits, name)},
        **key.more,
    }
