"""What Gemini's refusals mean: whose fault, whether another account may do better, and what the client is told."""

import json

import pytest

from agproxy.backends.gemini.errors import FOREIGN_SIGNATURE, decode_error, decode_error_object, duration_seconds
from agproxy.errors import (
    Fault,
    Retry,
    UpstreamAuthFailed,
    UpstreamFailed,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamRejected,
)


def refusal(status, name, message="words", *details, headers=()):
    error = {"code": status, "message": message, "status": name, "details": list(details)}
    return decode_error(status, headers, json.dumps({"error": error}).encode())


def detail(kind, **fields):
    return {"@type": f"type.googleapis.com/google.rpc.{kind}"} | fields


def reason(word):
    return detail("ErrorInfo", reason=word, domain="googleapis.com")


KINDS = [
    (400, "INVALID_ARGUMENT", UpstreamRejected, 400, None, Retry.NEVER),
    (400, "FAILED_PRECONDITION", UpstreamAuthFailed, 502, "upstream_precondition", Retry.NEXT_ACCOUNT),
    (400, "OUT_OF_RANGE", UpstreamRejected, 400, None, Retry.NEVER),
    (401, "UNAUTHENTICATED", UpstreamAuthFailed, 502, "upstream_auth", Retry.NEXT_ACCOUNT),
    (403, "PERMISSION_DENIED", UpstreamAuthFailed, 502, "upstream_auth", Retry.NEXT_ACCOUNT),
    (404, "NOT_FOUND", UpstreamRejected, 404, "model_not_found", Retry.NEVER),
    (408, "", UpstreamFailed, 502, None, Retry.NEXT_ACCOUNT),
    (409, "ABORTED", UpstreamFailed, 502, None, Retry.NEXT_ACCOUNT),
    (413, "", UpstreamRejected, 413, None, Retry.NEVER),
    (429, "RESOURCE_EXHAUSTED", UpstreamRateLimited, 429, "rate_limit_exceeded", Retry.NEXT_ACCOUNT),
    (499, "CANCELLED", UpstreamFailed, 502, None, Retry.NEXT_ACCOUNT),
    (500, "INTERNAL", UpstreamFailed, 500, None, Retry.NEXT_ACCOUNT),
    (501, "UNIMPLEMENTED", UpstreamFailed, 502, None, Retry.NEXT_ACCOUNT),
    (502, "", UpstreamFailed, 502, None, Retry.NEXT_ACCOUNT),
    (503, "UNAVAILABLE", UpstreamOverloaded, 503, None, Retry.NEXT_ACCOUNT),
    (504, "DEADLINE_EXCEEDED", UpstreamFailed, 504, "upstream_timeout", Retry.NEXT_ACCOUNT),
    (529, "", UpstreamOverloaded, 503, None, Retry.NEXT_ACCOUNT),
]


@pytest.mark.parametrize(
    ("status", "name", "kind", "told", "code", "retry"), KINDS, ids=lambda v: str(v) if not isinstance(v, type) else ""
)
def test_each_status_has_its_meaning(status, name, kind, told, code, retry):
    error = refusal(status, name)

    assert type(error) is kind
    assert (error.status, error.code, error.retry) == (told, code, retry)


@pytest.mark.parametrize(
    ("status", "name", "kind", "told", "code", "retry"), KINDS, ids=lambda v: str(v) if not isinstance(v, type) else ""
)
def test_an_error_within_a_stream_means_the_same_by_its_code(status, name, kind, told, code, retry):
    error = decode_error_object(200, {"code": status, "status": name, "message": "words"})

    assert (type(error), error.status, error.code) == (kind, told, code)


