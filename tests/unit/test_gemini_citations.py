"""Sources of an answer, with places that count characters where Gemini counts bytes."""

import pytest

from agproxy.backends.gemini.citations import citations_of


def web(uri, title="T"):
    return {"web": {"uri": uri, "title": title}}


def support(*chunks, **segment):
    return {"segment": segment, "groundingChunkIndices": list(chunks)}


def cited(text, chunks, *supports, sources=()):
    grounding = {"groundingChunks": chunks, "groundingSupports": list(supports)}
    return [(text[c.start : c.end], c.url) for c in citations_of(text, grounding, list(sources))]


def test_a_segment_of_ascii_text_is_where_it_says():
    assert cited("one two three", [web("a")], support(0, startIndex=4, endIndex=7, text="two")) == [("two", "a")]


def test_the_start_is_absent_where_it_is_zero():
    assert cited("one two", [web("a")], support(0, endIndex=3, text="one")) == [("one", "a")]


@pytest.mark.parametrize("before", ["é", "日本", "😀😀", "naïve – "])
def test_bytes_become_characters(before):
    start = len(before.encode())
    text = before + "two three"

    assert cited(text, [web("a")], support(0, startIndex=start, endIndex=start + 3)) == [("two", "a")]


def test_a_segment_may_cover_wide_characters():
    assert cited("a 日本 b", [web("a")], support(0, startIndex=2, endIndex=8, text="日本")) == [("日本", "a")]


def test_an_offset_within_a_character_counts_as_its_start():
    assert cited("日本", [web("a")], support(0, startIndex=1, endIndex=5)) == [("日", "a")]


@pytest.mark.parametrize("shift", [-2, 2, 40])
def test_the_segment_s_own_words_go_before_a_wrong_offset(shift):
    """Recorded offsets are a few bytes off late in long answers."""
    text = "é" * 60 + "the words that count" + "!" * 60
    start = len(text[:60].encode()) + shift

    assert cited(text, [web("a")], support(0, startIndex=start, endIndex=start + 20, text="the words that count")) == [
        ("the words that count", "a")
    ]


def test_words_that_come_twice_are_taken_near_their_offset():
    text = "same " + "x" * 200 + " same"
    start = len(text) - 5  # one too low

    found = citations_of(
        text,
        {
            "groundingChunks": [web("a")],
            "groundingSupports": [support(0, startIndex=start, endIndex=start + 4, text="same")],
        },
        [],
    )
    assert [(c.start, c.end) for c in found] == [(len(text) - 4, len(text))]


def test_words_that_stand_far_before_their_offset_are_found_all_the_same():
    text = "the words " + "x" * 300

    assert cited(text, [web("a")], support(0, startIndex=200, endIndex=209, text="the words")) == [("the words", "a")]
    assert cited(text, [web("a")], support(0, startIndex=64, endIndex=73, text="the words")) == [("the words", "a")]


def test_words_that_stand_nowhere_leave_the_offsets():
    assert cited("one two", [web("a")], support(0, startIndex=4, endIndex=7, text="**two**")) == [("two", "a")]


def test_offsets_beyond_the_text_end_with_it():
    assert cited("one", [web("a")], support(0, startIndex=2, endIndex=99)) == [("e", "a")]
    assert cited("öne", [web("a")], support(0, startIndex=99, endIndex=1000)) == [("", "a")]
    assert cited("one", [web("a")], support(0, startIndex=-5, endIndex=2)) == [("on", "a")]


def test_an_end_that_is_missing_or_before_the_start_leaves_an_empty_place():
    found = citations_of(
        "one two", {"groundingChunks": [web("a")], "groundingSupports": [support(0, startIndex=4)]}, []
    )

    assert [(c.start, c.end) for c in found] == [(4, 4)]


def test_one_segment_may_have_several_sources_and_each_is_named_once():
    chunks = [web("a"), web("b")]
    segment = {"startIndex": 0, "endIndex": 3, "text": "one"}

    assert cited("one two", chunks, support(0, 1, 0, **segment), support(1, **segment)) == [("one", "a"), ("one", "b")]


def test_sources_are_of_several_kinds():
    chunks = [
        {"maps": {"uri": "m", "title": "M"}},
        {"retrievedContext": {"uri": "r"}},
        {"image": {"sourceUri": "i", "title": "I"}},
        {"web": {"title": "no address"}},
        {"unknown": {"uri": "u"}},
    ]
    found = citations_of(
        "one", {"groundingChunks": chunks, "groundingSupports": [support(0, 1, 2, 3, 4, endIndex=3)]}, []
    )

    assert [(c.url, c.title) for c in found] == [("m", "M"), ("r", ""), ("i", "I")]


def test_citation_metadata_counts_alike():
    sources = [
        {"startIndex": 2, "endIndex": 5, "uri": "a", "title": "A", "license": "mit"},
        {"endIndex": 2, "uri": "b"},
        {"startIndex": 1, "license": "no address"},
    ]
    found = citations_of("é one", {}, sources)

    assert [(c.start, c.end, c.url, c.title) for c in found] == [(1, 4, "a", "A"), (0, 1, "b", "")]


NONSENSE = [None, 5, "x", True, [], {}, [None], [5], ["x"], [[]], [{}]]


@pytest.mark.parametrize("value", NONSENSE, ids=str)
def test_values_of_a_wrong_type_are_no_sources(value):
    assert citations_of("one", {"groundingChunks": value, "groundingSupports": value}, []) == ()
    assert (
        citations_of(
            "one",
            {"groundingChunks": [web("a")], "groundingSupports": [{"segment": value, "groundingChunkIndices": value}]},
            [],
        )
        == ()
    )
    assert citations_of("one", {"groundingChunks": [{"web": value}], "groundingSupports": [support(0)]}, [value]) == ()


def test_indices_that_lead_nowhere_are_passed_over():
    assert cited("one", [web("a")], support(-1, 1, 10**30, "0", None, endIndex=3)) == []


@pytest.mark.parametrize("offset", ["3", None, 1.5, 10**30, -(10**30), [], {}])
def test_any_offset_is_survived(offset):
    for text in ("one", "öne"):
        found = citations_of(
            text,
            {"groundingChunks": [web("a")], "groundingSupports": [support(0, startIndex=offset, endIndex=offset)]},
            [],
        )
        assert all(0 <= c.start <= c.end <= 3 for c in found)


def test_a_lone_surrogate_is_a_character_of_three_bytes():
    assert cited("\ud800 one", [web("a")], support(0, startIndex=4, endIndex=7)) == [("one", "a")]
