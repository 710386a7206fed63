"""How much of its limits a client key has used, and whether it may ask once more. Pure: time comes in as Unix seconds.

Windows are fixed: the minutes and days of UTC. A request counts when it comes, its tokens when its answer has ended; so
one is refused when its window is used up already, and the last one let in may go beyond a limit of tokens. Around the
end of a minute a client may come to twice its limit in sixty seconds, as with any fixed window; in turn what is left,
and when there is more, can be told exactly, and processes can share their counts by adding them up.

`Meter` holds the counts of one process beside those that a store has of all of them. What it has counted is taken out
to be stored (`take`), and comes back within what all have counted (`settle`), or alone where that failed (`give_back`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from .http11 import Headers
from .keys import Key

MINUTE, DAY = 60, 86400

Window = tuple[str, int, int]
"""(name of a key, MINUTE or DAY, number of that minute or day since 1970)."""
Counts = tuple[int, int]
"""(requests, tokens)."""

_NONE: Counts = (0, 0)
REQUESTS, TOKENS = 0, 1


@dataclass(frozen=True, slots=True)
class Standing:
    """One limit of a key. kind: REQUESTS or TOKENS. seconds: until its window ends."""

    kind: int
    size: int
    limit: int
    used: int
    seconds: float

    @property
    def left(self) -> int:
        return max(self.limit - self.used, 0)


class Meter:
    """What keys have used."""

    def __init__(self) -> None:
        self._stored: dict[Window, Counts] = {}  # by all processes, this one too, as the store last said
        self._flying: dict[Window, Counts] = {}  # by this one, on their way to the store
        self._new: dict[Window, Counts] = {}  # by this one since

    # --- decisions

    def standings(self, key: Key, now: float) -> list[Standing]:
        """Each limit that a key has, and how far it is used."""
        limits = key.limits
        found: list[Standing] = []
        for size, requests, tokens in (
            (MINUTE, limits.requests_per_minute, limits.tokens_per_minute),
            (DAY, limits.requests_per_day, limits.tokens_per_day),
        ):
            if requests or tokens:
                number = int(now // size)
                used = self._used((key.name, size, number))
                seconds = (number + 1) * size - now
                if requests:
                    found.append(Standing(REQUESTS, size, requests, used[REQUESTS], seconds))
                if tokens:
                    found.append(Standing(TOKENS, size, tokens, used[TOKENS], seconds))
        return found

    def begin(self, key: Key, now: float) -> Standing | None:
        """One more request of a key with limits. What comes back is the limit that refuses it, of several the one that
        lasts longest; None where it is let in, and counted."""
        over = [standing for standing in self.standings(key, now) if not standing.left]
        if over:
            return max(over, key=lambda standing: standing.seconds)
        self._add(key, (1, 0), now)
        return None

    def add_tokens(self, key: Key, tokens: int, now: float) -> None:
        """An answer of this key has ended."""
        self._add(key, (0, tokens), now)

    def _add(self, key: Key, counts: Counts, now: float) -> None:
        limits = key.limits
        if limits.requests_per_minute or limits.tokens_per_minute:
            _count(self._new, (key.name, MINUTE, int(now // MINUTE)), counts)
        if limits.requests_per_day or limits.tokens_per_day:
            _count(self._new, (key.name, DAY, int(now // DAY)), counts)

    def _used(self, window: Window) -> Counts:
        stored, flying, new = (part.get(window, _NONE) for part in (self._stored, self._flying, self._new))
        return stored[0] + flying[0] + new[0], stored[1] + flying[1] + new[1]

    # --- what is shared

    def take(self) -> dict[Window, Counts]:
        """What was counted here since last time. Afterwards comes `settle` or `give_back`, before the next `take`."""
        self._flying, self._new = self._new, {}
        return self._flying

    def settle(self, stored: Mapping[Window, Counts]) -> None:
        """What was taken is stored; these are the counts of all processes for the windows of now."""
        self._stored, self._flying = dict(stored), {}

    def give_back(self, now: float) -> None:
        """What was taken could not be stored. What of it is over by now is let go of."""
        for window, counts in self._flying.items():
            _count(self._new, window, counts)
        self._flying = {}
        self._new = {w: counts for w, counts in self._new.items() if w[2] >= int(now // w[1])}


def _count(counts: dict[Window, Counts], window: Window, more: Counts) -> None:
    old = counts.get(window, _NONE)
    counts[window] = (old[0] + more[0], old[1] + more[1])


# --- words -----------------------------------------------------------------------------------------------------

KINDS = ("requests", "tokens")
_UNITS = {
    (REQUESTS, MINUTE): "requests per min (RPM)",
    (TOKENS, MINUTE): "tokens per min (TPM)",
    (REQUESTS, DAY): "requests per day (RPD)",
    (TOKENS, DAY): "tokens per day (TPD)",
}


def message(key: Key, standing: Standing) -> str:
    """What a client is told whose limit is used up, as OpenAI says it. How many tokens it asks for nobody knows."""
    return (
        f"Rate limit reached for key {key.name} on {_UNITS[standing.kind, standing.size]}: Limit {standing.limit}, "
        f"Used {standing.used}, Requested 1. Please try again in {span(standing.seconds)}."
    )


def headers(standings: list[Standing]) -> Headers:
    """The x-ratelimit headers; where a kind has two limits, of the one that has less left."""
    found: list[tuple[str, str]] = []
    for kind, name in enumerate(KINDS):
        own = [standing for standing in standings if standing.kind == kind]
        if own:
            least = min(own, key=lambda standing: standing.left)
            found += [
                (f"x-ratelimit-limit-{name}", str(least.limit)),
                (f"x-ratelimit-remaining-{name}", str(least.left)),
                (f"x-ratelimit-reset-{name}", span(least.seconds)),
            ]
    return tuple(found)


def span(seconds: float) -> str:
    """A time as OpenAI writes it: 120ms, 8.64s, 6m0s, 1h2m3s. Never less than it is."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    if seconds < 60:
        return f"{math.ceil(seconds * 100) / 100:g}s"
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{rest}s" if hours else f"{minutes}m{rest}s"
