"""Answers of a challenger to copies of requests: from the spool into `comparisons`, once, and never into traffic."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from prometheus_client.registry import CollectorRegistry

from policies.rows import Check, CheckKind
from proxy.clock import SystemClock
from proxy.config import parse_config
from proxy.config.serving import SpoolConfig
from proxy.ingest import IngestMetrics, Ingestor
from proxy.ingest.answers import answer_of
from proxy.metrics.traffic import TrafficMetrics
from proxy.spool import SpoolReader, SpoolWriter
from proxy.spool.frames import KIND_SHADOW, Frame, encode_frame
from proxy.store.ingest import answers as room
from proxy.store.store import Store
from proxy.store.tables.rows import to_row
from proxy.store.tables.schema import checks
from proxy.store.tables.values import RecordFilter
from tests.harness.exchanges import exchanges
from tests.harness.frames import of_record
from tests.harness.tables import sqlite_with_tables

NOW_US = 1_760_000_000_000_000
ANSWER = b'{"choices":[{"message":{"role":"assistant","content":"other"},"finish_reason":"stop"}]}'


def new_id(number: int) -> str:
    """The id of a record of that time."""
    return f"{NOW_US // 1000:012x}7{'0' * 3}8{number:015x}"


def facts(record_id: str, **changes: Any) -> dict[str, Any]:
    """What the gateway says of a copy that was answered."""
    return {
        "id": record_id, "ck": 4, "t": NOW_US, "mid": 2, "mn": "new", "m": "POST", "p": "", "rh": {}, "key": 42,
        "st": 200, "out": 0, "dur": 400_000, "ttfb": 300_000, "sb": len(ANSWER),
        "sh": {"content-type": "application/json"}, "mk": [],
    } | changes  # fmt: skip


def frame(record_id: str, answer: bytes = ANSWER, **changes: Any) -> bytes:
    return encode_frame(KIND_SHADOW, facts(record_id, **changes), b"", answer)


class Setup:
    """One host: a spool, a store, and an ingestor between them."""

    def __init__(self, directory: Path, store: Store) -> None:
        self.spool = directory / "spool"
        self.store = store
        self.writer = SpoolWriter(self.spool, SpoolConfig(fsync="never"))
        self.ingestor()

    def ingestor(self) -> Ingestor:
        """A fresh one, as after a restart of the controller."""
        self.registry = CollectorRegistry()
        config = parse_config({"champion": {"url": "http://localhost:1"}})
        reader, metrics = SpoolReader(self.spool), IngestMetrics(self.registry)
        return Ingestor(config, self.store, reader, TrafficMetrics(self.registry), SystemClock(), metrics=metrics)

    async def take(self, *frames: bytes) -> None:
        for one in frames:
            self.writer.append(one)
        ingestor = self.ingestor()
        while await ingestor.run_once():
            pass

    def count(self, name: str) -> float:
        return sum(
            sample.value for family in self.registry.collect() for sample in family.samples if sample.name == name
        )


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = await Store.open(sqlite_with_tables(tmp_path / "ratchet.db"), clock=SystemClock())
    yield store
    await store.close()


@pytest.fixture
def host(tmp_path: Path, store: Store) -> Iterator[Setup]:
    setup = Setup(tmp_path, store)
    yield setup
    setup.writer.close()


async def test_an_answer_becomes_half_a_comparison(host: Setup) -> None:
    record_id = new_id(1)
    await host.take(frame(record_id))
    (row,) = await host.store.comparisons.of_check(4)
    assert (row.item, row.record_id, row.user_hash, row.outcome) == (record_id, record_id, 42, None)
    assert row.created_us == NOW_US
    assert row.facts["shadow"] == {
        "model_id": 2, "status": 200, "outcome": 0, "duration_us": 400_000, "ttfb_us": 300_000,
        "type": "application/json", "bytes": len(ANSWER), "fault": None, "cut": False, "lost": False, "latin": False,
    }  # fmt: skip
    whole = await host.store.comparisons.get(4, record_id)
    assert whole is not None
    assert whole.data == {"challenger": {"raw": ANSWER.decode()}}


async def test_it_is_no_traffic_and_no_record(host: Setup) -> None:
    (record,) = exchanges(1, start_us=NOW_US)
    await host.take(frame(record.id), of_record(record), frame(record.id))
    page = await host.store.records.list(RecordFilter(), limit=10)
    assert [row.id for row in page.rows] == [record.id]
    view = await host.store.records.get(record.id)
    assert view is not None
    assert view.body is not None
    assert view.body.response == record.body.response if record.body else False
    assert (await host.store.traffic.totals()).requests == 1
    assert host.count("ratchet_requests_total") == host.count("ratchet_ingest_records_total") == 1
    assert len(await host.store.comparisons.of_check(4)) == 1


async def test_one_that_is_read_again_changes_nothing(host: Setup) -> None:
    record_id = new_id(1)
    await host.take(frame(record_id), frame(record_id, b"{}"))
    await host.take(frame(record_id, b"[]"), frame(record_id, ck=5))
    whole = await host.store.comparisons.get(4, record_id)
    assert whole is not None
    assert whole.data["challenger"]["raw"] == ANSWER.decode(), "the first stays"
    assert len(await host.store.comparisons.of_check(5)) == 1, "another check has its own"


async def test_a_user_is_kept_a_few_times_and_a_check_has_an_end(host: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MOST_ANSWERS", 8)
    ids = [new_id(n) for n in range(30)]
    await host.take(*(frame(one) for one in ids[:4]))
    await host.take(frame(ids[4]))
    rows = await host.store.comparisons.of_check(4)
    assert {row.item for row in rows} == set(ids[:3])
    await host.take(*(frame(one, key=None) for one in ids[5:20]))
    await host.take(frame(ids[20], key=7))
    rows = await host.store.comparisons.of_check(4)
    assert {row.item for row in rows} == {*ids[:3], *ids[5:10]}


async def test_what_is_no_answer_is_left_out_and_takes_no_place(host: Setup) -> None:
    (record,) = exchanges(1, start_us=NOW_US)
    broken = encode_frame(KIND_SHADOW, {"id": record.id, "ck": 4}, b"", ANSWER)
    odd = encode_frame(KIND_SHADOW, facts("17"), b"", ANSWER)
    await host.take(broken, odd, of_record(record))
    page = await host.store.records.list(RecordFilter(), limit=10)
    assert [row.kind for row in page.rows] == [record.kind]
    assert await host.store.comparisons.of_check(4) == []


async def test_a_deleted_user_is_in_no_comparison(host: Setup) -> None:
    check = Check(id=6, kind=CheckKind.SHADOW, challenger_id=2, champion_id=1, started_us=NOW_US)
    async with host.store._db.write() as connection:
        await connection.execute(sa.insert(checks).values(to_row(check)))
    (record,) = exchanges(1, start_us=NOW_US)
    mine, others, named = (new_id(n) for n in (1, 2, 3))
    assert record.user_hash is not None
    await host.take(of_record(record), frame(record.id, key=None, ck=check.id), frame(mine), frame(others, key=7))
    await host.store.deletion.delete_user(42)
    await host.store.deletion.delete_user(record.user_hash)
    assert {row.item for row in await host.store.comparisons.of_check(4)} == {others}
    assert await host.store.comparisons.of_check(check.id) == [], "whose it is, only the record knew"
    await host.take(frame(named), frame(new_id(4), key=7))
    assert [row.user_hash for row in await host.store.comparisons.of_check(4)] == [7, 7], "nor in what comes later"


@pytest.mark.parametrize(
    ("answer", "headers", "changes", "said", "told"),
    [
        (gzip.compress(ANSWER), {"content-encoding": "gzip"}, {}, ANSWER.decode(), {}),
        (b"plain", {"content-encoding": "gzip"}, {}, "plain", {}),
        (b"\xff\x00frames", {}, {}, "\xff\x00frames", {"latin": True}),
        ("größer".encode(), {}, {"ssha": None}, "größer", {"cut": True}),
        (gzip.compress(b"x" * 100_000), {"content-encoding": "gzip"}, {}, "x" * 65536, {"cut": True}),
        (b"", {}, {"st": 0, "out": 3, "ttfb": None, "why": "late"}, "", {"fault": "late", "status": 0, "outcome": 3}),
        (b"", {}, {"nr": ["response"]}, "", {"lost": True}),
    ],
)
def test_an_answer_is_kept_as_it_came_but_for_its_encoding(
    answer: bytes, headers: dict[str, str], changes: dict[str, Any], said: str, told: dict[str, Any]
) -> None:
    meta = facts(new_id(1), sh={"content-type": "text/plain"} | headers, **changes)
    found = answer_of(Frame(KIND_SHADOW, meta, b"", answer), 65536)
    assert room.unpacked(found.data) == {"challenger": {"raw": said}}
    assert found.facts["shadow"].items() >= told.items()
