"""The openai SDK asks 500 times while accounts are limited, disabled, edited and revoked: no failure that could have
been avoided, and none without its reason."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

openai = pytest.importorskip("openai")

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from running import start  # noqa: E402
from token_endpoint import INVALID_GRANT, serving, token  # noqa: E402

MODELS = ("gemini-2.5-flash", "gemini-2.5-pro", "gemini-2.5-flash-lite")
GOOD = {"kind": "gemini_api_key", "label": "steady", "secret": {"api_key": "good-steady"}}


def key(name, **more):
    return {"kind": "gemini_api_key", "label": name, "secret": {"api_key": name}, **more}


def write(home, rows):
    """As an editor that replaces the file whole."""
    fresh = home / "fresh.tmp"
    fresh.write_text(json.dumps({"version": 1, "accounts": rows}))
    fresh.chmod(0o600)
    os.replace(fresh, home / "accounts.json")


def edits(endpoint):
    """What the file says in turn: the steady account is always among them, and mostly the last to be asked."""
    user = {"client_id": "i", "client_secret": "s", "refresh_token": "r", "token_uri": endpoint.url}
    oauth = {"id": "oauth-1", "kind": "oauth_user", "label": "user", "secret": user, "priority": 2}
    rows = [
        [key("limited-1"), key("good-1"), GOOD],
        [key("limited-1"), key("limited-2", priority=3), key("overloaded-1"), GOOD],
        [key("good-1", enabled=False), key("invalid-1", priority=1), key("denied-1"), GOOD],
        [oauth, key("exhausted-1"), GOOD],
        [key("good-2", models=["gemini-2.5-pro"]), GOOD | {"priority": -1}, key("limited-3", project="p")],
        [key("limited-4", project="p"), key("limited-5", project="p"), GOOD],
    ]
    return rows


@pytest.fixture
def endpoint():
    with serving(token("good-token", 2), INVALID_GRANT) as found:
        yield found


def test_500_requests_while_accounts_come_and_go(simulator, tmp_path, endpoint):
    stages = edits(endpoint)
    write(tmp_path, stages[0])
    environ = {"AGPROXY_UPSTREAM_URL": simulator.url, "AGPROXY_RELOAD_SECONDS": "0.01", "AGPROXY_MAX_ATTEMPTS": "10"}
    running = start("serve", home=tmp_path, **environ)
    failures, served = [], set()

    def in_force():
        return sum("accounts in use" in line for line in running.lines)

    async def main():
        client = openai.AsyncOpenAI(base_url=running.base_url, api_key="unused", max_retries=0)
        left = iter(range(500))
        turn = asyncio.Lock()

        async def change(rows):
            """Write the file, and wait until the gateway says that it is in force; the others ask on meanwhile."""
            async with turn:
                known = in_force()
                write(tmp_path, rows)
                async with asyncio.timeout(20):
                    while in_force() == known:
                        await client.models.list()

        async def work():
            for number in left:
                if number % 25 == 0:
                    await change(stages[(number // 25 + 1) % len(stages)])
                try:
                    raw = await client.chat.completions.with_raw_response.create(
                        model=MODELS[number % 3], messages=[{"role": "user", "content": f"Hello {number}"}]
                    )
                    served.add(raw.headers["x-account-id"])
                except openai.APIStatusError as error:
                    failures.append((number, error.status_code, error.message))

        async with client:
            await asyncio.gather(*(work() for _ in range(8)))

    try:
        asyncio.run(main())
        assert failures == []
        assert len(served) >= 3

        # Now there is nobody left who could serve: each failure says why.
        write(tmp_path, [key("limited-1"), key("exhausted-1"), key("invalid-1", enabled=False)])
        while running.chat("hi", model=MODELS[0]).status == 200:
            pass
        refused = running.chat("hi", model=MODELS[0])
        assert refused.status == 429
        assert "quota" in refused.json["error"]["message"]
        assert int(refused.headers["retry-after"]) <= 35
        why = running.ask(f"/v1/agproxy/why/{refused.headers['x-request-id']}").json
        reasons = {skip["why"].rpartition(" for ")[0] for step in why["steps"] for skip in step.get("skipped", ())}
        assert reasons <= {"over its limit", "over its limit for the day"}
        assert reasons
    finally:
        running.stop()
