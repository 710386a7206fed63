"""Pieces of configuration joined to what a file holds already, with nothing of it lost.

TOML and YAML are changed as text, so that comments and order stay: what is ours stands between two marks, and a line
of the user's that says something else for the same key becomes a comment. JSON is parsed and written anew, and
therefore refused where it holds comments. Where the outcome cannot be relied on, `CannotMerge` says why, and the user
joins it by hand.
"""

import json
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from .blockyaml import Entry, entries
from .jsontext import JsonObject

BEGIN, END = "# >>> agproxy setup >>>", "# <<< agproxy setup <<<"
_REPLACED = "# before agproxy: "
_GOES_ON = "what stands behind agproxy's own lines in it goes on with them"


class CannotMerge(Exception):
    """Why a piece of configuration was not joined to a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TomlBlock:
    """Keys at the top of a TOML file, and one table."""

    top: Mapping[str, str | int]
    table: tuple[str, ...]
    values: Mapping[str, str | int]

    def text(self) -> str:
        """It alone, as a file of its own."""
        return "\n".join([*_toml(self.top), "", f"[{'.'.join(self.table)}]", *_toml(self.values)]) + "\n"

    def merge(self, old: str) -> str:
        """Joined to a file's text. Raises CannotMerge."""
        rest = _without_blocks(old)
        ours = rf"^{re.escape(BEGIN)}\r?\n\[(?:(?!{re.escape(END)}).*\n)*{re.escape(END)}\r?\n"
        if re.search(ours + r"(?:[ \t]*(?:#.*)?\r?\n)*[ \t]*[^\s#\[]", old, re.MULTILINE):
            raise CannotMerge(_GOES_ON)
        expected = _parse_toml(rest)
        inner: Any = expected
        for name in self.table[:-1]:
            inner = inner.setdefault(name, {})
            if not isinstance(inner, dict):
                raise CannotMerge(f"{name} is no table in it")
        if self.table[-1] in inner:
            raise CannotMerge(f"it has a [{'.'.join(self.table)}] of its own: take that out first")
        inner[self.table[-1]] = dict(self.values)
        expected |= self.top
        rest = _replace_lines(rest, [rf"{re.escape(key)}[ \t]*=" for key in self.top], until=r"[ \t]*\[")
        head = "\n".join([BEGIN, *_toml(self.top), END])
        tail = "\n".join([BEGIN, f"[{'.'.join(self.table)}]", *_toml(self.values), END])
        new = "\n\n".join(filter(None, [head, rest.strip("\n"), tail])) + "\n"
        if _parse_toml(new) != expected:
            raise CannotMerge("it sets the same keys in a way that agproxy does not know how to replace")
        return new


