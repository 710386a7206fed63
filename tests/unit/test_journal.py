"""The journal's file: what comes back of an entry, who may read it, its bounds, and what a bad disk costs."""

import asyncio
import json
import os
import sqlite3
import stat
import subprocess
import sys
import zlib
from contextlib import closing
from pathlib import Path

import pytest

from agproxy.config import Config
from agproxy.entries import FIELDS, Entry, Wanted
from agproxy.errors import ConfigError
from agproxy.http11 import HttpRequest, HttpResponse
from agproxy.io import journal as journal_module
from agproxy.io.database import Database
from agproxy.io.journal import JournalFile, Reader
from agproxy.recording import ALL, Budget, Recording

DAY = 86400.0
NOW = 1_700_000_000.0
ROOT = Path(__file__).resolve().parents[2]


def entry(id="req_1", **more):
    values = {"at": NOW, "method": "POST", "path": "/v1/responses", "status": 200} | more
    return Entry(id=id, **values)


def recorded(id, body, *, config=None, budget=ALL, **more):
    """An entry with a recording of this body."""
    config = config or Config(journal_bodies="all")
    request = HttpRequest(method="POST", path="/", query="", headers=(), body=body, peer="", id=id)
    recording = Recording(request, config, (), budget)
    reply = recording.reply(_Nobody())
    reply.send(HttpResponse(status=200, body=b"{}"))
    return entry(id, recording=recording, **more)


class _Nobody:
    has_started = False

    def send(self, response):
        pass


@pytest.fixture
def file(tmp_path):
    return tmp_path / "home" / "journal.sqlite3"


def write(file, *entries, max_age_seconds=7 * DAY, max_bytes=1 << 30):
    async def main():
        journal = JournalFile(file, max_age_seconds=max_age_seconds, max_bytes=max_bytes)
        for one in entries:
            journal.add(one)
        await journal.close()
        return journal

    return asyncio.run(main())


def ids(file, limit=1000, **wanted):
    with Reader(file) as reader:
        return [found.entry.id for found in reader.latest(Wanted(**wanted), limit)]


def test_an_entry_comes_back_as_it_was(file):
    step = {"at": NOW, "model": "m", "event": "failed", "skipped": [{"account": "b", "why": "busy"}]}
    whole = entry(
        client="ann",
        peer="::1",
        protocol="openai_chat",
        action="create",
        is_stream=True,
        model_asked="gpt",
        model="m",
        account="a",
        attempts=2,
        outcomes=("a=429",),
        status=502,
        error="broken",
        message="The line broke.",
        bytes_in=1,
        bytes_out=2,
        prompt_tokens=3,
        cached_tokens=1,
        output_tokens=4,
        reasoning_tokens=2,
        first_byte_seconds=0.25,
        total_seconds=1.5,
        waited_seconds=0.5,
        notices=("seed: ignored",),
        trace="ab",
        steps=(step,),
    )
    bare = entry("req_2")
    write(file, whole, bare)

    with Reader(file) as reader:
        first, second = (found.entry for found in reader.latest(Wanted(), 10))
    assert first == whole
    assert second == bare
    assert type(first.is_stream) is bool


def test_the_usual_steps_take_little_room_and_come_back_whole(file):
    picked = {"at": NOW + 0.25, "model": "m", "event": "picked", "account": "a"}
    answered = {"at": NOW + 1.5, "model": "m", "event": "answered", "account": "a"}
    made = [
        entry(f"req_{number}", model="m", account="a", attempts=1, steps=steps)
        for number, steps in enumerate(
            [
                (picked, answered),
                (picked | {"skipped": [{"account": "b", "why": "busy"}]}, answered),
                (picked, answered | {"model": "other"}),
                (picked | {"account": "b"}, answered),
                (picked, picked),
                (answered, picked),
                (picked,),
                (picked, {"at": NOW, "model": "m", "event": "waits", "wait_seconds": 1.0}),
            ]
        )
    ]
    write(file, *made)

    with Reader(file) as reader:
        assert [found.entry for found in reader.latest(Wanted(), 10)] == made
    with closing(sqlite3.connect(file)) as database:
        (told,) = database.execute("SELECT told FROM pages").fetchone()
    assert json.loads(told)[0][FIELDS.index("steps")] == [round((NOW + 0.25) * 1e6), round((NOW + 1.5) * 1e6)]


def test_what_no_utf8_can_hold_costs_nobody_his_entry(file):
    write(file, entry("a", model_asked="gpt\ud800", notices=("\udfff: ignored",)), entry("b"))

    with Reader(file) as reader:
        first, second = (found.entry for found in reader.latest(Wanted(), 10))
    assert (first.model_asked, first.notices, second.id) == ("gpt\ud800", ("\udfff: ignored",), "b")


