"""The evidence of a test as it stood at any moment: the stages that count together, each worked out again.

A vote counts in the stage of its record, however late it comes; so all stages of the running evidence go on being
read, and every look advances each of them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from policies.estimates import Metric, UserTotals
from policies.experiment import ArmStats, ExperimentFacts, StageFacts
from policies.facts import JudgeFacts
from policies.past import PastVector
from policies.records import Arm
from proxy.loop.backtest.paper import PaperEpoch
from proxy.store.ingest.facts import Terms
from proxy.store.reading.replay import Epoch, EpochReplay
from proxy.store.store import Store

__all__ = ["EvidenceAgain", "end_us", "replay_of", "requests_of"]

_STRAGGLERS_S: Final = 60.0
"""So long after its end an epoch's last requests may come in: workers that have not read the new routes yet."""


@dataclass(slots=True)
class _Stage:
    epoch: PaperEpoch
    replay: EpochReplay
    arms: Mapping[Arm, ArmStats]


class EvidenceAgain:
    """One experiment's stages; `aclose` at the end."""

    def __init__(
        self, store: Store, experiment_id: int, icc: float, until: float, pasts: Mapping[int, PastVector] | None = None
    ) -> None:
        """`until`: when the last data of the test came, Unix seconds. `pasts`: what the units did before the
        experiment; None: the estimate is not adjusted by it."""
        self._store = store
        self._experiment_id = experiment_id
        self._icc = icc
        self._until = until
        self._pasts = pasts
        self._stages: list[_Stage] = []
        self.stored: dict[int, int] = {}
        """Requests that are still stored, by epoch, of those that were counted."""

    async def begin(self, epoch: PaperEpoch) -> None:
        """The next epoch: a further stage, or the first of new evidence."""
        if not epoch.goes_on:
            await self.count_stored()
            await self.aclose()
        terms = Terms(l95_s=epoch.slow_threshold_s, icc=self._icc)
        replay = replay_of(self._store, self._experiment_id, epoch, terms, self._until, self._pasts)
        self._stages.append(_Stage(epoch, replay, {}))

    async def advance(self, now: float) -> None:
        """To a look, Unix seconds; never back."""
        for stage in self._stages:
            stage.arms = await stage.replay.advance(round(now * 1e6))

    def facts(self, started_at: float, planned: Sequence[float], judge: JudgeFacts | None = None) -> ExperimentFacts:
        """As of the last look. `planned`: shares that the ramp goes on to."""
        *earlier, running = (_facts_of(stage) for stage in self._stages)
        epoch = self._stages[-1].epoch
        return ExperimentFacts(
            started_at=started_at,
            epoch_started_at=running.started_at,
            share=running.share,
            champion=running.champion,
            challenger=running.challenger,
            slow_threshold_s=epoch.slow_threshold_s,
            judge=judge,
            earlier=tuple(earlier),
            planned=tuple(share for share in planned if share > running.share),
            set_by_hand=epoch.by_hand,
        )

    async def voters(self, metrics: Iterable[Metric]) -> AsyncIterator[tuple[Arm, int, dict[int, UserTotals], bool]]:
        """As `Statistics.voters`, of all stages, as of the last look."""
        wanted = tuple(metrics)
        found: dict[tuple[Arm, int], tuple[dict[int, UserTotals], bool]] = {}
        for at, stage in enumerate(self._stages):
            async for arm, key, totals, claimed in stage.replay.voters(wanted):
                by_stage, before = found.get((arm, key), ({}, False))
                by_stage[at] = totals[0]
                found[arm, key] = by_stage, before or claimed
        for (arm, key), (by_stage, claimed) in found.items():
            yield arm, key, by_stage, claimed

    async def pasts_of(self, keys: Sequence[int]) -> Mapping[int, PastVector]:
        """Of those of the units that have a past."""
        known = self._pasts or {}
        return {key: known[key] for key in keys if key in known}

    async def count_stored(self) -> None:
        """Read all stages to their ends; there is no look after that."""
        for stage in self._stages:
            arms = await stage.replay.advance(end_us(stage.epoch.ended_at))
            self.stored[stage.epoch.epoch] = requests_of(arms)

    async def aclose(self) -> None:
        """Read no more."""
        for stage in self._stages:
            await stage.replay.aclose()
        self._stages.clear()


def replay_of(
    store: Store,
    experiment_id: int,
    epoch: PaperEpoch,
    terms: Terms,
    until: float | None = None,
    pasts: Mapping[int, PastVector] | None = None,
    *,
    further: tuple[int, ...] = (),
) -> EpochReplay:
    """One epoch, whose votes come until then (Unix seconds; None: until it ends), and `further` ones as if of it."""
    last = epoch.ended_at if until is None else until
    return store.statistics.replay(
        Epoch(
            experiment_id=experiment_id,
            number=epoch.epoch,
            further=further,
            terms=terms,
            since_us=round(epoch.started_at * 1e6),
            until_us=end_us(epoch.ended_at),
            votes_until_us=end_us(last),
            pasts=pasts,
        )
    )


def requests_of(arms: Mapping[Arm, ArmStats]) -> int:
    """In all arms together."""
    return sum(arm.requests for arm in arms.values())


def end_us(at: float) -> int:
    """The last moment at which a request of an epoch that ended then (Unix seconds) may have come."""
    return round((at + _STRAGGLERS_S) * 1e6)


def _facts_of(stage: _Stage) -> StageFacts:
    return StageFacts(
        started_at=stage.epoch.started_at,
        share=stage.epoch.share,
        champion=stage.arms[Arm.CHAMPION],
        challenger=stage.arms[Arm.CHALLENGER],
    )
