"""Replicas on one PostgreSQL: whatever is stopped or paused, each answer has one record, and one decides.

Two of them live through what befalls the database and the leader. Hosts that die are in `test_replicas_story.py`, hosts
that are cut off in `test_replicas_cut.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.harness.fleet import Fleet
from tests.harness.load import load_on
from tests.harness.postgres import PostgresServer, find_binaries, running_postgres
from tests.harness.require import FULL, need
from tests.harness.serve import RatchetProcess, await_true, request
from tests.harness.upstream import Line, Seen, Upstream, reply, serve_upstream

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

LOOK_S = 0.2
"""Between two looks, each of which is work for whole servers."""
PATIENCE_S = 240.0
TAKEOVER_S = 15.0 if FULL else PATIENCE_S
"""The promise is 15 s. In CI other tests run beside this one, and how fast they let it be is no promise of ours."""
OUTAGE_S = 60.0 if FULL else 8.0
CATCH_UP_S = 30.0 if FULL else PATIENCE_S


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    binaries = find_binaries()
    need("postgresql", binaries is not None)
    assert binaries is not None
    with running_postgres(binaries) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def upstream() -> AsyncIterator[Upstream]:
    async with serve_upstream() as server:

        async def hasty(seen: Seen, line: Line) -> None:
            await asyncio.sleep(0.05)
            await line.send(reply())

        server.on("/v1/chat/completions", hasty)
        yield server


@contextlib.asynccontextmanager
async def fleet_of(
    size: int, directory: Path, server: PostgresServer, champion: str, settings: Mapping[str, Any] | None = None
) -> AsyncIterator[Fleet]:
    fleet = Fleet(directory, server, size, champion=champion, settings=settings or {"check_interval_seconds": 0.5})
    try:
        await asyncio.to_thread(fleet.start)
        yield fleet
    finally:
        await asyncio.to_thread(fleet.stop)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleet(
    postgres: PostgresServer, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Fleet]:
    async with fleet_of(2, tmp_path_factory.mktemp("fleet"), postgres, upstream.url) as found:
        yield found


async def until(fleet: Fleet, look: Callable[[], Any], what: str, limit_s: float = PATIENCE_S) -> Any:
    return await asyncio.to_thread(lambda: await_true(look, what, fleet.check, limit_s, every_s=LOOK_S))


async def test_traffic_goes_on_while_the_database_is_down(fleet: Fleet, postgres: PostgresServer) -> None:
    async with contextlib.AsyncExitStack() as stack:
        first, second = fleet.replicas
        loads = [await stack.enter_async_context(load_on(replica.base_url, clients=2)) for replica in fleet.replicas]
        await asyncio.gather(*(load.until(50) for load in loads))
        await asyncio.to_thread(postgres.stop)
        began = time.monotonic()
        try:
            await until(fleet, lambda: all(_says(r, "unreachable") for r in fleet.replicas), "health to say so")
            for replica in fleet.replicas:
                assert replica.metric("ratchet_store_up") == 0
            await until(fleet, lambda: all(_troubled(fleet, r) for r in fleet.replicas), "the status to say so")
            pending = await until(fleet, lambda: _more(fleet, [0.0] * 2), "records to wait on every replica")
            await until(fleet, lambda: _more(fleet, pending), "what waits to be seen growing")
            first.kill("controller")  # one that starts without a database waits for it
            second_worker = second.kill("worker-0")  # and so does nobody who starts to serve
            await asyncio.to_thread(second.await_new, "worker-0", second_worker)
            while time.monotonic() - began < OUTAGE_S:
                await asyncio.gather(*(load.until(50) for load in loads))
        finally:
            await asyncio.to_thread(postgres.start)
        back, missed = time.monotonic(), sum(len(load.answered) for load in loads)
        await until(fleet, lambda: int(fleet.query("select count(*) from records")[0]) >= missed, "what was missed")
        caught_up_s = time.monotonic() - back
        await until(fleet, lambda: all(_says(r, "ok") for r in fleet.replicas), "health to say ok again")
        await until(fleet, fleet.leader, "a leader")
        led_s = time.monotonic() - back
        await stack.aclose()
        print(
            f"{missed} answers; after {OUTAGE_S} s without a database stored in {caught_up_s:.1f} s, led in {led_s:.1f}"
        )
        assert [load.refused for load in loads] == [0, 0]
        assert loads[0].broken == 0
        assert loads[1].broken <= 2, "what was open in the worker that was killed"
        assert caught_up_s < CATCH_UP_S
        await fleet.assert_nothing_lost(*loads)


def _troubled(fleet: Fleet, replica: RatchetProcess) -> bool:
    return "store" in (fleet.status(replica).get("trouble") or "")


def _more(fleet: Fleet, before: list[float]) -> list[float] | None:
    """What waits on every replica, bytes, where it is more than before on all of them."""
    now = [replica.metric("ratchet_spool_pending_bytes") for replica in fleet.replicas]
    return now if all(later > earlier for earlier, later in zip(before, now, strict=True)) else None


async def test_a_leader_that_slept_changes_nothing(fleet: Fleet) -> None:
    await take_over_while_the_leader_sleeps(fleet, "pause", paused=True)
    await take_over_while_the_leader_sleeps(fleet, "resume", paused=False)
    assert fleet.late_entries() == [], "written under a lease that had moved on"


async def take_over_while_the_leader_sleeps(fleet: Fleet, verb: str, *, paused: bool) -> None:
    """SIGSTOP the leader, let the other one decide something, SIGCONT: it follows."""
    sleeper = await until(fleet, fleet.leader, "a leader")
    (other,) = (replica for replica in fleet.replicas if replica is not sleeper)
    pid = sleeper.controller_pid
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        await until(fleet, lambda: fleet.leader() is other, "the other one to lead")
        assert time.monotonic() - began < TAKEOVER_S
        command = await asyncio.to_thread(fleet.order, other, verb)
        done = f"select id from commands where id = {command} and state = 'done'"
        await until(fleet, lambda: fleet.query(done), "the order to be carried out")
    finally:
        os.kill(pid, signal.SIGCONT)
    await until(fleet, lambda: _agree(fleet, paused), "both to say what the new leader decided")
    assert sleeper.controller_pid == pid
    assert fleet.leader() is other


async def test_an_order_given_to_a_follower_reaches_the_leader(
    tmp_path: Path, postgres: PostgresServer, upstream: Upstream
) -> None:
    settings = {"check_interval_seconds": 3600}  # the leader sleeps for an hour, but for notifications
    async with fleet_of(2, tmp_path, postgres, upstream.url, settings) as fleet:
        leader = await until(fleet, fleet.leader, "a leader")
        (follower,) = (replica for replica in fleet.replicas if replica is not leader)
        began = time.monotonic()
        await asyncio.to_thread(fleet.order, follower, "pause")
        await until(fleet, lambda: _agree(fleet, True), "both to say that the loop is paused")
        assert time.monotonic() - began < TAKEOVER_S
        seen = await until(fleet, lambda: _replicas(fleet, 2), "both replicas in the status of each")
        assert {replica["public"] for replica in seen} == {replica.base_url for replica in fleet.replicas}
        said = f"The controller on {next(row['host'] for row in seen if row['leader'])} runs the loop".encode()
        pages = [await asyncio.to_thread(request, one.admin_url, "/") for one in (follower, leader)]
        assert [said in page.body for page in pages] == [True, False]
        rings = [replica.data_dir / "keys.json" for replica in fleet.replicas]
        await until(fleet, lambda: rings[0].read_bytes() == rings[1].read_bytes(), "one key ring for both")


def _replicas(fleet: Fleet, count: int) -> list[dict[str, Any]] | None:
    """What every replica says of all of them, once they agree on who is there and who leads."""
    told = [fleet.status(replica).get("replicas", []) for replica in fleet.replicas]
    agreed = all(len(seen) == count and sum(row["leader"] for row in seen) == 1 for seen in told)
    return told[0] if agreed and all(row["alive"] for row in told[0]) else None


def _says(replica: RatchetProcess, store: str) -> bool:
    """Whether its worker serves and says so about the store."""
    health = request(replica.base_url, "/-/health?verbose")
    return health.status == 200 and health.json()["store"] == store


def _agree(fleet: Fleet, paused: bool) -> bool:
    """Whether every replica shows that phase, and exactly one says that it leads."""
    told = [fleet.status(replica) for replica in fleet.replicas]
    return (
        all(status.get("phase", {}).get("paused") is paused for status in told)
        and sum(status.get("leader", False) for status in told) == 1
    )
