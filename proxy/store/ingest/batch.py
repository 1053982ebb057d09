"""How a batch gets in: one transaction, from top to bottom.

The spool's position moves first and locks out another reader of the same spool; then come records and bodies, votes
that find their record (new ones, and parked ones whose record has just come), and last the sums that others update
too. A batch, a record or a vote that was applied before changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.store.engine.database import Database
from proxy.store.engine.dialect import Columns, insert_all, insert_new, known
from proxy.store.engine.kept import KeptStatement
from proxy.store.engine.refusals import StoreAwayError
from proxy.store.ingest import conversations, external, judgements, namesakes, signals, statistics, votes
from proxy.store.ingest.answers import insert_answers
from proxy.store.ingest.beside import alias_columns, alias_hashes, score_rows
from proxy.store.ingest.bodies import Block, BodyCodec
from proxy.store.ingest.deltas import Arrival, Placed, counted
from proxy.store.ingest.facts import RecordFacts, Recount, Rejudged, Signalled, flags_of
from proxy.store.ingest.fetched import keep_fetched
from proxy.store.ingest.parked import forget_parked
from proxy.store.ingest.spools import advance
from proxy.store.ingest.tags import names_of
from proxy.store.tables import partitions
from proxy.store.tables.columns import columns_to_insert
from proxy.store.tables.keys import BLOCK_RECORDS, NO_ID, alias_hash, day_of, id_time_us
from proxy.store.tables.schema import aliases, bodies, deleted_users, records, scores
from proxy.store.tables.values import Applied, BodyPayload, IngestBatch, NewAnswer, NewRecord, NewVote, RecordFlag

__all__ = ["Ingest", "UnconfirmedError"]


_MANY: Final = 100
"""Records for which a statement is worth making."""
_DELETED: Final = KeptStatement(
    lambda given: sa.select(deleted_users.c.user_hash, deleted_users.c.at_us).where(
        given.among("users", deleted_users.c.user_hash)
    )
)
_TAKEN: Final = KeptStatement(
    lambda given: sa.select(bodies.c.block).where(
        given.among("keys", bodies.c.block),
        bodies.c.block.between(given.value("first", bodies.c.block), given.value("last", bodies.c.block)),
    )
)
"""With the range, which says in which of PostgreSQL's partitions they are."""
_id_of, _user_of = attrgetter("id"), attrgetter("user_hash")


class UnconfirmedError(StoreAwayError):
    """Whether the batch was committed is not known; if the database's position is behind it, `applied` happened."""

    def __init__(self, cause: StoreAwayError, applied: Applied) -> None:
        super().__init__(cause.sentence, cause.kind)
        self.applied = applied


