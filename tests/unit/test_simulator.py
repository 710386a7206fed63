"""The simulated Gemini as a server: paths, keys, framing, failures on request, other methods."""

import asyncio
import json

import pytest
from simulator_client import (
    FLASH,
    KEY,
    THIRD,
    VERTEX,
    Clock,
    Kept,
    ask,
    generate,
    prompt,
    stream,
    streamed_parts,
    text_of,
)

import agproxy.simulator
from agproxy.errors import HttpRefused
from agproxy.http11 import HttpRequest
from agproxy.simulator import Simulator, refuse
from agproxy.simulator.markers import MARKERS
from agproxy.simulator.routes import KEY_WORDS


def bearer(token):
    return (("authorization", f"Bearer {token}"),)


# Paths and keys


@pytest.mark.parametrize(
    "path",
    [
        FLASH,
        "/v1/models/gemini-2.5-flash",
        "/v1alpha/models/gemini-2.5-flash",
        "/v1beta/models/gemini%2D2.5-flash",
        "/v1beta/tunedModels/mine",
        "/v1beta/models/gemini-99-of-tomorrow",
        "/v1beta/models/gemma-4-31b-it",
        f"{VERTEX}/gemini-2.5-flash",
        "/v1/projects/p/locations/europe-west4/publishers/google/models/gemini-2.5-flash",
        "/v1beta1/publishers/google/models/gemini-2.5-flash",
        "/v1/projects/p/locations/l/endpoints/123",
    ],
)
def test_every_path_of_both_apis_is_served(path):
    assert generate("Hello", path=path).text.startswith('Simulated answer to "Hello"')


def test_the_colon_may_be_percent_encoded():
    assert ask(f"{FLASH}%3AgenerateContent", prompt()).status == 200


@pytest.mark.parametrize("name", ["gpt-4o", "models%2Fgemini-2.5-flash", "gemini-embedding-001"])
def test_a_model_that_is_not_there_is_a_404_in_googles_words(name):
    answer = ask(f"/v1beta/models/{name}:generateContent", prompt())

    assert (answer.status, answer.error["status"]) == (404, "NOT_FOUND")
    assert "is not found for API version v1beta, or is not supported for generateContent." in answer.error["message"]
    assert "Call ListModels" in answer.error["message"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("HEAD", "/nothing"),
        ("GET", f"{FLASH}:generateContent"),
        ("POST", "/v1beta/models"),
        ("PUT", f"{FLASH}:generateContent"),
        ("POST", f"{FLASH}:sing"),
        ("POST", "/v2/models/gemini-2.5-flash:generateContent"),
    ],
)
def test_what_the_api_does_not_have_is_a_404(method, path):
    assert ask(path, method=method).error["status"] == "NOT_FOUND"


@pytest.mark.parametrize("headers", [KEY, bearer("t"), (("authorization", "bearer t"),)])
def test_any_key_will_do(headers):
    assert ask(f"{FLASH}:generateContent", prompt(), headers=headers).status == 200


def test_a_key_may_stand_in_the_query():
    assert ask(f"{FLASH}:generateContent?key=k", prompt(), headers=()).status == 200


def test_no_key_is_a_403_and_on_vertex_a_401():
    ours = ask(f"{FLASH}:generateContent", prompt(), headers=())
    vertex = ask(f"{VERTEX}/gemini-2.5-flash:generateContent", prompt(), headers=())

    assert (ours.status, ours.error["status"]) == (403, "PERMISSION_DENIED")
    assert ours.error["message"].startswith("Method doesn't allow unregistered callers")
    assert (vertex.status, vertex.error["details"][0]["reason"]) == (401, "CREDENTIALS_MISSING")


