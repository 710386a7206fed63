"""Processes that many tests share: the simulated Gemini, and a gateway in front of it."""

import pytest
from running import start


@pytest.fixture(scope="session")
def simulator(tmp_path_factory):
    running = start("simulate", home=tmp_path_factory.mktemp("simulator"))
    yield running
    running.stop()


@pytest.fixture(scope="session")
def gateway(simulator, tmp_path_factory):
    """A gateway with one account, on the simulated Gemini, as in `make run`."""
    running = start(
        "serve",
        home=tmp_path_factory.mktemp("gateway"),
        GEMINI_API_KEY="test-key",
        AGPROXY_UPSTREAM_URL=simulator.url,
        AGPROXY_LOG_LEVEL="debug",
    )
    yield running
    running.stop()


def pytest_addoption(parser):
    parser.addoption("--update-golden", action="store_true", help="rewrite what golden cases expect; review the diff")
