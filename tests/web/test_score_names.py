"""What a score of another system means: by its name, then by its value."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config import FeedbackConfig
from proxy.web.others.names import Names, as_note, as_text, thumb_of
from proxy.web.others.scores import SentScore, removal
from proxy.web.votes import VoteError

NAMES = Names.of(FeedbackConfig(score_names=("quality", "Thumb")))
UP, DOWN, NOTHING = {"feedback": 1}, {"feedback": -1}, {}


@pytest.mark.parametrize(
    ("name", "value", "means"),
    [
        ("user-feedback", True, UP), ("user_feedback", False, DOWN), ("USER_SCORE", 1, UP), ("user_score", 0, DOWN),
        ("user_score", -1, DOWN), ("user_score", 0.5, UP), ("user_score", 0.49, DOWN), ("user_score", 5, NOTHING),
        ("user_score", "thumbs_up", UP), ("user_score", "Thumbs Down", DOWN), ("user_score", "thumbsUp", UP),
        ("user_score", "like", UP), ("user_score", "👎", DOWN), ("user_score", "meh", NOTHING),
        ("user_score", None, NOTHING), ("user_score", math.nan, NOTHING), ("user_score", [1], NOTHING),
        ("quality", 0.25, {"quality_score": 0.25}), ("quality", True, {"quality_score": 1.0}),
        ("quality", 94, NOTHING), ("quality", "good", NOTHING), ("quality", 10**400, NOTHING),
        ("thumb", 0.3, {"quality_score": 0.3}),
        ("hallucination", True, NOTHING), ("helpful", 1, NOTHING), ("", "up", NOTHING),
    ],
)  # fmt: skip
def test_a_score_means_what_its_name_says(name: str, value: Any, means: dict[str, Any]) -> None:
    assert NAMES.meaning(name, value) == means
    assert NAMES.meaning(name, value, person=False) == {}


@given(st.text(max_size=20), st.one_of(st.booleans(), st.floats(), st.integers(), st.text(), st.none()))
def test_whatever_comes_means_a_thumb_a_score_or_nothing(name: str, value: Any) -> None:
    for meaning in (NAMES.meaning(name, value), NAMES.meaning("user_score", value), NAMES.meaning("quality", value)):
        assert meaning.get("feedback", 1) in (1, -1)
        assert 0 <= meaning.get("quality_score", 0) <= 1
        assert len(meaning) <= 1
    assert thumb_of(value) in (1, -1, None)
    as_text(value)


def test_what_does_not_count_is_kept_as_a_comment_with_its_name() -> None:
    assert as_note("verdict", "good", "because") == "verdict: good — because"
    assert as_note("correctness", 0.5, None, by="LLM") == "correctness (LLM): 0.5"
    assert as_note("facts", {"a": [1]}, None) == 'facts: {"a":[1]}'
    assert as_note("verdict", None, None) is None


def test_a_score_is_a_vote_of_whoever_is_named_and_else_of_itself() -> None:
    score = SentScore(system="s", name="thumb2", value=1, record_id="r", id="i")
    assert score.vote(NAMES).source == "i"
    named = SentScore(system="s", name="user_score", value=1, record_id="r", user="u" * 300, comment="c" * 20_000)
    vote = named.vote(NAMES)
    assert (vote.source[:7], len(vote.source), len(vote.says["comment"])) == ("sha256:", 71, 10_000)
    assert vote.external is None
    other = SentScore(system="s", name="user_score", value=1, record_id="r", user="u" * 299)
    assert other.vote(NAMES).source != vote.source


def test_a_score_of_a_conversation_is_a_thumb_on_it_or_a_comment() -> None:
    thumb = SentScore(system="s", name="user_score", value=1, session="c-1", user="u-1").vote(NAMES)
    assert (thumb.record_id, thumb.conversation, thumb.user, thumb.says) == (None, "c-1", "u-1", {"feedback": 1})
    score = SentScore(system="s", name="quality", value=1, session="c-1").vote(NAMES)
    assert score.says == {"comment": "quality: 1"}


@pytest.mark.parametrize(
    ("correction", "text"),
    [("Bern", "Bern"), ({"answer": "Bern"}, "Bern"), ({"output": "Bern", "confidence": 1}, "Bern"),
     ({"label": "x"}, None), ({"answer": "a", "text": "b"}, None), (["Bern"], None), (" ", None)],
)  # fmt: skip
def test_a_correction_is_a_text_or_the_only_answer_of_an_object(correction: Any, text: str | None) -> None:
    score = SentScore(system="s", name="user_score", value=1, record_id="r", correction=correction)
    assert score.vote(NAMES).says.get("correction") == text
    program = SentScore(system="s", name="user_score", value=1, record_id="r", correction=correction, by="LLM")
    assert "correction" not in program.vote(NAMES).says


def test_what_says_nothing_is_refused() -> None:
    with pytest.raises(VoteError, match="nothing to keep"):
        SentScore(system="s", name="user_score", record_id="r").vote(NAMES)
    with pytest.raises(VoteError, match="nothing that a vote"):
        SentScore(system="s", id="i").change(NAMES)
    assert removal("s", "i").external != removal("t", "i").external
