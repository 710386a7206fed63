"""Any answer of upstream, in any split: an answer or an error in the client's own protocol, and every stream that has
begun ends as its protocol says; what comes whole and what comes as a stream is the same.

The good answers to spoil are some of our own, those of tests/golden, and the recorded ones where they are.
"""

import json
import random
from pathlib import Path

import pytest

pytest.importorskip("hypothesis")

import laws
from hunting import Pool, hunt, small, spoiled, spoiled_bytes
from hypothesis import given
from hypothesis import strategies as some
from recorded import FOLDER, upstream_answers

GOLDEN = Path(__file__).parents[1] / "golden"
SIGNED = {"thoughtSignature": "c2ln"}
OWN = [
    laws.GOOD,
    {
        "candidates": [
            {
                "content": {
                    "parts": [
                        {"text": "thinking", "thought": True},
                        {"text": "see "},
                        {"functionCall": {"name": "look", "args": {"at": [1, None]}, "id": "c1"}, **SIGNED},
                        {"functionCall": {"name": "note", "args": {"input": "raw"}}},
                        {"functionCall": {"name": "shell", "args": {"commands": ["ls"]}}},
                        {"inlineData": {"mimeType": "image/png", "data": "aGk="}},
                        {"executableCode": {"language": "PYTHON", "code": "1"}},
                        {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}},
                    ]
                },
                "finishReason": "STOP",
                "index": 0,
                "citationMetadata": {"citations": [{"startIndex": 0, "endIndex": 2, "uri": "https://a"}]},
                "groundingMetadata": {
                    "webSearchQueries": ["q"],
                    "groundingChunks": [{"web": {"uri": "https://b", "title": "b"}}],
                    "groundingSupports": [{"segment": {"endIndex": 3}, "groundingChunkIndices": [0]}],
                },
                "logprobsResult": {"chosenCandidates": [{"token": "see", "logProbability": -0.5}]},
            }
        ]
    },
    {"candidates": [{"finishReason": "SAFETY", "index": 1, "finishMessage": "no"}]},
    {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 3}},
    {"error": {"code": 503, "message": "busy", "status": "UNAVAILABLE"}},
    {
        "candidates": [
            {
                "content": {
                    "parts": [
                        {"functionCall": {"name": "look", "willContinue": True}},
                        {
                            "functionCall": {
                                "partialArgs": [{"jsonPath": "$.a[0].b", "stringValue": "x", "willContinue": True}],
                                "willContinue": True,
                            }
                        },
                        {"functionCall": {"partialArgs": [{"jsonPath": "$.a[0].b", "stringValue": "y"}]}},
                        {"functionCall": {}},
                    ]
                }
            }
        ]
    },
]


def chunks_of_golden():
    for file in sorted(GOLDEN.glob("*/*/3-upstream-response.*")):
        text = file.read_text("utf-8")
        try:
            if file.suffix == ".json":
                value = json.loads(text)
                yield [one["body"] for one in value] if isinstance(value, list) else [value]
            else:
                yield [json.loads(line[5:]) for line in text.splitlines() if line.startswith("data:")]
        except ValueError:  # a case about what is no JSON
            continue


# Each chunk as what can be spoiled; and whole answers, as lists of chunks.
ANSWERS = [[one] for one in OWN] + [chunks for chunks in chunks_of_golden() if chunks]
if FOLDER.is_dir():
    ANSWERS += [list(answer.chunks) for answer in upstream_answers()]
ANSWERS = [small(chunks) for chunks in ANSWERS]
CHUNKS = Pool([chunk for chunks in ANSWERS for chunk in chunks[:3]])
WHOLE = Pool(ANSWERS)
names = some.sampled_from(sorted(laws.PATHS))
chunks = some.one_of(
    some.lists(some.sampled_from(CHUNKS.values) | spoiled(CHUNKS, 2), min_size=1, max_size=4),
    spoiled(WHOLE, 3).filter(lambda value: isinstance(value, list) and value),
)
options = some.fixed_dictionaries(
    {"model": some.sampled_from(["gemini-2.5-flash", "gemini-2.0-flash"])},
    optional={"n": some.integers(1, 2), "logprobs": some.booleans()},
)


