"""What the models differ in, held against Google's own tables (shared/protocols/gemini.md, sections 7 and 16)."""

import pytest

from agproxy.backends.gemini import takes_candidates
from agproxy.backends.gemini.models import (
    facts,
    fitting_budget,
    is_exact,
    least_thinking,
    thinking_budget,
    thinking_level,
)

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")

# Model -> what each effort becomes, in the order of EFFORTS.
BUDGETS = {
    "gemini-2.5-pro": (128, 1024, 1024, 8192, 24576, 32768, 32768),
    "gemini-2.5-flash": (0, 1024, 1024, 8192, 24576, 24576, 24576),
    "gemini-2.5-flash-lite": (0, 1024, 1024, 8192, 24576, 24576, 24576),
}
WITH_MINIMAL = ("MINIMAL", "MINIMAL", "LOW", "MEDIUM", "HIGH", "HIGH", "HIGH")
WITHOUT_MINIMAL = ("LOW", "LOW", "LOW", "MEDIUM", "HIGH", "HIGH", "HIGH")
LOW_AND_HIGH = ("LOW", "LOW", "LOW", "HIGH", "HIGH", "HIGH", "HIGH")
LEVELS = {
    "gemini-3-pro-preview": LOW_AND_HIGH,
    "gemini-3-flash-preview": WITH_MINIMAL,
    "gemini-3.1-pro-preview": WITHOUT_MINIMAL,
    "gemini-3.1-pro-preview-customtools": WITHOUT_MINIMAL,
    "gemini-3.1-flash-lite": WITH_MINIMAL,
    "gemini-3.5-flash": WITH_MINIMAL,
    "gemini-3.5-flash-lite": WITH_MINIMAL,
    "gemini-3.6-flash": WITH_MINIMAL,
    "gemini-3.7-flash": WITHOUT_MINIMAL,
    "gemini-3.8-flash": WITHOUT_MINIMAL,
    "gemini-4-argon": WITHOUT_MINIMAL,
    "gemini-flash-latest": WITHOUT_MINIMAL,
    "gemini-5.1-of-tomorrow": WITHOUT_MINIMAL,
}


@pytest.mark.parametrize(("model", "budgets"), BUDGETS.items())
def test_2_5_thinks_by_budget(model, budgets):
    known = facts(model)

    assert tuple(thinking_budget(known, effort) for effort in EFFORTS) == budgets
    assert known.levels == ()


@pytest.mark.parametrize(("model", "levels"), LEVELS.items())
def test_3_and_later_think_by_level(model, levels):
    known = facts(model)

    assert tuple(thinking_level(known, effort) for effort in EFFORTS) == levels
    assert known.budget is None
    assert set(levels) <= set(known.levels)


@pytest.mark.parametrize(
    "model",
    [
        "gemini-2.0-flash",
        "gemini-2.0-flash-lite-001",
        "gemini-1.5-pro",
        "gemma-3-27b-it",
        "gemma-3n-e4b-it",
        "gemini-2.5-flash-image",
        "gemini-3-pro-image",
        "gemini-3.8-flash-tts",
        "gemini-2.5-flash-preview-tts",
    ],
)
def test_others_have_no_thinking_settings(model):
    assert not facts(model).thinks


def test_thinking_of_two_levels_takes_the_nearest():
    known = facts("gemma-4-31b-it")

    assert [thinking_level(known, effort) for effort in EFFORTS] == [
        "MINIMAL",
        "MINIMAL",
        "MINIMAL",
        "HIGH",
        "HIGH",
        "HIGH",
        "HIGH",
    ]


@pytest.mark.parametrize(
    ("model", "compromises"),
    [
        ("gemini-2.5-pro", {"none"}),
        ("gemini-2.5-flash", set()),
        ("gemini-3-flash-preview", {"none", "xhigh", "max"}),
        ("gemini-3.8-flash", {"none", "xhigh", "max"}),
    ],
)
def test_a_compromise_is_known_as_one(model, compromises):
    assert {effort for effort in EFFORTS if not is_exact(facts(model), effort)} == compromises


