"""Command-line clients of others, each doing a real job in a folder of its own against a running gateway on the
simulated Gemini. What the simulated model shall do stands in markers in the prompt; files and output tell that it did.
"""

import base64
import json
import sys
from pathlib import Path

import pytest
from foreign import Ran, command, node_modules, run

PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
MODELS = ["gpt-4o", "gemini-3.8-flash"]


@pytest.fixture
def places(tmp_path):
    """A home folder and a folder to work in."""
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    return home, work


# --- llm -------------------------------------------------------------------------------------------------------

TOOLS = '''
def get_weather(city: str) -> str:
    """The weather in a city"""
    return f"sunny in {city}"
'''


@pytest.fixture
def llm(gateway, places):
    """Simon Willison's `llm`, with the gateway as an OpenAI-compatible endpoint of its configuration."""
    program, (home, work) = command("llm", "llm"), places
    known = [
        {"model_id": name, "model_name": name, "api_base": gateway.base_url, "supports_tools": True}
        | {"supports_schema": True, "vision": True}
        for name in MODELS
    ]
    (home / "extra-openai-models.yaml").write_text(json.dumps(known))  # JSON is YAML
    (work / "tools.py").write_text(TOOLS)

    def ask(*arguments: str, given: str = "") -> Ran:
        environ = {"LLM_USER_PATH": str(home), "OPENAI_API_KEY": "unused"}
        return run([program, *arguments], home=home, folder=work, given=given, **environ)

    return ask


@pytest.mark.parametrize("more", [[], ["--no-stream"]], ids=["stream", "unary"])
@pytest.mark.parametrize("model", MODELS)
def test_llm_does_a_job_of_two_steps_with_its_tools(llm, model, more):
    job = "What is the weather in Paris and London? [[sim:steps=2]]"
    done = llm("-m", model, job, "--functions", "tools.py", "--tools-debug", *more)

    assert done.status == 0, done.output
    assert done.output.count("Tool call: get_weather({'city': 'Paris'})") == 2
    assert done.output.count("Tool call: get_weather({'city': 'London'})") == 2
    answer = done.output.rstrip().splitlines()[-1]
    assert "get_weather returned sunny in Paris; get_weather returned sunny in London" in answer


def test_llm_goes_on_with_a_conversation(llm):
    assert "Hello" in llm("-m", "gpt-4o", "Hello").output
    assert "turn 2" in llm("--continue", "And now?").output


def test_llm_gets_json_for_its_schema(llm):
    done = llm("-m", "gpt-4o", "Ada is 36", "--schema", "name, age int")

    assert json.loads(done.output) == {"name": "Ada", "age": 36}


def test_llm_shows_a_picture(llm, places):
    (places[1] / "picture.png").write_bytes(base64.b64decode(PICTURE))
    assert "image/png" in llm("-m", "gpt-4o", "What is this?", "-a", "picture.png").output


# --- aider -----------------------------------------------------------------------------------------------------

EDIT = """[[sim:say=I will change it.

sums.py
```
<<<<<<< SEARCH
    return {old}
=======
    return {new}
>>>>>>> REPLACE
```
]]"""
CHECK = """
import sys
from sums import add
if add(1, 2) != 3:
    print("add(1, 2) is", add(1, 2), "and not 3.", {second!r})
    sys.exit(1)
"""


@pytest.mark.parametrize("more", [[], ["--no-stream"]], ids=["stream", "unary"])
@pytest.mark.parametrize("model", MODELS)
def test_aider_edits_a_file_and_mends_it_when_its_test_fails(gateway, places, model, more):
    program, (home, work) = command("aider", "aider-chat"), places
    (work / "sums.py").write_text("def add(a, b):\n    return None\n")
    (work / "check.py").write_text(CHECK.format(second=EDIT.format(old="a - b", new="a + b")))
    flags = "--no-git --yes-always --no-check-update --no-show-release-notes --analytics-disable --no-pretty"
    flags += " --no-show-model-warnings --edit-format diff --map-tokens 0 --auto-test"
    check = ["--test-cmd", f"{sys.executable} check.py"]
    message = ["--message", "Add two numbers. " + EDIT.format(old="None", new="a - b")]
    done = run(
        [program, "--model", f"openai/{model}", *flags.split(), *more, *check, *message, "sums.py"],
        home=home,
        folder=work,
        OPENAI_API_BASE=gateway.base_url,
        OPENAI_API_KEY="unused",
        LITELLM_LOCAL_MODEL_COST_MAP="True",
    )

    assert done.status == 0, done.output
    assert (work / "sums.py").read_text() == "def add(a, b):\n    return a + b\n", done.output
    assert done.output.count("Applied edit to sums.py") == 2


# --- coding agents of npm --------------------------------------------------------------------------------------


def writing(tool: str, path_name: str, path: Path) -> str:
    """A prompt that makes the model write a file by the agent's own tool, twice, and then sum up."""
    call = json.dumps({path_name: str(path), "content": "written by a tool\n"})
    return f"Write the file. [[sim:preface=I write it now.]] [[sim:steps=2]] [[sim:call={tool} {call}]]"


@pytest.mark.parametrize("model", MODELS)
def test_opencode_writes_a_file_by_its_tool_and_sums_up(gateway, places, model):
    modules, (home, work) = node_modules("opencode-ai"), places
    options = {"baseURL": gateway.base_url, "apiKey": "unused"}
    provider = {"npm": "@ai-sdk/openai-compatible", "options": options, "models": {model: {"name": model}}}
    settings = {"provider": {"agproxy": provider}, "small_model": f"agproxy/{model}", "autoupdate": False}
    (work / "opencode.json").write_text(json.dumps(settings | {"permission": {"edit": "allow"}, "share": "disabled"}))
    done = run(
        [str(modules / ".bin" / "opencode"), "run", "-m", f"agproxy/{model}"],
        home=home,
        folder=work,
        given=writing("write", "filePath", work / "new.txt"),
        OPENCODE_DISABLE_AUTOUPDATE="1",
        OPENCODE_DISABLE_MODELS_FETCH="1",
    )

    assert done.status == 0, done.output
    assert (work / "new.txt").read_text() == "written by a tool\n", done.output
    assert "I write it now." in done.output
    assert "write returned Wrote file successfully" in done.output


@pytest.mark.parametrize("model", MODELS)
def test_qwen_code_writes_a_file_by_its_tool_and_sums_up(gateway, places, model):
    modules, (home, work) = node_modules("@qwen-code/qwen-code"), places
    (home / ".qwen").mkdir()
    quiet = {"privacy": {"usageStatisticsEnabled": False}, "general": {"disableAutoUpdate": True}}
    (home / ".qwen" / "settings.json").write_text(json.dumps(quiet))
    prompt = writing("write_file", "file_path", work / "new.txt")
    done = run(
        [str(modules / ".bin" / "qwen"), "--auth-type", "openai", "--yolo", "--prompt", prompt],
        home=home,
        folder=work,
        OPENAI_BASE_URL=gateway.base_url,
        OPENAI_API_KEY="unused",
        OPENAI_MODEL=model,
        HTTP_PROXY="",  # it would take no notice of NO_PROXY
        HTTPS_PROXY="",
        http_proxy="",
        https_proxy="",
    )

    assert done.status == 0, done.output
    assert (work / "new.txt").read_text() == "written by a tool\n", done.output
    assert "write_file returned" in done.output
