"""A frame at which the controller dies is found and read no more: real processes, killed as the system kills them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.clock import SystemClock
from proxy.config.serving import SpoolConfig
from proxy.ingest.attempts import NOTE_FILE, Attempts, Trust
from proxy.ingest.ingestor import REJECTED_FILE
from proxy.spool import SpoolWriter
from proxy.spool.layout import segments_of
from proxy.store.store import Store
from proxy.store.values import RecordFilter, RecordFlag
from tests.harness.exchanges import exchanges
from tests.harness.frames import exchange_frame, of_record
from tests.harness.tables import sqlite_with_tables

NOW_US = 1_760_000_000_000_000
READS = """
import asyncio, os, signal, sys
from pathlib import Path
from prometheus_client.registry import CollectorRegistry
from proxy.clock import SystemClock
from proxy.config import parse_config
from proxy.ingest import Ingestor
from proxy.metrics.traffic import TrafficMetrics
from proxy.spool import SpoolReader
from proxy.store.store import Store

def user_hash(name):
    if name == b"deadly":
        os.kill(os.getpid(), signal.SIGKILL)
    return 1

async def main(folder):
    store = await Store.open(f"sqlite:///{folder}/ratchet.db", clock=SystemClock())
    config = parse_config({"champion": {"url": "http://localhost:1"}})
    reader = SpoolReader(folder / "spool")
    traffic = TrafficMetrics(CollectorRegistry())
    ingestor = Ingestor(config, store, reader, traffic, SystemClock(), user_hash=user_hash)
    while await ingestor.run_once():
        pass
    await store.close()

asyncio.run(main(Path(sys.argv[1])))
"""
"""A controller's part that ingests. In the middle of reading one frame it is killed as the system kills who wants
too much memory: nothing in the process hears of it."""
DEADLY = json.dumps({"messages": [{"role": "user", "content": "hi"}], "user": "deadly"}).encode()
ANSWER = b'{"choices": [{"message": {"role": "assistant", "content": "Rome"}, "finish_reason": "stop"}]}'


def reads(folder: Path) -> int:
    """Start a reader of the spool in `folder`; returns how it ended."""
    return subprocess.run([sys.executable, "-c", READS, str(folder)], check=False).returncode


def noted(spool: Path) -> tuple[int, int]:
    """How far the frames are that were being read."""
    note = json.loads((spool / NOTE_FILE).read_bytes())
    return note["start"], note["end"]


async def test_a_frame_that_kills_twice_is_stored_raw_and_costs_nobody_else(tmp_path: Path) -> None:
    sqlite_with_tables(tmp_path / "ratchet.db")
    spool = tmp_path / "spool"
    records = list(exchanges(7, start_us=NOW_US, seed=1))
    written = [of_record(record) for record in records]
    written[3] = exchange_frame(records[3].id, DEADLY, ANSWER, key=None)
    with_writer(spool, written)
    ends = [sum(map(len, written[: n + 1])) for n in range(7)]
    assert reads(tmp_path) == -signal.SIGKILL
    assert noted(spool) == (0, ends[6]), "nobody knows yet which of the seven it was"
    assert reads(tmp_path) == -signal.SIGKILL
    assert noted(spool) == (ends[2], ends[3])
    assert reads(tmp_path) == 0

    store = await Store.open(f"sqlite:///{tmp_path}/ratchet.db", clock=SystemClock())
    page = await store.list_records(RecordFilter(), limit=100)
    assert sorted(row.id for row in page.rows) == [record.id for record in records]
    assert [row.id for row in page.rows if row.response_text is None] == [records[3].id]
    view = await store.get_record(records[3].id)
    assert view is not None
    assert view.body is not None
    assert (view.body.request, view.body.response) == (DEADLY, ANSWER)
    assert "died twice" in (view.body.error or "")
    assert RecordFlag.NO_TRAIN in view.row.flags
    await store.close()
    assert list(spool.iterdir()) == [], "no note is left"


def with_writer(spool: Path, frames: list[bytes]) -> None:
    writer = SpoolWriter(spool, SpoolConfig(fsync="never"), index=0)
    for frame in frames:
        writer.append(frame)
    writer.close()


def test_what_may_be_read_after_each_death(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path)
    attempts.begin("w", 1, 0, 300)
    assert [attempts.trust("w", 1, at) for at in (0, 100, 300)] == [Trust.READ] * 3
    attempts = Attempts(tmp_path)  # it died somewhere from 0 to 300
    assert [attempts.trust("w", 1, at) for at in (0, 100, 300)] == [Trust.ALONE, Trust.ALONE, Trust.READ]
    assert attempts.trust("w", 2, 100) is attempts.trust("v", 1, 100) is Trust.READ
    attempts.begin("w", 1, 0, 100)
    attempts.begin("w", 1, 100, 200)
    attempts = Attempts(tmp_path)  # it died at 100
    assert [attempts.trust("w", 1, at) for at in (0, 100, 200, 300)] == [
        Trust.READ, Trust.RAW, Trust.ALONE, Trust.READ]  # fmt: skip
    attempts.begin("w", 1, 100, 200)
    attempts = Attempts(tmp_path)
    assert attempts.trust("w", 1, 100) is Trust.ASIDE
    attempts.begin("w", 1, 100, 200)
    attempts.done()
    assert Attempts(tmp_path).trust("w", 1, 100) is Trust.READ


def test_a_note_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path / "gone")
    attempts.begin("w", 1, 0, 300)
    attempts.done()


@given(st.binary(max_size=50))
def test_a_note_that_makes_no_sense_is_none(tmp_path_factory: pytest.TempPathFactory, note: bytes) -> None:
    folder = tmp_path_factory.mktemp("spool")
    (folder / NOTE_FILE).write_bytes(note)
    assert Attempts(folder).trust("w", 1, 0) is Trust.READ


async def test_one_that_kills_even_when_it_is_not_read_is_set_aside(tmp_path: Path) -> None:
    from tests.ingest.test_ingestor import Setup

    store = await Store.open(sqlite_with_tables(tmp_path / "ratchet.db"), clock=SystemClock())
    host = Setup(tmp_path, store)
    [record] = exchanges(1, start_us=NOW_US, seed=1)
    with_writer(host.spool, [exchange_frame(record.id, b"a" * 200_000, ANSWER)])
    [writer] = [path.name for path in host.spool.iterdir()]
    [segment] = segments_of(host.spool / writer)
    note = {"writer": writer, "segment": segment, "start": 0, "end": 1, "until": 1, "deaths": 2}
    (host.spool / NOTE_FILE).write_text(json.dumps(note))
    ingestor = host.ingestor()
    assert await ingestor.run_once() == 1
    view = await store.get_record(record.id)
    assert view is not None
    assert view.body is not None
    assert view.body.request == b"a" * 65536
    assert (host.spool / REJECTED_FILE).stat().st_size > 200_000
    assert host.count("ratchet_ingest_raw_total", reason="fatal") == 1
    await store.close()
