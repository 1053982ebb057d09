"""The migrations build exactly the tables that the queries are written against, and only once."""

from __future__ import annotations

import asyncio
import random
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import proxy.store.tables.migrate as migrate
from policies.estimates import METRICS, Moments, UserTotals
from policies.records import Arm, Outcome
from proxy.clock import ManualClock, SystemClock
from proxy.store.engine.database import Database
from proxy.store.engine.dialect import upsert_sums
from proxy.store.store import Store
from proxy.store.tables import partitions
from proxy.store.tables.keys import id_time_us
from proxy.store.tables.schema import (
    SUMS,
    arm_stats,
    durations,
    experiments,
    feedback,
    metadata,
    records,
    traffic,
    user_stats,
)
from proxy.store.tables.values import IngestBatch, NewRecord, NewVote
from tests.harness.exchanges import exchange, row_of, vote

_NEVER = (0.0,) * (len(METRICS) - 8)
"""Of metrics that none of these records has."""


async def test_the_migrated_tables_are_those_of_the_schema(store: Store) -> None:
    def difference(connection: sa.Connection) -> list[object]:
        options = {"compare_type": False, "include_object": not_a_partition}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))

    async with store._db.read() as connection:
        assert await connection.run_sync(difference) == []


def not_a_partition(thing: object, name: str | None, kind: str, *_: object) -> bool:
    return not (name or "")[-8:].isdigit()


def older_revisions() -> list[str]:
    scripts = ScriptDirectory(str(Path(migrate.__file__).parent / "migrations"))
    return [script.revision for script in scripts.walk_revisions() if script.revision != migrate.HEAD]


@pytest.mark.parametrize("revision", older_revisions())
async def test_a_store_is_brought_up_to_date_while_an_older_version_writes_to_it(empty_url: str, revision: str) -> None:
    clock = SystemClock()
    database = Database.connect(empty_url, clock=clock, pool_size=2, busy_timeout_s=300.0)
    async with database.write() as connection:
        await connection.run_sync(migrate._upgrade, revision)
    await partitions.create_ahead(database)
    old, written, finish = Store(database, clock), list[str](), asyncio.Event()
    columns = await columns_of(database)

    async def write() -> None:
        rng, last = random.Random(1), False
        while not last:
            last = finish.is_set()
            batch = [exchange(int(clock.now() * 1e6), rng) for _ in range(20)]
            async with database.write() as connection:
                await connection.execute(sa.insert(records), [as_kept(record, columns["records"]) for record in batch])
            written.extend(record.id for record in batch)

    writing = asyncio.create_task(write())
    while len(written) < 100:
        await asyncio.sleep(0.001)
    new = await Store.open(empty_url, clock=clock, busy_timeout_s=300.0)
    before = len(written)
    finish.set()
    await writing
    assert len(written) > before, "the older version goes on"
    assert {view.row.id async for view in new.records.iter()} == set(written)
    await old.close()
    await new.close()


async def columns_of(database: Database) -> dict[str, set[str]]:
    """The columns that the tables have at this revision."""

    def look(connection: sa.Connection) -> dict[str, set[str]]:
        seen = sa.inspect(connection)
        return {table: {column["name"] for column in seen.get_columns(table)} for table in ("records", "user_stats")}

    async with database.read() as connection:
        return await connection.run_sync(look)


def as_kept(record: NewRecord, columns: set[str]) -> dict[str, Any]:
    """The row of a record as a version wrote it that knew those columns."""
    return {name: value for name, value in row_of(record).items() if name in columns}


