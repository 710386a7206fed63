"""One small call with each account, as the gateway would make it: what `agproxy accounts test` and `doctor` show.

Goes straight to the configured upstream, never to the embedded simulator: that takes any key.
"""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import jsontext
from ..account import hide
from ..accounts import Entry, account_of
from ..config import Config
from ..errors import GatewayError, UpstreamFailed
from ..http11 import Send
from ..masking import mask

if TYPE_CHECKING:
    from ..io.tokens import Tokens

MODEL = "gemini-2.5-flash-lite"  # the cheapest that free keys may use as well
_MOST_AT_ONCE = 16
_LEAST_KEY = 8  # a shorter word may stand in a message by chance, and is no real key
_MOST_OUTPUT_TOKENS = 16  # room for a word; a model that thinks gets its least thinking by the encoder


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one account's call brought. status: upstream's, where it answered. fault: what is wrong, or nothing."""

    status: int | None = None
    milliseconds: int | None = None
    fault: str = ""


def _parse(body: bytes) -> Any:
    try:
        return jsontext.loads(body)
    except ValueError:
        raise UpstreamFailed("The answer is not JSON: is this the Gemini API?") from None


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

    async def call(entry: Entry) -> Outcome:
        async with turns:
            outcome = await _call(settings, lines.send, tokens, entry, model, seconds, counts_only)
        on_done()
        return outcome

    try:
        return await asyncio.gather(*(call(entry) for entry in entries))
    finally:
        await tokens.close()
        await lines.close()


async def _call(
    settings: Config,
    send: Send,
    tokens: "Tokens",
    entry: Entry,
    model: str,
    seconds: float,
    counts_only: bool,
) -> Outcome:
    """One small call as the gateway would make it, its answer decoded as the gateway would."""
    from ..backends import gemini
    from ..conversation import Policy, Request, Role, Sampling, Text, Turn
    from ..targets import target_of

    if not entry.is_known:
        return Outcome(fault=f"this version knows no accounts of the kind {entry.record.kind!r}")
    account = account_of(entry)
    key = account.key
    turn = Turn(role=Role.USER, parts=(Text(text="ping"),))
    request = Request(model=model, turns=(turn,), sampling=Sampling(max_output_tokens=_MOST_OUTPUT_TOKENS))
    base_url = f"{settings.upstream_url.rstrip('/')}/{settings.upstream_version}"
    status: int | None = None
    started = time.monotonic()
    fault = ""
    try:
        async with asyncio.timeout(seconds):
            key = key or await tokens.token(account)
            target = target_of(account, key, base_url)
            encoded = gemini.encode(request, model, Policy(thoughts=False))
            if counts_only:
                call = gemini.count_call(encoded, model, target)
            else:
                call = gemini.call(encoded, model, target, is_stream=False)
            answer = await send(call)
            status = answer.status
            try:
                body = await answer.read()
            finally:
                answer.close()
        if status != 200:
            raise gemini.decode_error(status, answer.headers, body)
        if counts_only:
            gemini.decode_count(gemini.unwrap(_parse(body)))
        else:
            decoder = gemini.decoder(encoded, "test")
            decoder.feed(gemini.unwrap(_parse(body)))
            decoder.finish()
    except TimeoutError:
        fault = f"no answer within {seconds:g} s"
    except GatewayError as error:
        # Upstream may quote the key, and this command need not name itself.
        quoted = (
            hide(error.message.replace(key, mask(key)), account.secrets) if len(key) >= _LEAST_KEY else error.message
        )
        fault = quoted.removesuffix(" Check it with: agproxy accounts test")
    return Outcome(status=status, milliseconds=round((time.monotonic() - started) * 1000), fault=fault)
