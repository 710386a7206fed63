"""Responses and conversations as kept records: what a request reads of them, and what its answer leaves.

A `response` record holds the final object and the input items of its own request; a response that goes on from
another has that one as its parent, so that the context is the chain's items in order, and nothing is stored twice. A
`conversation` record holds the object, its `item` records come after each other below it. A response on a
conversation keeps the conversation's id and how far it had come.

Decisions, where OpenAI's documents are silent:
- What goes on from a response that runs, failed or was cancelled is refused; an incomplete one can be gone on from.
- A removed response stays part of the context of those that went on from it before.
- `store: false` keeps nothing at all: no response, and no items in a conversation either.
- A conversation takes the items of completed and incomplete responses, those of one request in one step.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from ...conversation import Exchange, Request
from ...errors import InvalidRequest
from ...jsontext import JsonObject
from ...records import Chain, Change, Children, Found, Get, Put, Read, Record
from .echo import response_id
from .items import is_reference, reference_ids
from .request import decode_request

RESPONSE, CONVERSATION, ITEM, STREAM = "response", "conversation", "item", "stream"
RUNNING = frozenset({"queued", "in_progress"})
_ENDED_WELL = frozenset({"completed", "incomplete"})
# Frames of a background stream can be had again for so long after its end; the response itself stays.
STREAM_SECONDS = 600

# All ids of one exchange are made from its own: an output item is `fc_<exchange><number>`, an input item has an `i`
# before the number. So the response that holds an item is known from the item's id.
_ITEM_ID = re.compile(r"[a-z]+_([0-9a-f]{24})i?[0-9a-f]{2,}")
_PREFIXES = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
    "local_shell_call": "lsh",
    "local_shell_call_output": "lsho",
    "shell_call": "sh",
    "shell_call_output": "sho",
    "apply_patch_call": "apc",
    "apply_patch_call_output": "apco",
    "tool_search_call": "tsc",
    "tool_search_output": "tso",
    "web_search_call": "ws",
    "file_search_call": "fs",
    "code_interpreter_call": "ci",
    "image_generation_call": "ig",
    "mcp_list_tools": "mcpl",
    "mcp_call": "mcp",
    "additional_tools": "at",
    "compaction": "cmp",
}


def response_not_found(identifier: str) -> InvalidRequest:
    return InvalidRequest(f"Response with id '{identifier[:64]}' not found.", status=404)


def conversation_not_found(identifier: str, param: str | None = None) -> InvalidRequest:
    return InvalidRequest(f"Conversation with id '{identifier[:64]}' not found.", status=404, param=param)


def conversation_of(body: JsonObject) -> str | None:
    """The id of the conversation that a body names, where it is well-formed."""
    value = body.get("conversation")
    if isinstance(value, dict):
        value = value.get("id")
    return value if isinstance(value, str) else None


def _previous_of(body: JsonObject) -> str | None:
    value = body.get("previous_response_id")
    return value if isinstance(value, str) else None


def items_of(conversation: str) -> Children:
    return Children(kind=ITEM, parent=(CONVERSATION, conversation))


# --- before a request --------------------------------------------------------------------------------------------


def chain_needs(identifier: str, found: Found) -> Iterator[Read]:
    """What the context of a kept response takes: its chain, and the conversation that the chain began on."""
    chain = Chain(kind=RESPONSE, id=identifier)
    yield chain
    for record in found.get(chain, ())[:1]:
        conversation = record.body.get("conversation")
        if conversation is not None:
            yield Get(kind=CONVERSATION, id=conversation["id"])
            yield items_of(conversation["id"])


def create_needs(body: JsonObject, found: Found) -> Iterator[Read]:
    """What decoding a request takes. Asked again with what was found, until nothing is missing."""
    previous, conversation = _previous_of(body), conversation_of(body)
    if previous is not None:
        yield from chain_needs(previous, found)
    if conversation is not None:
        yield Get(kind=CONVERSATION, id=conversation)
        yield items_of(conversation)
    for identifier in reference_ids(body.get("input")):
        match = _ITEM_ID.fullmatch(identifier)
        if match is not None:
            yield Get(kind=RESPONSE, id=f"resp_{match[1]}")


def decode_kept(body: JsonObject, found: Found) -> Request:
    """`decode_request` with the store's help. Raises InvalidRequest, also for what is not kept."""
    history = history_of(body, found)
    return decode_request(body, history=history, references=references_of(history, found))


def history_of(body: JsonObject, found: Found) -> list[JsonObject]:
    """The items that come before those of the input."""
    previous, conversation = _previous_of(body), conversation_of(body)
    if previous is not None and conversation is not None:
        return []  # refused by the decoder
    if conversation is not None:
        if not found[Get(kind=CONVERSATION, id=conversation)]:
            raise conversation_not_found(conversation, "conversation")
        return [record.body for record in found[items_of(conversation)]]
    if previous is None:
        return []
    chain = found[Chain(kind=RESPONSE, id=previous)]
    if not chain:
        raise _no_previous(f"Previous response with id '{previous[:64]}' not found.")
    status = chain[-1].body["response"]["status"]
    if status not in _ENDED_WELL:
        raise InvalidRequest(
            f"Previous response with id '{previous[:64]}' cannot be continued: its status is '{status}'.",
            code="invalid_value",
            param="previous_response_id",
        )
    return [*context_of(chain, found), *chain[-1].body["response"]["output"]]


