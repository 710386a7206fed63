"""The map in agproxy's docstring holds: each module imports only what stands above it, and pure code stays pure.

Read with `ast`, imports within functions and under TYPE_CHECKING too, so that nothing needs to be importable.
"""

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "agproxy"

# The rows of the map by what stands in them, each with the rows it may import from.
ROWS = {
    "errors": (),
    "config": ("errors",),
    "frontends/*": ("errors",),
    "simulator/*": ("errors",),
    "gateway": ("errors", "config", "frontends/*"),
    "io/*": ("errors", "config"),
    "embed": ("errors", "config", "frontends/*", "simulator/*", "gateway", "io/*"),
    "cli/*": ("errors", "config", "frontends/*", "simulator/*", "gateway", "io/*", "embed"),
}
# Values rest on these, not on each other.
FOUNDATION = ("errors", "jsontext", "values")

# What reaches the world, or says something else each time it is asked.
WORLD = {
    "asyncio", "socket", "ssl", "os", "time", "random", "secrets", "pathlib", "logging", "h11", "certifi",
    "select", "selectors", "signal", "subprocess", "threading", "multiprocessing", "concurrent", "tempfile", "shutil",
    "sqlite3", "sys", "uuid", "http", "urllib.request", "contextvars", "getpass", "io",
}  # fmt: skip
VALUES = {"base64", "binascii", "collections", "dataclasses", "enum", "json", "math", "re", "typing"}
# Exceptions to WORLD: a module, or a row of the map -> what it may have of it.
ALLOWED = {
    "simulator/app": {"asyncio", "pathlib"},
    "simulator/replay": {"pathlib"},
    "gateway": {"asyncio", "logging", "random"},
}
FREE_ROWS = ("io/*", "embed", "cli/*")
THIRD_PARTY = {"h11", "certifi"}
# What serves one kind of account only: loaded where it is needed, and its absence is told.
EXTRAS = {"cryptography"}


@dataclass(frozen=True)
class Import:
    """One import: by whom, of what, and where. ours: the module's path below agproxy, or None for others' names.

    is_for_types: it stands under TYPE_CHECKING, so that nothing is loaded. is_late: within a function, so that it is
    loaded when that runs.
    """

    by: str
    ours: str | None
    other: str
    line: int
    is_for_types: bool = False
    is_late: bool = False

    def __str__(self) -> str:
        return f"agproxy/{self.by}:{self.line} imports {self.ours or self.other}"


def modules() -> dict[str, Path]:
    """Name below agproxy -> file; a package goes by the name of its folder."""
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        name = file.relative_to(PACKAGE).with_suffix("").as_posix()
        found[name.removesuffix("/__init__") if name != "__init__" else ""] = file
    return found


MODULES = modules()


def imports_of(name: str, file: Path, text: str | None = None) -> Iterator[Import]:
    package = name.split("/") if file.name == "__init__.py" and name else name.split("/")[:-1]
    tree = ast.parse(text if text is not None else file.read_text("utf-8"))
    guarded = [
        node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    ]
    for_types = {inner for node in guarded for statement in node.body for inner in ast.walk(statement)}
    functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    late = {inner for node in functions for inner in ast.walk(node)}
    for node in ast.walk(tree):
        dotted: list[str] = []
        if isinstance(node, ast.Import):
            dotted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ["agproxy", *package[: len(package) - node.level + 1]] if node.level else []
            base += node.module.split(".") if node.module else []
            dotted = [".".join([*base, alias.name] if base[0] == "agproxy" else base) for alias in node.names]
        for one in dotted:
            root, *rest = one.split(".")
            ours = _module("/".join(rest)) if root == "agproxy" else None
            yield Import(name, ours, "" if root == "agproxy" else one, node.lineno, node in for_types, node in late)


def _module(path: str) -> str:
    """The module that a path leads to: a name within a module leads to the module."""
    while path not in MODULES:
        path = path.rpartition("/")[0]
    return path


def the_map() -> dict[str, list[str]]:
    """The rows of the docstring, by the key of ROWS that each holds."""
    docstring = ast.get_docstring(ast.parse((PACKAGE / "__init__.py").read_text("utf-8")))
    assert docstring is not None
    rows: list[list[str]] = []
    for line in docstring.splitlines():
        match = re.fullmatch(r" {4}( {2})?([a-z0-9_/*]+(?:, [a-z0-9_/*]+)*),?(?: {2,}\S.*)?", line)
        if match is None:
            continue
        if not match[1]:  # a row too long for one line goes on in the next, which stands further in
            rows.append([])
        rows[-1] += match[2].split(", ")
    return {next((key for key in ROWS if key in members), members[0]): members for members in rows}


MAP = the_map()


def row_of(name: str) -> str | None:
    """The key of ROWS for a module; None where the map has none for it."""
    for key, members in MAP.items():
        if any(name == member or (member.endswith("/*") and f"{name}/".startswith(member[:-1])) for member in members):
            return key
    return None


# agproxy itself and `python -m agproxy` stand outside the map: they are how one comes in.
ALL = [one for name, file in MODULES.items() if name not in ("", "__main__") for one in imports_of(name, file)]
INNER = [one for one in ALL if one.ours]


