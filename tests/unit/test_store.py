"""The accounts file on a real disk: permissions, links, locks, broken files, and writers killed at any moment.

What must happen in a process of its own is in the functions below `__main__`'s table; the tests start this file with
their names.
"""

import contextlib
import json
import os
import random
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from agproxy import accounts
from agproxy.accounts import Document
from agproxy.errors import ConfigError
from agproxy.io import files as files_module
from agproxy.io import store as store_module
from agproxy.io.store import AccountStore

ROOT = Path(__file__).resolve().parents[2]
KEY = "AIzaSyExample-0123456789abcdefghijklmn3f9k"
posix = pytest.mark.skipif(os.name != "posix", reason="permissions, signals and fork are POSIX")


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def warned():
    return []


@pytest.fixture
def store(home, warned):
    return AccountStore(home, warned.append)


def adding(key, label=None):
    return lambda document: accounts.add(document, key, label=label)


def mode(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


def labels(document):
    return {record.label for record in document.accounts}


@contextlib.contextmanager
def umask(bits):
    before = os.umask(bits)
    try:
        yield
    finally:
        os.umask(before)


# --- reading and writing


def test_without_a_file_there_are_no_accounts_and_none_is_made(store, home):
    assert store.load() == Document()
    assert store.stamp() is None
    assert not home.exists()


def test_what_is_written_is_read_by_others(store, home, warned):
    before, after = store.update(adding(KEY, "one"))

    assert (before, labels(after)) == (Document(), {"one"})
    assert AccountStore(home, warned.append).load() == after
    assert sorted(os.listdir(home)) == ["accounts.json", "accounts.json.lock"]
    assert warned == []


@posix
@pytest.mark.parametrize("bits", [0, 0o022, 0o777])
def test_folder_and_files_are_closed_to_others_whatever_the_umask(store, home, bits):
    with umask(bits):
        store.update(adding(KEY))
        store.update(adding("second"))

    assert mode(home) == 0o700
    assert {name: mode(home / name) for name in os.listdir(home)} == {
        "accounts.json": 0o600,
        "accounts.json.lock": 0o600,
    }


@posix
def test_permissions_that_are_too_open_are_repaired_and_told(store, home, warned):
    store.update(adding(KEY))
    home.chmod(0o755)
    store.file.chmod(0o644)

    store.load()
    assert mode(store.file) == 0o600
    assert len(warned) == 1
    assert "could read it (mode 0644)" in warned[0]
    assert "now only its owner can" in warned[0]
    store.update(adding("second"))
    assert mode(home) == 0o700
    assert "can look into this folder (mode 0755)" in warned[1]
    store.load()
    assert len(warned) == 2


@posix
@pytest.mark.parametrize(("bits", "other"), [(0o755, "my-thesis.tex"), (0o1777, None), (0o2775, None)])
def test_a_folder_that_is_not_agproxys_alone_is_left_as_it_is(store, home, warned, bits, other):
    home.mkdir()
    if other is not None:
        (home / other).write_text("...")
    home.chmod(bits)

    store.update(adding(KEY))
    assert mode(home) == bits
    assert mode(store.file) == 0o600
    assert "it is not agproxy's alone, so it was left" in warned[0]


@posix
@pytest.mark.skipif(os.name == "posix" and os.geteuid() != 0, reason="only root can write for others")
def test_what_root_writes_belongs_to_the_folders_owner(store, home):
    home.mkdir(mode=0o700)
    os.chown(home, 12345, 12345)

    store.update(adding(KEY))
    assert {(os.stat(home / name).st_uid, mode(home / name)) for name in os.listdir(home)} == {(12345, 0o600)}


def test_a_change_that_changes_nothing_writes_nothing(store):
    store.update(adding(KEY))
    stamp = store.stamp()

    store.update(adding(KEY))
    assert store.stamp() == stamp


def test_a_change_that_fails_leaves_the_file_and_frees_the_lock(store, home):
    store.update(adding(KEY))

    def fail(document):
        raise ConfigError("no such account")

    with pytest.raises(ConfigError, match="no such account"):
        store.update(fail)
    assert len(store.load().accounts) == 1
    assert sorted(os.listdir(home)) == ["accounts.json", "accounts.json.lock"]
    store.update(adding("second"))


def test_every_change_has_a_stamp_of_its_own_though_the_clock_stands_still(store):
    store.update(adding(KEY, "0"))
    future = time.time_ns() + 3600 * 10**9
    os.utime(store.file, ns=(future, future))
    stamps = [store.stamp()]

    for number in range(1, 6):
        store.update(adding(KEY, str(number)))
        stamps.append(store.stamp())
    assert [seen[0] for seen in stamps] == sorted({seen[0] for seen in stamps})


# --- links


@pytest.fixture
def linked(home, tmp_path):
    """accounts.json as a link into another folder, where the file is."""
    target = tmp_path / "vault" / "keys.json"
    target.parent.mkdir()
    home.mkdir(mode=0o700)
    try:
        (home / "accounts.json").symlink_to(target)
    except OSError:
        pytest.skip("this system lets nobody make links")
    return target


def test_a_link_stays_and_its_target_is_replaced(store, linked, warned):
    linked.write_bytes(accounts.encode(Document()))
    linked.chmod(0o600)

    store.update(adding(KEY))
    assert store.file.is_symlink()
    assert sorted(os.listdir(linked.parent)) == ["keys.json", "keys.json.lock"]
    assert len(accounts.decode(linked.read_bytes()).accounts) == len(store.load().accounts) == 1
    assert warned == []


def test_a_link_to_nothing_is_no_empty_store(store, linked):
    for act in (
        store.load,
        lambda: store.update(adding(KEY)),
        lambda: store.update(adding(KEY), replaces_unusable=True),
    ):
        with pytest.raises(ConfigError, match=r"a link to .*keys\.json, which is not there"):
            act()
    assert os.listdir(linked.parent) == []


# --- files that cannot be used

BROKEN = b'{"version": 1, "accounts": [{"secret": {"api_key": "%s"' % KEY.encode()


@pytest.fixture
def broken(home):
    home.mkdir(mode=0o700)
    file = home / "accounts.json"
    file.write_bytes(BROKEN)
    file.chmod(0o600)
    return file


def test_a_broken_file_is_refused_with_its_place_and_left_alone(store, broken, home):
    for act in (store.load, lambda: store.update(adding(KEY))):
        with pytest.raises(
            ConfigError, match=r"accounts\.json: not an accounts file: not JSON: .*line 1 column"
        ) as caught:
            act()
        assert KEY not in str(caught.value)
    assert broken.read_bytes() == BROKEN
    assert not [name for name in os.listdir(home) if "corrupt" in name]


def test_a_writer_that_may_begin_anew_keeps_the_broken_file(store, broken, home, warned, monkeypatch):
    monkeypatch.setattr(files_module.time, "gmtime", lambda: time.struct_time((2026, 1, 2, 3, 4, 5, 4, 2, 0)))
    names = ["accounts.json.corrupt-20260102T030405Z", "accounts.json.corrupt-20260102T030405Z-2"]

    for index, name in enumerate(names):
        broken.write_bytes(BROKEN + bytes([index]))
        before, after = store.update(adding(KEY, "new"), replaces_unusable=True)
        assert (before, labels(after), store.load()) == (Document(), {"new"}, after)
        assert (home / name).read_bytes() == BROKEN + bytes([index])
        assert f"It is kept as {home / name}, and a new one begins" in warned[-1]
        assert KEY not in warned[-1]
    assert (home / names[0]).read_bytes() == BROKEN + b"\0", "the first one is not overwritten"
    if os.name == "posix":
        assert {mode(home / name) for name in os.listdir(home)} == {0o600}


def test_a_file_of_a_newer_agproxy_is_never_touched(store, home):
    home.mkdir(mode=0o700)
    store.file.write_text('{"version": 2, "accounts": {}}')

    for act in (
        store.load,
        lambda: store.update(adding(KEY)),
        lambda: store.update(adding(KEY), replaces_unusable=True),
    ):
        with pytest.raises(ConfigError, match="version 2, and this agproxy knows 1: update agproxy"):
            act()
    assert store.file.read_text() == '{"version": 2, "accounts": {}}'


def test_what_the_system_refuses_is_told_with_the_file(tmp_path, warned):
    file = tmp_path / "file"
    file.write_text("not a folder")
    within = AccountStore(file, warned.append)
    below = AccountStore(file / "home", warned.append)
    folder = tmp_path / "other"
    (folder / "accounts.json").mkdir(parents=True)
    odd = AccountStore(folder, warned.append)

    for store in (within, below, odd):
        with pytest.raises(ConfigError, match=r"accounts\.json: cannot be read: "):
            store.load()
        with pytest.raises(ConfigError, match=r"accounts\.json: cannot be (written|read): "):
            store.update(adding(KEY))
    assert within.stamp() is None


@posix
def test_a_full_disk_leaves_the_old_file_whole(store, home):
    store.update(adding(KEY, "old"))

    told = run("fill", home)
    assert told == f"{store.file}: cannot be written: File too large"
    assert labels(store.load()) == {"old"}
    assert sorted(os.listdir(home)) == ["accounts.json", "accounts.json.lock"]


# --- several processes


def test_a_writer_waits_for_the_lock_and_names_its_holder(store, home, warned):
    process = start("hold", home)
    try:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match=rf"process {process.pid} has held .*accounts\.json\.lock for 0\.05 s"):
            AccountStore(home, warned.append, lock_seconds=0.05).update(adding("mine"))
        assert store.load() == Document(), "readers do not wait"
    finally:
        process.kill()
        process.communicate()
    store.update(adding("mine"))
    assert len(store.load().accounts) == 1, "a killed holder holds nothing"


