"""Function names: the client's <-> those that Gemini takes.

Gemini wants a letter or `_` first, then letters, digits and `_.:-`, at most 64 characters. A name that fits goes as
it is; another one is spelled so that it fits, without ever meeting a name that is taken, and is turned back in
answers.
"""

import re
from collections.abc import Iterable

_LEGAL = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,63}")
_ILLEGAL_CHARACTER = re.compile(r"[^A-Za-z0-9_.:-]")


class NameMap:
    """A map for one request, from all names in it."""

    def __init__(self, names: Iterable[str]) -> None:
        wanted = tuple(dict.fromkeys(names))
        self._there: dict[str, str] = {name: name for name in wanted if _LEGAL.fullmatch(name)}
        taken = set(self._there)
        numbers: dict[str, int] = {}  # of each base, so that a thousand like names do not try them all again
        for name in wanted:
            if name in self._there:
                continue
            base = _ILLEGAL_CHARACTER.sub("_", name)
            if not base or not (base[0].isalpha() or base[0] == "_"):
                base = "_" + base
            spelled, stem = base[:64], base[:56]
            number = numbers.get(stem, 2)
            while spelled in taken:
                spelled, number = f"{stem}_{number}", number + 1
            numbers[stem] = number
            taken.add(spelled)
            self._there[name] = spelled
        self._back = {spelled: name for name, spelled in self._there.items()}

    def there(self, name: str) -> str:
        """Gemini's spelling."""
        return self._there[name]

    def back(self, name: str) -> str:
        """The client's spelling of a name in an answer. Gemini sometimes puts its own prefix before it."""
        if name in self._back:
            return self._back[name]
        for prefix in ("default_api.", "default_api:"):
            bare = name.removeprefix(prefix)
            if bare in self._back:
                return self._back[bare]
        return name
