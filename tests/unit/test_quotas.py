"""Limits of client keys on a clock that the test moves: what is let in, what is told, what processes share."""

import pytest

from agproxy.auth import Client
from agproxy.clients import Clients, check_model, fallbacks_of
from agproxy.entries import Entry
from agproxy.errors import ClientLimited, NotFound
from agproxy.keys import Key, Limits, Ring
from agproxy.quotas import DAY, MINUTE, Meter, headers, message, span

NOW = 1_795_000_020.0 // DAY * DAY + 12 * 3600  # noon


def key(**limits):
    return Key(name="guest", digest="0" * 64, limits=Limits(**limits))


def test_so_many_requests_a_minute_and_again_in_the_next():
    meter, guest = Meter(), key(requests_per_minute=3)

    assert [meter.begin(guest, NOW + second) is None for second in (0, 1, 59, 59.9)] == [True, True, True, False]
    assert meter.begin(guest, NOW + 60) is None


def test_who_is_refused_has_not_used_more():
    meter, guest = Meter(), key(requests_per_minute=1, requests_per_day=2)
    begun = [meter.begin(guest, NOW + second) is None for second in (0, 1, 2, 60, 61, 120)]

    assert begun == [True, False, False, True, False, False]
    (_, day) = meter.standings(guest, NOW + 120)
    assert (day.size, day.used, day.left) == (DAY, 2, 0)


def test_the_limit_that_lasts_longest_is_the_one_that_is_told():
    meter, guest = Meter(), key(requests_per_minute=1, requests_per_day=1)
    meter.begin(guest, NOW)
    over = meter.begin(guest, NOW + 1)

    assert over.size == DAY
    assert message(guest, over) == (
        "Rate limit reached for key guest on requests per day (RPD): Limit 1, Used 1, Requested 1. "
        "Please try again in 11h59m59s."
    )


def test_tokens_count_when_the_answer_has_ended_and_the_next_request_is_refused():
    meter, guest = Meter(), key(tokens_per_minute=100)
    assert meter.begin(guest, NOW) is None
    assert meter.begin(guest, NOW) is None  # both are under way
    meter.add_tokens(guest, 99, NOW + 1)
    assert meter.begin(guest, NOW + 2) is None
    meter.add_tokens(guest, 71, NOW + 3)
    over = meter.begin(guest, NOW + 14.5)

    assert message(guest, over) == (
        "Rate limit reached for key guest on tokens per min (TPM): Limit 100, Used 170, Requested 1. "
        "Please try again in 45.5s."
    )
    assert headers(meter.standings(guest, NOW + 14.5)) == (
        ("x-ratelimit-limit-tokens", "100"),
        ("x-ratelimit-remaining-tokens", "0"),
        ("x-ratelimit-reset-tokens", "45.5s"),
    )


def test_of_two_limits_the_headers_tell_the_one_with_less_left():
    meter, guest = Meter(), key(requests_per_minute=10, requests_per_day=3)
    meter.begin(guest, NOW)

    assert headers(meter.standings(guest, NOW))[:2] == (
        ("x-ratelimit-limit-requests", "3"),
        ("x-ratelimit-remaining-requests", "2"),
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0ms"),
        (0.1195, "120ms"),
        (1, "1s"),
        (8.634, "8.64s"),
        (59.999, "60s"),
        (60, "1m0s"),
        (360, "6m0s"),
        (3599.2, "1h0m0s"),
        (3723, "1h2m3s"),
    ],
)
def test_times_are_written_as_openai_writes_them(seconds, text):
    assert span(seconds) == text


def test_what_others_have_used_counts_here_once_it_is_known():
    meter, guest = Meter(), key(requests_per_minute=5)
    meter.begin(guest, NOW)
    window = ("guest", MINUTE, int(NOW // MINUTE))
    assert meter.take() == {window: (1, 0)}
    meter.begin(guest, NOW + 1)  # while it is stored
    meter.settle({window: (4, 0)})  # 3 by others

    assert meter.begin(guest, NOW + 2) is not None
    assert meter.take() == {window: (1, 0)}


def test_what_could_not_be_stored_still_counts():
    meter, guest = Meter(), key(requests_per_minute=2)
    meter.begin(guest, NOW)
    meter.take()
    meter.begin(guest, NOW)
    meter.give_back(NOW)

    assert meter.begin(guest, NOW) is not None
    assert meter.take() == {("guest", MINUTE, int(NOW // MINUTE)): (2, 0)}
    meter.give_back(NOW + 60)
    assert meter.take() == {}  # it is over


# --- clients


def entry(**more):
    values = {"id": "r", "at": NOW, "method": "POST", "path": "/", "status": 200, "client": "guest", "model": "m"}
    return Entry(**(values | more))


def test_a_refusal_says_what_openai_says():
    guest = key(requests_per_minute=1)
    clients = Clients(Ring([guest]))
    clients.begin(Client("guest", guest), NOW)
    with pytest.raises(ClientLimited) as caught:
        clients.begin(Client("guest", guest), NOW + 20)

    error = caught.value
    assert (error.status, error.code, error.type) == (429, "rate_limit_exceeded", "requests")
    assert error.retry_after_seconds == 40


def test_a_client_without_a_key_of_its_own_is_not_counted():
    clients = Clients(Ring([key(requests_per_minute=1)]))
    for _ in range(5):
        clients.begin(Client("phone"), NOW)
        clients.observe(entry(client="phone", prompt_tokens=5))

    assert clients.meter.take() == {}
    assert clients.take_uses() == {}
    assert clients.headers(Client("phone"), NOW) == ()


def test_use_is_counted_by_key_day_and_model():
    clients = Clients(Ring([key(tokens_per_day=100)]))
    clients.observe(entry(prompt_tokens=5, output_tokens=7, cached_tokens=3, reasoning_tokens=2))
    clients.observe(entry(prompt_tokens=1, status=499))
    clients.observe(entry(model="", status=429))  # refused before any model
    clients.observe(entry(at=NOW + DAY))
    today = int(NOW // DAY)
    taken = clients.take_uses()

    assert taken == {("guest", today, "m"): [2, 6, 7, 3, 2], ("guest", today + 1, "m"): [1, 0, 0, 0, 0]}
    assert clients.meter.take() == {("guest", DAY, today): (0, 13)}
    clients.observe(entry())
    clients.give_back_uses(taken)
    assert clients.take_uses()["guest", today, "m"] == [3, 6, 7, 3, 2]


def test_models_that_clients_make_up_do_not_fill_the_memory():
    clients = Clients(Ring([key()]))
    for number in range(10_100):
        clients.observe(entry(model=f"m{number}"))
    taken = clients.take_uses()

    assert len(taken) == 10_001
    assert taken["guest", int(NOW // DAY), "other"][0] == 100


def test_a_model_that_a_key_may_not_use_is_as_good_as_none():
    flash = Key(name="guest", digest="0" * 64, models=("gemini-2.5-flash",))
    check_model(None, "x", "y")
    check_model(flash, "gpt-4o", "gemini-2.5-flash")
    with pytest.raises(NotFound, match="does not exist or you do not have access") as caught:
        check_model(flash, "gpt-5", "gemini-3.1-pro-preview")

    assert caught.value.code == "model_not_found"
    assert fallbacks_of(flash, "mine", ("gemini-2.5-pro", "gemini-2.5-flash")) == ("gemini-2.5-flash",)
    assert fallbacks_of(None, "mine", ("a", "b")) == ("a", "b")
