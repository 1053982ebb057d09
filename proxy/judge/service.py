"""Has finished records judged: off the serving path, a sample of them, on a budget, each once.

    hold the lease → what is drawn and waits, oldest first → as many as the budget leaves
    → (row: asked) → the judge → row: answered → the statistics

Records are walked in the order of their ids. A slow answer is stored behind faster ones that came later, so the walk
keeps its distance (`judge.delay_seconds`) and goes back over the last hour every ten minutes. Who has not been judged
after an hour is left out: by time, whichever arm it was.

While the judge is down the walk waits, longer each time up to five minutes, and then tries with one answer. Nothing of
the loop, of ingest or of a user's request waits for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NoReturn

from policies.agreement import standing_of
from policies.judging import LAG_S, JudgeBudget, is_drawn
from policies.records import Sample
from proxy.clock import Clock
from proxy.config.judge import JudgeConfig
from proxy.errors import TemporaryError
from proxy.judge.items import item_of
from proxy.judge.metrics import JudgeMetrics
from proxy.judge.ports import Failure, Judge, JudgeItem, Judgement
from proxy.log_throttle import ThrottledLog
from proxy.status import JudgeStatus
from proxy.store.control.holder import LeaseHolder
from proxy.store.store import Store
from proxy.store.tables.keys import NO_ID, id_floor, id_time_us
from proxy.wire.conversation import conversation_of

__all__ = ["LEASE", "JudgeService"]

LEASE: Final = "judge"
_INGEST_S: Final = 10.0
"""For an answer to get from the gateway to the store: so far back is looked again each time."""
_SWEEP_S: Final = 600.0
_STANDING_S: Final = 30.0
_ROUND: Final = 4
"""Calls of a round for each that may be open at once: so many answers are lost to a kill at most."""
_FIRST_PAUSE_S: Final = 5.0
_LONGEST_PAUSE_S: Final = 300.0
_STORE_RETRY_S: Final = 2.0
_LONGEST_REASON: Final = 500
_DAY_S: Final = 86_400.0
_DOWN: Final = frozenset((Failure.REFUSED, Failure.BUSY, Failure.UNREACHABLE, Failure.TIMEOUT, Failure.FAILED))
"""Failures that the next answer would meet as well."""

_log = logging.getLogger(__name__)


class JudgeService:
    """Judges the records of one store. Of several controllers, the one with the lease does."""

    def __init__(
        self, config: JudgeConfig, judge: Judge, store: Store, clock: Clock, metrics: JudgeMetrics, *, holder: str
    ) -> None:
        """`judge` is closed when `run` ends; `holder` names this controller in the lease."""
        self._config = config
        self._judge = judge
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._holder = LeaseHolder(store.leases, LEASE, holder, take_over=self._take_over)
        self._budget = JudgeBudget(max_per_hour=config.max_per_hour, max_per_day=config.max_per_day)
        self._throttled = ThrottledLog(_log, clock)
        self._cursor = NO_ID
        self._swept_at = float("-inf")
        self._pause_s = 0.0
        self._trouble: str | None = None
        self._looked_at = float("-inf")
        self._status: JudgeStatus | None = None

    @property
    def status(self) -> JudgeStatus | None:
        """As it was within the last half minute; None until the store was read."""
        return self._status

    async def run(self) -> NoReturn:
        """Judge, for ever. Raises TemporaryError while the store is away."""
        try:
            await self._holder.run(self._work)
        finally:
            self._metrics.standing = None
            await self._judge.close()

    async def _take_over(self) -> None:
        """Take the lease, if it is free, and close what whoever had it before left open."""
        lease = await self._holder.renew()
        if lease is None:
            return
        lost = await self._store.judgements.lose(lease)
        if lost:
            _log.warning("judge: %d answers were being judged when the last process ended; they have no score", lost)
            self._metrics.lost(lost)
        await self._store.judgements.recount(since_us=self._us(-LAG_S))

    async def _work(self) -> bool:
        """A round, and what is shown of it; also while another controller judges."""
        busy = await self._round() if self._holder.lease is not None else False
        await self._look()
        return busy

    async def _round(self) -> bool:
        """Judge the next few answers; False where none wait, or the budget or the judge allows none."""
        left = self._budget.left(await self._store.judgements.spent())
        drawn = await self._next()
        self._metrics.lag_s = self._age(drawn[0]) if drawn else None
        most = 1 if self._pause_s else self._config.concurrency * self._judge.at_once * _ROUND
        chosen, lease = drawn[: min(left, most)], self._holder.lease
        if not chosen or lease is None:
            return False
        samples = await self._store.judgements.ask(lease, self._judge.scorer, chosen)
        self._cursor = chosen[-1]
        items = await asyncio.to_thread(_items, samples)
        await self._ask(items)
        return True

    async def _next(self) -> list[str]:
        """Ids of answers that are drawn and wait, oldest first; the cursor stands before the first."""
        oldest, before = id_floor(self._us(-LAG_S)), id_floor(self._us(-self._config.delay_seconds))
        if self._clock.monotonic() - self._swept_at >= _SWEEP_S:
            self._swept_at, self._cursor = self._clock.monotonic(), oldest
        self._cursor = max(self._cursor, oldest)
        while True:
            found = await self._store.judgements.waiting(self._judge.scorer, after_id=self._cursor, before_id=before)
            drawn = [record_id for record_id in found.ids if is_drawn(record_id, self._config.sample)]
            if drawn:
                return drawn
            if found.done:
                self._cursor = max(oldest, id_floor(self._us(-self._config.delay_seconds - _INGEST_S)))
                return []
            self._cursor = found.reached

    async def _ask(self, items: Sequence[tuple[str, JudgeItem | None]]) -> None:
        """Ask about these answers, and keep what is said as soon as it is."""
        shown = [(record_id, item) for record_id, item in items if item is not None]
        size = self._judge.at_once
        parts = [self._judge_some(shown[at : at + size]) for at in range(0, len(shown), size)]
        lacking = Judgement(failure=Failure.LACKING, reason="a part of the conversation is not at hand")
        for record_id, item in items:
            if item is None:
                await self._keep(record_id, lacking)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(part) for part in parts]
        await self._learn([judgement for task in tasks for judgement in task.result()])

    async def _judge_some(self, some: Sequence[tuple[str, JudgeItem]]) -> Sequence[Judgement]:
        said = [_kept(one) for one in await self._judge.score([item for _, item in some])]
        for (record_id, _), judgement in zip(some, said, strict=True):
            await self._keep(record_id, judgement)
        return said

    async def _keep(self, record_id: str, judgement: Judgement) -> None:
        """Write it down, as soon as the store takes it: it was paid for."""
        self._metrics.judged(judgement)
        failure = "" if judgement.failure is None else f"{judgement.failure}: "
        reason = f"{failure}{judgement.reason}"[:_LONGEST_REASON]
        while True:
            try:
                await self._store.judgements.answer(
                    record_id, self._judge.scorer, score=judgement.score, tokens=judgement.tokens, reason=reason
                )
            except TemporaryError:
                await asyncio.sleep(_STORE_RETRY_S)
            else:
                return

    async def _learn(self, said: Sequence[Judgement]) -> None:
        """Whether the judge is down: then wait before the next."""
        if not said:
            return
        failed = [judgement for judgement in said if judgement.failure in _DOWN]
        trouble, self._trouble = self._trouble, failed[-1].reason if len(failed) == len(said) else None
        if trouble != self._trouble:
            self._looked_at = float("-inf")  # whoever looks at the page is to see it
        if self._trouble is None:
            self._pause_s = 0.0
            self._throttled.over("down")
            return
        self._throttled.warning("down", "the judge gives no scores, nothing else waits for it: %s", self._trouble)
        self._pause_s = min(_LONGEST_PAUSE_S, max(_FIRST_PAUSE_S, 2 * self._pause_s))
        await self._look()
        await asyncio.sleep(self._pause_s)

    async def _look(self) -> None:
        """Renew what is shown, now and then."""
        if self._clock.monotonic() - self._looked_at < _STANDING_S and self._status is not None:
            return
        judgements, scorer = self._store.judgements, self._judge.scorer
        standing = standing_of(await judgements.agreement(scorer))
        sums, spent = await judgements.sums(scorer, since_us=self._us(-_DAY_S)), await judgements.spent()
        self._looked_at = self._clock.monotonic()
        holding = self._holder.lease is not None
        self._metrics.standing = standing if holding else None
        self._status = JudgeStatus(
            scorer=scorer,
            trust=self._config.trust,
            standing=standing,
            judged=sums.judged,
            mean=sums.mean,
            failed=sums.failed,
            tokens=sums.tokens,
            asked_hour=spent.hour,
            asked_day=spent.day,
            lag_s=self._metrics.lag_s if holding else None,
            trouble=self._trouble,
        )

    def _age(self, record_id: str) -> float:
        return max(0.0, self._clock.now() - id_time_us(record_id) / 1e6)

    def _us(self, offset_s: float) -> int:
        return int((self._clock.now() + offset_s) * 1e6)


def _kept(judgement: Judgement) -> Judgement:
    """With a reason that every table and page takes: half a surrogate pair is no UTF-8."""
    return replace(judgement, reason=judgement.reason.encode("utf-8", "replace").decode())


def _items(samples: Sequence[Sample]) -> list[tuple[str, JudgeItem | None]]:
    """What the judge reads of each; work on the CPU."""
    return [(sample.record_id, _item(sample)) for sample in samples]


def _item(sample: Sample) -> JudgeItem | None:
    try:
        return item_of(conversation_of(sample))
    except Exception:  # noqa: BLE001 - whatever stands in a log, the others are judged
        _log.exception("record %s cannot be read for the judge", sample.record_id)
        return None
