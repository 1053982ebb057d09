"""What computes or waits for a disk leaves the event loop free: everybody else is served meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from proxy.clock import ManualClock
from proxy.ids import KeyRing, RecordIds
from proxy.store.store import Store
from tests.harness.loop import World


class Gate:
    """Holds whoever comes by until it is opened."""

    def __init__(self) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()
        self.thread: int | None = None

    def pass_through(self) -> None:
        self.thread = threading.get_ident()
        self.reached.set()
        assert self.opened.wait(30)

    async def holds_nobody_else(self, work: Callable[[], Awaitable[Any]]) -> Any:
        """Do `work`, whose path goes through here, and see the event loop turn while it stands before the gate."""
        working = asyncio.ensure_future(work())
        async with asyncio.timeout(30):
            while not self.reached.is_set() and not working.done():
                await asyncio.sleep(0)
            assert not working.done()
            for _ in range(100):
                await asyncio.sleep(0)
            assert not working.done()
            self.opened.set()
            result = await working
        assert self.thread != threading.get_ident()
        return result


class SlowTags(Mapping[str, str]):
    """A part of a body that takes its time to be packed."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def __getitem__(self, name: str) -> str:
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        self._gate.pass_through()
        return iter(())

    def __len__(self) -> int:
        return 0


class SlowCompressor:
    """The real one, after a while."""

    def __init__(self, real: Any, gate: Gate) -> None:
        self._real, self._gate = real, gate

    def compress(self, data: bytes) -> bytes:
        self._gate.pass_through()
        compressed: bytes = self._real.compress(data)
        return compressed


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_packing_bodies_holds_nobody(world: World) -> None:
    from proxy.store.tables.values import BodyPayload

    gate = Gate()
    record_id = RecordIds(KeyRing.load_or_create(world.root / "other.json")).mint(ManualClock().now()).hex
    payload = BodyPayload(method="POST", target="/", query="q", response_text="r", tags=SlowTags(gate))
    async with world.store() as store:
        blocks = await gate.holds_nobody_else(lambda: store._codec.encode([(record_id, payload)]))
    assert [block.ids for block in blocks] == [(record_id,)]


async def test_taking_a_body_out_of_its_block_holds_nobody(world: World) -> None:
    async with world.store() as store:
        await world.chat(store, users=2)
        gate = Gate()
        store._codec._compressor = SlowCompressor(store._codec._compressor, gate)  # type: ignore[assignment]
        deleted = await gate.holds_nobody_else(lambda: store.deletion.delete_user(1))
        assert (deleted.records, deleted.bodies) == (3, 3)
        left = [view async for view in store.records.iter()]
        assert len(left) == 3
        assert all(view.body is not None for view in left)


async def test_reading_whose_samples_were_trained_on_holds_nobody(world: World) -> None:
    gate = Gate()

    def users() -> Iterator[int]:
        yield 1
        gate.pass_through()
        yield 2

    async with world.store() as store:
        await gate.holds_nobody_else(lambda: _add(store, users()))
        assert await store.runs.users("run-1") == 2


async def _add(store: Store, users: Iterator[int]) -> None:
    await store.runs.add_users("run-1", users)
