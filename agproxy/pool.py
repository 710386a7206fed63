"""Which account serves the next attempt, and what each outcome teaches. Pure decisions over plain state: time comes in
as a number (Unix seconds), the gateway acts.

A limit belongs to a model of a project, since Google counts so: accounts that name the same project share it, and an
account that names none stands for itself. One model's limit never blocks another. What upstream said decides how long
a limit lasts, else growing steps up to ten minutes; a spent day lasts until midnight in California. When a cool-down
is over one request goes ahead as a probe: success forgets the limit, failure takes the next step.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from hashlib import sha256
from typing import Any, assert_never

from .errors import (
    GatewayError,
    Retry,
    UpstreamAuthFailed,
    UpstreamFailed,
    UpstreamOverloaded,
    UpstreamRateLimited,
)
from .pacific import next_midnight


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One way into upstream. `id` is short and stable and never tells the key.

    project: whose quota it draws on, "" for one of its own. models: patterns of the models it may serve, empty for all.
    weight: its share of the work beside others; priority: higher ones are asked first.
    """

    id: str
    key: str = field(repr=False)
    label: str = ""
    email: str | None = None
    project: str = ""
    priority: int = 0
    weight: float = 1.0

    @property
    def quota(self) -> str:
        """Whose limits it shares."""
        return f"project:{self.project}" if self.project else self.id


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


class Cause(Enum):
    """What an attempt's failure says about the account."""

    LIMIT = "over its limit"
    DAY = "over its limit for the day"
    CAPACITY = "the model is overloaded"
    CREDENTIAL = "its credential is refused"
    TROUBLE = "upstream trouble"


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


def cause_of(error: GatewayError) -> Cause | None:
    """What an error says about the account that was used."""
    if isinstance(error, UpstreamRateLimited) and error.is_daily:
        return Cause.DAY
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """account: who serves next, None where nobody can now. ready_at: when somebody can, None if nobody ever will.
    skips: (account id, why) of each that was passed by; cool_down: the one that ends first."""

    account: Account | None
    ready_at: float | None = None
    skips: tuple[tuple[str, str], ...] = ()
    cool_down: CoolDown | None = None


@dataclass(slots=True)
class _Use:
    """What the scheduler remembers of an account's work. served: its work so far by its weight's measure."""

    served: float = 0.0
    in_flight: int = 0
    last_used: float = 0.0


