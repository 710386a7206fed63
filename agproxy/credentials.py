"""Credentials that are not an API key: what each kind needs, how its token is asked for, and when a new one is due.

    oauth_user        the user's refresh token with the user's own client id and secret      -> token endpoint
    command           a command of the user's that prints a token                            -> its standard output
    gce_metadata      the metadata server of a machine on Google Cloud                       -> HTTP in that machine
    service_account   a service account's key file, whose RS256 signature is made elsewhere  -> token endpoint

Follows RFC 6749 (sections 5 and 6), RFC 7523 for service accounts, and Google's pages on both and on the metadata
server. Pure: time comes in as a number; `io.tokens` talks to the world. agproxy brings no client id of its own.
"""

import base64
import json
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from urllib.parse import urlencode

from . import jsontext
from .errors import CredentialRevoked, GatewayError, UpstreamAuthFailed, UpstreamFailed
from .http11 import Call

API_KEY = "gemini_api_key"
OAUTH_USER = "oauth_user"
COMMAND = "command"
METADATA = "gce_metadata"
SERVICE_ACCOUNT = "service_account"
KINDS = (API_KEY, OAUTH_USER, COMMAND, METADATA, SERVICE_ACCOUNT)

TOKEN_URL = "https://oauth2.googleapis.com/token"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_RENEW_EARLY_SECONDS = 300.0
_RENEW_EARLY_SHARE = 0.2  # of a token's life, where that is short
_USUAL_LIFE_SECONDS = 3000.0  # Google's tokens live an hour; a command that does not say when is asked again before
_MOST_TOKEN_CHARACTERS = 16384
_MOST_TIMEOUT_SECONDS = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuthUser:
    """What Google's own files call authorized_user."""

    client_id: str
    client_secret: str = field(repr=False)
    refresh_token: str = field(repr=False)
    token_url: str = TOKEN_URL

    @property
    def secrets(self) -> tuple[str, ...]:
        return self.client_secret, self.refresh_token


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command that prints a token, alone or as JSON with its expiry. It is run without a shell."""

    argv: tuple[str, ...] = field(repr=False)
    timeout_seconds: float = 30.0
    life_seconds: float = _USUAL_LIFE_SECONDS

    @property
    def secrets(self) -> tuple[str, ...]:
        return ()  # its words are no secret to who can run it; what it prints is


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """The service account that a machine on Google Cloud has. host: "" for Google's name for it."""

    service_account: str = "default"
    host: str = ""

    @property
    def secrets(self) -> tuple[str, ...]:
        return ()


METADATA_HOST = "metadata.google.internal"


def metadata_place(metadata: Metadata, environ: Mapping[str, str]) -> tuple[str, int]:
    """Host and port of the metadata server. Raises ValueError where the port is none."""
    host, _, port = (metadata.host or environ.get("GCE_METADATA_HOST") or METADATA_HOST).partition(":")
    return host, int(port or 80)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAccount:
    """A service account's key file."""

    client_email: str
    private_key: str = field(repr=False)
    private_key_id: str = ""
    token_url: str = TOKEN_URL

    @property
    def secrets(self) -> tuple[str, ...]:
        return (self.private_key,)


Credential = OAuthUser | Command | Metadata | ServiceAccount


# --- what stands in the accounts file --------------------------------------------------------------------------


def _text(secret: Mapping[str, Any], name: str, default: str | None = None) -> str:
    value = secret.get(name)
    if value is None and default is not None:
        return default
    if not isinstance(value, str) or not value or not all(" " <= c <= "~" or c in "\r\n" for c in value):
        raise ValueError(f"{name}: text was expected")
    return value


def _url(secret: Mapping[str, Any], *names: str) -> str:
    url = next((_text(secret, name) for name in names if secret.get(name) is not None), TOKEN_URL)
    if not re.match(r"https?://[^\s@]+\Z", url):
        raise ValueError(f"{names[0]}: an https:// URL was expected")
    return url


def _seconds(secret: Mapping[str, Any], name: str, default: float) -> float:
    value = secret.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= jsontext.MOST_FLOAT:
        raise ValueError(f"{name}: a number of seconds above 0 was expected")
    return float(value)


def _read_oauth(secret: Mapping[str, Any]) -> OAuthUser:
    return OAuthUser(
        client_id=_text(secret, "client_id"),
        client_secret=_text(secret, "client_secret", ""),
        refresh_token=_text(secret, "refresh_token"),
        token_url=_url(secret, "token_uri"),
    )


