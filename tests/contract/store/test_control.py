"""The loop's books: leases and their fences, transitions that are whole or nothing, and plain rows."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import pytest

from policies.rows import Experiment, Model, ModelState, Run
from proxy.clock import ManualClock, SystemClock
from proxy.errors import PermanentError, TemporaryError
from proxy.store.control.leases import guard
from proxy.store.engine.database import Database
from proxy.store.store import Store
from proxy.store.tables.control import CommandState, JournalState, Lease, Look, LoopTransaction


async def take(store: Store, holder: str = "host-1", ttl_s: float = 60) -> Lease:
    lease = await store.leases.acquire("loop", holder, ttl_s=ttl_s)
    assert lease is not None
    return lease


async def test_a_lease_has_one_holder_who_may_renew_it(store: Store) -> None:
    first = await take(store)
    assert await store.leases.acquire("loop", "host-2", ttl_s=60) is None
    renewed = await take(store)
    assert (first.fence, renewed.fence) == (1, 1)
    assert await store.leases.get("loop") == renewed
    assert await store.leases.get("another") is None


async def test_whoever_waits_for_a_lease_only_looks(store: Store) -> None:
    assert await store.leases.is_free("loop", "host-2", ttl_s=60)
    lease = await take(store)
    assert await store.leases.is_free("loop", "host-1", ttl_s=60)
    assert not await store.leases.is_free("loop", "host-2", ttl_s=60)
    assert not await store.leases.is_free("loop", "host-2", ttl_s=40)
    assert await store.leases.is_free("loop", "host-2", ttl_s=20), "made by a clock that has been set back since"
    await store.leases.release(lease)
    assert await store.leases.is_free("loop", "host-2", ttl_s=60)
    assert (await store.leases.get("loop")).fence == lease.fence  # type: ignore[union-attr]


@pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)
async def test_a_holder_that_stops_in_the_middle_of_a_write_locks_nobody_out(store_url: str) -> None:
    """As one does that is paused, or loses its network: its connection stays open and says nothing."""
    database = Database.connect(store_url, clock=SystemClock(), pool_size=2, busy_timeout_s=5)
    store = await Store.open(store_url, clock=SystemClock())
    lease = await take(store, ttl_s=0.01)
    with pytest.raises(TemporaryError):
        async with database.write() as connection:
            await guard(connection, "loop", lease.fence)
            taken = None
            while taken is None:
                with contextlib.suppress(TemporaryError):  # it gives up waiting for the lock before PostgreSQL ends it
                    taken = await store.leases.acquire("loop", "host-2", ttl_s=60)
            assert taken.fence == lease.fence + 1
            await guard(connection, "loop", lease.fence)
    await store.close()
    await database.close()


async def test_a_lease_given_back_or_run_out_moves_on_with_a_higher_fence(store_url: str) -> None:
    store = await Store.open(store_url, clock=SystemClock())
    await store.leases.release(await take(store))
    second = await take(store, "host-2", ttl_s=0.05)
    taken = None
    while taken is None:  # until the database's own clock has passed the end
        taken = await store.leases.acquire("loop", "host-3", ttl_s=60)
    assert (second.fence, taken.fence) == (2, 3)
    await store.leases.release(second)
    assert await store.leases.acquire("loop", "host-4", ttl_s=60) is None
    await store.close()


async def test_of_many_who_reach_for_a_lease_one_gets_it(store_url: str, clock: ManualClock) -> None:
    stores = [await Store.open(store_url, clock=clock) for _ in range(3)]
    got = await asyncio.gather(
        *(s.leases.acquire("loop", f"h{i}", ttl_s=60) for i, s in enumerate(stores) for _ in "ab")
    )
    assert len({lease.holder for lease in got if lease}) == 1
    for store in stores:
        await store.close()


async def test_a_holder_that_was_overtaken_changes_nothing(store: Store) -> None:
    old = await take(store)
    entry = await store.journal.intend("promote", fence=old.fence, who="loop", why="sure", inputs={"n": 1})
    await store.leases.release(old)
    new = await take(store, "host-2")
    change = LoopTransaction(fence=old.fence, seq=entry.seq, state={"loop": {"phase": "promoting"}}, runs=(RUN,))
    with pytest.raises(PermanentError, match=r"fenced.*host-2 holds it"):
        await store.journal.transition(change)
    with pytest.raises(PermanentError, match="fenced"):
        await store.journal.intend("x", fence=old.fence, who="loop", why="", inputs={})
    assert await store.state.all() == {}
    assert await store.runs.get("run-1") is None
    assert [e.seq for e in await store.journal.unfinished()] == [entry.seq]
    await store.journal.transition(replace(change, fence=new.fence))
    assert await store.state.get("loop") == {"phase": "promoting"}


RUN = Run(id="run-1", state="running", trigger="samples", started_us=5, manifest={"kept": 7}, trainer="command")


async def test_starts_of_trainings_are_those_of_triggers_newest_kept_oldest_first(store: Store) -> None:
    """Neither a person's, nor datasets that came to nothing."""
    lease = await take(store)
    rows = (
        *(replace(RUN, id=f"run-{at}", trigger="schedule", started_us=at) for at in (5, 7, 9)),
        replace(RUN, id="run-a", trigger="manual", started_us=6),
        replace(RUN, id="run-b", trigger="schedule", state="too_small", started_us=8),
        replace(RUN, id="run-c", trigger="schedule", state="failed", manifest=None, started_us=8),
        replace(RUN, id="run-d", trigger="sample_count", state="reject", started_us=10),
    )
    entry = await store.journal.intend("x", fence=lease.fence, who="loop", why="", inputs={})
    await store.journal.transition(LoopTransaction(fence=lease.fence, seq=entry.seq, state={"loop": {}}, runs=rows))
    assert await store.runs.starts(4, limit=10) == (5, 7, 9, 10)
    assert await store.runs.starts(4, limit=2) == (9, 10)
    assert await store.runs.starts(9, limit=10) == (10,)
    assert await store.runs.starts(10, limit=10) == ()


