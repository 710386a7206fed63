"""OpenAI's own client-run tools for a model that does not know them: each becomes a function with typed arguments.

`local_shell`, `shell`, `apply_patch` and a client-run `tool_search` are declared to the model as functions; a call of
one goes out as the item that the client expects, and such an item in the history comes back as the same call. The
two directions of a tool stand side by side in `EMULATED`. Shapes follow openai-python's types and the recordings
`openai-local-shell-tool`, `openai-shell-tool`, `openai-apply-patch-tool` and `openai-client-tool-search`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...jsontext import JsonObject

_TEXT = {"type": "string"}
_COUNT = {"type": "integer"}
_TEXTS = {"type": "array", "items": _TEXT}
OPERATIONS = ("create_file", "update_file", "delete_file")


def _object(required: tuple[str, ...], **properties: Any) -> JsonObject:
    return {"type": "object", "properties": properties, "required": list(required)}


_LOCAL_SHELL_PARAMETERS = _object(
    ("command",),
    command={**_TEXTS, "description": "The program and its arguments, one an entry."},
    env={"type": "object", "additionalProperties": _TEXT, "description": "Environment variables to set."},
    timeout_ms={**_COUNT, "description": "Milliseconds after which the command is stopped."},
    working_directory={**_TEXT, "description": "The folder to run in."},
    user={**_TEXT, "description": "The user to run as."},
)

_SHELL_PARAMETERS = _object(
    ("commands",),
    commands={**_TEXTS, "description": "Shell command lines; each runs by itself."},
    timeout_ms={**_COUNT, "description": "Milliseconds after which the commands are stopped."},
    max_output_length={**_COUNT, "description": "How many characters of output each command may give back."},
)

_APPLY_PATCH_PARAMETERS = _object(
    ("type", "path"),
    type={"type": "string", "enum": list(OPERATIONS)},
    path={**_TEXT, "description": "The file, relative to the workspace."},
    diff={
        **_TEXT,
        "description": "create_file: the whole content, each line with a leading '+'. update_file: hunks in V4A "
        "form, '@@' with optional context, then lines with a leading ' ', '-' or '+'. delete_file: leave it out.",
    },
)

_SEARCH_PARAMETERS = _object(("query",), query={**_TEXT, "description": "What the tool should be able to do."})


def _words(value: Any) -> list[str]:
    """A list of strings, where the model may have written one string."""
    if isinstance(value, str):
        return [value]
    return [word for word in value if isinstance(word, str)] if isinstance(value, list) else []


def _count(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _to_local_shell(arguments: JsonObject) -> JsonObject:
    command = arguments.get("command")
    env = arguments.get("env")
    action: JsonObject = {
        "type": "exec",
        # One string is a command line, not the name of a program.
        "command": ["bash", "-lc", command] if isinstance(command, str) else _words(command),
        "env": {k: v for k, v in env.items() if isinstance(v, str)} if isinstance(env, dict) else {},
    }
    if _count(arguments.get("timeout_ms")) is not None:
        action["timeout_ms"] = _count(arguments["timeout_ms"])
    for name in ("working_directory", "user"):
        if isinstance(arguments.get(name), str):
            action[name] = arguments[name]
    return {"action": action}


def _from_local_shell(item: JsonObject) -> JsonObject:
    action = item["action"]
    return {name: value for name, value in action.items() if name != "type" and value not in (None, {})}


def _to_shell(arguments: JsonObject) -> JsonObject:
    return {
        "action": {
            "commands": _words(arguments.get("commands")),
            "max_output_length": _count(arguments.get("max_output_length")),
            "timeout_ms": _count(arguments.get("timeout_ms")),
        }
    }


def _from_shell(item: JsonObject) -> JsonObject:
    return {name: value for name, value in item["action"].items() if value is not None}


def _to_apply_patch(arguments: JsonObject) -> JsonObject | None:
    kind, path, diff = arguments.get("type"), arguments.get("path"), arguments.get("diff")
    if kind not in OPERATIONS or not isinstance(path, str):
        return None
    if kind == "delete_file":
        return {"operation": {"type": kind, "path": path}}
    if not isinstance(diff, str):
        return None
    return {"operation": {"type": kind, "diff": diff, "path": path}}


def _from_apply_patch(item: JsonObject) -> JsonObject:
    return dict(item["operation"])


def _to_search(arguments: JsonObject) -> JsonObject:
    return {"arguments": arguments}


def _from_search(item: JsonObject) -> JsonObject:
    arguments = item["arguments"]
    return arguments if isinstance(arguments, dict) else {"query": arguments}


@dataclass(frozen=True, slots=True, kw_only=True)
class Emulation:
    """A tool as a function and as an item.

    to_item: the item's own keys out of the call's arguments, None where they do not fit. from_item: back; the keys
    under `holder` are there. first: those keys when the item is announced, None where they must be known first.
    """

    item: str
    prefix: str
    holder: str
    description: str
    parameters: JsonObject
    to_item: Callable[[JsonObject], JsonObject | None]
    from_item: Callable[[JsonObject], JsonObject]
    first: JsonObject | None


EMULATED: dict[str, Emulation] = {
    "local_shell": Emulation(
        item="local_shell_call",
        prefix="lsh",
        holder="action",
        description="Runs a program on the user's machine and returns its output.",
        parameters=_LOCAL_SHELL_PARAMETERS,
        to_item=_to_local_shell,
        from_item=_from_local_shell,
        first={"action": {"type": "exec", "command": [], "env": {}}},
    ),
    "shell": Emulation(
        item="shell_call",
        prefix="sh",
        holder="action",
        description="Runs shell commands on the user's machine and returns their output.",
        parameters=_SHELL_PARAMETERS,
        to_item=_to_shell,
        from_item=_from_shell,
        first={"action": {"commands": [], "max_output_length": None, "timeout_ms": None}},
    ),
    "apply_patch": Emulation(
        item="apply_patch_call",
        prefix="apc",
        holder="operation",
        description="Creates, changes or deletes one file of the user's workspace.",
        parameters=_APPLY_PATCH_PARAMETERS,
        to_item=_to_apply_patch,
        from_item=_from_apply_patch,
        first=None,
    ),
    "tool_search": Emulation(
        item="tool_search_call",
        prefix="tsc",
        holder="arguments",
        description="Finds tools that are not loaded yet. Those found can be called afterwards.",
        parameters=_SEARCH_PARAMETERS,
        to_item=_to_search,
        from_item=_from_search,
        first={"arguments": {}},
    ),
}
