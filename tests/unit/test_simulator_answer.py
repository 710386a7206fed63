"""What the simulated model says: text, calls, results, JSON, thoughts, limits, usage, signatures, tools, media."""

import base64
import json
import struct
import zlib

import pytest
from simulator_client import (
    FLASH,
    THIRD,
    VERTEX,
    WEATHER,
    ask,
    generate,
    prompt,
    stream,
    streamed_parts,
    text_of,
    tools,
)

FIRST_FLASH = "/v1beta/models/gemini-2.0-flash"


def system(text):
    return {"parts": [{"text": text}]}


def finish(answer):
    return answer.json["candidates"][0].get("finishReason")


def both(text, *, path=THIRD, **more):
    """One prompt's parts, whole and joined from a stream, which must say the same; and the usages of both."""
    whole = generate(text, path=path, **more).json
    chunks = stream(text, path=path, **more).chunks
    parts = whole["candidates"][0].get("content", {}).get("parts", [])
    pieces = streamed_parts(chunks)
    assert text_of(parts) == text_of(pieces)
    assert [one["functionCall"] for one in parts if "functionCall" in one] == [
        one["functionCall"] for one in pieces if "functionCall" in one
    ]
    assert whole["usageMetadata"] == chunks[-1]["usageMetadata"]
    assert whole["candidates"][0].get("finishReason") == chunks[-1]["candidates"][0].get("finishReason")
    assert whole["responseId"] == chunks[0]["responseId"]
    return parts


def calls_of(parts):
    return [(one["functionCall"]["name"], one["functionCall"]["args"]) for one in parts if "functionCall" in one]


# Text


def test_an_answer_names_the_question_and_the_instructions():
    parts = both("Why is the sky blue?", systemInstruction=system("You are a physicist."))

    assert text_of(parts) == ('Simulated answer to "Why is the sky blue?" (instructions: "You are a physicist.").')


def test_an_answer_is_to_the_last_question_and_says_which_turn_it_is():
    contents = [
        {"role": "user", "parts": [{"text": "First"}]},
        {"role": "model", "parts": [{"text": "One"}]},
        {"role": "user", "parts": [{"text": "Second"}]},
    ]
    assert ask(f"{FLASH}:generateContent", {"contents": contents}).text == 'Simulated answer to "Second" (turn 2).'


def test_files_are_named_with_their_size():
    image = {"inlineData": {"mimeType": "image/png", "data": base64.b64encode(b"12345").decode()}}
    there = {"fileData": {"mimeType": "video/mp4", "fileUri": "https://youtu.be/x"}}
    contents = [{"parts": [{"text": "What is this?"}, image, there]}]
    answer = ask(f"{FLASH}:generateContent", {"contents": contents})

    assert answer.text == 'Simulated answer to "What is this?" and image/png (5 bytes) and video/mp4.'
    details = {one["modality"]: one["tokenCount"] for one in answer.json["usageMetadata"]["promptTokensDetails"]}
    assert set(details) == {"TEXT", "IMAGE", "VIDEO"}


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("[[sim:say=Good day]]", "Good day"),
        ("[[sim:words=3]]", "w1 w2 w3"),
        ("[[sim:words=0]]", ""),
        ("[[sim:echo]] Repeat  me\nexactly ", "Repeat  me\nexactly"),
    ],
)
def test_markers_give_the_text(written, said):
    assert text_of(both(written, path=FLASH)) == said
    assert text_of(both(written, tools=tools())) == said


def test_an_answer_of_many_words_loses_none():
    assert text_of(both("[[sim:words=5000]]", path=FLASH)) == " ".join(f"w{n}" for n in range(1, 5001))


def test_candidates_are_several_and_differ():
    more = {"generationConfig": {"candidateCount": 3}}
    whole = generate("Hi", path=FIRST_FLASH, **more).json
    chunks = stream("Hi", path=FIRST_FLASH, **more).chunks
    texts = [text_of(one["content"]["parts"]) for one in whole["candidates"]]

    assert len(set(texts)) == 3
    assert [one["index"] for one in whole["candidates"]] == [0, 1, 2]
    assert [text_of(streamed_parts(chunks, n)) for n in range(3)] == texts
    assert whole["usageMetadata"] == chunks[-1]["usageMetadata"]
    assert [one["candidates"][0]["index"] for one in chunks[:3]] == [0, 1, 2]


