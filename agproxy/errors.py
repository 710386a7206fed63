"""Every error that agproxy raises on purpose, and what each says to whoever must act on it.

    GatewayError
    |- client faults      InvalidRequest 400   Unauthorized 401   Forbidden 403   NotFound 404   HttpRefused 4xx
    |                     ClientLimited 429
    |- upstream faults    UpstreamRejected 4xx   UpstreamAuthFailed 502   UpstreamRateLimited 429
    |                     UpstreamOverloaded 503   UpstreamFailed 5xx   CredentialRevoked 502
    `- gateway faults     NoAccount 503   Overloaded 503   StateUnavailable 503   InternalError 500

Pure code raises these; `io` maps what the operating system, TLS and h11 raise at its seam; only the gateway
catches; frontends only render. A message says the path first, then what: `messages[2].role: unknown 'x'`. No
message ever holds a key, a token or a prompt.
"""

from enum import Enum


class Fault(Enum):
    """Who can mend it."""

    CLIENT = "client"
    UPSTREAM = "upstream"
    GATEWAY = "gateway"


class Retry(Enum):
    """What another attempt at the upstream may bring."""

    NEVER = "never"
    SAME_ACCOUNT = "same account"
    NEXT_ACCOUNT = "next account"


class GatewayError(Exception):
    """Base of all deliberate errors.

    status: HTTP status for the client. code, param: OpenAI's words where the protocol has a place for them.
    retry_after_seconds: how long upstream asks to wait, if it said so. passes_soon: False tells SDKs not to
    repeat the request (`x-should-retry: false`); None leaves it to the status. headers: extra answer headers.
    """

    fault = Fault.GATEWAY
    retry = Retry.NEVER
    status = 500
    code: str | None = None
    type: str | None = None

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        param: str | None = None,
        type: str | None = None,
        retry: Retry | None = None,
        retry_after_seconds: float | None = None,
        passes_soon: bool | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_seconds = retry_after_seconds
        self.passes_soon = passes_soon
        self.headers = headers
        if status is not None:
            self.status = status
        if code is not None:
            self.code = code
        if type is not None:
            self.type = type
        if retry is not None:
            self.retry = retry

    def reword(self, message: str) -> None:
        """Take another message, so that the old one is nowhere left."""
        self.message = message
        self.args = (message,)


class InvalidRequest(GatewayError):
    """The body cannot be served as it is; `param` names the part."""

    fault = Fault.CLIENT
    status = 400


class Unauthorized(GatewayError):
    """No client key, or a wrong one."""

    fault = Fault.CLIENT
    status = 401
    code = "invalid_api_key"


class Forbidden(GatewayError):
    """The request comes from where it may not, such as a foreign web page."""

    fault = Fault.CLIENT
    status = 403


class NotFound(GatewayError):
    """No such route, model or stored object."""

    fault = Fault.CLIENT
    status = 404


class ClientLimited(GatewayError):
    """A limit of the client's own key is used up (429)."""

    fault = Fault.CLIENT
    status = 429
    code = "rate_limit_exceeded"


class HttpRefused(GatewayError):
    """The request breaks HTTP or a limit of the server: 400, 405, 408, 411, 413, 415, 426, 431, 503."""

    fault = Fault.CLIENT
    status = 400


class UpstreamRejected(GatewayError):
    """Upstream says that the request itself is wrong: no other account would take it."""

    fault = Fault.CLIENT
    status = 400


class UpstreamAuthFailed(GatewayError):
    """Upstream refuses the account's credential. Never the client's 401: its key is fine."""

    fault = Fault.UPSTREAM
    status = 502
    code = "upstream_auth"
    retry = Retry.NEXT_ACCOUNT
    is_stale = False  # a token that may merely be old (401): worth one try with a new one


class CredentialRevoked(UpstreamAuthFailed):
    """The credential will not serve again, whatever the wait: its owner has to give another."""


class UpstreamRateLimited(GatewayError):
    """A limit of the account (429). `is_daily`: spent until the day ends. `is_capacity`: the model's, not the
    account's."""

    fault = Fault.UPSTREAM
    status = 429
    code = "rate_limit_exceeded"
    retry = Retry.NEXT_ACCOUNT
    is_daily = False
    is_capacity = False


class UpstreamOverloaded(GatewayError):
    """The model has no capacity now (503, 529)."""

    fault = Fault.UPSTREAM
    status = 503
    retry = Retry.NEXT_ACCOUNT


class UpstreamFailed(GatewayError):
    """Upstream broke: 5xx, connection, time-out, or bytes that are not its protocol."""

    fault = Fault.UPSTREAM
    status = 502
    retry = Retry.NEXT_ACCOUNT


class NoAccount(GatewayError):
    """No account is configured, or none may serve this model."""

    status = 503
    code = "no_account"


class Overloaded(GatewayError):
    """The gateway itself is at a limit of its own."""

    status = 503
    code = "overloaded"


class StateUnavailable(GatewayError):
    """What is kept between requests cannot be read or written now."""

    status = 503
    code = "state_unavailable"


class InternalError(GatewayError):
    """A bug. The text is fixed; the traceback is in the log under the request id."""

    status = 500


class ConfigError(Exception):
    """A setting that cannot be used; the message names it and says what would do. Never reaches a client."""
