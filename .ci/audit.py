"""What somebody who must answer for agproxy wants to know, read from the source and from what is built of it.

    python .ci/audit.py [--wheels]

Prints lines per layer, who touches the world and how, imports from outside the standard library, hosts that are named,
hashes of what is bundled; writes a bill of materials to dist/agproxy.cdx.json (CycloneDX 1.6); verifies
dist/agproxy.pyz against the source, and that building it twice gives the same bytes. --wheels has pip fetch the wheels
and compares them too. Exit status 1 where anything is not as it should be; those lines begin with `!`.
"""

import argparse
import ast
import base64
import csv
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import tokenize
import uuid
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CI = Path(__file__).resolve().parent
ROOT = CI.parent
PACKAGE = ROOT / "agproxy"
PYZ = ROOT / "dist" / "agproxy.pyz"
SBOM = ROOT / "dist" / "agproxy.cdx.json"

# Who may touch the world: the rows of the map for that, and what else does with the reason.
WORLDLY = ("io/", "cli/", "embed.py", "egress.py", "__main__.py")
EXCEPTIONS = {"simulator/replay.py": "the simulator's --replay reads recorded answers from a folder of the user's"}
# Modules by which a program reaches files, sockets and other programs. `asyncio` is judged by its calls.
WORLD_MODULES = {
    "socket", "ssl", "select", "selectors", "subprocess", "multiprocessing", "sqlite3", "shutil", "tempfile", "ctypes",
    "webbrowser", "getpass", "http.client", "http.server", "urllib.request", "socketserver", "mmap", "fcntl", "msvcrt",
}  # fmt: skip
# Calls by which it reaches them; of os all but those below.
WORLD_CALLS = {
    "read_text", "read_bytes", "write_text", "write_bytes", "unlink", "mkdir", "rmdir", "rename", "chmod", "touch",
    "iterdir", "rglob", "open_connection", "open_unix_connection", "create_connection", "start_server",
    "create_server", "create_datagram_endpoint", "create_subprocess_exec", "create_subprocess_shell", "sock_connect",
    "sock_accept", "getaddrinfo", "urlopen",
}  # fmt: skip
HARMLESS_OF_OS = {"urandom", "getpid", "strerror", "fspath", "isabs", "basename"}
THIRD_PARTY = {"h11": "runtime", "certifi": "runtime", "cryptography": "extra service-account, loaded when needed"}
_HOST = re.compile(
    r"https?://[^\s\"'<>)\]]+"
    r"|(?<![\w@./-])(?:[a-z0-9{}-]+\.)+(?:com|org|net|dev|io|ai|app|internal|google|goog|local|localhost)(?![\w(=.-])"
)
_HASHED = re.compile(r"^([\w-]+)==(\S+) --hash=sha256:([0-9a-f]{64})$", re.MULTILINE)


