"""Quality heuristics: each defect by example, the worst one counts, and good answers are left alone."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.scoring import _DECLINES, _NEVER_FIRST, Score, ScoringConfig, score

DEFAULT = ScoringConfig()
PROSE = (
    "In native mode the accumulator and the index registers may be eight or sixteen bits wide, as two flags of the "
    "status register say. Bank registers extend addresses to twenty-four bits, so that sixteen megabytes are within "
    "reach. Programmers remember it for the instructions that set widths, and for its two block moves."
)


REFUSALS = [
    "I'm sorry, but I can't help with that.", "I’m sorry, but I cannot assist with that request.",
    "I cannot provide medical advice.", "I am unable to help.", "I can not answer that.", "I must decline.",
    "I won't be able to help with that.", "Unfortunately, I am not able to do that.",
    "As an AI language model, I don't have opinions.", "Es tut mir leid, aber ich kann dabei nicht helfen.",
    "Je suis désolé, mais je ne peux pas vous aider.", "Lo siento, pero no puedo ayudar con eso.",
    "抱歉，我无法帮助您。", "申し訳ありませんが、お手伝いできません。", "Sorry, but I can't do that.",
    "My apologies, I cannot continue.", "Désolé, je ne peux pas.", '"I apologize, but I am unable to do that."',
]  # fmt: skip


def of(text: str, config: ScoringConfig = DEFAULT, **facts: Any) -> Score:
    return score(text, config, **facts)


def test_an_answer_without_a_visible_defect_scores_1() -> None:
    assert of(PROSE, finish_reason="stop") == Score(1.0)
    assert of("6") == Score(1.0)


def test_empty_answers_score_0() -> None:
    assert of(" \n") == Score(0.0, ("empty",))
    assert of("ok", ScoringConfig(min_response_chars=3)) == Score(0.0, ("empty",))
    assert of("", ScoringConfig(min_response_chars=0)) == Score(0.0, ("empty",))


@pytest.mark.parametrize(
    "reason", ["length", "max_tokens", "max_output_tokens", "MAX_TOKENS", "model_length", "limit", "max-tokens"]
)
def test_an_answer_that_hit_a_limit_is_truncated(reason: str) -> None:
    assert of(PROSE, finish_reason=reason) == Score(0.4, ("truncated",))


@pytest.mark.parametrize(
    "reason",
    [
        "content_filter", "refusal", "SAFETY", "PROHIBITED_CONTENT", "BLOCKLIST", "RECITATION", "SPII",
        "guardrail_intervened", "content_filtered", "ERROR_TOXIC", "content-filter",
    ],
)  # fmt: skip
def test_an_answer_that_was_withheld_is_a_refusal(reason: str) -> None:
    assert of(PROSE, finish_reason=reason) == Score(0.2, ("refusal",))


@pytest.mark.parametrize(
    "reason", ["error", "abort", "ERROR", "TIMEOUT", "MALFORMED_FUNCTION_CALL", "malformed_model_output"]
)
def test_an_answer_that_says_it_failed_is_worth_nothing(reason: str) -> None:
    assert of(PROSE, finish_reason=reason) == Score(0.0, ("failed",))


def test_a_tool_call_that_came_as_text_is_worth_nothing() -> None:
    call = '<tool_call>{"name":"weather","arguments":{}}</tool_call>'
    assert of(call, malformed=True) == Score(0.0, ("malformed",))
    assert of(call) == Score(1.0)  # one that the server understood is shown in the same way


@pytest.mark.parametrize(
    "reason",
    ["stop", "STOP", "end_turn", "tool_use", "COMPLETE", "STOP_SEQUENCE", "eos_token", "eos", "tool_calls", None],
)
def test_an_answer_that_came_to_its_end_has_no_defect(reason: str | None) -> None:
    assert of(PROSE, finish_reason=reason) == Score(1.0)


@pytest.mark.parametrize("text", REFUSALS)
def test_refusals(text: str) -> None:
    assert of(text) == Score(0.2, ("refusal",))


@pytest.mark.parametrize("text", REFUSALS)
def test_the_look_at_the_first_letter_misses_no_refusal(text: str) -> None:
    assert not _NEVER_FIRST & {text[0].lower(), text[0].upper()}
    assert not any(_DECLINES.match(letter + text[1:]) for letter in _NEVER_FIRST)


@pytest.mark.parametrize(
    "text",
    [
        "I can't wait to help you plan!", "I cannot recommend this book enough.", "Sorry for the delay! Here it is.",
        "You can't do that in C. Instead, write:", "To decline politely, say: I'm sorry, I can't help you.",
        "Sorry, which one do you mean?", '{"reply": "I cannot help"}',
    ],
)  # fmt: skip
def test_no_refusals(text: str) -> None:
    assert of(text) == Score(1.0)


def test_a_refusal_that_the_provider_marks() -> None:
    assert of(PROSE, refused=True).reasons == ("refusal",)
    assert of("", refused=True) == Score(0.2, ("refusal",))
    assert of(PROSE, finish_reason="content_filter") == Score(0.2, ("refusal",))


@pytest.mark.parametrize("text", ["the cat sat on the mat. " * 30, PROSE + " and so on" * 60, "ha" * 300, "无法" * 100])
def test_loops(text: str) -> None:
    assert of(text) == Score(0.2, ("repetition",))


@pytest.mark.parametrize(
    "text",
    [
        PROSE,
        "no no no",
        "| a | b |\n" * 3,
        "[0, 0, 0, 0, " + "0, " * 200 + "0]",
        "x = 1\n" * 9,
        PROSE.replace(" ", "_"),
    ],
)
def test_no_loops(text: str) -> None:
    assert of(text) == Score(1.0)


@pytest.mark.parametrize("text", ["Sure! {}", '```json\n{"a": 1}\n```', '{"a": NaN}', '{"a": 1', "[" * 100_000])
def test_no_json_where_json_was_asked_for(text: str) -> None:
    found = of(text, json_requested=True)
    assert found.value == 0.0
    assert "invalid_json" in found.reasons
    assert "invalid_json" not in of(text).reasons


def test_json_where_it_was_asked_for() -> None:
    assert of(' {"a": [1, 2]} ', json_requested=True) == Score(1.0)
    assert of('{"a": 1', json_requested=True, partial_text=True) == Score(1.0), "the copy is cut, not the answer"
    assert of('<tool_call>{"name":"f"}</tool_call>', json_requested=True) == Score(1.0)


def test_the_worst_defect_counts_and_all_are_named() -> None:
    assert of('{"a": 1', json_requested=True, finish_reason="length") == Score(0.0, ("truncated", "invalid_json"))
    lenient = ScoringConfig(invalid_json_score=0.9, truncated_score=0.6)
    assert of('{"a": 1', lenient, json_requested=True, finish_reason="length").value == 0.6


@given(
    st.text() | st.text("ab c", max_size=400),
    st.sampled_from([None, "stop", "length", "content_filter"]),
    st.booleans(),
    st.booleans(),
)
def test_a_score_is_in_range_and_1_exactly_without_reasons(
    text: str, reason: str | None, refused: bool, json_requested: bool
) -> None:
    found = of(text, finish_reason=reason, refused=refused, json_requested=json_requested)
    assert 0 <= found.value <= 1
    assert (found.value == 1.0) == (found.reasons == ())
