"""Ending tasks: all are told, all are waited for, and whoever waits can be cancelled itself."""

from __future__ import annotations

import asyncio
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.tasks import cancel_and_wait, spawn


class Slow:
    """Tasks that need to be let go before they end."""

    def __init__(self) -> None:
        self.let_go = asyncio.Event()
        self.told = 0
        self.ended = 0

    async def work(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.told += 1
            await self.let_go.wait()
            self.ended += 1


async def started(slow: Slow, count: int) -> list[asyncio.Task[None]]:
    tasks = [spawn(slow.work(), name=f"slow {number}") for number in range(count)]
    await asyncio.sleep(0)
    return tasks


async def test_all_are_told_at_once_and_waited_for() -> None:
    slow = Slow()
    tasks = await started(slow, 3)
    ending = spawn(cancel_and_wait(tasks), name="ending")
    while slow.told < 3:
        await asyncio.sleep(0)
    assert not ending.done()
    slow.let_go.set()
    await ending
    assert slow.ended == 3
    assert all(task.cancelled() for task in tasks)


async def test_whoever_waits_can_be_cancelled() -> None:
    slow = Slow()
    tasks = await started(slow, 2)
    ending = spawn(cancel_and_wait(tasks), name="ending")
    while slow.told < 2:
        await asyncio.sleep(0)
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    assert slow.ended == 0
    slow.let_go.set()
    await asyncio.wait(tasks)
    assert slow.ended == 2, "what was told to end does"


async def test_a_time_out_around_it_is_one() -> None:
    slow = Slow()
    tasks = await started(slow, 1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await cancel_and_wait(tasks)
    slow.let_go.set()
    await asyncio.wait(tasks)


async def test_a_caller_that_is_being_cancelled_still_waits_for_what_it_started() -> None:
    slow, at_work = Slow(), asyncio.Event()

    async def owner() -> None:
        tasks = await started(slow, 2)
        at_work.set()
        try:
            await asyncio.Event().wait()
        finally:
            await cancel_and_wait(tasks)

    owning = spawn(owner(), name="owner")
    await at_work.wait()
    owning.cancel()
    while slow.told < 2:
        await asyncio.sleep(0)
    assert not owning.done()
    slow.let_go.set()
    with pytest.raises(asyncio.CancelledError):
        await owning
    assert slow.ended == 2


async def test_none_and_oneself_are_nothing_to_wait_for() -> None:
    await cancel_and_wait([])
    me = asyncio.current_task()
    assert me is not None
    await cancel_and_wait([me])
    assert not me.cancelling()


@given(ways=st.lists(st.sampled_from(["ends", "raises", "returns", "done", "again"]), max_size=6))
def test_however_they_end_it_returns_and_raises_nothing(ways: list[str]) -> None:
    asyncio.run(_ended(ways))


async def _ended(ways: list[str]) -> None:
    async def task(way: str) -> None:
        try:
            if way != "done":
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            if way == "raises":
                raise ValueError("on the way out") from None
            if way == "again":
                await asyncio.sleep(0)
            if way != "returns":
                raise

    logging.getLogger("proxy.tasks").disabled = True
    unseen: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: unseen.append(context))
    tasks = [asyncio.get_running_loop().create_task(task(way)) for way in ways]
    await asyncio.sleep(0)
    await cancel_and_wait(tasks)
    assert all(one.done() for one in tasks)
    del tasks
    await asyncio.sleep(0)
    logging.getLogger("proxy.tasks").disabled = False
    assert unseen == [], "what a task raised is not reported as never seen"
