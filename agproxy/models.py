"""Which Gemini model a client's model name means.

The order: exact rule of the user, the most specific wildcard rule of the user, a Gemini name as it is, the
built-in table, the default model. Names compare without case. A rule's target is final: chains are not followed.
Among wildcard rules that match, the one with more literal characters wins, then the one with fewer stars, then the
one that comes first in the alphabet. Pure; what upstream lists is handed in.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from .errors import NotFound

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

_NATIVE = ("gemini-", "gemma-")
_PREFIXES = ("models/", "google/", "gemini/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """model: the name for upstream. rule: which rule won, in words a user understands."""

    model: str
    rule: str


def _best_wildcard(name: str, rules: Iterable[tuple[str, str]]) -> tuple[str, str] | None:
    fitting = []
    for pattern, model in rules:
        if "*" in pattern:
            folded = pattern.casefold()
            expression = ".*".join(re.escape(piece) for piece in folded.split("*"))
            if re.fullmatch(expression, name, re.DOTALL):
                fitting.append((-len(folded.replace("*", "")), folded.count("*"), folded, pattern, model))
    if not fitting:
        return None
    best = min(fitting)
    return best[3], best[4]


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


def resolve(
    name: str, user_rules: tuple[tuple[str, str], ...], default: str, listed: frozenset[str] = frozenset()
) -> Resolved:
    """The model for a client's name. Raises NotFound `model_not_found` where no rule takes it."""
    folded = name.casefold()
    for pattern, model in user_rules:
        if "*" not in pattern and pattern.casefold() == folded:
            return Resolved(model=successor(model, listed), rule=f"model_map: {pattern}")
    best = _best_wildcard(folded, user_rules)
    if best is not None:
        return Resolved(model=successor(best[1], listed), rule=f"model_map: {best[0]}")
    bare = folded
    for prefix in _PREFIXES:
        if bare.startswith(prefix + "gem"):
            bare = bare.removeprefix(prefix)
    if bare.startswith(_NATIVE):
        found = successor(bare, listed)
        return Resolved(model=found, rule="Gemini name as it is" if found == bare else f"successor of {bare}")
    if folded in BUILT_IN and "*" not in folded:
        return Resolved(model=successor(BUILT_IN[folded], listed), rule=f"built-in: {folded}")
    best = _best_wildcard(folded, BUILT_IN.items())
    if best is not None:
        return Resolved(model=successor(best[1], listed), rule=f"built-in: {best[0]}")
    if default:
        return Resolved(model=successor(default, listed), rule="default_model")
    raise NotFound(f"The model `{name[:200]}` does not exist or you do not have access to it.", code="model_not_found")


def shown_names(user_rules: tuple[tuple[str, str], ...], listed: Iterable[str]) -> tuple[str, ...]:
    """What /v1/models lists: the user's names, the best known aliases, then what upstream has; patterns never."""
    names = [pattern for pattern, _ in user_rules if "*" not in pattern]
    names += SHOWN
    names += listed
    return tuple(dict.fromkeys(names))