# Functions


def test_a_function_is_called_with_what_the_sentence_names():
    for path in (FLASH, THIRD, f"{VERTEX}/gemini-3-flash-preview"):
        parts = both("What is the weather in New York?", path=path, tools=tools())
        assert calls_of(parts) == [("get_weather", {"location": "New York"})]


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("What is the weather in Paris and London?", ["Paris", "London"]),
        ("Weather in both Paris and Rome", ["Paris", "Rome"]),
        ("Check the weather twice please", ["Paris", "Paris"]),
        ('the weather at "home base"', ["home base"]),
        ("the weather", ["Paris"]),
        ("Get_Weather", ["Paris"]),
    ],
)
def test_parallel_calls_and_arguments_follow_the_words(text, places):
    assert [args["location"] for _, args in calls_of(both(text, tools=tools()))] == places


def test_numbers_in_the_sentence_become_arguments():
    number = {"type": "number"}
    add = {
        "name": "add",
        "parameters": {"type": "OBJECT", "properties": {"a": number, "b": number}, "required": ["a", "b"]},
    }
    assert generate("add 2 and 3.5", tools=tools(add)).calls == [("add", {"a": 2, "b": 3.5})]


def test_the_function_that_the_words_fit_best_is_called():
    clock = {"name": "read_clock", "description": "The time at a place."}

    assert generate("Read the clock, not the weather", tools=tools(WEATHER, clock)).calls == [("read_clock", {})]
    assert generate("Tell me the weather", tools=tools(clock, WEATHER)).calls[0][0] == "get_weather"
    assert generate("Sing a song", tools=tools(clock, WEATHER)).calls == []


def test_the_mode_decides_whether_to_call():
    def calls(text, mode, **more):
        config = {"functionCallingConfig": {"mode": mode} | more}
        return generate(text, tools=tools(WEATHER, {"name": "sing"}), toolConfig=config).calls

    assert calls("Hello", "AUTO") == []
    assert calls("the weather", "VALIDATED") == [("get_weather", {"location": "Paris"})]
    assert calls("the weather", "NONE") == []
    assert calls("Hello", "ANY") == [("get_weather", {"location": "Paris"})]
    assert calls("Hello", "ANY", allowedFunctionNames=["sing"]) == [("sing", {})]
    assert calls("[[sim:say=no]]", "ANY") != []


def conversation(*results, text="What is the weather in Paris?", calls=1, **more):
    """A question, its calls and their results."""
    called = [{"functionCall": {"name": "get_weather", "args": {}}} for _ in range(calls)]
    called[0] |= {"thoughtSignature": "c2ln"}
    answered = [{"functionResponse": {"name": "get_weather", "response": one}} for one in results]
    contents = [
        {"role": "user", "parts": [{"text": text}]},
        {"role": "model", "parts": called},
        {"role": "user", "parts": answered},
    ]
    return {"contents": contents, "tools": tools()} | more


def test_results_are_quoted_back_and_nothing_is_called_again():
    answer = ask(f"{FLASH}:generateContent", conversation({"output": "20 °C"}, {"temp": 21}, calls=2))

    assert answer.calls == []
    assert answer.text == (
        'Simulated answer to "What is the weather in Paris?": get_weather returned 20 °C; '
        'get_weather returned {"temp":21}.'
    )


def test_a_result_that_is_an_error_is_told_as_one():
    assert ask(f"{FLASH}:generateContent", conversation({"error": "no such place"})).text.endswith(
        "get_weather failed with no such place."
    )


def test_a_new_question_after_results_may_call_again():
    body = conversation({"output": "20"})
    body["contents"].append({"role": "user", "parts": [{"text": "And the weather in Rome?"}]})

    assert ask(f"{FLASH}:generateContent", body).calls == [("get_weather", {"location": "Rome"})]


