"""What an attempt's failure says about an account, and how long that is remembered.

    what upstream said                              cause        lasts
    429 of a minute, or without a word              LIMIT        what upstream asked, else 5 s, doubling
    429 of a day, or a limit of 0                   DAY          until midnight in California
    credential refused, permission, billing         CREDENTIAL   60 s, doubling; for all models
    503, 529, no capacity for the model             CAPACITY     what upstream asked, else 1 s, doubling
    500, 502, 504, no connection, TLS, cut early    TROUBLE      0.5 s, doubling
    anything that is the request's own fault        none         no account suffers

Every time is capped at ten minutes but the day's. The first three of these are limits: whoever has met one is not asked
before it ends. CAPACITY and TROUBLE only make an account the second choice, and hold up the request that met them: they
may be the accident of one request, and where nobody else is there the next one may well be served.

Pure: time comes in as Unix seconds.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, assert_never

from . import jsontext
from .errors import (
    GatewayError,
    Retry,
    UpstreamAuthFailed,
    UpstreamFailed,
    UpstreamOverloaded,
    UpstreamRateLimited,
)
from .pacific import next_midnight


class Cause(Enum):
    """What an attempt's failure says about the account."""

    LIMIT = "over its limit"
    DAY = "over its limit for the day"
    CAPACITY = "the model is overloaded"
    CREDENTIAL = "its credential is refused"
    TROUBLE = "upstream trouble"


# Causes that are no limit: others are preferred, but the account is asked where nobody else can be.
PASSING = frozenset({Cause.CAPACITY, Cause.TROUBLE})

# Error -> cause, first match; None for what is no account's doing. The order matters: UpstreamRateLimited is split by
# whether the day is spent.
_CAUSES: tuple[tuple[type[GatewayError], Cause], ...] = (
    (UpstreamRateLimited, Cause.LIMIT),
    (UpstreamOverloaded, Cause.CAPACITY),
    (UpstreamAuthFailed, Cause.CREDENTIAL),
    (UpstreamFailed, Cause.TROUBLE),
)

# Cause -> seconds of the first step; each further step doubles. Trouble of the line passes quickly, a credential does
# not mend itself, and the capacity of a model comes back within seconds more often than not.
_FIRST_STEP = {Cause.LIMIT: 5.0, Cause.CAPACITY: 1.0, Cause.CREDENTIAL: 60.0, Cause.TROUBLE: 0.5}
STEP_CAP_SECONDS = 600.0
# The model that stands for all of them: a refused credential serves none.
ANY_MODEL = "*"

Key = tuple[str, str]  # whose limit (an account's id, or a project), and which model's


def cause_of(error: GatewayError) -> Cause | None:
    """What an error says about the account that was used."""
    if isinstance(error, UpstreamRateLimited) and error.is_daily:
        return Cause.DAY
    if isinstance(error, UpstreamRateLimited) and error.is_capacity:
        return Cause.CAPACITY
    if isinstance(error, UpstreamFailed) and error.retry is not Retry.NEXT_ACCOUNT:
        return None  # a broken answer is the model's accident, not the account's
    return next((cause for kind, cause in _CAUSES if isinstance(error, kind)), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class CoolDown:
    """A limit that holds until a moment. steps: how often it was met in a row; message: upstream's own words."""

    until: float
    cause: Cause
    steps: int
    message: str


def next_cool_down(old: CoolDown | None, cause: Cause, error: GatewayError, now: float) -> CoolDown | None:
    """The cool-down after one more failure; None where what holds already says more."""
    if old is not None and old.until > now and old.cause is Cause.DAY:
        return None  # a request that was under way when the day's quota ended says nothing new
    steps = 1 if old is None or old.cause is not cause else old.steps + (old.until <= now)
    until = now + _seconds(cause, steps, error.retry_after_seconds, now)
    if old is not None and until <= old.until:
        return None
    return CoolDown(until=until, cause=cause, steps=steps, message=error.message)


def _seconds(cause: Cause, steps: int, asked: float | None, now: float) -> float:
    """How long a limit lasts: a spent day until midnight in California, whatever RetryInfo says (it names seconds
    then); else what upstream asked for; else steps that double."""
    if cause is Cause.DAY:
        return next_midnight(now) - now
    if asked is not None:
        return min(max(asked, 0.0), STEP_CAP_SECONDS)
    return float(min(_FIRST_STEP[cause] * 2.0 ** (min(steps, 30) - 1), STEP_CAP_SECONDS))


def error_of(cool_down: CoolDown, wait_seconds: float) -> GatewayError:
    """What a client is told where nobody can serve: the limit that ends first, in upstream's own words."""
    match cool_down.cause:
        case Cause.LIMIT | Cause.DAY:
            limited = UpstreamRateLimited(cool_down.message, retry_after_seconds=wait_seconds)
            limited.is_daily = cool_down.cause is Cause.DAY
            if limited.is_daily:
                limited.code = "insufficient_quota"
            return limited
        case Cause.CAPACITY:
            return UpstreamOverloaded(cool_down.message, retry_after_seconds=wait_seconds)
        case Cause.CREDENTIAL:
            return UpstreamAuthFailed(cool_down.message)
        case Cause.TROUBLE:
            return UpstreamFailed(cool_down.message)
        case _:
            assert_never(cool_down.cause)


# --- on disk ---------------------------------------------------------------------------------------------------

# What ends sooner is not worth a write: it would be over before anybody reads it.
LEAST_KEPT_SECONDS = 5.0


def to_rows(cool_downs: Mapping[Key, CoolDown]) -> list[dict[str, Any]]:
    """Cool-downs as JSON. No key is in it: quotas are ids or project names."""
    return [
        {
            "quota": quota,
            "model": model,
            "until": c.until,
            "cause": c.cause.name,
            "steps": c.steps,
            "message": c.message,
        }
        for (quota, model), c in sorted(cool_downs.items())
    ]


def from_rows(rows: Iterable[Any], now: float) -> dict[Key, CoolDown]:
    """The cool-downs of rows. Those that are over or broken are passed by."""
    found: dict[Key, CoolDown] = {}
    for row in rows:
        match row:
            case {
                "quota": str(quota),
                "model": str(model),
                "until": int() | float() as until,
                "cause": str(name),
                "steps": int(steps),
                "message": str(message),
            } if name in Cause.__members__ and now < until <= jsontext.MOST_FLOAT and steps >= 1:
                found[(quota, model)] = CoolDown(until=float(until), cause=Cause[name], steps=steps, message=message)
    return found


def merge(
    base: Mapping[Key, CoolDown], ours: Mapping[Key, CoolDown], theirs: Mapping[Key, CoolDown]
) -> dict[Key, CoolDown]:
    """What holds after two processes have each changed what both knew (`base`): a change wins over none, and of two
    changes the limit that lasts longer, since who forgot it may not have met it yet."""
    merged: dict[Key, CoolDown] = {}
    for key in {*base, *ours, *theirs}:
        before, mine, other = base.get(key), ours.get(key), theirs.get(key)
        if mine == before:
            kept = other
        elif other == before or other is None:
            kept = mine
        else:
            kept = mine if mine is not None and mine.until >= other.until else other
        if kept is not None:
            merged[key] = kept
    return merged
