"""An account and its credential of the moment -> where a call of it goes, as the backend wants that said."""

from . import __version__
from .account import GEMINI, Account
from .backends import Target, gemini


def target_of(account: Account, key: str, gemini_url: str) -> Target:
    """The target of a call. key: the API key, or a token where the account has a credential. gemini_url: the base URL
    of the Gemini API by the settings, version included."""
    endpoint = account.endpoint
    url = gemini_url
    if endpoint.kind != GEMINI or endpoint.base_url:
        url = gemini.base_url(
            endpoint.kind, base=endpoint.base_url, version=endpoint.version, location=endpoint.location
        )
    return Target(
        base_url=url,
        key=key,
        user_agent=f"agproxy/{__version__}",
        kind=endpoint.kind,
        is_token=account.credential is not None,
        project=endpoint.project,
        location=endpoint.location,
        quota_project=endpoint.quota_project,
        proxy=account.proxy,
    )
