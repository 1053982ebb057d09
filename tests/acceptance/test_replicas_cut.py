"""A host that loses the database and not its clients: it serves on, says so, and joins the others when it is back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.harness.fleet import Fleet
from tests.harness.hosts import TOKEN, HostProcess
from tests.harness.load import load_on
from tests.harness.network import Network, can_make_networks, network_of
from tests.harness.postgres import find_binaries, running_postgres
from tests.harness.require import need
from tests.harness.serve import await_true, request
from tests.harness.upstream import Line, Seen, reply, serve_upstream

pytestmark = pytest.mark.slow


@contextlib.asynccontextmanager
async def two_hosts(directory: Path) -> AsyncIterator[tuple[Fleet, Network]]:
    """Each with a cable to clients and models, and one to the database."""
    binaries = find_binaries()
    need("postgresql", binaries is not None)
    need("network namespaces", can_make_networks())
    assert binaries is not None

    async def hasty(seen: Seen, line: Line) -> None:
        await asyncio.sleep(0.05)
        await line.send(reply())

    with network_of(2) as network, running_postgres(binaries, network.back) as server:
        async with serve_upstream(host=network.front) as upstream:
            upstream.on("/v1/chat/completions", hasty)
            rules = {"check_interval_seconds": 0.5}
            fleet = Fleet(directory, server, 2, champion=upstream.url, settings=rules, network=network)
            try:
                await asyncio.to_thread(fleet.start)
                yield fleet, network
            finally:
                await asyncio.to_thread(fleet.stop)


async def until(fleet: Fleet, look: Callable[[], Any], what: str) -> Any:
    """Looked for five times a second: each look is work for whole servers."""
    return await asyncio.to_thread(lambda: await_true(look, what, fleet.check, 240.0, every_s=0.2))


async def test_a_leader_cut_off_serves_on_and_follows_when_it_is_back(tmp_path: Path) -> None:
    async with two_hosts(tmp_path) as (fleet, network), contextlib.AsyncExitStack() as stack:
        lost = await until(fleet, lambda: _leads(fleet), "a leader that has looked around")
        assert isinstance(lost, HostProcess)
        (other,) = (host for host in fleet.hosts if host is not lost)
        one, two = [await stack.enter_async_context(load_on(host.base_url, clients=2)) for host in (lost, other)]
        await asyncio.gather(one.until(50), two.until(50))
        await asyncio.to_thread(network.cut, lost.host)
        try:
            await until(fleet, lambda: fleet.leader() is other, "the other one to lead")
            command = await asyncio.to_thread(fleet.order, other, "pause")
            done = f"select id from commands where id = {command} and state = 'done'"
            await until(fleet, lambda: fleet.query(done), "the order to be carried out")
            await until(fleet, lambda: _store(lost) == "unreachable", "health to say so")
            assert lost.metric("ratchet_store_up") == 0
            status = await until(fleet, lambda: _troubled(fleet, lost), "the status to say so")
            assert not status["leader"]
            await until(fleet, lambda: lost.metric("ratchet_loop_leader") == 0, "metrics to say so")
            assert _store(other) == "ok"
            await asyncio.gather(one.until(100), two.until(50))
            await until(fleet, lambda: lost.metric("ratchet_spool_pending_bytes") > 0, "records to wait")
        finally:
            await asyncio.to_thread(network.mend, lost.host)
        await until(fleet, lambda: _store(lost) == "ok", "health to say ok again")
        await until(fleet, lambda: _paused(fleet), "both to say what the new leader decided")
        await one.until(20)
        await stack.aclose()
        assert one.broken == two.broken == one.refused == two.refused == 0
        await fleet.assert_nothing_lost(one, two)
        assert fleet.late_entries() == []
        assert fleet.leader() is other


def _leads(fleet: Fleet) -> Any:
    """The host that holds the lease, once its loop says so."""
    host = fleet.leader()
    return host if host is not None and fleet.status(host).get("leader") else None


def _store(host: HostProcess) -> str:
    """What its worker says about the store."""
    health = request(host.base_url, "/-/health?verbose", headers={"authorization": f"Bearer {TOKEN}"})
    assert health.status == 200
    return str(health.json()["store"])


def _troubled(fleet: Fleet, host: HostProcess) -> dict[str, Any] | None:
    status = fleet.status(host)
    return status if "store" in (status.get("trouble") or "") else None


def _paused(fleet: Fleet) -> bool:
    """Whether both show that phase, and exactly one says that it leads."""
    told = [fleet.status(host) for host in fleet.hosts]
    paused = [status.get("phase", {}).get("paused") for status in told]
    return paused == [True, True] and sum(status.get("leader", False) for status in told) == 1