def test_a_count_beyond_64_bits_costs_nobody_his_entry(file):
    write(file, entry("a", prompt_tokens=2**63), entry("b"))

    with Reader(file) as reader:
        first, second = (found.entry for found in reader.latest(Wanted(), 10))
    assert (first.prompt_tokens, second.id) == (2**63, "b")


def test_a_word_that_no_utf8_can_hold_is_found_nowhere(file):
    """As a command line may bring it."""
    write(file, entry("a", client="ann"))

    assert ids(file, client="\udcff") == []
    with Reader(file) as reader:
        assert reader.find("\udcff") == []


@pytest.mark.parametrize(
    "told",
    [
        "x",
        "7",
        "{}",
        '[{"id": 1}]',
        '[["a", 1' + "0" * 400 + ', null, "", "", "GET", "/"]]',
        '["a"]',
        '[["a"]]',
        "[[7]]",
        '[["a", 1, null, "", "", "GET", "/"]]',
    ],
)
def test_an_entry_that_the_disk_has_changed_is_told(file, told):
    write(file, entry("a", outcomes=("account=429",)))
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("UPDATE pages SET told = ?", (told,))

    with pytest.raises(ConfigError, match=r"journal\.sqlite3: an entry is damaged"):
        ids(file)


def test_what_is_wanted_is_found_and_in_order(file):
    write(
        file,
        entry("a", client="ann", model_asked="gpt-4o", model="gemini-2.5-flash"),
        entry("b", client="bob", model_asked="gpt-5", model="gemini-2.5-pro", status=429),
        entry("c", client="ann", model_asked="x[1]", model="gemini-2.5-pro", status=500),
    )

    assert ids(file) == ["a", "b", "c"]
    assert ids(file, limit=2) == ["b", "c"]
    assert ids(file, only_errors=True) == ["b", "c"]
    assert ids(file, client="ann") == ["a", "c"]
    assert ids(file, client="ann", only_errors=True) == ["c"]
    assert ids(file, model="gpt-*") == ["a", "b"]
    assert ids(file, model="gemini-2.5-pro") == ["b", "c"]
    assert ids(file, model="x[1]") == ["c"]
    assert ids(file, model="gpt-4?") == []


def test_what_came_after_a_place_is_read_alone(file):
    write(file, entry("a"))
    with Reader(file) as reader:
        last, before = reader.last_place(), reader.changes()
        assert reader.after(Wanted(), last) == []
        write(file, entry("b"), entry("c", status=500))
        assert reader.changes() != before
        assert [found.entry.id for found in reader.after(Wanted(), last)] == ["b", "c"]
        assert [found.entry.id for found in reader.after(Wanted(only_errors=True), last)] == ["c"]


def test_an_id_may_be_cut_but_a_whole_one_is_nobody_elses(file):
    write(file, entry("req_ab"), entry("req_abc"), entry("req_x%"))
    with Reader(file) as reader:
        assert [found.entry.id for found in reader.find("req_ab")] == ["req_ab"]
        assert [found.entry.id for found in reader.find("req_a")] == ["req_abc", "req_ab"]
        assert [found.entry.id for found in reader.find("req_x%")] == ["req_x%"]
        assert reader.find("req_%") == []
        assert reader.find("req_a", is_whole=True) == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_only_its_owner_may_read_it(file):
    before = os.umask(0)
    try:
        write(file, entry())
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in file.parent.iterdir()} == {0o600}
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_no_file_is_an_empty_one_and_reading_makes_none(file):
    assert ids(file) == []
    with Reader(file) as reader:
        assert (reader.last_place(), reader.find("a"), reader.bodies(1), reader.changes()) == (0, [], None, 0)
    write(file)
    assert not file.exists()


# --- bounds ----------------------------------------------------------------------------------------------------


def test_what_is_too_old_goes(file):
    old = [entry(f"old{number}", at=NOW - 8 * DAY) for number in range(2500)]
    write(file, *old)
    write(file, entry("young", at=NOW - 6 * DAY))
    write(file, entry("new"))

    assert ids(file) == ["young", "new"]


@pytest.mark.parametrize("has_bodies", [False, True])
def test_what_is_too_much_goes_the_oldest_first_and_the_file_shrinks(file, has_bodies):
    most = 1 << 20

    def make(number):
        id = f"req_{number}"
        return recorded(id, os.urandom(6000).hex().encode()) if has_bodies else entry(id, message="x" * 2000)

    for batch in range(4):
        write(file, *(make(number) for number in range(batch * 250, batch * 250 + 250)), max_bytes=most)

    kept = ids(file)
    assert 50 < len(kept) < 1000
    assert kept == [f"req_{number}" for number in range(1000 - len(kept), 1000)]
    assert file.stat().st_size < 1.2 * most
    with closing(sqlite3.connect(file)) as database:
        (bodies,) = database.execute("SELECT count(*) FROM bodies").fetchone()
    assert bodies == (len(kept) if has_bodies else 0)


