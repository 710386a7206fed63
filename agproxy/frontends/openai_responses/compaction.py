"""Compaction: a long history becomes a summary that the model writes, sealed in one item.

Two ways lead here, as at OpenAI: a `compaction_trigger` as the last input item (Codex, with a provider called OpenAI),
whose answer holds exactly one `compaction` item, and `POST /responses/compact`, whose answer holds the messages that
are no model's besides. Both ask the model with the whole history and `INSTRUCTION`. What the item stands for is read
back by `items`, as a message of the user's.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ...conversation import ChoiceEnded, Exchange, Part, Text
from ...errors import UpstreamFailed
from ...jsontext import JsonObject
from .sealed import encode_summary

if TYPE_CHECKING:
    from .output import Sink

TRIGGER = "compaction_trigger"

INSTRUCTION = """\
Everything above is about to be replaced by a summary, which you write now. Whoever goes on from here, perhaps you, \
will see the summary and the user's messages and nothing else of this conversation.

Write down what it takes to go on without asking or searching again:
- what the user wants in the end, and every wish, limit and preference they stated;
- what has been done and decided, and why;
- what was found out, with names, paths, commands, numbers and error texts exactly as they were;
- what is still open, and the step that comes next.

Answer with the summary alone. Call no tools."""


def is_compaction(body: JsonObject) -> bool:
    """Whether a request (one that can be decoded) asks for its history to be compacted."""
    items = body.get("input")
    return isinstance(items, list) and bool(items) and isinstance(items[-1], dict) and items[-1].get("type") == TRIGGER


def compact_body(body: JsonObject) -> JsonObject:
    """The request to the model that a body of `POST /responses/compact` comes down to. Nothing of it is kept."""
    given = body.get("input")
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    if items is None:
        items = []
    with_trigger = [*items, {"type": TRIGGER}] if isinstance(items, list) else items  # what is wrong, the decoder says
    return {**body, "input": with_trigger, "store": False, "stream": False, "background": False}


def encode_compaction(response: JsonObject, exchange: Exchange, history: Iterable[JsonObject]) -> JsonObject:
    """The answer of `POST /responses/compact`: what others than the model said, and the summary of it all."""
    kept = [item for item in history if item.get("type") == "message" and item.get("role") != "assistant"]
    return {
        "id": response["id"],
        "object": "response.compaction",
        "created_at": exchange.created,
        "output": [*kept, *response["output"]],
        "usage": response["usage"],
    }


class Compactor:
    """In a `Composer`'s place: the answer's text becomes the one item, everything else in the answer goes."""

    def __init__(self, exchange: Exchange, sink: "Sink") -> None:
        self._sink = sink
        self._id = f"cmp_{exchange.id}00"
        self._pieces: list[str] = []
        self._is_text = False
        self.items: list[JsonObject] = []
        self.searches = 0

    @property
    def is_empty(self) -> bool:
        return not self.items

    def start(self, part: Part) -> None:
        self._is_text = isinstance(part, Text)
        if isinstance(part, Text):
            self.delta(part.text)

    def delta(self, text: str) -> None:
        if self._is_text:
            self._pieces.append(text)

    def end_part(self) -> None:
        self._is_text = False

    def end_choice(self, end: ChoiceEnded) -> None:
        """Raises UpstreamFailed where there is no summary: an empty one would end the conversation."""
        summary = "".join(self._pieces).strip()
        if not summary:
            raise UpstreamFailed("Gemini wrote no summary of the conversation.", code="bad_upstream_body")
        item: JsonObject = {"id": self._id, "type": "compaction", "encrypted_content": encode_summary(summary)}
        self._sink.event("response.output_item.added", {"output_index": 0, "item": {**item, "encrypted_content": ""}})
        self._sink.event("response.output_item.done", {"output_index": 0, "item": item})
        self.items.append(item)
