"""`make audit` finds what it is for, its bill of materials has its shape, and README's claims have their tests."""

import ast
import hashlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import zipfile

import pytest
from running import ROOT

from agproxy import __version__

README = (ROOT / "README.md").read_text(encoding="utf-8")


def load():
    """.ci/audit.py as a module; .ci is no package."""
    spec = importlib.util.spec_from_file_location("audit", ROOT / ".ci" / "audit.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["audit"] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


audit = load()


def source(text, name="x.py"):
    return audit.Source(name, text, ast.parse(text))


@pytest.fixture(scope="module")
def modules():
    return audit.sources()


# --- the source ------------------------------------------------------------------------------------------------


def test_only_io_the_wiring_and_the_command_line_touch_the_world(modules):
    assert audit.print_world(modules) == []


def test_an_exception_that_nobody_needs_is_none(modules):
    needed = {module.name for module in modules if audit.touches(module.tree)}

    assert set(audit.EXCEPTIONS) <= needed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import socket", ["socket"]),
        ("def f():\n  from urllib.request import urlopen\n  urlopen(x)", ["urllib.request", "urlopen()"]),
        ("open('x')", ["open()"]),
        ("Path('x').open()", ["open()"]),
        ("self.path.read_bytes()", ["read_bytes()"]),
        ("os.stat(x)", ["os.stat()"]),
        ("await asyncio.open_connection(h, 1)", ["open_connection()"]),
        ("asyncio.create_subprocess_exec(x)", ["create_subprocess_exec()"]),
        ("import sqlite3.dbapi2", ["sqlite3"]),
        ("text.replace('a', 'b')", []),
        ("self.open()", []),
        ("os.urandom(3)", []),
        ("from urllib.parse import quote", []),
    ],
)
def test_what_touches_the_world_is_seen(text, expected):
    wrapped = "async def f():\n  " + text.replace("\n", "\n  ")

    assert audit.touches(ast.parse(wrapped)) == expected


def test_a_module_that_may_not_is_a_fault(capsys):
    assert audit.print_world([source("import socket", "gateway.py")]) == [
        "agproxy/gateway.py touches the world: socket"
    ]
    assert capsys.readouterr().out.startswith("! agproxy/gateway.py")


def test_imports_from_outside_are_h11_certifi_and_the_extra(modules, capsys):
    assert audit.print_imports(modules) == []
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["certifi", "cryptography", "h11"]
    assert audit.print_imports([source("def f():\n  import requests.adapters", "io/x.py")]) == [
        "requests is imported by io/x.py"
    ]


def test_sockets_that_lead_out_are_made_in_one_place(modules):
    """`io.dial`, where egress is held. Looking up a name (`fetch`) and listening connect to nothing."""
    makers = {"create_connection()", "open_connection()", "sock_connect()", "open_unix_connection()", "urlopen()"}
    makers |= {"http.client", "urllib.request", "socketserver", "create_datagram_endpoint()"}

    assert {module.name for module in modules if makers & set(audit.touches(module.tree))} == {"io/dial.py"}


def test_who_connects_without_the_list_of_hosts_has_a_rule_of_its_own(modules):
    """The fetcher, whose hosts are the client's choice, and workers, who reach sockets of their own folder only."""
    without = [
        module.name
        for module in modules
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Client", "Dialer", "Lines")
        if len(node.args) > 1 and ast.unparse(node.args[1]) == "None"
    ]

    assert without == ["io/fetch.py", "io/fetch.py", "io/workers.py"]


def test_hosts_are_found_with_their_lines_and_not_in_docstrings():
    text = '"""See https://docs.example.com/x."""\nA = "https://one.example.com/v1?"\nB = f"https://{x}.two.com/"'
    text += '\nC = "a.b"'
    text += '\nD = "three.internal"\nE = "a.py and x.com() and https://"\nF = "https://one.example.com/v1?"'

    assert audit.hosts(source(text)) == {
        "https://one.example.com/v1?": [2, 7],
        "https://{}.two.com": [3],
        "three.internal": [5],
    }


