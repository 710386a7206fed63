"""The attempts of one request: who is asked, who waits for whom, and what the client is told where nobody can serve.

`pool` decides who serves next; here that is acted on. Whoever is ready is asked at once, nobody sleeps while one is.
Where nobody is, a request waits for the soonest, within `max_wait_seconds` in all. Where only limits of the accounts'
owner keep them busy, requests stand in line, first come first served, and the line has a bound. Every pick, skip and
outcome is a step of the request's progress, and is told by `GET /v1/agproxy/why/{request-id}`.
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from .account import Account, hide, secrets_of_url
from .config import Config
from .cooldowns import Cause, cause_of, error_of
from .entries import Step
from .errors import (
    CredentialRevoked,
    GatewayError,
    NoAccount,
    Overloaded,
    Retry,
    UpstreamAuthFailed,
    UpstreamOverloaded,
    UpstreamRateLimited,
)
from .pool import CACHE_FIRST, Pick, Pool, Ticket

if TYPE_CHECKING:
    from .exchange import Progress

log = logging.getLogger("agproxy.attempts")

T = TypeVar("T")

_MOST_STEPS = 64
# What a client is told to wait where an account is ready, but this request has had its attempts.
_SHORT_WAIT_SECONDS = 1.0


class TokenSource(Protocol):
    """Where accounts without a key have their tokens from."""

    async def token(self, account: Account) -> str: ...

    def known(self, account: Account) -> str: ...

    def forget(self, account: Account) -> None: ...


@dataclass(slots=True)
class _Run:
    """The attempts of one leg on one model."""

    progress: "Progress"
    model: str
    began: float
    tried: frozenset[str] = frozenset()
    overloaded: frozenset[str] = frozenset()
    renewed: frozenset[str] = frozenset()
    last: GatewayError | None = None
    account: Account | None = None
    count: int = 0
    accidents: int = 0


class _Place:
    """A place in a line; `called` is set when it may look again."""

    def __init__(self) -> None:
        self.called: asyncio.Future[None] | None = None


class Attempts:
    """Carries out what the pool decides, for all requests."""

    def __init__(
        self,
        *,
        config: Callable[[], Config],
        pool: Pool,
        now: Callable[[], float],
        tokens: TokenSource | None = None,
        on_revoked: Callable[[Account, str], None] | None = None,
    ) -> None:
        self.tokens = tokens
        self._config = config
        self._pool = pool
        self._now = now
        self._on_revoked = on_revoked
        self._lines: dict[str, deque[_Place]] = {}
        self._waiting = 0
        self._held: set[asyncio.Future[None]] = set()
        self._cooling: set[asyncio.Future[None]] = set()

    def no_account(self) -> NoAccount:
        return NoAccount(
            "agproxy has no Gemini account. Set GEMINI_API_KEY, or start with --simulate auto to try it without one.",
            passes_soon=False,
        )

    async def run(self, progress: "Progress", attempt: Callable[[Ticket], Awaitable[T]]) -> T:
        """Run an attempt, and others after it while its error allows and the answer has not begun."""
        run = _Run(progress, progress.model, self._now())
        while True:
            account = run.account
            if account is None:
                account = run.account = await self._next(run)
            progress.account = account
            progress.attempts += 1
            run.count += 1
            session = progress.session if self._config().scheduling == CACHE_FIRST else None
            ticket = self._pool.begin(account, run.model, self._now(), session)
            try:
                result = await attempt(ticket)
            except GatewayError as error:
                told = self._failed(run, ticket, error)
                if told is not None:
                    raise told from None
            except BaseException:  # cancelled, or a bug: the account must not look busy for ever
                self._pool.release(ticket)
                self._wake()
                raise
            else:
                self._pool.end(ticket, self._now(), None)
                self._wake()
                self._note(run, "answered", account.id)
                return result

    def _failed(self, run: _Run, ticket: Ticket, error: GatewayError) -> GatewayError | None:
        """Learn from a failure. The error that ends the request, None where another attempt may be made."""
        account, progress = ticket.account, run.progress
        self.hide_secrets(error, account)
        log.debug("%s: attempt %d on %s: %s", progress.request.id, run.count, account.id, error.message)
        cause = cause_of(error)
        progress.outcomes.append(f"{account.id}={error.status}")
        self._note(
            run,
            "failed",
            account.id,
            status=error.status,
            why=cause.value if cause is not None else error.code or type(error).__name__,
            message=error.message,
        )
        if self._can_renew(run, account, error):
            self._pool.release(ticket)
            return None
        self._pool.end(ticket, self._now(), error)
        self._wake()
        if isinstance(error, CredentialRevoked):
            self._revoke(account, error)
        run.accidents += error.retry is Retry.SAME_ACCOUNT
        run.last = error
        if error.retry is Retry.NEVER or run.accidents > 1:
            return error
        config = self._config()
        is_late = self._now() - run.began >= config.total_timeout_seconds
        if run.count >= config.max_attempts or is_late:
            return self._after_all_attempts(run, error)
        run.tried |= {account.id}
        if cause is Cause.CAPACITY:
            run.overloaded |= {account.quota}
        if error.retry is Retry.NEXT_ACCOUNT:
            run.account = None
        return None

    def hide_secrets(self, error: GatewayError, account: Account) -> None:
        """Take out of an error's words what upstream quotes of the account: they go to the client and into files."""
        token = self.tokens.known(account) if self.tokens is not None else ""
        secrets = (*account.secrets, token, *secrets_of_url(self._config().upstream_proxy))
        error.reword(hide(error.message, secrets))
        error.param = error.param and hide(error.param, secrets)

    def _can_renew(self, run: _Run, account: Account, error: GatewayError) -> bool:
        """Whether the token may merely have been old: then the same account is asked once more with a new one."""
        if not (isinstance(error, UpstreamAuthFailed) and error.is_stale and account.credential is not None):
            return False
        if self.tokens is None or account.id in run.renewed:
            return False
        self.tokens.forget(account)
        run.renewed |= {account.id}
        run.count -= 1
        return True

    def _revoke(self, account: Account, error: GatewayError) -> None:
        """Take out an account that will not serve again."""
        log.error("account %s is disabled: %s", account.id, error.message)
        self._pool.accounts = tuple(other for other in self._pool.accounts if other.id != account.id)
        if self._on_revoked is not None:
            self._on_revoked(account, error.message)

    # --- the next account

    async def _next(self, run: _Run) -> Account:
        """The account for the next attempt, waited for within `max_wait_seconds` a request."""
        if not self._pool.accounts:
            raise run.last or self.no_account()
        progress, place = run.progress, None
        try:
            while True:
                now = self._now()
                patience = max(self._config().max_wait_seconds - progress.waited_seconds, 0.0)
                pick = self._pick(run, now, patience)
                line = self._lines.get(run.model)
                is_turn = not line or line[0] is place
                if pick.account is not None and is_turn:
                    self._note_pick(run, pick)
                    return pick.account
                if pick.account is None and not pick.is_held and not self._is_worth_waiting(run, pick, now, patience):
                    self._note_pick(run, pick)
                    raise self._exhausted(run, pick, now)
                wait = patience if pick.ready_at is None else min(pick.ready_at - now, patience)
                if pick.is_held:
                    await self._pause(run, pick, wait, self._held)
                elif pick.account is None and not pick.is_busy:
                    # many that wait should not come back as one
                    await self._pause(run, pick, wait * random.uniform(1.0, 1.1) + 0.001, self._cooling)
                else:
                    place = place or self._join(run.model)
                    if patience <= 0:
                        raise self._exhausted(run, pick, now)
                    await self._stand(run, pick, place, wait)
        finally:
            if place is not None:
                self._leave(run.model, place)

    def _pick(self, run: _Run, now: float, patience: float) -> Pick:
        config = self._config()
        return self._pool.pick(
            run.model,
            now,
            run.tried,
            run.overloaded,
            mode=config.scheduling,
            session=run.progress.session,
            patience=patience,
        )

    def _is_worth_waiting(self, run: _Run, pick: Pick, now: float, patience: float) -> bool:
        """Whether somebody will be ready in time, and no other model is there to go to."""
        if run.progress.fallbacks or patience <= 0:
            return False
        if pick.ready_at is None:
            return pick.is_busy
        return (pick.ready_at - now) * 1.1 + 0.001 <= patience or pick.is_busy

    def _exhausted(self, run: _Run, pick: Pick, now: float) -> GatewayError:
        """What the client is told where nobody can serve: the real last cause, and when somebody will be ready."""
        wait = None if pick.ready_at is None else max(pick.ready_at - now, 0.0)
        last = run.last
        if pick.cool_down is None:
            if last is not None:
                error = last
            elif pick.is_busy or pick.account is not None:
                error = Overloaded(
                    "Every account is at a limit that its owner set.", retry_after_seconds=wait or _SHORT_WAIT_SECONDS
                )
            else:
                error = NoAccount(f"No account may serve the model {run.model[:200]}.", passes_soon=False)
        elif last is not None and cause_of(last) is pick.cool_down.cause:
            error = last
            error.retry_after_seconds = wait
        else:
            error = error_of(pick.cool_down, wait or 0.0)
        return _summed(run, error)

    def _after_all_attempts(self, run: _Run, error: GatewayError) -> GatewayError:
        """The last error, with the time when the pool can serve again rather than the account that was asked last."""
        if not isinstance(error, UpstreamRateLimited | UpstreamOverloaded):
            return _summed(run, error)
        now = self._now()
        pick = self._pick(run, now, 0.0)
        if pick.account is None:
            return self._exhausted(run, pick, now)
        if isinstance(error, UpstreamRateLimited):  # perhaps a spent day's, which is not the whole pool's
            error = UpstreamRateLimited(error.message)
        error.retry_after_seconds = _SHORT_WAIT_SECONDS
        return _summed(run, error)

    # --- waiting

    async def _pause(self, run: _Run, pick: Pick, seconds: float, sleepers: set[asyncio.Future[None]]) -> None:
        """Sleep until the time is over or what the sleepers wait for has changed."""
        self._note_pick(run, pick, wait_seconds=round(seconds, 3))
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        sleepers.add(future)
        try:
            await self._wait(run, future, seconds)
        finally:
            sleepers.discard(future)

    async def _wait(self, run: _Run, future: asyncio.Future[None], seconds: float) -> None:
        began = self._now()
        try:
            async with asyncio.timeout(seconds):
                await future
        except TimeoutError:
            run.progress.waited_seconds += seconds
        else:
            run.progress.waited_seconds += max(self._now() - began, 0.0)

    def _join(self, model: str) -> _Place:
        """A place at the end of a model's line. Raises Overloaded where the lines are full."""
        if self._waiting >= self._config().max_queued:
            raise Overloaded(
                f"{self._waiting} requests wait for an account already.", retry_after_seconds=_SHORT_WAIT_SECONDS
            )
        place = _Place()
        self._lines.setdefault(model, deque()).append(place)
        self._waiting += 1
        return place

    async def _stand(self, run: _Run, pick: Pick, place: _Place, seconds: float) -> None:
        """Stand in line until called, or until the time is over."""
        self._note_pick(run, pick, in_line=len(self._lines[run.model]), wait_seconds=round(seconds, 3))
        place.called = asyncio.get_running_loop().create_future()
        try:
            await self._wait(run, place.called, max(seconds, 0.001))
        finally:
            place.called = None

    def _leave(self, model: str, place: _Place) -> None:
        line = self._lines[model]
        line.remove(place)
        self._waiting -= 1
        if not line:
            del self._lines[model]
        self._wake()

    def _wake(self) -> None:
        """A request has ended: whoever is first in line looks again, and those that wait for an account of theirs."""
        for line in self._lines.values():
            called = line[0].called
            if called is not None and not called.done():
                called.set_result(None)
        if self._held:
            _call(self._held)

    def accounts_changed(self) -> None:
        """Accounts have come or gone, or limits were forgotten: everybody who waits looks again."""
        _call(self._cooling)
        self._wake()

    # --- what is told of it

    def _note_pick(self, run: _Run, pick: Pick, **more: Any) -> None:
        if pick.skips:
            more["skipped"] = [{"account": id, "why": why} for id, why in pick.skips]
        if pick.account is not None and "wait_seconds" not in more:
            self._note(run, "picked", pick.account.id, **more)
        else:
            self._note(run, "waits" if "wait_seconds" in more else "nobody", **more)

    def _note(self, run: _Run, event: str, account: str | None = None, **more: Any) -> None:
        steps = run.progress.steps
        if len(steps) < _MOST_STEPS:
            step: Step = {"at": self._now(), "model": run.model, "event": event}
            if account is not None:
                step["account"] = account
            if more:
                step |= more
            steps.append(step)


def _call(futures: set[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


def _summed(run: _Run, error: GatewayError) -> GatewayError:
    """The error with a summary of the attempts, where there were several."""
    outcomes = run.progress.outcomes
    if len(outcomes) > 1 and "(attempts: " not in error.message:
        error.message += f" (attempts: {', '.join(outcomes[-10:])})"
    return error
