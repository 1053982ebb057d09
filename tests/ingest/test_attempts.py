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
from proxy.ingest.attempts import NOTE_FILE, Attempts, ReadCaution
from proxy.ingest.ingestor import REJECTED_FILE
from proxy.spool import SpoolWriter
from proxy.spool.frames import KIND_EXCHANGE, decode_payload, encode_frame
from proxy.spool.layout import segment_name, segments_of
from proxy.store.store import Store
from proxy.store.tables.values import RecordFilter, RecordFlag
from tests.harness.exchanges import exchanges
from tests.harness.frames import end_of, exchange_frame, of_record
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
    note = json.loads((spool / NOTE_FILE).read_bytes())["note"]
    return note["start"], note["end"]


async def test_a_frame_that_kills_twice_is_stored_raw_and_costs_nobody_else(tmp_path: Path) -> None:
    sqlite_with_tables(tmp_path / "ratchet.db")
    spool = tmp_path / "spool"
    records = list(exchanges(7, start_us=NOW_US, seed=1))
    written = [of_record(record) for record in records]
    written[3] = exchange_frame(records[3].id, DEADLY, ANSWER, key=None)
    with_writer(spool, written)
    ends = [end_of(*written[: n + 1]) for n in range(7)]
    assert reads(tmp_path) == -signal.SIGKILL
    assert noted(spool) == (0, ends[6]), "it died somewhere in the seven"
    assert reads(tmp_path) == -signal.SIGKILL
    assert noted(spool) == (ends[2], ends[3])
    assert reads(tmp_path) == 0

    store = await Store.open(f"sqlite:///{tmp_path}/ratchet.db", clock=SystemClock())
    page = await store.records.list(RecordFilter(), limit=100)
    assert sorted(row.id for row in page.rows) == [record.id for record in records]
    assert [row.id for row in page.rows if row.response_text is None] == [records[3].id]
    view = await store.records.get(records[3].id)
    assert view is not None
    assert view.body is not None
    assert (view.body.request, view.body.response) == (DEADLY, ANSWER)
    assert "died twice" in (view.body.error or "")
    assert RecordFlag.NO_TRAIN in view.row.flags
    await store.close()
    assert list(spool.iterdir()) == [], "no note is left"


async def test_a_look_for_a_user_that_kills_is_given_up(tmp_path: Path) -> None:
    """Each of the three ways to read a frame may be tried; the fourth does not look into it."""
    sqlite_with_tables(tmp_path / "ratchet.db")
    spool = tmp_path / "spool"
    records = list(exchanges(3, start_us=NOW_US, seed=1))
    written = [of_record(record) for record in records]
    facts = decode_payload(exchange_frame(records[1].id, DEADLY, ANSWER)).meta
    del facts["key"], facts["src"]
    written[1] = encode_frame(KIND_EXCHANGE, facts, DEADLY, ANSWER)
    with_writer(spool, written)
    assert [reads(tmp_path) for _ in range(4)] == [-signal.SIGKILL] * 3 + [0]
    store = await Store.open(f"sqlite:///{tmp_path}/ratchet.db", clock=SystemClock())
    page = await store.records.list(RecordFilter(), limit=100)
    assert sorted(row.id for row in page.rows) == [record.id for record in records]
    await store.close()
    assert [path.name for path in spool.iterdir()] == [REJECTED_FILE]


def with_writer(spool: Path, frames: list[bytes]) -> None:
    writer = SpoolWriter(spool, SpoolConfig(fsync="never"), index=0)
    for frame in frames:
        writer.append(frame)
    writer.close()


FRAMES = [(0, 100), (100, 200), (200, 300), (300, 400)]


def trusts(attempts: Attempts) -> list[ReadCaution]:
    return [attempts.trust("w", 1, start, end) for start, end in FRAMES]


def test_what_may_be_read_after_each_death_at_one_frame(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path)
    attempts.begin("w", 1, 0, 300, alone=False)
    attempts.understand(0, 200)
    assert trusts(attempts) == [ReadCaution.READ] * 4
    attempts = Attempts(tmp_path)  # it died at one of the first two
    assert trusts(attempts) == [ReadCaution.ALONE, ReadCaution.ALONE, ReadCaution.ALONE, ReadCaution.READ]
    assert attempts.trust("w", 2, 100, 200) is attempts.trust("v", 1, 100, 200) is ReadCaution.READ
    attempts.begin("w", 1, 0, 100, alone=True)
    attempts.understand(0, 100)
    attempts.understand(0, 0)
    attempts.begin("w", 1, 100, 200, alone=True)
    attempts.understand(100, 200)
    attempts = Attempts(tmp_path)  # and again, at the second
    assert trusts(attempts) == [ReadCaution.READ, ReadCaution.RAW, ReadCaution.ALONE, ReadCaution.READ]
    attempts.begin("w", 1, 100, 200, alone=True)
    attempts = Attempts(tmp_path)
    assert trusts(attempts)[1] is ReadCaution.ASIDE
    attempts.begin("w", 1, 100, 200, alone=True)
    attempts.done()
    assert trusts(Attempts(tmp_path)) == [ReadCaution.READ] * 4