@pytest.mark.parametrize(
    ("key", "status", "name", "reason"),
    [
        ("my-invalid-key", 400, "INVALID_ARGUMENT", "API_KEY_INVALID"),
        ("expired", 401, "UNAUTHENTICATED", "ACCESS_TOKEN_EXPIRED"),
        ("denied", 403, "PERMISSION_DENIED", "SERVICE_DISABLED"),
        ("limited", 429, "RESOURCE_EXHAUSTED", None),
        ("exhausted", 429, "RESOURCE_EXHAUSTED", None),
        ("overloaded", 503, "UNAVAILABLE", None),
    ],
)
def test_a_word_in_a_key_decides_what_happens_to_it(key, status, name, reason):
    answer = ask(f"{FLASH}:generateContent", prompt(), headers=(("x-goog-api-key", key),))

    assert (answer.status, answer.error["code"], answer.error["status"]) == (status, status, name)
    assert next((one.get("reason") for one in answer.error.get("details", ()) if "reason" in one), None) == reason


def test_an_invalid_token_is_a_401():
    assert ask(f"{FLASH}:generateContent", prompt(), headers=bearer("invalid")).status == 401


def test_a_limited_key_names_its_quota_and_its_delay():
    def details(key):
        answer = ask(f"{FLASH}:generateContent", prompt(), headers=(("x-goog-api-key", key),))
        return {one["@type"].rpartition(".")[2]: one for one in answer.error["details"]}

    assert details("limited")["RetryInfo"]["retryDelay"] == "34.074824224s"
    assert "PerMinute" in details("limited")["QuotaFailure"]["violations"][0]["quotaId"]
    assert "PerDay" in details("exhausted")["QuotaFailure"]["violations"][0]["quotaId"]


def test_query_parameters_that_no_api_knows_are_refused():
    answer = ask(f"{FLASH}:generateContent?flavour=mint", prompt())

    assert answer.status == 400
    assert "Cannot bind query parameter. Field 'flavour' could not be found" in answer.error["message"]
    assert ask(f"{FLASH}:generateContent?$alt=json&prettyPrint=true&cachedContent=", prompt()).status == 200


# Framing


@pytest.mark.parametrize("query", ["alt=sse", "$alt=sse", "%24alt=sse"])
def test_alt_sse_gives_one_event_a_word_and_no_done(query):
    answer = ask(f"{FLASH}:streamGenerateContent?{query}", prompt("[[sim:say=one two three]]"))

    assert dict(answer.headers)["content-type"] == "text/event-stream"
    assert len(answer.writes) == len(answer.chunks) == 3
    assert [part["text"] for part in streamed_parts(answer.chunks)] == ["one", " two", " three"]
    assert b"[DONE]" not in answer.body


def test_without_alt_a_stream_is_one_array():
    answer = ask(f"{FLASH}:streamGenerateContent", prompt("[[sim:say=one two three]]"))

    assert dict(answer.headers)["content-type"] == "application/json; charset=UTF-8"
    assert len(answer.writes) == 4
    assert text_of(streamed_parts(answer.json)) == "one two three"


def test_an_error_of_a_stream_without_alt_is_a_list_of_one():
    plain = ask(f"{FLASH}:streamGenerateContent", {})
    events = ask(f"{FLASH}:streamGenerateContent?alt=sse", {})

    assert (plain.status, plain.json[0]["error"]["code"]) == (400, 400)
    assert (events.status, events.json["error"]["code"]) == (400, 400)


def test_the_same_request_gets_the_same_bytes():
    assert generate("Hello").body == generate("Hello").body
    assert stream("Hello").body == stream("Hello").body
    assert generate("Hello").json["responseId"] != generate("Hallo").json["responseId"]


def test_other_alphabets_are_kept():
    said = "Grüße, мир, 世界 🌍"

    assert text_of(streamed_parts(stream(f"[[sim:echo]]{said}").chunks)) == said
    assert said in generate(said).body.decode()


def test_a_lone_surrogate_comes_back_escaped():
    answer = ask(f"{FLASH}:generateContent", b'{"contents":[{"parts":[{"text":"a\\ud800b"}]}]}')

    assert answer.status == 200
    assert b"\\ud800" in answer.body


