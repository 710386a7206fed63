"""One small call with an account, as the gateway would make it: whether its credential serves, and how quickly."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from .account import Account, hide
from .attempts import TokenSource
from .errors import GatewayError, NoAccount
from .http11 import Send
from .masking import mask

MODEL = "gemini-2.5-flash-lite"  # the cheapest that free keys may use as well
_LEAST_KEY = 8  # a shorter word may stand in a message by chance, and is no real key
_MOST_OUTPUT_TOKENS = 16  # room for a word; a model that thinks gets its least thinking by the encoder


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one account's call brought. status: upstream's, where it answered. fault: what is wrong, or nothing."""

    status: int | None = None
    milliseconds: int | None = None
    fault: str = ""


async def probe(
    send: Send,
    tokens: TokenSource | None,
    account: Account,
    base_url: str,
    model: str,
    seconds: float,
    clock: Callable[[], float],
    *,
    counts_only: bool = False,
) -> Outcome:
    """The outcome of one call, its answer decoded as the gateway would. base_url: of the Gemini API by the settings,
    version included. counts_only: tokens are counted and none are made, which costs nothing."""
    from .answers import whole
    from .backends import gemini  # here, so that the commands that only name a model start without the codec
    from .conversation import Policy, Request, Role, Sampling, Text, Turn
    from .targets import target_of

    key = account.key
    turn = Turn(role=Role.USER, parts=(Text(text="ping"),))
    request = Request(model=model, turns=(turn,), sampling=Sampling(max_output_tokens=_MOST_OUTPUT_TOKENS))
    status: int | None = None
    started = clock()
    fault = ""
    try:
        async with asyncio.timeout(seconds):
            if not key:
                if tokens is None:
                    raise NoAccount("Nobody fetches tokens here.")
                key = await tokens.token(account)
            target = target_of(account, key, base_url)
            encoded = gemini.encode(request, model, Policy(thoughts=False))
            if counts_only:
                call = gemini.count_call(encoded, model, target)
            else:
                call = gemini.call(encoded, model, target, is_stream=False)
            answer = await send(call)
            status = answer.status
            value = gemini.unwrap(await whole(answer))
        if counts_only:
            gemini.decode_count(value)
        else:
            decoder = gemini.decoder(encoded, "test")
            decoder.feed(value)
            decoder.finish()
    except TimeoutError:
        fault = f"no answer within {seconds:g} s"
    except GatewayError as error:
        # Upstream may quote the key, and who asks for a test need not be told of one.
        quoted = (
            hide(error.message.replace(key, mask(key)), account.secrets) if len(key) >= _LEAST_KEY else error.message
        )
        fault = quoted.removesuffix(" Check it with: agproxy accounts test")
    return Outcome(status=status, milliseconds=round((clock() - started) * 1000), fault=fault)
