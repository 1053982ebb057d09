"""A batch of a test's traffic is stored the same whichever way its statements go: straight to SQLite's driver, or
through SQLAlchemy, which is the way of PostgreSQL and of whoever writes without `Database.transact`."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from policies.estimates import Moments
from policies.past import PastMoments
from policies.records import Arm, Outcome
from policies.rows import Experiment
from policies.signals import Signal
from proxy.clock import ManualClock
from proxy.store.engine.dialect import insert_all
from proxy.store.ingest.beside import alias_columns, score_rows
from proxy.store.store import Store
from proxy.store.tables.control import LoopTransaction
from proxy.store.tables.keys import alias_hash, task_alias_hash
from proxy.store.tables.schema import PAST_TOTALS, arm_stats, feedback, metadata, tag_users, user_past, user_stats
from proxy.store.tables.values import IngestBatch, NewRecord, NewVote, RecordFlag
from tests.harness.exchanges import exchange, vote

NOW_US = 1_700_000_000_000_000
USERS = (-(2**63), -1, 0, 7, 2**63 - 1)


def record(at_us: int, rng: random.Random) -> NewRecord:
    """Of a test, of one that is not there, or of none; of few users, some of them claimed."""
    scores = {name: rng.random() for name in ("heuristic", "pointer") if rng.random() < 0.7}
    source = next(iter(scores), None)
    made = exchange(
        at_us,
        rng,
        user_hash=rng.choice((*USERS, None)),
        experiment_id=rng.choice((1, 1, 1, 2, 99, None)),
        epoch=rng.choice((1, 1, 2)),
        arm=rng.choice(list(Arm)),
        kind=rng.choice(("chat", "chat", "chat", "task")),
        status=rng.choice((200, 200, 200, 429, 502)),
        tags=rng.choice((None, {"plan": "free"}, {"plan": rng.choice("abc"), "team": "ü=1"})),
        cluster=rng.choice((None, 5, 6)),
        flags=rng.choice((RecordFlag.NONE, RecordFlag.CLAIMED, RecordFlag.FALLBACK)),
        quality=None if source is None else scores[source],
        quality_source=source,
        scores=scores,
        signals=rng.choice((None, Signal.JUDGEABLE.value)),
        prompt_key=rng.choice((None, 1, 2)),
        conversation=rng.choice((None, 3)),
    )
    return replace(made, outcome=Outcome.OK.with_status(made.status))


def ballot(of: NewRecord | None, at_us: int, rng: random.Random) -> NewVote:
    """On that record, by its id or its alias, or on one that is not there."""
    by_alias = of is not None and rng.random() < 0.3
    return vote(
        None if of is None or by_alias else of.id,
        at_us,
        rng,
        alias=of.aliases[0] if of is not None and by_alias else "nobody's" if of is None else None,
        source=rng.choice("ab"),
        feedback=rng.choice((1, 0, -1, None)),
        retracted=rng.random() < 0.1,
        quality_score=rng.choice((None, None, 0.25)),
        comment=rng.choice((None, "why\0", "")),
        correction=rng.choice((None, "so")),
        tags=rng.choice(({}, {"n": "1"})),
        whole=rng.random() < 0.1,
    )


def batches(rng: random.Random) -> Iterator[IngestBatch]:
    """Six of them; votes on earlier records, on their own and on later ones, and all that again."""
    sizes = enumerate(rng.sample((0, 0, 1, 12, 12, 12), 6))  # drawn, they might leave nothing to compare
    made = [[record(NOW_US + (10 * n + i) * 1000, rng) for i in range(size)] for n, size in sizes]
    first = next(some for some in made if some)
    plain: dict[str, Any] = {"experiment_id": 2, "epoch": 1, "user_hash": 7, "flags": RecordFlag.NONE}
    answered: dict[str, Any] = {"kind": "chat", "status": 200, "outcome": Outcome.OK}
    first[0] = replace(first[0], **plain, **answered)  # one whose past counts, whatever is drawn
    ballots = rng.sample((0, 0, 0, 5, 5, 5), 6)
    everything = [one for some in made for one in some]
    votes: list[NewVote] = []
    for n, some in enumerate(made):
        picked = [rng.choice([*everything, None]) for _ in range(ballots[n])]
        votes += (new := [ballot(of, NOW_US + n * 1_000_000 + i, rng) for i, of in enumerate(picked)])
        again = rng.sample(votes, min(len(votes), 2)) if rng.random() < 0.3 else []
        yield IngestBatch(
            writer="w",
            segment=0,
            offset=n + 1,
            after=(0, n) if n else None,
            frames=len(some),
            records=tuple(some),
            votes=(*new, *again),
        )


async def start(store: Store) -> None:
    lease = await store.leases.acquire("loop", "test", ttl_s=60)
    assert lease is not None
    terms: Sequence[dict[str, Any]] = ({"l95_s": 1.0}, {"icc": 0.3, "terms": {"ab_test_config.cuped": "true"}})
    tests = tuple(
        Experiment(id=n, champion_model_id=1, challenger_model_id=2, salt="", share=0.5, frozen=frozen)
        for n, frozen in enumerate(terms, 1)
    )
    await store.journal.transition(LoopTransaction(fence=lease.fence, experiments=tests))
    pasts = [
        {"experiment_id": 2, "user_key": user, **{name: float(n) for n, name in enumerate(PAST_TOTALS, 2)}}
        for user in USERS
    ]
    arms = [
        {"experiment_id": 2, "epoch": 1, "arm": int(arm), "requests": 0, "moments": Moments().to_bytes(),
         "past": PastMoments().to_bytes()}
        for arm in Arm
    ]  # fmt: skip
    async with store._db.write() as connection:
        await insert_all(connection, user_past, pasts)
        await insert_all(connection, arm_stats, arms)


async def stored(store: Store) -> dict[str, list[Any]]:
    """All rows of all tables."""
    async with store._db.read() as connection:
        tables = {table.name: sa.select(table) for table in metadata.sorted_tables}
        return {name: sorted(map(str, await connection.execute(query))) for name, query in tables.items()}


@pytest.mark.parametrize("seed", range(12))
async def test_a_batch_of_a_test_is_stored_the_same_straight_and_through_sqlalchemy(tmp_path: Path, seed: int) -> None:
    found, told = [], []
    for straight in (True, False):
        store = await Store.open(f"sqlite:///{tmp_path}/{straight}.db", clock=ManualClock())
        db = store._db

        async def written(work: Callable[[Any], Awaitable[Any]], db: Any = db) -> Any:
            async with db.write() as connection:
                return await work(connection)

        if not straight:
            db.transact = written  # type: ignore[method-assign]
        try:
            await start(store)
            told.append([await store.ingest.apply(batch) for batch in batches(random.Random(seed))])
            found.append(await stored(store))
            async with db.read() as connection:
                pasts = (await connection.scalars(sa.select(arm_stats.c.past))).all()
        finally:
            await store.close()
    assert told[0] == told[1]
    assert found[0] == found[1]
    assert all(found[0][table.name] for table in (user_stats, tag_users, feedback))
    assert len({past for past in pasts if past is not None}) > 1, "nobody's past was counted"


@pytest.mark.parametrize("seed", range(5))
def test_what_is_stored_beside_records_is_each_of_their_names_and_scores(seed: int) -> None:
    rng = random.Random(seed)
    made = [record(NOW_US + n, rng) for n in range(40)]
    made += [replace(made[0], aliases=("a", "b", "a" * 40), quality_source=None), replace(made[0], scores={})]
    hashed = [
        (task_alias_hash(name) if one.kind == "task" else alias_hash(name), one.id)
        for one in made
        for name in one.aliases
    ]
    columns = alias_columns(made)
    assert list(zip(columns["hash"], columns["id"], strict=True)) == hashed
    assert score_rows(made) == [
        {"record_id": one.id, "scorer": scorer, "score": score}
        for one in made
        for scorer, score in one.scores.items()
        if scorer != one.quality_source
    ]
    assert score_rows([]) == []
    assert alias_columns([]) == {"hash": [], "id": []}
