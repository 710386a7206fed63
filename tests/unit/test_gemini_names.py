"""Function names: spelled so that Gemini takes them, and back as the client wrote them."""

import re

import pytest

from agproxy.backends.gemini.names import NameMap

# Google's words: a letter or an underscore first, then letters, digits, underscores, dots, colons and dashes.
TAKEN = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,63}")


@pytest.mark.parametrize("name", ["look", "_look", "Look_2", "a.b:c-d", "x" * 64, "_"])
def test_a_name_that_fits_goes_as_it_is(name):
    names = NameMap([name])

    assert (names.there(name), names.back(name)) == (name, name)


@pytest.mark.parametrize(
    ("name", "spelled"),
    [
        ("2nd", "_2nd"),
        ("-x", "_-x"),
        (".x", "_.x"),
        ("fs/read", "fs_read"),
        ("a b", "a_b"),
        ("mcp__fs::read file?", "mcp__fs::read_file_"),
        ("поиск", "_____"),
        ("", "_"),
        ("x" * 65, "x" * 64),
        ("9" * 64, "_" + "9" * 63),
        ("a\n", "a_"),
    ],
)
def test_another_name_is_spelled_so_that_it_fits_and_turned_back(name, spelled):
    names = NameMap([name])

    assert names.there(name) == spelled
    assert TAKEN.fullmatch(spelled)
    assert names.back(spelled) == name


def test_no_spelling_meets_another_name_whatever_their_order():
    clashing = ["a/b", "a_b", "a b", "a_b_2", "a?b", "x" * 70, "x" * 71, "x" * 64, "9", "_9"]
    for names in (clashing, clashing[::-1]):
        spelled = NameMap(names)
        there = [spelled.there(name) for name in names]

        assert len(set(there)) == len(names)
        assert all(TAKEN.fullmatch(one) for one in there)
        assert [spelled.back(one) for one in there] == names
        assert (spelled.there("a_b"), spelled.there("a_b_2"), spelled.there("_9")) == ("a_b", "a_b_2", "_9")


def test_names_that_meet_are_numbered_from_two_on():
    names = NameMap(["a/b", "a b", "a?b"])

    assert [names.there(name) for name in ("a/b", "a b", "a?b")] == ["a_b", "a_b_2", "a_b_3"]


def test_a_name_that_comes_twice_is_one_name():
    assert NameMap(["a/b", "a/b"]).there("a/b") == "a_b"


@pytest.mark.parametrize("prefix", ["default_api.", "default_api:"])
def test_a_prefix_that_gemini_puts_before_a_name_is_taken_off(prefix):
    names = NameMap(["look", "fs/read"])

    assert names.back(prefix + "look") == "look"
    assert names.back(prefix + "fs_read") == "fs/read"
    assert names.back(prefix + "unknown") == prefix + "unknown"


def test_a_name_that_has_the_prefix_itself_keeps_it():
    assert NameMap(["default_api.look", "look"]).back("default_api.look") == "default_api.look"


def test_a_name_that_nobody_declared_comes_back_as_it_came():
    assert NameMap(["look"]).back("invented") == "invented"


def test_ten_thousand_names_that_fall_together_take_no_time_to_speak_of():
    """Each new collision once tried all numbers again: 16,000 names held up the gateway for half a minute."""
    names = NameMap(f"a{chr(0x4E00 + number)}" for number in range(10_000))

    spelled = {names.there(f"a{chr(0x4E00 + number)}") for number in range(10_000)}
    assert len(spelled) == 10_000
    assert all(len(name) <= 64 for name in spelled)