@dataclass(frozen=True, slots=True, kw_only=True)
class YamlKeys:
    """Keys at the top of a YAML file."""

    values: Mapping[str, str]

    def text(self) -> str:
        return "\n".join(_yaml(self.values)) + "\n"

    def merge(self, old: str) -> str:
        rest, found = _read_yaml(old)
        lines = rest.split("\n")
        for entry in found:
            if entry.key is None:
                raise CannotMerge("it is a list, where keys were expected")
            if entry.key not in self.values:
                continue
            if entry.inner or entry.value.startswith(("|", ">")):
                raise CannotMerge(f"it sets {entry.key} over several lines")
            if entry.value.startswith(("&", "*", "!", "[", "{")):
                raise CannotMerge(f"it sets {entry.key} in a way that agproxy does not know how to replace")
            lines[entry.line] = _REPLACED + lines[entry.line]
        rest = "\n".join(lines)
        block = "\n".join([BEGIN, *_yaml(self.values), END])
        return "\n\n".join(filter(None, [rest.strip("\n"), block])) + "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class YamlItem:
    """An item of a YAML list: the file's own list, or that below a key at the top (parent). head: keys that a new file
    begins with. The value of its first key tells it from others."""

    parent: str
    values: Mapping[str, Any]
    head: Mapping[str, str]

    def text(self) -> str:
        lines = _yaml(self.head)
        if self.parent:
            lines.append(f"{self.parent}:")
        return "\n".join([*lines, *self._item("  " if self.parent else "")]) + "\n"

    def merge(self, old: str) -> str:
        rest, found = _read_yaml(old)
        if not found:
            return "\n".join(filter(None, [rest.strip("\n"), *self._whole()])) + "\n"
        first, value = next(iter(self.values.items()))
        if re.search(rf"\b{first}[ \t]*:[ \t]*[\"']?{re.escape(str(value))}[\"']?[ \t]*(?:#.*)?$", rest, re.MULTILINE):
            raise CannotMerge(f"it has an entry with {first} {value} of its own: take that out first")
        if not self.parent:
            if found[0].key is not None:
                raise CannotMerge("it does not begin with a list as YAML writes one, `- ` at the start of the line")
            return rest.rstrip("\n") + "\n\n" + "\n".join(self._block("")) + "\n"
        if found[0].key is None:
            raise CannotMerge(f"it is a list, where {self.parent} and other keys were expected")
        lists = [entry for entry in found if entry.key == self.parent]
        if not lists:
            return rest.rstrip("\n") + "\n\n" + "\n".join([f"{self.parent}:", *self._block("  ")]) + "\n"
        indent = _indent_of_items(lists[0]) if len(lists) == 1 else None
        if indent is None:
            raise CannotMerge(f"its {self.parent} are not written as a list, an item a line that begins with `- `")
        lines = rest.split("\n")
        place = lists[0].line + 1
        return "\n".join([*lines[:place], *self._block(indent), *lines[place:]]).rstrip("\n") + "\n"

    def _whole(self) -> list[str]:
        return [
            *_yaml(self.head),
            *([f"{self.parent}:"] if self.parent else []),
            *self._block("  " * bool(self.parent)),
        ]

    def _block(self, indent: str) -> list[str]:
        return [indent + BEGIN, *self._item(indent), indent + END]

    def _item(self, indent: str) -> list[str]:
        lines = _yaml(self.values)
        return [f"{indent}{'- ' if index == 0 else '  '}{line}" for index, line in enumerate(lines)]


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonValues:
    """Values within a JSON object. Objects are joined, lists by the `name` of their items, all else is replaced.

    fresh: the path of a value that alone is no reason to change a file. start: what a new file begins with.
    """

    values: JsonObject
    fresh: tuple[str, ...] = ()
    start: JsonObject | None = None

    def text(self) -> str:
        return json.dumps(_join(self.start or {}, self.values), indent=2, ensure_ascii=False) + "\n"

    def merge(self, old: str) -> str:
        if not old.strip():
            return self.text()
        value = _parse_json(old)
        new = _join(value, self.values)
        if new == value or (self.fresh and _without(new, self.fresh) == _without(value, self.fresh)):
            return old
        indent = re.search(r"\n([ \t]+)\S", old)
        return _write_json(new, indent[1] if indent else 2)


Fragment = TomlBlock | YamlKeys | YamlItem | JsonValues


# --- marked blocks ---------------------------------------------------------------------------------------------


def _without_blocks(text: str) -> str:
    """The text without what was written between our marks."""
    text = text.replace("\r\n", "\n")
    block = rf"\n?^[ \t]*{re.escape(BEGIN)}\n(?:.*\n)*?[ \t]*{re.escape(END)}(?:\n|\Z)"
    rest = re.sub(block, "\n", text, flags=re.MULTILINE)
    if BEGIN in rest or END in rest:
        raise CannotMerge(f"of the marks {BEGIN!r} and {END!r} in it one is missing")
    return rest if rest.strip() else ""


def _replace_lines(text: str, patterns: list[str], until: str | None = None) -> str:
    """The text with lines that begin so made comments; only those before the first that matches `until`."""
    lines = text.split("\n")
    for index, line in enumerate(lines):
        if until is not None and re.match(until, line):
            break
        if any(re.match(pattern, line) for pattern in patterns):
            lines[index] = _REPLACED + line
    return "\n".join(lines)


# --- TOML ------------------------------------------------------------------------------------------------------


def _toml(values: Mapping[str, str | int]) -> list[str]:
    """JSON's strings are TOML's, too."""
    return [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]


