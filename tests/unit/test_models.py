"""Which Gemini model a client's name means, and by which rule."""

import re
from itertools import permutations

import pytest

from agproxy.errors import NotFound
from agproxy.models import BUILT_IN, SHOWN, SUCCESSORS, explain, resolve, shown_names

LISTED = frozenset({"gemini-2.5-flash", "gemini-2.5-pro", "gemini-3-flash-preview", "gemini-3.1-pro-preview"})


def meant(name, *rules, default="", listed=frozenset()):
    return resolve(name, rules, default, listed).model


def rule(name, *rules, default="", listed=frozenset()):
    return resolve(name, rules, default, listed).rule


# --- the order of rules


def test_an_exact_rule_goes_before_every_other():
    rules = (("gpt-4o*", "gemini-a"), ("*", "gemini-b"), ("gpt-4o", "gemini-c"))

    assert meant("gpt-4o", *rules) == "gemini-c"
    assert rule("gpt-4o", *rules) == "model_map: gpt-4o"


def test_then_the_most_specific_wildcard():
    rules = (("*", "gemini-a"), ("gpt-*", "gemini-b"), ("gpt-4*", "gemini-c"), ("*-mini", "gemini-d"))

    assert meant("gpt-4o", *rules) == "gemini-c"
    assert meant("gpt-5", *rules) == "gemini-b"
    assert meant("o3-mini", *rules) == "gemini-d"
    assert meant("anything", *rules) == "gemini-a"


def test_then_gemini_names_as_they_are():
    assert meant("gemini-2.5-flash", default="gemini-other") == "gemini-2.5-flash"
    assert rule("gemini-2.5-flash") == "Gemini name as it is"
    assert meant("gemma-3-27b-it") == "gemma-3-27b-it"
    assert meant("gemini-99-of-tomorrow", listed=LISTED) == "gemini-99-of-tomorrow"
    assert meant("gemini-2.5-flash", ("gemini-*", "gemini-2.5-pro")) == "gemini-2.5-pro"


def test_then_the_built_in_table_names_before_patterns():
    assert meant("gpt-4o", default="gemini-other") == BUILT_IN["gpt-4o"]
    assert rule("gpt-4o") == "built-in: gpt-4o"
    assert meant("gpt-4o-2024-11-20") == BUILT_IN["gpt-4*"]
    assert meant("gpt-4o-mini-2024-07-18") == BUILT_IN["gpt-4*-mini*"]
    assert rule("claude-haiku-9") == "built-in: claude-*haiku*"


def test_then_the_default_model():
    assert meant("llama-3", default="gemini-2.5-flash") == "gemini-2.5-flash"
    assert rule("llama-3", default="gemini-2.5-flash") == "default_model"


@pytest.mark.parametrize("name", ["llama-3", "", "xgpt-4o", "geminix", "gemini", "x" * 100_000])
def test_a_name_that_no_rule_takes_is_404(name):
    with pytest.raises(NotFound, match="does not exist") as caught:
        meant(name)

    assert (caught.value.status, caught.value.code) == (404, "model_not_found")
    assert len(caught.value.message) < 300


# --- wildcards

FITS = [
    ("gpt-*", "gpt-", True),
    ("gpt-*", "gpt-4o", True),
    ("gpt-*", "xgpt-4o", False),
    ("*-mini", "gpt-mini", True),
    ("*-mini", "gpt-mini-2", False),
    ("*gpt*", "my-gpt-4", True),
    ("g*t*4", "gpt-4", True),
    ("a*a", "a", False),
    ("a*a", "aa", True),
    ("ab*ba", "aba", False),
    ("*a*b*c*", "xxaxxbxxcxx", True),
    ("*a*b*c*", "xxbxxaxxcxx", False),
    ("*ab*ab*", "abab", True),
    ("*ab*ab*", "aab", False),
    ("**", "x", True),
    ("gpt.4*", "gptx4o", False),
    ("[a]*", "a", False),
    ("[a]*", "[a]b", True),
    ("a?*", "ab", False),
    ("a*c", "a\nb/c", True),
]


