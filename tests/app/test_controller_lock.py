"""What a controller says of the store while it waits for its directory."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

from proxy.app.controller_lock import ControllerLock
from proxy.app.store_health import StoreHealth
from proxy.app.store_health_file import StoreHealthFile
from proxy.app.troubles import Troubles
from proxy.clock import ManualClock


async def taken(directory: Path, troubles: Troubles, clock: ManualClock) -> bool:
    """Whether the lock in `directory` is had at the first try, whatever that says to `troubles`."""
    health = StoreHealth(troubles, StoreHealthFile(directory / "store.json"), lambda up: None, clock)
    lock, stop = ControllerLock(directory / "controller.lock", 1, clock), asyncio.Event()
    stop.set()
    async with AsyncExitStack() as stack:
        return await lock.take(stop, stack, overdue_s=60.0, waits=health.starting, fails=health.kept_from_starting)


def test_a_directory_that_cannot_be_written_is_a_trouble_and_an_earlier_controller_is_none(tmp_path: Path) -> None:
    clock = ManualClock()
    troubles = Troubles(clock)

    async def second() -> bool:
        lock = ControllerLock(tmp_path / "controller.lock", 1, clock)
        async with AsyncExitStack() as stack:
            assert await lock.take(asyncio.Event(), stack, overdue_s=60.0, waits=print, fails=print)
            return await taken(tmp_path, troubles, clock)

    assert asyncio.run(taken(tmp_path, troubles, clock))
    assert troubles.status()["store"].starting
    assert not asyncio.run(taken(tmp_path / "gone", troubles, clock))
    said = troubles.status()["store"]
    assert said.sentence.startswith("the data directory cannot be written: ")
    assert not said.starting
    assert not asyncio.run(second())
    said = troubles.status()["store"]
    assert said.sentence == "an earlier controller is still finishing"
    assert said.starting
