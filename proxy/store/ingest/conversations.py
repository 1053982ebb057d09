"""Votes on whole conversations: of each user and conversation the last one, where the last of its answers counts.

`conversation_votes` has a row for each, and the row says where its vote counts now. It follows from two things: the
last vote (the greatest `fid`), and the user's answers in that conversation which are of experiments. Both may come in
any order, so that whatever comes, the row is worked out anew, and what its vote counted before is taken back.

A conversation with answers of two arms counts nowhere: it is `mixed`, and nobody can tell which arm the vote is for.
Only answers of the experiment of the last one are looked at: what was said before the test, both arms have alike.

What is known of a conversation and what is new say where its vote counts. Only where nothing is known yet, or another
experiment has begun, are its records read: no more than the latest of them, for a program may use one name for ever.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from policies.ballots import BallotTrust
from policies.kinds import TASK
from policies.records import Arm, Outcome
from proxy.store.engine.dialect import any_of, pairs, upsert
from proxy.store.engine.kept import KeptStatement
from proxy.store.ingest.chains import Talk, joined_up
from proxy.store.ingest.deltas import Placed
from proxy.store.ingest.facts import RecordFacts
from proxy.store.ingest.recounts import FACTS, facts_of_row
from proxy.store.ingest.votes import Whole
from proxy.store.tables.schema import conversation_votes, records
from proxy.store.tables.values import NewRecord, RecordFlag

__all__ = ["hold", "moved", "placed_record"]

_LATEST: Final = 2000
"""Records of one conversation that are read at most."""
_LOCK: Final = 7_161_902
"""Of PostgreSQL's advisory locks."""
_BEGUN: Final = tuple(int(outcome) for outcome in (Outcome.OK, Outcome.CLIENT_DISCONNECT, Outcome.TRUNCATED))
_ANY: Final = KeptStatement(lambda _: sa.select(conversation_votes.c.fid).limit(1))
_Vote = tuple[str, int | None]
"""When it was given, as its `fid` says, and 1, 0, -1 or None: taken back."""


async def hold(connection: AsyncConnection) -> None:
    """Until the end of the transaction nobody else stores records of experiments, or votes on conversations. What two
    hosts store at once would otherwise not see each other, and what belongs together would not be counted."""
    if connection.dialect.name == "postgresql":
        await connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({_LOCK})"))


async def moved(connection: AsyncConnection, new: Sequence[NewRecord], votes: Sequence[Whole]) -> list[Placed]:
    """What new records (which are stored) and new votes change of where votes on conversations count; it is written
    down, and has to be counted (`deltas.counted`)."""
    renamed = await joined_up(connection, new)
    given = await _given(connection, votes)
    rows = await _rows(connection, given, new, renamed)
    changes: list[Placed] = []
    written: list[dict[str, Any]] = []
    for old, key in renamed.items():
        if (row := rows.pop(old, None)) is not None:
            changes += _counts(row, -1)
            given[key].append((row.fid, row.value))
            user, talk = old.stored
            mine = conversation_votes.c.user_hash == user, conversation_votes.c.conversation == talk
            await connection.execute(sa.delete(conversation_votes).where(*mine))
    answers, joined = _answers(new), set(renamed.values())
    for key in sorted(given.keys() | rows.keys(), key=_stored):
        before = rows.get(key)
        known = None if key in joined else before
        place = await _place(connection, key, known, [] if key in joined else answers[key])
        after = _row(key, before, given[key], place)
        changes += [*_counts(before, -1), *_counts(after, +1)]
        written.append(after)
    await upsert(connection, conversation_votes, written)
    return changes


def _answers(new: Sequence[NewRecord]) -> defaultdict[Talk, list[NewRecord]]:
    """Those of the new records that a vote can be about, by conversation."""
    found: defaultdict[Talk, list[NewRecord]] = defaultdict(list)
    for record in new:
        talk = Talk.of(record)
        if talk is None or record.experiment_id is None:
            continue
        if record.kind != TASK.name and 200 <= record.status < 400 and int(record.outcome) in _BEGUN:
            found[talk].append(record)
    return found


