"""What counts as a vote, in our form and in two others; what is wrong is named."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.web.votes import Vote, VoteError, parse_votes


def one(**fields: Any) -> Vote:
    return parse_votes({"record_id": "r"} | fields, 10)[0]


@pytest.mark.parametrize("feedback", [1, 0, -1])
def test_a_thumb(feedback: int) -> None:
    assert one(feedback=feedback) == Vote(record_id="r", says={"feedback": feedback})


def test_null_is_said_and_differs_from_nothing_said() -> None:
    assert one(feedback=None).says == {"feedback": None}
    assert "feedback" not in one(comment="slow").says
    assert one(comment=None).says == {"comment": ""}, "takes the one before it back"


def test_everything_at_once() -> None:
    vote = one(feedback=-1, comment="c", correction="d", quality_score=1, source="u", tags={"page": "7"})
    assert vote.says == {"feedback": -1, "comment": "c", "correction": "d", "quality_score": 1.0}
    assert (vote.source, vote.tags) == ("u", {"page": "7"})


@pytest.mark.parametrize(
    ("theirs", "says"),
    [
        ({"record_id": "r", "rating": True}, {"feedback": 1}),
        ({"record_id": "r", "rating": False}, {"feedback": -1}),
        ({"inference_id": "r", "metric_name": "thumbs_up", "value": True}, {"feedback": 1}),
        ({"inference_id": "r", "metric_name": "score", "value": 0.25}, {"quality_score": 0.25}),
        ({"inference_id": "r", "metric_name": "comment", "value": "slow"}, {"comment": "slow"}),
        ({"inference_id": "r", "metric_name": "demonstration", "value": "42"}, {"correction": "42"}),
    ],
)
def test_the_forms_of_others(theirs: dict[str, Any], says: dict[str, Any]) -> None:
    assert parse_votes(theirs, 10) == [Vote(record_id="r", says=says)]


@pytest.mark.parametrize(
    ("document", "field"),
    [
        (7, "body"),
        ([], "[]"),
        ([{"record_id": "r", "feedback": 1}] * 3, "[]"),
        ([{"record_id": "r", "feedback": 1}, 7], "[1]"),
        ([{"record_id": "r", "feedback": 1}, {"record_id": "r", "feedback": 2}], "[1].feedback"),
        ({"feedback": 1}, "record_id"),
        ({"record_id": "", "feedback": 1}, "record_id"),
        ({"record_id": "r" * 257, "feedback": 1}, "record_id"),
        ({"record_id": "r"}, "feedback"),
        ({"record_id": "r", "feedback": True}, "feedback"),
        ({"record_id": "r", "feedback": "1"}, "feedback"),
        ({"record_id": "r", "feedback": 0.5}, "feedback"),
        ({"record_id": "r", "feeback": 1}, "feeback"),
        ({"record_id": "r", "": 1}, "(empty name)"),
        ({"record_id": "r", "x" * 1000: 1}, "x" * 60),
        ({"record_id": "r", "quality_score": 1.01}, "quality_score"),
        ({"record_id": "r", "quality_score": True}, "quality_score"),
        ({"record_id": "r", "comment": " "}, "comment"),
        ({"record_id": "r", "comment": "x" * 10_001}, "comment"),
        ({"record_id": "r", "feedback": 1, "source": 7}, "source"),
        ({"record_id": "r", "feedback": 1, "tags": {"a": 1}}, "tags"),
        ({"record_id": "r", "feedback": 1, "tags": {str(n): "" for n in range(33)}}, "tags"),
        ({"record_id": "r", "rating": "up"}, "rating"),
        ({"inference_id": "r", "metric_name": "m", "value": "up"}, "quality_score"),
    ],
)
def test_the_first_mistake_is_named(document: Any, field: str) -> None:
    with pytest.raises(VoteError) as caught:
        parse_votes(document, 2)
    assert caught.value.field == field


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


@given(
    document=json_values
    | st.fixed_dictionaries({"record_id": json_values, "feedback": json_values}, optional={"tags": json_values})
)
def test_any_json_is_understood_or_refused_but_never_crashes(document: Any) -> None:
    try:
        votes = parse_votes(document, 5)
    except VoteError as exc:
        assert exc.field  # noqa: PT017 – there is nothing else that may be raised
    else:
        assert all(vote.says for vote in votes)
