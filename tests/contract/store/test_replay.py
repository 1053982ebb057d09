"""What the store counted as traffic came in, it works out again afterwards, as of any moment; and the loop on top of it
decides again as it did."""

from __future__ import annotations

import asyncio
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from policies.ballots import FULL_TRUST, BallotTrust
from policies.estimates import METRICS, Metric
from policies.experiment import ArmStats
from policies.records import TESTED, Arm, Outcome
from policies.rows import Experiment
from proxy import LoopConfig
from proxy.clock import ManualClock
from proxy.store.ingest.facts import Terms
from proxy.store.reading.replay import Epoch
from proxy.store.store import Store
from proxy.store.tables.control import LoopTransaction
from proxy.store.tables.values import IngestBatch, NewRecord, NewVote, RecordFlag
from tests.harness.exchanges import exchange, vote
from tests.harness.require import full
from tests.harness.story import CHECK_S, Story
from tests.harness.tables import sqlite_with_tables

TERMS = Terms(l95_s=1.0, icc=0.2)
SECOND_US = 1_000_000


OTHER_DATABASE = full("this story on the other database")


def close(got: ArmStats, want: ArmStats) -> bool:
    """The same but for the rounding of sums in another order."""
    return (got.requests, got.moments.users) == (want.requests, want.moments.users) and (
        got.moments.sums == pytest.approx(want.moments.sums, abs=1e-9)
        and got.moments.products == pytest.approx(want.moments.products, abs=1e-8)
    )


def some_record(at_us: int, rng: random.Random) -> NewRecord:
    """Mostly of experiment 1, epoch 4; also failures, fallbacks, keyless users, what QA forced, other epochs."""
    experiment_id, epoch = rng.choice(((1, 4), (1, 4), (1, 4), (1, 4), (1, 5), (2, 4), (None, 0)))
    return exchange(
        at_us,
        rng,
        experiment_id=experiment_id,
        epoch=epoch,
        arm=rng.choice((*TESTED, *TESTED, Arm.CONTROL)),
        user_hash=rng.choice((None, 1, 2, 3, 4)),
        status=rng.choice((200, 200, 404, 503)),
        outcome=rng.choice((Outcome.OK, Outcome.OK, Outcome.TIMEOUT)),
        quality=rng.choice((None, 0.0, 0.5, 1.0)),
        flags=rng.choice((RecordFlag.NONE, RecordFlag.FALLBACK, RecordFlag.CLAIMED)),
        cluster=rng.choice((7, 8)),
        aliases=(),
        signals=rng.choice((None, *range(256))),
    )


def some_vote(record_id: str, at_us: int, rng: random.Random) -> NewVote:
    """A thumb, a score, or one taken back."""
    said: tuple[dict[str, Any], ...] = (
        {},
        {"feedback": -1},
        {"feedback": 0},
        {"feedback": None, "quality_score": 0.3},
        {"feedback": None, "retracted": True},
        {"feedback": None, "copied": True},
    )
    trust = rng.choice((FULL_TRUST, BallotTrust.THUMB, BallotTrust.NONE, BallotTrust.THUMB | BallotTrust.SCORE))
    return vote(record_id, at_us, rng, source=rng.choice("ab"), trust=trust, **rng.choice(said))


