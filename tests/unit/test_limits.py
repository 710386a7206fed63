"""Limits across restarts and between processes: merged, never lost, and no key among them."""

import asyncio
import json

import pytest

from agproxy.cooldowns import Cause, CoolDown, merge
from agproxy.errors import UpstreamRateLimited
from agproxy.io.keeper import LimitsKeeper
from agproxy.io.limits import LimitsFile, keep
from agproxy.pool import Account, Pool, key_id

NOW = 1_800_000_000.0
FLASH, PRO = "gemini-2.5-flash", "gemini-2.5-pro"


def cool_down(seconds=300.0, steps=1):
    return CoolDown(until=NOW + seconds, cause=Cause.LIMIT, steps=steps, message="slow down")


A, B = ("a", FLASH), ("b", FLASH)
LONG, SHORT = cool_down(300), cool_down(60)


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "after"),
    [
        ({}, {A: LONG}, {B: SHORT}, {A: LONG, B: SHORT}),
        ({A: LONG}, {A: LONG}, {}, {}),  # they forgot it
        ({A: LONG}, {}, {A: LONG}, {}),  # we forgot it
        ({A: SHORT}, {A: LONG}, {A: SHORT}, {A: LONG}),
        ({A: SHORT}, {}, {A: LONG}, {A: LONG}),  # we forgot it, they met it anew
        ({A: SHORT}, {A: LONG}, {}, {A: LONG}),
        ({}, {A: SHORT}, {A: LONG}, {A: LONG}),
        ({}, {}, {}, {}),
    ],
)
def test_the_changes_of_two_processes_are_both_kept(base, ours, theirs, after):
    assert merge(base, ours, theirs) == after


def test_two_processes_on_one_folder_do_not_lose_each_others_limits(tmp_path):
    one, two = LimitsFile(tmp_path), LimitsFile(tmp_path)
    assert one.load(NOW) == two.load(NOW) == {}

    one.sync({A: LONG}, NOW)
    assert two.sync({B: SHORT}, NOW) == {A: LONG, B: SHORT}
    assert one.sync({A: LONG}, NOW) == {A: LONG, B: SHORT}
    assert one.sync({B: SHORT}, NOW) == {B: SHORT}, "a success forgets the limit for both"
    assert two.sync({A: LONG, B: SHORT}, NOW) == {B: SHORT}
    assert LimitsFile(tmp_path).load(NOW) == {B: SHORT}


def test_what_is_over_and_what_ends_at_once_is_not_kept(tmp_path):
    file = LimitsFile(tmp_path)
    after = file.sync({A: cool_down(3), B: cool_down(30)}, NOW)

    assert set(after) == {A, B}
    assert set(LimitsFile(tmp_path).load(NOW)) == {B}
    assert LimitsFile(tmp_path).load(NOW + 31) == {}


VALUES = '"quota": "a", "model": "b", "cause": "LIMIT", "message": "", "until": %s, "steps": %s'
ROW = '{"version": 1, "limits": [{' + VALUES + "}]}"


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", '{"version": 2, "limits": []}', '{"version": 1, "limits": {}}'),
        ROW % ("9" * 400, 1),
        ROW % (NOW + 9, "-" + "9" * 400),
    ],
    ids=["empty", "cut", "list", "newer", "object", "beyond all numbers", "below all steps"],
)
def test_a_file_that_cannot_be_used_is_as_good_as_none(tmp_path, text):
    file = LimitsFile(tmp_path)
    file.file.write_text(text)

    assert file.load(NOW) == {}
    file.sync({A: LONG}, NOW)
    assert LimitsFile(tmp_path).load(NOW) == {A: LONG}


def test_a_folder_that_cannot_be_written_is_told_and_the_limits_hold_on(tmp_path):
    (tmp_path / "home").write_text("a file")
    told = []

    assert keep(LimitsFile(tmp_path / "home"), {A: LONG}, NOW, told.append) == {A: LONG}
    assert "not kept across a restart" in told[0]


def limited(pool, account, model, seconds):
    error = UpstreamRateLimited("slow down", retry_after_seconds=seconds)
    pool.end(pool.begin(account, model, NOW), NOW, error)


def test_a_restart_keeps_the_limits_of_accounts_from_the_environment_and_writes_no_key(tmp_path):
    account = Account(id=key_id("AIzaSecretSecretSecret"), key="AIzaSecretSecretSecret")

    async def first():
        pool = Pool([account])
        async with LimitsKeeper(LimitsFile(tmp_path), pool, lambda: NOW, lambda: None).keeping():
            limited(pool, account, FLASH, 300)

    async def second():
        pool = Pool([account])
        async with LimitsKeeper(LimitsFile(tmp_path), pool, lambda: NOW + 1, lambda: None).keeping():
            return pool.pick(FLASH, NOW + 1).ready_at, pool.pick(PRO, NOW + 1).account

    asyncio.run(first())
    assert asyncio.run(second()) == (NOW + 300, account)
    text = (tmp_path / "limits.json").read_text()
    assert "Secret" not in text
    assert json.loads(text)["limits"][0]["quota"] == account.id


def test_a_running_pool_takes_over_what_others_reset_and_wakes_who_waits(tmp_path):
    account = Account(id="a", key="k")
    woken = []

    async def main():
        pool = Pool([account])
        keeper = LimitsKeeper(LimitsFile(tmp_path), pool, lambda: NOW, lambda: woken.append(True))
        async with keeper.keeping():
            limited(pool, account, FLASH, 300)
            await keeper.look()
            await keeper.look()
            assert woken == []
            LimitsFile(tmp_path).update(lambda found: {}, NOW)
            await keeper.look()
            return pool.pick(FLASH, NOW).account

    assert asyncio.run(main()) == account
    assert woken == [True]


def test_what_is_learnt_while_the_file_is_written_is_not_lost(tmp_path):
    account = Account(id="a", key="k")
    pool = Pool([account])

    class Slow(LimitsFile):
        def sync(self, ours, now):
            limited(pool, account, PRO, 200)
            return super().sync(ours, now)

    async def main():
        keeper = LimitsKeeper(Slow(tmp_path), pool, lambda: NOW, lambda: None)
        limited(pool, account, FLASH, 300)
        await keeper.look()

    asyncio.run(main())
    assert {model for _, model in pool.cool_downs(NOW)} == {FLASH, PRO}