def split_by(seed):
    """Some pieces, decided by a seed, so that an example is short to tell."""

    def split(data):
        chance = random.Random(seed)
        if seed % 5 == 0:
            return [data[i : i + 1] for i in range(len(data))]
        cuts = sorted(chance.randrange(len(data) + 1) for _ in range(chance.randint(1, 8)))
        return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True) if a < b]

    return split


def more_of(name, more):
    """What of the options a protocol has, in its own form."""
    if name == "openai_responses":
        return {"model": more["model"]}
    return more | {"logprobs": int(more["logprobs"])} if name == "openai_completions" and "logprobs" in more else more


@hunt(60)
@given(names, chunks, some.integers(0, 99), options)
def test_any_stream_of_upstream_ends_legally_and_the_same_in_any_split(name, said, seed, more):
    laws.streams(name, said, split_by(seed), **more_of(name, more))


@hunt(60)
@given(names, some.sampled_from(CHUNKS.values) | spoiled(CHUNKS, 3), options)
def test_any_answer_is_the_same_whole_and_streamed(name, said, more):
    laws.same_whole_and_streamed(name, said, **more_of(name, more))


ERRORS = Pool(
    [
        {"error": {"code": 429, "message": "slow down", "status": "RESOURCE_EXHAUSTED", "details": details}}
        for details in (
            [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "3.5s"}],
            [
                {
                    "@type": "type.googleapis.com/google.rpc.QuotaFailure",
                    "violations": [
                        {"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier", "quotaValue": "20"}
                    ],
                },
                {"@type": "type.googleapis.com/google.rpc.Help", "links": [{"url": "https://x"}]},
            ],
            [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}],
            [{"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [{"field": "contents[0]"}]}],
        )
    ]
    + [answer.chunks[0] for answer in (upstream_answers() if FOLDER.is_dir() else ()) if answer.status != 200]
)
events = some.lists(
    (some.sampled_from(CHUNKS.values) | some.just({"error": {"code": 500}})).map(
        lambda chunk: b"data: " + json.dumps(chunk).encode() + b"\n\n"
    ),
    max_size=2,
).map(b"".join)
STREAM_PIECES = [
    b"\n",
    b"\r",
    b"data: ",
    b"data",
    b": x\n",
    b"{",
    b"}",
    b"[",
    b"\xff",
    b"event: error\n",
    b'{"error": {}}',
    b"[DONE]",
]
raw = some.one_of(
    (some.sampled_from(ERRORS.values) | spoiled(ERRORS)).map(lambda value: json.dumps(value).encode()),
    spoiled_bytes(events, STREAM_PIECES),
    spoiled_bytes(some.sampled_from(CHUNKS.values).map(lambda value: json.dumps(value).encode()), STREAM_PIECES),
    some.sampled_from([b"", b"<html>", b"null", b"[]", b"[" * 9000]),
)
headers = some.lists(
    some.tuples(
        some.sampled_from(["retry-after", "date", "content-type", "x-goog-x"]),
        some.sampled_from(
            ["3", "9" * 400, "-1", "Wed, 21 Oct 2026 07:28:30 GMT", "1 Jan 9999 1:1 +9999", "text/html", ""]
        ),
    ),
    max_size=2,
)


@hunt(100)
@given(
    names,
    some.sampled_from([200, 200, 400, 401, 403, 404, 408, 413, 429, 429, 499, 500, 503, 504, 529, 302, 204]),
    raw,
    headers,
    some.booleans(),
)
def test_any_bytes_of_any_status_are_an_answer_or_an_error_of_the_protocol(name, status, body, headers, is_stream):
    laws.fails_well(name, status, body, headers, stream=is_stream, **({} if is_stream else {"stream_options": None}))
