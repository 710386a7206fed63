"""YAML seen as lines, for those who change it as text: which line at the margin begins what, and what belongs to it.

No parser: it knows one plain way of writing YAML, a mapping or a list at the margin whose scalars in quotes and
bracketed values end on the line on which they begin, and refuses all else, so that no line at the margin can be part
of a text. Whatever it takes is read so by every parser, too.
"""

import re
from dataclasses import dataclass

_DOUBLE = re.compile(r'"(?:[^"\\]|\\.)*"')
_SINGLE = re.compile(r"'(?:[^']|'')*'")
_BLOCK_SCALAR = re.compile(r"[|>][1-9]?(-?)[1-9]?[ ]*(?:#.*)?")
_COMMENT = re.compile(r"[ ]*(?:[ ]#.*)?")
_PROPERTY = re.compile(r"[&!][^ ,\[\]{}]*(?:[ ]+|$)")
_ALIAS = re.compile(r"\*[^ ,\[\]{}]+")
_PLAIN = re.compile(r"[^ ,\[\]{}\"'#:][^ ,\[\]{}#]*|:(?=[ ,\[\]{}])")  # within brackets
# What parsers take for the end of a line beside \n, or do not take at all; tabs are asked for line by line.
_ODD = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")


@dataclass(slots=True)
class Entry:
    """What begins with one line at the margin: a key with its value, or an item of a list (key: None).

    line: its index. value: what stands behind the key on its line, without the space around it. inner: the lines below
    that belong to it, without blank ones and comments; those of its block scalars are among them."""

    line: int
    key: str | None
    value: str
    inner: list[str]


def entries(text: str) -> list[Entry]:
    """The entries of a document, all with keys or all without. Lines end in \\n. Raises ValueError, which says why, for
    what is not written in the plain way."""
    if _ODD.search(text):
        raise ValueError("it has characters that do not belong into YAML")
    found: list[Entry] = []
    is_begun = False  # by ---
    scalar: int | None = None  # the column of what a block scalar belongs to, while in one
    for number, line in enumerate(text.split("\n")):
        bare = line.lstrip(" ")
        indent = len(line) - len(bare)
        if not bare:
            continue
        if scalar is not None and indent > scalar:
            found[-1].inner.append(line)
            continue
        scalar = None
        if bare.startswith("#"):
            continue
        if "\t" in line:
            raise ValueError(f"it has a tab in line {number + 1}")
        if indent == 0 and re.match(r"(?:---|\.\.\.)(?: |$)", line):
            if found or is_begun or not re.fullmatch(rf"---{_COMMENT.pattern}", line):
                raise ValueError("it holds several YAML documents, or marks of them that agproxy does not know")
            is_begun = True
            continue
        try:
            key, value, scalar = _read(line)
        except ValueError as error:
            raise ValueError(f"line {number + 1} of it {error}") from None
        if indent == 0 and not (bare.startswith("-") and key is None and _holds_items(found)):
            if not bare.startswith("- ") and key is None:
                raise ValueError(f"line {number + 1} of it has no key of the plain kind, nor is it an item of a list")
            found.append(Entry(number, key, value, []))
            if (found[0].key is None) != (key is None):
                raise ValueError(f"line {number + 1} of it is neither in a list nor in a mapping")
        elif not found:
            raise ValueError("its first line is indented")
        else:
            found[-1].inner.append(line)
    if scalar is not None and not text.endswith("\n"):
        raise ValueError("it ends in a text without the end of its last line")
    return found


def _holds_items(found: list[Entry]) -> bool:
    """Whether the last entry is a key whose list may stand at the margin."""
    if not found or found[-1].key is None or _COMMENT.fullmatch(" " + found[-1].value) is None:
        return False
    return all(line.startswith("-") for line in found[-1].inner[:1])


def _read(line: str) -> tuple[str | None, str, int | None]:
    """A line outside of block scalars: the plain key at its margin (None without one, and in items), what stands behind
    that, and the column of what a block scalar that begins here belongs to. Raises ValueError."""
    column = len(line) - len(line.lstrip(" "))
    owner: int | None = None
    while dash := re.match(r"-(?: +|$)", line[column:]):
        owner = column
        column += dash.end()
    rest = line[column:]
    node = _without_properties(rest)
    place = _key_end(node)
    key: str | None = None
    value = rest
    if place is not None:
        owner = column
        value = node[place + 1 :].strip(" ")
        if column == 0:
            key = node[:place].rstrip(" ")
            if node != rest or node[0] in "\"'*[{":
                raise ValueError("has a key in quotes or of a kind that agproxy does not read")
            if key == "<<":
                raise ValueError("takes over keys from elsewhere (<<)")
    content = _without_properties(value) if place is not None else node
    if content.startswith(("|", ">")):
        if owner is None or not _BLOCK_SCALAR.fullmatch(content):
            raise ValueError("begins a text in a way that agproxy does not read")
        return key, value, owner
    if place is not None and _key_end(content) is not None:
        raise ValueError("has a second key in it")
    return key, value, None


def _without_properties(text: str) -> str:
    """Without anchors and tags at its begin."""
    while found := _PROPERTY.match(text):
        text = text[found.end() :]
    return text


def _key_end(text: str) -> int | None:
    """Where the colon stands that makes the begin of this text a key; None where it is a value, complete on this line.
    Raises ValueError for one that is not."""
    if not text or text.startswith("#") or text[0] in "|>":
        return None
    if text[0] in "\"'[{*":
        end = _end(text)
        if colon := re.match(r" *:(?= |$)", text[end:]):
            return end + colon.end() - 1
        if not _COMMENT.fullmatch(text[end:]):
            raise ValueError("goes on behind the end of a value")
        return None
    if re.match(r"[%@`,\]}&!]|[-?:](?: |$)", text):
        raise ValueError("begins with a mark that agproxy does not read")
    plain = text.partition(" #")[0]
    colon = re.search(r":(?= |$)", plain)
    return colon.start() if colon else None


def _end(text: str) -> int:
    """Where what a quote, a bracket or a star begins ends. Raises ValueError where that is not on this line."""
    if text[0] in "[{":
        return _end_of_brackets(text)
    found = {'"': _DOUBLE, "'": _SINGLE, "*": _ALIAS}[text[0]].match(text)
    if found is None:
        raise ValueError("begins what it does not end")
    return found.end()


def _end_of_brackets(text: str) -> int:
    depth = place = 0
    while place < len(text):
        mark = text[place]
        if mark in "[{]}, ":
            depth += (mark in "[{") - (mark in "]}")
            place += 1
            if not depth:
                return place
        elif mark in "\"'":
            place += _end(text[place:])
            if text[place : place + 1] == ":":  # its value may follow at once, as in JSON
                place += 1
            elif text[place : place + 1] not in (" ", ",", "]", "}"):
                break
        elif found := _PLAIN.match(text, place):
            place = found.end()
        else:
            break
    raise ValueError("begins what it does not end, or in a way that agproxy does not read")
