"""The SQLite store of records: what it reads back, for whom, for how long, and what becomes of a broken file."""

import asyncio
import logging
import os
import stat
import sys
from dataclasses import replace

import pytest

from agproxy.errors import StateUnavailable
from agproxy.io.state import State
from agproxy.records import Chain, Children, Get, Put, Record, Remove

DAY = 86400.0
NOW = 1_700_000_000.0


class Shelf:
    """A store that is asked without await: one loop for the whole test."""

    def __init__(self, file=None, max_age_seconds=30 * DAY, max_bytes=1 << 30):
        self.state = State(file, max_age_seconds=max_age_seconds, max_bytes=max_bytes)
        self._runner = asyncio.Runner()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._runner.run(self.state.close())
        self._runner.close()

    def read(self, *reads, owner="", now=NOW):
        found = self._runner.run(self.state.read(owner, reads, now))
        return found if len(reads) > 1 else found[0]

    def ids(self, read, **more):
        return [record.id for record in self.read(read, **more)]

    def write(self, *changes, owner="", now=NOW):
        self._runner.run(self.state.write(owner, changes, now))

    def put(self, kind, id, parent=None, owner="", now=NOW, **body):
        expires = body.pop("expires", None)
        self.write(
            Put(record=Record(kind=kind, id=id, parent=parent, expires=expires, body=body)), owner=owner, now=now
        )

    def settle(self):
        """Wait until the worker has done all that it gave itself to do."""
        while self.state._worker.submit(self.state._worker._work_queue.qsize).result():
            pass  # asked within the worker, where no other job is under way that could still give it one


@pytest.fixture
def shelf():
    with Shelf() as made:
        yield made


def chain(shelf, *ids, **more):
    """Responses each of which goes on from the one before."""
    before = None
    for id in ids:
        shelf.put("response", id, parent=None if before is None else ("response", before), **more)
        before = id


def test_a_record_is_read_back_as_it_was_written(shelf):
    shelf.put("response", "a", text="Grüße 東京 🎉 \ud800", nested={"list": [1, None, 2.5]})

    (record,) = shelf.read(Get(kind="response", id="a"))
    assert record.body == {"text": "Grüße 東京 🎉 \ud800", "nested": {"list": [1, None, 2.5]}}
    assert (record.kind, record.id, record.parent) == ("response", "a", None)
    assert shelf.read(Get(kind="response", id="b")) == ()
    assert shelf.read(Get(kind="conversation", id="a")) == ()


def test_an_id_with_half_a_surrogate_is_an_id(shelf):
    """JSON may hold one, so clients may send one; SQLite takes UTF-8 only."""
    shelf.put("response", "a\ud800", text="yes")
    shelf.put("item", "b\ud800", parent=("response", "a\ud800"))

    assert [record.body for record in shelf.read(Get(kind="response", id="a\ud800"))] == [{"text": "yes"}]
    assert shelf.read(Chain(kind="response", id="a\udfff")) == ()
    below = Children(kind="item", parent=("response", "a\ud800"))
    assert len(shelf.read(below)) == 1
    assert shelf.read(replace(below, after="b\ud800")) == ()
    shelf.write(Remove(kind="response", id="a\ud800"))
    assert shelf.read(Get(kind="response", id="a\ud800")) == ()


def test_a_record_that_is_written_again_keeps_its_place(shelf):
    shelf.put("item", "a", parent=("conversation", "c"), text="old")
    shelf.put("item", "b", parent=("conversation", "c"))
    shelf.put("item", "a", parent=("conversation", "c"), text="new")

    assert shelf.ids(Children(kind="item", parent=("conversation", "c"))) == ["a", "b"]
    assert shelf.read(Get(kind="item", id="a"))[0].body == {"text": "new"}


