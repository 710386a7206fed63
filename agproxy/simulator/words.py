"""What a person's sentence offers to a rule: quoted texts, names, numbers, words that carry meaning.

Plain string work, the same for every language that has capital letters and spaces. Knows no protocol.
"""

import re
from dataclasses import dataclass

_QUOTED = re.compile(r'"([^"\n]{1,500})"|`([^`\n]{1,500})`|“([^”\n]{1,500})”|«([^»\n]{1,500})»')
_NUMBER = re.compile(r"(?<![\w.])-?\d{1,15}(?:\.\d{1,15})?(?!\w)")
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_TWO_NAMES = re.compile(r"\band\b|&|,|\bund\b|\bet\b|\by\b", re.IGNORECASE)

# Words that say nothing about what a function does, or begin a sentence with a capital letter.
_PLAIN_WORDS = """
    a about all also an and any are as ask at be been but by can could do does each either else every few for from
    get give given has have hello help here hey how i if in into is it its just kindly let like look made make many
    may me might more most much must my need needs no not now of off on one only or other our out over perform please
    run say see set shall she should show simply so some such tell than thanks that the their them then there these
    they this those through to two try up use used uses using very want was way we were what whats when where which
    while who why will with within without would yes you your
"""
_CALLING_WORDS = """
    call called function functions list name new parameter parameters provide provided provides return returned returns
    tool tools user value values
"""
STOPWORDS = frozenset(f"{_PLAIN_WORDS} {_CALLING_WORDS}".split())
# Words that often begin a request: no names, though they may well name a function.
_VERBS = """
    add analyse analyze answer book build calculate check compare compute convert count create delete describe draw edit
    execute explain extract fetch find fix generate google hi imagine inspect install look open order play print read
    recommend remove repeat respond review search send sing sort start stop summarise summarize test think today
    translate update weather what's write
"""
_NO_NAMES = frozenset(f"{_PLAIN_WORDS} {_VERBS}".split())

# What a property of this name gets where the user's words have nothing for it.
_USUAL = {
    "city": "Paris",
    "command": "echo simulated",
    "cmd": "echo simulated",
    "country": "France",
    "currency": "EUR",
    "date": "2026-01-31",
    "email": "user@example.com",
    "file": "example.txt",
    "file_path": "example.txt",
    "filename": "example.txt",
    "id": "example-1",
    "language": "en",
    "location": "Paris",
    "name": "Ada",
    "path": "example.txt",
    "time": "12:00",
    "timezone": "Europe/Paris",
    "url": "https://example.com/",
}
# A property of this name takes the whole sentence.
_SENTENCE = frozenset(
    {"content", "description", "input", "instruction", "instructions", "message", "note", "prompt", "q", "query"}
    | {"question", "request", "search_query", "subject", "task", "text", "title", "topic"}
)


@dataclass(frozen=True, slots=True)
class Said:
    """A text for a property, and whether the user said it."""

    text: str
    is_said: bool


@dataclass(frozen=True, slots=True)
class Hints:
    """The useful pieces of one sentence, in its order."""

    sentence: str
    quoted: tuple[str, ...]
    names: tuple[str, ...]
    numbers: tuple[float, ...]

    @staticmethod
    def of(sentence: str) -> "Hints":
        """The pieces of a sentence."""
        quoted = tuple("".join(groups) for groups in _QUOTED.findall(sentence))
        plain = _QUOTED.sub(" ", sentence)
        numbers = tuple(float(word) if "." in word else int(word) for word in _NUMBER.findall(plain))
        return Hints(sentence, quoted, _names(plain), numbers)

    def string_for(self, name: str, nth: int, used: int) -> Said:
        """A text for a property called `name`: the nth of what was quoted or named, else the usual one.

        used: how many this value has taken already; once all are taken, the rest of it gets usual texts.
        """
        word = _CAMEL.sub("_", name).lower()
        offered = self.quoted or (() if word in _SENTENCE else self.names)
        if offered and used < len(offered):
            return Said(offered[nth % len(offered)], True)
        if word in _SENTENCE and self.sentence and not used:
            return Said(self.sentence[:500], True)
        return Said(_USUAL.get(word, "example"), False)

    @property
    def asks_twice(self) -> bool:
        """Whether two calls of one function are wanted: "both", "twice", or two names joined by "and"."""
        words = {word.lower() for word in _WORD.findall(self.sentence)}
        if words & {"both", "twice"}:
            return True
        if len(self.names) < 2:
            return False
        first, second = self.names[0], self.names[1]
        between = self.sentence.partition(first)[2].partition(second)[0]
        return len(between) <= 30 and _TWO_NAMES.search(between) is not None


def content_words(text: str, shortest: int = 4) -> set[str]:
    """Lower-case words that carry meaning, without a plural s; names in snake_case and camelCase are split."""
    spaced = _CAMEL.sub(" ", text.replace("_", " "))
    words = (word.lower() for word in _WORD.findall(spaced))
    return {
        word[:-1] if word.endswith("s") and len(word) > 4 else word
        for word in words
        if len(word) >= shortest and word not in STOPWORDS
    }


@dataclass(slots=True)
class _Name:
    """A capitalised word, or several in a row, and where it stands."""

    text: str
    begins: bool
    start: int
    end: int


def _names(sentence: str) -> tuple[str, ...]:
    """Capitalised words, neighbours joined ("New York").

    A word that begins a sentence counts only where there are no others, or where "and" joins it to the next.
    """
    found: list[_Name] = []
    end = 0
    for match in _WORD.finditer(sentence):
        between = sentence[end : match.start()]
        begins = end == 0 or any(mark in between for mark in ".!?:\n")
        is_plain = "_" not in sentence[max(match.start() - 1, 0) : match.end() + 1]
        if match[0][0].isupper() and match[0].lower() not in _NO_NAMES and is_plain:
            last = found[-1] if found else None
            if last is not None and not last.begins and last.end == end and between == " ":
                last.text, last.end = f"{last.text} {match[0]}", match.end()
            else:
                found.append(_Name(match[0], begins, match.start(), match.end()))
        end = match.end()
    inner = tuple(name.text for name in found if not name.begins)
    if len(found) > 1 and _TWO_NAMES.fullmatch(sentence[found[0].end : found[1].start].strip()):
        return (found[0].text, *inner) if found[0].begins else inner
    return inner or tuple(name.text for name in found)
