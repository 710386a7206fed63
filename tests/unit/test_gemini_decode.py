"""Gemini's chunks in, events out: each quirk of the live API as a dialogue."""

import pytest
from dialogue import EXCHANGE_ID, answer, chunk, decode, decoder, function_call, request, tool, user

from agproxy import jsontext
from agproxy.backends.gemini.decode import BROKEN, FINISH
from agproxy.conversation import (
    ChoiceEnded,
    Citation,
    Code,
    CodeOutput,
    Finish,
    Media,
    MessageEnded,
    MessageStarted,
    PartDelta,
    PartEnded,
    PartStarted,
    Reasoning,
    Sampling,
    Text,
    TokenLogprob,
    ToolCall,
    Usage,
    fold,
)
from agproxy.errors import GatewayError, Retry, UpstreamFailed, UpstreamRateLimited

STOP = {"candidates": [{"finishReason": "STOP"}]}
TWO = request(user("hello"), tools=(tool("look"),), sampling=Sampling(candidates=2))
GEMINI_2 = "gemini-2.0-flash"  # one of those that bring several candidates in one answer


def choice(*chunks, **more):
    return answer(*chunks, **more).choices[0]


def notices(*chunks, **more):
    return [notice.message for notice in answer(*chunks, **more).notices]


# --- text


def test_words_become_one_part_in_events_of_legal_order():
    events = decode(chunk("hel") | {"modelVersion": "gemini-2.5-flash", "responseId": "r1"}, chunk("lo", finish="STOP"))

    assert events == [
        MessageStarted(response_id="r1", model="gemini-2.5-flash"),
        PartStarted(choice=0, part=Text(text="")),
        PartDelta(choice=0, text="hel"),
        PartDelta(choice=0, text="lo"),
        PartEnded(choice=0),
        ChoiceEnded(choice=0, finish=Finish.STOP, raw_finish="STOP"),
        MessageEnded(usage=Usage()),
    ]


