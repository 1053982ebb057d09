"""Stored experiments judged again under other settings: when which verdict would first have come, beside what did.

For each epoch the users' statistics are built up again from records and votes as time went by (`store.statistics`), and
at every check `plan` decides on them, as it does in earnest. On paper a test ends with the first action; what is not
known is said: there is no traffic after the real end, none of a share that was not given, and none after a promotion
that did not happen. Assumed: the challenger was healthy, and no person intervened.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from policies import wording
from policies.actions import tag_of
from policies.experiment import ArmStats, Assessment, ExperimentFacts, Verdict
from policies.lifecycle import Phase
from policies.plan import LoopRules, Plan, plan
from policies.records import Arm
from policies.rows import Experiment
from policies.snapshot import ExperimentView, ModelView, Snapshot
from policies.triggers import TriggerFacts
from proxy.config import LoopSettings
from proxy.loop.build import rules_of
from proxy.loop.look.carriers import carriers_of, forgeable
from proxy.store.ingest.facts import Terms
from proxy.store.reading.replay import Epoch
from proxy.store.store import Store
from proxy.store.tables.control import JournalEntry

__all__ = ["PaperEpoch", "PaperTest", "PaperVerdict", "RealDecision", "retest"]

_TESTING: Final = (Phase.TESTING.value, Phase.PROMOTING.value)
"""Phases in which the challenger has its share of the users."""
_ALL: Final = 10_000
"""Experiments that are looked at."""
_STRAGGLERS_S: Final = 60.0
"""So long after its end an epoch's last requests may come in: workers that have not read the new routes yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RealDecision:
    """What ended the test in earnest."""

    at: float
    """Unix seconds."""
    action: str
    who: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperVerdict:
    """The first look at which a verdict came out."""

    at: float
    """Unix seconds."""
    verdict: str
    action: str | None
    """What the loop would have done; None: it would have held."""
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperEpoch:
    """One epoch of the test, as far as it was needed."""

    epoch: int
    share: float
    slow_threshold_s: float | None
    started_at: float
    ended_at: float
    """When its data ended: the next epoch, the end of the test, or now."""
    looks: int = 0
    stored_requests: int = 0
    """Requests of the epoch that are still stored."""
    counted_requests: int = 0
    """Those that the loop has counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperTest:
    """One experiment under the other settings."""

    experiment_id: int
    champion: str
    challenger: str
    epochs: tuple[PaperEpoch, ...]
    really: RealDecision | None
    """None: it still runs, or the journal does not say."""
    verdicts: tuple[PaperVerdict, ...]
    """Each verdict but `continue`, at its first look; the last one is the decision, where it has an action."""
    undecided: str | None
    """Where there is no decision: why not, at the last look."""
    notes: tuple[str, ...] = ()
    """What cannot be known."""

    @property
    def decision(self) -> PaperVerdict | None:
        """What would have ended the test."""
        return self.verdicts[-1] if self.verdicts and self.verdicts[-1].action is not None else None


@dataclass(slots=True, kw_only=True)
class _Story:
    """What the journal says of an experiment."""

    epochs: list[PaperEpoch] = field(default_factory=list)
    decided: RealDecision | None = None
    ended_at: float | None = None

    def tell(self, entry: JournalEntry) -> None:
        """The next thing that was done while it ran."""
        at, outcome = float(entry.inputs.get("now", entry.at_us / 1e6)), entry.outcome or {}
        if self.ended_at is not None:
            return
        if "epoch" in outcome:
            self._end_epoch(at)
            begun = {name: outcome[name] for name in ("epoch", "share", "slow_threshold_s")}
            self.epochs.append(PaperEpoch(**begun, started_at=at, ended_at=at))
        phase = outcome.get("phase", {})
        if self.decided is None and phase.get("from") == Phase.TESTING.value != phase.get("to"):
            self.decided = RealDecision(at=at, action=entry.action, who=entry.who, why=entry.why)
        if phase.get("from") in _TESTING and phase.get("to") not in _TESTING:
            self.end(at)

    def end(self, at: float) -> None:
        """There is no data of the test from then on."""
        self.ended_at = at
        self._end_epoch(at)

    def _end_epoch(self, at: float) -> None:
        if self.epochs:
            self.epochs[-1] = replace(self.epochs[-1], ended_at=at)


async def retest(
    store: Store,
    settings: LoopSettings,
    since: float,
    until: float,
    *,
    on_look: Callable[[float, float], None] = lambda _done, _all: None,
) -> AsyncIterator[PaperTest]:
    """The experiments that ran from `since` to `until` (Unix seconds), oldest first, each judged again.

    `on_look` is told how many seconds of tests are done, and of how many.
    """
    rows = [row for row in await store.experiments.list(_ALL) if row.ended_us is None or row.ended_us >= since * 1e6]
    stories = await _stories(store, rows, until)
    seconds = sum(epoch.ended_at - epoch.started_at for story in stories.values() for epoch in story.epochs)
    done = 0.0
    for row in reversed(rows):
        story = stories[row.id]
        test = _Retest(store, settings, row, story, partial(_tell, on_look, done, seconds))
        yield await test.run()
        done += sum(epoch.ended_at - epoch.started_at for epoch in story.epochs)
        on_look(done, seconds)


def _tell(on_look: Callable[[float, float], None], done: float, seconds: float, of_this: float) -> None:
    on_look(done + of_this, seconds)


async def _stories(store: Store, rows: Sequence[Experiment], until: float) -> dict[int, _Story]:
    """Epochs and ends by experiment. One experiment runs at a time, so what is done meanwhile is done to it."""
    stories = {row.id: _Story() for row in rows}
    if not rows:
        return stories
    first = min(row.started_us for row in rows) / 1e6
    running: _Story | None = None
    for entry in await store.journal.done(round((first - 1) * 1e6), round((until + 1) * 1e6)):
        begun = (entry.outcome or {}).get("experiment_id")
        running = running if begun is None else stories.get(begun)
        if running is not None:
            running.tell(entry)
    for story in stories.values():
        if story.ended_at is None:
            story.end(until)
            story.ended_at = None
    return stories


class _Retest:
    """One experiment, from its first epoch on, until something is decided or its data ends."""

    def __init__(
        self, store: Store, settings: LoopSettings, row: Experiment, story: _Story, on_look: Callable[[float], None]
    ) -> None:
        self._store = store
        self._settings = settings
        self._rules = rules_of(settings)
        self._row = row
        self._story = story
        self._on_look = on_look
        self._verdicts: dict[Verdict, PaperVerdict] = {}
        self._last: Plan | None = None

    async def run(self) -> PaperTest:
        names = [await self._name(model) for model in (self._row.champion_model_id, self._row.challenger_model_id)]
        seen: list[PaperEpoch] = []
        for epoch in self._story.epochs:
            seen.append(await self._walk(epoch, names))
            if self._decided:
                break
        test = PaperTest(
            experiment_id=self._row.id,
            champion=names[0],
            challenger=names[1],
            epochs=tuple(seen),
            really=self._story.decided,
            verdicts=tuple(self._verdicts.values()),
            undecided=None if self._decided else self._undecided(),
        )
        return replace(test, notes=tuple(_notes(test, self._settings, self._story)))

    @property
    def _decided(self) -> bool:
        return self._last is not None and self._last.action is not None

    async def _walk(self, epoch: PaperEpoch, names: Sequence[str]) -> PaperEpoch:
        counted = await self._store.statistics.arms(self._row.id, epoch.epoch)
        until_us = round((epoch.ended_at + _STRAGGLERS_S) * 1e6)
        traffic = Epoch(
            experiment_id=self._row.id,
            number=epoch.epoch,
            terms=Terms(l95_s=epoch.slow_threshold_s, icc=self._settings.ab_test_config.icc),
            since_us=round(epoch.started_at * 1e6),
            until_us=until_us,
        )
        looks = 0
        async with aclosing(self._store.statistics.replay(traffic)) as replay:
            for now in _checks(epoch, self._rules):
                looks += 1
                facts = self._facts(epoch, await replay.advance(round(now * 1e6)))
                test = self._settings.ab_test_config
                if weights := forgeable(facts, test, now):
                    facts = replace(facts, carriers=await carriers_of(facts, replay.voters(weights), weights, test.icc))
                self._look(facts, names, now)
                self._on_look(now - self._story.epochs[0].started_at)
                if self._decided:
                    break
            stored = await replay.advance(until_us)
        return replace(epoch, looks=looks, stored_requests=_requests(stored), counted_requests=_requests(counted))

    def _facts(self, epoch: PaperEpoch, arms: Mapping[Arm, ArmStats]) -> ExperimentFacts:
        return ExperimentFacts(
            started_at=self._story.epochs[0].started_at,
            epoch_started_at=epoch.started_at,
            share=epoch.share,
            champion=arms[Arm.CHAMPION],
            challenger=arms[Arm.CHALLENGER],
            slow_threshold_s=epoch.slow_threshold_s,
        )

    def _look(self, facts: ExperimentFacts, names: Sequence[str], now: float) -> None:
        """Decide as the loop would have done at that moment, with a healthy challenger and nobody's orders."""
        snapshot = Snapshot(
            phase=Phase.TESTING,
            phase_since=facts.started_at,
            phase_reason="",
            installed_at=facts.started_at,
            triggers=TriggerFacts(installed_at=facts.started_at, experiment_running=True),
            champion=ModelView(id=self._row.champion_model_id, name=names[0], ready=True, healthy=True),
            challenger=ModelView(id=self._row.challenger_model_id, name=names[1], ready=True, healthy=True),
            experiment=ExperimentView(id=self._row.id, facts=facts),
        )
        self._last = decided = plan(snapshot, self._rules, now)
        verdict = _assessment(decided).verdict
        if verdict is not Verdict.CONTINUE and verdict not in self._verdicts:
            self._verdicts[verdict] = PaperVerdict(
                at=now,
                verdict=verdict.value,
                action=None if decided.action is None else tag_of(decided.action),
                reasons=decided.reasons,
            )

    def _undecided(self) -> str:
        if self._last is None:
            return "the journal does not name its epochs"
        return " ".join(self._last.reasons)

    async def _name(self, model_id: int) -> str:
        model = await self._store.models.get(model_id)
        return str(model_id) if model is None else model.name


