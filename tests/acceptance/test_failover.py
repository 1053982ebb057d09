"""The database goes back under a server that is busy: an older copy, an empty one, files that are gone. What was
acknowledged is there in the end, once, and whoever looks meanwhile is told.

One server of each kind lives through it all, one thing after the other. Every way in which a file of SQLite's may go is
tried on a store alone (`tests/store/test_files.py`); here are two of them, with RATCHET_FULL=1 all.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.ids import KeyRing, RecordIds
from tests.harness.load import Load, load_on
from tests.harness.postgres import PostgresServer, find_binaries, running_postgres
from tests.harness.relay import Relay, relay_to
from tests.harness.require import FULL, need
from tests.harness.serve import RatchetProcess, await_true, request
from tests.harness.upstream import Line, Seen, Upstream, reply, serve_upstream

pytestmark = pytest.mark.slow

AHEAD = 150
"""Records before the copy."""
BEHIND = 150
"""Records that an older copy lacks."""
LOOK_S = 0.2
"""Between two looks at a whole server."""
SMALL = {"spool": {"segment_bytes": 65_536}}
"""Segments of a few dozen records, so that what is fed again was in many that were finished."""


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with serve_upstream() as server:

        async def hasty(seen: Seen, line: Line) -> None:
            await asyncio.sleep(0.005)
            await line.send(reply())

        server.on("/v1/chat/completions", hasty)
        yield server


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    binaries = find_binaries()
    need("postgresql", binaries is not None)
    assert binaries is not None
    with running_postgres(binaries, "127.0.0.1") as server:
        yield server


class Votes:
    """A vote for every tenth answer, as fast as they come; notes which were taken."""

    def __init__(self, ratchet: RatchetProcess, load: Load) -> None:
        self._ratchet = ratchet
        self._load = load
        self.taken: list[str] = []

    async def give(self, stop: asyncio.Event) -> None:
        done = 0
        while not stop.is_set() or done < len(self._load.answered):
            due = self._load.answered[done::10]
            done += 10 * len(due)
            for token in due:
                body = {"record_id": token, "feedback": 1}
                answer = await asyncio.to_thread(
                    request, self._ratchet.base_url, "/-/feedback", method="POST", body=body
                )
                assert answer.status == 202, answer.body
                self.taken.append(token)
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def busy(ratchet: RatchetProcess) -> AsyncIterator[tuple[Load, Votes]]:
    """Clients and voters for the length of the block."""
    stop = asyncio.Event()
    async with load_on(ratchet.base_url, clients=2) as load:
        votes = Votes(ratchet, load)
        voting = asyncio.create_task(votes.give(stop))
        yield load, votes
    stop.set()
    await voting


Ask = Callable[[str], list[tuple[Any, ...]]]
Rounds = list[tuple[Load, Votes]]


async def assert_exact(ratchet: RatchetProcess, rounds: Rounds, ask: Ask) -> None:
    """Every answer and every vote of all rounds is stored once, in rows and in sums."""
    ids = RecordIds(KeyRing.load_or_create(ratchet.data_dir / "keys.json"))
    tokens = [token for load, _ in rounds for token in load.answered]
    taken = [token for _, votes in rounds for token in votes.taken]
    answered = {ids.verify(token) for token in tokens}

    def stored() -> set[str]:
        try:
            return {_hex(row[0]) for row in ask("select id from records")}
        except (sqlite3.Error, subprocess.CalledProcessError):
            return set()

    def voted() -> int:
        return int(ask("select count(*) from feedback")[0][0])

    def there() -> bool:
        return answered <= stored() and voted() >= len(taken)

    await asyncio.to_thread(await_true, there, "all to be stored", ratchet._alive, every_s=LOOK_S)
    await asyncio.to_thread(ratchet.await_admin)
    assert len(answered) == len(tokens) == sum(load.sent - load.broken for load, _ in rounds)
    assert stored() == answered
    assert len(taken) == len(set(taken)) == voted() > 0
    assert int(ask("select count(*) from records")[0][0]) == len(answered)
    assert int(ask("select sum(n) from traffic where step_s = 60")[0][0]) == len(answered)
    assert int(ask("select sum(voted) from traffic where step_s = 60")[0][0]) == len(taken)
    assert ratchet.metric("ratchet_requests_total") == len(answered), "traffic is counted once, too"


def _hex(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value).replace("-", "")


def status(ratchet: RatchetProcess) -> dict[str, Any]:
    found: dict[str, Any] = request(ratchet.admin_url, "/status").json()
    return found


def well(ratchet: RatchetProcess) -> bool:
    """Whether nothing is wrong, and the loop has seen this database; a tick that met the fail-over waits a while."""
    seen = status(ratchet)
    return (seen["troubles"], seen["phase"]["name"]) == ({}, "idle")


def told(ratchet: RatchetProcess, words: str, times: int) -> None:
    """Wait until so many notes in the status have these words."""
    await_true(
        lambda: sum(words in note for note in status(ratchet)["notes"]) >= times,
        f"{times} notes with {words!r}",
        ratchet._alive,
        every_s=LOOK_S,
    )


class Postgres:
    """The databases behind a relay, all of one name."""

    def __init__(self, server: PostgresServer, relay: Relay, name: str) -> None:
        self._server = server
        self._relay = relay
        self._name = name
        self._lost = 0
        self.url = f"postgresql://ratchet@127.0.0.1:{relay.port}/{name}"

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        url = self._server.url(self._name)
        done = subprocess.run(["psql", url, "-X", "-At", "-c", sql], capture_output=True, text=True, check=True)
        return [tuple(line.split("|")) for line in done.stdout.split()]

    def order(self, *statements: str) -> None:
        commands = [part for statement in statements for part in ("-c", statement)]
        subprocess.run(["psql", self._server.url(), "-X", "-q", *commands], check=True, capture_output=True)

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        self._relay.cut()
        self.order(f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{self._name}'")
        yield
        self._relay.mend()

    def copy(self) -> int:
        """As it is now, for later; returns how many records that is."""
        with self.away():
            self.order(f"create database {self._name}_copy template {self._name}")
            return int(self.ask("select count(*) from records")[0][0])

    def fail_over(self, *, empty: bool) -> None:
        """To the copy, or to one without a table."""
        with self.away():
            self._lost += 1
            self.order(f"alter database {self._name} rename to {self._name}_lost_{self._lost}")
            if empty:
                self.order(f"create database {self._name}")
            else:
                self.order(f"alter database {self._name}_copy rename to {self._name}")


async def test_a_postgresql_that_fails_over_gets_what_it_lacks(
    tmp_path: Path, upstream: Upstream, postgres: PostgresServer
) -> None:
    """First to an older copy, then to one without a table."""
    host, port = "127.0.0.1", int(postgres.url().rsplit(":", 1)[1].split("/")[0])
    async with relay_to(host, port) as relay:
        database = Postgres(postgres, relay, "over")
        await asyncio.to_thread(database.order, "create database over")
        settings = {**SMALL, "store": {"url": database.url}}
        ratchet = RatchetProcess(tmp_path, champion=upstream.url, settings=settings)
        await asyncio.to_thread(ratchet.start)
        try:
            await asyncio.to_thread(ratchet.await_admin)
            async with busy(ratchet) as first:
                load, _ = first
                await load.until(AHEAD)
                copied = await asyncio.to_thread(database.copy)
                await load.until(BEHIND)
                await asyncio.to_thread(await_stored, ratchet, database.ask, copied + BEHIND)
                await asyncio.to_thread(database.fail_over, empty=False)
                await asyncio.to_thread(told, ratchet, "stored again from the spool", 1)
                await load.until(100)
            await assert_exact(ratchet, [first], database.ask)
            fed, lost = ratchet.metric("ratchet_ingest_fed_again_total"), len(load.answered)
            assert fed >= BEHIND
            async with busy(ratchet) as second:
                load, _ = second
                await load.until(20)
                await asyncio.to_thread(database.fail_over, empty=True)
                await asyncio.to_thread(told, ratchet, "stored again from the spool", 2)
                await load.until(100)
            await assert_exact(ratchet, [first, second], database.ask)
            assert ratchet.metric("ratchet_ingest_fed_again_total") >= fed + lost
            assert ratchet.metric("ratchet_ingest_not_fed_again_total") == 0
            await asyncio.to_thread(await_true, lambda: well(ratchet), "the loop to tick on it", ratchet._alive)
        finally:
            await asyncio.to_thread(ratchet.stop)
    assert ratchet.log.count("Traceback") == 0, ratchet.log


def await_stored(ratchet: RatchetProcess, ask: Ask, records: int) -> None:
    """Wait until the database has so many: more than the copy, by as much as that is to lack."""
    await_true(lambda: int(ask("select count(*) from records")[0][0]) >= records, "it to be stored", ratchet._alive,
               every_s=LOOK_S)  # fmt: skip


class Sqlite:
    """The database file of a server."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        with contextlib.closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True, timeout=60)) as database:
            return database.execute(sql).fetchall()

    def copy(self) -> int:
        """As it is now, for later; returns how many records that is."""
        with (
            contextlib.closing(sqlite3.connect(self.path, timeout=60)) as now,
            contextlib.closing(sqlite3.connect(self.path.with_suffix(".copy"))) as copy,
        ):
            now.backup(copy)
            return int(copy.execute("select count(*) from records").fetchone()[0])


