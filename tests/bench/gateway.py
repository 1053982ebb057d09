"""Side by side: nginx and the gateway in front of the same static upstream, on this machine, in one run.

    python -m tests.bench.gateway            everything, as tables for docs/benchmarks.md (2 to 3 minutes)
    python -m tests.bench.gateway requests   CPU per request at full load and at an equal rate, throughput, latency
    python -m tests.bench.gateway streams    500 server-sent-event streams of 20 ms chunks
    python -m tests.bench.gateway bodies     1 GiB each way: memory

CPU time is that of the proxy alone; the gateway logs durably while it is measured.

Aims, compiled, on a Python with PGO: full load 2.0 × nginx (two arms 2.4 ×) and 32,000 requests a second; at an equal
rate 1.4 ×, p50 0.2 ms and p99 0.8 ms over nginx; 1.2 × an event.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import uvloop

from proxy.app.garbage import leave_loaded
from proxy.gateway import GATEWAY_COUNTERS, Gateway
from proxy.ids import KeyRing, RecordIds
from proxy.metrics.shared import SharedCounters
from proxy.routes import RouteTable, Target
from proxy.spool.writer import SpoolWriter
from tests.bench.processes import (
    PASS,
    STATIC,
    cpu_s,
    free_port,
    memory_mib,
    missing_tools,
    nginx,
    pinned,
    process,
    wait_for,
)
from tests.bench.report import around, markdown, ran_on
from tests.bench.wrk import RATE, wrk
from tests.harness.gateway import config
from tests.harness.upstream import CHAT

PROXIES = ("nginx", "gateway", "gateway, two arms")


@contextlib.contextmanager
def ratchet(directory: Path, port: int, upstream: int, *, challenger: bool = False) -> Iterator[int]:
    """A gateway in a process of its own; yields its pid."""
    arguments = [str(directory), str(port), str(upstream), "1" if challenger else "0"]
    with process(sys.executable, "-m", "tests.bench.gateway", "serve", *arguments) as child:
        wait_for(port)
        yield pinned(child.pid)


async def serve(directory: Path, port: int, upstream: int, challenger: bool) -> None:
    """The gateway as a worker runs it: real spool, ids, counters."""
    url = f"http://127.0.0.1:{upstream}"
    settings = config()
    ring = KeyRing.load_or_create(directory / "keys.json")
    spool = SpoolWriter(directory / "spool", settings.spool)
    table = RouteTable(version=1, champion=Target(model_id=1, name="old", url=url))
    if challenger:
        other = Target(model_id=2, name="new", url=url)
        table = RouteTable(version=1, champion=table.champion, challenger=other, share=0.1, salt="ab" * 16)
    gateway = Gateway(
        settings,
        routes=lambda: table,
        spool=spool,
        ids=RecordIds(ring),
        user_hash=ring.user_hash,
        counters=SharedCounters(directory / "stats", GATEWAY_COUNTERS),
    )
    leave_loaded()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(gateway.protocol_factory, "127.0.0.1", port, backlog=4096)
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    server.close()
    await gateway.close()
    spool.close()


def measured(directory: Path, port: int, pid: int, seconds: int, rate: int | None) -> dict[str, float]:
    """wrk's numbers with the proxy's CPU time per request."""
    wrk(directory, port, 1, rate=rate)
    before = cpu_s(pid)
    result = wrk(directory, port, seconds, rate=rate)
    return {**result, "cpu_us": (cpu_s(pid) - before) / result["requests"] * 1e6}


def requests(directory: Path, seconds: int = 3, rounds: int = 4) -> dict[str, Any]:
    """CPU per request, throughput and latency: with all the load that fits, then at a rate that is the same for all.

    The proxies take turns, so that each round compares what ran side by side: on a shared machine the others' load
    comes and goes.
    """
    static, through, door, split = (free_port() for _ in range(4))
    with (
        nginx(directory, "static", static, static, STATIC.format(chat=CHAT.decode()), beside=True),
        nginx(directory, "proxy", through, static, PASS) as nginx_pid,
        ratchet(directory / "one", door, static) as door_pid,
        ratchet(directory / "two", split, static, challenger=True) as split_pid,
    ):
        ports = dict(zip(PROXIES, ((through, nginx_pid), (door, door_pid), (split, split_pid)), strict=True))
        loads: dict[str, dict[str, list[dict[str, float]]]] = {}
        for load, rate in (("full load", None), ("equal rate", RATE)):
            runs = loads[load] = {name: [] for name in PROXIES}
            for _ in range(rounds):
                for name, (port, pid) in ports.items():
                    runs[name].append(measured(directory, port, pid, seconds, rate))
        return {**loads, "upstream alone": wrk(directory, static, seconds, rate=RATE)}


def requests_tables(found: dict[str, Any]) -> str:
    """What was measured, a table for each load; ratios and differences are those of each round, the median first."""
    full, equal, alone = found["full load"], found["equal rate"], found["upstream alone"]
    lines = [[name, *_cost(full, name), _least(full[name], "req_s", max), _errors(full[name])] for name in PROXIES]
    head = ["full load", "CPU µs a request, best", "× nginx: median (rounds)", "requests a second, best", "failed"]
    first = markdown(head, lines)
    lines = [["upstream alone", "", "", alone["req_s"], alone["p50_ms"], alone["p99_ms"], "", "", ""]]
    for name in PROXIES:
        latencies = [median(run[key] for run in equal[name]) for key in ("p50_ms", "p99_ms")]
        more = ["", ""] if name == "nginx" else [_over(equal, name, key) for key in ("p50_ms", "p99_ms")]
        rate = median(run["req_s"] for run in equal[name])
        lines.append([name, *_cost(equal, name), rate, *latencies, *more, _errors(equal[name])])
    head = [f"equal rate, {RATE:,} a second", "CPU µs a request, best", "× nginx: median (rounds)", "requests a second",
            "p50 ms", "p99 ms", "p50 over nginx, ms", "p99 over nginx, ms", "failed"]  # fmt: skip
    second = markdown(head, lines)
    return f"{first}\n{second}"


def _cost(runs: dict[str, list[dict[str, float]]], name: str) -> list[object]:
    least = _least(runs[name], "cpu_us", min)
    if name == "nginx":
        return [least, 1]
    return [least, around([r["cpu_us"] / n["cpu_us"] for n, r in zip(runs["nginx"], runs[name], strict=True)])]


def _over(runs: dict[str, list[dict[str, float]]], name: str, key: str) -> str:
    return around([run[key] - beside[key] for beside, run in zip(runs["nginx"], runs[name], strict=True)])


def _least(runs: list[dict[str, float]], key: str, choose: Callable[[Iterable[float]], float]) -> float:
    return choose(run[key] for run in runs)


def _errors(runs: list[dict[str, float]]) -> int:
    return int(sum(run["errors"] for run in runs))


def streams(directory: Path, count: int = 500, seconds: float = 8.0) -> dict[str, Any]:
    """Server-sent events: how late each chunk is, directly and through the proxies, and what memory does."""
    upstream, through, door = (free_port() for _ in range(3))
    results: dict[str, Any] = {"streams": count, "seconds": seconds}
    with (
        process(sys.executable, "-m", "tests.bench.gateway", "model", str(upstream)),
        nginx(directory, "sse", through, upstream, PASS) as nginx_pid,
        ratchet(directory / "sse", door, upstream) as door_pid,
    ):
        wait_for(upstream)
        for name, port, pid in (("direct", upstream, 0), ("nginx", through, nginx_pid), ("gateway", door, door_pid)):
            before = (cpu_s(pid), memory_mib(pid)) if pid else (0.0, 0.0)
            result = uvloop.run(_watch(port, count, seconds))
            if pid:
                result["cpu_us_per_chunk"] = (cpu_s(pid) - before[0]) / result["chunks"] * 1e6
                result["growth_mib"] = memory_mib(pid) - before[1]
            results[name] = result
    return results


async def _watch(port: int, count: int, seconds: float) -> dict[str, float]:
    loop = asyncio.get_running_loop()
    request = b"GET /sse?%d HTTP/1.1\r\nHost: x\r\n\r\n" % int(seconds / 0.02)
    watchers = []
    for _ in range(count):
        _, watcher = await loop.create_connection(lambda: _Watcher(request), "127.0.0.1", port)
        watchers.append(watcher)
    await asyncio.gather(*(watcher.done for watcher in watchers))
    late = sorted(gap for watcher in watchers for gap in watcher.late)
    return {"chunks": len(late), "out_of_order": sum(watcher.wrong for watcher in watchers),
            "lost": count * int(seconds / 0.02) - len(late),
            "p50_late_ms": late[len(late) // 2] * 1e3, "p99_late_ms": late[int(len(late) * 0.99)] * 1e3}  # fmt: skip


class _Watcher(asyncio.Protocol):
    """One reader of a stream whose events carry their number and the time at which they were sent."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._rest = b""
        self._next = 0
        self.late: list[float] = []
        self.wrong = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        transport.write(self._request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        *events, self._rest = (self._rest + data).split(b"\n\n")
        for event in events:
            _, number, sent = event.rpartition(b"data: ")[2].split(b" ")
            self.wrong += int(number) != self._next
            self._next = int(number) + 1
            self.late.append(now - float(sent))
        if self._rest.endswith(b"0\r\n\r\n") and not self.done.done():
            self.done.set_result(None)
            self._transport.close()


async def model(port: int) -> None:
    """A model that streams (`/sse?<events>`), sends 1 GiB (`/down`) or swallows it (`/up`)."""

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                target = head.split(b" ")[1]
                if target.startswith(b"/sse"):
                    await stream(writer, int(target.partition(b"?")[2]))
                elif target == b"/down":
                    await send_gib(writer)
                else:
                    left = GIB
                    while left:
                        left -= len(await reader.read(min(left, 1 << 20)))
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    server = await asyncio.start_server(serve_one, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


async def stream(writer: asyncio.StreamWriter, events: int) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    start = time.monotonic()
    for number in range(events):
        await asyncio.sleep(start + 0.02 * (number + 1) - time.monotonic())
        event = b"data: %b %d %f\n\n" % (b"t" * 60, number, time.monotonic())
        writer.write(b"%x\r\n%b\r\n" % (len(event), event))
    writer.write(b"0\r\n\r\n")
    await writer.drain()


GIB = 1 << 30


async def send_gib(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % GIB)
    block = b"a" * (1 << 20)
    for _ in range(GIB >> 20):
        writer.write(block)
        await writer.drain()


def bodies(directory: Path) -> dict[str, Any]:
    """1 GiB each way: how far the gateway's memory grows, and how fast it goes."""
    upstream, door = free_port(), free_port()
    with (
        process(sys.executable, "-m", "tests.bench.gateway", "model", str(upstream)),
        ratchet(directory / "bodies", door, upstream) as pid,
    ):
        wait_for(upstream)
        before = memory_mib(pid)
        results: dict[str, Any] = {}
        for name, move in (("down", _download), ("up", _upload)):
            start, cpu = time.monotonic(), cpu_s(pid)
            move(door)
            seconds = time.monotonic() - start
            results[name] = {
                "mib_s": 1024 / seconds,
                "cpu_s": cpu_s(pid) - cpu,
                "peak_growth_mib": memory_mib(pid, peak=True) - before,
            }
    return results


def _download(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(b"GET /down HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        total = 0
        while data := sock.recv(1 << 20):
            total += len(data)
    if total < GIB:
        raise RuntimeError(f"only {total} bytes came back")


def _upload(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(b"POST /up HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % GIB)
        block = b"a" * (1 << 20)
        for _ in range(GIB >> 20):
            sock.sendall(block)
        if not sock.recv(1000).startswith(b"HTTP/1.1 200 OK"):
            raise RuntimeError("the upload was not answered")


def streams_table(found: dict[str, Any]) -> str:
    lines = []
    for name in ("direct", "nginx", "gateway"):
        one = found[name]
        lines.append([name, one.get("cpu_us_per_chunk", ""), one["p50_late_ms"], one["p99_late_ms"], one["lost"],
                      one["out_of_order"], one.get("growth_mib", "")])  # fmt: skip
    ratio = found["gateway"]["cpu_us_per_chunk"] / found["nginx"]["cpu_us_per_chunk"]
    head = (f"{found['streams']} streams", f"CPU µs an event ({ratio:.2f} × nginx)", "p50 late, ms", "p99 late, ms",
            "lost", "out of order", "memory, MiB more")  # fmt: skip
    return markdown(head, lines)


def bodies_table(found: dict[str, Any]) -> str:
    head = ("1 GiB", "MiB a second", "CPU s", "memory at most, MiB more")
    return markdown(head, [[name, one["mib_s"], one["cpu_s"], one["peak_growth_mib"]] for name, one in found.items()])


PARTS = {"requests": (requests, requests_tables), "streams": (streams, streams_table), "bodies": (bodies, bodies_table)}


def main(argv: list[str]) -> int:
    if argv[:1] == ["serve"]:
        directory, port, upstream, challenger = argv[1:5]
        Path(directory).mkdir(exist_ok=True)
        uvloop.run(serve(Path(directory), int(port), int(upstream), challenger == "1"))
        return 0
    if argv[:1] == ["model"]:
        uvloop.run(model(int(argv[1])))
        return 0
    if missing := missing_tools():
        print(missing, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as directory:
        for name in argv or PARTS:
            measure, tables = PARTS[name]
            print(tables(measure(Path(directory))), flush=True)
    print(ran_on())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
