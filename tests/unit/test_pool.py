"""Who serves next, and what each outcome teaches: decisions on a clock that the test moves."""

import random
from collections import Counter

import pytest

from agproxy.errors import (
    InvalidRequest,
    Retry,
    UpstreamAuthFailed,
    UpstreamFailed,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamRejected,
)
from agproxy.pacific import next_midnight
from agproxy.pool import STEP_CAP_SECONDS, Account, Cause, Pool, cause_of, error_of, from_environment, key_id
from agproxy.sessions import Sessions

FLASH, PRO = "gemini-2.5-flash", "gemini-2.5-pro"
NOW = 1_800_000_000.0


def account(name, **more):
    return Account(id=name, key=f"secret-{name}", **more)


def pool(*names, **more):
    return Pool(account(name, **more) for name in names)


def attempt(scheduler, model, now, error=None, **choice):
    """One attempt from pick to end; the id of who served, None where nobody could."""
    picked = scheduler.pick(model, now, **choice).account
    if picked is None:
        return None
    scheduler.end(scheduler.begin(picked, model, now), now, error)
    return picked.id


def limited(seconds=None, is_daily=False):
    error = UpstreamRateLimited("slow down", retry_after_seconds=seconds)
    error.is_daily = is_daily
    return error


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (limited(), Cause.LIMIT),
        (limited(is_daily=True), Cause.DAY),
        (UpstreamOverloaded("x"), Cause.CAPACITY),
        (UpstreamAuthFailed("x"), Cause.CREDENTIAL),
        (UpstreamFailed("x"), Cause.TROUBLE),
        (UpstreamFailed("x", retry=Retry.SAME_ACCOUNT), None),
        (UpstreamFailed("x", retry=Retry.NEVER), None),
        (UpstreamRejected("x"), None),
        (InvalidRequest("x"), None),
    ],
)
def test_each_error_has_its_cause(error, cause):
    assert cause_of(error) is cause


def test_accounts_take_turns():
    scheduler = pool("a", "b", "c")

    assert [attempt(scheduler, FLASH, NOW + i) for i in range(6)] == ["a", "b", "c", "a", "b", "c"]


def test_weights_share_the_work_within_five_percent():
    scheduler = Pool([account("a", weight=1.0), account("b", weight=2.0), account("c", weight=5.0)])

    counts = Counter(attempt(scheduler, FLASH, NOW + i) for i in range(8000))
    for name, share in (("a", 1000), ("b", 2000), ("c", 5000)):
        assert abs(counts[name] - share) <= share * 0.05


def test_a_higher_priority_goes_first_while_it_can():
    scheduler = Pool([account("spare"), account("main", priority=1)])

    assert attempt(scheduler, FLASH, NOW, limited(30)) == "main"
    assert attempt(scheduler, FLASH, NOW + 1) == "spare"
    assert attempt(scheduler, FLASH, NOW + 31) == "main"


def test_a_limit_lasts_as_long_as_upstream_said_and_for_its_model_only():
    scheduler = pool("a")
    attempt(scheduler, FLASH, NOW, limited(34))

    pick = scheduler.pick(FLASH, NOW + 33)
    assert pick.account is None
    assert pick.ready_at == NOW + 34
    assert pick.skips == (("a", "over its limit for 1 s"),)
    assert attempt(scheduler, PRO, NOW + 1) == "a"
    assert attempt(scheduler, FLASH, NOW + 34) == "a"


def test_accounts_of_one_project_share_its_limits():
    scheduler = Pool([account("a", project="p"), account("b", project="p"), account("c", project="q")])
    assert attempt(scheduler, FLASH, NOW, limited(30)) == "a"

    assert {attempt(scheduler, FLASH, NOW + i) for i in range(1, 6)} == {"c"}
    assert attempt(scheduler, PRO, NOW + 6) == "b"


def test_without_a_time_the_steps_grow_up_to_ten_minutes_and_success_resets_them():
    scheduler, now, waits = pool("a"), NOW, []
    for _ in range(10):
        attempt(scheduler, FLASH, now, limited())
        until = scheduler.pick(FLASH, now).ready_at
        waits.append(until - now)
        now = until
    assert waits == [5, 10, 20, 40, 80, 160, 320, 600, 600, 600]

    attempt(scheduler, FLASH, now)
    attempt(scheduler, FLASH, now, limited())
    assert scheduler.pick(FLASH, now).ready_at == now + 5