async def test_a_replay_stands_where_the_live_count_stood_at_every_moment(store: Store, clock: ManualClock) -> None:
    lease = await store.leases.acquire("loop", "test", ttl_s=60)
    assert lease is not None
    frozen = {"l95_s": TERMS.l95_s, "icc": TERMS.icc}
    made = [
        Experiment(id=number, champion_model_id=1, challenger_model_id=2, salt="00", share=0.5, frozen=frozen)
        for number in (1, 2)
    ]
    await store.journal.transition(LoopTransaction(fence=lease.fence, experiments=tuple(made)))

    rng, start_us = random.Random(1), int(clock.now() * 1e6)
    ids: list[str] = []
    live: list[tuple[int, dict[Arm, ArmStats]]] = []
    for second in range(60):
        at_us = start_us + second * SECOND_US
        records = tuple(some_record(at_us + i * 1000, rng) for i in range(rng.randrange(4)))
        ids += [record.id for record in records]
        votes = tuple(some_vote(rng.choice(ids), at_us + 500_000 + i * 1000, rng) for i in range(2) if ids)
        await store.ingest.apply(IngestBatch(writer="w", segment=second, offset=1, records=records, votes=votes))
        live.append((at_us + 900_000, await store.statistics.arms(1, 4)))

    epoch = Epoch(experiment_id=1, number=4, terms=TERMS, since_us=start_us, until_us=live[-1][0])
    replay = store.statistics.replay(epoch, chunk=7)
    for at_us, counted in live:
        again = await replay.advance(at_us)
        assert all(close(again[arm], counted[arm]) for arm in Arm), f"second {(at_us - start_us) // SECOND_US}"
    assert min(again[arm].requests for arm in TESTED) > 15
    assert again[Arm.CONTROL].requests > 5
    await replay.aclose()


# Which way each story goes (a promotion: further down), and what it is told by: how much better the challenger is, and
# the rules that differ.
STORIES: dict[str, tuple[float, dict[str, Any]]] = {
    "RollBack": (-0.2, {}),
    "Reject": (0.0, {"promotion_threshold": 0.3}),
}


@pytest.mark.parametrize(
    ("store_url", "action"),
    [
        ("sqlite", "RollBack"),
        ("postgresql", "Reject"),
        pytest.param("postgresql", "RollBack", marks=OTHER_DATABASE),
        pytest.param("sqlite", "Reject", marks=OTHER_DATABASE),
    ],
    indirect=["store_url"],
)
async def test_under_its_own_settings_a_test_ends_as_it_did_at_the_same_check(
    store: Store, clock: ManualClock, tmp_path: Path, action: str
) -> None:
    better_by, changes = STORIES[action]
    await assert_ends_again(await Story(store, clock, tmp_path, better_by=better_by, **changes).play(), action)


async def assert_ends_again(story: Story, action: str) -> None:
    """Under its own settings, as it did, at the same check."""
    test = await story.again()
    assert test.really is not None
    assert test.decision is not None
    assert (test.really.action, test.decision.action) == (action, action)
    assert abs(test.decision.at - test.really.at) <= CHECK_S
    assert test.notes == ()
    assert test.epochs[0].stored_requests == test.epochs[0].counted_requests > 0


@pytest.fixture(scope="module")
def quick_s(tmp_path_factory: pytest.TempPathFactory) -> float:
    """Seconds until a loop that waits for no more than six minutes began to promote."""
    folder = tmp_path_factory.mktemp("quick")

    async def play() -> float:
        clock = ManualClock()
        store = await Store.open(sqlite_with_tables(folder / "quick.db"), clock=clock)
        try:
            quick = await Story(store, clock, folder, better_by=0.25, min_duration_hours=0.1).play()
            really = (await quick.again()).really
        finally:
            await store.close()
        assert really is not None
        assert really.action == "BeginPromotion"
        return really.at - quick.began

    with ThreadPoolExecutor(1) as beside:
        return beside.submit(asyncio.run, play()).result()


@pytest.mark.parametrize("store_url", ["sqlite", pytest.param("postgresql", marks=OTHER_DATABASE)], indirect=True)
async def test_another_rule_ends_a_test_when_a_loop_that_had_it_would_have(
    store: Store, clock: ManualClock, tmp_path: Path, quick_s: float
) -> None:
    patient = await Story(store, clock, tmp_path / "patient", better_by=0.25, min_duration_hours=0.3).play()
    test = await patient.again(min_duration_hours=0.1)
    assert test.decision is not None
    assert test.really is not None
    assert test.really.at - test.decision.at > 3 * CHECK_S
    assert test.decision.action == "BeginPromotion"
    assert abs(test.decision.at - patient.began - quick_s) <= CHECK_S


