"""The service that has records judged: each once, on a budget, whatever the judge does. Real store, real endpoint."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from prometheus_client.registry import CollectorRegistry

from policies.judging import is_drawn
from policies.records import Arm
from proxy.clock import ManualClock
from proxy.config.judge import JudgeConfig
from proxy.judge.build import make_judge
from proxy.judge.metrics import JudgeMetrics
from proxy.judge.service import LEASE, JudgeService
from proxy.status import JudgeStatus
from proxy.store.store import Store
from proxy.store.tables.values import IngestBatch, NewRecord
from proxy.tasks import cancel_and_wait, spawn
from tests.harness.exchanges import exchange, vote
from tests.harness.judge_server import JudgeServer, Said
from tests.harness.tables import sqlite_with_tables

T = TypeVar("T")


async def until(look: Callable[[], Awaitable[T | None]]) -> T:
    """The first thing that `look` finds."""
    async with asyncio.timeout(60):
        while not (found := await look()):
            await asyncio.sleep(0.02)
        return found


class Bench:
    """A store with records, and a judge beside it."""

    def __init__(self, store: Store, clock: ManualClock, server: JudgeServer) -> None:
        self.store = store
        self.clock = clock
        self.server = server
        self.registry = CollectorRegistry()
        self.metrics = JudgeMetrics(self.registry)
        self.config = JudgeConfig(
            kind="openai", url=server.url, model="judge-1", sample=1.0, delay_seconds=0.0, attempts=1
        )
        self._rng = random.Random(2)

    async def add(self, count: int = 1, *, ago_s: float = 10.0, **changes: Any) -> list[NewRecord]:
        start_us = int((self.clock.now() - ago_s) * 1e6)
        records = [exchange(start_us + at * 2000, self._rng, **{"user_hash": at, **changes}) for at in range(count)]
        await self.store.ingest.apply(IngestBatch(writer="", segment=0, offset=0, records=tuple(records)))
        return records

    async def vote(self, record: NewRecord, feedback: int) -> None:
        made = vote(record.id, int(self.clock.now() * 1e6), self._rng, feedback=feedback)
        await self.store.ingest.apply(IngestBatch(writer="", segment=0, offset=0, votes=(made,)))

    @asynccontextmanager
    async def judging(self, **settings: Any) -> AsyncIterator[JudgeService]:
        config = replace(self.config, **settings)
        judge = make_judge(config)
        assert judge is not None
        service = JudgeService(config, judge, self.store, self.clock, self.metrics, holder="this one")
        running = spawn(service.run(), name="the judge")
        try:
            yield service
        finally:
            await cancel_and_wait([running])

    async def scores(self, records: list[NewRecord]) -> list[float | None]:
        """Of those that have a row; in order."""
        rows = [await self.store.judgements.of_record(record.id) for record in records]
        return [row[0].score for row in rows if row]

    async def closed(self, records: list[NewRecord]) -> list[str]:
        """Reasons of all of them, once none is open."""

        async def look() -> list[str] | None:
            rows = [await self.store.judgements.of_record(record.id) for record in records]
            said = [row[0].reason for row in rows if row]
            return [reason or "" for reason in said] if len(said) == len(records) and None not in said else None

        return await until(look)

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with JudgeServer(lambda asked: 0.75) as running:
        yield running


@pytest.fixture
async def bench(tmp_path: Path, server: JudgeServer) -> AsyncIterator[Bench]:
    clock = ManualClock()
    store = await Store.open(sqlite_with_tables(tmp_path / "store.db"), clock=clock)
    yield Bench(store, clock, server)
    await store.close()


async def test_each_answer_is_judged_once_and_counted(bench: Bench) -> None:
    records = await bench.add(30)
    async with bench.judging():
        assert await bench.closed(records) == ["because"] * 30
    assert await bench.scores(records) == [0.75] * 30
    async with bench.judging():
        (late,) = await bench.add(ago_s=5)
        await bench.closed([late])
    assert len(bench.server.asked) == 31
    assert bench.metric("ratchet_judge_scores_total") == 31
    assert bench.metric("ratchet_judge_tokens_total") == 31 * 7


async def test_only_the_drawn_are_asked_about_the_same_share_of_both_arms(bench: Bench) -> None:
    records = [*await bench.add(150), *await bench.add(150, arm=Arm.CHALLENGER, served_by=Arm.CHALLENGER, ago_s=8)]
    drawn = [record for record in records if is_drawn(record.id, 0.2)]
    async with bench.judging(sample=0.2):
        await bench.closed(drawn)
    judged = [record for record in records if await bench.store.judgements.of_record(record.id)]
    assert judged == drawn
    assert len({record.arm for record in drawn}) == 2


async def test_the_judge_hears_of_neither_arm_nor_model(bench: Bench) -> None:
    """Nothing but the conversation: records that differ in all but their texts are asked about in the same words."""
    (one,) = await bench.add(arm=Arm.CHAMPION, model_id=1)
    (other,) = await bench.add(
        arm=Arm.CHALLENGER, served_by=Arm.CHALLENGER, model_id=2, experiment_id=None, body=one.body
    )
    async with bench.judging():
        await bench.closed([one, other])
    first, second = bench.server.asked
    assert first == second
    assert first.keys() == {"model", "messages", "path"}
    assert bench.server.headers[0].keys() == bench.server.headers[1].keys()
    words = json.dumps(first).lower()
    assert not [name for name in ("champion", "challenger", "ratchet", one.id, "llama-3.1-8b") if name in words]


async def test_answers_are_judged_only_after_the_delay(bench: Bench) -> None:
    (old,), (young,) = await bench.add(ago_s=100), await bench.add(ago_s=10)
    async with bench.judging(delay_seconds=60.0):
        await bench.closed([old])
        assert not await bench.store.judgements.of_record(young.id)
        bench.clock.advance(55)
        await bench.closed([young])


async def test_an_answer_that_is_stored_late_is_found_by_the_next_sweep(bench: Bench) -> None:
    """It took long, so others that came after it were judged before it was stored."""
    (quick,) = await bench.add(ago_s=10)
    async with bench.judging():
        await bench.closed([quick])
        (slow,) = await bench.add(ago_s=300)
        bench.clock.advance(601)
        await bench.closed([slow])


async def test_the_budget_is_kept_and_what_is_too_old_is_left_out(bench: Bench) -> None:
    records = await bench.add(20)
    async with bench.judging(max_per_hour=5) as service:
        await bench.closed(records[:5])
        status = await _status(service, lambda status: status.lag_s is not None)
        assert len(bench.server.asked) == 5
        assert (status.asked_hour, status.asked_day) == (5, 5)
    bench.clock.advance(3700)
    (new,) = await bench.add()
    async with bench.judging(max_per_hour=5):
        await bench.closed([new])
    assert len(bench.server.asked) == 6, "the other fifteen are an hour old"


async def _status(service: JudgeService, right: Callable[[JudgeStatus], bool]) -> JudgeStatus:
    async def look() -> JudgeStatus | None:
        return service.status if service.status is not None and right(service.status) else None

    return await until(look)


@pytest.mark.parametrize(
    ("said", "failure"),
    [
        ("no JSON at all", "unreadable"),
        ((401, {}), "refused"),
        ((429, {}), "busy"),
        ((500, {}), "unreachable"),
    ],
)
async def test_a_judge_that_gives_no_scores_is_counted_and_not_asked_twice(
    bench: Bench, said: Said, failure: str
) -> None:
    bench.server.script = lambda asked: said
    (record,) = await bench.add()
    async with bench.judging():
        (reason,) = await bench.closed([record])
    assert reason.startswith(f"{failure}: ")
    async with bench.judging():
        (other,) = await bench.add(ago_s=5)
        await bench.closed([other])
    assert len(bench.server.asked) == 2
    assert bench.metric("ratchet_judge_failures_total", reason=failure) == 2
    assert bench.metric("ratchet_judge_scores_total") == 0


@pytest.mark.parametrize(
    "said", [r'{"score": 0.5, "reason": "\ud800 \u0000 fine"}', f'{{"score": 1{"0" * 400}}}', "\ud83d"]
)
async def test_what_no_table_can_keep_ends_nothing(bench: Bench, said: str) -> None:
    bench.server.script = lambda asked: said
    records = await bench.add(3)
    async with bench.judging(concurrency=1):
        reasons = await bench.closed(records)
    assert not [reason for reason in reasons if "lost" in reason or "\ud800" in reason]


async def test_while_the_judge_is_down_one_answer_at_a_time_is_risked(bench: Bench) -> None:
    bench.server.script = lambda asked: (503, {})
    records = await bench.add(40)
    async with bench.judging(concurrency=2) as service:
        status = await _status(service, lambda status: status.trouble is not None)
        assert status.trouble is not None
        assert "503" in status.trouble
        assert len(bench.server.asked) == 8
        await _until_asked(bench.server, 9)
        assert len(await bench.scores(records)) == 9


async def test_garbage_alone_does_not_slow_the_judge_down(bench: Bench) -> None:
    bench.server.script = lambda asked: "nonsense"
    records = await bench.add(40)
    async with bench.judging(concurrency=2):
        assert {reason.partition(":")[0] for reason in await bench.closed(records)} == {"unreadable"}


async def test_what_was_asked_when_the_process_died_is_lost_not_asked_again(bench: Bench) -> None:
    held = threading.Event()
    bench.server.script = lambda asked: held
    records = await bench.add(3)
    async with bench.judging():
        await _until_asked(bench.server, 3)
    held.set()
    bench.server.script = lambda asked: 1.0
    async with bench.judging():
        (later,) = await bench.add(ago_s=5)
        await bench.closed([*records, later])
    assert await bench.scores([*records, later]) == [None, None, None, 1.0]
    assert len(bench.server.asked) == 4
    assert bench.metric("ratchet_judge_failures_total", reason="lost") == 3


async def _until_asked(server: JudgeServer, count: int) -> None:
    async def look() -> bool:
        return len(server.asked) >= count

    await until(look)


async def test_of_two_controllers_one_judges(bench: Bench) -> None:
    lease = await bench.store.leases.acquire(LEASE, "the other", ttl_s=30)
    assert lease is not None
    (record,) = await bench.add()
    async with bench.judging() as service:
        status = await _status(service, lambda status: True)
        assert status.lag_s is None
        assert not bench.server.asked
    assert not await bench.store.judgements.of_record(record.id)
    await bench.store.leases.release(lease)
    async with bench.judging():
        await bench.closed([record])


async def test_the_standing_is_told(bench: Bench) -> None:
    bench.server.script = lambda asked: 1.0 if len(bench.server.asked) % 2 else 0.0
    records = await bench.add(60)
    async with bench.judging(concurrency=1):
        await bench.closed(records)
    for record in records:
        (row,) = await bench.store.judgements.of_record(record.id)
        await bench.vote(record, 1 if row.score else -1)
    async with bench.judging() as service:
        status = await _status(service, lambda status: True)
        assert status.standing.counts
        assert status.standing.agreement.labels == 60
        assert (status.judged, status.mean, status.tokens) == (60, 0.5, 420)
        assert bench.metric("ratchet_judge_counts") == 1
        assert bench.metric("ratchet_judge_agreement_lower_ratio") == status.standing.bound
    assert bench.registry.get_sample_value("ratchet_judge_counts") is None, "nobody judges here any more"


async def test_a_user_who_is_deleted_while_the_judge_thinks_has_no_score(bench: Bench) -> None:
    may_answer = threading.Event()

    def script(asked: Any) -> Said:
        may_answer.wait(30)
        return 1.0

    bench.server.script = script
    gone, stays = (await bench.add(user_hash=7))[0], (await bench.add(user_hash=8, ago_s=5))[0]
    async with bench.judging():
        await _until_asked(bench.server, 2)
        await bench.store.deletion.delete_user(7)
        may_answer.set()
        await bench.closed([stays])
        assert await bench.store.judgements.of_record(gone.id) == []
