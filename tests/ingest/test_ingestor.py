"""From spool files to rows: exactly once, in order, whatever the store or a frame does. Real files, real SQLite."""

import asyncio
import gzip
import random
import sqlite3
import tracemalloc
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from prometheus_client.registry import CollectorRegistry

from proxy.clock import Clock, ManualClock, SystemClock
from proxy.config import parse_config
from proxy.config.serving import SpoolConfig
from proxy.errors import PermanentError, TemporaryError
from proxy.ingest import IngestMetrics, Ingestor
from proxy.ingest.ingestor import REJECTED_FILE
from proxy.ingest.ledger import LEDGER_FILE
from proxy.loop.act.install import BaseModel, first_model, first_state
from proxy.metrics.traffic import TrafficMetrics
from proxy.spool import SpoolReader, SpoolWriter
from proxy.spool.frames import KIND_EXCHANGE, decode_payload, encode_frame, iter_frames
from proxy.store.engine.database import Database
from proxy.store.engine.refusals import RefusalKind, StoreAwayError
from proxy.store.store import Store
from proxy.store.tables.values import RecordFilter
from tests.harness.exchanges import exchanges, new_id
from tests.harness.frames import exchange_frame, feedback_frame, of_record
from tests.harness.tables import sqlite_with_tables

NOW_US = 1_760_000_000_000_000
BATCH = 20


