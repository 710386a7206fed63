"""For tests of clients that others wrote."""

import gc
import warnings

import pytest
from running import start


@pytest.fixture(scope="module", autouse=True)
def what_clients_leave_open():
    """Sockets that a client leaves open are closed with its module, and are no fault of ours."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


@pytest.fixture
def serve(simulator, tmp_path):
    """Gateways of a test's own: what spends an account's quota must not fall on the others."""
    started = []

    def make(**environ):
        environ = {"AGPROXY_UPSTREAM_URL": simulator.url, "GEMINI_API_KEY": "good"} | environ
        started.append(start("serve", home=tmp_path, **environ))
        return started[-1]

    yield make
    for running in started:
        running.stop()
