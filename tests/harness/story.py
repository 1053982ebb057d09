"""An experiment on a real loop that looks once a minute, with users and late votes, to be judged again afterwards."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

from policies.experiment import ABTestConfig
from policies.plan import LoopRules
from policies.records import Arm
from proxy.clock import ManualClock
from proxy.config import LoopConfig
from proxy.loop.backtest.retest import PaperTest, retest
from proxy.store.store import Store
from proxy.store.tables.values import IngestBatch, RecordFilter
from tests.harness.exchanges import vote
from tests.harness.loop import World, settle

__all__ = ["CHECK_S", "Story"]

CHECK_S = 60.0
"""Between two looks of a loop whose challenger has users."""
_LONGEST_MINUTES = 180


class Story:
    """The challenger is better by `better_by` (a share) in score and thumbs; `changes` are rules that differ."""

    def __init__(
        self, store: Store, clock: ManualClock, root: Path, *, better_by: float, users: int = 40, **changes: Any
    ) -> None:
        self.store = store
        self.clock = clock
        rules = ABTestConfig(
            initial_challenger_traffic=0.5, latency_weight=0.0, min_duration_hours=0.1, watch_hours=0.1
        )
        self.config = replace(rules, **changes)
        world = World(root, clock=clock)
        world.by_share = bool(self.config.stages)
        terms = {"ab_test_config.cuped": "true"} if self.config.cuped else {}
        world.rules = replace(world.rules, ab_test=self.config, terms=terms)
        self.world = world
        self.loop = world.start(store)
        self.began = 0.0
        """When the challenger got its users."""
        self._better_by = better_by
        self._users = users
        self._random = random.Random(7)

    async def play(self) -> Story:
        """From the first users to the end of the test."""
        await self.begin()
        await self.go_on(minutes=_LONGEST_MINUTES)
        return self

    async def begin(self) -> None:
        """Samples, a retrain, a challenger with users."""
        await settle(self.loop)
        await self.world.chat(self.store, users=40)
        await settle(self.loop)
        self.began = self.clock.now()

    async def go_on(self, *, minutes: int) -> None:
        """Traffic, votes and a look each minute, while there is a challenger."""
        scores = {Arm.CHAMPION: 0.6, Arm.CHALLENGER: 0.6 * (1 + self._better_by)}
        for minute in range(minutes):
            if self.world.routes().challenger is None:
                return
            await self._minute(minute, quality=scores)

    async def watch(self, *, minutes: int, broken: bool = False, users: int | None = None) -> Story:
        """The same after a promotion, while the old champion is kept. `broken`: the new one answers with errors."""
        self._users = users or self._users
        scores = {Arm.CONTROL: 0.6, Arm.CHAMPION: 0.6 * (1 + self._better_by)}
        for minute in range(minutes):
            if self.world.routes().control is None:
                break
            await self._minute(minute, quality=scores, status={Arm.CHAMPION: 503} if broken else None)
        return self

    async def _minute(self, minute: int, **traffic: Any) -> None:
        await self.world.chat(self.store, users=self._users + minute % 7, each=1, **traffic)
        await self._vote()
        self.clock.advance(CHECK_S)
        await settle(self.loop)

    async def again(self, **changes: Any) -> PaperTest:
        """The experiment judged again, under its rules with these changes."""
        return await self.again_with(LoopConfig(ab_test_config=replace(self.config, **changes)))

    async def again_with(self, config: LoopConfig, *, rules: LoopRules | None = None) -> PaperTest:
        """The experiment judged again."""
        [test] = [test async for test in retest(self.store, config, 0.0, self.clock.now(), rules=rules)]
        return test

    async def _vote(self) -> None:
        """On some of the latest answers, also on some that were voted on before."""
        now_us = int(self.clock.now() * 1e6)
        ballots = []
        latest = self._users * 3 // 2  # also of the stage before
        rows = (await self.store.records.list(RecordFilter(), limit=latest, texts=False)).rows
        for row in self._random.sample(rows, 8):
            liked = self._random.random() < (0.6 if row.model_id == 1 else 0.6 * (1 + self._better_by))
            ballots.append(vote(row.id, now_us, self._random, feedback=1 if liked else -1))
        await self.store.ingest.apply(IngestBatch(writer="votes", segment=now_us, offset=1, votes=tuple(ballots)))
