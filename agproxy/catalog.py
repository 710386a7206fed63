"""Which models upstream lists, and what the names mean that clients ask for.

The list is asked for beside the requests, once in ten minutes while there are any; only who wants to see it waits for
the first one, a little.
"""

import asyncio
import logging
from collections.abc import Callable

from . import models
from .account import GEMINI
from .answers import listed_models
from .config import Config
from .errors import GatewayError, InvalidRequest
from .exchange import Upstream

log = logging.getLogger("agproxy.catalog")

_MOST_NAME_CHARACTERS = 256
_MOST_MEANINGS = 1000
# The first client that asks for the model list waits this long for upstream's, the others not at all.
_LIST_WAIT_SECONDS = 2.0
_LIST_AGE_SECONDS = 600.0
_MOST_ASKED = 3  # accounts, of which the first may be refused or out


class Catalog:
    """The models of one gateway. `listed`: names, as upstream lists them; none before it was asked."""

    def __init__(self, upstream: Upstream, clock: Callable[[], float]) -> None:
        self.listed: tuple[str, ...] = ()
        self._upstream = upstream
        self._clock = clock
        self._listed_names: frozenset[str] = frozenset()
        self._listed_at = float("-inf")
        self._listing: asyncio.Task[None] | None = None
        # What names meant under these settings. Finding it out takes 12 us, and more with each rule of model_map.
        self._meanings: dict[str, models.Resolved] = {}
        self._config: Config | None = None

    def resolve(self, name: str) -> models.Resolved:
        """The model that a name means. Raises InvalidRequest, NotFound."""
        config = self._upstream.config
        if config is not self._config:
            self._config, self._meanings = config, {}
        meaning = self._meanings.get(name)
        if meaning is None:
            meaning = self._resolve(name, config)
            if len(self._meanings) >= _MOST_MEANINGS:  # clients choose names
                self._meanings.clear()
            self._meanings[name] = meaning
        return meaning

    def _resolve(self, name: str, config: Config) -> models.Resolved:
        # What is remembered of requests goes by model, so names have a bound.
        if len(name) > _MOST_NAME_CHARACTERS:
            raise InvalidRequest(
                f"Invalid 'model': string too long. Expected a string with maximum length {_MOST_NAME_CHARACTERS}, "
                f"but got a string with length {len(name)} instead.",
                code="string_above_max_length",
                param="model",
            )
        return models.resolve(name, config.model_map, config.default_model, self._listed_names)

    # --- upstream's list

    def forget(self) -> None:
        """Upstream is another one: what it lists is asked anew."""
        self._listed_at = float("-inf")

    def renew(self) -> None:
        """Begin to ask for the list again where it is old; nobody waits for it."""
        if self.listed:
            self.look()

    async def wait(self) -> None:
        """Renew the list where it is old. While there is none yet, wait a little for it."""
        listing = self.look()
        if listing is not None and not self.listed:
            await asyncio.wait({listing}, timeout=_LIST_WAIT_SECONDS)

    def look(self) -> asyncio.Task[None] | None:
        """The look at upstream's list under way, begun here where what is known is old; None where it is new."""
        if self._listing is not None and not self._listing.done():
            return self._listing
        if not self._upstream.pool.accounts or self._clock() - self._listed_at < _LIST_AGE_SECONDS:
            return None
        self._listing = asyncio.create_task(self._ask(), name="model list")
        return self._listing

    async def close(self) -> None:
        """End the look under way."""
        if self._listing is not None and not self._listing.done():
            self._listing.cancel()
            await asyncio.wait({self._listing})

    async def _ask(self) -> None:
        """Ask one account after the other until one of them says."""
        # The other upstreams list what they have in ways of their own.
        accounts = [account for account in self._upstream.pool.accounts if account.endpoint.kind == GEMINI]
        for account in accounts[:_MOST_ASKED]:
            try:
                target = await self._upstream.target(account)
                self.listed = await listed_models(self._upstream.send, target)
            except GatewayError as error:
                self._upstream.attempts.hide_secrets(error, account)
                log.warning("the model list of upstream could not be had with %s: %s", account.id, error.message)
            else:
                self._listed_names = frozenset(self.listed)
                self._meanings = {}
                break
        self._listed_at = self._clock()
