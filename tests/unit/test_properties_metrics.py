"""What workers have counted, added up, is what one process would have counted of the same requests."""

import pytest

pytest.importorskip("hypothesis")

from hypothesis import given
from hypothesis import strategies as some

from agproxy import jsontext
from agproxy.entries import Entry
from agproxy.metrics import Counters, merge, render


def served(**more):
    return Entry(id="r", at=1.0, method="POST", path="/", **more)


entries_made = some.builds(
    served,
    model=some.sampled_from(["", "gemini-1", "gemini-2"]),
    protocol=some.sampled_from(["openai_chat", "openai_responses"]),
    status=some.sampled_from([200, 429, 499]),
    account=some.sampled_from(["a", "b"]),
    attempts=some.integers(1, 3),
    prompt_tokens=some.integers(0, 2**70),
    total_seconds=some.sampled_from([0.0, 0.25, 8.0, 1024.0]),
    waited_seconds=some.sampled_from([0.0, 0.5]),
)


@given(some.lists(some.tuples(some.integers(0, 2), entries_made), max_size=20))
def test_the_sum_of_workers_is_what_one_process_would_have_counted(shared_out):
    alone, workers = Counters(), [Counters() for _ in range(3)]
    for place, one in shared_out:
        alone.observe(one)
        workers[place].observe(one)

    parts = [jsontext.loads(jsontext.dumps(worker.data())) for worker in workers]

    def shown(data):
        return [line for line in render(data).decode().splitlines() if not line.endswith(" 0")]

    assert shown(merge(parts)) == shown(alone.data())
