"""Votes that their system knows by an id of its own: changed, moved and taken back by it.

Whoever takes such votes has no database, so a change comes as a vote that names nothing but that id. Here it gets what
the vote under the id is on; where that is not here yet, it waits for it. Which of them counts is worked out later from
all rows of a record (`VoteSummary`), so that they may come in any order. That does not see other records: where the
same id comes again for another one, the vote on the first is taken back there by a row of our own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any, Final, NamedTuple, Self

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from policies.ballots import FULL_TRUST, BallotTrust
from proxy.store.engine.dialect import any_of
from proxy.store.tables.schema import feedback
from proxy.store.tables.values import NewVote

__all__ = ["NONE_ADOPTED", "Adopted", "Stated", "adopt", "find", "hold", "late", "moved", "placed", "waiting"]

_ADOPTED: Final = ("record_id", "alias_hash", "source", "whole", "conversation", "user_hash")
_EITHER: Final = ("feedback", "quality_score")
"""A change has both, as it does not know which of them its vote is; of the one that it is not nothing is kept."""
_PARKED: Final = feedback.c.joined.is_(sa.false())
_LOCK: Final = 7_161_903
"""Of PostgreSQL's advisory locks, with a second number: of that there are `_LOCKS`, for it has room for few thousand
locks, and one batch may have as many votes. All lock in one order."""
_LOCKS: Final = 64
_NAMELESS: Final = (feedback.c.record_id.is_(None), feedback.c.alias_hash.is_(None), feedback.c.whole.is_(sa.false()))


class Stated(NamedTuple):
    """What a vote under an external id is on, and who gave it."""

    fid: str
    record_id: str | None
    alias_hash: int | None
    source: str
    whole: bool
    conversation: int | None
    user_hash: int | None
    retracted: bool
    feedback: int | None
    quality_score: float | None

    @classmethod
    def of(cls, vote: Any) -> Self:
        """From a new vote, or a row of `feedback`."""
        return cls(*(getattr(vote, name) for name in cls._fields))

    @property
    def alone(self) -> bool:
        """It is about a conversation that it names itself."""
        return self.whole and self.record_id is None and self.alias_hash is None

    def elsewhere(self, other: Stated) -> bool:
        """Whether the two are on different answers, as far as that is known."""
        if self.whole or other.whole:
            return False
        if None not in (self.record_id, other.record_id):
            return self.record_id != other.record_id
        return self.alias_hash != other.alias_hash


class Adopted(NamedTuple):
    """Parked votes of which it is known by now what they are on."""

    records: frozenset[str] = frozenset()
    """Those that they are on."""
    alone: Sequence[Any] = ()
    """Rows of those that are on conversations without a record."""


NONE_ADOPTED: Final = Adopted()


async def hold(connection: AsyncConnection, externals: Iterable[int]) -> None:
    """Until the end of the transaction nobody else stores votes under these ids. What two hosts store at once would
    otherwise not see each other, and stand on two answers."""
    wanted = sorted({external % _LOCKS for external in externals})
    if wanted and connection.dialect.name == "postgresql":
        locks = ", ".join(f"pg_advisory_xact_lock({_LOCK}, {n})" for n in wanted)
        await connection.execute(sa.text(f"SELECT {locks}"))


async def placed(
    connection: AsyncConnection, votes: Sequence[NewVote]
) -> tuple[list[NewVote], Mapping[int, Sequence[Stated]]]:
    """New votes, where those that name nothing have what theirs is on, if it is known; and what was stored before under
    their ids."""
    externals = {vote.external for vote in votes if vote.external is not None}
    if not externals:
        return list(votes), {}
    stored = await _said(connection, externals)
    said = defaultdict(list, {key: list(before) for key, before in stored.items()})
    for vote in votes:
        if vote.external is not None and not vote.follows:
            said[vote.external].append(Stated.of(vote))
    newest = _newest(said)
    return [_placed(vote, newest) if vote.follows else vote for vote in votes], stored


def moved(
    votes: Sequence[NewVote], targets: Mapping[str, str | None], stored: Mapping[int, Sequence[Stated]]
) -> list[NewVote]:
    """What takes votes back where they were, as the same ids have come for other answers; each just before the newest
    vote under its id. `targets` are the records that the new ones are on, as far as they are known."""
    said = defaultdict(list, {key: list(before) for key, before in stored.items()})
    created: dict[int, int] = {}
    for vote in votes:
        if vote.external is not None and not vote.amends:
            said[vote.external].append(Stated.of(vote)._replace(record_id=targets[vote.fid]))
            created[vote.external] = vote.created_us
    newest = _newest(said)
    return [
        NewVote(
            fid=fid,
            record_id=one.record_id,
            hashed_alias=one.alias_hash,
            source=one.source,
            retracted=True,
            created_us=at_us,
            external=key,
        )
        for key, at_us in created.items()
        if key in newest
        for one, fid in zip(_left(said[key], newest[key]), _just_before(newest[key], said[key]), strict=False)
    ]


async def late(
    connection: AsyncConnection,
    votes: Sequence[NewVote],
    targets: Mapping[str, str | None],
    stored: Mapping[int, Sequence[Stated]],
) -> list[NewVote]:
    """What changed or took back the new votes and was here before them, when their ids were known for another answer:
    it stays there, where it says nothing any more, and is written down once more where it belongs."""
    new = {
        vote.external: Stated.of(vote)._replace(record_id=targets[vote.fid])
        for vote in sorted(votes, key=lambda vote: vote.fid)  # of several under one id the newest
        if vote.external is not None and not (vote.amends or vote.retracted or vote.follows)
    }
    said = {key: [*stored[key], one] for key, one in new.items() if key in stored}
    newest = {key: one for key, one in _newest(said).items() if one.fid == new[key].fid and not one.whole}
    if not newest:
        return []
    rows = await connection.execute(
        sa.select(feedback).where(
            any_of(connection, feedback.c.external, sorted(newest)),
            feedback.c.fid > min(one.fid for one in newest.values()),
        )
    )
    found = [row for row in rows if row.fid > newest[row.external].fid and (row.record_id or row.alias_hash)]
    again = {_next(row.fid) for row in found} - {row.fid for row in found}
    return [
        _again(row, newest[row.external])
        for row in found
        if _next(row.fid) in again and Stated.of(row).elsewhere(newest[row.external])
    ]


async def find(connection: AsyncConnection, externals: Iterable[int]) -> dict[int, Stated]:
    """The newest vote under each id that names something, where there is one."""
    wanted = set(externals)
    return _newest(await _said(connection, wanted)) if wanted else {}


async def waiting(connection: AsyncConnection, externals: Iterable[int]) -> dict[str, int]:
    """Parked votes that name nothing but one of these ids, with it."""
    wanted = sorted(set(externals))
    if not wanted:
        return {}
    query = sa.select(feedback.c.fid, feedback.c.external).where(
        any_of(connection, feedback.c.external, wanted), _PARKED, *_NAMELESS
    )
    return {row.fid: row.external for row in await connection.execute(query)}


async def adopt(connection: AsyncConnection, votes: Mapping[str, int], stated: Mapping[int, Stated]) -> Adopted:
    """Write down for parked votes, with their ids, what theirs is on."""
    found = {fid: stated[external] for fid, external in votes.items() if external in stated}
    if not found:
        return NONE_ADOPTED
    statement = sa.update(feedback).where(feedback.c.fid == sa.bindparam("vote"))
    values: dict[str, Any] = {name: sa.bindparam(f"new_{name}") for name in (*_ADOPTED, "joined")}
    for name in _EITHER:
        said = sa.bindparam(f"has_{name}", type_=sa.Boolean)
        values[name] = sa.case((said, feedback.c[name]), else_=None)
    rows = [
        {
            "vote": fid,
            "new_joined": place.alone,
            **{f"new_{name}": getattr(place, name) for name in _ADOPTED},
            **{f"has_{name}": getattr(place, name) is not None for name in _EITHER},
        }
        for fid, place in found.items()
    ]
    await connection.execute(statement.values(values), rows)
    alone = [fid for fid, place in found.items() if place.alone]
    query = sa.select(feedback).where(any_of(connection, feedback.c.fid, alone))
    return Adopted(
        records=frozenset(place.record_id for place in found.values() if place.record_id is not None),
        alone=(await connection.execute(query)).all() if alone else (),
    )


async def _said(connection: AsyncConnection, externals: set[int]) -> defaultdict[int, list[Stated]]:
    """All that is stored under these ids and names something; what changes others does not count as that."""
    columns = [feedback.c[name] for name in Stated._fields]
    mine = any_of(connection, feedback.c.external, sorted(externals)), feedback.c.amends.is_(sa.false())
    said: defaultdict[int, list[Stated]] = defaultdict(list)
    for row in await connection.execute(sa.select(*columns, feedback.c.external).where(*mine)):
        said[row.external].append(Stated.of(row))
    return said


def _next(fid: str) -> str:
    return f"{int(fid, 16) + 1:032x}"


def _again(row: Any, place: Stated) -> NewVote:
    """The change or removal that is stored, on another answer."""
    return NewVote(
        fid=_next(row.fid),
        record_id=place.record_id,
        hashed_alias=place.alias_hash,
        source=place.source,
        feedback=None if place.feedback is None else row.feedback,
        quality_score=None if place.quality_score is None else row.quality_score,
        correction=row.correction,
        comment=row.comment,
        retracted=row.retracted,
        trust=BallotTrust(row.trust & FULL_TRUST),
        created_us=row.created_us,
        external=row.external,
        amends=row.amends,
    )


def _newest(said: Mapping[int, Sequence[Stated]]) -> dict[int, Stated]:
    given = {key: [one for one in votes if not one.retracted] for key, votes in said.items()}
    return {key: max(votes, key=lambda one: one.fid) for key, votes in given.items() if votes}


def _placed(vote: NewVote, newest: Mapping[int, Stated]) -> NewVote:
    place = None if vote.external is None else newest.get(vote.external)
    if place is None:
        return vote
    return replace(
        vote,
        record_id=place.record_id,
        hashed_alias=place.alias_hash,
        source=place.source,
        whole=place.whole,
        conversation=place.conversation,
        user_hash=place.user_hash,
        feedback=None if place.feedback is None else vote.feedback,
        quality_score=None if place.quality_score is None else vote.quality_score,
    )


def _just_before(newest: Stated, said: Sequence[Stated]) -> Iterator[str]:
    """Ids for what goes before the newest vote, each free: earlier votes that were left may have got the last ones."""
    taken = {one.fid for one in said}
    ids = (f"{int(newest.fid, 16) - n:032x}" for n in count(1))
    return (fid for fid in ids if fid not in taken)


def _left(said: Sequence[Stated], newest: Stated) -> list[Stated]:
    """Of votes under one id those that still stand on other answers than the newest one's."""
    last: dict[tuple[str | None, int | None], Stated] = {}
    for one in sorted(said, key=lambda one: one.fid):
        last[one.record_id, None if one.record_id else one.alias_hash] = one
    return [one for one in last.values() if not one.retracted and one.elsewhere(newest)]
