"""The upstream protocols that agproxy speaks. To add one: a package here with the names of `gemini`."""

from dataclasses import field

from ..values import value_class


@value_class(frozen=True, slots=True, kw_only=True)
class Target:
    """Where an attempt goes and as whom. base_url ends in the version; key is the account's credential, a token if
    `is_token`. kind: which of the backend's upstreams; project, location and quota_project as that wants them. proxy:
    the account's own."""

    base_url: str
    key: str = field(repr=False)
    user_agent: str
    kind: str = "gemini"
    is_token: bool = False
    project: str = ""
    location: str = ""
    quota_project: str = ""
    proxy: str = field(default="", repr=False)