def test_mode_any_calls_even_after_results():
    body = conversation({"output": "20"}, toolConfig={"functionCallingConfig": {"mode": "ANY"}})
    assert ask(f"{FLASH}:generateContent", body).calls != []


def test_markers_order_calls():
    assert calls_of(both("[[sim:call=anything]]")) == [("anything", {})]
    assert calls_of(both('[[sim:call=f {"a": [1, null]}]]')) == [("f", {"a": [1, None]})]
    assert calls_of(both("[[sim:call=get_weather]] for Oslo", tools=tools())) == [("get_weather", {"location": "Oslo"})]
    assert calls_of(both("[[sim:calls=3]]", tools=tools())) == [("get_weather", {"location": "Paris"})] * 3
    assert generate("[[sim:call=f nonsense]]").status == 400


def test_steps_are_called_one_after_another():
    text = "[[sim:steps=2]] weather"
    first = conversation({"output": "20"}, text=text)
    second = json.loads(json.dumps(first))
    second["contents"] += second["contents"][1:]

    assert generate(text, tools=tools()).calls != []
    assert ask(f"{FLASH}:generateContent", first).calls != []
    assert ask(f"{FLASH}:generateContent", second).calls == []


def test_a_call_may_have_a_preface():
    parts = both("[[sim:preface=Let me look. ]][[sim:call=f]]")
    assert [next(iter(part)) for part in parts] == ["text", "functionCall"]
    assert parts[0]["text"] == "Let me look. "


def test_a_marked_call_is_answered_with_text_after_its_result():
    body = conversation({"output": "20"}, text="[[sim:call=get_weather]][[sim:say=It is 20.]]")
    assert ask(f"{FLASH}:generateContent", body).text == "It is 20."


def test_calls_finish_with_stop_and_on_new_models_in_a_chunk_of_their_own():
    old = stream("the weather", path=FLASH, tools=tools()).chunks
    new = stream("the weather", tools=tools()).chunks

    assert [one["candidates"][0].get("finishReason") for one in old] == ["STOP"]
    assert [one["candidates"][0].get("finishReason") for one in new] == [None, "STOP"]
    assert streamed_parts(new)[-1] == {"text": ""}
    assert new[-1]["candidates"][0]["finishMessage"] == "Model generated function call(s)."


def test_ids_of_calls_come_with_3_5_and_differ():
    def ids(path):
        parts = generate("weather in Paris and London", path=path, tools=tools()).parts
        return [part["functionCall"].get("id") for part in parts]

    assert ids(FLASH) == ids("/v1beta/models/gemini-3-flash-preview") == [None, None]
    assert len(set(ids(THIRD))) == 2
    assert None not in ids(THIRD)


def test_vertex_streams_arguments_when_asked():
    path = f"{VERTEX}/gemini-3-flash-preview"
    config = {"functionCallingConfig": {"streamFunctionCallArguments": True}}
    text = '[[sim:call=f {"s": "two words", "n": 5, "l": [true, null], "odd key": 1}]]'
    chunks = stream(text, path=path, tools=tools(), toolConfig=config).chunks
    calls = [part["functionCall"] for part in streamed_parts(chunks)]

    assert calls[0] == {"name": "f", "willContinue": True}
    assert calls[-1] == {}
    pieces = [piece for call in calls for piece in call.get("partialArgs", [])]
    assert [(piece["jsonPath"], *list(piece.values())[1:2]) for piece in pieces] == [
        ("$.s", "two"),
        ("$.s", " words"),
        ("$.s", ""),
        ("$.n", 5),
        ("$.l[0]", True),
        ("$.l[1]", "NULL_VALUE"),
        ('$["odd key"]', 1),
    ]
    assert "thoughtSignature" in streamed_parts(chunks)[0]
    assert chunks[-1]["candidates"][0]["finishReason"] == "STOP"


# JSON

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 18}},
    "required": ["name", "age"],
}


