"""Events in legal order fold into an answer; every other order is told as what it is: a decoder's bug."""

import ast
import inspect

import pytest

from agproxy import conversation
from agproxy.conversation import (
    ORDER,
    Choice,
    ChoiceEnded,
    Citation,
    Code,
    CodeOutput,
    Finish,
    IllegalOrderError,
    Media,
    MessageEnded,
    MessageStarted,
    Notice,
    PartDelta,
    PartEnded,
    PartStarted,
    Reasoning,
    Response,
    Text,
    ToolCall,
    ToolResult,
    Usage,
    fold,
)

START = MessageStarted(response_id="r1", model="gemini-2.5-flash")
STOP = ChoiceEnded(choice=0, finish=Finish.STOP)
END = MessageEnded(usage=Usage(prompt_tokens=3, output_tokens=2))


def opened(part, choice=0):
    return PartStarted(choice=choice, part=part)


def more(text, choice=0):
    return PartDelta(choice=choice, text=text)


def closed(choice=0):
    return PartEnded(choice=choice)


def test_a_stream_folds_into_the_answer_that_it_tells():
    notice = Notice(message="a repair")
    cited = Citation(start=0, end=5, url="https://a", title="A")
    ended = ChoiceEnded(choice=0, finish=Finish.STOP, raw_finish="STOP", citations=(cited,))

    answer = fold(
        [
            START,
            opened(Reasoning(text="")),
            more("think"),
            closed(),
            opened(Text(text="")),
            more("hel"),
            more("lo"),
            closed(),
            ended,
            MessageEnded(usage=END.usage, notices=(notice,)),
        ]
    )

    assert answer == Response(
        response_id="r1",
        model="gemini-2.5-flash",
        choices=(Choice(parts=(Reasoning(text="think"), Text(text="hello")), end=ended),),
        usage=END.usage,
        notices=(notice,),
    )


def test_arguments_come_in_pieces_and_what_is_opaque_stays_with_its_part():
    begun = ToolCall(id="c1", name="look", arguments="", opaque="sig")

    answer = fold([START, opened(begun), more('{"a":'), more("1}"), closed(), STOP, END])

    assert answer.choices[0].parts == (ToolCall(id="c1", name="look", arguments='{"a":1}', opaque="sig"),)


def test_a_part_may_bring_its_beginning_with_it():
    answer = fold([START, opened(Text(text="hel", opaque="s")), more("lo"), closed(), STOP, END])

    assert answer.choices[0].parts == (Text(text="hello", opaque="s"),)


def test_choices_run_side_by_side_and_come_out_by_number():
    answer = fold(
        [
            START,
            opened(Text(text=""), 1),
            opened(Text(text=""), 0),
            more("one", 1),
            more("zero", 0),
            closed(1),
            closed(0),
            ChoiceEnded(choice=1, finish=Finish.LENGTH),
            opened(Text(text=""), 0),
            closed(0),
            STOP,
            END,
        ]
    )

    assert [choice.end.choice for choice in answer.choices] == [0, 1]
    assert [choice.parts[0].text for choice in answer.choices] == ["zero", "one"]
    assert [choice.end.finish for choice in answer.choices] == [Finish.STOP, Finish.LENGTH]


def test_a_choice_may_be_empty():
    assert fold([START, STOP, END]).choices == (Choice(parts=(), end=STOP),)


TEXT = Text(text="")
ILLEGAL = {
    "nothing at all": ([], "end without MessageEnded"),
    "no end": ([START, STOP], "end without MessageEnded"),
    "no start": ([STOP], "ChoiceEnded before MessageStarted"),
    "an end alone": ([END], "MessageEnded before MessageStarted"),
    "two starts": ([START, START], "MessageStarted twice"),
    "no choice": ([START, END], "still under way"),
    "a choice that goes on": ([START, opened(TEXT), closed(), END], r"choices \[0\] still under way"),
    "one of two choices goes on": ([START, STOP, opened(TEXT, 1), closed(1), END], r"choices \[1\] still under way"),
    "a delta outside a part": ([START, more("x")], "PartDelta while between"),
    "an end outside a part": ([START, closed()], "PartEnded while between"),
    "a part within a part": ([START, opened(TEXT), opened(TEXT)], "PartStarted while in a part"),
    "an end within a part": ([START, opened(TEXT), STOP], "ChoiceEnded while in a part"),
    "a choice that ends twice": ([START, STOP, STOP], "ChoiceEnded while ended"),
    "a part after the end of its choice": ([START, STOP, opened(TEXT)], "PartStarted while ended"),
    "an event after the end": ([START, STOP, END, STOP], "ChoiceEnded after MessageEnded"),
    "another end": ([START, STOP, END, END], "MessageEnded after MessageEnded"),
    "a start after the end": ([START, STOP, END, START], "MessageStarted after MessageEnded"),
}


@pytest.mark.parametrize(("events", "told"), ILLEGAL.values(), ids=ILLEGAL)
def test_each_break_of_the_order_is_told(events, told):
    with pytest.raises(IllegalOrderError, match=told):
        fold(events)


@pytest.mark.parametrize(
    "part",
    [
        Media(mime_type="image/png", data="aGk="),
        Code(code="1", language="python"),
        CodeOutput(output="1", is_ok=True),
        ToolResult(call_id="c", name="look", content=()),
    ],
    ids=lambda part: type(part).__name__,
)
def test_what_comes_whole_takes_no_deltas(part):
    assert fold([START, opened(part), closed(), STOP, END]).choices[0].parts == (part,)
    with pytest.raises(IllegalOrderError, match=f"PartDelta in {type(part).__name__}"):
        fold([START, opened(part), more("x"), closed(), STOP, END])


def test_every_event_of_a_choice_has_its_place_in_the_table():
    assert {kind for row in ORDER.values() for kind in row} == {PartStarted, PartDelta, PartEnded, ChoiceEnded}
    assert {state for row in ORDER.values() for state in row.values()} == set(ORDER)


def test_the_total_of_usage_is_the_sum_of_its_two_sides():
    usage = Usage(prompt_tokens=10, cached_tokens=4, output_tokens=7, reasoning_tokens=5)

    assert usage.total_tokens == 17


def test_values_are_frozen_to_mypy_and_can_be_hashed():
    """Not at run time, see `agproxy.values`: what keeps them as they are is that no code sets a field."""
    tree = ast.parse(inspect.getsource(conversation))
    marks = [mark for node in tree.body if isinstance(node, ast.ClassDef) for mark in node.decorator_list]
    assert {ast.unparse(mark) for mark in marks} == {
        "value_class(frozen=True, slots=True, kw_only=True)",
        "dataclass(slots=True, kw_only=True)",  # Exchange, which lets go of its request
    }
    assert len({Text(text="a"), Text(text="a"), Text(text="b")}) == 2