def test_the_words_of_a_stream_come_one_by_one_with_the_delay_between_them():
    clock = Clock()
    stream("[[sim:words=4]]", path=FLASH, simulator=Simulator(delay_seconds=0.25, sleep=clock))
    assert clock.waits == [0.25] * 3


def test_a_stream_waits_while_its_reader_is_slow():
    waits = []

    async def sleep(seconds):
        waits.append(seconds)
        if len(waits) == 1:
            reply.source.pause()
        if len(waits) == 4:
            reply.source.resume()
            assert len(reply.writes) == 1

    reply = Kept()
    body = json.dumps(prompt("[[sim:words=3]]")).encode()
    path = f"{FLASH}:streamGenerateContent"
    request = HttpRequest(method="POST", path=path, query="alt=sse", headers=KEY, body=body, peer="", id="1")
    asyncio.run(Simulator(sleep=sleep)(request, reply))

    assert len(reply.chunks) == 3
    assert reply.source is None


# Failures on request


@pytest.mark.parametrize(
    ("marker", "status", "name"),
    [
        ("400", 400, "INVALID_ARGUMENT"),
        ("400-location", 400, "FAILED_PRECONDITION"),
        ("400-too-long", 400, "INVALID_ARGUMENT"),
        ("401", 401, "UNAUTHENTICATED"),
        ("403", 403, "PERMISSION_DENIED"),
        ("404", 404, "NOT_FOUND"),
        ("429", 429, "RESOURCE_EXHAUSTED"),
        ("429=5", 429, "RESOURCE_EXHAUSTED"),
        ("429-daily", 429, "RESOURCE_EXHAUSTED"),
        ("429-zero", 429, "RESOURCE_EXHAUSTED"),
        ("429-capacity", 429, "RESOURCE_EXHAUSTED"),
        ("500", 500, "INTERNAL"),
        ("503", 503, "UNAVAILABLE"),
        ("504", 504, "DEADLINE_EXCEEDED"),
    ],
)
def test_a_marker_gives_the_error_that_it_names(marker, status, name):
    for answer in (generate(f"Hi [[sim:{marker}]]"), stream(f"Hi [[sim:{marker}]]")):
        assert (answer.status, answer.error["code"], answer.error["status"]) == (status, status, name)


def test_the_seconds_of_a_429_are_in_its_details_and_its_message():
    error = generate("[[sim:429=7.5]]").error

    assert error["details"][-1]["retryDelay"] == "7.5s"
    assert error["message"].endswith("Please retry in 7.5s.")


def test_a_quota_of_zero_says_so():
    assert "limit: 0" in generate("[[sim:429-zero]]").error["message"]


def test_html_is_what_a_front_end_sends():
    answer = stream("[[sim:html]]")

    assert (answer.status, dict(answer.headers)["content-type"]) == (502, "text/html; charset=UTF-8")
    assert answer.body.startswith(b"<!DOCTYPE html>")


def test_an_unknown_marker_is_told_with_the_known_ones():
    error = generate("[[sim:explode]]").error

    assert "unknown marker [[sim:explode]]" in error["message"]
    assert "error-mid-stream" in error["message"]


@pytest.mark.parametrize("marker", ["words", "words=many", "slow=soon", "fail-first=x", "fail-first=1,999", "call"])
def test_a_marker_with_a_wrong_value_is_told(marker):
    answer = generate(f"[[sim:{marker}]]")

    assert answer.status == 400
    assert answer.error["message"].startswith("Simulator: ")


def test_markers_in_older_turns_and_in_instructions_are_only_text():
    contents = [
        {"role": "user", "parts": [{"text": "[[sim:500]]"}]},
        {"role": "model", "parts": [{"text": "[[sim:500]]"}]},
        {"role": "user", "parts": [{"text": "Hi"}]},
    ]
    body = {"contents": contents, "systemInstruction": {"parts": [{"text": "[[sim:500]]"}]}}

    assert ask(f"{FLASH}:generateContent", body).status == 200


