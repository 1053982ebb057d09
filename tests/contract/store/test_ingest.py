"""Records get in exactly once, whatever is delivered twice, and come out as they went in."""

from __future__ import annotations

import asyncio
import random
from dataclasses import fields, replace
from typing import Any

import pytest

from policies.records import Arm, Outcome, StickySource
from proxy.clock import ManualClock
from proxy.errors import TemporaryError
from proxy.store.store import Store
from proxy.store.tables.values import BodyPayload, IngestBatch, NewRecord, RecordFilter, RecordFlag
from tests.harness.exchanges import exchange, exchanges, vote


def batch(*records: NewRecord, offset: int = 100, writer: str = "w0-1-1", segment: int = 0) -> IngestBatch:
    return IngestBatch(writer=writer, segment=segment, offset=offset, records=records)


async def test_a_record_comes_out_as_it_went_in(store: Store, clock: ManualClock) -> None:
    model = await store.models.add("champion")
    record = exchange(
        int(clock.now() * 1e6),
        random.Random(7),
        model_id=model.id,
        user_hash=-(2**63),
        arm=Arm.CHALLENGER,
        served_by=Arm.CHAMPION,
        flags=RecordFlag.FALLBACK | RecordFlag.STREAMED,
        experiment_id=3,
        epoch=2,
        kind="a kind of its own",
        method="PROPFIND",
        key_source=StickySource.FIRST_MESSAGE,
        scores={"judge": 0.25},
    )
    applied = await store.ingest.apply(batch(record))
    assert [r.id for r in applied.records] == [record.id]
    view = await store.records.get(record.id)
    assert view is not None
    assert view.body == record.body
    assert view.row.model_name == "champion"
    assert view.row.flags == record.flags, "what is not known to be the words of a model is no sample"
    assert view.scores == {"judge": 0.25, "heuristic": record.quality}
    same = {f.name for f in fields(view.row)} & {f.name for f in fields(record)} - {"flags"}
    assert {name: getattr(view.row, name) for name in same} == {name: getattr(record, name) for name in same}


async def test_a_number_that_no_column_holds_is_refused_for_good(store: Store, clock: ManualClock) -> None:
    """Not as what passes by itself: ingest would try the batch for ever instead of looking for the culprit."""
    good, bad = exchanges(2, start_us=int(clock.now() * 1e6))
    with pytest.raises(Exception) as refused:
        await store.ingest.apply(batch(good, replace(bad, duration_us=2**63)))
    assert not isinstance(refused.value, TemporaryError | OSError)
    assert await store.records.get(good.id) is None
    assert len((await store.ingest.apply(batch(good))).records) == 1


async def test_a_record_that_another_spool_brought_meanwhile_is_no_fault(store_url: str, clock: ManualClock) -> None:
    """Two controllers store the same record at once, each from a spool of its own (a copied disk): one copy is kept."""
    [record] = exchanges(1, start_us=int(clock.now() * 1e6))
    stores = [await Store.open(store_url, clock=clock) for _ in range(2)]
    first = batch(record, writer="w0-1-1-a"), batch(record, writer="w0-1-1-b")

    async def stored(store: Store, one: IngestBatch) -> int:
        for _ in range(20):
            try:
                return len((await store.ingest.apply(one)).records)
            except TemporaryError:
                continue
        raise AssertionError("it never got in")

    counts = await asyncio.gather(*(stored(store, one) for store, one in zip(stores, first, strict=True)))
    assert sorted(counts) == [0, 1]
    assert (await stores[0].traffic.totals()).requests == 1
    for store in stores:
        await store.close()


