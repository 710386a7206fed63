"""A file that breaks while several have it open: the new one, which the first begins, is everybody's."""

import logging
import sqlite3

import pytest

from agproxy.io.database import Database


@pytest.fixture
def file(tmp_path):
    return tmp_path / "some.sqlite3"


@pytest.fixture
def made(file):
    """Makes what a process has of the file."""
    all_made = []

    def make():
        all_made.append(
            Database(file, schema="CREATE TABLE t (x)", version=1, loss="rows", wal_bytes=1 << 20),
        )
        return all_made[-1]

    yield make
    for one in all_made:
        one.close()


def put(database, value):
    database.do(lambda connection: connection.execute("INSERT INTO t VALUES (?)", (value,)))


def rows(database):
    return [row[0] for row in database.do(lambda connection: connection.execute("SELECT x FROM t").fetchall())]


def spoil(database, file):
    database._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with open(file, "r+b") as stream:
        stream.write(b"garbage!" * 1024)


def set_aside(file):
    return sorted(file.parent.glob("*.corrupt-*"))


def test_one_that_had_the_broken_file_open_goes_on_with_the_new_one(file, made):
    a, b = made(), made()
    put(a, "old")
    assert rows(b) == ["old"]
    spoil(a, file)

    put(a, "of a")
    assert len(set_aside(file)) == 1
    put(b, "of b")
    put(a, "more of a")

    assert len(set_aside(file)) == 1
    assert rows(a) == rows(b) == rows(made()) == ["of a", "of b", "more of a"]


def test_who_finds_it_broken_while_another_replaces_it_leaves_the_new_one_alone(file, made, caplog):
    a, b = made(), made()
    put(b, "old")
    spoil(b, file)
    times = []

    def job(connection):
        times.append(1)
        if len(times) == 1:
            put(a, "of a")
            connection.execute("SELECT * FROM t").fetchall()
            error = sqlite3.DatabaseError("database disk image is malformed")  # where its pages were still in memory
            error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise error
        connection.execute("INSERT INTO t VALUES ('of b')")

    with caplog.at_level(logging.ERROR):
        b.do(job)

    assert len(set_aside(file)) == 1
    assert len(caplog.records) == 1
    assert rows(a) == rows(b) == rows(made()) == ["of a", "of b"]


def test_a_file_that_somebody_moved_away_is_begun_anew(file, made):
    a = made()
    put(a, "old")
    a._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    file.rename(file.with_name("away"))

    put(a, "new")

    assert rows(made()) == ["new"]
