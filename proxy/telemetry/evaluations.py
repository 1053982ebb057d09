"""Votes and scores as events `gen_ai.evaluation.result`: what the conventions have for a word on an answer.

Each names the answer by the provider's id (`gen_ai.response.id`), by its record and by the ids of its span. Who voted
is never sent: the name of a source may be a person's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from policies.ballots import BallotTrust
from policies.records import Feedback
from policies.scoring import FORMAT_CHECK
from proxy.store.reading.finished import StoredJudgement, StoredVote
from proxy.telemetry.content import may_be_sent
from proxy.telemetry.facts import EventFacts, Value, hexadecimal, place_of
from proxy.telemetry.spans import Reading

__all__ = ["EVENT", "events_of_judgement", "events_of_scores", "events_of_vote"]

EVENT: Final = "gen_ai.evaluation.result"
_OTHERS: Final = frozenset(("feedback", "judge"))
"""Scorers whose word is sent when it comes."""
_NAMES: Final = {FORMAT_CHECK: "format_check", "pointer": "own_score"}
_LABELS: Final = {Feedback.POSITIVE: "positive", Feedback.NEUTRAL: "neutral", Feedback.NEGATIVE: "negative"}


def events_of_scores(reading: Reading) -> Iterator[EventFacts]:
    """The scores that a record has of itself: what the format check says, and what the answer carries."""
    row = reading.view.row
    for scorer, score in sorted(reading.view.scores.items()):
        if scorer not in _OTHERS:
            at_ns = (row.created_us + row.duration_us) * 1000
            yield _event(_NAMES.get(scorer, scorer), at_ns, row.id, reading, {"gen_ai.evaluation.score.value": score})


def events_of_vote(vote: StoredVote, reading: Reading | None, *, content: bool) -> Iterator[EventFacts]:
    """What a vote says: a thumb, a score, that the answer was copied; or that it is taken back. `reading`: of its
    record, where that is there."""
    spoken = content and (reading is None or may_be_sent(reading.view))
    more: dict[str, Value | None] = {
        "gen_ai.conversation.id": None if vote.conversation is None else hexadecimal(vote.conversation),
        "gen_ai.evaluation.explanation": vote.comment if spoken else None,
        "ratchet.correction": vote.correction if spoken else None,
        "ratchet.vote_id": vote.fid,
        "ratchet.whole_conversation": True if vote.whole else None,
    }
    for name, value, label, counts in _said(vote):
        scored = {"gen_ai.evaluation.score.value": value, "gen_ai.evaluation.score.label": label}
        yield _event(
            name, vote.created_us * 1000, vote.record_id, reading, {**scored, **more, "ratchet.counts": counts}
        )


def events_of_judgement(said: StoredJudgement, reading: Reading | None, *, content: bool) -> Iterator[EventFacts]:
    """A judge's score, or what kept it from giving one."""
    reason = said.reason or ""
    failure = None if said.score is not None else reason.partition(":")[0] or "unknown"
    spoken = content and (reading is None or may_be_sent(reading.view))
    values: dict[str, Value | None] = {
        "gen_ai.evaluation.score.value": said.score,
        "gen_ai.evaluation.explanation": reason or None if spoken else None,
        "error.type": failure,
        "ratchet.scorer": said.scorer,
    }
    yield _event("judge", said.asked_us * 1000, said.record_id, reading, values)


def _said(vote: StoredVote) -> Iterator[tuple[str, float | None, str | None, bool]]:
    """Name, value and label of each thing that a vote says, and whether it may count."""
    if vote.retracted:
        yield "user_feedback", None, "retracted", True
        return
    thumb, score = BallotTrust.THUMB in vote.trust, BallotTrust.SCORE in vote.trust
    if vote.feedback is not None:
        yield "user_feedback", float(vote.feedback), _LABELS[Feedback(vote.feedback)], thumb
    if vote.quality_score is not None:
        yield "user_score", vote.quality_score, None, score
    if vote.copied:
        yield "copied", 1.0, None, thumb
    if vote.feedback is None and vote.quality_score is None and not vote.copied:
        yield "user_feedback", None, "correction" if vote.correction is not None else "comment", False


def _event(
    name: str, at_ns: int, record_id: str | None, reading: Reading | None, values: dict[str, Value | None]
) -> EventFacts:
    about: dict[str, Value | None] = {"gen_ai.evaluation.name": name, "ratchet.record_id": record_id}
    if reading is not None:
        row = reading.view.row
        about |= {
            "gen_ai.response.id": reading.response_id,
            "ratchet.arm": row.arm.label,
            "ratchet.model": reading.server.name,
            "ratchet.experiment_id": row.experiment_id,
        }
    known = {key: value for key, value in (about | values).items() if value is not None}
    place = None if record_id is None else place_of(record_id, reading.view if reading is not None else None)
    return EventFacts(at_ns=at_ns, place=place, attributes=known)
