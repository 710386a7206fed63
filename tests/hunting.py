"""How tests/fuzz looks for trouble: the same few examples in every ordinary run, new ones for as long as one likes in a
hunt (`make fuzz`), and the ways to spoil a good value or good bytes that its tests share. Needs hypothesis.

AGPROXY_FUZZ_SECONDS  how long each test hunts; absent or 0: the ordinary run
AGPROXY_FUZZ_SEED     where a hunt begins; absent: somewhere else each time. A find names its seed
"""

import copy
import functools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

pytest.importorskip("hypothesis")

import hypothesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as some

SECONDS = float(os.environ.get("AGPROXY_FUZZ_SECONDS") or 0)
SEED = int(os.environ.get("AGPROXY_FUZZ_SEED") or time.time_ns() % 10**9)
_ROUND = 200  # examples of one seed

# What each test of a hunt has looked at, for the report at its end.
counts: dict[str, int] = {}


def hunt(examples: int = 40) -> Callable[[Any], Any]:
    """For a test made by `given`: so many examples in the ordinary run, rounds of new ones while a hunt lasts."""
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    common: dict[str, Any] = {"database": None, "deadline": None, "suppress_health_check": checks}

    def decorate(test: Any) -> Any:
        if not SECONDS:
            return settings(derandomize=True, max_examples=examples, **common)(test)
        name = f"{test.__module__.rpartition('.')[2]}::{test.__name__}"
        inner = test.hypothesis.inner_test

        @functools.wraps(inner)
        def counted(*args: Any, **kwargs: Any) -> None:
            counts[name] = counts.get(name, 0) + 1
            inner(*args, **kwargs)

        test.hypothesis.inner_test = counted
        phases = (Phase.explicit, Phase.generate, Phase.shrink)
        round_of = settings(max_examples=_ROUND, phases=phases, print_blob=True, **common)(test)

        @functools.wraps(test)
        def hunting(*args: Any, **kwargs: Any) -> None:
            end = time.monotonic() + SECONDS
            number = SEED
            while time.monotonic() < end:
                try:
                    hypothesis.seed(number)(round_of)(*args, **kwargs)
                except BaseException as error:
                    error.add_note(f"found with AGPROXY_FUZZ_SEED={number}")
                    raise
                number += 1

        return hunting

    return decorate


# --- JSON ------------------------------------------------------------------------------------------------------

numbers = (
    some.integers(-3, 3)
    | some.floats(allow_nan=False, allow_infinity=False)
    | some.sampled_from([10**400, -(10**30), 2**63, 1.0, 1e308, -0.0])
)
texts = some.text(max_size=6) | some.sampled_from(
    ["", " ", "\0", "\ud800", "é😀", "a\r\nb", "9" * 5000, "x" * 300, "data:image/png;base64,aGk=", "http://[", "null"]
)
scalars = some.none() | some.booleans() | numbers | texts
anything = some.recursive(
    scalars,
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values within a value, but for itself."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in inner:
        yield (*place, key)
        yield from places(child, (*place, key))


def _at(value: Any, place: Sequence[Any]) -> Any:
    for step in place:
        value = value[step]
    return value


class Pool:
    """Good values, and what can be taken from them to spoil one another: nodes, names, short words."""

    def __init__(self, values: Sequence[Any]) -> None:
        assert values
        self.values = list(values)
        nodes, words, names = {}, {}, {}
        for value in self.values:
            for place in places(value):
                node = _at(value, place)
                if isinstance(place[-1], str):
                    names[place[-1]] = None
                if isinstance(node, str) and len(node) < 40:
                    words[node] = None
                nodes.setdefault((place[-1] if isinstance(place[-1], str) else "[]", type(node)), node)
        self.nodes = list(nodes.values())
        self.words = list(words) or [""]
        self.names = list(names) or [""]


@some.composite
def spoiled(draw: Any, pool: Pool, most: int = 3, good: Any = None) -> Any:
    """A good value of the pool (or of `good`) with up to `most` nodes dropped, replaced, renamed, doubled, wrapped."""
    value = copy.deepcopy(draw(some.sampled_from(pool.values) if good is None else good))
    for _ in range(draw(some.integers(1, most))):
        found = list(places(value))
        if not found:
            return value
        place = found[draw(some.integers(0, len(found) - 1))]
        holder, key = _at(value, place[:-1]), place[-1]
        way = draw(some.integers(0, 9))
        if way <= 1:
            holder[key] = draw(anything)
        elif way == 2:
            del holder[key]
        elif way == 3:
            holder[key] = draw(some.sampled_from(pool.words))
        elif way == 4:
            holder[key] = copy.deepcopy(draw(some.sampled_from(pool.nodes)))
        elif way == 5:
            other = _at(value, found[draw(some.integers(0, len(found) - 1))])
            holder[key] = copy.deepcopy(other)
        elif way == 6:
            holder[key] = draw(some.sampled_from([[holder[key]], {"a": holder[key]}, None, [], {}, ""]))
        elif isinstance(holder, dict):
            name = draw(some.sampled_from(pool.names) | some.text(max_size=3))
            holder[name] = copy.deepcopy(draw(some.sampled_from(pool.nodes))) if way < 9 else holder.pop(key)
        else:
            holder.insert(draw(some.integers(0, len(holder))), copy.deepcopy(holder[key]))
    return value


def small(value: Any, most: int = 200) -> Any:
    """A recorded value with its long texts and lists cut, so that many copies of it are cheap."""
    if isinstance(value, dict):
        return {key: small(inner, most) for key, inner in value.items()}
    if isinstance(value, list):
        return [small(inner, most) for inner in value[:12]]
    if isinstance(value, str) and len(value) > most:
        return value[: most // 4 * 4]  # base64 stays base64
    return value


# --- bytes -----------------------------------------------------------------------------------------------------


@some.composite
def spoiled_bytes(draw: Any, good: Any, inserts: Sequence[bytes], most: int = 3) -> bytes:
    """Good bytes with up to `most` places changed; no change is one of the ways."""
    raw: bytes = draw(good)
    for _ in range(draw(some.integers(0, most))):
        place = draw(some.integers(0, len(raw)))
        piece = draw(some.sampled_from(inserts) | some.binary(max_size=2))
        raw = raw[:place] + piece + raw[place + draw(some.sampled_from([0, 0, 1, 1, 2, 5])) :]
    return raw


@some.composite
def splits_of(draw: Any, raw: bytes, most: int = 6) -> list[bytes]:
    """The bytes in pieces."""
    cuts = sorted(draw(some.lists(some.integers(0, len(raw)), max_size=most)))
    return [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True) if a < b]
