"""What one person has said of a record so far, and the votes that lead from there to what they want to have said.

Pure: from votes to votes. Nothing is changed in place: taking something back is one vote more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from policies.ballots import BallotTrust
from proxy.store.tables.values import VoteView
from proxy.web.votes import Vote

__all__ = ["GivenTag", "Said", "before_the_last", "given_tags", "said_by", "source_of", "votes_for"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What one source says of a record at a time."""

    thumb: int | None = None
    correction: str | None = None
    comment: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    """An empty value: taken away again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenTag:
    """A tag that somebody gave to a record by a vote."""

    name: str
    value: str
    source: str


def source_of(who: str) -> str:
    """The source of votes that are given here: nobody's name of an application is mixed up with it."""
    return f"console:{who}" if who else "console"


def said_by(votes: Iterable[VoteView], source: str) -> Said:
    """What holds of the votes of `source`, given in the order in which they came."""
    said = Said()
    for vote in _mine(votes, source):
        if vote.retracted:
            said = replace(said, thumb=None, correction=None, comment=None)
        said = Said(
            thumb=said.thumb if vote.feedback is None else vote.feedback,
            correction=said.correction if vote.correction is None else vote.correction,
            comment=said.comment if vote.comment is None else vote.comment,
            tags={**said.tags, **vote.tags},
        )
    return said


def before_the_last(votes: Sequence[VoteView], source: str) -> Said | None:
    """What this source said before it said something the last time; None where it has said nothing. A comment that a
    later one has replaced is gone for good."""
    mine = [vote for vote in _mine(votes, source) if _can_be_undone(vote)]
    if not mine:
        return None
    return said_by([vote for vote in mine if vote.created_us != mine[-1].created_us], source)


def _mine(votes: Iterable[VoteView], source: str) -> list[VoteView]:
    return [v for v in votes if v.source == source and not v.whole and BallotTrust.TOKEN in v.trust]


def _can_be_undone(vote: VoteView) -> bool:
    said = (vote.feedback, vote.correction, vote.comment)
    return any(one is not None for one in said) or vote.retracted or bool(vote.tags)


def given_tags(votes: Sequence[VoteView]) -> list[GivenTag]:
    """The tags that votes have given and that were not taken away again, by name."""
    found: dict[tuple[str, str], str] = {}
    for vote in votes:
        found |= {(name, vote.source): value for name, value in vote.tags.items()}
    tags = (GivenTag(name=name, value=value, source=source) for (name, source), value in found.items() if value)
    return sorted(tags, key=lambda tag: (tag.name, tag.source))


def votes_for(record_id: str, source: str, now: Said, wanted: Said) -> list[Vote]:
    """The votes after which `source` says what is `wanted`, where it says `now`; none where that is the same."""
    says: list[dict[str, Any]] = []
    gone = (now.thumb is not None and wanted.thumb is None) or (
        now.correction is not None and wanted.correction is None
    )
    if gone:
        says.append({"feedback": None})  # takes back all that it has said
        now = Said(tags=now.tags)
    fresh: dict[str, Any] = {}
    if wanted.thumb is not None and wanted.thumb != now.thumb:
        fresh["feedback"] = wanted.thumb
    if wanted.correction is not None and wanted.correction != now.correction:
        fresh["correction"] = wanted.correction
    if wanted.comment != now.comment or (wanted.comment is not None and "feedback" in fresh):
        fresh["comment"] = wanted.comment or ""
    if fresh:
        says.append(fresh)
    tags = {name: wanted.tags.get(name, "") for name in {**now.tags, **wanted.tags}}
    tags = {name: value for name, value in sorted(tags.items()) if value != now.tags.get(name, "")}
    if tags and not says:
        says.append({})
    votes = [Vote(record_id=record_id, says=one, source=source) for one in says]
    return [*votes[:-1], replace(votes[-1], tags=tags)] if votes else []
