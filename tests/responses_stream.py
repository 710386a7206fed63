"""Reads a Responses stream as strictly as the grammar of the live API is written down (openai-responses.md, 6).

Shares nothing with the code under test. `read` gives the events, `check` raises AssertionError for whatever a client
may trip over: a wrong `event:` line, a gap in the numbers, an item out of order, deltas that do not add up, an
identity that changes, an end that is missing or comes twice.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any

ENDS = {"response.completed", "response.incomplete", "response.failed"}
# What may stand between output_item.added and output_item.done, by item type; short names, one space after each.
_TEXT = r"part.added (text.delta )*(annotation )*text.done part.done "
BODIES = {
    "message": rf"({_TEXT})+",
    "reasoning": r"(summary_part.added (summary_text.delta )*summary_text.done summary_part.done )*",
    "function_call": r"(arguments.delta )+arguments.done ",
    "custom_tool_call": r"(input.delta )*input.done ",
    "web_search_call": r"ws.in_progress ws.searching ws.completed ",
    "code_interpreter_call": r"ci.in_progress (code.delta )*code.done ci.interpreting ci.completed ",
    "image_generation_call": r"ig.in_progress ig.generating ig.completed ",
    "local_shell_call": r"",
    "tool_search_call": r"",
    "shell_call": r"(command.added (command.delta )*command.done )*",
    "apply_patch_call": r"((diff.delta )*diff.done )?",
}
_SHORT = {
    "response.content_part.added": "part.added",
    "response.content_part.done": "part.done",
    "response.output_text.delta": "text.delta",
    "response.output_text.done": "text.done",
    "response.output_text.annotation.added": "annotation",
    "response.reasoning_summary_part.added": "summary_part.added",
    "response.reasoning_summary_part.done": "summary_part.done",
    "response.reasoning_summary_text.delta": "summary_text.delta",
    "response.reasoning_summary_text.done": "summary_text.done",
    "response.function_call_arguments.delta": "arguments.delta",
    "response.function_call_arguments.done": "arguments.done",
    "response.custom_tool_call_input.delta": "input.delta",
    "response.custom_tool_call_input.done": "input.done",
    "response.web_search_call.in_progress": "ws.in_progress",
    "response.web_search_call.searching": "ws.searching",
    "response.web_search_call.completed": "ws.completed",
    "response.code_interpreter_call.in_progress": "ci.in_progress",
    "response.code_interpreter_call_code.delta": "code.delta",
    "response.code_interpreter_call_code.done": "code.done",
    "response.code_interpreter_call.interpreting": "ci.interpreting",
    "response.code_interpreter_call.completed": "ci.completed",
    "response.image_generation_call.in_progress": "ig.in_progress",
    "response.image_generation_call.generating": "ig.generating",
    "response.image_generation_call.completed": "ig.completed",
    "response.shell_call_command.added": "command.added",
    "response.shell_call_command.delta": "command.delta",
    "response.shell_call_command.done": "command.done",
    "response.apply_patch_call_operation_diff.delta": "diff.delta",
    "response.apply_patch_call_operation_diff.done": "diff.done",
}
_WITHOUT_ITEM_ID = {"command.added", "command.delta", "command.done"}
# Events with the whole text: its key, and the key by which pieces of one text belong together.
_WHOLE = {
    "text.done": ("text", "content_index"),
    "summary_text.done": ("text", "summary_index"),
    "arguments.done": ("arguments", None),
    "input.done": ("input", None),
    "code.done": ("code", None),
    "command.done": ("command", "command_index"),
    "diff.done": ("diff", None),
}


def read(data: bytes) -> list[dict[str, Any]]:
    """The events of a stream; each frame is an `event:` line and one `data:` line that agree."""
    assert data.endswith(b"\n\n") or not data
    events = []
    for frame in data.decode().split("\n\n")[:-1]:
        name, line = frame.split("\n")
        event = json.loads(line.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        events.append(event)
    return events


@dataclass
class _Open:
    item: dict[str, Any]
    body: str = ""
    deltas: dict[Any, str] = field(default_factory=dict)
    wholes: list[str] = field(default_factory=list)


def identity(item: dict[str, Any]) -> tuple[Any, ...]:
    return item["type"], item["id"], item.get("call_id")


def check(data: bytes) -> dict[str, Any]:
    """The final response object of a legal stream."""
    events = read(data)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    told = [event for event in events if event["type"] != "keepalive"]
    assert [event["type"] for event in told[:2]] == ["response.created", "response.in_progress"]
    begun = told[0]["response"]
    assert begun["status"] == "in_progress"
    assert begun["output"] == []
    assert begun["usage"] is None
    *middle, end = told[2:]
    assert end["type"] in ENDS
    assert not [event for event in middle if event["type"] in ENDS]
    final = end["response"]
    assert final["status"] == end["type"].removeprefix("response.")
    assert list(final) == list(begun)
    assert final["id"] == begun["id"]
    done, still_open = _items(middle)
    assert final["output"] == done
    assert not still_open or final["status"] == "failed"
    assert len({item["id"] for item in done}) == len(done)
    return final


def _items(events: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], bool]:
    done: list[dict[str, Any]] = []
    current: _Open | None = None
    for event in events:
        kind = event["type"]
        if kind == "response.output_item.added":
            assert current is None, "two items open at a time"
            assert event["output_index"] == len(done)
            assert "item_id" not in event
            current = _Open(event["item"])
            continue
        assert current is not None, f"{kind} outside every item"
        assert event["output_index"] == len(done)
        if kind == "response.output_item.done":
            _close(current, event["item"])
            done.append(event["item"])
            current = None
            continue
        short = _SHORT[kind]
        current.body += short + " "
        if short not in _WITHOUT_ITEM_ID:
            assert event["item_id"] == current.item["id"]
        _collect(current, short, event)
    return done, current is not None


def _collect(current: _Open, short: str, event: dict[str, Any]) -> None:
    index = next((event[k] for k in ("content_index", "summary_index", "command_index") if k in event), None)
    if short.endswith(".delta"):
        assert event["delta"] != ""
        current.deltas[index] = current.deltas.get(index, "") + event["delta"]
    elif short in _WHOLE:
        key, _ = _WHOLE[short]
        assert event[key] == current.deltas.get(index, "")
        current.wholes.append(event[key])
    elif short in ("part.done", "summary_part.done"):
        assert event["part"]["text"] == current.wholes[-1]


def _close(current: _Open, item: dict[str, Any]) -> None:
    assert identity(item) == identity(current.item)
    assert re.fullmatch(BODIES[item["type"]], current.body), (item["type"], current.body)
    texts = {
        "message": lambda: [part["text"] for part in item["content"]],
        "reasoning": lambda: [part["text"] for part in item["summary"]],
        "function_call": lambda: [item["arguments"]],
        "custom_tool_call": lambda: [item["input"]],
        "code_interpreter_call": lambda: [item["code"]],
        "shell_call": lambda: item["action"]["commands"],
    }.get(item["type"])
    if texts is not None:
        assert texts() == current.wholes
    if item["type"] != "reasoning":
        assert current.item["status"] == "in_progress"
        assert item["status"] in ("completed", "incomplete", "failed")