def test_a_spent_day_lasts_until_midnight_in_california_whatever_retry_info_says():
    scheduler = pool("a")
    attempt(scheduler, FLASH, NOW, limited(12, is_daily=True))

    assert scheduler.pick(FLASH, NOW).ready_at == next_midnight(NOW)
    assert next_midnight(NOW) - NOW > STEP_CAP_SECONDS


def test_a_time_from_upstream_beyond_the_cap_is_capped():
    scheduler = pool("a")
    attempt(scheduler, FLASH, NOW, limited(86400))

    assert scheduler.pick(FLASH, NOW).ready_at == NOW + STEP_CAP_SECONDS


def test_a_refused_credential_rests_for_all_models():
    scheduler = pool("a", "b")
    attempt(scheduler, FLASH, NOW, UpstreamAuthFailed("refused"))

    assert {attempt(scheduler, model, NOW + 1) for model in (FLASH, PRO, "other")} == {"b"}
    assert scheduler.pick(PRO, NOW + 61, frozenset({"b"})).account.id == "a"


def test_a_mistake_of_the_request_hurts_no_account():
    scheduler = pool("a")
    attempt(scheduler, FLASH, NOW, UpstreamRejected("no"))

    assert attempt(scheduler, FLASH, NOW) == "a"


def test_after_a_503_another_project_is_preferred():
    scheduler = Pool([account("a", project="p"), account("b", project="p"), account("c", project="q")])
    assert attempt(scheduler, FLASH, NOW, UpstreamOverloaded("busy")) == "a"

    later = NOW + 2  # the cool-down of one second is over
    assert attempt(scheduler, FLASH, later, avoid=frozenset({"project:p"})) == "c"
    assert attempt(scheduler, FLASH, later) == "b"


def test_one_probe_goes_ahead_after_a_cool_down_while_others_can_serve():
    scheduler = pool("a", "b")
    attempt(scheduler, FLASH, NOW, limited(10))  # a
    for second in range(1, 9):
        attempt(scheduler, FLASH, NOW + second)  # b
    probe = scheduler.pick(FLASH, NOW + 11).account
    assert probe.id == "a"
    ticket = scheduler.begin(probe, FLASH, NOW + 11)

    assert scheduler.pick(FLASH, NOW + 11).account.id == "b"
    scheduler.end(ticket, NOW + 12, None)
    assert scheduler.pick(FLASH, NOW + 12).account.id == "a"


def test_tried_accounts_come_last_and_are_not_lost():
    scheduler = pool("a", "b")

    assert scheduler.pick(FLASH, NOW, frozenset({"a"})).account.id == "b"
    assert scheduler.pick(FLASH, NOW, frozenset({"a", "b"})).account is not None


def test_a_cancelled_attempt_leaves_nothing_behind():
    scheduler = pool("a")
    attempt(scheduler, FLASH, NOW, limited(10))
    probe = scheduler.pick(FLASH, NOW + 11).account
    scheduler.release(scheduler.begin(probe, FLASH, NOW + 11))

    assert attempt(scheduler, FLASH, NOW + 12) == "a"


def test_limits_survive_a_restart_without_any_key_on_disk():
    first = pool("a", "b")
    attempt(first, FLASH, NOW, limited(300))
    attempt(first, FLASH, NOW, limited(is_daily=True))
    saved = first.snapshot(NOW)
    assert "secret" not in str(saved)

    second = pool("a", "b")
    second.restore([*saved, {"quota": "a"}, None, {**saved[0], "until": float("inf")}], NOW + 100)
    assert second.pick(FLASH, NOW + 100).ready_at == NOW + 300
    assert attempt(second, FLASH, NOW + 301) == "a"


def test_reset_forgets_the_limits_of_one_account_or_of_all():
    scheduler = pool("a", "b")
    for _ in range(2):
        attempt(scheduler, FLASH, NOW, limited(300))
    scheduler.reset("a")
    assert attempt(scheduler, FLASH, NOW) == "a"
    attempt(scheduler, FLASH, NOW, limited(300))
    scheduler.reset()
    assert {attempt(scheduler, FLASH, NOW) for _ in range(4)} == {"a", "b"}