def removed(path: Path) -> None:
    for end in ("", "-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)


def removed_alone(path: Path) -> None:
    path.unlink()


def replaced(path: Path) -> None:
    """With its older copy, beside which the log of the lost one still lies."""
    path.with_suffix(".copy").replace(path)


def moved_away(path: Path) -> None:
    path.rename(path.with_suffix(".moved"))


def without_log(path: Path) -> None:
    path.with_name(path.name + "-wal").unlink()


WAYS = (removed, replaced, *((removed_alone, moved_away, without_log) if FULL else ()))


async def test_database_files_that_vanish_are_noticed_and_filled_again(tmp_path: Path, upstream: Upstream) -> None:
    ratchet = RatchetProcess(tmp_path, champion=upstream.url, settings=SMALL)
    await asyncio.to_thread(ratchet.start)
    database = Sqlite(ratchet.data_dir / "ratchet.db")
    rounds: Rounds = []
    try:
        await asyncio.to_thread(ratchet.await_admin)
        for times, harm in enumerate(WAYS, start=1):
            async with busy(ratchet) as (load, votes):
                rounds.append((load, votes))
                await load.until(AHEAD)
                copied = await asyncio.to_thread(database.copy)
                await load.until(BEHIND)
                await asyncio.to_thread(await_stored, ratchet, database.ask, copied + BEHIND)
                await asyncio.to_thread(harm, database.path)
                await asyncio.to_thread(noticed, ratchet, times)
                await load.until(100)
            await assert_exact(ratchet, rounds, database.ask)
            assert ratchet.metric("ratchet_store_replaced_total") == times
            assert ratchet.metric("ratchet_ingest_not_fed_again_total") == 0
            assert database.ask("pragma integrity_check") == [("ok",)]
            assert status(ratchet)["troubles"] == {}
    finally:
        await asyncio.to_thread(ratchet.stop)
    assert ratchet.log.count("Traceback") == 0, ratchet.log


def noticed(ratchet: RatchetProcess, times: int) -> None:
    """Wait until it has been, so often, and the last of it is told."""
    await_true(lambda: ratchet.metric("ratchet_store_replaced_total") >= times, "it to be noticed", every_s=LOOK_S)
    told(ratchet, "was removed or replaced", min(times, 2))  # of the latest notes alone
