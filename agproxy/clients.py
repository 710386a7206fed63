"""Clients with keys of keys.json: who they are, what each may still ask, what they have used. Pure.

A client without such a key costs a request one comparison. Usage is counted from the `Entry` of each request to a
model.
"""

from . import quotas
from .auth import Client
from .entries import Entry
from .errors import ClientLimited, NotFound
from .http11 import Headers
from .keys import Key, Ring
from .quotas import Meter

Use = tuple[str, int, str]
"""(name of a key, number of the day since 1970, model)."""
USES = ("requests", "input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")
# Clients name models: of more than so many in one batch the rest is one.
_MOST_USES = 10_000
_OTHER = "other"


class Clients:
    """The keys in force, and what was counted of them and not yet stored. `ring` may be replaced at any time."""

    def __init__(self, ring: Ring) -> None:
        self.ring = ring
        self.meter = Meter()
        self._uses: dict[Use, list[int]] = {}

    # --- decisions

    def begin(self, client: Client, now: float) -> None:
        """A request to a model. Raises ClientLimited where a limit of its key is used up."""
        key = client.key
        if key is None or not key.limits:
            return
        over = self.meter.begin(key, now)
        if over is not None:
            raise ClientLimited(
                quotas.message(key, over), type=quotas.KINDS[over.kind], retry_after_seconds=over.seconds
            )

    def headers(self, client: Client, now: float) -> Headers:
        """What an answer tells of the limits of its client's key."""
        key = client.key
        return quotas.headers(self.meter.standings(key, now)) if key is not None and key.limits else ()

    # --- what is counted

    def observe(self, entry: Entry) -> None:
        """A request has ended."""
        key = self.ring.by_name.get(entry.client) if entry.client is not None else None
        if key is None or not entry.model:
            return
        now = entry.at + entry.total_seconds
        tokens = entry.prompt_tokens + entry.output_tokens
        if key.limits and tokens:
            self.meter.add_tokens(key, tokens, now)
        use: Use = (key.name, int(now // quotas.DAY), entry.model)
        if use not in self._uses and len(self._uses) >= _MOST_USES:
            use = (key.name, use[1], _OTHER)
        row = self._uses.setdefault(use, [0] * len(USES))
        counts = (1, entry.prompt_tokens, entry.output_tokens, entry.cached_tokens, entry.reasoning_tokens)
        for place, count in enumerate(counts):
            row[place] += count

    def take_uses(self) -> dict[Use, list[int]]:
        """What was used since last time, to be stored."""
        taken, self._uses = self._uses, {}
        return taken

    def give_back_uses(self, uses: dict[Use, list[int]]) -> None:
        """What was taken could not be stored."""
        for use, counts in uses.items():
            row = self._uses.setdefault(use, [0] * len(USES))
            for place, count in enumerate(counts):
                row[place] += count


def check_model(key: Key | None, asked: str, model: str) -> None:
    """Refuse a model that a key may not use, by the name that was asked and by what that means. Raises NotFound: a
    model that one may not use and one that there is not look the same, as at OpenAI."""
    if key is not None and not key.may_use(asked, model):
        raise NotFound(
            f"The model `{asked[:100]}` does not exist or you do not have access to it.", code="model_not_found"
        )


def fallbacks_of(key: Key | None, asked: str, fallbacks: tuple[str, ...]) -> tuple[str, ...]:
    """Those of a model's fallbacks that a key may use."""
    return fallbacks if key is None else tuple(model for model in fallbacks if key.may_use(asked, model))
