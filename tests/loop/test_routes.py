"""The route table: published by ticks alone, from one read, never older; a restore is followed all the same."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.loop.act.routes import RoutesFile, publish
from proxy.loop.look.position import read_position
from proxy.routes import RouteTable, Target, read_routes, write_routes
from proxy.store.tables.control import LoopTransaction
from tests.harness.loop import World, settle

BASE = Target(model_id=1, name="base", url="http://models/base")
NEW = Target(model_id=2, name="new", url="http://models/new")


def table(version: int, share: float = 0.0) -> RouteTable:
    return RouteTable(version=version, champion=BASE, challenger=NEW if share else None, share=share, salt="00",
                      experiment_id=1)  # fmt: skip


def test_an_older_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "routes.json"
    old, new = table(3, share=0.5), table(4)
    assert publish(path, old) == old
    assert publish(path, new) == new
    assert publish(path, old) == new
    assert read_routes(path) == new
    assert publish(None, old) == old, "without workers there is nothing to refuse"


def test_the_table_of_a_restored_database_is_the_newest(tmp_path: Path) -> None:
    path = tmp_path / "routes.json"
    publish(path, table(9))
    assert publish(path, table(3, share=0.5), restored=True) == table(10, share=0.5)
    assert publish(path, table(3, share=0.5), restored=True) == table(10, share=0.5), "once"
    assert publish(path, table(10)) == table(11), "two tables never share a version"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(st.tuples(st.integers(1, 6), st.sampled_from([0.0, 0.1, 0.5]), st.booleans()), max_size=12),
)
def test_versions_in_the_file_only_grow(
    steps: list[tuple[int, float, bool]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("routes") / "routes.json"
    before: RouteTable | None = None
    for version, share, restored in steps:
        said = publish(path, table(version, share), restored=restored)
        assert read_routes(path) == said
        if before is not None:
            assert said == before or said.version > before.version
            if version < before.version and not restored:
                assert said == before
        before = said


async def test_a_status_request_writes_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.store() as store:
        loop = world.start(store)
        await settle(loop)
        published = world.routes()
        world.routes_path.unlink()
        await loop.look()
        await loop.look(leader=False)
        await loop.status()
        assert not world.routes_path.exists()
        await loop.tick()
        assert world.routes() == published


async def test_a_file_that_is_lost_between_two_ticks_is_written_at_the_next_look(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.store() as store:
        loop, stop = world.start(store, lease_s=0.3), asyncio.Event()
        running = asyncio.ensure_future(loop.run(stop))
        async with asyncio.timeout(30):
            while not world.routes_path.exists():
                await asyncio.sleep(0.01)
            world.routes_path.unlink()
            while not world.routes_path.exists():
                await asyncio.sleep(0.01)
        stop.set()
        await running


async def test_state_and_rows_are_of_one_moment(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.store() as store:
        loop = world.start(store)
        await settle(loop)
        await world.chat(store, users=40)
        await settle(loop)
        position = await read_position(store)
        assert position is not None
        assert position.run is not None
        assert position.experiment is not None
        assert position.challenger is not None
        lease = await store.leases.get("loop")
        assert lease is not None
        named = 0

        def names(value: object) -> object:
            """Another process writes just between the two reads."""
            nonlocal named
            named += 1
            return _rewritten(tmp_path / "ratchet.db", wanted(value))

        from proxy.loop.look.position import _named as wanted

        rows = await store.state.with_rows("loop", names)  # type: ignore[arg-type]
        assert named == 1
        assert rows is not None
        assert rows.models[position.state.ledger.champion_id].name == "base"
        assert (await store.models.get(position.state.ledger.champion_id)).name == "renamed"  # type: ignore[union-attr]
        await store.journal.transition(LoopTransaction(fence=lease.fence))


def _rewritten(path: Path, wanted: object) -> object:
    import sqlite3

    with sqlite3.connect(path) as other:
        other.execute("UPDATE models SET name = 'renamed' WHERE name = 'base'")
    other.close()
    return wanted


async def _restored(world: World, tmp_path: Path) -> RouteTable:
    """Yesterday's database under today's file."""
    async with world.store() as store:
        await settle(world.start(store))
    shutil.copy(tmp_path / "ratchet.db", tmp_path / "backup.db")
    async with world.store() as store:
        await world.chat(store, users=40)
        await settle(world.start(store))
    for name in ("ratchet.db-wal", "ratchet.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    shutil.copy(tmp_path / "backup.db", tmp_path / "ratchet.db")
    world.clock.advance(31.0)  # past the lease that came back with it
    return world.routes()


async def test_after_a_restore_the_leader_goes_on_above_the_file(tmp_path: Path) -> None:
    world = World(tmp_path)
    before = await _restored(world, tmp_path)
    assert before.challenger is not None
    async with world.store() as store:
        await world.start(store).tick()
        position = await read_position(store)
        assert position is not None
        assert world.routes().challenger is None
        assert world.routes().version == position.state.ledger.routes_version > before.version


async def test_after_a_restore_a_standby_follows_although_its_file_is_ahead(tmp_path: Path) -> None:
    """The leader's own file is behind, so nothing tells it of the restore."""
    world = World(tmp_path)
    before = await _restored(world, tmp_path)
    mine = tmp_path / "standby.json"
    write_routes(mine, replace(before, version=before.version + 10))
    world.routes_path.unlink()
    async with world.store() as store:
        leader = world.start(store, holder="one")
        await settle(leader)
        world.routes_path = mine
        standby = world.start(store, holder="two")
        for _ in range(2):
            assert not (await standby.tick()).leader
            told = read_routes(mine)
            assert told.challenger is None
            assert told.version == before.version + 11
        await world.chat(store, users=40)
        assert await settle(leader)
        await standby.tick()
        assert read_routes(mine).challenger is not None, "it is not stuck there either"


async def test_a_file_that_was_removed_does_not_begin_again_below(tmp_path: Path) -> None:
    file = RoutesFile(tmp_path / "routes.json")
    await file.publish(table(7))
    (tmp_path / "routes.json").unlink()
    assert await file.version() == 7
    assert await file.lacks(7)
    assert await RoutesFile(None).version() == 0
    assert not await RoutesFile(None).lacks(7)


async def test_a_disk_that_takes_its_time_does_not_hold_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, disk, real = threading.Event(), threading.Event(), os.fsync

    def slow(descriptor: int) -> None:
        begun.set()
        assert disk.wait(30)
        real(descriptor)

    file = RoutesFile(tmp_path / "routes.json")
    monkeypatch.setattr(os, "fsync", slow)
    writing = asyncio.ensure_future(file.publish(table(1)))
    async with asyncio.timeout(30):
        while not begun.is_set():
            await asyncio.sleep(0)
        turns = 0
        while turns < 100:
            await asyncio.sleep(0)
            turns += 1
        assert not writing.done()
        disk.set()
        await writing
    assert read_routes(tmp_path / "routes.json") == table(1)
