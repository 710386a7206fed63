"""Midnight in California against the time-zone database."""

import random
from datetime import UTC, datetime, timedelta

import pytest

from agproxy.pacific import next_midnight, offset

zoneinfo = pytest.importorskip("zoneinfo")


@pytest.fixture(scope="module")
def zone():
    try:
        return zoneinfo.ZoneInfo("America/Los_Angeles")
    except zoneinfo.ZoneInfoNotFoundError:
        pytest.skip("no time-zone database here")


def test_midnight_is_that_of_the_time_zone_database(zone):
    chance = random.Random(1)
    for _ in range(3000):
        now = chance.uniform(1_300_000_000, 2_500_000_000)
        local = datetime.fromtimestamp(now, zone)
        expected = (datetime(local.year, local.month, local.day) + timedelta(days=1)).replace(tzinfo=zone)
        assert next_midnight(now) == expected.timestamp(), local
        assert offset(now) == local.utcoffset()


def test_the_days_on_which_the_clocks_change_have_23_and_25_hours():
    spring = datetime(2026, 3, 8, 8, 0, 1, tzinfo=UTC).timestamp()
    assert next_midnight(spring) - spring == pytest.approx(23 * 3600 - 1)
    autumn = datetime(2026, 11, 1, 7, 0, 1, tzinfo=UTC).timestamp()
    assert next_midnight(autumn) - autumn == pytest.approx(25 * 3600 - 1)
