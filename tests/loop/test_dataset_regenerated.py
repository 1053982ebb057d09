"""An answer that a user had made anew becomes the rejected one of a pair with the one that was kept, where chosen."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

from policies.selection import DataGeneratorConfig
from policies.signals import Signal
from proxy.loop.dataset.deletion import delete_users
from proxy.store.store import Store
from proxy.store.tables.values import IngestBatch, NewRecord, RecordFlag
from tests.harness.exchanges import exchange
from tests.loop.test_dataset_preferred import T0, dataset, lines, store

__all__ = ["store"]

PERSON = int(Signal.JUDGEABLE | Signal.ANSWER | Signal.AWAITED)
CHOSEN = DataGeneratorConfig(holdout_share=0.0, format_type="dpo", learn_from_regenerated=True)


def asked(n: int, user: int, prompt: int, said: str, **changes: object) -> NewRecord:
    """What this user asked `n` seconds after T0, and what the model said."""
    facts = {"user_hash": user, "quality": 0.9, "experiment_id": 1, "epoch": 1, "duration_us": 1_000_000}
    signals = {"signals": PERSON, "prompt_key": prompt, "aliases": ()}
    record = exchange(T0 + n * 1_000_000, random.Random(prompt), **facts | signals | changes)
    assert record.body is not None
    first = record.body.response_text
    assert first is not None
    answered = record.body.response.replace(first.encode(), said.encode())
    tail = f"{n:04x}"  # the same question and so the same random tail: an id of its own all the same
    return replace(record, id=record.id[:-4] + tail, body=replace(record.body, response=answered, response_text=said))


async def filled(store: Store, *records: NewRecord) -> None:
    await store.ingest.apply(IngestBatch(writer="w", segment=1, offset=1, records=records))


async def test_the_first_answer_is_rejected_and_the_kept_one_chosen(store: Store, tmp_path: Path) -> None:
    await filled(
        store,
        asked(0, 1, 7, "First."),
        asked(20, 1, 7, "Second."),
        asked(40, 1, 7, "Third."),
        asked(60, 2, 8, "Only."),
        asked(80, 3, 9, "Poor."),
        asked(100, 3, 9, "Poorer.", answers_key=None),
        asked(120, 3, 10, "Whatever.", answers_key=9, signals=PERSON | Signal.COMPLAINT),
    )
    manifest = await dataset(store, tmp_path, CHOSEN)
    pairs = [(line["chosen"][0]["content"], line["rejected"][0]["content"]) for line in lines(manifest)]
    assert pairs == [("Third.", "First.")], "nobody kept an answer that was complained about"
    assert (manifest.regenerated, manifest.preferred, manifest.liked) == (1, 0, 0)
    lineage = (tmp_path / "run-1/lineage.csv").read_text().splitlines()
    assert [line.rpartition(",")[2] for line in lineage[1:]] == ["regenerated"]


async def test_a_stranger_of_the_same_name_is_in_no_pair(store: Store, tmp_path: Path) -> None:
    claimed = RecordFlag.CLAIMED
    await filled(
        store,
        asked(0, 1, 7, "Strange.", flags=claimed, cluster=9),
        asked(20, 1, 7, "Stranger.", flags=claimed, cluster=9, signals=PERSON | Signal.ABANDONED),
        asked(40, 1, 7, "Mine."),
    )
    assert (await dataset(store, tmp_path, CHOSEN)).regenerated == 0


async def test_it_is_off_unless_chosen(store: Store, tmp_path: Path) -> None:
    await filled(store, asked(0, 1, 7, "First."), asked(20, 1, 7, "Second."))
    manifest = await dataset(store, tmp_path)
    assert (manifest.samples, manifest.regenerated) == (0, 0)


async def test_who_may_not_be_trained_on_is_in_no_pair(store: Store, tmp_path: Path) -> None:
    await filled(store, asked(0, 1, 7, "First.", flags=RecordFlag.NO_TRAIN), asked(20, 1, 7, "Second."))
    assert (await dataset(store, tmp_path, CHOSEN)).samples == 0


async def test_a_deleted_user_takes_the_pair_along(store: Store, tmp_path: Path) -> None:
    await filled(store, asked(0, 1, 7, "First."), asked(20, 1, 7, "Second."))
    assert (await dataset(store, tmp_path, CHOSEN)).regenerated == 1
    delete_users(tmp_path / "run-1", {1}, "2026-01-01T00:00:00Z")
    left = json.loads((tmp_path / "run-1/manifest.json").read_text())
    assert (left["samples"], left["regenerated"]) == (0, 0)