@pytest.mark.parametrize(
    "word", ["API_KEY_INVALID", "API_KEY_EXPIRED", "API_KEY_SERVICE_BLOCKED", "SERVICE_DISABLED", "CONSUMER_INVALID"]
)
def test_a_bad_key_is_a_400_there_and_the_account_s_fault_here(word):
    error = refusal(400, "INVALID_ARGUMENT", "API key not valid: AIzaSECRETSECRETSECRETSECRET", reason(word))

    assert (type(error), error.status, error.fault) == (UpstreamAuthFailed, 502, Fault.UPSTREAM)
    assert error.retry is Retry.NEXT_ACCOUNT
    assert word in error.message
    assert "SECRET" not in error.message


def test_the_words_of_a_message_do_not_make_an_account_bad():
    assert type(refusal(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.")) is UpstreamRejected


def test_details_for_developers_are_never_told():
    """Recorded as `unary-failure-api-key`: DebugInfo quotes the key."""
    debug = detail("DebugInfo", detail="Invalid API key: key1234")
    for status, name in ((400, "INVALID_ARGUMENT"), (403, "PERMISSION_DENIED"), (500, "INTERNAL")):
        error = refusal(status, name, "words", debug)
        assert "key1234" not in f"{error.message} {error.param}"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("key AIzaSyA1234567890123456789012345678901 is bad", "key ... is bad"),
        ("for consumer 'project_number:123456789012'.", "for consumer 'project_number:...'."),
        ("API disabled in project 123456789012 before", "API disabled in project ... before"),
        ("see projects/123456/locations/x", "see projects/.../locations/x"),
        ("projects of 12 people", "projects of 12 people"),
        ("limit: 250000, model: gemini-2.5-pro", "limit: 250000, model: gemini-2.5-pro"),
    ],
)
def test_keys_and_project_numbers_are_taken_out_of_messages(said, told):
    for status, name in ((400, "INVALID_ARGUMENT"), (429, "RESOURCE_EXHAUSTED"), (503, "UNAVAILABLE")):
        assert refusal(status, name, said).message == told


# --- the client's own mistakes


def test_the_field_that_is_wrong_is_named():
    violation = detail("BadRequest", fieldViolations=[{"field": "generation_config.seed", "description": "x"}])
    error = refusal(400, "INVALID_ARGUMENT", "Invalid value at 'generation_config.seed'", violation)

    assert (error.param, error.fault) == ("generation_config.seed", Fault.CLIENT)
    assert error.message == "Invalid value at 'generation_config.seed'"


@pytest.mark.parametrize(
    "message",
    [
        "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
        "The input token count exceeds what this model takes",
    ],
)
def test_a_prompt_that_is_too_long_has_openai_s_code(message):
    assert refusal(400, "INVALID_ARGUMENT", message).code == "context_length_exceeded"


@pytest.mark.parametrize("message", ["Corrupted thought signature.", "Invalid thought_signature in part 2"])
def test_a_foreign_signature_is_known_so_that_another_try_can_go_without(message):
    assert refusal(400, "INVALID_ARGUMENT", message).code == FOREIGN_SIGNATURE


# --- limits


def quota(*ids, **more):
    return detail("QuotaFailure", violations=[{"quotaId": id} | more for id in ids])


def test_a_limit_per_minute_says_when_to_come_back():
    error = refusal(
        429,
        "RESOURCE_EXHAUSTED",
        "slow down",
        quota("GenerateRequestsPerMinutePerProjectPerModel-FreeTier"),
        detail("RetryInfo", retryDelay="34.074824224s"),
    )

    assert (error.code, error.type, error.is_daily) == ("rate_limit_exceeded", "requests", False)
    assert error.retry_after_seconds == pytest.approx(34.074824224)
    assert error.retry is Retry.NEXT_ACCOUNT


def test_a_limit_of_tokens_is_told_as_one():
    assert refusal(429, "", "x", quota("GenerateContentInputTokensPerModelPerMinute-FreeTier")).type == "tokens"


