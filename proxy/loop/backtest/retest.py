"""Stored experiments judged again under other settings: when which verdict would first have come, beside what did.

For each stage the users' statistics are built up again from records and votes as time went by (`evidence.py`), and at
every look `plan` decides on them, as it does in earnest, with the pauses and the silences of the models that the
journal knows of (`happened.py`). Stages whose evidence counted together count together here. On paper a test ends with
the first action that ends one. A share that would have risen is dated, but nobody was asked at a share that was not
given: the evidence goes on as it came. A promotion that happened is watched again (`watching.py`), unless the
challenger would have been sent back.

What is not known is said: there is no traffic after the real end, none of a share that was not given, and none after a
promotion that did not happen. What people did is part of what happened.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Final

from policies.actions import BeginPromotion, RaiseShare, RollBack
from policies.experiment import ExperimentFacts, Verdict
from policies.lifecycle import Phase
from policies.past import PastVector
from policies.plan import LoopRules, Plan, plan
from policies.ramp import planned_shares
from policies.rows import Experiment
from policies.snapshot import ExperimentView, Snapshot
from policies.triggers import TriggerFacts
from proxy.config import LoopSettings
from proxy.loop.backtest.evidence import EvidenceAgain, requests_of
from proxy.loop.backtest.happened import Happened, what_happened
from proxy.loop.backtest.looks import Verdicts, look_times, model_then
from proxy.loop.backtest.notes import notes_on
from proxy.loop.backtest.paper import PaperEpoch, PaperRise, PaperTest, PaperVerdict, PaperWatch, RealDecision
from proxy.loop.backtest.watching import WatchAgain, watch_stages
from proxy.loop.build import rules_of
from proxy.loop.look.carriers import carriers_of, forgeable
from proxy.store.store import Store

__all__ = ["PaperEpoch", "PaperRise", "PaperTest", "PaperVerdict", "PaperWatch", "RealDecision", "retest"]

_DAY_US: Final = 86_400_000_000
_ALL: Final = 10_000
"""Experiments that are looked at."""


async def retest(
    store: Store,
    settings: LoopSettings,
    since: float,
    until: float,
    *,
    rules: LoopRules | None = None,
    open_scores: bool = False,
    on_look: Callable[[float, float], None] = lambda _done, _all: None,
) -> AsyncIterator[PaperTest]:
    """The experiments that ran from `since` to `until` (Unix seconds), oldest first, each judged again.

    `rules`: where more is set than the loop's own settings. `open_scores`: anybody may give an answer its score.
    `on_look` is told how many seconds of tests and watches are done, and of how many.
    """
    decides = rules_of(settings) if rules is None else rules
    rows = [row for row in await store.experiments.list(_ALL) if row.ended_us is None or row.ended_us >= since * 1e6]
    stories = await what_happened(store, rows, until)
    seconds, done = sum(_seconds(story, until) for story in stories.values()), 0.0
    for row in reversed(rows):
        story = stories[row.id]
        tell = partial(_tell, on_look, done, seconds)
        yield await _Retest(store, decides, row, story, until, tell, open_scores=open_scores).run()
        done += _seconds(story, until)
        on_look(done, seconds)


def _tell(on_look: Callable[[float, float], None], done: float, seconds: float, of_this: float) -> None:
    on_look(done + of_this, seconds)


def _seconds(story: Happened, until: float) -> float:
    """Of the test and the watch."""
    tested = sum(epoch.ended_at - epoch.started_at for epoch in story.epochs)
    if story.promoted_at is None:
        return tested
    return tested + (until if story.watch_ended is None else story.watch_ended.at) - story.promoted_at


class _Retest:
    """One experiment, from its first epoch on, until something is decided or its data ends; then its watch."""

    def __init__(
        self, store: Store, rules: LoopRules, row: Experiment, story: Happened, until: float,
        on_look: Callable[[float], None], *, open_scores: bool,
    ) -> None:  # fmt: skip
        self._store = store
        self._rules = rules
        self._row = row
        self._story = story
        self._until = until
        self._on_look = on_look
        self._open_scores = open_scores
        self._verdicts = Verdicts()
        self._past_read_again = False
        self._rise: PaperRise | None = None
        self._last: Plan | None = None

    async def run(self) -> PaperTest:
        names = [await self._name(model) for model in (self._row.champion_model_id, self._row.challenger_model_id)]
        epochs = await self._walk(names)
        test = PaperTest(
            experiment_id=self._row.id,
            champion=names[0],
            challenger=names[1],
            epochs=epochs,
            really=self._story.decided,
            verdicts=tuple(self._verdicts.found),
            undecided=None if self._decided else self._undecided(),
            watch=await self._watch(names),
        )
        notes = notes_on(test, self._rules, self._story, past_read_again=self._past_read_again)
        return replace(test, notes=tuple(notes))

    @property
    def _decided(self) -> bool:
        action = None if self._last is None else self._last.action
        return action is not None and not isinstance(action, RaiseShare)

    async def _walk(self, names: Sequence[str]) -> tuple[PaperEpoch, ...]:
        """Every look at every stage, until one of them decides."""
        seen: list[PaperEpoch] = []
        ended = self._story.ended_at
        until = self._until if ended is None else ended
        evidence = EvidenceAgain(self._store, self._row.id, self._rules.ab_test.icc, until, await self._pasts())
        async with aclosing(evidence):
            for epoch in self._story.epochs:
                await evidence.begin(epoch)
                seen.append(await self._look_at(epoch, evidence, names))
                if self._decided:
                    break
            await evidence.count_stored()
        return tuple([await self._with_counts(epoch, evidence) for epoch in seen])

    async def _look_at(self, epoch: PaperEpoch, evidence: EvidenceAgain, names: Sequence[str]) -> PaperEpoch:
        """The stage that runs, look by look."""
        looks, self._rise, first = 0, None, self._story.epochs[0].started_at
        for now in look_times(epoch.started_at, epoch.ended_at, self._rules):
            looks += 1
            await evidence.advance(now)
            self._look(await self._facts(evidence, now), epoch, names, now)
            self._on_look(now - first)
            if self._decided:
                break
        return replace(epoch, looks=looks, would_rise=self._rise)

    async def _facts(self, evidence: EvidenceAgain, now: float) -> ExperimentFacts:
        config = self._rules.ab_test
        facts = evidence.facts(self._story.epochs[0].started_at, planned_shares(config), self._story.judge(now))
        if (now - facts.evidence_since) / 3600 < config.min_duration_hours:
            return facts  # no promotion hangs on it yet, and to ask takes as long as the look
        if not (weights := forgeable(facts, config, now, open_scores=self._open_scores)):
            return facts
        pasts = evidence.pasts_of if config.cuped else None
        carriers = await carriers_of(facts, evidence.voters(weights), weights, config.icc, pasts)
        return replace(facts, carriers=carriers)

    async def _pasts(self) -> dict[int, PastVector] | None:
        """What users did before the test, as it was frozen then, or as it would have been."""
        config, since_us = self._rules.ab_test, self._row.started_us
        if not config.cuped:
            return None
        if config.history_days == self._story.history_days and await self._store.pasts.complete(self._row.id):
            return await self._store.pasts.all_of(self._row.id, config.icc)
        self._past_read_again = True
        return await self._store.pasts.read(since_us - round(config.history_days * _DAY_US), since_us, config.icc)

    def _look(self, facts: ExperimentFacts, epoch: PaperEpoch, names: Sequence[str], now: float) -> None:
        """Decide as the loop would have done at that moment, without commands."""
        story, row = self._story, self._row
        snapshot = Snapshot(
            phase=Phase.TESTING,
            phase_since=facts.started_at,
            phase_reason="",
            paused=story.paused(now),
            installed_at=facts.started_at,
            triggers=TriggerFacts(installed_at=facts.started_at, experiment_running=True),
            champion=model_then(story, row.champion_model_id, names[0], now),
            challenger=model_then(story, row.challenger_model_id, names[1], now),
            experiment=ExperimentView(id=row.id, epoch=epoch.epoch, facts=facts),
        )
        self._last = decided = plan(snapshot, self._rules, now)
        if isinstance(decided.action, RaiseShare) and self._rise is None:
            self._rise = PaperRise(at=now, share=decided.action.share)
        verdict = _verdict(decided)
        if verdict is not Verdict.CONTINUE:
            self._verdicts.note(verdict.value, decided, now, acts=self._decided)

    async def _watch(self, names: Sequence[str]) -> PaperWatch | None:
        """Of a promotion that happened, where the challenger would not have been sent back before."""
        stages, promoted_at = watch_stages(self._row), self._story.promoted_at
        action = None if self._last is None else self._last.action
        sent_back = self._decided and not isinstance(action, BeginPromotion)
        if not stages or promoted_at is None or sent_back or not self._story.epochs:
            return None
        watched = WatchAgain(
            store=self._store, rules=self._rules, row=self._row, story=self._story, names=names, stages=stages,
            promoted_at=promoted_at, until=self._until,
            on_look=lambda seconds: self._on_look(promoted_at - self._story.epochs[0].started_at + seconds),
        )  # fmt: skip
        return await watched.run()

    async def _with_counts(self, epoch: PaperEpoch, evidence: EvidenceAgain) -> PaperEpoch:
        counted = await self._store.statistics.arms(self._row.id, epoch.epoch)
        return replace(epoch, stored_requests=evidence.stored[epoch.epoch], counted_requests=requests_of(counted))

    def _undecided(self) -> str:
        if self._last is None:
            return "the journal does not name its epochs"
        return " ".join(self._last.reasons)

    async def _name(self, model_id: int) -> str:
        model = await self._store.models.get(model_id)
        return str(model_id) if model is None else model.name


def _verdict(decided: Plan) -> Verdict:
    """What the statistics say, but of a challenger that is silent."""
    assert decided.assessment is not None
    return Verdict.ROLL_BACK if isinstance(decided.action, RollBack) else decided.assessment.verdict