def test_accounts_can_be_swapped_while_their_attempts_run():
    scheduler = pool("a", "b")
    running = scheduler.pick(FLASH, NOW).account
    ticket = scheduler.begin(running, FLASH, NOW)
    attempt(scheduler, FLASH, NOW, limited(300))  # b
    scheduler.accounts = (account("b"), account("c"))
    scheduler.end(ticket, NOW, limited(10))

    assert attempt(scheduler, FLASH, NOW) == "c"
    assert scheduler.pick(FLASH, NOW, frozenset({"c"})).skips[0][0] == "b"


def test_an_exhausted_pool_tells_the_limit_that_ends_first():
    scheduler = pool("a", "b")
    attempt(scheduler, FLASH, NOW, limited(300))
    attempt(scheduler, FLASH, NOW, limited(20))
    pick = scheduler.pick(FLASH, NOW)
    error = error_of(pick.cool_down, pick.ready_at - NOW)

    assert (error.status, error.retry_after_seconds, error.message) == (429, 20, "slow down")


def test_no_account_at_all_is_told_apart_from_none_ready():
    assert pool().pick(FLASH, NOW) == pool().pick(PRO, NOW)
    assert pool().pick(FLASH, NOW).ready_at is None


def test_keys_from_the_environment_have_stable_names_and_count_once():
    accounts = from_environment({"GEMINI_API_KEY": " k1, k2 ,k1,", "GOOGLE_API_KEY": "k3"})

    assert [a.key for a in accounts] == ["k1", "k2"]
    assert accounts[0].id == key_id("k1")
    assert "k1" not in repr(accounts[0])
    assert [a.key for a in from_environment({"GEMINI_API_KEY": ",", "GOOGLE_API_KEY": "k3"})] == ["k3"]
    assert from_environment({}) == ()


@pytest.mark.parametrize("seed", range(5))
def test_no_request_fails_while_an_account_could_serve_and_none_is_tried_while_it_is_known_to_be_limited(seed):
    """10 accounts x 3 models with random limits that an upstream of the test keeps."""
    chance = random.Random(seed)
    names = [f"a{i}" for i in range(10)]
    scheduler = pool(*names)
    truth: dict[tuple[str, str], float] = {}
    now = NOW
    for _ in range(3000):
        now += chance.expovariate(4.0)
        model = chance.choice([FLASH, PRO, "m3"])
        tried: set[str] = set()
        told = dict.fromkeys(())
        for _ in range(10):
            picked = scheduler.pick(model, now, frozenset(tried)).account
            if picked is None:
                break
            assert (picked.id, model) not in told
            ticket = scheduler.begin(picked, model, now)
            until = truth.get((picked.id, model), 0.0)
            if until <= now and chance.random() < 0.2:
                until = truth[(picked.id, model)] = now + chance.uniform(1, 120)
            error = limited(until - now) if until > now else None
            scheduler.end(ticket, now, error)
            if error is None:
                break
            tried.add(picked.id)
            told[(picked.id, model)] = until
        else:
            picked = None
        if picked is None:
            assert all(truth.get((name, model), 0.0) > now for name in names)


@pytest.mark.parametrize(
    "error", [UpstreamFailed("cut"), UpstreamOverloaded("busy"), UpstreamOverloaded("x", retry_after_seconds=30)]
)
def test_the_accident_of_one_request_does_not_keep_others_from_the_only_account(error):
    scheduler = pool("a")
    attempt(scheduler, FLASH, NOW, error)

    assert scheduler.pick(FLASH, NOW, frozenset({"a"})).account is None  # who met it waits
    assert attempt(scheduler, FLASH, NOW) == "a"
    assert scheduler.pick(FLASH, NOW, frozenset({"a"})).account.id == "a"  # and its success ends the wait


def test_where_somebody_else_can_serve_a_shaky_account_is_passed_by():
    scheduler = pool("a", "b")
    attempt(scheduler, FLASH, NOW, UpstreamFailed("cut"))

    assert [attempt(scheduler, FLASH, NOW + 0.1) for _ in range(3)] == ["b", "b", "b"]
    assert attempt(scheduler, FLASH, NOW + 0.1, limited(30)) == "b"
    assert attempt(scheduler, FLASH, NOW + 0.2) == "a"


# --- attempts that overlap -------------------------------------------------------------------------------------


