"""Arguments that Vertex streams in pieces, put together again."""

import pytest

from agproxy.backends.gemini.partial_args import PartialCall, path_steps


def joined(*pieces, args=None):
    call = PartialCall(name="look", id=None, signature=None)
    call.feed({"name": "look", "args": args, "willContinue": True})
    for path, kind, value in pieces:
        call.feed({"partialArgs": [{"jsonPath": path, kind: value}], "willContinue": True})
    call.feed({})
    return call.arguments


@pytest.mark.parametrize(
    ("path", "steps"),
    [
        ("$", []),
        ("$.a", ["a"]),
        ("$.a.b_c", ["a", "b_c"]),
        ("$.a[0].b[12]", ["a", 0, "b", 12]),
        ("$['a b']", ["a b"]),
        ('$["a.b"][0]', ["a.b", 0]),
        (r"$['it\'s']", ["it's"]),
        ("$.é", ["é"]),
        ("$[0][1]", [0, 1]),
    ],
)
def test_a_path_names_keys_and_places(path, steps):
    assert path_steps(path) == steps


def test_a_string_comes_in_pieces_and_ends_with_an_empty_one():
    assert joined(
        ("$.where", "stringValue", "Bos"), ("$.where", "stringValue", "ton"), ("$.where", "stringValue", "")
    ) == {"where": "Boston"}


def test_each_kind_of_value_has_its_word():
    assert joined(
        ("$.s", "stringValue", ""),
        ("$.n", "numberValue", 1.5),
        ("$.i", "numberValue", 5.0),
        ("$.b", "boolValue", False),
        ("$.z", "nullValue", "NULL_VALUE"),
    ) == {"s": "", "n": 1.5, "i": 5, "b": False, "z": None}
    assert isinstance(joined(("$.i", "numberValue", 5.0))["i"], int)


def test_objects_and_arrays_are_made_on_the_way():
    """Recorded as `google-stream-tool-call-arguments-nested`."""
    assert joined(
        ("$.recipe.name", "stringValue", "Las"),
        ("$.recipe.name", "stringValue", "agna"),
        ("$.recipe.ingredients[0].name", "stringValue", "Pasta"),
        ("$.recipe.ingredients[0].grams", "numberValue", 500),
        ("$.recipe.ingredients[1].name", "stringValue", "Cheese"),
        ("$.recipe.steps[0]", "stringValue", "Boil"),
        ("$.matrix[0][0]", "numberValue", 1),
        ("$.matrix[0][1]", "numberValue", 2),
    ) == {
        "recipe": {
            "name": "Lasagna",
            "ingredients": [{"name": "Pasta", "grams": 500}, {"name": "Cheese"}],
            "steps": ["Boil"],
        },
        "matrix": [[1, 2]],
    }


def test_a_string_within_an_array_comes_in_pieces_too():
    assert joined(("$.a[0]", "stringValue", "x"), ("$.a[0]", "stringValue", "y"), ("$.a[1]", "stringValue", "z")) == {
        "a": ["xy", "z"]
    }


def test_whole_arguments_beside_pieces_are_kept():
    assert joined(("$.b", "numberValue", 2), args={"a": 1}) == {"a": 1, "b": 2}


def test_a_call_may_bring_no_arguments_at_all():
    assert joined() == {}


@pytest.mark.parametrize(
    "piece",
    [
        ("$.a[3]", "stringValue", "a gap"),
        ("$[0]", "stringValue", "no array here"),
        ("$.known.x", "stringValue", "a text has no keys"),
        ("$.known[0]", "stringValue", "nor places"),
        ("$.list.x", "stringValue", "an array has no keys"),
        ("$", "stringValue", "nowhere"),
        ("", "stringValue", "nowhere"),
        ("$[" + "9" * 5000 + "]", "stringValue", "too far"),
        ("$.list[" + "9" * 5000 + "]", "stringValue", "too far"),
        (5, "stringValue", "no path"),
        (None, "stringValue", "no path"),
        ("$.known", "stringValue", None),
        ("$.known", "stringValue", 5),
        ("$.known", "someOtherValue", 5),
    ],
)
def test_a_piece_that_has_no_place_is_passed_over(piece):
    known = {"known": "text", "list": [1]}

    assert joined(piece, args={"known": "text", "list": [1]}) in (known, known | {"a": []})


@pytest.mark.parametrize("pieces", [None, 5, "x", {"a": 1}, [None, 5, "x", [], {}]])
def test_pieces_of_a_wrong_type_are_passed_over(pieces):
    call = PartialCall(name="look", id=None, signature=None)
    call.feed({"partialArgs": pieces, "args": pieces if not isinstance(pieces, dict) else None})

    assert call.arguments == {}


def test_strings_of_two_paths_do_not_mix():
    assert joined(("$.a", "stringValue", "x"), ("$.b", "stringValue", "1"), ("$.a", "stringValue", "y")) == {
        "a": "xy",
        "b": "1",
    }
