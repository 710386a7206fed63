"""The models that the simulator lists, and what it takes any other gemini-* name to be.

Follows section 16 of the project's notes on the wire (models of November 2026, limits and thinking after Google's
own pages). A name that is not listed gets the facts of its generation, read out of the name, as a gateway has to do
too. Knows nothing of requests.
"""

import re
from dataclasses import dataclass, replace

from ..jsontext import JsonObject

_ALL_LEVELS = ("MINIMAL", "LOW", "MEDIUM", "HIGH")
_NO_MINIMAL = ("LOW", "MEDIUM", "HIGH")


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model. `generation` is (major, minor), (0, 0) where the name has none.

    levels: thinking levels it takes. budget: the range of thinking budgets it takes. Neither: it does not think.
    default_level: also names the usual length of thinking where a budget rules. can_stop_thinking: budget 0 is taken.
    """

    id: str
    generation: tuple[int, int] = (0, 0)
    input_tokens: int = 1_048_576
    output_tokens: int = 65_536
    levels: tuple[str, ...] = ()
    budget: tuple[int, int] | None = None
    default_level: str = "MEDIUM"
    can_stop_thinking: bool = False
    thinks_always: bool = False
    output: str = "text"
    has_functions: bool = True
    has_json: bool = True
    has_system: bool = True
    embeds: bool = False

    @property
    def thinks(self) -> bool:
        """Whether it can think at all."""
        return bool(self.levels) or self.budget is not None or self.thinks_always

    @property
    def is_third(self) -> bool:
        """Gemini 3 and later: signatures are checked, functions go with built-in tools and with JSON."""
        return self.generation >= (3, 0)

    @property
    def is_moving(self) -> bool:
        """An alias such as gemini-flash-latest, whose generation changes and so is not held against a request."""
        return self.id.endswith("-latest")

    @property
    def has_call_ids(self) -> bool:
        """Whether its calls carry ids: counted in the recorded traffic, sure from 3.5 on."""
        return self.generation >= (3, 5)

    @property
    def methods(self) -> tuple[str, ...]:
        """supportedGenerationMethods, as the real list gives them, served here or not."""
        if self.embeds:
            return ("embedContent", "countTextTokens", "countTokens", "asyncBatchEmbedContent")
        return ("generateContent", "countTokens", "createCachedContent", "batchGenerateContent")

    def wire(self) -> JsonObject:
        """The model as models.get gives it."""
        wire: JsonObject = {
            "name": f"models/{self.id}",
            "version": "001",
            "displayName": self.id.replace("-", " ").title(),
            "description": "A simulated model: its answers are made up by rule.",
            "inputTokenLimit": self.input_tokens,
            "outputTokenLimit": self.output_tokens,
            "supportedGenerationMethods": list(self.methods),
        }
        if not self.embeds:
            wire |= {"temperature": 1, "topP": 0.95, "topK": 64, "maxTemperature": 2}
            if self.thinks:
                wire["thinking"] = True
        return wire


def _third(id: str, minor: int, levels: tuple[str, ...], default: str, *, major: int = 3) -> Model:
    return Model(id=id, generation=(major, minor), levels=levels, default_level=default)


def _image(id: str, generation: tuple[int, int], *, levels: tuple[str, ...] = (), always: bool = False) -> Model:
    return Model(
        id=id,
        generation=generation,
        input_tokens=65_536,
        output_tokens=32_768,
        levels=levels,
        default_level="MINIMAL",
        thinks_always=always,
        output="image",
        has_functions=False,
        has_json=generation >= (3, 0),
    )


def _speech(id: str, generation: tuple[int, int]) -> Model:
    return Model(
        id=id,
        generation=generation,
        input_tokens=8_192,
        output_tokens=16_384,
        output="audio",
        has_functions=False,
        has_json=False,
        has_system=False,
    )


def _embedding(id: str, input_tokens: int) -> Model:
    return Model(id=id, input_tokens=input_tokens, output_tokens=1, embeds=True, has_functions=False)


_FLASH_25 = Model(
    id="gemini-2.5-flash", generation=(2, 5), budget=(0, 24_576), default_level="MEDIUM", can_stop_thinking=True
)

LISTED: tuple[Model, ...] = (
    _third("gemini-4-argon", 0, _NO_MINIMAL, "MEDIUM", major=4),
    _third("gemini-3.8-flash", 8, _NO_MINIMAL, "MEDIUM"),
    _third("gemini-3.7-flash", 7, _NO_MINIMAL, "MEDIUM"),
    _third("gemini-3.6-flash", 6, _ALL_LEVELS, "MEDIUM"),
    _third("gemini-3.5-flash", 5, _ALL_LEVELS, "MEDIUM"),
    _third("gemini-3.5-flash-lite", 5, _ALL_LEVELS, "MINIMAL"),
    _third("gemini-3.1-pro-preview", 1, _NO_MINIMAL, "HIGH"),
    _third("gemini-3.1-pro-preview-customtools", 1, _NO_MINIMAL, "HIGH"),
    _third("gemini-3.1-flash-lite", 1, _ALL_LEVELS, "MINIMAL"),
    _third("gemini-3-flash-preview", 0, _ALL_LEVELS, "HIGH"),
    _third("gemini-3-pro-preview", 0, ("LOW", "HIGH"), "HIGH"),
    Model(id="gemini-2.5-pro", generation=(2, 5), budget=(128, 32_768), default_level="HIGH"),
    _FLASH_25,
    replace(_FLASH_25, id="gemini-2.5-flash-lite", budget=(512, 24_576), default_level="NONE"),
    Model(id="gemini-2.0-flash", generation=(2, 0), output_tokens=8_192),
    Model(id="gemini-2.0-flash-lite", generation=(2, 0), output_tokens=8_192),
    _image("gemini-3-pro-image", (3, 0), always=True),
    _image("gemini-3.1-flash-image", (3, 1), levels=("MINIMAL", "HIGH")),
    _image("gemini-3.1-flash-lite-image", (3, 1), levels=("MINIMAL", "HIGH")),
    _image("gemini-nano-banana-2.1", (3, 1), levels=("MINIMAL", "HIGH")),
    _image("gemini-2.5-flash-image", (2, 5)),
    _speech("gemini-3.8-flash-tts", (3, 8)),
    _speech("gemini-3.8-flash-lite-tts", (3, 8)),
    _speech("gemini-3.1-flash-tts-preview", (3, 1)),
    _speech("gemini-2.5-flash-preview-tts", (2, 5)),
    _speech("gemini-2.5-pro-preview-tts", (2, 5)),
    Model(id="gemini-3.5-transcribe", generation=(3, 5), input_tokens=98_304, output_tokens=32_768),
    _third("gemini-omni-1.1-flash", 0, _ALL_LEVELS, "MEDIUM"),
    _embedding("gemini-embedding-001", 2_048),
    _embedding("gemini-embedding-2", 8_192),
    Model(
        id="gemma-4-31b-it",
        input_tokens=262_144,
        output_tokens=32_768,
        levels=("MINIMAL", "HIGH"),
        default_level="MINIMAL",
    ),
    Model(
        id="gemma-4-26b-a4b-it",
        input_tokens=262_144,
        output_tokens=32_768,
        levels=("MINIMAL", "HIGH"),
        default_level="MINIMAL",
    ),
    Model(id="gemma-3-27b-it", input_tokens=131_072, output_tokens=8_192, has_json=False, has_system=False),
)
_BY_ID = {model.id: model for model in LISTED}

# Names that move; the answer's modelVersion says what they stand for. 3.7 is served by 3.8 since its retirement.
ALIASES = {
    "gemini-flash-latest": "gemini-3.8-flash",
    "gemini-flash-lite-latest": "gemini-3.5-flash-lite",
    "gemini-pro-latest": "gemini-3.1-pro-preview",
    "gemini-3.7-flash": "gemini-3.8-flash",
}

_GENERATION = re.compile(r"[a-z]+-(?:[a-z]+-)*(\d{1,2})(?:\.(\d{1,2}))?(?!\d)")  # not the date in gemini-exp-1206


def resolve(name: str) -> Model | None:
    """The facts of a model by its bare name (no `models/`), or None where no such model could exist."""
    known = _BY_ID.get(name)
    if known is not None:
        return known
    if name in ALIASES:
        return replace(_BY_ID[ALIASES[name]], id=name)
    if name.startswith("gemma-"):
        return replace(_BY_ID["gemma-4-31b-it" if name >= "gemma-4" else "gemma-3-27b-it"], id=name)
    if name.startswith(("text-embedding-", "embedding-", "text-multilingual-embedding-")):
        return _embedding(name, 2_048)
    if not name.startswith(("gemini-", "learnlm-")):
        return None
    return _unlisted(name)


def version_of(model: Model) -> str:
    """What the answer gives as modelVersion."""
    return ALIASES.get(model.id, model.id)


def _unlisted(name: str) -> Model:
    found = _GENERATION.match(name)
    generation = (int(found[1]), int(found[2] or 0)) if found else (0, 0)
    if "embedding" in name:
        return _embedding(name, 8_192)
    if name.endswith("-tts") or "-tts-" in name:
        return _speech(name, generation)
    if "-image" in name or "nano-banana" in name:
        return _image(name, generation, levels=("MINIMAL", "HIGH") if generation >= (3, 0) else ())
    if generation >= (3, 0):
        return Model(id=name, generation=generation, levels=_ALL_LEVELS)
    if generation >= (2, 5):
        family = "gemini-2.5-pro" if "-pro" in name else "gemini-2.5-flash"
        lite = "gemini-2.5-flash-lite" if "-flash-lite" in name else family
        return replace(_BY_ID[lite], id=name, generation=generation)
    return Model(id=name, generation=generation, output_tokens=8_192)
