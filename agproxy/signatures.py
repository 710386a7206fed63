"""Thought signatures for clients that lose them: a bounded memory, by tool-call id and by an image's content.

Gemini 3 wants the signature of a function call back with the call, and its image models that of each image. Most
clients send back only id, name and arguments, or the picture, so what an answer carried is remembered here and put
back. A signature is good for the model that made it only. Lost on restart, on purpose: Gemini's documented bypass
value then stands in.
"""

from collections import OrderedDict
from dataclasses import replace
from hashlib import sha256

from .conversation import Media, Part, Request, ToolCall, ToolResult


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

    def remember(self, model: str, part: Part) -> None:
        """Keep a part's signature, if it has one."""
        if isinstance(part, ToolResult) or part.opaque is None:
            return
        key = _key(part)
        if key is None:
            return
        self._forget(self._known.pop((model, key), ""))
        self._known[(model, key)] = part.opaque
        self._characters += len(part.opaque)
        while len(self._known) > self._max_count or self._characters > self._max_characters:
            self._forget(self._known.popitem(last=False)[1])

    def _forget(self, signature: str) -> None:
        self._characters -= len(signature)

    def restore(self, request: Request, model: str) -> Request:
        """The request with remembered signatures on the model's calls and images that came without one."""
        if not self._known:
            return request

        def restored(part: Part) -> Part:
            if not isinstance(part, ToolCall | Media) or part.opaque is not None:
                return part
            key = _key(part)
            known = None if key is None else self._known.get((model, key))
            return part if known is None else replace(part, opaque=known)

        turns = tuple(replace(turn, parts=tuple(map(restored, turn.parts))) for turn in request.turns)
        return replace(request, turns=turns)


def without_signatures(request: Request) -> Request:
    """The request with every signature taken out: what is left to try when Gemini refuses one as foreign."""

    def bare(part: Part) -> Part:
        if isinstance(part, ToolResult) or part.opaque is None:
            return part
        return replace(part, opaque=None)

    turns = tuple(replace(turn, parts=tuple(map(bare, turn.parts))) for turn in request.turns)
    return replace(request, turns=turns)
