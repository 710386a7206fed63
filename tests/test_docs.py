"""The documents say what the code does: tables, commands, flags, variables, links."""

import ast
import importlib.util
import re
import shlex
import sys
import tomllib

import pytest
from running import ROOT

from agproxy import cli, openapi
from agproxy.cli.common import HEADINGS, groups
from agproxy.config import NOT_SETTINGS, PREFIX, SETTINGS
from agproxy.frontends import FRONTENDS
from agproxy.frontends.openai_responses.tools import REFUSED, SERVED
from agproxy.gateway import build_routes
from agproxy.io import journal, limits, state, store, usage
from agproxy.simulator.markers import MARKERS

README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = sorted(ROOT.glob("*.md"))
# Variables with our prefix that other programs read: Codex CLI its key, the tests the folder of recorded traffic.
OF_OTHERS = {"AGPROXY_RECORDED"}


def load_tables():
    """.ci/readme_tables.py as a module; .ci is no package."""
    spec = importlib.util.spec_from_file_location("readme_tables", ROOT / ".ci" / "readme_tables.py")
    module = importlib.util.module_from_spec(spec)
    path = sys.path[:]
    spec.loader.exec_module(module)
    sys.path[:] = path
    return module


tables = load_tables()


def code_lines(text):
    """The lines of indented and fenced code blocks, continued lines joined."""
    is_fenced = False
    lines = []
    for line in text.replace("\\\n", " ").splitlines():
        if line.startswith("```"):
            is_fenced = not is_fenced
        elif is_fenced or line.startswith("    "):
            lines.append(line.strip())
    return lines


def spans(text):
    return re.findall(r"`([^`\n]+)`", text)


def command_lines(text):
    """Arguments of every agproxy that a document tells the reader to run, in code blocks and within sentences."""
    found = []
    for line in code_lines(text) + spans(text):
        words = shlex.split(re.split(r"[|<>;&]", line)[0], comments=True) if "agproxy" in line else []
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            del words[0]
        if words[:3] in (["python", "-m", "agproxy"], ["python3", "-m", "agproxy"]):
            found.append(words[3:])
        elif words[:1] == ["agproxy"] and (len(words) > 1 or line in code_lines(text)):
            found.append(words[1:])
    return found


# --- README's tables -------------------------------------------------------------------------------------------


def test_readme_is_as_make_docs_would_write_it():
    assert tables.rewritten(README) == README, "run `make docs`"


def test_the_settings_table_has_every_setting_once():
    rows = [line for line in tables.settings_table().splitlines() if line.startswith("| `")]

    assert [row.split("`")[3] for row in rows] == [setting.key for setting in SETTINGS]
    for row, setting in zip(rows, SETTINGS, strict=True):
        assert (setting.variable if setting.secret else setting.flag) == row.split("`")[1]
        assert row.count(" | ") == 3 or "\\|" in row


def test_every_route_is_in_the_table_with_its_purpose_and_no_purpose_is_left_over():
    table = build_routes()
    rows = tables.routes_table().splitlines()[2:]

    assert len(rows) == len(table)
    assert {(route.method, route.pattern) for route in table} == set(openapi.SAID)


def test_a_new_route_without_a_purpose_is_refused(monkeypatch):
    monkeypatch.delitem(openapi.SAID, ("GET", "/healthz"))

    with pytest.raises(SystemExit, match="GET /healthz: say in SAID"):
        tables.routes_table()


def test_every_request_field_is_in_the_table_with_its_reason():
    rows = [line for line in tables.fields_table().splitlines() if line.startswith("| **")]

    assert set(tables.TITLES) == set(FRONTENDS)
    for row, frontend in zip(rows, FRONTENDS.values(), strict=False):
        cells = dict(zip(("mapped", "ignored", "refused"), row.split(" | ")[1:], strict=True))
        for name, field in frontend.FIELDS.items():
            cell = cells[field.verdict.value]
            assert f"`{name}`" in cell
            assert field.verdict.value == "mapped" or field.reason in cell
    assert set(re.findall("`([a-z_]+)`", rows[-1])) >= {*REFUSED, *SERVED}


def test_an_api_that_gets_a_route_is_no_longer_among_those_that_are_not_served(monkeypatch):
    *_, before = tables.fields_table().splitlines()
    monkeypatch.setattr(tables, "OTHERS", (*tables.OTHERS, "responses"))

    assert "`/v1/embeddings`" in before
    assert tables.fields_table().splitlines()[-1] == before


