"""Serving beside a controller that catches up, all of `ratchet serve` on one core: latency, and speed of catching up.

    python -m tests.bench.priority [seconds] [clients]

Clients (on another core, with the model) think a moment between requests. Each case first stops the controller for as
long as it is measured, so that there is a backlog and a latency without it, and then lets it go on. Prints p50 and p99
without and with it, their ratio, and records stored per request answered: more than 1 catches up.

Aim: p99 with the controller at most 1.3 times the one without. Believe it on an idle machine only.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from statistics import quantiles
from urllib.parse import urlsplit

from tests.harness.load import REQUEST
from tests.harness.serve import RatchetProcess
from tests.harness.upstream import Line, Seen, reply, serve_upstream

CASES = {"nice 0": 0, "nice 10 (default)": 10, "nice 19": 19}
THINK_S = 0.015


async def client(base_url: str, until: float, taken_s: list[float]) -> None:
    parts = urlsplit(base_url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    while time.monotonic() < until:
        began = time.perf_counter()
        writer.write(REQUEST)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
        await reader.readexactly(int(length.split(b":")[1]))
        taken_s.append(time.perf_counter() - began)
        await asyncio.sleep(THINK_S)
    writer.close()


async def measure(base_url: str, seconds: float, clients: int) -> list[float]:
    taken_s: list[float] = []
    until = time.monotonic() + seconds
    await asyncio.gather(*(client(base_url, until, taken_s) for _ in range(clients)))
    return taken_s


def line(taken_s: list[float]) -> tuple[float, float]:
    cuts = quantiles(taken_s, n=100)
    return cuts[49] * 1e3, cuts[98] * 1e3


async def case(name: str, nice: int, seconds: float, clients: int, folder: Path) -> None:
    async with serve_upstream() as upstream:

        async def quick(seen: Seen, line: Line) -> None:
            await line.send(reply())

        upstream.on("/v1/chat/completions", quick)
        settings = {"server": {"controller_nice": nice}, "store": {"ingest_interval_seconds": 0.25}}
        ratchet = RatchetProcess(folder, champion=upstream.url, settings=settings, inside=["taskset", "-c", "0"])
        await asyncio.to_thread(ratchet.start)
        try:
            await asyncio.to_thread(ratchet.await_admin)
            await measure(ratchet.base_url, 2.0, clients)  # warm
            controller = ratchet.controller_pid
            os.kill(controller, signal.SIGSTOP)
            without = await measure(ratchet.base_url, seconds, clients)
            os.kill(controller, signal.SIGCONT)
            before = await asyncio.to_thread(ratchet.metric, "ratchet_ingest_records_total")
            beside = await measure(ratchet.base_url, seconds, clients)
            stored = await asyncio.to_thread(ratchet.metric, "ratchet_ingest_records_total") - before
        finally:
            await asyncio.to_thread(ratchet.stop, expect=None)
    (p50, p99), (with50, with99) = line(without), line(beside)
    rate = len(without) / seconds
    print(f"{name:18} {rate:6,.0f}/s   p50 {p50:6.2f} -> {with50:6.2f} ms   p99 {p99:6.2f} -> {with99:6.2f} ms "
          f"({with99 / p99:4.2f} x)   {stored / len(beside):4.2f} stored per request")  # fmt: skip


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    clients = int(sys.argv[2]) if len(sys.argv) > 2 else 64
    os.sched_setaffinity(0, set(range(1, os.cpu_count() or 2)))
    for name, nice in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(case(name, nice, seconds, clients, Path(folder)))


if __name__ == "__main__":
    main()