def test_controllers_that_die_of_something_else_cost_no_frame(tmp_path: Path) -> None:
    """While a stretch is stored nobody knows which frame it was; and then at another one each time."""
    attempts = Attempts(tmp_path)
    attempts.begin("w", 1, 0, 300, alone=False)
    attempts.understand(200, 300)
    attempts.understand(0, 0)  # all is understood, and being stored
    for start, end in FRAMES[:3]:
        attempts = Attempts(tmp_path)
        assert ReadCaution.RAW not in trusts(attempts)
        attempts.begin("w", 1, start, end, alone=True)
    attempts = Attempts(tmp_path)  # it was being stored by itself
    assert trusts(attempts)[2] is ReadCaution.ALONE
    attempts.begin("w", 1, 200, 300, alone=True)
    assert trusts(Attempts(tmp_path))[2] is ReadCaution.RAW


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_second_death_while_one_of_a_few_is_stored_is_no_proof_against_it(tmp_path: Path, place: int) -> None:
    attempts = Attempts(tmp_path)
    attempts.begin("w", 1, 0, 400, alone=False)
    attempts.understand(0, 300)
    for _ in range(2):
        attempts = Attempts(tmp_path)
        assert trusts(attempts)[place] is ReadCaution.ALONE
        attempts.begin("w", 1, *FRAMES[place], alone=True)
        attempts.understand(*FRAMES[place])
        attempts.understand(0, 0)  # understood, and being stored
    assert trusts(Attempts(tmp_path))[place] is ReadCaution.RAW


@pytest.mark.parametrize(("place", "caution"), [(0, ReadCaution.RAW), (1, ReadCaution.RAW), (2, ReadCaution.ALONE)])
def test_whichever_of_the_first_few_kills_again_is_poison(tmp_path: Path, place: int, caution: ReadCaution) -> None:
    attempts = Attempts(tmp_path)
    attempts.begin("w", 1, 0, 400, alone=False)
    attempts.understand(0, 200)
    attempts = Attempts(tmp_path)
    attempts.begin("w", 1, *FRAMES[place], alone=True)
    attempts.understand(*FRAMES[place])
    assert trusts(Attempts(tmp_path))[place] is caution


def test_a_note_of_an_earlier_version_is_understood(tmp_path: Path) -> None:
    note = {"writer": "w", "segment": 1, "start": 0, "end": 100, "until": 400, "alone": True}
    for suspect, caution in ((100, ReadCaution.RAW), (300, ReadCaution.ALONE)):
        (tmp_path / NOTE_FILE).write_text(json.dumps({"at": 100, "note": {**note, "suspect": suspect, "deaths": 1}}))
        assert trusts(Attempts(tmp_path))[0] is caution


def test_a_note_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path / "gone")
    attempts.begin("w", 1, 0, 300, alone=False)
    attempts.understand(0, 100)
    attempts.done()


@given(st.binary(max_size=50))
def test_a_note_that_makes_no_sense_is_none(tmp_path_factory: pytest.TempPathFactory, note: bytes) -> None:
    folder = tmp_path_factory.mktemp("spool")
    (folder / NOTE_FILE).write_bytes(note)
    assert Attempts(folder).trust("w", 1, 0, 100) is ReadCaution.READ


async def test_one_that_kills_even_when_it_is_not_read_is_set_aside(tmp_path: Path) -> None:
    from tests.ingest.test_ingestor import Setup

    store = await Store.open(sqlite_with_tables(tmp_path / "ratchet.db"), clock=SystemClock())
    host = Setup(tmp_path, store)
    [record] = exchanges(1, start_us=NOW_US, seed=1)
    with_writer(host.spool, [exchange_frame(record.id, b"a" * 200_000, ANSWER)])
    [writer] = [path.name for path in host.spool.iterdir()]
    [segment] = segments_of(host.spool / writer)
    end = (host.spool / writer / segment_name(segment)).stat().st_size
    note = {"writer": writer, "segment": segment, "start": 0, "end": end, "until": end, "alone": True,
            "suspect": end, "deaths": 2}  # fmt: skip
    (host.spool / NOTE_FILE).write_text(json.dumps({"at": 0, "note": note}))
    ingestor = host.ingestor()
    assert await ingestor.run_once() == 1
    view = await store.records.get(record.id)
    assert view is not None
    assert view.body is not None
    assert view.body.request == b"a" * 65536
    assert (host.spool / REJECTED_FILE).stat().st_size > 200_000
    assert host.count("ratchet_ingest_raw_total", reason="fatal") == 1
    await store.close()
