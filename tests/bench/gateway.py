"""Side by side: nginx and the gateway in front of the same static upstream, on this machine, in one run.

    python -m tests.bench.gateway            everything, a table and JSON
    python -m tests.bench.gateway requests   CPU per request, throughput, added latency
    python -m tests.bench.gateway streams    500 server-sent-event streams of 20 ms chunks
    python -m tests.bench.gateway bodies     1 GiB each way: memory

CPU time is read from /proc/<pid>/stat of the proxy alone; the gateway logs durably while it is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvloop

from proxy.gateway import GATEWAY_COUNTERS, Gateway
from proxy.ids import KeyRing, RecordIds
from proxy.metrics.shared import SharedCounters
from proxy.routes import RouteTable, Target
from proxy.spool.writer import SpoolWriter
from tests.harness.gateway import config
from tests.harness.upstream import CHAT

REQUEST = json.dumps(
    {"model": "m", "user": "user-1234", "messages": [{"role": "user", "content": "What is 65816 assembly? " * 12}]}
)
CONNECTIONS = 32
THINKERS = 64
THINK_MS = (3, 8)
"""Half load: so many connections, each of which waits so long before its next request: about 10,000 a second."""
TICKS = os.sysconf("SC_CLK_TCK")
NGINX = """
worker_processes 1; daemon off; pid {dir}/{name}.pid; error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 100000000; client_body_temp_path {dir}/{name}-b; proxy_temp_path {dir}/{name}-p;
  fastcgi_temp_path {dir}/{name}-f; uwsgi_temp_path {dir}/{name}-u; scgi_temp_path {dir}/{name}-s;
  upstream model {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 100000000; }}
  server {{ listen 127.0.0.1:{port} backlog=4096; client_max_body_size 0; {body} }}
}}
"""
STATIC = "location / {{ default_type application/json; return 200 '{chat}'; }}"
PASS = (
    "location / { proxy_pass http://model; proxy_http_version 1.1; proxy_set_header Connection ''; "
    "proxy_buffering off; proxy_request_buffering off; }"
)


SCRIPT = """
-- 64 requests of different users and lengths, in turn
local requests, turn = {{}}, 0
init = function(args)
  for n = 1, 64 do
    local body = string.gsub([[{request}]], "user%-1234", "user-" .. n)
    body = string.gsub(body, "assembly", "assembly" .. string.rep("!", n % 13))
    requests[n] = wrk.format("POST", nil, {{["Content-Type"] = "application/json", ["Accept"] = "application/json",
      ["Authorization"] = "Bearer sk-bench", ["User-Agent"] = "OpenAI/Python 1.90.0",
      ["X-Stainless-Lang"] = "python"}}, body)
  end
end
request = function() turn = turn % 64 + 1; return requests[turn] end
done = function(s, l, r)
  io.write(string.format("RESULT %d %d %d %d %d %d\\n", s.requests, s.duration, l:percentile(50), l:percentile(99),
    s.errors.status, s.errors.read + s.errors.connect + s.errors.timeout))
end
"""


def pinned(pid: int, *, beside: bool = False) -> int:
    """`pid`, bound to the last core, so that the proxies are measured on the same one, one after the other.

    `beside`: to the other cores, where load and upstream leave that one alone.
    """
    cores = os.sched_getaffinity(0)
    measured = {max(cores)}
    os.sched_setaffinity(pid, (cores - measured or measured) if beside else measured)
    return pid


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def rss_mib(pid: int) -> float:
    """Resident memory in MiB."""
    match = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(match[1]) / 1024 if match else 0.0


@contextlib.contextmanager
def process(*argv: str) -> Iterator[subprocess.Popen[bytes]]:
    """A child that ends with the block."""
    child = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
    try:
        yield child
    finally:
        child.terminate()
        child.wait(10)


@contextlib.contextmanager
def nginx(directory: Path, name: str, port: int, upstream: int, body: str, *, beside: bool = False) -> Iterator[int]:
    """An nginx with one worker, on the core that is measured or `beside` it; yields the worker's pid."""
    file = directory / f"{name}.conf"
    file.write_text(NGINX.format(dir=directory, name=name, port=port, upstream=upstream, body=body))
    with process("/usr/sbin/nginx", "-c", str(file)) as master:
        wait_for(port)
        worker = int(Path(f"/proc/{master.pid}/task/{master.pid}/children").read_text().split()[0])
        yield pinned(worker, beside=beside)


@contextlib.contextmanager
def ratchet(directory: Path, port: int, upstream: int, *, challenger: bool = False) -> Iterator[int]:
    """A gateway in a process of its own; yields its pid."""
    arguments = [str(directory), str(port), str(upstream), "1" if challenger else "0"]
    with process(sys.executable, "-m", "tests.bench.gateway", "serve", *arguments) as child:
        wait_for(port)
        yield pinned(child.pid)


def wait_for(port: int) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return
        time.sleep(0.05)
    raise RuntimeError(f"nothing listens on port {port}")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


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
    loop = asyncio.get_running_loop()
    server = await loop.create_server(gateway.protocol_factory, "127.0.0.1", port, backlog=4096)
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    server.close()
    await gateway.close()
    spool.close()