def test_json_follows_the_schema_wherever_it_is_given():
    mime = {"responseMimeType": "application/json"}
    for config in (
        mime | {"responseJsonSchema": PERSON},
        mime | {"responseSchema": PERSON},
        {"responseFormat": [{"text": {"mimeType": "APPLICATION_JSON", "schema": PERSON}}]},
    ):
        value = json.loads(text_of(both("Describe Grace Hopper", generationConfig=config)))
        assert value == {"name": "Grace Hopper", "age": 18}


def test_json_without_a_schema_is_an_object_of_its_own():
    config = {"responseMimeType": "application/json"}
    assert json.loads(generate("Hi", generationConfig=config).text) == {"answer": 'Simulated answer to "Hi".'}


def test_an_enum_answer_is_the_bare_word():
    config = {"responseMimeType": "text/x.enum", "responseSchema": {"type": "STRING", "enum": ["red", "blue"]}}
    assert generate("Colour?", generationConfig=config).text == "red"


def test_a_schema_that_nothing_satisfies_is_a_400():
    config = {"responseMimeType": "application/json", "responseJsonSchema": {"$ref": "#/nowhere"}}
    assert generate("Hi", generationConfig=config).status == 400


# Thinking, limits, usage


def thoughts(parts):
    return [part for part in parts if part.get("thought")]


def usage(text="Hi", path=THIRD, **config):
    return generate(text, path=path, generationConfig=config).json["usageMetadata"]


def test_thoughts_are_counted_and_shown_only_when_asked_for():
    config = {"thinkingConfig": {"includeThoughts": True}}
    hidden, shown = generate("Hi"), generate("Hi", generationConfig=config)

    assert not thoughts(hidden.parts)
    assert hidden.json["usageMetadata"]["thoughtsTokenCount"] == shown.json["usageMetadata"]["thoughtsTokenCount"]
    assert shown.parts[0]["thought"] is True
    assert hidden.text == shown.text
    pieces = streamed_parts(stream("Hi", generationConfig=config).chunks)
    assert "".join(one["text"] for one in thoughts(pieces)) == shown.parts[0]["text"]


def test_more_effort_thinks_longer():
    levels = [
        usage(thinkingConfig={"thinkingLevel": level})["thoughtsTokenCount"] for level in ("LOW", "MEDIUM", "HIGH")
    ]

    assert levels == sorted(set(levels))
    assert "thoughtsTokenCount" not in usage(path=FLASH, thinkingConfig={"thinkingBudget": 0})
    assert "thoughtsTokenCount" not in usage(path="/v1beta/models/gemini-2.5-flash-lite")
    assert "thoughtsTokenCount" not in usage(path=FIRST_FLASH)
    assert usage(path=FLASH, thinkingConfig={"thinkingBudget": 5})["thoughtsTokenCount"] <= 5


def test_the_length_of_thinking_may_be_marked():
    assert usage("[[sim:think=500]]")["thoughtsTokenCount"] >= 500


def test_usage_adds_up_everywhere():
    for text in ("Hi", "weather in Paris and London", "[[sim:think=9]][[sim:cached=3]]"):
        for path in (FLASH, THIRD, f"{VERTEX}/gemini-3.8-flash", FIRST_FLASH):
            counted = generate(text, path=path, tools=tools()).json["usageMetadata"]
            summed = sum(
                counted.get(f"{name}TokenCount", 0) for name in ("prompt", "candidates", "thoughts", "toolUsePrompt")
            )
            assert counted["totalTokenCount"] == summed
            assert sum(one["tokenCount"] for one in counted["promptTokensDetails"]) == counted["promptTokenCount"]
            assert counted.get("cachedContentTokenCount", 0) <= counted["promptTokenCount"]


def test_usage_of_a_stream_is_cumulative_in_every_chunk_and_on_vertex_in_the_last():
    counts = [one["usageMetadata"] for one in stream("Hi there", path=THIRD).chunks]
    answered = [one.get("candidatesTokenCount", 0) for one in counts]
    vertex = [one["usageMetadata"] for one in stream("Hi there", path=f"{VERTEX}/gemini-3.8-flash").chunks]

    assert answered == sorted(answered)
    assert all(one["promptTokenCount"] == counts[0]["promptTokenCount"] for one in counts)
    assert all(one == {"trafficType": "ON_DEMAND"} for one in vertex[:-1])
    assert vertex[-1]["totalTokenCount"] == counts[-1]["totalTokenCount"]


