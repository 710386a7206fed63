"""The Makefile and .ci/run, as far as they decide something: what is missing is told in one line, failures count."""

import os
import shutil
import subprocess
import sys

import pytest
from running import ROOT

MAKE = shutil.which("make")
pytestmark = pytest.mark.skipif(MAKE is None, reason="no make here")


@pytest.fixture
def clone(tmp_path):
    """The files that make reads, without a virtual environment."""
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    return tmp_path


def script(file, text):
    file.write_text("#!/bin/sh\n" + text)
    file.chmod(0o755)
    return file


def run(*command, cwd, **environ):
    return subprocess.run(
        [*command],
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "HOME": str(cwd)} | environ,
        capture_output=True,
        text=True,
        timeout=60,
    )


def complaint(done):
    """What was said before make's own closing line."""
    assert done.returncode != 0
    first, last = done.stderr.strip().splitlines()
    assert last.startswith("make")
    return first


@pytest.mark.parametrize("target", ["run", "test"])
def test_a_python_without_venv_or_pip_is_told_what_to_install(clone, target):
    python = script(clone / "python", f'case "$*" in *ensurepip*) exit 1;; esac\nexec {sys.executable} "$@"\n')
    line = complaint(run(MAKE, target, f"PYTHON={python}", cwd=clone))

    assert "apt install python3-venv python3-pip" in line
    assert not (clone / ".venv").exists()


def test_a_python_that_is_too_old_is_told_how_to_name_another(clone):
    python = script(clone / "python", 'case "$*" in *version_info*) exit 1;; esac\n')

    assert "PYTHON=python3.12" in complaint(run(MAKE, "run", f"PYTHON={python}", cwd=clone))


def test_no_python_at_all_is_told(clone):
    assert "3.11 or newer" in complaint(run(MAKE, "run", "PYTHON=no-such-python", cwd=clone))


def test_an_installation_that_fails_says_what_it_wanted(clone):
    """pip of a made-up virtual environment fails, as without a network."""
    (clone / ".venv" / "bin").mkdir(parents=True)
    script(clone / ".venv" / "bin" / "python", 'case "$*" in *pip*) exit 1;; esac\n')

    assert "PIP_INDEX_URL" in complaint(run(MAKE, "run", cwd=clone))


def test_help_names_every_target_that_people_type(clone):
    told = run(MAKE, "help", cwd=clone).stdout

    for target in ("run", "test", "lint", "types", "cov", "docs", "zipapp", "audit", "clean"):
        assert f"{target}\t" in told


# --- .ci/run ---------------------------------------------------------------------------------------------------

CLOSING = "3 passed, 1 skipped in 0.50s"


@pytest.mark.parametrize(
    ("failing", "is_good"),
    [("none", True), ("test", False), ("lint", False), ("types", False), (".venv/dev", True)],
)
def test_the_whole_check_fails_where_any_part_does_and_closes_with_pytests_line(clone, failing, is_good):
    """A `make` that plays its part: it prints what pytest would, and fails at one target."""
    (clone / "bin").mkdir()
    lines = f'case "$1" in test) echo "..."; echo "{CLOSING}";; esac\n[ "$1" != {failing} ] || exit 2\n'
    script(clone / "bin" / "make", lines)
    done = run("bash", ".ci/run", cwd=clone, PATH=f"{clone / 'bin'}:{os.environ['PATH']}")

    assert (done.returncode == 0) is is_good
    assert done.stdout.splitlines()[-1] == CLOSING
    assert ("not checked" in done.stdout) is (failing == ".venv/dev")


def test_a_check_whose_tests_never_ran_is_no_success(clone):
    (clone / "bin").mkdir()
    script(clone / "bin" / "make", "exit 0\n")
    done = run("bash", ".ci/run", cwd=clone, PATH=f"{clone / 'bin'}:{os.environ['PATH']}")

    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "the tests did not run"
