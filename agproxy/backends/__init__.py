"""The upstream protocols that agproxy speaks. To add one: a package here with the names of `gemini`."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where an attempt goes and as whom. base_url ends in the version; key is the account's credential."""

    base_url: str
    key: str = field(repr=False)
    user_agent: str