def test_a_limit_counts_thinking_and_may_leave_nothing_to_say():
    starved = generate("Hi", generationConfig={"maxOutputTokens": 3})
    cut = generate("[[sim:words=10]]", path=FIRST_FLASH, generationConfig={"maxOutputTokens": 4})

    assert finish(starved) == finish(cut) == "MAX_TOKENS"
    assert starved.json["candidates"][0]["content"] == {"role": "model"}
    assert starved.json["usageMetadata"]["thoughtsTokenCount"] == 3
    assert "candidatesTokenCount" not in starved.json["usageMetadata"]
    assert cut.text == "w1 w2 w3 w4"


def test_a_call_that_does_not_fit_is_not_made():
    answer = generate("the weather", path=FIRST_FLASH, tools=tools(), generationConfig={"maxOutputTokens": 1})
    assert (answer.calls, finish(answer)) == ([], "MAX_TOKENS")


def test_stop_sequences_end_the_answer_before_them():
    config = {"stopSequences": ["w5", "w3"]}
    answer = generate("[[sim:words=9]]", generationConfig=config)

    assert (answer.text, finish(answer)) == ("w1 w2 ", "STOP")
    assert text_of(streamed_parts(stream("[[sim:words=9]]", generationConfig=config).chunks)) == "w1 w2 "


@pytest.mark.parametrize(
    ("marker", "reason"),
    [
        ("safety", "SAFETY"),
        ("recitation", "RECITATION"),
        ("max-tokens", "MAX_TOKENS"),
        ("finish=FAKE_ENUM", "FAKE_ENUM"),
        ("malformed-call", "MALFORMED_FUNCTION_CALL"),
        ("empty", "STOP"),
        ("no-finish", None),
    ],
)
def test_a_marker_decides_how_the_answer_ends(marker, reason):
    whole = generate(f"Hello there [[sim:{marker}]]").json
    chunks = stream(f"Hello there [[sim:{marker}]]").chunks

    assert whole["candidates"][0].get("finishReason") == reason
    assert chunks[-1]["candidates"][0].get("finishReason") == reason
    assert [one["candidates"][0].get("finishReason") for one in chunks[:-1]] == [None] * (len(chunks) - 1)


def test_a_filtered_answer_keeps_its_half_in_a_stream_and_nothing_in_a_whole():
    chunks = stream("Hello there [[sim:safety]]").chunks
    whole = generate("Hello there [[sim:safety]]").json["candidates"][0]

    assert text_of(streamed_parts(chunks)).startswith("Simulated answer")
    assert "content" not in chunks[-1]["candidates"][0]
    assert "content" not in whole
    assert any(rating.get("blocked") for rating in whole["safetyRatings"])


def test_a_recitation_cites_its_source_in_each_apis_way():
    ours = generate("[[sim:recitation]]").json["candidates"][0]["citationMetadata"]
    vertex = generate("[[sim:recitation]]", path=f"{VERTEX}/gemini-3.8-flash").json["candidates"][0]["citationMetadata"]

    assert ours["citationSources"] == vertex["citations"] == [{"endIndex": 20, "uri": "https://example.com/source"}]


# Signatures


def signed(parts):
    return ["thoughtSignature" in part for part in parts]


def test_gemini_3_signs_the_first_call_and_the_end_of_text():
    assert signed(generate("weather in Paris and London", tools=tools()).parts) == [True, False]
    assert signed(generate("Hi").parts) == [True]
    pieces = streamed_parts(stream("Hi").chunks)
    assert signed(pieces) == [False] * (len(pieces) - 1) + [True]
    assert pieces[-1]["text"] == ""