@pytest.mark.parametrize(("pattern", "name", "fits"), FITS)
def test_a_star_stands_for_anything_and_all_else_for_itself(pattern, name, fits):
    assert bool(re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name, re.DOTALL)) is fits
    assert (meant(name, (pattern, "gemini-hit"), default="gemini-missed") == "gemini-hit") is fits


def test_a_long_name_costs_no_more_than_its_length():
    """A regular expression of five stars would still be at it tomorrow."""
    rules = (("*a*a*a*a*b", "gemini-hit"),)

    assert meant("a" * 200_000, *rules, default="gemini-missed") == "gemini-missed"
    assert meant("a" * 200_000 + "b", *rules, default="gemini-missed") == "gemini-hit"


@pytest.mark.parametrize(
    ("winner", "others"),
    [
        ("gpt-4*", ["gpt-*", "*"]),  # more literal characters
        ("GPT-*o", ["gpt-*"]),
        ("gpt*4o", ["g*pt*4o", "*gpt*4o"]),  # as many literal characters, fewer stars
        ("*pt-4o", ["gp*-4o", "gpt-4*"]),  # as many of both: first in the alphabet
    ],
)
def test_ties_are_broken_by_the_stated_rule_in_any_order_of_the_rules(winner, others):
    rules = [(winner, "gemini-hit"), *((other, "gemini-missed") for other in others)]

    for order in permutations(rules):
        assert meant("gpt-4o", *order) == "gemini-hit"


# --- names


@pytest.mark.parametrize("name", ["GPT-4O", "Gpt-4o", "gpt-4o"])
def test_names_compare_without_case(name):
    assert meant(name) == BUILT_IN["gpt-4o"]
    assert meant(name, ("gPt-4O", "gemini-hit")) == "gemini-hit"
    assert meant(name, ("gPt-*", "gemini-hit")) == "gemini-hit"
    assert meant("GEMINI-2.5-Flash") == "gemini-2.5-flash"


@pytest.mark.parametrize("name", ["models/gemini-2.5-pro", "google/gemini-2.5-pro", "gemini/Gemini-2.5-pro"])
def test_a_gemini_name_may_come_with_a_prefix_and_be_a_rule_s_target_with_it(name):
    assert meant(name) == "gemini-2.5-pro"
    assert meant("my-model", ("my-model", name)) == "gemini-2.5-pro"
    assert meant("my-model", ("my-*", name)) == "gemini-2.5-pro"
    assert meant("my-model", default=name) == "gemini-2.5-pro"


def test_a_rule_s_target_is_final():
    rules = (("a", "gpt-4o"), ("gpt-4o", "gemini-hit"), ("b", "a"))

    assert meant("a", *rules) == "gpt-4o"
    assert meant("b", *rules) == "a"


def test_every_name_that_upstream_lists_can_be_asked_for():
    """Some have no gemini- before them, and /v1/models shows them all."""
    listed = LISTED | {"nano-banana-pro-preview"}

    assert meant("Nano-Banana-Pro-Preview", listed=listed, default="gemini-other") == "nano-banana-pro-preview"
    assert meant("nano-banana-pro-preview", listed=LISTED, default="gemini-other") == "gemini-other"


# --- fallbacks


def test_a_rule_may_name_models_to_go_to_where_all_accounts_are_out_for_the_first():
    found = resolve("my-model", (("my-*", "models/gemini-2.5-pro | gemini-3-flash"),), "", LISTED)

    assert (found.model, found.fallbacks) == ("gemini-2.5-pro", ("gemini-3-flash-preview",))
    assert resolve("llama", (), "gemini-2.5-pro|gemini-2.5-flash").fallbacks == ("gemini-2.5-flash",)
    assert resolve("gpt-4o", (), "").fallbacks == ()


def test_a_name_that_a_client_sends_names_no_fallbacks():
    found = resolve("gemini-2.5-pro|gemini-2.5-flash", (), "")

    assert (found.model, found.fallbacks) == ("gemini-2.5-pro|gemini-2.5-flash", ())


@pytest.mark.parametrize("default", ["|", " | ", "gemini-a|", "|gemini-a"])
def test_an_empty_fallback_is_none(default):
    found = resolve("llama", (), default)

    assert found.model in ("gemini-a", default)
    assert found.fallbacks == ()


# --- successors


