"""However requests come and however processes share their counts, no window holds more requests than its limit, and
none is refused that would have fitted."""

import pytest

pytest.importorskip("hypothesis")

from collections import Counter

from hypothesis import given
from hypothesis import strategies as some

from agproxy.keys import Key, Limits
from agproxy.quotas import DAY, MINUTE, Meter

START = 1_795_000_000.0 // DAY * DAY
steps = some.lists(some.tuples(some.floats(0, 90_000), some.integers(0, 3)), max_size=40)


@given(steps, some.integers(0, 4), some.integers(0, 6))
def test_requests_are_let_in_as_long_as_they_fit(steps, per_minute, per_day):
    guest = Key(name="g", digest="0" * 64, limits=Limits(requests_per_minute=per_minute, requests_per_day=per_day))
    meters, stored = [Meter(), Meter()], Counter()
    minutes, days = Counter(), Counter()
    for after, place in sorted(steps):
        now = START + after
        meter = meters[place % 2]
        for other in meters:  # each learns of the other before the next request
            for window, (requests, _) in other.take().items():
                stored[window] += requests
            other.settle({})
        for other in meters:
            other.take()
            other.settle({window: (count, 0) for window, count in stored.items()})
        minute, day = int(now // MINUTE), int(now // DAY)
        fits = (not per_minute or minutes[minute] < per_minute) and (not per_day or days[day] < per_day)
        over = meter.begin(guest, now)
        assert (over is None) == fits
        if over is None:
            minutes[minute] += 1
            days[day] += 1
        else:
            assert 0 < over.seconds <= over.size
            assert over.used >= over.limit
