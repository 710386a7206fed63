"""What Gemini's error answers mean: who is at fault, and whether another account may do better.

Follows google.rpc.Status and its details (ErrorInfo, RetryInfo, QuotaFailure, BadRequest) as the live API sends
them; the decision never rests on the wording of a message where a status or a reason says it. DebugInfo is never
read: it may quote the key (recorded as `unary-failure-api-key`).
"""

import math
import re
from email.utils import parsedate_to_datetime
from typing import Any

from ... import jsontext
from ...errors import (
    GatewayError,
    Retry,
    UpstreamAuthFailed,
    UpstreamFailed,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamRejected,
)
from ...http11 import Headers, find
from ...masking import KEYS

# ErrorInfo.reason of a 400 -> the account is at fault, not the request.
_ACCOUNT_REASONS = frozenset(
    {
        "API_KEY_INVALID",
        "API_KEY_EXPIRED",
        "API_KEY_SERVICE_BLOCKED",
        "API_KEY_IP_ADDRESS_BLOCKED",
        "API_KEY_HTTP_REFERRER_BLOCKED",
        "SERVICE_DISABLED",
        "CONSUMER_INVALID",
        "CONSUMER_SUSPENDED",
        "BILLING_DISABLED",
        "IAM_PERMISSION_DENIED",
        "ACCESS_TOKEN_EXPIRED",
        "CREDENTIALS_MISSING",
        "VALIDATION_REQUIRED",
    }
)
# ErrorInfo.reason of a 429 that says more than its status. The last two come from Code Assist, whose quotas are by day.
_CAPACITY_REASONS = frozenset({"MODEL_CAPACITY_EXHAUSTED"})
_SPENT_REASONS = frozenset({"QUOTA_EXHAUSTED", "INSUFFICIENT_G1_CREDITS_BALANCE"})
# Where no status and no reason says that it is the model's capacity: Vertex AI's shared one (a 429 without details),
# and servers that answer 500 or 502 then.
_SHARED_CAPACITY = re.compile(r"resource exhausted\. please try again", re.IGNORECASE)
_OVERLOADED = re.compile(r"\boverloaded\b", re.IGNORECASE)
_TOO_LONG = re.compile(r"exceeds the maximum number of tokens|input token count", re.IGNORECASE)
# Gemini says this in words only: a signature that another model, project or line made.
_BAD_SIGNATURE = re.compile(r"(?:corrupted|invalid) thought.?signature", re.IGNORECASE)
FOREIGN_SIGNATURE = "foreign_signature"
# Whose account it is, is no business of the client: keys, and the project's number.
_PRIVATE = re.compile(KEYS + r"|(?<=\bproject_number:)\d+|(?<=\bprojects/)\d+|(?<=\bproject )\d{6,}")
_DURATION_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "us": 1e-6, "ns": 1e-9}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|us|ns|h|m|s))+")


def hide_private(text: str) -> str:
    """Upstream's words without keys and the project's number."""
    return _PRIVATE.sub("...", text)


def duration_seconds(text: str) -> float | None:
    """Seconds of a duration as upstreams write it: "34.07s", "900ms", "1h2m3.5s". None if it is none."""
    if not _DURATION.fullmatch(text):
        return None
    pieces = re.findall(r"(\d+(?:\.\d+)?)(ms|us|ns|h|m|s)", text)
    return _finite(sum(float(value) * _DURATION_UNITS[unit] for value, unit in pieces))


def _finite(seconds: float) -> float | None:
    """A wait that somebody can act on: no number of 400 digits, which float() reads as infinity."""
    return seconds if math.isfinite(seconds) else None


def _retry_after(details: list[dict[str, Any]], headers: Headers) -> float | None:
    """How long upstream asks to wait: RetryInfo wherever it stands in the details, else Retry-After as seconds or as
    a date, which is measured against the answer's own."""
    delay = _find_delay(details, 0)
    if delay is not None:
        return duration_seconds(delay)
    value = find(headers, "retry-after")
    if value is None:
        return None
    if value.isdecimal() and value.isascii():
        return _finite(float(value))
    until, sent = _moment(value), _moment(find(headers, "date") or "")
    return None if until is None or sent is None else max(until - sent, 0.0)


def _find_delay(value: Any, depth: int) -> str | None:
    """The first `retryDelay` in nested details."""
    if depth > 8:
        return None
    if isinstance(value, dict):
        if isinstance(value.get("retryDelay"), str):
            return str(value["retryDelay"])
        value = list(value.values())
    if isinstance(value, list):
        return next((found for item in value if (found := _find_delay(item, depth + 1)) is not None), None)
    return None