def test_owners_never_meet(shelf):
    shelf.put("response", "a", owner="ann", text="ann's")
    shelf.put("response", "a", owner="bob", text="bob's")
    shelf.put("response", "b", owner="bob", parent=("response", "a"))
    shelf.write(Remove(kind="response", id="b"), owner="ann")

    assert shelf.read(Get(kind="response", id="a"), owner="ann")[0].body == {"text": "ann's"}
    assert shelf.read(Chain(kind="response", id="b"), owner="ann") == ()
    bobs = shelf.read(Chain(kind="response", id="b"), owner="bob")
    assert [record.body.get("text") for record in bobs] == ["bob's", None]
    assert shelf.read(Get(kind="response", id="a"), owner="") == ()


def test_a_chain_is_read_from_its_beginning(shelf):
    chain(shelf, "a", "b", "c")
    shelf.put("response", "fork", parent=("response", "b"))

    assert shelf.ids(Chain(kind="response", id="c")) == ["a", "b", "c"]
    assert shelf.ids(Chain(kind="response", id="fork")) == ["a", "b", "fork"]
    assert shelf.ids(Chain(kind="response", id="none")) == []


def test_children_come_in_order_and_in_pages(shelf):
    shelf.put("conversation", "c")
    for id in "defgh":
        shelf.put("item", id, parent=("conversation", "c"))
    shelf.put("item", "other", parent=("conversation", "x"))
    of_c = {"kind": "item", "parent": ("conversation", "c")}

    assert shelf.ids(Children(**of_c)) == list("defgh")
    assert shelf.ids(Children(**of_c, limit=2)) == list("de")
    assert shelf.ids(Children(**of_c, after="e", limit=2)) == list("fg")
    assert shelf.ids(Children(**of_c, is_newest_first=True, after="f")) == list("ed")
    assert shelf.ids(Children(**of_c, after="none")) == []


def test_several_reads_are_answered_in_their_order(shelf):
    chain(shelf, "a", "b")
    first, second = shelf.read(Get(kind="response", id="b"), Chain(kind="response", id="b"))

    assert [record.id for record in first] == ["b"]
    assert [record.id for record in second] == ["a", "b"]


def test_a_removed_record_stays_for_those_that_go_on_from_it_and_goes_with_them(shelf):
    chain(shelf, "a", "b", "c")
    shelf.write(Remove(kind="response", id="b"))
    assert shelf.read(Get(kind="response", id="b")) == ()
    assert shelf.read(Chain(kind="response", id="b")) == ()
    assert shelf.ids(Chain(kind="response", id="c")) == ["a", "b", "c"]

    shelf.write(Remove(kind="response", id="c"))
    assert count(shelf, "records") == 1
    shelf.write(Remove(kind="response", id="a"))
    assert (count(shelf, "records"), count(shelf, "families")) == (0, 0)


def count(shelf, table):
    job = shelf.state._worker.submit(
        shelf.state._do, lambda database: database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    )
    return job.result()


def test_what_belongs_to_a_record_goes_with_it(shelf):
    shelf.put("conversation", "c")
    shelf.put("item", "i", parent=("conversation", "c"))
    shelf.put("response", "r")
    shelf.put("stream", "r", parent=("response", "r"))
    shelf.write(Remove(kind="conversation", id="c"), Remove(kind="response", id="r"))

    assert count(shelf, "records") == 0


def test_changes_are_made_together_or_not_at_all(shelf):
    broken = Put(record=Record(kind="response", id="b", body={"x": float("nan")}))
    with pytest.raises(ValueError, match="JSON"):
        shelf.write(Put(record=Record(kind="response", id="a", body={})), broken)

    assert shelf.read(Get(kind="response", id="a")) == ()


def test_an_expired_record_is_not_found_and_soon_not_there(shelf):
    shelf.put("stream", "s", expires=int(NOW) + 600)
    assert shelf.ids(Get(kind="stream", id="s"), now=NOW + 599) == ["s"]
    assert shelf.ids(Get(kind="stream", id="s"), now=NOW + 600) == []
    shelf.read(Get(kind="stream", id="s"), now=NOW + 2 * DAY)
    shelf.settle()
    assert count(shelf, "records") == 0


