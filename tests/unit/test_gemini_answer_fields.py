"""The table of Gemini's answer fields: it has all that was recorded, and tells what it has not."""

import pytest
from recorded import FOLDER, upstream_answers

from agproxy.backends.gemini.answer_fields import COUNT, GENERATE, paths, unknown

RECORDED = list(upstream_answers()) if FOLDER.is_dir() else []


@pytest.mark.skipif(not RECORDED, reason="no recorded traffic: set AGPROXY_RECORDED")
def test_every_recorded_field_is_known():
    assert len(RECORDED) > 200
    new = {path for answer in RECORDED for chunk in answer.chunks for path in unknown(chunk, GENERATE)}
    assert sorted(new) == []


def test_new_fields_are_told_by_their_path_once():
    answer = {
        "candidates": [
            {"content": {"parts": [{"text": "x", "new": {"below": 1}}, {"new": 2}]}},
            {"finishReason": "STOP", "other": None},
        ],
        "usageMetadata": {"promptTokensDetails": [{"modality": "TEXT", "shade": 1}]},
        "more": [],
    }
    assert unknown(answer, GENERATE) == (
        "candidates[].content.parts[].new",
        "candidates[].other",
        "usageMetadata.promptTokensDetails[].shade",
        "more",
    )


def test_what_may_hold_anything_is_not_looked_into():
    part = {"functionCall": {"name": "f", "args": {"anything": {"at": ["all"]}}}}
    answer = {"candidates": [{"content": {"parts": [part]}}]}
    assert unknown(answer, GENERATE) == ()
    assert "candidates[].content.parts[].functionCall.args" in paths(answer, GENERATE)


@pytest.mark.parametrize("value", [None, 1, "x", [], [None, 2], {}, {"candidates": "x"}, {"candidates": [1, None]}])
def test_no_answer_is_too_odd(value):
    assert unknown(value, GENERATE) == ()


def test_counts():
    assert unknown({"totalTokens": 3, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 3}]}, COUNT) == ()
    assert unknown({"totalTokens": 3, "candidates": []}, COUNT) == ("candidates",)
