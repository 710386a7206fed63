"""The accounts of a home folder and of the environment, as a running gateway shows and changes them.

Changes go into accounts.json under its lock, as those of `agproxy accounts` do, so that every process on the folder
takes them up: see `cli/reload`. Off the event loop, since the disk may be slow.
"""

import asyncio
import logging
import os
from pathlib import Path

from .. import accounts
from ..account import from_environment
from ..accounts import Document, Entry
from ..errors import ConfigError, InvalidRequest, NotFound, StateUnavailable
from .store import AccountStore
from .watch import Stamp

log = logging.getLogger("agproxy.registry")


class Registry:
    """Accounts of one home folder."""

    def __init__(self, home: Path) -> None:
        self._store = AccountStore(home, lambda text: log.warning("%s", text))
        self._stamp: Stamp | None = ()  # of no file
        self._document: Document | StateUnavailable = Document()

    async def entries(self) -> tuple[Entry, ...]:
        """All accounts, disabled ones too; the file is read where it has changed. Raises StateUnavailable."""
        stamp = self._store.stamp()
        if stamp != self._stamp:
            try:
                self._document = await asyncio.to_thread(self._store.load)
            except ConfigError as error:
                self._document = _unavailable(error)
            self._stamp = stamp
        if isinstance(self._document, StateUnavailable):
            raise StateUnavailable(self._document.message)
        return _merged(self._document)

    async def switch(self, id: str, *, is_enabled: bool) -> None:
        """Use an account, or use it no more. Raises NotFound; InvalidRequest 409 for one that no file holds;
        StateUnavailable."""

        def change(document: Document) -> Document:
            entry = next((entry for entry in _merged(document) if entry.record.id == id), None)
            if entry is None:
                raise NotFound(f"There is no account {id[:100]!r}.", code="account_not_found")
            if not entry.is_stored:
                raise InvalidRequest(
                    f"It comes from {entry.variable}, not from accounts.json: it can only be changed there.",
                    status=409,
                    code="account_not_changeable",
                )
            return accounts.enable(document, id, is_enabled)

        try:
            await asyncio.to_thread(self._store.update, change)
        except ConfigError as error:
            raise _unavailable(error) from None


def _merged(document: Document) -> tuple[Entry, ...]:
    return accounts.merge(from_environment(os.environ), document)


def _unavailable(error: ConfigError) -> StateUnavailable:
    log.error("%s", error)
    return StateUnavailable("The accounts file cannot be used now; the log says why.")
