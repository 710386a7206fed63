"""No task is lost: each is held by somebody who ends it, and none of its failures is silent.

The first part reads the source; the second looks at what is left when a gateway with work of every kind under way ends.
"""

import ast
import asyncio
import json
import logging
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import hostile_upstream
import pytest

from agproxy import embed
from agproxy.account import Account, Endpoint
from agproxy.config import Config
from agproxy.credentials import Command, OAuthUser
from agproxy.io.beside import beside

PACKAGE = Path(__file__).resolve().parents[1] / "agproxy"
MAKERS = {"create_task", "ensure_future", "run_coroutine_threadsafe", "submit"}


# --- what the source says --------------------------------------------------------------------------------------


def name_of(node: ast.expr) -> str:
    """The last part of a dotted name."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def unheld(tree: ast.AST) -> list[int]:
    """Lines where a task is made and nobody holds it: as a statement of its own, or under a name that is never read."""
    found = []
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or name_of(call.func) not in MAKERS:
            continue
        parent = parents[call]
        if isinstance(parent, ast.Expr):
            found.append(call.lineno)
        elif isinstance(parent, ast.Assign) and all(isinstance(target, ast.Name) for target in parent.targets):
            scope = parent
            while not isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef | ast.Module):
                scope = parents[scope]
            names = {target.id for target in parent.targets}
            read = (n for n in ast.walk(scope) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load))
            if not any(node.id in names for node in read):
                found.append(call.lineno)
    return found


def swallowed(tree: ast.AST) -> list[int]:
    """Lines where an exception of any kind may vanish: a bare except; a wide one that does nothing; a wide suppress;
    a BaseException, a cancellation among them, that is not raised again."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            names = {name_of(kind) for kind in kinds if kind is not None}
            does_nothing = all(isinstance(step, ast.Pass | ast.Continue | ast.Break) for step in node.body)
            raises = any(isinstance(step, ast.Raise) for inner in node.body for step in ast.walk(inner))
            is_wide = bool(names & {"Exception", "BaseException"})
            if node.type is None or (is_wide and does_nothing) or ("BaseException" in names and not raises):
                found.append(node.lineno)
        is_suppress = isinstance(node, ast.Call) and name_of(node.func) == "suppress"
        if is_suppress and {name_of(kind) for kind in node.args} & {"Exception", "BaseException"}:
            found.append(node.lineno)
    return found


@pytest.mark.parametrize("rule", [unheld, swallowed])
def test_no_task_and_no_exception_is_dropped_in_the_source(rule):
    files = {file: rule(ast.parse(file.read_text("utf-8"))) for file in sorted(PACKAGE.rglob("*.py"))}

    assert [f"{file.relative_to(PACKAGE.parent)}:{line}" for file, lines in files.items() for line in lines] == []


@pytest.mark.parametrize(
    ("text", "is_held"),
    [
        ("asyncio.create_task(f())", False),
        ("async def g():\n  loop.create_task(f())", False),
        ("async def g():\n  task = asyncio.ensure_future(f())", False),
        ("pool.submit(f)", False),
        ("async def g():\n  task = asyncio.create_task(f())\n  await task", True),
        ("async def g():\n  self.task = asyncio.create_task(f())", True),
        ("async def g():\n  return asyncio.create_task(f())", True),
        ("async def g():\n  tasks.add(asyncio.create_task(f()))", True),
        ("pool.submit(f).add_done_callback(tell)", True),
    ],
)
def test_the_rule_about_tasks_sees_what_it_is_for(text, is_held):
    assert bool(unheld(ast.parse(text))) is not is_held


@pytest.mark.parametrize(
    ("text", "is_good"),
    [
        ("try: f()\nexcept: g()", False),
        ("try: f()\nexcept Exception: pass", False),
        ("try: f()\nexcept (ValueError, Exception): pass", False),
        ("try: f()\nexcept BaseException: g()", False),
        ("with contextlib.suppress(Exception): f()", False),
        ("try: f()\nexcept BaseException:\n  g()\n  raise", True),
        ("try: f()\nexcept Exception: log.exception('x')", True),
        ("try: f()\nexcept ValueError: pass", True),
        ("with suppress(ValueError): f()", True),
    ],
)
def test_the_rule_about_exceptions_sees_what_it_is_for(text, is_good):
    assert bool(swallowed(ast.parse(text))) is not is_good


# --- what is left at the end -----------------------------------------------------------------------------------


def post(url, body):
    request = urllib.request.Request(url, json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status
    except (OSError, urllib.error.HTTPError):
        return None


def test_a_gateway_that_ends_amid_work_of_every_kind_leaves_no_task(tmp_path, caplog):
    """A token command that never ends, an answer that never comes, a run in the background, a stream, a sign-in that
    is revoked and being written down."""
    (tmp_path / "accounts.json").write_text('{"version": 1, "accounts": []}')
    (tmp_path / "wait.py").write_text("import signal, sys; open(sys.argv[1], 'w').write('x'); signal.pause()")
    endless = Command(argv=(sys.executable, str(tmp_path / "wait.py"), str(tmp_path / "begun")))

    async def main(upstream):
        user = OAuthUser(client_id="c", client_secret="s", refresh_token="r", token_url=upstream.url + "/revoked-token")
        accounts = (
            Account(id="key", key="k", models=("gemini-2.5-flash",)),
            Account(id="slow", credential=endless, models=("gemini-slow",), endpoint=Endpoint()),
            Account(id="gone", credential=user, models=("gemini-gone",)),
        )
        config = Config(host="127.0.0.1", port=0, upstream_url=upstream.url, drain_seconds=0.0, max_attempts=1)
        async with embed.listening(config, accounts, tmp_path) as running:
            url = running.urls[0]
            asked = [
                ("/responses", {"model": "gemini-2.5-flash", "input": "do:hang", "background": True}),
                ("/responses", {"model": "gemini-2.5-flash", "input": "do:hang", "stream": True}),
                ("/completions", {"model": "gemini-slow", "prompt": "x"}),
                ("/completions", {"model": "gemini-gone", "prompt": "x"}),
            ]
            threads = [threading.Thread(target=post, args=(url + path, body)) for path, body in asked]
            for thread in threads:
                thread.start()
            while not (len([t for t in upstream.targets if "generate" in t.lower()]) >= 2 and running_command()):
                await asyncio.sleep(0.01)
            await asyncio.to_thread(threads[3].join)
            names = {task.get_name() for task in asyncio.all_tasks()}
            assert "token of slow" in names
            assert any(name.startswith("run resp_") for name in names)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        upstream.release.set()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        return left

    def running_command():
        file = tmp_path / "begun"
        return file.exists() and file.read_text() == "x"

    with hostile_upstream.serving("fine", "token") as upstream:
        assert asyncio.run(main(upstream)) == set()
    assert "never retrieved" not in caplog.text


def test_what_fails_beside_a_block_is_logged_at_once_and_leaves_the_block_alone(caplog):
    async def work():
        raise TypeError("what is wrong")

    async def main():
        async with beside(work(), "the work"):
            while not caplog.records:
                await asyncio.sleep(0)
        return "the block's own end"

    assert asyncio.run(main()) == "the block's own end"
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.ERROR, "the work has ended, until agproxy is restarted")
    assert isinstance(record.exc_info[1], TypeError)


def test_work_beside_a_block_ends_with_it():
    seen = []

    async def work():
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            seen.append("ended")

    async def main():
        async with beside(work(), "the work"):
            await asyncio.sleep(0)
        return asyncio.all_tasks() - {asyncio.current_task()}

    assert asyncio.run(main()) == set()
    assert seen == ["ended"]