class Ingest:
    """The way in for records and votes. One per store: it knows which parked votes it has looked at."""

    def __init__(self, db: Database, codec: BodyCodec) -> None:
        self._db = db
        self._codec = codec
        self._parked_after = NO_ID
        """Votes up to here have been asked about."""

    def forget(self) -> None:
        """The database is not the one it was: begin anew with the parked votes."""
        self._parked_after = NO_ID

    async def apply(self, batch: IngestBatch) -> Applied:
        """Write a batch and the spool position behind it in one transaction; one applied before changes nothing. A
        batch without a writer comes from no spool.

        Raises PositionError where the batch begins somewhere else than where the database stands: nothing is stored;
        UnconfirmedError where the connection was lost while it was committed: the position tells whether it was.
        """
        incoming = sorted({record.id: record for record in batch.records}.values(), key=lambda record: record.id)
        await partitions.ensure(self._db, (day_of(record.id) for record in incoming))
        await self._codec.prepare((record.user_hash, record.body) for record in incoming if record.body is not None)
        blocks = await self._codec.encode(_bodies(incoming))
        applied: Applied | None = None

        async def apply(connection: AsyncConnection) -> Applied:
            nonlocal applied
            await self._codec.check(connection)
            if batch.writer and not await advance(connection, batch, int(self._db.clock.now() * 1e6)):
                return Applied(duplicates=len(batch.records) + len(batch.votes))
            applied = await _apply(connection, self._codec, batch, incoming, blocks)
            return applied

        try:
            return await self._db.transact(apply)
        except StoreAwayError as exc:
            if applied is not None:
                raise UnconfirmedError(exc, applied) from exc
            raise

    async def join_parked(self, limit: int = 500) -> Applied:
        """Join votes whose record came in meanwhile by another replica; returns what that changed.

        Call it now and then: it looks at `limit` of the votes that wait, and goes on where the last call has stopped.
        """
        async with self._db.read() as connection:
            parked = await votes.find_arrived(connection, self._parked_after, limit)
        voted = votes.Voted()
        if parked.arrived:
            async with self._db.write() as connection:
                await conversations.hold(connection)
                await external.hold(connection, parked.adopted.values())
                voted = await votes.join_arrived(connection, parked)
                moved = await conversations.moved(connection, (), voted.whole)
                await _count(connection, (), voted.recounts, moved=moved)
        self._parked_after = parked.last or NO_ID
        return Applied(joined=voted.joined, ambiguous=voted.ambiguous)

    async def judged(self, scores: Mapping[str, float | None]) -> int:
        """Give records, by id, the judge's score (0 to 1; None: it has none any more), in one transaction with the
        statistics of their experiments; returns for how many that was another one than before. Records that are gone
        are left out, so it is safe to do twice. Raises ValueError for what is no score."""
        judgements.refuse_unless_scores(scores)
        async with self._db.write() as connection:
            changed = await judgements.keep(connection, scores)
            await _count(connection, (), (), changed)
        return len(changed)

    async def ambiguous(self, aliases: Sequence[str]) -> frozenset[str]:
        """Those of the aliases that several people's records have: a vote by one is for none of them."""
        hashes = {alias_hash(name): name for name in aliases}
        async with self._db.read() as connection:
            found = await namesakes.find(connection, hashes)
        return frozenset(hashes[hashed] for hashed in found.ambiguous)


async def _apply(
    connection: AsyncConnection, codec: BodyCodec, batch: IngestBatch, incoming: list[NewRecord], blocks: list[Block]
) -> Applied:
    """In the transaction: everything but the position."""
    unknown = await _unknown(connection, incoming)
    wanted = await _without_deleted_users(connection, unknown)
    if len(wanted) < len(incoming):
        blocks = await codec.encode(_bodies(wanted))
    flags = list(map(flags_of, wanted))
    await _insert(connection, wanted, flags, await _insert_bodies(connection, blocks))
    answers = await _answers_kept(connection, batch.answers)
    await insert_answers(connection, answers)

    await keep_fetched(connection, batch.fetched_from, batch.fetched)
    incoming_votes = await _votes_kept(connection, batch.votes)
    externals = [vote.external for vote in incoming_votes if vote.external is not None]
    tested = [record for record in wanted if record.experiment_id is not None]
    if tested or any(vote.whole for vote in incoming_votes):
        await conversations.hold(connection)
    await external.hold(connection, externals)
    voted = await votes.add(connection, incoming_votes, wanted)
    signalled = await signals.revealed(connection, tested)
    moved = await conversations.moved(connection, tested, voted.whole)
    if len(wanted) < len(unknown):
        kept = {record.id for record in wanted}
        refused = [record for record in unknown if record.id not in kept]
        await forget_parked(
            connection, refused, [hashed for r in refused for hashed in (alias_hash(r.id), *alias_hashes(r))]
        )
    arrivals = list(zip(wanted, flags, strict=True))
    await _count(connection, arrivals, voted.recounts, signalled=signalled, moved=moved)
    return Applied(
        records=tuple(wanted),
        votes=voted.new,
        joined=voted.joined,
        parked=voted.parked,
        ambiguous=voted.ambiguous,
        duplicates=len(batch.records) - len(unknown) + len(batch.votes) - len(voted.new),
        deleted=len(unknown) - len(wanted) + len(batch.answers) - len(answers),
    )


async def _unknown(connection: AsyncConnection, incoming: Sequence[NewRecord]) -> list[NewRecord]:
    if not incoming:
        return []
    stored = await known(connection, records.c.id, [record.id for record in incoming])
    return [record for record in incoming if record.id not in stored] if stored else list(incoming)


async def _without_deleted_users(connection: AsyncConnection, new: list[NewRecord]) -> list[NewRecord]:
    """Leave out what a user said before they were deleted: it was still in a spool at that time."""
    gone = await _gone(connection, map(_user_of, new))
    if not gone:
        return new
    return [r for r in new if r.user_hash not in gone or id_time_us(r.id) > gone[r.user_hash]]