def test_fail_first_fails_as_often_as_it_says_for_each_prompt():
    simulator = Simulator(sleep=Clock())

    def statuses(text, number):
        return [generate(text, simulator=simulator).status for _ in range(number)]

    assert statuses("one [[sim:fail-first=2]]", 4) == [503, 503, 200, 200]
    assert statuses("two [[sim:fail-first=1,429]]", 2) == [429, 200]


def test_fail_first_remembers_a_bounded_number_of_prompts():
    simulator = Simulator(sleep=Clock())
    for number in range(1_100):
        generate(f"{number} [[sim:fail-first=1]]", simulator=simulator)

    assert len(simulator._failures) <= 1_024


def test_slow_waits_before_the_first_byte_and_pause_in_the_middle():
    clock = Clock()
    answer = stream("[[sim:slow=20]][[sim:pause=9]][[sim:words=4]]", path=FLASH, simulator=Simulator(sleep=clock))

    assert clock.waits == [20.0, 0.0, 9.0, 0.0]
    assert len(answer.chunks) == 4


def test_a_delay_may_be_asked_for_in_the_prompt():
    clock = Clock()
    stream("[[sim:delay=2]][[sim:words=3]]", path=FLASH, simulator=Simulator(delay_seconds=9, sleep=clock))
    assert clock.waits == [2.0, 2.0]


def test_cut_breaks_the_connection_inside_an_event():
    answer = stream("[[sim:cut]][[sim:words=10]]")

    assert answer.is_aborted
    assert 1 < len(answer.writes) < 11
    assert not answer.body.endswith(b"\r\n\r\n")
    assert generate("[[sim:cut]]").is_aborted


def test_an_error_in_mid_stream_is_bare_json_after_good_events():
    answer = stream("[[sim:error-mid-stream]][[sim:words=10]]")
    good, _, bare = answer.body.decode().rpartition("\r\n\r\n")

    assert answer.status == 200
    assert len(good.split("\r\n\r\n")) == 5
    assert json.loads(bare)["error"]["code"] == 499
    assert bare.startswith("{\n")


def test_an_error_in_the_middle_of_an_array_is_its_last_element():
    answer = ask(f"{THIRD}:streamGenerateContent", prompt("[[sim:error-mid-stream=503]][[sim:words=10]]"))

    assert (answer.status, answer.json[-1]["error"]["status"]) == (200, "UNAVAILABLE")
    assert "candidates" in answer.json[0]


def test_an_error_in_mid_stream_is_the_whole_answer_where_nothing_is_streamed():
    assert generate("[[sim:error-mid-stream=500]]").status == 500


def test_even_the_first_chunk_may_break():
    answer = ask(f"{FLASH}:streamGenerateContent", prompt("[[sim:error-mid-stream]][[sim:say=one]]"))
    assert answer.json[0]["error"]["code"] == 499


@pytest.mark.parametrize("path", [f"{FLASH}:generateContent", f"{FLASH}:streamGenerateContent"])
def test_garbage_is_no_json(path):
    answer = ask(path, prompt("[[sim:garbage]]"))

    assert answer.status == 200
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer.body)


def test_garbage_in_an_event_stream_is_an_event_that_is_no_json():
    with pytest.raises(json.JSONDecodeError):
        _ = stream("[[sim:garbage]]").chunks


def test_a_blocked_prompt_has_feedback_and_no_candidates():
    for answer in (generate("[[sim:blocked]]").json, *stream("[[sim:blocked=OTHER]]").chunks):
        assert answer["promptFeedback"]["blockReason"] in ("SAFETY", "OTHER")
        assert "candidates" not in answer
        assert answer["usageMetadata"]["totalTokenCount"] == answer["usageMetadata"]["promptTokenCount"]


# Other methods