@pytest.mark.parametrize(
    "spent",
    [
        quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier"),
        quota("GenerateRequestsPerMinutePerProjectPerModel", "GenerateRequestsPerDayPerProjectPerModel-FreeTier"),
        quota("GenerateRequestsPerMinutePerProjectPerModel-FreeTier", quotaValue="0"),
    ],
    ids=["day", "minute and day", "limit 0"],
)
def test_a_limit_that_will_not_pass_soon_is_a_spent_quota(spent):
    """Quirk: the retryDelay that comes with a daily limit is misleadingly short."""
    error = refusal(429, "RESOURCE_EXHAUSTED", "x", spent, detail("RetryInfo", retryDelay="12s"))

    assert (error.is_daily, error.code) == (True, "insufficient_quota")


def test_what_one_limit_said_stays_with_it():
    refusal(429, "", "x", quota("PerDay"))

    assert (UpstreamRateLimited.is_daily, UpstreamRateLimited("x").code) == (False, "rate_limit_exceeded")


def test_the_header_counts_where_the_body_says_no_time():
    assert refusal(429, "", "x", headers=(("retry-after", "7"),)).retry_after_seconds == 7
    assert refusal(503, "", "x", headers=(("retry-after", "7"),)).retry_after_seconds == 7
    both = refusal(429, "", "x", detail("RetryInfo", retryDelay="3s"), headers=(("retry-after", "7"),))
    assert both.retry_after_seconds == 3
    assert refusal(429, "", "x").retry_after_seconds is None


@pytest.mark.parametrize(
    ("retry_after", "date", "seconds"),
    [
        ("Wed, 21 Oct 2026 07:28:30 GMT", "Wed, 21 Oct 2026 07:28:00 GMT", 30),
        ("Wed, 21 Oct 2026 07:28:00 GMT", "Wed, 21 Oct 2026 07:28:30 GMT", 0),
        ("Wed, 21 Oct 2026 07:28:30 GMT", "", None),
        ("soon", "Wed, 21 Oct 2026 07:28:00 GMT", None),
        ("Wed, 40 Oct 2026 07:28:30 GMT", "Wed, 21 Oct 2026 07:28:00 GMT", None),
        ("Wed, 21 Oct 2026 07:28:30 +99999999999999999999", "Wed, 21 Oct 2026 07:28:00 GMT", None),
        ("٣", "", None),
    ],
)
def test_a_date_to_come_back_is_measured_against_the_answer_s_own(retry_after, date, seconds):
    assert refusal(429, "", "x", headers=(("retry-after", retry_after), ("date", date))).retry_after_seconds == seconds


def test_the_time_is_found_wherever_it_stands_in_the_details():
    nested = {"@type": "x/Other", "inner": [{"retryDelay": "3s"}]}

    assert refusal(429, "", "x", nested).retry_after_seconds == 3


@pytest.mark.parametrize(
    ("message", "details", "is_capacity"),
    [
        ("Resource exhausted. Please try again later.", [], True),
        ("Resource exhausted. Please try again later.", [reason("RATE_LIMIT_EXCEEDED")], False),
        ("You exceeded your current quota.", [], False),
        ("x", [reason("MODEL_CAPACITY_EXHAUSTED")], True),
        ("x", [reason("QUOTA_EXHAUSTED")], False),
    ],
)
def test_a_429_may_be_the_model_s_capacity_and_not_the_account_s_limit(message, details, is_capacity):
    error = refusal(429, "RESOURCE_EXHAUSTED", message, *details)

    assert error.is_capacity is is_capacity
    assert error.is_daily is any("QUOTA" in detail["reason"] for detail in details)


def test_an_overload_that_comes_as_500_is_one_by_its_words():
    assert type(refusal(500, "INTERNAL", "The model is overloaded. Please try again later.")) is UpstreamOverloaded
    assert type(refusal(400, "INVALID_ARGUMENT", "overloaded operator")) is UpstreamRejected