@pytest.mark.parametrize("platform", ["", "win32", "darwin"])
def test_two_writers_lose_nothing_of_each_other_and_readers_always_see_a_whole_file(store, home, warned, platform):
    if platform and os.name != "posix":
        pytest.skip("the stand-ins for other systems are made of POSIX's")
    writers = [start("add", home, name, "100", platform) for name in ("left", "right")]
    over = threading.Event()
    counts = []

    def read():
        while not over.is_set():
            counts.append(len(store.load().accounts))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        ends = [writer.communicate(timeout=60) for writer in writers]
    finally:
        over.set()
        reader.join()
    assert [(writer.returncode, err) for writer, (_, err) in zip(writers, ends, strict=True)] == [(0, "")] * 2
    assert {record.key for record in store.load().accounts} == {
        f"{n}-{i}" for n in ("left", "right") for i in range(100)
    }
    assert counts == sorted(counts)
    assert warned == []


@posix
def test_a_store_whose_writers_are_killed_200_times_always_loads(store, home):
    told = json.loads(run("kill", home, "200", "8045"))

    assert told["kills"] == 200
    assert told["mid_write"] > 0, "no kill struck a write: the test shows nothing"
    store.update(adding(KEY, "after"))
    assert sorted(os.listdir(home)) == ["accounts.json", "accounts.json.lock"], "strays are removed"


