"""A whole Ratchet whose database refuses, breaks or goes: users notice nothing, health says it, nothing is lost.

CI has the short forms; RATCHET_FULL=1 adds the other refusals, which `tests/contract/store/test_refused.py` has all of
on a store alone, and holds the times.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tests.harness.fleet import Fleet
from tests.harness.load import load_on
from tests.harness.pgbouncer import find_pgbouncer, running_pgbouncer
from tests.harness.postgres import PostgresServer, find_binaries, running_postgres
from tests.harness.require import FULL, need
from tests.harness.serve import RatchetProcess, await_true, request
from tests.harness.upstream import Line, Seen, Upstream, reply, serve_upstream

pytestmark = pytest.mark.slow

FIRST_ANSWER_S = 2.0 if FULL else 60.0
"""The promise is 2 s. In CI other tests run beside this one."""
LOOK_S = 0.3
"""Between two looks at all the places that say what is wrong."""
BODY = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    binaries = find_binaries()
    need("postgresql", binaries is not None)
    assert binaries is not None
    with running_postgres(binaries) as server:
        yield server


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with serve_upstream() as server:

        async def answer(seen: Seen, line: Line) -> None:
            await line.send(reply())

        server.on("/v1/chat/completions", answer)
        yield server


def run(server: PostgresServer, *statements: str) -> None:
    """One after the other in one session, each by itself."""
    given = [word for sql in statements for word in ("-c", sql)]
    subprocess.run(["psql", server.url(), "-X", "-q", *given], check=True, capture_output=True, timeout=60)


def ask(ratchet: RatchetProcess) -> int:
    return request(ratchet.base_url, "/v1/chat/completions", method="POST", body=BODY).status


def first_answer_s(ratchet: RatchetProcess) -> float:
    """Seconds from the command to the first answer of a model."""
    began = time.monotonic()
    ratchet.start(ready=False)

    def answered() -> bool:
        try:
            return ask(ratchet) == 200
        except OSError:
            return False

    await_true(answered, "the first answer", ratchet._alive)
    return time.monotonic() - began


def trouble(ratchet: RatchetProcess) -> str:
    """What all places say of the store, in the same words; empty where all is well. Fails where they do not agree."""

    def agreed() -> tuple[str] | None:
        try:
            told = request(ratchet.admin_url, "/health").json().get("troubles", {}).get("store", {}).get("sentence", "")
            status = request(ratchet.admin_url, "/status").json()["troubles"].get("store", {}).get("sentence", "")
            worker = request(ratchet.base_url, "/-/health?verbose").json()["store_trouble"] or ""
            metrics = request(ratchet.admin_url, "/metrics").body.decode().splitlines()
        except OSError:
            return None
        up, about = ("0.0", "1.0") if told else ("1.0", "0.0")
        counted = {f"ratchet_store_up {up}", f'ratchet_trouble{{about="store"}} {about}'} <= {*metrics}
        same = told == status == worker and counted
        return (told,) if same else None

    return str(await_true(agreed, "all to say the same", ratchet._alive, every_s=LOOK_S)[0])


def await_trouble(ratchet: RatchetProcess, says: str, limit_s: float = 120.0) -> str:
    """Wait until what is said of the store holds `says`; nothing where `says` is empty."""

    def said() -> tuple[str] | None:
        told = trouble(ratchet)
        return (told,) if (says in told and bool(says) == bool(told)) else None

    return str(await_true(said, f"{says!r} to be said of the store", ratchet._alive, limit_s, every_s=LOOK_S)[0])


Spoil = Callable[[PostgresServer, str], None]
REFUSALS: dict[str, tuple[Spoil, Spoil, str]] = {
    "no database": (
        lambda server, name: run(server, f"ALTER DATABASE {name} RENAME TO {name}_away"),
        lambda server, name: run(server, f"ALTER DATABASE {name}_away RENAME TO {name}"),
        "create it (createdb",
    ),
    "a plain role": (
        lambda server, name: None,
        lambda server, name: run(server, f"ALTER DATABASE {name} OWNER TO plain"),
        "since PostgreSQL 15 a plain role may create nothing in schema public",
    ),
    "no login": (
        lambda server, name: run(server, "ALTER ROLE plain NOLOGIN"),
        lambda server, name: run(server, f"ALTER ROLE plain LOGIN; ALTER DATABASE {name} OWNER TO plain"),
        "PostgreSQL refuses the login",
    ),
    "no connection left": (
        lambda server, name: run(server, "ALTER ROLE plain CONNECTION LIMIT 0"),
        lambda server, name: run(server, f"ALTER ROLE plain CONNECTION LIMIT -1; ALTER DATABASE {name} OWNER TO plain"),
        "raise max_connections",
    ),
    "read-only": (
        lambda server, name: run(server, f"ALTER DATABASE {name} SET default_transaction_read_only = on"),
        lambda server, name: (
            run(server, f"ALTER DATABASE {name} RESET ALL"), run(server, f"ALTER DATABASE {name} OWNER TO plain")
        )[0],
        "point store.url at the primary",
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", REFUSALS if FULL else ["a plain role"])
async def test_a_start_with_a_database_that_refuses(
    tmp_path: Path, postgres: PostgresServer, upstream: Upstream, how: str
) -> None:
    spoil, mend, says = REFUSALS[how]
    url = postgres.new_database()
    name = url.split("@/")[1].split("?")[0]
    exists = "SELECT FROM pg_roles WHERE rolname = 'plain'"
    run(postgres, f"DO $$BEGIN IF NOT EXISTS ({exists}) THEN CREATE ROLE plain LOGIN; END IF; END$$")
    spoil(postgres, name)
    url = url if how == "no database" else url.replace("ratchet@", "plain:hunter2@")
    ratchet = RatchetProcess(tmp_path, champion=upstream.url, settings={"store": {"url": url}})
    try:
        assert await asyncio.to_thread(first_answer_s, ratchet) < FIRST_ANSWER_S
        sentence = await asyncio.to_thread(await_trouble, ratchet, says)
        shown = await asyncio.to_thread(verb, ratchet, "status")
        assert sentence.split(";")[0] in " ".join(shown.split())
        mend(postgres, name)
        await asyncio.to_thread(await_trouble, ratchet, "")
        await asyncio.to_thread(await_true, lambda: ratchet.metric("ratchet_ingest_records_total") >= 1, "the record")
    finally:
        log = await asyncio.to_thread(ratchet.stop)
    assert "Traceback" not in log
    assert sentence in log
    assert log.count(says) <= 2, "once by whoever serves, once by the controller"
    assert "hunter2" not in log + sentence


def verb(ratchet: RatchetProcess, *arguments: str) -> str:
    """What a verb of the command line prints."""
    command = [sys.executable, "-m", "proxy", *arguments, "--config", str(ratchet.config_file)]
    environ = {**os.environ, "COLUMNS": "2000", "NO_COLOR": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=120, cwd=ratchet.directory)
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


async def test_a_damaged_file_is_said_within_seconds(tmp_path: Path, upstream: Upstream) -> None:
    ratchet = RatchetProcess(tmp_path, champion=upstream.url)
    await asyncio.to_thread(ratchet.start)
    for _ in range(200):
        assert await asyncio.to_thread(ask, ratchet) == 200
    await asyncio.to_thread(await_true, lambda: ratchet.metric("ratchet_ingest_records_total") == 200, "the records")
    await asyncio.to_thread(ratchet.stop)
    spoil(ratchet.data_dir / "ratchet.db")
    await asyncio.to_thread(ratchet.start)
    for _ in range(30):
        assert await asyncio.to_thread(ask, ratchet) == 200
    await asyncio.to_thread(await_trouble, ratchet, "damaged; stop `ratchet serve`, then restore a backup",
                            6.0 if FULL else 120.0)  # fmt: skip
    log = await asyncio.to_thread(ratchet.stop)
    assert log.count("the database file is damaged") <= 6, "a line a minute for each who met it"


def spoil(path: Path) -> None:
    """Every third page of the second half is overwritten."""
    pages = path.stat().st_size // 4096
    rng = random.Random(7)
    with path.open("r+b") as file:
        for page in range(pages // 2, pages, 3):
            file.seek(page * 4096)
            file.write(rng.randbytes(4096))


async def test_nothing_is_lost_whatever_befalls_postgresql(tmp_path: Path, upstream: Upstream) -> None:
    """Under load: all connections used up, made read-only, kill -9, a stop, the role shut out; truth at each step."""
    binaries = find_binaries()
    need("postgresql", binaries is not None)
    assert binaries is not None
    with running_postgres(binaries) as server:
        fleet = Fleet(tmp_path, server, 2, champion=upstream.url, settings={"check_interval_seconds": 0.5})
        await asyncio.to_thread(fleet.start)
        try:
            async with load_on(fleet.replicas[0].base_url, clients=2) as first, \
                       load_on(fleet.replicas[1].base_url, clients=2) as second:  # fmt: skip
                for step in (read_only, killed, stopped, shut_out):
                    await asyncio.gather(first.until(30), second.until(30))
                    await asyncio.to_thread(step, server, fleet)
                    for replica in fleet.replicas:
                        await asyncio.to_thread(await_trouble, replica, "")
                await asyncio.gather(first.until(30), second.until(30))
            assert (first.broken, second.broken, first.refused, second.refused) == (0, 0, 0, 0)
            await fleet.assert_nothing_lost(first, second)
            assert fleet.late_entries() == []
            for replica in fleet.replicas:
                assert "Traceback" not in replica.log
        finally:
            await asyncio.to_thread(fleet.stop)


def read_only(server: PostgresServer, fleet: Fleet) -> None:
    """As after a failover to a standby: reading goes on."""
    run(server, "ALTER SYSTEM SET default_transaction_read_only = on")
    run(server, "SELECT pg_reload_conf()")
    for replica in fleet.replicas:
        await_trouble(replica, "read-only")
    run(server, "SET default_transaction_read_only = off", "ALTER SYSTEM RESET default_transaction_read_only",
        "SELECT pg_reload_conf()")  # fmt: skip


def killed(server: PostgresServer, fleet: Fleet) -> None:
    pid = int((server._data / "postmaster.pid").read_text().split()[0])
    os.kill(pid, signal.SIGKILL)
    for replica in fleet.replicas:
        await_trouble(replica, "the store cannot be used")
    await_true(lambda: _starts(server), "its sessions to end, which hold its memory for a moment")


def _starts(server: PostgresServer) -> bool:
    try:
        server.start()
    except RuntimeError:
        return False
    return True


def stopped(server: PostgresServer, fleet: Fleet) -> None:
    server.stop()
    for replica in fleet.replicas:
        await_trouble(replica, "start")
    server.start()


def shut_out(server: PostgresServer, fleet: Fleet) -> None:
    """No connection is left for anybody but a superuser's next life."""
    name = fleet.url.split("@/")[1].split("?")[0]
    kick = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
    run(server, f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    run(server, kick)
    for replica in fleet.replicas:
        await_trouble(replica, "not currently accepting connections")
    run(server, f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


def phase(ratchet: RatchetProcess) -> str:
    return str(request(ratchet.admin_url, "/status").json()["phase"]["name"])


async def test_serving_behind_a_pooler(tmp_path: Path, postgres: PostgresServer, upstream: Upstream) -> None:
    program = find_pgbouncer()
    need("pgbouncer", program is not None)
    assert program is not None
    direct = postgres.new_database()
    with running_pgbouncer(program, postgres) as pooler:
        ratchet = RatchetProcess(tmp_path, champion=upstream.url, settings={"store": {"url": pooler.url(direct)}})
        await asyncio.to_thread(ratchet.start)
        async with load_on(ratchet.base_url, clients=2) as load:
            await load.until(50)
        await asyncio.to_thread(await_trouble, ratchet, "")
        answered = len(load.answered)
        await asyncio.to_thread(
            await_true, lambda: ratchet.metric("ratchet_ingest_records_total") >= answered, "every record"
        )
        await asyncio.to_thread(await_true, lambda: request(ratchet.admin_url, "/status").json()["leader"], "a leader")
        await asyncio.to_thread(await_true, lambda: phase(ratchet) == "idle", "a loop that ticks")
        log = await asyncio.to_thread(ratchet.stop)
    assert "set store.listen_url to a direct url" in log
    assert "Traceback" not in log


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB. Mounting needs root."""
    where = tmp_path / "disk"
    where.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(where)]
    mounted = subprocess.run(command, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"mounting is not allowed here: {mounted.stderr.decode()}")
    yield where
    subprocess.run(["umount", "-l", str(where)], check=True)


async def test_a_full_disk_is_trouble_until_what_waits_is_stored(
    tmp_path: Path, small_disk: Path, upstream: Upstream
) -> None:
    """The database's own disk: reading goes on there, and a few bytes may still find room."""
    settings = {"store": {"url": f"sqlite:///{small_disk}/r.db"}}
    ratchet = RatchetProcess(tmp_path / "site", champion=upstream.url, settings=settings)
    await asyncio.to_thread(ratchet.start)
    await asyncio.to_thread(await_trouble, ratchet, "")
    filler = small_disk / "filler"
    fill(filler)
    said = ""
    async with load_on(ratchet.base_url, clients=2) as load:
        said = await asyncio.to_thread(await_trouble, ratchet, "the store cannot be used")
        for _ in range(5):
            await load.until(20)
            assert await asyncio.to_thread(trouble, ratchet), "nothing was stored meanwhile"
    assert "disk" in said
    filler.unlink()
    await asyncio.to_thread(await_trouble, ratchet, "")
    answered = len(load.answered)
    await asyncio.to_thread(await_true, lambda: ratchet.metric("ratchet_ingest_records_total") >= answered, "all")
    log = await asyncio.to_thread(ratchet.stop)
    assert "the store can be written again after" in log
    assert "Traceback" not in log


def fill(path: Path) -> None:
    """Until nothing more finds room."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