def test_a_family_is_forgotten_whole_after_its_time_without_use():
    with Shelf(max_age_seconds=10 * DAY) as shelf:
        chain(shelf, "old", "old2")
        chain(shelf, "used")
        shelf.put("response", "used2", parent=("response", "used"), now=NOW + 9 * DAY)
        shelf.read(Get(kind="response", id="x"), now=NOW + 11 * DAY)
        shelf.settle()

        assert shelf.ids(Chain(kind="response", id="used2"), now=NOW + 11 * DAY) == ["used", "used2"]
        assert shelf.ids(Chain(kind="response", id="old2"), now=NOW + 11 * DAY) == []


def test_tidying_that_fails_is_told_and_spoils_no_request(shelf, caplog, monkeypatch):
    def break_(now):
        raise RuntimeError("no more pages")

    monkeypatch.setattr(shelf.state, "_tidy", break_)
    shelf.put("response", "a")
    shelf.settle()

    assert shelf.ids(Get(kind="response", id="a")) == ["a"]
    assert "could not be tidied away" in caplog.text


def test_over_the_limit_what_has_rested_longest_goes_first():
    with Shelf(max_bytes=1 << 20) as shelf:
        for number in range(40):
            shelf.put("response", f"r{number}", now=NOW + number, text="x" * 50_000)
            shelf.settle()
        kept = [number for number in range(40) if shelf.ids(Get(kind="response", id=f"r{number}"))]

        assert kept == list(range(kept[0], 40))
        assert 10 < len(kept) < 22


def test_records_outlive_the_process(tmp_path):
    file = tmp_path / "home" / "state.sqlite3"
    with Shelf(file) as shelf:
        chain(shelf, "a", "b")
    with Shelf(file) as shelf:
        assert shelf.ids(Chain(kind="response", id="b")) == ["a", "b"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_only_the_owner_can_read_the_file(tmp_path):
    file = tmp_path / "home" / "state.sqlite3"
    mask = os.umask(0)
    try:
        with Shelf(file) as shelf:
            shelf.put("response", "a")
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in file.parent.iterdir()}
    finally:
        os.umask(mask)

    assert modes["state.sqlite3"] == 0o600
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_nothing_is_opened_before_the_first_use(tmp_path):
    file = tmp_path / "state.sqlite3"
    with Shelf(file):
        pass
    assert not file.exists()


