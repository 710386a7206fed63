"""Every upstream outcome, row by row: whose fault it is, who may be asked next, and how long to wait."""

import json

import pytest
import recorded

from agproxy.backends.gemini.errors import decode_error
from agproxy.cooldowns import Cause, cause_of
from agproxy.errors import Retry
from agproxy.pool import Account, Pool

DAY = "GenerateRequestsPerDayPerProjectPerModel-FreeTier"
MINUTE = "GenerateContentInputTokensPerModelPerMinute-FreeTier"


def rpc(status, message="no", *, name="X", details=()):
    return status, {"error": {"code": status, "message": message, "status": name, "details": list(details)}}


def info(reason):
    return {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}


def quota(id, **more):
    return {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": id, **more}]}


@pytest.mark.parametrize(
    ("answer", "cause", "retry"),
    [
        (rpc(400, name="INVALID_ARGUMENT"), None, Retry.NEVER),
        (rpc(404, name="NOT_FOUND"), None, Retry.NEVER),
        (rpc(413), None, Retry.NEVER),
        (rpc(400, details=[info("API_KEY_INVALID")]), Cause.CREDENTIAL, Retry.NEXT_ACCOUNT),
        (rpc(400, details=[info("API_KEY_EXPIRED")]), Cause.CREDENTIAL, Retry.NEXT_ACCOUNT),
        (rpc(400, "billing", name="FAILED_PRECONDITION"), Cause.CREDENTIAL, Retry.NEXT_ACCOUNT),
        (rpc(401, details=[info("ACCESS_TOKEN_EXPIRED")]), Cause.CREDENTIAL, Retry.NEXT_ACCOUNT),
        (rpc(403, details=[info("IAM_PERMISSION_DENIED")]), Cause.CREDENTIAL, Retry.NEXT_ACCOUNT),
        (rpc(403, details=[info("VALIDATION_REQUIRED")]), Cause.CREDENTIAL, Retry.NEXT_ACCOUNT),
        (rpc(403, details=[info("BILLING_DISABLED")]), Cause.CREDENTIAL, Retry.NEXT_ACCOUNT),
        (rpc(429), Cause.LIMIT, Retry.NEXT_ACCOUNT),
        (rpc(429, details=[quota(MINUTE)]), Cause.LIMIT, Retry.NEXT_ACCOUNT),
        (rpc(429, details=[quota(DAY)]), Cause.DAY, Retry.NEXT_ACCOUNT),
        (rpc(429, details=[quota(MINUTE, quotaValue="0")]), Cause.DAY, Retry.NEXT_ACCOUNT),
        (rpc(429, details=[info("QUOTA_EXHAUSTED")]), Cause.DAY, Retry.NEXT_ACCOUNT),
        (rpc(429, details=[info("MODEL_CAPACITY_EXHAUSTED")]), Cause.CAPACITY, Retry.NEXT_ACCOUNT),
        (rpc(429, "Resource exhausted. Please try again later."), Cause.CAPACITY, Retry.NEXT_ACCOUNT),
        (rpc(503), Cause.CAPACITY, Retry.NEXT_ACCOUNT),
        (rpc(529), Cause.CAPACITY, Retry.NEXT_ACCOUNT),
        (rpc(500, "The model is overloaded."), Cause.CAPACITY, Retry.NEXT_ACCOUNT),
        (rpc(500), Cause.TROUBLE, Retry.NEXT_ACCOUNT),
        (rpc(502), Cause.TROUBLE, Retry.NEXT_ACCOUNT),
        (rpc(504), Cause.TROUBLE, Retry.NEXT_ACCOUNT),
    ],
)
def test_each_answer_says_whose_fault_it_is_and_who_may_be_asked_next(answer, cause, retry):
    status, body = answer
    error = decode_error(status, (), json.dumps(body).encode())

    assert (cause_of(error), error.retry) == (cause, retry)


def retry_info(delay):
    return {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}


@pytest.mark.parametrize(
    ("details", "headers", "seconds"),
    [
        ([retry_info("34.5s")], (), 34.5),
        ([retry_info("500ms")], (), 0.5),
        ([retry_info("1h2m3.5s")], (), 3723.5),
        ([{"@type": "x", "deeper": {"list": [retry_info("7s")]}}], (), 7.0),
        ([retry_info("7s")], (("retry-after", "99"),), 7.0),
        ([], (("retry-after", "99"),), 99.0),
        ([], (("date", "Tue, 24 Nov 2026 07:00:00 GMT"), ("retry-after", "Tue, 24 Nov 2026 07:01:30 GMT")), 90.0),
        ([], (("retry-after", "Tue, 24 Nov 2026 07:01:30 GMT"),), None),
        ([], (("retry-after", "soon"),), None),
        ([retry_info("soon")], (), None),
    ],
)
def test_the_time_to_wait_is_found_wherever_it_stands(details, headers, seconds):
    status, body = rpc(429, details=details)

    assert decode_error(status, headers, json.dumps(body).encode()).retry_after_seconds == seconds


def test_only_a_401_may_be_a_token_that_is_merely_old():
    stale = [decode_error(s, (), json.dumps(rpc(s)[1]).encode()).is_stale for s in (401, 403)]

    assert stale == [True, False]


RECORDED = {
    "ai-sdk/google/google-429-retry-info.json": (429, Cause.LIMIT, 34.4),
    "googleai/unary-failure-api-key.json": (400, Cause.CREDENTIAL, None),
    "googleai/unary-failure-generativelanguage-api-not-enabled.json": (403, Cause.CREDENTIAL, None),
}


@pytest.mark.parametrize("file", RECORDED)
def test_recorded_refusals_cool_down_whom_they_should(file):
    if not (recorded.FOLDER / file).is_file():
        pytest.skip(f"no recorded traffic at {recorded.FOLDER}: set AGPROXY_RECORDED")
    status, cause, seconds = RECORDED[file]
    error = decode_error(status, (), (recorded.FOLDER / file).read_bytes())
    pool = Pool([Account(id="a", key="k"), Account(id="b", key="k")])
    first = pool.pick("m", 0.0).account
    pool.end(pool.begin(first, "m", 0.0), 0.0, error)

    assert (cause_of(error), error.retry_after_seconds) == (cause, seconds)
    assert pool.pick("m", 1.0).account.id == "b"
    assert pool.pick("other", 1.0, frozenset({"b"})).account.id == ("b" if cause is Cause.CREDENTIAL else "a")
