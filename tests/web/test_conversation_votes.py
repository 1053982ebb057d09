"""POST /-/feedback for whole conversations, for several answers, and for what a UI has seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from policies.ballots import FULL_TRUST, BallotTrust
from proxy.config import parse_config
from proxy.ingest.votes import votes_of
from proxy.spool.frames import KIND_FEEDBACK, Frame
from tests.web.test_feedback import Side, post

TOKEN = "the back end's own feedback token"


@pytest.fixture
def side(tmp_path: Path) -> Side:
    return Side(tmp_path, config=parse_config({"champion": {"url": "http://m"}, "feedback": {"token": TOKEN}}))


def kept(side: Side) -> list[Any]:
    """The votes in the spool, as ingest reads them."""
    return list(votes_of(Frame(KIND_FEEDBACK, {"t": 1, "votes": side.votes()}, b"", b"")))


async def test_a_record_stands_for_its_conversation(side: Side) -> None:
    minted = side.ids.mint(side.clock.now())
    async with side.running() as client:
        status, answer = await post(client, {"record_id": minted.text, "conversation": True, "feedback": -1})
        [vote] = kept(side)
    assert (status, answer) == (202, {"accepted": 1, "feedback_id": vote.fid})
    assert (vote.record_id, vote.whole, vote.conversation, vote.feedback) == (minted.hex, True, None, -1)
    assert vote.trust == BallotTrust.THUMB


async def test_the_conversation_may_be_named_beside_a_record(side: Side) -> None:
    minted = side.ids.mint(side.clock.now())
    async with side.running() as client:
        status, _ = await post(client, {"record_id": minted.text, "conversation": " chat-7 ", "feedback": 1})
        [vote] = kept(side)
    assert status == 202
    assert (vote.record_id, vote.conversation) == (minted.hex, side.ring.user_hash(b"chat-7"))


async def test_several_answers_are_one_vote(side: Side) -> None:
    minted = [side.ids.mint(side.clock.now()) for _ in range(3)]
    body = {"references": [*(one.text for one in minted), minted[0].text], "feedback": 1, "comment": "it all worked"}
    async with side.running() as client:
        status, answer = await post(client, body)
        votes = kept(side)
    assert [vote.record_id for vote in votes] == [one.hex for one in minted]
    assert all(vote.whole and vote.feedback == 1 for vote in votes)
    assert (status, answer) == (202, {"accepted": 1, "feedback_id": votes[0].fid})
    assert side.count("feedback_votes_total") == 1


async def test_who_has_the_token_names_user_and_conversation(side: Side) -> None:
    bearer = f"Bearer {TOKEN}"
    async with side.running() as client:
        named = {"conversation": "chat-7", "user": "ann", "feedback": 1}
        assert (await post(client, named, authorization=bearer))[0] == 202
        alone = {"conversation": "chat-7", "feedback": 1}
        assert (await post(client, alone, authorization=bearer))[0] == 202
        status, answer = await post(client, named)
        [of_ann, of_nobody] = kept(side)
    talk = side.ring.user_hash(b"chat-7")
    assert (of_ann.record_id, of_ann.user_hash, of_ann.conversation) == (None, side.ring.user_hash(b"ann"), talk)
    assert (of_nobody.user_hash, of_nobody.trust) == (talk, FULL_TRUST), "it stands for its user, as in requests"
    assert (status, answer["error"]["field"]) == (403, "conversation")
    assert "name a record of it" in answer["error"]["message"]


async def test_a_copied_answer(side: Side) -> None:
    minted = side.ids.mint(side.clock.now())
    async with side.running() as client:
        assert (await post(client, {"record_id": minted.text, "signal": "copied"}))[0] == 202
        [vote] = kept(side)
    assert (vote.record_id, vote.copied, vote.feedback, vote.whole) == (minted.hex, True, None, False)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"record_id": "r", "conversation": True, "correction": "no"}, "correction"),
        ({"record_id": "r", "conversation": True, "quality_score": 0.5}, "quality_score"),
        ({"record_id": "r", "conversation": 7, "feedback": 1}, "conversation"),
        ({"record_id": "r", "conversation": " ", "feedback": 1}, "conversation"),
        ({"record_id": "r", "references": ["r"], "feedback": 1}, "references"),
        ({"references": [], "feedback": 1}, "references"),
        ({"references": ["r"] * 101, "feedback": 1}, "references"),
        ({"references": [7], "feedback": 1}, "references[0]"),
        ({"record_id": "r", "user": "ann", "feedback": 1}, "user"),
        ({"conversation": "c", "user": "", "feedback": 1}, "user"),
        ({"conversation": True, "feedback": 1}, "record_id"),
        ({"record_id": "r", "signal": "stared at"}, "signal"),
        ({"references": ["r"], "signal": "copied"}, "signal"),
    ],
)
async def test_what_is_wrong_is_named(side: Side, body: dict[str, Any], field: str) -> None:
    async with side.running() as client:
        status, answer = await post(client, body, authorization=f"Bearer {TOKEN}")
    assert (status, answer["error"]["field"]) == (400, field)
    assert side.votes() == []


async def test_a_forged_reference_is_named(side: Side) -> None:
    async with side.running() as client:
        status, answer = await post(client, {"references": [side.record_id(), "chatcmpl-7"], "feedback": 1})
    assert (status, answer["error"]["field"]) == (403, "references[1]")