@pytest.mark.parametrize(("old", "new"), SUCCESSORS.items())
def test_a_successor_stands_in_before_the_first_listing_and_where_it_is_listed(old, new):
    assert meant(old) == new
    assert meant(old, listed=frozenset({new})) == new
    assert meant("my-model", ("my-model", old)) == new
    assert rule(old) == f"successor of {old}"


def test_gemini_3_flash_is_served_as_its_preview_once_that_is_listed():
    assert meant("gemini-3-flash") == "gemini-3-flash-preview"
    assert meant("gemini-3-flash", listed=LISTED) == "gemini-3-flash-preview"
    assert meant("gemini-9-flash", listed=frozenset({"gemini-9-flash-preview"})) == "gemini-9-flash-preview"


def test_a_name_that_is_listed_needs_no_successor():
    assert meant("gemini-3-flash", listed=LISTED | {"gemini-3-flash"}) == "gemini-3-flash"


def test_a_list_never_turns_a_request_away():
    assert meant("gemini-3-flash", listed=frozenset({"gemini-2.5-pro"})) == "gemini-3-flash"
    assert meant("gemini-9", listed=LISTED) == "gemini-9"
    assert meant("gpt-4o", listed=frozenset({"gemini-2.5-pro"})) == BUILT_IN["gpt-4o"]


# --- what is shown


def test_shown_names_are_the_user_s_then_the_known_ones_then_upstream_s_and_never_patterns():
    names = shown_names((("my-model", "x"), ("my-*", "y"), ("gpt-4o", "z")), ["gemini-2.5-flash", "gemini-2.5-flash"])

    assert names[:2] == ("my-model", "gpt-4o")
    assert names[-1] == "gemini-2.5-flash"
    assert set(SHOWN) < set(names)
    assert len(set(names)) == len(names)
    assert not any("*" in name for name in names)


@pytest.mark.parametrize("name", SHOWN)
def test_each_shown_name_means_a_gemini_model(name):
    assert meant(name).startswith("gemini-")


def test_the_built_in_table_points_at_gemini_and_its_patterns_are_in_lower_case():
    assert all(model.startswith("gemini-") for model in BUILT_IN.values())
    assert all(name == name.casefold() for name in BUILT_IN)


# --- why


def test_an_explanation_names_the_winner_the_losers_and_the_rest():
    rules = (("gpt-4o", "gemini-a"), ("gpt-*", "gemini-b"), ("*", "gemini-c"), ("claude-*", "gemini-d"))
    why = explain("gpt-4o", rules, "gemini-default")

    assert (why.winner.rule, why.winner.model) == ("model_map: gpt-4o", "gemini-a")
    assert [loser.rule for loser, _ in why.losers] == [
        "model_map: gpt-*",
        "model_map: *",
        "built-in: gpt-4o",
        "built-in: gpt-4*",
        "default_model",
    ]
    assert why.losers[0][1] == "an exact rule of model_map goes before a wildcard rule of model_map"
    assert why.others == ("claude-*",)


def test_an_explanation_tells_why_one_wildcard_goes_before_another():
    why = explain("gpt-4o", (("gpt-*", "a"), ("gpt-4*", "b"), ("g*pt*4o", "c"), ("gpt*4o", "d")), "")

    assert why.winner.pattern == "gpt*4o"
    assert [(loser.pattern, reason) for loser, reason in why.losers[:3]] == [
        ("gpt-4*", "gpt*4o comes first"),
        ("g*pt*4o", "less specific: more stars than gpt*4o"),
        ("gpt-*", "less specific: 4 literal characters, gpt*4o has 5"),
    ]


def test_an_explanation_of_a_name_that_no_rule_takes_has_no_winner():
    why = explain("llama", (("gpt-*", "gemini-b"),), "")

    assert (why.winner, why.losers, why.others) == (None, (), ("gpt-*",))


@pytest.mark.parametrize("name", ["openai/gpt-4o", "OpenAI/GPT-4o", "anthropic/claude-sonnet-4-5"])
def test_a_vendors_name_before_a_known_one_is_no_part_of_it(name):
    assert resolve(name, (), "").model == resolve(name.partition("/")[2], (), "").model
    assert resolve(name, ((name, "gemini-mine"),), "").model == "gemini-mine"
