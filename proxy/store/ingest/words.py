"""What of people's comments stands: a vote that is taken back takes its comment with it, and a later one replaces it.

Of what nobody knows by an id of its own, a voter has one comment on an answer: another comment replaces it, another
thumb ends it (who changes their mind has not said that of the new one), and so does taking the vote back. Under an
external id each vote has a comment of its own, which goes when the vote under that id is replaced or taken back. An
empty comment takes the one before it back.

Once a comment does not stand, no vote that comes later makes it stand again, whatever its place in the order; hence its
text is erased, and the row stays. What is stored since before that was done is left out when it is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from policies.ballots import BallotTrust
from proxy.store.engine.dialect import any_of
from proxy.store.tables.schema import feedback

__all__ = ["erase", "erase_of_talks", "hidden"]

_Slot = tuple[bool, object]
"""On the whole conversation or not; and the external id, or the voter."""


@dataclass(slots=True)
class _Comments:
    """What is found while the votes are walked, oldest first."""

    standing: dict[_Slot, str] = field(default_factory=dict)
    """The vote of each that has the comment."""
    voters: dict[_Slot, object] = field(default_factory=dict)
    thumbs: dict[_Slot, int] = field(default_factory=dict)
    known: set[int] = field(default_factory=set)
    """External ids under which a vote stands."""
    replaced: list[str] = field(default_factory=list)
    vain: list[str] = field(default_factory=list)
    """They change a vote that is not here, or was taken back."""

    def end(self, slot: _Slot) -> None:
        if (fid := self.standing.pop(slot, None)) is not None:
            self.replaced.append(fid)

    def end_all(self, whole: bool, voter: object) -> None:
        for slot in [slot for slot in self.standing if slot[0] == whole and self.voters[slot] == voter]:
            self.end(slot)

    def put(self, slot: _Slot, vote: Any, voter: object) -> None:
        if vote.comment is not None:
            self.end(slot)
            if vote.comment:
                self.standing[slot] = vote.fid
                self.voters[slot] = voter


def hidden(votes: Iterable[Any]) -> frozenset[str]:
    """Of rows of `feedback` on one answer those whose comment nobody is to read any more."""
    found = _walked(votes)
    return frozenset((*found.replaced, *found.vain))


async def erase(connection: AsyncConnection, groups: Iterable[Sequence[Any]]) -> None:
    """Erase the comments that do not stand any more; each group has all rows of `feedback` on one answer."""
    gone = [fid for votes in groups if any(vote.comment for vote in votes) for fid in _walked(votes).replaced]
    if gone:
        mine = any_of(connection, feedback.c.fid, gone)
        await connection.execute(sa.update(feedback).where(mine).values(comment=None))


async def erase_of_talks(connection: AsyncConnection, votes: Iterable[Any]) -> None:
    """The same for conversations that new votes name without a record."""
    for user, talk in sorted({(vote.user_hash, vote.conversation) for vote in votes if vote.user_hash is not None}):
        mine = feedback.c.user_hash == user, feedback.c.conversation == talk, feedback.c.record_id.is_(None)
        await erase(connection, [(await connection.execute(sa.select(feedback).where(*mine))).all()])


def _walked(votes: Iterable[Any]) -> _Comments:
    found = _Comments()
    for vote in sorted(votes, key=lambda row: str(row.fid)):
        voter = vote.source if int(vote.trust) & BallotTrust.TOKEN else None
        if vote.external is None:
            _by_voter(found, vote, voter)
        else:
            _by_id(found, vote, voter)
    return found


def _by_voter(found: _Comments, vote: Any, voter: object) -> None:
    slot = (bool(vote.whole), voter)
    if vote.retracted:
        found.end_all(slot[0], voter)
        found.thumbs.pop(slot, None)
    if vote.feedback is not None:
        if found.thumbs.get(slot, vote.feedback) != vote.feedback:
            found.end(slot)
        found.thumbs[slot] = vote.feedback
    found.put(slot, vote, voter)


def _by_id(found: _Comments, vote: Any, voter: object) -> None:
    slot = (bool(vote.whole), ("id", vote.external))
    if vote.amends:
        if vote.external in found.known:
            found.put(slot, vote, voter)
        elif vote.comment:
            found.vain.append(vote.fid)
        return
    found.end(slot)
    found.known.discard(vote.external)
    if not vote.retracted:
        found.known.add(vote.external)
        found.put(slot, vote, voter)
