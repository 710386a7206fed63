"""Which account serves the next attempt. Pure decisions over plain state: time comes in as a number (Unix seconds), the
gateway acts.

A limit belongs to a model of a project, since Google counts so: accounts that name the same project share it, and an
account that names none stands for itself. One model's limit never blocks another. How long a limit lasts is
`cooldowns`' matter. When one is over, one request goes ahead as a probe: success forgets the limit, failure takes the
next step.

Ways to choose among those who can serve, all after priority and before nothing else:

    balance       who has done least by its weight, then who has waited longest
    performance   fewest requests in flight, then the quickest first byte of late
    cache-first   the account that served this session before, for whose caches upstream's price is lower; else balance
    fill-first    the first in the user's order
"""

import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from .account import Account, from_environment, key_id
from .cooldowns import (
    ANY_MODEL,
    LEAST_KEPT_SECONDS,
    PASSING,
    STEP_CAP_SECONDS,
    Cause,
    CoolDown,
    Key,
    cause_of,
    error_of,
    from_rows,
    next_cool_down,
    to_rows,
)
from .errors import GatewayError
from .sessions import Sessions
from .values import value_class

__all__ = [
    "ANY_MODEL",
    "BALANCE",
    "CACHE_FIRST",
    "FILL_FIRST",
    "MODES",
    "PERFORMANCE",
    "STEP_CAP_SECONDS",
    "Account",
    "Cause",
    "CoolDown",
    "Pick",
    "Pool",
    "Ticket",
    "cause_of",
    "error_of",
    "from_environment",
    "key_id",
]

BALANCE, PERFORMANCE, CACHE_FIRST, FILL_FIRST = "balance", "performance", "cache-first", "fill-first"
MODES = (BALANCE, PERFORMANCE, CACHE_FIRST, FILL_FIRST)

_MINUTE_SECONDS = 60.0
_MOST_COOL_DOWNS = 10_000
_LATENCY_SHARE = 0.3  # of the newest first byte in the average
_LATENCY_AGE_SECONDS = 120.0  # after so long without a call an account is tried anew, however slow it was


@value_class(frozen=True, slots=True, kw_only=True)
class Pick:
    """account: who serves next, None where nobody can now. ready_at: when somebody can, None if that is not known.
    skips: (account id, why) of each that was passed by; cool_down: the one that ends first. is_busy: a limit of the
    owner's own, which ends with a request that is under way or with the minute, is all that keeps somebody from
    serving. is_held: others can serve, but the session's own account will soon."""

    account: Account | None
    ready_at: float | None = None
    skips: tuple[tuple[str, str], ...] = ()
    cool_down: CoolDown | None = None
    is_busy: bool = False
    is_held: bool = False


@value_class(frozen=True, slots=True, kw_only=True)
class Ticket:
    """An attempt that is under way. is_probe: the first one after a cool-down."""

    account: Account
    model: str
    began: float
    is_probe: bool


@dataclass(slots=True)
class _Use:
    """What the scheduler remembers of an account's work. served: its work so far by its weight's measure; starts: when
    the requests of the last minute began, where the owner limits them."""

    served: float = 0.0
    in_flight: int = 0
    last_used: float = 0.0
    latency: float = 0.0
    latency_at: float = -math.inf
    starts: deque[float] = field(default_factory=deque)


