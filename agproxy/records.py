"""What is kept between requests, as values: records, how they are read, how they are changed.

A record is one object of one client key: a response, a conversation, an item of one. Frontends say in pure code which
records a request needs (`Read`) and what becomes of them (`Change`); row 4 carries both to the `Store`, which `io`
implements. Records that belong together (a chain of responses, a conversation and its items) are kept and forgotten
together, so that no conversation loses its beginning. Knows no API's JSON and no database.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from .jsontext import JsonObject

Key = tuple[str, str]  # kind, id


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One kept object. parent: the record that it belongs to or goes on from. expires: Unix seconds, None for the
    usual age. number: its place among all records, given by the store: later ones are higher."""

    kind: str
    id: str
    body: JsonObject = field(repr=False)
    parent: Key | None = None
    expires: int | None = None
    number: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Get:
    """The record of this id: one or none."""

    kind: str
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A record and those of its kind that it goes on from, the oldest first; those that were removed since, too."""

    kind: str
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Children:
    """Records of a kind below a parent, in the order in which they came, or the newest first. after: the id of the
    record before the first wanted."""

    kind: str
    parent: Key
    after: str | None = None
    limit: int | None = None
    is_newest_first: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """Keep a record, in place of one of the same kind and id if there is one; that one's number stays."""

    record: Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Remove:
    """Forget a record and what is below it; later ones of its kind that go on from it stay usable."""

    kind: str
    id: str


Read = Get | Chain | Children
Change = Put | Remove
Found = Mapping[Read, tuple[Record, ...]]


class Store(Protocol):
    """Where records are. `owner` is a client key's name: no owner's calls reach another's records.

    Both calls raise StateUnavailable where the store cannot be used.
    """

    async def read(self, owner: str, reads: Sequence[Read], now: float) -> list[tuple[Record, ...]]:
        """The records of each read, all of one moment."""
        ...

    async def write(self, owner: str, changes: Sequence[Change], now: float) -> None:
        """Make all changes, or none."""
        ...


# --- resource routes -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request to a resource route. params: from the path; query: from the URL, each name with all its values.

    id: random hex, at least 24 digits, for what is made; now: Unix seconds.
    """

    action: str
    params: Mapping[str, str]
    query: Mapping[str, Sequence[str]]
    body: JsonObject = field(repr=False)
    id: str
    now: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a resource route answers, and what it changes."""

    body: JsonObject = field(repr=False)
    changes: tuple[Change, ...] = ()
