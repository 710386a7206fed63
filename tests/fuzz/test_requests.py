"""Any request of a client: taken or refused by name, never changed, never a 5xx while upstream is well.

The good requests to spoil are those of tests/golden, and of the recorded traffic where it is.
"""

import json
from pathlib import Path

import pytest

pytest.importorskip("hypothesis")

import laws
from hunting import Pool, hunt, small, spoiled
from hypothesis import given
from hypothesis import strategies as some
from recorded import FOLDER, exchanges

GOLDEN = Path(__file__).parents[1] / "golden"
ENDS = {"openai_chat": "/chat/completions", "openai_completions": "/completions", "openai_responses": "/responses"}


def requests_of(name):
    """Bodies that the protocol's own API takes."""
    for file in sorted((GOLDEN / name).glob("*/1-client-request.json")):
        yield json.loads(file.read_bytes())
    for _, exchange in exchanges("openai") if FOLDER.is_dir() else ():
        path = exchange["path"].split("?")[0]
        if exchange["method"] == "POST" and path.endswith(ENDS[name]) and isinstance(exchange["request"], dict):
            yield exchange["request"]
    yield laws.REQUESTS[name]


POOLS = {name: Pool([small(body) for body in requests_of(name)]) for name in laws.PATHS}
bodies = some.sampled_from(sorted(POOLS)).flatmap(lambda name: some.tuples(some.just(name), spoiled(POOLS[name], 4)))


@hunt(200)
@given(bodies)
def test_any_body_is_decoded_or_refused_by_name_and_never_changed(drawn):
    laws.decodes(*drawn)


@hunt(80)
@given(bodies)
def test_any_body_is_answered_or_refused(drawn):
    laws.answers(*drawn)