async def _answers_kept(connection: AsyncConnection, answers: Sequence[NewAnswer]) -> list[NewAnswer]:
    """The same of answers to copies of requests."""
    gone = await _gone(connection, (answer.user_hash for answer in answers))
    return [a for a in answers if a.user_hash not in gone or id_time_us(a.record_id) > gone[a.user_hash]]


async def _votes_kept(connection: AsyncConnection, votes: Sequence[NewVote]) -> Sequence[NewVote]:
    """The same of votes that name no record, but their user."""
    gone = await _gone(connection, (vote.user_hash for vote in votes))
    return [v for v in votes if v.user_hash not in gone or id_time_us(v.fid) > gone[v.user_hash]] if gone else votes


async def _gone(connection: AsyncConnection, users: Iterable[int | None]) -> dict[int | None, int]:
    """Those of the users who were deleted, and when."""
    named = set(users)
    named.discard(None)
    if not named:
        return {}
    return dict(await _DELETED.rows(connection, users=list(named)))


def _bodies(of: Sequence[NewRecord]) -> list[tuple[str, BodyPayload]]:
    return [(record.id, record.body) for record in of if record.body is not None]


async def _insert_bodies(connection: AsyncConnection, blocks: Sequence[Block]) -> dict[str, int]:
    """Insert the blocks, each under the next free key; returns where each record's body is."""
    if not blocks:
        return {}
    keys = [block.key for block in blocks]
    while taken := await _taken(connection, keys):
        for i, key in enumerate(keys):
            keys[i] = max(key + BLOCK_RECORDS * (key in taken), keys[i - 1] + BLOCK_RECORDS if i else 0)
    rows = [
        {"block": key, "dictionary_id": block.dictionary_id, "n": len(block.ids), "data": block.data}
        for key, block in zip(keys, blocks, strict=True)
    ]
    await insert_all(connection, bodies, rows)
    return {
        record_id: key + place
        for key, block in zip(keys, blocks, strict=True)
        for place, record_id in enumerate(block.ids)
    }


async def _taken(connection: AsyncConnection, keys: Sequence[int]) -> set[int]:
    return {row[0] for row in await _TAKEN.rows(connection, keys=keys, first=keys[0], last=keys[-1])}


async def _insert(
    connection: AsyncConnection,
    new: Sequence[NewRecord],
    flags: Sequence[RecordFlag],
    places: Mapping[str, int],
) -> None:
    columns = columns_to_insert(new, flags, list(map(places.get, map(_id_of, new))))
    await insert_all(connection, records, _without_empty(columns))
    await insert_new(connection, aliases, alias_columns(new))
    await insert_new(connection, scores, score_rows(new))


def _without_empty(columns: Columns) -> Columns:
    """Those that have a value in any row: Python's driver of SQLite takes as long for a NULL as for three numbers, and
    of most records a third of the columns are. Of few rows all: each set of columns is a statement of its own."""
    if not columns or len(columns["id"]) < _MANY:
        return columns
    return {
        name: values for name, values in columns.items() if values[0] is not None or values.count(None) < len(values)
    }


async def _count(
    connection: AsyncConnection,
    arrivals: Sequence[Arrival],
    recounts: Sequence[Recount],
    judged: Sequence[Rejudged] = (),
    *,
    signalled: Sequence[Signalled] = (),
    moved: Sequence[Placed] = (),
) -> None:
    """The sums, which others update too: last, so that their rows are locked for a moment only."""
    tested = [record for record, _ in arrivals if record.experiment_id is not None]
    counting = [RecordFacts.of(record) for record in tested if record.tags]
    counting += [shown.record for shown in signalled]
    counting += [vote.record for vote in moved]
    counting += [change.record for change in recounts]
    counting += [one.record for one in judged]
    met = {record.experiment_id for record in tested} | {facts.experiment_id for facts in counting}
    terms = await statistics.terms_of(connection, (known for known in met if known is not None))
    names = await names_of(connection, counting)
    deltas = counted(arrivals, recounts, terms, judged, names, signalled=signalled, moved=moved)
    await statistics.count_users(connection, deltas, terms)
    await deltas.write(connection)
