"""Short words for what is said in a unit test: turns of a conversation, chunks of Gemini, and what came of them."""

import random
from collections.abc import Callable, Iterator
from typing import Any

from agproxy.backends import gemini
from agproxy.backends.gemini import Encoded
from agproxy.conversation import (
    Event,
    FunctionTool,
    Part,
    Policy,
    Request,
    Response,
    Role,
    Text,
    ToolCall,
    ToolResult,
    Turn,
    fold,
)

EXCHANGE_ID = "0123456789abcdef01234567"


def _parts(parts: tuple[Part | str, ...]) -> tuple[Part, ...]:
    return tuple(Text(text=part) if isinstance(part, str) else part for part in parts)


def user(*parts: Part | str) -> Turn:
    return Turn(role=Role.USER, parts=_parts(parts))


def model(*parts: Part | str) -> Turn:
    return Turn(role=Role.MODEL, parts=_parts(parts))


def system(*parts: Part | str) -> Turn:
    """A system message within the conversation."""
    return Turn(role=Role.SYSTEM, parts=_parts(parts))


def call(id: str | None, name: str = "look", arguments: str = "{}", signature: str | None = None) -> ToolCall:
    return ToolCall(id=id, name=name, arguments=arguments, opaque=signature)


def result(id: str | None, *content: Any, name: str = "look", is_error: bool = False) -> ToolResult:
    return ToolResult(call_id=id, name=name, content=_parts(content), is_error=is_error)  # type: ignore[arg-type]


def tool(name: str = "look", **more: Any) -> FunctionTool:
    return FunctionTool(name=name, **more)


def request(*turns: Turn, **more: Any) -> Request:
    return Request(model="gpt-4o", turns=turns, **more)


def encode(asked: Request, name: str = "gemini-2.5-flash", **policy: Any) -> Encoded:
    return gemini.encode(asked, name, Policy(**policy))


def told(encoded: Encoded) -> str:
    """All notices, for a look at their words."""
    return "\n".join(notice.message for notice in encoded.notices)


# --- Gemini's side ---------------------------------------------------------------------------------------------


def chunk(*parts: Any, finish: str | None = None, **candidate: Any) -> dict[str, Any]:
    """A chunk with one candidate; a string is a text part."""
    if parts:
        spelled = [{"text": part} if isinstance(part, str) else part for part in parts]
        candidate["content"] = {"role": "model", "parts": spelled}
    if finish is not None:
        candidate["finishReason"] = finish
    return {"candidates": [candidate]}


def function_call(name: str = "look", **call: Any) -> dict[str, Any]:
    return {"functionCall": {"name": name} | call}


def decoder(
    asked: Request | None = None, choice_offset: int = 0, name: str = "gemini-2.5-flash"
) -> gemini.StreamDecoder:
    encoded = encode(asked or request(user("hello"), tools=(tool("look"), tool("list"))), name)
    return gemini.decoder(encoded, EXCHANGE_ID, choice_offset)


def decode(*chunks: Any, asked: Request | None = None, name: str = "gemini-2.5-flash") -> list[Event]:
    reader = decoder(asked, name=name)
    return [event for said in chunks for event in reader.feed(said)] + reader.finish()


def answer(*chunks: Any, asked: Request | None = None, name: str = "gemini-2.5-flash") -> Response:
    return fold(decode(*chunks, asked=asked, name=name))


# --- outcomes --------------------------------------------------------------------------------------------------


def tried(function: Callable[..., Any], *args: Any, errors: Any) -> tuple[Any, Any]:
    """(value, None) of a call, or (None, error) where it raises one of the errors that are meant."""
    try:
        return function(*args), None
    except errors as error:
        return None, error


# --- bytes -----------------------------------------------------------------------------------------------------


def splits(data: bytes, *, seed: int, count: int = 20) -> Iterator[list[bytes]]:
    """The bytes whole, one by one, and cut at chance places, which the seed decides."""
    yield [data]
    yield [data[i : i + 1] for i in range(len(data))]
    chance = random.Random(seed)
    for _ in range(count):
        cuts = sorted(chance.sample(range(1, len(data)), min(chance.randint(1, 8), len(data) - 1)))
        yield [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
