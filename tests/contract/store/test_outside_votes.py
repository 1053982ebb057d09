"""Notes of votes that were fetched from another system, in each database."""

from __future__ import annotations

import random

import sqlalchemy as sa

from proxy.clock import ManualClock
from proxy.store.store import Store
from proxy.store.tables.schema import outside_votes
from proxy.store.tables.values import IngestBatch, NewVote, OutsideVote
from tests.harness.exchanges import exchange, new_id


async def test_notes_go_with_age_and_lose_the_answers_name_with_its_user(store: Store, clock: ManualClock) -> None:
    rng, now_us = random.Random(3), int(clock.now() * 1e6)
    theirs, mine = (exchange(now_us + user, rng, aliases=[f"message-{user}"], user_hash=user) for user in (5, 6))
    fids = [new_id(now_us + n, rng) for n in range(3)]
    votes = [
        NewVote(fid=fid, record_id=None, alias=f"message-{5 + n}", source="ann", feedback=1, created_us=now_us)
        for n, fid in enumerate(fids)
    ]
    batch = IngestBatch(writer="", segment=0, offset=0, records=(theirs, mine), votes=tuple(votes[:2]))
    await store.ingest.apply(batch)
    notes = [OutsideVote(id=f"f{n}", changed_s=1000 + n, fid=fid, alias="message") for n, fid in enumerate(fids)]
    await store.outside.put("http://one", notes[:2])
    await store.outside.put("http://another", notes[2:])
    await store.deletion.delete_user(5)
    assert {one.id: one.alias for one in (await store.outside.of("http://one")).values()} == {
        "f0": None,
        "f1": "message",
    }
    await store.outside.tidy(1000)
    assert len(await _ids(store)) == 3
    await store.outside.tidy(1003)
    assert await _ids(store) == {"f1"}, "a vote that is kept can be taken back"


async def _ids(store: Store) -> set[str]:
    async with store._db.read() as connection:
        return {*await connection.scalars(sa.select(outside_votes.c.id))}
