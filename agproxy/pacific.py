"""Midnight in California, when Google's daily quotas start anew.

Pure arithmetic: the time-zone database is not on every machine, and the rule of the United States has stood since
2007: daylight time from the second Sunday of March to the first Sunday of November, each time at two in the morning.
"""

from datetime import UTC, datetime, timedelta

_STANDARD = timedelta(hours=-8)
_DAYLIGHT = timedelta(hours=-7)


def _sunday(year: int, month: int, number: int) -> datetime:
    """The n-th Sunday of a month, at midnight."""
    first = datetime(year, month, 1)
    return first + timedelta(days=(6 - first.weekday()) % 7 + 7 * (number - 1))


def offset(now: float) -> timedelta:
    """What is added to UTC there at a moment (Unix seconds)."""
    moment = datetime.fromtimestamp(now, UTC).replace(tzinfo=None)
    begins = _sunday(moment.year, 3, 2) + timedelta(hours=2) - _STANDARD
    ends = _sunday(moment.year, 11, 1) + timedelta(hours=2) - _DAYLIGHT
    return _DAYLIGHT if begins <= moment < ends else _STANDARD


def next_midnight(now: float) -> float:
    """The first moment (Unix seconds) after `now` at which a new day begins there."""
    local = datetime.fromtimestamp(now, UTC).replace(tzinfo=None) + offset(now)
    midnight = datetime(local.year, local.month, local.day) + timedelta(days=1)
    guess = (midnight - offset(now)).replace(tzinfo=UTC).timestamp()
    # The clocks change at two in the morning, so the offset at that midnight may differ from the one now.
    return (midnight - offset(guess)).replace(tzinfo=UTC).timestamp()