def test_models_are_listed_in_pages():
    first = ask("/v1beta/models?pageSize=5").json
    rest = ask(f"/v1beta/models?pageSize=1000&pageToken={first['nextPageToken']}").json
    names = [model["name"] for model in first["models"] + rest["models"]]

    assert len(first["models"]) == 5
    assert "nextPageToken" not in rest
    assert len(set(names)) == len(names) == len(ask("/v1beta/models").json["models"])
    assert "models/gemini-3.8-flash" in names


@pytest.mark.parametrize("query", ["pageSize=x", "pageSize=-1", "pageToken=zzz", "pageToken=%C3%A9"])
def test_a_page_that_cannot_be_is_a_400(query):
    assert ask(f"/v1beta/models?{query}").status == 400


@pytest.mark.parametrize(
    ("name", "thinks", "output"),
    [
        ("gemini-3-pro-image-preview", True, 32_768),
        ("gemini-2.5-flash-lite-preview-06-17", True, 65_536),
        ("gemini-2.0-flash-preview-image-generation", False, 32_768),
        ("gemini-1.5-pro-002", False, 8_192),
        ("gemini-exp-1206", False, 8_192),
        ("gemini-7.1-ultra", True, 65_536),
        ("gemini-2.5-pro-tts-x", False, 16_384),
        ("learnlm-2.0-flash", False, 8_192),
        ("gemma-3n-e4b-it", False, 8_192),
        ("gemma-4-tiny", True, 32_768),
    ],
)
def test_a_name_that_is_not_listed_gets_the_facts_of_its_generation(name, thinks, output):
    model = ask(f"/v1beta/models/{name}").json
    assert (model.get("thinking", False), model["outputTokenLimit"]) == (thinks, output)


@pytest.mark.parametrize("name", ["text-embedding-004", "embedding-001", "gemini-embedding-exp-03-07"])
def test_older_embedding_models_embed(name):
    assert ask(f"/v1beta/models/{name}:embedContent", {"content": {"parts": [{"text": "x"}]}}).status == 200


def test_one_model_tells_its_limits():
    model = ask("/v1beta/models/gemini-3.8-flash").json

    assert (model["inputTokenLimit"], model["outputTokenLimit"], model["thinking"]) == (1_048_576, 65_536, True)
    assert "generateContent" in model["supportedGenerationMethods"]
    assert ask("/v1beta/models/gemini-embedding-001").json["supportedGenerationMethods"][0] == "embedContent"
    assert ask("/v1beta/models/nothing").status == 404


def test_an_alias_says_what_it_stands_for():
    answer = ask("/v1beta/models/gemini-flash-latest:generateContent", prompt())
    assert answer.json["modelVersion"] == "gemini-3.8-flash"


def test_count_tokens_agrees_with_the_usage_of_an_answer():
    body = prompt("How many words are in this sentence, and how many in the next?")
    counted = ask(f"{FLASH}:countTokens", body).json
    whole = ask(f"{FLASH}:countTokens", {"generateContentRequest": {"model": "models/gemini-2.5-flash"} | body}).json

    assert counted["totalTokens"] == ask(f"{FLASH}:generateContent", body).json["usageMetadata"]["promptTokenCount"]
    assert counted == whole


def test_count_tokens_takes_one_of_its_two_forms():
    both = prompt() | {"generateContentRequest": prompt()}

    assert ask(f"{FLASH}:countTokens", both).status == 400
    assert ask(f"{FLASH}:countTokens", {}).status == 400
    assert "totalBillableCharacters" in ask(f"{VERTEX}/gemini-2.5-flash:countTokens", prompt()).json


EMBEDDING = "/v1beta/models/gemini-embedding-001"


def embedding_of(text, **more):
    answer = ask(f"{EMBEDDING}:embedContent", {"content": {"parts": [{"text": text}]}} | more)
    return answer.json["embedding"]["values"]


def test_an_embedding_is_a_unit_vector_of_the_wanted_length():
    assert len(embedding_of("a cat")) == 3_072
    short = embedding_of("a cat", outputDimensionality=256)
    assert len(short) == 256
    assert sum(value * value for value in short) == pytest.approx(1)