def test_what_nobody_can_write_is_dropped_and_counted_and_nobody_waits(file, monkeypatch, caplog):
    file.parent.parent.mkdir(exist_ok=True)
    file.parent.write_text("a file, not a folder")
    monkeypatch.setattr(journal_module, "_AGAIN_SECONDS", 0.0)

    journal = write(file, entry("a"), entry("b"))

    assert journal.dropped == 2
    assert "2 entries were dropped" in caplog.text


def test_what_no_utf8_can_hold_is_written_also_after_a_first_try_that_failed(file, monkeypatch):
    monkeypatch.setattr(journal_module, "_AGAIN_SECONDS", 0.0)
    do, errors = Database.do, [sqlite3.OperationalError("database is locked")]

    def fails_once(self, job):
        if errors:
            raise errors.pop()
        return do(self, job)

    monkeypatch.setattr(Database, "do", fails_once)

    journal = write(file, entry("a", model_asked="gpt\ud800"), entry("b"))

    assert (ids(file), journal.dropped) == (["a", "b"], 0)


def test_a_bug_in_writing_costs_the_batch_and_not_the_room_for_later_bodies(file, monkeypatch, caplog):
    budget = Budget(1000)
    do, errors = Database.do, [TypeError("a bug")]

    def fails_once(self, job):
        if errors:
            raise errors.pop()
        return do(self, job)

    monkeypatch.setattr(Database, "do", fails_once)

    async def main():
        journal = JournalFile(file, max_age_seconds=7 * DAY, max_bytes=1 << 30)
        journal.add(recorded("a", b"x" * 800, budget=budget))
        assert await journal.find("a") is None  # in the worker, behind what it writes
        journal.add(recorded("b", b"x" * 800, budget=budget))
        await journal.close()
        return journal

    assert asyncio.run(main()).dropped == 1
    assert ids(file) == ["b"]
    with Reader(file) as reader:
        assert reader.bodies(reader.find("b")[0].place)["request"]["body"] == "x" * 800
    assert "a bug" in caplog.text
    assert "1 entries were dropped" in caplog.text


def test_a_disk_that_does_not_keep_up_costs_entries_not_time(file, monkeypatch, caplog):
    monkeypatch.setattr(journal_module, "_MOST_WAITING", 3)

    journal = write(file, *(entry(f"req_{number}") for number in range(5)))

    assert (ids(file), journal.dropped) == (["req_0", "req_1", "req_2"], 2)
    assert "2 entries were dropped" in caplog.text


def test_too_many_bodies_are_dropped_and_their_entries_stay(file, monkeypatch, caplog):
    budget = Budget(1000)

    write(file, recorded("a", b"x" * 800, budget=budget), recorded("b", b"y" * 800, budget=budget))
    write(file, recorded("c", b"z" * 800, budget=budget))  # what is written has made room

    assert ids(file) == ["a", "b", "c"]
    dropped = "[agproxy: dropped, 800 bytes: too much was under way]"
    with Reader(file) as reader:
        bodies = [reader.bodies(reader.find(id)[0].place)["request"]["body"] for id in "abc"]
    assert bodies == ["x" * 800, dropped, "z" * 800]
    assert "b: the bodies were dropped" in caplog.text


def test_a_broken_file_is_set_aside_and_a_new_one_begins(file, caplog):
    file.parent.mkdir()
    file.write_bytes(b"this is no database " * 500)
    with pytest.raises(ConfigError, match="not a database"):
        ids(file)

    write(file, entry("new"))

    assert ids(file) == ["new"]
    assert "kept as" in caplog.text
    assert len([path for path in file.parent.iterdir() if ".corrupt-" in path.name]) == 1


def test_a_file_of_a_newer_format_is_left_alone(file, monkeypatch):
    monkeypatch.setattr(journal_module, "_AGAIN_SECONDS", 0.0)
    write(file, entry("a"))
    with closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA user_version = 99")

    assert write(file, entry("b")).dropped == 1
    with pytest.raises(ConfigError, match="newer"):
        ids(file)


def test_fields_that_an_older_version_did_not_know_are_empty_and_those_of_a_later_one_left_out(file):
    write(file, entry("a", notices=("x",)))
    with closing(sqlite3.connect(file)) as database, database:
        (told,) = database.execute("SELECT told FROM pages").fetchone()
        (row,) = json.loads(told)
        later, older = [*row, "of tomorrow"], ["b", *row[1 : FIELDS.index("status") + 1]]
        database.execute("UPDATE pages SET told = ?", (json.dumps([later, older]),))

    with Reader(file) as reader:
        assert [found.entry for found in reader.latest(Wanted(), 10)] == [entry("a", notices=("x",)), entry("b")]