async def test_an_experiment_goes_on_counting_exactly_across_the_upgrade(empty_url: str, clock: ManualClock) -> None:
    """Version 0.1 kept the sums of six metrics, and called a 404 or a 503 that came whole OK."""
    rng, now_us = random.Random(5), int(clock.now() * 1e6)
    statuses = (200, 200, 404, 503)
    before, after = (
        [
            exchange(
                now_us + first + i,
                rng,
                experiment_id=1,
                epoch=1,
                arm=Arm(i % 3 == 0),
                user_hash=i % 7,
                status=statuses[i % 4],
                aliases=(),
            )
            for i in range(n)
        ]
        for first, n in ((0, 40), (1000, 25))
    )
    await an_old_store(empty_url, clock, before)
    store = await Store.open(empty_url, clock=clock)
    votes = [vote(record.id, now_us + 2000 + i, rng) for i, record in enumerate([*before[:9], *after[:9]])]
    await store.ingest.apply(IngestBatch(writer="w", segment=0, offset=1, records=tuple(after), votes=tuple(votes)))
    stats = await store.statistics.arms(1, 1)
    for arm in Arm:
        expected = moments_of(users_of(before, after, votes, arm))
        assert stats[arm].requests == sum(record.arm == arm for record in (*before, *after))
        assert stats[arm].moments.users == expected.users
        assert stats[arm].moments.sums == pytest.approx(expected.sums, abs=1e-9)
        assert stats[arm].moments.products == pytest.approx(expected.products, abs=1e-9)
    totals = await store.traffic.totals()
    assert (totals.requests, totals.errors, totals.refused) == (65, 16, 16)
    outcomes = {view.row.id: view.row.outcome async for view in store.records.iter()}
    read = {200: Outcome.OK, 404: Outcome.REFUSED, 503: Outcome.UPSTREAM_ERROR}
    assert outcomes == {record.id: read[record.status] for record in (*before, *after)}
    await store.close()


