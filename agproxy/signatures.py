"""Thought signatures for clients that lose them: a bounded memory, by tool-call id and by an image's content.

Gemini 3 wants the signature of a function call back with the call, and its image models that of each image. Most
clients send back only id, name and arguments, or the picture, so what an answer carried is remembered here and put
back. A signature is good for the model that made it only. Lost on restart, on purpose: Gemini's documented bypass
value then stands in.

Workers that serve one address together share what they remember by way of a store, `SharedSignatures`: the answer to a
call may reach another worker than made it.
"""

import contextlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from operator import is_

from .conversation import Media, Part, Request, Role, ToolCall, ToolResult, Turn
from .errors import StateUnavailable
from .records import Get, Put, Record, Store

_KIND = "signature"
_KEPT_SECONDS = 86400
_SIGNED = (ToolCall, Media)


def _key(part: Part) -> str | None:
    """What a part is known again by, or None for parts that need no signature."""
    if isinstance(part, ToolCall):
        return part.id
    if isinstance(part, Media) and part.data is not None:
        return "media:" + sha256(part.data.encode()).hexdigest()
    return None


class SignatureMemory:
    """The newest signatures, bounded by count and by their text's length in all."""

    def __init__(self, *, max_count: int = 10_000, max_characters: int = 64 * 1024 * 1024) -> None:
        self._max_count = max_count
        self._max_characters = max_characters
        self._known: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._characters = 0
        self.is_shared = False
        self._news: list[tuple[str, str, str]] = []

    def remember(self, model: str, part: Part) -> None:
        """Keep a part's signature, if it has one."""
        if isinstance(part, ToolResult) or part.opaque is None:
            return
        key = _key(part)
        if key is None:
            return
        self.learn(model, key, part.opaque)
        if self.is_shared:
            self._news.append((model, key, part.opaque))

    def learn(self, model: str, key: str, signature: str) -> None:
        """Keep the signature of what is known by a key."""
        self._forget(self._known.pop((model, key), ""))
        self._known[(model, key)] = signature
        self._characters += len(signature)
        while len(self._known) > self._max_count or self._characters > self._max_characters:
            self._forget(self._known.popitem(last=False)[1])

    def _forget(self, signature: str) -> None:
        self._characters -= len(signature)

    def take_news(self) -> list[tuple[str, str, str]]:
        """(model, key, signature) of what was remembered since this was last asked."""
        news, self._news = self._news, []
        return news

    def missing(self, request: Request, model: str) -> list[str]:
        """The keys of parts that came without a signature, and of which none is remembered."""
        parts = (part for turn in request.turns if turn.role is Role.MODEL for part in turn.parts)
        bare = (part for part in parts if isinstance(part, _SIGNED) and part.opaque is None)
        keys = (key for part in bare if (key := _key(part)) is not None)
        return [key for key in dict.fromkeys(keys) if (model, key) not in self._known]

    def restore(self, request: Request, model: str) -> Request:
        """The request with remembered signatures on the model's calls and images that came without one."""
        if not self._known:
            return request

        def restored(part: Part) -> Part:
            if not isinstance(part, _SIGNED) or part.opaque is not None:
                return part
            key = _key(part)
            known = None if key is None else self._known.get((model, key))
            return part if known is None else replace(part, opaque=known)

        def of_turn(turn: Turn) -> Turn:
            if turn.role is not Role.MODEL:
                return turn
            parts = tuple(map(restored, turn.parts))
            return turn if all(map(is_, parts, turn.parts)) else replace(turn, parts=parts)

        return replace(request, turns=tuple(map(of_turn, request.turns)))


class SharedSignatures:
    """A memory, and the store by which others have a share in it."""

    def __init__(self, memory: SignatureMemory, store: Store, now: Callable[[], float]) -> None:
        self._memory = memory
        self._store = store
        self._now = now
        memory.is_shared = True

    async def load(self, request: Request, model: str) -> None:
        """Learn what others remember of a request's parts; nothing where the store cannot be read, which it logs."""
        keys = self._memory.missing(request, model)
        if not keys:
            return
        reads = [Get(kind=_KIND, id=f"{model} {key}") for key in keys]
        with contextlib.suppress(StateUnavailable):
            for key, records in zip(keys, await self._store.read("", reads, self._now()), strict=True):
                for record in records:
                    self._memory.learn(model, key, record.body["signature"])

    async def save(self) -> None:
        """Tell the others what is new here, before the client can ask one of them."""
        news = self._memory.take_news()
        if not news:
            return
        now = self._now()
        records = [
            Record(kind=_KIND, id=f"{model} {key}", body={"signature": signature}, expires=int(now) + _KEPT_SECONDS)
            for model, key, signature in news
        ]
        with contextlib.suppress(StateUnavailable):
            await self._store.write("", [Put(record=record) for record in records], now)


def without_signatures(request: Request) -> Request:
    """The request with every signature taken out: what is left to try when Gemini refuses one as foreign."""

    def bare(part: Part) -> Part:
        if isinstance(part, ToolResult) or part.opaque is None:
            return part
        return replace(part, opaque=None)

    turns = tuple(replace(turn, parts=tuple(map(bare, turn.parts))) for turn in request.turns)
    return replace(request, turns=turns)
