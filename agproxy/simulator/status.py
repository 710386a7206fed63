"""Refusals as Google sends them: a google.rpc.Status in an `error` object.

Follows google.rpc (Status, BadRequest, ErrorInfo, RetryInfo, QuotaFailure) and the error bodies that were recorded
from the live API. Knows the error shapes only; what is refused, and when, is said elsewhere.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..jsontext import JsonObject

# HTTP status -> google.rpc.Code name, after google/rpc/code.proto. 499 is what the API itself sends for a cancel.
STATUS_NAMES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    409: "ABORTED",
    411: "INVALID_ARGUMENT",
    412: "FAILED_PRECONDITION",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}

_TYPE = "type.googleapis.com/google.rpc."
_SERVICE = "generativelanguage.googleapis.com"


class Refused(Exception):
    """The request gets this status and this error body instead of an answer."""

    def __init__(
        self, code: int, message: str, *, status: str | None = None, details: Sequence[JsonObject] = ()
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status or STATUS_NAMES.get(code, "UNKNOWN")
        self.details = tuple(details)

    def body(self) -> JsonObject:
        """The error body."""
        error: JsonObject = {"code": self.code, "message": self.message, "status": self.status}
        if self.details:
            error["details"] = list(self.details)
        return {"error": error}


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing wrong with one field; `field` is a snake_case path, empty at the root."""

    field: str
    description: str


def pretty(value: Any) -> bytes:
    """JSON indented by two spaces with a last line break, which is how the API writes whole answers and errors."""
    try:
        return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
    except UnicodeEncodeError:  # a lone surrogate that the client sent and the answer quotes
        return (json.dumps(value, indent=2) + "\n").encode()


def bad_fields(violations: Sequence[Violation]) -> Refused:
    """400 for a body that does not fit the messages of the API; all faults at once, as the JSON reader reports them."""
    found = [
        {"field": v.field, "description": v.description} if v.field else {"description": v.description}
        for v in violations
    ]
    details = [{"@type": _TYPE + "BadRequest", "fieldViolations": found}]
    return Refused(400, "\n".join(v.description for v in violations), details=details)


def error_info(reason: str, **metadata: str) -> JsonObject:
    """A google.rpc.ErrorInfo; its reason is what a client may act on."""
    return {
        "@type": _TYPE + "ErrorInfo",
        "reason": reason,
        "domain": "googleapis.com",
        "metadata": {"service": _SERVICE} | metadata,
    }


def invalid_key() -> Refused:
    """A key that does not exist: a 400, recorded as unary-failure-api-key."""
    message = "API key not valid. Please pass a valid API key."
    localized = {"@type": _TYPE + "LocalizedMessage", "locale": "en-US", "message": message}
    return Refused(400, message, details=[error_info("API_KEY_INVALID"), localized])


def invalid_token() -> Refused:
    """An OAuth token that is wrong or has expired."""
    message = (
        "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid "
        "authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project."
    )
    return Refused(401, message, details=[error_info("ACCESS_TOKEN_EXPIRED")])


def wrong_location() -> Refused:
    """A caller from where the API is not offered."""
    return Refused(400, "User location is not supported for the API use.", status="FAILED_PRECONDITION")


def too_long(number: int, allowed: int) -> Refused:
    """More input tokens than the model takes."""
    return Refused(400, f"The input token count ({number}) exceeds the maximum number of tokens allowed ({allowed}).")


def missing_token() -> Refused:
    """No credential where a token is wanted, as on Vertex AI."""
    message = (
        "Request is missing required authentication credential. Expected OAuth 2 access token, login cookie or other "
        "valid authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project."
    )
    return Refused(401, message, details=[error_info("CREDENTIALS_MISSING")])


def missing_key() -> Refused:
    """No credential at all on the Gemini API."""
    return Refused(
        403,
        "Method doesn't allow unregistered callers (callers without established identity). Please use API Key or "
        "other form of API consumer identity to call this API.",
    )


def denied() -> Refused:
    """A project whose API is switched off."""
    message = (
        "Generative Language API has not been used in project 0 before or it is disabled. Enable it by visiting "
        f"https://console.developers.google.com/apis/api/{_SERVICE}/overview?project=0 then retry."
    )
    return Refused(403, message, details=[error_info("SERVICE_DISABLED", consumer="projects/0")])


def rate_limited(seconds: float, *, period: str = "Minute", limit: int = 10, model: str = "") -> Refused:
    """429 for a quota of `limit` requests per "Minute" or "Day"; a day's retry delay is misleadingly short too."""
    delay = f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"
    metric = f"{_SERVICE}/generate_content_free_tier_requests"
    message = (
        "You exceeded your current quota, please check your plan and billing details. For more information on this "
        "error, head over to: https://ai.google.dev/gemini-api/docs/rate-limits.\n"
        f"* Quota exceeded for metric: {metric}, limit: {limit}, model: {model}\nPlease retry in {delay}."
    )
    violation = {
        "quotaMetric": metric,
        "quotaId": f"GenerateRequestsPer{period}PerProjectPerModel-FreeTier",
        "quotaDimensions": {"location": "global", "model": model},
        "quotaValue": str(limit),
    }
    link = {
        "description": "Learn more about Gemini API quotas",
        "url": "https://ai.google.dev/gemini-api/docs/rate-limits",
    }
    return Refused(
        429,
        message,
        details=[
            {"@type": _TYPE + "QuotaFailure", "violations": [violation]},
            {"@type": _TYPE + "Help", "links": [link]},
            {"@type": _TYPE + "RetryInfo", "retryDelay": delay},
        ],
    )


# What each server fault says. 499 in mid-stream: recorded as `streaming-failure-error-mid-stream`.
SERVER_FAULTS = {
    499: "The operation was cancelled.",
    500: "An internal error has occurred. Please retry or report in "
    "https://developers.generativeai.google/guide/troubleshooting",
    503: "The model is overloaded. Please try again later.",
    504: "Deadline expired before operation could complete.",
}


def server_fault(code: int) -> Refused:
    """A fault on Google's side."""
    return Refused(code, SERVER_FAULTS.get(code, f"Simulated error {code}."))
