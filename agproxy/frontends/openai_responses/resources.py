"""The resource routes of Responses: kept responses, their input items, conversations. All of it pure.

`needs` says which records a request reads (asked again with what was found until nothing is missing), `handle` gives
the answer and the changes. Both are tables by action. How records are made and what they mean is `kept`'s matter;
cancelling a run is the gateway's, which stops it before it asks here (`STOPS`). Follows OpenAI's reference, as
openai-python 3.54 has it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from ...conversation import Exchange, Notice
from ...errors import InvalidRequest
from ...jsontext import JsonObject
from ...records import Asked, Chain, Found, Get, Outcome, Put, Read, Record, Remove
from .. import _fields as read
from . import answer, compaction, kept
from .items import decode_items
from .kept import CONVERSATION, ITEM, RESPONSE, STREAM, conversation_of, items_of
from .request import check_metadata
from .tools import Toolbox

ROUTES = (
    ("GET", "/responses/{id}", "get_response"),
    ("DELETE", "/responses/{id}", "delete_response"),
    ("POST", "/responses/{id}/cancel", "cancel_response"),
    ("GET", "/responses/{id}/input_items", "list_input_items"),
    ("POST", "/responses/input_tokens", "count"),
    ("POST", "/responses/compact", "compact"),
    ("POST", "/conversations", "create_conversation"),
    ("GET", "/conversations/{id}", "get_conversation"),
    ("POST", "/conversations/{id}", "update_conversation"),
    ("DELETE", "/conversations/{id}", "delete_conversation"),
    ("POST", "/conversations/{id}/items", "create_items"),
    ("GET", "/conversations/{id}/items", "list_items"),
    ("GET", "/conversations/{id}/items/{item}", "get_item"),
    ("DELETE", "/conversations/{id}/items/{item}", "delete_item"),
)
# Actions before which a run of the response with the path's id is stopped.
STOPS = frozenset({"cancel_response", "delete_response"})

StreamEncoder = answer.StreamEncoder
create_needs = kept.create_needs
decode_request = kept.decode_kept
changes = kept.response_changes
stream_changes = kept.stream_changes
settle = kept.settle
compact_body = compaction.compact_body


def lock_of(body: JsonObject) -> str | None:
    """What only one answer at a time may work on."""
    return conversation_of(body)


def locked(key: str) -> InvalidRequest:
    return InvalidRequest(
        f"Another response is being made on conversation '{key[:64]}'. Wait for its end.",
        status=409,
        code="conversation_locked",
    )


def is_background(exchange: Exchange) -> bool:
    return exchange.body.get("background") is True


def encode_count(tokens: int) -> JsonObject:
    return {"object": "response.input_tokens", "input_tokens": tokens}


def encode_compaction(response: JsonObject, exchange: Exchange, found: Found) -> JsonObject:
    """The answer of `compact`, from that of the exchange which made the summary."""
    before = kept.history_of(exchange.body, found)
    own = kept.input_items(exchange.body.get("input"), exchange.id, kept.references_of(before, found))
    return compaction.encode_compaction(response, exchange, [*before, *own])


# --- streams -----------------------------------------------------------------------------------------------------


def wants_stream(asked: Asked) -> bool:
    """Whether a response is to be told again as its stream."""
    return asked.action == "get_response" and asked.query.get("stream", ("",))[-1].lower() in ("true", "1")


def frames_after(frames: bytes, asked: Asked) -> bytes:
    """The frames that come after the number in the query. Numbers count from 0 in steps of 1: they are places."""
    given = asked.query.get("starting_after", ("",))[-1]
    if not given:
        return frames
    if not given.isdecimal() or len(given) > 9:
        raise InvalidRequest(
            f"Invalid type for 'starting_after': expected an integer, but got '{given[:64]}' instead.",
            code="invalid_type",
            param="starting_after",
        )
    pieces = frames.split(b"\n\n")
    return b"\n\n".join(pieces[int(given) + 1 :])


def kept_frames(found: Found, asked: Asked) -> bytes:
    """The frames of a background run that has ended. Raises InvalidRequest where there are none."""
    record = _response(found, asked)
    streams = found[Get(kind=STREAM, id=record.id)]
    if not streams:
        why = (
            f"its stream is kept for {kept.STREAM_SECONDS // 60} minutes after its end"
            if record.body["response"]["background"]
            else "it was not made in the background"
        )
        raise InvalidRequest(f"Response '{record.id[:64]}' cannot be streamed: {why}.", param="stream")
    frames: str = streams[0].body["frames"]
    return frames.encode()


# --- answers -----------------------------------------------------------------------------------------------------


def _id(asked: Asked) -> str:
    return asked.params["id"]


def _response(found: Found, asked: Asked) -> Record:
    records = found[Get(kind=RESPONSE, id=_id(asked))]
    if not records:
        raise kept.response_not_found(_id(asked))
    return records[0]


def _get_response(asked: Asked, found: Found) -> Outcome:
    return Outcome(body=_response(found, asked).body["response"])


def _delete_response(asked: Asked, found: Found) -> Outcome:
    record = _response(found, asked)
    return Outcome(
        body={"id": record.id, "object": "response", "deleted": True}, changes=(Remove(kind=RESPONSE, id=record.id),)
    )


def _cancel_response(asked: Asked, found: Found) -> Outcome:
    """A run was stopped before this; one that had ended is told as it ended."""
    response: JsonObject = _response(found, asked).body["response"]
    if not response["background"]:
        raise InvalidRequest("Cannot cancel a synchronous response.")
    return Outcome(body=response)


def _list_input_items(asked: Asked, found: Found) -> Outcome:
    """All that the response was asked with, what came before included."""
    _response(found, asked)
    items = kept.context_of(found[Chain(kind=RESPONSE, id=_id(asked))], found)
    return Outcome(body=_page(asked, items))


def _conversation(found: Found, asked: Asked) -> Record:
    records = found[Get(kind=CONVERSATION, id=_id(asked))]
    if not records:
        raise kept.conversation_not_found(_id(asked))
    return records[0]


def _create_conversation(asked: Asked, found: Found) -> Outcome:
    check_metadata(asked.body)
    identifier = f"conv_{asked.id}"
    body = {
        "id": identifier,
        "object": "conversation",
        "created_at": asked.now,
        "metadata": asked.body.get("metadata") or {},
    }
    items = _new_items(asked, ()) if asked.body.get("items") is not None else []
    record = Record(kind=CONVERSATION, id=identifier, body=body)
    return Outcome(body=body, changes=(Put(record=record), *kept.item_changes(identifier, items)))


def _get_conversation(asked: Asked, found: Found) -> Outcome:
    return Outcome(body=_conversation(found, asked).body)


def _update_conversation(asked: Asked, found: Found) -> Outcome:
    record = _conversation(found, asked)
    check_metadata(asked.body)
    body = {**record.body, "metadata": asked.body.get("metadata") or {}}
    return Outcome(body=body, changes=(Put(record=Record(kind=CONVERSATION, id=record.id, body=body)),))


def _delete_conversation(asked: Asked, found: Found) -> Outcome:
    record = _conversation(found, asked)
    return Outcome(
        body={"id": record.id, "object": "conversation.deleted", "deleted": True},
        changes=(Remove(kind=CONVERSATION, id=record.id),),
    )


_MOST_ITEMS = 20


def _new_items(asked: Asked, before: Sequence[JsonObject]) -> list[JsonObject]:
    """Items that a client adds. They are read as an input is, so that a later request does not stumble over them."""
    items = read.array(read.required(asked.body, "items", ""), "items", most=_MOST_ITEMS)
    notices: list[Notice] = []
    decode_items(items, Toolbox(notices), notices, history=before, path="items")
    return kept.input_items(items, asked.id, {})


def _create_items(asked: Asked, found: Found) -> Outcome:
    record = _conversation(found, asked)
    items = _new_items(asked, [item.body for item in found[items_of(record.id)]])
    return Outcome(body=_list(items, has_more=False), changes=tuple(kept.item_changes(record.id, items)))


def _list_items(asked: Asked, found: Found) -> Outcome:
    record = _conversation(found, asked)
    return Outcome(body=_page(asked, [item.body for item in found[items_of(record.id)]]))


def _item(found: Found, asked: Asked) -> Record:
    record = _conversation(found, asked)
    items = found[Get(kind=ITEM, id=f"{record.id}/{asked.params['item']}")]
    if not items:
        raise _no_item(asked.params["item"])
    return items[0]


def _no_item(identifier: str) -> InvalidRequest:
    return InvalidRequest(f"Item with id '{identifier[:64]}' not found.", status=404)


def _get_item(asked: Asked, found: Found) -> Outcome:
    return Outcome(body=_item(found, asked).body)


def _delete_item(asked: Asked, found: Found) -> Outcome:
    """The answer is the conversation, as OpenAI's reference has it."""
    item = _item(found, asked)
    return Outcome(body=_conversation(found, asked).body, changes=(Remove(kind=ITEM, id=item.id),))


