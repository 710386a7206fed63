"""Codex CLI (`@openai/codex`) does real jobs through a running gateway, on a Gemini that follows a script.

Each test has a gateway, a home and a git folder of its own. What counts: Codex ends with 0 and `turn.completed`, the
files are right, and the model was asked as it must be (signatures put back, names flattened).
"""

import json
import subprocess
import sys
from dataclasses import dataclass, field

import pytest
from foreign import node_modules, run
from running import start
from scripted_gemini import ScriptedGemini, calls, cut_after, limited, refused, says

PATCH = """\
*** Begin Patch
*** Update File: one.txt
@@
-one
+ONE
*** Update File: two.txt
@@
-two
+TWO
*** End Patch
"""
BEFORE = {"one.txt": "one\n", "two.txt": "two\n"}
AFTER = {"one.txt": "ONE\n", "two.txt": "TWO\n"}
READ = calls("exec_command", signature="c2lnbmVkLTE=", thought="I look first.", cmd="cat one.txt two.txt")
HEREDOC = calls("exec_command", signature="c2lnbmVkLTI=", cmd=f"apply_patch <<'EOF'\n{PATCH}EOF")

# A tool server as Codex starts them: JSON-RPC on standard input and output.
TOY_SERVER = """\
import json, sys

TOOL = {
    "name": "echo",
    "description": "Says it back",
    "inputSchema": {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": {"text": {"type": "string"}},
        "required": ["text"],
        "additionalProperties": False,
    },
}
for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message:
        continue
    method, params = message["method"], message.get("params", {})
    if method == "initialize":
        server = {"name": "toy", "version": "1"}
        result = {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}}, "serverInfo": server}
    elif method == "tools/list":
        result = {"tools": [TOOL]}
    elif method == "tools/call":
        result = {"content": [{"type": "text", "text": "toy says " + params["arguments"]["text"]}]}
    else:
        result = {}
    print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
"""


@dataclass
class Job:
    """How a job of Codex went. asked: what the model was asked, step by step."""

    status: int
    events: list
    files: dict
    asked: list
    log: list = field(default_factory=list)

    def items(self, kind):
        return [e["item"] for e in self.events if e["type"] == "item.completed" and e["item"]["type"] == kind]

    @property
    def is_done(self):
        return self.status == 0 and self.events[-1]["type"] == "turn.completed"

    @property
    def said(self):
        return [item["text"] for item in self.items("agent_message")]

    @property
    def parts(self):
        """All parts of the last question to the model."""
        return [part for content in self.asked[-1]["contents"] for part in content["parts"]]

    @property
    def declared(self):
        return [f["name"] for tool in self.asked[0]["tools"] for f in tool.get("functionDeclarations", ())]

    def calls(self):
        return [(p["functionCall"]["name"], p.get("thoughtSignature")) for p in self.parts if "functionCall" in p]

    def results(self):
        return [p["functionResponse"]["response"] for p in self.parts if "functionResponse" in p]


@pytest.fixture
def codex(tmp_path):
    """`codex(script, model=...)`: one job in a folder with two files."""
    binary = node_modules("@openai/codex") / ".bin" / "codex"
    home, folder, server = tmp_path / "home", tmp_path / "work", tmp_path / "toy.py"
    home.mkdir()
    folder.mkdir()
    server.write_text(TOY_SERVER)

    def work(*script, model="gemini-3.8-flash", provider="", tables="", flags=(), **environ):
        for name, text in BEFORE.items():
            (folder / name).write_text(text)
        subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
        with ScriptedGemini(list(script)) as gemini:
            environ = {"GEMINI_API_KEY": "k", "AGPROXY_UPSTREAM_URL": gemini.url} | environ
            gateway = start("serve", home=tmp_path / "agproxy", **environ)
            config = [
                f'model = "{model}"',
                'model_provider = "agproxy"',
                "[model_providers.agproxy]",
                'name = "agproxy"',
                f'base_url = "{gateway.base_url}"',
                'env_key = "GATEWAY_KEY"',
                provider.replace("BASE_URL", gateway.base_url),
                tables.replace("PYTHON", sys.executable).replace("SERVER", str(server)),
            ]
            (home / "config.toml").write_text("\n".join(config))
            command = [str(binary), "exec", "--json", "--skip-git-repo-check"]
            command += ["--dangerously-bypass-approvals-and-sandbox", *flags, "Do the job."]
            try:
                done = run(command, home=home, folder=folder, CODEX_HOME=str(home), GATEWAY_KEY="unused")
            finally:
                gateway.stop()
        events = [json.loads(line) for line in done.output.splitlines() if line.startswith("{")]
        files = {name: (folder / name).read_text() for name in BEFORE}
        return Job(done.status, events, files, gemini.asked, gateway.lines)

    return work


INSTRUCTION = "is about to be replaced by a summary"  # words of the gateway's own question for a summary
TOY = '[mcp_servers.toy]\ncommand = "PYTHON"\nargs = ["SERVER"]\n'


def test_a_model_that_codex_does_not_know_patches_by_its_shell(codex):
    job = codex(READ, HEREDOC, says("All done."))

    assert job.is_done, job.events
    assert job.files == AFTER
    assert job.said == ["All done."]
    assert [item["text"] for item in job.items("reasoning")] == ["I look first."]
    assert job.calls() == [("exec_command", "c2lnbmVkLTE="), ("exec_command", "c2lnbmVkLTI=")]
    assert "one\ntwo\n" in job.results()[0]["output"]
    assert len(job.asked) == 3


