"""A transaction that runs in SQLite's own thread: it holds nobody up, and whoever gives it up leaves nothing open."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from proxy.clock import ManualClock, SystemClock
from proxy.errors import TemporaryError
from proxy.store.engine import dialect
from proxy.store.engine.dialect import insert_all, known
from proxy.store.engine.kept import KeptStatement
from proxy.store.engine.refusals import StoreRefusedError
from proxy.store.engine.threads import in_a_thread
from proxy.store.ingest import bodies
from proxy.store.ingest.votes import _row
from proxy.store.store import Store
from proxy.store.tables.schema import deleted_users, feedback, records
from proxy.store.tables.values import IngestBatch, NewVote
from tests.harness.exchanges import exchange, exchanges, vote

NOW_US = 1_700_000_000_000_000


WRITER = """
import asyncio, sys
from proxy.clock import SystemClock
from proxy.store.store import Store
from proxy.store.tables.values import IngestBatch
from tests.harness.exchanges import exchanges

async def main(url):
    store = await Store.open(url, clock=SystemClock())
    records = list(exchanges(4000, start_us=1_700_000_000_000_000))
    for n in range(0, 4000, 8):
        some = tuple(records[n:n + 8])
        await store.ingest.apply(IngestBatch(writer="w", segment=0, offset=n + 8, frames=8, records=some))
        print(n, flush=True)

asyncio.run(main(sys.argv[1]))
"""


class GatedClock(ManualClock):
    """Its time is asked for in the middle of a batch's transaction: whoever does so in a thread waits there."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = False
        self.reached, self.opened = threading.Event(), threading.Event()

    def now(self) -> float:
        """Behind the gate."""
        if self.closed and threading.current_thread() is not threading.main_thread():
            self.reached.set()
            assert self.opened.wait(30)
        return super().now()


@pytest.fixture
def clock() -> GatedClock:
    return GatedClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ratchet.db"


@pytest.fixture
async def store(path: Path, clock: GatedClock) -> AsyncIterator[Store]:
    store = await Store.open(f"sqlite:///{path}", clock=clock, busy_timeout_s=0.3)
    yield store
    await store.close()


def batch(number: int) -> IngestBatch:
    made = tuple(exchanges(3, start_us=NOW_US + number * 1000, seed=number))
    return IngestBatch(writer="w", segment=0, offset=number, records=made)


