"""What users notice of a challenger that gets a copy of every request: their latencies with and without, side by side.

    python -m tests.bench.shadow                 every kind of challenger, a table and JSON
    python -m tests.bench.shadow hangs floods    some of them (`control`: no copies in either kind of block)
    RATCHET_ROUNDS=20 python -m tests.bench.shadow

One gateway serves one constant load; the route table gives all requests to the shadow and takes them away again, in
blocks of a second that alternate, so that both see the same moods of the machine. The champion answers after 20 ms (a
small model), or at once (`at once`: nothing but the gateway is measured). The target: p99 within 3 % with copies.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvloop

from proxy.gateway import GATEWAY_COUNTERS, Gateway
from proxy.ids import KeyRing, RecordIds
from proxy.metrics.shared import SharedCounters
from proxy.routes import RouteTable, Target
from proxy.spool.writer import SpoolWriter
from tests.bench.processes import cpu_s, free_port, pinned, process, wait_for
from tests.bench.wrk import REQUEST
from tests.harness.gateway import config
from tests.harness.upstream import CHAT

KINDS = ("control", "answers", "hangs", "drips", "errs", "closes", "floods")
CONNECTIONS = 32
BLOCK_S = 1.0
SETTLE_S = 0.2
"""Of each block, at its beginning: not counted."""
ROUNDS = int(os.environ.get("RATCHET_ROUNDS", "10"))
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(CHAT), CHAT)
ASK = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
    % (len(REQUEST), REQUEST.encode())
)


class Model(asyncio.Protocol):
    """A server that answers after a while, or behaves as the first segment of the path says."""

    def __init__(self, wait_s: float) -> None:
        self._wait_s = wait_s
        self._waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        kind = data.split(b" ", 2)[1].split(b"/")[1].decode()
        if kind == "hangs":
            return
        if kind == "closes":
            self.transport.close()
        elif kind == "errs":
            self._write(b"HTTP/1.1 500 Oops\r\ncontent-length: 2\r\n\r\n{}")
        elif kind == "drips":
            self._write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
            self._drip()
        elif kind == "floods":
            self._write(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n" + b"x" * (4 << 20))
        elif self._wait_s:
            self._waiting = asyncio.get_running_loop().call_later(self._wait_s, self._write, ANSWER)
        else:
            self._write(ANSWER)

    def _write(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(data)  # type: ignore[attr-defined]

    def _drip(self) -> None:
        if not self.transport.is_closing():
            self._write(b'data: {"choices":[{"index":0,"delta":{"content":"drop"}}]}\n\n')
            asyncio.get_running_loop().call_later(0.005, self._drip)


async def model(port: int, wait_s: float) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Model(wait_s), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


async def serve(directory: Path, port: int, upstream: int) -> None:
    """The gateway as a worker runs it. A line on standard input names what is shadowed, or nothing."""
    settings = config()
    ring = KeyRing.load_or_create(directory / "keys.json")
    spool = SpoolWriter(directory / "spool", settings.spool)
    counters = SharedCounters(directory / "stats", GATEWAY_COUNTERS)
    url = f"http://127.0.0.1:{upstream}"
    plain = RouteTable(version=1, champion=Target(model_id=1, name="old", url=url))
    table = [plain]
    gateway = Gateway(
        settings, routes=lambda: table[0], spool=spool, ids=RecordIds(ring), user_hash=ring.user_hash, counters=counters
    )
    loop = asyncio.get_running_loop()
    over = loop.create_future()

    def told() -> None:
        line = sys.stdin.readline()
        if not line:
            loop.remove_reader(sys.stdin.fileno())
            over.set_result(None)
        elif (kind := line.strip()) and kind != "control":
            other = Target(model_id=2, name="new", url=f"{url}/{kind}")
            table[0] = replace(plain, shadow=other, shadow_share=1.0, check_id=1)
        else:
            table[0] = plain

    loop.add_reader(sys.stdin.fileno(), told)
    server = await loop.create_server(gateway.protocol_factory, "127.0.0.1", port, backlog=1024)
    await over
    server.close()
    sent = counters.values[counters.slot("shadow_sent_total")]
    print(json.dumps({"copies": sent}))
    await gateway.close()
    spool.close()


class Load(asyncio.Protocol):
    """One client that asks again as soon as it is answered, and notes how long that took."""

    size = 0

    def __init__(self, notes: list[tuple[float, float]]) -> None:
        self._notes = notes
        self._got = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._ask()

    def _ask(self) -> None:
        self._got = 0
        self._since = time.perf_counter()
        self.transport.write(ASK)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        if not self._got:
            head, _, _ = data.partition(b"\r\n\r\n")
            self._whole = len(head) + 4 + len(CHAT)
        self._got += len(data)
        if self._got >= self._whole:
            now = time.perf_counter()
            self._notes.append((now, now - self._since))
            self._ask()


@contextlib.contextmanager
def gateway(directory: Path, port: int, upstream: int) -> Iterator[subprocess.Popen[str]]:
    directory.mkdir()
    argv = [sys.executable, "-m", "tests.bench.shadow", "serve", str(directory), str(port), str(upstream)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        try:
            wait_for(port)
            pinned(child.pid)
            yield child
        finally:
            child.kill()


def measure(directory: Path, kind: str, *, wait_s: float, connections: int) -> dict[str, Any]:
    """Latencies of users in ms, without and with copies to a challenger of this `kind`."""
    upstream, port = free_port(), free_port()
    with (
        process(sys.executable, "-m", "tests.bench.shadow", "model", str(upstream), str(wait_s)) as server,
        gateway(directory / f"{kind}-{wait_s}", port, upstream) as child,
    ):
        wait_for(upstream)
        pinned(server.pid, beside=True)
        pinned(os.getpid(), beside=True)
        off, on, cpu = uvloop.run(_blocks(port, child, kind, connections))
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.close()
        copies = json.loads(child.stdout.readline())["copies"]
    ratios = sorted(_quantile(b, 0.99) / _quantile(a, 0.99) for a, b in zip(off, on, strict=True))
    before, after = ([one for block in blocks for one in block] for blocks in (off, on))
    return {
        "requests": len(before) + len(after),
        "copies": copies,
        "p50_ms": (_quantile(before, 0.5) * 1e3, _quantile(after, 0.5) * 1e3),
        "p99_ms": (_quantile(before, 0.99) * 1e3, _quantile(after, 0.99) * 1e3),
        "p99_ratio": _quantile(after, 0.99) / _quantile(before, 0.99),
        "p99_ratio_median_block": ratios[len(ratios) // 2],
        "cpu_us": tuple(cost * 1e6 for cost in cpu),
    }


async def _blocks(
    port: int, child: subprocess.Popen[str], kind: str, connections: int
) -> tuple[list[list[float]], list[list[float]], tuple[float, float]]:
    notes: list[tuple[float, float]] = []
    loop = asyncio.get_running_loop()
    for _ in range(connections):
        await loop.create_connection(lambda: Load(notes), "127.0.0.1", port)
    found: tuple[list[list[float]], list[list[float]]] = ([], [])
    spent = [0.0, 0.0]
    await _say(child, kind)
    await asyncio.sleep(1.0)  # what copies need is loaded
    for turn in range(2 * ROUNDS):
        copied = (turn // 2 + turn) % 2  # off on, on off, off on …: a drift of the machine cancels out
        await _say(child, kind if copied else "")
        await asyncio.sleep(SETTLE_S)
        notes.clear()
        before = cpu_s(child.pid)
        await asyncio.sleep(BLOCK_S)
        spent[copied] += cpu_s(child.pid) - before
        found[copied].append([took for _, took in notes])
    n = [sum(map(len, blocks)) for blocks in found]
    return found[0], found[1], (spent[0] / n[0], spent[1] / n[1])


async def _say(child: subprocess.Popen[str], kind: str) -> None:
    assert child.stdin is not None
    child.stdin.write(kind + "\n")
    child.stdin.flush()


def _quantile(values: list[float], q: float) -> float:
    return sorted(values)[min(int(len(values) * q), len(values) - 1)]


def main(argv: list[str]) -> int:
    if argv[:1] == ["serve"]:
        uvloop.run(serve(Path(argv[1]), int(argv[2]), int(argv[3])))
        return 0
    if argv[:1] == ["model"]:
        uvloop.run(model(int(argv[1]), float(argv[2])))
        return 0
    results: dict[str, Any] = {"machine": platform.platform(), "cpus": os.cpu_count(), "rounds": ROUNDS}
    with tempfile.TemporaryDirectory() as directory:
        for kind in argv or KINDS:
            for name, wait_s, connections in (("20 ms", 0.02, CONNECTIONS), ("at once", 0.0, 8)):
                found = measure(Path(directory), kind, wait_s=wait_s, connections=connections)
                results[f"{kind}, champion {name}"] = found
                print(f"{kind:8} champion {name:8} p99 {found['p99_ms'][0]:7.3f} → {found['p99_ms'][1]:7.3f} ms, "
                      f"ratio {found['p99_ratio']:.3f} (median of blocks {found['p99_ratio_median_block']:.3f}), "
                      f"CPU {found['cpu_us'][0]:.1f} → {found['cpu_us'][1]:.1f} µs, {found['copies']:.0f} copies of "
                      f"{found['requests']} requests", flush=True)  # fmt: skip
    print(json.dumps(results, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