def test_texts_that_share_words_are_closer():
    def likeness(first, second):
        return sum(a * b for a, b in zip(embedding_of(first), embedding_of(second), strict=True))

    assert likeness("the black cat sleeps", "the black cat sleeps") == pytest.approx(1)
    assert (
        likeness("the black cat sleeps", "the black cat eats") > 0.5 > likeness("the black cat", "stock markets fell")
    )
    assert likeness("dog bites man", "man bites dog") < 1


def test_a_batch_embeds_in_order():
    texts = ["one", "two", "three"]
    requests = [{"model": "models/gemini-embedding-001", "content": {"parts": [{"text": text}]}} for text in texts]
    batch = ask(f"{EMBEDDING}:batchEmbedContents", {"requests": requests}).json["embeddings"]

    assert [one["values"] for one in batch] == [embedding_of(text) for text in texts]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"requests": [{"content": {"parts": [{"text": "x"}]}}]},
        {"requests": [{"model": "models/gemini-embedding-2", "content": {"parts": [{"text": "x"}]}}]},
        {"requests": [{"model": "models/gemini-embedding-001", "content": {"parts": []}}]},
        {"requests": [{"model": "models/gemini-embedding-001", "content": {"parts": [{"text": "x"}]}}] * 101},
    ],
)
def test_a_batch_that_cannot_be_embedded_is_a_400(body):
    assert ask(f"{EMBEDDING}:batchEmbedContents", body).status == 400


def test_vertex_embeds_instances():
    body = {"instances": [{"content": "one"}, {"content": "two"}], "parameters": {"outputDimensionality": 8}}
    answer = ask(f"{VERTEX}/gemini-embedding-001:predict", body).json

    assert [len(one["embeddings"]["values"]) for one in answer["predictions"]] == [8, 8]
    assert answer["predictions"][0]["embeddings"]["statistics"] == {"truncated": False, "token_count": 1}


def test_a_model_that_only_answers_does_not_embed():
    assert ask(f"{FLASH}:embedContent", {"content": {"parts": [{"text": "x"}]}}).status == 404


def test_code_assist_wraps_request_and_answer():
    body = {"model": "gemini-2.5-flash", "project": "p", "request": prompt() | {"session_id": "s"}}
    whole = ask("/v1internal:generateContent", body, headers=bearer("t")).json
    events = ask("/v1internal:streamGenerateContent?alt=sse", body, headers=bearer("t")).chunks

    assert text_of(whole["response"]["candidates"][0]["content"]["parts"]).startswith("Simulated answer")
    assert all("response" in event and "traceId" in event for event in events)
    assert ask("/v1internal:loadCodeAssist", {}).json["currentTier"]["id"] == "free-tier"
    assert ask("/v1internal:sing", {}).status == 404
    assert ask("/v1internal:generateContent", {}).status == 400


def test_an_error_of_the_server_itself_looks_like_googles():
    error = HttpRefused("the body is over 100 bytes", status=413, headers=(("connection", "close"),))
    answer = refuse(error, f"{FLASH}:generateContent")

    assert (answer.status, json.loads(answer.body)["error"]["message"]) == (413, "the body is over 100 bytes")
    assert ("connection", "close") in answer.headers
    assert isinstance(json.loads(refuse(error, f"{FLASH}:streamGenerateContent").body), list)


# The manual


def test_the_manual_lists_every_marker_and_every_word_of_a_key():
    lines = {" ".join(line.split()) for line in (agproxy.simulator.__doc__ or "").splitlines()}

    for written, meaning in MARKERS.items():
        assert f"[[sim:{written}]] {meaning}" in lines
    for word, meaning in KEY_WORDS.items():
        assert f"{word} {meaning}" in lines


def test_the_manual_lists_nothing_that_is_not_there():
    listed = [line.strip() for line in (agproxy.simulator.__doc__ or "").splitlines() if line.startswith("    [[sim:")]
    assert len(listed) == len(MARKERS)