def test_only_a_401_says_that_a_token_may_be_stale():
    assert refusal(401, "UNAUTHENTICATED").is_stale
    assert not refusal(403, "PERMISSION_DENIED").is_stale


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("34s", 34),
        ("34.4s", 34.4),
        ("900ms", 0.9),
        ("0s", 0),
        ("1h2m3.5s", 3723.5),
        ("1m500ms", 60.5),
        ("1500us", 0.0015),
        ("", None),
        ("34", None),
        ("s", None),
        ("-3s", None),
        ("3 s", None),
        ("3s ", None),
        ("1d", None),
        ("NaNs", None),
        ("9" * 400 + "s", None),
    ],
)
def test_durations_are_read_as_upstreams_write_them(text, seconds):
    assert duration_seconds(text) == (None if seconds is None else pytest.approx(seconds))


def test_no_wait_is_without_end():
    """An infinite wait would break the header that tells it."""
    assert refusal(429, "", "x", detail("RetryInfo", retryDelay="9" * 400 + "s")).retry_after_seconds is None
    assert refusal(429, "", "x", headers=(("retry-after", "9" * 400),)).retry_after_seconds is None


# --- bodies


def test_an_error_may_come_in_a_list():
    """streamGenerateContent without alt=sse."""
    error = decode_error(400, (), b'[{"error": {"code": 400, "message": "no", "status": "INVALID_ARGUMENT"}}]')

    assert (type(error), error.message) == (UpstreamRejected, "no")


@pytest.mark.parametrize(
    "body", [b"", b"<html>404</html>", b"\xff\xfe", b"null", b"[]", b"{}", b'{"error": "text"}', b"[1]", b'"x"']
)
@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 429, 500, 502, 503, 504, 529])
def test_a_body_that_is_not_gemini_s_is_told_by_its_status_and_not_quoted(status, body):
    error = decode_error(status, (), body)

    expected = {401: 502, 403: 502, 404: 404, 413: 413, 429: 429, 503: 503, 504: 504, 529: 503}
    assert error.status == expected.get(status, 502)
    if status in (400, 500, 502):
        assert (error.code, error.retry) == ("bad_upstream_body", Retry.NEXT_ACCOUNT)
    assert "html" not in error.message


def test_a_redirect_is_told_as_one():
    assert "redirect (302)" in decode_error(302, (("location", "https://evil"),), b"").message


def test_an_error_without_words_is_told_by_its_status():
    for body in (b'{"error": {}}', b'{"error": {"message": ""}}', b'{"error": {"message": 5}}'):
        assert decode_error(400, (), body).message == "upstream answered 400"


def test_the_http_status_goes_before_the_code_within():
    assert type(refusal(503, "UNAVAILABLE")) is UpstreamOverloaded
    error = decode_error(503, (), b'{"error": {"code": 400, "message": "x"}}')
    assert type(error) is UpstreamOverloaded


@pytest.mark.parametrize(
    "error", [None, 5, "x", [], {}, {"code": None}, {"code": "429"}, {"code": 10**30}, {"code": -1}, {"code": True}]
)
def test_an_error_within_a_stream_that_says_nothing_is_upstream_s_failure(error):
    found = decode_error_object(200, error)

    assert (type(found), found.status) == (UpstreamFailed, 502)


NONSENSE = [None, 5, True, "x", [], {}, [None], [5], [[]], [{}], {"a": 1}]


@pytest.mark.parametrize("value", NONSENSE, ids=str)
@pytest.mark.parametrize("status", [400, 401, 429, 503])
def test_fields_of_a_wrong_type_are_passed_over(status, value):
    errors = [
        {"code": status, "message": value, "status": value, "details": value},
        {"code": status, "details": [{"@type": value, "reason": value}]},
        {"code": status, "details": [reason(value), detail("RetryInfo", retryDelay=value)]},
        {
            "code": status,
            "details": [detail("QuotaFailure", violations=value), detail("BadRequest", fieldViolations=value)],
        },
        {
            "code": status,
            "details": [quota(value, quotaValue=value), detail("BadRequest", fieldViolations=[{"field": value}])],
        },
    ]
    for error in errors:
        assert decode_error_object(status, error).status in (400, 429, 502, 503)
        assert decode_error(status, (), json.dumps({"error": error}).encode()).message