def _parse_toml(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CannotMerge(f"it is not TOML: {error}") from None


# --- YAML ------------------------------------------------------------------------------------------------------


def _yaml(values: Mapping[str, Any]) -> list[str]:
    """JSON's values are YAML's, too."""
    return [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]


def _read_yaml(old: str) -> tuple[str, list[Entry]]:
    """The text without our blocks, and what stands at its margin. Raises CannotMerge."""
    rest = _without_blocks(old)
    lines = (line for line in rest.split("\n") if line.strip() and not re.match(r"\s*#|---(?:\s|$)", line))
    if re.match(r"[\[{]", next(lines, "")):
        raise CannotMerge("it is YAML in the manner of JSON")
    whole = old.replace("\r\n", "\n")
    if re.search(rf"^([ ]*){re.escape(END)}\n(?:[ ]*(?:#.*)?\n)*\1[ ]+[^ #\n]", whole, re.MULTILINE):
        raise CannotMerge(_GOES_ON)
    try:
        entries(whole)  # as it stands there, for the numbers of its lines
        return rest, entries(rest)
    except ValueError as error:
        raise CannotMerge(str(error)) from None


def _indent_of_items(entry: Entry) -> str | None:
    """Where the items of a list below a key begin, as spaces; None where they are written in another way."""
    if entry.value and not entry.value.startswith("#"):
        return None
    if not entry.inner:
        return "  "
    indents = [len(line) - len(line.lstrip(" ")) for line in entry.inner]
    outer = [line for line, indent in zip(entry.inner, indents, strict=True) if indent <= indents[0]]
    if not all(indent >= indents[0] for indent in indents) or not all(re.match(r" *- +[^ #]", line) for line in outer):
        return None
    return " " * indents[0]


# --- JSON ------------------------------------------------------------------------------------------------------


def _parse_json(text: str) -> JsonObject:
    def pairs(items: list[tuple[str, Any]]) -> JsonObject:
        found = dict(items)
        if len(found) != len(items):
            raise CannotMerge("it has a key twice in one object")
        return found

    try:
        value = json.loads(
            text.removeprefix("\ufeff"), object_pairs_hook=pairs, parse_float=_same_float, parse_constant=_refuse_number
        )
    except (ValueError, RecursionError):
        raise CannotMerge(
            "it is not plain JSON. Where it has comments or commas before a closing bracket, they would be lost"
        ) from None
    if not isinstance(value, dict):
        raise CannotMerge("it is not a JSON object")
    return value


def _same_float(text: str) -> float:
    """The number, where it is written anew as what it is. Raises CannotMerge."""
    number = float(text)
    try:
        is_same = math.isfinite(number) and Decimal(repr(number)) == Decimal(text)
    except ArithmeticError:  # an exponent that even Decimal does not hold
        is_same = False
    return number if is_same else _refuse_number(text)


def _refuse_number(text: str) -> float:
    raise CannotMerge(f"it has a number that would change when written anew: {text[:40]}")


def _write_json(value: JsonObject, indent: str | int) -> str:
    try:
        text = json.dumps(value, indent=indent, ensure_ascii=False) + "\n"
        text.encode()
    except UnicodeEncodeError:
        raise CannotMerge("it has half a character (a lone surrogate), which UTF-8 cannot hold") from None
    except RecursionError:
        raise CannotMerge("it is nested too deeply") from None
    return text


def _join(old: JsonObject, new: JsonObject) -> JsonObject:
    joined = dict(old)
    for key, value in new.items():
        before = old.get(key)
        if isinstance(value, dict) and isinstance(before, dict):
            joined[key] = _join(before, value)
        elif isinstance(value, list) and isinstance(before, list):
            joined[key] = _join_lists(before, value)
        else:
            joined[key] = value
    return joined


def _join_lists(old: list[Any], new: list[Any]) -> list[Any]:
    """Ours go into the first of theirs of the same name, or behind all."""
    by_name: dict[str, JsonObject] = {item["name"]: item for item in new}
    kept: list[Any] = []
    for item in old:
        name = item.get("name") if isinstance(item, dict) else None
        ours = by_name.pop(name, None) if isinstance(name, str) else None
        kept.append(item if ours is None else _join(item, ours))
    return [*kept, *by_name.values()]


def _without(value: Any, path: tuple[str, ...]) -> Any:
    name, *rest = path
    if not isinstance(value, dict) or name not in value:
        return value
    if not rest:
        return {key: inner for key, inner in value.items() if key != name}
    return {**value, name: _without(value[name], tuple(rest))}