def test_gemini_2_5_signs_the_first_part_if_it_thought_with_functions():
    assert signed(generate("weather in Paris and London", path=FLASH, tools=tools()).parts) == [True, False]
    assert signed(generate("Hi", path=FLASH, tools=tools()).parts) == [True]
    assert signed(generate("Hi", path=FLASH).parts) == [False]
    silent = {"thinkingConfig": {"thinkingBudget": 0}}
    assert signed(generate("Hi", path=FLASH, tools=tools(), generationConfig=silent).parts) == [False]


def test_a_signature_is_base64_and_is_taken_back():
    answer = generate("the weather", tools=tools())
    (part,) = answer.parts
    assert len(base64.b64decode(part["thoughtSignature"], validate=True)) > 60
    call = part["functionCall"]
    result = {"functionResponse": {"id": call["id"], "name": call["name"], "response": {"output": "20"}}}
    body = prompt("the weather", tools=tools())
    body["contents"] += [{"role": "model", "parts": [part]}, {"role": "user", "parts": [result]}]

    assert "20" in ask(f"{THIRD}:generateContent", body).text


# Tools of the server, media, the rest


def test_search_cites_with_byte_offsets():
    answer = generate("Grüße aus Köln 🌍", tools=[{"googleSearch": {}}]).json["candidates"][0]
    metadata = answer["groundingMetadata"]
    (support,) = metadata["groundingSupports"]
    segment = support["segment"]
    text = answer["content"]["parts"][-1]["text"].encode()

    assert metadata["webSearchQueries"] == ["Grüße aus Köln 🌍"]
    assert text[segment.get("startIndex", 0) : segment["endIndex"]].decode() == segment["text"]
    assert metadata["groundingChunks"][support["groundingChunkIndices"][0]]["web"]["uri"].startswith("https://")


def test_grounding_comes_in_the_last_chunk():
    chunks = stream("Hi", tools=[{"googleSearch": {}}]).chunks
    assert ["groundingMetadata" in one["candidates"][0] for one in chunks] == [False] * (len(chunks) - 1) + [True]


def test_pages_in_the_prompt_are_read():
    tool = [{"urlContext": {}}]
    answer = generate("Read https://example.com/a and https://example.com/b", path=FLASH, tools=tool).json
    (candidate,) = answer["candidates"]

    assert [one["retrievedUrl"] for one in candidate["urlContextMetadata"]["urlMetadata"]] == [
        "https://example.com/a",
        "https://example.com/b",
    ]
    assert answer["usageMetadata"]["toolUsePromptTokenCount"] > 0


@pytest.mark.parametrize(
    ("tool", "kind"), [("googleMaps", "maps"), ("fileSearch", "retrievedContext"), ("googleSearchRetrieval", "web")]
)
def test_other_sources_have_their_own_chunks(tool, kind):
    (chunk,) = generate("Hi", tools=[{tool: {}}]).json["candidates"][0]["groundingMetadata"]["groundingChunks"]
    assert kind in chunk


def test_calls_of_the_server_are_shown_when_asked_for():
    more = {"tools": [{"googleSearch": {}}], "toolConfig": {"includeServerSideToolInvocations": True}}
    parts = generate("Hi", **more).parts

    assert [next(iter(part)) for part in parts] == ["toolCall", "toolResponse", "text"]
    assert parts[0]["toolCall"]["id"] == parts[1]["toolResponse"]["id"]
    assert signed(parts) == [True, True, True]


@pytest.mark.parametrize(
    ("question", "output"),
    [
        ("How much is 6 * 7?", "42"),
        ("1.5 + 1", "2.5"),
        ("2 ^ 10", "1024"),
        ("8 / 2", "4"),
        ("run some python", "simulated"),
    ],
)
def test_code_is_run_when_something_is_to_be_computed(question, output):
    parts = both(question, tools=[{"codeExecution": {}}])

    assert [next(iter(part)) for part in parts] == ["executableCode", "codeExecutionResult", "text"]
    assert parts[1]["codeExecutionResult"] == {
        "outcome": "OUTCOME_OK",
        "output": f"{output}\n",
        "id": parts[0]["executableCode"]["id"],
    }
    assert parts[2]["text"].startswith(f"{output} is the result.")


