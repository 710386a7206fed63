"""The accounts file as values: its schema, and how accounts are added, found, changed and joined with those of the
environment. Knows no files, no terminal; `io.store` keeps the bytes, `cli.accounts` speaks to the user.

    {"version": 1,
     "accounts": [
       {"id": "key-8f1f0ac3d2", "kind": "gemini_api_key", "label": "work", "email": null, "enabled": true,
        "secret": {"api_key": "AIza..."}}]}

Kinds are those of `credentials`, with their parts in `secret`; what else an account may be told is in `traits`. Two
rules hold for every kind. What is secret stands in `secret` and nowhere else. What this version does not
know, be it a key of the document, of an account or of its secret, or a whole kind, is kept as it is and written back;
a higher `version` is refused, never rewritten. A lower one would be brought up to date here.

The id of any account follows from its credential, unless the file gives another. That of a Gemini key is worked out
on reading in any case, as in the environment, so that X-Account-Id and statistics stay the same wherever the key comes
from; the one in the file is for people.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from . import credentials, traits
from .account import Account, key_id
from .credentials import API_KEY as GEMINI_API_KEY
from .credentials import Credential
from .documents import BadDocument, read
from .errors import ConfigError
from .masking import hide_secrets
from .traits import Traits

VERSION = 1

_MOST_KEY_CHARACTERS = 4096  # keys have 39 to 60; a header of upstream's server may hold 8 KB
_MOST_LABEL_CHARACTERS = 100
_MOST_EMAIL_CHARACTERS = 254  # RFC 5321, 4.5.3.1.3
_ASSIGNMENT = re.compile(r"(?:export\s+|set\s+)?[A-Za-z_]\w*\s*=")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One account of the file. `more` holds the keys that this version does not know; they may be secret too."""

    id: str
    kind: str = GEMINI_API_KEY
    label: str = ""
    email: str | None = None
    is_enabled: bool = True
    secret: Mapping[str, Any] = field(default_factory=dict, repr=False)
    more: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def key(self) -> str | None:
        """The Gemini API key, where the kind has one."""
        return str(self.secret["api_key"]) if self.kind == GEMINI_API_KEY else None

    @property
    def credential(self) -> Credential | None:
        """How its tokens are had, where the kind has no key. The decoder has checked it."""
        return credentials.read(self.kind, self.secret)

    @property
    def traits(self) -> Traits:
        """What its owner wants of it. The decoder has checked them."""
        return traits.decode(self.kind, self.more, self.secret)

    @property
    def disabled_reason(self) -> str:
        """Why agproxy itself took it out, "" where it did not."""
        reason = self.more.get("disabled_reason")
        return reason if isinstance(reason, str) and not self.is_enabled else ""

    @property
    def unknown(self) -> tuple[str, ...]:
        """Keys that this version does not know."""
        return tuple(name for name in self.more if name not in traits.NAMES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """The whole file. `notices` say what reading it put right, for the log."""

    accounts: tuple[Record, ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict, repr=False)
    notices: tuple[str, ...] = ()

    def find(self, id: str) -> Record | None:
        return next((record for record in self.accounts if record.id == id), None)


# --- text <-> document -----------------------------------------------------------------------------------------


def decode(data: bytes) -> Document:
    """The document of a file. Raises BadDocument or NewerDocument."""
    rows, more = read(data, "accounts", VERSION)
    notices: list[str] = []
    records: list[Record] = []
    places: dict[str, int] = {}
    for index, row in enumerate(rows):
        record = _decode_record(row, f"accounts[{index}]", notices.append)
        if record.id in places:
            raise BadDocument(f"accounts[{index}].id: {_quote(record.id)} is that of accounts[{places[record.id]}] too")
        places[record.id] = index
        records.append(record)
    return Document(accounts=tuple(records), more=more, notices=tuple(notices))


_KNOWN = ("id", "kind", "label", "email", "enabled", "secret")


def _decode_record(row: Any, path: str, note: Callable[[str], None]) -> Record:
    if not isinstance(row, dict):
        raise BadDocument(f"{path}: an object was expected")
    kind, label, email = row.get("kind"), row.get("label"), row.get("email")
    is_enabled, secret, given = row.get("enabled", True), row.get("secret", {}), row.get("id")
    if not isinstance(kind, str) or not kind:
        raise BadDocument(f"{path}.kind: text was expected, such as {GEMINI_API_KEY!r}")
    for name, value in (("label", label), ("email", email), ("id", given)):
        if value is not None and not isinstance(value, str):
            raise BadDocument(f"{path}.{name}: text was expected")
    if not isinstance(is_enabled, bool):
        raise BadDocument(f"{path}.enabled: true or false was expected")
    if not isinstance(secret, dict):
        raise BadDocument(f"{path}.secret: an object was expected")
    if kind == GEMINI_API_KEY:
        try:
            id = key_id(check_key(secret.get("api_key")))
        except ValueError as error:
            raise BadDocument(f"{path}.secret.api_key: {error}") from None
        if given not in (None, "", id):
            note(f"{path}.id is not that of its key: it is taken as {id}")
    else:
        try:
            credential = credentials.read(kind, secret)
        except ValueError as error:
            raise BadDocument(f"{path}.secret.{error}") from None
        id = given or (credentials.id_of(credential) if credential is not None else "")
    if not id:
        raise BadDocument(f"{path}.id: text was expected")
    more = {name: value for name, value in row.items() if name not in _KNOWN}
    if kind in credentials.KINDS:
        try:
            traits.decode(kind, more, secret)
        except ValueError as error:
            raise BadDocument(f"{path}.{error}") from None
    return Record(
        id=id,
        kind=kind,
        label=label or "",
        email=email or None,
        is_enabled=is_enabled,
        secret=secret,
        more=more,
    )


def encode(document: Document) -> bytes:
    """The file of a document: indented, since people look into it, and UTF-8."""
    rows = [
        {
            "id": record.id,
            "kind": record.kind,
            "label": record.label,
            "email": record.email,
            "enabled": record.is_enabled,
            "secret": dict(record.secret),
            **record.more,
        }
        for record in document.accounts
    ]
    value = {"version": VERSION, "accounts": rows, **document.more}
    try:
        return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
    except UnicodeEncodeError:  # a lone surrogate in a key that we do not know: UTF-8 cannot hold it, JSON can
        return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()


# --- what users type -------------------------------------------------------------------------------------------


def check_key(text: Any) -> str:
    """An API key that can travel in a header. Raises ValueError with the reason, which never quotes the key."""
    if not isinstance(text, str) or not text:
        raise ValueError("a key was expected")
    if _ASSIGNMENT.match(text):
        raise ValueError("it looks like a setting (NAME=value): give the key alone")
    if any(character in "\"'`," for character in text):
        raise ValueError("it holds quotes or commas, which no key has: give the key alone, several line by line")
    if not all("!" <= character <= "~" for character in text):
        raise ValueError("it holds spaces or characters beyond ASCII, which no key has")
    if len(text) > _MOST_KEY_CHARACTERS:
        raise ValueError(f"it is longer than {_MOST_KEY_CHARACTERS} characters, as no key is")
    return text


def check_label(text: str) -> str:
    """A label without spaces around it. Raises ValueError."""
    label = text.strip()
    if not label.isprintable() or len(label) > _MOST_LABEL_CHARACTERS:
        raise ValueError(f"up to {_MOST_LABEL_CHARACTERS} printable characters were expected")
    if hide_secrets(label) != label:
        raise ValueError("it looks like a key, and labels are shown")
    return label


def check_email(text: str) -> str:
    """An e-mail address that can travel in a header, or nothing. Raises ValueError."""
    email = text.strip()
    if not email:
        return ""
    is_plain = email.isprintable() and " " not in email and len(email) <= _MOST_EMAIL_CHARACTERS
    if not is_plain or not re.fullmatch(r"[^@]+@[^@]+", email):
        raise ValueError("an e-mail address was expected")
    return email


def _quote(word: str) -> str:
    return repr(hide_secrets(word)[:80])


# --- changes ---------------------------------------------------------------------------------------------------


def add(
    document: Document, key: str, *, label: str | None = None, email: str | None = None, is_disabled: bool = False
) -> Document:
    """The document with a Gemini key. Where it is there already, what is given (not None) takes the old one's place."""
    old = document.find(key_id(key))
    record = old or Record(id=key_id(key), secret={"api_key": key})
    if label is not None:
        record = replace(record, label=label)
    if email is not None:
        record = replace(record, email=email or None)
    if is_disabled:
        record = replace(record, is_enabled=False)
    if old is None:
        return replace(document, accounts=(*document.accounts, record))
    return _put(document, record)


def add_record(document: Document, record: Record) -> Document:
    """The document with an account of any kind; one that is there already is replaced in its place."""
    if document.find(record.id) is None:
        return replace(document, accounts=(*document.accounts, record))
    return _put(document, record)


def revoke(document: Document, id: str, reason: str) -> Document:
    """Disable an account whose credential will not serve again, with the reason."""
    record = document.find(id)
    if record is None:
        return document
    return _put(document, replace(record, is_enabled=False, more={**record.more, "disabled_reason": reason}))


def reorder(document: Document, ids: Iterable[str]) -> Document:
    """The document with these accounts first, in this order; the others follow as they were."""
    places = {id: place for place, id in enumerate(ids)}
    ordered = sorted(document.accounts, key=lambda record: places.get(record.id, len(places)))
    return replace(document, accounts=tuple(ordered))


def remove(document: Document, id: str) -> Document:
    return replace(document, accounts=tuple(record for record in document.accounts if record.id != id))


def enable(document: Document, id: str, is_enabled: bool) -> Document:
    record = document.find(id)
    if record is None:
        return document
    more = {name: value for name, value in record.more.items() if name != "disabled_reason"}
    return _put(document, replace(record, is_enabled=is_enabled, more=more))


def _put(document: Document, record: Record) -> Document:
    records = (record if other.id == record.id else other for other in document.accounts)
    return replace(document, accounts=tuple(records))


# --- file and environment together -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One account, wherever it comes from. variable: the environment variable that brings it, if one does."""

    record: Record
    variable: str | None
    is_stored: bool

    @property
    def is_known(self) -> bool:
        """Whether this version can use accounts of its kind."""
        return self.record.kind in credentials.KINDS

    @property
    def name(self) -> str:
        """What people call it: id and label, fit for a terminal."""
        name = f"{self.record.id} ({self.record.label})" if self.record.label else self.record.id
        return hide_secrets(name if name.isprintable() else ascii(name))


def merge(environment: Iterable[Account], document: Document) -> tuple[Entry, ...]:
    """All accounts: the environment's first, then the file's. The same key in both is one account, and what the file
    says of it holds: one that is disabled there is not used."""
    entries: dict[str, Entry] = {}
    for account in environment:
        record = Record(id=account.id, label=account.label, secret={"api_key": account.key})
        entries[account.id] = Entry(record=record, variable=account.label, is_stored=False)
    for record in document.accounts:
        other = entries.get(record.id)
        variable = other.variable if other is not None else None
        shown = replace(record, label=variable) if variable and not record.label else record
        entries[record.id] = Entry(record=shown, variable=variable, is_stored=True)
    return tuple(entries.values())


def usable(entries: Iterable[Entry]) -> tuple[Account, ...]:
    """The accounts that may serve requests, in order."""
    return tuple(account_of(entry) for entry in entries if entry.record.is_enabled and entry.is_known)


def account_of(entry: Entry) -> Account:
    """An account of a kind that this version knows, as the scheduler sees it."""
    record = entry.record
    told = record.traits
    return Account(
        id=record.id,
        key=record.key or "",
        credential=record.credential,
        label=record.label,
        email=record.email,
        project=told.project,
        priority=told.priority,
        weight=told.weight,
        models=told.models,
        most_in_flight=told.most_in_flight,
        requests_per_minute=told.requests_per_minute,
        endpoint=told.endpoint,
        proxy=told.proxy,
    )


def find(entries: Iterable[Entry], word: str) -> Entry:
    """The account that a word means: its id, else its label, else the beginning of its id. Raises ConfigError."""
    entries = tuple(entries)
    for fits in (
        [entry for entry in entries if entry.record.id == word],
        [entry for entry in entries if entry.record.label == word],
        [entry for entry in entries if word and entry.record.id.startswith(word)],
    ):
        if len(fits) == 1:
            return fits[0]
        if fits:
            names = ", ".join(entry.name for entry in fits[:5]) + (", ..." if len(fits) > 5 else "")
            raise ConfigError(f"{_quote(word)} means more than one account: {names}. Give an id")
    raise ConfigError(f"there is no account {_quote(word)}: 'agproxy accounts list' shows those that are")
