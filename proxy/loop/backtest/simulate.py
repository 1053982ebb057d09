"""What other settings would have done with the traffic that is stored: a rehearsal of a policy, with nothing touched.

Two questions, each answered by the functions that decide in earnest:

* *Triggers*: walk the stored hours, put together what the triggers would have seen in each, and retrain on paper.
  Assumed: every retrain succeeds, at once, and the traffic is the one that was: a better model would have changed it.
* *Decisions*: take every journalled decision with the inputs of its moment and decide it again under the other
  settings. Assumed: history up to that decision is the one that happened. What another rule would have made of a
  whole experiment, and when, is worked out in `retest.py`.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from policies.actions import tag_of
from policies.drop import DropDetector
from policies.plan import LoopRules, plan
from policies.ramp import planned_shares
from policies.selection import DataGeneratorConfig
from policies.snapshot import Snapshot
from policies.triggers import TriggerConfig, TriggerFacts, evaluate_triggers
from policies.vocabulary import HOLD
from proxy.config import LoopSettings
from proxy.loop.act.maintenance import measured_baseline
from proxy.loop.codec import from_json
from proxy.loop.dataset import StoreDatasetBuilder
from proxy.loop.look.supply import usable_at_most
from proxy.store.store import Store
from proxy.store.tables.control import JournalEntry

__all__ = ["OtherDecision", "PaperRetrain", "decide_again", "first_traffic", "walk_triggers"]

_HOUR_S: Final = 3600
_DAY_US: Final = 86_400_000_000
_PAGE: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperRetrain:
    """A retrain that would have started."""

    at: float
    """Unix seconds."""
    trigger: str
    reason: str
    new_quality_samples: int
    """Since the retrain before."""
    kept: int | None = None
    """Samples that selection keeps of the newest records at that time; None where that was not asked."""
    dropped: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherDecision:
    """A journalled decision that the other settings would have made differently."""

    at: float
    seq: int
    was: str
    """Action, or `Hold`."""
    would_be: str
    reasons: tuple[str, ...]
    """Why, in the words of the decision."""


async def first_traffic(store: Store, since_us: int, until_us: int) -> float | None:
    """The start of the first hour with a record in the window, Unix seconds; None without any."""
    points = await store.traffic.points(
        since_us, until_us + _HOUR_S * 1_000_000, _HOUR_S
    )  # the last hour has not ended yet
    return points[0].at_us / 1e6 if points else None


async def walk_triggers(
    store: Store,
    settings: LoopSettings,
    since: float,
    until: float,
    *,
    builder: StoreDatasetBuilder | None = None,
    scan: int = 20_000,
    on_hour: Callable[[float], None] = lambda _: None,
) -> AsyncIterator[PaperRetrain]:
    """Retrains that would have started from `since` to `until` (Unix seconds), as if installed at `since`.

    It looks at the end of each hour, and at `until`. `builder` selects the data of each over the newest `scan` records;
    `on_hour` is told how far the walk has come.
    """
    walk = _Walk(store, settings.trigger_config, settings.generator_config, since)
    first = int(since) // _HOUR_S * _HOUR_S + _HOUR_S
    for hour in (*range(first, math.ceil(until), _HOUR_S), until):
        retrain = await walk.step(float(hour))
        if retrain is not None and builder is not None:
            preview = await builder.preview(until_s=retrain.at, scan=scan, show=0)
            retrain = replace(retrain, kept=preview.kept, dropped=dict(preview.dropped))
        if retrain is not None:
            yield retrain
        on_hour(float(hour))


class _Walk:
    """What the loop would remember between two hours."""

    def __init__(self, store: Store, config: TriggerConfig, selection: DataGeneratorConfig, since: float) -> None:
        self._store = store
        self._config = config
        self._selection = selection
        self._since = since
        self._starts: list[float] = []
        self._detector: DropDetector | None = None

    async def step(self, now: float) -> PaperRetrain | None:
        """Look at the end of an hour, or in the last one; a retrain that starts then, or None."""
        if now % _HOUR_S == 0:
            await self._watch_quality(now)
        facts = await self._facts(now)
        report = evaluate_triggers(facts, self._config, now)
        if report.fired is None or report.hold is not None:
            return None
        self._starts.append(now)
        reason = next(progress.reason for progress in report.progress if progress.name is report.fired)
        return PaperRetrain(
            at=now, trigger=report.fired.value, reason=reason, new_quality_samples=facts.new_quality_samples or 0
        )

    async def _watch_quality(self, now: float) -> None:
        now_us = round(now * 1e6)
        if self._detector is None:
            baseline = await measured_baseline(self._store.traffic.quality_window, now_us)
            self._detector = None if baseline is None else DropDetector(baseline=baseline)
        else:
            means = await self._store.traffic.user_hour_means(now_us - _HOUR_S * 1_000_000)
            self._detector = self._detector.update(means)

    async def _facts(self, now: float) -> TriggerFacts:
        now_us = round(now * 1e6)
        votes = await self._store.traffic.feedback_window(now_us - _DAY_US, now_us)
        _, recent = await self._store.traffic.quality_window(now_us - _DAY_US, now_us)
        last = self._starts[-1] if self._starts else None
        since = self._since if last is None else last
        return TriggerFacts(
            installed_at=self._since,
            last_retrain_at=last,
            runs_at=tuple(self._starts),
            new_quality_samples=await self._scored(since, now, self._config.min_quality_score),
            usable_samples=await usable_at_most(self._store, self._selection, 0, now_us),
            quality_baseline=None if self._detector is None else self._detector.baseline,
            quality_recent=recent,
            detector=self._detector,
            positive_votes=votes.positive,
            negative_votes=votes.negative,
        )

    async def _scored(self, since: float, until: float, quality: float | None) -> int:
        """Samples that arrived in between; the store counts from an instant to the end."""
        all_since = await self._store.traffic.count_quality_samples(round(since * 1e6), quality)
        return all_since - await self._store.traffic.count_quality_samples(round(until * 1e6), quality)


async def decide_again(store: Store, settings: LoopSettings, since: float) -> tuple[int, list[OtherDecision]]:
    """How many journalled decisions since then could be repeated, and those that come out otherwise, oldest first."""
    seen, others = 0, []
    async for entry in _decisions(store, since):
        inputs = entry.inputs
        snapshot, rules = from_json(Snapshot, inputs["snapshot"]), from_json(LoopRules, inputs["rules"])
        decided = plan(_on_its_ramp(snapshot, settings), _under(rules, settings), inputs["now"])
        seen += 1
        was = _name(inputs.get("action"))
        would_be = HOLD if decided.action is None else tag_of(decided.action)
        if was != would_be:
            others.append(
                OtherDecision(at=inputs["now"], seq=entry.seq, was=was, would_be=would_be, reasons=decided.reasons)
            )
    return seen, others[::-1]


async def _decisions(store: Store, since: float) -> AsyncIterator[JournalEntry]:
    """Entries with a decision with its inputs, newest first."""
    before: int | None = None
    while entries := await store.journal.recent(before_seq=before, limit=_PAGE):
        for entry in entries:
            if entry.at_us < since * 1e6:
                return
            if "snapshot" in entry.inputs and "rules" in entry.inputs:
                yield entry
        before = entries[-1].seq


def _under(rules: LoopRules, settings: LoopSettings) -> LoopRules:
    """The rules of then, with what the settings can change of them."""
    return replace(
        rules,
        trigger=settings.trigger_config,
        ab_test=settings.ab_test_config,
        enable_ab_testing=settings.enable_ab_testing,
        enable_auto_promotion=settings.enable_auto_promotion,
        check_interval_s=settings.check_interval_seconds,
    )


def _on_its_ramp(snapshot: Snapshot, settings: LoopSettings) -> Snapshot:
    """With the shares that the settings' ramp goes on to."""
    experiment = snapshot.experiment
    if experiment is None:
        return snapshot
    now = experiment.facts.share
    above = tuple(share for share in planned_shares(settings.ab_test_config) if share > now)
    return replace(snapshot, experiment=replace(experiment, facts=replace(experiment.facts, planned=above)))


def _name(action: dict[str, Any] | None) -> str:
    return HOLD if action is None else str(action["action"])