@pytest.mark.parametrize("question", ["1 / 0", "9 ^ 99999", "-8 ^ 0.5"])
def test_code_that_fails_says_so(question):
    parts = generate(question, tools=[{"codeExecution": {}}]).parts
    assert parts[1]["codeExecutionResult"]["outcome"] == "OUTCOME_FAILED"


def test_code_is_left_alone_when_nothing_is_to_be_computed():
    assert "executableCode" not in generate("Hello", tools=[{"codeExecution": {}}]).parts[0]


def test_log_probabilities_cover_every_token():
    config = {"responseLogprobs": True, "logprobs": 2}
    path = f"{VERTEX}/gemini-2.5-flash"
    (candidate,) = generate("Hi there", path=path, generationConfig=config).json["candidates"]
    chunks = stream("Hi there", path=path, generationConfig=config).chunks
    chosen = candidate["logprobsResult"]["chosenCandidates"]

    assert "".join(one["token"] for one in chosen) == candidate["content"]["parts"][0]["text"]
    assert all(one["logProbability"] <= 0 for one in chosen)
    assert [len(one["candidates"]) for one in candidate["logprobsResult"]["topCandidates"]] == [2] * len(chosen)
    assert candidate["avgLogprobs"] < 0
    streamed = [one for chunk in chunks for one in chunk["candidates"][0]["logprobsResult"]["chosenCandidates"]]
    assert streamed == chosen


def test_an_image_model_draws_a_png_in_the_wanted_proportions():
    path = "/v1beta/models/gemini-2.5-flash-image"
    config = {"imageConfig": {"aspectRatio": "16:9"}, "responseModalities": ["TEXT", "IMAGE"]}
    answer = generate("A cat", path=path, generationConfig=config)
    data = base64.b64decode(answer.parts[1]["inlineData"]["data"])
    width, height = struct.unpack(">II", data[16:24])
    start = data.index(b"IDAT") + 4
    (length,) = struct.unpack(">I", data[start - 8 : start - 4])

    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert (width, height) == (16, 9)
    assert len(zlib.decompress(data[start : start + length])) == (16 * 3 + 1) * 9
    assert answer.json["usageMetadata"]["candidatesTokensDetails"][-1] == {"modality": "IMAGE", "tokenCount": 1290}
    assert len(generate("A cat, no image please", path=path).parts) == 1


def test_an_image_model_of_gemini_3_signs_the_first_part_and_every_image():
    assert signed(generate("A cat", path="/v1beta/models/gemini-3-pro-image").parts) == [True, True]


def test_a_speech_model_gives_raw_samples():
    config = {"responseModalities": ["AUDIO"]}
    answer = generate("Say something", path="/v1beta/models/gemini-2.5-flash-preview-tts", generationConfig=config)
    (part,) = answer.parts

    assert part["inlineData"]["mimeType"] == "audio/L16;codec=pcm;rate=24000"
    assert len(base64.b64decode(part["inlineData"]["data"])) == 24_000 // 10 * 2 * 2
    assert answer.json["usageMetadata"]["candidatesTokensDetails"][0]["modality"] == "AUDIO"


def test_a_cache_counts_in_the_prompt():
    counted = ask(f"{FLASH}:generateContent", prompt() | {"cachedContent": "cachedContents/x"}).json["usageMetadata"]

    assert counted["cachedContentTokenCount"] == 1_024
    assert counted["promptTokenCount"] > 1_024
    assert generate("one two three [[sim:cached=2]]").json["usageMetadata"]["cachedContentTokenCount"] == 2


def test_each_api_has_its_own_extras():
    ours = generate("Hi", serviceTier="flex").json
    vertex = generate("Hi", path=f"{VERTEX}/gemini-2.5-flash").json

    assert ours["usageMetadata"]["serviceTier"] == "flex"
    assert ours["candidates"][0]["index"] == 0
    assert "index" not in vertex["candidates"][0]
    assert "createTime" in vertex
    assert vertex["usageMetadata"]["trafficType"] == "ON_DEMAND"
