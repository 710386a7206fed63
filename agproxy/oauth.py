"""Signing in with Google by the authorization code flow, with the user's own client: RFC 6749, section 4.1, with PKCE
(RFC 7636) on a loopback address (RFC 8252, section 7.3).

Pure: random words come in as arguments, `cli.login` opens the port and asks the token endpoint.
"""

import base64
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from . import jsontext
from .credentials import SCOPE, TOKEN_URL, form_call, refusal
from .errors import UpstreamFailed
from .http11 import Call

AUTH_URL = "https://accounts.google.com/o/oauth2/v2/auth"
SCOPES = ("openid", "email", SCOPE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """The user's own OAuth client, of the type "Desktop app"."""

    id: str
    secret: str = field(default="", repr=False)
    auth_url: str = AUTH_URL
    token_url: str = TOKEN_URL


@dataclass(frozen=True, slots=True, kw_only=True)
class SignIn:
    """One attempt to sign in. verifier: PKCE's secret; state: what the redirect must bring back."""

    client: Client
    redirect_uri: str
    verifier: str = field(repr=False)
    state: str = field(repr=False)

    @property
    def url(self) -> str:
        """What the user opens in a browser."""
        challenge = base64.urlsafe_b64encode(sha256(self.verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "client_id": self.client.id,
            "redirect_uri": self.redirect_uri,
            "response_type": "code",
            "scope": " ".join(SCOPES),
            "state": self.state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            # Both: Google gives a refresh token only then, and only with the user's fresh consent.
            "access_type": "offline",
            "prompt": "consent",
        }
        return f"{self.client.auth_url}?{urlencode(query)}"

    def code_of(self, text: str) -> str:
        """The code in what came back: a redirect's whole URL or its target, or the bare code as a user pastes it.
        Raises ValueError that says what is wrong."""
        text = text.strip()
        query = parse_qs(urlsplit(text).query)
        if not query:
            if not text or any(c.isspace() for c in text):
                raise ValueError("a code, or the address that the browser was sent to, was expected")
            return text
        if "error" in query:
            raise ValueError(f"Google says: {''.join(c for c in query['error'][0] if ' ' <= c <= '~')[:100]}")
        if query.get("state") != [self.state]:
            raise ValueError("that is the answer to another sign-in")
        if not query.get("code"):
            raise ValueError("there is no code in it")
        return query["code"][0]

    def exchange_call(self, code: str, user_agent: str) -> Call:
        """The request that turns a code into tokens."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.redirect_uri,
            "client_id": self.client.id,
            "client_secret": self.client.secret,
            "code_verifier": self.verifier,
        }
        return form_call(self.client.token_url, form, user_agent)


def read_client(value: Any) -> Client:
    """The client in a client_secret.json of Google's console. Raises ValueError."""
    inner = value.get("installed") if isinstance(value, dict) else None
    if not isinstance(inner, dict) or not isinstance(inner.get("client_id"), str):
        raise ValueError("a client_secret.json of the type Desktop app was expected")
    words = {"id": "client_id", "secret": "client_secret", "auth_url": "auth_uri", "token_url": "token_uri"}
    found = {name: inner[key] for name, key in words.items() if isinstance(inner.get(key), str)}
    return Client(**found)


def decode_tokens(status: int, body: bytes) -> tuple[str, str | None]:
    """(refresh token, e-mail address) of the token endpoint's answer. Raises GatewayError."""
    try:
        value = jsontext.loads(body)
    except ValueError:
        value = None
    value = value if isinstance(value, dict) else {}
    if status != 200:
        raise refusal(status, value)
    refresh_token = value.get("refresh_token")
    if not isinstance(refresh_token, str) or not refresh_token:
        raise UpstreamFailed(
            "Google gave no refresh token: take the access back at myaccount.google.com, and try again"
        )
    return refresh_token, _email(value.get("id_token"))


def _email(id_token: Any) -> str | None:
    """The e-mail address in an id token. Its signature is not checked: it came from Google over TLS a moment ago."""
    parts = id_token.split(".") if isinstance(id_token, str) else []
    if len(parts) != 3:
        return None
    try:
        claims = jsontext.loads(base64.urlsafe_b64decode(parts[1] + "=="))
    except ValueError:
        return None
    email = claims.get("email") if isinstance(claims, dict) else None
    return email if isinstance(email, str) and email else None