async def test_a_batch_that_is_cancelled_anywhere_is_in_whole_or_not_at_all(store: Store, clock: ManualClock) -> None:
    """At every await of the transaction in turn, the copying of rows included; the connection is of use afterwards."""
    now_us = int(clock.now() * 1e6)
    rng = random.Random(6)
    expected = 0
    for turns in range(0, 120, 5):
        made = tuple(exchanges(3, start_us=now_us + turns, seed=turns))
        one = IngestBatch(writer="w", segment=0, offset=turns + 1, records=made, votes=(vote(made[0].id, now_us, rng),))
        attempt = asyncio.create_task(store.ingest.apply(one))
        for _ in range(turns):
            await asyncio.sleep(0)
        attempt.cancel()
        await asyncio.gather(attempt, return_exceptions=True)
        await store.ingest.apply(one)  # nothing is left open that would hold it
        expected += 3
        assert (await store.traffic.totals()).requests == expected
        view = await store.records.get(made[0].id)
        assert view is not None
        assert (view.body, view.row.feedback) == (made[0].body, 1.0)


async def test_what_only_some_of_a_batch_have_is_kept(store: Store, clock: ManualClock) -> None:
    """A column that is empty in all of them is left out of the statement, and no other."""
    now_us = int(clock.now() * 1e6)
    rng = random.Random(8)
    some: dict[str, Any] = {"conversation": 5, "ttft_us": 0, "quality": 0.0, "tags": {"team": "a"}, "prompt_key": -1}
    none: dict[str, Any] = dict.fromkeys(some)
    for order in ((none, some, none), (some, none), (none, none)):
        made = tuple(exchange(now_us := now_us + 1000, rng, **given) for given in order * 50)
        await store.ingest.apply(IngestBatch(writer="", segment=0, offset=0, records=made))
        for record in (*made[:3], *made[-3:]):
            view = await store.records.get(record.id)
            assert view is not None
            assert [getattr(view.row, name) for name in some] == [getattr(record, name) for name in some]


async def test_bytes_that_are_no_text_come_out_unchanged(store: Store, clock: ManualClock) -> None:
    body = BodyPayload(
        method="POST", target="/x?\u00ff", request=bytes(range(256)) * 9, response=b"\x00\xff", query="\x00 a"
    )
    record = exchange(int(clock.now() * 1e6), random.Random(1), body=body, kind="nul\x00")
    await store.ingest.apply(batch(record))
    view = await store.records.get(record.id)
    assert view is not None
    assert (view.body, view.row.kind) == (body, "nul")


async def test_a_batch_delivered_twice_counts_once(store: Store, clock: ManualClock) -> None:
    records = tuple(exchanges(20, start_us=int(clock.now() * 1e6)))
    first = await store.ingest.apply(batch(*records))
    again = await store.ingest.apply(batch(*records))
    assert (len(first.records), first.duplicates) == (20, 0)
    assert (again.records, again.duplicates) == ((), 20)
    assert (await store.traffic.totals()).requests == 20
    assert await store.spools.positions() == {"w0-1-1": (0, 100)}


async def test_a_record_delivered_by_two_spools_counts_once(store: Store, clock: ManualClock) -> None:
    one, two, three = exchanges(3, start_us=int(clock.now() * 1e6))
    await store.ingest.apply(batch(one, two))
    applied = await store.ingest.apply(batch(two, three, writer="w1-2-2"))
    assert ([r.id for r in applied.records], applied.duplicates) == ([three.id], 1)
    assert (await store.traffic.totals()).requests == 3
    page = await store.records.list(RecordFilter())
    assert [row.id for row in page.rows] == [three.id, two.id, one.id]
    assert [row.query for row in page.rows] == [r.body.query for r in (three, two, one) if r.body]


async def test_a_position_only_moves_forward(store: Store, clock: ManualClock) -> None:
    one, two = exchanges(2, start_us=int(clock.now() * 1e6))
    await store.ingest.apply(batch(one, segment=2, offset=10))
    applied = await store.ingest.apply(batch(two, segment=1, offset=999))
    assert (applied.records, applied.duplicates) == ((), 1)
    assert await store.records.get(two.id) is None
    await store.spools.forget(["w0-1-1"])
    assert await store.spools.positions() == {}


