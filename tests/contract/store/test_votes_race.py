"""Two hosts store what belongs together at the same moment; only PostgreSQL has more than one writer."""

from __future__ import annotations

import asyncio
import random

import asyncpg
import pytest

from policies.ballots import FULL_TRUST, BallotTrust
from policies.estimates import METRICS, Metric
from policies.records import Arm
from proxy.clock import ManualClock
from proxy.store.store import Store
from proxy.store.tables.keys import alias_hash
from proxy.store.tables.values import IngestBatch, NewVote
from tests.contract.store.test_statistics import start_experiment
from tests.harness.exchanges import exchange, new_id, vote

pytestmark = pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)

GATE = """
create function wait_at_the_gate() returns trigger language plpgsql as
$$ begin perform pg_advisory_xact_lock_shared(1); return new; end $$;
create trigger gate before update on records for each row execute function wait_at_the_gate();
"""
"""A transaction that has read a record's votes waits here, before it writes what they amount to."""


async def test_a_vote_that_comes_while_another_host_stores_the_record_counts_later(
    store_url: str, store: Store, clock: ManualClock
) -> None:
    rng, now_us = random.Random(5), int(clock.now() * 1e6)
    record = exchange(now_us, rng, quality=0.5)
    first, second = (vote(record.id, now_us + n, rng, source="ann", feedback=f) for n, f in ((1000, 1), (2000, -1)))
    other = await Store.open(store_url, clock=clock)
    gate = await asyncpg.connect(store_url)
    await gate.execute(GATE)
    await gate.execute("select pg_advisory_lock(1)")
    here = IngestBatch(writer="w0-1-1", segment=0, offset=1, records=(record,), votes=(first,))
    storing = asyncio.create_task(store.ingest.apply(here))
    while not await gate.fetchval("select count(*) from pg_locks where locktype = 'advisory' and not granted"):
        await asyncio.sleep(0.01)
    there = IngestBatch(writer="w0-2-2", segment=0, offset=1, votes=(second,))
    assert (await other.ingest.apply(there)).parked == 1, "the record is not committed yet"
    await gate.execute("select pg_advisory_unlock(1)")
    assert (await storing).parked == 0
    await other.ingest.join_parked()
    found = await store.records.get(record.id)
    assert found is not None
    assert found.row.feedback == -1
    await gate.close()
    await other.close()


LATE_GATE = GATE.replace("before update on records", "before insert on traffic")
"""The same, when all has been read, and nothing is committed yet."""


async def test_two_hosts_at_once_place_a_vote_on_a_conversation(
    store_url: str, store: Store, clock: ManualClock
) -> None:
    """One stores the answer, the other the vote: neither sees what the other has not committed."""
    await start_experiment(store)
    rng, now_us = random.Random(5), int(clock.now() * 1e6)
    facts = {"experiment_id": 1, "epoch": 1, "user_hash": 5, "conversation": 70, "quality": None}
    record = exchange(now_us, rng, **facts)
    whole = NewVote(
        fid=new_id(now_us + 1000, rng), record_id=None, user_hash=5, conversation=70, whole=True, feedback=1
    )
    other = await Store.open(store_url, clock=clock)
    gate = await asyncpg.connect(store_url)
    await gate.execute(LATE_GATE)
    await gate.execute("select pg_advisory_lock(1)")
    here = IngestBatch(writer="w0-1-1", segment=0, offset=1, records=(record,))
    there = IngestBatch(writer="w0-2-2", segment=0, offset=1, votes=(whole,))
    waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
    storing = asyncio.create_task(store.ingest.apply(here))
    while await gate.fetchval(waiting) < 1:
        await asyncio.sleep(0.01)
    voting = asyncio.create_task(other.ingest.apply(there))
    while await gate.fetchval(waiting) < 2 and not voting.done():
        await asyncio.sleep(0.01)
    await gate.execute("select pg_advisory_unlock(1)")
    await asyncio.gather(storing, voting)
    sums = (await store.statistics.arms(1, 1))[Arm.CHAMPION].moments.sums
    at = 2 * METRICS.index(Metric.CONVERSATION)
    assert sums[at : at + 2] == (1, 1)
    await gate.close()
    await other.close()


