"""Forgetting one user, where it is more than deleting rows: what waits, what is said elsewhere, what hosts report."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
import zstandard

from policies.rows import ModelState, Run
from proxy.clock import ManualClock
from proxy.store.ingest.packing import pack
from proxy.store.retention.forgotten import HostReport, PlaceReport
from proxy.store.retention.reasons import REMOVED
from proxy.store.store import Store
from proxy.store.tables.control import LoopTransaction
from proxy.store.tables.schema import bodies as bodies_table
from proxy.store.tables.schema import dictionaries, feedback
from proxy.store.tables.values import IngestBatch, NewRecord, RecordFilter
from proxy.version import __version__
from tests.harness.exchanges import exchange, exchanges, vote


async def votes_of(store: Store) -> dict[str, dict[str, Any]]:
    """Rows of votes by comment."""
    async with store._db.read() as connection:
        rows = (await connection.execute(sa.select(feedback))).all()
    return {row.comment: dict(row._mapping) for row in rows}


async def test_votes_that_wait_go_with_their_record_whichever_of_them_comes_first(
    store: Store, clock: ManualClock
) -> None:
    now_us, rng = int(clock.now() * 1e6), random.Random(1)
    made = [exchange(now_us - 9_000_000 + n, rng, user_hash=n % 2, aliases=(f"chatcmpl-{n}",)) for n in range(4)]
    early = [
        vote(record.id, now_us, rng, source="by id", comment=f"{record.user_hash} by id {n}")
        for n, record in enumerate(made)
    ]
    early += [
        vote(None, now_us, rng, alias=f"chatcmpl-{n}", comment=f"{record.user_hash} by name {n}")
        for n, record in enumerate(made)
    ]
    await store.ingest.apply(IngestBatch(writer="w", segment=0, offset=1, votes=tuple(early)))
    await store.ingest.apply(IngestBatch(writer="w", segment=0, offset=2, records=tuple(made[:2])))
    await store.deletion.delete_user(1)
    late = vote(made[3].id, now_us, rng, comment="1 in one batch")
    applied = await store.ingest.apply(
        IngestBatch(writer="w", segment=0, offset=3, records=tuple(made[2:]), votes=(late,))
    )
    assert applied.deleted == 1
    assert sorted(await votes_of(store)) == ["0 by id 0", "0 by id 2", "0 by name 0", "0 by name 2"]


async def test_votes_in_a_users_name_on_others_records_go_on_counting_without_the_name(
    store: Store, clock: ManualClock
) -> None:
    now_us, rng = int(clock.now() * 1e6), random.Random(1)
    other = exchange(now_us - 9_000_000, rng, user_hash=2)
    said = [vote(other.id, now_us, rng, source=name, comment=f"by {name}", feedback=1) for name in ("zoe", "ann")]
    await store.ingest.apply(IngestBatch(writer="w", segment=0, offset=1, records=(other,), votes=tuple(said)))
    before = await store.traffic.feedback_window(0, now_us + 10_000_000)
    deleted = await store.deletion.delete_user(1, ["zoe"])
    assert deleted.votes == 1
    rows = await votes_of(store)
    assert {row["source"] for row in rows.values()} == {"ann", "deleted-00000001"}
    assert set(rows) == {"by ann", None}
    assert await store.traffic.feedback_window(0, now_us + 10_000_000) == before


async def test_a_deletion_is_announced_and_answered_host_by_host(store: Store, clock: ManualClock) -> None:
    first = await store.deletion.delete_user(1)
    (announced,) = await store.forgotten.all()
    assert (announced.user_hash, announced.at_us, announced.answered_by) == (1, first.at_us, set())
    places = (PlaceReport(place="spool", found=3, removed=2, remains="one, as a test"),)
    for name in ("a", "b"):
        await store.forgotten.report([announced], HostReport(id=name, host=f"h-{name}", at_us=0, places=places))
    (answered,) = await store.forgotten.all([1])
    assert answered.answered_by == {"a", "b"}
    assert answered.hosts["a"] == HostReport(id="a", host="h-a", at_us=first.at_us, places=places)
    known = await store.forgotten.newest()
    again = await store.deletion.delete_user(1)
    assert again.at_us > first.at_us
    assert await store.forgotten.newest() != known
    (anew,) = await store.forgotten.all([1])
    assert anew.answered_by == set()
    await store.forgotten.report([announced], HostReport(id="a", host="h-a", at_us=0, places=()))
    (slow,) = await store.forgotten.all([1])
    assert slow.answered_by == set(), "the answer to the earlier one is none to this"


async def test_a_later_deletion_is_later_whatever_the_clock_says(store: Store, clock: ManualClock) -> None:
    first = await store.deletion.delete_user(1)
    second = await store.deletion.delete_user(2, at_us=first.at_us - 10_000_000)
    assert second.at_us > first.at_us


async def test_what_a_training_said_is_blanked_wherever_an_earlier_version_wrote_it(
    store: Store, clock: ManualClock
) -> None:
    lease = await store.leases.acquire("loop", "test", ttl_s=60)
    assert lease is not None
    said = "f raised E: bad sample SECRET of a user; the log ends:\nreading SECRET line by line"
    ran = Run(id="run-1", state="failed", trigger="manual", started_us=1, trainer="callable", error=said)
    done = replace(
        ran, id="run-2", state="trained", error=None, result={"model_path": "/m", "loss": 0.1, "x": "SECRET"}
    )
    entry = await store.journal.intend(
        "FailRun", fence=lease.fence, who="loop", why=f"run-1 failed: {said}", run_id="run-1",
        inputs={"reasons": [f"run-1 failed: {said}"], "snapshot": {"run": {"message": said.splitlines()[0]}}},
    )  # fmt: skip
    state = {"state": {"reason": f"run-1 failed: {said}", "n": 1}}
    await store.journal.transition(
        LoopTransaction(fence=lease.fence, seq=entry.seq, outcome={"reason": said}, runs=(ran, done), state=state)
    )
    await store.models.add("m", path="/m", run_id="run-2", detail={"result": done.result, "trained_beside": 1})
    await store.runs.add_users("run-1", [1])
    await store.runs.add_users("run-2", [1])
    deleted = await store.deletion.delete_user(1)
    assert (deleted.runs, deleted.words) == (("run-1", "run-2"), 5)
    books = [await store.runs.list(), await store.journal.recent(limit=9), await store.state.all(),
             await store.models.list()]  # fmt: skip
    assert "SECRET" not in repr(books)
    kept = {run.id: run for run in await store.runs.list()}
    assert kept["run-1"].error == REMOVED
    assert kept["run-2"].result == {"model_path": "/m", "loss": 0.1, "x": REMOVED}
    assert (await store.deletion.delete_user(1)).words == 0


def raw_dictionary(records: list[NewRecord]) -> bytes:
    """As earlier versions trained it."""
    samples = [pack(record.body)[:16384] for record in records if record.body is not None]
    return zstandard.train_dictionary(112 * 1024, [*samples], k=400, d=6).as_bytes()


async def packed_by_an_earlier_version(store: Store, now_us: int) -> list[NewRecord]:
    """Records whose blocks use a dictionary of raw bodies."""
    records = list(exchanges(600, start_us=now_us - 700_000_000))
    data = raw_dictionary(records[:500])
    await store.ingest.apply(IngestBatch(writer="w", segment=0, offset=1, records=tuple(records[:400])))
    compressor = zstandard.ZstdCompressor(level=5, dict_data=zstandard.ZstdCompressionDict(data))
    async with store._db.write() as connection:
        await connection.execute(sa.insert(dictionaries).values(id=1, data=data, created_us=1))
        for row in (await connection.execute(sa.select(bodies_table))).all():
            plain = zstandard.ZstdDecompressor().decompress(row.data)
            changed = {"dictionary_id": 1, "data": compressor.compress(plain)}
            await connection.execute(sa.update(bodies_table).where(bodies_table.c.block == row.block).values(changed))
    return records


async def test_a_dictionary_of_raw_bodies_is_retired_and_every_body_stays_readable(
    store: Store, store_url: str, clock: ManualClock
) -> None:
    records = await packed_by_an_earlier_version(store, int(clock.now() * 1e6))
    fresh = await Store.open(store_url, clock=clock)  # as after the update
    await fresh.ingest.apply(IngestBatch(writer="w", segment=0, offset=2, records=tuple(records[400:])))
    assert await fresh.deletion.retire_dictionary() is True
    assert await fresh.deletion.retire_dictionary() is None
    async with fresh._db.read() as connection:
        kept = {row.id: row.data for row in await connection.execute(sa.select(dictionaries))}
        used = set(await connection.scalars(sa.select(bodies_table.c.dictionary_id)))
    assert 1 not in kept
    assert used <= {0, 2}
    questions = [record.body.query for record in records if record.body is not None and record.body.query]
    assert not any(question[:40].encode() in data for question in questions for data in kept.values())
    for opened in (fresh, store):  # the other one had loaded the old dictionary
        page = await opened.records.list(RecordFilter(), limit=1000)
        assert {row.id: row.query for row in page.rows} == {
            record.id: record.body.query for record in records if record.body is not None
        }
    await fresh.close()


@pytest.mark.parametrize("version", ["0.0.1", __version__])
async def test_it_stays_while_a_host_of_an_earlier_version_may_use_it(
    store: Store, store_url: str, clock: ManualClock, version: str
) -> None:
    await packed_by_an_earlier_version(store, int(clock.now() * 1e6))
    await store.replicas.seen("b", host="b", version=version, started_us=1, detail={})
    fresh = await Store.open(store_url, clock=clock)
    assert await fresh.deletion.retire_dictionary() is (version == __version__)
    await fresh.close()


async def test_a_model_of_a_deleted_user_keeps_its_state(store: Store, clock: ManualClock) -> None:
    await store.models.add("m", path="/m", run_id="run-1", detail={"result": {"model_path": "/m", "note": "text"}})
    await store.deletion.forget_words(["run-1"])
    (model,) = await store.models.list()
    assert (model.state, model.path, model.detail["result"]) == (
        ModelState.REGISTERED, "/m", {"model_path": "/m", "note": REMOVED}
    )  # fmt: skip


async def test_a_dictionary_has_no_word_of_a_user_who_is_deleted_later(store: Store, clock: ManualClock) -> None:
    """620 exchanges, every second one by the same user: more than enough to be learnt by heart."""
    now_us, made = int(clock.now() * 1e6), []
    for n, record in enumerate(exchanges(620, start_us=now_us - 700_000_000)):
        body = record.body
        assert body is not None
        if n % 2:
            asked = body.request.replace(b'"content":"', b'"content":"SECRETword ')
            body = replace(
                body, request=asked, response=body.response.replace(b'"content":"', b'"content":"SECRETword ')
            )
            record = replace(record, user_hash=7, body=body)
        made.append(record)
    await store.ingest.apply(IngestBatch(writer="w", segment=0, offset=1, records=tuple(made)))
    await store.deletion.delete_user(7)
    async with store._db.read() as connection:
        kept = list(await connection.scalars(sa.select(dictionaries.c.data)))
        packed = (await connection.execute(sa.select(bodies_table))).all()
        known = {row.id: row.data for row in await connection.execute(sa.select(dictionaries))}
    assert [b"SECRETword" in data for data in kept] == [False]
    assert packed
    for row in packed:
        dictionary = zstandard.ZstdCompressionDict(known.get(row.dictionary_id, b""))
        assert b"SECRETword" not in zstandard.ZstdDecompressor(dict_data=dictionary).decompress(row.data)
