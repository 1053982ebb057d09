"""Votes on whole conversations: of each user and conversation the last one, where the last of its answers counts.

`conversation_votes` has a row for each, and the row says where its vote counts now. It follows from two things: the
last vote (the greatest `fid`), and the user's answers in that conversation which are of experiments. Both may come in
any order, so that whatever comes, the row is worked out anew, and what its vote counted before is taken back.

A conversation with answers of two arms counts nowhere: it is `mixed`, and nobody can tell which arm the vote is for.
Only answers of the experiment of the last one are looked at: what was said before the test, both arms have alike.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from policies.ballots import BallotTrust
from policies.kinds import TASK
from policies.records import Arm, Outcome
from proxy.store.engine.dialect import any_of, upsert
from proxy.store.ingest.chains import joined_up
from proxy.store.ingest.deltas import Placed
from proxy.store.ingest.facts import RecordFacts
from proxy.store.ingest.votes import FACTS, Whole, facts_of_row
from proxy.store.tables.schema import conversation_votes, records
from proxy.store.tables.values import NewRecord, RecordFlag

__all__ = ["hold", "moved", "placed_record"]

_CHUNK: Final = 500
_LOCK: Final = 7_161_902
"""Of PostgreSQL's advisory locks."""
_BEGUN: Final = tuple(int(outcome) for outcome in (Outcome.OK, Outcome.CLIENT_DISCONNECT, Outcome.TRUNCATED))
_ANSWERED: Final = sa.and_(
    records.c.experiment_id.is_not(None),
    records.c.kind != TASK.name,
    records.c.status.between(200, 399),
    records.c.outcome.in_(_BEGUN),
)
"""What a vote can be about (`policies.ballots.can_be_judged`), in an experiment."""

_Key = tuple[int, int]
"""User and conversation."""
_Vote = tuple[str, int | None]
"""When it was given, as its `fid` says, and 1, 0, -1 or None: taken back."""


class _Place(NamedTuple):
    """Where a conversation's vote counts."""

    record: RecordFacts
    """Its last answer."""
    mixed: bool


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
            mine = conversation_votes.c.user_hash == old[0], conversation_votes.c.conversation == old[1]
            await connection.execute(sa.delete(conversation_votes).where(*mine))
    for key in sorted(given.keys() | rows.keys()):
        before = rows.get(key)
        after = await _row(connection, key, before, given[key])
        changes += [*_counts(before, -1), *_counts(after, +1)]
        written.append(after)
    await upsert(connection, conversation_votes, written)
    return changes


async def _given(connection: AsyncConnection, votes: Sequence[Whole]) -> defaultdict[_Key, list[_Vote]]:
    """The votes by what they are about; without those of a conversation that nobody can tell, or of another one."""
    ids = sorted({vote.record_id for vote in votes if vote.record_id is not None})
    known = {}
    if ids:
        columns = (records.c.id, records.c.user_hash, records.c.conversation, records.c.thread_key)
        wanted = any_of(connection, records.c.id, ids), records.c.id.between(ids[0], ids[-1])
        known = {row.id: row for row in await connection.execute(sa.select(*columns).where(*wanted))}
    given: defaultdict[_Key, list[_Vote]] = defaultdict(list)
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


def _about(vote: Whole, known: Mapping[str, Any]) -> _Key | None:
    if vote.record_id is None:
        return None if vote.user_hash is None or vote.conversation is None else (vote.user_hash, vote.conversation)
    row = known.get(vote.record_id)
    if row is None or row.user_hash is None:
        return None
    found = row.thread_key if row.conversation is None else row.conversation
    if found is None or vote.conversation not in (None, found):
        return None
    return row.user_hash, found


async def _rows(
    connection: AsyncConnection, given: Iterable[_Key], new: Sequence[NewRecord], renamed: Mapping[_Key, _Key]
) -> dict[_Key, Any]:
    """The rows that there are of these conversations, and of those that the new records are in."""
    wanted = {*given, *renamed, *renamed.values()}
    talks = ((r.user_hash, r.thread_key if r.conversation is None else r.conversation) for r in new if r.experiment_id)
    wanted |= {(user, key) for user, key in talks if user is not None and key is not None}
    if not wanted or (await connection.execute(sa.select(conversation_votes.c.fid).limit(1))).first() is None:
        return {}
    found = {}
    ordered = sorted(wanted)
    for start in range(0, len(ordered), _CHUNK):
        users, keys = zip(*ordered[start : start + _CHUNK], strict=True)
        query = sa.select(conversation_votes).where(
            any_of(connection, conversation_votes.c.user_hash, sorted(set(users))),
            any_of(connection, conversation_votes.c.conversation, sorted(set(keys))),
        )
        for row in await connection.execute(query):
            if (key := (row.user_hash, row.conversation)) in wanted:
                found[key] = row
    return found


async def _row(connection: AsyncConnection, key: _Key, before: Any, given: Sequence[_Vote]) -> dict[str, Any]:
    """The row as it is from now on."""
    votes = [*given, *([] if before is None else [(before.fid, before.value)])]
    fid, value = max(votes, key=lambda vote: vote[0])
    row = {"user_hash": key[0], "conversation": key[1], "fid": fid, "value": value}
    place = await _place(connection, key)
    if place is not None:
        record = place.record
        return row | {
            "record_id": record.id,
            "mixed": place.mixed,
            "experiment_id": record.experiment_id,
            "epoch": record.epoch,
            "arm": int(record.arm),
            "unit": record.unit,
            "claimed": record.claimed,
            "tags": dict(record.tags) if record.tags else None,
        }
    if before is not None:  # its records have been forgotten, and it counts where it did
        return row | {name: getattr(before, name) for name in _PLACED}
    return row | dict.fromkeys(_PLACED) | {"mixed": False, "claimed": False}


_PLACED: Final = ("record_id", "mixed", "experiment_id", "epoch", "arm", "unit", "claimed", "tags")


async def _place(connection: AsyncConnection, key: _Key) -> _Place | None:
    user, conversation = key
    named = (records.c.conversation == conversation) | (
        records.c.conversation.is_(None) & (records.c.thread_key == conversation)
    )
    mine = (_ANSWERED, records.c.user_hash == user, named)
    last = (await connection.execute(sa.select(*FACTS).where(*mine).order_by(records.c.id.desc()).limit(1))).first()
    if last is None:
        return None
    others = records.c.experiment_id == last.experiment_id, records.c.arm != last.arm
    other = (await connection.execute(sa.select(records.c.id).where(*mine, *others).limit(1))).first()
    return _Place(facts_of_row(last), other is not None)


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