@posix
def test_a_writer_killed_at_any_of_its_steps_leaves_the_old_file_or_the_new(home):
    told = json.loads(run("step", home))

    assert told["steps"] > 50
    assert set(told["seen"]) == {"old", "new"}
    assert told["seen"] == sorted(told["seen"], reverse=True), "once it is new it stays new"


@posix
def test_a_broken_file_survives_a_writer_killed_at_any_step_of_setting_it_aside(home):
    told = json.loads(run("step-aside", home))

    assert told["steps"] > 50
    assert set(told["seen"]) == {"broken", "new and kept"}


# --- in processes of their own ---------------------------------------------------------------------------------


def start(*arguments):
    environ = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    command = [sys.executable, __file__, *map(str, arguments)]
    return subprocess.Popen(
        command, env=environ, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def run(*arguments):
    process = start(*arguments)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    return out.strip()


def shout(message):
    raise AssertionError(message)


def hold(home):
    def change(document):
        print("held", flush=True)
        sys.stdin.read()
        return document

    AccountStore(home, shout).update(change)


def pretend(platform):
    """Have store.py and files.py take their way for another system, with a stand-in for what only that one has."""
    import fcntl
    import importlib
    import types

    def locking(descriptor, how, length):
        try:
            fcntl.lockf(descriptor, how, length, os.lseek(descriptor, 0, os.SEEK_CUR))
        except BlockingIOError as error:
            raise PermissionError(*error.args) from None

    names = {"locking": locking, "LK_NBLCK": fcntl.LOCK_EX | fcntl.LOCK_NB, "LK_UNLCK": fcntl.LOCK_UN}
    sys.modules["msvcrt"] = types.SimpleNamespace(**names)
    fcntl.F_FULLFSYNC = -1  # what Linux answers with EINVAL, as file systems do that do not know it
    sys.platform = platform
    importlib.reload(files_module)
    importlib.reload(store_module)


def add(home, name, number, platform):
    if platform:
        pretend(platform)
    store = store_module.AccountStore(home, shout, lock_seconds=60)
    for index in range(int(number)):
        store.update(adding(f"{name}-{index}"))


def fill(home):
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))
    try:
        AccountStore(home, shout).update(adding("another"))
    except ConfigError as error:
        print(error)