def load(name: str) -> Any:
    """A script beside this one, as a module; .ci is no package."""
    spec = importlib.util.spec_from_file_location(name, CI / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


build_zipapp = load("build_zipapp")


@dataclass(frozen=True)
class Source:
    """A module. name: below agproxy, as in io/dial.py."""

    name: str
    text: str
    tree: ast.Module


def sources(package: Path = PACKAGE) -> list[Source]:
    files = [(file, file.read_text("utf-8")) for file in sorted(package.rglob("*.py"))]
    return [Source(file.relative_to(package).as_posix(), text, ast.parse(text)) for file, text in files]


# --- lines -----------------------------------------------------------------------------------------------------


def rows(docstring: str) -> list[list[str]]:
    """The map in agproxy's docstring: the members of each row, as `io/*` or `config`."""
    found: list[list[str]] = []
    for line in docstring.splitlines():
        match = re.fullmatch(r" {4}( {2})?([a-z0-9_/*]+(?:, [a-z0-9_/*]+)*),?(?: {2,}\S.*)?", line)
        if match and match[1]:  # a row too long for one line goes on in the next, which stands further in
            found[-1] += match[2].split(", ")
        elif match:
            found.append(match[2].split(", "))
    return found


def row_of(name: str, the_map: list[list[str]]) -> str:
    """The row of a module, by its first member; "" for what stands outside."""
    path = name.removesuffix(".py").removesuffix("/__init__")
    for members in the_map:
        if any(path == m or (m.endswith("/*") and f"{path}/".startswith(m[:-1])) for m in members):
            return ", ".join(members[:4]) + (" ..." if len(members) > 4 else "")
    return "agproxy itself"


def count_lines(source: Source) -> tuple[int, int, int]:
    """Lines of code, of comments and docstrings, blank ones."""
    lines = source.text.splitlines()
    blank = {number for number, line in enumerate(lines, 1) if not line.strip()}
    comments: set[int] = set()
    for token in tokenize.generate_tokens(iter(source.text.splitlines(keepends=True)).__next__):
        if token.type == tokenize.COMMENT and lines[token.start[0] - 1].lstrip().startswith("#"):
            comments.add(token.start[0])
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if first is not None and isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                comments |= set(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    comments -= blank
    return len(lines) - len(blank) - len(comments), len(comments), len(blank)


def print_lines(modules: list[Source]) -> None:
    the_map = rows(ast.get_docstring(ast.parse((PACKAGE / "__init__.py").read_text("utf-8"))) or "")
    sums: dict[str, list[int]] = {}
    for source in modules:
        row = sums.setdefault(row_of(source.name, the_map), [0, 0, 0, 0])
        for place, number in enumerate((1, *count_lines(source))):
            row[place] += number
    order = [row_of(members[0].replace("/*", "/__init__") + ".py", the_map) for members in the_map]
    print(f"{'layer':<52} {'files':>6} {'code':>7} {'comment':>8} {'blank':>6}")
    for name in sorted(sums, key=lambda name: order.index(name) if name in order else -1):
        print("{:<52} {:>6} {:>7} {:>8} {:>6}".format(name, *sums[name]))
    print("{:<52} {:>6} {:>7} {:>8} {:>6}".format("all", *(sum(row[i] for row in sums.values()) for i in range(4))))


# --- who touches the world, and what is imported ---------------------------------------------------------------


def imported(tree: ast.AST) -> Iterator[str]:
    """Modules of others' that are imported, by their dotted names; those that are loaded by name too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module") and node.args:
            text = node.args[0].values[0] if isinstance(node.args[0], ast.JoinedStr) else node.args[0]
            if isinstance(text, ast.Constant) and isinstance(text.value, str) and not text.value.startswith("."):
                yield text.value.rstrip(".")


def touches(tree: ast.AST) -> list[str]:
    """By which modules and calls a module reaches the world."""
    found = WORLD_MODULES & {part for name in imported(tree) for part in (name, name.split(".")[0])}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        owner, _, name = ast.unparse(node.func).rpartition(".")
        is_of_os = owner in ("os", "os.path") and name not in HARMLESS_OF_OS
        is_open = name == "open" and (owner in ("", "io", "webbrowser") or "Path(" in owner)
        if is_of_os or is_open or (name in WORLD_CALLS and owner not in ("self", "cls")):
            found.add(f"{'os.' if is_of_os else ''}{name}()")
    return sorted(found)


def print_world(modules: list[Source]) -> list[str]:
    faults = []
    for source in modules:
        found = touches(source.tree)
        if not found:
            continue
        reason = EXCEPTIONS.get(source.name, "")
        is_allowed = source.name.startswith(WORLDLY) or bool(reason)
        by = ", ".join(found) + (f" ({reason})" if reason else "")
        print(f"{'' if is_allowed else '! '}agproxy/{source.name:<24} {by}")
        if not is_allowed:
            faults.append(f"agproxy/{source.name} touches the world: {', '.join(found)}")
    return faults


def print_imports(modules: list[Source]) -> list[str]:
    faults = []
    users: dict[str, list[str]] = {}
    for source in modules:
        for name in sorted({name.split(".")[0] for name in imported(source.tree)} - sys.stdlib_module_names):
            users.setdefault(name, []).append(source.name)
    for name, files in sorted(users.items()):
        mark, what = ("", THIRD_PARTY[name]) if name in THIRD_PARTY else ("! ", "unknown")
        print(f"{mark}{name:<14} {what}: {', '.join(files)}")
        if name not in THIRD_PARTY:
            faults.append(f"{name} is imported by {', '.join(files)}")
    return faults


# --- hosts -----------------------------------------------------------------------------------------------------


def hosts(source: Source) -> dict[str, list[int]]:
    """Hosts and URLs in the text of a module, not in its docstrings, each with its lines."""
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    within = {id(part) for node in ast.walk(source.tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    found: dict[str, list[int]] = {}
    for node in ast.walk(source.tree):
        if id(node) in docstrings or id(node) in within:
            continue
        text = ""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        elif isinstance(node, ast.JoinedStr):
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        for match in _HOST.findall(text):
            name = match.rstrip(".,:;/")
            if name not in ("http", "https"):  # a scheme alone
                found.setdefault(name, []).append(node.lineno)
    return found


def print_hosts(modules: list[Source]) -> None:
    places: dict[str, list[str]] = {}
    for source in modules:
        for name, lines in hosts(source).items():
            places.setdefault(name, []).extend(f"agproxy/{source.name}:{line}" for line in dict.fromkeys(lines))
    for name, where in sorted(places.items()):
        print(f"{name:<58} {', '.join(where[:4])}{f' and {len(where) - 4} more' if len(where) > 4 else ''}")


# --- what is bundled -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """A package in the zipapp. wheel: the sha256 of its wheel, "" where that is not known. faults: files that are not
    as its own RECORD has them."""

    name: str
    version: str
    licence: str
    wheel: str
    faults: tuple[str, ...]


def parts() -> list[Part]:
    pinned = {name: (version, digest) for name, version, digest in _HASHED.findall((CI / "bundled.txt").read_text())}
    found = []
    for name in build_zipapp.PARTS:
        distribution = importlib.metadata.distribution(name)
        told = distribution.metadata
        licence = told.get("License-Expression") or told.get("License") or "unknown"
        version, digest = pinned.get(name, ("", ""))
        known = digest if version == distribution.version else ""
        found.append(Part(name, distribution.version, licence, known, tuple(_not_as_recorded(distribution))))
    return found


def _not_as_recorded(distribution: importlib.metadata.Distribution) -> Iterator[str]:
    recorded = {row[0]: row[1] for row in csv.reader((distribution.read_text("RECORD") or "").splitlines())}
    name = distribution.metadata["Name"]
    for entry, data in build_zipapp.sources().items():
        if entry.startswith(f"{name}/"):
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            if recorded.get(entry) != f"sha256={digest}":
                yield entry


def print_parts(found: list[Part], *, has_wheels: bool) -> list[str]:
    faults = [f"{part.name}: {file} is not as its RECORD has it" for part in found for file in part.faults]
    for part in found:
        wheel = f"wheel sha256 {part.wheel}" if part.wheel else "not the version of .ci/bundled.txt: hash not known"
        files = "! files differ from RECORD" if part.faults else "files as in RECORD"
        print(f"{part.name:<10} {part.version:<12} {part.licence:<8} {wheel}; {files}")
    if has_wheels:
        faults += _compare_wheels()
    return faults


def _compare_wheels() -> list[str]:
    """Fetch the wheels of .ci/bundled.txt, which pip holds to their hashes, and compare what is bundled with them."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "-q",
            "--disable-pip-version-check",
            "--no-deps",
            "-d",
            folder,
        ]
        done = subprocess.run([*command, "--require-hashes", "-r", str(CI / "bundled.txt")], check=False)
        if done.returncode != 0:
            return ["the wheels could not be fetched"]
        inside: dict[str, bytes] = {}
        for file in Path(folder).glob("*.whl"):
            with zipfile.ZipFile(file) as wheel:
                inside |= {name: wheel.read(name) for name in wheel.namelist()}
    entries = build_zipapp.sources()
    names = [name for name in entries if name.split("/")[0] in build_zipapp.PARTS]
    faults = [f"{name} is not as in the wheel" for name in names if inside.get(name) != entries[name]]
    print(f"{'! ' if faults else ''}wheels: {len(names) - len(faults)} of {len(names)} files are those of the wheels")
    return faults


def bill(found: list[Part], version: str, digest: str) -> dict[str, Any]:
    """The bill of materials (CycloneDX 1.6). The same parts and zipapp give the same bill."""

    def component(kind: str, name: str, its_version: str, licence: str, sha256: str) -> dict[str, Any]:
        purl = f"pkg:pypi/{name}@{its_version}"
        one: dict[str, Any] = {"type": kind, "bom-ref": purl, "name": name, "version": its_version, "purl": purl}
        one["licenses"] = [{"license": {"id": licence}}]
        if sha256:
            one["hashes"] = [{"alg": "SHA-256", "content": sha256}]
        return one

    own = component("application", "agproxy", version, "MIT", digest)
    libraries = [component("library", p.name, p.version, p.licence, "" if p.faults else p.wheel) for p in found]
    refs = [library["bom-ref"] for library in libraries]
    name = json.dumps([own, libraries], sort_keys=True)
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, name)}",
        "version": 1,
        "metadata": {"component": own},
        "components": libraries,
        "dependencies": [{"ref": own["bom-ref"], "dependsOn": refs}, *({"ref": ref} for ref in refs)],
    }