def _read_command(secret: Mapping[str, Any]) -> Command:
    command = secret.get("command")
    if isinstance(command, str):
        try:
            command = shlex.split(command)
        except ValueError as error:
            raise ValueError(f"command: {error}") from None
    if not isinstance(command, list) or not command or not all(isinstance(word, str) for word in command):
        raise ValueError("command: a command line, or a list of its words, was expected")
    return Command(
        argv=tuple(command),
        timeout_seconds=min(_seconds(secret, "timeout_seconds", 30.0), _MOST_TIMEOUT_SECONDS),
        life_seconds=_seconds(secret, "life_seconds", _USUAL_LIFE_SECONDS),
    )


def _read_metadata(secret: Mapping[str, Any]) -> Metadata:
    return Metadata(service_account=_text(secret, "service_account", "default"), host=_text(secret, "host", ""))


def _read_service_account(secret: Mapping[str, Any]) -> ServiceAccount:
    return ServiceAccount(
        client_email=_text(secret, "client_email"),
        private_key=_text(secret, "private_key"),
        private_key_id=_text(secret, "private_key_id", ""),
        token_url=_url(secret, "token_uri"),
    )


_READERS: dict[str, Callable[[Mapping[str, Any]], Credential]] = {
    OAUTH_USER: _read_oauth,
    COMMAND: _read_command,
    METADATA: _read_metadata,
    SERVICE_ACCOUNT: _read_service_account,
}


def read(kind: str, secret: Mapping[str, Any]) -> Credential | None:
    """The credential of a kind; None for an API key and for kinds that this version does not know.

    Raises ValueError that names the part and never quotes it.
    """
    reader = _READERS.get(kind)
    return reader(secret) if reader is not None else None


def id_of(credential: Credential) -> str:
    """A short name that stays the same and cannot be turned back: the same credential is the same account."""
    match credential:
        case OAuthUser():
            word, parts = "oauth", [credential.client_id, credential.refresh_token]
        case Command():
            word, parts = "command", list(credential.argv)
        case Metadata():
            word, parts = "gce", [credential.service_account, credential.host]
        case ServiceAccount():
            word, parts = "service", [credential.client_email, credential.private_key_id]
    digest = sha256("\0".join(["agproxy account", word, *parts]).encode("utf-8", "surrogatepass")).hexdigest()
    return f"{word}-{digest[:10]}"


# Files of Google's tools: what their `type` is -> our kind. They are taken as they are, but for what is no secret.
FILE_TYPES = {"authorized_user": OAUTH_USER, "service_account": SERVICE_ACCOUNT}
_FILE_FIELDS = {
    OAUTH_USER: ("client_id", "client_secret", "refresh_token", "token_uri"),
    SERVICE_ACCOUNT: ("client_email", "private_key", "private_key_id", "token_uri"),
}


def read_file(value: Any) -> tuple[str, dict[str, Any]]:
    """(kind, secret) of a credentials file of Google's tools. Raises ValueError."""
    kind = FILE_TYPES.get(str(value.get("type"))) if isinstance(value, dict) else None
    if kind is None:
        raise ValueError(f"a credentials file with type {' or '.join(FILE_TYPES)} was expected")
    secret = {name: value[name] for name in _FILE_FIELDS[kind] if name in value}
    read(kind, secret)
    return kind, secret


# --- tokens ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """An access token. until: when it ends; had: when it came."""

    value: str = field(repr=False)
    until: float
    had: float

    def is_over(self, now: float) -> bool:
        """Whether it can no longer be used; a call on its way takes a moment."""
        return now >= self.until - min(10.0, (self.until - self.had) * _RENEW_EARLY_SHARE)

    def is_due(self, now: float) -> bool:
        """Whether it is time for the next one, while this one still serves."""
        return now >= self.until - min(_RENEW_EARLY_SECONDS, (self.until - self.had) * _RENEW_EARLY_SHARE)


def token(value: Any, until: float, now: float) -> Token:
    """A token that can travel in a header. Raises ValueError."""
    if not isinstance(value, str) or not re.fullmatch(r"[!-~]+", value) or len(value) > _MOST_TOKEN_CHARACTERS:
        raise ValueError("no access token was in it")
    return Token(value=value, until=until, had=now)


