"""Votes: kept as they came, counted once, joined to their record in whichever order the two arrive.

Every vote is a row. What counts for a record follows from all its rows (`VoteSummary`), so a change is the difference
between the summary of the rows joined before and the summary of all: the same for a new vote, a changed one, a
retraction, and votes that waited for their record.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from policies.ballots import BallotTrust
from policies.kinds import TASK
from proxy.store.engine.dialect import any_of, insert_new
from proxy.store.engine.kept import KeptStatement
from proxy.store.ingest import external, namesakes, words
from proxy.store.ingest.facts import RecordFacts, Recount
from proxy.store.ingest.recounts import lock_records, recount, scores_of, votes_on, write_recounts
from proxy.store.tables.keys import alias_hash, day_of, id_time_us
from proxy.store.tables.partitions import DAYS_AT_ONCE
from proxy.store.tables.schema import feedback, records
from proxy.store.tables.values import JoinedVote, NewRecord, NewVote

__all__ = ["Parked", "Voted", "Whole", "add", "find_arrived", "join_arrived"]

_PARKED: Final = feedback.c.joined.is_(sa.false())
_SOME_PARKED: Final = KeptStatement(lambda _: sa.select(feedback.c.fid).where(_PARKED).limit(1))
_STORED: Final = KeptStatement(lambda given: sa.select(feedback.c.fid).where(given.among("fids", feedback.c.fid)))
_JOINED: Final = KeptStatement(
    lambda given: sa.update(feedback).where(given.among("fids", feedback.c.fid)).values(joined=True)
)


class Whole(NamedTuple):
    """A vote on a whole conversation."""

    fid: str
    record_id: str | None
    """A record of the conversation, which is there; None where the vote names user and conversation."""
    user_hash: int | None
    conversation: int | None
    feedback: int | None
    retracted: bool
    trust: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Voted:
    """What became of a batch's votes."""

    new: tuple[NewVote, ...] = ()
    joined: tuple[JoinedVote, ...] = ()
    parked: int = 0
    ambiguous: int = 0
    recounts: tuple[Recount, ...] = ()
    """What changed for the records that they are on: to be counted (`deltas.counted`)."""
    whole: tuple[Whole, ...] = ()
    """Those on whole conversations: see `conversations.moved`."""


async def add(
    connection: AsyncConnection,
    incoming: Sequence[NewVote],
    new_records: Sequence[NewRecord],
) -> Voted:
    """Keep the new votes, and join them and the parked ones that were waiting for `new_records`."""
    waiting, in_vain = await _waiting_for(connection, new_records)
    fresh = await _insert(connection, incoming)
    targets = waiting | fresh.adopted.records | {target for target in fresh.targets.values() if target is not None}
    recounts, joined, whole = await _join(connection, targets, new_records)
    found = {change.record.id for change in recounts}
    alone = [vote for vote in fresh.votes if _names_no_record(vote)]
    await words.erase_of_talks(connection, [*alone, *fresh.adopted.alone])
    waiting = fresh.targets.keys() - fresh.ambiguous - {vote.fid for vote in alone}
    parked = sum(fresh.targets[fid] not in found for fid in waiting)
    sent = {vote.fid for vote in incoming}
    return Voted(
        new=tuple(vote for vote in fresh.votes if vote.fid in sent),
        joined=joined,
        parked=parked,
        ambiguous=in_vain + len(fresh.ambiguous),
        recounts=recounts,
        whole=(*whole, *map(_whole, [*alone, *fresh.adopted.alone])),
    )


def _names_no_record(vote: NewVote) -> bool:
    """It is about a conversation that it names itself, so that it waits for no record."""
    return vote.whole and vote.record_id is None and vote.alias_hash is None


def _whole(vote: Any) -> Whole:
    """From a new vote, or a row of `feedback`."""
    return Whole(*(getattr(vote, name) for name in Whole._fields))


