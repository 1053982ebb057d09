"""Evidence that nobody vouches for: what a stranger with a few addresses can make the loop do, and what not."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from policies.experiment import ABTestConfig, Verdict
from policies.records import Arm
from proxy.config.model import Config
from proxy.loop.look.metrics import LoopMetrics
from proxy.loop.look.terms import terms_of
from proxy.loop.tick import Loop
from proxy.store.store import Store
from proxy.store.tables.values import IngestBatch, NewRecord, NewVote, RecordFlag
from tests.harness.loop import HOUR_S, World, actions, rules, settle

BY_VOTES = ABTestConfig(
    initial_challenger_traffic=0.5,
    quality_weight=0.1,
    feedback_weight=0.9,
    latency_weight=0.0,
    min_duration_hours=1.0,
)


async def in_testing(world: World, store: Store, **parts: Any) -> Loop:
    """A loop whose challenger has half of the users."""
    loop = world.start(store, **parts)
    await world.chat(store, users=40)
    await settle(loop)
    assert world.routes().challenger is not None
    return loop


async def voted(
    world: World,
    store: Store,
    up: Mapping[Arm, float],
    *,
    clusters: range,
    users_each: int = 1,
    votes_each: int = 5,
    vouched: bool = False,
) -> None:
    """Every user of each cluster asks and votes, with this share of thumbs up; clusters alternate between the arms
    where each has one user, and are in both where they have several."""
    records: list[NewRecord] = []
    votes: list[NewVote] = []
    table = world.routes()
    for cluster in clusters:
        for user in range(users_each):
            arm = Arm((cluster + user) % 2)
            for turn in range(votes_each):
                world.clock.advance(0.01)
                name = 1000 * cluster + user
                made = world._record(name, arm, table, 0.7 + 0.01 * (cluster % 7), 200)
                if not vouched:
                    made = replace(made, cluster=cluster + 1, flags=RecordFlag.CLAIMED)
                records.append(made)
                chance = random.Random(name * 1000 + turn).random()
                thumb = 1 if chance < up[arm] else -1
                now = world.clock.now()
                votes.append(NewVote(fid=world.ids.new_uuid(now), record_id=made.id, feedback=thumb,
                                     created_us=int(now * 1e6)))  # fmt: skip
    world._batches += 1
    batch = IngestBatch(writer="test", segment=world._batches, offset=1, records=tuple(records), votes=tuple(votes))
    await store.ingest.apply(batch)


EVEN = {Arm.CHAMPION: 0.6, Arm.CHALLENGER: 0.6}
FORGED = {Arm.CHAMPION: 0.4, Arm.CHALLENGER: 0.9}
BETTER = {Arm.CHAMPION: 0.4, Arm.CHALLENGER: 0.8}


async def look(loop: Loop) -> Any:
    """The assessment of a look without an action."""
    plan = (await loop.look()).plan
    assert plan is not None
    return plan.assessment


async def test_one_address_with_many_made_up_users_is_one_voice(tmp_path: Path) -> None:
    """Vouched for, the same four hundred users would decide it at once."""
    verdicts = {}
    for vouched in (False, True):
        world = World(tmp_path / str(vouched), rules=rules(ab_test=BY_VOTES))
        async with world.store() as store:
            loop = await in_testing(world, store)
            await voted(world, store, FORGED, clusters=range(1), users_each=400, votes_each=2, vouched=vouched)
            await voted(world, store, EVEN, clusters=range(2, 102), vouched=vouched)
            world.clock.advance(2 * HOUR_S)
            seen = await look(loop)
            verdicts[vouched] = seen.verdict
            ratio = seen.sample_ratio
            assert ratio.champion_users + ratio.challenger_users == 500  # users are still told apart
            assert not ratio.mismatch
    assert verdicts == {False: Verdict.CONTINUE, True: Verdict.PROMOTE}


async def test_a_few_addresses_can_delay_a_promotion_but_not_force_it(tmp_path: Path) -> None:
    world = World(tmp_path, rules=rules(ab_test=BY_VOTES))
    registry = CollectorRegistry()
    async with world.store() as store:
        loop = await in_testing(world, store, metrics=LoopMetrics(registry, world.clock))
        await voted(world, store, {Arm.CHAMPION: 0.6, Arm.CHALLENGER: 0.66}, clusters=range(160))
        await voted(world, store, {Arm.CHAMPION: 0.6, Arm.CHALLENGER: 1.0}, clusters=range(300, 310), votes_each=200)
        world.clock.advance(2 * HOUR_S)
        assert actions(await settle(loop)) == []
        seen = await look(loop)
        assert seen.verdict is Verdict.CONTINUE
        assert seen.carried.holds
        assert seen.log_e_promote >= seen.log_e_promote_target
        assert any(reason.startswith("The evidence rests on a few clusters") for reason in seen.reasons)
        assert {carrier.unit for carrier in seen.carried.strongest} <= {
            f"{cluster:016x}" for cluster in range(301, 311)
        }
        assert [event["event"] for event in world.told.events][-1] == "few_clusters"
        assert b"ratchet_experiment_few_clusters 1.0" in generate_latest(registry)
        world.clock.advance(61)
        await voted(world, store, BETTER, clusters=range(400, 600))
        assert "BeginPromotion" in actions(await settle(loop))  # enough others say so, too


async def test_what_many_addresses_say_decides_with_the_attacker_beside_them(tmp_path: Path) -> None:
    promoted = {}
    for attacked in (False, True):
        world = World(tmp_path / str(attacked), rules=rules(ab_test=BY_VOTES))
        async with world.store() as store:
            loop = await in_testing(world, store)
            await voted(world, store, BETTER, clusters=range(200))
            if attacked:  # for the champion this time: he would delay it
                against = {Arm.CHAMPION: 1.0, Arm.CHALLENGER: 0.0}
                await voted(world, store, against, clusters=range(300, 301), users_each=200)
            world.clock.advance(2 * HOUR_S)
            promoted[attacked] = "BeginPromotion" in actions(await settle(loop))
    assert promoted == {False: True, True: True}


async def test_status_says_what_to_set_where_all_come_from_one_place(tmp_path: Path) -> None:
    world = World(tmp_path, rules=rules(ab_test=BY_VOTES))
    async with world.store() as store:
        loop = await in_testing(world, store)
        await voted(world, store, EVEN, clusters=range(7, 8), users_each=100, votes_each=3)
        world.clock.advance(61)
        await loop.look()
        notes = (await loop.status()).notes
        assert any("sticky.trusted_networks" in note and f"{8:016x}" in note for note in notes), notes
        await voted(world, store, EVEN, clusters=range(100, 200), votes_each=3)
        world.clock.advance(61)
        await loop.look()
        assert not any("sticky.trusted_networks" in note for note in (await loop.status()).notes)


# -- the terms of a test


@pytest.mark.parametrize(
    ("table", "changes", "words"),
    [
        ("ab_test_config", {"quality_weight": 0.4}, "ab_test_config.quality_weight is 0.4 (was 0.5)"),
        ("ab_test_config", {"icc": 0.2}, "ab_test_config.icc is 0.2 (was 0.1)"),
        ("ab_test_config", {"cuped": True}, "ab_test_config.cuped is true (was false)"),
        ("scoring", {"invalid_json_score": 0.25}, "scoring has changed"),
        ("capture", {"quality_pointers": ("/score",)}, 'capture.quality_pointers is ["/score"] (was [])'),
        ("sticky", {"trust": "all"}, 'sticky.trust is "all" (was "networks")'),
    ],
)
async def test_other_terms_begin_a_new_epoch(table: str, changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    settings = Config()
    world = World(tmp_path, rules=rules(terms=terms_of(settings)))
    async with world.store() as store:
        loop = await in_testing(world, store)
        before = world.routes().epoch
        await world.chat(store, users=8)
        assert actions(await settle(world.start(store))) == []  # the same terms: nothing begins
        assert world.routes().epoch == before
        other = replace(settings, **{table: replace(getattr(settings, table), **changes)})
        test = replace(world.rules.ab_test, icc=other.ab_test_config.icc)
        world.rules = replace(world.rules, ab_test=test, terms=terms_of(other))
        del loop
        world.clock.advance(1)
        done = await settle(world.start(store))
        assert actions(done) == ["BeginEpoch"]
        assert done[0].plan is not None
        assert words in done[0].plan.reasons[0]
        assert world.routes().epoch > before
        assert world.routes().share == 0.5
        running = await store.experiments.running()
        assert running is not None
        assert running.epoch_started_us == round(world.clock.now() * 1e6)
        assert running.frozen["icc"] == other.ab_test_config.icc
        assert all(arm.requests == 0 for arm in (await store.statistics.arms(running.id, running.epoch)).values())
        assert actions(await settle(world.start(store))) == []