# --- lists -------------------------------------------------------------------------------------------------------


def _list(items: Sequence[JsonObject], *, has_more: bool) -> JsonObject:
    return {
        "object": "list",
        "data": list(items),
        "first_id": items[0]["id"] if items else None,
        "last_id": items[-1]["id"] if items else None,
        "has_more": has_more,
    }


def _page(asked: Asked, items: Sequence[JsonObject]) -> JsonObject:
    """One page of items that are given oldest first."""
    given = asked.query.get("limit", ("20",))[-1]
    limit = read.integer(int(given) if given.isdecimal() and len(given) < 10 else given, "limit", 1, 100)
    order = read.one_of(asked.query.get("order", ("desc",))[-1], "order", ("asc", "desc"))
    ordered = list(items) if order == "asc" else list(reversed(items))
    after = asked.query.get("after", ("",))[-1]
    if after:
        places = [place for place, item in enumerate(ordered) if item["id"] == after]
        if not places:
            raise _no_item(after)
        ordered = ordered[places[-1] + 1 :]
    return _list(ordered[:limit], has_more=len(ordered) > limit)


# --- the tables --------------------------------------------------------------------------------------------------


def _needs_nothing(asked: Asked, found: Found) -> Iterator[Read]:
    yield from ()


def _needs_response(asked: Asked, found: Found) -> Iterator[Read]:
    yield Get(kind=RESPONSE, id=_id(asked))
    if wants_stream(asked):
        yield Get(kind=STREAM, id=_id(asked))


