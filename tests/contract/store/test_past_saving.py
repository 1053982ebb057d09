"""What taking the users' past off would save: measured on this installation's own traffic, of a test or without one."""

from __future__ import annotations

import random
from typing import Any

import pytest

from policies.cuped import PastSaving
from policies.estimates import Metric
from policies.records import Arm
from policies.rows import Experiment
from proxy.clock import ManualClock
from proxy.store.store import Store
from proxy.store.tables.control import LoopTransaction
from proxy.store.tables.values import IngestBatch
from tests.harness.exchanges import exchange

DAY_US = 86_400_000_000
QUALITY = {Metric.QUALITY: 1.0}
USERS = 60


async def weeks(store: Store, now_us: int, *, first: int, last: int, alike: float, **more: Any) -> None:
    """A score a day of every user from `first` to `last` days ago. `alike`: how much of it is the user's own level."""
    rng, taste = random.Random(first), random.Random(7)
    levels = [taste.random() for _ in range(USERS)]
    records = [
        exchange(
            now_us - day * DAY_US + user, rng, user_hash=user + 1, aliases=(),
            quality=alike * level + (1 - alike) * rng.random(),
            **({"experiment_id": None, "epoch": 0, "arm": Arm.CHAMPION} | more),
        )
        for day in range(last, first) for user, level in enumerate(levels)
    ]  # fmt: skip
    await store.ingest.apply(IngestBatch(writer="", segment=0, offset=0, records=tuple(records)))


async def test_two_weeks_say_what_the_two_weeks_before_would_have_saved(store: Store, clock: ManualClock) -> None:
    now_us = int(clock.now() * 1e6)
    await weeks(store, now_us, first=28, last=1, alike=0.9)
    assert store.past_savings.due
    found = await store.past_savings.read(QUALITY, 28.0, 0.1)
    assert found is not None
    assert found == store.past_savings.known
    assert (found.users, found.with_past, found.experiment_id) == (USERS, USERS, None)
    assert found.saved > 0.9
    assert not store.past_savings.due
    clock.advance(25 * 3600)
    assert store.past_savings.due


async def test_users_without_a_habit_save_nothing(store: Store, clock: ManualClock) -> None:
    await weeks(store, int(clock.now() * 1e6), first=28, last=1, alike=0.0)
    found = await store.past_savings.read(QUALITY, 28.0, 0.1)
    assert found is not None
    assert found.saved < 0.2


async def test_the_latest_test_is_asked_first(store: Store, clock: ManualClock) -> None:
    """Its champion's users, and what they did before it."""
    now_us = int(clock.now() * 1e6)
    started_us = now_us - 5 * DAY_US
    lease = await store.leases.acquire("loop", "test", ttl_s=60)
    assert lease is not None
    made = Experiment(
        id=3, champion_model_id=1, challenger_model_id=2, salt="00", share=0.5, started_us=started_us,
        epoch_started_us=started_us,
    )  # fmt: skip
    await store.journal.transition(LoopTransaction(fence=lease.fence, experiments=(made,)))
    await weeks(store, now_us, first=20, last=5, alike=0.9)
    await weeks(store, now_us, first=5, last=1, alike=0.9, experiment_id=3, epoch=1)
    await weeks(store, now_us, first=5, last=1, alike=0.0, experiment_id=3, epoch=1, arm=Arm.CHALLENGER)
    found = await store.past_savings.read(QUALITY, 28.0, 0.1)
    assert found is not None
    assert (found.experiment_id, found.users, found.with_past) == (3, USERS, USERS)
    assert found.saved > 0.8


async def test_too_little_says_nothing_and_is_asked_again_in_an_hour(store: Store, clock: ManualClock) -> None:
    assert await store.past_savings.read(QUALITY, 28.0, 0.1) is None
    assert not store.past_savings.due
    clock.advance(3601)
    assert store.past_savings.due


@pytest.mark.parametrize(
    ("experiment_id", "on", "words"),
    [
        (
            None,
            False,
            "The users' past would save about 18.0 % of the wait here: of 400 users of the last two weeks, 300 were "
            "here before. To use it from the next test on, set ab_test_config.cuped.",
        ),
        (
            4,
            True,
            "The users' past (ab_test_config.cuped) saves about 18.0 % of the wait here: of 400 users of experiment "
            "4, 300 were here before.",
        ),
    ],
)
def test_it_is_said_in_words(experiment_id: int | None, on: bool, words: str) -> None:
    found = PastSaving(saved=0.18, users=400, with_past=300, experiment_id=experiment_id)
    assert found.in_words(on=on) == words
