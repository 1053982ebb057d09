"""A rewrite in the loop: found by a training, inherited by the next, and never with a deleted user's words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from policies.rows import ModelState
from proxy.loop.adapters.deployers.brought import WithBrought
from proxy.loop.ports import Succeeded
from tests.harness.loop import World, actions, settle

REWRITE = {"system": {"replace": "Be brief."}}


@pytest.mark.parametrize("more", [{}, {"model_path": None, "url": None}])
async def test_a_training_may_return_a_better_way_to_ask(tmp_path: Path, more: dict[str, Any]) -> None:
    world = World(tmp_path)
    world.trainer.outcome = Succeeded(result={"rewrite": REWRITE, "score": 0.9, **more})
    async with world.store() as store:
        loop = world.start(store, deployer=WithBrought(world.deployer, world.probe))
        await world.chat(store, users=40)
        assert actions(await settle(loop))[-1] == "StartExperiment"
        [model] = await store.models.list((ModelState.CHALLENGER,))
        assert (model.rewrite, model.url, model.path) == (REWRITE, world.base.url, None)
        challenger = world.routes().challenger
        assert challenger is not None
        assert (challenger.rewrite, challenger.credential) == (REWRITE, world.base.credential)


async def test_a_rewrite_that_may_quote_a_deleted_user_is_not_used(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.trainer.outcome = Succeeded(result={"rewrite": REWRITE, "score": 0.9})
    async with world.store() as store:
        loop = world.start(store, deployer=WithBrought(world.deployer, world.probe))
        await world.chat(store, users=40)
        await loop.tick()
        [run] = await store.runs.list()
        (world.datasets.root / run.id / "manifest.json").write_text('{"deleted": 1}')
        done = actions(await settle(loop))
        assert done[:2] == ["StartTraining", "AcceptModel"]
        assert "StartCheck" not in done
        [model] = await store.models.list((ModelState.FAILED,))
        assert model.rewrite is None
        assert "Be brief" not in repr(model)
        state = await loop._journal.state()
        assert state is not None
        assert "its rewrite may quote a user who was deleted since; train again" in state.reason
