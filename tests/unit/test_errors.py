"""Each deliberate error says whose fault it is, what the client sees and whether another attempt may help."""

import pytest

from agproxy import errors
from agproxy.errors import ConfigError, Fault, GatewayError, Retry

# class -> (fault, status, code, retry)
KNOWN = {
    errors.InvalidRequest: (Fault.CLIENT, 400, None, Retry.NEVER),
    errors.Unauthorized: (Fault.CLIENT, 401, "invalid_api_key", Retry.NEVER),
    errors.Forbidden: (Fault.CLIENT, 403, None, Retry.NEVER),
    errors.NotFound: (Fault.CLIENT, 404, None, Retry.NEVER),
    errors.HttpRefused: (Fault.CLIENT, 400, None, Retry.NEVER),
    errors.UpstreamRejected: (Fault.CLIENT, 400, None, Retry.NEVER),
    errors.UpstreamAuthFailed: (Fault.UPSTREAM, 502, "upstream_auth", Retry.NEXT_ACCOUNT),
    errors.UpstreamRateLimited: (Fault.UPSTREAM, 429, "rate_limit_exceeded", Retry.NEXT_ACCOUNT),
    errors.UpstreamOverloaded: (Fault.UPSTREAM, 503, None, Retry.NEXT_ACCOUNT),
    errors.UpstreamFailed: (Fault.UPSTREAM, 502, None, Retry.NEXT_ACCOUNT),
    errors.NoAccount: (Fault.GATEWAY, 503, "no_account", Retry.NEVER),
    errors.Overloaded: (Fault.GATEWAY, 503, "overloaded", Retry.NEVER),
    errors.StateUnavailable: (Fault.GATEWAY, 503, "state_unavailable", Retry.NEVER),
    errors.InternalError: (Fault.GATEWAY, 500, None, Retry.NEVER),
}


@pytest.mark.parametrize(("kind", "expected"), KNOWN.items(), ids=lambda v: getattr(v, "__name__", ""))
def test_each_error_says_what_it_means(kind, expected):
    error = kind("messages[0]: no")

    assert (error.fault, error.status, error.code, error.retry) == expected
    assert str(error) == error.message == "messages[0]: no"
    assert (error.param, error.retry_after_seconds, error.passes_soon, error.headers) == (None, None, None, ())


def test_each_error_stands_in_the_module_s_tree():
    leaves = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, GatewayError)}
    leaves.remove(GatewayError)

    assert set(KNOWN) <= leaves
    assert [kind.__name__ for kind in leaves if kind.__name__ not in errors.__doc__] == []


@pytest.mark.parametrize(
    "kind", [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, GatewayError)]
)
def test_each_error_s_status_agrees_with_its_fault(kind):
    error = kind("words")

    assert 400 <= error.status < 600
    assert error.fault is Fault.CLIENT if error.status in (400, 401, 403, 404) else error.status >= 429
    assert error.retry is Retry.NEVER or error.fault is Fault.UPSTREAM


def test_what_is_given_goes_before_what_the_class_says():
    error = errors.UpstreamFailed(
        "slow",
        status=504,
        code="timeout",
        type="server_error",
        param="messages",
        retry=Retry.NEVER,
        retry_after_seconds=2.5,
        passes_soon=False,
        headers=(("allow", "GET"),),
    )

    assert (error.status, error.code, error.type, error.param) == (504, "timeout", "server_error", "messages")
    assert (error.retry, error.retry_after_seconds, error.passes_soon) == (Retry.NEVER, 2.5, False)
    assert error.headers == (("allow", "GET"),)


def test_what_one_error_was_given_stays_with_it():
    errors.UpstreamFailed("slow", status=504, code="timeout", retry=Retry.NEVER)
    other = errors.UpstreamFailed("broken")

    assert (other.status, other.code, other.retry) == (502, None, Retry.NEXT_ACCOUNT)


def test_a_setting_s_error_never_reaches_a_client_as_one_of_these():
    assert not issubclass(ConfigError, GatewayError)