async def test_two_hosts_at_once_store_one_vote_of_another_system_for_two_answers(
    store_url: str, store: Store, clock: ManualClock
) -> None:
    """It has moved: it is on the later one alone, and taken back by its id wherever it is."""
    rng, now_us = random.Random(5), int(clock.now() * 1e6)
    one, two = (exchange(now_us + n, rng, quality=0.5) for n in (1, 2))
    await store.ingest.apply(IngestBatch(writer="", segment=0, offset=0, records=(one, two)))
    given = [
        NewVote(fid=new_id(now_us + n, rng), record_id=record.id, source="ann", feedback=1, external=77)
        for n, record in ((1000, one), (2000, two))
    ]
    other = await Store.open(store_url, clock=clock)
    gate = await asyncpg.connect(store_url)
    await gate.execute(GATE)
    await gate.execute("select pg_advisory_lock(1)")
    here = IngestBatch(writer="w0-1-1", segment=0, offset=1, votes=(given[1],))
    there = IngestBatch(writer="w0-2-2", segment=0, offset=1, votes=(given[0],))
    waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
    storing = asyncio.create_task(store.ingest.apply(here))
    while await gate.fetchval(waiting) < 1:
        await asyncio.sleep(0.01)
    voting = asyncio.create_task(other.ingest.apply(there))
    while await gate.fetchval(waiting) < 2:
        await asyncio.sleep(0.01)
    await gate.execute("select pg_advisory_unlock(1)")
    assert [len(applied.votes) for applied in await asyncio.gather(storing, voting)] == [1, 1]
    found = [await store.records.get(record.id) for record in (one, two)]
    assert [view and view.row.feedback for view in found] == [None, 1.0]
    gone = NewVote(fid=new_id(now_us + 3000, rng), record_id=None, retracted=True, external=77)
    await other.ingest.apply(IngestBatch(writer="w0-2-2", segment=0, offset=2, votes=(gone,)))
    found = [await store.records.get(record.id) for record in (one, two)]
    assert [view and view.row.feedback for view in found] == [None, None]
    await gate.close()
    await other.close()


async def test_two_hosts_at_once_find_out_that_a_vote_means_several_people(
    store_url: str, store: Store, clock: ManualClock
) -> None:
    """It is written down once."""
    rng, now_us = random.Random(5), int(clock.now() * 1e6)
    waiting_vote = NewVote(fid=new_id(now_us + 1000, rng), record_id=None, alias="the-turn", feedback=1)
    await store.ingest.apply(IngestBatch(writer="w0-1-1", segment=0, offset=1, votes=(waiting_vote,)))
    other = await Store.open(store_url, clock=clock)
    gate = await asyncpg.connect(store_url)
    for n, user in enumerate((5, 6)):  # as by a third host, which did not see the vote
        record = exchange(now_us + n, rng, quality=0.5, user_hash=user)
        await store.ingest.apply(IngestBatch(writer="", segment=0, offset=0, records=(record,)))
        await gate.execute("insert into aliases (hash, id) values ($1, $2)", alias_hash("the-turn"), record.id)
    await gate.execute("begin")
    await gate.execute("lock table feedback in share mode")
    joining = [asyncio.create_task(host.ingest.join_parked()) for host in (store, other)]
    while await gate.fetchval("select count(*) from pg_locks where not granted") < 2:
        await asyncio.sleep(0.01)
    await gate.execute("rollback")
    await asyncio.gather(*joining)
    trust = await gate.fetchval("select trust from feedback")
    assert trust == FULL_TRUST | BallotTrust.AMBIGUOUS
    await gate.close()
    await other.close()