def is_free(path: Path) -> bool:
    """Whether somebody else may write at once."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as other:
        try:
            other.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        return True


async def turns(until: Callable[[], bool]) -> None:
    """Of the event loop."""
    async with asyncio.timeout(30):
        while not until():
            await asyncio.sleep(0)


async def test_a_cancelled_batch_leaves_no_transaction_and_no_lock(store: Store, clock: GatedClock, path: Path) -> None:
    clock.closed = True
    attempt = asyncio.ensure_future(store.ingest.apply(batch(1)))
    await turns(clock.reached.is_set)
    assert not is_free(path)
    for _ in range(3):  # once more changes nothing: until its thread is done the transaction is open
        attempt.cancel()
        await turns(iter([False] * 20 + [True]).__next__)
        assert not attempt.done()
    clock.opened.set()
    with pytest.raises(asyncio.CancelledError):
        await attempt
    assert is_free(path)
    assert (await store.traffic.totals()).requests == 0
    assert len((await store.ingest.apply(batch(1))).records) == 3, "and its connection is of use"


async def test_others_read_while_a_transaction_is_under_way(store: Store, clock: GatedClock) -> None:
    await store.ingest.apply(batch(1))
    clock.closed = True
    attempt = asyncio.ensure_future(store.ingest.apply(batch(2)))
    await turns(clock.reached.is_set)
    assert (await store.traffic.totals()).requests == 3
    clock.opened.set()
    await attempt
    assert (await store.traffic.totals()).requests == 6


async def test_the_event_loop_is_free_while_another_process_holds_the_lock(store: Store, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        attempt = asyncio.ensure_future(store.ingest.apply(batch(1)))
        await turns(iter([False] * 1000 + [True]).__next__)
        assert (await store.traffic.totals()).requests == 0
        with pytest.raises(TemporaryError, match="locked"):
            await attempt
        other.execute("ROLLBACK")
    assert len((await store.ingest.apply(batch(1))).records) == 3


async def test_a_batch_that_is_cancelled_while_it_waits_for_the_lock_does_not_get_it_later(
    store: Store, path: Path
) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        attempt = asyncio.ensure_future(store.ingest.apply(batch(1)))
        await asyncio.sleep(0.05)
        attempt.cancel()
        await asyncio.sleep(0.05)
        other.execute("ROLLBACK")
        with pytest.raises(asyncio.CancelledError):
            await attempt
    assert is_free(path)
    assert (await store.traffic.totals()).requests == 0
    assert len((await store.ingest.apply(batch(1))).records) == 3


@pytest.mark.parametrize("batches", [1, 40])
async def test_who_is_killed_in_the_middle_leaves_whole_batches(path: Path, batches: int) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITER, f"sqlite:///{path}"], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        for _ in range(batches):
            await asyncio.to_thread(writer.stdout.readline)
        writer.kill()
    store = await Store.open(f"sqlite:///{path}", clock=SystemClock())
    position = (await store.spools.counted())["w"]
    assert 8 * batches <= position.frames == position.offset == (await store.traffic.totals()).requests
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT count(*) FROM records").fetchone() == (position.frames,)
    await store.close()


async def test_what_fails_in_the_thread_is_rolled_back(store: Store, path: Path) -> None:
    async def work(connection: Any) -> None:
        await insert_all(connection, deleted_users, [{"user_hash": 1, "at_us": 2, "detail": {}}])
        raise ValueError("in the middle")

    with pytest.raises(ValueError, match="in the middle"):
        await store._db.transact(work)
    assert is_free(path)
    async with store._db.read() as connection:
        assert (await connection.execute(sa.select(deleted_users))).all() == []


async def test_a_row_that_is_there_is_refused_as_by_any_other_way(store: Store) -> None:
    rows = [{"user_hash": 1, "at_us": 2, "detail": {}}]
    said = []
    for within in (store._db.transact, lambda work: _written(store, work)):
        with pytest.raises(StoreRefusedError) as raised:
            await within(lambda connection: insert_all(connection, deleted_users, rows * 2))
        said.append(str(raised.value))
    assert said[0] == said[1]


async def test_what_computes_for_long_fails_in_the_thread_as_anywhere(store: Store) -> None:
    def compute() -> None:
        raise ValueError("too long")

    for within in (store._db.transact, lambda work: _written(store, work)):
        with pytest.raises(ValueError, match="too long") as raised:
            await within(lambda _: in_a_thread(compute))
        assert raised.value.__context__ is None


class Emptied(dict[Any, Any]):
    """Statements that another thread throws away, for they have become too many, as soon as one is kept."""

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, value)
        self.clear()


async def test_a_statement_that_another_thread_throws_away_is_executed_all_the_same(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialect, "_prepared", Emptied())
    assert len((await store.ingest.apply(batch(1))).records) == 3


@pytest.mark.parametrize("later", [False, True])
async def test_a_database_that_is_forgotten_while_texts_are_looked_at_stays_forgotten(
    store: Store, monkeypatch: pytest.MonkeyPatch, later: bool
) -> None:
    """A transaction does so, in its own thread, once it finds another database in the place of the one it knows."""
    codec, sampled = store._codec, bodies._sampled

    def forgetful(payloads: Any) -> Any:
        codec.forget()
        return sampled(payloads) * (bodies._SAMPLES if later else 1)

    await codec.prepare(())
    monkeypatch.setattr(bodies, "_sampled", forgetful)
    await codec.prepare((record.user_hash, record.body) for record in batch(1).records if record.body is not None)
    assert codec._samples is None, "the next batch asks the database that is there for its dictionary"


async def _written(store: Store, work: Callable[[Any], Awaitable[Any]]) -> Any:
    async with store._db.write() as connection:
        return await work(connection)


async def test_who_waits_for_something_else_in_the_thread_is_told(store: Store, path: Path) -> None:
    async def work(connection: Any) -> None:
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="waits for"):
        await store._db.transact(work)
    assert is_free(path)


async def test_more_ids_are_looked_for_than_a_statement_takes(store: Store) -> None:
    rng = random.Random(4)
    made = tuple(exchange(NOW_US + n * 1000, rng) for n in range(100))
    await store.ingest.apply(IngestBatch(writer="w", segment=0, offset=1, records=made))
    ids = sorted({*(record.id for record in made), *(f"{rng.getrandbits(128):032x}" for _ in range(40_000))})

    async def look(connection: Any) -> set[str]:
        return await known(connection, records.c.id, ids)

    assert await store._db.transact(look) == await _written(store, look) == {record.id for record in made}


@pytest.mark.parametrize("stored", [0, 1, 31, 32, 33, 80])
async def test_ids_are_told_from_those_beside_them(store: Store, stored: int) -> None:
    """However many of other spools lie between them."""
    rng = random.Random(stored)
    made = [exchange(NOW_US + n * 1000, rng) for n in range(120)]
    there = rng.sample(made, stored)
    if there:
        await store.ingest.apply(IngestBatch(writer="w", segment=0, offset=1, records=tuple(there)))
    asked = sorted(record.id for record in rng.sample(made, 60))

    async def look(connection: Any) -> set[str]:
        return await known(connection, records.c.id, asked)

    assert await store._db.transact(look) == {record.id for record in there} & {*asked}


USERS = KeptStatement(
    lambda given: sa.select(deleted_users.c.user_hash, deleted_users.c.detail).where(
        given.among("users", deleted_users.c.user_hash)
    )
)
LATER = KeptStatement(
    lambda given: (
        sa.update(deleted_users)
        .where(deleted_users.c.user_hash == given.value("user", deleted_users.c.user_hash))
        .values(at_us=deleted_users.c.at_us + given.value("more", deleted_users.c.at_us))
    )
)
IDS = KeptStatement(
    lambda given: sa.select(records.c.id).where(records.c.id >= given.value("since", records.c.id)).limit(2)
)

CHOSEN = KeptStatement(
    lambda given: (
        sa.select(feedback)
        .where(
            given.among("fids", feedback.c.fid), feedback.c.created_us >= given.value("since", feedback.c.created_us)
        )
        .order_by(feedback.c.fid)
    )
)
TOLD = KeptStatement(
    lambda given: (
        sa.update(feedback)
        .where(feedback.c.fid == given.value("vote", feedback.c.fid))
        .values(comment=given.value("said", feedback.c.comment), joined=True)
    )
)
MARKED = KeptStatement(lambda given: sa.update(feedback).where(given.among("fids", feedback.c.fid)).values(copied=True))


async def test_a_kept_statement_takes_ids_gives_names_and_changes_many_rows_either_way(store: Store) -> None:
    rng = random.Random(6)
    votes = tuple(vote(None, NOW_US + n * 1000, rng, alias="x", tags={"n": str(n)}) for n in range(5))
    fids = [one.fid for one in votes]

    async def work(connection: Any) -> Any:
        await store_votes(connection, votes)
        await TOLD.change_all(connection, [{"vote": fid, "said": f"a\0{fid}"} for fid in fids[:3]])
        await TOLD.change_all(connection, [])
        marked = [await MARKED.changed(connection, fids=some) for some in (fids[1:], [f"{5:032x}"], [])]
        chosen = await CHOSEN.named(connection, fids=[*fids[:4], f"{9:032x}"], since=NOW_US + 1000)
        none = await CHOSEN.named(connection, fids=[], since=0)
        await connection.execute(sa.delete(feedback))
        rows = [(row.fid, row.comment, row.joined, row.copied, row.tags, row.record_id, *row) for row in chosen]
        return marked, rows, list(none)

    straight, other = await store._db.transact(work), await _written(store, work)
    assert straight == other
    assert straight[0] == [4, 0, 0]
    assert [row[:5] for row in straight[1]] == [
        (fids[1], f"a{fids[1]}", True, True, {"n": "1"}),
        (fids[2], f"a{fids[2]}", True, True, {"n": "2"}),
        (fids[3], None, False, True, {"n": "3"}),
    ]
    assert straight[2] == []


async def test_what_is_no_value_of_its_column_is_refused_the_same_either_way(store: Store) -> None:
    for wrong in ("no id", 5, b"x"):

        async def work(connection: Any, wrong: Any = wrong) -> Any:
            return await CHOSEN.rows(connection, fids=[wrong], since=0)

        with pytest.raises(StoreRefusedError) as straight:
            await store._db.transact(work)
        with pytest.raises(StoreRefusedError) as other:
            await _written(store, work)
        assert str(straight.value) == str(other.value)


async def store_votes(connection: Any, votes: Sequence[NewVote]) -> None:
    await insert_all(connection, feedback, [_row(one, None, one.alias_hash, one.trust) for one in votes])


async def test_a_kept_statement_does_the_same_straight_and_through_sqlalchemy(store: Store) -> None:
    await store.ingest.apply(batch(1))

    async def work(connection: Any) -> Any:
        rows = [{"user_hash": user, "at_us": 1, "detail": {"n": [user, None]}} for user in (-(2**63), 0, 2**63 - 1)]
        await insert_all(connection, deleted_users, rows)
        changed = [await LATER.changed(connection, user=user, more=7) for user in (0, 1)]
        found = await USERS.rows(connection, users=[0, 5, 2**63 - 1])
        none = await USERS.rows(connection, users=[])
        ids = await IDS.rows(connection, since=f"{0:032x}")
        await connection.execute(sa.delete(deleted_users))
        return changed, sorted(map(tuple, found)), list(none), [tuple(row) for row in ids]

    straight, other = await store._db.transact(work), await _written(store, work)
    assert straight == other
    assert straight[0] == [1, 0]
    assert straight[1] == [(0, {"n": [0, None]}), (2**63 - 1, {"n": [2**63 - 1, None]})]
    assert [len(row[0]) for row in straight[3]] == [32, 32]
