"""Any method, path and query, and any body of the routes that keep things: an answer or a 4xx that says why."""

import pytest

pytest.importorskip("hypothesis")

import laws
from hunting import Pool, hunt, spoiled, texts
from hypothesis import given
from hypothesis import strategies as some
from laws import Ask

ITEMS = [
    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]},
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "ho"}], "id": "msg_1"},
    {"role": "developer", "content": "be brief"},
    {"type": "function_call", "call_id": "c1", "name": "look", "arguments": '{"at":1}', "id": "fc_1"},
    {"type": "function_call_output", "call_id": "c1", "output": "seen"},
    {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "e"},
    {"type": "item_reference", "id": "msg_1"},
    {"type": "compaction", "id": "cmp_1", "encrypted_content": "x"},
]
MODEL = "gemini-2.5-flash"
RESPONSES = [
    {"model": MODEL, "input": "hi", "store": True, "metadata": {"a": "b"}},
    {"model": MODEL, "input": ITEMS[:5], "instructions": "x", "conversation": None, "include": []},
    {"model": MODEL, "input": ITEMS[3:5], "stream": True, "store": False, "truncation": "auto"},
    {"model": MODEL, "input": "hi", "background": True, "previous_response_id": "resp_1"},
    {"model": MODEL, "input": "hi", "conversation": {"id": "conv_1"}, "prompt": {"id": "p"}},
]
CONVERSATIONS = [{"items": ITEMS, "metadata": {"a": "b"}}, {"items": ITEMS[:2]}, {"metadata": {}}, {}]
responses, conversations = spoiled(Pool(RESPONSES)), spoiled(Pool(CONVERSATIONS))

parameters = some.sampled_from(
    [
        "limit",
        "order",
        "after",
        "stream",
        "starting_after",
        "include",
        "include[]",
        "include_obfuscation",
        "x",
        "%6cimit",
    ]
)
arguments = some.sampled_from(
    ["", "0", "1", "20", "101", "-1", "1e3", "9" * 50, "٣", "²", "%D9%A3", "%b2", "true", "asc", "desc", "ASC", "a%00b",
     "%", "%zz", "%ff", "msg_1", "+1", "message.output_text.logprobs"]
) | some.text(some.characters(min_codepoint=33, max_codepoint=126), max_size=4)  # fmt: skip
queries = some.lists(
    some.tuples(parameters, some.sampled_from(["=", "", "=="]), arguments).map("".join), max_size=3
).map("&".join) | some.text(some.characters(min_codepoint=33, max_codepoint=126), max_size=12)
below_response = some.tuples(
    some.sampled_from(["GET", "GET", "DELETE", "POST"]), some.sampled_from(["", "/input_items", "/cancel", "/x", "/"])
)
below_conversation = some.tuples(
    some.sampled_from(["GET", "GET", "DELETE", "POST"]),
    some.sampled_from(["", "/items", "/items", "/items/msg_1", "/items/%00", "/items/{0}", "/items/"]),
)


@hunt(25)
@given(
    responses,
    some.lists(some.tuples(below_response, queries), max_size=3),
    responses,
    some.just("{0}") | texts,
)
def test_any_response_that_is_kept_and_any_question_about_it(body, asked, later, before):
    calls = [Ask("/v1/responses/{0}" + end, b"", method, query) for (method, end), query in asked]
    going_on = later | {"previous_response_id": before} if isinstance(later, dict) else later
    first = Ask("/v1/responses", body | {"stream": False} if isinstance(body, dict) else body)
    laws.told([first, *calls, Ask("/v1/responses", going_on)])


@hunt(25)
@given(
    conversations,
    some.lists(some.tuples(below_conversation, queries, conversations), max_size=4),
)
def test_any_conversation_and_any_change_of_it(body, asked):
    calls = [Ask("/v1/conversations/{0}" + end, more, method, query) for (method, end), query, more in asked]
    ended = Ask("/v1/responses", {"model": MODEL, "input": "hi", "conversation": "{0}"})
    laws.told([Ask("/v1/conversations", body), *calls, ended])


@hunt(25)
@given(some.sampled_from(["/v1/responses/input_tokens", "/v1/responses/compact"]), responses)
def test_any_body_to_count_or_to_compact(path, body):
    laws.told([Ask(path, body)])


segments = some.sampled_from(
    ["v1", "v1beta", "openai", "models", "chat", "completions", "responses", "conversations", "items", "agproxy", "why",
     "healthz", "readyz", "input_items", "cancel", "compact", "input_tokens", "messages", "..", "", "%2F", "%2e%2e",
     "%", "%00", "%zz", "%ff%fe", "%E2%82%AC", "a:b", "models%2Fx", "{id}", "*", "req_1", "gemini-2.5-flash", ";", "~"]
)  # fmt: skip
paths = some.lists(segments, max_size=6).map(lambda found: "/" + "/".join(found)) | some.text(
    some.characters(min_codepoint=33, max_codepoint=126, exclude_characters="?"), max_size=10
).map(lambda text: "/" + text)


@hunt(80)
@given(
    paths,
    some.sampled_from(["GET", "POST", "DELETE", "HEAD", "PUT", "PATCH", "OPTIONS", "BREW"]),
    queries,
    some.sampled_from([b"", b"{}", b"[]", b"\xff", b'{"model":"m","input":"x"}', b'{"model":"m","messages":[]}']),
)
def test_any_path_leads_to_an_answer_or_a_refusal(path, method, query, body):
    laws.told([Ask(path, body, method, query)], is_kept=False)