async def _given(connection: AsyncConnection, votes: Sequence[Whole]) -> defaultdict[Talk, list[_Vote]]:
    """The votes by what they are about; without those of a conversation that nobody can tell, or of another one."""
    ids = sorted({vote.record_id for vote in votes if vote.record_id is not None})
    known = {}
    if ids:
        columns = [records.c[name] for name in ("id", "user_hash", "conversation", "thread_key", "cluster", "flags")]
        wanted = any_of(connection, records.c.id, ids), records.c.id.between(ids[0], ids[-1])
        known = {row.id: row for row in await connection.execute(sa.select(*columns).where(*wanted))}
    given: defaultdict[Talk, list[_Vote]] = defaultdict(list)
    for vote in votes:
        said, key = _said(vote), _about(vote, known)
        if said is not None and key is not None:
            given[key].append(said)
    return given


def _said(vote: Whole) -> _Vote | None:
    if vote.retracted:
        return vote.fid, None
    believed = vote.feedback is not None and vote.trust & BallotTrust.THUMB
    return (vote.fid, vote.feedback) if believed else None


def _about(vote: Whole, known: Mapping[str, Any]) -> Talk | None:
    """A vote that names no record is on what somebody vouches for: nobody can tell whose a claimed name is."""
    if vote.record_id is None:
        named = vote.user_hash, vote.conversation
        return None if named[0] is None or named[1] is None else Talk(named[0], None, named[1])
    row = known.get(vote.record_id)
    talk = None if row is None else Talk.of(row)
    return talk if talk is not None and vote.conversation in (None, talk.key) else None


async def _rows(
    connection: AsyncConnection, given: Iterable[Talk], new: Sequence[NewRecord], renamed: Mapping[Talk, Talk]
) -> dict[Talk, Any]:
    """The rows that there are of these conversations, and of those that the new records are in."""
    wanted = {*given, *renamed, *renamed.values()}
    wanted |= {talk for record in new if record.experiment_id is not None and (talk := Talk.of(record)) is not None}
    if not wanted or not await _ANY.rows(connection):
        return {}
    stored = {talk.stored: talk for talk in wanted}
    joined, user, key = pairs(connection, sorted(stored))
    mine = conversation_votes.c.user_hash == user, conversation_votes.c.conversation == key
    query = sa.select(conversation_votes).select_from(joined.join(conversation_votes, sa.and_(*mine)))
    return {stored[row.user_hash, row.conversation]: row for row in await connection.execute(query)}


def _stored(talk: Talk) -> tuple[int, int]:
    return talk.stored


def _row(key: Talk, before: Any, given: Sequence[_Vote], place: Mapping[str, Any] | None) -> dict[str, Any]:
    """The row as it is from now on; `place` is None where nothing changes of where it counts."""
    votes = [*given, *([] if before is None else [(before.fid, before.value)])]
    fid, value = max(votes, key=lambda vote: vote[0])
    user, talk = key.stored
    row = {"user_hash": user, "conversation": talk, "fid": fid, "value": value}
    if place is None and before is not None:  # also where its records have been forgotten: it counts where it did
        return row | {name: getattr(before, name) for name in _PLACED}
    return row | dict.fromkeys(_PLACED) | {"mixed": False, "claimed": False} | dict(place or {})


_PLACED: Final = ("record_id", "mixed", "experiment_id", "epoch", "arm", "unit", "claimed", "tags")


async def _place(
    connection: AsyncConnection, key: Talk, before: Any, new: Sequence[NewRecord]
) -> Mapping[str, Any] | None:
    """Where its vote counts now that these answers have come: columns of the row; None: where it did, or nowhere."""
    if before is not None and not new:
        return None
    if before is not None and before.record_id is not None:
        last = max(new, key=lambda record: record.id)
        same = last.experiment_id == before.experiment_id
        if same or last.id < before.record_id:
            others = any(r.arm != before.arm for r in new if r.experiment_id == before.experiment_id)
            mixed = before.mixed or others
            if last.id < before.record_id:
                return {name: getattr(before, name) for name in _PLACED} | {"mixed": mixed}
            return _columns(RecordFacts.of(last), mixed=mixed)
    return await _read_place(connection, key)


