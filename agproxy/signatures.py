"""Thought signatures for clients that lose them: a bounded memory of tool-call id -> signature.

Gemini 3 wants the signature of a function call back with the call. Most clients send back only id, name and
arguments, so what an answer carried is remembered here and put back by the call's id. A signature is good for the
model that made it only. Lost on restart, on purpose: Gemini's documented bypass value then stands in.
"""

from collections import OrderedDict
from dataclasses import replace

from .conversation import Part, Request, ToolCall, ToolResult


class SignatureMemory:
    """The newest signatures, bounded by count and by their text's length in all."""

    def __init__(self, *, max_count: int = 10_000, max_characters: int = 64 * 1024 * 1024) -> None:
        self._max_count = max_count
        self._max_characters = max_characters
        self._known: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._characters = 0

    def remember(self, model: str, call: ToolCall) -> None:
        if call.id is None or call.opaque is None:
            return
        self._forget(self._known.pop((model, call.id), ""))
        self._known[(model, call.id)] = call.opaque
        self._characters += len(call.opaque)
        while len(self._known) > self._max_count or self._characters > self._max_characters:
            self._forget(self._known.popitem(last=False)[1])

    def _forget(self, signature: str) -> None:
        self._characters -= len(signature)

    def restore(self, request: Request, model: str) -> Request:
        """The request with remembered signatures on calls that came without one."""

        def restored(part: Part) -> Part:
            if isinstance(part, ToolCall) and part.opaque is None and part.id is not None:
                known = self._known.get((model, part.id))
                return part if known is None else replace(part, opaque=known)
            return part

        if not any(isinstance(part, ToolCall) for turn in request.turns for part in turn.parts):
            return request
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
