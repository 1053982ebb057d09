"""Serve and store: a whole `ratchet serve` under all the load that two cores can make, until its spool is empty.

    python -m tests.bench.system                SQLite: a table for docs/benchmarks.md (about 2 minutes)
    python -m tests.bench.system postgresql     a private PostgreSQL 15 with fsync, its CPU counted with Ratchet's

wrk, the model (an nginx that answers with 1 KB of chat completion), workers, controller and database share the same two
cores; in turns with it runs an nginx that logs a line for each request, in front of the same model. *Served and stored*
is what was answered, divided by the time from the first request to the empty spool. *CPU per request* is that of all of
Ratchet's processes from the first request to the empty spool; nothing that serves, logs and stores on two cores can be
quicker than two seconds divided by it. Settings are the defaults.

wrk leaves in the middle of its last answers, so there are at most 32 records more than answers a round. Fewer are lost.

Aim, compiled, on a Python with PGO: 16,000 requests a second served and stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import asyncpg

from proxy.config.serving import ServerConfig
from proxy.config.storage import StoreConfig
from tests.bench.processes import PASS, STATIC, cpu_s, family, free_port, memory_mib, missing_tools, nginx
from tests.bench.report import around, markdown, ran_on
from tests.bench.wrk import wrk
from tests.harness.postgres import find_binaries, running_postgres
from tests.harness.serve import RatchetProcess
from tests.harness.upstream import CHAT

SECONDS = 10
ROUNDS = 3
EMPTY_S = 120.0
"""Longest wait for the spool."""
SETTLE_S = 1.0
PROGRESS = "coalesce(sum(frames), 0) FROM spool_positions"
"""Cheaper than counting records, and committed with them."""
NAMES = {"nginx": "nginx, a line of log a request", "ratchet": "Ratchet, all processes"}
Count = Callable[[str], int]


@dataclass(frozen=True)
class Database:
    """Where Ratchet stores: its url (None: SQLite in the data directory), its server, and how to count rows of it."""

    url: str | None
    count: Count
    server: int | None = None


@dataclass(frozen=True)
class Round:
    """What one proxy did in one round."""

    answered: int
    load_s: float
    whole_s: float
    """Until all was stored, too."""
    cpu_s: float
    failed: int

    @property
    def cpu_us(self) -> float:
        return self.cpu_s / self.answered * 1e6


@contextlib.contextmanager
def database(kind: str, folder: Path) -> Iterator[Database]:
    """A fresh one."""
    if kind == "sqlite":
        file = folder / "data" / "ratchet.db"

        def count(what: str) -> int:
            with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=30)) as db:
                return int(db.execute(f"SELECT {what}").fetchone()[0])

        yield Database(None, count)
        return
    binaries = find_binaries()
    if binaries is None:
        raise SystemExit("PostgreSQL is needed: apt-get install postgresql")
    with running_postgres(binaries, durable=True) as server:
        url = server.new_database()

        async def ask(what: str) -> int:
            connection = await asyncpg.connect(url)
            try:
                return int(await connection.fetchval(f"SELECT {what}"))
            finally:
                await connection.close()

        pid = int((server._data / "postmaster.pid").read_text().split()[0])
        yield Database(url, lambda what: asyncio.run(ask(what)), pid)


def main(argv: list[str]) -> int:
    if missing := missing_tools():
        print(missing, file=sys.stderr)
        return 2
    kind = argv[0] if argv else "sqlite"
    if kind not in ("sqlite", "postgresql"):
        print(f"{kind}: a database is sqlite or postgresql", file=sys.stderr)
        return 2
    os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:2]))  # and all that is started from here
    with tempfile.TemporaryDirectory() as directory:
        print(measure(kind, Path(directory)))
    print(ran_on())
    return 0


def measure(kind: str, folder: Path) -> str:
    """Both proxies in turns; the table."""
    model, through = free_port(), free_port()
    log = folder / "access.log"
    runs: dict[str, list[Round]] = {"nginx": [], "ratchet": []}
    with (
        database(kind, folder) as stored,
        nginx(folder, "model", model, model, STATIC.format(chat=CHAT.decode()), beside=None),
        nginx(folder, "proxy", through, model, PASS, beside=None, log=str(log)) as nginx_pid,
    ):
        ratchet = serve(folder, model, stored)
        try:
            wrk(folder, through, 1, beside=False)
            warm = load(folder, ratchet, stored)
            for _ in range(ROUNDS):
                runs["nginx"].append(logged(folder, through, nginx_pid))
                runs["ratchet"].append(load(folder, ratchet, stored))
            assert ratchet.process is not None
            memory = {name: memory_mib(ratchet.pid(name)) for name in ("supervisor", "worker-0", "controller")}
        finally:
            ratchet.stop(expect=None)
        answered = sum(one.answered for one in (warm, *runs["ratchet"]))
        records = stored.count("count(*) FROM records")
    return f"{table(kind, runs)}\n{kept(answered, records)} Memory at the end, MiB: {_listed(memory)}.\n"


def serve(folder: Path, model: int, stored: Database) -> RatchetProcess:
    """As a user starts it, but for ports and folders."""
    settings: dict[str, dict[str, object]] = {
        "server": {"controller_nice": ServerConfig().controller_nice},
        "store": {"ingest_interval_seconds": StoreConfig().ingest_interval_seconds},
    }
    if stored.url:
        settings["store"]["url"] = stored.url
    ratchet = RatchetProcess(folder, champion=f"http://127.0.0.1:{model}", settings=settings)
    ratchet.start().await_admin()
    return ratchet


def load(folder: Path, ratchet: RatchetProcess, stored: Database) -> Round:
    """All that fits for some seconds, and then until all of it is stored."""
    assert ratchet.process is not None
    pids = [*family(ratchet.process.pid), *(family(stored.server) if stored.server else ())]
    before, cpu, began = stored.count(PROGRESS), cpu_s(*pids), time.monotonic()
    result = wrk(folder, int(ratchet.base_url.rpartition(":")[2]), SECONDS, beside=False)
    loaded = time.monotonic()
    answered = int(result["requests"])
    while stored.count(PROGRESS) < before + answered:
        if time.monotonic() - loaded > EMPTY_S:
            raise RuntimeError(f"{before + answered - stored.count(PROGRESS):,} answers have no record yet")
        time.sleep(0.05)
    now = time.monotonic()
    time.sleep(SETTLE_S)  # requests that wrk cut off are stored, too, and belong to no round
    return Round(answered, loaded - began, now - began, cpu_s(*pids) - cpu, int(result["errors"]))


def logged(folder: Path, port: int, pid: int) -> Round:
    """The same through nginx, whose line is written when the request is done."""
    cpu, began = cpu_s(pid), time.monotonic()
    result = wrk(folder, port, SECONDS, beside=False)
    taken_s = time.monotonic() - began
    return Round(int(result["requests"]), taken_s, taken_s, cpu_s(pid) - cpu, int(result["errors"]))


def table(kind: str, runs: dict[str, list[Round]]) -> str:
    head = [f"serve and store, {kind}", "CPU µs a request: median (rounds)", "× nginx", "two cores over that, a second",
            "served a second under load", "**served and stored a second**", "failed"]  # fmt: skip
    lines: list[list[object]] = []
    for name, rounds in runs.items():
        cost = [one.cpu_us for one in rounds]
        ratio = [mine / one.cpu_us for mine, one in zip(cost, runs["nginx"], strict=True)]
        lines.append([
            NAMES[name],
            around(cost, 1),
            1 if name == "nginx" else around(ratio),
            2e6 / median(cost),
            median(one.answered / one.load_s for one in rounds),
            around([one.answered / one.whole_s for one in rounds], 0),
            sum(one.failed for one in rounds),
        ])  # fmt: skip
    return markdown(head, lines)


def kept(answered: int, records: int) -> str:
    """What became of the answers."""
    lost = max(0, answered - records)
    cut = max(0, records - answered)
    return f"{answered:,} answers, {records:,} records: {lost:,} lost; {cut:,} requests were cut off as wrk left."


def _listed(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.0f}" for name, value in values.items())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