async def _read_place(connection: AsyncConnection, key: Talk) -> Mapping[str, Any] | None:
    """The same, from its records."""
    named = records.c.conversation == key.key
    thread = records.c.user_hash == key.user, records.c.thread_key == key.key, records.c.conversation.is_(None)
    found = [place for mine in ((named,), thread) for place in [await _last(connection, key, mine)] if place]
    if not found:
        return None
    found.sort(key=lambda place: str(place["record_id"]))
    last, alike = found[-1], [place for place in found if place["experiment_id"] == found[-1]["experiment_id"]]
    return {**last, "mixed": any(place["mixed"] or place["arm"] != last["arm"] for place in alike)}


async def _last(
    connection: AsyncConnection, key: Talk, mine: Sequence[sa.ColumnElement[bool]]
) -> Mapping[str, Any] | None:
    """Of the latest of these records: where the last one counts that is an answer to that user. Who it is is asked of
    what was read, so that no database goes through all that the user ever said instead."""
    latest = sa.select(*FACTS).where(*mine).order_by(records.c.id.desc()).limit(_LATEST).subquery()
    claimed = latest.c.flags.bitwise_and(int(RecordFlag.CLAIMED))
    whose = claimed == 0 if key.cluster is None else sa.and_(claimed != 0, _cluster(latest) == key.cluster)
    answers = latest.c.user_hash == key.user, whose, *_answered(latest)
    query = sa.select(latest).where(*answers).order_by(latest.c.id.desc()).limit(1)
    last = (await connection.execute(query)).first()
    if last is None:
        return None
    others = latest.c.experiment_id == last.experiment_id, latest.c.arm != last.arm
    other = (await connection.execute(sa.select(latest.c.id).where(*answers, *others).limit(1))).first()
    return _columns(facts_of_row(last), mixed=other is not None)


def _cluster(table: sa.Subquery) -> sa.ColumnElement[int]:
    return sa.func.coalesce(table.c.cluster, 0)


def _answered(table: sa.Subquery) -> tuple[sa.ColumnElement[bool], ...]:
    """What a vote can be about (`policies.ballots.can_be_judged`), in an experiment."""
    return (
        table.c.experiment_id.is_not(None),
        table.c.kind != TASK.name,
        table.c.status.between(200, 399),
        table.c.outcome.in_(_BEGUN),
    )


def _columns(record: RecordFacts, *, mixed: bool) -> dict[str, Any]:
    return {
        "record_id": record.id,
        "mixed": mixed,
        "experiment_id": record.experiment_id,
        "epoch": record.epoch,
        "arm": int(record.arm),
        "unit": record.unit,
        "claimed": record.claimed,
        "tags": dict(record.tags) if record.tags else None,
    }


def _counts(row: Any, by: int) -> Iterator[Placed]:
    """What a row (of the table, or about to be written) counts."""
    if row is None:
        return
    said = row if isinstance(row, dict) else row._mapping
    if said["value"] and not said["mixed"] and said["experiment_id"] is not None:
        yield Placed(placed_record(said), said["value"], by)


def placed_record(row: Mapping[str, Any]) -> RecordFacts:
    """The last answer, as far as counting a vote on its conversation goes, from a row of the table."""
    return RecordFacts(
        id=row["record_id"],
        user_hash=row["user_hash"],
        arm=Arm(row["arm"]),
        model_id=0,
        experiment_id=row["experiment_id"],
        epoch=row["epoch"],
        status=200,
        outcome=Outcome.OK,
        duration_us=0,
        quality=None,
        quality_source=None,
        flags=RecordFlag.CLAIMED if row["claimed"] else RecordFlag.NONE,
        kind="",
        cluster=row["unit"] if row["claimed"] else None,
        tags=row["tags"],
    )
