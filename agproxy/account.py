"""An account as the scheduler sees it: a credential, where it leads, and what its owner wants of it.

Values only. Where accounts are kept is `accounts`' matter, which of them serves next is `pool`'s.
"""

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from hashlib import sha256
from urllib.parse import quote, unquote, unquote_to_bytes

from .credentials import Credential

GEMINI, VERTEX, CODE_ASSIST = "gemini", "vertex", "code_assist"
UPSTREAMS = (GEMINI, VERTEX, CODE_ASSIST)
_LEAST_SECRET = 6  # characters; a shorter word may stand in a message by chance, and is no real key


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where an account's calls go. kind: one of UPSTREAMS. base_url and version: "" for the kind's own.

    project and location: Vertex AI's; without a project it is Vertex AI's express mode. quota_project: who pays, where
    that is not the credential's own project.
    """

    kind: str = GEMINI
    base_url: str = ""
    version: str = ""
    project: str = ""
    location: str = ""
    quota_project: str = ""


GEMINI_API = Endpoint()


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One way into upstream. `id` is short and stable and never tells the credential.

    key: the API key, "" where `credential` says how tokens are had. project: whose quota it draws on, "" for one of its
    own. priority: higher ones are asked first; weight: its share of the work beside others. models: patterns of the
    models it may serve, empty for all. most_in_flight, requests_per_minute: limits of its owner's own, 0 for none.
    proxy: the URL of its own proxy, "" for the usual way.
    """

    id: str
    key: str = field(default="", repr=False)
    credential: Credential | None = None
    label: str = ""
    email: str | None = None
    project: str = ""
    priority: int = 0
    weight: float = 1.0
    models: tuple[str, ...] = ()
    most_in_flight: int = 0
    requests_per_minute: int = 0
    endpoint: Endpoint = GEMINI_API
    proxy: str = field(default="", repr=False)

    @property
    def secrets(self) -> tuple[str, ...]:
        """All of it that must not be shown."""
        own = self.credential.secrets if self.credential is not None else ()
        return (self.key, *own, *secrets_of_url(self.proxy))

    @property
    def quota(self) -> str:
        """Whose limits it shares."""
        return f"project:{self.project}" if self.project else self.id

    def serves(self, model: str) -> bool:
        """Whether its owner lets it serve a model."""
        return not self.models or any(fnmatchcase(model, pattern) for pattern in self.models)


def share_of(account: Account, index: int, count: int) -> Account:
    """The account as one of so many workers may use it: its owner's limits are divided, and come to at least 1 each."""
    if not (account.most_in_flight or account.requests_per_minute):
        return account

    def share(limit: int) -> int:
        return max(limit // count + (index < limit % count), 1) if limit else 0

    return replace(
        account,
        most_in_flight=share(account.most_in_flight),
        requests_per_minute=share(account.requests_per_minute),
    )


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


# --- secrets in what others write --------------------------------------------------------------------------------


def secrets_of_url(url: str) -> tuple[str, ...]:
    """The user and password in a URL, in each way in which a server may quote them."""
    written = url.partition("://")[2].rpartition("@")[0]
    if not written:
        return ()
    login = unquote(written)
    return written, login, login.partition(":")[2], base64.b64encode(unquote_to_bytes(written)).decode()


def hide(text: str, secrets: Iterable[str]) -> str:
    """The text without these secrets, as they are or percent-encoded: for passing on what others wrote."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):  # one may be a part of another
        if len(secret) >= _LEAST_SECRET:
            text = text.replace(secret, "...").replace(quote(secret, safe=""), "...")
    return text
