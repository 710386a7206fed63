"""Which account serves the next attempt. Pure decisions over plain state; the gateway acts on them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One way into upstream. `id` is short and stable and never tells the key."""

    id: str
    key: str = field(repr=False)
    label: str = ""
    email: str | None = None


def key_id(key: str) -> str:
    """A short name for a key that stays the same for ever and cannot be turned back."""
    return "key-" + sha256(b"agproxy account\0" + key.encode(errors="surrogatepass")).hexdigest()[:10]


def from_environment(environ: Mapping[str, str]) -> tuple[Account, ...]:
    """Accounts from GEMINI_API_KEY, else GOOGLE_API_KEY: one key, or several by commas; doubles count once."""
    for variable in ("GEMINI_API_KEY", "GOOGLE_API_KEY"):
        keys = [key.strip() for key in environ.get(variable, "").split(",")]
        found = {key_id(key): Account(id=key_id(key), key=key, label=variable) for key in keys if key}
        if found:
            return tuple(found.values())
    return ()


class Pool:
    """Round robin over the accounts: each pick starts after the last one."""

    def __init__(self, accounts: Iterable[Account]) -> None:
        self.accounts = tuple(accounts)
        self._next = 0

    def pick(self, tried: frozenset[str]) -> Account | None:
        """The next account that this request has not tried; None when all were."""
        for step in range(len(self.accounts)):
            account = self.accounts[(self._next + step) % len(self.accounts)]
            if account.id not in tried:
                self._next = (self._next + step + 1) % len(self.accounts)
                return account
        return None