class Setup:
    """One host: a spool, a store, and ingestors on them."""

    base = BaseModel(name="first", url="http://localhost:1")

    def __init__(self, directory: Path, store: Store) -> None:
        self.directory = directory
        self.spool = directory / "spool"
        self.store = store
        self.writers: list[SpoolWriter] = []
        self.ingestor()

    def ingestor(self, clock: Clock | None = None, told: Any = None, on_hurry: Any = None, **settings: Any) -> Ingestor:
        """A fresh one, as after a restart of the controller."""
        self.registry = CollectorRegistry()
        config = parse_config({"champion": {"url": "http://localhost:1"}, "store": {"ingest_batch": BATCH} | settings})
        return Ingestor(config, self.store, SpoolReader(self.spool), TrafficMetrics(self.registry),
                        clock or SystemClock(), metrics=IngestMetrics(self.registry), first_model=self.first_model,
                        on_hurry=on_hurry, told=told, user_hash=len)  # fmt: skip

    async def first_model(self) -> int:
        return (await first_model(self.store, self.base)).id

    def writer(self, index: int = 0, **settings: Any) -> SpoolWriter:
        writer = SpoolWriter(self.spool, SpoolConfig(fsync="never", **settings), index=index)
        self.writers.append(writer)
        return writer

    def count(self, name: str, **labels: str) -> float:
        """A counter's value; with labels left out, the sum over them."""
        return sum(
            sample.value
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    async def ids(self) -> list[str]:
        page = await self.store.records.list(RecordFilter(), limit=1000)
        return sorted(row.id for row in page.rows)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = await Store.open(sqlite_with_tables(tmp_path / "ratchet.db"), clock=SystemClock(), busy_timeout_s=0.05)
    yield store
    await store.close()


@pytest.fixture
def host(tmp_path: Path, store: Store) -> Iterator[Setup]:
    setup = Setup(tmp_path, store)
    yield setup
    for writer in setup.writers:
        writer.close()


def frames(n: int, seed: int = 1) -> dict[str, bytes]:
    """`n` exchanges by record id, in order."""
    return {record.id: of_record(record) for record in exchanges(n, start_us=NOW_US, seed=seed)}


async def drain(ingestor: Ingestor) -> int:
    total = 0
    while stored := await ingestor.run_once():
        total += stored
    return total


async def test_everything_arrives_once_and_the_spool_is_emptied(host: Setup) -> None:
    written = frames(50)
    writer = host.writer(segment_bytes=20_000)
    for frame in written.values():
        writer.append(frame)
    ingestor = host.ingestor()
    assert await drain(ingestor) == 50
    assert await host.ids() == list(written)
    view = await host.store.records.get(next(iter(written)))
    assert view is not None
    assert view.row.response_text
    assert host.count("ratchet_requests_total") == host.count("ratchet_ingest_records_total") == 50
    assert len(list(host.spool.glob("*/*.seg"))) == 1, "finished segments are deleted while their writer lives"
    writer.close()
    assert await ingestor.run_once() == 0
    assert list(host.spool.iterdir()) == [], "and all of a dead one"
    assert await host.store.spools.positions() == {}


async def test_writers_are_read_side_by_side(host: Setup) -> None:
    first, second = frames(30, seed=1), frames(30, seed=2)
    one, two = host.writer(0), host.writer(1)
    for a, b in zip(first.values(), second.values(), strict=True):
        one.append(a)
        two.append(b)
    assert await drain(host.ingestor()) == 60
    assert await host.ids() == sorted([*first, *second])


async def test_a_writer_that_cannot_be_read_holds_up_no_other_and_is_told(host: Setup) -> None:
    """As a folder of root's is, where somebody once started the server as root."""
    written = frames(30)
    writer = host.writer(segment_bytes=65_536)
    for frame in written.values():
        writer.append(frame)
    (host.spool / writer.name / "0000000001 (copy).seg").write_bytes(b"somebody's copy")
    ill = host.spool / "w0-1-1-00000000"
    ill.mkdir()
    (ill / "lock").symlink_to("lock")  # ELOOP, for root, too
    heard: list[tuple[BaseException | None, bool]] = []
    stop = asyncio.Event()

    def told(exc: BaseException | None, *, wrote: bool) -> None:
        heard.append((exc, wrote))
        if len(heard) > 1:
            stop.set()

    async with asyncio.timeout(120):
        await host.ingestor(told=told, ingest_interval_seconds=0.01).run(stop)
    assert await host.ids() == list(written)
    assert [(type(exc), wrote) for exc, wrote in heard[:2]] == [(OSError, True), (OSError, True)]
    with pytest.raises(OSError, match="symbolic links"):
        await drain(host.ingestor())


async def test_the_note_of_a_time_when_segments_were_kept_goes_where_none_are(host: Setup) -> None:
    """Kept, it would say of spools that the database has forgotten since that they were lost."""
    host.spool.mkdir(exist_ok=True)
    note = host.spool / LEDGER_FILE
    note.write_text('{"w0-1-1-00000000": {"segment": 1, "offset": 900, "frames": 5, "at_us": 1, "starts": {"1": 0}}}')
    assert await drain(host.ingestor()) == 0
    assert not note.exists()
    assert host.count("ratchet_ingest_not_fed_again_total") == 0


async def test_a_restart_between_any_two_batches_changes_nothing(host: Setup) -> None:
    written = frames(50)
    writer = host.writer()
    for frame in written.values():
        writer.append(frame)
    while await host.ingestor().run_once():
        pass
    assert await host.ids() == list(written)
    assert (await host.store.traffic.totals()).requests == 50


async def test_a_commit_whose_answer_was_lost_is_not_repeated(host: Setup) -> None:
    """The task is cancelled somewhere in the middle of committing, again and again."""
    written = frames(60)
    writer = host.writer()
    for frame in written.values():
        writer.append(frame)
    ingestor = host.ingestor()
    for delay_ms in range(0, 40, 2):
        attempt = asyncio.create_task(ingestor.run_once())
        await asyncio.sleep(delay_ms / 1000)
        attempt.cancel()
        await asyncio.gather(attempt, return_exceptions=True)
    while True:
        try:
            if not await ingestor.run_once():
                break
        except TemporaryError:  # the cancelled transaction is still rolling back
            await asyncio.sleep(0.01)
    assert await host.ids() == list(written)
    assert (await host.store.traffic.totals()).requests == 60


async def test_a_locked_store_costs_time_and_nothing_else(host: Setup, tmp_path: Path) -> None:
    written = frames(30)
    writer = host.writer()
    for frame in written.values():
        writer.append(frame)
    ingestor = host.ingestor(ingest_interval_seconds=0.02)
    with sqlite3.connect(tmp_path / "ratchet.db", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(TemporaryError):
            await ingestor.run_once()
        stop = asyncio.Event()
        running = asyncio.create_task(ingestor.run(stop))
        while host.count("ratchet_ingest_retries_total") < 2:
            await asyncio.sleep(0.01)
        assert await host.ids() == []
        other.execute("ROLLBACK")
    other.close()
    while host.count("ratchet_ingest_records_total") < 30:
        await asyncio.sleep(0.01)
    stop.set()
    await asyncio.wait_for(running, 300)
    assert await host.ids() == list(written)


async def test_votes_find_their_record_in_whichever_order(host: Setup) -> None:
    rng = random.Random(3)
    (first, frame), (second, other) = frames(2).items()
    vote = {"fid": new_id(NOW_US, rng), "id": first, "alias": None, "feedback": 1, "source": "u"}
    late = {"fid": new_id(NOW_US, rng), "id": second, "alias": None, "feedback": -1, "source": "u"}
    writer = host.writer()
    writer.append(feedback_frame(NOW_US, vote))
    ingestor = host.ingestor()
    assert await ingestor.run_once() == 1
    for data in (frame, other, feedback_frame(NOW_US, late), feedback_frame(NOW_US, late)):
        writer.append(data)
    assert await drain(ingestor) == 4
    rows = {row.id: row.feedback for row in (await host.store.records.list(RecordFilter())).rows}
    assert rows == {first: 1.0, second: -1.0}
    assert host.count("ratchet_feedback_total", feedback="positive") == 1
    assert host.count("ratchet_feedback_total", feedback="negative") == 1
    assert (host.count("ratchet_ingest_parked_votes_total"), host.count("ratchet_ingest_duplicates_total")) == (1, 1)


UNREADABLE = {
    "no facts": encode_frame(KIND_EXCHANGE, {"nonsense": 1}, b"asked", b"answered"),
    "no object": encode_frame(KIND_EXCHANGE, orjson.loads('["an", {"x": "array"}]'), b"asked", b"answered"),
    "unknown kind": encode_frame(77, {"t": NOW_US}, b"asked", b"answered"),
    "bad arm": exchange_frame(new_id(NOW_US, random.Random(8)), b"asked", b"answered", arm=9),
    "bad votes": feedback_frame(NOW_US, {"fid": "no hex"}),
}


async def test_words_that_are_nested_too_deeply_hold_up_nothing(host: Setup) -> None:
    """orjson reads 1024 levels and writes 254; Python writes fewer than a thousand. No user is found in them."""
    deep = new_id(NOW_US + 500_000, random.Random(8))
    facts = decode_payload(exchange_frame(deep, b"", b"")).meta
    del facts["key"], facts["src"]
    before, after = frames(2).items()
    writer = host.writer()
    asked = b'{"messages":[{"role":"user","content":%b}]}' % (b"[" * 1015 + b"]" * 1015)
    for frame in (before[1], encode_frame(KIND_EXCHANGE, facts, asked, b"{}"), after[1]):
        writer.append(frame)
    assert await drain(host.ingestor()) == 3
    assert await host.ids() == sorted([before[0], after[0], deep])


@pytest.mark.parametrize("case", UNREADABLE)
async def test_a_frame_without_sense_is_kept_raw_and_holds_up_nothing(host: Setup, case: str) -> None:
    before, after = frames(2).items()
    writer = host.writer()
    for frame in (before[1], UNREADABLE[case], after[1]):
        writer.append(frame)
    assert await drain(host.ingestor()) == 3
    [raw] = [name for name in await host.ids() if name not in (before[0], after[0])]
    view = await host.store.records.get(raw)
    assert view is not None
    assert view.row.kind == "other"
    assert view.body is not None
    assert view.body.error
    assert (view.body.request, view.body.response) == (b"asked", b"answered") or case == "bad votes"
    assert host.count("ratchet_ingest_raw_total", reason="unreadable") == 1


async def test_a_frame_that_the_store_refuses_is_found_and_the_rest_kept(host: Setup) -> None:
    """A number that no integer column holds: the whole transaction fails, the batch is halved until it is alone."""
    written = frames(15)
    poison = new_id(NOW_US + 700_000, random.Random(9))
    writer = host.writer()
    for position, frame in enumerate(written.values()):
        if position == 7:
            writer.append(exchange_frame(poison, b"asked", b"answered", dur=2**63, rh={}, sh={}))
        writer.append(frame)
    assert await drain(host.ingestor()) == 16
    assert await host.ids() == sorted([*written, poison])
    view = await host.store.records.get(poison)
    assert view is not None
    assert view.body is not None
    assert (view.body.request, view.row.duration_us) == (b"asked", 0)
    assert host.count("ratchet_ingest_raw_total") == host.count("ratchet_ingest_raw_total", reason="refused") == 1
    assert (await host.store.traffic.totals()).requests == 16


async def test_a_frame_that_is_refused_in_any_form_is_set_aside(host: Setup, tmp_path: Path) -> None:
    """A trigger in the database refuses one record whatever is in it, as a full partition or a broken index might."""
    written = frames(5)
    refused = list(written)[2]
    frame = decode_payload(written[refused])
    del frame.meta["key"], frame.meta["src"]
    asked = orjson.dumps({"user": "ada"})
    written[refused] = encode_frame(KIND_EXCHANGE, frame.meta, asked, frame.response)
    with sqlite3.connect(tmp_path / "ratchet.db") as other:
        other.execute(f"CREATE TRIGGER no BEFORE INSERT ON records WHEN hex(NEW.id) = '{refused.upper()}' "
                      "BEGIN SELECT RAISE(ABORT, 'not this one'); END")  # fmt: skip
    other.close()
    writer = host.writer()
    for frame in written.values():
        writer.append(frame)
    ingestor = host.ingestor()
    assert await drain(ingestor) == 5
    assert await host.ids() == [name for name in written if name != refused]
    [(kept, _)] = iter_frames((host.spool / REJECTED_FILE).read_bytes())
    assert kept.meta["id"] == refused
    assert (kept.meta["key"], kept.meta["src"]) == (len("ada"), "body"), (
        "it is deleted with its user, and with nobody else"
    )
    assert host.count("ratchet_ingest_rejected_total") == 1


async def test_a_store_that_refuses_everything_is_no_frames_fault(host: Setup, tmp_path: Path) -> None:
    written = frames(5)
    writer = host.writer()
    for frame in written.values():
        writer.append(frame)
    statement = "CREATE TRIGGER no BEFORE {} ON spool_positions BEGIN SELECT RAISE(ABORT, 'out of order'); END"
    with sqlite3.connect(tmp_path / "ratchet.db") as other:
        other.execute(statement.format("INSERT"))
    ingestor = host.ingestor()
    with pytest.raises(PermanentError, match="out of order"):
        await ingestor.run_once()
    assert not (host.spool / REJECTED_FILE).exists()
    with other:
        other.execute("DROP TRIGGER no")
    other.close()
    assert await drain(ingestor) == 5
    assert await host.ids() == list(written)


async def test_votes_that_a_racing_replica_left_parked_are_joined(host: Setup, tmp_path: Path) -> None:
    """Another replica committed the record between our look for it and our commit of the vote."""
    [(record_id, frame)] = frames(1).items()
    vote = {"fid": new_id(NOW_US, random.Random(3)), "id": record_id, "alias": None, "feedback": 1, "source": "u"}
    host.writer().append(feedback_frame(NOW_US, vote))
    clock = ManualClock()
    ingestor = host.ingestor(clock)
    await ingestor.run_once()
    elsewhere = await Store.open(f"sqlite:///{tmp_path}/other.db", clock=clock)
    replica = Setup(tmp_path / "replica", elsewhere)
    replica.writer().append(frame)
    await drain(replica.ingestor())
    await elsewhere.close()
    replica.writers[0].close()
    with sqlite3.connect(tmp_path / "ratchet.db") as ours:
        ours.execute("ATTACH ? AS other", (str(tmp_path / "other.db"),))
        ours.execute("INSERT INTO records SELECT * FROM other.records")
    ours.close()
    await ingestor.run_once()
    assert [row.feedback for row in (await host.store.records.list(RecordFilter())).rows] == [None]
    clock.advance(60)
    await ingestor.run_once()
    assert [row.feedback for row in (await host.store.records.list(RecordFilter())).rows] == [1.0]


async def test_torn_bytes_are_skipped_and_counted(host: Setup) -> None:
    written = frames(3)
    writer = host.writer()
    for frame in written.values():
        writer.append(frame)
    writer.close()
    [segment] = host.spool.glob("*/*.seg")
    with segment.open("ab") as file:
        file.write(next(iter(frames(1, seed=5).values()))[:100])
    assert await drain(host.ingestor()) == 3
    assert host.count("ratchet_ingest_skipped_bytes_total") == 100


async def test_run_ends_when_told_and_leaves_the_rest_for_the_next(host: Setup) -> None:
    writer = host.writer()
    stop = asyncio.Event()
    ingestor = host.ingestor(ingest_interval_seconds=0.01)
    running = asyncio.create_task(ingestor.run(stop))
    written = frames(45)
    for frame in written.values():
        writer.append(frame)
    while host.count("ratchet_ingest_records_total") < 45:
        await asyncio.sleep(0.01)
    stop.set()
    await asyncio.wait_for(running, 300)
    assert host.count("ratchet_ingest_batches_total") >= 3


async def test_a_backlog_of_large_frames_is_not_waited_for(host: Setup) -> None:
    """A round takes some 4 MiB, which is less than a full batch of these; there must be no pause between rounds."""
    writer = host.writer()
    for record_id in frames(12):
        writer.append(exchange_frame(record_id, random.Random(record_id).randbytes(700_000), b""))
    stop = asyncio.Event()
    running = asyncio.create_task(host.ingestor(ingest_interval_seconds=3600.0).run(stop))
    while host.count("ratchet_ingest_records_total") < 12:
        await asyncio.sleep(0.01)
    stop.set()
    await asyncio.wait_for(running, 300)
    assert host.count("ratchet_ingest_batches_total") > 1


async def test_a_backlog_of_large_frames_behind_small_ones_is_not_waited_for(host: Setup) -> None:
    """They come in pieces of the file that hold many small frames, and not one of these."""
    writer, stop = host.writer(), asyncio.Event()
    ingestor = host.ingestor(ingest_interval_seconds=3600.0)
    small, large = list(frames(5, seed=1)), list(frames(5, seed=2))
    for record_id in small:
        writer.append(exchange_frame(record_id, b"{}", b"{}"))
    assert await ingestor.run_once() == 5
    for record_id in large:
        writer.append(exchange_frame(record_id, random.Random(record_id).randbytes(1_500_000), b""))
    running = asyncio.create_task(ingestor.run(stop))
    try:
        async with asyncio.timeout(20):
            while host.count("ratchet_ingest_records_total") < 10:
                await asyncio.sleep(0.01)
    finally:
        stop.set()
        await asyncio.wait_for(running, 300)


async def test_a_backlog_of_many_small_segments_is_not_waited_for(host: Setup) -> None:
    """A round takes one segment of a writer: with a pause behind each, a spool of small ones would only ever grow."""
    writer = host.writer(segment_bytes=65_536)
    for record_id in frames(12):
        writer.append(exchange_frame(record_id, random.Random(record_id).randbytes(40_000), b""))
    stop = asyncio.Event()
    running = asyncio.create_task(host.ingestor(ingest_interval_seconds=3600.0).run(stop))
    async with asyncio.timeout(120):
        while host.count("ratchet_ingest_records_total") < 12:
            await asyncio.sleep(0.01)
    stop.set()
    await asyncio.wait_for(running, 300)


async def test_a_backlog_that_grows_ends_the_rests_until_it_is_stored(host: Setup) -> None:
    """Two looks at it, five seconds apart, see more each time; what comes in while all else is stored is none."""
    writer, clock, heard = host.writer(), ManualClock(), list[bool]()
    ingestor = host.ingestor(clock, on_hurry=heard.append)

    async def later(arrived: int) -> None:
        for record_id in frames(arrived):
            writer.append(exchange_frame(record_id, b"{}", b"{}"))
        clock.advance(5.0)
        await ingestor.run_once()

    await later(2 * BATCH)
    await later(BATCH)
    assert heard == []
    await later(2 * BATCH)
    assert heard == [True]
    await drain(ingestor)
    await later(1)
    assert heard == [True, False]


async def test_positions_of_other_hosts_are_left_alone(host: Setup) -> None:
    """A store shared by several hosts knows spools that are not on this disk."""
    elsewhere = Setup(host.directory / "elsewhere", host.store)
    writer = elsewhere.writer(7)
    for frame in frames(2).values():
        writer.append(frame)
    await drain(elsewhere.ingestor())
    assert await drain(host.ingestor()) == 0
    assert list(await host.store.spools.positions()) == [writer.name]
    writer.close()


async def test_what_one_transaction_holds_is_bounded_in_bytes_not_in_records(host: Setup) -> None:
    """Thirty small frames of four megabytes each, once they are unpacked."""
    packed = gzip.compress(
        b'{"messages": [{"role": "user", "content": "' + bytes(4 << 20).replace(b"\0", b"a") + b'"}]}'
    )
    writer = host.writer()
    ids = sorted(new_id(NOW_US + n, random.Random(n)) for n in range(30))
    for record_id in ids:
        headers = {"content-type": "application/json", "content-encoding": "gzip"}
        writer.append(exchange_frame(record_id, packed, b"{}", rh=headers))
    ingestor = host.ingestor(ingest_batch=1000)
    tracemalloc.start()
    try:
        assert await drain(ingestor) == 30
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert await host.ids() == ids
    assert host.count("ratchet_ingest_batches_total") >= 10
    assert peak < 80 << 20


async def test_many_writers_are_read_in_turn(host: Setup) -> None:
    """Each has more than a round takes of all together, and none of them waits for another to be empty."""
    for index in range(8):
        writer = host.writer(index)
        for n in range(6):
            writer.append(exchange_frame(new_id(NOW_US, random.Random(10 * index + n)), bytes(1 << 20), b"{}"))
    reader = SpoolReader(host.spool)
    taken = [{batch.writer for batch in reader.poll({}, max_frames=1000)} for _ in range(3)]
    assert all(len(writers) < 8 for writers in taken)
    assert len(set.union(*taken)) == 8


async def test_records_of_an_installations_first_seconds_know_their_model(host: Setup) -> None:
    """Workers serve before the loop has given the configured champion its number: 0 is not what its readers ask for."""
    early = [replace(record, model_id=0) for record in exchanges(BATCH + 5, start_us=NOW_US)]
    later = [replace(record, model_id=77) for record in exchanges(3, start_us=NOW_US + 10**9, seed=2)]
    writer = host.writer()
    for record in (*early, *later):
        writer.append(of_record(record))
    writer.append(encode_frame(KIND_EXCHANGE, {"id": f"{5:032x}"}))
    assert await drain(host.ingestor()) == len(early) + len(later) + 1
    state = await first_state(host.store, host.base, NOW_US / 1e6, 0)
    [model] = await host.store.models.list()
    assert state.ledger.champion_id == model.id > 0
    page = await host.store.records.list(RecordFilter(model_id=model.id), limit=1000)
    assert {row.id for row in page.rows} == {record.id for record in early}
    totals = await host.store.traffic.totals(model_id=model.id)
    assert totals.requests == len(early)


@pytest.mark.parametrize("committed", [True, False])
async def test_a_batch_whose_commit_is_not_confirmed_is_counted_once(
    host: Setup, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    """The connection is lost as it is committed: the position tells afterwards whether it was."""
    writer, ingestor = host.writer(), host.ingestor()
    rng = random.Random(3)
    for number in range(3):
        writer.append(exchange_frame(new_id(NOW_US + number, rng), b"asked", b"answered"))
    whole, lost = Database.transact, StoreAwayError("the connection was lost", RefusalKind.AWAY)

    async def cut(self: Database, work: Callable[[Any], Coroutine[Any, Any, Any]]) -> Any:
        async def cut_off(connection: Any) -> Any:
            result = await work(connection)
            if not committed:
                raise lost
            return result

        await whole(self, cut_off)
        raise lost

    with monkeypatch.context() as patch:
        patch.setattr(Database, "transact", cut)
        with pytest.raises(TemporaryError):
            await ingestor.run_once()
    assert len(await host.ids()) == (3 if committed else 0)
    for _ in range(2):
        await ingestor.run_once()
    assert len(await host.ids()) == 3
    assert host.count("ratchet_requests_total") == 3
    assert host.count("ratchet_ingest_records_total") == 3
    assert host.count("ratchet_ingest_fed_again_total") == 0