def _no_previous(message: str) -> InvalidRequest:
    return InvalidRequest(message, code="previous_response_not_found", param="previous_response_id")


def context_of(chain: tuple[Record, ...], found: Found) -> list[JsonObject]:
    """All that the last response of a chain was asked with. Raises InvalidRequest where its beginning is gone."""
    first, last = chain[0], chain[-1]
    items: list[JsonObject] = []
    conversation = first.body.get("conversation")
    if conversation is not None:
        kept = found[items_of(conversation["id"])]
        items += [record.body for record in kept if record.number <= conversation["until"]]
    is_whole = conversation is None or bool(found[Get(kind=CONVERSATION, id=conversation["id"])])
    if first.parent is not None or not is_whole:
        raise _no_previous(f"What came before response '{last.id[:64]}' is no longer kept.")
    for record in chain[:-1]:
        items += record.body["input"] + record.body["response"]["output"]
    return items + list(last.body["input"])


def references_of(history: Iterable[JsonObject], found: Found) -> dict[str, JsonObject]:
    """Items by id, of all that was found."""
    items = list(history)
    for read, records in found.items():
        if isinstance(read, Get) and read.kind == RESPONSE:
            for record in records:
                items += record.body["input"] + record.body["response"]["output"]
    return {item["id"]: item for item in items if isinstance(item.get("id"), str)}


# --- after an answer ---------------------------------------------------------------------------------------------


def response_changes(exchange: Exchange, response: JsonObject, found: Found) -> tuple[Change, ...]:
    """What an answer leaves, as it stands: while it runs its object, at its end the items of its conversation too."""
    body = exchange.body
    if body.get("store") is False:
        return ()
    history = history_of(body, found)
    own = input_items(body.get("input"), exchange.id, references_of(history, found))
    kept: JsonObject = {"response": response, "input": own}
    previous, conversation = _previous_of(body), conversation_of(body)
    changes: list[Change] = []
    if conversation is not None:
        before = found[items_of(conversation)]
        kept["conversation"] = {"id": conversation, "until": before[-1].number if before else 0}
        if response["status"] in _ENDED_WELL:
            changes += item_changes(conversation, [*own, *response["output"]])
    parent = None if previous is None else (RESPONSE, previous)
    return (Put(record=Record(kind=RESPONSE, id=response["id"], parent=parent, body=kept)), *changes)


def item_changes(conversation: str, items: Iterable[JsonObject]) -> list[Change]:
    return [
        Put(record=Record(kind=ITEM, id=f"{conversation}/{item['id']}", parent=(CONVERSATION, conversation), body=item))
        for item in items
    ]


def stream_changes(exchange: Exchange, frames: bytes, now: int) -> tuple[Change, ...]:
    """The frames of a background run that has ended, for whoever lost the connection."""
    identifier = response_id(exchange)
    record = Record(
        kind=STREAM,
        id=identifier,
        parent=(RESPONSE, identifier),
        expires=now + STREAM_SECONDS,
        body={"frames": frames.decode()},
    )
    return (Put(record=record),)


def settle(record: Record, live: JsonObject | None, is_elsewhere: Callable[[], bool]) -> Record:
    """A record as it is now. live: the object of a response's run, where it runs in this process; is_elsewhere: whether
    it runs in another.

    A run that is under way in the store and nowhere else was ended by a stop of the gateway.
    """
    if record.kind != RESPONSE:
        return record
    response: JsonObject = record.body["response"]
    if live is None and response["status"] in RUNNING and not is_elsewhere():
        error = {"code": "server_error", "message": "The gateway was stopped while this response was being made."}
        live = {**response, "status": "failed", "error": error}
    return record if live is None else replace(record, body={**record.body, "response": live})


# --- items -------------------------------------------------------------------------------------------------------


def input_items(value: Any, maker: str, references: Mapping[str, JsonObject]) -> list[JsonObject]:
    """Input items as they are kept and listed: whole, each with an id. The input has been decoded, so it is valid."""
    if isinstance(value, str):
        value = [{"role": "user", "content": value}]
    items: list[JsonObject] = []
    for item in value or ():
        if is_reference(item):
            if item["id"] in references:
                items.append(references[item["id"]])
            continue
        items.append(_kept_item(item, f"{maker}i{len(items):02x}"))
    return items


def _kept_item(item: JsonObject, number: str) -> JsonObject:
    kind = item.get("type") or "message"
    given = item.get("id")
    identifier = given if isinstance(given, str) and given else f"{_PREFIXES.get(kind, 'item')}_{number}"
    if kind != "message":
        return {**item, "id": identifier}
    content = item.get("content")
    if isinstance(content, str):
        content = [content]
    text = {"type": "output_text", "annotations": [], "logprobs": []}
    plain: JsonObject = text if item.get("role") == "assistant" else {"type": "input_text"}
    content = [{**plain, "text": part} if isinstance(part, str) else part for part in content or ()]
    return {
        **item,
        "id": identifier,
        "type": "message",
        "status": item.get("status") or "completed",
        "content": content,
    }
