"""What a look reads beside the sums of both arms, on a real store: whether the judge counts, and the tags."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from policies.assessment import QualityMeasure
from policies.experiment import ABTestConfig, Verdict, evaluate
from policies.facts import JudgeFacts
from policies.records import Arm
from policies.rows import Experiment
from policies.state import Ledger, LoopState
from policies.transition import with_baseline
from proxy.clock import ManualClock
from proxy.log_throttle import ThrottledLog
from proxy.loop.act.maintenance import Maintenance
from proxy.loop.look.carriers import EvidenceReader
from proxy.loop.look.quality import QualityReader
from proxy.store.store import Store
from proxy.store.tables.control import LoopTransaction
from proxy.store.tables.values import IngestBatch, NewRecord
from tests.harness.exchanges import exchange, vote
from tests.harness.loop import RecordingDeployer

SCORER = "callable:here:1"
USERS = 200
_log = logging.getLogger(__name__)


async def a_test_with_votes(
    store: Store, clock: ManualClock, *, liked: Callable[[int], bool] = lambda at: at % 3 > 0, fails: bool = True
) -> tuple[Experiment, list[NewRecord]]:
    """An experiment of 200 users, each with one answer and a vote; where it `fails`, the challenger does so for one
    `plan` of two."""
    lease = await store.leases.acquire("loop", "test", ttl_s=60)
    assert lease is not None
    row = Experiment(id=1, champion_model_id=1, challenger_model_id=2, salt="00", share=0.5, frozen={"icc": 0.1})
    await store.journal.transition(LoopTransaction(fence=lease.fence, experiments=(row,)))
    rng, now_us = random.Random(2), int(clock.now() * 1e6) - 10_000_000
    records = [
        exchange(
            now_us + number * 1000, rng, experiment_id=1, epoch=1, arm=Arm(number % 2), user_hash=number, quality=1.0,
            tags={"plan": "free" if number % 4 < 2 else "paid"}, aliases=(),
            status=503 if fails and number % 4 == 1 and number > 7 else 200,
        )
        for number in range(USERS)
    ]  # fmt: skip
    votes = [
        vote(record.id, now_us + 1_000_000, rng, feedback=1 if liked(number) else -1)
        for number, record in enumerate(records)
    ]
    await store.ingest.apply(IngestBatch(writer="", segment=0, offset=0, records=tuple(records), votes=tuple(votes)))
    return row, records


@pytest.mark.parametrize("errs", [0.05, 0.5])
async def test_a_judge_counts_once_its_agreement_with_votes_is_proven(tmp_path: Path, errs: float) -> None:
    clock = ManualClock()
    store = await Store.open(f"sqlite:///{tmp_path}/ratchet.db", clock=clock)
    row, records = await a_test_with_votes(store, clock)
    config, judge = ABTestConfig(), JudgeFacts(scorer=SCORER, counts=False)
    reader = EvidenceReader(store=store, clock=clock, ab_test=config, judge=judge)
    before = evaluate(await reader.facts(row), config, clock.now())
    assert before.quality is QualityMeasure.NOTHING, "a judge that has said nothing yet"
    lease, rng = await store.leases.acquire("judge", "test", ttl_s=600), random.Random(1)
    assert lease is not None
    await store.judgements.ask(lease, SCORER, [record.id for record in records])
    for number, record in enumerate(records):
        said = float(bool(number % 3) == (rng.random() >= errs))
        await store.judgements.answer(record.id, SCORER, score=said, tokens=1, reason="")
    clock.advance(61.0)
    after = evaluate(await reader.facts(row), config, clock.now())
    counts = errs < 0.5
    assert after.quality is (QualityMeasure.RECTIFIED if counts else QualityMeasure.NOTHING)
    assert (after.rectified is not None) == counts
    assert ("judge" in {found.name for found in after.guardrails}) == counts
    await store.close()


async def test_harm_in_a_tag_is_seen_in_what_the_store_has_counted(tmp_path: Path) -> None:
    clock = ManualClock()
    store = await Store.open(f"sqlite:///{tmp_path}/ratchet.db", clock=clock)
    row, _ = await a_test_with_votes(store, clock)
    reader = EvidenceReader(store=store, clock=clock, ab_test=ABTestConfig())
    assert await reader.judged() is None
    seen = evaluate(await reader.facts(row), ABTestConfig(), clock.now())
    harm = {tag.tag: tag.harm for tag in seen.tags}
    assert harm.keys() == {"plan=free", "plan=paid"}
    assert harm["plan=paid"] is None
    assert harm["plan=free"] is not None
    assert harm["plan=free"].startswith("errors: ")
    assert seen.verdict is Verdict.ROLL_BACK, "half of all answers, too"
    await store.close()


class SlowClock(ManualClock):
    """Half a second passes between one look at it and the next."""

    def monotonic(self) -> float:
        self.advance(0.5)
        return super().monotonic()


@pytest.mark.parametrize(("clock", "seen"), [(ManualClock(), True), (SlowClock(), False)], ids=["quick", "slow"])
async def test_who_carries_the_evidence_is_read_anew_at_each_look_unless_that_takes_long(
    tmp_path: Path, clock: ManualClock, seen: bool
) -> None:
    """A look that finds it carried by a few must not hold back for a minute what the next votes have proven."""
    store = await Store.open(f"sqlite:///{tmp_path}/ratchet.db", clock=clock)
    row, _ = await a_test_with_votes(store, clock, liked=lambda number: number % 2 > 0 or number % 3 > 0, fails=False)
    wins = ABTestConfig(
        quality_weight=0, latency_weight=0, feedback_weight=1, min_duration_hours=0, max_duration_hours=1e6
    )
    reader = EvidenceReader(store=store, clock=clock, ab_test=wins)

    async def voters() -> int:
        carriers = await reader.carriers(row, await reader.facts(row))
        assert carriers is not None, "a promotion hangs on nothing else"
        return sum(carriers.voters)

    assert await voters() == USERS
    rng, now_us = random.Random(3), int(clock.now() * 1e6)
    one_more = exchange(
        now_us - 1000, rng, experiment_id=1, epoch=1, arm=Arm.CHALLENGER, user_hash=USERS, quality=1.0, aliases=()
    )
    batch = IngestBatch(writer="", segment=0, offset=1, records=(one_more,), votes=(vote(one_more.id, now_us, rng),))
    await store.ingest.apply(batch)
    assert await voters() == USERS + seen
    clock.advance(61.0)
    assert await voters() == USERS + 1
    await store.close()


async def proven(store: Store, clock: ManualClock, *, score: float) -> QualityReader:
    """A judge that agrees with votes, then gave 20 answers of the last day this score."""
    _, records = await a_test_with_votes(store, clock)
    lease = await store.leases.acquire("judge", "test", ttl_s=3600)
    assert lease is not None
    await store.judgements.ask(lease, SCORER, [record.id for record in records])
    for number, record in enumerate(records):
        await store.judgements.answer(record.id, SCORER, score=float(bool(number % 3)), tokens=1, reason="")
    clock.advance(48 * 3600.0)
    lease, rng = await store.leases.acquire("judge", "test", ttl_s=3600), random.Random(4)
    assert lease is not None
    later = [exchange(int(clock.now() * 1e6) - 1000 - number, rng, user_hash=number) for number in range(20)]
    await store.ingest.apply(IngestBatch(writer="", segment=0, offset=1, records=tuple(later)))
    await store.judgements.ask(lease, SCORER, [record.id for record in later])
    for record in later:
        await store.judgements.answer(record.id, SCORER, score=score, tokens=1, reason="")
    clock.advance(61.0)
    judge = JudgeFacts(scorer=SCORER, counts=False)
    reader = EvidenceReader(store=store, clock=clock, ab_test=ABTestConfig(), judge=judge)
    return QualityReader(store=store, clock=clock, evidence=reader)


async def test_a_drop_is_measured_by_the_judge_that_counts_and_against_its_own_scores(tmp_path: Path) -> None:
    clock = ManualClock()
    store = await Store.open(f"sqlite:///{tmp_path}/ratchet.db", clock=clock)
    quality = await proven(store, clock, score=0.25)
    now_us = int(clock.now() * 1e6)
    assert await quality.source() == SCORER
    assert await quality.window(SCORER, now_us - 3_600_000_000, now_us) == (20, 0.25)
    assert set(await quality.user_hour_means(SCORER, now_us - 3_600_000_000)) == {0.25}
    upkeep = Maintenance(store=store, deployer=RecordingDeployer(), quality=quality, troubles=ThrottledLog(_log, clock))
    of_format_checks = LoopState(since=0.0, ledger=Ledger(champion_id=1, installed_at=0.0, baseline=0.99))
    frozen = await upkeep.baseline(of_format_checks, now_us)
    assert frozen is not None
    assert frozen[1] == SCORER, "format checks and a judge's scores are not alike"
    assert 0.5 < frozen[0] < 0.7
    assert await upkeep.baseline(with_baseline(of_format_checks, *frozen), now_us) is None
    await store.close()


async def test_an_applications_own_scores_stand_above_the_judges(tmp_path: Path) -> None:
    clock = ManualClock()
    store = await Store.open(f"sqlite:///{tmp_path}/ratchet.db", clock=clock)
    quality = await proven(store, clock, score=0.25)
    assert await replace(quality, scored_by_application=True).source() == ""
    now_us, rng = int(clock.now() * 1e6), random.Random(9)
    [record] = [exchange(now_us - 1000, rng, user_hash=5)]
    scored = vote(record.id, now_us, rng, quality_score=0.5)
    await store.ingest.apply(IngestBatch(writer="", segment=0, offset=2, records=(record,), votes=(scored,)))
    assert await quality.source() == ""
    await store.close()
