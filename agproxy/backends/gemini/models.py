"""What Gemini's models differ in, as data. Facts of November 2026 from Google's model and thinking guides.

A model that is not in the table is judged by the version in its name: 3 and later think by level, 2.5 by budget,
older ones do not think. Names without a version (`gemini-flash-latest`) move, so they are taken for the newest.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

MINIMAL, LOW, MEDIUM, HIGH = "MINIMAL", "LOW", "MEDIUM", "HIGH"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """generation: 1.5, 2.0, 2.5, 3.0 ... levels: thinking levels it takes; budget: (least, most) of its thinking
    budget; can_stop_thinking: budget 0 is allowed; ignores_sampling: temperature and its kin have no effect."""

    generation: float
    levels: tuple[str, ...] = ()
    budget: tuple[int, int] | None = None
    can_stop_thinking: bool = False
    takes_penalties: bool = False
    takes_candidates: bool = False
    ignores_sampling: bool = False
    takes_system: bool = True
    makes_images: bool = False

    @property
    def thinks(self) -> bool:
        return bool(self.levels) or self.budget is not None

    @property
    def checks_signatures(self) -> bool:
        """Gemini 3 refuses a function call of the current turn that comes back without its signature."""
        return self.generation >= 3

    @property
    def combines_tools(self) -> bool:
        """Functions beside a JSON schema or hosted tools: refused up to 2.5."""
        return self.generation >= 3


_ALL = (MINIMAL, LOW, MEDIUM, HIGH)
_NO_MINIMAL = (LOW, MEDIUM, HIGH)

# First pattern that fits the whole name wins.
_TABLE: tuple[tuple[str, Facts], ...] = (
    (r"gemini-2\.5-flash-image.*", Facts(generation=2.5, makes_images=True)),
    (r"gemini-3-pro-image.*", Facts(generation=3.0, makes_images=True)),
    (
        r"gemini-3\.1-flash-image.*|gemini-nano-banana.*",
        Facts(generation=3.1, levels=(MINIMAL, HIGH), makes_images=True),
    ),
    (r"gemini-3\.1-flash-lite-image.*", Facts(generation=3.1, makes_images=True)),
    (r"gemini-.*-tts.*", Facts(generation=2.5)),
    (r"gemini-2\.5-pro.*", Facts(generation=2.5, budget=(128, 32768), takes_penalties=True)),
    (
        r"gemini-2\.5-flash-lite.*",
        Facts(generation=2.5, budget=(512, 24576), can_stop_thinking=True, takes_penalties=True),
    ),
    (r"gemini-2\.5.*", Facts(generation=2.5, budget=(1, 24576), can_stop_thinking=True, takes_penalties=True)),
    (r"gemini-3-pro.*", Facts(generation=3.0, levels=(LOW, HIGH))),
    (r"gemini-3\.1-pro.*", Facts(generation=3.1, levels=_NO_MINIMAL)),
    (r"gemini-3-flash.*", Facts(generation=3.0, levels=_ALL)),
    (r"gemini-3\.1-flash-lite.*", Facts(generation=3.1, levels=_ALL)),
    (r"gemini-3\.5-flash-lite.*", Facts(generation=3.5, levels=_ALL, ignores_sampling=True)),
    (r"gemini-3\.5-flash.*", Facts(generation=3.5, levels=_ALL)),
    (r"gemini-3\.6.*", Facts(generation=3.6, levels=_ALL, ignores_sampling=True)),
    (r"gemini-3\.[789].*", Facts(generation=3.8, levels=_NO_MINIMAL, ignores_sampling=True)),
    (r"gemma-3.*", Facts(generation=2.0, takes_system=False)),
    (r"gemma-4.*", Facts(generation=4.0, levels=(MINIMAL, HIGH))),
)

_VERSION = re.compile(r"gem(?:ini|ma)-(\d+)(?:\.(\d+))?")


@lru_cache(maxsize=256)  # a walk over the table costs 12 us; names are bounded by what a URL may hold
def facts(model: str) -> Facts:
    """What is known of a model, by its name without `models/`."""
    for pattern, known in _TABLE:
        if re.fullmatch(pattern, model):
            return known
    match = _VERSION.match(model)
    generation = float(f"{match[1]}.{match[2] or 0}") if match else 3.8
    if generation >= 3:
        return Facts(generation=generation, levels=_NO_MINIMAL, ignores_sampling=generation >= 3.6)
    if generation >= 2.5:
        return Facts(generation=generation, budget=(1, 24576), can_stop_thinking=True, takes_penalties=True)
    return Facts(generation=generation, takes_penalties=True, takes_candidates=True)


# Effort -> budget in tokens; Google's own OpenAI layer documents these for minimal to high.
_BUDGETS = {"none": 0, "minimal": 1024, "low": 1024, "medium": 8192, "high": 24576, "xhigh": 32768, "max": 32768}
# Effort -> level, and what it becomes where the model lacks it.
_LEVELS = {
    "none": (MINIMAL, LOW),
    "minimal": (MINIMAL, LOW),
    "low": (LOW,),
    "medium": (MEDIUM, HIGH),
    "high": (HIGH,),
    "xhigh": (HIGH,),
    "max": (HIGH,),
}


def thinking_budget(known: Facts, effort: str) -> int:
    """The budget for an effort, within what the model takes."""
    assert known.budget is not None
    least, most = known.budget
    wanted = _BUDGETS[effort]
    if wanted == 0 and known.can_stop_thinking:
        return 0
    return max(least, min(most, wanted))


def thinking_level(known: Facts, effort: str) -> str:
    """The nearest level that the model has for an effort."""
    return next(level for level in (*_LEVELS[effort], *known.levels) if level in known.levels)


# Below this limit the thoughts of a model at its own default would often leave nothing for the answer: recorded as
# `google_model_max_tokens_thinking_model_empty_response`.
SMALL_LIMIT_TOKENS = 4096


def least_thinking(known: Facts) -> dict[str, int | str]:
    """The thinking setting that leaves most of a small output limit to the answer."""
    if known.budget is None:
        return {"thinkingLevel": known.levels[0]}
    if known.can_stop_thinking:
        return {"thinkingBudget": 0}
    return {"thinkingBudget": known.budget[0]}


def fitting_budget(known: Facts, budget: int, limit_tokens: int) -> int:
    """A budget of at most half the output limit, so that the answer has the other half."""
    assert known.budget is not None
    fitting = min(budget, limit_tokens // 2)
    if fitting >= known.budget[0]:
        return fitting
    return 0 if known.can_stop_thinking else known.budget[0]


def is_exact(known: Facts, effort: str) -> bool:
    """Whether the model does what this effort says, without a compromise that the client should know of."""
    if known.budget is not None:
        return effort != "none" or known.can_stop_thinking
    return effort not in ("none", "xhigh", "max")