def _moment(text: str) -> float | None:
    """Unix seconds of an HTTP date (RFC 9110, section 5.6.7)."""
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _quota_violations(details: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        violation
        for detail in details
        if str(detail.get("@type", "")).endswith("QuotaFailure")
        for violation in _list(detail.get("violations"))
        if isinstance(violation, dict)
    ]


def _reason(details: list[dict[str, Any]]) -> str | None:
    for detail in details:
        if str(detail.get("@type", "")).endswith("ErrorInfo") and isinstance(detail.get("reason"), str):
            return str(detail["reason"])
    return None


def _param(details: list[dict[str, Any]]) -> str | None:
    for detail in details:
        if str(detail.get("@type", "")).endswith("BadRequest"):
            for violation in _list(detail.get("fieldViolations")):
                if isinstance(violation, dict) and isinstance(violation.get("field"), str):
                    return str(violation["field"]) or None
    return None


def decode_error_object(status: int, error: Any, headers: Headers = ()) -> GatewayError:
    """The error for a google.rpc.Status object. `status`: HTTP status, 200 for an error within a stream."""
    if not isinstance(error, dict):
        error = {}
    code = error.get("code")
    if status == 200 and isinstance(code, int):
        status = code
    details = [detail for detail in _list(error.get("details")) if isinstance(detail, dict)]
    given = error.get("message")
    message = hide_private(given) if isinstance(given, str) and given else f"upstream answered {status}"
    reason = _reason(details)
    name = error.get("status")
    if status in (401, 403) or reason in _ACCOUNT_REASONS:
        why = f" ({reason})" if reason else ""
        refused = UpstreamAuthFailed(f"Gemini refused the gateway's account{why}. Check it with: agproxy accounts test")
        refused.is_stale = status == 401
        return refused
    if status == 400 and name == "FAILED_PRECONDITION":
        return UpstreamAuthFailed(
            message,
            code="unsupported_country_region_territory" if "location" in message.lower() else "upstream_precondition",
        )
    if status == 429:
        return _limited(message, reason, details, headers)
    if status in (503, 529):
        return UpstreamOverloaded(message, status=503, retry_after_seconds=_retry_after(details, headers))
    if status == 404:
        return UpstreamRejected(message, status=404, code="model_not_found")
    if status == 504:
        return UpstreamFailed(message, status=504, code="upstream_timeout")
    if 400 <= status < 500 and status not in (408, 409, 499):
        rejected = UpstreamRejected(message, status=status, param=_param(details))
        if _TOO_LONG.search(message):
            rejected.code = "context_length_exceeded"
        elif _BAD_SIGNATURE.search(message):
            rejected.code = FOREIGN_SIGNATURE
        return rejected
    if _OVERLOADED.search(message):
        return UpstreamOverloaded(message, retry_after_seconds=_retry_after(details, headers))
    return UpstreamFailed(message, status=500 if status == 500 else 502)


def _limited(message: str, reason: str | None, details: list[dict[str, Any]], headers: Headers) -> UpstreamRateLimited:
    """A 429: whose limit it is, and for how long."""
    limited = UpstreamRateLimited(message, retry_after_seconds=_retry_after(details, headers))
    violations = _quota_violations(details)
    quotas = [str(violation.get("quotaId", "")) for violation in violations]
    # A limit of 0: the account's tier does not have this model, which no day changes.
    limited.is_daily = any("PerDay" in q for q in quotas) or any(v.get("quotaValue") == "0" for v in violations)
    limited.is_daily = limited.is_daily or reason in _SPENT_REASONS
    is_shared = not details and _SHARED_CAPACITY.search(message) is not None
    limited.is_capacity = not limited.is_daily and (reason in _CAPACITY_REASONS or is_shared)
    if limited.is_daily:
        limited.code = "insufficient_quota"
    elif quotas:
        limited.type = "tokens" if any("Token" in quota for quota in quotas) else "requests"
    return limited


def decode_error(status: int, headers: Headers, body: bytes) -> GatewayError:
    """The error for an upstream answer that is not 200. HTML, empty and broken bodies are told, not quoted."""
    try:
        value = jsontext.loads(body)
    except ValueError:
        value = None
    if isinstance(value, list) and value:  # streamGenerateContent without alt=sse wraps its error in a list
        value = value[0]
    if isinstance(value, dict) and isinstance(value.get("error"), dict):
        return decode_error_object(status, value["error"], headers)
    if status in (401, 404, 413, 429, 503, 504, 529):  # a bare 403 is some proxy's, and no account's fault
        return decode_error_object(status, {"message": f"Gemini answered {status} without an explanation."}, headers)
    if 300 <= status < 400:
        return UpstreamFailed(f"Upstream answered with a redirect ({status}), which is not followed.")
    return UpstreamFailed(
        f"Upstream answered {status} with a body that is not Gemini's.",
        code="bad_upstream_body",
        retry=Retry.NEXT_ACCOUNT,
    )