def test_the_map_has_the_rows_that_are_held_here_in_their_order():
    assert list(MAP) == list(ROWS)


@pytest.mark.parametrize("name", [name for name in MODULES if name not in ("", "__main__")])
def test_each_module_has_its_place_in_the_map(name):
    assert row_of(name), f"agproxy/{name} has no place in the map of agproxy/__init__.py: give it one"


def test_nothing_in_the_map_has_gone():
    for member in (member for members in MAP.values() for member in members):
        assert member.removesuffix("/*") in MODULES, member


def test_modules_import_only_from_the_rows_above_their_own():
    wrong = []
    for one in INNER:
        mine, other = row_of(one.by), row_of(one.ours)
        if mine is None or other is None:
            continue  # told above
        is_own = mine == other and (not mine.endswith("/*") or one.by.split("/")[0] == one.ours.split("/")[0])
        if not is_own and other not in ROWS[mine]:
            wrong.append(str(one))
    assert wrong == []


def test_modules_of_a_row_never_import_each_other_in_a_circle():
    needs = {name: {one.ours for one in INNER if one.by == name and not one.is_for_types} for name in MODULES}
    rows = {name: row for name in MODULES if (row := row_of(name)) is not None}
    while True:  # take away what needs nothing that is left, until nothing is left to take
        done = [name for name, row in rows.items() if not any(rows.get(n) == row for n in needs[name] - {name})]
        if not done:
            break
        for name in done:
            del rows[name]
    packages = ("frontends", "backends", "simulator", "io", "cli")  # their __init__ and their modules need each other
    assert sorted(name for name in rows if name.split("/")[0] not in packages) == []


def test_values_rest_on_errors_and_json_text_and_on_the_standard_library_s_values():
    row = MAP["errors"]
    wrong = [one for one in INNER if one.by in row and (one.ours not in FOUNDATION or one.by in FOUNDATION)]
    others = [one for one in ALL if one.by in row and one.ours is None and one.other.split(".")[0] not in VALUES]

    assert [str(one) for one in wrong + others] == []


def test_codecs_never_import_each_other():
    """What they share stands in a file with an underscore; a package's own `__init__` is its contract and registry."""
    wrong = []
    for one in INNER:
        side, _, codec = one.by.partition("/")
        if side not in ("frontends", "backends") or not codec:
            continue
        mine, other = codec.split("/")[0], one.ours.partition("/")[2].split("/")[0]
        if one.ours.startswith(side + "/") and other != mine and not other.startswith("_"):
            wrong.append(str(one))
        if mine.startswith("_") and one.ours.startswith(side + "/") and not other.startswith("_"):
            wrong.append(str(one))
    assert wrong == []


def is_of_the_world(dotted: str) -> bool:
    return dotted in WORLD or dotted.split(".")[0] in WORLD


def test_pure_code_has_no_clock_no_chance_no_sockets_and_no_files():
    wrong, used = [], set()
    for one in ALL:
        row, root = row_of(one.by), one.other.split(".")[0]
        if one.ours is not None or row is None or not is_of_the_world(one.other):
            continue
        by = one.by if one.by in ALLOWED and row != "gateway" else row
        if row not in FREE_ROWS and root not in ALLOWED.get(by, ()):
            wrong.append(str(one))
        used.add((by, root))

    assert wrong == []
    assert {(by, name) for by, names in ALLOWED.items() for name in names} <= used, "an exception that nobody needs"


def test_only_two_packages_are_needed_and_only_by_what_touches_the_world():
    foreign = [one for one in ALL if one.ours is None and one.other.split(".")[0] not in sys.stdlib_module_names]

    assert {one.other.split(".")[0] for one in foreign if not one.is_late} == THIRD_PARTY
    assert {one.other.split(".")[0] for one in foreign} <= THIRD_PARTY | EXTRAS
    assert {one.by.split("/")[0] for one in foreign} <= {"io", "cli"}


@pytest.mark.parametrize(
    ("by", "text", "expected"),
    [
        ("config", "from . import jsontext", ["jsontext"]),
        ("config", "from .errors import ConfigError", ["errors"]),
        ("backends/gemini/encode", "from ... import jsontext, sse", ["jsontext", "sse"]),
        ("backends/gemini/encode", "from . import models", ["backends/gemini/models"]),
        ("backends/gemini/encode", "from .names import NameMap", ["backends/gemini/names"]),
        ("frontends/openai_chat/answer", "from .. import _fields", ["frontends/_fields"]),
        ("frontends/openai_chat/answer", "from .._fields import check", ["frontends/_fields"]),
        ("gateway", "from . import __version__", [""]),
        ("gateway", "import agproxy.io.server", ["io/server"]),
        ("gateway", "from agproxy.io import server", ["io/server"]),
        ("gateway", "def f():\n  if x:\n    from .io.server import Server", ["io/server"]),
    ],
)
def test_imports_are_read_as_python_reads_them(by, text, expected):
    assert [one.ours for one in imports_of(by, Path("x.py"), text)] == expected


def test_a_package_imports_from_its_own_folder():
    assert [
        one.ours
        for one in imports_of("backends/gemini", Path("__init__.py"), "from .. import Target\nfrom .encode import x")
    ] == [
        "backends",
        "backends/gemini/encode",
    ]