def test_the_hosts_that_are_connected_to_by_default_are_told(modules, capsys):
    audit.print_hosts(modules)
    told = capsys.readouterr().out

    for name in ("https://generativelanguage.googleapis.com", "https://oauth2.googleapis.com/token"):
        assert f"{name} " in told
    assert "https://aiplatform.{}.rep.googleapis.com" in told


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            '"""One\n\nthree."""\n\nx = 1  # why\n\n\ndef f():\n    """Doc."""\n    # a comment\n    return "# none"\n',
            (3, 4, 4),
        ),
        ("x = 1\n", (1, 0, 0)),
        ("", (0, 0, 0)),
    ],
)
def test_lines_are_code_comment_or_blank(text, expected):
    assert audit.count_lines(source(text)) == expected


def test_every_module_is_counted_once_in_its_row(modules, capsys):
    audit.print_lines(modules)
    *rows, total = capsys.readouterr().out.splitlines()[1:]
    counted = [[int(number) for number in re.findall(r"\d+", line[52:])] for line in rows]

    assert [sum(column) for column in zip(*counted, strict=True)] == [int(n) for n in re.findall(r"\d+", total[52:])]
    assert sum(row[0] for row in counted) == len(modules)
    assert sum(sum(row[1:]) for row in counted) == sum(len(module.text.splitlines()) for module in modules)
    assert (
        len(rows) == len(audit.rows(ast.get_docstring(ast.parse((ROOT / "agproxy" / "__init__.py").read_text())))) + 1
    )


# --- README's claims -------------------------------------------------------------------------------------------


