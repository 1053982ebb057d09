"""Two answers side by side: what is wrong with one, what tells them apart; alike for both models."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.comparison import (
    Answer,
    AskedQuestion,
    Defect,
    StockAnswers,
    call_complaint,
    compare,
    look_at,
    misfit,
    same_model,
)
from policies.conversation import ToolCall
from policies.scoring import ScoringConfig

CONFIG = ScoringConfig()
ASKED = AskedQuestion(text="How can I change the password of my account, and will it be sent to me?")
GOOD = "You can change it in the settings of the account, and it will be sent to your address."
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city"],
}


def said(text: str, **more: Any) -> Answer:
    return Answer(text=text, words=text, **more)


def called(name: str, arguments: str, **more: Any) -> Answer:
    return Answer(text=f"<tool_call>{name}</tool_call>", calls=(ToolCall(name=name, arguments=arguments),), **more)


def test_a_good_answer_has_no_defect() -> None:
    seen = look_at(ASKED, said(GOOD), CONFIG)
    assert (seen.worth, seen.defects) == (1.0, ())


@pytest.mark.parametrize(
    ("answer", "defect", "worth"),
    [
        (said("", failed="HTTP 500"), Defect.FAILED, 0.0),
        (said("  "), Defect.EMPTY, 0.0),
        (said("I'm sorry, but I can't help with that."), Defect.REFUSAL, 0.2),
        (said(GOOD, finish_reason="length"), Defect.TRUNCATED, 0.4),
        (said("the same words again " * 60), Defect.REPETITION, 0.2),
        (said(GOOD, malformed=True), Defect.MALFORMED, 0.0),
        (said(f"{GOOD}<|im_end|>"), Defect.TEMPLATE, 0.0),
        (said(f"assistant\n{GOOD}"), Defect.TEMPLATE, 0.0),
        (said(f"{GOOD}\nHuman: And then?"), Defect.TEMPLATE, 0.0),
        (said(ASKED.text), Defect.ECHO, 0.0),
        (said(GOOD, model="tiny-1", asked_model="tiny-2"), Defect.WRONG_MODEL, 0.0),
        (said("Can you tell me which account you mean?"), Defect.ASKS_BACK, 0.5),
        (said("Das Passwort ist in den Einstellungen, und es wird nicht geschickt."), Defect.OTHER_LANGUAGE, 0.2),
    ],
)
def test_a_defect_is_named(answer: Answer, defect: Defect, worth: float) -> None:
    seen = look_at(ASKED, answer, CONFIG)
    assert seen.defects == (defect,)
    assert seen.worth == worth


def test_the_worst_defect_counts() -> None:
    seen = look_at(ASKED, said("Which account is it that you have?", finish_reason="length"), CONFIG)
    assert (seen.worth, set(seen.defects)) == (0.4, {Defect.TRUNCATED, Defect.ASKS_BACK})


def test_marks_of_a_template_are_no_defect_where_they_are_asked_about() -> None:
    asked = AskedQuestion(text="What does <|im_end|> mean?")
    assert look_at(asked, said("The mark <|im_end|> ends a turn."), CONFIG).worth == 1.0


def test_statements_before_a_question_are_an_answer() -> None:
    answered = said("It is in the settings. Shall I show you where that is?")
    assert look_at(ASKED, answered, CONFIG).defects == ()


def test_short_questions_are_not_echoed() -> None:
    assert look_at(AskedQuestion(text="Hello there"), said("Hello there!"), CONFIG).defects == ()


def test_an_answer_that_must_be_json() -> None:
    asked = AskedQuestion(text="the city", json_requested=True, schema=WEATHER)
    assert look_at(asked, said('{"city": "Ulm"}'), CONFIG).worth == 1.0
    assert look_at(asked, said('{"town": "Ulm"}'), CONFIG).defects == (Defect.NOT_IN_SCHEMA,)
    assert look_at(asked, said("Ulm"), CONFIG).defects == (Defect.INVALID_JSON,)
    assert look_at(asked, said('{"town"', partial=True), CONFIG).defects == ()


def test_calls_are_held_to_what_was_offered() -> None:
    asked = AskedQuestion(
        text="weather?", json_requested=True, schema={"type": "array"}, tools={"weather": WEATHER, "now": None}
    )
    assert look_at(asked, called("weather", '{"city": "Ulm", "days": 2}'), CONFIG).worth == 1.0
    assert look_at(asked, called("now", ""), CONFIG).worth == 1.0
    for name, arguments in (("wether", "{}"), ("weather", "{"), ("weather", "[]"), ("weather", '{"days": 1}')):
        assert look_at(asked, called(name, arguments), CONFIG).defects == (Defect.INVALID_CALL,)


def test_what_is_wrong_with_a_call_is_said_without_its_words() -> None:
    tools = {"weather": WEATHER}
    assert call_complaint(ToolCall(name="", arguments="{}"), tools) == "a tool without a name was not offered"
    assert (
        call_complaint(ToolCall(name="weather", arguments="x"), tools) == "the arguments of weather are no JSON object"
    )
    wrong = call_complaint(ToolCall(name="weather", arguments='{"city": ["secret"]}'), tools)
    assert wrong == "the arguments of weather: city: an array is not of type string"
    assert call_complaint(ToolCall(name="weather", arguments="free text", custom=True), tools) is None


@pytest.mark.parametrize(
    ("value", "schema", "wrong"),
    [
        (1, {"type": "integer"}, None),
        (1.0, {"type": "integer"}, None),
        (1.5, {"type": "integer"}, "a number is not of type integer"),
        (float("inf"), {"type": "integer"}, "a number is not of type integer"),
        (True, {"type": "integer"}, "a boolean is not of type integer"),
        (True, {"type": "boolean"}, None),
        (None, {"type": ["string", "null"]}, None),
        ({}, {"type": ["string", "null"]}, "an object is not of type string or null"),
        ("b", {"enum": ["a"]}, "a string is none of the values that it may have"),
        ("b", {"const": "a"}, "a string is not the value that it must have"),
        ([1, "x"], {"items": {"type": "number"}}, "a string is not of type number"),
        ([1, 2], {"items": {"type": "number"}}, None),
        ({"a": 1}, {"properties": {}, "additionalProperties": False}, "a is not asked for"),
        ({"a": 1}, {"additionalProperties": {"type": "string"}}, None),
        ({}, {"required": ["a"]}, "a is missing"),
        (
            {"a": {"b": 1}},
            {"properties": {"a": {"properties": {"b": {"type": "null"}}}}},
            "a: b: a number is not of type null",
        ),
        ("x", {"type": "date"}, None),
        ("x", {"type": ["date", "null"]}, None),
        ("x", {"type": 7, "enum": 7, "required": 7}, None),
        ({"a": 1}, {"properties": {"a": True}, "required": [7]}, None),
    ],
)
def test_a_schema(value: Any, schema: dict[str, Any], wrong: str | None) -> None:
    assert misfit(value, schema) == wrong


def test_a_schema_that_never_ends_is_given_up() -> None:
    schema: dict[str, Any] = {"properties": {}}
    schema["properties"]["a"] = schema
    value: Any = 1
    for _ in range(40):
        value = {"a": value}
    assert misfit(value, schema) is None


def _nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5), _nested))
def test_any_value_is_of_its_own_type(value: Any) -> None:
    kinds = {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer", float: "number"}
    assert misfit(value, {"type": kinds.get(type(value), "null")}) is None


@pytest.mark.parametrize(
    ("asked", "answered", "same"),
    [
        ("gpt-4o", "gpt-4o-2024-08-06", True),
        ("llama3", "llama3:latest", True),
        ("models/gemini-2.0-flash", "gemini-2.0-flash", True),
        ("Qwen/Qwen3-8B", "qwen3-8b", True),
        ("gpt-4o", "gpt-4o-mini", False),
        ("adapter-7", "base", False),
        ("run-2", "run-1", False),
    ],
)
def test_names_of_one_model(asked: str, answered: str, same: bool) -> None:
    assert same_model(asked, answered) is same
    assert same_model(answered, asked) is same


@pytest.mark.parametrize(
    ("champion", "challenger", "differences"),
    [
        (said(GOOD), said(GOOD), ()),
        (said(GOOD), said(GOOD * 4), ("text", "longer")),
        (said(GOOD * 4), said("Yes."), ("text", "shorter")),
        (said("Yes."), said("No, never."), ("text",)),
        (said(GOOD, latency_s=0.3), said(GOOD, latency_s=0.9), ("slower",)),
        (said(GOOD, latency_s=0.9), said(GOOD, latency_s=0.3), ("faster",)),
        (said(GOOD, latency_s=0.01), said(GOOD, latency_s=0.05), ()),
        (said(GOOD), said("Das Passwort ist in den Einstellungen, und es wird geschickt."), ("text", "language")),
        (called("weather", '{"city": "Ulm"}'), called("weather", '{ "city":"Ulm" }'), ()),
        (called("weather", '{"city": "Ulm"}'), called("weather", '{"city": "Bonn"}'), ("calls",)),
        (said(GOOD), said("", failed="HTTP 500"), ()),
    ],
)
def test_what_tells_two_answers_apart(champion: Answer, challenger: Answer, differences: tuple[str, ...]) -> None:
    assert compare(ASKED, champion, challenger, CONFIG).differences == differences


@given(st.sampled_from([said(GOOD), said(""), said("", failed="x"), said(ASKED.text), said("I can't help with that.")]),
       st.sampled_from([said(GOOD), said(""), said("", failed="x"), said("Why do you ask me that?")]))  # fmt: skip
def test_neither_side_is_looked_at_otherwise(one: Answer, other: Answer) -> None:
    forth, back = compare(ASKED, one, other, CONFIG), compare(ASKED, other, one, CONFIG)
    assert (forth.champion, forth.challenger) == (back.challenger, back.champion)
    assert forth.outcome == -back.outcome
    assert compare(ASKED, one, replace(one), CONFIG).outcome == 0.0


def test_one_answer_to_everything_is_noticed() -> None:
    stock = StockAnswers()
    found = [stock.feed(f"answer {at}", "How may I help you today?") for at in range(5)]
    assert found == [(False, False)] * 3 + [(False, True)] * 2


def test_an_answer_that_both_give_is_a_habit_of_the_task() -> None:
    stock = StockAnswers()
    found = [stock.feed("yes" if at % 2 else "no", "yes" if at % 3 else "no") for at in range(30)]
    assert found == [(False, False)] * 30


def test_empty_answers_are_no_stock() -> None:
    stock = StockAnswers()
    assert [stock.feed("", "") for _ in range(9)][-1] == (False, False)
    assert json.dumps([defect.value for defect in Defect])


def test_a_rewritten_question_is_the_challengers_own() -> None:
    rewritten = replace(ASKED, json_requested=True)
    found = compare(ASKED, said(GOOD), said(GOOD), CONFIG, rewritten=rewritten)
    assert (found.champion.defects, found.challenger.defects) == ((), (Defect.INVALID_JSON,))