@pytest.mark.parametrize("store_url", [pytest.param("sqlite", marks=OTHER_DATABASE), "postgresql"], indirect=True)
async def test_a_promotion_ends_as_it_did_and_what_cannot_be_known_is_said(
    store: Store, clock: ManualClock, tmp_path: Path
) -> None:
    story = await Story(store, clock, tmp_path, better_by=0.25).play()
    await assert_ends_again(story, "BeginPromotion")
    longer = await story.again(min_duration_hours=48.0)
    assert longer.decision is None
    assert "of 48 hours" in (longer.undecided or "")
    assert longer.notes == ("its data ended with the test: what later traffic would have shown is not known",)
    wider = await story.again(initial_challenger_traffic=0.1)
    assert wider.notes == ("a share of 10 % cannot be replayed: 50 % of the users were asked",)
    untested = await story.again_with(LoopConfig(ab_test_config=story.config, enable_ab_testing=False))
    assert untested.notes == ("without A/B testing (enable_ab_testing = false) there would have been no test",)
    by_hand = await story.again_with(LoopConfig(ab_test_config=story.config, enable_auto_promotion=False))
    assert [(said.verdict, said.action) for said in by_hand.verdicts] == [("promote", None)]
    await store.deletion.delete_user(1)
    gone = (await story.again()).notes[0]
    assert gone.startswith("only ")
    assert gone.endswith("requests are still stored (retention, deleted users)")


async def test_a_person_and_a_changed_share_are_part_of_what_happened(
    store: Store, clock: ManualClock, tmp_path: Path
) -> None:
    story = Story(store, clock, tmp_path, better_by=0.05)
    await story.begin()
    await story.go_on(minutes=3)
    running = await story.again()
    assert (running.really, running.decision) == (None, None)
    await store.commands.submit("share", who="ada", why="more users", args={"share": 0.3})
    await story.go_on(minutes=3)
    await store.commands.submit("share", who="ada", why="it does well", args={"share": 0.4})
    await story.go_on(minutes=3)
    await store.commands.submit("rollback", who="ada", why="enough", args={})
    await story.go_on(minutes=1)
    test = await story.again()
    assert [epoch.share for epoch in test.epochs] == [0.5, 0.3, 0.4]
    assert [epoch.by_hand for epoch in test.epochs] == [False, True, True]
    assert [epoch.goes_on for epoch in test.epochs] == [False, False, True]  # only a higher share is a further stage
    assert [epoch.stored_requests > 0 for epoch in test.epochs] == [True, True, True]
    assert test.epochs[0].ended_at == test.epochs[1].started_at
    assert test.really is not None
    assert (test.really.action, test.really.who, test.really.at) == ("RollBack", "ada", test.epochs[2].ended_at)


async def test_a_replay_counts_votes_on_conversations_from_when_they_were_given(
    store: Store, clock: ManualClock
) -> None:
    lease = await store.leases.acquire("loop", "test", ttl_s=60)
    assert lease is not None
    made = Experiment(id=1, champion_model_id=1, challenger_model_id=2, salt="00", share=0.5, frozen={"icc": 0.2})
    await store.journal.transition(LoopTransaction(fence=lease.fence, experiments=(made,)))
    rng, start_us = random.Random(1), int(clock.now() * 1e6)
    talk = {"experiment_id": 1, "epoch": 1, "user_hash": 5, "conversation": 70}
    record = exchange(start_us + SECOND_US, rng, **talk)
    ballot = vote(record.id, start_us + 9 * SECOND_US, rng, whole=True)
    await store.ingest.apply(IngestBatch(writer="", segment=0, offset=0, records=(record,), votes=(ballot,)))
    epoch = Epoch(
        experiment_id=1, number=1, terms=Terms(icc=0.2), since_us=start_us, until_us=start_us + 20 * SECOND_US
    )
    replay = store.statistics.replay(epoch)
    at = 2 * METRICS.index(Metric.CONVERSATION)
    found = [(await replay.advance(start_us + s * SECOND_US))[Arm.CHAMPION].moments.sums[at] for s in (2, 8, 10)]
    await replay.aclose()
    assert found == [0, 0, 1]
