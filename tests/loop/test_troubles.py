"""What keeps the loop from its work is a trouble until it ticks again, and a line a minute."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from policies.lifecycle import Phase
from proxy.app.troubles import Troubles
from proxy.errors import PermanentError, TemporaryError
from proxy.loop.tick import Loop
from proxy.store.store import Store
from tests.harness.loop import World, settle


class Failing(Loop):
    """Fails of what it is told, and never sleeps."""

    fails: Exception | None = None
    waits: list[float]
    left = 0

    async def tick(self) -> Any:
        if self.fails is not None:
            raise self.fails
        return await super().tick()

    async def _nap(self, seconds: float, stop: asyncio.Event) -> None:
        self.waits.append(seconds)
        self._clock.advance(seconds)  # type: ignore[attr-defined]
        await asyncio.sleep(0)
        self.left -= 1
        if not self.left:
            stop.set()


async def run(loop: Failing, turns: int, fails: Exception | None) -> None:
    loop.left, loop.fails, loop.waits = turns, fails, []
    await loop.run(asyncio.Event())


def failing(world: World, store: Store, troubles: Troubles) -> Failing:
    loop = world.start(store, troubles=troubles)
    loop.__class__ = Failing
    assert isinstance(loop, Failing)
    return loop


@pytest.mark.parametrize("error", [PermanentError("no champion"), ValueError("odd"), OSError(28, "No space left")])
async def test_what_goes_on_failing_is_said_once_a_minute_and_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    world = World(tmp_path)
    troubles = Troubles(world.clock)
    caplog.set_level(logging.WARNING)
    async with world.store() as store:
        loop = failing(world, store, troubles)
        await run(loop, 1, error)
        assert troubles.of("loop") == "", "one may be a lease that has just gone"
        started = world.clock.monotonic()
        await run(loop, 8, error)
        assert str(error) in troubles.of("loop")
        assert loop.waits == [5, 10, 20, 40, 60, 60, 60, 60]
        said = [record for record in caplog.records if "tick " in record.getMessage()]
        assert len(said) <= 2 + (world.clock.monotonic() - started) / 60
        await run(loop, 1, None)
        assert troubles.of("loop") == ""


async def test_a_store_that_is_away_is_the_stores_trouble(tmp_path: Path) -> None:
    world = World(tmp_path)
    troubles = Troubles(world.clock)
    async with world.store() as store:
        await run(failing(world, store, troubles), 5, TemporaryError("no answer"))
        assert troubles.of("loop") == ""


async def test_the_loop_survives_thousands_of_failures(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.store() as store:
        loop = failing(world, store, Troubles(world.clock))
        await run(loop, 1200, PermanentError("no champion"))
        assert loop.waits[-1] == 60


async def test_routes_that_cannot_be_written_are_a_trouble_of_their_own(tmp_path: Path) -> None:
    world = World(tmp_path)
    troubles = Troubles(world.clock)
    async with world.store() as store:
        loop = world.start(store, troubles=troubles)
        await settle(loop)
        published = world.routes()
        world.routes_path.unlink()
        world.routes_path.mkdir()
        with pytest.raises(OSError, match=r"routes\.json"):
            await loop.tick()
        assert troubles.of("routes").startswith("routes.json cannot be written (Is a directory)")
        world.routes_path.rmdir()
        await loop.tick()
        assert troubles.of("routes") == ""
        assert world.routes().champion == published.champion
        assert (await loop.status()).phase.name == Phase.IDLE.value


async def test_what_woke_a_tick_that_fails_does_not_keep_the_loop_awake(tmp_path: Path) -> None:
    """A poke of the time before would end every wait at once: four thousand ticks in half a minute."""

    class Poked(Failing):
        woken: list[bool]

        async def _nap(self, seconds: float, stop: asyncio.Event) -> None:
            self.woken.append(self._poked.is_set())
            await super()._nap(seconds, stop)

    world = World(tmp_path)
    async with world.store() as store:
        loop = failing(world, store, Troubles(world.clock))
        loop.__class__ = Poked
        assert isinstance(loop, Poked)
        loop.woken = []
        loop.poke()
        await run(loop, 3, TemporaryError("store: read-only", retry_after_s=1.0))
        assert loop.woken == [False] * 3