# --- the zipapp ------------------------------------------------------------------------------------------------


def compare(archive: bytes, expected: bytes) -> list[str]:
    """What differs between a zipapp and the one that is to be, entry by entry."""
    if archive == expected:
        return []
    try:
        told = _entries(archive)
    except zipfile.BadZipFile:
        return ["it is no zip file"]
    wanted = _entries(expected)
    faults = [f"{name} is not of the source" for name in sorted(told.keys() - wanted.keys())]
    faults += [f"{name} is missing" for name in sorted(wanted.keys() - told.keys())]
    faults += [f"{name} differs" for name in sorted(told.keys() & wanted.keys()) if told[name] != wanted[name]]
    return faults or ["it differs around its entries"]


def _entries(archive: bytes) -> dict[str, bytes]:
    with tempfile.TemporaryFile() as file:
        file.write(archive)
        with zipfile.ZipFile(file) as opened:
            return {name: opened.read(name) for name in opened.namelist()}


def build_apart(seed: str) -> bytes:
    """A build in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "agproxy.pyz"
        command = [sys.executable, str(CI / "build_zipapp.py"), str(target)]
        environ = os.environ | {"PYTHONHASHSEED": seed, "TZ": "UTC" if seed == "0" else "Asia/Tokyo"}
        subprocess.run(command, check=True, capture_output=True, env=environ)
        return target.read_bytes()


def print_zipapp(pyz: Path) -> tuple[list[str], str]:
    """Verify it; (what is wrong, its sha256)."""
    first, second = build_apart("0"), build_apart("1")
    faults = [] if first == second else ["two builds differ: " + ", ".join(compare(first, second)[:5])]
    print("two builds give the same bytes" if not faults else f"! {faults[0]}")
    if not pyz.exists():
        pyz.parent.mkdir(parents=True, exist_ok=True)
        pyz.write_bytes(first)
        pyz.chmod(0o755)
        print(f"{pyz.relative_to(ROOT)} was not there: built")
    data = pyz.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    different = compare(data, first)
    print(f"{digest}  {pyz.relative_to(ROOT)}, {len(data)} bytes")
    if different:
        faults.append(f"{pyz.name} is not this source: {', '.join(different[:5])}; `make zipapp` builds it anew")
        print(f"! {faults[-1]}")
    else:
        print(
            f"each of its {len(_entries(data))} files is that of the source, of h11 or of certifi, or compiled from it"
        )
    return faults, digest


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="audit", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--wheels", action="store_true", help="fetch the wheels by pip, and compare")
    options = parser.parse_args(arguments)
    modules = sources()
    version = next(re.finditer(r'__version__ = "(.+)"', (PACKAGE / "__init__.py").read_text("utf-8")))[1]
    print(f"agproxy {version}\n\n--- lines, by the map in agproxy/__init__.py\n")
    print_lines(modules)
    print("\n--- files that touch the world, and by what\n")
    faults = print_world(modules)
    print("\n--- imports from outside the standard library\n")
    faults += print_imports(modules)
    print("\n--- hosts and URLs in the code (what a configuration connects to: agproxy config --egress)\n")
    print_hosts(modules)
    print("\n--- bundled in the zipapp\n")
    found = parts()
    faults += print_parts(found, has_wheels=options.wheels)
    print("\n--- the zipapp\n")
    wrong, digest = print_zipapp(PYZ)
    faults += wrong
    SBOM.write_text(json.dumps(bill(found, version, digest), indent=2) + "\n", encoding="utf-8")
    print(f"\nbill of materials: {SBOM.relative_to(ROOT)}")
    print(f"\n{len(faults)} faults" if faults else "\nnothing wrong")
    for fault in faults:
        print(f"! {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
