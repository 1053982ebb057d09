"""A retrain from trigger to retirement, tick by tick, on a real store."""

from __future__ import annotations

from pathlib import Path

from policies.lifecycle import Phase
from policies.records import Arm
from tests.harness.loop import HOUR_S, World, actions, settle


async def test_a_better_challenger_is_promoted_watched_and_replaces_the_champion(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.store() as store:
        loop = world.start(store)
        assert actions(await settle(loop)) == []
        assert world.routes().champion.url == "http://models/base"

        await world.chat(store, users=40)
        done = await settle(loop)
        made = ["PrepareData", "StartTraining", "AcceptModel"]
        assert actions(done) == [*made, "StartDeployment", "StartCheck", "StartExperiment"]
        table = world.routes()
        assert table.challenger is not None
        assert table.share == 0.5

        world.clock.advance(2 * HOUR_S)
        await world.chat(store, users=80, quality={Arm.CHAMPION: 0.7, Arm.CHALLENGER: 0.85})
        done = await settle(loop)
        assert actions(done) == ["BeginPromotion", "Promote"]
        assert world.routes().champion.name == table.challenger.name
        assert world.routes().challenger is None
        assert world.routes().epoch > table.epoch

        await world.chat(store, users=40, quality={Arm.CHAMPION: 0.85})
        assert actions(await settle(loop)) == []
        world.clock.advance(2.1 * HOUR_S)
        assert actions(await settle(loop)) == ["FinishWatch"]
        world.clock.advance(31.0)
        assert actions(await settle(loop)) == ["Retire"]

        status = await loop.status()
        assert status.phase.name == Phase.IDLE
        assert status.champion.name == table.challenger.name
        assert status.totals.promotions == 1
        assert world.trainer.calls["start"] == 1