async def test_batches_of_two_spools_at_the_same_time_are_all_kept(store: Store, clock: ManualClock) -> None:
    await store.models.add("champion")
    start_us = int(clock.now() * 1e6)
    spools = {f"w{i}-1-1": tuple(exchanges(60, start_us=start_us, seed=i)) for i in range(4)}

    async def ship(writer: str) -> None:
        for n in range(0, 60, 20):
            await store.ingest.apply(batch(*spools[writer][n : n + 20], writer=writer, offset=n + 20))

    await asyncio.gather(*(ship(writer) for writer in spools))
    assert (await store.traffic.totals()).requests == 240
    assert len((await store.records.list(RecordFilter(), limit=1000, texts=True)).rows) == 240


async def test_records_of_many_days_get_in_together(store: Store, clock: ManualClock) -> None:
    day_us = 86_400_000_000
    records = tuple(exchanges(10, start_us=int(clock.now() * 1e6) - 30 * day_us, step_us=5 * day_us))
    await store.ingest.apply(batch(*records))
    assert len((await store.records.list(RecordFilter())).rows) == 10


async def test_a_record_is_found_by_the_providers_and_the_clients_id(store: Store, clock: ManualClock) -> None:
    now_us = int(clock.now() * 1e6)
    old = exchange(now_us, random.Random(1), aliases=("chatcmpl-1", "request-7"))
    new = exchange(now_us + 5_000_000, random.Random(2), aliases=("request-7",))
    await store.ingest.apply(batch(old, new))
    found = {name: await store.records.get(name) for name in ("chatcmpl-1", "request-7", "request-8", old.id.upper())}
    assert {name: view and view.row.id for name, view in found.items()} == {
        "chatcmpl-1": old.id,
        "request-7": new.id,
        "request-8": None,
        old.id.upper(): old.id,
    }


async def test_an_exchange_without_a_body_is_a_record_all_the_same(store: Store, clock: ManualClock) -> None:
    record = exchange(
        int(clock.now() * 1e6), random.Random(1), body=None, status=0, outcome=Outcome.TIMEOUT, quality=None
    )
    await store.ingest.apply(batch(record))
    view = await store.records.get(record.id)
    assert view is not None
    assert (view.body, view.row.quality, view.row.outcome) == (None, None, Outcome.TIMEOUT)
    assert not view.row.flags & RecordFlag.SAMPLE


async def test_a_batch_without_a_writer_moves_no_position(store: Store, clock: ManualClock) -> None:
    one, two = exchanges(2, start_us=int(clock.now() * 1e6))
    await store.ingest.apply(IngestBatch(writer="", segment=0, offset=0, records=(one,)))
    await store.ingest.apply(IngestBatch(writer="", segment=0, offset=0, records=(two,), votes=()))
    assert (await store.traffic.totals()).requests == 2
    assert await store.spools.positions() == {}


async def test_a_dictionary_is_learnt_and_old_bodies_stay_readable(store_url: str, clock: ManualClock) -> None:
    records = list(exchanges(1100, start_us=int(clock.now() * 1e6)))
    store = await Store.open(store_url, clock=clock)
    for n in range(0, 900, 300):
        await store.ingest.apply(batch(*records[n : n + 300], offset=n + 1))
    await store.close()
    reopened = await Store.open(store_url, clock=clock)
    await reopened.ingest.apply(batch(*records[900:], offset=1000))
    for record in (records[0], records[299], records[600], records[899], records[1099]):
        view = await reopened.records.get(record.id)
        assert view is not None
        assert view.body == record.body
    await reopened.close()


async def test_a_failed_batch_leaves_nothing_behind(store: Store, clock: ManualClock) -> None:
    now_us = int(clock.now() * 1e6)
    good = exchange(now_us, random.Random(1))
    bad = replace(exchange(now_us, random.Random(2)), status=2**70)  # fits no column
    ballot = vote(good.id, now_us, random.Random(3))
    with pytest.raises(Exception, match="int"):  # the driver's own: what matters is what is left
        await store.ingest.apply(replace(batch(good, bad), votes=(ballot,)))
    assert await store.records.get(good.id) is None
    assert await store.spools.positions() == {}
    applied = await store.ingest.apply(replace(batch(good), votes=(ballot,)))
    assert (len(applied.records), len(applied.votes), applied.parked) == (1, 1, 0)