def _needs_context(asked: Asked, found: Found) -> Iterator[Read]:
    yield Get(kind=RESPONSE, id=_id(asked))
    yield from kept.chain_needs(_id(asked), found)


def _needs_conversation(asked: Asked, found: Found) -> Iterator[Read]:
    yield Get(kind=CONVERSATION, id=_id(asked))


def _needs_items(asked: Asked, found: Found) -> Iterator[Read]:
    yield Get(kind=CONVERSATION, id=_id(asked))
    yield items_of(_id(asked))


def _needs_item(asked: Asked, found: Found) -> Iterator[Read]:
    yield Get(kind=CONVERSATION, id=_id(asked))
    yield Get(kind=ITEM, id=f"{_id(asked)}/{asked.params['item']}")


@dataclass(frozen=True, slots=True)
class _Action:
    needs: Callable[[Asked, Found], Iterator[Read]]
    handle: Callable[[Asked, Found], Outcome]


_ACTIONS = {
    "get_response": _Action(_needs_response, _get_response),
    "delete_response": _Action(_needs_response, _delete_response),
    "cancel_response": _Action(_needs_response, _cancel_response),
    "list_input_items": _Action(_needs_context, _list_input_items),
    "create_conversation": _Action(_needs_nothing, _create_conversation),
    "get_conversation": _Action(_needs_conversation, _get_conversation),
    "update_conversation": _Action(_needs_conversation, _update_conversation),
    "delete_conversation": _Action(_needs_conversation, _delete_conversation),
    "create_items": _Action(_needs_items, _create_items),
    "list_items": _Action(_needs_items, _list_items),
    "get_item": _Action(_needs_item, _get_item),
    "delete_item": _Action(_needs_item, _delete_item),
}


def needs(asked: Asked, found: Found) -> Iterable[Read]:
    """The records that a request reads, as far as what was found tells."""
    return _ACTIONS[asked.action].needs(asked, found)


def handle(asked: Asked, found: Found) -> Outcome:
    """The answer and the changes. Raises InvalidRequest."""
    return _ACTIONS[asked.action].handle(asked, found)
