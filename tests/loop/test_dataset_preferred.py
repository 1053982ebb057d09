"""What people prefer of two answers becomes pairs, of records that may be trained on, and on one side only."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from policies.records import Sample
from policies.rows import CheckKind
from policies.selection import DataGeneratorConfig, in_holdout
from proxy.clock import ManualClock
from proxy.loop.dataset import StoreDatasetBuilder
from proxy.loop.dataset.deletion import delete_users
from proxy.loop.look.supply import usable_at_most
from proxy.loop.ports import DatasetRequest, Manifest
from proxy.store.store import Store
from proxy.store.tables.values import IngestBatch, NewRecord, RecordFlag
from tests.harness.compared_answers import answer, comparison, of_record, seed_check, seed_rows
from tests.harness.exchanges import exchange, vote
from tests.harness.tables import sqlite_with_tables

T0 = 1_700_000_000_000_000
DPO = DataGeneratorConfig(holdout_share=0.0, format_type="dpo")
OTHER = "Within 30 days, with the receipt."


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(sqlite_with_tables(tmp_path / "store.db"), clock=ManualClock(T0 / 1e6 + 3600))
    for name in ("base", "short answers"):
        await opened.models.add(name)
    yield opened
    await opened.close()


def logged(n: int, user: int | None, **changes: object) -> NewRecord:
    """A good exchange of this user, `n` seconds after T0."""
    return exchange(T0 + n * 1_000_000, random.Random(n), **{"user_hash": user, "quality": 0.9} | changes)


async def compared(store: Store, records: tuple[NewRecord, ...], other: Mapping[str, Any] | None = None) -> None:
    """The records, and a check that has compared each answer with another one."""
    await store.ingest.apply(IngestBatch(writer="w", segment=1, offset=1, records=records))
    rows = [of_record(1, record, other or answer(OTHER), outcome=0.0) for record in records]
    await seed_check(store, rows, kind=CheckKind.SHADOW)


async def dataset(store: Store, folder: Path, config: DataGeneratorConfig = DPO, run_id: str = "run-1") -> Manifest:
    request = DatasetRequest(run_id=run_id, until_s=T0 / 1e6 + 3600, config_fingerprint="")
    return await StoreDatasetBuilder(store.samples, config, folder).build(request)


def lines(manifest: Manifest) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(manifest.data_path).read_text().splitlines()]


async def test_a_preference_is_a_pair_with_the_preferred_answer_chosen(store: Store, tmp_path: Path) -> None:
    one, other, tied, silent = (logged(n, n) for n in range(4))
    await compared(store, (one, other, tied, silent))
    for record, choice in ((one, "challenger"), (other, "champion"), (tied, "tie")):
        await store.preferences.put(1, record.id, "ann", choice)  # type: ignore[arg-type]
    manifest = await dataset(store, tmp_path)
    assert one.body is not None
    assert other.body is not None
    new = [{"role": "assistant", "content": OTHER}]
    own = [[{"role": "assistant", "content": record.body.response_text}] for record in (one, other) if record.body]
    assert lines(manifest) == [
        {"prompt": [*one.body.messages], "chosen": new, "rejected": own[0]},
        {"prompt": [*other.body.messages], "chosen": own[1], "rejected": new},
    ]
    assert (manifest.preferred, manifest.liked, manifest.records) == (2, 0, 2)
    assert manifest.dropped == {"no_feedback": 2}
    assert manifest.models == {"base": 1, "short answers": 1}
    lineage = (tmp_path / "run-1/lineage.csv").read_text().splitlines()
    assert lineage[0].endswith(",vote,preferred")
    assert [line.rpartition(",")[2] for line in lineage[1:]] == ["yes", "yes"]


async def test_in_kto_it_is_two_lines_and_in_chatml_none(store: Store, tmp_path: Path) -> None:
    record = logged(1, 1)
    await compared(store, (record,))
    await store.preferences.put(1, record.id, "ann", "challenger")
    kto = await dataset(store, tmp_path, DataGeneratorConfig(holdout_share=0.0, format_type="kto"))
    found = {(line["completion"][0]["content"] == OTHER, line["label"]) for line in lines(kto)}
    assert found == {(True, True), (False, False)}
    assert kto.preferred == 2
    plain = await dataset(store, tmp_path, DataGeneratorConfig(holdout_share=0.0), "run-2")
    assert (plain.samples, plain.preferred) == (1, 0)


async def test_the_majority_decides_and_who_disagree_evenly_say_nothing(store: Store, tmp_path: Path) -> None:
    records = tuple(logged(n, n) for n in range(2))
    await compared(store, records)
    said = {0: ("challenger", "champion", "challenger"), 1: ("challenger", "champion", "tie")}
    for n, choices in said.items():
        for who, choice in zip(("ann", "bob", "cem"), choices, strict=True):
            await store.preferences.put(1, records[n].id, who, choice)  # type: ignore[arg-type]
    manifest = await dataset(store, tmp_path)
    assert [line["chosen"][0]["content"] for line in lines(manifest)] == [OTHER]


async def test_a_preference_of_who_may_not_be_trained_on_is_in_no_file(store: Store, tmp_path: Path) -> None:
    config = DataGeneratorConfig(holdout_share=0.5, format_type="dpo")
    opted_out = logged(51, 99, flags=RecordFlag.NO_TRAIN)
    records = (*(logged(n, n) for n in range(1, 41)), logged(50, None), opted_out)
    await compared(store, records)
    golden = comparison(1, "golden:1", "Saws?", answer("Yes."), answer("No."))
    await seed_rows(store, [golden])
    for item in (*(record.id for record in records), golden.item):
        await store.preferences.put(1, item, "ann", "challenger")
    await store.deletion.delete_user(7)
    manifest = await dataset(store, tmp_path, config)
    sides = {n: in_holdout(_sample(n), config.holdout_share) for n in range(1, 41)}
    trained = {str(n) for n, held in sides.items() if not held and n != 7}
    rows = [line.split(",") for line in (tmp_path / "run-1/lineage.csv").read_text().splitlines()[1:]]
    assert {row[1] for row in rows if row[1]} == trained
    assert {row[2] for row in rows} == {"train"}
    assert manifest.holdout_path is None
    assert manifest.preferred == len(rows)


def _sample(user: int) -> Sample:
    return Sample(record_id="", created_at=0.0, user=user, query="", response="")


async def test_votes_and_preferences_of_a_record_make_lines_of_their_own(store: Store, tmp_path: Path) -> None:
    record, coin = logged(1, 1, quality=0.1), random.Random(0)
    await compared(store, (record,))
    await store.ingest.apply(
        IngestBatch(
            writer="w",
            segment=1,
            offset=2,
            votes=(vote(record.id, T0, coin, feedback=-1, correction="What a person would have said."),),
        )
    )
    await store.preferences.put(1, record.id, "ann", "champion")
    manifest = await dataset(store, tmp_path)
    assert [(line["chosen"][0]["content"], line["rejected"][0]["content"]) for line in lines(manifest)] == [
        ("What a person would have said.", record.body and record.body.response_text),
        (record.body and record.body.response_text, OTHER),
    ]
    assert (manifest.preferred, manifest.authors["person"], manifest.records) == (1, 1, 1)


@pytest.mark.parametrize(
    ("other", "pairs"),
    [
        (answer("", [("find_part", {"number": 1})]), 1),
        (answer(""), 0),
        ({"text": "", "body": "{…"}, 0),
        ({"text": "Words alone.", "body": "…"}, 1),
        ({**answer("No."), "failed": "HTTP 503"}, 0),
    ],
    ids=["calls", "empty", "unreadable", "words", "failed"],
)
async def test_only_answers_that_a_trainer_can_read_are_pairs(
    store: Store, tmp_path: Path, other: Mapping[str, Any], pairs: int
) -> None:
    record = logged(1, 1)
    await compared(store, (record,), other)
    await store.preferences.put(1, record.id, "ann", "champion")
    manifest = await dataset(store, tmp_path)
    assert (manifest.samples, manifest.preferred) == (pairs, pairs)
    assert sum(manifest.dropped.values()) == 1 - pairs
    for line in lines(manifest):
        assert all(call["id"] for call in line["rejected"][0].get("tool_calls", ()))


async def test_equal_answers_are_no_pair(store: Store, tmp_path: Path) -> None:
    record = logged(1, 1)
    assert record.body is not None
    await compared(store, (record,), answer(record.body.response_text or ""))
    await store.preferences.put(1, record.id, "ann", "champion")
    assert (await dataset(store, tmp_path)).samples == 0


async def test_forgetting_a_user_takes_their_pairs_out_of_a_finished_dataset(store: Store, tmp_path: Path) -> None:
    records = tuple(logged(n, n) for n in range(3))
    await compared(store, records)
    for record in records:
        await store.preferences.put(1, record.id, "ann", "challenger")
    await dataset(store, tmp_path)
    delete_users(tmp_path / "run-1", {1}, "2026-01-01T00:00:00Z")
    manifest = json.loads((tmp_path / "run-1/manifest.json").read_text())
    assert (manifest["samples"], manifest["preferred"], manifest["liked"]) == (2, 2, 0)


async def test_preferences_count_as_what_can_be_trained_on(store: Store) -> None:
    records = tuple(logged(n, n, quality=0.1) for n in range(3))
    await compared(store, records)
    for record, choice in zip(records, ("champion", "challenger", "tie"), strict=True):
        await store.preferences.put(1, record.id, "ann", choice)  # type: ignore[arg-type]
    assert await usable_at_most(store, DPO, T0, T0 + 3_600_000_000) == 2
    assert await usable_at_most(store, DPO, T0, T0 + 1_000_000) == 1
    assert await usable_at_most(store, DataGeneratorConfig(), T0, T0 + 3_600_000_000) == 0