def test_a_file_of_the_older_format_is_converted_also_while_another_has_it_open(file, caplog):
    file.parent.mkdir()
    old = [
        entry(f"req_{number}", client="ann", outcomes=("a=429",), notices=("x",), trace="t") for number in range(150)
    ]
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("PRAGMA journal_mode = WAL")
        names = [name for name in FIELDS if name != "steps"]  # which came later, say
        database.execute(f"CREATE TABLE entries (number INTEGER PRIMARY KEY AUTOINCREMENT, {', '.join(names)})")
        database.execute("CREATE TABLE bodies (number INTEGER PRIMARY KEY, told BLOB NOT NULL)")
        for one in [*old, entry("broken", notices=("x",))]:
            values = [getattr(one, name) for name in names]
            values = [json.dumps(value) if isinstance(value, tuple) else value for value in values]
            database.execute(f"INSERT INTO entries ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})", values)
        database.execute("UPDATE entries SET notices = '[' WHERE id = 'broken'")
        told = zlib.compress(b'{"request": "of 120"}')
        database.execute("INSERT INTO bodies (number, told) VALUES (121, ?)", (told,))
        database.execute("PRAGMA user_version = 1")
        database.commit()
        with pytest.raises(ConfigError, match="written by an older agproxy"):
            ids(file)

        journal = write(file, entry("new"))

    with Reader(file) as reader:
        found = reader.latest(Wanted(), 1000)
        assert [one.entry for one in found] == [*old, entry("new")]
        assert [one.entry.id for one in found if reader.bodies(one.place)] == ["req_120"]
    assert journal.dropped == 0
    assert [path for path in file.parent.iterdir() if ".old" in path.name or ".corrupt" in path.name] == []
    assert "an entry of the older format is damaged" in caplog.text


def test_pages_that_cannot_hold_what_is_wanted_are_passed_over(file):
    """Else a look for what is rare would take every page apart."""
    write(file, *(entry(f"a{number}", model="gemini-2.5-flash", protocol="gateway") for number in range(100)))
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("UPDATE pages SET told = replace(told, '[', '(')")  # whoever takes it apart fails
    write(file, entry("b", model="gemini-3-pro", protocol="openai_chat"))

    assert ids(file, model="gemini-3*") == ids(file, model="*3-pro") == ids(file, only_api=True) == ["b"]
    assert ids(file, client="ann") == ids(file, only_errors=True) == []
    with pytest.raises(ConfigError, match="damaged"):
        ids(file)


# --- several at once -------------------------------------------------------------------------------------------

_WRITER = """
import asyncio, sys
from pathlib import Path
from agproxy.entries import Entry
from agproxy.io.database import Database
from agproxy.io.journal import JournalFile

async def main(file, name):
    journal = JournalFile(Path(file), max_age_seconds=1e9, max_bytes=1 << 30)
    for number in range(300):
        journal.add(Entry(id=f"{name}{number}", at=1e9, method="GET", path="/", status=200))
        if number % 50 == 0:
            await asyncio.sleep(0.01)
    await journal.close()
    assert journal.dropped == 0

asyncio.run(main(*sys.argv[1:]))
"""


def test_several_processes_write_to_one_new_file_at_once(file):
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    writers = [
        subprocess.Popen([sys.executable, "-c", _WRITER, str(file), name], env=environ, stderr=subprocess.PIPE)
        for name in "abc"
    ]
    for writer in writers:
        _, errors = writer.communicate(timeout=30)
        assert (writer.returncode, errors) == (0, b"")

    assert sorted(ids(file, limit=5000)) == sorted(f"{name}{number}" for name in "abc" for number in range(300))


def test_a_request_that_another_process_is_just_writing_is_waited_for(file):
    async def main():
        mine, other = (JournalFile(file, max_age_seconds=1e9, max_bytes=1 << 30) for _ in range(2))
        other.add(entry("req_theirs"))
        found = await mine.find("req_theirs")
        assert await mine.find("req_nobody") is None
        await mine.close()
        await other.close()
        return found

    assert asyncio.run(main()).id == "req_theirs"


def test_the_fields_keep_the_order_in_which_files_have_them():
    """Only behind the last one may there come another."""
    assert (
        *("id", "at", "client", "peer", "protocol", "method", "path", "action", "is_stream", "model_asked", "model"),
        *("account", "attempts", "outcomes", "status", "error", "message", "bytes_in", "bytes_out", "prompt_tokens"),
        *("cached_tokens", "output_tokens", "reasoning_tokens", "first_byte_seconds", "total_seconds"),
        *("waited_seconds", "notices", "trace", "steps"),
    ) == FIELDS
