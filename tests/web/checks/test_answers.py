"""A comparison ready to be shown: calls as calls, the sides drawn for each person, and nothing without end."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.clock import ManualClock
from proxy.ids import KeyRing
from proxy.web.checks.answers import asked_words, choice_of, found_words, pair_of, place_of
from tests.harness.compared_answers import answer, comparison

CALL = ("find_part", {"number": 4711, "stock": True})


@pytest.fixture
def keys(tmp_path: Path) -> KeyRing:
    return KeyRing.load_or_create(tmp_path / "keys.json", ManualClock())


def test_calls_are_compared_by_what_they_say_and_not_by_how_it_is_written() -> None:
    same = ("find_part", {"stock": True, "number": 4711})
    pair = pair_of(comparison(1, "a" * 32, "Saws?", answer("", [CALL]), answer("", [same])))
    assert [call.marked for call in (*pair.left.calls, *pair.right.calls)] == [False, False]
    assert pair.same
    other = pair_of(comparison(1, "a" * 32, "Saws?", answer("", [CALL]), answer("", [("find_part", {"number": 1})])))
    assert other.differ_in_calls
    assert other.left.calls[0].arguments == '{\n  "number": 4711,\n  "stock": true\n}'


def test_the_other_order_is_the_same_pair_turned_around() -> None:
    row = comparison(1, "a" * 32, "Saws?", answer("We have two saws."), answer("We have no saws."))
    pair, turned = pair_of(row), pair_of(row, ("challenger", "champion"))
    assert (pair.left, pair.right) == (turned.right, turned.left)
    assert (pair.left.arm, turned.left.arm) == ("champion", "challenger")


def test_sides_are_drawn_for_each_item_and_person_and_stay(keys: KeyRing) -> None:
    drawn = [place_of(keys, 1, f"{n:032x}", who) for n in range(1000) for who in ("ann", "bob")]
    assert drawn == [place_of(keys, 1, f"{n:032x}", who) for n in range(1000) for who in ("ann", "bob")]
    ann, bob = drawn[::2], drawn[1::2]
    for mine in (ann, bob):
        assert 420 < sum(order[0] == "challenger" for order in mine) < 580
    assert 420 < sum(one == other for one, other in zip(ann, bob, strict=True)) < 580


def test_another_install_draws_other_sides(keys: KeyRing, tmp_path: Path) -> None:
    others = KeyRing.load_or_create(tmp_path / "others.json", ManualClock())
    same = sum(place_of(keys, 1, str(n), "ann") == place_of(others, 1, str(n), "ann") for n in range(1000))
    assert 420 < same < 580


def test_left_and_right_are_translated_by_the_order() -> None:
    order = ("challenger", "champion")
    assert [choice_of(place, order) for place in ("left", "right", "tie")] == ["challenger", "champion", "tie"]


def test_what_cannot_be_read_shows_the_words_that_were_kept() -> None:
    row = comparison(1, "a" * 32, "Saws?", answer("Yes."), answer("No."))
    broken = replace(row, data={**row.data, "champion": {"text": "Yes.", "body": "{…"}, "challenger": "No."})
    pair = pair_of(broken)
    assert [piece.text for piece in (*pair.left.pieces, *pair.right.pieces)] == ["Yes", ".", "No", "."]
    empty = pair_of(replace(row, data={}))
    assert (empty.left.pieces, empty.turns, asked_words(replace(row, data={}))) == ((), (), "")


def test_what_is_no_answer_says_why_and_shows_nobody_elses_words() -> None:
    own = answer("Yes, two saws.")
    row = comparison(1, "a" * 32, "Saws?", own, {"text": "", "body": own["body"], "failed": "HTTP 503"})
    pair = pair_of(row)
    assert (pair.right.pieces, pair.right.failed, pair.left.failed) == ((), "HTTP 503", None)


def test_only_what_the_challenger_does_worse_is_told() -> None:
    facts = {
        "champion": {"defects": ["refusal"]},
        "challenger": {"defects": ["refusal", "other_language"]},
        "differences": ["text", "longer"],
        "golden": {"champion": [], "challenger": ["does not contain '30 days'"]},
    }
    row = comparison(1, "golden:1", "?", answer("1"), answer("2"), facts=facts)
    assert found_words(row) == ("other language", "does not contain '30 days'", "longer")


@pytest.mark.parametrize(
    "arguments", ["[" * 900 + ",".join(["0"] * 20_000) + "]" * 900, "[" * 50_000, '{"a":' * 900 + "1" + "}" * 900]
)
def test_hostile_arguments_of_a_call_are_shown_as_quickly(arguments: str) -> None:
    calls = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}] * 60
    body = {"choices": [{"message": {"role": "assistant", "content": None, "tool_calls": calls}}]}
    row = comparison(1, "a" * 32, "?", {"text": "", "body": body}, answer("No."))
    began = time.process_time()
    pair = pair_of(row)
    assert time.process_time() - began < 20.0, "two seconds on an idle machine"
    assert sum(len(call.arguments) for call in pair.left.calls) < 50 * 61_000