def test_every_file_of_the_home_folder_is_in_the_table_of_what_is_kept():
    questions = README.partition("\n## Questions\n")[2].partition("\n## ")[0]
    told = set(re.findall(r"^\| `([\w.]+)` \|", questions, re.MULTILINE))

    assert told == {
        "config.json",
        store.ACCOUNTS_FILE,
        store.KEYS_FILE,
        state.FILE,
        journal.FILE,
        limits.FILE,
        usage.FILE,
    }


def test_a_readme_without_its_markers_is_refused():
    with pytest.raises(SystemExit, match="one block was expected"):
        tables.rewritten(README.replace("<!-- end of routes -->", ""))


def test_every_group_of_settings_has_its_heading():
    """A group begins at each comment among the fields of Config, and each has its heading."""
    fields = (ROOT / "agproxy" / "config.py").read_text(encoding="utf-8")
    assert list(HEADINGS) == re.findall(r"^    # [A-Z].*\n    (\w+): ", fields, re.MULTILINE)
    assert [setting for settings in groups().values() for setting in settings] == list(SETTINGS)
    assert "" not in groups()


# --- what documents tell the reader to type --------------------------------------------------------------------


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: file.name)
def test_every_command_in_a_document_parses(document, capsys):
    for arguments in command_lines(document.read_text(encoding="utf-8")):
        status = 0
        try:
            cli.parse([word for word in arguments if word != "..."])
        except SystemExit as ended:  # --help and --version end here too, with 0
            status = ended.code
        assert status in (0, None), f"{' '.join(arguments)}: {capsys.readouterr().err}"


def test_the_reader_of_commands_finds_them():
    text = "\n    X=1 python -m agproxy serve \\\n      --port 1  # why\n\nand `agproxy config port`, not `agproxy`.\n"

    assert command_lines(text) == [["serve", "--port", "1"], ["config", "port"]]
    assert command_lines(README)


def test_every_flag_that_readme_names_exists(capsys):
    helps = ""
    commands = [
        [name]
        for name in ("serve", "config", "models", "translate", "setup", "doctor", "completions", "simulate", "version")
    ]
    commands += [["logs"], ["logs", "show"], ["logs", "replay"], ["keys", "add"], ["keys", "usage"]]
    for command in [*commands, *(["accounts", action] for action in ("add", "login", "edit", "list", "test"))]:
        with pytest.raises(SystemExit):
            cli.main([*command, "--help"])
        helps += capsys.readouterr().out
    named = {flag for span in spans(README) for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]+", span)}

    assert named <= set(re.findall(r"--[a-z][a-z-]+", helps))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: file.name)
def test_every_variable_in_a_document_exists(document):
    named = set(re.findall(rf"\b{PREFIX}[A-Z_]*[A-Z]\b", document.read_text(encoding="utf-8")))

    assert named <= {setting.variable for setting in SETTINGS} | NOT_SETTINGS | OF_OTHERS


def test_every_marker_that_readme_names_exists():
    known = {re.split(r"[\[=]", written)[0] for written in MARKERS}

    assert set(re.findall(r"\[\[sim:([a-z0-9-]+)", README)) <= known


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: file.name)
def test_every_relative_link_leads_somewhere(document):
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:", target):
            file, _, anchor = target.partition("#")
            where = document.parent / file if file else document
            assert where.exists(), target
            if anchor:
                heads = re.findall(r"^#+ (.+)$", where.read_text(encoding="utf-8"), re.MULTILINE)
                assert anchor in {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}, target


def test_every_make_target_that_a_document_names_exists():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for line in code_lines(text) + spans(text):
            if line.startswith("make "):
                words = re.split(r"[#;&|]", line)[0].split()[1:]
                assert {word for word in words if "=" not in word} <= targets, line


# --- what a fresh clone needs ----------------------------------------------------------------------------------


def test_make_test_installs_all_that_the_tests_import_unasked():
    """`make test` installs the extra `test`. A test that wants more asks pytest.importorskip for it."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["test"]
    here = {path.stem for path in (ROOT / "tests").rglob("*.py")} | {"agproxy", "tests"}
    known = here | {re.match(r"[\w-]+", name)[0] for name in wanted} | set(sys.stdlib_module_names)
    foreign = []
    for path in (ROOT / "tests").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        asked = set(re.findall(r'importorskip\("(\w+)', text))
        names = [name for node in ast.parse(text).body for name in imported(node)]
        foreign += [f"{path.relative_to(ROOT)}: {name}" for name in names if name not in known | asked]

    assert foreign == []


def imported(node):
    if isinstance(node, ast.Import):
        return [name.name.partition(".")[0] for name in node.names]
    if isinstance(node, ast.ImportFrom) and node.level == 0:
        return [node.module.partition(".")[0]]
    return []