def fork(work):
    """Run work in a forked child, which never returns; its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    return pid


def numbered(number):
    """A change to a document that says one number all over, so that a mixture shows, and whose size varies."""

    def change(document):
        made = Document()
        for index in range(1 + number % 5):
            made = accounts.add(made, f"key-{index}", label=str(number))
        return made

    return change


def kill(home, rounds, seed):
    """Kill a process that writes without pause, at a random moment; load; again."""
    chance = random.Random(int(seed))
    store = AccountStore(home, shout)
    last, mid_write = 0, 0
    for _ in range(int(rounds)):
        reader, writer = os.pipe()

        def write(first=last + 1, writer=writer):
            for number in range(first, first + 10**6):
                store.update(numbered(number))
                os.write(writer, number.to_bytes(4, "big"))

        pid = fork(write)
        os.close(writer)
        said = os.read(reader, 4)
        time.sleep(chance.uniform(0, 0.006))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        while more := os.read(reader, 4):
            said = more
        os.close(reader)
        last = int.from_bytes(said, "big")
        mid_write += any(name.endswith(".tmp") for name in os.listdir(home))
        document = store.load()
        (label,) = labels(document)
        assert int(label) in (last, last + 1), "a change that was done is lost, or one is there that nobody made"
        assert document.accounts == numbered(int(label))(document).accounts
        last = int(label)
    print(json.dumps({"kills": int(rounds), "mid_write": mid_write}))


def kill_at_step(work, number):
    """Run work in a child that is killed before the line of store.py or files.py with this number, in the order in
    which lines run; whether it was."""
    left = number

    def trace(frame, event, _):
        nonlocal left
        if frame.f_code.co_filename not in (store_module.__file__, files_module.__file__):
            return None
        if event == "line":
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    def traced():
        sys.settrace(trace)
        work()

    _, status = os.waitpid(fork(traced), 0)
    return os.WIFSIGNALED(status)


def step(home):
    store = AccountStore(home, shout)
    seen = []
    while True:
        store.update(numbered(7))
        was_killed = kill_at_step(lambda: store.update(numbered(8)), len(seen) + 1)
        now = store.load()
        assert now.accounts in (numbered(7)(now).accounts, numbered(8)(now).accounts)
        if not was_killed:
            break
        seen.append("new" if labels(now) == {"8"} else "old")
    assert labels(store.load()) == {"8"}
    print(json.dumps({"steps": len(seen), "seen": seen}))


def step_aside(home):
    home.mkdir(mode=0o700)
    store = AccountStore(home, lambda message: None)
    seen = []
    while True:
        for name in os.listdir(home):
            (home / name).unlink()
        store.file.write_bytes(BROKEN)
        was_killed = kill_at_step(lambda: store.update(adding(KEY), replaces_unusable=True), len(seen) + 1)
        kept = [name for name in os.listdir(home) if "corrupt" in name]
        if store.file.read_bytes() == BROKEN:
            found = "broken"
        else:
            assert len(store.load().accounts) == 1
            assert [(home / name).read_bytes() for name in kept] == [BROKEN]
            found = "new and kept"
        if not was_killed:
            assert found == "new and kept"
            break
        seen.append(found)
    print(json.dumps({"steps": len(seen), "seen": seen}))


if __name__ == "__main__":
    works = {"hold": hold, "add": add, "fill": fill, "kill": kill, "step": step, "step-aside": step_aside}
    works[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])
