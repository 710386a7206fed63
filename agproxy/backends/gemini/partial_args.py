"""Function-call arguments that Vertex streams in pieces (`partialArgs`), put together again.

Each piece names its place by a JSON path (RFC 9535, the part with names and indices) and brings a string, number,
boolean or null; strings may come in several pieces.
"""

import re
from typing import Any

_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]|\['((?:[^'\\]|\\.)*)'\]|\[\"((?:[^\"\\]|\\.)*)\"\]")


def path_steps(path: str) -> list[str | int]:
    """`$.a[0]['b c']` -> ["a", 0, "b c"]."""
    steps: list[str | int] = []
    for match in _STEP.finditer(path.removeprefix("$")):
        name, index, single, double = match.groups()
        if index is not None:
            steps.append(int(index[:9]))  # no array is that long, and Python reads no number of 5,000 digits
        else:
            quoted = single if single is not None else double
            steps.append(name if quoted is None else re.sub(r"\\(.)", r"\1", quoted))
    return steps


class PartialCall:
    """One call whose arguments are still coming."""

    def __init__(self, *, name: str, id: Any, signature: str | None) -> None:
        self.name = name
        self.id = id
        self.signature = signature
        self.arguments: dict[str, Any] = {}
        self._strings: dict[str, str] = {}

    def feed(self, call: dict[str, Any]) -> None:
        """Take the pieces of one functionCall object."""
        args = call.get("args")
        if isinstance(args, dict):
            self.arguments.update(args)
        pieces = call.get("partialArgs")
        for piece in pieces if isinstance(pieces, list) else []:
            if isinstance(piece, dict) and isinstance(piece.get("jsonPath"), str):
                self._piece(piece["jsonPath"], piece)

    def _piece(self, path: str, piece: dict[str, Any]) -> None:
        value: Any
        if isinstance(piece.get("stringValue"), str):
            value = self._strings[path] = self._strings.get(path, "") + piece["stringValue"]
        elif "numberValue" in piece:
            value = piece["numberValue"]
            if isinstance(value, float) and value.is_integer():
                value = int(value)  # a double on the wire: 5 and 5.0 are one number in JSON
        elif "boolValue" in piece:
            value = piece["boolValue"]
        elif "nullValue" in piece:
            value = None
        else:
            return
        _put(self.arguments, path_steps(path), value)


def _put(root: dict[str, Any], steps: list[str | int], value: Any) -> None:
    """Set the value at a path, making the objects and arrays on the way."""
    place: Any = root
    for number, step in enumerate(steps):
        is_last = number == len(steps) - 1
        new: Any = value if is_last else ([] if isinstance(steps[number + 1], int) else {})
        if isinstance(step, int):
            if not isinstance(place, list):
                return
            if step > len(place):
                return  # elements come in order; a gap would invent some
            if step == len(place):
                place.append(new)
            elif is_last:
                place[step] = new
        else:
            if not isinstance(place, dict):
                return
            if is_last or step not in place:
                place[step] = new
        place = place[step]