async def test_a_transition_writes_everything(store: Store, clock: ManualClock) -> None:
    lease = await take(store)
    model = await store.models.add("tuned", path="/models/1", detail={"gpu": 1})
    command = await store.commands.submit("promote", who="ann", why="it is better", args={"force": True})
    entry = await store.journal.intend(
        "promote", fence=lease.fence, who="ann", why="asked", inputs={"a": [1, None]}, run_id="run-1", config_id=3
    )
    experiment = Experiment(
        id=await store.experiments.next_id(),
        champion_model_id=1,
        challenger_model_id=model.id,
        salt="ab",
        share=0.1,
        started_us=9,
        frozen={"l95_s": None},
    )
    look = Look(experiment_id=experiment.id, at_us=11, assessment={"verdict": "continue"})
    await store.journal.transition(
        LoopTransaction(
            fence=lease.fence,
            seq=entry.seq,
            outcome={"routes": 4},
            state={"loop": {"phase": "testing"}, "detector": [1.5]},
            models=(replace(model, state=ModelState.CHALLENGER, url="http://[::1]:9"),),
            experiments=(experiment,),
            runs=(RUN,),
            looks=(look,),
            commands=(replace(command, state=CommandState.DONE, detail="done"),),
        )
    )
    assert await store.models.get(model.id) == replace(model, state=ModelState.CHALLENGER, url="http://[::1]:9")
    assert await store.experiments.running() == await store.experiments.get(experiment.id) == experiment
    assert await store.experiments.next_id() == experiment.id + 1
    assert await store.experiments.looks(experiment.id) == [look]
    assert await store.runs.list() == [RUN]
    assert await store.state.all() == {"loop": {"phase": "testing"}, "detector": [1.5]}
    settled = await store.commands.get(command.id)
    assert settled is not None
    assert (settled.state, settled.detail, await store.commands.pending()) == (CommandState.DONE, "done", [])
    done = await store.journal.get(entry.seq)
    assert done == replace(entry, state=JournalState.DONE, outcome={"routes": 4}, finished_us=int(clock.now() * 1e6))
    assert await store.journal.unfinished() == []


async def test_the_journal_is_read_from_either_end(store: Store, clock: ManualClock) -> None:
    lease = await take(store)
    entries = []
    for action in ("train", "deploy", "train"):
        entries.append(await store.journal.intend(action, fence=lease.fence, who="loop", why="w", inputs={}))
        clock.advance(10)
    await store.journal.transition(
        LoopTransaction(fence=lease.fence, seq=entries[1].seq, failed=True, outcome={"error": "no GPU"})
    )
    assert [e.action for e in await store.journal.recent(limit=2)] == ["train", "deploy"]
    assert [e.seq for e in await store.journal.recent(before_seq=entries[1].seq)] == [entries[0].seq]
    assert await store.journal.last("train") == entries[2]
    assert await store.journal.last("promote") is None
    between = await store.journal.latest_at(entries[1].at_us + 5)
    assert between is not None
    assert (between.seq, between.state, between.outcome) == (entries[1].seq, JournalState.FAILED, {"error": "no GPU"})
    assert await store.journal.latest_at(entries[0].at_us - 1) is None


async def test_a_model_of_a_name_is_registered_once(store: Store) -> None:
    first = await store.models.add("champion", url="http://a", credential="champion", state=ModelState.CHAMPION)
    again = await store.models.add("champion", url="http://b")
    assert again == first == await store.models.named("champion")
    other = await store.models.add("other")
    assert [m.name for m in await store.models.list()] == ["champion", "other"]
    assert await store.models.list([ModelState.REGISTERED]) == [other]
    assert await store.models.get(99) is None
    assert isinstance(other, Model)


async def test_settings_of_a_fingerprint_are_kept_once(store: Store) -> None:
    first = await store.configs.add("f00", {"loop": {"share": 0.1}})
    assert await store.configs.add("f00", {"loop": {}}) == first == await store.configs.get(first.id)
    assert await store.configs.get(99) is None


async def test_replicas_are_seen_and_forgotten(store: Store) -> None:
    await store.replicas.seen("r1", host="a", version="0.1.0", started_us=1, detail={"lag_s": 2})
    await store.replicas.seen("r1", host="a", version="0.2.0", started_us=1, detail={})
    (replica,) = await store.replicas.list()
    assert (replica.version, replica.detail) == ("0.2.0", {})
    await store.replicas.forget(replica.seen_us + 1)
    assert await store.replicas.list() == []


async def test_settings_are_found_by_their_fingerprint(store: Store) -> None:
    first = await store.configs.add("a1", {"port": 1})
    await store.configs.add("b2", {"port": 2})
    assert await store.configs.find("a1") == first
    assert await store.configs.find("c3") is None