def refresh_call(credential: OAuthUser, user_agent: str) -> Call:
    """RFC 6749, section 6."""
    form = {"grant_type": "refresh_token", "client_id": credential.client_id}
    form |= {"client_secret": credential.client_secret, "refresh_token": credential.refresh_token}
    return form_call(credential.token_url, form, user_agent)


def assertion_call(
    credential: ServiceAccount, sign: Callable[[str, bytes], bytes], now: float, user_agent: str
) -> Call:
    """RFC 7523, section 2.1: a claim signed with the account's key. sign: (key in PEM, data) -> RS256 signature."""
    head = {"alg": "RS256", "typ": "JWT"}
    if credential.private_key_id:
        head["kid"] = credential.private_key_id
    claim = {"iss": credential.client_email, "scope": SCOPE, "aud": credential.token_url}
    claim |= {"iat": int(now), "exp": int(now) + 3600}  # type: ignore[dict-item]
    signed = b".".join(_base64(json.dumps(part, separators=(",", ":")).encode()) for part in (head, claim))
    assertion = signed + b"." + _base64(sign(credential.private_key, signed))
    form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": assertion.decode()}
    return form_call(credential.token_url, form, user_agent)


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def form_call(url: str, form: Mapping[str, str], user_agent: str) -> Call:
    """A form to a token endpoint."""
    headers = (("content-type", "application/x-www-form-urlencoded"), ("accept", "application/json"))
    return Call(method="POST", url=url, body=urlencode(form).encode(), headers=(*headers, ("user-agent", user_agent)))


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = jsontext.loads(body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _word(value: Any) -> str:
    """An error's own words as they may be shown."""
    return "".join(c for c in value if " " <= c <= "~")[:200] if isinstance(value, str) else ""


def decode_token(status: int, body: bytes, now: float) -> Token:
    """The token of a token endpoint's answer, or of the metadata server's.

    Raises CredentialRevoked for `invalid_grant`, which no wait mends; UpstreamAuthFailed for other refusals;
    UpstreamFailed for trouble there.
    """
    value = _object(body)
    if status == 200:
        life = value.get("expires_in", _USUAL_LIFE_SECONDS)
        if isinstance(life, bool) or not isinstance(life, int | float) or not 0 < life <= jsontext.MOST_FLOAT:
            life = _USUAL_LIFE_SECONDS
        try:
            return token(value.get("access_token"), now + float(life), now)
        except ValueError as error:
            raise UpstreamFailed(f"The token endpoint answered, and {error}.", code="bad_token") from None
    raise refusal(status, value)


def refusal(status: int, value: Mapping[str, Any]) -> GatewayError:
    """The error of a token endpoint (RFC 6749, section 5.2)."""
    code, words = _word(value.get("error")), _word(value.get("error_description"))
    said = f"{code}: {words}" if words else code
    if code == "invalid_grant":
        return CredentialRevoked(f"The credential is no longer valid ({said}). Sign in again: agproxy accounts login")
    if 400 <= status < 500 and status not in (408, 429):
        return UpstreamAuthFailed(f"The token endpoint refused the gateway's account ({said or status}).")
    return UpstreamFailed(f"The token endpoint answered {status}{f' ({said})' if said else ''}.", code="token_endpoint")


def decode_output(output: str, credential: Command, now: float) -> Token:
    """The token that a command printed: a line of its own, or JSON with access_token (or token) and expires_in, or
    expiry as a time. Raises UpstreamAuthFailed."""
    text, until = output.strip(), now + credential.life_seconds
    found: Any = text
    if text.startswith("{"):
        value = _object(text.encode("utf-8", "replace"))
        found = value.get("access_token") or value.get("token")
        until = _expiry(value, now) or until
    try:
        return token(found, until, now)
    except ValueError as error:
        raise UpstreamAuthFailed(f"The credential command ended well, but {error}.") from None


def _expiry(value: Mapping[str, Any], now: float) -> float | None:
    life = value.get("expires_in")
    if isinstance(life, int | float) and not isinstance(life, bool) and 0 < life <= jsontext.MOST_FLOAT:
        return now + float(life)
    for name in ("expiry", "token_expiry", "expiration"):
        written = value.get(name)
        if isinstance(written, str):
            try:
                moment = datetime.fromisoformat(written)
            except ValueError:
                continue
            return moment.timestamp() if moment.tzinfo is not None else moment.replace(tzinfo=UTC).timestamp()
    return None