def test_a_success_that_began_before_the_limit_does_not_forget_it():
    scheduler = pool("a")
    slow = scheduler.begin(scheduler.pick(FLASH, NOW).account, FLASH, NOW)
    attempt(scheduler, FLASH, NOW + 1, limited(60))
    scheduler.end(slow, NOW + 10, None)

    assert scheduler.pick(FLASH, NOW + 11).ready_at == NOW + 61


def test_a_probe_stays_one_while_an_older_attempt_ends():
    scheduler = pool("a", "b")
    slow = scheduler.begin(account("a"), FLASH, NOW)
    attempt(scheduler, FLASH, NOW, limited(300))  # b
    scheduler.end(scheduler.begin(account("a"), FLASH, NOW), NOW, limited(10))
    scheduler.begin(account("a"), FLASH, NOW + 11)
    scheduler.release(slow)

    scheduler.reset("b")
    assert [scheduler.pick(FLASH, NOW + 11).account.id for _ in range(2)] == ["b", "b"]


def test_an_account_that_went_and_came_back_counts_its_requests_from_zero():
    scheduler = Pool([account("a", most_in_flight=1)])
    ticket = scheduler.begin(account("a"), FLASH, NOW)
    scheduler.accounts = ()
    scheduler.accounts = (account("a", most_in_flight=1),)
    scheduler.end(ticket, NOW, None)

    again = scheduler.begin(scheduler.pick(FLASH, NOW).account, FLASH, NOW)
    assert scheduler.pick(FLASH, NOW).account is None
    scheduler.end(again, NOW, None)
    assert scheduler.pick(FLASH, NOW).account.id == "a"


def test_a_session_s_account_is_waited_for_only_while_it_is_worth_it():
    scheduler = pool("a", "b")
    first = scheduler.begin(account("a"), FLASH, NOW, "s")
    scheduler.end(first, NOW, limited(8))
    choice = {"mode": "cache-first", "session": "s"}

    held = scheduler.pick(FLASH, NOW + 1, patience=10.0, **choice)
    assert (held.account, held.is_held, held.ready_at) == (None, True, NOW + 8)
    assert scheduler.pick(FLASH, NOW + 1, patience=5.0, **choice).account.id == "b"
    assert scheduler.pick(FLASH, NOW + 1, frozenset({"a"}), patience=10.0, **choice).account.id == "b"
    assert scheduler.pick(FLASH, NOW + 9, patience=10.0, **choice).account.id == "a"


def test_sessions_are_bounded_and_forgotten_after_a_rest():
    sessions = Sessions(most=2, ttl_seconds=100.0)
    for number in range(3):
        sessions.bind(f"s{number}", "a", NOW + number)

    assert [sessions.find(f"s{number}", NOW + 3) for number in range(3)] == [None, "a", "a"]
    assert sessions.find("s2", NOW + 103) is None
    sessions.bind("s9", "b", NOW + 500)
    assert len(sessions) == 1


def test_an_account_that_was_slow_is_tried_anew_after_two_minutes():
    scheduler = pool("slow", "quick")
    for name, seconds in (("slow", 9.0), ("quick", 1.0)):
        ticket = scheduler.begin(account(name), FLASH, NOW)
        scheduler.answered(ticket, NOW + seconds)
        scheduler.end(ticket, NOW + seconds, None)

    assert scheduler.pick(FLASH, NOW + 20, mode="performance").account.id == "quick"
    ticket = scheduler.begin(account("quick"), FLASH, NOW + 125)
    scheduler.answered(ticket, NOW + 126)
    scheduler.end(ticket, NOW + 126, None)
    assert scheduler.pick(FLASH, NOW + 130, mode="performance").account.id == "slow"


def test_only_what_lasts_is_news_for_the_disk():
    scheduler = pool("a")
    attempt(scheduler, FLASH, NOW, UpstreamFailed("cut"))
    assert scheduler.version == 0
    attempt(scheduler, FLASH, NOW + 1, limited(60))
    assert scheduler.version == 1
    attempt(scheduler, FLASH, NOW + 61)
    assert scheduler.version == 2


def test_a_limit_that_ends_is_told_rather_than_a_refused_credential():
    scheduler = pool("a", "b")
    attempt(scheduler, FLASH, NOW, UpstreamAuthFailed("refused"))
    attempt(scheduler, FLASH, NOW, limited(300))

    assert scheduler.pick(FLASH, NOW).cool_down.cause is Cause.LIMIT
    assert scheduler.pick(FLASH, NOW).ready_at == NOW + 300