class Pool:
    """The accounts, their work and their limits."""

    def __init__(self, accounts: Iterable[Account]) -> None:
        self._accounts: tuple[Account, ...] = ()
        self._uses: dict[str, _Use] = {}
        self._cool_downs: dict[tuple[str, str], CoolDown] = {}
        self._probes: set[tuple[str, str]] = set()
        self.accounts = tuple(accounts)

    @property
    def accounts(self) -> tuple[Account, ...]:
        return self._accounts

    @accounts.setter
    def accounts(self, accounts: tuple[Account, ...]) -> None:
        """Swap the accounts; limits and work of those that stay are kept. A new one starts level with the others."""
        level = min((use.served for use in self._uses.values()), default=0.0)
        kept = {account.id: self._uses.get(account.id) or _Use(served=level) for account in accounts}
        self._accounts, self._uses = tuple(accounts), kept

    # --- decisions

    def pick(
        self, model: str, now: float, tried: frozenset[str] = frozenset(), avoid: frozenset[str] = frozenset()
    ) -> Pick:
        """Who serves the next attempt of a request for a model.

        tried: ids that this request has failed with; they come last. avoid: quotas that have just been overloaded.
        """
        ready: list[Account] = []
        skips: list[tuple[str, str]] = []
        waits: list[tuple[float, CoolDown]] = []
        for account in self._accounts:
            cool_down = self._cooling(account, model, now)
            if cool_down is None:
                ready.append(account)
            else:
                skips.append((account.id, f"{cool_down.cause.value} for {cool_down.until - now:.0f} s"))
                waits.append((cool_down.until, cool_down))
        if not ready:
            if not waits:
                return Pick(account=None)
            until, cool_down = min(waits, key=lambda pair: pair[0])
            return Pick(account=None, ready_at=until, skips=tuple(skips), cool_down=cool_down)
        return Pick(account=min(ready, key=lambda a: self._rank(a, model, tried, avoid)), skips=tuple(skips))

    def _rank(self, account: Account, model: str, tried: frozenset[str], avoid: frozenset[str]) -> tuple[Any, ...]:
        """The order of who may serve, best first: fresh before tried, elsewhere before where it was just overloaded,
        no second probe where somebody else can go, priority, who has done least by its weight, who waited longest."""
        use = self._uses[account.id]
        is_probed = (account.quota, model) in self._probes
        return (
            account.id in tried,
            account.quota in avoid,
            is_probed,
            -account.priority,
            use.served,
            use.last_used,
        )

    def _cooling(self, account: Account, model: str, now: float) -> CoolDown | None:
        """The cool-down that keeps an account from a model now."""
        for key in ((account.id, ANY_MODEL), (account.quota, model)):
            cool_down = self._cool_downs.get(key)
            if cool_down is not None and cool_down.until > now:
                return cool_down
        return None

    # --- what happens

    def begin(self, account: Account, model: str, now: float) -> None:
        """An attempt starts."""
        use = self._uses.get(account.id)
        if use is None:
            return  # the account was taken out meanwhile
        use.served += 1.0 / max(account.weight, 0.001)
        use.in_flight += 1
        use.last_used = now
        if (account.quota, model) in self._cool_downs:
            self._probes.add((account.quota, model))

    def end(self, account: Account, model: str, now: float, error: GatewayError | None) -> None:
        """An attempt has ended; None for success. A cancelled one ends with `release` instead."""
        self.release(account, model)
        if error is None:
            self._cool_downs.pop((account.quota, model), None)
            self._cool_downs.pop((account.id, ANY_MODEL), None)
            return
        cause = cause_of(error)
        if cause is None:
            return
        key = (account.id, ANY_MODEL) if cause is Cause.CREDENTIAL else (account.quota, model)
        old = self._cool_downs.get(key)
        if old is not None and old.until > now and old.cause is Cause.DAY:
            return  # a request that was under way when the day's quota ended says nothing new
        steps = 1 if old is None or old.cause is not cause else old.steps + (old.until <= now)
        until = now + _seconds(cause, steps, error.retry_after_seconds, now)
        if old is None or until > old.until:
            self._cool_downs[key] = CoolDown(until=until, cause=cause, steps=steps, message=error.message)

    def release(self, account: Account, model: str) -> None:
        """An attempt is over, whatever came of it."""
        self._probes.discard((account.quota, model))
        use = self._uses.get(account.id)
        if use is not None:
            use.in_flight -= 1

    # --- restart and people

    def cool_downs(self, now: float) -> dict[tuple[str, str], CoolDown]:
        """The limits that hold, by (quota or account id, model)."""
        return {key: value for key, value in self._cool_downs.items() if value.until > now}

    def reset(self, account_id: str | None = None) -> None:
        """Forget the limits of one account, or all."""
        quotas = {account.quota for account in self._accounts if account.id == account_id} | {account_id}
        self._cool_downs = {
            key: value for key, value in self._cool_downs.items() if account_id is not None and key[0] not in quotas
        }

    def snapshot(self, now: float) -> list[dict[str, Any]]:
        """The limits that hold, as JSON for the disk. No key is in it: quotas are ids or project names."""
        return [
            {
                "quota": quota,
                "model": model,
                "until": c.until,
                "cause": c.cause.name,
                "steps": c.steps,
                "message": c.message,
            }
            for (quota, model), c in sorted(self.cool_downs(now).items())
        ]

    def restore(self, rows: Iterable[Any], now: float) -> None:
        """Take back a snapshot. Rows that are over or broken are passed by."""
        for row in rows:
            match row:
                case {
                    "quota": str(quota),
                    "model": str(model),
                    "until": int() | float() as until,
                    "cause": str(name),
                    "steps": int(steps),
                    "message": str(message),
                } if name in Cause.__members__ and now < until < math.inf:
                    self._cool_downs[(quota, model)] = CoolDown(
                        until=float(until), cause=Cause[name], steps=steps, message=message
                    )


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


def _seconds(cause: Cause, steps: int, asked: float | None, now: float) -> float:
    """How long a limit lasts: a spent day until midnight in California, whatever RetryInfo says (it names seconds
    then); else what upstream asked for; else steps that double."""
    if cause is Cause.DAY:
        return next_midnight(now) - now
    if asked is not None:
        return min(max(asked, 0.0), STEP_CAP_SECONDS)
    return float(min(_FIRST_STEP[cause] * 2.0 ** (min(steps, 30) - 1), STEP_CAP_SECONDS))
