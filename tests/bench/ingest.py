"""Ingest: records per second from spool files to committed rows, extraction included.

    python -m tests.bench.ingest [records]

Writes made-up 1.4 KB chat exchanges (and again the same answers as SSE streams) into a spool, ingests them into a
fresh SQLite store, and prints records per second, CPU per record by stage, and bytes on disk per record.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

import orjson
from prometheus_client.registry import CollectorRegistry

from policies.scoring import ScoringConfig
from proxy.clock import SystemClock
from proxy.config import parse_config
from proxy.config.serving import CaptureConfig, SpoolConfig
from proxy.ingest import Ingestor, Interpreter
from proxy.metrics.traffic import TrafficMetrics
from proxy.spool import SpoolReader, SpoolWriter
from proxy.spool.frames import decode_payload
from proxy.store.store import Store
from proxy.store.values import NewRecord
from tests.harness.exchanges import exchanges
from tests.harness.frames import exchange_frame, of_record

HEADER_BYTES = 8


def streamed(record: NewRecord) -> bytes:
    """The same exchange as a stream of one chunk per word."""
    assert record.body is not None
    answer = orjson.loads(record.body.response)
    head = {"id": answer["id"], "object": "chat.completion.chunk", "created": 1, "model": answer["model"]}
    words = (record.body.response_text or "").split(" ")
    deltas = [{"role": "assistant", "content": ""}, *({"content": f"{word} "} for word in words), {}]
    chunks = [head | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    stream = b"".join(b"data: %b\n\n" % orjson.dumps(chunk) for chunk in chunks) + b"data: [DONE]\n\n"
    return exchange_frame(record.id, record.body.request, stream, sh={"content-type": "text/event-stream"})


async def ingest(frames: list[bytes], directory: Path) -> tuple[float, float, int]:
    """(wall seconds, CPU seconds, bytes on disk) of ingesting `frames`."""
    clock = SystemClock()
    writer = SpoolWriter(directory / "spool", SpoolConfig(fsync="never"))
    for frame in frames:
        assert writer.append(frame)
    writer.close()
    store = await Store.open(f"sqlite:///{directory}/ratchet.db", clock=clock)
    config = parse_config({"champion": {"url": "http://localhost:1"}})
    ingestor = Ingestor(config, store, SpoolReader(directory / "spool"), TrafficMetrics(CollectorRegistry()), clock)
    wall, cpu, stored = time.perf_counter(), time.process_time(), 0
    while batch := await ingestor.run_once():
        stored += batch
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    assert stored == len(frames)
    size = (await store.size()).bytes
    await store.close()
    return wall, cpu, size


def interpret(frames: list[bytes]) -> float:
    """CPU seconds of understanding `frames`: decode, extract, score."""
    interpreter = Interpreter(CaptureConfig(), ScoringConfig())
    decoded = [decode_payload(frame[HEADER_BYTES:]) for frame in frames]
    cpu = time.process_time()
    for frame in decoded:
        interpreter.record(frame)
    return time.process_time() - cpu


def main(count: int) -> None:
    records = list(exchanges(count, start_us=int(time.time() * 1e6) - count * 1000))
    for name, frames in (("plain", [of_record(r) for r in records]), ("streamed", [streamed(r) for r in records])):
        with tempfile.TemporaryDirectory() as directory:
            wall, cpu, size = asyncio.run(ingest(frames, Path(directory)))
        print(
            f"{name}: {count / wall:,.0f} records/s ({cpu / count * 1e6:.0f} µs CPU each, of which "
            f"{interpret(frames) / count * 1e6:.0f} to understand it), frame {sum(map(len, frames)) / count:,.0f} B, "
            f"stored {size / count:,.0f} B"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
