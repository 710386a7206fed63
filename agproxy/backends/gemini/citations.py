"""Grounding and citation metadata -> citations with character offsets.

Gemini counts in UTF-8 bytes, clients in characters. A segment's own text is the authority: recorded answers have
offsets that are a few bytes off late in long texts, so the segment is searched for near its offset.
"""

from bisect import bisect_right
from typing import Any

from ...conversation import Citation


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


class _Offsets:
    """Byte offsets -> character offsets of one text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._is_ascii = text.isascii()
        self._starts: list[int] = []  # byte offset at which each character starts
        if not self._is_ascii:
            total = 0
            for character in text:
                self._starts.append(total)
                total += len(character.encode("utf-8", "surrogatepass"))
            self._starts.append(total)

    def character(self, offset: int) -> int:
        if self._is_ascii:
            return max(0, min(offset, len(self.text)))
        return max(0, min(bisect_right(self._starts, offset) - 1, len(self.text)))


def _place(offsets: _Offsets, segment: dict[str, Any]) -> tuple[int, int]:
    """Characters that a segment covers."""
    start = segment.get("startIndex")
    end = segment.get("endIndex")
    first = offsets.character(start if isinstance(start, int) else 0)
    last = offsets.character(end if isinstance(end, int) else 0)
    quoted = segment.get("text")
    if isinstance(quoted, str) and quoted and offsets.text[first:last] != quoted:
        near = offsets.text.find(quoted, max(0, first - 64))
        if near < 0:
            near = offsets.text.find(quoted)
        if near >= 0:
            return near, near + len(quoted)
    return first, max(first, last)


def _title(source: dict[str, Any]) -> str:
    title = source.get("title")
    return title if isinstance(title, str) else ""


def citations_of(text: str, grounding: dict[str, Any], sources: list[Any]) -> tuple[Citation, ...]:
    """Citations of one choice, in the order of their places. `text`: all that its content shows."""
    offsets = _Offsets(text)
    chunks = _list(grounding.get("groundingChunks"))
    found: list[Citation] = []
    for support in _list(grounding.get("groundingSupports")):
        start, end = _place(offsets, _dict(_dict(support).get("segment")))
        for index in _list(_dict(support).get("groundingChunkIndices")):
            if not isinstance(index, int) or not 0 <= index < len(chunks):
                continue
            chunk = _dict(chunks[index])
            source = _dict(chunk.get("web") or chunk.get("maps") or chunk.get("retrievedContext") or chunk.get("image"))
            url = source.get("uri") or source.get("sourceUri")
            if isinstance(url, str):
                found.append(Citation(start=start, end=end, url=url, title=_title(source)))
    for item in sources:
        source = _dict(item)
        if isinstance(source.get("uri"), str):
            start, end = _place(offsets, source)
            found.append(Citation(start=start, end=end, url=source["uri"], title=_title(source)))
    return tuple(dict.fromkeys(found))