class Pool:
    """The accounts, their work and their limits. version: changes with every change of the limits."""

    def __init__(self, accounts: Iterable[Account]) -> None:
        self._accounts: tuple[Account, ...] = ()
        self._places: dict[str, int] = {}
        self._uses: dict[str, _Use] = {}
        self._cool_downs: dict[Key, CoolDown] = {}
        self._probes: dict[Key, int] = {}
        self.sessions = Sessions()
        self.version = 0
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
        self._places = {account.id: number for number, account in enumerate(accounts)}

    # --- decisions

    def pick(
        self,
        model: str,
        now: float,
        tried: frozenset[str] = frozenset(),
        avoid: frozenset[str] = frozenset(),
        *,
        mode: str = BALANCE,
        session: str | None = None,
        patience: float = 0.0,
    ) -> Pick:
        """Who serves the next attempt of a request for a model.

        tried: ids that this request has failed with; they come last. avoid: quotas that have just been overloaded.
        patience: how many seconds the session's own account is worth waiting for.
        """
        ready: list[Account] = []
        second: list[Account] = []  # nobody's first choice, and better than nobody
        skips: list[tuple[str, str]] = []
        waits: list[tuple[float, CoolDown | None]] = []
        home = self.sessions.find(session, now) if mode == CACHE_FIRST and session is not None else None
        home_wait: float | None = None
        is_busy = False
        for account in self._accounts:
            if account.models and not account.serves(model):
                skips.append((account.id, "its owner does not let it serve this model"))
                continue
            cool_down = self._cooling(account, model, now) if self._cool_downs else None
            until: float | None
            if cool_down is not None:
                until = cool_down.until
                skips.append((account.id, f"{cool_down.cause.value} for {until - now:.0f} s"))
                is_passing = cool_down.cause in PASSING and account.id not in tried
                if is_passing and not self._busy(account, now)[1]:
                    second.append(account)
            else:
                has_limits = account.most_in_flight or account.requests_per_minute
                until, why = self._busy(account, now) if has_limits else (None, "")
                if not why:
                    ready.append(account)
                    continue
                skips.append((account.id, why))
                is_busy = True
            if account.id == home:
                home_wait = patience if until is None else until - now
            if until is not None:
                waits.append((until, cool_down))
        told = tuple(skips)
        if ready:
            if home is not None and home_wait is not None and home not in tried and 0 < home_wait <= patience:
                return Pick(account=None, ready_at=now + home_wait, skips=told, is_busy=is_busy, is_held=True)
            if len(ready) == 1:
                return Pick(account=ready[0], skips=told)
            rank = _RANKS[mode]
            if tried or avoid or home is not None or self._probes:
                chosen = min(ready, key=lambda a: self._rank(a, model, tried, avoid, home, now, rank))
            else:  # what of the rank then differs: with a thousand accounts 160 us instead of 320
                chosen = min(ready, key=lambda a: (-a.priority, rank(self, a, now)))
            return Pick(account=chosen, skips=told)
        if second:
            rank = _RANKS[mode]
            chosen = min(second, key=lambda a: self._rank(a, model, tried, avoid, home, now, rank))
            return Pick(account=chosen, skips=tuple(skip for skip in told if skip[0] != chosen.id))
        if not waits:
            return Pick(account=None, skips=told, is_busy=is_busy)
        # A refused credential seldom mends itself: a limit that ends is what the client should hear of, and wait for.
        limits = [wait for wait in waits if wait[1] is None or wait[1].cause is not Cause.CREDENTIAL]
        soonest, cool_down = min(limits or waits, key=lambda pair: pair[0])
        return Pick(account=None, ready_at=soonest, skips=told, cool_down=cool_down, is_busy=is_busy)

    def _rank(
        self,
        account: Account,
        model: str,
        tried: frozenset[str],
        avoid: frozenset[str],
        home: str | None,
        now: float,
        rank: "Callable[[Pool, Account, float], tuple[float, ...]]",
    ) -> tuple[Any, ...]:
        """The order of who may serve, best first: fresh before tried, elsewhere before where it was just overloaded,
        the session's own, no second probe where somebody else can go, priority, and then by the way of choosing."""
        return (
            account.id in tried,
            account.quota in avoid,
            account.id != home,
            (account.quota, model) in self._probes,
            -account.priority,
            rank(self, account, now),
        )

    def _cooling(self, account: Account, model: str, now: float) -> CoolDown | None:
        """The cool-down that keeps an account from a model now."""
        for key in ((account.id, ANY_MODEL), (account.quota, model)):
            cool_down = self._cool_downs.get(key)
            if cool_down is not None and cool_down.until > now:
                return cool_down
        return None

    def _busy(self, account: Account, now: float) -> tuple[float | None, str]:
        """Which of its owner's limits keeps an account busy, and until when if that is known."""
        use = self._uses[account.id]
        if account.most_in_flight and use.in_flight >= account.most_in_flight:
            return None, f"{use.in_flight} requests are under way, its own limit"
        if account.requests_per_minute:
            starts = use.starts
            while starts and starts[0] <= now - _MINUTE_SECONDS:
                starts.popleft()
            if len(starts) >= account.requests_per_minute:
                return starts[0] + _MINUTE_SECONDS, f"{len(starts)} requests in a minute, its own limit"
        return None, ""

    def by_work(self, account: Account, now: float) -> tuple[float, ...]:
        """balance: who has done least by its weight, then who has waited longest."""
        use = self._uses[account.id]
        return use.served, use.last_used

    def by_speed(self, account: Account, now: float) -> tuple[float, ...]:
        """performance: fewest in flight, then quickest of late; who was not asked of late is worth a try."""
        use = self._uses[account.id]
        latency = use.latency if now - use.latency_at < _LATENCY_AGE_SECONDS else 0.0
        return use.in_flight, latency, use.last_used

    def by_order(self, account: Account, now: float) -> tuple[float, ...]:
        """fill-first: the user's order."""
        return (self._places[account.id],)

    # --- what happens

    def begin(self, account: Account, model: str, now: float, session: str | None = None) -> Ticket:
        """An attempt starts. Its ticket goes to `end`, or to `release`."""
        key = (account.quota, model)
        is_probe = key in self._cool_downs or (account.id, ANY_MODEL) in self._cool_downs
        if is_probe:
            self._probes[key] = self._probes.get(key, 0) + 1
        use = self._uses.get(account.id)
        if use is not None:  # else the account was taken out meanwhile
            use.served += 1.0 / max(account.weight, 0.001)
            use.in_flight += 1
            use.last_used = now
            if account.requests_per_minute:
                use.starts.append(now)
        if session is not None:
            self.sessions.bind(session, account.id, now)
        return Ticket(account=account, model=model, began=now, is_probe=is_probe)

    def answered(self, ticket: Ticket, now: float) -> None:
        """The head of upstream's answer has come: how quick the account is."""
        use = self._uses.get(ticket.account.id)
        if use is None:
            return
        seconds = now - ticket.began
        is_old = now - use.latency_at >= _LATENCY_AGE_SECONDS
        use.latency = seconds if is_old else use.latency + (seconds - use.latency) * _LATENCY_SHARE
        use.latency_at = now

    def end(self, ticket: Ticket, now: float, error: GatewayError | None) -> None:
        """An attempt has ended; None for success. A cancelled one ends with `release` instead."""
        self.release(ticket)
        account, model = ticket.account, ticket.model
        if error is None:
            for key in ((account.quota, model), (account.id, ANY_MODEL)):
                old = self._cool_downs.get(key)
                # A limit that still holds came while this attempt was under way: its success says nothing about it.
                if old is not None and (old.until <= now or (ticket.is_probe and old.cause in PASSING)):
                    self._forget(key)
            return
        cause = cause_of(error)
        if cause is None:
            return
        key = (account.id, ANY_MODEL) if cause is Cause.CREDENTIAL else (account.quota, model)
        cool_down = next_cool_down(self._cool_downs.get(key), cause, error, now)
        if cool_down is not None:
            if len(self._cool_downs) >= _MOST_COOL_DOWNS:  # clients name models: those that are over make room
                self._cool_downs = {k: c for k, c in self._cool_downs.items() if c.until > now}
            if len(self._cool_downs) < _MOST_COOL_DOWNS:
                self._cool_downs[key] = cool_down
            self.version += cool_down.until - now > LEAST_KEPT_SECONDS

    def release(self, ticket: Ticket) -> None:
        """An attempt is over, whatever came of it."""
        if ticket.is_probe:
            key = (ticket.account.quota, ticket.model)
            left = self._probes.pop(key, 1) - 1
            if left > 0:
                self._probes[key] = left
        use = self._uses.get(ticket.account.id)
        if use is not None:
            use.in_flight = max(use.in_flight - 1, 0)  # the account may have gone and come meanwhile

    def _forget(self, key: Key) -> None:
        del self._cool_downs[key]
        self.version += 1

    # --- restart and people

    def work(self, now: float) -> dict[str, tuple[int, float | None]]:
        """By account id: how many requests are under way, and its first byte of late in seconds, None where it was not
        asked of late."""
        return {
            id: (use.in_flight, use.latency if now - use.latency_at < _LATENCY_AGE_SECONDS else None)
            for id, use in self._uses.items()
        }

    def cool_downs(self, now: float) -> dict[Key, CoolDown]:
        """The limits that hold, by (quota or account id, model)."""
        return {key: value for key, value in self._cool_downs.items() if value.until > now}

    def replace_cool_downs(self, cool_downs: dict[Key, CoolDown], now: float) -> None:
        """Take over what holds elsewhere; limits that are over here stay, since they count the steps."""
        over = {key: value for key, value in self._cool_downs.items() if value.until <= now}
        self._cool_downs = over | cool_downs

    def reset(self, account_id: str | None = None) -> None:
        """Forget the limits of one account, or all."""
        quotas = {account.quota for account in self._accounts if account.id == account_id} | {account_id}
        self._cool_downs = {
            key: value for key, value in self._cool_downs.items() if account_id is not None and key[0] not in quotas
        }
        self.version += 1

    def in_flight(self, account_id: str) -> int:
        """Attempts of an account that are under way."""
        use = self._uses.get(account_id)
        return 0 if use is None else use.in_flight

    def snapshot(self, now: float) -> list[dict[str, Any]]:
        """The limits that hold, as JSON for the disk. No key is in it: quotas are ids or project names."""
        return to_rows(self.cool_downs(now))

    def restore(self, rows: Iterable[Any], now: float) -> None:
        """Take back a snapshot. Rows that are over or broken are passed by."""
        self._cool_downs |= from_rows(rows, now)


_RANKS: dict[str, Callable[[Pool, Account, float], tuple[float, ...]]] = {
    BALANCE: Pool.by_work,
    PERFORMANCE: Pool.by_speed,
    CACHE_FIRST: Pool.by_work,
    FILL_FIRST: Pool.by_order,
}