def test_the_least_thinking_is_none_where_it_can_be_stopped():
    assert least_thinking(facts("gemini-2.5-flash")) == {"thinkingBudget": 0}
    assert least_thinking(facts("gemini-2.5-pro")) == {"thinkingBudget": 128}
    assert least_thinking(facts("gemini-3-flash-preview")) == {"thinkingLevel": "MINIMAL"}
    assert least_thinking(facts("gemini-3.8-flash")) == {"thinkingLevel": "LOW"}


def test_a_budget_leaves_half_of_the_limit_to_the_answer():
    flash, lite, pro = facts("gemini-2.5-flash"), facts("gemini-2.5-flash-lite"), facts("gemini-2.5-pro")

    assert fitting_budget(flash, 24576, 10_000) == 5000
    assert fitting_budget(flash, 1024, 10_000) == 1024
    assert fitting_budget(lite, 1024, 1024) == 512
    assert fitting_budget(lite, 1024, 1000) == 0  # its least is 512
    assert fitting_budget(pro, 1024, 100) == 128


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("gemini-2.0-flash", False),
        ("gemini-2.5-pro", False),
        ("gemma-3-27b-it", False),
        ("gemini-3-flash-preview", True),
        ("gemini-3.1-pro-preview", True),
        ("gemini-3-pro-image", True),
        ("gemini-4-argon", True),
        ("gemini-pro-latest", True),
    ],
)
def test_from_3_on_signatures_are_checked_and_tools_combined(model, expected):
    assert facts(model).checks_signatures is expected
    assert facts(model).combines_tools is expected


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("gemini-2.5-flash", False),
        ("gemini-3.1-pro-preview", False),
        ("gemini-3.5-flash", False),
        ("gemini-3.5-flash-lite", True),
        ("gemini-3.6-flash", True),
        ("gemini-3.7-flash", True),
        ("gemini-3.8-flash-cyber", True),
        ("gemini-4-argon-cyber-permissive", True),
        ("gemini-flash-latest", True),
        ("gemini-5-of-tomorrow", True),
    ],
)
def test_sampling_is_ignored_by_the_newest(model, expected):
    assert facts(model).ignores_sampling is expected


def test_penalties_and_candidates_are_for_old_models():
    assert [facts(m).takes_penalties for m in ("gemini-2.0-flash", "gemini-2.5-pro", "gemini-3-flash-preview")] == [
        True,
        True,
        False,
    ]
    assert [facts(m).takes_candidates for m in ("gemini-2.0-flash", "gemini-2.5-pro", "gemini-3-flash-preview")] == [
        True,
        False,
        False,
    ]
    assert takes_candidates("gemini-2.0-flash", 8)
    assert not takes_candidates("gemini-2.0-flash", 9)
    assert not takes_candidates("gemini-2.5-flash", 2)


def test_gemma_3_takes_no_system_instruction():
    assert not facts("gemma-3-27b-it").takes_system
    assert facts("gemma-4-31b-it").takes_system
    assert facts("gemini-2.0-flash").takes_system


@pytest.mark.parametrize(
    "model",
    [
        "gemini-2.5-flash-image",
        "gemini-3-pro-image",
        "gemini-3.1-flash-image",
        "gemini-3.1-flash-lite-image",
        "gemini-nano-banana-2.1",
    ],
)
def test_image_models_make_images(model):
    assert facts(model).makes_images
    assert not facts(model.replace("-image", "").replace("nano-banana-2.1", "x")).makes_images


def test_a_version_that_nobody_knows_yet_is_judged_by_its_number():
    assert facts("gemini-2.7-flash").budget == (1, 24576)
    assert facts("gemini-2.4-flash").budget is None
    assert facts("gemini-3.55-flash").levels == ("LOW", "MEDIUM", "HIGH")
    assert not facts("gemini-3.55-flash").ignores_sampling


@pytest.mark.parametrize("name", ["", "x", "gemini-", "gemini-" + "9" * 5000, "gemini-2.5" + "-tt" * 50_000, "gpt-4o"])
def test_any_name_has_facts(name):
    assert facts(name).generation > 0
