"""Which Gemini model a client's model name means.

The order: exact rule of the user, the most specific wildcard rule of the user, a Gemini name as it is (so too any
other that upstream lists), the built-in table, the default model. Names compare without case, and a Gemini name may
come with a prefix (`models/`). A rule's target is final: chains are not followed.
Among wildcard rules that match, the one with more literal characters wins, then the one with fewer stars, then the
one that comes first in the alphabet. Pure; what upstream lists is handed in.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import assert_never

from .errors import NotFound
from .jsontext import JsonObject

# Names of other vendors' models, most used first -> a Gemini model of about the same kind and price.
# Checked against Google's model list of November 2026.
BUILT_IN: dict[str, str] = {
    "gpt-4o": "gemini-2.5-flash",
    "gpt-4o-mini": "gemini-2.5-flash-lite",
    "gpt-4.1": "gemini-2.5-flash",
    "gpt-4.1-mini": "gemini-2.5-flash-lite",
    "gpt-4.1-nano": "gemini-2.5-flash-lite",
    "gpt-5": "gemini-3.1-pro-preview",
    "gpt-5-mini": "gemini-3.8-flash",
    "gpt-5-nano": "gemini-3.5-flash-lite",
    "o3": "gemini-3.1-pro-preview",
    "o3-mini": "gemini-3.8-flash",
    "o4-mini": "gemini-3.8-flash",
    "claude-opus-4-5": "gemini-3.1-pro-preview",
    "claude-sonnet-4-5": "gemini-3.1-pro-preview",
    "claude-haiku-4-5": "gemini-3.8-flash",
    "gpt-3.5*": "gemini-2.5-flash-lite",
    "gpt-4*": "gemini-2.5-flash",
    "gpt-4*-mini*": "gemini-2.5-flash-lite",
    "gpt-4*-nano*": "gemini-2.5-flash-lite",
    "gpt-5*": "gemini-3.1-pro-preview",
    "gpt-5*-mini*": "gemini-3.8-flash",
    "gpt-5*-nano*": "gemini-3.5-flash-lite",
    "gpt-6*": "gemini-3.1-pro-preview",
    "chatgpt-*": "gemini-2.5-flash",
    "codex-*": "gemini-3.1-pro-preview",
    "codex-*-mini*": "gemini-3.8-flash",
    "o1*": "gemini-3.1-pro-preview",
    "o1*-mini*": "gemini-3.8-flash",
    "o3*": "gemini-3.1-pro-preview",
    "o3*-mini*": "gemini-3.8-flash",
    "o4*": "gemini-3.1-pro-preview",
    "o4*-mini*": "gemini-3.8-flash",
    "claude-*": "gemini-3.1-pro-preview",
    "claude-*haiku*": "gemini-3.8-flash",
}

# The alias names that /v1/models shows: a choice, not all that the table takes.
SHOWN = tuple(name for name in BUILT_IN if "*" not in name)

# Gemini names that were announced without their suffix -> the name under which they are served.
SUCCESSORS: dict[str, str] = {
    "gemini-3-flash": "gemini-3-flash-preview",
    "gemini-3-pro": "gemini-3.1-pro-preview",
    "gemini-3-pro-preview": "gemini-3.1-pro-preview",
    "gemini-3.1-pro": "gemini-3.1-pro-preview",
}

NATIVE = ("gemini-", "gemma-")
_PREFIXES = ("models/", "google/", "gemini/")
# Who routes between vendors writes whose model it is before a name of the built-in table.
_VENDORS = ("openai/", "anthropic/")


class Kind(Enum):
    """Sorts of rule, in the order in which they are asked; the value is what a user calls them."""

    EXACT = "an exact rule of model_map"
    WILDCARD = "a wildcard rule of model_map"
    NATIVE = "a Gemini name"
    BUILT_IN = "a name in the built-in table"
    BUILT_IN_WILDCARD = "a wildcard in the built-in table"
    DEFAULT = "the default model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A rule that takes a name. target: what it says, `a|b` for a model with a fallback; model: the name under which
    upstream serves the first of them now."""

    kind: Kind
    pattern: str
    target: str
    model: str
    fallbacks: tuple[str, ...] = ()

    @property
    def rule(self) -> str:
        """The rule in words that a user understands."""
        match self.kind:
            case Kind.EXACT | Kind.WILDCARD:
                return f"model_map: {self.pattern}"
            case Kind.BUILT_IN | Kind.BUILT_IN_WILDCARD:
                return f"built-in: {self.pattern}"
            case Kind.NATIVE:
                return "Gemini name as it is" if self.model == self.target else f"successor of {self.target}"
            case Kind.DEFAULT:
                return "default_model"
            case _:
                assert_never(self.kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """model: the name for upstream. rule: which rule won, in words a user understands. fallbacks: the models to go to
    when every account is out for the one before."""

    model: str
    rule: str
    fallbacks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why a name means what it means. winner is None where no rule takes it; losers are the other rules that do, each
    with what it lost by; others are the patterns of model_map that do not take it."""

    winner: Candidate | None
    losers: tuple[tuple[Candidate, str], ...]
    others: tuple[str, ...]


def _matches(pattern: str, folded: str) -> bool:
    """Whether a pattern takes a whole name. Each piece between stars is taken where it first comes, so a name costs no
    more than its length: clients choose it, and a regular expression would go back and forth in a long one."""
    first, *middle, last = pattern.casefold().split("*")
    if len(folded) < len(first) + len(last) or not (folded.startswith(first) and folded.endswith(last)):
        return False
    place, end = len(first), len(folded) - len(last)
    for piece in middle:
        place = folded.find(piece, place, end)
        if place < 0:
            return False
        place += len(piece)
    return True


def _literals(pattern: str) -> int:
    return len(pattern.casefold().replace("*", ""))


def _wildcards(folded: str, rules: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The wildcard rules that take a name, the most specific first."""
    fitting = [rule for rule in rules if "*" in rule[0] and _matches(rule[0], folded)]
    return sorted(fitting, key=lambda rule: (-_literals(rule[0]), rule[0].count("*"), rule[0].casefold(), rule))


def _bare(model: str) -> str:
    """A Gemini name as upstream's path wants it: in lower case, without prefix. Other names stay as they are."""
    folded = model.casefold()
    for prefix in _PREFIXES:
        if folded.startswith(prefix) and folded.removeprefix(prefix).startswith(NATIVE):
            return folded.removeprefix(prefix)
    return folded if folded.startswith(NATIVE) else model


def successor(model: str, listed: frozenset[str]) -> str:
    """The name under which upstream serves a Gemini model now. `listed` is empty while there is no list."""
    if model in listed:
        return model
    if f"{model}-preview" in listed:
        return f"{model}-preview"
    later = SUCCESSORS.get(model)
    if later is not None and (not listed or later in listed):
        return later
    return model  # a list never turns a request away: upstream itself says what it does not have


def candidates(
    name: str, user_rules: tuple[tuple[str, str], ...], default: str, listed: frozenset[str] = frozenset()
) -> Iterator[Candidate]:
    """The rules that take a name, the winner first; the others are looked for only when they are asked for."""

    def candidate(kind: Kind, pattern: str, target: str) -> Candidate:
        # A client's own name is one name, whatever stands in it.
        words = [target] if kind is Kind.NATIVE else [word.strip() for word in target.split("|") if word.strip()]
        first, *others = (successor(_bare(word), listed) for word in words or [target])
        return Candidate(kind=kind, pattern=pattern, target=target, model=first, fallbacks=tuple(others))

    folded = name.casefold()
    for pattern, model in user_rules:
        if "*" not in pattern and pattern.casefold() == folded:
            yield candidate(Kind.EXACT, pattern, model)
    for pattern, model in _wildcards(folded, user_rules):
        yield candidate(Kind.WILDCARD, pattern, model)
    bare = _bare(folded)
    if bare.startswith(NATIVE) or bare in listed:
        yield candidate(Kind.NATIVE, bare, bare)
    plain = next((folded.removeprefix(vendor) for vendor in _VENDORS if folded.startswith(vendor)), folded)
    if plain in BUILT_IN and "*" not in plain:
        yield candidate(Kind.BUILT_IN, plain, BUILT_IN[plain])
    for pattern, model in _wildcards(plain, BUILT_IN.items()):
        yield candidate(Kind.BUILT_IN_WILDCARD, pattern, model)
    if default:
        yield candidate(Kind.DEFAULT, "", default)


def resolve(
    name: str, user_rules: tuple[tuple[str, str], ...], default: str, listed: frozenset[str] = frozenset()
) -> Resolved:
    """The model for a client's name. Raises NotFound `model_not_found` where no rule takes it."""
    winner = next(candidates(name, user_rules, default, listed), None)
    if winner is None:
        message = f"The model `{name[:200]}` does not exist or you do not have access to it."
        raise NotFound(message, code="model_not_found")
    return Resolved(model=winner.model, rule=winner.rule, fallbacks=winner.fallbacks)


def explain(
    name: str, user_rules: tuple[tuple[str, str], ...], default: str, listed: frozenset[str] = frozenset()
) -> Explanation:
    """All the rules that take a name, and why the first of them wins."""
    fitting = tuple(candidates(name, user_rules, default, listed))
    taken = {found.pattern for found in fitting if found.kind in (Kind.EXACT, Kind.WILDCARD)}
    return Explanation(
        winner=fitting[0] if fitting else None,
        losers=tuple((loser, _lost_by(loser, fitting[0])) for loser in fitting[1:]),
        others=tuple(pattern for pattern, _ in user_rules if pattern not in taken),
    )


def _lost_by(loser: Candidate, winner: Candidate) -> str:
    """Why the loser comes after the winner, in the order of `candidates`."""
    if loser.kind is not winner.kind:
        return f"{winner.kind.value} goes before {loser.kind.value}"
    mine, other = _literals(loser.pattern), _literals(winner.pattern)
    if mine != other:
        return f"less specific: {mine} literal characters, {winner.pattern} has {other}"
    if loser.pattern.count("*") != winner.pattern.count("*"):
        return f"less specific: more stars than {winner.pattern}"
    return f"{winner.pattern} comes first"


def shown_names(user_rules: tuple[tuple[str, str], ...], listed: Iterable[str]) -> tuple[str, ...]:
    """What /v1/models lists: the user's names, the best known aliases, then what upstream has; patterns never."""
    names = [pattern for pattern, _ in user_rules if "*" not in pattern]
    names += SHOWN
    names += listed
    return tuple(dict.fromkeys(names))


# --- for people ------------------------------------------------------------------------------------------------

# Why the winner wins, by its kind. Candidates come in the order of `Kind`, so what is said of one holds for the rest.
_WHY = {
    Kind.EXACT: "an exact rule of model_map goes before all else",
    Kind.WILDCARD: "no exact rule of model_map takes the name, and of its wildcards this is the most specific",
    Kind.NATIVE: "no rule of model_map takes the name, and Gemini names go upstream as they are",
    Kind.BUILT_IN: "no rule of model_map takes the name, and the built-in table has it",
    Kind.BUILT_IN_WILDCARD: "no rule of model_map takes the name; of the built-in wildcards this is the most specific",
    Kind.DEFAULT: "nothing else takes the name",
}


def table(user_rules: tuple[tuple[str, str], ...], default: str, listed: tuple[str, ...]) -> list[tuple[str, str, str]]:
    """(name, model, rule) of the user's rules, the built-in table, what upstream lists, and the default."""
    known = frozenset(listed)
    rows: dict[str, tuple[str, str, str]] = {}
    rules = [*user_rules, *BUILT_IN.items()]
    for name, target in [*rules, *((name, name) for name in listed)]:
        if name in rows:
            continue
        if "*" in name:
            where = "model_map" if (name, target) in user_rules else "built-in"
            rows[name] = (name, _in_turn(successor(word.strip(), known) for word in target.split("|")), where)
        else:
            found = resolve(name, user_rules, default, known)
            rows[name] = (name, _in_turn((found.model, *found.fallbacks)), found.rule)
    if default:
        found = resolve("(any other)", (), default, known)
        rows[""] = ("(any other)", _in_turn((found.model, *found.fallbacks)), found.rule)
    return list(rows.values())


def _in_turn(names: Iterable[str]) -> str:
    """A model and those that stand in for it, as rules write them."""
    return "|".join(names)


def why(found: Explanation) -> str:
    """Why the winner wins."""
    return _WHY[found.winner.kind] if found.winner else "no rule takes it"


def notes(winner: Candidate) -> list[str]:
    """What else is to be said of a rule."""
    asked = [word.strip() for word in winner.target.split("|")]
    used = (winner.model, *winner.fallbacks)
    told = [f"upstream serves {old} under the name {new}" for old, new in zip(asked, used, strict=True) if old != new]
    for model in used:
        if winner.kind is not Kind.NATIVE and not model.startswith(NATIVE):
            told.append(f"{model} is no Gemini name: it goes upstream as it is, since rules are not followed on")
    return told


def as_json(found: Explanation) -> JsonObject:
    """All of an explanation, for programs."""
    winner = found.winner
    return {
        "model": winner.model if winner else None,
        "fallbacks": list(winner.fallbacks) if winner else [],
        "rule": winner.rule if winner else None,
        "why": why(found),
        "notes": notes(winner) if winner else [],
        "lost": [{"model": c.model, "rule": c.rule, "why": reason} for c, reason in found.losers],
        "no_match": list(found.others),
    }