@dataclass(frozen=True, slots=True, kw_only=True)
class Parked:
    """Some of the parked votes: those whose record is there by now, and where to go on."""

    named: Mapping[str, str]
    """Record by vote, of votes that name it."""
    resolved: Mapping[str, str]
    """Record by vote, of votes that know it by an alias."""
    adopted: Mapping[str, int]
    """External id by vote, of votes that name nothing else and whose vote is there."""
    ambiguous: tuple[str, ...]
    """Votes whose alias has turned out to be several people's."""
    last: str | None
    """The last vote that was looked at; None behind the end."""

    @property
    def arrived(self) -> bool:
        """Whether there is anything to write."""
        return bool(self.named or self.resolved or self.adopted or self.ambiguous)


async def find_arrived(connection: AsyncConnection, after: str, limit: int) -> Parked:
    """Look at the next parked votes behind the vote `after`. Most of them may never find a record (it was lost, or
    forgotten), so they are asked about by key, a few at a time: a join would read all records."""
    columns = [feedback.c[name] for name in ("fid", "record_id", "alias_hash", "trust", "external")]
    query = sa.select(*columns).where(_PARKED, feedback.c.fid > after)
    rows = (await connection.execute(query.order_by(feedback.c.fid).limit(limit))).all()
    weeks: defaultdict[int, set[str]] = defaultdict(set)
    for row in rows:
        if row.record_id is not None:
            weeks[day_of(row.record_id) // DAYS_AT_ONCE].add(row.record_id)
    there = {found for ids in weeks.values() for found in await _existing(connection, sorted(ids))}
    open_ones = (row for row in rows if row.record_id is None and row.trust < BallotTrust.AMBIGUOUS)
    aliased = {row.fid: row.alias_hash for row in open_ones if row.alias_hash is not None}
    known = await namesakes.find(connection, aliased.values())
    nameless = {row.fid: row.external for row in rows if row.record_id is None and row.alias_hash is None}
    stated = await external.find(connection, (key for key in nameless.values() if key is not None))
    return Parked(
        named={row.fid: row.record_id for row in rows if row.record_id in there},
        resolved={fid: known.records[hashed] for fid, hashed in aliased.items() if hashed in known.records},
        adopted={fid: key for fid, key in nameless.items() if key in stated},
        ambiguous=tuple(fid for fid, hashed in aliased.items() if hashed in known.ambiguous),
        last=rows[-1].fid if len(rows) == limit else None,
    )


async def join_arrived(connection: AsyncConnection, parked: Parked) -> Voted:
    """Join them with their records."""
    await _resolve(connection, parked.resolved)
    await _leave(connection, parked.ambiguous)
    stated = await external.find(connection, parked.adopted.values())
    adopted = await external.adopt(connection, parked.adopted, stated)
    targets = {*parked.named.values(), *parked.resolved.values(), *adopted.records}
    recounts, joined, whole = await _join(connection, targets, ())
    whole += tuple(map(_whole, adopted.alone))
    await words.erase_of_talks(connection, adopted.alone)
    return Voted(joined=joined, recounts=recounts, ambiguous=len(parked.ambiguous), whole=whole)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fresh:
    """The votes of a batch that are new, and what they bring with them."""

    votes: Sequence[NewVote] = ()
    """Where one named nothing but an external id, it names what the vote under that is on, if that is here."""
    targets: Mapping[str, str | None] = field(default_factory=dict)
    """The record that each is for; None where it is not known."""
    ambiguous: frozenset[str] = frozenset()
    """Those that named it by what is several people's."""
    adopted: external.Adopted = external.NONE_ADOPTED
    """Parked votes that have waited for one of these."""


async def _insert(connection: AsyncConnection, incoming: Sequence[NewVote]) -> _Fresh:
    """Keep the votes that are new."""
    if not incoming:
        return _Fresh()
    votes = {vote.fid: vote for vote in incoming}
    known = {row[0] for row in await _STORED.rows(connection, fids=list(votes))}
    fresh, stored = await external.placed(connection, [vote for fid, vote in votes.items() if fid not in known])
    hashes = {vote.fid: vote.alias_hash for vote in fresh if vote.alias_hash is not None}
    lists = namesakes.lists_of(fresh)
    meant = await namesakes.find(connection, hashes.values(), lists)
    meant = await _with_own_ids(connection, fresh, meant)
    open_lists = {hashed: names for hashed, names in lists.items() if hashed not in meant.records}
    await namesakes.keep_lists(connection, open_lists, max((id_time_us(vote.fid) for vote in fresh), default=0))
    ambiguous = frozenset(fid for fid, hashed in hashes.items() if hashed in meant.ambiguous)
    found = {fid: meant.records[hashed] for fid, hashed in hashes.items() if hashed in meant.records}
    targets = {vote.fid: vote.record_id or found.get(vote.fid) for vote in fresh}
    for vote in (*external.moved(fresh, targets, stored), *await external.late(connection, fresh, targets, stored)):
        fresh.append(vote)
        targets[vote.fid] = vote.record_id
    rows = []
    for vote in fresh:
        trust = vote.trust | BallotTrust.AMBIGUOUS if vote.fid in ambiguous else vote.trust
        rows.append(_row(vote, targets[vote.fid], vote.alias_hash, trust))
    await insert_new(connection, feedback, rows)
    adopted = await _adopt(connection, fresh)
    return _Fresh(votes=fresh, targets=targets, ambiguous=ambiguous, adopted=adopted)


async def _with_own_ids(
    connection: AsyncConnection, votes: Sequence[NewVote], meant: namesakes.Namesakes
) -> namesakes.Namesakes:
    """The same where a name that is nobody's alias is the own id of a record: who takes the traces that Ratchet exports
    has no other."""
    given = {vote.alias_hash: vote.own_id for vote in votes if vote.own_id is not None}
    weeks: defaultdict[int, set[str]] = defaultdict(set)
    for hashed, own_id in given.items():
        if hashed not in meant.records and hashed not in meant.ambiguous:
            weeks[day_of(own_id) // DAYS_AT_ONCE].add(own_id)
    there = {found for ids in weeks.values() for found in await _existing(connection, sorted(ids))}
    own = {hashed: own_id for hashed, own_id in given.items() if hashed is not None and own_id in there}
    return replace(meant, records={**own, **meant.records}) if own else meant


async def _adopt(connection: AsyncConnection, fresh: Sequence[NewVote]) -> external.Adopted:
    """Changes that have waited for one of these votes are on what it is on."""
    named = (vote for vote in fresh if not vote.follows)
    waiting = await external.waiting(connection, (vote.external for vote in named if vote.external is not None))
    return await external.adopt(connection, waiting, await external.find(connection, waiting.values()))


async def _waiting_for(connection: AsyncConnection, new_records: Sequence[NewRecord]) -> tuple[set[str], int]:
    """The records that parked votes have waited for, and how many of these votes wait in vain: their alias has turned
    out to be several people's."""
    if not new_records or not await _SOME_PARKED.rows(connection):
        return set(), 0
    ids = [record.id for record in new_records]
    found = set(
        await connection.scalars(
            sa.select(feedback.c.record_id).where(_PARKED, any_of(connection, feedback.c.record_id, ids))
        )
    )
    answers = [record for record in new_records if record.kind != TASK.name]
    hashes = {alias_hash(name) for record in answers for name in record.aliases}
    own = {alias_hash(record.id): record.id for record in new_records}
    resolved, ambiguous = await _known_by_now(connection, hashes, own)
    await _resolve(connection, resolved)
    await _leave(connection, ambiguous)
    found.update(resolved.values())
    return {record_id for record_id in found if record_id is not None}, len(ambiguous)


async def _known_by_now(
    connection: AsyncConnection, hashes: set[int], own: Mapping[int, str]
) -> tuple[dict[str, str], list[str]]:
    """Of parked votes by these aliases, or by the `own` ids of new records: the records of those that mean one, and
    those that mean several people's."""
    hashes = hashes | own.keys()
    if not hashes:
        return {}, []
    lists = await namesakes.lists_with(connection, sorted(hashes))
    own = {**own, **{hashed: own[name] for hashed, names in lists.items() for name in names if name in own}}
    hashes |= lists.keys()
    query = sa.select(feedback.c.fid, feedback.c.alias_hash).where(
        _PARKED,
        feedback.c.record_id.is_(None),
        feedback.c.trust < int(BallotTrust.AMBIGUOUS),
        any_of(connection, feedback.c.alias_hash, list(hashes)),
    )
    waiting = {row.fid: row.alias_hash for row in await connection.execute(query)}
    known = await namesakes.find(connection, waiting.values())
    meant = {**{hashed: own[hashed] for hashed in waiting.values() if hashed in own}, **known.records}
    resolved = {fid: meant[hashed] for fid, hashed in waiting.items() if hashed in meant}
    return resolved, [fid for fid, hashed in waiting.items() if hashed in known.ambiguous and fid not in resolved]


async def _existing(connection: AsyncConnection, ids: Sequence[str]) -> set[str]:
    """Those of the records, all of the same weeks, that exist."""
    wanted = any_of(connection, records.c.id, ids), records.c.id.between(ids[0], ids[-1])
    return set(await connection.scalars(sa.select(records.c.id).where(*wanted)))


async def _resolve(connection: AsyncConnection, targets: Mapping[str, str]) -> None:
    """Write down which record an alias turned out to mean."""
    if targets:
        statement = sa.update(feedback).where(feedback.c.fid == sa.bindparam("vote"))
        rows = [{"vote": fid, "target": record_id} for fid, record_id in targets.items()]
        await connection.execute(statement.values(record_id=sa.bindparam("target")), rows)


async def _leave(connection: AsyncConnection, votes: Sequence[str]) -> None:
    """Write down that their alias is several people's: they stay for none of them, whoever is deleted later."""
    if votes:
        mine = any_of(connection, feedback.c.fid, list(votes)), feedback.c.trust < int(BallotTrust.AMBIGUOUS)
        marked = {"trust": feedback.c.trust + int(BallotTrust.AMBIGUOUS)}
        await connection.execute(sa.update(feedback).where(*mine).values(marked))


async def _join(
    connection: AsyncConnection, targets: set[str], new: Sequence[NewRecord]
) -> tuple[tuple[Recount, ...], tuple[JoinedVote, ...], tuple[Whole, ...]]:
    """Take all votes on these records together; returns what changed for those that exist, the votes that are new, and
    those of them that are on whole conversations."""
    if not targets:
        return (), (), ()
    facts = {record.id: RecordFacts.of(record) for record in new if record.id in targets}
    facts |= await lock_records(connection, sorted(targets - facts.keys()))
    if not facts:
        return (), (), ()
    votes, kept = await votes_on(connection, list(facts)), await scores_of(connection, list(facts))
    recounts = tuple(recount(facts[key], votes[key], kept[key]) for key in sorted(facts))
    await write_recounts(connection, recounts)
    await words.erase(connection, votes.values())
    fresh = [vote for rows in votes.values() for vote in rows if not vote.joined]
    await _mark(connection, [vote.fid for vote in fresh])
    whole = tuple(_whole(vote) for vote in fresh if vote.whole)
    return recounts, tuple(_joined(vote, facts[vote.record_id]) for vote in fresh if not vote.whole), whole


def _joined(vote: Any, record: RecordFacts) -> JoinedVote:
    said = vote.feedback is None or bool(vote.trust & BallotTrust.THUMB)
    return JoinedVote(feedback=vote.feedback, retracted=vote.retracted, counts=said and record.votable)


async def _mark(connection: AsyncConnection, counted: list[str]) -> None:
    """Those that were counted, and no others: another host may have parked one for the same record meanwhile."""
    if counted:
        await _JOINED.changed(connection, fids=counted)


def _row(vote: NewVote, target: str | None, hashed: int | None, trust: BallotTrust) -> dict[str, Any]:
    return {
        "fid": vote.fid,
        "record_id": target,
        "alias_hash": hashed,
        "created_us": vote.created_us,
        "feedback": vote.feedback,
        "retracted": vote.retracted,
        "joined": _names_no_record(vote),
        "quality_score": vote.quality_score,
        "source": vote.source,
        "comment": vote.comment,
        "correction": vote.correction,
        "tags": dict(vote.tags) or None,
        "trust": int(trust),
        "whole": vote.whole,
        "conversation": vote.conversation,
        "user_hash": vote.user_hash if _names_no_record(vote) else None,
        "copied": vote.copied,
        "external": vote.external,
        "amends": vote.amends,
    }