def _requests(arms: Mapping[Arm, ArmStats]) -> int:
    return sum(arm.requests for arm in arms.values())


def _assessment(decided: Plan) -> Assessment:
    assert decided.assessment is not None
    return decided.assessment


def _checks(epoch: PaperEpoch, rules: LoopRules) -> list[float]:
    """When the loop looks while a challenger has users; the last look is at the end of the data."""
    every = min(rules.check_interval_s, rules.busy_interval_s)
    count = int((epoch.ended_at - epoch.started_at) / every)
    return [*(epoch.started_at + every * n for n in range(1, count + 1)), epoch.ended_at]


def _notes(test: PaperTest, settings: LoopSettings, story: _Story) -> list[str]:
    """What cannot be known, and what the answer rests on."""
    notes = []
    wanted = settings.ab_test_config.initial_challenger_traffic
    if not settings.enable_ab_testing:
        notes.append("without A/B testing (enable_ab_testing = false) there would have been no test")
    elif test.epochs and test.epochs[0].share != wanted:
        real = wording.share(test.epochs[0].share)
        notes.append(f"a share of {wording.share(wanted)} cannot be replayed: {real} of the users were asked")
    if any(epoch.slow_threshold_s is None for epoch in test.epochs):
        notes.append("the champion's p95 latency was not known then, nor is it now")
    stored, counted = sum(e.stored_requests for e in test.epochs), sum(e.counted_requests for e in test.epochs)
    if stored < counted:
        notes.append(f"only {stored:,} of {counted:,} requests are still stored (retention, deleted users)")
    if test.decision is None and story.ended_at is not None:
        notes.append("its data ended with the test: what later traffic would have shown is not known")
    elif test.decision is not None and (test.really is None or test.really.action != test.decision.action):
        notes.append("what came after that did not happen, so nothing is known of it")
    return notes