async def an_old_store(empty_url: str, clock: ManualClock, before: list[NewRecord]) -> None:
    """A store of revision 0004 in which an experiment has counted these records."""
    database = Database.connect(empty_url, clock=clock, pool_size=2, busy_timeout_s=30.0)
    async with database.write() as connection:
        await connection.run_sync(migrate._upgrade, "0004")
    await partitions.create_ahead(database)
    columns = await columns_of(database)
    assert "n_refused" not in columns["user_stats"]
    experiment = {
        "id": 1, "champion_model_id": 1, "challenger_model_id": 2, "salt": "00", "share": 0.5, "epoch": 1,
        "epoch_started_us": 0, "started_us": 0, "frozen": {"l95_s": 2.0, "icc": 0.1}, "state": {},
    }  # fmt: skip
    sums, users, arms = list[dict[str, Any]](), list[dict[str, Any]](), list[dict[str, Any]]()
    for record in before:
        at_s = id_time_us(record.id) // 1_000_000
        counted = dict.fromkeys((*SUMS, "quality"), 0) | {"n": 1, "duration_us": record.duration_us}
        key = {"arm": int(record.arm), "model_id": 1, "status_class": record.status // 100, "outcome": 0}
        sums += [{"step_s": step, "at_s": at_s // step * step, **key, **counted} for step in (60, 3600)]
    for arm in Arm:
        key = {"experiment_id": 1, "epoch": 1, "arm": int(arm)}
        totals = users_of(before, [], [], arm)
        for user, known in totals.items():
            values = {f"n_{metric}": n for metric, n in zip(METRICS[:6], known.n, strict=False)}
            values |= {f"s_{metric}": s for metric, s in zip(METRICS[:6], known.s, strict=False)}
            users.append({**key, "user_key": user, **values})
        moments = moments_of(totals)
        vectors = [known.vector() for known in totals.values()]
        pairs = [(row, column) for row in range(12) for column in range(row, 12)]
        products = [sum(vector[row] * vector[column] for vector in vectors) for row, column in pairs]
        data = struct.pack("<91d", moments.users, *moments.sums[:12], *products)
        arms.append({**key, "requests": sum(record.arm == arm for record in before), "moments": data})
    async with database.write() as connection:
        await connection.execute(sa.insert(experiments), [experiment])
        await connection.execute(sa.insert(records), [as_kept(record, columns["records"]) for record in before])
        await upsert_sums(connection, traffic, gathered(sums))
        await connection.execute(sa.insert(user_stats), users)
        await connection.execute(sa.insert(arm_stats), arms)
    await database.close()


def gathered(sums: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a key."""
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for one in sums:
        row = rows.setdefault(tuple(one[column.name] for column in traffic.primary_key), {**one, "n": 0})
        row["n"] += 1
    return list(rows.values())


def users_of(before: list[NewRecord], after: list[NewRecord], votes: list[NewVote], arm: Arm) -> dict[int, UserTotals]:
    """Each user's totals; of the records `before` nobody noted whether they were refused, and all were thought to be
    something to vote on."""
    voted = {ballot.record_id for ballot in votes}
    totals: dict[int, UserTotals] = {}
    for record in (*before, *after):
        if record.arm != arm:
            continue
        answered = float(record.status == 200)
        up = answered * (record.id in voted)
        seconds, known = record.duration_us / 1e6, float(record in after)
        n = (1.0, up, answered, 1.0, answered, max(answered, 1.0 - known), known, known, *_NEVER)
        s = (
            record.quality or 0.0,
            up,
            answered * seconds,
            float(record.status == 503),
            answered * (seconds > 2.0),
            up,
            known * (record.status == 404),
            0.0,
            *_NEVER,
        )
        assert record.user_hash is not None
        assert record.quality is not None
        totals[record.user_hash] = totals.get(record.user_hash, UserTotals()).plus(UserTotals(n=n, s=s))
    return totals


def moments_of(totals: dict[int, UserTotals]) -> Moments:
    moments = Moments()
    for known in totals.values():
        moments = moments.replaced(None, known.vector())
    return moments


async def test_durations_by_ten_minutes_are_made_of_those_by_minute(empty_url: str, clock: ManualClock) -> None:
    database = Database.connect(empty_url, clock=clock, pool_size=2, busy_timeout_s=30.0)
    async with database.write() as connection:
        await connection.run_sync(migrate._upgrade, "0003")
        values = [(60, 600, 5, 1), (60, 1140, 5, 2), (60, 1200, 5, 4), (60, 1200, 6, 8), (3600, 0, 5, 7)]
        rows = [
            {"step_s": step, "at_s": at, "arm": 0, "model_id": 1, "bin": bin, "n": n} for step, at, bin, n in values
        ]
        await connection.execute(sa.insert(durations), rows)
    await database.close()
    upgraded = await Store.open(empty_url, clock=clock)
    query = sa.select(durations.c.at_s, durations.c.bin, durations.c.n).where(durations.c.step_s == 600)
    async with upgraded._db.read() as connection:
        found = {tuple(row) for row in await connection.execute(query)}
    assert found == {(600, 5, 3), (1200, 5, 4), (1200, 6, 8)}
    await upgraded.close()


async def test_many_who_open_a_new_store_at_once_all_succeed(empty_url: str, clock: ManualClock) -> None:
    stores = await asyncio.gather(*(Store.open(empty_url, clock=clock, busy_timeout_s=300.0) for _ in range(4)))
    assert [(await store.traffic.totals()).requests for store in stores] == [0] * 4
    for store in stores:
        await store.close()


def test_the_head_is_the_newest_script() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
    assert ScriptDirectory.from_config(config).get_current_head() == migrate.HEAD


async def test_votes_from_before_there_were_ids_of_other_systems_count_and_change_as_ever(
    empty_url: str, clock: ManualClock
) -> None:
    rng, now_us = random.Random(7), int(clock.now() * 1e6)
    database = Database.connect(empty_url, clock=clock, pool_size=2, busy_timeout_s=30.0)
    async with database.write() as connection:
        await connection.run_sync(migrate._upgrade, "0013")
    await partitions.create_ahead(database)
    record = exchange(now_us, rng, aliases=())
    given, parked = vote(record.id, now_us + 1, rng), vote(exchange(now_us + 2, rng).id, now_us + 3, rng)
    old = sa.insert(feedback).values([
        {"fid": one.fid, "record_id": one.record_id, "created_us": one.created_us, "feedback": 1, "retracted": False,
         "joined": one is given, "source": "ann", "trust": 15, "whole": False, "copied": False}
        for one in (given, parked)
    ])  # fmt: skip
    async with database.write() as connection:
        kept = row_of(record) | {"feedback": 1.0}
        await connection.execute(sa.insert(records).values(kept))
        await connection.execute(old)
    await database.close()
    store = await Store.open(empty_url, clock=clock)
    view = await store.records.get(record.id)
    assert view is not None
    assert [(one.feedback, one.external, one.amends, one.effective) for one in view.votes] == [(1, None, False, True)]
    again = replace(vote(record.id, now_us + 9, rng), source="ann", feedback=-1, external=9)
    await store.ingest.apply(IngestBatch(writer="w", segment=0, offset=1, votes=(again,)))
    taken = replace(vote(record.id, now_us + 12, rng), record_id=None, feedback=None, retracted=True, external=9)
    await store.ingest.apply(IngestBatch(writer="w", segment=0, offset=2, votes=(taken,)))
    view = await store.records.get(record.id)
    assert view is not None
    assert view.row.feedback == 1.0, "the earlier one stands"
    await store.close()
