"""Conversations: what a turn says, and what bars a sample for what its conversation lacks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policies.conversation import Attachment, Conversation, Lack, ToolCall, Turn
from policies.records import Sample
from policies.selection import DataGeneratorConfig, Drop, DropReason, Keep, SelectionState, select

PICTURE = Attachment(medium="image", part={"type": "image_url", "image_url": {"url": "https://x.org/a.png"}})
CONFIG = DataGeneratorConfig(holdout_share=0.0, min_quality_score=None)


def test_a_turn_says_words_and_shows_the_rest() -> None:
    plain, mixed = Turn(role="user", content="a"), Turn(role="user", content=("a", PICTURE, "b"))
    assert (plain.text, plain.attachments) == ("a", ())
    assert (mixed.text, mixed.attachments) == ("a\nb", (PICTURE,))


@pytest.mark.parametrize(
    ("turn", "empty"),
    [
        (Turn(role="user"), True),
        (Turn(role="user", content=" \n"), True),
        (Turn(role="assistant", content="", reasoning="hm"), True),
        (Turn(role="user", content=(" ",)), True),
        (Turn(role="user", content="a"), False),
        (Turn(role="user", content=(PICTURE,)), False),
        (Turn(role="assistant", calls=(ToolCall(name="f", arguments="{}"),)), False),
    ],
)
def test_who_says_nothing_and_calls_nothing_is_empty(turn: Turn, empty: bool) -> None:
    assert turn.empty is empty


def test_the_question_is_the_last_turn_of_the_user() -> None:
    said = Conversation.plain("a", "b")
    assert said.question == Turn(role="user", content="a")
    assert replace(said, turns=()).question is None


def of(said: Conversation, **changes: str) -> Sample:
    return replace(Sample(record_id="r", created_at=0.0, user=1, query="a", response="b", conversation=said), **changes)


@pytest.mark.parametrize("lack", Lack)
def test_what_a_conversation_lacks_bars_its_sample_under_the_same_name(lack: Lack) -> None:
    said = replace(Conversation.plain("a", "b"), lacks=lack)
    assert select(of(said), CONFIG, SelectionState()) == Drop(DropReason(lack.value))


def test_an_answer_of_nothing_but_thoughts_is_empty_unless_somebody_corrected_it() -> None:
    said = replace(Conversation.plain("a", "b"), answer=Turn(role="assistant", reasoning="hm"))
    assert select(of(said), CONFIG, SelectionState()) == Drop(DropReason.EMPTY)
    assert select(of(said, correction="c"), CONFIG, SelectionState()) == Keep(holdout=False)