def wrk(directory: Path, port: int, seconds: int, *, thinking: bool = False) -> dict[str, float]:
    """Load a port as fast as it goes, or with pauses: requests a second and latency percentiles in ms."""
    script = directory / "post.lua"
    pause = "delay = function() return math.random({}, {}) end".format(*THINK_MS) if thinking else ""
    script.write_text(SCRIPT.format(request=REQUEST) + pause)
    argv = [
        "wrk",
        "-t1",
        f"-c{THINKERS if thinking else CONNECTIONS}",
        f"-d{seconds}s",
        "-s",
        str(script),
        f"http://127.0.0.1:{port}/v1/chat/completions",
    ]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as load:
        pinned(load.pid, beside=True)
        output, _ = load.communicate()
    match = re.search(r"RESULT (\d+) (\d+) (\d+) (\d+) (\d+) (\d+)", output)
    if match is None:
        raise RuntimeError(f"wrk said nothing useful:\n{output}")
    requests, duration, p50, p99, status, errors = map(int, match.groups())
    return {"requests": requests, "req_s": requests / duration * 1e6, "p50_ms": p50 / 1e3, "p99_ms": p99 / 1e3,
            "errors": status + errors}  # fmt: skip


def measured(directory: Path, port: int, pid: int, seconds: int) -> dict[str, float]:
    """wrk's numbers with the proxy's CPU time per request."""
    wrk(directory, port, 1)
    before = cpu_s(pid)
    result = wrk(directory, port, seconds)
    return {**result, "cpu_us": (cpu_s(pid) - before) / result["requests"] * 1e6}


def requests(directory: Path, seconds: int = 3, rounds: int = 4) -> dict[str, Any]:
    """CPU per request and throughput with all the load that fits, then latency at half of it.

    The proxies take turns, and the best round of each counts: on a shared machine the others' load comes and goes.
    """
    static, through, door, split = (free_port() for _ in range(4))
    with (
        nginx(directory, "static", static, static, STATIC.format(chat=CHAT.decode()), beside=True),
        nginx(directory, "proxy", through, static, PASS) as nginx_pid,
        ratchet(directory / "one", door, static) as door_pid,
        ratchet(directory / "two", split, static, challenger=True) as split_pid,
    ):
        proxies = {"nginx": (through, nginx_pid), "ratchet": (door, door_pid), "ratchet, two arms": (split, split_pid)}
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in proxies}
        for _ in range(rounds):
            for name, (port, pid) in proxies.items():
                runs[name].append(measured(directory, port, pid, seconds))
        best = {name: min(results, key=lambda run: run["cpu_us"]) for name, results in runs.items()}
        half = {"upstream alone": wrk(directory, static, seconds, thinking=True)}
        for name, (port, _) in proxies.items():
            half[name] = wrk(directory, port, seconds, thinking=True)
    ratios = [r["cpu_us"] / n["cpu_us"] for n, r in zip(runs["nginx"], runs["ratchet"], strict=True)]
    return {"full load": best, "times nginx, by round": ratios, "half load": half}


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
        for name, port, pid in (("direct", upstream, 0), ("nginx", through, nginx_pid), ("ratchet", door, door_pid)):
            before = (cpu_s(pid), rss_mib(pid)) if pid else (0.0, 0.0)
            result = uvloop.run(_watch(port, count, seconds))
            if pid:
                result["cpu_us_per_chunk"] = (cpu_s(pid) - before[0]) / result["chunks"] * 1e6
                result["rss_growth_mib"] = rss_mib(pid) - before[1]
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
        before = rss_mib(pid)
        results: dict[str, Any] = {}
        for name, move in (("down", _download), ("up", _upload)):
            start, cpu = time.monotonic(), cpu_s(pid)
            move(door)
            seconds = time.monotonic() - start
            results[name] = {
                "mib_s": 1024 / seconds,
                "cpu_s": cpu_s(pid) - cpu,
                "peak_growth_mib": peak_mib(pid) - before,
            }
    return results


def peak_mib(pid: int) -> float:
    """Highest resident memory so far in MiB."""
    match = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(match[1]) / 1024 if match else 0.0


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


PARTS = {"requests": requests, "streams": streams, "bodies": bodies}


def main(argv: list[str]) -> int:
    if argv[:1] == ["serve"]:
        directory, port, upstream, challenger = argv[1:5]
        Path(directory).mkdir(exist_ok=True)
        uvloop.run(serve(Path(directory), int(port), int(upstream), challenger == "1"))
        return 0
    if argv[:1] == ["model"]:
        uvloop.run(model(int(argv[1])))
        return 0
    for tool in ("wrk", "/usr/sbin/nginx"):
        if shutil.which(tool) is None:
            print(f"{tool} is not installed: apt-get install nginx wrk", file=sys.stderr)
            return 2
    results: dict[str, Any] = {"machine": platform.platform(), "cpus": os.cpu_count(), "python": sys.version}
    with tempfile.TemporaryDirectory() as directory:
        for name in argv or PARTS:
            results[name] = PARTS[name](Path(directory))
            table(name, results[name])
    print(json.dumps(results, indent=2))
    return 0


def table(name: str, results: dict[str, Any], indent: str = "") -> None:
    """Print results as aligned lines."""
    print(f"{indent}{name}")
    for key, value in results.items():
        if isinstance(value, dict):
            table(key, value, indent + "  ")
        else:
            print(f"{indent}  {key:24} {value if not isinstance(value, float) else format(value, '.3f')}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
