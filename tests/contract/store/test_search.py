"""Searching for words: newest first, a bounded number of bodies a call, and never an answer that hides the rest."""

from __future__ import annotations

import random
from dataclasses import replace

from policies.records import Outcome
from proxy.clock import ManualClock
from proxy.store.reading.records import _SCANNED_BLOCKS, _indexed
from proxy.store.store import Store
from proxy.store.tables.values import IngestBatch, NewRecord, RecordFilter
from tests.harness.exchanges import exchange, vote

USER = 7


def saying(record: NewRecord, words: str) -> NewRecord:
    assert record.body is not None
    return replace(record, body=replace(record.body, query=words))


async def pages(store: Store, wanted: RecordFilter) -> list[tuple[list[str], str | None]]:
    """The ids on each page, and its cursor."""
    found: list[tuple[list[str], str | None]] = []
    cursor = None
    while not found or cursor is not None:
        page = await store.records.list(wanted, cursor=cursor)
        cursor = page.cursor
        found.append(([row.id for row in page.rows], cursor))
    return found


async def test_a_search_among_scattered_records_goes_on_from_page_to_page(store: Store, clock: ManualClock) -> None:
    """Each of the user's records is in a block of its own, so that every one costs the unpacking of a whole block."""
    rng = random.Random(3)
    start_us = int(clock.now() * 1e6) - 1_000_000_000
    mine = [exchange(start_us + i * 1_000_000, rng, user_hash=USER) for i in range(_SCANNED_BLOCKS + 9)]
    mine[0], mine[-1] = saying(mine[0], "Where is the BLUE door?"), saying(mine[-1], "a blue window")
    for number, record in enumerate(mine, 1):
        await store.ingest.apply(IngestBatch(writer="w", segment=0, offset=number, records=(record,)))
    found = await pages(store, RecordFilter(user_hash=USER, text="blue"))
    assert [ids for ids, _ in found] == [[mine[-1].id], [mine[0].id]]
    assert found[0][1] == mine[-_SCANNED_BLOCKS].id, "the first page says how far back it has looked"
    assert await pages(store, RecordFilter(user_hash=8, text="blue")) == [([], None)]


async def test_neighbours_share_a_block_and_are_found_at_once(store: Store, clock: ManualClock) -> None:
    rng = random.Random(4)
    start_us = int(clock.now() * 1e6) - 1_000_000_000
    several = [exchange(start_us + i * 1000, rng) for i in range(200)]
    several[5] = saying(several[5], "a green door")
    await store.ingest.apply(IngestBatch(writer="w", segment=0, offset=1, records=tuple(several)))
    assert await pages(store, RecordFilter(text="green DOOR")) == [([several[5].id], None)]


def test_what_went_wrong_is_asked_for_as_its_index_has_it() -> None:
    """A partial index is only used where its condition is recognised; numbers sent as parameters are not."""
    for wanted in (RecordFilter(status=404), RecordFilter(status=5), RecordFilter(outcome=Outcome.TIMEOUT)):
        [condition] = _indexed(wanted)
        assert condition.compile().params == {}
    assert _indexed(RecordFilter(status=200)) == []


async def test_records_are_found_by_their_ids_with_their_texts(store: Store, clock: ManualClock) -> None:
    rng = random.Random(5)
    start_us = int(clock.now() * 1e6) - 1_000_000_000
    several = [exchange(start_us + i * 60_000_000, rng, user_hash=i) for i in range(5)]
    await store.ingest.apply(IngestBatch(writer="w", segment=0, offset=1, records=tuple(several)))
    wanted = [several[3].id, several[0].id, "0" * 32, several[3].id]
    found = await store.records.rows_of(wanted)
    assert set(found) == {several[0].id, several[3].id}
    body = several[3].body
    assert body is not None
    assert (found[several[3].id].query, found[several[3].id].user_hash) == (body.query, 3)
    await store.deletion.delete_user(3)
    assert set(await store.records.rows_of(wanted)) == {several[0].id}
    assert await store.records.rows_of([]) == {}


async def test_records_are_found_by_a_tag(store: Store, clock: ManualClock) -> None:
    rng, start_us = random.Random(5), int(clock.now() * 1e6) - 1_000_000
    odd = {"x-plan": "fr'e\"e", "a.b": "1"}
    several = [exchange(start_us + i * 1000, rng, tags=(None, {"x-plan": "paid"}, odd)[i % 3]) for i in range(9)]
    await store.ingest.apply(IngestBatch(writer="w", segment=0, offset=1, records=tuple(several)))
    for tag in (("x-plan", "fr'e\"e"), ("a.b", "1")):
        [(found, _)] = await pages(store, RecordFilter(tag=tag))
        assert found == [record.id for record in reversed(several[2::3])]
    assert await pages(store, RecordFilter(tag=("x-plan", "none"))) == [([], None)]
    view = await store.records.get(several[2].id)
    assert view is not None
    assert view.row.tags == odd


async def test_records_are_found_by_a_tag_that_a_vote_gave_until_its_source_takes_it_away(
    store: Store, clock: ManualClock
) -> None:
    rng, start_us = random.Random(6), int(clock.now() * 1e6) - 1_000_000
    several = [exchange(start_us + i * 1000, rng, tags={"x-plan": "paid"} if i == 2 else None) for i in range(3)]
    first, second, third = (record.id for record in several)
    quiet = {"feedback": None, "source": "ann"}
    votes = [
        vote(first, start_us + 5000, rng, **quiet, tags={"topic": "returns", "odd": "yes"}),
        vote(second, start_us + 6000, rng, **quiet, tags={"topic": "returns"}),
        vote(second, start_us + 7000, rng, **quiet | {"source": "bob"}, tags={"topic": "returns"}),
        vote(second, start_us + 8000, rng, **quiet, tags={"topic": "parts"}),
        vote(first, start_us + 9000, rng, **quiet, tags={"topic": ""}),
        vote(third, start_us + 9000, rng, **quiet, tags={"x-plan": "free"}),
    ]
    await store.ingest.apply(IngestBatch(writer="w", segment=0, offset=1, records=tuple(several), votes=tuple(votes)))

    async def found(name: str, value: str) -> list[str]:
        [(ids, _)] = await pages(store, RecordFilter(tag=(name, value)))
        return ids

    assert await found("topic", "returns") == [second], "bob's holds; ann's is another by now, and taken away"
    assert await found("topic", "parts") == [second]
    assert await found("odd", "yes") == [first]
    assert await found("x-plan", "paid") == await found("x-plan", "free") == [third]
