"""The watch after a promotion that really happened, on paper: both models' answers as they came, look by look.

Who was held back cannot be changed afterwards. Without a holdback, in earnest or on paper, all hours after the
promotion are compared with those before it, as the loop would. Else the parts of the watch cannot be others than they
were: each is counted from its own records.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field, replace
from typing import Final

from policies import wording
from policies.actions import FinishWatch, HaltWatch, ReleaseControl, ReturnTraffic
from policies.experiment import ArmStats
from policies.lifecycle import Phase
from policies.plan import LoopRules, Plan, plan
from policies.promotion import WatchDecision, WatchFacts, WatchPart
from policies.records import Arm
from policies.rows import Experiment, ExperimentStage
from policies.snapshot import Snapshot
from policies.triggers import TriggerFacts
from proxy.loop.backtest.evidence import end_us, replay_of, requests_of
from proxy.loop.backtest.happened import Happened
from proxy.loop.backtest.looks import Verdicts, look_times, model_then
from proxy.loop.backtest.paper import PaperEpoch, PaperWatch
from proxy.store.ingest.facts import Terms
from proxy.store.reading.replay import EpochReplay
from proxy.store.store import Store

__all__ = ["WatchAgain", "watch_stages"]

_ENDS: Final = (ReturnTraffic, FinishWatch, HaltWatch)
_VERDICTS: Final = {
    WatchDecision.RETURN: "return_traffic",
    WatchDecision.FINISH: "finish_watch",
    WatchDecision.HALT: "halt_watch",
}


def watch_stages(row: Experiment) -> tuple[ExperimentStage, ...]:
    """The parts of its watch; none where it was not promoted, or by a version that counted none."""
    return tuple(stage for stage in row.stages if stage.watch)


@dataclass(slots=True, kw_only=True)
class WatchAgain:
    """One promotion watched again."""

    store: Store
    rules: LoopRules
    row: Experiment
    story: Happened
    names: Sequence[str]
    """Of the old champion and the new one."""
    stages: Sequence[ExperimentStage]
    promoted_at: float
    until: float
    """The end of all data, Unix seconds."""
    on_look: Callable[[float], None]
    _verdicts: Verdicts = field(default_factory=Verdicts)
    _last: Plan | None = None
    _looks: int = 0
    _released: bool = False

    async def run(self) -> PaperWatch:
        """From the promotion to the end of the data, or of the watch on paper."""
        before = await self._before(self.story.epochs[-1])
        stored = await self._walk(before)
        counted = 0
        for stage in self.stages:
            counted += requests_of(await self.store.statistics.arms(self.row.id, stage.epoch))
        ended = self.story.watch_ended
        watch = PaperWatch(
            promoted_at=self.promoted_at,
            ended_at=self._ended_at,
            holdback_share=self._compared,
            looks=self._looks,
            stored_requests=stored,
            counted_requests=counted,
            really=ended,
            verdicts=tuple(self._verdicts.found),
            undecided=None if self._over or self._last is None else " ".join(self._last.reasons),
        )
        return replace(watch, notes=tuple(_notes(watch, self._held, self.rules)))

    async def _walk(self, before: ArmStats) -> int:
        """Look by look, until something ends it; returns how many of its requests are still stored."""
        async with AsyncExitStack() as reading:
            parts: list[EpochReplay] = []
            for epoch in self._epochs():
                watched = replace(epoch, started_at=self.promoted_at, ended_at=self._ended_at)  # clocks go back
                replay = replay_of(self.store, self.row.id, watched, self._terms(epoch), further=self._further)
                parts.append(await reading.enter_async_context(aclosing(replay)))
                for now in look_times(epoch.started_at, epoch.ended_at, self.rules):
                    if self._over:
                        break
                    self._look([await part.advance(round(now * 1e6)) for part in parts], before, epoch, now)
                    self.on_look(now - self.promoted_at)
            return sum([requests_of(await part.advance(end_us(self._ended_at))) for part in parts])

    @property
    def _ended_at(self) -> float:
        """When the data of the watch end, Unix seconds."""
        ended = self.story.watch_ended
        return self.until if ended is None else ended.at

    @property
    def _held(self) -> float:
        """Of the users, who were held back."""
        return round(1.0 - self.stages[0].share, 9)

    @property
    def _compared(self) -> float:
        """Of the users, who are held back on paper."""
        return self._held if self.rules.ab_test.holdback_share > 0 else 0.0

    @property
    def _further(self) -> tuple[int, ...]:
        """Epochs that are one with the first: without a control a watch has no parts."""
        return () if self._compared else tuple(stage.epoch for stage in self.stages[1:])

    @property
    def _over(self) -> bool:
        return self._last is not None and isinstance(self._last.action, _ENDS)

    def _epochs(self) -> Iterator[PaperEpoch]:
        parts = self.stages[:1] if self._further else self.stages
        begun = [self.promoted_at, *(stage.started_us / 1e6 for stage in parts[1:])]
        for stage, started_at, ended_at in zip(parts, begun, [*begun[1:], self._ended_at], strict=True):
            yield PaperEpoch(
                epoch=stage.epoch,
                share=stage.share,
                slow_threshold_s=self.row.frozen.get("l95_s"),
                started_at=started_at,
                ended_at=ended_at,
            )

    def _terms(self, epoch: PaperEpoch) -> Terms:
        return Terms(l95_s=epoch.slow_threshold_s, icc=self.rules.ab_test.icc)

    async def _before(self, last: PaperEpoch) -> ArmStats:
        """The old champion's arm as it stood at the promotion."""
        async with aclosing(replay_of(self.store, self.row.id, last, self._terms(last))) as replay:
            return (await replay.advance(round(self.promoted_at * 1e6)))[Arm.CHAMPION]

    def _look(self, parts: Sequence[Mapping[Arm, ArmStats]], before: ArmStats, epoch: PaperEpoch, now: float) -> None:
        """Decide as the loop would have done at that moment, in that part of the watch."""
        self._looks += 1
        *earlier, arms = parts
        held = bool(self._compared) and not self._released
        old = model_then(self.story, self.row.champion_model_id, self.names[0], now)
        facts = WatchFacts(
            promoted_at=self.promoted_at,
            before=before,
            control=arms[Arm.CONTROL] if held else None,
            holdback_share=self._compared if held else 0.0,
            after=arms[Arm.CHAMPION],
            earlier=tuple(WatchPart(control=part[Arm.CONTROL], after=part[Arm.CHAMPION]) for part in earlier),
            part_began_at=epoch.started_at,
            epoch=epoch.epoch,
            old_champion_healthy=old.healthy,
        )
        snapshot = Snapshot(
            phase=Phase.WATCHING,
            phase_since=self.promoted_at,
            phase_reason="",
            paused=self.story.paused(now),
            installed_at=self.promoted_at,
            triggers=TriggerFacts(installed_at=self.promoted_at),
            champion=model_then(self.story, self.row.challenger_model_id, self.names[1], now),
            previous=old,
            watch=facts,
        )
        self._last = decided = plan(snapshot, self.rules, now)
        self._released = self._released or isinstance(decided.action, ReleaseControl) or self._released_by(now)
        if (verdict := _verdict(decided)) is not None:
            self._verdicts.note(verdict, decided, now, acts=self._over)

    def _released_by(self, now: float) -> bool:
        """Whether in earnest the users who were held back had been given to the new champion by then."""
        return self.story.released_at is not None and self.story.released_at <= now


def _verdict(decided: Plan) -> str | None:
    """None: go on watching."""
    if isinstance(decided.action, ReturnTraffic):
        return _VERDICTS[WatchDecision.RETURN]
    return None if decided.watch is None else _VERDICTS.get(decided.watch.decision)


def _notes(watch: PaperWatch, held: float, rules: LoopRules) -> list[str]:
    notes, wanted = [], rules.ab_test.holdback_share
    if wanted > 0 and not math.isclose(wanted, held):
        real = f"{wording.share(held)} of the users" if held else "no users"
        notes.append(f"a control of {wording.share(wanted)} cannot be replayed: {real} stayed on the old champion")
    if watch.stored_requests < watch.counted_requests:
        stored, counted = f"{watch.stored_requests:,}", f"{watch.counted_requests:,}"
        notes.append(f"only {stored} of {counted} requests of the watch are still stored (retention, deleted users)")
    decision, really = watch.decision, watch.really
    if decision is None and really is not None:
        notes.append("its data ended with the watch: what later traffic would have shown is not known")
    elif decision is not None and (really is None or really.action != decision.action):
        notes.append("what came after that did not happen, so nothing is known of it")
    return notes