def claims():
    """The rows of README's table of threats, each with the tests that it names."""
    section = README.partition("\n## Security\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][2:]
    return [(row.split(" | ")[0], re.findall(r"`([\w/]+\.py)::(\w+)`", row)) for row in rows]


def test_every_threat_in_readme_names_tests_that_are_there():
    missing, known = [], {}
    for who, tests in claims():
        assert tests, f"{who}: no test is named"
        for file, name in tests:
            if file not in known:
                path = ROOT / "tests" / file
                tree = ast.parse(path.read_text("utf-8")) if path.exists() else ast.Module([], [])
                known[file] = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
            if name not in known[file]:
                missing.append(f"{file}::{name}")

    assert missing == []
    assert len(claims()) >= 10


# --- what is bundled -------------------------------------------------------------------------------------------


def test_the_parts_are_those_that_the_zipapp_has_with_their_licences():
    found = {part.name: part for part in audit.parts()}

    assert {name: part.licence for name, part in found.items()} == {"h11": "MIT", "certifi": "MPL-2.0"}
    assert found["h11"].faults == ()


def test_a_file_that_is_not_as_its_package_recorded_it_is_a_fault(monkeypatch, capsys):
    changed = audit.build_zipapp.sources() | {"h11/_util.py": b"import os"}
    monkeypatch.setattr(audit.build_zipapp, "sources", lambda: changed)
    faults = audit.print_parts(audit.parts(), has_wheels=False)

    assert "h11: h11/_util.py is not as its RECORD has it" in faults
    assert "! files differ from RECORD" in capsys.readouterr().out.splitlines()[0]


def test_what_is_bundled_is_pinned_by_hash_and_fits_what_pyproject_asks_for():
    pinned = {name: version for name, version, _ in audit._HASHED.findall((ROOT / ".ci" / "bundled.txt").read_text())}

    assert set(pinned) == set(audit.build_zipapp.PARTS)
    assert tuple(map(int, pinned["h11"].split(".")[:2])) >= (0, 16)


PART = audit.Part("h11", "0.16.0", "MIT", "ab" * 32, ())


def test_the_bill_of_materials_has_what_cyclonedx_asks_for():
    """https://cyclonedx.org/docs/1.6/json: the required fields, and those that make a component recognizable."""
    bill = json.loads(json.dumps(audit.bill([PART], "1.2.3", "cd" * 32)))

    assert (bill["bomFormat"], bill["specVersion"], bill["version"]) == ("CycloneDX", "1.6", 1)
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", bill["serialNumber"])
    assert bill["metadata"]["component"]["name"] == "agproxy"
    assert bill["metadata"]["component"]["hashes"] == [{"alg": "SHA-256", "content": "cd" * 32}]
    for one in (bill["metadata"]["component"], *bill["components"]):
        assert one["type"] in ("application", "library")
        assert one["purl"] == one["bom-ref"] == f"pkg:pypi/{one['name']}@{one['version']}"
        assert one["licenses"][0]["license"]["id"]
    assert bill["components"][0]["hashes"] == [{"alg": "SHA-256", "content": "ab" * 32}]
    refs = {one["bom-ref"] for one in (bill["metadata"]["component"], *bill["components"])}
    assert {entry["ref"] for entry in bill["dependencies"]} == refs
    assert bill["dependencies"][0]["dependsOn"] == ["pkg:pypi/h11@0.16.0"]


@pytest.mark.parametrize("part", [PART.__class__("h11", "0.17.0", "MIT", "", ()), PART.__class__(*["x"] * 4, ("x/a",))])
def test_the_bill_claims_no_hash_that_was_not_verified(part):
    assert "hashes" not in audit.bill([part], "1", "cd" * 32)["components"][0]


def test_the_same_parts_give_the_same_bill_and_others_another():
    one, same = (audit.bill([PART], "1", "cd" * 32) for _ in range(2))

    assert one == same
    assert one["serialNumber"] != audit.bill([PART], "1", "ef" * 32)["serialNumber"]


# --- the zipapp ------------------------------------------------------------------------------------------------


def test_the_whole_audit_runs_builds_the_zipapp_and_writes_the_bill(tmp_path):
    """In a copy, which has no dist yet."""
    for name in ("agproxy", ".ci"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "LICENSE", tmp_path)

    command = [sys.executable, str(tmp_path / ".ci" / "audit.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    # A certifi to which somebody has added an authority of their own is a fault, and the only one.
    faults = [line for line in done.stdout.splitlines() if line.startswith("! ")]
    assert set(faults) <= {"! certifi: certifi/cacert.pem is not as its RECORD has it"}
    assert (done.returncode, done.stderr) == (1 if faults else 0, "")
    assert "two builds give the same bytes" in done.stdout
    assert "was not there: built" in done.stdout
    assert re.search(r"each of its \d+ files is that of the source", done.stdout)
    bill = json.loads((tmp_path / "dist" / "agproxy.cdx.json").read_text())
    assert bill["metadata"]["component"]["version"] == __version__
    assert bill["metadata"]["component"]["hashes"][0]["content"] in done.stdout


def pack(file, **entries):
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in sorted(entries.items()):
            archive.writestr(zipfile.ZipInfo(name), data)
    return file.read_bytes()


def test_a_zipapp_of_another_source_and_builds_that_differ_are_faults(tmp_path, monkeypatch, capsys):
    old, new = (pack(tmp_path / name, a=name, b="same") for name in ("old", "new"))
    pyz = tmp_path / "agproxy.pyz"
    pyz.write_bytes(old)
    monkeypatch.setattr(audit, "ROOT", tmp_path)

    monkeypatch.setattr(audit, "build_apart", lambda seed: new)
    assert audit.print_zipapp(pyz) == (
        ["agproxy.pyz is not this source: a differs; `make zipapp` builds it anew"],
        hashlib.sha256(old).hexdigest(),
    )
    monkeypatch.setattr(audit, "build_apart", {"0": old, "1": new}.__getitem__)
    assert audit.print_zipapp(pyz)[0] == ["two builds differ: a differs"]
    assert "! two builds differ: a differs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"evil": b"x"}, ["evil is not of the source"]),
        ({"a": b"2"}, ["a differs"]),
        ({"a": None}, ["a is missing"]),
        ({}, []),
    ],
)
def test_what_differs_in_a_zipapp_is_told_by_name(tmp_path, change, said):
    entries = {"a": b"1", "b": b"1"}
    changed = {name: data for name, data in (entries | change).items() if data is not None}
    expected = pack(tmp_path / "expected", **entries)

    assert audit.compare(pack(tmp_path / "changed", **changed), expected) == said
    assert audit.compare(b"#! " + expected, expected) == ["it differs around its entries"]
    assert audit.compare(b"no zip", expected) == ["it is no zip file"]
