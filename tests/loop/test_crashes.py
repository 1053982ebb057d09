"""Killed after any effect and started again, the loop finishes the same work once.

The story is told once without a crash; then again until it has died once right after every effect in it; then with
crashes at random. However it went, it must end the same: the same models, runs, experiments, routes and totals, each
action done once, nothing left open, one training per trigger.
"""

from __future__ import annotations

import shutil
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest

from policies.records import Arm
from proxy.loop.tick import Loop
from proxy.store.store import Store
from proxy.store.tables.control import JournalState
from tests.harness.faults import Crash, Faults
from tests.harness.loop import HOUR_S, World, settle


class Controller:
    """The loop as a supervisor runs it: after a crash a new one is started."""

    def __init__(self, world: World, store: Store, faults: Faults) -> None:
        self._world, self._store, self._faults = world, store, faults
        self.crashes = 0
        self._loop = self._start()

    def _start(self) -> Loop:
        faults, world = self._faults, self._world
        return world.start(
            faults.around(self._store),
            trainer=faults.around(world.trainer),
            deployer=faults.around(world.deployer),
            datasets=faults.around(world.datasets),
        )

    async def rest(self) -> None:
        """Until nothing is left to do."""
        while True:
            try:
                await settle(self._loop, limit=60)
            except Crash:
                self.crashes += 1
                self._loop = self._start()
            else:
                return


async def promotion(world: World, store: Store, controller: Controller) -> None:
    """Install, retrain, test, promote, watch in two parts, retire."""
    await controller.rest()
    await world.chat(store, users=40)
    await controller.rest()
    world.clock.advance(2 * HOUR_S)
    await world.chat(store, users=80, quality={Arm.CHAMPION: 0.7, Arm.CHALLENGER: 0.85})
    await controller.rest()
    await world.chat(store, users=200, each=6, quality={Arm.CHAMPION: 0.85})
    world.clock.advance(0.6 * HOUR_S)  # the next part of the watch
    await controller.rest()
    await world.chat(store, users=40, quality={Arm.CHAMPION: 0.85})
    world.clock.advance(1.5 * HOUR_S)
    await controller.rest()
    world.clock.advance(31.0)
    await controller.rest()


async def setbacks(world: World, store: Store, controller: Controller) -> None:
    """A challenger that harms is rolled back; the next one wins, fails in the watch window, and is returned."""
    await controller.rest()
    await world.chat(store, users=40)
    await controller.rest()
    world.clock.advance(2 * HOUR_S)
    await world.chat(store, users=80, quality={Arm.CHAMPION: 0.8, Arm.CHALLENGER: 0.5})
    await controller.rest()
    world.clock.advance(30 * HOUR_S)
    await world.chat(store, users=40)
    await controller.rest()
    world.clock.advance(2 * HOUR_S)
    await world.chat(store, users=80, quality={Arm.CHAMPION: 0.7, Arm.CHALLENGER: 0.85})
    await controller.rest()
    await world.chat(store, users=80, status={Arm.CHAMPION: 500})
    await controller.rest()
    world.clock.advance(31.0)
    await controller.rest()


async def ending(world: World, store: Store) -> dict[str, Any]:
    """What is left when the story is over, but for numbers that a crash may change (versions, sequence numbers)."""
    journal = await store.journal.recent(limit=500)
    done = [entry.action for entry in reversed(journal) if entry.state is JournalState.DONE and entry.action != "Hold"]
    routes = world.routes()
    state = await store.state.get("loop")
    return {
        "unfinished": len(await store.journal.unfinished()),
        "done": done,
        "models": [(model.name, model.state.value, model.url) for model in await store.models.list()],
        "runs": [(run.id, run.state) for run in await store.runs.list()],
        "experiments": [
            (one.verdict, one.ended_us is None, len(one.watch_epochs)) for one in await store.experiments.list()
        ],
        "phase": (state["phase"]["name"], state["ledger"]["totals"], state["ledger"]["retiring"], state["retries"]),
        "routes": (routes.champion, routes.challenger, routes.control, routes.share, routes.experiment_id),
        "trained": sorted(world.trainer.runs),
        "datasets": world.datasets.built,
        "served": world.deployer.ever,
        "retired": dict(world.deployer.retired),
        "serving": sorted(world.deployer.serving.values()),
    }


async def tell(
    story: Any, root: Path, faults: Faults, template: Path | None = None
) -> tuple[dict[str, Any], Controller]:
    world = World(root)
    if template is not None:
        shutil.copy(template, root / "ratchet.db")
    async with world.store() as store:
        controller = Controller(world, store, faults)
        await story(world, store, controller)
        return await ending(world, store), controller


@pytest.fixture
async def template(tmp_path: Path) -> Path:
    """An empty database of the present schema: a story need not migrate again."""
    world = World(tmp_path / "template")
    async with world.store():
        pass
    return tmp_path / "template" / "ratchet.db"


_STORIES = 4


@pytest.mark.slow
async def test_a_crash_after_any_effect_changes_nothing(tmp_path: Path, template: Path) -> None:
    """Every effect of the story is crashed after once; each telling takes every fourth of them."""
    calm = Faults()
    expected, _ = await tell(promotion, tmp_path / "calm", calm, template)
    assert expected["unfinished"] == 0
    assert expected["phase"][0] == "idle"
    assert len(expected["trained"]) == 1
    assert expected["done"].count("RenewWatch") == 1
    crashed: set[str] = set()
    for telling in range(_STORIES):
        fatal = set(calm.labels[telling::_STORIES])

        def dies_after(count: int, label: str, fatal: set[str] = fatal) -> bool:
            fatal_now = label in fatal
            fatal.discard(label)
            return fatal_now

        faults = Faults(dies_after)
        ended, controller = await tell(promotion, tmp_path / str(telling), faults, template)
        assert controller.crashes == len(faults.crashed) > 4
        assert ended == expected, f"killed after each of {faults.crashed}"
        crashed |= set(faults.crashed)
    assert crashed == set(calm.labels)


@pytest.mark.slow
async def test_crashes_all_over_the_place_change_nothing(tmp_path: Path, template: Path) -> None:
    expected, _ = await tell(setbacks, tmp_path / "calm", Faults(), template)
    assert "RollBack" in expected["done"]
    assert "ReturnTraffic" in expected["done"]
    assert expected["routes"][0].name == "base"
    for seed in range(2):

        def dies_after(count: int, label: str, seed: int = seed) -> bool:
            return blake2b(f"{seed}/{count}".encode(), digest_size=1).digest()[0] < 90

        ended, controller = await tell(setbacks, tmp_path / f"stormy-{seed}", Faults(dies_after), template)
        assert controller.crashes > 10, f"seed {seed}"
        assert ended == expected, f"seed {seed}"
