"""One small call with each account, as the gateway would make it: what `agproxy accounts test` and `doctor` show.

Goes straight to the configured upstream, never to the embedded simulator: that takes any key.
"""

import asyncio
import os
import time
from collections.abc import Callable, Sequence

from ..accounts import Entry, account_of
from ..config import Config
from ..probing import MODEL, Outcome, probe

__all__ = ["MODEL", "Outcome", "call_all"]

_MOST_AT_ONCE = 16


async def call_all(
    settings: Config,
    entries: Sequence[Entry],
    model: str,
    seconds: float,
    *,
    counts_only: bool = False,
    on_done: Callable[[], None] = lambda: None,
) -> list[Outcome]:
    """The outcomes in the accounts' order. seconds: for one call in all. counts_only: tokens are counted and none are
    made, which costs nothing and touches no limit of generation. on_done: called after each account."""
    from ..egress import places  # here, so that the other commands start without TLS's weight
    from ..io.egress import Egress
    from ..io.lines import Lines
    from ..io.tokens import Tokens

    known = [account_of(entry) for entry in entries if entry.is_known]
    egress = Egress(places(settings, known, os.environ))
    lines = Lines(settings, egress)
    tokens = Tokens(lines.send, time.time, egress)
    turns = asyncio.Semaphore(_MOST_AT_ONCE)
    base_url = f"{settings.upstream_url.rstrip('/')}/{settings.upstream_version}"

    async def call(entry: Entry) -> Outcome:
        outcome = await one(entry)
        on_done()
        return outcome

    async def one(entry: Entry) -> Outcome:
        if not entry.is_known:
            return Outcome(fault=f"this version knows no accounts of the kind {entry.record.kind!r}")
        async with turns:
            account = account_of(entry)
            return await probe(
                lines.send, tokens, account, base_url, model, seconds, time.monotonic, counts_only=counts_only
            )

    try:
        return await asyncio.gather(*(call(entry) for entry in entries))
    finally:
        await tokens.close()
        await lines.close()
