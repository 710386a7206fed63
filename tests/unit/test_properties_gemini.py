"""What holds for any answer that upstream could send and for any conversation that a client could tell."""

import copy
import json
from collections import Counter
from itertools import pairwise

import pytest

pytest.importorskip("hypothesis")

from dialogue import EXCHANGE_ID, decoder, encode, request, splits, tool, tried, user
from hypothesis import given, settings
from hypothesis import strategies as some

from agproxy import jsontext
from agproxy.backends.gemini import byte_decoder, decode_error, decode_models
from agproxy.backends.gemini.names import NameMap
from agproxy.backends.gemini.partial_args import PartialCall
from agproxy.conversation import (
    Code,
    CodeOutput,
    Folder,
    Format,
    FunctionTool,
    Media,
    MessageEnded,
    MessageStarted,
    Mode,
    Output,
    PartStarted,
    Reasoning,
    Request,
    Role,
    Sampling,
    Text,
    Thinking,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
    fold,
)
from agproxy.errors import GatewayError

quick = settings(derandomize=True, database=None, deadline=None, max_examples=150)

# --- any JSON

numbers = (
    some.integers(-5, 5) | some.integers() | some.floats(allow_nan=False, allow_infinity=False) | some.just(10**400)
)
scalars = some.none() | some.booleans() | numbers | some.text(max_size=5)
anything = some.recursive(
    scalars,
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def obj(optional=(), **fields):
    """An object with these fields; each of the optional ones may be absent."""
    return some.fixed_dictionaries(
        {name: value for name, value in fields.items() if name not in optional},
        optional={name: fields[name] for name in optional},
    )


def arr(value, most=3):
    return some.lists(value, min_size=1, max_size=most)


def places(value, place=()):
    """The paths of all values within a value."""
    yield place
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in inner:
        yield from places(child, (*place, key))


@some.composite
def spoiled(draw, good):
    """A good value with something else in up to two places, or nothing."""
    value = draw(good)
    for _ in range(draw(some.integers(0, 2))):
        place = draw(some.sampled_from(list(places(value))))
        if not place:
            return draw(anything)
        holder = value = copy.deepcopy(value)
        for step in place[:-1]:
            holder = holder[step]
        if isinstance(holder, dict) and draw(some.booleans()):
            del holder[place[-1]]
        else:
            holder[place[-1]] = draw(anything)
    return value


words = some.sampled_from(["a", "é", "日本 😀", "\ud800", "two words", ""])
signature = some.sampled_from(["s1", "s2", ""])
names = some.sampled_from(["look", "list", "default_api.look", "invented", ""])
path = some.sampled_from(["$.a", "$.a.b", "$.a[0]", "$.a[1].b", "$['x y']", "$", "", "$.a[" + "9" * 5000 + "]"])
piece = some.one_of(
    obj(jsonPath=path, stringValue=words, willContinue=some.booleans()),
    obj(jsonPath=path, numberValue=numbers),
    obj(jsonPath=path, boolValue=some.booleans()),
    obj(jsonPath=path, nullValue=some.just("NULL_VALUE")),
)
call = some.one_of(
    obj(["id", "args"], name=names, id=some.sampled_from(["c1", "c2", "x" * 50]), args=obj(["q"], q=anything)),
    obj(["name", "partialArgs", "willContinue"], name=names, partialArgs=arr(piece), willContinue=some.just(True)),
)
part = some.one_of(
    obj(text=words),
    obj(text=words),
    obj(text=words, thought=some.just(True)),
    obj(text=words, thoughtSignature=signature),
    obj(["thoughtSignature"], functionCall=call, thoughtSignature=signature),
    obj(functionCall=call),
    obj(["thought"], inlineData=obj(mimeType=some.just("image/png"), data=some.just("aGk=")), thought=some.just(True)),
    obj(fileData=obj(mimeType=some.just("image/png"), fileUri=some.just("gs://b/x"))),
    obj(executableCode=obj(language=some.just("PYTHON"), code=words), thoughtSignature=signature),
    obj(
        codeExecutionResult=obj(
            outcome=some.sampled_from(["OUTCOME_OK", "OUTCOME_FAILED", "OF_TOMORROW"]), output=words
        )
    ),
    obj(toolCall=obj(id=words)),
    obj(),
)
offsets = some.integers(-3, 30)
segment = obj(["startIndex", "endIndex", "text"], startIndex=offsets, endIndex=offsets, text=words)
grounding = obj(
    ["webSearchQueries"],
    webSearchQueries=arr(words),
    groundingChunks=arr(obj(web=obj(uri=words, title=words)) | obj(maps=obj(uri=words))),
    groundingSupports=arr(obj(segment=segment, groundingChunkIndices=arr(some.integers(-1, 3)))),
)
citation = obj(["startIndex", "endIndex"], startIndex=offsets, endIndex=offsets, uri=words)
token = obj(token=words, logProbability=numbers)
finishes = some.sampled_from(["STOP", "STOP", "STOP", "MAX_TOKENS", "SAFETY", "MALFORMED_FUNCTION_CALL", "OF_TOMORROW"])
candidate = obj(
    ["index", "finishReason", "finishMessage", "groundingMetadata", "citationMetadata", "logprobsResult"],
    index=some.integers(0, 2),
    content=obj(["role"], role=some.just("model"), parts=arr(part, 4)),
    finishReason=finishes,
    finishMessage=words,
    groundingMetadata=grounding,
    citationMetadata=obj(["citations"], citationSources=arr(citation), citations=arr(citation)),
    logprobsResult=obj(chosenCandidates=arr(token), topCandidates=arr(obj(candidates=arr(token)))),
)
counts = some.integers(0, 1000) | some.sampled_from(["12", "-1", "9" * 5000])
usage = obj(
    ["thoughtsTokenCount", "totalTokenCount"],
    promptTokenCount=counts,
    candidatesTokenCount=counts,
    thoughtsTokenCount=counts,
    totalTokenCount=counts,
    promptTokensDetails=arr(obj(modality=some.just("AUDIO"), tokenCount=counts)),
)
rpc_detail = some.one_of(
    obj(**{"@type": some.just("a/RetryInfo"), "retryDelay": some.sampled_from(["3s", "9" * 400 + "s"])}),
    obj(
        **{
            "@type": some.just("a/QuotaFailure"),
            "violations": arr(obj(["quotaId"], quotaId=some.just("PerDay"), quotaValue=words)),
        }
    ),
    obj(**{"@type": some.just("a/ErrorInfo"), "reason": some.sampled_from(["API_KEY_INVALID", "x"])}),
    obj(**{"@type": some.just("a/BadRequest"), "fieldViolations": arr(obj(field=words))}),
)
header_words = some.text(max_size=9) | some.sampled_from(
    ["5", "9" * 400, "Wed, 21 Oct 2026 07:28:30 GMT", "1 Jan 1 1:1 -0000", "1 Jan 9999 1:1 +" + "9" * 20]
)
error = obj(
    code=some.sampled_from([400, 401, 404, 429, 499, 500, 503]), message=words, status=words, details=arr(rpc_detail)
)
good_chunk = obj(
    ["usageMetadata", "modelVersion", "responseId"],
    candidates=arr(candidate, 2),
    usageMetadata=usage,
    modelVersion=words,
    responseId=words,
)
chunk = some.one_of(
    *[good_chunk] * 6,
    *[spoiled(good_chunk)] * 6,
    spoiled(obj(["blockReasonMessage"], promptFeedback=obj(blockReason=words), blockReasonMessage=words)),
    spoiled(obj(error=error)),
    anything,
)


def read(chunks, asked=None):
    """All events, held against the order table as they come, and the answer if it ended well."""
    reader, folder, events = decoder(asked), Folder(), []

    def take(new):
        for event in new:
            folder.feed(event)
            events.append(event)

    try:
        for said in chunks:
            take(reader.feed(said))
        take(reader.finish())
    except GatewayError:
        return events, None
    return events, folder.result()


@quick
@given(some.lists(chunk, max_size=5), some.booleans())
def test_any_json_as_chunks_gives_events_in_legal_order_or_a_gateway_error(chunks, parallel):
    asked = request(user("a"), tools=(tool("look"), tool("list")), parallel_tool_calls=parallel)
    events, response = read(chunks, asked)

    assert all(isinstance(event, MessageStarted) is (place == 0) for place, event in enumerate(events))
    ids = [event.part.id for event in events if isinstance(event, PartStarted) and isinstance(event.part, ToolCall)]
    assert len(set(ids)) == len(ids)
    assert all(0 < len(id) <= 40 for id in ids)
    if response is None:
        return
    assert isinstance(events[-1], MessageEnded)
    for choice in response.choices:
        calls = [one for one in choice.parts if isinstance(one, ToolCall)]
        assert all(isinstance(json.loads(one.arguments), dict) for one in calls)
        assert parallel or len(calls) <= 1
        text = "".join(one.text for one in choice.parts if isinstance(one, Text))
        assert all(0 <= cited.start <= cited.end <= len(text) for cited in choice.end.citations)
        for logprob in choice.end.logprobs or ():
            assert json.loads(jsontext.text([logprob.logprob, *logprob.top]))
    assert response.usage.total_tokens < 2**66


@quick
@given(some.lists(chunk, min_size=1, max_size=4), some.integers(0, 9))
def test_the_bytes_of_any_chunks_say_the_same_in_any_split(chunks, seed):
    end = b"\r\n\r\n" if seed % 2 else b"\n\n"
    events = [b"data: " + json.dumps(one).encode() + end for one in chunks]
    outcomes = []
    for pieces in [events, *splits(b"".join(events), seed=seed, count=2)]:
        reader, events = byte_decoder(encode(request(user("a"))), EXCHANGE_ID, max_event_bytes=1 << 20), []
        try:
            for one in pieces:
                events += reader.feed(one)
            events += reader.finish()
        except GatewayError as failed:
            outcomes.append((events, failed.message, failed.retry))
        else:
            outcomes.append((events, None, None))

    assert all(outcome == outcomes[0] for outcome in outcomes)


@quick
@given(
    some.lists(some.binary(max_size=20) | some.sampled_from([b"data: ", b"\n\n", b'{"candidates":', b"}"]), max_size=8)
)
def test_any_bytes_are_an_answer_or_a_gateway_error(pieces):
    reader = byte_decoder(encode(request(user("a"))), EXCHANGE_ID, max_event_bytes=100)

    def read_all():
        return fold([event for one in pieces for event in reader.feed(one)] + reader.finish())

    response, failed = tried(read_all, errors=GatewayError)
    assert failed.message if response is None else response.choices


@quick
@given(
    spoiled(error),
    some.integers(300, 599),
    some.lists(some.tuples(some.sampled_from(["retry-after", "date"]), header_words), max_size=3).map(tuple),
)
def test_any_refusal_is_a_gateway_error_that_can_be_told(value, status, headers):
    for body in ({"error": value}, [{"error": value}], value):
        found = decode_error(status, headers, json.dumps(body).encode())
        assert 400 <= found.status < 600
        assert found.message
        assert found.retry_after_seconds is None or 0 <= found.retry_after_seconds < 1e9


@quick
@given(some.binary(max_size=50), some.integers(300, 599))
def test_any_bytes_of_a_refusal_are_a_gateway_error(body, status):
    assert 400 <= decode_error(status, (), body).status < 600


@quick
@given(
    spoiled(
        obj(
            models=arr(obj(name=words, supportedGenerationMethods=arr(some.just("generateContent")))),
            nextPageToken=words,
        )
    )
)
def test_any_model_list_is_a_list_of_names(value):
    found, token = decode_models(value)
    assert all(isinstance(name, str) and name for name in found)
    assert token is None or isinstance(token, str)


@quick
@given(some.lists(spoiled(call), max_size=6))
def test_any_pieces_of_arguments_are_an_object(calls):
    joined = PartialCall(name="look", id=None, signature=None)
    for one in calls:
        if isinstance(one, dict):
            joined.feed(one)

    assert json.loads(jsontext.text(joined.arguments)) is not None


# --- any conversation

function_names = some.sampled_from(["look", "list", "fs/read", "2nd", "x" * 80])
media = some.builds(
    Media,
    mime_type=some.sampled_from(["image/png", "audio/wav"]),
    data=some.just("aGk="),
    detail=some.sampled_from([None, "low", "high"]),
) | some.builds(Media, mime_type=some.sampled_from([None, "image/png"]), uri=some.just("gs://b/x"))
ids = some.sampled_from(["c1", "c2", "c3", None])
texts = some.builds(Text, text=words, opaque=some.none() | signature)
said_by_user = (
    texts
    | media
    | some.builds(
        ToolResult,
        call_id=ids,
        name=function_names,
        content=some.lists(texts | media, max_size=2).map(tuple),
        is_error=some.booleans(),
    )
)
said_by_model = some.one_of(
    texts,
    some.builds(Reasoning, text=words, opaque=some.none() | signature),
    some.builds(
        ToolCall,
        id=ids,
        name=function_names,
        arguments=some.sampled_from(["{}", '{"a":[1,null]}']),
        opaque=some.none() | signature,
    ),
    some.builds(Code, code=words, language=some.just("python")),
    some.builds(CodeOutput, output=words, is_ok=some.booleans()),
)
turns = some.one_of(
    some.builds(Turn, role=some.just(Role.USER), parts=some.lists(said_by_user, max_size=3).map(tuple)),
    some.builds(Turn, role=some.just(Role.MODEL), parts=some.lists(said_by_model, max_size=3).map(tuple)),
    some.builds(
        Turn, role=some.just(Role.SYSTEM), parts=some.lists(some.builds(Text, text=words), max_size=1).map(tuple)
    ),
)
requests = some.builds(
    Request,
    model=some.just("m"),
    system=some.lists(some.builds(Text, text=words), max_size=2).map(tuple),
    turns=some.lists(turns, max_size=7).map(tuple),
    tools=some.lists(function_names, max_size=3, unique=True).map(
        lambda found: tuple(FunctionTool(name=name) for name in found)
    ),
    tool_choice=some.none() | some.sampled_from(Mode).map(lambda mode: ToolChoice(mode=mode)),
    sampling=some.builds(
        Sampling,
        temperature=some.none() | some.floats(0, 2),
        seed=some.none() | some.integers(),
        max_output_tokens=some.none() | some.integers(1, 9999),
        top_p=some.none() | some.floats(0, 1),
    ),
    output=some.sampled_from(
        [Output(), Output(format=Format.JSON), Output(format=Format.JSON, schema={"type": "object"})]
    ),
    thinking=some.builds(
        Thinking,
        effort=some.none() | some.sampled_from(["none", "low", "high", "max"]),
        summaries=some.none() | some.booleans(),
    ),
)
model_names = some.sampled_from(
    [
        "gemini-2.0-flash",
        "gemini-2.5-flash",
        "gemini-2.5-pro",
        "gemini-3-flash-preview",
        "gemini-4-argon",
        "gemma-3-27b-it",
    ]
)


def kinds(content):
    return [
        "call" if "functionCall" in one else "result" if "functionResponse" in one else "other"
        for one in content["parts"]
    ]


@quick
@given(requests, model_names, some.sampled_from(["keep", "hoist"]))
def test_any_conversation_is_a_request_that_keeps_the_api_s_rules(asked, name, late_system):
    before = copy.deepcopy(asked)
    encoded = encode(asked, name, late_system=late_system)
    contents = encoded.body["contents"]

    assert asked == before
    assert encode(asked, name, late_system=late_system).body == encoded.body
    assert jsontext.dumps(encoded.body)
    # Roles take turns, and no content is without parts.
    assert contents
    assert all(one["role"] != other["role"] for one, other in pairwise(contents))
    assert all(content["parts"] and {} not in content["parts"] for content in contents)
    # Each call is answered in the very next content, once, in order, before anything else; calls never open the talk.
    assert "call" not in kinds(contents[0])
    for number, content in enumerate(contents):
        called = [one["functionCall"] for one in content["parts"] if "functionCall" in one]
        following = contents[number + 1]["parts"] if number + 1 < len(contents) else []
        answered = [one["functionResponse"] for one in following if "functionResponse" in one]
        if content["role"] == "model":
            assert [(c["name"], c.get("id")) for c in called] == [(r["name"], r.get("id")) for r in answered]
            assert kinds({"parts": following})[: len(answered)] == ["result"] * len(answered)
        else:
            assert called == []
    # Every result reaches its call or is told as an orphan.
    results = [one for turn in asked.turns for one in turn.parts if isinstance(one, ToolResult)]
    orphans = sum("belongs to no call" in notice.message for notice in encoded.notices)
    made_up = sum("has no result" in notice.message for notice in encoded.notices)
    sent = sum(kinds(content).count("result") for content in contents)
    assert len(results) - orphans == sent - made_up
    # On Gemini 3 the first call of each step of the current turn is signed.
    if name.startswith(("gemini-3", "gemini-4")):
        for content in reversed(contents):
            if content["role"] == "user" and "other" in kinds(content):
                break
            first = next((one for one in content["parts"] if "functionCall" in one), None)
            assert first is None or first.get("thoughtSignature") is not None


@quick
@given(some.lists(some.text(max_size=70) | some.text("ab/_1", min_size=62, max_size=66), max_size=8))
def test_any_names_are_spelled_apart_and_turned_back(wanted):
    spelled = NameMap(wanted)
    there = {name: spelled.there(name) for name in wanted}

    assert max(Counter(there.values()).values(), default=1) == 1
    for name, one in there.items():
        assert 0 < len(one) <= 64
        assert one.isascii()
        assert one[0].isalpha() or one[0] == "_"
        assert set(one) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.:-")
        assert spelled.back(one) == name
