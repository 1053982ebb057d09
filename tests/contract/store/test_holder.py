"""Of several processes one works; what it has kept, and its place, go to the next."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from proxy.errors import TemporaryError
from proxy.store.control.holder import LeaseHolder
from proxy.store.store import Store
from proxy.tasks import cancel_and_wait, spawn


class Counting:
    """Work that counts on from where whoever had the lease was."""

    def __init__(self, store: Store, name: str) -> None:
        self.rounds = 0
        self.without = 0
        self.reached = 0
        self.took_over = 0
        self.breaks = False
        self.holder = LeaseHolder(
            store.leases, "counting", name, take_over=self._take_over, detail=lambda: {"reached": self.reached},
            ttl_s=60.0, renew_s=0.02,
        )  # fmt: skip

    async def _take_over(self) -> None:
        before = await self.holder.before()
        detail = {"reached": 0} if before is None else dict(before.detail)
        if await self.holder.renew(detail) is not None:
            self.took_over += 1
            self.reached = detail["reached"]

    async def work(self) -> bool:
        if self.holder.lease is None:
            self.without += 1
        else:
            self.rounds += 1
            self.reached += 1
        await asyncio.sleep(0.005)
        if self.breaks:
            raise TemporaryError("the store is away")
        return True

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[Any]]:
        task = spawn(self.holder.run(self.work), name="work under test")
        try:
            yield task
        finally:
            await cancel_and_wait([task])

    async def until(self, what: str, count: int) -> None:
        async with asyncio.timeout(60):
            while getattr(self, what) < count:
                await asyncio.sleep(0.005)


async def test_one_works_the_other_waits_and_goes_on_where_it_was(store: Store) -> None:
    one, two = Counting(store, "one"), Counting(store, "two")
    async with one.running():
        await one.until("rounds", 3)
        async with two.running():
            await two.until("without", 10)
            assert (two.rounds, two.took_over) == (0, 0)
            kept = await store.leases.get("counting")
            assert kept is not None
            assert kept.holder == "one"
    reached = one.reached
    assert one.holder.lease is None
    async with two.running():
        await two.until("rounds", 3)
        assert two.took_over == 1
    assert two.reached >= reached + 3, "with what was reached when the first gave the lease back"
    left = await store.leases.get("counting")
    assert left is not None
    assert left.detail == {"reached": two.reached}


async def test_whoever_waits_takes_over_when_the_lease_is_given_back(store: Store) -> None:
    one, two = Counting(store, "one"), Counting(store, "two")
    async with one.running() as first:
        await one.until("rounds", 1)
        async with two.running():
            await two.until("without", 1)
            await cancel_and_wait([first])
            await two.until("rounds", 1)
    assert (one.took_over, two.took_over) == (1, 1)


async def test_who_lost_the_lease_stops_until_it_is_free_again(store: Store) -> None:
    one = Counting(store, "one")
    async with one.running():
        await one.until("rounds", 1)
        while (
            other := await store.leases.acquire("counting", "another", ttl_s=60.0, detail={"reached": 1000})
        ) is None:
            if one.holder.lease is not None:
                await store.leases.release(one.holder.lease)  # until it is not renewed in between
        await one.until("without", 1)
        await store.leases.release(other)
        await one.until("took_over", 2)
        assert one.reached >= 1000


async def test_what_the_work_raises_ends_it_and_gives_the_lease_back(store: Store) -> None:
    one, two = Counting(store, "one"), Counting(store, "two")
    one.breaks = True
    with pytest.raises(TemporaryError, match="the store is away"):
        await one.holder.run(one.work)
    async with two.running():
        await two.until("rounds", 1)
