"""The lease is renewed for its whole term, whatever a renewal fails of; after that each write is fenced."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from proxy.errors import PermanentError, TemporaryError
from proxy.loop.act.leadership import LEASE, Leadership
from proxy.store.store import Store
from proxy.store.tables.control import LoopTransaction
from tests.harness.loop import World


class Leases:
    """The store's, which fail of what they are told to."""

    def __init__(self, store: Store) -> None:
        self._leases = store.leases
        self.errors: list[Exception] = []
        self.always: Exception | None = None
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._leases, name)

    async def acquire(self, *args: Any, **settings: Any) -> Any:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        if self.always is not None:
            raise self.always
        return await self._leases.acquire(*args, **settings)


class Eager(Leadership):
    """Renews all the time."""

    renew_s = 0.005  # type: ignore[assignment]


ERRORS = [TemporaryError("locked"), PermanentError("gone"), OSError(5, "EIO"), RuntimeError("driver"), ValueError("x"),
          KeyError("y"), TimeoutError(), ExceptionGroup("several", [ValueError("z")])]  # fmt: skip


async def test_renewing_goes_on_after_any_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with World(tmp_path).store() as store:
        store.leases = leases = Leases(store)  # type: ignore[assignment]
        leadership = Eager(store, ttl_s=120.0, holder="one")
        lease = await leadership.acquire()
        assert lease is not None
        async with leadership.renewing(), asyncio.timeout(60):
            leases.errors = list(ERRORS)
            while leases.errors:
                await asyncio.sleep(0)
            before = leases.calls
            while leases.calls < before + 3:
                await asyncio.sleep(0)
            assert leadership.leads
        again = await leadership.acquire()
        assert again is not None
        assert again.fence == lease.fence
        await store.journal.transition(LoopTransaction(fence=lease.fence))
    said = [record for record in caplog.records if "could not be renewed" in record.getMessage()]
    assert [record.levelno for record in said] == [logging.WARNING], "once a minute"


async def test_when_its_term_is_over_renewing_ends_and_writes_are_fenced(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.store() as store:
        store.leases = leases = Leases(store)  # type: ignore[assignment]
        leadership = Eager(store, ttl_s=0.2, holder="one")
        lease = await leadership.acquire()
        assert lease is not None
        async with leadership.renewing(), asyncio.timeout(60):
            leases.always = RuntimeError("driver")
            while not leadership.lapsed:
                await asyncio.sleep(0.01)
            while any(task.get_name() == "renew the loop's lease" for task in asyncio.all_tasks()):
                await asyncio.sleep(0.01)
            leases.always = None
            tried = leases.calls
            world.clock.advance(1.0)
            other = await store.leases.acquire(LEASE, "two", ttl_s=0.2)
            assert other is not None
            assert leases.calls == tried + 1
            with pytest.raises(PermanentError, match="fenced"):
                await store.journal.transition(LoopTransaction(fence=lease.fence))
        assert await leadership.acquire() is None


async def test_a_lease_that_another_has_is_not_asked_for_during_a_tick(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.store() as store:
        leadership = Eager(store, ttl_s=120.0, holder="one")
        assert await leadership.acquire() is not None
        async with asyncio.timeout(60):
            async with leadership.renewing():
                world.clock.advance(121.0)
                while (await store.leases.acquire(LEASE, "two", ttl_s=120.0)) is None:
                    world.clock.advance(121.0)  # it was quicker
                while leadership.leads:
                    await asyncio.sleep(0)
        assert (await store.leases.get(LEASE)).holder == "two"  # type: ignore[union-attr]