@pytest.mark.parametrize("is_open", [False, True], ids=["at the start", "while in use"])
def test_a_broken_file_is_set_aside_and_a_new_one_begins(tmp_path, caplog, is_open):
    file = tmp_path / "state.sqlite3"
    with Shelf(file) as shelf:
        if is_open:
            for number in range(200):
                shelf.put("response", f"r{number}", text="x" * 500)
            shelf.state._worker.submit(shelf.state._close).result()
        size = file.stat().st_size if is_open else 0
        keep = file.read_bytes()[:4096] if is_open else b""
        file.write_bytes(keep + b"this is no database " * (max(size, 8192) // 20))
        with caplog.at_level(logging.ERROR):
            shelf.put("response", "new", text="y")
            for number in range(200):
                shelf.read(Get(kind="response", id=f"r{number}"))
            shelf.put("response", "newer")
        assert shelf.ids(Get(kind="response", id="newer")) == ["newer"]

    assert "kept as" in caplog.text
    aside = [path for path in tmp_path.iterdir() if ".corrupt-" in path.name]
    assert len(aside) == 1
    assert b"this is no database" in aside[0].read_bytes()


def test_an_id_that_utf_8_cannot_hold_is_an_id_like_any_other(shelf):
    """JSON can: a client that asks for "\\ud800" is told that there is none, or finds what it has put there."""
    odd = "\ud800"
    assert shelf.ids(Get(kind="item", id=odd)) == []
    shelf.put("item", odd, parent=("conversation", odd), owner=odd, text=odd)
    for read in (
        Get(kind="item", id=odd),
        Chain(kind="item", id=odd),
        Children(kind="item", parent=("conversation", odd)),
    ):
        assert [record.body for record in shelf.read(read, owner=odd)] == [{"text": odd}]
    assert shelf.ids(Children(kind="item", parent=("conversation", odd), after=odd), owner=odd) == []
    shelf.write(Remove(kind="item", id=odd), owner=odd)
    assert shelf.ids(Get(kind="item", id=odd), owner=odd) == []


@pytest.mark.parametrize("damage", [b"x", b"\xff"], ids=["no JSON", "no UTF-8"])
def test_a_record_that_the_disk_has_changed_is_told_without_its_words(tmp_path, caplog, damage):
    file = tmp_path / "state.sqlite3"
    with Shelf(file) as shelf:
        shelf.put("response", "a", text="a prompt")
        shelf.put("response", "b", text="another")
    data = file.read_bytes()
    file.write_bytes(data.replace(b'"a prompt"', b'"a prompt' + damage))
    with Shelf(file) as shelf, caplog.at_level(logging.ERROR):
        with pytest.raises(StateUnavailable, match="cannot be used now") as caught:
            shelf.read(Get(kind="response", id="a"))
        assert shelf.ids(Get(kind="response", id="b")) == ["b"]
    assert "prompt" not in caught.value.message + caplog.text


def test_a_file_whose_tables_have_unreadable_names_is_set_aside(tmp_path):
    file = tmp_path / "state.sqlite3"
    with Shelf(file) as shelf:
        shelf.put("response", "a")
    file.write_bytes(file.read_bytes().replace(b"ON records (family)", b"ON records (f\x80mily)"))
    with Shelf(file) as shelf:
        shelf.put("response", "b")
        assert shelf.ids(Get(kind="response", id="b")) == ["b"]
    assert [path for path in tmp_path.iterdir() if ".corrupt-" in path.name]


def test_a_file_of_a_newer_agproxy_is_left_alone(tmp_path):
    file = tmp_path / "state.sqlite3"
    with Shelf(file) as shelf:
        shelf.put("response", "a")
        shelf.state._worker.submit(
            shelf.state._do, lambda database: database.execute("PRAGMA user_version = 99").fetchone()
        ).result()
    with Shelf(file) as shelf, pytest.raises(StateUnavailable, match="newer"):
        shelf.read(Get(kind="response", id="a"))
    assert [path.name for path in tmp_path.iterdir()] == ["state.sqlite3"]


def test_a_place_that_cannot_be_used_is_told(tmp_path):
    (tmp_path / "home").write_text("a file, not a folder")
    with Shelf(tmp_path / "home" / "state.sqlite3") as shelf:
        with pytest.raises(StateUnavailable):
            shelf.read(Get(kind="response", id="a"))
        with pytest.raises(StateUnavailable):
            shelf.put("response", "a")


def test_two_processes_can_use_one_file(tmp_path):
    file = tmp_path / "state.sqlite3"
    with Shelf(file) as one, Shelf(file) as other:
        one.put("response", "a")
        other.put("response", "b", parent=("response", "a"))
        assert one.ids(Chain(kind="response", id="b")) == ["a", "b"]


def test_the_room_that_tidying_makes_goes_back_to_the_disk(tmp_path):
    file = tmp_path / "state.sqlite3"
    with Shelf(file, max_bytes=1 << 20) as shelf:
        records = (Record(kind="response", id=f"r{number}", body={"text": "x" * 100_000}) for number in range(40))
        shelf.write(*(Put(record=record) for record in records))
        shelf.settle()
    assert file.stat().st_size < 1.2 * (1 << 20)
