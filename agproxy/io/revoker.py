"""Writes into the accounts file that an account's credential will not serve again, and why.

The gateway has taken the account out by then; the file keeps it out after a restart and tells its owner.
"""

import asyncio
import logging
from pathlib import Path

from .. import accounts
from ..account import Account
from ..errors import ConfigError
from .store import AccountStore

log = logging.getLogger("agproxy.accounts")


class Revoker:
    """Disables accounts in the accounts.json of a folder."""

    def __init__(self, home: Path) -> None:
        self._store = AccountStore(home, lambda text: log.warning("%s", text))
        self._writes: set[asyncio.Task[None]] = set()

    def revoke(self, account: Account, reason: str) -> None:
        """Write it, off the event loop. An account that is not in the file is not put there."""
        task = asyncio.get_running_loop().create_task(self._write(account.id, reason), name=f"revoke {account.id}")
        self._writes.add(task)  # the loop alone would let it be collected
        task.add_done_callback(self._writes.discard)

    async def _write(self, id: str, reason: str) -> None:
        try:
            await asyncio.to_thread(self._store.update, lambda document: accounts.revoke(document, id, reason))
        except ConfigError as error:
            log.error("%s. Account %s is out until agproxy is restarted", error, id)

    async def close(self) -> None:
        """Wait for what is being written."""
        if self._writes:
            await asyncio.wait(self._writes)