def test_unary_is_a_stream_of_one_chunk():
    whole = chunk("one two", finish="STOP") | {"usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2}}
    pieces = [chunk("one"), chunk(""), chunk(" two"), STOP, {"usageMetadata": whole["usageMetadata"]}]

    assert answer(whole) == answer(*pieces)


def test_thoughts_are_a_part_of_their_own_before_and_between_texts():
    thought = {"text": "hm", "thought": True}
    parts = choice(chunk(thought), chunk(thought, "a"), chunk(thought), chunk("b", finish="STOP")).parts

    assert parts == (Reasoning(text="hmhm"), Text(text="a"), Reasoning(text="hm"), Text(text="b"))


def test_a_signed_text_is_never_joined_with_another():
    signed = {"text": "b", "thoughtSignature": "s1"}
    last = {"text": "", "thoughtSignature": "s2"}
    parts = choice(chunk("a"), chunk(signed, "c"), chunk("d"), chunk(last, finish="STOP")).parts

    assert parts == (Text(text="a"), Text(text="b", opaque="s1"), Text(text="cd"), Text(text="", opaque="s2"))


def test_two_signed_texts_stay_two():
    parts = choice(
        chunk({"text": "a", "thoughtSignature": "s1"}, {"text": "b", "thoughtSignature": "s1"}, finish="STOP")
    ).parts

    assert parts == (Text(text="a", opaque="s1"), Text(text="b", opaque="s1"))


def test_thoughts_keep_their_signature_too():
    parts = choice(chunk({"text": "hm", "thought": True, "thoughtSignature": "s"}, "a", finish="STOP")).parts

    assert parts == (Reasoning(text="hm", opaque="s"), Text(text="a"))


# --- calls


def test_a_call_ends_the_answer_as_tool_calls():
    made = choice(chunk("I look", function_call(args={"q": "x", "n": 1.5}) | {"thoughtSignature": "s"}, finish="STOP"))

    text, call = made.parts
    assert text == Text(text="I look")
    assert (call.name, call.arguments, call.opaque) == ("look", '{"q":"x","n":1.5}', "s")
    assert (made.end.finish, made.end.raw_finish) == (Finish.TOOL_CALLS, "STOP")


def test_the_call_may_come_chunks_before_the_finish():
    """Recorded as `native_output_with_function_tools_stream-0`: the last chunk has an empty text and STOP."""
    assert choice(chunk(function_call()), chunk(""), chunk("", finish="STOP")).end.finish is Finish.TOOL_CALLS


@pytest.mark.parametrize("args", [{}, {"args": {}}, {"args": None}, {"args": []}, {"args": "x"}])
def test_absent_arguments_are_none_at_all(args):
    assert choice(chunk(function_call(**args), finish="STOP")).parts[0].arguments == "{}"


def test_a_given_id_is_kept_and_a_missing_one_is_made():
    parts = choice(chunk(function_call(id="fc-1"), function_call(), function_call(), finish="STOP")).parts

    assert [part.id for part in parts] == ["fc-1", f"call_{EXCHANGE_ID}0000", f"call_{EXCHANGE_ID}0001"]


def test_ids_are_unique_and_at_most_40_characters():
    given = ["same", "same", "x" * 40, "x" * 41, "", None, 5, f"call_{EXCHANGE_ID}0000"]
    parts = choice(*[chunk(function_call(id=id)) for id in given], STOP).parts

    ids = [part.id for part in parts]
    assert len(set(ids)) == len(given)
    assert all(0 < len(id) <= 40 for id in ids)
    assert (ids[0], ids[2]) == ("same", "x" * 40)


def test_ids_of_side_by_side_answers_do_not_meet():
    made = []
    for offset in (0, 1, 7, 8):
        reader = decoder(choice_offset=offset)
        events = reader.feed(chunk(function_call(), function_call(), finish="STOP")) + reader.finish()
        made += [event.part.id for event in events if isinstance(event, PartStarted)]

    assert len(set(made)) == 8


def test_two_equal_calls_are_two():
    parts = choice(chunk(function_call(args={"q": 1}), function_call(args={"q": 1}), finish="STOP")).parts

    assert len(parts) == 2
    assert parts[0].arguments == parts[1].arguments
    assert parts[0].id != parts[1].id


def test_without_parallel_calls_the_first_is_kept_and_the_rest_are_told():
    asked = request(user("a"), tools=(tool("look"), tool("list")), parallel_tool_calls=False)
    chunks = [
        chunk(function_call("look") | {"thoughtSignature": "s"}, function_call("list")),
        chunk(function_call("look")),
        STOP,
    ]

    made = choice(*chunks, asked=asked)
    assert [(part.name, part.opaque) for part in made.parts] == [("look", "s")]
    assert made.end.finish is Finish.TOOL_CALLS
    assert notices(*chunks, asked=asked) == [
        "parallel_tool_calls is false: a further call of list was left out",
        "parallel_tool_calls is false: a further call of look was left out",
    ]


def test_a_call_of_an_undeclared_function_is_passed_on_and_told():
    made = answer(chunk(function_call("invented"), finish="STOP"))

    assert made.choices[0].parts[0].name == "invented"
    assert made.notices[0].message == "the model called invented, which the request did not declare"


@pytest.mark.parametrize("name", ["fs_read", "default_api.fs_read", "default_api:fs_read"])
def test_a_name_comes_back_as_the_client_wrote_it(name):
    made = answer(chunk(function_call(name), finish="STOP"), asked=request(user("a"), tools=(tool("fs/read"),)))

    assert made.choices[0].parts[0].name == "fs/read"
    assert made.notices == ()


@pytest.mark.parametrize("call", [{}, {"name": ""}, {"name": None}, {"name": 5}, None, "x", {"args": {"q": 1}}])
def test_a_call_without_a_name_is_left_out_and_told(call):
    made = answer(chunk("a", {"functionCall": call}, finish="STOP"))

    assert made.choices[0].parts == (Text(text="a"),)
    assert made.choices[0].end.finish is Finish.STOP
    assert [notice.message for notice in made.notices] == ["Gemini sent a call without a name, left out"]


@pytest.mark.parametrize("levels", [jsontext.MAX_DEPTH + 1, 5000])
def test_arguments_nested_beyond_measure_are_a_broken_answer(levels):
    deep = {}
    for _ in range(levels - 1):
        deep = {"a": deep}

    with pytest.raises(UpstreamFailed, match="arguments that JSON cannot hold") as caught:
        decode(chunk(function_call(args=deep)))
    assert caught.value.retry is Retry.SAME_ACCOUNT


def test_arguments_as_deep_as_a_reader_takes_them_come_whole():
    deep = {}
    for _ in range(jsontext.MAX_DEPTH - 1):
        deep = {"a": deep}

    assert jsontext.loads(choice(chunk(function_call(args=deep))).parts[0].arguments) == deep


# --- arguments in pieces


def piece(path=None, value=None, *, goes_on=True, **call):
    if path is not None:
        call["partialArgs"] = [{"jsonPath": path, "stringValue": value}]
    if goes_on:
        call["willContinue"] = True
    return {"functionCall": call}


BEGUN = piece(name="look", id="c1") | {"thoughtSignature": "s"}


def test_pieces_that_make_arguments_nested_beyond_measure_are_a_broken_answer():
    reader = decoder()
    assert reader.feed(chunk(BEGUN)) == []

    with pytest.raises(UpstreamFailed, match="arguments that JSON cannot hold"):
        reader.feed(chunk(piece("$" + ".a" * 300, "x", goes_on=False)))


def test_a_call_in_pieces_goes_out_once_it_is_whole():
    reader = decoder()
    said = [chunk(BEGUN), chunk(piece("$.q", "Bos")), chunk(piece()), chunk(piece("$.q", "ton"))]

    assert [event for one in said for event in reader.feed(one)] == []
    assert reader.feed(chunk(piece(goes_on=False)))[1:] == [
        PartStarted(choice=0, part=ToolCall(id="c1", name="look", arguments="", opaque="s")),
        PartDelta(choice=0, text='{"q":"Boston"}'),
        PartEnded(choice=0),
    ]
    reader.feed(STOP)
    assert reader.finish()[0].finish is Finish.TOOL_CALLS


def test_calls_in_pieces_follow_one_another_with_and_without_an_end_between():
    parts = choice(
        chunk(piece(name="look"), piece("$.a", "1")),
        chunk(piece(goes_on=False)),
        chunk(piece(name="list"), piece("$.b", "2")),
        chunk(function_call("look", args={"c": 3})),
        chunk(piece("$.d", "4", name="list", goes_on=False)),
        STOP,
    ).parts

    assert [(part.name, part.arguments) for part in parts] == [
        ("look", '{"a":"1"}'),
        ("list", '{"b":"2"}'),
        ("look", '{"c":3}'),
        ("list", '{"d":"4"}'),
    ]


def test_an_empty_name_is_none_so_the_call_goes_on():
    made = choice(chunk(piece("$.q", "Bos", name="look")), chunk(piece("$.q", "ton", name="", goes_on=False)), STOP)

    assert [(part.name, part.arguments) for part in made.parts] == [("look", '{"q":"Boston"}')]


def test_a_signature_that_comes_with_a_later_piece_counts():
    made = choice(
        chunk(piece(name="look")), chunk(piece("$.q", "x", goes_on=False) | {"thoughtSignature": "late"}), STOP
    )

    assert made.parts[0].opaque == "late"


def test_a_call_whose_end_is_missing_is_whole_where_upstream_says_that_all_went_well():
    made = choice(chunk(piece(name="look"), piece("$.q", "x")), STOP)

    assert (made.parts[0].arguments, made.end.finish) == ('{"q":"x"}', Finish.TOOL_CALLS)


@pytest.mark.parametrize("before", ["", "I look"])
def test_a_call_that_the_stream_ends_within_is_no_call(before):
    """`rm -r /tmp/x` cut after `rm -r /` reads like a whole one."""
    with pytest.raises(UpstreamFailed, match="ended within a function call") as caught:
        decode(chunk(before, piece(name="look"), piece("$.path", "/")))

    assert caught.value.retry is Retry.SAME_ACCOUNT  # who has shown words already allows none


def test_a_call_that_the_limit_cuts_is_left_out_and_told():
    made = answer(chunk("a", piece(name="look"), piece("$.path", "/"), finish="MAX_TOKENS"))

    assert (made.choices[0].parts, made.choices[0].end.finish) == ((Text(text="a"),), Finish.LENGTH)
    assert [notice.message for notice in made.notices] == ["the call of look was cut off (MAX_TOKENS) and left out"]


# --- other parts


def test_images_code_and_its_output_are_parts():
    parts = choice(
        chunk({"inlineData": {"mimeType": "image/png", "data": "aGk="}, "thoughtSignature": "s1"}),
        chunk({"executableCode": {"language": "PYTHON", "code": "1+1"}, "thoughtSignature": "s2"}),
        chunk({"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "2"}}),
        chunk({"codeExecutionResult": {"outcome": "OUTCOME_DEADLINE_EXCEEDED"}}),
        chunk({"fileData": {"fileUri": "gs://b/x", "mimeType": "video/mp4"}}),
        STOP,
    ).parts

    assert parts == (
        Media(mime_type="image/png", data="aGk=", opaque="s1"),
        Code(code="1+1", language="python", opaque="s2"),
        CodeOutput(output="2", is_ok=True),
        CodeOutput(output="", is_ok=False),
        Media(mime_type="video/mp4", uri="gs://b/x"),
    )


def test_an_image_alone_is_an_answer():
    assert (
        choice(chunk({"inlineData": {"mimeType": "image/png", "data": "aGk="}}, finish="STOP")).end.finish
        is Finish.STOP
    )


def test_a_thought_image_is_no_part_of_the_answer():
    made = choice(chunk({"inlineData": {"mimeType": "image/png", "data": "aGk="}, "thought": True}, "a", finish="STOP"))

    assert made.parts == (Text(text="a"),)


@pytest.mark.parametrize(
    "part", [{}, {"thought": True}, {"toolCall": {"id": "x"}}, {"toolResponse": {"id": "x"}}, None, 5]
)
def test_parts_that_say_nothing_are_passed_over(part):
    """`{}` is legal output: recorded once in 330 parts."""
    made = answer(chunk("a", part, "b", finish="STOP"))

    assert made.choices[0].parts == (Text(text="ab"),)
    assert made.notices == ()


def test_a_part_of_tomorrow_is_told():
    assert notices(chunk("a", {"hologram": {}, "thoughtSignature": "s"}, finish="STOP")) == [
        "Gemini sent a part of an unknown kind, left out: hologram"
    ]


@pytest.mark.parametrize(
    "part", [{"inlineData": {}}, {"inlineData": None}, {"inlineData": {"data": 5}}, {"fileData": {"mimeType": "x"}}]
)
def test_media_without_any_data_are_no_part_and_told(part):
    made = answer(chunk("a", part, finish="STOP"))

    assert made.choices[0].parts == (Text(text="a"),)
    assert len(made.notices) == 1


# --- finish


@pytest.mark.parametrize(("word", "finish"), FINISH.items())
def test_each_end_has_its_finish(word, finish):
    end = choice(chunk("a", finish=word)).end

    assert (end.finish, end.raw_finish) == (finish, word)
    assert (end.message is not None) is (finish is Finish.FILTERED)


# The API's enum, from its documentation.
WORDS = {
    "STOP",
    "MAX_TOKENS",
    "SAFETY",
    "RECITATION",
    "LANGUAGE",
    "OTHER",
    "BLOCKLIST",
    "PROHIBITED_CONTENT",
    "SPII",
    "MALFORMED_FUNCTION_CALL",
    "UNEXPECTED_TOOL_CALL",
    "TOO_MANY_TOOL_CALLS",
    "MISSING_THOUGHT_SIGNATURE",
    "MALFORMED_RESPONSE",
    "IMAGE_SAFETY",
    "IMAGE_PROHIBITED_CONTENT",
    "IMAGE_RECITATION",
    "IMAGE_OTHER",
    "NO_IMAGE",
    "MODEL_ARMOR",
    "ESCALATION",
    "PUP_LIMITED_DISABLED",
    "CONTINUATION",
}


def test_every_word_of_the_api_is_known_and_none_has_two_meanings():
    assert set(FINISH) | BROKEN == WORDS
    assert not set(FINISH) & BROKEN


def test_a_finish_in_every_chunk_does_not_end_the_answer():
    """Models of 2024 say STOP each time."""
    assert choice(
        chunk("a", finish="STOP"), chunk("b", finish="STOP"), chunk("c", finish="MAX_TOKENS")
    ).end == ChoiceEnded(choice=0, finish=Finish.LENGTH, raw_finish="MAX_TOKENS")


@pytest.mark.parametrize("word", ["FINISH_REASON_UNSPECIFIED", "FAKE_ENUM"])
def test_a_word_of_tomorrow_is_a_stop_where_there_is_an_answer(word):
    end = choice(chunk("a", finish=word)).end

    assert (end.finish, end.raw_finish) == (Finish.STOP, word)
    with pytest.raises(UpstreamFailed):
        decode(chunk(finish=word))


def test_an_answer_without_a_finish_is_a_stop_and_told():
    made = answer(chunk("a"))

    assert (made.choices[0].end.finish, made.choices[0].end.raw_finish) == (Finish.STOP, None)
    assert [notice.message for notice in made.notices] == ["Gemini's answer ended without a finish reason"]


def test_the_limit_may_leave_nothing():
    """Quirk: thoughts eat the whole limit. It is no error: the client asked for so little."""
    made = choice(chunk({"text": "hm", "thought": True}), chunk(finish="MAX_TOKENS"))

    assert (made.parts, made.end.finish) == ((Reasoning(text="hm"),), Finish.LENGTH)


def test_a_filter_says_why_after_good_text():
    end = choice(chunk("a"), chunk(finish="RECITATION")).end
    assert end.message == "The answer was blocked by Gemini (RECITATION)."

    end = choice(chunk(finish="SAFETY", finishMessage="too rude")).end
    assert (end.finish, end.message) == (Finish.FILTERED, "too rude")


def test_a_good_end_has_no_message():
    assert (
        choice(chunk(function_call(), finish="STOP", finishMessage="Model generated function call(s).")).end.message
        is None
    )


@pytest.mark.parametrize("word", sorted(BROKEN))
def test_a_broken_answer_may_be_tried_again_as_long_as_nothing_was_told(word):
    with pytest.raises(UpstreamFailed, match=word) as caught:
        decode(chunk(finish=word))
    assert (caught.value.status, caught.value.code, caught.value.retry) == (
        502,
        "upstream_malformed",
        Retry.SAME_ACCOUNT,
    )

    with pytest.raises(UpstreamFailed, match=word) as caught:
        decode(chunk("a"), chunk(finish=word))
    assert caught.value.retry is Retry.SAME_ACCOUNT  # who has shown words already allows none


def test_the_name_of_an_unexpected_call_is_told():
    said = "Unexpected tool call: Model tried to call an undeclared function: x"
    with pytest.raises(UpstreamFailed, match="undeclared function: x"):
        decode(chunk(finish="UNEXPECTED_TOOL_CALL", finishMessage=said))
    with pytest.raises(UpstreamFailed) as caught:
        decode(chunk(finish="MALFORMED_FUNCTION_CALL", finishMessage="print(secret)"))
    assert "secret" not in caught.value.message


EMPTY = {
    "nothing": [],
    "no candidates": [{}],
    "an empty list": [{"candidates": []}],
    "only usage": [{"usageMetadata": {"promptTokenCount": 5}}],
    "a candidate without content": [chunk(finish="STOP")],
    "a content without parts": [{"candidates": [{"content": {"role": "model"}, "finishReason": "STOP"}]}],
    "an empty content": [{"candidates": [{"content": {}}]}],
    "an empty text": [chunk("", finish="STOP")],
    "an empty part": [chunk({}, finish="STOP")],
    "safety ratings alone": [{"promptFeedback": {"safetyRatings": [{}]}}],
}


@pytest.mark.parametrize("chunks", EMPTY.values(), ids=EMPTY)
def test_an_empty_answer_is_an_error_that_may_be_tried_again(chunks):
    with pytest.raises(UpstreamFailed, match="empty") as caught:
        decode(*chunks)

    assert (caught.value.status, caught.value.code, caught.value.retry) == (502, "empty_answer", Retry.SAME_ACCOUNT)


def test_thoughts_alone_are_an_empty_answer():
    with pytest.raises(UpstreamFailed, match="empty") as caught:
        decode(chunk({"text": "hm", "thought": True}, finish="STOP"))

    assert caught.value.retry is Retry.SAME_ACCOUNT


@pytest.mark.parametrize("finish", ["STOP", None])
@pytest.mark.parametrize("empty", [0, 1])
def test_an_empty_candidate_does_not_take_the_good_one_beside_it(empty, finish):
    said = (chunk("good", index=1 - empty, finish="STOP"), chunk(index=empty, finish=finish))
    made = answer(*said, asked=TWO, name=GEMINI_2)

    good, bad = made.choices[1 - empty], made.choices[empty]
    assert (good.parts, good.end.finish) == ((Text(text="good"),), Finish.STOP)
    assert (bad.parts, bad.end.choice, bad.end.finish) == ((), empty, Finish.STOP)
    told = f"choice {empty} of Gemini's answer is empty, though it says that it is complete"
    assert told in [notice.message for notice in made.notices]


def test_candidates_that_are_all_empty_are_an_empty_answer():
    with pytest.raises(UpstreamFailed, match="empty") as caught:
        decode(chunk(finish="STOP"), chunk(index=1, finish="STOP"))

    assert caught.value.code == "empty_answer"


# --- blocked prompts


@pytest.mark.parametrize("reason", ["SAFETY", "BLOCKLIST", "PROHIBITED_CONTENT", "JAILBREAK", "OF_TOMORROW"])
def test_a_blocked_prompt_is_a_filtered_answer_with_its_reason(reason):
    made = answer({"promptFeedback": {"blockReason": reason}, "usageMetadata": {"promptTokenCount": 4}})

    end = made.choices[0].end
    assert (made.choices[0].parts, end.finish, end.raw_finish) == ((), Finish.FILTERED, reason)
    assert end.message == f"The prompt was blocked by Gemini ({reason})."
    assert made.usage.prompt_tokens == 4


def test_a_block_may_bring_its_message_and_even_only_that():
    told = answer({"promptFeedback": {"blockReason": "SAFETY", "blockReasonMessage": "no"}}).choices[0].end
    assert told.message == "The prompt was blocked by Gemini (SAFETY): no"

    alone = answer({"candidates": [], "promptFeedback": {"blockReasonMessage": "no"}}).choices[0].end
    assert (alone.finish, alone.raw_finish, alone.message) == (
        Finish.FILTERED,
        "OTHER",
        "The prompt was blocked by Gemini (OTHER): no",
    )


def test_a_block_beside_an_empty_candidate_is_a_block():
    end = choice(chunk() | {"promptFeedback": {"blockReason": "SAFETY", "blockReasonMessage": "no"}}).end

    assert (end.finish, end.raw_finish, end.message) == (Finish.FILTERED, "SAFETY", "no")


def test_ratings_of_a_prompt_are_no_block():
    assert choice(chunk("a", finish="STOP") | {"promptFeedback": {"safetyRatings": [{}]}}).end.finish is Finish.STOP


# --- several candidates


def test_candidates_come_mixed_and_are_told_apart_by_their_number():
    made = answer(
        {"candidates": [{"content": {"parts": [{"text": "a"}]}}, {"index": 1, "content": {"parts": [{"text": "b"}]}}]},
        chunk("B", index=1, finish="MAX_TOKENS"),
        chunk("A", finish="STOP"),
        asked=TWO,
        name=GEMINI_2,
    )

    assert [(c.end.choice, c.parts[0].text, c.end.finish) for c in made.choices] == [
        (0, "aA", Finish.STOP),
        (1, "bB", Finish.LENGTH),
    ]


def test_choices_of_a_further_call_are_numbered_after_the_first_ones():
    reader = decoder(choice_offset=3)
    events = reader.feed(chunk("a", finish="STOP")) + reader.finish()

    assert fold(events).choices[0].end.choice == 3


def test_each_candidate_has_its_own_finish_and_calls():
    said = (chunk(function_call()), chunk("b", index=1), chunk(finish="STOP"), chunk(index=1, finish="STOP"))
    made = answer(*said, asked=TWO, name=GEMINI_2)

    assert [c.end.finish for c in made.choices] == [Finish.TOOL_CALLS, Finish.STOP]


def test_a_candidate_that_was_not_asked_for_is_left_out_and_told():
    """Its number would be that of the next call's choice."""
    made = answer(chunk("a", finish="STOP"), chunk("b", index=1, finish="STOP"))

    assert [choice.parts for choice in made.choices] == [(Text(text="a"),)]
    assert "not asked for" in made.notices[0].message


# --- usage


def usage(**counts):
    return answer(chunk("a", finish="STOP") | {"usageMetadata": counts}).usage


def test_thoughts_are_output_and_results_of_upstream_s_tools_are_input():
    found = usage(
        promptTokenCount=100,
        cachedContentTokenCount=40,
        toolUsePromptTokenCount=20,
        candidatesTokenCount=30,
        thoughtsTokenCount=50,
        totalTokenCount=200,
        promptTokensDetails=[
            {"modality": "TEXT", "tokenCount": 60},
            {"modality": "IMAGE", "tokenCount": 30},
            {"modality": "AUDIO", "tokenCount": 10},
        ],
        candidatesTokensDetails=[{"modality": "IMAGE", "tokenCount": 25}, {"modality": "AUDIO", "tokenCount": 5}],
    )

    assert found == Usage(
        prompt_tokens=120,
        cached_tokens=40,
        output_tokens=80,
        reasoning_tokens=50,
        prompt_audio_tokens=10,
        prompt_image_tokens=30,
        output_audio_tokens=5,
        output_image_tokens=25,
    )
    assert found.total_tokens == 200


def test_counts_are_cumulative_and_the_last_one_holds_even_if_it_is_lower():
    made = answer(
        chunk("a") | {"usageMetadata": {"promptTokenCount": 169, "candidatesTokenCount": 1}},
        chunk("b") | {"usageMetadata": {"trafficType": "ON_DEMAND"}},
        chunk("c", finish="STOP") | {"usageMetadata": {"promptTokenCount": 79, "candidatesTokenCount": 3}},
    )

    assert (made.usage.prompt_tokens, made.usage.output_tokens) == (79, 3)


def test_early_previews_counted_thoughts_among_the_candidates():
    found = usage(promptTokenCount=10, candidatesTokenCount=30, thoughtsTokenCount=20, totalTokenCount=40)

    assert (found.output_tokens, found.reasoning_tokens, found.total_tokens) == (30, 20, 40)


def test_absent_counts_are_zero_and_a_string_is_a_number():
    assert usage() == Usage()
    assert usage(promptTokenCount="12").prompt_tokens == 12


@pytest.mark.parametrize("count", [None, -1, True, 1.5, "x", "-1", "1e3", [], {}, 10**30, "9" * 5000])
def test_a_count_that_is_none_is_zero(count):
    assert usage(promptTokenCount=count, promptTokensDetails=[{"modality": "AUDIO", "tokenCount": count}]) == Usage()


# --- what comes beside the text


def test_citations_searches_and_their_places_come_with_the_end():
    grounding = {
        "webSearchQueries": ["weather", 5, None],
        "groundingChunks": [{"web": {"uri": "https://a", "title": "A"}}],
        "groundingSupports": [
            {"segment": {"startIndex": 3, "endIndex": 6, "text": "two"}, "groundingChunkIndices": [0]}
        ],
    }
    end = choice(
        chunk("é "), chunk("two"), chunk(finish="STOP", groundingMetadata=grounding), chunk(groundingMetadata={})
    ).end

    assert end.citations == (Citation(start=2, end=5, url="https://a", title="A"),)
    assert end.searches == ("weather",)


@pytest.mark.parametrize("key", ["citationSources", "citations"])
def test_citation_metadata_comes_under_either_name_and_grows(key):
    first, second = {"endIndex": 1, "uri": "https://a"}, {"startIndex": 1, "endIndex": 2, "uri": "https://b"}
    end = choice(
        chunk("a", citationMetadata={key: [first]}), chunk("b", finish="STOP", citationMetadata={key: [first, second]})
    ).end

    assert [(c.start, c.end, c.url) for c in end.citations] == [(0, 1, "https://a"), (1, 2, "https://b")]


def test_thoughts_do_not_move_the_places_of_citations():
    end = choice(
        chunk(
            {"text": "hm", "thought": True},
            "a",
            finish="STOP",
            citationMetadata={"citations": [{"endIndex": 1, "uri": "u"}]},
        )
    ).end

    assert end.citations == (Citation(start=0, end=1, url="u", title=""),)


def token(text, logprob=-0.5):
    return {"token": text, "tokenId": 1, "logProbability": logprob}


def test_logprobs_of_all_chunks_are_joined():
    first = {"chosenCandidates": [token("a")], "topCandidates": [{"candidates": [token("a"), token("b", -2)]}]}
    second = {"chosenCandidates": [token("c", -1)]}
    end = choice(chunk("a", logprobsResult=first), chunk("c", finish="STOP", logprobsResult=second)).end

    assert end.logprobs == (
        TokenLogprob(token="a", logprob=-0.5, top=(("a", -0.5), ("b", -2.0))),
        TokenLogprob(token="c", logprob=-1.0),
    )
    assert choice(chunk("a", finish="STOP")).end.logprobs is None


@pytest.mark.parametrize(
    ("given", "logprob"),
    [
        (None, 0.0),
        ("x", 0.0),
        ("NaN", 0.0),
        ([], 0.0),
        (True, 0.0),
        (10**400, 0.0),
        (0.001, 0.0),
        (-3, -3.0),
        ("-Infinity", -9999.0),
        (-(10**400), -9999.0),
        (-1e300, -9999.0),
    ],
)
def test_a_logprob_is_a_number_that_json_can_hold(given, logprob):
    end = choice(chunk("a", finish="STOP", logprobsResult={"chosenCandidates": [token("a", given), {}, None, 5]})).end

    assert [one.logprob for one in end.logprobs] == [logprob, 0.0, 0.0, 0.0]
    assert all(isinstance(one.logprob, float) for one in end.logprobs)


# --- errors


def test_an_error_before_the_first_word_is_what_it_says():
    with pytest.raises(UpstreamRateLimited) as caught:
        decode({"error": {"code": 429, "message": "slow down"}})
    assert caught.value.retry is Retry.NEXT_ACCOUNT


@pytest.mark.parametrize(
    "error", [{"error": {"code": 499, "message": "cancelled"}}, [{"error": {"code": 503}}], [], 5, None, "x", [1, 2]]
)
def test_an_error_after_words_is_told(error):
    reader = decoder()
    reader.feed(chunk("a"))

    with pytest.raises(GatewayError):
        reader.feed(error)


@pytest.mark.parametrize("value", [None, 5, "x", True, [], [1], [{}, {}]])
def test_json_that_is_no_chunk_is_told(value):
    reader = decoder()

    with pytest.raises(UpstreamFailed, match="no GenerateContentResponse") as caught:
        reader.feed(value)
    assert (caught.value.code, caught.value.retry) == ("bad_upstream_body", Retry.NEXT_ACCOUNT)


NONSENSE = [None, 5.5, True, "x", [], {}, [None], [5], [[]], [{}], {"a": 1}, 10**400]


@pytest.mark.parametrize("value", NONSENSE, ids=lambda value: str(value)[:9])
@pytest.mark.parametrize(
    "place",
    ["index", "content", "finishReason", "finishMessage", "groundingMetadata", "citationMetadata", "logprobsResult"],
)
def test_a_field_of_a_wrong_type_does_not_harm_the_text(place, value):
    events = decode(chunk("a"), {"candidates": [{place: value}]}, STOP)

    assert PartDelta(choice=0, text="a") in events
    assert fold(events).choices[0].parts == (Text(text="a"),)


@pytest.mark.parametrize("value", NONSENSE, ids=lambda value: str(value)[:9])
@pytest.mark.parametrize(
    "place", ["candidates", "usageMetadata", "modelVersion", "responseId", "promptFeedback", "createTime", "ofTomorrow"]
)
def test_a_top_field_of_a_wrong_type_does_not_harm_the_text(place, value):
    made = answer(chunk("a"), {place: value}, STOP)

    assert made.choices[0].parts == (Text(text="a"),)
    assert made.choices[0].end.finish is Finish.STOP