def test_a_model_with_the_freeform_patch_tool_gets_its_text_as_it_is(codex):
    job = codex(
        READ,
        calls("apply_patch", signature="c2lnbmVkLTI=", input=PATCH),
        calls("tool_search", signature="c2lnbmVkLTM=", query="echo"),
        calls("mcp__toy__echo", signature="c2lnbmVkLTQ=", text="hello"),
        says("All done."),
        model="gpt-5.5",
        tables=TOY,
    )

    assert job.is_done, job.events
    assert job.files == AFTER
    assert {"exec_command", "apply_patch", "tool_search"} <= set(job.declared)
    assert "mcp__toy__echo" not in job.declared
    assert {"googleSearch": {}} in job.asked[0]["tools"]
    found = [f["name"] for tool in job.asked[3]["tools"] for f in tool.get("functionDeclarations", ())]
    assert "mcp__toy__echo" in found
    assert job.calls() == [
        ("exec_command", "c2lnbmVkLTE="),
        ("apply_patch", "c2lnbmVkLTI="),
        ("tool_search", "c2lnbmVkLTM="),
        ("mcp__toy__echo", "c2lnbmVkLTQ="),
    ]
    assert "toy says hello" in job.results()[-1]["output"]


def test_code_mode_runs_scripts_whose_tools_come_as_an_input_item(codex):
    script = f"const done = await tools.apply_patch({json.dumps(PATCH)}); text(JSON.stringify(done));"
    job = codex(
        calls(
            "functions__exec",
            signature="c2lnbmVkLTE=",
            input='const got = await tools.exec_command({cmd: "cat one.txt"}); text(got.output);',
        ),
        calls("functions__exec", signature="c2lnbmVkLTI=", input=script),
        says("All done."),
        model="gpt-5.6-sol",
    )

    assert job.is_done, job.events
    assert job.files == AFTER
    assert "functions__exec" in job.declared
    assert job.calls() == [("functions__exec", "c2lnbmVkLTE="), ("functions__exec", "c2lnbmVkLTI=")]
    assert "one\n" in job.results()[0]["output"]


def test_tools_of_an_mcp_server_are_called_by_their_namespace(codex):
    job = codex(calls("mcp__toy__echo", text="hello"), says("It said hello."), tables=TOY)

    assert job.is_done, job.events
    (call,) = job.items("mcp_tool_call")
    assert (call["server"], call["tool"], call["status"]) == ("toy", "echo", "completed")
    assert "mcp__toy__echo" in job.declared
    assert "toy says hello" in job.results()[0]["output"]


def test_a_stream_that_is_cut_is_repeated_by_codex(codex):
    job = codex(READ, cut_after("I was about to"), HEREDOC, says("All done."))

    assert job.is_done, job.events
    assert job.files == AFTER
    assert any("Reconnecting... 1/5" in event.get("message", "") for event in job.events)
    assert job.asked[1]["contents"] == job.asked[2]["contents"]


def test_a_limit_that_passes_is_waited_for(codex):
    """With no wait of the gateway's own, so that Codex sees the 429 and its Retry-After."""
    job = codex(limited(1), READ, HEREDOC, says("All done."), AGPROXY_MAX_WAIT_SECONDS="0")

    assert job.is_done, job.events
    assert job.files == AFTER
    assert any("429" in line for line in job.log)


def test_a_mistake_ends_the_turn_at_once_with_upstreams_words(codex):
    job = codex(refused("The sky is not blue enough."))

    assert job.status != 0
    assert job.events[-1]["type"] == "turn.failed"
    assert "not blue enough" in job.events[-1]["error"]["message"]
    assert len(job.asked) == 1


def test_the_gateways_own_trouble_is_shown_at_once(codex):
    job = codex(GEMINI_API_KEY="")

    assert job.events[-1]["type"] == "turn.failed"
    assert "no Gemini account" in job.events[-1]["error"]["message"]
    assert len([event for event in job.events if "Reconnecting" in event.get("message", "")]) == 0


def test_a_websocket_is_refused_and_http_taken_without_a_word(codex):
    job = codex(READ, HEREDOC, says("All done."), provider="supports_websockets = true")

    assert job.is_done, job.events
    assert job.files == AFTER
    assert any("GET /v1/responses -> 426" in line for line in job.log)
    assert not [event for event in job.events if "Reconnecting" in event.get("message", "")]


def test_an_output_schema_reaches_the_model(codex, tmp_path):
    schema = {
        "type": "object",
        "properties": {"answer": {"type": "string"}},
        "required": ["answer"],
        "additionalProperties": False,
    }
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(schema))
    job = codex(says('{"answer":"yes"}'), flags=("--output-schema", str(file)))

    assert job.is_done, job.events
    assert json.loads(job.said[0]) == {"answer": "yes"}
    assert "answer" in json.dumps(job.asked[0]["generationConfig"].get("responseJsonSchema"))


@pytest.mark.parametrize("name", ["agproxy", "OpenAI"])
def test_a_long_history_is_compacted_by_codex_or_by_a_trigger(codex, name):
    """Called OpenAI, the provider gets a compaction_trigger and must answer with exactly one compaction item."""
    long = calls("exec_command", signature="c2lnbmVkLTE=", tokens=900, cmd="cat one.txt two.txt")
    job = codex(
        long,
        says("Summary: one.txt and two.txt were read."),
        HEREDOC,
        says("All done."),
        flags=("-c", "model_auto_compact_token_limit=500", "-c", f'model_providers.agproxy.name="{name}"'),
    )

    assert job.is_done, job.events
    assert job.files == AFTER
    assert len(job.asked) == 4
    assert (INSTRUCTION in json.dumps(job.asked[1])) is (name == "OpenAI")
    assert job.calls() == [("exec_command", "c2lnbmVkLTI=")]
    assert any("Summary: one.txt and two.txt were read." in part.get("text", "") for part in job.parts)
