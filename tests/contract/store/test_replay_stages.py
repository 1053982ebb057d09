"""A test whose share rose, which was promoted and taken back, is decided again as it was; and under other settings it
says when the share would have risen, and what cannot be known."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from policies.estimates import Metric
from policies.lifecycle import Phase
from policies.records import Arm
from policies.snapshot import Snapshot
from proxy.clock import ManualClock
from proxy.config import LoopConfig
from proxy.loop.backtest.evidence import EvidenceAgain
from proxy.loop.backtest.happened import what_happened
from proxy.loop.backtest.paper import PaperTest, PaperVerdict, PaperWatch
from proxy.loop.backtest.simulate import decide_again
from proxy.loop.build import rules_of
from proxy.loop.codec import from_json
from proxy.loop.look.carriers import Voters
from proxy.store.store import Store
from tests.contract.store.test_replay import OTHER_DATABASE, close
from tests.harness.story import CHECK_S, Story

RAMP = (0.1, 0.2, 0.5)
VOTES = (Metric.POSITIVE,)


async def ramp(store: Store, clock: ManualClock, root: Path) -> Story:
    """A canary of a tenth, a fifth, and half of the users; promoted after half an hour; then it answers with errors."""
    story = Story(
        store, clock, root, better_by=0.25, users=80, stages=RAMP, initial_challenger_traffic=0.3,
        min_effective_users=5.0, min_duration_hours=0.5,
    )  # fmt: skip
    await story.play()
    await story.watch(minutes=2)
    return await story.watch(minutes=20, broken=True)


@pytest.mark.parametrize("store_url", [pytest.param("sqlite", marks=OTHER_DATABASE), "postgresql"], indirect=True)
async def test_a_ramp_a_promotion_and_its_end_come_out_as_they_did(
    store: Store, clock: ManualClock, tmp_path: Path
) -> None:
    story = await ramp(store, clock, tmp_path)
    test = await story.again()
    assert_as_it_was(test)
    await assert_evidence_of_then(story)
    await assert_other_ramps_are_told(story, test)
    await assert_other_watches_are_told(story)
    assert await rises_decided_again(story, RAMP) == []
    assert await rises_decided_again(story, (0.1,)) == ["Hold", "Hold"]


async def rises_decided_again(story: Story, stages: tuple[float, ...]) -> list[str]:
    """What other stages would have done instead of each rise, on the inputs of its moment."""
    config = LoopConfig(ab_test_config=replace(story.config, stages=stages))
    _, others = await decide_again(story.store, config, 0.0)
    return [other.would_be for other in others if other.was == "RaiseShare"]


def ends_as_it_did(told: PaperTest | PaperWatch, action: str) -> PaperVerdict:
    """What ends it on paper: the same as in earnest, within one check."""
    assert told.really is not None
    assert told.decision is not None
    assert (told.really.action, told.decision.action) == (action, action)
    assert abs(told.decision.at - told.really.at) <= CHECK_S
    return told.decision


def assert_as_it_was(test: PaperTest) -> None:
    assert [epoch.share for epoch in test.epochs] == list(RAMP)
    assert [epoch.goes_on for epoch in test.epochs] == [False, True, True]
    rises = [epoch.would_rise for epoch in test.epochs]
    assert [None if rise is None else rise.share for rise in rises] == [0.2, 0.5, None]
    for rise, epoch in zip(rises[:2], test.epochs, strict=False):
        assert rise is not None
        assert abs(epoch.ended_at - rise.at) <= CHECK_S
    ends_as_it_did(test, "BeginPromotion")
    assert test.watch is not None
    ends_as_it_did(test.watch, "ReturnTraffic")
    assert test.watch.decision.verdict == "return_traffic"
    assert test.watch.holdback_share == 0.1
    assert test.watch.stored_requests == test.watch.counted_requests > 200
    assert (test.notes, test.watch.notes) == ((), ())


async def assert_evidence_of_then(story: Story) -> None:
    """What each journalled decision saw of the test, stage by stage, late votes included."""
    [row] = await story.store.experiments.list(10)
    told = (await what_happened(story.store, [row], story.clock.now()))[row.id]
    assert told.ended_at is not None
    decisions = [entry.inputs async for entry in story.store.journal.done(0, 2**62) if "snapshot" in entry.inputs]
    evidence, at, most = EvidenceAgain(story.store, row.id, story.config.icc, story.clock.now()), -1, 0
    async with aclosing(evidence):
        for inputs in decisions:
            seen = from_json(Snapshot, inputs["snapshot"])
            if seen.phase is not Phase.TESTING or seen.experiment is None:
                continue
            while at < len(seen.experiment.facts.earlier):
                at += 1
                await evidence.begin(told.epochs[at])
            await evidence.advance(inputs["now"])
            again, facts = evidence.facts(0.0, RAMP), seen.experiment.facts
            assert (again.share, again.planned) == (facts.share, facts.planned)
            for mine, theirs in zip(again.stages, facts.stages, strict=True):
                assert close(mine.champion, theirs.champion)
                assert close(mine.challenger, theirs.challenger)
            most = max(most, len(facts.stages))
        assert most == len(RAMP)
        await evidence.advance(story.clock.now())
        assert await by_unit(evidence.voters(VOTES)) == await by_unit(
            story.store.statistics.voters(row.id, [epoch.epoch for epoch in told.epochs], VOTES)
        )


async def by_unit(voters: Voters) -> dict[tuple[Arm, int], tuple[dict[int, list[float]], bool]]:
    """The counts of each unit in each stage."""
    return {
        (arm, key): ({at: [round(value, 6) for value in (*units.n, *units.s)] for at, units in stages.items()}, claimed)
        async for arm, key, stages, claimed in voters
    }


async def assert_other_ramps_are_told(story: Story, as_it_was: PaperTest) -> None:
    canary = as_it_was.epochs[0]
    quick = await story.again(min_duration_hours=0.25)
    assert quick.epochs[0].would_rise is not None
    assert quick.epochs[0].would_rise.at < canary.ended_at - CHECK_S
    assert quick.notes[0].startswith("the share would have risen to 20 % on ")
    assert quick.notes[0].endswith("minutes earlier; until it did, 10 % of the users were asked")
    assert quick.decision is not None
    assert quick.decision.at < as_it_was.epochs[-1].ended_at - CHECK_S
    asks_more = await story.again(min_effective_users=12.0)
    assert asks_more.notes[0].startswith("the share would have stayed at 20 % on ")
    assert asks_more.notes[0].endswith(", when it rose to 50 %")
    assert asks_more.epochs[1].would_rise is None
    other = await story.again(stages=(0.1, 0.25, 0.5))
    assert other.epochs[0].would_rise is not None
    assert other.epochs[0].would_rise.share == 0.25
    assert "a share of 25 % cannot be replayed: 20 % of the users were asked" in other.notes
    flat = await story.again(stages=(0.5,))
    assert flat.notes[0] == "a share of 50 % cannot be replayed: 10 % of the users were asked"


async def assert_other_watches_are_told(story: Story) -> None:
    more = (await story.again(holdback_share=0.2)).watch
    assert more is not None
    assert more.notes == ("a control of 20 % cannot be replayed: 10 % of the users stayed on the old champion",)
    frozen = (await story.again(holdback_share=0.0)).watch
    assert frozen is not None
    assert frozen.decision is not None
    assert (frozen.holdback_share, frozen.decision.action) == (0.0, "ReturnTraffic")
    over = (await story.again(watch_hours=0.0, min_samples_per_version=1)).watch
    assert over is not None
    assert over.decision is not None
    assert (over.decision.action, over.looks) == ("FinishWatch", 1)
    assert over.notes == ("what came after that did not happen, so nothing is known of it",)
    undecided = await story.again(min_duration_hours=48.0)
    assert undecided.decision is None
    assert undecided.watch is not None  # it was promoted all the same
    worse = await story.again(promotion_threshold=1.0)
    assert worse.decision is not None
    assert (worse.decision.action, worse.watch) == ("Reject", None)


@pytest.mark.parametrize("store_url", ["sqlite", pytest.param("postgresql", marks=OTHER_DATABASE)], indirect=True)
async def test_a_watch_in_parts_comes_out_as_it_did(store: Store, clock: ManualClock, tmp_path: Path) -> None:
    """With votes that came late for the part before."""
    story = Story(store, clock, tmp_path, better_by=0.25, watch_hours=0.2)
    await story.play()
    await story.watch(minutes=4, users=400)
    await story.watch(minutes=20, users=60, broken=True)
    [row] = await store.experiments.list(10)
    assert len(row.watch_epochs) == 2
    test = await story.again()
    assert test.watch is not None
    ends_as_it_did(test.watch, "ReturnTraffic")
    assert test.watch.decision.reasons[0] in test.watch.really.why
    assert test.watch.stored_requests == test.watch.counted_requests > 1500
    assert test.watch.notes == ()
    frozen = (await story.again(holdback_share=0.0)).watch  # without a control there are no parts to count afresh
    assert frozen is not None
    assert frozen.decision is not None
    assert "errors: 6.3 % against 0 %" in frozen.decision.reasons[0]  # of all hours; of the second part 12 %
    assert frozen.stored_requests == frozen.counted_requests == test.watch.counted_requests


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
async def test_a_promotion_that_a_clock_dated_ahead_is_no_obstacle_to_the_parts_after_it(
    store: Store, clock: ManualClock, tmp_path: Path
) -> None:
    """Its entry lies in the future, theirs does not."""
    story = Story(store, clock, tmp_path, better_by=0.25, watch_hours=0.2)
    await story.begin()
    await story.go_on(minutes=4)
    clock.jump(24 * 3600.0)
    await story.go_on(minutes=180)
    clock.jump(-24 * 3600.0)
    await story.watch(minutes=4, users=400)
    [row] = await store.experiments.list(10)
    assert len(row.watch_epochs) == 2
    test = await story.again()
    assert [epoch.epoch for epoch in test.epochs] == [row.stages[0].epoch]
    assert test.watch is None


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
async def test_a_clock_that_goes_back_in_a_part_of_the_watch_hides_nothing_of_the_part_before(
    store: Store, clock: ManualClock, tmp_path: Path
) -> None:
    """The part then seems to have begun before the last requests of the one before it."""
    story = Story(store, clock, tmp_path, better_by=0.25, watch_hours=0.2)
    await story.play()
    await story.watch(minutes=4, users=400)
    clock.jump(-150.0)
    await story.watch(minutes=3, users=60)
    await story.watch(minutes=20, users=60, broken=True)
    [row] = await store.experiments.list(10)
    assert len(row.watch_epochs) == 2
    watch = (await story.again()).watch
    assert watch is not None
    assert watch.stored_requests == watch.counted_requests > 1500
    assert watch.notes == ()


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
async def test_a_pause_holds_on_paper_what_it_held_in_earnest(store: Store, clock: ManualClock, tmp_path: Path) -> None:
    story = Story(store, clock, tmp_path, better_by=0.25)
    await story.begin()
    await story.go_on(minutes=3)
    await store.commands.submit("pause", who="ada", why="a demonstration", args={})
    await story.go_on(minutes=40)
    assert story.world.routes().challenger is not None
    await store.commands.submit("resume", who="ada", why="it is over", args={})
    await story.go_on(minutes=3)
    test = await story.again()
    ends_as_it_did(test, "BeginPromotion")
    held, decided = test.verdicts
    assert (held.verdict, held.action) == ("promote", None)
    assert decided.at - held.at > 5 * CHECK_S
    assert held.reasons[0].startswith("the loop is paused")


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
async def test_a_challenger_that_was_silent_is_silent_on_paper(
    store: Store, clock: ManualClock, tmp_path: Path
) -> None:
    story = Story(store, clock, tmp_path, better_by=0.25, min_duration_hours=2.0)
    await story.begin()
    await story.go_on(minutes=5)
    story.world.deployer.dead.update(story.world.deployer.ever)
    await story.go_on(minutes=30)
    test = await story.again()
    ends_as_it_did(test, "RollBack")
    config = LoopConfig(ab_test_config=story.config)
    impatient = await story.again_with(config, rules=replace(rules_of(config), ready_timeout_s=120.0))
    assert impatient.decision is not None
    assert (impatient.decision.verdict, impatient.decision.action) == ("roll_back", "RollBack")
    assert test.decision.at - impatient.decision.at == pytest.approx(480.0, abs=CHECK_S)
    assert "has not answered its health check" in impatient.decision.reasons[0]


@pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)
async def test_the_users_past_is_on_paper_what_it_was(store: Store, clock: ManualClock, tmp_path: Path) -> None:
    """As it was frozen, and as it is read again where the settings ask for it afterwards."""
    story = Story(store, clock, tmp_path, better_by=0.25, cuped=True)
    await story.play()
    [row] = await store.experiments.list(10)
    frozen, started_us = await store.pasts.all_of(row.id, 0.1), row.started_us
    read = await store.pasts.read(started_us - 86_400_000_000, started_us, 0.1)
    assert frozen.keys() == read.keys()
    assert len(frozen) == 40
    assert all(frozen[unit] == pytest.approx(read[unit]) for unit in read)

    told = (await what_happened(store, [row], clock.now()))[row.id]
    assert told.history_days == story.config.history_days
    evidence = EvidenceAgain(store, row.id, 0.1, clock.now(), frozen)
    async with aclosing(evidence):
        await evidence.begin(told.epochs[0])
        await evidence.advance(clock.now())
        facts = evidence.facts(0.0, ())
    live = await store.statistics.arms(row.id, told.epochs[0].epoch)
    for mine, theirs in (
        (facts.champion.past, live[Arm.CHAMPION].past),
        (facts.challenger.past, live[Arm.CHALLENGER].past),
    ):
        assert mine is not None
        assert theirs is not None
        assert mine.users == theirs.users > 10
        assert mine.crosses == pytest.approx(theirs.crosses, abs=1e-6)

    tests = [await story.again(), await story.again(history_days=14.0)]
    for test in tests:
        ends_as_it_did(test, "BeginPromotion")
    assert tests[0].decision == tests[1].decision
    read_again = "the users' past is that of the records that are still stored"
    assert [read_again in test.notes for test in tests] == [False, True]
    plain = await story.again(cuped=False)
    assert plain.decision is not None
    assert plain.decision.reasons != tests[0].decision.reasons
